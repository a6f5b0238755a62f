"""Sentences and their translations, line by line: two files, or one that is tab-separated."""

import argparse
from pathlib import Path

import numpy as np

from recipes.common import check_data, text_files

Pairs = list[tuple[str, str]]
SHARE, MOST = 0.1, 1000  # of all sentences, to validate and to test, each, if there are no files
LEAST = 200  # to learn from


def from_files(args: argparse.Namespace) -> dict[str, Pairs]:
    """{"train" | "validation" | "test": pairs}; what has no file is drawn from "train", each
    sentence with all its translations.

    Args:
        args: `data`, and maybe `validation_data` and `test_data`: one file or two, in `encoding`
            or None; `seed`.

    Raises:
        SystemExit: If a file cannot be read, or learned from; the message says where and why.
    """
    files = {"train": args.data, "validation": args.validation_data, "test": args.test_data}
    parts = {name: read(paths, args.encoding) for name, paths in files.items() if paths}
    places = {}  # of each sentence's translations
    for i, sentence in enumerate(sentences(parts["train"])):
        places.setdefault(sentence, []).append(i)
    places = [*places.values()]
    if len(places) < LEAST:
        raise SystemExit(
            f"{args.data[0]} has {len(places)} different sentences with a translation, which is "
            f"too little to learn from. Give {LEAST} or more."
        )
    order = np.random.default_rng(args.seed).permutation(len(places)).tolist()
    count = min(MOST, round(SHARE * len(order)))
    for name in files:
        if name not in parts:
            drawn, order = order[:count], order[count:]
            parts[name] = [parts["train"][i] for k in drawn for i in places[k]]
    parts["train"] = [parts["train"][i] for i in sorted(i for k in order for i in places[k])]
    check_data.say_repeated(sentences(parts["train"]), sentences(parts["test"]), "sentences")
    return parts


def sentences(pairs: Pairs) -> list[str]:
    return [" ".join(sentence.split()) for sentence, _ in pairs]


def read(paths: list[Path], encoding: str | None = None) -> Pairs:
    """The pairs of two files, or of one with a tab between; those with an empty side are left out.

    Raises:
        SystemExit: If the files have not as many lines, or a line has not one tab.
    """
    lines = [text_files.read(path, encoding).removesuffix("\n").split("\n") for path in paths]
    if len(paths) == 2:
        if len(lines[0]) != len(lines[1]):
            raise SystemExit(
                f"{paths[0]} has {len(lines[0]):,} lines, and {paths[1]} {len(lines[1]):,}: the "
                "translation of a sentence must stand in the same line."
            )
        pairs = list(zip(*lines))
    else:
        pairs = [tuple(line.split("\t")[:2]) for line in lines[0]]
        wrong = [k for k, pair in enumerate(pairs) if len(pair) < 2 and pair[0].strip()]
        if wrong:
            raise SystemExit(
                f"{paths[0]}, line {wrong[0] + 1}, has no tab between a sentence and its "
                "translation. Where these are two files, give both."
            )
    kept = [pair for pair in pairs if len(pair) == 2 and all(side.strip() for side in pair)]
    if not kept:
        raise SystemExit(f"{paths[0]} has no sentence with a translation.")
    if len(kept) < len(pairs):
        print(f"{paths[0]}: {len(pairs) - len(kept):,} of {len(pairs):,} lines have an empty side.")
    return kept
