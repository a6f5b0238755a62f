"""Series of one's own: dates, steps, gaps and columns, and a run from a German table."""

import json

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from recipes import forecasting
from recipes.common import tables
from recipes.parts.forecasting import forecasting_stream, time_series


def table(dates, **columns):
    dates = dates.astype(str) if isinstance(dates, pd.DatetimeIndex) else dates
    return pd.DataFrame({"when": dates, **(columns or {"a": np.arange(len(dates)) * 0.5})})


@pytest.mark.parametrize(
    ("frequency", "step", "season"),
    [
        ("15min", "15min", 96),
        ("h", "h", 24),
        ("D", "D", 7),
        ("B", "B", 5),
        ("W", "7D", 52),
        ("MS", "M", 12),
        ("ME", "M", 12),
        ("QE", "Q", 4),
        ("YE", "Y", 1),
    ],
)
def test_step_and_season_are_found_in_the_dates(frequency, step, season):
    dates = pd.date_range("2020-01-31", periods=60, freq=frequency)
    found = time_series.series(table(dates))
    assert found.step == step and time_series.season(step) == season
    assert found.channels == ["a"] and found.filled == {} and len(found.values) == 60
    assert time_series.canonical_step(frequency) == step


@pytest.mark.parametrize(
    "written", ["%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%Y-%m-%dT%H:%M", "%Y%m%d"]
)
@pytest.mark.parametrize("frequency", ["D", "MS"])
def test_dates_are_read_as_the_series_runs(written, frequency, tmp_path):
    dates = pd.date_range("2020-02-01", periods=40, freq=frequency)
    found = time_series.series(table(dates.strftime(written)))
    assert found.dates.equals(dates)
    table(dates.strftime(written)).to_csv(tmp_path / "a.csv", index=False)
    assert time_series.series(tables.read(tmp_path / "a.csv")).dates.equals(dates)


def test_rows_are_put_in_order_and_zones_become_utc():
    dates = pd.date_range("2024-03-30", periods=72, freq="h", tz="Europe/Berlin")[::-1]
    found = time_series.series(
        table(dates.astype(str), a=np.arange(72)[::-1])
    )  # clocks set forward
    assert found.dates[0] == pd.Timestamp("2024-03-29 23:00") and found.step == "h"
    np.testing.assert_array_equal(found.values[:, 0], np.arange(72))


HOURS = pd.date_range("2024-01-01", periods=50, freq="h")


@pytest.mark.parametrize(
    ("given", "options", "says"),
    [
        (table(HOURS.delete([10, 11])), {}, "2 dates are .* first, .*10:00:00, after row 10"),
        (table(HOURS, a=[*range(30), np.nan, *range(19)]), {}, r"'a' has 1 missing .* row 31 \("),
        (table(HOURS, a=[*range(30), np.inf, *range(19)]), {}, r"'a' has 1 missing .* row 31 \("),
        (table(HOURS, a=[*range(9), "abc", *range(40)]), {}, "Row 10, column 'a': 'abc'"),
        (table([*HOURS[:9].astype(str), "then"]), {}, "Row 10, column 'when': 'then' is no date"),
        (table(HOURS.insert(5, HOURS[4])), {}, "Row 6 has the date .*04:00:00 of row 5 again"),
        (table(HOURS.insert(5, HOURS[4] + pd.Timedelta("7min"))), {}, "Row 6: .*04:07:00 is not a"),
        (table(HOURS), {"target": ["b"]}, "no column 'b'; there are"),
        (table(["x"] * 9), {}, "No column holds dates: name it with --date"),
        (table(HOURS, a=["x"] * 50), {}, "No column holds numbers"),
        (table(HOURS[:2]), {}, "2 rows are too few"),
        (table(HOURS), {"step": "often"}, "--frequency often: not known"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_row_and_column(given, options, says):
    with pytest.raises(SystemExit, match=says):
        time_series.series(given, **options)


def test_gaps_are_filled_by_straight_lines_and_counted():
    values = np.arange(50.0)
    values[[0, 20]] = np.nan
    given = table(HOURS, a=values, b=np.arange(50) * 2).drop(index=[10, 11])
    found = time_series.series(given, interpolate=True)
    assert found.dates.equals(HOURS) and found.filled == {"a": 4, "b": 2}
    np.testing.assert_allclose(
        found.values[1:], np.stack([np.arange(50), np.arange(50) * 2], 1)[1:]
    )
    assert found.values[0].tolist() == [1, 0]  # the first there is
    assert np.flatnonzero(found.interpolated[:, 0]).tolist() == [0, 10, 11, 20]
    assert np.flatnonzero(found.interpolated[:, 1]).tolist() == [10, 11]


def test_what_was_interpolated_is_neither_asked_nor_where_a_window_ends():
    """There it is drawn towards what comes."""
    drawn = np.zeros((40, 2), bool)
    drawn[20:22, 1] = True
    all_of_them = forecasting.starts(8, 40, 5, 3)
    assert all_of_them.tolist() == [*range(3, 33)]
    for start in all_of_them:
        asked, last = set(range(start + 5, start + 8)), start + 4
        wanted = not asked & {20, 21} and last not in (20, 21)
        assert (start in forecasting.starts(8, 40, 5, 3, drawn)) == wanted


def test_a_part_of_which_all_was_interpolated_is_refused(tmp_path):
    dates = pd.date_range("2021-01-01", periods=400, freq="D")
    given = pd.DataFrame({"day": dates, "a": np.arange(400) % 7.0})
    given.loc[318::3, "a"] = np.nan
    given.to_csv(tmp_path / "a.csv", index=False)
    arguments = ["--data", str(tmp_path / "a.csv"), "--missing", "interpolate"]
    with pytest.raises(SystemExit, match="Each of the 74 windows of the test part has"):
        forecasting.main(forecasting.arguments([*arguments, "--output", str(tmp_path / "run")]))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (5e9 + np.arange(50) % 7 * 30, "changes by .* up to .* off: give its changes"),
        (1.2e9 + np.arange(50) * 10.0, "changes by 10 from"),
        (35_000 + np.arange(50) % 7 * 0.1, ""),
        (np.where(np.arange(50) < 25, 1e9, 2e9) + 0.5, ""),
        (1e-30 * (np.arange(50) % 7), ""),
        (np.full(50, 0.1), ""),
        (np.where(np.arange(50) < 25, 123.45, 123.46), ""),
    ],
)
def test_numbers_too_coarse_in_float32_are_refused(values, says):
    if not says:
        assert len(time_series.series(table(HOURS, a=values)).values) == 50
        return
    with pytest.raises(SystemExit, match=f"Column 'a' {says}"):
        time_series.series(table(HOURS, a=values))


def test_columns_that_are_no_channels_are_left_out(capsys):
    given = table(HOURS, **{"Unnamed: 0": np.arange(50), "a": np.arange(50) % 3})
    given["changed"] = HOURS + pd.Timedelta("3min")
    assert time_series.series(given).channels == ["a"]
    assert "no numbers to forecast: Unnamed: 0, changed" in capsys.readouterr().out


def test_days_written_as_midnights_somewhere_stay_days():
    """Clocks set forward would make them 23 hours apart."""
    dates = pd.date_range("2024-03-25", periods=14, freq="D", tz="Europe/Berlin")
    hours = pd.date_range("2024-04-25", periods=96, freq="h", tz="Africa/Cairo")
    found = time_series.series(pd.DataFrame({"when": hours, "a": np.arange(96) * 0.5}))
    assert found.step == "h" and found.dates[0] == pd.Timestamp("2024-04-24 22:00")
    for written in (dates.astype(str), dates.map(lambda x: x.isoformat()), dates):
        found = time_series.series(pd.DataFrame({"when": written, "a": np.arange(14) * 0.5}))
        assert found.step == "D" and found.dates[0] == pd.Timestamp("2024-03-25")


@pytest.mark.parametrize("scale", [1e-9, 1e19])
def test_any_unit_will_do(scale):
    """Amperes of a neuron, or what stars radiate."""
    random = np.random.default_rng(0)
    values = (random.normal(size=(60, 2)) + 3).astype("float32")
    mean, std = forecasting.of_channels(values)
    for build in (forecasting.build, forecasting_stream.build):
        keras.utils.set_random_seed(0)
        one = build(mean, std, 48, 12, "simple_rnn", units=8)
        scaled = np.float32(scale)
        keras.utils.set_random_seed(0)
        other = build(mean * scaled, std * scaled, 48, 12, "simple_rnn", units=8)
        expected = one.predict(values[None, :48], verbose=0)
        found = other.predict(values[None, :48] * scaled, verbose=0)
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_stream_of_years_has_no_season_to_read(tmp_path):
    args = forecasting.arguments(["--data", __file__, "--streaming"])
    with pytest.raises(SystemExit, match="a --season of 2 steps or more"):
        forecasting.set_sizes(args, "Y", (40, 50, 60))


def test_a_stream_of_minutes_takes_a_smaller_batch():
    with pytest.raises(SystemExit, match=r"7.9 GB.*smaller --batch"):
        forecasting_stream.refuse_large(256, 5760, 1440, 1)
    forecasting_stream.refuse_large(32, 5760, 1440, 1)
    assert forecasting_stream.most(1024, 96 * 24 * 7) == 1024
    assert forecasting_stream.most(1024, 5760 * 1440) == 8


def test_windows_that_do_not_fit_and_series_that_never_change_are_told_of(tmp_path):
    path = tmp_path / "short.csv"
    table(HOURS).to_csv(path, index=False)
    with pytest.raises(SystemExit, match="--lookback 96 and --horizon 24 do not fit into"):
        forecasting.main(forecasting.arguments(["--data", str(path), "--output", str(tmp_path)]))
    table(HOURS, a=np.ones(50)).to_csv(path, index=False)
    with pytest.raises(SystemExit, match="a never changes"):
        forecasting.main(forecasting.arguments(["--data", str(path), "--output", str(tmp_path)]))
    assert [p.name for p in tmp_path.iterdir()] == ["short.csv"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--dataset", "sample", "--target", "a"], "--target is for a series of your own"),
        (["--split", "0.5,0.2,0.2"], "three shares with a sum of 1"),
        (["--data", "nowhere.csv"], "there is no file nowhere.csv"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(arguments, says, capsys):
    with pytest.raises(SystemExit):
        forecasting.arguments(arguments)
    assert says in capsys.readouterr().err


def test_long_series_have_their_mean_and_deviation():
    values = 35_000 + 50 * np.random.default_rng(0).standard_normal((300_000, 2))
    mean, std = forecasting.of_channels(values.astype("float32"))
    np.testing.assert_allclose(mean, values.mean(axis=0), atol=0.1)
    np.testing.assert_allclose(std, values.std(axis=0), rtol=1e-3)


def test_channels_stay_in_the_tables_order():
    given = table(HOURS, a=np.arange(50.0), b=np.arange(50.0) ** 2)
    assert time_series.series(given, target=["b", "a"]).channels == ["a", "b"]


def test_a_german_table_with_gaps_makes_a_forecast(tmp_path, capsys, monkeypatch):
    """Days, with ';', decimal commas, Latin-1, a day left out, an empty value, and a constant."""
    monkeypatch.setattr(forecasting, "MOST_KEPT", 10_000)  # as if there were far more
    days = pd.date_range("2021-01-01", periods=400, freq="D")
    sales = 1000 + 100 * np.sin(np.arange(400) * 2 * np.pi / 7)
    given = pd.DataFrame({"Tag": days.strftime("%d.%m.%Y"), "Größe": sales, "Öffnungen": 1.5})
    given.loc[100, "Größe"] = np.nan
    path = tmp_path / "umsätze.csv"
    given = given.drop(index=200)
    given.to_csv(path, sep=";", decimal=",", index=False, encoding="latin-1")
    command = ["--data", str(path), "--encoding", "latin-1", "--epochs", "1", "--steps", "2"]
    command += ["--cell", "simple_rnn", "--output", str(tmp_path / "run")]
    with pytest.raises(SystemExit, match=r"1 dates are left out.*'Größe' has 1 missing"):
        forecasting.main(forecasting.arguments(command))
    assert not (tmp_path / "run").exists()

    forecasting.main(forecasting.arguments([*command, "--missing", "interpolate"]))
    said = capsys.readouterr().out
    assert "Dropped, as they never change in the training part: Öffnungen." in said
    assert "a season is 7 steps" in said
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["series"] == {"step": "D", "channels": ["Größe"], "interpolated": {"Größe": 2}}
    assert (metrics["season"], metrics["lookback"], metrics["horizon"]) == (7, 28, 7)
    # A sine of a week, repeated: nothing is wrong but what was interpolated, in training.
    assert metrics["test"]["repeat the last season"]["mse"] < 1e-6
    assert (tmp_path / "run/forecast.png").read_bytes().startswith(b"\x89PNG")
    exported = tf.saved_model.load(str(tmp_path / "run/saved_models/forecasting/1"))
    window = tf.constant(sales[None, :28, None], tf.float32)
    forecast = exported.signatures["serving_default"](window=window)["forecast"]
    assert forecast.shape == (1, 7, 1) and np.all(np.abs(forecast - 1000) < 400)

    # Another table under the first one's output is another run.
    given.head(390).to_csv(path, sep=";", decimal=",", index=False, encoding="latin-1")
    with pytest.raises(SystemExit, match=r"holds a run that differs:\n  data read, by .*\nGive"):
        forecasting.main(forecasting.arguments([*command, "--missing", "interpolate"]))
