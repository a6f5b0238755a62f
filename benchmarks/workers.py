"""What several workers gain: one core against two workers of a core each, at the same batch.

    python benchmarks/workers.py                  # sentiment, pos_tagging, language_model
    python benchmarks/workers.py pos_tagging --steps 40 --batch 128
    python benchmarks/workers.py --predict        # on paper, to 64 workers, from what was measured

Each recipe trains some epochs, by turns alone, held to a core (taskset), and with two workers, held
to two, each with one thread for an operation. The median of all but the first two counts, for those
compile (and later ones a little, where rows come in new numbers); validation is part of each. Once
the last is kept, the run ends.

On paper, N workers take per step, of gradients of G bytes, on a network of B bytes a second and
a delay of L:

    t(N) = c + r / N + 2 (N - 1) (G / (N B) + L)

c is what each worker does for itself, whatever its rows (reading all of the batch, the
optimizer), r what is shared. Both follow from the step times of one worker and two; what sums cost
between two processes here counts as c. The last term is a ring's: each worker sends, and gets,
2 (N - 1) parts of G / N, one after the other.
"""

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py

REPOSITORY = Path(__file__).parents[1]
RESULTS = Path(__file__).with_suffix(".json")
RECIPES = ("sentiment", "pos_tagging", "language_model")
WORKERS = (1, 2, 4, 8, 16, 32, 64)
DELAY = 50e-6  # seconds, from one machine to the next
NETWORKS = {"10 Gbit/s": 10e9 / 8, "100 Gbit/s": 100e9 / 8}


def seconds(
    recipe: str, workers: int, epochs: int, sizes: list[str], folder: Path
) -> tuple[float, int]:
    """(of an epoch, how many numbers a step's gradients are)."""
    output = folder / f"{recipe}-{workers}"
    cores = sorted(os.sched_getaffinity(0))[:workers]
    if len(cores) < workers:
        raise SystemExit(f"{workers} cores are needed, for a worker each.")
    command = ["taskset", "-c", ",".join(map(str, cores)), sys.executable]
    command += [str(REPOSITORY / "recipes" / f"{recipe}.py"), "--restart"]
    command += ["--epochs", str(epochs), *sizes]
    command += ["--output", str(output), "--workers", str(workers)]
    one = {name: "1" for name in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS")}
    history, log = output / "checkpoints/history.json", folder / f"{output.name}.log"
    history.unlink(missing_ok=True)
    with log.open("w") as out:
        run = subprocess.Popen(
            command, stdout=out, start_new_session=True, env={**os.environ, **one}
        )
        try:
            while len(done := kept(history)) < epochs:
                if run.poll() is not None:
                    raise SystemExit(f"{recipe}.py ended early:\n{log.read_text()[-2000:]}")
                time.sleep(1)
        finally:
            with contextlib.suppress(ProcessLookupError):  # it has ended
                os.killpg(run.pid, signal.SIGKILL)
            run.wait()
    taken = statistics.median(epoch["seconds"] for epoch in done[2:])
    return taken, learned(next(history.parent.glob("*.weights.h5")))


def learned(weights: Path) -> int:
    """How many numbers Adam has moved: of each it keeps two means."""
    sizes = []
    with h5py.File(weights) as file:
        file["optimizer"].visititems(
            lambda _, x: sizes.append(x.size) if isinstance(x, h5py.Dataset) and x.ndim else None
        )
    return sum(sizes) // 2


def kept(history: Path) -> list[dict]:
    return json.loads(history.read_text())["epochs"] if history.exists() else []


def measure(recipe: str, args: argparse.Namespace) -> dict:
    found, steps, sizes = {1: [], 2: []}, args.steps, ["--steps", str(args.steps)]
    sizes += ["--batch", str(args.batch)] if args.batch else []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.rounds):
            for workers, times in found.items():
                taken, parameters = seconds(recipe, workers, args.epochs, sizes, Path(folder))
                times.append(taken)
                print(f"{recipe}, {workers}: {taken:.1f} s for {steps} steps", flush=True)
    one, two = (statistics.median(times) / steps for times in found.values())
    return {"one": one, "two": two, "gain": one / two, "gradient_bytes": 4 * parameters}


def predicted(one: float, two: float, size: int, network: float) -> list[tuple[int, float]]:
    """[(workers, times the throughput of one)]."""
    shared = min(one, 2 * (one - two))
    alone = one - shared

    def step(n):
        return alone + shared / n + 2 * (n - 1) * (size / (n * network) + DELAY * (n > 1))

    return [(n, one / step(n)) for n in WORKERS]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help=f"default: {RECIPES}")
    parser.add_argument("--steps", type=int, default=100, help="of an epoch; default: 100")
    parser.add_argument("--epochs", type=int, default=5, help="3 or more; default: 5")
    parser.add_argument("--batch", type=int, help="default: the recipe's")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--predict", action="store_true", help="measure nothing anew")
    args = parser.parse_args()
    if args.epochs < 3:
        parser.error("--epochs: 3 or more, for the first two compile")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if not args.predict:
        for recipe in args.recipes or RECIPES:
            name = f"{recipe} --batch {args.batch}" if args.batch else recipe
            results[name] = measure(recipe, args)
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    for recipe, found in results.items():
        print(f"\n{recipe}: {found['one']:.3f} s a step alone, {found['two']:.3f} s by two, "
              f"{found['gain']:.2f} times the examples a second")  # fmt: skip
        for name, network in NETWORKS.items():
            print(f"  {name}, workers: times the throughput (efficiency)")
            gains = predicted(found["one"], found["two"], found["gradient_bytes"], network)
            print("   ", ", ".join(f"{n}: {x:.1f} ({x / n:.0%})" for n, x in gains))


if __name__ == "__main__":
    main()
