"""Treebanks: sentences of words and a tag for each, from CoNLL-U files or from TFDS.

What has a tag is a word: neither a token that words follow ("don't": "do", "n't"), nor a
word that is left out of the text and annotated all the same.
"""

import argparse
import ast
import re
from pathlib import Path

import numpy as np

from recipes.common import check_data, prepared_data, text_files

COLUMNS = {"upos": 3, "xpos": 4, "feats": 5}
LEAST = 30  # sentences of a treebank
SHARE = 0.1  # of all sentences, for validation and test, each
Sentences = list[tuple[list[str], list[str]]]  # each its words and their tags


def from_files(args: argparse.Namespace) -> tuple[dict[str, Sentences], list[str]]:
    """({"train" | "validation" | "test": sentences}, the tags).

    Args:
        args: `data`, one file or three, in `encoding` or None; `column`, of the tags; `seed`.
    """
    names = ("train", "validation", "test")
    rows = {name: read(path, args.encoding) for name, path in zip(names, args.data)}
    column = COLUMNS[args.column]
    if args.column == "upos":
        rows = {name: annotated(sentences, name) for name, sentences in rows.items()}
    parts = {
        name: [([row[1] for row in s], [row[column] for row in s]) for s in sentences]
        for name, sentences in rows.items()
    }
    tags = check(parts, args.column, str(args.data[0]))
    words = [row for sentence in rows["train"] for row in sentence]
    print(f"{args.data[0]}: {len(rows['train'])} sentences, {len(words)} words, {len(tags)} tags.")
    if sum("SpaceAfter=No" in row[9] for row in words) > len(words) / 2:
        print(
            "Most words here are not followed by a space. The exported model finds words by "
            "spaces: give it words that are already apart (its signature `words`)."
        )
    return split(parts, args.seed), tags


def from_tfds(name: str, column: str, seed: int) -> tuple[dict[str, Sentences], list[str]]:
    """The same, from a treebank of TFDS."""
    splits, info = prepared_data.load(name)
    if not {"tokens", "head", column} <= set(info.features):
        raise SystemExit(f"--dataset {name} is no treebank: it has {list(info.features)}.")
    names = info.features["upos"].feature.names

    def tag(value):
        if column == "upos":
            return names[value]
        value = value.decode()
        if value.startswith("{"):  # TFDS writes features as Python does
            return "|".join(f"{k}={v}" for k, v in ast.literal_eval(value).items())
        return "_" if value == "None" else value

    def sentences(split):
        fields = "tokens", column, "head"
        chosen = splits[split].map(lambda example: tuple(example[name] for name in fields))
        for batch in chosen.ragged_batch(1000):  # one by one takes twice as long
            for columns in zip(*(column.to_list() for column in batch)):
                # Only words have a head.
                pairs = [(w.decode(), tag(x)) for w, x, head in zip(*columns) if head != b"None"]
                yield [word for word, _ in pairs], [tag for _, tag in pairs]

    kept = {"train": "train", "validation": "dev", "test": "test"}
    parts = {part: list(sentences(split)) for part, split in kept.items() if split in splits}
    tags = check(parts, column, name)
    if column == "upos":
        tags = [name for name in names if name != "_" or name in tags]
    return split(parts, seed), tags


def read(path: Path, encoding: str | None = None) -> list[list[list[str]]]:
    """The sentences of a CoNLL-U file, each a list of words, each its ten columns.

    Raises:
        SystemExit: If a line is none of CoNLL-U; the message has its number.
    """
    found, sentence = [], []

    def refuse(number, why):
        raise SystemExit(f"{path}, line {number}: {why}.")

    for number, line in enumerate([*text_files.read(path, encoding).split("\n"), ""], 1):
        if not line.strip():
            found += [sentence] if sentence else []
            sentence = []
        elif not line.startswith("#"):
            columns = line.split("\t")
            if len(columns) != 10:
                refuse(
                    number,
                    f"CoNLL-U has 10 columns, separated by tabs, and this has {len(columns)}",
                )
            if "" in (column.strip() for column in columns[:6]):
                refuse(number, "a column is empty, where CoNLL-U has `_`")
            if re.fullmatch(r"\d+[-.]\d+", columns[0]):
                continue
            if columns[0] != str(len(sentence) + 1):
                refuse(
                    number,
                    f"word {len(sentence) + 1} is expected, got {columns[0]!r}; sentences are "
                    "separated by an empty line",
                )
            sentence.append(columns)
    return found


def annotated(sentences: list[list[list[str]]], part: str) -> list[list[list[str]]]:
    """Those whose words all have a part of speech; all to train on, if no word there has one."""
    upos = COLUMNS["upos"]
    if part == "train" and all(row[upos] == "_" for rows in sentences for row in rows):
        return sentences
    found = [rows for rows in sentences if all(row[upos] != "_" for row in rows)]
    if sentences and not found:
        raise SystemExit(
            f"In each sentence of the {part} file a word has no part of speech, but `_`: annotate "
            "these, or give --column xpos."
        )
    if len(found) < len(sentences):
        print(
            f"{len(sentences) - len(found)} of {len(sentences)} sentences of the {part} file are "
            "left out: a word has no part of speech."
        )
    return found


def check(parts: dict[str, Sentences], column: str, name: str) -> list[str]:
    """All tags, once they are known to be learnable from."""
    if "train" not in parts:
        raise SystemExit(f"{name} has nothing to train on, only {', '.join(parts)}.")
    if sum(map(len, parts.values())) < LEAST:
        sizes = {part: len(sentences) for part, sentences in parts.items()}
        raise SystemExit(f"{name} has too few sentences to learn from ({sizes}; {LEAST} at least).")
    empty = [part for part, sentences in parts.items() if not sentences]
    if empty:
        raise SystemExit(f"{name} has no sentence for {', '.join(empty)}.")
    tags = sorted({tag for sentences in parts.values() for _, tags in sentences for tag in tags})
    if tags == ["_"]:
        others = ", ".join(other for other in COLUMNS if other != column)
        raise SystemExit(f"{name} has nothing in its column {column}; try --column with {others}.")
    if len({word for words, _ in parts["train"] for word in words}) < 2:
        raise SystemExit(f"{name} has no words: its text was left out, and has to be put back.")
    check_data.classes((tag for _, tags in parts["train"] for tag in tags), name, least=1)
    return tags


def split(parts: dict[str, Sentences], seed: int) -> dict[str, Sentences]:
    """All three parts; what is missing is drawn from "train"."""
    train, found = parts["train"], dict(parts)
    order, size = list(np.random.default_rng(seed).permutation(len(train))), len(train)
    for name in ("validation", "test"):
        if name not in parts:
            found[name] = [train[order.pop()] for _ in range(round(SHARE * size))]
    if len(order) < size:
        found["train"] = [train[i] for i in order]
    return found
