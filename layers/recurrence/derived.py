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

import contextlib
import itertools
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from layers import matmul
from layers.recurrence import loop
from layers.recurrence.step import Gradients, Step
from layers.recurrence.vjp import differentiable_by_graph, vjp, wide


class Passes(NamedTuple):
    """Both passes, functions of what is given time first, which may end with padding.

    Attributes:
        used: The places, in the list of weights, of those that have a gradient.
        forward: A function of (weights, given, length), the last how many steps there are.
            Returns ([outputs], or [] without `return_sequences`, of these steps; the last
            states; what `backward` needs).
        backward: A function of (weights, given, length, what that kept, [dy] or [], the
            gradients of the last states). Returns the gradients (of the inputs of these steps;
            the initial states; the floating constants; the weights `used`, in the type `wide`).
    """

    used: list[int]
    forward: Callable
    backward: Callable


def recurrence(step: Step, return_sequences: bool, passes: Passes) -> Callable:
    """As `loop.recurrence`, for the cell of a `step` that depends on nothing from outside."""
    cell, used = step.cell, passes.used
    plain = loop.recurrence(cell, step.training, return_sequences, project=step.projects)

    def execute(weights, given):
        if not step.projects:
            with step.within(weights):
                x = cell.project(given.inputs, given.drops[0], step.training)
            given = given._replace(inputs=x)
        length = tf.shape(given.inputs)[0]

        @tf.custom_gradient
        def run(*arguments):
            # A tape outside would record the loops too, in vain, if it were not for this.
            weights, *differentiable = _still(arguments)
            outputs, last, kept = passes.forward(weights, given.replaced(*differentiable), length)

            def gradient(*upstream):
                # Copies, for this may be traced in another graph, and a second derivative in a
                # third, which knows no tensors of the first.
                own = tf.nest.map_structure(tf.identity, list(arguments))
                found = derivative(given.map_rows(tf.identity), kept)(own, list(upstream))
                dw = dict(zip(used, found))
                return *[dw.get(k) for k in range(len(weights))], *found[len(used) :]

            return (*(outputs or last[:1]), *last), gradient

        def derivative(given, kept):
            # A function of all that it depends on: else a second derivative would miss some.
            @tf.custom_gradient
            def derived(arguments, upstream):
                weights, *differentiable = _still(arguments)
                dy, *ds = _still(upstream)
                dy, ds = ([dy], ds) if return_sequences else ([], [ds[0] + dy, *ds[1:]])
                given_still = given.replaced(*differentiable)
                length = tf.shape(given.inputs)[0]
                d_inputs, ds, dc, dw = passes.backward(weights, given_still, length, kept, dy, ds)
                dw = [tf.cast(d, weights[k].dtype) for k, d in zip(used, dw)]

                def second(*dd):
                    # What was derived here is not derived again: the plain loop is.
                    def again(arguments, upstream):
                        found = vjp(in_a_plain_loop, arguments, upstream)
                        dw, *others = tf.nest.map_structure(
                            lambda d, x: tf.zeros_like(x) if d is None else d, found, arguments
                        )
                        return tf.nest.flatten(([dw[k] for k in used], others))

                    sources, count = tf.nest.flatten((arguments, upstream)), len(dd)

                    def slopes(*tensors):
                        own = tf.nest.pack_sequence_as((arguments, upstream), tensors[:-count])
                        found = tf.nest.flatten(vjp(again, own, list(tensors[-count:])))
                        pairs = zip(found, tensors)
                        return [tf.zeros_like(x) if d is None else d for d, x in pairs]

                    return differentiable_by_graph(slopes)(*sources, *dd)

                return tf.nest.flatten((dw, d_inputs, ds, dc)), second

            def in_a_plain_loop(weights, *differentiable):
                outputs, last = plain(weights, given.replaced(*differentiable))
                return [outputs, *last]

            return derived

        outputs, *last = run(weights, *given.differentiable)
        return outputs, last

    return execute


def passes(step: Step, gradients: Gradients, return_sequences: bool, loops: tuple) -> Passes:
    """The passes around two `loops`, those of `loops_of` or what XLA has made of them."""
    run, run_back = loops
    products = step.products

    def forward(weights, given, length):
        found = run(weights, given, length)
        # A persistent tape outside would ask for the gradients of all that is kept.
        states, kept = _still(found)
        outputs = [kept[0][0][1 : length + 1]] if return_sequences else []
        return outputs, states, kept

    def backward(weights, given, length, kept, dy, ds):
        dx, ds, dc, direct, dps, operands = run_back(weights, given, length, kept, dy, ds)
        dps, operands, before = iter(dps), iter(operands), kept[0]
        operands = [next(operands) if p.state is None else before[p.state] for p in products]
        dps = [dx if p.added else next(dps) for p in products]
        operands, dps = ([a[:length] for a in arrays] for arrays in (operands, dps))
        shares = [enumerate(step.hoisted(weights, given.drops[1], operands, dps))]
        shares.append(zip(gradients.direct, direct))
        d_inputs = dx[:length]
        if step.projects:
            inputs = given.inputs[:length]
            d_inputs, of_weights = step.project_backward(weights, inputs, given.drops[0], d_inputs)
            d_inputs = tf.zeros_like(inputs) if d_inputs is None else d_inputs
            shares.append(enumerate(of_weights))
        dw = {}
        for k, d in itertools.chain(*shares):
            if d is not None:
                d = tf.cast(d, wide(d.dtype))
                dw[k] = dw[k] + d if k in dw else d
        return d_inputs, ds, dc, [tf.ensure_shape(dw[k], weights[k].shape) for k in gradients.used]

    return Passes(gradients.used, forward, backward)


def loops_of(
    step: Step, gradients: Gradients, by_xla: bool, turn: bool = False
) -> tuple[Callable, Callable]:
    """The loop of each pass, a function of tensors alone.

    Args:
        turn: Whether products with large matrices are turned.
    """
    products, direct = step.products, gradients.direct
    multiplying = matmul.turned if turn else contextlib.nullcontext
    read = _read_apart if by_xla else lambda array, t, _: array.read(t)
    others = [p for p in products if not p.added]

    def brought(weights, backward):
        """What a loop makes its weights of: to be called inside.

        XLA would cut a matrix into blocks in every step, but sees that one put together from
        blocks outside has them already. And transposed outside, a block is used inside as it
        lies in memory: backward, or forward where it is turned (matmul.py).
        """
        if not by_xla:
            return lambda: weights

        def turned(block):
            return tf.transpose(block) if (turn and matmul.is_large(block)) != backward else block

        outside = [[turned(block) for block in blocks] for blocks in step.cut(weights)]
        return lambda: [tf.concat([turned(b) for b in blocks], -1) for blocks in outside]

    def run(weights, given, length):
        """Returns: (the last states, (the states before each step, products, x))."""
        states, mask, size = list(given.states), given.mask, _places(given.inputs)
        inputs, masks = _array(given.inputs), None if mask is None else _array(mask)
        before = [_empty(size + 1, s, s.shape[1]).write(0, s) for s in states]
        made = [_empty(size, states[0], p.size) for p in others]
        xs, inside = _empty(size, states[0], step.x_size), brought(weights, backward=False)

        def body(t, states, before, made, xs):
            whole, x_t = inside(), read(inputs, t, length)
            mask_t = None if masks is None else masks.read(t)
            of_step = given._replace(states=states, mask=mask_t)
            with multiplying(t < length):
                x_t = step.project(whole, x_t, given.drops[0])
                states, all_made = step.forward(x_t, whole, of_step)
            before = [array.write(t + 1, s) for array, s in zip(before, states)]
            apart = [p for q, p in zip(products, all_made) if not q.added]
            x_t = sum((p for q, p in zip(products, all_made) if q.added), x_t)
            made = [array.write(t, p) for array, p in zip(made, apart)]
            return t + 1, states, before, made, xs.write(t, x_t)

        _, states, *arrays = tf.while_loop(
            lambda t, *_: t < length, body, (0, states, before, made, xs)
        )
        return states, tf.nest.map_structure(lambda array: array.stack(), arrays)

    def run_back(weights, given, length, kept, dy, ds):
        """Returns: the gradients of x, the states before, the constants and the weights used
        otherwise than in `dot`; those of the products, and what they multiplied."""
        before, made, x = kept
        size, mask, constants = _places(x), given.mask, given.differentiable[2]
        xs, masks = _array(x), None if mask is None else _array(mask)
        before, made = [_array(s) for s in before], [_array(p) for p in made]
        dys = [_array(d) for d in dy]
        dxs = _empty(size, ds[0], x.shape[2])
        dps = [_empty(size, ds[0], p.size) for p in others]
        operands = [_empty(size, ds[0], p.operand_size) for p in products if p.state is None]
        dw = [tf.zeros_like(weights[k], wide(weights[k].dtype)) for k in direct]
        dc = [tf.zeros_like(c, wide(c.dtype)) for c in constants]
        inside = brought(weights, backward=True)

        def body(t, ds, dc, dw, dxs, dps, operands):
            for array in dys:
                ds = [ds[0] + array.read(t), *ds[1:]]
            whole, x_t = inside(), read(xs, t, length)
            apart = iter([array.read(t) for array in made])
            of_step = given._replace(
                states=[array.read(t) for array in before],
                mask=None if masks is None else masks.read(t),
            )
            kept = [tf.zeros_like(x_t) if p.added else next(apart) for p in products]
            with multiplying(t < length):
                found = step.backward(x_t, whole, direct, of_step, kept, ds)
            dc = [d + tf.cast(m, d.dtype) for d, m in zip(dc, found.constants)]
            dw = [d + tf.cast(m, d.dtype) for d, m in zip(dw, found.weights)]
            own = [dp for p, dp in zip(products, found.products) if not p.added]
            dps = [array.write(t, dp) for array, dp in zip(dps, own)]
            own = [a for p, a in zip(products, found.operands) if p.state is None]
            operands = [array.write(t, a) for array, a in zip(operands, own)]
            return t - 1, found.states, dc, dw, dxs.write(t, found.x), dps, operands

        _, ds, dc, dw, dxs, dps, operands = tf.while_loop(
            lambda t, *_: t >= 0, body, (length - 1, ds, dc, dw, dxs, dps, operands)
        )
        dc = [tf.cast(d, c.dtype) for d, c in zip(dc, constants)]
        stacks = [array.stack() for array in dps], [array.stack() for array in operands]
        return dxs.stack(), ds, dc, dw, *stacks

    return run, run_back


def _still(tensors):
    return tf.nest.map_structure(tf.stop_gradient, tensors)


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
