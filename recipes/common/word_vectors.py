"""Word vectors in word2vec's text format, for TensorBoard, and as layers.

The first line says how many words and how many numbers for each; every other line is a
word and its numbers, with a space between.
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np

from recipes.common import files


def write(path: Path, words: list[str], vectors: np.ndarray) -> None:
    """Writes (words, dimension) `vectors`; the file is there whole or not at all."""

    def lines(beside: Path):
        with beside.open("w", encoding="utf-8", newline="\n") as file:
            file.write(f"{len(words)} {vectors.shape[1]}\n")
            for word, vector in zip(words, vectors):
                file.write(f"{word} {' '.join(f'{x:.6g}' for x in vector.tolist())}\n")

    files.write(path, lines)


def write_projector(folder: Path, words: list[str], vectors: np.ndarray) -> None:
    """What TensorBoard's Embedding Projector shows: a checkpoint, labels, and where they are."""
    import tensorflow as tf  # not above: arguments are read before TensorFlow is imported
    from tensorboard.plugins import projector

    folder.mkdir(parents=True, exist_ok=True)
    # Found by the file "checkpoint" beside it, wherever the folder is moved to.
    tf.train.Checkpoint(vectors=tf.Variable(vectors)).save(str(folder / "vectors.ckpt"))
    (folder / "metadata.tsv").write_text("\n".join(words) + "\n", "utf-8")
    config = projector.ProjectorConfig()
    config.embeddings.add(
        tensor_name="vectors/.ATTRIBUTES/VARIABLE_VALUE", metadata_path="metadata.tsv"
    )
    projector.visualize_embeddings(str(folder), config)


def read(path: Path, wanted: set[str] | None = None) -> tuple[list[str], np.ndarray]:
    """(words, (words, dimension) float32 vectors); of `wanted` words only, if given.

    Of a word that comes again, the first counts.

    Raises:
        SystemExit: If there is no such file, or its content is not in the format.
    """
    rows, number, again = {}, 1, 0
    try:
        # Only "\n" ends a line: a word may be of any other character.
        with open(path, encoding="utf-8", newline="\n") as file:
            first = file.readline()
            count, dimension = (int(n) for n in first.split())
            for number, line in enumerate(file, 2):
                word, *numbers = line.rstrip(" \r\n").split(" ")
                if len(numbers) != dimension:
                    raise ValueError(f"line {number}: {len(numbers)} numbers, not {dimension}")
                if wanted is None or word in wanted:
                    row = np.array(numbers, "float32")
                    if not np.all(np.isfinite(row)):
                        raise ValueError(f"line {number}: a number is not finite")
                    again += word in rows
                    rows.setdefault(word, row)
    except (OSError, ValueError) as error:
        raise SystemExit(
            f"{path} cannot be read as word vectors ({error}). They are expected in word2vec's "
            'text format: a line "COUNT DIMENSION", then a line "WORD NUMBER NUMBER …" for each '
            "word, as recipes/word_embeddings.py leaves in vectors.txt."
        ) from error
    if number - 1 != count:
        raise SystemExit(f"{path} is not whole: it has {number - 1} words, and says {count}.")
    if again:
        print(f"{path}: {again} words come again; the first of each counts.")
    return [*rows], np.array([*rows.values()], "float32").reshape(-1, dimension)


def add_argument(parser: argparse.ArgumentParser) -> None:
    """Gives a recipe the argument --embeddings, a file that is looked at before all else."""

    def readable(path):
        read(path, wanted=set())
        return path

    parser.add_argument(
        "--embeddings",
        type=readable,
        metavar="FILE",
        help="word vectors, in word2vec's text format; default: none",
    )


def content(path: str | None) -> list[str]:
    """What all that a run depends on which uses this file, if there is one, is known by: it may be
    larger than memory."""
    if not path:
        return []
    with open(path, "rb") as file:
        return [hashlib.file_digest(file, "sha256").hexdigest()]


def refuse_unknown(path: str, words: set[str]) -> None:
    """Ends the program if the file has none of `words`, some of what is to be read."""
    if not read(path, words)[0]:
        raise SystemExit(
            f"{path} has none of the words of the first training texts. Its words must be in lower "
            "case, and of the same language."
        )


def embedding(vocabulary: list[str], path: str):
    """The Keras layer "embedding", a vector for each of `vocabulary`, to be trained further.

    Args:
        path: A file of vectors to start from. Words that are not in it start from random numbers
            of the same spread.

    Raises:
        SystemExit: If the file is not in the format, or knows none of the words.
    """
    import keras  # not above: arguments are read before TensorFlow is imported

    words, vectors = read(path, set(vocabulary))
    if not words:
        raise SystemExit(f"{path} has none of the {len(vocabulary)} words of this vocabulary.")
    print(f"{path}: vectors for {len(words)} of {len(vocabulary)} words of the vocabulary.")
    place = {word: i for i, word in enumerate(vocabulary)}
    shape = (len(vocabulary), vectors.shape[1])
    start = np.array(keras.random.normal(shape, stddev=float(vectors.std())))
    start[[place[word] for word in words]] = vectors
    return keras.layers.Embedding(*shape, keras.initializers.Constant(start), name="embedding")


def for_words(path: str, wanted: list[str]) -> dict[str, np.ndarray]:
    """{word: its vector}, of all words of a file.

    Raises:
        SystemExit: If the file is not in the format, or has none of the words `wanted`.
    """
    found = dict(zip(*read(path)))
    known = found.keys() & {*wanted}
    if not known:
        raise SystemExit(f"{path} has none of the {len(wanted)} words of this vocabulary.")
    print(f"{path}: vectors of {len(found)} words, {len(known)} of these {len(wanted)}.")
    return found


def fixed(vocabulary: list[str], vectors: dict[str, np.ndarray]):
    """The Keras layer "vectors": these, as they are; 0 for other words of `vocabulary`."""
    import keras

    none = np.zeros_like(next(iter(vectors.values())))
    table = np.stack([vectors.get(word, none) for word in vocabulary])
    start = keras.initializers.Constant(table)
    return keras.layers.Embedding(*table.shape, start, trainable=False, name="vectors")
