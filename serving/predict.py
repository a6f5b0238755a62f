"""Asks a SavedModel about every row of a file; knows nothing but TensorFlow.

    python serving/predict.py saved_models/sentiment reviews.csv --column review \\
        --output answers.csv
    python serving/predict.py saved_models/pos_tagging sentences.txt --output tagged.jsonl

Rows come from CSV or TSV with names in the first line, from JSON lines, Parquet, or from a text
file, a text on each line; answers go to CSV or JSON lines, behind the columns that were given. A
row that cannot be answered is reported, and has the reason in its column `error`.
"""

import argparse
import csv
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Container, Iterator
from pathlib import Path

import query
import quiet
from rows import KINDS, TABLES, Row, rows, share, source
from text import by_level

# --- Asking -------------------------------------------------------------------------------


def outputs(signature, name: str, spec) -> list[str]:
    """The names that an answer has."""
    found = sorted(signature.structured_outputs)
    if "quantiles" not in found:
        return found
    # An answer has their levels, by which they are named.
    answer = signature(**{name: quiet.tensorflow().zeros([1, *spec.shape[1:]])})
    return sorted(by_level({o: x.numpy() for o, x in answer.items()}))


def asker(signature, name: str, spec) -> Callable[[list], list[dict]]:
    """A function from a list of values to the answer to each."""
    tf = quiet.tensorflow()
    found = signature.structured_outputs.items()  # such as the five best
    counted = {o for o, x in found if x.dtype == tf.string and None not in x.shape.as_list()[1:]}

    def ask(values):
        if spec.dtype != tf.string:
            value = query.tensor(values, spec.dtype)
        elif spec.shape.rank == 1:
            value = tf.constant([text(v) for v in values])
        else:  # words, apart already or by spaces
            words = [v.split() if isinstance(v, str) else v for v in values]
            value = tf.ragged.constant([[text(w) for w in row] for row in words], tf.string, 1)
            value = value.to_tensor("")
        if not value.shape.is_compatible_with(spec.shape):
            raise ValueError(f"got shape {value.shape[1:]}, expected {spec.shape[1:]}")
        answers = signature(**{name: value})
        answers = by_level({output: found.numpy().tolist() for output, found in answers.items()})
        return [
            {o: plain(found[i], o in counted) for o, found in answers.items()}
            for i in range(len(values))
        ]

    def text(value):
        if not isinstance(value, str):
            raise ValueError(f"a text is expected, got {value!r}")
        return value.encode()  # what is no UTF-8 is refused here

    refusals = tf.errors.InvalidArgumentError, ValueError, TypeError
    answered = []  # a row that was

    def ask_or_halve(values):
        """Halves what is refused, until the row at fault is alone.

        Raises:
            tf.errors.OpError: If no row is at fault: if another can't be answered either.
        """
        try:
            found = ask(values)
            answered[:] = answered or values[:1]
            return found
        except (tf.errors.OpError, ValueError, TypeError) as error:
            if len(values) == 1:
                if not isinstance(error, refusals):
                    if not answered:
                        raise
                    ask(answered)  # raises, unless it is this row
                return [{"error": reason(error)}]
            half = len(values) // 2
            return ask_or_halve(values[:half]) + ask_or_halve(values[half:])

    return ask_or_halve


def reason(error: Exception) -> str:
    if isinstance(error, UnicodeEncodeError):
        return "it is not in UTF-8; say what it is in with --encoding"
    return query.reason(error)


def plain(answer, counted: bool):
    """Words as strings, and without the padding behind them; if `counted`, in a tuple, for there
    are as many of every row, and "" is one."""
    if isinstance(answer, bytes):
        return answer.decode(errors="replace")
    if not isinstance(answer, list):
        return answer
    found = [plain(x, counted) for x in answer]
    if counted:
        return tuple(found)
    while found and found[-1] == "":
        found.pop()
    return found


# --- Writing ------------------------------------------------------------------------------


def writer(file, kind: str, columns: list[str], outputs: list[str]) -> Callable[[dict, dict], None]:
    """A function that writes a row and its answer, under names that no column has."""
    if kind == ".jsonl":
        return lambda given, answer: print(
            json.dumps({**given, **unlike(given, answer)}, ensure_ascii=False, default=str),
            file=file,
        )
    named = dict(zip(outputs, unlike(columns, dict.fromkeys(outputs))))
    table = csv.DictWriter(file, [*columns, *named.values()], extrasaction="ignore")
    table.writeheader()

    def write(given, answer):
        answer = {named[name]: cell(value) for name, value in answer.items()}
        table.writerow({**{name: given[name] for name in given if name in columns}, **answer})

    return write


def unlike(columns: Container[str], answer: dict) -> dict:
    return {f"predicted_{o}" if o in columns else o: value for o, value in answer.items()}


def cell(value) -> str:
    """Lists of words or numbers with spaces between, lists of lists and tuples as JSON."""
    if isinstance(value, tuple) or (
        isinstance(value, list) and any(isinstance(x, list) for x in value)
    ):
        return json.dumps(value, ensure_ascii=False)
    return " ".join(map(cell, value)) if isinstance(value, list) else shown(value)


def shown(value) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="a version, or the folder of versions")
    parser.add_argument("file", type=Path, help=", ".join(KINDS))
    parser.add_argument("--column", help="to ask about; default: the only one, or the input's name")
    parser.add_argument("--output", type=Path, required=True, help=".csv or .jsonl")
    parser.add_argument("--signature", default="serving_default")
    parser.add_argument("--encoding", default="utf-8-sig", help="of the file; default: UTF-8")
    parser.add_argument("--batch", type=int, default=32, help="rows at a time; default: 32")
    args = parser.parse_args(argv)
    kind = args.output.suffix.lower()
    if kind not in (".csv", ".jsonl"):
        parser.error(f"--output must end in .csv or .jsonl, got {args.output}")
    if args.batch < 1:
        parser.error(f"--batch must be above 0, got {args.batch}")
    if not args.file.is_file():
        parser.error(f"there is no file {args.file}")
    if not os.access(args.output.parent, os.W_OK):
        parser.error(f"--output: {args.output.parent} is no folder that can be written to")

    print("Loading the model.", file=sys.stderr)
    signature, name, spec = query.load(args.model, args.signature)
    tf = quiet.tensorflow()
    if spec.dtype != tf.string and args.file.suffix.lower() in (*TABLES, ".txt"):
        raise SystemExit(
            f"{name} is of numbers, (rows, …) {spec.shape}: give JSON lines, each "
            f'{{"{name}": [[…], …]}}; serving/query.py takes one window as CSV, '
            "serving/batch.py the windows of a series."
        )

    beside = args.output.with_name(f".writing-{args.output.name}")
    try:
        with (
            source(args.file, args.encoding) as file,
            open(beside, "w", encoding="utf-8", errors="replace", newline="") as target,
        ):
            columns, found = rows(file, args.column, name)
            write = writer(target, kind, columns, [*outputs(signature, name, spec), "error"])
            answered, bad = answer_all(found, asker(signature, name, spec), write, args.batch, file)
        if not answered:
            raise SystemExit(f"No row of {args.file} could be answered; nothing is written.")
        os.replace(beside, args.output)
    except OSError as error:
        raise SystemExit(f"{args.output} could not be written: {error}") from None
    except tf.errors.OpError as error:
        said = query.reason(error)
        raise SystemExit(f"\nThe model can't be run: {said}; nothing is written.") from None
    except KeyboardInterrupt:
        raise SystemExit("\nStopped; nothing is written.") from None
    finally:
        beside.unlink(missing_ok=True)
    summary = f"{args.output}: {answered} rows answered, {bad} not."
    print(f"\r{summary:60}", file=sys.stderr)


def answer_all(found: Iterator[Row], ask: Callable, write: Callable, batch: int, file):
    """(how many rows were answered, how many not); shows how far `file` is read."""
    begun, said = time.monotonic(), 0.0
    answered = bad = 0

    def say(text, end="\n"):
        print(f"\r{text:60}", end=end, file=sys.stderr, flush=True)

    while chunk := list(itertools.islice(found, batch)):
        values = [value for _, value, error in chunk if not error]
        answers = iter(ask(values) if values else [])
        for given, _, error in chunk:
            answer = {"error": error} if error else next(answers)
            if "error" in answer:
                bad += 1
                say(f"row {answered + bad}: {answer['error']}")
            else:
                answered += 1
            write(given, answer)
        now, done = time.monotonic(), answered + bad
        if now - said > 1:
            said = now
            say(f"{share(file):4.0%}, {done:,} rows, {done / (now - begun):,.0f} a second", end="")
    return answered, bad


if __name__ == "__main__":
    main()
