"""The conditional random field against all paths, counted one by one in numpy."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import portable_ops

import layers
from layers.sequences import crf

BATCH, TIME, TAGS = 4, 4, 3
BIO = {  # B, I, O: what goes on has begun
    "allowed": [[1, 1, 1], [1, 1, 1], [1, 0, 1]],
    "allowed_starts": [1, 0, 1],
    "allowed_ends": [1, 1, 1],
}
CASES = {
    "all allowed": {},
    "BIO": BIO,
    "one tag": {},
    "no way back": {"allowed": np.triu(np.ones((TAGS, TAGS), bool)), "allowed_ends": [0, 0, 1]},
}
MASKS = {
    "none": None,
    "left": [[0, 0, 1, 1], [0, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 1]],
    "right": [[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 1, 0]],
    "holes": [[1, 0, 1, 1], [0, 1, 0, 1], [1, 0, 0, 1], [0, 1, 1, 0]],
    "whole row": [[1, 1, 1, 1], [0, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]],
}


# --- The truth ------------------------------------------------------------------------------


def all_paths(emissions, mask, weights, limits):
    """Of one row: the paths through its steps that count, and the score of each."""
    transitions, starts, ends = (w.copy() for w in weights)
    for scores, name in (
        (transitions, "allowed"),
        (starts, "allowed_starts"),
        (ends, "allowed_ends"),
    ):
        if name in limits:
            scores[~np.array(limits[name], bool)] = -np.inf
    steps = np.flatnonzero(mask)
    paths = [*itertools.product(range(len(starts)), repeat=len(steps))]
    scores = []
    for path in paths:
        score = sum(emissions[t, tag] for t, tag in zip(steps, path))
        score += sum(transitions[i, j] for i, j in itertools.pairwise(path))
        scores.append(score + (starts[path[0]] + ends[path[-1]] if path else 0))
    return paths, np.array(scores)


def expected(emissions, mask, weights, limits, labels):
    """Of each row: its loss, best path, that path's score, and marginals; a step left out has
    those of the step before, and at first tag 0."""
    tags = emissions.shape[-1]
    found = []
    for row, counts, right in zip(emissions, mask, labels):
        paths, scores = all_paths(row, counts, weights, limits)
        p = np.exp(scores - scores.max())
        p /= p.sum()
        right = tuple(right[np.flatnonzero(counts)])
        best = paths[scores.argmax()]
        tag, here, path, marginals, k = 0, np.eye(tags)[0], [], [], 0
        for t in range(len(row)):
            if counts[t]:
                tag = best[k]
                here = np.array([sum(p[n] for n, q in enumerate(paths) if q[k] == j)
                                 for j in range(tags)])  # fmt: skip
                k += 1
            path.append(tag)
            marginals.append(here)
        found.append((-np.log(p[paths.index(right)]), path, scores.max(), marginals))
    loss, path, score, marginals = zip(*found) if found else ([], [], [], [])
    size = emissions.shape[:2]
    return (
        np.array(loss),
        np.reshape(path, size),
        np.array(score),
        np.reshape(marginals, emissions.shape),
    )


# --- The layer, traced once for all sizes ------------------------------------------------------


class Traced:
    def __init__(self, tags, limits):
        self.layer = layers.CRF(**limits, dtype="float64")
        self.layer.build((None, None, tags))
        self.weights = [np.random.default_rng(1).normal(size=w.shape) for w in self.layer.weights]
        self.layer.set_weights(self.weights)

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, None, tags], tf.float64),
                tf.TensorSpec([None, None], tf.bool),
                tf.TensorSpec([None, None], tf.int32),
            ]
        )
        def ask(emissions, mask, labels):
            with tf.GradientTape() as tape:
                tape.watch(emissions)
                potentials = self.layer(emissions, mask=mask)
                loss = layers.crf_loss(labels, potentials)
            gradients = tape.gradient(loss, [emissions, *self.layer.trainable_variables])
            path, score = layers.crf_decode(potentials)
            return (loss, path, score, layers.crf_marginals(potentials)), gradients

        self.ask = ask


@pytest.fixture(scope="module")
def traced():
    return {
        name: Traced(1 if name == "one tag" else TAGS, limits) for name, limits in CASES.items()
    }


def inputs(tags, mask, size=(BATCH, TIME)):
    rng = np.random.default_rng(0)
    emissions = rng.normal(size=(*size, tags))
    labels = rng.integers(0, tags, size=size, dtype="int32")
    mask = np.ones(size, bool) if mask is None else np.array(mask, bool)
    return emissions, mask, labels


def assert_same(found, truth):
    for a, b in zip(found, truth):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("case", CASES)
def test_all_paths(traced, case, kind):
    ours, limits = traced[case], CASES[case]
    tags = len(ours.weights[1])
    emissions, mask, labels = inputs(tags, MASKS[kind])
    if limits:  # what is right is allowed
        rows = zip(emissions, mask)
        for row, (x, counts) in enumerate(rows):
            paths, scores = all_paths(x, counts, ours.weights, limits)
            some = [path for path, score in zip(paths, scores) if np.isfinite(score)]
            labels[row][counts] = some[len(some) // 2]
    labels[~mask] = 77  # does not matter
    found, gradients = ours.ask(emissions, mask, labels)
    assert_same(found, expected(emissions, mask, ours.weights, limits, labels))
    assert not gradients[0].numpy()[~mask].any()
    if "allowed" in limits:
        assert not gradients[1].numpy()[~np.array(limits["allowed"], bool)].any()


@pytest.mark.parametrize("size", [(3, 1), (3, 0), (0, 3), (0, 0)])
def test_short_sequences_and_empty_batches(traced, size):
    given = inputs(TAGS, None, size)
    ours = traced["all allowed"]
    found, gradients = ours.ask(*given)
    assert_same(found, expected(*given[:2], ours.weights, {}, given[2]))
    assert np.isfinite(np.concatenate([np.ravel(g) for g in gradients])).all()


def test_gradients_are_those_of_finite_differences(traced):
    ours, small = traced["all allowed"], 1e-5
    emissions, mask, labels = inputs(TAGS, MASKS["holes"])
    _, gradients = ours.ask(emissions, mask, labels)

    def loss(emissions, *weights):
        return expected(emissions, mask, weights, {}, labels)[0].sum()

    point = [emissions, *ours.weights]
    for k, gradient in enumerate(gradients):
        for place in np.ndindex(*point[k].shape):
            change = np.zeros_like(point[k])
            change[place] = small
            above, below = (
                loss(*point[:k], point[k] + sign * change, *point[k + 1 :]) for sign in (1, -1)
            )
            difference = (above - below) / (2 * small)
            np.testing.assert_allclose(gradient.numpy()[place], difference, rtol=0, atol=1e-8)


def test_second_derivatives():
    """The expected counts' derivatives are their covariances."""
    potentials = tf.constant(np.random.default_rng(0).normal(size=(1, 2, 2, 2)))
    labels = tf.zeros((1, 2), "int32")
    with tf.GradientTape() as outer:
        outer.watch(potentials)
        with tf.GradientTape() as inner:
            inner.watch(potentials)
            loss = layers.crf_loss(labels, potentials)
        (expectation,) = inner.gradient(loss, [potentials])
        last = expectation[0, 1, 0, 1]
    found = outer.gradient(last, potentials)[0, 1, 0, 1]
    p = expectation[0, 1, 0, 1]  # the labels are 0, 0: none is taken off here
    np.testing.assert_allclose(found, p * (1 - p), atol=1e-12)


# --- What can't be ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "mixed_float16", "mixed_bfloat16"])
def test_where_every_path_is_forbidden_all_is_finite(dtype):
    only = np.zeros((TAGS, TAGS), bool)
    only[0, 1] = True  # no third step
    layer = layers.CRF(allowed=only, allowed_ends=[1, 0, 0], dtype=dtype)
    emissions = tf.constant(inputs(TAGS, None)[0], "float32")
    with tf.GradientTape() as tape:
        tape.watch(emissions)
        potentials = layer(emissions)
        loss = layers.crf_loss(np.zeros((BATCH, TIME)), potentials)
    path, score = layers.crf_decode(potentials)
    gradients = tape.gradient(loss, [emissions, *layer.weights])
    for found in (loss, score, layers.crf_marginals(potentials), *gradients):
        assert np.isfinite(found).all()
    assert potentials.dtype == ("float64" if dtype == "float64" else "float32")
    assert path.shape == (BATCH, TIME) and (score.numpy() < -1e9).all()


def test_a_forbidden_label_costs_much_and_no_label_is_nan(traced):
    emissions, mask, labels = inputs(TAGS, None)
    labels[:] = 2
    labels[0, 1] = 1  # O, I
    labels[1, 2] = TAGS
    labels[2, 0] = -1
    (loss, *_), _ = traced["BIO"].ask(emissions, mask, labels)
    assert 1e9 < loss[0] < 1.1e9 and np.isnan(loss[1:3]).all() and loss[3] < 100


def test_a_long_sequence_in_float32():
    rng = np.random.default_rng(0)
    emissions = rng.normal(scale=30, size=(1, 700, TAGS))
    losses = []
    for dtype in ("float32", "float64"):
        layer = layers.CRF(**BIO, dtype=dtype)
        potentials = layer(emissions.astype(dtype))
        path, _ = tf.function(layers.crf_decode)(potentials)
        assert not np.any((path[:, 1:] == 1) & (path[:, :-1] == 2))
        losses.append(tf.function(layers.crf_loss)(np.zeros((1, 700)), potentials))
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


# --- In Keras ----------------------------------------------------------------------------------

HIDDEN, PADDING = 3, 0


def alternating(count, length=6):
    """Tags that alternate, of which only the first is seen, on the left of some padding."""
    rng = np.random.default_rng(0)
    tags = (rng.integers(0, 2, (count, 1)) + np.arange(length)) % 2
    tokens = np.full((count, length), HIDDEN)
    tokens[:, 0] = tags[:, 0] + 1
    tokens[np.arange(length) >= rng.integers(2, length + 1, (count, 1))] = PADDING
    return tokens, np.where(tokens == PADDING, -1, tags)


@pytest.fixture(scope="module")
def tagger():
    """A tagger of `alternating`, and the history of its training."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(4, 2, mask_zero=True),
            layers.CRF(regularizer=keras.regularizers.L2(1e-4)),
        ]
    )
    model.compile(keras.optimizers.Adam(0.1), layers.crf_loss, jit_compile=True)
    history = model.fit(*alternating(64), batch_size=32, epochs=30, verbose=0).history
    return model, history


def test_transitions_are_learned_where_emissions_tell_nothing(tagger):
    model, history = tagger
    assert history["loss"][-1] < 0.1 * history["loss"][0]
    tokens, tags = alternating(100)
    path, _ = layers.crf_decode(model.predict(tokens, verbose=0))
    assert (path.numpy() == tags)[tokens != PADDING].all()


def test_the_mask_of_the_layer_before(tagger):
    model, _ = tagger
    tokens, tags = alternating(5)
    scores = model.layers[0](tokens)
    potentials = model.layers[1](scores, mask=tokens != PADDING)
    np.testing.assert_array_equal(model(tokens), potentials)
    assert getattr(model(tokens), "_keras_mask", None) is None
    longer = np.pad(tokens, [[0, 0], [2, 1]])
    losses = [
        layers.crf_loss(y, model(x))
        for x, y in ((tokens, tags), (longer, np.pad(tags, [[0, 0], [2, 1]])))
    ]
    np.testing.assert_allclose(*losses, atol=1e-5)


def test_sample_weights_are_of_sequences(tagger):
    model, _ = tagger
    tokens, tags = alternating(8)
    weights = np.linspace(0, 2, 8)
    found = model.evaluate(tokens, tags, sample_weight=weights, verbose=0)
    truth = np.mean(weights * layers.crf_loss(tags, model(tokens))) + sum(model.losses)
    np.testing.assert_allclose(found, truth, rtol=1e-5)


def test_saved_and_loaded(tagger, tmp_path):
    model, _ = tagger
    tokens, _ = alternating(8)
    model.save(tmp_path / "tagger.keras")
    loaded = keras.models.load_model(tmp_path / "tagger.keras")
    np.testing.assert_array_equal(loaded(tokens), model(tokens))
    assert loaded.loss is layers.crf_loss

    drawn = layers.CRF(initializer="random_normal")
    drawn.build((None, None, 3))
    assert np.abs(drawn.starts.numpy() - drawn.ends.numpy()).max() > 0
    layer = layers.CRF(**BIO, initializer="ones", name="bio")
    again = layers.CRF.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    emissions = inputs(TAGS, None)[0]
    np.testing.assert_array_equal(again(emissions), layer(emissions))


def test_exported_it_answers_the_same(tagger, tmp_path):
    model, _ = tagger
    module = tf.Module()
    module.weights = model.weights

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)])
    def tag(tokens):
        potentials = model(tokens)
        tags, scores = layers.crf_decode(potentials)
        return {"tags": tags, "scores": scores, "p": layers.crf_marginals(potentials)}

    tf.saved_model.save(module, str(tmp_path), tag.get_concrete_function())
    portable_ops(tmp_path)
    served = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    for size in ((8, 6), (2, 1), (2, 0), (0, 4)):
        tokens = alternating(8)[0][: size[0], : size[1]].astype("int32")
        potentials = model(tokens)
        answer = served(tf.constant(tokens))
        path, scores = layers.crf_decode(potentials)
        np.testing.assert_array_equal(answer["tags"], path)
        np.testing.assert_allclose(answer["scores"], scores, atol=1e-5)
        np.testing.assert_allclose(answer["p"], layers.crf_marginals(potentials), atol=1e-5)


def test_what_is_known_of_the_size_stays_known():
    for size in ((BATCH, TIME), (None, TIME), (None, None)):
        spec = tf.TensorSpec([*size, TAGS, TAGS])
        (path, score), p = tf.function(
            lambda x: (layers.crf_decode(x), layers.crf_marginals(x)), autograph=False
        ).get_concrete_function(spec).structured_outputs  # fmt: skip
        assert path.shape.as_list() == [*size] and p.shape.as_list() == [*size, TAGS]
        assert score.shape.as_list() == [size[0]]


def test_xla_decodes_the_same(tagger):
    model, _ = tagger
    potentials = model(alternating(5)[0])
    for function in (layers.crf_decode, layers.crf_marginals):
        plain, compiled = function(potentials), tf.function(function, jit_compile=True)(potentials)
        tf.nest.map_structure(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), plain, compiled
        )


# --- Errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({"allowed": [1, 0]}, ["`allowed`", "(tags, tags)"]),
        ({"allowed": [[1, 2], [0, 1]]}, ["`allowed`", "booleans"]),
        ({"allowed": [[0, 0], [0, 0]]}, ["`allowed`", "everything"]),
        ({"allowed_starts": [[1, 0]]}, ["`allowed_starts`", "(tags,)"]),
        ({"allowed_ends": [0, 0, 0]}, ["`allowed_ends`", "everything"]),
    ],
)
def test_what_is_allowed(arguments, said):
    with pytest.raises(ValueError) as error:
        layers.CRF(**arguments)
    assert all(part in str(error.value) for part in said), error.value


def zeros(*shape):
    return np.zeros(shape, "float32")


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: layers.CRF()(zeros(2, 3)), ["ndim=3", "(2, 3)"]),
        (lambda: layers.CRF(allowed=np.eye(2))(zeros(2, 3, 4)), ["`allowed`", "(2, 2)", "(4, 4)"]),
        (lambda: layers.CRF(allowed_ends=[1])(zeros(2, 3, 4)), ["`allowed_ends`", "(1,)", "(4,)"]),
        (
            lambda: layers.CRF()(zeros(2, 3, 4), mask=np.ones((2, 4), bool)),
            ["`mask`", "(2, 4)", "(2, 3)"],
        ),
        (lambda: layers.CRF()(keras.Input((5, None))), ["how many tags"]),
        (lambda: layers.crf_loss(zeros(2, 3), zeros(2, 3, 4)), ["(2, 3, 4)", "`layers.CRF`"]),
        (lambda: layers.crf_decode(zeros(2, 3, 4, 5)), ["(2, 3, 4, 5)", "`layers.CRF`"]),
        (lambda: layers.crf_marginals(zeros(2, 3)), ["(2, 3)", "`layers.CRF`"]),
        (lambda: layers.crf_loss(zeros(2, 4), zeros(2, 3, 4, 4)), ["`y_true`", "(2, 4)", "(2, 3)"]),
        (lambda: layers.crf_loss(zeros(2, 3, 4), zeros(2, 3, 4, 4)), ["`y_true`", "one-hot"]),
    ],
)
def test_shapes(call, said):
    with pytest.raises(ValueError) as error:
        call()
    assert all(part in str(error.value) for part in said), error.value


def test_a_step_left_out_is_known_in_every_float_type():
    numbers = np.array([crf.FORBIDDEN, crf.NO_PATH])
    assert (tf.cast(tf.cast(numbers, "bfloat16"), "float64") == numbers).numpy().all()


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_half_of_a_float_is_summed_in_a_whole_one(half):
    potentials = tf.random.stateless_normal((2, 70, 3, 3), [0, 1])
    labels = tf.zeros((2, 70), tf.int32)
    rounded = tf.cast(potentials, half)
    expected = layers.crf_loss(labels, tf.cast(rounded, "float32"))
    np.testing.assert_array_equal(layers.crf_loss(labels, rounded), expected)
    with pytest.raises(ValueError, match=f"`y_true` in {half}"):
        layers.crf_loss(tf.cast(labels, half), rounded)
