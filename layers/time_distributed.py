"""A layer applied to each step by itself; Keras's, and right where the length is not known."""

import inspect

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="layers")
class TimeDistributed(keras.layers.TimeDistributed):
    """`keras.layers.TimeDistributed`, with its arguments.

    In a graph of unknown length, such as a SavedModel, Keras 3.15.1's runs as many steps as there
    are rows, and fails if there are none. This one runs all: there, the steps of all rows are one
    batch for the layer inside.
    """

    def call(
        self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        if inputs.shape[1]:
            return super().call(inputs, training=training, mask=mask)
        given = {"training": training, "mask": None if mask is None else _one_batch(mask)}
        taken = inspect.signature(self.layer.call).parameters
        arguments = {name: value for name, value in given.items() if name in taken}
        outputs = self.layer.call(_one_batch(inputs), **arguments)
        sizes = tf.concat([tf.shape(inputs)[:2], tf.shape(outputs)[1:]], 0)
        known = (*inputs.shape[:2], *outputs.shape[1:])
        outputs = tf.reshape(outputs, sizes)
        outputs.set_shape(known)
        return outputs


def _one_batch(x):
    """(batch, time, …) to (batch · time, …)."""
    sizes = tf.shape(x)
    rows = tf.reshape(x, tf.concat([[sizes[0] * sizes[1]], sizes[2:]], 0))
    rows.set_shape((None, *x.shape[2:]))
    return rows
