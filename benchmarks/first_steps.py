"""What a model costs before it trains at full speed: two bidirectional LSTM layers, in `fit`.

    python benchmarks/first_steps.py

Sequences of unknown length. For ours and Keras's, each in processes of its own by turns:
seconds of CPU for the first step, for the first one of another length and for one of a smaller
batch; and for further models like it, seconds for the first step and megabytes that each
leaves. Prints medians, and returns them to `benchmarks/recurrence.py`.
"""

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parents[1]))

BATCH, LENGTH, FEATURES, UNITS = 32, 50, 32, 64
MODELS = 6  # further ones


def measure(library: str) -> dict[str, float]:
    """One process's numbers."""
    import keras
    import numpy as np
    import tensorflow as tf

    import layers

    made_of = layers if library == "ours" else keras.layers
    tf.function(lambda x: x @ x, jit_compile=True)(tf.ones((8, 8)))  # loads what compiles

    def model():
        both = [
            made_of.Bidirectional(made_of.LSTM(UNITS, return_sequences=True)),
            made_of.Bidirectional(made_of.LSTM(UNITS)),
        ]
        model = keras.Sequential([keras.Input((None, FEATURES)), *both, keras.layers.Dense(1)])
        model.compile("adam", "mse")
        return model

    def seconds(model, rows, length):
        """Of CPU, for an epoch of one step."""
        x, y = np.zeros((rows, length, FEATURES), "float32"), np.zeros((rows, 1), "float32")
        specs = tf.TensorSpec((None, None, FEATURES)), tf.TensorSpec((None, 1))
        data = tf.data.Dataset.from_generator(lambda: iter([(x, y)]), output_signature=specs)
        start = time.process_time()
        model.fit(data, verbose=0)
        return time.process_time() - start

    first = model()
    found = {"first step": seconds(first, BATCH, LENGTH)}
    usual = min(seconds(first, BATCH, LENGTH) for _ in range(3))
    found["another length"] = seconds(first, BATCH, LENGTH + 23) - usual
    found["a smaller batch"] = seconds(first, BATCH - 11, LENGTH) - usual
    times, before = [], None
    for _ in range(1 + MODELS):
        times.append(seconds(model(), BATCH, LENGTH))
        gc.collect()
        before = before or _resident()
    found["first step of another model"] = statistics.median(times)
    found["MB a model"] = (_resident() - before) / MODELS
    return {name: round(value, 2) for name, value in found.items()}


def _resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def compare(rounds: int = 3) -> dict[str, dict[str, float]]:
    """Medians of several processes of each library, by turns."""
    found = {"ours": [], "keras": []}
    for _ in range(rounds):
        for library, results in found.items():
            command = [sys.executable, __file__, library]
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            results.append(json.loads(printed.splitlines()[-1]))
    return {
        library: {name: statistics.median(r[name] for r in results) for name in results[0]}
        for library, results in found.items()
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("library", nargs="?", choices=["ours", "keras"], help="one alone, once")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each")
    arguments = parser.parse_args()
    alone = arguments.library
    print(json.dumps(measure(alone) if alone else compare(arguments.rounds)))


if __name__ == "__main__":
    main()
