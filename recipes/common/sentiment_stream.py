"""Sentiment of a text that arrives in pieces, each of which updates the answer.

What `recipes/sentiment.py --unidirectional` exports.
"""

import functools
from collections.abc import Callable

import keras
import tensorflow as tf

from layers.exchange import checks


def split_off_tail(texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """(what is read alike whatever follows, the rest), wherever a text was cut.

    The rest starts at a tag not closed yet, or else behind the last space or tag: inside
    a word nothing is decided. `\\C` is any byte, also of half a character.
    """
    after_tags = tf.strings.regex_replace(texts, r"^\C*>", "")
    before_open = tf.strings.regex_replace(after_tags, r"<\C*$", "")
    whole_words = tf.strings.regex_replace(before_open, r"^(\C*\s)?\C*$", r"\1")
    length = tf.strings.length(texts)
    cut = length - tf.strings.length(after_tags) + tf.strings.length(whole_words)
    read = tf.strings.substr(texts, tf.zeros_like(cut), cut)
    return read, tf.strings.substr(texts, cut, length - cut)


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
        answer: Makes the outputs of what the model's layer "classify" puts out.
        example: A text.
    """
    read = model.get_layer("read")
    sizes = {"highest": read.cell.units}
    sizes |= {f"state_{i}": size for i, size in enumerate(read.cell.state_sizes)}

    @functools.partial(tf.function, autograph=False)  # traced once for both calls
    def go_on(text, words_read, highest, *states):
        """The states after the words of `text`, as far as they are among the first longest."""
        numbers = model.get_layer("vocabulary")(text)[:, :longest]
        numbers = tf.pad(numbers, [[0, 0], [0, 1]])  # as in `build`
        place = words_read[:, None] + tf.range(tf.shape(numbers)[1])
        mask = (numbers != 0) & (place < longest)
        x = model.get_layer("embedding")(numbers)
        x, *states = read(x, initial_state=list(states), mask=mask)
        x = tf.where(mask[..., None], x, -1.0)
        words_read += tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)
        return words_read, tf.maximum(highest, tf.reduce_max(x, axis=1)), *states

    inputs = {"chunk": tf.string, "tail_bytes": tf.string, "words_read": tf.int32}
    inputs = {name: tf.TensorSpec([None], kind) for name, kind in inputs.items()}
    inputs |= {name: tf.TensorSpec([None, size]) for name, size in sizes.items()}

    def stream(*given):
        given = {n: checks.shaped(x, list(inputs[n].shape)) for n, x in zip(inputs, given)}
        given = checks.same_batch(given)
        words_read = checks.between("words_read", given["words_read"], 0, longest)
        numbers = [checks.finite(name, given[name]) for name in sizes]
        text = tf.strings.join([given["tail_bytes"], given["chunk"]])
        text = bounded("chunk", text)
        whole_words, tail = split_off_tail(text)
        words_read, *numbers = go_on(whole_words, words_read, *numbers)
        _, highest, *_ = go_on(tail, words_read, *numbers)  # as if nothing followed
        tail = tf.where(words_read < longest, tail, "")
        states = {"tail_bytes": tail, "words_read": words_read, **dict(zip(sizes, numbers))}
        return {**answer(model.get_layer("classify")(highest)), **states}

    def initial_state(batch_size):
        batch_size = checks.batch_size(batch_size)
        numbers = {name: tf.zeros([batch_size, size]) for name, size in sizes.items()}
        return {
            "tail_bytes": tf.fill([batch_size], ""),
            "words_read": tf.fill([batch_size], 0),
            **numbers,
            "highest": numbers["highest"] - 1.0,  # what padding has in `build`
        }

    example = {"chunk": example, **initial_state(tf.constant(1))}
    return {
        "stream": (stream, inputs, example),
        "initial_state": (
            initial_state,
            {"batch_size": tf.TensorSpec([], tf.int32)},
            {"batch_size": 1},
        ),
    }
