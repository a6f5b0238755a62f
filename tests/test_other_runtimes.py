"""What `--onnx` and `--litert` write answers as the SavedModel does, from text on."""

import argparse
import collections
import importlib.util
import itertools
import json
import os
import re
import string
import subprocess
import sys
import wave

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import REPOSITORY
from drawn_models import perturbed
from text import by_level

from recipes import forecasting, language_model, pos_tagging, sentiment, speech, translation
from recipes.common import other_runtimes, subwords, words
from recipes.common.portable_rules import portable
from recipes.common.samples import grammar, number_words, reviews
from recipes.common.words import Words
from recipes.parts.forecasting import forecasting_export
from recipes.parts.language_model import text_export
from recipes.parts.language_model.characters import Characters
from recipes.parts.pos_tagging import tagging_export
from recipes.parts.sentiment import sentiment_export
from recipes.parts.speech import ctc, recordings, speech_export
from recipes.parts.translation import translation_export
from recipes.parts.word_embeddings import word_search
from serving import onnx_query

pytestmark = pytest.mark.usefixtures("without_graph_optimizer")

TEXTS = [
    "I saw a saw.",
    "",
    "They can't (really) see the “Élan”…  don't!? It's 2.5, isn't it?",
    "ΟΔΥΣΣΕΥΣ\u00a0Straße <br />naïve ’s e\u0301 日本語です I’ve\tcannot\x0bthe the film 🙂 good",
    "The film was good, not bad. " * 5,
]
PACKAGES = "onnxruntime", "tf2onnx", "ai_edge_litert"


@pytest.fixture(scope="module", autouse=True)
def installed():
    missing = [name for name in PACKAGES if not importlib.util.find_spec(name)]
    if missing:
        reason = f"{missing} not installed: pip install -r serving/requirements.txt"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)


def written(made, folder, litert=False, examples=()):
    args = argparse.Namespace(onnx=True, litert=litert, output=folder)
    make = None if examples is None else lambda: examples
    other_runtimes.write(args, lambda: made, lambda model: {"accuracy": 1.0}, make)
    return onnx_query.load(folder / "onnx")


def decoded(answer):
    return {
        name: np.vectorize(bytes.decode)(x) if x.dtype == tf.string else x.numpy()
        for name, x in answer.items()
    }


@pytest.fixture(scope="module")
def tagger(tmp_path_factory):
    model = perturbed(pos_tagging.build(grammar.sentences(300, "train"), grammar.TAGS, "lstm", 8))
    made = tagging_export.numeric(model, pos_tagging.SPLIT, grammar.TAGS)
    page = written(made, folder := tmp_path_factory.mktemp("tagger"))
    return model, page, folder, made.as_model(page)


def test_a_tagger(tagger):
    model, page, _, stands_in = tagger
    served = pos_tagging.signatures(model, grammar.TAGS)["serving_default"][0]
    expected, found = decoded(served(tf.constant(TEXTS))), page(TEXTS)
    assert found["lengths"] == expected["lengths"].tolist()
    for name in ("words", "tags"):
        rows = zip(found[name], expected[name], strict=True)
        assert all(row == [x for x in long.tolist() if x] for row, long in rows)
    split = [page.read.split(text) for text in TEXTS]
    padded = tf.ragged.constant(split).to_tensor("")
    np.testing.assert_allclose(page.probabilities(split), model(padded), atol=1e-5)
    np.testing.assert_allclose(stands_in(padded), model(padded), atol=1e-5)


def test_it_is_asked_without_tensorflow(tagger):
    script = "import sys, runpy; sys.modules['tensorflow'] = None; sys.path.insert(0, 'serving')\n"
    script += "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", script, "serving/onnx_query.py", tagger[2] / "onnx", TEXTS[0]]
    done = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    assert re.search(r"words: I saw a saw \.", done.stdout)


def test_a_classifier_and_its_ngrams(tmp_path, monkeypatch):
    monkeypatch.setattr(sentiment, "LONGEST", 12)
    train = reviews.reviews(200, "train")
    model = perturbed(sentiment.build(train, "gru", 8, short=6))
    made = sentiment_export.numeric(model, words.RULES, sentiment.LABELS, 12)
    page = written(made, tmp_path, litert=True, examples=train[0][:20])
    on_a_phone = other_runtimes.read_litert(made, tmp_path / "litert")
    served = sentiment.signatures(model)["serving_default"][0]
    expected = decoded(served(tf.constant(TEXTS)))
    for found in (page(TEXTS), on_a_phone(TEXTS)):
        assert found["label"] == expected["label"].tolist()
        np.testing.assert_allclose(found["probabilities"], expected["probabilities"], atol=1e-5)
    assert np.ptp(expected["probabilities"]) > 0.01
    kept = {path.name for path in (tmp_path / "litert").iterdir()}
    assert kept > {"model_dynamic.tflite", "model_int8.tflite", "ngrams.npz", "about.json"}


def test_a_stream_of_words(tmp_path):
    """`stream.onnx`, word by word, and the SavedModel's on what was written so far."""
    train = reviews.reviews(200, "train")
    model = perturbed(sentiment.build(train, "gru", 8, unidirectional=True))
    made = sentiment_export.numeric(model, words.RULES, sentiment.LABELS, sentiment.LONGEST)
    page = written(made, tmp_path)
    import onnxruntime

    session = onnxruntime.InferenceSession(tmp_path / "onnx" / "stream.onnx")
    served, given = (
        sentiment.signatures(model)["serving_default"][0],
        page.read.split(TEXTS[-1].lower()),
    )
    about = json.loads((tmp_path / "onnx" / "about.json").read_text("utf-8"))
    states = {n: np.full((1, size), x, "float32") for n, (size, x) in about["states"].items()}
    found = []
    for number in page.read.numbers([given])[0, :9]:
        scores, *new = session.run(
            ["network", *(f"new_{name}" for name in states)], {"numbers": [[number]], **states}
        )
        states = dict(zip(states, new))
        found.append(1 / (1 + np.exp(-scores[0, 0])))
    texts = tf.constant([" ".join(given[:n]) for n in range(1, 10)])
    np.testing.assert_allclose(found, served(texts)["probabilities"][:, 1], atol=1e-5)
    assert np.ptp(found) > 0.01


def wav_files(folder, sounds):
    paths = [folder / f"{k}.wav" for k in range(len(sounds))]
    for path, values in zip(paths, sounds):
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, speech.RATE, 0, "NONE", ""))
            file.writeframes(values.tobytes())
    return paths


def test_a_listener(tmp_path):
    data = recordings.sample(0, each=1)
    words = sorted({one.text for one in data})
    model = perturbed(speech.together(speech.build_for_words(data, words, "gru", 8, networks=2)))
    made = speech_export.numeric_for_words(model, words)
    examples = [np.resize(one.samples, speech.RATE) for one in data[:10]]
    page = written(made, tmp_path, litert=True, examples=examples)
    sounds = [np.round(one.samples * 2**15).astype("<i2") for one in data[::13]]
    sounds += [np.zeros(0, "<i2"), sounds[0][:200]]  # less than a step needs
    paths = wav_files(tmp_path, sounds)
    on_a_phone = other_runtimes.read_litert(made, tmp_path / "litert")
    signatures = speech_export.word_signatures(model, words, data[0].samples, speech.RATE)
    recognize, specs, _ = signatures["serving_default"]
    recognize = tf.function(recognize, [*specs.values()])
    for path, values in zip(paths, sounds):
        given = tf.constant(values[None] / 2**15, tf.float32), tf.constant([len(values)])
        expected = decoded(recognize(*given, tf.constant(speech.RATE)))
        for answer in (page([path]), *([on_a_phone([path])] if len(values) else [])):
            assert answer["text"] == expected["text"].tolist()
            np.testing.assert_allclose(
                answer["probabilities"], expected["probabilities"], atol=1e-4
            )
    model, read = tf.function(model, [speech.HEARD]), made.as_model(page)
    assert speech.evaluate(read, data[:20], words)[0] == speech.evaluate(model, data[:20], words)[0]
    with wave.open(str(paths[0]), "wb") as file:
        file.setparams((1, 2, 44100, 0, "NONE", ""))
    with pytest.raises(SystemExit, match=r"44100 samples a second.*takes 8000: ffmpeg"):
        page([paths[0]])


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_transcriber(tmp_path, bidirectional):
    keras.utils.set_random_seed(0)  # of others, two texts may be as likely but for a rounding
    data = recordings.sample(0, each=1)
    symbols = ctc.Symbols.of_pieces([one.text for one in data], 11)  # a space is one of them
    model = perturbed(speech.build_for_texts(data, symbols, "gru", 8, bidirectional))
    made = speech_export.numeric_for_texts(model, symbols)
    examples = [np.resize(one.samples, speech.RATE) for one in data[:10]]
    page = written(made, tmp_path, litert=True, examples=examples)
    on_a_phone = other_runtimes.read_litert(made, tmp_path / "litert")
    sounds = [np.round(one.samples * 2**15).astype("<i2") for one in data[::13]]
    sounds += [np.concatenate(sounds[:3]), np.zeros(0, "<i2")]
    served = speech_export.text_signatures(model, symbols, data[0].samples, speech.RATE)
    recognize, specs, _ = served["serving_default"]
    recognize = tf.function(recognize, [*specs.values()])
    for path, values in zip(wav_files(tmp_path, sounds), sounds):
        given = tf.constant(values[None] / 2**15, tf.float32), tf.constant([len(values)])
        answer = recognize(*given, tf.constant(speech.RATE))
        expected = {
            "text": [answer["text"].numpy()[0].decode()],
            "texts": [[answer["texts"].numpy()[0, 0].decode()]],
        }
        assert page([path]) == expected
        assert on_a_phone([path]) == expected
    batch, _ = next(iter(speech.text_batches(data[:5], symbols, vary=False)))
    expected, found = model(batch), made.as_model(page)(batch)
    np.testing.assert_array_equal(found["counts"], expected["counts"])
    for row, other, count in zip(found["logits"], expected["logits"], expected["counts"]):
        np.testing.assert_allclose(row[:count], other[:count], atol=1e-4)


def test_its_beam_search_adds_up_all_ways_to_say_a_text():
    random = np.random.default_rng(0)
    for steps in (1, 4, 6):
        each = random.dirichlet(np.ones(4) / 2, steps)
        chances = collections.Counter()
        for path in itertools.product(range(4), repeat=steps):
            said = tuple(k for k, _ in itertools.groupby(path) if k != 3)
            chances[said] += np.prod(each[range(steps), path])
        ((best, _),) = chances.most_common(1)
        assert onnx_query.beam_search(each, beam=1000) == best


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_writer(tmp_path, cell):
    train = "Äh, how (are) you?\nFine 🙂, 漢字.\n" * 20
    symbols = Characters(train)
    model = perturbed(language_model.build(len(symbols), cell, units=8))
    answers_as_served(model, symbols, tmp_path, ["how are", "", "漢x\n"])


def test_a_writer_of_words(tmp_path):
    symbols = Words(["good", "film", "the", "n't", "?", "is", "日"])
    model = perturbed(language_model.build_for_words(len(symbols), "lstm", 8, 6))
    texts = ["The film isn't good?", "", "A FILM the<br/>日日"]
    answers_as_served(model, symbols, tmp_path, texts)


def answers_as_served(model, symbols, folder, texts):
    made = text_export.numeric(model, symbols)
    page = written(made, folder, litert=True, examples=None)
    on_a_phone = other_runtimes.read_litert(made, folder / "litert")
    served = text_export.signatures(model, symbols, "good")
    scored = served["serving_default"][0](tf.constant(texts))
    how = {"length": 30, "temperature": 0.0, "top_k": 0, "top_p": 1.0, "seed": 0}
    expected = served["generate"][0](tf.constant(texts), **how)["texts"].numpy()
    for runtime in (page, on_a_phone):
        found = [runtime.losses(runtime.numbers(text), piece=4) for text in texts]
        for row, each, count in zip(found, scored["log_probabilities"], scored["lengths"]):
            np.testing.assert_allclose(-row, each[:count], atol=1e-4)
        assert [runtime.written_on(x, 30, 0) for x in texts] == [x.decode() for x in expected]
    found = page(texts)
    np.testing.assert_allclose(found["perplexity"], scored["perplexity"], rtol=1e-4)
    assert all(text.startswith(given) for text, given in zip(found["text"], texts))
    drawn = {page.written_on("", 1, temperature=1.0, seed=seed) for seed in range(30)}
    assert len(drawn) > 2
    assert not (folder / "litert" / "model_int8.tflite").exists()


def test_neighbours_and_analogies(tmp_path):
    known = ["king", "man", "woman", "queen", "日", "cat", "dog"]
    vectors = np.random.default_rng(0).normal(size=(7, 5)).astype("float32")
    page = written(
        made := word_search.numeric(known, vectors), tmp_path, litert=True, examples=None
    )
    on_a_phone = other_runtimes.read_litert(made, tmp_path / "litert")
    served = word_search.Answers(known, vectors, None)
    for runtime in (page, on_a_phone):
        np.testing.assert_array_equal(runtime.vectors(np.arange(7)), vectors)
        found = runtime(["King", "king man woman", "日"])
        for k, expected in (
            (0, decoded(served.neighbours(tf.constant(["king"])))),
            (1, decoded(served.analogies(tf.constant([["king", "man", "woman"]])))),
        ):
            answers = expected["similar" if k == 0 else "answers"][0]
            assert found["answers"][k] == [x for x in answers if x]
            size = len(found["answers"][k])
            similarities = expected["similarities"][0, :size]
            np.testing.assert_allclose(found["similarities"][k], similarities, atol=1e-5)
    with pytest.raises(SystemExit, match=r"one word, or three; not known: \['bird'\]"):
        page(["bird"])


def test_a_translator(tmp_path):
    keras.utils.set_random_seed(0)  # not all weights have several answers
    pairs = [(f"{a} é 🙂", b) for a, b in number_words.pairs(300, "0")]
    known = subwords.Subwords(subwords.learn([x for pair in pairs for x in pair], 90))
    model, halves = translation.build(known, "gru", 8, 6)
    perturbed(model)
    made = translation_export.numeric(halves)
    page = written(made, tmp_path, litert=True, examples=None)
    on_a_phone = other_runtimes.read_litert(made, tmp_path / "litert")
    texts = [*TEXTS[:4], *(sentence for sentence, _ in pairs[:4]), "no\x01thing日日 日five"]
    numbers = known.numbers(tf.constant(texts)).to_list()
    assert [page.numbers(text) for text in texts] == numbers
    served = tf.function(
        translation_export.signatures(halves, texts[0])["serving_default"][0],
        [tf.TensorSpec([None], tf.string)],
        autograph=False,
    )
    answer = served(tf.constant(texts))
    expected = [text.decode() for text in answer["translations"].numpy()]
    written_of = np.count_nonzero(answer["pieces"].numpy() != b"", axis=1)
    limits = [2 * (len(row) + 1) + translation_export.MORE for row in numbers]
    assert any(written_of == limits)  # where it is its own length that ends a translation
    assert page(texts)["translations"] == expected and len({*expected}) > 3
    assert on_a_phone(texts[-2:])["translations"] == expected[-2:]
    names = {path.name for path in (tmp_path / "onnx").iterdir()}
    assert names > {"encoder_int8.onnx", "decoder_int8.onnx"}
    write = made.as_model(onnx_query.load(tmp_path / "onnx", "_int8.onnx"))
    assert len(translation.translate(write, texts[:3])) == 3


def test_a_forecaster_with_quantiles(tmp_path):
    mean, std, levels = np.array([1.0, -2.0]), np.array([0.5, 3.0]), (0.1, 0.5, 0.9)
    mean, std = mean.astype("float32"), std.astype("float32")
    model = perturbed(forecasting.build(mean, std, 30, 20, "gru", 8, units=8, levels=levels))
    examples = np.random.default_rng(0).normal(mean, std, (40, 30, 2)).astype("float32")
    made = forecasting_export.numeric(model, mean, std, levels, ["a", "b"], "a,b\n1,2\n")
    page = written(made, tmp_path, litert=True, examples=examples)
    window = examples[:1]
    (tmp_path / "window.csv").write_text("\n".join(f"{a},{b}" for a, b in window[0].tolist()))
    served = forecasting.signatures(model, mean, std, levels)["serving_default"][0]
    expected, found = served(tf.constant(window)), page([tmp_path / "window.csv"])
    for name in ("forecast", "quantiles"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-5)
    swapped = "\n".join(["date,b,a", *(f"x,{b},{a}" for a, b in window[0].tolist())])
    (tmp_path / "window.csv").write_text(swapped)  # named, in another order
    np.testing.assert_array_equal(page([tmp_path / "window.csv"])["forecast"], found["forecast"])
    (tmp_path / "window.csv").write_text(swapped.replace("date,b,a", "date,b,c"))
    with pytest.raises(SystemExit, match="has no column a; the model reads"):
        page([tmp_path / "window.csv"])
    shown = {"forecast", "forecast_q10", "forecast_q50", "forecast_q90"}
    assert by_level(found).keys() == shown  # as they are printed
    for wrong, says in (
        ("1,2\n" * 29, r"has \(29, 2\) rows .*, not \(30, 2\)"),
        ("1,2\n" * 29 + "1,nan\n", "not finite"),
    ):
        (tmp_path / "window.csv").write_text(wrong)
        with pytest.raises(SystemExit, match=says):
            page([tmp_path / "window.csv"])


def test_rules_of_any_case():
    pattern = r"(?i)('(?:s|re|ll))\b"
    ((found, by),) = portable([(pattern, r" \1 ")])
    texts = ["it's", "IT'S", "it'ſ", "it'ſx", "we'Re'LL'rex", "we'\u212ae"]
    expected = tf.strings.regex_replace(texts, pattern, r" \1 ").numpy()
    assert [re.sub(found, by, x, flags=re.ASCII) for x in texts] == [x.decode() for x in expected]


def test_rules_are_written_out_for_any_language():
    ((pattern, by),) = portable([(r"([^\pN_\s'])", r" \1 ")])
    assert "\\p" not in pattern and by == r" \1 "
    text = string.printable + "²½Ⅷ٣क日"
    (expected,) = tf.strings.regex_replace([text], r"([^\pN_\s'])", r" \1 ").numpy()
    assert re.sub(pattern, by, text, flags=re.ASCII).split(" ") == expected.decode().split(" ")
