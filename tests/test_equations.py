"""Every cell against its equations, written plainly in numpy: one row, one step at a time."""

import numpy as np
import pytest

import layers

BATCH, TIME, FEATURES, UNITS = 4, 5, 3, 2

MASKS = {
    "none": None,
    "left": [[0, 0, 1, 1, 1], [0, 1, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 1]],
    "right": [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [1, 1, 1, 1, 0]],
    "holes": [[1, 0, 1, 0, 1], [0, 1, 0, 0, 1], [1, 0, 0, 1, 0], [0, 1, 1, 0, 0]],
    "whole row": [[1, 1, 1, 1, 1], [0, 0, 0, 0, 0], [0, 1, 0, 1, 1], [0, 0, 0, 0, 0]],
}


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def blocks(matrix, gates):
    """The columns of each gate."""
    return [matrix[..., k * UNITS : (k + 1) * UNITS] for k in range(gates)]


def simple_rnn(x, states, U, W, b):
    (h,) = states
    return [np.tanh(x @ U + h @ W + b)]


def lstm(x, states, U, W, b):
    h, c = states
    i, f, g, o = [x @ u + h @ w + d for u, w, d in zip(*(blocks(m, 4) for m in (U, W, b)))]
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return [sigmoid(o) * np.tanh(c), c]


def gru(x, states, U, W, b, reset_after, update_gate):
    (h,) = states
    (U_z, U_r, U_h), (W_z, W_r, W_h) = blocks(U, 3), blocks(W, 3)
    b, d = b if b.ndim == 2 else (b, np.zeros_like(b))
    (b_z, b_r, b_h), (d_z, d_r, d_h) = blocks(b, 3), blocks(d, 3)
    z = sigmoid(x @ U_z + h @ W_z + b_z + d_z)
    r = sigmoid(x @ U_r + h @ W_r + b_r + d_r)
    if reset_after:
        new = np.tanh(x @ U_h + b_h + r * (h @ W_h + d_h))
    else:
        new = np.tanh(x @ U_h + (r * h) @ W_h + b_h)
    return [z * h + (1 - z) * new if update_gate == "keep" else (1 - z) * h + z * new]


def gru_form(**form):
    def step(x, states, U, W, b):
        return gru(x, states, U, W, b, **form)

    return layers.GRU, form, step


FORMS = {
    "SimpleRNN": (layers.SimpleRNN, {}, simple_rnn),
    "LSTM": (layers.LSTM, {}, lstm),
    "LSTM, no forget bias": (layers.LSTM, {"unit_forget_bias": False}, lstm),
    "GRU after, keep": gru_form(reset_after=True, update_gate="keep"),
    "GRU after, replace": gru_form(reset_after=True, update_gate="replace"),
    "GRU before, keep": gru_form(reset_after=False, update_gate="keep"),
    "GRU before, replace": gru_form(reset_after=False, update_gate="replace"),
}


def over_time(step, weights, x, states, mask):
    """A step that does not count changes nothing; its output is the one before, at first zero."""
    outputs, last = np.zeros((BATCH, TIME, UNITS)), []
    for row in range(BATCH):
        output, now = np.zeros(UNITS), [s[row] for s in states]
        for t in range(TIME):
            if mask[row][t]:
                now = step(x[row, t], now, *weights)
                output = now[0]
            outputs[row, t] = output
        last.append(now)
    return outputs, [np.stack(s) for s in zip(*last)]


@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("name", FORMS)
def test_equations(name, use_bias, kind, go_backwards):
    layer_class, form, step = FORMS[name]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH, TIME, FEATURES))
    layer = layer_class(
        UNITS,
        **form,
        use_bias=use_bias,
        go_backwards=go_backwards,
        return_sequences=True,
        return_state=True,
        dtype="float64",
    )
    layer.build(x.shape)
    weights = [rng.normal(size=w.shape) for w in layer.get_weights()]
    layer.set_weights(weights)
    weights = weights if use_bias else [*weights, np.zeros(weights[0].shape[1])]
    mask = np.ones((BATCH, TIME)) if MASKS[kind] is None else np.array(MASKS[kind])
    direction = slice(None, None, -1 if go_backwards else 1)

    given = [rng.normal(size=(BATCH, UNITS)) for _ in layer.state_size]
    for states in (given, None):
        expected, expected_states = over_time(
            step,
            weights,
            x[:, direction],
            states or [np.zeros_like(s) for s in given],
            mask[:, direction],
        )
        arguments = {"mask": None if MASKS[kind] is None else mask, "initial_state": states}
        outputs, *last = layer(x, **arguments)
        np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-12)
        np.testing.assert_allclose(np.stack(last), np.stack(expected_states), rtol=0, atol=1e-12)

        layer.return_sequences = False
        np.testing.assert_allclose(layer(x, **arguments)[0], expected[:, -1], rtol=0, atol=1e-12)
        layer.return_sequences = True


@pytest.mark.parametrize("remembers", [True, False])
def test_the_forget_gate_starts_open(remembers):
    layer = layers.LSTM(UNITS, unit_forget_bias=remembers)
    layer.build((BATCH, TIME, FEATURES))
    expected = np.zeros((4, UNITS))
    expected[1] = remembers
    np.testing.assert_array_equal(layer.get_weights()[2], expected.ravel())
