"""Draws the pictures of these pages, each from a short run of a recipe.

python docs/draw_pictures.py    # 10 minutes; a run that is there already is not trained again
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "serving"))

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import tensorflow as tf
from query import newest_version

REPOSITORY = Path(__file__).resolve().parents[1]
PICTURES = REPOSITORY / "docs" / "pictures"
SAMPLE = ["--dataset", "sample"]
RUNS = {
    "pos_tagging": SAMPLE,
    "forecasting": SAMPLE,
    "word_embeddings": SAMPLE,
    "language_model": SAMPLE,
    "speech": [*SAMPLE, "--strings"],
    "gradient_flow": ["--steps", "1500", "--lengths", "50", "--pauses", "20"],
    "compare_cells": [],
}
COPIED = {
    "forecasting": ["forecast.png"],
    "word_embeddings": ["similarities.png", "map.png"],
    "language_model": ["units.png"],
    "speech": ["spikes.png"],
    "gradient_flow": ["gradient_flow.png"],
    "compare_cells": ["cells.png"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    default = REPOSITORY / "runs" / "docs"
    parser.add_argument("--runs", type=Path, default=default, help="default: runs/docs")
    runs = parser.parse_args().runs
    for recipe, arguments in RUNS.items():
        command = [sys.executable, REPOSITORY / f"recipes/{recipe}.py", *arguments]
        exported = ["--saved-models", runs / "saved_models"] if SAMPLE[0] in arguments else []
        subprocess.run([*command, "--output", runs / recipe, *exported], check=True)
    for recipe, names in COPIED.items():
        for name in names:
            shutil.copy(runs / recipe / name, PICTURES)
    draw_tags(runs / "saved_models" / "pos_tagging", "I saw a saw .")


def draw_tags(folder: Path, sentence: str) -> None:
    """A sentence, and below each word the tag that the exported model gives it."""
    tagger = tf.saved_model.load(newest_version(folder)).signatures["serving_default"]
    answer = tagger(sentences=tf.constant([sentence]))
    words, tags = ([x.decode() for x in answer[n].numpy()[0]] for n in ("words", "tags"))
    colours = {tag: f"C{k}" for k, tag in enumerate(dict.fromkeys(tags))}
    figure, axis = plt.subplots(figsize=(1.4 * len(words), 1.7))
    for k, (word, tag) in enumerate(zip(words, tags)):
        axis.text(k, 1, word, ha="center", va="center", fontsize=22, family="serif")
        axis.annotate(
            tag, (k, 0.8), (k, 0.1), ha="center", va="center", fontsize=13, color="white",
            bbox={"boxstyle": "round,pad=0.35", "color": colours[tag]},
            arrowprops={"arrowstyle": "-", "color": colours[tag]},
        )  # fmt: skip
    axis.set(xlim=(-0.6, len(words) - 0.4), ylim=(-0.2, 1.4))
    axis.axis("off")
    figure.tight_layout(pad=0.2)
    figure.savefig(PICTURES / "tagging.png", dpi=110)


if __name__ == "__main__":
    main()
