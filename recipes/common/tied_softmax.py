"""The probability of each of many words, by the vectors that they are read by."""

import keras
import tensorflow as tf


class TiedSoftmax(keras.layers.Layer):
    """(…, dimension) vectors to logits: their products with the rows of `embedding`, and a bias.

    After Press & Wolf 2017, arXiv 1608.05859.
    """

    def __init__(self, embedding: keras.layers.Embedding, **kwargs):
        super().__init__(**kwargs)
        self.embedding = embedding
        self.bias = self.add_weight((embedding.input_dim,), "zeros", name="bias")

    def call(self, vectors):
        return tf.matmul(vectors, self.embedding.embeddings.value, transpose_b=True) + self.bias

    def compute_output_shape(self, vectors_shape):
        return *vectors_shape[:-1], self.embedding.input_dim

    def loss(self, vectors: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """−log P of (batch, length) targets, the mean; row by row, as logits are large."""

        def of_row(row):
            vectors, targets = row
            return tf.nn.sparse_softmax_cross_entropy_with_logits(targets, self(vectors))

        return tf.reduce_mean(tf.map_fn(of_row, (vectors, targets), fn_output_signature="float32"))

    def sampled_loss(self, vectors: tf.Tensor, targets: tf.Tensor, samples: int) -> tf.Tensor:
        """What stands for `loss` in training: each target among the same few drawn words.

        A word is drawn the more often the lower its number, about as often as words numbered
        by their frequency occur, and its logit is corrected for it (Jean et al. 2015, arXiv
        1412.2007).
        """
        choices, dimension = self.embedding.embeddings.shape
        if samples >= choices:
            return self.loss(vectors, targets)
        found = tf.nn.sampled_softmax_loss(
            self.embedding.embeddings.value,
            self.bias.value,
            tf.reshape(targets, (-1, 1)),
            tf.reshape(vectors, (-1, dimension)),
            samples,
            choices,
        )
        return tf.reduce_mean(found)
