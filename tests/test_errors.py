"""Each error says which argument it is about, what came, and what was expected."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import layers

FEATURES, UNITS = 3, 2
LAYERS = [layers.SimpleRNN, layers.LSTM, layers.GRU]


def zeros(*shape):
    return np.zeros(shape, "float32")


X = zeros(4, 5, FEATURES)
STATE = zeros(4, UNITS)


def assert_says(error, *parts):
    message = str(error.value)
    assert [part for part in parts if part not in message] == [], message


@pytest.mark.parametrize("shape", [(4, FEATURES), (4, 5, FEATURES, 1)])
@pytest.mark.parametrize(
    "layer",
    [
        *(layer(UNITS) for layer in LAYERS),
        layers.RNN(layers.LSTMCell(UNITS)),
        layers.RNN([layers.LSTMCell(UNITS), layers.GRUCell(UNITS)]),
        layers.Bidirectional(layers.LSTM(UNITS)),
    ],
)
def test_rank(layer, shape):
    with pytest.raises(ValueError) as error:
        layer(zeros(*shape))
    assert_says(error, layer.name, "expected ndim=3", f"found ndim={len(shape)}", str(shape))


@pytest.mark.parametrize("units", [0, -1, 2.5, None, "many"])
@pytest.mark.parametrize("make", [*LAYERS, layers.SimpleRNNCell, layers.LSTMCell, layers.GRUCell])
def test_units(make, units):
    with pytest.raises(ValueError) as error:
        make(units)
    assert_says(error, "`units`", "positive integer", f"got {units}")


def test_merge_mode():
    with pytest.raises(ValueError) as error:
        layers.Bidirectional(layers.LSTM(UNITS), merge_mode="max")
    assert_says(error, "merge mode", "max", "sum", "mul", "ave", "concat", "None")


def test_one_direction_twice():
    with pytest.raises(ValueError) as error:
        layers.Bidirectional(layers.LSTM(UNITS), backward_layer=layers.LSTM(UNITS))
    assert_says(error, "`go_backwards`", "different", "False")


@pytest.mark.parametrize("make", [layers.GRU, layers.GRUCell])
def test_update_gate(make):
    with pytest.raises(ValueError) as error:
        make(UNITS, update_gate="forget")
    assert_says(error, "`update_gate`", "'keep' or 'replace'", "'forget'")


@pytest.mark.parametrize("shape", [(4, UNITS + 1), (3, UNITS), (UNITS,), (4, 5, UNITS)])
def test_shape_of_a_state(shape):
    with pytest.raises(ValueError) as error:
        layers.LSTM(UNITS)(X, initial_state=[STATE, zeros(*shape)])
    assert_says(error, "initial_state[1]", str(shape), "(batch, units) = (4, 2)")


@pytest.mark.parametrize("states", [STATE, [], [STATE], [STATE] * 3])
def test_number_of_states(states):
    number = len(states) if isinstance(states, list) else 1
    with pytest.raises(ValueError) as error:
        layers.LSTM(UNITS)(X, initial_state=states)
    assert_says(error, "`initial_state`", f"got {number}", "expected 2")
    with pytest.raises(ValueError) as error:
        layers.Bidirectional(layers.LSTM(UNITS))(X, initial_state=states)
    assert_says(error, "`initial_state`", f"got {number}", "expected 4")


@pytest.mark.parametrize("states", [[[STATE], STATE], [[STATE] * 3, STATE], [STATE, STATE]])
def test_number_of_states_in_a_stack(states):
    layer = layers.RNN([layers.LSTMCell(UNITS), layers.GRUCell(UNITS)])
    with pytest.raises(ValueError) as error:
        layer(X, initial_state=states)
    assert_says(error, layer.name, "initial_state", "[[2, 2], 2]")


@pytest.mark.parametrize("shape", [(4, 6), (3, 5), (5,), (4, 5, FEATURES)])
@pytest.mark.parametrize("wrap", [lambda layer: layer, layers.Bidirectional])
def test_shape_of_a_mask(wrap, shape):
    with pytest.raises(ValueError) as error:
        wrap(layers.GRU(UNITS))(X, mask=np.ones(shape, bool))
    assert_says(error, "`mask`", str(shape), "(batch, time) = (4, 5)")


@pytest.mark.parametrize("wrap", [lambda layer: layer, layers.Bidirectional])
def test_ragged(wrap):
    ragged = tf.RaggedTensor.from_row_lengths(zeros(5, FEATURES), [2, 3])
    with pytest.raises(ValueError) as error:
        wrap(layers.LSTM(UNITS))(ragged)
    assert_says(error, "ragged `sequences`", "(batch, time, features)", "to_tensor", "mask")


@pytest.mark.parametrize("layer", LAYERS)
def test_stateful_without_a_batch_size(layer):
    with pytest.raises(ValueError) as error:
        layer(UNITS, stateful=True)(keras.Input((5, FEATURES)))
    assert_says(error, "`stateful=True`", "batch size must be static", "(None, 5, 3)")


def test_unroll_of_unknown_length():
    layer = layers.LSTM(UNITS, unroll=True)
    run = tf.function(lambda x: layer(x), input_signature=[tf.TensorSpec([4, None, FEATURES])])
    with pytest.raises(ValueError) as error:
        run(X)
    assert_says(error, "unroll", "time dimension is undefined")


@pytest.mark.parametrize("make", [*LAYERS, lambda units: layers.RNN(layers.LSTMCell(units))])
def test_unknown_features(make):
    with pytest.raises(ValueError) as error:
        make(UNITS)(keras.Input((5, None)))
    assert_says(error, "features", "last dimension must be an integer", "(None, None)")


@pytest.mark.parametrize("make", [*LAYERS, layers.SimpleRNNCell, layers.LSTMCell, layers.GRUCell])
def test_unknown_keyword(make):
    with pytest.raises(ValueError) as error:
        make(UNITS, layers=2)
    assert_says(error, make.__name__, "{'layers': 2}")


@pytest.mark.parametrize("make", LAYERS)
def test_too_many_positional_arguments(make):
    with pytest.raises(TypeError) as error:
        make(UNITS, *("tanh",) * 20)
    assert_says(error, make.__name__, "positional arguments")


@pytest.mark.parametrize("make", LAYERS)
def test_no_units(make):
    with pytest.raises(TypeError) as error:
        make()
    assert_says(error, make.__name__, "units")


def test_a_wrong_number_of_features_is_named():
    layer = layers.LSTM(2)
    layer(np.zeros((1, 2, 3), "float32"))
    with pytest.raises(ValueError, match=r"axis -1.*to have value 3.*\(1, 2, 4\)"):
        layer(np.zeros((1, 2, 4), "float32"))
