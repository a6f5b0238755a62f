"""The linear model on n-grams, held against scikit-learn's counts and naive Bayes's formula."""

import argparse

import numpy as np
import pytest
import tensorflow as tf
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from recipes import sentiment
from recipes.parts.sentiment import classification, ngrams


@pytest.mark.parametrize("classes", [2, 3])
def test_scores_are_the_ratios_of_the_different_ngrams(classes, monkeypatch):
    monkeypatch.setattr(ngrams, "COUNTED", 25)  # of 60
    rng = np.random.default_rng(0)
    rows = [rng.integers(1, 9, rng.integers(1, 12)) for _ in range(60)]
    labels = rng.integers(0, classes, 60)
    numbers = np.stack([np.pad(row, (0, 12 - len(row))) for row in rows])
    texts = tf.data.Dataset.from_tensor_slices(numbers).batch(7)
    layer = ngrams.most_frequent(texts, classes)
    layer.count(ngrams.of_each(texts), labels)
    layer.kernel.assign(tf.ones_like(layer.kernel) / ngrams.STEP)

    vectorizer = CountVectorizer(ngram_range=(1, ngrams.LONGEST), binary=True, token_pattern=r"\S+")
    present = vectorizer.fit_transform([" ".join(f"w{word}" for word in row) for row in rows])
    known = ["w1" not in gram.split() for gram in vectorizer.get_feature_names_out()]
    present = present.toarray()[:, known]
    ratios = []
    for one in [1] if classes == 2 else range(3):
        p, q = (1 + present[labels == one].sum(0), 1 + present[labels != one].sum(0))
        ratios.append(np.log(p / p.sum() / (q / q.sum())))
    expected = present @ np.stack(ratios, -1)  # the layer's ratios are of half precision
    np.testing.assert_allclose(layer(numbers), expected, rtol=1e-3, atol=2e-3)

    fewer = ngrams.most_frequent(texts.take(3), classes)
    fewer.kernel.assign(tf.ones_like(fewer.kernel) / ngrams.STEP)
    fewer.count(ngrams.of_each(texts), labels)  # of the same n-grams, in all texts
    assert not np.any(fewer.kernel)
    all_of_them = layer.ratios.numpy()[np.searchsorted(layer.keys, fewer.keys)]
    assert 10 < len(all_of_them) < layer.keys.shape[0]
    # P is a share of those that are counted, so all ratios differ by the same.
    np.testing.assert_allclose(np.ptp(fewer.ratios - all_of_them, axis=0), 0, atol=2e-3)


def test_only_the_most_frequent_are_kept(monkeypatch):
    monkeypatch.setattr(ngrams, "MOST", 2)
    texts = tf.data.Dataset.from_tensors(np.array([[2, 3, 4], [2, 3, 5], [3, 3, 0]]))
    layer = ngrams.most_frequent(texts, 2)
    assert layer.keys.numpy().tolist() == [2, 3]


def test_two_scores_are_mixed_as_a_logistic_regression_says(monkeypatch):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 500)
    sure, unsure = (2 * truth[:, None] - 1 + rng.normal(size=(500, 1)) * x for x in (1.2, 3))
    expected = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-8)
    expected.fit(np.hstack([sure, unsure]), truth)
    mix = ngrams.Mix(name="mix")
    mix([sure, unsure], np.ones((500, 1)))
    model = argparse.Namespace(get_layer=lambda name: mix)
    found = {"network": sure, "ngrams": unsure}
    monkeypatch.setattr(sentiment, "answers", lambda *_: (truth, found))
    told = sentiment.choose_factors(model, None)
    np.testing.assert_allclose(mix.factors, expected.coef_[0], atol=1e-3)
    assert list(told) == ["network", "ngrams"] and 0.1 < told["ngrams"] < told["network"] < 1.9
    # Where both are worse than nothing, they are not left out.
    monkeypatch.setattr(sentiment, "answers", lambda *_: (1 - truth, found))
    assert min(sentiment.choose_factors(model, None).values()) == pytest.approx(0.05)


def test_an_ngram_that_was_not_kept_seldom_counts_as_one_that_was():
    """By exact codes and by these."""
    rng = np.random.default_rng(0)
    words = np.minimum(rng.zipf(1.3, (2000, 100)), 29_999) + 1
    exact = words.astype("uint64")
    for n in range(1, ngrams.LONGEST):
        exact = exact[:, :-1] * 30_011 + words[:, n:].astype("uint64")  # below 2 ** 64
    different = len(np.unique(exact))
    found = ngrams.codes(words).numpy().reshape(2000, ngrams.LONGEST, 100)[:, -1, : exact.shape[1]]
    shared = different - len(np.unique(found))
    assert different > 100_000 and shared < 3 * different**2 / 2 / ngrams.PRIME + 10


def test_simpler_models_learn_from_some_texts_of_every_class(monkeypatch):
    monkeypatch.setattr(classification, "MOST", 10)
    labels = [0, 1] * 50 + [2]
    chosen = classification.stratified_sample(labels)
    assert len(chosen) == 10 and list(chosen) == sorted({*chosen})
    assert {labels[i] for i in chosen} == {0, 1, 2}
    assert classification.stratified_sample(labels[:7]).tolist() == list(range(7))
