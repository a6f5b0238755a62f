"""The benchmarks' pictures show the measurements that are kept beside them."""

import json
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize("name", ["recurrence", "served_models"])
def test_the_pictures_are_drawn_of_the_kept_numbers(name, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import pictures

    numbers = json.loads((BENCHMARKS / f"{name}.json").read_text())
    getattr(pictures, name)(numbers, tmp_path / "drawn.png")
    drawn, kept = (x.stat().st_size for x in (tmp_path / "drawn.png", BENCHMARKS / f"{name}.png"))
    assert 0.8 < drawn / kept < 1.25  # fonts differ
