"""Samples at another rate, inside the graph: band-limited interpolation (Smith 2002).

    y(j) = Σ_n x(n) h(n − j · from/to)    h(t) = c · sinc(c t) · Hann(t · c / ZEROS)
                                          c = min(1, to/from) cuts what the lower rate can't hold

Rates that are whole multiples of 25 Hz repeat themselves after 40 ms at the latest, those of 100
Hz after 10. So all of a sound is one product: its pieces, each that long and a filter's
width longer, times a matrix of filters, one column for each sample that comes out.
"""

import numpy as np
import tensorflow as tf

from layers.exchange import checks

ZEROS = 16  # of the sinc, on each side
LEAST, MOST = 4000, 192_000  # samples a second


def resample(samples: tf.Tensor, rate: tf.Tensor, to: int) -> tf.Tensor:
    """(batch, samples) at `rate`, an int32 scalar, to (batch, ⌊samples · to / rate⌋) at `to`."""
    rate = checks.between("rate", rate, LEAST, MOST)
    why = "`rate` must be a multiple of 25 Hz, as 8000, 11025, 16000, 44100 or 48000 are, got:"
    rate = checks.checked(rate % 25 == 0, [why, rate], rate)
    return tf.cond(rate == to, lambda: samples, lambda: interpolated(samples, rate, to))


def interpolated(samples: tf.Tensor, rate: tf.Tensor, to: int) -> tf.Tensor:
    pieces = tf.where((rate % 100 == 0) & (to % 100 == 0), 100, 25)  # a second
    step, new = rate // pieces, to // pieces  # samples of a piece, before and after
    cut = tf.minimum(to / rate, 1.0)  # float64, as the filters: they are small
    side = tf.cast(tf.math.ceil(ZEROS / cut), tf.int32)
    wanted = tf.cast(tf.range(new), tf.float64) * (rate / to)
    t = cut * (tf.cast(tf.range(-side, step + side), tf.float64)[:, None] - wanted)
    middle = tf.abs(t) < 1e-9
    angle = np.pi * tf.where(middle, tf.ones_like(t), t)
    sinc = tf.where(middle, tf.ones_like(t), tf.sin(angle) / angle)
    hann = tf.where(tf.abs(t) < ZEROS, 0.5 + 0.5 * tf.cos(np.pi * t / ZEROS), tf.zeros_like(t))
    filters = tf.cast(cut * sinc * hann, tf.float32)
    batch, length = tf.unstack(tf.shape(samples))
    count = (length + step - 1) // step
    padded = tf.pad(samples, [[0, 0], [side, count * step - length + side]])
    framed = tf.signal.frame(padded, step + 2 * side, step)
    found = tf.reshape(framed @ filters, [batch, count * new])
    return found[:, : resampled_length(length, rate, to)]


def resampled_length(length: tf.Tensor, rate: tf.Tensor, to: int) -> tf.Tensor:
    length, rate = tf.cast(length, tf.int64), tf.cast(rate, tf.int64)
    return tf.cast(length * to // rate, tf.int32)
