"""The table of Spark ML's classes (tools/sparkml.py)."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import alink as al
import alink.operators
from alink.operators._catalogue import catalogue

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def sparkml(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return importlib.import_module("sparkml")


def test_every_class_has_operators_or_a_category(sparkml):
    categories = {entry.category for entry in catalogue().values()}
    for each in sparkml.counterparts():
        assert bool(each.operators) != bool(each.later), each
        assert each.later in {"", *categories}, each
        for name in each.operators:
            assert name in catalogue() or name in {"ParamGrid", "Pipeline", "PipelineModel"}, each


def test_classes_are_named_once(sparkml):
    names = [(each.module, each.name) for each in sparkml.counterparts()]
    assert len(names) == len(set(names))
    # Of pyspark 4.3.0: its modules' __all__ without models, summaries and base classes; of stat
    # and pipeline, which have none, the public classes without builders, readers and writers.
    modules = [module for module, _ in names]
    counts = {module: modules.count(module) for module in modules}
    assert counts == {
        "classification": 9, "regression": 8, "clustering": 5, "recommendation": 1, "feature": 38,
        "fpm": 2, "evaluation": 6, "stat": 5, "tuning": 3, "pipeline": 2,
    }  # fmt: skip


def test_built_is_what_can_be_made(sparkml):
    for each in sparkml.counterparts():
        for name in each.operators:
            if name not in catalogue():
                continue
            kind = getattr(alink.operators, name)
            if sparkml.is_built(name):
                kind()
            else:
                with pytest.raises(al.Error, match="not built"):
                    kind()


def test_status(sparkml):
    made = sparkml.Counterpart("m", "estimator", "A", ("KMeans",), "")
    assert (made.built, made.status) == (True, "built")
    none = sparkml.Counterpart("m", "estimator", "B", (), "feature")
    assert (none.built, none.status) == (False, "later, in feature: Alink has none")


def test_page_is_what_is_generated(sparkml):
    assert sparkml.PAGE.read_text(encoding="utf-8") == sparkml.page()
