"""A language model: the next character or word of a text, from all that stands before it.

    python recipes/language_model.py                      # Shakespeare, from TFDS
    python recipes/language_model.py --text book.txt      # texts of your own
    python recipes/language_model.py --dataset sample     # built-in text, no download
    python recipes/language_model.py --dataset imdb       # words of film reviews
    python recipes/language_model.py --generate "ROMEO:" --temperature 0.8

Recurrent layers read a character at a time and say how probable each other is to come next. A
text is cut into a few streams that are read side by side, a piece of each in a batch; the
states at the end of a piece are those that the next one starts from (truncated
back-propagation through time). So the states carry what was read long before, and the
gradient what was read within a piece.

The text's last tenth is for validation, as nanoGPT has it. A text this short is soon known
by heart: dropout, one mask for all steps of a piece (Gal & Ghahramani 2016), is what the
score depends on.

Words (--tokens words) are the 30,000 most frequent; others are one word, unknown. Texts come
in another order in each epoch, and a mark ends each. In training a word is told from 1024
drawn ones, not from all (Jean et al. 2015). What was learned of words is left as an encoder,
which recipes/sentiment.py starts from (Dai & Le 2015) and recipes/pos_tagging.py listens to;
--backwards makes the one that reads from a text's end. A long text is read in parts, each shown
as an epoch: from there a run that was stopped goes on.

The export scores texts, goes on with a text that arrives in pieces, and writes texts.
"""

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # to be run from anywhere

from recipes.common import command_line

EPOCHS = {"tiny_shakespeare": 20, "sample": 8, "imdb": 2}
STREAMS = 64  # read side by side


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = command_line.parser(
        "language_model",
        __doc__,
        EPOCHS,
        batch=f"{STREAMS} streams of text, fewer of a short one",
        other=20,
    )
    add, positive = parser.add_argument, command_line.positive
    text = {"dest": "data", "metavar": "FILE", "type": command_line.file, "nargs": "+"}
    add("--text", **text, help="read one after the other; .gz is unpacked")
    add("--encoding", help="of --text; default: UTF-8")
    add("--tokens", choices=("characters", "words"), help="default: characters; of imdb, words")
    add("--backwards", action="store_true", help="read words from the end of each text")
    prompts = {"type": command_line.text, "metavar": "PROMPT", "nargs": "+"}
    add("--generate", **prompts, help="to continue")
    add(
        "--length",
        type=positive,
        default=500,
        help="how many characters or words to write; default: 500",
    )
    add("--temperature", type=float, default=0.8, help="0: the most probable; default: 0.8")
    add("--top-k", type=positive, help="draw from so many most probable; default: all")
    number = {"type": float, "default": 1.0}
    add("--top-p", **number, help="draw from the most probable that sum to it; default: 1")
    command_line.add_runtimes(parser)
    args = command_line.parse(parser, argv)
    args.tokens = args.tokens or ("words" if args.dataset == "imdb" else "characters")
    if args.tokens == "characters" and (args.dataset == "imdb" or args.backwards):
        parser.error("--dataset imdb and --backwards are of words: give --tokens words")
    if args.backwards and (args.generate or args.onnx or args.litert):
        parser.error("--backwards makes an encoder: no --generate, --onnx, --litert")
    if args.encoding and not args.data:
        parser.error("--encoding is of files: give --text FILE")
    if not 0 <= args.temperature <= 1000:
        parser.error(f"--temperature must be from 0 to 1000, got {args.temperature}")
    if (args.top_k or 0) >= 2**31:
        parser.error(f"--top-k must be below 2**31, got {args.top_k}")
    if not 0 <= args.top_p <= 1:
        parser.error(f"--top-p must be from 0 to 1, got {args.top_p}")
    return args


if __name__ == "__main__":
    ARGS = command_line.start(arguments)  # before what takes seconds to import

import keras
import numpy as np
import tensorflow as tf

import layers
from recipes.common import (
    encoders,
    other_runtimes,
    pictures,
    prepared_data,
    publishing,
    text_files,
    training,
    words,
    workers,
)
from recipes.common.carried import Carried, CarriedSampling
from recipes.common.cells import CELLS
from recipes.common.row_adam import RowAdam
from recipes.common.samples import brackets
from recipes.common.tied_softmax import TiedSoftmax
from recipes.common.words import Words
from recipes.parts.language_model import text_export, text_scores, unit_search
from recipes.parts.language_model.characters import Characters

PIECE = 96  # characters that the gradient goes back
PART = 750  # batches of an epoch at most that are lost when a run is killed
HELD_OUT = 500  # texts for validation, where words are read
SAMPLES = 1024  # words that the next one is told from in training
PUBLISHED = {"nanoGPT": 1.4697, "minGRU": 1.548}  # nats a character of Shakespeare's last tenth
SMALL = {"units": 128, "depth": 1, "dropout": 0.0, "recurrent_dropout": 0.0}  # for the sample


# --- Data: a text or many, in two parts ------------------------------------------------------


def load(args: argparse.Namespace) -> str:
    """The whole text."""
    if args.data:
        *files, last = [text_files.read(path, args.encoding) for path in args.data]
        return "".join(file.removesuffix("\n") + "\n" for file in files) + last
    if args.dataset == "sample":
        return brackets.text(200_000, f"{args.seed}")
    parts, _ = prepared_data.load("tiny_shakespeare")
    order = "train", "validation", "test"  # as they stand in the text
    return "".join(part["text"].numpy().decode() for name in order for part in parts[name])


def split(text: str) -> tuple[str, str]:
    """(the part to train on, the last tenth).

    Raises:
        SystemExit: If there is too little to learn from.
    """
    if len(text) < 20_000 or len(set(text)) < 2:
        raise SystemExit(
            f"This is too little text to learn from: {len(text):,} characters, "
            f"{len(set(text))} different ones. Give 20,000 or more."
        )
    cut = len(text) * 9 // 10
    return text[:cut], text[cut:]


def load_texts(args: argparse.Namespace) -> list[str]:
    """Texts, each for itself: reviews, or what blank lines separate."""
    if args.dataset == "imdb":
        read = prepared_data.reviews().batch(1000).as_numpy_iterator()
        return [text.decode() for some in read for text in some]
    if args.data:
        files = [text_files.read(path, args.encoding) for path in args.data]
        return [text for file in files for text in text_files.texts(file)]
    return text_files.texts(load(args))


def split_texts(texts: list[str], seed: int) -> tuple[list[str], list[str]]:
    """(those to train on, others), drawn.

    Raises:
        SystemExit: If there is too little to learn from.
    """
    if len(texts) < 20 or sum(map(len, texts)) < 100_000:
        raise SystemExit(
            f"This is too little text to learn from: {len(texts)} texts, which blank lines "
            f"separate, or else ends of lines, of {sum(map(len, texts)):,} characters together. "
            "Give 20 or more, of 100,000 or more."
        )
    texts = [texts[i] for i in np.random.default_rng(seed).permutation(len(texts))]
    cut = len(texts) - min(HELD_OUT, len(texts) // 10)
    return texts[:cut], texts[cut:]


def number_characters(train: str, validation: str) -> tuple[Characters, np.ndarray, np.ndarray]:
    """(the characters of `train`, the numbers of both parts)."""
    characters = Characters(train)
    print(
        f"{len(train):,} characters to train on, the {len(validation):,} after them for "
        f"validation; {len(characters.known)} different ones."
    )
    parts = [characters.numbers(tf.constant([x])).flat_values.numpy() for x in (train, validation)]
    return characters, *parts


def number_words(train: list[str], validation: list[str]) -> tuple[Words, np.ndarray, np.ndarray]:
    """(the frequent words of `train`, the numbers of both parts)."""
    *parts, known = words.number_most_frequent(train, validation)
    print(
        f"{len(parts[0]) - len(train):,} words in {len(train):,} texts to train on, "
        f"{len(parts[1]) - len(validation):,} in {len(validation):,} for validation; "
        f"{len(known):,} different ones, {np.mean(parts[0] == words.UNKNOWN):.1%} are others."
    )
    return Words(known), *parts


def reordered(numbers: tf.Tensor, seed: tf.Tensor, end: int | None) -> tf.Tensor:
    """From another place on; or, where `end` ends each of many texts, these in another order."""
    if end is None:
        size = tf.size(numbers)
        return tf.roll(numbers, tf.random.stateless_uniform((), seed, 0, size, tf.int32), 0)
    ends = tf.where(numbers == end)[:, 0] + 1
    texts = tf.RaggedTensor.from_row_limits(numbers, ends)
    order = tf.argsort(tf.random.stateless_uniform(tf.shape(ends), seed))
    return tf.gather(texts, order).flat_values


def batches(
    numbers: np.ndarray,
    streams: int,
    seed: int | None = None,
    end: int | None = None,
    parts: int = 1,
    done: Callable[[], int] = lambda: 0,
) -> tf.data.Dataset:
    """Batches of ((pieces, go on), what comes next), each piece behind the one before it.

    "Go on" is 0 where the streams begin, else 1.

    Args:
        seed: Of the orders that the text is `reordered` in; None: it stays as it is.
        end: The number that ends each of many texts.
        parts: An epoch is read in so many, one each time that the batches are gone through.
        done: Says how many were read before.
    """
    length, numbers = (len(numbers) - 1) // streams, tf.constant(numbers)
    pieces = length // PIECE // parts

    def streamed(done):
        text = numbers if seed is None else reordered(numbers, (seed, done // parts), end)
        now, to_come = (x[: streams * length] for x in (text[:-1], text[1:]))
        now, to_come = (tf.reshape(x, (streams, length)) for x in (now, to_come))

        def piece(t):
            first = (done % parts * pieces + t) * PIECE
            here = slice(first, first + PIECE)
            return (now[:, here], tf.cast(t > 0, tf.float32)), to_come[:, here]

        return tf.data.Dataset.range(pieces).map(piece)

    number = tf.TensorSpec((), tf.int64)
    found = tf.data.Dataset.from_generator(lambda: iter([done()]), output_signature=number)
    found = found.flat_map(streamed).apply(tf.data.experimental.assert_cardinality(pieces))
    return found.prefetch(2)


# --- Model: numbers in, a logit for each character or word that may come next out -----------


def build(
    choices: int,
    cell: str,
    units: int = 512,
    depth: int = 2,
    dropout: float = 0.4,
    recurrent_dropout: float = 0.2,
) -> keras.Model:
    numbers = keras.Input((None,), dtype="int32", name="numbers")
    x = keras.layers.Embedding(choices, min(units, 128), name="embedding")(numbers)
    for k in range(1, depth + 1):
        # The same units are dropped in all steps of a piece.
        x = keras.layers.SpatialDropout1D(dropout if k > 1 else dropout / 4)(x)
        how = {"return_sequences": True, "recurrent_dropout": recurrent_dropout}
        x = CELLS[cell](units, **how, name=f"read_{k}")(x)
    x = keras.layers.SpatialDropout1D(dropout)(x)
    logits = keras.layers.Dense(choices, name="logits")(x)
    return keras.Model(numbers, logits, name="language_model")


def build_for_words(
    choices: int, cell: str, units: int = 512, dimension: int = 256, dropout: float = 0.1
) -> keras.Model:
    numbers = keras.Input((None,), dtype="int32", name="numbers")
    embedding = keras.layers.Embedding(choices, dimension, name="embedding")
    x = keras.layers.SpatialDropout1D(dropout)(embedding(numbers))
    x = CELLS[cell](units, return_sequences=True, name="read_1")(x)
    x = keras.layers.SpatialDropout1D(dropout)(x)
    vectors = keras.layers.Dense(dimension, name="vectors")(x)
    logits = layers.TimeDistributed(TiedSoftmax(embedding), name="logits")(vectors)
    return keras.Model(numbers, logits, name="language_model")


def compile_model(model: keras.Model, steps: int) -> None:
    """Sets the model up to be trained for `steps` batches."""
    rise = max(1, steps // 20)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - rise), warmup_target=3e-3, warmup_steps=rise
    )
    if isinstance(model, CarriedSampling):
        model.compile(RowAdam(rate, clipnorm=1.0), jit_compile=False)
        return
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate, clipnorm=1.0), loss)


# --- Training, evaluation, export ------------------------------------------------------------


def main(args: argparse.Namespace) -> None:
    training.seed(args)
    by_words = args.tokens == "words"
    kind, prompts = Words if by_words else Characters, args.generate or [""]
    if not args.backwards:
        text_scores.refuse_too_much(prompts, args.length, kind)
    text = split_texts(load_texts(args), args.seed) if by_words else split(load(args))
    symbols, train, validation = (number_words if by_words else number_characters)(*text)
    shorter = min(len(train), len(validation))
    most = (shorter - 1) // PIECE
    if (args.batch or 1) > most:
        what = f"the training or the validation text has {shorter} {symbols.name}: it"
        raise SystemExit(
            f"--batch {args.batch}: {what} makes {most} streams at most."
            if args.batch
            else f"{what} is too short to learn from; {PIECE + 1} are needed. Give more texts."
        )
    training.begin(args, *text)  # which may delete an earlier run: so not before
    if args.backwards:
        train, validation = map(words.read_backwards, (train, validation))
    streams = args.batch or max(1, min(STREAMS, shorter // (6 * PIECE)))
    parts = 1 if args.steps else math.ceil(len(train) / (streams * PIECE * PART))

    def done():
        return int(carried.optimizer.iterations) // len(learned)

    learned = batches(train, streams, args.seed, words.END if by_words else None, parts, done)
    learned = learned.take(args.steps or -1)
    held_out = batches(validation, streams)
    if by_words:
        model = build_for_words(len(symbols), args.cell)
        model.vocabulary = symbols.layer  # to be exported with it
        carried = CarriedSampling(model, workers.share(streams), SAMPLES)
    else:
        model = build(len(symbols), args.cell, **(SMALL if args.dataset == "sample" else {}))
        carried = Carried(model, workers.share(streams))
    compile_model(carried, args.epochs * parts * len(learned))
    model.summary()

    trained_before = (args.output / "metrics.json").exists()
    trained_before &= training.epochs_done(args.output) >= args.epochs * parts
    trained = training.fit(carried, learned, held_out, args, best=("val_loss", "min"), parts=parts)
    if by_words:
        encoders.write(args.output, model, symbols.known, args.backwards)
    served = text_export.signatures(model, symbols, "".join(text[1])[:20])
    if not args.backwards:
        text_scores.show_texts(served, args, prompts)
    exported = any((args.saved_models / args.recipe).glob("[0-9]*"))
    if args.generate and trained_before and exported and not (args.onnx or args.litert):
        return  # all else is there already
    if by_words:
        scores = text_scores.of_words(model, train, validation)
    else:
        scores = text_scores.of_characters(model, symbols, *text)
    published = PUBLISHED if args.dataset == "tiny_shakespeare" else {}
    nats = f"nats a {symbols.name.removesuffix('s')}"
    told = f"{SAMPLES:,} words to choose from and " if by_words else ""
    pictures.loss_over_time(args.output / "curves.png", trained, published, nats, told)
    text_scores.show(scores, symbols.name)
    if not by_words:
        found = unit_search.search(model, symbols, text[1])
        if found:
            pictures.coloured_text(args.output / "units.png", found)
            print("What single units follow:", *(line["title"] for line in found), sep="\n  ")
    if args.backwards:
        training.write_metrics(args, trained, model, validation=scores)
        print(f"The encoder, pictures and metrics are in {args.output}.")
        return
    version = publishing.publish(model, args.saved_models / args.recipe, served, args.keep)
    training.write_metrics(args, trained, model, validation=scores)  # last: see trained_before
    print(f"Exported to {version}; pictures and metrics are in {args.output}.")

    def score(page):
        return {"nats": page.losses(validation).mean(dtype="float64")}

    other_runtimes.write(args, lambda: text_export.numeric(model, symbols), score)


if __name__ == "__main__":
    command_line.run(main, ARGS)
