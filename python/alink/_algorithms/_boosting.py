"""Boosted trees, grown by LightGBM [Ke et al. 2017] of codes of our own.

What it is given are the codes of `_tree_features`, so that splits lie where those of the other
trees do; what it has grown becomes a model of our own (see `_tree_models`), which is applied
without it. Objectives that it has are its own, by Newton's steps; the others are computed here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._group import Group
from ._strings import Unreadable
from ._tree_features import Array, Binned
from ._tree_models import Forest, Stored, write_forest
from ._trees import Seen

#: No split for a gain below it.
_GAIN_LEAST = 1e-6
_HESSIAN_LEAST = 1e-16
_LEAVES_MAX = 131_072  # of LightGBM
_BATCH_ROWS = 8_192


class _Loss:
    """What boosting descends: margins of rows, and their gradients."""

    def __init__(self, group: Group, seen: Seen, params: Mapping[str, Any]) -> None:
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
        plain = self._newton and self.outcome != "softmax"
        #: The library's name for what is descended; None where it has none.
        self.named = {"sum": "regression", "logistic": "binary"}[self.outcome] if plain else None
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

    def labels(self) -> Array:
        """Give the labels as the library takes them: numbers, or codes of classes."""
        return (
            self._seen.target if self._seen.codes is None else self._seen.codes.astype(np.float64)
        )

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
        seen = Seen(group, params, params["classifier"])
        rows = Binned(group, params, params["maxBins"])
        loss = _Loss(group, seen, params)
        grown = _grow(rows, seen, loss, params)
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


def _library() -> Any:
    # Its threads meet thousands of times, and spin while they wait: where other processes want
    # the cores too, each meeting would take a turn of theirs.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        import lightgbm  # pyright: ignore[reportMissingImports]
    except OSError as error:  # of the runtime that compilers bring
        raise Unreadable(
            f"LightGBM cannot be loaded ({error}): install libgomp on the engine's machine "
            "(apt install libgomp1, dnf install libgomp)"
        ) from None
    return lightgbm


def _grow(
    rows: Binned, seen: Seen, loss: _Loss, params: Mapping[str, Any]
) -> list[Mapping[str, Any]]:
    """Grow the trees; those of one round stand together, one for each class of many."""
    library = _library()
    count = len(seen.weights)
    if not len(rows.features):
        return []
    settings = _settings(rows, params, count)
    dataset = library.Dataset(
        _matrix(rows.codes),
        label=loss.labels(),
        weight=None if (seen.weights == 1).all() else seen.weights,
        init_score=np.repeat(loss.base[None], count, 0).ravel(order="F"),
        categorical_feature=[
            j for j, known in enumerate(rows.features.categories) if known is not None
        ],
        params=settings,
        free_raw_data=True,
    )

    def descended(margins: Array, _: Any) -> tuple[Array, Array]:
        loss.margins = margins.T if margins.ndim > 1 else margins[None]
        slopes, curves = (np.array(part) for part in loss.gradients())
        return (-slopes.T, curves.T) if margins.ndim > 1 else (-slopes[0], curves[0])

    given = {**settings, "objective": loss.named or descended}
    if loss.groups > 1:
        given["num_class"] = loss.groups
    booster = library.train(given, dataset, num_boost_round=params["numTrees"])
    return booster.dump_model()["tree_info"]


def _settings(rows: Binned, params: Mapping[str, Any], count: int) -> dict[str, Any]:
    size = len(rows.features)
    depth = params["maxDepth"]
    full = 2**depth if depth < 30 else _LEAVES_MAX
    share = min(float(params.get("featureSubsamplingRatio") or 1.0), 1.0)
    if some := params.get("numSubsetFeatures"):
        share = min(share, some / size)
    ratio = float(params.get("subsamplingRatio") or 1.0)
    ratio = ratio / count if ratio > 1 else ratio
    least = params["minInfoGain"] + params["gamma"] * params.get("gammaFactor", 1.0)
    seed = int(params.get("seed") or 0)
    return {
        "verbosity": -1,
        "num_threads": len(os.sched_getaffinity(0)),
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


def _matrix(codes: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Give codes as the library takes them, shape (rows, features); a code of 0 is missing."""
    matrix = np.empty(codes.shape[::-1], np.float32)
    for begin in range(0, len(matrix), _BATCH_ROWS):
        part = slice(begin, begin + _BATCH_ROWS)
        matrix[part] = codes[:, part].T
    matrix[matrix == 0] = np.nan
    return matrix


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
        child[node] = add()
        waiting += [(child[node], left), (add(), right)]
        if found["decision_type"] == "==":
            table = np.ones(rows.counts[at], np.intp)
            table[[int(code) for code in found["threshold"].split("||")]] = 0
            branches[node] = table
            missing[node] = int(table[0])
            continue
        threshold[node] = float(rows.cuts[at][int(found["threshold"]) - 1])
        if found["missing_type"] == "NaN":
            missing[node] = int(not found["default_left"])
        else:
            missing[node] = int(_rows_of(right) > _rows_of(left))
    return Stored(group, feature, threshold, child, missing, branches, np.array(value))


def _rows_of(node: Mapping[str, Any]) -> int:
    return node.get("internal_count", node.get("leaf_count", 0))
