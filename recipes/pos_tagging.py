"""Part-of-speech tagging: "I saw a saw ." is a pronoun, a verb, a determiner and a noun.

    python recipes/pos_tagging.py                        # UD English-EWT, from TFDS
    python recipes/pos_tagging.py --data ru.conllu       # a treebank of your own, or
    python recipes/pos_tagging.py --data train.conllu dev.conllu test.conllu --column xpos
    python recipes/pos_tagging.py --dataset universal_dependencies/de_gsd
    python recipes/pos_tagging.py --dataset sample       # built-in sentences, no download
    python recipes/pos_tagging.py --crf                  # a sentence's tags chosen together
    python recipes/pos_tagging.py --embeddings vectors.txt   # words that the treebank hasn't
    python recipes/pos_tagging.py --pretrained FORWARDS BACKWARDS  # language models of words

The tag of a word depends on the words around it, on both sides: a bidirectional
recurrent network reads the sentence. What a word is, it learns in two ways: a vector
for each word of the training set, and a second recurrent network that reads the word
letter by letter, which also works for words never seen (Ling et al. 2015; Plank et al.
2016). Trained words are now and then hidden, so that the letters are listened to. Vectors
or language models from other text say more, of words that the treebank never had too
(Peters et al. 2018).

Each word's tag is chosen by itself; with `--crf`, a sentence's together: a conditional
random field learns which tag follows which (Lample et al. 2016).
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # to be run from anywhere

from recipes.common import command_line, encoders, word_vectors

EPOCHS = {"ud_english_ewt": 12, "sample": 2}
BATCH = 32


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = command_line.parser(
        "pos_tagging", __doc__, EPOCHS, batch=f"{BATCH} sentences", any_dataset=True
    )
    command_line.add_runtimes(parser)
    add = parser.add_argument
    add("--data", type=command_line.file, nargs="+", metavar="FILE",
        help="CoNLL-U: a treebank, split by --seed, or its parts for training, dev and test"
    )  # fmt: skip
    add("--column", choices=["upos", "xpos", "feats"], default="upos", help="default: upos")
    add("--encoding", help="of the files, if not UTF-8")
    add("--crf", action="store_true", help="choose a sentence's tags together")
    word_vectors.add_argument(parser)
    encoders.add_argument(parser)
    args = command_line.parse(parser, argv)
    if args.pretrained and (args.embeddings or len(args.pretrained) > 2):
        parser.error("--pretrained: one folder or two, which have --embeddings of their own")
    if args.data and len(args.data) not in (1, 3):
        parser.error(f"--data takes one file, or three (train, dev, test), got {len(args.data)}")
    if args.encoding and not args.data:
        parser.error("--encoding is of files: give --data FILE")
    if args.crf and (args.onnx or args.litert):
        parser.error("--onnx and --litert choose each tag by itself: leave out --crf")
    if args.column != "upos" and args.dataset == "sample":
        parser.error(f"--dataset sample has no {args.column}")
    return args


if __name__ == "__main__":
    ARGS = command_line.start(arguments)  # before what takes seconds to import

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from sklearn.metrics import confusion_matrix

import layers
from layers.exchange import checks
from recipes.common import (
    batching,
    other_runtimes,
    pictures,
    publishing,
    small_embeddings,
    training,
)
from recipes.common.cells import CELLS
from recipes.common.samples import grammar
from recipes.common.word_dropout import WordDropout
from recipes.common.words import lower, replaced
from recipes.parts.pos_tagging import tag_paths, tagging, tagging_export, treebanks
from recipes.parts.pos_tagging.spelling import Spelling

EXAMPLE = "I saw a saw ."
MOST_WORDS = 1000  # in a sentence, and …
MOST_PLACES = 2**14  # … in a request to the export, each sentence padded to the longest
MOST_PAIRS = 2**26  # of tags that follow each other, with a CRF: so many, at all of these places
Sentences = treebanks.Sentences


# --- Data: sentences of words, and a tag for each word -----------------------------------


def load(dataset: str, seed: int, column: str = "upos") -> tuple[dict[str, Sentences], list[str]]:
    """({"train" | "validation" | "test": [(words, tags)]}, the tags)."""
    if dataset == "sample":
        sizes = {"train": 4000, "validation": 500, "test": 500}
        seeds = {split: f"{seed}/{split}" for split in sizes}
        return {s: grammar.sentences(n, seeds[s]) for s, n in sizes.items()}, grammar.TAGS
    name = "universal_dependencies/en_ewt" if dataset == "ud_english_ewt" else dataset
    return treebanks.from_tfds(name, column, seed)


def batches(
    sentences: Sentences, tags: list[str], shuffle: bool, batch: int = BATCH
) -> tf.data.Dataset:
    """Batches of (words, tags, weights), sentences of like length together.

    Words are padded with "", and the weight of padding is zero: it counts in no loss
    and no metric.
    """
    number = {tag: i for i, tag in enumerate(tags)}
    words = tf.ragged.constant([words for words, _ in sentences])
    numbers = tf.ragged.constant([[number[t] for t in tags] for _, tags in sentences])
    data = tf.data.Dataset.from_tensor_slices((words, numbers))
    if shuffle:
        data = data.shuffle(len(sentences))
    data = data.map(lambda w, t: (w, t, tf.ones_like(t, tf.float32)))
    lengths = [len(words) for words, _ in sentences]
    return batching.by_length(
        data, lambda words, *_: tf.shape(words)[0], lengths, [8, 16, 24, 32, 48], batch
    )


# --- Model: words as strings in; a probability for each tag, or a CRF's potentials, out ----


class Numbers(keras.layers.Layer):
    """The number of each word, whatever its capitals: 0 is padding, 1 unknown."""

    def __init__(self, vocabulary: list[str], **kwargs):
        super().__init__(**kwargs)
        self.number = keras.layers.StringLookup(vocabulary=vocabulary, mask_token="")

    def call(self, words):
        return self.number(lower(words))

    def compute_output_spec(self, words):
        return keras.KerasTensor(words.shape, "int64")


def build(
    train: Sentences,
    tags: list[str],
    cell: str,
    units: int = 128,
    embeddings: str | None = None,
    pretrained: encoders.Encoders | None = None,
    crf: bool = False,
) -> keras.Model:
    counts = Counter(word.lower() for words, _ in train for word in words)
    learned = [word for word, n in counts.most_common() if n > 1]
    vectors = word_vectors.for_words(embeddings, learned) if embeddings else {}
    others = pretrained.words if pretrained else vectors
    others = [word for word in others if word == word.lower()]  # as all are looked up
    known = [*dict.fromkeys(["", "[UNK]", *learned, *others])]  # each once
    if len(known) < 3:
        raise SystemExit("No word occurs twice in the training sentences: give more of them.")
    letters = sorted({letter for words, _ in train for word in words for letter in word})

    words = keras.Input((None,), dtype="string", name="words")
    numbers = Numbers(known[2:], name="vocabulary")(words)
    shown = WordDropout(len(learned) + 2, rate=0.15)(numbers)
    found = [keras.layers.Embedding(len(learned) + 2, 128, name="learned")(shown)]
    found += [Spelling(letters, cell, units=64, name="spelling")(words)]
    if embeddings:
        found += [word_vectors.fixed(known, vectors)(numbers)]
    if pretrained:  # what it knows of each word, and of what stands before and behind it
        meant, states, _ = pretrained.read(pretrained.renumbered(numbers, known), trainable=False)
        states = keras.layers.Dense(256, "relu", name="context")(keras.layers.Dropout(0.25)(states))
        found += [3 * meant, states]  # about as large as the others
    x = keras.layers.Dropout(0.4)(ops.concatenate(found, axis=-1))
    for depth in (1, 2):
        recurrent = CELLS[cell](units, return_sequences=True)
        x = layers.Bidirectional(recurrent, name=f"sentence_{depth}")(x, mask=numbers != 0)
        x = keras.layers.Dropout(0.4)(x)
    activation = None if crf else "softmax"
    outputs = keras.layers.Dense(len(tags), activation=activation, name="tags")(x)
    if crf:
        outputs = layers.CRF(name="crf")(outputs, mask=numbers != 0)
    return keras.Model(words, outputs, name="pos_tagging")


def refuse_many_tags(tags: list[str], parts: dict[str, Sentences], batch: int) -> None:
    """Raises SystemExit if a CRF would need too much memory."""
    longest = max(len(words) for sentences in parts.values() for words, _ in sentences)
    pairs = batch * longest * len(tags) ** 2
    if pairs > 2 * MOST_PAIRS:
        raise SystemExit(
            f"--crf: each pair of {len(tags)} tags has a number at each word of a batch: "
            f"{pairs * 4 / 2**30:.1f} GB, several times. Leave out --crf, or give a smaller "
            "--batch."
        )


def compile_model(model: keras.Model, steps: int, crf: bool = False) -> None:
    """Sets the model up to be trained for `steps` batches."""
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps)
    # What counts is the mean of the weights over about the last tenth of the steps.
    mean_of = {"use_ema": True, "ema_momentum": 1 - 10 / max(20, steps)}
    # The mean over words, not over padding too; of a CRF, over sentences.
    words = keras.losses.SparseCategoricalCrossentropy(reduction="mean_with_sample_weight")
    model.compile(
        keras.optimizers.Adam(rate, clipnorm=1.0, **mean_of),
        layers.crf_loss if crf else words,
        weighted_metrics=[tag_paths.WordAccuracy("accuracy")],
    )


# --- Evaluation ---------------------------------------------------------------------------


def evaluate(
    model: Callable,
    sentences: Sentences,
    train: Sentences,
    tags: list[str],
    batch: int = BATCH,
) -> tuple[dict, np.ndarray]:
    """(scores of the model and of the baseline; the confusion matrix)."""
    true, predicted = [], []
    for words, numbers, weights in batches(sentences, tags, False, batch):
        best = tag_paths.best_tags(model(words)).numpy()
        for row, real in enumerate(weights.numpy() > 0):
            found = [word.decode() for word in words[row].numpy()[real]]
            true.append((found, [tags[i] for i in numbers[row].numpy()[real]]))
            predicted.append([tags[i] for i in best[row][real]])
    truth = [tag for _, tags in true for tag in tags]
    matrix = confusion_matrix(truth, [tag for tags in predicted for tag in tags], labels=tags)
    return tagging.score(true, predicted, train), matrix


# --- Export: sentences, or words already apart, in; tags as strings out --------------------


SPLIT = (
    (r"’", "'"),
    (r"""([()\[\]{}"“”])""", r" \1 "),
    (r"([,;:…]|[!?]+|\.+)(\s|$)", r" \1 \2"),
    (r"(?i)\b(can)(not)\b", r"\1 \2"),
    (r"(?i)(n't)\b", r" \1"),
    (r"(?i)('(?:s|re|ve|ll|d|m))\b", r" \1"),
)


def split_words(sentences: tf.Tensor) -> tf.RaggedTensor:
    """(batch,) sentences to a ragged (batch, words), much as the treebank's."""
    return tf.strings.split(replaced(sentences, SPLIT))


WORDS = tf.TensorSpec([None, None], tf.string)


def signatures(
    model: Callable, tags: list[str], example: list[str] | None = None, crf: bool = False
) -> dict:
    """`model` is the model, or the model as a `tf.function`."""
    most = min(MOST_PLACES, MOST_PAIRS // len(tags) ** 2) if crf else MOST_PLACES
    example = (example or EXAMPLE.split())[:most]
    model = tf.function(model, [WORDS])  # traced once for both signatures

    def bounded(name, words, shape):
        """`words`, once `shape`, which is theirs if padded, is known not to be too large."""
        in_one, padded = shape[1], shape[0] * shape[1]
        words = checks.at_most(MOST_WORDS, "words in a sentence", name, words, in_one)
        return checks.at_most(most, "words, padded to the longest", name, words, padded)

    def tag_sentences(sentences):
        words = split_words(checks.shaped(sentences, [None]))
        lengths = tf.concat([[0], words.row_lengths()], 0)
        shape = tf.stack([words.nrows(), tf.reduce_max(lengths)])
        return tag(bounded("sentences", words, shape).to_tensor(""))

    def tag_words(words):
        words = checks.shaped(words, [None, None])
        return tag(bounded("words", words, tf.shape(words, tf.int64)))

    def tag(words):
        words = tf.pad(words, [[0, 0], [0, tf.cast(tf.shape(words)[1] == 0, tf.int32)]])
        real = words != ""
        best = tag_paths.best_tags(model(words))
        return {
            "words": words,
            "tags": tf.where(real, tf.gather(tf.constant(tags), best), ""),
            "lengths": tf.reduce_sum(tf.cast(real, tf.int32), axis=-1),
        }

    return {
        "serving_default": (
            tag_sentences,
            {"sentences": tf.TensorSpec([None], tf.string)},
            {"sentences": [" ".join(example)]},
        ),
        "words": (
            tag_words,
            {"words": WORDS},
            {"words": [example]},
        ),
    }


def main(args: argparse.Namespace) -> None:
    training.seed(args)
    size = args.batch or BATCH
    if args.data:
        data, tags = treebanks.from_files(args)
    else:
        data, tags = load(args.dataset, args.seed, args.column)
    args.epochs = args.epochs or training.enough_epochs(len(data["train"]), size, 4700)
    pretrained = args.pretrained and encoders.Encoders(args.pretrained, CELLS[args.cell])
    if pretrained:
        pretrained.say_known(word.lower() for words, _ in data["train"] for word in words)
    told = pretrained.content() if pretrained else word_vectors.content(args.embeddings)
    train = batches(data["train"], tags, shuffle=True, batch=size).take(args.steps or -1)
    validation = batches(data["validation"], tags, shuffle=False, batch=size)
    if args.crf:
        refuse_many_tags(tags, data, size)
        train, validation = (x.map(tag_paths.whole_sentences) for x in (train, validation))
    starts = {"embeddings": args.embeddings, "pretrained": pretrained}
    model = build(data["train"], tags, args.cell, **starts, crf=args.crf)
    training.begin(args, data, tags, *told)  # may delete an earlier run: so not before
    compile_model(model, args.epochs * len(train), args.crf)
    model.summary()

    trained = training.fit(model, train, validation, args, best=("val_accuracy", "max"))
    small_embeddings.quantize(model)
    answer = layers.without_gradients()(model)
    read = tf.function(answer, [WORDS], autograph=False)  # traced once for any size
    scores, _ = evaluate(read, data["validation"], data["train"], tags, size)
    test, confusion = evaluate(read, data["test"], data["train"], tags, size)
    training.write_metrics(args, trained, model, validation=scores, test=test)
    pictures.curves(args.output / "curves.png", trained["history"], trained["best_epoch"])
    name = args.data[0].name if args.data else args.dataset
    network = args.cell + " and CRF" * args.crf
    title = f"{name}, {network}: {test['accuracy']:.2%} of {test['words']} words"
    pictures.confusion(args.output / "confusion.png", confusion, tags, title)
    tagging.show(test)

    example = EXAMPLE.split() if args.dataset in EPOCHS else data["test"][0][0][:20]
    served = signatures(read, tags, example, args.crf)
    version = publishing.publish(model, args.saved_models / args.recipe, served, args.keep)
    print(f"Exported to {version}; pictures and metrics are in {args.output}.")
    answer = served["words"][0](tf.constant([example]))
    for word, tag in zip(answer["words"].numpy()[0], answer["tags"].numpy()[0]):
        print(f"{word.decode():>8}  {tag.decode()}")

    def numeric():
        return tagging_export.numeric(model, SPLIT, tags)

    def score(model):
        return evaluate(model, data["test"], data["train"], tags)[0]

    other_runtimes.write(args, numeric, score, lambda: [words for words, _ in data["train"][:200]])


if __name__ == "__main__":
    command_line.run(main, ARGS)
