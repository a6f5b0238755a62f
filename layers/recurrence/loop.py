"""The plain recurrence: a loop of TensorFlow's, which TensorFlow differentiates."""

from collections.abc import Callable

import tensorflow as tf

from layers.cell import Cell

BLOCK = 8  # steps that share a pass of the loop, and the product that projects their inputs


def recurrence(
    cell: Cell,
    training: bool,
    return_sequences: bool,
    *,
    unroll: bool = False,
    block: int | None = None,
) -> Callable:
    """A function that runs `cell` over inputs, time first.

    Args:
        unroll: Whether to build every step into the graph instead of a loop.
        block: How many steps to project and to run in each pass of the loop, instead of
            projecting all at once. In a graph that has no gradient to find this is faster:
            nothing is stored for all steps, and a pass of the loop has a cost of its own.

    Returns:
        A function of
            weights: the values of `cell.weights`, in the compute dtype,
            inputs: (time, batch, features),
            states: the initial states, each (batch, its size),
            mask: (time, batch) or None,
            drops: what `cell.dropout_masks` returned,
        that returns (outputs, states): the first state of every step, (time, batch,
        units), or of the last, (batch, units); and the last states.
    """

    def execute(weights, inputs, states, mask, drops):
        input_masks, state_masks = drops
        dot = cell.dot(state_masks)
        with cell.constant_weights(weights):
            if block:
                return in_blocks(inputs, states, mask, dot)
            x = cell.project(inputs, input_masks, training)
            if unroll:
                return unrolled(inputs.shape[0], x, states, mask, dot)
            return looped(x, states, mask, dot)

    def unrolled(length, x, states, mask, dot):
        outputs = []
        masks = [None] * length if mask is None else tf.unstack(mask, length)
        for x_t, mask_t in zip(tf.unstack(x, length), masks):
            states = masked_update(cell, x_t, states, mask_t, dot)
            outputs.append(states[0])
        return (tf.stack(outputs) if return_sequences else outputs[-1]), states

    def looped(x, states, mask, dot):
        length = tf.shape(x)[0]
        xs = tf.TensorArray(x.dtype, length).unstack(x)
        masks = None if mask is None else tf.TensorArray(tf.bool, length).unstack(mask)
        # The initial state leads, for without any step an array can't tell its shape.
        outputs = tf.TensorArray(x.dtype, length + 1, element_shape=states[0].shape)
        outputs = [outputs.write(0, states[0])] if return_sequences else []

        def body(t, outputs, states):
            mask_t = None if masks is None else masks.read(t)
            states = masked_update(cell, xs.read(t), states, mask_t, dot)
            return t + 1, [array.write(t + 1, states[0]) for array in outputs], states

        _, outputs, states = tf.while_loop(
            lambda t, *_: t < length,
            body,
            (0, outputs, list(states)),
            maximum_iterations=length,  # XLA needs the bound to size what the gradient keeps
        )
        return (outputs[0].stack()[1:] if return_sequences else states[0]), states

    def in_blocks(inputs, states, mask, dot):
        length = tf.shape(inputs)[0]
        whole = length - length % block
        first, states = blocks(block, 0, whole, inputs, states, mask, dot)
        if block == 1:
            return first, states
        rest, states = blocks(1, whole, length, inputs, states, mask, dot)
        return (tf.concat([first, rest], 0) if return_sequences else rest), states

    def blocks(count, first, end, inputs, states, mask, dot):
        """Steps first … end − 1, of which `count` divides the number."""
        passes, rows = (end - first) // count, tf.shape(inputs)[1]

        def steps(x, k):
            """The rows of `count` steps, one step's below another's."""
            x = tf.slice(x, [first + k * count, 0, 0], [count, rows, x.shape[2]])
            return tf.reshape(x, [count * rows, x.shape[2]])

        def masks(k):
            if mask is None:
                return [None] * count
            return tf.unstack(tf.slice(mask, [first + k * count, 0], [count, rows]), count)

        # One place more, at the front: without any pass an array can't tell its shape.
        units = states[0].shape[1]
        outputs = tf.TensorArray(inputs.dtype, passes + 1, element_shape=(count, None, units))
        none = tf.zeros((count, rows, units), inputs.dtype)
        outputs = [outputs.write(0, none)] if return_sequences else []

        def body(k, outputs, states):
            made, x = [], cell.project(steps(inputs, k))
            for x_t, mask_t in zip(tf.split(x, count), masks(k)):
                states = masked_update(cell, x_t, states, mask_t, dot)
                made.append(states[0])
            return k + 1, [array.write(k + 1, tf.stack(made)) for array in outputs], states

        _, outputs, states = tf.while_loop(
            lambda k, *_: k < passes,
            body,
            (0, outputs, list(states)),
            maximum_iterations=passes,
        )
        if not return_sequences:
            return states[0], states
        made = outputs[0].stack()[1:]
        return tf.reshape(made, [passes * count, rows, units]), states

    return execute


def masked_update(cell, x, states, mask, dot):
    """The new states; in rows that the mask leaves out, the states as they were."""
    new = list(cell.update(x, states, dot))
    if mask is not None:
        new = [by_rows(mask, n, old) for n, old in zip(new, states)]
    for n, old in zip(new, states):
        n.set_shape(old.shape)  # a loop's states keep their shapes
    return new


def by_rows(mask, a, b):
    """Rows of `a` where the mask, (batch,), is true, else of `b`; `tf.where` is slower."""
    return tf.raw_ops.Select(condition=mask, x=a, y=b)


def differentiable(execute: Callable, looped: Callable) -> Callable:
    """`execute`, with the gradient of `looped`, which computes the same and is run for it.

    Both are functions of (weights, sequences, states, mask, drops).
    """

    def run(weights, sequences, states, mask, drops):
        @tf.custom_gradient
        def forward(*arguments):
            # An eager tape would record this too, in vain, if it were not for `stop_gradient`.
            still = tf.nest.map_structure(tf.stop_gradient, arguments)
            outputs, last = execute(*still, mask, drops)

            def gradient(*dy, variables=()):  # those that a cell reads besides its weights
                with tf.GradientTape() as tape:
                    tape.watch(arguments)
                    outputs, last = looped(*arguments, mask, drops)
                sources = [tf.nest.flatten(arguments), list(variables)]
                found, of_variables = tape.gradient([outputs, *last], sources, dy)
                return (found, of_variables) if variables else found

            return (outputs, *last), gradient

        outputs, *last = forward(weights, sequences, states)
        return outputs, last

    return run
