"""The scores of a tagger, counted by hand."""

import pytest

from recipes.common import tagging

TRAIN = [
    (["I", "saw", "a", "saw"], ["PRON", "VERB", "DET", "NOUN"]),
    (["I", "saw", "him"], ["PRON", "VERB", "PRON"]),
]
TRUE = [
    (["I", "saw", "a", "bird"], ["PRON", "VERB", "DET", "NOUN"]),
    (["a", "saw"], ["DET", "NOUN"]),
    (["birds"], ["NOUN"]),
]
PREDICTED = [["PRON", "VERB", "DET", "VERB"], ["DET", "NOUN"], ["NOUN"]]


def test_scores_are_those_counted_by_hand():
    scores = tagging.score(TRUE, PREDICTED, TRAIN)
    f1 = scores.pop("f1")
    assert scores == {
        "words": 7,
        "accuracy": pytest.approx(6 / 7),
        "accuracy_on_unseen_words": 1 / 2,  # bird, birds
        "accuracy_on_ambiguous_words": 1,  # saw, twice
        # The rarest words, "a" and "him", are DET and PRON: the first of them, for bird and birds.
        "accuracy_of_most_frequent_tag": pytest.approx(4 / 7),
        "sentences": 3,
        "sentences_all_right": pytest.approx(2 / 3),
    }
    assert f1 == pytest.approx({"PRON": 1, "VERB": 2 / 3, "DET": 1, "NOUN": 4 / 5})


def test_what_no_word_can_tell_is_none():
    scores = tagging.score(TRAIN[1:], [["PRON"] * 3], TRAIN[1:])
    assert scores["accuracy_on_unseen_words"] is scores["accuracy_on_ambiguous_words"] is None


def test_the_hardest_tags_are_shown(capsys):
    tagging.show(tagging.score(TRUE, PREDICTED, TRAIN))
    said = capsys.readouterr().out
    assert "85.71% of 7 words" in said and "lowest F1: VERB 0.667, NOUN 0.800" in said
