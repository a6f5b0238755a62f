"""Recurrent layers for Keras 3 on TensorFlow, in place of those in `keras.layers`."""

import keras

from layers.bidirectional import Bidirectional
from layers.cell import Cell
from layers.coupled_lstm import CoupledLSTM, CoupledLSTMCell
from layers.from_torch import weights_from_torch
from layers.gru import GRU, GRUCell
from layers.ind_rnn import IndRNN, IndRNNCell
from layers.layer_norm_lstm import LayerNormLSTM, LayerNormLSTMCell
from layers.lstm import LSTM, LSTMCell
from layers.peephole_lstm import PeepholeLSTM, PeepholeLSTMCell
from layers.projected_lstm import ProjectedLSTM, ProjectedLSTMCell
from layers.rnn import RNN, CellLayer
from layers.simple_rnn import SimpleRNN, SimpleRNNCell
from layers.streaming import streaming_model, streaming_signatures
from layers.zoneout_lstm import ZoneoutLSTM, ZoneoutLSTMCell

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        f"`layers` runs on TensorFlow, and Keras is set to {keras.backend.backend()!r}. "
        "Set KERAS_BACKEND=tensorflow before Keras is imported."
    )

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Bidirectional",
    "Cell",
    "CellLayer",
    "CoupledLSTM",
    "CoupledLSTMCell",
    "GRUCell",
    "IndRNN",
    "IndRNNCell",
    "LSTMCell",
    "LayerNormLSTM",
    "LayerNormLSTMCell",
    "PeepholeLSTM",
    "PeepholeLSTMCell",
    "ProjectedLSTM",
    "ProjectedLSTMCell",
    "SimpleRNN",
    "SimpleRNNCell",
    "ZoneoutLSTM",
    "ZoneoutLSTMCell",
    "streaming_model",
    "streaming_signatures",
    "weights_from_torch",
]
