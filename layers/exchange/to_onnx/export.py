"""Models out as ONNX, which runs without TensorFlow.

The model is traced with ONNX in mind (`place.py`), tf2onnx converts what was traced, and
the result is run once beside the model.
"""

import importlib
import os

import keras
import tensorflow as tf

from layers.exchange import model_files
from layers.exchange.to_onnx import empty, fixes, nodes, place
from layers.recurrence import elsewhere

PACKAGES = "onnx", "onnxruntime", "tf2onnx"
OPSET = 18


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
    model_files.write(model, path, _as_onnx, "ONNX")


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
    inputs, outputs = model_files.names(model)
    specs = [tf.TensorSpec(x.shape, x.dtype, name) for x, name in zip(model.inputs, inputs)]

    @tf.function(input_signature=specs, autograph=False)
    def serve(*tensors):
        given = [empty.some(x) for x in tensors]
        found = keras.tree.flatten(model(model_files.packed(model, given)))
        some = tf.shape(tensors[0])[0] > 0
        return {name: empty.none_unless(some, x) for name, x in zip(outputs, found)}

    with elsewhere.traced_for(place):
        graph = serve.get_concrete_function().graph
    model_files.check_operations(graph.as_graph_def())
    handlers = {nodes.STAND_IN: nodes.converted}
    handlers |= dict.fromkeys(("Select", "SelectV2"), fixes.where)
    handlers |= {"FloorDiv": fixes.floor_div, "FloorMod": fixes.floor_mod}
    with model_files.quiet():
        made, _ = tf2onnx.convert.from_function(
            serve,
            specs,
            opset=OPSET,
            custom_op_handlers={name: (handler, []) for name, handler in handlers.items()},
        )
    for node in fixes.nodes(made.graph):
        if not onnx.defs.has(node.op_type, node.domain):
            raise ValueError(f"ONNX has nothing for TensorFlow's {node.op_type}")
    kept = ((x, inside.name) for x, inside in graph.captures if x.dtype != tf.resource)
    fixes.give_values(made.graph, {name: x.numpy() for x, name in kept})
    fixes.take_zeros_as_zeros(made.graph)
    _name_axes(made.graph, outputs)
    onnx.checker.check_model(made, full_check=True)
    data = made.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    asked_for = {x.name for x in session.get_inputs()}  # not for those that nothing uses

    def run(given):
        return session.run(outputs, {n: x for n, x in given.items() if n in asked_for})

    model_files.check_numbers(model, run, lengths=(11, 12))
    return data


def _name_axes(graph, outputs):
    """Names sizes that are free, and has the outputs in the model's order."""
    ordered = sorted(graph.output, key=lambda value: outputs.index(value.name))
    del graph.output[:]
    graph.output.extend(ordered)
    for value in (*graph.input, *graph.output):
        for axis, size in enumerate(value.type.tensor_type.shape.dim):
            if not size.HasField("dim_value"):
                size.dim_param = f"{value.name}_{axis}" if axis else "batch"
