"""What a language model of words leaves for other models to start from.

encoder.keras    numbers of words in, the states of its recurrent layer at each word out; its
                 name says whether it reads "forwards" or "backwards"
vocabulary.txt   the words, one a line, numbered from 2: 0 ends a text, 1 is any other word
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from recipes.common import files

MODEL, VOCABULARY = "encoder.keras", "vocabulary.txt"


def write(folder: Path, model, words: list[str], backwards: bool) -> None:
    """Writes the encoder in `model`, a language model with the layers "embedding" and "read_1"."""
    import keras  # not above: arguments are read before TensorFlow is imported

    numbers = keras.Input((None,), dtype="int32", name="numbers")
    outputs = model.get_layer("read_1")(model.get_layer("embedding")(numbers))
    encoder = keras.Model(numbers, outputs, name="backwards" if backwards else "forwards")
    files.write(folder / VOCABULARY, lambda beside: beside.write_bytes("\n".join(words).encode()))
    files.write(folder / MODEL, encoder.save)


def add_argument(parser: argparse.ArgumentParser) -> None:
    """Gives a recipe the argument --pretrained."""

    def folder(path):
        for name in (MODEL, VOCABULARY):
            if not (Path(path) / name).is_file():
                raise argparse.ArgumentTypeError(
                    f"{path} has no {name}. Give the --output of a run of "
                    "recipes/language_model.py --tokens words that has come to its end."
                )
        return path

    parser.add_argument(
        "--pretrained",
        type=folder,
        nargs="+",
        metavar="FOLDER",
        help="runs of a language model of words to learn from: one, or one that reads forwards "
        "and one --backwards",
    )


class Encoders:
    """One that reads forwards, one that reads backwards, or both, of the same words.

    Args:
        folders: The runs that left them.
        cell: The class that their recurrent layers must be of.

    Raises:
        SystemExit: If one can't be read, or they don't fit together.
    """

    def __init__(self, folders: list[str], cell: type):
        self.words, self.models = [], {}
        for folder in folders:
            words, model = read(Path(folder))
            kind = type(model.get_layer("read_1"))
            if kind is not cell:
                raise SystemExit(
                    f"--pretrained {folder} reads by {kind.__name__}, and --cell is "
                    f"{cell.__name__}. Give the --cell that it was trained with."
                )
            if model.name in self.models:
                raise SystemExit(
                    f"--pretrained: {' and '.join(folders)} both read {model.name}. Give one, or "
                    "train the second with --backwards."
                )
            if self.words and words != self.words:
                raise SystemExit(
                    f"--pretrained: {' and '.join(folders)} have different vocabularies. Train "
                    "both on the same texts with the same --seed."
                )
            self.words, self.models[model.name] = words, model

    def content(self) -> list:
        """All that a run depends on which starts from these."""
        return [self.words, *([name, model.get_weights()] for name, model in self.models.items())]

    def say_known(self, words: Iterable[str]) -> None:
        """Says how many of these words the language models know.

        Raises:
            SystemExit: If they know hardly any.
        """
        words, known = list(words), {*self.words}
        share = sum(word in known for word in words) / max(1, len(words))
        print(f"--pretrained: {share:.1%} of the words to learn from were known before.")
        if share < 0.05:
            raise SystemExit(
                "--pretrained: these texts are of another language, or kind, than those it has "
                "read. Train a language model on texts like them, or leave it out."
            )

    def renumbered(self, numbers, vocabulary: list[str]):
        """Numbers of words in a vocabulary that begins with "" and "[UNK]", as those here."""
        from keras import ops

        place = {word: i for i, word in enumerate(self.words, 2)}
        places = [0, 1, *(place.get(word, 1) for word in vocabulary[2:])]
        return ops.take(np.array(places, "int32"), numbers)

    def read(self, numbers, dropout: float = 0.0, trainable: bool = True) -> tuple:
        """(batch, length) numbers, 0 behind each text, to two of (batch, length, features), and
        (batch, features).

        They are each word's vector, the state after it, and the state after all words, by
        layers that start from these, or stay as they are: "embedding" and "read", and the same
        with "_backwards".
        """
        from keras import layers, ops

        vectors, states, last, mask = [], [], [], numbers != 0
        for name, model in self.models.items():
            backwards = name == "backwards"
            ending = "_backwards" if backwards else ""
            embedding = like(model.get_layer("embedding"), name=f"embedding{ending}")
            how = {"go_backwards": backwards, "return_state": True}
            read = like(model.get_layer("read_1"), name=f"read{ending}", **how)
            vectors.append(embedding(numbers))
            x = layers.SpatialDropout1D(dropout)(vectors[-1]) if dropout else vectors[-1]
            x, after_all, *_ = read(x, mask=mask)
            last.append(after_all)
            for layer, of in ((embedding, "embedding"), (read, "read_1")):
                layer.set_weights(model.get_layer(of).get_weights())
                layer.trainable = trainable
            states.append(ops.flip(x, axis=1) if backwards else x)
        if len(states) == 1:
            return vectors[0], states[0], last[0]
        states = layers.Concatenate(name="read_both")(states)
        return ops.concatenate(vectors, -1), states, ops.concatenate(last, -1)


def read(folder: Path) -> tuple:
    """(the words, the encoder) in `folder`."""
    import keras

    import layers  # noqa: F401, by its import Keras knows them

    try:
        words = (folder / VOCABULARY).read_bytes().decode().split("\n")
        model = keras.saving.load_model(folder / MODEL, compile=False)
        numbers = model.get_layer("embedding").input_dim
        model.get_layer("read_1")
    except (OSError, ValueError, KeyError) as error:
        raise SystemExit(
            f"--pretrained: the encoder in {folder} can't be read ({error}). The command that "
            "made it, given again, writes it anew."
        ) from error
    if numbers != len(words) + 2 or model.name not in ("forwards", "backwards"):
        raise SystemExit(
            f"--pretrained: {VOCABULARY} in {folder} has {len(words)} words, and {MODEL} reads "
            f"{numbers - 2}, {model.name}. The command that made them, given again, writes both."
        )
    return words, model


def like(layer, **changes):
    """A new layer with the configuration of `layer`, but for `changes`."""
    return type(layer).from_config({**layer.get_config(), **changes})
