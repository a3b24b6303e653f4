"""Decision trees, forests and boosted trees: their trainings.

A model is of Alink's rows (see `_models`); what they hold is a form of our own, see
`_tree_models`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._blocks import Blocks
from ._group import Group
from ._random import uniform
from ._strings import Unreadable
from ._tree_features import Array, Binned
from ._tree_growth import Grower, Growth, Tree, entropy, gini, shrunk, squares
from ._tree_models import Forest, Stored, write_forest

_EVERY = 2**31 - 1
#: Boosting splits for no gain below it.
_GAIN_LEAST = 1e-6
_FEATURES_DRAW = 500_009
_HESSIAN_LEAST = 1e-16

_SCORES = {"GINI": gini, "INFOGAIN": entropy, "INFOGAINRATIO": entropy}


class _Rows:
    """Labels and weights of a worker's rows."""

    def __init__(self, group: Group, params: Mapping[str, Any], classes: bool) -> None:
        known = {name: params.get(name) for name in ("labelCol", "weightCol")}
        blocks = Blocks(group, {**known, "featureCols": []})
        if blocks.total == 0:
            raise Unreadable("there are no rows to train with")
        self.weights = np.empty(len(group))
        self.target = np.zeros(len(group))
        for block in blocks:
            self.weights[block.rows] = block.weight
            if not classes:
                self.target[block.rows] = blocks.target(block)
        self.labels = sorted(blocks.labels()) if classes else []
        self.codes = blocks.codes(self.labels).astype(np.intp) if classes else None


def _subset(params: Mapping[str, Any], size: int, tree: int) -> list[int]:
    """Draw the features of a tree."""
    some = float(params.get("featureSubsamplingRatio") or 1.0)
    count = min(max(1, round(some * size)), params.get("numSubsetFeatures") or _EVERY, size)
    if count == size:
        return list(range(size))
    drawn = uniform(params.get("seed") or 0, _FEATURES_DRAW + tree, np.arange(size))
    return sorted(np.argsort(drawn, kind="stable")[:count].tolist())


def _sample(
    params: Mapping[str, Any], group: Group, rows: Binned, tree: int
) -> npt.NDArray[np.intp]:
    """Draw the rows of a tree; a ratio above 1 is a number of rows."""
    ratio = float(params.get("subsamplingRatio") or 1.0)
    if ratio > 1:
        ratio /= float(group.sum(len(group))[0])
    if ratio >= 1:
        return np.arange(len(group))
    return np.flatnonzero(uniform(params.get("seed") or 0, tree, rows.numbers) < ratio)


def _growth(params: Mapping[str, Any], kind: str) -> Growth:
    return Growth(
        squares() if kind == "MSE" else _SCORES[kind],
        depth=params["maxDepth"],
        leaves=params["maxLeaves"],
        samples=params["minSamplesPerLeaf"],
        sample_ratio=params["minSampleRatioPerChild"],
        gain=params["minInfoGain"],
        ratio=kind == "INFOGAINRATIO",
        many=kind.startswith("INFOGAIN"),
    )


def train_forest(params: Mapping[str, Any]) -> Any:
    """Make the training of a tree or a forest; ``kinds`` names the criterion of each tree."""

    def train(group: Group) -> pa.Table:
        kinds: list[str] = params["kinds"]
        classes = kinds[0] != "MSE"
        seen = _Rows(group, params, classes)
        rows = Binned(group, params, params["maxBins"])
        size = len(rows.features)
        stats = np.stack([seen.weights] if classes else [seen.weights, seen.weights * seen.target])
        trees: list[Stored] = []
        gains = np.zeros(size)
        for number, kind in enumerate(kinds):
            grower = Grower(group, rows, _growth(params, kind))
            chosen = _sample(params, group, rows, number)
            features = _subset(params, size, number)
            tree, _ = grower.grow(stats, chosen, features, seen.codes)
            gains += tree.gains
            trees.append(Stored.of(tree, _outcome(tree, classes, len(seen.labels))))
        forest = Forest(rows.features, "classes" if classes else "mean", [], trees, seen.labels)
        label = group.schema.field(params["labelCol"]).type if classes else None
        return write_forest(forest, params, gains, label)

    return train


def _outcome(tree: Tree, classes: bool, count: int) -> Array:
    """Give what each node says: the shares of classes, or the mean."""
    totals = np.stack(tree.totals)
    if not classes:
        return totals[:, 1:] / np.where(totals[:, :1] > 0, totals[:, :1], 1.0)
    full = np.zeros((len(totals), count))
    full[:, : totals.shape[1]] = totals
    whole = full.sum(1, keepdims=True)
    return full / np.where(whole > 0, whole, 1.0)


class _Loss:
    """What boosting descends: margins of rows, and their gradients."""

    def __init__(self, group: Group, seen: _Rows, params: Mapping[str, Any]) -> None:
        self._seen = seen
        self._newton: bool = params.get("newtonStep", True)
        count = len(seen.labels)
        self.outcome = "sum" if not count else "logistic" if count == 2 else "softmax"
        if count == 1:
            raise Unreadable(
                f"the label {params['labelCol']!r} has one value, {seen.labels[0]!r}: "
                "boosting needs two or more"
            )
        self.groups = count if count > 2 else 1
        wanted = seen.target[None] if not count else _indicators(seen.codes, count)
        self._wanted = wanted[1:] if count == 2 else wanted
        if params.get("scalePosWeight", 1.0) != 1.0 and count == 2:
            seen.weights = seen.weights * np.where(seen.codes == 1, params["scalePosWeight"], 1.0)
        self.base = self._start(group, params)
        self.margins = np.repeat(self.base[:, None], len(seen.weights), 1)

    def _start(self, group: Group, params: Mapping[str, Any]) -> Array:
        given = params.get("baseScore")
        if given is not None:
            if self.outcome == "logistic":
                return np.array([np.log(given / (1 - given))])
            return np.full(self.groups, float(given))
        weights = self._seen.weights
        total, sums = group.sum(weights.sum(), self._wanted @ weights)
        mean = sums / total
        if self.outcome == "sum":
            return mean
        mean = np.clip(mean, 1e-12, 1 - 1e-12)
        return np.log(mean / (1 - mean)) if self.outcome == "logistic" else np.log(mean)

    def gradients(self) -> tuple[Array, Array]:
        """Give the negative gradients and second derivatives, shape (groups, rows) each."""
        weights = self._seen.weights
        if self.outcome == "sum":
            return weights * (self._wanted - self.margins), np.broadcast_to(
                weights, self.margins.shape
            )
        if self.outcome == "logistic":
            likely = np.exp(-np.logaddexp(0, -self.margins))
        else:
            likely = np.exp(self.margins - self.margins.max(0))
            likely /= likely.sum(0)
        slopes = weights * (self._wanted - likely)
        if not self._newton:
            return slopes, np.broadcast_to(weights, self.margins.shape)
        return slopes, weights * np.maximum(likely * (1 - likely), _HESSIAN_LEAST)


def _indicators(codes: Any, count: int) -> Array:
    result = np.zeros((count, len(codes)))
    result[codes, np.arange(len(codes))] = 1.0
    return result


def train_boosted(params: Mapping[str, Any]) -> Any:
    """Make the training of boosted trees; ``classifier`` says whether labels are classes."""

    def train(group: Group) -> pa.Table:
        seen = _Rows(group, params, params["classifier"])
        rows = Binned(group, params, params["maxBins"])
        loss = _Loss(group, seen, params)
        size = len(rows.features)
        penalty, shrink = float(params["lambda"]), float(params.get("alpha") or 0.0)
        least = params["minInfoGain"] + params["gamma"] * params.get("gammaFactor", 1.0)
        grower = Grower(
            group,
            rows,
            Growth(
                squares(penalty, shrink),
                depth=params["maxDepth"],
                leaves=params["maxLeaves"],
                samples=params["minSamplesPerLeaf"],
                sample_ratio=params["minSampleRatioPerChild"],
                weight=params["minSumHessianPerLeaf"],
                gain=max(least, _GAIN_LEAST),
                mean=False,
            ),
        )
        trees: list[Stored] = []
        gains = np.zeros(size)
        for number in range(params["numTrees"]):
            slopes, curves = loss.gradients()
            chosen = _sample(params, group, rows, number)
            features = _subset(params, size, number)
            for g in range(loss.groups):
                tree, leaf = grower.grow(np.stack([curves[g], slopes[g]]), chosen, features)
                gains += tree.gains
                totals = np.stack(tree.totals)
                below = totals[:, 0] + penalty
                values = shrunk(totals[:, 1], shrink) / np.where(below > 0, below, 1.0)
                values *= params["learningRate"]
                trees.append(stored := Stored.of(tree, values[:, None], g))
                if len(chosen) == len(group):
                    loss.margins[g] += values[leaf]
                else:
                    loss.margins[g] += values[stored.leaves_of_codes(rows)]
        forest = Forest(rows.features, loss.outcome, loss.base.tolist(), trees, seen.labels)
        label = group.schema.field(params["labelCol"]).type if params["classifier"] else None
        return write_forest(forest, params, gains, label)

    return train
