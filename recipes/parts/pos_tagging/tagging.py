"""How well words are tagged: all of them, and those that tell most about a tagger."""

from collections import Counter, defaultdict
from collections.abc import Callable

import numpy as np
from sklearn.metrics import f1_score

from recipes.parts.pos_tagging.treebanks import Sentences


def most_frequent_tags(train: Sentences) -> Callable[[str], str]:
    """The baseline: each word's most frequent tag; for an unseen word, the rarest words'."""
    seen = tags_of(train)
    once = Counter(next(iter(c)) for c in seen.values() if c.total() == 1)
    unseen = (once or sum(seen.values(), Counter())).most_common(1)[0][0]
    return lambda word: seen[word].most_common(1)[0][0] if word in seen else unseen


def tags_of(sentences: Sentences) -> dict[str, Counter]:
    """For each word, how often it has each tag."""
    seen = defaultdict(Counter)
    for words, tags in sentences:
        for word, tag in zip(words, tags):
            seen[word][tag] += 1
    return dict(seen)


def score(true: Sentences, predicted: list[list[str]], train: Sentences) -> dict:
    """Accuracies of the tags that a model and the baseline give to the sentences `true`.

    Ambiguous words had several tags in training. None stands for the accuracy on no words.
    """
    seen, baseline = tags_of(train), most_frequent_tags(train)
    words = [word for words, _ in true for word in words]
    truth = np.array([tag for _, tags in true for tag in tags])
    found = np.array([tag for tags in predicted for tag in tags])
    right = found == truth

    def accuracy_on(chosen):
        return float(right[chosen].mean()) if any(chosen) else None

    names = sorted(set(truth))
    return {
        "words": len(words),
        "accuracy": float(right.mean()),
        "accuracy_on_unseen_words": accuracy_on([word not in seen for word in words]),
        "accuracy_on_ambiguous_words": accuracy_on([len(seen.get(w, ())) > 1 for w in words]),
        "accuracy_of_most_frequent_tag": float(np.mean([baseline(w) for w in words] == truth)),
        "sentences": len(true),
        "sentences_all_right": float(np.mean([t == p for (_, t), p in zip(true, predicted)])),
        "f1": dict(zip(names, f1_score(truth, found, labels=names, average=None).tolist())),
    }


def show(scores: dict) -> None:
    """Prints what `score` found."""
    print(f"Test: {scores['accuracy']:.2%} of {scores['words']:,} words tagged correctly.")
    for name, found in {
        "each word's most frequent tag": scores["accuracy_of_most_frequent_tag"],
        "words unseen in training": scores["accuracy_on_unseen_words"],
        "words with several tags": scores["accuracy_on_ambiguous_words"],
        "sentences all right": scores["sentences_all_right"],
    }.items():
        print(f"  {name:32} {'none' if found is None else f'{found:.2%}'}")
    hardest = sorted(scores["f1"].items(), key=lambda pair: pair[1])[:3]
    print("  lowest F1: " + ", ".join(f"{tag} {f1:.3f}" for tag, f1 in hardest))
