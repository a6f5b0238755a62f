"""Asks a SavedModel, in a process that knows nothing but TensorFlow.

    python serving/query.py saved_models/pos_tagging "I saw a saw ." "You can can a can ."
    python serving/query.py saved_models/forecasting window.csv

Text goes to a signature that takes strings; a CSV file, one row for each step, to one that
takes a window.
"""

import argparse
import re
from pathlib import Path

import quiet
import text


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="a version, or the folder of versions")
    parser.add_argument("inputs", nargs="+", help="texts, or one CSV file")
    parser.add_argument("--signature", default="serving_default")
    args = parser.parse_args()

    signature, name, spec = load(args.model, args.signature)
    tf = quiet.tensorflow()
    if spec.dtype == tf.string:
        value = tf.constant(args.inputs)
        value = value if spec.shape.rank == 1 else tf.strings.split(value).to_tensor("")
    else:
        if len(args.inputs) > 1:
            parser.error(f"{name} takes one file, got {args.inputs}")
        value = tf.constant(text.numbers(Path(args.inputs[0])), spec.dtype)[None]
    if not value.shape.is_compatible_with(spec.shape):
        raise SystemExit(f"{name}: got shape {value.shape}, expected {spec.shape}.")
    try:
        answers = signature(**{name: value})
    except tf.errors.OpError as error:
        raise SystemExit(f"The model refuses this: {reason(error)}") from None
    text.show(args.inputs, {output: found.numpy().tolist() for output, found in answers.items()})


def tensor(value, dtype):
    """`value` as a tensor of `dtype`.

    Raises:
        ValueError, TypeError: If it is of another kind, or beyond what the type holds.
    """
    import numpy as np  # not above: arguments are read before
    import tensorflow as tf

    if dtype != tf.string:
        found = np.array(value)
        if dtype != tf.bool and any(type(x) is bool for x in np.array(value, object).flat):
            raise ValueError("a number is expected, got true or false")
        whole = found.dtype.kind in "iu" and dtype.is_integer
        if whole and not dtype.min <= found.min(initial=0) <= found.max(initial=0) <= dtype.max:
            raise ValueError(f"{dtype.name} holds {dtype.min} to {dtype.max}")
    try:
        return tf.convert_to_tensor(value, dtype)
    except SystemError:  # of TensorFlow, for a whole number beyond its floats
        raise ValueError("a number is too large") from None


def load(folder: Path, signature: str) -> tuple:
    """(a signature of the newest version in `folder`, its input's name, its input's spec).

    Raises:
        SystemExit: If there is no such version or signature, or it takes more than one input.
    """
    version = newest_version(folder)  # before what takes seconds
    tf = quiet.tensorflow()
    try:
        signatures = tf.saved_model.load(str(version)).signatures
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise SystemExit(
            f"{version} cannot be loaded ({error}). Name another version, or export it again."
        ) from None
    if signature not in signatures:
        raise SystemExit(f"--signature: there is {list(signatures)}.")
    found = signatures[signature]
    specs = found.structured_input_signature[1]
    if len(specs) != 1:
        raise SystemExit(f"--signature {signature} takes more than one input: {list(specs)}.")
    return found, *specs.popitem()


def reason(error: Exception) -> str:
    """Why a model refuses an input, in its own words."""
    said = str(error).split("<stack traces unavailable>")[-1].split("assertion failed:")[-1]
    said = re.sub(r"\{\{.*?\}\}", "", said).strip().splitlines()[0]
    return said[1:-1] if said.startswith("[") and said.endswith("]") else said


def newest_version(folder: Path) -> Path:
    """`folder` if it is a SavedModel, else the highest-numbered one in it."""
    found = versions(folder)
    if not found:
        raise SystemExit(f"There is no SavedModel in {folder}; a recipe exports one.")
    return found[0]


def versions(folder: Path) -> list[Path]:
    """The SavedModels in a folder of versions, the newest first; `folder` alone if it is one."""
    if is_saved_model(folder):
        return [folder]
    found = [p for p in folder.glob("*/") if p.name.isdigit() and is_saved_model(p)]
    return sorted(found, key=lambda p: int(p.name), reverse=True)


def is_saved_model(folder: Path) -> bool:
    return (folder / "saved_model.pb").is_file()


if __name__ == "__main__":
    main()
