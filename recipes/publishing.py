"""SavedModels in TF Serving's layout: saved_models/RECIPE/VERSION.

A version is written beside and renamed: it is there whole or not at all. Versions
count up; who comes second in a race takes the next number.
"""

import os
import shutil
import tempfile
from pathlib import Path

import keras
import tensorflow as tf


def publish(model: keras.Model, folder: Path, signatures: dict) -> Path:
    """Exports `model` as the next version in `folder`.

    Args:
        signatures: For each signature's name, (function, {input name: tf.TensorSpec}).
            The function takes the inputs by name and returns a dict of named outputs.

    Returns:
        The folder of the new version.
    """
    folder.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder))
    try:
        archive = keras.export.ExportArchive()
        archive.track(model)
        for name, (function, specs) in signatures.items():
            named = [tf.TensorSpec(s.shape, s.dtype, name=n) for n, s in specs.items()]
            archive.add_endpoint(name, function, input_signature=named)
        archive.write_out(beside / "model", verbose=False)
        return _rename_to_next_version(beside / "model", folder)
    finally:
        shutil.rmtree(beside)


def _rename_to_next_version(written: Path, folder: Path) -> Path:
    while True:
        version = max((int(p.name) for p in folder.iterdir() if p.name.isdigit()), default=0) + 1
        try:
            os.rename(written, folder / str(version))
        except OSError:
            if not (folder / str(version)).exists():
                raise
        else:
            return folder / str(version)
