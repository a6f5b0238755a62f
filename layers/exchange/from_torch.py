"""PyTorch's weights, as `set_weights` takes them here.

    PyTorch                                      here
    weight_ih         (gates * hidden, features) kernel            (features, gates * units)
    weight_hh         (gates * hidden, hidden)   recurrent_kernel  (units, gates * units)
    bias_ih, bias_hh  (gates * hidden,) each     bias: their sum; of a GRU both, as two rows

An LSTM has its gates in the same order in both; a GRU has r, z, n there and z, r, h' here.
"""

from collections.abc import Mapping

import numpy as np

_NAMES = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
_GRU = 3  # as many gates


def weights_from_torch(state_dict: Mapping) -> list[np.ndarray]:
    """The weights of PyTorch's `nn.RNN`, `nn.LSTM` or `nn.GRU`, for the same layer here.

        layer = layers.LSTM(units)
        layer.build((None, None, features))
        layer.set_weights(layers.weights_from_torch(lstm.state_dict()))

    Args:
        state_dict: Arrays or tensors by PyTorch's names, of one layer: `weight_ih_l0` …
            and with `_reverse` those of the backward direction, if there is one.

    Returns:
        The list for `set_weights` of a `SimpleRNN`, an `LSTM` or a `GRU`; with a backward
        direction, for that of a `Bidirectional`. Made without `bias`, it is for a layer
        with `use_bias=False`.

    Raises:
        ValueError: If a name is missing, or is not one of these (as of a second layer: `_l1`);
            if the shapes are of none of the three.
    """
    directions = ["", "_reverse"] if "weight_ih_l0_reverse" in state_dict else [""]
    names = _NAMES if "bias_ih_l0" in state_dict else _NAMES[:2]
    expected = [name + direction for direction in directions for name in names]
    if set(state_dict) != set(expected):
        raise ValueError(
            f"`state_dict` has {sorted(state_dict)}, expected {expected}. Each layer of a "
            "stack (_l0, _l1, …) is converted by itself, named as if it were the only one."
        )
    arrays = [_array(state_dict[name]) for name in expected]
    size = len(names)
    return [w for i in range(0, len(arrays), size) for w in _direction(*arrays[i : i + size])]


def _direction(weight_ih, weight_hh, *biases):
    gates, rest = divmod(weight_ih.shape[0], weight_hh.shape[1])
    if rest or gates not in (1, 3, 4):
        raise ValueError(
            f"`weight_ih_l0` of shape {weight_ih.shape} and `weight_hh_l0` of shape "
            f"{weight_hh.shape} are of no RNN, GRU or LSTM: expected 1, 3 or 4 times as "
            "many rows as `weight_hh_l0` has columns."
        )

    def ordered(a):
        if gates != _GRU:
            return a
        r, z, n = np.split(a, 3)
        return np.concatenate([z, r, n])

    kernels = [ordered(w).T for w in (weight_ih, weight_hh)]
    if not biases:
        return kernels
    biases = np.stack([ordered(b) for b in biases])
    return [*kernels, biases if gates == _GRU else biases.sum(axis=0)]


def _array(value):
    for method in ("detach", "cpu"):  # of a tensor that has a gradient, or is on a GPU
        value = getattr(value, method)() if hasattr(value, method) else value
    return np.asarray(value)
