"""Tables with a vector for each word: its own, or the mean of its own and its n-grams'.

Bojanowski et al. 2017, arXiv 1607.04606.
"""

import keras
import numpy as np
import tensorflow as tf

LETTERS, BUCKETS = (3, 4, 5, 6), 200_000  # of n-grams: their lengths, and how many vectors


class Vectors(keras.layers.Layer):
    """A vector for each word, by its number. Its gradient is of the vectors used alone."""

    def __init__(self, count: int, dimension: int, initializer, **kwargs):
        super().__init__(**kwargs)
        self.shape, self.initializer = (count, dimension), initializer

    def build(self, input_shape):
        self.table = self.add_weight(self.shape, self.initializer, name="table")
        super().build(input_shape)

    def call(self, numbers):
        return tf.gather(self.table.value, numbers)

    def compute_output_spec(self, numbers):
        return keras.KerasTensor((*numbers.shape, self.shape[1]), self.compute_dtype)

    def of_all_words(self) -> np.ndarray:
        """(words, dimension)"""
        return self.table.numpy()

    def of_ngrams(self) -> np.ndarray | None:
        """(BUCKETS, dimension), where there are any."""


class NgramVectors(Vectors):
    """The mean of a word's own vector and its n-grams', which come first in the table."""

    def __init__(self, words: list[str], dimension: int, initializer, **kwargs):
        super().__init__(BUCKETS + len(words), dimension, initializer, **kwargs)
        own = BUCKETS + tf.range(len(words))[:, None]
        self.parts = tf.concat([own, ngrams(tf.constant(words))], axis=1)

    def call(self, numbers):
        different, places = tf.unique(tf.reshape(numbers, [-1]))
        parts = tf.gather(self.parts, different)
        vectors = tf.gather(self.table.value, parts.flat_values)
        means = tf.math.segment_mean(vectors, parts.value_rowids())
        return tf.reshape(tf.gather(means, places), (*tf.unstack(tf.shape(numbers)), self.shape[1]))

    def of_all_words(self) -> np.ndarray:
        return self(tf.range(self.parts.nrows(tf.int32))).numpy()

    def of_ngrams(self) -> np.ndarray:
        return self.table.numpy()[:BUCKETS]


def ngrams(words: tf.Tensor) -> tf.RaggedTensor:
    """For each word, the buckets that its n-grams fall into, its ends marked as < and >."""
    letters = tf.strings.unicode_split(tf.strings.join(["<", words, ">"]), "UTF-8")
    found = tf.strings.ngrams(letters, LETTERS, separator="")
    return tf.cast(tf.strings.to_hash_bucket_fast(found, BUCKETS), tf.int32)
