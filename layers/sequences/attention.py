"""Attention over a memory, around any cell (Bahdanau et al. 2015; Luong et al. 2015).

A decoder looks back at all that an encoder has read, the memory m_1 … m_n, in every step:

    h_t, … = cell(x_t + W_f h̃_{t-1}, h_{t-1}, …)       x_t: the cell's share of the input
    e_ts   = h_tᵀ k_s                                  dot, general
           = v_aᵀ tanh(W_a h_t + k_s)                  additive
    a_t    = softmax(e_t), over the places s that count
    h̃_t    = tanh(Σ_s a_ts v_s + W_h h_t)              the output

W_f is *input feeding*: what was attended to is known in the next step. What is the same in each
step is made once, before:

    keys     k_s = W_k m_s      general, additive      (dot: k_s = m_s)
    values   v_s = W_v m_s

so the output is Luong's h̃_t = tanh(W_c [Σ_s a_ts m_s; h_t]), with W_c = [W_v W_h], and `general`
his e_ts = h_tᵀ W_k m_s. Bahdanau attends before a step, with h_{t-1}, and here it is done after
the step before; of W_f h̃_{t-1} he has the part that reads the memory.
"""

import keras
import tensorflow as tf
from keras import ops

from layers import recurrence
from layers.cell import Cell, anew, positive_integer

SCORES = ("general", "dot", "additive")
PLACES = 8  # XLA compiles for each number of places anew; there is a multiple of so many


@keras.saving.register_keras_serializable(package="layers")
class AttentionMemory(keras.layers.Layer):
    """What an encoder has read, as an `AttentionCell` reads it: its `constants`.

        memory = layers.AttentionMemory(64)(encoded)
        decoder = layers.RNN(layers.AttentionCell(layers.LSTMCell(64)), return_sequences=True)
        outputs = decoder(inputs, constants=memory)

    Args:
        units: The size of the cell's output.
        score: As the cell's.
        initializer: Of its kernels, W_v, (features, units), and, but for "dot", W_k.
        **kwargs: `name`, `dtype`, `trainable`, as in any Keras layer.

    Call arguments:
        encoded: (batch, places, features).
        mask: (batch, places) booleans; False marks a place to leave out, anywhere. Keras hands
            it on from the layer before.

    Returns:
        [keys, values, counts]: (batch, places, units) twice, and (batch, places) booleans, which
        places count. In training, if the graph doesn't know how many places there are, with some
        more that don't.

    Raises:
        ValueError: If `units` or `score`, or a shape, is wrong.
    """

    def __init__(self, units: int, score: str = "general", initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.units, self.score = positive_integer("units", units), _known(score)
        self.initializer = keras.initializers.get(initializer)
        self.input_spec = keras.layers.InputSpec(ndim=3)
        self.supports_masking = True

    def build(self, input_shape):
        features = input_shape[-1]
        if features is None or (self.score == "dot" and features != self.units):
            raise ValueError(
                f"`{self.name}` got `encoded` of shape {tuple(input_shape)}, and needs to know "
                "its last dimension"
                + (
                    f'; the score "dot" multiplies it by states of {self.units} units, so they '
                    'have to be as many, or take the score "general".'
                    if self.score == "dot"
                    else "."
                )
            )
        names = ["value_kernel"] if self.score == "dot" else ["key_kernel", "value_kernel"]
        for name in names:
            initializer = anew(self.initializer)
            kernel = self.add_weight((features, self.units), initializer, name=name)
            setattr(self, name, kernel)

    def call(
        self, encoded: tf.Tensor, mask: tf.Tensor | None = None, training: bool = False
    ) -> list[tf.Tensor]:
        counts = tf.ones(tf.shape(encoded)[:2], "bool") if mask is None else tf.cast(mask, "bool")
        if not counts.shape.is_compatible_with(encoded.shape[:2]):
            raise ValueError(
                f"`{self.name}` got a `mask` of shape {counts.shape}, expected (batch, places) = "
                f"{encoded.shape[:2]}, one boolean for each place of `encoded`."
            )
        if training and encoded.shape[1] is None:
            more = -tf.shape(encoded)[1] % PLACES
            encoded = tf.pad(encoded, [[0, 0], [0, more], [0, 0]])
            counts = tf.pad(counts, [[0, 0], [0, more]])
        keys = encoded if self.score == "dot" else tf.tensordot(encoded, self._of("key"), 1)
        return [keys, tf.tensordot(encoded, self._of("value"), 1), counts]

    def _of(self, name):
        return tf.cast(tf.convert_to_tensor(getattr(self, f"{name}_kernel")), self.compute_dtype)

    def compute_output_spec(self, encoded, mask=None, training=False):
        shape, kind = (*encoded.shape[:2], self.units), self.compute_dtype
        both = [keras.KerasTensor(shape, kind) for _ in range(2)]
        return [*both, keras.KerasTensor(shape[:2], "bool")]

    def compute_mask(self, inputs, mask=None):
        return None  # it is the third of what is returned

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "score": self.score,
            "initializer": keras.initializers.serialize(self.initializer),
        }


@keras.saving.register_keras_serializable(package="layers")
class AttentionCell(Cell):
    """One step of `cell`, and a look at the memory; see `AttentionMemory` for its use.

    The first state, which is the output, is h̃, as large as the output of `cell`; behind it stand
    the states of `cell`. The `constants` are keys, values and counts, as `AttentionMemory` makes
    them. Beside the weights of `cell` there are

        feed_kernel       (units, gates * units)    W_f
        output_kernel     (units, units)            W_h
        query_kernel      (units, units)            W_a, and
        score_vector      (units,)                  v_a: of the additive score

    `layers.attention_weights` says where it looked. (Without input feeding no step would depend on
    what was attended to: that is `keras.layers.Attention` behind a decoder, and faster.)

    Args:
        cell: A `layers.Cell` that takes no `constants` itself. Dropout, activations and all else
            are its own.
        score: "general" or "dot", multiplicative; or "additive".
        initializer: Of the further weights.
        **kwargs: `name`, `dtype`, `trainable`, as in any Keras layer.

    Raises:
        ValueError: If `cell` or `score` is wrong.
    """

    def __init__(self, cell: Cell, score: str = "general", initializer="glorot_uniform", **kwargs):
        if not isinstance(cell, Cell) or type(cell).call is not Cell.call:
            raise ValueError(
                "Received an invalid value for argument `cell`, expected a `layers.Cell`, such as "
                f"`layers.LSTMCell(64)`, got {cell}."
            )
        if cell.takes_constants:
            raise ValueError(
                f"`{type(cell).__name__}` takes `constants` itself, and can't be told which are "
                "its own: put one cell that attends, not two, around a plain one."
            )
        kwargs.setdefault("dtype", cell.dtype_policy)
        drops = {"dropout": cell.dropout, "recurrent_dropout": cell.recurrent_dropout}
        super().__init__(cell.units, **drops, **kwargs)
        self.cell, self.gates, self.score = cell, cell.gates, _known(score)
        self.initializer = keras.initializers.get(initializer)
        self.state_size = [cell.state_sizes[0], *cell.state_sizes]

    def build(self, input_shape):
        if not self.cell.built:
            self.cell.build(input_shape)
        size = self.output_size

        def weight(name, *shape):
            return self.add_weight(shape, anew(self.initializer), name=name)

        self.feed_kernel = weight("feed_kernel", size, self.gates * self.units)
        self.output_kernel = weight("output_kernel", size, size)
        if self.score == "additive":
            self.query_kernel = weight("query_kernel", size, size)
            self.score_vector = weight("score_vector", size)
        self.built = True

    # What is asked of a cell, and is that of the one inside.

    @property
    def kernel(self):
        return self.cell.kernel

    @property
    def recurrent_kernel(self):
        return self.cell.recurrent_kernel

    def project(self, inputs, masks=None, training=False):
        return self.cell.project(inputs, masks, training)

    def dropout_masks(self, inputs, states, training):
        return self.cell.dropout_masks(inputs, states[1:], training)

    def dot(self, masks=None):
        return self.cell.dot(masks)

    @property
    def own_product(self):
        return type(self).dot is not AttentionCell.dot or self.cell.own_product

    def get_initial_state(self, batch_size=None):
        nothing = ops.zeros((batch_size, self.output_size), dtype=self.compute_dtype)
        inner = self.cell.get_initial_state(batch_size)
        return [nothing, *(inner if isinstance(inner, (list, tuple)) else [inner])]

    def update(self, x, states, dot, constants):
        keys, values, counts = self._checked_memory(constants)
        attended, *states = states
        columns = self.gates * self.units
        fed = dot(attended, self.feed_kernel)
        if x.shape[-1] == columns:
            x = x + fed
        else:  # further columns are no pre-activations
            x = ops.concatenate([x[:, :columns] + fed, x[:, columns:]], axis=-1)
        new = self.cell.update(x, states, dot)
        query = dot(new[0], self.query_kernel) if self.score == "additive" else new[0]
        weights = self._weights(query, keys, counts)
        read = tf.einsum("bp,bpu->bu", weights, values)
        return ops.tanh(read + dot(new[0], self.output_kernel)), *new

    def weights_at(self, h: tf.Tensor, constants: list[tf.Tensor]) -> tf.Tensor:
        """The weights with which a step attends.

        Args:
            h: (batch, units), what the cell inside put out in that step: the second state after
                it.
            constants: The memory.

        Returns:
            a, (batch, places): a sum of 1 over the places that count; zero elsewhere.
        """
        keys, _, counts = self._checked_memory(constants)
        if self.score == "additive":
            h = tf.matmul(h, tf.cast(tf.convert_to_tensor(self.query_kernel), h.dtype))
        return self._weights(h, keys, counts)

    def _weights(self, query, keys, counts):
        if self.score == "additive":
            together = ops.tanh(tf.expand_dims(query, 1) + keys)
            vector = tf.cast(tf.convert_to_tensor(self.score_vector), query.dtype)
            scores = tf.reduce_sum(together * vector, axis=-1)
        else:
            scores = tf.einsum("bu,bpu->bp", query, keys)
        least = tf.constant(scores.dtype.min, scores.dtype)
        weights = tf.nn.softmax(tf.where(counts, scores, least))
        return tf.where(counts, weights, tf.zeros_like(weights))  # also if there is nothing to read

    def _checked_memory(self, constants):
        size = self.output_size
        if len(constants) == 3:
            keys, values, counts = constants
            found = [(c.shape.rank, c.shape[-1]) for c in (keys, values)]
            if found == [(3, size)] * 2 and counts.dtype == tf.bool and counts.shape.rank == 2:
                return keys, values, counts
        shapes = ", ".join(str(tuple(c.shape)) for c in constants)
        raise ValueError(
            f"`{type(self).__name__}` got `constants` of shapes {shapes}, expected keys and "
            f"values, (batch, places, {size}), and booleans, (batch, places): "
            f"`constants=layers.AttentionMemory({size})(encoded)`."
        )

    def get_config(self):
        return {
            **keras.Layer.get_config(self),
            "cell": keras.saving.serialize_keras_object(self.cell),
            "score": self.score,
            "initializer": keras.initializers.serialize(self.initializer),
        }

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config.pop("cell")), **config)


def attention_weights(
    layer: keras.Layer,
    sequences: tf.Tensor,
    constants: list[tf.Tensor],
    initial_state: list[tf.Tensor] | None = None,
    mask: tf.Tensor | None = None,
) -> tf.Tensor:
    """Where a layer looked: the weights of each place of the memory, in each step.

    The layer's cell is run once more, so it is for looking at, in inference.

    Args:
        layer: `layers.RNN(layers.AttentionCell(…))`, built.
        sequences, constants, initial_state, mask: What the layer was called with.

    Returns:
        (batch, time, places): for each step a sum of 1 over the places that count.

    Raises:
        ValueError: If it is another layer.
    """
    cell = getattr(layer, "cell", None)
    if not isinstance(cell, AttentionCell) or not layer.built:
        raise ValueError(
            f"`attention_weights` got `{getattr(layer, 'name', layer)}`, expected a built "
            "`layers.RNN` around one `layers.AttentionCell`."
        )
    if initial_state is None:
        batch = tf.shape(sequences)[0]
        initial_state = layer.states if layer.stateful else layer.get_initial_state(batch)
    attended, h, *others = [tf.convert_to_tensor(s) for s in initial_state]
    sequences = tf.convert_to_tensor(sequences)
    mask = None if mask is None else tf.cast(mask, "bool")
    constants = [tf.convert_to_tensor(c) for c in constants]
    kind = cell.compute_dtype
    constants = [tf.cast(c, kind) if c.dtype.is_floating else c for c in constants]
    found, _ = recurrence.run(
        _Queries(cell),
        sequences,
        [h, attended, *others],
        mask,
        constants,
        go_backwards=layer.go_backwards,
    )
    time = tf.shape(found)[1]
    by_step = tf.reshape(found, [-1, found.shape[-1]])
    keys, values, counts = (tf.repeat(c, time, axis=0) for c in constants)
    weights = cell.weights_at(by_step, [keys, values, counts])
    return tf.reshape(weights, [tf.shape(sequences)[0], time, tf.shape(counts)[1]])


class _Queries(Cell):
    """An `AttentionCell` whose output is h: its first two states change places."""

    def __init__(self, cell):
        keras.Layer.__init__(self, dtype=cell.dtype_policy)  # no seeds: a graph makes no variables
        attended, h, *others = cell.state_sizes
        self.cell, self.state_size = cell, [h, attended, *others]
        self.built = True

    def dropout_masks(self, inputs, states, training):
        return None, None

    def dot(self, masks=None):
        return self.cell.dot(masks)

    def project(self, inputs, masks=None, training=False):
        return self.cell.project(inputs, masks, training)

    def update(self, x, states, dot, constants):
        h, attended, *others = states
        attended, h, *others = self.cell.update(x, [attended, h, *others], dot, constants)
        return h, attended, *others


def _known(score):
    if score not in SCORES:
        raise ValueError(
            f"Received an invalid value for argument `score`, expected one of {SCORES}, got "
            f"{score!r}."
        )
    return score
