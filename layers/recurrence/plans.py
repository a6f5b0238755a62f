"""Which implementation runs a cell, and why: the facts of a call, then a plan for it.

Each plan is a function of a `Call`, that says what runs, what gives the gradient, and whether
the batch is cut; or, in a word, why it does not cover the call. The first that covers it is
taken, and the plain loop covers all.
"""

import functools
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import tensorflow as tf

from layers import private_apis
from layers.cell import CONTRACT, Cell
from layers.recurrence import cudnn, derived, elsewhere, fused, gradients, loop, programs, rows
from layers.recurrence.given import Given
from layers.recurrence.step import Step

IMPLEMENTATIONS = ("loop", "derived", "compiled", "fused")
CONDITIONS = {"If", "StatelessIf", "Case", "StatelessCase"}


@dataclass
class Call:
    """The facts of a call.

    Attributes:
        eager: Whether it runs now, and is not traced.
        in_xla: Whether it is traced for a caller that XLA compiles as a whole.
        on_gpu: Whether there is one.
        alone: Whether nothing runs beside, such as another direction.
        asked: The implementation that the caller wants, if any.
    """

    cell: Cell
    training: bool
    unroll: bool
    return_sequences: bool
    weights: list[tf.Tensor]
    given: Given  # batch first
    eager: bool
    in_xla: bool
    on_gpu: bool
    alone: bool
    asked: str | None

    @classmethod
    def here(cls, cell, training, unroll, return_sequences, weights, given, asked) -> "Call":
        call = cls(
            *(cell, training, unroll, return_sequences, weights, given),
            eager=tf.executing_eagerly(),
            in_xla=private_apis.inside_xla(),
            on_gpu=there_is_a_gpu(),
            alone=rows.may_cut(),
            asked=asked,
        )
        if call.eager:
            _look_once(call)
        return call

    @functools.cached_property
    def step(self) -> Step:
        """What is known of the cell."""
        return Step(self.cell, self.training, self.weights, self.given)

    @property
    def time_first(self) -> Given:
        """The types and shapes that a recurrence is given."""

        def turned(t):
            if t is None:
                return None
            return tf.TensorSpec((t.shape[1], t.shape[0], *t.shape[2:]), t.dtype)

        return self.given._replace(inputs=turned(self.given.inputs), mask=turned(self.given.mask))

    @property
    def depends(self) -> str | None:
        """Why rows may depend on each other."""
        return self.step.dependent or self.step.dependent_projection

    @property
    def cuts(self) -> bool:
        """Whether a batch may be cut in two.

        Not when it is served (`without_gradients`): the cores have other requests to answer, and
        the graph is smaller.
        """
        served = not (self.training or gradients.wanted())
        return self.alone and not (served or self.on_gpu or self.in_xla or self.depends)


class Plan(NamedTuple):
    """What runs.

    Attributes:
        name: One of `IMPLEMENTATIONS`.
        run: Makes a function of (weights, given) batch first; its argument makes a recurrence,
            time first, such a one (and is told whether a condition may be built).
        what: In a few words.
        instead_of: Why others that were tried before it do not cover the call.
    """

    name: str
    run: Callable
    what: str
    instead_of: tuple[str, ...] = ()


def plan(call: Call) -> Plan:
    """What runs: what was asked for, if it covers the call; else what is fast here.

    In a graph that is traced for elsewhere, what runs there.
    """
    if place := elsewhere.place():
        return place.plan(call)
    makers = {"loop": plain, "derived": own_backward, "compiled": by_xla, "fused": one_operation}
    order, refused = _order(call), []
    for name in order:
        found = makers[name](call)
        if isinstance(found, Plan):
            return found._replace(instead_of=tuple(refused))
        refused.append(f"{name}: {found}")
    raise AssertionError(order)


def _order(call):
    """What to try, and in which order.

    `benchmarks/recurrence.py` measures what stands behind it. A graph for inference may be
    exported and has to run where XLA is not; so XLA is left to training, and to callers that
    compile the whole of their function. (Who exports a layer that is called with
    `training=True`, to draw dropout masks when it serves, has to ask for "derived".)
    """
    if call.eager or call.unroll:
        return ["loop"]
    if call.asked:
        rest = ["derived"] if call.asked == "compiled" and call.training else []
        return list(dict.fromkeys([call.asked, *rest, "loop"]))
    if call.training:
        on_cudnn = ["fused"] if call.on_gpu else []
        return [*on_cudnn, *(["compiled"] if not call.in_xla else []), "derived", "loop"]
    return ["loop"] if call.in_xla else ["fused", "loop"]


def plain(call: Call) -> Plan:
    """A loop; in inference several steps at a time, which has the plain one's gradient."""
    forward, what, has_small_gradient = _loop(call)
    if has_small_gradient:
        return Plan("loop", forward, what)
    return Plan("loop", _with_plain_gradient(call, forward), what)


def _loop(call):
    """The loop that is fastest forwards, as `Plan.run`; what it is; whether TensorFlow's own
    gradient of it will do."""
    how = call.cell, call.training, call.return_sequences
    if call.eager:
        execute = loop.recurrence(*how, unroll=call.unroll)
        what = "step by step, since it is called eagerly"
        return (lambda batch_first: batch_first(execute, not call.training)), what, True
    step, may_skip = call.step, not (call.training or call.in_xla)
    # A block may run a step more often than once.
    if call.training or call.unroll or step.acts or not step.projects:
        execute = loop.recurrence(*how, unroll=call.unroll, assigned=step.assigned)
        what = "every step in the graph" if call.unroll else "a loop, a step at a time"
        what += f" ({step.not_derivable})" if step.not_derivable else ""
        return (lambda batch_first: batch_first(execute, may_skip)), what, True
    if call.given.inputs.shape[1] in range(1, loop.BLOCK + 1) and not call.in_xla:
        fast, what = loop.recurrence(*how, unroll=True), "every step in the graph, for they are few"
    else:
        block = 1 if call.in_xla else loop.BLOCK
        fast = loop.recurrence(*how, block=block)
        what = f"a loop, {block} steps at a time" if block > 1 else "a loop, a step at a time"

    def run(batch_first):
        execute = batch_first(fast, may_skip)
        if call.cuts:  # traced once for the whole and for both halves
            execute = rows.in_halves(tf.function(execute, autograph=False))
        return execute

    # With something from outside, it is the only one that is whole.
    return run, what + _rows(call), bool(step.not_derivable or call.in_xla)


def _with_plain_gradient(call, run):
    """`run`, a `Plan.run`, with the gradient of the loop that takes a step at a time."""
    one = loop.recurrence(call.cell, call.training, call.return_sequences)
    may_skip = not (call.training or call.in_xla)
    return lambda batch_first: loop.differentiable(run(batch_first), batch_first(one, may_skip))


def own_backward(call: Call) -> Plan | str:
    """The derived backward pass, in a graph or in what the caller has XLA compile."""
    step = call.step
    if step.not_derivable:
        return step.not_derivable
    if not call.in_xla and CONDITIONS & step.operations:
        # Of d + d in a branch it makes 2 · d, which comes out with no value and no shape.
        return "TensorFlow's graph optimizer spoils the gradient of a condition in such a loop"
    why_not = programs.refusal(step.gradients.operations) if call.in_xla else None
    if why_not:
        return why_not
    loops = derived.loops_of(step, step.gradients, by_xla=call.in_xla)
    passes = derived.passes(step, step.gradients, call.return_sequences, loops)
    execute = derived.recurrence(step, call.return_sequences, passes)

    def run(batch_first):
        whole = batch_first(execute, False)
        return rows.in_halves(whole, always=True) if call.cuts else whole

    where = "within what the caller compiles" if call.in_xla else "without XLA"
    return Plan("derived", run, f"a backward pass of its own, {where}" + _rows(call))


def by_xla(call: Call) -> Plan | str:
    """What XLA compiles: the derived backward pass, and in inference the loop."""
    if call.in_xla:
        return own_backward(call) if call.training else plain(call)
    step = call.step
    if step.not_derivable:
        return step.not_derivable
    how = step, call.return_sequences, call.weights, call.time_first
    found = programs.training(*how, call.on_gpu) if call.training else programs.inference(*how)
    if isinstance(found, str):
        return found
    if call.training:
        passes, sizes = found
        execute = derived.recurrence(step, call.return_sequences, passes)

        def run(batch_first):
            whole = batch_first(execute, False)
            return whole if call.depends else rows.in_equal_parts(whole, call.cuts, sizes)

        what = "a backward pass of its own, compiled by XLA"
    else:

        def forward(batch_first):
            whole = batch_first(found, True)
            return rows.in_halves(whole) if call.cuts else whole

        run = _with_plain_gradient(call, forward)
        what = "a loop compiled by XLA"
    return Plan("compiled", run, what + _rows(call))


def one_operation(call: Call) -> Plan | str:
    """An operation for all steps: cuDNN's in training, with its gradient; in inference also
    TensorFlow's, with the plain loop's gradient."""
    cell, drops = call.cell, call.given.drops
    in_one_op = bool(cell.all_steps())
    if not (in_one_op or cell.cudnn_mode):
        return "no operation of TensorFlow's or cuDNN's does the steps of such a cell"
    if call.in_xla:
        return "XLA has no such operation"
    if drops[1]:
        return "recurrent dropout is on"
    if call.training and call.on_gpu and cell.cudnn_mode:
        own = cudnn.recurrence(cell, call.return_sequences, training=True)
        what = f"cuDNN ({cell.cudnn_mode}), in training with its own gradient"
        return Plan("fused", lambda batch_first: batch_first(own, False), what)
    if drops[0]:
        return "dropout is on"
    (looped, looped_what, _), what = _loop(call), []
    if in_one_op:
        few = "" if call.asked else f" below {fused.FEW} rows"
        what.append(f"TensorFlow's operation for all steps{few}")
    if cell.cudnn_mode:
        what.append(f"cuDNN ({cell.cudnn_mode}) where it runs on a GPU")
    if not (call.asked and in_one_op):
        what.append(looped_what)

    def forward(batch_first):
        execute = looped(batch_first)
        if in_one_op:
            fast = batch_first(fused.recurrence(cell, call.return_sequences), True)
            execute = fast if call.asked else fused.for_few_rows(fast, execute)
        if cell.cudnn_mode:
            on_cudnn = batch_first(cudnn.recurrence(cell, call.return_sequences), True)
            execute = cudnn.on_any_device(execute, on_cudnn)
        return execute

    return Plan("fused", _with_plain_gradient(call, forward), "; else ".join(what))


def _rows(call):
    if call.cuts:
        return f"; from {rows.FEW} rows on in two halves"
    return f"; the batch whole ({call.depends})" if call.depends else ""


def there_is_a_gpu() -> bool:
    return bool(tf.config.list_logical_devices("GPU"))


def runs_on_cudnn(cell: Cell) -> bool:
    """Whether cuDNN has this cell, and there is a GPU to run it."""
    return bool(cell.cudnn_mode) and not cell.recurrent_dropout and there_is_a_gpu()


_looked_at = weakref.WeakKeyDictionary()


def _look_once(call):
    """Finds out at the first eager call what a cell does that no loop can do."""
    flat = [t for t in tf.nest.flatten(call.given[1:]) if t is not None]
    kind = (call.training, *((t.shape.rank, t.dtype) for t in flat))
    seen = _looked_at.setdefault(call.cell, set())
    if kind not in seen:
        try:
            _ = call.step
        except Exception as error:
            if CONTRACT in str(error):
                raise
            # What only runs eagerly may; what does not says so itself.
        seen.add(kind)
