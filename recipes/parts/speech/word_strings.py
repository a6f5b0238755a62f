"""Strings of words that one speaker says: recordings joined, with silences, levels and noise."""

import numpy as np

from recipes.parts.speech import augmentation
from recipes.parts.speech.recordings import Parts, Recording

MOST = 7  # words in a string


def of_speakers(data: list[Recording]) -> list[list[Recording]]:
    """The recordings of each speaker."""
    groups = {}
    for recording in data:
        groups.setdefault(recording.speaker, []).append(recording)
    return list(groups.values())


def refuse_short(data: Parts, rate: int) -> None:
    """Ends the program if there is a word that CTC might find no time for."""
    for recording in [recording for part in data.values() for recording in part]:
        if len(recording.samples) < augmentation.SHORTEST * rate:
            raise SystemExit(
                f"{recording.name} is shorter than {augmentation.SHORTEST} seconds, too short to "
                "be joined with others: leave it out."
            )


def drawn(
    groups: list[list[Recording]], words: int, random: np.random.Generator
) -> list[Recording]:
    """So many words by one speaker, who is drawn the more often, the more recordings there are."""
    sizes = np.array([len(group) for group in groups])
    group = groups[random.choice(len(groups), p=sizes / sizes.sum())]
    return [group[i] for i in random.integers(len(group), size=words)]


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
        pieces = drawn(groups, words, random)
        pauses = (random.uniform(0.05, 0.3, words + 1) * rate).astype(int)
        levels = random.uniform(-40, -20) + random.uniform(-3, 3, words)  # none is clipped
        samples = [piece.samples for piece in pieces]
        x = augmentation.joined(samples, pauses, levels, above_noise, 1.0, random)
        text = separator.join(piece.text for piece in pieces)
        found.append(Recording(x, text, pieces[0].speaker, f"{words} words, {k}"))
    return found
