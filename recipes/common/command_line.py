"""The arguments that every recipe has, and the seeds."""

import argparse
from pathlib import Path

import keras

import layers
from recipes.common import training

REPOSITORY = Path(__file__).resolve().parents[2]
CELLS = {"simple_rnn": layers.SimpleRNN, "lstm": layers.LSTM, "gru": layers.GRU}


def parser(
    recipe: str, description: str, epochs: dict[str, int], cell: str | None = "lstm"
) -> argparse.ArgumentParser:
    """A parser with the common arguments.

    Args:
        recipe: The recipe's name; its folder under runs/ and saved_models/.
        description: What the recipe does, for `--help`.
        epochs: For each dataset, the first being the default, how long to train.
        cell: The default cell; None where there is no recurrent network.
    """
    default = next(iter(epochs))
    found = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = found.add_argument
    add("--dataset", choices=list(epochs), default=default, help=f"default: {default}")
    if cell:
        add(
            "--cell", choices=list(CELLS), default=cell, help=f"the recurrent cell; default: {cell}"
        )
    run = "DATASET-CELL" if cell else "DATASET"
    lengths = ", ".join(f"{n} on {name}" for name, n in epochs.items())
    add("--epochs", type=positive, help=f"default: {lengths}")
    add("--steps", type=positive, help="batches an epoch, for a quick try; default: all")
    add("--seed", type=seed, default=0, help="default: 0")
    add("--output", type=Path, help=f"default: runs/{recipe}/{run}[-FLAG] in the repository")
    add(
        "--saved-models",
        type=Path,
        default=REPOSITORY / "saved_models",
        help=f"where {recipe}/VERSION is exported to; default: saved_models in the repository",
    )
    add("--keep", type=positive, help="exported versions that stay; default: all")
    found.set_defaults(recipe=recipe, epochs_of=epochs)
    return found


def parse(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """Reads the arguments, fills in what depends on others, and seeds everything."""
    args = parser.parse_args(argv)
    epochs_of = vars(args).pop("epochs_of")
    args.epochs = args.epochs or epochs_of[args.dataset]
    flags = [name for name, value in vars(args).items() if value is True]
    run = "-".join([args.dataset, *([args.cell] if "cell" in args else []), *flags])
    args.output = args.output or REPOSITORY / "runs" / args.recipe / run
    # A run that goes on must not draw what it drew in its first epoch again.
    keras.utils.set_random_seed(args.seed + training.epochs_done(args.output))
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
    """Reads the arguments, and seeds everything."""
    args = parser.parse_args(argv)
    keras.utils.set_random_seed(args.seed)
    return args


def positive(text: str) -> int:
    """An argument that must be a whole number above zero."""
    number = int(text)
    if number <= 0:
        raise argparse.ArgumentTypeError(f"must be above 0, got {number}")
    return number


def seed(text: str) -> int:
    """An argument that seeds random numbers: a whole number, not below zero."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"must not be below 0, got {number}")
    return number
