"""A recipe's model for ONNX (`--onnx`) and LiteRT (`--litert`): from numbers on.

Neither has strings. So what makes numbers of text is written beside the model, `about.json`, and
`serving/onnx_query.py` does it. Each model is written twice, as it is and with weights of 8 bits,
and both are measured as the recipe measures its own, and how long that takes. What makes a task's
`PortableModel` stands where its export does.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

import layers
from layers.exchange import model_files
from recipes.common import files
from serving import onnx_query

SCORES = "accuracy", "macro_f1", "mse", "mae", "nats", "error_rate", "bleu", "exact"


class PortableModel(NamedTuple):
    """A model that takes numbers.

    Attributes:
        build: Makes it, {"model": it}; or several, which `about["models"]` names.
        about: What stands in `about.json`.
        arrays: {file's name: its arrays}, for what is too much for that.
        as_model: From a task of serving/onnx_query.py to what the recipe's evaluation calls as
            its model.
        build_step: Makes the model that reads a sequence piece by piece, if it can be read so.
    """

    build: Callable[[], dict[str, keras.Model]]
    about: dict
    arrays: dict[str, dict[str, np.ndarray]]
    as_model: Callable
    build_step: Callable[[], keras.Model] | None = None

    def paths(self, folder: Path, ending: str) -> dict[str, Path]:
        """Of each model its file."""
        return {name: folder / f"{name}{ending}" for name in self.about.get("models", ["model"])}


def write(
    args: argparse.Namespace,
    make: Callable[[], PortableModel],
    score: Callable,
    examples: Callable[[], list] | None = None,
) -> None:
    """Writes what `args.onnx` and `args.litert` ask for into `args.output`, and prints its scores.

    Args:
        make: Makes what is written; not called if nothing is asked for.
        score: Of what stands in for the model in the recipe's evaluation, its scores.
        examples: For LiteRT, makes some inputs, as the page's classes take them: what 8 bits are
            spread over. None: no file computes in 8 bits.
    """
    places = [place for place in WRITERS if getattr(args, place, False)]
    if not places:
        return
    made, found = make(), {}
    for left in args.output.glob(".writing-*"):  # by a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    for place in places:
        folder = args.output / place
        with tempfile.TemporaryDirectory(dir=args.output, prefix=".writing-") as beside:
            beside = Path(beside) / place
            beside.mkdir()
            files.write_json(beside / "about.json", made.about)
            for name, arrays in made.arrays.items():
                np.savez(beside / name, **arrays)
            WRITERS[place](made, beside, examples)
            shutil.rmtree(folder, ignore_errors=True)
            beside.rename(folder)
        for ending in ENDINGS[place]:
            paths = made.paths(folder, ending).values()
            if not all(path.exists() for path in paths):
                continue
            model, begun = made.as_model(READERS[place](made, folder, ending)), time.perf_counter()
            scores, seconds = score(model), time.perf_counter() - begun
            size = sum(path.stat().st_size for path in paths)
            known = {"megabytes": size / 1e6, "seconds": seconds}
            scores = {name: float(scores[name]) for name in SCORES if scores.get(name) is not None}
            found[f"{place}/{' + '.join(x.name for x in paths)}"] = known | scores
    for name, row in found.items():
        print(f"  {name:24}", "  ".join(f"{what} {x:.4g}" for what, x in row.items()))
    files.write_json(args.output / "other_runtimes.json", found)


def write_onnx(made: PortableModel, folder: Path, examples: Callable | None) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    if made.build_step:
        layers.export_onnx(made.build_step(), folder / "stream.onnx")
    for name, model in made.build().items():
        whole, small = folder / f"{name}.onnx", folder / f"{name}_int8.onnx"
        layers.export_onnx(model, whole)
        with model_files.quiet():
            quantize_dynamic(whole, small, weight_type=QuantType.QInt8)


def write_litert(made: PortableModel, folder: Path, examples: Callable | None) -> None:
    for name, model in made.build().items():
        layers.export_litert(model, folder / f"{name}.tflite")
        layers.export_litert(model, folder / f"{name}_dynamic.tflite", quantize="dynamic")
    if examples is None:
        return
    task = onnx_query.TASKS[made.about["task"]](made.about, None, folder)
    inputs = task.inputs(examples()) if hasattr(task, "inputs") else {"window": examples()}
    small = folder / "model_int8.tflite"
    try:
        layers.export_litert(model, small, quantize="int8", examples=list(inputs.values()))
    except ValueError as error:
        print(f"  {small.name} is left out: {error}")


def read_onnx(made: PortableModel, folder: Path, ending: str):
    return onnx_query.load(folder, ending)


def read_litert(made: PortableModel, folder: Path, ending: str = ".tflite"):
    """As `onnx_query.load`, answering by LiteRT, a row at a time."""
    from ai_edge_litert.interpreter import Interpreter

    answers = {
        name: Interpreter(str(path)).get_signature_runner()
        for name, path in made.paths(folder, ending).items()
    }

    def run(inputs, model="model"):
        rows = range(len(next(iter(inputs.values()))))
        answer = answers[model]
        found = [answer(**{n: x[i : i + 1] for n, x in inputs.items()}) for i in rows]
        return {name: np.concatenate([row[name] for row in found]) for name in found[0]}

    return onnx_query.TASKS[made.about["task"]](made.about, run, folder)


WRITERS = {"onnx": write_onnx, "litert": write_litert}
READERS = {"onnx": read_onnx, "litert": read_litert}
ENDINGS = {
    "onnx": (".onnx", "_int8.onnx"),
    "litert": (".tflite", "_dynamic.tflite", "_int8.tflite"),
}
