"""Runs in a worker: boosts trees, and says what our predictions and LightGBM's own are."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pyarrow as pa

from alink._algorithms import _boosting, _lightgbm
from alink._algorithms._group import Group
from alink._algorithms._tree_models import read_forest

GIVEN: dict[str, Any] = {
    "featureCols": ["a", "b", "c", "kind"],
    "maxDepth": 6,
    "maxLeaves": 40,
    "maxBins": 100,
    "minSamplesPerLeaf": 3,
    "minInfoGain": 0.0,
    "minSumHessianPerLeaf": 0.0,
    "lambda": 0.5,
    "gamma": 0.0,
    "numTrees": 15,
    "learningRate": 0.3,
}
MADE: list[Any] = []


class _Kept(_lightgbm.Booster):
    def push(self, codes: Any) -> None:
        self.codes = codes.copy()
        super().push(codes)

    def close(self) -> None:
        MADE.append(self)

    def predicted(self) -> np.ndarray:
        """Give the margins that the library predicts, shape (rows, groups)."""
        rows = np.ascontiguousarray(self.codes.T, np.float64)
        rows[rows == 0] = np.nan
        room = np.empty(len(rows) * 10)
        length = ctypes.c_int64()
        self._call(
            "BoosterPredictForMat",
            self._booster,
            ctypes.c_void_p(rows.ctypes.data),
            *map(ctypes.c_int, (1, *rows.shape, 1, 1, 0, -1)),
            b"",
            ctypes.byref(length),
            ctypes.c_void_p(room.ctypes.data),
        )
        return room[: length.value].reshape(len(rows), -1)


def run(share: Any) -> pa.Table:
    """Give the largest difference of margins of each label, with their range."""
    _boosting.__dict__["Booster"] = _Kept
    rows: dict[str, list[Any]] = {"label": [], "apart": [], "range": []}
    for label in ("number", "two", "three"):
        params = {**GIVEN, "labelCol": label, "classifier": label != "number"}
        group = Group(share)
        model = _boosting.train_boosted(params)(group)
        booster = MADE.pop()
        forest = read_forest(model)
        values = np.concatenate([forest.features.read(batch)[0] for batch in group], 1)
        ours = forest.sums(values)
        theirs = booster.predicted().T
        rows["label"].append(label)
        rows["apart"].append(float(np.abs(ours - theirs).max()))
        rows["range"].append(float(np.ptp(theirs)))
    return pa.table(rows)
