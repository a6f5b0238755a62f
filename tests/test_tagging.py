"""The scores of a tagger, counted by hand; and a tagger that ends in a CRF."""

import numpy as np
import pytest
import tensorflow as tf

import layers
from recipes import pos_tagging
from recipes.parts.pos_tagging import tag_paths, tagging

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


def test_with_a_crf_the_answer_is_the_best_path():
    data, tags = pos_tagging.load("sample", 0)
    model = pos_tagging.build(data["train"][:200], tags, "simple_rnn", crf=True)
    model.set_weights([w + 0.1 for w in model.get_weights()])
    read = tf.function(model, [pos_tagging.WORDS])
    words = ["I saw a saw .", "You can can a can .", ""]
    words = np.array([(sentence.split() + [""] * 8)[:8] for sentence in words])
    answer = pos_tagging.signatures(read, tags)["words"][0](tf.constant(words.tolist()))
    path, _ = layers.crf_decode(read(tf.constant(words.tolist())))
    found = np.vectorize(bytes.decode, otypes=[str])(answer["tags"])
    np.testing.assert_array_equal(found, np.where(words == "", "", np.take(tags, path)))
    assert answer["lengths"].numpy().tolist() == [5, 6, 0]

    # Padding counts in neither the loss nor the metric.
    (words, numbers, weights), *_ = pos_tagging.batches(data["test"][:30], tags, shuffle=False)
    found = []
    for n in (0, 7):
        padded = (tf.pad(x, [[0, 0], [0, n]]) for x in (words, numbers, weights))
        of, truth, *_ = tag_paths.whole_sentences(*padded)
        outputs = read(of)
        found.append([*layers.crf_loss(truth, outputs), tag_paths.WordAccuracy()(truth, outputs)])
    np.testing.assert_allclose(*found, rtol=1e-5)
    right = (tag_paths.best_tags(read(words)) == numbers).numpy()[weights.numpy() > 0]
    assert float(found[0][-1]) == pytest.approx(right.mean())


def test_a_crf_of_very_many_tags_is_refused_and_bounded():
    """For each pair of them there is a number, at each word."""
    tags, train = [f"tag {i}" for i in range(1000)], {"train": [(["a"] * 30, [])]}
    pos_tagging.refuse_many_tags(tags[:50], train, 32)
    with pytest.raises(
        SystemExit, match=r"pair of 1000 tags.*3.6 GB, several times.*smaller --batch"
    ):
        pos_tagging.refuse_many_tags(tags, train, 32)

    def model(words):
        return tf.zeros([*words.shape, 1000, 1000])

    served = pos_tagging.signatures(model, tags, crf=True)["words"][0]
    with pytest.raises(tf.errors.InvalidArgumentError, match="67 words, padded"):
        served(tf.constant([["a"] * 68]))
