"""Short reviews to be tested on, of which counting words says little.

They come in pairs: the same sentence, with what is praised and what is blamed exchanged. Their
words are common in IMDB's reviews. No model and no setting was chosen by them; but the rules of
short_opinions.py were written by someone who knew them, and how few were answered right.
"""

import random

GOOD = ["good", "great", "funny", "moving", "interesting", "beautiful", "clever"]
BAD = ["bad", "awful", "boring", "silly", "dull", "terrible", "stupid"]
NOUNS = ["film", "movie", "story", "plot", "acting", "ending", "music", "script", "cast"]

# {x} and {y} are of opposite senses; y's is the sentence's. {other} is another noun than {noun}.
TEMPLATES = {
    "negation": [
        "The {noun} was not {x} at all.",
        "The {noun} was {y}, not {x}.",
        "There is nothing {x} about the {noun}.",
        "I can't say that I found the {noun} {x}.",
        "The {noun} is anything but {x}.",
        "Nobody could call this {noun} {x}.",
    ],
    "contrast": [
        "The {other} was {x}, but the {noun} was so {y} that I forgot it.",
        "Although the {other} is {x}, on the whole it is {y}.",
        "On the whole it is {y}, even though the {other} is {x}.",
        "The first half is {x}, but from there on it is {y}.",
        "People told me that it was {x}, but I found it {y}.",
        "Yes, the {other} is {x}. That does not change that the rest is {y}.",
    ],
    "comparison": [
        "I expected a {x} film and got a {y} one.",
        "The {noun} is not as {x} as people say.",
        "The {noun} was far less {x} than I had thought.",
        "Others called the {noun} {x}. I say the opposite.",
        "The {noun} and the {other} are {better} than I {feared}.",
        "The {noun} is much {better} than in the {x} film before.",
    ],
}


def parts(each: int = 10) -> dict[str, tuple[list[str], list[int]]]:
    """{kind: (texts, labels)}: `each` pairs from every template; a label is 1 for positive."""
    found = {}
    for kind, templates in TEMPLATES.items():
        texts = [t for template in templates for t in _pairs(template, each)]
        found[kind] = texts, [0, 1] * (len(texts) // 2)
    return found


def _pairs(template: str, count: int) -> list[str]:
    """Texts, by turns negative and positive, none twice."""
    r, texts = random.Random(template), {}
    while len(texts) < 2 * count:
        good, bad = r.choice(GOOD), r.choice(BAD)
        noun, other = r.sample(NOUNS, 2)
        negative = {"x": good, "y": bad, "better": "worse", "feared": "hoped"}
        positive = {"x": bad, "y": good, "better": "better", "feared": "feared"}
        pair = [template.format(noun=noun, other=other, **w) for w in (negative, positive)]
        if texts.keys().isdisjoint(pair):
            texts |= dict.fromkeys(pair)
    return list(texts)
