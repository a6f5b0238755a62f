"""Spoken numbers by formula: each is a glide from one vowel to another, by speakers who differ.

A voice is a sum of the harmonics of its pitch f₀, each as loud as the vowel's two resonances
(formants F) make it; over a word the formants move from the first vowel's to the second's:

    x(t) = Σ_k g(k f₀) sin(2πk f₀ t)    g(f) = Σ_F 1 / (1 + ((f − F) / 90)²)

No vowel alone tells a word: in which order they come does.
"""

import numpy as np

RATE = 8000
VOWELS = {"a": (750, 1200), "e": (480, 1900), "i": (300, 2300), "o": (470, 850), "u": (320, 1500)}
WORDS = ["ai", "au", "ea", "eo", "ia", "iu", "oe", "oi", "ue", "uo"]  # zero, one, …
SPEAKERS = {  # pitch, formants' scale, seconds a word
    "ann": (210, 1.12, 0.30),
    "ben": (110, 0.93, 0.36),
    "cat": (180, 1.05, 0.26),
    "dan": (130, 0.98, 0.42),
    "eve": (160, 1.01, 0.33),
}


def word(number: int, speaker: str, random: np.random.Generator) -> np.ndarray:
    """One spoken number: float32 samples from −1 to 1, at 8 kHz."""
    pitch, scale, seconds = SPEAKERS[speaker]
    pitch, scale, seconds = np.array([pitch, scale, seconds]) * random.uniform(0.92, 1.08, 3)
    t = np.arange(int(seconds * RATE)) / RATE
    glide = 1 / (1 + np.exp(-30 * (t / seconds - 0.5)))
    first, second = (np.array(VOWELS[vowel]) * scale for vowel in WORDS[number])
    formants = first + (second - first) * glide[:, None]
    harmonics = np.arange(1, int(3600 / pitch))
    distance = (harmonics[:, None, None] * pitch - formants) / 90
    loud = (1 / (1 + distance**2)).sum(-1)
    phase = 2 * np.pi * pitch * np.cumsum(1 + 0.1 * (t / seconds - 0.5)) / RATE
    x = (loud * np.sin(harmonics[:, None] * phase)).sum(0)
    x *= np.sin(np.pi * (t + 0.5 / RATE) / seconds) ** 0.5
    x *= 10 ** random.uniform(-1.5, 0) / np.abs(x).max()
    return (x + 1e-3 * random.normal(size=len(x))).clip(-1, 1).astype("float32")
