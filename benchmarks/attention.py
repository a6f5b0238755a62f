"""What attention costs: a training step of an attention cell, beside the plain cell's and the
products that attention adds, and beside the plain loop.

    python benchmarks/attention.py

Each shape is batch, steps, places of the memory, units. The products are those of a step, forwards
and, twice as many, backwards: with W_f and W_h, the scores, the mean of the values. They are
multiplied alone, once for each step, by operations of TensorFlow. The candidates take turns in one
process; medians count. Leaves attention.json in benchmarks/.
"""

import argparse
import datetime
import json
import os
import statistics
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import tensorflow as tf
from timing import by_turns, machine

import layers

SHAPES = [(32, 30, 30, 128), (64, 30, 30, 256), (64, 30, 30, 512)]
CELLS = {"LSTM": layers.LSTMCell, "GRU": layers.GRUCell}
SCORES = "general", "additive"


def trained(layer, x, memory):
    """A function that computes a gradient for all weights of `layer`, for x and the memory."""
    given = {"constants": memory} if memory else {}
    layer(x, **given)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            tape.watch([x, *memory[:2]])
            loss = tf.reduce_mean(layer(x, training=True, **given) ** 2)
        return tape.gradient(loss, [*layer.trainable_variables, x, *memory[:2]])

    return lambda: step()[0].numpy()


def products(gates, score, batch, steps, places, units):
    """A function that multiplies what attention multiplies in a training step, and no more."""
    draw = tf.random.Generator.from_seed(0).normal
    h, memory = draw((batch, units)), draw((batch, places, units))
    weights, at = draw((units, (gates + 1 + (score == "additive")) * units)), draw((batch, places))
    ahead = draw((batch, weights.shape[1]))

    @tf.function
    def step():
        total = 0.0
        for _ in range(steps):
            now = h + total
            found = [now @ weights, tf.matmul(ahead + total, weights, transpose_b=True)]
            found += [tf.matmul(now, ahead, transpose_a=True)]
            for _ in range(2):  # the scores, and the mean of the values
                found += [tf.einsum("bu,bpu->bp", now, memory)]
                found += [tf.einsum("bp,bpu->bu", at + total, memory)]
                found += [tf.einsum("bp,bu->bpu", at, now)]
                now = now + 1
            total += 0 * sum(x[(0,) * len(x.shape)] for x in found)  # one step after the other
        return total

    return lambda: step().numpy()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15, help="timed; default: 15")
    args = parser.parse_args()
    results = {"machine": machine(), "date": datetime.date.today().isoformat(), "cases": []}
    print("| cell, score | shape | plain | products | attention | ratio | plain loop |")
    print("|---|---|---|---|---|---|---|")
    for shape in SHAPES:
        batch, steps, places, units = shape
        random = np.random.default_rng(0)
        x = tf.constant(random.normal(size=(batch, steps, units)), tf.float32)
        encoded = tf.constant(random.normal(size=(batch, places, units)), tf.float32)
        for (name, cell), score in ((c, s) for c in CELLS.items() for s in SCORES):
            memory = layers.AttentionMemory(units, score)(encoded)
            plain = layers.RNN(cell(units), return_sequences=True)
            attentive, loop = (
                layers.RNN(
                    layers.AttentionCell(cell(units), score), return_sequences=True, recurrence=how
                )
                for how in (None, "loop")
            )
            candidates = {
                "plain": trained(plain, x, []),
                "products": products(cell.gates, score, *shape),
                "attention": trained(attentive, x, memory),
                "loop": trained(loop, x, memory),
            }
            for run in candidates.values():
                run()
            times = by_turns(candidates, [()] * args.rounds, rehearse=True)
            found = {name: round(statistics.median(each), 2) for name, each in times.items()}
            ratio = round(found["attention"] / (found["plain"] + found["products"]), 2)
            results["cases"].append({"cell": name, "score": score, "shape": shape, **found,
                                     "ratio": ratio})  # fmt: skip
            print(
                f"| {name}, {score} | {', '.join(map(str, shape))} | {found['plain']} | "
                f"{found['products']} | {found['attention']} | {ratio} | {found['loop']} |",
                flush=True,
            )
    Path(__file__).with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
