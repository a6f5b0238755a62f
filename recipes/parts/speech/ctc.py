"""Connectionist temporal classification (Graves et al. 2006): texts, of sounds that nobody aligned.

At each step t the network says y_t(k), how probable each symbol k, or a blank, is. A path π is
one of these for each step; B(π) drops its repeats, then its blanks, as "--33-1--1" is 311. Of a
text l all paths count that say it:

    p(l | x) = Σ_{π: B(π) = l} Π_t y_t(π_t)        trained is −log p(l | x)

Greedy decoding takes B of the most probable path. A prefix beam search adds up the paths that
begin alike, and so finds texts that are more probable, though no single path of theirs is.
The loss, and the beam search, are TensorFlow's. The blank is the last number.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from sentencepiece import SentencePieceProcessor

from recipes.common import subwords
from recipes.parts.speech.recordings import Recording

BEAM, TOLD = 16, 3  # prefixes that are kept while searching, and texts in an answer
PADDING = -1  # behind shorter texts' numbers


class Symbols(NamedTuple):
    """What texts are made of: letters, words with a separator in between, or pieces of words, of
    which those that begin one have a space in front."""

    names: list[str]
    separator: str
    processor: SentencePieceProcessor | None = None  # cuts words into pieces

    @classmethod
    def of(cls, texts: list[str], letters: bool) -> "Symbols":
        names = sorted({*"".join(texts)} if letters else {*texts})
        if all(len(name) == 1 for name in names):
            return cls(names, "")
        between = (" ", ", ", "; ", " | ", "\n")
        return cls(names, next(mark for mark in between if not any(mark in x for x in names)))

    @classmethod
    def of_pieces(cls, texts: list[str], count: int) -> "Symbols":
        """`count` at most, learned from `texts`."""
        marks = subwords.END + 1  # the first numbers, of which none is said
        processor = SentencePieceProcessor(model_proto=subwords.learn(texts, count + marks))
        numbers = range(marks, processor.get_piece_size())
        pieces = [processor.id_to_piece(k).replace(subwords.SPACE, " ") for k in numbers]
        return cls(pieces, "", processor)

    def split(self, text: str) -> list[str]:
        if self.processor:
            pieces = self.processor.encode(text, out_type=str)
            return [piece.replace(subwords.SPACE, " ") for piece in pieces]
        return text.split(self.separator) if self.separator else list(text)

    def numbers(self, text: str) -> list[int]:
        if self.processor:
            return [k - subwords.END - 1 for k in self.processor.encode(text)]
        return [self.names.index(symbol) for symbol in self.split(text)]

    def texts(self, numbers: tf.RaggedTensor, before: tf.Tensor | None = None) -> tf.Tensor:
        """(batch,) strings of ragged `numbers`, or of what was `before` and these."""
        found = tf.gather(tf.constant(self.names), numbers)
        found = tf.strings.reduce_join(found, axis=-1, separator=self.separator)
        if before is not None:
            between = tf.where((before == "") | (found == ""), "", self.separator)
            found = tf.strings.join([before, between, found])
        return tf.strings.regex_replace(found, "^ +", "")

    def refuse_unknown(self, recordings: list[Recording]) -> None:
        """Ends the program if a text has a symbol that is none of these."""
        for recording in recordings:
            unknown = {*self.split(recording.text)} - {*self.names}
            if unknown:
                raise SystemExit(
                    f"{recording.name}: its text has {sorted(unknown)}, and no text that is "
                    "trained on. Write it otherwise, or add such texts."
                )

    def refuse_crowded(self, recordings: list[Recording], steps: Callable[[int], int]) -> None:
        """Ends the program if a text has more symbols than its sound has `steps`, by how many
        samples it has. (A symbol after the same one needs two.)"""
        for recording in recordings:
            symbols = self.split(recording.text)
            needed = len(symbols) + sum(a == b for a, b in itertools.pairwise(symbols))
            room = steps(len(recording.samples))
            if needed > room:
                raise SystemExit(
                    f"{recording.name}: a text of {needed} symbols is too long for a sound in "
                    f"which there is time for {room}. Is it the right one? Or leave it out."
                )


class Transcriber(keras.Model):
    """A functional model whose outputs are {"logits": (batch, steps, symbols + 1), "counts":
    (batch,), how many steps are real}, and whose targets are (batch, length) numbers, padded."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return tf.reduce_mean(loss(y, y_pred["logits"], y_pred["counts"]))


def loss(texts: tf.Tensor, logits: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
    """−log p of each text, (batch,), from its padded numbers.

    Raises:
        tf.errors.InvalidArgumentError: If a text is empty, or longer than there are steps.
    """
    texts = tf.cast(texts, tf.int32)
    lengths = tf.reduce_sum(tf.cast(texts != PADDING, tf.int32), axis=1)
    # As sparse numbers, TensorFlow's kernel takes them; as dense ones, a slow loop.
    numbers = tf.RaggedTensor.from_tensor(texts, lengths).to_sparse()
    blank = logits.shape[-1] - 1
    return tf.nn.ctc_loss(numbers, logits, None, counts, logits_time_major=False, blank_index=blank)


def greedy(
    logits: tf.Tensor, counts: tf.Tensor, last: tf.Tensor | None = None
) -> tuple[tf.RaggedTensor, tf.Tensor]:
    """(the numbers of B of the most probable path, its last step's number).

    Args:
        last: (batch,), what the step before had, where the steps go on; None: a blank.
    """
    blank = logits.shape[-1] - 1
    best = tf.argmax(logits, axis=-1, output_type=tf.int32)
    last = tf.fill([tf.shape(best)[0]], blank) if last is None else last
    path = tf.concat([last[:, None], best], axis=1)
    real = tf.sequence_mask(counts, tf.shape(best)[1])
    said = real & (best != path[:, :-1]) & (best != blank)
    return tf.ragged.boolean_mask(best, said), tf.gather(path, counts, batch_dims=1)


def beam_search(
    logits: tf.Tensor, counts: tf.Tensor, beam: int = BEAM, told: int = TOLD
) -> tuple[list[tf.RaggedTensor], tf.Tensor]:
    """(the numbers of the most probable texts, of each row the best, then the second best …;
    their probabilities, (batch, told)). Each row needs a step or more."""
    # A row more: TensorFlow's refuses a batch of none.
    by_step = tf.pad(tf.transpose(logits, [1, 0, 2]), [[0, 0], [0, 1], [0, 0]])
    counts = tf.concat([counts, [1]], axis=0)
    found, logarithms = tf.nn.ctc_beam_search_decoder(
        by_step, counts, beam_width=beam, top_paths=told
    )
    rows = tf.shape(by_step, tf.int64)[1]
    numbers = [
        tf.RaggedTensor.from_value_rowids(tf.cast(x.values, tf.int32), x.indices[:, 0], rows)[:-1]
        for x in found
    ]
    return numbers, tf.exp(logarithms[:-1])


def errors(truth: list[list[int]], found: tf.RaggedTensor) -> np.ndarray:
    """Of each text how many symbols are wrong, missing or too many: the Levenshtein distance."""
    truth = tf.ragged.constant(truth, tf.int32, ragged_rank=1).to_sparse()
    found = found.to_sparse()
    shape = tf.maximum(truth.dense_shape, found.dense_shape)
    truth, found = (tf.SparseTensor(x.indices, x.values, shape) for x in (truth, found))
    return tf.edit_distance(found, truth, normalize=False).numpy()
