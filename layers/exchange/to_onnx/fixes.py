"""Where the converter's ONNX is not what TensorFlow computes, put right."""

from collections.abc import Iterator

import numpy as np

WHOLE = {2, 3, 4, 5, 6, 7, 12, 13}  # types of whole numbers, as ONNX numbers them


def where(graph, node, *_) -> None:
    """tf2onnx's handler of `Select` and `SelectV2`.

    Its own adds up condition · x + (1 − condition) · y: one infinite number where the condition
    leaves it out, such as in a masked step, makes NaN of the other.
    """
    rank = len(graph.get_shape(node.input[1]))
    if node.type == "Select" and len(graph.get_shape(node.input[0])) == 1 < rank:
        # TensorFlow's condition is for whole rows, and ONNX's is broadcast from the last axis.
        column = graph.make_const(f"{node.name}_column", np.array([-1] + [1] * (rank - 1)))
        rows = graph.make_node("Reshape", [node.input[0], column.output[0]])
        graph.replace_input(node, node.input[0], rows.output[0], 0)
    node.type = "Where"


def floor_mod(graph, node, *_) -> None:
    """tf2onnx's handler of `FloorMod`, whose own takes ONNX's `Div` for whole numbers, which rounds
    towards zero."""
    if graph.get_dtype(node.input[0]) in WHOLE:
        node.type = "Mod"  # as in Python
        return
    (a, b), known = node.input, _taken_out(graph, node)
    rest = graph.make_node("Mod", [a, b], attr={"fmod": 1}).output[0]  # with the sign of a
    zero = _made(graph, "Sub", b, b)
    signs = _made(graph, "Xor", *(_made(graph, "Less", x, zero) for x in (rest, b)))
    some = _made(graph, "Not", _made(graph, "Equal", rest, zero))
    added = _made(graph, "Add", rest, b)
    graph.make_node("Where", [_made(graph, "And", some, signs), added, rest], **known)


def floor_div(graph, node, *_) -> None:
    """tf2onnx's handler of `FloorDiv`, as `floor_mod`."""
    a, b = node.input
    whole, known = graph.get_dtype(a) in WHOLE, _taken_out(graph, node)
    if whole:  # a − a mod b is a multiple of b
        rest = _made(graph, "Sub", a, _made(graph, "Mod", a, b))
        graph.make_node("Div", [rest, b], **known)
    else:
        graph.make_node("Floor", [_made(graph, "Div", a, b)], **known)


def _taken_out(graph, node):
    """What a node in its place is to have."""
    known = {"outputs": node.output, "shapes": node.output_shapes, "dtypes": node.output_dtypes}
    graph.remove_node(node.name)
    return known


def _made(graph, kind, *inputs):
    return graph.make_node(kind, list(inputs)).output[0]


def give_values(graph, values: dict[str, np.ndarray]) -> None:
    """Makes constants of inputs that nobody is to feed: tensors that a layer holds."""
    from onnx import numpy_helper

    for value in [value for value in graph.input if value.name in values]:
        graph.input.remove(value)
        graph.initializer.append(numpy_helper.from_array(values[value.name], value.name))


def take_zeros_as_zeros(graph) -> None:
    """Has each `Reshape` to a computed shape take a 0 in it as that, and not as "the old size".

    Without it, a sequence of no steps fails.
    """
    constants = {tensor.name for one in graphs(graph) for tensor in one.initializer}
    for node in nodes(graph):
        if node.op_type == "Constant":
            constants.update(node.output)
    for node in nodes(graph):
        if node.op_type == "Reshape" and node.input[1] not in constants:
            node.attribute.add(name="allowzero", type=2, i=1)  # 2 is INT


def graphs(graph) -> Iterator:
    """An ONNX graph, and those within its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs(attribute.g)


def nodes(graph) -> Iterator:
    """All nodes of an ONNX graph, also those within others."""
    return (node for one in graphs(graph) for node in one.node)
