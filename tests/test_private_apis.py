"""Fails when TensorFlow or Keras no longer has what `layers/private_apis.py` takes from them."""

import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

import layers
from layers import private_apis


@pytest.mark.parametrize("xla", [False, True])
def test_whether_the_caller_compiles_is_seen(xla):
    seen = []
    tf.function(lambda: seen.append(private_apis.inside_xla()), jit_compile=xla or None)()
    assert set(seen) == {xla}
    assert not private_apis.inside_xla()


def test_which_operations_xla_compiles_is_known():
    assert private_apis.xla_compiles("MatMul") and private_apis.xla_compiles("Tanh")
    assert not private_apis.xla_compiles("StringLower")


def test_the_global_seed_generator_is_made_before_it_is_used_in_a_scope():
    keras.backend.clear_session()
    private_apis.make_global_seed()
    with keras.StatelessScope():
        assert keras.random.normal((2,)).shape == (2,)


def test_a_graph_to_trace_in_is_like_a_functions():
    graph, outside = private_apis.new_graph("look"), tf.random.normal((200,))
    with graph.as_default():
        y = outside + 1
    assert y.graph is graph and len(graph.captures) == 1


def test_a_variable_is_assigned_inside_of_a_scope():
    variable = keras.Variable(1.0)
    with keras.StatelessScope():
        private_apis.assign_now(variable, tf.constant(2.0))
    assert variable.numpy() == 2


def test_a_converter_of_lites_has_loops_write_in_place():
    f = tf.function(tf.identity, [tf.TensorSpec([2])]).get_concrete_function()
    private_apis.write_in_place(tf.lite.TFLiteConverter.from_concrete_functions([f], tf.Module()))


def test_a_called_function_can_be_left_unoptimized():
    called = tf.function(lambda x: (x, 2 * x))

    def calling(x):
        found = called(x)
        private_apis.leave_unoptimized(found)
        return found

    f = tf.function(calling, [tf.TensorSpec([])]).get_concrete_function()
    (call,) = [x for x in f.graph.get_operations() if x.type.endswith("PartitionedCall")]
    config = tf.compat.v1.ConfigProto.FromString(call.get_attr("config_proto"))
    assert config.graph_options.rewrite_options.disable_meta_optimizer
    assert [float(y) for y in f(tf.constant(3.0))] == [3, 6]
    assert not tf.config.optimizer.get_experimental_options().get("disable_meta_optimizer")


def test_functions_that_run_eagerly_are_traced_too():
    layer = layers.LSTM(2)
    layer.build((None, None, 3))
    tf.config.run_functions_eagerly(True)
    try:
        data = tf.data.Dataset.from_tensors(tf.ones((2, 5, 3))).map(layer)
        (found,) = data
    finally:
        tf.config.run_functions_eagerly(False)
    np.testing.assert_allclose(found, layer(tf.ones((2, 5, 3))), rtol=1e-5)


def test_layers_learn_from_the_calls_around_them_in_any_thread():
    class Training(keras.layers.Layer):
        def call(self, x, training=None):
            found.append(training)
            return x

    class Around(keras.layers.Layer):
        def call(self, x, training=None):
            values = private_apis.call_values(training)
            thread = threading.Thread(target=inside, args=(values, x))
            thread.start()
            thread.join()
            return layer(x)

    def inside(values, x):
        layer(x)
        with private_apis.called_with(values):
            layer(x)
        layer(x)

    found, layer = [], Training()
    Around()(tf.zeros(1), training=True)
    assert found == [None, True, None, True]


def test_the_variables_of_layers_inside_are_known():
    norm = keras.layers.BatchNormalization()
    model = keras.Sequential([keras.Input((3,)), keras.Sequential([norm])])
    (weights,) = (weights for layer, weights in private_apis.layers_inside(model) if layer is norm)
    assert {w.name for w, _ in weights} == {"gamma", "beta", "moving_mean", "moving_variance"}
    assert not any(casts for w, casts in weights if w.name.startswith("moving"))


def test_what_is_set_untracked_is_no_weight():
    class Layer(keras.Layer):
        @private_apis.untracked
        def keep(self):
            self.states = [keras.Variable(1.0)]

    layer = Layer()
    layer.keep()
    assert not layer.weights


def test_functions_with_a_gradient_of_their_own_are_known_in_a_graph():
    @tf.custom_gradient
    def two(x, y):
        return (x + y, x * y, tf.identity(x)), lambda *dy: (dy[0], 3 * dy[1])

    graph = private_apis.new_graph("own")
    with graph.as_default():
        x = tf.compat.v1.placeholder("float32", (2,))
        two(x, 2 * x)
        tf.cond(x[0] > 0, lambda: two(x, x)[0], lambda: x)
    (end,) = (op for op in graph.get_operations() if private_apis.own_gradient(op))
    gradient, results = private_apis.own_gradient(end)
    assert results == 3 and len(end.inputs) == 5
    found = gradient(end, *(tf.fill([2], 1.0 + k) for k in range(5)))
    assert found[:3] == [None] * 3
    assert [g.numpy().tolist() for g in found[3:]] == [[1.0, 1.0], [6.0, 6.0]]
    inner = [
        (
            len(given),
            len(branch.inputs),
            any(map(private_apis.own_gradient, branch.get_operations())),
        )
        for op in graph.get_operations()
        for branch, given in private_apis.graphs_inside(op)
    ]
    assert sorted(inner) == [(1, 1, False), (1, 1, True)]
    kinds = {op.type: private_apis.has_gradient(op) for op in graph.get_operations()}
    assert kinds["Mul"] and not kinds["Greater"]


def test_a_variable_is_read_in_its_own_type_and_past_a_scope():
    layer = keras.layers.Dense(2, dtype="mixed_float16")
    layer.build((None, 2))
    seen = []
    layer.call = lambda x: seen.append(layer.kernel.value.dtype) or x
    with private_apis.uncast():
        assert layer.kernel.value.dtype == tf.float32
    layer(np.zeros((1, 2)))
    assert seen == [tf.float16]
    with keras.StatelessScope([(layer.kernel, np.ones((2, 2)))]):
        np.testing.assert_array_equal(layer.kernel.value, 1)
        assert np.any(private_apis.raw_value(layer.kernel).numpy() != 1)
