"""An optimizer for tables of which a batch uses a few rows."""

import keras
import tensorflow as tf


class RowAdagrad(keras.optimizers.Optimizer):
    """Adagrad (Duchi et al. 2011) on tables, with one sum for each row: of its mean squares.

    A frequent word's gradient is the sum over thousands of pairs of a batch, a rare word's
    over a few; so divided, neither overshoots nor lags. Only rows with a gradient are touched,
    while Keras's Adagrad goes over the whole table at every step.
    """

    def build(self, variables):
        if not self.built:
            super().build(variables)
            self.sums = [self.add_variable((v.shape[0], 1), name="sums") for v in variables]

    def update_step(self, gradient, variable, learning_rate):
        sums = self.sums[self._get_variable_index(variable)].value
        gradient = each_row_once(gradient)
        gradient, rows = gradient.values, gradient.indices
        squares = tf.reduce_mean(gradient**2, axis=-1, keepdims=True)
        sums.scatter_add(tf.IndexedSlices(squares, rows))
        step = tf.math.divide_no_nan(gradient, tf.sqrt(tf.gather(sums, rows)))
        variable.scatter_sub(tf.IndexedSlices(learning_rate * step, rows))


def each_row_once(slices: tf.IndexedSlices) -> tf.IndexedSlices:
    """The same sum, of no row twice."""
    rows, places = tf.unique(slices.indices)
    values = tf.math.unsorted_segment_sum(slices.values, places, tf.size(rows))
    return tf.IndexedSlices(values, rows, slices.dense_shape)
