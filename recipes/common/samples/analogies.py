"""Sentences in which man is to woman as king is to queen, and the questions that ask for it.

A word keeps company with two kinds of words: those of its pair (a king and a queen both
have a crown, Paris and France both the Seine) and those of its side (kings, like all men,
have a beard; all cities have a mayor). The relation of the two words of a pair is therefore
the same in every pair of a kind, by construction.
"""

import itertools
import random

# For each kind of pair: the marks of either side, and for each pair what its words share.
KINDS = {
    "family": (
        (["he", "him", "his", "beard", "gentleman"], ["she", "her", "hers", "dress", "lady"]),
        {
            ("man", "woman"): ["grown", "adult", "person", "somebody"],
            ("king", "queen"): ["crown", "throne", "palace", "realm"],
            ("prince", "princess"): ["heir", "ball", "tutor", "tower"],
            ("boy", "girl"): ["school", "homework", "playground", "toys"],
            ("uncle", "aunt"): ["nephew", "visit", "parcel", "cousin"],
            ("actor", "actress"): ["stage", "role", "film", "script"],
            ("waiter", "waitress"): ["menu", "tray", "tip", "restaurant"],
            ("duke", "duchess"): ["estate", "hunt", "carriage", "banquet"],
        },
    ),
    "country-of-city": (
        (
            ["mayor", "street", "suburb", "tram", "downtown"],
            ["border", "army", "parliament", "anthem", "nation"],
        ),
        {
            ("paris", "france"): ["seine", "baguette", "louvre", "french"],
            ("rome", "italy"): ["tiber", "pasta", "colosseum", "italian"],
            ("berlin", "germany"): ["spree", "pretzel", "brandenburg", "german"],
            ("madrid", "spain"): ["prado", "paella", "flamenco", "spanish"],
            ("tokyo", "japan"): ["sushi", "kimono", "sumo", "japanese"],
            ("cairo", "egypt"): ["nile", "pyramid", "pharaoh", "egyptian"],
            ("athens", "greece"): ["acropolis", "olives", "temple", "greek"],
            ("london", "england"): ["thames", "cricket", "teapot", "english"],
        },
    ),
    "gram-plural": (
        (["a", "one", "this", "is", "itself"], ["many", "these", "several", "are", "themselves"]),
        {
            ("dog", "dogs"): ["barking", "bone", "leash", "kennel"],
            ("cat", "cats"): ["purring", "mouse", "whiskers", "milk"],
            ("car", "cars"): ["engine", "wheel", "driver", "garage"],
            ("tree", "trees"): ["leaves", "branch", "forest", "root"],
            ("book", "books"): ["pages", "chapter", "author", "library"],
            ("horse", "horses"): ["saddle", "stable", "rider", "hooves"],
            ("bird", "birds"): ["wings", "nest", "feather", "song"],
            ("house", "houses"): ["roof", "door", "window", "chimney"],
        },
    ),
}
FILLERS = ["and", "the", "of", "then", "with", "near", "while", "there", "again", "often", "so"]


def texts(count: int, seed: str) -> list[str]:
    """`count` sentences, each about one word."""
    return [_sentence(random.Random(f"{seed}/{i}")) for i in range(count)]


def _sentence(r: random.Random) -> str:
    marks, pairs = KINDS[r.choice(list(KINDS))]
    pair = r.choice(list(pairs))
    side = r.randrange(2)
    company = r.sample(marks[side], 2) + r.sample(pairs[pair], 2) + r.choices(FILLERS, k=2)
    r.shuffle(company)
    return " ".join([*company[:3], pair[side], *company[3:]])


def questions() -> dict[str, list[list[str]]]:
    """For each kind, every [a, b, c, d] in which a is to b as c is to d."""
    return {
        kind: [
            [*p[::way], *q[::way]] for way in (1, -1) for p, q in itertools.permutations(pairs, 2)
        ]
        for kind, (_, pairs) in KINDS.items()
    }
