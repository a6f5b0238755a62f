"""A pytest plugin for Keras's own tests: puts our classes in the place of Keras's."""

import gc

import keras
import tensorflow as tf
from keras.src import layers as keras_layers

import layers

gc.set_threshold(50_000, 20, 100)  # graphs are many small objects
# It is about numbers, and a sixth of its time is the graph optimizer's.
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})

replaced = [name for name in layers.__all__ if hasattr(keras_layers, name)]
assert {"RNN", "SimpleRNN", "LSTM", "GRU", "Bidirectional", "TimeDistributed"} <= {*replaced}
assert {"SimpleRNNCell", "LSTMCell", "GRUCell"} <= {*replaced}
for name in replaced:
    setattr(keras_layers, name, getattr(layers, name))
    setattr(keras.layers, name, getattr(layers, name))
