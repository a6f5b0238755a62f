"""Words and their numbers, the same for texts that are read and in an exported graph."""

import itertools
from collections import defaultdict
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

END, UNKNOWN = 0, 1  # as a number, END is what pads shorter texts elsewhere
MOST = 30_000  # numbers, these two among them


CLEAN = (
    (r"<[a-z/!?][^>]*>", " "),  # a tag; no "<3", no "5 < 7 > 6"
    (r"’", "'"),
    (r"n't\b", " n't"),
    (r"([^\pL\pM\pN_\s'])", r" \1 "),
    (r"'(s|re|ve|ll|d|m)\b", r" '\1"),
)
# Where no spaces are written between words, each character is one.
SPACELESS = r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}])"
RULES = (*CLEAN, (SPACELESS, r" \1 "))


def lower(texts: tf.Tensor) -> tf.Tensor:
    """Lower case, the same everywhere: TensorFlow's makes "ı" of "I" where the locale is Turkish,
    and drops all behind a zero."""
    return tf.strings.lower(replaced(texts, (("I", "i"), ("İ", "i̇"), (r"\x00", " "))), "utf-8")


def clean(texts: tf.Tensor) -> tf.Tensor:
    """Lower case, without HTML, and marks and "n't" apart from the words they stand at."""
    return replaced(lower(texts), CLEAN)


def standardize(texts: tf.Tensor) -> tf.Tensor:
    """`clean`; where no spaces are written between words, each character is one."""
    return replaced(lower(texts), RULES)


def apart(texts: tf.Tensor) -> tf.RaggedTensor:
    """The words of each of (batch,) texts."""
    return tf.strings.split(standardize(texts))


def replaced(texts: tf.Tensor, rules: tuple) -> tf.Tensor:
    """`texts`, one (pattern, replacement) after the other applied everywhere."""
    for pattern, replacement in rules:
        texts = tf.strings.regex_replace(texts, pattern, replacement)
    return texts


def split_off_tail(texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """(what is read alike whatever follows, the rest), wherever a text was cut.

    The rest starts at a tag not closed yet, or else behind the last space or tag: inside
    a word nothing is decided. `\\C` is any byte, also of half a character.
    """
    after_tags = tf.strings.regex_replace(texts, r"^\C*>", "")
    before_open = tf.strings.regex_replace(after_tags, r"<([a-zA-Z/!?]\C*|[^\x00-\x7f]\C*)?$", "")
    whole_words = tf.strings.regex_replace(before_open, r"^(\C*\s)?\C*$", r"\1")
    length = tf.strings.length(texts)
    cut = length - tf.strings.length(after_tags) + tf.strings.length(whole_words)
    read = tf.strings.substr(texts, tf.zeros_like(cut), cut)
    return read, tf.strings.substr(texts, cut, length - cut)


def vectorization(**kwargs) -> keras.layers.TextVectorization:
    """The layer "vocabulary": texts in, the numbers of their words out."""
    return keras.layers.TextVectorization(MOST, standardize, name="vocabulary", **kwargs)


def number(texts: tf.data.Dataset, clean: Callable) -> tuple[np.ndarray, list[str]]:
    """(the numbers of all words, in one row; the words by number). "" is 0 and ends a text."""
    numbers, pieces = defaultdict(itertools.count().__next__), [np.zeros(0, "int32")]
    assert numbers[b""] == END

    def split(batch):
        return tf.concat([tf.strings.split(clean(batch)), tf.fill([tf.size(batch), 1], "")], 1)

    batches = texts.batch(256)
    size = int(batches.cardinality())
    bar = keras.utils.Progbar(size if size > 0 else None, interval=1, unit_name="batch of texts")
    for batch in batches.map(split, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2):
        words = batch.flat_values.numpy().tolist()
        pieces.append(np.fromiter(map(numbers.__getitem__, words), "int32", len(words)))
        bar.add(1)
    return np.concatenate(pieces), [word.decode() for word in numbers]


def number_most_frequent(
    train: list[str], validation: list[str]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(the numbers of both parts' words, END behind each text; the words, by `train` alone).

    They are those of `vectorization`.
    """
    numbers, words = number(tf.data.Dataset.from_tensor_slices([*train, *validation]), standardize)
    cut = np.flatnonzero(numbers == END)[len(train) - 1] + 1
    counts = np.bincount(numbers[:cut], minlength=len(words))
    counts[END] = 0
    order = np.argsort(-counts, kind="stable")[: min(MOST - 2, np.count_nonzero(counts))]
    place = np.full(len(words), UNKNOWN, "int32")
    place[order] = np.arange(2, len(order) + 2)
    place[END] = END
    numbers = place[numbers]
    return numbers[:cut], numbers[cut:], [words[i] for i in order]


def read_backwards(numbers: np.ndarray) -> np.ndarray:
    """Each text from its last word to its first, and then its END."""
    return np.roll(numbers[::-1], -1)


class Words:
    """The words of a vocabulary, numbered from 2, the most frequent first."""

    name, start = "words", END
    most_places = 2**10  # as in `Characters`; for each place there is a number for each word
    most_told = 100  # of the words that may come next

    def __init__(self, known: list[str]):
        self.known = known
        self.layer = vectorization(vocabulary=known, ragged=True)
        self.written = tf.constant(["\n", "", *(f" {word}" for word in known)])
        self.writable = [END, *range(2, len(self))]

    def __len__(self) -> int:
        """How many numbers there are."""
        return len(self.known) + 2

    def numbers(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """(batch,) texts to a ragged int32 (batch, words)."""
        return tf.cast(self.layer(texts), tf.int32)

    def texts(self, numbers: tf.Tensor) -> tf.Tensor:
        """(…,) known numbers to (…,) strings: a space before each word, a line's end for END."""
        return tf.gather(self.written, numbers)

    def split_off_tail(self, texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(the words that end in `texts`, the rest)."""
        return split_off_tail(texts)
