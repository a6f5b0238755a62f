"""The numbers and the gradients of keras.layers, under every argument they share."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import layers

pytestmark = pytest.mark.usefixtures("without_graph_optimizer")

BATCH, TIME, FEATURES, UNITS = 3, 4, 2, 3
SHAPE = (BATCH, TIME, FEATURES)
NAMES = ["SimpleRNN", "LSTM", "GRU"]
MERGE_MODES = ["concat", "sum", "mul", "ave", None]

MASKS = {
    "none": None,
    "left": np.array([[0, 0, 1, 1], [0, 1, 1, 1], [1, 1, 1, 1]], bool),
    "right": np.array([[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]], bool),
    "holes": np.array([[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 0, 1]], bool),
    "whole row": np.array([[0, 0, 0, 0], [1, 1, 0, 1], [0, 0, 0, 0]], bool),
}
INPUTS = np.random.default_rng(0).normal(size=SHAPE).astype("float32")


def tie(ours, theirs, shape=SHAPE):
    """Both, built, with the same random weights."""
    rng = np.random.default_rng(1)
    for layer in (theirs, ours):
        if not layer.built:
            layer.build(shape)
    theirs.set_weights([rng.normal(0, 0.5, w.shape) for w in theirs.get_weights()])
    ours.set_weights(theirs.get_weights())
    return ours, theirs


def pair(name, **kwargs):
    return tie(*(getattr(m, name)(UNITS, **kwargs) for m in (layers, keras.layers)))


def random_states(layer):
    rng = np.random.default_rng(2)
    sizes = keras.tree.flatten(layer.state_size)
    return [rng.normal(size=(BATCH, n)).astype("float32") for n in sizes]


def observed(layer, x, initial_state=None, **call):
    """All outputs and states; and the gradients of a sum of them, each with random weights."""
    watched = [tf.constant(x), *map(tf.constant, initial_state or [])]
    with tf.GradientTape() as tape:
        tape.watch(watched)
        states = {"initial_state": watched[1:]} if initial_state else {}
        results = tf.nest.flatten(layer(watched[0], **states, **call))
        rng = np.random.default_rng(3)
        total = sum(
            tf.reduce_sum(tf.cast(r, tf.float32) * rng.normal(size=r.shape)) for r in results
        )
    return results, tape.gradient(total, [*watched, *(w.value for w in layer.trainable_weights)])


def assert_same(ours, theirs, x=INPUTS, tolerance=1e-5, **call):
    for mine, yours in zip(observed(ours, x, **call), observed(theirs, x, **call)):
        assert len(mine) == len(yours)
        for a, b in zip(mine, yours):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


# --- Every argument --------------------------------------------------------------------

ACTIVATIONS = st.sampled_from(["tanh", "sigmoid", "relu", "linear", "elu", None])
GATES = st.sampled_from(["sigmoid", "hard_sigmoid", "tanh"])
BOTH = st.booleans()
SHARED = {
    "activation": ACTIVATIONS,
    "use_bias": BOTH,
    "return_sequences": BOTH,
    "return_state": BOTH,
    "go_backwards": BOTH,
    "unroll": BOTH,
    "zero_output_for_mask": BOTH,
}
OWN = {
    "SimpleRNN": {},
    "LSTM": {"recurrent_activation": GATES, "unit_forget_bias": BOTH},
    "GRU": {"recurrent_activation": GATES, "reset_after": BOTH},
}


@pytest.mark.parametrize("name", NAMES)
def test_every_combination_of_arguments(name):
    @settings(derandomize=True, max_examples=30, deadline=None, database=None)
    @given(st.fixed_dictionaries({**SHARED, **OWN[name]}), st.sampled_from([*MASKS]), st.booleans())
    def check(arguments, kind, with_states):
        ours, theirs = pair(name, **arguments)
        if arguments["go_backwards"] and arguments["zero_output_for_mask"]:
            # Unrolled, Keras forgets to turn the mask round for the zeros; its loop does not.
            theirs.unroll = False
        states = random_states(ours) if with_states else None
        assert_same(ours, theirs, mask=MASKS[kind], initial_state=states)

    check()


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_every_mask(name, go_backwards, kind):
    ours, theirs = pair(name, go_backwards=go_backwards, return_sequences=True, return_state=True)
    assert_same(ours, theirs, mask=MASKS[kind], initial_state=random_states(ours))


@pytest.mark.parametrize("reset_after", [True, False])
def test_replacing_is_keeping_with_the_update_gate_negated(reset_after):
    arguments = {"reset_after": reset_after, "return_sequences": True, "return_state": True}
    ours, theirs = tie(
        layers.GRU(UNITS, update_gate="replace", **arguments),
        keras.layers.GRU(UNITS, **arguments),
    )
    sign = np.ones(3 * UNITS, "float32")
    sign[:UNITS] = -1  # σ(−a) = 1 − σ(a)
    ours.set_weights([w * sign for w in theirs.get_weights()])
    for mask in MASKS.values():
        mine, yours = (observed(layer, INPUTS, mask=mask) for layer in (ours, theirs))
        for a, b in zip(mine[0] + mine[1][:1], yours[0] + yours[1][:1]):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
        for a, b in zip(mine[1][1:], yours[1][1:]):
            np.testing.assert_allclose(a * sign, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("name", NAMES)
def test_stateful(name, kind):
    ours, theirs = pair(name, stateful=True, return_state=True, return_sequences=True)
    first = ours(INPUTS, mask=MASKS[kind])[0].numpy()
    theirs(INPUTS, mask=MASKS[kind])
    for _ in range(2):
        assert_same(ours, theirs, mask=MASKS[kind])
    assert not np.allclose(ours(INPUTS, mask=MASKS[kind])[0], first)
    for layer in (ours, theirs):
        layer.reset_state()
    np.testing.assert_array_equal(ours(INPUTS, mask=MASKS[kind])[0], first)
    theirs(INPUTS, mask=MASKS[kind])
    assert_same(ours, theirs, mask=MASKS[kind])


def test_a_seed_gives_the_same_initial_weights():
    for name in ("LSTM", "GRU"):  # Keras's SimpleRNN draws the seed of its dropout first
        drawn = []
        for module in (layers, keras.layers):
            keras.backend.clear_session()
            keras.utils.set_random_seed(0)
            model = keras.Sequential([keras.Input(SHAPE[1:])])
            model.add(getattr(module, name)(UNITS, return_sequences=True))
            model.add(getattr(module, name)(UNITS))  # nor is anything drawn in between
            drawn.append(model.get_weights())
        for a, b in zip(*drawn):
            np.testing.assert_array_equal(a, b)


# --- Dropout: the same draws, in the same order -------------------------------------------


@pytest.mark.parametrize("rates", [(0.5, 0.0), (0.0, 0.5), (0.3, 0.4)])
@pytest.mark.parametrize(
    ("name", "own"),
    [("SimpleRNN", {}), ("LSTM", {}), ("GRU", {}), ("GRU", {"reset_after": False})],
)
def test_dropout_draws_the_same_masks(name, own, rates):
    dropout, recurrent_dropout = rates
    ours, theirs = pair(
        name,
        **own,
        dropout=dropout,
        recurrent_dropout=recurrent_dropout,
        seed=7,
        return_sequences=True,
        return_state=True,
    )
    for kind in ("none", "holes"):
        assert_same(ours, theirs, mask=MASKS[kind], training=True)
    assert not np.allclose(ours(INPUTS, training=True)[0], ours(INPUTS, training=False)[0])
    assert_same(ours, theirs, training=False)


def test_dropout_in_both_directions():
    def make(m):
        return m.Bidirectional(m.GRU(UNITS, dropout=0.4, recurrent_dropout=0.4, seed=3))

    assert_same(*tie(make(layers), make(keras.layers)), training=True)


def test_one_cell_twice_in_a_stack():
    def twice(m):
        return [m.LSTMCell(FEATURES)] * 2

    ours, theirs = (m.RNN(twice(m), return_sequences=True) for m in (layers, keras.layers))
    assert_same(*tie(ours, theirs))


@pytest.mark.parametrize("own", [slice(0, 2), slice(0, 1), slice(1, 2)])
def test_dropout_in_stacks(own):
    """Both cells ours, or one of them Keras's."""

    def cells(m):
        return [
            m.LSTMCell(UNITS, dropout=0.5, recurrent_dropout=0.5, seed=1),
            m.GRUCell(UNITS, dropout=0.5, seed=2),
        ]

    mixed = cells(keras.layers)
    mixed[own] = cells(layers)[own]
    theirs = keras.layers.RNN(cells(keras.layers), return_sequences=True)
    assert_same(*tie(layers.RNN(mixed, return_sequences=True), theirs), training=True)


# --- Regularizers and constraints -----------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_regularizers_add_the_same_losses(name):
    ours, theirs = pair(
        name,
        kernel_regularizer="l1",
        recurrent_regularizer="l2",
        bias_regularizer=keras.regularizers.L1(0.3),
        activity_regularizer=keras.regularizers.L2(0.2),
        return_sequences=True,
    )
    # Keras's SimpleRNN drops this argument.
    theirs.activity_regularizer = keras.regularizers.L2(0.2)
    ours(INPUTS), theirs(INPUTS)
    assert len(ours.losses) == 4
    np.testing.assert_allclose(sorted(ours.losses), sorted(theirs.losses), rtol=1e-5)


def fitted(layer, weights=None, mask_value=None, jit_compile=False):
    """The weights before and after two steps of SGD."""
    masking = [] if mask_value is None else [keras.layers.Masking(mask_value)]
    inputs = keras.Input((None, FEATURES))
    model = keras.Sequential([inputs, *masking, layer, keras.layers.Dense(1)])
    rng = np.random.default_rng(4)
    if weights is None:
        weights = [rng.normal(0, 0.5, w.shape) for w in model.get_weights()]
    model.set_weights(weights)
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=jit_compile)
    y = np.linspace(-1, 1, BATCH)[:, None]
    model.fit(INPUTS, y, epochs=2, shuffle=False, verbose=0)  # one batch, of unknown size
    return weights, model.get_weights()


def test_constraints_are_applied():
    arguments = {
        "kernel_constraint": "non_neg",
        "recurrent_constraint": keras.constraints.MaxNorm(0.3),
        "bias_constraint": "non_neg",
    }
    for name in NAMES:
        weights, mine = fitted(getattr(layers, name)(UNITS, **arguments))
        _, yours = fitted(getattr(keras.layers, name)(UNITS, **arguments), weights)
        assert min(np.min(weights[0]), np.min(weights[2])) < 0
        assert min(np.min(mine[0]), np.min(mine[2])) >= 0
        for a, b in zip(mine, yours):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


# --- Bidirectional ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "merge_mode"),  # what is merged is the same of each
    [*((name, "concat") for name in NAMES), *(("LSTM", mode) for mode in MERGE_MODES[1:])],
)
def test_bidirectional(name, merge_mode):
    for sequences, state in ((True, True), (False, False)):
        arguments = {"return_sequences": sequences, "return_state": state}
        ours, theirs = tie(
            *(
                m.Bidirectional(getattr(m, name)(UNITS, **arguments), merge_mode=merge_mode)
                for m in (layers, keras.layers)
            )
        )
        states = 2 * random_states(ours.forward_layer)
        assert_same(ours, theirs)
        assert_same(ours, theirs, mask=MASKS["left"])
        assert_same(ours, theirs, mask=MASKS["holes"], initial_state=states)


@pytest.mark.parametrize("go_backwards", [False, True])
def test_bidirectional_with_an_explicit_backward_layer(go_backwards):
    def make(m):
        return m.Bidirectional(
            m.LSTM(UNITS, return_sequences=True, go_backwards=go_backwards),
            backward_layer=m.GRU(
                UNITS, activation="relu", return_sequences=True, go_backwards=not go_backwards
            ),
        )

    for mask in MASKS.values():
        assert_same(*tie(make(layers), make(keras.layers)), mask=mask)


def test_bidirectional_of_different_widths_and_states():
    x = keras.Input((None, FEATURES))
    back = layers.LSTM(6, go_backwards=True, return_sequences=True)
    both = layers.Bidirectional(layers.GRU(4, return_sequences=True), backward_layer=back)
    assert both(x).shape == both.compute_output_shape(x.shape) == (None, None, 10)
    assert both(np.ones((2, 3, FEATURES), "float32")).shape == (2, 3, 10)
    with pytest.raises(ValueError, match="different numbers of states"):
        both(np.ones((2, 3, FEATURES)), initial_state=[np.ones((2, n)) for n in (4, 6, 6)])
    for mode in ("sum", "mul", "ave"):
        back = layers.LSTM(1, go_backwards=True)
        with pytest.raises(ValueError, match="outputs of 4 and 1 units by"):
            layers.Bidirectional(layers.GRU(4), merge_mode=mode, backward_layer=back)(x)


def test_bidirectional_takes_layers_of_either_kind():
    for wrapper in (layers, keras.layers):
        for m in (layers, keras.layers):
            ours, theirs = tie(
                wrapper.Bidirectional(m.LSTM(UNITS)),
                keras.layers.Bidirectional(keras.layers.LSTM(UNITS)),
            )
            assert_same(ours, theirs, mask=MASKS["holes"])


def test_bidirectional_stateful():
    ours, theirs = tie(
        *(m.Bidirectional(m.LSTM(UNITS, stateful=True)) for m in (layers, keras.layers))
    )
    for _ in range(2):
        assert_same(ours, theirs)
    for layer in (ours, theirs):
        layer.reset_state()
    assert_same(ours, theirs)


def test_bidirectional_stacked_under_a_mask():
    def make(m):
        return keras.Sequential(
            [
                keras.Input((None, FEATURES)),
                keras.layers.Masking(),
                m.Bidirectional(m.GRU(UNITS, return_sequences=True)),
                m.Bidirectional(m.LSTM(UNITS, return_sequences=True), merge_mode="sum"),
                m.Bidirectional(m.SimpleRNN(UNITS)),
            ]
        )

    for kind in ("left", "holes", "whole row"):
        x = INPUTS * MASKS[kind][..., None]
        assert_same(*tie(make(layers), make(keras.layers)), x=x.astype("float32"))


@pytest.mark.parametrize("stateful", [False, True])
@pytest.mark.parametrize("return_state", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
def test_masks_go_on_with_sequences_only(return_sequences, return_state, stateful):
    mask = tf.constant(MASKS["holes"])
    arguments = {
        "return_sequences": return_sequences,
        "return_state": return_state,
        "stateful": stateful,
    }
    all_layers = [getattr(layers, name)(UNITS, **arguments) for name in NAMES]
    all_layers += [
        layers.Bidirectional(layers.LSTM(UNITS, **arguments), merge_mode=mode)
        for mode in MERGE_MODES
    ]
    for layer in all_layers:
        results = keras.tree.flatten(layer(INPUTS, mask=mask))
        masks = keras.tree.flatten(layer.compute_mask(INPUTS, mask))
        assert len(masks) == len(results)
        for result, got in zip(results, masks):
            assert got is (mask if len(result.shape) == 3 else None)


# --- RNN, of one cell or several ----------------------------------------------------------


def stack(m):
    return [m.LSTMCell(UNITS), m.GRUCell(UNITS + 1), m.SimpleRNNCell(UNITS)]


@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("kind", ["none", "left", "holes", "whole row"])
@pytest.mark.parametrize("zero_output_for_mask", [False, True])
def test_stacks(kind, go_backwards, zero_output_for_mask):
    for return_sequences in (False, True):
        arguments = {
            "return_sequences": return_sequences,
            "return_state": True,
            "go_backwards": go_backwards,
            "zero_output_for_mask": zero_output_for_mask,
        }
        ours, theirs = tie(*(m.RNN(stack(m), **arguments) for m in (layers, keras.layers)))
        assert_same(ours, theirs, mask=MASKS[kind])


def test_stacks_take_initial_states():
    ours, theirs = tie(*(m.RNN(stack(m), return_state=True) for m in (layers, keras.layers)))
    states = keras.tree.pack_sequence_as(ours.state_size, random_states(ours))
    for unroll in (False, True):
        ours.unroll = theirs.unroll = unroll
        mine, yours = (
            keras.tree.flatten(layer(INPUTS, initial_state=states)) for layer in (ours, theirs)
        )
        for a, b in zip(mine, yours):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


CELLS = {
    "one": lambda m: m.LSTMCell(UNITS),
    "mixed": lambda m: [keras.layers.GRUCell(UNITS), m.LSTMCell(UNITS)],
    "mixed, ours first": lambda m: [m.SimpleRNNCell(UNITS), keras.layers.LSTMCell(UNITS)],
    "Keras's": lambda m: keras.layers.LSTMCell(UNITS),
}


@pytest.mark.parametrize("wrapper", [layers.RNN, keras.layers.RNN])
@pytest.mark.parametrize("cells", CELLS.values(), ids=CELLS)
def test_cells_of_either_kind(cells, wrapper):
    arguments = {"return_sequences": True, "return_state": True}
    ours, theirs = tie(
        wrapper(cells(layers), **arguments), keras.layers.RNN(cells(keras.layers), **arguments)
    )
    for kind in ("none", "holes"):
        assert_same(ours, theirs, mask=MASKS[kind])


def test_a_stack_of_one_is_its_cell():
    ours = layers.RNN([layers.LSTMCell(UNITS)], return_state=True)
    ours, theirs = tie(ours, keras.layers.LSTM(UNITS, return_state=True))
    for mask in MASKS.values():
        assert_same(ours, theirs, mask=mask)


def test_stateful_stacks():
    ours, theirs = tie(*(m.RNN(stack(m), stateful=True) for m in (layers, keras.layers)))
    first = ours(INPUTS).numpy()
    theirs(INPUTS)
    assert_same(ours, theirs)
    ours.reset_state()
    np.testing.assert_array_equal(ours(INPUTS), first)


@pytest.mark.parametrize("name", ["SimpleRNNCell", "LSTMCell", "GRUCell"])
def test_one_step_of_a_cell(name):
    ours, theirs = tie(
        *(
            getattr(m, name)(UNITS, dropout=0.5, recurrent_dropout=0.5, seed=3)
            for m in (layers, keras.layers)
        ),
        shape=(BATCH, FEATURES),
    )
    states = random_states(ours)
    for training in (False, True):
        mine, yours = (
            keras.tree.flatten(cell(INPUTS[:, 0], states, training=training))
            for cell in (ours, theirs)
        )
        for a, b in zip(mine, yours):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


# --- In graphs and models -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("jit_compile", "return_sequences"), [(False, False), (False, True), (True, True)]
)
@pytest.mark.parametrize("name", NAMES)
def test_in_a_function_of_unknown_batch_and_length(name, jit_compile, return_sequences):
    ours, theirs = pair(name, return_sequences=return_sequences, return_state=True)
    specs = [tf.TensorSpec([None, None, FEATURES]), tf.TensorSpec([None, None], tf.bool)]
    run = tf.function(
        lambda x, mask: observed_in_graph(ours, x, mask),
        input_signature=specs,
        jit_compile=jit_compile,
    )
    for batch, time in ((BATCH, TIME), (1, 2)):
        x, mask = INPUTS[:batch, :time], MASKS["holes"][:batch, :time]
        for a, b in zip(run(x, mask), observed_in_graph(theirs, tf.constant(x), mask)):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_layer_itself_as_a_function(name):
    ours, theirs = pair(name)
    np.testing.assert_allclose(tf.function(ours)(INPUTS), theirs(INPUTS), rtol=1e-5, atol=1e-5)


def observed_in_graph(layer, x, mask):
    weights = [w.value for w in layer.trainable_weights]
    with tf.GradientTape() as tape:
        tape.watch(x)
        results = layer(x, mask=mask)
        total = sum(tf.reduce_sum(tf.sin(r)) for r in results)
    return *results, *tape.gradient(total, [x, *weights])


@pytest.mark.parametrize(
    ("name", "jit_compile", "masked", "dropout"),
    [("LSTM", False, True, 0.3), *((name, True, False, 0.0) for name in NAMES)],
)
def test_fit(name, jit_compile, masked, dropout):
    arguments = {"dropout": dropout, "recurrent_dropout": dropout, "seed": 6}
    ours, theirs = (getattr(m, name)(UNITS, **arguments) for m in (layers, keras.layers))
    if not dropout:  # Keras's SimpleRNN loses its seed when it is copied
        ours, theirs = layers.Bidirectional(ours), keras.layers.Bidirectional(theirs)
    mask_value = INPUTS[0, 0, 0] if masked else None
    weights, mine = fitted(ours, None, mask_value, jit_compile)
    _, yours = fitted(theirs, weights, mask_value)
    for before, a, b in zip(weights, mine, yours):
        assert not np.allclose(before, a)
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def shapes(layer, *args):
    return [tuple(t.shape) for t in keras.tree.flatten(layer(*args))]


@pytest.mark.parametrize("return_state", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
def test_symbolic_shapes(return_sequences, return_state):
    arguments = {"return_sequences": return_sequences, "return_state": return_state}

    def make(m):
        bare = [getattr(m, name) for name in NAMES]
        return [
            *(layer(UNITS, **arguments) for layer in bare),
            *(m.Bidirectional(m.LSTM(UNITS, **arguments), mode) for mode in MERGE_MODES),
            m.RNN(stack(m), **arguments),
        ]

    for ours, theirs in zip(make(layers), make(keras.layers)):
        x = keras.Input((None, FEATURES))
        assert shapes(ours, x) == shapes(theirs, x)
        for shape in ((None, None, FEATURES), SHAPE):
            assert ours.compute_output_shape(shape) == theirs.compute_output_shape(shape)


def test_symbolic_states():
    x = keras.Input((None, FEATURES))
    states = [keras.Input((UNITS,)) for _ in range(4)]

    def make(m):
        y = m.Bidirectional(m.LSTM(UNITS, return_state=True))(x, initial_state=states)
        return keras.Model([x, *states], y)

    ours, theirs = make(layers), make(keras.layers)
    ours.set_weights(theirs.get_weights())
    values = [INPUTS, *2 * random_states(layers.LSTMCell(UNITS))]
    for a, b in zip(ours(values), theirs(values)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


# --- One in place of the other ------------------------------------------------------------

# A value for every named argument of Keras's constructors, none of them the default.
VALUES = {
    "units": UNITS,
    "activation": "relu",
    "recurrent_activation": "hard_sigmoid",
    "use_bias": False,
    "kernel_initializer": "he_normal",
    "recurrent_initializer": "glorot_normal",
    "bias_initializer": "ones",
    "unit_forget_bias": False,
    "reset_after": False,
    "kernel_regularizer": "l1",
    "recurrent_regularizer": "l2",
    "bias_regularizer": "l1",
    "activity_regularizer": "l2",
    "kernel_constraint": "non_neg",
    "recurrent_constraint": "unit_norm",
    "bias_constraint": "max_norm",
    "dropout": 0.1,
    "recurrent_dropout": 0.2,
    "seed": 4,
    "return_sequences": True,
    "return_state": True,
    "go_backwards": True,
    "stateful": True,
    "unroll": True,
    "zero_output_for_mask": True,
    "use_cudnn": False,
}


@pytest.mark.parametrize("name", [*NAMES, *(f"{name}Cell" for name in NAMES)])
def test_keras_arguments_mean_the_same(name):
    ours, theirs = getattr(layers, name), getattr(keras.layers, name)
    names = [*inspect.signature(theirs).parameters]
    arguments = {n: VALUES[n] for n in names if n not in ("args", "kwargs")}
    mine, yours = ours(**arguments, name="same"), theirs(**arguments, name="same")
    if "activity_regularizer" in names:
        yours.activity_regularizer = mine.activity_regularizer  # Keras's SimpleRNN drops it
    expected = yours.get_config()
    for layer in (mine, ours.from_config(expected)):
        config = layer.get_config()
        assert {key: config[key] for key in expected} == expected
    missing = [n for n in names if hasattr(yours, n) and not hasattr(mine, n)]
    assert missing in ([], ["use_cudnn"])

    kinds = inspect.signature(ours).parameters.values()
    positional = [p.name for p in kinds if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional[:2] == ["units", "activation"] and positional == names[: len(positional)]


def test_keras_arguments_of_the_wrappers_mean_the_same():
    for name in ("RNN", "Bidirectional"):
        mine, yours = (
            [*inspect.signature(getattr(m, name)).parameters] for m in (layers, keras.layers)
        )
        assert mine[: len(yours) - 1] == yours[:-1] and mine[-1] == yours[-1] == "kwargs"
    theirs = keras.layers.Bidirectional(keras.layers.GRU(UNITS), merge_mode="sum", name="b")
    ours = layers.Bidirectional.from_config(theirs.get_config())
    assert ours.get_config() == theirs.get_config()
    theirs = keras.layers.RNN(stack(keras.layers), return_state=True, name="r")
    assert layers.RNN.from_config(theirs.get_config()).get_config() == theirs.get_config()


def mixture(m):
    return keras.Sequential(
        [
            keras.Input((None, FEATURES)),
            m.LSTM(UNITS, return_sequences=True),
            m.Bidirectional(m.GRU(UNITS, return_sequences=True)),
            m.RNN(m.SimpleRNNCell(UNITS), return_sequences=True),
            m.RNN(stack(m), return_sequences=True),
            m.SimpleRNN(UNITS, use_bias=False),
        ]
    )


def test_weights_files_are_the_same(tmp_path):
    for source, target in ((layers, keras.layers), (keras.layers, layers)):
        saved, loaded = mixture(source), mixture(target)
        saved.set_weights([np.random.normal(0, 0.5, w.shape) for w in saved.get_weights()])
        saved.save_weights(tmp_path / "m.weights.h5")
        loaded.load_weights(tmp_path / "m.weights.h5")
        np.testing.assert_allclose(saved(INPUTS), loaded(INPUTS), rtol=1e-5, atol=1e-5)


# --- Precision ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [("float32", 1e-5), ("float64", 1e-12), ("mixed_float16", 1e-2), ("mixed_bfloat16", 8e-2)],
)
@pytest.mark.parametrize("name", NAMES)
def test_dtypes(name, dtype, tolerance):
    policy = keras.dtype_policies.get(dtype)
    ours, theirs = pair(name, return_sequences=True, return_state=True, dtype=dtype)
    x, states = INPUTS.astype(policy.compute_dtype), random_states(ours)
    assert {w.dtype for w in ours.weights} == {policy.variable_dtype}
    mine, yours = (layer(x, initial_state=states, mask=MASKS["holes"]) for layer in (ours, theirs))
    for a, b in zip(mine, yours):
        assert a.dtype == b.dtype == policy.compute_dtype
        a, b = (tf.cast(r, tf.float64) for r in (a, b))
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
    if tolerance > 1e-5:
        assert_same(ours, theirs, x, tolerance=tolerance, mask=MASKS["holes"])


CELLS_OF_OTHER_DTYPES = {
    "one": lambda m: m.LSTMCell(UNITS, dtype="mixed_bfloat16"),
    "several": lambda m: [
        m.LSTMCell(UNITS, dtype="mixed_bfloat16"),
        m.GRUCell(UNITS, dtype="float32"),
    ],
}


@pytest.mark.parametrize("cells", CELLS_OF_OTHER_DTYPES.values(), ids=CELLS_OF_OTHER_DTYPES)
def test_a_cell_has_a_dtype_of_its_own(cells):
    arguments = {"return_sequences": True, "return_state": True, "dtype": "float32"}
    ours, theirs = tie(*(m.RNN(cells(m), **arguments) for m in (layers, keras.layers)))
    assert {w.dtype for w in ours.weights} == {"float32"}
    assert {t.dtype for t in keras.tree.flatten(ours(INPUTS))} == {tf.float32}
    assert_same(ours, theirs, tolerance=5e-2)
    # That it does compute in bfloat16: bfloat16 has 8 bits, float32 24.
    full = keras.layers.RNN(
        [type(cell)(UNITS, dtype="float32") for cell in keras.tree.flatten(cells(keras.layers))],
        **arguments,
    )
    full, _ = tie(full, theirs)
    assert not np.allclose(ours(INPUTS)[0], full(INPUTS)[0], atol=1e-5)
