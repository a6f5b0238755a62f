"""A choice that is made when a graph runs."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator

import tensorflow as tf

from layers import private_apis

_on_a_cpu = contextvars.ContextVar("on_a_cpu", default=False)


@contextlib.contextmanager
def for_a_cpu() -> Iterator[None]:
    """Inside, what is traced is for a CPU alone."""
    token = _on_a_cpu.set(True)
    try:
        yield
    finally:
        _on_a_cpu.reset(token)


def cond(condition: tf.Tensor, then: Callable, otherwise: Callable):
    """`tf.cond`; for a CPU, one of which a branch is made ready when it is first taken.

    Else TensorFlow puts all branches into the graph around, and makes all ready before the first
    answer, which then takes twice as long. (On a GPU, what it does with such a branch was not
    tried.)
    """
    found = tf.cond(condition, then, otherwise)
    if _on_a_cpu.get() and not tf.executing_eagerly():
        private_apis.leave_as_operation(found)
    return found
