"""Keras's own tests of its recurrent layers, with ours in their place.

Keras installs its tests with itself; they run in a process of their own.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import keras
from conftest import HASTY

TESTS = Path(__file__).parent
MODULES = ["simple_rnn", "lstm", "gru", "bidirectional", "rnn", "stacked_rnn_cells"]
MODULES += ["dropout_rnn_cell", "time_distributed"]
# About which of its cuDNN kernels Keras chooses; there is nothing of that here to test.
CUDNN = ["test_keeps_use_cudnn", "test_fused_lstm", "test_fused_gru", "test_torch_cudnn"]


def test_keras_own_tests_pass_with_our_layers():
    command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "-p", "no:cacheprovider"]
    command += ["-p", "keras_with_our_layers", "-k", " and ".join(f"not {n}" for n in CUDNN)]
    command += ["--pyargs", *(f"keras.src.layers.rnn.{module}_test" for module in MODULES)]
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    environment = {**os.environ, **HASTY, "PYTHONPATH": path}
    done = subprocess.run(command, env=environment, cwd=TESTS, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:]
    counts = {word: int(n) for n, word in re.findall(r"(\d+) (\w+)", done.stdout.splitlines()[-1])}
    print(f"Keras {keras.__version__}: {counts}")
    assert counts["passed"] == 61 and counts["deselected"] == 7
    assert "failed" not in counts and "skipped" not in counts
