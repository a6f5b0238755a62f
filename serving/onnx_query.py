"""Asks what a recipe exported with --onnx, in a process that needs onnxruntime and numpy alone.

    python serving/onnx_query.py runs/pos_tagging/…/onnx "I saw a saw." "You can can a can."
    python serving/onnx_query.py runs/sentiment/…/onnx "The film was good, not bad."
    python serving/onnx_query.py runs/forecasting/…/onnx window.csv
    python serving/onnx_query.py runs/speech/…/onnx seven.wav

The model there takes numbers. `about.json` beside it says how numbers are made of text, and what
the numbers mean that come out; this page does it, and its answers are the SavedModel's.
"""

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

PADDING, UNKNOWN = 0, 1  # as numbers of words; those that are known follow


class Reader:
    """Texts to numbers, by the rules of `about.json`."""

    def __init__(self, about: dict):
        # In TensorFlow's expressions, \b is of ASCII.
        self.rules = [(re.compile(p, re.ASCII), by) for p, by in about["rules"]]
        self.words = {word: n for n, word in enumerate(about["words"], UNKNOWN + 1)}
        self.letters = {one: n for n, one in enumerate(about.get("letters", ()), UNKNOWN + 1)}
        self.longest = about["longest"]

    def split(self, text: str) -> list[str]:
        for pattern, replacement in self.rules:
            text = pattern.sub(replacement, text)
        return [word.decode() for word in text.encode().split()]

    def numbers(self, sentences: list[list[str]]) -> np.ndarray:
        """(sentences, the longest's words), padded; one place even for nothing."""
        found = np.full((len(sentences), max(1, *map(len, sentences))), PADDING, "int32")
        for row, words in zip(found, sentences):
            row[: len(words)] = [self.words.get(word, UNKNOWN) for word in words]
        return found

    def spelling(self, sentences: list[list[str]]) -> np.ndarray:
        """(sentences, the longest's words, `longest` letters), padded."""
        length = max(1, *map(len, sentences))
        found = np.full((len(sentences), length, self.longest), PADDING, "int32")
        for row, words in zip(found, sentences):
            for place, word in zip(row, words):
                letters = word[: self.longest]
                place[: len(letters)] = [self.letters.get(one, UNKNOWN) for one in letters]
        return found


class Tagger:
    """Sentences to a tag for each word."""

    def __init__(self, about: dict, run: Callable, folder: Path):
        self.read, self.run, self.tags = Reader(about), run, about["tags"]

    def inputs(self, sentences: list[list[str]]) -> dict[str, np.ndarray]:
        lower = [[word.lower() for word in words] for words in sentences]
        return {"numbers": self.read.numbers(lower), "letters": self.read.spelling(sentences)}

    def probabilities(self, sentences: list[list[str]]) -> np.ndarray:
        """(sentences, words, tags)."""
        return self.run(self.inputs(sentences))["tags"]

    def __call__(self, texts: list[str]) -> dict[str, list]:
        words = [self.read.split(one) for one in texts]
        best = self.probabilities(words).argmax(-1)
        tags = [[self.tags[i] for i, _ in zip(*pair)] for pair in zip(best, words)]
        return {"words": words, "tags": tags, "lengths": [len(one) for one in words]}


class Classifier:
    """Texts to a class and the probabilities of all."""

    def __init__(self, about: dict, run: Callable, folder: Path):
        self.read, self.run, self.labels = Reader(about), run, about["labels"]
        self.share, self.orders = about.get("share_of_ngrams"), about.get("longest_ngram")
        if self.share is not None:
            self.ngrams = dict(np.load(folder / "ngrams.npz"))

    def inputs(self, texts: list[str]) -> dict[str, np.ndarray]:
        """The words that the network reads, of which there are `longest` at most."""
        return {"numbers": self.numbers(texts)[:, : self.read.longest]}

    def numbers(self, texts):
        return self.read.numbers([self.read.split(one.lower()) for one in texts])

    def scores(self, texts: list[str]) -> dict[str, np.ndarray]:
        """(texts, outputs) of the network, of the n-grams, and the probabilities of both."""
        numbers = self.numbers(texts)
        found = {"network": self.run({"numbers": numbers[:, : self.read.longest]})["network"]}
        both = found["network"]
        if self.share is not None:
            found["ngrams"] = np.stack([self._of_ngrams(row) for row in numbers])
            both = (1 - self.share) * both + self.share * found["ngrams"]
        if both.shape[1] == 1:
            return {**found, "both": 1 / (1 + np.exp(-both))}
        return {**found, "both": softmax(both)}

    def _of_ngrams(self, numbers):
        """The sum of the weights of the different n-grams of known words, each once."""
        keys, weights = self.ngrams["keys"], self.ngrams["weights"]
        words = np.where(numbers > UNKNOWN, numbers, 0).astype("int64")
        found = [words]
        for n in range(1, self.orders):
            before, following = found[-1][: len(words) - n], words[n:]
            both = (before > 0) & (following > 0)
            found.append(np.where(both, before * 2**21 + following, 0))
        asked = np.unique(np.concatenate(found))
        place = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
        return weights[place[keys[place] == asked]].sum(0)

    def __call__(self, texts: list[str]) -> dict[str, list]:
        each = self.scores(texts)["both"]
        each = np.concatenate([1 - each, each], 1) if each.shape[1] == 1 else each
        return {"label": [self.labels[i] for i in each.argmax(1)], "probabilities": each.tolist()}


class Forecaster:
    """A window of a series to its next steps."""

    def __init__(self, about: dict, run: Callable, folder: Path):
        self.run, self.levels = run, about["levels"]
        self.mean, self.std = (np.array(about[name], "float32") for name in ("mean", "std"))

    def standardized(self, window: np.ndarray) -> np.ndarray:
        """What the model says: (windows, [levels,] horizon, channels)."""
        (found,) = self.run({"window": window.astype("float32")}).values()
        return found

    def __call__(self, paths: list[str]) -> dict[str, list]:
        import text  # not above: recipes have this page, too, and not the folder

        window = np.stack([text.numbers(Path(path)) for path in paths])
        found = self.standardized(window) * self.std + self.mean
        if not self.levels:
            return {"forecast": found.tolist()}
        middle = np.abs(np.array(self.levels) - 0.5).argmin()
        return {"forecast": found[:, middle].tolist(), "quantiles": found.tolist()}


class Listener:
    """Recordings to the word that each holds."""

    def __init__(self, about: dict, run: Callable, folder: Path):
        self.about, self.run, self.words = about, run, about["words"]
        self.bands = np.load(folder / "bands.npz")["weights"]  # of the spectrum's power

    def energies(self, samples: np.ndarray) -> np.ndarray:
        """(samples,) from -1 to 1 to (1, steps, logarithms of power in each frame and band)."""
        window, hop, stack, quiet = (self.about[n] for n in ("window", "hop", "stack", "quiet"))
        needed = window + (stack - 1) * hop
        samples = np.pad(samples, (0, max(0, needed - len(samples))))
        steps = (len(samples) - needed) // (stack * hop) + 1
        starts = hop * np.arange(steps * stack)
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
        frames = samples[starts[:, None] + np.arange(window)] * hann
        power = np.abs(np.fft.rfft(frames, 2 * (len(self.bands) - 1))) ** 2
        return np.log(quiet + power @ self.bands).reshape(1, steps, -1).astype("float32")

    def inputs(self, recordings: list[np.ndarray]) -> dict[str, np.ndarray]:
        """Of recordings of one length."""
        return {"energies": np.concatenate([self.energies(one) for one in recordings])}

    def scores(self, recordings: list[np.ndarray]) -> np.ndarray:
        """(recordings, words)."""
        return np.concatenate([self.run(self.inputs([one]))["scores"] for one in recordings])

    def __call__(self, paths: list[str]) -> dict[str, list]:
        import sounds  # not above: recipes have this page, too, and not the folder

        recordings = []
        for path in paths:
            samples, rate = sounds.read(Path(path))
            if rate != self.about["rate"]:
                wanted = self.about["rate"]
                raise SystemExit(
                    f"{path} has {rate} samples a second, and the model takes {wanted}: "
                    f"ffmpeg -i {path} -ar {wanted} other.wav"
                )
            recordings.append(np.asarray(samples))
        each = softmax(self.scores(recordings))
        best = [self.words[i] for i in each.argmax(1)]
        return {"text": best, "probabilities": each.tolist()}


def softmax(scores: np.ndarray) -> np.ndarray:
    each = np.exp(scores - scores.max(1, keepdims=True))
    return each / each.sum(1, keepdims=True)


TASKS = {
    "tagging": Tagger,
    "classification": Classifier,
    "forecasting": Forecaster,
    "listening": Listener,
}


def load(folder: Path, model: str = "model.onnx"):
    """The task's class for what is in `folder`, answering by onnxruntime."""
    import onnxruntime

    if not (folder / model).is_file():
        raise SystemExit(f"There is no {folder / model}; a recipe writes one with --onnx.")
    session = onnxruntime.InferenceSession(folder / model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(inputs):
        return dict(zip(names, session.run(names, inputs)))

    about = json.loads((folder / "about.json").read_text("utf-8"))
    return TASKS[about["task"]](about, run, folder)


def main() -> None:
    import text

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="what --onnx wrote")
    parser.add_argument("inputs", nargs="+", help="texts, CSV files or recordings")
    parser.add_argument("--model", default="model.onnx", help="or model_int8.onnx")
    args = parser.parse_args()
    text.show(args.inputs, load(args.folder, args.model)(args.inputs))


if __name__ == "__main__":
    main()
