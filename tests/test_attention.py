"""Attention around a cell: the equations in numpy, and all ways to run, train and export it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import layers
from layers.sequences.attention import PLACES, SCORES

pytestmark = pytest.mark.usefixtures("without_graph_optimizer")

BATCH, TIME, READ, FEATURES, ENCODED, UNITS = 4, 5, 6, 3, 5, 4
RANDOM = np.random.default_rng(0)
X, E = RANDOM.normal(size=(BATCH, TIME, FEATURES)), RANDOM.normal(size=(BATCH, READ, ENCODED))
COUNTS = np.array(
    [[1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 0, 0], [0, 1, 0, 0, 1, 1], [0, 0, 0, 0, 0, 0]], bool
)
STEPS = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 1, 0, 1, 1], [0, 0, 0, 0, 0]], bool)
CELLS = {
    "LSTM": lambda **how: layers.LSTMCell(UNITS, **how),
    "GRU": lambda **how: layers.GRUCell(UNITS, **how),
    "GRU before": lambda **how: layers.GRUCell(UNITS, reset_after=False, **how),
    "projected": lambda **how: layers.ProjectedLSTMCell(6, projection=UNITS, **how),
    "zoneout": lambda **how: layers.ZoneoutLSTMCell(UNITS, **how),
    "plain": lambda **how: layers.SimpleRNNCell(UNITS, **how),
    "IndRNN": lambda **how: layers.IndRNNCell(UNITS, **how),
}


def softmax(e):
    e = np.exp(e - e.max(initial=0))
    return e / e.sum()


def pair(score="general", cell="LSTM", way=None, features=ENCODED):
    """(the memory, the layer), with no weight zero."""
    memory = layers.AttentionMemory(UNITS, score, dtype="float64")
    inner = CELLS[cell](dtype="float64")
    layer = layers.RNN(
        layers.AttentionCell(inner, score), return_sequences=True, recurrence=way, dtype="float64"
    )
    memory.build((None, None, features))
    layer.build((None, None, FEATURES))
    for k, one in enumerate((memory, layer)):
        random = np.random.default_rng(k)
        one.set_weights([random.normal(size=w.shape) for w in one.get_weights()])
    return memory, layer


def named(layer):
    return {w.name: w.numpy() for w in layer.weights}


def slowly(memory, layer, score, x, encoded, counts, steps, step):
    """(the outputs, the weights), (batch, time, …), a row and a step at a time.

    `step(input, h̃, states)` is the cell's, from the states, a list of vectors.
    """
    w, m = named(layer), named(memory)
    outputs = np.zeros((*x.shape[:2], UNITS))
    looked = np.zeros((*x.shape[:2], encoded.shape[1]))
    for row in range(len(x)):
        attended, *states = (np.zeros(n) for n in layer.cell.state_sizes)
        places = np.flatnonzero(counts[row])
        for t in range(x.shape[1]):
            if steps[row, t]:
                states = step(x[row, t], attended, states)
                scores = []
                for s in places:
                    if score == "additive":
                        key = encoded[row, s] @ m["key_kernel"]
                        scores.append(
                            w["score_vector"] @ np.tanh(states[0] @ w["query_kernel"] + key)
                        )
                    else:
                        key = (
                            encoded[row, s] @ m["key_kernel"]
                            if score == "general"
                            else encoded[row, s]
                        )
                        scores.append(states[0] @ key)
                a = softmax(np.array(scores))
                looked[row, t, places] = a
                # Luong's W_c, whole.
                W_c = np.concatenate([m["value_kernel"], w["output_kernel"]])
                context = looked[row, t] @ encoded[row]
                attended = np.tanh(np.concatenate([context, states[0]]) @ W_c)
            outputs[row, t] = attended
    return outputs, looked


def lstm_step(layer):
    w = named(layer)

    def step(x, attended, states):
        h, c = states
        # As Luong has it: what is read is the input, and behind it what was attended to.
        kernel = np.concatenate([w["kernel"], w["feed_kernel"]])
        z = np.concatenate([x, attended]) @ kernel + h @ w["recurrent_kernel"] + w["bias"]
        i, f, g, o = np.split(z, 4)
        sigmoid = lambda a: 1 / (1 + np.exp(-a))  # noqa: E731
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return [sigmoid(o) * np.tanh(c), c]

    return step


@pytest.mark.parametrize("score", SCORES)
def test_the_equations(score):
    encoded = E[:, :, :UNITS] if score == "dot" else E
    memory, layer = pair(score, features=encoded.shape[-1])
    expected, looked = slowly(memory, layer, score, X, encoded, COUNTS, STEPS, lstm_step(layer))
    constants = memory(encoded, mask=COUNTS)
    np.testing.assert_allclose(layer(X, constants=constants, mask=STEPS), expected, atol=1e-12)
    found = layers.attention_weights(layer, X, constants, mask=STEPS).numpy()
    np.testing.assert_allclose(found[STEPS], looked[STEPS], atol=1e-12)


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell != "LSTM"])
def test_around_any_cell(cell):
    """The cell alone, on the input with what was attended to behind it, is a step of it."""
    memory, layer = pair(cell=cell)
    w, wider = named(layer), CELLS[cell](dtype="float64")
    wider.build((None, FEATURES + UNITS))
    kernel = np.concatenate([w["kernel"], w["feed_kernel"]])
    wider.set_weights([kernel, *layer.cell.cell.get_weights()[1:]])

    def step(x, attended, states):
        inputs = np.concatenate([x, attended])[None]
        _, new = wider(inputs, [s[None] for s in states])
        return [n.numpy()[0] for n in new]

    every = np.ones_like(STEPS)
    expected, looked = slowly(memory, layer, "general", X, E, COUNTS, every, step)
    constants = memory(E, mask=COUNTS)
    np.testing.assert_allclose(layer(X, constants=constants), expected, atol=1e-12)
    found = layers.attention_weights(layer, X, constants)
    np.testing.assert_allclose(found, looked, atol=1e-12)


def test_layer_norm_takes_what_is_fed_after_its_norm():
    cell = layers.AttentionCell(layers.LayerNormLSTMCell(UNITS))
    layer, memory = layers.RNN(cell, return_sequences=True), layers.AttentionMemory(UNITS)
    y = layer(X, constants=memory(E))
    cell.feed_kernel.assign(0.0 * cell.feed_kernel)
    without = layer(X, constants=memory(E))
    np.testing.assert_allclose(y[:, 0], without[:, 0], atol=1e-6)
    assert np.abs(y[:, 1:] - without[:, 1:]).max() > 1e-3


def slope_of(memory, layer, sources):
    """A function of sources and a direction: (the loss, the slope of each source in it)."""
    variables = [*memory.trainable_weights, *layer.trainable_weights]

    @tf.function(input_signature=[[tf.TensorSpec(s.shape, s.dtype) for s in sources]] * 2)
    def slope(sources, direction):
        x, e, *weights = sources
        with (
            tf.GradientTape() as tape,
            keras.StatelessScope(state_mapping=list(zip(variables, weights))),
        ):
            tape.watch(sources)
            constants = memory(e, mask=COUNTS, training=True)
            y = layer(x, constants=constants, mask=STEPS, training=True)
            loss = tf.reduce_sum(tf.sin(y))
        gradients = tape.gradient(loss, sources)
        return loss, tf.stack([tf.reduce_sum(g * d) for g, d in zip(gradients, direction)])

    return slope


@pytest.mark.parametrize(
    ("score", "ways"), [("general", ["derived", "loop", "compiled"]), ("additive", ["derived"])]
)
def test_gradients_in_every_implementation_are_finite_differences(score, ways):
    found, random = {}, np.random.default_rng(3)
    for way in ways:
        memory, layer = pair(score, "plain", way)
        weights = [w.value for w in (*memory.trainable_weights, *layer.trainable_weights)]
        sources = [tf.constant(x) for x in (X, E, *weights)]
        slope = slope_of(memory, layer, sources)
        if way == "derived":
            direction = [tf.constant(random.normal(size=s.shape)) for s in sources]
            differences = []
            for k, d in enumerate(direction):
                ahead, behind = (
                    slope([*sources[:k], sources[k] + h * d, *sources[k + 1 :]], direction)[0]
                    for h in (1e-6, -1e-6)
                )
                differences.append((ahead - behind) / 2e-6)
        loss, slopes = slope(sources, direction)
        found[way] = [loss, *slopes]
    np.testing.assert_allclose(found["derived"][1:], differences, rtol=1e-5, atol=1e-7)
    for way in ways:
        np.testing.assert_allclose(found[way], found["derived"], rtol=1e-9)


@pytest.fixture(scope="module")
def models():
    """(the whole: tokens in two languages in, a number for each step out; its decoder)."""
    source = keras.Input((None,), dtype="int32", name="source")
    encoded = keras.layers.Embedding(9, ENCODED, mask_zero=True)(source)
    memory = layers.AttentionMemory(UNITS, "additive", name="memory")(encoded)
    target = keras.Input((None,), dtype="int32", name="target")
    kept = [keras.Input(m.shape[1:], dtype=m.dtype, name=f"kept_{k}") for k, m in enumerate(memory)]
    cell = layers.AttentionCell(layers.LSTMCell(UNITS), "additive")
    x = keras.layers.Embedding(7, FEATURES)(target)
    decoder = layers.RNN(cell, return_sequences=True, recurrence="loop", name="decoder")
    y = keras.layers.Dense(1, name="y")(decoder(x, constants=kept))
    decoder = keras.Model([target, *kept], y)
    model = keras.Model([source, target], decoder([target, *memory]))
    model.compile(keras.optimizers.Adam(0.01), "mse", run_eagerly=True)
    losses = model.fit(*data(), epochs=3, batch_size=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    return model, decoder


def data():
    random = np.random.default_rng(0)
    source = random.integers(1, 9, size=(8, 6)) * (np.arange(6) < random.integers(1, 7, (8, 1)))
    target = random.integers(0, 7, size=(8, 5))
    return [source.astype("int32"), target.astype("int32")], np.ones((8, 5, 1))


def test_a_model_is_the_same_saved_and_whatever_the_padding(models, tmp_path):
    model, _ = models
    inputs, _ = data()
    expected = model(inputs)
    more = [np.pad(inputs[0], [[0, 0], [0, 3]]), inputs[1]]
    np.testing.assert_allclose(model(more), expected, atol=1e-6)
    model.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "m.keras")(inputs), expected)


def test_in_training_there_are_few_numbers_of_places(models):
    memory = models[0].get_layer("memory")
    seen = set()

    @tf.function(input_signature=[tf.TensorSpec([None, None, ENCODED])])
    def places(encoded):
        found = memory(encoded, training=True)
        return [tf.shape(found[0])[1], tf.reduce_sum(tf.cast(found[2], "int32"))]

    for n in range(1, 2 * PLACES + 1):
        in_all, counting = places(tf.zeros((1, n, ENCODED)))
        assert counting == n <= in_all
        seen.add(int(in_all))
    assert seen == {PLACES, 2 * PLACES}


def test_a_stream(models):
    model, decoder = models
    (source, target), _ = data()
    kept = keras.Model(model.inputs[0], model.get_layer("memory").output)(source)
    signatures = layers.streaming_signatures(decoder)
    stream, specs = signatures["stream"]
    assert list(specs)[:4] == ["target", "kept_0", "kept_1", "kept_2"]
    states = signatures["initial_state"][0](tf.constant(8))
    pieces = []
    for piece in np.split(target, [2, 2, 3], axis=1):
        answer = stream(tf.constant(piece), *kept, *states.values())
        states = {name: answer[name] for name in states}
        pieces.append(answer["y"])
    np.testing.assert_allclose(tf.concat(pieces, 1), model([source, target]), atol=1e-6)


def test_a_single_step_says_where_it_looks():
    memory, layer = pair("additive")
    constants, states = memory(E, mask=COUNTS), layer.cell.get_initial_state(BATCH)
    whole = layers.attention_weights(layer, X, constants)
    for t in range(TIME):
        _, states = layer.cell(tf.constant(X[:, t]), states, constants)
        weights = layer.cell.weights_at(states[1], constants)
        np.testing.assert_allclose(weights, whole[:, t], atol=1e-12)


def test_what_does_not_fit_is_refused():
    cell, memory = layers.AttentionCell(layers.LSTMCell(UNITS)), layers.AttentionMemory(UNITS)
    constants = memory(E)
    for wrong, says in (
        (lambda: layers.AttentionCell(keras.layers.LSTMCell(3)), "expected a `layers.Cell`"),
        (lambda: layers.AttentionCell(cell), "takes `constants` itself"),
        (lambda: layers.AttentionCell(layers.LSTMCell(3), "cosine"), "expected one of"),
        (lambda: layers.AttentionMemory(0), "positive integer"),
        (lambda: layers.AttentionMemory(UNITS, "dot")(E), 'take the score "general"'),
        (
            lambda: layers.AttentionMemory(UNITS)(E, mask=COUNTS[:, 1:]),
            "one boolean for each place",
        ),
        (lambda: layers.RNN(cell)(X), "needs `constants`"),
        (lambda: layers.RNN(cell)(X, constants=[E]), "layers.AttentionMemory"),
        (lambda: layers.RNN(cell)(X, constants=layers.AttentionMemory(3)(E)), "layers.Attention"),
        (lambda: layers.attention_weights(layers.LSTM(3), X, constants), "expected a built"),
    ):
        with pytest.raises(ValueError, match=says):
            wrong()


def test_no_two_weights_begin_alike():
    memory = layers.AttentionMemory(8)
    memory.build((None, None, 8))
    assert not np.allclose(memory.key_kernel, memory.value_kernel)
    cell = layers.AttentionCell(layers.SimpleRNNCell(8), "additive")
    cell.build((None, 8))
    first, *others = cell.feed_kernel, cell.output_kernel, cell.query_kernel
    assert not any(np.allclose(first, other) for other in others)
    assert not np.allclose(*others)


def test_weights_of_a_stateful_layer_are_those_from_its_states():
    layer = layers.RNN(layers.AttentionCell(layers.GRUCell(8)), stateful=True)
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 5, 8)), "float32")
    memory = layers.AttentionMemory(8)(x)
    layer(x, constants=memory)
    found = layers.attention_weights(layer, x, memory)
    states = [tf.convert_to_tensor(s) for s in layer.states]
    expected = layers.attention_weights(layer, x, memory, initial_state=states)
    np.testing.assert_array_equal(found, expected)
    zeros = [tf.zeros_like(s) for s in states]
    assert not np.allclose(found, layers.attention_weights(layer, x, memory, initial_state=zeros))


def test_who_gives_a_seed_draws_by_it():
    seeds = keras.random.SeedGenerator(1)
    for seed, alike in ((1, True), (seeds, False)):  # as in keras.layers
        memory = layers.AttentionMemory(8, initializer=keras.initializers.GlorotUniform(seed))
        memory.build((None, None, 8))
        assert np.allclose(memory.key_kernel, memory.value_kernel) == alike
