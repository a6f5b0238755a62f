"""Training that can be killed at any moment and goes on where it was.

After every epoch the weights (with the optimizer's) and then the history are written
beside and renamed, so that what is on disk is always whole. The best validation epoch
is kept, over interruptions too.
"""

import json
import os
import shutil
import time
from pathlib import Path

import keras


def fit(model: keras.Model, train, validation, args, *, best: tuple[str, str]) -> dict:
    """Trains `model` for `args.epochs`, then gives it the weights of its best epoch.

    Args:
        train, validation: Datasets.
        args: The recipe's arguments; a run under `args.output` is taken up again only
            if it was started with the same.
        best: What makes an epoch the best, and how: ("val_accuracy", "max").

    Returns:
        {"history": {metric: [a value for each epoch]}, "best_epoch": from 1,
        "seconds": spent in training}.
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
    model.load_weights(keep.folder / "best.weights.h5")
    seconds = sum(row.pop("seconds") for row in keep.rows)
    history = {name: [row[name] for row in keep.rows] for name in keep.rows[0]}
    return {"history": history, "best_epoch": keep.best_epoch, "seconds": round(seconds, 1)}


class KeepEpochs(keras.callbacks.Callback):
    """Keeps, in `args.output`/checkpoints, the last epoch, the best one and the history."""

    def __init__(self, args, metric: str, mode: str):
        super().__init__()
        self.folder = args.output / "checkpoints"
        self.history = self.folder / "history.json"
        self.metric, self.better = metric, {"max": max, "min": min}[mode]
        self.rows = []
        # --epochs may grow, and the folders may move.
        self.run = {k: v for k, v in vars(args).items() if k not in ("epochs", *_PLACES)}

    def restore(self, model) -> int:
        """Takes up what an earlier run left; returns how many epochs that were."""
        if not self.history.exists():
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            return 0
        kept = json.loads(self.history.read_text())
        if kept["run"] != self.run:
            raise SystemExit(
                f"{self.folder.parent} holds a run with other arguments: {kept['run']}, and "
                f"this one has {self.run}. Give another --output, or delete that folder."
            )
        self.rows = kept["epochs"]
        model.optimizer.build(model.trainable_variables)
        model.load_weights(self.folder / "last.weights.h5")
        return len(self.rows)

    @property
    def best_epoch(self) -> int:
        values = [row[self.metric] for row in self.rows]
        return values.index(self.better(values)) + 1

    def on_epoch_begin(self, epoch, logs=None):
        self.begun = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        row = {name: float(value) for name, value in logs.items()}
        self.rows.append({**row, "seconds": time.monotonic() - self.begun})
        last = self.folder / "last.weights.h5"
        write(last, self.model.save_weights)
        if self.best_epoch == len(self.rows):
            write(self.folder / "best.weights.h5", lambda path: shutil.copyfile(last, path))
        text = json.dumps({"run": self.run, "epochs": self.rows}, indent=1)
        write(self.history, lambda path: path.write_text(text))


_PLACES = ("output", "saved_models", "csv")


def write(path: Path, writer) -> None:
    """Has `writer` write the file beside its place, then puts it there at once."""
    beside = path.with_name(f".writing-{path.name}")
    writer(beside)
    os.replace(beside, path)


def write_metrics(args, trained: dict, model: keras.Model, **scores) -> None:
    """Writes `args.output`/metrics.json: how the run was made, and what came out."""
    metrics = {
        **{k: v for k, v in vars(args).items() if k not in _PLACES},
        "parameters": model.count_params(),
        "best_epoch": trained["best_epoch"],
        "training_seconds": trained["seconds"],
        **scores,
    }
    text = json.dumps(metrics, indent=1)
    write(args.output / "metrics.json", lambda path: path.write_text(text))
