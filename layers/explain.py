"""Which implementation runs a layer, and why."""

import keras
import tensorflow as tf

from layers import private_apis
from layers.bidirectional import Bidirectional
from layers.recurrence import plans, rows
from layers.recurrence.given import Given
from layers.rnn import RNN


def explain(
    layer: keras.Layer,
    batch: int | None = None,
    time: int | None = None,
    constants: list[tf.TensorSpec] = (),
) -> None:
    """Prints what runs a layer in a graph (`fit`, `tf.function`, an export), and why.

    For each cell there is a line for training and one for inference: the implementation, what
    it does, and why the ones that come before it in line do not cover this cell.

    Args:
        layer: A built `RNN` of this package, such as `LSTM`, or a `Bidirectional` with them.
        batch, time: How many rows and steps; None if the graph will not know.
        constants: The types and shapes of the `constants` that it will be called with.

    Raises:
        ValueError: If it is another layer, or not built yet.
    """
    for name, part, alone in _parts(layer):
        for training in (True, False):
            for k, (cell, plan) in enumerate(_plans(part, batch, time, constants, training, alone)):
                depth = f" cell {k}" if len(part._cells) > 1 else ""
                kind = "training" if training else "inference"
                print(f"{name}{depth} ({type(cell).__name__}), {kind}: {plan.name}: {plan.what}")
                for why in plan.instead_of:
                    print(f"    not {why}")


def _parts(layer):
    if isinstance(layer, Bidirectional):
        both = layer.forward_layer, layer.backward_layer
        return [(f"{layer.name}/{part.name}", _checked(part), False) for part in both]
    return [(layer.name, _checked(layer), True)]


def _checked(layer):
    if not isinstance(layer, RNN) or not layer._all_ours:
        raise ValueError(
            f"`{layer.name}` ({type(layer).__name__}) is not run by this package: expected a layer "
            "of `layers` around a `layers.Cell`."
        )
    if not layer.built:
        raise ValueError(
            f"`{layer.name}` is not built: call it once, or `build((batch, time, features))`."
        )
    return layer


def _plans(layer, batch, time, constants, training, alone):
    features, found = layer.input_spec.axes[-1], []
    with private_apis.new_graph("explain").as_default():
        for cell in layer._cells:
            dtype = cell.compute_dtype
            states = cell.get_initial_state(batch or 2)
            states = states if isinstance(states, (list, tuple)) else [states]
            states = [tf.compat.v1.placeholder(s.dtype, (batch, s.shape[1])) for s in states]
            inputs = tf.compat.v1.placeholder(dtype, (batch, time, features))
            own = [tf.compat.v1.placeholder(c.dtype, (batch, *c.shape[1:])) for c in constants]
            given = Given(inputs, states, None, (None, None), own if cell.takes_constants else ())
            drops = cell.dropout_masks(inputs[:, 0], states, training)
            weights, given = cell.weight_values(), given._replace(drops=drops)
            unroll, every = layer.unroll, layer.return_sequences
            call = plans.Call.here(cell, training, unroll, every, weights, given, layer.recurrence)
            call.alone = alone and rows.may_cut()
            found.append((cell, plans.plan(call)))
            features = cell.state_sizes[0]
    return found
