"""Drawing from a distribution that was made narrower, as text is generated: in the graph."""

import tensorflow as tf


def narrowed(
    logits: tf.Tensor, temperature: tf.Tensor, top_k: tf.Tensor, top_p: tf.Tensor
) -> tf.Tensor:
    """(batch, choices) logits, −∞ where a choice is out.

    Args:
        temperature: Below 1 the probable becomes more so; 0 leaves the most probable alone.
        top_k: How many of the most probable stay; 0: all.
        top_p: Of those, the most probable that have this probability together stay (Holtzman
            et al. 2020); 1: all.
    """
    choices = logits.shape[-1]
    logits -= tf.reduce_max(logits, axis=-1, keepdims=True)
    logits /= tf.maximum(temperature, 1e-6)
    ordered, order = tf.math.top_k(logits, choices)
    top_k = tf.where(top_k == 0, choices, top_k)
    top_k = tf.where(temperature > 0, top_k, 1)  # however near others come
    probabilities = tf.where(tf.range(choices) < top_k, tf.nn.softmax(ordered), 0.0)
    probabilities /= tf.reduce_sum(probabilities, axis=-1, keepdims=True)
    before = tf.cumsum(probabilities, axis=-1, exclusive=True)
    stays = (probabilities > 0) & ((before < top_p) | (tf.range(choices) == 0) | (top_p >= 1))
    stays = tf.gather(stays, tf.argsort(order, axis=-1), batch_dims=1)
    return tf.where(stays, logits, float("-inf"))


def draw(logits: tf.Tensor, seed: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
    """One choice of each row, int32; the same for the same `seed` and `step`."""
    return tf.random.stateless_categorical(logits, 1, tf.stack([seed, step]), tf.int32)[:, 0]
