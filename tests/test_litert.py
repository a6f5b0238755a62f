"""A LiteRT file answers as its model, in LiteRT's interpreter; it has builtin operations alone.

LITERT_MODELS=100 pytest tests/test_litert.py     for more random models than the usual number
"""

import importlib.util
import os
import sys
from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf
from drawn_models import FEATURES, Drawn, drawn_inputs, perturbed

import layers
from layers.exchange import model_files
from layers.exchange.to_litert import fused

COUNT = int(os.environ.get("LITERT_MODELS", 3))
STEPS = 5, 5, 1, 6


@pytest.fixture(scope="module", autouse=True)
def installed():
    if not importlib.util.find_spec("ai_edge_litert"):
        reason = "ai-edge-litert is not installed: pip install -r serving/requirements.txt"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)


def exported(model, path, *args, **kwargs):
    """The file's one signature; how many operations it has of each kind."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_litert.tools import flatbuffer_utils

    layers.export_litert(model, path, *args, **kwargs)
    names = {code: name for name, code in vars(schema.BuiltinOperator).items()}
    file = flatbuffer_utils.read_model(str(path))
    codes = [names[code.builtinCode] for code in file.operatorCodes]
    assert "CUSTOM" not in codes  # which Flex is, too
    operations = [codes[o.opcodeIndex] for graph in file.subgraphs for o in graph.operators]
    return Interpreter(str(path)).get_signature_runner(), Counter(operations)


def fused_lstms(counts):
    return counts["UNIDIRECTIONAL_SEQUENCE_LSTM"]


def differences(runner, model, given):
    """Of each output the largest."""
    tensors = [tf.constant(x) for x in given.values()]
    expected = keras.tree.flatten(model(model_files.packed(model, tensors)))
    found = runner(**given)
    for name, y in zip(model_files.names(model)[1], expected, strict=True):
        assert found[name].shape == y.shape
        yield np.abs(found[name] - y).max(initial=0)


def assert_same(runner, model, given):
    assert max(differences(runner, model, given)) < 1e-5


# --- Models drawn at random ---------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(COUNT))
def test_a_model_drawn_at_random(seed, tmp_path):
    drawn, rows = Drawn(seed), 1 + seed % 3
    model = perturbed(drawn.build(layers))
    runner, _ = exported(model, tmp_path / "model.tflite", rows)
    for steps in STEPS if drawn.steps is None else [drawn.steps]:
        assert_same(runner, model, drawn_inputs(model, rows, steps, seed))


# --- The operation for all steps of an LSTM -----------------------------------------------------


def test_what_becomes_the_operation_and_what_a_loop(tmp_path):
    x = keras.Input((None, FEATURES))
    masked = keras.layers.Masking()(x)
    both = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(masked)
    h, *states = layers.LSTM(3, use_bias=False, return_state=True)(masked)  # both, for the states
    again = layers.LSTM(3, go_backwards=True)(both, initial_state=states)  # a loop
    other = layers.LSTM(3, activation="relu")(both)  # a loop
    model = perturbed(keras.Model(x, [both, h, *states, again, other]))
    runner, counts = exported(model, tmp_path / "model.tflite", 2)
    assert (fused_lstms(counts), counts["WHILE"]) == (3, 3)
    for steps in STEPS:
        assert_same(runner, model, drawn_inputs(model, 2, steps))


def test_nothing_is_left_of_the_sequence_before(tmp_path, monkeypatch):
    x = keras.Input((None, FEATURES))
    y = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(x)
    model = perturbed(keras.Model(x, layers.LSTM(3)(y)))
    runner, counts = exported(model, tmp_path / "model.tflite")
    assert (fused_lstms(counts), counts["WHILE"]) == (3, 0)
    given, no_number = drawn_inputs(model, 1, 7), np.full((1, 7, FEATURES), np.nan, "float32")
    first = runner(**given)
    runner(**dict.fromkeys(given, no_number))
    assert_same(runner, model, given)
    np.testing.assert_equal(runner(**given), first)

    # Without what sees to it, the file goes on, and is found out.
    monkeypatch.setattr(fused, "start_from_zeros", lambda content: None)
    with pytest.raises(ValueError, match="off by"):
        layers.export_litert(model, tmp_path / "model.tflite")


def test_words_of_letters(tmp_path):
    """Rows and steps that are both open make a batch that is open, inside."""
    letters = keras.Input((None, 4), dtype="int32", name="letters")
    read = layers.TimeDistributed(layers.Bidirectional(layers.LSTM(3)))
    y = read(keras.layers.Embedding(9, 2)(letters), mask=letters != 0)
    model = perturbed(keras.Model(letters, keras.layers.Activation("tanh", name="y")(y)))
    runner, _ = exported(model, tmp_path / "model.tflite")
    for words in (5, 2, 2, 7):
        spelt = np.random.default_rng(words).integers(1, 9, (1, words, 4)).astype("int32")
        spelt[0, 0, 2:] = spelt[0, -1] = 0
        assert_same(runner, model, {"letters": spelt})

    # What LiteRT's own interpreter refuses is found out before somebody has the file.
    with pytest.raises(ValueError, match="its interpreter refuses what its converter made"):
        examples = np.ones((4, 5, 4), "int32")
        layers.export_litert(model, tmp_path / "m", quantize="int8", examples=examples)
    assert not (tmp_path / "m").exists()


# --- Smaller ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def larger():
    """A model with weights of more than 1024 numbers, and inputs for it."""
    x = keras.Input((None, 20), name="x")
    y = layers.GRU(64)(layers.LSTM(64, return_sequences=True)(x))
    examples = np.random.default_rng(0).normal(size=(40, 9, 20)).astype("float32")
    return perturbed(keras.Model(x, keras.layers.Dense(3, "softmax", name="y")(y))), examples


@pytest.mark.parametrize("quantize", ["dynamic", "int8"])
def test_weights_in_8_bits(quantize, larger, tmp_path):
    model, examples = larger
    how = {"examples": examples} if quantize == "int8" else {}
    runner, counts = exported(model, tmp_path / "small.tflite", quantize=quantize, **how)
    assert (fused_lstms(counts), counts["WHILE"]) == (1, 1)
    assert (tmp_path / "small.tflite").stat().st_size < 0.36 * 4 * model.count_params()
    found = np.concatenate([runner(x=x[None])["y"] for x in examples])
    off = np.abs(found - model(examples)).max(1)
    assert 1e-5 < np.median(off) < 0.03 and max(off) < 0.15
    np.testing.assert_array_equal(runner(x=examples[:1])["y"], found[:1])  # it starts anew


def test_examples_are_told_apart_by_the_inputs_names(tmp_path):
    b, a = keras.Input((5, FEATURES), name="b"), keras.Input((5, FEATURES), name="a")
    model = keras.Model([b, a], {"twice": a * 2.0, "read": layers.LSTM(4)(b)})
    random = np.random.default_rng(0)
    examples = {"a": random.normal(0, 50, (40, 5, FEATURES)), "b": random.random((40, 5, FEATURES))}
    examples = {name: x.astype("float32") for name, x in examples.items()}
    runner, _ = exported(model, tmp_path / "m", quantize="int8", examples=examples)
    with pytest.raises(ValueError, match=r"of \['b', 'a'\], got \['a'\]"):
        wrong = {"a": examples["a"]}
        layers.export_litert(model, tmp_path / "m", quantize="int8", examples=wrong)
    found = runner(**{name: x[:1] for name, x in examples.items()})["twice"]
    np.testing.assert_allclose(found, 2 * examples["a"][:1], atol=4)  # of 400


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_a_fixed_length_in_8_bits(kind, tmp_path):
    """The converter, left with a loop of known length, takes the whole process down."""
    x = keras.Input((5, FEATURES), name="x")
    layer = getattr(layers, kind)(4, return_state=True)
    _, *states = layer(x)
    y, *_ = layer(x[:, :1], initial_state=states)
    model = perturbed(keras.Model(x, {"y": y}))
    examples = np.random.default_rng(0).normal(size=(40, 5, FEATURES)).astype("float32")
    runner, counts = exported(model, tmp_path / "m", quantize="int8", examples=examples)
    assert not counts["WHILE"]
    found = np.concatenate([runner(x=x[None])["y"] for x in examples])
    assert np.median(np.abs(found - model(examples)["y"]).max(1)) < 0.03


def test_a_fixed_length_too_long_to_be_written_out_is_refused(tmp_path):
    x = keras.Input((300, FEATURES))
    model = keras.Model(x, layers.GRU(2, name="read")(x))
    examples = np.zeros((9, 300, FEATURES), "float32")
    with pytest.raises(ValueError, match=r"`read`.*256 steps, got 300.*Input\(\(None"):
        layers.export_litert(model, tmp_path / "m", quantize="int8", examples=examples)


def test_what_is_asked_for_is_checked(larger, tmp_path):
    model, examples = larger
    with pytest.raises(ValueError, match="expected one of"):
        layers.export_litert(model, tmp_path / "model.tflite", quantize="int4")
    with pytest.raises(ValueError, match="needs `examples`"):
        layers.export_litert(model, tmp_path / "model.tflite", quantize="int8")
    with pytest.raises(ValueError, match="only there"):
        layers.export_litert(model, tmp_path / "model.tflite", examples=examples)
    with pytest.raises(ValueError, match="got 40 rows of `examples` for a batch of 64"):
        layers.export_litert(model, tmp_path / "m", 64, quantize="int8", examples=examples)
    assert not list(tmp_path.iterdir())


# --- What can't be exported ---------------------------------------------------------------------


def read(x, **how):
    return layers.LSTM(4, name="read", **how)(x)


CANNOT = {
    "an operation": (lambda x: read(keras.ops.erfinv(keras.ops.tanh(x))), r"`erfinv\w*`.*Erfinv"),
    "training": (
        lambda x: layers.GRU(3, dropout=0.5, name="drops")(x, training=True),
        "`drops`.*random",
    ),
    "a kept state": (lambda x: read(x, stateful=True), "`read`.*stateful.*streaming_model"),
}


@pytest.mark.parametrize("what", CANNOT)
def test_what_cannot_be_exported_is_named_and_leaves_no_file(what, tmp_path):
    build, message = CANNOT[what]
    x = keras.Input(batch_shape=(2, None, FEATURES))
    model = keras.Model(x, build(x))
    (tmp_path / "model.tflite").write_text("the one before")
    with pytest.raises(ValueError, match=message):
        layers.export_litert(model, tmp_path / "model.tflite")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["the one before"]


def test_a_package_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(ImportError, match=r"ai-edge-litert.*pip install"):
        layers.export_litert(keras.Sequential([layers.LSTM(2)]), tmp_path / "model.tflite")
