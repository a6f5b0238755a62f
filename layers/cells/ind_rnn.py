"""Independently recurrent network: each unit sees of the past only itself (Li et al. 2018).

h_t = relu(U x_t + u ⊙ h_{t-1} + b)
"""

import keras

from layers.cell import Cell
from layers.rnn import CellLayer


@keras.saving.register_keras_serializable(package="layers")
class IndRNNCell(Cell):
    """One step; arguments and state as in `Cell`, other defaults.

    `recurrent_kernel` is u, of shape (units,). Over T steps a gradient grows at most γ-fold
    while |u| ≤ γ^(1/T); `recurrent_constraint` can see to that.

    Raises:
        ValueError: If `recurrent_dropout` is given: there is no matrix product to drop from.
    """

    def __init__(self, units: int, activation="relu", **kwargs):
        kwargs.setdefault("recurrent_initializer", keras.initializers.RandomUniform(0.0, 1.0))
        super().__init__(units, activation, **kwargs)
        if self.recurrent_dropout:
            raise ValueError(
                "Received an invalid value for argument `recurrent_dropout`, expected 0 (an "
                f"IndRNN has no recurrent matrix product), got {self.recurrent_dropout}."
            )

    @property
    def recurrent_shape(self):
        return (self.units,)

    def update(self, x, states, dot):
        (h,) = states
        return (self.activation(x + self.recurrent_kernel * h),)


@keras.saving.register_keras_serializable(package="layers")
class IndRNN(CellLayer):
    """`RNN(IndRNNCell(units, …), …)`.

    (batch, time, features) to (batch, units), with `return_sequences` to (batch, time, units).
    Arguments: those of both.
    """

    cell_class = IndRNNCell
