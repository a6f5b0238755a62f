"""The real datasets, read as their published results read them."""

import numpy as np
import tensorflow_datasets as tfds

from recipes import forecasting, language_model, pos_tagging, sentiment, word_embeddings
from recipes.parts.word_embeddings import analogy_questions


def test_ud_english_ewt_has_the_words_that_are_scored(tfds_data):
    data, tags = pos_tagging.load("ud_english_ewt", 0)
    # Sentences, and words that have a head: no "don't" beside "do" and "n't", no empty nodes.
    counts = {split: (len(s), sum(len(words) for words, _ in s)) for split, s in data.items()}
    assert counts == {
        "train": (12543, 204578),
        "validation": (2001, 25149),
        "test": (2077, 25094),
    }
    assert len(tags) == 17 and "_" not in tags


def test_imdb_is_split_without_touching_its_test_part(tfds_data):
    data, _ = sentiment.load("imdb", 0)
    assert {split: len(texts) for split, (texts, _) in data.items()} == {
        "train": 22500, "validation": 2500, "test": 25000,
    }  # fmt: skip
    assert np.mean(data["test"][1]) == 0.5


def test_etth1_repeating_the_last_value_scores_as_published(etth1_csv):
    """Zeng et al. 2023, Table 2, "Repeat", horizon 96: MSE 1.295, MAE 0.713."""
    data, (train_end, validation_end, end) = forecasting.load("etth1", etth1_csv, 0)
    values = data.values
    assert data.step == "h"
    assert data.channels == [
        "HUFL",
        "HULL",
        "MUFL",
        "MULL",
        "LUFL",
        "LULL",
        "OT",
    ]
    mean, std = values[:train_end].mean(axis=0), values[:train_end].std(axis=0)
    standardized = (values - mean) / std
    begin = forecasting.starts(validation_end, end, 96, 96)
    test = forecasting.windows(values, standardized, begin, 96, 96).batch(256)

    class LastValue:
        def predict_on_batch(self, window):
            return np.repeat((window[:, -1:] - mean) / std, 96, axis=1)

    scores = forecasting.evaluate(LastValue(), test, mean, std)
    assert scores["windows"] == 2785
    for name in ("model", "repeat the last value"):
        np.testing.assert_allclose(scores[name]["mse"], 1.295, atol=1e-3)
        np.testing.assert_allclose(scores[name]["mae"], 0.713, atol=1e-3)


def test_shakespeare_is_split_as_nanogpt_splits_it(tfds_data):
    """Its prepare.py says 1,003,854 and 111,540 tokens; TFDS has the latter in two halves."""
    text = language_model.load(language_model.arguments([]))
    train, validation = language_model.split(text)
    assert (len(train), len(validation)) == (1_003_854, 111_540)
    parts = tfds.load("tiny_shakespeare")
    (in_tfds,), halves = (
        [example["text"].numpy().decode() for name in names for example in parts[name]]
        for names in (["train"], ["validation", "test"])
    )
    assert train == in_tfds and validation == "".join(halves)
    assert len(set(text)) == 65 and set(validation) <= set(train)


def test_word_embeddings_read_all_of_imdb_but_its_test_part(tfds_data):
    assert len(word_embeddings.read("imdb", 0)) == 75_000


def test_the_analogy_questions_are_those_of_mikolov_et_al(questions_words):
    """Mikolov et al. 2013 (arXiv 1301.3781), 4.1: 8,869 semantic and 10,675 syntactic questions."""
    questions = analogy_questions.read(questions_words)
    syntactic = sum(len(asked) for name, asked in questions.items() if name.startswith("gram"))
    assert len(questions) == 14 and syntactic == 10_675
    assert sum(map(len, questions.values())) - syntactic == 8_869
