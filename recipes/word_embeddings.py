"""Word embeddings: a vector for each word, such that words used alike lie close together.

    python recipes/word_embeddings.py                       # IMDB's reviews, from TFDS
    python recipes/word_embeddings.py --text book.txt       # a text of your own
    python recipes/word_embeddings.py --dataset sample      # built-in sentences, no download

One-hot, no word is more like a second than like a third. Skip-gram gives each word w a
vector v_w, and a second one v'_w for when it is another's neighbour, and makes them tell
neighbours in the text from words drawn at random (Mikolov et al. 2013, arXiv 1310.4546,
equation 4): for every w and every neighbour c, at most `window` words away, it maximises

    log σ(v'_c · v_w) + Σ_k log σ(−v'_n(k) · v_w),   k = 1 … NEGATIVES, n(k) drawn at random

With --ngrams, v_w is the mean of a vector for the word and one for each of its n-grams of
letters, so that a word never seen has a vector too (Bojanowski et al. 2017, arXiv
1607.04606). Relations between words become directions: king − man + woman lies near queen.

It is fast on a CPU because BLOCK successive words share their negatives (Ji et al. 2016,
arXiv 1604.04661): their scores with all their neighbours and negatives are one product of
matrices, and a batch is thousands of words. Where word2vec draws a window's size for each
word, a neighbour d words away counts by its chance to be in it, (window + 1 − d) / window.
"""

import argparse
import itertools
import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # to be run from anywhere

from recipes.common import command_line

EPOCHS = {"imdb": 5, "sample": 10}


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = command_line.parser("word_embeddings", __doc__, EPOCHS, cell=None, other=5)
    add, positive = parser.add_argument, command_line.positive
    text = {"dest": "data", "metavar": "FILE", "type": command_line.file}
    add("--text", **text, help="UTF-8, each line a text of its own")
    add("--dimension", type=positive, default=100, help="numbers a word; default: 100")
    add("--window", type=positive, default=5, help="neighbours on each side; default: 5")
    add("--min-count", type=positive, default=5, help="rarer words are left out; default: 5")
    add("--ngrams", action="store_true", help="vectors for n-grams of letters, too")
    add("--questions", metavar="FILE", help="analogies to be scored by, as questions-words.txt")
    add(
        "--analogy",
        nargs=3,
        action="append",
        metavar=("KING", "MAN", "WOMAN"),
        help="a question to answer: KING − MAN + WOMAN; may be repeated",
    )
    add("--words", nargs="+", metavar="WORD", help="whose neighbours are printed and drawn")
    return command_line.parse(parser, argv)


if __name__ == "__main__":
    ARGS = command_line.start(arguments)  # before what takes seconds to import

import keras
import numpy as np
import tensorflow as tf
from sklearn.manifold import TSNE
from tensorboard.plugins import projector

from layers import checks
from recipes.common import pictures, prepared_data, publishing, training, word_vectors
from recipes.common.samples import analogies
from recipes.sentiment import clean

RATE = 0.3  # Adagrad's, falling to 0
BATCH = 16384  # words of the text, before the frequent ones are thinned out
BLOCK = 32  # successive words that share their negatives
SHARED = 64  # negatives of a block
NEGATIVES = 5  # a pair's, which the shared ones stand for
THIN = 1e-3  # words more frequent than this are left out at times
FREQUENT = 30_000  # answers are among so many most frequent words
ANSWERS = 10
MOST_WORDS = 600  # in a request to the export, so that its memory is bounded, and …
MOST_BYTES = 2**16  # … bytes of all of them, for a letter begins an n-gram of each length
LETTERS, BUCKETS = (3, 4, 5, 6), 200_000  # of n-grams: their lengths, and how many vectors
WORDS = ["man", "woman", "king", "queen", "paris", "england", "good", "bad", "film", "actor"]
WORDS += ["funny", "scary", "two", "dog", "car"]


# --- Data: the words of a text as numbers --------------------------------------------------


class Corpus(NamedTuple):
    """Texts as the numbers of their words in `words`, from 1; 0 ends a text."""

    train: np.ndarray
    validation: np.ndarray
    words: list[str]  # the most frequent first
    counts: np.ndarray  # in `train`


def load(dataset: str, text: str | None, seed: int, least: int) -> Corpus:
    """The words that occur `least` times or more; the last hundredth is for validation.

    Raises:
        SystemExit: If there is no such text, or little in it.
    """
    numbers, words = number(read(dataset, text, seed))
    train, validation = np.split(numbers, [len(numbers) * 99 // 100])
    counts = np.bincount(train, minlength=len(words))
    counts[0] = 0
    order = np.argsort(-counts, kind="stable")[: np.sum(counts >= least)]
    # Rare words are left out, as if the text were without them.
    place = np.full(len(words), -1, "int32")
    place[order] = np.arange(1, len(order) + 1)
    place[0] = 0
    train, validation = (place[part][place[part] >= 0] for part in (train, validation))
    if counts[order].sum() < 1000 or not np.any(validation):
        raise SystemExit(
            f"{text or dataset} is too little to learn from: {counts.sum()} words, and "
            f"{len(order)} different ones that occur {least} times (--min-count) or more."
        )
    return Corpus(train, validation, [words[i] for i in order], counts[order])


def read(dataset: str, text: str | None, seed: int) -> tf.data.Dataset:
    """Texts, each a string. IMDB's test part, which other recipes are scored on, is left out."""
    if dataset == "sample":
        return tf.data.Dataset.from_tensor_slices(analogies.texts(20_000, f"{seed}"))
    if dataset == "data":
        if not Path(text).is_file():
            raise SystemExit(f"--text: there is no file {text}")
        lines = tf.data.TextLineDataset(text)
        return lines.map(lambda line: tf.strings.unicode_transcode(line, "UTF-8", "UTF-8"))
    splits, _ = prepared_data.load("imdb_reviews")
    return splits["train"].concatenate(splits["unsupervised"]).map(lambda review: review["text"])


def number(texts: tf.data.Dataset) -> tuple[np.ndarray, list[str]]:
    """(the numbers of all words, in one row; the words by number). "" is 0 and ends a text."""
    numbers, pieces = defaultdict(itertools.count().__next__), [np.zeros(0, "int32")]
    assert numbers[b""] == 0

    def split(batch):
        return tf.concat([tf.strings.split(clean(batch)), tf.fill([tf.size(batch), 1], "")], 1)

    for batch in texts.batch(256).map(split, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2):
        words = batch.flat_values.numpy().tolist()
        pieces.append(np.fromiter(map(numbers.__getitem__, words), "int32", len(words)))
    return np.concatenate(pieces), [word.decode() for word in numbers]


def batches(part: np.ndarray, counts: np.ndarray, window: int, shuffle: bool) -> tf.data.Dataset:
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
        words = part[place * BATCH : (place + 1) * BATCH]
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

    places, seeds = tf.data.Dataset.range(-(-len(part) // BATCH)), tf.data.Dataset.random(0)
    if shuffle:
        places = places.shuffle(len(places))
        seeds = tf.data.Dataset.random(rerandomize_each_iteration=True)
    return tf.data.Dataset.zip(places, seeds).map(pairs).prefetch(4)


# --- Model: words and others in, the score of each pair out ---------------------------------


class Vectors(keras.layers.Layer):
    """A vector for each word, by its number. Its gradient is of the vectors used alone."""

    def __init__(self, count: int, dimension: int, initializer, **kwargs):
        super().__init__(**kwargs)
        self.shape, self.initializer = (count, dimension), initializer

    def build(self, input_shape):
        self.table = self.add_weight(self.shape, self.initializer, name="table")
        super().build(input_shape)

    def call(self, numbers):
        return tf.gather(self.table.value, numbers)

    def compute_output_spec(self, numbers):
        return keras.KerasTensor((*numbers.shape, self.shape[1]), self.compute_dtype)

    def of_all_words(self) -> np.ndarray:
        """(words, dimension)"""
        return self.table.numpy()

    def of_ngrams(self) -> np.ndarray | None:
        """(BUCKETS, dimension), where there are any."""


class NgramVectors(Vectors):
    """The mean of a word's own vector and its n-grams', which come first in the table."""

    def __init__(self, words: list[str], dimension: int, initializer, **kwargs):
        super().__init__(BUCKETS + len(words), dimension, initializer, **kwargs)
        own = BUCKETS + tf.range(len(words))[:, None]
        self.parts = tf.concat([own, ngrams(tf.constant(words))], axis=1)

    def call(self, numbers):
        different, places = tf.unique(tf.reshape(numbers, [-1]))
        parts = tf.gather(self.parts, different)
        vectors = tf.gather(self.table.value, parts.flat_values)
        means = tf.math.segment_mean(vectors, parts.value_rowids())
        return tf.reshape(tf.gather(means, places), (*tf.unstack(tf.shape(numbers)), self.shape[1]))

    def of_all_words(self) -> np.ndarray:
        return self(tf.range(self.parts.nrows(tf.int32))).numpy()

    def of_ngrams(self) -> np.ndarray:
        return self.table.numpy()[:BUCKETS]


def ngrams(words: tf.Tensor) -> tf.RaggedTensor:
    """For each word, the buckets that its n-grams fall into, its ends marked as < and >."""
    letters = tf.strings.unicode_split(tf.strings.join(["<", words, ">"]), "UTF-8")
    found = tf.strings.ngrams(letters, LETTERS, separator="")
    return tf.cast(tf.strings.to_hash_bucket_fast(found, BUCKETS), tf.int32)


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
        self.optimizer.apply(tape.gradient(total, variables), variables)
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


class RowAdagrad(keras.optimizers.Optimizer):
    """Adagrad (Duchi et al. 2011) on tables, with one sum for each row: of its mean squares.

    A frequent word's gradient is the sum over thousands of pairs of a batch, a rare word's
    over a few; so divided, neither overshoots nor lags. Only rows with a gradient are touched,
    while Keras's Adagrad goes over the whole table at every step.
    """

    def build(self, variables):
        if not self.built:
            super().build(variables)
            self.sums = [self.add_variable((v.shape[0], 1), name="sums") for v in variables]

    def update_step(self, gradient, variable, learning_rate):
        sums = self.sums[self._get_variable_index(variable)].value
        rows, places = tf.unique(gradient.indices)
        gradient = tf.math.unsorted_segment_sum(gradient.values, places, tf.size(rows))
        squares = tf.reduce_mean(gradient**2, axis=-1, keepdims=True)
        sums.scatter_add(tf.IndexedSlices(squares, rows))
        step = tf.math.divide_no_nan(gradient, tf.sqrt(tf.gather(sums, rows)))
        variable.scatter_sub(tf.IndexedSlices(learning_rate * step, rows))


# --- Evaluation: analogies, a to b as c to d -------------------------------------------------


def read_questions(path: str) -> dict[str, list[list[str]]]:
    """For each section, its questions [a, b, c, d], in the format of questions-words.txt.

    Raises:
        SystemExit: If there is no such file, or a line is neither a section nor a question.
    """
    sections, section = {}, None
    try:
        for number, line in enumerate(Path(path).read_text("utf-8").splitlines(), 1):
            if line.startswith(":"):
                section = sections.setdefault(line[1:].strip(), [])
            elif section is None or len(line.split()) != 4:
                raise ValueError(f"line {number}: {line!r}")
            else:
                section.append(line.lower().split())
    except (OSError, ValueError) as error:
        raise SystemExit(
            f"--questions: {path} cannot be read ({error}). Expected are lines of four words "
            "below lines such as ': family', as in word2vec's questions-words.txt."
        ) from error
    return sections


def evaluate(words: list[str], vectors: np.ndarray, questions: dict) -> dict:
    """The share of questions whose d is the word most similar to b − a + c, but for a, b and c.

    As everywhere since word2vec, vectors are taken at length one, d is looked for among the
    FREQUENT most frequent words, and a question with another word is not counted: `coverage`
    is the share that is. The sections of syntactic questions are those named "gram…".
    """
    place = {word: i for i, word in enumerate(words[:FREQUENT])}
    units = unit(vectors[:FREQUENT])
    asked, right = {}, {}
    for section, all_of_it in questions.items():
        known = [[place[w] for w in q] for q in all_of_it if all(w in place for w in q)]
        asked[section], right[section] = len(known), 0
        for some in np.array_split(np.array(known, int).reshape(-1, 4), len(known) // 500 + 1):
            a, b, c, d = some.T
            similarity = (units[b] - units[a] + units[c]) @ units.T
            np.put_along_axis(similarity, some[:, :3], -np.inf, axis=1)
            right[section] += int(np.sum(similarity.argmax(axis=1) == d))

    def share(sections):
        count = sum(asked[s] for s in sections)
        return {
            "questions": count,
            "accuracy": sum(right[s] for s in sections) / count if count else None,
        }

    syntactic = [s for s in questions if s.startswith("gram")]
    total = sum(map(len, questions.values()))
    return {
        **share(questions),
        "coverage": sum(asked.values()) / total if total else None,
        "semantic": share([s for s in questions if s not in syntactic]),
        "syntactic": share(syntactic),
        "sections": {s: share([s]) for s in questions},
    }


def unit(vectors: np.ndarray) -> np.ndarray:
    """At length one; zeros stay."""
    return tf.math.l2_normalize(vectors, axis=-1).numpy()


# --- Answers and export: words in, and vectors or words out ----------------------------------


class Answers(keras.layers.Layer):
    """Vectors, neighbours and analogies of words given as strings, whatever their capitals.

    A word out of the vocabulary has the mean of its n-grams' vectors where there are any, else
    zeros, and then no neighbours: "" and 0. All answers are among the FREQUENT most frequent
    words, and none is a word of the question.
    """

    def __init__(self, words: list[str], vectors: np.ndarray, ngram_vectors: np.ndarray | None):
        super().__init__(name="answers")
        self.number = keras.layers.StringLookup(vocabulary=words)  # from 1; 0 is unknown
        self.words = tf.constant(words[:FREQUENT])
        self.table = self.constant("table", np.pad(vectors, [[1, 0], [0, 0]]))
        self.units = self.constant("units", unit(vectors[:FREQUENT]))
        self.ngrams = None
        if ngram_vectors is not None:
            self.ngrams = self.constant("ngrams", ngram_vectors)
        self.built = True

    def constant(self, name: str, value: np.ndarray):
        start = keras.initializers.Constant(value)
        return self.add_weight(value.shape, initializer=start, trainable=False, name=name)

    def find(self, words: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(numbers, (batch, dimension) vectors) of (batch,) words."""
        words = tf.strings.lower(words, "utf-8")
        numbers = self.number(words)
        vectors = tf.gather(self.table.value, numbers)
        if self.ngrams is not None:
            parts = ngrams(words)
            spelt = tf.gather(self.ngrams.value, parts.flat_values)
            spelt = tf.math.unsorted_segment_mean(spelt, parts.value_rowids(), tf.size(words))
            vectors = tf.where((numbers > 0)[:, None], vectors, spelt)
        return numbers, vectors

    def best(
        self, scores: tf.Tensor, numbers: tf.Tensor, answerable: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The words of the highest scores, and these, but for those numbered (batch, n)."""
        own = tf.reduce_any(tf.one_hot(numbers - 1, len(self.words), True, False), axis=1)
        scores = tf.where(own, -np.inf, scores)
        scores, which = tf.math.top_k(scores, min(ANSWERS, len(self.words)))
        found = tf.math.is_finite(scores) & answerable[:, None]
        return tf.where(found, tf.gather(self.words, which), ""), tf.where(found, scores, 0.0)

    def vectors(self, words: tf.Tensor) -> dict[str, tf.Tensor]:
        numbers, vectors = self.find(bounded("words", words, [None]))
        return {"vectors": vectors, "known": tf.cast(numbers > 0, tf.int32)}

    def neighbours(self, words: tf.Tensor) -> dict[str, tf.Tensor]:
        """The most similar words by the cosine, and the nearest by Euclidean distance."""
        numbers, vectors = self.find(bounded("words", words, [None]))
        answerable = tf.reduce_any(vectors != 0, axis=-1)
        cosines = tf.matmul(tf.math.l2_normalize(vectors, -1), self.units.value, transpose_b=True)
        similar, similarities = self.best(cosines, numbers[:, None], answerable)

        # ‖u − v‖² = ‖u‖² − 2 u·v + ‖v‖²
        others = self.table.value[1 : len(self.words) + 1]
        squares = tf.reduce_sum(vectors**2, -1)[:, None] + tf.reduce_sum(others**2, -1)
        squares -= 2 * tf.matmul(vectors, others, transpose_b=True)
        near, negated = self.best(-tf.sqrt(tf.nn.relu(squares)), numbers[:, None], answerable)
        return {
            "similar": similar,
            "similarities": similarities,
            "near": near,
            "distances": tf.abs(negated),
            "known": tf.cast(numbers > 0, tf.int32),
        }

    def analogies(self, questions: tf.Tensor) -> dict[str, tf.Tensor]:
        """For each (king, man, woman), what is most similar to king − man + woman."""
        questions = bounded("questions", questions, [None, 3])
        numbers, vectors = self.find(tf.reshape(questions, [-1]))
        numbers = tf.reshape(numbers, (-1, 3))
        units = tf.reshape(tf.math.l2_normalize(vectors, -1), (-1, 3, vectors.shape[-1]))
        answerable = tf.reduce_all(tf.reduce_any(units != 0, axis=-1), axis=-1)
        wanted = tf.math.l2_normalize(units[:, 0] - units[:, 1] + units[:, 2], -1)
        cosines = tf.matmul(wanted, self.units.value, transpose_b=True)
        answers, similarities = self.best(cosines, numbers, answerable)
        known = tf.cast(tf.reduce_all(numbers > 0, axis=-1), tf.int32)
        return {"answers": answers, "similarities": similarities, "known": known}


def bounded(name: str, words: tf.Tensor, shape: list[int | None]) -> tf.Tensor:
    """`words`, the input `name`, once it is known not to be too large."""
    words = checks.shaped(words, shape)
    size = tf.reduce_sum(tf.cast(tf.strings.length(words), tf.int64))
    words = checks.at_most(MOST_WORDS, "words", name, words, tf.size(words))
    return checks.at_most(MOST_BYTES, "bytes in all words", name, words, size)


def signatures(answers: Answers) -> dict:
    words = {"words": tf.TensorSpec([None], tf.string)}, {"words": ["king"]}
    question = {"questions": tf.TensorSpec([None, 3], tf.string)}
    return {
        "serving_default": (answers.vectors, *words),
        "neighbours": (answers.neighbours, *words),
        "analogies": (answers.analogies, question, {"questions": [["king", "man", "woman"]]}),
    }


def write_projector(folder: Path, words: list[str], vectors: np.ndarray) -> None:
    """What TensorBoard's Embedding Projector shows: a checkpoint, labels, and where they are."""
    folder.mkdir(parents=True, exist_ok=True)
    # Found by the file "checkpoint" beside it, wherever the folder is moved to.
    tf.train.Checkpoint(vectors=tf.Variable(vectors)).save(str(folder / "vectors.ckpt"))
    (folder / "metadata.tsv").write_text("\n".join(words) + "\n", "utf-8")
    config = projector.ProjectorConfig()
    config.embeddings.add(
        tensor_name="vectors/.ATTRIBUTES/VARIABLE_VALUE", metadata_path="metadata.tsv"
    )
    projector.visualize_embeddings(str(folder), config)


# --- What is looked at -----------------------------------------------------------------------


def show(answers: Answers, words: list[str], questions: list[list[str]]) -> None:
    """Prints the neighbours of `words`, and the answers to `questions`."""
    found = answers.neighbours(tf.constant(words))
    found = {name: value.numpy() for name, value in found.items()}
    for i, word in enumerate(words):
        if not found["similar"][i, 0]:
            print(f"  {word}: not in the vocabulary")
            continue
        for how, names, numbers in (
            ("cosine", "similar", "similarities"),
            ("distance", "near", "distances"),
        ):
            best = zip(found[names][i, :5], found[numbers][i])
            print(f"  {word:>10}, {how:8}", *(f"{w.decode()} {x:.2f}" for w, x in best))
    found = answers.analogies(tf.constant(questions))
    for (a, b, c), best in zip(questions, found["answers"].numpy()):
        best = ", ".join(word.decode() for word in best[:5] if word)
        print(f"  {a} − {b} + {c} ≈ {best or 'unknown: a word is not in the vocabulary'}")


def draw(folder: Path, corpus: Corpus, vectors: np.ndarray, chosen: list[str], seed: int) -> None:
    """Pictures of `chosen` words: beside one-hot, and on a map with their neighbours."""
    place = {word: i for i, word in enumerate(corpus.words)}
    rows = [place[word] for word in chosen]
    units = unit(vectors[:FREQUENT])
    cosines = unit(vectors[rows]) @ unit(vectors[rows]).T
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
        for i in [row, *np.argsort(-units @ unit(vectors[row]))[:8]]:
            group.setdefault(int(i), of)
    # Between so few points, a perplexity as high as the default would see no neighbourhood.
    perplexity = min(10, (len(group) - 1) / 3)
    tsne = TSNE(metric="cosine", init="random", perplexity=perplexity, random_state=seed)
    points = tsne.fit_transform(vectors[list(group)])
    names = [corpus.words[i] for i in group]
    pictures.word_map(folder / "map.png", points, names, list(group.values()), chosen)


def main(args: argparse.Namespace) -> None:
    questions = read_questions(args.questions) if args.questions else {}
    if args.dataset == "sample" and not args.questions:
        questions = analogies.questions()

    corpus = load(args.dataset, args.data, args.seed, args.min_count)
    training.begin(args, *corpus)
    print(f"{len(corpus.train):,} words, {len(corpus.words):,} different ones.")
    train = batches(corpus.train, corpus.counts, args.window, shuffle=True).take(args.steps or -1)
    validation = batches(corpus.validation, corpus.counts, args.window, shuffle=False)
    model = build(corpus.words, args.dimension, args.ngrams)
    compile_model(model, args.epochs * len(train))
    model.summary()

    trained = training.fit(model, train, validation, args, best=("val_loss", "min"))
    layer = model.get_layer("words")
    vectors = layer.of_all_words()
    answers = Answers(corpus.words, vectors, layer.of_ngrams())
    scores = evaluate(corpus.words, vectors, questions)
    seen = min(len(corpus.train), len(train) * BATCH) * len(trained["history"]["loss"])
    speed = {"words_per_second": round(seen / trained["seconds"])}
    training.write_metrics(args, trained, model, **speed, vocabulary=len(corpus.words), test=scores)
    word_vectors.write(args.output / "vectors.txt", corpus.words, vectors)
    # The Projector draws no more than this in a browser.
    shown = slice(10_000)
    write_projector(args.output / "tensorboard/train", corpus.words[shown], vectors[shown])

    pictures.curves(args.output / "curves.png", trained["history"], trained["best_epoch"])
    known = set(corpus.words)
    chosen = [w.lower() for w in args.words or WORDS if w.lower() in known] or corpus.words[:12]
    draw(args.output, corpus, vectors, chosen, args.seed)
    print(
        f"One-hot, a word is {len(corpus.words)} numbers, and the cosine of any two is 0. "
        f"Here it is {args.dimension} numbers, and these are most similar or nearest:"
    )
    show(answers, args.words or chosen, args.analogy or [["king", "man", "woman"]])
    if questions:
        print(
            f"Analogies: {percent(scores)} of {scores['questions']} answered correctly "
            f"(semantic {percent(scores['semantic'])}, syntactic {percent(scores['syntactic'])}); "
            f"{scores['coverage']:.1%} of all questions have only words known here."
        )
    served = signatures(answers)
    version = publishing.publish(answers, args.saved_models / args.recipe, served, args.keep)
    print(f"Exported to {version}; vectors, pictures and metrics are in {args.output}.")


def percent(score: dict) -> str:
    return "none" if score["accuracy"] is None else f"{score['accuracy']:.2%}"


if __name__ == "__main__":
    command_line.run(main, ARGS)
