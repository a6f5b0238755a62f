"""The one place where a cell is run over time.

A cell (`layers/cell.py`) gives a linear `project` and a pointwise `update`:

    for t in 0 … T-1:  states = update(project(input_t), states)

An implementation may do the first for many steps at once, for it depends on no state. All
give the same numbers; `choose` says which runs where:

    "loop"        loop.py       a plain loop, differentiated by TensorFlow
    "derived"     derived.py    a backward pass of its own, for any cell (step.py)
    "compiled"                  with XLA: "derived" in training (parts.py), else "loop"
    "fused"       fused.py      TensorFlow's operation for all steps of an LSTM, in inference;
                  cudnn.py      on a GPU, cuDNN's for an LSTM, a GRU or a plain RNN

Larger batches are cut in two, which run side by side (halves.py), unless two directions do.

Masks: a masked step leaves the states as they were. Its output repeats the one before
(zeros before the first step that counts), or is zero with `zero_output_for_mask`; the
outputs are put right after the loop, which itself only guards the states.
"""

import functools

import tensorflow as tf
from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

from layers.cell import Cell
from layers.recurrence import cudnn, derived, fused, loop
from layers.recurrence.halves import in_halves
from layers.recurrence.step import Step

IMPLEMENTATIONS = ("loop", "derived", "compiled", "fused")


def choose(cell: Cell, training: bool, unroll: bool) -> str:
    """The implementation for a call, unless one is asked for.

    `benchmarks/recurrence.py` measures what stands behind it. A graph for inference may
    be exported and has to run where XLA is not; so XLA is left to training, and to
    callers that compile the whole of their function. (Who exports a layer that is called
    with `training=True`, to draw dropout masks when it serves, has to ask for "derived".)
    What needs a gradient has its own backward pass in any case.
    """
    if unroll or tf.executing_eagerly():
        return "loop"
    if _inside_xla():
        return "derived" if training else "loop"
    if training:
        return "compiled"
    return "fused" if cell.all_steps() or cell.cudnn_mode else "loop"


def run(
    cell: Cell,
    sequences: tf.Tensor,
    states: list[tf.Tensor],
    mask: tf.Tensor | None = None,
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
        go_backwards: Whether to start at the last step. The outputs are then in that
            order too: the first is the last step's.
        unroll: Whether to build every step into the graph instead of a loop.
        return_sequences: Whether all outputs are wanted, or only the last.
        implementation: One of `IMPLEMENTATIONS`; None lets `choose` say. Where it does
            not cover the cell, the plain loop runs.

    Returns:
        (outputs, states): (batch, time, units), or (batch, units) without
        `return_sequences`; and the last states.
    """
    asked = implementation is not None
    implementation = implementation or choose(cell, training, unroll)
    sequences = tf.cast(sequences, cell.compute_dtype)
    states = [tf.cast(state, cell.compute_dtype) for state in states]
    drops = cell.dropout_masks(sequences[:, 0], states, training)
    weights = cell.weight_values()
    arguments = sequences, states, mask, drops

    def batch_first(recurrence):
        def execute(weights, sequences, states, mask, drops):
            inputs = tf.reverse(sequences, [1]) if go_backwards else sequences
            inputs = tf.transpose(inputs, [1, 0, 2])
            if mask is not None:
                mask = tf.transpose(tf.reverse(mask, [1]) if go_backwards else mask)
            outputs, states = recurrence(weights, inputs, states, mask, drops)
            if mask is not None:
                # What is compiled or has a gradient is simpler without a condition.
                may_skip = not (training or xla)
                outputs = _masked(outputs, mask, zero_output_for_mask, may_skip)
            return (tf.transpose(outputs, [1, 0, 2]) if return_sequences else outputs), states

        return execute

    xla, how = _inside_xla(), {"training": training, "return_sequences": return_sequences}
    step_by_step = unroll or tf.executing_eagerly()
    # So few steps as are one block's need no loop.
    few = not (training or step_by_step or xla) and sequences.shape[1] in range(1, loop.BLOCK + 1)
    unroll = unroll or few
    block = None if training or step_by_step or few else 1 if xla else loop.BLOCK
    in_one = step_by_step or xla or _on_gpu()
    plain = batch_first(loop.recurrence(cell, **how, unroll=unroll))
    looped = batch_first(loop.recurrence(cell, **how, block=block)) if block else plain
    if not (training or in_one):  # traced once for the whole and for both halves
        looped = in_halves(tf.function(looped, autograph=False))
    step = functools.cache(lambda: Step(cell, training, weights, *arguments))
    chosen, fast = looped, None
    if implementation == "fused" and drops == (None, None):
        if cell.all_steps():
            fast = batch_first(fused.recurrence(cell, return_sequences))
            fast = fast if asked else fused.for_few_rows(fast, looped)
        if cell.cudnn_mode and not (xla or step_by_step):
            on_cudnn = batch_first(cudnn.recurrence(cell, return_sequences))
            fast = cudnn.on_any_device(fast or looped, on_cudnn)
    elif implementation == "compiled" and not training and step().repeatable:
        fast = loop.recurrence(cell, **how, block=1)
        fast = batch_first(tf.function(fast, jit_compile=True, autograph=False))
        fast = fast if in_one else in_halves(fast)
    elif implementation in ("derived", "compiled") and step().repeatable:
        compiled = implementation == "compiled" and not xla  # which does it anyway
        chosen = derived.recurrence(step(), return_sequences, compiled, in_xla=xla)
        chosen = batch_first(chosen)
        chosen = chosen if in_one else in_halves(chosen, always=True)
    if chosen is looped and block and not (fast or xla) and step().repeatable:
        fast = looped  # which has a gradient, but eight steps at a time it is a large one
    if fast:
        chosen = loop.differentiable(fast, plain)
    outputs, states = chosen(weights, *arguments)
    if return_sequences:
        outputs.set_shape((*sequences.shape[:2], None))
    return outputs, states


def _masked(outputs, mask, zero_output_for_mask, may_skip):
    """The outputs, (time, batch, units) or (batch, units), with zeros as the mask wants them."""

    def zeros_unless(counts):
        x = tf.reshape(outputs, [-1, outputs.shape[-1]])
        x = loop.by_rows(tf.reshape(counts, [-1]), x, tf.zeros_like(x))
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
    return tf.cond(tf.reduce_all(mask[:1]), lambda: outputs, zeros_before_the_first)


def _inside_xla():
    """Whether this is traced for a caller that XLA compiles as a whole."""
    return GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


def _on_gpu():
    return bool(tf.config.list_logical_devices("GPU"))
