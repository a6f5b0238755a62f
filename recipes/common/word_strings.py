"""Strings of words that one speaker says: recordings joined, with silences, levels and noise."""

import numpy as np

from recipes.common import sound_augmentation as augmentation
from recipes.common.recordings import Recording

MOST = 7  # words in a string


def of_speakers(data: list[Recording]) -> list[list[Recording]]:
    """The recordings of each speaker."""
    groups = {}
    for recording in data:
        groups.setdefault(recording.speaker, []).append(recording)
    return list(groups.values())


def drawn(
    groups: list[list[Recording]], words: int, separator: str, random: np.random.Generator
) -> tuple[list[np.ndarray], str]:
    """(the samples of so many words by one speaker, what they say)."""
    group = groups[random.integers(len(groups))]
    found = [group[i] for i in random.integers(len(group), size=words)]
    return [x.samples for x in found], separator.join(x.text for x in found)


def fixed(
    data: list[Recording],
    words: int,
    count: int,
    separator: str,
    rate: int,
    above_noise: float | None = None,
    seed: int = 0,
) -> list[Recording]:
    """`count` strings, the same each time, to be scored on.

    Args:
        above_noise: Decibels from a pink noise up to the words; None: no noise is added.
    """
    random, groups = np.random.default_rng([seed, words]), of_speakers(data)
    found = []
    for k in range(count):
        samples, text = drawn(groups, words, separator, random)
        pauses = (random.uniform(0.05, 0.3, words + 1) * rate).astype(int)
        levels = random.uniform(-40, -10) + random.uniform(-3, 3, words)
        x = augmentation.joined(samples, pauses, levels, above_noise, 1.0, random)
        found.append(Recording(x, text, data[0].speaker, f"{words} words, {k}"))
    return found
