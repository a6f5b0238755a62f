"""What writing a model for another runtime takes, whichever it is: names, a comparison, a refusal.

A runtime's file is run beside the model, on random inputs, before it is written; and what can't be
written is refused by the name of the layer that is to blame.
"""

import bisect
import contextlib
import itertools
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

# Lengths to try, if a model does not take those that are asked for.
MORE = *range(64, 0, -1), 1000
CANNOT = {
    "Random": "it draws random numbers, as if in training",
    "Assign": "it keeps numbers for the next call, as with `stateful` (in a "
    "`layers.streaming_model` they go out and come in)",
}


class FaultyRuntime(ValueError):
    """The runtime refuses its own converter's file; no layer is to blame."""


def write(model: keras.Model, path: str | os.PathLike, convert: Callable, place: str) -> None:
    """Writes `convert(model)`, the file's bytes, all or nothing.

    Args:
        model: A functional or a built sequential model.
        place: The runtime's name.

    Raises:
        ValueError: If it can't be done; the message names the layer.
    """
    if not getattr(model, "inputs", None):
        raise ValueError(
            f"`{model.name}` ({type(model).__name__}) can't be exported to {place}: only a "
            "functional or a built sequential model says what goes in. Call it in one: "
            "`keras.Model(inputs, model(inputs))`."
        )
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs, model.outputs, name=model.name)
    try:
        data = convert(model)
    except FaultyRuntime:
        raise
    except Exception as error:
        raise _refusal(model, error, convert, place) from error
    path = Path(path)
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def names(model: keras.Model) -> tuple[list[str], list[str]]:
    """Those of the inputs and of the outputs, each once."""
    inputs = [x.name for x in model.inputs]
    if isinstance(model.output, dict):
        outputs = by_path(model.output)
    else:
        outputs = list(keras.Model(model.inputs, model.outputs).output_names)
    outputs = [f"new_{name}" if name in inputs else name for name in outputs]
    for name in {name for name in outputs if outputs.count(name) > 1}:
        for k, i in enumerate([i for i, other in enumerate(outputs) if other == name]):
            outputs[i] = f"{name}_{k}"
    return inputs, outputs


def by_path(outputs: dict) -> list[str]:
    """The names of a dict's tensors: its keys, and those within them."""
    return ["_".join(map(str, path)) for path, _ in keras.tree.flatten_with_path(outputs)]


def packed(model: keras.Model, tensors: list):
    """The tensors as `model` takes them."""
    return keras.tree.pack_sequence_as(model.input, tensors)


def check_operations(graph: tf.compat.v1.GraphDef) -> None:
    """Finds out whether the graph draws or keeps numbers."""
    found = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    operations = sorted({node.op for node in found})
    for part, why in CANNOT.items():
        for operation in operations:
            if part in operation:
                raise ValueError(f"{why}: {operation}")


def check_numbers(
    model: keras.Model, run: Callable, batch: int = 2, lengths: tuple[int, ...] = (11,)
) -> None:
    """Runs both, on random inputs, once for each of these lengths.

    Args:
        run: From the inputs by their names to a list of the outputs.
    """
    _, outputs = names(model)
    for given, expected in taken(model, batch, lengths):
        for name, x, y in zip(outputs, run(given), keras.tree.flatten(expected)):
            y = keras.ops.convert_to_numpy(y)
            if x.shape != y.shape:
                raise ValueError(
                    f"`{name}` comes out in the shape {x.shape}, and is {y.shape} here"
                )
            compare(name, x, y)


def compare(name: str, x: np.ndarray, y: np.ndarray) -> None:
    """Finds out whether an output `x` of another runtime is `y`, ours."""
    if not keras.backend.is_float_dtype(str(y.dtype)):
        if np.count_nonzero(x != y) > y.size // 1000:  # some are made of floats
            raise ValueError(f"`{name}` differs in {np.count_nonzero(x != y)} of {y.size} places")
        return
    near = 1e-4 if y.dtype in ("float32", "float64") else 1e-2
    x, y = np.asarray(x, "float64"), np.asarray(y, "float64")
    sizes = np.abs(y[np.isfinite(y)])
    largest = sizes[sizes < 1e6].max(initial=0)  # larger ones stand for what is ruled out
    if not np.allclose(x, y, near, near * largest + 1e-6, equal_nan=True):
        raise ValueError(f"`{name}` is off by up to {np.nanmax(np.abs(x - y)):.2g}")


def taken(model: keras.Model, batch: int, lengths: tuple[int, ...]) -> list[tuple[dict, object]]:
    """Random inputs that the model takes, by name, of these lengths or else of another; and what
    comes out.

    Raises:
        ValueError: If there are none.
    """
    failed = []

    def answers(lengths):
        for length in lengths:
            try:
                yield _answer(model, batch, length)
            except Exception as error:
                failed.append(error)

    found = [*answers(lengths)]
    if not found and any(None in x.shape[1:] for x in model.inputs):
        found = [*itertools.islice(answers(MORE), 1)]
    if not found:
        raise ValueError(
            "it takes no random inputs, so that nothing can be compared; if it is for want of a "
            f"length, give its inputs the one that they have ({failed[0]})"
        )
    return found + found[-1:] * (len(lengths) - len(found))


def _answer(model, batch, length):
    def of(most):
        random = np.random.default_rng(0)
        given = {x.name: _drawn(x, batch, length, random, most) for x in model.inputs}
        with tf.device("CPU:0"):  # where a word's number that is too large is an error
            return given, model(packed(model, [tf.constant(x) for x in given.values()]))

    try:
        return of(10)
    except Exception:
        if all(keras.backend.is_float_dtype(x.dtype) for x in model.inputs):
            raise
        return of(2)  # there may be fewer words


def _drawn(x, batch, length, random, most):
    shape = [size or (length if axis else batch) for axis, size in enumerate(x.shape)]
    if keras.backend.is_float_dtype(x.dtype):
        return random.normal(size=shape).astype(x.dtype)
    return random.integers(2 if x.dtype == "bool" else most, size=shape).astype(x.dtype)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside, nothing is logged: converters tell of much that is put right later."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _refusal(model, error, convert, place):
    why = " ".join(re.sub(r"\x1b\[\d*m", "", str(error)).split())[:400].rstrip(".")
    layer = _first_that_fails(model, convert)
    what = f"`{layer.name}` ({type(layer).__name__})" if layer else f"`{model.name}`"
    return ValueError(
        f"{what} can't be exported to {place}: {why}. Take it out of the model, and do its work "
        "before or behind; or export a SavedModel, `model.export(folder)`."
    )


def _first_that_fails(model, convert):
    """The first layer up to which the model can't be exported; None if each can."""
    calls = []

    def call(layer, *args, **kwargs):
        outputs = layer(*args, **kwargs)
        calls.append((layer, outputs))
        return outputs

    connected = keras.models.clone_model(
        keras.Model(model.inputs, model.outputs),
        clone_function=lambda layer: layer,
        call_function=call,
    )

    def fails(count):
        made = [outputs for _, outputs in calls[: count + 1]]
        try:
            convert(keras.Model(connected.inputs, keras.tree.flatten(made)))
        except Exception:
            return True
        return False

    first = bisect.bisect_left(range(len(calls)), True, key=fails)
    return calls[first][0] if first < len(calls) else None
