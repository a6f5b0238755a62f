"""Each recipe from its command line to its SavedModel, on its built-in sample."""

import argparse
import importlib
import itertools
import json
import os

import keras
import numpy as np
import processes
import pytest
import tensorflow as tf
from conftest import (
    REPOSITORY,
    answered,
    ask,
    ask_in_c,
    assert_same_answers,
    load_mean_of_weights,
    portable_ops,
)

from recipes import forecasting, pos_tagging, sentiment
from recipes.common import command_line, small_embeddings, training
from recipes.common.cells import CELLS
from recipes.common.words import clean

pytestmark = pytest.mark.usefixtures("without_graph_optimizer")

RUNS = {
    "pos_tagging": ["--cell", "simple_rnn", "--epochs", "2", "--steps", "80"],
    "sentiment": ["--cell", "gru", "--epochs", "2", "--steps", "60"],
    "forecasting": ["--cell", "lstm", "--epochs", "2"],
}


def command(recipe, folder, *arguments):
    script = REPOSITORY / "recipes" / f"{recipe}.py"
    places = ["--output", folder / "run", "--saved-models", folder / "saved_models"]
    return [script, "--dataset", "sample", *places, *arguments]


def started_here(recipe, command):
    """Does what the command does, in this process."""
    modules = {"pos_tagging": pos_tagging, "sentiment": sentiment, "forecasting": forecasting}
    module = modules[recipe]
    module.main(module.arguments([str(word) for word in command[1:]]))


@pytest.fixture(scope="module", params=RUNS)
def run(request, tmp_path_factory):
    """(recipe, folder, metrics) of a finished run; one was started from another folder."""
    folder = tmp_path_factory.mktemp(request.param)
    arguments = command(request.param, folder, *RUNS[request.param])
    if request.param == "forecasting":
        processes.run(arguments, cwd=folder)
    else:
        started_here(request.param, arguments)
    return request.param, folder, json.loads((folder / "run/metrics.json").read_text())


def test_scores_beat_what_needs_no_training(run):
    recipe, _, metrics = run
    test = metrics["test"]
    if recipe == "pos_tagging":
        assert test["accuracy"] > 0.97 > test["accuracy_of_most_frequent_tag"] + 0.03
    elif recipe == "sentiment":
        assert test["accuracy"] > 0.95  # no counting of words can pass 0.5 by much
    else:
        others = [test["repeat the last value"]["mse"], test["repeat the last season"]["mse"]]
        assert test["model"]["mse"] < 0.95 * min(others)


def test_leaves_pictures_logs_and_checkpoints(run):
    recipe, folder, _ = run
    telling = {"forecasting": "forecast.png"}.get(recipe, "confusion.png")
    for name in ("curves.png", telling):
        assert (folder / "run" / name).read_bytes().startswith(b"\x89PNG")
    assert list((folder / "run/tensorboard").rglob("events.out.tfevents.*"))
    assert list((folder / "run/checkpoints").glob("*.weights.h5"))
    assert not [p for p in folder.rglob(".writing-*")]


def test_saved_model_answers_as_the_recipe_does(run, tmp_path):
    recipe, folder, metrics = run
    (version,) = (folder / "saved_models" / recipe).iterdir()
    assert version.name == "1"
    portable_ops(version)
    weights = folder / f"run/checkpoints/{metrics['best_epoch']}.weights.h5"
    if recipe == "forecasting":
        data, (end, *_) = forecasting.load("sample", None, 0)
        values = data.values
        mean, std = values[:end].mean(axis=0), values[:end].std(axis=0)
        model = forecasting.build(mean, std, 96, 96, "lstm")
        load_mean_of_weights(model, weights)
        window = np.stack([values[i : i + 96] for i in (0, 500, 2000)])
        answer = answered(version, "serving_default", {"window": window})
        expected = model.predict(window) * std + mean
        np.testing.assert_allclose(answer["forecast"], expected, rtol=1e-5, atol=1e-4 * std.min())
    elif recipe == "sentiment":
        data, _ = sentiment.load("sample", 0)
        texts, labels = data["test"]
        model = sentiment.build(data["train"], "gru")
        sentiment.one_part(model, "network").load_weights(weights)
        small_embeddings.quantize(model)
        args = argparse.Namespace(**metrics)
        sentiment.teach_ngrams(model, data["train"], args)
        assert sentiment.choose_factors(model, data["validation"]) == metrics["factors"]
        before, _ = sentiment.evaluate(model, data["validation"])  # before the n-grams see it
        assert before["alone"] == metrics["validation"]["alone"]
        sentiment.teach_ngrams(model, sentiment.together(data["train"], data["validation"]), args)
        answer = answered(version, "serving_default", {"sentences": texts[:40]})
        expected = model.predict(tf.constant(texts[:40]))["both"][:, 0]
        np.testing.assert_allclose(answer["probabilities"][:, 1], expected, atol=1e-5)
        np.testing.assert_allclose(answer["probabilities"].sum(-1), 1, atol=1e-6)
        assert np.mean(answer["label"] == np.take(sentiment.LABELS, labels[:40])) > 0.9
    else:
        data, tags = pos_tagging.load("sample", 0)
        model = pos_tagging.build(data["train"], tags, "simple_rnn")
        load_mean_of_weights(model, weights)
        small_embeddings.quantize(model)
        sentences = ["I saw a saw .", "You can can a can .", ""]
        answer = ask(version, "serving_default", {"sentences": sentences}, tmp_path)
        assert answer["lengths"].tolist() == [5, 6, 0]
        assert answer["tags"][0].tolist() == ["PRON", "VERB", "DET", "NOUN", "PUNCT", ""]
        words = np.array([*[data["test"][i][0] + [""] * 30 for i in range(20)]], object)
        words = np.array([[row[i] for i in range(30)] for row in words])
        for alone in ([""], ["  "], ["", ""]):
            empty = answered(version, "serving_default", {"sentences": alone})
            assert empty["lengths"].tolist() == [0] * len(alone)
        answer = answered(version, "words", {"words": words.tolist()})
        best = model.predict(tf.constant(words.tolist())).argmax(-1)
        expected = np.where(words == "", "", np.take(tags, best))
        np.testing.assert_array_equal(answer["tags"], expected)


def test_without_python_it_answers_the_same(run, c_program):
    recipe, folder, _ = run
    sentences = {
        "sentences": ["I saw a saw .", "", "Ça, c'est bon 🙂", "The film was good, not bad."]
    }
    given = {
        "sentiment": {"serving_default": sentences},
        "pos_tagging": {
            "words": {"words": [["I", "saw", "a", "saw"], ["Ça", "🙂", "", ""]]},
        },
        "forecasting": {
            "serving_default": {"window": forecasting.load("sample", None, 0)[0].values[:96][None]}
        },
    }[recipe]
    for signature, inputs in given.items():
        version = folder / "saved_models" / recipe / "1"
        expected = answered(version, signature, inputs)
        answer = ask_in_c(c_program, version, signature, inputs)
        assert_same_answers(answer, expected)


@pytest.mark.parametrize(
    "recipe, flag", [("sentiment", "unidirectional"), ("forecasting", "streaming")]
)
def test_what_can_stream_is_exported_with_its_stream(recipe, flag, tmp_path):
    short = [f"--{flag}", "--epochs", "1", "--steps", "3"]
    short += ["--lookback", "48", "--horizon", "24"] if recipe == "forecasting" else []
    started_here(recipe, command(recipe, tmp_path, *short))
    portable_ops(tmp_path / "saved_models" / recipe / "1")
    signatures = tf.saved_model.load(str(tmp_path / "saved_models" / recipe / "1")).signatures
    assert set(signatures) == {"serving_default", "stream", "initial_state"}
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics[flag] is True
    if recipe == "forecasting":  # a state that has seen more than a window is no worse
        one_stream = metrics["test"]["model, one stream"]["mse"]
        assert one_stream == pytest.approx(metrics["test"]["model"]["mse"], rel=0.2)


BATCHES = {
    "pos_tagging": 6,
    "sentiment": 6,
    "forecasting": 6,
    "language_model": 6,
    "translation": 6,
    "speech": 6,
    "speech --strings": 6,
    "language_model --tokens words": 6,
    "word_embeddings": 1280,  # words, of which a row has 32 or less
}


@pytest.mark.parametrize("command", BATCHES)
def test_a_batch_is_as_large_as_asked(command, monkeypatch, tmp_path):
    class Seen(Exception):
        pass

    def fit(model, train, *_, **__):
        raise Seen([len(tf.nest.flatten(batch)[0]) for batch in train.take(3)])

    monkeypatch.setattr(training, "fit", fit)
    recipe, *words = command.split()
    recipe, asked = importlib.import_module(f"recipes.{recipe}"), BATCHES[command]
    words += ["--dataset", "sample", "--batch", str(asked), "--output", str(tmp_path)]
    with pytest.raises(Seen) as seen:
        recipe.main(recipe.arguments(words))
    found = max(seen.value.args[0])
    assert found == 6 if asked == 6 else 20 < found <= 40


@pytest.mark.parametrize(
    "recipe, batch, why", [("language_model", 99999, "208 streams"), ("word_embeddings", 8, "1024")]
)
def test_a_batch_that_cannot_be_is_refused_before_an_earlier_run_goes(
    recipe, batch, why, tmp_path, capsys
):
    kept = tmp_path / "checkpoints/kept"
    kept.parent.mkdir()
    kept.touch()
    recipe, words = importlib.import_module(f"recipes.{recipe}"), ["--dataset", "sample"]
    words += ["--batch", str(batch), "--restart", "--output", str(tmp_path)]
    with pytest.raises(SystemExit) as refused:
        recipe.main(recipe.arguments(words))
    assert why in f"{refused.value}{capsys.readouterr().err}" and kept.exists()


def test_padding_counts_in_no_loss_and_no_metric():
    data, tags = pos_tagging.load("sample", 0)
    model = pos_tagging.build(data["train"][:200], tags, "simple_rnn", units=16)
    pos_tagging.compile_model(model, 1)
    first = pos_tagging.batches(data["test"][:30], tags, shuffle=False).take(1)
    padded = first.map(lambda *all_: [tf.pad(x, [[0, 0], [0, 7]]) for x in all_])
    plain, more = (model.evaluate(x, return_dict=True, verbose=0) for x in (first, padded))
    assert plain == pytest.approx(more, rel=1e-5)
    # Over batches of several lengths, every word counts as much as any other.
    data = pos_tagging.batches(data["test"][:100], tags, shuffle=False)
    read = tf.function(model, [pos_tagging.WORDS])
    right = sum(np.sum(w * (np.argmax(read(x), -1) == y)) for x, y, w in data)
    right /= sum(np.sum(w) for _, _, w in data)
    assert len({x.shape[1] for x, _, _ in data}) > 1
    assert model.evaluate(data, return_dict=True)["accuracy"] == pytest.approx(right, rel=1e-5)
    # The loss is the mean over words, by the definition of cross-entropy.
    ((words, numbers, weights),) = first
    p = np.take_along_axis(read(words).numpy(), numbers.numpy()[..., None], -1)[..., 0]
    assert plain["loss"] == pytest.approx(-np.log(p)[weights.numpy() > 0].mean(), rel=1e-4)


@pytest.mark.parametrize("cell", command_line.CELLS)
def test_the_score_of_a_review_does_not_depend_on_its_padding(cell):
    model = sentiment.build((["a good film", "a bad film, really"], [1, 0]), cell)
    model.get_layer("ngrams").kernel.assign_add(tf.ones_like(model.get_layer("ngrams").kernel))
    assert np.isfinite(model.predict(tf.constant(["", "  "]))["both"]).all()
    short, long = "a good film", " ".join(["a bad film"] * 20)
    together, alone = model.predict(tf.constant([short, long])), model.predict(tf.constant([short]))
    for name in ("network", "ngrams", "both"):
        np.testing.assert_allclose(together[name][0], alone[name][0], atol=1e-6)


def test_split_words():
    sentences = ['I don’t, it\'s (3.5) "ok"...', "", "U.S. saws?!", "I cannot at 3 p.m., ok"]
    words = pos_tagging.split_words(tf.constant(sentences)).to_list()
    assert [[w.decode() for w in row] for row in words] == [
        ["I", "do", "n't", ",", "it", "'s", "(", "3.5", ")", '"', "ok", '"', "..."],
        [],
        ["U.S", ".", "saws", "?!"],
        ["I", "can", "not", "at", "3", "p.m.", ",", "ok"],
    ]


def test_clean_keeps_words_of_any_alphabet():
    cleaned = clean(["Café déjà-vu,<br />isn't it?", "ПЛОХО!"]).numpy()
    assert [text.decode().split() for text in cleaned] == [
        ["café", "déjà", "-", "vu", ",", "is", "n't", "it", "?"],
        ["плохо", "!"],
    ]


def test_clean_takes_tags_and_leaves_what_only_looks_like_one():
    cleaned = clean(["I <3 it. 5 < 7 > 6", "a<BR>b</p><!-- no -->c <a href='x'\n>d"]).numpy()
    assert [text.decode().split() for text in cleaned] == [
        ["i", "<", "3", "it", ".", "5", "<", "7", ">", "6"],
        ["a", "b", "c", "d"],
    ]


@pytest.mark.parametrize("cell", command_line.CELLS)
def test_any_lookback_and_horizon_make_a_forecast(cell):
    mean, std = np.zeros(2, "float32"), np.ones(2, "float32")
    for lookback, horizon in ((24, 1), (50, 30), (96, 97)):
        model = forecasting.build(mean, std, lookback, horizon, cell, units=4)
        assert model(np.zeros((3, lookback, 2))).shape == (3, horizon, 2)


@pytest.mark.parametrize("cell", command_line.CELLS)
def test_a_question_is_one_step_of_keras_s_cell(cell):
    """Which `Questions` makes for all questions at once, with one product for each state."""
    keras.utils.set_random_seed(0)
    batch, channels, ahead, units = 3, 2, 4, 6
    recurrent = CELLS[cell](units, bias_initializer="normal", return_state=True)
    random = np.random.default_rng(0)
    read = random.normal(size=(batch * channels, 5, units)).astype("float32")
    _, *states = recurrent(read)
    layer = forecasting.Questions(recurrent.cell, channels, ahead)
    found = layer(states).numpy()

    theirs = {"simple_rnn": keras.layers.SimpleRNN, "lstm": keras.layers.LSTM}
    theirs = theirs.get(cell, keras.layers.GRU)(units)
    theirs.build((None, 1, units))
    theirs.set_weights(recurrent.get_weights())
    for b, c, k in itertools.product(range(batch), range(channels), range(ahead)):
        question = np.concatenate([layer.places[0, k], layer.which[c, 0]])
        row = [s[b * channels + c : b * channels + c + 1] for s in states]
        row = row if len(row) > 1 else row[0]
        expected = theirs(question[None, None], initial_state=row)
        np.testing.assert_allclose(found[b, c, k], expected[0], atol=1e-6)


def test_every_window_is_counted_and_none_twice():
    values = np.arange(50, dtype="float32")[:, None]
    data = list(forecasting.windows(values, values, forecasting.starts(20, 40, 8, 4), 8, 4))
    assert len(data) == 40 - 20 - 4 + 1
    first, last = data[0], data[-1]
    assert first[0][0, 0] == 12 and first[1][0, 0] == 20  # the window before may be training's
    assert last[1][-1, 0] == 39


def test_without_network_and_data_the_error_says_so(tmp_path):
    script = """
import sys, urllib.request
def no_route(*args, **kwargs): raise OSError("no route to host")
urllib.request.urlopen = no_route
from recipes import forecasting, language_model, pos_tagging, sentiment, word_embeddings
for recipe in (forecasting, language_model, pos_tagging, sentiment, word_embeddings):
    try: recipe.main(recipe.arguments(["--output", sys.argv[1]]))
    except SystemExit as error: print(error)
"""
    environment = {**os.environ, "TFDS_DATA_DIR": str(tmp_path), "KERAS_HOME": str(tmp_path)}
    done = processes.run(["-c", script, tmp_path], cwd=REPOSITORY, env=environment)
    names = ("ETTh1", "tiny_shakespeare", "universal_dependencies", "imdb_reviews", "imdb_reviews")
    for line, name in zip(done.stdout.splitlines()[-5:], names, strict=True):
        assert name in line and "no network" in line and "--dataset sample" in line
