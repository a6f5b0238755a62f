"""Texts and treebanks of one's own, from their files to a model that answers."""

import csv
import json
import random
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from conftest import answered, portable_ops

from recipes import pos_tagging, sentiment
from recipes.common import pictures
from recipes.common.words import standardize
from recipes.parts.pos_tagging import treebanks
from recipes.parts.sentiment import labelled_texts, sentiment_export

pytestmark = pytest.mark.usefixtures("without_graph_optimizer")

OPINIONS = {
    "bon": ["superbe", "drôle", "brillant", "réussi"],
    "mauvais": ["raté", "ennuyeux", "faible", "lourd"],
    "mitigé": ["inégal", "moyen", "hésitant", "tiède"],
}


def reviews(count, seed):
    """(texts, classes); a third and a bit of each class."""
    r = random.Random(seed)
    classes = [list(OPINIONS)[i % 3] if i % 7 else "bon" for i in range(count)]
    texts = [
        f'Le "{r.choice(["film", "jeu", "décor"])}" de {r.choice(["lundi", "mardi", "jeudi"])} '
        f"était {r.choice(OPINIONS[c])}, selon {r.choice(['moi', 'Anna', 'Luc'])}."
        for c in classes
    ]
    return texts, classes


def write_reviews(path, texts, classes):
    lines = [f"{i}\t{text}\t{c}" for i, (text, c) in enumerate(zip(texts, classes))]
    path.write_bytes("\n".join(["id\tavis\tnote", *lines, ""]).encode("latin-1"))


def run(recipe, folder, *arguments):
    places = ["--output", folder / "run", "--saved-models", folder / "saved_models"]
    recipe.main(recipe.arguments([str(a) for a in [*arguments, *places]]))


# --- Texts and their classes ------------------------------------------------------------------


@pytest.fixture(scope="module")
def french(tmp_path_factory):
    """A folder with a finished run on TSV in Latin-1, of three classes."""
    folder = tmp_path_factory.mktemp("french")
    write_reviews(folder / "train.tsv", *reviews(240, 0))
    write_reviews(folder / "test.tsv", *reviews(60, 1))
    files = ["--data", folder / "train.tsv", "--test", folder / "test.tsv"]
    run(
        sentiment, folder, *files, "--encoding", "latin-1", "--cell", "simple_rnn", "--epochs", "10"
    )
    return folder


def test_three_classes_are_learned_and_answered_by_name(french):
    texts, classes = reviews(60, 1)
    found = answered(french / "saved_models/sentiment/1", "serving_default", {"sentences": texts})
    assert found["probabilities"].shape == (60, 3)
    np.testing.assert_allclose(found["probabilities"].sum(-1), 1, atol=1e-5)
    right = found["label"] == np.array(classes)
    assert right.mean() > 0.8
    test = json.loads((french / "run/metrics.json").read_text())["test"]
    assert test["reviews"] == 60 and test["accuracy"] == pytest.approx(right.mean())
    f1 = []
    for name in OPINIONS:
        said, true = found["label"] == name, np.array(classes) == name
        f1.append(2 * np.sum(said & true) / (said.sum() + true.sum()))
    assert test["macro_f1"] == pytest.approx(np.mean(f1))


def test_simpler_models_stand_beside(french):
    test = json.loads((french / "run/metrics.json").read_text())["test"]
    most = Counter(reviews(60, 1)[1]).most_common(1)[0][1] / 60
    assert test["most frequent class"]["accuracy"] == pytest.approx(most)
    assert test["linear model, words and pairs"]["accuracy"] == 1  # a word says it


def test_the_confusion_matrix_has_the_names_and_counts_all(french):
    with open(french / "run/confusion.csv", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header[1:] == sorted(OPINIONS) == [row[0] for row in rows]
    counts = Counter(reviews(60, 1)[1])
    assert {row[0]: sum(map(int, row[1:])) for row in rows} == counts
    assert (french / "run/confusion.png").read_bytes().startswith(b"\x89PNG")


def test_other_data_under_the_same_output_are_refused(french, tmp_path):
    texts, classes = reviews(240, 2)
    write_reviews(tmp_path / "train.tsv", texts, classes)
    again = ["--encoding", "latin-1", "--cell", "simple_rnn", "--epochs", "10"]
    with pytest.raises(SystemExit, match=r"(?s)data read.*--restart"):
        run(sentiment, french, "--data", tmp_path / "train.tsv", *again)
    assert not (french / "saved_models/sentiment/2").exists()


def test_latin_1_needs_its_name(french):
    with pytest.raises(SystemExit, match=r"train.tsv, line \d+, .*--encoding latin-1"):
        run(sentiment, french, "--data", french / "train.tsv")


def table(path, header, rows):
    path.write_text("\n".join([header, *rows, ""]), "utf-8")
    return sentiment.arguments(["--data", str(path), "--output", str(path.parent / "run")])


GOOD = [f"a review of some length {i},{'xy'[i % 2]}" for i in range(40)]


@pytest.mark.parametrize(
    "header, rows, error",
    [
        ("text,label,other", [f"{row},{'pq'[i % 2]}" for i, row in enumerate(GOOD)], "--label"),
        ("text,label", [*GOOD, ",x"], "row 41: there is nothing in column 'text'"),
        ("text,label", [*GOOD, "a review,"], "row 41: there is nothing in column 'label'"),
        ("text,label", [*GOOD, "a review,z"], "'z' 1 times"),
        ("text,label", [row[:-1] + "x" for row in GOOD], "all of 'label' are 'x'"),
        (GOOD[0], GOOD[1:], "first line must name the columns"),
    ],
)
def test_what_cannot_be_learned_from_is_said_before_training(tmp_path, header, rows, error):
    args = table(tmp_path / "a.csv", header, rows)
    with pytest.raises(SystemExit, match=error):
        labelled_texts.from_table(args)


def test_a_column_may_be_called_as_a_class_is_and_repeated_texts_are_counted(tmp_path, capsys):
    rows = [f"{('spam', 'ham')[i % 2]},a message of some length {i % 20}" for i in range(100)]
    parts, names = labelled_texts.from_table(table(tmp_path / "a.csv", "spam,message", rows))
    assert names == ["ham", "spam"] and sum(len(texts) for texts, _ in parts.values()) == 100
    assert "of the 10 texts to test on are in the training part, too" in capsys.readouterr().out


@pytest.mark.parametrize("names", [["$", "$$", "$$$"], ["$10% - $20%", "_a", "^"]])
def test_names_of_classes_are_no_formulas(tmp_path, names):
    pictures.confusion(tmp_path / "a.png", np.eye(3, dtype=int), names, "$100%$_")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_each_class_is_in_each_part_by_its_share(tmp_path):
    rows = [f"a review of some length {i},{'x' if i % 4 else 'y'}" for i in range(200)]
    args = table(tmp_path / "a.csv", "text,label", rows)
    data, names = labelled_texts.from_table(args)
    assert names == ["x", "y"]
    assert {part: Counter(labels) for part, (_, labels) in data.items()} == {
        "train": {0: 120, 1: 40}, "validation": {0: 15, 1: 5}, "test": {0: 15, 1: 5},
    }  # fmt: skip
    texts = [text for texts, _ in data.values() for text in texts]
    assert sorted(texts) == sorted(row.split(",")[0] for row in rows)
    assert labelled_texts.from_table(args)[0] == data
    args.seed = 1
    assert labelled_texts.from_table(args)[0] != data


def test_classes_are_in_the_order_of_their_numbers_and_blanks_make_none(tmp_path):
    rows = [f"a review of some length {i},{i % 10 + 1}{' ' * (i % 3)}" for i in range(200)]
    _, names = labelled_texts.from_table(table(tmp_path / "a.csv", "text,label", rows))
    assert names == [str(k) for k in range(1, 11)]


def dataset(monkeypatch, module, features, keys=None, **splits):
    """Has TFDS give a dataset of these examples, by any name."""
    features = tfds.features.FeaturesDict(features)
    info = SimpleNamespace(features=features, supervised_keys=keys)
    spec = features.get_tensor_spec()
    made = {
        name: tf.data.Dataset.from_generator(lambda x=examples: iter(x), output_signature=spec)
        for name, examples in splits.items()
    }
    monkeypatch.setattr(module.prepared_data, "load", lambda name: (made, info))


def test_a_dataset_of_one_text_and_one_label(monkeypatch):
    features = {"sentence": tfds.features.Text(), "idx": np.int32}
    features["label"] = tfds.features.ClassLabel(names=["down", "level", "up"])
    train = [{"sentence": f"text {i}".encode(), "idx": i, "label": i % 3} for i in range(60)]
    held_back = [{**example, "label": -1} for example in train]
    dataset(monkeypatch, labelled_texts, features, train=train, validation=train, test=held_back)
    data, names = sentiment.load("glue/other", 0)
    assert names == ["down", "level", "up"]
    assert [len(data[part][0]) for part in ("train", "validation", "test")] == [54, 6, 60]
    assert all(
        names[label] == names[int(text.split()[1]) % 3] for text, label in zip(*data["test"])
    )
    dataset(monkeypatch, labelled_texts, {**features, "b": tfds.features.Text()}, train=train)
    with pytest.raises(
        SystemExit, match=r"not one text and one label.*(?:'sentence', 'b'|'b', 'sen)"
    ):
        sentiment.load("glue/pairs", 0)
    texts = {"body": tfds.features.Text(), "title": tfds.features.Text()}
    two = [{"body": b"a", "title": b"b"}]
    dataset(monkeypatch, labelled_texts, texts, keys=("body", "title"), train=two)
    with pytest.raises(SystemExit, match="not one text and one label"):
        sentiment.load("aeslc", 0)


def test_words_of_any_script_come_apart_whole():
    texts = ["这部电影, 很好", "हिन्दी फ़िल्म।", "映画です", "naïve idea"]
    words = [text.decode().split() for text in standardize(texts).numpy()]
    assert words == [
        ["这", "部", "电", "影", ",", "很", "好"],
        ["हिन्दी", "फ़िल्म", "।"],
        ["映", "画", "で", "す"],
        ["naïve", "idea"],
    ]


# --- Treebanks ------------------------------------------------------------------------------

HINDI = {
    "लड़का": ("NOUN", "NN", "Gender=Masc"), "लड़की": ("NOUN", "NN", "Gender=Fem"),
    "घर": ("NOUN", "NN", "Gender=Masc"), "किताब": ("NOUN", "NN", "Gender=Fem"),
    "पढ़ता": ("VERB", "VM", "Gender=Masc"), "पढ़ती": ("VERB", "VM", "Gender=Fem"),
    "है": ("AUX", "VAUX", "Number=Sing"), "में": ("ADP", "PSP", "_"),
}  # fmt: skip


def treebank(count, seed):
    """(CoNLL-U of `count` sentences, their words and XPOS)."""
    r, blocks, found = random.Random(seed), [], []
    for i in range(count):
        masculine = r.random() < 0.5
        words = ["लड़का" if masculine else "लड़की"]
        words += [r.choice(["घर", "किताब"]), "में"] if r.random() < 0.6 else []
        words += ["किताब", "पढ़ता" if masculine else "पढ़ती", "है"]
        lines = [f"# sent_id = {i}", f"# text = {' '.join(words)}"]
        for k, word in enumerate(words, 1):
            upos, xpos, feats = HINDI[word]
            if k == 2:  # a token of two words, and one that is left out
                lines.append(f"2-3\t{word}{words[2]}" + "\t_" * 8)
            lines.append("\t".join([str(k), word, word, upos, xpos, feats, "0", "root", "_", "_"]))
        lines.append(f"{len(words)}.1\tवह" + "\t_" * 8)
        blocks.append("\n".join([*lines, "", ""]))
        found.append((words, [HINDI[word][1] for word in words]))
    return "".join(blocks), found


@pytest.fixture(scope="module")
def hindi(tmp_path_factory):
    """A folder with a finished run on a treebank in three files, tagged by XPOS, with a CRF."""
    folder = tmp_path_factory.mktemp("hindi")
    files = []
    for seed, (name, count) in enumerate({"train": 120, "dev": 20, "test": 20}.items()):
        files.append(folder / f"{name}.conllu")
        files[-1].write_text(treebank(count, seed)[0], "utf-8")
    how = ["--column", "xpos", "--crf", "--cell", "simple_rnn", "--epochs", "8"]
    run(pos_tagging, folder, "--data", *files, *how)
    return folder


def test_xpos_of_another_script_is_learned_and_answered(hindi):
    sentences = treebank(20, 2)[1]
    words = [row + [""] * (6 - len(row)) for row, _ in sentences]
    found = answered(hindi / "saved_models/pos_tagging/1", "words", {"words": words})
    right = [
        tag == true
        for row, (_, tags) in zip(found["tags"], sentences)
        for tag, true in zip(row, tags)
    ]
    assert np.mean(right) > 0.9
    portable_ops(hindi / "saved_models/pos_tagging/1")
    metrics = json.loads((hindi / "run/metrics.json").read_text())
    assert metrics["column"] == "xpos" and metrics["crf"] is True
    assert metrics["test"]["words"] == len(right)
    assert metrics["test"]["accuracy"] == pytest.approx(np.mean(right))
    assert metrics["test"]["accuracy_of_most_frequent_tag"] == 1  # each word here has one tag
    assert metrics["test"]["accuracy_on_unseen_words"] is None


def test_one_file_is_split_by_the_seed(tmp_path):
    path = tmp_path / "a.conllu"
    text, sentences = treebank(50, 0)
    path.write_text(text, "utf-8")
    given = ["--data", str(path), "--output", str(tmp_path / "run")]
    data, tags = treebanks.from_files(pos_tagging.arguments([*given, "--column", "feats"]))
    assert {part: len(found) for part, found in data.items()} == {
        "train": 40, "validation": 5, "test": 5,
    }  # fmt: skip
    assert tags == ["Gender=Fem", "Gender=Masc", "Number=Sing", "_"]
    words = [words for found in data.values() for words, _ in found]
    assert sorted(words) == sorted(words for words, _ in sentences)
    again, _ = treebanks.from_files(pos_tagging.arguments([*given, "--seed", "1"]))
    assert [w for w, _ in again["test"]] != [w for w, _ in data["test"]]


LINE = "1\tघर\t_\tNOUN\tNN\t_\t0\troot\t_\t_"


@pytest.mark.parametrize(
    "text, error",
    [
        (f"{LINE}\n\n# a comment\n{LINE.replace(chr(9), ' ')}\n", "line 4: .*10 columns.*has 1"),
        (f"{LINE}\n{LINE}\n", "line 2: word 2 is expected, got '1'.*empty line"),
        (f"{LINE}\n\n{LINE.replace('NOUN', '')}\n", "line 3: a column is empty"),
        (f"one{LINE}\n", "line 1: word 1 is expected, got 'one1'"),
    ],
)
def test_a_broken_line_is_named(tmp_path, text, error):
    path = tmp_path / "a.conllu"
    path.write_text(text, "utf-8")
    with pytest.raises(SystemExit, match=rf"a\.conllu, {error}"):
        treebanks.read(path)


def test_what_no_tagger_can_learn_is_said(tmp_path):
    path = tmp_path / "a.conllu"
    given = ["--data", str(path), "--output", str(tmp_path / "run")]
    for text, error in (
        (LINE + "\n", r"too few sentences.*30 at least"),
        ([treebank(40, 0)[0], "# nothing\n", treebank(9, 1)[0]], r"no sentence for validation"),
        (treebank(40, 0)[0].replace("NOUN", "_").replace("VERB", "_").replace("AUX", "_")
         .replace("ADP", "_"), "nothing in its column upos; try --column with xpos, feats"),
        (treebank(40, 0)[0].replace("\tAUX\t", "\t_\t"), "a word has no part of speech, but"),
        (re.sub(r"(?m)^(\d+)\t[^\t]+", r"\1\t_", treebank(40, 0)[0]), "no words: its text was"),
    ):  # fmt: skip
        first, *others = [text] if isinstance(text, str) else text
        path.write_text(first, "utf-8")
        more = [str(tmp_path / f"{i}.conllu") for i in range(len(others))]
        for other, place in zip(others, more):
            Path(place).write_text(other, "utf-8")
        with pytest.raises(SystemExit, match=error):
            treebanks.from_files(pos_tagging.arguments([*given[:2], *more, *given[2:]]))
    with pytest.raises(SystemExit):
        pos_tagging.arguments([*given[:2], str(path), "--output", str(tmp_path)])


def test_sentences_that_are_not_annotated_yet_are_left_out(tmp_path, capsys):
    path = tmp_path / "a.conllu"
    path.write_text(treebank(40, 0)[0] + "1\tnew\t_\t_\t_\t_\t0\troot\t_\t_\n\n", "utf-8")
    given = ["--data", str(path), "--output", str(tmp_path / "run")]
    data, tags = treebanks.from_files(pos_tagging.arguments(given))
    assert sum(map(len, data.values())) == 40 and "_" not in tags
    assert "1 of 41 sentences of the train file are left out" in capsys.readouterr().out


def test_a_treebank_for_tests_alone_is_told_of():
    with pytest.raises(SystemExit, match="x has nothing to train on, only test"):
        treebanks.check({"test": [(["a", "b"], ["X", "Y"])] * 40}, "upos", "x")


def test_a_treebank_of_tfds_has_its_other_columns(monkeypatch):
    text, names = tfds.features.Sequence(tfds.features.Text()), ["_", "NOUN", "AUX"]
    features = dict.fromkeys(["tokens", "xpos", "feats", "head"], text)
    features["upos"] = tfds.features.Sequence(tfds.features.ClassLabel(names=names))
    example = {
        "tokens": [b"isn't", b"is", b"it"], "upos": [0, 2, 1], "head": [b"None", b"0", b"1"],
        "xpos": [b"None", b"V", b"P"], "feats": [b"None", b"{'Mood': 'Ind', 'X': '1'}", b"None"],
    }  # fmt: skip
    dataset(monkeypatch, treebanks, features, train=[example] * 40, test=[example] * 10)
    for column, expected in {
        "upos": ["AUX", "NOUN"], "xpos": ["V", "P"], "feats": ["Mood=Ind|X=1", "_"],
    }.items():  # fmt: skip
        data, tags = pos_tagging.load("universal_dependencies/any", 0, column)
        assert data["test"][0] == (["is", "it"], expected)
        assert set(tags) == set(expected) and len(data["validation"]) == 4
    with pytest.raises(SystemExit, match="no treebank"):
        monkeypatch.undo()
        dataset(monkeypatch, treebanks, {"text": tfds.features.Text()}, train=[])
        pos_tagging.load("other", 0)


@pytest.mark.parametrize(
    "recipe, arguments, error",
    [
        (sentiment, ["--text", "a"], "give --data"),
        (sentiment, ["--data", "absent.csv"], "no file absent.csv"),
        (pos_tagging, ["--data", __file__, __file__], "one file, or three"),
        (pos_tagging, ["--dataset", "sample", "--column", "xpos"], "has no xpos"),
    ],
)
def test_usage_errors(recipe, arguments, error, tmp_path, capsys):
    with pytest.raises(SystemExit):
        recipe.arguments([*arguments, "--output", str(tmp_path)])
    assert error in capsys.readouterr().err


def test_two_classes_keep_one_output():
    train = ["a good film", "a bad film"], [1, 0]
    two, four = (sentiment.build(train, "gru", units=4, classes=n) for n in (2, 4))
    assert {x.shape for x in two.output.values()} == {(None, 1)}
    assert {x.shape for x in four.output.values()} == {(None, 4)}
    found = sentiment_export.answer(tf.constant([[0.2], [0.9]]), ["negative", "positive"])
    assert found["label"].numpy().tolist() == [b"negative", b"positive"]
    np.testing.assert_allclose(found["probabilities"], [[0.8, 0.2], [0.1, 0.9]], rtol=1e-6)
