"""Models of trees: how they are written, and what they say of rows.

The meta holds ``modelName``, ``labelCol``, ``featureCols``, ``vectorCol``, ``outcome`` (what the
trees' values are: ``classes``, shares of classes, of which the mean is taken; ``mean``, a number;
added to ``base``: ``sum``, ``exp`` and ``share``, a number or that of which it is the logarithm or
the log-odds, ``logistic`` and ``softmax``, the likelihoods of classes, ``largest``, the class that
has most, and ``hinge``, the second class above 0) and ``importance``, what each feature gained, as
shares of 1; ``absent`` is null where a number that a sparse vector has not is missing, else 0. The
first text is a list with the categories of each feature, null of a number. Each
further text is a tree, arrays by node of which node 0 is the root::

    {"group": 0, "feature": [0, -1, -1], "threshold": [1.5, 0, 0], "child": [1, -1, -1],
     "missing": [1, 0, 0], "branches": {}, "value": [[…], …]}

A feature of -1 makes a leaf. A number up to the threshold goes to node ``child``, one above it to
the next; a category goes to ``child`` + the element of ``branches[node]`` at its place in the list
of categories + 1; a value that is missing, or a category that is not known, to ``child`` +
``missing``. Of classes, ``group`` is the one that a tree of a softmax adds to.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._details import details
from ._models import BadModel, Model, read_model, write_model
from ._tree_features import Array, Features
from ._tree_growth import Tree
from ._tree_levels import Block, Leveled
from ._vectors import Vectors

#: Up to so many rows go through the trees one by one.
_FEW = 8

_Rows = npt.NDArray[np.intp]


@dataclass
class Stored:
    """A tree that is applied: arrays by node, as the model has them."""

    group: int
    feature: list[int]
    threshold: list[float]
    child: list[int]
    missing: list[int]
    branches: dict[int, npt.NDArray[np.intp]]
    value: Array

    def __post_init__(self) -> None:
        self.leaves = np.cumsum(np.array(self.feature) < 0) - 1
        #: How many leaves there are.
        self.count = int(self.leaves[-1]) + 1

    @classmethod
    def of(cls, tree: Tree, value: Array, group: int = 0) -> Stored:
        """Take a tree that was grown, with what each node says, shape (nodes, k)."""
        branches = {
            node: np.array(codes, np.intp)
            for node, codes in enumerate(tree.branches)
            if codes is not None
        }
        return cls(group, tree.feature, tree.threshold, tree.child, tree.missing, branches, value)

    def text(self) -> str:
        """Write the tree."""
        value = {
            "group": self.group,
            "feature": self.feature,
            "threshold": self.threshold,
            "child": self.child,
            "missing": self.missing,
            "branches": {str(node): codes.tolist() for node, codes in self.branches.items()},
            "value": self.value.tolist(),
        }
        return json.dumps(value, separators=(",", ":"))

    @classmethod
    def read(cls, text: str) -> Stored:
        """Read a tree."""
        found = json.loads(text)
        return cls(
            found["group"],
            found["feature"],
            found["threshold"],
            found["child"],
            found["missing"],
            {int(node): np.array(codes, np.intp) for node, codes in found["branches"].items()},
            np.array(found["value"], np.float64),
        )

    def walk(
        self,
        rows: int,
        above: Callable[[int, _Rows], npt.NDArray[np.bool_]],
        codes: Callable[[int, _Rows], Any],
    ) -> _Rows:
        """Give the leaf's node of each of so many rows.

        Parameters
        ----------
        rows : int
        above : callable
            Tells of a node and rows which of them are on its second branch.
        codes : callable
            Gives their codes, of a feature of categories.
        """
        leaf = np.zeros(rows, np.intp)
        waiting = [(0, np.arange(rows))]
        while waiting:
            node, some = waiting.pop()
            if not len(some):
                continue
            if self.feature[node] < 0:
                leaf[some] = node
                continue
            child, table = self.child[node], self.branches.get(node)
            if table is None:
                second = above(node, some)
                waiting += [(child, some[~second]), (child + 1, some[second])]
            else:
                branch = table[codes(node, some)]
                for j in range(int(table.max()) + 1):
                    waiting.append((child + j, some[branch == j]))
        return leaf

    def leaf_of(self, row: Sequence[float]) -> int:
        """Give the leaf's node of one row."""
        node = 0
        while self.feature[node] >= 0:
            value, table = row[self.feature[node]], self.branches.get(node)
            if table is not None:
                branch = int(table[int(value)])
            elif value <= self.threshold[node]:
                branch = 0
            else:
                branch = 1 if value > self.threshold[node] else self.missing[node]
            node = self.child[node] + branch
        return node

    def leaves_of(self, values: Array) -> _Rows:
        """Give the leaf's node of each row, of values of shape (features, rows)."""

        def above(node: int, some: _Rows) -> npt.NDArray[np.bool_]:
            found = values[self.feature[node]].take(some)
            # NaN is on neither side: the comparison is made so that it comes out as it should.
            if self.missing[node]:
                return ~(found <= self.threshold[node])
            return found > self.threshold[node]

        return self.walk(
            values.shape[1],
            above,
            lambda node, some: values[self.feature[node]][some].astype(np.intp),
        )


@dataclass
class Forest:
    """What a model of trees holds."""

    features: Features
    outcome: str
    base: list[float]
    trees: list[Stored]
    labels: list[Any]

    def __post_init__(self) -> None:
        self._leveled: Leveled | None = None

    def leaves(self, values: Array) -> Iterator[tuple[slice, int, _Rows, npt.NDArray[Any]]]:
        """Give the leaves that rows come to, of all trees in turn.

        Yields
        ------
        part : slice
            Of the rows.
        number : int
            Of the tree.
        nodes : array
            Nodes of the tree.
        places : array, shape (rows,)
            The place of each row's leaf among `nodes`.
        """
        if values.shape[1] <= _FEW:
            rows = values.T.tolist()
            for number, tree in enumerate(self.trees):
                places = np.array([tree.leaf_of(row) for row in rows], np.intp)
                yield slice(0, len(rows)), number, np.arange(len(tree.feature)), places
            return
        # Made when it is first needed: a model is also read to be shown.
        leveled = self._leveled = self._leveled or Leveled(self.trees)
        block: Block | None = None
        for begin in range(0, values.shape[1], leveled.rows):
            part = slice(begin, min(begin + leveled.rows, values.shape[1]))
            some = np.ascontiguousarray(values[:, part])
            block = leveled.block(some, block)
            for number, levels in enumerate(leveled.trees):
                if levels is None:
                    tree = self.trees[number]
                    yield part, number, np.arange(len(tree.feature)), tree.leaves_of(some)
                else:
                    yield part, number, levels.leaves, levels.places_of(block)

    def sums(self, values: Array) -> Array:
        """Give the sums of what the trees say, shape (k, rows)."""
        count = len(self.base) or self.trees[0].value.shape[1]
        result = np.zeros((count, values.shape[1]))
        for part, number, nodes, places in self.leaves(values):
            tree = self.trees[number]
            of_places = tree.value.take(nodes, 0)
            if self.base:
                result[tree.group, part] += of_places[:, 0].take(places)
            else:
                result[:, part] += of_places.take(places, 0).T
        return result

    def outcomes(self, values: Array) -> Array:
        """Give what the trees say, shape (k, rows): of each class, or a number."""
        result = self.sums(values)
        if not self.base:
            return result / len(self.trees)
        result += np.array(self.base)[:, None]
        if self.outcome == "exp":
            return np.exp(result)
        if self.outcome == "hinge":
            return np.concatenate([result <= 0, result > 0]).astype(np.float64)
        if self.outcome in ("logistic", "share"):
            likely = np.exp(-np.logaddexp(0, -result))
            if self.outcome == "share":
                return likely
            return np.concatenate([np.exp(-np.logaddexp(0, result)), likely])
        if self.outcome == "largest":
            return np.eye(len(result))[:, result.argmax(0)]
        if self.outcome == "softmax":
            result = np.exp(result - result.max(0))
            result /= result.sum(0)
        return result


def write_forest(
    forest: Forest, params: Mapping[str, Any], gains: Array, label: pa.DataType | None
) -> pa.Table:
    """Give a model as a table."""
    total = float(gains.sum())
    meta = {
        "modelName": params.get("modelName"),
        "labelCol": params["labelCol"],
        "featureCols": None if forest.features.vector else list(forest.features.names),
        "vectorCol": forest.features.vector,
        "absent": None if math.isnan(forest.features.absent) else forest.features.absent,
        "outcome": forest.outcome,
        "base": forest.base,
        "importance": (gains / total if total > 0 else gains).tolist(),
    }
    known = json.dumps(list(forest.features.categories), ensure_ascii=False)
    return write_model(
        Model(meta, [known, *(t.text() for t in forest.trees)], forest.labels), label
    )


def read_forest(table: pa.Table, vector: str | None = None) -> Forest:
    """Read a model; `vector` names the column of vectors where it has another name."""
    model = read_model(table)
    outcome = model.get("outcome")
    if len(model.data) < 2:
        raise BadModel("the model has no trees")
    categories = json.loads(model.data[0])
    trees = [Stored.read(text) for text in model.data[1:]]
    column = model.get("vectorCol")
    if column is None:
        features = Features(model.get("featureCols") or [], categories)
    else:
        absent = model.meta.get("absent", 0.0)
        features = Features(
            [],
            categories,
            vector or column,
            math.nan if absent is None else absent,
            _chosen(trees),
        )
    return Forest(features, outcome, model.get("base"), trees, model.labels)


def _chosen(trees: Sequence[Stored]) -> npt.NDArray[np.intp]:
    """Give the features that trees split, by which these are renumbered."""
    chosen = sorted({feature for tree in trees for feature in tree.feature if feature >= 0})
    places = {feature: place for place, feature in enumerate([-1, *chosen], -1)}
    for tree in trees:
        tree.feature = [places[feature] for feature in tree.feature]
    return np.array(chosen, np.intp)


class _Applied:
    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        self._vector: str | None = params.get("vectorCol")
        self._types = types

    def load(self, table: pa.Table) -> None:
        """Take the model."""
        self._forest = read_forest(table, self._vector)


class Predict(_Applied):
    """Gives the likeliest label, or a number; NULL where a vector is."""

    def __call__(self, batch: pa.RecordBatch) -> Sequence[pa.Array]:
        """Give the prediction and, if asked for, the probabilities as JSON."""
        forest = self._forest
        values, lost = forest.features.read(batch)
        found = forest.outcomes(values)
        if not forest.labels:
            numbers = pa.array(found[0], pa.float64(), mask=lost)
            return [numbers, *(pa.nulls(len(numbers), kind) for kind in self._types[1:])]
        labels = pa.array(forest.labels, self._types[0])
        columns = [labels.take(pa.array(found.argmax(0), pa.int32(), mask=lost))]
        if len(self._types) > 1:
            missing = np.zeros(batch.num_rows, np.bool_) if lost is None else lost
            columns.append(details(forest.labels, list(found), missing, quoted=False))
        return columns


class Encode(_Applied):
    """Gives the leaves that a row comes to, one of each tree, as a sparse vector of ones."""

    def __call__(self, batch: pa.RecordBatch) -> Sequence[pa.Array]:
        """Give the vectors."""
        forest, rows = self._forest, batch.num_rows
        values, lost = forest.features.read(batch)
        indices = np.empty((rows, len(forest.trees)), np.int32)
        begins = np.cumsum([0, *(tree.count for tree in forest.trees)])
        for part, j, nodes, places in forest.leaves(values):
            indices[part, j] = (forest.trees[j].leaves[nodes] + begins[j]).take(places)
        size = int(begins[-1])
        if lost is not None:
            indices = indices[~lost]
        vectors = Vectors.of_entries(
            np.repeat(
                np.arange(rows) if lost is None else np.flatnonzero(~lost), len(forest.trees)
            ),
            indices.ravel(),
            np.ones(indices.size),
            np.full(rows, size, np.int32),
            np.zeros(rows, np.bool_),
            None if lost is None else ~lost,
        )
        return [vectors.to_arrow()]
