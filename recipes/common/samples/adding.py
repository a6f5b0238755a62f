"""The adding problem: the sum of two numbers marked in a long sequence.

Hochreiter & Schmidhuber 1997, in the form of Arjovsky et al. 2016: numbers from [0, 1), one
of them marked in each half.
"""

import numpy as np

FEATURES = 2


def sequences(count: int, length: int, seed: int | list[int]) -> tuple[np.ndarray, np.ndarray]:
    """`count` sequences: (count, length, 2) numbers and marks, (count, 1) sums; float32."""
    random = np.random.default_rng(seed)
    numbers = random.random((count, length), np.float32)
    marks = np.zeros_like(numbers)
    half, rows = length // 2, np.arange(count)
    marks[rows, random.integers(0, half, count)] = 1
    marks[rows, random.integers(half, length, count)] = 1
    return np.stack([numbers, marks], axis=-1), (numbers * marks).sum(axis=1, keepdims=True)


def without_memory(length: int) -> float:
    """The mean squared error of always saying 1: the sum's variance, at any length."""
    return 1 / 6
