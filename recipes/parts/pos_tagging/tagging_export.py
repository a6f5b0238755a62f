"""What a tagger is for ONNX and LiteRT: numbers of words and letters in, tags out."""

import keras
import tensorflow as tf
from keras import ops

import layers
from recipes.common.other_runtimes import PortableModel
from recipes.common.portable_rules import portable


def numeric(model: keras.Model, rules: list, tags: list[str]) -> PortableModel:
    """`rules` are those that split a sentence."""
    spelling, known = model.get_layer("spelling"), model.get_layer("vocabulary")

    def build():
        numbers = keras.Input((None,), dtype="int32", name="numbers")
        letters = keras.Input((None, spelling.longest), dtype="int32", name="letters")
        spelt = layers.TimeDistributed(spelling.read)(spelling.embed(letters), mask=letters != 0)
        spelt = ops.cast(spelt, "float32")  # which hands no mask on
        rest = keras.Model([known.output, spelling.output], model.output)
        tags = {"tags": rest([numbers, spelt])}
        return {"model": keras.Model([numbers, letters], tags, name=model.name)}

    about = {
        "task": "tagging",
        "rules": portable(rules),
        "words": known.number.get_vocabulary()[2:],
        "letters": spelling.number.get_vocabulary()[2:],
        "longest": spelling.longest,
        "tags": tags,
    }

    def as_model(page):
        def probabilities(words):
            sentences = [[word.decode() for word in row if word] for row in words.numpy()]
            return tf.constant(page.probabilities(sentences))

        return probabilities

    return PortableModel(build, about, {}, as_model)
