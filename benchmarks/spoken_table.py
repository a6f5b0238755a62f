"""Writes a table of recordings and what they say, from FSDD's spoken digits: for recipes/speech.py.

    python benchmarks/spoken_table.py runs/spoken
    python recipes/speech.py --data runs/spoken/spoken.csv --pieces 24 --test-speaker theo

Strings of one to seven digits, 60 of each length by each of the five voices, in words: "three one".
"""

import argparse
import csv
import itertools
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # to be run from anywhere

import soundfile

from recipes.common.samples import number_words
from recipes.parts.speech import recordings, word_strings

EACH, RATE = 60, 8000


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows, found = [], recordings.spoken_digits()
    speakers, lengths = sorted({r.speaker for r in found}), range(1, word_strings.MOST + 1)
    for speaker, length in itertools.product(speakers, lengths):
        own = [r for r in found if r.speaker == speaker]
        own = [r._replace(text=number_words.ONES[int(r.text)]) for r in own]
        for k, string in enumerate(word_strings.fixed(own, length, EACH, " ", RATE, seed=1)):
            name = f"{speaker}_{length}_{k}.wav"
            soundfile.write(folder / name, string.samples, RATE)
            rows.append([name, string.text, speaker])
    with (folder / "spoken.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "text", "speaker"], *rows])
    print(f"{len(rows)} recordings: {folder / 'spoken.csv'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    main(parser.parse_args().folder)
