"""LSTM with zoneout: units that now and then keep their old value (Krueger et al. 2017).

    c'_t, h'_t    what an LSTM would make of x_t, h_{t-1}, c_{t-1}
    c_t = d_c ⊙ c_{t-1} + (1 − d_c) ⊙ c'_t
    h_t = d_h ⊙ h_{t-1} + (1 − d_h) ⊙ h'_t

In training every unit of d is one with the given probability, anew at every step; else it
is that probability, its mean.
"""

import keras
from keras import ops

from layers.cells.lstm import LSTMCell
from layers.rnn import CellLayer


@keras.saving.register_keras_serializable(package="layers")
class ZoneoutLSTMCell(LSTMCell):
    """One step; further arguments and states as in `LSTMCell`.

    Args:
        zoneout_c, zoneout_h: Probabilities that a unit of c, of h, keeps its value.

    Raises:
        ValueError: If one of them is not in [0, 1].
    """

    def __init__(self, units: int, *, zoneout_c: float = 0.5, zoneout_h: float = 0.05, **kwargs):
        super().__init__(units, **kwargs)
        for name, rate in (("zoneout_c", zoneout_c), ("zoneout_h", zoneout_h)):
            if not 0 <= rate <= 1:
                raise ValueError(
                    f"Received an invalid value for argument `{name}`, "
                    f"expected a probability in [0, 1], got {rate}."
                )
        self.zoneout_c, self.zoneout_h = zoneout_c, zoneout_h

    def project(self, inputs, masks=None, training=False):
        x = super().project(inputs, masks, training)
        shape = (*ops.shape(x)[:-1], self.units)

        def keep(rate):
            if not training:
                return ops.full(shape, rate, dtype=x.dtype)
            return ops.cast(keras.random.uniform(shape, seed=self.seed_generator) < rate, x.dtype)

        return ops.concatenate([x, keep(self.zoneout_h), keep(self.zoneout_c)], axis=-1)

    def update(self, x, states, dot):
        n = self.units
        keep = x[:, 4 * n : 5 * n], x[:, 5 * n :]
        new = super().update(x[:, : 4 * n], states, dot)
        return [d * old + (1 - d) * s for d, old, s in zip(keep, states, new)]

    def get_config(self):
        rates = {"zoneout_c": self.zoneout_c, "zoneout_h": self.zoneout_h}
        return {**super().get_config(), **rates}


@keras.saving.register_keras_serializable(package="layers")
class ZoneoutLSTM(CellLayer):
    """`RNN(ZoneoutLSTMCell(units, …), …)`.

    (batch, time, features) to (batch, units), with `return_sequences` to (batch, time, units).
    Arguments: those of both.
    """

    cell_class = ZoneoutLSTMCell
