"""The README's Python does what it says."""

import re
import subprocess
import sys

import numpy as np
import tensorflow as tf
from conftest import REPOSITORY

BLOCKS = re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)


def test_examples_run_as_they_stand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), names)

    # "loads again wherever `layers` was imported"
    load = "import sys; sys.path.insert(0, sys.argv[1]); import keras, layers;"
    load += "keras.models.load_model('model.keras').summary()"
    subprocess.run([sys.executable, "-c", load, REPOSITORY], check=True, cwd=tmp_path)

    # The README's cell, exported, answers as before under a mask with a hole.
    words = np.random.default_rng(0).normal(size=(2, 5, 8)).astype("float32")
    mask = np.array([[1, 0, 1, 1, 0], [1, 1, 1, 1, 1]], bool)
    loaded = tf.saved_model.load("saved_model")
    served = loaded.serve([words, mask])
    np.testing.assert_allclose(served, names["tagger"]([words, mask]), atol=1e-5)
    assert np.all(served.numpy()[0, 1] == 0)

    # Named, it is the same layer.
    layer = names["PeepholeLSTM"](4, return_sequences=True)
    assert layer(words).shape == (2, 5, 4) and layer.units == 4
