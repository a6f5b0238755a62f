"""How well a language model knows a text, and what it writes by itself."""

import argparse
import math

import keras
import numpy as np
import tensorflow as tf

import layers
from recipes.common import words
from recipes.common.carried import state_sizes
from recipes.common.words import Words
from recipes.parts.language_model import character_ngrams
from recipes.parts.language_model.characters import UNKNOWN, Characters

NGRAM = 6  # the baseline's


def losses(model: keras.Model, numbers: np.ndarray, start: int) -> np.ndarray:
    """−log P of each of `numbers`, read in one go: the states are carried through all of it."""
    streaming = layers.streaming_model(model)
    sizes = state_sizes(streaming)
    some = tf.TensorSpec([1, None], tf.int32)

    @tf.function(input_signature=[some, some, {n: tf.TensorSpec([1, k]) for n, k in sizes.items()}])
    def read(numbers, to_come, states):
        answer = streaming({"numbers": numbers, **states}, training=False)
        nats = tf.nn.sparse_softmax_cross_entropy_with_logits(to_come, answer["logits"])
        return nats[0], {name: answer[name] for name in states}

    states, found = {name: tf.zeros([1, size]) for name, size in sizes.items()}, []
    before = np.append(start, numbers[:-1]).astype("int32")
    for i in range(0, len(numbers), 1000):
        part = slice(i, i + 1000)
        nats, states = read(before[None, part], numbers[None, part], states)
        found.append(nats)
    return np.concatenate(found)


def of_characters(model: keras.Model, characters: Characters, train: str, text: str) -> dict:
    """Scores of the model, and of what counting knows."""
    numbers = characters.numbers(tf.constant([text])).flat_values.numpy()
    found = losses(model, numbers, characters.start)
    nats = {"model": float(np.mean(found, dtype="float64"))}
    for name, order in {f"{NGRAM}-grams": NGRAM, "frequency alone": 1}.items():
        nats[name] = character_ngrams.nats(train, text, order, len(characters))

    def score(nats):
        bits = nats / math.log(2)
        return {"nats": nats, "bits": bits, "bits_a_byte": bits * len(text) / len(text.encode())}

    unknown = int(np.sum(numbers == UNKNOWN))
    counts = {"characters": len(text), "unknown": unknown}
    counts["counted"] = min(len(train), character_ngrams.MOST)  # characters, for n-grams
    return counts | {name: score(mean) for name, mean in nats.items()}


def of_words(model: keras.Model, train: np.ndarray, numbers: np.ndarray) -> dict:
    """The same, from the numbers of both parts. An unknown word is one, and so is a text's END."""
    counts = 1.0 + np.bincount(train, minlength=model.output.shape[-1])
    nats = {
        "model": losses(model, numbers, words.END),
        "frequency alone": -np.log(counts / counts.sum())[numbers],
    }
    nats = {name: float(np.mean(each, dtype="float64")) for name, each in nats.items()}
    found = {"words": len(numbers), "unknown": int(np.sum(numbers == words.UNKNOWN))}
    return found | {n: {"nats": mean, "perplexity": math.exp(mean)} for n, mean in nats.items()}


def show(scores: dict, kind: str) -> None:
    """Prints what each model scored."""
    unknown = f" ({scores['unknown']:,} unknown, a word like another)" if kind == "words" else ""
    print(f"\nValidation, all {scores[kind]:,} {kind}{unknown}, one behind the other:")
    for name, of in scores.items():
        if isinstance(of, dict):
            if kind == "words":
                also = f"perplexity {of['perplexity']:.2f}"
            else:
                also = f"{of['bits']:.4f} bits a character; {of['bits_a_byte']:.4f} bits a byte"
            print(f"  {name:16} {of['nats']:.4f} nats, {also}")


def show_texts(served: dict, args: argparse.Namespace, prompts: list[str]) -> None:
    """Prints a text for each of `prompts`."""
    generate = tf.function(served["generate"][0])
    asked = {"length": args.length, "temperature": args.temperature, "top_p": args.top_p}
    asked |= {"top_k": args.top_k or 0, "seed": args.seed}
    for text in generate(tf.constant(prompts), **asked)["texts"].numpy():
        print(f"\n{text.decode()}")


def refuse_too_much(prompts: list[str], length: int, symbols: type[Characters | Words]) -> None:
    """Ends the program if so much can't be written at once."""
    if symbols is Words:
        longest = int(tf.reduce_max(words.apart(tf.constant(prompts)).row_lengths()))
    else:
        longest = max(map(len, prompts))
    places = len(prompts) * (longest + length)
    if places > symbols.most_places:
        raise SystemExit(
            f"--generate: {len(prompts)} texts with up to {places // len(prompts):,} "
            f"{symbols.name} each are more than {symbols.most_places:,}. Give fewer prompts or a "
            "smaller --length."
        )
