"""The rows of a batch: cut in two halves, which run side by side on a core each, or padded.

Both ask for rows that are each on their own (`rowwise.py`).
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator

import tensorflow as tf

FEW = 16  # rows; fewer are faster in one loop
# XLA compiles anew for each shape, so a number of rows that is not known beforehand is
# padded to one of these.
SIZES = sorted([2**k for k in range(3, 31)] + [3 * 2**k for k in range(2, 30)])
_whole = contextvars.ContextVar("whole", default=False)


@contextlib.contextmanager
def left_whole() -> Iterator[None]:
    """Inside, no batch is cut: the other direction runs beside, and both cores are busy."""
    token = _whole.set(True)
    try:
        yield
    finally:
        _whole.reset(token)


def may_cut() -> bool:
    """Whether nothing else runs beside."""
    return not _whole.get()


def in_halves(execute: Callable, always: bool = False) -> Callable:
    """`execute`, a function of (weights, given), batch first, for batches that may be cut.

    Args:
        always: Whether to cut also where only a run will tell how many rows there are, instead
            of deciding it then.
    """

    def cut_or_whole(weights, given):
        rows = given.inputs.shape[0]

        def halves():
            return _halves(execute, weights, given)

        def whole():
            return execute(weights, given)

        if rows is None and not always:
            return tf.cond(tf.shape(given.inputs)[0] >= FEW, halves, whole)
        return halves() if rows is None or rows >= FEW else whole()

    return cut_or_whole


def in_equal_parts(execute: Callable, cut: bool) -> Callable:
    """`execute`, a function of (weights, given), batch first, for as few shapes as can be.

    A batch is padded: to an even number of rows if it is to be cut, and to one of a few sizes
    if their number is not known. The padding is a copy of the first row, for what a cell makes
    of zeros need not be finite.

    Args:
        cut: Whether to run it in halves.
    """

    def padded_and_cut(weights, given):
        known, rows = given.inputs.shape[0], tf.shape(given.inputs)[0]
        halved = cut and (known is None or known >= FEW)
        parts = 2 if halved else 1

        def execute_all(weights, given):
            return _halves(execute, weights, given) if halved else execute(weights, given)

        if known is None:
            size = tf.gather(SIZES, tf.searchsorted(SIZES, [-(-rows // parts)])[0]) * parts
        else:
            size = -(-known // parts) * parts
        if known is not None and size == known:
            return execute_all(weights, given)
        # Without any row there is none to copy, and no gradient.
        weights = [tf.where(rows > 0, w, tf.stop_gradient(w)) for w in weights]
        found = execute_all(weights, given.map_rows(lambda t: _filled(t, rows, size)))
        return tf.nest.map_structure(lambda t: _first(t, rows, known), found)

    return padded_and_cut


def _halves(execute, weights, given):
    rows = given.inputs.shape[0]
    if rows is not None and rows % 2:
        rows = None  # the halves are not equal: but to one function they are
    count = rows or tf.shape(given.inputs)[0]
    first = count // 2

    def part(t, upper):
        half = t[:first] if upper else t[first:]
        shape = (rows // 2 if rows else None, *t.shape[1:])
        return tf.ensure_shape(half, shape) if half.shape != shape else half

    upper, lower = (given.map_rows(functools.partial(part, upper=u)) for u in (True, False))
    results = execute(weights, upper), execute(weights, lower)
    return tf.nest.map_structure(lambda *both: tf.concat(both, axis=0), *results)


def _filled(t, rows, size):
    """`t`, of so many `rows`, with copies of its first up to `size`."""
    shape = tf.concat([[1], tf.shape(t)[1:]], 0)
    first = tf.concat([t[:1], tf.ones(shape, t.dtype)], 0)[:1]
    copies = tf.stop_gradient(tf.repeat(first, size - rows, axis=0))  # nothing comes back from them
    t = tf.concat([t, copies], 0)
    return tf.ensure_shape(t, (size if isinstance(size, int) else None, *t.shape[1:]))


def _first(t, rows, known):
    return tf.ensure_shape(t[:rows], (known, *t.shape[1:]))
