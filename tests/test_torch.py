"""The numbers of PyTorch, from PyTorch's weights."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import layers

BATCH, TIME, FEATURES, UNITS, OUT = 2, 5, 3, 4, 2
FIXTURES = Path(__file__).parent / "fixtures"
LAYERS = {"RNN": layers.SimpleRNN, "LSTM": layers.LSTM, "GRU": layers.GRU}


def assert_close(ours, expected):
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


# --- Three modules ----------------------------------------------------------------------


def lstm():
    x, h_0, c_0 = keras.Input((None, FEATURES)), keras.Input((UNITS,)), keras.Input((UNITS,))
    layer = layers.LSTM(UNITS, return_sequences=True, return_state=True)
    y, h_n, c_n = layer(x, initial_state=[h_0, c_0])
    return keras.Model([x, h_0, c_0], [keras.layers.Dense(OUT)(y), h_n, c_n])


def gru():
    x, h_0 = keras.Input((None, FEATURES)), keras.Input((UNITS,))
    layer = layers.GRU(UNITS, return_sequences=True, return_state=True)
    y, h_n = layer(x, initial_state=[h_0])
    return keras.Model([x, h_0], [keras.layers.Dense(OUT)(y), h_n])


def bidirectional():
    x = keras.Input((None, FEATURES))
    layer = layers.SimpleRNN(UNITS, return_sequences=True, return_state=True)
    y, *h_n = layers.Bidirectional(layer)(x)
    return keras.Model([x], [keras.layers.Dense(OUT)(y), *h_n])


def set_weights(model, state_dict):
    """Those of PyTorch's `recurrent` and `linear`."""
    (recurrent,) = (m for m in model.layers if isinstance(m, (layers.RNN, layers.Bidirectional)))
    name = "recurrent."
    recurrent.set_weights(
        layers.weights_from_torch(
            {key.removeprefix(name): a for key, a in state_dict.items() if key.startswith(name)}
        )
    )
    model.layers[-1].set_weights([state_dict["linear.weight"].T, state_dict["linear.bias"]])


@pytest.mark.parametrize("make", [lstm, gru, bidirectional])
def test_modules(make):
    stored = dict(np.load(FIXTURES / f"torch_{make.__name__}.npz"))
    x, *states = [a for key, a in stored.items() if key.startswith("input")]
    y, *last = [a for key, a in stored.items() if key.startswith("output")]
    model = make()
    set_weights(model, stored)
    # PyTorch's states are (directions, batch, units).
    assert_close(model([x, *(s[0] for s in states)]), [y, *(h for s in last for h in s)])


# --- Every kind of layer, with its gradients, where PyTorch is installed ----------------------


@pytest.mark.parametrize("both", [False, True], ids=["one direction", "both directions"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("kind", LAYERS)
def test_layers(kind, bias, both):
    torch = pytest.importorskip("torch", reason="compares with PyTorch as it runs")
    torch.manual_seed(0)
    theirs = getattr(torch.nn, kind)(
        FEATURES, UNITS, bias=bias, bidirectional=both, batch_first=True
    )
    x = torch.randn(BATCH, TIME, FEATURES, requires_grad=True)
    y, _ = theirs(x)
    y.sin().sum().backward()

    ours = LAYERS[kind](UNITS, use_bias=bias, return_sequences=True)
    ours = layers.Bidirectional(ours) if both else ours
    ours.build(x.shape)
    ours.set_weights(layers.weights_from_torch(theirs.state_dict()))
    ours_x = tf.constant(x.detach().numpy())
    with tf.GradientTape() as tape:
        tape.watch(ours_x)
        ours_y = ours(ours_x)
        total = tf.reduce_sum(tf.sin(ours_y))
    gradients = tape.gradient(total, [ours_x, *(w.value for w in ours.weights)])

    expected = {name: w.grad for name, w in theirs.named_parameters()}
    if kind != "GRU":  # a sum has the gradient of one of its terms
        expected = {name: g * ("bias_hh" not in name) for name, g in expected.items()}
    assert_close([ours_y], [y.detach()])
    assert_close(gradients, [x.grad, *layers.weights_from_torch(expected)])


def test_tensors_with_gradients():
    torch = pytest.importorskip("torch", reason="converts PyTorch's own tensors")
    module = torch.nn.GRU(FEATURES, UNITS)
    converted = layers.weights_from_torch(dict(module.named_parameters()))
    assert_close(converted, layers.weights_from_torch(module.state_dict()))


# --- What cannot be converted -------------------------------------------------------------


def state_dict(gates=4, layer=0):
    rows = gates * UNITS
    shapes = {"weight_ih": (rows, FEATURES), "weight_hh": (rows, UNITS)}
    shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
    return {f"{name}_l{layer}": np.zeros(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("weights", "named"),
    [
        ({**state_dict(), **state_dict(layer=1)}, "weight_ih_l1"),
        ({**state_dict(), "weight_hr_l0": np.zeros((2, UNITS))}, "weight_hr_l0"),
        ({f"lstm.{name}": w for name, w in state_dict().items()}, "lstm.weight_ih_l0"),
        ({"weight_ih_l0": np.zeros((4, 3))}, "weight_hh_l0"),
        (state_dict(gates=2), "(8, 3)"),
    ],
    ids=["two layers", "a projection", "a prefix", "one missing", "two gates"],
)
def test_errors_name_what_came(weights, named):
    with pytest.raises(ValueError) as error:
        layers.weights_from_torch(weights)
    assert named in str(error.value) and "expected" in str(error.value)
