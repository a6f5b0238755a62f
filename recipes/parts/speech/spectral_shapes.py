"""The small shapes in a spectrogram, found whether they are a little higher or lower.

Other voices have them at other heights. So convolutions find them, each followed by the maximum of
neighbouring bands, before the recurrence reads: the CRNN of Arik et al. (2017).
"""

import keras
import tensorflow as tf
from keras import ops

LAYERS = (32, 5, False), (32, 3, True), (64, 3, False)  # filters, size, whether frames become steps


class OfNoRows:
    """A convolution of no rows, too: there oneDNN's is wrong, in TensorFlow 2.21 with AVX-512."""

    def call(self, inputs):
        if inputs.shape[0]:
            return super().call(inputs)
        rows, *sizes = tf.unstack(tf.shape(inputs))
        one = tf.zeros([1 - tf.minimum(rows, 1), *sizes], inputs.dtype)  # or none
        return super().call(tf.concat([inputs, one], 0))[:rows]


@keras.saving.register_keras_serializable("recipes")
class Conv1D(OfNoRows, keras.layers.Conv1D):
    pass


@keras.saving.register_keras_serializable("recipes")
class Conv2D(OfNoRows, keras.layers.Conv2D):
    pass


def convolved(x: tf.Tensor, mask: tf.Tensor, bands: int) -> tf.Tensor:
    """(batch, steps, frames of a step · bands) to (batch, steps, features).

    Args:
        mask: (batch, steps), which are real; what the others hold changes nothing.
    """
    stack = x.shape[-1] // bands
    steps = ops.cast(mask, x.dtype)[..., None]
    real = ops.repeat(steps, stack, axis=1)
    x = keras.layers.Reshape((-1, bands, 1))(x * steps)
    for filters, size, to_steps in LAYERS:
        x = Conv2D(filters, size, padding="same")(x)
        x = ops.relu(keras.layers.MaxPooling2D((stack if to_steps else 1, 2))(x))
        real = steps if to_steps else real
        x *= real[..., None]
        bands //= 2
    x = keras.layers.Reshape((-1, bands * filters))(x)
    return keras.layers.Dropout(0.1)(x)


def of_one_step(size: int, bands: int) -> keras.Model:
    """A model, (batch, size) to (batch, features), of the shapes over the bands of one step, whose
    frames are its channels. It looks at no other step, so what it is part of can stream."""
    frames = keras.Input((size,))
    x = keras.layers.Permute((2, 1))(keras.layers.Reshape((-1, bands))(frames))
    for filters, width, _ in LAYERS:
        x = Conv1D(filters, width, padding="same")(x)
        x = ops.relu(keras.layers.MaxPooling1D(2)(x))
    x = keras.layers.Dropout(0.1)(keras.layers.Flatten()(x))
    return keras.Model(frames, x, name="shapes")
