"""Whether each row of a batch is on its own in a traced graph.

Only then may a batch be cut in two, or padded. A statistic over the batch, such as batch
normalization's, forbids both; so does any operation that is not known here, for a proof is
wanted: to run a batch whole is slower, but never wrong.

Every tensor is one of three things:

    ROWS     its first axis is the batch, and each row is made of the same row of others
    SIZE     it depends on how many rows there are, and on nothing in them
    FIXED    it depends on neither
"""

import math

import tensorflow as tf

from layers import private_apis
from layers.recurrence import own_gradients

ROWS, SIZE, FIXED = "rows", "size", "fixed"

ELEMENTWISE = {
    *("Abs", "Add", "AddV2", "AddN", "Sub", "Mul", "MulNoNan", "Div", "DivNoNan", "RealDiv"),
    *("FloorDiv", "FloorMod", "Mod", "Pow", "Square", "Sqrt", "Rsqrt", "Reciprocal", "Inv", "Exp"),
    *("Expm1", "Log", "Log1p", "Neg", "Sign", "Sin", "Cos", "Tan", "Sinh", "Cosh", "Tanh", "Asin"),
    *("Acos", "Atan", "Atan2", "Asinh", "Acosh", "Atanh", "Erf", "Erfc", "Erfinv", "Sigmoid"),
    *("Softplus", "Softsign", "Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Maximum", "Minimum"),
    *("SquaredDifference", "ClipByValue", "Greater", "GreaterEqual", "Less", "LessEqual", "Equal"),
    *("NotEqual", "LogicalAnd", "LogicalOr", "LogicalNot", "Floor", "Ceil", "Round", "Rint"),
    *("Cast", "Identity", "Snapshot", "StopGradient", "PreventGradient", "ZerosLike", "OnesLike"),
    *("SelectV2", "IsNan", "IsFinite", "IsInf", "CheckNumerics", "Xlogy", "Xdivy"),
}
REDUCTIONS = {
    *("Mean", "Sum", "Max", "Min", "Prod", "Any", "All", "EuclideanNorm", "ArgMax", "ArgMin"),
    *("Cumsum", "Cumprod", "CumulativeLogsumexp", "ReverseV2"),
}
ON_LAST_AXIS = {"Softmax", "LogSoftmax", "TopKV2"}
OF_SIZES = {
    *("StridedSlice", "Pack", "ConcatV2", "Cast", "Add", "AddV2", "Sub", "Mul", "FloorDiv"),
    *("Maximum", "Minimum", "Prod", "Identity", "GatherV2", "ExpandDims", "Squeeze", "Reshape"),
    "Slice",
}


def fault(graph: tf.Graph, rows: list[tf.Tensor]) -> str | None:
    """Why the rows of a batch may depend on each other in `graph`; None if they do not.

    Args:
        rows: The graph's arguments whose first axis is the batch, of a size not known.
    """
    kinds = {x.name: ROWS for x in rows}
    found = _fault_of(graph.get_operations(), kinds)
    ends = (_fault_of_gradient(graph, end, kinds) for end in own_gradients.ends(graph))
    return found or next(filter(None, ends), None)


def _fault_of(operations, kinds):
    for op in operations:
        given = [kinds.get(x.name, FIXED) for x in op.inputs]
        # A function with a gradient of its own ends so: what comes in goes out.
        found = given if op.type == "IdentityN" else [_kind(op, given)] * len(op.outputs)
        for y, kind in zip(op.outputs, found):
            if kind is None or (kind == ROWS and not y.shape.rank):
                return f"its rows may depend on each other: {op.type} ({op.name})"
            kinds.setdefault(y.name, kind)
    return None


def _fault_of_gradient(graph, end, kinds):
    """The same of a gradient that TensorFlow does not derive itself: else rows are on their own
    where they are forwards, and what they share gets a sum over rows."""
    given = [kinds[y.name] for y in end.outputs]
    if ROWS not in given:
        return None
    known = set(graph.get_operations())
    with graph.as_default():
        dys = [tf.compat.v1.placeholder(y.dtype, y.shape) for y in end.outputs]
        kinds.update((dy.name, kind) for dy, kind in zip(dys, given))
        try:
            found = private_apis.own_gradient(end)[0](end, *dys)
        except Exception as error:  # perhaps nobody asks for it
            return f"its rows may depend on each other in a gradient ({end.name}: {error})"
    wanted = [
        dx
        for dx, x, kind in zip(found, end.inputs, given)
        if dx is not None and (kind == ROWS or _learned(x))
    ]
    if not all(map(tf.is_tensor, wanted)):
        return f"its rows may depend on each other in a gradient ({end.name})"
    names = own_gradients.made_of(wanted, by_gradients=False)
    made = [op for op in graph.get_operations() if op not in known]
    return _fault_of([op for op in made if {y.name for y in op.outputs} & names], kinds)


def _learned(x):
    """Whether it is made of a weight, or of anything else that is given."""
    return any(name.startswith("Placeholder") for name in own_gradients.made_of([x]))


def _kind(op, given):
    """What an operation makes of such inputs; None if that is not known."""
    if ROWS not in given:
        return _of_sizes(op, given) if SIZE in given else FIXED
    if op.type in ("Shape", "ShapeN", "Size"):
        return SIZE
    if op.type == "Rank":
        return FIXED
    ranks = [x.shape.rank for x in (*op.inputs, *op.outputs)]
    if None in ranks:
        return None
    if op.type in ELEMENTWISE:
        return ROWS if _aligned(op, given) else None
    if SIZE in given and op.type not in ("Reshape", "BroadcastTo"):
        return None
    rule = RULES.get(op.type)
    return ROWS if rule and rule(op, given) else None


def _of_sizes(op, given):
    if op.type in OF_SIZES:
        return SIZE
    (out, *_) = op.outputs or [None]
    if "Random" in op.type and out is not None and out.shape.rank and out.shape[0] is None:
        return ROWS  # each number is drawn apart
    filled = op.type in ("Fill", "BroadcastTo") and given[op.type == "Fill"] != SIZE
    # The size goes into the first axis: only there is the result's not known.
    if filled and out.shape.rank and out.shape[0] is None and out.shape[1:].is_fully_defined():
        value = op.inputs[1 if op.type == "Fill" else 0]
        alike = value.shape.rank is not None and (
            value.shape.rank < out.shape.rank or value.shape[0] == 1
        )
        return ROWS if alike else None
    return None


def _aligned(op, given):
    """Whether broadcasting leaves the batch where it is, and repeats all else for each row."""
    rank = op.outputs[0].shape.rank

    def fits(x, kind):
        if kind == ROWS:
            return x.shape.rank == rank
        return kind == FIXED and (x.shape.rank < rank or x.shape[0] == 1)

    return all(map(fits, op.inputs, given))


def _static(x):
    return tf.get_static_value(x)


def _axes(x, rank):
    """The axes in a constant, counted from the front; None if it is not constant."""
    value = _static(x)
    return None if value is None else {int(a) % rank for a in value.ravel()}


def _avoids_rows(axes):
    return axes is not None and 0 not in axes


def _reduction(op, given):
    rank = op.inputs[0].shape.rank
    return given[1] == FIXED and _avoids_rows(_axes(op.inputs[1], rank))


def _on_last_axis(op, given):
    return op.inputs[0].shape.rank > 1 and ROWS not in given[1:]


def _matmul(op, given):
    return given == [ROWS, FIXED] and not op.get_attr("transpose_a")


def _batch_matmul(op, given):
    a, b = op.inputs
    rank = op.outputs[0].shape.rank
    if rank < 3 or any(k == ROWS and x.shape.rank != rank for x, k in zip((a, b), given)):
        return False
    return all(k == ROWS or x.shape.rank < rank or x.shape[0] == 1 for x, k in zip((a, b), given))


def _einsum(op, given):
    inputs, _, output = op.get_attr("equation").decode().replace(" ", "").partition("->")
    labels = inputs.split(",")
    if "." in inputs or not output:
        return False
    leading = {label[:1] for label, kind in zip(labels, given) if kind == ROWS}
    (batch, *others) = leading
    elsewhere = [label for label, kind in zip(labels, given) if kind != ROWS]
    repeated = any(label.count(batch) > 1 for label in (*labels, output))
    return not others and output[0] == batch and not repeated and batch not in "".join(elsewhere)


def _split(op, given):
    axis, x = (0, 1) if op.type == "Split" else (2, 0)
    return given[x] == ROWS and _avoids_rows(_axes(op.inputs[axis], op.inputs[x].shape.rank))


def _stack(op, given):
    axis = op.get_attr("axis") % op.outputs[0].shape.rank
    return axis != 0 and set(given) == {ROWS}


def _unstack(op, given):
    return op.get_attr("axis") % op.inputs[0].shape.rank != 0


def _concat(op, given):
    rank = op.outputs[0].shape.rank
    return set(given[:-1]) == {ROWS} and _avoids_rows(_axes(op.inputs[-1], rank))


def _strided_slice(op, given):
    if ROWS in given[1:]:
        return False
    steps = _static(op.inputs[3])
    if steps is None:
        return False
    if op.get_attr("ellipsis_mask") & 1:  # x[..., a:b]
        return len(steps) - 1 < op.inputs[0].shape.rank
    whole = op.get_attr("begin_mask") & op.get_attr("end_mask") & 1
    gone = (op.get_attr("shrink_axis_mask") | op.get_attr("new_axis_mask")) & 1
    return bool(whole) and not gone and steps[0] == 1


def _slice(op, given):
    begin, size = _static(op.inputs[1]), _static(op.inputs[2])
    return begin is not None and size is not None and begin[0] == 0 and size[0] == -1


def _gather(op, given):
    axis, batch = _static(op.inputs[2]), op.get_attr("batch_dims")
    if axis is None:
        return False
    params, indices = given[:2]
    if (params, indices) == (FIXED, ROWS):
        return axis == 0 and batch == 0
    axis = axis % op.inputs[0].shape.rank
    return params == ROWS and axis != 0 and (indices == FIXED) == (batch == 0)


def _reshape(op, given):
    if given[1] == ROWS:
        return False
    old, new = op.inputs[0].shape, op.outputs[0].shape
    known = old.rank and new.rank and old[1:].is_fully_defined() and new[1:].is_fully_defined()
    return bool(known) and new[0] is None and math.prod(old[1:]) == math.prod(new[1:])


def _transpose(op, given):
    order = _static(op.inputs[1])
    return order is not None and order[0] == 0


def _expand(op, given):
    return _avoids_rows(_axes(op.inputs[1], op.outputs[0].shape.rank))


def _squeeze(op, given):
    axes = op.get_attr("squeeze_dims")
    return bool(axes) and _avoids_rows({a % op.inputs[0].shape.rank for a in axes})


def _pad(op, given):
    amounts = _static(op.inputs[1])
    return amounts is not None and not amounts[0].any()


def _tile(op, given):
    multiples = _static(op.inputs[1])
    return multiples is not None and multiples[0] == 1


def _one_hot(op, given):
    return set(given[1:]) == {FIXED} and op.get_attr("axis") % op.outputs[0].shape.rank != 0


def _broadcast(op, given):
    out = op.outputs[0].shape
    return given[0] == ROWS and op.inputs[0].shape.rank == out.rank and given[1] != ROWS


def _select(op, given):  # whose condition may be a vector, of the rows
    return set(given) == {ROWS}


def _first_only(op, given):
    return given[0] == ROWS and set(given[1:]) == {FIXED}


RULES = {
    **dict.fromkeys(REDUCTIONS, _reduction),
    **dict.fromkeys(ON_LAST_AXIS, _on_last_axis),
    **dict.fromkeys(("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"), _batch_matmul),
    **dict.fromkeys(("Split", "SplitV"), _split),
    **dict.fromkeys(("Pad", "PadV2", "MirrorPad"), _pad),
    **dict.fromkeys(("BiasAdd", "Conv2D", "DepthwiseConv2dNative"), _first_only),
    "MatMul": _matmul,
    "Einsum": _einsum,
    "Pack": _stack,
    "Unpack": _unstack,
    "ConcatV2": _concat,
    "StridedSlice": _strided_slice,
    "Slice": _slice,
    "GatherV2": _gather,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "ExpandDims": _expand,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "OneHot": _one_hot,
    "BroadcastTo": _broadcast,
    "Select": _select,
}
