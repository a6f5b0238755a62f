"""A table with a date in each row, as a series of equal steps."""

import warnings
from typing import NamedTuple

import numpy as np
import pandas as pd

from recipes.common import check_data

DAY = pd.Timedelta(days=1)
# Steps of the calendar, by pandas's names: how many are a year; of working days, a week.
CALENDAR = {"M": 12, "Q": 4, "Y": 1, "B": 5}
IRREGULAR = (
    "Is that date right? Else say with --frequency how far dates are apart: 15min, h, D, W, M."
)


# A day, written as its first moment wherever that was.
MIDNIGHT = r"\d{4}-\d\d-\d\d[T ]00:00(:00(\.0+)?)? ?[+-]\d\d:?\d\d"


class Series(NamedTuple):
    values: np.ndarray  # (steps, channels) float32, in original units
    channels: list[str]
    dates: pd.DatetimeIndex
    step: str  # as pandas names it: "15min", "h", "D", "B" (working days), "7D", "M", …
    interpolated: np.ndarray  # (steps, channels), whether a value was missing

    @property
    def filled(self) -> dict[str, int]:
        """How many values of a channel were interpolated, if any."""
        counts = self.interpolated.sum(axis=0)
        return {name: int(n) for name, n in zip(self.channels, counts) if n}


def series(
    table: pd.DataFrame,
    *,
    date: str | None = None,
    target: list[str] | None = None,
    step: str | None = None,
    interpolate: bool = False,
) -> Series:
    """The columns of numbers in `table`, in the order of its dates.

    Args:
        date: The column of dates; None: the first that holds dates.
        target: Columns of numbers; None: all.
        step: The time from a row to the next (`Series.step`); None: as found in the dates.
        interpolate: Whether missing values and rows are filled, on a straight line.

    Raises:
        SystemExit: If dates or numbers can't be made out, with row and column; also if some
            are missing, unless `interpolate`.
    """
    for name in [*([date] if date else []), *(target or [])]:
        if name not in table.columns:
            raise SystemExit(f"There is no column {name!r}; there are {list(table.columns)}.")
    date = date or find_dates(table)
    dates = parse_dates(table[date])
    numbers = columns_of_numbers(table.drop(columns=date), target)
    numbers.index, rows = dates, np.arange(1, len(table) + 1)
    if not dates.is_monotonic_increasing:
        print(f"Rows are put in the order of {date!r}.")
        order = np.argsort(dates, kind="stable")
        numbers, rows = numbers.iloc[order], rows[order]
    twice = np.flatnonzero(numbers.index.duplicated())
    if len(twice):
        raise SystemExit(
            f"Row {rows[twice[0]]} has the date {numbers.index[twice[0]]} of row "
            f"{rows[twice[0] - 1]} again ({len(twice)} such rows), in column {date!r}. Each date "
            "may stand once. Of several series keep one; where clocks were set back, use UTC; put "
            "a day and its time into one column; or name the column of dates with --date."
        )
    step = canonical_step(step) if step else find_step(numbers.index)
    missing = missing_dates(numbers.index, rows, step)
    if not interpolate:
        refuse_missing(numbers, rows, missing)
    numbers = numbers.reindex(numbers.index.union(missing))
    missing = numbers.isna().to_numpy()
    numbers = numbers.interpolate("linear", limit_direction="both")
    values = np.ascontiguousarray(numbers, "float32")
    if not np.all(np.isfinite(values)):
        row, column = np.argwhere(~np.isfinite(values))[0]
        what = "has no number" if numbers.isna().all().iloc[column] else "is beyond float32"
        raise SystemExit(f"Column {numbers.columns[column]!r} {what} ({numbers.index[row]}).")
    check_data.refuse_coarse(numbers.to_numpy("float64"), list(numbers.columns))
    return Series(values, list(numbers.columns), numbers.index, step, missing)


def without_constant(data: Series, steps: int) -> Series:
    """`data` without the channels that stay the same in its first `steps`, which are named."""
    constant = check_data.constant_columns(data.values[:steps], data.channels)
    kept = [i for i, name in enumerate(data.channels) if name not in constant]
    if not kept:
        raise SystemExit(f"There is nothing to forecast: {', '.join(constant)} never changes.")
    if not constant:
        return data
    print(f"Dropped, as they never change in the training part: {', '.join(constant)}.")
    left = [data.channels[i] for i in kept]
    return Series(data.values[:, kept], left, data.dates, data.step, data.interpolated[:, kept])


# --- Dates -----------------------------------------------------------------------------------


def find_dates(table: pd.DataFrame) -> str:
    """The first column that holds dates."""
    for name in table.columns:
        column = table[name]
        if pd.api.types.is_datetime64_any_dtype(column):
            return name
        there = column.dropna()
        days = pd.api.types.is_integer_dtype(there) and there.is_unique
        days = days and there.between(19000101, 21001231).all()
        if (there.dtype == object or days) and len(there):
            there = there.astype(str)
            three = (there.iloc[[i]] for i in (0, len(there) // 2, -1))
            if sum(bool(ways_to_read(one)) for one in three) >= 2:  # the third may be a mistake
                return name
    raise SystemExit(f"No column holds dates: name it with --date, of {list(table.columns)}.")


def parse_dates(column: pd.Series) -> pd.DatetimeIndex:
    """Dates in any usual notation; times with a zone become UTC, days stay what they are."""
    if pd.api.types.is_datetime64_any_dtype(column):
        there = column.dt.tz_localize(None)
        days = (there.dropna() == there.dropna().dt.normalize()).all()
        found = [there if days else column]
    else:
        column = column.astype("Int64") if pd.api.types.is_integer_dtype(column) else column
        column = column.astype(str).where(column.notna())
        if column.dropna().str.fullmatch(MIDNIGHT).all():
            column = column.str.slice(0, 10)
        # 01.02. and 02/01 are read as the series runs: in steps as equal as can be.
        found = ways_to_read(column)
        if not found:
            found = ways_to_read(column, errors="coerce")
    dates = min(found, key=lambda x: (x.isna().sum(), unevenness(x)))
    if dates.isna().any():
        row = int(np.flatnonzero(dates.isna())[0])
        raise SystemExit(
            f"Row {row + 1}, column {column.name!r}: {column.iloc[row]!r} is no date as the "
            "others are. Write it as 2024-12-31 or 2024-12-31 23:00, or leave the row out."
        )
    dates = pd.DatetimeIndex(dates)
    return dates.tz_convert("UTC").tz_localize(None) if dates.tz is not None else dates


def unevenness(dates: pd.Series) -> float:
    steps = dates.diff().dt.total_seconds().abs()
    return steps.std() / steps.mean() if steps.mean() else np.inf


def ways_to_read(column: pd.Series, errors: str = "raise") -> list[pd.Series]:
    found = []
    for options in ({"format": "ISO8601"}, {"dayfirst": False}, {"dayfirst": True}):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the order of day and month
            try:
                dates = pd.to_datetime(column, utc=True, errors=errors, **options)
            except (ValueError, OverflowError):
                continue
        found.append(dates)
        if "format" in options and dates.notna().all():
            break  # nothing is ambiguous there
    return found


# --- Steps -----------------------------------------------------------------------------------


def find_step(dates: pd.DatetimeIndex) -> str:
    """The time from a date to the next, which most of them have."""
    if len(dates) < 3:
        raise SystemExit(f"{len(dates)} rows are too few for a series.")
    common = pd.Series(dates[1:] - dates[:-1]).mode()[0]
    days = common / DAY
    for step, (least, most) in {"M": (28, 31), "Q": (89, 92), "Y": (365, 366)}.items():
        if least <= days <= most:
            return step
    if days == 1 and len(dates) >= 10 and dates.dayofweek.max() < 5:
        return "B"  # no weekends
    return pd.tseries.frequencies.to_offset(common).freqstr


def canonical_step(step: str) -> str:
    """`Series.step` for a frequency as pandas names it, wherever it is anchored."""
    start = step.upper().split("-")[0]
    for name in ("M", "Q", "Y"):
        if start in (name, f"{name}S", f"{name}E"):
            return name
    if start == "B":
        return "B"
    if start == "W":
        return "7D"
    try:
        offset = pd.tseries.frequencies.to_offset(step)
        if pd.Timedelta(offset) > pd.Timedelta(0):
            return offset.freqstr
    except ValueError:
        pass
    raise SystemExit(
        f"--frequency {step}: not known. Examples are 15min, h, D, B (working days), W, M."
    )


def season(step: str) -> int:
    """How many steps make up the season that such a series goes by: a day, a week or a year."""
    if step in CALENDAR:
        return CALENDAR[step]
    days = pd.Timedelta(pd.tseries.frequencies.to_offset(step)) / DAY
    whole = 1 if days < 1 else 7 if days < 7 else 364
    return max(1, round(whole / days))


def missing_dates(dates: pd.DatetimeIndex, rows: np.ndarray, step: str) -> pd.DatetimeIndex:
    """The dates that are left out between the first and the last.

    Raises:
        SystemExit: If some are not whole steps after the first.
    """
    if step in ("M", "Q", "Y"):  # whichever day of the month it is
        there = dates.to_period(step)
        expected = pd.period_range(there[0], there[-1], freq=step)
    else:
        there, offset = dates, pd.tseries.frequencies.to_offset(step)
        if step != "B" and (dates[-1] - dates[0]) / offset > 100 * len(dates):
            raise SystemExit(f"Most dates are {step} apart, and others far more: {IRREGULAR}")
        expected = pd.date_range(dates[0], dates[-1], freq=offset)
    wrong = np.flatnonzero(~there.isin(expected) | there.duplicated())
    if len(wrong):
        raise SystemExit(
            f"Row {rows[wrong[0]]}: {dates[wrong[0]]} is not a whole number of steps "
            f"({step}) after {dates[0]} ({len(wrong)} such rows). {IRREGULAR}"
        )
    missing = expected.difference(there)
    return missing.start_time if isinstance(missing, pd.PeriodIndex) else missing


# --- Numbers ---------------------------------------------------------------------------------


def columns_of_numbers(table: pd.DataFrame, target: list[str] | None) -> pd.DataFrame:
    """`target`, or all columns that hold numbers, as float64; what is missing is nan.

    They stay in the table's order, in which who is asked for a forecast will find them.
    """
    found, other = {}, []
    for name in table.columns:
        if target and name not in target:
            continue
        column = table[name]
        if holds_none(column):
            other.append(name)
            continue
        numbers = pd.to_numeric(column, errors="coerce").astype("float64")
        wrong = np.flatnonzero(numbers.isna() & column.notna())
        if len(wrong) and not target and len(wrong) > len(column) / 2:
            other.append(name)
        elif len(wrong):
            raise SystemExit(
                f"Row {wrong[0] + 1}, column {name!r}: {column.iloc[wrong[0]]!r} is no number. "
                "Correct it, empty it, or choose other columns with --target."
            )
        else:
            found[name] = numbers.replace([np.inf, -np.inf], np.nan)
    if other:
        print(f"Left out, as they hold no numbers to forecast: {', '.join(other)}.")
    if not found:
        raise SystemExit(f"No column holds numbers, of {list(table.columns)}.")
    return pd.DataFrame(found)


def holds_none(column: pd.Series) -> bool:
    """Whether it holds times, or, without a name, the rows' numbers, as pandas writes them."""
    if column.dtype.kind in "mM" or isinstance(column.dtype, pd.DatetimeTZDtype):
        return True
    counts = column.dtype.kind == "i" and bool((column.diff().dropna() == 1).all())
    return counts and column.name.startswith("Unnamed: ")


def refuse_missing(numbers: pd.DataFrame, rows: np.ndarray, missing: pd.DatetimeIndex) -> None:
    """Ends the program if a value or a date is missing, and says which."""
    problems = []
    if len(missing):
        after = rows[numbers.index.searchsorted(missing[0]) - 1]
        problems.append(
            f"{len(missing)} dates are left out, the first, {missing[0]}, after row {after}"
        )
    for name, column in numbers.items():
        empty = np.flatnonzero(column.isna())
        if len(empty):
            problems.append(
                f"column {name!r} has {len(empty)} missing or infinite values, the first in row "
                f"{rows[empty[0]]} ({numbers.index[empty[0]]})"
            )
    if problems:
        raise SystemExit(
            "The series has gaps: " + "; ".join(problems) + ". Fill them, choose other columns "
            "with --target, or give --missing interpolate, which draws straight lines."
        )
