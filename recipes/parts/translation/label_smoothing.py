"""Cross-entropy with a truth that is not quite sure of itself (Szegedy et al. 2016)."""

import keras
import tensorflow as tf


class SmoothedCrossentropy(keras.losses.Loss):
    """−Σ_k q_k log p_k, in which q is 1 − ε for the true class, and ε spread over all.

    (batch, time) classes and (batch, time, classes) logits; the mean over what counts.
    """

    def __init__(self, smoothing: float):
        super().__init__(reduction="mean_with_sample_weight")
        self.smoothing = smoothing

    def call(self, y_true, y_pred):
        y_true = tf.cast(y_true, tf.int32)
        true = tf.nn.sparse_softmax_cross_entropy_with_logits(y_true, y_pred)
        # −mean log p is −log p of the true class, and by how much its logit exceeds the mean.
        above = tf.gather(y_pred, y_true, batch_dims=2) - tf.reduce_mean(y_pred, axis=-1)
        return true + self.smoothing * above
