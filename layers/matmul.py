"""The product of a step's rows and a matrix, a · W.

What XLA makes of it for a CPU is slow where the rows are few and the matrix is large. Turned,

    (Wᵀ · aᵀ)ᵀ

it takes half the time for 16 rows and 1,024 units, and no longer for 64 rows and 512.
"""

import contextlib
import contextvars
import math
from collections.abc import Iterator

import tensorflow as tf

LARGE = 2**19  # numbers in a matrix: for smaller ones it does not pay
_turned = contextvars.ContextVar("turned", default=None)


@contextlib.contextmanager
def turned(true: tf.Tensor) -> Iterator[None]:
    """Inside, products with large matrices are turned, and their gradients.

    Args:
        true: What XLA can't know to be so: if it did, it would turn them back.
    """
    token = _turned.set(true)
    try:
        yield
    finally:
        _turned.reset(token)


def is_large(matrix) -> bool:
    return len(matrix.shape) == 2 and math.prod(matrix.shape) >= LARGE


def matmul(a: tf.Tensor, kernel) -> tf.Tensor:
    """(batch, rows of `kernel`) to (batch, columns of `kernel`)."""
    true = _turned.get()
    if true is None or not is_large(kernel):
        return tf.matmul(a, kernel)
    one = tf.cast(true, a.dtype)

    def of_columns(matrix, rows):
        return tf.transpose(tf.matmul(matrix, tf.transpose(rows) / one) / one)

    @tf.custom_gradient
    def product(a, kernel):
        def gradient(dy):
            return of_columns(kernel, dy), tf.matmul(a, dy, transpose_a=True)

        return of_columns(tf.transpose(kernel), a), gradient

    return product(a, tf.convert_to_tensor(kernel))
