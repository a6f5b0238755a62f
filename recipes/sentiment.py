"""Sentiment: whether a review speaks well or badly of a film; or any classes of any texts.

    python recipes/sentiment.py                        # IMDB, from TFDS
    python recipes/sentiment.py --data reviews.csv     # a table of your own
    python recipes/sentiment.py --dataset glue/sst2    # any dataset of TFDS: a text, a label
    python recipes/sentiment.py --dataset sample       # built-in reviews, no download
    python recipes/sentiment.py --unidirectional       # for text that arrives in pieces
    python recipes/sentiment.py --pretrained FORWARDS BACKWARDS  # from language models

A table is CSV, TSV, JSON lines or Parquet, with a column of texts and one of classes.

Two models answer together. What a word says depends on its place ("good, not bad" and "bad,
not good"): a bidirectional recurrent network reads the review, and the strongest answer of
each unit, over all words, decides (max-pooling, as in Johnson & Zhang 2016); from language
models, its mean and its last answer as well. By itself it tells frequent words apart, no
others. What short phrases say, wherever they stand, a linear model on n-grams knows better
(Wang & Manning 2012). Validation data decide how much each has to say; then the n-grams
learn from them, too. Raw text goes in; its cleaning, splitting, numbering, padding and
masking are part of the model.

What order says in a sentence or two, whole reviews don't teach. For IMDB the network also learns
from short opinions made up by rules of English, and short texts are answered by it alone.

Read by the network alone, and in one direction, a text can be scored while it arrives: the
export then has the signature `stream`, whose states go in and come out.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # to be run from anywhere

from recipes.common import command_line, encoders, word_vectors

EPOCHS = {"imdb": 4, "sample": 4}
BATCH = 32


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = command_line.parser(
        "sentiment", __doc__, EPOCHS, batch=f"{BATCH} texts", any_dataset=True
    )
    command_line.add_runtimes(parser)
    add, file = parser.add_argument, command_line.file
    add("--data", type=file, metavar="FILE", help="a table of texts and their classes")
    add("--text", metavar="COLUMN", help="of the texts; default: detected")
    add("--label", metavar="COLUMN", help="of the classes; default: detected")
    add("--test", type=file, dest="test_data", metavar="FILE",
        help="a table to be tested on; default: a tenth of --data")  # fmt: skip
    add("--encoding", help="of the tables, if not UTF-8, such as latin-1")
    add("--unidirectional", action="store_true", help="read forwards only, and export a stream")
    word_vectors.add_argument(parser)
    encoders.add_argument(parser)
    args = command_line.parse(parser, argv)
    if not args.data and (args.text or args.label or args.test_data or args.encoding):
        parser.error("--text, --label, --test and --encoding are of tables: give --data FILE")
    if args.pretrained and (args.embeddings or len(args.pretrained) > 2):
        parser.error("--pretrained: one folder or two, which have --embeddings of their own")
    return args


if __name__ == "__main__":
    ARGS = command_line.start(arguments)  # before what takes seconds to import

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from keras import ops
from scipy.optimize import minimize
from sklearn.metrics import confusion_matrix, log_loss

import layers
from recipes.common import (
    batching,
    masked_pooling,
    other_runtimes,
    pictures,
    publishing,
    small_embeddings,
    training,
)
from recipes.common.cells import CELLS
from recipes.common.row_adam import RowAdam
from recipes.common.samples import reviews, short_opinions, word_order
from recipes.common.word_dropout import WordDropout
from recipes.common.words import RULES, apart, standardize, vectorization
from recipes.parts.sentiment import classification, labelled_texts, ngrams, sentiment_export
from recipes.parts.sentiment.classification import of_each_class, to_probabilities
from recipes.parts.sentiment.labelled_texts import Part

LABELS = ["negative", "positive"]
EXAMPLES = ["The film was good, not bad.", "The film was bad, not good."]
SLOWER = {"embedding": 0.3, "read": 0.3}  # the part of the rate that pre-trained layers have
FREQUENT = 5000  # words that the network tells apart; rarer ones are names, to know films by
LONGEST = 800  # words read of a review; 3% of IMDB's are longer
OPINIONS = 40_000  # made up; the network reads them among IMDB's reviews
TOGETHER = 32  # texts whose n-grams are found at once, padded to the longest
SHORT = 30  # words and marks: of fewer, the network that knows opinions, none longer, answers alone


# --- Data: texts, and a label for each ---------------------------------------------------


def load(dataset: str, seed: int) -> tuple[dict[str, Part], list[str]]:
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


def together(*parts: Part) -> Part:
    return [x for texts, _ in parts for x in texts], [x for _, labels in parts for x in labels]


def batches(data: Part, shuffle: bool, batch: int = BATCH) -> tf.data.Dataset:
    """Batches of (texts, labels), texts of like length together."""
    texts, labels = data
    labels = np.array(labels, "float32")[:, None]
    found = tf.data.Dataset.from_tensor_slices((np.array(texts, object), labels))
    if shuffle:
        found = found.shuffle(len(texts))
    characters = [150, 400, 700, 900, 1200, 1600, 2200, 3000]
    lengths = tf.strings.length(texts).numpy()
    batch = batch if shuffle else 4 * batch  # without gradients, larger ones are faster
    return batching.by_length(
        found, lambda text, _: tf.strings.length(text), lengths, characters, batch
    )


# --- Model: text in, a probability for each class out --------------------------------------


def build(
    train: Part,
    cell: str,
    units: int = 128,
    embeddings: str | None = None,
    pretrained: encoders.Encoders | None = None,
    unidirectional: bool = False,
    classes: int = 2,
    short: int = 0,
) -> keras.Model:
    """Its outputs: the scores by "network" and "ngrams", and the probabilities by "both"; of the
    second of two classes, or of all. Texts of fewer than `short` words n-grams have no say in."""
    texts = tf.data.Dataset.from_tensor_slices(train[0])
    number = vectorization(vocabulary=pretrained.words if pretrained else None)
    if not pretrained:
        number.adapt(texts.batch(1000))

    text = keras.Input((), dtype="string", name="text")
    numbers = ops.pad(number(text), [[0, 0], [0, 1]])  # one place even for ""
    read = numbers[:, :LONGEST]
    mask = read != 0
    vocabulary = number.get_vocabulary()
    if not pretrained and not embeddings:
        vocabulary = vocabulary[:FREQUENT]
    known = WordDropout(len(vocabulary), 0.0 if pretrained else 0.1, name="known")(read)
    if pretrained:
        _, x, last = pretrained.read(known, dropout=0.3)
    else:
        if embeddings:
            embedding = word_vectors.embedding(vocabulary, embeddings)
        else:
            embedding = keras.layers.Embedding(len(vocabulary), 128, name="embedding")
        x = embedding(known)
        x = keras.layers.SpatialDropout1D(0.5)(x)
        if unidirectional:
            forwards = CELLS[cell](units, return_sequences=True, return_state=True, name="read")
            x, *_ = forwards(x, mask=mask)
        else:
            recurrent = CELLS[cell](units, return_sequences=True)
            x = layers.Bidirectional(recurrent, name="read")(x, mask=mask)
    pooled = masked_pooling.highest(x, mask)
    if pretrained and not unidirectional:
        pooled = ops.concatenate([pooled, masked_pooling.mean(x, mask), last], axis=-1)
    x = keras.layers.Dropout(0.5)(pooled)
    outputs = 1 if classes == 2 else classes  # one says it all
    scores = {"network": keras.layers.Dense(outputs, name="classify")(x)}
    both = scores["network"]
    if not unidirectional:
        linear = ngrams.most_frequent(texts.batch(TOGETHER).map(number), classes, name="ngrams")
        scores["ngrams"] = linear(numbers)
        both = ngrams.Mix(short, name="mix")([both, scores["ngrams"]], numbers)
    return keras.Model(text, {**scores, "both": to_probabilities(both)}, name="sentiment")


def one_part(model: keras.Model, name: str) -> keras.Model:
    """The part "network" or "ngrams" by itself, as a model to be trained."""
    return keras.Model(model.input, model.output[name])


def compile_model(model: keras.Model, steps: int, pretrained: bool = False) -> None:
    """Sets a part up to be trained for `steps` batches."""
    rate = keras.optimizers.schedules.CosineDecay(1e-3, steps)
    optimizer = keras.optimizers.Adam(rate, clipnorm=1.0)
    if pretrained:
        optimizer = RowAdam(rate, clipnorm=1.0, slower=SLOWER)
    if model.output.shape[-1] == 1:
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        right = keras.metrics.BinaryAccuracy("accuracy", threshold=0.0)
    else:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        right = keras.metrics.SparseCategoricalAccuracy("accuracy")
    model.compile(optimizer, loss, metrics=[right])


def teach_ngrams(model: keras.Model, data: Part, args: argparse.Namespace) -> None:
    """Counts the model's n-grams in `data`, and trains their weights, for all epochs: the
    learning rate falls to 0."""
    keras.utils.set_random_seed(args.seed)  # the same after an interruption
    layer, numbers = model.get_layer("ngrams"), model.get_layer("vocabulary")
    texts = tf.data.Dataset.from_tensor_slices(data[0]).batch(TOGETHER)
    layer.count(ngrams.of_each(texts.map(numbers)), data[1])
    linear, size = one_part(model, "ngrams"), args.batch or BATCH
    batched = batches(data, shuffle=True, batch=size).take(args.steps or -1)
    compile_model(linear, args.epochs * len(batched))
    print(f"Training the n-grams on {len(data[0])} texts:")
    linear.fit(batched, epochs=args.epochs, shuffle=False)


# --- Evaluation ---------------------------------------------------------------------------


def answers(
    model: keras.Model, data: Part, batch: int = BATCH
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(the labels, what the model puts out)."""
    batched = batches(data, shuffle=False, batch=batch)
    truth = np.concatenate([labels[:, 0] for _, labels in batched]).astype(int)
    return truth, model.predict(batched.map(lambda texts, _: texts), verbose=0)


def choose_factors(model: keras.Model, validation: Part, batch: int = BATCH) -> dict[str, float]:
    """By what the network's and the n-grams' scores are multiplied, for the answer's loss to be
    least."""
    truth, found = answers(model, validation, batch)

    def loss(factors):
        both = factors[0] * found["network"] + factors[1] * found["ngrams"]
        each = of_each_class(to_probabilities(both))
        return log_loss(truth, each, labels=range(each.shape[-1]))

    # Of few reviews the best might be 0, or have no bound.
    best = minimize(loss, [0.5, 0.5], method="Nelder-Mead", bounds=[(0.05, 2)] * 2).x
    model.get_layer("mix").factors.assign(best)
    return dict(zip(["network", "ngrams"], best.tolist()))


def evaluate(model: keras.Model, data: Part, batch: int = BATCH) -> tuple[dict, np.ndarray]:
    """(scores, the confusion matrix)."""
    truth, found = answers(model, data, batch)
    found = {n: x if n == "both" else to_probabilities(x) for n, x in found.items()}
    predicted = {name: np.argmax(of_each_class(x), axis=-1) for name, x in found.items()}
    scores = {name: classification.score(truth, x) for name, x in predicted.items()}
    classes = range(of_each_class(found["both"]).shape[-1])
    matrix = confusion_matrix(truth, predicted["both"], labels=classes)
    return {"reviews": len(truth), **scores.pop("both"), "alone": scores}, matrix


def signatures(
    model: keras.Model, labels: list[str] = LABELS, examples: list[str] = EXAMPLES
) -> dict:
    return sentiment_export.signatures(model, labels, examples, LONGEST)


def main(args: argparse.Namespace) -> None:
    training.seed(args)
    pretrained = None
    if args.pretrained:
        pretrained = encoders.Encoders(args.pretrained, CELLS[args.cell])
        if args.unidirectional and list(pretrained.models) != ["forwards"]:
            raise SystemExit("--unidirectional: give one --pretrained folder, that reads forwards.")
    size = args.batch or BATCH
    data, labels = labelled_texts.from_table(args) if args.data else load(args.dataset, args.seed)
    args.epochs = args.epochs or training.enough_epochs(len(data["train"][0]), size, 2000)
    some = apart(tf.constant(data["train"][0][:1000])).flat_values.numpy()
    some = [word.decode() for word in some]
    if pretrained:
        pretrained.say_known(some)
    elif args.embeddings:
        word_vectors.refuse_unknown(args.embeddings, {*some})
    told = pretrained.content() if pretrained else word_vectors.content(args.embeddings)
    made_up = [short_opinions.opinions(OPINIONS, args.seed)] if args.dataset == "imdb" else []
    training.begin(args, data, labels, *told, *made_up)
    train = batches(together(data["train"], *made_up), shuffle=True, batch=size)
    train = train.take(args.steps or -1)
    validation = batches(data["validation"], shuffle=False, batch=size)
    model = build(
        data["train"],
        args.cell,
        embeddings=args.embeddings,
        pretrained=pretrained,
        unidirectional=args.unidirectional,
        classes=len(labels),
        short=SHORT if made_up else 0,
    )
    model.summary()
    network = one_part(model, "network")
    compile_model(network, args.epochs * len(train), bool(pretrained))
    trained = training.fit(network, train, validation, args, best=("val_loss", "min"))
    small_embeddings.quantize(model)
    others = {"test": data["test"], **(word_order.parts() if args.dataset == "imdb" else {})}
    factors = {}
    if not args.unidirectional:
        teach_ngrams(model, data["train"], args)
        factors = choose_factors(model, data["validation"], size)
    evaluated = {"validation": evaluate(model, data["validation"], size)}
    if not args.unidirectional:
        teach_ngrams(model, together(data["train"], data["validation"]), args)
    evaluated |= {part: evaluate(model, each, size) for part, each in others.items()}
    parts = {"validation": data["validation"], **others}
    simpler = classification.baselines(data["train"], parts, standardize)
    found = {part: {**scores, **simpler[part]} for part, (scores, _) in evaluated.items()}
    test, confusion = found["test"], evaluated["test"][1]
    training.write_metrics(args, trained, model, factors=factors, **found)
    pictures.curves(args.output / "curves.png", trained["history"], trained["best_epoch"])
    title = f"{args.output.name}: {test['accuracy']:.2%} of {test['reviews']} texts"
    pictures.confusion(args.output / "confusion.png", confusion, labels, title)
    pd.DataFrame(confusion, labels, labels).to_csv(args.output / "confusion.csv")
    for part, each in found.items():
        alone = {f"{name} alone": score for name, score in each["alone"].items()}
        title = f"{part.capitalize()}, {each['reviews']} texts"
        classification.show(title, {"this model": each, **alone, **simpler[part]})

    examples = EXAMPLES if labels == LABELS else [text[:500] for text in data["test"][0][:2]]
    served = signatures(model, labels, examples)
    version = publishing.publish(model, args.saved_models / args.recipe, served, args.keep)
    print(f"Exported to {version}; pictures and metrics are in {args.output}.")
    found = served["serving_default"][0](tf.constant(examples))
    for text, label, each in zip(examples, found["label"].numpy(), found["probabilities"].numpy()):
        print(f"  {text}  {label.decode()} ({each.max():.2f})")
    other_runtimes.write(
        args,
        lambda: sentiment_export.numeric(model, RULES, labels, LONGEST),
        lambda model: evaluate(model, data["test"], size)[0],
        lambda: data["train"][0][:200],
    )


if __name__ == "__main__":
    command_line.run(main, ARGS)
