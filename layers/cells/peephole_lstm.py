"""LSTM with peepholes: gates that see the cell state (Gers & Schmidhuber 2000).

i_t = σ(U_i x_t + W_i h_{t-1} + p_i ⊙ c_{t-1} + b_i)
f_t = σ(U_f x_t + W_f h_{t-1} + p_f ⊙ c_{t-1} + b_f)
g_t = tanh(U_g x_t + W_g h_{t-1} + b_g)
c_t = f_t ⊙ c_{t-1} + i_t ⊙ g_t
o_t = σ(U_o x_t + W_o h_{t-1} + p_o ⊙ c_t + b_o)
h_t = o_t ⊙ tanh(c_t)
"""

import keras
from keras import ops

from layers.cells.lstm import LSTMCell
from layers.rnn import CellLayer


@keras.saving.register_keras_serializable(package="layers")
class PeepholeLSTMCell(LSTMCell):
    """One step; arguments and states as in `LSTMCell`.

    It has a fourth weight, `peephole` of shape (3, units): p_i, p_f, p_o.
    """

    def build(self, input_shape):
        super().build(input_shape)
        self.peephole = self.add_weight((3, self.units), "glorot_uniform", name="peephole")

    def update(self, x, states, dot):
        h, c = states
        i, f, g, o = ops.split(x + dot(h, self.recurrent_kernel), 4, axis=-1)
        i = self.recurrent_activation(i + self.peephole[0] * c)
        f = self.recurrent_activation(f + self.peephole[1] * c)
        c = f * c + i * self.activation(g)
        o = self.recurrent_activation(o + self.peephole[2] * c)
        return o * self.activation(c), c


@keras.saving.register_keras_serializable(package="layers")
class PeepholeLSTM(CellLayer):
    """`RNN(PeepholeLSTMCell(units, …), …)`.

    (batch, time, features) to (batch, units), with `return_sequences` to (batch, time, units).
    Arguments: those of both.
    """

    cell_class = PeepholeLSTMCell
