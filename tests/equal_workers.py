"""Each recipe on its sample, alone and with two workers: the same losses, and the same weights.

    python tests/equal_workers.py                          # all, some minutes
    python tests/equal_workers.py speech --strings         # one, with arguments

Three epochs of three steps, without what is drawn at random in a step (dropout, hidden words,
SpecAugment, voices), which workers draw each for itself. Of `pos_tagging`, gradients of tables are
summed before Adam sees them, which alone it doesn't do: docs/cluster.md has why.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

RECIPES = ("forecasting", "language_model", "pos_tagging", "sentiment", "speech", "translation")
RECIPES += ("word_embeddings",)
SHORT = ["--dataset", "sample", "--epochs", "3", "--steps", "3"]


def train(recipe: str, folder: str, workers: str, *words: str) -> None:
    """Trains, and leaves what each worker found in `folder`."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from recipes.common import cluster, command_line

    cluster.start_others(int(workers))
    import keras
    import tensorflow as tf

    from recipes.common import training, word_dropout
    from recipes.common import workers as others
    from recipes.parts.speech import augmentation, log_mel

    def unchanged(self, x, *_, training=False):
        return x

    for layer in (
        keras.layers.Dropout,
        keras.layers.SpatialDropout1D,
        augmentation.SpecAugment,
        word_dropout.WordDropout,
    ):
        layer.call = unchanged
    log_mel.LogMel.drawn = lambda self, most, rows: tf.ones([rows])
    module = importlib.import_module(f"recipes.{recipe}")
    if recipe == "pos_tagging":
        apply = keras.optimizers.Adam.apply
        keras.optimizers.Adam.apply = lambda self, gradients, variables=None: apply(
            self, [tf.convert_to_tensor(g) for g in gradients], variables
        )
    leave, end = others.leave_the_rest_to_the_chief, training.KeepEpochs.on_epoch_end

    def on_epoch_end(self, epoch, logs=None):
        end(self, epoch, logs)
        weights = [x.numpy() for x in self.model.trainable_variables]
        rows = [{k: v for k, v in row.items() if k != "seconds"} for row in self.rows]
        found = {"epochs": rows, "weights": training.fingerprint(weights)}
        Path(folder, f"{others.OWN.index}.json").write_text(json.dumps(found))

    def after_training():
        others.agree({})
        leave()
        others.agree({})
        os._exit(0)

    training.KeepEpochs.on_epoch_end = on_epoch_end
    others.leave_the_rest_to_the_chief = after_training
    args = module.arguments([*SHORT, "--output", f"{folder}/run", *words])
    command_line.run(module.main, args)


def compare(recipe: str, *words: str) -> bool:
    """Whether two workers find what one process finds."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for workers in (1, 2):
            (place := Path(folder, str(workers))).mkdir()
            command = [sys.executable, __file__, "train", recipe, str(place), str(workers), *words]
            log = place / "log"
            with log.open("w") as file:
                subprocess.run(command, stdout=file, stderr=file)
            names = [place / f"{i}.json" for i in range(workers)]
            if not all(name.exists() for name in names):
                print(recipe, log.read_text()[-2000:])
                return False
            found += [json.loads(name.read_text()) for name in names]
    one, chief, other = found
    pairs = [(a[k], b[k]) for a, b in zip(one["epochs"], chief["epochs"]) for k in a]
    apart = max(abs(a - b) / max(1, abs(a)) for a, b in pairs)
    alike = chief["weights"] == other["weights"]
    right = len(chief["epochs"]) == 3 and apart < 1e-4 and alike and np.isfinite(apart)
    which = " ".join([recipe, *words])
    print(f"{which:20} losses and metrics within {apart:.1e}; weights", "as" if alike else "NOT as",
          "the other's" + ("" if right else "  WRONG"), flush=True)  # fmt: skip
    return right


if __name__ == "__main__":
    if sys.argv[1:2] == ["train"]:
        train(*sys.argv[2:])
    else:
        asked = [sys.argv[1:]] if len(sys.argv) > 1 else [[recipe] for recipe in RECIPES]
        sys.exit(not all([compare(*words) for words in asked]))
