"""What training makes of recordings: other speeds, edges, levels, microphones, noises and
silences; less of them."""

import keras
import numpy as np
import scipy.fft
import tensorflow as tf
from keras import ops

FASTER, UNEVEN = 1.18, 1.05  # at most, a recording, and a word in it beside the others
FASTEST = FASTER * UNEVEN
SHORTEST = 0.1  # seconds of a word: however fast, a text has time for it and a blank


def speed(x: np.ndarray, factor: float) -> np.ndarray:
    """`x` so many times as fast, and as high: another speaker, to the ear (Ko et al. 2015)."""
    return np.interp(np.arange(0, len(x) - 1, factor), np.arange(len(x)), x).astype("float32")


def cut(x: np.ndarray, below: float, least: int, piece: int = 80) -> np.ndarray:
    """`x` from its first to its last piece that is not so many decibels below the loudest; all of
    it, if that were fewer than `least` samples.

    Some recordings of words begin late and end early, and "six" has lost its s, if not both.
    """
    if len(x) < least:
        return x
    pieces = x[: len(x) // piece * piece].reshape(-1, piece)
    powers = np.square(pieces, dtype="float64").mean(axis=1)
    loud = np.flatnonzero(powers >= powers.max() * 10 ** (below / 10))
    found = x[loud[0] * piece : (loud[-1] + 1) * piece]
    return found if len(found) >= least else x


def another_microphone(size: int, random: np.random.Generator) -> np.ndarray:
    """Gains of `size` frequencies from 0 up: brighter or duller, and a little uneven.

    Of five voices of FSDD, what is above 2,500 Hz is from 11 to 20 decibels below the whole.
    """
    frequency, knots = np.linspace(-1, 1, size), np.linspace(-1, 1, 6)
    tilt = random.normal(0, 8) * frequency
    return 10 ** ((tilt + np.interp(frequency, knots, random.normal(0, 3, len(knots)))) / 20)


def heard_by(microphone: np.ndarray, x: np.ndarray) -> np.ndarray:
    """`x`, with these gains of its frequencies."""
    size = scipy.fft.next_fast_len(len(x), real=True)
    spectrum = np.fft.rfft(x, size)
    places = np.linspace(0, len(microphone) - 1, len(spectrum))
    spectrum *= np.interp(places, np.arange(len(microphone)), microphone)
    return np.fft.irfft(spectrum, size)[: len(x)].astype("float32")


def decibels(x: np.ndarray) -> float:
    """The level of what isn't silence: of the louder half of 10 ms pieces; 0 for a square wave."""
    pieces = x[: len(x) // 80 * 80].reshape(-1, 80) if len(x) >= 80 else x[None]
    powers = np.sort(np.mean(np.square(pieces, dtype="float64"), axis=1))
    return 10 * np.log10(powers[len(powers) // 2 :].mean() + 1e-12)


def noise(length: int, colour: float, random: np.random.Generator) -> np.ndarray:
    """Noise of power 1 that falls with frequency as 1/f^colour: 0 is white, 1 pink, 2 brown."""
    size = scipy.fft.next_fast_len(max(length, 1), real=True)
    spectrum = np.fft.rfft(random.normal(size=size))
    spectrum *= np.maximum(np.arange(len(spectrum)), 0.01 * len(spectrum)) ** (-colour / 2)
    found = np.fft.irfft(spectrum, size)[:length]
    return found / np.sqrt(np.mean(found**2) + 1e-12)


def joined(
    words: list[np.ndarray],
    pauses: np.ndarray,
    levels: np.ndarray,
    above_noise: float | None,
    colour: float,
    random: np.random.Generator,
) -> np.ndarray:
    """One recording of several words.

    Args:
        words: Samples of each.
        pauses: Samples before, between and after them; one more than words.
        levels: Of each word, in decibels of full scale.
        above_noise: Decibels from the noise up to the words' mean level; None: no noise.
        colour: Of the noise.
    """
    pieces = [np.zeros(pauses[0])]
    for word, pause, level in zip(words, pauses[1:], levels):
        pieces += [word * 10 ** ((level - decibels(word)) / 20), np.zeros(pause)]
    x = np.concatenate(pieces)
    if above_noise is not None:
        loud = 10 ** ((np.mean(levels) - above_noise) / 20)
        x += loud * noise(len(x), colour, random)
    return np.clip(x, -1, 1).astype("float32")


def cut_off(words: list[np.ndarray], random: np.random.Generator, rate: int) -> list[np.ndarray]:
    """Each from and to a drawn level, but not below `SHORTEST`."""
    return [cut(word, -random.uniform(10, 40), int(SHORTEST * rate)) for word in words]


def varied(words: list[np.ndarray], random: np.random.Generator, rate: int) -> np.ndarray:
    """`joined`, at a drawn speed, by a drawn microphone, with drawn pauses, levels and noise."""
    factor, microphone = random.uniform(0.85, FASTER), another_microphone(64, random)
    words = [speed(word, factor * random.uniform(0.95, UNEVEN)) for word in words]
    words = [heard_by(microphone, word) for word in words]
    pauses = (random.uniform(0, 0.2, len(words) + 1) * rate).astype(int)
    level = random.uniform(-40, -10) + random.uniform(-3, 3, len(words))
    above_noise = random.uniform(5, 60)
    return joined(words, pauses, level, above_noise, random.uniform(0, 2), random)


class SpecAugment(keras.layers.Layer):
    """In training, a strip of bands and a strip of steps of each spectrogram are left out: made its
    own mean, whatever its level (Park et al. 2019).

    Args:
        bands: Of a frame; a step may have several frames.
        widest: The most of the bands, and of the steps that count, that is left out.
    """

    def __init__(self, bands: int, widest: float = 0.25, **kwargs):
        super().__init__(**kwargs)
        self.bands, self.widest = bands, widest
        self.seeds = keras.random.SeedGenerator()

    def call(self, x, real, training=False):
        """(batch, steps, frames · bands), and (batch, steps), which steps count, to such an x."""
        if not training:
            return x
        steps, size = ops.shape(x)[1], x.shape[-1]
        counts = ops.sum(ops.cast(real, x.dtype), axis=1, keepdims=True)
        total = ops.sum(ops.where(real[..., None], x, 0.0), axis=(1, 2), keepdims=True)
        mean = total / (ops.maximum(counts, 1.0)[..., None] * size)
        bands = self.strip(ops.full_like(counts, self.bands), self.bands)
        bands = tf.tile(bands, [1, size // self.bands])
        lost = self.strip(counts, steps)[:, :, None] | bands[:, None]
        return ops.where(lost, mean, x)

    def strip(self, length, places):
        """(batch, places), True in a strip of the first `length`, (batch, 1)."""
        drawn = keras.random.uniform((ops.shape(length)[0], 2), seed=self.seeds)
        width = drawn[:, :1] * self.widest * length
        start = drawn[:, 1:] * (length - width)
        place = tf.range(ops.cast(places, length.dtype))[None]
        return (place >= start) & (place < start + width)
