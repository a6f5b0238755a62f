"""Rows of a file: CSV, TSV, JSON lines, Parquet, or a text on each line; read as asked for.

A row that can't be read comes with the reason, and those behind it are read.
"""

import codecs
import collections
import csv
import itertools
import json
import os
import pickle
from collections.abc import Iterable, Iterator
from pathlib import Path

import text

# The columns given (or {"line": what can't be read), the value to ask about, an error. A row of
# which nothing is to be asked has neither value nor error.
Row = tuple[dict, object, str]

TABLES = (".csv", ".tsv")
KINDS = (*TABLES, ".jsonl", ".ndjson", ".txt", ".parquet")
LONGEST = 2**24  # characters of a row; more have lost an end of a line, or of a quotation
AT_A_TIME = 1024  # rows of Parquet
LOOKED_AT = 100  # rows, for what their columns are
DEEPEST = 200  # brackets within brackets of JSON


def source(path: Path, encoding: str):
    """The file, open. What is not in its encoding goes on, and is refused with its row.

    Raises:
        SystemExit: If the file's name or the encoding is none that is known, or another one.
    """
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise SystemExit(f"{path}: by its name it is none of {', '.join(KINDS)}.")
    if kind == ".parquet":
        return open(path, "rb")
    with open(path, "rb") as file:
        begins = file.read(2)
    try:
        utf_8 = codecs.lookup(encoding).name.startswith("utf-8")
        if utf_8 and begins in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise SystemExit(f"{path} is in UTF-16: say so with --encoding utf-16.")
        return open(path, encoding=encoding, errors="surrogateescape", newline="")
    except LookupError:
        raise SystemExit(f"--encoding: there is no {encoding!r}.") from None


def share(file) -> float:
    """How much of what `source` opened is read."""
    file = getattr(file, "buffer", file)
    return min(1.0, file.tell() / max(1, os.fstat(file.fileno()).st_size))


def rows(file, column: str | None, name: str) -> tuple[list[str], Iterator[Row]]:
    """(the columns, the rows) of what `source` opened.

    Args:
        column: The one to ask about; None: the only one, or that with the input's name.
        name: The input's name.

    Raises:
        SystemExit: If there is no such column.
    """
    kind = Path(file.name).suffix.lower()
    if kind == ".txt":
        return [name], (text_row(line, name) for line in lines(file))
    if kind in (".jsonl", ".ndjson"):
        wanted = column or name
        found = (json_row(line, wanted) for line in lines(file) if line.strip())
        looked_at, names = [], [wanted]
        for row in itertools.islice(found, LOOKED_AT):
            looked_at.append(row)
            if row[1] is not None:  # one that can be read
                names = [*row[0]]
                break
        return names, itertools.chain(looked_at, found)
    names, found = parquet(file) if kind == ".parquet" else table(file)
    wanted = column or (names[0] if len(names) == 1 else name)
    if wanted not in names:
        raise SystemExit(f"{file.name} has the columns {names}; say which with --column.")
    return names, (asked(given, wanted, error) for given, error in found)


def windows(file, steps: int, channels: int) -> tuple[list[str], Iterator[Row]]:
    """(the columns, for each row the last `steps` rows) of a CSV file's columns of numbers.

    Nothing is asked of the rows before the first window is full, nor, behind a row that can't be
    read, of those before the next is.

    Raises:
        SystemExit: If there are not as many columns of numbers as channels.
    """
    names, found = table(file)
    looked_at = [*itertools.islice(found, LOOKED_AT)]
    columns = columns_of_numbers(names, [given for given, error in looked_at if not error])
    if len(columns) != channels:
        raise SystemExit(
            f"{file.name}: the model takes {channels} numbers a step, and the columns of numbers "
            f"are {columns}. (Numbers have decimal points.)"
        )

    def is_date(name):
        cells = [given[name] for given, error in looked_at if not error]
        return cells and all(text.DATE.match(cell) for cell in cells)

    date_column = next(filter(is_date, names), None)

    def read():
        window, order = collections.deque(maxlen=steps), text.Order()
        for given, error in itertools.chain(looked_at, found):
            step = [text.as_number(given.get(name, "")) for name in columns]
            if not error and None in step:
                name = columns[step.index(None)]
                error = f"no number in column {name!r}: {given[name]!r}"
            date, above = given.get(date_column, ""), order.above
            if text.DATE.match(date) and order.is_late(date) and not error:
                error = f"{date} stands below {above}: the oldest row comes first"
            if error:
                window.clear()
                yield given, None, error
                continue
            window.append(step)
            yield given, list(window) if len(window) == steps else None, ""

    return names, read()


def columns_of_numbers(names: list[str], rows: list[dict]) -> list[str]:
    """The columns of which most cells are numbers, or none is anything."""
    found = []
    for name in names:
        cells = [row[name] for row in rows if row[name]]
        if 2 * sum(text.as_number(cell) is not None for cell in cells) >= len(cells):
            found.append(name)
    return found


# --- One kind after the other -------------------------------------------------------------


def lines(file) -> Iterator[str]:
    """Its lines; of one that is too long, the beginning."""
    while line := file.readline(LONGEST):
        rest = line
        while len(rest) == LONGEST and not rest.endswith(("\n", "\r")):
            rest = file.readline(LONGEST)
        yield line


def too_long(line: str) -> str:
    return f"longer than {LONGEST:,} characters" if len(line) >= LONGEST else ""


def text_row(line: str, name: str) -> Row:
    if error := too_long(line):
        return {"line": line[:1000]}, None, error
    value = line.rstrip("\r\n")
    return {name: value}, value, ""


def json_row(line: str, column: str) -> Row:
    if error := too_long(line):
        return {"line": line[:1000]}, None, error
    try:
        given = json.loads(line)
        if line.count("[") + line.count("{") > DEEPEST:
            pickle.dumps([[[[given]]]])  # as it is sent to a process, in what else is sent
    except (ValueError, RecursionError) as error:
        return {"line": line.rstrip()}, None, f"no JSON: {error}"
    if not isinstance(given, dict) or column not in given:
        return {"line": line.rstrip()}, None, f"no object with {column!r}"
    return asked(given, column, "")


def asked(given: dict, column: str, error: str) -> Row:
    value = None if error else given[column]
    return given, value, error or (f"{column!r} is null" if value is None else "")


def parquet(file) -> tuple[list[str], Iterator[tuple[dict, str]]]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise SystemExit("Parquet is read by pyarrow: pip install pyarrow") from None
    try:
        found = parquet.ParquetFile(file)
    except (OSError, ValueError) as error:
        raise SystemExit(f"{file.name} cannot be read as Parquet: {error}") from None
    batches = found.iter_batches(AT_A_TIME)
    return found.schema_arrow.names, ((row, "") for batch in batches for row in batch.to_pylist())


def table(file) -> tuple[list[str], Iterator[tuple[dict, str]]]:
    """(the columns that the first line names, the cells of each row or an error)."""
    first = "\t" if file.name.lower().endswith(".tsv") else ","
    header = file.readline(LONGEST).rstrip("\r\n")
    separator = max(first, ",", ";", "\t", "|", key=header.count)
    names = [cell.strip() for cell in next(csv.reader([header], delimiter=separator), [])]
    twice = [name for name in names if name and names.count(name) > 1]
    if twice:
        raise SystemExit(f"{file.name} has two columns {twice[0]!r}: rename one.")
    if any("\ud800" <= c <= "\udfff" for c in header):
        raise SystemExit(
            f"{file.name}: its first line is not in {file.encoding}: say what it is in with "
            "--encoding, for example cp1252."
        )

    def read():
        for cells, line, error in records(lines(file), separator, len(names)):
            yield {**({"line": line} if error else {}), **dict(zip(names, cells))}, error

    return names, read()


def records(found: Iterable[str], separator: str, count: int) -> Iterator[tuple[list, str, str]]:
    """(cells, the first line, an error) of each row, which may have several lines.

    A row that is none ends with its first line: else a quotation mark that nothing closes
    would take further rows into its own.
    """
    csv.field_size_limit(LONGEST)
    found, ahead = iter(found), collections.deque()

    def row():
        size = 0
        while size < LONGEST and (line := ahead.popleft() if ahead else next(found, "")):
            taken.append(line)
            size += len(line)
            yield line

    def counted(cells):
        right = len(cells) == count
        return "" if right else f"{len(cells)} values, the first line names {count} columns"

    while True:
        taken = []
        try:
            # As pandas is told to read what is trained on: `1, "good, not bad"` has two values.
            how = {"delimiter": separator, "skipinitialspace": separator != "\t", "strict": True}
            cells = next(csv.reader(row(), **how), [])
            error = counted(cells)
        except csv.Error as unread:
            cells, error = [], str(unread)
        if not taken:
            return
        # A tab never stands in a value; quotation marks may.
        apart = separator == "\t" and (error or any("\t" in cell for cell in cells))
        if error or apart:
            ahead.extendleft(reversed(taken[1:]))
        if apart:
            cells = taken[0].rstrip("\r\n").split("\t")
            error = counted(cells)
        if taken[0].strip("\r\n"):
            yield cells, taken[0].rstrip("\r\n")[:1000], error
