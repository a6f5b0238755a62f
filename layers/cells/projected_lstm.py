"""LSTM with a recurrent projection (Sak et al. 2014; without its peepholes, as PyTorch's).

i_t, f_t, g_t, o_t    as in the LSTM, from x_t and r_{t-1}
c_t = f_t ⊙ c_{t-1} + i_t ⊙ g_t
r_t = W_r (o_t ⊙ tanh(c_t))                    output, smaller than the cell state
"""

import keras

from layers.cell import anew, positive_integer
from layers.cells.lstm import LSTMCell
from layers.rnn import CellLayer


@keras.saving.register_keras_serializable(package="layers")
class ProjectedLSTMCell(LSTMCell):
    """One step; further arguments as in `LSTMCell`.

    States: r, (batch, projection), which is the output, and c, (batch, units). It has a
    fourth weight, `projection_kernel` of shape (units, projection).

    Args:
        projection: Positive integer, the size of the output.

    Raises:
        ValueError: If `projection` is not a positive integer.
    """

    def __init__(self, units: int, projection: int, **kwargs):
        super().__init__(units, **kwargs)
        self.projection = positive_integer("projection", projection)
        self.state_size = [self.projection, self.units]

    def build(self, input_shape):
        super().build(input_shape)
        self.projection_kernel = self.add_weight(
            (self.units, self.projection),
            anew(self.kernel_initializer),
            name="projection_kernel",
        )

    def update(self, x, states, dot):
        h, c = super().update(x, states, dot)
        return dot(h, self.projection_kernel), c

    def get_config(self):
        return {**super().get_config(), "projection": self.projection}


@keras.saving.register_keras_serializable(package="layers")
class ProjectedLSTM(CellLayer):
    """`RNN(ProjectedLSTMCell(units, projection, …), …)`.

    (batch, time, features) to (batch, units), with `return_sequences` to (batch, time, units).
    Arguments: those of both.
    """

    cell_class = ProjectedLSTMCell
