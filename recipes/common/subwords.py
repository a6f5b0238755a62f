"""Words in pieces (Kudo 2018), numbered: the same for a file that is read and in an exported graph.

A unigram model knows pieces and how probable each is; a word is cut where that makes it most
probable:

    best cut of w = argmax Σ log p(piece)        found by Viterbi's algorithm

The pieces are learned by SentencePiece. In training, cuts are also drawn from its best ones, anew
in each epoch (subword regularization). In the graph, the best cut is found by operations of
TensorFlow's alone, so that whoever loads an export needs neither library.
"""

import io

import numpy as np
import sentencepiece
import tensorflow as tf

PAD, UNKNOWN, END = 0, 1, 2  # END begins a sentence, too
BETWEEN = r"[\s\p{Z}\p{Cc}]+"  # words: spaces, and what can't be seen
SPACE = "▁"  # SentencePiece's, before each word
NO_PIECE = "\n"  # what is in none
BEST = 16  # cuts of a word that are drawn from,
SMOOTHNESS = 0.3  # with chances of p ** SMOOTHNESS
UNKNOWN_PENALTY = 10.0  # as in SentencePiece: below the least probable piece


def split(texts: tf.Tensor) -> tf.RaggedTensor:
    """(batch,) texts to a ragged (batch, words)."""
    texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8")  # what is none becomes U+FFFD
    return tf.strings.split(tf.strings.regex_replace(texts, BETWEEN, " "))


def spaced(texts: list[str]) -> list[str]:
    """`texts`, a single space between words."""
    words = split(tf.constant(texts, tf.string))
    return [x.decode() for x in tf.strings.reduce_join(words, -1, separator=" ").numpy()]


def learn(texts: list[str], size: int) -> bytes:
    """SentencePiece's model of at most `size` pieces, learned from `texts`.

    Raises:
        SystemExit: If each of their characters alone makes more.
    """
    texts, model = spaced(texts), io.BytesIO()
    characters = {*"".join(texts), " "}
    lacking = len(characters) + END + 1 - size
    if lacking > 0:
        raise SystemExit(
            f"--pieces: too few, for these texts have {len(characters)} different characters: "
            f"give at least {lacking} more."
        )
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        vocab_size=size,
        hard_vocab_limit=False,
        normalization_rule_name="identity",  # the graph has no other
        character_coverage=1.0,
        split_digits=True,
        pad_id=PAD,
        unk_id=UNKNOWN,
        eos_id=END,
        bos_id=-1,
        minloglevel=2,
    )
    return model.getvalue()


class Subwords:
    """The pieces of a model that `learn` returns, numbered."""

    def __init__(self, model: bytes):
        self.processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        numbers = range(len(self))
        pieces = [self.processor.id_to_piece(k) for k in numbers]
        scores = np.array([self.processor.get_score(k) for k in numbers], "float32")
        known = [k for k in numbers if k > END]
        scores[UNKNOWN] = scores[known].min() - UNKNOWN_PENALTY
        self.longest = max(len(pieces[k]) for k in known)
        self.scores, self.of_piece = tf.constant(scores), scores
        self.best = {}  # of each word met in training: its cuts, and where the chance of each ends
        self.pieces = tf.constant(["", "\N{REPLACEMENT CHARACTER}", "", *pieces[END + 1 :]])
        self.number = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(
                [pieces[k] for k in known], known, value_dtype="int32"
            ),
            default_value=-1,
        )

    def __len__(self) -> int:
        """How many numbers there are."""
        return self.processor.get_piece_size()

    def drawn(self, texts: list[str]) -> list[list[int]]:
        """The numbers of `texts`, each word cut in one of its `BEST` ways: the probable more often.

        By numpy, whose seed settles it: SentencePiece draws otherwise in each process.
        """
        return [[k for word in text.split() for k in self._drawn(word)] for text in texts]

    def _drawn(self, word):
        if word not in self.best:
            cuts = self.processor.nbest_encode_as_ids(word, BEST) or [self.processor.encode(word)]
            scores = SMOOTHNESS * np.array([self.of_piece[cut].sum() for cut in cuts])
            chances = np.exp(scores - scores.max())
            self.best[word] = cuts, np.cumsum(chances / chances.sum())[:-1]
        cuts, ends = self.best[word]
        return cuts[np.searchsorted(ends, np.random.random())] if len(cuts) > 1 else cuts[0]

    # --- In the graph ----------------------------------------------------------------------

    def numbers(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """(batch,) texts to a ragged int32 (batch, pieces)."""
        return self.of_words(split(texts))

    def of_words(self, words: tf.RaggedTensor) -> tf.RaggedTensor:
        """A ragged (batch, words) to a ragged int32 (batch, pieces)."""
        different, places = tf.unique(words.flat_values)
        some = tf.concat([different, [""]], 0)  # at least one
        each = tf.gather(self._cut(some), places)
        return words.with_flat_values(each).merge_dims(1, 2)

    def texts(self, numbers: tf.Tensor) -> tf.Tensor:
        """(…, pieces) numbers to (…) texts."""
        text = tf.strings.reduce_join(tf.gather(self.pieces, numbers), axis=-1)
        return tf.strings.strip(tf.strings.regex_replace(text, SPACE, " "))

    def _cut(self, words):
        """(words,) to a ragged int32 (words, pieces)."""
        letters = tf.strings.unicode_split(tf.strings.join([SPACE, words]), "UTF-8")
        lengths = tf.cast(letters.row_lengths(), tf.int32)
        letters = letters.to_tensor("")
        size, span, spans = tf.shape(letters), letters, []
        for _ in range(self.longest):  # all that ends at a letter, the shortest first
            spans.append(span)
            span = tf.concat([tf.fill([size[0], 1], NO_PIECE), span[:, :-1]], 1)[:, : size[1]]
            span = tf.strings.join([span, letters])
        found = self.number.lookup(tf.stack(spans, -1))
        alone = tf.range(self.longest) == 0
        found = tf.where((found < 0) & alone, UNKNOWN, found)
        scores = tf.where(found < 0, float("-inf"), tf.gather(self.scores, tf.maximum(found, 0)))

        def forward(j, best, cuts):
            """`best`: the scores of the best cuts up to the last letters, the last first."""
            here = best + scores[:, j]
            now = tf.reduce_max(here, axis=1, keepdims=True)
            cuts = cuts.write(j, tf.argmax(here, axis=1, output_type=tf.int32))
            return j + 1, tf.concat([now, best[:, :-1]], 1), cuts

        def back(j, end, ends):
            is_end = end == j
            end = tf.where(is_end, j - 1 - cuts[j], end)
            return j - 1, end, ends.write(j, is_end)

        begun = tf.where(alone, 0.0, tf.fill([size[0], self.longest], float("-inf")))
        cuts = tf.TensorArray(tf.int32, size[1], element_shape=[None])
        *_, cuts = tf.while_loop(lambda j, *_: j < size[1], forward, (0, begun, cuts))
        cuts = cuts.stack()
        ends = tf.TensorArray(tf.bool, size[1], element_shape=[None])
        *_, ends = tf.while_loop(lambda j, *_: j >= 0, back, (size[1] - 1, lengths - 1, ends))
        ends, cuts = tf.transpose(ends.stack()), tf.transpose(cuts)
        chosen = tf.gather(found, cuts, batch_dims=2)
        # A run of unknown letters is one piece.
        unknown = ends & (chosen == UNKNOWN)
        again = tf.pad(unknown, [[0, 0], [1, 0]])[:, : size[1]]
        return tf.ragged.boolean_mask(chosen, ends & ~(unknown & again))
