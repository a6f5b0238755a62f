"""A recipe's model for ONNX (`--onnx`) and LiteRT (`--litert`): from numbers on.

Neither has strings. So what makes numbers of text is written beside the model, `about.json`, and
`serving/onnx_query.py` does it. Each model is written twice, as it is and with weights of 8 bits,
and both are measured as the recipe measures its own.
"""

import argparse
import re
import shutil
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from string import ascii_lowercase
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import ops

import layers
from layers.exchange import model_files
from recipes.common import files, log_mel, sentiment_stream, subwords, word_search
from recipes.common.characters import Characters
from recipes.common.ctc import Symbols
from recipes.common.subwords import END
from recipes.common.text_export import state_sizes
from recipes.common.translation_export import MORE, PENALTY, WIDTH, Translator
from recipes.common.words import RULES, Words
from serving import onnx_query

SCORES = "accuracy", "macro_f1", "mse", "mae", "nats", "error_rate", "bleu", "exact"


class Numeric(NamedTuple):
    """A model that takes numbers.

    Attributes:
        build: Makes it, {"model": it}; or several, which `about["models"]` names.
        about: What stands in `about.json`.
        arrays: {file's name: its arrays}, for what is too much for that.
        as_model: From the page's class to what the recipe's evaluation takes for its model.
        build_step: Makes the model that reads a sequence piece by piece, if it can be read so.
    """

    build: Callable[[], dict[str, keras.Model]]
    about: dict
    arrays: dict[str, dict[str, np.ndarray]]
    as_model: Callable
    build_step: Callable[[], keras.Model] | None = None

    def paths(self, folder: Path, ending: str) -> dict[str, Path]:
        """Of each model its file."""
        return {name: folder / f"{name}{ending}" for name in self.about.get("models", ["model"])}


def tagger(model: keras.Model, rules: list, tags: list[str]) -> Numeric:
    """Of `recipes/pos_tagging.py`; `rules` are those that split a sentence."""
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

    return Numeric(build, about, {}, as_model)


def classifier(model: keras.Model, rules: list, labels: list[str], longest: int) -> Numeric:
    """Of `recipes/sentiment.py`: the network; its n-grams are a table beside it.

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
        from recipes.common.ngrams import LONGEST

        table = model.get_layer("ngrams")
        about["share_of_ngrams"] = float(model.get_layer("mix").share.numpy())
        about["longest_ngram"] = LONGEST
        weights = table.kernel.numpy() * table.ratios.numpy()
        arrays["ngrams.npz"] = {"keys": table.keys.numpy(), "weights": weights}

    def build():
        numbers = keras.Input((None,), dtype="int32", name="numbers")
        network = keras.Model(known.output, model.output["network"])
        scores = {"network": network(numbers)}
        return {"model": keras.Model(numbers, scores, name=model.name)}

    return Numeric(build, about, arrays, ClassifierAsModel, build_step)


class ClassifierAsModel(NamedTuple):
    page: onnx_query.Classifier

    def predict(self, texts: tf.data.Dataset, verbose: int = 0) -> dict[str, np.ndarray]:
        batches = (batch.numpy() for batch in texts)
        found = [self.page.scores([text.decode() for text in batch]) for batch in batches]
        return {name: np.concatenate([one[name] for one in found]) for name in found[0]}


def forecaster(
    model: keras.Model, mean, std, levels: tuple[float, ...], channels: list[str], example: str
) -> Numeric:
    """Of `recipes/forecasting.py`; `example` is a window as CSV."""
    about = {"task": "forecasting", "channels": channels, "example": example}
    numbers = {"mean": mean, "std": std, "levels": levels}
    about |= {name: np.array(x).tolist() for name, x in numbers.items()}
    about["lookback"] = model.input_shape[1]
    return Numeric(lambda: {"model": model}, about, {}, ForecasterAsModel)


class ForecasterAsModel(NamedTuple):
    page: onnx_query.Forecaster

    def predict_on_batch(self, window: tf.Tensor) -> np.ndarray:
        """The forecast that is the median, or what is nearest to it."""
        found, levels = self.page.standardized(window.numpy()), self.page.levels
        return found[:, np.abs(np.array(levels) - 0.5).argmin()] if levels else found


def listener(model: keras.Model, words: list[str]) -> Numeric:
    """Of `recipes/speech.py`, for single words: from the power in each band on."""
    hear = model.get_layer("log_mel")

    def build():
        energies, heard = _standardized(hear)
        rest = keras.Model(hear.output, model.output)
        scores = rest([heard, ops.ones_like(heard[..., 0], dtype="bool")])
        return {"model": keras.Model(energies, {"scores": scores}, name=model.name)}

    def as_model(page):
        return lambda given: tf.constant(page.scores(_recordings(given)))

    about = {"task": "listening", "words": words, **_front_end(hear)}
    return Numeric(build, about, _bands(hear), as_model)


def transcriber(model: keras.Model, symbols: Symbols) -> Numeric:
    """Of `recipes/speech.py`, for texts: from the power in each band on."""
    hear = model.get_layer("log_mel")

    def build():
        energies, heard = _standardized(hear)
        logits = model.get_layer("network")(heard)
        return {"model": keras.Model(energies, {"logits": logits}, name=model.name)}

    def as_model(page):
        def read(given):
            found = [page.logits(samples) for samples in _recordings(given)]
            counts = [len(x) for x in found]
            found = [np.pad(x, [[0, max(counts) - len(x)], [0, 0]]) for x in found]
            return {"logits": tf.constant(found), "counts": tf.constant(counts)}

        return read

    about = {"task": "transcription", **symbols._asdict(), **_front_end(hear)}
    return Numeric(build, about, _bands(hear), as_model)


def _front_end(hear):
    names = "rate", "window", "hop", "stack"
    return {"quiet": log_mel.QUIET, **{name: getattr(hear, name) for name in names}}


def _bands(hear):
    return {"bands.npz": {"weights": hear.bands_of_power().numpy()}}


def _standardized(hear):
    """(the model's input, what `hear` makes of it)."""
    energies = keras.Input((None, hear.size), name="energies")
    mean, std = (np.tile(x.numpy(), hear.stack) for x in (hear.mean, hear.std))
    return energies, (energies - mean) / std


def _recordings(given):
    return [x[:n] for x, n in zip(given["samples"].numpy(), given["lengths"].numpy())]


def writer(model: keras.Model, symbols: Characters | Words) -> Numeric:
    """Of `recipes/language_model.py`: some characters or words more, and the states, go in."""
    streaming = layers.streaming_model(model)
    about = {"task": "writing", "start": symbols.start, "states": state_sizes(streaming)}
    if isinstance(symbols, Words):
        about |= {"rules": portable(RULES), "words": symbols.known}
    else:
        about["characters"] = symbols.known
    return Numeric(lambda: {"model": streaming}, about, {}, lambda page: page)


def neighbours(words: list[str], vectors: np.ndarray) -> Numeric:
    """Of `recipes/word_embeddings.py`: the numbers of words, from 0, to their vectors."""

    def build():
        numbers = keras.Input((), dtype="int32", name="numbers")
        given = keras.initializers.Constant(vectors)
        found = keras.layers.Embedding(*vectors.shape, given, name="vectors")(numbers)
        return {"model": keras.Model(numbers, {"vectors": found}, name="word_embeddings")}

    about = {"task": "vectors", "words": words, "frequent": word_search.FREQUENT}
    return Numeric(build, about, {}, lambda page: page)


def translator(halves: Translator) -> Numeric:
    """Of `recipes/translation.py`: two models, what reads a sentence and a step of what writes."""
    known = halves.subwords
    inputs = halves.encoder.outputs
    memory = [f"memory_{k}" for k in range(3)]
    states = [f"state_{k}" for k in range(len(inputs) - 3)]

    def build():
        read = keras.Input((None,), dtype="int32", name="source")
        encoded = dict(zip([*memory, *states], halves.encoder(read)))
        before = keras.Input((None,), dtype="int32", name="before")
        given = [
            keras.Input(x.shape[1:], dtype=x.dtype, name=name)
            for name, x in zip([*memory, *states], inputs)
        ]
        written = halves.decoder([before, *given])
        named = dict(zip(["logits", *states], written))
        return {
            "encoder": keras.Model(read, encoded, name="encoder"),
            "decoder": keras.Model([before, *given], named, name="decoder"),
        }

    def as_model(page):
        def write(sentences):
            found = page([sentence.decode() for sentence in sentences.numpy()])
            return {name: tf.constant(x) for name, x in found.items()}

        return write

    about = {
        "task": "translation",
        "models": ["encoder", "decoder"],
        "rules": portable([(subwords.BETWEEN, " ")]),
        "pieces": [x.decode() for x in known.pieces.numpy()],
        "scores": known.scores.numpy().tolist(),
        "end": END,
        "width": WIDTH,
        "penalty": PENALTY,
        "more": MORE,
    }
    return Numeric(build, about, {}, as_model)


def write(
    args: argparse.Namespace,
    made: Numeric,
    score: Callable,
    examples: Callable[[], list] | None = None,
) -> None:
    """Writes what `args.onnx` and `args.litert` ask for into `args.output`, and prints its scores.

    Args:
        score: Of what stands in for the model in the recipe's evaluation, its scores.
        examples: For LiteRT, makes some inputs, as the page's classes take them: what 8 bits are
            spread over. None: no file computes in 8 bits.
    """
    found = {}
    for place in WRITERS:
        if not getattr(args, place, False):
            continue
        folder = args.output / place
        shutil.rmtree(folder, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=args.output, prefix=".writing-") as beside:
            beside = Path(beside) / place
            beside.mkdir()
            files.write_json(beside / "about.json", made.about)
            for name, arrays in made.arrays.items():
                np.savez(beside / name, **arrays)
            WRITERS[place](made, beside, examples)
            beside.rename(folder)
        for ending in ENDINGS[place]:
            paths = made.paths(folder, ending).values()
            if not all(path.exists() for path in paths):
                continue
            scores = score(made.as_model(READERS[place](made, folder, ending)))
            scores = {name: float(scores[name]) for name in SCORES if scores.get(name) is not None}
            size = sum(path.stat().st_size for path in paths)
            found[f"{place}/{' + '.join(x.name for x in paths)}"] = {"bytes": size, **scores}
    for name, scores in found.items():
        each = [f"{what} {x:.4f}" for what, x in scores.items() if what != "bytes"]
        print(f"  {name:24} {scores['bytes'] / 1e6:7.2f} MB  {'  '.join(each)}")
    if found:
        files.write_json(args.output / "other_runtimes.json", found)


def write_onnx(made: Numeric, folder: Path, examples: Callable | None) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    if made.build_step:
        layers.export_onnx(made.build_step(), folder / "stream.onnx")
    for name, model in made.build().items():
        whole, small = folder / f"{name}.onnx", folder / f"{name}_int8.onnx"
        layers.export_onnx(model, whole)
        with model_files.quiet():
            quantize_dynamic(whole, small, weight_type=QuantType.QInt8)


def write_litert(made: Numeric, folder: Path, examples: Callable | None) -> None:
    for name, model in made.build().items():
        layers.export_litert(model, folder / f"{name}.tflite")
        layers.export_litert(model, folder / f"{name}_dynamic.tflite", quantize="dynamic")
    if examples is None:
        return
    task = onnx_query.TASKS[made.about["task"]](made.about, None, folder)
    inputs = task.inputs(examples()) if hasattr(task, "inputs") else {"window": examples()}
    small = folder / "model_int8.tflite"
    try:
        layers.export_litert(model, small, quantize="int8", examples=list(inputs.values()))
    except ValueError as error:
        print(f"  {small.name} is left out: {error}")


def read_onnx(made: Numeric, folder: Path, ending: str):
    return onnx_query.load(folder, ending)


def read_litert(made: Numeric, folder: Path, ending: str = ".tflite"):
    """As `onnx_query.load`, answering by LiteRT, a row at a time."""
    from ai_edge_litert.interpreter import Interpreter

    answers = {
        name: Interpreter(str(path)).get_signature_runner()
        for name, path in made.paths(folder, ending).items()
    }

    def run(inputs, model="model"):
        rows = range(len(next(iter(inputs.values()))))
        answer = answers[model]
        found = [answer(**{n: x[i : i + 1] for n, x in inputs.items()}) for i in rows]
        return {name: np.concatenate([row[name] for row in found]) for name in found[0]}

    return onnx_query.TASKS[made.about["task"]](made.about, run, folder)


WRITERS = {"onnx": write_onnx, "litert": write_litert}
READERS = {"onnx": read_onnx, "litert": read_litert}
ENDINGS = {
    "onnx": (".onnx", "_int8.onnx"),
    "litert": (".tflite", "_dynamic.tflite", "_int8.tflite"),
}


# --- Rules of RE2, which TensorFlow has, in what every language's expressions have ---------------


SPACES = r"\t\n\f\r "  # \s, which has one more elsewhere
CASES = {"k": "kK\u212a", "s": "sSſ"}  # of letters that have more than two


def portable(rules: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The (pattern, replacement) pairs, classes of characters in them written out as ranges."""
    return [(_portable(pattern), by) for pattern, by in rules]


def _portable(pattern):
    if pattern.startswith("(?i)"):
        assert not re.search(r"\[|\\p", pattern)  # whose letters are no letters
        cases = {letter: CASES.get(letter, letter + letter.upper()) for letter in ascii_lowercase}
        pattern = re.sub(r"(?<!\\)[a-z]", lambda one: f"[{cases[one[0]]}]", pattern[4:])

    def written_out(found):
        if found[0] != r"\s":
            return ranges(found[0])
        before = pattern[: found.start()]
        return SPACES if before.rfind("[") > before.rfind("]") else f"[{SPACES}]"

    return re.sub(r"\\s|\\p(?:\{\w+\}|[A-Z])", written_out, pattern)


@cache
def ranges(unicode_class: str) -> str:
    """Such as "a-zß-ö", the characters of the class, as TensorFlow sees them."""
    points = np.array([n for n in range(0x110000) if not 0xD800 <= n < 0xE000], "int32")
    found = tf.strings.regex_full_match(
        tf.strings.unicode_encode(points[:, None], "UTF-8"), unicode_class
    )
    points = points[found.numpy()]
    breaks = np.flatnonzero(np.diff(points) > 1)
    firsts, lasts = points[np.r_[0, breaks + 1]], points[np.r_[breaks, len(points) - 1]]
    return "".join(f"{chr(a)}-{chr(b)}" if a < b else chr(a) for a, b in zip(firsts, lasts))
