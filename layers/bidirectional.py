"""Both directions at once (Schuster & Paliwal 1997).

    h→_t = f(x_t, h→_{t-1})          from the first step to the last
    h←_t = g(x_t, h←_{t+1})          from the last step to the first
    y_t  = merge(h→_t, h←_t)         concat, sum, mul, ave, or both as they are

Two independent layers read the same sequence; the backward outputs are put back in
the order of the input before they are merged.
"""

import keras
import tensorflow as tf

from layers.recurrence import elsewhere, rows


@keras.saving.register_keras_serializable(package="layers")
class Bidirectional(keras.layers.Bidirectional):
    """Runs a layer in both directions, in place of `keras.layers.Bidirectional`.

    Args:
        layer: A layer of this package, or any that Keras's `Bidirectional` takes.
        merge_mode: "concat", "sum", "mul", "ave", or None for both outputs.
        backward_layer: The layer for the backward direction, with the opposite
            `go_backwards`. Default: a copy of `layer`.

    Call arguments and results are the layer's own, but for the units: (batch, time, features) to
    (batch, time, 2 · units) by "concat", else (batch, time, units); without `return_sequences` no
    time. States come and go as one list, first the forward layer's. At masked steps the outputs
    are zero.

    Raises:
        ValueError: If `merge_mode` is unknown, or the two layers do not fit together; if
            `initial_state` is not of all their states.
    """

    def call(
        self,
        sequences: tf.Tensor,
        initial_state: list[tf.Tensor] | None = None,
        mask: tf.Tensor | None = None,
        training: bool | None = None,
    ) -> tf.Tensor | tuple[tf.Tensor, ...]:
        if initial_state is not None:
            self._check_states(initial_state)
        if place := elsewhere.place():
            found = place.both_directions(self, sequences, initial_state, mask, training)
            if found is not None:
                return found
        with rows.left_whole():
            return super().call(
                sequences, initial_state=initial_state, mask=mask, training=training
            )

    def build(self, sequences_shape, initial_state_shape=None):
        super().build(sequences_shape, initial_state_shape)
        if self.merge_mode in ("concat", None):
            return
        widths = [shape[-1] for shape, *_ in self._shapes(sequences_shape)]
        if widths[0] != widths[1]:
            raise ValueError(
                f"`{self.name}` can't merge outputs of {widths[0]} and {widths[1]} units by "
                f"{self.merge_mode!r}: `merge_mode` 'concat', or None, takes any."
            )

    def compute_output_shape(self, sequences_shape, initial_state_shape=None):
        (ahead, *states), (back, *others) = self._shapes(sequences_shape)
        if self.merge_mode == "concat":
            outputs = [(*ahead[:-1], ahead[-1] + back[-1])]
        else:
            outputs = [ahead, back] if self.merge_mode is None else [ahead]
        found = *outputs, *states, *others
        return found if len(found) > 1 else found[0]

    def _shapes(self, sequences_shape):
        """Those of what each layer returns."""
        for layer in (self.forward_layer, self.backward_layer):
            shape = layer.compute_output_shape(sequences_shape)
            yield [*map(tuple, shape)] if self.return_state else [tuple(shape)]

    def _check_states(self, initial_state):
        if len(self.forward_layer.state_size) != len(self.backward_layer.state_size):
            raise ValueError(
                f"`{self.name}` can't be given an `initial_state`: its layers have different "
                "numbers of states. Call each by itself."
            )
        expected = len(self.forward_layer.state_size) + len(self.backward_layer.state_size)
        given = len(initial_state) if isinstance(initial_state, (list, tuple)) else 1
        if given != expected:
            raise ValueError(
                f"`{self.name}` got {given} tensors as `initial_state`, expected {expected}: "
                "the forward layer's states, then the backward layer's."
            )

    def compute_mask(self, _, mask):
        mask = mask[0] if isinstance(mask, (list, tuple)) else mask
        mask = mask if self.return_sequences else None
        outputs = (mask, mask) if self.merge_mode is None else (mask,)
        if self.return_state:
            states = len(self.forward_layer.state_size) + len(self.backward_layer.state_size)
            outputs += (None,) * states
        return outputs if len(outputs) > 1 else mask
