"""The plain recurrent network (Elman 1990).

    h_t = tanh(U x_t + W h_{t-1} + b)

U is `kernel` (input to hidden), W `recurrent_kernel` (hidden to hidden). The notes'
V (hidden to output) is a `keras.layers.Dense` on top.
"""

import keras
from keras import ops

from layers.cell import Cell
from layers.rnn import CellLayer


@keras.saving.register_keras_serializable(package="layers")
class SimpleRNNCell(Cell):
    """One step of the plain recurrent network; arguments as in `Cell`.

    State: h, (batch, units).
    """

    def update(self, x, states, dot):
        (h,) = states
        return (self.activation(x + dot(h, self.recurrent_kernel)),)

    @property
    def cudnn_mode(self):
        modes = {keras.activations.tanh: "rnn_tanh", keras.activations.relu: "rnn_relu"}
        return modes.get(self.activation) if self.steps_as(SimpleRNNCell) else None

    def cudnn_weights(self):
        none = ops.zeros((1, self.units), self.compute_dtype)
        bias = self.bias[None] if self.use_bias else none
        return ops.concatenate([self.kernel, self.recurrent_kernel, bias, none])


@keras.saving.register_keras_serializable(package="layers")
class SimpleRNN(CellLayer):
    """`RNN(SimpleRNNCell(units, …), …)`, in place of `keras.layers.SimpleRNN`.

    (batch, time, features) to (batch, units), with `return_sequences` to (batch, time, units).
    Arguments: those of both.
    """

    cell_class = SimpleRNNCell
