"""A stream answers as if the whole sequence were there, however it is cut into chunks."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ask_in_c, portable_ops
from keras import ops

import layers
from recipes import forecasting, sentiment
from recipes.common import publishing
from recipes.common.words import clean
from recipes.parts.forecasting import forecasting_stream

pytestmark = pytest.mark.usefixtures("without_graph_optimizer")

FEATURES, LENGTH, BATCH = 3, 11, 2
CELLS = {
    "simple_rnn": lambda **how: layers.SimpleRNN(5, **how),
    "lstm": lambda **how: layers.LSTM(5, **how),
    "gru": lambda **how: layers.GRU(5, **how),
    "stack": lambda **how: layers.RNN([layers.LSTMCell(4), layers.GRUCell(5)], **how),
    "projected_lstm": lambda **how: layers.ProjectedLSTM(6, 4, **how),
}


def cuts(random, length):
    """Random chunks of `length` steps, as slices; some have one step, some none."""
    places = sorted(random.integers(0, length + 1, size=random.integers(1, 6)))
    places = [0, *places, places[-1], min(places[-1] + 1, length), length]
    return [slice(a, b) for a, b in itertools.pairwise(places)]


def exported(signatures, model, folder):
    """`signatures` of `model` as a SavedModel, loaded."""
    archive = keras.export.ExportArchive()
    archive.track(model)
    for name, (function, inputs) in signatures.items():
        archive.add_endpoint(name, function, input_signature=list(inputs.values()))
    archive.write_out(folder, verbose=False)
    portable_ops(folder)
    return tf.saved_model.load(folder).signatures


def stream(signatures, inputs, chunks):
    """The outputs of all chunks, put one behind the other; the last states."""
    batch = len(next(iter(inputs.values())))
    states, found = signatures["initial_state"](batch_size=tf.constant(batch)), []
    for chunk in chunks:
        given = {name: tf.constant(x[:, chunk]) for name, x in inputs.items()}
        answer = signatures["stream"](**given, **states)
        states = {name: answer.pop(name) for name in states}
        found.append(answer)
    return found, states


def perturbed(model):
    """`model`, no bias zero and no two units alike."""
    random = np.random.default_rng(1)
    model.set_weights([w + random.uniform(-0.3, 0.3, size=w.shape) for w in model.get_weights()])
    return model


@pytest.mark.parametrize("cell", CELLS)
def test_any_chunking_gives_the_outputs_of_the_whole(cell, tmp_path):
    x = keras.Input((None, FEATURES), name="x")
    low = CELLS[cell](return_sequences=True, name="low")(keras.layers.Masking()(x))
    each = keras.layers.Dense(2, activation="tanh", name="each")(keras.layers.Dropout(0.5)(low))
    last, *states = CELLS[cell](return_state=True, name="high")(ops.tanh(low) * 2.0)
    last = keras.layers.Dense(3, name="last")(keras.layers.BatchNormalization()(last))
    model = perturbed(
        keras.Model(x, {"state": keras.tree.flatten(states)[0], "last": last, "each": each})
    )
    signatures = exported(layers.streaming_signatures(model), model, tmp_path / "saved")

    random = np.random.default_rng(0)
    values = random.normal(size=(BATCH, LENGTH, FEATURES)).astype("float32")
    values[random.random((BATCH, LENGTH)) < 0.4] = 0  # masked, at the beginning too
    values[0, :3] = 0
    whole = model(values)
    for _ in range(2):
        chunks = cuts(random, LENGTH)
        found, last_states = stream(signatures, {"x": values}, chunks)
        together = np.concatenate([answer["each"] for answer in found], axis=1)
        np.testing.assert_allclose(together, whole["each"], atol=1e-5)
        for chunk, answer in zip(chunks, found):
            so_far = model(values[:, : chunk.stop])["last"] if chunk.stop else answer["last"]
            np.testing.assert_allclose(answer["last"], so_far, atol=1e-5)
        np.testing.assert_allclose(found[-1]["state"], whole["state"], atol=1e-5)
        np.testing.assert_allclose(last_states["high_state_0"], whole["state"], atol=1e-5)


def test_rows_whose_chunks_differ_in_length_go_on_each_by_itself(tmp_path):
    words = keras.Input((None,), dtype="int32", name="words")
    x = keras.layers.Embedding(9, 4)(words)
    x = layers.LSTM(5, return_sequences=True)(x)
    outputs = keras.layers.Dense(2, name="tags")(layers.GRU(4, return_sequences=True)(x))
    model = perturbed(keras.Model(words, outputs))
    signatures = exported(layers.streaming_signatures(model, mask="real"), model, tmp_path / "s")
    random = np.random.default_rng(0)
    values = random.integers(0, 9, size=(3, 12))
    whole, read = model(values).numpy(), np.zeros(3, int)
    states = signatures["initial_state"](batch_size=tf.constant(3))
    for _ in range(6):
        counts = np.minimum(random.integers(0, 5, size=3), 12 - read)
        chunk = np.zeros((3, 5), "int32")
        for row, (start, count) in enumerate(zip(read, counts)):
            chunk[row, :count] = values[row, start : start + count]
        real = tf.sequence_mask(counts, 5)
        answer = signatures["stream"](words=tf.constant(chunk), real=real, **states)
        states = {name: answer[name] for name in states}
        for row, (start, count) in enumerate(zip(read, counts)):
            expected = whole[row, start : start + count]
            np.testing.assert_allclose(answer["tags"][row, :count], expected, atol=1e-5)
        read += counts


def test_where_a_stream_would_begin_otherwise_it_is_refused():
    class Ones(layers.SimpleRNNCell):
        def get_initial_state(self, batch_size=None):
            return [ops.ones((batch_size, self.units))]

    x, real = tf.random.normal((2, 5, FEATURES)), tf.constant([[False, True, False, True, True]])
    real = tf.repeat(real, 2, axis=0)
    inputs = keras.Input((None, FEATURES), name="x")
    for zero in (False, True):
        layer = layers.RNN(Ones(4), return_sequences=True, zero_output_for_mask=zero, name="y")
        model = keras.Model(inputs, layer(inputs))
        assert "y" in layers.streaming_model(model).output  # without a mask it may begin so
        if not zero:
            with pytest.raises(ValueError, match="initial state, which is not zero"):
                layers.streaming_model(model, mask="real")
    stream = layers.streaming_model(model, mask="real")
    found = stream({"x": x, "real": real, "y_state_0": tf.ones((2, 4))})["y"]
    np.testing.assert_allclose(found, layer(x, mask=real), rtol=1e-5, atol=1e-6)


def test_a_model_of_fixed_length_a_mask_among_its_inputs_and_a_float16_state():
    x = keras.Input((8, FEATURES), name="x")
    real = keras.Input((8,), dtype="bool", name="real")
    rnn = layers.GRU(4, return_sequences=True, zero_output_for_mask=True, dtype="mixed_float16")
    model = keras.Model([x, real], keras.layers.Dense(2, name="y")(rnn(x, mask=real)))
    streaming = layers.streaming_model(model)
    assert streaming.input["x"].shape == (None, None, FEATURES)
    assert streaming.input[f"{rnn.name}_state_0"].dtype == "float16"
    random = np.random.default_rng(0)
    values = random.normal(size=(2, 8, FEATURES)).astype("float32")
    mask = random.random((2, 8)) < 0.5
    state, found = np.zeros((2, 4), "float16"), []
    for chunk in (slice(0, 3), slice(3, 4), slice(4, 8)):
        given = {"x": values[:, chunk], "real": mask[:, chunk], f"{rnn.name}_state_0": state}
        answer = streaming({name: tf.constant(value) for name, value in given.items()})
        state = answer[f"{rnn.name}_state_0"]
        found.append(answer["y"])
    np.testing.assert_allclose(np.concatenate(found, axis=1), model([values, mask]), atol=2e-3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_mask_that_keras_hands_on_counts(dtype):
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    x = keras.layers.Embedding(9, 4, mask_zero=True)(tokens)
    x = layers.GRU(3, return_sequences=True, name="before")(x)
    read = layers.LSTM(5, return_sequences=True, name="read", dtype=dtype)
    y = read(x, training=False)
    model = keras.Model(tokens, {"a": y, "twice": y})
    numbers = tf.constant([[3, 0, 2, 0, 0, 1], [0, 0, 4, 5, 0, 6]])
    expected = model(numbers)["a"]
    for mask in (None, "real"):
        streaming = layers.streaming_model(model, mask)
        states = {f"read_state_{k}": tf.zeros((2, 5), dtype) for k in range(2)}
        states["before_state_0"] = tf.zeros((2, 3))
        found = []
        for cut in (slice(0, 2), slice(2, 3), slice(3, 5), slice(5, 6)):
            real = {} if mask is None else {mask: tf.ones((2, cut.stop - cut.start), "bool")}
            answer = streaming({"tokens": numbers[:, cut], **real, **states})
            states = {name: answer[name] for name in states}
            np.testing.assert_array_equal(answer["a"], answer["twice"])
            found.append(answer["a"])
        np.testing.assert_allclose(np.concatenate(found, axis=1), expected, atol=1e-6)


def test_a_decoder_of_what_was_read_so_far_starts_anew():
    x = keras.Input((None, FEATURES), name="x")
    code = layers.GRU(4, name="encoder")(x)
    out = layers.LSTM(5, return_sequences=True, name="decoder")(keras.layers.RepeatVector(3)(code))
    streaming = layers.streaming_model(model := keras.Model(x, out))
    assert set(streaming.input) == {"x", "encoder_state_0"}
    values = np.random.default_rng(0).normal(size=(2, 6, FEATURES)).astype("float32")
    given = {"x": tf.constant(values[:, :4]), "encoder_state_0": tf.zeros((2, 4))}
    middle = streaming(given)
    given = {"x": tf.constant(values[:, 4:]), "encoder_state_0": middle["encoder_state_0"]}
    np.testing.assert_allclose(streaming(given)["decoder"], model(values), atol=1e-5)


def test_what_a_stream_cannot_take_is_named():
    x = keras.Input((None, FEATURES), name="x")
    model = keras.Model(x, layers.LSTM(4, name="read")(x))
    (stream, inputs), (initial_state, _) = layers.streaming_signatures(model).values()
    good = {"x": tf.ones((2, 5, FEATURES)), "read_state_0": tf.ones((2, 4))}
    good["read_state_1"] = tf.ones((2, 4))
    assert list(inputs) == list(good) and len(stream(*good.values())) == 3
    for name, bad in (
        ("x", tf.fill((2, 5, FEATURES), np.nan)),
        ("read_state_1", tf.fill((2, 4), np.inf)),
        ("read_state_0", tf.ones((3, 4))),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"`{name}`"):
            stream(*{**good, name: bad}.values())
    with pytest.raises(tf.errors.InvalidArgumentError, match="`batch_size`"):
        initial_state(tf.constant(-1))


def gru(**how):
    return layers.GRU(4, return_sequences=True, name="read", **how)


class Odd(keras.layers.Layer):
    def call(self, x):
        return x[:, ::2]


class Residual(layers.LSTM):
    def call(self, sequences, initial_state=None, mask=None, constants=None, training=None):
        return sequences + super().call(sequences, initial_state, mask, training=training)


ONE = keras.Input((FEATURES,), name="one")
CANNOT = {
    "both directions": (lambda x: layers.Bidirectional(gru(), name="both")(x), "both.*last step"),
    "backwards": (lambda x: gru(go_backwards=True)(x), "read.*go_backwards"),
    "pooled": (lambda x: keras.layers.GlobalMaxPooling1D(name="pool")(gru()(x)), "pool.*each step"),
    "convolved": (lambda x: gru()(keras.layers.Conv1D(2, 3, name="conv")(x)), "conv.*each step"),
    "attended": (lambda x: keras.layers.Attention(name="look")([x, gru()(x)]), "look.*each step"),
    "own layer": (lambda x: Odd(name="odd")(gru()(x)), "odd.*TimeDistributed"),
    "sliced": (lambda x: gru()(x)[:, 1:], "get_item.*each step"),
    "normalized over time": (
        lambda x: keras.layers.LayerNormalization(axis=[1, 2], name="norm")(gru()(x)),
        "norm.*each step",
    ),
    "joined along time": (
        lambda x: gru()(keras.layers.Concatenate(axis=1, name="join")([x, x])),
        "join.*each step",
    ),
    "the end told to each step": (
        lambda x: gru()(x) + ops.expand_dims(layers.GRU(4)(x), 1),
        "add.*only the last",
    ),
    "places numbered": (lambda x: gru()(x + np.ones((8, FEATURES))), "add.*does not stream"),
    "places of one number": (
        lambda x: gru()(ops.expand_dims(ops.mean(x, -1) * np.arange(8.0), -1)),
        "multiply.*does not stream",
    ),
    "places of another input": (
        lambda x: gru()(keras.layers.Add(name="add")([x, keras.layers.RepeatVector(8)(ONE)])),
        "add.*does not stream",
    ),
    "a batch beside time": (lambda x: gru()(x + ONE), "add.*does not stream"),
    "a rank more": (lambda x: gru()(ops.mean(x + np.ones((2, 1, 1, 1)), 0)), "add.*more axes"),
    "ranks that differ": (
        lambda x: gru()(keras.layers.Multiply(name="times")([ops.max(x, -1, True), ops.max(x, 2)])),
        "times.*more axes",
    ),
    "held for each step": (
        lambda x: gru()(keras.layers.Rescaling(np.arange(8.0)[:, None], name="scaled")(x)),
        "scaled.*`scale` has a number for each step",
    ),
    "dense over time": (
        lambda x: gru()(ops.expand_dims(keras.layers.Dense(8, name="d")(ops.mean(x, -1)), -1)),
        "d.*over time",
    ),
    "masked over time": (
        lambda x: gru()(ops.expand_dims(keras.layers.Masking(name="m")(ops.mean(x, -1)), -1)),
        "m.*over time",
    ),
    "softmax over time": (
        lambda x: gru()(
            ops.expand_dims(keras.layers.Activation("softmax", name="act")(ops.mean(x, -1)), -1)
        ),
        "act.*softmax, is over time",
    ),
    "own activation": (
        lambda x: gru()(keras.layers.Dense(2, lambda z: z - ops.mean(z, 1), name="d")(x)),
        "d.*not one that is known.*TimeDistributed",
    ),
    "own call": (lambda x: Residual(FEATURES, return_sequences=True, name="own")(x), "own.*`call`"),
    "in training": (lambda x: gru()(x, training=True), "read.*training=True"),
    "normalized in training": (
        lambda x: keras.layers.BatchNormalization(name="norm")(gru()(x), training=True),
        "norm.*training=True",
    ),
    "named as its input": (lambda x: {"x": gru()(x)}, "names of their own"),
    "named as its state": (lambda x: {"read_state_0": gru()(x)}, "names of their own"),
    "Keras's": (lambda x: keras.layers.LSTM(4, name="theirs")(x), "theirs.*layers.LSTM"),
    "started from": (lambda x: gru()(x, initial_state=layers.GRU(4)(x)), "initial_state"),
    "twice": (lambda x: (layer := gru())(keras.layers.Dense(FEATURES)(layer(x))), "read.*twice"),
    "zeroed": (
        lambda x: layers.GRU(3, zero_output_for_mask=True, name="zeroed")(x), "zeroed.*zero_output"
    ),
    "nothing recurrent": (lambda x: keras.layers.Dense(2)(x), "no recurrent layer"),
}  # fmt: skip


def test_what_is_the_same_for_each_step_streams():
    x = keras.Input((8, FEATURES), name="x")
    y = (x - ops.ones((FEATURES,))) / tf.constant(2.0) + np.ones((1, 1, FEATURES))
    y = keras.layers.Dense(FEATURES, tf.nn.relu)(keras.layers.Add()([y, ONE]))
    y = keras.layers.Dense(FEATURES, ops.tanh)(ops.where(y > 0.5, y, -1.0))
    y = keras.layers.Dense(FEATURES, tf.nn.softmax)(y)
    y = keras.layers.Dense(FEATURES, keras.layers.LeakyReLU(0.1))(ops.clip(y, -1, 1))
    model = keras.Model([x, ONE], gru()(y))
    values = np.random.default_rng(0).normal(size=(2, 8, FEATURES)).astype("float32")
    values = tf.constant(values)
    one, state, found = values[:, 0], tf.zeros((2, 4)), []
    streaming = layers.streaming_model(model)
    for cut in (slice(0, 1), slice(1, 5), slice(5, 8)):
        answer = streaming({"x": values[:, cut], "one": one, "read_state_0": state})
        state = answer["read_state_0"]
        found.append(answer["read"])
    np.testing.assert_allclose(np.concatenate(found, axis=1), model([values, one]), atol=1e-5)


@pytest.mark.parametrize("what", CANNOT)
def test_what_cannot_stream_is_named(what):
    build, message = CANNOT[what]
    x = keras.Input((8, FEATURES), name="x")
    with pytest.raises(ValueError, match=message):
        y = build(x)
        inputs = [x, ONE] if "other" in what or "batch" in what else x
        layers.streaming_model(keras.Model(inputs, y))


def test_what_has_no_graph_or_keeps_its_states_cannot_stream():
    x = keras.Input(batch_shape=(2, None, FEATURES))
    with pytest.raises(ValueError, match=r"kept.*stateful"):
        layers.streaming_model(keras.Model(x, layers.GRU(2, stateful=True, name="kept")(x)))
    with pytest.raises(ValueError, match="only a functional"):
        layers.streaming_model(keras.Sequential([layers.GRU(2)]))
    x = keras.Input((None, FEATURES))
    layer = layers.GRU(2, return_state=True, name="twin")
    with pytest.raises(ValueError, match=r"names \['twin', 'twin'\]"):
        layers.streaming_model(keras.Model(x, layer(x)))


# --- The recipes' streams -----------------------------------------------------------------

PIECES = [
    *["<br", "/>", "</b>", "<i", "<3", "<", ">", "->", "a <b\nc> d", ".", ",", "!?", "(", ")"],
    *["good", "bad", "isn't", "didn't", "n't", "'", "'s", "we're", "film's", "it’s", "don’t"],
    *["7/10", "a_b", "déjà-vu", "ΑΣ", "ΑΣ.", "Σ", "İstanbul", "ﬁlm", "ПЛОХО", "漢字", "🙂", "’"],
]


@pytest.fixture(scope="module")
def text_stream(tmp_path_factory):
    """The folder of an export that scores text, untrained, no two units and words alike."""
    words = [clean([piece]).numpy()[0].decode() for piece in PIECES]
    train = words, [k % 2 for k in range(len(words))]
    model = perturbed(sentiment.build(train, "lstm", units=7, unidirectional=True))
    folder = tmp_path_factory.mktemp("sentiment")
    return publishing.publish(model, folder, sentiment.signatures(model))


def random_text(random, pieces):
    """Bytes, now and then spoilt."""
    chosen = random.choice(PIECES, size=pieces)
    spaces = random.choice(["", " ", "\n", "\t", "\u00a0", "  "], size=pieces)
    text = "".join(a + b for a, b in zip(chosen, spaces)).encode()
    spoilt = random.integers(0, len(text), size=3)
    return b"".join(
        b"\xff" if i in spoilt and random.random() < 0.3 else text[i : i + 1]
        for i in range(len(text))
    )


@pytest.mark.parametrize("pieces", [40, 2500])
def test_text_cut_anywhere_has_the_score_of_all_of_it_so_far(text_stream, pieces):
    signatures = tf.saved_model.load(str(text_stream)).signatures
    random = np.random.default_rng(pieces)
    rows = 12
    texts = [random_text(random, pieces) for _ in range(rows)]
    places = [sorted(random.integers(0, len(t) + 1, size=11)) for t in texts]
    if pieces == 40:  # byte for byte at first
        places[0] = list(range(11))
    places = [[0, *p, len(t)] for p, t in zip(places, texts)]
    states = signatures["initial_state"](batch_size=tf.constant(rows))
    for step in range(12):
        chunks = [t[p[step] : p[step + 1]] for t, p in zip(texts, places)]
        answer = signatures["stream"](chunk=tf.constant(chunks), **states)
        states = {name: answer[name] for name in states}
        so_far = tf.constant([t[: p[step + 1]] for t, p in zip(texts, places)])
        whole = signatures["serving_default"](sentences=so_far)
        np.testing.assert_allclose(answer["probabilities"], whole["probabilities"], atol=1e-5)
    assert len({tuple(row) for row in answer["probabilities"].numpy().round(6)}) == rows
    full = states["words_read"].numpy() == sentiment.LONGEST
    assert full.any() == (pieces == 2500)  # the limit was reached, or was not


@pytest.fixture(scope="module")
def hours_stream(tmp_path_factory):
    """(the folder of an export that forecasts, untrained; values; their standard deviation)."""
    values = forecasting.load("sample", None, 0)[0].values
    mean, std = values.mean(axis=0), values.std(axis=0)
    model = forecasting_stream.build(mean, std, 60, 30, "lstm", units=6)
    for name in ("season", "recurrent", "values"):
        perturbed(model.get_layer(name))
    signatures = forecasting.signatures(model, mean, std)
    signatures |= forecasting_stream.signatures(model, mean, std)
    folder = tmp_path_factory.mktemp("forecasting")
    return publishing.publish(model, folder, signatures), values, std


def test_hours_in_any_chunks_have_the_forecast_of_the_window(hours_stream):
    version, values, std = hours_stream
    signatures = tf.saved_model.load(str(version)).signatures
    windows = np.stack([values[i : i + 60] for i in (0, 500)])
    whole = signatures["serving_default"](window=tf.constant(windows))["forecast"]
    assert np.std(whole / std, axis=1).min() > 1e-3
    random = np.random.default_rng(0)
    every_hour = [slice(i, i + 1) for i in range(60)]
    for chunks in (every_hour, *(cuts(random, 60) for _ in range(4))):
        found, states = stream(signatures, {"chunk": windows}, chunks)
        np.testing.assert_allclose(found[-1]["forecast"] / std, whole / std, atol=1e-5)
        np.testing.assert_array_equal(states["last_season"], windows[:, -24:])


def test_without_python_streams_go_on_the_same(text_stream, hours_stream, c_program):
    for version, chunks in (
        (text_stream, [np.array(["The film is", "A b"]), np.array(["n't good", "ad one"])]),
        (hours_stream[0], [hours_stream[1][None, :30], hours_stream[1][None, 30:37]]),
    ):
        signatures = tf.saved_model.load(str(version)).signatures
        batch = len(chunks[0])
        states = signatures["initial_state"](batch_size=tf.constant(batch))
        in_c = ask_in_c(c_program, version, "initial_state", {"batch_size": batch})
        for chunk in chunks:
            answer = signatures["stream"](chunk=tf.constant(chunk), **states)
            states = {name: answer[name] for name in states}
            kinds = {name: value.dtype.as_numpy_dtype for name, value in states.items()}
            given = {n: in_c[n] if k is object else in_c[n].astype(k) for n, k in kinds.items()}
            in_c = ask_in_c(c_program, version, "stream", {"chunk": chunk, **given})
        for name, value in answer.items():
            if value.dtype == tf.string:
                assert in_c[name].tolist() == [x.decode() for x in value.numpy()]
            else:
                np.testing.assert_allclose(in_c[name], value, rtol=1e-4, atol=1e-5)


def test_words_that_are_not_frequent_are_one_word(monkeypatch):
    monkeypatch.setattr(sentiment, "FREQUENT", 4)  # "", unknown, a, b
    train = ["a a a b b c d", "a b b e"], [1, 0]
    model = sentiment.build(train, "simple_rnn", units=4, unidirectional=True)
    served = sentiment.signatures(model)
    whole = served["serving_default"][0]
    c, d, b = whole(tf.constant(["a c b", "a d b", "a b b"]))["probabilities"].numpy()
    assert (c == d).all() and (c != b).all()
    states = served["initial_state"][0](tf.constant(1))
    for chunk in ("a c", " b"):
        answer = served["stream"][0](*({"chunk": tf.constant([chunk])} | states).values())
        states = {name: answer[name] for name in states}
    np.testing.assert_allclose(answer["probabilities"][0], c, atol=1e-6)
