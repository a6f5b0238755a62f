"""A pytest plugin for Keras's own tests: puts our classes in the place of Keras's."""

import keras
import tensorflow as tf
from keras.src import layers as keras_layers

import layers

# It is about numbers, and a sixth of its time is the graph optimizer's.
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})

for name in layers.__all__:
    if hasattr(keras_layers, name):
        setattr(keras_layers, name, getattr(layers, name))
        setattr(keras.layers, name, getattr(layers, name))
