"""Runs in a worker: boosts trees, and says what our predictions and XGBoost's own are."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pyarrow as pa

from alink._algorithms import _xgboost
from alink._algorithms._group import Group
from alink._algorithms._tree_models import read_forest

NUMBERS = {"featureCols": ["a", "b", "c"]}
MIXED = {"featureCols": ["a", "b", "c", "kind"]}
VECTORS = {"vectorCol": "vector"}
#: Label, tree method, objective, outcome, the margin of 0.5, features.
TRAININGS: list[tuple[str, str, str, str, float, dict[str, Any]]] = [
    ("number", "auto", "reg:squarederror", "sum", 0.5, MIXED),
    ("number", "exact", "reg:pseudohubererror", "sum", 0.5, NUMBERS),
    ("number", "approx", "reg:squarederror", "sum", 0.5, MIXED),
    ("positive", "hist", "reg:squaredlogerror", "sum", 0.5, MIXED),
    ("positive", "hist", "count:poisson", "exp", float(np.log(0.5)), MIXED),
    ("positive", "hist", "reg:tweedie", "exp", float(np.log(0.5)), NUMBERS),
    ("two", "hist", "binary:logistic", "logistic", 0.0, MIXED),
    ("two", "exact", "binary:logistic", "logistic", 0.0, NUMBERS),
    ("two", "hist", "binary:logitraw", "sum", 0.5, MIXED),
    ("two", "hist", "binary:hinge", "hinge", 0.5, MIXED),
    ("three", "auto", "multi:softprob", "softmax", 0.5, MIXED),
    ("number", "auto", "reg:squarederror", "sum", 0.5, VECTORS),
    ("number", "exact", "reg:squarederror", "sum", 0.5, VECTORS),
]
MADE: list[Any] = []


class _Kept(_xgboost._Booster):
    def __exit__(self, *_: object) -> None:
        MADE.append(self)

    def predicted(self) -> Any:
        """Give what the library predicts, shape (rows, k)."""
        shape, size = ctypes.POINTER(ctypes.c_uint64)(), ctypes.c_uint64()
        result = ctypes.POINTER(ctypes.c_float)()
        self._copy()
        self._call(
            "XGBoosterPredictFromDMatrix",
            self._booster,
            self._matrix,
            b'{"type": 0, "training": false, "iteration_begin": 0, "iteration_end": 0, '
            b'"strict_shape": true}',
            ctypes.byref(shape),
            ctypes.byref(size),
            ctypes.byref(result),
        )
        return np.ctypeslib.as_array(result, (shape[0], shape[1])).astype(np.float64)


def run(share: Any) -> pa.Table:
    """Give the largest difference of predictions of each training, with their range."""
    _xgboost.__dict__["_Booster"] = _Kept
    rows: dict[str, list[Any]] = {"label": [], "apart": [], "range": []}
    for label, method, objective, outcome, base, features in TRAININGS:
        settings = {"objective": objective, "tree_method": method, "max_bin": 64, "base_score": 0.5}
        params = {
            **features,
            "labelCol": label,
            "classifier": label in ("two", "three"),
            "raw": objective == "binary:logitraw",
            "settings": settings,
            "outcome": outcome,
            "base": base,
            "baseScore": 0.5,
            "numRound": 8,
        }
        group = Group(share)
        forest = read_forest(_xgboost.train(params)(group))
        values = np.concatenate([forest.features.read(batch)[0] for batch in group], 1)
        ours, theirs = forest.outcomes(values).T, MADE.pop().predicted()
        if outcome in ("logistic", "hinge"):
            ours = ours[:, 1:]
        rows["label"].append(f"{label} {method} {objective}")
        apart = np.abs(ours - theirs) / np.maximum(np.abs(theirs), 1)
        rows["apart"].append(float(apart.max()))
        rows["range"].append(float(np.ptp(theirs)))
    return pa.table(rows)
