"""Times the recipes' SavedModels beside the same models made with `keras.layers`.

    python benchmarks/served_models.py

Both have the recipe's sizes and the same weights, are exported as the recipe exports, and
are loaded as a server loads them. They take turns in one process, each with the same
request, so that the machine's noise falls on both alike. Requests a second are those of two
clients at once. Leaves served_models.json, the numbers, and served_models.png, a picture of
them, in benchmarks/.

Weights are untrained and words are the built-in data's: neither changes how long an answer
takes. The length of texts does, and is drawn from the lengths in the recipe's real data.
"""

import argparse
import contextlib
import datetime
import functools
import json
import os
import sys
import tempfile
import time
from multiprocessing.pool import ThreadPool
from pathlib import Path
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parents[1]))

import keras
import numpy as np
import pictures
import tensorflow as tf
from timing import by_turns, machine

import layers
from recipes import forecasting, pos_tagging, sentiment
from recipes.common import cells, publishing
from recipes.common.samples import grammar, reviews

HERE = Path(__file__).parent
BATCHES = [1, 8, 32]
# Words of a text, the deciles of the training data: of IMDB, of UD English-EWT.
REVIEW = [91, 120, 134, 151, 174, 206, 252, 325, 458]
SENTENCE = [3, 6, 9, 11, 14, 17, 20, 25, 32]


# --- The models --------------------------------------------------------------------------


def build_sentiment(units=128):
    model = sentiment.build(reviews.reviews(1000, "benchmark"), "lstm", units)
    return model, sentiment.signatures(model)


def build_pos_tagging():
    model = pos_tagging.build(grammar.sentences(1000, "benchmark"), grammar.TAGS, "lstm")
    return model, pos_tagging.signatures(model, grammar.TAGS)


def build_forecasting():
    mean, std = np.zeros(7, "float32"), np.ones(7, "float32")  # ETTh1 has seven channels
    model = forecasting.build(mean, std, lookback=96, horizon=96, cell="gru")
    return model, forecasting.signatures(model, mean, std)


class QuestionsOfKeras(forecasting.Questions):
    """Keras's cells take a question and a state a row, all together."""

    def call(self, states):
        shape = self.channels, self.ahead, self.cell.units // 2
        asked = [keras.ops.broadcast_to(x, shape) for x in (self.places, self.which)]
        asked = keras.ops.reshape(keras.ops.concatenate(asked, -1), (-1, 2 * shape[-1]))
        asked = keras.ops.tile(asked, (keras.ops.shape(states[0])[0] // self.channels, 1))
        answer, _ = self.cell(asked, [keras.ops.repeat(s, self.ahead, axis=0) for s in states])
        return keras.ops.reshape(answer, (-1, self.channels, self.ahead, self.cell.units))


@contextlib.contextmanager
def layers_of_keras():
    """Inside, the recipes build their models with `keras.layers`."""

    def with_keras(cell):
        return lambda units, recurrence=None, **options: cell(units, **options)

    of_keras = {
        "simple_rnn": with_keras(keras.layers.SimpleRNN),
        "lstm": with_keras(keras.layers.LSTM),
        "gru": with_keras(keras.layers.GRU),
    }
    with (
        mock.patch.dict(cells.CELLS, of_keras),
        mock.patch.object(layers, "Bidirectional", keras.layers.Bidirectional),
        mock.patch.object(forecasting, "Questions", QuestionsOfKeras),
    ):
        yield


def exported(build, folder):
    """{"ours" | "keras": the signature of a SavedModel}, with the same weights."""
    ours, signatures = build()
    with layers_of_keras():
        kerass, signatures_of_keras = build()
        kerass.set_weights(ours.get_weights())
        versions = {
            "ours": publishing.publish(ours, folder / "ours", signatures),
            "keras": publishing.publish(kerass, folder / "keras", signatures_of_keras),
        }
    loaded = {name: tf.saved_model.load(version) for name, version in versions.items()}
    return {name: model.signatures["serving_default"] for name, model in loaded.items()}, loaded


# --- The requests ------------------------------------------------------------------------


def texts(words, deciles, random):
    def draw(batch):
        between = [deciles[0] // 2, *deciles, 2 * deciles[-1]]
        lengths = np.interp(random.random(batch), np.linspace(0, 1, len(between)), between)
        return {"sentences": tf.constant([" ".join(random.choice(words, int(n))) for n in lengths])}

    return draw


def windows(random):
    return lambda batch: {"window": tf.constant(random.normal(size=(batch, 96, 7)), tf.float32)}


def recipes(seed=0):
    """{recipe: (what builds it, what draws a request of a batch of sequences)}."""
    random = np.random.default_rng(seed)
    of_reviews = " ".join(reviews.reviews(100, "request")[0]).split()
    of_sentences = [word for words, _ in grammar.sentences(100, "request") for word in words]
    return {
        "sentiment": (build_sentiment, texts(of_reviews, REVIEW, random)),
        "pos_tagging": (build_pos_tagging, texts(of_sentences, SENTENCE, random)),
        "forecasting": (build_forecasting, windows(random)),
    }


# --- Timing ------------------------------------------------------------------------------


def answer(model, request):
    return {name: output.numpy() for name, output in model(**request).items()}


def latencies(models, requests):
    """Of each model its milliseconds for each request."""
    for model in models.values():
        for request in requests[:3]:
            answer(model, request)
    candidates = {name: functools.partial(answer, model) for name, model in models.items()}
    return by_turns(candidates, [(request,) for request in requests])


def throughput(model, requests):
    """Requests a second of two clients at once."""
    with ThreadPool(2) as pool:
        start = time.perf_counter()
        pool.map(lambda request: answer(model, request), requests, chunksize=1)
        return len(requests) / (time.perf_counter() - start)


def check_the_same(models, request):
    ours, kerass = (answer(model, request) for model in models.values())
    for name, value in kerass.items():
        if value.dtype != object:
            np.testing.assert_allclose(ours[name], value, rtol=1e-3, atol=1e-4)


def cases(count):
    for recipe, (build, draw) in recipes().items():
        with tempfile.TemporaryDirectory() as folder:
            models, loaded = exported(build, Path(folder))
            check_the_same(models, draw(4))
            for batch in BATCHES:
                requests = [draw(batch) for _ in range(count)]
                times = latencies(models, requests)
                yield {
                    "recipe": recipe,
                    "batch": batch,
                    "requests": count,
                    "ms": {
                        name: {f"p{q}": round(np.percentile(t, q), 2) for q in (50, 95, 99)}
                        for name, t in times.items()
                    },
                    "requests a second": {
                        name: round(throughput(model, requests), 1)
                        for name, model in models.items()
                    },
                }
            del loaded
        keras.backend.clear_session()


# --- Results -----------------------------------------------------------------------------


def row(case):
    cells = []
    for name, ms in case["ms"].items():
        percentiles = " / ".join(f"{value:.1f}" for value in ms.values())
        cells += [percentiles, f"{case['requests a second'][name]:.0f}"]
    return f"| {case['recipe']} | {case['batch']} | " + " | ".join(cells) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--requests", type=int, default=200, help="of each batch size")
    parser.add_argument("--output", type=Path, default=HERE, help="folder of the results")
    arguments = parser.parse_args()

    tf.autograph.set_verbosity(0)
    results = {
        "machine": machine(),
        "date": datetime.date.today().isoformat(),
        "versions": {"tensorflow": tf.__version__, "keras": keras.__version__},
        "cases": [],
    }
    print(results["machine"], results["versions"])
    print("| recipe | batch | ours: ms p50 / p95 / p99 | requests/s | Keras: ms | requests/s |")
    print("|---|---|---|---|---|---|")
    for case in cases(arguments.requests):
        results["cases"].append(case)
        print(row(case), flush=True)
    arguments.output.mkdir(parents=True, exist_ok=True)
    pictures.served_models(results, arguments.output / "served_models.png")
    (arguments.output / "served_models.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
