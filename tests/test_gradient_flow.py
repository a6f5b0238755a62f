"""The gradients, gates and tasks of recipes/gradient_flow.py, against numpy."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_equations import sigmoid

import layers
from recipes import gradient_flow
from recipes.common import command_line
from recipes.common.samples import adding, copying

pytestmark = pytest.mark.usefixtures("without_graph_optimizer")


def cell_and_inputs(layer_class, **arguments):
    layer = layer_class(4, dtype="float64", **arguments)
    inputs = np.random.default_rng(0).normal(size=(3, 7, 2))
    layer(inputs)
    layer.set_weights(
        [np.random.default_rng(k).normal(size=w.shape) for k, w in enumerate(layer.get_weights())]
    )
    return layer.cell, inputs, layer.get_weights()


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_the_plain_networks_jacobians_are_those_of_its_equation(activation):
    cell, inputs, (U, W, b) = cell_and_inputs(layers.SimpleRNN, activation=activation)
    expected = np.zeros((3, 7, 4, 4))
    for row in range(3):
        h = np.zeros(4)
        for t in range(7):
            a = inputs[row, t] @ U + h @ W + b
            h = np.tanh(a) if activation == "tanh" else np.maximum(a, 0)
            slope = 1 - h**2 if activation == "tanh" else (a > 0)
            expected[row, t] = np.diag(slope) @ W.T  # diag(1 − h²) Wᵀ
    found = gradient_flow.jacobians(cell, tf.constant(inputs))
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)

    norms = dict(gradient_flow.gradient_norms(cell, tf.constant(inputs)))
    assert list(norms) == list(range(8)) and norms[0] == 1
    for distance in range(1, 8):
        each = []
        for steps in expected:
            product = np.eye(4)
            for jacobian in steps[7 - distance :]:
                product = jacobian @ product
            each.append(np.linalg.svd(product)[1][0])
        assert norms[distance] == pytest.approx(np.median(each), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("layer_class", [layers.LSTM, layers.GRU])
def test_the_jacobians_of_gated_cells_are_their_finite_differences(layer_class):
    cell, inputs, _ = cell_and_inputs(layer_class)
    found = gradient_flow.jacobians(cell, tf.constant(inputs))
    product = np.linalg.multi_dot(found[0][::-1])  # ∂s_7/∂s_0
    size, step = sum(cell.state_sizes), 1e-6

    def last(state):
        states = tf.split(tf.constant(state[None]), cell.state_sizes, axis=-1)
        for t in range(7):
            _, states = cell(tf.constant(inputs[:1, t]), states)
        return np.concatenate(states, axis=-1)[0]

    for k, unit in enumerate(np.eye(size)):
        slope = (last(step * unit) - last(-step * unit)) / (2 * step)
        np.testing.assert_allclose(product[:, k], slope, rtol=1e-6, atol=1e-9)


def test_an_orthogonal_linear_network_keeps_every_gradient():
    cell = layers.SimpleRNN(6, activation=None)
    inputs = tf.random.normal((2, 30, 2))
    cell(inputs)
    norms = gradient_flow.gradient_norms(cell.cell, inputs)
    np.testing.assert_allclose([norm for _, norm in norms], 1, rtol=1e-4)


@pytest.mark.parametrize("layer_class", [layers.LSTM, layers.GRU])
def test_gates_are_those_of_the_equations(layer_class):
    cell, inputs, (U, W, b) = cell_and_inputs(layer_class)
    names = gradient_flow.GATES[layer_class.__name__]
    found = gradient_flow.gate_values(cell, names, tf.constant(inputs))
    whole = layer_class(4, return_sequences=True, dtype="float64")
    whole(inputs)
    whole.set_weights([U, W, b])
    h = np.concatenate([np.zeros((3, 1, 4)), whole(inputs)[:, :-1]], axis=1)
    for k, name in enumerate(names):
        block = slice(4 * k, 4 * k + 4)
        if name:
            bias = b.reshape(-1, b.shape[-1]).sum(axis=0)[block]
            expected = sigmoid(inputs @ U[:, block] + h @ W[:, block] + bias)
            np.testing.assert_allclose(found[name], expected, rtol=1e-10)
    assert set(found) == set(names) - {None}


def test_saturation_counts_values_near_the_ends():
    values = np.array([[[0.05, 0.5], [0.95, 0.5], [0.99, 0.01], [0.5, 0.5]]])
    found = gradient_flow.saturation(values)
    assert (found["below 0.1"], found["above 0.9"]) == (2 / 8, 2 / 8)
    assert found["below 0.1 by unit"] == [0.25, 0.25]
    assert found["above 0.9 by unit"] == [0.5, 0]


def test_adding():
    inputs, sums = adding.sequences(5000, 11, seed=0)
    assert inputs.shape == (5000, 11, 2) and sums.shape == (5000, 1)
    for sequence, total in zip(inputs[:100], sums[:100]):
        (first, second) = np.flatnonzero(sequence[:, 1])
        assert first < 5 <= second
        assert total == pytest.approx(sequence[first, 0] + sequence[second, 0])
    assert np.mean((sums - 1) ** 2) == pytest.approx(adding.without_memory(11), rel=0.05)
    assert not np.array_equal(adding.sequences(5, 11, seed=1)[0], inputs[:5])


def test_copying():
    read, said = copying.sequences(100, 6, seed=0)
    assert read.shape == said.shape == (100, copying.steps(6))
    n = copying.COPIED
    for asked, answer in zip(read, said):
        assert list(asked[n:]) == [copying.BLANK] * 5 + [copying.GO] + [copying.BLANK] * n
        assert list(answer) == [copying.BLANK] * (6 + n) + list(asked[:n])
    assert set(read[:, :n].ravel()) == set(range(8))
    # To say each of eight symbols with equal probability, and the blanks for certain.
    each = np.where(said == copying.BLANK, 0, -np.log(1 / 8))
    assert each.mean() == pytest.approx(copying.without_memory(6))


@pytest.mark.parametrize("task", gradient_flow.TASKS)
@pytest.mark.parametrize("parameters", [1000, 5000])
def test_all_contenders_have_equally_many_parameters(task, parameters):
    arguments = ["--parameters", str(parameters)]
    parser = command_line.study_parser("gradient_flow", "")
    parser.add_argument("--parameters", type=int)
    args = parser.parse_args(arguments)
    for name in gradient_flow.CONTENDERS:
        model = gradient_flow.build(name, task, 4, args)
        assert model.count_params() == pytest.approx(parameters, rel=0.05)


def test_what_is_learned_is_called_solved_and_what_is_not_is_not(tmp_path):
    parser = command_line.study_parser("gradient_flow", "")
    parser.set_defaults(steps=1500, parameters=1500)
    args = command_line.parse_study(parser, ["--output", str(tmp_path)])
    keras.utils.set_random_seed(args.seed)
    solved = gradient_flow.train(gradient_flow.build("GRU", "adding", 8, args), 8, args)
    assert solved["solved"] and solved["share"] < 0.1 and solved["steps"] < 1500
    args.steps = 50
    short = gradient_flow.train(gradient_flow.build("LSTM", "adding", 8, args), 8, args)
    assert not short["solved"] and short["share"] > 0.1 and short["steps"] == 50


def test_clipping_changes_what_is_learned_and_not_what_is_measured(tmp_path):
    parser = command_line.study_parser("gradient_flow", "")
    parser.set_defaults(steps=1, parameters=300)
    args = command_line.parse_study(parser, ["--output", str(tmp_path)])
    keras.utils.set_random_seed(args.seed)

    def after_a_step(clip):
        model = gradient_flow.build("SimpleRNN, orthogonal", "adding", 6, args)
        before = model.get_weights()
        result = gradient_flow.train(model, 6, args, clip)
        moved = [a - b for a, b in zip(model.get_weights(), before)]
        return result["gradient_norms"], result["share"], np.concatenate([m.ravel() for m in moved])

    norms, share, moved = after_a_step(None)
    assert norms[0][1] > 1e-2 and np.isfinite(share)
    large, _, same = after_a_step(1e6)
    assert large == norms
    np.testing.assert_allclose(same, moved, atol=1e-7)
    # Adam divides by the gradient's size, to which it adds 1e-7: what is below that counts less.
    clipped, _, less = after_a_step(1e-8)
    assert clipped == norms
    assert np.linalg.norm(less) < 0.2 * np.linalg.norm(moved)


def test_a_run_leaves_a_page_a_table_and_numbers(tmp_path, monkeypatch, capsys):
    names = ("SimpleRNN, orthogonal", "GRU")
    contenders = {name: gradient_flow.CONTENDERS[name] for name in names}
    monkeypatch.setattr(gradient_flow, "CONTENDERS", contenders)
    given = ["--steps", "20", "--lengths", "6", "--pauses", "3", "--parameters", "300"]
    gradient_flow.main(gradient_flow.arguments([*given, "--output", str(tmp_path / "run")]))
    found = json.loads((tmp_path / "run/metrics.json").read_text())
    for task, length in (("adding", "6"), ("copying", "3")):
        assert found[task].keys() == gradient_flow.CONTENDERS.keys()
        assert all(np.isfinite(scores[length]["share"]) for scores in found[task].values())
    assert (tmp_path / "run/gradient_flow.png").read_bytes().startswith(b"\x89PNG")
    table = (tmp_path / "run/table.md").read_text()
    assert table in capsys.readouterr().out and "| GRU, update |" in table
    too_early = [
        not any(scores["solved"] for of_name in found[task].values() for scores in of_name.values())
        for task in gradient_flow.TASKS
    ]
    assert any(too_early), "in 20 steps, something was solved"
    assert table.count("too early to compare") == sum(too_early)
    assert not list((tmp_path / "run").glob(".writing-*"))
