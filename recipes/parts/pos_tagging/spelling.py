"""What the letters of a word say: its endings, its capitals, its digits."""

import keras
import tensorflow as tf

import layers
from recipes.common.cells import CELLS


class Spelling(keras.layers.Layer):
    """A vector for each word, read off its letters in both directions.

    Every different word of a batch is read once. (batch, length) strings in,
    (batch, length, 2 * units) out.
    """

    def __init__(self, letters: list[str], cell: str, units: int, longest: int = 20, **kwargs):
        super().__init__(**kwargs)
        self.size, self.longest = 2 * units, longest
        self.number = keras.layers.StringLookup(vocabulary=letters, mask_token="")
        self.embed = keras.layers.Embedding(self.number.vocabulary_size(), 32)
        self.read = layers.Bidirectional(CELLS[cell](units))

    def build(self, input_shape):
        self.embed.build((None, None))
        self.read.build((None, None, 32))
        super().build(input_shape)

    def call(self, words, training=False):
        different, places = tf.unique(tf.reshape(words, [-1]))
        letters = tf.strings.unicode_split(different, "UTF-8")[:, : self.longest]
        numbers = self.number(letters.to_tensor(""))
        vectors = self.read(self.embed(numbers), mask=numbers != 0, training=training)
        shape = tf.concat([tf.shape(words), [self.size]], 0)
        return tf.reshape(tf.gather(vectors, places), shape)

    def compute_output_spec(self, words, training=False):
        return keras.KerasTensor((*words.shape, self.size), self.compute_dtype)
