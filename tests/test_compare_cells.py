"""What cells cost and what they score: counts against Keras's layers, and formulas against both."""

import json

import keras
import numpy as np
import processes
import pytest
from conftest import REPOSITORY

import layers
from recipes import compare_cells, which_cell
from recipes.common import equal_parameters

POINTWISE = {  # operations of a unit, counted by hand in the equations
    layers.SimpleRNN: 3,  # U x + W h, + b, tanh
    layers.LSTM: 17,  # 4 · (sum, bias, activation); f ⊙ c, i ⊙ g, +; tanh, o ⊙
    layers.GRU: 17,  # 6 biases; 3 sums; σ, σ, tanh; r ⊙; z ⊙, 1 −, ⊙, +
}


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("kind", compare_cells.LAYERS)
def test_parameters_and_states_are_those_of_keras(kind, both):
    features, units = 5, 7
    ours = kind(units, return_state=True)
    kerass = getattr(keras.layers, kind.__name__)(units, return_state=True)
    if both:
        ours, kerass = layers.Bidirectional(ours), keras.layers.Bidirectional(kerass)
    x = np.zeros((2, 3, features), "float32")
    ours(x)
    _, *states = kerass(x)
    times = 2 if both else 1
    counted = times * compare_cells.parameters(kind, features, units)
    assert counted == kerass.count_params() == ours.count_params()
    sizes = sum(sum(cell.state_sizes) for cell in compare_cells.cells(ours))
    assert sizes == sum(state.shape[-1] for state in states)
    text = compare_cells.formulas(kind, both)["parameters"].replace("n(", "*n*(")
    assert eval(text.lstrip("*"), {"m": features, "n": units}) == counted


@pytest.mark.parametrize("kind", compare_cells.LAYERS)
def test_operations_are_those_of_the_equations(kind):
    features, units = 5, 7
    layer = kind(units)
    layer.build((2, 3, features))
    products, pointwise = compare_cells.operations(layer.cell, features)
    blocks = layer.cell.gates
    assert products == blocks * units * (features + units)
    assert pointwise == POINTWISE[kind] * units


def test_a_run_leaves_a_table_a_picture_and_numbers(tmp_path):
    script = REPOSITORY / "recipes/compare_cells.py"
    arguments = ["--units", "3", "--features", "2", "--length", "4", "--batch", "2"]
    arguments += ["--rounds", "2", "--output", tmp_path / "run"]
    processes.run([script, *arguments], cwd=tmp_path)
    found = json.loads((tmp_path / "run/metrics.json").read_text())
    assert [row["parameters"] for row in found["cells"]] == [18, 72, 63, 36, 144, 126]
    assert [row["gates"] for row in found["cells"]] == [0, 3, 2, 0, 3, 2]
    assert all(row["training_ms"] > 0 and row["inference_ms"] > 0 for row in found["cells"])
    table = (tmp_path / "run/table.md").read_text()
    assert "| Bidirectional GRU | 2 | 2 x (h) | 6 | 6n(m + n + 2) = 126 |" in table
    assert (tmp_path / "run/cells.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("name", which_cell.CELLS)
def test_cells_that_are_compared_are_equally_large(name, both):
    """Within what a unit more or less would change."""

    def count(units):
        return which_cell.size(name, units, both)

    def off(units):
        return abs(count(units) - 3000)

    units = equal_parameters.units(count, 3000)
    assert off(units) <= min(off(units - 1), off(units + 1))


@pytest.mark.parametrize("name", which_cell.TASKS)
def test_each_task_is_learned_the_same_from_the_same_seed(name):
    """Whatever was drawn before."""
    small = ["--dataset", "sample", "--parameters", "300", "--seeds", "2", "--epochs", "1"]
    args = which_cell.arguments(small)
    task = which_cell.TASK[name](args)
    first = which_cell.train_and_score(task, "simple_rnn", False, args)
    keras.random.uniform((3,))
    args.seeds = 1
    again = which_cell.train_and_score(which_cell.TASK[name](args), "simple_rnn", False, args)
    assert first["test"][0] != first["test"][1]
    for part in ("test", "validation"):
        assert first[part][:1] == pytest.approx(again[part], rel=1e-6)


def test_which_cell_goes_on_and_leaves_a_table_a_picture_and_numbers(tmp_path):
    script, output = REPOSITORY / "recipes/which_cell.py", tmp_path / "run"
    arguments = ["--dataset", "sample", "--parameters", "300", "--seeds", "2", "--epochs", "1"]
    arguments += ["--tasks", "forecasting", "--output", output, "--cells"]
    processes.run([script, *arguments, "gru"], cwd=tmp_path)
    before = json.loads((output / "metrics.json").read_text())["cells"]
    processes.run([script, *arguments, "gru", "simple_rnn"], cwd=tmp_path)
    found = json.loads((output / "metrics.json").read_text())["cells"]
    assert before == {name: found[name] for name in before}
    names = [
        f"forecasting/{cell}/{way}" for cell in ("gru", "simple_rnn") for way in which_cell.WAYS
    ]
    assert [*found] == names
    for row in found.values():
        assert len(row["test"]) == 2 and row["test"][0] != row["test"][1]
        assert row["tries"][str(row["rate"])] == min(row["tries"].values()) == row["validation"][0]
    table = (output / "table.md").read_text()
    assert "| forecasting | simple_rnn, both ways |" in table
    assert (output / "which_cell.png").read_bytes().startswith(b"\x89PNG")
    done = processes.run([script, *arguments, "gru", "--seed", "5"], cwd=tmp_path, check=False)
    assert done.returncode and "holds another study" in done.stderr
