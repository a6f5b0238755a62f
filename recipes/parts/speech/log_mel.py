"""The front end: raw samples to what the recurrence reads at each step, as one Keras layer.

    X_t(k) = Σ_n w(n) x(tH + n) exp(−2πikn/N)    frame t: 25 ms from sample tH on, w a Hann window
    E_t(m) = log(ε + Σ_k M(m, k) |X_t(k)|²)      M(m): triangles over frequency, all of one width
                                                 in mel(f) = 1127 ln(1 + f/700)
    x_t    = (E − μ) / σ                         of each band, over the training data

A frame starts each H samples, 10 ms; a step is `stack` frames side by side, so that the
recurrence has fewer steps to make. A step is made once all its samples are there: a stream
keeps those from the next step's first sample on, its tail, and the steps are those of the
whole, however it was cut.

In training each row is heard as another voice: M(m, k) has a·f in place of f, as if the throat were
a times as short (Jaitly & Hinton 2013), and frames start each b·H samples, as if it spoke b times
as fast.
"""

import math
from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf

QUIET = 1e-5  # ε: about the power of the noise that 16 bits and a quiet room leave


class LogMel(keras.layers.Layer):
    """(batch, samples) from −1 to 1 in, (batch, steps, stack · bands) out; float32.

    Given `lengths`, too, how many samples of each row count, the second output is (batch, steps)
    booleans: which steps are made of these.

    Args:
        rate: Samples a second.
        bands: How many mel bands, from 60 Hz to 95% of half the rate.
        stack: Frames a step.
        warp, pace: In training, a is drawn from 1 / warp to warp, b from 1 / pace to pace.
    """

    def __init__(
        self,
        rate: int = 8000,
        bands: int = 40,
        stack: int = 3,
        warp: float = 1.0,
        pace: float = 1.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.warp, self.pace, self.seeds = warp, pace, keras.random.SeedGenerator()
        self.supports_jit = False  # how many frames there are, is drawn
        self.rate, self.bands, self.stack = rate, bands, stack
        self.window, self.hop = rate // 40, rate // 100
        self.fft = 2 ** math.ceil(math.log2(self.window))  # N
        self.step = stack * self.hop  # samples from one step to the next …
        self.needed = self.window + self.step - self.hop  # … and that one is made of
        self.size = stack * bands
        self.mean = self.add_weight((self.bands,), "zeros", trainable=False, name="mean")
        self.std = self.add_weight((self.bands,), "ones", trainable=False, name="std")

    def adapt(self, recordings: Iterable[np.ndarray]) -> None:
        """Sets mean and standard deviation of each band from (samples,) arrays."""
        energies = tf.function(self.energies, [tf.TensorSpec([None, None])])
        found = [energies(x[None]).numpy()[0] for x in recordings if len(x) >= self.needed]
        found = np.concatenate(found)
        self.mean.assign(found.mean(axis=0))
        self.std.assign(found.std(axis=0) + 1e-3)

    def steps(self, samples: tf.Tensor) -> tf.Tensor:
        """How many steps so many samples make."""
        return tf.maximum((samples - self.needed) // self.step + 1, 0)

    def split_off_tail(self, samples: tf.Tensor) -> tf.Tensor:
        """(batch, samples) to those from which the next step, not complete yet, is made."""
        return samples[:, self.steps(tf.shape(samples)[1]) * self.step :]

    def energies(self, samples: tf.Tensor) -> tf.Tensor:
        """The E of the equations, (batch, frames, bands); only frames that fill steps."""
        used = self.steps(tf.shape(samples)[1]) * self.step + self.window
        # With a frame more, which is left out again: the FFT takes no zero.
        samples = tf.pad(samples, [[0, 0], [0, self.needed]])[:, :used]
        spectrum = tf.signal.stft(samples, self.window, self.hop, self.fft)[:, :-1]
        power = tf.square(tf.math.real(spectrum)) + tf.square(tf.math.imag(spectrum))
        return tf.math.log(QUIET + power @ self.bands_of_power())

    def bands_of_power(self) -> tf.Tensor:
        """The M of the equations, (frequencies, bands)."""
        return tf.signal.linear_to_mel_weight_matrix(
            self.bands, self.fft // 2 + 1, self.rate, 60.0, 0.475 * self.rate
        )

    def voiced(self, samples: tf.Tensor, warp: tf.Tensor, pace: tf.Tensor) -> tf.Tensor:
        """`energies`, each row heard with its `warp`, a, and `pace`, b, each (batch,)."""
        frames = self.stack * tf.reduce_max(self.paced_steps(tf.shape(samples)[1], pace))
        starts = tf.round(tf.range(tf.cast(frames, tf.float32)) * self.hop * pace[:, None])
        places = tf.cast(starts, tf.int32)[..., None] + tf.range(self.window)
        places = tf.minimum(places, tf.shape(samples)[1] - 1)
        frames = tf.gather(samples, places, batch_dims=1) * tf.signal.hann_window(self.window)
        spectrum = tf.signal.rfft(frames, [self.fft])

        def mel(frequency):
            return 1127 * tf.math.log1p(frequency / 700)

        edges = tf.linspace(mel(60.0), mel(0.475 * self.rate), self.bands + 2)
        heard = mel(tf.linspace(0.0, self.rate / 2, spectrum.shape[-1]) * warp[:, None])
        distance = tf.abs(heard[..., None] - edges[1:-1]) / (edges[1] - edges[0])
        power = tf.square(tf.math.real(spectrum)) + tf.square(tf.math.imag(spectrum))
        return tf.math.log(QUIET + power @ tf.maximum(1 - distance, 0))

    def paced_steps(self, samples, pace):
        """How many steps so many samples make, each row's with its `pace`; one, if they can."""
        later = tf.cast(samples - self.window, tf.float32) / pace
        least = tf.cast(tf.minimum(self.steps(samples), 1), tf.int32)
        return tf.maximum(self.steps(self.window + tf.cast(later, tf.int32)), least)

    def drawn(self, most, rows):
        """(rows,) factors from 1 / most to most, as often below 1 as above."""
        spread = math.log(most)
        return tf.exp(keras.random.uniform([rows], -spread, spread, seed=self.seeds))

    def call(self, samples, lengths=None, training=False):
        rows, count = tf.unstack(tf.shape(samples))
        if training:
            warp, pace = (self.drawn(most, rows) for most in (self.warp, self.pace))
            frames = self.voiced(samples, warp, pace)
            steps = tf.reduce_max(self.paced_steps(count, pace))
            made = None if lengths is None else self.paced_steps(lengths, pace)
        else:
            frames, steps = self.energies(samples), self.steps(count)
            made = None if lengths is None else self.steps(lengths)
        frames = (frames - self.mean) / self.std
        x = tf.reshape(frames, (rows, steps, self.size))
        x = tf.ensure_shape(x, (None, None, self.size))
        return x if made is None else (x, tf.sequence_mask(made, steps))

    def compute_output_spec(self, samples, lengths=None, training=False):
        x = keras.KerasTensor((samples.shape[0], None, self.size))
        return x if lengths is None else (x, keras.KerasTensor(x.shape[:2], "bool"))
