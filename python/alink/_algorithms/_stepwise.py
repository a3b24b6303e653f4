"""Least squares of features that are chosen step by step, by F tests.

Draper and Smith, Applied Regression Analysis, 1998, chapter 15. A feature's partial F statistic is
the square of its t statistic. One pass over the rows gives all products that the steps need.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._blocks import Blocks, Scaling
from ._group import Group
from ._models import Model, write_model
from ._student import two_sided

Array = npt.NDArray[np.float64]

ENTER = 0.05  # the largest p-value with which a feature comes in
LEAVE = 0.10  # the p-value beyond which one goes
_DEPENDENT = 1e-10  # of a feature's variance, what the others leave of it


class Squares:
    """Products of features, scaled, and the label, from which any subset can be fitted."""

    def __init__(self, blocks: Blocks) -> None:
        size = blocks.size
        self.scaling = Scaling.standard(blocks, True)
        mine = sum(float(blocks.target(block).sum()) for block in blocks)
        label, rows = blocks.group.sum(mine, len(blocks))
        self.rows = int(rows)
        self.middle = float(label) / self.rows
        products, sides, total = np.zeros((size, size)), np.zeros(size), 0.0
        for block in blocks:
            rest = blocks.target(block) - self.middle
            total += float(rest @ rest)
            for part, matrix in block.features.matrices():
                seen = (matrix - self.scaling.centre) / self.scaling.scale
                products += seen.T @ seen
                sides += seen.T @ rest[part]
        self.products, self.sides, sum_ = blocks.group.sum(products, sides, total)
        self.total = float(sum_)

    def independent(self, chosen: Sequence[int], feature: int) -> bool:
        """Tell whether a feature says what those that are chosen do not."""
        own = float(self.products[feature, feature])
        if own <= 0:
            return False
        if not chosen:
            return True
        across = self.products[np.ix_(chosen, [feature])][:, 0]
        inner = self.products[np.ix_(chosen, chosen)]
        left = own - float(across @ np.linalg.solve(inner, across))
        return left > _DEPENDENT * own

    def fit(self, chosen: Sequence[int]) -> Fit:
        """Fit some features, which do not depend on one another."""
        return Fit(self, chosen)


class Fit:
    """Least squares of some features.

    Attributes
    ----------
    weights, errors : arrays, shape (k,)
        Of the scaled features: coefficients and their standard errors.
    residual : float
        The sum of the squared residuals.
    free : int
        Degrees of freedom.
    """

    def __init__(self, squares: Squares, chosen: Sequence[int]) -> None:
        inner = squares.products[np.ix_(chosen, chosen)]
        self.inverse = np.linalg.inv(inner) if len(chosen) else np.empty((0, 0))
        self.weights = self.inverse @ squares.sides[list(chosen)]
        explained = float(self.weights @ squares.sides[list(chosen)])
        self.residual = max(squares.total - explained, 0.0)
        self.free = squares.rows - len(chosen) - 1
        self.variance = self.residual / self.free if self.free > 0 else np.nan
        self.errors = np.sqrt(np.diag(self.inverse) * self.variance)

    def tests(self) -> tuple[list[float], list[float]]:
        """Give the t statistics and the p-values of all features."""
        with np.errstate(all="ignore"):
            values = (self.weights / self.errors).tolist()
        return values, [two_sided(value, self.free) for value in values]


def _entering(squares: Squares, chosen: Sequence[int]) -> int | None:
    """Give the feature with the largest F statistic, if it is significant."""
    found: int | None = None
    best, least = -1.0, ENTER
    for feature in range(len(squares.sides)):
        if feature in chosen or not squares.independent(chosen, feature):
            continue
        values, chances = squares.fit([*chosen, feature]).tests()
        if chances[-1] <= least and abs(values[-1]) > best:
            found, best = feature, abs(values[-1])
    return found


def _leaving(squares: Squares, chosen: Sequence[int]) -> int | None:
    """Give the feature with the largest p-value, if it is not significant."""
    _, chances = squares.fit(chosen).tests()
    worst = max(range(len(chosen)), key=chances.__getitem__, default=None)
    return None if worst is None or not chances[worst] > LEAVE else chosen[worst]


def choose(squares: Squares, method: str) -> tuple[list[int], list[list[Any]]]:
    """Give the features that are chosen, and the steps: ["+" or "-", feature] each."""
    chosen: list[int] = []
    steps: list[list[Any]] = []
    if method == "Backward":
        for feature in range(len(squares.sides)):
            if squares.rows > len(chosen) + 2 and squares.independent(chosen, feature):
                chosen.append(feature)
        while (feature := _leaving(squares, chosen)) is not None:
            chosen.remove(feature)
            steps.append(["-", feature])
        return chosen, steps
    # A feature that comes in has a smaller p-value than one that goes: the steps end; the
    # limit is for rounding alone.
    while len(steps) < 4 * len(squares.sides):
        came = _entering(squares, chosen)
        if came is None:
            break
        chosen.append(came)
        steps.append(["+", came])
        while method == "Stepwise" and (gone := _leaving(squares, chosen)) is not None:
            chosen.remove(gone)
            steps.append(["-", gone])
    return chosen, steps


def train(params: Mapping[str, Any]) -> Any:
    """Make the training; ``method`` is Forward, Backward or Stepwise."""

    def run(group: Group) -> pa.Table:
        blocks = Blocks(group, params)
        blocks.require_rows()
        squares = Squares(blocks)
        chosen, steps = choose(squares, params["method"])
        names, types = params["featureCols"], params["featureTypes"]
        fit = squares.fit(chosen)
        scale, centre = squares.scaling.scale[chosen], squares.scaling.centre[chosen]
        weights = fit.weights / scale
        intercept = squares.middle - float(centre @ weights)
        values, chances = fit.tests()
        meta = {
            "hasInterceptItem": True,
            "modelName": "Linear Regression",
            "labelCol": params["labelCol"],
            "linearModelType": "LinearReg",
            "vectorCol": None,
            "featureCols": [names[i] for i in chosen],
            "vectorSize": len(chosen),
            "method": params["method"],
        }
        data = {
            "featureColNames": [names[i] for i in chosen],
            "featureColTypes": [types[i] for i in chosen],
            "coefVector": {"data": [intercept, *weights.tolist()]},
            "coefVectors": None,
            "convergenceInfo": None,
        }
        summary = {
            "steps": [[sign, names[i]] for sign, i in steps],
            "standardErrors": [_finite(x) for x in (fit.errors / scale).tolist()],
            "tValues": [_finite(x) for x in values],
            "pValues": [_finite(x) for x in chances],
            "rSquared": 1 - fit.residual / squares.total if squares.total > 0 else None,
            "fValue": _ratio(squares, fit, len(chosen)),
            "rows": squares.rows,
        }
        return write_model(Model(meta, [json.dumps(data), json.dumps(summary)]))

    return run


def _ratio(squares: Squares, fit: Fit, count: int) -> float | None:
    if not count or not fit.variance > 0:
        return None
    return _finite((squares.total - fit.residual) / count / fit.variance)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
