"""Sentences from a small grammar full of words whose tag depends on their place."""

import random

# Nouns that are verbs too, in the forms that a sentence needs.
AMBIGUOUS = ["saw", "duck", "light", "watch", "book", "fish", "play", "plant", "park", "ring"]
AMBIGUOUS += ["point", "face", "cook", "train", "rose", "felt", "left", "bear", "hand", "lead"]
WORDS = {
    "NOUN": ["dog", "house", "teacher", "river", "idea", "garden", "letter", "machine"],
    "VERB": ["found", "liked", "took", "made", "broke", "heard", "bought", "forgot"],
    "BASE": ["find", "like", "take", "make", "break", "hear", "buy", "forget"],
    "ADJ": ["old", "red", "small", "strange", "quiet", "happy", "light", "left", "wooden"],
    "ADV": ["slowly", "often", "never", "quietly", "again", "well"],
    "ADP": ["in", "near", "under", "with", "behind", "like"],
    "DET": ["a", "the", "this", "that", "every"],
    "PRON": ["I", "you", "we", "they", "she", "he"],
    "AUX": ["can", "will", "may", "must"],
    "PROPN": ["Mary", "John", "London", "Will", "May", "Rose", "Mark", "Paris"],
    "NUM": ["two", "three", "seven", "ten"],
    "CCONJ": ["and", "but", "or"],
}
# Words made up on the spot, told by their endings: a model must read the spelling.
ENDINGS = {"NOUN": ["ness", "tion", "ment"], "ADV": ["ly"], "ADJ": ["ful", "ous"], "VERB": ["ed"]}
SYLLABLES = ["ba", "do", "ki", "lu", "mar", "ne", "pol", "ri", "sta", "tem", "vo", "zin"]
TAGS = ["ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "NOUN", "NUM", "PRON", "PROPN", "PUNCT", "VERB"]


def sentences(count: int, seed: str) -> list[tuple[list[str], list[str]]]:
    """`count` sentences, each (words, tags)."""
    return [_sentence(random.Random(f"{seed}/{i}")) for i in range(count)]


def _sentence(r: random.Random):
    pairs = _clause(r)
    if r.random() < 0.3:
        pairs += [_word(r, "CCONJ"), *_clause(r)]
    pairs.append((r.choice([".", ".", "!"]), "PUNCT"))
    return [word for word, _ in pairs], [tag for _, tag in pairs]


def _clause(r):
    subject = [_word(r, r.choice(["PRON", "PRON", "PROPN"]))] if r.random() < 0.6 else _phrase(r)
    if r.random() < 0.35:  # "we can can a can"
        verb = (
            r.choice([*AMBIGUOUS, "can", "will"]) if r.random() < 0.6 else r.choice(WORDS["BASE"])
        )
        predicate = [_word(r, "AUX"), (verb, "VERB")]
    else:
        predicate = [_word(r, "VERB", AMBIGUOUS)]
    clause = subject + ([_word(r, "ADV")] if r.random() < 0.2 else []) + predicate
    clause += _phrase(r) if r.random() < 0.85 else [_word(r, "ADV")]
    if r.random() < 0.4:
        clause += [_word(r, "ADP"), *_phrase(r)]
    return clause


def _phrase(r):
    """A noun phrase."""
    words = [_word(r, "NUM")] if r.random() < 0.1 else [_word(r, "DET")]
    if r.random() < 0.35:
        words.append(_word(r, "ADJ"))
    return [*words, _word(r, "NOUN", [*AMBIGUOUS, "can", "will"])]


def _word(r, tag, ambiguous=()):
    draw = r.random()
    if ambiguous and draw < 0.5:
        return r.choice(ambiguous), tag
    if tag in ENDINGS and draw > 0.85:
        return "".join(r.choices(SYLLABLES, k=2)) + r.choice(ENDINGS[tag]), tag
    return r.choice(WORDS[tag]), tag
