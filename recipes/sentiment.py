"""Sentiment: whether a review speaks well or badly of a film; or any classes of any texts.

    python recipes/sentiment.py                        # IMDB, from TFDS
    python recipes/sentiment.py --data reviews.csv     # a table of your own
    python recipes/sentiment.py --dataset glue/sst2    # any dataset of TFDS: a text, a label
    python recipes/sentiment.py --dataset sample       # built-in reviews, no download
    python recipes/sentiment.py --unidirectional       # for text that arrives in pieces

A table is CSV, TSV, JSON lines or Parquet, with a column of texts and one of classes.

What a word says depends on its place ("good, not bad" and "bad, not good"): a
bidirectional recurrent network reads the review, and the strongest answer of each unit,
over all words, decides (max-pooling, as in Johnson & Zhang 2016). Raw text goes in; its
cleaning, splitting, numbering, padding and masking are part of the model. Read in one
direction only, a text can be scored while it arrives: the export then has the signature
`stream`, whose states go in and come out.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # to be run from anywhere

from recipes.common import command_line, word_vectors

EPOCHS = {"imdb": 4, "sample": 4}


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = command_line.parser("sentiment", __doc__, EPOCHS, any_dataset=True)
    add, file = parser.add_argument, command_line.file
    add("--data", type=file, metavar="FILE", help="a table of texts and their classes")
    add("--text", metavar="COLUMN", help="of the texts; default: found, if there is one")
    add("--label", metavar="COLUMN", help="of the classes; default: found, if there is one")
    add("--test", type=file, dest="test_data", metavar="FILE",
        help="a table to be tested on; default: a tenth of --data")  # fmt: skip
    add("--encoding", help="of the tables, if not UTF-8, such as latin-1")
    add("--unidirectional", action="store_true", help="read forwards only, and export a stream")
    word_vectors.add_argument(parser)
    args = command_line.parse(parser, argv)
    if not args.data and (args.text or args.label or args.test_data or args.encoding):
        parser.error("--text, --label, --test and --encoding are of tables: give --data FILE")
    return args


if __name__ == "__main__":
    ARGS = command_line.start(arguments)  # before what takes seconds to import

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from keras import ops
from sklearn.metrics import confusion_matrix

import layers
from layers.exchange import checks
from recipes.common import (
    batching,
    classification,
    labelled_texts,
    pictures,
    publishing,
    training,
)
from recipes.common.cells import CELLS
from recipes.common.samples import reviews

LABELS = ["negative", "positive"]
BATCH = 32
EXAMPLES = ["The film was good, not bad.", "The film was bad, not good."]
LONGEST = 800  # words read of a review; 3% of IMDB's are longer
Reviews = tuple[list[str], list[int]]  # the texts and their labels


# --- Data: texts, and a label for each ---------------------------------------------------


def load(dataset: str, seed: int) -> tuple[dict[str, Reviews], list[str]]:
    """({"train" | "validation" | "test": (texts, labels)}, the names of the classes)."""
    if dataset == "sample":
        sizes = {"train": 4000, "validation": 500, "test": 500}
        return {part: reviews.reviews(n, f"{seed}/{part}") for part, n in sizes.items()}, LABELS
    if dataset == "imdb":
        data, _ = labelled_texts.from_tfds("imdb_reviews")
        texts, labels = data["train"]
        order = np.random.default_rng(0).permutation(len(texts))
        parts = {"validation": order[:2500], "train": order[2500:]}
        data |= {s: ([texts[i] for i in p], [labels[i] for i in p]) for s, p in parts.items()}
        return data, LABELS
    data, labels = labelled_texts.from_tfds(dataset)
    return labelled_texts.split(data, labels, seed), labels


def batches(data: Reviews, shuffle: bool) -> tf.data.Dataset:
    """Batches of (texts, labels), texts of like length together."""
    texts, labels = data
    labels = np.array(labels, "float32")[:, None]
    found = tf.data.Dataset.from_tensor_slices((np.array(texts, object), labels))
    if shuffle:
        found = found.shuffle(len(texts))
    characters = [400, 700, 900, 1200, 1600, 2200, 3000]
    lengths = tf.strings.length(texts).numpy()
    batch = BATCH if shuffle else 4 * BATCH  # without gradients, larger ones are faster
    return batching.by_length(
        found, lambda text, _: tf.strings.length(text), lengths, characters, batch
    )


# --- Model: text in, a probability for each class out --------------------------------------


def clean(texts: tf.Tensor) -> tf.Tensor:
    """Lower case, without HTML, and marks and "n't" apart from the words they stand at."""
    texts = tf.strings.lower(texts, "utf-8")
    for pattern, replacement in (
        (r"<[^>]*>", " "),
        (r"’", "'"),
        (r"n't\b", " n't"),
        (r"([^\pL\pM\pN_\s'])", r" \1 "),
        (r"'(s|re|ve|ll|d|m)\b", r" '\1"),
    ):
        texts = tf.strings.regex_replace(texts, pattern, replacement)
    return texts


def standardize(texts: tf.Tensor) -> tf.Tensor:
    """`clean`; where no spaces are written between words, each character is one."""
    letters = r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}])"
    return tf.strings.regex_replace(clean(texts), letters, r" \1 ")


def build(
    texts: list,
    cell: str,
    units: int = 128,
    embeddings: str | None = None,
    unidirectional: bool = False,
    classes: int = 2,
) -> keras.Model:
    number = keras.layers.TextVectorization(
        max_tokens=30_000, standardize=standardize, name="vocabulary"
    )
    number.adapt(tf.data.Dataset.from_tensor_slices(texts).batch(1000))

    text = keras.Input((), dtype="string", name="text")
    numbers = ops.pad(number(text)[:, :LONGEST], [[0, 0], [0, 1]])  # one place even for ""
    mask = numbers != 0
    x = word_vectors.embedding(number.get_vocabulary(), embeddings, 128)(numbers)
    x = keras.layers.SpatialDropout1D(0.5)(x)
    if unidirectional:
        read = CELLS[cell](units, return_sequences=True, return_state=True, name="read")
        x, *_ = read(x, mask=mask)
    else:
        recurrent = CELLS[cell](units, return_sequences=True)
        x = layers.Bidirectional(recurrent, name="read")(x, mask=mask)
    # Padding must not win: its outputs are zero, where a real one may be negative.
    x = ops.where(ops.expand_dims(mask, -1), x, ops.full_like(x, -1.0))
    x = keras.layers.GlobalMaxPooling1D()(x)
    x = keras.layers.Dropout(0.5)(x)
    if classes == 2:  # one number says it all: the probability of the second
        found = keras.layers.Dense(1, activation="sigmoid", name="classify")(x)
    else:
        found = keras.layers.Dense(classes, activation="softmax", name="classify")(x)
    return keras.Model(text, found, name="sentiment")


def probabilities(found: tf.Tensor) -> tf.Tensor:
    """(batch, classes), from what the model puts out."""
    return tf.concat([1 - found, found], axis=-1) if found.shape[-1] == 1 else found


# --- Evaluation ---------------------------------------------------------------------------


def evaluate(model: keras.Model, data: Reviews, classes: int) -> tuple[dict, np.ndarray]:
    """(scores, the confusion matrix)."""
    pairs = [(labels.numpy(), model.predict_on_batch(t)) for t, labels in batches(data, False)]
    truth, found = (np.concatenate(x) for x in zip(*pairs))
    truth, predicted = truth[:, 0].astype(int), np.argmax(probabilities(found), axis=-1)
    matrix = confusion_matrix(truth, predicted, labels=range(classes))
    return {"reviews": len(truth), **classification.score(truth, predicted)}, matrix


# --- Export: sentences in; a label and the probabilities of all out ------------------------

# In a request to the export, so that its memory is bounded:
MOST_TEXTS = 256
MOST_BYTES = 2**26  # each text padded to the longest


def bounded(name: str, texts: tf.Tensor) -> tf.Tensor:
    """`texts`, the input `name`, once it is known not to be too large."""
    rows = tf.size(texts, tf.int64)
    lengths = tf.cast(tf.strings.length(texts), tf.int64)
    padded = rows * tf.reduce_max(tf.concat([[0], lengths], 0))
    texts = checks.at_most(MOST_TEXTS, "texts", name, texts, rows)
    return checks.at_most(MOST_BYTES, "bytes, padded to the longest", name, texts, padded)


def answer(found: tf.Tensor, labels: list[str]) -> dict[str, tf.Tensor]:
    """The outputs, from what the model puts out."""
    each = probabilities(found)
    label = tf.gather(tf.constant(labels), tf.argmax(each, axis=-1))
    return {"label": label, "probabilities": each}


def signatures(
    model: keras.Model, labels: list[str] = LABELS, examples: list[str] = EXAMPLES
) -> dict:
    def classify(sentences):
        sentences = checks.shaped(sentences, [None])
        sentences = bounded("sentences", sentences)
        return answer(model(sentences, training=False), labels)

    specs, example = {"sentences": tf.TensorSpec([None], tf.string)}, {"sentences": examples}
    found = {"serving_default": (classify, specs, example)}
    one_direction = isinstance(model.get_layer("read"), layers.RNN)
    return {**found, **(stream_signatures(model, labels, examples[:1]) if one_direction else {})}


# --- Export of a stream: pieces of text and states in; the answer so far and states out -----


def split_off_tail(texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """(what is read alike whatever follows, the rest), wherever a text was cut.

    The rest starts at a tag not closed yet, or else behind the last space or tag: inside
    a word nothing is decided. `\\C` is any byte, also of half a character.
    """
    after_tags = tf.strings.regex_replace(texts, r"^\C*>", "")
    before_open = tf.strings.regex_replace(after_tags, r"<\C*$", "")
    whole_words = tf.strings.regex_replace(before_open, r"^(\C*\s)?\C*$", r"\1")
    length = tf.strings.length(texts)
    cut = length - tf.strings.length(after_tags) + tf.strings.length(whole_words)
    read = tf.strings.substr(texts, tf.zeros_like(cut), cut)
    return read, tf.strings.substr(texts, cut, length - cut)


def stream_signatures(model: keras.Model, labels: list[str], example: list[str]) -> dict:
    """The states of a stream, by name:

    tail_bytes   string [batch], the end of the text, in which no word is sure yet. (By the
                 end of its name TF Serving's REST API knows that it may be no UTF-8.)
    words_read   int32 [batch], up to LONGEST
    highest      float [batch, units], the strongest answer of each unit so far
    state_0, …   float [batch, units], the recurrent states
    """
    read = model.get_layer("read")
    sizes = {"highest": read.cell.units}
    sizes |= {f"state_{i}": size for i, size in enumerate(read.cell.state_sizes)}

    def go_on(text, words_read, highest, *states):
        """The states after the words of `text`, as far as they are among the first LONGEST."""
        numbers = model.get_layer("vocabulary")(text)[:, :LONGEST]
        numbers = tf.pad(numbers, [[0, 0], [0, 1]])  # as in `build`
        place = words_read[:, None] + tf.range(tf.shape(numbers)[1])
        mask = (numbers != 0) & (place < LONGEST)
        x = model.get_layer("embedding")(numbers)
        x, *states = read(x, initial_state=list(states), mask=mask)
        x = tf.where(mask[..., None], x, -1.0)
        words_read += tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)
        return words_read, tf.maximum(highest, tf.reduce_max(x, axis=1)), *states

    inputs = {"chunk": tf.string, "tail_bytes": tf.string, "words_read": tf.int32}
    inputs = {name: tf.TensorSpec([None], kind) for name, kind in inputs.items()}
    inputs |= {name: tf.TensorSpec([None, size]) for name, size in sizes.items()}

    def stream(*given):
        given = {n: checks.shaped(x, list(inputs[n].shape)) for n, x in zip(inputs, given)}
        given = checks.same_batch(given)
        words_read = checks.between("words_read", given["words_read"], 0, LONGEST)
        numbers = [checks.finite(name, given[name]) for name in sizes]
        text = tf.strings.join([given["tail_bytes"], given["chunk"]])
        text = bounded("chunk", text)
        whole_words, tail = split_off_tail(text)
        words_read, *numbers = go_on(whole_words, words_read, *numbers)
        _, highest, *_ = go_on(tail, words_read, *numbers)  # as if nothing followed
        tail = tf.where(words_read < LONGEST, tail, "")
        states = {"tail_bytes": tail, "words_read": words_read, **dict(zip(sizes, numbers))}
        return {**answer(model.get_layer("classify")(highest), labels), **states}

    def initial_state(batch_size):
        batch_size = checks.batch_size(batch_size)
        numbers = {name: tf.zeros([batch_size, size]) for name, size in sizes.items()}
        return {
            "tail_bytes": tf.fill([batch_size], ""),
            "words_read": tf.fill([batch_size], 0),
            **numbers,
            "highest": numbers["highest"] - 1.0,  # what padding has in `build`
        }

    example = {"chunk": example, **initial_state(tf.constant(1))}
    return {
        "stream": (stream, inputs, example),
        "initial_state": (
            initial_state,
            {"batch_size": tf.TensorSpec([], tf.int32)},
            {"batch_size": 1},
        ),
    }


def main(args: argparse.Namespace) -> None:
    data, labels = labelled_texts.from_table(args) if args.data else load(args.dataset, args.seed)
    args.epochs = args.epochs or training.enough_epochs(len(data["train"][0]), BATCH, 2000)
    training.begin(args, data, labels)
    train = batches(data["train"], shuffle=True).take(args.steps or -1)
    validation = batches(data["validation"], shuffle=False)
    model = build(
        data["train"][0],
        args.cell,
        embeddings=args.embeddings,
        unidirectional=args.unidirectional,
        classes=len(labels),
    )
    rate = keras.optimizers.schedules.CosineDecay(1e-3, args.epochs * len(train))
    optimizer = keras.optimizers.Adam(rate, clipnorm=1.0)
    loss = "binary_crossentropy" if len(labels) == 2 else "sparse_categorical_crossentropy"
    model.compile(optimizer, loss, metrics=["accuracy"])
    model.summary()

    trained = training.fit(model, train, validation, args, best=("val_accuracy", "max"))
    scores, _ = evaluate(model, data["validation"], len(labels))
    test, confusion = evaluate(model, data["test"], len(labels))
    simpler = classification.baselines(data["train"], data["test"], standardize)
    training.write_metrics(args, trained, model, validation=scores, test={**test, **simpler})
    pictures.curves(args.output / "curves.png", trained["history"], trained["best_epoch"])
    name = args.data.name if args.data else args.dataset
    title = f"{name}, {args.cell}: {test['accuracy']:.2%} of {test['reviews']} texts"
    pictures.confusion(args.output / "confusion.png", confusion, labels, title)
    pd.DataFrame(confusion, labels, labels).to_csv(args.output / "confusion.csv")
    print(f"Test, {test['reviews']} texts:")
    for name, found in {"this network": test, **simpler}.items():
        print(f"  {name:40} accuracy {found['accuracy']:.2%}  macro-F1 {found['macro_f1']:.4f}")

    examples = EXAMPLES if labels == LABELS else data["test"][0][:2]
    served = signatures(model, labels, examples)
    version = publishing.publish(model, args.saved_models / args.recipe, served, args.keep)
    print(f"Exported to {version}; pictures and metrics are in {args.output}.")
    found = served["serving_default"][0](tf.constant(examples))
    for text, label, each in zip(examples, found["label"].numpy(), found["probabilities"].numpy()):
        print(f"  {text}  {label.decode()} ({each.max():.2f})")


if __name__ == "__main__":
    command_line.run(main, ARGS)
