"""Times `serving/batch.py` beside a plain loop over the same rows, on one core.

    pip install -r serving/batch_requirements.txt
    python benchmarks/batch_scoring.py

The loop is `serving/predict.py`: batches of 32 in the file's order, in one process. Both score the
same reviews, as long as those of IMDB, with the recipe's sentiment model, untrained. They take
turns. Rows a second are those once the model is loaded, as both programs print them; seconds are
those of the whole command. Prints the medians.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from served_models import REVIEW, build_sentiment, publishing, reviews, texts
from timing import machine

SERVING = Path(__file__).parents[1] / "serving"


def run(program, model, rows, output, *arguments):
    """(rows a second, seconds)."""
    command = [sys.executable, SERVING / program, model, rows, "--output", output, *arguments]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    rate = re.findall(r"([\d,]+) a second", done.stderr)[-1]
    return int(rate.replace(",", "")), time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--units", type=int, default=16, help="of the model's LSTM; default: 16")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, [max(os.sched_getaffinity(0))])
    of_reviews = " ".join(reviews.reviews(100, "request")[0]).split()
    draw = texts(of_reviews, REVIEW, np.random.default_rng(0))
    found = {"plain loop": [], "batch.py": []}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        model, signatures = build_sentiment(arguments.units)
        publishing.publish(model, folder / "model", signatures)
        (folder / "rows.txt").write_bytes(
            b"\n".join(draw(arguments.rows)["sentences"].numpy()) + b"\n"
        )
        for i in range(arguments.rounds):
            given = folder / "model", folder / "rows.txt"
            found["plain loop"].append(run("predict.py", *given, folder / f"{i}.jsonl"))
            found["batch.py"].append(run("batch.py", *given, folder / f"{i}", "--processes", "1"))
            print(i, {name: times[-1] for name, times in found.items()}, flush=True)
    print(machine())
    for name, times in found.items():
        rate, seconds = map(statistics.median, zip(*times))
        print(f"{name}: {rate:,.0f} rows a second, {seconds:.0f} seconds in all")


if __name__ == "__main__":
    main()
