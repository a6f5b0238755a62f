"""Adam, for models with large tables of which a batch uses a few rows."""

import keras
import tensorflow as tf

from recipes.common.row_adagrad import each_row_once


class RowAdam(keras.optimizers.Adam):
    """Adam, which of a table moves only the rows that have a gradient, and their means.

    Args:
        slower: {how variables' paths begin: what part of the learning rate these have}.
    """

    def __init__(self, *args, slower: dict[str, float] | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.slower = slower or {}

    def build(self, variables):
        def share(path):
            return next((s for start, s in self.slower.items() if path.startswith(start)), 1.0)

        self.shares = [share(variable.path) for variable in variables]
        super().build(variables)

    def update_step(self, gradient, variable, learning_rate):
        which = self._get_variable_index(variable)
        learning_rate *= self.shares[which]
        if not isinstance(gradient, tf.IndexedSlices):
            super().update_step(gradient, variable, learning_rate)
            return
        gradient = each_row_once(gradient)
        gradient, rows = gradient.values, gradient.indices
        m, v = self._momentums[which].value, self._velocities[which].value
        step = tf.cast(self.iterations + 1, tf.float32)
        mean = self.beta_1 * tf.gather(m, rows) + (1 - self.beta_1) * gradient
        square = self.beta_2 * tf.gather(v, rows) + (1 - self.beta_2) * gradient**2
        m.scatter_update(tf.IndexedSlices(mean, rows))
        v.scatter_update(tf.IndexedSlices(square, rows))
        rate = learning_rate * tf.sqrt(1 - self.beta_2**step) / (1 - self.beta_1**step)
        change = rate * mean / (tf.sqrt(square) + self.epsilon)
        variable.scatter_sub(tf.IndexedSlices(change, rows))
