"""Lines of words within brackets and quotes, each of which is closed as it was opened."""

import random

WORDS = ["sun", "moon", "star", "sky", "sea", "river", "stone", "leaf", "tree", "wind"]
PAIRS = {"(": ")", "[": "]", "{": "}"}
MOST_NESTED = 4


def text(length: int, seed: str) -> str:
    """`length` characters, in lines that end with a point."""
    r, lines, found = random.Random(seed), [], 0
    while found < length:
        lines.append(" ".join(_part(r, 0) for _ in range(r.randint(1, 3))) + ".\n")
        found += len(lines[-1])
    return "".join(lines)[:length]


def _part(r: random.Random, depth: int) -> str:
    """A word, words in quotes, or parts in brackets."""
    draw = r.random()
    if draw < 0.4 or depth == MOST_NESTED:
        return r.choice(WORDS)
    if draw < 0.6:
        return '"' + " ".join(r.choices(WORDS, k=r.randint(2, 5))) + '"'
    opened = r.choice(list(PAIRS))
    return opened + " ".join(_part(r, depth + 1) for _ in range(r.randint(1, 3))) + PAIRS[opened]
