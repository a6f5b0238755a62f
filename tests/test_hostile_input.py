"""Whatever comes in, each signature of each recipe answers, or says which input is wrong.

The models are untrained; what is asked is only how they take what nobody should send.
"""

import json
import re
import subprocess

import numpy as np
import processes
import pytest
import tensorflow as tf
from conftest import REPOSITORY, ask_in_c, portable_ops
from small_exports import EXPORTS, LOOKBACK

from recipes import forecasting, pos_tagging, sentiment
from recipes.parts.forecasting import forecasting_stream
from recipes.parts.language_model.characters import Characters
from recipes.parts.sentiment import sentiment_export
from recipes.parts.word_embeddings import word_search

SIGNATURES = [
    ("pos_tagging", "serving_default"),
    ("pos_tagging", "words"),
    ("sentiment", "serving_default"),
    ("sentiment_stream", "serving_default"),
    ("sentiment_stream", "stream"),
    ("sentiment_stream", "initial_state"),
    ("forecasting", "serving_default"),
    ("forecasting_stream", "serving_default"),
    ("forecasting_stream", "stream"),
    ("forecasting_stream", "initial_state"),
    ("speech", "serving_default"),
    *[("speech_texts", signature) for signature in ("serving_default", "stream", "initial_state")],
    *[
        ("language_model", signature)
        for signature in ("serving_default", "generate", "stream", "initial_state")
    ],
    *[
        ("translation", signature)
        for signature in ("serving_default", "alternatives", "start", "next")
    ],
    *[
        (recipe, signature)
        for recipe in ("word_embeddings", "word_embeddings_ngrams")
        for signature in ("serving_default", "neighbours", "analogies")
    ],
]


@pytest.fixture(scope="module")
def served(exports):
    return {name: tf.saved_model.load(str(version)).signatures for name, version in exports.items()}


def good(served, recipe, signature, batch=2):
    """Inputs that nothing is wrong with."""
    if signature == "initial_state":
        return {"batch_size": tf.constant(batch)}
    if signature == "analogies":
        return {"questions": tf.fill([batch, 3], "king")}
    if signature == "generate":
        return {
            "prompts": tf.fill([batch], "good"),
            "length": tf.constant(3),
            "temperature": tf.constant(0.8),
            "top_k": tf.constant(0),
            "top_p": tf.constant(0.9),
            "seed": tf.constant(0),
        }
    if recipe.startswith("word_embeddings"):
        return {"words": tf.fill([batch], "saw")}
    if signature == "words":
        return {"words": tf.fill([batch, 2], "saw")}
    if signature == "next":
        sentences = {"sentences": tf.fill([batch], "sixty-two")}
        return sentences | served[recipe]["start"](**sentences)
    if signature == "stream":
        states = served[recipe]["initial_state"](batch_size=tf.constant(batch))
        if recipe == "speech_texts":
            states["heard_samples"] = tf.zeros((batch, 100))
            return {"chunk": tf.zeros((batch, 1000)), "rate": tf.constant(8000), **states}
        text = recipe != "forecasting_stream"
        return {
            "chunk": tf.fill([batch], "so goo") if text else tf.ones((batch, 5, 3)),
            **states,
        }
    if recipe.startswith("speech"):
        lengths = tf.fill([batch], 900)
        return {"samples": tf.zeros((batch, 1000)), "lengths": lengths, "rate": tf.constant(8000)}
    if recipe == "language_model":
        return {"texts": tf.fill([batch], "I saw a saw .")}
    if recipe.startswith("forecasting"):
        return {"window": tf.ones((batch, LOOKBACK, 3))}
    return {"sentences": tf.fill([batch], "I saw a saw .")}


def refused(function, inputs, name):
    """Whether `inputs` are refused, by an error that names the input at fault."""
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError, TypeError)) as error:
        function(**inputs)
    said = str(error.value)
    assert re.search(f"`{name}`", said) or re.search(rf"Shape of tensor (\w+_)?{name} \[", said), (
        said
    )


@pytest.mark.parametrize("recipe", EXPORTS)
def test_what_is_exported_is_portable(exports, recipe):
    assert "Assert" in portable_ops(exports[recipe])


@pytest.mark.parametrize("recipe, signature", SIGNATURES)
def test_an_empty_batch_has_an_empty_answer(served, recipe, signature):
    answer = served[recipe][signature](**good(served, recipe, signature, batch=0))
    for name, value in answer.items():
        assert value.shape[0] == 0, name


@pytest.mark.parametrize("recipe, signature", SIGNATURES)
def test_every_input_is_named_whose_rank_is_wrong(served, recipe, signature):
    inputs = good(served, recipe, signature)
    for name, value in inputs.items():
        refused(served[recipe][signature], {**inputs, name: value[None]}, name)
        if value.shape.rank:
            refused(served[recipe][signature], {**inputs, name: value[0]}, name)


@pytest.mark.parametrize("recipe, signature", SIGNATURES)
def test_every_input_is_named_whose_size_is_wrong(served, recipe, signature):
    inputs = good(served, recipe, signature)
    shapes = served[recipe][signature].structured_input_signature[1]
    several = sum(value.shape.rank > 0 for value in inputs.values()) > 1
    for name, value in inputs.items():
        for axis in range(value.shape.rank):
            of_batch = several and axis == 0
            if shapes[name].shape[axis] is not None or of_batch:
                longer = tf.concat([value, value], axis)
                # All are compared with the first that the signature declares.
                named = r"[a-z_0-9]+` and `[a-z_0-9]+" if of_batch else name
                refused(served[recipe][signature], {**inputs, name: longer}, named)


@pytest.mark.parametrize("recipe, signature", SIGNATURES)
def test_a_wrong_dtype_is_refused(served, recipe, signature):
    """By TensorFlow, before the graph runs; it says which input by its number alone."""
    inputs = good(served, recipe, signature)
    for name, value in inputs.items():
        other = tf.zeros(value.shape, tf.float64 if value.dtype == tf.string else tf.string)
        with pytest.raises((tf.errors.InvalidArgumentError, ValueError, TypeError)):
            served[recipe][signature](**{**inputs, name: other})


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("recipe, signature", SIGNATURES)
def test_what_is_not_finite_is_named(served, recipe, signature, bad):
    inputs = good(served, recipe, signature)
    for name, value in inputs.items():
        if value.dtype.is_floating:
            poisoned = np.array(value)
            poisoned.flat[0] = bad  # the last one may be padding, of which nothing is asked
            refused(served[recipe][signature], {**inputs, name: tf.constant(poisoned)}, name)


def test_what_overflows_is_no_silent_nan(served):
    for recipe, name in (("forecasting", "window"), ("forecasting_stream", "window")):
        window = tf.fill((1, LOOKBACK, 3), 3e38)
        refused(served[recipe]["serving_default"], {name: window}, name)
    inputs = good(served, "forecasting_stream", "stream")
    chunk = tf.fill(inputs["chunk"].shape, 3e38)
    refused(served["forecasting_stream"]["stream"], {**inputs, "chunk": chunk}, "chunk")


@pytest.mark.parametrize(
    "recipe", ["sentiment_stream", "forecasting_stream", "language_model", "speech_texts"]
)
def test_a_batch_of_states_has_a_sensible_size(served, recipe):
    for batch in (-1, -(2**31), 2**31 - 1):
        refused(served[recipe]["initial_state"], {"batch_size": tf.constant(batch)}, "batch_size")


def test_a_count_that_no_stream_has_is_refused(served):
    inputs = good(served, "sentiment_stream", "stream")
    for count in (-1, sentiment.LONGEST + 1):
        wrong = {**inputs, "words_read": tf.constant([0, count])}
        refused(served["sentiment_stream"]["stream"], wrong, "words_read")


def test_what_cannot_be_generated_is_named(served):
    generate = served["language_model"]["generate"]
    inputs = good(served, "language_model", "generate")
    most = Characters.most_places
    for name, values in {
        "length": [-1, most + 1],
        "temperature": [-0.1, np.nan, np.inf],
        "top_k": [-1],
        "top_p": [-0.1, 1.1],
    }.items():
        for value in values:
            refused(generate, {**inputs, name: tf.constant(value, inputs[name].dtype)}, name)
    refused(generate, {**inputs, "length": tf.constant(most // 2)}, "prompts")
    extremes = {"temperature": 0.0, "top_k": 2**31 - 1, "top_p": 0.0, "seed": -(2**31)}
    for name, value in extremes.items():
        answer = generate(**{**inputs, name: tf.constant(value, inputs[name].dtype)})
        assert all(len(text) == 7 for text in answer["texts"].numpy())


ODD = {
    "empty": b"",
    "spaces": b"   \t\n ",
    "invalid UTF-8": b"\xff\xfe good \xe2\x82 \xc0\xbc \xed\xa0\x80",
    "zero bytes": b"a\0b \0",
    "emoji": "🙂👩‍👩‍👧‍👦 good 🇫🇷".encode(),
    "unknown script": "ᚠᛇᚻ 漢字かな ﷽".encode(),
    "open tags": b"<" * 1000 + b" a <b",
}


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_any_text_has_an_answer(served, text):
    for recipe in ("sentiment", "sentiment_stream"):
        answer = served[recipe]["serving_default"](sentences=tf.constant([text]))
        np.testing.assert_allclose(tf.reduce_sum(answer["probabilities"]), 1, atol=1e-6)
    inputs = good(served, "sentiment_stream", "stream", batch=1)
    streamed = served["sentiment_stream"]["stream"](**{**inputs, "chunk": tf.constant([text])})
    np.testing.assert_allclose(streamed["probabilities"], answer["probabilities"], atol=1e-5)
    for signature in ("serving_default", "alternatives"):
        answer = served["translation"][signature](sentences=tf.constant([text]))
        assert np.all(np.isfinite(answer["scores"]))
    answer = served["pos_tagging"]["serving_default"](sentences=tf.constant([text]))
    words = b" ".join(answer["words"].numpy()[0]).split()
    assert answer["lengths"][0] == len(words)
    assert [x for word in words for x in word] == [x for word in text.split() for x in word]
    answer = served["pos_tagging"]["words"](words=tf.constant([[text, b"saw"]]))
    assert answer["tags"].shape == (1, 2)
    asked = tf.constant([text])
    answer = served["language_model"]["serving_default"](texts=asked)
    assert answer["lengths"].numpy() == [len(text.decode(errors="replace"))]
    assert np.all(np.isfinite(answer["log_probabilities"])) and np.isfinite(answer["perplexity"])
    written = served["language_model"]["generate"](
        **{**good(served, "language_model", "generate", batch=1), "prompts": asked}
    )
    assert written["texts"].numpy()[0].decode()[:-3] == text.decode(errors="replace")
    for recipe in ("word_embeddings", "word_embeddings_ngrams"):
        for signature, asked in (
            ("serving_default", {"words": tf.constant([text])}),
            ("neighbours", {"words": tf.constant([text])}),
            ("analogies", {"questions": tf.constant([[text, b"man", b"woman"]])}),
        ):
            answer = served[recipe][signature](**asked)
            assert answer["known"].numpy().tolist() == [0]
            for name, value in answer.items():
                if value.dtype.is_floating:
                    assert np.all(np.isfinite(value)), name


def test_too_many_words_are_refused_and_the_most_are_not(served):
    most = pos_tagging.MOST_WORDS
    tag, words = (served["pos_tagging"][name] for name in ("serving_default", "words"))
    answer = tag(sentences=tf.constant(["saw " * most]))
    assert answer["lengths"].numpy().tolist() == [most]
    refused(tag, {"sentences": tf.constant(["saw " * (most + 1)])}, "sentences")
    refused(words, {"words": tf.fill([1, most + 1], "saw")}, "words")
    rows = pos_tagging.MOST_PLACES // most + 1
    refused(tag, {"sentences": tf.constant(["saw " * most] + ["saw"] * (rows - 1))}, "sentences")
    refused(words, {"words": tf.fill([rows, most], "saw")}, "words")


def test_too_many_rows_are_refused(served):
    many = {"sentences": tf.fill([sentiment_export.MOST_TEXTS + 1], "good")}
    refused(served["sentiment"]["serving_default"], many, "sentences")
    many = {"sentences": tf.constant(["a" * 2**20] + ["b"] * 70)}
    refused(served["sentiment"]["serving_default"], many, "sentences")
    inputs = good(served, "sentiment_stream", "stream", sentiment_export.MOST_TEXTS + 1)
    refused(served["sentiment_stream"]["stream"], inputs, "chunk")
    most = Characters.most_places
    ask = served["language_model"]["serving_default"]
    assert ask(texts=tf.constant(["a" * most]))["lengths"].numpy() == [most]
    refused(ask, {"texts": tf.constant(["a" * (most + 1)])}, "texts")
    refused(ask, {"texts": tf.constant(["a" * (most // 2), "a", "b"])}, "texts")
    inputs = good(served, "language_model", "stream")
    long = {**inputs, "chunk": tf.constant(["a" * most, ""])}
    refused(served["language_model"]["stream"], long, "chunk")
    many = {"window": tf.ones((forecasting.MOST_WINDOWS + 1, LOOKBACK, 3))}
    refused(served["forecasting"]["serving_default"], many, "window")
    inputs = good(served, "forecasting_stream", "stream", batch=1)
    steps = tf.ones((1, forecasting_stream.MOST_STEPS + 1, 3))
    refused(served["forecasting_stream"]["stream"], {**inputs, "chunk": steps}, "chunk")


@pytest.mark.parametrize("recipe", ["word_embeddings", "word_embeddings_ngrams"])
def test_too_many_and_too_long_words_are_refused(served, recipe):
    most, bytes_ = word_search.MOST_WORDS, word_search.MOST_BYTES
    for signature in ("serving_default", "neighbours"):
        ask = served[recipe][signature]
        assert ask(words=tf.fill([most], "saw"))["known"].shape == (most,)
        assert ask(words=tf.constant(["a" * bytes_]))["known"].numpy().tolist() == [0]
        refused(ask, {"words": tf.fill([most + 1], "saw")}, "words")
        refused(ask, {"words": tf.constant(["a" * (bytes_ + 1)])}, "words")
    ask = served[recipe]["analogies"]
    assert ask(questions=tf.fill([most // 3, 3], "saw"))["known"].shape == (most // 3,)
    refused(ask, {"questions": tf.fill([most // 3 + 1, 3], "saw")}, "questions")
    refused(ask, {"questions": tf.constant([["a" * bytes_, "man", "woman"]])}, "questions")


def test_without_python_the_errors_name_the_input_too(exports, c_program):
    for shape in ((1, LOOKBACK - 1, 3), (1, 2 * LOOKBACK, 3), (LOOKBACK, 3)):
        with pytest.raises(subprocess.CalledProcessError) as error:
            window = np.ones(shape, "float32")
            ask_in_c(c_program, exports["forecasting"], "serving_default", {"window": window})
        assert error.value.returncode == 1 and "serving_default_window" in error.value.stderr


MEMORY = """
import json, re, sys
import tensorflow as tf
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024
for version, signature, name in json.loads(sys.argv[1]):
    loaded = tf.saved_model.load(version).signatures
    states = loaded["initial_state"](batch_size=tf.constant(1)) if signature == "stream" else {}
    ask = lambda text: loaded[signature](**{name: tf.constant([text])}, **states)
    ask("I saw .")
    for text in ("saw " * 10_000, "a " * 500_000, "a" * 1_000_000, "<" * 1_000_000, "b> " * 10**5):
        before, said = peak(), ""
        try:
            ask(text)
        except tf.errors.InvalidArgumentError as error:
            said = str(error).split("assertion failed:")[1].split(chr(10))[0]
        more = peak() - before
        print(f"{signature:15} {len(text):7} {text[:4]!r} {more:4} MB more {said}")
        assert more < 300 and (not said or f"`{name}`" in said)
"""


def test_long_text_takes_little_memory(exports):
    asked = [
        (str(exports["pos_tagging"]), "serving_default", "sentences"),
        (str(exports["sentiment"]), "serving_default", "sentences"),
        (str(exports["sentiment_stream"]), "stream", "chunk"),
        (str(exports["word_embeddings_ngrams"]), "neighbours", "words"),
        (str(exports["language_model"]), "stream", "chunk"),
    ]
    # In a process of its own: a peak is never forgotten.
    processes.run(["-c", MEMORY, json.dumps(asked)], cwd=REPOSITORY)
