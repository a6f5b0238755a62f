"""Tables from files, read by pandas: CSV, TSV, JSON lines and Parquet, gzip too.

A first line names the columns. What separates them is found there; columns of numbers with
decimal commas become numbers where something else separates.
"""

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd

from recipes.common import text_files

KINDS = {".csv": ",", ".txt": ",", ".tsv": "\t", ".tab": "\t"}  # what separates, if in doubt
JSON = (".jsonl", ".ndjson", ".json")


def read(path: Path, encoding: str | None = None, *, as_text: bool = False) -> pd.DataFrame:
    """The table in a file.

    Args:
        encoding: None: UTF-8, with or without a byte order mark.
        as_text: Leaves all as it is written, so that "01" or "None" can name something;
            what is missing is "".

    Returns:
        A DataFrame, whose row `i` is row `i + 1` below the names. Dates are text.

    Raises:
        SystemExit: If there is no table in it; the message says where and why.
    """
    path = Path(path)
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if kind.lower() in KINDS:
        found = separated(path, encoding, KINDS[kind.lower()], as_text)
    elif kind.lower() in JSON:
        found = json_lines(path, encoding)
    elif kind.lower() == ".parquet":
        try:
            found = pd.read_parquet(path)
            dates = isinstance(found.index, pd.DatetimeIndex)  # as pandas writes a series
            found = found.reset_index(drop=not (dates or any(found.index.names)))
        except (OSError, ValueError) as error:
            raise SystemExit(f"{path} cannot be read as Parquet: {error}") from error
    else:
        known = ", ".join([*KINDS, *JSON, ".parquet"])
        raise SystemExit(f"{path}: by its name it is none of {known} (nor such with .gz).")
    if found.empty:
        raise SystemExit(f"{path} has no rows.")
    found.columns = [str(name).strip() for name in found.columns]
    if not found.columns.is_unique:
        twice = found.columns[found.columns.duplicated()][0]
        raise SystemExit(f"{path} has two columns {twice!r}: rename one.")
    return found.map(as_written) if as_text else found


def separated(path: Path, encoding: str | None, separator: str, as_text: bool) -> pd.DataFrame:
    """Rows as lines, a separator between columns."""
    text = text_files.read(path, encoding)
    names = re.sub(r'"[^"\n]*"', "", text.lstrip("\n").partition("\n")[0])
    separator = max([separator, ",", ";", "\t", "|"], key=names.count)

    def parse(**options):
        if as_text:
            options |= {"dtype": str, "keep_default_na": False, "na_values": [""]}
        options |= {"skipinitialspace": True, "low_memory": False}
        return pd.read_csv(io.StringIO(text), sep=separator, **options)

    try:
        if separator == "\t" and '"' in text:
            try:
                found = parse()
                # A quotation mark that opens no quoted value swallows all up to the next.
                swallowed = found.select_dtypes(object).map(lambda x: "\t" in str(x)).any(axis=None)
            except pd.errors.ParserError:
                swallowed = True
            found = parse(quoting=csv.QUOTE_NONE) if swallowed else found
        else:
            found = parse()
    except pd.errors.EmptyDataError:
        raise SystemExit(f"{path} is empty.") from None
    except pd.errors.ParserError as error:
        said = str(error).strip().removeprefix("Error tokenizing data. C error: ")
        raise SystemExit(
            f"{path}: {said}. Columns are separated by {separator!r}; a value that has one must "
            'stand in quotation marks ("…").'
        ) from None
    if not isinstance(found.index, pd.RangeIndex):
        raise SystemExit(f"{path}: its rows have more values than its first line has names.")
    names = [name for name in found.columns if not name.startswith("Unnamed")]  # an index has none
    named = re.fullmatch(r"[^\W\d]\w*", names[0].strip()) if names else None  # as in date,101,102
    if any(map(is_number, names)) and not named and names != [str(i) for i in range(len(names))]:
        raise SystemExit(f"{path}: its first line must name the columns, and has numbers: {names}.")
    say_swallowed(path, found, separator)
    if as_text or separator == ",":
        return found
    if separator != ";":  # beside which commas are decimal
        refuse_ambiguous(path, found)
    numbers = found.apply(decimal_commas)
    if numbers.equals(found):
        return found
    # Where a comma is decimal, a point is none: 1.234 is 1234.
    points = parse(dtype=str).select_dtypes(object).apply(decimal_commas)
    whole = [name for name in found if found[name].dtype == float and points[name].dtype == float]
    return numbers.assign(**{name: points[name] for name in whole})


def say_swallowed(path: Path, table: pd.DataFrame, separator: str) -> None:
    """Says where a value holds what look like rows: a quotation mark may not be closed there."""
    count = len(table.columns) - 1

    def of_rows(value):
        inside = str(value).split("\n")[1:-1]
        return any(line.count(separator) >= count for line in inside)

    rows = np.flatnonzero(table.select_dtypes(object).map(of_rows).any(axis=1)) if count else []
    if len(rows):
        print(f"{path}: in {len(rows)} rows, the first row {rows[0] + 1}, a value holds what look "
              "like rows. Is a quotation mark there not closed?")  # fmt: skip


def json_lines(path: Path, encoding: str | None) -> pd.DataFrame:
    """An object on each line, or all in one list."""
    text = text_files.read(path, encoding)
    in_one = text.lstrip().startswith("[")
    rows = []
    for line, row in [(1, text)] if in_one else enumerate(text.split("\n"), 1):
        try:
            rows += (json.loads(row) if in_one else [json.loads(row)]) if row.strip() else []
        except json.JSONDecodeError as error:
            raise SystemExit(f"{path}, line {line + error.lineno - 1}: {error.msg}.") from None
    wrong = [n for n, row in enumerate(rows, 1) if not isinstance(row, dict)]
    for n, row in enumerate(rows if re.search(r"\\u[dD][89a-fA-F]", text) else [], 1):
        try:
            json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise SystemExit(
                f"{path}, row {n}, has half of a character, such as an emoji."
            ) from None
    if wrong:
        raise SystemExit(f'{path}, row {wrong[0]}: an object {{"column": value}} is expected.')
    return pd.DataFrame(rows)


def decimal_commas(column: pd.Series) -> pd.Series:
    """Numbers, if a column's are written as in 1.234,5 or 0,5; else the column.

    Where a few are not, these stay text, to be told of.
    """
    if column.dtype != object:
        return column
    texts = column.dropna().astype(str).str.strip()
    pattern = r"[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?(e[+-]?\d+)?"
    fits = texts.str.fullmatch(pattern, flags=re.IGNORECASE)
    written = texts[fits]
    commas = written.str.contains(",", regex=False)
    if len(written) < len(texts) and (len(written) < len(texts) / 2 or not commas.any()):
        return column
    written = written.str.replace(".", "", regex=False).str.replace(",", ".", regex=False)
    numbers = written.astype(float)
    return (numbers if fits.all() else numbers.astype(object).combine_first(texts)).reindex(
        column.index
    )


def refuse_ambiguous(path: Path, table: pd.DataFrame) -> None:
    """Ends the program if 1,050 may be a thousand and fifty, as no other comma says it isn't."""
    asked = None
    for name, column in table.select_dtypes(object).items():
        texts = column.dropna().astype(str).str.strip()
        commas = texts[texts.str.fullmatch(r"[+-]?[\d.]+,\d+")]
        if commas.empty:
            continue
        if not texts.str.fullmatch(r"[+-]?([1-9]\d{0,2},\d{3}|\d{1,3})").all():
            return
        asked = asked or (name.strip(), commas.iloc[0])
    if asked:
        raise SystemExit(
            f"{path}: column {asked[0]!r} has {asked[1]}. Is that a whole number, or one with a "
            "decimal comma? Write it without the comma, or with a decimal point."
        )


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def as_written(value: object) -> str:
    if isinstance(value, bytes):  # text, in Parquet of other programs
        return value.decode(errors="replace")
    if not pd.api.types.is_scalar(value) and not isinstance(value, dict):
        return " ".join(map(as_written, value))  # a list of words, in Parquet
    return "" if pd.api.types.is_scalar(value) and pd.isna(value) else str(value)
