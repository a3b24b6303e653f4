"""Bisecting k-means: clusters are divided in two, level by level, until there are enough.

Steinbach, Karypis and Kumar, A comparison of document clustering techniques, 2000. A cluster is
divided by Lloyd's iterations with two centres, from a start to both sides of its own centre along
the direction in which it varies most (Boley, Principal direction divisive partitioning, 1998): no
random numbers are drawn. Nodes are numbered as in a heap: the
root is 1, those below n are 2n and 2n + 1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ._group import Group
from ._kmeans import nearness, spread
from ._models import BadModel, Model, read_model, write_model
from ._nearest import Array, Labels
from ._points import Points, Reader, points_of
from ._spaces import SPACES, Space
from ._strings import Unreadable, format_dense
from ._vectors import Vectors

_ROOT = 1
#: A cluster whose squared distances are less than this share of its squares is one point.
_ONE_POINT = 1e-14
#: How often a direction is turned at most, and the cosine from which on it rests.
_TURNS = 10
_SETTLED = 1 - 1e-6


@dataclass
class Node:
    """A cluster of the tree.

    Attributes
    ----------
    centre : array, shape (d,)
    size : int
    cost : float
        The sum of squared distances from the centre, or with cosines of distances.
    divisible : bool
    """

    centre: Array
    size: int
    cost: float
    divisible: bool = True


def train(params: Mapping[str, Any]) -> Any:
    """Make a training of ``vectorCol``."""

    def run(group: Group) -> pa.Table:
        points = points_of(group, params, SPACES[params["distanceType"]])
        if points.count == 0:
            raise Unreadable("there are no rows to train with")
        tree = _Growth(points, params).grown()
        meta = {
            "vectorCol": params["vectorCol"],
            "distanceType": params["distanceType"],
            "k": params["k"],
            "vectorSize": points.size,
        }
        data = [
            json.dumps(
                {
                    "clusterId": number,
                    "size": node.size,
                    "center": {"data": (node.centre + points.origin).tolist()},
                    "cost": node.cost,
                },
                separators=(",", ":"),
            )
            for number, node in sorted(tree.items())
        ]
        return write_model(Model(meta, data))

    return run


class _Growth:
    """A tree while it grows."""

    def __init__(self, points: Points, params: Mapping[str, Any]) -> None:
        self._points = points
        self._space = points.space
        self._wanted: int = params["k"]
        self._least: int = max(params["minDivisibleClusterSize"], 2)
        self._iterations: int = params["maxIter"]
        #: Which leaf each row is in, of the leaves in their order, for each block.
        self._places: list[Labels] = [np.zeros(len(item.numbers), np.int64) for item in points]
        self.tree: dict[int, Node] = {}

    def grown(self) -> dict[int, Node]:
        """Divide clusters until there are enough, or none can be divided."""
        self._leaves = [_ROOT]
        self._look(self._leaves)
        while len(self._leaves) < self._wanted:
            able = [n for n in self._leaves if self._may_divide(self.tree[n])]
            able.sort(key=lambda n: (-self.tree[n].size, n))
            able = able[: self._wanted - len(self._leaves)]
            if not able:
                break
            self._divide(sorted(able))
        return self.tree

    def _may_divide(self, node: Node) -> bool:
        return node.divisible and node.size >= self._least

    def _look(self, numbers: Sequence[int]) -> None:
        """Find centres, sizes and costs of the leaves of these numbers; rows are in them."""
        count = len(self._leaves)
        sums, sizes = np.zeros((count, self._points.size)), np.zeros(count)
        squares = np.zeros(count)
        for item, places in zip(self._points, self._places, strict=True):
            more, number = item.block.sums(places, count)
            sums += more
            sizes += number
            squares += np.bincount(places, item.block.squared(), count)
        sums, sizes, squares = self._points.group.sum(sums, sizes, squares)
        centres = self._space.settled(sums, sizes, np.zeros_like(sums))
        for number in numbers:
            at = self._leaves.index(number)
            centre, size = centres[at], int(sizes[at])
            scatter = float(squares[at] - 2 * centre @ sums[at] + size * (centre @ centre))
            share = 0.5 if self._space.name == "COSINE" else 1.0
            alike = scatter <= _ONE_POINT * float(squares[at])
            self.tree[number] = Node(centre, size, max(scatter, 0.0) * share, not alike)

    def _divide(self, numbers: Sequence[int]) -> None:
        """Divide leaves; one whose rows all stay on one side stays whole."""
        pairs = self._start(numbers)
        for _ in range(self._iterations):
            sums, sizes = self._pass(numbers, pairs)
            after = self._space.settled(sums, sizes, pairs)
            resting = np.array_equal(after, pairs)
            pairs = after
            if resting:
                break
        _, sizes = self._pass(numbers, pairs)
        whole = [n for i, n in enumerate(numbers) if not sizes[2 * i : 2 * i + 2].all()]
        for number in whole:
            self.tree[number].divisible = False
        divided = [n for n in numbers if n not in whole]
        before = self._leaves
        self._leaves = [n for n in before if n not in divided]
        self._leaves += [child for n in divided for child in (2 * n, 2 * n + 1)]
        for i, (item, places) in enumerate(zip(self._points, self._places, strict=True)):
            right = self._sides(item.block, places, before, numbers, pairs)
            table = np.zeros((len(before), 2), np.int64)
            for at, number in enumerate(before):
                ways = (2 * number, 2 * number + 1) if number in divided else (number, number)
                table[at] = [self._leaves.index(way) for way in ways]
            self._places[i] = table[places, right]
        self._look([child for n in divided for child in (2 * n, 2 * n + 1)])

    def _start(self, numbers: Sequence[int]) -> Array:
        """Give two centres for each leaf, to both sides of its own along its main direction.

        The direction is found by power iterations from the coordinate that varies most.
        """
        leaves = [self._leaves.index(number) for number in numbers]
        count = len(self._leaves)
        total, squares = np.zeros((2, count, self._points.size))
        for item, places in zip(self._points, self._places, strict=True):
            total += item.block.sums(places, count)[0]
            squares += item.block.sums(places, count, 2)[0]
        total, squares = self._points.group.sum(total, squares)
        sizes = np.array([[self.tree[number].size] for number in numbers])
        means = total[leaves] / sizes
        variances = squares[leaves] / sizes - means**2
        directions = np.zeros(means.shape)
        rows = np.arange(len(numbers))
        directions[rows, variances.argmax(axis=1)] = 1.0
        spreads = np.maximum(variances.max(axis=1), 0.0)
        for _ in range(_TURNS):
            turned = self._turned(numbers, means, directions) / sizes
            lengths = np.sqrt(np.einsum("ij,ij->i", turned, turned))
            some = lengths > 0
            turned[some] /= lengths[some, None]
            turned[~some] = directions[~some]
            spreads = np.where(some, lengths, spreads)
            along = np.einsum("ij,ij->i", turned, directions)
            directions = turned
            if (along > _SETTLED).all():
                break
        steps = directions * np.sqrt(spreads)[:, None]
        centres = np.array([self.tree[number].centre for number in numbers])
        return np.stack([centres - steps, centres + steps], axis=1).reshape(-1, means.shape[1])

    def _turned(self, numbers: Sequence[int], means: Array, directions: Array) -> Array:
        """Multiply a direction for each leaf by the scatter matrix of its rows."""
        count = len(numbers)
        total = np.zeros(means.shape)
        pair_of = self._pair_of(self._leaves, numbers)
        offsets = np.einsum("ij,ij->i", means, directions)
        weight = np.zeros(count)
        for item, places in zip(self._points, self._places, strict=True):
            pair = pair_of[places]
            known = np.maximum(pair, 0)
            along = item.block.products(directions)[np.arange(len(pair)), known] - offsets[known]
            along[pair < 0] = 0.0
            total += item.block.weighted(along, known, count)
            weight += np.bincount(known, along, count)
        total, weight = self._points.group.sum(total, weight)
        return total - weight[:, None] * means

    @staticmethod
    def _pair_of(leaves: Sequence[int], numbers: Sequence[int]) -> Labels:
        """Give for each leaf its place among those that are divided, or -1."""
        pair_of = np.full(len(leaves), -1)
        for i, number in enumerate(numbers):
            pair_of[leaves.index(number)] = i
        return pair_of

    def _sides(
        self,
        block: Any,
        places: Labels,
        leaves: Sequence[int],
        numbers: Sequence[int],
        pairs: Array,
    ) -> Labels:
        """Tell for each row which of its leaf's two centres is nearer: 0, or 1 for the second."""
        pair = self._pair_of(leaves, numbers)[places]
        centres = self._space.places(pairs)
        values = np.einsum("ij,ij->i", centres, centres) - 2 * block.products(centres)
        rows = np.arange(len(places))
        right = values[rows, 2 * pair + 1] < values[rows, 2 * pair]
        return np.where(pair >= 0, right, False).astype(np.int64)

    def _pass(self, numbers: Sequence[int], pairs: Array) -> tuple[Array, Array]:
        """Give sums and numbers of the rows on the two sides of each leaf."""
        count = len(pairs)
        sums, sizes = np.zeros(pairs.shape), np.zeros(count)
        pair_of = self._pair_of(self._leaves, numbers)
        for item, places in zip(self._points, self._places, strict=True):
            right = self._sides(item.block, places, self._leaves, numbers, pairs)
            pair = pair_of[places]
            labels = np.where(pair >= 0, 2 * pair + right, count)
            more, number = item.block.sums(labels, count + 1)
            sums += more[:count]
            sizes += number[:count]
        total, number = self._points.group.sum(sums, sizes)
        return total, number


class Predict:
    """Applies a model: the leaf that a row comes to, and if asked for shares of all leaves."""

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        del types
        self._detail = params.get("predictionDetailCol") is not None
        self._numbers: list[int] = []
        self._centres: Array = np.empty((0, 0))
        self._leaves: list[int] = []
        self._space = Space()
        self._reader = Reader("")

    def load(self, table: pa.Table) -> None:
        """Take the model."""
        model = read_model(table)
        nodes = [json.loads(text) for text in model.data]
        if not nodes or "center" not in nodes[0] or "cost" not in nodes[0]:
            raise BadModel("the model is not one of bisecting k-means")
        self._space = SPACES[model.get("distanceType")]
        self._reader = Reader(model.get("vectorCol"))
        self._numbers = [node["clusterId"] for node in nodes]
        self._centres = np.array([node["center"]["data"] for node in nodes], np.float64)
        # Numbers of a heap are in the order of its levels, from left to right.
        self._leaves = sorted(n for n in self._numbers if 2 * n not in self._numbers)

    def __call__(self, batch: pa.RecordBatch) -> Sequence[pa.Array]:
        """Give the outputs; NULL where the vector is NULL or has NaN."""
        rows, places = self._reader.sound(batch)
        leaves = self._descended(rows)
        columns = [pa.array(leaves)]
        if self._detail:
            steps = np.array([[_apart(a, b) for b in self._leaves] for a in self._leaves], float)
            texts = [format_dense(row) for row in nearness(steps).tolist()]
            columns.append(pa.array(texts, pa.string()).take(pa.array(leaves)))
        return [spread(column, places, batch.num_rows) for column in columns]

    def _descended(self, rows: Array | Vectors) -> Labels:
        """Give the number of each row's leaf, among the leaves."""
        size = self._centres.shape[1]
        origin = self._centres.mean(axis=0) if self._space.centred else np.zeros(size)
        if isinstance(rows, Vectors) and rows.indices is not None:
            wrong = np.where(rows.dense, rows.lengths != size, rows.spans > size)
            rows.refuse(wrong, f"of column {self._reader.vector!r} does not fit size {size}")
            block, origin = self._space.sparse(rows, size), np.zeros(size)
        else:
            block = self._space.dense(self._reader.matrix(rows, size) - origin)
        centres = self._space.places(self._centres - origin)
        values = np.einsum("ij,ij->i", centres, centres) - 2 * block.products(centres)
        place = {number: at for at, number in enumerate(self._numbers)}
        at = np.full(len(rows), place[_ROOT])
        for number in sorted(self._numbers):
            if 2 * number in place:
                here = np.flatnonzero(at == place[number])
                left, right = place[2 * number], place[2 * number + 1]
                at[here] = np.where(values[here, left] <= values[here, right], left, right)
        table = np.zeros(len(self._numbers), np.int64)
        for leaf, number in enumerate(self._leaves):
            table[place[number]] = leaf
        return table[at]


def _apart(one: int, other: int) -> int:
    """Count the steps from one node of the tree to another."""
    steps = 0
    while one != other:
        if one > other:
            one //= 2
        else:
            other //= 2
        steps += 1
    return steps
