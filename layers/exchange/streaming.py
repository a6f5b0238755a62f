"""Streams: a sequence in chunks of any length, the states going in and coming out.

A server forgets everything between two requests. So the client holds the states, and a
model made of layers of this package gives them away and takes them back:

    outputs, states = stream(chunk, states)

Over any chunking the outputs are those of the whole sequence, as long as nothing in the
model looks at a step other than the recurrent layers, and these look back only.
"""

import inspect
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from keras import layers as k
from keras import ops

from layers import private_apis
from layers.exchange import checks, model_files
from layers.recurrence.gradients import without_gradients
from layers.rnn import RNN
from layers.time_distributed import TimeDistributed

# What treats each step by itself: layers, and operations of `keras.ops` by their names …
STEPWISE = {
    *(k.Dense, k.Embedding, k.Masking, TimeDistributed, k.Identity, k.Rescaling),
    *(k.Dropout, k.SpatialDropout1D, k.AlphaDropout, k.GaussianDropout, k.GaussianNoise),
    *(k.Activation, k.ReLU, k.LeakyReLU, k.ELU, k.ActivityRegularization),
    *(k.Add, k.Subtract, k.Multiply, k.Average, k.Maximum, k.Minimum),
    *("Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Power", "Negative", "Absolute"),
    *("Square", "Sqrt", "Exp", "Log", "Maximum", "Minimum", "Clip", "Where", "Cast", "ExpandDims"),
    *("Relu", "Sigmoid", "Tanh", "Silu", "Gelu", "Softplus"),
    *("Equal", "NotEqual", "Less", "LessEqual", "Greater", "GreaterEqual"),
    *("LogicalAnd", "LogicalOr", "LogicalNot"),
}
# … and what does if its axis is the last, and that is not time.
STEPWISE_ON_LAST_AXIS = {
    *(k.Concatenate, k.Softmax, k.Normalization, k.UnitNormalization),
    *(k.LayerNormalization, k.RMSNormalization, k.BatchNormalization),
    *("Concatenate", "Softmax", "Any", "All", "Sum", "Mean", "Max", "Min"),
}

# Activations treat each number by itself, but for these.
OVER_THE_LAST_AXIS = {
    *(keras.activations.softmax, keras.activations.log_softmax),
    *(keras.activations.sparsemax, keras.activations.glu),
    *(ops.softmax, ops.log_softmax, tf.nn.softmax, tf.nn.log_softmax),
}
ELEMENTWISE = "relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "softplus"
ELEMENTWISE += "softsign", "sigmoid", "tanh"
ACTIVATIONS = [
    *filter(inspect.isfunction, vars(keras.activations).values()),
    *OVER_THE_LAST_AXIS,
    *(getattr(place, name) for place in (ops, tf.nn) for name in ELEMENTWISE),
]


def streaming_model(model: keras.Model, mask: str | None = None) -> keras.Model:
    """`model`, with the states of its recurrent layers as inputs and outputs.

    It shares the weights of `model`. Time is the second axis of its inputs, but for numbers
    of a fixed size, (batch, features), and for inputs that only `constants` of recurrent layers
    are made of: these are the same for each step.

    Args:
        model: A functional or sequential model, its recurrent layers of this package.
        mask: The name of one more input, (batch, time) booleans, if there shall be one:
            False marks a step to leave out, such as padding behind a shorter chunk.

    Returns:
        A model from a dict to a dict. Inputs: those of `model`, of any length, and for each
        recurrent layer "NAME_state_0", "NAME_state_1", …, (batch, its size). Outputs: those
        of `model`, by the names of their layers or the keys of its dict, and the new
        states, by the names of the old. The output of a layer that returns its last step
        only is what it is after this chunk.

    Raises:
        ValueError: If a layer looks ahead, or at more than one step (the message names it).
    """
    if not getattr(model, "inputs", None):
        raise ValueError(
            f"`{model.name}` ({type(model).__name__}) can't stream: only a functional or a built "
            "sequential model says how its layers are connected."
        )
    recurrent = [layer for layer in model.layers if isinstance(layer, RNN)]
    whole = _only_of_constants(recurrent)
    inputs = {x.name: _streamed(x, id(x) in whole) for x in model.inputs}
    states = {layer.name: _state_inputs(layer) for layer in recurrent}
    real = None if mask is None else keras.Input((None,), dtype="bool", name=mask)
    new_states = {}
    # What is known of tensors: one value for each step, or one that changes with each chunk.
    each_step = {
        id(x)
        for x, old in zip(inputs.values(), model.inputs)
        if _has_time(old) and id(old) not in whole
    }
    so_far = set()

    def call(layer, *args, **kwargs):
        given = {id(x) for x in keras.tree.flatten((args, kwargs))}
        if not given & each_step:
            outputs = layer(*args, **kwargs)
            if given & so_far:
                so_far.update(map(id, keras.tree.flatten(outputs)))
            return outputs
        if kwargs.get("training"):
            raise _refusal(layer, "it is called with `training=True`")
        if isinstance(layer, RNN):
            if layer.name in new_states:
                raise _refusal(layer, "it is called twice, and has one set of states")
            arguments = inspect.signature(layer.call).bind(*args, **kwargs).arguments
            constants = {id(c) for c in arguments.get("constants") or ()}
            if constants & (each_step | so_far):
                raise _refusal(layer, "its `constants` are made of what streams")
            outputs, last = _go_on(layer, arguments, states[layer.name], real)
            new_states[layer.name] = last
            first, *rest = keras.tree.flatten(outputs)
            (each_step if layer.return_sequences else so_far).add(id(first))
            so_far.update(map(id, rest))
            return outputs
        if given & so_far:
            raise _refusal(layer, "it joins single steps with what only the last step decides")
        if type(layer) is k.TimeDistributed:  # which counts rows in place of steps
            layer = TimeDistributed(layer.layer, dtype=layer.dtype_policy, name=layer.name)
        _check_stepwise(layer, (args, kwargs), each_step)
        outputs = layer(*args, **kwargs)
        each_step.update(map(id, keras.tree.flatten(outputs)))
        return outputs

    # Cloned are only the connections. The states come in as inputs that `model` does not use.
    asked = {} if real is None else {mask: real}
    flat = [*asked.values(), *(x for of_layer in states.values() for x in of_layer)]
    with_states = keras.Model([*model.inputs, *flat], model.outputs)
    connected = keras.models.clone_model(
        with_states,
        input_tensors=[*inputs.values(), *flat],
        clone_function=lambda layer: layer,
        call_function=call,
    )
    if not new_states:
        raise ValueError(
            f"`{model.name}` can't stream: no recurrent layer of this package reads an input "
            "over time, (batch, time, …)."
        )
    used = {x.name: x for name in new_states for x in states[name]}
    news = {x.name: new for name in new_states for x, new in zip(states[name], new_states[name])}
    taken = {*inputs, *asked, *used}
    outputs = dict(zip(_output_names(model, with_states, taken), connected.outputs))
    return keras.Model({**inputs, **asked, **used}, {**outputs, **news}, name=model.name)


def streaming_signatures(
    model: keras.Model, mask: str | None = None
) -> dict[str, tuple[Callable, dict[str, tf.TensorSpec]]]:
    """The signatures of a SavedModel that streams, for `keras.export.ExportArchive`.

    `initial_state` takes `batch_size`, an int32 scalar, and returns the states before the
    first step. `stream` takes a chunk and the states, and returns the outputs and the new
    states: they go back in with the next chunk, under the names they came out with.

    Args:
        model, mask: As in `streaming_model`, which also says what raises a ValueError.

    Returns:
        {name: (function, {input name: tf.TensorSpec})}. The function takes the inputs in
        the order of the specs, and returns a dict. In the graph an error that names the
        input is raised if a number is not finite, or a batch is not as large as the others.
    """
    streaming = streaming_model(model, mask)
    given = streaming.input.items()
    inputs = {name: tf.TensorSpec(x.shape, x.dtype, name) for name, x in given}
    recurrent = {layer.name: layer for layer in model.layers if isinstance(layer, RNN)}
    states = [name for name in streaming.output if name in inputs]

    @tf.function(input_signature=list(inputs.values()), autograph=False)
    def stream(*tensors):
        with without_gradients():
            return streaming(checks.inputs(inputs, tensors), training=False)

    batch_size = tf.TensorSpec([], tf.int32, "batch_size")

    @tf.function(input_signature=[batch_size], autograph=False)
    def initial_state(batch_size):
        batch_size = checks.batch_size(batch_size)
        nested = {n: layer.get_initial_state(batch_size) for n, layer in recurrent.items()}
        values = {
            f"{name}_state_{i}": state
            for name, nest in nested.items()
            for i, state in enumerate(keras.tree.flatten(nest))
        }
        return {name: tf.cast(values[name], inputs[name].dtype) for name in states}

    return {
        "stream": (stream, inputs),
        "initial_state": (initial_state, {"batch_size": batch_size}),
    }


def _has_time(x):
    tokens = not keras.backend.is_float_dtype(x.dtype)
    return len(x.shape) > 2 or (len(x.shape) == 2 and (tokens or x.shape[1] is None))


def _only_of_constants(recurrent):
    """The inputs that `constants` are made of and nothing that is read step by step."""
    calls = [
        (inspect.signature(layer.call).bind(*args, **kwargs).arguments)
        for layer in recurrent
        for args, kwargs in private_apis.calls_of(layer)
    ]
    constants = private_apis.made_of([c for call in calls for c in call.get("constants") or ()])
    sequences = private_apis.made_of([call["sequences"] for call in calls])
    return {id(x) for x in constants} - {id(x) for x in sequences}


def _streamed(x, whole):
    shape = (None, *x.shape[2:]) if _has_time(x) and not whole else x.shape[1:]
    return keras.Input(shape, dtype=x.dtype, name=x.name)


def _state_inputs(layer):
    sizes = keras.tree.flatten(layer.state_size)
    named = [f"{layer.name}_state_{i}" for i in range(len(sizes))]
    begun = keras.tree.flatten(layer.get_initial_state(batch_size=1))
    types = [x.dtype if x.dtype.is_integer else layer.compute_dtype for x in begun]
    return [keras.Input((n,), dtype=t, name=name) for n, t, name in zip(sizes, types, named)]


def _go_on(layer, arguments, states, real):
    """(what `layer` returns, its last states), if it starts from `states`."""
    if (type(layer).call, type(layer)._run) != (RNN.call, RNN._run):
        raise _refusal(layer, "it has a `call` of its own")
    sequences, mask = arguments["sequences"], arguments.get("mask")
    if mask is None:
        mask = getattr(sequences, "_keras_mask", None)  # as Keras hands it on
    for wrong, why in (
        (layer.go_backwards, "it starts at the last step (`go_backwards`)"),
        (layer.stateful, "it keeps its states itself (`stateful`)"),
        (arguments.get("initial_state") is not None, "it is given an `initial_state`"),
        (not layer._all_ours, "its cell is not a `layers.Cell`"),
        (
            layer.zero_output_for_mask and not layer.return_sequences,
            "whether its last output is zero (`zero_output_for_mask`) is not in its states",
        ),
    ):
        if wrong:
            raise _refusal(layer, why)
    if mask is not None and len(mask.shape) == 3:
        mask = mask[:, :, 0]
    handed_on = mask
    if real is not None:
        mask = real if mask is None else ops.logical_and(mask, real)
    if mask is not None and not layer.zero_output_for_mask:
        begun = layer.get_initial_state(batch_size=1)
        (first, *_) = keras.tree.flatten(begun[-1] if _stacked(layer) else begun)
        if np.any(first):
            raise _refusal(
                layer,
                "before the first step that counts the whole sequence has zeros, and a stream the "
                "cell's initial state, which is not zero. `zero_output_for_mask=True` helps",
            )
    run = RNN(
        layer.cell,
        return_sequences=layer.return_sequences,
        return_state=True,
        zero_output_for_mask=layer.zero_output_for_mask,
        recurrence=layer.recurrence,
        dtype=layer.dtype_policy,
        name=layer.name,
    )
    nested = keras.tree.pack_sequence_as(list(layer.state_size), states)
    constants = arguments.get("constants")
    further = {"constants": constants} if constants else {}
    output, *last = run(sequences, initial_state=nested, mask=mask, **further)
    if mask is not None and not layer.zero_output_for_mask:
        # Until a step counts, the output repeats the one before the chunk: the first state.
        (before, *_) = keras.tree.flatten(nested[-1]) if _stacked(layer) else states
        if layer.return_sequences:
            counts = ops.cumsum(ops.cast(mask, "int32"), axis=1) > 0
            output = ops.where(ops.expand_dims(counts, -1), output, ops.expand_dims(before, 1))
            if handed_on is not None:
                output._keras_mask = handed_on
        else:
            output = ops.where(ops.any(mask, axis=1, keepdims=True), output, before)
    last_flat = keras.tree.flatten(last)
    return ((output, *last_flat) if layer.return_state else output), last_flat


def _stacked(layer):
    return isinstance(layer.cell, k.StackedRNNCells)


def _check_stepwise(layer, given, each_step):
    kind = type(layer) if isinstance(layer, keras.Layer) else type(layer).__name__
    args, kwargs = given
    if id(kwargs.get("mask")) in each_step:  # of whatever rank
        kwargs = {name: x for name, x in kwargs.items() if name != "mask"}
    tensors = keras.tree.flatten((args, kwargs))
    rank, *others = {len(x.shape) for x in tensors if id(x) in each_step} or {0}
    beside = [tuple(np.shape(x)) for x in tensors if id(x) not in each_step]
    if others or any(len(shape) > rank for shape in beside):
        raise _refusal(layer, "it joins what has more axes, so that time is not one of them")
    for shape in beside:
        if isinstance(kind, type):  # to Keras's layers (batch, features) is the same for each step
            along = shape[1:2] if len(shape) == rank else ()
        else:
            along = _along_time(shape, rank)
        if along and along[0] != 1:
            raise _refusal(layer, "it joins each step with one of its own that does not stream")
    # An array of Rescaling, Masking or Clip may lie along time.
    for held in ("scale", "offset", "mask_value", "x_min", "x_max"):
        along = _along_time(tuple(np.shape(getattr(layer, held, 0))), rank)
        if along and along[0] != 1:
            raise _refusal(layer, f"its `{held}` has a number for each step")
    if kind in STEPWISE and getattr(layer, "axis", -1) == -1:
        return _check_activation(layer, rank)
    if kind in STEPWISE_ON_LAST_AXIS:
        axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
        if rank > 2 and all(axis in (-1, rank - 1) for axis in axes):
            return
    if isinstance(layer, k.Bidirectional):
        raise _refusal(layer, "it reads from the last step too")
    if isinstance(layer, k.RNN):
        raise _refusal(layer, f"it is Keras's. layers.{type(layer).__name__} takes its weights")
    raise _refusal(
        layer,
        "it is not known to treat each step by itself. If it does, put it into a "
        "`layers.TimeDistributed`",
    )


def _along_time(shape, rank):
    """The size that an operation with `rank` axes, the second of them time, lays along time."""
    return shape[1:2] if len(shape) == rank else shape[: len(shape) == rank - 1]


def _check_activation(layer, rank):
    activation = getattr(layer, "activation", None)
    if type(layer) in (k.Dense, k.Masking) and rank < 3:
        raise _refusal(layer, "it is over time")
    if activation is None or type(activation) in STEPWISE:
        return
    if any(activation is one for one in OVER_THE_LAST_AXIS) and rank < 3:
        raise _refusal(layer, f"its `activation`, {activation.__name__}, is over time")
    if not any(activation is one for one in ACTIVATIONS):
        raise _refusal(
            layer,
            "its `activation` is not one that is known to treat each step by itself. "
            "If it does, put the layer into a `layers.TimeDistributed`",
        )


def _refusal(layer, why):
    return ValueError(f"`{layer.name}` ({type(layer).__name__}) can't stream: {why}.")


def _output_names(model, with_states, taken):
    if not isinstance(model, keras.Sequential) and isinstance(model.output, dict):
        names = model_files.by_path(model.output)
    else:
        names = with_states.output_names
    if len({*names} | taken) < len(names) + len(taken):
        raise ValueError(
            f"`{model.name}` can't stream: its outputs have the names {names}, its inputs and "
            f"states {sorted(taken)}. Give outputs names of their own: "
            "`keras.Model(inputs, {name: output, …})`."
        )
    return names
