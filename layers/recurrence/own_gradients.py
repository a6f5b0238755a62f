"""Functions inside of a step that have a gradient of their own: `tf.custom_gradient`, and what is
made with it, such as `tf.recompute_grad`.

In a graph such a function ends in an operation that hands on its results and its arguments. What is
found here is found on the way back from the results, which ends at the arguments.
"""

from collections.abc import Iterable, Iterator

import tensorflow as tf

from layers import private_apis


def ends(graph: tf.Graph) -> list[tf.Operation]:
    """Where such functions end in `graph`, in its order."""
    return [op for op in graph.get_operations() if private_apis.own_gradient(op)]


def inside(graph: tf.Graph, tensors: list[tf.Tensor]) -> Iterator[int]:
    """The places, among `tensors`, of those that such a function uses otherwise than as an
    argument: its gradient is not theirs."""
    names = {}
    for k, x in enumerate(tensors):
        names.setdefault(x.name, k)
    for end in ends(graph):
        used = [bool(y.consumers()) for y in end.outputs]  # of arguments none is
        arguments = {x.name for x, u in zip(end.inputs, used) if not u}
        results = [x for x, u in zip(end.inputs, used) if u]
        yield from {names[name] for name in made_of(results, arguments) if name in names}


def made_of(tensors: Iterable[tf.Tensor], end_at: set[str] = frozenset()) -> set[str]:
    """The names of `tensors` and of all that they have gradients to, no further than `end_at`."""
    found, left = set(), list(tensors)
    while left:
        x = left.pop()
        if x.name in found or x.name in end_at:
            continue
        found.add(x.name)
        if x.op.type not in ("StopGradient", "PreventGradient"):
            left += x.op.inputs
    return found
