"""Batches without a row and sequences without a step, which ONNX's runtimes do not take.

(onnxruntime's nodes end the process, and its loops stack no array of the right shape.) So one of
zeros is put where there is none, and taken away again.
"""

from collections.abc import Callable

import tensorflow as tf


def some(x: tf.Tensor) -> tf.Tensor:
    """`x`, and zeros as its first if its first axis has none."""
    if x.shape[0]:
        return x
    missing = tf.maximum(1 - tf.shape(x)[0], 0)
    return tf.pad(x, [[0, missing]] + [[0, 0]] * (x.shape.rank - 1))


def none_unless(condition: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """`x`; without its first axis' zeros, which `some` put there, if `condition` does not hold."""
    if x.shape.rank == 0 or x.shape[0]:
        return x
    return x[: tf.where(condition, tf.shape(x)[0], 0)]


def of_some_steps(execute: Callable, return_sequences: bool) -> Callable:
    """`execute`, a recurrence time first, which is never run over nothing."""

    def padded(weights, given):
        if given.inputs.shape[0]:
            return execute(weights, given)
        length, mask = tf.shape(given.inputs)[0], given.mask
        at_least_one = given._replace(
            inputs=some(given.inputs), mask=None if mask is None else some(mask)
        )
        outputs, last = execute(weights, at_least_one)
        last = [tf.where(length > 0, after, before) for after, before in zip(last, given.states)]
        return (outputs[:length] if return_sequences else last[0]), last

    return padded
