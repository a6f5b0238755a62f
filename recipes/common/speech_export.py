"""What a speech recognizer is exported as: samples at any rate in, text out, all in the graph."""

import keras
import numpy as np
import tensorflow as tf

from layers.exchange import checks
from recipes.common import resampling

MOST_SAMPLES = 2**22  # in a request, padded to the longest: almost 9 minutes at 8 kHz
INPUTS = {
    "samples": tf.TensorSpec([None, None]),
    "lengths": tf.TensorSpec([None], tf.int32),
    "rate": tf.TensorSpec([], tf.int32),
}


def heard(samples: tf.Tensor, lengths: tf.Tensor, rate: tf.Tensor, to: int) -> tuple:
    """(samples at `to`, how many of each row count), from checked inputs of these names.

    What stands behind a row's length is taken for 0, whatever it is.
    """
    given = {"samples": samples, "lengths": lengths}
    given = checks.same_batch(
        {name: checks.shaped(x, list(INPUTS[name].shape)) for name, x in given.items()}
    )
    samples = checks.at_most(
        MOST_SAMPLES,
        "samples in all rows, padded to the longest (cut them into several requests, or use the "
        "signature `stream` of a model that has one)",
        "samples",
        given["samples"],
        tf.size(samples, tf.int64),
    )
    samples = in_range("samples", samples)
    lengths = checks.between("lengths", given["lengths"], 0, tf.shape(samples)[1])
    samples = tf.where(tf.sequence_mask(lengths, tf.shape(samples)[1]), samples, 0.0)
    rate = checks.shaped(rate, [])
    samples = resampling.resample(samples, rate, to)
    return samples, resampling.resampled_length(lengths, rate, to)


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

    def recognize(samples, lengths, rate_given):
        samples, lengths = heard(samples, lengths, rate_given, rate)
        logits = model({"samples": samples, "lengths": lengths}, training=False)
        text = tf.gather(tf.constant(words), tf.argmax(logits, axis=-1))
        return {"text": text, "probabilities": tf.nn.softmax(logits)}

    return {"serving_default": (recognize, INPUTS, asked(example, rate))}


def asked(example: np.ndarray, rate: int) -> dict:
    """The inputs that ask about one recording."""
    return {"samples": example[None], "lengths": [len(example)], "rate": rate}
