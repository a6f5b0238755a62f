"""Reviews whose meaning turns on the order of their words.

The same words, put otherwise, say the opposite ("good, not bad": "bad, not good"), so
that nothing that merely counts words can tell them apart.
"""

import random

GOOD = ["good", "great", "moving", "funny", "clever", "wonderful", "gripping"]
BAD = ["bad", "awful", "boring", "silly", "weak", "terrible", "tedious"]
THINGS = ["film", "story", "plot", "acting", "ending", "cast", "music", "script"]
FILLERS = ["I watched it with my family .", "It runs for two hours .", "We saw it on Sunday ."]
FILLERS += ["The cinema was half full .", "My brother had the tickets .", "It is set in Rome ."]


def reviews(count: int, seed: str) -> tuple[list[str], list[int]]:
    """`count` (texts, labels); a label is 1 for positive."""
    both = [_review(random.Random(f"{seed}/{i}")) for i in range(count)]
    return [text for text, _ in both], [label for _, label in both]


def _review(r: random.Random):
    label = r.randrange(2)
    liked, other = (GOOD, BAD) if label else (BAD, GOOD)
    a, b = r.sample(THINGS, 2)
    x, y = r.choice(liked), r.choice(other)
    opinion = r.choice(
        [
            f"The {a} was {x} , not {y} .",  # negation
            f"The {a} was not {y} , it was {x} .",
            f"The {a} was {y} but the {b} was so {x} that I forgot it .",  # contrast
            f"Although the {a} was {y} , in the end the {b} is {x} .",
            f"I expected a {y} {a} and got a {x} one .",  # expectation
            f"I never found the {a} {y} and I found the {b} {x} .",
        ]
    )
    sentences = [*r.sample(FILLERS, r.randrange(4)), opinion]
    r.shuffle(sentences)
    return " ".join(sentences), label
