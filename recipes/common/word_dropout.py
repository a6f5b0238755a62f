"""Words left out in training, so that a model learns what to make of a word that it never saw."""

import keras
from keras import ops


class WordDropout(keras.layers.Layer):
    """Numbers of words in; numbers from `count` on, and in training a share `rate` of the others,
    come out as 1, unknown. 0, padding, stays.
    """

    def __init__(self, count: int, rate: float, **kwargs):
        super().__init__(**kwargs)
        self.count, self.rate = count, rate
        self.seeds = keras.random.SeedGenerator()

    def call(self, numbers, training=False):
        unknown = numbers >= self.count
        if training:
            unknown |= keras.random.uniform(ops.shape(numbers), seed=self.seeds) < self.rate
        return ops.where(unknown & (numbers > 0), ops.ones_like(numbers), numbers)
