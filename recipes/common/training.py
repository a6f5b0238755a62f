"""Training that can be killed at any moment and goes on where it was.

After every epoch the weights (with the optimizer's) are written to a file of their own,
and then the history: an epoch counts once it is in the history. What the history does not
need any more is deleted last. The best validation epoch is kept, over interruptions too,
and so is the epoch before the last, in case the last one's file is damaged.
"""

import argparse
import hashlib
import json
import math
import shutil
import time
import warnings
from pathlib import Path

import h5py
import keras
import numpy as np
import tensorflow as tf

from recipes.common import files, workers

# Arguments that don't make a run another one: where things lie, for what was read counts by its
# content, and what is only asked in the end.
NOT_OF_THE_RUN = (
    "output",
    "saved_models",
    "workers",
    "keep",
    "restart",
    "onnx",
    "litert",
    "data",
    "test_data",
    "validation_data",
    "questions",
    "analogy",
    "words",
    "generate",
    "length",
    "temperature",
    "top_k",
    "top_p",
)

# Nor do these files' names, which metrics.json has: their content counts.
STARTED_FROM = "embeddings", "pretrained"

# What `args.output` has of a run that has come to its end, and is of its weights.
MADE_OF_WEIGHTS = "metrics.json", "other_runtimes.json", "onnx", "litert"
MADE_OF_WEIGHTS += "encoder.keras", "vocabulary.txt", "vectors.txt"


def seed(args: argparse.Namespace) -> None:
    """Seeds everything. A run that goes on must not draw what it drew in its first epoch again.

    Raises:
        SystemExit: If another process works in `args.output`.
    """
    if workers.is_chief() and (args.output / "checkpoints").exists():
        files.keep_others_out(args.output)
    done = 0 if args.restart else epochs_done(args.output)
    keras.utils.set_random_seed(args.seed + done)


def begin(args: argparse.Namespace, *data, extendable: bool = False) -> None:
    """Makes sure that what lies under `args.output` is this run.

    Args:
        args: The recipe's arguments. They get `data_read`, the fingerprint of `data`.
        data: What was read: arrays, texts, numbers, and lists, tuples and dicts of them.
        extendable: Whether the run may go on for more epochs than it was started with, as
            its learning rate does not depend on their number.

    Raises:
        SystemExit: If `args.output` holds a run that differs, or one that can't be read, or if
            another process works there.
    """
    args.data_read, args.extendable = fingerprint(*data), extendable
    if workers.is_chief():
        files.keep_others_out(args.output)
        if args.restart:
            delete_what_was_made(args)
            for folder in ("checkpoints", "tensorboard"):
                shutil.rmtree(args.output / folder, ignore_errors=True)
    kept = None if args.restart else history(args.output)
    done = len(kept["epochs"]) if kept else 0
    workers.agree({"data read, by fingerprint": args.data_read, "epochs done in --output": done})
    if kept:
        refuse_another(kept, args)


def delete_what_was_made(args: argparse.Namespace) -> None:
    """Of weights that are not the run's any more; but nothing that this run starts from."""
    there = (args.output / "checkpoints" / "history.json").exists()  # else others have made it
    starts = keras.tree.flatten([getattr(args, name, None) or [] for name in STARTED_FROM])
    starts = {Path(x).resolve() for x in starts}
    for name in MADE_OF_WEIGHTS if there else MADE_OF_WEIGHTS[:1]:
        path = args.output / name
        if starts & {path.resolve(), path.parent.resolve()}:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def enough_epochs(examples: int, batch: int, batches: int) -> int:
    """How long to train on data of a size not known before: `batches`, in 4 to 60 epochs."""
    return min(60, max(4, math.ceil(batches * batch / examples)))


def refuse_another(kept: dict, args: argparse.Namespace) -> None:
    """Ends the program if the run of which `kept` is the history was started otherwise."""
    now = identity(args)
    before = {name: value for name, value in kept["run"].items() if name not in STARTED_FROM}
    differences = []
    for name in [*now, *(name for name in before if name not in now)]:
        there, here = before.get(name), now.get(name)
        if name == "epochs" and args.extendable:
            if here < len(kept["epochs"]):
                differences.append(f"--epochs: {len(kept['epochs'])} are done, {here} here")
        elif there != here:
            option = "data read, by fingerprint" if name == "data_read" else f"--{name}"
            why = " (the learning rate falls over all epochs, so none can be added)"
            differences.append(
                f"{option.replace('_', '-')}: {there} there, {here} here"
                + (why if name == "epochs" else "")
            )
    if differences:
        raise SystemExit(
            f"{args.output} holds a run that differs:\n  "
            + "\n  ".join(differences)
            + "\nGive another --output, or begin anew with --restart, which deletes that run."
        )


def identity(args: argparse.Namespace) -> dict:
    """What makes a run this one."""
    others = *NOT_OF_THE_RUN, *STARTED_FROM, "extendable"
    return {k: v for k, v in vars(args).items() if k not in others}


def fingerprint(*data) -> str:
    """The first 16 digits of a SHA-256 over all content of `data`."""
    digest = hashlib.sha256()

    def add(value):
        if isinstance(value, np.ndarray) and value.dtype != object:
            digest.update(f"{value.dtype}{value.shape}".encode())
            digest.update(np.ascontiguousarray(value).data)
        elif isinstance(value, (list, tuple, np.ndarray)):
            digest.update(f"[{len(value)}".encode())
            for x in value:
                add(x)
        elif isinstance(value, dict):
            add([*value.items()])
        else:
            text = value if isinstance(value, bytes) else str(value).encode()
            digest.update(f"{len(text)}:".encode())
            digest.update(text)

    add(data)
    return digest.hexdigest()[:16]


def history(output: Path) -> dict | None:
    """{"run": how the run in this folder was started, "epochs": [metrics]}; None without one.

    Epochs whose weights can't be read are left out, the last ones first.

    Raises:
        SystemExit: If the history itself can't be read, or the weights of no epoch.
    """
    path = output / "checkpoints" / "history.json"
    if not path.exists():
        return None
    way_on = f"--restart begins anew; or delete {path.parent}"
    try:
        kept = json.loads(path.read_text("utf-8"))
        kept = {"run": dict(kept["run"]), "epochs": list(kept["epochs"])}
    except (ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"{path} is damaged ({error}). {way_on}.") from error
    while kept["epochs"] and not readable(weights(output, len(kept["epochs"]))):
        kept["epochs"].pop()
    if not kept["epochs"]:
        raise SystemExit(f"No weights in {path.parent} can be read. {way_on}.")
    return kept


def weights(output: Path, epoch: int) -> Path:
    return output / "checkpoints" / f"{epoch}.weights.h5"


def load(model: keras.Model, output: Path, epoch: int) -> None:
    """Gives `model` and its optimizer what they were after an epoch.

    Raises:
        SystemExit: If they are not of the kind that made the file.
    """
    path = weights(output, epoch)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Skipping variable loading")  # else Keras just warns
        try:
            model.load_weights(path)
        except (UserWarning, ValueError) as error:
            raise SystemExit(
                f"{path} does not fit: it is of another version of this recipe, or of Keras. "
                "--restart begins anew, and deletes that run; or give another --output."
            ) from error


def readable(path: Path) -> bool:
    """Whether an HDF5 file is there, and not cut off."""
    try:
        h5py.File(path).close()
    except OSError:
        return False
    return True


def size_of(model: keras.Model) -> int:
    """The bytes of its weights and of its optimizer's."""
    variables = [*model.variables, *model.optimizer.variables]
    return sum(x.numpy().nbytes for x in variables)


def epochs_done(output: Path) -> int:
    """How many epochs of an earlier run are in its folder, to go on from."""
    kept = history(output)
    return len(kept["epochs"]) if kept else 0


def fit(
    model: keras.Model,
    train: tf.data.Dataset,
    validation: tf.data.Dataset,
    args: argparse.Namespace,
    *,
    best: tuple[str, str],
    parts: int = 1,
) -> dict:
    """Trains `model` for `args.epochs`, then gives it the weights of its best epoch.

    With an optimizer that keeps a mean of the weights (`use_ema`), that is what is validated,
    and what the model is given.

    Args:
        train, validation: Datasets.
        args: The recipe's arguments, after `begin`.
        best: What makes an epoch the best, and how: ("val_accuracy", "max").
        parts: How many times `train` is gone through in an epoch. Each counts as one from here on.

    Returns:
        {"history": {metric: [a value for each epoch]}, "best_epoch": from 1,
        "seconds": spent in training}.

    Raises:
        SystemExit: If training diverges: a loss or metric is no finite number.
    """
    # Else its variables are made while the first step is traced, which is then traced again.
    model.optimizer.build(model.trainable_variables)
    keep = KeepEpochs(args, *best)
    epochs, done = args.epochs * parts, keep.restore(model)
    if done:
        print(f"Going on after epoch {done} of the run in {args.output}.")
    if done < epochs:
        callbacks = [keep, Progress()]
        if workers.is_chief():
            delete_what_was_made(args)
            logs = keras.callbacks.TensorBoard(args.output / "tensorboard", write_graph=False)
            callbacks.append(logs)
        if model.optimizer.use_ema:  # what is validated is the mean of the weights
            callbacks.append(keras.callbacks.SwapEMAWeights())
        if workers.count() > 1:
            train, validation = workers.share_steps(model, train, validation)
        model.fit(
            train,
            validation_data=validation,
            initial_epoch=done,
            epochs=epochs,
            shuffle=False,  # the datasets do
            callbacks=callbacks,
        )
    workers.leave_the_rest_to_the_chief()
    load(model, args.output, keep.best_epoch())
    model.optimizer.finalize_variable_values(model.trainable_variables)  # their mean, if wanted
    seconds = sum(row.pop("seconds") for row in keep.rows)
    found = {name: [row[name] for row in keep.rows] for name in keep.rows[0]}
    return {"history": found, "best_epoch": keep.best_epoch(), "seconds": round(seconds, 1)}


class KeepEpochs(keras.callbacks.Callback):
    """Keeps, in `args.output`/checkpoints, the last two epochs, the best one and the history."""

    def __init__(self, args: argparse.Namespace, metric: str, mode: str):
        super().__init__()
        self.args, self.rows = args, []
        self.metric, self.better = metric, {"max": max, "min": min}[mode]

    def restore(self, model: keras.Model) -> int:
        """Takes up what an earlier run left; returns how many epochs that were."""
        kept = history(self.args.output)
        if not kept:
            return 0
        self.rows = kept["epochs"]
        load(model, self.args.output, len(self.rows))
        return len(self.rows)

    def best_epoch(self, among: int | None = None) -> int:
        """From 1; of the first `among`, or of all."""
        values = [row[self.metric] for row in self.rows[:among]]
        return values.index(self.better(values)) + 1

    def on_epoch_begin(self, epoch, logs=None):
        self.begun = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        if batch % 20 == 0:
            self.refuse_diverged(logs)

    def on_epoch_end(self, epoch, logs=None):
        self.refuse_diverged(logs)
        row = {name: float(value) for name, value in logs.items()}
        self.rows.append({**row, "seconds": time.monotonic() - self.begun})
        if not workers.is_chief():
            return
        last = len(self.rows)
        folder = self.args.output / "checkpoints"
        files.make_sure_of_room(folder, 2 * size_of(self.model))
        files.write(weights(self.args.output, last), self.model.save_weights)
        found = {"run": identity(self.args), "epochs": self.rows}
        files.write_json(folder / "history.json", found)
        # Should the last epoch's file get damaged, the run goes on from the one before.
        needed = {last, self.best_epoch()}
        needed |= {last - 1, self.best_epoch(last - 1)} if last > 1 else set()
        kept = {weights(self.args.output, epoch) for epoch in needed}
        for old in set(folder.glob("*.weights.h5")) - kept:
            old.unlink()

    def refuse_diverged(self, logs: dict) -> None:
        lost = [name for name, value in logs.items() if not math.isfinite(value)]
        if lost:
            raise SystemExit(
                f"\nTraining diverged in epoch {len(self.rows) + 1}: {', '.join(lost)} is "
                f"{logs[lost[0]]}. Nothing is exported. Are there extreme values in the data? "
                "Another --seed may do better, too."
            )


class Progress(keras.callbacks.ProgbarLogger):
    """Keras's bar, started after the first batch: what compiling takes tells nothing of others."""

    compiled = False

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        if self.compiled:
            super().on_epoch_begin(epoch, logs)
        else:
            print("Compiling; up to a minute the first time.", flush=True)

    def on_train_batch_end(self, batch, logs=None):
        if self.compiled:
            super().on_train_batch_end(batch, logs)
        else:
            self.compiled = True
            super().on_epoch_begin(self.epoch)


def write_metrics(args: argparse.Namespace, trained: dict, model: keras.Model, **scores) -> None:
    """Writes `args.output`/metrics.json: how the run was made, and what came out."""
    metrics = {
        **identity(args),
        **{name: given for name in STARTED_FROM if (given := getattr(args, name, None))},
        "parameters": model.count_params(),
        "best_epoch": trained["best_epoch"],
        "of_epochs": len(trained["history"]["loss"]),  # more than `epochs` if each is in parts
        "training_seconds": trained["seconds"],
        "workers": workers.count(),
        **scores,
    }
    files.write_json(args.output / "metrics.json", metrics)
