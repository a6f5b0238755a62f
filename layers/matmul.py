"""The product of a step's rows and a matrix, a · W.

What XLA makes of it for a CPU is slow where the rows are few and the matrix is large. Turned,

    (Wᵀ · aᵀ)ᵀ

it takes half the time for 16 rows and 1,024 units, and a tenth more for 64 rows and 512.
"""

import contextlib
import contextvars
from collections.abc import Iterator

import tensorflow as tf

LARGE = 2**19  # numbers in a matrix: for smaller ones it does not pay,
FEW = 32  # rows: nor for more
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
    shape = tf.TensorShape(matrix.shape)
    return shape.rank == 2 and (shape.num_elements() or 0) >= LARGE


def matmul(a: tf.Tensor, kernel) -> tf.Tensor:
    """(batch, rows of `kernel`) to (batch, columns of `kernel`)."""
    true = _turned.get()
    # A function inside, that may be called elsewhere too, has another graph.
    if true is None or true.graph is not tf.compat.v1.get_default_graph():
        return tf.matmul(a, kernel)
    kernel = tf.convert_to_tensor(kernel, dtype_hint=a.dtype)
    if not (is_large(kernel) and a.dtype == kernel.dtype and a.dtype.is_floating):
        return tf.matmul(a, kernel)
    one = tf.cast(true, a.dtype)

    def with_rows_of(matrix, rows):
        """rows · matrixᵀ."""
        return tf.transpose(tf.matmul(matrix, tf.transpose(rows) / one) / one)

    @tf.custom_gradient
    def product(a, kernel):
        def gradient(dy):
            return with_rows_of(kernel, dy), tf.matmul(a, dy, transpose_a=True)

        return with_rows_of(tf.transpose(kernel), a), gradient

    return product(a, kernel)
