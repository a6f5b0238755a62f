"""Every implementation runs cells drawn at random as a loop in Python runs them.

RANDOM_CELLS=500 pytest tests/test_random_cells.py     for more than the usual number
"""

import os

import numpy as np
import pytest
import random_cells
import tensorflow as tf

from layers import recurrence
from layers.recurrence import loop, parts, rows

pytestmark = pytest.mark.usefixtures("without_graph_optimizer")

COUNT = int(os.environ.get("RANDOM_CELLS", 24))
FEATURES = 3
# Implementation, whether sizes are known, whether the caller has XLA compile it.
WAYS = {
    "compiled": ("compiled", True, False),
    "compiled, any size": ("compiled", False, False),
    "derived": ("derived", True, False),
    "derived, any size": ("derived", False, False),
    "within XLA": (None, True, True),
    "loop": ("loop", False, False),
    "eager": (None, True, None),
}

RUNS = [(name, training) for name in WAYS for training in (True, False)]
RUNS.remove(("compiled", False))  # it compiles for the size that it meets, as "any size" does


@pytest.fixture
def short_parts(monkeypatch):
    monkeypatch.setattr(parts, "KNOWN", 4)
    monkeypatch.setattr(parts, "UNKNOWN", 4)


@pytest.mark.usefixtures("short_parts")
@pytest.mark.parametrize("seed", range(COUNT))
def test_a_cell_drawn_at_random(seed):
    drawn = random_cells.Drawn(seed)
    cell, rng = random_cells.cell_of(drawn), np.random.default_rng([seed, 1])
    features = int(rng.choice([1, FEATURES]))
    cell.build((None, None, features))
    cell.set_weights([0.5 * rng.normal(size=w.shape) for w in cell.get_weights()])
    batch = int(rng.choice([1, 2, rows.FEW, rows.FEW + 1]))
    time = int(rng.choice([1, 3, loop.BLOCK + 1, loop.BLOCK + 2, 2 * loop.BLOCK]))
    given = {
        "x": tf.constant(rng.normal(size=(batch, time, features))),
        "states": [tf.constant(rng.normal(size=(batch, size))) for size in drawn.state_size],
        "constants": [tf.constant(rng.normal(size=(batch, 2, drawn.units)))] * drawn.constants,
    }
    mask = tf.constant(rng.random((batch, time)) < 0.6) if rng.random() < 0.4 else None

    def results(run, x, states, constants):
        with tf.GradientTape() as tape:
            tape.watch([x, states, constants])
            y, last = run(x, states, constants)
            total = tf.reduce_sum(tf.sin(y)) + sum(tf.reduce_sum(s**2) for s in last)
        weights = [w.value for w in cell.trainable_weights]
        sources = [x, states, constants, weights]
        return y, last, tape.gradient(total, sources, unconnected_gradients="zero")

    def true(x, states, constants):
        return random_cells.truth(cell, drawn, x, states, mask, constants)

    expected = tf.nest.flatten(results(true, **given))
    for k in rng.choice(len(RUNS), 2, replace=False):
        name, training = RUNS[k]
        found = _found(cell, *WAYS[name], training, results, given, mask)
        for ours, value in zip(tf.nest.flatten(found), expected, strict=True):
            message = f"{name}, training={training}: {drawn.terms}"
            np.testing.assert_allclose(ours, value, rtol=1e-7, atol=1e-8, err_msg=message)


def _found(cell, implementation, known, xla, training, results, given, mask):
    def run(x, states, constants):
        return recurrence.run(
            cell, x, states, mask, constants, training=training, implementation=implementation
        )

    if xla is None:
        return results(run, **given)

    def spec(t):
        free = [None] * (2 if t.shape.rank == 3 and t.shape[1] == given["x"].shape[1] else 1)
        return tf.TensorSpec(t.shape if known else [*free, *t.shape[len(free) :]], t.dtype)

    signature = tf.nest.map_structure(spec, list(given.values()))
    in_graph = tf.function(
        lambda *arguments: results(run, *arguments), autograph=False, jit_compile=xla or None
    )
    return in_graph.get_concrete_function(*signature)(*tf.nest.flatten(list(given.values())))
