"""A linear model on the n-grams of a text: what its words say, wherever they stand.

    r_g = log P(g | class) − log P(g | other classes)     as naive Bayes has it
    z   = Σ_g w_g r_g                                     over the different n-grams of a text

after Wang & Manning (2012). The ratios r are counted once, each n-gram once for each text that
has it, and once more; the weights w are learned, and start at 0.
"""

import keras
import numpy as np
import tensorflow as tf
from sklearn.preprocessing import label_binarize

LONGEST = 3  # words
MOST = 400_000  # weights: the n-grams that most texts have, times the outputs
BITS = 21  # for the number of a word: three of them are one number of 63 bits


class NGrams(keras.layers.Layer):
    """(batch, length) numbers of words to (batch, outputs).

    Args:
        keys: (count,), the n-grams as `codes` has them, in rising order.
        ratios: (count, outputs), their r.
    """

    def __init__(self, keys: np.ndarray, ratios: np.ndarray, **kwargs):
        super().__init__(**kwargs)
        constant, options = keras.initializers.Constant, {"trainable": False}
        self.keys = self.add_weight(keys.shape, constant(keys), "int64", **options, name="keys")
        self.ratios = self.add_weight(ratios.shape, constant(ratios), **options, name="ratios")
        self.kernel = self.add_weight(ratios.shape, "zeros", name="kernel")

    def call(self, numbers):
        found = tf.sort(codes(numbers), axis=-1)
        again = tf.pad(found[:, 1:] == found[:, :-1], [[0, 0], [1, 0]])
        place = tf.searchsorted(self.keys.value, tf.reshape(found, [-1]))
        place = tf.reshape(tf.minimum(place, self.keys.shape[0] - 1), tf.shape(found))
        counts = (tf.gather(self.keys.value, place) == found) & ~again
        terms = tf.gather(self.kernel.value, place) * tf.gather(self.ratios.value, place)
        return tf.reduce_sum(tf.where(counts[..., None], terms, 0.0), axis=1)

    def compute_output_spec(self, numbers):
        return keras.KerasTensor((numbers.shape[0], self.ratios.shape[1]), self.compute_dtype)


def codes(numbers: tf.Tensor) -> tf.Tensor:
    """(batch, LONGEST · length): the n-grams that start with each word, as numbers; 0 is none.

    Args:
        numbers: (batch, length), of words; 0 is padding, 1 an unknown word, which is in none.
    """
    words = tf.cast(tf.where(numbers > 1, numbers, 0), tf.int64)
    found = [words]
    for n in range(1, LONGEST):
        following = tf.pad(words[:, n:], [[0, 0], [0, n]])[:, : tf.shape(words)[1]]
        both = (found[-1] > 0) & (following > 0)
        found.append(tf.where(both, found[-1] * 2**BITS + following, 0))
    return tf.concat(found, axis=1)


def counted(texts: tf.data.Dataset, labels: list[int], classes: int, **kwargs) -> NGrams:
    """The layer for these texts.

    Args:
        texts: Batches of (batch, length) numbers.
        labels: Of all texts.
        classes: Two have one output, which speaks for the second; more have one each.
    """
    each = [np.unique(row[row > 0]) for batch in texts for row in codes(batch).numpy()]
    sizes = [len(row) for row in each]
    keys, places, times = np.unique(np.concatenate(each), return_inverse=True, return_counts=True)
    outputs = label_binarize(labels, classes=range(classes))  # (texts, outputs)
    often = np.sort(np.argsort(-times, kind="stable")[: MOST // outputs.shape[1]])
    ratios = []
    for is_one in outputs.T:
        within = 1 + np.bincount(places, np.repeat(is_one, sizes), len(keys))[often]
        without = 2 + times[often] - within
        ratios.append(np.log(within / within.sum()) - np.log(without / without.sum()))
    return NGrams(keys[often], np.stack(ratios, axis=-1), **kwargs)


class Mix(keras.layers.Layer):
    """(1 − share) a + share b; the share is not trained."""

    def build(self, input_shape):
        half = keras.initializers.Constant(0.5)
        self.share = self.add_weight((), half, trainable=False, name="share")

    def call(self, scores):
        a, b = scores
        return (1 - self.share) * a + self.share * b
