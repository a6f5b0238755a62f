"""Whether what is traced now may be asked for a gradient."""

import contextlib
import contextvars
from collections.abc import Iterator

import tensorflow as tf

_wanted = contextvars.ContextVar("wanted", default=True)


@contextlib.contextmanager
def without_gradients() -> Iterator[None]:
    """Inside, layers are traced for answers alone: an export is half as large, and loads sooner.

        with layers.without_gradients():
            model.export("saved_model")

    A SavedModel holds a function for each gradient that it might be asked for. Whoever asks an
    export that was made in here gets a `LookupError` that says so. It is about inference:
    a layer that is called with `training=True` keeps its gradient. Larger batches are not cut in
    two: whoever serves a model has other requests for the second core.
    """
    token = _wanted.set(False)
    try:
        yield
    finally:
        _wanted.reset(token)


def wanted() -> bool:
    return _wanted.get()


def refused(x: tf.Tensor) -> tf.Tensor:
    """`x`, of which nobody gets a gradient."""
    message = "This was traced inside of `layers.without_gradients()`: trace it again outside."
    return tf.raw_ops.PreventGradient(input=x, message=message)
