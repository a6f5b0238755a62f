"""Both passes over a long sequence, a part of its steps at a time.

Backward, the gradients of the weights are made for each part, so what they are made of is
not kept for all steps. And to XLA, which compiles for each shape anew, sequences of any
length are parts of one size.
"""

import functools
import math

import tensorflow as tf

from layers.recurrence.vjp import wide

KNOWN = 64  # steps, at most, of a part of a known length: its arrays fit a cache
UNKNOWN = 16  # steps of a part of any other


def size_of(known_length: int | None) -> int:
    """How many steps each part of a sequence has."""
    if not known_length:
        return UNKNOWN
    return math.ceil(known_length / math.ceil(known_length / KNOWN))  # as equal as can be


def in_parts(passes, return_sequences: bool, known_length: int | None, kept: tuple):
    """`derived.Passes` for the steps of a part, as such for sequences of any length.

    Args:
        kept: Specs of what they keep of a part.
    """
    size = size_of(known_length)
    if size == known_length:
        return passes

    def filled(x):
        """Steps of a part, with zeros where there are no more."""
        if not known_length or known_length % size:  # else it would but copy
            x = padded(x, size)
        return tf.ensure_shape(x, (size, *x.shape[1:]))

    def steps(x, part):
        return None if x is None else filled(x[part * size : (part + 1) * size])

    def steps_in(part, length):
        return tf.clip_by_value(length - part * size, 0, size)

    def count(length):
        return tf.maximum(-(-length // size), 1)

    def array_of(spec, parts):
        # A tape may ask for gradients twice, so nothing is cleared.
        return tf.TensorArray(spec.dtype, parts, element_shape=spec.shape, clear_after_read=False)

    def of_part(x):
        return tf.TensorSpec((size, *x.shape[1:]), x.dtype)

    def forward_in_parts(weights, given, length):
        def body(part, states, outputs, arrays):
            own = given._replace(
                inputs=steps(given.inputs, part), mask=steps(given.mask, part), states=states
            )
            found, states, kept = passes.forward(weights, own, steps_in(part, length))
            outputs = [a.write(part, filled(y)) for a, y in zip(outputs, found)]
            write = tf.nest.map_structure(lambda a, t: a.write(part, t), arrays, kept)
            return part + 1, states, outputs, write

        parts = count(length)
        ((first, *_), *_) = kept
        outputs = [array_of(of_part(first), parts)] * return_sequences
        arrays = tf.nest.map_structure(lambda spec: array_of(spec, parts), kept)
        _, states, outputs, arrays = tf.while_loop(
            lambda part, *_: part < parts, body, (0, list(given.states), outputs, arrays)
        )
        flows = tf.nest.map_structure(lambda array: array.flow, arrays)
        return [array.concat()[:length] for array in outputs], states, flows

    def backward_in_parts(weights, given, length, flows, dy, ds):
        parts = count(length)

        def kept_in(part, flow, spec):
            array = tf.TensorArray(spec.dtype, flow=flow)
            return tf.ensure_shape(array.read(part), spec.shape)

        def body(part, ds, sums, array):
            own = given._replace(inputs=steps(given.inputs, part), mask=steps(given.mask, part))
            own_kept = tf.nest.map_structure(functools.partial(kept_in, part), flows, kept)
            own_dy = [steps(d, part) for d in dy]
            d_inputs, ds, *more = passes.backward(
                weights, own, steps_in(part, length), own_kept, own_dy, ds
            )
            sums = tf.nest.map_structure(tf.add, sums, more)
            return part - 1, ds, sums, array.write(part, filled(d_inputs))

        array = array_of(of_part(given.inputs), parts)
        constants = [tf.zeros_like(c) for c in given.differentiable[2]]
        of_weights = [tf.zeros_like(weights[k], wide(weights[k].dtype)) for k in passes.used]
        _, ds, sums, array = tf.while_loop(
            lambda part, *_: part >= 0, body, (parts - 1, ds, [constants, of_weights], array)
        )
        return array.concat()[:length], ds, *sums

    return passes._replace(forward=forward_in_parts, backward=backward_in_parts)


def padded(x, size, axis=0):
    """x with zeros up to `size` along an axis."""
    zeros = [[0, 0]] * x.shape.rank
    zeros[axis] = [0, size - tf.shape(x)[axis]]
    return tf.pad(x, zeros)
