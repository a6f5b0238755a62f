"""What this package takes from TensorFlow and Keras that they do not promise to keep.

One function for each, with the reason; `tests/test_private_apis.py` fails when one goes away.
"""

import contextlib
import functools
import inspect
import random
from collections.abc import Callable, Iterator

import tensorflow as tf
from keras.src.backend.common import global_state
from keras.src.backend.common.variables import AutocastScope
from keras.src.layers.layer import CallContext
from keras.src.random import seed_generator
from keras.src.utils.tracking import no_automatic_dependency_tracking
from tensorflow.core.framework import attr_value_pb2
from tensorflow.python.framework import kernels, ops
from tensorflow.python.ops import control_flow_util


def inside_xla() -> bool:
    """Whether what is traced now is for a function that XLA compiles as a whole.

    Nested compilation is refused by XLA, and what is compiled by the caller needs none.
    """
    graph = tf.compat.v1.get_default_graph()
    return bool(control_flow_util.GraphOrParentsInXlaContext(graph))


@functools.cache
def xla_compiles(operation: str) -> bool:
    """Whether XLA has a kernel for an operation of TensorFlow's, by its name.

    Else a cell that contains the operation would fail where it runs, not where it is traced.
    """
    _start_xla()
    found = kernels.get_registered_kernels_for_op(operation).kernel
    return any(kernel.device_type == "XLA_CPU_JIT" for kernel in found)


@functools.cache
def _start_xla():
    with tf.init_scope():  # its kernels are registered when it first compiles something
        tf.function(lambda x: x + 1, jit_compile=True)(tf.constant(0))


def make_global_seed() -> None:
    """Makes Keras's global seed generator, which `keras.random` uses where it gets no `seed`.

    Keras would make it, a variable, where a cell first draws: inside of a scope that has none.
    Whatever is built next starts from the numbers that it would start from without.
    """
    state = random.getstate()
    random.seed(f"global {random.random()}")
    with tf.init_scope():
        seed_generator.global_seed_generator()
    random.setstate(state)


def call_values(training: bool) -> dict:
    """What a layer that is called here learns from the calls around it: whether they train."""
    context = global_state.get_global_attribute("current_call_ctx")
    around = {} if context is None else vars(context)
    return {**{k: v for k, v in around.items() if k != "entry_layer"}, "training": training}


@contextlib.contextmanager
def called_with(values: dict) -> Iterator[None]:
    """Inside, layers learn `values` from the calls around them.

    Keras keeps them for each thread, and until the call ends. What is traced in another thread, or
    for a gradient, would be traced for inference.
    """
    before = global_state.get_global_attribute("current_call_ctx")
    context = CallContext(entry_layer=None)
    for name, value in values.items():
        context.set_value(name, value)
    global_state.set_global_attribute("current_call_ctx", context)
    try:
        yield
    finally:
        global_state.set_global_attribute("current_call_ctx", before)


def new_graph(name: str) -> tf.Graph:
    """An empty graph like a `tf.function`'s, to trace a cell in without making it callable."""
    return tf.__internal__.FuncGraph(name)


def own_gradient(op: tf.Operation) -> tuple[Callable, int] | None:
    """Of an operation in which a `tf.custom_gradient` ends, its gradient function, and how many of
    its inputs are results: the others are arguments. Of any other, None."""
    if op.type != "IdentityN" or "_gradient_op_type" not in op.node_def.attr:
        return None
    gradient = ops.get_gradient_function(op)
    on_tape = inspect.getclosurevars(gradient).nonlocals["tape_grad_fn"]
    return gradient, inspect.getclosurevars(on_tape).nonlocals["flat_result_len"]


def has_gradient(op: tf.Operation) -> bool:
    """Whether gradients go through an operation."""
    try:
        return ops.get_gradient_function(op) is not None
    except LookupError:
        return True  # or it is said when one is asked for


def graphs_inside(op: tf.Operation) -> list[tuple[tf.Graph, list[tf.Tensor]]]:
    """The graphs of an operation's functions, such as a condition's branches; and for each, the
    operation's inputs that are its inputs."""
    found = []
    for value in op.node_def.attr.values():
        for function in [value.func] if value.HasField("func") else value.list.func:
            known = op.graph._get_function(function.name)
            graph = getattr(known, "graph", None)
            if graph is not None:
                found.append((graph, list(op.inputs)[len(op.inputs) - len(graph.inputs) :]))
    return found


def uncast():
    """A scope in which variables are read in their own type, whatever layer reads them."""
    return AutocastScope(None)


def raw_value(variable):
    """A Keras variable's `tf.Variable`, past a `keras.StatelessScope`."""
    return variable._value


def assign_now(variable, value) -> None:
    """Assigns a Keras variable inside of a `keras.StatelessScope`, which would only note it."""
    variable._direct_assign(value)


def layers_inside(layer) -> list:
    """(a layer inside of this one, at any depth; its own variables, each with whether it is cast
    to the type that the layer computes in)."""
    found = []
    for inner in layer._flatten_layers(include_self=False):
        own = (*inner._trainable_variables, *inner._non_trainable_variables)
        found.append((inner, [(variable, variable._autocast) for variable in own]))
    return found


# Around a method: what it sets is no weight of the layer, such as states.
untracked = no_automatic_dependency_tracking


def calls_of(layer):
    """The (positional, keyword) arguments of each symbolic call of a layer of Keras's.

    What feeds which argument is part of a model, and no public function tells it.
    """
    return [(node.arguments.args, node.arguments.kwargs) for node in layer._inbound_nodes]


def made_of(tensors: list) -> list:
    """The symbolic tensors, and all those that they were made of."""
    found, left = {}, list(tensors)
    while left:
        x = left.pop()
        if id(x) not in found:
            found[id(x)] = x
            history = x._keras_history
            left.extend(history.operation._inbound_nodes[history.node_index].input_tensors)
    return list(found.values())


def leave_unoptimized(outputs) -> None:
    """Has a called function, of which these are the outputs, not optimized when it is first called.

    That is a fourth of an export's first answer, and the answers after it come no sooner. There is
    a public switch for it, but it is for all threads.
    """
    operations = set()
    for x in tf.nest.flatten(outputs):
        operation = x.op
        while operation.type == "Identity":
            operation = operation.inputs[0].op
        operations.add(operation)
    (call, *others) = operations
    if others or "config_proto" not in call.node_def.attr:  # functions run eagerly: none is called
        return
    config = tf.compat.v1.ConfigProto.FromString(call.get_attr("config_proto"))
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    value = attr_value_pb2.AttrValue(s=config.SerializeToString())
    call._set_attr("config_proto", value)


def write_in_place(converter) -> None:
    """Has a `tf.lite.TFLiteConverter`'s loops write a step's output into the tensor of all.

    Else each step copies all that is there, to put one step more into it.
    """
    assert converter._experimental_enable_dynamic_update_slice is False
    converter._experimental_enable_dynamic_update_slice = True
