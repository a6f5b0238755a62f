"""What a classifier of texts is exported as: sentences in, labels and their probabilities out.

serving_default  the answer to each text
stream           the same for a text that arrives piece by piece, if it is read forwards alone
"""

import keras
import tensorflow as tf

from layers.exchange import checks
from recipes.common import classification, sentiment_stream

# In a request to the export, so that its memory is bounded:
MOST_TEXTS = 256
MOST_BYTES = 2**26  # each text padded to the longest


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
