"""The layers: `RNN` runs any cell; `CellLayer` builds its own.

What surrounds a recurrence (initial and carried-over states, specs, masks handed on,
serialization) is Keras's own `keras.layers.RNN`; the recurrence is `layers.recurrence`.
"""

import inspect
import re

import keras
import tensorflow as tf
from keras import ops

from layers import private_apis, recurrence
from layers.cell import Cell, warn_if_unregistered
from layers.recurrence import IMPLEMENTATIONS, plans


@keras.saving.register_keras_serializable(package="layers")
class RNN(keras.layers.RNN):
    """Runs a cell over a sequence, in place of `keras.layers.RNN`.

    Args:
        cell: A `layers.Cell`, or a list of them to stack. Any other cell that keeps
            to Keras's protocol runs too, at Keras's speed.
        return_sequences: Whether to return the output of every step or of the last.
        return_state: Whether to return the last states too.
        go_backwards: Whether to start at the last step, and return the outputs in
            that order.
        stateful: Whether a batch starts from the states the previous one ended with.
        unroll: Whether to build every step into the graph (short sequences only).
        zero_output_for_mask: Whether the output of a masked step is zero, instead of
            the output before it.
        recurrence: Which implementation runs the cell over time: "loop", "derived",
            "compiled" or "fused"; see `layers.recurrence`. All give the same numbers.
            Default: the one that is fast where the layer is called. In training that is
            XLA's; a layer exported with `training=True` needs "derived", to run without.

    Call arguments:
        sequences: (batch, time, features). Whole numbers become ones of the compute dtype: in
            bfloat16 they are rounded from 257 on, in float16 from 2049 on.
        initial_state: The states to start from, each (batch, its size). Default: zeros.
        mask: (batch, time) booleans; False marks a step to leave out, anywhere. Keras hands
            it on from the layer before, but not through `TimeDistributed`: there, pass it.
        training: Whether dropout is on.
        constants: Tensors that a cell's `update` reads in every step, such as an encoder's
            outputs: a list, each (batch, …).

    Returns:
        The output, (batch, time, units) or (batch, units); with `return_state` a tuple
        of it and the last states.

    Raises:
        ValueError: If an input, a state or a mask has the wrong rank or shape, or is ragged; if
            `stateful` without a fixed batch size, or `unroll` without a fixed length; if
            `constants` are missing, or given to a cell that takes none; if `recurrence` is unknown.
    """

    def __init__(
        self,
        cell: keras.Layer | list[keras.Layer],
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        activity_regularizer=None,
        recurrence: str | None = None,
        **kwargs,
    ):
        super().__init__(
            cell,
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            unroll=unroll,
            zero_output_for_mask=zero_output_for_mask,
            activity_regularizer=activity_regularizer,
            **kwargs,
        )
        if self._all_ours:
            self.input_spec = keras.layers.InputSpec(ndim=3)
            if all(plans.runs_on_cudnn(cell) for cell in self._cells):
                self.supports_jit = False  # as Keras's: XLA knows nothing of cuDNN
        if recurrence not in (None, *IMPLEMENTATIONS):
            raise ValueError(
                "Received an invalid value for argument `recurrence`, expected None or one of "
                f"{IMPLEMENTATIONS}, got {recurrence!r}."
            )
        self.recurrence = recurrence

    def build(self, sequences_shape, initial_state_shape=None, constants_shape=None):
        if self._all_ours:
            for cell in self._cells:
                _ = cell.state_sizes  # which are checked
        super().build(sequences_shape, initial_state_shape)
        private_apis.make_global_seed()
        if self._all_ours:
            features = {-1: sequences_shape[-1]}
            self.input_spec = keras.layers.InputSpec(ndim=3, axes=features)

    @property
    def _cells(self):
        stacked = isinstance(self.cell, keras.layers.StackedRNNCells)
        return self.cell.cells if stacked else [self.cell]

    @property
    def _all_ours(self):
        """Whether `update` says all about every cell: none is Keras's, or has its own `call`."""
        stacked, keras_stacked = type(self.cell), keras.layers.StackedRNNCells
        if issubclass(stacked, keras_stacked) and stacked.call is not keras_stacked.call:
            return False
        return all(isinstance(c, Cell) and type(c).call is Cell.call for c in self._cells)

    def get_config(self):
        chosen = {} if self.recurrence is None else {"recurrence": self.recurrence}
        return {**super().get_config(), **chosen}

    @private_apis.untracked
    def _create_state_variables(self, batch_size):
        # As Keras's, but that a state which counts stays a whole number.
        with keras.name_scope(self.name, caller=self):
            self.states = keras.tree.map_structure(
                self._state_variable, self.get_initial_state(batch_size)
            )

    def _state_variable(self, value):
        floating = keras.backend.is_float_dtype(value.dtype)
        dtype = self.variable_dtype if floating else None
        return keras.Variable(value, trainable=False, dtype=dtype, name="rnn_state")

    def reset_state(self):
        if self.states is not None:
            for state in keras.tree.flatten(self.states):
                state.assign(ops.zeros_like(state.value))

    def _maybe_config_dropout_masks(self, cell, input_sequence, input_state):
        # Called where Keras runs the cells, for one of them is not ours.
        super()._maybe_config_dropout_masks(cell, input_sequence, input_state)
        if isinstance(cell, Cell):
            states = input_state if isinstance(input_state, (list, tuple)) else [input_state]
            cell.kept_masks = cell.dropout_masks(input_sequence, states, training=True)

    def _maybe_reset_dropout_masks(self, cell):
        super()._maybe_reset_dropout_masks(cell)
        if isinstance(cell, Cell):
            cell.kept_masks = None

    def call(
        self,
        sequences: tf.Tensor,
        initial_state=None,
        mask: tf.Tensor | None = None,
        training: bool = False,
        constants: list[tf.Tensor] | None = None,
    ) -> tf.Tensor | tuple[tf.Tensor, ...]:
        mask = mask[0] if isinstance(mask, (list, tuple)) else mask
        if mask is None and constants is not None:  # Keras hands none on beside other tensors
            mask = getattr(sequences, "_keras_mask", None)
        self._check_sequences(sequences)
        if mask is not None:
            mask = self._check_mask(mask, sequences)
        if not self._all_ours:
            if constants:
                raise ValueError(f"`{self.name}` got `constants`: only a `layers.Cell` takes any.")
            return super().call(
                sequences, initial_state=initial_state, mask=mask, training=training
            )
        constants = self._check_constants(constants, sequences)
        if initial_state is None and not self.stateful:
            initial_state = self.get_initial_state(batch_size=ops.shape(sequences)[0])
        elif initial_state is None:
            initial_state = self.states
        self._check_states(initial_state, sequences)
        found = self._run(sequences, initial_state, mask, constants, training)
        outputs, states = keras.tree.map_structure(self._in_own_type, found)
        if self.stateful:
            for kept, state in zip(keras.tree.flatten(self.states), keras.tree.flatten(states)):
                kept.assign(state)
        return (outputs, *states) if self.return_state else outputs

    def _in_own_type(self, t):
        """A number in the layer's compute dtype, whatever the cell's is; a count as it is."""
        return tf.cast(t, self.compute_dtype) if t.dtype.is_floating else t

    def _run(self, sequences, initial_state, mask, constants, training):
        if self.unroll and sequences.shape[1] is None:
            raise ValueError(
                f"`{self.name}` can't unroll: the time dimension is undefined. Give the input a "
                "fixed length, or leave `unroll` at False."
            )
        # Stacked cells over time are stacked recurrences, one after the other.
        stacked = isinstance(self.cell, keras.layers.StackedRNNCells)
        nested = isinstance(initial_state, (list, tuple))
        initial_state = list(initial_state) if nested else [initial_state]
        outputs, last_states = sequences, []
        for depth, cell in enumerate(self._cells):
            states = initial_state[depth] if stacked else initial_state
            nested = isinstance(states, (list, tuple))
            states = [tf.convert_to_tensor(s) for s in (states if nested else [states])]
            top = depth == len(self._cells) - 1
            outputs, states = recurrence.run(
                cell,
                outputs,
                states,
                mask,
                constants if cell.takes_constants else (),
                training=training,
                go_backwards=self.go_backwards and depth == 0,
                unroll=self.unroll,
                return_sequences=self.return_sequences or not top,
                zero_output_for_mask=self.zero_output_for_mask and top,
                implementation=self.recurrence,
            )
            if self.go_backwards and depth == 0 and mask is not None:
                mask = tf.reverse(mask, [1])
            last_states.append(states if nested else states[0])
        return outputs, last_states if stacked else last_states[0]

    def _check_sequences(self, sequences):
        if isinstance(sequences, tf.RaggedTensor):
            raise ValueError(
                f"`{self.name}` got ragged `sequences` of shape {sequences.shape}, expected a "
                "dense (batch, time, features). Pad them with `sequences.to_tensor()` and mark "
                "the padding: `mask=tf.sequence_mask(sequences.row_lengths())`."
            )

    def _check_mask(self, mask, sequences):
        mask = ops.cast(mask, "bool")
        if mask.shape.rank == 3 and mask.shape[-1] == 1:
            mask = mask[:, :, 0]
        if not mask.shape.is_compatible_with(sequences.shape[:2]):
            raise ValueError(
                f"`{self.name}` got a `mask` of shape {mask.shape}, expected (batch, time) = "
                f"{sequences.shape[:2]}, one boolean for each step of `sequences`."
            )
        return tf.ensure_shape(mask, sequences.shape[:2])

    def _check_constants(self, constants, sequences):
        takers = [type(cell).__name__ for cell in self._cells if cell.takes_constants]
        if constants is not None and not isinstance(constants, (list, tuple)):
            raise ValueError(f"`{self.name}` got a tensor as `constants`, expected a list of them.")
        if takers and not constants:
            raise ValueError(
                f"`{self.name}` needs `constants`, for `{takers[0]}` reads them in every step: "
                "`layer(sequences, constants=[memory])`, each (batch, …)."
            )
        if constants and not takers:
            raise ValueError(
                f"`{self.name}` got `constants`, and `{type(self._cells[0]).__name__}.update` has "
                "no argument of that name: `def update(self, x, states, dot, constants)`."
            )
        constants = [tf.convert_to_tensor(c) for c in constants or ()]
        for i, c in enumerate(constants):
            rows = tf.TensorShape(c.shape)[:1]
            if not rows.is_compatible_with(tf.TensorShape(sequences.shape)[:1]):
                raise ValueError(
                    f"`{self.name}` got `constants[{i}]` of shape {tuple(c.shape)}, expected as "
                    f"many rows as `sequences` have, {sequences.shape[0]}."
                )
        return constants

    def _check_states(self, initial_state, sequences):
        given = initial_state if isinstance(initial_state, (list, tuple)) else [initial_state]
        counts = [
            [len(n) if isinstance(n, (list, tuple)) else 1 for n in nest]
            for nest in (given, self.state_size)
        ]
        if counts[0] != counts[1]:
            raise ValueError(
                f"`{self.name}` got {_tensors(counts[0])} as `initial_state`, expected "
                f"{_tensors(counts[1])}: one for each size in {self.state_size}."
            )
        flat = zip(keras.tree.flatten(list(given)), keras.tree.flatten(self.state_size))
        for i, (state, size) in enumerate(flat):
            expected = tf.TensorShape([sequences.shape[0], size])
            if not tf.TensorShape(state.shape).is_compatible_with(expected):
                if self.stateful and given is self.states:
                    raise ValueError(
                        f"`{self.name}` is `stateful` and was built for {state.shape[0]} rows, and "
                        f"got {sequences.shape[0]}: all batches must have as many."
                    )
                raise ValueError(
                    f"`{self.name}` got an `initial_state[{i}]` of shape {tuple(state.shape)}, "
                    f"expected (batch, units) = {tuple(expected)}."
                )


OF_LAYERS = {"name", "dtype", "trainable"}  # arguments of any, that `kwargs` has


class CellLayer(RNN):
    """A layer named after its cell: `LSTM(8)` is `RNN(LSTMCell(8))`.

    A subclass sets `cell_class`; nothing else is needed. It takes the arguments of that
    cell and those of `RNN`, and has the cell's as attributes (`layer.units`).
    """

    cell_class: type[Cell]

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if not hasattr(cls, "cell_class"):
            raise TypeError(f"{cls.__name__} is a CellLayer, and must set `cell_class`.")
        parameters = _parameters(cls.cell_class, Cell)
        for name in parameters:
            setattr(cls, name, property(lambda self, name=name: getattr(self.cell, name)))
        own = [p.replace(kind=p.KEYWORD_ONLY) for p in _parameters(RNN, RNN).values()]
        rest = inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)
        signature = inspect.Signature([*parameters.values(), *own[1:], rest])
        cls.__signature__ = _OfTheClass(signature)

    def __init__(self, *args, **kwargs):
        try:
            arguments = type(self).__signature__.bind(*args, **kwargs).arguments
        except TypeError as error:
            signature = f"{type(self).__name__}{type(self).__signature__}"
            raise TypeError(f"{error}; expected {signature}") from None
        kwargs = {**arguments.pop("kwargs", {}), **arguments}
        # Keras's choices between implementations: here one serves all.
        kwargs.pop("implementation", None)
        kwargs.pop("use_cudnn", None)
        parameters = _parameters(self.cell_class, Cell)
        cell = self.cell_class(
            **{name: kwargs.pop(name) for name in parameters if name in kwargs},
            name=_snake_case(self.cell_class.__name__),
            dtype=kwargs.get("dtype"),
            trainable=kwargs.get("trainable", True),
        )
        super().__init__(cell, **kwargs)

    def save_own_variables(self, store):
        warn_if_unregistered(type(self))
        super().save_own_variables(store)

    def get_config(self):
        config = super().get_config()
        del config["cell"]
        regularizer = keras.regularizers.serialize(self.activity_regularizer)
        return {**self.cell.get_config(), "activity_regularizer": regularizer, **config}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


class _OfTheClass:
    """An attribute that a class has and its instances have not: they are called otherwise."""

    def __init__(self, value):
        self.value = value

    def __get__(self, instance, owner):
        if instance is not None:
            raise AttributeError("__signature__")
        return self.value


def _snake_case(name: str) -> str:
    """ "SimpleRNNCell" to "simple_rnn_cell"."""
    return re.sub("(?<=[a-z])(?=[A-Z])|(?<!^)(?=[A-Z][a-z])", "_", name).lower()


def _tensors(counts: list[int]) -> str:
    return f"{sum(counts)} tensors" if max(counts, default=1) == 1 else f"{counts} tensors"


def _parameters(cls: type, base: type) -> dict[str, inspect.Parameter]:
    """The named arguments of `cls` and of the constructors it hands the rest on to.

    Its own keep their places; those handed on are by keyword only.
    """
    found = {}
    for c in cls.__mro__[: cls.__mro__.index(base) + 1]:
        if "__init__" in vars(c):
            own = not found
            for p in list(inspect.signature(c.__init__).parameters.values())[1:]:
                if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and p.name not in OF_LAYERS:
                    found.setdefault(p.name, p if own else p.replace(kind=p.KEYWORD_ONLY))
    return found
