"""Rules of RE2, which TensorFlow has, in what every language's expressions have."""

import re
from functools import cache
from string import ascii_lowercase

import numpy as np
import tensorflow as tf

SPACES = r"\t\n\f\r "  # \s, which has one more elsewhere
CASES = {"k": "kK\u212a", "s": "sSſ"}  # of letters that have more than two


def portable(rules: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The (pattern, replacement) pairs, classes of characters in them written out as ranges."""
    return [(_portable(pattern), by) for pattern, by in rules]


def _portable(pattern):
    if pattern.startswith("(?i)"):
        assert not re.search(r"\[|\\p", pattern)  # their letters must stay
        cases = {letter: CASES.get(letter, letter + letter.upper()) for letter in ascii_lowercase}
        pattern = re.sub(r"(?<!\\)[a-z]", lambda one: f"[{cases[one[0]]}]", pattern[4:])

    def written_out(found):
        if found[0] != r"\s":
            return ranges(found[0])
        before = pattern[: found.start()]
        return SPACES if before.rfind("[") > before.rfind("]") else f"[{SPACES}]"

    return re.sub(r"\\s|\\p(?:\{\w+\}|[A-Z])", written_out, pattern)


@cache
def ranges(unicode_class: str) -> str:
    """Such as "a-zß-ö", the characters of the class, as TensorFlow sees them."""
    points, characters = _all_characters()
    points = points[tf.strings.regex_full_match(characters, unicode_class).numpy()]
    breaks = np.flatnonzero(np.diff(points) > 1)
    firsts, lasts = points[np.r_[0, breaks + 1]], points[np.r_[breaks, len(points) - 1]]
    return "".join(f"{chr(a)}-{chr(b)}" if a < b else chr(a) for a, b in zip(firsts, lasts))


@cache
def _all_characters():
    """(All code points but surrogates, each in UTF-8.)"""
    points = np.array([n for n in range(0x110000) if not 0xD800 <= n < 0xE000], "int32")
    return points, tf.strings.unicode_encode(points[:, None], "UTF-8")
