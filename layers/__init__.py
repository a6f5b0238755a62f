"""Recurrent layers for Keras 3 on TensorFlow, in place of those in `keras.layers`."""

from layers.bidirectional import Bidirectional
from layers.cell import Cell
from layers.from_torch import weights_from_torch
from layers.gru import GRU, GRUCell
from layers.lstm import LSTM, LSTMCell
from layers.rnn import RNN, CellLayer
from layers.simple_rnn import SimpleRNN, SimpleRNNCell

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Bidirectional",
    "Cell",
    "CellLayer",
    "GRUCell",
    "LSTMCell",
    "SimpleRNN",
    "SimpleRNNCell",
    "weights_from_torch",
]
