"""Times our layers beside those of Keras and, where it is installed, of PyTorch.

    python benchmarks/recurrence.py

Everything is timed in one process, in which candidates take turns; medians are compared: the
machine's noise then falls on all of them alike. Leaves benchmarks/recurrence.json, the
numbers, and benchmarks/recurrence.png, a picture of them.

Candidates: ours in a graph; Keras's layer in a graph; each with XLA (`jit_compile=True` on
the whole function); ours with `recurrence="compiled"`, in inference; PyTorch. A training
step is a forward pass, a backward pass and the gradients of all weights, for a batch whose
size the graph does not know; for "any length" it does not know that either. What ours and Keras
answer is copied to numpy within its time, PyTorch's is not.
"""

import argparse
import datetime
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parents[1]))

import first_steps
import keras
import numpy as np
import pictures
import tensorflow as tf
from keras import ops
from timing import by_turns, cores, machine

import layers

try:
    import torch
except ImportError:
    torch = None

HERE = Path(__file__).parent
SHAPES = [(32, 100, 128, 128), (64, 200, 64, 64), (32, 400, 128, 256), (128, 50, 256, 512)]
ONE = (1, 100, 128, 128)
LARGE = [(32, 64, 512, 1024), (64, 64, 512, 512), (64, 128, 512, 512)]  # a language model's
LENGTHS, UNITS = [100, 200, 400, 800, 1600], [64, 128, 256, 512]


class KerasPeepholeLSTMCell(keras.layers.LSTMCell):
    """The custom cell, for Keras: the equations of `layers.PeepholeLSTM`."""

    def build(self, input_shape):
        super().build(input_shape)
        self.peepholes = [
            self.add_weight((self.units,), "glorot_uniform", name=n) for n in ("p_i", "p_f", "p_o")
        ]

    def call(self, inputs, states, training=False):
        h, c = states
        z = ops.matmul(inputs, self.kernel) + ops.matmul(h, self.recurrent_kernel) + self.bias
        i, f, g, o = ops.split(z, 4, axis=-1)
        p_i, p_f, p_o = self.peepholes
        i, f = ops.sigmoid(i + p_i * c), ops.sigmoid(f + p_f * c)
        c = f * c + i * ops.tanh(g)
        h = ops.sigmoid(o + p_o * c) * ops.tanh(c)
        return h, [h, c]


ALL = {"return_sequences": True}
KINDS = {  # ours, Keras's, PyTorch's
    "SimpleRNN": (
        lambda h, **k: layers.SimpleRNN(h, **ALL, **k),
        lambda h, **k: keras.layers.SimpleRNN(h, **ALL, **k),
        lambda d, h: torch.nn.RNN(d, h, batch_first=True),
    ),
    "LSTM": (
        lambda h, **k: layers.LSTM(h, **ALL, **k),
        lambda h, **k: keras.layers.LSTM(h, **ALL, **k),
        lambda d, h: torch.nn.LSTM(d, h, batch_first=True),
    ),
    "GRU": (
        lambda h, **k: layers.GRU(h, **ALL, **k),
        lambda h, **k: keras.layers.GRU(h, **ALL, **k),
        lambda d, h: torch.nn.GRU(d, h, batch_first=True),
    ),
    "GRU, reset before": (
        lambda h, **k: layers.GRU(h, reset_after=False, **ALL, **k),
        lambda h, **k: keras.layers.GRU(h, reset_after=False, **ALL, **k),
        None,
    ),
    "Bidirectional LSTM": (
        lambda h, **k: layers.Bidirectional(layers.LSTM(h, **ALL, **k)),
        lambda h, **k: keras.layers.Bidirectional(keras.layers.LSTM(h, **ALL, **k)),
        lambda d, h: torch.nn.LSTM(d, h, batch_first=True, bidirectional=True),
    ),
    "custom cell": (
        lambda h, **k: layers.PeepholeLSTM(h, **ALL, **k),
        lambda h: keras.layers.RNN(KerasPeepholeLSTMCell(h), **ALL),
        None,
    ),
}


# --- What is timed -----------------------------------------------------------------------


def training_step(layer, x, mask=None, xla=False, any_length=False):
    weights = [w.value for w in layer.trainable_variables]
    length = None if any_length else x.shape[1]

    @tf.function(input_signature=[tf.TensorSpec((None, length, x.shape[2]))], jit_compile=xla)
    def step(x):
        with tf.GradientTape() as tape:
            y = layer(x, training=True, **({} if mask is None else {"mask": mask}))
            loss = tf.reduce_sum(y * y)
        return tape.gradient(loss, weights)

    return lambda: [gradient.numpy() for gradient in step(x)]


def inference(layer, x, mask=None, xla=False):
    @tf.function(input_signature=[tf.TensorSpec((None, *x.shape[1:]))], jit_compile=xla)
    def infer(x):
        return layer(x, **({} if mask is None else {"mask": mask}))

    return lambda: infer(x).numpy()


def torch_training_step(module, x):
    x = torch.tensor(x.numpy())

    def step():
        module.zero_grad()
        y, _ = module(x)
        (y * y).sum().backward()

    return step


def torch_inference(module, x):
    x = torch.tensor(x.numpy())

    def infer():
        with torch.no_grad():
            module(x)

    return infer


def exported(layer, x, folder, mask=None):
    inputs = [keras.Input((None, x.shape[2]))]
    if mask is None:
        outputs, given = layer(inputs[0]), [x]
    else:
        inputs.append(keras.Input((None,), dtype="bool"))
        outputs, given = layer(inputs[0], mask=inputs[1]), [x, mask]
    keras.Model(inputs, outputs).export(folder, verbose=False)
    loaded = tf.saved_model.load(folder)
    return lambda: loaded.serve(given).numpy()


# --- Timing ------------------------------------------------------------------------------


def medians(candidates, rounds):
    """Median milliseconds of each, taking turns; and what the first call of each took."""
    first = {name: time for name, (time,) in by_turns(candidates, [()]).items()}
    times = by_turns(candidates, [()] * rounds, rehearse=True)
    return {name: round(statistics.median(t), 2) for name, t in times.items()}, first


def inputs(shape):
    b, t, d, _ = shape
    return tf.constant(np.random.default_rng(0).normal(size=(b, t, d)).astype("float32"))


def random_mask(shape):
    """Of sequences whose lengths are drawn at random."""
    lengths = np.random.default_rng(0).integers(1, shape[1] + 1, shape[0])
    return tf.sequence_mask(lengths, shape[1])


def pair(kind, shape, **arguments):
    """Ours and Keras's, with the same weights."""
    ours, kerass = (make(shape[3], **arguments) for make in KINDS[kind][:2])
    x = inputs(shape)
    ours(x[:, :1]), kerass(x[:, :1])
    for a, b in zip(ours.weights, kerass.weights):
        if a.shape == b.shape:
            b.assign(a)
    return ours, kerass, x


def compiled(kind, shape, ours):
    """The same layer, told to use XLA in inference too."""
    layer = KINDS[kind][0](shape[3], recurrence="compiled")
    layer(inputs(shape)[:, :1])
    layer.set_weights(ours.get_weights())
    return layer


def gemm_peak():
    """GFLOP/s of this machine's best product of large matrices."""
    a, best = tf.random.normal((2048, 2048)), 0
    for _ in range(15):
        start = time.perf_counter()
        tf.matmul(a, a)[0, 0].numpy()
        best = max(best, 2 * 2048**3 / (time.perf_counter() - start) / 1e9)
    return best


def products(kind, shape):
    """Floating-point operations of the matrix products of a forward pass."""
    b, t, d, h = shape
    gates = {"SimpleRNN": 1, "GRU": 3, "GRU, reset before": 3}.get(kind, 4)
    return 2 * b * t * (d + h) * gates * h * (2 if "Bidirectional" in kind else 1)


def layer_times(kind, shape, rounds):
    ours, kerass, x = pair(kind, shape)
    module = KINDS[kind][2] if torch else None
    module = module and module(shape[2], shape[3])
    train = {
        "ours": training_step(ours, x),
        "ours, any length": training_step(ours, x, any_length=True),
        "ours XLA": training_step(ours, x, xla=True),
        "keras": training_step(kerass, x),
        "keras XLA": training_step(kerass, x, xla=True),
    }
    infer = {
        "ours": inference(ours, x),
        "ours XLA": inference(ours, x, xla=True),
        "ours compiled": inference(compiled(kind, shape, ours), x),
        "keras": inference(kerass, x),
        "keras XLA": inference(kerass, x, xla=True),
    }
    if module:
        train["torch"], infer["torch"] = torch_training_step(module, x), torch_inference(module, x)
    for work, candidates, passes in (("training", train, 3), ("inference", infer, 1)):
        if work == "training" and shape[0] == 1:
            continue
        times, first = medians(candidates, rounds)
        flops = passes * products(kind, shape)
        yield {
            "kind": kind,
            "shape": shape,
            "work": work,
            "ms": times,
            "first call ms": {name: round(ms) for name, ms in first.items()},
            "GFLOP/s": {name: round(flops / ms / 1e6, 1) for name, ms in times.items()},
        }


def large_times(kind, shape, rounds):
    """Training alone, where matrices no longer fit a cache."""
    ours, kerass, x = pair(kind, shape)
    candidates = {"ours": training_step(ours, x), "keras": training_step(kerass, x)}
    if torch:
        candidates["torch"] = torch_training_step(KINDS[kind][2](*shape[2:]), x)
    times, _ = medians(candidates, rounds)
    speed = {name: round(3 * products(kind, shape) / ms / 1e6, 1) for name, ms in times.items()}
    yield {"kind": kind, "shape": shape, "work": "large", "ms": times, "GFLOP/s": speed}


def export_times(kind, shape, rounds):
    ours, kerass, x = pair(kind, shape)
    mask = random_mask(shape)
    with tempfile.TemporaryDirectory() as folder:
        candidates = {
            "ours": exported(ours, x, f"{folder}/ours"),
            "ours, mask": exported(ours, x, f"{folder}/ours_mask", mask),
            "keras": exported(kerass, x, f"{folder}/keras"),
            "keras, mask": exported(kerass, x, f"{folder}/keras_mask", mask),
        }
        times, _ = medians(candidates, rounds)
    yield {"kind": kind, "shape": shape, "work": "exported", "ms": times}


def option_times(kind, shape, rounds):
    """What a mask and a recurrent dropout cost."""
    ours, kerass, x = pair(kind, shape)
    mask = random_mask(shape)
    train = {
        "ours": training_step(ours, x),
        "ours, mask": training_step(ours, x, mask),
        "keras": training_step(kerass, x),
        "keras, mask": training_step(kerass, x, mask),
    }
    infer = {
        "ours": inference(ours, x),
        "ours, mask": inference(ours, x, mask),
        "keras": inference(kerass, x),
        "keras, mask": inference(kerass, x, mask),
    }
    if kind in ("LSTM", "GRU"):
        ours, kerass, _ = pair(kind, shape, recurrent_dropout=0.2)
        train["ours, recurrent dropout"] = training_step(ours, x)
        train["keras, recurrent dropout"] = training_step(kerass, x)
    for work, candidates in (("training", train), ("inference", infer)):
        if work == "training" and shape[0] == 1:
            continue
        times, _ = medians(candidates, rounds)
        yield {"kind": kind, "shape": shape, "work": f"options, {work}", "ms": times}


def growth(rounds):
    """How time, trace-and-compile time and memory grow with the length; time with the units."""
    sizes = [("length", (32, t, 128, 128)) for t in LENGTHS]
    for along, shape in sizes + [("units", (32, 100, h, h)) for h in UNITS]:
        ours, kerass, x = pair("LSTM", shape)
        candidates = {"ours": training_step(ours, x), "keras": training_step(kerass, x)}
        times, first = medians(candidates, rounds)
        case = {"kind": "LSTM", "shape": shape, "work": f"growth, {along}", "ms": times}
        case["first call ms"] = {name: round(ms) for name, ms in first.items()}
        if along == "length":
            case["peak MB"] = {name: peak_memory(name, shape) for name in candidates}
        yield case


def peak_memory(name, shape):
    """What a training step adds to the memory of a process of its own, in MB."""
    command = [sys.executable, __file__, "--memory", name, *map(str, shape)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_memory(name, *shape):
    shape = tuple(map(int, shape))
    ours, kerass, x = pair("LSTM", shape)
    layer = kerass if name == "keras" else ours
    small = pair("LSTM", (1, 2, *shape[2:]))
    training_step(small[name == "keras"], small[2])()  # loads what compiles
    before, peak, done = resident(), 0, threading.Event()

    def watch():
        nonlocal peak
        while not done.wait(0.001):
            peak = max(peak, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    step = training_step(layer, x)
    for _ in range(5):
        step()
    done.set()
    watcher.join()
    print((peak - before) // 2**20)


def resident():
    """Bytes of memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


# --- Results -----------------------------------------------------------------------------


def summary(cases):
    """The ratios that matter: others' time over ours, and what options cost."""
    found = {}
    for work in ("training", "inference"):
        for ours in ("ours", "ours, any length", "ours XLA", "ours compiled"):
            keras_ratios, torch_ratios = {}, {}
            for case in cases:
                if (case["work"], case["shape"][0] == 1) != (work, False):
                    continue
                ms = case["ms"]
                if case["kind"] not in ("LSTM", "GRU", "Bidirectional LSTM") or ours not in ms:
                    continue
                key = f"{case['kind']} {case['shape']}"
                keras_ratios[key] = min(ms["keras"], ms["keras XLA"]) / ms[ours]
                if "torch" in ms:
                    torch_ratios[key] = ms["torch"] / ms[ours]
            for other, ratios in (("keras", keras_ratios), ("torch", torch_ratios)):
                found[f"{work}, {ours} against {other}"] = mean_and_worst(ratios, min)
    for other in ("keras", "torch"):
        ratios = {
            f"{c['kind']} {c['shape']}": c["ms"][other] / c["ms"]["ours"]
            for c in cases
            if c["work"] == "large" and other in c["ms"]
        }
        found[f"large, training, ours against {other}"] = mean_and_worst(ratios, min)
    for batch in sorted({c["shape"][0] for c in cases if c["work"] == "exported"}):
        ratios = {
            f"{c['kind']} {c['shape']}": c["ms"]["keras"] / c["ms"]["ours"]
            for c in cases
            if c["work"] == "exported" and c["shape"][0] == batch
        }
        found[f"exported, batch {batch}"] = {k: round(v, 2) for k, v in ratios.items()}
    for work in ("options, training", "options, inference", "exported"):
        for option in ("mask", "recurrent dropout"):
            ratios = {
                f"{c['kind']} {c['shape']}": c["ms"][f"ours, {option}"] / c["ms"]["ours"]
                for c in cases
                if c["work"] == work and f"ours, {option}" in c["ms"]
            }
            found[f"{work}, time with {option} to that without"] = mean_and_worst(ratios, max)
    return {key: value for key, value in found.items() if value}


def mean_and_worst(ratios, worst_of):
    if not ratios:
        return None
    worst = worst_of(ratios, key=ratios.get)
    return {
        "geometric mean": round(statistics.geometric_mean(ratios.values()), 2),
        "worst": round(ratios[worst], 2),
        "worst case": worst,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--rounds", type=int, default=5, help="turns of each candidate")
    only = ["layers", "exported", "options", "large", "growth", "first"]
    parser.add_argument("--only", choices=only, help="a part; needs --output")
    parser.add_argument("--output", type=Path, help="folder of the results; default: this one")
    parser.add_argument("--memory", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory:
        return print_memory(*arguments.memory)
    if (arguments.only or arguments.kinds != list(KINDS)) and not arguments.output:
        parser.error("parts of the results would replace all of them: give --output FOLDER")
    arguments.output = arguments.output or HERE

    tf.autograph.set_verbosity(0)
    if torch:
        torch.set_num_threads(cores())
    rounds, cases = arguments.rounds, []
    results = {
        "machine": machine(),
        "date": datetime.date.today().isoformat(),
        "versions": {
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "torch": torch.__version__ if torch else None,
        },
        "GEMM peak GFLOP/s": round(gemm_peak(), 1),
        "cases": cases,
    }
    print(results["machine"], results["versions"], results["GEMM peak GFLOP/s"], "GFLOP/s")

    parts = {"layers": layer_times, "exported": export_times, "options": option_times}
    work = [
        (part, (kind, s))
        for part in parts.items()
        for s in [*SHAPES, ONE]
        for kind in arguments.kinds
    ]
    large = [kind for kind in ("LSTM", "GRU") if kind in arguments.kinds]
    work += [(("large", large_times), (kind, s)) for s in LARGE for kind in large]
    work += [(("growth", growth), ())]
    for (name, measure), case in work:
        if arguments.only in (None, name):
            for found in measure(*case, rounds):
                cases.append(found)
                shape = ",".join(map(str, found["shape"]))
                times = "  ".join(f"{k} {ms:.1f}" for k, ms in found["ms"].items())
                print(
                    f"{found['work']:20s} {found['kind']:18s} {shape:16s} ms: {times}", flush=True
                )
            keras.backend.clear_session()
    if arguments.only in (None, "first"):
        results["first steps"] = first_steps.compare()
        print(json.dumps(results["first steps"], indent=2))
    results["summary"] = summary(cases)
    print(json.dumps(results["summary"], indent=2))
    arguments.output.mkdir(parents=True, exist_ok=True)
    pictures.recurrence(results, arguments.output / "recurrence.png")
    (arguments.output / "recurrence.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
