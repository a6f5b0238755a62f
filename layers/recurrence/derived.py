"""A recurrence with a backward pass of its own, derived for any cell.

With s_t the states, x_t the projected input and P_t what `dot` made in step t,

    forward      x_t = project(input_t), s_t = update(x_t, s_{t-1}),  keeping x_t, s_{t-1}, P_t
    backward     dx_t, ds_{t-1} = vector-Jacobian product of update with ds_t,
                 in which `dot` looks P_t up, and hands dP_t · Wᵀ back
    after it     dW = Σ_t a_tᵀ dP_t, where a_t is what `dot` multiplied by W,
                 and the vector-Jacobian product of project with all dx

so the backward loop does only what has to be done in order; each matrix gets its gradient in
one product over all steps, or with XLA over all those of a part (parts.py). (Forward, inputs
are projected step by step: to read what one product has made for all steps would be slower.)
The gradients of other weights (a bias, a peephole), which are small, are summed up on the way.
"""

import itertools
from collections.abc import Callable

import tensorflow as tf

from layers.recurrence.parts import in_parts, padded
from layers.recurrence.step import Step

# XLA compiles anew for each shape, so a number of rows that is not known beforehand is
# padded to one of these.
ROWS = sorted([2**k for k in range(3, 31)] + [3 * 2**k for k in range(2, 30)])


def recurrence(step: Step, return_sequences: bool, compiled: bool, in_xla: bool) -> Callable:
    """As `loop.recurrence`, for the cell of a `step` that is repeatable.

    Args:
        compiled: Whether to have XLA compile the loops, for a part of the steps at a time.
        in_xla: Whether it compiles all of the caller's function.
    """
    cell = step.cell
    both = passes(step, return_sequences, compiled, in_xla)

    def execute(weights, inputs, states, mask, drops):
        if not step.projects:
            with cell.constant_weights(weights):
                inputs = cell.project(inputs, drops[0], step.training)
        forward, backward = in_parts(*both, inputs.shape[0]) if compiled else both
        length, rows = tf.unstack(tf.shape(inputs)[:2])
        any_rows = compiled and inputs.shape[1] is None
        if any_rows:
            size = tf.gather(ROWS, tf.searchsorted(ROWS, [rows])[0])
            inputs, mask = _with_rows((inputs, mask), size, axis=1)
            states, drops = _with_rows((states, drops), size, axis=0)

        @tf.custom_gradient
        def run(*arguments):
            # A tape outside would record the loops too, in vain, if it were not for this.
            inputs, states, weights = tf.nest.map_structure(tf.stop_gradient, arguments)
            outputs, last, kept = forward(weights, inputs, states, mask, drops, length)

            @tf.custom_gradient
            def once(*upstream):
                dy, *ds = tf.nest.map_structure(tf.stop_gradient, upstream)
                dy, ds = ([dy], ds) if return_sequences else ([], [ds[0] + dy, *ds[1:]])
                d_inputs, ds, dw = backward(
                    weights, inputs, mask, drops, length, kept, dy, list(ds)
                )
                dw = [tf.cast(d, weights[k].dtype) for k, d in zip(step.used, dw)]
                return (d_inputs, *ds, *dw), _no_second_derivative

            def gradient(*upstream):
                d_inputs, *rest = once(*upstream)
                ds, dw = rest[: len(states)], dict(zip(step.used, rest[len(states) :]))
                return d_inputs, *ds, *[dw.get(k) for k in range(len(weights))]

            return (*(outputs or last[:1]), *last), gradient

        outputs, *last = run(inputs, states, weights)
        if any_rows:
            outputs = outputs[:, :rows] if return_sequences else outputs[:rows]
            last = [state[:rows] for state in last]
        return outputs, last

    return execute


def passes(
    step: Step, return_sequences: bool, compiled: bool, in_xla: bool
) -> tuple[Callable, Callable]:
    """Both passes, functions of arrays time first, which may end with padding.

    XLA would cut a matrix into blocks in every step, but sees that one put together from
    blocks outside has them already.

    Returns:
        forward: A function of (weights, inputs, states, mask, drops, length), the last how
            many steps there are. Returns ([outputs], or [] without `return_sequences`, of
            these steps; the last states; what the other needs).
        backward: A function of (weights, inputs, mask, drops, length, what that kept, [dy]
            or [], the gradients of the last states). Returns the gradients (of the inputs
            of these steps; the initial states; the weights `step.used`, in the type `_wide`).
    """
    cell, products = step.cell, step.products
    by_xla = compiled or in_xla
    cut = step.cut if by_xla else lambda weights: [[w] for w in weights]
    turned = tf.transpose if by_xla else lambda w: w
    read = _read_apart if by_xla else lambda array, t, _: array.read(t)
    others = [p for p in products if not p.added]

    def loop(inputs, states, mask, drops, weights, length):
        size, (input_masks, state_masks) = _places(inputs), drops
        inputs, masks = _array(inputs), None if mask is None else _array(mask)
        before = [_empty(size + 1, s, s.shape[1]).write(0, s) for s in states]
        made = [_empty(size, states[0], p.size) for p in others]
        xs, cut_weights = _empty(size, states[0], step.x_size), cut(weights)

        def body(t, states, before, made, xs):
            mask_t = None if masks is None else masks.read(t)
            whole = [tf.concat(blocks, -1) for blocks in cut_weights]
            x_t = step.project(whole, read(inputs, t, length), input_masks)
            with cell.constant_weights(whole):
                states, all_made = step.forward(x_t, states, mask_t, state_masks)
            before = [array.write(t + 1, s) for array, s in zip(before, states)]
            apart = [p for q, p in zip(products, all_made) if not q.added]
            x_t = sum((p for q, p in zip(products, all_made) if q.added), x_t)
            made = [array.write(t, p) for array, p in zip(made, apart)]
            return t + 1, states, before, made, xs.write(t, x_t)

        _, states, *arrays = tf.while_loop(
            lambda t, *_: t < length, body, (0, states, before, made, xs)
        )
        return states, tf.nest.map_structure(lambda array: array.stack(), arrays)

    def loop_back(kept, mask, drops, weights, length, dy, ds):
        before, made, x = kept
        size = _places(x)
        xs, masks = _array(x), None if mask is None else _array(mask)
        before, made = [_array(s) for s in before], [_array(p) for p in made]
        dys = [_array(d) for d in dy]
        dxs = _empty(size, ds[0], x.shape[2])
        dps = [_empty(size, ds[0], p.size) for p in others]
        operands = [_empty(size, ds[0], p.operand_size) for p in products if p.state is None]
        direct = [tf.zeros_like(weights[k], _wide(weights[k].dtype)) for k in step.direct]
        # Transposed here, once, a matrix is used in XLA's loop as it lies in memory.
        transposed = [[turned(block) for block in blocks] for blocks in cut(weights)]

        def body(t, ds, direct, dxs, dps, operands):
            for array in dys:
                ds = [ds[0] + array.read(t), *ds[1:]]
            weights = [tf.concat([turned(b) for b in bs], -1) for bs in transposed]
            x_t, apart = read(xs, t, length), iter([array.read(t) for array in made])
            with cell.constant_weights(weights):
                dx, ds, more, calls = step.backward(
                    x_t,
                    [array.read(t) for array in before],
                    None if masks is None else masks.read(t),
                    drops,
                    [tf.zeros_like(x_t) if p.added else next(apart) for p in products],
                    [weights[k] for k in step.direct],
                    ds,
                )
            direct = [d + tf.cast(m, d.dtype) for d, m in zip(direct, more)]
            own = [dp for p, (*_, dp) in zip(products, calls) if not p.added]
            dps = [array.write(t, dp) for array, dp in zip(dps, own)]
            own = [a for p, (a, *_) in zip(products, calls) if p.state is None]
            operands = [array.write(t, a) for array, a in zip(operands, own)]
            return t - 1, ds, direct, dxs.write(t, dx), dps, operands

        _, ds, direct, dxs, dps, operands = tf.while_loop(
            lambda t, *_: t >= 0, body, (length - 1, ds, direct, dxs, dps, operands)
        )
        stacks = [array.stack() for array in dps], [array.stack() for array in operands]
        return dxs.stack(), ds, direct, *stacks

    if compiled:
        loop = tf.function(loop, jit_compile=True, autograph=False)
        loop_back = tf.function(loop_back, jit_compile=True, autograph=False)

    def forward(weights, inputs, states, mask, drops, length):
        found = loop(inputs, states, mask, drops, weights, length)
        # A persistent tape outside would ask for the gradients of all that is kept.
        states, kept = tf.nest.map_structure(tf.stop_gradient, found)
        outputs = [kept[0][0][1 : length + 1]] if return_sequences else []
        return outputs, states, kept

    def backward(weights, inputs, mask, drops, length, kept, dy, ds):
        dx, ds, direct, dps, operands = loop_back(kept, mask, drops[1], weights, length, dy, ds)
        dps, operands, before = iter(dps), iter(operands), kept[0]
        operands = [next(operands) if p.state is None else before[p.state] for p in products]
        dps = [dx if p.added else next(dps) for p in products]
        operands, dps = ([a[:length] for a in arrays] for arrays in (operands, dps))
        shares = [enumerate(step.hoisted(weights, drops[1], operands, dps))]
        shares.append(zip(step.direct, direct))
        d_inputs = dx[:length]
        if step.projects:
            d_inputs, of_weights = step.project_backward(
                weights, inputs[:length], drops[0], d_inputs
            )
            shares.append(enumerate(of_weights))
        dw = {}
        for k, d in itertools.chain(*shares):
            if d is not None:
                d = tf.cast(d, _wide(d.dtype))
                dw[k] = dw[k] + d if k in dw else d
        return d_inputs, ds, [dw[k] for k in step.used]

    return forward, backward


def _no_second_derivative(*_):
    raise NotImplementedError(
        "A recurrence that derives its own backward pass has no second derivative. "
        'Build the layer with `recurrence="loop"` to have one.'
    )


def _array(x):
    return tf.TensorArray(x.dtype, tf.shape(x)[0]).unstack(x)


def _places(x):
    # One at least: without any, an array could not tell its shape.
    return tf.maximum(tf.shape(x)[0], 1)


def _empty(size, like, columns):
    """An array of `size` places for what has the rows of `like`."""
    return _array(tf.zeros((size, tf.shape(like)[0], columns), like.dtype))


def _read_apart(xs, t, length):
    # A division by one, but XLA can't know: what it divides is not fused into each of the
    # gates. Fused, LLVM does not vectorize them, for the index t inside.
    x = xs.read(t)
    return x / tf.cast(t < length, x.dtype)


def _with_rows(arguments, size, axis):
    """Tensors (or Nones) with zeros up to `size` along the axis of the batch's rows."""
    return tf.nest.map_structure(lambda x: x if x is None else padded(x, size, axis), arguments)


def _wide(dtype):
    """The type to sum up many gradients in."""
    return dtype if dtype == tf.float64 else tf.float32
