"""One recurrence, several implementations, and what holds them equal."""

import collections
import contextlib

import keras
import numpy as np
import processes
import pytest
import tensorflow as tf
from conftest import REPOSITORY, portable_ops

import layers
from layers import matmul, recurrence
from layers.recurrence import fused, loop, parts, plans, programs, rows
from layers.recurrence.given import Given
from layers.recurrence.step import Step

pytestmark = pytest.mark.usefixtures("without_graph_optimizer")

FEATURES, UNITS = 3, 4
FAST = ["derived", "compiled", "fused"]
CELLS = {
    "SimpleRNN": lambda **k: layers.SimpleRNNCell(UNITS, **k),
    "LSTM": lambda **k: layers.LSTMCell(UNITS, **k),
    "GRU": lambda **k: layers.GRUCell(UNITS, **k),
    "GRU, reset before": lambda **k: layers.GRUCell(UNITS, reset_after=False, **k),
    "GRU, no bias": lambda **k: layers.GRUCell(UNITS, use_bias=False, **k),
    "LSTM, dropout": lambda **k: layers.LSTMCell(
        UNITS, dropout=0.3, recurrent_dropout=0.4, seed=1, **k
    ),
    "PeepholeLSTM": lambda **k: layers.PeepholeLSTMCell(UNITS, **k),
    "CoupledLSTM": lambda **k: layers.CoupledLSTMCell(UNITS, **k),
    "ProjectedLSTM": lambda **k: layers.ProjectedLSTMCell(UNITS, 2, **k),
    "LayerNormLSTM": lambda **k: layers.LayerNormLSTMCell(UNITS, **k),
    "ZoneoutLSTM": lambda **k: layers.ZoneoutLSTMCell(UNITS, **k),
    "IndRNN": lambda **k: layers.IndRNNCell(UNITS, **k),
}


@keras.saving.register_keras_serializable(package="tests")
class ScaledCell(layers.SimpleRNNCell):
    """Multiplies by a kernel made of two weights, and ignores one of its two states."""

    def __init__(self, units, **kwargs):
        super().__init__(units, **kwargs)
        self.state_size = [units, units]

    def build(self, input_shape):
        super().build(input_shape)
        self.scale = self.add_weight((self.units,), "ones", name="scale")

    def update(self, x, states, dot):
        h, _ = states
        h = self.activation(x + dot(h, self.recurrent_kernel * self.scale))
        return h, h * self.scale


@keras.saving.register_keras_serializable(package="tests")
class LowRankCell(layers.SimpleRNNCell):
    """Two gates, and no weight of the name `recurrent_kernel`."""

    gates = 2

    def build(self, input_shape):
        self.kernel = self.add_weight((input_shape[-1], 2 * self.units), "ones", name="kernel")
        self.bias = self.add_weight((2 * self.units,), "zeros", name="bias")
        self.left = self.add_weight((self.units, 2), "ones", name="left")
        self.right = self.add_weight((2, 2 * self.units), "ones", name="right")
        self.built = True

    def update(self, x, states, dot):
        (h,) = states
        a, b = tf.split(x + dot(dot(h, self.left), self.right), 2, -1)
        return (tf.tanh(a) * tf.sigmoid(b),)


@keras.saving.register_keras_serializable(package="tests")
class EchoCell(layers.SimpleRNNCell):
    """Multiplies by its kernel past `dot`, in a helper of its own."""

    def update(self, x, states, dot):
        @tf.function(autograph=False)
        def helped(a, kernel):
            return self.product(a, kernel)

        kernel = tf.convert_to_tensor(self.recurrent_kernel)
        (h,) = states
        return (tf.tanh(x + self.product(h, kernel) + helped(h, kernel)),)


def built(cell, seed=0):
    cell.build((None, None, FEATURES))
    rng = np.random.default_rng(seed)
    cell.set_weights([rng.normal(size=w.shape) for w in cell.get_weights()])
    return cell


def everything(cell, implementation, x, states, mask, *, training=False, known=True, **how):
    """Outputs, last states, and the gradients of inputs, states and all weights."""
    if cell.seed is not None:
        cell.seed_generator.state.assign([cell.seed, 0])
    weights = [w.value for w in cell.trainable_weights]

    def results(x, states, mask):
        with tf.GradientTape() as tape:
            tape.watch([x, states])
            y, last = recurrence.run(
                cell, x, states, mask, training=training, implementation=implementation, **how
            )
            total = tf.reduce_sum(tf.sin(y)) + sum(tf.reduce_sum(s**2) for s in last)
        gradients = tape.gradient(total, [x, states, weights], unconnected_gradients="zero")
        return y, last, gradients

    def spec(t):
        if t is None:
            return None
        sizes = t.shape if known else (*[None] * (3 if t.ndim == 3 else 2),)
        if not known and t.dtype != bool:
            sizes = (*sizes[:-1], t.shape[-1])
        return tf.TensorSpec(sizes, t.dtype)

    signature = tf.nest.map_structure(spec, (x, states, mask))
    graph = tf.function(results, autograph=False).get_concrete_function(*signature)
    arguments = [tf.constant(t) for t in tf.nest.flatten((x, states, mask)) if t is not None]
    return [t.numpy() for t in tf.nest.flatten(graph(*arguments))]


# Cells of the same kinds as others; test_random_cells.py draws more.
ALIKE = ("CoupledLSTM", "IndRNN", "PeepholeLSTM", "GRU, no bias")
OWN_CELLS = {
    "kernel made of weights": lambda **k: ScaledCell(UNITS, **k),
    "low rank": lambda **k: LowRankCell(UNITS, dropout=0.3, seed=1, **k),
    "past dot": lambda **k: EchoCell(UNITS, **k),
}


@pytest.fixture
def short_parts(monkeypatch):
    """With these even few steps are several parts; seven are four and three."""
    monkeypatch.setattr(parts, "KNOWN", 4)
    monkeypatch.setattr(parts, "UNKNOWN", 4)


@pytest.mark.usefixtures("short_parts")
@pytest.mark.parametrize(
    "name, training",
    [
        *((name, True) for name in [*CELLS, *OWN_CELLS] if name not in ALIKE),
        *((name, False) for name in ["SimpleRNN", "LSTM", "GRU", *OWN_CELLS]),
    ],
)
def test_all_are_equal(name, training):
    rng = np.random.default_rng([*name.encode(), training])
    batch = rows.FEW + 1 if training else int(rng.integers(1, 2 * rows.FEW))
    time = 7 if training else int(rng.integers(1, 3 * loop.BLOCK))
    cell = built({**CELLS, **OWN_CELLS}[name](dtype="float64"))
    x = rng.normal(size=(batch, time, FEATURES))
    states = [rng.normal(size=(batch, size)) for size in cell.state_sizes]
    mask = rng.random((batch, time)) < 0.6 if rng.random() < 0.7 else None
    how = {
        "training": training and name != "ZoneoutLSTM",  # which draws at random
        "known": rng.random() < 0.5,
        "return_sequences": rng.random() < 0.7,
        "go_backwards": rng.random() < 0.3,
        "zero_output_for_mask": rng.random() < 0.3,
    }
    expected = everything(cell, "loop", x, states, mask, **how)
    for implementation in ("derived", "compiled") if training else ("derived",):
        ours = everything(cell, implementation, x, states, mask, **how)
        for a, b in zip(ours, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9, err_msg=implementation)


@pytest.mark.usefixtures("short_parts")
@pytest.mark.parametrize(
    "name", ["LSTM, dropout", "GRU, reset before", "kernel made of weights", "low rank", "past dot"]
)
def test_turned_products_are_equal(name, monkeypatch):
    """As those of large matrices are, here all of them."""
    rng = np.random.default_rng(0)
    cell = built({**CELLS, **OWN_CELLS}[name](dtype="float64"))
    x = rng.normal(size=(rows.FEW + 1, 7, FEATURES))
    states = [rng.normal(size=(len(x), size)) for size in cell.state_sizes]
    mask = rng.random((len(x), 7)) < 0.6
    expected = everything(cell, "loop", x, states, mask, training=True)
    monkeypatch.setattr(matmul, "LARGE", 1)
    monkeypatch.setattr(programs, "_programs", collections.OrderedDict())
    ours = everything(cell, "compiled", x, states, mask, training=True)
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


def test_a_large_matrix_is_turned_and_no_other():
    rng = np.random.default_rng(0)
    large, small = (tf.constant(rng.normal(size=(n, 1024))) for n in (512, 511))

    @tf.function(autograph=False)
    def found(true, a, kernel):
        with matmul.turned(true) if true is not None else contextlib.nullcontext():
            y = matmul.matmul(a, kernel)
        return y, tf.gradients(y, [a, kernel], tf.sin(y))

    for kernel, turned in ((large, True), (small, False)):
        a = tf.constant(rng.normal(size=(3, len(kernel))))
        expected = tf.nest.flatten(found(None, a, kernel))
        for x, y in zip(tf.nest.flatten(found(tf.constant(True), a, kernel)), expected):
            np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-9)
        graph = found.get_concrete_function(tf.constant(True), a, kernel).graph
        operations = [op.type for op in graph.get_operations()]
        assert ("Transpose" in operations) == turned


@pytest.mark.usefixtures("short_parts")
@pytest.mark.parametrize("implementation", ["derived", "compiled"])
def test_a_projection_that_draws_at_random_is_left_out_of_the_loop(implementation):
    cell = built(layers.ZoneoutLSTMCell(UNITS, zoneout_h=0.3, seed=1, dtype="float64"))
    rng = np.random.default_rng(0)
    x, states = rng.normal(size=(5, 7, FEATURES)), [rng.normal(size=(5, UNITS)) for _ in range(2)]
    expected = everything(cell, "loop", x, states, None, training=True)
    ours = everything(cell, implementation, x, states, None, training=True)
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
    tensors = [tf.constant(t) for t in (x, *states)]
    weights = cell.weight_values()
    step = Step(cell, True, weights, Given(tensors[0], tensors[1:]))
    assert step.not_derivable is None and "random" in step.random_projection


@pytest.mark.parametrize(
    "name, units", [("SimpleRNN", UNITS), ("LSTM", UNITS), ("GRU", UNITS), ("GRU", 512)]
)
def test_equal_to_keras(name, units):
    """Also where the products are of large matrices."""
    arguments = {"return_sequences": True, "return_state": True}
    theirs = getattr(keras.layers, name)(units, **arguments)
    rng = np.random.default_rng(3)
    size = (rows.FEW + 1, 2 * loop.BLOCK + 1)
    x = tf.constant(rng.normal(size=(*size, FEATURES)).astype("float32"))
    mask = tf.constant(rng.random(size) < 0.7)
    states = [tf.constant(rng.normal(size=(size[0], units)).astype("float32")) for _ in range(2)]
    states = states if name == "LSTM" else states[:1]
    theirs(x)
    assert (units == 512) == any(matmul.is_large(w) for w in theirs.get_weights())

    @tf.function
    def results(layer):
        weights = [w.value for w in layer.trainable_weights]
        with tf.GradientTape() as tape:
            tape.watch([x, states])
            # In training, large products are turned.
            y, *last = layer(x, initial_state=states, mask=mask, training=units == 512)
            total = tf.reduce_sum(tf.sin(y)) + sum(tf.reduce_sum(s**2) for s in last)
        return y, last, tape.gradient(total, [x, states, weights])

    expected = tf.nest.flatten(results(theirs))
    for implementation in ("loop", *FAST):
        ours = getattr(layers, name)(units, recurrence=implementation, **arguments)
        ours.build(x.shape)
        ours.set_weights(theirs.get_weights())
        for a, b in zip(tf.nest.flatten(results(ours)), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5, err_msg=implementation)


@pytest.mark.parametrize(
    "length, training",
    [(0, True), (1, True), (parts.UNKNOWN, True), (2 * parts.UNKNOWN + 1, True), (9, False)],
)
def test_unknown_lengths_are_padded_and_cut_again(length, training):
    cell = built(layers.GRUCell(UNITS, dtype="float64"))
    rng = np.random.default_rng(length)
    x, states = rng.normal(size=(2, length, FEATURES)), [rng.normal(size=(2, UNITS))]
    how = {"training": training, "known": False}
    expected = everything(cell, "loop", x, states, None, **how)
    ours = everything(cell, "compiled", x, states, None, **how)
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("implementation", ["loop", *FAST])
def test_a_known_length_stays_known(implementation):
    layer = layers.LSTM(UNITS, return_sequences=True, recurrence=implementation)
    layer.build((None, 5, FEATURES))
    infer = tf.function(lambda x: layer(x, training=implementation != "fused"))
    graph = infer.get_concrete_function(tf.TensorSpec((None, 5, FEATURES)))
    assert graph.output_shapes == tf.TensorShape((None, 5, UNITS))


def test_which_one_runs():
    cells = {"LSTM": layers.LSTMCell, "GRU": layers.GRUCell, "other": layers.PeepholeLSTMCell}
    cells = {name: built(cell(UNITS, dtype="float32")) for name, cell in cells.items()}
    x, chosen = tf.zeros((2, 5, FEATURES)), {}

    def look(where, name, training):
        cell = cells[name]
        given = Given(x, [tf.zeros((2, size)) for size in cell.state_sizes])
        call = plans.Call.here(cell, training, False, True, cell.weight_values(), given, None)
        chosen[where, name] = plans.plan(call).name
        return tf.constant(0)

    look("eager", "LSTM", True)
    for name in cells:
        tf.function(lambda: look("training", name, True), autograph=False)()  # noqa: B023
        tf.function(lambda: look("inference", name, False), autograph=False)()  # noqa: B023
    tf.function(
        lambda: look("training, inside XLA", "LSTM", True), autograph=False, jit_compile=True
    )()
    tf.function(
        lambda: look("inference, inside XLA", "LSTM", False), autograph=False, jit_compile=True
    )()
    assert chosen == {
        ("eager", "LSTM"): "loop",
        **{("training", name): "compiled" for name in cells},
        ("inference", "LSTM"): "fused",
        ("inference", "GRU"): "fused",
        ("inference", "other"): "loop",
        ("training, inside XLA", "LSTM"): "derived",
        ("inference, inside XLA", "LSTM"): "loop",
    }


@pytest.mark.parametrize("change", ["update", "project", "activation"])
def test_a_changed_lstm_is_not_run_by_the_operation_for_the_lstm(change):
    class Changed(layers.LSTMCell):
        if change == "update":

            def update(self, x, states, dot):
                return super().update(2 * x, states, dot)

        if change == "project":

            def project(self, inputs, masks=None, training=False):
                return 2 * super().project(inputs, masks, training)

    cell = Changed(UNITS, activation="relu" if change == "activation" else "tanh")
    assert cell.all_steps() is None
    assert layers.LSTMCell(UNITS).all_steps()


def test_an_unknown_implementation_is_refused():
    with pytest.raises(ValueError, match=r"argument `recurrence`.*'loop'.*got 'quick'"):
        layers.LSTM(2, recurrence="quick")


def test_the_argument_is_saved_only_when_given():
    assert layers.GRU(2, recurrence="loop").get_config()["recurrence"] == "loop"
    assert "recurrence" not in layers.GRU(2).get_config()
    forced = layers.GRU.from_config(layers.GRU(2, recurrence="derived").get_config())
    assert forced.recurrence == "derived"


# --- Where a layer is used -----------------------------------------------------------------


def trained(library, xla, **arguments):
    """The weights of a small model after a few steps of `fit`, started from equal ones."""
    inputs = keras.Input((5, FEATURES))
    x = keras.layers.Masking()(inputs)
    x = library.Bidirectional(library.LSTM(UNITS, return_sequences=True, **arguments))(x)
    model = keras.Model(inputs, keras.layers.Dense(1)(library.GRU(UNITS, **arguments)(x)))
    rng = np.random.default_rng(0)
    model.set_weights([0.5 * rng.normal(size=w.shape) for w in model.get_weights()])
    x = rng.normal(size=(21, 5, FEATURES)).astype("float32")
    x[rng.random((21, 5)) < 0.3] = 0
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=xla)
    history = model.fit(x, x.sum((1, 2)), batch_size=9, epochs=2, shuffle=False, verbose=0)
    return model.get_weights(), history.history["loss"], model.predict(x, verbose=0)


def test_fit_ends_where_keras_ends():
    theirs = trained(keras.layers, False)
    for xla in (False, True):
        ours = trained(layers, xla)
        for a, b in zip(tf.nest.flatten(ours), tf.nest.flatten(theirs), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("short_parts")
@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("implementation", FAST)
def test_from_a_persistent_tape_outside(implementation, in_graph):
    layer, plain = (layers.LSTM(UNITS, recurrence=r) for r in (implementation, "loop"))
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 7, FEATURES)).astype("float32"))
    layer(x), plain(x)
    plain.set_weights(layer.get_weights())
    training = implementation != "fused"

    def gradients(layer, call):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            y = call(x, training=training)
            a, b = tf.reduce_sum(y), tf.reduce_sum(y * y)
        weights = [w.value for w in layer.weights]
        return [*tape.gradient(a, [x, *weights]), *tape.gradient(b, [x, *weights])]

    call = tf.function(layer) if in_graph else layer
    for ours, expected in zip(gradients(layer, call), gradients(plain, plain), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("short_parts")
@pytest.mark.parametrize(
    "implementation, training",
    [("loop", True), ("loop", False), ("fused", False), ("derived", True), ("compiled", True)],
)
def test_second_derivatives(implementation, training):
    layer = layers.LSTM(UNITS, dtype="float64", recurrence=implementation)
    x = tf.constant(np.random.default_rng(0).normal(size=(2, loop.BLOCK + 2, FEATURES)))
    layer(x)
    kernel = layer.cell.recurrent_kernel.value

    def slope(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(layer(x, training=training) ** 2)
        return tf.reduce_sum(tape.gradient(y, x) ** 2)

    @tf.function
    def twice():
        with tf.GradientTape() as tape:
            tape.watch(x)
            found = slope(x)
        return tape.gradient(found, [x, kernel])

    def moved(where):
        """The difference quotient of a step in x or in the kernel."""
        values = []
        for size in (1e-5, -1e-5):
            step, old = np.zeros(x.shape), kernel.numpy()
            if where == "x":
                step[1, 2, 0] = size
            else:
                kernel.assign(old + size * (np.arange(old.size) == 3).reshape(old.shape))
            values.append(slope(x + step).numpy())
            kernel.assign(old)
        return (values[0] - values[1]) / 2e-5

    of_x, of_kernel = twice()
    np.testing.assert_allclose(of_x[1, 2, 0], moved("x"), rtol=1e-6)
    np.testing.assert_allclose(of_kernel[0, 3], moved("kernel"), rtol=1e-6)


@pytest.mark.usefixtures("short_parts")
def test_jacobian():
    layer, theirs = layers.LSTM(UNITS), keras.layers.LSTM(UNITS, unroll=True)
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 5, FEATURES)).astype("float32"))
    layer(x), theirs(x)
    theirs.set_weights(layer.get_weights())

    def jacobian(layer, length):
        @tf.function(input_signature=[tf.TensorSpec((None, length, FEATURES))])
        def found(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x, training=True)
            return tape.batch_jacobian(y, x)

        return found(x)

    np.testing.assert_allclose(jacobian(layer, None), jacobian(theirs, 5), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("short_parts")
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    x = np.random.default_rng(0).normal(size=(16, 9, FEATURES)).astype("float32")
    full = layers.LSTM(UNITS)
    full(x)
    for implementation in ("loop", "compiled"):
        layer = layers.LSTM(UNITS, dtype=policy, recurrence=implementation)
        layer(x)
        layer.set_weights(full.get_weights())

        @tf.function
        def gradients(layer):
            with tf.GradientTape() as tape:
                total = tf.reduce_sum(tf.cast(layer(x, training=True), "float32") ** 2)
            return tape.gradient(total, [w.value for w in layer.weights])

        for a, b in zip(gradients(layer), gradients(full), strict=True):
            assert a.dtype == "float32"
            np.testing.assert_allclose(a, b, atol=0.05 * np.abs(b).max())


def test_stateful_training_carries_the_states_on():
    x = np.random.default_rng(0).normal(size=(9, 8, FEATURES)).astype("float32")
    whole = layers.GRU(UNITS, return_sequences=True)
    whole(x)
    parts = layers.GRU(UNITS, return_sequences=True, stateful=True)
    parts(x[:, :4])
    parts.set_weights(whole.get_weights())
    parts.reset_state()
    run = tf.function(lambda x: parts(x, training=True))
    outputs = np.concatenate([run(x[:, :4]), run(x[:, 4:])], axis=1)
    np.testing.assert_allclose(outputs, whole(x), rtol=1e-5, atol=1e-5)


MIRRORED = """
import numpy as np, keras, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import layers

def weights(strategy):
    with strategy.scope():
        model = keras.Sequential([keras.Input((70, 3)), layers.LSTM(4), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.1), "mse")
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    x = rng.normal(size=(32, 70, 3)).astype("float32")
    model.fit(x, x.sum((1, 2)), batch_size=16, epochs=2, shuffle=False, verbose=0)
    return model.get_weights()

two = weights(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
for a, b in zip(two, weights(tf.distribute.get_strategy())):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
"""


def test_mirrored_on_two_devices():
    processes.run(["-c", MIRRORED], cwd=REPOSITORY)


# --- What falls back, and what is built ----------------------------------------------------


@pytest.mark.parametrize("training", [False, True])
def test_a_cell_that_reads_a_foreign_variable_gets_its_gradient(training):
    scale = keras.Variable(2.0)

    class Foreign(layers.SimpleRNNCell):
        def update(self, x, states, dot):
            (h,) = states
            return (self.activation(x + scale * dot(h, self.recurrent_kernel)),)

    layer = layers.RNN(Foreign(UNITS))
    x = tf.ones((9, 2 * loop.BLOCK, FEATURES))
    layer(x)

    def gradient():
        with tf.GradientTape() as tape:
            y = tf.reduce_sum(layer(x, training=training))
        return tape.gradient(y, scale.value)

    np.testing.assert_allclose(tf.function(gradient)(), gradient(), rtol=1e-5)


def test_a_cell_that_draws_at_random_has_the_gradient_of_what_it_drew():
    class Noisy(layers.SimpleRNNCell):
        def update(self, x, states, dot):
            return (x * keras.random.normal(tf.shape(x), seed=self.seed_generator),)

    layer = layers.RNN(Noisy(UNITS, use_bias=False), return_sequences=True)
    x = tf.random.normal((3, 2 * loop.BLOCK, FEATURES))
    layer(x)
    for training in (False, True):

        @tf.function
        def results(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = tf.reduce_sum(layer(x, training=training))  # noqa: B023
            return y, tape.gradient(y, x)

        y, slope = results(x)  # linear in x
        np.testing.assert_allclose(tf.reduce_sum(x * slope), y, rtol=1e-4)


@pytest.mark.usefixtures("short_parts")
@pytest.mark.parametrize("training", [False, True])
def test_a_known_length_and_a_mask_of_unknown_length(training):
    layer = layers.GRU(UNITS)
    x = tf.random.normal((2, 5, FEATURES))

    @tf.function
    def call(x, lengths):
        return layer(x, mask=tf.sequence_mask(lengths), training=training)

    expected = layer(x, mask=tf.sequence_mask([5, 2]))
    np.testing.assert_allclose(call(x, tf.constant([5, 2])), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"\[2,4\].*\[2,5\]"):
        call(x, tf.constant([4, 2]))  # too short a mask


@pytest.mark.parametrize("length", [parts.KNOWN + 1, None])
def test_asked_to_compile_within_what_is_compiled(length):
    layer = layers.GRU(UNITS, recurrence="compiled")
    x = tf.random.normal((2, parts.KNOWN + 1, FEATURES))
    layer(x)

    def gradients(x):
        with tf.GradientTape() as tape:
            y = tf.reduce_sum(layer(x, training=True) ** 2)
        return tape.gradient(y, [w.value for w in layer.weights])

    signature = [tf.TensorSpec((None, length, FEATURES))]
    compiled = tf.function(gradients, input_signature=signature, jit_compile=True)
    for a, b in zip(compiled(x), gradients(x), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


class Placed(layers.SimpleRNNCell):
    """Reads a vector for each of so many steps, by a state that counts them."""

    def __init__(self, units, steps, **kwargs):
        super().__init__(units, **kwargs)
        self.steps, self.state_size = steps, [units, 1]

    def build(self, input_shape):
        super().build(input_shape)
        self.places = self.add_weight((self.steps, self.units), "normal", name="places")

    def update(self, x, states, dot):
        h, t = states
        place = keras.ops.take(self.places, keras.ops.cast(t[:, 0], "int32"), axis=0)
        return self.activation(x + place + dot(h, self.recurrent_kernel)), t + 1


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("steps", range(1, loop.BLOCK + 3))
def test_no_step_is_run_from_where_the_sequence_never_was(steps, known):
    layer = layers.RNN(Placed(UNITS, steps), return_sequences=True, return_state=True)
    x = tf.constant(np.random.default_rng(steps).normal(size=(3, steps, FEATURES)), tf.float32)
    mask = np.arange(steps) < [[steps], [1], [0]]
    layer(x)
    specs = tf.TensorSpec((None, steps if known else None, FEATURES)), tf.TensorSpec(None, tf.bool)
    masked = tf.function(lambda x, mask: layer(x, mask=mask), input_signature=specs)
    plain = tf.function(layer, input_signature=specs[:1])
    for found, stepwise in ((plain(x), layer(x)), (masked(x, mask), layer(x, mask=mask))):
        for ours, truth in zip(found, stepwise, strict=True):
            np.testing.assert_allclose(ours, truth, rtol=1e-5, atol=1e-6)


def test_what_reads_no_input():
    """It moves by itself."""
    layer = layers.PeepholeLSTM(UNITS, return_sequences=True)
    x = tf.zeros((2, 2 * loop.BLOCK + 1, 0))
    states = [tf.ones((2, UNITS))] * 2
    expected = layer(x, initial_state=states)
    np.testing.assert_allclose(tf.function(layer)(x, initial_state=states), expected, atol=1e-6)


@pytest.mark.parametrize("zero_output", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("kind", [layers.LSTM, layers.GRU])  # in one operation, and in blocks
def test_no_steps_and_a_mask(kind, return_sequences, zero_output):
    layer = kind(UNITS, return_sequences=return_sequences, zero_output_for_mask=zero_output)
    layer.build((None, None, FEATURES))
    signature = [tf.TensorSpec((None, None, FEATURES)), tf.TensorSpec((None, None), tf.bool)]
    call = tf.function(lambda x, mask: layer(x, mask=mask), input_signature=signature)
    expected = np.zeros((2, 0, UNITS) if return_sequences else (2, UNITS))
    outputs = call(tf.zeros((2, 0, FEATURES)), tf.zeros((2, 0), tf.bool))
    np.testing.assert_array_equal(outputs, expected)


def test_the_graph_does_not_grow_with_the_length():
    def operations(time):
        layer = layers.LSTM(UNITS)
        layer.build((None, time, FEATURES))

        @tf.function(input_signature=[tf.TensorSpec((None, time, FEATURES))])
        def step(x):
            with tf.GradientTape() as tape:
                y = tf.reduce_sum(layer(x, training=True))
            return tape.gradient(y, [w.value for w in layer.weights])

        graph = step.get_concrete_function().graph.as_graph_def()
        return sum(len(f.node_def) for f in graph.library.function) + len(graph.node)

    assert operations(100) == operations(960)  # equal parts
    assert operations(99) == operations(1000)  # of which the last is padded


@pytest.mark.parametrize("name, in_one", [("LSTM", True), ("GRU", False)])
def test_an_exported_model_takes_any_size_and_holds_no_xla(tmp_path, name, in_one):
    layer = getattr(layers, name)(UNITS, return_sequences=True)
    model = keras.Sequential([keras.Input((None, FEATURES)), layer])
    model.export(tmp_path, verbose=False)
    assert ("BlockLSTMV2" in portable_ops(tmp_path)) == in_one
    loaded = tf.saved_model.load(tmp_path)
    sizes = [(0, 2), (1, 1), (1, 7), (3, 2), (2, loop.BLOCK), (rows.FEW, 2 * loop.BLOCK)]
    for batch, time in [*sizes, (fused.FEW, 3), (rows.FEW + 5, 3)]:
        x = np.random.default_rng(batch).normal(size=(batch, time, FEATURES)).astype("float32")
        np.testing.assert_allclose(loaded.serve(x), model(x), rtol=1e-5, atol=1e-5)
    for batch in (0, 1, rows.FEW):
        assert loaded.serve(tf.zeros((batch, 0, FEATURES))).shape == (batch, 0, UNITS)
