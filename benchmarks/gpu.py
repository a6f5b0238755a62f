"""Checks and times the layers where there is a GPU.

    python benchmarks/gpu.py

First the numbers: outputs and gradients of all cells on the GPU beside those of a plain loop on
the CPU in float64, with and without a mask, in all precisions. Then times of ours, Keras's (cuDNN
where it has it, and XLA) and, where it is installed, PyTorch's, by turns; and of an exported
model. Writes benchmarks/gpu.json, and says in one line what passed. Without a GPU it checks and
times what the CPU has, at the smallest shape.
"""

import argparse
import datetime
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parents[1]))

import keras
import numpy as np
import recurrence
import tensorflow as tf
from timing import by_turns, machine

import layers

GPU = bool(tf.config.list_logical_devices("GPU"))
SHAPES = [*recurrence.SHAPES, (64, 512, 512, 1024)] if GPU else recurrence.SHAPES[:1]
CELLS = {
    "SimpleRNN": layers.SimpleRNN,
    "LSTM": layers.LSTM,
    "GRU": layers.GRU,
    "GRU, update gate replaces": lambda n, **k: layers.GRU(n, update_gate="replace", **k),
    "GRU, reset before": lambda n, **k: layers.GRU(n, reset_after=False, **k),
    "PeepholeLSTM": layers.PeepholeLSTM,
    "CoupledLSTM": layers.CoupledLSTM,
    "ProjectedLSTM": lambda n, **k: layers.ProjectedLSTM(n, n // 2, **k),
    "LayerNormLSTM": layers.LayerNormLSTM,
    "IndRNN": layers.IndRNN,
}
# How far off an output or a gradient may be, relative, in the Euclidean norm; or else …
TOLERANCES = {"float32": 1e-3, "mixed_float16": 3e-2, "mixed_bfloat16": 1e-1}
OF_A_LOOP = 3  # … so many times as far as a plain loop on the CPU is, in the same precision


def results(layer, x, mask):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, mask=mask, training=True)
        total = tf.reduce_sum(tf.sin(tf.cast(y, x.dtype)))
    return y, *tape.gradient(total, [x, *[w.value for w in layer.trainable_weights]])


def errors(make, policy, masked):
    """(the largest error of an output or a gradient, that of a plain loop on the CPU)."""
    batch, time, features, units = 19, 40, 8, 16
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=(batch, time, features)))
    mask = tf.constant(rng.random((batch, time)) < 0.7) if masked else None
    exact = make(units, return_sequences=True, recurrence="loop", dtype="float64")
    ours = make(units, return_sequences=True, dtype=policy)
    plain = make(units, return_sequences=True, recurrence="loop", dtype=policy)
    with tf.device("CPU:0"):
        exact.build(x.shape)
        expected = results(exact, x, mask)
        plain.build(x.shape)
        plain.set_weights(exact.get_weights())
        by_plain = results(plain, tf.cast(x, "float32"), mask)
    ours.build(x.shape)
    ours.set_weights(exact.get_weights())
    found = tf.function(results)(ours, tf.cast(x, "float32"), mask)

    def off(values):
        pairs = zip((np.asarray(v, "float64") for v in values), expected, strict=True)
        return max(float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in pairs)

    return off(found), off(by_plain)


def checks():
    for name, make in CELLS.items():
        for policy, tolerance in TOLERANCES.items():
            for masked in (False, True):
                error, of_loop = errors(make, policy, masked)
                passed = error <= max(tolerance, OF_A_LOOP * of_loop)
                case = f"{name}, {policy}{', mask' if masked else ''}"
                shown = f"{case}: {error:.1e} (a loop {of_loop:.1e})"
                print(f"{'ok  ' if passed else 'OFF '} {shown}", flush=True)
                yield {"case": case, "error": error, "of a loop": of_loop, "passed": passed}


def on_the_gpu(run):
    def execute():
        with tf.device("GPU:0" if GPU else "CPU:0"):
            return run()

    return execute


def torch_runs(module, x):
    device = "cuda" if GPU else "cpu"
    module, x = module.to(device), recurrence.torch.tensor(x.numpy(), device=device)

    def train():  # and copies what comes out, as ours and Keras's do: that waits for it, too
        module.zero_grad()
        y, _ = module(x)
        (y * y).sum().backward()
        return [weight.grad.cpu() for weight in module.parameters()]

    def infer():
        with recurrence.torch.no_grad():
            return module(x)[0].cpu()

    return {"training": train, "inference": infer}


def without_cudnn(kind, units, of, x):
    """Keras's layer with the weights `of` another, for XLA, which can't compile cuDNN's."""
    layer = recurrence.KINDS[kind][1](units)
    layer(x)
    layer.set_weights(of.get_weights())
    for one in (
        layer,
        *(getattr(layer, f"{name}_layer", None) for name in ("forward", "backward")),
    ):
        if hasattr(one, "use_cudnn"):
            one.use_cudnn = False
    return layer


def times(rounds):
    for shape in SHAPES:
        for kind in ("SimpleRNN", "LSTM", "GRU", "Bidirectional LSTM", "custom cell"):
            ours, kerass, x = recurrence.pair(kind, shape)
            for_xla = without_cudnn(kind, shape[3], kerass, x)
            work = {
                "training": {
                    "ours": recurrence.training_step(ours, x),
                    "keras": recurrence.training_step(kerass, x),
                    "keras XLA": recurrence.training_step(for_xla, x, xla=True),
                },
                "inference": {
                    "ours": recurrence.inference(ours, x),
                    "keras": recurrence.inference(kerass, x),
                    "keras XLA": recurrence.inference(for_xla, x, xla=True),
                },
            }
            make = recurrence.KINDS[kind][2] if recurrence.torch else None
            if make:
                for name, run in torch_runs(make(shape[2], shape[3]), x).items():
                    work[name]["torch"] = run
            with tempfile.TemporaryDirectory() as folder:
                work["exported"] = {"ours": recurrence.exported(ours, x, f"{folder}/ours")}
                work["exported"]["keras"] = recurrence.exported(kerass, x, f"{folder}/keras")
                for name, candidates in work.items():
                    candidates = {n: on_the_gpu(run) for n, run in candidates.items()}
                    found = by_turns(candidates, [()] * rounds, rehearse=True)
                    ms = {n: round(statistics.median(t), 2) for n, t in found.items()}
                    print(f"{name:10s} {kind:18s} {shape}: {ms}", flush=True)
                    yield {"work": name, "kind": kind, "shape": shape, "ms": ms}
            keras.backend.clear_session()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="turns of each candidate")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("gpu.json"))
    arguments = parser.parse_args()
    tf.get_logger().setLevel("ERROR")  # it takes many layers, each traced once, for a mistake
    details = tf.config.experimental.get_device_details
    devices = [details(d)["device_name"] for d in tf.config.list_physical_devices("GPU")]
    devices = devices or ["no GPU"]
    found = {
        "machine": machine(),
        "devices": devices,
        "date": datetime.date.today().isoformat(),
        "checks": list(checks()),
    }
    arguments.output.write_text(json.dumps(found, indent=1) + "\n")  # should a time not be had
    found["times"] = list(times(arguments.rounds))
    arguments.output.write_text(json.dumps(found, indent=1) + "\n")
    passed = sum(c["passed"] for c in found["checks"])
    print(f"{passed} of {len(found['checks'])} checks passed on {', '.join(devices)}")
    sys.exit(passed < len(found["checks"]))


if __name__ == "__main__":
    main()
