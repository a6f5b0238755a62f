"""What a recurrent network answered over all steps, in one vector; padding has no say."""

import tensorflow as tf
from keras import ops


def highest(x: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """(batch, steps, units), from -1 to 1, and (batch, steps) to (batch, units): each unit's
    strongest answer; -1 of no steps."""
    return ops.max(ops.where(mask[..., None], x, ops.full_like(x, -1.0)), axis=1)


def mean(x: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """As `highest`, each unit's mean; 0 of no steps, of which Keras's pooling makes NaN."""
    count = ops.sum(ops.cast(mask, x.dtype), axis=1, keepdims=True)
    total = ops.sum(ops.where(mask[..., None], x, ops.zeros_like(x)), axis=1)
    return total / ops.maximum(count, 1.0)
