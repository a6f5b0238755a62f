"""A place other than TensorFlow, for which a graph is traced now.

Who exports to it says what runs a cell there: `layers.recurrence` and `layers.Bidirectional`
ask here first.
"""

import contextlib
import contextvars
from collections.abc import Iterator

_place = contextvars.ContextVar("place", default=None)


@contextlib.contextmanager
def traced_for(place) -> Iterator[None]:
    """Inside, what is traced is for `place`.

    Args:
        place: What has `plan(call)`, the `plans.Plan` that runs a cell there, and
            `both_directions(layer, sequences, initial_state, mask, training)`, what a
            `Bidirectional` returns; or None, and it calls its layers.
    """
    token = _place.set(place)
    try:
        yield
    finally:
        _place.reset(token)


def place():
    """The place; None is TensorFlow."""
    return _place.get()
