"""Words in, and vectors, neighbours or analogies out: what word embeddings are exported as."""

import keras
import numpy as np
import tensorflow as tf

from layers.exchange import checks
from recipes.common.other_runtimes import PortableModel
from recipes.common.words import lower
from recipes.parts.word_embeddings.vector_tables import ngrams

FREQUENT = 30_000  # answers are among so many most frequent words
ANSWERS = 10
MOST_WORDS = 600  # in a request to the export, so that its memory is bounded, and …
MOST_BYTES = 2**16  # … bytes of all of them, for a letter begins an n-gram of each length


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
        words = lower(words)
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


def numeric(words: list[str], vectors: np.ndarray) -> PortableModel:
    """For ONNX and LiteRT: the numbers of words, from 0, to their vectors."""

    def build():
        numbers = keras.Input((), dtype="int32", name="numbers")
        given = keras.initializers.Constant(vectors)
        found = keras.layers.Embedding(*vectors.shape, given, name="vectors")(numbers)
        return {"model": keras.Model(numbers, {"vectors": found}, name="word_embeddings")}

    about = {"task": "vectors", "words": words, "frequent": FREQUENT}
    return PortableModel(build, about, {}, lambda page: page)


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
    if not questions:
        return
    found = answers.analogies(tf.constant(questions))
    for (a, b, c), best in zip(questions, found["answers"].numpy()):
        best = ", ".join(word.decode() for word in best[:5] if word)
        print(f"  {a} − {b} + {c} ≈ {best or 'unknown: a word is not in the vocabulary'}")


def unit(vectors: np.ndarray) -> np.ndarray:
    """At length one; zeros stay."""
    return tf.math.l2_normalize(vectors, axis=-1).numpy()
