"""Sentiment of a text that arrives in pieces, each of which updates the answer.

What `recipes/sentiment.py --unidirectional` exports.
"""

import functools
from collections.abc import Callable

import keras
import tensorflow as tf
from keras import ops

from layers.exchange import checks
from recipes.common import masked_pooling
from recipes.common.publishing import INITIAL_STATE_INPUTS
from recipes.common.words import split_off_tail


def states(model: keras.Model) -> dict[str, tuple[int, float]]:
    """{a state's name: (its size, its numbers before the first word)}."""
    cell = model.get_layer("read").cell
    found = {f"state_{i}": (size, 0.0) for i, size in enumerate(cell.state_sizes)}
    return {"highest": (cell.units, -1.0), **found}  # -1: of no words


def step(model: keras.Model) -> keras.Model:
    """`model` over some words more: (batch, words) numbers and the states in, each (batch, size);
    the scores of "network" and the new states out. 0 is padding; there must be one word or 0."""
    numbers = keras.Input((None,), dtype="int32", name="numbers")
    before = {name: keras.Input((size,), name=name) for name, (size, _) in states(model).items()}
    highest, *old = before.values()
    mask = numbers != 0
    x = model.get_layer("embedding")(model.get_layer("known")(numbers))
    x, *new = model.get_layer("read")(x, initial_state=old, mask=mask)
    highest = ops.maximum(highest, masked_pooling.highest(x, mask))
    after = dict(zip(before, (highest, *new)))
    network = model.get_layer("classify")(highest)
    return keras.Model({"numbers": numbers, **before}, {"network": network, **after}, name="step")


def signatures(
    model: keras.Model, longest: int, bounded: Callable, answer: Callable, example: list[str]
) -> dict:
    """The states of a stream, by name:

    tail_bytes   string [batch], the end of the text, in which no word is sure yet. (By the
                 end of its name TF Serving's REST API knows that it may be no UTF-8.)
    words_read   int32 [batch], up to `longest`
    highest      float [batch, units], the strongest answer of each unit so far
    state_0, …   float [batch, units], the recurrent states

    Args:
        longest: Words read of a text.
        bounded: Of an input's name and texts, those texts, once it is known that they are not
            too large.
        answer: Makes the outputs of the network's scores.
        example: A text.
    """
    one_step, initial = step(model), states(model)
    sizes = {name: size for name, (size, _) in initial.items()}

    @functools.partial(tf.function, autograph=False)  # traced once for both calls
    def go_on(text, words_read, *numbers):
        """(words read, the network's scores, the states) after the words of `text`, as far as
        they are among the first longest."""
        words = model.get_layer("vocabulary")(text)[:, :longest]
        words = tf.pad(words, [[0, 0], [0, 1]])  # as in `build`
        place = words_read[:, None] + tf.range(tf.shape(words)[1])
        words = tf.where(place < longest, tf.cast(words, tf.int32), 0)
        words_read += tf.math.count_nonzero(words, axis=1, dtype=tf.int32)
        found = one_step({"numbers": words, **dict(zip(sizes, numbers))})
        return words_read, found["network"], *(found[name] for name in sizes)

    inputs = {"chunk": tf.string, "tail_bytes": tf.string, "words_read": tf.int32}
    inputs = {name: tf.TensorSpec([None], kind) for name, kind in inputs.items()}
    inputs |= {name: tf.TensorSpec([None, size]) for name, size in sizes.items()}

    def stream(*given):
        given = checks.inputs(inputs, given)
        words_read = checks.between("words_read", given["words_read"], 0, longest)
        numbers = [given[name] for name in sizes]
        text = tf.strings.join([given["tail_bytes"], given["chunk"]])
        text = bounded("chunk", text)
        whole_words, tail = split_off_tail(text)
        words_read, _, *numbers = go_on(whole_words, words_read, *numbers)
        _, scores, *_ = go_on(tail, words_read, *numbers)  # as if nothing followed
        tail = tf.where(words_read < longest, tail, "")
        states = {"tail_bytes": tail, "words_read": words_read, **dict(zip(sizes, numbers))}
        return {**answer(scores), **states}

    def initial_state(batch_size):
        batch_size = checks.batch_size(batch_size)
        numbers = {n: tf.fill([batch_size, size], x) for n, (size, x) in initial.items()}
        return {
            "tail_bytes": tf.fill([batch_size], ""),
            "words_read": tf.fill([batch_size], 0),
            **numbers,
        }

    example = {"chunk": example, **initial_state(tf.constant(1))}
    return {
        "stream": (stream, inputs, example),
        "initial_state": (initial_state, *INITIAL_STATE_INPUTS),
    }
