"""Long short-term memory (Hochreiter & Schmidhuber 1997, forget gate of Gers et al. 2000).

    i_t = σ(U_i x_t + W_i h_{t-1} + b_i)          input gate
    f_t = σ(U_f x_t + W_f h_{t-1} + b_f)          forget gate
    g_t = tanh(U_g x_t + W_g h_{t-1} + b_g)       new content
    o_t = σ(U_o x_t + W_o h_{t-1} + b_o)          output gate
    c_t = f_t ⊙ c_{t-1} + i_t ⊙ g_t               cell state
    h_t = o_t ⊙ tanh(c_t)

The kernels hold the gates in this order: i, f, g, o.
"""

import keras
import tensorflow as tf
from keras import ops

from layers.cell import Cell
from layers.rnn import CellLayer


@keras.saving.register_keras_serializable(package="layers")
class LSTMCell(Cell):
    """One step of the LSTM; further arguments as in `Cell`.

    States: h and c, each (batch, units).

    Args:
        recurrent_activation: The activation of the three gates.
        unit_forget_bias: Whether the forget gate's bias starts at one, so that at
            first the cell remembers (Jozefowicz et al. 2015).
    """

    gates = 4

    def __init__(
        self,
        units: int,
        activation="tanh",
        recurrent_activation="sigmoid",
        use_bias: bool = True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        unit_forget_bias: bool = True,
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
        self.recurrent_activation = keras.activations.get(recurrent_activation)
        self.unit_forget_bias = unit_forget_bias
        self.state_size = [self.units, self.units]

    def update(self, x, states, dot):
        h, c = states
        i, f, g, o = ops.split(x + dot(h, self.recurrent_kernel), 4, axis=-1)
        i, f, o = map(self.recurrent_activation, (i, f, o))
        c = f * c + i * self.activation(g)
        return o * self.activation(c), c

    def all_steps(self):
        if not self.cudnn_mode or self.compute_dtype != "float32":
            return None

        def all_steps(inputs, states):
            bias = self.bias if self.use_bias else ops.zeros(4 * self.units)
            unused = tf.zeros(self.units)
            results = tf.raw_ops.BlockLSTMV2(
                seq_len_max=tf.shape(inputs, tf.int64)[0],
                x=inputs,
                h_prev=states[0],
                cs_prev=states[1],
                w=ops.concatenate([self.kernel, self.recurrent_kernel]),
                b=ops.convert_to_tensor(bias),
                wci=unused,  # the peepholes
                wcf=unused,
                wco=unused,
                cell_clip=0,  # that is, none
            )
            return results.h, results.cs

        return all_steps

    @property
    def cudnn_mode(self):
        usual = keras.activations.tanh, keras.activations.sigmoid
        activations = self.activation, self.recurrent_activation
        return "lstm" if self.steps_as(LSTMCell) and activations == usual else None

    def cudnn_weights(self):
        none = ops.zeros((1, 4 * self.units), self.compute_dtype)
        bias = self.bias[None] if self.use_bias else none
        return ops.concatenate([self.kernel, self.recurrent_kernel, bias, none])  # gates as here

    def initial_bias(self, shape, dtype=None):
        if not self.unit_forget_bias:
            return super().initial_bias(shape, dtype)
        i, g_o = (self.bias_initializer((n * self.units,), dtype=dtype) for n in (1, 2))
        return ops.concatenate([i, ops.ones((self.units,), dtype=dtype), g_o])

    def get_config(self):
        return {
            **super().get_config(),
            "recurrent_activation": keras.activations.serialize(self.recurrent_activation),
            "unit_forget_bias": self.unit_forget_bias,
        }


@keras.saving.register_keras_serializable(package="layers")
class LSTM(CellLayer):
    """`RNN(LSTMCell(units, …), …)`, in place of `keras.layers.LSTM`.

    (batch, time, features) to (batch, units), with `return_sequences` to (batch, time, units).
    Arguments: those of both.
    """

    cell_class = LSTMCell
