"""Speech: what a recording says, from its samples.

    python recipes/speech.py                             # which digit it is; data from TFDS
    python recipes/speech.py --test-speaker theo         # trained on others, tested on him
    python recipes/speech.py --networks 3                # three of them, which hear better together
    python recipes/speech.py --split shared              # every speaker in training and test
    python recipes/speech.py --strings                   # strings of digits, as they are spoken
    python recipes/speech.py --strings --bidirectional   # … heard better, once all is there
    python recipes/speech.py --data speech_commands      # a folder of recordings for each word
    python recipes/speech.py --data spoken.csv           # whole texts, letter by letter
    python recipes/speech.py --data spoken.csv --pieces 500  # … in pieces of words
    python recipes/speech.py --dataset sample            # built-in voices, no download

A front end in the graph makes a log-mel spectrum of each 10 milliseconds. Convolutions come
first, so that a shape in the spectrum is the same shape a little higher. Then recurrent layers
read: for one word a recording, from both ends, and the word is told from the mean and the maximum
of what they say over time. With --networks, several such networks learn, each alone, and what they
say on average is told: what one mishears, the others seldom do.

For texts (--strings, or a table of texts) they look back only, and say at each step which symbol
has just been spoken, or none. When each was spoken, nobody tells them: connectionist temporal
classification adds up all possibilities (CTC, Graves et al. 2006). Such a model also answers
while someone is still speaking. With --bidirectional it looks ahead as well: it hears better, and
does not stream.

Five speakers are few. So a synthesizer reads the digits, too, with a hundred voices that nobody
has. And in training each recording is another's: faster or slower, higher or deeper, louder or
less, brighter or duller, cut off earlier, between other silences, in other noise, and parts of
its spectrum are left out (SpecAugment, Park et al. 2019). All that is in recipes/parts/speech, a
file each.

Who is tested on is in no other part; all others train, and a tenth of what they said validates.

Own recordings may have any rate and channels; they are heard at 8 kHz. ann_7.wav is by ann. Tested
on is --test-speaker; or else what a folder's testing_list.txt names (Speech Commands has one); or
else, if there are ten speakers or more, a tenth of them; or else a tenth of the recordings,
whoever speaks.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # to be run from anywhere

from recipes.common import command_line

EPOCHS = {"spoken_digit": 16, "sample": 24}
OF_STRINGS = {"spoken_digit": 30, "sample": 24}
VOICES = 100  # made up, for the spoken digits
BATCH = 16


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = command_line.parser(
        "speech", __doc__, EPOCHS, "gru", batch=f"{BATCH} recordings", other=30
    )
    add = parser.add_argument
    add("--data", type=command_line.file_or_folder, metavar="PATH", help="a folder of WAV or FLAC "
        "files for each word, or a CSV file with the columns path and text (and maybe speaker)"
    )  # fmt: skip
    add("--strings", action="store_true", help="learn strings of words, joined from recordings; "
        f"{OF_STRINGS['spoken_digit']} epochs of spoken_digit")  # fmt: skip
    add("--bidirectional", action="store_true", help="read texts from both ends: fewer errors, and "
        "no stream")  # fmt: skip
    add("--split", choices=("speakers", "shared"), help="who is tested on is heard in training, "
        "too (shared), or not; default: speakers")  # fmt: skip
    add("--test-speaker", metavar="NAME", help="kept for the test; default in known datasets: "
        "the last one")  # fmt: skip
    add("--pieces", type=command_line.positive, help="how many pieces of words to cut a "
        "table's texts into; default: letters")  # fmt: skip
    add("--made-up-voices", type=command_line.not_negative, metavar="N", help="of eSpeak NG, to "
        f"train on as well, in English; default: {VOICES} for spoken_digit, else none")  # fmt: skip
    add("--units", type=command_line.positive, default=128, help="default: 128; 22 for a phone")
    add("--networks", type=command_line.positive, default=1, help="for words: so many learn side "
        "by side, and answer together; default: 1")  # fmt: skip
    command_line.add_runtimes(parser)
    if parser.parse_known_args(argv)[0].strings:
        parser.set_defaults(epochs_of=OF_STRINGS)
    args = command_line.parse(parser, argv)
    table = args.data and args.data.is_file()
    if args.data and args.split:
        parser.error("--split is of the known datasets, not of --data")
    if args.split == "shared" and args.test_speaker:
        parser.error("--split shared tests on all speakers: leave out --test-speaker")
    if table and args.strings:
        parser.error("--strings joins words of a folder; a table's texts are read as they are")
    if args.bidirectional and not (table or args.strings):
        parser.error("--bidirectional is of texts; single words are read so anyway")
    if args.networks > 1 and (table or args.strings):
        parser.error("--networks are for single words; of texts there is one")
    if args.pieces and not table:
        parser.error("--pieces are of a table's texts: give --data FILE")
    if args.made_up_voices and table:
        parser.error("--made-up-voices say words, not a table's texts")
    args.split = args.split or "speakers"
    if args.made_up_voices is None:
        args.made_up_voices = VOICES if args.dataset == "spoken_digit" else 0
    args.texts = bool(table or args.strings)
    return args


if __name__ == "__main__":
    ARGS = command_line.start(arguments)  # before what takes seconds to import

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from sklearn.metrics import confusion_matrix

import layers
from recipes.common import masked_pooling, other_runtimes, pictures, publishing, training
from recipes.common.cells import CELLS
from recipes.parts.speech import (
    augmentation,
    ctc,
    made_up_voices,
    recordings,
    spectral_shapes,
    speech_export,
    voice_level,
    word_strings,
)
from recipes.parts.speech.ctc import Symbols
from recipes.parts.speech.log_mel import LogMel
from recipes.parts.speech.recordings import Recording

RATE = 8000  # that all is brought to
BANDS = 40  # of the spectrum
PACE_OF_TEXTS = 1.08  # at most: each symbol needs a step
FASTEST = PACE_OF_TEXTS * augmentation.FASTEST  # that a text is heard in training
HEARD = {"samples": tf.TensorSpec([None, None]), "lengths": tf.TensorSpec([None], tf.int32)}


# --- Data: recordings, and the number of the word, or the numbers of the text, of each ----------


def batches(
    data: list[Recording], words: list[str], vary: bool, batch: int = BATCH
) -> tf.data.Dataset:
    """Batches of ({"samples": padded with 0, "lengths": before that}, the words' numbers)."""

    def each(random):
        for i in random.permutation(len(data)) if vary else range(len(data)):
            sound = [data[i].samples]
            sound = augmentation.cut_off(sound, random, RATE) if vary else sound
            yield sound, words.index(data[i].text)

    return batched(each, tf.TensorSpec([], tf.int32), len(data), vary, batch)


def text_batches(
    data: list[Recording], symbols: Symbols, vary: bool, batch: int = BATCH
) -> tf.data.Dataset:
    """Batches of (samples and lengths, the numbers of the texts, padded)."""

    def each(random):
        for i in random.permutation(len(data)) if vary else range(len(data)):
            yield [data[i].samples], symbols.numbers(data[i].text)

    return batched(each, tf.TensorSpec([None], tf.int32), len(data), vary, batch)


def string_batches(data: list[Recording], symbols: Symbols, batch: int = BATCH) -> tf.data.Dataset:
    """The same, of as many strings as recordings, drawn anew in each epoch."""
    speakers = word_strings.of_speakers(data)

    def each(random):
        for _ in range(len(data)):
            count = random.integers(1, word_strings.MOST + 1)
            words = word_strings.drawn(speakers, count, random)
            sounds = augmentation.cut_off([x.samples for x in words], random, RATE)
            yield sounds, [symbols.names.index(x.text) for x in words]

    return batched(each, tf.TensorSpec([None], tf.int32), len(data), True, batch)


def batched(
    each: Callable, target: tf.TensorSpec, count: int, vary: bool, batch: int
) -> tf.data.Dataset:
    """Batches of what `each`, given a generator of random numbers, yields `count` times: the
    samples of one or more words that follow each other, and the target."""

    def prepared():
        random = np.random.default_rng(np.random.randint(2**31))  # goes on with training.seed's
        for pieces, number in each(random):
            x = augmentation.varied(pieces, random, RATE) if vary else np.concatenate(pieces)
            yield {"samples": x, "lengths": len(x)}, number

    specs = {"samples": tf.TensorSpec([None]), "lengths": tf.TensorSpec([], tf.int32)}, target
    found = tf.data.Dataset.from_generator(prepared, output_signature=specs)
    padding = {"samples": 0.0, "lengths": 0}, ctc.PADDING
    found = found.padded_batch(batch, padding_values=padding)
    return found.apply(tf.data.experimental.assert_cardinality(-(-count // batch))).prefetch(2)


# --- Model: samples in, a logit of each word, or at each step of each symbol, out ---------------


def front_end(train: list[Recording], pace: float) -> tuple[dict, tuple]:
    """(the inputs, (what is heard at each step, which steps are real))."""
    samples = keras.Input((None,), name="samples")
    lengths = keras.Input((), dtype="int32", name="lengths")
    hear = LogMel(RATE, BANDS, warp=1.18, pace=pace, name="log_mel")
    hear.adapt([recording.samples for recording in train[:: 1 + len(train) // 300]])
    # Nothing at all makes a step, too.
    x, real = hear(ops.pad(samples, [[0, 0], [0, hear.needed]]), ops.maximum(lengths, hear.needed))
    return {"samples": samples, "lengths": lengths}, (x, real)


def build_for_words(
    train: list[Recording], words: list[str], cell: str, units: int = 128, networks: int = 1
) -> keras.Model:
    """Its output is (batch, networks, words): what each network says."""
    inputs, (x, mask) = front_end(train, pace=1.4)
    real = ops.expand_dims(mask, -1)
    loud = ops.where(real, ops.mean(x, axis=-1, keepdims=True), -1e9)
    x -= ops.max(loud, axis=1, keepdims=True)  # a whisper and a shout are alike
    size = x.shape[-1]
    each = [word_network(size, words, cell, units, f"network_{k}") for k in range(1, networks + 1)]
    logits = ops.stack([network([x, mask]) for network in each], axis=1)
    return keras.Model(inputs, logits, name="speech")


def word_network(size: int, words: list[str], cell: str, units: int, name: str) -> keras.Model:
    features = keras.Input((None, size), name="features")
    mask = keras.Input((None,), dtype="bool", name="mask")
    x = augmentation.SpecAugment(BANDS, name="spec_augment")(features, mask)
    x = spectral_shapes.convolved(x, mask, BANDS)
    for depth in (1, 2):
        recurrent = CELLS[cell](units, return_sequences=True)
        x = layers.Bidirectional(recurrent, name=f"read_{depth}")(x, mask=mask)
        x = keras.layers.Dropout(0.3)(x)
    pooled = masked_pooling.highest(x, mask), masked_pooling.mean(x, mask)
    x = keras.layers.Dropout(0.3)(ops.concatenate(pooled, axis=-1))
    logits = keras.layers.Dense(len(words), name="words")(x)
    return keras.Model([features, mask], logits, name=name)


def together(model: keras.Model) -> keras.Model:
    """Of all its networks one answer: (batch, words), the mean of their log-probabilities."""
    return keras.Model(model.inputs, mean_answer(model.output), name=model.name)


def mean_answer(logits: tf.Tensor) -> tf.Tensor:
    return ops.mean(ops.log_softmax(logits), axis=1)


def loss_of_each(word: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """(batch,): the mean over networks of what each loses by itself."""
    truth = ops.broadcast_to(ops.reshape(word, (-1, 1)), ops.shape(logits)[:-1])
    each = keras.losses.sparse_categorical_crossentropy(truth, logits, from_logits=True)
    return ops.mean(each, axis=1)


def accuracy(word: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    return keras.metrics.sparse_categorical_accuracy(word, mean_answer(logits))


def build_for_texts(
    train: list[Recording],
    symbols: Symbols,
    cell: str,
    units: int = 128,
    bidirectional: bool = False,
) -> ctc.Transcriber:
    inputs, (heard, real) = front_end(train, PACE_OF_TEXTS)
    heard = augmentation.SpecAugment(BANDS, name="spec_augment")(heard, real)
    features = keras.Input((None, heard.shape[-1]), name="features")
    mask = keras.Input((None,), dtype="bool", name="mask")
    x = voice_level.relative(features)
    shapes = layers.TimeDistributed(spectral_shapes.of_one_step(x.shape[-1], BANDS), name="shapes")
    x = ops.concatenate([x, shapes(x)], axis=-1)  # the bands themselves are learned from sooner
    for depth in (1, 2):  # back only, so that it streams; or from both ends
        read = CELLS[cell](units, return_sequences=True, name=f"read_{depth}")
        x = layers.Bidirectional(read, name=read.name)(x, mask=mask) if bidirectional else read(x)
        x = keras.layers.Dropout(0.3)(x)
    logits = keras.layers.Dense(len(symbols.names) + 1, name="logits")(x)
    if bidirectional:
        logits = keras.Model([features, mask], logits, name="network")([heard, real])
    else:  # padding stands behind, and is not looked at
        logits = keras.Model(features, logits, name="network")(heard)
    counts = ops.sum(ops.cast(real, "int32"), axis=1)
    return ctc.Transcriber(inputs, {"logits": logits, "counts": counts}, name="speech")


def compile_model(model: keras.Model, steps: int) -> None:
    """Sets the model up to be trained for `steps` batches."""
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps)
    optimizer = keras.optimizers.Adam(rate, clipnorm=1.0)
    if isinstance(model, ctc.Transcriber):
        model.compile(optimizer, jit_compile=False)
    else:
        model.compile(optimizer, loss_of_each, metrics=[accuracy])


# --- Evaluation ---------------------------------------------------------------------------------


def evaluate(read: Callable, data: list[Recording], words: list[str]) -> tuple[dict, np.ndarray]:
    """(scores, the confusion matrix)."""
    truth = [words.index(recording.text) for recording in data]
    found = [tf.argmax(read(x), -1) for x, _ in batches(data, words, vary=False)]
    matrix = confusion_matrix(truth, np.concatenate(found), labels=range(len(words)))
    return {"recordings": len(data), "accuracy": float(np.trace(matrix) / len(data))}, matrix


def evaluate_texts(read: Callable, data: list[Recording], symbols: Symbols) -> dict:
    """Wrong, missing and added symbols, as a share of those that were spoken."""
    spoken, wrong = 0, {"greedy": [], "beam": []}
    for x, truth in text_batches(data, symbols, vary=False):
        found = read(x)
        decoded = {"greedy": ctc.greedy(**found)[0], "beam": ctc.beam_search(**found)[0][0]}
        truth = [[n for n in row if n != ctc.PADDING] for row in truth.numpy()]
        spoken += sum(map(len, truth))
        for name, numbers in decoded.items():
            wrong[name] += [*ctc.errors(truth, numbers)]
    rates = {name: sum(each) / spoken for name, each in wrong.items()}
    return {
        "texts": len(data),
        "symbols": spoken,
        "error_rate": rates["beam"],
        "error_rate_greedy": rates["greedy"],
        "wholly_right": wrong["beam"].count(0) / len(data),
    }


def evaluate_strings(read: Callable, data: list[Recording], symbols: Symbols) -> dict:
    """By their length, and by decibels from the noise up to the words."""

    def score(words, count, **noise):
        strings = word_strings.fixed(data, words, count, symbols.separator, RATE, **noise)
        return evaluate_texts(read, strings, symbols)

    by_length = {n: score(n, 40) for n in range(1, word_strings.MOST + 1)}
    by_noise = {f"{n} dB": score(4, 60, above_noise=n) for n in (30, 20, 10, 5, 0)}
    spoken = sum(found["symbols"] for found in by_length.values())
    mean = {
        rate: sum(found[rate] * found["symbols"] for found in by_length.values()) / spoken
        for rate in ("error_rate", "error_rate_greedy")
    }
    return {**mean, "by_length": by_length, "by_noise": by_noise}


# --- Training and export ------------------------------------------------------------------------


def what_is_said(args: argparse.Namespace, data: recordings.Parts) -> list[str] | Symbols:
    """The words, or the symbols that texts are made of.

    Raises:
        SystemExit: If they can't be learned from these recordings.
    """
    texts = [recording.text for recording in data["train"]]
    if args.strings or not args.texts:
        words = sorted({*texts})
        recordings.refuse_unheard(data, words)
        if args.strings:
            word_strings.refuse_short(data, RATE)
            return Symbols.of(words, letters=False)
        return words
    if args.pieces:
        symbols = Symbols.of_pieces(texts, args.pieces)
    else:
        symbols = Symbols.of(texts, letters=True)
    if len(symbols.names) < 2:
        raise SystemExit(f"There is nothing to tell apart: all texts are of {symbols.names}.")
    hear = LogMel(RATE, BANDS)
    for part in data.values():
        symbols.refuse_unknown(part)
        symbols.refuse_crowded(part, lambda samples: int(hear.steps(int(samples / FASTEST))))
    return symbols


def learn_words(
    args: argparse.Namespace, data: recordings.Parts, words: list[str]
) -> tuple[keras.Model, dict, tuple]:
    """(the model, its signatures, what `other_runtimes.write` takes)."""
    size = args.batch or BATCH
    train = batches(data["train"], words, vary=True, batch=size).take(args.steps or -1)
    learners = build_for_words(data["train"], words, args.cell, args.units, args.networks)
    compile_model(learners, args.epochs * len(train))
    learners.summary()
    validation = batches(data["validation"], words, vary=False, batch=size)
    trained = training.fit(learners, train, validation, args, best=("val_loss", "min"))
    model = together(learners)
    read = tf.function(model, [HEARD])  # traced once for any size
    scores, _ = evaluate(read, data["validation"], words)
    test, confusion = evaluate(read, data["test"], words)
    training.write_metrics(args, trained, model, validation=scores, test=test)
    pictures.curves(args.output / "curves.png", trained["history"], trained["best_epoch"])
    said = f"{test['accuracy']:.2%} of {test['recordings']} recordings"
    title = f"{args.data.name if args.data else args.dataset}, {args.cell}: {said}"
    pictures.confusion(args.output / "confusion.png", confusion, words, title)
    print(f"Test: {said} are understood.")
    served = speech_export.word_signatures(model, words, data["test"][0].samples, RATE)
    others = (
        lambda: speech_export.numeric_for_words(model, words),
        lambda read: evaluate(read, data["test"], words)[0],
        lambda: seconds(data),
    )
    return model, served, others


def learn_texts(
    args: argparse.Namespace, data: recordings.Parts, symbols: Symbols
) -> tuple[keras.Model, dict, tuple]:
    """As `learn_words`."""
    size = args.batch or BATCH
    if args.strings:
        train = string_batches(data["train"], symbols, size)
        lengths = range(1, word_strings.MOST + 1)
        strings = [
            word_strings.fixed(data["validation"], n, 12, symbols.separator, RATE) for n in lengths
        ]
        held_out = [string for each in strings for string in each]
    else:
        train, held_out = text_batches(data["train"], symbols, True, size), data["validation"]
    train = train.take(args.steps or -1)
    model = build_for_texts(data["train"], symbols, args.cell, args.units, args.bidirectional)
    compile_model(model, args.epochs * len(train))
    model.summary()
    validation = text_batches(held_out, symbols, vary=False, batch=size)
    trained = training.fit(model, train, validation, args, best=("val_loss", "min"))
    read = tf.function(model, [HEARD])  # traced once for any size
    scores = evaluate_texts(read, held_out, symbols)
    evaluated = evaluate_strings if args.strings else evaluate_texts
    test = evaluated(read, data["test"], symbols)
    training.write_metrics(args, trained, model, validation=scores, test=test)
    pictures.curves(args.output / "curves.png", trained["history"], trained["best_epoch"])
    example = data["test"][0]
    if args.strings:
        (example,) = word_strings.fixed(data["test"], 5, 1, symbols.separator, RATE)
    found = read({"samples": example.samples[None], "lengths": [len(example.samples)]})
    searched = symbols.texts(ctc.beam_search(**found)[0][0]).numpy()[0].decode()
    hear = model.get_layer("log_mel")
    pictures.spoken(
        args.output / "spikes.png",
        hear.energies(example.samples[None])[0].numpy(),
        tf.nn.softmax(found["logits"])[0].numpy(),
        hear.step / RATE,
        symbols.names,
        f"“{example.text}”, by {example.speaker or example.name}; beam search: “{searched}”",
    )
    print(f"Test: {test['error_rate']:.2%} of symbols wrong, missing or added.")
    served = speech_export.text_signatures(model, symbols, example.samples, RATE)
    others = (
        lambda: speech_export.numeric_for_texts(model, symbols),
        lambda read: evaluated(read, data["test"], symbols),
        lambda: seconds(data),
    )
    return model, served, others


def seconds(data: recordings.Parts) -> list[np.ndarray]:
    """Some sounds, a second each."""
    return [np.resize(recording.samples, RATE) for recording in data["train"][:200]]


def main(args: argparse.Namespace) -> None:
    training.seed(args)
    data = recordings.load(args, RATE)
    args.split = recordings.split_of(data)
    said = what_is_said(args, data)
    words = sorted({recording.text for recording in data["train"]})
    voices = made_up_voices.recordings(args.made_up_voices, words, RATE, args.seed)
    # A run with another QUIET read other numbers: it must not go on.
    pieces = [said.names] if args.pieces else []
    training.begin(args, data, voice_level.QUIET, *pieces)  # may delete a run: so not before
    data["train"] += voices
    model, served, others = (learn_texts if args.texts else learn_words)(args, data, said)
    version = publishing.publish(model, args.saved_models / args.recipe, served, args.keep)
    print(f"Exported to {version}; pictures and metrics are in {args.output}.")
    other_runtimes.write(args, *others)


if __name__ == "__main__":
    command_line.run(main, ARGS)
