"""Versions appear whole, count up, and leave nothing behind when they fail."""

import threading

import keras
import pytest
import tensorflow as tf

from recipes import publishing


@pytest.fixture
def model():
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])


def signatures(model):
    spec = {"x": tf.TensorSpec([None, 2])}
    return {
        "serving_default": (lambda x: {"y": model(x)}, spec),
        "twice": (lambda x: {"y": 2 * model(x)}, spec),
    }


def test_versions_count_up_from_the_highest(model, tmp_path):
    assert publishing.publish(model, tmp_path / "m", signatures(model)).name == "1"
    (tmp_path / "m/9").mkdir()
    version = publishing.publish(model, tmp_path / "m", signatures(model))
    assert version.name == "10"
    loaded = tf.saved_model.load(version)
    x = tf.ones([3, 2])
    once, twice = (loaded.signatures[n](x=x)["y"] for n in ("serving_default", "twice"))
    tf.debugging.assert_near(2 * once, twice)
    tf.debugging.assert_near(once, model(x))


def test_a_failure_leaves_nothing(model, tmp_path):
    def broken(x):
        raise RuntimeError("no answer")

    spec = {"x": tf.TensorSpec([None, 2])}
    with pytest.raises(RuntimeError):
        publishing.publish(model, tmp_path / "m", {"serving_default": (broken, spec)})
    assert list((tmp_path / "m").iterdir()) == []


def test_who_comes_second_takes_the_next_number(model, tmp_path, monkeypatch):
    """Both see the same highest version before either renames."""
    both_counted = threading.Barrier(2)
    rename, calls = publishing.os.rename, []

    def wait_and_rename(source, target):
        calls.append(target)
        if len(calls) <= 2:
            both_counted.wait(timeout=60)
        rename(source, target)

    monkeypatch.setattr(publishing.os, "rename", wait_and_rename)
    folders = [tmp_path / "written", tmp_path / "too"]
    for folder in folders:
        folder.mkdir()
        (folder / "saved_model.pb").write_text(folder.name)
    (tmp_path / "m").mkdir()
    threads = [
        threading.Thread(target=publishing._rename_to_next_version, args=(f, tmp_path / "m"))
        for f in folders
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["1", "2"]
    written = {(p / "saved_model.pb").read_text() for p in (tmp_path / "m").iterdir()}
    assert written == {"written", "too"}
