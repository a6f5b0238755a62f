"""One step of a cell: what is known of it before any runs, and its vector-Jacobian product.

A product P = a · W, made by `dot`, is looked up in the backward pass instead of made again.
What is asked for there is dP · Wᵀ, which the step before needs; W's own gradient, aᵀ dP, is
left for later, to be made for many steps at once.
"""

import contextlib
import functools
import itertools
from collections import defaultdict
from typing import NamedTuple

import keras
import tensorflow as tf

from layers import private_apis
from layers.cell import CONTRACT, Cell
from layers.recurrence import own_gradients, rowwise
from layers.recurrence.given import Given
from layers.recurrence.loop import masked_update
from layers.recurrence.vjp import has_gradient, vjp

ROWS = 5040  # to trace with: no cell has as many columns, and cells that join rows can halve it
DRAWS = "Random", "Multinomial", "TruncatedNormal", "RngBit"  # in the names of operations


class Product(NamedTuple):
    """One call of `dot` in a step, with (batch, columns)."""

    state: int | None  # which of the states it multiplies, if one as it came
    weight: int | None  # which of the weights by, if one as it is
    gates: tuple[int, int] | None
    operand_size: int
    size: int
    added: bool  # whether all that is done with it is to add it to x, and with x to add it


class Step:
    """One step of a cell, traced, and its vector-Jacobian product.

    Attributes:
        products: A `Product` for each call of `dot` with (batch, columns).
        hoists: Whether a weight's gradient through `dot` may be made for many steps at once.
        x_size: How many columns `project` makes.
        assigned: The places, in the list of weights, of those that a step assigns.
        not_derivable: Why an update cannot be run again in the backward pass, such as that it
            depends on something other than its arguments; or None.
        acts: Whether an update does more than compute, so that it must run once for each step:
            assigns, prints, draws numbers that another run would not draw again.
        random_projection: The same of `project`, which is then run once, for all steps.
        dependent: Why the rows of a batch may depend on each other in `update`; or None.
        dependent_projection: The same of `project`.
        operations: The types of TensorFlow's operations that both are made of.
        key: Equal for steps that are the same function.
    """

    def __init__(self, cell: Cell, training: bool, weights: list[tf.Tensor], given: Given):
        self.cell, self.training = cell, training
        self._called = private_apis.call_values(training)
        self._weights = [tf.TensorSpec(w.shape, w.dtype) for w in weights]
        count, rows = len(cell.weights), given.inputs.shape[0]
        try:
            self._trace(_one_step(given, None))
        except Exception as error:
            if rows is None or CONTRACT in str(error):
                raise
            # Does it need to know how many rows there are? If not, it fails again.
            self._trace(_one_step(given, rows))
        if len(cell.weights) != count:
            raise ValueError(
                f"`{type(cell).__name__}` makes weights in `project` or `update`: build the layers "
                f"that it uses in its `build`. {CONTRACT}"
            )

    def _trace(self, given: Given):
        self._given = given
        projection, (update, new) = self._trace_projection(given), self._trace_update(given)
        written = [g.as_graph_def() for g in (projection, update)]
        self.operations = {
            node.op
            for g in written
            for nodes in (g.node, *(f.node_def for f in g.library.function))
            for node in nodes
        }
        written = [g.SerializeToString(deterministic=True) for g in written]
        self.key = (self.training, *written, tuple(self.products), tuple(n.name for n in new))

    def _trace_projection(self, given) -> tf.Graph:
        cell, projection = self.cell, private_apis.new_graph("project")
        with projection.as_default(), _nothing_assigned():
            weights, inputs, masks = _placeholders((self._weights, given.inputs, given.drops[0]))
            with self.within(weights) as scope, cell.explained():
                x = tf.identity(cell.project(inputs, masks, self.training))
        if any(_place(v, cell.weights) is not None for v in scope.assigned):
            raise NotImplementedError(
                f"`{type(cell).__name__}.project` assigns a weight, {scope.assigned[0].path}: do "
                f"it in `update`, which is run step by step. {CONTRACT}"
            )
        self._refuse_forgotten("project", projection, weights)
        self.random_projection = _outside(projection)
        self.dependent_projection = _dependent(projection, [inputs, *(masks or ())])
        self.x_size = x.shape[-1]
        self._x = tf.TensorSpec((given.inputs.shape[0], self.x_size), x.dtype)
        return projection

    def _trace_update(self, given) -> tuple[tf.Graph, list[tf.Tensor]]:
        """(the graph, the new states in it)."""
        cell, graph, called = self.cell, private_apis.new_graph("update"), []
        with graph.as_default(), _nothing_assigned():
            weights, x, given = _placeholders((self._weights, self._x, given))
            multiply = cell.dot(given.drops[1])

            def dot(a, kernel, gates=None):
                p = multiply(a, kernel, gates)
                here = tf.compat.v1.get_default_graph() is graph
                called.append((here, a, kernel, gates, p))
                return p

            with self.within(weights) as scope:
                new = cell.new_states(x, given.states, dot, given.constants)
            new = [tf.identity(n) for n in new]
        recurrent = getattr(cell, "recurrent_kernel", None)
        if given.drops[1] and not any(kernel is recurrent for _, _, kernel, *_ in called):
            raise ValueError(
                f"`{type(cell).__name__}` has `recurrent_dropout`, and `update` multiplies by no "
                "`self.recurrent_kernel` itself with `dot`, which is what applies it: write "
                "`dot(h, self.recurrent_kernel)`, not something made of it, or leave "
                f"`recurrent_dropout` at 0. {CONTRACT}"
            )
        self._left_alone = self._of_other_rows([a for _, a, *_ in called], given.states)
        counted = [call for call, alone in zip(called, self._left_alone) if not alone]
        calls, astray = (
            [call for here, *call in counted if here is there] for there in (True, False)
        )
        added = _added(x, [p for *_, p in calls])
        self.products = []
        for (a, kernel, gates, p), is_added in zip(calls, added):
            weight = _place(kernel, cell.weights)
            weight = _place(kernel, weights) if weight is None else weight
            state = _place(a, given.states)
            sizes = a.shape[-1], p.shape[-1]
            self.products.append(Product(state, weight, gates, *sizes, is_added))
        self._refuse_forgotten("update", graph, weights)
        self.assigned = sorted({_place(v, cell.weights) for v in scope.assigned} - {None})
        self.acts, outside = bool(scope.assigned) or _acts(graph), _outside(graph)
        if [*own_gradients.inside(graph, [p for *_, p in calls])]:
            outside = "it calls `dot` inside of a function with a gradient of its own"
        of_rows = [x, *(t for t in tf.nest.flatten(given[1:]) if t is not None)]
        self.dependent = _dependent(graph, of_rows)
        # Not if products of many steps' rows might be others than of one's.
        self.hoists = not (self.dependent and cell.own_product)
        self.not_derivable = self._why_not(x, given, calls, astray) or outside
        if scope.assigned and not self.not_derivable:
            self.not_derivable = f"it assigns {scope.assigned[0].path}"
        if self.assigned:
            self.dependent = self.not_derivable
        return graph, new

    def _refuse_forgotten(self, method, graph, weights) -> None:
        """Raises an error if a weight would get no gradient, as weights are no variables here."""
        for k in own_gradients.inside(graph, weights):
            weight, name = self.cell.weights[k], type(self.cell).__name__
            if weight.trainable:
                raise NotImplementedError(
                    f"`{name}.{method}` uses `{weight.path}` inside of a function with a gradient "
                    "of its own (`tf.custom_gradient`, `tf.recompute_grad`), from which it would "
                    f"get none: hand it to that function as an argument. {CONTRACT}"
                )

    def _why_not(self, x, given, calls, astray) -> str | None:
        """Why the backward pass can't run an update again, by what it does with its arguments; None
        if it can."""
        if self.assigned:
            return f"it assigns {self.cell.weights[self.assigned[0]].path}"
        if astray:
            return "it calls `dot` inside of a condition or a loop"
        integers = [k for k, s in enumerate(given.states) if not s.dtype.is_floating]
        if integers:
            return f"its state {integers[0]} is not floating"
        types = {t.dtype for t in (x, given.states[0], *(p for *_, p in calls))}
        if len(types) > 1:
            return f"it computes in several types: {', '.join(sorted(t.name for t in types))}"
        if self._learns_masks(given):
            return "its dropout masks have gradients"
        if self._learns_dot():
            return "its own `dot` has a weight, and multiplies by what is none"
        return None

    def _of_other_rows(self, operands, states) -> list[bool]:
        """Of each call of `dot`, whether its operand is no (batch, columns). Such a product is left
        as it is, and so is its gradient."""
        left = [tf.TensorShape(a.shape).rank != 2 for a in operands]
        if all(alone or _place(a, states) is not None for alone, a in zip(left, operands)):
            return left
        rows, shapes = self._given.inputs.shape[0] or ROWS, []

        def dot(a, kernel, gates=None):
            shapes.append(tf.TensorShape(a.shape))
            return multiply(a, kernel, gates)

        x = tf.TensorSpec((rows, self.x_size), self._x.dtype)
        try:
            with private_apis.new_graph("rows").as_default(), _nothing_assigned():
                some = (self._weights, x, _one_step(self._given, rows))
                weights, x, given = _placeholders(some)
                multiply = self.cell.dot(given.drops[1])
                with self.within(weights):
                    self.cell.new_states(x, given.states, dot, given.constants)
        except Exception:  # it asks for another number of rows
            return left
        if len(shapes) != len(operands):  # it does something else with a known number of rows
            return left
        return [shape.rank != 2 or shape[0] != rows for shape in shapes]

    def _learns_dot(self) -> bool:
        """Whether a weight inside of `dot` has a gradient that is not found where `dot` multiplies
        by a weight, for all steps at once."""
        if not self.cell.own_product or all(p.weight is not None for p in self.products):
            return False
        called = []

        def dot(a, kernel, gates=None):
            p = multiply(a, kernel, gates)
            called.append((a, kernel, p))
            return p

        with private_apis.new_graph("dot").as_default(), _nothing_assigned():
            weights, x, given = _placeholders((self._weights, self._x, self._given))
            multiply = self.cell.dot(given.drops[1])
            with self.within(weights):
                self.cell.new_states(x, given.states, dot, given.constants)
            floating = [w for w in weights if has_gradient(w.dtype)]
            counted = [call for call, alone in zip(called, self._left_alone) if not alone]
            for product, (a, kernel, p) in zip(self.products, counted):
                if product.weight is None:
                    still = [a, tf.convert_to_tensor(kernel)]
                    if any(g is not None for g in tf.gradients(p, floating, stop_gradients=still)):
                        return True
        return False

    def _learns_masks(self, given: Given) -> bool:
        """Whether a gradient goes through the dropout masks, which a cell may make itself."""
        cell = self.cell
        if not any(given.drops) or type(cell).dropout_masks is Cell.dropout_masks:
            return False
        graph = private_apis.new_graph("dropout_masks")
        with graph.as_default(), _nothing_assigned():
            weights, inputs, states = _placeholders(
                (self._weights, self._given.inputs, self._given.states)
            )
            with self.within(weights):
                masks = cell.dropout_masks(inputs, states, self.training)
            masks = [m for m in tf.nest.flatten(masks) if m is not None]
            sources = [t for t in (*weights, inputs, *states) if has_gradient(t.dtype)]
            return any(g is not None for g in tf.gradients(masks, sources))

    # --- Which weights are used, and how -------------------------------------------------

    @functools.cached_property
    def gradients(self) -> "Gradients":
        """What is known of the vector-Jacobian product before it runs."""
        given = self._given
        projection = private_apis.new_graph("project_gradient")
        with projection.as_default():
            w, inputs, masks = _placeholders((self._weights, given.inputs, given.drops[0]))
            dx = tf.ones_like(self.project(w, inputs, masks))
            of_weights = self.project_backward(w, inputs, masks, dx)[1]
        projected = [k for k, g in enumerate(of_weights) if g is not None and self.projects]
        graph = private_apis.new_graph("update_gradient")
        with graph.as_default():
            w, x, given = _placeholders((self._weights, self._x, given))
            new, kept = self.forward(x, w, given)
            found = self.backward(x, w, range(len(w)), given, kept, new)
            of_dot = self.hoisted(w, given.drops[1], found.operands, found.products)
        direct, hoisted = (
            [k for k, gradient in enumerate(gradients) if gradient is not None]
            for gradients in (found.weights, of_dot)
        )
        used = sorted({*direct, *hoisted, *projected})
        operations = {op.type for g in (projection, graph) for op in g.get_operations()}
        return Gradients(direct, used, operations | self.operations)

    @property
    def projects(self) -> bool:
        """Whether `project` is run in each step, and not once for all."""
        return self.random_projection is None and self.dependent_projection is None

    @functools.cached_property
    def widths(self) -> dict[int, list[int]]:
        """For a weight's place, the widths of the blocks of columns that it is used in."""
        weights, edges = self.cell.weights, defaultdict(set)
        for p in self.products:
            if p.weight is not None and p.gates:
                edges[p.weight].update(gate * self.cell.units for gate in p.gates)
        for name, masks in zip(("kernel", "recurrent_kernel"), self._given.drops):
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

    # --- Running it ----------------------------------------------------------------------

    @contextlib.contextmanager
    def within(self, weights):
        """Inside, the cell's weights are these, and layers that it calls train if it does."""
        with private_apis.called_with(self._called), self.cell.constant_weights(weights) as scope:
            yield scope

    def project(self, weights, inputs, masks):
        if not self.projects:
            return inputs
        with self.within(weights):
            return self.cell.project(inputs, masks, self.training)

    def project_backward(self, weights, inputs, masks, dx):
        """Returns: (the inputs' gradient, those of `weights`)."""
        return vjp(lambda i, w: self.project(w, i, masks), (inputs, weights), dx)

    def forward(self, x, weights, given: Given):
        """Returns: (the new states, the `products`)."""
        multiply, kept, left_alone = self.cell.dot(given.drops[1]), [], iter(self._left_alone)

        def dot(a, kernel, gates=None):
            product = multiply(a, kernel, gates)
            if not next(left_alone):
                kept.append(product)
            return product

        with self.within(weights):
            return masked_update(self.cell, x, given, dot), kept

    def backward(self, x, weights, direct, given: Given, kept, ds) -> "Backward":
        """The vector-Jacobian product with `ds`, the gradients of the new states.

        Args:
            direct: The places of the weights whose gradients are wanted here: through all
                but `dot`.
            kept: What `forward` returned as such.
        """
        multiply, operands = self.cell.dot(given.drops[1]), []
        left = left_alone = current = None

        # The product is an argument of its own: so its gradient is found also where what was
        # multiplied has none. (A weight's is left for later.)
        def dot(a, kernel, gates=None):
            if next(left_alone):
                return multiply(a, kernel, gates)
            operands.append(a)
            known, product = next(left)
            if known.weight is None:
                factors = [tf.convert_to_tensor(kernel)]
            else:
                factors = [] if self.hoists else [w for w in current if has_gradient(w.dtype)]

            @tf.custom_gradient
            def looked_up(product, *factors):
                def gradient(dp):
                    def again(a, *factors):
                        # Of these weights: an update may differentiate this gradient again.
                        weights, by = current, kernel
                        if known.weight is None:
                            (by,) = factors
                        elif factors:
                            own = iter(factors)
                            weights = [next(own) if has_gradient(w.dtype) else w for w in current]
                        with self.within(weights):
                            return multiply(a, by, gates)

                    return dp, *vjp(again, factors, dp)

                return tf.identity(product), gradient

            return looked_up(product, a, *factors)

        _, states, constants = given.differentiable
        arguments = x, states, [weights[k] for k in direct], constants, list(kept)

        def step(x, states, of_direct, constants, kept):
            nonlocal left, left_alone, current
            left, left_alone = zip(self.products, kept), iter(self._left_alone)
            own = dict(zip(direct, of_direct))
            current = [own.get(k, w) for k, w in enumerate(weights)]
            with self.within(current):
                of_step = given.replaced(None, states, constants)
                return masked_update(self.cell, x, of_step, dot)

        dx, ds, of_weights, of_constants, dps = vjp(step, arguments, ds)

        def dense(gradients, like):
            return [tf.zeros_like(y) if g is None else g for g, y in zip(gradients, like)]

        return Backward(
            dense([dx], [x])[0],
            dense(ds, given.states),
            of_weights,
            dense(of_constants, constants),
            operands,
            dense(dps, kept),
        )

    def hoisted(self, weights, drops, operands, dps):
        """The gradients of `weights` through `dot`: each one product over all steps."""
        calls = [
            (a, p.weight, p.gates, dp)
            for p, a, dp in zip(self.products, operands, dps)
            if p.weight is not None and self.hoists
        ]
        if self.cell.own_product and calls and calls[0][0].shape.rank == 3:
            # It may count axes: so all steps' rows stand below each other.
            steps = tf.shape(calls[0][0])[0]
            calls = [(_rows(a), k, gates, _rows(dp)) for a, k, gates, dp in calls]
            drops = drops and [tf.tile(mask, [steps, 1]) for mask in drops]
        multiply = self.cell.dot(drops)

        def products(*weights):
            with self.within(weights):
                variables = self.cell.weights
                return [multiply(a, variables[k], gates) for a, k, gates, _ in calls]

        return vjp(products, weights, [dp for *_, dp in calls])


class Gradients(NamedTuple):
    """Which gradients a step has.

    Attributes:
        direct: The places, in the list of weights, of those used outside of `dot`.
        used: Of those, of those used in it, and of those that `project` uses.
        operations: The types of the operations that step and gradients are made of.
    """

    direct: list[int]
    used: list[int]
    operations: set[str]


class Backward(NamedTuple):
    """What `Step.backward` finds.

    Attributes:
        x, states, weights, constants: Their gradients; of the weights asked for, in their
            order; of the constants that are floating.
        operands: What each `dot` multiplied.
        products: The gradients of what each returned.
    """

    x: tf.Tensor
    states: list[tf.Tensor]
    weights: list[tf.Tensor | None]
    constants: list[tf.Tensor]
    operands: list[tf.Tensor]
    products: list[tf.Tensor]


def _one_step(given: Given, rows: int | None) -> Given:
    """What a single step is given, as specs for so many rows."""
    inputs, mask = given.inputs, given.mask
    one = given._replace(
        inputs=tf.TensorSpec((rows, inputs.shape[-1]), inputs.dtype),
        mask=None if mask is None else tf.TensorSpec((rows,), mask.dtype),
    )
    return one.map_rows(lambda t: tf.TensorSpec((rows, *t.shape[1:]), t.dtype))


def _placeholders(specs):
    return tf.nest.map_structure(
        lambda s: None if s is None else tf.compat.v1.placeholder(s.dtype, s.shape), specs
    )


def _nothing_assigned():
    """A scope in which assigning a variable is without effect: so that a look leaves no trace."""
    return keras.StatelessScope(initialize_variables=False)


def _outside(graph):
    """Why what a graph computes depends on something other than its arguments; or None."""
    if drawn := _draws(graph):
        return drawn
    if graph.captures:
        external, _ = graph.captures[0]
        what = "variable" if external.dtype == tf.resource else "tensor"
        name = getattr(external, "name", "")
        return (
            f"it reads a {what} from outside that is neither a weight of its own nor among its "
            f"`constants` {name}".strip()
        )
    stateful = (op for op in graph.get_operations() if op.op_def.is_stateful)
    op = next(stateful, None)
    return op and f"it does more than compute: {op.type} ({op.name})"


def _acts(graph):
    """Whether something is other than before when it has run."""
    harmless = "ReadVariable", "ResourceGather"
    stateful = [op.type for op in graph.get_operations() if op.op_def.is_stateful]
    return any(not any(word in type_ for word in harmless) for type_ in stateful)


def _draws(graph):
    """Which random numbers are drawn in it; or None."""
    for op in graph.get_operations():
        if any(word in op.type for word in DRAWS):
            return f"it draws random numbers ({op.name})"
    return None


def _dependent(graph, of_rows):
    """Why rows may depend on each other in it; or None."""
    if any(t.shape[0] is not None for t in of_rows):
        return "it needs to know how many rows there are"
    # By a seed that is a constant, half of a batch would get other numbers.
    drawn = None if graph.captures else _draws(graph)
    return drawn or rowwise.fault(graph, of_rows)


def _rows(x):
    """(steps, batch, columns) to (steps · batch, columns)."""
    return tf.reshape(x, [-1, x.shape[-1]])


def _added(x, products):
    """Of each product, whether it is but added to x: x + p, then the sum + another p, and so on.

    Then the backward pass can do with the sum, and 0 for p. It cannot if x or p is used in any
    other way, with or without a gradient.
    """
    names = {p.name: k for k, p in enumerate(products)}
    added = [False] * len(products)
    total = x
    while True:
        readers = total.consumers()
        if len(readers) != 1 or readers[0].type not in ("AddV2", "Add"):
            return added
        (sum_,) = readers
        other = [y for y in sum_.inputs if y.name != total.name]
        if len(other) != 1 or other[0].name not in names:
            return added
        (p,) = other
        place = names[p.name]
        if len(p.consumers()) != 1 or not p.shape.is_compatible_with(total.shape):
            return added
        if p.shape.rank != total.shape.rank or p.shape[-1] != total.shape[-1]:
            return added
        added[place] = True
        total = sum_.outputs[0]


def _place(x, among):
    return next((k for k, y in enumerate(among) if y is x), None)
