"""Which cell: what each learns on four tasks, with equally many parameters.

    python recipes/which_cell.py                       # some hours of a core
    python recipes/which_cell.py --tasks forecasting --cells lstm gru
    python recipes/which_cell.py --dataset sample      # built-in data, no download

One recurrent layer stands between an embedding and a dense layer, so that it alone makes the
difference; all have as many parameters, those that read both ways as those that read one way.
Each starts from `--seeds` seeds. Which of two learning rates it has, the validation data of the
first seed decide, and which epoch counts, those of each. Test data are looked at once.

    tagging        words of English-EWT, a tag for each; accuracy
    sentiment      the last 100 words of IMDB's reviews, each unit's strongest answer; accuracy
    characters     Shakespeare's last tenth, the next character; nats
    forecasting    ETTh1, 96 hours from 96, six of a channel at a time; squared error

These networks are small and trained for a minute: they say which cell learns more from as much,
not how good a task can be done. A run that was stopped goes on. Nothing is exported.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # to be run from anywhere

from recipes.common import command_line

TASKS = "tagging", "sentiment", "characters", "forecasting"
CELLS = "simple_rnn", "lstm", "gru", "gru_of_the_notes", "peephole", "coupled", "projected"
CELLS += "layer_norm", "zoneout", "ind_rnn"


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = command_line.study_parser("which_cell", __doc__)
    add, whole = parser.add_argument, command_line.positive
    add("--tasks", nargs="+", choices=TASKS, default=TASKS, help="default: all")
    add("--cells", nargs="+", choices=CELLS, default=CELLS, help="default: all")
    add("--seeds", type=whole, default=3, help="from --seed on; default: 3")
    add("--parameters", type=whole, default=33_000, help="of the layer, about; default: 33000")
    add("--epochs", type=whole, help="default: each task's own")
    add("--dataset", choices=("known", "sample"), default="known", help="default: known")
    add("--data", type=command_line.file, metavar="CSV", help="ETTh1, if it is here already")
    args = command_line.parse_study(parser, argv)
    if args.data and args.dataset == "sample":
        parser.error("--dataset sample is built in: leave out --data")
    return args


if __name__ == "__main__":
    ARGS = command_line.start(arguments)  # before what takes seconds to import

import keras
import numpy as np
import tensorflow as tf
from keras import ops

import layers
from recipes import forecasting, language_model, pos_tagging, sentiment
from recipes.common import (
    carried,
    equal_parameters,
    files,
    masked_pooling,
    pictures,
    prepared_data,
    training,
    words,
)
from recipes.common.word_dropout import WordDropout

WAYS = {"one way": False, "both ways": True}
LAYERS = {
    "simple_rnn": layers.SimpleRNN,
    "lstm": layers.LSTM,
    "gru": layers.GRU,
    "gru_of_the_notes": lambda n, **kw: layers.GRU(
        n, reset_after=False, update_gate="replace", **kw
    ),
    "peephole": layers.PeepholeLSTM,
    "coupled": layers.CoupledLSTM,
    "projected": lambda n, **kw: layers.ProjectedLSTM(n, max(1, n // 2), **kw),
    "layer_norm": layers.LayerNormLSTM,
    "zoneout": lambda n, **kw: layers.ZoneoutLSTM(n, zoneout_c=0.1, zoneout_h=0.05, **kw),
    "ind_rnn": layers.IndRNN,
}
FEATURES = 64  # that each recurrent layer reads
RATES = 1e-3, 4e-3
STREAMS = 64  # of text
WORDS = 100  # of a review


class Task(NamedTuple):
    """What is to be learned.

    Attributes:
        train: Makes the dataset to train on, shuffled; but a text's pieces stay in order.
        later: The datasets for validation, and for the test.
        network: From a function of (features, mask) to a model; the function is the layer.
        loss: A Keras loss.
        score: The metric; "loss" or the name of one of Keras's.
        epochs: How many are enough.
        sequences: Whether the layer puts out every step, not the last alone.
    """

    train: Callable[[], tf.data.Dataset]
    later: list[tf.data.Dataset]
    network: Callable[[Callable], keras.Model]
    loss: keras.losses.Loss
    score: str
    epochs: int
    sequences: bool = True


# --- The tasks ---------------------------------------------------------------------------------


def tagging(args: argparse.Namespace) -> Task:
    known = "ud_english_ewt" if args.dataset == "known" else "sample"
    data, tags = pos_tagging.load(known, args.seed)
    vocabulary = sorted({word.lower() for words, _ in data["train"] for word in words})
    later = [pos_tagging.batches(data[name], tags, False) for name in ("validation", "test")]

    def train():
        return pos_tagging.batches(data["train"], tags, True)

    def network(read):
        text = keras.Input((None,), dtype="string")
        numbers = pos_tagging.Numbers(vocabulary, name="vocabulary")(text)
        numbers = WordDropout(len(vocabulary) + 2, 0.1)(numbers)
        x = keras.layers.Embedding(len(vocabulary) + 2, FEATURES)(numbers)
        x = read(keras.layers.Dropout(0.3)(x), numbers != 0)
        x = keras.layers.Dropout(0.3)(x)
        return keras.Model(text, keras.layers.Dense(len(tags), "softmax")(x))

    loss = keras.losses.SparseCategoricalCrossentropy(reduction="mean_with_sample_weight")
    return Task(train, later, network, loss, "accuracy", 3)


def of_reviews(args: argparse.Namespace) -> Task:
    data, _ = sentiment.load("imdb" if args.dataset == "known" else "sample", args.seed)
    number = words.vectorization()
    number.adapt(tf.data.Dataset.from_tensor_slices(data["train"][0]).batch(1000))

    def part(name):
        texts, labels = data[name]
        rows = [number(tf.constant(texts[i : i + 500])) for i in range(0, len(texts), 500)]
        found = np.zeros((len(texts), WORDS), "int32")
        for row, numbers in zip(found, (x for some in rows for x in some.numpy())):
            last = numbers[numbers != 0][-WORDS:]
            row[: len(last)] = last
        labels = np.array(labels, "float32")[:, None]
        return tf.data.Dataset.from_tensor_slices((found, labels))

    learned, *later = map(part, ("train", "validation", "test"))
    later = [found.batch(64) for found in later]

    def train():
        return learned.shuffle(len(learned)).batch(64).prefetch(2)

    def network(read):
        numbers = keras.Input((WORDS,), dtype="int32")
        mask = numbers != 0
        shown = WordDropout(sentiment.FREQUENT, 0.1)(numbers)
        x = keras.layers.Embedding(sentiment.FREQUENT, FEATURES)(shown)
        x = read(keras.layers.SpatialDropout1D(0.3)(x), mask)
        x = keras.layers.Dropout(0.3)(masked_pooling.highest(x, mask))
        return keras.Model(numbers, keras.layers.Dense(1)(x))

    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    return Task(train, later, network, loss, "accuracy", 3)


def characters(args: argparse.Namespace) -> Task:
    args = argparse.Namespace(**vars(args) | {"data": None})
    args.dataset = "tiny_shakespeare" if args.dataset == "known" else "sample"
    rest, test = language_model.split(language_model.load(args))
    known, train, validation = language_model.number_characters(*language_model.split(rest))
    test = known.numbers(tf.constant([test])).flat_values.numpy()
    streams = min(STREAMS, len(test) // (3 * language_model.PIECE))
    later = [language_model.batches(part, streams) for part in (validation, test)]

    def in_streams():
        return language_model.batches(train, streams, args.seed)

    def network(read):
        numbers = keras.Input((None,), dtype="int32", name="numbers")
        x = keras.layers.Embedding(len(known), FEATURES)(numbers)
        x = keras.layers.Dense(len(known), name="logits")(read(x, None))
        return carried.Carried(keras.Model(numbers, x, name="characters"), streams)

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return Task(in_streams, later, network, loss, "loss", 6)


def of_series(args: argparse.Namespace) -> Task:
    name = "etth1" if args.dataset == "known" else "sample"
    data, ends = forecasting.load(name, args.data, args.seed)
    known = data.values[: ends[0]]
    values = (data.values - known.mean(axis=0)) / known.std(axis=0)
    channels, hours = values.shape[1], 6

    def part(first, last):
        return forecasting.windows(values, values, forecasting.starts(first, last, 96, 96), 96, 96)

    learned = part(0, ends[0]).cache()
    later = [part(*steps).batch(256).cache() for steps in (ends[:2], ends[1:])]

    def train():
        return learned.shuffle(ends[0]).batch(128)

    def network(read):
        window = keras.Input((96, channels))
        level = window[:, -1:]
        x = ops.transpose(window - level, (0, 2, 1))
        x = ops.reshape(x, (-1, 96 // hours, hours))
        x = read(keras.layers.Dense(FEATURES, "relu")(x), None)
        x = keras.layers.Dense(96)(keras.layers.Dropout(0.3)(x))
        x = ops.transpose(ops.reshape(x, (-1, channels, 96)), (0, 2, 1))
        return keras.Model(window, x + level)

    return Task(train, later, network, keras.losses.MeanSquaredError(), "mse", 8, sequences=False)


TASK = dict(zip(TASKS, (tagging, of_reviews, characters, of_series)))


# --- Layers of equal size ------------------------------------------------------------------------


def make_layer(name: str, units: int, sequences: bool, both: bool) -> keras.layers.Layer:
    layer = LAYERS[name](units, return_sequences=sequences)
    return layers.Bidirectional(layer) if both else layer


def size(name: str, units: int, both: bool) -> int:
    """How many parameters a layer has."""
    layer = make_layer(name, units, True, both)
    layer.build((None, None, FEATURES))
    return layer.count_params()


# --- Training ------------------------------------------------------------------------------------


class Cosine(keras.callbacks.Callback):
    """A learning rate that falls to nothing, set from outside so that one compiled step serves
    all; and the seconds of a processor that steps take."""

    def __init__(self, rate: float, steps: int):
        super().__init__()
        self.rate, self.steps, self.done, self.seconds = rate, steps, 0, 0.0

    def on_train_batch_begin(self, batch, logs=None):
        rate = self.rate * (1 + math.cos(math.pi * self.done / self.steps)) / 2
        self.model.optimizer.learning_rate.assign(rate)
        self.begun = time.process_time()

    def on_train_batch_end(self, batch, logs=None):
        self.seconds += (time.process_time() - self.begun) if self.done else 0  # not compiling
        self.done += 1


def train_and_score(task: Task, name: str, both: bool, args: argparse.Namespace) -> dict:
    """How a cell does on a task: its scores from each seed."""
    units = equal_parameters.units(lambda n: size(name, n, both), args.parameters)

    def fresh(seed):
        keras.utils.set_random_seed(seed)
        layer = make_layer(name, units, task.sequences, both)
        return task.network(lambda x, mask: layer(x, mask=mask))

    model, better = fresh(args.seed), max if task.score == "accuracy" else min
    metrics = [] if task.score == "loss" else [task.score]
    model.compile(keras.optimizers.Adam(clipnorm=1.0), task.loss, weighted_metrics=metrics)
    model.optimizer.build(model.trainable_variables)
    validation, test = task.later
    epochs = args.epochs or task.epochs
    worst = -math.inf if better is max else math.inf

    def run(seed, rate):
        """(its best validation score, the seconds that it took to learn)."""
        for old, new in zip(model.variables, fresh(seed).variables):
            old.assign(new)
        for x in model.optimizer.variables:
            x.assign(ops.zeros_like(x))
        train = task.train()  # after the seed, by which its order is drawn
        paced = Cosine(rate, epochs * len(train))
        best = {"monitor": f"val_{task.score}", "mode": better.__name__, "patience": epochs}
        keep = keras.callbacks.EarlyStopping(**best, restore_best_weights=True)
        calls = [paced, keep, keras.callbacks.TerminateOnNaN()]
        how = {"epochs": epochs, "callbacks": calls, "verbose": 0, "shuffle": False}
        trained = model.fit(train, validation_data=validation, **how)
        found = [x for x in trained.history.get(best["monitor"], []) if math.isfinite(x)]
        found = better(found) if paced.done == epochs * len(train) and found else worst
        return found, round(paced.seconds, 2)

    def tested():
        return float(model.evaluate(test, verbose=0, return_dict=True)[task.score])

    tries = {}
    for rate in RATES:
        score, seconds = run(args.seed, rate)
        tries[rate] = score
        if score == better(tries.values()):
            first, weights, chosen = (score, seconds), model.get_weights(), rate
    model.set_weights(weights)
    rows = [(*first, tested())]
    for seed in range(args.seed + 1, args.seed + args.seeds):
        rows.append((*run(seed, chosen), tested()))
    columns = dict(zip(("validation", "seconds", "test"), map(list, zip(*rows))))
    parameters = size(name, units, both)
    return {"units": units, "parameters": parameters, "rate": chosen, "tries": tries, **columns}


# --- The study -----------------------------------------------------------------------------------


def markdown(found: dict[str, dict]) -> str:
    """A table of mean test scores, and of the farthest from each."""
    lines = ["| task | cell | units | parameters | seconds | test | ± |", f"|{'---|' * 7}"]
    for name, row in found.items():
        task, cell, how = name.split("/")
        mean = np.mean(row["test"])
        apart = np.abs(np.subtract(row["test"], mean)).max()
        seconds = np.median(row["seconds"])
        shown = [task, f"{cell}, {how}", row["units"], f"{row['parameters']:,}"]
        shown += [f"{seconds:.0f}", f"{mean:.4f}", f"{apart:.4f}"]
        lines.append(f"| {' | '.join(map(str, shown))} |")
    return "\n".join(lines) + "\n"


def main(args: argparse.Namespace) -> None:
    files.keep_others_out(args.output)
    path = args.output / "metrics.json"
    begun = {k: v for k, v in vars(args).items() if k not in ("output", "tasks", "cells", "data")}
    kept = json.loads(path.read_text("utf-8")) if path.exists() else {"run": begun, "cells": {}}
    if kept["run"] != begun:
        raise SystemExit(f"{args.output} holds another study, {kept['run']}: give another --output")
    if "forecasting" in args.tasks and args.dataset == "known":
        series = Path(args.data or prepared_data.etth1())
        read = training.fingerprint(series.read_bytes())
        if kept.setdefault("series_read", read) != read:
            raise SystemExit(f"{args.output} is a study of another series: give another --output.")
    found = kept["cells"]
    for task_name in args.tasks:
        ways = [*WAYS][:1] if task_name == "characters" else WAYS  # none may read what comes next
        names = [f"{task_name}/{cell}/{how}" for cell in args.cells for how in ways]
        if all(name in found for name in names):
            continue
        task = TASK[task_name](args)
        for name in names:
            if name in found:
                continue
            _, cell, how = name.split("/")
            found[name] = train_and_score(task, cell, WAYS[how], args)
            files.write_json(path, kept)
            keras.backend.clear_session()
            scores = ", ".join(f"{x:.4f}" for x in found[name]["test"])
            print(f"{name:40} {scores}  {np.median(found[name]['seconds']):.0f} s", flush=True)
    text = markdown(found)
    files.write(args.output / "table.md", lambda path: path.write_text(text))
    pictures.which_cell(args.output / "which_cell.png", found)
    print(f"\n{text}\nTable, picture and numbers are in {args.output}.")


if __name__ == "__main__":
    command_line.run(main, ARGS)
