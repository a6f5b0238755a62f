"""`serving/batch.py` answers each row once, whatever stops it, or says why it can't."""

import csv
import datetime
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import batch
import numpy as np
import predict
import pyarrow
import pyarrow.parquet
import pytest
import rows
import tensorflow as tf
from conftest import REPOSITORY, answered


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model of texts (none may have a "no"), and one of windows of two steps."""
    module = tf.Module()

    def measure(sentences):
        said = tf.strings.regex_full_match(sentences, ".*no.*")
        ok = tf.debugging.Assert(~tf.reduce_any(said), ["`sentences`: there is a no"])
        with tf.control_dependencies([ok]):
            size = tf.strings.length(sentences, "UTF8_CHAR")
            return {"size": size, "first": tf.strings.substr(sentences, 0, 3)}

    def total(window):
        return {"total": tf.reduce_sum(window, [1, 2])}

    specs = {
        "serving_default": (measure, tf.TensorSpec([None], tf.string, "sentences")),
        "numbers": (total, tf.TensorSpec([None, 2, 2], tf.float32, "window")),
    }
    signatures = {n: tf.function(f, input_signature=[spec]) for n, (f, spec) in specs.items()}
    folder = tmp_path_factory.mktemp("model") / "1"
    tf.saved_model.save(module, folder, signatures)
    return folder.parent


@pytest.fixture
def in_this_process(monkeypatch):
    """The pieces of work, each asked here; [how many more until Ctrl-C, each row asked]."""
    state = {"pieces": 10**9, "asked": []}

    def scored(read, model, how, processes):
        scorer = batch.Scorer(lambda: batch.contents(model), *how)
        for piece in batch.pieces(*read):
            if not state["pieces"]:
                raise KeyboardInterrupt
            state["pieces"] -= 1
            found = scorer(piece)
            state["asked"] += range(found["first"], found["last"] + 1)
            yield found

    monkeypatch.setattr(batch, "has_ray", lambda: True)
    monkeypatch.setattr(batch, "scored", scored)
    return state


def answers(model, path, output, *arguments):
    """(the answers, the bad rows)."""
    batch.main([str(a) for a in [model, path, "--output", output, *arguments]])
    return read(output)


def read(output):
    if (output / "answers.csv").exists():
        with open(output / "answers.csv", encoding="utf-8", newline="") as file:
            good = list(csv.DictReader(file))
    else:
        good = [json.loads(line) for line in (output / "answers.jsonl").open(encoding="utf-8")]
    bad = output / "bad_rows.jsonl"
    return good, [json.loads(line) for line in bad.open("rb")] if bad.exists() else []


def texts(count):
    random = np.random.default_rng(0)
    return [f"{i} {'x' * n}" for i, n in enumerate(random.integers(0, 60, count))]


def test_stopped_anywhere_the_same_command_goes_on(model, tmp_path, monkeypatch, in_this_process):
    monkeypatch.setattr(batch, "PIECE", 50)
    path, output = tmp_path / "a.txt", tmp_path / "out"
    given = texts(1000)
    given[120], given[700] = "no", "é"
    path.write_text("\n".join(given), "utf-8")
    in_this_process["pieces"] = 7
    with pytest.raises(SystemExit, match="130"):
        answers(model, path, output)
    beside = tmp_path / ".writing-out"
    assert not output.exists() and json.loads((beside / "about.json").read_text())["rows"] == 350
    with (beside / "answers.jsonl").open("a") as file:
        file.write('{"sentences": "half a ro')  # the process was killed while it wrote
    in_this_process["pieces"] = 10**9
    with pytest.raises(SystemExit, match="another format: jsonl"):
        answers(model, path, output, "--format", "csv")
    good, bad = answers(model, path, output)
    assert in_this_process["asked"] == list(range(1, 1001))
    assert [row["row"] for row in good] == [i for i in range(1, 1001) if i != 121]
    for row in good:
        text = given[row["row"] - 1]
        assert (row["sentences"], row["size"], row["first"]) == (text, len(text), text[:3])
    assert [(row["row"], row["given"]) for row in bad] == [(121, {"sentences": "no"})]
    assert "there is a no" in bad[0]["error"]
    about = json.loads((output / "about.json").read_text("utf-8"))
    assert (about["rows"], about["answered"], about["bad"]) == (1000, 999, 1)
    assert {p.name for p in tmp_path.iterdir()} == {"a.txt", "out"}
    with pytest.raises(SystemExit, match=r"^2$"):
        answers(model, path, output)


def test_two_at_once_do_not_write_to_one_folder(model, tmp_path, in_this_process):
    (tmp_path / "a.txt").write_text("a\n")
    (tmp_path / ".writing-out").mkdir()
    hold = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX);"
    hold += "print(flush=True); input()"
    command = [sys.executable, "-c", hold, tmp_path / ".writing-out"]
    with subprocess.Popen(command, stdin=-1, stdout=-1) as other:
        other.stdout.readline()
        with pytest.raises(SystemExit, match="Another process"):
            answers(model, tmp_path / "a.txt", tmp_path / "out")
        other.communicate(b"\n")


def test_rows_that_cannot_be_read_are_named_and_those_behind_them_answered(
    model, tmp_path, in_this_process
):
    path = tmp_path / "a.csv"
    lines = [
        "row,text", "1,ab", '2,"a', "3,cd", '4,"x, ""y""\nz"', "5,a,b", '6,"a"b', "7,", "",
        '8,5" wide', "9,no", "10,ab",
    ]  # fmt: skip
    path.write_bytes("\n".join(lines).encode() + b"\n11,caf\xe9\n")
    good, bad = answers(model, path, tmp_path / "csv", "--column", "text", "--format", "csv")
    assert [(r["row"], r["text"], r["size"]) for r in good] == [
        ("1", "ab", "2"), ("3", "cd", "2"), ("4", 'x, "y"\nz', "8"), ("7", "", "0"),
        ("8", '5" wide', "7"), ("10", "ab", "2"),
    ]  # fmt: skip
    assert [r["predicted_row"] for r in good] == ["1", "3", "4", "7", "8", "10"]
    assert [r["row"] for r in bad] == [2, 5, 6, 9, 11]
    assert bad[0]["given"] == {"line": '2,"a'} and "3 values" in bad[1]["error"]
    assert bad[3]["given"] == {"row": "9", "text": "no"} and "--encoding" in bad[4]["error"]
    assert bad[4]["given"]["text"].encode(errors="surrogateescape") == b"caf\xe9"

    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"sentences": "ab", "id": 7}\n\n{"sent\n{"id": 1}\n{"sentences": null}\n[1]\n3'
    )
    good, bad = answers(model, path, tmp_path / "json")
    assert good == [{"sentences": "ab", "id": 7, "row": 1, "size": 2, "first": "ab"}]
    assert [r["row"] for r in bad] == [2, 3, 4, 5, 6] and "null" in bad[2]["error"]

    path = tmp_path / "a.parquet"
    table = pyarrow.table(
        {"text": ["ab", None, "no", "abcd"], "day": [datetime.date(1970, 1, 1)] * 4}
    )
    pyarrow.parquet.write_table(table, path, row_group_size=2)
    good, bad = answers(model, path, tmp_path / "parquet", "--column", "text")
    assert [(r["row"], r["size"], r["day"]) for r in good] == [
        (1, 2, "1970-01-01"),
        (4, 4, "1970-01-01"),
    ]
    assert [r["row"] for r in bad] == [2, 3]


@pytest.mark.parametrize(("step", "windows"), [(15, 90 - 59), (-15, 0), (-1, 0), (-60, 0)])
def test_within_a_day_too_the_oldest_row_comes_first(tmp_path, step, windows):
    """But for an hour, that clocks go back."""
    start = datetime.datetime(2024, 10, 27, 12)
    dates = [start + i * datetime.timedelta(minutes=step) for i in range(90)]
    dates = [date - datetime.timedelta(hours=date.hour > 20) for date in dates]
    rows_of = [f"{date:%Y-%m-%d %H:%M},{i}" for i, date in enumerate(dates)]
    (tmp_path / "a.csv").write_text("\n".join(["date,a", *rows_of]))
    with rows.source(tmp_path / "a.csv", "utf-8-sig") as file:
        _, found = rows.windows(file, 60, 1)
        assert sum(value is not None for _, value, _ in found) == windows


def test_quotation_marks_of_a_tsv_and_other_encodings(model, tmp_path, in_this_process):
    path = tmp_path / "a.tsv"
    path.write_text('id\ttext\n1\t"This is bad.\n2\tMy money back."\n3\tfine\n')
    good, bad = answers(model, path, tmp_path / "tsv", "--column", "text")
    assert [row["text"] for row in good] == ['"This is bad.', 'My money back."', "fine"] and not bad
    path.write_bytes("Größe\ttext\n1\tab\n".encode("cp1252"))
    with pytest.raises(SystemExit, match=r"first line is not in utf-8.*--encoding"):
        answers(model, path, tmp_path / "header", "--column", "text")
    (good, *_), _ = answers(model, path, tmp_path / "1252", "--column", "text", "--encoding=cp1252")
    assert good["Größe"] == "1"
    path = tmp_path / "a.txt"
    path.write_bytes("I liked it.\r\nGreat\r\n".encode("utf-16"))
    with pytest.raises(SystemExit, match="--encoding utf-16"):
        answers(model, path, tmp_path / "16")
    good, _ = answers(model, path, tmp_path / "16", "--encoding", "utf-16")
    assert [row["size"] for row in good] == [11, 5]


def test_json_nested_deeply_and_columns_that_are_called_line(model, tmp_path, in_this_process):
    path = tmp_path / "a.jsonl"
    deep = "[" * 600 + "]" * 600
    lines = ["oops", '{"line": 1, "sentences": "ab"}', f'{{"sentences": "a", "x": {deep}}}']
    path.write_text("\n".join([*lines, '{"line": 2, "sentences": "abc"}']))
    good, bad = answers(model, path, tmp_path / "out", "--format", "csv")
    assert [(row["line"], row["row"], row["size"]) for row in good] == [
        ("1", "2", "2"),
        ("2", "4", "3"),
    ]
    assert [row["row"] for row in bad] == [1, 3]


def test_a_machine_that_fails_is_no_bad_row():
    def signature(sentences):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM")

    signature.structured_outputs = {}
    ask = predict.asker(signature, "sentences", tf.TensorSpec([None], tf.string))
    with pytest.raises(tf.errors.ResourceExhaustedError):
        ask(["a", "b"])


def test_a_row_that_alone_is_too_much_is_one():
    def signature(sentences):
        if tf.reduce_any(tf.strings.length(sentences) > 5):
            raise tf.errors.ResourceExhaustedError(None, None, "OOM")
        return {"size": tf.strings.length(sentences)}

    signature.structured_outputs = {"size": tf.TensorSpec([None], tf.int32)}
    ask = predict.asker(signature, "sentences", tf.TensorSpec([None], tf.string))
    assert ask(["a", "b" * 9, "cc"]) == [{"size": 1}, {"error": "OOM"}, {"size": 2}]


def test_the_dates_are_of_one_column(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("due,date,a\n,2024-01-01,5\n2024-03-10,2024-01-02,6\n,2024-01-03,7\n")
    with rows.source(path, "utf-8-sig") as file:
        assert [error for *_, error in rows.windows(file, 2, 1)[1]] == ["", "", ""]


def test_a_line_without_an_end_is_one_bad_row(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "LONGEST", 100)
    (tmp_path / "a.txt").write_text("ab\n" + "x" * 1000 + "\ncd\n")
    with rows.source(tmp_path / "a.txt", "utf-8") as file:
        found = list(rows.rows(file, None, "text")[1])
    assert [value for _, value, _ in found] == ["ab", None, "cd"] and "longer" in found[1][2]
    (tmp_path / "a.csv").write_text('text\nab\n"c\n' + "x\n" * 99)
    with rows.source(tmp_path / "a.csv", "utf-8") as file:
        found = list(rows.rows(file, None, "text")[1])
    assert [value for _, value, _ in found] == ["ab", None] + 99 * ["x"]


def test_each_row_of_a_series_where_a_window_ends(model, tmp_path, in_this_process, monkeypatch):
    monkeypatch.setattr(batch, "PIECE", 3)
    numbers = np.arange(20.0).reshape(10, 2)
    lines = [f"day {i};{a};{b}" for i, (a, b) in enumerate(numbers)]
    lines[4] = "day 4;?;1"
    (tmp_path / "a.csv").write_text("\n".join(["date;a;b", *lines]))
    how = ["--signature", "numbers"]
    good, bad = answers(model, tmp_path / "a.csv", tmp_path / "out", *how)
    ends = [i for i in range(1, 10) if 4 not in (i - 1, i)]
    assert [(r["row"], r["date"]) for r in good] == [(i + 1, f"day {i}") for i in ends]
    assert [r["total"] for r in good] == [numbers[i - 1 : i + 1].sum() for i in ends]
    assert [(r["row"], r["error"]) for r in bad] == [(5, "no number in column 'a': '?'")]
    rows = ["2024-01-03,1,2", "2024-01-02,3,4", "2024-01-03,5,6", "2024-01-04,7,8"]
    (tmp_path / "a.csv").write_text("\n".join(["day,a,b", *rows]))
    good, bad = answers(model, tmp_path / "a.csv", tmp_path / "order", *how)
    assert [(r["row"], r["total"]) for r in good] == [(4, 26)]
    said = "2024-01-02 stands below 2024-01-03: the oldest row comes first"
    assert [(r["row"], r["error"]) for r in bad] == [(2, said)]
    (tmp_path / "a.csv").write_text("day,a,b,id\nMon,1,,7\nTue,2,3,8\n")  # which two is not clear
    with pytest.raises(SystemExit, match=r"takes 2 numbers a step.*\['a', 'b', 'id'\]"):
        answers(model, tmp_path / "a.csv", tmp_path / "more", *how)
    (tmp_path / "a.csv").write_text("a\n1\n2\n")
    with pytest.raises(SystemExit, match=r"takes 2 numbers a step.*\['a'\]"):
        answers(model, tmp_path / "a.csv", tmp_path / "more", *how)
    (tmp_path / "a.csv").write_text("day,a,note,b\nMon,?,,2\nTue,3,,4\nWed,5,late,6\nThu,7\n")
    good, bad = answers(model, tmp_path / "a.csv", tmp_path / "bad_first", *how)
    assert [(r["row"], r["total"]) for r in good] == [(3, 18)]
    assert [r["row"] for r in bad] == [1, 4]  # in whatever row
    (tmp_path / "a.csv").write_text("a,b,a\n1,2,3\n")
    with pytest.raises(SystemExit, match="two columns 'a'"):
        answers(model, tmp_path / "a.csv", tmp_path / "twice", *how)
    (tmp_path / "a.jsonl").write_text('{"window": [[1, 2], [3, 4]]}\n{"window": [[1, 2]]}\n')
    good, bad = answers(model, tmp_path / "a.jsonl", tmp_path / "json", *how)
    assert [r["total"] for r in good] == [10] and "got shape" in bad[0]["error"]


@pytest.mark.parametrize("most", [1, 7, 64])
def test_batches_are_of_like_length(most, monkeypatch):
    monkeypatch.setattr(batch, "PADDED", 2000)
    random = np.random.default_rng(0)
    values = ["x" * int(n) for n in [*random.gamma(2, 40, 500), 5000, 5000]]
    found = list(batch.batches(values, most))
    assert sorted(itertools.chain(*found)) == list(range(len(values)))
    longest = [max(len(values[i]) for i in one) for one in found]
    for one, size in zip(found, longest):
        assert len(one) <= most and (len(one) * size <= 2000 or len(one) == 1)
    assert sum(len(one) * size for one, size in zip(found, longest)) < 1.25 * sum(map(len, values))


@pytest.mark.parametrize(
    ("content", "arguments", "error"),
    [
        ("a,b\n1,2\n", [], r"columns \['a', 'b'\].*--column"),
        ("a\nno\n", [], "No row .* nothing is written"),
        ("a\n", [], "No row .* nothing is written"),
        ("a\n1\n", ["--signature", "other"], "--signature: there is"),
        ("a\n1\n", ["--encoding", "utf9"], "no 'utf9'"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_left(
    model, tmp_path, in_this_process, content, arguments, error
):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(SystemExit, match=error):
        answers(model, tmp_path / "a.csv", tmp_path / "out", *arguments)
    assert {p.name for p in tmp_path.iterdir()} == {"a.csv"}


@pytest.mark.parametrize(
    ("recipe", "given"),
    [
        ("pos_tagging", ["I saw a saw .", "", "saw"]),
        ("sentiment", ["The film was good, not bad.", "bad"]),
        ("language_model", ["a bad film", "good"]),
        ("word_embeddings_ngrams", ["king", "kings", "Saw"]),
    ],
)
def test_what_the_recipes_export(recipe, given, exports, tmp_path, in_this_process):
    (tmp_path / "a.txt").write_text("\n".join(given) + "\n")
    good, bad = answers(exports[recipe], tmp_path / "a.txt", tmp_path / "out")
    assert len(good) == len(given) and not bad
    for text, found in zip(given, good):
        (name,) = [n for n in ("sentences", "texts", "words") if found.get(n) == text]
        for output, value in answered(exports[recipe], "serving_default", {name: [text]}).items():
            if value.dtype.kind == "U":
                assert found[output] == [x for x in np.ravel(value) if x] or found[output] == value
            else:
                got = np.ravel(found[output])[: value.size]
                np.testing.assert_allclose(got, np.ravel(value), rtol=1e-4, atol=1e-5)


# --- With Ray ----------------------------------------------------------------------------


def test_twenty_thousand_rows_in_two_processes_one_killed(model, tmp_path):
    pytest.importorskip("ray", reason="pip install -r serving/batch_requirements.txt")
    given = texts(20_000)
    given[12_345] = "no"
    (tmp_path / "a.txt").write_text("\n".join(given))
    command = [sys.executable, REPOSITORY / "serving/batch.py", model, tmp_path / "a.txt"]
    command += ["--output", tmp_path / "out", "--processes", "2", "--batch", "32"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as scoring:
        while scoring.poll() is None and not (tmp_path / ".writing-out/about.json").exists():
            time.sleep(0.05)
        scorers = [p for p in descendants(scoring.pid) if "Scorer" in command_line(p)]
        os.kill(scorers[0], signal.SIGKILL)
        done = json.loads((tmp_path / ".writing-out/about.json").read_text("utf-8"))["rows"]
        said = scoring.communicate()[1]
    assert scoring.returncode == 0 and len(scorers) == 2 and 0 < done < 20_000, said
    good, bad = read(tmp_path / "out")
    assert [r["row"] for r in bad] == [12_346]
    good_texts = [text for text in given if text != "no"]
    expected = answered(model / "1", "serving_default", {"sentences": good_texts})
    assert [r["row"] for r in good] == [i for i in range(1, 20_001) if i != 12_346]
    assert [r["sentences"] for r in good] == good_texts
    assert [r["size"] for r in good] == expected["size"].tolist()
    assert [r["first"] for r in good] == expected["first"].tolist()


def descendants(process):
    """Their ids, by what /proc says of every process's parent."""
    children = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found = [process]
    for one in found:
        found += children.get(one, [])
    return found[1:]


def command_line(process):
    try:
        return Path(f"/proc/{process}/cmdline").read_text()
    except OSError:
        return ""
