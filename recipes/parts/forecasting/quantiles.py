"""Forecasts that say how sure they are: quantiles, what they learn by, and how right they are.

Of what comes, a share of `level` lies at or below the quantile of that level. Quantiles have the
shape (batch, levels, horizon, channels), and rise with the level.
"""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from keras import ops


class Pinball(keras.losses.Loss):
    """Each level's quantile is where the mean of this loss is least (Koenker & Bassett 1978)."""

    def __init__(self, levels: tuple[float, ...]):
        super().__init__()
        self.levels = np.reshape(levels, (-1, 1, 1)).astype("float32")

    def call(self, truth, quantiles):
        above = truth[:, None] - quantiles
        return ops.maximum(self.levels * above, (self.levels - 1) * above)


def answer(head: Callable, levels: tuple[float, ...]):
    """What the head "values" says; with levels, what a head for each says, sorted.

    Sorted, quantiles can't cross, and their losses only fall (Chernozhukov et al. 2010).
    """
    if not levels:
        return head("values")
    found = [head(f"values_{level:g}") for level in levels]
    return ops.sort(ops.stack(found, axis=1), axis=1)


def outputs(found: tf.Tensor, levels: tuple[float, ...]) -> dict[str, tf.Tensor]:
    """An export's outputs: with levels, the forecast is the median, or what is nearest to it."""
    if not levels:
        return {"forecast": found}
    middle = int(np.argmin(np.abs(np.array(levels) - 0.5)))
    named = tf.tile([levels], [tf.shape(found)[0], 1])  # a server wants a row for each window
    return {"forecast": found[:, middle], "quantiles": found, "levels": named}


def median(model: keras.Model, levels: tuple[float, ...]) -> keras.Model | None:
    """The model as one whose only answer is the median; None if that isn't among the levels."""
    if not levels:
        return model
    if 0.5 not in levels:
        return None
    return keras.Model(model.input, model.output[:, levels.index(0.5)])


def bands(found: np.ndarray, levels: tuple[float, ...]) -> dict[str, tuple]:
    """{"0.1 to 0.9": (its lower end, its upper end)}, the widest first; found: (levels, …)."""
    ends = range(len(levels) // 2)
    return {f"{levels[i]:g} to {levels[-1 - i]:g}": (found[i], found[-1 - i]) for i in ends}


# --- Evaluation ---------------------------------------------------------------------------


class LastSeason:
    """A forecast without a network: the last season again, and around it, for each step of the
    horizon, the quantiles of the errors that this made in `known`, the training part."""

    def __init__(self, known, mean, std, horizon: int, season: int, levels: tuple[float, ...]):
        self.mean, self.std, self.horizon, self.season = mean, std, horizon, season
        known = (known - mean) / std
        ahead = range(season, horizon + season, season)  # how far back each season was
        errors = [np.quantile(known[n:] - known[:-n], levels, axis=0) for n in ahead]
        self.errors = np.repeat(np.stack(errors, axis=1), season, axis=1)[:, :horizon]

    def predict_on_batch(self, window):
        last = (window[:, -self.season :] - self.mean) / self.std
        steps = np.arange(self.horizon) % self.season
        return np.asarray(last)[:, None, steps] + self.errors


def evaluate(
    model: keras.Model, last_season: LastSeason, data: tf.data.Dataset, levels: tuple[float, ...]
) -> dict:
    """The scores of both, by name."""
    models = {"model": model, "repeat the last season, and its errors": last_season}
    return {name: score(forecast, data, levels) for name, forecast in models.items()}


def score(model, data: tf.data.Dataset, levels: tuple[float, ...]) -> dict:
    """Over all windows, standardized: each quantile's loss, and what share of what came is at or
    below it; what share is within each band, and how wide that is."""
    loss, sums, count = Pinball(levels), 0, 0
    for window, truth in data:
        found = np.asarray(model.predict_on_batch(window), "float32")
        truth, by_level = truth.numpy(), np.moveaxis(found, 1, 0)
        ends = bands(by_level, levels)
        means = [
            *np.mean(np.asarray(loss.call(truth, found)), axis=(0, 2, 3), dtype="float64"),
            *(np.mean(truth <= quantile) for quantile in by_level),
            *(np.mean((low <= truth) & (truth <= high)) for low, high in ends.values()),
            *(np.mean(high - low, dtype="float64") for low, high in ends.values()),
        ]
        sums, count = sums + len(truth) * np.array(means), count + len(truth)
    losses, below, of_bands = np.split(sums / count, [len(levels), 2 * len(levels)])
    within, width = np.split(of_bands, 2)
    return {
        "pinball": dict(zip(levels, losses)),
        "at or below": dict(zip(levels, below)),
        "within": dict(zip(ends, within)),
        "width": dict(zip(ends, width)),
    }


def show(scores: dict) -> None:
    """Prints what `evaluate` found."""
    for name, of in scores.items():
        print(f"  {name}")
        for level, loss in of["pinball"].items():
            print(f"    {level:<10g} pinball {loss:.4f}, {of['at or below'][level]:.1%} below")
        for band, within in of["within"].items():
            print(f"    {band:10} width {of['width'][band]:.4f}, {within:.1%} within")
