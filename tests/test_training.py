"""The best epoch is kept, also over an interruption."""

import argparse

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import training


def run(folder, epochs, scores, monkeypatch, **arguments):
    """Trains a model whose validation scores are given."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    on_epoch_end = training.KeepEpochs.on_epoch_end

    def scored(self, epoch, logs):
        on_epoch_end(self, epoch, {**logs, "val_loss": scores[epoch]})

    monkeypatch.setattr(training.KeepEpochs, "on_epoch_end", scored)
    args = argparse.Namespace(epochs=epochs, output=folder, steps=None, **arguments)
    ones = np.ones((2, 1))
    data = tf.data.Dataset.from_tensor_slices((ones, ones)).batch(2)
    trained = training.fit(model, data, data, args, best=("val_loss", "min"))
    monkeypatch.undo()
    return trained, model.get_weights()


def test_the_best_epoch_survives_an_interruption(tmp_path, monkeypatch):
    keras.utils.set_random_seed(0)
    first, best = run(tmp_path, 2, [0.1, 0.3], monkeypatch, seed=0)
    assert first["best_epoch"] == 1
    after, weights = run(tmp_path, 4, [None, None, 0.2, 0.4], monkeypatch, seed=0)
    assert after["best_epoch"] == 1 and after["history"]["val_loss"] == [0.1, 0.3, 0.2, 0.4]
    np.testing.assert_array_equal(weights[0], best[0])
    last, weights = run(tmp_path, 5, [None] * 4 + [0.05], monkeypatch, seed=0)
    assert last["best_epoch"] == 5 and not np.array_equal(weights[0], best[0])


def test_a_run_with_other_arguments_is_not_taken_up(tmp_path, monkeypatch):
    run(tmp_path, 1, [0.1], monkeypatch, seed=0)
    with pytest.raises(SystemExit, match=r"'seed': 0.*'seed': 1.*another --output"):
        run(tmp_path, 2, [0.1, 0.2], monkeypatch, seed=1)
