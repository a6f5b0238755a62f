"""What every cell is made of: a linear part and a pointwise part.

A recurrent step multiplies its input and its state by matrices, and then does
something small and elementwise with the products. A cell says which:

    x_t  = project(input_t)                  linear; done for many time steps at once
    s_t  = update(x_t, s_{t-1}, dot)         pointwise, around `dot(h_{t-1}, kernel)`

`layers/recurrence/` runs the two over time and knows nothing else of a cell. It looks at
what they are made of (`layers/recurrence/step.py`) to see how fast it may go:

- An `update` that depends on its arguments and the cell's weights alone has a backward pass
  of its own, which XLA compiles. One that draws random numbers, assigns a weight, or reads
  something from outside runs too, in a plain loop.
- A batch is cut in two where each of its rows is on its own, and else stays whole.

`layers.explain(layer)` says what was found. What no loop can do is refused, with the reason.
"""

import contextlib
import inspect
import numbers
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence

import keras
import tensorflow as tf
from keras import constraints, initializers, ops, regularizers

from layers import private_apis
from layers.matmul import matmul

# What a step is made of, of a cell's.
STEP = ("update", "project", "product", "dot", "input_bias", "weight_values")
STEP += ("new_states", "dropout_masks")
CONTRACT = "What a cell is: the docstrings of `layers.Cell` and `layers.Cell.update`."


class Cell(keras.Layer):
    """One step of a recurrent network.

    A subclass sets `gates` (how many blocks of `units` columns its kernels have)
    and `state_size` (an integer, or a list with one for each state), and writes
    `update`. A subclass that is saved is registered, by the decorator
    `keras.saving.register_keras_serializable`. The weights are those of Keras's cells, by
    name, order and shape:

        kernel            (features, gates * units)   U of the notes
        recurrent_kernel  (units, gates * units)      W of the notes
        bias              (gates * units,)

    A cell with more weights extends `build`; all of them can be used in `update`
    as they are (`self.peephole * c`): each is read, and cast to the compute dtype,
    once for the whole sequence. Layers of Keras used in it are built in `build`.

    Args:
        units: Positive integer, the size of the output (and of most states).
        activation: The activation of the new content. `None` is linear.
        use_bias: Whether there is a bias.
        kernel_initializer, recurrent_initializer, bias_initializer: Initializers.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: Regularizers.
        kernel_constraint, recurrent_constraint, bias_constraint: Constraints.
        dropout: Rate at which input features are dropped, in [0, 1); one mask for
            all time steps of a sequence (Gal & Ghahramani 2016). (In `keras.layers.RNN` a cell
            draws anew in each step; in `layers.RNN` it does not.)
        recurrent_dropout: The same for the state on its way into the matrix
            product; with it, each gate has masks of its own.
        seed: Seed of the dropout masks.
        **kwargs: `name`, `dtype`, `trainable`, as in any Keras layer.

    Raises:
        ValueError: If `units` is not a positive integer.
    """

    gates = 1

    def __init__(
        self,
        units: int,
        activation="tanh",
        use_bias: bool = True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        *,
        kernel_regularizer=None,
        recurrent_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        **kwargs,
    ):
        kwargs.pop("implementation", None)  # Keras's choice between two; here one serves both
        super().__init__(**kwargs)
        self.units = positive_integer("units", units)
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.recurrent_initializer = initializers.get(recurrent_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.recurrent_regularizer = regularizers.get(recurrent_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.recurrent_constraint = constraints.get(recurrent_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.dropout = min(1.0, max(0.0, dropout))
        self.recurrent_dropout = min(1.0, max(0.0, recurrent_dropout))
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.kept_masks = None
        self.state_size = self.units

    @property
    def output_size(self) -> int:
        """The first state's: it is the output."""
        return self.state_sizes[0]

    # --- The two halves of a step ------------------------------------------------

    def project(
        self, inputs: tf.Tensor, masks: list[tf.Tensor] | None = None, training: bool = False
    ) -> tf.Tensor:
        """The input's share of the pre-activations: inputs · kernel + bias.

        Whatever else a step needs that no state goes into, noise for instance, belongs
        here too, as further columns.

        Args:
            inputs: (..., batch, features).
            masks: Dropout masks of the features, from `dropout_masks`.

        Returns:
            (..., batch, gates * units).
        """
        x = self.product(inputs, self.kernel, masks)
        return x + self.input_bias if self.use_bias else x

    @staticmethod
    def product(a: tf.Tensor, kernel, masks: list[tf.Tensor] | None = None) -> tf.Tensor:
        """a · kernel; with several masks, each over its own block of the kernel's columns."""
        if masks is None:
            # One GEMM over all leading axes, where tf.matmul would broadcast the kernel.
            return matmul(a, kernel) if a.shape.rank == 2 else tf.tensordot(a, kernel, 1)
        if len(masks) == 1:
            return Cell.product(a * masks[0], kernel)
        blocks = ops.split(kernel, len(masks), axis=-1)
        return ops.concatenate([Cell.product(a * m, k) for m, k in zip(masks, blocks)], axis=-1)

    def update(
        self, x: tf.Tensor, states: Sequence[tf.Tensor], dot: Callable
    ) -> Sequence[tf.Tensor]:
        """The new states, a tuple. The first of them is the step's output.

        A cell that reads tensors which are the same in every step, such as an encoder's
        outputs, takes a fourth argument, `constants`: the list that the layer is called with,
        `layer(x, constants=[memory])`, each (batch, …).

        Args:
            x: (batch, gates * units), what `project` made of this step's input.
            states: The previous states, each (batch, its size).
            dot: `dot(a, kernel)` is the matrix product, and the one way to multiply
                by a weight here: so the recurrence sees it, and can take its
                gradient out of the loop. With `self.recurrent_kernel` it applies
                `recurrent_dropout`. `dot(a, kernel, gates=(first, last))` takes the
                columns of the gates first … last − 1 only.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `update`.")

    @property
    def takes_constants(self) -> bool:
        """Whether `update` has an argument `constants`."""
        return "constants" in inspect.signature(self.update).parameters

    def all_steps(self) -> Callable | None:
        """All steps in one operation of TensorFlow's, if it has one for this very cell.

        Returns:
            A function of inputs, (time, batch, features), and the initial states, that
            returns each state after each step, (time, batch, its size); or None.
        """
        return None

    cudnn_mode = None  # what cuDNN calls this very cell, if it has it: "lstm", "gru", …

    def cudnn_weights(self) -> tf.Tensor:
        """The weights as cuDNN takes them, for a cell with a `cudnn_mode`.

        Returns:
            (features + units + 2, gates · units), the gates in cuDNN's order: the matrix for the
            input, below it that for the state, then the biases of both.
        """
        raise NotImplementedError(f"{type(self).__name__} has no `cudnn_mode`.")

    @property
    def own_product(self) -> bool:
        """Whether it multiplies otherwise than `Cell` does."""
        return not self.steps_as(Cell, ("dot", "product"))

    def steps_as(self, cls: type, made_of: tuple[str, ...] = STEP) -> bool:
        """Whether a step is that of `cls`: nothing that it is made of changed by a subclass."""
        changed = any(getattr(type(self), n) is not getattr(cls, n) for n in made_of)
        return not changed and not any(n in vars(self) for n in made_of)

    # --- Weights -------------------------------------------------------------------

    @property
    def recurrent_shape(self) -> tuple[int, ...]:
        return (self.state_sizes[0], self.gates * self.units)

    @property
    def bias_shape(self) -> tuple[int, ...]:
        return (self.gates * self.units,)

    @property
    def input_bias(self) -> tf.Tensor:
        """The part of the bias that `project` adds."""
        return self.bias

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if input_shape[-1] is None:
            raise ValueError(
                f"`{self.name}` needs to know how many features its inputs have: the last "
                f"dimension must be an integer. Received: input shape {tuple(input_shape)}."
            )
        self.kernel = self.add_weight(
            shape=(input_shape[-1], self.gates * self.units),
            name="kernel",
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.recurrent_kernel = self.add_weight(
            shape=self.recurrent_shape,
            name="recurrent_kernel",
            initializer=self.recurrent_initializer,
            regularizer=self.recurrent_regularizer,
            constraint=self.recurrent_constraint,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                shape=self.bias_shape,
                name="bias",
                initializer=self.initial_bias,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        super().build(input_shape)

    def initial_bias(self, shape: tuple[int, ...], dtype: str | None = None) -> tf.Tensor:
        return self.bias_initializer(shape, dtype=dtype)

    def add_weight(self, *args, **kwargs):
        # `weight_values` casts, once a sequence instead of once a step.
        return super().add_weight(*args, **{"autocast": False, **kwargs})

    def weight_values(self) -> list[tf.Tensor]:
        """The values of `self.weights`, in the compute dtype; integers as they are, and so what a
        layer inside keeps in its own type."""
        with private_apis.uncast():
            values = [tf.convert_to_tensor(w.value) for w in self.weights]  # `cast` may not read
        return self._in_own_type(self.weights, values)

    def _in_own_type(self, weights, values):
        kept = self._kept_in_their_type
        casts = [v.dtype.is_floating and id(w) not in kept for v, w in zip(values, weights)]
        return [tf.cast(v, self.compute_dtype) if c else v for v, c in zip(values, casts)]

    @property
    def _kept_in_their_type(self) -> set[int]:
        """Weights of Keras's layers inside that these don't compute with in this cell's type, such
        as the moving statistics of batch normalization."""
        found = set()
        for layer, weights in private_apis.layers_inside(self):
            if not isinstance(layer, Cell):
                same = layer.autocast and layer.compute_dtype == self.compute_dtype
                found |= {id(w) for w, casts in weights if not (same and casts)}
        return found

    @contextlib.contextmanager
    def constant_weights(
        self, values: Sequence[tf.Tensor], but: Iterable[int] = ()
    ) -> Iterator["_ConstantWeights"]:
        """Inside, `self.weights` are these tensors: read and cast once, however often used.

        Args:
            but: The places, in `self.weights`, of those that are read as they are, for a
                step assigns them.
        """
        pairs, but = [*zip(self.weights, values)], {*but}
        constant = [pair for k, pair in enumerate(pairs) if k not in but]
        with _ConstantWeights(self, constant, [self.weights[k] for k in but]) as scope:
            yield scope

    # --- Dropout -------------------------------------------------------------------

    def dropout_masks(
        self, inputs: tf.Tensor, states: Sequence[tf.Tensor], training: bool
    ) -> tuple[list[tf.Tensor] | None, list[tf.Tensor] | None]:
        """Masks for one sequence: (of the inputs, of the first state), each a list or None.

        As in Keras there is one mask, or with `recurrent_dropout` one for each gate.

        Args:
            inputs: (batch, features), any one step.
            states: The initial states.

        Returns:
            Masks, each (batch, columns), or (1, columns) for all rows.
        """
        count = self.gates if self.recurrent_dropout else 1

        def draw(like, rate):
            if not training or not 0.0 < rate < 1.0:
                return None
            ones = ops.ones_like(like)
            return [
                keras.random.dropout(ones, rate, seed=self.seed_generator) for _ in range(count)
            ]

        return draw(inputs, self.dropout), draw(states[0], self.recurrent_dropout)

    def dot(self, masks: list[tf.Tensor] | None = None) -> Callable:
        """The `dot` that `update` is given, with the recurrent dropout's masks in it."""

        def dot(a, kernel, gates=None):
            drop = masks if kernel is getattr(self, "recurrent_kernel", None) else None
            if gates is not None:
                first, last = gates
                kernel = kernel[:, first * self.units : last * self.units]
                drop = drop and (drop if len(drop) == 1 else drop[first:last])
            return self.product(a, kernel, drop)

        return dot

    # --- Keras's protocol for a cell: one step, with its states in and out -----------

    def call(self, inputs: tf.Tensor, states, constants=(), training: bool = False) -> tuple:
        """One step.

        Args:
            inputs: (batch, features).
            states: The previous states: a list, or the one tensor.
            constants: What `update` reads beside them, if it takes `constants`.

        Returns:
            (output, new states), the states as they came: in a list or bare.
        """
        nested = isinstance(states, (list, tuple))
        states = list(states) if nested else [states]
        masks = self.kept_masks if training else None
        input_masks, state_masks = masks or self.dropout_masks(inputs, states, training)
        with self.constant_weights(self.weight_values()):
            x = self.project(inputs, input_masks, training)
            new = self.new_states(x, states, self.dot(state_masks), constants)
        return new[0], new if nested else new[0]

    def new_states(self, x, states, dot, constants=()) -> list[tf.Tensor]:
        """What `update` returns, once it is found to be new states.

        Raises:
            ValueError, TypeError: If it is not, with what came and what was expected.
        """
        further = (list(constants),) if self.takes_constants else ()
        with self.explained():
            new = self.update(x, states, dot, *further)
        return self._checked(new, states)

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Inside, the errors that a cell's own code is likely to raise say what is missing."""
        try:
            yield
        except (ValueError, AttributeError) as error:
            explained = self._explained(error)
            if explained is error:
                raise
            raise explained from error

    def _explained(self, error):
        name, sizes = type(self).__name__, self.state_size
        if isinstance(error, ValueError) and "to unpack" in str(error):
            return ValueError(
                f"`{name}.update` unpacks another number than there are ({error}). It was given "
                f"{len(self.state_sizes)} states, for its `state_size` is {sizes}. If that is "
                "what it unpacks, set `self.state_size` in `__init__`, after `super().__init__`, "
                f"to a list with a size for each state. {CONTRACT}"
            )
        missing = getattr(error, "name", None)
        own = getattr(error, "obj", None) is self
        if own and missing in ("kernel", "recurrent_kernel", "bias"):
            return AttributeError(
                f"`{name}` has no `{missing}`: its `build` must call `super().build(input_shape)`, "
                f"or make it. {CONTRACT}"
            )
        return error

    def _checked(self, new, states):
        name, count = type(self).__name__, len(states)
        expected = f"a tuple of {count} tensor{'s' * (count > 1)}, the new states, of shapes " + (
            ", ".join(f"(batch, {size})" for size in self.state_sizes)
        )
        if tf.is_tensor(new):
            came = f"a tensor of shape {tuple(new.shape)}"
        elif not isinstance(new, (list, tuple)):
            came = f"{new!r}"
        elif any(isinstance(n, (list, tuple)) for n in new):
            came = "nested tuples (Keras's cells return output and states; here the output is "
            came += "the first state)"
        elif len(new) != count:
            came = f"{len(new)} tensor{'s' * (len(new) > 1)}"
        else:
            new = [tf.convert_to_tensor(n) for n in new]
            fits = [n.shape.is_compatible_with(old.shape) for n, old in zip(new, states)]
            if all(fits) and all(n.dtype == old.dtype for n, old in zip(new, states)):
                return new
            found = [f"{tuple(n.shape)} {n.dtype.name}" for n in new]
            kinds = {old.dtype.name for old in states}
            came, expected = ", ".join(found), f"{expected} and dtype {', '.join(sorted(kinds))}"
        raise ValueError(f"`{name}.update` returned {came}, expected {expected}. {CONTRACT}")

    def save_own_variables(self, store):
        warn_if_unregistered(type(self))
        super().save_own_variables(store)

    @property
    def state_sizes(self) -> list[int]:
        """`state_size` as a list, also of one.

        Raises:
            ValueError: If it is neither an integer nor a list of them.
        """
        sizes = self.state_size
        sizes = list(sizes) if isinstance(sizes, (list, tuple)) else [sizes]
        if not all(isinstance(size, numbers.Integral) for size in sizes):
            raise ValueError(
                f"`{type(self).__name__}` has `state_size` {self.state_size}, expected an integer "
                "or a flat list of integers: a state is (batch, its size). For states of another "
                "rank write a cell of Keras's protocol, with `call` (`keras.layers.RNN`); it runs "
                "in `layers.RNN` too."
            )
        return sizes

    def get_initial_state(self, batch_size=None) -> list[tf.Tensor]:
        return [ops.zeros((batch_size, n), dtype=self.compute_dtype) for n in self.state_sizes]

    def get_config(self) -> dict:
        config = {
            "units": self.units,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "dropout": self.dropout,
            "recurrent_dropout": self.recurrent_dropout,
            "seed": self.seed,
        }
        for weight in ("kernel", "recurrent", "bias"):
            for module in (initializers, regularizers, constraints):
                name = f"{weight}_{module.__name__.rpartition('.')[2][:-1]}"
                config[name] = module.serialize(getattr(self, name))
        return {**super().get_config(), **config}


def positive_integer(name: str, value) -> int:
    """`value`, the argument `name`, if it is one; else a ValueError that says so."""
    if not isinstance(value, numbers.Real) or value % 1 or value <= 0:
        raise ValueError(
            f"Received an invalid value for argument `{name}`, "
            f"expected a positive integer, got {value}."
        )
    return int(value)


def anew(initializer):
    """It draws for another weight: one and the same, without a seed, would draw as before."""
    drawing = isinstance(initializer, keras.Initializer) and "seed" in initializer.get_config()
    unseeded = drawing and initializer.get_config()["seed"] is None
    return initializer.clone() if unseeded else initializer


def warn_if_unregistered(cls: type) -> None:
    """Says that what is saved now could not be loaded."""
    if keras.saving.get_registered_name(cls) == cls.__name__:
        warnings.warn(
            f"{cls.__name__} is saved, and is not registered: a model with it can only be loaded "
            "with `custom_objects`. Put `@keras.saving.register_keras_serializable("
            '"a_name_of_yours")` above its class.',
            stacklevel=3,
        )


class _ConstantWeights(keras.StatelessScope):
    """Gives some variables constant values; to all others it is not there.

    Attributes:
        assigned: The variables that were assigned inside.
    """

    def __init__(self, cell, values, read_as_they_are):
        super().__init__(collect_losses=True, initialize_variables=False)
        self.cell, self.read_as_they_are, self.assigned = cell, read_as_they_are, []
        for variable, value in values:
            super().add_update((variable, value))

    def add_update(self, update):
        variable, value = update
        self.assigned.append(variable)
        self.read_as_they_are.append(variable)  # from here on
        self.state_mapping.pop(id(variable), None)
        if self.original_scope is None:
            private_apis.assign_now(variable, value)
        else:
            self.original_scope.add_update(update)

    def add_loss(self, loss):
        raise NotImplementedError(
            f"`{type(self.cell).__name__}` adds a loss in a step, and a loop cannot hand it on. "
            "Sum it up in a state of its own, and add it in a layer behind: "
            "`return_state=True`, then `add_loss`."
        )

    def get_current_value(self, variable):
        value = super().get_current_value(variable)
        if value is None and self.original_scope is not None:
            value = self.original_scope.get_current_value(variable)
        if any(variable is one for one in self.read_as_they_are):
            value = private_apis.raw_value(variable) if value is None else value
            (value,) = self.cell._in_own_type([variable], [tf.convert_to_tensor(value)])
        return value
