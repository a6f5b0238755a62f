"""`serving/predict.py` answers every row that can be answered, and says which cannot."""

import csv
import io
import json

import predict
import processes
import pytest
import tensorflow as tf
from conftest import REPOSITORY


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model of texts (none may be "no", three at most at a time), of words and of numbers."""
    module = tf.Module()

    def classify(sentences):
        ok = tf.debugging.Assert(tf.reduce_all(sentences != "no"), ["`sentences`: there is a no"])
        few = tf.debugging.Assert(tf.size(sentences) <= 3, ["`sentences`: too many"])
        with tf.control_dependencies([ok, few]):
            size = tf.strings.length(sentences, "UTF8_CHAR")
            return {"label": tf.strings.as_string(size), "sizes": tf.stack([size, size + 1], 1)}

    def tag(words):
        return {"tags": tf.strings.upper(words), "lengths": tf.reduce_sum(
            tf.cast(words != "", tf.int32), 1)}  # fmt: skip

    def double(window):
        return {"doubled": 2 * tf.debugging.assert_all_finite(window, "`window` must be finite")}

    specs = {
        "serving_default": (classify, tf.TensorSpec([None], tf.string, "sentences")),
        "words": (tag, tf.TensorSpec([None, None], tf.string, "words")),
        "numbers": (double, tf.TensorSpec([None, 2, 2], tf.float32, "window")),
    }
    signatures = {n: tf.function(f, input_signature=[spec]) for n, (f, spec) in specs.items()}
    folder = tmp_path_factory.mktemp("model") / "1"
    tf.saved_model.save(module, folder, signatures)
    return folder.parent


def answers(model, path, output, *arguments):
    predict.main([str(a) for a in [model, path, "--output", output, *arguments]])
    text = output.read_bytes().decode()
    if output.suffix == ".csv":
        return list(csv.DictReader(io.StringIO(text, newline="")))
    return [json.loads(line) for line in text.splitlines()]


def test_every_row_of_a_table_is_answered_or_says_why_not(model, tmp_path, capsys):
    path = tmp_path / "a.csv"
    rows = [f"{i};{'x' * i}, y" for i in range(20)]
    rows[7], rows[11], rows[12] = "7;no", "11;a;b", '12;"a\n""b"""'
    path.write_text("\n".join(["label;text", *rows, ""]))
    path.write_bytes(path.read_bytes() + b"20;caf\xe9\n")
    found = answers(model, path, tmp_path / "out.csv", "--column", "text")
    assert [row["label"] for row in found] == [str(i) for i in range(21)]
    bad = {i: row["error"] for i, row in enumerate(found) if row["error"]}
    assert bad.keys() == {7, 11, 20}
    assert "there is a no" in bad[7] and "3 values" in bad[11] and "--encoding" in bad[20]
    for i in set(range(21)) - bad.keys() - {12}:
        assert found[i]["predicted_label"] == str(i + 3)
        assert found[i]["sizes"] == f"{i + 3} {i + 4}"
    assert found[12]["text"] == 'a\n"b"' and found[12]["predicted_label"] == "5"
    said = capsys.readouterr().err
    assert "row 8: " in said and "18 rows answered, 3 not" in said
    assert {p.name for p in tmp_path.iterdir()} == {"a.csv", "out.csv"}


def test_rows_behind_a_quotation_mark_that_nothing_closes_are_not_taken_for_a_text(model, tmp_path):
    (tmp_path / "a.csv").write_text('sentences\nab\n"abc\nab\n')
    found = answers(model, tmp_path / "a.csv", tmp_path / "out.csv")
    assert [row["error"] for row in found] == ["", "unexpected end of data", ""]
    (tmp_path / "a.csv").write_text('n, sentences\n1, "ab, c"\n')
    (row,) = answers(model, tmp_path / "a.csv", tmp_path / "out.csv")
    assert row["sentences"] == "ab, c" and not row["error"]


def test_lines_of_text_and_json(model, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("été\n\nab\n", "utf-8")
    found = answers(model, path, tmp_path / "out.jsonl")
    assert found == [
        {"sentences": "été", "label": "3", "sizes": [3, 4]},
        {"sentences": "", "label": "0", "sizes": [0, 1]},
        {"sentences": "ab", "label": "2", "sizes": [2, 3]},
    ]
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": 1, "words": ["I", "saw"]}\n{"words": "a b c"}\n{"x": 1}\n{"wor\n')
    found = answers(model, path, tmp_path / "out.jsonl", "--signature", "words")
    assert found[0] == {"id": 1, "words": ["I", "saw"], "tags": ["I", "SAW"], "lengths": 2}
    assert found[1]["tags"] == ["A", "B", "C"]
    assert "'words'" in found[2]["error"] and "JSON" in found[3]["error"]
    path.write_text(
        '{"id": 1, "sentences": "ab", "label": "x"}\n{"id": 2, "sentences": null, "label": "x"}\n'
        '{"id": 3, "sentences": "a", "error": "of theirs"}\n'
    )
    found = answers(model, path, tmp_path / "out.csv")
    assert [row["id"] for row in found] == ["1", "2", "3"]
    assert [row["predicted_label"] for row in found] == ["2", "", "1"]
    assert [bool(row["error"]) for row in found] == [False, True, False]
    path.write_text('{"window": [[1, 2], [3, 4]]}\n{"window": [[1, 2]]}\n')
    found = answers(model, path, tmp_path / "out.csv", "--signature", "numbers")
    assert (
        found[0]["doubled"] == "[[2.0, 4.0], [6.0, 8.0]]"
        and "got shape (1, 2)" in found[1]["error"]
    )
    with pytest.raises(SystemExit, match="nothing is written"):
        path.write_text('{"window": [[true, true], [true, true]]}\n')
        answers(model, path, tmp_path / "out.csv", "--signature", "numbers")
    path.write_text('{"window": [[1, 2], [3, NaN]]}\n{"window": [[1, 2], [3, 4]]}\n')
    found = answers(model, path, tmp_path / "out.csv", "--signature", "numbers")
    assert found[0]["error"].startswith("`window` must be finite") and not found[1]["error"]


@pytest.mark.parametrize(
    "name, content, arguments, error",
    [
        ("a.csv", "a,b\n1,2\n", [], r"columns \['a', 'b'\].*--column"),
        ("a.xlsx", "a", [], "none of .csv"),
        ("a.txt", "no\nno\n", [], "nothing is written"),
        ("a.txt", "a\n", ["--signature", "other"], "--signature: there is"),
        ("a.csv", "window\n1\n", ["--signature", "numbers"], "JSON lines"),
        ("a.txt", "a\n", ["--encoding", "utf9"], "no 'utf9'"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_left(
    model, tmp_path, name, content, arguments, error
):
    (tmp_path / name).write_text(content)
    (tmp_path / "out.csv").write_text("what was there before")
    with pytest.raises(SystemExit, match=error):
        answers(model, tmp_path / name, tmp_path / "out.csv", *arguments)
    assert (tmp_path / "out.csv").read_text() == "what was there before"
    assert {p.name for p in tmp_path.iterdir()} == {name, "out.csv"}


def test_as_many_texts_for_every_row_stay_apart_and_padding_is_left_out(tmp_path):
    def best(words):
        longer = tf.strings.join([words, " b"])
        padded = tf.stack([words, tf.where(words == "ä", "", words)], axis=1)[:, : tf.size(words)]
        return {"best": tf.stack([longer, tf.zeros_like(words)], axis=1), "padded": padded}

    served = tf.function(best, [tf.TensorSpec([None], tf.string, "words")])
    tf.saved_model.save(tf.Module(), tmp_path / "1", {"serving_default": served})
    (tmp_path / "a.txt").write_text("ä\nc\n")
    found = answers(tmp_path / "1", tmp_path / "a.txt", tmp_path / "out.jsonl")
    assert [row["best"] for row in found] == [["ä b", ""], ["c b", ""]]
    assert [row["padded"] for row in found] == [["ä"], ["c", "c"]]
    found = answers(tmp_path / "1", tmp_path / "a.txt", tmp_path / "out.csv")
    assert [row["best"] for row in found] == ['["ä b", ""]', '["c b", ""]']
    assert [row["padded"] for row in found] == ["ä", "c c"]


def test_as_a_script_it_finds_what_is_beside_it(model, tmp_path):
    (tmp_path / "a.txt").write_text("ab\n")
    script = REPOSITORY / "serving" / "predict.py"
    processes.run([script, model, "a.txt", "--output", "out.csv"], cwd=tmp_path)
    assert (tmp_path / "out.csv").read_text() == "sentences,label,sizes,error\nab,2,2 3,\n"
