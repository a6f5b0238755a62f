"""Asks what a recipe exported with --onnx, in a process that needs onnxruntime and numpy alone.

    python serving/onnx_query.py runs/pos_tagging/…/onnx "I saw a saw." "You can can a can."
    python serving/onnx_query.py runs/sentiment/…/onnx "The film was good, not bad."
    python serving/onnx_query.py runs/forecasting/…/onnx window.csv
    python serving/onnx_query.py runs/speech/…/onnx seven.wav
    python serving/onnx_query.py runs/language_model/…/onnx "ROMEO:"
    python serving/onnx_query.py runs/translation/…/onnx "Ein Hund läuft."
    python serving/onnx_query.py runs/word_embeddings/…/onnx king "king man woman"

The model there takes numbers. `about.json` beside it says how numbers are made of text, and what
the numbers mean that come out; this page does it, and its answers are the SavedModel's.
"""

import argparse
import heapq
import itertools
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

PADDING, UNKNOWN = 0, 1  # as numbers of words; those that are known follow


class Reader:
    """Texts to numbers, by the rules of `about.json`."""

    def __init__(self, about: dict):
        # In TensorFlow's expressions, \b is of ASCII.
        self.rules = [(re.compile(p, re.ASCII), by) for p, by in about["rules"]]
        self.words = {word: n for n, word in enumerate(about.get("words", ()), UNKNOWN + 1)}
        self.letters = {one: n for n, one in enumerate(about.get("letters", ()), UNKNOWN + 1)}
        self.longest = about.get("longest")

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
        self.ngrams = None
        if (folder / "ngrams.npz").is_file():
            self.ngrams = dict(np.load(folder / "ngrams.npz"))
            self.factors, self.codes = about["factors"], about["ngram_codes"]
            self.short = about.get("short", 0)  # of fewer words, the network alone answers

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
        if self.ngrams:
            found["ngrams"] = np.stack([self._of_ngrams(row) for row in numbers])
            of_two = self.factors[0] * both + self.factors[1] * found["ngrams"]
            words = np.count_nonzero(numbers != PADDING, axis=1, keepdims=True)
            both = np.where(words < self.short, both, of_two)
        if both.shape[1] == 1:
            return {**found, "both": 1 / (1 + np.exp(-both))}
        return {**found, "both": softmax(both)}

    def _of_ngrams(self, numbers):
        """The sum of the weights of the different n-grams of known words, each once."""
        keys, weights = self.ngrams["keys"], self.ngrams["weights"]
        words = np.where(numbers > UNKNOWN, numbers, 0).astype("int64")
        found = [words]
        base, prime = self.codes["base"], self.codes["prime"]
        for n in range(1, self.codes["longest"]):
            before, following = found[-1][: len(words) - n], words[n:]
            both = (before > 0) & (following > 0)
            found.append(np.where(both, (before * base + following) % prime, 0))
        asked = np.unique(np.concatenate(found)).astype(keys.dtype)
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
        self.shape, self.channels = (about["lookback"], len(self.mean)), about.get("channels")

    def standardized(self, window: np.ndarray) -> np.ndarray:
        """What the model says: (windows, [levels,] horizon, channels)."""
        (found,) = self.run({"window": window.astype("float32")}).values()
        return found

    def __call__(self, paths: list[str]) -> dict[str, list]:
        import text  # not above: recipes have this page, too, and not the folder

        window = []
        for path in paths:
            names, rows = text.named_numbers(Path(path))
            each, channels = np.array(rows, "float32"), self.channels
            if names and channels:
                each = each[:, in_order(path, names, channels)]
            window.append(each)
            if each.shape != self.shape:
                raise SystemExit(
                    f"{path} has {each.shape} rows and columns of numbers, not {self.shape}."
                )
            if not np.all(np.isfinite(each)):
                raise SystemExit(f"{path} has a number that is not finite.")
        window = np.stack(window)
        found = self.standardized(window) * self.std + self.mean
        if not self.levels:
            return {"forecast": found.tolist()}
        middle = np.abs(np.array(self.levels) - 0.5).argmin()
        answers = {"forecast": found[:, middle].tolist(), "quantiles": found.tolist()}
        return {**answers, "levels": [self.levels] * len(found)}


def in_order(path, names: list[str], channels: list[str]) -> list[int]:
    """The places of the columns that the model reads: by their names, if they have those."""
    lacking = [name for name in channels if name not in names]
    if lacking and any(a in channels and a != b for a, b in zip(names, channels)):
        raise SystemExit(f"{path} has no column {', '.join(lacking)}; the model reads {channels}.")
    if lacking or len({*names}) < len(names):
        return [*range(len(names))]
    return [names.index(name) for name in channels]


class Listener:
    """Recordings to the word that each holds."""

    def __init__(self, about: dict, run: Callable, folder: Path):
        self.about, self.run = about, run
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

    def read(self, paths: list[str]) -> list[np.ndarray]:
        """The samples of WAV files, at the model's rate."""
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
        return recordings

    def __call__(self, paths: list[str]) -> dict[str, list]:
        each = softmax(self.scores(self.read(paths)))
        best = [self.about["words"][i] for i in each.argmax(1)]
        return {"text": best, "probabilities": each.tolist()}


class Transcriber(Listener):
    """Recordings to their texts."""

    def logits(self, samples: np.ndarray) -> np.ndarray:
        """(steps, symbols and the blank)."""
        return self.run(self.inputs([samples]))["logits"][0]

    def __call__(self, paths: list[str]) -> dict[str, list]:
        found = [softmax(self.logits(samples)) for samples in self.read(paths)]
        return {
            "text": [self.text(greedy(steps)) for steps in found],
            "texts": [[self.text(beam_search(steps))] for steps in found],
        }

    def text(self, symbols: Iterable[int]) -> str:
        names = (self.about["names"][k] for k in symbols)
        return self.about["separator"].join(names).lstrip(" ")


def greedy(steps: np.ndarray) -> list[int]:
    """What is most probable at each step, of (steps, symbols and the blank) probabilities."""
    best = [k for k, _ in itertools.groupby(steps.argmax(axis=1).tolist())]
    return [k for k in best if k < steps.shape[1] - 1]


def beam_search(steps: np.ndarray, beam: int = 16) -> tuple[int, ...]:
    """The most probable text, of (steps, symbols and the blank) probabilities.

    Texts that begin alike are one, and all ways to say it add up (Graves et al. 2006).
    """
    kept = {(): (1.0, 0.0)}  # of each beginning: its probability, with a blank behind and without
    for blank, *symbols in steps[:, [-1, *range(steps.shape[1] - 1)]]:
        found = defaultdict(lambda: [0.0, 0.0])
        for said, (paused, spoken) in kept.items():
            found[said][0] += (paused + spoken) * blank
            if said:  # the same symbol goes on
                found[said][1] += spoken * symbols[said[-1]]
            for k, now in enumerate(symbols):
                again = said and said[-1] == k
                found[(*said, k)][1] += (paused if again else paused + spoken) * now
        best = heapq.nlargest(beam, found, key=lambda said: sum(found[said]))
        total = sum(map(sum, found.values()))  # else they would be too small for numbers
        kept = {said: tuple(x / total for x in found[said]) for said in best}
    return max(kept, key=lambda said: sum(kept[said]))


class Writer:
    """How texts begin, to texts that go on; and how well it knows what was there."""

    def __init__(self, about: dict, run: Callable, folder: Path):
        self.run, self.about = run, about
        self.read = Reader(about) if "words" in about else None
        if self.read:
            self.written = ["\n", "", *(f" {word}" for word in about["words"])]
        else:
            self.written = ["", *about["characters"]]
            self.number = {one: n for n, one in enumerate(about["characters"], 1)}
        self.writable = np.array([n for n, x in enumerate(self.written) if x])

    def numbers(self, text: str) -> list[int]:
        if not self.read:
            return [self.number.get(one, 0) for one in text]
        return [self.read.words.get(word, UNKNOWN) for word in self.read.split(text.lower())]

    def begin(self) -> dict[str, np.ndarray]:
        """The states before anything was read."""
        return {name: np.zeros((1, n), "float32") for name, n in self.about["states"].items()}

    def follow(self, numbers: list[int], states: dict) -> tuple[np.ndarray, dict]:
        """(log-probabilities of what comes after each, the new states)."""
        found = self.run({"numbers": np.array([numbers], "int32"), **states})
        return np.log(softmax(found["logits"][0])), {n: found[f"new_{n}"] for n in states}

    def losses(self, numbers: list[int], piece: int = 200) -> np.ndarray:
        """−log P of each, after all that stands before it."""
        before, states, found = [self.about["start"], *numbers[:-1]], self.begin(), []
        for i in range(0, len(numbers), piece):
            part = slice(i, i + piece)
            each, states = self.follow(before[part], states)
            found.append(-each[np.arange(len(each)), numbers[part]])
        return np.concatenate(found) if found else np.zeros(0)

    def written_on(
        self, text: str, length: int = 200, temperature: float = 0.8, seed: int = 0
    ) -> str:
        """`text`, and so many characters or words behind it; at 0 degrees the most probable."""
        random = np.random.default_rng(seed)
        each, states = self.follow([self.about["start"], *self.numbers(text)], self.begin())
        for _ in range(length):
            scores = each[-1, self.writable]
            if temperature:
                chances = softmax(scores[None] / temperature)[0].astype("float64")
                drawn = random.choice(len(chances), p=chances / chances.sum())
            else:
                drawn = scores.argmax()
            number = self.writable[drawn]
            text += self.written[number]
            each, states = self.follow([number], states)
        return text

    def __call__(self, texts: list[str]) -> dict[str, list]:
        losses = [self.losses(self.numbers(text)) for text in texts]
        perplexities = [float(np.exp(x.mean())) if len(x) else 1.0 for x in losses]
        return {"perplexity": perplexities, "text": [self.written_on(x) for x in texts]}


class Translator:
    """Sentences to sentences, by a beam search."""

    SPACE = "▁"  # before each word

    def __init__(self, about: dict, run: Callable, folder: Path):
        self.split, self.run, self.about = Reader(about).split, run, about
        self.pieces, self.scores, self.end = (about[name] for name in ("pieces", "scores", "end"))
        self.number = {piece: n for n, piece in enumerate(self.pieces) if n > self.end}
        self.longest = max(map(len, self.number))

    def numbers(self, text: str) -> list[int]:
        return [k for word in self.split(text) for k in self.cut(self.SPACE + word)]

    def cut(self, word: str) -> list[int]:
        """The numbers of the pieces whose scores have the greatest sum."""
        best = [(0.0, 0, 0)]  # up to each letter: the sum, where the last piece begins, its number
        for end in range(1, len(word) + 1):
            ways = []
            for start in range(end - 1, max(0, end - self.longest) - 1, -1):
                number = self.number.get(word[start:end], UNKNOWN if start == end - 1 else None)
                if number is not None:
                    ways.append((best[start][0] + self.scores[number], start, number))
            best.append(max(ways, key=lambda way: way[0]))
        found, end = [], len(word)
        while end:
            _, end, number = best[end]
            if not (number == UNKNOWN and found and found[-1] == UNKNOWN):  # a run of them is one
                found.append(number)
        return found[::-1]

    def step(self, tokens: list[int], states: dict, memory: dict) -> tuple[np.ndarray, dict]:
        """(rows, pieces): log-probabilities of what comes next; the new states."""
        memory = {name: np.repeat(x, len(tokens), axis=0) for name, x in memory.items()}
        before = {"before": np.array(tokens, "int32")[:, None]}
        found = self.run({**before, **memory, **states}, "decoder")
        logits = found["logits"][:, 0].copy()
        logits[:, [PADDING, UNKNOWN]] = -np.inf
        with np.errstate(divide="ignore"):
            return np.log(softmax(logits)), {name: found[f"new_{name}"] for name in states}

    def search(self, numbers: list[int]) -> list[int]:
        """The most probable translation, the short ones' advantage taken off (Wu et al. 2016)."""
        width, most = self.about["width"], 2 * (len(numbers) + 1) + self.about["more"]
        memory = self.run({"source": np.array([[*numbers, self.end]], "int32")}, "encoder")
        states = {name: memory.pop(name) for name in [*memory] if name.startswith("state")}

        def penalty(count):
            return ((5 + count) / 6) ** self.about["penalty"]

        each, states = self.step([self.end], states, memory)
        kept, ended = [(0.0, [])], (-np.inf, [])
        for count in range(1, most + 1):
            sums = each + np.array([log_p for log_p, _ in kept])[:, None]
            best = np.argpartition(-sums, min(2 * width, sums.size) - 1, axis=None)[: 2 * width]
            best = best[np.argsort(-sums.flat[best], kind="stable")]
            ways = [(sums[at], *at) for at in zip(*np.unravel_index(best, sums.shape))]
            for log_p, row, piece in ways:
                if piece == self.end and log_p / penalty(count) > ended[0]:
                    ended = log_p / penalty(count), kept[row][1]
            ways = [way for way in ways if way[2] != self.end and way[0] > -np.inf][:width]
            kept = [(log_p, [*kept[row][1], int(piece)]) for log_p, row, piece in ways]
            if not kept or kept[0][0] / penalty(most) <= ended[0]:
                break
            rows = [row for _, row, _ in ways]
            states = {name: x[rows] for name, x in states.items()}
            each, states = self.step([one[-1] for _, one in kept], states, memory)
        return ended[1] if ended[0] > -np.inf else kept[0][1]

    def __call__(self, texts: list[str]) -> dict[str, list]:
        found = ["".join(self.pieces[k] for k in self.search(self.numbers(x))) for x in texts]
        return {"translations": [text.replace(self.SPACE, " ").strip() for text in found]}


class Neighbours:
    """Words to those that are most like them; three words to what is like the first − second +
    third."""

    ANSWERS = 10

    def __init__(self, about: dict, run: Callable, folder: Path):
        self.run, self.words, self.frequent = run, about["words"], about["frequent"]
        self.number = {word: n for n, word in enumerate(self.words)}

    def vectors(self, numbers: np.ndarray) -> np.ndarray:
        return self.run({"numbers": np.asarray(numbers, "int32")})["vectors"]

    def __call__(self, texts: list[str]) -> dict[str, list]:
        units = unit(self.vectors(np.arange(min(self.frequent, len(self.words)))))
        found = {"answers": [], "similarities": []}
        for text in texts:
            words = text.lower().split()
            unknown = [word for word in words if word not in self.number]
            if unknown or len(words) not in (1, 3):
                raise SystemExit(f"“{text}”: give one word, or three; not known: {unknown}")
            numbers = np.array([self.number[word] for word in words])
            asked = unit(self.vectors(numbers))
            wanted = asked[0] if len(words) == 1 else asked[0] - asked[1] + asked[2]
            cosines = units @ unit(wanted)
            cosines[numbers[numbers < len(cosines)]] = -np.inf
            best = np.argsort(-cosines, kind="stable")[: self.ANSWERS]
            best = best[cosines[best] > -np.inf]
            found["answers"].append([self.words[k] for k in best])
            found["similarities"].append(cosines[best].tolist())
        return found


def unit(vectors: np.ndarray) -> np.ndarray:
    """At length one; zeros stay."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6)


def softmax(scores: np.ndarray) -> np.ndarray:
    each = np.exp(scores - scores.max(1, keepdims=True))
    return each / each.sum(1, keepdims=True)


TASKS = {
    "tagging": Tagger,
    "classification": Classifier,
    "forecasting": Forecaster,
    "listening": Listener,
    "transcription": Transcriber,
    "writing": Writer,
    "translation": Translator,
    "vectors": Neighbours,
}


def load(folder: Path, ending: str = ".onnx"):
    """The task's class for what is in `folder`, answering by onnxruntime.

    Args:
        ending: "_int8.onnx" for the files in 8 bits.
    """
    import onnxruntime

    def present(path):
        if not path.is_file():
            raise SystemExit(f"There is no {path}; a recipe writes one with --onnx.")
        return path

    about = json.loads(present(folder / "about.json").read_text("utf-8"))
    sessions = {}
    for name in about.get("models", ["model"]):
        path = present(folder / f"{name}{ending}")
        sessions[name] = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(inputs, model="model"):
        names = [output.name for output in sessions[model].get_outputs()]
        return dict(zip(names, sessions[model].run(names, inputs)))

    return TASKS[about["task"]](about, run, folder)


def main() -> None:
    import text

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="what --onnx wrote")
    parser.add_argument("inputs", nargs="+", help="texts, CSV files or recordings")
    parser.add_argument("--int8", action="store_true", help="ask the model in 8 bits")
    args = parser.parse_args()
    answer = load(args.folder, "_int8.onnx" if args.int8 else ".onnx")
    text.show(args.inputs, answer(args.inputs))


if __name__ == "__main__":
    main()
