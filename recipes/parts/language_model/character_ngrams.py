"""What counting alone knows of the next character: n-grams, the longer resting on the shorter.

    P(c | h) = (n(h c) + k(h) P(c | h′)) / (n(h) + k(h))

n counts in the training text, k(h) is how many different characters follow h there, and h′
is h without its first (Witten & Bell 1991). At the bottom all characters are alike.
"""

from collections import Counter

import numpy as np

MOST = 4_000_000  # characters that are counted, the last ones; n-grams take memory


def nats(train: str, text: str, order: int, choices: int) -> float:
    """−log P of the characters of `text`, their mean.

    Args:
        train: Of more than `MOST` characters the last ones count.
        order: The longest n-gram; 1: how frequent a character is, nothing else.
        choices: How many characters there are.
    """
    train, found = train[-MOST:], [1 / choices] * len(text)
    for n in range(1, order + 1):
        grams = Counter(train[i : i + n] for i in range(len(train) - n + 1))
        times, kinds = Counter(), Counter()
        for gram, count in grams.items():
            times[gram[:-1]] += count
            kinds[gram[:-1]] += 1
        for i in range(n - 1, len(text)):
            gram = text[i - n + 1 : i + 1]
            if h := times.get(gram[:-1]):
                k = kinds[gram[:-1]]
                found[i] = (grams.get(gram, 0) + k * found[i]) / (h + k)
    return float(-np.mean(np.log(found)))
