"""Texts in classes: how probable each is, and how well a network and what needs none find it."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from keras import ops
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import accuracy_score, f1_score
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from recipes.parts.sentiment.labelled_texts import Part

MOST = 100_000  # texts that simpler models learn from, so that memory is bounded


def to_probabilities(scores: tf.Tensor) -> tf.Tensor:
    return ops.sigmoid(scores) if scores.shape[-1] == 1 else ops.softmax(scores)


def of_each_class(found: tf.Tensor) -> tf.Tensor:
    """(batch, classes) probabilities, from those that the model puts out."""
    return tf.concat([1 - found, found], axis=-1) if found.shape[-1] == 1 else found


def score(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Macro-F1 is the mean of the classes' F1: a rare class counts as much as any other."""
    f1 = f1_score(truth, predicted, average="macro", zero_division=0)
    return {"accuracy": float(accuracy_score(truth, predicted)), "macro_f1": float(f1)}


def baselines(
    train: Part, tests: dict[str, Part], standardize: Callable
) -> dict[str, dict[str, dict[str, float]]]:
    """{test: {model: scores}}, of simpler models, trained and tested on (texts, labels).

    Args:
        standardize: What makes of texts those whose words are separated by spaces.
    """
    words = TfidfVectorizer(
        lowercase=False,
        token_pattern=r"\S+",
        ngram_range=(1, 2),
        max_features=300_000,
        sublinear_tf=True,
    )
    models = {
        "most frequent class": DummyClassifier(),
        "linear model, words and pairs": make_pipeline(words, LinearSVC(random_state=0)),
    }
    print("Fitting simpler models to compare with; up to two minutes.", flush=True)

    def words_of(texts):
        return [text.decode() for text in standardize(texts).numpy()]

    chosen = stratified_sample(train[1])
    known, labels = words_of([train[0][i] for i in chosen]), [train[1][i] for i in chosen]
    if len(chosen) < len(train[0]):
        print(f"They learn from {len(chosen):,} of the {len(train[0]):,} texts.")
    for model in models.values():
        model.fit(known, labels)
    found = {}
    for test, (texts, labels) in tests.items():
        asked = words_of(texts)
        found[test] = {n: score(labels, model.predict(asked)) for n, model in models.items()}
    return found


def stratified_sample(labels: list[int]) -> np.ndarray:
    """The places of at most `MOST`, of each class as large a part, in their order."""
    by_class = np.argsort(labels, kind="stable")
    return np.sort(by_class[np.linspace(0, len(labels) - 1, min(MOST, len(labels))).astype(int)])


def show(title: str, scores: dict[str, dict[str, float]]) -> None:
    """Prints the scores of each model."""
    print(f"{title}:")
    for name, found in scores.items():
        print(f"  {name:40} accuracy {found['accuracy']:.2%}  macro-F1 {found['macro_f1']:.4f}")
