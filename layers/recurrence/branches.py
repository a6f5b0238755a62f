"""A choice that is made when a graph runs."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator

import tensorflow as tf

from layers import private_apis

_when_taken = contextvars.ContextVar("when_taken", default=False)


@contextlib.contextmanager
def made_ready_when_taken() -> Iterator[None]:
    """Inside, TensorFlow makes a branch of `cond` ready when it is first taken.

    Else all are put into the graph around, and made ready before the first answer, which then
    takes twice as long. But two such conditions do not run side by side, as two directions would;
    and on a GPU they were not tried.
    """
    token = _when_taken.set(True)
    try:
        yield
    finally:
        _when_taken.reset(token)


def cond(condition: tf.Tensor, then: Callable, otherwise: Callable):
    """`tf.cond`."""
    found = tf.cond(condition, then, otherwise)
    if _when_taken.get() and not tf.executing_eagerly():
        private_apis.leave_as_operation(found)
    return found
