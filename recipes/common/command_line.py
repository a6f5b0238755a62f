"""The arguments that every recipe has, read before TensorFlow is imported; how a script ends."""

import argparse
import contextlib
import errno
import hashlib
import importlib.util
import math
import os
import signal
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

from recipes.common import cluster, files
from serving import quiet

REPOSITORY = Path(__file__).resolve().parents[2]
CELLS = ("simple_rnn", "lstm", "gru")
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def parser(
    recipe: str,
    description: str,
    epochs: dict[str, int],
    cell: str | None = "lstm",
    *,
    batch: str,
    other: int | None = None,
    any_dataset: bool = False,
) -> argparse.ArgumentParser:
    """A parser with the common arguments.

    Args:
        recipe: The recipe's name; its folder under runs/ and saved_models/.
        description: What the recipe does, for `--help`.
        epochs: For each dataset, the first being the default, how long to train.
        cell: The default cell; None where there is no recurrent network.
        batch: How much a step learns from by default, and of what.
        other: How long to train on other data: a file of the user's (the recipe adds the
            argument `--data`), or another dataset. None: `args.epochs` is left to the recipe.
        any_dataset: Whether `--dataset` takes other names too.
    """
    default = next(iter(epochs))
    found = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = found.add_argument
    names = {} if any_dataset else {"choices": list(epochs)}
    add("--dataset", **names, help=f"{', '.join(epochs)}; default: {default}")
    if cell:
        add("--cell", choices=CELLS, default=cell, help=f"the recurrent cell; default: {cell}")
    run = "DATASET-CELL" if cell else "DATASET"
    lengths = [f"{n} on {name}" for name, n in epochs.items()]
    lengths += [f"{other or 'by their size'} on other data"] if other or any_dataset else []
    add("--epochs", type=positive, help=f"default: {', '.join(lengths)}")
    add("--steps", type=positive, help="batches per epoch, for a quick try; default: all")
    add("--batch", type=positive, help="how much a step learns from, by all workers together; "
        f"default: {batch}")  # fmt: skip
    add("--seed", type=seed, default=0, help="default: 0")
    add("--workers", type=positive, metavar="N", help="processes on this machine that train "
        "together; default: 1, or as many as TF_CONFIG has")  # fmt: skip
    add("--output", type=Path, help=f"default: runs/{recipe}/{run}[-FLAG] in the repository")
    add("--restart", action="store_true", help="delete what --output holds of an earlier run")
    add(
        "--saved-models",
        type=Path,
        help=f"where {recipe}/VERSION is exported to; default: saved_models in the repository, "
        "for a quick try (--steps, --dataset sample) in --output",
    )
    add("--keep", type=positive, help="how many exported versions to keep; default: all")
    found.set_defaults(recipe=recipe, data=None, epochs_of=epochs, epochs_of_other=other)
    return found


RUNTIMES = {"onnx": "onnxruntime's", "litert": "LiteRT's"}
NEEDED = {"onnx": ("onnx", "onnxruntime", "tf2onnx"), "litert": ("ai_edge_litert",)}


def add_runtimes(parser: argparse.ArgumentParser) -> None:
    """Gives a recipe --onnx and --litert, which leave the run as it is."""
    for name, whose in RUNTIMES.items():
        says = f"write the model into --output, too, in {whose} format, also in 8 bits"
        parser.add_argument(f"--{name}", action="store_true", help=says)


def parse(
    parser: argparse.ArgumentParser, argv: list[str] | None, file_of: str | None = None
) -> argparse.Namespace:
    """Reads the arguments, and fills in what depends on others.

    Where there is `--data` alone, `args.dataset` is "data".

    Args:
        parser: `parser()`, and the recipe's own arguments.
        argv: What to read; None: the program's.
        file_of: A known dataset that `--data` can be the file of.
    """
    args = parser.parse_args(argv)
    if args.data and args.dataset not in (None, file_of):
        parser.error(f"give --dataset {args.dataset}, or files of your own, not both")
    given = vars(args)
    epochs_of, other = given.pop("epochs_of"), given.pop("epochs_of_other")
    args.dataset = args.dataset or ("data" if args.data else next(iter(epochs_of)))
    args.epochs = args.epochs or epochs_of.get(args.dataset, other)
    name = args.dataset.replace("/", "-")
    if args.data:
        first = args.data[0] if isinstance(args.data, list) else args.data
        name = first.name.split(".")[0] or first.name
    not_of_the_run = {"restart", *RUNTIMES}
    flags = [name for name, x in given.items() if x is True and name not in not_of_the_run]
    run = "-".join([name, *([args.cell] if "cell" in args else []), *flags])
    args.output = args.output or REPOSITORY / "runs" / args.recipe / run
    if not args.saved_models:
        quick = args.steps or args.dataset == "sample"
        args.saved_models = (args.output if quick else REPOSITORY) / "saved_models"
    check_places(parser, args, "output")
    problem = files.why_not_writable(args.saved_models / args.recipe)
    if problem:
        parser.error(f"--saved-models: {problem}")
    for name, packages in NEEDED.items():
        missing = [package for package in packages if not importlib.util.find_spec(package)]
        if given.get(name) and missing:
            parser.error(
                f"--{name} needs {', '.join(missing)}: pip install -r serving/requirements.txt"
            )
    cluster.check(parser, args)
    return args


def study_parser(recipe: str, description: str) -> argparse.ArgumentParser:
    """A parser for a recipe that measures, and has no dataset, cell or model to choose."""
    found = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument("--seed", type=seed, default=0, help="default: 0")
    output = REPOSITORY / "runs" / recipe
    found.add_argument("--output", type=Path, default=output, help=f"default: runs/{recipe}")
    return found


def parse_study(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """Reads the arguments of a `study_parser`."""
    args = parser.parse_args(argv)
    check_places(parser, args, "output")
    return args


def check_places(parser: argparse.ArgumentParser, args: argparse.Namespace, *names: str) -> None:
    """Ends the program now, not after training, if a folder can't be written."""
    for name in names:
        problem = files.why_not_writable(getattr(args, name))
        if problem:
            parser.error(f"--{name.replace('_', '-')}: {problem}")


def start(arguments: Callable[[], argparse.Namespace]) -> argparse.Namespace:
    """`arguments()`, and only then TensorFlow, whose import takes seconds.

    Until `run`, Ctrl-C ends the program as the system does, without a traceback of imports.
    """
    args = arguments()
    cluster.start_others(getattr(args, "workers", None))
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    quiet.tensorflow()
    return args


def run(main: Callable[[argparse.Namespace], None], args: argparse.Namespace) -> None:
    """Calls `main(args)`; what stops it from outside is a message, not a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with together(args):
            main(args)
    except KeyboardInterrupt:
        end_of_stopped(args)
    except Exception as error:
        if not is_no_room(error):
            raise
        said = textwrap.shorten(str(error), 400)
        sys.exit(
            f"There is no room left to write to: {said}\nFree some, or give another --output and "
            f"--saved-models. {same_command(args)} then goes on where it was."
        )


def together(args: argparse.Namespace) -> contextlib.AbstractContextManager:
    """Inside, workers are joined, if there are any."""
    if "workers" not in args or cluster.own() is cluster.ALONE:
        return contextlib.nullcontext()
    from recipes.common import workers

    said = {f"--{name}".replace("_", "-"): shortened(str(x)) for name, x in vars(args).items()}
    return workers.joined(said)


def shortened(text: str) -> str:
    """Long ones by their beginning and a hash: thousands of files may be named."""
    if len(text) <= 1000:
        return text
    return f"{text[:100]}… ({hashlib.sha256(text.encode()).hexdigest()[:16]})"


def is_no_room(error: BaseException) -> bool:
    # TensorFlow and HDF5 have the system's words, but not always its number.
    said = any(os.strerror(number) in str(error) for number in NO_ROOM)
    return said or getattr(error, "errno", None) in NO_ROOM


def same_command(args: argparse.Namespace) -> str:
    without = ", without --restart," if getattr(args, "restart", False) else ""
    return f"The same command{without}"


def end_of_stopped(args: argparse.Namespace) -> None:
    """Ends the program as the system does for Ctrl-C, and says how to go on."""
    if cluster.own().index:  # the chief says it
        sys.exit(130)
    message = "\nStopped."
    if "restart" in args:  # it trains, and keeps its epochs
        from recipes.common import training

        done = training.epochs_done(args.output)
        where = "there" if done and done == args.epochs else f"epoch {done + 1}"
        message += f" {same_command(args)} goes on from {where}."
    print(message, file=sys.stderr)
    sys.exit(130)


def positive(text: str) -> int:
    """An argument that must be a whole number above zero."""
    number = int(text)
    if number <= 0:
        raise argparse.ArgumentTypeError(f"must be above 0, got {number}")
    return number


def not_negative(text: str) -> int:
    """An argument that must be a whole number, 0 or above."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"must not be below 0, got {number}")
    return number


def text(given: str) -> str:
    """An argument that must be in UTF-8."""
    try:
        given.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"is not in UTF-8: {given!a}") from None
    return given


def seed(text: str) -> int:
    """An argument that seeds random numbers: a whole number from 0 to 2³¹ − 1."""
    number = int(text)
    if not 0 <= number < 2**31:
        raise argparse.ArgumentTypeError(f"must not be below 0 or above 2³¹ − 1, got {number}")
    return number


def shares(text: str) -> list[float]:
    """An argument of three shares that make up one whole, as 0.7,0.1,0.2."""
    shares = [float(x) for x in text.split(",")]
    if len(shares) != 3 or min(shares) <= 0 or not math.isclose(sum(shares), 1, abs_tol=1e-6):
        raise argparse.ArgumentTypeError(f"must be three shares with a sum of 1, got {text}")
    return shares


def levels(text: str) -> list[float]:
    """An argument of quantiles' levels, as 0.1,0.5,0.9; they come sorted."""
    levels = sorted(float(x) for x in text.split(","))
    if not all(0 < x < 1 for x in levels) or len({f"{x:g}" for x in levels}) < len(levels):
        raise argparse.ArgumentTypeError(f"must be between 0 and 1, each once, got {text}")
    return levels


def file(text: str) -> Path:
    """An argument that must be a file that is there."""
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no file {path}")
    return path


def file_or_folder(text: str) -> Path:
    """An argument that must be a folder, or a file, that is there."""
    path = Path(text)
    if not path.exists():
        raise argparse.ArgumentTypeError(f"there is no folder or file {path}")
    return path
