"""Vector-Jacobian products: what a backward pass is made of."""

from collections.abc import Callable

import tensorflow as tf


def vjp(function: Callable, arguments, dy):
    """The gradients of `function(*arguments)`, weighted by `dy`; None where no path leads.

    By the graph alone: TensorFlow may have stopped all tapes, in forward mode for instance.
    """
    # Copies: of tensors from outside, the gradient of a loop around would not know.
    arguments = tf.nest.map_structure(tf.identity, arguments)
    y, x = tf.nest.flatten(function(*arguments)), tf.nest.flatten(arguments)
    if not x:
        return arguments
    found = tf.gradients(y, x, tf.nest.flatten(dy))
    return tf.nest.pack_sequence_as(arguments, found)


def vjp_on_tape(function: Callable, arguments, dy):
    """The same by a tape, so that a tape around sees a loop as it ends up.

    (What a graph's gradient adds to a loop after that tape recorded it, it would miss, and its
    second derivative be wrong without a word.)
    """
    arguments = tf.nest.map_structure(tf.identity, arguments)
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        y = function(*arguments)
    found = tape.gradient(y, arguments, dy)
    if all(d is None for d in tf.nest.flatten(found)):  # tapes are stopped here
        return vjp(function, arguments, dy)
    return found


def differentiable_by_graph(function: Callable) -> Callable:
    """`function`, of tensors to a list of them, with gradients of any order by the graph.

    The gradient is such a function again, for no tape around may record its loops
    (`vjp_on_tape` says why).
    """

    @tf.custom_gradient
    def run(*tensors):
        floating = [k for k, t in enumerate(tensors) if has_gradient(t.dtype)]

        def gradient(*dy):
            def slopes(*both):
                given, dy = both[: len(tensors)], both[len(tensors) :]

                def of_floating(*values):
                    values = dict(zip(floating, values))
                    return function(*[values.get(k, t) for k, t in enumerate(given)])

                values = [given[k] for k in floating]
                found = vjp(of_floating, values, list(dy))
                return [tf.zeros_like(v) if d is None else d for d, v in zip(found, values)]

            # Copies, for this may be traced in another graph, and the next order in a third.
            found = differentiable_by_graph(slopes)(*map(tf.identity, tensors), *dy)
            found = dict(zip(floating, tf.nest.flatten(found)))
            return [found.get(k) for k in range(len(tensors))]

        return function(*map(tf.stop_gradient, tensors)), gradient

    return run


def has_gradient(dtype: tf.DType) -> bool:
    return dtype.is_floating or dtype.is_complex


def wide(dtype: tf.DType) -> tf.DType:
    """The type to sum up many gradients in."""
    return dtype if dtype == tf.float64 or dtype.is_complex else tf.float32
