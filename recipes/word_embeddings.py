"""Word embeddings: a vector for each word, such that words used alike lie close together.

    python recipes/word_embeddings.py                       # IMDB's reviews, from TFDS
    python recipes/word_embeddings.py --text *.txt.gz       # texts of your own
    python recipes/word_embeddings.py --dataset sample      # built-in sentences, no download

One-hot, no word is more like a second than like a third. Skip-gram gives each word w a
vector v_w, and a second one v'_w for when it is another's neighbour, and makes them tell
neighbours in the text from words drawn at random (Mikolov et al. 2013, arXiv 1310.4546,
equation 4): for every w and every neighbour c, at most `window` words away, it maximises

    log σ(v'_c · v_w) + Σ_k log σ(−v'_n(k) · v_w),   k = 1 … NEGATIVES, n(k) drawn at random

With --ngrams, v_w is the mean of a vector for the word and one for each of its n-grams of
letters, so that a word never seen has a vector too (Bojanowski et al. 2017, arXiv
1607.04606). Relations between words become directions: king − man + woman lies near queen.

It is fast on a CPU because BLOCK successive words share their negatives (Ji et al. 2016, arXiv
1604.04661): all their scores are one product of matrices. Where word2vec draws a window's size
for each word, a neighbour d words away counts by its chance to be in it, (window + 1 − d) / window.
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # to be run from anywhere

from recipes.common import command_line

EPOCHS = {"imdb": 5, "sample": 10}
BATCH = 16384  # words of the text, before the frequent ones are thinned out
FEWEST = 1024  # of fewer, thinned out, few have all their neighbours
FEWEST_WORDS = 10  # different ones
MOST_SHOWN = 100  # words, or questions


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = command_line.parser(
        "word_embeddings", __doc__, EPOCHS, cell=None, batch=f"{BATCH} words", other=5
    )
    add, positive = parser.add_argument, command_line.positive
    text = {"dest": "data", "metavar": "FILE", "type": command_line.file, "nargs": "+"}
    add("--text", **text, help="each line a text of its own; .gz is unpacked")
    add("--encoding", help="of --text; default: UTF-8")
    add("--dimension", type=positive, default=100, help="numbers a word; default: 100")
    add("--window", type=positive, default=5, help="neighbours on each side; default: 5")
    add("--min-count", type=positive, default=5, help="rarer words are left out; default: 5")
    add("--ngrams", action="store_true", help="vectors for n-grams of letters, too")
    add("--questions", metavar="FILE", type=command_line.file,
        help="analogies to be scored by, as questions-words.txt")  # fmt: skip
    three = {"nargs": 3, "action": "append", "metavar": ("KING", "MAN", "WOMAN")}
    three["type"] = command_line.text
    add("--analogy", **three, help="a question: KING − MAN + WOMAN; may be repeated")
    add("--words", nargs="+", type=command_line.text, metavar="WORD",
        help="whose neighbours are printed and drawn")  # fmt: skip
    command_line.add_runtimes(parser)
    args = command_line.parse(parser, argv)
    if args.encoding and not args.data:
        parser.error("--encoding is of files: give --text FILE")
    if max(len(args.words or []), len(args.analogy or [])) > MOST_SHOWN:
        parser.error(f"--words and --analogy: {MOST_SHOWN} at most; the export answers for others")
    if args.batch and args.batch < FEWEST:
        parser.error(f"--batch: {FEWEST} or more, for neighbours are found within a batch")
    return args


if __name__ == "__main__":
    ARGS = command_line.start(arguments)  # before what takes seconds to import

import keras
import numpy as np
import tensorflow as tf
from sklearn.manifold import TSNE

from recipes.common import (
    other_runtimes,
    pictures,
    prepared_data,
    publishing,
    text_files,
    training,
    word_vectors,
    workers,
)
from recipes.common.row_adagrad import RowAdagrad, each_row_once
from recipes.common.samples import analogies
from recipes.common.words import clean, number
from recipes.parts.word_embeddings import analogy_questions, word_search
from recipes.parts.word_embeddings.vector_tables import NgramVectors, Vectors

RATE = 0.3  # Adagrad's, falling to 0
BLOCK = 32  # successive words that share their negatives
SHARED = 64  # negatives of a block
NEGATIVES = 5  # a pair's, which the shared ones stand for
THIN = 1e-3  # words more frequent than this are left out at times
ANALOGY = ["king", "man", "woman"]
WORDS = ["man", "woman", "king", "queen", "paris", "england", "good", "bad", "film", "actor"]
WORDS += ["funny", "scary", "two", "dog", "car"]


# --- Data: the words of a text as numbers --------------------------------------------------


class Corpus(NamedTuple):
    """Texts as the numbers of their words in `words`, from 1; 0 ends a text."""

    train: np.ndarray
    validation: np.ndarray
    words: list[str]  # the most frequent first
    counts: np.ndarray  # in `train`


def load(dataset: str, seed: int, least: int, texts: tf.data.Dataset | None = None) -> Corpus:
    """The words that occur `least` times or more; the last hundredth is for validation.

    Raises:
        SystemExit: If there is too little text.
    """
    numbers, words = number(read(dataset, seed) if texts is None else texts, clean)
    train, validation = np.split(numbers, [len(numbers) * 99 // 100])
    counts = np.bincount(train, minlength=len(words))
    counts[0] = 0
    order = np.argsort(-counts, kind="stable")[: np.sum(counts >= least)]
    # Rare words are left out, as if the text were without them.
    place = np.full(len(words), -1, "int32")
    place[order] = np.arange(1, len(order) + 1)
    place[0] = 0
    train, validation = (place[part][place[part] >= 0] for part in (train, validation))
    known = counts[order].sum()
    if known < 1000 or len(order) < FEWEST_WORDS:
        raise SystemExit(
            f"This is too little text to learn from: of {counts.sum()} words, {known} are of the "
            f"{len(order)} different ones that occur {least} times (--min-count) or more; "
            f"1,000 are needed, {FEWEST_WORDS} of them different."
        )
    if not np.any(validation):
        raise SystemExit("The last hundredth of the text, which validates, has none of its words.")
    return Corpus(train, validation, [words[i] for i in order], counts[order])


def read(dataset: str, seed: int) -> tf.data.Dataset:
    """Texts, each a string."""
    if dataset == "sample":
        return tf.data.Dataset.from_tensor_slices(analogies.texts(20_000, f"{seed}"))
    return prepared_data.reviews()


def read_own(paths: list[Path], encoding: str | None) -> tf.data.Dataset:
    """The lines of files, each a string.

    Raises:
        SystemExit: If a file can't be read, or no spaces stand between its words.
    """
    texts = [text_files.read(path, encoding) for path in paths]
    for path, text in zip(paths, texts):
        text_files.refuse_unspaced(path, text)
    return tf.data.Dataset.from_tensor_slices([x for text in texts for x in text.split("\n")])


def batches(
    part: np.ndarray, counts: np.ndarray, window: int, shuffle: bool, batch: int = BATCH
) -> tf.data.Dataset:
    """Batches of ((words, others), weights), a row for each block of words.

    words: (blocks, BLOCK), from 0 on. others: (blocks, BLOCK + 2 * window + SHARED), the
    block with its neighbours on both sides, then its negatives. weights: (blocks, BLOCK,
    others), for each word what each of the others counts as its neighbour; below zero, as
    its negative. Frequent words are left out at random, anew each time when `shuffle`.
    """
    share = counts / counts.sum()
    kept = np.minimum(1, np.sqrt(THIN / share) + THIN / share)  # as word2vec's program does
    kept = tf.constant(np.append(0, kept), "float32")
    # Drawn as a neighbour is, but the frequent ones less often (Mikolov et al. 2013, 2.2).
    drawn = tf.constant(np.cumsum(counts**0.75) / np.sum(counts**0.75))
    part = tf.constant(part)

    away = np.abs(np.arange(BLOCK + 2 * window) - window - np.arange(BLOCK)[:, None])
    near = np.where((away > 0) & (away <= window), (window + 1 - away) / window, 0)
    near = tf.constant(near, "float32")
    columns = tf.range(BLOCK + 2 * window)

    def pairs(place, seed):
        words = part[place * batch : (place + 1) * batch]
        text = tf.cumsum(tf.cast(words == 0, tf.int32))
        draws = tf.random.stateless_uniform(tf.shape(words), (seed, 0))
        stay = draws < tf.gather(kept, words)
        words, text = tf.boolean_mask(words - 1, stay), tf.boolean_mask(text, stay)
        blocks = -(-tf.size(words) // BLOCK)
        beyond = [[window, blocks * BLOCK - tf.size(words) + window]]
        words, text = tf.pad(words, beyond), tf.pad(text, beyond, constant_values=-1)

        around = tf.range(blocks)[:, None] * BLOCK + columns
        theirs, around = tf.gather(text, around), tf.gather(words, around)
        words, text = (tf.reshape(x[window:-window], (blocks, BLOCK, 1)) for x in (words, text))
        same = (text == theirs[:, None, :]) & (text >= 0)
        weights = tf.where(same, near, 0.0)

        draws = tf.random.stateless_uniform((blocks, SHARED), (seed, 1), dtype=drawn.dtype)
        negatives = tf.searchsorted(drawn, tf.reshape(draws, [-1]), side="right")
        negatives = tf.reshape(negatives, (blocks, SHARED))
        pairs = tf.reduce_sum(weights, axis=-1, keepdims=True)
        against = tf.repeat(pairs * (-NEGATIVES / SHARED), SHARED, axis=-1)
        return (
            (tf.squeeze(words, -1), tf.concat([around, negatives], 1)),
            tf.concat([weights, against], -1),
        )

    places = seeds = tf.data.Dataset.range(-(-len(part) // batch))
    if shuffle:
        places = places.shuffle(len(places))
        seeds = tf.data.Dataset.random(rerandomize_each_iteration=True)
    return tf.data.Dataset.zip(places, seeds).map(pairs).prefetch(4)


def refuse_lonely(corpus: Corpus, data: tf.data.Dataset, part: str) -> None:
    """Raises SystemExit if no word has a neighbour: from such text nothing is learned."""
    numbers = getattr(corpus, part)
    if not np.any((numbers[1:] > 0) & (numbers[:-1] > 0)):
        raise SystemExit(
            f"No two words stand beside each other in the text's {part} part. Each line is a text "
            "of its own: put more words on a line."
        )
    if not any(tf.reduce_any(weights > 0) for _, weights in data):
        raise SystemExit(
            f"This is too little text to learn from: its {part} part has "
            f"{np.count_nonzero(numbers):,} words, and is left with no two beside each other when "
            "frequent ones are thinned out."
        )


# --- Model: words and others in, the score of each pair out ---------------------------------


class SkipGram(keras.Model):
    """Trains on the sum over a batch's pairs, as if they came one by one, and says the mean."""

    def __init__(self, inputs, outputs, **kwargs):
        super().__init__(inputs, outputs, **kwargs)
        self.mean = keras.metrics.Mean("loss")

    @property
    def metrics(self):
        return [self.mean]

    def train_step(self, data):
        pairs, weights = data
        with tf.GradientTape() as tape:
            total = loss(weights, self(pairs, training=True))
        variables = self.trainable_variables
        gradients = tape.gradient(total, variables)
        if workers.count() > 1:
            gradients = workers.all_sum([each_row_once(x) for x in gradients])  # less to send
        self.optimizer.apply(gradients, variables)
        return self.said(total, weights)

    def test_step(self, data):
        pairs, weights = data
        return self.said(loss(weights, self(pairs, training=False)), weights)

    def said(self, total, weights):
        count = tf.reduce_sum(tf.nn.relu(weights))
        self.mean.update_state(tf.math.divide_no_nan(total, count), sample_weight=count)
        return {"loss": self.mean.result()}


def loss(weights: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
    """What the equation above maximises, negated, over all pairs of a batch."""
    return tf.reduce_sum(tf.abs(weights) * tf.nn.softplus(-tf.sign(weights) * scores))


def build(words: list[str], dimension: int, with_ngrams: bool) -> keras.Model:
    start = keras.initializers.RandomUniform(-0.5 / dimension, 0.5 / dimension)
    if with_ngrams:
        word = NgramVectors(words, dimension, start, name="words")
    else:
        word = Vectors(len(words), dimension, start, name="words")
    other = Vectors(len(words), dimension, "zeros", name="others")
    block = keras.Input((BLOCK,), dtype="int32", name="block")
    others = keras.Input((None,), dtype="int32", name="around_and_drawn")
    scores = keras.layers.Dot(axes=-1, name="scores")([word(block), other(others)])
    return SkipGram([block, others], scores, name="word_embeddings")


def compile_model(model: keras.Model, steps: int) -> None:
    """Sets the model up to be trained for `steps` batches."""
    rate = keras.optimizers.schedules.PolynomialDecay(RATE, steps, 0.0)
    model.compile(RowAdagrad(rate), jit_compile=False)


# --- What is looked at -----------------------------------------------------------------------


def draw(folder: Path, corpus: Corpus, vectors: np.ndarray, chosen: list[str], seed: int) -> None:
    """Pictures of `chosen` words: beside one-hot, and on a map with their neighbours."""
    place = {word: i for i, word in enumerate(corpus.words)}
    rows = [place[word] for word in chosen]
    units = word_search.unit(vectors[: word_search.FREQUENT])
    cosines = word_search.unit(vectors[rows]) @ word_search.unit(vectors[rows]).T
    pictures.similarities(
        folder / "similarities.png",
        {
            f"one-hot: {len(corpus.words)} numbers a word": np.eye(len(chosen)),
            f"embedding: {vectors.shape[1]} numbers a word": cosines,
        },
        chosen,
    )
    group = {}
    for of, row in enumerate(rows):
        for i in [row, *np.argsort(-units @ word_search.unit(vectors[row]))[:8]]:
            group.setdefault(int(i), of)
    # Between so few points, a perplexity as high as the default would see no neighbourhood.
    perplexity = min(10, (len(group) - 1) / 3)
    tsne = TSNE(metric="cosine", init="random", perplexity=perplexity, random_state=seed)
    points = tsne.fit_transform(vectors[list(group)])
    names = [corpus.words[i] for i in group]
    pictures.word_map(folder / "map.png", points, names, list(group.values()), chosen)


def main(args: argparse.Namespace) -> None:
    training.seed(args)
    questions = analogy_questions.read(args.questions) if args.questions else {}
    if args.dataset == "sample" and not args.questions:
        questions = analogies.questions()

    texts = read_own(args.data, args.encoding) if args.data else None
    corpus = load(args.dataset, args.seed, args.min_count, texts)
    size, how = args.batch or BATCH, (corpus.counts, args.window)
    train = batches(corpus.train, *how, shuffle=True, batch=size).take(args.steps or -1)
    validation = batches(corpus.validation, *how, shuffle=False, batch=size)
    refuse_lonely(corpus, train, "train")
    refuse_lonely(corpus, validation, "validation")
    training.begin(args, *corpus)
    words = np.count_nonzero(corpus.train)
    print(f"{words:,} words, {len(corpus.words):,} different ones.")
    model = build(corpus.words, args.dimension, args.ngrams)
    compile_model(model, args.epochs * len(train))
    model.summary()

    trained = training.fit(model, train, validation, args, best=("val_loss", "min"))
    layer = model.get_layer("words")
    vectors = layer.of_all_words()
    answers = word_search.Answers(corpus.words, vectors, layer.of_ngrams())
    scores = analogy_questions.evaluate(corpus.words, vectors, questions)
    seen = min(words, len(train) * size) * len(trained["history"]["loss"])
    speed = {"words_per_second": round(seen / trained["seconds"])}
    training.write_metrics(args, trained, model, **speed, vocabulary=len(corpus.words), test=scores)
    word_vectors.write(args.output / "vectors.txt", corpus.words, vectors)
    # The Projector draws no more than this in a browser.
    shown = slice(10_000)
    word_vectors.write_projector(
        args.output / "tensorboard/train", corpus.words[shown], vectors[shown]
    )

    pictures.curves(args.output / "curves.png", trained["history"], trained["best_epoch"])
    known = set(corpus.words)
    chosen = [w.lower() for w in args.words or WORDS if w.lower() in known] or corpus.words[:12]
    draw(args.output, corpus, vectors, chosen, args.seed)
    print(
        f"One-hot, a word is {len(corpus.words)} numbers, and the cosine of any two is 0. "
        f"Here it is {args.dimension} numbers, and these are most similar or nearest:"
    )
    asked = args.analogy or [ANALOGY] * known.issuperset(ANALOGY)
    word_search.show(answers, args.words or chosen, asked)
    if questions:
        print(analogy_questions.summary(scores))
    served = word_search.signatures(answers)
    version = publishing.publish(answers, args.saved_models / args.recipe, served, args.keep)
    print(f"Exported to {version}; vectors, pictures and metrics are in {args.output}.")

    def score(page):
        found = page.vectors(np.arange(len(corpus.words)))
        return analogy_questions.evaluate(corpus.words, found, questions)

    other_runtimes.write(args, lambda: word_search.numeric(corpus.words, vectors), score)


if __name__ == "__main__":
    command_line.run(main, ARGS)
