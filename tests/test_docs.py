"""The pages: their Python runs, their quotations are exact, their commands are understood."""

import argparse
import ast
import contextlib
import functools
import importlib
import importlib.util
import io
import json
import os
import re
import runpy
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import processes
import pytest
import tensorflow as tf
from conftest import REPOSITORY

from recipes.common import encoders

NOTES = ["docs/notes.md", "docs/notes.zh.md"]
PAGES = [
    "README.md",
    "saved_models/README.md",
    "serving/README.md",
    *sorted(str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "docs").glob("*.md")),
]


@functools.cache
def text_of(path: str) -> str:
    return (REPOSITORY / path).read_text()


class Block(NamedTuple):
    """What stands between ```KIND [FILE] and ```."""

    page: str
    line: int
    kind: str
    file: str  # that it is quoted from, or ""
    text: str

    def run(self, names: dict) -> None:
        """Runs it, and holds what it prints against what it says that it prints."""
        said = re.findall(r"^print\(.*\)  # (.+?)(?:[:：].*)?$", self.text, re.MULTILINE)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile("\n" * self.line + self.text, self.page, "exec"), names)
        assert not said or printed.getvalue().splitlines() == said, f"{self.page}:{self.line}"


def blocks(page: str) -> list[Block]:
    text = text_of(page)
    fences = list(re.finditer(r"^```(\w*) ?(\S*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
    assert 2 * len(fences) == len(re.findall("^```", text, re.MULTILINE)), f"{page}: a lone fence"
    return [Block(page, text[: m.start()].count("\n") + 1, *m.groups()) for m in fences]


BLOCKS = [block for page in PAGES for block in blocks(page)]


def python(page: str) -> list[Block]:
    return [b for b in BLOCKS if b.page == page and b.kind == "python" and not b.file]


# --- Python ------------------------------------------------------------------------------


def test_every_page_with_python_is_run_below():
    assert {b.kind for b in BLOCKS} == {"python", "shell", "text", ""}
    run = {"README.md", "docs/cells.md", "docs/serving.md", "saved_models/README.md", *NOTES}
    assert {page for page in PAGES if python(page)} == run


def test_readme(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in python("README.md"):
        block.run(names)

    # "loads again wherever `layers` was imported"
    load = "import sys; sys.path.insert(0, sys.argv[1]); import keras, layers;"
    load += "keras.models.load_model('model.keras').summary()"
    processes.run(["-c", load, REPOSITORY], cwd=tmp_path)
    inputs = np.random.default_rng(0).normal(size=(2, 5, 8)).astype("float32")
    # The named cell is exported, saved and loaded, and answers the same.
    exported = tf.saved_model.load("tagger")
    np.testing.assert_allclose(exported.serve(inputs), names["tagger"](inputs), atol=1e-5)
    names["tagger"].save("tagger.keras")
    again = keras.models.load_model("tagger.keras")
    np.testing.assert_allclose(again(inputs), names["tagger"](inputs), atol=1e-6)


def test_serving(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in python("docs/serving.md"):
        if not re.search("onnx|litert", block.text):
            block.run(names)
    assert names["answer"]["score"].shape == (2, 5, 1)


def test_serving_elsewhere(tmp_path, monkeypatch):
    missing = [p for p in ("tf2onnx", "ai_edge_litert") if not importlib.util.find_spec(p)]
    if missing:
        reason = f"{missing} not installed: pip install -r serving/requirements.txt"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in python("docs/serving.md"):
        block.run(names)
    assert names["scores"].shape == names["piece"].shape == (2, 5, 1)


def test_saved_models(tmp_path, monkeypatch):
    module = tf.Module()
    spec = tf.TensorSpec([None], tf.string, name="sentences")
    module.tag = tf.function(lambda sentences: {"tags": tf.strings.upper(sentences)}, [spec])
    signatures = {"serving_default": module.tag}
    tf.saved_model.save(module, tmp_path / "saved_models/pos_tagging/1", signatures)
    monkeypatch.chdir(tmp_path)
    for block in python("saved_models/README.md"):
        block.run({})


@pytest.mark.parametrize("page", NOTES)
def test_notes(page):
    names = {}
    for block in python(page):
        if not re.search(r"\btorch\b|\bnn\.", block.text):
            block.run(names)
    assert {"lstm", "gru", "bi_rnn"} <= names.keys()


@pytest.mark.parametrize("page", NOTES)
def test_the_notes_modules_have_the_numbers_of_ours(page):
    pytest.importorskip("torch", reason="compares with PyTorch as it runs")
    names = {}
    for block in python(page):
        block.run(names)
    assert names["theirs"].rnn.bidirectional  # it went through to the last of them


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory):
    """docs/cells.md, run up to where it asks a server: (its folder, its names, the rest)."""
    folder, names = tmp_path_factory.mktemp("tutorial"), {}
    rest = python("docs/cells.md")
    with contextlib.chdir(folder):
        while "localhost" not in rest[0].text:
            rest.pop(0).run(names)
    return folder, names, rest


def test_the_tutorials_cell_learns(tutorial):
    _, names, _ = tutorial
    assert names["error"] < 0.05 * np.mean(names["targets"] ** 2)


def test_the_tutorials_cell_is_served(tutorial, monkeypatch):
    if not importlib.util.find_spec("kserve"):
        reason = "KServe is not installed: pip install -r serving/requirements.txt"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    folder, names, rest = tutorial
    monkeypatch.chdir(folder)
    with socket.socket() as found:
        found.bind(("localhost", 0))
        port = str(found.getsockname()[1])
    (command,) = [c for c in COMMANDS if "my_models" in c.words]
    words = [sys.executable, REPOSITORY / command.words[1], *command.words[2:]]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [port if word == "8501" else word for word in words], stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 120
        while not answers(port):
            assert server.poll() is None and time.monotonic() < deadline, Path("log").read_text()
            time.sleep(0.1)
        for block in rest:
            block._replace(text=block.text.replace("8501", port)).run(names)
    finally:
        server.terminate()
        server.wait(30)
    # The number marked last was -0.3, three steps ago.
    assert abs(names["answer"]["last_marked"][0][0][0] + 0.3) < 0.1


def answers(port: str) -> bool:
    try:
        with socket.create_connection(("localhost", port), timeout=1):
            return True
    except OSError:
        return False


# --- Quotations ----------------------------------------------------------------------------


@pytest.mark.parametrize("page", NOTES)
def test_quotations_are_exact(page):
    quoted = [b for b in BLOCKS if b.page == page and b.file]
    assert len(quoted) > 10
    for block in quoted:
        for part in re.split(r"^ *# …\n", block.text, flags=re.MULTILINE):
            assert part in text_of(block.file), f"{page}:{block.line} is not in {block.file}"


def test_both_notes_quote_and_run_the_same():
    english, chinese = ([b for b in BLOCKS if b.page == page] for page in NOTES)
    assert [b.file for b in english] == [b.file for b in chinese]
    assert [b.text for b in english if b.file] == [b.text for b in chinese if b.file]
    assert [b.text for b in english if b.kind == "shell"] == [
        b.text for b in chinese if b.kind == "shell"
    ]


# --- Commands ------------------------------------------------------------------------------


class Command(NamedTuple):
    where: str
    words: list[str]


def commands() -> list[Command]:
    """Those of the pages' shell blocks, and of the scripts' docstrings."""
    found = [(b.page, b.text) for b in BLOCKS if b.kind == "shell"]
    for folder in ("recipes", "serving", "benchmarks", "docs"):
        for script in sorted((REPOSITORY / folder).glob("*.py")):
            docstring = ast.get_docstring(ast.parse(script.read_text()))
            docstring = docstring.replace("\\\n", " ")
            lines = re.findall(r"^    (python .*|pip .*)$", docstring, re.MULTILINE)
            found.append((f"{folder}/{script.name}", "\n".join(lines)))
    for where, text in found:
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            ends = [i for i, word in enumerate(words) if word in ("<", ">", "|")]
            if words:
                yield Command(where, words[: ends[0]] if ends else words)


COMMANDS = list(commands())


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: f"{c.where}: {' '.join(c.words)}")
def test_commands_are_understood(command, tmp_path, monkeypatch):
    (program, *words), where = command.words, command.where
    program = program.removeprefix(".venv/bin/")
    files = [words[i + 1] for i, word in enumerate(words[:-1]) if word in ("-r", "-f")]
    assert all((REPOSITORY / file).is_file() for file in files), where
    if program == "python":
        parse(words[0], words[1:], tmp_path, monkeypatch)
    elif program == "make":
        assert all(re.search(f"^{word}:", text_of("Makefile"), re.MULTILINE) for word in words)
    elif program == "curl":
        assert "localhost:8501/v1/models/" in words[-1]
        if "-d" in words:
            body = json.loads(words[words.index("-d") + 1])
            assert {*body} <= {"instances", "inputs", "signature_name"}
            assert words[-1].endswith(":predict")
    elif program == "pip":
        pinned = [re.sub(r"\[.*\]", "", word) for word in words if "==" in word]
        assert words[0] == "install" and all(p in text_of("requirements.txt") for p in pinned)
    else:
        assert (program, *words[:2]) in {("docker", "compose", "-f"), ("kubectl", "apply", "-f")}


def parse(script: str, arguments: list[str], folder: Path, monkeypatch) -> None:
    """Has the script read its arguments, and do no more."""
    if script.endswith("kserve_server.py") and not importlib.util.find_spec("kserve"):
        pytest.skip("KServe is not installed: pip install -r serving/requirements.txt")
    monkeypatch.chdir(folder)
    for word in arguments:  # files that the reader has
        if re.search(r"\.(csv|tsv|conllu|txt|gz|wav|de|en)$", word):
            Path(word).parent.mkdir(parents=True, exist_ok=True)
            Path(word).write_text("1 2\nword 0 0\n")
        if word == "speech_commands":
            Path(word).mkdir()
        if re.fullmatch(r"runs/language_model/[\w-]+|FORWARDS|BACKWARDS", word):  # and its runs
            Path(word).mkdir(parents=True)
            for name in (encoders.MODEL, encoders.VOCABULARY):
                (Path(word) / name).touch()
    if script.startswith("recipes/"):
        recipe = importlib.import_module(script.removesuffix(".py").replace("/", "."))
        if "--help" in arguments:
            with pytest.raises(SystemExit, match=r"^0$"):
                recipe.arguments(arguments)
        else:
            recipe.arguments(arguments)
        return

    class Understood(Exception):
        pass

    parse_args = argparse.ArgumentParser.parse_args

    def parse_and_stop(self, *given):
        parse_args(self, *given)
        raise Understood

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    monkeypatch.setattr(sys, "path", [str((REPOSITORY / script).parent), *sys.path])
    with pytest.raises(Understood):
        runpy.run_path(str(REPOSITORY / script), run_name="__main__")


# --- Links ---------------------------------------------------------------------------------


def prose(page: str) -> str:
    return re.sub(r"^```.*?^```$", "", text_of(page), flags=re.DOTALL | re.MULTILINE)


def anchors(page: str) -> set[str]:
    """Of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", prose(page)):
        if target.startswith("http"):
            continue
        path = ((REPOSITORY / page).parent / target).resolve() if target else REPOSITORY / page
        assert path.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in anchors(str(path.relative_to(REPOSITORY))), f"{page}: #{anchor}"


def test_the_readme_is_short():
    assert len(text_of("README.md").splitlines()) <= 200


def test_the_table_of_speed_is_what_was_measured():
    measured = json.loads(text_of("benchmarks/recurrence.json"))
    of_case = {
        (case["kind"], *case["shape"]): case["ms"]
        for case in measured["cases"]
        if case["work"] == "training"
    }
    page, rows = text_of("docs/speed.md"), 0
    for line in page[: page.index("Over LSTM, GRU")].splitlines():
        cells = [cell.strip(" *") for cell in line.strip("|").split("|")]
        if len(cells) != 6 or not re.fullmatch(r"\d+, \d+, \d+, \d+", cells[1]):
            continue
        ms = of_case[cells[0].split(" (")[0], *map(int, cells[1].split(", "))]
        found = [f"{ms[name]:.0f}" if name in ms else "" for name in
                 ("ours", "keras", "keras XLA", "torch")]  # fmt: skip
        assert cells[2:] == found, line
        rows += 1
    assert rows == 13
    for name, said in {
        "ours against keras": "{} times as fast as the better Keras (at worst {})",
        "ours against torch": "{} times as fast as PyTorch (at worst {},",
        "ours XLA against keras": "{} times as fast as the better Keras (at worst {})",
    }.items():
        found = measured["summary"][f"training, {name}"]
        said = said.format(found["geometric mean"], found["worst"])
        assert said in " ".join(page.split()), said
