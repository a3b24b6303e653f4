"""The measurements of machine learning (bench/ml.py): what it judges by, and its page."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def ml(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("ml")


def test_judged_as_defined(ml, tmp_path):
    ml.make_data(tmp_path, 0.0005)
    table = pq.read_table(tmp_path / "dense.parquet")
    x = np.column_stack([table[f"x{at}"] for at in range(ml.lessons.FEATURES)])
    y = table["y"].to_numpy()
    weights = np.linspace(-1, 1, ml.lessons.FEATURES + 1)
    chance = 1 / (1 + np.exp(-(x @ weights[1:] + weights[0])))
    want = -np.mean(np.log(np.where(y > 0, chance, 1 - chance)))
    assert ml.judge(tmp_path, "dense", weights) == pytest.approx(want)
    assert ml.judge(tmp_path, "trees", chance) == pytest.approx(want)

    points = np.array(pq.read_table(tmp_path / "points.parquet")["vec"].to_pylist())
    points = np.array([point["values"] for point in points])
    want = np.mean([min(((p - c) ** 2).sum() for c in points[:3]) for p in points])
    assert ml.judge(tmp_path, "kmeans", points[:3]) == pytest.approx(want)

    sparse = pq.read_table(tmp_path / "hashed.parquet")
    weights = np.random.default_rng(0).standard_normal(ml.lessons.HASHED + 1)
    margins = [
        weights[0] + weights[1:][row["indices"]] @ np.array(row["values"])
        for row in sparse["vec"].to_pylist()
    ]
    sign = np.where(sparse["y"].to_numpy() > 0, 1, -1)
    want = np.mean(np.log1p(np.exp(-sign * margins)))
    want += ml.lessons.PENALTY * (weights[1:] ** 2).sum()
    assert ml.judge(tmp_path, "hashed", weights) == pytest.approx(want)


def test_page_tells_what_goals_are_missed(ml):
    def of(fit: float, quality: float, mib: int):
        return ml.Figures("", 1.0, [fit], [0.5], 1_000_000, quality, mib * 1024, "", 60 * 1024)

    found = {"dense": {"library": of(1, 0.5, 90), "one": of(4, 0.5, 90), "two": of(2, 0.6, 200)}}
    text = "\n".join(ml.page(found, {"dense": 100 * 2**20}, 1.0, 3.0))
    assert "| 4.00 × | 2.00 | 2.00 × | ≤ 1.2 ×, not met | 2.00 | ≥ 1.4, met |" in text
    assert "| worse |" in text
    assert "| 60 | 90 | 0.30 × | 60 | 200 | 1.40 × | ≤ 1.5 ×, met |" in text
    assert "| 2.00 | 1.00 | 2.00 | ≥ 1, met |" in text
    assert "| first `print` | 1.00 | ≤ 1.5 s, met |" in text
    assert "| + 2.00 | ≤ 1 s, not met |" in text
    found["dense"]["library"].cores = 1.9
    found["dense"]["two"].memory_kib += 11 * 1024
    text = "\n".join(ml.page(found, {"dense": 100 * 2**20}, 1.0, 3.0))
    assert "| 1.9 | 4.00 | 4.00 × | 2.00 | 2.00 × | ≤ 1.2 ×, not met | 2.00 |  |" in text
    assert "| 211 | 1.51 × | ≤ 1.5 ×, not met |" in text
    found["dense"]["two"].failed = "out of memory"
    assert "not measured: out of memory" in "\n".join(ml.page(found, {"dense": 1}, 1.0, 1.0))


def test_what_has_one_worker_has_no_figures_of_two(ml):
    def of(fit: float):
        return ml.Figures("", 1.0, [fit], [0.5], 1_000_000, 0.5, 90 * 1024, "", 60 * 1024)

    found = {"trees": {"library": of(2), "one": of(2)}}
    text = "\n".join(ml.page(found, {"dense": 100 * 2**20}, 1.0, 1.5))
    assert "| 2.00 | 1.00 × | | | ≤ 1.2 ×, met |  |  |" in text
    assert "| 0.5 | 0.5 |  | as good | 100 | 90 | 60 | 90 | 0.30 × | | | | ≤ 1.5 ×, met |" in text
