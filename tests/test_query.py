"""`serving/query.py` asks any SavedModel of the recipes from the shell."""

import os
import subprocess
import sys

import pytest
import query
import tensorflow as tf
from conftest import REPOSITORY
from text import numbers


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    """A folder of two versions, which double a finite window of two channels."""
    folder = tmp_path_factory.mktemp("versions")
    for version in ("2", "10"):
        module = tf.Module()
        module.f = tf.function(
            lambda window: {
                "doubled": 2 * tf.debugging.assert_all_finite(window, "`window` must be finite")
            },
            input_signature=[tf.TensorSpec([None, 2, 2], name="window")],
        )
        tf.saved_model.save(module, folder / version, {"serving_default": module.f})
    return folder


def ask(monkeypatch, *arguments):
    """serving/query.py, in this process."""
    monkeypatch.setattr(sys, "argv", ["query.py", *map(str, arguments)])
    query.main()


def test_reads_numbers_below_a_header_and_beside_dates(versions, tmp_path, monkeypatch, capsys):
    path = tmp_path / "window.csv"
    path.write_text("date,a,b\n2016-07-01,1,2\n2016-07-02,3.5,4\n")
    ask(monkeypatch, versions, path)
    printed = capsys.readouterr().out.splitlines()
    assert printed[1:] == ["  doubled: ", "    2 4", "    7 8"]


def test_decimal_commas_and_a_header_in_another_encoding(versions, tmp_path):
    path = tmp_path / "window.csv"
    path.write_bytes("Tag;Größe;b\n1.7.2016;1.000,5;2\n2.7.2016;3;4,5\n".encode("latin-1"))
    command = [sys.executable, REPOSITORY / "serving/query.py", versions, path]
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.stdout.splitlines()[1:] == ["  doubled: ", "    2001 4", "    6 9"]
    assert not done.stderr  # TensorFlow's log neither


@pytest.mark.parametrize(
    ("text", "found"),
    [
        # As in training (recipes/common/tables.py).
        ("d;a;b\nx;1.234;5,5\nx;2.345;6\n", [[1234, 5.5], [2345, 6]]),
        ("d;a;b\nx;1.234;5,5\nx;2.34;6\n", [[1.234, 5.5], [2.34, 6]]),
        ("d;a;b\nx;1.234;5\nx;2.345;6\n", [[1.234, 5], [2.345, 6]]),
        ("date,101,102\n2024-01-01,3,4\n2024-01-02,5,6\n", [[3, 4], [5, 6]]),
        ("2024-01-01,3\n2024-01-02,5\n", [[3], [5]]),
        ("0,5;1\n2;3\n4;5\n", [[0.5, 1], [2, 3], [4, 5]]),
        ("0,5;1,5\n2;3\n", [[0.5, 1.5], [2, 3]]),
        ("date,due,a\n2024-01-01,2024-02-10,5\n2024-01-02,2024-01-20,6\n", [[5], [6]]),
        ("d\ta\tb\nx\t1,050\t0,5\ny\t2\t1\n", [[1.05, 0.5], [2, 1]]),
        ("d,a\n2024-01-01 00:00,1\n2024-01-01 23:00,3\n", [[1], [3]]),
        ("d,a\n2024-10-27 02:30+02:00,1\n2024-10-27 02:15+01:00,3\n", [[1], [3]]),
        ("d,a\n2024-10-27 02:15,1\n2024-10-27 02:45,2\n2024-10-27 02:00,3\n", [[1], [2], [3]]),
        ("d,a\n2024-13-45,1\n2024-13-46,2\n", [[1], [2]]),
        ("0,5\t1\n1,234\t2\n2,345\t3\n", [[0.5, 1], [1.234, 2], [2.345, 3]]),
    ],
)
def test_numbers_are_what_they_were_in_training(tmp_path, text, found):
    (tmp_path / "window.csv").write_text(text)
    assert numbers(tmp_path / "window.csv") == found


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "is empty"),
        ("a,b\n1,2\n,3\n4,5\n", "no number in column 0"),
        ("1,2\n3\n", r"\['3'\] has not as many values"),
        ("d,a\n2024-01-03,1\n2024-01-02,3\n", "put the oldest first"),
        ("d,a\n2024-01-01 23:00,1\n2024-01-01 00:00,3\n", "put the oldest first"),
        ("d,a\n2024-01-01T01:00Z,1\n2024-01-01T00:30Z,3\n2024-01-01T00:00Z,3\n", "oldest first"),
        ("1,234\t5\n2\t6\n", "Is that a whole number"),
        ("d;a\nx;2.5\ny;1,5\nz;3.75\n", r"column 1 of \['x', '2.5'\], which has decimal commas"),
        ("d\ta\nx\t1,234.50\ny\t1,234\n", r"column 1 of \['x', '1,234.50'\]"),
        ("d\ta\nx\t1,234\ny\t12,345\n", "Is that a whole number"),
    ],
)
def test_bad_files_are_named(tmp_path, text, error):
    (tmp_path / "window.csv").write_text(text)
    with pytest.raises(SystemExit, match=error):
        numbers(tmp_path / "window.csv")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("1,2\nnan,4\n", "refuses this: `window` must be finite"),
        ("1,2\n3,4\n5,6\n", r"got shape \(1, 3, 2\), expected \(None, 2, 2\)"),
    ],
)
def test_what_the_model_refuses_is_said(versions, tmp_path, monkeypatch, text, error):
    path = tmp_path / "window.csv"
    path.write_text(text)
    with pytest.raises(SystemExit, match=error):
        ask(monkeypatch, versions, path)


def test_arguments_are_read_before_tensorflow():
    """Also by `predict.py` and `batch.py`, which take up what is beside them."""
    for name in ("query", "predict", "batch"):
        script = f"""
import runpy, sys
sys.argv = ["{name}.py", "--help"]
sys.path.insert(0, "serving")
try:
    runpy.run_path("serving/{name}.py", run_name="__main__")
except SystemExit as error:
    assert error.code == 0 and "tensorflow" not in sys.modules
"""
        subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, check=True)


def test_a_folder_without_a_model_is_named(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match=f"no SavedModel in {tmp_path}"):
        ask(monkeypatch, tmp_path, "text")


@pytest.mark.parametrize(
    ("value", "dtype", "error"),
    [
        (2**32 + 1, "int32", "int32 holds -2147483648 to 2147483647"),
        ([[1, -(2**40)]], "int32", "int32 holds"),
        ([True], "float32", "got true or false"),
        ([[1.0, True]], "float32", "got true or false"),
        ([1.5, 10**310], "float32", "too large"),
        ([[1.0], [2.0, 3.0]], "float32", "inhomogeneous"),
    ],
)
def test_numbers_that_a_type_does_not_hold_are_refused(value, dtype, error):
    with pytest.raises(ValueError, match=error):
        query.tensor(value, tf.as_dtype(dtype))


def test_numbers_that_it_holds_are_taken():
    assert query.tensor([2**31 - 1], tf.int32).numpy() == [2**31 - 1]
    assert query.tensor([[1, 2.5]], tf.float32).numpy().tolist() == [[1, 2.5]]
    assert query.tensor([], tf.int32).shape == (0,)
    assert query.tensor([b"a"], tf.string).numpy() == [b"a"]
