"""Sentiment: whether a review speaks well or badly of a film.

    python recipes/sentiment.py                     # IMDB, from TFDS
    python recipes/sentiment.py --dataset sample    # built-in reviews, no download

What a word says depends on its place ("good, not bad" and "bad, not good"): a
bidirectional recurrent network reads the review, and the strongest answer of each unit,
over all words, decides (max-pooling, as in Johnson & Zhang 2016). Raw text goes in; its
cleaning, splitting, numbering, padding and masking are part of the model.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # to be run from anywhere

import keras
import numpy as np
import tensorflow as tf
from keras import ops

import layers
from recipes import (
    batching,
    command_line,
    pictures,
    prepared_data,
    publishing,
    training,
    word_vectors,
)
from recipes.samples import reviews

EPOCHS = {"imdb": 4, "sample": 4}
LABELS = ["negative", "positive"]
BATCH = 32
EXAMPLES = ["The film was good, not bad.", "The film was bad, not good."]
LONGEST = 800  # words read of a review; 3% of IMDB's are longer
Reviews = tuple[list, list[int]]  # the texts and their labels


# --- Data: texts, and a label for each ---------------------------------------------------


def load(dataset: str, seed: int) -> dict[str, Reviews]:
    """{"train" | "validation" | "test": (texts, labels)}."""
    if dataset == "sample":
        sizes = {"train": 4000, "validation": 500, "test": 500}
        return {split: reviews.reviews(n, f"{seed}/{split}") for split, n in sizes.items()}

    splits, _ = prepared_data.load("imdb_reviews")

    def read(split):
        pairs = [(e["text"], e["label"]) for e in splits[split].as_numpy_iterator()]
        return [text for text, _ in pairs], [int(label) for _, label in pairs]

    texts, labels = read("train")
    order = np.random.default_rng(0).permutation(len(texts))
    parts = {"validation": order[:2500], "train": order[2500:]}
    data = {s: ([texts[i] for i in p], [labels[i] for i in p]) for s, p in parts.items()}
    return {**data, "test": read("test")}


def batches(data: Reviews, shuffle: bool) -> tf.data.Dataset:
    """Batches of (texts, labels), texts of like length together."""
    texts, labels = data
    labels = np.array(labels, "float32")[:, None]
    found = tf.data.Dataset.from_tensor_slices((np.array(texts, object), labels))
    if shuffle:
        found = found.shuffle(len(texts))
    characters = [400, 700, 900, 1200, 1600, 2200, 3000]
    lengths = tf.strings.length(texts).numpy()
    return batching.by_length(
        found, lambda text, _: tf.strings.length(text), lengths, characters, BATCH
    )


# --- Model: text in, the probability that it is positive out -------------------------------


def clean(texts: tf.Tensor) -> tf.Tensor:
    """Lower case, without HTML, and marks and "n't" apart from the words they stand at."""
    texts = tf.strings.lower(texts, "utf-8")
    for pattern, replacement in (
        (r"<[^>]*>", " "),
        (r"’", "'"),
        (r"n't\b", " n't"),
        (r"([^\pL\pN_\s'])", r" \1 "),
        (r"'(s|re|ve|ll|d|m)\b", r" '\1"),
    ):
        texts = tf.strings.regex_replace(texts, pattern, replacement)
    return texts


def build(texts: list, cell: str, units: int = 128, embeddings: str | None = None) -> keras.Model:
    number = keras.layers.TextVectorization(max_tokens=30_000, standardize=clean, name="vocabulary")
    number.adapt(tf.data.Dataset.from_tensor_slices(texts).batch(1000))

    text = keras.Input((), dtype="string", name="text")
    numbers = ops.pad(number(text)[:, :LONGEST], [[0, 0], [0, 1]])  # one place even for ""
    mask = numbers != 0
    x = word_vectors.embedding(number.get_vocabulary(), embeddings, 128)(numbers)
    x = keras.layers.SpatialDropout1D(0.5)(x)
    recurrent = command_line.CELLS[cell](units, return_sequences=True)
    x = layers.Bidirectional(recurrent, name="read")(x, mask=mask)
    # Padding must not win: its outputs are zero, where a real one may be negative.
    x = ops.where(ops.expand_dims(mask, -1), x, ops.full_like(x, -1.0))
    x = keras.layers.GlobalMaxPooling1D()(x)
    x = keras.layers.Dropout(0.5)(x)
    probability = keras.layers.Dense(1, activation="sigmoid", name="positive")(x)
    return keras.Model(text, probability, name="sentiment")


# --- Evaluation ---------------------------------------------------------------------------


def evaluate(model: keras.Model, data: Reviews) -> tuple[dict, np.ndarray]:
    """(scores, the confusion matrix)."""
    pairs = [(labels.numpy(), model.predict_on_batch(t)) for t, labels in batches(data, False)]
    truth, probability = (np.concatenate(x)[:, 0] for x in zip(*pairs))
    predicted = probability > 0.5
    scores = {"reviews": len(truth), "accuracy": float(np.mean(predicted == truth))}
    return scores, tf.math.confusion_matrix(truth, predicted, 2).numpy()


# --- Export: sentences in; a label and the probabilities of both out -----------------------


def signatures(model: keras.Model) -> dict:
    def classify(sentences):
        positive = model(sentences, training=False)[:, 0]
        probabilities = tf.stack([1 - positive, positive], axis=-1)
        label = tf.gather(tf.constant(LABELS), tf.argmax(probabilities, axis=-1))
        return {"label": label, "probabilities": probabilities}

    return {
        "serving_default": (
            classify,
            {"sentences": tf.TensorSpec([None], tf.string)},
            {"sentences": EXAMPLES},
        ),
    }


def main(argv: list[str] | None = None) -> None:
    parser = command_line.parser("sentiment", __doc__, EPOCHS)
    word_vectors.add_argument(parser)
    args = command_line.parse(parser, argv)
    data = load(args.dataset, args.seed)
    train = batches(data["train"], shuffle=True).take(args.steps or -1)
    validation = batches(data["validation"], shuffle=False)
    model = build(data["train"][0], args.cell, embeddings=args.embeddings)
    rate = keras.optimizers.schedules.CosineDecay(1e-3, args.epochs * len(train))
    optimizer = keras.optimizers.Adam(rate, clipnorm=1.0)
    model.compile(optimizer, "binary_crossentropy", metrics=["accuracy"])
    model.summary()

    trained = training.fit(model, train, validation, args, best=("val_accuracy", "max"))
    scores, _ = evaluate(model, data["validation"])
    test, confusion = evaluate(model, data["test"])
    training.write_metrics(args, trained, model, validation=scores, test=test)
    pictures.curves(args.output / "curves.png", trained["history"], trained["best_epoch"])
    title = f"{args.dataset}, {args.cell}: {test['accuracy']:.2%} of {test['reviews']} reviews"
    pictures.confusion(args.output / "confusion.png", confusion, LABELS, title)
    print(f"Test: {test['accuracy']:.2%} of {test['reviews']} reviews are classified correctly.")

    served = signatures(model)
    version = publishing.publish(model, args.saved_models / args.recipe, served, args.keep)
    print(f"Exported to {version}; pictures and metrics are in {args.output}.")
    for sentence in EXAMPLES:
        answer = served["serving_default"][0](tf.constant([sentence]))
        label, probability = answer["label"].numpy()[0].decode(), answer["probabilities"][0]
        print(f"  {sentence}  {label} ({probability[LABELS.index(label)]:.2f})")


if __name__ == "__main__":
    main()
