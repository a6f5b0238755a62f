"""Texts and the class of each: from a table or from TFDS, checked, and split in three.

A part is (texts, labels), a label being the number of a class; parts are "train",
"validation" and "test".
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow_datasets as tfds
from sklearn.model_selection import train_test_split

from recipes.common import check_data, prepared_data, tables

Part = tuple[list[str], list[int]]
LEAST = 10  # of each class, so that one is in each part
SHARE = 0.1  # of all texts, for validation and test, each


def from_tfds(name: str) -> tuple[dict[str, Part], list[str]]:
    """(the parts that the dataset has, the names of the classes)."""
    splits, info = prepared_data.load(name)
    texts = [n for n, f in info.features.items() if isinstance(f, tfds.features.Text)]
    labels = [n for n, f in info.features.items() if isinstance(f, tfds.features.ClassLabel)]
    text, label = (info.supervised_keys or (None, None))[:2]
    if text in texts and label in labels:
        texts, labels = [text], [label]
    if len(texts) != 1 or len(labels) != 1 or "train" not in splits:
        raise SystemExit(
            f"--dataset {name} is not one text and one label: its texts are {texts}, its labels "
            f"{labels}, its splits {list(splits)}."
        )

    def read(split):
        pairs = splits[split].map(lambda example: (example[texts[0]], example[labels[0]]))
        found, classes = [], []
        for some, their in pairs.batch(1000).as_numpy_iterator():  # one by one takes 20 seconds
            found += [text.decode() for text in some]
            classes += their.tolist()
        return found, classes

    found = {split: read(split) for split in ("train", "validation", "test") if split in splits}
    # Where labels are held back (GLUE's tests), they are -1.
    found = {split: part for split, part in found.items() if min(part[1]) >= 0}
    if "test" not in found and "validation" in found:  # drawn from "train", it might be too alike
        found["test"] = found.pop("validation")
    return found, info.features[labels[0]].names


def from_table(args: argparse.Namespace) -> tuple[dict[str, Part], list[str]]:
    """(the three parts, the names of the classes).

    Args:
        args: `data` and maybe `test_data`, files in `encoding` or None; `text` and `label`,
            names of columns, or None: found, where only one of each is possible, and set; `seed`.

    Raises:
        SystemExit: If a file cannot be read, or learned from; the message says where and why.
    """
    path, test = args.data, args.test_data
    table = tables.read(path, args.encoding, as_text=True)
    text, label = args.text, args.label = columns(table, path, args.text, args.label)
    check_rows(table, path, text, label)
    table[label] = table[label].str.strip()
    names = in_order(set(table[label]))
    check_data.classes(table[label], f"column {label!r} of {path}", LEAST)
    print(f"{path}: {len(table)} texts in column {text!r}, {len(names)} classes in {label!r}.")

    def part(table):
        return table[text].tolist(), [names.index(name) for name in table[label]]

    found = {"train": table}
    if test:
        found["test"] = tables.read(test, args.encoding, as_text=True)
        check_rows(found["test"], test, text, label)
        found["test"][label] = found["test"][label].str.strip()
        unknown = found["test"].index[~found["test"][label].isin(names)]
        if len(unknown):
            raise SystemExit(
                f"{test}, row {unknown[0] + 1}: {found['test'][label][unknown[0]]!r} is none of "
                f"the classes of {path}: {', '.join(names)}."
            )
    parts = split({name: part(table) for name, table in found.items()}, names, args.seed)
    learned = [*parts["train"][0], *parts["validation"][0]]  # n-grams are learned from both
    check_data.say_repeated(learned, parts["test"][0], "texts")
    return parts, names


def in_order(names: set[str]) -> list[str]:
    """Whole numbers by their size, or else all by their letters."""
    try:
        return sorted(names, key=lambda name: (int(name), name))
    except ValueError:
        return sorted(names)


def columns(
    table: pd.DataFrame, path: Path, text: str | None, label: str | None
) -> tuple[str, str]:
    """The columns of texts and of labels, as they were named, or if there is no doubt."""
    for option, name in (("--text", text), ("--label", label)):
        if name is not None and name not in table:
            raise SystemExit(f"{option}: {path} has no column {name!r}, but {list(table)}.")
    distinct = table.apply(lambda column: column.str.strip().nunique())
    long = table.apply(lambda column: column.str.len().mean() >= 15)
    others = [name for name in table if name not in (text, label)]
    texts = [text] if text else [n for n in others if long[n] and distinct[n] > len(table) / LEAST]
    labels = [label] if label else [n for n in others if 2 <= distinct[n] <= len(table) / LEAST]
    if len(texts) != 1 or len(labels) != 1:
        same = [f"all of {name!r} are {table[name][0]!r}" for name in others if distinct[name] == 1]
        raise SystemExit(
            f"{path} has the columns {list(table)}: which has the texts, and which the classes, "
            f"is not clear{''.join(f' ({s})' for s in same)}. Say it with --text COLUMN --label "
            "COLUMN."
        )
    unnamed = not (text or label) and len(texts[0]) >= 15  # as long as a text
    if unnamed and labels[0] in set(table[labels[0]]):
        raise SystemExit(f"{path}: its first line must name the columns, and has {list(table)}.")
    return texts[0], labels[0]


def check_rows(table: pd.DataFrame, path: Path, *needed: str) -> None:
    """Ends the program if a table has not all columns, or a row with nothing in one."""
    for name in needed:
        if name not in table:
            raise SystemExit(f"{path} has no column {name!r}, but {list(table)}.")
        empty = table.index[table[name].str.strip() == ""]
        if len(empty):
            more = f" (and {len(empty) - 1} more such rows)" if len(empty) > 1 else ""
            raise SystemExit(
                f"{path}, row {empty[0] + 1}: there is nothing in column {name!r}{more}. Fill it "
                "in, or take the row out."
            )


def split(parts: dict[str, Part], names: list[str], seed: int) -> dict[str, Part]:
    """All three parts; what is missing is drawn from "train", from each class its share."""
    texts, labels = parts["train"]
    missing = [name for name in ("validation", "test") if name not in parts]
    if missing:
        check_data.classes([names[label] for label in labels], least=LEAST)
    rest, all_labels, found = np.arange(len(labels)), np.array(labels), dict(parts)
    for name in missing:
        rest, drawn = train_test_split(
            rest, test_size=round(SHARE * len(labels)), random_state=seed, stratify=all_labels[rest]
        )
        found[name] = [texts[i] for i in drawn], [labels[i] for i in drawn]
    found["train"] = [texts[i] for i in rest], [labels[i] for i in rest]
    return found
