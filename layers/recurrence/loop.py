"""The plain recurrence: a loop of TensorFlow's, which TensorFlow differentiates."""

import functools
from collections.abc import Callable, Sequence

import tensorflow as tf

from layers import private_apis
from layers.cell import Cell
from layers.recurrence import gradients
from layers.recurrence.given import Given
from layers.recurrence.vjp import vjp_on_tape

BLOCK = 4  # steps that share a pass of the loop, and the product that projects their inputs


def recurrence(
    cell: Cell,
    training: bool,
    return_sequences: bool,
    *,
    unroll: bool = False,
    block: int | None = None,
    project: bool = True,
    assigned: Sequence[int] = (),
) -> Callable:
    """A function that runs `cell` over inputs, time first.

    Args:
        unroll: Whether to build every step into the graph instead of a loop.
        block: How many steps to project and to run in each pass of the loop, instead of
            projecting all at once. The last may run more than once: so only for a step that
            does not act (step.py). In a graph that has no gradient to find this is faster:
            nothing is stored for all steps, and a pass of the loop has a cost of its own. XLA
            takes 1.
        project: Whether to; if not, the inputs are what `project` made of them.
        assigned: The places of the weights that a step assigns.

    Returns:
        A function of
            weights: the values of `cell.weights`, in the compute dtype,
            given: what to run over, inputs and mask time first,
        that returns (outputs, states): the first state of every step, (time, batch,
        units), or of the last, (batch, units); and the last states.
    """

    called = private_apis.call_values(training)

    def execute(weights, given):
        input_masks, state_masks = given.drops
        dot = cell.dot(state_masks)
        with private_apis.called_with(called), cell.constant_weights(weights, but=assigned):
            if block and block > 1:
                return in_blocks(given, dot)
            x = given.inputs
            if project and not block:
                x = cell.project(x, input_masks, training)
            if unroll:
                return unrolled(x, given, dot)
            return looped(x, given, dot)

    def unrolled(x, given, dot):
        outputs, length = [], x.shape[0]
        masks = [None] * length if given.mask is None else tf.unstack(given.mask, length)
        for x_t, mask in zip(tf.unstack(x, length), masks):
            given = given._replace(mask=mask)
            given = given._replace(states=masked_update(cell, x_t, given, dot))
            outputs.append(given.states[0])
        last = list(given.states)
        if not return_sequences:
            return last[0], last
        none = tf.zeros((0, *tf.unstack(tf.shape(last[0]))), last[0].dtype)
        return (tf.stack(outputs) if outputs else none), last

    def looped(x, given, dot):
        states, length = list(given.states), tf.shape(x)[0]
        xs = tf.TensorArray(x.dtype, length).unstack(x)
        masks = None if given.mask is None else tf.TensorArray(tf.bool, length).unstack(given.mask)
        # The initial state leads, for without any step an array can't tell its shape.
        outputs = tf.TensorArray(states[0].dtype, length + 1, element_shape=states[0].shape)
        outputs = [outputs.write(0, states[0])] if return_sequences else []

        def body(t, outputs, states):
            of_step = given._replace(states=states, mask=None if masks is None else masks.read(t))
            x_t = xs.read(t)
            if project and block:
                x_t = cell.project(x_t, given.drops[0], training)
            states = masked_update(cell, x_t, of_step, dot)
            return t + 1, [array.write(t + 1, states[0]) for array in outputs], states

        _, outputs, states = tf.while_loop(
            lambda t, *_: t < length,
            body,
            (0, outputs, states),
            maximum_iterations=length,  # XLA needs the bound to size what the gradient keeps
        )
        return (outputs[0].stack()[1:] if return_sequences else states[0]), states

    def in_blocks(given, dot):
        """Blocks of steps: one loop for any length is sooner loaded than a second for what is left.
        Past the end it takes the last step once more, from the same states: from others a step
        could fail, by looking up what is not there."""
        states, inputs, mask = list(given.states), given.inputs, given.mask
        known, features = inputs.shape[0], inputs.shape[2]
        length, rows, _ = tf.unstack(tf.shape(inputs))
        passes, fits = -(-length // block), known is not None and known % block == 0
        if not fits:
            inputs = tf.concat([inputs, *[inputs[-1:]] * (block - 1)], 0)
            mask = None if mask is None else tf.concat([mask, *[mask[-1:]] * (block - 1)], 0)
        inputs = tf.reshape(inputs, [tf.shape(inputs)[0] * rows, features])  # a block is a slice
        size = tf.stack([block * rows, features])

        drops = given.drops[0]
        input_masks = drops and [tf.tile(m, [block, 1]) for m in drops]

        def masks(step):
            if mask is None:
                return [None] * block
            return tf.unstack(tf.slice(mask, [step, 0], [block, rows]), block)

        # One place more, at the front: without any pass an array can't tell its shape.
        units, dtype = states[0].shape[1], states[0].dtype
        outputs = tf.TensorArray(dtype, passes + 1, element_shape=(block, None, units))
        none = tf.zeros((block, rows, units), dtype)
        outputs = [outputs.write(0, none)] if return_sequences else []

        def body(k, outputs, states):
            made, step = [], k * block
            before_the_end = tf.unstack(step + tf.range(block) < length)
            x = tf.slice(inputs, [step * rows, 0], size)
            x.set_shape((None, features))
            if project:
                x = cell.project(x, input_masks, training)
            new = states
            for i, (x_t, mask_t) in enumerate(zip(tf.split(x, block), masks(step))):
                if i == 0 or fits:
                    states = new
                else:
                    states = [select(before_the_end[i], n, s) for n, s in zip(new, states)]
                of_step = given._replace(states=states, mask=mask_t)
                new = masked_update(cell, x_t, of_step, dot)
                made.append(new[0])
            return k + 1, [array.write(k + 1, tf.stack(made)) for array in outputs], new

        _, outputs, states = tf.while_loop(lambda k, *_: k < passes, body, (0, outputs, states))
        if not return_sequences:
            return states[0], states
        made = tf.reshape(outputs[0].stack(), [(passes + 1) * block, rows, units])
        return made[block : block + length], states

    return execute


def masked_update(cell: Cell, x: tf.Tensor, given: Given, dot: Callable) -> list[tf.Tensor]:
    """The new states; in rows that the mask leaves out, the states as they were."""
    states, mask = given.states, given.mask
    new = cell.new_states(x, states, dot, given.constants)
    if mask is not None:
        new = [select(mask, n, old) for n, old in zip(new, states)]
    for n, old in zip(new, states):
        n.set_shape(old.shape)  # a loop's states keep their shapes
    return new


def select(condition: tf.Tensor, a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """`a` or `b`, or rows of theirs by a mask, (batch,). `tf.where` is slower."""
    return tf.raw_ops.Select(condition=condition, x=a, y=b)


def differentiable(execute: Callable, looped: Callable) -> Callable:
    """`execute`, with the gradient of `looped`, which computes the same and is run for it.

    Both are functions of (weights, given).
    """
    if not gradients.wanted():
        return lambda *given: tf.nest.map_structure(gradients.refused, execute(*given))

    def run(weights, given):
        def flat(recurrence, weights, *differentiable):
            outputs, last = recurrence(weights, given.replaced(*differentiable))
            return (outputs, *last)

        @tf.custom_gradient
        def forward(*arguments):
            # An eager tape would record this too, in vain, if it were not for `stop_gradient`.
            still = tf.nest.map_structure(tf.stop_gradient, arguments)

            def gradient(*dy):
                slopes = vjp_on_tape(functools.partial(flat, looped), arguments, dy)
                return tf.nest.flatten(slopes)

            return flat(execute, *still), gradient

        outputs, *last = forward(weights, *given.differentiable)
        return outputs, last

    return run
