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
    places = {}
    for k, x in enumerate(tensors):
        places.setdefault(x.name, k)
    for op in graph.get_operations():
        if own := private_apis.own_gradient(op):
            results, arguments = op.inputs[: own[1]], op.inputs[own[1] :]
            names = made_of(results, {x.name for x in arguments})
        else:
            names = set()
            for inner, given in private_apis.graphs_inside(op):
                names |= made_of([given[k] for k in inside(inner, inner.inputs)])
        yield from {places[name] for name in names if name in places}


def made_of(
    tensors: Iterable[tf.Tensor], end_at: set[str] = frozenset(), by_gradients: bool = True
) -> set[str]:
    """The names of `tensors` and of all that they are made of, no further than `end_at`.

    Args:
        by_gradients: Whether the way ends where gradients do.
    """
    found, left = set(), list(tensors)
    while left:
        x = left.pop()
        if x.name in found or x.name in end_at:
            continue
        found.add(x.name)
        if not by_gradients or private_apis.has_gradient(x.op):
            left += x.op.inputs
    return found
