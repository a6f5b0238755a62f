"""Times one model in all the formats it can be had in, ours and Keras's, with the same weights.

    python benchmarks/exports.py
    python benchmarks/exports.py --steps 20 --units 16 --requests 20 --rounds 1    # to try it

A recurrent layer and a dense layer behind it: LSTM, GRU, and an LSTM in both directions. Each file
is read and asked in a process of its own, which imports what answers and nothing else; the
processes take turns. For each: megabytes of the file, and of a SavedModel's graph alone, seconds to
import and to load, milliseconds of the first answer, the median and the 99th percentile of those
after, megabytes of memory at most. Our SavedModel is written as the recipes write theirs, without
what only training needs.
Leaves exports.json in benchmarks/.
"""

import argparse
import datetime
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from timing import cores, machine

HERE = Path(__file__).parent
KINDS = "LSTM", "GRU", "BiLSTM"
BATCHES = 1, 8, 32, 128


# --- One process: a file is loaded and asked ---------------------------------------------------


def saved_model(path):
    tf = importlib.import_module("tensorflow")
    model = tf.saved_model.load(path)
    return lambda x: model.serve(tf.constant(x)).numpy()


def onnx(path):
    onnxruntime = importlib.import_module("onnxruntime")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]


def litert(path):
    interpreter = importlib.import_module("ai_edge_litert.interpreter")
    answer = interpreter.Interpreter(path, num_threads=cores()).get_signature_runner()
    (name,) = answer.get_input_details()
    return lambda x: next(iter(answer(**{name: x}).values()))


LOADERS = {
    "": ("tensorflow", saved_model),
    ".onnx": ("onnxruntime", onnx),
    ".tflite": ("ai_edge_litert.interpreter", litert),
}


def measure(path: Path, inputs: Path, requests: int) -> dict[str, float]:
    x, (module, load) = np.load(inputs), LOADERS[path.suffix]
    begun = time.perf_counter()
    importlib.import_module(module)
    before = time.perf_counter()
    answer = load(str(path))
    loaded = time.perf_counter()
    answer(x)
    times = [time.perf_counter()]
    for _ in range(requests):
        answer(x)
        times.append(time.perf_counter())
    each = np.diff(times) * 1e3
    return {
        "import s": before - begun,
        "load s": loaded - before,
        "first ms": (times[0] - loaded) * 1e3,
        "p50 ms": float(np.percentile(each, 50)),
        "p99 ms": float(np.percentile(each, 99)),
        "peak MB": peak_megabytes(),
    }


def peak_megabytes():
    # `resource` has the parent's, if that is more.
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
    return int(line.split()[1]) / 1e3


# --- The files ---------------------------------------------------------------------------------


def build(library, kind, features, units):
    import keras

    x = keras.Input((None, features))
    cell = library.GRU if kind == "GRU" else library.LSTM
    layer = cell(units, return_sequences=True)
    layer = library.Bidirectional(layer) if kind == "BiLSTM" else layer
    return keras.Model(x, keras.layers.Dense(8)(layer(x)))


def write(kind, args, folder):
    """{file's name: its path, or {batch: path}}; what a format can't have is left out, and said."""
    import keras

    import layers

    ours, kerass = (build(x, kind, args.features, args.units) for x in (layers, keras.layers))
    kerass.set_weights(ours.get_weights())
    shape = (max(BATCHES), args.steps, args.features)
    examples = np.random.default_rng(1).normal(size=shape).astype("float32")
    found = {}
    with layers.without_gradients():
        ours.export(folder / "ours-saved", verbose=False)
    kerass.export(folder / "keras-saved", verbose=False)
    found |= {f"SavedModel, {name}": folder / f"{name}-saved" for name in ("ours", "keras")}
    layers.export_onnx(ours, folder / "ours.onnx")
    found["ONNX, ours"] = folder / "ours.onnx"
    try:
        kerass.export(folder / "keras.onnx", format="onnx", verbose=False)
        found["ONNX, keras"] = folder / "keras.onnx"
    except Exception as error:
        print(f"{kind}: Keras's ONNX failed: {str(error)[:200]}")
    for how in (None, "dynamic", "int8"):
        files = {}
        for batch in BATCHES:
            files[batch] = folder / f"ours-{how}-{batch}.tflite"
            given = {"examples": examples} if how == "int8" else {}
            layers.export_litert(ours, files[batch], batch, how, **given)
        found[f"LiteRT{f' {how}' if how else ''}, ours"] = files
    try:
        kerass.export(folder / "keras.tflite", format="litert", verbose=False)
        found["LiteRT, keras"] = folder / "keras.tflite"
    except Exception as error:
        print(f"{kind}: Keras's LiteRT failed: {str(error)[:200]}")
    return found


def megabytes(path):
    files = [p for p in (path, *path.rglob("*")) if p.is_file()]
    return sum(p.stat().st_size for p in files) / 1e6


# --- Results -----------------------------------------------------------------------------------


def cases(args):
    """One for each kind, batch and format."""
    random = np.random.default_rng(0)
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            found = write(kind, args, folder)
            for batch in BATCHES:
                x = random.normal(size=(batch, args.steps, args.features)).astype("float32")
                np.save(folder / "x.npy", x)
                times = {name: [] for name in found}
                for _ in range(args.rounds):
                    for name, path in found.items():
                        path = path[batch] if isinstance(path, dict) else path
                        command = [sys.executable, __file__, "--measure", path, folder / "x.npy"]
                        command += ["--requests", str(args.requests)]
                        done = subprocess.run(command, capture_output=True, text=True)
                        if done.returncode:
                            print(f"{kind}, {name}: {done.stderr.strip().splitlines()[-1]}")
                            continue
                        times[name].append(json.loads(done.stdout.splitlines()[-1]))
                for name, path in found.items():
                    path = path[batch] if isinstance(path, dict) else path
                    if times[name]:
                        each = {
                            k: statistics.median(t[k] for t in times[name]) for k in times[name][0]
                        }
                        graph = path / "saved_model.pb"
                        size = {"MB": megabytes(path), "graph MB": megabytes(graph)}
                        yield {"kind": kind, "batch": batch, "format": name, **size, **each}


def compared(results):
    """How many times as fast our ONNX is as Keras's SavedModel, and as Keras's ONNX; and how many
    times as large and slow to start our SavedModel is as Keras's."""
    found = {(c["kind"], c["batch"], c["format"]): c for c in results["cases"]}

    def ratio(column, upper, lower, batches):
        cases = [(kind, batch) for kind in KINDS for batch in batches]
        pairs = [(found.get((*case, upper)), found.get((*case, lower))) for case in cases]
        ratios = [a[column] / b[column] for a, b in pairs if a and b]
        return statistics.geometric_mean(ratios) if ratios else float("nan")

    for other in ("SavedModel, keras", "SavedModel, ours", "ONNX, keras"):
        for batch in BATCHES:
            fast = ratio("p50 ms", other, "ONNX, ours", [batch])
            yield f"ONNX, ours, beside {other}, batch {batch}", fast
    for column in ("MB", "graph MB", "load s", "first ms", "p50 ms", "peak MB"):
        more = ratio(column, "SavedModel, ours", "SavedModel, keras", BATCHES)
        yield f"SavedModel, ours to keras, {column}", more


def add_sizes(parser):
    add = parser.add_argument
    add("--steps", type=int, default=100)
    add("--features", type=int, default=128)
    add("--units", type=int, default=128)
    add("--requests", type=int, default=200, help="timed, of each process")
    add("--rounds", type=int, default=3, help="processes for each file; their medians count")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add_sizes(parser)
    add = parser.add_argument
    add("--output", type=Path, default=HERE, help="folder of the results")
    add("--measure", type=Path, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(*args.measure, args.requests)))
        return

    results = {
        "machine": machine(),
        "date": datetime.date.today().isoformat(),
        "sizes": {name: getattr(args, name) for name in ("steps", "features", "units")},
        "cases": [],
    }
    columns = ["MB", "graph MB", "import s", "load s", "first ms", "p50 ms", "p99 ms", "peak MB"]
    print(results["machine"], results["sizes"])
    print("| " + " | ".join(["kind", "batch", "format", *columns]) + " |")
    print("|---|---|---|" + "---|" * len(columns))
    for case in cases(args):
        results["cases"].append(case)
        numbers = [f"{case[column]:.3g}" for column in columns]
        print(f"| {case['kind']} | {case['batch']} | {case['format']} | {' | '.join(numbers)} |")
    results["ratios"] = {what: round(x, 2) for what, x in compared(results)}
    for what, ratio in results["ratios"].items():
        print(f"{what}: {ratio}")
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "exports.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
