"""Models that keep their numbers when saved, loaded, copied, and described by a config."""

from pathlib import Path

import keras
import numpy as np
import processes
import pytest

import layers

REPOSITORY = Path(__file__).parent.parent
X = np.random.default_rng(0).normal(size=(2, 4, 3)).astype("float32")

LAYERS = {
    "SimpleRNN": lambda: layers.SimpleRNN(2, activation="relu", go_backwards=True),
    "LSTM": lambda: layers.LSTM(2, unit_forget_bias=False, recurrent_activation="hard_sigmoid"),
    "GRU": lambda: layers.GRU(2, reset_after=False, kernel_regularizer="l2", unroll=True),
    "GRU, replace": lambda: layers.GRU(2, update_gate="replace", bias_constraint="non_neg"),
    "Bidirectional": lambda: layers.Bidirectional(layers.LSTM(2), merge_mode="ave"),
    "Bidirectional, two layers": lambda: layers.Bidirectional(
        layers.GRU(2, update_gate="replace"),
        backward_layer=layers.SimpleRNN(2, go_backwards=True),
    ),
    "RNN of a cell": lambda: layers.RNN(layers.GRUCell(2, update_gate="replace")),
    "RNN of a stack": lambda: layers.RNN([layers.LSTMCell(2), layers.SimpleRNNCell(3)]),
    "RNN of a mixed stack": lambda: layers.RNN([keras.layers.GRUCell(2), layers.LSTMCell(3)]),
}


def randomize(model):
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def model():
    """Every layer on one masked input."""
    inputs = keras.Input((4, 3))
    masked = keras.layers.Masking()(inputs)
    outputs = [make()(masked) for make in LAYERS.values()]
    return randomize(keras.Model(inputs, keras.layers.Concatenate()(outputs)))


def types(model):
    return [f"{type(layer).__module__}.{type(layer).__name__}" for layer in model.layers]


def test_a_saved_model_loads(model, tmp_path):
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert types(loaded) == types(model)
    np.testing.assert_array_equal(loaded(X), model(X))


def test_a_saved_model_loads_in_another_process(model, tmp_path):
    model.save(tmp_path / "m.keras")
    np.save(tmp_path / "x.npy", X)
    program = (
        "import layers, keras, numpy\n"
        "y = keras.models.load_model('m.keras')(numpy.load('x.npy'))\n"
        "numpy.save('y.npy', y)"
    )
    program = f"import sys; sys.path.append({str(REPOSITORY)!r})\n{program}"
    processes.run(["-c", program], cwd=tmp_path)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), model(X), rtol=1e-6, atol=1e-6)


def test_a_clone_is_made_of_the_same_layers(model):
    clone = keras.models.clone_model(model)
    assert types(clone) == types(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone(X), model(X))


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_a_config_says_it_all(make):
    layer = make()
    layer.build(X.shape)
    copy = type(layer).from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    copy.build(X.shape)
    copy.set_weights(randomize(layer).get_weights())
    np.testing.assert_array_equal(copy(X), layer(X))


@pytest.mark.parametrize("name", ["SimpleRNN", "LSTM", "GRU"])
def test_a_config_has_every_named_argument(name):
    for layer_class in (getattr(layers, name), getattr(layers, f"{name}Cell")):
        arguments = {"seed": 3, "dropout": 0.1, "recurrent_dropout": 0.2, "use_bias": False}
        config = layer_class(
            2, name="n", trainable=False, dtype="float64", **arguments
        ).get_config()
        assert {key: config[key] for key in arguments} == arguments
        assert (config["name"], config["trainable"]) == ("n", False)
        assert layer_class.from_config(config).compute_dtype == "float64"
