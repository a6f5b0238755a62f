"""Gradient flow: how far back in time a gradient reaches, and what can be learned by it.

    python recipes/gradient_flow.py    # about 12 minutes
    python recipes/gradient_flow.py --steps 1500 --lengths 50 --pauses 20    # 3 minutes

The gradient that reaches step t from step T has passed T − t Jacobians ∂s_k/∂s_{k−1}. If
they shrink it, it vanishes, and nothing is learned from what happened at t; if they stretch
it, it explodes (Bengio et al. 1994; Pascanu et al. 2013). Measured here, before and after
training, is the norm of their product; and beside it, with equally many parameters, what
each network learns on two tasks that are nothing but memory, at growing lengths; what
clipping the gradients changes; and how far the trained gates are open.

The second command is the shortest that shows it. Trained for less, or on shorter sequences,
plain networks look better than they are: they are first to learn what needs no long memory.
Where no network has solved a task yet, table and picture say so.

Solved is what comes below a tenth of the loss that needs no memory, on sequences not seen.
One seed is one try: at the edge of what a network can learn, luck decides. One learning rate
serves all; with a tenth of it the plain networks come closer to copying after a pause of 20,
and do not solve it either.
Nothing is exported, for no one has a use for a network that adds.
"""

import argparse
import math
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # to be run from anywhere

from recipes.common import command_line


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = command_line.study_parser("gradient_flow", __doc__)
    add, whole = parser.add_argument, command_line.positive
    add("--steps", type=whole, default=2000, help="of training, at most; default: 2000")
    lengths, pauses = [50, 100, 200, 400], [20, 100, 200]
    add("--lengths", type=whole, nargs="+", default=lengths, help=f"adding; default: {lengths}")
    add("--pauses", type=whole, nargs="+", default=pauses, help=f"copying; default: {pauses}")
    add("--parameters", type=whole, default=5000, help="of every model, about; default: 5000")
    args = command_line.parse_study(parser, argv)
    args.lengths, args.pauses = ([*dict.fromkeys(x)] for x in (args.lengths, args.pauses))
    if min(args.lengths) < 2:
        parser.error("--lengths must be at least 2, for two numbers to be added")
    return args


if __name__ == "__main__":
    ARGS = command_line.start(arguments)  # before what takes seconds to import

import keras
import numpy as np
import tensorflow as tf
from keras import ops

import layers
from recipes import compare_cells
from recipes.common import equal_parameters, files, pictures
from recipes.common.samples import adding, copying
from recipes.parts.gradient_flow import gradient_table

CONTENDERS = {  # Keras's plain network starts orthogonal; the IRNN is Le et al.'s (2015)
    "SimpleRNN, Glorot": (layers.SimpleRNN, {"recurrent_initializer": "glorot_uniform"}),
    "SimpleRNN, orthogonal": (layers.SimpleRNN, {}),
    "IRNN": (layers.SimpleRNN, {"activation": "relu", "recurrent_initializer": "identity"}),
    "LSTM": (layers.LSTM, {}),
    "GRU": (layers.GRU, {}),
}
GATES = {"LSTM": ("input", "forget", None, "output"), "GRU": ("update", "reset", None)}
TASKS = {"adding": adding, "copying": copying}
SOLVED, ENOUGH = 0.1, 0.05  # training ends well below what counts as solved, not at its edge
CLIP, RATE, BATCH = 1.0, 1e-2, 50
EVERY = 100  # steps between two looks at validation data
TRAINING, VALIDATION, TEST = range(3)  # seeds of sequences that have nothing in common


# --- Models: equally many parameters --------------------------------------------------------


def units(name: str, task: str, parameters: int) -> int:
    """With how many units a model comes closest to `parameters`."""
    layer, _ = CONTENDERS[name]
    features, outputs = {"adding": (adding.FEATURES, 1), "copying": (copying.ALPHABET,) * 2}[task]

    def count(n):
        return compare_cells.parameters(layer, features, n) + (n + 1) * outputs

    return equal_parameters.units(count, parameters)


def build(name: str, task: str, length: int, args: argparse.Namespace) -> keras.Model:
    """A model that starts from the seed, whatever was trained before it."""
    keras.utils.set_random_seed(args.seed)
    layer, arguments = CONTENDERS[name]
    every_step = task == "copying"
    recurrent = layer(
        units(name, task, args.parameters),
        return_sequences=every_step,
        name="recurrent",
        **arguments,
    )
    if task == "adding":
        inputs = x = keras.Input((length, adding.FEATURES))
    else:
        inputs = keras.Input((copying.steps(length),), dtype="int32")
        x = ops.one_hot(inputs, copying.ALPHABET)
    outputs = keras.layers.Dense(copying.ALPHABET if every_step else 1)(recurrent(x))
    return keras.Model(inputs, outputs, name=task)


# --- Training: until solved, or for so many steps -------------------------------------------


def train(
    model: keras.Model, length: int, args: argparse.Namespace, clip: float | None = CLIP
) -> dict[str, object]:
    """Trains on sequences drawn anew for each step; says how it went.

    Returns:
        share: The loss on test sequences, as a share of the loss without memory; None
            where it diverged. solved: whether below `SOLVED`.
        steps: Trained for. seconds: Taken for that.
        gradient_norms: [step, the largest norm of all weights' gradient since the last,
            before clipping].
    """
    task = TASKS[model.name]
    loss = {
        "adding": keras.losses.MeanSquaredError(),
        "copying": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    }[model.name]
    optimizer = keras.optimizers.Adam(RATE)
    optimizer.build(model.trainable_weights)
    weights = [w.value for w in model.trainable_weights]

    @tf.function
    def step(inputs, targets):
        with tf.GradientTape() as tape:
            value = loss(targets, model(inputs, training=True))
        gradients = tape.gradient(value, weights)
        norm = tf.linalg.global_norm(gradients)
        if clip:
            gradients, _ = tf.clip_by_global_norm(gradients, clip, norm)
        optimizer.apply(gradients)
        return norm

    @tf.function
    def score(inputs, targets):
        return loss(targets, model(inputs)) / task.without_memory(length)

    validation = task.sequences(1000, length, [args.seed, VALIDATION])
    bar, norms, begun, done = keras.utils.Progbar(args.steps), [], time.monotonic(), 0
    while done < args.steps:
        count = min(EVERY, args.steps - done)
        batches = task.sequences(count * BATCH, length, [args.seed, TRAINING, done])
        each = [
            float(step(*(part[k : k + BATCH] for part in batches)))
            for k in range(0, count * BATCH, BATCH)
        ]
        largest = float(np.max(each))  # NaN, if one is
        done += count
        norms.append([done, finite(largest)])
        share = float(score(*validation))
        bar.update(done, [("share", share)], finalize=not share >= ENOUGH or done == args.steps)
        if not share >= ENOUGH:  # nor where it is no number any more
            break
    seconds = time.monotonic() - begun
    share = float(score(*task.sequences(1000, length, [args.seed, TEST])))
    return {
        "share": finite(share),
        "solved": share < SOLVED,
        "steps": done,
        "seconds": round(seconds, 1),
        "gradient_norms": norms,
    }


def finite(x: float) -> float | None:
    """`x` as JSON knows it, which has no infinity."""
    return x if math.isfinite(x) else None


# --- Measuring: gradients over time, and gates ----------------------------------------------


def states_before(cell: layers.Cell, inputs: tf.Tensor) -> tf.Tensor:
    """(batch, time, state size): the state each step starts from, all its parts joined."""
    states, found = cell.get_initial_state(len(inputs)), []
    for x in tf.unstack(inputs, axis=1):
        found.append(tf.concat(states, -1))
        _, states = cell(x, states)
    return tf.stack(found, axis=1)


def jacobians(cell: layers.Cell, inputs: tf.Tensor) -> np.ndarray:
    """(batch, time, n, n): ∂s_t/∂s_{t−1} at each step of (batch, time, features) `inputs`.

    The state of an LSTM is h and c together: what it remembers goes by c, which ∂h_T/∂h_t
    alone, c held fixed, would not see.
    """
    before = states_before(cell, inputs)
    batch, length, size = before.shape
    before = tf.reshape(before, (-1, size))  # once known, all steps are taken at once
    with tf.GradientTape() as tape:
        tape.watch(before)
        states = tf.split(before, cell.state_sizes, axis=-1)
        _, after = cell(tf.reshape(inputs, (-1, inputs.shape[-1])), states)
        after = tf.concat(after, -1)
    found = tape.batch_jacobian(after, before).numpy()
    return found.reshape(batch, length, size, size).astype("float64")


def gradient_norms(cell: layers.Cell, inputs: tf.Tensor, points: int = 50) -> list[list]:
    """‖∂s_T/∂s_t‖ by T − t: [distance, norm], at about so many distances.

    The norm is the spectral one, that of the direction kept best, for a memory needs no
    more than one; over the sequences, the median.
    """
    steps = jacobians(cell, inputs)
    length = steps.shape[1]
    product, found = np.eye(steps.shape[-1]), [[0, 1.0]]
    wanted = set(np.linspace(0, length, points + 1).astype(int).tolist())
    for distance in range(1, length + 1):
        product = product @ steps[:, length - distance]
        if distance in wanted and np.isfinite(product).all():
            norm = np.median(np.linalg.norm(product, 2, axis=(-2, -1)))
            found.append([distance, float(norm)])
    return found


def gate_values(cell: layers.Cell, names: tuple, inputs: tf.Tensor) -> dict[str, np.ndarray]:
    """Each gate's values, (batch, time, units); `names` are those of the kernel's blocks."""
    h = states_before(cell, inputs)[..., : cell.units]
    before = cell.project(inputs) + tf.matmul(h, cell.recurrent_kernel)
    if isinstance(cell, layers.GRUCell):
        before = before + cell.bias[1]
    blocks = tf.split(tf.sigmoid(before), len(names), axis=-1)
    return {name: block.numpy() for name, block in zip(names, blocks) if name}


def saturation(values: np.ndarray) -> dict[str, object]:
    """How much of a gate is shut and how much open: in all, and for each unit."""
    found = {}
    for name, far in (("below 0.1", values < 0.1), ("above 0.9", values > 0.9)):
        found[name] = float(far.mean())
        found[f"{name} by unit"] = far.mean(axis=(0, 1)).tolist()
    return found


# --- The study ------------------------------------------------------------------------------


def main(args: argparse.Namespace) -> None:
    keras.utils.set_random_seed(args.seed)
    args.output.mkdir(parents=True, exist_ok=True)

    measured = args.lengths[(len(args.lengths) - 1) // 2]
    sequences = tf.constant(adding.sequences(8, measured, [args.seed, TEST])[0])
    tf.get_logger().setLevel("ERROR")  # it takes many models, each traced once, for a mistake
    found = {
        **{k: v for k, v in vars(args).items() if k != "output"},
        "title": f"At most {args.steps} steps of {BATCH} sequences; "
        f"about {args.parameters} parameters; seed {args.seed}",
        "solved_below": SOLVED,
        "clip": CLIP,
        "measured_length": measured,
        "contenders": {},
        **{name: {} for name in (*TASKS, "gradient", "clipping", "gates")},
    }
    for name in CONTENDERS:
        found["contenders"][name] = {}
        for task, sizes in (("adding", args.lengths), ("copying", args.pauses)):
            found[task][name] = {}
            for length in sizes:
                model = build(name, task, length, args)
                cell = model.get_layer("recurrent").cell
                found["contenders"][name][task] = {
                    "units": cell.units,
                    "parameters": model.count_params(),
                }
                here = (task, length) == ("adding", measured)
                start = gradient_norms(cell, sequences) if here else None
                print(f"{name}, {task} {length}, {model.count_params()} parameters")
                found[task][name][length] = train(model, length, args)
                if here:
                    trained = gradient_norms(cell, sequences)
                    found["gradient"][name] = {"at the start": start, "trained": trained}
                    if name in GATES:
                        values = gate_values(cell, GATES[name], sequences)
                        found["gates"][name] = {g: saturation(v) for g, v in values.items()}
        print(f"{name}, adding {measured}, without clipping")
        model = build(name, "adding", measured, args)
        found["clipping"][name] = {
            "clipped": found["adding"][name][measured],
            "not clipped": train(model, measured, args, clip=None),
        }

    text = gradient_table.markdown(found)
    files.write(args.output / "table.md", lambda path: path.write_text(text))
    files.write_json(args.output / "metrics.json", found)
    pictures.gradient_flow(args.output / "gradient_flow.png", found)
    print(f"\n{text}\nTable, picture and numbers are in {args.output}.")


if __name__ == "__main__":
    command_line.run(main, ARGS)
