"""What a run is looked at by, as PNG files."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import matplotlib.dates
import matplotlib.font_manager
import numpy as np

matplotlib.use("Agg")  # no window: a recipe runs anywhere
matplotlib.rcParams["text.parse_math"] = False  # a "$" of one's data begins no formula
import matplotlib.pyplot as plt
from adjustText import adjust_text
from matplotlib.ticker import MaxNLocator

from recipes.common import files


def curves(path: Path, history: dict[str, list[float]], best_epoch: int) -> None:
    """Each metric over the epochs, training and validation together."""
    names = [name for name in history if not name.startswith("val_")]
    figure, axes = plt.subplots(1, len(names), figsize=(5 * len(names), 4), squeeze=False)
    for axis, name in zip(axes[0], names):
        epochs = np.arange(1, len(history[name]) + 1)
        axis.plot(epochs, history[name], marker="o", label="training")
        axis.plot(epochs, history[f"val_{name}"], marker="o", label="validation")
        axis.axvline(best_epoch, color="grey", linestyle=":", label="kept")
        axis.set(xlabel="epoch", ylabel=name)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.legend()
    _save(figure, path)


def loss_over_time(
    path: Path, trained: dict, published: dict[str, float], ylabel: str, told: str = ""
) -> None:
    """The loss over epochs and minutes, beside others' figures by name.

    Args:
        trained: What `training.fit` returns.
        told: What else made training another task.
    """
    history = trained["history"]
    epochs = np.arange(1, len(history["loss"]) + 1)
    figure, axis = plt.subplots(figsize=(7, 5))
    axis.plot(epochs, history["loss"], marker="o", label=f"training, with {told}dropout")
    axis.plot(epochs, history["val_loss"], marker="o", label="validation")
    axis.axvline(trained["best_epoch"], color="grey", linestyle=":", label="kept")
    for k, (name, nats) in enumerate(published.items()):
        axis.axhline(nats, color=f"C{k + 2}", linestyle="--", label=f"{name}, {nats}")
    axis.set(xlabel="epoch", ylabel=ylabel)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    minutes = trained["seconds"] / 60 / len(epochs)
    above = axis.secondary_xaxis("top", functions=(lambda e: e * minutes, lambda m: m / minutes))
    above.set_xlabel("minutes of training")
    axis.legend()
    _save(figure, path)


def coloured_text(path: Path, passages: list[dict]) -> None:
    """Texts, each character on the colour of its value.

    Args:
        passages: For each its "title", "text" and "values", one a character, from −1 to 1.
    """
    wide = 80
    rows = [_lines(passage["text"], wide) for passage in passages]
    heights = [1 + max(row for row, _ in places) for places in rows]
    figure, axes = plt.subplots(
        len(passages), 1, figsize=(11, 0.24 * sum(heights) + 0.6 * len(passages)),
        gridspec_kw={"height_ratios": heights}, squeeze=False,
    )  # fmt: skip
    for axis, passage, places, height in zip(axes[:, 0], passages, rows, heights):
        image = np.full((height, wide), np.nan)
        for (row, column), character, value in zip(places, passage["text"], passage["values"]):
            image[row, column] = value
            if not character.isspace():
                style = {"ha": "center", "va": "center", "family": "monospace", "fontsize": 8}
                axis.text(column, row, character, **style)
        axis.imshow(image, cmap="RdBu_r", vmin=-1.5, vmax=1.5, aspect="auto")
        axis.set(xticks=[], yticks=[])
        axis.set_title(passage["title"], loc="left", fontsize=10)
    _save(figure, path)


def _lines(text: str, wide: int) -> list[tuple[int, int]]:
    """(row, column) of each character; a line that is too long goes on below."""
    row = column = 0
    places = []
    for character in text:
        if column == wide:
            row, column = row + 1, 0
        places.append((row, column))
        row, column = (row + 1, 0) if character == "\n" else (row, column + 1)
    return places


def confusion(path: Path, matrix: np.ndarray, names: list[str], title: str) -> None:
    """A confusion matrix: rows are the truth, each coloured by its share.

    Of more than 40 classes, it shows the 40 most frequent.
    """
    if len(names) > 40:
        title += f"\n(the 40 most frequent of {len(names)})"
        most = np.sort(np.argsort(-matrix.sum(axis=1), kind="stable")[:40])
        matrix, names = matrix[np.ix_(most, most)], [names[i] for i in most]
    size = max(4, 0.55 * len(names))
    figure, axis = plt.subplots(figsize=(size + 1, size))
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(*matrix.shape):
        if matrix[i, j]:
            dark = share[i, j] > 0.5
            axis.text(j, i, matrix[i, j], ha="center", va="center", fontsize=7,
                      color="white" if dark else "black")  # fmt: skip
    axis.set_xticks(range(len(names)), names, rotation=90)
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel="predicted", ylabel="true", title=title)
    _save(figure, path)


def spoken(
    path: Path,
    energies: np.ndarray,
    probabilities: np.ndarray,
    seconds: float,
    names: list[str],
    title: str,
) -> None:
    """A spectrogram, below it how probable each symbol is at each step, and those that are the
    most probable.

    Args:
        energies: (frames, bands).
        probabilities: (steps, symbols + 1), the blank's last.
        seconds: From one step to the next.
        names: Of the symbols.
    """
    steps = np.arange(len(probabilities))
    time = steps * seconds
    figure, (above, below) = plt.subplots(2, 1, figsize=(10, 5), sharex=True)
    width = len(probabilities) * seconds
    above.imshow(energies.T, origin="lower", aspect="auto", extent=(0, width, 0, energies.shape[1]))
    above.set(ylabel="mel band", title=title)
    below.plot(time, probabilities[:, -1], color="lightgrey", label="nothing new (blank)")
    best = probabilities.argmax(axis=1)
    said = (best != len(names)) & (best != np.append(len(names), best[:-1]))
    for symbol in np.flatnonzero(probabilities[:, :-1].max(axis=0) > 0.1):
        below.plot(time, probabilities[:, symbol], color=f"C{symbol % 10}")
    for step in steps[said]:
        style = {"color": f"C{best[step] % 10}", "ha": "center", "fontsize": 13, "weight": "bold"}
        below.text(time[step], 1.06, names[best[step]], **style)
    below.set(xlabel="seconds", ylabel="probability", ylim=(0, 1.25), xlim=(0, width))
    below.legend(loc="center right")
    _save(figure, path)


def forecast(
    path: Path,
    past: np.ndarray,
    truth: np.ndarray,
    predicted: np.ndarray,
    channels: list[str],
    title: str,
    dates: Sequence,
    bands: dict[str, tuple[np.ndarray, np.ndarray]],
) -> None:
    """One window: the past the model saw, then the truth and the forecast, by channel.

    Args:
        past: (lookback, channels); truth, predicted: (horizon, channels).
        channels: Their names; the first eight are drawn.
        dates: Of past and truth, lookback + horizon of them.
        bands: Around the forecast, by name: (lower end, upper end), the widest first.
    """
    channels = channels[:8]
    high = 1 + 1.8 * len(channels)
    figure, axes = plt.subplots(len(channels), 1, figsize=(9, high), sharex=True, squeeze=False)
    before, after = dates[: len(past)], dates[len(past) :]
    for c, axis in enumerate(axes[:, 0]):
        axis.plot(before, past[:, c], color="grey", label="seen by the model")
        axis.plot(after, truth[:, c], color="black", label="what came")
        axis.plot(after, predicted[:, c], color="tab:red", label="forecast")
        for name, (low, high) in bands.items():
            style = {"color": "tab:red", "alpha": 0.2, "linewidth": 0}
            axis.fill_between(after, low[:, c], high[:, c], label=name, **style)
        axis.set_ylabel(channels[c])
    axes[0, 0].set_title(title, loc="left")
    corner = (1, 1.15 if bands else 1)  # longer, it goes above the title
    axes[0, 0].legend(loc="lower right", bbox_to_anchor=corner, ncols=3, frameon=False)
    date_axis = axes[-1, 0].xaxis
    date_axis.set_major_locator(matplotlib.dates.AutoDateLocator())
    date_axis.set_major_formatter(
        matplotlib.dates.ConciseDateFormatter(date_axis.get_major_locator())
    )
    _save(figure, path)


def cells(path: Path, table: list[dict], title: str) -> None:
    """What each cell costs: a row of `table` is one cell, with its name and its numbers."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 4), sharey=True)
    place = np.arange(len(table))
    costs = [("parameters",), ("multiply_adds", "pointwise"), ("inference_ms", "training_ms")]
    labels = {
        "multiply_adds": "multiply-adds",
        "inference_ms": "inference",
        "training_ms": "training",
    }
    titles = ["parameters", "operations a step", "milliseconds a batch"]
    for axis, names, what in zip(axes, costs, titles):
        for k, name in enumerate(names):
            high = 0.8 / len(names)
            middle = place + high * (k - (len(names) - 1) / 2)
            counts = [row[name] for row in table]
            bars = axis.barh(middle, counts, high, label=labels.get(name, name))
            axis.bar_label(bars, fmt="{:,.3g}" if "ms" in name else "{:,.0f}", padding=2)
        axis.set_xlabel(what)
        axis.margins(x=0.25)
        axis.set_xticks([])  # the bars have their numbers
        if len(names) > 1:
            axis.legend(loc="upper right")
    axes[0].set_yticks(place, [row["cell"] for row in table])
    axes[0].invert_yaxis()
    figure.suptitle(title)
    _save(figure, path)


def which_cell(path: Path, found: dict[str, dict]) -> None:
    """What each cell scores on each task, a dot for each seed of `recipes/which_cell.py`."""
    tasks = [*dict.fromkeys(name.split("/")[0] for name in found)]
    cells = [*dict.fromkeys(name.split("/")[1] for name in found)]
    colours = {"one way": "C0", "both ways": "C1"}
    figure, axes = plt.subplots(1, len(tasks), figsize=(1 + 3.5 * len(tasks), 4), sharey=True)
    for axis, task in zip(np.atleast_1d(axes), tasks):
        for name, row in found.items():
            of, cell, how = name.split("/")
            if of == task:
                place = np.full(len(row["test"]), cells.index(cell) + 0.2 * (how == "both ways"))
                axis.plot(row["test"], place, "o", color=colours[how], alpha=0.7)
        better = "accuracy" if task in ("tagging", "sentiment") else "loss, less is better"
        axis.set(title=task, xlabel=better)
        axis.grid(axis="y", alpha=0.3)
    first = np.atleast_1d(axes)[0]
    first.set_yticks(range(len(cells)), [cell.replace("_", " ") for cell in cells])
    first.invert_yaxis()
    handles = [plt.Line2D([], [], marker="o", ls="", color=c, label=n) for n, c in colours.items()]
    figure.legend(handles=handles, loc="outside upper right", ncols=2)
    _save(figure, path)


def gradient_flow(path: Path, found: dict) -> None:
    """One page: how far gradients reach, what is learned, what clipping does, the gates.

    Args:
        found: What `recipes/gradient_flow.py` writes to metrics.json.
    """
    figure, axes = plt.subplots(3, 2, figsize=(13, 15))
    colours = {name: f"C{k}" for k, name in enumerate(found["contenders"])}

    for axis, when in zip(axes[0], ("at the start", "trained")):
        for name, norms in found["gradient"].items():
            axis.plot(*zip(*norms[when]), color=colours[name], label=name)
        axis.set(title=f"Gradient over time, {when} (adding)", yscale="log", ylim=(1e-12, 1e6))
        axis.set(xlabel="T − t, steps back", ylabel="‖∂s_T / ∂s_t‖")
    for axis, task in zip(axes[1], ("adding", "copying")):
        _scores(axis, found[task], colours, found["solved_below"])
        axis.set(title=f"What is learned: {task}")
        axis.set(xlabel="steps" if task == "adding" else "pause, steps")
    for name, clipped in found["clipping"].items():
        for when, style in (("clipped", "o-"), ("not clipped", "s:")):
            label = name if when == "clipped" else None
            norms = clipped[when]["gradient_norms"]
            axes[2, 0].plot(*zip(*norms), style, markersize=3, color=colours[name], label=label)
    axes[2, 0].set(title="Gradient of the weights (adding); dotted: not clipped", yscale="log")
    axes[2, 0].set(xlabel="training steps", ylabel="largest norm, before clipping")
    for name, gates in found["gates"].items():
        for gate, marker in zip(gates, "osd"):
            low, high = gates[gate]["below 0.1 by unit"], gates[gate]["above 0.9 by unit"]
            style = {"color": colours[name], "marker": marker, "alpha": 0.6}
            axes[2, 1].scatter(high, low, label=f"{name}, {gate}", **style)
    axes[2, 1].plot([0, 1], [1, 0], color="grey", linewidth=0.5)
    axes[2, 1].set(title="Trained gates, each unit a dot (Karpathy et al. 2015)")
    axes[2, 1].set(xlabel="share of steps above 0.9 (open)", ylabel="below 0.1 (shut)")
    for axis in axes.flat:
        axis.legend(fontsize=8)
    figure.suptitle(found["title"])
    _save(figure, path)


def _scores(axis, scores: dict, colours: dict, solved_below: float) -> None:
    """Losses by length, one beside the other where they are alike; a cross has diverged."""
    lengths = list(next(iter(scores.values())))
    for k, (name, of_name) in enumerate(scores.items()):
        places = np.arange(len(lengths)) + 0.08 * (k - (len(scores) - 1) / 2)
        shares = [np.nan if s["share"] is None else s["share"] for s in of_name.values()]
        axis.plot(places, shares, "o-", color=colours[name], label=name)
        lost = np.isnan(shares)
        top = np.ones(lost.sum())  # at the axis's upper end, whatever the losses are
        above = axis.get_xaxis_transform()
        axis.plot(places[lost], 0.97 * top, "x", color=colours[name], transform=above)
    axis.axhline(solved_below, color="grey", linestyle=":", label="solved below")
    if not any(s["solved"] for of_name in scores.values() for s in of_name.values()):
        axis.text(
            0.5, 0.5, "No one has solved it yet:\ntoo early to compare", transform=axis.transAxes,
            ha="center", va="center", bbox={"facecolor": "white", "edgecolor": "grey"},
        )  # fmt: skip
    axis.set(yscale="log", ylabel="loss, as a share of the loss without memory")
    axis.set(xticks=range(len(lengths)), xlim=(-0.5, len(lengths) - 0.5))
    axis.set_xticklabels(lengths)


def similarities(path: Path, matrices: dict[str, np.ndarray], words: list[str]) -> None:
    """For each title, how similar any two of the words are, from −1 to 1."""
    size = max(4, 0.35 * len(words))
    figure, axes = plt.subplots(1, len(matrices), figsize=(size * len(matrices) + 2, size + 1))
    for axis, (title, matrix) in zip(np.atleast_1d(axes), matrices.items()):
        image = axis.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1)
        axis.set_xticks(range(len(words)), words, rotation=90)
        axis.set_yticks(range(len(words)), words)
        axis.set_title(title)
    figure.colorbar(image, ax=axes, label="cosine similarity")
    _save(figure, path)


def attention(path: Path, sentences: list[tuple[list[str], list[str], np.ndarray]]) -> None:
    """For each (what was read, what was written), how much each piece drew from each: a matrix.

    Its rows are what was written.
    """
    sizes = [(max(len(read), 4), max(len(written), 4)) for read, written, _ in sentences]
    wide, high = (0.32 * np.array(size) for size in zip(*sizes))
    ratios = {"width_ratios": wide}
    figure, axes = plt.subplots(
        1, len(sentences), figsize=(sum(wide) + 2, max(high) + 2), squeeze=False, gridspec_kw=ratios
    )
    with plt.rc_context({"font.family": ["DejaVu Sans", *_fonts()]}):
        for axis, (read, written, matrix) in zip(axes[0], sentences):
            axis.imshow(matrix, cmap="Blues", vmin=0, vmax=1)
            axis.set_xticks(range(len(read)), read, rotation=90)
            axis.set_yticks(range(len(written)), written)
            axis.xaxis.tick_top()
        _save(figure, path)


def _fonts() -> list[str]:
    """Fonts that are here, of scripts that Matplotlib's own lacks."""
    there = {font.name for font in matplotlib.font_manager.fontManager.ttflist}
    return sorted(
        name for name in there if name.startswith(("Noto Sans", "WenQuanYi", "Arial Uni"))
    )


def bars(path: Path, values: dict[str, float], xlabel: str, ylabel: str) -> None:
    """A bar for each name."""
    figure, axis = plt.subplots(figsize=(7, 4))
    drawn = axis.bar(list(values), list(values.values()))
    axis.bar_label(drawn, fmt="%.1f")
    axis.set(xlabel=xlabel, ylabel=ylabel)
    _save(figure, path)


def word_map(
    path: Path, points: np.ndarray, words: list[str], groups: list[int], names: list[str]
) -> None:
    """Words at their (words, 2) `points`, coloured by group; `names`, one a group, in bold."""
    figure, axis = plt.subplots(figsize=(12, 9))
    colours = [plt.get_cmap("tab10" if len(names) <= 10 else "tab20")(g % 20) for g in groups]
    axis.scatter(*points.T, c=colours, s=12)
    labels = []
    for (x, y), word, colour in zip(points, words, colours):
        style = {"fontsize": 12, "fontweight": "bold"} if word in names else {"fontsize": 8}
        labels.append(axis.text(x, y, word, color=colour, **style))
    axis.set(xticks=[], yticks=[], title="Words and their neighbours, by t-SNE")
    axis.margins(0.08)
    # Moves labels apart, each bound to its point by a line.
    adjust_text(labels, *points.T, ax=axis, arrowprops={"arrowstyle": "-", "color": "lightgrey"})
    _save(figure, path)


def _save(figure, path: Path) -> None:
    figure.set_layout_engine("constrained")
    files.write(path, lambda beside: figure.savefig(beside, dpi=120, format="png"))
    plt.close(figure)
