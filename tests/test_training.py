"""The best epoch is kept, also over an interruption."""

import argparse

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes.common import training


class Killed(BaseException):
    pass


def run(folder, epochs, scores, monkeypatch, **arguments):
    """Trains a model whose validation scores are given."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    on_epoch_end = training.KeepEpochs.on_epoch_end

    def scored(self, epoch, logs):
        if scores[epoch] is Killed:
            raise Killed
        on_epoch_end(self, epoch, {**logs, "val_loss": scores[epoch]})

    args = argparse.Namespace(epochs=epochs, output=folder, steps=None, **arguments)
    ones = np.ones((2, 1))
    data = tf.data.Dataset.from_tensor_slices((ones, ones)).batch(2)
    with monkeypatch.context() as patched:
        patched.setattr(training.KeepEpochs, "on_epoch_end", scored)
        trained = training.fit(model, data, data, args, best=("val_loss", "min"))
    return trained, model.get_weights()


def test_the_best_epoch_survives_an_interruption(tmp_path, monkeypatch):
    with pytest.raises(Killed):
        run(tmp_path, 4, [0.1, 0.3, Killed], monkeypatch, seed=0)
    kept = {p.name for p in (tmp_path / "checkpoints").iterdir()}
    assert kept == {"1.weights.h5", "2.weights.h5", "history.json"}
    trained, weights = run(tmp_path, 4, [None, None, 0.2, 0.4], monkeypatch, seed=0)
    assert trained["best_epoch"] == 1
    assert trained["history"]["val_loss"] == [0.1, 0.3, 0.2, 0.4]
    one = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    one.load_weights(tmp_path / "checkpoints/1.weights.h5")
    np.testing.assert_array_equal(weights[0], one.get_weights()[0])


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("file", ["2.weights.h5", "history.json"])
def test_killed_at_any_file_a_run_goes_on_as_if_it_had_not_been(when, file, tmp_path, monkeypatch):
    scores = [0.3, 0.1, 0.2]
    keras.utils.set_random_seed(0)
    whole, expected = run(tmp_path / "whole", 3, scores, monkeypatch, seed=0)

    write = training.write

    def killed(path, writer):
        now = path.name == file and (path.parent / "2.weights.h5").exists() == (
            file == "history.json"
        )
        if now and when == "before":
            raise Killed
        write(path, writer)
        if now:
            raise Killed

    keras.utils.set_random_seed(0)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(training, "write", killed)
        run(tmp_path / "run", 3, scores, monkeypatch, seed=0)
    trained, weights = run(tmp_path / "run", 3, scores, monkeypatch, seed=0)
    assert trained["best_epoch"] == whole["best_epoch"] == 2
    np.testing.assert_allclose(weights[0], expected[0], rtol=1e-6)


def test_nan_is_never_the_best(tmp_path, monkeypatch):
    assert run(tmp_path, 2, [float("nan"), 0.3], monkeypatch, seed=0)[0]["best_epoch"] == 2


@pytest.mark.parametrize("other", [{"seed": 1}, {"seed": 0, "epochs": 3}])
def test_a_run_with_other_arguments_is_not_taken_up(other, tmp_path, monkeypatch):
    run(tmp_path, 1, [0.1], monkeypatch, seed=0)
    with pytest.raises(SystemExit, match=r"'seed': 0.*'seed':.*another --output"):
        run(tmp_path, other.pop("epochs", 1), [0.1] * 3, monkeypatch, **other)
