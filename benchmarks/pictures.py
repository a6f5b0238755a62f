"""The benchmarks' pictures, drawn from their numbers.

python benchmarks/pictures.py    # once more, from the JSON files that are there
"""

import json
import statistics
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import ScalarFormatter

HERE = Path(__file__).parent
COLOURS = {"ours": "C0", "Keras": "C1", "PyTorch": "C2"}


def recurrence(results: dict, path: Path) -> None:
    """Training, exported inference, and how training grows with the length."""
    figure, axes = plt.subplots(1, 3, figsize=(16, 4.5))
    kinds = ["LSTM", "GRU", "Bidirectional LSTM"]
    cases = results["cases"]

    def of(kind, work, batches):
        return [
            c["ms"]
            for c in cases
            if c["kind"] == kind and c["work"] == work and c["shape"][0] in batches
        ]

    def mean(times, *names):
        """Over the shapes, of the better of `names`, ours being 1."""
        ratios = [min(ms[n] for n in names) / ms["ours"] for ms in times if names[0] in ms]
        return statistics.geometric_mean(ratios) if ratios else np.nan

    several = {c["shape"][0] for c in cases} - {1}
    names = {"ours": ["ours"], "Keras": ["keras", "keras XLA"], "PyTorch": ["torch"]}
    training = {
        label: [mean(of(kind, "training", several), *which) for kind in kinds]
        for label, which in names.items()
    }
    _bars(axes[0], training, ["LSTM", "GRU", "LSTM, both ways"], "{:.2f}")
    axes[0].set(title="Training step (mean over shapes)", ylabel="time, ours = 1")
    both = [(kind, batches) for batches in (several, {1}) for kind in kinds]
    exported = {
        label: [mean(of(kind, "exported", batches), which) for kind, batches in both]
        for label, which in (("ours", "ours"), ("Keras", "keras"))
    }
    short = ["LSTM", "GRU", "both ways"]
    places = [f"{kind}\n{many}" for many in ("batch", "one") for kind in short]
    _bars(axes[1], exported, places, "{:.2f}")
    axes[1].set(title="Exported model (batch: 32 to 128 sequences)", ylabel="time, ours = 1")
    growth = [c for c in cases if c["work"] == "growth, length"]
    lengths = [c["shape"][1] for c in growth]
    for label, name in (("ours", "ours"), ("Keras", "keras")):
        times = [c["ms"][name] for c in growth]
        axes[2].plot(lengths, times, "o-", label=label, color=COLOURS[label])
    axes[2].set(title="Training step of an LSTM, by length", xscale="log", yscale="log")
    axes[2].set(xlabel="steps in a sequence", ylabel="milliseconds")
    for axis in (axes[2].xaxis, axes[2].yaxis):
        axis.set_major_formatter(ScalarFormatter())
    axes[2].set_xticks(lengths, map(str, lengths))
    axes[2].set_yticks([20, 50, 100, 200, 500])
    axes[2].minorticks_off()
    axes[2].legend()
    _save(figure, results, path)


def served_models(results: dict, path: Path) -> None:
    """How long a request takes, of one sequence and of many."""
    batches = sorted({case["batch"] for case in results["cases"]})
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5))
    for axis, batch in zip(axes, (batches[0], batches[-1])):
        chosen = [case for case in results["cases"] if case["batch"] == batch]
        medians, late = (
            {
                label: [case["ms"][name][q] for case in chosen]
                for label, name in (("ours", "ours"), ("Keras", "keras"))
            }
            for q in ("p50", "p95")
        )
        _bars(axis, medians, [case["recipe"] for case in chosen], "{:.1f}", late)
        many = "one sequence" if batch == 1 else f"{batch} sequences"
        axis.set(title=f"A request of {many}: median, line to p95", ylabel="milliseconds")
    _save(figure, results, path)


def _bars(axis, values: dict, places: list[str], form: str, up_to: dict | None = None) -> None:
    """For each place a bar of each label, with its number; a line goes on to `up_to`."""
    wide = 0.8 / len(values)
    for k, (label, heights) in enumerate(values.items()):
        middle = np.arange(len(places)) + wide * (k - (len(values) - 1) / 2)
        bars = axis.bar(middle, heights, 0.95 * wide, label=label, color=COLOURS[label])
        axis.bar_label(bars, fmt=form, fontsize=8, label_type="center", color="white")
        if up_to:
            axis.vlines(middle, heights, up_to[label], color="grey")
    axis.set_xticks(range(len(places)), places)
    axis.margins(y=0.25)  # for the legend
    axis.legend()


def _save(figure, results: dict, path: Path) -> None:
    figure.suptitle(f"{results['machine']}, {results['date']}")
    figure.set_layout_engine("constrained")
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    for draw in (recurrence, served_models):
        numbers = json.loads((HERE / f"{draw.__name__}.json").read_text())
        draw(numbers, HERE / f"{draw.__name__}.png")
