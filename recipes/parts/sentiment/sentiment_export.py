"""What a classifier of texts is exported as: sentences in, labels and their probabilities out.

serving_default  the answer to each text
stream           the same for a text that arrives piece by piece, if it is read forwards alone
"""

from functools import partial
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from layers.exchange import checks
from recipes.common.other_runtimes import PortableModel
from recipes.common.portable_rules import portable
from recipes.parts.sentiment import classification, ngrams, sentiment_stream
from serving import onnx_query

# In a request to the export, so that its memory is bounded:
MOST_TEXTS = 256
MOST_BYTES = 2**24  # each text padded to the longest


def bounded(name: str, texts: tf.Tensor) -> tf.Tensor:
    """`texts`, the input `name`, once it is known not to be too large."""
    rows = tf.size(texts, tf.int64)
    lengths = tf.cast(tf.strings.length(texts), tf.int64)
    padded = rows * tf.reduce_max(tf.concat([[0], lengths], 0))
    texts = checks.at_most(MOST_TEXTS, "texts", name, texts, rows)
    return checks.at_most(MOST_BYTES, "bytes, padded to the longest", name, texts, padded)


def answer(found: tf.Tensor, labels: list[str]) -> dict[str, tf.Tensor]:
    """The outputs, from the probabilities that the model puts out."""
    each = classification.of_each_class(found)
    label = tf.gather(tf.constant(labels), tf.argmax(each, axis=-1))
    return {"label": label, "probabilities": each}


def signatures(model: keras.Model, labels: list[str], examples: list[str], longest: int) -> dict:
    """Of a model that `recipes/sentiment.py` makes; `longest`: words that it reads of a text."""

    def classify(sentences):
        sentences = checks.shaped(sentences, [None])
        sentences = bounded("sentences", sentences)
        return answer(model(sentences, training=False)["both"], labels)

    specs, example = {"sentences": tf.TensorSpec([None], tf.string)}, {"sentences": examples}
    found = {"serving_default": (classify, specs, example)}
    if "ngrams" not in model.output:  # all is read forwards, once

        def answer_scores(scores):
            return answer(classification.to_probabilities(scores), labels)

        found |= sentiment_stream.signatures(
            model, longest, bounded, answer_scores, example=examples[:1]
        )
    return found


def numeric(model: keras.Model, rules: list, labels: list[str], longest: int) -> PortableModel:
    """For ONNX and LiteRT: the network; its n-grams are a table beside it. `rules` make its words.

    Without n-grams, the text is read forwards alone, and may arrive in pieces.
    """
    known = model.get_layer("vocabulary")
    about = {
        "task": "classification",
        "rules": portable(rules),
        "words": known.get_vocabulary()[2:],
        "longest": longest,
        "labels": labels,
    }
    arrays, build_step = {}, None
    if "ngrams" not in model.output:
        about["states"] = sentiment_stream.states(model)
        build_step = partial(sentiment_stream.step, model)
    else:
        mix = model.get_layer("mix")
        about |= {"factors": mix.factors.numpy().tolist(), "short": mix.short}
        about["ngram_codes"] = {
            "longest": ngrams.LONGEST,
            "base": ngrams.BASE,
            "prime": ngrams.PRIME,
        }
        arrays["ngrams.npz"] = model.get_layer("ngrams").table()

    def build():
        numbers = keras.Input((None,), dtype="int32", name="numbers")
        network = keras.Model(known.output, model.output["network"])
        scores = {"network": network(numbers)}
        return {"model": keras.Model(numbers, scores, name=model.name)}

    return PortableModel(build, about, arrays, ClassifierAsModel, build_step)


class ClassifierAsModel(NamedTuple):
    page: onnx_query.Classifier

    def predict(self, texts: tf.data.Dataset, verbose: int = 0) -> dict[str, np.ndarray]:
        batches = (batch.numpy() for batch in texts)
        found = [self.page.scores([text.decode() for text in batch]) for batch in batches]
        return {name: np.concatenate([one[name] for one in found]) for name in found[0]}
