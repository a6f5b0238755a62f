"""Scores files of any size with a SavedModel, in many processes: on this machine or a Ray cluster.

    pip install -r serving/batch_requirements.txt
    python serving/batch.py saved_models/sentiment reviews.csv --column review --output answers
    python serving/batch.py saved_models/pos_tagging sentences.txt --output tagged --processes 2
    python serving/batch.py saved_models/forecasting series.csv --output forecasts

The folder --output gets the answers in the rows' order, behind the columns that were given and
with the row's number; bad_rows.jsonl, where rows could not be answered, and why; and about.json,
what was asked and how many rows there were. It appears when all is done. Until then the work is in
a folder .writing-… beside it, and the same command, after whatever stopped it, goes on from there.

A model of windows reads those of a series from CSV, one step a row, and answers each row at which
a window ends; or rows of JSON lines or Parquet that hold a window each.

With RAY_ADDRESS in the environment, as `ray job submit` sets it, the processes are the cluster's.
The command reads and writes on the machine where it runs; the others are sent the rows and the
model.
"""

import argparse
import contextlib
import fcntl
import functools
import importlib.util
import io
import itertools
import json
import logging
import os
import pickle
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import predict
import query
import quiet
import rows

PIECE = 1024  # rows that a process is sent at a time, and sorts by length
PIECE_LENGTH = 2**22  # but not many more characters than this
PADDED = 2**20  # characters of a batch at most, padding too
RETRIES = 3  # of a piece whose process died


# --- Pieces of work -----------------------------------------------------------------------


def open_rows(file, column: str | None, name: str, shape: list[int | None] | None):
    """(the columns, the rows).

    Args:
        shape: Of a batch of windows, where those of a series are asked for; else None.
    """
    return rows.windows(file, *shape[1:]) if shape else rows.rows(file, column, name)


def pieces(path: Path, encoding: str, start: int, *how) -> Iterator[dict]:
    """The rows behind the first `start`, in pieces: numbered, pickled, and how far the file is."""
    with rows.source(path, encoding) as file:
        _, found = open_rows(file, *how)
        numbered = itertools.islice(enumerate(found, 1), start, None)
        for number, row in numbered:
            piece, size = [(number, row)], length(row[1])
            while len(piece) < PIECE and size < PIECE_LENGTH and (more := next(numbered, None)):
                piece.append(more)
                size += length(more[1][1])
            yield {"rows": pickle.dumps(piece), "share": rows.share(file)}


def length(value) -> int:
    return len(value) if isinstance(value, str | list) else 1


def batches(values: list, most: int) -> Iterator[list[int]]:
    """The values' indices, by length, so that little is padded."""
    batch = []
    for i in sorted(range(len(values)), key=lambda i: length(values[i])):
        if batch and (len(batch) == most or (len(batch) + 1) * length(values[i]) > PADDED):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


class Scorer:
    """A process that has the model, and answers pieces."""

    def __init__(
        self, fetch: Callable[[], dict], signature: str, columns: list[str], kind: str, most: int
    ):
        with tempfile.TemporaryDirectory() as folder:
            for name, content in fetch().items():
                (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
                (Path(folder) / name).write_bytes(content)
            asked = query.load(Path(folder), signature)
        self.ask, self.outputs = predict.asker(*asked), predict.outputs(*asked)
        self.columns, self.kind, self.most = columns, kind, most

    def __call__(self, piece: dict) -> dict:
        found = pickle.loads(piece["rows"])
        asked = [i for i, (_, (_, value, _)) in enumerate(found) if value is not None]
        values = [found[i][1][1] for i in asked]
        answers = {i: {"error": error} for i, (_, (_, _, error)) in enumerate(found) if error}
        for batch in batches(values, self.most):
            answers |= zip([asked[i] for i in batch], self.ask([values[i] for i in batch]))

        good, bad = io.StringIO(newline=""), io.StringIO()
        write = predict.writer(good, self.kind, self.columns, ["row", *self.outputs])
        header = good.tell()
        for i, answer in sorted(answers.items()):
            number, (given, _, _) = found[i]
            if "error" in answer:
                row = {"row": number, "error": answer["error"], "given": given}
                print(json.dumps(row, ensure_ascii=False, default=str), file=bad)
            else:
                write(given, {"row": number, **dict(sorted(answer.items()))})
        refused = bad.getvalue().encode(errors="backslashreplace")
        return {
            "first": found[0][0],
            "last": found[-1][0],
            "answered": len(answers) - refused.count(b"\n"),
            "bad": refused.count(b"\n"),
            "answers": good.getvalue()[header:].encode(errors="backslashreplace"),
            "bad_rows": refused,
            "share": piece["share"],
        }


# --- The engine ---------------------------------------------------------------------------


def scored(read: tuple, model: Path, how: tuple, processes: int | None) -> Iterator[dict]:
    """What `Scorer(…, *how)` makes of each of `pieces(*read)`, in their order.

    A process that dies is replaced and its piece asked again, RETRIES times.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody else is told
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_worker_niceness", "0")  # else they give way to all other programs
    import pyarrow
    import ray

    class Pieces(ray.data.Datasource):
        """Read by one task, where this program runs."""

        supports_distributed_reads = False

        def get_read_tasks(self, parallelism, *limits, **more):
            def blocks():
                for piece in pieces(*read):
                    yield pyarrow.table({name: [value] for name, value in piece.items()})

            return [ray.data.ReadTask(blocks, ray.data.block.BlockMetadata(None, None, None, None))]

        def estimate_inmemory_data_size(self):
            return None

    options = {"logging_level": logging.ERROR, "log_to_driver": False}
    if "RAY_ADDRESS" in os.environ:
        try:
            ray.init(**options)
        except ConnectionError as error:
            raise SystemExit(f"RAY_ADDRESS={os.environ['RAY_ADDRESS']}: {error}") from None
        processes = processes or int(ray.cluster_resources()["CPU"])
    else:
        processes = processes or len(os.sched_getaffinity(0))
        ray.init("local", num_cpus=processes, include_dashboard=False, **options)
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.target_max_block_size = 1  # every piece is a block of its own
    context.enable_progress_bars = context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    files, behind = ray.put(contents(model)), read[2]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of how max_task_retries will be given from 2.64 on
            found = ray.data.read_datasource(Pieces(), override_num_blocks=1, num_cpus=0).map(
                Scorer,
                fn_constructor_args=(functools.partial(begin_process, files), *how),
                compute=ray.data.ActorPoolStrategy(size=processes),
                num_cpus=1,
                max_task_retries=RETRIES,
            )
        for piece in found.iter_rows():
            behind = piece["last"]
            yield piece
    except ray.exceptions.RayError as error:
        raise SystemExit(
            f"\nStopped behind row {behind:,}: {error}\nThe same command goes on from there."
        ) from None
    finally:
        ray.shutdown()


def has_ray() -> bool:
    return importlib.util.find_spec("ray") is not None


def begin_process(files) -> dict[str, bytes]:
    import ray

    tf = quiet.tensorflow()
    tf.config.threading.set_intra_op_parallelism_threads(1)  # the processes share the cores
    tf.config.threading.set_inter_op_parallelism_threads(1)
    return ray.get(files)


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


# --- The folder ---------------------------------------------------------------------------


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Inside, no other process writes to the folder, which is made if there is none."""
    folder.mkdir(exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise SystemExit(f"Another process is writing to {folder}.") from None
    finally:
        os.close(lock)


def begin(folder: Path, asked: dict) -> dict:
    """What is in the folder: what was asked, how many rows were, and the files' sizes.

    Raises:
        SystemExit: If something else was asked.
    """
    done = {"asked": asked, "rows": 0, "answered": 0, "bad": 0, "sizes": [0, 0]}
    if not (folder / "about.json").exists():
        return done
    done = json.loads((folder / "about.json").read_text("utf-8"))
    for name, value in asked.items():
        if value != done["asked"].get(name):
            raise SystemExit(
                f"{folder} is half done with another {name}: {done['asked'].get(name)}. Ask for "
                "that, delete the folder, or choose another --output."
            )
    return done


def write(folder: Path, done: dict, kind: str, header: bytes, found: Iterable[dict]) -> str:
    """Adds what is found to the folder and to `done`; after each piece they are one state.

    Returns:
        How fast.
    """
    begun, rate = None, "at once"
    with (
        open(folder / f"answers{kind}", "ab") as answers,
        open(folder / "bad_rows.jsonl", "ab") as bad_rows,
    ):
        files = [answers, bad_rows]
        for file, size in zip(files, done["sizes"]):
            file.truncate(size)  # of what was not yet counted
        if not done["sizes"][0]:
            answers.write(header)
        for piece in found:
            if piece["first"] != done["rows"] + 1:
                raise SystemExit(f"Row {done['rows'] + 1} was expected, row {piece['first']} came.")
            if piece["bad"] and done["bad"] < 3:
                first = json.loads(piece["bad_rows"].partition(b"\n")[0])
                say(f"row {first['row']}: {first['error']}")
            answers.write(piece["answers"])
            bad_rows.write(piece["bad_rows"])
            done["rows"] = piece["last"]
            done["answered"] += piece["answered"]
            done["bad"] += piece["bad"]
            for file in files:
                file.flush()
                os.fsync(file.fileno())
            done["sizes"] = [file.tell() for file in files]
            note(folder, done)
            if begun is None:  # the processes are there
                begun = said = time.monotonic()
                before = done["rows"]
                continue
            now, every = time.monotonic(), 1 if sys.stderr.isatty() else 30
            rate = f"{(done['rows'] - before) / (now - begun):,.0f} a second"
            if now - said > every:
                said, end = now, "" if sys.stderr.isatty() else "\n"
                counts = f"{done['rows']:,} rows, {done['bad']:,} bad"
                say(f"{piece['share']:4.0%}, {counts}, {rate}", end)
    return rate


def note(folder: Path, done: dict) -> None:
    text = json.dumps(done, ensure_ascii=False, indent=2) + "\n"
    (folder / "about.new").write_text(text, "utf-8")
    os.replace(folder / "about.new", folder / "about.json")


def say(text: str, end: str = "\n") -> None:
    print(f"\r{text:60}" if sys.stderr.isatty() else text, end=end, file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="a version, or the folder of versions")
    parser.add_argument("file", type=Path, help=", ".join(rows.KINDS))
    parser.add_argument("--column", help="to ask about; default: the only one, or the input's name")
    parser.add_argument("--output", type=Path, required=True, help="a folder that is new")
    parser.add_argument(
        "--format", choices=["jsonl", "csv"], default="jsonl", help="of the answers"
    )
    parser.add_argument("--signature", default="serving_default")
    parser.add_argument("--encoding", default="utf-8-sig", help="of the file; default: UTF-8")
    parser.add_argument("--batch", type=int, default=64, help="rows at a time; default: 64")
    parser.add_argument("--processes", type=int, help="default: one for each core")
    args = parser.parse_args(argv)
    beside, kind = args.output.with_name(f".writing-{args.output.name}"), f".{args.format}"
    for name in ("batch", "processes"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f"--{name} must be above 0, got {getattr(args, name)}")
    if not args.file.is_file():
        parser.error(f"there is no file {args.file}")
    if args.output.exists():
        parser.error(f"--output: {args.output} exists; name a folder that is new")
    if not os.access(args.output.parent, os.W_OK):
        parser.error(f"--output: {args.output.parent} is no folder that can be written to")
    if not has_ray():
        parser.error("there is no Ray: pip install -r serving/batch_requirements.txt")

    with rows.source(args.file, args.encoding) as file:
        print("Loading the model.", file=sys.stderr)
        version = query.newest_version(args.model).resolve()
        loaded = query.load(version, args.signature)
        _, name, spec = loaded
        series = spec.dtype != quiet.tensorflow().string and args.file.suffix.lower() in rows.TABLES
        shape = spec.shape.as_list() if series else None
        if series and (len(shape) != 3 or None in shape[1:]):
            raise SystemExit(
                f"{name} is of numbers, (rows, …) {spec.shape}: give JSON lines or Parquet."
            )
        if series and args.column:
            parser.error("--column: of a series, all columns of numbers are read")
        columns, _ = open_rows(file, args.column, name, shape)
    header = io.StringIO(newline="")
    predict.writer(header, kind, columns, ["row", *predict.outputs(*loaded)])

    asked = {
        "model": [str(version), (version / "saved_model.pb").stat().st_mtime],
        "file": [str(args.file.resolve()), args.file.stat().st_size, args.file.stat().st_mtime],
        **{name: getattr(args, name) for name in ("column", "format", "signature", "encoding")},
    }
    try:
        with alone(beside):
            done = begin(beside, asked)
            if done["rows"]:
                say(f"Going on behind row {done['rows']:,}.")
            read = (args.file.resolve(), args.encoding, done["rows"], args.column, name, shape)
            how = (args.signature, columns, kind, args.batch)
            with contextlib.closing(scored(read, version, how, args.processes)) as found:
                rate = write(
                    beside, done, kind, header.getvalue().encode(errors="backslashreplace"), found
                )
            if not done["answered"]:
                shutil.rmtree(beside)
                raise SystemExit(f"No row of {args.file} could be answered; nothing is written.")
            if not done["bad"]:
                (beside / "bad_rows.jsonl").unlink()
            os.rename(beside, args.output)
    except OSError as error:
        raise SystemExit(f"{args.output} could not be written: {error}") from None
    except KeyboardInterrupt:
        say("\nStopped; the same command goes on from there.")
        raise SystemExit(130) from None
    unasked = done["rows"] - done["answered"] - done["bad"]
    say(
        f"{args.output}: {done['answered']:,} rows answered, {done['bad']:,} not, {rate}"
        + (f"; no window ends at {unasked:,}." if unasked else ".")
    )


if __name__ == "__main__":
    main()
