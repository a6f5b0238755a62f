"""What a cell is run over, together."""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from layers.recurrence.vjp import has_gradient


class Given(NamedTuple):
    """The arguments of a recurrence, but for the weights.

    Attributes:
        inputs: (batch, time, features); where a recurrence says so, (time, batch, features).
        states: The initial states, each (batch, its size).
        mask: Booleans as the first two axes of `inputs`, or None; False leaves a step out.
        drops: What `Cell.dropout_masks` returned.
        constants: Tensors that are the same in every step, each (batch, …).
    """

    inputs: tf.Tensor
    states: list[tf.Tensor]
    mask: tf.Tensor | None = None
    drops: tuple = (None, None)
    constants: tuple[tf.Tensor, ...] = ()

    def map_rows(self, function: Callable) -> "Given":
        """`function` of each tensor, all of them batch first; None stays None."""
        return tf.nest.map_structure(lambda t: None if t is None else function(t), self)

    def time_first(self, backwards: bool) -> "Given":
        """With `inputs` and `mask` time first; turned round if the last step is the first."""
        turn = (lambda x: tf.reverse(x, [1])) if backwards else lambda x: x
        inputs = tf.transpose(turn(self.inputs), [1, 0, 2])
        mask = None if self.mask is None else tf.transpose(turn(self.mask))
        return self._replace(inputs=inputs, mask=mask)

    # --- What has a gradient ----------------------------------------------------------------

    @property
    def differentiable(self) -> tuple:
        """(inputs, states, those of the constants that are not whole numbers)."""
        return self.inputs, list(self.states), [self.constants[k] for k in self._floating]

    def replaced(self, inputs, states, floating) -> "Given":
        """With these in the places of `differentiable`."""
        values = dict(zip(self._floating, floating))
        constants = [values.get(k, c) for k, c in enumerate(self.constants)]
        return self._replace(inputs=inputs, states=list(states), constants=constants)

    @property
    def _floating(self):
        return [k for k, c in enumerate(self.constants) if has_gradient(c.dtype)]
