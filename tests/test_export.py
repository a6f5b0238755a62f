"""An exported model is nothing but TensorFlow's ops: any CPU runs it, without this package."""

import keras
import numpy as np
import processes
import pytest
import tensorflow as tf
from conftest import portable_ops

import layers
from layers.recurrence import loop

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
    processes.run(["-c", SERVE], cwd=path, env={})
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
    both = layers.GRU(2, return_sequences=True, zero_output_for_mask=True)
    both = layers.Bidirectional(both, merge_mode="sum")(masked)
    outputs = [
        layers.SimpleRNN(2)(both),
        layers.GRU(2, reset_after=False, update_gate="replace", dropout=0.5, recurrent_dropout=0.5)(
            masked
        ),
        layers.RNN([layers.LSTMCell(2), layers.GRUCell(2)], go_backwards=True)(both),
    ]
    model = keras.Model(x, keras.layers.Concatenate()(outputs))
    path = tmp_path_factory.mktemp("export")
    return model, path / "exported", served(model, path, [inputs(*size) for size in SIZES])


def test_the_same_numbers_at_every_size(exported):
    model, _, outputs = exported
    for size, output in zip(SIZES, outputs):
        np.testing.assert_allclose(output, model(inputs(*size)), rtol=1e-5, atol=1e-5)


def test_nothing_in_it_is_bound_to_python_or_to_a_device(exported):
    _, path, _ = exported
    ops = portable_ops(path)
    assert "MatMul" in ops and any("While" in op for op in ops)  # all of the graph was seen


@pytest.mark.parametrize("recurrence", ["derived", "loop"])
def test_nor_in_a_layer_that_always_trains_if_told_so(tmp_path, recurrence):
    x = keras.Input((None, FEATURES))
    layer = layers.LSTM(2, dropout=0.5, recurrence=recurrence)
    keras.Model(x, layer(x, training=True)).export(tmp_path, verbose=False)
    assert "MatMul" in portable_ops(tmp_path)


def test_what_is_bound_to_xla_is_found(tmp_path):
    module = tf.Module()
    module.f = tf.function(lambda x: x + 1, [tf.TensorSpec([])], jit_compile=True)
    tf.saved_model.save(module, tmp_path / "saved")
    with pytest.raises(AssertionError, match="XLA"):
        portable_ops(tmp_path / "saved")


def test_what_is_bound_to_python_is_found(tmp_path):
    module = tf.Module()
    module.f = tf.function(
        lambda x: tf.numpy_function(np.sin, [x], tf.float32), [tf.TensorSpec([])]
    )
    tf.saved_model.save(module, tmp_path / "saved")
    with pytest.raises(AssertionError, match="PyFunc"):
        portable_ops(tmp_path / "saved")


def test_without_gradients_it_is_smaller_answers_the_same_and_refuses_to_give_one(tmp_path):
    layer = layers.LSTM(2)
    model = keras.Sequential([keras.Input((None, FEATURES)), layer])
    model.export(tmp_path / "whole", verbose=False)
    with layers.without_gradients():
        model.export(tmp_path / "small", verbose=False)
    whole, small = (
        (tmp_path / name / "saved_model.pb").stat().st_size for name in ("whole", "small")
    )
    assert small < 0.7 * whole
    x = inputs(2, 7)
    served = tf.saved_model.load(str(tmp_path / "small"))
    np.testing.assert_allclose(served.serve(x), model(x), rtol=1e-5, atol=1e-5)
    variable, message = tf.Variable(x), r"without_gradients\(\)`: trace it again outside"
    with pytest.raises(LookupError, match=message), tf.GradientTape() as tape:
        tape.gradient(served.serve(variable), variable)

    # What trains keeps its gradient in there.
    @tf.function
    def slope(training):
        with tf.GradientTape() as tape:
            tape.watch(variable)
            y = tf.reduce_sum(layer(variable, training=training))
        return tape.gradient(y, variable)

    expected = slope(True)
    slope = tf.function(slope.python_function)
    with layers.without_gradients():
        np.testing.assert_allclose(slope(True), expected, atol=1e-6)


@pytest.mark.parametrize("layer", ["GRU", "SimpleRNN", "PeepholeLSTM"])
def test_xla_compiles_an_export(layer, tmp_path):
    """Of any length; for an LSTM's one operation it has no kernel."""
    x = keras.Input((None, FEATURES))
    model = keras.Model(x, getattr(layers, layer)(4, return_sequences=True)(x))
    with layers.without_gradients():
        model.export(tmp_path, verbose=False)
    loaded = tf.saved_model.load(str(tmp_path))
    serve = tf.function(loaded.serve, jit_compile=True)
    for batch, time in [(2, 1), (1, loop.BLOCK), (3, 2 * loop.BLOCK + 1)]:
        given = inputs(batch, time)
        np.testing.assert_allclose(serve(given), model(given), rtol=1e-5, atol=1e-6)
