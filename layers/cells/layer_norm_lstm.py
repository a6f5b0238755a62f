"""Layer-normalised LSTM (Ba et al. 2016, supplementary material).

    (i, f, g, o)_t = LN(U x_t; α_x) + LN(W h_{t-1}; α_h) + b
    c_t = σ(f_t) ⊙ c_{t-1} + σ(i_t) ⊙ tanh(g_t)
    h_t = σ(o_t) ⊙ tanh(LN(c_t; α_c) + β_c)

    LN(a; α) = α ⊙ (a − mean(a)) / √(var(a) + ε), over all units of all gates at once

The paper's β of the first two would only add to b.
"""

import keras
from keras import ops

from layers.cells.lstm import LSTMCell
from layers.rnn import CellLayer


@keras.saving.register_keras_serializable(package="layers")
class LayerNormLSTMCell(LSTMCell):
    """One step; further arguments and states as in `LSTMCell`.

    Its further weights: `input_gain` and `recurrent_gain` of shape (4 * units,),
    `state_gain` and `state_bias` of shape (units,).

    Args:
        epsilon: ε, added to the variance, so that nothing is divided by zero.
    """

    def __init__(self, units: int, *, epsilon: float = 1e-5, **kwargs):
        super().__init__(units, **kwargs)
        self.epsilon = epsilon

    def build(self, input_shape):
        super().build(input_shape)
        self.input_gain = self.add_weight((4 * self.units,), "ones", name="input_gain")
        self.recurrent_gain = self.add_weight((4 * self.units,), "ones", name="recurrent_gain")
        self.state_gain = self.add_weight((self.units,), "ones", name="state_gain")
        self.state_bias = self.add_weight((self.units,), "zeros", name="state_bias")

    def normalize(self, a, gain):
        wide = ops.cast(a, "float64" if a.dtype == "float64" else "float32")  # squares overflow
        centred = wide - ops.mean(wide, axis=-1, keepdims=True)
        variance = ops.mean(centred**2, axis=-1, keepdims=True)
        return gain * ops.cast(centred * ops.rsqrt(variance + self.epsilon), a.dtype)

    def project(self, inputs, masks=None, training=False):
        x = self.normalize(self.product(inputs, self.kernel, masks), self.input_gain)
        return x + self.bias if self.use_bias else x

    def update(self, x, states, dot):
        h, c = states
        z = x + self.normalize(dot(h, self.recurrent_kernel), self.recurrent_gain)
        i, f, g, o = ops.split(z, 4, axis=-1)
        i, f, o = map(self.recurrent_activation, (i, f, o))
        c = f * c + i * self.activation(g)
        return o * self.activation(self.normalize(c, self.state_gain) + self.state_bias), c

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}


@keras.saving.register_keras_serializable(package="layers")
class LayerNormLSTM(CellLayer):
    """`RNN(LayerNormLSTMCell(units, …), …)`.

    (batch, time, features) to (batch, units), with `return_sequences` to (batch, time, units).
    Arguments: those of both.
    """

    cell_class = LayerNormLSTMCell
