"""Quantiles of a forecast: their loss, their order, how much they cover, and their export."""

import csv
import json
import subprocess
import sys

import keras
import numpy as np
import predict
import pytest
import tensorflow as tf
from conftest import REPOSITORY, load_mean_of_weights, portable_ops
from sklearn.metrics import mean_pinball_loss

from recipes import forecasting
from recipes.common import command_line
from recipes.parts.forecasting import forecasting_stream, quantiles

pytestmark = pytest.mark.usefixtures("without_graph_optimizer")

LEVELS = (0.1, 0.5, 0.9)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_loss_is_scikit_learns(channels):
    random = np.random.default_rng(0)
    truth = random.normal(size=(5, 7, channels)).astype("float32")
    found = random.normal(size=(5, 3, 7, channels)).astype("float32")
    pairs = [(truth.ravel(), found[:, k].ravel()) for k in range(3)]
    expected = [mean_pinball_loss(*pair, alpha=level) for pair, level in zip(pairs, LEVELS)]

    class Found:
        def predict_on_batch(self, window):
            return found[:2] if len(window) == 2 else found[2:]

    data = tf.data.Dataset.from_tensor_slices((truth, truth))
    parts = data.take(2).batch(2).concatenate(data.skip(2).batch(3))  # of different sizes
    scores = quantiles.score(Found(), parts, LEVELS)
    np.testing.assert_allclose(list(scores["pinball"].values()), expected, rtol=1e-5)
    below = [np.mean(truth <= found[:, k]) for k in range(3)]
    np.testing.assert_allclose(list(scores["at or below"].values()), below)

    # As Keras calls it, which fits shapes to each other if it can.
    window = keras.Input(found.shape[1:])
    model = keras.Model(window, keras.layers.Identity()(window))
    model.compile(loss=quantiles.Pinball(LEVELS))
    np.testing.assert_allclose(model.evaluate(found, truth), np.mean(expected), rtol=1e-5)


@pytest.mark.parametrize("build", [forecasting.build, forecasting_stream.build])
def test_quantiles_never_cross(build, monkeypatch):
    mean, std = np.float32([3, -2]), np.float32([2, 0.1])
    window = np.random.default_rng(0).normal(mean, std, (20, 50, 2)).astype("float32")

    def answers():
        keras.utils.set_random_seed(0)
        model = build(mean, std, 50, 30, "simple_rnn", units=8, levels=LEVELS)
        return forecasting.signatures(model, mean, std, LEVELS)["serving_default"][0](window)

    served = answers()
    assert served["quantiles"].shape == (20, 3, 30, 2)
    assert np.min(np.diff(served["quantiles"], axis=1)) >= 0
    np.testing.assert_array_equal(served["forecast"], served["quantiles"][:, 1])
    np.testing.assert_array_equal(served["levels"], np.float32([LEVELS] * 20))
    monkeypatch.setattr(quantiles.ops, "sort", lambda x, axis: x)
    assert np.min(np.diff(answers()["quantiles"], axis=1)) < -0.01  # unsorted, they would


def test_a_band_covers_what_it_says():
    """Gaussian noise around a sine: the best band is 2.56 of its standard deviations wide."""
    noise, steps, season = 0.3, 3000, 6
    random = np.random.default_rng(0)
    values = np.sin(2 * np.pi * np.arange(steps) / season) + random.normal(0, noise, steps)
    values = values[:, None].astype("float32")
    mean, std = values.mean(axis=0), values.std(axis=0)

    def part(first, last):
        standardized = (values - mean) / std
        begin = forecasting.starts(first, last, 24, season)
        return forecasting.windows(values, standardized, begin, 24, season)

    keras.utils.set_random_seed(0)
    model = forecasting.build(mean, std, 24, season, "simple_rnn", season, 16, LEVELS)
    model.compile(keras.optimizers.Adam(1e-2), quantiles.Pinball(LEVELS))
    train, test = part(0, 2000).cache().shuffle(2000).batch(64), part(2000, steps).batch(256)
    model.fit(train, epochs=10, verbose=0)
    last_season = quantiles.LastSeason(values[:2000], mean, std, season, season, LEVELS)
    for name, scores in quantiles.evaluate(model, last_season, test, LEVELS).items():
        of_noise = 1 if name == "model" else 2**0.5  # there, of two steps
        assert scores["within"]["0.1 to 0.9"] == pytest.approx(0.8, abs=0.05), name
        assert list(scores["at or below"].values()) == pytest.approx(LEVELS, abs=0.05), name
        width = 2 * 1.2816 * noise / std[0] * of_noise
        assert scores["width"]["0.1 to 0.9"] == pytest.approx(width, rel=0.15), name


def test_the_errors_of_the_last_season_are_known_for_each_step_ahead():
    """Of a straight line, what a season adds, once or twice."""
    line = np.arange(60, dtype="float32")[:, None]
    known = quantiles.LastSeason(line, np.zeros(1), np.ones(1), 7, 4, LEVELS)
    found = known.predict_on_batch(line[None, :20])
    np.testing.assert_allclose(found, np.broadcast_to(line[20:27], (1, 3, 7, 1)))


def test_a_stream_has_the_quantiles_of_its_window():
    mean, std = np.float32([3, -2]), np.float32([2, 0.1])
    model = forecasting_stream.build(mean, std, 48, 30, "gru", units=8, levels=LEVELS)
    window = np.random.default_rng(0).normal(mean, std, (2, 48, 2)).astype("float32")
    whole = forecasting.signatures(model, mean, std, LEVELS)["serving_default"][0](window)
    served = forecasting_stream.signatures(model, mean, std, LEVELS)
    states = served["initial_state"][0](tf.constant(2))
    for chunk in (window[:, :30], window[:, 30:]):
        answer = served["stream"][0](tf.constant(chunk), *states.values())
        states = {name: answer[name] for name in states}
    for name in ("forecast", "quantiles", "levels"):
        np.testing.assert_allclose(answer[name], whole[name], rtol=1e-4, atol=1e-4)


def test_from_the_command_to_a_table_of_answers(tmp_path, capsys):
    command = ["--dataset", "sample", "--cell", "simple_rnn", "--epochs", "1", "--steps", "2"]
    command += ["--lookback", "48", "--horizon", "24", "--quantiles", "0.9,0.05,0.5"]
    command += ["--output", str(tmp_path)]
    args = forecasting.arguments(command)
    forecasting.main(args)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["quantiles"] == [0.05, 0.5, 0.9]
    for part in ("validation", "test"):
        assert metrics[part]["model"].keys() == {"mse", "mae"}
        for scores in metrics[part]["quantiles"].values():
            assert (
                scores["pinball"].keys() == scores["at or below"].keys() == {"0.05", "0.5", "0.9"}
            )
            assert scores["within"].keys() == scores["width"].keys() == {"0.05 to 0.9"}
        # Half of the mean absolute error is the median's loss.
        loss = metrics[part]["quantiles"]["model"]["pinball"]["0.5"]
        assert 2 * loss == pytest.approx(metrics[part]["model"]["mae"], rel=1e-4)
    assert (tmp_path / "forecast.png").read_bytes().startswith(b"\x89PNG")

    version = tmp_path / "saved_models/forecasting/1"
    portable_ops(version)
    data, (end, *_) = forecasting.load("sample", None, 0)
    values, levels = data.values, (0.05, 0.5, 0.9)
    mean, std = values[:end].mean(axis=0), values[:end].std(axis=0)
    model = forecasting.build(mean, std, 48, 24, "simple_rnn", levels=levels)
    load_mean_of_weights(model, tmp_path / "checkpoints/1.weights.h5")
    windows = np.stack([values[:48], values[500:548]])
    expected = model.predict(windows) * std + mean
    answer = tf.saved_model.load(version).signatures["serving_default"](window=windows)
    np.testing.assert_allclose(answer["quantiles"] / std, expected / std, atol=1e-4)
    np.testing.assert_array_equal(answer["forecast"], answer["quantiles"][:, 1])

    rows = [{"window": window.tolist()} for window in windows] + [{"window": [[1]]}]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows[::-1])))
    table = tmp_path / "out.csv"
    predict.main([str(version), str(tmp_path / "in.jsonl"), "--output", str(table)])
    wrong, *_, first = csv.DictReader(table.open())
    assert wrong["error"] and wrong.keys() == first.keys()
    named = ["forecast", "forecast_q5", "forecast_q50", "forecast_q90"]
    assert sorted(first) == ["error", *named, "window"]
    for name, found in zip(named, [expected[0, 1], *expected[0]]):
        np.testing.assert_allclose(json.loads(first[name]) / std, found / std, atol=1e-4)


@pytest.mark.parametrize(
    "given", ["some", "0.1,,0.9", "0,0.5", "0.5,1", "nan", "0.5,0.1,0.5", "-1"]
)
def test_levels_that_are_none_are_refused(given, capsys):
    with pytest.raises(SystemExit, match=r"^2$"):
        forecasting.arguments([f"--quantiles={given}"])
    assert "--quantiles" in (said := capsys.readouterr().err) and given in said


def test_levels_are_read_before_tensorflow_and_sorted():
    assert command_line.levels("0.9,0.1, 0.5") == [0.1, 0.5, 0.9]
    script = """
import runpy, sys
sys.argv = ["forecasting.py", "--quantiles", "2"]
try:
    runpy.run_path("recipes/forecasting.py", run_name="__main__")
except SystemExit as error:
    assert error.code == 2
assert not {"tensorflow", "keras"} & set(sys.modules)
"""
    command = [sys.executable, "-c", script]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
