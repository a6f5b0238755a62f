"""A pytest plugin for Keras's own tests: puts our classes in the place of Keras's."""

import keras
from keras.src import layers as keras_layers

import layers

for name in layers.__all__:
    if hasattr(keras_layers, name):
        setattr(keras_layers, name, getattr(layers, name))
        setattr(keras.layers, name, getattr(layers, name))
