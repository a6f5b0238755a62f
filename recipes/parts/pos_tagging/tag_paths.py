"""A sentence's tags as one path, as a conditional random field sees them (`layers.CRF`)."""

import keras
import tensorflow as tf

import layers


def best_tags(outputs: tf.Tensor) -> tf.Tensor:
    """The numbers of the best tags, (batch, length), from what a tagger returns.

    Args:
        outputs: (batch, length, tags), a probability for each tag of each word; or
            (batch, length, tags, tags), a CRF's potentials.
    """
    if outputs.shape.rank == 4:
        return layers.crf_decode(outputs)[0]
    return tf.argmax(outputs, axis=-1, output_type="int32")


def whole_sentences(words: tf.Tensor, numbers: tf.Tensor, weights: tf.Tensor) -> tuple:
    """A batch for the loss of a CRF, which weighs no words: padding has the tag -1 instead."""
    return words, tf.where(weights > 0, numbers, -1)


class WordAccuracy(keras.metrics.Mean):
    """The share of words tagged correctly; padding is known by its weight, or its tag.

    Keras would first take each sentence's mean over its places, padding among them.
    """

    def update_state(self, y_true, y_pred, sample_weight=None):
        right = best_tags(y_pred) == tf.cast(y_true, "int32")
        weights = tf.cast(y_true >= 0 if sample_weight is None else sample_weight, self.dtype)
        super().update_state(tf.reshape(right, [-1]), tf.reshape(weights, [-1]))
