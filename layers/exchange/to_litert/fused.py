"""LiteRT's operation for all steps of an LSTM, UNIDIRECTIONAL_SEQUENCE_LSTM.

The converter makes it of a function that says, in an attribute, that it implements an LSTM, and
has the right arguments. What is inside of the function runs only where something asks for the last
states: these the operation does not give away, and the converter leaves the function as it is.

The operation starts from the states that it ended with the last time, as if the sequence went on.
`start_from_zeros` puts an end to that, in what the file will hold.
"""

import uuid
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from layers.cell import Cell
from layers.recurrence import loop, plans
from layers.recurrence.fused import at_steps, in_front
from layers.recurrence.given import Given

STATES = slice(18, 20)  # of the operation's inputs: h and c


def covers(call: plans.Call) -> bool:
    """Whether the operation does the very steps of this cell, from states of zeros."""
    cell, given = call.cell, call.given
    usual = cell.cudnn_mode == "lstm" and cell.compute_dtype == "float32" and not any(given.drops)
    states = [tf.get_static_value(state) for state in given.states]
    return usual and all(state is not None and not state.any() for state in states)


def recurrence(cell: Cell, return_sequences: bool, looped: Callable, unroll: bool) -> Callable:
    """As `loop.recurrence`, for a call that is covered.

    Args:
        looped: The same by `loop.recurrence`. It gives the last states where steps are left out;
            nothing of it is in the file if nobody asks for them.
        unroll: Whether to write out the steps that the operation stands for.
    """

    def execute(weights, given):
        inputs, mask, (zeros, _) = given.inputs, given.mask, given.states
        if mask is None:
            outputs, last = _all_steps(cell, weights, given, unroll)
            if return_sequences:
                return outputs, last
            return outputs[-1], last
        inputs, done, in_all = in_front(inputs, mask)
        given_in_front = given._replace(inputs=inputs, mask=None)
        outputs, _ = _all_steps(cell, weights, given_in_front, unroll)
        outputs = tf.concat([zeros[None], outputs], 0)
        return at_steps(done if return_sequences else in_all, outputs), looped(weights, given)[1]

    return execute


def _all_steps(cell, weights, given, unroll):
    """All outputs, (time, batch, units), and the last states."""

    def steps(inputs, h, c, *weights):
        run = loop.recurrence(cell, False, True, unroll=unroll)
        outputs, last = run(weights, Given(inputs, [h, c]))
        return outputs[-1], outputs, *last, tf.ones(())

    name = {"api_implements": f"lstm_{uuid.uuid4()}", "time_major": True, "go_backwards": False}
    function = tf.function(steps, autograph=False, experimental_attributes=name)
    no_bias = [] if cell.use_bias else [tf.zeros(4 * cell.units)]
    weights = [tf.identity(w) for w in (*weights, *no_bias)]
    _, outputs, *last, _ = function(given.inputs, *given.states, *weights)
    return outputs, last


def start_from_zeros(content) -> None:
    """Fills the operations' states with zeros before each is run, in a file's content."""
    from ai_edge_litert import schema_py_generated as schema

    operators = schema.BuiltinOperator
    lstm = operators.UNIDIRECTIONAL_SEQUENCE_LSTM
    codes = {k for k, code in enumerate(content.operatorCodes) if code.builtinCode == lstm}
    if not codes:
        return
    fill = schema.OperatorCodeT()
    fill.builtinCode = fill.deprecatedBuiltinCode = operators.FILL
    fill.version = 3  # the first for 8 and 16 bits
    content.operatorCodes.append(fill)
    types = schema.TensorType
    widths = {types.FLOAT32: np.float32, types.INT8: np.int8, types.INT16: np.int16}

    def constant(graph, kind, value, like=None):
        buffer, tensor = schema.BufferT(), schema.TensorT()
        buffer.data = np.frombuffer(value.tobytes(), np.uint8)
        content.buffers.append(buffer)
        tensor.buffer = len(content.buffers) - 1
        tensor.type, tensor.shape = kind, list(value.shape)
        tensor.quantization, tensor.hasRank = like and like.quantization, True
        graph.tensors.append(tensor)
        return len(graph.tensors) - 1

    def zero_of(tensor):
        found = np.zeros((), widths[tensor.type])
        if tensor.quantization is not None and tensor.quantization.zeroPoint is not None:
            found += found.dtype.type(tensor.quantization.zeroPoint[0])
        return found

    def filled(graph, state):
        tensor = graph.tensors[state]
        shape = np.array(tensor.shape, "int32")
        one = schema.OperatorT()
        one.opcodeIndex = len(content.operatorCodes) - 1
        one.inputs = [
            constant(graph, types.INT32, shape),
            constant(graph, tensor.type, zero_of(tensor), like=tensor),
        ]
        one.outputs = [state]
        one.builtinOptionsType = schema.BuiltinOptions.FillOptions
        one.builtinOptions = schema.FillOptionsT()
        return one

    def with_own_zeros(graph, operation, states):
        """What else starts from the zeros that became a state."""
        for k, i in enumerate(operation.inputs):
            if i in states:
                tensor = graph.tensors[i]
                zeros = np.full(tensor.shape, zero_of(tensor))
                operation.inputs[k] = constant(graph, tensor.type, zeros, like=tensor)
        return operation

    for graph in content.subgraphs:
        lstms = [one for one in graph.operators if one.opcodeIndex in codes]
        states = {i for one in lstms for i in one.inputs[STATES]}
        operations = []
        for operation in graph.operators:
            if operation.opcodeIndex in codes:
                operations += [filled(graph, i) for i in operation.inputs[STATES]]
                operations.append(operation)
            else:
                operations.append(with_own_zeros(graph, operation, states))
        graph.operators = operations
