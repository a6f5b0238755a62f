"""Recordings of words and who said them: from TFDS, a folder of sounds, or a table that names them.

Whatever their rate and channels, they come out mono, at one rate, as float32 from −1 to 1.
"""

import argparse
import csv
import math
from collections import Counter
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.signal
import soundfile

from recipes.common import check_data, prepared_data, subwords
from recipes.common.samples import syllables

SOUNDS = (".wav", ".flac")
SHORTEST, LONGEST = 0.05, 30.0  # seconds of a recording


class Recording(NamedTuple):
    samples: np.ndarray
    text: str
    speaker: str
    name: str  # of its file


Parts = dict[str, list[Recording]]


# --- Where they come from ----------------------------------------------------------------------


def spoken_digits() -> list[Recording]:
    """FSDD: 2,500 digits of five speakers, 8 kHz; "7_theo_12" is the 12th 7 of theo."""
    splits, _ = prepared_data.load("spoken_digit")
    found = []
    for example in splits["train"].as_numpy_iterator():
        name = example["audio/filename"].decode().removesuffix(".wav")
        digit, speaker, number = name.split("_")
        samples = example["audio"].astype("float32") / 2**15
        found.append((int(number), name, Recording(samples, digit, speaker, name)))
    return [recording for *_, recording in sorted(found, key=lambda x: x[:2])]


def sample(seed: int, each: int = 12) -> list[Recording]:
    """Built-in ones: `each` of ten numbers by five speakers."""
    random = np.random.default_rng(seed)
    return [
        Recording(syllables.word(n, speaker, random), str(n), speaker, f"{n}_{speaker}_{k}")
        for speaker in syllables.SPEAKERS
        for n in range(10)
        for k in range(each)
    ]


def from_folder(folder: Path, rate: int) -> list[Recording]:
    """WORD/FILE.wav or .flac, the layout of Speech Commands; a file's name up to "_nohash_", or
    else to its first "_", is its speaker, if it isn't the word. Folders that start with "_" hold
    no words.

    Raises:
        SystemExit: If there are no sounds, or one can't be used; the message names it.
    """
    files = sorted(p for p in folder.glob("*/*") if p.suffix.lower() in SOUNDS)
    files = [path for path in files if not path.parent.name.startswith(("_", "."))]
    if not files:
        raise SystemExit(
            f"--data: {folder} holds no WORD/FILE.wav or WORD/FILE.flac: give a folder with a "
            "folder of recordings for each word, or a CSV file with the columns path, text."
        )
    check_data.classes((path.parent.name for path in files), str(folder), least=3)
    words = {path.parent.name for path in files}

    def speaker(path):
        name, mark, _ = path.stem.partition("_")
        return name if mark and name not in words else ""

    return [
        Recording(samples, path.parent.name, speaker(path), f"{path.parent.name}/{path.name}")
        for path, samples in zip(files, read_all(files, rate))
    ]


def from_table(path: Path, rate: int) -> list[Recording]:
    """A CSV file with the columns path (beside it, or absolute) and text, and maybe speaker."""
    if path.suffix.lower() in SOUNDS:
        raise SystemExit(f"--data: {path} is one recording: give a folder, or a table of them.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise SystemExit(f"--data: {path} is no CSV file in UTF-8 ({error}): save it so.") from None
    if not rows or not {"path", "text"} <= rows[0][1].keys():
        raise SystemExit(f"--data: {path} needs the columns path and text (and maybe speaker).")
    texts = subwords.spaced([row["text"] or "" for _, row in rows])
    for (line, row), text in zip(rows, texts):
        if not text or not row["path"]:
            missing = "path" if text else "text"
            raise SystemExit(f"--data: {path}, line {line}: there is no {missing}.")
    samples = read_all([path.parent / row["path"] for _, row in rows], rate)
    return [
        Recording(sound, text, row.get("speaker") or "", row["path"])
        for (_, row), text, sound in zip(rows, texts, samples)
    ]


def read_all(files: list[Path], rate: int) -> list[np.ndarray]:
    """Each as `read` has it.

    Raises:
        SystemExit: If some can't be used; the message names the first ones.
    """
    found, refused = [], []
    for k, path in enumerate(files, 1):
        try:
            found.append(read(path, rate))
        except SystemExit as error:
            refused.append(str(error))
        if k % 10_000 == 0:
            print(f"{k:,} of {len(files):,} recordings are read.", flush=True)
    if refused:
        more = f"\n… and {len(refused) - 10:,} more" if len(refused) > 10 else ""
        raise SystemExit("\n".join(refused[:10]) + more)
    return found


def read(path: Path, rate: int) -> np.ndarray:
    """The samples of a sound file: the mean of its channels, at `rate`.

    Raises:
        SystemExit: If it is no sound, too short or too long, or silent; the message says so.
    """
    try:
        info = soundfile.info(path)
        if info.duration > LONGEST:
            raise SystemExit(
                f"{path} is {info.duration:.0f} seconds long, and {LONGEST:g} are the most that "
                "is trained on: cut it into pieces."
            )
        samples, found = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, RuntimeError) as error:
        raise SystemExit(f"{path} can't be read as a sound: {error}") from None
    if len(samples) < SHORTEST * found:
        raise SystemExit(f"{path} is shorter than {SHORTEST} seconds: take it out.")
    samples = samples.mean(axis=1)
    if not np.isfinite(samples).all() or np.ptp(samples) == 0:
        raise SystemExit(f"{path} is silent, or not of finite numbers: take it out.")
    if np.abs(samples).max() > 2:
        raise SystemExit(
            f"{path} has samples up to {np.abs(samples).max():g}, and they must be from -1 to 1: "
            "lower its level (if they are numbers of 16 bits, divide by 32768)."
        )
    return resampled(samples, found, rate).clip(-1, 1)


def resampled(samples: np.ndarray, rate: int, to: int) -> np.ndarray:
    """(samples,) at `rate`, to `to`."""
    common = math.gcd(rate, to)
    found = scipy.signal.resample_poly(samples, to // common, rate // common)
    return found.astype("float32")


# --- Three parts -------------------------------------------------------------------------------


def by_speaker(found: list[Recording], test: str | None, group: Callable) -> Parts:
    """One speaker to test on; of the others a tenth of each group to validate, the rest to train.

    All others train: with so few, one more voice is worth more than an epoch chosen by it.

    Args:
        group: Of a recording, its group's key.

    Raises:
        SystemExit: If there is no such speaker, or no other, or it isn't known who speaks.
    """
    speakers = sorted({recording.speaker for recording in found})
    some = ", ".join(speakers[:20]) + (" and others" if len(speakers) > 20 else "")
    if "" in speakers:
        name = next(recording.name for recording in found if not recording.speaker)
        raise SystemExit(f"--test-speaker: who speaks is not known of all recordings: {name}.")
    if len(speakers) < 2:
        raise SystemExit(f"The only speaker is {some}, and another is needed to train on.")
    test = test or speakers[-1]
    if test not in speakers:
        raise SystemExit(f"--test-speaker: there is no {test!r}, but {some}.")
    heard = Counter()

    def part(recording):
        if recording.speaker == test:
            return "test"
        heard[group(recording)] += 1
        return "validation" if heard[group(recording)] % 10 == 1 else "train"

    return parts(found, [part(recording) for recording in found])


def by_many_speakers(found: list[Recording], seed: int) -> Parts:
    """A tenth of the speakers, drawn, to test on, as many others to validate."""
    speakers = sorted({recording.speaker for recording in found})
    speakers = np.random.default_rng(seed).permutation(speakers)
    count = max(1, len(speakers) // 10)
    part = dict.fromkeys(speakers[:count], "test")
    part |= dict.fromkeys(speakers[count : 2 * count], "validation")
    return parts(found, [part.get(recording.speaker, "train") for recording in found])


def split_by_group(found: list[Recording], group: Callable, seed: int | None) -> Parts:
    """Of each group a tenth, one at least, to test on, as many to validate.

    Args:
        group: Of a recording, its group's key.
        seed: Draws them; None takes the first ones.
    """
    groups = {}
    for i, recording in enumerate(found):
        groups.setdefault(group(recording), []).append(i)
    names, random = ["train"] * len(found), np.random.default_rng(seed)
    for places in groups.values():
        order = places if seed is None else random.permutation(places)
        count = max(1, len(places) // 10)
        for i in order[:count]:
            names[i] = "test"
        for i in order[count : 2 * count]:
            names[i] = "validation"
    return parts(found, names)


def split_by_lists(found: list[Recording], folder: Path, seed: int) -> Parts | None:
    """As the folder's testing_list.txt says, and its validation_list.txt, or else a tenth of the
    rest, drawn, validates. A line is WORD/FILE; how many name no recording here is said. None, if
    there are no lists.

    Raises:
        SystemExit: If a list names no recording, or one that is in the other; or if there is only
            the second list.
    """
    part, known = {}, {recording.name for recording in found}
    for which, path in (
        ("test", folder / "testing_list.txt"),
        ("validation", folder / "validation_list.txt"),
    ):
        if not path.is_file():
            continue
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise SystemExit(f"{path} is not in UTF-8: save it so.") from None
        lines = {line.strip().replace("\\", "/").removeprefix("./") for line in lines} - {""}
        strange = sorted(lines - known)
        if len(strange) == len(lines):
            raise SystemExit(
                f"{path} names no recording that is here: each line must be as {min(known)!r}."
            )
        if strange:
            print(
                f"{path}: {len(strange):,} of {len(lines):,} lines name no recording that is here, "
                f"as {strange[0]!r}."
            )
        both = sorted(lines & part.keys())
        if both:
            raise SystemExit(f"{both[0]!r} is in testing_list.txt and validation_list.txt.")
        part |= dict.fromkeys(lines & known, which)
    if not part:
        return None
    names = [part.get(recording.name, "train") for recording in found]
    if "test" not in names:
        raise SystemExit(f"{folder} has a validation_list.txt: add a testing_list.txt.")
    if "validation" not in names:
        rest = [i for i, name in enumerate(names) if name == "train"]
        for i in np.random.default_rng(seed).permutation(rest)[: max(1, len(rest) // 10)]:
            names[i] = "validation"
    return parts(found, names)


def parts(found: list[Recording], names: list[str]) -> Parts:
    """The recordings by the names of their parts.

    Raises:
        SystemExit: If a part is empty.
    """
    split = {"train": [], "validation": [], "test": []}
    for recording, name in zip(found, names):
        split[name].append(recording)
    empty = [name for name, part in split.items() if not part]
    if empty:
        raise SystemExit(
            f"Of {len(found)} recordings none is left for {', '.join(empty)}: add more."
        )
    return split


def split_of(split: Parts) -> str:
    """As --split names it: "speakers", if none to test on trains; else "shared", which is said."""
    hashes = {name: [blake2b(r.samples).digest() for r in part] for name, part in split.items()}
    check_data.say_repeated(hashes["train"], hashes["test"], "recordings")
    test, train = ({recording.speaker for recording in split[name]} for name in ("test", "train"))
    if not test & train:
        return "speakers"
    if test == {""}:
        print("Who speaks is not said: voices to test on may be in the training part, too.")
    else:
        print(f"Of {len(test)} voices to test on, {len(test & train)} are in training, too.")
    return "shared"


def refuse_unheard(split: Parts, words: list[str]) -> None:
    """Ends the program if there is a word that is not among `words`, those trained on."""
    unheard = [r for part in split.values() for r in part if r.text not in words]
    if unheard:
        raise SystemExit(
            f"{unheard[0].text!r} ({unheard[0].name}) is said by nobody in the training part: add "
            "recordings of it by more speakers, leave it out, or give another --seed."
        )


def load(args: argparse.Namespace, rate: int) -> Parts:
    """The three parts of what `args` asks for: `dataset` or `data`, `split`, `test_speaker`.

    Of --data: by the speaker that is named; else as the folder's lists say; else, if there are ten
    speakers, of two recordings in the mean, and who speaks is known of all, by speakers; else by
    recordings.
    """
    if args.data:
        table = args.data.is_file()
        found = (from_table if table else from_folder)(args.data, rate)
        if args.test_speaker:
            return by_speaker(found, args.test_speaker, lambda _: 0)
        split = None if table else split_by_lists(found, args.data, args.seed)
        speakers = {recording.speaker for recording in found}
        # Names of files that are each another's, a number or a date, name no speakers.
        if not split and "" not in speakers and 10 <= len(speakers) <= len(found) / 2:
            print(f"{len(speakers):,} speakers, by the {'table' if table else 'names of files'}.")
            split = by_many_speakers(found, args.seed)
        return split or split_by_group(found, lambda r: 0 if table else r.text, args.seed)
    found = sample(args.seed) if args.dataset == "sample" else spoken_digits()
    if args.split == "shared":
        return split_by_group(found, lambda r: (r.speaker, r.text), None)
    return by_speaker(found, args.test_speaker, lambda r: (r.speaker, r.text))
