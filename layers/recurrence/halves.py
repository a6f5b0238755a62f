"""A batch in halves, each with a loop of its own: the two run side by side, on a core each."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator

import tensorflow as tf

SPLIT = 16  # rows; fewer are faster in one loop
_whole = contextvars.ContextVar("whole", default=False)


@contextlib.contextmanager
def left_whole() -> Iterator[None]:
    """Inside, no batch is cut: the other direction runs beside, and both cores are busy."""
    token = _whole.set(True)
    try:
        yield
    finally:
        _whole.reset(token)


def in_halves(execute: Callable, always: bool = False) -> Callable:
    """`execute`, a function of (weights, sequences, …), for batches that may be cut.

    Args:
        execute: Takes and returns nested tensors, batch first, and Nones.
        always: Whether to cut also where only a run will tell how large the batch is,
            instead of deciding it then.
    """
    if _whole.get():
        return execute

    def cut_or_whole(weights, *arguments):
        rows = arguments[0].shape[0]

        def halves():
            count = rows or tf.shape(arguments[0])[0]
            sizes = [count // 2, count - count // 2]
            results = [execute(weights, *_part(arguments, sizes, k)) for k in (0, 1)]
            return tf.nest.map_structure(lambda *both: tf.concat(both, axis=0), *results)

        def whole():
            return execute(weights, *arguments)

        if rows is None and not always:
            return tf.cond(tf.shape(arguments[0])[0] >= SPLIT, halves, whole)
        return halves() if rows is None or rows >= SPLIT else whole()

    return cut_or_whole


def _part(arguments, sizes, k):
    return tf.nest.map_structure(lambda t: t if t is None else tf.split(t, sizes)[k], arguments)
