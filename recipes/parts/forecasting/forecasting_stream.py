"""Forecasting for a series that arrives step by step: each relative to the last value so far.

What `recipes/forecasting.py --streaming` trains and exports.
"""

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from layers.exchange import checks
from recipes.common.cells import CELLS
from recipes.common.publishing import INITIAL_STATE_INPUTS
from recipes.parts.forecasting import quantiles

MOST_STEPS = 2**16  # of all chunks of a request to the export, so that its memory is bounded …
MOST_NUMBERS = 2**26  # … and what these become, for a whole season is read at each step


def refuse_season(season: int) -> None:
    """Raises SystemExit if there is nothing to read beside each step."""
    if season < 2:
        raise SystemExit(
            "--streaming reads the season up to each step, relative to that step: give a --season "
            f"of 2 steps or more, got {season}."
        )


def most(count: int, numbers: int) -> int:
    """`count`, or fewer, of what makes so many `numbers` each."""
    return max(1, min(count, MOST_NUMBERS // numbers))


def refuse_large(batch: int, lookback: int, season: int, channels: int) -> None:
    """Raises SystemExit if a batch takes too much memory."""
    numbers = batch * lookback * season * channels
    if numbers > 16 * MOST_NUMBERS:
        raise SystemExit(
            f"--streaming reads a season at each step: {batch} windows of {lookback} steps, with "
            f"seasons of {season} and {channels} channels, take {numbers * 4 / 2**30:.1f} GB, "
            "several times. Give a smaller --batch, --season or --lookback."
        )


# --- Model -----------------------------------------------------------------------------------


def build(
    mean: np.ndarray,
    std: np.ndarray,
    lookback: int,
    horizon: int,
    cell: str,
    season: int = 24,
    units: int = 128,
    levels: tuple[float, ...] = (),
) -> keras.Model:
    channels = len(mean)
    window = keras.Input((lookback, channels), name="window")
    x = (window - mean) / std
    last = x[:, -1:, :]
    x = ops.pad(x, [[0, 0], [season, 0], [0, 0]])  # as if all had been the mean before
    x = SeasonToEachStep(season, name="season_to_each_step")(x)
    x = keras.layers.Dense(units, activation="relu", name="season")(x)
    x, *_ = CELLS[cell](units, return_state=True, name="recurrent")(x)
    x = keras.layers.Dropout(0 if levels else 0.5)(x)  # quantiles would cover its noise

    def head(name):
        values = keras.layers.Dense(horizon, name=name)(x)
        return ops.transpose(ops.reshape(values, (-1, channels, horizon)), (0, 2, 1)) + last

    return keras.Model(window, quantiles.answer(head, levels), name="forecasting")


class SeasonToEachStep(keras.layers.Layer):
    """The season that ends with each step, relative to that step, each channel by itself.

    (batch, season + steps, channels) in; (batch * channels, steps, season) out.
    """

    def __init__(self, season: int, **kwargs):
        super().__init__(**kwargs)
        self.season = season

    def call(self, x):
        # (batch, steps, season, channels)
        found = tf.signal.frame(x, self.season, 1, axis=1)[:, 1:]
        found = tf.transpose(found - found[:, :, -1:], (0, 3, 1, 2))
        steps = tf.shape(found)[2] if x.shape[1] is None else x.shape[1] - self.season
        return tf.reshape(found, (tf.shape(x)[0] * x.shape[2], steps, self.season))

    def compute_output_shape(self, input_shape):
        steps = input_shape[1]
        return (None, None if steps is None else steps - self.season, self.season)


# --- Evaluation ---------------------------------------------------------------------------


def evaluate(
    served: dict,
    values: np.ndarray,
    std: np.ndarray,
    starts: np.ndarray,
    lookback: int,
    horizon: int,
) -> dict:
    """The scores on the windows that begin at `starts`, if steps come one by one, from the first
    window's on, and no state ever starts anew."""
    stream, initial_state = (tf.function(served[name][0]) for name in ("stream", "initial_state"))
    states, sums, ends = initial_state(tf.constant(1)), np.zeros(2), {*(starts + lookback)}
    for now in range(starts[0] + 1, starts[-1] + lookback + 1):
        answer = stream(tf.constant(values[None, now - 1 : now]), *states.values())
        states = {name: answer[name] for name in states}
        if now in ends:
            error = (answer["forecast"].numpy()[0] - values[now : now + horizon]) / std
            sums += np.mean(error**2, dtype="float64"), np.mean(np.abs(error), dtype="float64")
    return dict(zip(("mse", "mae"), (sums / len(starts)).tolist()))


# --- Export: steps and states in, the forecast from there and states out ---------------------


def signatures(
    model: keras.Model, mean: np.ndarray, std: np.ndarray, levels: tuple[float, ...] = ()
) -> dict:
    """The states of a stream, by name:

    last_season  float [batch, season, channels], the last steps, in original units
    state_0, …   float [batch, channels, units], the recurrent states
    """
    recurrent, channels = model.get_layer("recurrent"), len(mean)
    frame = model.get_layer("season_to_each_step")
    most_steps = most(MOST_STEPS, frame.season * channels)
    shapes = {"chunk": [None, None, channels], "last_season": [None, frame.season, channels]}
    sizes = {f"state_{i}": size for i, size in enumerate(recurrent.cell.state_sizes)}
    shapes |= {name: [None, channels, size] for name, size in sizes.items()}
    specs = {name: tf.TensorSpec(shape) for name, shape in shapes.items()}

    def stream(*given):
        given = checks.inputs(specs, given)
        chunk, batch = given["chunk"], tf.shape(given["last_season"])[0]
        count = tf.size(chunk, tf.int64) // channels
        chunk = checks.at_most(most_steps, "steps in all", "chunk", chunk, count)
        steps = tf.concat([given["last_season"], chunk], axis=1)
        x = (steps - mean) / std
        last = x[:, -1:]
        x = model.get_layer("season")(frame(x))
        states = [tf.reshape(given[n], [batch * channels, size]) for n, size in sizes.items()]
        x, *states = recurrent(x, initial_state=states)

        def head(name):
            horizon = model.output_shape[-2]
            values = tf.reshape(model.get_layer(name)(x), [batch, channels, horizon])
            return tf.transpose(values, [0, 2, 1]) + last

        found = quantiles.answer(head, levels) * std + mean
        found = checks.finite("chunk", found, "holds numbers too large to forecast")
        found = quantiles.outputs(found, levels)
        pairs = zip(sizes.items(), states)
        states = {n: tf.reshape(x, [batch, channels, size]) for (n, size), x in pairs}
        return {**found, "last_season": steps[:, -frame.season :], **states}

    def initial_state(batch_size):
        batch_size = checks.batch_size(batch_size)
        states = {n: tf.zeros([batch_size, channels, size]) for n, size in sizes.items()}
        return {"last_season": tf.tile(mean[None, None], [batch_size, frame.season, 1]), **states}

    example = {"chunk": np.broadcast_to(mean, (1, 1, channels)), **initial_state(tf.constant(1))}
    return {
        "stream": (stream, specs, example),
        "initial_state": (initial_state, *INITIAL_STATE_INPUTS),
    }
