"""The best epoch is kept, also over an interruption; a run is known by what it was made of."""

import argparse
import fcntl
import json
import math
import os
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes.common import files, publishing, training


class Killed(BaseException):
    pass


def run(folder, epochs, scores, monkeypatch, data=(1, 2), extendable=False, parts=1, **arguments):
    """Trains a model whose validation scores are given."""
    on_epoch_end = training.KeepEpochs.on_epoch_end

    def scored(self, epoch, logs):
        if scores[epoch] is Killed:
            raise Killed
        on_epoch_end(self, epoch, {**logs, "val_loss": scores[epoch]})

    known = {"output": folder, "epochs": epochs, "steps": None, "restart": False, "seed": 0}
    args = argparse.Namespace(**(known | arguments))
    training.seed(args)
    training.begin(args, *data, extendable=extendable)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    ones = np.ones((2, 1))
    batches = tf.data.Dataset.from_tensor_slices((ones, ones)).batch(2)
    with monkeypatch.context() as patched:
        patched.setattr(training.KeepEpochs, "on_epoch_end", scored)
        best = "val_loss", "min"
        trained = training.fit(model, batches, batches, args, best=best, parts=parts)
    return trained, model.get_weights()


def test_the_best_epoch_survives_an_interruption(tmp_path, monkeypatch):
    with pytest.raises(Killed):
        run(tmp_path, 4, [0.1, 0.3, Killed], monkeypatch)
    kept = {p.name for p in (tmp_path / "checkpoints").iterdir()}
    assert kept == {"1.weights.h5", "2.weights.h5", "history.json"}
    trained, weights = run(tmp_path, 4, [None, None, 0.2, 0.4], monkeypatch)
    assert trained["best_epoch"] == 1
    assert trained["history"]["val_loss"] == [0.1, 0.3, 0.2, 0.4]
    one = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    one.load_weights(tmp_path / "checkpoints/1.weights.h5")
    np.testing.assert_array_equal(weights[0], one.get_weights()[0])


def test_the_parts_of_an_epoch_are_kept_one_by_one(tmp_path, monkeypatch):
    scores = [0.5, 0.4, 0.3, 0.2, 0.6, 0.7]
    whole, expected = run(tmp_path / "whole", 2, scores, monkeypatch, parts=3)
    assert whole["history"]["val_loss"] == scores and whole["best_epoch"] == 4
    with pytest.raises(Killed):
        run(tmp_path / "run", 2, [*scores[:4], Killed], monkeypatch, parts=3)
    trained, weights = run(tmp_path / "run", 2, [None] * 4 + scores[4:], monkeypatch, parts=3)
    assert trained["history"]["val_loss"] == scores
    np.testing.assert_allclose(weights[0], expected[0], rtol=1e-6)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("file", ["2.weights.h5", "history.json"])
def test_killed_at_any_file_a_run_goes_on_as_if_it_had_not_been(when, file, tmp_path, monkeypatch):
    scores = [0.3, 0.1, 0.2]
    whole, expected = run(tmp_path / "whole", 3, scores, monkeypatch)

    write = files.write

    def killed(path, writer):
        now = path.name == file and (path.parent / "2.weights.h5").exists() == (
            file == "history.json"
        )
        if now and when == "before":
            raise Killed
        write(path, writer)
        if now:
            raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(files, "write", killed)
        run(tmp_path / "run", 3, scores, monkeypatch)
    trained, weights = run(tmp_path / "run", 3, scores, monkeypatch)
    assert trained["best_epoch"] == whole["best_epoch"] == 2
    np.testing.assert_allclose(weights[0], expected[0], rtol=1e-6)


@pytest.mark.parametrize("lost", [math.nan, math.inf])
def test_training_that_diverges_stops_and_keeps_what_was_before(lost, tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match=r"diverged in epoch 2: val_loss is (nan|inf)"):
        run(tmp_path, 3, [0.1, lost, 0.1], monkeypatch)
    assert training.epochs_done(tmp_path) == 1


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"seed": 1}, ["--seed: 0 there, 1 here"]),
        ({"data": (1, 3)}, ["data read, by fingerprint: "]),
        ({"dimension": 5}, ["--dimension: None there, 5 here"]),
        ({"epochs": 2}, ["--epochs: 1 there, 2 here", "none can be added"]),
    ],
)
def test_a_run_that_differs_is_refused_by_its_differences(changed, says, tmp_path, monkeypatch):
    run(tmp_path, 1, [0.1], monkeypatch)
    changed = {"epochs": 1, **changed}
    epochs = changed.pop("epochs")
    with pytest.raises(SystemExit) as error:
        run(tmp_path, epochs, [0.1] * 2, monkeypatch, **changed)
    said = str(error.value)
    assert all(text in said for text in [*says, "--restart"])
    assert said.count(" there, ") == 1  # and nothing but the difference
    (tmp_path / "metrics.json").touch()
    again, _ = run(tmp_path, epochs, [0.2] * 2, monkeypatch, restart=True, **changed)
    assert not (tmp_path / "metrics.json").exists()
    assert again["history"]["val_loss"] == [0.2] * epochs


def test_more_epochs_are_added_where_the_schedule_allows_it(tmp_path, monkeypatch):
    run(tmp_path, 1, [0.1], monkeypatch, extendable=True)
    longer, _ = run(tmp_path, 3, [None, 0.2, 0.3], monkeypatch, extendable=True)
    assert longer["history"]["val_loss"] == [0.1, 0.2, 0.3]
    with pytest.raises(SystemExit, match="3 are done, 2 here"):
        run(tmp_path, 2, [], monkeypatch, extendable=True)


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, monkeypatch, capsys):
    run(tmp_path, 3, [0.2, 0.3, 0.1], monkeypatch)
    damaged = tmp_path / "checkpoints/3.weights.h5"
    damaged.write_bytes(damaged.read_bytes()[:1000])
    again, _ = run(tmp_path, 3, [None, None, 0.4], monkeypatch)
    assert "Going on after epoch 2" in capsys.readouterr().out
    assert again["history"]["val_loss"] == [0.2, 0.3, 0.4] and again["best_epoch"] == 1


def test_a_damaged_history_says_what_to_do(tmp_path, monkeypatch):
    run(tmp_path, 1, [0.2], monkeypatch)
    history = tmp_path / "checkpoints/history.json"
    history.write_text(history.read_text()[:50])
    with pytest.raises(SystemExit, match=r"history.json is damaged .* --restart begins anew"):
        run(tmp_path, 1, [0.2], monkeypatch)
    run(tmp_path, 1, [0.2], monkeypatch, restart=True)


def test_the_fingerprint_is_of_the_content():
    data = [np.arange(6).reshape(2, 3), ["a", b"bc"], {"x": (1, None)}]
    same = [np.arange(6).reshape(2, 3), ("a", b"bc"), {"x": [1, None]}]
    assert training.fingerprint(*data) == training.fingerprint(*same)
    others = [
        [np.arange(6).reshape(3, 2), *data[1:]],
        [np.arange(6.0).reshape(2, 3), *data[1:]],
        [data[0], ["ab", b"c"], data[2]],
        [data[0], ["a", b"bd"], data[2]],
    ]
    assert len({training.fingerprint(*x) for x in (data, *others)}) == 5


def test_metrics_are_valid_json(tmp_path):
    found = {"a": math.nan, "b": [np.float32(1.5), -math.inf], "c": {1: np.int64(2)}}
    files.write_json(tmp_path / "metrics.json", found)
    read = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert read == {"a": None, "b": [1.5, None], "c": {"1": 2}}


def averaged(folder, epochs, killed_after=None):
    """(what `fit` says, the model) of a small run that keeps a mean of its weights."""
    args = argparse.Namespace(output=folder, epochs=epochs, restart=False, seed=3)
    training.seed(args)
    training.begin(args, extendable=True)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile(keras.optimizers.Adam(0.2, use_ema=True, ema_momentum=0.9), "mse")
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((x, x[:, :3] * 2)).batch(4)
    with pytest.MonkeyPatch.context() as patched:
        if killed_after:
            end = training.KeepEpochs.on_epoch_end

            def on_epoch_end(self, epoch, logs=None):
                end(self, epoch, logs)
                if epoch + 1 == killed_after:
                    raise Killed

            patched.setattr(training.KeepEpochs, "on_epoch_end", on_epoch_end)
        trained = training.fit(model, data, data, args, best=("val_loss", "min"))
    return trained, model, data


def test_the_mean_of_the_weights_is_validated_and_kept(tmp_path):
    trained, model, data = averaged(tmp_path / "whole", 3)
    best = min(trained["history"]["val_loss"])
    assert model.evaluate(data, verbose=0) == pytest.approx(best, rel=1e-5)
    path = tmp_path / f"whole/checkpoints/{trained['best_epoch']}.weights.h5"
    last = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    last.compile("sgd", "mse")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has no mean
        last.load_weights(path)
    assert last.evaluate(data, verbose=0) != pytest.approx(best, rel=1e-3)

    with pytest.raises(Killed):
        averaged(tmp_path / "killed", 3, killed_after=2)
    again, resumed, _ = averaged(tmp_path / "killed", 3)
    np.testing.assert_allclose(again["history"]["val_loss"], trained["history"]["val_loss"])
    for a, b in zip(resumed.get_weights(), model.get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_run_of_another_optimizer_is_refused(tmp_path):
    _, model, _ = averaged(tmp_path, 1)
    model.compile(keras.optimizers.Adam(0.2), "mse")
    model.optimizer.build(model.trainable_variables)
    model.save_weights(tmp_path / "checkpoints/1.weights.h5")
    with pytest.raises(SystemExit, match=r"another version of this recipe.*--restart"):
        averaged(tmp_path, 2)


def test_two_processes_do_not_train_in_one_folder(tmp_path, monkeypatch):
    def lock():
        return os.open(tmp_path / files.LOCK, os.O_RDWR | os.O_CREAT)

    other = lock()
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(SystemExit, match=r"Another process works in .* another --output"):
        run(tmp_path, 1, [0.1], monkeypatch)
    assert [path.name for path in tmp_path.iterdir()] == [files.LOCK]
    os.close(other)
    run(tmp_path, 1, [0.1], monkeypatch)
    other = lock()
    with pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with publishing.locked(tmp_path, wait=False):  # models may be published there
        pass
    run(tmp_path / "next", 1, [0.1], monkeypatch)  # this process is done with the first
    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(other)


def test_what_other_weights_have_made_does_not_stay(tmp_path, monkeypatch):
    run(tmp_path, 2, [0.1, 0.2], monkeypatch, extendable=True)
    (tmp_path / "onnx").mkdir()
    for name in ("metrics.json", "encoder.keras", "onnx/model.onnx"):
        (tmp_path / name).touch()
    run(tmp_path, 2, [None] * 2, monkeypatch, extendable=True)  # it is done, and stays
    assert (tmp_path / "encoder.keras").exists() and (tmp_path / "onnx/model.onnx").exists()
    with pytest.raises(Killed):
        run(tmp_path, 3, [None, None, Killed], monkeypatch, extendable=True)
    assert {path.name for path in tmp_path.iterdir()} <= {"checkpoints", "tensorboard", files.LOCK}


def test_what_others_have_made_stays(tmp_path, monkeypatch):
    (tmp_path / "onnx").mkdir()
    (tmp_path / "vectors.txt").touch()
    run(tmp_path, 1, [0.1], monkeypatch)  # no run was there before
    assert (tmp_path / "onnx").exists() and (tmp_path / "vectors.txt").exists()
    vectors = str(tmp_path / "vectors.txt")
    run(tmp_path, 1, [0.1], monkeypatch, restart=True, embeddings=vectors)
    assert not (tmp_path / "onnx").exists() and (tmp_path / "vectors.txt").exists()
