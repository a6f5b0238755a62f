"""Batches of sequences of like length, so that little of them is padding."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf


def by_length(
    data: tf.data.Dataset, length: Callable, lengths: list[int], boundaries: list[int], batch: int
) -> tf.data.Dataset:
    """Batches of `data`, each from between two `boundaries`, padded to its longest.

    Args:
        length: Of an element's components, its length.
        lengths: The same for all elements, by which the number of batches is known.
    """
    buckets = np.bincount(np.digitize(lengths, boundaries))
    count = int(np.sum(np.ceil(buckets / batch)))
    sizes = [batch] * (len(boundaries) + 1)
    data = data.bucket_by_sequence_length(length, boundaries, sizes)
    return data.apply(tf.data.experimental.assert_cardinality(count)).prefetch(tf.data.AUTOTUNE)
