"""How good translations are, by the numbers that are published (Post 2018)."""

import re

import numpy as np
import sacrebleu
from sklearn.feature_extraction.text import TfidfVectorizer

from recipes.common import subwords

LENGTHS = (0, 8, 12, 16, 20, 30)  # words of a sentence, for BLEU by length


def score(written: list[str], true: list[str]) -> dict:
    """Corpus BLEU and chrF, with their signatures; and how many are right as a whole."""
    bleu, lower, chrf = (
        sacrebleu.BLEU(effective_order=False),
        sacrebleu.BLEU(lowercase=True),
        sacrebleu.CHRF(),
    )
    found = {
        "bleu": bleu.corpus_score(written, [true]).score,
        "lower_cased_bleu": lower.corpus_score(written, [true]).score,
        "chrf": chrf.corpus_score(written, [true]).score,
        "exact": float(
            np.mean([a == b for a, b in zip(subwords.spaced(written), subwords.spaced(true))])
        ),
        "sentences": len(true),
    }
    return found | {
        "bleu_signature": str(bleu.get_signature()),
        "chrf_signature": str(chrf.get_signature()),
    }


def by_length(sources: list[str], written: list[str], true: list[str]) -> dict[str, float]:
    """BLEU of the sentences from so many words on."""
    place = np.digitize([len(text.split()) for text in sources], LENGTHS) - 1
    found = {}
    for k, least in enumerate(LENGTHS):
        rows = np.flatnonzero(place == k)
        if len(rows):
            pair = [[texts[i] for i in rows] for texts in (written, true)]
            found[f"{max(least, 1)}+"] = sacrebleu.corpus_bleu(pair[0], [pair[1]]).score
    return found


def nearest(train: list[tuple[str, str]], sources: list[str]) -> list[str]:
    """What needs no network: the translation of the sentence in `train` that shares most words."""
    known = [source for source, _ in train]
    pattern = r"\w+" if any(re.search(r"\w", source) for source in known) else r"\S+"
    words = TfidfVectorizer(token_pattern=pattern)
    known, best = words.fit_transform(known).T.tocsr(), []
    for k in range(0, len(sources), 16):  # almost all have a word in common with almost all
        shared = words.transform(sources[k : k + 16]) @ known
        best.extend(np.asarray(shared.argmax(axis=1)).ravel())
    return [train[i][1] for i in best]


def show(scores: dict) -> None:
    """Prints a table of scores by who has them."""
    first = next(iter(scores.values()))
    print(f"\nTest, {first['sentences']:,} sentences:")
    for name, of in scores.items():
        print(
            f"  {name:32} BLEU {of['bleu']:5.2f}, lower-cased {of['lower_cased_bleu']:5.2f}; "
            f"chrF {of['chrf']:5.2f}; right as a whole {of['exact']:.1%}"
        )
    print(f"  BLEU: {first['bleu_signature']}\n  chrF: {first['chrf_signature']}")
