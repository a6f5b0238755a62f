"""Texts made up by rules: that they say what their labels say, and who alone answers such."""

import random
import re
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

from recipes.common.samples import short_opinions, word_order
from recipes.parts.sentiment import ngrams

ALL = [template for kind in short_opinions.TEMPLATES.values() for template in kind]
GOOD, BAD = ({*words.split()} for words in (short_opinions.GOOD, short_opinions.BAD))
POSITIVE, NEGATIVE = GOOD | {"love", "loved", "better"}, BAD | {"hate", "hated", "worse"}
POSITIVE |= {"like", "liked", "enjoy", "enjoyed", "hoped"}
NEGATIVE |= {"dislike", "disliked", "feared"}


def words(text):
    return re.findall(r"[\w']+|[.,;:?!]", text.lower())


@pytest.mark.parametrize("template", ALL)
def test_a_pair_differs_in_what_is_good_and_what_is_bad(template):
    negative, positive = map(words, short_opinions.pair(template, random.Random(template)))
    assert len(negative) == len(positive)
    apart = [{*both} for both in zip(negative, positive) if both[0] != both[1]]
    apart = [both for both in apart if both != {"a", "an"}]
    assert apart and all(both & POSITIVE and both & NEGATIVE for both in apart)


@pytest.mark.parametrize(
    "template, negative, positive",
    [
        ("{it} {is} {y}.", BAD, GOOD),
        ("I {loved} {it}.", {"hated", "disliked"}, {"loved", "liked", "enjoyed"}),
        ("I {dont} {hate} {it}.", {"love", "like", "enjoy"}, {"hate", "dislike"}),
        ("{it} {isnt} {very}{x}.", GOOD, BAD),
        ("The {other} {is} {x}, {but} it {is} {y}.", BAD, GOOD),  # by the last of its words
        ("{it} {is} {much}{better} {than}.", {"worse"}, {"better"}),
        ("Too {x} for what I {feared}.", {"hoped"}, {"feared"}),
    ],
)
def test_which_is_which(template, negative, positive):
    for k in range(20):
        both = map(words, short_opinions.pair(template, random.Random(k)))
        for text, expected in zip(both, (negative, positive)):
            known = [w for w in text if w in POSITIVE | NEGATIVE]
            assert known and known[-1] in expected, text


def test_no_word_alone_tells_the_answer():
    texts, labels = short_opinions.opinions(40_000, 0)
    times, positive = Counter(), Counter()
    for text, label in zip(texts, labels):
        for word in {*words(text)}:
            times[word] += 1
            positive[word] += label
    shares = {word: positive[word] / n for word, n in times.items() if n > 100}
    assert len(shares) > 200 and all(0.15 < share < 0.85 for share in shares.values())
    assert all(0.35 < shares[w] < 0.65 for w in ("good", "bad", "love", "hate", "not", "but"))


def test_labels_are_even_and_a_seed_repeats_them():
    texts, labels = short_opinions.opinions(1000, 0)
    assert np.mean(labels) == 0.5 and len({*texts}) > 900
    assert texts == short_opinions.opinions(1000, 0)[0] != short_opinions.opinions(1000, 1)[0]


def test_the_texts_of_the_test_are_not_among_them():
    tested = {text for texts, _ in word_order.parts().values() for text in texts}
    assert len(tested) == 360 and not tested & {*short_opinions.opinions(40_000, 0)[0]}


def test_short_texts_are_the_first_score_s_alone():
    scores = [tf.constant([[1.0], [2.0], [3.0]]), tf.constant([[10.0], [20.0], [30.0]])]
    numbers = np.array([[4, 1, 0, 0], [4, 1, 5, 0], [0, 0, 0, 0]])  # 1 is an unknown word
    assert ngrams.Mix(3)(scores, numbers)[:, 0].numpy().tolist() == [1, 11, 3]
    assert ngrams.Mix()(scores, numbers)[:, 0].numpy().tolist() == [5.5, 11, 16.5]
