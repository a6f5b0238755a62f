"""A recurrence with a backward pass of its own, derived for any cell.

With s_t the states, x_t the projected input and P_t what `dot` made in step t,

    forward      x_t = project(input_t), s_t = update(x_t, s_{t-1}),  keeping x_t, s_{t-1}, P_t
    backward     dx_t, ds_{t-1} = vector-Jacobian product of update with ds_t,
                 in which `dot` looks P_t up, and hands dP_t · Wᵀ back
    after it     dW = Σ_t a_tᵀ dP_t, where a_t is what `dot` multiplied by W,
                 and the vector-Jacobian product of project with all dx

so the backward loop does only what has to be done in order; each matrix gets its gradient in
one product over all steps. (Forward, inputs are projected step by step: to read what one
product has made for all steps would be slower.) The gradients of other weights (a bias, a
peephole), which are small, are summed up on the way.
"""

import itertools
from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from layers.cell import Cell
from layers.recurrence.loop import masked_update

# XLA compiles anew for each shape, so a length or a number of rows that is not known
# beforehand is padded to one of these. The loops stop at the true length.
LENGTHS = [2**k for k in range(4, 31)]
ROWS = sorted([2**k for k in range(3, 31)] + [3 * 2**k for k in range(2, 30)])


class Product(NamedTuple):
    """One call of `dot` in a step, and what is known of it before any step runs."""

    state: int | None  # which of the states it multiplies, if one as it came
    weight: int | None  # which of the weights by, if one as it is
    gates: tuple[int, int] | None
    operand_size: int
    size: int
    added: bool  # whether it is but added to x: their gradients are one, and so is what is kept


class Step:
    """One step of a cell, and its vector-Jacobian product.

    Attributes:
        products: A `Product` for each call of `dot`.
        direct: The places, in the list of weights, of those used outside of `dot`.
        used: Of those, of those used in it, and of those that `project` uses.
        repeatable: Whether an update depends on nothing but its arguments. One that draws
            random numbers, or uses a variable that is not a weight of the cell, cannot
            be run again in the backward pass.
        projects: Whether the same is true of `project`. If not, it is left out of the step.
        projected: The places of the weights that `project` uses, if it is in the step.
        x_size: How many columns `project` makes.
        widths: For a weight's place, those of the blocks of columns that it is used in.
    """

    def __init__(self, cell: Cell, training: bool, weights, sequences, states, mask, drops):
        self.cell, self.training = cell, training
        self.products, self.direct, self.used, self.projects = [], [], [], True
        of_rows = sequences[:, 0], states, None if mask is None else mask[:, :1], drops
        # With the number of rows known, it shows which gradients go on as they came.
        inputs, states, mask, (input_masks, drops) = tf.nest.map_structure(
            lambda t: t if t is None else tf.TensorSpec((2, *t.shape[1:]), t.dtype), of_rows
        )
        weights = [tf.TensorSpec(w.shape, w.dtype) for w in weights]

        def traced(function, *specs):
            """What `function` returns; and whether it depends on nothing but its arguments."""
            made = tf.function(function, autograph=False).get_concrete_function(*specs)
            stateful = any(op.op_def.is_stateful for op in made.graph.get_operations())
            return made.structured_outputs, not stateful and not made.captured_inputs

        found, self.projects = traced(self._look_at_project, weights, inputs, input_masks)
        x, *of_weights = found
        self.projected = [k for k, g in enumerate(of_weights) if g is not None and self.projects]
        x, self.x_size = tf.TensorSpec(x.shape, x.dtype), x.shape[-1]
        _, self.repeatable = traced(self._look, weights, x, states, mask, drops)
        self.widths = self._widths(input_masks, drops)

    def _look_at_project(self, weights, inputs, masks):
        dx = tf.ones_like(self.project(weights, inputs, masks))
        return [dx, *self.project_backward(weights, inputs, masks, dx)[1]]

    def _look(self, weights, x, states, mask, drops):
        with self.cell.constant_weights(weights):
            new, kept = self.forward(x, states, mask, drops)
            dx, _, direct, calls = self.backward(x, states, mask, drops, kept, weights, new)
        self.direct = [k for k, gradient in enumerate(direct) if gradient is not None]
        for (a, kernel, gates, dp), p in zip(calls, kept):
            places = _place(a, states), _place(kernel, self.cell.weights)
            self.products.append(Product(*places, gates, a.shape[-1], p.shape[-1], dp is dx))
        hoisted = {p.weight for p in self.products if p.weight is not None}
        self.used = sorted(hoisted.union(self.direct, self.projected))

    def _widths(self, input_masks, state_masks):
        weights, edges = self.cell.weights, defaultdict(set)
        for p in self.products:
            if p.weight is not None and p.gates:
                edges[p.weight].update(gate * self.cell.units for gate in p.gates)
        for name, masks in (("kernel", input_masks), ("recurrent_kernel", state_masks)):
            place = _place(getattr(self.cell, name, None), weights)
            if place is not None and masks and len(masks) > 1:  # each is for a gate
                width = weights[place].shape[-1] // len(masks)
                edges[place].update(width * gate for gate in range(len(masks)))
        widths = {}
        for place, inner in edges.items():
            columns = weights[place].shape[-1]
            all_edges = sorted({0, columns, *(edge for edge in inner if edge < columns)})
            widths[place] = [end - start for start, end in itertools.pairwise(all_edges)]
        return widths

    def cut(self, weights):
        """Each weight as a list of the blocks that it is used in."""
        return [
            tf.split(w, self.widths[k], -1) if k in self.widths else [w]
            for k, w in enumerate(weights)
        ]

    def project(self, weights, inputs, masks):
        if not self.projects:
            return inputs
        with self.cell.constant_weights(weights):
            return self.cell.project(inputs, masks, self.training)

    def project_backward(self, weights, inputs, masks, dx):
        """Returns: (the inputs' gradient, those of `weights`)."""
        return _vjp(lambda i, w: self.project(w, i, masks), (inputs, weights), dx)

    def forward(self, x, states, mask, drops):
        """Returns: (the new states, what `dot` returned each time)."""
        multiply, kept = self.cell.dot(drops), []

        def dot(a, kernel, gates=None):
            kept.append(multiply(a, kernel, gates))
            return kept[-1]

        return masked_update(self.cell, x, states, mask, dot), kept

    def backward(self, x, states, mask, drops, kept, weights, ds):
        """Returns: (dx, the states' gradients, those of `weights`, the calls of `dot`).

        A call is (what was multiplied, kernel, gates, the gradient of the product).
        """
        multiply, calls, kept = self.cell.dot(drops), [], iter(kept)

        def dot(a, kernel, gates=None):
            product = next(kept)
            call = [a, kernel, gates, tf.zeros_like(product)]
            calls.append(call)

            @tf.custom_gradient
            def looked_up(a, kernel):
                def gradient(dp):
                    call[-1] = dp
                    return _vjp(lambda a, k: multiply(a, k, gates), (a, kernel), dp)

                return tf.identity(product), gradient

            @tf.custom_gradient
            def looked_up_by_weight(a):
                def gradient(dp):  # for `a` alone: the weight's is left for later
                    call[-1] = dp
                    return _vjp(lambda a: multiply(a, kernel, gates), (a,), dp)

                return tf.identity(product), gradient

            if _place(kernel, self.cell.weights) is None:
                return looked_up(a, kernel)
            return looked_up_by_weight(a)

        arguments = x, states, weights
        gradients = _vjp(lambda x, s, _: masked_update(self.cell, x, s, mask, dot), arguments, ds)
        dx, before = tf.nest.map_structure(
            lambda g, like: tf.zeros_like(like) if g is None else g, gradients[:2], arguments[:2]
        )
        return dx, before, gradients[2], calls

    def hoisted(self, weights, drops, operands, dps):
        """The gradients of `weights` through `dot`: each one product over all steps."""
        multiply = self.cell.dot(drops)
        calls = [
            (a, self.cell.weights[p.weight], p.gates, dp)
            for p, a, dp in zip(self.products, operands, dps)
            if p.weight is not None
        ]

        def products(*weights):
            with self.cell.constant_weights(weights):
                return [multiply(a, kernel, gates) for a, kernel, gates, _ in calls]

        return _vjp(products, weights, [dp for *_, dp in calls])


def recurrence(step: Step, return_sequences: bool, compiled: bool, in_xla: bool) -> Callable:
    """As `loop.recurrence`, for the cell of a `step` that is repeatable.

    Args:
        compiled: Whether to have XLA compile the loops.
        in_xla: Whether it compiles all of the caller's function. Either way it would cut a
            matrix into blocks in every step, but sees that one put together from blocks
            outside has them already.
    """
    cell, products = step.cell, step.products
    by_xla = compiled or in_xla
    cut = step.cut if by_xla else lambda weights: [[w] for w in weights]
    turned = tf.transpose if by_xla else lambda w: w
    read = _read_apart if by_xla else lambda array, t, _: array.read(t)
    others = [p for p in products if not p.added]

    def forward(inputs, states, mask, drops, weights, length):
        size, (input_masks, state_masks) = _places(inputs), drops
        inputs, masks = _array(inputs), None if mask is None else _array(mask)
        before = [_empty(size + 1, s, s.shape[1]).write(0, s) for s in states]
        kept = [_empty(size, states[0], p.size) for p in others]
        xs, cut_weights = _empty(size, states[0], step.x_size), cut(weights)

        def body(t, states, before, kept, xs):
            mask_t = None if masks is None else masks.read(t)
            whole = [tf.concat(blocks, -1) for blocks in cut_weights]
            x_t = step.project(whole, read(inputs, t, length), input_masks)
            with cell.constant_weights(whole):
                states, made = step.forward(x_t, states, mask_t, state_masks)
            before = [array.write(t + 1, s) for array, s in zip(before, states)]
            apart = [p for q, p in zip(products, made) if not q.added]
            x_t = sum((p for q, p in zip(products, made) if q.added), x_t)
            kept = [array.write(t, p) for array, p in zip(kept, apart)]
            return t + 1, states, before, kept, xs.write(t, x_t)

        _, states, *arrays = tf.while_loop(
            lambda t, *_: t < length, body, (0, states, before, kept, xs)
        )
        return states, *tf.nest.map_structure(lambda array: array.stack(), arrays)

    def backward(x, mask, drops, weights, length, before, kept, dy, ds):
        size = _places(x)
        xs, masks = _array(x), None if mask is None else _array(mask)
        before, kept = [_array(s) for s in before], [_array(p) for p in kept]
        dys = None if dy is None else _array(dy)
        dxs = _empty(size, ds[0], x.shape[2])
        dps = [_empty(size, ds[0], p.size) for p in others]
        operands = [_empty(size, ds[0], p.operand_size) for p in products if p.state is None]
        direct = [tf.zeros_like(weights[k], _wide(weights[k].dtype)) for k in step.direct]
        # Transposed here, once, a matrix is used in XLA's loop as it lies in memory.
        transposed = [[turned(block) for block in blocks] for blocks in cut(weights)]

        def body(t, ds, direct, dxs, dps, operands):
            if dys is not None:
                ds = [ds[0] + dys.read(t), *ds[1:]]
            weights = [tf.concat([turned(b) for b in bs], -1) for bs in transposed]
            x_t, apart = read(xs, t, length), iter([array.read(t) for array in kept])
            made = [tf.zeros_like(x_t) if p.added else next(apart) for p in products]
            with cell.constant_weights(weights):
                dx, ds, more, calls = step.backward(
                    x_t,
                    [array.read(t) for array in before],
                    None if masks is None else masks.read(t),
                    drops,
                    made,
                    [weights[k] for k in step.direct],
                    ds,
                )
            direct = [d + tf.cast(m, d.dtype) for d, m in zip(direct, more)]
            own = [dp for p, (*_, dp) in zip(products, calls) if not p.added]
            dps = [array.write(t, dp) for array, dp in zip(dps, own)]
            made = [a for p, (a, *_) in zip(products, calls) if p.state is None]
            operands = [array.write(t, a) for array, a in zip(operands, made)]
            return t - 1, ds, direct, dxs.write(t, dx), dps, operands

        _, ds, direct, dxs, dps, operands = tf.while_loop(
            lambda t, *_: t >= 0, body, (length - 1, ds, direct, dxs, dps, operands)
        )
        stacks = [array.stack() for array in dps], [array.stack() for array in operands]
        return dxs.stack(), ds, direct, *stacks

    if compiled:
        forward = tf.function(forward, jit_compile=True, autograph=False)
        backward = tf.function(backward, jit_compile=True, autograph=False)

    def execute(weights, inputs, states, mask, drops):
        if not step.projects:
            with cell.constant_weights(weights):
                inputs = cell.project(inputs, drops[0], step.training)
        length, rows = tf.shape(inputs)[0], tf.shape(inputs)[1]
        padded = compiled and None in inputs.shape[:2]
        if padded:
            known = inputs.shape[:2]
            size = known[0] or _next(LENGTHS, length), known[1] or _next(ROWS, rows)
            inputs, mask = _padded(inputs, size), _padded(mask, size)
            states, drops = tf.nest.map_structure(lambda x: _padded(x, size[1:]), (states, drops))

        @tf.custom_gradient
        def run(*arguments):
            # An eager tape would record the loops too, in vain, if it were not for this.
            inputs, states, weights = tf.nest.map_structure(tf.stop_gradient, arguments)
            size = tf.shape(inputs)[0]
            last, before, kept, x = forward(inputs, states, mask, drops, weights, length)
            outputs = before[0][1 : size + 1] if return_sequences else last[0]

            @tf.custom_gradient
            def once(dy, *ds):
                if not return_sequences:
                    dy, ds = None, [ds[0] + dy, *ds[1:]]
                dx, ds, direct, dps, made = backward(
                    x, mask, drops[1], weights, length, before, kept, dy, list(ds)
                )
                made, dps = iter(made), iter(dps)
                operands = [next(made) if p.state is None else before[p.state] for p in products]
                dps = [dx if p.added else next(dps) for p in products]
                operands, dps = ([a[:length] for a in arrays] for arrays in (operands, dps))
                dw = step.hoisted(weights, drops[1], operands, dps)
                d_inputs, more = dx[:size], []
                if step.projects:
                    found = step.project_backward(weights, inputs, drops[0], d_inputs)
                    d_inputs, more = found[0], [(k, found[1][k]) for k in step.projected]
                for k, d in [*zip(step.direct, direct), *more]:
                    d = tf.cast(d, weights[k].dtype)
                    dw[k] = d if dw[k] is None else dw[k] + d
                return (d_inputs, *ds, *[dw[k] for k in step.used]), _no_second_derivative

            def gradient(*upstream):
                d_inputs, *rest = once(*upstream)
                ds, dw = rest[: len(states)], dict(zip(step.used, rest[len(states) :]))
                return d_inputs, *ds, *[dw.get(k) for k in range(len(weights))]

            return (outputs, *last), gradient

        outputs, *last = run(inputs, states, weights)
        if padded:
            outputs = outputs[:length, :rows] if return_sequences else outputs[:rows]
            last = [state[:rows] for state in last]
        return outputs, last

    return execute


def _no_second_derivative(*_):
    raise NotImplementedError(
        "A recurrence that derives its own backward pass has no second derivative. "
        'Build the layer with `recurrence="loop"` to have one.'
    )


def _vjp(function, arguments, dy):
    """The gradients of `function(*arguments)`'s result, weighted by `dy`; None for no path."""
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        y = function(*arguments)
    return tape.gradient(y, arguments, dy)


def _place(x, among):
    return next((k for k, y in enumerate(among) if y is x), None)


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


def _next(sizes, n):
    return tf.gather(sizes, tf.searchsorted(sizes, [n])[0])


def _padded(x, sizes):
    """x with its first axes padded to `sizes`."""
    if x is None:
        return None
    pads = [[0, size - tf.shape(x)[axis]] for axis, size in enumerate(sizes)]
    known = [size if isinstance(size, int) else None for size in sizes]
    x = tf.pad(x, pads + [[0, 0]] * (x.shape.rank - len(sizes)))
    return tf.ensure_shape(x, (*known, *x.shape[len(sizes) :]))


def _wide(dtype):
    """The type to sum up many gradients in."""
    return dtype if dtype == tf.float64 else tf.float32
