"""The rows of a batch: cut in two halves, which run side by side on a core each, or padded.

Both ask for rows that are each on their own (`rowwise.py`).
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator

import tensorflow as tf

FEW = 16  # rows; fewer are faster in one loop
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


class Sizes:
    """The numbers of rows that there are programs for, of those that a batch can be padded to.

    XLA compiles anew for each. So a batch that is smaller than others, as the last of an epoch
    is, gets their size; only a size that comes up often, or that others are far from, is worth
    a program of its own.
    """

    ALL = sorted([2**k for k in range(3, 31)] + [3 * 2**k for k in range(2, 30)])
    OFTEN = 16  # times
    FAR = 4  # times the size

    def __init__(self):
        with tf.device("CPU:0"):
            self.asked_for = tf.Variable(tf.zeros(len(self.ALL), tf.int32), trainable=False)

    def take(self, rows: tf.Tensor) -> tf.Tensor:
        """A size for so many rows."""
        least = tf.searchsorted(self.ALL, [rows])
        asked = self.asked_for.scatter_nd_add(least[:, None], tf.ones(1, tf.int32))
        sizes = tf.constant(self.ALL)
        least_size = tf.gather(sizes, least[0])
        fits = (asked >= self.OFTEN) & (sizes >= least_size) & (sizes // self.FAR < least_size)
        taken = tf.where(tf.reduce_any(fits), tf.argmax(fits, output_type=tf.int32), least[0])
        self.asked_for.scatter_nd_add(taken[None, None], [self.OFTEN])
        return tf.gather(sizes, taken)


def in_equal_parts(execute: Callable, cut: bool, sizes: Sizes) -> Callable:
    """`execute`, a function of (weights, given), batch first, for as few shapes as can be.

    A batch is padded: to an even number of rows if it is to be cut, and to one of a few sizes
    if their number is not known. The padding is copies of the last row, for what a cell makes
    of zeros need not be finite.

    Args:
        cut: Whether to run it in halves.
        sizes: Those that the number of rows of one part is brought to, if it is not known.
    """

    def padded_and_cut(weights, given):
        known, rows = given.inputs.shape[0], tf.shape(given.inputs)[0]
        halved = cut and (known is None or known >= FEW)
        parts = 2 if halved else 1

        def execute_all(weights, given):
            return _halves(execute, weights, given) if halved else execute(weights, given)

        if known is None:
            size = sizes.take(-(-rows // parts)) * parts
            size *= tf.cast(rows > 0, tf.int32)  # without any row there is none to copy
        elif known % parts:
            size = known + 1
        else:
            return execute_all(weights, given)
        source = tf.minimum(tf.range(size), rows - 1)
        found = execute_all(weights, given.map_rows(lambda t: _filled(t, source, rows)))
        return tf.nest.map_structure(lambda t: _first(t, rows, known), found)

    return padded_and_cut


def _halves(execute, weights, given):
    rows = given.inputs.shape[0]
    if rows is not None and rows % 2:
        rows = None  # the halves are not equal: but to one function they are
    count = rows or tf.shape(given.inputs)[0]
    sizes = tf.stack([count // 2, count - count // 2])

    def halves(t):
        shape = (rows // 2 if rows else None, *t.shape[1:])
        return [tf.ensure_shape(half, shape) for half in tf.split(t, sizes)]

    pairs = [(None, None) if t is None else halves(t) for t in tf.nest.flatten(given)]
    results = [execute(weights, tf.nest.pack_sequence_as(given, half)) for half in zip(*pairs)]
    return tf.nest.map_structure(lambda *both: tf.concat(both, axis=0), *results)


def _filled(t, source, rows):
    """The rows `source` of `t`, which are all its `rows` and further ones."""

    @tf.custom_gradient
    def filled(t):
        return tf.gather(t, source), lambda dy: dy[:rows]  # nothing comes back from copies

    return filled(t) if t.dtype.is_floating else tf.gather(t, source)


def _first(t, rows, known):
    return tf.ensure_shape(t[:rows], (known, *t.shape[1:]))
