"""Vector-Jacobian products: what a backward pass is made of."""

from collections.abc import Callable

import tensorflow as tf


def vjp(function: Callable, arguments, dy):
    """The gradients of `function(*arguments)`, weighted by `dy`; None where no path leads."""
    # Copies: of tensors from outside, the gradient of a loop around would not know.
    arguments = tf.nest.map_structure(tf.identity, arguments)
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        y = function(*arguments)
    return tape.gradient(y, arguments, dy)
