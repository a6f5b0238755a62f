"""Word vectors of recipes/word_embeddings.py beside gensim's: how good, and how fast.

    pip install gensim    # optional: to compare with it
    python benchmarks/word_embeddings.py --questions questions-words.txt

Both learn from the same words of IMDB's reviews, in as many epochs and dimensions, with a
window of 5, 5 negatives and frequent words thinned out beyond 1e-3; gensim in as many
threads as there are cores. The recipe's own count of right answers scores both; gensim's
agrees with it (tests/test_word_embeddings.py). `held out` are those questions neither of
whose pairs of words was looked at when the recipe's learning rate, sizes and optimizer were
chosen. With --ngrams, the same against gensim's FastText. Results go to
benchmarks/word_embeddings.json, beside those that are there.
"""

import argparse
import datetime
import json
import os
import sys
import time
import zlib
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parents[1]))

import keras
import numpy as np
from timing import cores, machine

from recipes import word_embeddings as recipe
from recipes.common import command_line, files
from recipes.parts.word_embeddings import analogy_questions, vector_tables
from recipes.parts.word_embeddings.analogy_questions import percent

try:
    import gensim
except ImportError:
    gensim = None

RESULTS = Path(__file__).with_suffix(".json")
WINDOW = 5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add, number = parser.add_argument, command_line.positive
    add("--questions", required=True, help="word2vec's questions-words.txt")
    add("--epochs", type=number, default=5)
    add("--dimension", type=number, default=100)
    add("--ngrams", action="store_true")
    add("--seed", type=int, default=0)
    args = parser.parse_args()

    questions = analogy_questions.read(args.questions)
    keras.utils.set_random_seed(args.seed)
    corpus = recipe.load("imdb", args.seed, least=5)
    rows = {}
    for name, train in {"ours": ours, "gensim": gensims if gensim else None}.items():
        if not train:
            continue
        vectors, seconds = train(corpus, args)
        speed = np.sum(corpus.train > 0) * args.epochs / seconds
        scores = {
            "all": analogy_questions.evaluate(corpus.words, vectors, questions),
            "held out": analogy_questions.evaluate(corpus.words, vectors, held_out(questions)),
        }
        rows[name] = {
            "words_per_second": round(speed),
            "training_seconds": round(seconds, 1),
            **scores,
        }
        shown = scores["all"]
        print(
            f"{name:7} {speed / 1000:6.0f} thousand words/s   "
            f"all {percent(shown)}, semantic {percent(shown['semantic'])}, "
            f"syntactic {percent(shown['syntactic'])}, of {shown['questions']} questions; "
            f"held out {percent(scores['held out'])}"
        )
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kind = "fastText" if args.ngrams else "skip-gram"
    results[f"{kind}, {args.dimension} dimensions, {args.epochs} epochs"] = {
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "words": int(np.sum(corpus.train > 0)),
        "vocabulary": len(corpus.words),
        **rows,
    }
    text = json.dumps(results, indent=1)
    files.write(RESULTS, lambda path: path.write_text(text + "\n"))


def ours(corpus: recipe.Corpus, args) -> tuple[np.ndarray, float]:
    """(vectors of `corpus.words`, seconds of training)"""
    data = recipe.batches(corpus.train, corpus.counts, WINDOW, shuffle=True)
    model = recipe.build(corpus.words, args.dimension, args.ngrams)
    recipe.compile_model(model, args.epochs * len(data))
    begun = time.monotonic()
    model.fit(data, epochs=args.epochs, shuffle=False, verbose=2)
    seconds = time.monotonic() - begun
    return model.get_layer("words").of_all_words(), seconds


def gensims(corpus: recipe.Corpus, args) -> tuple[np.ndarray, float]:
    names = np.array(["", *corpus.words], object)
    ends = np.flatnonzero(corpus.train == 0)
    texts = [names[text[text > 0]].tolist() for text in np.split(corpus.train, ends + 1)]
    kind = gensim.models.FastText if args.ngrams else gensim.models.Word2Vec
    more = {"bucket": vector_tables.BUCKETS} if args.ngrams else {}
    model = kind(
        vector_size=args.dimension, window=WINDOW, min_count=5, sample=recipe.THIN, sg=1,
        negative=recipe.NEGATIVES, workers=cores(), seed=args.seed + 1, **more,
    )  # fmt: skip
    model.build_vocab(texts)
    begun = time.monotonic()
    model.train(texts, total_examples=len(texts), epochs=args.epochs)
    seconds = time.monotonic() - begun
    return model.wv[corpus.words], seconds


def held_out(questions: dict) -> dict:
    def chosen_by(a, b):
        return zlib.crc32(f"{a} {b}".encode()) % 2 == 0

    return {
        section: [q for q in asked if not chosen_by(*q[:2]) and not chosen_by(*q[2:])]
        for section, asked in questions.items()
    }


if __name__ == "__main__":
    main()
