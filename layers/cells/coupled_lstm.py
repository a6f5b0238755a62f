"""LSTM with coupled input and forget gates, CIFG (Greff et al. 2017).

    i_t = σ(U_i x_t + W_i h_{t-1} + b_i)
    g_t = tanh(U_g x_t + W_g h_{t-1} + b_g)
    o_t = σ(U_o x_t + W_o h_{t-1} + b_o)
    c_t = (1 − i_t) ⊙ c_{t-1} + i_t ⊙ g_t          what comes in takes the place of the old
    h_t = o_t ⊙ tanh(c_t)

The kernels hold the gates in this order: i, g, o.
"""

import keras
from keras import ops

from layers.cells.lstm import LSTMCell
from layers.rnn import CellLayer


@keras.saving.register_keras_serializable(package="layers")
class CoupledLSTMCell(LSTMCell):
    """One step; arguments and states as in `LSTMCell`.

    With `unit_forget_bias` the input gate's bias starts at minus one, which for the
    forget gate, 1 − i, is one.
    """

    gates = 3

    def update(self, x, states, dot):
        h, c = states
        i, g, o = ops.split(x + dot(h, self.recurrent_kernel), 3, axis=-1)
        i = self.recurrent_activation(i)
        c = (1 - i) * c + i * self.activation(g)
        return self.recurrent_activation(o) * self.activation(c), c

    def initial_bias(self, shape, dtype=None):
        if not self.unit_forget_bias:
            return self.bias_initializer(shape, dtype=dtype)
        g_o = self.bias_initializer((2 * self.units,), dtype=dtype)
        return ops.concatenate([-ops.ones((self.units,), dtype=dtype), g_o])


@keras.saving.register_keras_serializable(package="layers")
class CoupledLSTM(CellLayer):
    """`RNN(CoupledLSTMCell(units, …), …)`.

    (batch, time, features) to (batch, units), with `return_sequences` to (batch, time, units).
    Arguments: those of both.
    """

    cell_class = CoupledLSTMCell
