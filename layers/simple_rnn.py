"""The plain recurrent network (Elman 1990).

    h_t = tanh(U x_t + W h_{t-1} + b)

U is `kernel` (input to hidden), W `recurrent_kernel` (hidden to hidden). The notes'
V (hidden to output) is a `keras.layers.Dense` on top.
"""

import keras

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


@keras.saving.register_keras_serializable(package="layers")
class SimpleRNN(CellLayer):
    """`RNN(SimpleRNNCell(units, …), …)`, in place of `keras.layers.SimpleRNN`."""

    cell_class = SimpleRNNCell
