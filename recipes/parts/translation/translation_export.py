"""What a translator is exported as: sentences in and out, all of it in the graph.

serving_default  the best translation of each sentence, and what it attended to
alternatives     the best few
start, next      the most probable translation, as it is written: a piece of a word in each request
"""

from typing import NamedTuple

import keras
import tensorflow as tf

import layers
from layers.exchange import checks
from layers.sequences.decoding import Written
from recipes.common.other_runtimes import PortableModel
from recipes.common.portable_rules import portable
from recipes.common.subwords import BETWEEN, END, PAD, UNKNOWN, Subwords, split

WIDTH, PENALTY = 5, 1.0  # of the beam; of short translations
ALTERNATIVES = 5
# In a request, so that its memory and time are bounded:
MOST_SENTENCES = 256
MOST_LETTERS = 2**15  # each word padded to the longest
MOST_PLACES = 2**12  # pieces, each sentence padded to the longest
MOST_PIECES = 256  # in a sentence
MORE = 20  # pieces that a translation may have beyond twice the sentence's


class Translator(NamedTuple):
    """A trained model in its two halves, and what its numbers mean.

    Attributes:
        encoder: The numbers of sentences, END behind each and padded with PAD, to the three
            constants of an `AttentionCell` and the decoder's first states.
        decoder: The numbers before those that are looked for, these constants and the states, to
            logits and new states. Its layers "embedding" and "decoder" make what is attended to.
        subwords: Numbers and texts.
    """

    encoder: keras.Model
    decoder: keras.Model
    subwords: Subwords

    def read(self, name: str, sentences: tf.Tensor) -> tf.Tensor:
        """The numbers of `sentences`, the input `name`, once they are known not to be too many."""
        sentences = checks.shaped(sentences, [None])
        count = tf.shape(sentences)[0]
        sentences = checks.at_most(MOST_SENTENCES, "sentences", name, sentences, count)
        words = split(sentences)
        lengths = tf.strings.length(words.flat_values, "UTF8_CHAR")
        letters = words.row_splits[-1] * _most(lengths)
        what = "letters, each word padded to the longest"
        words = checks.at_most(MOST_LETTERS, what, name, words, letters)
        numbers = self.subwords.of_words(words)
        longest = 1 + _most(numbers.row_lengths())
        what = "pieces of words in a sentence"
        numbers = checks.at_most(MOST_PIECES, what, name, numbers, longest)
        what = "pieces of words, each sentence padded to the longest"
        numbers = checks.at_most(MOST_PLACES, what, name, numbers, numbers.nrows() * longest)
        ends = tf.fill([numbers.nrows(), 1], END)
        return tf.concat([numbers, ends], 1).to_tensor(PAD)

    def encode(self, numbers: tf.Tensor) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """(the constants, the decoder's first states)."""
        found = self.encoder(numbers, training=False)
        return found[:3], found[3:]

    def step(self, tokens: tf.Tensor, states: list[tf.Tensor], *memory: tf.Tensor) -> tuple:
        """As `layers.beam_search` asks for it."""
        logits, *states = self.decoder([tokens[:, None], *memory, *states], training=False)
        never = tf.one_hot([PAD, UNKNOWN], len(self.subwords), float("inf"), 0.0)
        return logits[:, 0] - tf.reduce_sum(never, 0), states

    def search(self, memory: list[tf.Tensor], states: list[tf.Tensor], best: int) -> Written:
        """The best translations of what `encode` has returned."""
        places = tf.math.count_nonzero(memory[2], axis=1, dtype=tf.int32)  # END among them
        first = tf.fill(tf.shape(places), END)
        return layers.beam_search(
            self.step,
            *self.step(first, states, *memory),
            memory,
            length=2 * places + MORE,
            end=END,
            width=WIDTH,
            best=best,
            length_penalty=PENALTY,
        )

    def attention(
        self, memory: list[tf.Tensor], states: list[tf.Tensor], written: tf.Tensor
    ) -> tf.Tensor:
        """(batch, written, places): where each piece of a translation came from."""
        before = tf.pad(written, [[0, 0], [1, 0]], constant_values=END)[:, : tf.shape(written)[1]]
        read = self.decoder.get_layer("embedding")(before)
        layer = self.decoder.get_layer("decoder")
        return layers.attention_weights(layer, read, memory, initial_state=states)


def _most(counts):
    return tf.reduce_max(tf.concat([[0], tf.cast(counts, tf.int64)], 0))


def signatures(translator: Translator, example: str) -> dict:
    subwords = translator.subwords
    sentences = {"sentences": tf.TensorSpec([None], tf.string)}

    def translate(sentences):
        numbers = translator.read("sentences", sentences)
        encoded = translator.encode(numbers)
        found = translator.search(*encoded, 1)
        written, lengths = found.tokens[:, 0], found.lengths[:, 0]
        written = written[:, : tf.reduce_max(tf.concat([[0], lengths], 0))]
        real = tf.sequence_mask(lengths)
        weights = translator.attention(*encoded, written)
        return {
            "translations": subwords.texts(written),
            "scores": found.scores[:, 0],
            "attention": tf.where(real[..., None], weights, 0.0),
            "pieces": tf.gather(subwords.pieces, written),
            "read": tf.where(numbers == END, "</s>", tf.gather(subwords.pieces, numbers)),
        }

    def alternatives(sentences):
        encoded = translator.encode(translator.read("sentences", sentences))
        found = translator.search(*encoded, ALTERNATIVES)
        return {"translations": subwords.texts(found.tokens), "scores": found.scores}

    sizes = {f"state_{k}": x.shape[-1] for k, x in enumerate(translator.encoder.output[3:])}
    states = {"last": tf.TensorSpec([None], tf.int32)}
    states |= {name: tf.TensorSpec([None, size]) for name, size in sizes.items()}

    def start(sentences):
        numbers = translator.read("sentences", sentences)
        _, begun = translator.encode(numbers)
        return {"last": tf.fill(tf.shape(numbers)[:1], END), **dict(zip(sizes, begun))}

    def following(sentences, last, *given):
        inputs = {
            "sentences": checks.shaped(sentences, [None]),
            "last": checks.shaped(last, [None]),
        }
        for (name, size), x in zip(sizes.items(), given):
            inputs[name] = checks.finite(name, checks.shaped(x, [None, size]))
        sentences, last, *given = checks.same_batch(inputs).values()
        last = checks.between("last", last, 0, len(subwords) - 1)
        memory, _ = translator.encode(translator.read("sentences", sentences))
        logits, given = translator.step(last, list(given), *memory)
        last = tf.argmax(logits, axis=-1, output_type=tf.int32)
        ended = last == END
        return {
            "text": tf.strings.regex_replace(tf.gather(subwords.pieces, last), "▁", " "),
            "ended": tf.cast(ended, tf.int32),
            "last": last,
            **dict(zip(sizes, given)),
        }

    begun = start(tf.constant([example]))
    return {
        "serving_default": (translate, sentences, {"sentences": [example]}),
        "alternatives": (alternatives, sentences, {"sentences": [example]}),
        "start": (start, sentences, {"sentences": [example]}),
        "next": (following, sentences | states, {"sentences": [example], **begun}),
    }


def numeric(translator: Translator) -> PortableModel:
    """For ONNX and LiteRT: two models, what reads a sentence and a step of what writes."""
    known = translator.subwords
    inputs = translator.encoder.outputs
    memory = [f"memory_{k}" for k in range(3)]
    states = [f"state_{k}" for k in range(len(inputs) - 3)]

    def build():
        read = keras.Input((None,), dtype="int32", name="source")
        encoded = dict(zip([*memory, *states], translator.encoder(read)))
        before = keras.Input((None,), dtype="int32", name="before")
        given = [
            keras.Input(x.shape[1:], dtype=x.dtype, name=name)
            for name, x in zip([*memory, *states], inputs)
        ]
        written = translator.decoder([before, *given])
        named = dict(zip(["logits", *states], written))
        return {
            "encoder": keras.Model(read, encoded, name="encoder"),
            "decoder": keras.Model([before, *given], named, name="decoder"),
        }

    def as_model(page):
        def write(sentences):
            found = page([sentence.decode() for sentence in sentences.numpy()])
            return {name: tf.constant(x) for name, x in found.items()}

        return write

    about = {
        "task": "translation",
        "models": ["encoder", "decoder"],
        "rules": portable([(BETWEEN, " ")]),
        "pieces": [x.decode() for x in known.pieces.numpy()],
        "scores": known.scores.numpy().tolist(),
        "end": END,
        "width": WIDTH,
        "penalty": PENALTY,
        "more": MORE,
    }
    return PortableModel(build, about, {}, as_model)
