"""An exported model is nothing but TensorFlow's ops: any CPU runs it, without this package."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import kernels, op_def_registry

import layers

FEATURES = 3
SIZES = [(1, 1), (2, 7), (5, 4)]

SERVE = """
import os, sys
sys.modules["layers"] = None  # an attempt to import it would fail
import numpy as np
import tensorflow as tf
model = tf.saved_model.load("exported")
for name in os.listdir("inputs"):
    np.save(f"outputs/{name}", model.serve(np.load(f"inputs/{name}")))
"""


def served(model, path, arrays):
    """What `model` makes of `arrays` once exported and loaded by a process of TensorFlow only."""
    model.export(path / "exported", verbose=False)
    for folder in ("inputs", "outputs"):
        (path / folder).mkdir()
    for i, array in enumerate(arrays):
        np.save(path / "inputs" / f"{i}.npy", array)
    subprocess.run([sys.executable, "-c", SERVE], cwd=path, env={}, check=True)
    return [np.load(path / "outputs" / f"{i}.npy") for i in range(len(arrays))]


def inputs(batch, time):
    """With steps that a `Masking` leaves out, one row of them whole."""
    rng = np.random.default_rng(batch)
    x = rng.normal(size=(batch, time, FEATURES)).astype("float32")
    x[rng.random((batch, time)) < 0.3] = 0
    x[batch // 2 + 1 :] = 0
    return x


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    x = keras.Input((None, FEATURES))
    masked = keras.layers.Masking()(x)
    both = layers.Bidirectional(layers.LSTM(2, return_sequences=True))(masked)
    outputs = [
        layers.SimpleRNN(2)(both),
        layers.LSTM(2, go_backwards=True)(masked),
        layers.GRU(2, dropout=0.5, recurrent_dropout=0.5)(masked),
        layers.GRU(2, reset_after=False, update_gate="replace")(both),
        layers.RNN([layers.LSTMCell(2), layers.GRUCell(2)])(masked),
        layers.Bidirectional(layers.GRU(2, zero_output_for_mask=True), merge_mode="sum")(both),
    ]
    model = keras.Model(x, keras.layers.Concatenate()(outputs))
    path = tmp_path_factory.mktemp("export")
    return model, path / "exported", served(model, path, [inputs(*size) for size in SIZES])


def test_the_same_numbers_at_every_size(exported):
    model, _, outputs = exported
    for size, output in zip(SIZES, outputs):
        np.testing.assert_allclose(output, model(inputs(*size)), rtol=1e-5, atol=1e-5)


def nodes(path):
    saved = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    for meta in saved.meta_graphs:
        yield from meta.graph_def.node
        for function in meta.graph_def.library.function:
            yield from function.node_def


def test_every_op_is_tensorflows_and_runs_on_a_cpu(exported):
    _, path, _ = exported
    ops = {node.op for node in nodes(path)}
    assert "MatMul" in ops and any("While" in op for op in ops)  # all of the graph was seen
    assert [op for op in ops if "PyFunc" in op or "Cudnn" in op] == []
    assert [op for op in ops if op_def_registry.get(op) is None] == []
    for op in ops:
        devices = {
            kernel.device_type for kernel in kernels.get_registered_kernels_for_op(op).kernel
        }
        assert devices & {"CPU", "DEFAULT"}, op  # the latter: on any device


def test_nothing_must_be_compiled(exported):
    _, path, _ = exported
    assert not any(node.attr["_XlaMustCompile"].b for node in nodes(path))
