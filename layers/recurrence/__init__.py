"""The one place where a cell is run over time.

A cell (`layers/cell.py`) gives a linear `project` and a pointwise `update`:

    for t in 0 … T-1:  states = update(project(input_t), states)

An implementation may do the first for many steps at once, for it depends on no state. All
give the same numbers; `plans.py` says which runs where, and why:

    "loop"        loop.py       a plain loop, differentiated by TensorFlow
    "derived"     derived.py    a backward pass of its own, for any cell (step.py)
    "compiled"    programs.py   with XLA: "derived" in training (parts.py), else "loop"
    "fused"       fused.py      TensorFlow's operation for all steps of an LSTM, in inference;
                  cudnn.py      on a GPU, cuDNN's for an LSTM, a GRU or a plain RNN

A graph that is traced for a place other than TensorFlow has that place's (elsewhere.py).

Where rows are on their own (rowwise.py), larger batches are cut in two, which run side by
side (rows.py), unless two directions do, or a server's requests (gradients.py). In training
by XLA, without a GPU, products with large matrices are turned (../matmul.py).

Masks: a masked step leaves the states as they were. Its output repeats the one before
(zeros before the first step that counts), or is zero with `zero_output_for_mask`; the
outputs are put right after the loop, which itself only guards the states.
"""

import tensorflow as tf

from layers.cell import Cell
from layers.recurrence import loop, plans
from layers.recurrence.given import Given
from layers.recurrence.plans import IMPLEMENTATIONS, Call

__all__ = ["IMPLEMENTATIONS", "run"]


def run(
    cell: Cell,
    sequences: tf.Tensor,
    states: list[tf.Tensor],
    mask: tf.Tensor | None = None,
    constants: list[tf.Tensor] = (),
    *,
    training: bool = False,
    go_backwards: bool = False,
    unroll: bool = False,
    return_sequences: bool = True,
    zero_output_for_mask: bool = False,
    implementation: str | None = None,
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Runs `cell` over `sequences`.

    Args:
        sequences: (batch, time, features).
        states: The initial states, each (batch, its size).
        mask: (batch, time) booleans or None; False marks a step to leave out.
        constants: What the cell's `update` reads in every step, each (batch, …).
        go_backwards: Whether to start at the last step. The outputs are then in that
            order too: the first is the last step's.
        unroll: Whether to build every step into the graph instead of a loop.
        return_sequences: Whether all outputs are wanted, or only the last.
        implementation: One of `IMPLEMENTATIONS`; None for the one that is fast here. Where it
            does not cover the cell, another runs.

    Returns:
        (outputs, states): (batch, time, units), or (batch, units) without
        `return_sequences`; and the last states.
    """
    sequences = tf.cast(sequences, cell.compute_dtype)
    states = _in_their_types(cell, states)
    # Of no steps, the first is zero.
    drops = cell.dropout_masks(tf.reduce_sum(sequences[:, :1], 1), states, training)
    drops = tf.nest.map_structure(lambda m: _for_each_row(m, sequences), drops)
    weights = cell.weight_values()
    constants = [tf.cast(c, cell.compute_dtype) if c.dtype.is_floating else c for c in constants]
    given = Given(sequences, states, mask, drops, constants)
    call = Call.here(cell, training, unroll, return_sequences, weights, given, implementation)
    plan = plans.plan(call)

    def batch_first(recurrence, may_skip):
        def execute(weights, given):
            turned = given.time_first(go_backwards)
            outputs, states = recurrence(weights, turned)
            if turned.mask is not None:
                outputs = _masked(outputs, turned.mask, zero_output_for_mask, may_skip)
            return (tf.transpose(outputs, [1, 0, 2]) if return_sequences else outputs), states

        return execute

    outputs, states = plan.run(batch_first)(weights, given)
    if return_sequences:
        outputs.set_shape((*sequences.shape[:2], None))
    return outputs, states


def _in_their_types(cell, states):
    """Floating states in the cell's type; and whole numbers too, where it does not count."""
    found = [tf.cast(s, cell.compute_dtype) if s.dtype.is_floating else s for s in states]
    if all(s.dtype.is_floating for s in found):
        return found
    own = [tf.convert_to_tensor(s).dtype for s in tf.nest.flatten(cell.get_initial_state(1))]
    return [tf.cast(s, dtype) if dtype.is_floating else s for s, dtype in zip(found, own)]


def _for_each_row(mask, sequences):
    """A dropout mask, (batch, columns), of which a cell's own may have one row for all."""
    if mask is None or mask.shape[0] != 1 or sequences.shape[0] == 1:
        return mask
    return tf.broadcast_to(mask, [tf.shape(sequences)[0], mask.shape[1]])


def _masked(outputs, mask, zero_output_for_mask, may_skip):
    """The outputs, (time, batch, units) or (batch, units), with zeros as the mask wants them."""

    def zeros_unless(counts):
        x = tf.reshape(outputs, [-1, outputs.shape[-1]])
        x = loop.select(tf.reshape(counts, [-1]), x, tf.zeros_like(x))
        return tf.reshape(x, tf.shape(outputs))

    if zero_output_for_mask:
        every = outputs.shape.rank == 3
        return zeros_unless(mask if every else tf.reduce_any(mask[-1:], axis=0))
    if outputs.shape.rank == 2:
        return zeros_unless(tf.reduce_any(mask, axis=0))

    def zeros_before_the_first():
        return zeros_unless(tf.cumsum(tf.cast(mask, tf.int32)) > 0)

    if not may_skip:
        return zeros_before_the_first()
    every = tf.reduce_all(mask[:1])
    return tf.cond(every, lambda: outputs, zeros_before_the_first)
