"""The recurrence of a cell for which TensorFlow has one operation that runs all steps.

Masks: the steps that count are moved to the front, and what came out is put back where
they were.
"""

from collections.abc import Callable

import tensorflow as tf

from layers.cell import Cell


def recurrence(cell: Cell, return_sequences: bool) -> Callable:
    """As `loop.recurrence`, for a cell with `all_steps`; alone, it has no gradient."""
    all_steps = cell.all_steps()

    def execute(weights, inputs, states, mask, _):
        if mask is not None:
            mask = mask[:, :, 0]
            in_front = tf.argsort(tf.cast(~mask, tf.int32), axis=0, stable=True)
            inputs = _at(in_front, inputs)
        with cell.constant_weights(weights):
            outputs, *others = all_steps(inputs, states)
        if mask is None:
            ends = zip(states, (outputs, *others))  # without steps, the states stay as they are
            last = [tf.concat([s[None], sequence[-1:]], 0)[-1] for s, sequence in ends]
            return (outputs if return_sequences else last[0]), last
        mask = tf.cast(mask, tf.int32)
        done, in_all = tf.cumsum(mask), tf.reduce_sum(mask, 0)  # steps that count
        after = [tf.concat([s[None], y], 0) for s, y in zip(states, (outputs, *others))]
        last = [_at(in_all, sequence) for sequence in after]
        return (_at(done, after[0]) if return_sequences else last[0]), last

    return execute


def _at(steps, x):
    """x[steps[…, b], b] for each row b of the batch."""
    rows = tf.shape(x)[1]
    return tf.gather(tf.reshape(x, (-1, x.shape[2])), steps * rows + tf.range(rows))
