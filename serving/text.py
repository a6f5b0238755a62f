"""Inputs and answers as text: the numbers of a CSV file in, words and numbers out."""

import csv
import datetime
import re
from pathlib import Path

WITH_COMMAS = re.compile(r"[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?(e[+-]?\d+)?", re.IGNORECASE)
THOUSANDS = re.compile(r"[+-]?([1-9]\d{0,2},\d{3}|\d{1,3})")  # maybe: 1,050
DATE = re.compile(r"\d{4}-\d\d-\d\d")
NOTHING, HOUR = datetime.timedelta(), datetime.timedelta(hours=1)


def numbers(path: Path) -> list[list[float]]:
    """The numbers of a CSV file, below its header if it has one, without columns of text."""
    return named_numbers(path)[1]


def named_numbers(path: Path) -> tuple[list[str] | None, list[list[float]]]:
    """(the names of the columns of numbers, if there is a header; the rows).

    Where something else separates, numbers may have decimal commas. The oldest row comes first.
    """
    if not path.is_file():
        raise SystemExit(f"There is no file {path}.")
    try:
        # What is in another encoding is text, and not asked for.
        lines = path.read_text("utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        raise SystemExit(f"{path} cannot be read: {error.strerror}.") from None
    first = next((line for line in lines if line.strip()), "")
    separator = next((s for s in ";\t|" if s in first), ",")
    found = [row for row in csv.reader(lines, delimiter=separator) if row]
    if not found:
        raise SystemExit(f"{path} is empty.")
    for row in found:
        if len(row) != len(found[0]):
            raise SystemExit(f"{path}: {row} has not as many values as the first line.")
    # In a column with decimal commas, points are for thousands; where there is one, in others too.
    fits = [[WITH_COMMAS.fullmatch(cell.strip()) for cell in column] for column in zip(*found)]
    some = [separator != "," and any(x and x[3] for x in column) for column in fits]
    commas = [a or (any(some) and all(column[1:])) for a, column in zip(some, fits)]
    if separator != ";":  # beside which commas are decimal
        refuse_ambiguous(path, [c for c, a in zip(zip(*found), some) if a])

    def number(row, i):
        if commas[i]:
            if not WITH_COMMAS.fullmatch(row[i].strip()):
                return None
            return as_number(row[i].replace(".", "").replace(",", "."))
        return as_number(row[i])

    def is_number(row, i):
        return number(row, i) is not None or as_number(row[i]) is not None

    def mostly(i):  # the last row may lack one
        return 2 * sum(is_number(row, i) for row in found[1:]) > len(found) - 1

    columns = [i for i in range(len(found[0])) if is_number(found[-1], i) or mostly(i)]
    header = None
    if all(number(found[0], i) is None for i in columns) or named_by_numbers(found, columns):
        header = [found[0][i].strip() for i in columns]
        del found[0]
    refuse_newest_first(path, found)
    rows = [[number(row, i) for i in columns] for row in found]
    for line, row in enumerate(rows):
        if None in row:
            i = columns[row.index(None)]
            raise SystemExit(
                f"{path}: no number in column {i} of {found[line]}"
                + (", which has decimal commas elsewhere" if commas[i] else "")
            )
    return header, rows


def as_number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def refuse_ambiguous(path: Path, columns: list[tuple[str, ...]]) -> None:
    """Ends the program if 1,050 may be a thousand and fifty, as no other comma says it isn't."""
    asked = None
    for column in columns:
        cells = [cell.strip() for cell in column]
        cells = cells if WITH_COMMAS.fullmatch(cells[0]) else cells[1:]
        if not all(map(THOUSANDS.fullmatch, cells)):
            return
        asked = asked or next((cell for cell in cells if "," in cell), None)
    if asked:
        raise SystemExit(
            f"{path} has {asked}. Is that a whole number, or one with a decimal comma? Write it "
            "without the comma, or with a decimal point."
        )


def named_by_numbers(rows: list[list[str]], columns: list[int]) -> bool:
    """Whether the first row names columns, though by numbers: date,101,102."""
    named = re.compile(r"\s*[^\W\d]\w*\s*").fullmatch
    beside = 0 not in columns and len(rows) > 1
    return bool(beside and named(rows[0][0]) and not named(rows[1][0]))


def refuse_newest_first(path: Path, rows: list[list[str]]) -> None:
    """Ends the program if the dates, in the first column of dates, go backwards."""
    for column in zip(*rows):
        column = [cell.strip() for cell in column]
        if all(map(DATE.match, column)):
            order = Order()
            if late := next((date for date in column if order.is_late(date)), None):
                raise SystemExit(f"{path}: {late} stands below a later date: put the oldest first.")
            return


class Order:
    """Of dates that come one after the other: whether they go on.

    Clocks go back for an hour. So a date is late that is more than that before the one above it,
    or that is before it like the one above was.
    """

    def __init__(self):
        self.above, self.fell = "", False

    def is_late(self, date: str) -> bool:
        passed = time_between(self.above, date) if self.above else NOTHING
        late = passed < -HOUR or (self.fell and passed < NOTHING)
        self.above, self.fell = date, passed < NOTHING
        return late


def time_between(first: str, then: str) -> datetime.timedelta:
    """From one date to another; of days alone, at least its sign."""
    try:
        return datetime.datetime.fromisoformat(then) - datetime.datetime.fromisoformat(first)
    except (ValueError, TypeError):  # in another form, or one of them with a zone
        first, then = first[:10], then[:10]
        return datetime.timedelta(days=(then > first) - (then < first))


def words(texts: list[str]) -> list[list[str]]:
    """The words of each text, all rows as long as the longest: "" is padding."""
    rows = [text.split() for text in texts]
    longest = max(map(len, rows))
    return [row + [""] * (longest - len(row)) for row in rows]


def show(inputs: list[str], answers: dict[str, list]) -> None:
    """Prints each input, and below it its share of every output."""
    for i, given in enumerate(inputs):
        print(given)
        for output, answer in sorted(by_level(answers).items()):
            print(f"  {output}: {shown(answer[i])}", flush=True)


def by_level(answers: dict[str, list]) -> dict[str, list]:
    """`answers`, in which each of a forecast's quantiles has a name: forecast_q10, …"""
    if "quantiles" not in answers:
        return answers
    found = {name: x for name, x in answers.items() if name not in ("quantiles", "levels")}
    for k, level in enumerate(answers["levels"][0]):
        found[f"forecast_q{100 * level:g}"] = [row[k] for row in answers["quantiles"]]
    return found


def shown(answer) -> str:
    """One answer: words and numbers on a line, several rows one below the other."""
    if isinstance(answer, list) and answer and isinstance(answer[0], list):
        return "".join("\n    " + shown(row) for row in answer)
    cells = answer if isinstance(answer, list) else [answer]
    return " ".join(map(cell, cells)).rstrip()  # padding is ""


def cell(value) -> str:
    if isinstance(value, bytes):
        return value.decode()
    return value if isinstance(value, str) else f"{value:.6g}"
