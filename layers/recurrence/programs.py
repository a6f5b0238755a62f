"""What XLA compiles, made once for all cells that compute the same.

To trace a step is quick; to make a program of it is not. So programs are kept by what was
traced (`Step.key`): two directions, two layers or two models share them, and so do all
batches, for they take any number of rows.
"""

import collections
import concurrent.futures
import contextvars
import threading
from collections.abc import Callable

import tensorflow as tf

from layers import matmul, private_apis
from layers.recurrence import derived, loop, parts, rows
from layers.recurrence.given import Given
from layers.recurrence.step import Step

KEPT = 64  # at most
_programs: dict = collections.OrderedDict()
_lock = threading.Lock()
# A gradient of theirs would need to know how often they run.
LOOPS = {"While", "StatelessWhile"}


def refusal(operations: set[str]) -> str | None:
    """Why XLA does not compile what is made of such operations; None if it does."""
    for operation in sorted(operations - {"Placeholder"}):  # an argument
        if operation in LOOPS:
            return "it has a loop inside, whose gradient XLA does not compile"
        if not private_apis.xla_compiles(operation):
            return f"XLA does not compile an operation in it: {operation}"
    return None


def training(
    step: Step, return_sequences: bool, weights: list, given: Given, on_gpu: bool
) -> tuple[derived.Passes, rows.Sizes] | str:
    """`derived.passes`, their loops compiled by XLA, and the sizes to pad to; or why not.

    Args:
        weights, given: Those of the call (inputs and mask time first), for their types and
            shapes.
    """
    length = given.inputs.shape[0]
    of_part = _specs(step, weights, given, parts.size_of(length))
    of_all = _specs(step, weights, given, length)

    def make():
        gradients = step.gradients
        why_not = refusal(gradients.operations)
        if why_not:
            return why_not
        large = any(matmul.is_large(w) for w in weights) and not on_gpu
        forms = (False, True) if large else (False,)
        loops = [derived.loops_of(step, gradients, by_xla=True, turn=turn) for turn in forms]
        run = [_Program(run, of_part, xla=True) for run, _ in loops]
        states, kept = run[0].returns
        dy = [tf.TensorSpec((of_part[1].inputs.shape[0], *kept[0][0].shape[1:]), kept[0][0].dtype)]
        dy = dy * return_sequences
        of_back = (*of_part, kept, dy, states)
        run_back = [_Program(back, of_back, xla=True) for _, back in loops]
        by_rows = _by_rows(*run), _by_rows(*run_back)
        passes = derived.passes(step, gradients, return_sequences, by_rows)
        used, forward, backward = parts.in_parts(passes, return_sequences, length, kept)
        # What surrounds the programs is traced once too.
        forward = _Program(forward, of_all)
        dy, states, kept = forward.returns
        backward = _Program(backward, (*of_all, kept, dy, states))
        return derived.Passes(used, forward, backward), _apart(rows.Sizes)

    return _kept(("training", step.key, return_sequences, on_gpu, *_signature(of_all)), make)


def inference(step: Step, return_sequences: bool, weights: list, given: Given) -> Callable | str:
    """`loop.recurrence` compiled by XLA as a whole; or why it can't be."""
    # What can't be projected step by step would be projected before, uncompiled.
    why_not = refusal(step.operations) or step.random_projection or step.dependent_projection
    if why_not:
        return why_not
    *specs, _ = _specs(step, weights, given, given.inputs.shape[0])

    def make():
        plain = loop.recurrence(step.cell, step.training, return_sequences, block=1)
        return _Program(plain, specs, xla=True)

    return _kept(("inference", step.key, return_sequences, *_signature(specs)), make)


def _specs(step, weights, given, length):
    """Of weights, of what is given, of so many steps and any number of rows, and of a length."""
    batch = None if step.dependent is None else given.inputs.shape[1]
    first = given._replace(inputs=None, mask=None).map_rows(
        lambda t: tf.TensorSpec((batch, *t.shape[1:]), t.dtype)
    )
    columns = given.inputs.shape[2] if step.projects else step.x_size
    inputs = tf.TensorSpec((length, batch, columns), given.inputs.dtype)
    mask = None if given.mask is None else tf.TensorSpec((length, batch), tf.bool)
    weights = [tf.TensorSpec(w.shape, w.dtype) for w in weights]
    return weights, first._replace(inputs=inputs, mask=mask), tf.TensorSpec((), tf.int32)


def _signature(specs):
    return [None if s is None else (tuple(s.shape), s.dtype) for s in tf.nest.flatten(specs)]


def _kept(key, make):
    key = tuple(key)
    with _lock:
        found = _programs.get(key)
    if found is None:
        found = make()  # not in the lock, for a cell may run a layer of ours
    with _lock:
        found = _programs.setdefault(key, found)
        _programs.move_to_end(key)
        while len(_programs) > KEPT:
            _programs.popitem(last=False)
    return found


def _by_rows(program, turned=None):
    """`program`, or, if there is one, for few rows the same with its large products turned."""
    if turned is None:
        return program

    def either(weights, given, *others):
        few = tf.shape(given.inputs)[1] <= matmul.FEW
        arguments = weights, given, *others
        return tf.cond(few, lambda: turned(*arguments), lambda: program(*arguments))

    return either


class _Program:
    """A function of nested tensors and Nones, traced once, and called in any graph.

    Attributes:
        returns: What it returns, as specs.
    """

    def __init__(self, function, specs, xla=False):
        def flat(*tensors):
            found = function(*_filled(specs, tensors))
            self.returns = tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), found)
            return tf.nest.flatten(found)

        flat_specs = [s for s in tf.nest.flatten(specs) if s is not None]
        compiled = tf.function(flat, jit_compile=xla or None, autograph=False)
        self._run = _apart(compiled.get_concrete_function, *flat_specs)

    def __call__(self, *arguments):
        tensors = [t for t in tf.nest.flatten(arguments) if t is not None]
        return tf.nest.pack_sequence_as(self.returns, self._run(*tensors))


def _apart(function, *arguments):
    """What a function returns in a thread of its own: where no graph, tape or strategy is."""
    here = contextvars.copy_context()  # what a cell may read is the same there
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        return thread.submit(here.run, function, *arguments).result()


def _filled(specs, tensors):
    left = iter(tensors)
    return tf.nest.map_structure(lambda s: None if s is None else next(left), specs)
