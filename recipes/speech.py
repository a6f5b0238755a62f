"""Speech: which word a recording holds, from its samples.

    python recipes/speech.py                             # spoken digits, from TFDS
    python recipes/speech.py --test-speaker theo         # trained on others, tested on him
    python recipes/speech.py --split shared              # every speaker in training and test
    python recipes/speech.py --data speech_commands      # a folder of recordings for each word
    python recipes/speech.py --dataset sample            # built-in voices, no download

A front end in the graph makes a log-mel spectrum of each 10 milliseconds
(recipes/common/log_mel.py). Recurrent layers read it from both ends, and the word is told from
the mean and the maximum of what they say over time.

Five speakers are few. In training a recording is now faster, now slower, louder or less, between
other silences and in other noise, and parts of its spectrum are left out (SpecAugment, Park et
al. 2019). Who is tested on is in no other part; another speaker validates.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # to be run from anywhere

from recipes.common import command_line

EPOCHS = {"spoken_digit": 40, "sample": 8}


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = command_line.parser("speech", __doc__, EPOCHS, "gru", other=30)
    add = parser.add_argument
    add("--data", type=command_line.sounds, metavar="FOLDER",
        help="a folder of WAV or FLAC files for each word")  # fmt: skip
    add("--split", choices=("speakers", "shared"), help="who is tested on is heard in training, "
        "too (shared), or not; default: speakers")  # fmt: skip
    add("--test-speaker", metavar="NAME", help="default: the last one")
    args = command_line.parse(parser, argv)
    if args.data and (args.split or args.test_speaker):
        parser.error("--split and --test-speaker are of the known datasets, not of --data")
    if args.split == "shared" and args.test_speaker:
        parser.error("--split shared tests on all speakers: leave out --test-speaker")
    args.split = args.split or "speakers"
    return args


if __name__ == "__main__":
    ARGS = command_line.start(arguments)  # before what takes seconds to import

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from sklearn.metrics import confusion_matrix

import layers
from recipes.common import pictures, publishing, recordings, speech_export, training
from recipes.common import sound_augmentation as augmentation
from recipes.common.cells import CELLS
from recipes.common.log_mel import LogMel
from recipes.common.recordings import Recording

RATE = 8000  # that all is brought to
BATCH = 16


# --- Data: recordings, and the number of the word in each --------------------------------------


def batches(data: list[Recording], words: list[str], vary: bool) -> tf.data.Dataset:
    """Batches of ({"samples": padded with 0, "lengths": before that}, the words' numbers)."""

    def each():
        random = np.random.default_rng(np.random.randint(2**31))  # goes on with training.seed's
        for i in random.permutation(len(data)) if vary else range(len(data)):
            samples, text, *_ = data[i]
            samples = augmentation.varied([samples], random, RATE) if vary else samples
            yield {"samples": samples, "lengths": len(samples)}, words.index(text)

    scalar = tf.TensorSpec([], tf.int32)
    specs = {"samples": tf.TensorSpec([None]), "lengths": scalar}, scalar
    found = tf.data.Dataset.from_generator(each, output_signature=specs).padded_batch(BATCH)
    count = -(-len(data) // BATCH)
    return found.apply(tf.data.experimental.assert_cardinality(count)).prefetch(2)


# --- Model: samples in, a logit for each word out -----------------------------------------------


def build(train: list[Recording], words: list[str], cell: str, units: int = 64) -> keras.Model:
    samples = keras.Input((None,), name="samples")
    lengths = keras.Input((), dtype="int32", name="lengths")
    hear = LogMel(RATE, name="log_mel")
    hear.adapt([recording.samples for recording in train[:: 1 + len(train) // 300]])
    # Nothing at all makes a step, too.
    x, mask = hear(ops.pad(samples, [[0, 0], [0, hear.needed]]), ops.maximum(lengths, hear.needed))
    real = ops.expand_dims(mask, -1)
    loud = ops.where(real, ops.mean(x, axis=-1, keepdims=True), -1e9)
    x -= ops.sum(ops.softmax(loud, axis=1) * x, axis=1, keepdims=True)  # the voice's mean
    x = augmentation.SpecAugment(hear.bands, name="spec_augment")(x)
    for depth in (1, 2):
        recurrent = CELLS[cell](units, return_sequences=True)
        x = layers.Bidirectional(recurrent, name=f"read_{depth}")(x, mask=mask)
        x = keras.layers.Dropout(0.3)(x)
    highest = ops.max(ops.where(real, x, -1.0), axis=1)
    count = ops.sum(ops.cast(real, x.dtype), axis=1)
    mean = ops.sum(ops.where(real, x, 0.0), axis=1) / count
    x = keras.layers.Dropout(0.3)(ops.concatenate([highest, mean], axis=-1))
    logits = keras.layers.Dense(len(words), name="words")(x)
    return keras.Model({"samples": samples, "lengths": lengths}, logits, name="speech")


def compile_model(model: keras.Model, steps: int) -> None:
    """Sets the model up to be trained for `steps` batches."""
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate, clipnorm=1.0), loss, metrics=["accuracy"])


# --- Evaluation and export ----------------------------------------------------------------------


def evaluate(
    model: keras.Model, data: list[Recording], words: list[str]
) -> tuple[dict, np.ndarray]:
    """(scores, the confusion matrix)."""
    truth = [words.index(recording.text) for recording in data]
    found = model.predict(batches(data, words, vary=False).map(lambda x, _: x), verbose=0)
    matrix = confusion_matrix(truth, found.argmax(axis=-1), labels=range(len(words)))
    return {"recordings": len(data), "accuracy": float(np.trace(matrix) / len(data))}, matrix


def main(args: argparse.Namespace) -> None:
    training.seed(args)
    data = recordings.load(args, RATE)
    words = sorted({recording.text for recording in data["train"]})
    training.begin(args, data)
    train = batches(data["train"], words, vary=True).take(args.steps or -1)
    validation = batches(data["validation"], words, vary=False)
    model = build(data["train"], words, args.cell)
    compile_model(model, args.epochs * len(train))
    model.summary()

    trained = training.fit(model, train, validation, args, best=("val_accuracy", "max"))
    scores, _ = evaluate(model, data["validation"], words)
    test, confusion = evaluate(model, data["test"], words)
    training.write_metrics(args, trained, model, validation=scores, test=test)
    pictures.curves(args.output / "curves.png", trained["history"], trained["best_epoch"])
    name = args.data.name if args.data else args.dataset
    title = f"{name}, {args.cell}: {test['accuracy']:.2%} of {test['recordings']} recordings"
    pictures.confusion(args.output / "confusion.png", confusion, words, title)
    print(f"Test, {test['recordings']} recordings: accuracy {test['accuracy']:.2%}")

    example = data["test"][0]
    served = speech_export.word_signatures(model, words, example.samples, RATE)
    version = publishing.publish(model, args.saved_models / args.recipe, served, args.keep)
    print(f"Exported to {version}; pictures and metrics are in {args.output}.")


if __name__ == "__main__":
    command_line.run(main, ARGS)
