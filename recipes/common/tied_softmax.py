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
        """`loss`, with the sum over all words estimated: by each target and the same few others.

        A word is drawn the more often the lower its number, about as often as words numbered by
        their frequency occur, and counts the more the more seldom it is drawn (Bengio & Senécal
        2003; Jean et al. 2015, arXiv 1412.2007).
        """
        table, bias = self.embedding.embeddings.value, self.bias.value
        choices, dimension = table.shape
        if samples >= choices:
            return self.loss(vectors, targets)
        vectors, targets = tf.reshape(vectors, (-1, dimension)), tf.reshape(targets, (-1, 1))
        given = tf.cast(targets, tf.int64)
        drawn, _, times = tf.random.log_uniform_candidate_sampler(given, 1, samples, True, choices)
        others = tf.matmul(vectors, tf.gather(table, drawn), transpose_b=True)
        others += tf.gather(bias, drawn) - tf.math.log(times)
        others = tf.where(given == drawn, -1e9, others)
        own = vectors * tf.gather(table, targets[:, 0])
        own = tf.reduce_sum(own, axis=-1, keepdims=True) + tf.gather(bias, targets)
        total = tf.reduce_logsumexp(tf.concat([own, others], axis=-1), axis=-1)
        return tf.reduce_mean(total - own[:, 0])
