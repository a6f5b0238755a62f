"""Versions appear whole, count up, and leave nothing behind when they fail."""

import multiprocessing
import threading
from multiprocessing.pool import ThreadPool

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes.common import publishing


@pytest.fixture
def model():
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])


def signatures(model):
    spec = {"x": tf.TensorSpec([None, 2])}
    example = {"x": [[1.0, 2.0]]}
    return {
        "serving_default": (lambda x: {"y": model(x)}, spec, example),
        "twice": (lambda x: {"y": 2 * model(x)}, spec, example),
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
        publishing.publish(
            model, tmp_path / "m", {"serving_default": (broken, spec, {"x": [[1, 2]]})}
        )
    assert list((tmp_path / "m").iterdir()) == []


@pytest.mark.parametrize("where", ["weight", "answer", "refusal"])
def test_what_does_not_answer_with_numbers_is_not_published(where, model, tmp_path):
    def divided(x):
        most = tf.debugging.assert_less(x, 1.0 if where == "refusal" else 9.0, "too large")
        with tf.control_dependencies([most]):
            return {"y": model(x) / (0.0 if where == "answer" else 1.0)}

    if where == "weight":
        model.set_weights([np.array([[np.nan], [1]]), np.zeros(1)])
    says = {"weight": "kernel holds", "answer": "'y' of 'serving_default'", "refusal": "too large"}
    signature = (divided, {"x": tf.TensorSpec([None, 2])}, {"x": [[1.0, 2.0]]})
    with pytest.raises(SystemExit, match=says[where]):
        publishing.publish(model, tmp_path / "m", {"serving_default": signature})
    assert list((tmp_path / "m").iterdir()) == []


@pytest.mark.parametrize(
    ("example", "error"),
    [
        ({}, "'serving_default' has \\[\\], its inputs are \\['x'\\]"),
        ({"x": [[1.0]]}, "x of shape \\(1, 1\\), expected \\(None, 2\\)"),
        ({"x": [["one", "two"]]}, r"\bone\b"),
    ],
)
def test_an_example_that_does_not_fit_is_refused(model, tmp_path, example, error):
    spec = {"x": tf.TensorSpec([None, 2])}
    signatures = {"serving_default": (lambda x: {"y": model(x)}, spec, example)}
    with pytest.raises((ValueError, TypeError), match=error):
        publishing.publish(model, tmp_path / "m", signatures)
    assert list((tmp_path / "m").iterdir()) == []


def test_whoever_comes_at_the_same_time_takes_the_next_number(tmp_path):
    (tmp_path / "m").mkdir()
    names = [f"written {k}" for k in range(8)]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "saved_model.pb").write_text(name)
    with ThreadPool(len(names)) as pool:
        pool.map(lambda n: publishing.put_in_place(tmp_path / n, tmp_path / "m"), names)
    versions = sorted((tmp_path / "m").iterdir())
    assert [p.name for p in versions] == list("12345678")
    assert sorted((p / "saved_model.pb").read_text() for p in versions) == names


def test_old_versions_go(model, tmp_path):
    for _ in range(4):
        publishing.publish(model, tmp_path, signatures(model), keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["3", "4"]


@pytest.mark.parametrize("keep", [1, 2, 3, 4, 5, 9])
def test_as_many_versions_stay_as_are_wanted(tmp_path, keep):
    for version in range(1, 7):
        (tmp_path / "written").mkdir()
        publishing.put_in_place(tmp_path / "written", tmp_path, keep)
        kept = sorted(int(p.name) for p in tmp_path.iterdir())
        assert kept == [*range(1, version + 1)][-keep:]


def test_what_another_is_writing_stays(tmp_path):
    for name in (".writing-now", ".writing-left"):
        (tmp_path / name).mkdir()
    with publishing.locked(tmp_path / ".writing-now"):
        publishing.remove_what_was_left(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [".writing-now"]


def publish_small(folder):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, kernel_initializer="ones")])
    for _ in range(100):
        publishing.publish(model, folder, signatures(model), keep=2)


def test_killed_at_any_moment_only_whole_versions_are_seen(model, tmp_path):
    """Six times; a reader loads whatever it sees meanwhile."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["recipes.common.publishing"])
    done, loaded, failures = threading.Event(), set(), []

    def read():
        while not done.is_set():
            for version in [p for p in tmp_path.iterdir() if p.name.isdigit()]:
                try:
                    answer = tf.saved_model.load(version).signatures["twice"](x=tf.ones([1, 2]))
                    np.testing.assert_allclose(answer["y"], [[4]])
                    loaded.add(int(version.name))
                except Exception as error:  # it may have been the oldest, and be gone by now
                    if version.exists():
                        failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    rng = np.random.default_rng(0)
    for _ in range(6):
        process = processes.Process(target=publish_small, args=(tmp_path,))
        process.start()
        process.join(1 + 2 * rng.random())
        process.kill()
        process.join()
    done.set()
    reader.join()
    assert not failures and len(loaded) > 1
    publishing.publish(model, tmp_path, signatures(model), keep=1)
    assert len(list(tmp_path.iterdir())) == 1
