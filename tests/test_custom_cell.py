"""New cells in a few lines: a peephole LSTM, and an LSTM with layers of Keras inside."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from test_export import served

import layers

BATCH, TIME, FEATURES, UNITS = 3, 5, 2, 4
SHAPE = (BATCH, TIME, FEATURES)
HOLES = np.array([[0, 1, 1, 0, 1], [1, 0, 0, 1, 0], [0, 0, 0, 0, 0]], bool)
X = np.random.default_rng(0).normal(size=SHAPE)


@keras.saving.register_keras_serializable(package="tests")
class PeepholeLSTMCell(layers.LSTMCell):
    """The gates see the cell state (Gers & Schmidhuber 2000)."""

    def build(self, input_shape):
        super().build(input_shape)
        self.peephole = self.add_weight(shape=(3, self.units), name="peephole")

    def update(self, x, states, dot):
        h, c = states
        i, f, g, o = ops.split(x + dot(h, self.recurrent_kernel), 4, axis=-1)
        p_i, p_f, p_o = ops.unstack(self.peephole)
        i = self.recurrent_activation(i + p_i * c)
        f = self.recurrent_activation(f + p_f * c)
        c = f * c + i * self.activation(g)
        return self.recurrent_activation(o + p_o * c) * self.activation(c), c


@keras.saving.register_keras_serializable(package="tests")
class PeepholeLSTM(layers.CellLayer):
    cell_class = PeepholeLSTMCell


@keras.saving.register_keras_serializable(package="tests")
class NormalizedLSTMCell(layers.LSTMCell):
    """Layer-normalized (Ba et al. 2016)."""

    def __init__(self, units, **kwargs):
        super().__init__(units, **kwargs)
        names = ("norm_x", "norm_h", "norm_c")
        self.norms = [keras.layers.LayerNormalization(name=n, dtype=self.dtype) for n in names]

    def build(self, input_shape):
        for norm, gates in zip(self.norms, (4, 4, 1)):
            norm.build((None, gates * self.units))
        super().build(input_shape)

    def update(self, x, states, dot):
        h, c = states
        norm_x, norm_h, norm_c = self.norms
        inner = norm_x(x) + norm_h(dot(h, self.recurrent_kernel))
        i, f, g, o = ops.split(inner, 4, axis=-1)
        i, f, o = map(self.recurrent_activation, (i, f, o))
        c = f * c + i * self.activation(g)
        return o * self.activation(norm_c(c)), c


# --- The same equations step by step, with m numpy or TensorFlow ------------------------


def sigmoid(m, a):
    return 1 / (1 + m.exp(-a))


def peephole(m, x, h, c, U, W, b, p):
    i, f, g, o = m.split(x @ U + h @ W + b, 4, axis=-1)
    i, f = sigmoid(m, i + p[0] * c), sigmoid(m, f + p[1] * c)
    c = f * c + i * m.tanh(g)
    return sigmoid(m, o + p[2] * c) * m.tanh(c), c


def normalized(m, x, h, c, U, W, b, *norms):
    def norm(a, scale, shift):
        mean = m.reduce_mean(a, -1, keepdims=True)
        variance = m.reduce_mean((a - mean) ** 2, -1, keepdims=True)
        return (a - mean) / m.sqrt(variance + 1e-3) * scale + shift

    inner = norm(x @ U + b, *norms[:2]) + norm(h @ W, *norms[2:4])
    i, f, g, o = m.split(inner, 4, axis=-1)
    c = sigmoid(m, f) * c + sigmoid(m, i) * m.tanh(g)
    return sigmoid(m, o) * m.tanh(norm(c, *norms[4:])), c


def unrolled(m, step, x, weights, mask):
    """All outputs, and the last h and c."""
    y = h = c = np.zeros((BATCH, UNITS))
    outputs = []
    for t in range(TIME):
        counts = mask[:, t, None]
        new_h, new_c = step(m, x[:, t], h, c, *weights)
        y, h, c = (m.where(counts, new, old) for new, old in ((new_h, y), (new_h, h), (new_c, c)))
        outputs.append(y)
    return m.stack(outputs, axis=1), h, c


def built(layer, shape=SHAPE):
    if not layer.built:
        layer.build(shape)
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    return layer


def assert_close(ours, expected):
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


ALL = {"return_sequences": True, "return_state": True, "dtype": "float64"}
LAYERS = {
    "a layer of its own": lambda **kwargs: PeepholeLSTM(UNITS, **ALL, **kwargs),
    "in RNN": lambda **kwargs: layers.RNN(
        PeepholeLSTMCell(UNITS, dtype="float64"), **ALL, **kwargs
    ),
}
MASKS = {"none": None, "holes": HOLES}


@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_peephole(make, mask, unroll):
    layer = built(make(unroll=unroll))
    counts = np.ones((BATCH, TIME), bool) if mask is None else mask
    expected = unrolled(np, peephole, X, layer.get_weights(), counts)
    assert_close(layer(X, mask=mask), expected)


def test_peephole_in_both_directions():
    make = PeepholeLSTM(UNITS, return_sequences=True, dtype="float64")
    layer = built(layers.Bidirectional(make, dtype="float64"))
    weights = layer.get_weights()
    ahead, *_ = unrolled(np, peephole, X, weights[:4], HOLES)
    back, *_ = unrolled(np, peephole, X[:, ::-1], weights[4:], HOLES[:, ::-1])
    expected = np.concatenate([ahead, back[:, ::-1]], axis=-1) * HOLES[..., None]
    assert_close([layer(X, mask=HOLES)], [expected])


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("cell", ["peephole", "normalized"])
@pytest.mark.parametrize("graph", [False, True])
def test_gradients(cell, mask, graph):
    cell_class, step = {
        "peephole": (PeepholeLSTMCell, peephole),
        "normalized": (NormalizedLSTMCell, normalized),
    }[cell]
    layer = built(layers.RNN(cell_class(UNITS, dtype="float64"), **ALL))
    counts = np.ones((BATCH, TIME), bool) if mask is None else mask
    x, weights = tf.constant(X), [w.value for w in layer.trainable_weights]

    def gradients(results):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y, h, c = results()
            total = tf.reduce_sum(tf.sin(y)) + tf.reduce_sum(h * c)
        return y, *tape.gradient(total, [x, *weights])

    ours, expected = (tf.function(gradients) if graph else gradients for _ in range(2))
    ours = ours(lambda: layer(x, mask=mask))
    expected = expected(lambda: unrolled(tf, step, x, weights, counts))
    assert len(ours) == 2 + len(layer.weights)
    assert_close(ours, expected)


def test_saved_and_exported(tmp_path):
    inputs = keras.Input((None, FEATURES))
    cell = layers.RNN(NormalizedLSTMCell(UNITS), return_sequences=True)
    model = keras.Model(inputs, layers.Bidirectional(cell)(keras.layers.Masking()(inputs)))
    built(model)
    x = (X * HOLES[..., None]).astype("float32")
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert type(loaded.layers[-1].forward_layer.cell) is NormalizedLSTMCell
    np.testing.assert_array_equal(loaded(x), model(x))
    for y, part in zip(served(model, tmp_path, [x, x[:2, :3]]), [x, x[:2, :3]]):
        np.testing.assert_allclose(y, model(part), rtol=1e-5, atol=1e-5)


def test_a_layer_of_its_own_is_saved_by_name(tmp_path):
    model = keras.Sequential([keras.Input((TIME, FEATURES)), PeepholeLSTM(UNITS)])
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert type(loaded.layers[0]) is PeepholeLSTM
    np.testing.assert_array_equal(loaded(X), model(X))


def test_a_cell_that_defines_call_is_run_by_its_call():
    class Doubled(layers.SimpleRNNCell):
        def call(self, inputs, states, training=False):
            output, states = super().call(inputs, states, training=training)
            return 2 * output, states

    layer = built(layers.RNN(Doubled(UNITS), return_sequences=True))
    plain = built(layers.SimpleRNN(UNITS, return_sequences=True))
    np.testing.assert_allclose(layer(X), 2 * plain(X), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("graph", [False, True])
def test_a_dropout_inside_draws_a_mask_for_every_step_of_every_batch(graph):
    class NoisyCell(layers.SimpleRNNCell):
        def __init__(self, units, **kwargs):
            super().__init__(units, **kwargs)
            self.noise = keras.layers.Dropout(0.5, seed=1)

        def update(self, x, states, dot):
            (h,) = super().update(x, states, dot)
            return (self.noise(h),)

    layer = built(layers.RNN(NoisyCell(8 * UNITS), return_sequences=True))
    run = tf.function(layer) if graph else layer
    dropped = np.concatenate([run(X, training=True).numpy() == 0 for _ in range(2)], axis=1)
    masks = {tuple(step) for step in dropped[0]}
    assert len(masks) == 2 * TIME


def test_a_projection_knows_how_many_features_there_are():
    @keras.saving.register_keras_serializable(package="tests")
    class Scaled(layers.SimpleRNNCell):
        def project(self, inputs, masks=None, training=False):
            return super().project(inputs / inputs.shape[-1] ** 0.5, masks, training)

    layer = layers.RNN(Scaled(4), return_sequences=True)
    x = np.random.default_rng(0).normal(size=(2, 9, 3)).astype("float32")
    expected = layer(x)  # eagerly, step by step
    unknown = tf.function(layer, input_signature=[tf.TensorSpec((None, None, 3))])
    np.testing.assert_allclose(unknown(x), expected, rtol=1e-5, atol=1e-6)
