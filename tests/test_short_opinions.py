"""Texts made up by rules: what they may and may not have in common with those that test them."""

import random
import re

import numpy as np
import pytest
import tensorflow as tf

from recipes.common import ngrams
from recipes.common.samples import short_opinions, word_order

ALL = [template for kind in short_opinions.TEMPLATES.values() for template in kind]


def test_pairs_differ_only_in_what_is_good_and_what_is_bad():
    sense = {*short_opinions.GOOD.split(), *short_opinions.BAD.split()}
    sense |= {*short_opinions.NEGATIVE.values(), *short_opinions.POSITIVE.values()}
    for template in ALL:
        both = short_opinions.pair(template, random.Random(template))
        negative, positive = (re.findall(r"[\w']+|[.,;:?!]", text.lower()) for text in both)
        apart = [pair for pair in zip(negative, positive) if pair[0] != pair[1]]
        assert len(negative) == len(positive) and apart
        assert all({*pair} <= sense for pair in apart), both


def test_the_texts_of_the_test_are_not_among_them():
    tested = [template for kind in word_order.TEMPLATES.values() for template in kind]
    assert not {*ALL} & {*tested}
    tested = {text for texts, _ in word_order.parts().values() for text in texts}
    assert len(tested) == 360 and not tested & {*short_opinions.opinions(40_000, 0)[0]}


def test_labels_are_even_and_a_seed_repeats_them():
    texts, labels = short_opinions.opinions(1000, 0)
    assert labels == [0, 1] * 500 and len({*texts}) > 900
    assert texts == short_opinions.opinions(1000, 0)[0] != short_opinions.opinions(1000, 1)[0]
    good, bad = short_opinions.GOOD.split(), short_opinions.BAD.split()
    # Where opposites meet, the words say nothing.
    both = [(t, y) for t, y in zip(texts, labels) if has(t, good) and has(t, bad)]
    assert len(both) > 200 and np.mean([y for _, y in both]) == pytest.approx(0.5, abs=0.01)


def has(text, words):
    return any(word in text.lower() for word in words)


def test_short_texts_are_the_first_score_s_alone():
    scores = [tf.constant([[1.0], [2.0], [3.0]]), tf.constant([[10.0], [20.0], [30.0]])]
    numbers = np.array([[4, 1, 0, 0], [4, 1, 5, 0], [0, 0, 0, 0]])  # 1 is an unknown word
    assert ngrams.Mix(2)(scores, numbers)[:, 0].numpy().tolist() == [1, 11, 3]
    assert ngrams.Mix()(scores, numbers)[:, 0].numpy().tolist() == [5.5, 11, 3]
