"""Gated recurrent unit (Cho et al. 2014).

    z_t  = σ(U_z x_t + W_z h_{t-1} + b_z)                      update gate
    r_t  = σ(U_r x_t + W_r h_{t-1} + b_r)                      reset gate

    h'_t = tanh(U_h x_t + W_h (r_t ⊙ h_{t-1}) + b_h)           reset_after=False (Cho, the notes)
    h'_t = tanh(U_h x_t + b_h + r_t ⊙ (W_h h_{t-1} + d_h))     reset_after=True (cuDNN, PyTorch)

    h_t  = z_t ⊙ h_{t-1} + (1 − z_t) ⊙ h'_t        update_gate="keep" (Cho, Keras, PyTorch)
    h_t  = (1 − z_t) ⊙ h_{t-1} + z_t ⊙ h'_t        update_gate="replace" (Chung 2014, the notes)

The kernels hold the gates in this order: z, r, h'. With `reset_after` the bias has two
rows, b for the input's product and d for the state's.
"""

import keras
from keras import ops

from layers.cell import Cell
from layers.rnn import CellLayer


@keras.saving.register_keras_serializable(package="layers")
class GRUCell(Cell):
    """One step of the GRU; further arguments as in `Cell`.

    State: h, (batch, units).

    Args:
        recurrent_activation: The activation of the two gates.
        reset_after: Whether the reset gate is applied after the matrix product
            (cuDNN, PyTorch, Keras) or before it (Cho 2014, the notes).
        update_gate: What an update gate of one does: "keep" the old state (Keras,
            PyTorch) or "replace" it by the new content (Chung 2014, the notes).

    Raises:
        ValueError: If `update_gate` is neither.
    """

    gates = 3

    def __init__(
        self,
        units: int,
        activation="tanh",
        recurrent_activation="sigmoid",
        use_bias: bool = True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        *,
        reset_after: bool = True,
        update_gate: str = "keep",
        **kwargs,
    ):
        super().__init__(
            units,
            activation,
            use_bias,
            kernel_initializer,
            recurrent_initializer,
            bias_initializer,
            **kwargs,
        )
        if update_gate not in ("keep", "replace"):
            raise ValueError(
                "Received an invalid value for argument `update_gate`, "
                f"expected 'keep' or 'replace', got {update_gate!r}."
            )
        self.recurrent_activation = keras.activations.get(recurrent_activation)
        self.reset_after = reset_after
        self.update_gate = update_gate

    def update(self, x, states, dot):
        (h,) = states
        x_z, x_r, x_h = ops.split(x, 3, axis=-1)
        if self.reset_after:
            inner = dot(h, self.recurrent_kernel)
            if self.use_bias:
                inner = inner + ops.unstack(self.bias)[1]
            h_z, h_r, h_h = ops.split(inner, 3, axis=-1)
        else:
            h_z, h_r = ops.split(dot(h, self.recurrent_kernel, gates=(0, 2)), 2, axis=-1)
        z = self.recurrent_activation(x_z + h_z)
        r = self.recurrent_activation(x_r + h_r)
        if self.reset_after:
            new = self.activation(x_h + r * h_h)
        else:
            new = self.activation(x_h + dot(r * h, self.recurrent_kernel, gates=(2, 3)))
        keep = z if self.update_gate == "keep" else 1 - z
        return (keep * h + (1 - keep) * new,)

    @property
    def cudnn_mode(self):
        usual = keras.activations.tanh, keras.activations.sigmoid
        activations = self.activation, self.recurrent_activation
        return (
            "gru" if self.steps_as(GRUCell) and self.reset_after and activations == usual else None
        )

    def cudnn_weights(self):
        bias = self.bias if self.use_bias else ops.zeros((2, 3 * self.units), self.compute_dtype)
        all_rows = ops.concatenate([self.kernel, self.recurrent_kernel, bias])
        z, r, new = ops.split(all_rows, 3, axis=-1)
        if self.update_gate != "keep":
            z = -z  # σ(−a) = 1 − σ(a)
        return ops.concatenate([r, z, new], axis=-1)

    @property
    def bias_shape(self):
        return (2, 3 * self.units) if self.reset_after else super().bias_shape

    @property
    def input_bias(self):
        return ops.unstack(self.bias)[0] if self.reset_after else self.bias

    def get_config(self):
        return {
            **super().get_config(),
            "recurrent_activation": keras.activations.serialize(self.recurrent_activation),
            "reset_after": self.reset_after,
            "update_gate": self.update_gate,
        }


@keras.saving.register_keras_serializable(package="layers")
class GRU(CellLayer):
    """`RNN(GRUCell(units, …), …)`, in place of `keras.layers.GRU`.

    (batch, time, features) to (batch, units), with `return_sequences` to (batch, time, units).
    Arguments: those of both.
    """

    cell_class = GRUCell
