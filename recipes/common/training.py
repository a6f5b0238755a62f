"""Training that can be killed at any moment and goes on where it was.

After every epoch the weights (with the optimizer's) are written to a file of their own,
and then the history: an epoch counts once it is in the history. What the history does not
need any more is deleted last. The best validation epoch is kept, over interruptions too.
"""

import argparse
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import keras
import tensorflow as tf

# Where things lie, and what is asked in the end, does not make a run another one.
PLACES = ("output", "saved_models", "keep", "csv", "questions", "analogy", "words")


def fit(
    model: keras.Model,
    train: tf.data.Dataset,
    validation: tf.data.Dataset,
    args: argparse.Namespace,
    *,
    best: tuple[str, str],
) -> dict:
    """Trains `model` for `args.epochs`, then gives it the weights of its best epoch.

    Args:
        train, validation: Datasets.
        args: The recipe's arguments; a run under `args.output` is taken up again only
            if it was started with the same.
        best: What makes an epoch the best, and how: ("val_accuracy", "max").

    Returns:
        {"history": {metric: [a value for each epoch]}, "best_epoch": from 1,
        "seconds": spent in training}.

    Raises:
        SystemExit: If `args.output` holds a run with other arguments.
    """
    keep = KeepEpochs(args, *best)
    done = keep.restore(model)
    if done:
        print(f"Going on after epoch {done} of the run in {args.output}.")
    if done < args.epochs:
        logs = keras.callbacks.TensorBoard(args.output / "tensorboard", write_graph=False)
        model.fit(
            train,
            validation_data=validation,
            initial_epoch=done,
            epochs=args.epochs,
            shuffle=False,  # the datasets do
            callbacks=[keep, logs],
        )
    model.load_weights(keep.weights(keep.best_epoch))
    seconds = sum(row.pop("seconds") for row in keep.rows)
    history = {name: [row[name] for row in keep.rows] for name in keep.rows[0]}
    return {"history": history, "best_epoch": keep.best_epoch, "seconds": round(seconds, 1)}


def epochs_done(output: Path) -> int:
    """How many epochs of an earlier run are in its folder."""
    history = output / "checkpoints" / "history.json"
    return len(json.loads(history.read_text())["epochs"]) if history.exists() else 0


class KeepEpochs(keras.callbacks.Callback):
    """Keeps, in `args.output`/checkpoints, the last epoch, the best one and the history."""

    def __init__(self, args: argparse.Namespace, metric: str, mode: str):
        super().__init__()
        self.folder = args.output / "checkpoints"
        self.history = self.folder / "history.json"
        self.metric, self.better = metric, {"max": max, "min": min}[mode]
        self.rows = []
        self.run = {k: v for k, v in vars(args).items() if k not in PLACES}

    def weights(self, epoch: int) -> Path:
        return self.folder / f"{epoch}.weights.h5"

    def restore(self, model: keras.Model) -> int:
        """Takes up what an earlier run left; returns how many epochs that were."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.history.exists():
            return 0
        kept = json.loads(self.history.read_text())
        if kept["run"] != self.run:
            raise SystemExit(
                f"{self.folder.parent} holds a run with other arguments: {kept['run']}, and "
                f"this one has {self.run}. Give another --output, or delete that folder."
            )
        self.rows = kept["epochs"]
        model.optimizer.build(model.trainable_variables)
        model.load_weights(self.weights(len(self.rows)))
        return len(self.rows)

    @property
    def best_epoch(self) -> int:
        values = [row[self.metric] for row in self.rows]
        numbers = [value for value in values if not math.isnan(value)]
        return values.index(self.better(numbers or values)) + 1

    def on_epoch_begin(self, epoch, logs=None):
        self.begun = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        row = {name: float(value) for name, value in logs.items()}
        self.rows.append({**row, "seconds": time.monotonic() - self.begun})
        write(self.weights(len(self.rows)), self.model.save_weights)
        text = json.dumps({"run": self.run, "epochs": self.rows}, indent=1)
        write(self.history, lambda path: path.write_text(text))
        needed = {self.weights(len(self.rows)), self.weights(self.best_epoch)}
        for old in set(self.folder.glob("*.weights.h5")) - needed:
            old.unlink()


def write(path: Path, writer: Callable[[Path], object]) -> None:
    """Has `writer` write the file beside its place, then puts it there at once."""
    beside = path.with_name(f".writing-{path.name}")
    writer(beside)
    os.replace(beside, path)


def write_metrics(args: argparse.Namespace, trained: dict, model: keras.Model, **scores) -> None:
    """Writes `args.output`/metrics.json: how the run was made, and what came out."""
    metrics = {
        **{k: v for k, v in vars(args).items() if k not in PLACES},
        "parameters": model.count_params(),
        "best_epoch": trained["best_epoch"],
        "training_seconds": trained["seconds"],
        **scores,
    }
    text = json.dumps(metrics, indent=1)
    write(args.output / "metrics.json", lambda path: path.write_text(text))
