"""Boosted trees, grown by LightGBM [Ke et al. 2017] of codes of our own.

What it is given are the codes of `_tree_features`, so that splits lie where those of the other
trees do; what it has grown becomes a model of our own (see `_tree_models`), which is applied
without it. Objectives that it has are its own, by Newton's steps; the others are computed here.

Several workers grow the same trees, each of its own rows: histograms of gradients are added up by
the library's collectives (see `_lightgbm`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._group import Group
from ._lightgbm import Booster
from ._random import uniform
from ._tree_features import Array, Binned
from ._tree_models import Forest, Stored, write_forest
from ._trees import Seen, require_classes

#: No split for a gain below it.
_GAIN_LEAST = 1e-6
_HESSIAN_LEAST = 1e-16
_LEAVES_MAX = 131_072  # of LightGBM
#: Of fewer rows a worker's share is not worth a meeting: each grows the same trees of all rows.
_SHARE_ROWS_LEAST = 4_096
#: Of so many rows, and so many codes, the library is told how they are spread.
_SAMPLE_ROWS = 50_000
_SAMPLE_CODES = 4_000_000
_SAMPLING = 1_000_033  # a draw that no tree takes


class _Loss:
    """What boosting descends, and where it starts."""

    def __init__(self, group: Group, seen: Seen, params: Mapping[str, Any]) -> None:
        self._seen = seen
        self._newton: bool = params.get("newtonStep", True)
        count = len(seen.labels)
        self.outcome = "sum" if not count else "logistic" if count == 2 else "softmax"
        require_classes(params, seen.labels)
        self.groups = count if count > 2 else 1
        if params.get("scalePosWeight", 1.0) != 1.0 and count == 2:
            seen.weights = seen.weights * np.where(seen.codes == 1, params["scalePosWeight"], 1.0)
        self.base = self._start(group, params)
        plain = self._newton and self.outcome != "softmax"
        #: The library's name for what is descended; None where it has none.
        self.named = {"sum": "regression", "logistic": "binary"}[self.outcome] if plain else None

    def _wanted(self, rows: slice) -> Array:
        if self._seen.codes is None:
            return self._seen.target[None, rows]
        first = 1 if self.groups == 1 else 0
        kinds = np.arange(first, len(self._seen.labels))
        return (self._seen.codes[rows] == kinds[:, None]).astype(np.float64)

    def _start(self, group: Group, params: Mapping[str, Any]) -> Array:
        given = params.get("baseScore")
        if given is not None:
            if self.outcome == "logistic":
                return np.array([np.log(given / (1 - given))])
            return np.full(self.groups, float(given))
        weights, codes = self._seen.weights, self._seen.codes
        if codes is None:
            mine = (self._seen.target @ weights)[None]
        else:
            mine = np.bincount(codes, weights, len(self._seen.labels))[-self.groups :]
        total, sums = group.sum(weights.sum(), mine)
        mean = sums / total
        if self.outcome == "sum":
            return mean
        mean = np.clip(mean, 1e-12, 1 - 1e-12)
        return np.log(mean / (1 - mean)) if self.outcome == "logistic" else np.log(mean)

    def labels(self) -> Array:
        """Give the labels as the library takes them: numbers, or codes of classes."""
        return (
            self._seen.target if self._seen.codes is None else self._seen.codes.astype(np.float64)
        )

    def gradients(self, margins: Array, rows: slice) -> tuple[Array, Array]:
        """Give the gradients and second derivatives at margins of rows, shape (groups, rows)."""
        weights = self._seen.weights[rows]
        even = np.broadcast_to(weights, margins.shape)
        if self.outcome == "sum":
            return weights * (margins - self._wanted(rows)), even
        if self.outcome == "logistic":
            likely = np.exp(-np.logaddexp(0, -margins))
        else:
            likely = np.exp(margins - margins.max(0))
            likely /= likely.sum(0)
        slopes = weights * (likely - self._wanted(rows))
        if not self._newton:
            return slopes, even
        return slopes, weights * np.maximum(likely * (1 - likely), _HESSIAN_LEAST)


def train_boosted(params: Mapping[str, Any]) -> Any:
    """Make the training of boosted trees; ``classifier`` says whether labels are classes."""

    def train(group: Group) -> pa.Table:
        if group.rows_of_all < _SHARE_ROWS_LEAST * group.size:
            group = group.alone()
        # In this order, since the sample that bins follow from is what takes most memory.
        rows = Binned(group, params, params["maxBins"])
        seen = Seen(group, params, params["classifier"])
        loss = _Loss(group, seen, params)
        grown = _grow(group, rows, seen, loss, params)
        size = len(rows.features)
        gains = np.zeros(size)
        trees: list[Stored] = []
        for number, tree in enumerate(grown):
            trees.append(_stored(tree["tree_structure"], number % loss.groups, rows, gains))
        # The library leaves out a round in which nothing is split.
        trees += [
            Stored(number % loss.groups, [-1], [0.0], [-1], [0], {}, np.zeros((1, 1)))
            for number in range(len(trees), params["numTrees"] * loss.groups)
        ]
        forest = Forest(rows.features, loss.outcome, loss.base.tolist(), trees, seen.labels)
        label = group.schema.field(params["labelCol"]).type if params["classifier"] else None
        return write_forest(forest, params, gains, label)

    return train


def _grow(
    group: Group, rows: Binned, seen: Seen, loss: _Loss, params: Mapping[str, Any]
) -> list[Mapping[str, Any]]:
    """Grow the trees; those of one round stand together, one for each class of many."""
    if not len(rows.features):
        return []
    settings = _settings(group, rows, params)
    settings["objective"] = loss.named or "custom"
    if loss.groups > 1:
        settings["num_class"] = loss.groups
    booster = Booster(settings, _sample(group, rows), len(seen.weights))
    try:
        booster.push(rows.codes)
        rows.forget()  # the library has its own
        booster.set("label", loss.labels())
        if not group.least(float((seen.weights == 1).all())):
            booster.set("weight", seen.weights)
        booster.set("init_score", np.repeat(loss.base[:, None], len(seen.weights), 1))
        descend = None if loss.named else loss.gradients
        with booster.together(group):
            return booster.grow(params["numTrees"], loss.groups, descend)
    finally:
        booster.close()


def _sample(group: Group, rows: Binned) -> Array:
    """Give codes that stand for those of all workers, shape (features, n); NaN is missing.

    They are the same in each worker, and each code of a row of any worker is among them. What
    they tell of its frequency decides how the library stores a feature.
    """
    size = len(rows.features)
    share = min(_SAMPLE_ROWS, _SAMPLE_CODES // size) / max(group.rows_of_all, 1)
    mine = rows.codes[:, uniform(0, _SAMPLING, rows.numbers) < share]
    parts = [
        np.frombuffer(part, rows.codes.dtype).reshape(size, -1)
        for part in group.gather(np.ascontiguousarray(mine).tobytes())
    ]
    present = np.concatenate(
        [
            np.bincount(codes, minlength=count) > 0
            for codes, count in zip(rows.codes, rows.counts, strict=True)
        ]
    )
    present = group.largest(present.astype(np.float64)) > 0
    found = np.concatenate(parts, 1)
    drawn = [
        np.bincount(codes, minlength=count) for codes, count in zip(found, rows.counts, strict=True)
    ]
    missed = [
        np.flatnonzero(some & (counted == 0))
        for some, counted in zip(np.split(present, np.cumsum(rows.counts)), drawn, strict=False)
    ]
    # The most frequent code fills the rows that a feature does not need.
    more = np.empty((size, max(map(len, missed))))
    for row, codes, counted in zip(more, missed, drawn, strict=True):
        row[:] = counted.argmax() if found.size else codes[0]
        row[: len(codes)] = codes
    sample = np.concatenate([found.astype(np.float64), more], 1)
    sample[sample == 0] = np.nan
    return sample


def _settings(group: Group, rows: Binned, params: Mapping[str, Any]) -> dict[str, Any]:
    size = len(rows.features)
    depth = params["maxDepth"]
    full = 2**depth if depth < 30 else _LEAVES_MAX
    share = min(float(params.get("featureSubsamplingRatio") or 1.0), 1.0)
    if some := params.get("numSubsetFeatures"):
        share = min(share, some / size)
    ratio = float(params.get("subsamplingRatio") or 1.0)
    ratio = ratio / group.rows_of_all if ratio > 1 else ratio
    least = params["minInfoGain"] + params["gamma"] * params.get("gammaFactor", 1.0)
    seed = int(params.get("seed") or 0)
    return {
        "verbosity": -1,
        "num_threads": max(1, len(os.sched_getaffinity(0)) // group.size),
        "deterministic": True,
        "force_row_wise": True,
        "seed": seed,
        "bagging_seed": seed + 1,
        "feature_fraction_seed": seed + 2,
        "boost_from_average": False,
        "feature_pre_filter": False,
        "max_depth": min(depth, _LEAVES_MAX),
        "num_leaves": max(2, min(params["maxLeaves"], full, _LEAVES_MAX)),
        "max_bin": max(max(rows.counts, default=2), 2),
        "categorical_feature": [
            j for j, known in enumerate(rows.features.categories) if known is not None
        ],
        "min_data_in_bin": 1,
        "min_data_in_leaf": params["minSamplesPerLeaf"],
        "min_sum_hessian_in_leaf": params["minSumHessianPerLeaf"],
        "min_gain_to_split": max(least, _GAIN_LEAST),
        "lambda_l2": float(params["lambda"]),
        "lambda_l1": float(params.get("alpha") or 0.0),
        "learning_rate": params["learningRate"],
        "feature_fraction": share,
        "bagging_fraction": min(ratio, 1.0),
        "bagging_freq": int(ratio < 1),
        # Categories are divided in the order of their means, as those of other trees are.
        "max_cat_to_onehot": 1,
        "max_cat_threshold": max(rows.counts, default=1),
        "min_data_per_group": 1,
        "cat_smooth": 0.0,
        "cat_l2": 0.0,
    }


def _stored(root: Mapping[str, Any], group: int, rows: Binned, gains: Array) -> Stored:
    """Take a tree of the library's; what its splits gain is added to that of their features."""
    feature: list[int] = []
    threshold: list[float] = []
    child: list[int] = []
    missing: list[int] = []
    value: list[list[float]] = []
    branches: dict[int, npt.NDArray[np.intp]] = {}

    def add() -> int:
        feature.append(-1)
        threshold.append(0.0)
        child.append(-1)
        missing.append(0)
        value.append([0.0])
        return len(feature) - 1

    waiting = [(add(), root)]
    while waiting:
        node, found = waiting.pop()
        if "split_feature" not in found:
            value[node] = [found["leaf_value"]]
            continue
        at = feature[node] = found["split_feature"]
        gains[at] += found["split_gain"]
        left, right = found["left_child"], found["right_child"]
        if found["decision_type"] == "==":
            table = np.ones(rows.counts[at], np.intp)
            table[[int(code) for code in found["threshold"].split("||")]] = 0
            branches[node] = table
            missing[node] = int(table[0])
        else:
            cuts, below = rows.cuts[at], int(found["threshold"])
            if found["missing_type"] == "NaN":
                missing[node] = int(not found["default_left"])
            else:
                missing[node] = int(_rows_of(right) > _rows_of(left))
            if below == 0:  # no code is below: all numbers take the first branch
                left, right, missing[node] = right, left, 1 - missing[node]
            threshold[node] = float(cuts[below - 1]) if 0 < below <= len(cuts) else math.inf
        child[node] = add()
        waiting += [(child[node], left), (add(), right)]
    return Stored(group, feature, threshold, child, missing, branches, np.array(value))


def _rows_of(node: Mapping[str, Any]) -> int:
    return node.get("internal_count", node.get("leaf_count", 0))
