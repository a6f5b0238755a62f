"""SavedModels in TF Serving's layout: saved_models/RECIPE/VERSION.

A version is written beside, asked, and renamed: it is there whole or not at all, even if its
writer is killed, and what doesn't answer with numbers is never published. Versions count up;
whoever publishes at the same time takes the next number. The system holds a lock only as long
as its process lives, so what a killed one left is known by its lock being free.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import layers
from recipes.common import warmup

# Of the signature `initial_state`: what it is given, and an example.
INITIAL_STATE_INPUTS = {"batch_size": tf.TensorSpec([], tf.int32)}, {"batch_size": 1}


def publish(model: keras.Model, folder: Path, signatures: dict, keep: int | None = None) -> Path:
    """Exports `model` as the next version in `folder`.

    Args:
        signatures: For each signature's name, (function, {input name: tf.TensorSpec},
            {input name: an example}). The function takes the inputs by name and returns a
            dict of named outputs; a server warms up with the example.
        keep: How many versions stay, the new one among them; None: all.

    Returns:
        The folder of the new version.

    Raises:
        SystemExit: If a weight, or an answer to an example, is not finite; then nothing is
            published.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as until_done:
        with locked(folder):
            remove_what_was_left(folder)
            beside = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder))
            until_done.enter_context(locked(beside))
        until_done.callback(shutil.rmtree, beside)
        for weight in model.weights:
            if not np.all(np.isfinite(weight.numpy())):
                raise SystemExit(f"Nothing is exported: {weight.path} holds what is no number.")
        save(model, signatures, beside / "model")
        warmup.write(beside / "model", signatures)
        ask(beside / "model", signatures)
        return put_in_place(beside / "model", folder, keep)


def save(model: keras.Model, signatures: dict, path: Path) -> None:
    """Writes a SavedModel of these functions, each traced once.

    `keras.export.ExportArchive` traces each twice and the model for itself, and saves all three.
    """
    traced = {}
    for name, (function, specs, _) in signatures.items():
        named = [tf.TensorSpec(s.shape, s.dtype, name=n) for n, s in specs.items()]
        with layers.without_gradients():
            function = tf.function(function, named, autograph=False)
            traced[name] = function.get_concrete_function()
    found = tf.train.TrackableView(model).descendants()
    module = tf.Module()  # holds what the functions use
    module.tables = [
        x for x in found if isinstance(x, tf.saved_model.experimental.TrackableResource)
    ]
    module.weights = list({v.ref(): v for f in traced.values() for v in f.variables}.values())
    tf.saved_model.save(module, str(path), traced)


def ask(saved_model: Path, signatures: dict) -> None:
    """Asks a SavedModel its own examples, and ends the program if an answer is of no use."""
    served = tf.saved_model.load(str(saved_model)).signatures
    for name, (_, specs, example) in signatures.items():
        given = {n: tf.convert_to_tensor(example[n], spec.dtype) for n, spec in specs.items()}
        try:
            answers = served[name](**given)
        except tf.errors.OpError as error:
            raise SystemExit(
                f"Nothing is exported: {name!r} refuses its own example. {error.message}"
            ) from error
        for output, answer in answers.items():
            if answer.dtype.is_floating and not np.all(np.isfinite(answer)):
                raise SystemExit(
                    f"Nothing is exported: {output!r} of {name!r} holds what is no number."
                )


def put_in_place(written: Path, folder: Path, keep: int | None = None) -> Path:
    """Makes `written` the next version in `folder`, and leaves `keep` of them."""
    with locked(folder):
        versions = sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())
        version = folder / str(max(versions, default=0) + 1)
        os.rename(written, version)
        for old in versions[: max(0, len(versions) + 1 - keep)] if keep else []:
            # Out of sight at once: half of a version is never seen.
            away = tempfile.mkdtemp(prefix=".writing-", dir=folder)
            os.rename(folder / str(old), Path(away) / "model")
            shutil.rmtree(away)
    return version


def remove_what_was_left(folder: Path) -> None:
    """Deletes what processes that were killed have left in `folder`."""
    for left in folder.glob(".writing-*"):
        with contextlib.suppress(BlockingIOError, FileNotFoundError), locked(left, wait=False):
            shutil.rmtree(left)


@contextlib.contextmanager
def locked(folder: Path, wait: bool = True) -> Iterator[None]:
    """Inside, `folder` is locked, for whoever else asks.

    Raises:
        BlockingIOError: If another has it, and not `wait`.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(handle)
