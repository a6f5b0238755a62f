"""The language model: each number and text against one found another way."""

import codecs
import math

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from conftest import portable_ops
from test_streaming import perturbed

from recipes import language_model
from recipes.common import command_line, publishing
from recipes.common.samples import brackets
from recipes.common.words import Words
from recipes.parts.language_model import character_ngrams, text_export, text_scores, unit_search
from recipes.parts.language_model.characters import Characters, split_off_tail

pytestmark = pytest.mark.usefixtures("without_graph_optimizer")

TEXT = 'Äh, "how (are) you"?\nFine 🙂, 漢字.\n'
LETTERS = sorted(set(TEXT))


def model_of(cell="lstm", **how):
    return perturbed(language_model.build(len(LETTERS) + 1, cell, units=7, **how))


def log_probabilities(model, text):
    """Of each character of `text` and of the one after it, (length + 1, choices): read at once."""
    numbers = [1 + LETTERS.index(c) if c in LETTERS else 0 for c in "\n" + text]
    return scipy.special.log_softmax(model(np.array([numbers]))[0].numpy().astype(float), -1)


# --- Characters ------------------------------------------------------------------------------


def test_characters_have_their_numbers():
    characters = Characters(TEXT)
    texts = ["you 🙂", "", "ü漢", b"o\xffu\xe6\xbc"]
    numbers = characters.numbers(tf.constant(texts)).to_list()
    for text, found in zip(texts, numbers):
        text = text.decode(errors="replace") if isinstance(text, bytes) else text
        assert found == [1 + LETTERS.index(c) if c in LETTERS else 0 for c in text]
    assert b"".join(characters.texts(tf.constant(numbers[0])).numpy()).decode() == texts[0]
    assert len(characters) == len(LETTERS) + 1


def test_the_tail_is_what_pythons_decoder_waits_with():
    random = np.random.default_rng(0)
    whole = [TEXT.encode(), bytes(random.integers(0x70, 256, 60).tolist())]
    texts = [b"", *(text[:i] for text in whole for i in range(1, len(text) + 1))]
    ready, tails = split_off_tail(tf.constant(texts))
    for text, head, tail in zip(texts, ready.numpy(), tails.numpy()):
        assert head + tail == text
        if text in whole[0]:
            decoder = codecs.getincrementaldecoder("utf-8")()
            decoder.decode(text)
            assert tail == decoder.getstate()[0]
        assert len(tail) <= 3


# --- Data ------------------------------------------------------------------------------------


def test_streams_go_on_from_batch_to_batch():
    numbers = np.arange(1000, dtype="int32")
    data = list(language_model.batches(numbers, 3))
    assert len(data) == 999 // 3 // language_model.PIECE
    assert [float(go_on) for (_, go_on), _ in data] == [0, 1, 1]
    read = np.concatenate([now for (now, _), _ in data], axis=1)
    to_come = np.concatenate([to_come for _, to_come in data], axis=1)
    length = 3 * language_model.PIECE
    np.testing.assert_array_equal(read, np.arange(length) + 333 * np.arange(3)[:, None])
    np.testing.assert_array_equal(to_come, read + 1)


def test_streams_begin_elsewhere_in_each_epoch():
    epoch = iter([0, 1, 1])
    numbers = np.arange(1000, dtype="int32")
    data = language_model.batches(numbers, 3, seed=0, done=lambda: next(epoch))
    first, second = ([now[0, 0].numpy() for (now, _), _ in data] for _ in range(2))
    assert first != second
    for (now, _), to_come in data:
        np.testing.assert_array_equal((now + 1) % 1000, to_come)


def test_an_epoch_in_parts_is_read_once_whatever_came_between():
    numbers, read = np.arange(4000, dtype="int32"), []
    for done in range(6):  # each in a run of its own

        def parts_done(done=done):
            return done

        data = language_model.batches(numbers, 2, seed=1, parts=3, done=parts_done)
        pieces = [(now, float(go_on)) for (now, go_on), _ in data]
        assert [go_on for _, go_on in pieces] == [0, 1, 1, 1, 1, 1] and len(data) == 6
        read.append(np.concatenate([now for now, _ in pieces], axis=1))
    epochs = [np.concatenate(read[:3], axis=1), np.concatenate(read[3:], axis=1)]
    for epoch in epochs:
        assert len(set(epoch.ravel())) == 2 * 18 * language_model.PIECE
        assert (np.diff(epoch) % 4000 == 1).all()  # the text goes on from part to part
    assert epochs[0][0, 0] != epochs[1][0, 0]


def test_too_little_text_and_wrong_options_are_refused(tmp_path, capsys):
    for text in ("ab" * 9_999, "a" * 30_000):
        with pytest.raises(SystemExit, match="too little text"):
            language_model.split(text)
    train, validation = language_model.split("ab" * 10_000)
    assert (len(train), len(validation)) == (18_000, 2_000)
    (tmp_path / "text.txt").write_text("a")
    text = ["--text", str(tmp_path / "text.txt")]
    for wrong, says in (
        (["--temperature", "-1"], "--temperature must be from 0 to 1000"),
        (["--temperature", "nan"], "--temperature must be from 0 to 1000"),
        (["--top-k", "3000000000"], "--top-k must be below"),
        (["--top-p", "1.5"], "--top-p must be from 0 to 1"),
        (["--generate", "\udcff"], "is not in UTF-8"),
        (["--top-k", "0"], "must be above 0"),
        (["--encoding", "latin-1"], "give --text FILE"),
        ([*text, "--dataset", "sample"], "give --dataset sample, or files"),
        (["--text", str(tmp_path / "none")], "there is no file"),
    ):
        with pytest.raises(SystemExit):
            language_model.arguments(wrong)
        assert says in capsys.readouterr().err
    with pytest.raises(SystemExit, match="smaller --length"):
        language_model.main(language_model.arguments(["--length", "9000"]))
    with pytest.raises(SystemExit, match="up to 1,100 words each are more than 1,024"):
        text_scores.refuse_too_much(["好" * 600, "good"], 500, Words)
    with pytest.raises(SystemExit, match="up to 1,101 words each are more than 1,024"):
        text_scores.refuse_too_much(["isn't " * 300 + "."], 500, Words)
    with pytest.raises(SystemExit, match="too little text"):
        language_model.main(language_model.arguments([*text, "--output", str(tmp_path / "run")]))


def test_the_sample_closes_what_it_opens():
    text = brackets.text(5000, "0")
    assert len(text) == 5000 and text == brackets.text(5000, "0") != brackets.text(5000, "1")
    for line in text.splitlines()[:-1]:
        opened = []
        for character in line:
            if character == '"' and opened[-1:] == ['"']:
                opened.pop()
            elif character in '([{"':
                opened.append(character)
            elif character in ")]}":
                assert brackets.PAIRS[opened.pop()] == character
        assert not opened and line.endswith(".")


# --- Model -----------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", command_line.CELLS)
def test_states_are_carried_from_batch_to_batch_and_begin_anew(cell):
    model = model_of(cell)
    carried = language_model.Carried(model, 2)
    numbers = np.random.default_rng(0).integers(1, len(LETTERS), size=(2, 12))
    whole = model(numbers)
    for _ in range(2):
        pieces = [
            carried((tf.constant(numbers[:, i : i + 4]), tf.constant(float(i > 0))))
            for i in (0, 4, 8)
        ]
        np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole, atol=1e-5)


def test_a_model_that_was_not_called_yet_takes_up_its_weights(tmp_path):
    before, after = (language_model.Carried(model_of(), 2) for _ in range(2))
    before((tf.ones((2, 4), tf.int32), tf.constant(0.0)))
    before.trainable_variables[0].assign_add(tf.ones_like(before.trainable_variables[0]))
    before.save_weights(tmp_path / "kept.weights.h5")
    after.load_weights(tmp_path / "kept.weights.h5")
    for old, new in zip(before.get_weights(), after.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


def test_the_whole_text_is_counted_and_each_character_once():
    model, text = model_of(), (TEXT * 70)[:2043]
    numbers = np.array([1 + LETTERS.index(c) for c in text], "int32")
    found = text_scores.losses(model, numbers, 1 + LETTERS.index("\n"))
    expected = -np.take_along_axis(log_probabilities(model, text)[:-1], numbers[:, None], -1)[:, 0]
    np.testing.assert_allclose(found, expected, atol=1e-5)

    scores = text_scores.of_characters(model, Characters(TEXT), TEXT, text)
    assert (scores["characters"], scores["unknown"]) == (2043, 0)
    nats = expected.mean()
    assert scores["model"]["nats"] == pytest.approx(nats, rel=1e-6)
    assert scores["model"]["bits"] == pytest.approx(nats / math.log(2), rel=1e-6)
    bytes_ = len(text.encode())
    assert scores["model"]["bits_a_byte"] == pytest.approx(
        2043 * nats / math.log(2) / bytes_, rel=1e-6
    )


def test_ngrams_are_those_counted_by_hand():
    # "abab": a and b twice each; b follows a twice, a follows b once. Of 3 characters.
    p_a = p_b = (2 + 2 * 1 / 3) / (4 + 2)
    assert character_ngrams.nats("abab", "ab", 1, 3) == pytest.approx(-math.log(p_a * p_b) / 2)
    b_after_a = (2 + 1 * p_b) / (2 + 1)
    a_after_b = (1 + 1 * p_a) / (1 + 1)
    found = character_ngrams.nats("abab", "aba", 2, 3)
    assert found == pytest.approx(-math.log(p_a * b_after_a * a_after_b) / 3)
    # Over all characters that may follow, it is a distribution.
    for order in range(1, 5):
        each = [character_ngrams.nats("abbab", f"ab{c}", order, 3) for c in "abc"]
        before = 2 * character_ngrams.nats("abbab", "ab", order, 3)
        assert sum(math.exp(before - 3 * nats) for nats in each) == pytest.approx(1)


def test_of_a_long_text_the_end_is_counted(monkeypatch):
    expected = character_ngrams.nats("abab", "ab", 2, 3)
    monkeypatch.setattr(character_ngrams, "MOST", 4)
    assert character_ngrams.nats("ccccabab", "ab", 2, 3) == expected


# --- Export ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(the model, the signatures of its export)."""
    model = model_of("lstm")
    folder = tmp_path_factory.mktemp("language_model")
    served = text_export.signatures(model, Characters(TEXT), "how")
    version = publishing.publish(model, folder, served)
    portable_ops(version)
    return model, tf.saved_model.load(str(version)).signatures


def test_texts_have_the_probabilities_of_the_model(exported):
    model, served = exported
    texts = [TEXT, "", "you", "üü"]
    answer = served["serving_default"](texts=tf.constant(texts))
    assert answer["lengths"].numpy().tolist() == [len(text) for text in texts]
    for text, each, perplexity in zip(texts, answer["log_probabilities"], answer["perplexity"]):
        every = log_probabilities(model, text)
        numbers = [1 + LETTERS.index(c) if c in LETTERS else 0 for c in text]
        expected = [every[i, n] for i, n in enumerate(numbers)]
        np.testing.assert_allclose(each[: len(text)], expected, atol=1e-5)
        np.testing.assert_array_equal(each[len(text) :], 0)
        np.testing.assert_allclose(perplexity, np.exp(-np.mean(expected or [0])), rtol=1e-4)


def test_chunks_cut_anywhere_have_the_probabilities_of_the_whole(exported):
    model, served = exported
    random = np.random.default_rng(0)
    texts = [TEXT.encode(), (TEXT[5:] * 2).encode(), b""]
    whole = served["serving_default"](texts=tf.constant(texts))
    places = [[0, *sorted(random.integers(0, len(t) + 1, size=14)), len(t)] for t in texts]
    places[0][:8] = [0, 0, 1, 2, 2, 3, 4, 5]  # "Ä" is two bytes
    states, read = served["initial_state"](batch_size=tf.constant(3)), [[], [], []]
    for step in range(15):
        chunk = [t[p[step] : p[step + 1]] for t, p in zip(texts, places)]
        answer = served["stream"](chunk=tf.constant(chunk), **states)
        states = {name: answer[name] for name in states}
        for row, (length, each) in enumerate(zip(answer["lengths"], answer["log_probabilities"])):
            read[row] += each[:length].numpy().tolist()
        so_far = [t[: p[step + 1]].decode(errors="ignore") for t, p in zip(texts, places)]
        for text, following, found in zip(
            so_far, answer["next"].numpy(), answer["next_log_probabilities"].numpy()
        ):
            expected = log_probabilities(model, text)[-1, 1:]
            np.testing.assert_allclose(found, np.sort(expected)[::-1], atol=1e-5)
            given = [expected[LETTERS.index(c.decode())] for c in following]
            np.testing.assert_allclose(found, given, atol=1e-5)
    for row, length in enumerate(whole["lengths"]):
        np.testing.assert_allclose(read[row], whole["log_probabilities"][row][:length], atol=1e-5)
    assert states["tail_bytes"].numpy().tolist() == [b""] * 3


def generate(served, prompts, **asked):
    how = {"length": 12, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "seed": 0} | asked
    how = {name: tf.constant(value) for name, value in how.items()}
    return [
        t.decode() for t in served["generate"](prompts=tf.constant(prompts), **how)["texts"].numpy()
    ]


def test_the_most_probable_text_is_written(exported):
    model, served = exported
    prompts = ["", "how", "Fine 🙂, ü"]
    for asked in ({"top_k": 1}, {"temperature": 0.0}, {"top_p": 0.0, "temperature": 2.0}):
        for prompt, text in zip(prompts, generate(served, prompts, **asked)):
            expected = prompt
            for _ in range(12):
                expected += LETTERS[np.argmax(log_probabilities(model, expected)[-1, 1:])]
            assert text == expected


def test_the_same_seed_writes_the_same(exported):
    _, served = exported
    prompts = ["how", "how", ""]
    texts = generate(served, prompts, seed=3)
    assert texts == generate(served, prompts, seed=3) != generate(served, prompts, seed=4)
    assert texts[0] != texts[1]  # each row draws for itself
    assert [len(text) for text in texts] == [15, 15, 12]
    assert generate(served, prompts, length=0) == prompts


def test_characters_are_written_as_often_as_they_are_probable(exported):
    model, served = exported
    how = {"length": 1, "temperature": 0.2}  # so that some are far more probable than others
    texts = [t for seed in (0, 1) for t in generate(served, ["ho"] * 600, seed=seed, **how)]
    p = np.exp(log_probabilities(model, "ho")[-1, 1:] / 0.2)
    p /= p.sum()
    shares = np.array([np.mean([text[2] == c for text in texts]) for c in LETTERS])
    assert np.all(np.abs(shares - p) < 5 * np.sqrt(p * (1 - p) / len(texts)) + 1e-3)
    assert p.max() > 3 * p.min()


# --- What units follow -----------------------------------------------------------------------


def test_features_are_those_counted_by_hand():
    found = unit_search.features('ab "c (d)"\n\ne')
    assert found["within quotes"].tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0]
    assert found["depth of brackets"].tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]
    assert found["place in the line"].tolist() == [*range(1, 11), 0, 0, 1]
    assert found["place in the word"].tolist() == [1, 2, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 1]
    assert found["place in the paragraph"].tolist() == [*range(1, 12), 0, 1]


def test_states_and_correlations_are_those_found_otherwise():
    model = model_of("gru", depth=1)
    numbers = np.array([1, 5, 3, 2], "int32")
    found = unit_search.states(model, numbers)["read_1_state_0"]
    outputs = keras.Model(model.input, model.get_layer("read_1").output)(numbers[None])[0]
    np.testing.assert_allclose(found, outputs, atol=1e-6)
    random = np.random.default_rng(0)
    values, feature = random.normal(size=(50, 3)), random.normal(size=50)
    values[:, 2] = 1
    expected = [np.corrcoef(values[:, k], feature)[0, 1] for k in (0, 1)]
    np.testing.assert_allclose(unit_search.correlations(values, feature), [*expected, 0])


@pytest.mark.parametrize("text", ["the cat sat on the mat. " * 40 + "\n", "ACGT" * 300, "a\nb\n"])
def test_a_text_without_lines_has_units_too_or_none(monkeypatch, text):
    planted = np.random.default_rng(0).normal(size=(len(text), 2))
    monkeypatch.setattr(unit_search, "states", lambda model, numbers: {"state": planted})
    found = unit_search.search(None, Characters(text), text)
    assert all(each["text"] for each in found) and bool(found) == ("\n" in text)


def test_the_unit_that_follows_is_found(monkeypatch):
    text = brackets.text(2000, "0")
    depth = unit_search.features(text)["depth of brackets"]
    planted = np.random.default_rng(0).normal(size=(2000, 5))
    planted[:, 3] = -depth
    monkeypatch.setattr(unit_search, "states", lambda model, numbers: {"state": planted})
    found = unit_search.search(None, Characters(text), text)
    (of_depth,) = [f for f in found if f["feature"] == "depth of brackets"]
    assert (of_depth["unit"], round(of_depth["correlation"], 6)) == (3, -1)
    assert "place in the paragraph" not in {f["feature"] for f in found}  # there are none
    # Drawn the way round that the feature goes.
    begin = text.index(of_depth["text"])
    shown = depth[begin : begin + len(of_depth["text"])]
    assert np.corrcoef(of_depth["values"], shown)[0, 1] > 0.99
    assert all(len(f["text"]) == len(f["values"]) for f in found)
    assert all(np.max(np.abs(f["values"])) == 1 for f in found)
