"""The recurrence of a cell for which TensorFlow has one operation that runs all steps.

Masks: the steps that count are moved to the front, and what came out is put back where
they were.
"""

from collections.abc import Callable

import tensorflow as tf

from layers.cell import Cell

FEW = 8  # rows; the matrix products of more are faster one by one


def recurrence(cell: Cell, return_sequences: bool) -> Callable:
    """As `loop.recurrence`, for a cell with `all_steps`; alone, it has no gradient."""
    all_steps = cell.all_steps()

    def execute(weights, given):
        inputs, states, mask = given.inputs, given.states, given.mask
        if mask is not None:
            inputs, done, in_all = in_front(inputs, mask)
        with cell.constant_weights(weights):
            sequences = all_steps(inputs, states)
        if mask is None:  # without steps, the states stay as they are
            last = [tf.concat([s[None], y[-1:]], 0)[-1] for s, y in zip(states, sequences)]
            return (sequences[0] if return_sequences else last[0]), last
        after = [tf.concat([s[None], y], 0) for s, y in zip(states, sequences)]
        last = [at_steps(in_all, sequence) for sequence in after]
        return (at_steps(done, after[0]) if return_sequences else last[0]), last

    return execute


def for_few_rows(fused: Callable, looped: Callable) -> Callable:
    """`fused` where it is the faster: where a batch has fewer than `FEW` rows.

    All are functions of (weights, given), batch first.
    """

    def execute(weights, given):
        rows = tf.shape(given.inputs)[0]
        return tf.cond(rows < FEW, lambda: fused(weights, given), lambda: looped(weights, given))

    return execute


def in_front(inputs: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Moves the steps that count to the front.

    Args:
        inputs: (time, batch, features).
        mask: (time, batch) booleans.

    Returns:
        The inputs so; how many steps count up to each, (time, batch), and in all, (batch,).
    """
    mask = tf.cast(mask, tf.int32)
    order = tf.argsort(1 - mask, axis=0, stable=True)
    return at_steps(order, inputs), tf.cumsum(mask), tf.reduce_sum(mask, 0)


def at_steps(steps: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """x[steps[…, b], b] for each row b of the batch."""
    rows = tf.shape(x)[1]
    return tf.gather(tf.reshape(x, (-1, x.shape[2])), steps * rows + tf.range(rows))
