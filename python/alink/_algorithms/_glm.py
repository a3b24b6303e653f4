"""Generalized linear models, by iteratively reweighted least squares.

McCullagh and Nelder, Generalized Linear Models, 1989, 2.5. One pass an iteration, of sums of
products of the features. A penalty ``regParam`` is on half the squares of the coefficients, the
intercept left out, times the sum of the weights.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._blocks import Blocks, Scaling
from ._brought import beside, brought
from ._families import Family
from ._group import Group
from ._margins import Margins
from ._models import BadModel, Model, meta_of, read_model, write_model
from ._moments import numbers
from ._strings import Unreadable
from ._student import two_sided

Array = npt.NDArray[np.float64]

_NULL_STEPS = 100  # of the fit of an intercept alone

KEPT = (
    "featureCols",
    "labelCol",
    "weightCol",
    "offsetCol",
    "family",
    "link",
    "variancePower",
    "linkPower",
    "fitIntercept",
    "regParam",
)


def family_of(params: Mapping[str, Any]) -> Family:
    """Give the family that parameters or a model's name."""
    return Family(
        params["family"], params["link"], params["variancePower"] or 0.0, params["linkPower"]
    )


class _Rows:
    """The rows of a fit: features scaled, with a column of ones for the intercept."""

    def __init__(self, group: Group, params: Mapping[str, Any]) -> None:
        self.blocks = Blocks(group, params)
        self.blocks.require_rows()
        self.intercept = bool(params["fitIntercept"])
        self.scaling = Scaling.standard(self.blocks, self.intercept)
        self._label = params["labelCol"]
        self._offset = np.zeros(0)
        self._offset_name: str | None = params.get("offsetCol")
        if params.get("offsetCol") is not None:
            parts = [numbers(batch, [params["offsetCol"]])[:, 0] for batch in group]
            self._offset = np.concatenate([np.empty(0), *parts])
            if not np.isfinite(self._offset).all():
                raise Unreadable(f"{params['offsetCol']!r} has NULL, NaN or infinite values")

    def __iter__(self) -> Iterator[tuple[Array, Array, Array, Array]]:
        """Give the features of some rows, their labels, weights and offsets."""
        for block in self.blocks:
            labels = self.blocks.target(block)
            for part, matrix in block.features.matrices():
                seen = (matrix - self.scaling.centre) / self.scaling.scale
                if self.intercept:
                    seen = np.column_stack([seen, np.ones(len(seen))])
                rows = slice(block.rows.start + part.start, block.rows.start + part.stop)
                offset = self._offset[rows] if len(self._offset) else np.zeros(len(seen))
                yield seen, labels[part], block.weight[part], offset

    @property
    def offsets(self) -> bool:
        """Whether rows have offsets; it is the same in all workers."""
        return self._offset_name is not None

    @property
    def constant(self) -> npt.NDArray[np.bool_]:
        """Which columns have no variation and so no coefficient."""
        found = np.isinf(self.scaling.scale)
        return np.append(found, False) if self.intercept else found

    def penalty(self, strength: float) -> Array:
        """Give what a penalty adds to the diagonal, of coefficients of scaled features."""
        found = strength * self.blocks.total / self.scaling.scale**2
        return np.append(found, 0.0) if self.intercept else found

    def unscaled(self) -> Array:
        """Give the matrix that turns coefficients into those of features as they come."""
        per = 1 / self.scaling.scale
        matrix = np.diag(np.append(per, 1.0) if self.intercept else per)
        if self.intercept:
            matrix[-1, :-1] = -self.scaling.centre * per
        return matrix


def _products(rows: _Rows, family: Family, at: Array | None) -> tuple[Array, Array]:
    """Give the products of an iteration: of the features, and with the working labels."""
    size = rows.blocks.size + rows.intercept
    products, sides = np.zeros((size, size)), np.zeros(size)
    for seen, label, weight, offset in rows:
        if at is None:
            mean = family.start(label, weight)
            eta = family.link.eta(mean)
        else:
            eta = seen @ at + offset
            mean = family.mean(eta)
        slope = family.link.slope(mean)
        working = eta - offset + (label - mean) * slope
        weighted = seen.T * (weight / (slope**2 * family.variance(mean)))
        products += weighted @ seen
        sides += weighted @ working
    found = rows.blocks.group.sum(products, sides)
    return found[0], found[1]


def train(params: Mapping[str, Any]) -> Any:
    """Make the training."""
    family = family_of(params)

    def run(group: Group) -> pa.Table:
        rows = _Rows(group, params)
        for _, label, _, _ in rows:
            if not family.allows(label):
                raise Unreadable(
                    f"the label {params['labelCol']!r} has values that the family "
                    f"{params['family']} does not: they have to be {family.allowed}"
                )
        at = _fit(rows, family, params)
        raw = rows.unscaled() @ at
        intercept = float(raw[-1]) if rows.intercept else 0.0
        weights = raw[:-1] if rows.intercept else raw
        data: dict[str, Any] = {"coefficients": weights.tolist(), "intercept": intercept}
        data["summary"] = _summary(rows, params, data)
        return write_model(Model(meta_of(params, KEPT), [json.dumps(data)]))

    return run


def _fit(rows: _Rows, family: Family, params: Mapping[str, Any]) -> Array:
    penalty = np.diag(rows.penalty(params.get("regParam") or 0.0))
    at: Array | None = None
    change, most = np.inf, params["maxIter"]
    for _ in range(most):
        products, sides = _products(rows, family, at)
        if not (np.isfinite(products).all() and np.isfinite(sides).all()):
            raise Unreadable(
                f"the fit left the means that the link {params['link']} has: "
                "take another link, or a penalty regParam"
            )
        found = np.linalg.lstsq(products + penalty, sides, rcond=1e-13)[0]
        change = np.inf if at is None else float(np.abs(found - at).max(initial=0.0))
        at = found.astype(np.float64, copy=False)
        if change <= params["epsilon"] * max(1.0, float(np.abs(at).max(initial=0.0))):
            return at
    if at is None:
        raise Unreadable(f"maxIter is {most} where 1 is the least")
    print(
        f"warning: not converged after {most} iterations: the largest change of a "
        f"coefficient, of features with standard deviation 1, is {change:.3g}",
        file=sys.stderr,
        flush=True,
    )
    return at


# --- predicting ---


class Predict:
    """Gives the mean of each row and, if asked for, the linear predictor."""

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        del params
        self._types = types
        self._family = Family("gaussian", "identity")
        self._margins = Margins({}, np.empty(0), 0.0)
        self._offset: str | None = None

    def load(self, table: pa.Table) -> None:
        """Take the model."""
        model = read_model(table)
        data = _coefficients(model)
        self._family = family_of(model.meta)
        weights = np.array(data["coefficients"], np.float64)
        self._margins = Margins(model.meta, weights, data["intercept"])
        self._offset = model.meta.get("offsetCol")

    def __call__(self, batch: pa.RecordBatch) -> Sequence[pa.Array]:
        """Give the predictions; NULL where a feature or the offset is."""
        eta, missing = self._margins(batch)
        if self._offset is not None:
            offset = numbers(batch, [self._offset])[:, 0]
            missing = missing | np.isnan(offset)
            eta = eta + np.where(missing, 0.0, offset)
        with np.errstate(all="ignore"):
            mean = self._family.mean(eta)
        columns = [pa.array(mean, pa.float64(), mask=missing)]
        if len(self._types) > 1:
            columns.append(pa.array(eta, pa.float64(), mask=missing))
        return columns


def _coefficients(model: Model) -> dict[str, Any]:
    data = json.loads(model.data[0]) if model.data else {}
    if "coefficients" not in data or "family" not in model.meta:
        raise BadModel("the model is not one of Glm")
    return data


# --- evaluating ---


class Attach:
    """Brings the model along with rows, as a text in the first row of each batch."""

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        del params, types
        self._text = ""

    def load(self, table: pa.Table) -> None:
        """Take the model."""
        model = read_model(table)
        self._text = json.dumps({"meta": model.meta, "data": _coefficients(model)})

    def __call__(self, batch: pa.RecordBatch) -> Sequence[pa.Array]:
        """Give the column of the model."""
        return [beside(batch, self._text)]


def evaluate(params: Mapping[str, Any]) -> Any:
    """Make the evaluation of a model by rows that have come with it, in the column ``modelCol``."""

    def run(group: Group) -> pa.Table:
        found = brought(group, params["modelCol"])
        if found is None:
            raise Unreadable("there are no rows to evaluate the model with")
        given = json.loads(found)
        names = [given["meta"][name] for name in ("labelCol", "weightCol", "offsetCol")]
        wanted = [*given["meta"]["featureCols"], *(name for name in names if name is not None)]
        missing = [name for name in wanted if name not in group.schema.names]
        if missing:
            raise Unreadable(
                f"the rows have no column {missing[0]!r} of numbers, which the model has"
            )
        summary = json.dumps(_summary(_Rows(group, given["meta"]), **given))
        return pa.table({"summary": pa.array([summary], pa.string())})

    return run


def _summary(rows: _Rows, meta: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    family = family_of(meta)
    raw = np.array([*data["coefficients"], *([data["intercept"]] if rows.intercept else [])])
    back = rows.unscaled()
    at = np.linalg.lstsq(back, raw, rcond=None)[0].astype(np.float64, copy=False)
    products, _ = _products(rows, family, at)
    pearson, deviance, count, labels = 0.0, 0.0, 0, 0.0
    for seen, label, weight, offset in rows:
        mean = family.mean(seen @ at + offset)
        pearson += float(weight @ ((label - mean) ** 2 / family.variance(mean)))
        deviance += float(weight @ family.deviance(label, mean))
        labels += float(weight @ label)
        count += len(label)
    pearson, deviance, rows_, labels = map(
        float, rows.blocks.group.sum(pearson, deviance, count, labels)
    )
    rank = len(at) - int(rows.constant.sum())
    free = int(rows_) - rank
    dispersion = 1.0 if family.fixed else pearson / free if free > 0 else np.nan
    covariance = np.linalg.pinv(products + np.diag(rows.penalty(meta.get("regParam") or 0.0)))
    errors = np.sqrt(np.maximum(np.diag(back @ covariance @ back.T) * dispersion, 0))
    with np.errstate(all="ignore"):
        tested = raw / errors
    null, aic = _null_and_aic(rows, family, at, deviance, labels / rows.blocks.total)
    return {
        "rank": rank,
        "degreeOfFreedom": free,
        "residualDegreeOfFreeDom": free,
        "residualDegreeOfFreedomNull": int(rows_) - int(rows.intercept),
        "aic": _finite(aic + 2 * rank),
        "dispersion": _finite(dispersion),
        "deviance": deviance,
        "nullDeviance": null,
        "coefficients": data["coefficients"],
        "intercept": data["intercept"],
        "coefficientStandardErrors": [_finite(x) for x in errors.tolist()],
        "tValues": [_finite(x) for x in tested.tolist()],
        "pValues": [
            _finite(two_sided(x, np.inf if family.fixed else free)) for x in tested.tolist()
        ],
    }


def _null_intercept(rows: _Rows, family: Family, middle: float) -> float:
    """Give the intercept of the model without features, in units of the linear predictor.

    Without offsets its mean is that of the labels; with them it takes iterations, as `_fit` does.
    """
    mean = np.array([middle])
    if family.name == "binomial":
        mean = np.clip(mean, 1e-15, 1 - 1e-15)
    else:
        mean = np.maximum(mean, 1e-300) if family.positive else mean
    at = float(family.link.eta(mean)[0])
    if not rows.offsets:
        return at
    for _ in range(_NULL_STEPS):
        top, bottom = 0.0, 0.0
        for _, label, weight, offset in rows:
            fitted = family.mean(at + offset)
            slope = family.link.slope(fitted)
            each = weight / (slope**2 * family.variance(fitted))
            top += float(each @ ((label - fitted) * slope))
            bottom += float(each.sum())
        total, of = map(float, rows.blocks.group.sum(top, bottom))
        if not (np.isfinite(total) and of > 0):
            break
        at += total / of
        if abs(total / of) <= 1e-10 * max(1.0, abs(at)):
            break
    return at


def _null_and_aic(
    rows: _Rows, family: Family, at: Array, deviance: float, middle: float
) -> tuple[float, float]:
    """Give the deviance of the model without features, and minus twice the log-likelihood.

    The dispersion of the likelihood is the deviance by the sum of the weights; where it is
    estimated it counts as one parameter.
    """
    null, likelihood = 0.0, 0.0
    dispersion = max(deviance / rows.blocks.total, 1e-300)
    start = _null_intercept(rows, family, middle) if rows.intercept else 0.0
    for seen, label, weight, offset in rows:
        mean = family.mean(start + offset)
        null += float(weight @ family.deviance(label, mean))
        known = weight > 0
        fitted = family.mean(seen @ at + offset)
        terms = family.likelihood(label[known], fitted[known], weight[known], dispersion)
        likelihood += float(terms.sum())
    null, likelihood = map(float, rows.blocks.group.sum(null, likelihood))
    return null, -2 * likelihood + (0 if family.fixed else 2)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
