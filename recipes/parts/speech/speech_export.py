"""What a speech recognizer is exported as: samples at any rate in, text out, all in the graph."""

import keras
import numpy as np
import tensorflow as tf
from keras import ops

import layers
from layers.exchange import checks
from recipes.common.carried import state_sizes
from recipes.common.other_runtimes import PortableModel
from recipes.common.publishing import INITIAL_STATE_INPUTS
from recipes.parts.speech import ctc, log_mel, resampling

# In a request, so that its memory is bounded:
MOST_ROWS = 256
MOST_SAMPLES = 2**22  # of all rows, padded to the longest: almost 9 minutes at 8 kHz
INPUTS = {
    "samples": tf.TensorSpec([None, None]),
    "lengths": tf.TensorSpec([None], tf.int32),
    "rate": tf.TensorSpec([], tf.int32),
}


def checked_samples(samples: tf.Tensor, lengths: tf.Tensor, rate: tf.Tensor, to: int) -> tuple:
    """(samples at `to`, how many of each row count), from checked inputs of these names.

    What stands behind a row's length is taken for 0, whatever it is.
    """
    given = {"samples": samples, "lengths": lengths}
    given = checks.same_batch(
        {name: checks.shaped(x, list(INPUTS[name].shape)) for name, x in given.items()}
    )
    samples = bounded("samples", given["samples"])
    lengths = checks.between("lengths", given["lengths"], 0, tf.shape(samples)[1])
    samples = tf.where(tf.sequence_mask(lengths, tf.shape(samples)[1]), samples, 0.0)
    samples = in_range("samples", samples)
    rate = checks.shaped(rate, [])
    samples = resampling.resample(samples, rate, to)
    return samples, resampling.resampled_length(lengths, rate, to)


def bounded(name: str, samples: tf.Tensor) -> tf.Tensor:
    """`samples`, the input `name`, once they are known not to be too many."""
    rows, count = tf.shape(samples)[0], tf.size(samples, tf.int64)
    samples = checks.at_most(MOST_ROWS, "rows", name, samples, rows)
    what = "samples in all; ask with fewer, or piece by piece where there is a stream"
    return checks.at_most(MOST_SAMPLES, what, name, samples, count)


def in_range(name: str, samples: tf.Tensor) -> tf.Tensor:
    """`samples`, once they are known to be finite, and from −1 to 1."""
    samples = checks.finite(name, samples)
    loudest = tf.reduce_max(tf.abs(tf.concat([[0.0], tf.reshape(samples, [-1])], 0)))
    why = f"`{name}` must be from -1 to 1 (divide 16-bit ones by 32768), got as much as:"
    return checks.checked(loudest <= 1, [why, loudest], samples)


def word_signatures(model: keras.Model, words: list[str], example: np.ndarray, rate: int) -> dict:
    """Of a model that tells which word a recording holds.

    Args:
        example: Samples of one, at `rate`, the model's.
    """

    def recognize(*given):
        samples, lengths = checked_samples(*given, rate)
        logits = model({"samples": samples, "lengths": lengths}, training=False)
        text = tf.gather(tf.constant(words), tf.argmax(logits, axis=-1))
        return {"text": text, "probabilities": tf.nn.softmax(logits)}

    return {"serving_default": (recognize, INPUTS, example_inputs(example, rate))}


def text_signatures(
    model: ctc.Transcriber, symbols: ctc.Symbols, example: np.ndarray, rate: int
) -> dict:
    """Of a model with the layers "log_mel" and "network"; a stream's, too, if that looks back only.

    Args:
        example: Samples of a recording, at `rate`, the model's.
    """
    hear = model.get_layer("log_mel")

    def recognize(*given):
        samples, lengths = checked_samples(*given, rate)
        # Nothing at all makes a step, too.
        samples = tf.pad(samples, [[0, 0], [0, hear.needed]])
        found = model(
            {"samples": samples, "lengths": tf.maximum(lengths, hear.needed)}, training=False
        )
        best, probabilities = ctc.beam_search(found["logits"], found["counts"])
        numbers, _ = ctc.greedy(found["logits"], found["counts"])
        best = tf.stack([symbols.texts(each) for each in best], axis=1)
        return {"text": symbols.texts(numbers), "texts": best, "probabilities": probabilities}

    found = {"serving_default": (recognize, INPUTS, example_inputs(example, rate))}
    if looks_back_only(model):
        found |= stream_signatures(model, symbols, example, rate)
    return found


def looks_back_only(model: ctc.Transcriber) -> bool:
    return len(model.get_layer("network").inputs) == 1  # else it is told which steps are real


def stream_signatures(
    model: ctc.Transcriber, symbols: ctc.Symbols, example: np.ndarray, rate: int
) -> dict:
    """The states of a stream, by name:

    heard_samples     float [batch, samples], the end of what was heard, which fills no step yet
    heard_text        string [batch], what was recognized so far
    last_symbol       int32 [batch], the number at the last step, which is not said twice
    read_1_state_0 …  float [batch, units], the recurrent states
    """
    hear, network = model.get_layer("log_mel"), model.get_layer("network")
    streaming = layers.streaming_model(network)
    sizes = state_sizes(streaming)

    shapes = {"chunk": [None, None], "rate": [], "heard_samples": [None, None]}
    shapes |= {"heard_text": [None], "last_symbol": [None]}
    shapes |= {name: [None, size] for name, size in sizes.items()}
    kinds = {"rate": tf.int32, "heard_text": tf.string, "last_symbol": tf.int32}
    specs = {n: tf.TensorSpec(x, kinds.get(n, tf.float32)) for n, x in shapes.items()}

    def stream(*given):
        given = {n: checks.shaped(x, shapes[n]) for n, x in zip(shapes, given)}
        asked_at = given.pop("rate")
        why = f"`rate` must be {rate} in a stream (only a whole recording may have another), got:"
        here = checks.checked(asked_at == rate, [why, asked_at], asked_at)
        given = checks.same_batch(given)
        states = {name: checks.finite(name, given[name]) for name in sizes}
        last = checks.between("last_symbol", given["last_symbol"], 0, len(symbols.names))
        tail = in_range("heard_samples", given["heard_samples"])
        count = tf.shape(tail)[1]
        tail = checks.at_most(hear.needed, "samples", "heard_samples", tail, count)
        chunk = in_range("chunk", bounded("chunk", given["chunk"]))
        with tf.control_dependencies([here]):
            samples = tf.concat([tail, chunk], axis=1)
        answer = streaming({"features": hear(samples), **states}, training=False)
        logits = answer["logits"]
        counts = tf.fill([tf.shape(logits)[0]], tf.shape(logits)[1])
        numbers, last = ctc.greedy(logits, counts, last)
        text = symbols.texts(numbers, before=given["heard_text"])
        return {
            "text": text,
            "log_probabilities": tf.nn.log_softmax(logits),
            "heard_samples": hear.split_off_tail(samples),
            "heard_text": text,
            "last_symbol": last,
            **{name: answer[name] for name in states},
        }

    def initial_state(batch_size):
        batch_size = checks.batch_size(batch_size)
        return {
            "heard_samples": tf.zeros([batch_size, 0]),
            "heard_text": tf.fill([batch_size], ""),
            "last_symbol": tf.fill([batch_size], len(symbols.names)),
            **{name: tf.zeros([batch_size, size]) for name, size in sizes.items()},
        }

    begun = {"chunk": example[None], "rate": rate, **initial_state(tf.constant(1))}
    return {
        "stream": (stream, specs, begun),
        "initial_state": (initial_state, *INITIAL_STATE_INPUTS),
    }


def example_inputs(example: np.ndarray, rate: int) -> dict:
    """The inputs that ask about one recording."""
    return {"samples": example[None], "lengths": [len(example)], "rate": rate}


def numeric_for_words(model: keras.Model, words: list[str]) -> PortableModel:
    """For ONNX and LiteRT, of a model that tells words: from the power in each band on."""
    hear = model.get_layer("log_mel")

    def build():
        energies, features = _standardized(hear)
        rest = keras.Model(hear.output, model.output)
        scores = rest([features, ops.ones_like(features[..., 0], dtype="bool")])
        return {"model": keras.Model(energies, {"scores": scores}, name=model.name)}

    def as_model(page):
        return lambda given: tf.constant(page.scores(_recordings(given)))

    about = {"task": "listening", "words": words, **_front_end(hear)}
    return PortableModel(build, about, _bands(hear), as_model)


def numeric_for_texts(model: keras.Model, symbols: ctc.Symbols) -> PortableModel:
    """For ONNX and LiteRT, of a model that hears texts: from the power in each band on."""
    hear = model.get_layer("log_mel")

    def build():
        energies, features = _standardized(hear)
        network = model.get_layer("network")
        if looks_back_only(model):
            logits = network(features)
        else:
            logits = network([features, ops.ones_like(features[:, :, 0], "bool")])
        return {"model": keras.Model(energies, {"logits": logits}, name=model.name)}

    def as_model(page):
        def read(given):
            found = [page.logits(samples) for samples in _recordings(given)]
            counts = [len(x) for x in found]
            found = [np.pad(x, [[0, max(counts) - len(x)], [0, 0]]) for x in found]
            return {"logits": tf.constant(found), "counts": tf.constant(counts)}

        return read

    about = {"task": "transcription", "names": symbols.names, "separator": symbols.separator}
    about |= _front_end(hear)
    return PortableModel(build, about, _bands(hear), as_model)


def _front_end(hear):
    names = "rate", "window", "hop", "stack"
    return {"quiet": log_mel.QUIET, **{name: getattr(hear, name) for name in names}}


def _bands(hear):
    return {"bands.npz": {"weights": hear.bands_of_power().numpy()}}


def _standardized(hear):
    """(the model's input, what `hear` makes of it)."""
    energies = keras.Input((None, hear.size), name="energies")
    mean, std = (np.tile(x.numpy(), hear.stack) for x in (hear.mean, hear.std))
    return energies, (energies - mean) / std


def _recordings(given):
    return [x[:n] for x, n in zip(given["samples"].numpy(), given["lengths"].numpy())]
