"""Both passes over a long sequence, a part of its steps at a time.

Backward, the gradients of the weights are made for each part, so what they are made of is
not kept for all steps. And to XLA, which compiles for each shape anew, sequences of any
length are parts of one size.
"""

import math
from collections.abc import Callable

import tensorflow as tf

KNOWN = 64  # steps, at most, of a part of a known length: its arrays fit a cache
UNKNOWN = 16  # steps of a part of any other


def size_of(known_length: int | None) -> int:
    """How many steps each part of a sequence has."""
    if not known_length:
        return UNKNOWN
    return math.ceil(known_length / math.ceil(known_length / KNOWN))  # as equal as can be


def in_parts(
    forward: Callable, backward: Callable, known_length: int | None
) -> tuple[Callable, Callable]:
    """The two passes, as `derived.Passes` describes them, for sequences of any length."""
    size = size_of(known_length)
    if size == known_length:
        return forward, backward

    def filled(x):
        """Steps of a part, with zeros where there are no more."""
        if known_length is None or known_length % size:  # else it would but copy
            x = padded(x, size)
        return tf.ensure_shape(x, (size, *x.shape[1:]))

    def steps(x, part):
        return None if x is None else filled(x[part * size : (part + 1) * size])

    def steps_in(part, length):
        return tf.clip_by_value(length - part * size, 0, size)

    def count(length):
        return tf.maximum(-(-length // size), 1)

    def forward_in_parts(weights, given, length):
        def run(part, states):
            own = given._replace(
                inputs=steps(given.inputs, part), mask=steps(given.mask, part), states=states
            )
            outputs, states, kept = forward(weights, own, steps_in(part, length))
            return states, ([filled(y) for y in outputs], kept)

        parts = count(length)
        states, first = run(0, list(given.states))
        arrays = _write(_arrays(parts, first), 0, first)

        def body(part, states, arrays):
            states, found = run(part, states)
            return part + 1, states, _write(arrays, part, found)

        _, states, (outputs, kept) = tf.while_loop(
            lambda part, *_: part < parts, body, (1, states, arrays)
        )
        return [array.concat()[:length] for array in outputs], states, kept

    def backward_in_parts(weights, given, length, kept, dy, ds):
        def run(part, ds):
            own = given._replace(inputs=steps(given.inputs, part), mask=steps(given.mask, part))
            own_kept = tf.nest.map_structure(lambda array: array.read(part), kept)
            own_dy = [steps(d, part) for d in dy]
            d_inputs, ds, dc, dw = backward(
                weights, own, steps_in(part, length), own_kept, own_dy, ds
            )
            return filled(d_inputs), ds, (dc, dw)

        last = count(length) - 1
        d_inputs, ds, sums = run(last, ds)

        def body(part, ds, sums, array):
            d_inputs, ds, more = run(part, ds)
            sums = tf.nest.map_structure(tf.add, sums, more)
            return part - 1, ds, sums, array.write(part, d_inputs)

        array = _write(_arrays(last + 1, d_inputs), last, d_inputs)
        _, ds, (dc, dw), array = tf.while_loop(
            lambda part, *_: part >= 0, body, (last - 1, ds, sums, array)
        )
        return array.concat()[:length], ds, dc, dw

    return forward_in_parts, backward_in_parts


def _arrays(size, first):
    """For each tensor of a structure an array, of `size` like it."""

    def array(t):
        # A tape may ask for gradients twice, so nothing is cleared.
        return tf.TensorArray(t.dtype, size, element_shape=t.shape, clear_after_read=False)

    return tf.nest.map_structure(array, first)


def _write(arrays, place, tensors):
    return tf.nest.map_structure(lambda array, t: array.write(place, t), arrays, tensors)


def padded(x, size, axis=0):
    """x with zeros up to `size` along an axis."""
    zeros = [[0, 0]] * x.shape.rank
    zeros[axis] = [0, size - tf.shape(x)[axis]]
    return tf.pad(x, zeros)
