"""Models out as ONNX, which runs without TensorFlow.

The model is traced with ONNX in mind (`place.py`), tf2onnx converts what was traced, and
the result is run once beside the model.
"""

import bisect
import contextlib
import importlib
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from layers.exchange.to_onnx import empty, fixes, nodes, place
from layers.recurrence import elsewhere

PACKAGES = "onnx", "onnxruntime", "tf2onnx"
OPSET = 18
CANNOT = {
    "Random": "it draws random numbers, as if in training",
    "Assign": "it keeps numbers for the next call, as with `stateful` (in a "
    "`layers.streaming_model` they go out and come in)",
}


def export_onnx(model: keras.Model, path: str | os.PathLike) -> None:
    """Writes `model`, for inference, as an ONNX file; beside `model.export`, a SavedModel.

    An LSTM, a GRU or a plain RNN of this package becomes the node `LSTM`, `GRU` or `RNN` of
    ONNX's, a `Bidirectional` of them one node; any other cell a `Loop`. The batch and every
    length stay as free as the model's inputs leave them. A mask may leave out any step.

    The file's inputs have the names of the model's. Its outputs have the keys of the model's
    dict, or else the names of the layers that they come from, with _0, _1, … if those are several
    of one. In ONNX a name is that of one tensor: so an output with an input's name, such as a
    state of a `streaming_model`, is called "new_" and that name.

    Args:
        model: A functional or a built sequential model.
        path: The file's path. Nothing is left there if the model can't be exported.

    Raises:
        ImportError: If one of the packages is missing that this needs.
        ValueError: If a layer does what ONNX can't, or what comes out differs from the model on
            random inputs. The message names the layer.
    """
    _packages()
    if not getattr(model, "inputs", None):
        raise ValueError(
            f"`{model.name}` ({type(model).__name__}) can't be exported to ONNX: only a functional "
            "or a built sequential model says what goes in. Call it in one: "
            "`keras.Model(inputs, model(inputs))`."
        )
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs, model.outputs, name=model.name)
    try:
        data = _as_onnx(model)
    except Exception as error:
        raise _refusal(model, error) from error
    _write(Path(path), data)


def _packages():
    try:
        return [importlib.import_module(name) for name in PACKAGES]
    except ImportError as error:
        raise ImportError(
            f"`export_onnx` needs {', '.join(PACKAGES)}, and importing them failed ({error}): "
            f"pip install {' '.join(PACKAGES)}. serving/requirements.txt has the versions that "
            "are tested."
        ) from error


def _as_onnx(model):
    """The file's bytes."""
    onnx, onnxruntime, tf2onnx = _packages()
    inputs, outputs = _names(model)
    specs = [tf.TensorSpec(x.shape, x.dtype, name) for x, name in zip(model.inputs, inputs)]

    @tf.function(input_signature=specs, autograph=False)
    def serve(*tensors):
        given = [empty.some(x) for x in tensors]
        found = keras.tree.flatten(model(_packed(model, given)))
        some = tf.shape(tensors[0])[0] > 0
        return {name: empty.none_unless(some, x) for name, x in zip(outputs, found)}

    with elsewhere.traced_for(place):
        _check_operations(serve.get_concrete_function().graph.as_graph_def())
    handlers = {nodes.STAND_IN: nodes.converted}
    handlers |= dict.fromkeys(("Select", "SelectV2"), fixes.where)
    with _quiet():
        made, _ = tf2onnx.convert.from_function(
            serve,
            specs,
            opset=OPSET,
            custom_op_handlers={name: (handler, []) for name, handler in handlers.items()},
        )
    for node in fixes.nodes(made.graph):
        if not onnx.defs.has(node.op_type, node.domain):
            raise ValueError(f"ONNX has nothing for TensorFlow's {node.op_type}")
    fixes.take_zeros_as_zeros(made.graph)
    _name_axes(made.graph, outputs)
    onnx.checker.check_model(made, full_check=True)
    data = made.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    _check_numbers(model, session, dict(zip(inputs, model.inputs)), outputs)
    return data


def _names(model):
    """Those of the inputs and of the outputs, each once."""
    inputs = [x.name for x in model.inputs]
    if isinstance(model.output, dict):
        paths = [path for path, _ in keras.tree.flatten_with_path(model.output)]
        outputs = ["_".join(map(str, path)) for path in paths]
    else:
        outputs = list(keras.Model(model.inputs, model.outputs).output_names)
    outputs = [f"new_{name}" if name in inputs else name for name in outputs]
    for name in {name for name in outputs if outputs.count(name) > 1}:
        for k, i in enumerate([i for i, other in enumerate(outputs) if other == name]):
            outputs[i] = f"{name}_{k}"
    return inputs, outputs


def _packed(model, tensors):
    return keras.tree.pack_sequence_as(model.input, tensors)


def _check_operations(graph):
    found = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    operations = sorted({node.op for node in found})
    for part, why in CANNOT.items():
        for operation in operations:
            if part in operation:
                raise ValueError(f"{why}: {operation}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Inside, nothing is logged: the converter tells of shapes that it finds out later."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _name_axes(graph, outputs):
    """Names sizes that are free, and has the outputs in the model's order."""
    ordered = sorted(graph.output, key=lambda value: outputs.index(value.name))
    del graph.output[:]
    graph.output.extend(ordered)
    for value in (*graph.input, *graph.output):
        for axis, size in enumerate(value.type.tensor_type.shape.dim):
            if not size.HasField("dim_value"):
                size.dim_param = f"{value.name}_{axis}" if axis else "batch"


def _check_numbers(model, session, inputs, outputs):
    """Runs both, on random inputs."""
    random = np.random.default_rng(0)
    given = {name: _drawn(x, random) for name, x in inputs.items()}
    try:
        expected = model(_packed(model, [tf.constant(x) for x in given.values()]))
    except Exception:  # it does not take such inputs, and there is nothing to compare with
        return
    asked_for = {x.name for x in session.get_inputs()}  # not for those that nothing uses
    found = session.run(outputs, {n: x for n, x in given.items() if n in asked_for})
    for name, x, y in zip(outputs, found, keras.tree.flatten(expected)):
        y = keras.ops.convert_to_numpy(y)
        if x.shape != y.shape:
            raise ValueError(f"`{name}` comes out in the shape {x.shape}, and is {y.shape} here")
        tolerance = 1e-4 if y.dtype in ("float32", "float64") else 1e-2
        if y.dtype.kind == "f" and not np.allclose(x, y, tolerance, tolerance, equal_nan=True):
            raise ValueError(f"`{name}` is off by up to {np.nanmax(np.abs(x - y)):.2g}")


def _drawn(x, random):
    shape = [size or (11 if axis else 2) for axis, size in enumerate(x.shape)]
    if keras.backend.is_float_dtype(x.dtype):
        return random.normal(size=shape).astype(x.dtype)
    return random.integers(2, size=shape).astype(x.dtype)


def _refusal(model, error):
    why = " ".join(re.sub(r"\x1b\[\d*m", "", str(error)).split())[:400].rstrip(".")
    layer = _first_that_fails(model)
    what = f"`{layer.name}` ({type(layer).__name__})" if layer else f"`{model.name}`"
    return ValueError(
        f"{what} can't be exported to ONNX: {why}. Take it out of the model, and do its work "
        "before or behind; or export a SavedModel, `model.export(folder)`."
    )


def _first_that_fails(model):
    """The first layer up to which the model can't be exported; None if each can."""
    calls = []

    def call(layer, *args, **kwargs):
        outputs = layer(*args, **kwargs)
        calls.append((layer, outputs))
        return outputs

    connected = keras.models.clone_model(
        keras.Model(model.inputs, model.outputs),
        clone_function=lambda layer: layer,
        call_function=call,
    )

    def fails(count):
        made = [outputs for _, outputs in calls[: count + 1]]
        try:
            _as_onnx(keras.Model(connected.inputs, keras.tree.flatten(made)))
        except Exception:
            return True
        return False

    first = bisect.bisect_left(range(len(calls)), True, key=fails)
    return calls[first][0] if first < len(calls) else None


def _write(path, data):
    """All or nothing."""
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
