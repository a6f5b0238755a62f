"""A linear model on the n-grams of a text: what its words say, wherever they stand.

    r_g = log P(g | class) − log P(g | other classes)     as naive Bayes has it
    z   = Σ_g w_g r_g                                     over the different n-grams of a text

after Wang & Manning (2012). The ratios r are counted once, each n-gram once for each text that
has it, and once more; the weights w are learned, and start at 0. As w = STEP · kernel, Adam, whose
steps are of the learning rate's size whatever the gradients, moves w by STEP times as much.
"""

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from sklearn.preprocessing import label_binarize

LONGEST = 4  # words
MOST = 1_000_000  # weights: the n-grams that most texts have, times the outputs
STEP = 2.0
COUNTED = 10_000  # texts at a time, so that memory is bounded
BASE, PRIME = 1_000_003, 2**31 - 1  # a code is the words' numbers to this base, modulo this


class NGrams(keras.layers.Layer):
    """(batch, length) numbers of words to (batch, outputs).

    Args:
        keys: (count,), the n-grams as `codes` has them, in rising order.
        outputs: One speaks for the second of two classes; more, for a class each.
    """

    def __init__(self, keys: np.ndarray, outputs: int, **kwargs):
        super().__init__(**kwargs)
        keys, shape = keras.initializers.Constant(keys), (len(keys), outputs)
        self.keys = self.add_weight(shape[:1], keys, "int32", trainable=False, name="keys")
        small = {"dtype": "float16", "autocast": False, "trainable": False}
        self.ratios = self.add_weight(shape, "zeros", name="ratios", **small)
        self.kernel = self.add_weight(shape, "zeros", name="kernel")

    def count(self, each: list[np.ndarray], labels: list[int]) -> None:
        """Gives the n-grams their ratios in texts that have `each`, and no weights yet."""
        keys, outputs = self.keys.numpy(), self.kernel.shape[1]
        of_class = label_binarize(labels, classes=range(max(2, outputs)))  # (texts, outputs)
        times, within = np.zeros(len(keys)), np.zeros((outputs, len(keys)))
        for k in range(0, len(each), COUNTED):
            found, texts = np.concatenate(each[k : k + COUNTED]), of_class[k : k + COUNTED]
            of = np.repeat(np.arange(len(texts)), [len(x) for x in each[k : k + COUNTED]])
            place = np.minimum(np.searchsorted(keys, found), len(keys) - 1)
            counts = keys[place] == found
            place, of = place[counts], of[counts]
            times += np.bincount(place, minlength=len(keys))
            for row, is_one in zip(within, texts.T):
                row += np.bincount(place, is_one[of], len(keys))
        within, without = 1 + within, 1 + times - within
        ratios = [np.log(x / x.sum(axis=1, keepdims=True)) for x in (within, without)]
        self.ratios.assign((ratios[0] - ratios[1]).T)
        self.kernel.assign(np.zeros(self.kernel.shape))

    def call(self, numbers):
        found = tf.sort(codes(numbers), axis=-1)
        again = tf.pad(found[:, 1:] == found[:, :-1], [[0, 0], [1, 0]])
        place = tf.searchsorted(self.keys.value, tf.reshape(found, [-1]))
        place = tf.reshape(tf.minimum(place, self.keys.shape[0] - 1), tf.shape(found))
        counts = tf.where((tf.gather(self.keys.value, place) == found) & ~again)
        place = tf.gather_nd(place, counts)  # of those alone: with many outputs, each is long
        ratios = tf.cast(tf.gather(self.ratios.value, place), self.compute_dtype)
        terms = STEP * tf.gather(self.kernel.value, place) * ratios
        return tf.math.unsorted_segment_sum(terms, counts[:, 0], tf.shape(numbers)[0])

    def table(self) -> dict[str, np.ndarray]:
        """What `call` looks up: "keys" (count,), and their "weights" (count, outputs), w r."""
        weights = STEP * self.kernel.numpy() * self.ratios.numpy()
        return {"keys": self.keys.numpy(), "weights": weights}

    def compute_output_spec(self, numbers):
        return keras.KerasTensor((numbers.shape[0], self.ratios.shape[1]), self.compute_dtype)


def codes(numbers: tf.Tensor) -> tf.Tensor:
    """(batch, LONGEST · length): the n-grams that start with each word, as codes; 0 is none.

    Codes of three words or four are not all different: of a million n-grams some 500 share one
    with another, and of all that were left out one in 2,000 counts as one that is in.

    Args:
        numbers: (batch, length), of words; 0 is padding, 1 an unknown word, which is in none.
    """
    words = tf.cast(tf.where(numbers > 1, numbers, 0), tf.int64)
    found = [words]
    for n in range(1, LONGEST):
        following = tf.pad(words[:, n:], [[0, 0], [0, n]])[:, : tf.shape(words)[1]]
        both = (found[-1] > 0) & (following > 0)
        found.append(tf.where(both, (found[-1] * BASE + following) % PRIME, 0))
    return tf.cast(tf.concat(found, axis=1), tf.int32)


def most_frequent(texts: tf.data.Dataset, classes: int, **kwargs) -> NGrams:
    """The layer of these texts' n-grams, which are not counted yet.

    Args:
        texts: Batches of (batch, length) numbers.
        classes: Two have one output, which speaks for the second; more have one each.
    """
    keys, times = np.unique(np.concatenate(of_each(texts)), return_counts=True)
    outputs = 1 if classes == 2 else classes
    often = np.sort(np.argsort(-times, kind="stable")[: MOST // outputs])
    return NGrams(keys[often], outputs, **kwargs)


def of_each(texts: tf.data.Dataset) -> list[np.ndarray]:
    """The different n-grams of each text, from batches of (batch, length) numbers."""
    return [np.unique(row[row > 0]) for batch in texts for row in codes(batch).numpy()]


class Mix(keras.layers.Layer):
    """Two scores, each multiplied by a factor, added; the factors, a half at first, stand still.

    Args:
        short: Texts of fewer words get the first score alone.
    """

    def __init__(self, short: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.short = short

    def build(self, scores_shape, numbers_shape):
        half = keras.initializers.Constant(0.5)
        self.factors = self.add_weight((2,), half, trainable=False, name="factors")

    def call(self, scores, numbers):
        """Two of (batch, outputs), and (batch, length) of words, to (batch, outputs)."""
        both = self.factors[0] * scores[0] + self.factors[1] * scores[1]
        words = ops.sum(ops.cast(numbers != 0, "int32"), axis=1, keepdims=True)
        return ops.where(words < self.short, scores[0], both)
