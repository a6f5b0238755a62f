"""Models out as LiteRT (once TensorFlow Lite), which runs on phones and smaller.

The model is traced with LiteRT in mind (`place.py`), TensorFlow's converter converts what was
traced, and the result is run twice beside the model.
"""

import os
import re

import keras
import numpy as np
import tensorflow as tf

from layers import private_apis
from layers.exchange import model_files
from layers.exchange.to_litert import fused, place
from layers.recurrence import elsewhere

QUANTIZE = None, "dynamic", "int8"


def export_litert(
    model: keras.Model,
    path: str | os.PathLike,
    batch_size: int = 1,
    quantize: str | None = None,
    examples=None,
) -> None:
    """Writes `model`, for inference, as a LiteRT file of builtin operations alone.

    An LSTM that starts from zeros, and whose last states nothing asks for, becomes LiteRT's
    operation for all of its steps, also each direction of a `Bidirectional`; any other layer of
    this package a loop. The batch has a fixed size; every length stays as free as the model's
    inputs leave it, from one step on: after a sequence of none, LiteRT's interpreter may answer
    wrongly, so make a new one then. A mask may leave out any step.

    The file's one signature has the inputs and outputs under the names of `export_onnx`.

    Args:
        model: A functional or a built sequential model.
        path: The file's path. Nothing is left there if the model can't be exported.
        batch_size: The number of rows, where the model leaves it open.
        quantize: "dynamic": weights in 8 bits, a quarter of the size. "int8": also what is
            computed, where LiteRT can; inputs and outputs stay as they are. None: neither.
        examples: For "int8", inputs as the model takes them, some hundred rows of real data: what
            comes up in them is what 8 bits are spread over.

    Raises:
        ImportError: If ai-edge-litert is missing.
        ValueError: If a layer does what LiteRT can't, for "int8" also if a loop has a fixed length
            of more than 256 steps, or if LiteRT's interpreter refuses the file; or if what comes
            out, before it is quantized, differs from the model on random inputs. The message names
            the layer.
    """
    try:
        from ai_edge_litert import interpreter  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"`export_litert` needs ai-edge-litert, and importing it failed ({error}): pip install "
            "ai-edge-litert. serving/requirements.txt has the version that is tested."
        ) from error
    if quantize not in QUANTIZE:
        raise ValueError(
            "Received an invalid value for argument `quantize`, expected one of "
            f"{QUANTIZE}, got {quantize!r}."
        )
    if (quantize == "int8") != (examples is not None):
        raise ValueError("`export_litert` needs `examples` for `quantize='int8'`, and only there.")
    if examples is not None:
        examples = _checked_examples(examples, model, batch_size)

    def convert(model):
        whole = _as_litert(model, batch_size)  # which has to be right to the last digit
        return _as_litert(model, batch_size, quantize, examples) if quantize else whole

    model_files.write(model, path, convert, "LiteRT")


def _checked_examples(examples, model, batch_size):
    """`examples`, as Keras reads them."""
    inputs = getattr(model, "inputs", None)
    rows, least = len(keras.tree.flatten(examples)[0]), batch_size
    if inputs and inputs[0].shape[0]:
        least = inputs[0].shape[0]
    if rows < least:
        raise ValueError(
            f"`export_litert` got {rows} rows of `examples` for a batch of {least}: give at "
            "least as many, some hundred are better."
        )
    if inputs and isinstance(examples, dict):
        names = [*model.input] if isinstance(model.input, dict) else [x.name for x in inputs]
        if {*examples} != {*names}:
            raise ValueError(f"`examples` must be of {names}, got {sorted(examples)}.")
        if not isinstance(model.input, dict):
            return [examples[name] for name in names]
    elif inputs and len(keras.tree.flatten(examples)) != len(inputs):
        raise ValueError(f"`examples` must be of {len(inputs)} inputs.")
    return examples


def _as_litert(model, batch_size, quantize=None, examples=None):
    """The file's bytes."""
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_litert.tools import flatbuffer_utils

    inputs, outputs = model_files.names(model)
    sizes = [[x.shape[0] or batch_size, *x.shape[1:]] for x in model.inputs]
    specs = [tf.TensorSpec(s, x.dtype, n) for s, x, n in zip(sizes, model.inputs, inputs)]
    assigned, values = [], [(variable, variable.numpy()) for variable in model.variables]

    @tf.function(input_signature=specs, autograph=False)
    def serve(*tensors):
        constants = [(variable, tf.constant(value)) for variable, value in values]
        with keras.StatelessScope(constants) as scope:
            found = keras.tree.flatten(model(model_files.packed(model, list(tensors))))
        given = {id(value) for _, value in constants}
        assigned.extend(x for x in scope.state_mapping.values() if id(x) not in given)
        return dict(zip(outputs, found))

    with elsewhere.traced_for(place.calibrated if quantize == "int8" else place):
        traced = serve.get_concrete_function()
    model_files.check_operations(traced.graph.as_graph_def())
    if assigned:
        raise ValueError(model_files.CANNOT["Assign"])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced], tf.Module())
    private_apis.write_in_place(converter)
    if quantize:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "int8":
        converter.representative_dataset = lambda: _batches(examples, sizes, inputs)
    with model_files.quiet():
        try:
            data = converter.convert()
        except Exception as error:
            lacking = sorted(set(re.findall(r"'tf\.(\w+)'", str(error))))
            if not lacking:
                raise
            raise ValueError(f"LiteRT has nothing for TensorFlow's {', '.join(lacking)}") from None
    content = flatbuffer_utils.read_model_from_bytearray(bytearray(data))
    fused.start_from_zeros(content)
    _drop_names(content)
    data = bytes(flatbuffer_utils.convert_object_to_bytearray(content))
    runner = Interpreter(model_content=data).get_signature_runner()
    asked_for = runner.get_input_details()  # not for those that nothing uses

    def run(given):
        found = runner(**{name: x for name, x in given.items() if name in asked_for})
        return [found[name] for name in outputs]

    if not quantize:
        # The second time at the same length, nothing of the first may be left.
        model_files.check_numbers(model, run, batch_size, lengths=(11, 4, 4))
    else:
        if examples is None:
            ((given, _), *_) = model_files.taken(model, batch_size, (11,))
        else:
            given = next(_batches(examples, sizes, inputs))
        try:
            run(given)
        except RuntimeError as error:
            way_out = " quantize='dynamic' is as small." if quantize == "int8" else ""
            raise model_files.FaultyRuntime(
                f"`{model.name}` can't be exported to LiteRT with quantize={quantize!r}: its "
                f"interpreter refuses what its converter made ({error}).{way_out}"
            ) from None
    return data


def _drop_names(content):
    """Of what is neither input nor output: the converter's can be half of a file."""
    for graph in content.subgraphs:
        told = {*graph.inputs, *graph.outputs}
        for k, tensor in enumerate(graph.tensors):
            if k not in told:
                tensor.name = None


def _batches(examples, sizes, names):
    """Rows of `examples` by the inputs' names, as many at a time as the file takes."""
    arrays = [np.asarray(x) for x in keras.tree.flatten(examples)]
    rows = sizes[0][0]
    for first in range(0, len(arrays[0]) - rows + 1, rows):
        yield dict(zip(names, (x[first : first + rows] for x in arrays)))
