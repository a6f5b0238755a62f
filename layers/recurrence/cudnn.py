"""A recurrence that runs on cuDNN wherever it finds an NVIDIA GPU, and elsewhere without.

Two functions are put into the graph, which say that they implement the same, each for a
device. The one for a CPU is called. When a graph is loaded, TensorFlow's implementation
selector looks at the device of the call, and puts the function for a GPU there if it is one.
So one SavedModel serves both, and a loader that selects nothing runs what runs anywhere.
(Training is not exported: there, whether a GPU is at hand is decided when it is traced.)

cuDNN takes masks that keep the front of a row. Here any mask will do: as in `fused.py`, the
steps that count are moved to the front, and what came out is put back where they were.
"""

import uuid
from collections.abc import Callable

import tensorflow as tf

from layers import private_apis
from layers.cell import Cell
from layers.recurrence.fused import at_steps, in_front


def on_any_device(portable: Callable, on_cudnn: Callable) -> Callable:
    """`portable`, with `on_cudnn` in its place on a GPU.

    Both are functions of (weights, given), and compute the same.
    """

    def execute(*arguments):
        name = f"recurrence_{uuid.uuid4().hex}"  # two calls must not be taken for each other

        def implementation(function, device):
            attributes = {"api_implements": name, "api_preferred_device": device}
            return tf.function(function, autograph=False, experimental_attributes=attributes)

        implementation(on_cudnn, "GPU").get_concrete_function(*arguments).add_to_graph()
        found = implementation(portable, "CPU")(*arguments)
        private_apis.leave_unoptimized(found)
        return found

    return execute


def recurrence(cell: Cell, return_sequences: bool, training: bool = False) -> Callable:
    """As `loop.recurrence`, for a cell with a `cudnn_mode`.

    Args:
        training: Whether cuDNN keeps what its own gradient needs; else there is none.
    """

    def execute(weights, given):
        inputs, states, mask = given.inputs, given.states, given.mask
        if given.drops[0]:  # one mask for all gates
            inputs = inputs * given.drops[0][0]
        length, count, _ = tf.unstack(tf.shape(inputs))

        def nothing():
            outputs = tf.zeros((length, count, cell.units), inputs.dtype)
            return (outputs if return_sequences else states[0]), list(states)

        # Of no rows or no steps, cuDNN knows nothing.
        some, in_all = length * count > 0, tf.fill([count], length)
        return tf.cond(some, lambda: something(weights, inputs, states, mask, in_all), nothing)

    def something(weights, inputs, states, mask, in_all):
        if mask is not None:
            inputs, done, in_all = in_front(inputs, mask)
        with cell.constant_weights(weights):  # which Keras joins in their own type
            columns = tf.transpose(tf.cast(cell.cudnn_weights(), inputs.dtype))
        flat = tf.constant([-1])  # once for all parts
        parts = tf.split(columns, [cell.kernel.shape[0], cell.units, 1, 1], axis=1)
        outputs, *last, _, _ = tf.raw_ops.CudnnRNNV3(
            input=inputs,
            input_h=states[0][None],
            input_c=states[-1][None],  # only an LSTM's is looked at
            params=tf.concat([tf.reshape(part, flat) for part in parts], 0),
            sequence_lengths=tf.maximum(in_all, 1),  # it refuses a row without any step
            rnn_mode=cell.cudnn_mode,
            is_training=training,
        )
        last = [tf.squeeze(after, 0) for after in last[: len(states)]]  # a GRU has one
        if mask is not None:
            ran = in_all[:, None] > 0
            last = [tf.where(ran, after, before) for before, after in zip(states, last)]
        if not return_sequences:
            return last[0], last
        if mask is not None:
            outputs = at_steps(done, tf.concat([states[0][None], outputs], 0))
        return outputs, last

    return execute
