"""Analogies, a to b as c to d: word2vec's questions, and how many of them vectors answer."""

from pathlib import Path

import numpy as np

from recipes.parts.word_embeddings.word_search import FREQUENT, unit


def read(path: str) -> dict[str, list[list[str]]]:
    """For each section, its questions [a, b, c, d], in the format of questions-words.txt.

    Raises:
        SystemExit: If there is no such file, or a line is neither a section nor a question.
    """
    sections, section = {}, None
    try:
        for number, line in enumerate(Path(path).read_text("utf-8").splitlines(), 1):
            if line.startswith(":"):
                section = sections.setdefault(line[1:].strip(), [])
            elif section is None or len(line.split()) != 4:
                raise ValueError(f"line {number}: {line!r}")
            else:
                section.append(line.lower().split())
        if not any(sections.values()):
            raise ValueError("it has no question")
    except (OSError, ValueError) as error:
        raise SystemExit(
            f"--questions: {path} cannot be read ({error}). Expected are lines of four words "
            "below lines such as ': family', as in word2vec's questions-words.txt."
        ) from error
    return sections


def evaluate(words: list[str], vectors: np.ndarray, questions: dict) -> dict:
    """The share of questions whose d is the word most similar to b − a + c, but for a, b and c.

    As everywhere since word2vec, vectors are taken at length one, d is looked for among the
    FREQUENT most frequent words, and a question with another word is not counted: `coverage`
    is the share that is. The sections of syntactic questions are those named "gram…".
    """
    place = {word: i for i, word in enumerate(words[:FREQUENT])}
    units = unit(vectors[:FREQUENT])
    asked, right = {}, {}
    for section, all_of_it in questions.items():
        known = [[place[w] for w in q] for q in all_of_it if all(w in place for w in q)]
        asked[section], right[section] = len(known), 0
        for some in np.array_split(np.array(known, int).reshape(-1, 4), len(known) // 500 + 1):
            a, b, c, d = some.T
            similarity = (units[b] - units[a] + units[c]) @ units.T
            np.put_along_axis(similarity, some[:, :3], -np.inf, axis=1)
            right[section] += int(np.sum(similarity.argmax(axis=1) == d))

    def share(sections):
        count = sum(asked[s] for s in sections)
        return {
            "questions": count,
            "accuracy": sum(right[s] for s in sections) / count if count else None,
        }

    syntactic = [s for s in questions if s.startswith("gram")]
    total = sum(map(len, questions.values()))
    return {
        **share(questions),
        "coverage": sum(asked.values()) / total if total else None,
        "semantic": share([s for s in questions if s not in syntactic]),
        "syntactic": share(syntactic),
        "sections": {s: share([s]) for s in questions},
    }


def summary(scores: dict) -> str:
    """One line on what `evaluate` found."""
    whole, semantic, syntactic = map(percent, (scores, scores["semantic"], scores["syntactic"]))
    return (
        f"Analogies: {whole} of {scores['questions']} answered correctly (semantic {semantic}, "
        f"syntactic {syntactic}); {scores['coverage']:.1%} of all questions have only words known "
        "here."
    )


def percent(score: dict) -> str:
    return "none" if score["accuracy"] is None else f"{score['accuracy']:.2%}"
