"""One step of a cell, and its vector-Jacobian product, in which the products come apart.

A product P = a · W, made by `dot`, is looked up in the backward pass instead of made again.
What is asked for there is dP · Wᵀ, which the step before needs; W's own gradient, aᵀ dP, is
left for later, to be made for many steps at once.
"""

import itertools
from collections import defaultdict
from typing import NamedTuple

import tensorflow as tf

from layers.cell import Cell
from layers.recurrence.loop import masked_update


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
        of_rows = sequences[:, 0], states, None if mask is None else mask[:, 0], drops
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


def _vjp(function, arguments, dy):
    """The gradients of `function(*arguments)`'s result, weighted by `dy`; None for no path."""
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        y = function(*arguments)
    return tape.gradient(y, arguments, dy)


def _place(x, among):
    return next((k for k, y in enumerate(among) if y is x), None)
