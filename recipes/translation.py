"""Machine translation: a sentence in, the same in another language out.

    python recipes/translation.py --dataset sample                 # numbers, in words into digits
    python recipes/translation.py --data train.de train.en --validation val.de val.en \\
        --test test.de test.en
    python recipes/translation.py --data pairs.tsv                 # a tab between the two

A recurrent network reads the sentence in both directions. A second one writes its translation,
word by word, each from the words before it; at each it looks back at all that was read, and
chooses what it needs (Bahdanau et al. 2015). What it chose is known in the next step (input
feeding, Luong et al. 2015). A beam search finds the translation that is most probable as a whole.

Words are cut into pieces, 6000 for both languages, so that none is unknown; in training, in another
way each time (Kudo 2018). With so few sentences, that, dropout and a truth made less sure (label
smoothing) are what the score depends on.

The export takes sentences as they are. It says what each piece of a translation was drawn from, how
good it finds it, and which others come near; and it shows a translation while it is written.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # to be run from anywhere

from recipes.common import command_line

EPOCHS = {"sample": 3}
BATCH = 64


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = command_line.parser("translation", __doc__, EPOCHS, batch=f"{BATCH} pairs")
    add = parser.add_argument
    file = {"type": command_line.file, "nargs": "+", "metavar": "FILE"}
    add("--data", **file, help="two files, line by line; or one with tabs between; also .gz")
    drawn = "like --data; default: drawn from it, by --seed"
    add("--validation", **file, dest="validation_data", help=drawn)
    add("--test", **file, dest="test_data", help=drawn)
    add("--encoding", help="of the files; default: UTF-8")
    add(
        "--pieces",
        type=command_line.positive,
        default=6000,
        help="size of the vocabulary of pieces of words; default: 6000",
    )
    command_line.add_runtimes(parser)
    args = command_line.parse(parser, argv)
    for option, files in (
        ("--data", args.data),
        ("--validation", args.validation_data),
        ("--test", args.test_data),
    ):
        if files and not args.data:
            parser.error(f"{option} goes with --data FILE")
        if files and len(files) > 2:
            parser.error(f"{option} takes one file, or two, got {len(files)}")
    if args.encoding and not args.data:
        parser.error("--encoding is of files: give --data FILE")
    return args


if __name__ == "__main__":
    ARGS = command_line.start(arguments)  # before what takes seconds to import

import keras
import numpy as np
import tensorflow as tf
from keras import ops

import layers
from recipes.common import other_runtimes, pictures, publishing, subwords, training
from recipes.common.cells import CELLS
from recipes.common.samples import number_words
from recipes.common.subwords import END, PAD, Subwords
from recipes.common.tied_softmax import TiedSoftmax
from recipes.parts.translation import parallel_texts, translation_export, translation_scores
from recipes.parts.translation.label_smoothing import SmoothedCrossentropy
from recipes.parts.translation.parallel_texts import Pairs
from recipes.parts.translation.translation_export import Translator

LONGEST = 100  # pieces of a sentence to train on
SMALL = {"units": 128, "dimension": 64, "dropout": 0.1}  # for the sample
SHOWN = 3


# --- Data: pairs of sentences, in pieces of words --------------------------------------------


def load(args: argparse.Namespace) -> dict[str, Pairs]:
    """{"train" | "validation" | "test": [(sentence, translation)]}."""
    if args.data:
        return parallel_texts.from_files(args)
    pairs = number_words.pairs(21_000, f"{args.seed}")
    order = np.random.default_rng(args.seed).permutation(len(pairs))
    ends = {"test": (0, 500), "validation": (500, 1000), "train": (1000, None)}
    return {name: [pairs[i] for i in order[slice(*end)]] for name, end in ends.items()}


def batches(pairs: Pairs, known: Subwords, training: bool, batch: int = BATCH) -> tf.data.Dataset:
    """Batches of ((sentences, what stands before), translations, weights), of like length together.

    Sentences and translations end with END, and are padded with PAD, of weight 0. With `training`
    words are cut otherwise each time.
    """
    texts = [subwords.spaced(list(side)) for side in zip(*pairs)]
    size = len(texts[0])

    def padded(rows):
        return tf.ragged.constant(rows, dtype=tf.int32).to_tensor(PAD)

    def epoch():
        cut = known.drawn if training else known.processor.encode
        read, written = cut(texts[0]), cut(texts[1])
        order = np.random.permutation(size)  # of those as long, another in each epoch
        order = sorted(order, key=lambda i: (len(written[i]), len(read[i])))
        chunks = [order[k : k + batch] for k in range(0, size, batch)]
        for k in np.random.permutation(len(chunks)) if training else range(len(chunks)):
            source, before, target = (
                padded([[*first, *rows[i], *last] for i in chunks[k]])
                for first, rows, last in (
                    ([], read, [END]),
                    ([END], written, []),
                    ([], written, [END]),
                )
            )
            yield (source, before), target, tf.cast(target != PAD, tf.float32)

    some = tf.TensorSpec([None, None], tf.int32)
    specs = (some, some), some, tf.TensorSpec([None, None], tf.float32)
    found = tf.data.Dataset.from_generator(epoch, output_signature=specs)
    return found.apply(tf.data.experimental.assert_cardinality(-(-size // batch))).prefetch(8)


def short_enough(pairs: Pairs, known: Subwords, part: str) -> Pairs:
    """Those with fewer than `LONGEST` pieces on both sides.

    Raises:
        SystemExit: If there are hardly any.
    """
    sides = [subwords.spaced(list(side)) for side in zip(*pairs)]
    lengths = np.array([[len(known.processor.encode(text)) for text in side] for side in sides])
    kept = np.flatnonzero(lengths.max(axis=0) < LONGEST)
    long = f"{len(pairs) - len(kept):,} of the {len(pairs):,} pairs to {part}"
    if len(kept) < (parallel_texts.LEAST // 2 if part == "train" else 1):
        raise SystemExit(f"{long} have {LONGEST} pieces of words or more: cut them into sentences.")
    if len(kept) < len(pairs):
        print(f"Left out, as they have {LONGEST} pieces of words or more: {long}.")
    return [pairs[i] for i in kept]


# --- Model: an encoder, and a decoder that attends to what it has read --------------------------


def build(
    known: Subwords, cell: str, units: int = 512, dimension: int = 256, dropout: float = 0.3
) -> tuple[keras.Model, Translator]:
    """(the model to train: sentences and what stands before, to logits; its two halves)."""
    # Of both languages. Much smaller, as Keras's are at first, they teach attention slowly.
    vectors = keras.initializers.RandomNormal(stddev=0.3)
    embedding = keras.layers.Embedding(len(known), dimension, vectors, name="embedding")

    source = keras.Input((None,), dtype="int32", name="source")
    x = keras.layers.Dropout(dropout)(embedding(source))
    half = CELLS[cell](units // 2, return_sequences=True, return_state=True)
    x, *states = layers.Bidirectional(half, name="read")(x, mask=source != PAD)
    x = keras.layers.Dropout(dropout)(x)
    memory = layers.AttentionMemory(units, name="memory")(x, mask=source != PAD)
    begun = []  # of the decoder's states
    for k, (ahead, back) in enumerate(zip(states[: len(states) // 2], states[len(states) // 2 :])):
        both = ops.concatenate([ahead, back], axis=-1)
        begun.append(keras.layers.Dense(units, "tanh", name=f"begin_{k}")(both))
    encoder = keras.Model(source, [*memory, ops.zeros_like(begun[0]), *begun], name="encoder")

    before = keras.Input((None,), dtype="int32", name="before")
    constants, *states = (
        [keras.Input(x.shape[1:], dtype=x.dtype) for x in part]
        for part in (encoder.outputs[:3], encoder.outputs[3:])
    )
    (states,) = states
    x = keras.layers.Dropout(dropout)(embedding(before))
    attentive = layers.AttentionCell(CELLS[cell].cell_class(units))
    write = layers.RNN(attentive, return_sequences=True, return_state=True, name="decoder")
    x, *new = write(x, initial_state=states, constants=constants)
    x = keras.layers.Dropout(dropout)(x)
    x = keras.layers.Dense(dimension, name="vectors")(x)
    logits = layers.TimeDistributed(TiedSoftmax(embedding), name="logits")(x)
    decoder = keras.Model([before, *constants, *states], [logits, *new], name="decoder_model")

    logits, *_ = decoder([before, *encoder(source)])
    model = keras.Model([source, before], logits, name="translation")
    model.vocabulary = known.number  # to be exported with it
    return model, Translator(encoder, decoder, known)


def compile_model(model: keras.Model, steps: int) -> None:
    """Sets the model up to be trained for `steps` batches."""
    rise = max(1, steps // 20)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - rise), warmup_target=3e-3, warmup_steps=rise
    )
    model.compile(
        keras.optimizers.Adam(rate, clipnorm=1.0),
        SmoothedCrossentropy(0.1),
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
    )


# --- Evaluation, pictures, export --------------------------------------------------------------


def translate(write, sentences: list[str]) -> list[str]:
    """The translations, those of like length at a time; "" of what the export refuses."""
    order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
    found, refused = [""] * len(sentences), []
    bar = keras.utils.Progbar(len(order), interval=1, unit_name="sentence")

    def ask(rows):
        try:
            answer = write(tf.constant([sentences[i] for i in rows]))["translations"].numpy()
        except tf.errors.InvalidArgumentError:  # too long, one of them or all together
            if len(rows) == 1:
                refused.extend(rows)
                return
            half = len(rows) // 2
            ask(rows[:half])
            ask(rows[half:])
            return
        for i, text in zip(rows, answer):
            found[i] = text.decode()

    for k in range(0, len(order), 32):
        ask(order[k : k + 32])
        bar.add(len(order[k : k + 32]))
    if refused:
        begin = sentences[min(refused)][:60]
        print(f"{len(refused)} are too long, and count as not translated; the first: {begin} …")
    return found


def draw_attention(path: Path, write, sentences: list[str]) -> None:
    """What each piece of a translation was drawn from."""
    drawn = []
    for sentence in sentences:
        answer = write(tf.constant([sentence]))
        sides = [[x.decode() for x in answer[side][0].numpy()] for side in ("read", "pieces")]
        if sides[1]:
            drawn.append((*sides, answer["attention"][0].numpy()))
    if drawn:
        pictures.attention(path, drawn)


def main(args: argparse.Namespace) -> None:
    training.seed(args)
    data, size = load(args), args.batch or BATCH
    args.epochs = args.epochs or training.enough_epochs(len(data["train"]), size, 5400)
    known = Subwords(subwords.learn([x for pair in data["train"] for x in pair], args.pieces))
    train = short_enough(data["train"], known, "train")
    validation = short_enough(data["validation"], known, "validate")
    example = sorted((text for text, _ in validation), key=len)[len(validation) // 2]
    # May delete an earlier run: so not before.
    training.begin(args, data, known.pieces.numpy().tolist())
    sizes = ", ".join(f"{len(pairs):,} for {name}" for name, pairs in data.items())
    print(f"Pairs of sentences: {sizes}; {len(known):,} pieces of words.")
    train = batches(train, known, training=True, batch=size).take(args.steps or -1)
    validation = batches(validation, known, training=False, batch=size)
    model, translator = build(known, args.cell, **(SMALL if args.dataset == "sample" else {}))
    compile_model(model, args.epochs * len(train))
    model.summary()

    trained = training.fit(model, train, validation, args, best=("val_loss", "min"))
    served = translation_export.signatures(translator, example)
    write = layers.without_gradients()(served["serving_default"][0])
    write = tf.function(write, [tf.TensorSpec([None], tf.string)], autograph=False)
    sources, true = (list(side) for side in zip(*data["validation"]))
    scores = translation_scores.score(translate(write, sources), true)
    sources, true = (list(side) for side in zip(*data["test"]))
    written = translate(write, sources)
    near = translation_scores.nearest(data["train"], sources)
    test = {
        "model": translation_scores.score(written, true),
        "nearest sentence's translation": translation_scores.score(near, true),
    }
    by_length = translation_scores.by_length(sources, written, true)
    test["model"]["bleu_by_words"] = by_length
    training.write_metrics(args, trained, model, validation=scores, test=test)
    pictures.curves(args.output / "curves.png", trained["history"], trained["best_epoch"])
    pictures.bars(args.output / "bleu_by_length.png", by_length, "words of the sentence", "BLEU")
    drawn = [sentence for sentence, text in zip(sources, written) if text][:SHOWN]
    draw_attention(args.output / "attention.png", write, drawn)
    for texts in list(zip(sources, written, true))[:SHOWN]:
        print("\n  sentence     {}\n  translation  {}\n  reference    {}".format(*texts))
    translation_scores.show(test)
    version = publishing.publish(model, args.saved_models / args.recipe, served, args.keep)
    print(f"Exported to {version}; pictures and metrics are in {args.output}.")

    def score(write):
        return translation_scores.score(translate(write, sources), true)

    other_runtimes.write(args, lambda: translation_export.numeric(translator), score)


if __name__ == "__main__":
    command_line.run(main, ARGS)
