"""Recurrent layers for Keras 3 on TensorFlow, in place of those in `keras.layers`."""

import keras

from layers.bidirectional import Bidirectional
from layers.cell import Cell
from layers.cells.coupled_lstm import CoupledLSTM, CoupledLSTMCell
from layers.cells.gru import GRU, GRUCell
from layers.cells.ind_rnn import IndRNN, IndRNNCell
from layers.cells.layer_norm_lstm import LayerNormLSTM, LayerNormLSTMCell
from layers.cells.lstm import LSTM, LSTMCell
from layers.cells.peephole_lstm import PeepholeLSTM, PeepholeLSTMCell
from layers.cells.projected_lstm import ProjectedLSTM, ProjectedLSTMCell
from layers.cells.simple_rnn import SimpleRNN, SimpleRNNCell
from layers.cells.zoneout_lstm import ZoneoutLSTM, ZoneoutLSTMCell
from layers.exchange.from_torch import weights_from_torch
from layers.exchange.streaming import streaming_model, streaming_signatures
from layers.exchange.to_litert.export import export_litert
from layers.exchange.to_onnx.export import export_onnx
from layers.explain import explain
from layers.recurrence.gradients import without_gradients
from layers.rnn import RNN, CellLayer
from layers.sequences.attention import AttentionCell, AttentionMemory, attention_weights
from layers.sequences.crf import CRF, crf_decode, crf_loss, crf_marginals
from layers.sequences.decoding import beam_search, greedy_search, sample
from layers.time_distributed import TimeDistributed

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        f"`layers` runs on TensorFlow, and Keras is set to {keras.backend.backend()!r}. "
        "Set KERAS_BACKEND=tensorflow before Keras is imported."
    )

__all__ = [
    "CRF",
    "GRU",
    "LSTM",
    "RNN",
    "AttentionCell",
    "AttentionMemory",
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
    "TimeDistributed",
    "ZoneoutLSTM",
    "ZoneoutLSTMCell",
    "attention_weights",
    "beam_search",
    "crf_decode",
    "crf_loss",
    "crf_marginals",
    "explain",
    "export_litert",
    "export_onnx",
    "greedy_search",
    "sample",
    "streaming_model",
    "streaming_signatures",
    "weights_from_torch",
    "without_gradients",
]
