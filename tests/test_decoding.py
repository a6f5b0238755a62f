"""Decoding against every sequence there is, counted one by one in numpy."""

import itertools

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from test_streaming import perturbed

import layers
from layers.sequences import sampling

pytestmark = pytest.mark.usefixtures("without_graph_optimizer")

TOKENS, END, LENGTH, BATCH = 4, 0, 4, 3
# What comes next depends on the last two tokens, and on the row.
TABLE = np.random.default_rng(0).normal(size=(BATCH, TOKENS + 1, TOKENS, TOKENS)) * 1.5
FIRST = np.random.default_rng(1).normal(size=(BATCH, TOKENS))


def step(tokens, states, table=None):
    """`states`: the token before, and the row's number, where there is no table of each row."""
    before, row = states["before"], states["row"]
    rows = tf.constant(TABLE) if table is None else table
    places = tf.stack([before, tokens], axis=-1)
    if table is None:
        places = tf.concat([row[:, None], places], axis=-1)
        logits = tf.gather_nd(rows, places)
    else:
        logits = tf.gather_nd(rows, places, batch_dims=1)
    return logits, {"before": tokens, "row": row}


def begun():
    rows = tf.range(BATCH)
    return tf.constant(FIRST), {"before": tf.fill([BATCH], TOKENS), "row": rows}


def log_probability(row, tokens):
    """log P of a list of tokens."""
    total, before, last = 0.0, TOKENS, None
    for token in tokens:
        logits = FIRST[row] if last is None else TABLE[row, before, last]
        total += logits[token] - np.log(np.exp(logits).sum())
        before, last = (TOKENS if last is None else last), token
    return total


def hypotheses(row, end, length, alpha):
    """[(score, log P, tokens without the end)], the best first; unended ones behind all."""
    found = []
    for n in range(1, length + 1):
        for tokens in itertools.product(range(TOKENS), repeat=n):
            ended = tokens[-1] == end
            if end in tokens[:-1] or not (ended or n == length):
                continue
            log_p = log_probability(row, tokens)
            score = log_p / ((5 + n) / 6) ** alpha
            found.append((not ended, -score, log_p, tokens[:-1] if ended else tokens))
    return [(-score, log_p, tokens) for _, score, log_p, tokens in sorted(found)]


def by_hand(row, width, alpha, end=END, length=LENGTH):
    """A beam search with lists."""
    beams, done = [(0.0, ())], []
    for n in range(1, length + 1):
        further = [
            (log_probability(row, (*tokens, c)), (*tokens, c))
            for _, tokens in beams
            for c in range(TOKENS)
        ]
        further = sorted(further, reverse=True)[: 2 * width]
        lp = ((5 + n) / 6) ** alpha
        done += [(log_p / lp, log_p, y[:-1]) for log_p, y in further if y[-1] == end]
        beams = [(log_p, y) for log_p, y in further if y[-1] != end][:width]
    done = sorted(done, reverse=True)
    return done + [(log_p / lp, log_p, y) for log_p, y in beams]


def assert_found(found, row, expected):
    """`found`, (batch, best, …), of one row."""
    for k, (score, log_p, tokens) in enumerate(expected[: found.tokens.shape[1]]):
        length = found.lengths[row, k].numpy()
        assert found.tokens[row, k, :length].numpy().tolist() == list(tokens)
        np.testing.assert_allclose(found.scores[row, k], score)
        np.testing.assert_allclose(found.log_probabilities[row, k], log_p)


@pytest.fixture(scope="module")
def search():
    """`beam_search`, traced once for each width."""
    traced = {}

    def search(width, best, alpha, length=LENGTH, end=END):
        if (width, best, end) not in traced:

            @tf.function(autograph=False)
            def run(alpha, length):
                how = {"width": width, "best": best, "end": end}
                return layers.beam_search(
                    step, *begun(), length=length, length_penalty=alpha, **how
                )

            traced[width, best, end] = run
        return traced[width, best, end](tf.constant(alpha), tf.constant(length))

    return search


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
def test_a_beam_as_wide_as_can_be_finds_the_best_of_all(search, alpha):
    found = search(100, 30, alpha)
    for row in range(BATCH):
        assert_found(found, row, hypotheses(row, END, LENGTH, alpha))
    assert search(100, 30, alpha, 1).tokens.shape == (BATCH, 30, 1)
    for row in range(BATCH):  # one token: the end, or what has not ended; the rest there is not
        assert_found(search(100, 30, alpha, 1), row, hypotheses(row, END, 1, alpha))
    assert np.all(np.isneginf(search(100, 30, alpha, 1).scores[:, TOKENS:]))


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_a_narrow_beam_is_that_of_lists(search, width, alpha):
    for best in {1, width}:
        found = search(width, best, alpha)
        for row in range(BATCH):
            assert_found(found, row, by_hand(row, width, alpha))


def test_without_an_end_all_are_as_long(search):
    found = search(64, 20, 0.0, end=None)
    for row in range(BATCH):
        assert_found(found, row, hypotheses(row, None, LENGTH, 0.0))
    assert np.all(found.lengths == LENGTH)


def test_it_stops_once_nothing_better_can_come():
    calls = []

    def counted(tokens, states):
        tf.py_function(lambda: calls.append(1), [], [])
        logits = tf.tile(tf.constant([[5.0, 0.0, -1.0]]), [tf.shape(tokens)[0], 1])
        return logits, states

    def run(best):
        calls.clear()
        logits = tf.constant([[5.0, 0.0, -1.0]] * 2)
        how = {"length": 500, "end": 0, "width": 4, "best": best}
        found = layers.beam_search(counted, logits, tf.zeros([2, 1]), **how)
        return found, len(calls)

    one, steps = run(1)
    assert steps == 1 and np.all(one.lengths == 0)
    four, more = run(4)
    assert steps < more < 10
    np.testing.assert_array_equal(four.tokens[0, 0], one.tokens[0, 0])


@pytest.mark.parametrize("width", [2, 100])
def test_each_row_may_have_its_own_length(width):
    lengths = [1, 4, 2]
    how = {"end": END, "width": width, "best": 2, "length_penalty": 1.0}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)], autograph=False)
    def search(length):
        return layers.beam_search(step, *begun(), length=length, **how)

    found = search(lengths)
    for row, length in enumerate(lengths):
        assert_found(found, row, by_hand(row, width, 1.0, length=length))
        assert np.all(found.lengths[row] <= length) and np.all(found.tokens[row, :, length:] == END)


def test_constants_are_each_rows_own():
    def of_row(tokens, states, table):
        return step(tokens, states, table)

    logits, states = begun()
    how = {"length": LENGTH, "end": END, "width": 3, "best": 3}
    found = layers.beam_search(of_row, logits, states, [tf.constant(TABLE)], **how)
    for row in range(BATCH):
        assert_found(found, row, by_hand(row, 3, 0.0))


def test_greedy_is_the_narrowest_beam_but_for_where_it_ends():
    for end in (END, None):
        found = layers.greedy_search(step, *begun(), length=LENGTH, end=end)
        for row in range(BATCH):
            tokens = []
            while len(tokens) < LENGTH and (not tokens or tokens[-1] != end):
                further = [log_probability(row, [*tokens, c]) for c in range(TOKENS)]
                tokens.append(int(np.argmax(further)))
            np.testing.assert_allclose(found.scores[row], log_probability(row, tokens))
            expected = tokens[:-1] if tokens[-1] == end else tokens
            assert found.lengths[row] == len(expected)
            assert found.tokens[row, : len(expected)].numpy().tolist() == expected
            if end is not None:
                assert np.all(found.tokens[row, len(expected) :] == end)
        cold = layers.sample(step, *begun(), length=LENGTH, end=end, temperature=0.0)
        np.testing.assert_array_equal(cold.tokens, found.tokens)
        np.testing.assert_allclose(cold.log_probabilities, found.log_probabilities)


def test_sequences_are_drawn_as_often_as_they_are_probable():
    count = 3000
    logits, states = begun()
    logits = tf.repeat(logits, count, axis=0)
    states = tf.nest.map_structure(lambda s: tf.repeat(s, count), states)
    how = {"length": 3, "end": END}
    found = layers.sample(step, logits, states, seed=5, **how)
    np.testing.assert_array_equal(
        found.tokens, layers.sample(step, logits, states, seed=5, **how)[0]
    )
    assert np.any(found.tokens != layers.sample(step, logits, states, seed=6, **how)[0])
    for row in range(BATCH):
        drawn = found.tokens[row * count : (row + 1) * count].numpy()
        of_all = {y: log_p for _, log_p, y in hypotheses(row, END, 3, 0.0)}
        assert np.isclose(sum(np.exp(list(of_all.values()))), 1)
        for tokens, log_p in of_all.items():
            padded = (*tokens, *[END] * (3 - len(tokens)))
            rows = np.all(drawn == padded, axis=1)
            p = np.exp(log_p)
            assert abs(rows.mean() - p) < 4 * np.sqrt(p * (1 - p) / count) + 1e-3
            of_drawn = found.log_probabilities[row * count : (row + 1) * count].numpy()[rows]
            np.testing.assert_allclose(of_drawn, log_p)


def test_a_stack_that_streams_is_searched():
    """A language model of layers: in a graph, and hypothesis by hypothesis."""
    numbers = keras.Input((None,), dtype="int32", name="numbers")
    x = keras.layers.Embedding(5, 4)(numbers)
    x = layers.RNN([layers.LSTMCell(4), layers.GRUCell(3)], return_sequences=True)(x)
    model = perturbed(keras.Model(numbers, keras.layers.Dense(5, name="logits")(x)))
    streaming = layers.streaming_model(model)
    sizes = {n: s.shape[-1] for n, s in streaming.input.items() if n in streaming.output}

    def one(tokens, states):
        answer = streaming({"numbers": tokens[:, None], **states})
        return answer["logits"][:, 0], {name: answer[name] for name in states}

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.int32), tf.TensorSpec([], tf.int32)],
        autograph=False,
    )
    def write(start, length):
        states = {n: tf.zeros([tf.shape(start)[0], size]) for n, size in sizes.items()}
        how = {"length": length, "end": 0, "width": 50, "best": 3, "length_penalty": 1.0}
        return layers.beam_search(one, *one(start, states), **how)

    start = np.array([1, 3, 4], "int32")
    found = write(start, 3)

    texts = [(*y, 0) for n in range(3) for y in itertools.product(range(1, 5), repeat=n)]
    whole = np.array([[*y, *[0] * (3 - len(y))] for y in texts])
    for row, first in enumerate(start):
        read = np.concatenate([np.full((len(texts), 1), first), whole[:, :-1]], axis=1)
        each = tf.nn.log_softmax(model(read)).numpy()
        each = np.take_along_axis(each, whole[..., None], -1)[..., 0]
        log_p = np.array([e[: len(y)].sum() for e, y in zip(each, texts)])
        scores = log_p / ((5 + np.array([len(y) for y in texts])) / 6)
        for k, place in enumerate(np.argsort(-scores)[:3]):
            length = found.lengths[row, k].numpy()
            assert (*found.tokens[row, k, :length].numpy(), 0) == texts[place]
            np.testing.assert_allclose(found.scores[row, k], scores[place], rtol=1e-4)


def test_nothing_is_written_of_no_rows_or_no_length():
    logits, states = tf.zeros([0, TOKENS]), tf.zeros([0, 2])
    for write, shape in (
        (
            lambda **how: layers.beam_search(lambda t, s: (logits, s), logits, states, **how),
            (0, 1, 5),
        ),
        (
            lambda **how: layers.greedy_search(lambda t, s: (logits, s), logits, states, **how),
            (0, 5),
        ),
    ):
        assert write(length=5, end=END).tokens.shape == shape
    found = layers.beam_search(step, *begun(), length=0, end=END)
    assert found.tokens.shape == (BATCH, 1, 0) and np.all(found.scores == 0)


def test_what_does_not_fit_is_refused():
    logits, states = begun()
    how = {"length": 3, "end": END}
    beam = lambda **how: layers.beam_search(step, logits, states, length=3, **how)  # noqa: E731
    two = lambda tokens, states: (logits[:, :2], states)  # noqa: E731
    for wrong, says in (
        (lambda: beam(width=2, best=3), "`best` ≤ `width`"),
        (lambda: beam(end=TOKENS), "one of 4 tokens"),
        (lambda: beam(length_penalty=-1.0), "0 or above"),
        (lambda: layers.sample(step, logits, states, **how, top_k=-1), "`top_k` -1"),
        (lambda: layers.sample(step, logits, states, **how, temperature=-0.5), "`temperature`"),
        (lambda: layers.sample(step, logits, states, **how, top_p=float("nan")), "`top_p` nan"),
        (lambda: layers.beam_search(step, logits, states, length=[3, 2]), "each of 3 rows"),
        (lambda: layers.greedy_search(step, logits[0], states, **how), "those of the first token"),
        (lambda: layers.greedy_search(two, logits, states, **how), "as the first were"),
    ):
        with pytest.raises(ValueError, match=says):
            wrong()


# --- What is drawn from ----------------------------------------------------------------------


def narrowed(logits, temperature, top_k, top_p):
    """One row, in numpy."""
    p = scipy.special.softmax(logits.astype(float) / temperature)
    order = sorted(range(len(p)), key=lambda i: -p[i])[: top_k or None]
    kept, total = [], 0.0
    for i in order:
        if kept and total >= top_p:
            break
        kept.append(i)
        total += p[i] / sum(p[j] for j in order)
    return [p[i] / sum(p[j] for j in kept) if i in kept else 0.0 for i in range(len(p))]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("top_k", [0, 1, 3, 100])
@pytest.mark.parametrize("top_p", [0.0, 0.4, 0.9, 1.0])
def test_what_is_drawn_from_is_numpys(temperature, top_k, top_p):
    logits = np.random.default_rng(0).normal(size=(20, 9)).astype("float32") * 2
    given = tf.constant(temperature), tf.constant(top_k), tf.constant(top_p)
    found = tf.nn.softmax(sampling.narrowed(tf.constant(logits), *given))
    expected = [narrowed(row, temperature, top_k, top_p) for row in logits]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_at_temperature_0_the_most_probable_is_left():
    logits = tf.constant([[1.0, 3.0, 2.9], [2e4, -3e4, 1e4]])
    found = tf.nn.softmax(sampling.narrowed(logits, *map(tf.constant, (0.0, 0, 1.0))))
    np.testing.assert_allclose(found, [[0, 1, 0], [1, 0, 0]])
    close = tf.repeat(tf.constant([[0.0, -1e-6, -5.0]]), 1000, 0)
    found = sampling.narrowed(close, *map(tf.constant, (0.0, 0, 1.0)))
    assert not np.any(sampling.draw(found, tf.constant(7), tf.constant(0)))


def test_draws_are_as_frequent_as_they_are_probable():
    p = np.array([0.5, 0.3, 0.15, 0.05, 0.0])
    logits = tf.constant(np.tile(np.log(np.maximum(p, 1e-300)), (50_000, 1)), tf.float32)
    drawn = sampling.draw(logits, tf.constant(7), tf.constant(0)).numpy()
    shares = np.bincount(drawn, minlength=5) / len(drawn)
    np.testing.assert_allclose(shares, p, atol=5 * np.sqrt(0.25 / len(drawn)))
    assert shares[-1] == 0
    again, later = (sampling.draw(logits, tf.constant(7), tf.constant(k)) for k in (0, 1))
    np.testing.assert_array_equal(again, drawn)
    assert np.mean(later == drawn) < 0.5
