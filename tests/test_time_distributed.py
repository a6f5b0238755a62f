"""Keras's TimeDistributed, with all steps where their number is not known."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import portable_ops

import layers

SIZES = [(2, 5), (5, 2), (1, 1), (3, 0), (0, 3)]


def numbers(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


INSIDE = {
    "dense": (lambda: keras.layers.Dense(4, activation="tanh"), (3,)),
    "convolution": (lambda: keras.layers.Conv1D(2, 3), (7, 3)),
    "recurrent": (lambda: layers.GRU(4), (6, 3)),
}


def built(inside):
    make, shape = INSIDE[inside]
    x = keras.Input((None, *shape))
    return keras.Model(x, layers.TimeDistributed(make())(x)), shape


def each_step(model, x):
    """The layer inside on one step after the other."""
    layer = model.layers[-1].layer
    found = [layer(x[:, t]).numpy() for t in range(x.shape[1])]
    return np.stack(found, 1) if found else np.zeros((len(x), 0, *model.output_shape[2:]), "f4")


@pytest.mark.parametrize("inside", INSIDE)
def test_all_steps_are_run_in_a_graph_of_unknown_length(inside, tmp_path):
    model, shape = built(inside)
    model.export(tmp_path, verbose=False)
    portable_ops(tmp_path)
    loaded = tf.saved_model.load(tmp_path)
    for size in SIZES:
        if inside == "convolution" and 0 in size:
            continue  # TensorFlow's refuses a batch of no rows
        x = numbers(*size, *shape)
        expected = each_step(model, x)
        np.testing.assert_allclose(loaded.serve(x), expected, atol=1e-6)
        np.testing.assert_allclose(model(x), expected, atol=1e-6)


def test_a_mask_reaches_the_layer_inside():
    rnn = layers.TimeDistributed(layers.LSTM(4))
    x, mask = numbers(2, 5, 6, 3), np.random.default_rng(1).random((2, 5, 6)) < 0.6
    rnn(x)
    specs = [tf.TensorSpec([None, None, 6, 3]), tf.TensorSpec([None, None, 6], tf.bool)]
    found = tf.function(lambda x, mask: rnn(x, mask=mask), specs)(x, mask)
    expected = [rnn.layer(x[:, t], mask=mask[:, t]) for t in range(5)]
    np.testing.assert_allclose(found, np.stack(expected, 1), atol=1e-6)
    np.testing.assert_allclose(rnn(x, mask=mask), found, atol=1e-6)


def test_it_is_trained_as_keras_trains_it_where_the_length_is_known():
    x = numbers(6, 5, 3)
    results = []
    for wrapper, length in ((keras.layers.TimeDistributed, 5), (layers.TimeDistributed, None)):
        inputs = keras.Input((length, 3))
        model = keras.Model(inputs, wrapper(keras.layers.Dense(2))(inputs))
        model.set_weights([numbers(*w.shape) for w in model.get_weights()])
        model.compile(keras.optimizers.SGD(0.1), "mse")
        model.fit(x, x[..., :2], batch_size=4, epochs=2, shuffle=False, verbose=0)
        results.append(model.get_weights())
    for a, b in zip(*results):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_it_is_saved_and_takes_kerass_configuration(tmp_path):
    model, shape = built("dense")
    model.save(tmp_path / "m.keras")
    x = numbers(2, 5, *shape)
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "m.keras")(x), model(x))
    theirs = keras.layers.TimeDistributed(keras.layers.Dense(3), name="same")
    assert layers.TimeDistributed.from_config(theirs.get_config()).get_config() == (
        theirs.get_config()
    )


@pytest.mark.parametrize("wrapper", [keras.layers.TimeDistributed, layers.TimeDistributed])
def test_a_stream_runs_all_steps_of_a_chunk(wrapper):
    x = keras.Input((None, 3), name="x")
    y = wrapper(keras.layers.Dense(2), name="y")(layers.GRU(4, return_sequences=True, name="r")(x))
    model = keras.Model(x, y)
    stream, inputs = layers.streaming_signatures(model)["stream"]
    values, state, found = numbers(2, 6, 3), tf.zeros((2, 4)), []
    for chunk in (slice(0, 4), slice(4, 5), slice(5, 6)):
        answer = stream(tf.constant(values[:, chunk]), state)
        state = answer["r_state_0"]
        found.append(answer["y"])
    assert list(inputs) == ["x", "r_state_0"]
    np.testing.assert_allclose(np.concatenate(found, 1), model(values), atol=1e-6)
