"""A sentence's tags as one path, as a conditional random field sees them (`layers.CRF`)."""

import keras
import tensorflow as tf

import layers


def best_tags(outputs: tf.Tensor) -> tf.Tensor:
    """The best tags' numbers, (batch, length), by what a tagger returns.

    Args:
        outputs: (batch, length, tags), a probability for each; or (batch, length, tags, tags),
            the potentials of a CRF.
    """
    if outputs.shape.rank == 4:
        return layers.crf_decode(outputs)[0]
    return tf.argmax(outputs, axis=-1, output_type="int32")


def whole_sentences(words: tf.Tensor, numbers: tf.Tensor, weights: tf.Tensor) -> tuple:
    """A batch for a loss of sentences: where words have no weight, they have the tag -1 here."""
    return words, tf.where(weights > 0, numbers, -1)


class PathAccuracy(keras.metrics.Mean):
    """The share of words that the best paths tag correctly, over `whole_sentences`."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        right = best_tags(y_pred) == tf.cast(y_true, "int32")
        super().update_state(right, tf.cast(y_true >= 0, self.dtype))
