"""Arguments are read at once, and what stops a recipe from outside is a message."""

import errno
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

from recipes import forecasting, which_cell
from recipes.common import command_line, files

SCRIPTS = sorted(p.stem for p in (REPOSITORY / "recipes").glob("*.py"))


def parse(*argv, file_of=None, **options):
    sizes = {"batch": "8 rows", "other": 2}
    parser = command_line.parser("tried", "", {"known": 3, "sample": 1}, **sizes, **options)
    parser.add_argument("--data", type=command_line.file)
    parser.add_argument("--backwards", action="store_true")
    return command_line.parse(parser, list(map(str, argv)), file_of)


@pytest.mark.parametrize("recipe", SCRIPTS)
def test_arguments_are_read_before_tensorflow(recipe):
    script = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as error:
    assert error.code == int(sys.argv.pop(1) == "--nonsense") * 2
assert not {"tensorflow", "keras"} & set(sys.modules)
"""
    for argument in ("--help", "--nonsense"):
        command = [sys.executable, "-c", script, f"recipes/{recipe}.py", argument]
        subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)


def test_the_output_is_named_after_what_is_read(tmp_path):
    (tmp_path / "sales.csv.gz").touch()
    runs = REPOSITORY / "runs" / "tried"
    own = parse("--data", tmp_path / "sales.csv.gz", "--backwards")
    assert own.output == runs / "sales-lstm-backwards"
    assert (own.dataset, own.epochs) == ("data", 2)
    known = parse("--cell", "gru", "--restart")
    assert (known.output, known.dataset, known.epochs) == (runs / "known-gru", "known", 3)
    other = parse("--dataset", "some/other", any_dataset=True)
    assert (other.output, other.epochs) == (runs / "some-other-lstm", 2)


def test_files_are_read_instead_of_a_known_dataset_unless_they_are_its_own(tmp_path, capsys):
    (tmp_path / "own.csv").touch()
    given = "--data", tmp_path / "own.csv", "--dataset"
    for known, file_of in (("sample", "known"), ("known", None)):
        with pytest.raises(SystemExit):
            parse(*given, known, file_of=file_of)
        assert f"give --dataset {known}, or files of your own" in capsys.readouterr().err
    own = parse(*given, "known", file_of="known")
    assert (own.dataset, own.epochs) == ("known", 3)


def test_a_quick_try_is_exported_under_its_run(tmp_path):
    for quick in (["--steps", 3], ["--dataset", "sample"]):
        assert parse(*quick, "--output", tmp_path).saved_models == tmp_path / "saved_models"
        assert parse(*quick, "--saved-models", tmp_path / "x").saved_models == tmp_path / "x"
    assert parse("--output", tmp_path).saved_models == REPOSITORY / "saved_models"


@pytest.mark.parametrize("option", ["--output", "--saved-models"])
def test_what_cannot_be_written_is_noticed_at_once(option, tmp_path, capsys):
    (tmp_path / "file").touch()
    for place, says in (("/proc/runs", "can't be written"), (tmp_path / "file/x", "not a folder")):
        with pytest.raises(SystemExit):
            parse(option, place)
        assert f"{option}: " in (said := capsys.readouterr().err) and says in said
    parse(option, tmp_path / "new")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space"), RuntimeError("RESOURCE: No space left on device; x")],
)
def test_a_full_disk_is_a_message_and_leaves_nothing_half_written(error, tmp_path):
    def writer(path):
        path.write_text("half of")
        raise error

    with pytest.raises(SystemExit, match="no room left"):
        command_line.run(lambda _: files.write(tmp_path / "x.json", writer), parse())
    assert os.listdir(tmp_path) == []
    with pytest.raises(ValueError):  # our own mistakes keep their traceback
        command_line.run(lambda _: int("x"), parse())


def test_stopped_it_says_how_to_go_on(tmp_path, capsys):
    def stopped(_):
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end:
        command_line.run(stopped, parse("--output", Path(tmp_path)))
    assert end.value.code == 130
    assert "The same command goes on from epoch 1." in capsys.readouterr().err


def test_a_study_that_is_stopped_ends_as_quietly(tmp_path, capsys):
    def stopped(_):
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end:
        command_line.run(stopped, which_cell.arguments(["--output", str(tmp_path)]))
    assert end.value.code == 130 and capsys.readouterr().err == "\nStopped.\n"


def test_what_a_format_needs_is_asked_for_before_training(tmp_path, capsys, monkeypatch):
    def find(name, *rest):
        return None if name == "tf2onnx" else real(name, *rest)

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", find)
    forecasting.arguments(["--output", str(tmp_path), "--dataset", "sample"])
    with pytest.raises(SystemExit):
        forecasting.arguments(["--output", str(tmp_path), "--dataset", "sample", "--onnx"])
    assert "--onnx needs tf2onnx: pip install -r serving/req" in capsys.readouterr().err


def test_a_recipes_own_folder_of_models_is_looked_at_first(tmp_path, capsys):
    (tmp_path / "forecasting").touch()
    with pytest.raises(SystemExit):
        forecasting.arguments(["--saved-models", str(tmp_path), "--output", str(tmp_path / "run")])
    assert "forecasting is not a folder" in capsys.readouterr().err


def test_thousands_of_files_are_told_of_shortly():
    many = "x" * 10_000
    assert command_line.shortened("short") == "short"
    assert len(command_line.shortened(many)) < 200
    assert command_line.shortened(many) != command_line.shortened(many + "y")
