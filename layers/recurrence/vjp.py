"""Vector-Jacobian products: what a backward pass is made of."""

from collections.abc import Callable

import tensorflow as tf


def vjp(function: Callable, arguments, dy):
    """The gradients of `function(*arguments)`, weighted by `dy`; None where no path leads.

    In a graph, as everything is here that has a backward pass of its own. (A tape would not
    do: TensorFlow may have stopped all of them, in forward mode for instance.)
    """
    # Copies: of tensors from outside, the gradient of a loop around would not know.
    arguments = tf.nest.map_structure(tf.identity, arguments)
    y, x = tf.nest.flatten(function(*arguments)), tf.nest.flatten(arguments)
    if not x:
        return arguments
    found = tf.gradients(y, x, tf.nest.flatten(dy))
    return tf.nest.pack_sequence_as(arguments, found)


def wide(dtype: tf.DType) -> tf.DType:
    """The type to sum up many gradients in."""
    return dtype if dtype == tf.float64 else tf.float32
