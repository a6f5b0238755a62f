"""ONNX's own nodes, each for all steps of an LSTM, a GRU or a plain RNN, in one or both directions.

    here                                 ONNX
    LSTM  gates i, f, g, o               LSTM  gates i, o, f, c
    GRU   gates z, r, h'                 GRU   gates z, r, h; linear_before_reset is reset_after,
                                               and update_gate "keep"
    SimpleRNN                            RNN
    kernel (features, gates * units)     W (directions, gates * units, features), R likewise

A node has no place in a graph of TensorFlow's. So a `PyFunc` that nobody ever runs stands for it
there, with the node's inputs, and its name and attributes as the token; the converter makes of
it what it stands for (`converted`).
"""

import json
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf
from keras import activations

from layers.cell import Cell
from layers.cells.gru import GRUCell
from layers.cells.lstm import LSTMCell
from layers.cells.simple_rnn import SimpleRNNCell
from layers.recurrence.fused import at_steps, in_front

STAND_IN = "PyFunc"


class Kind(NamedTuple):
    """What a class of cells is in ONNX.

    Attributes:
        node: The node's name.
        gates: The places of ONNX's gates among those of the kernels here.
        functions: The cell's attributes that are the node's `activations`.
    """

    node: str
    gates: tuple[int, ...]
    functions: tuple[str, ...]


KINDS = {
    LSTMCell: Kind("LSTM", (0, 3, 1, 2), ("recurrent_activation", "activation", "activation")),
    GRUCell: Kind("GRU", (0, 1, 2), ("recurrent_activation", "activation")),
    SimpleRNNCell: Kind("RNN", (0,), ("activation",)),
}
# ONNX's name of a function, and its `alpha` and `beta` if it has any.
FUNCTIONS = {
    activations.tanh: ("Tanh",),
    activations.sigmoid: ("Sigmoid",),
    activations.relu: ("Relu",),
    activations.hard_sigmoid: ("HardSigmoid", 1 / 6, 0.5),
    activations.linear: ("Affine", 1.0, 0.0),
}
SYMMETRIC = activations.sigmoid, activations.hard_sigmoid  # f(−a) = 1 − f(a)


def kind_of(cell: Cell) -> Kind | None:
    """What `cell` is in ONNX; None if no node does its very steps."""
    kind = next((k for c, k in KINDS.items() if isinstance(cell, c) and cell.steps_as(c)), None)
    if kind is None or cell.compute_dtype != "float32":
        return None
    if any(getattr(cell, name) not in FUNCTIONS for name in kind.functions):
        return None
    if _replaces(cell) and cell.recurrent_activation not in SYMMETRIC:
        return None
    return kind


def recurrence(cell: Cell, return_sequences: bool) -> Callable:
    """As `loop.recurrence`, for a cell with a `kind_of`."""

    def execute(weights, given):
        inputs, states, mask = given.inputs, given.states, given.mask
        lengths = None
        if mask is not None:
            inputs, done, lengths = in_front(inputs, mask)
        ((outputs, last),) = _all_steps([cell], [weights], inputs, [states], lengths)
        if not return_sequences:
            return last[0], last
        if mask is not None:
            outputs = at_steps(done, tf.concat([states[0][None], outputs], 0))
        return outputs, last

    return execute


def both_directions(cells: Sequence[Cell], return_sequences: bool) -> Callable:
    """As `recurrence`, for two cells that `go_together`, the second from the last step on.

    Returns:
        A function of both cells' weights and `given`, whose states are the first cell's and then
        the second's. The outputs are both cells', one beside the other, in the order of the
        inputs, and zero at steps that the mask leaves out.
    """

    def execute(weights, given):
        inputs, mask, lengths = given.inputs, given.mask, None
        if mask is not None:
            inputs, done, lengths = in_front(inputs, mask)
        half = len(given.states) // 2
        states = given.states[:half], given.states[half:]
        found = _all_steps(cells, weights, inputs, states, lengths)
        last = [state for _, of_cell in found for state in of_cell]
        if not return_sequences:
            return last[0], last
        outputs = tf.concat([every for every, _ in found], -1)
        if mask is not None:
            outputs = at_steps(tf.maximum(done - 1, 0), outputs)
            outputs = tf.where(mask[:, :, None], outputs, 0.0)
        return outputs, last

    return execute


def go_together(one: Cell, other: Cell) -> bool:
    """Whether one node does the steps of both."""
    return (
        kind_of(one) is not None
        and kind_of(one) == kind_of(other)
        and one.units == other.units
        and _resets_after(one) == _resets_after(other)
    )


def _all_steps(cells, weights, inputs, states, lengths):
    """For each direction its outputs, (time, batch, units), and its last states.

    Args:
        cells, weights, states: One for each direction.
        inputs: (time, batch, features).
        lengths: How many steps of each row count, (batch,), or None for all.
    """
    kind, units = kind_of(cells[0]), cells[0].units
    W, R, B = (tf.stack(ws) for ws in zip(*map(_weights, cells, weights)))
    initial = [tf.stack(state) for state in zip(*states)]
    functions = [FUNCTIONS[getattr(c, name)] for c in cells for name in kind.functions]
    token = {
        "node": kind.node,
        "lengths": lengths is not None,
        "hidden_size": units,
        "direction": "forward" if len(cells) == 1 else "bidirectional",
        "activations": [name for name, *_ in functions],
        "activation_alpha": [alpha for _, *rest in functions for alpha in rest[:1]],
        "activation_beta": [beta for _, *rest in functions for beta in rest[1:]],
    }
    if kind.node == "GRU":
        token["linear_before_reset"] = int(_resets_after(cells[0]))
    given = [inputs, W, R, B, *([] if lengths is None else [lengths]), *initial]
    types = [tf.float32] * (1 + len(initial))
    outputs, *last = tf.raw_ops.PyFunc(input=given, token=json.dumps(token), Tout=types)
    length, rows, _ = inputs.shape
    outputs = tf.ensure_shape(outputs, (length, len(cells), rows, units))
    last = [tf.ensure_shape(state, (len(cells), rows, units)) for state in last]
    if lengths is not None:  # a row of no steps ends in zeros there
        some = lengths[:, None] > 0
        last = [tf.where(some, after, before) for after, before in zip(last, initial)]
    return [(outputs[:, d], [state[d] for state in last]) for d in range(len(cells))]


def _weights(cell, values):
    """A direction's W, R and B."""
    kind = kind_of(cell)
    with cell.constant_weights(values):
        none = tf.zeros((len(kind.gates) * cell.units,))
        of_input = cell.input_bias if cell.use_bias else none
        of_state = cell.bias[1] if cell.use_bias and _resets_after(cell) else none
        given = [cell.kernel, cell.recurrent_kernel, of_input, of_state]

        def ordered(w):
            gates = tf.split(tf.convert_to_tensor(w), len(kind.gates), -1)
            if _replaces(cell):
                gates[0] = -gates[0]
            return tf.concat([gates[k] for k in kind.gates], -1)

        kernel, recurrent_kernel, *biases = map(ordered, given)
    return tf.transpose(kernel), tf.transpose(recurrent_kernel), tf.concat(biases, 0)


def _replaces(cell):
    return getattr(cell, "update_gate", None) == "replace"


def _resets_after(cell):
    return getattr(cell, "reset_after", False)


def converted(graph, node, *_) -> None:
    """tf2onnx's handler of a `STAND_IN`: the node that it stands for takes its place."""
    token = json.loads(node.get_attr_str("token"))
    inputs, op = list(node.input), token.pop("node")
    if not token.pop("lengths"):
        inputs.insert(4, "")
    attributes = {name: value for name, value in token.items() if value != []}
    shapes, types = node.output_shapes, node.output_dtypes
    graph.remove_node(node.name)
    graph.make_node(
        op, inputs, attributes, outputs=node.output, name=node.name, shapes=shapes, dtypes=types
    )
