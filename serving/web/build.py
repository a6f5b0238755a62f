"""Puts the page, onnxruntime-web and the models of three recipes into one folder, to be served.

    python serving/web/build.py        # into serving/web/dist; `make web` serves it

Of each recipe, the newest run in runs/ that was made with --onnx is taken, a real one rather than
a sample's. Where there is none, the recipe is run on its built-in sample.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
RUNTIME = HERE / "node_modules/onnxruntime-web/dist"
MADE_HERE = "files.js"  # by which a folder is known that may be written anew
RUNTIME_FILES = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"


class Model(NamedTuple):
    recipe: str
    file: str  # among what --onnx writes
    flags: tuple[str, ...] = ()


MODELS = {
    "tagging": Model("pos_tagging", "model.onnx"),
    "review": Model("sentiment", "stream.onnx", ("--unidirectional",)),
    "forecasting": Model("forecasting", "model.onnx"),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    says = "a folder, written anew; default: serving/web/dist"
    parser.add_argument("--output", type=Path, default=HERE / "dist", help=says)
    for name, model in MODELS.items():
        says = f"what --onnx of {model.recipe}.py wrote; default: the newest in runs/"
        parser.add_argument(f"--{name}", type=Path, metavar="FOLDER", help=says)
    args = parser.parse_args()
    folders = {name: vars(args)[name] or newest(MODELS[name]) for name in MODELS}
    build(args.output.resolve(), folders)


def newest(model: Model) -> Path:
    """The folder `onnx` of the run to take, which is made if there is none."""
    runs = REPOSITORY / "runs" / model.recipe

    def found():
        return [path.parent for path in runs.glob(f"*/onnx/{model.file}")]

    if not found():
        print(f"{model.recipe}: no run with --onnx in runs/, so one on its sample.", flush=True)
        recipe = REPOSITORY / "recipes" / f"{model.recipe}.py"
        command = [sys.executable, recipe, "--dataset", "sample", "--onnx", *model.flags]
        subprocess.run(command, check=True)

    def order(folder):
        return not folder.parent.name.startswith("sample"), folder.stat().st_mtime

    return max(found(), key=order)


def build(output: Path, folders: dict[str, Path]) -> None:
    """Writes `output` anew, all or nothing; `folders` are what --onnx wrote, by model."""
    for name, folder in folders.items():
        for file in ("about.json", MODELS[name].file):
            if not (folder / file).is_file():
                flags = " ".join(("--onnx", *MODELS[name].flags))
                recipe = MODELS[name].recipe
                raise SystemExit(f"There is no {folder / file}; {recipe}.py {flags} writes one.")
    if not RUNTIME.is_dir():
        raise SystemExit(f"There is no {RUNTIME}: run `npm ci` in {HERE}.")
    if output.exists() and any(output.iterdir()) and not (output / MADE_HERE).is_file():
        raise SystemExit(f"{output} has other files, and would be deleted: give another --output.")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".writing-") as beside:
        page = Path(beside) / "page"
        page.mkdir()
        for path in (*HERE.glob("*.html"), *HERE.glob("*.css"), *HERE.glob("*.js")):
            shutil.copy(path, page)
        (page / "onnxruntime").mkdir()
        for file in RUNTIME_FILES:
            shutil.copy(RUNTIME / file, page / "onnxruntime")
        for name, folder in folders.items():
            add_model(page / "models" / name, folder, MODELS[name].file)
            print(f"{name}: {folder}")
        files = [path.relative_to(page).as_posix() for path in page.rglob("*") if path.is_file()]
        (page / MADE_HERE).write_text(f"self.FILES = {json.dumps(sorted(files))};\n")
        shutil.rmtree(output, ignore_errors=True)
        page.rename(output)


def add_model(place: Path, folder: Path, file: str) -> None:
    """Its name is of its content, so that no browser has kept another by this name."""
    content = (folder / file).read_bytes()
    about = json.loads((folder / "about.json").read_text("utf-8"))
    about["file"] = f"{hashlib.sha256(content).hexdigest()[:16]}.onnx"
    place.mkdir(parents=True)
    (place / about["file"]).write_bytes(content)
    (place / "about.json").write_text(json.dumps(about))


if __name__ == "__main__":
    main()
