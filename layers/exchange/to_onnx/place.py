"""What runs a recurrence in ONNX: a node where there is one for the cell, else a loop.

This module is the place that `layers.recurrence.elsewhere` asks while a model is exported.
"""

import keras
import tensorflow as tf
from keras import ops

from layers.exchange.to_onnx import empty, loop, nodes
from layers.recurrence import plans
from layers.recurrence.given import Given
from layers.rnn import RNN

MERGED = {
    "concat": lambda y, y_back: ops.concatenate([y, y_back], axis=-1),
    "sum": lambda y, y_back: y + y_back,
    "ave": lambda y, y_back: (y + y_back) / 2,
    "mul": lambda y, y_back: y * y_back,
}


def plan(call: plans.Call) -> plans.Plan:
    """What runs a cell over time, in one direction."""
    every = call.return_sequences
    if nodes.kind_of(call.cell) and not any(call.given.drops):
        execute, what = nodes.recurrence(call.cell, every), "node"
    else:
        execute, what = loop.recurrence(call.cell, call.training, every), "loop"
    execute = empty.of_some_steps(execute, every)
    return plans.Plan("onnx", lambda batch_first: batch_first(execute, False), what)


def both_directions(layer, sequences, initial_state, mask, training):
    """What a `Bidirectional` returns; None if one node does not do for both of its layers."""
    both = layer.forward_layer, layer.backward_layer
    if training or not _together(layer, *both):
        return None
    mask = mask[0] if isinstance(mask, (list, tuple)) else mask
    if mask is not None:
        mask = both[0]._check_mask(mask, sequences)
    rows = ops.shape(sequences)[0]
    states = initial_state or [s for one in both for s in one.get_initial_state(rows)]
    states = [tf.cast(state, "float32") for state in states]
    given = Given(tf.cast(sequences, "float32"), states, mask).time_first(False)
    cells, every = [one.cell for one in both], layer.return_sequences
    execute = empty.of_some_steps(nodes.both_directions(cells, every), every)
    outputs, last = execute([cell.weight_values() for cell in cells], given)
    if every:
        outputs = tf.split(tf.transpose(outputs, [1, 0, 2]), 2, -1)
    else:
        outputs = last[0], last[len(last) // 2]
        if mask is not None:
            some = tf.reduce_any(mask, 1, keepdims=True)
            outputs = [tf.where(some, y, 0.0) for y in outputs]
    merged = [MERGED[layer.merge_mode](*outputs)] if layer.merge_mode else outputs
    found = (*merged, *(last if layer.return_state else ()))
    return found if len(found) > 1 else found[0]


def _together(layer, *both):
    """Whether both layers are the usual ones around cells that share a node."""
    usual = all(
        isinstance(one, RNN)
        and (type(one).call, type(one)._run) == (RNN.call, RNN._run)
        and one._all_ours
        and not isinstance(one.cell, keras.layers.StackedRNNCells)
        and one.zero_output_for_mask == one.return_sequences
        for one in both
    )
    first, last = both
    return (
        usual
        and not (layer.stateful or first.go_backwards)
        and nodes.go_together(first.cell, last.cell)
    )
