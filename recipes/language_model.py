"""A language model: the next character of a text, from all that stands before it.

    python recipes/language_model.py                      # Shakespeare, from TFDS
    python recipes/language_model.py --text book.txt      # texts of your own
    python recipes/language_model.py --dataset sample     # built-in text, no download
    python recipes/language_model.py --generate "ROMEO:" --temperature 0.8

Recurrent layers read a character at a time and say how probable each other is to come next. A
text is cut into a few streams that are read side by side, a piece of each in a batch; the
states at the end of a piece are those that the next one starts from (truncated
back-propagation through time). So the states carry what was read long before, and the
gradient what was read within a piece.

The text's last tenth is for validation, as nanoGPT has it. A text this short is soon known
by heart: dropout, one mask for all steps of a piece (Gal & Ghahramani 2016), is what the
score depends on.

The export scores texts, goes on with a text that arrives in pieces, and writes texts.
"""

import argparse
import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # to be run from anywhere

from recipes.common import command_line

EPOCHS = {"tiny_shakespeare": 20, "sample": 8}


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = command_line.parser("language_model", __doc__, EPOCHS, other=20)
    add, positive = parser.add_argument, command_line.positive
    text = {"dest": "data", "metavar": "FILE", "type": command_line.file, "nargs": "+"}
    add("--text", **text, help="read one after the other; .gz is unpacked")
    add("--encoding", help="of --text; default: UTF-8")
    add("--generate", nargs="+", metavar="PROMPT", help="how texts begin that are written")
    add("--length", type=positive, default=500, help="characters to write; default: 500")
    number = {"type": float, "default": 0.8}
    add("--temperature", **number, help="0: always the most probable character; default: 0.8")
    add("--top-k", type=positive, help="draw from so many most probable; default: all")
    number = {"type": float, "default": 1.0}
    add("--top-p", **number, help="draw from the most probable that sum to it; default: 1")
    args = command_line.parse(parser, argv)
    if args.data and args.dataset != "data":
        parser.error("--text and --dataset exclude each other")
    if args.encoding and not args.data:
        parser.error("--encoding is of files: give --text FILE")
    if not 0 <= args.temperature < math.inf:
        parser.error(f"--temperature must be 0 or above, got {args.temperature}")
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
    character_ngrams,
    pictures,
    prepared_data,
    publishing,
    text_files,
    training,
    unit_search,
)
from recipes.common.cells import CELLS
from recipes.common.character_export import MOST_PLACES, START, signatures, state_sizes
from recipes.common.characters import UNKNOWN, Characters
from recipes.common.samples import brackets

STREAMS = 64  # read side by side
PIECE = 96  # characters that the gradient goes back
NGRAM = 6  # the baseline's
PUBLISHED = {"nanoGPT": 1.4697, "minGRU": 1.548}  # nats a character of Shakespeare's last tenth
SMALL = {"units": 128, "depth": 1, "dropout": 0.0, "recurrent_dropout": 0.0}  # for the sample


# --- Data: a text, cut in two ---------------------------------------------------------------


def load(args: argparse.Namespace) -> str:
    """The whole text."""
    if args.data:
        return "".join(text_files.read(path, args.encoding) for path in args.data)
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


def batches(numbers: np.ndarray, streams: int, shuffle: bool) -> tf.data.Dataset:
    """Batches of ((pieces, go on), next characters), each piece behind the one before it.

    "Go on" is 0 where the streams begin, else 1. With `shuffle` they begin elsewhere each time.
    """
    length = (len(numbers) - 1) // streams
    pieces = length // PIECE
    numbers = tf.constant(numbers)

    def streamed(seed):
        text = tf.roll(numbers, seed % tf.size(numbers, tf.int64), 0) if shuffle else numbers
        now, to_come = (x[: streams * length] for x in (text[:-1], text[1:]))
        now, to_come = (tf.reshape(x, (streams, length)) for x in (now, to_come))

        def piece(t):
            where = slice(t * PIECE, (t + 1) * PIECE)
            return (now[:, where], tf.cast(t > 0, tf.float32)), to_come[:, where]

        return tf.data.Dataset.range(pieces).map(piece)

    seeds = tf.data.Dataset.random(rerandomize_each_iteration=True).take(1)
    found = seeds.flat_map(streamed).apply(tf.data.experimental.assert_cardinality(pieces))
    return found.prefetch(2)


# --- Model: the numbers of characters in, a logit for each that may come next out -----------


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


class Carried(keras.Model):
    """`model`, called on batch after batch of the same streams, each from the last states."""

    def __init__(self, model: keras.Model, streams: int):
        super().__init__(name="carried")
        self.streaming = layers.streaming_model(model)
        self.states = {
            name: tf.Variable(tf.zeros((streams, size)), trainable=False)
            for name, size in state_sizes(self.streaming).items()
        }
        self.built = True  # so that a run which goes on can load its weights

    def call(self, inputs, training=False):
        numbers, go_on = inputs
        states = {name: go_on * state for name, state in self.states.items()}
        answer = self.streaming({"numbers": numbers, **states}, training=training)
        for name, state in self.states.items():
            state.assign(answer[name])
        return answer["logits"]


def compile_model(model: keras.Model, steps: int) -> None:
    """Sets the model up to be trained for `steps` batches."""
    rise = max(1, steps // 20)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps - rise, warmup_target=3e-3, warmup_steps=rise
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate, clipnorm=1.0), loss)


# --- Evaluation -----------------------------------------------------------------------------


def losses(model: keras.Model, numbers: np.ndarray, start: int) -> np.ndarray:
    """−log P of each of `numbers`, read in one go: the states are carried through all of it."""
    streaming = layers.streaming_model(model)
    sizes = state_sizes(streaming)
    some = tf.TensorSpec([1, None], tf.int32)

    @tf.function(input_signature=[some, some, {n: tf.TensorSpec([1, k]) for n, k in sizes.items()}])
    def read(numbers, to_come, states):
        answer = streaming({"numbers": numbers, **states}, training=False)
        nats = tf.nn.sparse_softmax_cross_entropy_with_logits(to_come, answer["logits"])
        return nats[0], {name: answer[name] for name in states}

    states, found = {name: tf.zeros([1, size]) for name, size in sizes.items()}, []
    before = np.append(start, numbers[:-1]).astype("int32")
    for i in range(0, len(numbers), 1000):
        part = slice(i, i + 1000)
        nats, states = read(before[None, part], numbers[None, part], states)
        found.append(nats)
    return np.concatenate(found)


def score(nats: float, text: str) -> dict:
    """From the mean of a character."""
    bits = nats / math.log(2)
    size = len(text.encode())
    return {"nats": nats, "bits": bits, "bits_a_byte": bits * len(text) / size}


def evaluate(model: keras.Model, characters: Characters, train: str, text: str) -> dict:
    """Scores of the model, and of what counting knows."""
    numbers, start = (characters.numbers(tf.constant([x])).flat_values for x in (text, START))
    found = losses(model, numbers.numpy(), int(start[0]))
    scores = {"model": float(np.mean(found, dtype="float64"))}
    for name, order in {f"{NGRAM}-grams": NGRAM, "frequency alone": 1}.items():
        scores[name] = character_ngrams.nats(train, text, order, len(characters))
    counts = {"characters": len(text), "unknown": int(np.sum(numbers == UNKNOWN))}
    return {**counts, **{name: score(nats, text) for name, nats in scores.items()}}


# --- Texts written, and all of it ------------------------------------------------------------


def show_texts(served: dict, args: argparse.Namespace, prompts: list[str]) -> None:
    """Prints a text for each of `prompts`."""
    generate = tf.function(served["generate"][0])
    asked = {"length": args.length, "temperature": args.temperature, "top_p": args.top_p}
    asked |= {"top_k": args.top_k or 0, "seed": args.seed}
    for text in generate(tf.constant(prompts), **asked)["texts"].numpy():
        print(f"\n{text.decode()}")


def refuse_too_much(prompts: list[str], length: int) -> None:
    """Ends the program if so much can't be written at once."""
    places = len(prompts) * (max(map(len, prompts)) + length)
    if places > MOST_PLACES:
        raise SystemExit(
            f"--generate: {len(prompts)} texts with up to {places // len(prompts):,} characters "
            f"each are more than {MOST_PLACES:,}. Give fewer prompts or a smaller --length."
        )


def main(args: argparse.Namespace) -> None:
    training.seed(args)
    refuse_too_much(args.generate or [""], args.length)
    text = load(args)
    train, validation = split(text)
    characters = Characters(train)
    training.begin(args, train, validation)
    print(
        f"{len(train):,} characters to train on, the {len(validation):,} after them for "
        f"validation; {len(characters.known)} different ones."
    )
    parts = [characters.numbers(tf.constant([x])).flat_values.numpy() for x in (train, validation)]
    streams = min(STREAMS, len(validation) // (6 * PIECE))
    batched = batches(parts[0], streams, shuffle=True).take(args.steps or -1)
    held_out = batches(parts[1], streams, shuffle=False)
    model = build(len(characters), args.cell, **(SMALL if args.dataset == "sample" else {}))
    carried = Carried(model, streams)
    compile_model(carried, args.epochs * len(batched))
    model.summary()

    trained_before = (args.output / "metrics.json").exists()
    trained_before &= training.epochs_done(args.output) >= args.epochs
    trained = training.fit(carried, batched, held_out, args, best=("val_loss", "min"))
    served = signatures(model, characters, validation[:20])
    show_texts(served, args, args.generate or [""])
    if args.generate and trained_before:
        return
    scores = evaluate(model, characters, train, validation)
    training.write_metrics(args, trained, model, validation=scores)
    published = PUBLISHED if args.dataset == "tiny_shakespeare" else {}
    pictures.loss_over_time(args.output / "curves.png", trained, published)
    found = unit_search.search(model, characters, validation)
    pictures.coloured_text(args.output / "units.png", found)
    print(f"\nValidation, all {len(validation):,} characters, one behind the other:")
    for name, of in list(scores.items())[2:]:
        bits = f"{of['bits']:.4f} bits a character; {of['bits_a_byte']:.4f} bits a byte"
        print(f"  {name:16} {of['nats']:.4f} nats, {bits}")
    print("What single units follow:", *(line["title"] for line in found), sep="\n  ")

    version = publishing.publish(model, args.saved_models / args.recipe, served, args.keep)
    print(f"Exported to {version}; pictures and metrics are in {args.output}.")


if __name__ == "__main__":
    command_line.run(main, ARGS)
