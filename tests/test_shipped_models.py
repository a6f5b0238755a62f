"""The models in saved_models: without our code, on a part of the real test data, their scores."""

import json

import numpy as np
import pandas as pd
import pytest
import tensorflow_datasets as tfds
from conftest import REPOSITORY, ask, portable_ops

from recipes.common.samples import word_order

SAVED = REPOSITORY / "saved_models"
SHIPPED = ["forecasting", "pos_tagging", "sentiment"]
MOST_BYTES = 25e6


def version(recipe):
    return SAVED / recipe / "1"


def stated(recipe):
    return json.loads((version(recipe) / "metrics.json").read_text())["test"]


def assert_as_stated(right, accuracy):
    """Within four standard deviations of what a sample of this size has."""
    allowed = 4 * np.sqrt(accuracy * (1 - accuracy) / len(right))
    assert np.mean(right) == pytest.approx(accuracy, abs=allowed)


def test_they_are_small_and_portable():
    files = [p for recipe in SHIPPED for p in version(recipe).rglob("*") if p.is_file()]
    assert sum(path.stat().st_size for path in files) < MOST_BYTES
    for recipe in SHIPPED:
        portable_ops(version(recipe))


def test_their_page_has_their_scores():
    page = " ".join((SAVED / "README.md").read_text("utf-8").split())
    for recipe in ("pos_tagging", "sentiment"):
        assert f"{stated(recipe)['accuracy']:.2%} accuracy" in page
    model = stated("forecasting")["model"]
    assert f"MSE {model['mse']:.3f}, MAE {model['mae']:.3f}" in page


def test_the_tagger(tfds_data, tmp_path):
    data = tfds.load("universal_dependencies/en_ewt", split="test", data_dir=tfds_data)
    rows = list(data.take(270).as_numpy_iterator())  # as many as one request may have
    names = tfds.builder("universal_dependencies/en_ewt", data_dir=tfds_data).info.features["upos"]
    longest = max(len(row["tokens"]) for row in rows)
    words = [[w.decode() for w in r["tokens"]] + [""] * (longest - len(r["tokens"])) for r in rows]
    found = ask(version("pos_tagging"), "words", {"words": words}, tmp_path)["tags"]
    right = []
    for row, tags in zip(rows, found):
        for number, tag in zip(row["upos"], tags):
            name = names.feature.int2str(number)
            right += [name == tag] if name != "_" else []
    assert_as_stated(right, stated("pos_tagging")["accuracy"])


def test_the_sentiment_model(tfds_data, tmp_path):
    data = tfds.load("imdb_reviews", split="test[:1%]", data_dir=tfds_data, as_supervised=True)
    texts, labels = zip(*data.as_numpy_iterator())
    sentences = [text.decode() for text in texts]
    found = ask(version("sentiment"), "serving_default", {"sentences": sentences}, tmp_path)
    right = found["label"] == np.take(["negative", "positive"], labels)
    assert_as_stated(right, stated("sentiment")["accuracy"])


def test_the_sentiment_model_answers_short_texts_as_stated(tmp_path):
    metrics = json.loads((version("sentiment") / "metrics.json").read_text())
    for kind, (texts, labels) in word_order.parts().items():
        found = ask(version("sentiment"), "serving_default", {"sentences": texts}, tmp_path)
        right = found["label"] == np.take(["negative", "positive"], labels)
        assert np.mean(right) == pytest.approx(metrics[kind]["accuracy"])


def test_the_forecaster(etth1_csv, tmp_path):
    """On every 16th of all windows of the last four months, which are 30 days each."""
    series = pd.read_csv(etth1_csv).drop(columns="date").to_numpy("float32")
    month, size = 30 * 24, 96
    std = series[: 12 * month].std(axis=0)
    starts = range(16 * month - size, 20 * month - 2 * size, 16)
    window = np.stack([series[k : k + size] for k in starts])
    truth = np.stack([series[k + size : k + 2 * size] for k in starts])
    found = ask(version("forecasting"), "serving_default", {"window": window}, tmp_path)
    error = (found["forecast"] - truth) / std
    expected = stated("forecasting")["model"]
    assert np.mean(error**2) == pytest.approx(expected["mse"], rel=0.03)
    assert np.mean(np.abs(error)) == pytest.approx(expected["mae"], rel=0.03)
