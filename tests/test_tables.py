"""Tables as people have them: what is read, and what is said where nothing can be."""

import gzip

import pandas as pd
import pytest

from recipes.common import tables

ROWS = {"text": ["good, really", "bad"], "score": [1.5, -1234.25]}


@pytest.mark.parametrize(
    "name, content",
    [
        ("a.csv", 'text,score\n"good, really",1.5\nbad,-1234.25\n'),
        ("a.csv", "\ufefftext;score\r\ngood, really;1,5\r\nbad;-1.234,25\r\n"),
        ("a.tsv", "text\tscore\ngood, really\t1.5\nbad\t-1234.25\n"),
        ("a.csv", "text|score\ngood, really|1.5\nbad|-1234.25\n"),
        ("a.CSV", '"text" , "score"\n"good, really",1.5\nbad,-1234.25\n'),
        ("a.jsonl", '{"text": "good, really", "score": 1.5}\n\n{"text": "bad", "score": -1234.25}'),
        ("a.json", '[{"text": "good, really", "score": 1.5}, {"text": "bad", "score": -1234.25}]'),
    ],
)
def test_the_same_table_in_many_files(tmp_path, name, content):
    path, packed = tmp_path / name, tmp_path / f"{name}.gz"
    path.write_bytes(content.encode())
    packed.write_bytes(gzip.compress(content.encode()))
    for found in (tables.read(path), tables.read(packed)):
        assert found.to_dict("list") == ROWS


def test_parquet(tmp_path):
    pd.DataFrame(ROWS, index=[5, 7]).to_parquet(tmp_path / "a.parquet")
    found = tables.read(tmp_path / "a.parquet")
    assert found.to_dict("list") == ROWS and list(found.index) == [0, 1]
    days = pd.date_range("2024-01-01", periods=2)
    pd.DataFrame(ROWS, index=days).to_parquet(tmp_path / "a.parquet")
    assert tables.read(tmp_path / "a.parquet")["index"].tolist() == days.tolist()


def test_parquet_of_lists_and_of_nullable_types_is_read_as_text(tmp_path):
    table = pd.DataFrame({"text": ["a", None], "tokens": [["a"], ["b", "c"]], "n": [1, None]})
    table.astype({"n": "Int64"}).convert_dtypes().to_parquet(tmp_path / "a.parquet")
    found = tables.read(tmp_path / "a.parquet", as_text=True)
    assert found["text"].tolist() == ["a", ""] and found["n"].tolist()[1] == ""
    assert found["tokens"].tolist() == ["a", "b c"]
    table = pd.DataFrame({"text": ["Café".encode(), b"b"], "more": [{"a": 1}, {"a": 2}]})
    table.to_parquet(tmp_path / "b.parquet")
    found = tables.read(tmp_path / "b.parquet", as_text=True)
    assert found["text"].tolist() == ["Café", "b"] and "1" in found["more"][0]


def test_where_a_comma_is_decimal_a_point_is_none(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a;b;c\n1.234;0,5;0.5\n2.345;1;1.25\n999;2;2\n")
    found = tables.read(path).to_dict("list")
    assert found == {"a": [1234, 2345, 999], "b": [0.5, 1, 2], "c": [0.5, 1.25, 2]}
    path.write_text("a;b\n1.234;5\n2.345;1\n")  # here it may be
    assert tables.read(path)["a"].tolist() == [1.234, 2.345]


def test_a_value_that_is_no_number_stays_to_be_told_of(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("date;load\n01.02.2024;1.001,5\n02.02.2024;k.A.\n03.02.2024;2\n")
    assert tables.read(path)["load"].tolist() == [1001.5, "k.A.", 2]
    path.write_text("a;note\n1,5;3\n2;x\n3;4\n")
    assert tables.read(path)["note"].tolist() == ["3", "x", "4"]


def test_a_comma_that_may_be_decimal_or_not_is_asked_about(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("date\tsales\n2024-01-01\t950\n2024-01-02\t1,050\n")
    with pytest.raises(SystemExit, match=r"'sales' has 1,050\. Is that a whole number"):
        tables.read(path)
    path.write_text("date\tsales\trate\n2024-01-01\t950\t5,5\n2024-01-02\t1,050\t6\n")
    assert tables.read(path)["sales"].tolist() == [950, 1.05]
    path.write_text("date;Diesel\n2024-01-01;1,799\n2024-01-02;1,859\n")
    assert tables.read(path)["Diesel"].tolist() == [1.799, 1.859]
    for cell, value in (("0,125", 0.125), ("1,05", 1.05), ("1.050,0", 1050)):
        path.write_text(f"date\tsales\n2024-01-01\t950\n2024-01-02\t{cell}\n")
        assert tables.read(path)["sales"].tolist() == [950, value]


def test_two_columns_of_one_name_are_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("date,load,load \n2024-01-01,1,2\n")
    with pytest.raises(SystemExit, match="two columns 'load'"):
        tables.read(path)


def test_numbers_name_columns_behind_a_word(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("date,101,102\n2024-01-01,3,4\n")
    assert list(tables.read(path)) == ["date", "101", "102"]


def test_dates_and_missing_values_are_left_to_the_caller(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("date;load;note\n01.02.2024;1,5;a\n02.02.2024;;b,c\n03.02.2024;2;\n")
    found = tables.read(path)
    assert found["date"].tolist() == ["01.02.2024", "02.02.2024", "03.02.2024"]
    assert found["load"].isna().tolist() == [False, True, False] and found["load"][2] == 2
    assert found["note"][1] == "b,c"


def test_as_text_a_name_stays_as_it_is_written(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\n1,01\nNA,None\n,1.0\n")
    found = tables.read(path, as_text=True)
    assert found.to_dict("list") == {"text": ["1", "NA", ""], "label": ["01", "None", "1.0"]}


def test_quotation_marks_in_tsv_may_be_only_that(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text('text\tlabel\n"a "b" c\tx\nd"\ty\n"e\tx\n')
    assert tables.read(path, as_text=True)["text"].tolist() == ['"a "b" c', 'd"', '"e']
    path.write_text('text\tlabel\n"a ""b""\nc"\tx\n')
    assert tables.read(path, as_text=True)["text"].tolist() == ['a "b"\nc']


def test_rows_behind_a_quotation_mark_that_nothing_closes_are_told_of(tmp_path, capsys):
    path = tmp_path / "a.csv"
    path.write_text('label,text\na,"one\nb,two\na,three\nb,"four"\nb,five\n')
    assert len(tables.read(path, as_text=True)) == 2
    assert "the first row 1, a value holds what look like rows" in capsys.readouterr().out
    path.write_text('label,text\na,"one\ntwo\nthree"\nb,"four, five"\n')
    assert len(tables.read(path, as_text=True)) == 2 and not capsys.readouterr().out


def test_another_encoding_is_refused_with_the_way_out(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("text,label\nok,a\ncafé,b\n".encode("latin-1"))
    with pytest.raises(SystemExit, match=r"a.csv, line 3, .*UTF-8.*0xe9.*--encoding latin-1"):
        tables.read(path)
    assert tables.read(path, "latin-1")["text"][1] == "café"
    path.write_bytes("text,label\n“café”,b\n".encode("cp1252"))
    with pytest.raises(SystemExit, match="--encoding cp1252"):
        tables.read(path)
    path.write_bytes("text,label\nok,a\n".encode("utf-16-le"))
    with pytest.raises(SystemExit, match=r"zeros between its letters.*--encoding utf-16-le"):
        tables.read(path)
    path.write_bytes("text,label\nok,a\n".encode("utf-16-be"))
    with pytest.raises(SystemExit, match=r"zeros between its letters.*--encoding utf-16-be"):
        tables.read(path)
    path.write_bytes(b"text,label\nok,a\nno\0,b\n")
    with pytest.raises(SystemExit, match="line 3, has a zero byte"):
        tables.read(path)
    path.write_bytes("text,label\nok,a\n".encode("utf-8-sig"))
    assert list(tables.read(path, "utf-8")) == ["text", "label"]
    path = tmp_path / "a.csv.gz"
    damaged = bytearray(gzip.compress(b"text,label\nok,a\n" * 100))
    damaged[20] ^= 255
    path.write_bytes(damaged)
    with pytest.raises(SystemExit, match=r"a\.csv\.gz cannot be read"):
        tables.read(path)
    path = tmp_path / "a.csv"
    path.write_bytes("text,label\nok,a\n".encode("utf-16"))
    with pytest.raises(SystemExit, match="--encoding utf-16"):
        tables.read(path)
    assert tables.read(path, "utf-16")["label"][0] == "a"
    with pytest.raises(SystemExit, match=r"--encoding: there is no 'utf9'"):
        tables.read(path, "utf9")


@pytest.mark.parametrize(
    "name, content, error",
    [
        ("a.csv", "", "is empty"),
        ("a.csv", "text,label\n", "has no rows"),
        ("a.csv", "a,b\n1,2\n1,2,3\n", r"2 fields in line 3, saw 3.*quotation marks"),
        ("a.csv", "a,b\n1,2,3\n1,2,3\n", "more values than its first line has names"),
        ("a.csv", 'a,b\n"open,2\n3,4\n', "string starting at row 1"),
        ("a.csv", "1.5,2\n3,4\n", "first line must name the columns"),
        ("a.csv", "2024-01-01,3\n2024-01-02,4\n", "first line must name the columns"),
        ("a.jsonl", '{"a": 1}\n{"a": \n', "line 2: "),
        ("a.jsonl", '{"a": 1}\n3\n', "row 2: an object"),
        ("a.parquet", "text", "cannot be read as Parquet"),
        ("a.xlsx", "text", r"none of .csv, .*\.parquet"),
    ],
)
def test_what_is_no_table_is_said(tmp_path, name, content, error):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(SystemExit, match=error) as said:
        tables.read(path)
    assert str(path) in str(said.value)
    with pytest.raises(SystemExit, match="cannot be read: No such file"):
        tables.read(tmp_path / "absent.csv")


def test_gzip_is_known_by_its_content(tmp_path):
    path = tmp_path / "A.CSV"
    path.write_bytes(gzip.compress(b"a,b\n1,2\n"))
    assert tables.read(path).to_dict("list") == {"a": [1], "b": [2]}


def test_half_of_an_emoji_is_told_of(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "whole \\ud83d\\ude00"}\n{"text": "half \\ud83d"}\n')
    with pytest.raises(SystemExit, match="row 2, has half of a character"):
        tables.read(path)
