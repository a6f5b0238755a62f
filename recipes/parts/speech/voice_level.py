"""How loud whoever speaks is, known from what was heard so far: a cell without weights.

    l_t = max(QUIET + mean of x_t over the bands, l_{t−1} − FALL)        l_0 = 0

Relative to it, x_t − l_t, a whisper and a shout are alike, and a stream needs to know nothing of
what comes. It rises with the first sound and falls slowly, so a short silence doesn't change it.
Before that it is a quiet voice's, for a louder one would hide the first words of a whisper.
"""

import keras
from keras import ops

import layers

FALL = 0.1  # a step, in standard deviations of a band
QUIET = 1.0  # so far below the mean of what was trained on


class VoiceLevelCell(layers.Cell):
    """(batch, features) in, (batch, 1) out."""

    def __init__(self, **kwargs):
        super().__init__(units=1, **kwargs)

    def build(self, input_shape):
        self.built = True

    def project(self, inputs, masks=None, training=False):
        return QUIET + ops.mean(inputs, axis=-1, keepdims=True)

    def update(self, x, states, dot):
        (level,) = states
        return (ops.maximum(x, level - FALL),)


def relative(x: keras.KerasTensor) -> keras.KerasTensor:
    """(batch, steps, features), less their level so far."""
    level = layers.RNN(VoiceLevelCell(), return_sequences=True, name="level")(x)
    return keras.layers.Subtract()([x, level])
