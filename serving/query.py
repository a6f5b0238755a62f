"""Asks a SavedModel, in a process that knows nothing but TensorFlow.

    python serving/query.py saved_models/pos_tagging "I saw a saw ." "You can can a can ."
    python serving/query.py saved_models/forecasting window.csv

Text goes to a signature that takes strings; a file of comma-separated numbers, one row
for each step and with or without a header, to one that takes a window.
"""

import argparse
import csv
from pathlib import Path

import tensorflow as tf


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="a version, or the folder of versions")
    parser.add_argument("inputs", nargs="+", help="texts, or one CSV file")
    parser.add_argument("--signature", default="serving_default")
    args = parser.parse_args()

    loaded = tf.saved_model.load(str(newest_version(args.model)))
    if args.signature not in loaded.signatures:
        raise SystemExit(f"--signature: there is {list(loaded.signatures)}.")
    signature = loaded.signatures[args.signature]
    ((name, spec),) = signature.structured_input_signature[1].items()
    if spec.dtype == tf.string:
        value = tf.constant(args.inputs)
        value = value if spec.shape.rank == 1 else tf.strings.split(value).to_tensor("")
    else:
        value = tf.constant(rows(Path(args.inputs[0])), spec.dtype)[None]
    if not value.shape.is_compatible_with(spec.shape):
        raise SystemExit(f"{name}: got shape {value.shape}, expected {spec.shape}.")
    for output, answer in signature(**{name: value}).items():
        print(f"{output}:\n{tf.strings.as_string(answer) if answer.dtype != tf.string else answer}")


def newest_version(folder: Path) -> Path:
    """`folder` if it is a SavedModel, else the highest-numbered one in it."""
    if (folder / "saved_model.pb").exists():
        return folder
    versions = [p for p in folder.glob("*/") if p.name.isdigit()] if folder.exists() else []
    if not versions:
        raise SystemExit(f"There is no SavedModel in {folder}; a recipe exports one.")
    return max(versions, key=lambda p: int(p.name))


def rows(path: Path) -> list[list[float]]:
    """The rows of numbers of a CSV file."""
    with path.open() as file:
        found = list(csv.reader(file))
    try:
        return [[float(cell) for cell in row] for row in found]
    except ValueError:
        return [[float(cell) for cell in row] for row in found[1:]]  # below a header


if __name__ == "__main__":
    main()
