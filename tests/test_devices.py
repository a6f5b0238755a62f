"""One SavedModel for a CPU and a GPU: what is in it, and what runs where.

No GPU is needed. cuDNN's part is held against its documentation: NVIDIA's description of
`cudnnRNNMode_t` gives the equations, that of `cudnnGetRNNLinLayerMatrixParams` the order of
the gates, both written out below in numpy.
"""

import subprocess

import keras
import numpy as np
import processes
import pytest
import tensorflow as tf
from conftest import saved_model
from tensorflow.core.framework import graph_pb2
from tensorflow.core.protobuf import config_pb2, device_properties_pb2, meta_graph_pb2
from tensorflow.python.grappler import cluster, tf_optimizer

import layers
from layers.recurrence import cudnn, loop, plans
from layers.recurrence.given import Given

FEATURES, UNITS = 3, 4
CELLS = {
    "tanh": lambda: layers.SimpleRNNCell(UNITS),
    "relu": lambda: layers.SimpleRNNCell(UNITS, activation="relu"),
    "LSTM": lambda: layers.LSTMCell(UNITS),
    "LSTM, no bias": lambda: layers.LSTMCell(UNITS, use_bias=False),
    "GRU": lambda: layers.GRUCell(UNITS),
    "GRU, no bias": lambda: layers.GRUCell(UNITS, use_bias=False),
    "GRU, replace": lambda: layers.GRUCell(UNITS, update_gate="replace"),
}


def cudnn_rnn(input, input_h, input_c, params, sequence_lengths, rnn_mode, is_training):
    """What cuDNN's documentation says it computes, one layer in one direction."""
    x, h, c, lengths = input, input_h[0], input_c[0], sequence_lengths
    assert (lengths.numpy() >= 1).all() and len(x) > 0 and x.shape[1] > 0
    count = {"rnn_tanh": 1, "rnn_relu": 1, "lstm": 4, "gru": 3}[rnn_mode]
    units, sizes = h.shape[1], [x.shape[2]] * count + [h.shape[1]] * count
    pieces = tf.split(params, [units * n for n in sizes] + [units] * 2 * count)
    matrices = [tf.reshape(p, (units, n)) for p, n in zip(pieces, sizes)]  # row-major
    w, r = matrices[:count], matrices[count:]
    b_w, b_r = pieces[2 * count : 3 * count], pieces[3 * count :]
    outputs = []
    for t in range(len(x)):
        runs = (t < lengths)[:, None]
        from_x = [x[t] @ tf.transpose(w_k) + b for w_k, b in zip(w, b_w)]
        from_h = [h @ tf.transpose(r_k) + b for r_k, b in zip(r, b_r)]
        if rnn_mode == "lstm":  # 0: input gate, 1: forget gate, 2: new memory, 3: output gate
            i, f, new, o = (a + b for a, b in zip(from_x, from_h))
            c_t = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(new)
            h_t = tf.sigmoid(o) * tf.tanh(c_t)
            c = tf.where(runs, c_t, c)
        elif rnn_mode == "gru":  # 0: reset gate, 1: update gate, 2: new memory
            reset, update = (tf.sigmoid(a + b) for a, b in zip(from_x[:2], from_h[:2]))
            h_t = (1 - update) * tf.tanh(from_x[2] + reset * from_h[2]) + update * h
        else:
            h_t = from_x[0] + from_h[0]
            h_t = tf.tanh(h_t) if rnn_mode == "rnn_tanh" else tf.nn.relu(h_t)
        h = tf.where(runs, h_t, h)
        outputs.append(tf.where(runs, h_t, 0.0))
    return (tf.stack(outputs), h[None], c[None], None, None)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("name", CELLS)
def test_cudnn_is_given_what_makes_it_compute_the_same(monkeypatch, name, return_sequences, masked):
    monkeypatch.setattr(tf.raw_ops, "CudnnRNNV3", cudnn_rnn)
    rng = np.random.default_rng(0)
    cell = CELLS[name]()
    cell.build((None, None, FEATURES))
    cell.set_weights([rng.normal(size=w.shape) for w in cell.get_weights()])
    x = tf.constant(rng.normal(size=(5, 6, FEATURES)).astype("float32"))
    states = [tf.constant(rng.normal(size=(6, n)).astype("float32")) for n in cell.state_sizes]
    mask = rng.random((5, 6)) < 0.5
    mask[:, 0], mask[:, 1], mask[2, 2] = True, False, True
    given = Given(x, states, tf.constant(mask) if masked else None)

    def results(recurrence):
        weights = [w.value for w in cell.weights]
        with tf.GradientTape() as tape:
            tape.watch([x, states])
            y, last = recurrence(cell.weight_values(), given)
            if masked and return_sequences:  # before the first step that counts is no output
                y = tf.where(tf.cumsum(tf.cast(mask, "int32"))[:, :, None] > 0, y, 0.0)
            total = tf.reduce_sum(tf.sin(y)) + sum(tf.reduce_sum(s**2) for s in last)
        return y, last, tape.gradient(total, [x, states, weights])

    ours = results(cudnn.recurrence(cell, return_sequences, training=True))
    expected = results(loop.recurrence(cell, True, return_sequences))
    for a, b in zip(tf.nest.flatten(ours), tf.nest.flatten(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steps, rows", [(0, 2), (3, 0)])
def test_cudnn_is_not_asked_about_nothing(steps, rows):
    cell = CELLS["LSTM"]()
    cell.build((None, None, FEATURES))
    states = [tf.ones((rows, UNITS)), 2 * tf.ones((rows, UNITS))]
    arguments = cell.weight_values(), Given(tf.zeros((steps, rows, FEATURES)), states)
    for return_sequences in (False, True):
        ours = cudnn.recurrence(cell, return_sequences)(*arguments)
        expected = loop.recurrence(cell, False, return_sequences, block=1)(*arguments)
        for a, b in zip(tf.nest.flatten(ours), tf.nest.flatten(expected), strict=True):
            np.testing.assert_array_equal(a, b)


def test_only_what_cudnn_computes_is_left_to_it():
    class Changed(layers.LSTMCell):
        def update(self, x, states, dot):
            return super().update(2 * x, states, dot)

    assert [make().cudnn_mode for make in CELLS.values()] == [
        "rnn_tanh", "rnn_relu", "lstm", "lstm", "gru", "gru", "gru",
    ]  # fmt: skip
    for cell in (
        layers.SimpleRNNCell(UNITS, activation="sigmoid"),
        layers.LSTMCell(UNITS, activation="relu"),
        layers.LSTMCell(UNITS, recurrent_activation="hard_sigmoid"),
        layers.GRUCell(UNITS, reset_after=False),
        layers.PeepholeLSTMCell(UNITS),
        Changed(UNITS),
    ):
        assert cell.cudnn_mode is None


# --- Training where there is a GPU -------------------------------------------------------------


def training_graph(layer, dtype="float32", mask=False):
    """The operations of a training step, by type."""
    signature = [tf.TensorSpec((None, None, FEATURES)), tf.TensorSpec((None, None), tf.bool)]

    @tf.function(input_signature=signature)
    def step(x, counts):
        with tf.GradientTape() as tape:
            y = layer(x, training=True, **({"mask": counts} if mask else {}))
            total = tf.reduce_sum(tf.cast(y, "float32"))
        return tape.gradient(total, [w.value for w in layer.weights])

    graph = step.get_concrete_function().graph.as_graph_def()
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    return {node.op: node for node in nodes}


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize(
    "make, mode",
    [
        (lambda **k: layers.LSTM(UNITS, dropout=0.1, **k), b"lstm"),
        (lambda **k: layers.GRU(UNITS, update_gate="replace", **k), b"gru"),
        (lambda **k: layers.SimpleRNN(UNITS, activation="relu", **k), b"rnn_relu"),
    ],
)
def test_training_on_a_gpu_is_cudnns_with_its_gradient(monkeypatch, make, mode, policy, mask):
    monkeypatch.setattr(plans, "there_is_a_gpu", lambda: True)
    layer = make(dtype=policy, return_sequences=True)
    assert not layer.supports_jit  # `fit` must not put it into XLA
    layer.build((None, None, FEATURES))
    ops = training_graph(layer, mask=mask)
    forward = ops["CudnnRNNV3"]
    dtype = tf.as_dtype(policy.removeprefix("mixed_"))
    assert forward.attr["is_training"].b and forward.attr["rnn_mode"].s == mode
    assert forward.attr["T"].type == ops["CudnnRNNBackpropV3"].attr["T"].type == dtype
    assert not any(node.attr["_XlaMustCompile"].b for node in ops.values())


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.LSTM(UNITS, recurrent_dropout=0.1),
        lambda: layers.LSTM(UNITS, activation="relu"),
        lambda: layers.GRU(UNITS, reset_after=False),
        lambda: layers.PeepholeLSTM(UNITS),
    ],
)
def test_what_cudnn_does_not_express_is_compiled_on_a_gpu(monkeypatch, make, capsys):
    monkeypatch.setattr(plans, "there_is_a_gpu", lambda: True)
    layer = make()
    assert layer.supports_jit
    layer.build((None, None, FEATURES))
    assert "CudnnRNNV3" not in training_graph(layer)
    layers.explain(layer)
    told = capsys.readouterr().out
    assert "training: compiled" in told and "two halves" not in told.split("inference")[0]


# --- What is exported -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(the folder, the model's input, its output): a model of all that cuDNN has."""
    inputs = keras.Input((None, FEATURES))
    x = keras.layers.Masking()(inputs)
    x = layers.Bidirectional(layers.LSTM(UNITS, return_sequences=True))(x)
    x = layers.GRU(UNITS, return_sequences=True)(x)
    model = keras.Model(inputs, layers.SimpleRNN(UNITS)(x))
    folder = tmp_path_factory.mktemp("model") / "1"
    with layers.without_gradients():
        model.export(folder, verbose=False)
    x = np.random.default_rng(0).normal(size=(3, 5, FEATURES)).astype("float32")
    x[1, 2:], x[2, :2] = 0, 0
    return folder, x, model(x).numpy()


def by_device(library):
    """{api: {device: function's name}}."""
    found = {}
    for f in library.function:
        if "api_implements" in f.attr:
            device = f.attr["api_preferred_device"].s.decode()
            found.setdefault(f.attr["api_implements"].s, {})[device] = f.signature.name
    return found


def calls(graph, names):
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    return [n for n in nodes if "f" in n.attr and n.attr["f"].func.name in names]


def test_both_functions_are_there_and_the_portable_one_is_called(exported):
    graph = saved_model(exported[0]).meta_graphs[0].graph_def
    pairs = by_device(graph.library)
    assert len(pairs) >= 4 and all(set(pair) == {"CPU", "GPU"} for pair in pairs.values())
    called = calls(graph, {pair["CPU"] for pair in pairs.values()})
    configs = [tf.compat.v1.ConfigProto.FromString(n.attr["config_proto"].s) for n in called]
    assert len(called) >= 4 and not calls(graph, {pair["GPU"] for pair in pairs.values()})
    assert all(c.graph_options.rewrite_options.disable_meta_optimizer for c in configs)
    cudnn_nodes = [n for f in graph.library.function for n in f.node_def if n.op == "CudnnRNNV3"]
    modes = {n.attr["rnn_mode"].s or b"lstm" for n in cudnn_nodes}  # the default is left out
    assert modes == {b"lstm", b"gru", b"rnn_tanh"}


RUN = """
import sys
import numpy as np, tensorflow as tf
options = {"disable_meta_optimizer": True} if sys.argv[2] == "off" else {}
tf.config.optimizer.set_experimental_options(options)
folder = sys.argv[1]
model = tf.saved_model.load(folder)
np.save(folder + "/y.npy", model.serve(np.load(folder + "/x.npy")))
"""


def run(folder, x, optimizer):
    np.save(folder / "x.npy", x)
    done = processes.run(["-c", RUN, folder, optimizer], cwd=folder, check=False)
    return done.stderr if done.returncode else np.load(folder / "y.npy")


@pytest.mark.parametrize("optimizer", ["on", "off"])
def test_on_a_cpu_it_runs_whether_or_not_the_loader_selects(exported, optimizer):
    folder, x, expected = exported
    np.testing.assert_allclose(run(folder, x, optimizer), expected, atol=1e-5)


def test_the_selector_puts_in_what_is_for_the_device(exported, tmp_path):
    """Call cuDNN's functions instead, where there is no GPU: the portable ones run."""
    folder, x, expected = exported
    subprocess.run(["cp", "-r", str(folder), str(tmp_path / "1")], check=True)
    saved = saved_model(folder)
    graph = saved.meta_graphs[0].graph_def
    on_gpu = {p["CPU"]: p["GPU"] for p in by_device(graph.library).values()}
    for node in calls(graph, on_gpu):
        node.attr["f"].func.name = on_gpu[node.attr["f"].func.name]
    (tmp_path / "1/saved_model.pb").write_bytes(saved.SerializeToString())
    (tmp_path / "1/fingerprint.pb").unlink()
    np.testing.assert_allclose(run(tmp_path / "1", x, "on"), expected, atol=1e-5)
    assert "CudnnRNNV3" in run(tmp_path / "1", x, "off")  # so it was called, and swapped


@pytest.mark.parametrize("device", ["CPU", "GPU"])
def test_the_selector_on_a_machine_with_a_gpu(exported, device):
    """Grappler, told of a machine with a GPU, on which the calls are placed."""
    library = saved_model(exported[0]).meta_graphs[0].graph_def.library
    pairs = by_device(library).values()
    bodies = {f.signature.name: f for f in library.function}
    meta = meta_graph_pb2.MetaGraphDef(graph_def=graph_pb2.GraphDef(library=library))
    for k, pair in enumerate(pairs):
        node = meta.graph_def.node.add(name=f"call_{k}", op="StatefulPartitionedCall")
        node.device = f"/job:localhost/replica:0/task:0/device:{device}:0"
        node.attr["f"].func.name = pair["CPU"]
        signature = bodies[pair["CPU"]].signature
        for i, argument in enumerate(signature.input_arg):
            given = meta.graph_def.node.add(name=f"input_{k}_{i}", op="Placeholder")
            given.attr["dtype"].type = argument.type
            given.attr["shape"].shape.unknown_rank = True
            node.input.append(given.name)
            node.attr["Tin"].list.type.append(argument.type)
        node.attr["Tout"].list.type.extend(a.type for a in signature.output_arg)
        fetch = meta.collection_def["train_op"].node_list.value
        fetch.append(node.name)
    config = config_pb2.ConfigProto()
    rewrite = config.graph_options.rewrite_options
    rewrite.min_graph_nodes = -1
    rewrite.function_optimization = rewrite.OFF  # or the calls are gone, for what they call
    properties = device_properties_pb2.DeviceProperties(type=device, frequency=1000, num_cores=1)
    name = f"/job:localhost/replica:0/task:0/device:{device}:0"
    named = device_properties_pb2.NamedDevice(name=name, properties=properties)
    optimized = tf_optimizer.OptimizeGraph(
        config, meta, cluster=cluster.Cluster(devices=[named], disable_timeline=True)
    )
    called = {n.attr["f"].func.name for n in optimized.node if n.name.startswith("call_")}
    assert called == {pair[device] for pair in pairs}
