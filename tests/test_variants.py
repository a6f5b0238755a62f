"""The published variants of the LSTM, and IndRNN, against their equations in numpy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import layers

pytestmark = pytest.mark.usefixtures("without_graph_optimizer")

BATCH, TIME, FEATURES, UNITS = 3, 5, 4, 6
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(BATCH, TIME, FEATURES))
MASK = np.array([[1, 1, 1, 1, 1], [0, 1, 0, 1, 0], [0, 0, 0, 0, 0]], bool)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def norm(a, epsilon):
    return (a - a.mean(-1, keepdims=True)) / np.sqrt(a.var(-1, keepdims=True) + epsilon)


def peephole(x, h, c, w, _):
    i, f, g, o = np.split(x @ w["kernel"] + h @ w["recurrent_kernel"] + w["bias"], 4, axis=-1)
    p_i, p_f, p_o = w["peephole"]
    c_new = sigmoid(f + p_f * c) * c + sigmoid(i + p_i * c) * np.tanh(g)
    return sigmoid(o + p_o * c_new) * np.tanh(c_new), c_new


def coupled(x, h, c, w, _):
    i, g, o = np.split(x @ w["kernel"] + h @ w["recurrent_kernel"] + w["bias"], 3, axis=-1)
    c_new = (1 - sigmoid(i)) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c_new), c_new


def plain(x, h, c, w, _):
    i, f, g, o = np.split(x @ w["kernel"] + h @ w["recurrent_kernel"] + w["bias"], 4, axis=-1)
    c_new = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c_new), c_new


def projected(x, r, c, w, _):
    h, c_new = plain(x, r, c, w, _)
    return h @ w["projection_kernel"], c_new


def layer_norm(x, h, c, w, cell):
    z = w["input_gain"] * norm(x @ w["kernel"], cell.epsilon) + w["bias"]
    z = z + w["recurrent_gain"] * norm(h @ w["recurrent_kernel"], cell.epsilon)
    i, f, g, o = np.split(z, 4, axis=-1)
    c_new = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    shown = w["state_gain"] * norm(c_new, cell.epsilon) + w["state_bias"]
    return sigmoid(o) * np.tanh(shown), c_new


def zoneout(x, h, c, w, cell):
    h_new, c_new = plain(x, h, c, w, cell)
    d_h, d_c = cell.zoneout_h, cell.zoneout_c
    return d_h * h + (1 - d_h) * h_new, d_c * c + (1 - d_c) * c_new


def independent(x, h, w, _):
    return (np.maximum(x @ w["kernel"] + w["recurrent_kernel"] * h + w["bias"], 0),)


VARIANTS = {
    layers.PeepholeLSTM: (peephole, {}),
    layers.CoupledLSTM: (coupled, {}),
    layers.ProjectedLSTM: (projected, {"projection": 2}),
    layers.LayerNormLSTM: (layer_norm, {"epsilon": 1e-2}),
    layers.ZoneoutLSTM: (zoneout, {"zoneout_h": 0.2, "zoneout_c": 0.6}),
    layers.IndRNN: (independent, {}),
}


@pytest.fixture(params=VARIANTS, ids=lambda c: c.__name__)
def variant(request):
    """(layer in float64 with random weights, its step in numpy)."""
    step, options = VARIANTS[request.param]
    layer = request.param(
        UNITS, **options, return_sequences=True, return_state=True, dtype="float64"
    )
    layer.build((None, None, FEATURES))
    layer.set_weights([RANDOM.normal(size=w.shape, scale=0.7) for w in layer.weights])
    return layer, step


def start(layer):
    return [RANDOM.normal(size=(BATCH, n)) for n in layer.cell.state_sizes]


@pytest.mark.parametrize("mask", [None, MASK], ids=["unmasked", "masked"])
def test_equals_its_equations(variant, mask):
    layer, step = variant
    weights = {w.name: w.numpy() for w in layer.weights}
    states = initial = start(layer)
    expected, shown = [], np.zeros_like(initial[0])
    for t in range(TIME):
        new = step(X[:, t], *states, weights, layer.cell)
        counts = np.ones((BATCH, 1), bool) if mask is None else mask[:, t, None]
        states = [np.where(counts, n, s) for n, s in zip(new, states)]
        shown = np.where(counts, new[0], shown)
        expected.append(shown)
    outputs, *last = layer(X, initial_state=initial, mask=mask)
    np.testing.assert_allclose(outputs, np.stack(expected, axis=1), atol=1e-12)
    for ours, reference in zip(last, states, strict=True):
        np.testing.assert_allclose(ours, reference, atol=1e-12)


@pytest.mark.parametrize("training", [False, True])
def test_gradients_are_the_slopes(variant, training):
    """Along a random direction of everything at once, by central differences."""
    layer, _ = variant
    training &= not isinstance(layer, layers.ZoneoutLSTM)  # which draws at random
    x, states = tf.constant(X), [tf.constant(s) for s in start(layer)]
    weigh = RANDOM.normal(size=(BATCH, TIME, layer.cell.output_size))

    @tf.function
    def loss(x, states):
        outputs, *last = layer(x, initial_state=states, mask=MASK, training=training)
        return tf.reduce_sum(outputs * weigh) + sum(tf.reduce_sum(s**2) for s in last)

    variables = [w.value for w in layer.weights]
    with tf.GradientTape() as tape:
        tape.watch([x, states])
        value = loss(x, states)
    gradients = tf.nest.flatten(tape.gradient(value, [x, states, variables]))
    towards = [RANDOM.normal(size=g.shape) for g in gradients]
    slope = sum(np.sum(g * d) for g, d in zip(gradients, towards))

    def moved(by):
        now = [v + by * d for v, d in zip([x, *states], towards)]
        for v, d in zip(variables, towards[1 + len(states) :]):
            v.assign_add(by * d)
        value = loss(now[0], now[1:]).numpy()
        for v, d in zip(variables, towards[1 + len(states) :]):
            v.assign_sub(by * d)
        return value

    assert slope == pytest.approx((moved(1e-6) - moved(-1e-6)) / 2e-6, rel=1e-5)


def test_all_run_in_both_directions_saved_and_exported(tmp_path):
    inputs = keras.Input((None, FEATURES), dtype="float64")
    mask, outputs, sizes = keras.ops.any(inputs > -1, axis=-1), [], []
    for layer_class, (_, arguments) in VARIANTS.items():
        layer = layer_class(UNITS, return_sequences=True, dtype="float64", **arguments)
        outputs.append(layers.Bidirectional(layer, dtype="float64")(inputs, mask=mask))
        sizes.append(2 * layer.cell.output_size)
    model = keras.Model(inputs, keras.ops.concatenate(outputs, axis=-1))
    expected = model(X)
    assert expected.shape == (BATCH, TIME, sum(sizes))
    model.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "m.keras")(X), expected)
    with layers.without_gradients():
        model.export(tmp_path / "saved", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "saved")
    np.testing.assert_allclose(loaded.serve(tf.constant(X)), expected, atol=1e-12)


def test_projected_lstm_equals_pytorchs():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    theirs = torch.nn.LSTM(FEATURES, UNITS, proj_size=2, batch_first=True, dtype=torch.float64)
    ours = layers.ProjectedLSTM(UNITS, 2, return_sequences=True, dtype="float64")
    ours.build((None, None, FEATURES))
    w = {name: a.detach().numpy() for name, a in theirs.state_dict().items()}
    bias = w["bias_ih_l0"] + w["bias_hh_l0"]
    ours.set_weights([w["weight_ih_l0"].T, w["weight_hh_l0"].T, bias, w["weight_hr_l0"].T])
    expected = theirs(torch.from_numpy(X))[0].detach().numpy()
    np.testing.assert_allclose(ours(X), expected, atol=1e-12)


def test_zoneout_keeps_units_at_its_rates_anew_every_step():
    cell = layers.ZoneoutLSTMCell(400, zoneout_h=0.3, zoneout_c=0.6, seed=1)
    layer = layers.RNN(cell, return_sequences=True, return_state=True)
    x = RANDOM.normal(size=(4, 20, 3)).astype("float32")
    outputs = np.stack([layer(x, training=True)[0] for _ in range(2)])
    kept = outputs[:, :, 1:] == outputs[:, :, :-1]
    assert kept.mean() == pytest.approx(0.3, abs=0.01)
    assert not np.array_equal(kept[0], kept[1])
    assert not np.array_equal(kept[0, :, 0], kept[0, :, 1])
    h, c = (layer(x[:, :1], initial_state=[2 * np.ones((4, 400))] * 2, training=True))[1:]
    assert np.mean(c.numpy() == 2) == pytest.approx(0.6, abs=0.05)
    assert np.mean(h.numpy() == 2) == pytest.approx(0.3, abs=0.05)


def test_layer_norm_does_not_overflow_in_half_precision():
    large = np.full((1, 3, FEATURES), 1000.0)
    full = layers.LayerNormLSTM(UNITS, seed=0)
    half = layers.LayerNormLSTM(UNITS, dtype="mixed_float16")
    expected = full(large)
    half.build((None, None, FEATURES))
    half.set_weights(full.get_weights())
    np.testing.assert_allclose(half(large), expected, atol=1e-2)
    assert np.abs(expected).max() > 0.1


def test_coupled_lstm_remembers_at_first():
    layer = layers.CoupledLSTM(2)
    layer.build((None, None, 3))
    np.testing.assert_array_equal(layer.get_weights()[2], [-1, -1, 0, 0, 0, 0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.ProjectedLSTM(4, 0), "`projection`.*positive integer, got 0"),
        (lambda: layers.ZoneoutLSTM(4, zoneout_c=1.5), r"`zoneout_c`.*in \[0, 1\], got 1.5"),
        (lambda: layers.IndRNN(4, recurrent_dropout=0.5), "`recurrent_dropout`.*got 0.5"),
    ],
)
def test_errors_name_the_argument(make, message):
    with pytest.raises(ValueError, match=message):
        make()
