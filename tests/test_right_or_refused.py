"""Cells and calls outside of the usual shape: right in every way to run them, or refused.

What is expected comes from the equations, written out with TensorFlow or numpy, from finite
differences, or is a number that was worked out by hand.
"""

import contextlib
import contextvars

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import layers
from layers.recurrence import parts, rows

pytestmark = pytest.mark.usefixtures("without_graph_optimizer")

FEATURES, UNITS = 3, 4
WAYS = {
    "eager": None,
    "default": None,
    "any size": None,
    "XLA": None,
    "loop": "loop",
    "derived": "derived",
    "compiled": "compiled",
    "fused": "fused",
}


def cell_class(function, **more):
    """A cell that is one function of (cell, x, h, dot), its only state h."""

    def update(self, x, states, dot):
        return (function(self, x, states[0], dot),)

    return type("OwnCell", (layers.Cell,), {"gates": 1, "update": update, **more})


def layer_of(cell_type, units=UNITS, features=FEATURES, way=None, **arguments):
    cell = cell_type(units, dtype="float64", **arguments)
    layer = layers.RNN(cell, return_sequences=True, recurrence=WAYS.get(way), dtype="float64")
    layer.build((None, None, features))
    rng = np.random.default_rng(0)
    layer.set_weights([0.5 * rng.normal(size=w.shape) for w in layer.get_weights()])
    return layer


def called(way, function, *tensors):
    """`function(*tensors)`: eagerly, in a graph that knows sizes or does not, or in XLA."""
    if way == "eager":
        return function(*tensors)

    def shape(t):
        free = way in ("any size", "derived")
        return [None] * (t.shape.rank - 1) + [t.shape[-1]] if free else t.shape

    specs = [tf.TensorSpec(shape(t), t.dtype) for t in tensors]
    graph = tf.function(function, input_signature=specs, jit_compile=way == "XLA" or None)
    return graph(*tensors)


def gradients_of(layer, way, *tensors, training=True):
    """Outputs, and the gradients of the tensors and all weights."""
    weights = [w.value for w in layer.trainable_weights]

    def results(x, *constants):
        further = {"constants": list(constants)} if constants else {}
        with tf.GradientTape() as tape:
            tape.watch([x, *constants])
            y = layer(x, training=training, **further)
            total = tf.reduce_sum(tf.sin(y))
        return y, *tape.gradient(total, [x, *constants, *weights], unconnected_gradients="zero")

    return called(way, results, *tensors)


def by_hand(step, layer, x, *constants):
    """The same from the equations: h ← step(x U + b, h, W), differentiated by TensorFlow."""
    kernel, recurrent, bias = weights = [tf.constant(w) for w in layer.get_weights()]
    with tf.GradientTape() as tape:
        tape.watch([x, *constants, *weights])
        h, outputs = tf.zeros((x.shape[0], recurrent.shape[0]), x.dtype), []
        for t in range(x.shape[1]):
            h = step(x[:, t] @ kernel + bias, h, recurrent, *constants)
            outputs.append(h)
        y = tf.stack(outputs, 1)
        total = tf.reduce_sum(tf.sin(y))
    return y, *tape.gradient(total, [x, *constants, *weights], unconnected_gradients="zero")


def assert_close(ours, expected):
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)


def batch(rows, time=7, features=FEATURES, seed=1):
    return tf.constant(np.random.default_rng(seed).normal(size=(rows, time, features)))


@pytest.fixture(autouse=True)
def short_parts(monkeypatch):
    monkeypatch.setattr(parts, "KNOWN", 4)
    monkeypatch.setattr(parts, "UNKNOWN", 4)


# --- Gradients of steps of any shape -----------------------------------------------------------


def one_hot(h):
    return tf.one_hot(tf.argmax(h, -1), h.shape[-1], dtype=h.dtype)


def in_a_condition(x, h, W, dot):
    positive, negative = (lambda: tf.tanh(x + dot(h, W))), (lambda: tf.tanh(x - dot(h, W)))
    return tf.cond(tf.reduce_sum(x) > 0, positive, negative)


def doubled_in_a_condition(x, h, W, dot):
    h = tf.cond(tf.reduce_sum(h) > -99, lambda: h + h, lambda: h)
    return tf.tanh(x + dot(h, W))


def read_again(x, h, W, dot):
    p = dot(h, W)
    return tf.tanh(x + p) / (1 + tf.abs(tf.stop_gradient(p)))


def chosen_by_it(x, h, W, dot):
    p = dot(h, W)
    return tf.where(p < 0.1, tf.tanh(x + p), 0.5 * h)


def halved_in_a_loop(x, h, W, dot):
    p = dot(h, W)
    (p,) = tf.while_loop(lambda p: tf.reduce_max(tf.abs(p)) > 1, lambda p: (p / 2,), (p,))
    return tf.tanh(x + p)


def by_its_text(x, h, W, dot):
    length = tf.strings.length(tf.strings.as_string(tf.round(h)))
    return tf.tanh(x + dot(h, W)) / tf.cast(length, x.dtype)


def down_a_slope(x, h, W, dot):
    """The update differentiates a product, and the gradient's gradient is of W too."""
    with tf.GradientTape() as tape:
        tape.watch(h)
        energy = tf.reduce_sum(tf.tanh(dot(h, W) + x) ** 2)
    return tf.tanh(x + h - 0.3 * tape.gradient(energy, h))


def normalized(x, h, W, dot):
    a = x + dot(h, W)
    return a / tf.norm(a, axis=-1, keepdims=True)


def heads_in_the_rows(x, h, W, dot):
    halves = dot(tf.reshape(h, (-1, UNITS // 2)), W[: UNITS // 2, : UNITS // 2])
    return tf.tanh(x + dot(h, W) + tf.reshape(halves, (-1, UNITS)))


STEPS = {
    "dot of what carries no gradient": lambda x, h, W, dot: (
        tf.tanh(x) * tf.sigmoid(dot(tf.stop_gradient(h), W))
    ),
    "dot of one-hot": lambda x, h, W, dot: tf.tanh(x + 0.3 * h) + dot(one_hot(h), W),
    "dot of ones": lambda x, h, W, dot: tf.tanh(x * h) + dot(tf.ones_like(x), W),
    "the product read without a gradient": read_again,
    "a choice by x": lambda x, h, W, dot: tf.where(x > 0.1, tf.tanh(x + dot(h, W)), h),
    "a choice by the product": chosen_by_it,
    "x read without a gradient": lambda x, h, W, dot: (
        tf.tanh(x + dot(h, W)) * tf.stop_gradient(tf.sigmoid(x))
    ),
    "two sums": lambda x, h, W, dot: tf.tanh(x + dot(h, W) + dot(tf.sin(h), W)),
    "a product of a product": lambda x, h, W, dot: tf.tanh(x + dot(tf.sin(dot(h, W)), W)),
    "a kernel made of the weight": lambda x, h, W, dot: tf.tanh(x + dot(h, tf.tanh(W))),
    "heads in the rows": heads_in_the_rows,
    "a product of no rows of the batch": lambda x, h, W, dot: tf.tanh(
        x + dot(tf.sin(h), W) * tf.reduce_sum(dot(tf.eye(UNITS, dtype=x.dtype), W))
    ),
    "tf.matmul": lambda x, h, W, dot: tf.tanh(x + tf.matmul(h, W)),
    "a norm": normalized,
    "a gradient in a step": down_a_slope,
    "dot in a condition": in_a_condition,
    "a sum in a condition": doubled_in_a_condition,
    "a loop inside": halved_in_a_loop,
    "what XLA has not": by_its_text,
    "the mean over the batch": lambda x, h, W, dot: tf.tanh(
        x + dot(h, W) - tf.reduce_mean(x, 0, keepdims=True)
    ),
    "x is not used": lambda x, h, W, dot: tf.tanh(1 + dot(h, W)),
}
NOT_IN_XLA = {"what XLA has not": "AsString", "a loop inside": None}


@pytest.mark.parametrize("name", STEPS)
def test_gradients(name):
    step = STEPS[name]
    own = cell_class(lambda cell, x, h, dot: step(x, h, tf.convert_to_tensor(cell.recurrent_kernel)
                     if name in ("tf.matmul", "a kernel made of the weight")
                     else cell.recurrent_kernel, dot))  # fmt: skip
    x, expected = batch(rows.FEW + 1, time=5), None
    for way in WAYS:
        # What is compiled is what "default" runs; no operation runs these cells whole.
        if way in ("compiled", "fused") or (way == "XLA" and name in NOT_IN_XLA):
            continue
        layer = layer_of(own, way=way)  # each with the same weights
        expected = expected or by_hand(lambda x, h, W: step(x, h, W, tf.matmul), layer, x)
        assert_close(gradients_of(layer, way, x), expected)
        if way == "any size":
            assert_close(gradients_of(layer, way, x, training=False), expected)


def pairs_of_rows(x, h, W, dot):
    both = dot(tf.reshape(tf.sin(h), (-1, 2 * UNITS)), tf.concat([W, 0.5 * W], 0))
    return tf.tanh(x + tf.repeat(both, 2, axis=0))


def test_gradients_of_a_product_of_fewer_rows():
    own = cell_class(lambda cell, x, h, dot: pairs_of_rows(
        x, h, tf.convert_to_tensor(cell.recurrent_kernel), dot))  # fmt: skip
    x = batch(rows.FEW + 2, time=5)
    expected = by_hand(lambda x, h, W: pairs_of_rows(x, h, W, tf.matmul), layer_of(own), x)
    for way in ("default", "any size", "derived"):
        assert_close(gradients_of(layer_of(own, way=way), way, x), expected)


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (2, 70, 1, 4), (3, 1, 2, 1)])
@pytest.mark.parametrize("name", ["SimpleRNN", "LSTM", "GRU"])
def test_sizes_of_one(name, sizes):
    count, time, features, units = sizes
    x = tf.cast(batch(count, time, features), "float32")
    ours, theirs = (getattr(library, name)(units) for library in (layers, keras.layers))
    ours(x), theirs(x)
    ours.set_weights(theirs.get_weights())
    expected = gradients_of(theirs, "default", x)
    for way in ("default", "XLA"):
        for a, b in zip(gradients_of(ours, way, x), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_univariate_series_is_fitted_as_keras_fits_it():
    x = np.random.default_rng(0).normal(size=(64, 100, 1)).astype("float32")
    results = []
    for library in (keras.layers, layers):
        model = keras.Sequential([keras.Input((100, 1)), library.LSTM(8), keras.layers.Dense(1)])
        model.set_weights(results[0][0] if results else model.get_weights())
        start = model.get_weights()
        model.compile(keras.optimizers.SGD(0.1), "mse")
        losses = model.fit(x, x.sum(1), batch_size=32, epochs=2, shuffle=False, verbose=0)
        results.append((start, losses.history["loss"], model.get_weights()))
    for a, b in zip(tf.nest.flatten(results[1]), tf.nest.flatten(results[0]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


# --- Derivatives of other kinds ----------------------------------------------------------------


def linear_layer(recurrence=None):
    """h_t = x_t + h_{t-1}, of one unit."""
    layer = layers.SimpleRNN(1, activation=None, use_bias=False, recurrence=recurrence)
    layer.build((None, None, 1))
    layer.set_weights([np.ones((1, 1)), np.ones((1, 1))])
    return layer


@pytest.mark.parametrize("way", WAYS)
def test_a_penalty_on_the_gradient(way):
    layer = linear_layer(WAYS[way])
    kernel = layer.cell.kernel.value

    def slope(x):
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = tf.reduce_sum(layer(x, training=True))
            loss = y + tf.reduce_sum(inner.gradient(y, x) ** 2)
        return outer.gradient(loss, kernel)

    np.testing.assert_allclose(called(way, slope, tf.ones((1, 1, 1))), [[3.0]])  # x + 2 w


def test_a_second_derivative_with_both_tapes_outside():
    layer = layers.SimpleRNN(UNITS, dtype="float64", activation=tf.sin)
    x, call = batch(2), tf.function(layer)
    layer(x)

    def curvature(call):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = tf.reduce_sum(call(x, training=True))
            slope = tf.reduce_sum(inner.gradient(y, x) ** 2)
        return outer.gradient(slope, [x, *[w.value for w in layer.weights]])

    assert_close(curvature(call), curvature(layer))


@pytest.mark.parametrize("way", [way for way in WAYS if way != "XLA"])
@pytest.mark.parametrize("training", [False, True])
def test_forward_mode(way, training):
    layer = linear_layer(WAYS[way])
    call = layer if way == "eager" else tf.function(layer)
    x = tf.ones((1, 12, 1))
    with tf.autodiff.ForwardAccumulator(x, tf.ones_like(x)) as accumulator:
        y = call(x, training=training)
    np.testing.assert_allclose(accumulator.jvp(y), [[12.0]])


@pytest.mark.parametrize("way", ["default", "compiled", "derived", "loop"])
@pytest.mark.parametrize("around", ["while", "map", "cond"])
def test_within_control_flow_with_the_tape_outside(around, way):
    layer = layers.GRU(UNITS, recurrence=WAYS[way], dtype="float64")
    layer.build((None, None, FEATURES))
    weights, x = [w.value for w in layer.weights], batch(3)

    def call(x):
        return tf.reduce_sum(layer(x, training=True) ** 2)

    def total(x):
        if around == "map":
            return tf.reduce_sum(tf.map_fn(lambda row: call(row[None]), x))
        if around == "cond":
            return tf.cond(tf.reduce_sum(x) < 1e9, lambda: call(x), lambda: tf.zeros((), x.dtype))
        _, y = tf.while_loop(
            lambda k, y: k < 3,
            lambda k, y: (k + 1, y + call(x[k : k + 1])),
            (0, tf.zeros((), x.dtype)),
        )
        return y

    def gradients(x, total):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = total(x)
        return y, *tape.gradient(y, [x, *weights])

    assert_close(tf.function(gradients)(x, total), gradients(x, call))


# --- What a step does besides -------------------------------------------------------------------


class Counting(layers.SimpleRNNCell):
    """Counts its steps in a weight."""

    def build(self, input_shape):
        super().build(input_shape)
        self.count = self.add_weight((), "zeros", trainable=False, name="count")

    def update(self, x, states, dot):
        self.count.assign(self.count + 1)
        return (self.activation(x + dot(states[0], self.recurrent_kernel)) * self.count,)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("way", [way for way in WAYS if way != "fused"])
def test_a_weight_that_a_step_assigns(way, training):
    layer = layer_of(Counting, way=way, use_bias=False)
    x, count = batch(rows.FEW), layer.cell.count
    for calls in (1, 2):
        count.assign(0)
        kernel, recurrent, _ = layer.get_weights()
        h = np.zeros((rows.FEW, UNITS))
        for t in range(7):
            h = np.tanh(x[:, t] @ kernel + h @ recurrent) * (t + 1)
        y = called(way, lambda x: layer(x, training=training), x)
        np.testing.assert_allclose(y[:, -1], h)
        assert count.numpy() == 7, calls


class CountingOutside(layers.SimpleRNNCell):
    """Counts its steps in what is no weight of its own."""

    def __init__(self, units, **kwargs):
        super().__init__(units, **kwargs)
        self.count = tf.Variable(0)

    def update(self, x, states, dot):
        self.count.assign_add(1)
        return super().update(x, states, dot)


@pytest.mark.parametrize("way", ["default", "any size", "loop"])
def test_the_last_output_is_the_last_state_of_what_was_drawn(way):
    cell = cell_class(lambda cell, x, h, dot: x + tf.random.normal(tf.shape(x), dtype=x.dtype))
    layer = layer_of(cell, way=way)
    layer.return_state = True
    y, h = called(way, layer, batch(2, time=5))
    np.testing.assert_array_equal(y[:, -1], h)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("way", [way for way in WAYS if way != "fused"])
def test_what_a_step_does_outside_is_done_once_for_each(way, training):
    layer, x = layer_of(CountingOutside, way=way), batch(rows.FEW)
    called(way, lambda x: layer(x, training=training), x)
    assert layer.cell.count.numpy() == x.shape[1]


@pytest.mark.parametrize("size", [2, rows.FEW + 1])
def test_batch_normalization_in_a_step(size):
    class Normalized(layers.SimpleRNNCell):
        def build(self, input_shape):
            super().build(input_shape)
            self.norm = keras.layers.BatchNormalization(dtype=self.dtype)
            self.norm.build((None, self.units))

        def update(self, x, states, dot):
            return (self.norm(x + dot(states[0], self.recurrent_kernel), training=True),)

    layer, x = layer_of(Normalized), batch(size)
    layer.cell.norm.set_weights([np.ones(4), np.zeros(4), np.zeros(4), np.ones(4)])
    kernel, recurrent, bias, *_ = layer.get_weights()
    h, mean = np.zeros((size, UNITS)), np.zeros(UNITS)
    for t in range(7):
        a = x[:, t].numpy() @ kernel + bias + h @ recurrent
        h = (a - a.mean(0)) / np.sqrt(a.var(0) + 1e-3)
        mean = 0.99 * mean + 0.01 * a.mean(0)
    for way in ("eager", "default", "any size"):
        for training in (False, True):
            layer.cell.norm.moving_mean.assign(np.zeros(4))
            y = called(way, lambda x: layer(x, training=training), x)  # noqa: B023
            np.testing.assert_allclose(y[:, -1], h, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(layer.cell.norm.moving_mean, mean, rtol=1e-5, atol=1e-7)


def test_a_loss_added_in_a_step_is_refused():
    def step(cell, x, h, dot):
        cell.add_loss(tf.reduce_sum(h))
        return x

    layer = layer_of(cell_class(step))
    for way in ("eager", "default"):
        with pytest.raises(NotImplementedError, match=r"a loss in a step.*a state of its own"):
            called(way, layer, batch(2))


class Steps(layers.SimpleRNNCell):
    """It counts them, and looks back in every other one."""

    def __init__(self, units, **kwargs):
        super().__init__(units, **kwargs)
        self.state_size = [units, 1]

    def update(self, x, states, dot):
        h, count = states
        even = tf.one_hot(count[:, 0] % 2, 1)
        return tf.tanh(x + even * dot(h, self.recurrent_kernel)), count + 1

    def get_initial_state(self, batch_size=None):
        h, count = super().get_initial_state(batch_size)
        return [h, tf.cast(count, "int32")]


@pytest.mark.parametrize("way", ["eager", "default", "any size", "derived"])
def test_a_state_of_integers_stays_one(way):
    layer = layers.RNN(Steps(UNITS), return_state=True, recurrence=WAYS[way])
    x = tf.cast(batch(2), "float32")
    layer.build((None, None, FEATURES))
    for training in (False, True):
        *_, count = called(way, lambda x: layer(x, training=training), x)  # noqa: B023
        assert count.dtype == tf.int32
        np.testing.assert_array_equal(count, [[7], [7]])


@pytest.mark.parametrize("kind", ["of integers", "of float16"])
def test_a_stream_begins_with_states_that_it_takes(kind):
    cell = Steps(UNITS) if kind == "of integers" else layers.LSTMCell(UNITS, dtype="mixed_float16")
    x = keras.Input((None, FEATURES), name="x")
    layer = layers.RNN(cell, return_sequences=True, dtype="float32", name="read")
    model = keras.Model(x, layer(x))
    made = layers.streaming_signatures(model)
    stream, begin = made["stream"][0], made["initial_state"][0]
    states, data, pieces = begin(tf.constant(2)), tf.cast(batch(2), "float32"), []
    for piece in tf.split(data, [3, 4], axis=1):
        given = {"x": piece, **states}
        answer = stream(*(given[name] for name in made["stream"][1]))
        states = {name: answer[name] for name in states}
        (y,) = (value for name, value in answer.items() if name not in states)
        pieces.append(y)
    np.testing.assert_allclose(tf.concat(pieces, 1), model(data), atol=2e-3)
    if kind == "of integers":
        np.testing.assert_array_equal(states["read_state_1"], [[7], [7]])


def test_numbers_drawn_without_a_seed_generator():
    keras.backend.clear_session()
    draw = keras.random.normal
    layer = layer_of(cell_class(lambda cell, x, h, dot: x + draw(tf.shape(x), dtype="float64")))
    y = tf.function(lambda x: layer(x, training=True))(batch(2))
    assert np.isfinite(y).all()
    np.testing.assert_raises(AssertionError, np.testing.assert_allclose, y[:, 0], y[:, 1])


@pytest.mark.parametrize("way", ["eager", "default", "any size", "compiled"])
def test_no_steps_and_dropout(way):
    layer = layers.LSTM(UNITS, dropout=0.5, recurrent_dropout=0.5, recurrence=WAYS[way])
    layer.build((None, None, FEATURES))
    y = called(way, lambda x: layer(x, training=True), tf.zeros((2, 0, FEATURES)))
    np.testing.assert_array_equal(y, np.zeros((2, UNITS)))


def test_called_eagerly_nothing_is_left_behind():
    layer = layers.LSTM(UNITS, recurrence="compiled")
    x = tf.zeros((2, 5, FEATURES))
    layer(x, training=True)
    before = len(tf.config.list_logical_devices()), _functions()
    for _ in range(3):
        layer(x, training=True)
    assert (len(tf.config.list_logical_devices()), _functions()) == before


def _functions():
    from tensorflow.python.eager import context

    return len(context.context().list_function_names())


# --- Tensors from elsewhere ----------------------------------------------------------------------


class Attending(layers.Cell):
    """Dot-product attention over `constants`: what is to be read, and which of it counts."""

    gates = 1

    def update(self, x, states, dot, constants):
        (h,), (memory, counts) = states, constants
        return (attended(x, h, self.recurrent_kernel, dot, memory, counts),)


def attended(x, h, W, dot, memory, counts):
    scores = tf.einsum("bu,bsu->bs", h, memory) - 1e9 * (1 - tf.cast(counts, x.dtype))
    read = tf.einsum("bs,bsu->bu", tf.nn.softmax(scores), memory)
    return tf.tanh(x + dot(h + read, W))


@pytest.mark.parametrize("count", [1, rows.FEW + 1])
def test_constants(count):
    x, memory = batch(count), batch(count, 5, UNITS, seed=2)
    counts = tf.cast(tf.sequence_mask(1 + tf.range(count) % 5, 5), x.dtype)
    expected = None
    for way in WAYS:
        if way in ("compiled", "fused"):  # as in `test_gradients`
            continue
        layer = layer_of(Attending, way=way)
        expected = expected or by_hand(
            lambda x, h, W, *c: attended(x, h, W, tf.matmul, *c), layer, x, memory, counts
        )
        assert_close(gradients_of(layer, way, x, memory, counts), expected)
        if way in ("default", "any size"):
            ours = gradients_of(layer, way, x, memory, counts, training=False)
            assert_close(ours, expected)


def test_constants_in_a_model_that_is_trained_saved_and_exported(tmp_path):
    keras.saving.register_keras_serializable("tests")(Attending)
    x, memory = keras.Input((None, FEATURES)), keras.Input((None, UNITS))
    counts = keras.Input((None,), dtype="bool")
    layer = layers.RNN(Attending(UNITS), return_sequences=True)
    model = keras.Model([x, memory, counts], layer(x, constants=[memory, counts]))
    data = [batch(3), batch(3, 5, UNITS), tf.sequence_mask([5, 2, 3], 5)]
    data = [tf.cast(d, "float32") if d.dtype.is_floating else d for d in data]
    model.compile("sgd", "mse")
    losses = model.fit(data, np.ones((3, 7, UNITS)), epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    expected = model(data)
    model.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "m.keras")(data), expected)
    model.export(tmp_path / "export", verbose=False)
    served = tf.saved_model.load(tmp_path / "export")
    np.testing.assert_allclose(served.serve(data), expected, rtol=1e-5, atol=1e-6)


def test_a_stream_with_constants(tmp_path):
    keras.saving.register_keras_serializable("tests")(Attending)
    x, memory = keras.Input((None, FEATURES), name="x"), keras.Input((5, UNITS), name="memory")
    counts = keras.Input((5,), dtype="bool", name="counts")
    read = keras.layers.Dense(UNITS)(memory)
    y = layers.RNN(Attending(UNITS), return_sequences=True)(x, constants=[read, counts])
    model = keras.Model([x, memory, counts], keras.layers.Dense(1, name="y")(y))
    archive = keras.export.ExportArchive()
    archive.track(model)
    for name, (function, specs) in layers.streaming_signatures(model).items():
        archive.add_endpoint(name, function, input_signature=list(specs.values()))
    archive.write_out(tmp_path, verbose=False)
    loaded = tf.saved_model.load(tmp_path)
    data = {"x": tf.cast(batch(2), "float32"), "memory": tf.cast(batch(2, 5, UNITS), "float32")}
    data["counts"] = tf.sequence_mask([5, 2], 5)
    expected = model([data[n] for n in ("x", "memory", "counts")])
    states = loaded.signatures["initial_state"](batch_size=tf.constant(2))
    pieces = []
    for piece in tf.split(data["x"], [3, 0, 4], axis=1):
        answer = loaded.signatures["stream"](**{**data, "x": piece}, **states)
        states = {name: answer[name] for name in states}
        pieces.append(answer["y"])
    np.testing.assert_allclose(tf.concat(pieces, 1), expected, rtol=1e-5, atol=1e-6)
    itself = keras.Model(
        x, layers.RNN(Attending(FEATURES))(x, constants=[x, keras.ops.any(x > 0, -1)])
    )
    with pytest.raises(ValueError, match="constants` are made of what streams"):
        layers.streaming_model(itself)


def test_constants_that_do_not_fit_are_refused():
    x, memory = batch(2), batch(2, 5, UNITS)
    for cell, arguments, message in (
        (Attending, {}, "needs `constants`"),
        (Attending, {"constants": memory}, "a list of them"),
        (Attending, {"constants": [memory[:1], memory[:1, :, 0]]}, "as many rows"),
        (layers.SimpleRNNCell, {"constants": [memory]}, "no argument of that name"),
    ):
        with pytest.raises(ValueError, match=message):
            layer_of(cell)(x, **arguments)


class DoublesInTraining(keras.layers.Layer):
    def call(self, x, training=False):
        return 2 * x if training else x


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("training", [True, False])
def test_a_layer_in_a_step_knows_whether_it_trains(way, training):
    class Calling(layers.SimpleRNNCell):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.doubles = DoublesInTraining(dtype="float64")

        def update(self, x, states, dot):
            return (self.doubles(keras.ops.tanh(x + dot(states[0], self.recurrent_kernel))),)

    def step(x, h, W):
        return (1 + training) * tf.tanh(x + h @ W)

    layer, x = layer_of(Calling, way=way), batch(3)
    assert_close(gradients_of(layer, way, x, training=training), by_hand(step, layer, x))


@pytest.mark.parametrize("way", ["default", "XLA", "loop", "derived", "compiled"])
def test_dropout_masks_may_be_learned(way):
    class Learned(layers.SimpleRNNCell):
        def build(self, input_shape):
            super().build(input_shape)
            self.kept = self.add_weight((), "zeros", name="kept")

        def dropout_masks(self, inputs, states, training):
            return [keras.ops.sigmoid(self.kept) * keras.ops.ones_like(inputs)], None

    layer, x = layer_of(Learned, way=way), batch(3)
    assert_close(gradients_of(layer, way, x), gradients_of(layer, "eager", x))
    assert np.abs(gradients_of(layer, "eager", x)[-1]) > 0.01


@pytest.mark.parametrize("way", ["default", "any size", "XLA", "compiled"])
@pytest.mark.parametrize("time", [3, 11])
def test_dropout_that_stays_on_is_on_in_graphs(way, time):
    class Dropping(layers.SimpleRNNCell):
        def dropout_masks(self, inputs, states, training):
            return [tf.constant([[2.0, 0.0, 2.0]], inputs.dtype) * tf.ones_like(inputs)], None

    layer, x = layer_of(Dropping, way=way), batch(3, time)
    plain = layer_of(layers.SimpleRNNCell)
    expected = plain(x * [2.0, 0.0, 2.0])
    assert_close([called(way, lambda x: layer(x, training=False), x)], [expected])


@pytest.mark.parametrize("way", ["default", "any size", "loop", "derived", "compiled"])
@pytest.mark.parametrize("training", [True, False])
def test_numbers_drawn_by_a_constant_seed_are_those_drawn_eagerly(way, training):
    class Noisy(layers.SimpleRNNCell):
        def project(self, inputs, masks=None, training=False):
            x = super().project(inputs, masks, training)
            return x + keras.random.normal(keras.ops.shape(x), dtype="float64", seed=7)

    layer, x = layer_of(Noisy, way=way), batch(2 * rows.FEW)
    found = gradients_of(layer, way, x, training=training)
    assert_close(found, gradients_of(layer, "eager", x, training=training))


@pytest.mark.parametrize("way", ["eager", "default", "derived"])
def test_a_weight_of_integers_is_read_as_it_is(way):
    class Turned(layers.SimpleRNNCell):
        def build(self, input_shape):
            super().build(input_shape)
            order = {"dtype": "int32", "trainable": False, "name": "order"}
            self.order = self.add_weight((self.units,), "zeros", **order)

        def update(self, x, states, dot):
            turned = keras.ops.take(states[0], self.order, axis=-1)
            return (keras.ops.tanh(x + dot(turned, self.recurrent_kernel)),)

    layer, x = layer_of(Turned, way=way), batch(3)
    plain = layer_of(layers.SimpleRNNCell)
    kernel, W, b = plain.get_weights()
    plain.set_weights([kernel, W[[1, 3, 0, 2]], b])
    layer.set_weights([kernel, W, b, np.array([2, 0, 3, 1])])
    assert_close([called(way, layer, x)], [plain(x)])
    _, *gradients = gradients_of(layer, way, x)
    dx, dkernel, dW, db = gradients_of(plain, "eager", x)[1:]
    assert_close(gradients, [dx, dkernel, tf.gather(dW, [2, 0, 3, 1]), db])


def test_several_types_in_a_step():
    class Wide(layers.SimpleRNNCell):
        def update(self, x, states, dot):
            (h,) = states
            wide = (keras.ops.cast(t, "float64") for t in (x, h, self.recurrent_kernel))
            x, state, kernel = wide
            return (keras.ops.cast(keras.ops.tanh(x + dot(state, kernel)), h.dtype),)

    layer = layers.RNN(Wide(UNITS), return_sequences=True)
    layer.build((None, None, FEATURES))
    plain = layers.RNN(layers.SimpleRNNCell(UNITS), return_sequences=True)
    plain.build((None, None, FEATURES))
    plain.set_weights(layer.get_weights())
    x = tf.cast(batch(3), "float32")
    for ours, theirs in zip(gradients_of(layer, "default", x), gradients_of(plain, "eager", x)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_mask_reaches_a_layer_that_reads_constants():
    tokens = tf.constant([[5, 3, 0, 0], [1, 2, 4, 0]])
    x = keras.layers.Embedding(10, 4, mask_zero=True)(tokens)
    memory = layers.AttentionMemory(4)(tf.cast(batch(2, 6, 4), "float32"))
    layer = layers.RNN(layers.AttentionCell(layers.LSTMCell(4)))
    expected = layer(x, constants=memory, mask=tokens != 0)
    np.testing.assert_allclose(layer(x, constants=memory), expected)


def test_the_output_is_as_wide_as_the_first_state():
    class Both(layers.Cell):
        def __init__(self, units, **kwargs):
            super().__init__(units, **kwargs)
            self.state_size = [2 * units]

        def update(self, x, states, dot):
            a = keras.ops.tanh(x + dot(states[0], self.recurrent_kernel))
            return (keras.ops.concatenate([a, -a], -1),)

    x = keras.Input((None, FEATURES))
    y = layers.RNN(Both(UNITS))(x)
    assert y.shape == (None, 2 * UNITS) == (None, *keras.Model(x, y)(batch(2)).shape[1:])


@pytest.mark.parametrize("way", [way for way in WAYS if way not in ("any size", "fused")])
def test_a_tensor_that_a_cell_closes_over(way):
    layer = layer_of(cell_class(lambda cell, x, h, dot: tf.tanh(x + h * cell.scale)), way=way)
    x, scale = batch(rows.FEW), batch(rows.FEW, 1, UNITS)[:, 0]
    weights = [layer.cell.kernel.value]

    def gradients(x, scale):
        with tf.GradientTape() as tape:
            tape.watch([x, scale])
            layer.cell.scale = scale
            total = tf.reduce_sum(layer(x, training=True) ** 2)
        return tape.gradient(total, [x, scale, *weights])

    def true(x, scale):
        with tf.GradientTape() as tape:
            tape.watch([x, scale])
            h, total = tf.zeros_like(scale), 0.0
            for t in range(7):
                h = tf.tanh(x[:, t] @ layer.cell.kernel + layer.cell.bias + h * scale)
                total += tf.reduce_sum(h**2)
        return tape.gradient(total, [x, scale, *weights])

    assert_close(called(way, gradients, x, scale), true(x, scale))


# --- Functions with a gradient of their own, inside of a step ----------------------------------


@tf.custom_gradient
def clipped(h):
    """Its gradient's norm, over the batch, is at most a tenth."""
    return tf.identity(h), lambda dy: tf.clip_by_norm(dy, 0.1)


@tf.custom_gradient
def doubled_back(h):
    return tf.identity(h), lambda dy: 2 * dy


OWN_GRADIENTS = {
    "of the batch": lambda self, x, h, dot: tf.tanh(x + dot(clipped(h), self.recurrent_kernel)),
    "of each row": lambda self, x, h, dot: tf.tanh(x + dot(doubled_back(h), self.recurrent_kernel)),
    "silu": lambda self, x, h, dot: tf.nn.silu(x + dot(h, self.recurrent_kernel)),
    "made again": lambda self, x, h, dot: tf.recompute_grad(
        lambda x, h, W: tf.tanh(x + tf.matmul(h, W))
    )(x, h, tf.convert_to_tensor(self.recurrent_kernel)),
    "made again, dot": lambda self, x, h, dot: tf.recompute_grad(
        lambda x, h, W: tf.tanh(x + dot(h, W))
    )(x, h, tf.convert_to_tensor(self.recurrent_kernel)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", OWN_GRADIENTS)
def test_a_gradient_of_its_own_inside_of_a_step(name, way):
    layer, x, function = layer_of(cell_class(OWN_GRADIENTS[name]), way=way), batch(32), None
    kernel, recurrent, bias = weights = [tf.constant(w) for w in layer.get_weights()]
    of_step = {
        "of the batch": lambda x, h: tf.tanh(x + clipped(h) @ recurrent),
        "of each row": lambda x, h: tf.tanh(x + doubled_back(h) @ recurrent),
        "silu": lambda x, h: tf.nn.sigmoid(x + h @ recurrent) * (x + h @ recurrent),
    }
    function = of_step.get(name, lambda x, h: tf.tanh(x + h @ recurrent))
    with tf.GradientTape() as tape:
        tape.watch([x, *weights])
        h, outputs = tf.zeros((32, UNITS), "float64"), []
        for t in range(x.shape[1]):
            h = function(x[:, t] @ kernel + bias, h)
            outputs.append(h)
        y = tf.stack(outputs, 1)
        total = tf.reduce_sum(tf.sin(y))
    expected = y, *tape.gradient(total, [x, *weights])
    assert_close(gradients_of(layer, way, x), expected)


def test_a_batch_is_cut_where_such_a_gradient_leaves_rows_alone(capsys):
    for name, halves in (("of the batch", False), ("of each row", True), ("silu", True)):
        layers.explain(layer_of(cell_class(OWN_GRADIENTS[name])))
        told = next(x for x in capsys.readouterr().out.splitlines() if "training: compiled" in x)
        assert ("two halves" in told) == halves, told


def closed_over(self, x, h, dot):
    return tf.recompute_grad(lambda x, h: tf.tanh(x + h @ self.recurrent_kernel))(x, h)


def one_of_two_results(self, x, h, dot):
    def both(x, h):
        z = x + h @ self.recurrent_kernel
        return z, tf.tanh(z)

    return tf.recompute_grad(both)(x, h)[1]


def closed_over_in_a_branch(self, x, h, dot):
    return tf.cond(tf.reduce_sum(x) > 0, lambda: closed_over(self, x, h, dot), lambda: h)


def projected_again(self, inputs, masks=None, training=False):
    return tf.recompute_grad(lambda i: layers.Cell.project(self, i, masks, training))(inputs)


def plain_update(self, x, h, dot):
    return tf.tanh(x + dot(h, self.recurrent_kernel))


@pytest.mark.parametrize("way", ["eager", "default", "loop"])
@pytest.mark.parametrize(
    "cell",
    [
        cell_class(closed_over),
        cell_class(one_of_two_results),
        cell_class(closed_over_in_a_branch),
        cell_class(plain_update, project=projected_again),
    ],
    ids=["closed over", "one of two results", "in a branch", "in project"],
)
def test_a_weight_that_would_get_no_gradient_is_refused(cell, way):
    with pytest.raises(NotImplementedError, match="hand it to that function as an argument"):
        gradients_of(layer_of(cell, way=way), way, batch(3))


@pytest.mark.parametrize("way", ["eager", "default", "any size", "derived", "compiled"])
def test_a_step_that_asks_numpy_how_many_rows_there_are(way):
    def update(self, x, h, dot):
        return tf.tanh(x + dot(h, self.recurrent_kernel)) / np.sqrt(ops.shape(h)[0])

    layer, x = layer_of(cell_class(update), way=way), batch(4)
    h, outputs, (kernel, recurrent, bias) = np.zeros((4, UNITS)), [], layer.get_weights()
    for t in range(7):
        h = np.tanh(x[:, t] @ kernel + bias + h @ recurrent) / 2
        outputs.append(h)
    run = layer if way == "eager" else tf.function(layer)
    np.testing.assert_allclose(run(x, training=True), np.stack(outputs, 1))


def cosine(axis):
    def dot(self, masks=None):
        dot = layers.Cell.dot(self, masks)
        return lambda a, k, gates=None: dot(tf.math.l2_normalize(a, axis=axis), k, gates)

    return dot


def test_a_dot_of_ones_own_keeps_its_backward_pass_where_rows_depend(capsys):
    def update(self, x, h, dot):
        return tf.tanh(x + dot(tf.roll(h, 1, axis=-1), self.recurrent_kernel))

    layers.explain(layer_of(cell_class(update, dot=cosine(1))))
    assert "training: compiled: a backward pass of its own" in capsys.readouterr().out


@pytest.mark.parametrize("way", ["eager", "default", "loop", "derived"])
def test_a_complex_weight_in_a_dot_of_ones_own(way):
    class Real(layers.Cell):
        def build(self, input_shape):
            super().build(input_shape)
            self.turn = self.add_weight((), "ones", dtype="complex128", name="turn")

        def dot(self, masks=None):
            dot = super().dot(masks)

            def turned(a, kernel, gates=None):
                turn = tf.square(tf.convert_to_tensor(self.turn))
                return dot(tf.math.real(tf.cast(a, "complex128") * turn), kernel, gates)

            return turned

        def update(self, x, states, dot):
            return (tf.tanh(x + dot(states[0], tf.tanh(self.recurrent_kernel))),)

    layer, x = layer_of(Real, way=way), batch(3)
    layer.cell.turn.assign(0.5 + 0.3j)
    kernel, recurrent, bias, turn = weights = [tf.constant(w) for w in layer.get_weights()]
    with tf.GradientTape() as tape:
        tape.watch([x, *weights])
        h, outputs = tf.zeros((3, UNITS), "float64"), []
        for t in range(x.shape[1]):
            turned = tf.math.real(tf.cast(h, "complex128") * turn**2)
            h = tf.tanh(x[:, t] @ kernel + bias + turned @ tf.tanh(recurrent))
            outputs.append(h)
        y = tf.stack(outputs, 1)
        total = tf.reduce_sum(tf.sin(y))
    expected = tape.gradient(total, [x, *weights])
    assert abs(expected[-1].numpy().imag) > 0.01
    assert_close(gradients_of(layer, way, x), (y, *expected))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("axis", [1, 0])
def test_a_dot_of_ones_own_that_counts_axes(axis, way):
    """Along an operand's columns, and along the batch."""

    def update(self, x, h, dot):
        return tf.tanh(x + dot(h + 0.1 * x, self.recurrent_kernel))

    layer, x = layer_of(cell_class(update, dot=cosine(axis)), way=way), batch(5)
    kernel, recurrent, bias = weights = [tf.constant(w) for w in layer.get_weights()]
    with tf.GradientTape() as tape:
        tape.watch([x, *weights])
        h, outputs = tf.zeros((5, UNITS), "float64"), []
        for t in range(x.shape[1]):
            x_t = x[:, t] @ kernel + bias
            h = tf.tanh(x_t + tf.math.l2_normalize(h + 0.1 * x_t, axis=axis) @ recurrent)
            outputs.append(h)
        y = tf.stack(outputs, 1)
        total = tf.reduce_sum(tf.sin(y))
    assert_close(gradients_of(layer, way, x), (y, *tape.gradient(total, [x, *weights])))


class Turning(layers.Cell):
    """A complex state in two real ones, turned by a complex weight (Orvieto et al. 2023)."""

    gates = 2

    def __init__(self, units, **kwargs):
        super().__init__(units, **kwargs)
        self.state_size = [units, units]

    def build(self, input_shape):
        super().build(input_shape)
        self.turn = self.add_weight((self.units,), "ones", dtype="complex128", name="turn")

    def update(self, x, states, dot):
        c = tf.complex(*states) * self.turn + tf.complex(*tf.split(x, 2, -1))
        return tf.math.real(c), tf.math.imag(c)


@pytest.mark.parametrize("way", ["eager", "default", "any size", "loop", "derived"])
def test_a_complex_weight(way):
    layer, x = layer_of(Turning, way=way), batch(3)
    layer.cell.turn.assign(0.5 + 0.3j * np.arange(UNITS))
    weights = [tf.constant(w) for w in layer.get_weights()]
    kernel, _, bias, turn = weights
    with tf.GradientTape() as tape:
        tape.watch([x, *weights])
        c, outputs = tf.zeros((3, UNITS), "complex128"), []
        for t in range(x.shape[1]):
            c = c * turn + tf.complex(*tf.split(x[:, t] @ kernel + bias, 2, -1))
            outputs.append(tf.math.real(c))
        y = tf.stack(outputs, 1)
        total = tf.reduce_sum(tf.sin(y))
    expected = tape.gradient(total, [x, *weights], unconnected_gradients="zero")
    assert np.abs(np.imag(expected[-1])).min() > 0.01
    assert_close(gradients_of(layer, way, x), (y, *expected))


def test_what_a_cell_reads_of_its_context_is_read_in_programs_too():
    scale = contextvars.ContextVar("scale", default=1.0)

    def update(self, x, h, dot):
        return tf.tanh(scale.get() * x + dot(h, self.recurrent_kernel))

    def gradients(way):
        scale.set(2.0)
        return gradients_of(layer_of(cell_class(update), way=way), way, batch(3))

    found = [contextvars.copy_context().run(gradients, way) for way in ("eager", "compiled")]
    assert_close(found[1], found[0])


def test_called_eagerly_a_step_may_look_at_numbers():
    seen = []

    def update(self, x, h, dot):
        h = tf.tanh(x + dot(h, self.recurrent_kernel))
        seen.append(h.numpy())
        return h

    layer, x = layer_of(cell_class(update)), batch(3)
    y = layer(x)
    np.testing.assert_array_equal(np.stack(seen, 1), y)


def test_an_initial_state_of_whole_numbers():
    x, begun = batch(2), [np.full((2, UNITS), 2), np.full((2, UNITS), -1)]
    ours, theirs = (kind.LSTM(UNITS, dtype="float64") for kind in (layers, keras.layers))
    theirs.build(x.shape)
    ours.build(x.shape)
    ours.set_weights(theirs.get_weights())
    found = ours(x, initial_state=begun)
    np.testing.assert_allclose(found, theirs(x, initial_state=begun), atol=1e-12)


def test_a_layer_inside_that_computes_in_float32_has_its_weights_whole():
    class Inner(layers.SimpleRNNCell):
        def build(self, input_shape):
            super().build(input_shape)
            self.inner = keras.layers.Dense(self.units, use_bias=False, dtype="float32")
            self.inner.build((None, self.units))

        def update(self, x, states, dot):
            (h,) = super().update(x, states, dot)
            return (tf.cast(self.inner(tf.cast(h, "float32")) * 1e-5, h.dtype),)

    policy = "mixed_float16"
    layer = layers.RNN(Inner(UNITS, dtype=policy), dtype=policy)
    layer.build((None, None, FEATURES))
    layer.cell.inner.kernel.assign(1e5 * np.eye(UNITS))  # more than float16 holds
    plain = layers.SimpleRNN(UNITS, dtype=policy)
    plain.build((None, None, FEATURES))
    plain.set_weights(layer.get_weights()[:3])
    x = tf.cast(batch(2), "float32")
    for run in (layer, tf.function(layer)):
        np.testing.assert_allclose(run(x), plain(x), atol=2e-3)


class CountingLater(Counting):
    def update(self, x, states, dot):
        h = self.activation(x + dot(states[0], self.recurrent_kernel)) * (self.count + 1)
        self.count.assign(self.count + 1)
        return (h,)


@pytest.mark.parametrize("way", ["eager", "default"])
@pytest.mark.parametrize("cell", [Counting, CountingLater])
def test_a_weight_that_a_step_assigns_in_mixed_precision(cell, way):
    layer = layers.RNN(cell(UNITS, dtype="mixed_float16"), dtype="mixed_float16")
    x = tf.cast(batch(2), "float32")
    layer.build(x.shape)
    found = (layer if way == "eager" else tf.function(layer))(x)
    assert found.dtype == tf.float16 and layer.cell.count.numpy() == 7
    kernel, recurrent, bias, _ = layer.get_weights()
    h = np.zeros((2, UNITS))
    for t in range(7):
        h = np.tanh(x[:, t] @ kernel + bias + h @ recurrent) * (t + 1)
    np.testing.assert_allclose(found, h, rtol=0.05, atol=0.05)


# --- Overrides, and what is told to those who write a cell -------------------------------------


def doubled_dot(self, masks=None):
    dot = layers.Cell.dot(self, masks)
    return lambda a, kernel, gates=None: 2 * dot(a, kernel, gates)


OVERRIDES = {
    "dot": doubled_dot,
    "product": staticmethod(lambda a, kernel, masks=None: 2 * layers.Cell.product(a, kernel)),
    "input_bias": property(lambda self: 2 * self.bias),
}


@pytest.mark.parametrize("way", ["eager", "default", "any size", "XLA", "derived"])
@pytest.mark.parametrize("by", ["a weight", "what is none"])
def test_a_weight_in_a_dot_of_ones_own_is_learned(way, by):
    class Scaled(layers.Cell):
        def build(self, input_shape):
            super().build(input_shape)
            self.scale = self.add_weight((), "ones", name="scale")

        def dot(self, masks=None):
            dot = super().dot(masks)
            return lambda a, kernel, gates=None: dot(a, kernel, gates) * self.scale

        def update(self, x, states, dot):
            W = self.recurrent_kernel
            return (tf.tanh(x + dot(states[0], W if by == "a weight" else tf.tanh(W))),)

    layer, x = layer_of(Scaled, way=way), batch(3)
    kernel, recurrent, bias, scale = weights = [tf.constant(w) for w in layer.get_weights()]
    with tf.GradientTape() as tape:
        tape.watch([x, *weights])
        W, h, outputs = recurrent if by == "a weight" else tf.tanh(recurrent), 0 * x[:, 0, :1], []
        h = tf.tile(h, [1, UNITS])
        for t in range(x.shape[1]):
            h = tf.tanh(x[:, t] @ kernel + bias + h @ W * scale)
            outputs.append(h)
        y = tf.stack(outputs, 1)
        total = tf.reduce_sum(tf.sin(y))
    expected = y, *tape.gradient(total, [x, *weights])
    assert_close(gradients_of(layer, way, x), expected)


def test_what_is_changed_around_update_is_no_operation_of_tensorflows():
    class Clipped(layers.LSTMCell):
        def new_states(self, x, states, dot, constants=()):
            return [tf.clip_by_value(s, -0.05, 0.05) for s in super().new_states(x, states, dot)]

    layer, x = layers.RNN(Clipped(UNITS)), tf.cast(batch(2), "float32")
    np.testing.assert_allclose(tf.function(layer)(x), layer(x), atol=1e-6)
    assert np.abs(layer(x)).max() <= 0.05


def test_a_stack_that_runs_its_cells_otherwise_does():
    class Residual(keras.layers.StackedRNNCells):
        def call(self, inputs, states, training=False, **kwargs):
            new = []
            for cell, state in zip(self.cells, states):
                output, state = cell(inputs, state, training=training)
                inputs = inputs + output
                new.append(state)
            return inputs, new

    cells = Residual([layers.SimpleRNNCell(FEATURES), layers.SimpleRNNCell(FEATURES)])
    x = tf.cast(batch(2), "float32")
    np.testing.assert_allclose(layers.RNN(cells)(x), keras.layers.RNN(cells)(x), atol=1e-6)


class Beside(layers.SimpleRNNCell):
    """It runs a layer over two steps, in each step."""

    def build(self, input_shape):
        super().build(input_shape)
        self.inner = layers.RNN(Sorted(self.units))
        self.inner.build((None, 2, self.units))
        self.dense = keras.layers.Dense(self.units)
        self.dense.build((None, self.units))

    def update(self, x, states, dot):
        (h,) = states
        beside = self.inner(tf.stack([x, self.dense(h)], 1), training=True)
        return (tf.tanh(x + dot(h, self.recurrent_kernel) + beside),)


class Sorted(layers.SimpleRNNCell):
    def update(self, x, states, dot):
        return (tf.tanh(tf.sort(x + dot(states[0], self.recurrent_kernel))),)


def test_a_layer_of_ours_in_a_step_of_ours():
    layer, x = layers.RNN(Beside(UNITS)), tf.cast(batch(2), "float32")
    layer(x)

    def gradients(x):
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(layer(x, training=True))
        return tape.gradient(total, layer.trainable_weights)

    for a, b in zip(tf.function(gradients)(x), gradients(x), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_what_a_layer_in_a_step_keeps_in_float32_stays_so():
    class Normed(layers.SimpleRNNCell):
        def build(self, input_shape):
            super().build(input_shape)
            self.norm = keras.layers.BatchNormalization(dtype=self.dtype_policy)
            self.norm.build((None, self.units))
            self.norm.moving_variance.assign([1e5] * self.units)  # beyond float16
            self.norm.gamma.assign([300.0] * self.units)

        def update(self, x, states, dot):
            return (ops.tanh(self.norm(x + dot(states[0], self.recurrent_kernel))),)

    x = batch(2)
    half = layers.RNN(Normed(UNITS, dtype="mixed_float16"), dtype="mixed_float16")
    whole = layers.RNN(Normed(UNITS))
    for layer in (half, whole):
        layer.build(x.shape)
    half.set_weights(whole.get_weights())
    for of in (lambda layer: layer, tf.function):
        np.testing.assert_allclose(of(half)(x), whole(tf.cast(x, "float32")), atol=2e-2)
    assert np.abs(whole(tf.cast(x, "float32"))).max() > 0.3


def test_a_dropout_mask_of_one_row_is_for_all():
    class OneMask(layers.SimpleRNNCell):
        def dropout_masks(self, inputs, states, training):
            return [tf.constant([[0.0, 2.0, 1.0]])], None

    layer, x = layers.RNN(OneMask(UNITS)), tf.cast(batch(rows.FEW + 1), "float32")
    plain = layers.SimpleRNN(UNITS)
    for one in (layer, plain):
        one.build(x.shape)
    plain.set_weights(layer.get_weights())
    for way in ("eager", "default", "any size"):
        found = called(way, lambda x: layer(x, training=True), x)
        np.testing.assert_allclose(found, plain(x * [0.0, 2.0, 1.0]), atol=1e-5)


def test_constants_are_read_in_the_cells_type():
    layer = layers.RNN(layers.AttentionCell(layers.LSTMCell(UNITS, dtype="mixed_float16")))
    x = tf.cast(batch(2), "float32")
    memory = layers.AttentionMemory(UNITS)(x)
    found = layer(x, constants=memory)
    weights = layers.attention_weights(layer, x, memory)
    assert np.all(np.isfinite(found)) and weights.shape == (2, 7, 7)


def test_arguments_of_any_layer_may_be_named_in_a_cells_signature():
    class NamedCell(layers.SimpleRNNCell):
        def __init__(self, units, name=None, dtype=None, trainable=True, **kwargs):
            super().__init__(units, name=name, dtype=dtype, trainable=trainable, **kwargs)

    class Named(layers.CellLayer):
        cell_class = NamedCell

    layer = Named(4, name="own", dtype="float64", trainable=False)
    assert layer.name == "own" and layer(batch(2)).dtype == "float64" and not layer.trainable


def test_a_count_stays_one_in_a_layer_that_is_stateful():
    layer = layers.RNN(Steps(UNITS), stateful=True)
    x = tf.cast(batch(2), "float32")
    for steps in (7, 14):
        layer(x)
        np.testing.assert_array_equal(layer.states[1], [[steps]] * 2)
    assert len(layer.weights) == 3
    layers.explain(layer)


def test_a_stateful_layer_says_that_batches_are_alike():
    layer = layers.LSTM(UNITS, stateful=True)
    layer(tf.zeros((4, 2, FEATURES)))
    with pytest.raises(ValueError, match="is `stateful` and was built for 4 rows, and got 2"):
        layer(tf.zeros((2, 2, FEATURES)))


@pytest.mark.parametrize("name", OVERRIDES)
@pytest.mark.parametrize("base", [layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell])
def test_what_a_subclass_overrides_is_run(base, name, tmp_path):
    changed = type("Changed", (base,), {name: OVERRIDES[name]})
    assert changed(UNITS).cudnn_mode is None and changed(UNITS).all_steps() is None
    layer = layers.RNN(changed(UNITS), return_sequences=True)
    model = keras.Sequential([keras.Input((None, FEATURES)), layer])
    layer.set_weights([np.full(w.shape, 0.3) for w in layer.get_weights()])
    x = tf.cast(batch(2), "float32")
    expected = layer(x)  # the plain loop
    plain = layers.RNN(base(UNITS), return_sequences=True)
    plain(x)
    plain.set_weights(layer.get_weights())
    assert not np.allclose(plain(x), expected)
    np.testing.assert_allclose(tf.function(layer)(x), expected, rtol=1e-5, atol=1e-6)
    if base is not layers.LSTMCell:  # whose export stands for all: above, each has no operation
        return
    model.export(tmp_path, verbose=False)
    served = tf.saved_model.load(tmp_path)
    np.testing.assert_allclose(served.serve(x), expected, rtol=1e-5, atol=1e-6)


def test_recurrent_dropout_that_nothing_applies_is_refused():
    own = cell_class(lambda cell, x, h, dot: x + tf.matmul(h, cell.recurrent_kernel))
    layer = layer_of(own, recurrent_dropout=0.5)
    for way in ("eager", "default", "XLA"):
        with pytest.raises(ValueError, match=r"`dot\(h, self.recurrent_kernel\)`"):
            called(way, lambda x: layer(x, training=True), batch(2))
    assert called("default", layer, batch(2)).shape == (2, 7, UNITS)  # in inference there is none


WRONG = {
    "one tensor": (lambda x, states: states[0], r"returned a tensor of shape \(.*tuple of 2"),
    "too few": (lambda x, states: (states[0],), "returned 1 tensor, expected a tuple of 2"),
    "too many": (lambda x, states: (x, *states), "returned 3 tensors, expected a tuple of 2"),
    "as Keras's": (lambda x, states: (x, [x, x]), "Keras's cells return output and states"),
    "too wide": (lambda x, states: (tf.concat([x, x], -1), x), r"8\) float32.*\(batch, 4\)"),
    "of another type": (lambda x, states: (x, tf.cast(x, "int32")), "int32.*float32"),
    "nothing": (lambda x, states: None, "returned None"),
    "three expected": (lambda x, states: [a for a, b, c in [states]], "state_size.*unpacks"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_update_returns_is_checked(name):
    update, message = WRONG[name]

    class Wrong(layers.SimpleRNNCell):
        def __init__(self, units, **kwargs):
            super().__init__(units, **kwargs)
            self.state_size = [units, units]

        def update(self, x, states, dot):
            return update(x, states)

    for way in ("eager", "default"):
        with pytest.raises(ValueError, match=message) as error:
            called(way, layers.RNN(Wrong(UNITS)), tf.zeros((2, 3, FEATURES)))
        assert "Wrong.update" in str(error.value) and "layers.Cell.update" in str(error.value)


def test_other_mistakes_of_those_who_write_a_cell():
    class NoBuild(layers.SimpleRNNCell):
        def build(self, input_shape):
            self.built = True

    class Late(layers.SimpleRNNCell):
        def __init__(self, units, **kwargs):
            super().__init__(units, **kwargs)
            self.dense = keras.layers.Dense(units)

        def update(self, x, states, dot):
            return (self.dense(states[0]) + x,)

    class Square(layers.SimpleRNNCell):
        def __init__(self, units, **kwargs):
            super().__init__(units, **kwargs)
            self.state_size = [[units, units]]

    x = tf.zeros((2, 3, FEATURES))
    for cell, error, message in (
        (NoBuild, AttributeError, r"no `kernel`.*super\(\)\.build"),
        (Late, ValueError, "makes weights in `project` or `update`.*in its `build`"),
        (Square, ValueError, "flat list of integers.*with `call`"),
    ):
        with pytest.raises(error, match=message):
            layers.RNN(cell(UNITS))(x)


def test_what_is_saved_without_being_registered_is_told(tmp_path):
    own = cell_class(lambda cell, x, h, dot: x)
    unregistered = [layers.RNN(own(2)), type("Own", (layers.CellLayer,), {"cell_class": own})(2)]
    for layer in unregistered:
        model = keras.Sequential([keras.Input((3, 2)), layer])
        with pytest.warns(UserWarning, match="register_keras_serializable"):
            model.save(tmp_path / "m.keras")


def test_explain(capsys):
    text = cell_class(lambda cell, x, h, dot: by_its_text(x, h, cell.recurrent_kernel, dot))
    drawn = cell_class(lambda cell, x, h, dot: x * keras.random.normal(tf.shape(x)))
    one, both = layers.LSTM(UNITS), layers.Bidirectional(layers.GRU(UNITS), name="both")
    for layer in (one, both, layers.RNN(text(UNITS)), layers.RNN(drawn(UNITS))):
        layer.build((None, None, FEATURES))
        layers.explain(layer)
    told = capsys.readouterr().out
    for line in (
        "(LSTMCell), training: compiled",
        "(LSTMCell), inference: fused",
        "both/backward_gru (GRUCell), training: compiled",
        "(OwnCell), training: derived",
        "not compiled: XLA does not compile an operation in it: AsString",
        "not derived: it draws random numbers",
    ):
        assert line in told
    with pytest.raises(ValueError, match="not built"):
        layers.explain(layers.GRU(2))
    with pytest.raises(ValueError, match="not run by this package"):
        layers.explain(keras.layers.GRU(2))


def test_a_batch_of_another_size_gets_a_size_that_there_is_a_program_for():
    sizes = rows.Sizes()
    taken = [int(sizes.take(n)) for n in (32, 21, 9, 33, 31, 8, 3)]
    assert taken == [32, 32, 32, 48, 32, 8, 8]
    often = [int(sizes.take(9)) for _ in range(rows.Sizes.OFTEN)]
    assert (often[0], often[-1]) == (32, 12)  # it is worth a program of its own


def test_whole_numbers_are_read_as_numbers():
    layer, x = layers.LSTM(UNITS), np.random.default_rng(0).integers(0, 9, (2, 5, FEATURES))
    for of in (layer, tf.function(layer)):
        np.testing.assert_array_equal(of(tf.constant(x)), of(tf.cast(x, "float32")))


def test_a_layer_named_after_no_cell_is_refused():
    with pytest.raises(TypeError, match="must set `cell_class`"):
        type("Nameless", (layers.CellLayer,), {})


def test_served_batches_stay_whole(capsys):
    layer = layers.LSTM(UNITS, recurrence="loop")
    layer.build((None, None, FEATURES))
    said = []
    for around in (contextlib.nullcontext(), layers.without_gradients()):
        with around:
            layers.explain(layer)
        said.append(capsys.readouterr().out.split("inference:")[1])
    assert "in two halves" in said[0] and "halves" not in said[1]
