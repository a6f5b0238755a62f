"""The one place where a cell is run over time.

A cell (`layers/cell.py`) gives a linear `project` and a pointwise `update`. Here the
first is done for all time steps in one product, and the second step by step:

    x = project(sequences)                               one GEMM
    for t in 0 … T-1:  states = update(x_t, states)      `_loop`

`_loop` is all that a faster implementation has to replace.

Masks: a masked step leaves the states as they were. Its output repeats the one before
(zeros before the first step that counts), or is zero with `zero_output_for_mask`; the
outputs are put right after the loop, which itself only guards the states.
"""

import tensorflow as tf

from layers.cell import Cell


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

    Returns:
        (outputs, states): (batch, time, units), or (batch, units) without
        `return_sequences`; and the last states.
    """
    if go_backwards:
        sequences = tf.reverse(sequences, [1])
        mask = mask if mask is None else tf.reverse(mask, [1])
    inputs = tf.transpose(tf.cast(sequences, cell.compute_dtype), [1, 0, 2])
    mask = mask if mask is None else tf.transpose(mask)[:, :, None]
    states = [tf.cast(state, cell.compute_dtype) for state in states]

    input_masks, state_masks = cell.dropout_masks(inputs[0], states, training)
    dot = cell.dot(state_masks)
    with cell.constant_weights():
        x = cell.project(inputs, input_masks, training)
        outputs, states = _loop(
            lambda x_t, states: cell.update(x_t, states, dot),
            x,
            states,
            mask,
            unroll=unroll,
            return_sequences=return_sequences,
        )
    if mask is not None:
        if return_sequences:
            counts = mask if zero_output_for_mask else _any_so_far(mask)
        else:
            counts = mask[-1] if zero_output_for_mask else tf.reduce_any(mask, axis=0)
        outputs = tf.where(counts, outputs, tf.zeros_like(outputs))
    if return_sequences:
        outputs = tf.transpose(outputs, [1, 0, 2])
    return outputs, states


def _loop(update, x, states, mask, *, unroll, return_sequences):
    """The recurrence itself, time first.

    Args:
        update: (x_t, states) -> new states.
        x: (time, batch, features).
        mask: (time, batch, 1) or None.

    Returns:
        (outputs, states): (time, batch, units), or (batch, units) without
        `return_sequences`; the output of a step is its first state.
    """

    def step(x_t, mask_t, states):
        new = list(update(x_t, states))
        if mask_t is not None:
            new = [tf.where(mask_t, n, old) for n, old in zip(new, states)]
        for n, old in zip(new, states):
            n.set_shape(old.shape)  # a loop's states keep their shapes
        return new

    if unroll:
        outputs = []
        masks = [None] * x.shape[0] if mask is None else tf.unstack(mask)
        for x_t, mask_t in zip(tf.unstack(x), masks):
            states = step(x_t, mask_t, states)
            outputs.append(states[0])
        return (tf.stack(outputs) if return_sequences else outputs[-1]), states

    length = tf.shape(x)[0]
    xs = tf.TensorArray(x.dtype, length).unstack(x)
    masks = None if mask is None else tf.TensorArray(tf.bool, length).unstack(mask)
    outputs = [tf.TensorArray(x.dtype, length, element_shape=states[0].shape)]

    def body(t, outputs, states):
        states = step(xs.read(t), None if masks is None else masks.read(t), states)
        return t + 1, [array.write(t, states[0]) for array in outputs], states

    _, outputs, states = tf.while_loop(
        lambda t, *_: t < length,
        body,
        (0, outputs if return_sequences else [], list(states)),
        maximum_iterations=length,  # XLA needs the bound to size what the gradient keeps
    )
    return (outputs[0].stack() if return_sequences else states[0]), states


def _any_so_far(mask):
    """Whether a step, or any before it, counts."""
    return tf.cumsum(tf.cast(mask, tf.int32)) > 0
