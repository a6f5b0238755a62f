"""Forecasting: the next days of a series with several channels, from its last days.

    python recipes/forecasting.py                     # ETTh1, fetched from its repository
    python recipes/forecasting.py --csv ETTh1.csv     # the same file, already here
    python recipes/forecasting.py --dataset sample    # a built-in series, no download
    python recipes/forecasting.py --streaming         # for hours that arrive one by one

A recurrent network that goes hour by hour forgets; one that goes day by day does not.
Each channel's window is cut into days, and a cell reads them one after the other. Its
last state is then asked for every future day at once, by the day's place and its channel,
in one further step each (SegRNN, Lin et al. 2023). Everything is said relative to the
last value seen, so that a series which drifts is no surprise.

With `--streaming` the cell reads each hour, together with the day up to it, so that its state
and the last day are all that a forecast at the next hour needs: the export then has the
signature `stream`, whose states go in and come out.
"""

import argparse
import math
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # to be run from anywhere

from recipes.common import command_line

EPOCHS = {"etth1": 15, "sample": 4}
DAY = 24


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = command_line.parser("forecasting", __doc__, EPOCHS, cell="gru")
    parser.add_argument("--csv", type=command_line.file, help="ETTh1.csv, if it is here already")
    number = command_line.positive
    parser.add_argument("--lookback", type=number, default=96, help="hours read; default: 96")
    parser.add_argument("--horizon", type=number, default=96, help="hours forecast; default: 96")
    parser.add_argument(
        "--streaming", action="store_true", help="read hour by hour, and export a stream"
    )
    args = command_line.parse(parser, argv)
    if args.csv and args.dataset == "sample":
        parser.error("--csv is for --dataset etth1")
    if args.lookback < DAY:
        parser.error(f"--lookback must be at least {DAY} hours, got {args.lookback}")
    return args


if __name__ == "__main__":
    ARGS = command_line.start(arguments)  # before what takes seconds to import

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from layers import checks
from recipes.common import pictures, prepared_data, publishing, training
from recipes.common.cells import CELLS
from recipes.common.samples import series

URL = "https://raw.githubusercontent.com/zhouhaoyi/ETDataset/main/ETT-small/ETTh1.csv"
SHA256 = "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066"
MONTH = 30 * 24
BATCH = 256
MOST_WINDOWS = 1024  # in a request to the export, so that its memory is bounded, and …
MOST_HOURS = 2**16  # … hours of all its chunks


# --- Data: a series, cut in three by time --------------------------------------------------


def load(
    dataset: str, csv: Path | None, seed: int
) -> tuple[np.ndarray, list[str], tuple[int, int, int]]:
    """((hours, channels) values in original units, channel names, (train end, val end, end))."""
    if dataset == "sample":
        return series.series(3000, seed), series.CHANNELS, (1800, 2400, 3000)
    # 12, 4 and 4 months, as everywhere since Zhou et al. 2021.
    ends = (12 * MONTH, 16 * MONTH, 20 * MONTH)
    with open(csv or download()) as file:
        names = file.readline().strip().split(",")[1:]
        columns = range(1, len(names) + 1)
        values = np.loadtxt(file, np.float32, delimiter=",", usecols=columns)
    if len(values) < ends[-1]:
        raise SystemExit(f"--csv: {csv} has {len(values)} rows; ETTh1 has at least {ends[-1]}.")
    return values, names, ends


def download() -> str:
    """The path of ETTh1.csv, fetched the first time, and checked every time."""
    folder = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    if not (folder / "datasets" / "ETTh1.csv").exists():
        prepared_data.need_network("ETTh1", f"not in {folder}, and no --csv given")
    return keras.utils.get_file("ETTh1.csv", URL, file_hash=SHA256, cache_dir=folder)


def windows(
    values: np.ndarray, standardized: np.ndarray, first: int, last: int, lookback: int, horizon: int
) -> tf.data.Dataset:
    """Every window whose forecast lies in hours first … last − 1, as a dataset of
    ((lookback, channels) in original units, (horizon, channels) standardized)."""
    starts = tf.data.Dataset.range(max(first - lookback, 0), last - lookback - horizon + 1)
    values, standardized = tf.constant(values), tf.constant(standardized)
    channels = values.shape[1]

    def cut(start):
        window = tf.slice(values, [start, 0], [lookback, channels])
        return window, tf.slice(standardized, [start + lookback, 0], [horizon, channels])

    return starts.map(cut, num_parallel_calls=tf.data.AUTOTUNE)


# --- Model: a window in original units in, the standardized forecast out -------------------


def build(
    mean: np.ndarray, std: np.ndarray, lookback: int, horizon: int, cell: str, units: int = 512
) -> keras.Model:
    channels = len(mean)
    ahead = math.ceil(horizon / DAY)
    recurrent = CELLS[cell](units, return_state=True, name="recurrent")

    window = keras.Input((lookback, channels), name="window")
    x = keras.layers.Normalization(mean=mean, variance=std**2)(window)
    last = x[:, -1:, :]
    x = ops.transpose(x - last, (0, 2, 1))  # each channel by itself
    x = ops.pad(x, [[0, 0], [0, 0], [-lookback % DAY, 0]])  # to whole days
    x = ops.reshape(x, (-1, math.ceil(lookback / DAY), DAY))
    x = keras.layers.Dense(units, activation="relu", name="day")(x)
    _, *states = recurrent(x)

    # One question for each future day of each channel: (batch · channels · ahead, 1, units).
    place = Question(channels, ahead, units, name="question")(window)
    states = [ops.repeat(state, ahead, axis=0) for state in states]
    answer, *_ = recurrent(place, initial_state=states)
    answer = keras.layers.Dropout(0.5)(answer)
    answer = keras.layers.Dense(DAY, name="values")(answer)
    answer = ops.reshape(answer, (-1, channels, ahead * DAY))[:, :, :horizon]
    return keras.Model(window, ops.transpose(answer, (0, 2, 1)) + last, name="forecasting")


class Question(keras.layers.Layer):
    """What is asked of the last state: a vector for the day's place, one for the channel.

    (batch, …) in, only for the batch's size; (batch * channels * ahead, 1, units) out.
    """

    def __init__(self, channels: int, ahead: int, units: int, **kwargs):
        super().__init__(**kwargs)
        self.shape = channels, ahead, units

    def build(self, input_shape):
        channels, ahead, units = self.shape
        self.places = self.add_weight((1, ahead, units // 2), "random_normal", name="places")
        self.channels = self.add_weight((channels, 1, units // 2), "random_normal", name="channels")
        super().build(input_shape)

    def call(self, window):
        channels, ahead, units = self.shape
        places = ops.repeat(self.places, channels, axis=0)
        which = ops.repeat(self.channels, ahead, axis=1)
        asked = ops.concatenate([places, which], axis=-1)
        asked = ops.reshape(asked, (channels * ahead, units))
        return ops.tile(asked, (ops.shape(window)[0], 1))[:, None, :]

    def compute_output_shape(self, input_shape):
        return (None, 1, self.shape[-1])


# --- The same for a stream: hour by hour, each relative to the last value so far --------------


def build_streaming(
    mean: np.ndarray, std: np.ndarray, lookback: int, horizon: int, cell: str, units: int = 128
) -> keras.Model:
    channels = len(mean)
    window = keras.Input((lookback, channels), name="window")
    x = keras.layers.Normalization(mean=mean, variance=std**2, name="standardize")(window)
    last = x[:, -1:, :]
    x = ops.pad(x, [[0, 0], [DAY, 0], [0, 0]])  # as if all had been the mean before
    x = DayToEachHour(name="day_to_each_hour")(x)
    x = keras.layers.Dense(units, activation="relu", name="day")(x)
    x, *_ = CELLS[cell](units, return_state=True, name="recurrent")(x)
    x = keras.layers.Dropout(0.5)(x)
    answer = keras.layers.Dense(horizon, name="values")(x)
    answer = ops.transpose(ops.reshape(answer, (-1, channels, horizon)), (0, 2, 1))
    return keras.Model(window, answer + last, name="forecasting")


class DayToEachHour(keras.layers.Layer):
    """The day that ends with each hour, relative to that hour, each channel by itself.

    (batch, DAY + hours, channels) in; (batch * channels, hours, DAY) out.
    """

    def call(self, x):
        days = tf.signal.frame(x, DAY, 1, axis=1)[:, 1:]  # (batch, hours, DAY, channels)
        days = tf.transpose(days - days[:, :, -1:], (0, 3, 1, 2))
        hours = tf.shape(days)[2] if x.shape[1] is None else x.shape[1] - DAY
        return tf.reshape(days, (tf.shape(x)[0] * x.shape[2], hours, DAY))

    def compute_output_shape(self, input_shape):
        hours = input_shape[1]
        return (None, None if hours is None else hours - DAY, DAY)


# --- Evaluation ---------------------------------------------------------------------------


def evaluate(model: keras.Model, data: tf.data.Dataset, mean: np.ndarray, std: np.ndarray) -> dict:
    """MSE and MAE over every window, of the model and of two forecasts that need none."""
    sums, count = {}, 0
    for window, truth in data:
        known = (window - mean) / std
        horizon = truth.shape[1]
        days = math.ceil(horizon / DAY)
        forecasts = {
            "model": model.predict_on_batch(window),
            "repeat the last value": tf.repeat(known[:, -1:], horizon, axis=1),
            "repeat yesterday": tf.tile(known[:, -DAY:], [1, days, 1])[:, :horizon],
        }
        count += len(window)
        for name, forecast in forecasts.items():
            error = np.asarray(forecast) - truth.numpy()
            sums[name] = sums.get(name, 0) + len(window) * np.array(
                [np.mean(error**2, dtype="float64"), np.mean(np.abs(error), dtype="float64")]
            )
    scores = {name: dict(zip(("mse", "mae"), s / count)) for name, s in sums.items()}
    return {"windows": count, **scores}


def evaluate_as_one_stream(
    served: dict, values: np.ndarray, std: np.ndarray, first: int, last: int, lookback: int
) -> dict:
    """The scores of `evaluate` if the hours come one by one, and no state ever starts anew."""
    stream, initial_state = (tf.function(served[name][0]) for name in ("stream", "initial_state"))
    states = initial_state(tf.constant(1))
    start = max(first - lookback, 0)
    errors = []
    for hour in range(start, last):
        answer = stream(tf.constant(values[None, hour : hour + 1]), *states.values())
        states = {name: answer[name] for name in states}
        forecast = answer["forecast"].numpy()[0]
        truth = values[hour + 1 : hour + 1 + len(forecast)]
        if start + lookback <= hour + 1 <= last - len(forecast):
            errors.append((forecast - truth) / std)
    return {"mse": float(np.mean(np.square(errors))), "mae": float(np.mean(np.abs(errors)))}


# --- Export: a window in original units in, the forecast in original units out --------------


def signatures(model: keras.Model, mean: np.ndarray, std: np.ndarray) -> dict:
    shape = list(model.input_shape)

    def forecast(window):
        window = checks.finite("window", checks.shaped(window, shape))
        rows = tf.shape(window)[0]
        window = checks.at_most(MOST_WINDOWS, "windows", "window", window, rows)
        found = model(window, training=False) * std + mean
        return {"forecast": checks.finite("window", found, "holds numbers too large to forecast")}

    example = {"window": np.broadcast_to(mean, (1, *shape[1:]))}
    return {"serving_default": (forecast, {"window": tf.TensorSpec(shape)}, example)}


# --- Export of a stream: hours and states in, the forecast from there and states out ----------


def stream_signatures(model: keras.Model, mean: np.ndarray, std: np.ndarray) -> dict:
    """The states of a stream, by name:

    day          float [batch, DAY, channels], the last hours, in original units
    state_0, …   float [batch, channels, units], the recurrent states
    """
    recurrent, channels = model.get_layer("recurrent"), len(mean)
    shapes = {"chunk": [None, None, channels], "day": [None, DAY, channels]}
    sizes = {f"state_{i}": size for i, size in enumerate(recurrent.cell.state_sizes)}
    shapes |= {name: [None, channels, size] for name, size in sizes.items()}

    def stream(*given):
        given = {n: checks.shaped(x, shapes[n]) for n, x in zip(shapes, given)}
        given = {n: checks.finite(n, x) for n, x in checks.same_batch(given).items()}
        chunk, batch = given["chunk"], tf.shape(given["day"])[0]
        count = tf.size(chunk, tf.int64) // channels
        chunk = checks.at_most(MOST_HOURS, "hours in all", "chunk", chunk, count)
        hours = tf.concat([given["day"], chunk], axis=1)
        x = model.get_layer("standardize")(hours)
        last = x[:, -1:]
        x = model.get_layer("day")(model.get_layer("day_to_each_hour")(x))
        states = [tf.reshape(given[n], [batch * channels, size]) for n, size in sizes.items()]
        x, *states = recurrent(x, initial_state=states)
        horizon = model.output_shape[1]
        answer = tf.reshape(model.get_layer("values")(x), [batch, channels, horizon])
        found = (tf.transpose(answer, [0, 2, 1]) + last) * std + mean
        found = checks.finite("chunk", found, "holds numbers too large to forecast")
        pairs = zip(sizes.items(), states)
        states = {n: tf.reshape(x, [batch, channels, size]) for (n, size), x in pairs}
        return {"forecast": found, "day": hours[:, -DAY:], **states}

    def initial_state(batch_size):
        batch_size = checks.batch_size(batch_size)
        states = {n: tf.zeros([batch_size, channels, size]) for n, size in sizes.items()}
        return {"day": tf.tile(mean[None, None], [batch_size, DAY, 1]), **states}

    specs = {name: tf.TensorSpec(shape) for name, shape in shapes.items()}
    example = {"chunk": np.broadcast_to(mean, (1, 1, channels)), **initial_state(tf.constant(1))}
    return {
        "stream": (stream, specs, example),
        "initial_state": (
            initial_state,
            {"batch_size": tf.TensorSpec([], tf.int32)},
            {"batch_size": 1},
        ),
    }


def main(args: argparse.Namespace) -> None:
    values, channels, (train_end, validation_end, end) = load(args.dataset, args.csv, args.seed)
    training.begin(args, values, channels, extendable=True)
    parts = np.diff([0, train_end, validation_end, end])
    if args.lookback + args.horizon > train_end or args.horizon > min(parts):
        raise SystemExit(
            f"--lookback {args.lookback} and --horizon {args.horizon} do not fit into "
            f"{args.dataset}, whose three parts are {parts} hours long."
        )
    mean, std = values[:train_end].mean(axis=0), values[:train_end].std(axis=0)

    def part(first, last):
        return windows(values, (values - mean) / std, first, last, args.lookback, args.horizon)

    train = part(0, train_end).cache().shuffle(train_end).batch(BATCH)
    train = train.take(args.steps or -1).prefetch(2)
    validation = part(train_end, validation_end).batch(BATCH).cache()
    test = part(validation_end, end).batch(BATCH).cache()
    of_kind = build_streaming if args.streaming else build
    model = of_kind(mean, std, args.lookback, args.horizon, args.cell)
    rate = keras.optimizers.schedules.ExponentialDecay(1e-3, 3 * len(train), 0.7)
    model.compile(keras.optimizers.Adam(rate), "mse", metrics=["mae"])
    model.summary()

    trained = training.fit(model, train, validation, args, best=("val_loss", "min"))
    scores = {
        "validation": evaluate(model, validation, mean, std),
        "test": evaluate(model, test, mean, std),
    }
    served = signatures(model, mean, std)
    if args.streaming:
        served |= stream_signatures(model, mean, std)
        for name, ends in (
            ("validation", (train_end, validation_end)),
            ("test", (validation_end, end)),
        ):
            found = evaluate_as_one_stream(served, values, std, *ends, args.lookback)
            scores[name]["model, one stream"] = found
    training.write_metrics(args, trained, model, **scores)
    pictures.curves(args.output / "curves.png", trained["history"], trained["best_epoch"])
    print(f"Test, {scores['test']['windows']} windows, standardized:")
    for name, score in list(scores["test"].items())[1:]:
        print(f"  {name:22} MSE {score['mse']:.4f}  MAE {score['mae']:.4f}")

    version = publishing.publish(model, args.saved_models / args.recipe, served, args.keep)
    window, truth = (x[:1] for x in next(iter(test)))
    predicted = served["serving_default"][0](window)["forecast"]
    title = f"{args.dataset}, {args.cell}: the first window of the test months"
    picture = args.output / "forecast.png"
    pictures.forecast(picture, window[0], truth[0] * std + mean, predicted[0], channels, title)
    print(f"Exported to {version}; pictures and metrics are in {args.output}.")


if __name__ == "__main__":
    command_line.run(main, ARGS)
