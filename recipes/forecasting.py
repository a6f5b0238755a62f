"""Forecasting: the next steps of a series with several channels, from its last ones.

    python recipes/forecasting.py                     # ETTh1, fetched from its repository
    python recipes/forecasting.py --data sales.csv    # a series of your own
    python recipes/forecasting.py --dataset sample    # a built-in series, no download
    python recipes/forecasting.py --streaming         # for steps that arrive one by one
    python recipes/forecasting.py --quantiles 0.1,0.5,0.9    # how sure it is, too

A recurrent network that goes hour by hour forgets; one that goes day by day does not.
Each channel's window is cut into seasons (days, for hourly values), and a cell reads them
one after the other. Its last state is then asked for every future season at once, by the
season's place and its channel, in one further step each (SegRNN, Lin et al. 2023).
Everything is said relative to a level, halfway between the last value seen and the mean of
all (with `--streaming`, to the last value), so that a series which drifts is no surprise.

A series of your own is a table (CSV, TSV, JSON lines, Parquet) with a column of dates and
columns of numbers, 15 minutes, an hour, a day, a week or a month apart.

With `--streaming` the cell reads each step, together with the season up to it, so that its state
and the last season are all that a forecast at the next step needs: the export then has the
signature `stream`, whose states go in and come out. With `--quantiles` it says how sure it is: a
tenth of what comes should lie at or below its 0.1-quantile. Both are in
recipes/parts/forecasting.
"""

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # to be run from anywhere

from recipes.common import command_line

EPOCHS = {"etth1": 15, "sample": 4}
BATCH = 256
OF_ONES_OWN = ("date", "target", "split", "missing", "frequency", "encoding")


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = command_line.parser(
        "forecasting",
        __doc__,
        EPOCHS,
        "gru",
        batch=f"{BATCH} windows, fewer of a short series",
        other=15,
    )
    command_line.add_runtimes(parser)
    add, number = parser.add_argument, command_line.positive
    file = {"type": command_line.file, "metavar": "FILE"}
    add("--data", **file, help="a series of your own; with --dataset etth1, its file")
    add("--date", metavar="COLUMN", help="the dates; default: the first column of dates")
    add("--target", nargs="+", metavar="COLUMN", help="the channels; default: all numbers")
    parts = {"type": command_line.shares, "metavar": "TRAIN,VALIDATION,TEST"}
    add("--split", **parts, help="shares of --data, in order of time; default: 0.7,0.1,0.2")
    add("--missing", choices=["refuse", "interpolate"], help="values and dates; default: refuse")
    add("--frequency", help="15min, h, D, B, W, M, …; default: as found in the dates")
    add("--encoding", help="of --data; default: UTF-8")
    add("--season", type=number, help="steps after which it repeats; default: by the frequency")
    add("--lookback", type=number, help="steps read; default: 4 seasons, known data: 96")
    add("--horizon", type=number, help="steps forecast; default: 1 season, known data: 96")
    levels = {"type": command_line.levels, "metavar": "0.1,0.5,0.9"}
    add("--quantiles", **levels, help="forecast these, and learn by their loss")
    add("--streaming", action="store_true", help="read step by step, and export a stream")
    args = command_line.parse(parser, argv, file_of="etth1")
    for name in OF_ONES_OWN:
        if args.dataset != "data" and getattr(args, name):
            parser.error(f"--{name} is for a series of your own: --data FILE")
    return args


if __name__ == "__main__":
    ARGS = command_line.start(arguments)  # before what takes seconds to import

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from keras import ops

from layers.exchange import checks
from recipes.common import (
    check_data,
    other_runtimes,
    pictures,
    prepared_data,
    publishing,
    tables,
    training,
)
from recipes.common.cells import CELLS
from recipes.common.samples import series
from recipes.parts.forecasting import forecasting_export, forecasting_stream, quantiles, time_series

MONTH = 30 * 24
MEASURES = ["mse", "mae"]
MOST_KEPT = 2**31  # bytes of windows in memory
MOST_WINDOWS = 1024  # in a request to the export, so that its memory is bounded


# --- Data: a series, cut in three by time --------------------------------------------------


def load(
    dataset: str, csv: Path | None, seed: int
) -> tuple[time_series.Series, tuple[int, int, int]]:
    """(the series, (train end, validation end, end))."""
    if dataset == "sample":
        dates = pd.date_range("2024-01-01", periods=3000, freq="h")
        values = series.series(len(dates), seed)
        none = np.zeros(values.shape, bool)
        return time_series.Series(values, series.CHANNELS, dates, "h", none), (1800, 2400, 3000)
    # 12, 4 and 4 months, as everywhere since Zhou et al. 2021.
    ends = (12 * MONTH, 16 * MONTH, 20 * MONTH)
    data = time_series.series(tables.read(csv or prepared_data.etth1()))
    if len(data.values) < ends[-1]:
        raise SystemExit(
            f"--data: {csv} has {len(data.values)} rows; ETTh1 has {ends[-1]} or more."
        )
    return data, ends


def load_own(args: argparse.Namespace) -> tuple[time_series.Series, tuple[int, int, int]]:
    """As `load`, from `args.data`. Channels that stay the same throughout training are dropped."""
    data = time_series.series(
        tables.read(args.data, args.encoding),
        date=args.date,
        target=args.target,
        step=args.frequency,
        interpolate=args.missing == "interpolate",
    )
    train, validation, _ = args.split or (0.7, 0.1, 0.2)
    end = len(data.values)
    ends = (round(train * end), round((train + validation) * end), end)
    return time_series.without_constant(data, ends[0]), ends


def set_sizes(args: argparse.Namespace, step: str, ends: tuple[int, int, int]) -> None:
    """Fills in season, lookback and horizon, and makes sure that windows fit into all parts."""
    own = args.dataset == "data"
    args.season = args.season or time_series.season(step)
    args.lookback = args.lookback or (4 * args.season if own else 96)
    args.horizon = args.horizon or (args.season if own else 96)
    check_data.refuse_bad_windows(args, np.diff([0, *ends]))
    if args.streaming:
        forecasting_stream.refuse_season(args.season)


def of_channels(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(mean, standard deviation) of each; summed in float64, for in float32 long sums are wrong."""
    found = (of(values, axis=0, dtype="float64") for of in (np.mean, np.std))
    return tuple(x.astype("float32") for x in found)


def starts(
    first: int, last: int, lookback: int, horizon: int, interpolated: np.ndarray | None = None
) -> np.ndarray:
    """Where every window begins whose forecast lies in steps first … last − 1.

    Args:
        interpolated: (steps, channels), which values are. A window is left out if there are such in
            its forecast, or if it ends in one, for that leans towards what comes.
    """
    found = np.arange(max(first - lookback, 0), last - lookback - horizon + 1)
    if interpolated is None:
        return found
    before = np.append(0, np.cumsum(interpolated.any(axis=1)))
    now = found + lookback
    return found[before[now + horizon] == before[now - 1]]


def windows(
    values: np.ndarray, standardized: np.ndarray, begin: np.ndarray, lookback: int, horizon: int
) -> tf.data.Dataset:
    """The windows that begin at these steps, as a dataset of ((lookback, channels) in original
    units, (horizon, channels) standardized)."""
    values, standardized = tf.constant(values), tf.constant(standardized)
    channels = values.shape[1]

    def cut(start):
        window = tf.slice(values, [start, 0], [lookback, channels])
        return window, tf.slice(standardized, [start + lookback, 0], [horizon, channels])

    begin = tf.data.Dataset.from_tensor_slices(begin)
    return begin.map(cut, num_parallel_calls=tf.data.AUTOTUNE)


def batches(
    args: argparse.Namespace,
    values: np.ndarray,
    standardized: np.ndarray,
    train_end: int,
    held_out: dict[str, np.ndarray],
) -> tuple[tf.data.Dataset, dict[str, tf.data.Dataset]]:
    """(the windows to train on, {"validation" and "test": those that begin at these steps}).

    They are kept if they fit; else they are cut anew in each epoch, and shuffled in part.
    """
    sizes = args.lookback, args.horizon
    window = values[0].nbytes * sum(sizes)
    fits = len(values) * window <= MOST_KEPT

    def kept(begin):
        found = windows(values, standardized, begin, *sizes)
        return found.cache() if fits else found

    train = kept(starts(0, train_end, *sizes))
    few = max(16, len(train) // 20)  # a short series is worth some steps, too
    train = train.shuffle(min(train_end, max(1, MOST_KEPT // window)))
    train = train.batch(args.batch or min(BATCH, few)).take(args.steps or -1).prefetch(2)
    return train, {name: kept(x).batch(args.batch or BATCH) for name, x in held_out.items()}


# --- Model: a window in original units in, the standardized forecast out -------------------


def build(
    mean: np.ndarray,
    std: np.ndarray,
    lookback: int,
    horizon: int,
    cell: str,
    season: int = 24,
    units: int = 512,
    levels: tuple[float, ...] = (),
) -> keras.Model:
    channels = len(mean)
    ahead = math.ceil(horizon / season)
    recurrent = CELLS[cell](units, return_state=True, name="recurrent")

    window = keras.Input((lookback, channels), name="window")
    x = (window - mean) / std
    level = (x[:, -1:, :] + ops.mean(x, axis=1, keepdims=True)) / 2
    x = ops.transpose(x - level, (0, 2, 1))  # each channel by itself
    x = ops.pad(x, [[0, 0], [0, 0], [-lookback % season, 0]])  # to whole seasons
    x = ops.reshape(x, (-1, math.ceil(lookback / season), season))
    x = keras.layers.Dense(units, activation="relu", name="season")(x)
    _, *states = recurrent(x)
    answer = Questions(recurrent.cell, channels, ahead, name="questions")(states)
    answer = keras.layers.Dropout(0 if levels else 0.5)(answer)  # quantiles would cover its noise

    def head(name):
        values = keras.layers.Dense(season, name=name)(answer)
        values = ops.reshape(values, (-1, channels, ahead * season))[:, :, :horizon]
        return ops.transpose(values, (0, 2, 1)) + level

    return keras.Model(window, quantiles.answer(head, levels), name="forecasting")


class Questions(keras.layers.Layer):
    """One further step of a cell, for each future season of each channel: what it is asked is a
    vector for the season's place and one for the channel.

    The last states, each (batch * channels, units), in; (batch, channels, ahead, units) out.
    """

    def __init__(self, cell: keras.layers.Layer, channels: int, ahead: int, **kwargs):
        super().__init__(**kwargs)
        self.cell, self.channels, self.ahead = cell, channels, ahead

    def build(self, states_shape):
        half = self.cell.units // 2
        shapes = {"places": (1, self.ahead, half), "which": (self.channels, 1, half)}
        for name, shape in shapes.items():
            setattr(self, name, self.add_weight(shape, "random_normal", name=name))
        super().build(states_shape)

    def call(self, states):
        places = ops.repeat(self.places, self.channels, axis=0)
        which = ops.repeat(self.which, self.ahead, axis=1)
        asked = self.cell.project(ops.concatenate([places, which], axis=-1))
        # One product with the state serves all its questions: the sum with them broadcasts.
        states = [ops.reshape(s, (-1, self.channels, 1, s.shape[-1])) for s in states]
        answer, *_ = self.cell.update(asked, states, self.cell.dot())
        return answer

    def compute_output_spec(self, states):
        return keras.KerasTensor((None, self.channels, self.ahead, self.cell.units))


def compile_model(model: keras.Model, steps: int, levels: tuple[float, ...]) -> None:
    """Sets the model up to be trained in epochs of so many `steps`."""
    rate = keras.optimizers.schedules.ExponentialDecay(1e-3, 3 * steps, 0.7)
    # What counts is the mean of the weights over about two epochs, which no batch pulls away.
    mean_of = {"use_ema": True, "ema_momentum": 1 - 0.5 / max(1, steps)}
    loss = {"loss": quantiles.Pinball(levels)} if levels else {"loss": "huber", "metrics": MEASURES}
    model.compile(keras.optimizers.Adam(rate, **mean_of), **loss)


# --- Evaluation ---------------------------------------------------------------------------


def evaluate(
    model, data: tf.data.Dataset, mean: np.ndarray, std: np.ndarray, season: int = 24
) -> dict:
    """MSE and MAE over every window, of the model, if any, and of two forecasts that need none."""
    sums, count = {}, 0
    for window, truth in data:
        known = (window - mean) / std
        horizon = truth.shape[1]
        seasons = math.ceil(horizon / season)
        forecasts = {"model": model.predict_on_batch(window)} if model else {}
        forecasts |= {
            "repeat the last value": tf.repeat(known[:, -1:], horizon, axis=1),
            "repeat the last season": tf.tile(known[:, -season:], [1, seasons, 1])[:, :horizon],
        }
        count += len(window)
        for name, forecast in forecasts.items():
            error = np.asarray(forecast) - truth.numpy()
            sums[name] = sums.get(name, 0) + len(window) * np.array(
                [np.mean(error**2, dtype="float64"), np.mean(np.abs(error), dtype="float64")]
            )
    scores = {name: dict(zip(("mse", "mae"), s / count)) for name, s in sums.items()}
    return {"windows": count, **scores}


# --- Export: a window in original units in, the forecast in original units out --------------


def signatures(
    model: keras.Model,
    mean: np.ndarray,
    std: np.ndarray,
    levels: tuple[float, ...] = (),
    most: int = MOST_WINDOWS,
) -> dict:
    shape = list(model.input_shape)

    def forecast(window):
        window = checks.finite("window", checks.shaped(window, shape))
        rows = tf.shape(window)[0]
        window = checks.at_most(most, "windows", "window", window, rows)
        found = model(window, training=False) * std + mean
        found = checks.finite("window", found, "holds numbers too large to forecast")
        return quantiles.outputs(found, levels)

    example = {"window": np.broadcast_to(mean, (1, *shape[1:]))}
    return {"serving_default": (forecast, {"window": tf.TensorSpec(shape)}, example)}


def draw_first(
    args: argparse.Namespace,
    data: time_series.Series,
    forecast: Callable,
    truth: tuple[np.ndarray, np.ndarray],
    start: int,
) -> None:
    """A picture of the window that begins at step `start`, of what came, and of its forecast.

    Args:
        forecast: The export's function of windows.
        truth: The window and what came, in original units.
    """
    answer = {name: x[0].numpy() for name, x in forecast(truth[0][None]).items()}
    pictures.forecast(
        args.output / "forecast.png",
        *truth,
        answer["forecast"],
        data.channels,
        title=f"{args.output.name}: the first window of the test part",
        dates=data.dates[start : start + args.lookback + args.horizon],
        bands=quantiles.bands(answer.get("quantiles"), tuple(args.quantiles or ())),
    )


def main(args: argparse.Namespace) -> None:
    training.seed(args)
    own = args.dataset == "data"
    data, ends = load_own(args) if own else load(args.dataset, args.data, args.seed)
    set_sizes(args, data.step, ends)
    print(
        f"{len(data.values)} steps of {data.step}, {data.dates[0]} to {data.dates[-1]}; "
        f"a season is {args.season} steps. Channels: {', '.join(data.channels)}."
    )
    values = data.values
    train_end, validation_end, end = ends
    mean, std = of_channels(values[:train_end])
    sizes = args.lookback, args.horizon
    parts = {"validation": (train_end, validation_end), "test": (validation_end, end)}
    begin = {name: starts(*steps, *sizes, data.interpolated) for name, steps in parts.items()}
    check_data.say_left_out(begin, {name: len(starts(*x, *sizes)) for name, x in parts.items()})
    if args.streaming:
        forecasting_stream.refuse_large(args.batch or BATCH, args.lookback, args.season, len(mean))
    read = [*data[:2], [*map(str, data.dates)], ends, *([data.interpolated] if data.filled else [])]
    training.begin(args, *read, extendable=True)  # may delete an earlier run: so not before

    train, held_out = batches(args, values, (values - mean) / std, train_end, begin)
    levels = tuple(args.quantiles or ())
    of_kind = forecasting_stream.build if args.streaming else build
    model = of_kind(mean, std, *sizes, args.cell, args.season, levels=levels)
    compile_model(model, len(train), levels)
    model.summary()

    trained = training.fit(model, train, held_out["validation"], args, best=("val_loss", "min"))
    median = quantiles.median(model, levels)
    scores = {n: evaluate(median, x, mean, std, args.season) for n, x in held_out.items()}
    most = MOST_WINDOWS
    if args.streaming:
        most = forecasting_stream.most(most, args.lookback * args.season * len(mean))
    served = signatures(model, mean, std, levels, most)
    if args.streaming:
        served |= forecasting_stream.signatures(model, mean, std, levels)
    if args.streaming and median:
        for name, each in begin.items():
            found = forecasting_stream.evaluate(served, values, std, each, *sizes)
            scores[name]["model, one stream"] = found
    pictures.curves(args.output / "curves.png", trained["history"], trained["best_epoch"])
    print(f"Test, {scores['test']['windows']} windows, standardized:")
    for name, score in list(scores["test"].items())[1:]:
        print(f"  {name:22} MSE {score['mse']:.4f}  MAE {score['mae']:.4f}")
    if levels:
        known = values[:train_end]
        last = quantiles.LastSeason(known, mean, std, args.horizon, args.season, levels)
        for name, windows_of in held_out.items():
            scores[name]["quantiles"] = quantiles.evaluate(model, last, windows_of, levels)
        quantiles.show(scores["test"]["quantiles"])
    about = {"step": data.step, "channels": data.channels, "interpolated": data.filled}
    training.write_metrics(args, trained, model, series=about, **scores)
    version = publishing.publish(model, args.saved_models / args.recipe, served, args.keep)
    window, came = (x[0] for x in next(iter(held_out["test"])))
    forecast, _, _ = served["serving_default"]
    draw_first(args, data, forecast, (window, came * std + mean), begin["test"][0])
    print(f"Exported to {version}; pictures and metrics are in {args.output}.")
    past = slice(validation_end - args.lookback, validation_end)
    example = pd.DataFrame(values[past], data.dates[past], data.channels)
    example = example.to_csv(index_label="date", float_format="%.6g")

    def numeric():
        return forecasting_export.numeric(model, mean, std, levels, data.channels, example)

    def score(model):
        return evaluate(model, held_out["test"], mean, std, args.season)["model"]

    other_runtimes.write(args, numeric, score, lambda: next(iter(train))[0].numpy())


if __name__ == "__main__":
    command_line.run(main, ARGS)
