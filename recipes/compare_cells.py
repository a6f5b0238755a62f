"""Compare cells: what LSTM, GRU and the plain network cost, alone and in both directions.

    python recipes/compare_cells.py                # half a minute
    python recipes/compare_cells.py --units 256

An LSTM keeps its memory in a cell state beside the hidden state, behind three gates; a GRU
in the hidden state itself, behind two; the plain network has no gate. What that comes to in
parameters is a formula, and counted in the layer; the operations of one time step are
counted in its graph; times are measured: in one process, in which the cells take turns.

Nothing is trained, so nothing is exported.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # to be run from anywhere

from recipes.common import command_line


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = command_line.study_parser("compare_cells", __doc__)
    number = command_line.positive
    parser.add_argument("--features", type=number, default=128, help="m; default: 128")
    parser.add_argument("--units", type=number, default=128, help="n; default: 128")
    parser.add_argument("--length", type=number, default=100, help="steps; default: 100")
    parser.add_argument("--batch", type=number, default=32, help="sequences; default: 32")
    parser.add_argument("--rounds", type=number, default=50, help="times measured; default: 50")
    return command_line.parse_study(parser, argv)


if __name__ == "__main__":
    ARGS = command_line.start(arguments)  # before what takes seconds to import

import keras
import numpy as np
import tensorflow as tf

import layers
from recipes.common import files, pictures

LAYERS = [layers.SimpleRNN, layers.LSTM, layers.GRU]
STATES = {layers.SimpleRNN: "h", layers.LSTM: "h, c", layers.GRU: "h"}
# The GRU that resets after the product has a bias for it too.
BIASES = {layers.SimpleRNN: 1, layers.LSTM: 1, layers.GRU: 2}
POINTWISE = {"AddV2", "BiasAdd", "Sub", "Mul", "Sigmoid", "Tanh"}


# --- Parameters and operations -------------------------------------------------------------


def parameters(layer: type[layers.CellLayer], features: int, units: int) -> int:
    """How many numbers a layer learns: each block has U, W and its biases."""
    return layer.cell_class.gates * units * (features + units + BIASES[layer])


def formulas(layer: type[layers.CellLayer], both: bool) -> dict[str, str]:
    """Parameters and multiply-adds for m features and n units, in writing."""
    times = layer.cell_class.gates * (2 if both else 1)
    blocks = f"{times if times > 1 else ''}n"
    biases = BIASES[layer]
    return {"parameters": f"{blocks}(m + n + {biases})", "multiply_adds": f"{blocks}(m + n)"}


def cells(layer: keras.Layer) -> list[layers.Cell]:
    """The cell of a layer, or those of its two directions."""
    if isinstance(layer, layers.Bidirectional):
        return [layer.forward_layer.cell, layer.backward_layer.cell]
    return [layer.cell]


def operations(cell: layers.Cell, features: int) -> tuple[int, int]:
    """One step's (multiply-adds of its matrix products, pointwise operations), from its graph."""
    states = [tf.TensorSpec((1, n)) for n in cell.state_sizes]
    step = tf.function(lambda x, states: cell(x, states))
    graph = step.get_concrete_function(tf.TensorSpec((1, features)), states).graph
    products = pointwise = 0
    for operation in graph.get_operations():
        if operation.type == "MatMul":
            rows, columns = operation.inputs[1].shape
            products += rows * columns
        elif operation.type in POINTWISE:
            pointwise += operation.outputs[0].shape.num_elements()
    return products, pointwise


# --- Times ---------------------------------------------------------------------------------


def training_step(layer: keras.Layer, x: tf.Tensor) -> Callable:
    weights = [w.value for w in layer.trainable_weights]

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(layer(x, training=True) ** 2)
        return tape.gradient(loss, weights)

    return lambda: step()[0].numpy()


def inference(layer: keras.Layer, x: tf.Tensor) -> Callable:
    infer = tf.function(lambda: layer(x))
    return lambda: infer().numpy()


def medians(candidates: dict[str, Callable], rounds: int) -> dict[str, float]:
    """Median milliseconds of each. They take turns, so that noise falls on all alike."""
    times = {name: [] for name in candidates}
    bar = keras.utils.Progbar(rounds)
    for done in range(rounds + 1):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            if done:  # the first time it is traced and compiled
                times[name].append((time.perf_counter() - start) * 1e3)
        bar.update(done)
    return {name: round(statistics.median(each), 2) for name, each in times.items()}


# --- The table -----------------------------------------------------------------------------


def rows(features: int, units: int, length: int, batch: int, rounds: int) -> Iterator[dict]:
    """A row for each layer, alone and in both directions."""
    x = np.random.default_rng(0).normal(size=(batch, length, features)).astype("float32")
    x, found = tf.constant(x), {}
    for both in (False, True):
        for kind in LAYERS:
            layer = kind(units, return_sequences=True)
            layer = layers.Bidirectional(layer) if both else layer
            layer(x[:, :1])
            found[f"{'Bidirectional ' * both}{kind.__name__}"] = kind, both, layer
    train = medians({name: training_step(f[2], x) for name, f in found.items()}, rounds)
    infer = medians({name: inference(f[2], x) for name, f in found.items()}, rounds)
    for name, (kind, both, layer) in found.items():
        products, pointwise = np.sum([operations(c, features) for c in cells(layer)], axis=0)
        yield {
            "cell": name,
            "gates": kind.cell_class.gates - 1,  # one block is the new content
            "states": f"2 x ({STATES[kind]})" if both else STATES[kind],
            "state_size": sum(sum(c.state_sizes) for c in cells(layer)),
            "formulas": formulas(kind, both),
            "parameters": layer.count_params(),
            "multiply_adds": int(products),
            "pointwise": int(pointwise),
            "training_ms": train[name],
            "inference_ms": infer[name],
        }


def markdown(table: list[dict], args: argparse.Namespace) -> str:
    head = ["cell", "gates", "states", "state size", "parameters", "multiply-adds a step"]
    head += ["pointwise a step", "training, ms", "inference, ms"]
    lines = [
        f"m = {args.features} features, n = {args.units} units; times of a batch of {args.batch} "
        f"sequences of {args.length} steps.",
        "",
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
    ]
    for row in table:
        shown = [row["cell"], row["gates"], row["states"], row["state_size"]]
        for count in ("parameters", "multiply_adds"):
            shown.append(f"{row['formulas'][count]} = {row[count]:,}")
        shown += [f"{row['pointwise']:,}", row["training_ms"], row["inference_ms"]]
        lines.append(f"| {' | '.join(map(str, shown))} |")
    return "\n".join(lines) + "\n"


def main(args: argparse.Namespace) -> None:
    keras.utils.set_random_seed(args.seed)
    args.output.mkdir(parents=True, exist_ok=True)
    tf.get_logger().setLevel("ERROR")  # it takes many layers, each traced once, for a mistake

    table = list(rows(args.features, args.units, args.length, args.batch, args.rounds))
    text = markdown(table, args)
    metrics = {k: v for k, v in vars(args).items() if k != "output"} | {"cells": table}
    files.write(args.output / "table.md", lambda path: path.write_text(text))
    files.write_json(args.output / "metrics.json", metrics)
    pictures.cells(
        args.output / "cells.png", table, f"{args.features} features, {args.units} units"
    )
    print(f"\n{text}\nTable, picture and numbers are in {args.output}.")


if __name__ == "__main__":
    command_line.run(main, ARGS)
