"""Data are looked at before they are trained on: what can't be learned from is named."""

import argparse
from collections import Counter
from collections.abc import Iterable

import numpy as np


def constant_columns(values: np.ndarray, columns: list[str]) -> list[str]:
    """The columns that always have the same value."""
    return [name for name, value in zip(columns, values.T) if np.ptp(value) == 0]


def refuse_coarse(values: np.ndarray, columns: list[str]) -> None:
    """Ends the program if float32 is too coarse for what changes in float64 `values`."""
    lost = np.abs(values - values.astype("float32")).max(axis=0)
    steps = np.abs(np.diff(values, axis=0))
    steps = steps.sum(axis=0) / np.maximum(np.count_nonzero(steps, axis=0), 1)  # that are any
    for name, error, step, spread in zip(columns, lost, steps, values.std(axis=0)):
        if step > 0 and (error > step / 2 or error > spread / 10):
            raise SystemExit(
                f"Column {name!r} changes by {step:.3g} from row to row, and in float32, which "
                f"networks use, it is up to {error:.3g} off: give its changes, subtract a "
                "constant, or choose other columns with --target."
            )


def refuse_bad_windows(args: argparse.Namespace, parts: np.ndarray) -> None:
    """Ends the program unless windows have a season to read, and fit into `parts`, so long."""
    if args.lookback < args.season:
        raise SystemExit(
            f"--lookback {args.lookback} is less than a season, {args.season} steps: "
            "give a longer one, or a shorter --season."
        )
    if args.lookback + args.horizon > parts[0] or args.horizon > min(parts):
        raise SystemExit(
            f"--lookback {args.lookback} and --horizon {args.horizon} do not fit into "
            f"{args.data or args.dataset}, whose three parts are {parts} steps long: the first "
            "must hold both, the others the horizon. Give shorter ones, or another --split."
        )


def say_left_out(windows: dict[str, np.ndarray], of: dict[str, int]) -> None:
    """Says how many windows of each part are not asked for, because values are interpolated.

    Raises:
        SystemExit: If none are left.
    """
    for part, found in windows.items():
        if not len(found):
            raise SystemExit(
                f"Each of the {of[part]} windows of the {part} part has interpolated values in its "
                "forecast, or ends in one: fill the gaps yourself, give a shorter --horizon, or "
                "choose channels with --target."
            )
        if len(found) < of[part]:
            print(
                f"Of the {of[part]} windows of the {part} part {of[part] - len(found)} are left "
                "out, whose forecast has interpolated values, or which end in one."
            )


def say_repeated(train: Iterable, test: Iterable, what: str) -> None:
    """Says how many of `test` stand in `train`, too: of these, a score says what is remembered."""
    test, known = list(test), set(train)
    count = sum(each in known for each in test)
    if count:
        print(f"{count:,} of the {len(test):,} {what} to test on are in the training part, too.")


def classes(labels: Iterable[str], part: str = "the training data", least: int = 2) -> None:
    """Ends the program unless `labels` are of two classes or more, each `least` times.

    Args:
        part: What the labels are of, for the message.
    """
    counts = Counter(labels)
    if len(counts) < 2:
        raise SystemExit(f"There is nothing to tell apart: {part} has the labels {list(counts)}.")
    rare = {label: n for label, n in counts.items() if n < least}
    if rare:
        shown = ", ".join(f"{label!r} {n} times" for label, n in list(rare.items())[:5])
        raise SystemExit(
            f"Too few examples to learn from: {part} has {shown}"
            + (f", and {len(rare) - 5} more such" if len(rare) > 5 else "")
            + f"; at least {least} are needed. Add examples, or leave these out."
        )
