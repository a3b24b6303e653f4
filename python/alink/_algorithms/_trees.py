"""Decision trees and forests: their trainings.

A model is of Alink's rows (see `_models`); what they hold is a form of our own, see
`_tree_models`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._blocks import Blocks
from ._group import Group
from ._random import uniform
from ._strings import Unreadable
from ._tree_features import Array, Binned
from ._tree_growth import Drawing, Grower, Growth, Tree, entropy, gini, squares
from ._tree_models import Forest, Stored, write_forest

_EVERY = 2**31 - 1
_FEATURES_DRAW = 500_009

_SCORES = {"GINI": gini, "INFOGAIN": entropy, "INFOGAINRATIO": entropy}


class Seen:
    """Labels and weights of a worker's rows."""

    def __init__(self, group: Group, params: Mapping[str, Any], classes: bool) -> None:
        known = {name: params.get(name) for name in ("labelCol", "weightCol")}
        blocks = Blocks(group, {**known, "featureCols": []})
        blocks.require_rows()
        self.weights = np.empty(len(group))
        self.target = np.zeros(len(group))
        for block in blocks:
            self.weights[block.rows] = block.weight
            if not classes:
                self.target[block.rows] = blocks.target(block)
        self.labels = sorted(blocks.labels()) if classes else []
        self.codes = blocks.codes(self.labels).astype(np.intp) if classes else None


def require_classes(params: Mapping[str, Any], labels: Sequence[Any]) -> None:
    """Raise where there is one class only."""
    if len(labels) == 1:
        raise Unreadable(
            f"the label {params['labelCol']!r} has one value, {labels[0]!r}: "
            "boosting needs two or more"
        )


def _drawing(params: Mapping[str, Any], size: int, tree: int) -> Drawing | None:
    """Give what draws the features by which each node of a tree may be split [Breiman, 2001]."""
    some = float(params.get("featureSubsamplingRatio") or 1.0)
    count = max(1, min(int(some * size), params.get("numSubsetFeatures") or _EVERY))
    if count >= size:
        return None

    def draw(nodes: Sequence[int]) -> npt.NDArray[np.bool_]:
        numbers = np.array(nodes, np.int64)[:, None] * size + np.arange(size)
        drawn = uniform(params.get("seed") or 0, _FEATURES_DRAW + tree, numbers)
        return (drawn <= np.partition(drawn, count - 1, 1)[:, count - 1 : count]).T

    return draw


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
        squares if kind == "MSE" else _SCORES[kind],
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
        rows = Binned(group, params, params["maxBins"])
        seen = Seen(group, params, classes)
        size = len(rows.features)
        stats = np.stack([seen.weights] if classes else [seen.weights, seen.weights * seen.target])
        trees: list[Stored] = []
        gains = np.zeros(size)
        for number, kind in enumerate(kinds):
            grower = Grower(group, rows, _growth(params, kind))
            chosen = _sample(params, group, rows, number)
            tree, _ = grower.grow(stats, chosen, seen.codes, _drawing(params, size, number))
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
