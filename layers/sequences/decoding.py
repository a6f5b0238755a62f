"""Sequences that are written token by token: greedily, drawn, or by beam search, in the graph.

Whatever steps can write: `step(tokens, states)` reads one token a row and says, in logits, which
is likely to come next:

    logits, states = step(start, states)
    found = layers.beam_search(step, logits, states, length=50, end=END)

    log P(y) = Σ_t log p(y_t | y_1 … y_{t-1})
    lp(n)    = ((5 + n) / 6)^α                 n tokens, the end among them (Wu et al. 2016)
    score    = log P(y) / lp(n)

A beam search keeps the `width` best beginnings. Each goes on with every token; those that end are
hypotheses, and of the others the best are the beginnings of the next step. It is over once no
beginning can come to a better score than the hypotheses at hand: log P only falls, and
log P / lp(n) rises at most to log P / lp(length).
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from layers.sequences import sampling


class Written(NamedTuple):
    """What was written. `beam_search` has an axis more, the hypotheses, behind the batch.

    Attributes:
        tokens: (batch, length) int32, filled with `end` after the end.
        lengths: (batch,) int32, how many tokens there are, the end not among them. What has not
            ended has `length`.
        log_probabilities: (batch,), log P of each, its end included.
        scores: (batch,), these divided by the length penalty; only a beam search has one.
    """

    tokens: tf.Tensor
    lengths: tf.Tensor
    log_probabilities: tf.Tensor
    scores: tf.Tensor


def greedy_search(
    step: Callable, logits: tf.Tensor, states, *, length: int | tf.Tensor, end: int | None = None
) -> Written:
    """The most probable token, again and again.

    Args:
        step: A function of tokens, (batch,) int32, and states, that returns logits,
            (batch, tokens), and the new states.
        logits: (batch, tokens), of the first token.
        states: What `step` starts from: tensors, (batch, …), in any nest.
        length: The most tokens to write, the end among them.
        end: The token that ends a sequence; None: all are of `length`.

    Returns:
        `Written`, of which the scores are the log-probabilities.

    Raises:
        ValueError: If `logits` is not (batch, tokens), `end` is not one of the tokens, or `step`
            returns logits of another shape.
    """

    def most_probable(logits, t):
        return tf.argmax(logits, -1)

    return _written("greedy_search", step, logits, states, length, end, most_probable)


def sample(
    step: Callable,
    logits: tf.Tensor,
    states,
    *,
    length: int | tf.Tensor,
    end: int | None = None,
    temperature: float | tf.Tensor = 1.0,
    top_k: int | tf.Tensor = 0,
    top_p: float | tf.Tensor = 1.0,
    seed: int | tf.Tensor = 0,
) -> Written:
    """Tokens drawn by their probability; each row draws for itself.

    Args:
        step, logits, states, length, end: As in `greedy_search`.
        temperature: Below 1 the probable becomes more so; 0 leaves the most probable alone.
        top_k: How many of the most probable are drawn from; 0: all.
        top_p: Of these, the most probable that have this probability together (Holtzman et al.
            2020); 1: all.
        seed: The same draws the same.

    Returns:
        `Written`. Its log-probabilities are those of the model, whatever was left to draw from.

    Raises:
        ValueError: As in `greedy_search`, or if `temperature`, `top_k` or `top_p` is out of range.
    """
    for name, value, most in (
        ("temperature", temperature, math.inf),
        ("top_k", top_k, math.inf),
        ("top_p", top_p, 1),
    ):
        if isinstance(value, (int, float)) and not 0 <= value <= most:
            raise ValueError(f"`sample` got `{name}` {value}, expected a number from 0 to {most}.")

    def draw(logits, t):
        how = tf.cast(temperature, logits.dtype), top_k, tf.cast(top_p, logits.dtype)
        return sampling.draw(sampling.narrowed(logits, *how), seed, t)

    return _written("sample", step, logits, states, length, end, draw)


def beam_search(
    step: Callable,
    logits: tf.Tensor,
    states,
    constants: Sequence[tf.Tensor] = (),
    *,
    length: int | tf.Tensor,
    end: int | None = None,
    width: int = 5,
    best: int = 1,
    length_penalty: float | tf.Tensor = 0.0,
) -> Written:
    """The best of the hypotheses that a beam search finds.

    Args:
        step: As in `greedy_search`, but for `width` times as many rows, and with `constants`
            behind the states.
        logits, states, end: As in `greedy_search`.
        length: As there; or (batch,), of each row its own.
        constants: What `step` reads besides, such as an encoder's outputs: (batch, …), in a list.
            They are repeated once, where states are put in order after each step.
        width: How many beginnings are kept; 1 is greedy.
        best: How many hypotheses are wanted, at most `width`.
        length_penalty: α, 0 or above; with 0 the short have it easy.

    Returns:
        `Written`, (batch, best, …), the best score first. What has not ended by `length` stands
        behind all that has. Where there are not so many hypotheses, the score is −∞.

    Raises:
        ValueError: As in `greedy_search`; or unless 1 ≤ `best` ≤ `width`; or if `length_penalty`
            is negative, or `length` neither a number nor (batch,).
    """
    logits = _checked_logits("beam_search", logits, end)
    if not 1 <= best <= width:
        raise ValueError(
            f"`beam_search` got `width` {width} and `best` {best}, expected 1 ≤ `best` ≤ `width`."
        )
    if isinstance(length_penalty, (int, float)) and not length_penalty >= 0:
        raise ValueError(
            f"`beam_search` got `length_penalty` {length_penalty}, expected a number, 0 or above."
        )
    choices, dtype = logits.shape[-1], logits.dtype
    batch, length = tf.shape(logits)[0], tf.convert_to_tensor(length, "int32")
    if not (length.shape.rank == 0 or length.shape.is_compatible_with(logits.shape[:1])):
        raise ValueError(
            f"`beam_search` got `length` of shape {length.shape}, expected a number, or one for "
            f"each of {logits.shape[0]} rows."
        )
    lengths = tf.broadcast_to(length, [batch])
    length = tf.reduce_max(tf.concat([[0], tf.reshape(length, [-1])], 0))
    none = tf.constant(float("-inf"), dtype)
    constants = [tf.repeat(c, width, axis=0) for c in constants]
    candidates = min(2 * width, width * choices)  # of each beginning, one at most ends

    def penalty(count):
        return ((5 + tf.cast(count, dtype)) / 6) ** tf.cast(length_penalty, dtype)

    def goes_on(t, _, __, log_p, ___, found, *____):
        could_be = tf.reduce_max(log_p, axis=1) / penalty(lengths)
        worst = found.scores[:, best - 1]
        return tf.reduce_any((t < lengths) & (could_be > worst))

    def body(t, logits, states, log_p, tokens, found):
        before = log_p, tokens, found
        log_q = tf.reshape(tf.nn.log_softmax(logits), [batch, width, choices])
        log_q = tf.reshape(log_p[:, :, None] + log_q, [batch, width * choices])
        log_q, places = tf.math.top_k(log_q, candidates)
        parents, chosen = places // choices, places % choices
        extended = _with(tf.gather(tokens, parents, batch_dims=1), chosen, t)
        if end is not None:
            ends = chosen == end
            ended = Written(
                extended,
                tf.fill(tf.shape(ends), t),
                log_q,
                tf.where(ends, log_q / penalty(t + 1), none),
            )
            found = _best(_joined(found, ended), width)
            log_q = tf.where(ends, none, log_q)
        log_p, stay = tf.math.top_k(log_q, width)
        tokens = tf.gather(extended, stay, batch_dims=1)
        rows = tf.gather(parents, stay, batch_dims=1) + width * tf.range(batch)[:, None]
        rows = tf.reshape(rows, [-1])
        log_p, tokens, found = _in_rows(t < lengths, (log_p, tokens, found), before)
        states = tf.nest.map_structure(lambda s: tf.gather(s, rows), states)
        last = tf.reshape(tokens[:, :, t], [-1])
        logits, states = _stepped("beam_search", step, last, states, constants, choices)
        return t + 1, logits, states, log_p, tokens, found

    filled = tf.fill([batch, width, length], 0 if end is None else end)
    nothing = tf.fill([batch, width], none)
    first = tf.concat([tf.zeros([batch, 1], dtype), nothing[:, 1:]], axis=1)  # one beginning
    shape = [logits.shape[0], width]
    first, nothing = tf.ensure_shape(first, shape), tf.ensure_shape(nothing, shape)
    found = Written(filled, tf.zeros([batch, width], "int32"), nothing, nothing)
    logits, states = tf.nest.map_structure(
        lambda s: tf.repeat(s, width, axis=0), (logits, _tensors(states))
    )
    _, _, _, log_p, tokens, found = tf.while_loop(
        goes_on, body, (0, logits, states, first, filled, found), maximum_iterations=length
    )
    # What has not ended counts only where nothing else is left.
    lengths = tf.repeat(lengths[:, None], width, axis=1)
    unended = Written(tokens, lengths, log_p, log_p / penalty(lengths))
    ended = tf.reduce_sum(tf.cast(found.scores > none, "int32"), axis=1, keepdims=True)
    places = tf.range(best)[None, :]
    places = tf.where(places < ended, places, width + places - ended)
    return Written(*(tf.gather(x, places, batch_dims=1) for x in _joined(found, unended)))


def _written(name, step, logits, states, length, end, choose):
    logits = _checked_logits(name, logits, end)
    choices, batch = logits.shape[-1], tf.shape(logits)[0]
    length = tf.convert_to_tensor(length, "int32")

    def goes_on(t, _, __, ___, lengths, ____):
        return (t < length) & tf.reduce_any(lengths == length)

    def body(t, logits, states, tokens, lengths, log_p):
        chosen = tf.cast(choose(logits, t), "int32")
        going = lengths == length
        chosen = chosen if end is None else tf.where(going, chosen, end)
        of_chosen = tf.gather(tf.nn.log_softmax(logits), chosen, batch_dims=1)
        log_p += tf.where(going, of_chosen, tf.zeros_like(of_chosen))
        if end is not None:
            lengths = tf.where(going & (chosen == end), t, lengths)
        logits, states = _stepped(name, step, chosen, states, (), choices)
        return t + 1, logits, states, _with(tokens, chosen, t), lengths, log_p

    tokens = tf.fill([batch, length], 0 if end is None else end)
    begun = (0, logits, _tensors(states), tokens)
    begun += (tf.fill([batch], length), tf.zeros_like(logits[:, 0]))
    *_, tokens, lengths, log_p = tf.while_loop(goes_on, body, begun, maximum_iterations=length)
    return Written(tokens, lengths, log_p, log_p)


def _with(tokens, chosen, t):
    """`tokens`, (…, length), with `chosen`, (…,), at t."""
    return tf.where(tf.range(tf.shape(tokens)[-1]) == t, chosen[..., None], tokens)


def _in_rows(chosen, new, old):
    """`new` in the rows that are `chosen`, (batch,), else `old`."""

    def of(a, b):
        return tf.where(tf.reshape(chosen, [-1, *[1] * (a.shape.rank - 1)]), a, b)

    return tf.nest.map_structure(of, new, old)


def _joined(a, b):
    return Written(*(tf.concat(pair, axis=1) for pair in zip(a, b)))


def _best(found, count):
    """The `count` best, in their order."""
    _, places = tf.math.top_k(found.scores, count)
    return Written(*(tf.gather(x, places, batch_dims=1) for x in found))


def _tensors(states):
    return tf.nest.map_structure(tf.convert_to_tensor, states)


def _wide(logits):
    """At least float32: half of a float holds no sum over a sequence."""
    return logits if logits.dtype == "float64" else tf.cast(logits, "float32")


def _stepped(name, step, tokens, states, constants, choices):
    """What `step` returns, if it is as it was before."""
    logits, new = step(tokens, states, *constants)
    logits = _wide(logits)
    tf.nest.assert_same_structure(states, new)
    if logits.shape.rank != 2 or logits.shape[-1] != choices:
        raise ValueError(
            f"`{name}`: `step` returned logits of shape {logits.shape}, expected (batch, {choices})"
            ", as the first were."
        )
    for before, after in zip(tf.nest.flatten(states), tf.nest.flatten(new)):
        after.set_shape(before.shape)  # a loop's states keep their shapes
    return logits, new


def _checked_logits(name, logits, end):
    logits = tf.convert_to_tensor(logits)
    if logits.shape.rank != 2 or logits.shape[-1] is None:
        raise ValueError(
            f"`{name}` got `logits` of shape {logits.shape}, expected (batch, tokens), the second "
            "known: those of the first token, as `step` returns them."
        )
    logits = _wide(logits)
    if end is not None and not 0 <= end < logits.shape[-1]:
        raise ValueError(
            f"`{name}` got `end` {end}, expected None or one of {logits.shape[-1]} tokens."
        )
    return logits
