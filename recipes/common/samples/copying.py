"""The copy task: symbols to be said again after a long pause.

Hochreiter & Schmidhuber 1997, in the form of Arjovsky et al. 2016, but for how many symbols
there are to remember: not their ten, so that minutes are enough to learn it.
"""

import math

import numpy as np

COPIED = 3
SYMBOLS, ALPHABET = 8, 10  # what is copied is one of the first eight
BLANK, GO = 8, 9


def steps(pause: int) -> int:
    """How long a sequence is."""
    return pause + 2 * COPIED


def sequences(count: int, pause: int, seed: int | list[int]) -> tuple[np.ndarray, np.ndarray]:
    """`count` pairs of (pause + 2 * COPIED,) symbols, int32: what is read, what is to be said.

    Symbols are read, then a pause that ends in GO, then blanks, while they are to be said.
    """
    symbols = np.random.default_rng(seed).integers(0, SYMBOLS, (count, COPIED))
    read = np.full((count, steps(pause)), BLANK, np.int32)
    said = read.copy()
    read[:, :COPIED] = said[:, -COPIED:] = symbols
    read[:, -COPIED - 1] = GO
    return read, said


def without_memory(pause: int) -> float:
    """The cross-entropy, in nats a step, of who knows when to speak but not what was read."""
    return COPIED * math.log(SYMBOLS) / steps(pause)
