"""What each recipe exports, small and untrained: for tests of how an export is asked."""

import numpy as np

from recipes import forecasting, language_model, pos_tagging, sentiment, speech, translation
from recipes.common import publishing, subwords
from recipes.common.samples import number_words
from recipes.parts.forecasting import forecasting_stream
from recipes.parts.language_model import text_export
from recipes.parts.language_model.characters import Characters
from recipes.parts.speech import ctc, recordings, speech_export
from recipes.parts.translation import translation_export
from recipes.parts.word_embeddings import vector_tables, word_search

MEAN, STD = np.array([300.0, 12, 0.05], "float32"), np.array([50.0, 5, 0.01], "float32")
LOOKBACK, HORIZON = 48, 30
TEXTS = ["The film was good, not bad.", "a bad film , isn't it"]


def tagger(folder):
    train = [(["I", "saw", "a", "saw"], ["PRON", "VERB", "DET", "NOUN"])] * 2
    tags = ["PRON", "VERB", "DET", "NOUN"]
    model = pos_tagging.build(train, tags, "lstm", units=8)
    return publishing.publish(model, folder, pos_tagging.signatures(model, tags))


def classifier(folder, unidirectional):
    train = TEXTS, [k % 2 for k in range(len(TEXTS))]
    model = sentiment.build(train, "lstm", units=8, unidirectional=unidirectional)
    return publishing.publish(model, folder, sentiment.signatures(model))


def forecaster(folder, streaming):
    build = forecasting_stream.build if streaming else forecasting.build
    model = build(MEAN, STD, LOOKBACK, HORIZON, "gru")
    served = forecasting.signatures(model, MEAN, STD)
    if streaming:
        served |= forecasting_stream.signatures(model, MEAN, STD)
    return publishing.publish(model, folder, served)


def vectors(folder, spelt):
    words = ["saw", "good", "bad", "king", "man", "woman"]
    random = np.random.default_rng(0)
    table = random.normal(size=(len(words), 8)).astype("float32")
    spelling = random.normal(size=(vector_tables.BUCKETS, 8)).astype("float32") if spelt else None
    answers = word_search.Answers(words, table, spelling)
    return publishing.publish(answers, folder, word_search.signatures(answers))


def writer(folder):
    characters = Characters("\n".join(TEXTS))
    model = language_model.build(len(characters), "lstm", units=8, depth=1)
    served = text_export.signatures(model, characters, "good")
    return publishing.publish(model, folder, served)


def listener(folder, of_texts):
    train = recordings.sample(0, each=1)
    if of_texts:
        symbols = ctc.Symbols(["no", "yes"], " ")
        model = speech.build_for_texts(train, symbols, "gru", units=8)
        served = speech_export.text_signatures(model, symbols, train[0].samples, speech.RATE)
    else:
        model = speech.together(speech.build_for_words(train, ["no", "yes"], "gru", units=8))
        served = speech_export.word_signatures(model, ["no", "yes"], train[0].samples, speech.RATE)
    return publishing.publish(model, folder, served)


def translator(folder):
    texts = [text for pair in number_words.pairs(300, "small") for text in pair]
    known = subwords.Subwords(subwords.learn(texts, 80))
    model, halves = translation.build(known, "gru", units=8, dimension=8)
    return publishing.publish(model, folder, translation_export.signatures(halves, "six"))


EXPORTS = {
    "pos_tagging": tagger,
    "sentiment": lambda folder: classifier(folder, False),
    "sentiment_stream": lambda folder: classifier(folder, True),
    "forecasting": lambda folder: forecaster(folder, False),
    "forecasting_stream": lambda folder: forecaster(folder, True),
    "language_model": writer,
    "speech": lambda folder: listener(folder, False),
    "speech_texts": lambda folder: listener(folder, True),
    "translation": translator,
    "word_embeddings": lambda folder: vectors(folder, False),
    "word_embeddings_ngrams": lambda folder: vectors(folder, True),
}
