"""Checks inside an exported graph, whose errors name the input.

Each returns what it was given, so that nothing is computed of it before it is checked, and
raises tf.errors.InvalidArgumentError.
"""

import tensorflow as tf

MOST_STREAMS = 4096  # in one batch of initial states


def finite(name: str, x: tf.Tensor, fault: str = "must be finite") -> tf.Tensor:
    """`x`, without NaN and infinities."""
    return tf.debugging.assert_all_finite(x, f"`{name}` {fault}")


def between(name: str, x: tf.Tensor, least: int, most: int) -> tf.Tensor:
    """`x`, nowhere below `least` or above `most`."""
    why = f"`{name}` must be between {least} and {most}, got:"
    return checked(tf.reduce_all((x >= least) & (x <= most)), [why, x], x)


def shaped(x: tf.Tensor, shape: list[int | None]) -> tf.Tensor:
    """`x`, an input as it came, of this shape; the error has its name from the graph.

    Whoever runs a SavedModel feeds it any shape: nobody else looks at those declared.
    """
    return tf.ensure_shape(x, shape)


def batch_size(x: tf.Tensor) -> tf.Tensor:
    """`x`, the input `batch_size` of a signature that returns initial states."""
    return between("batch_size", shaped(x, []), 0, MOST_STREAMS)


def same_batch(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """`inputs`, all of the same batch size."""
    first, *_ = inputs
    batch = tf.shape(inputs[first])[0]

    def check(name, x):
        found = tf.shape(x)[0]
        why = f"`{name}` and `{first}` must have the same batch size, got:"
        return checked(found == batch, [why, found, batch], x)

    return {name: check(name, x) for name, x in inputs.items()}


def inputs(specs: dict[str, tf.TensorSpec], tensors: list[tf.Tensor]) -> dict[str, tf.Tensor]:
    """A signature's inputs by name: of the shapes specified, of one batch size, all finite."""
    given = {n: shaped(x, specs[n].shape.as_list()) for n, x in zip(specs, tensors, strict=True)}
    given = same_batch(given)
    return {n: finite(n, x) if x.dtype.is_floating else x for n, x in given.items()}


def at_most(most: int, what: str, name: str, x: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """`x`, whose memory a `count` bounds: of `what`, for the message."""
    return checked(count <= most, [f"`{name}`: at most {most} {what}, got:", count], x)


def checked(condition: tf.Tensor, message: list, x: tf.Tensor) -> tf.Tensor:
    """`x`, once `condition` has been found to hold."""
    with tf.control_dependencies([tf.debugging.Assert(condition, message)]):
        return tf.nest.map_structure(tf.identity, x, expand_composites=True)
