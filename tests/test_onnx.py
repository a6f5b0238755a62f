"""An ONNX file answers as its model, in onnxruntime; recurrent layers are ONNX's own nodes.

ONNX_MODELS=100 pytest tests/test_onnx.py     for more random models than the usual number
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
from layers.cells.gru import GRUCell
from layers.cells.lstm import LSTMCell
from layers.exchange import model_files
from layers.exchange.to_onnx import fixes, nodes

COUNT = int(os.environ.get("ONNX_MODELS", 8))
NODES = {"LSTM", "GRU", "RNN", "Loop"}
# Rows and steps; none of them is what a model was traced with.
SIZES = [(2, 5), (1, 1), (3, 9), (2, 0), (0, 4)]


@pytest.fixture(scope="module", autouse=True)
def installed():
    missing = [name for name in ("onnx", "onnxruntime", "tf2onnx") if not find(name)]
    if missing:
        reason = f"{missing} not installed: pip install -r serving/requirements.txt"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)


def find(package):
    return importlib.util.find_spec(package)


def exported(model, path):
    """The model in onnxruntime; how many nodes it has of each type."""
    import onnx
    import onnxruntime

    layers.export_onnx(model, path)
    made = onnx.load(path)
    onnx.checker.check_model(made, full_check=True)
    types = Counter(node.op_type for node in fixes.nodes(made.graph))
    return onnxruntime.InferenceSession(path), types


def recurrent(counts):
    return {op: count for op, count in counts.items() if op in NODES}


def assert_same(session, model, given):
    tensors = [tf.constant(x) for x in given.values()]
    expected = keras.tree.flatten(model(tensors if len(tensors) > 1 else tensors[0]))
    found = session.run(None, given)
    assert len(found) == len(expected)
    for x, y in zip(found, expected):
        assert x.shape == y.shape
        np.testing.assert_allclose(x, y, atol=1e-5, rtol=1e-5)


# --- Models drawn at random ---------------------------------------------------------------------


def nodes_of(drawn):
    """What ONNX should have, by type."""
    counts = Counter()
    for one in drawn.layers:
        two_nodes = one["merge"] and one["common"]["go_backwards"]
        usual = one["own"].get("activation") != "softsign"
        kind = {"SimpleRNN": "RNN"}.get(one["kind"], one["kind"].split()[0])
        times = 2 if one["merge"] and (two_nodes or kind not in NODES or not usual) else 1
        if kind == "stack":
            counts.update({"LSTM": times, "GRU": times})
        else:
            counts[kind if kind in NODES and usual else "Loop"] += times
    return dict(counts)


@pytest.mark.parametrize("seed", range(COUNT))
def test_a_model_drawn_at_random(seed, tmp_path):
    drawn = Drawn(seed)
    model = perturbed(drawn.build(layers))
    session, counts = exported(model, tmp_path / "model.onnx")
    assert recurrent(counts) == nodes_of(drawn)
    theirs = drawn.build(keras.layers) if drawn.in_keras else None
    if theirs:
        theirs.set_weights(model.get_weights())
    for rows, steps in SIZES:
        given = drawn_inputs(model, rows, steps, seed)
        assert_same(session, model, given)
        if theirs and rows and (steps or drawn.steps):  # Keras takes no empty ones
            assert_same(session, theirs, dict(zip([x.name for x in model.inputs], given.values())))


# --- What the draw leaves out -------------------------------------------------------------------


def test_both_directions_of_different_functions_are_one_node(tmp_path):
    x = keras.Input((None, FEATURES))
    how = {"return_state": True, "update_gate": "replace"}
    back = layers.GRU(4, activation="relu", go_backwards=True, return_state=True)
    both = layers.Bidirectional(layers.GRU(4, **how), None, backward_layer=back)
    model = perturbed(keras.Model(x, both(keras.layers.Masking()(x))))
    session, counts = exported(model, tmp_path / "model.onnx")
    assert recurrent(counts) == {"GRU": 1}
    for size in SIZES:
        assert_same(session, model, drawn_inputs(model, *size))


def test_an_infinite_number_in_a_masked_step_does_no_harm(tmp_path):
    class Exponential(layers.Cell):
        def update(self, x, states, dot):
            return (tf.exp(x) + 0.1 * dot(states[0], self.recurrent_kernel),)

    x, real = keras.Input((None, FEATURES)), keras.Input((None,), dtype="bool")
    layer = layers.RNN(Exponential(4), return_sequences=True)
    model = perturbed(keras.Model([x, real], layer(x, mask=real)))
    session, _ = exported(model, tmp_path / "model.onnx")
    given = drawn_inputs(model, 3, 6)
    x, real = given.values()
    x[...] = np.where(real[..., None], x, 1e6)
    assert_same(session, model, given)
    assert np.isfinite(session.run(None, given)[0]).all()


def test_a_condition_in_a_step(tmp_path):
    class Conditional(layers.Cell):
        def update(self, x, states, dot):
            (h,) = states
            new = self.activation(x + dot(h, self.recurrent_kernel))
            return (tf.cond(tf.reduce_sum(h) > 0.2, lambda: new, lambda: 0.5 * new),)

    x = keras.Input((None, FEATURES))
    model = perturbed(keras.Model(x, layers.RNN(Conditional(4), return_sequences=True)(x)))
    session, counts = exported(model, tmp_path / "model.onnx")
    assert recurrent(counts) == {"Loop": 1} and counts["If"] == 1
    assert_same(session, model, drawn_inputs(model, 3, 7))


def test_numbers_of_another_width_run_in_a_loop(tmp_path):
    x = keras.Input((None, FEATURES))
    model = perturbed(keras.Model(x, layers.LSTM(4, dtype="float64")(x)))
    session, counts = exported(model, tmp_path / "model.onnx")
    assert recurrent(counts) == {"Loop": 1}
    given = drawn_inputs(model, 3, 7)
    np.testing.assert_allclose(session.run(None, given)[0], model(*given.values()), atol=1e-7)


def test_a_layer_that_holds_tensors(tmp_path):
    x = keras.Input((None, FEATURES))
    held = keras.layers.Normalization(mean=np.arange(3.0), variance=np.ones(3))(x)
    model = perturbed(keras.Model(x, layers.GRU(4)(held)))
    session, _ = exported(model, tmp_path / "model.onnx")
    assert_same(session, model, drawn_inputs(model, 3, 7))


def test_the_names_of_what_goes_in_and_comes_out(tmp_path):
    a, b = keras.Input((None, FEATURES), name="a"), keras.Input((2,), name="b")
    y, *states = layers.LSTM(4, return_state=True, name="read")(a)
    session, _ = exported(keras.Model([b, a], [y, *states, b]), tmp_path / "list.onnx")
    assert [x.name for x in session.get_inputs()] == ["b", "a"]
    assert [x.shape for x in session.get_inputs()] == [["batch", 2], ["batch", "a_1", FEATURES]]
    names = ["read_0", "read_1", "read_2", "new_b"]
    assert [y.name for y in session.get_outputs()] == names
    model = keras.Model({"a": a, "b": b}, {"y": y, "more": [b + 1, {"last": b * 2}]})
    session, _ = exported(model, tmp_path / "dict.onnx")
    assert {x.name for x in session.get_inputs()} == {"a", "b"}
    assert [y.name for y in session.get_outputs()] == ["more_0", "more_1_last", "y"]


def test_a_stream_goes_on_from_its_states(tmp_path):
    x = keras.Input((None, FEATURES), name="chunk")
    low = layers.GRU(4, return_sequences=True, name="low")(x)
    high = layers.PeepholeLSTM(3, return_sequences=True, name="high")(low)
    model = perturbed(keras.Model(x, keras.layers.Dense(2, name="y")(high)))
    session, counts = exported(layers.streaming_model(model, mask="real"), tmp_path / "m.onnx")
    assert recurrent(counts) == {"GRU": 1, "Loop": 1}
    names = ["low_state_0", "high_state_0", "high_state_1"]
    assert {x.name for x in session.get_inputs()} == {"chunk", "real", *names}
    whole = drawn_inputs(model, 2, 9)["chunk"]
    states = {name: np.zeros((2, 4 if "low" in name else 3), "float32") for name in names}
    pieces = []
    for piece in np.split(whole, [2, 2, 3], axis=1):
        padding = np.ones((2, 1, FEATURES), "float32")
        real = np.arange(piece.shape[1] + 1) < np.full((2, 1), piece.shape[1])
        chunk = np.concatenate([piece, padding], axis=1)
        given = {"chunk": chunk, "real": real, **states}
        y, *new = session.run(["y", *(f"new_{name}" for name in names)], given)
        states = dict(zip(names, new))
        pieces.append(y[:, :-1])
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), model(whole), atol=1e-5)


# --- What can't be exported ---------------------------------------------------------------------


def read(x, **how):
    return layers.LSTM(4, name="read", **how)(x)


def look_up(x):
    table = keras.layers.IntegerLookup(vocabulary=[1, 2], name="look")
    return table(keras.ops.cast(x, "int32"))


CANNOT = {
    "an operation": (lambda x: read(keras.ops.erfinv(keras.ops.tanh(x))), r"`erfinv\w*`.*Erfinv"),
    "training": (
        lambda x: layers.GRU(3, dropout=0.5, name="drops")(x, training=True),
        "`drops`.*random",
    ),
    "a dropout": (
        lambda x: read(keras.layers.Dropout(0.5, name="drop")(x, training=True)),
        "`drop`.*random",
    ),
    "a kept state": (lambda x: read(x, stateful=True), "`read`.*stateful.*streaming_model"),
    "a table": (look_up, "`look`.*LookupTable"),
}


@pytest.mark.parametrize("what", CANNOT)
def test_what_cannot_be_exported_is_named_and_leaves_no_file(what, tmp_path):
    build, message = CANNOT[what]
    x = keras.Input(batch_shape=(2, None, FEATURES))
    model = keras.Model(x, build(keras.layers.Dense(FEATURES)(x)))
    (tmp_path / "model.onnx").write_text("the one before")
    with pytest.raises(ValueError, match=message):
        layers.export_onnx(model, tmp_path / "model.onnx")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["the one before"]


def test_it_is_named_among_several_branches_and_inputs(tmp_path):
    a, b = keras.Input((None, FEATURES)), keras.Input((None, FEATURES))
    noisy = keras.layers.GaussianNoise(1, name="noise")(b, training=True)
    last = [layers.GRU(2)(a), layers.GRU(2)(noisy)]
    model = keras.Model([a, b], keras.layers.Dense(1)(keras.layers.Concatenate()(last)))
    with pytest.raises(ValueError, match="`noise`"):
        layers.export_onnx(model, tmp_path / "model.onnx")


def test_an_output_with_another_first_axis_and_a_single_number(tmp_path):
    x = keras.Input((None, FEATURES))
    y = layers.GRU(4, return_sequences=True)(x)
    model = perturbed(keras.Model(x, [keras.ops.transpose(y, (1, 0, 2)), keras.ops.sum(y)]))
    session, _ = exported(model, tmp_path / "model.onnx")
    assert_same(session, model, drawn_inputs(model, 2, 5))


def test_whole_numbers_are_divided_as_in_tensorflow(tmp_path):
    minutes, x = keras.Input((None,), dtype="int32", name="minutes"), keras.Input((None,), name="x")
    both = {"where": keras.ops.where(x > 0, x % 0.7, x // 0.7)}
    both |= {"of": minutes // 7, "rest": minutes % 7, "div": x // 0.7, "mod": x % 0.1}
    model = keras.Model([minutes, x], {**both, "less": minutes // -7, "more": minutes % -7})
    session, _ = exported(model, tmp_path / "model.onnx")
    given = {"minutes": np.arange(-30, 30, dtype="int32")[None], "x": np.arange(-30, 30)[None] / 10}
    given["x"] = given["x"].astype("float32")
    names = [y.name for y in session.get_outputs()]
    found, expected = dict(zip(names, session.run(None, given))), model([*given.values()])
    for name, y in expected.items():
        np.testing.assert_allclose(found[name], y, atol=1e-6)


def test_a_model_that_takes_only_some_lengths_is_compared_at_one_of_them(tmp_path, monkeypatch):
    x = keras.Input((None, 3))
    pairs = keras.Model(x, layers.LSTM(4)(keras.layers.Reshape((-1, 6))(x)))
    fives = keras.Model(x, read(keras.layers.Reshape((-1, 15))(x)))
    sound = keras.Model(x, read(keras.layers.Conv1D(3, 400, 160)(x)))
    for model in (pairs, fives, sound):
        layers.export_onnx(perturbed(model), tmp_path / "model.onnx")
    wrong = nodes.KINDS[LSTMCell]._replace(gates=(0, 1, 2, 3))
    monkeypatch.setitem(nodes.KINDS, LSTMCell, wrong)
    for model in (pairs, fives):
        with pytest.raises(ValueError, match="off by"):
            layers.export_onnx(model, tmp_path / "model.onnx")
    many = keras.Model(x, layers.LSTM(4)(keras.layers.Reshape((-1, 3 * 97))(x)))
    with pytest.raises(ValueError, match="nothing can be compared; if it is for want of a length"):
        layers.export_onnx(many, tmp_path / "model.onnx")


def test_a_large_number_hides_no_other():
    with pytest.raises(ValueError, match="is off by"):
        model_files.compare("y", np.float32([[-1e9, 0.5]]), np.float32([[-1e9, 0.1]]))
    y = np.float32([[1e4, 0.1, -5e3]])  # of a size, and as near as such numbers are
    model_files.compare("y", y + 2e-3, y)


@pytest.mark.parametrize("kind", ["int32", "bool", "float32"])
def test_what_differs_is_found_in_small_and_in_whole_numbers(kind):
    y = np.array([[1, 0, 1]]).astype(kind) if kind != "float32" else np.float32([[1e-5, 4e-5]])
    model_files.compare("y", y.copy(), y)
    with pytest.raises(ValueError, match=r"`y` (differs in 1 of 3|is off by)"):
        model_files.compare("y", np.where(np.arange(y.size) == 1, y == 0, y).astype(kind), y)


def test_a_file_that_answers_otherwise_is_not_written(tmp_path, monkeypatch):
    wrong = nodes.KINDS[LSTMCell]._replace(gates=(0, 1, 2, 3))
    monkeypatch.setitem(nodes.KINDS, LSTMCell, wrong)
    x = keras.Input((None, FEATURES))
    model = keras.Model(x, keras.layers.Dense(2)(read(layers.GRU(3, return_sequences=True)(x))))
    with pytest.raises(ValueError, match=r"`read`.*off by"):
        layers.export_onnx(perturbed(model), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_model_without_a_graph_is_shown_the_way_out(tmp_path):
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.read = layers.LSTM(4)

        def call(self, x):
            return self.read(x)

    x = keras.Input((None, FEATURES))
    with pytest.raises(ValueError, match=r"keras\.Model\(inputs, model\(inputs\)\)"):
        layers.export_onnx(own := Own(), tmp_path / "model.onnx")
    model = keras.Model(x, own(x))
    session, counts = exported(perturbed(model), tmp_path / "model.onnx")
    assert recurrent(counts) == {"LSTM": 1}
    assert_same(session, model, drawn_inputs(model, 2, 5))


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "tf2onnx"])
def test_a_package_that_is_missing_is_named(package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f"{package}.*pip install onnx onnxruntime tf2onnx"):
        layers.export_onnx(keras.Sequential([layers.LSTM(2)]), tmp_path / "model.onnx")


def test_which_cells_are_nodes():
    class Changed(LSTMCell):
        def update(self, x, states, dot):
            return super().update(0.5 * x, states, dot)

    assert nodes.kind_of(LSTMCell(2)).node == "LSTM"
    assert nodes.kind_of(Changed(2)) is None
    assert nodes.kind_of(LSTMCell(2, "softsign")) is None
    assert nodes.kind_of(GRUCell(2, recurrent_activation="relu")).node == "GRU"
    # 1 − relu(a) is no relu of anything.
    replaced = GRUCell(2, recurrent_activation="relu", update_gate="replace")
    assert nodes.kind_of(replaced) is None
