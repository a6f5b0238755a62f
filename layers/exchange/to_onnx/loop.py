"""A plain recurrence as a loop that is one in ONNX too.

There, the loop itself stacks what it writes at each step: the first step has to write the first
row, the last the last.
"""

from collections.abc import Callable

import tensorflow as tf

from layers.cell import Cell
from layers.recurrence.loop import masked_update


def recurrence(cell: Cell, training: bool, return_sequences: bool) -> Callable:
    """As `loop.recurrence`, for the converter of TensorFlow's graphs."""

    def execute(weights, given):
        with cell.constant_weights(weights):
            return looped(given, cell.dot(given.drops[1]))

    def looped(given, dot):
        x, states = cell.project(given.inputs, given.drops[0], training), list(given.states)
        length = tf.shape(x)[0]
        xs = tf.TensorArray(x.dtype, length).unstack(x)
        masks = None if given.mask is None else tf.TensorArray(tf.bool, length).unstack(given.mask)
        outputs = tf.TensorArray(states[0].dtype, length, element_shape=states[0].shape)
        outputs = [outputs] if return_sequences else []

        def body(t, outputs, states):
            of_step = given._replace(states=states, mask=None if masks is None else masks.read(t))
            states = masked_update(cell, xs.read(t), of_step, dot)
            return t + 1, [array.write(t, states[0]) for array in outputs], states

        _, outputs, states = tf.while_loop(
            lambda t, *_: t < length, body, (0, outputs, states), maximum_iterations=length
        )
        return (outputs[0].stack() if return_sequences else states[0]), states

    return execute
