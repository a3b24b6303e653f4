"""Trees applied to many rows at once, without a branch in the code.

The thresholds of all trees make bins of each feature, so that a number is compared as one byte. A
tree is padded to a complete one: all its comparisons are made for all rows of a block, and then,
from the lowest level up, each node takes the result of the child that its comparison names. That
is more work than a walk from the root, but work on whole arrays of bytes that stay in the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

#: Of trees that are padded: a level more doubles the work.
DEPTH_MAX = 7

_Array = npt.NDArray[np.float64]


class _Room:
    """Arrays that are written again for each tree: new ones would cost more than their use."""

    def __init__(self, nodes: int, rows: int, kind: Any) -> None:
        self.codes = np.empty((nodes, rows), kind)
        self.second = np.empty((nodes, rows), np.bool_)
        self.other = np.empty((nodes, rows), np.uint8)


class Levels:
    """A tree as a complete one, its nodes level by level.

    Of a level the first children of all nodes of the one above come first, in their order, and
    then their second children.

    Parameters
    ----------
    tree : Stored
        Without categories, of depth up to `DEPTH_MAX`.
    depth : int
    cuts : mapping of int to array
        The thresholds of each feature that is compared.
    places : mapping of int to int
        Where a feature's codes are among all.
    kind : dtype
        Of codes.
    """

    def __init__(
        self, tree: Any, depth: int, cuts: dict[int, _Array], places: dict[int, int], kind: Any
    ) -> None:
        features: list[int] = []
        limits: list[int] = []
        nodes = [0]
        for _ in range(depth):
            firsts, seconds = [], []
            for node in nodes:
                feature = tree.feature[node]
                if feature < 0:
                    # Whatever is compared, both sides are this leaf.
                    place, limit, first, second = 0, 0, node, node
                else:
                    place = places[feature] + (0 if tree.missing[node] else len(places))
                    limit = int(np.searchsorted(cuts[feature], tree.threshold[node]))
                    first = tree.child[node]
                    second = first + 1
                features.append(place)
                limits.append(limit)
                firsts.append(first)
                seconds.append(second)
            nodes = firsts + seconds
        self._depth = depth
        self._features = np.array(features, np.intp)
        self._limits = np.array(limits, kind)[:, None]
        self._leaves = np.array(nodes, np.intp)

    def leaves_of(self, codes: npt.NDArray[Any], room: _Room) -> npt.NDArray[np.intp]:
        """Give the leaf's node of each row, of codes of shape (2 x features, rows)."""
        count = len(self._features)
        if not count:
            return np.zeros(codes.shape[1], np.intp)
        taken, compared = room.codes[:count], room.second[:count]
        # The mode spares a copy; no place is outside.
        codes.take(self._features, 0, out=taken, mode="clip")
        np.greater(taken, self._limits, out=compared)
        bits = compared.view(np.uint8)
        size = (count + 1) // 2
        found = bits[size - 1 :]
        for _ in range(self._depth - 1):
            # Of a place among the leaves the bits of upper levels are the lower ones. Arithmetic
            # on bits says what a choice would, many rows to an instruction.
            size //= 2
            second = bits[size - 1 : 2 * size - 1]
            first, other = found[:size], room.other[:size]
            chosen = found[size:]
            np.negative(second, out=other)
            chosen ^= first
            chosen &= other
            chosen ^= first
            chosen += chosen  # many times as fast as a shift
            chosen |= second
            found = chosen
        return self._leaves.take(found[0])


class Leveled:
    """The trees of a forest that can be applied so; of the others None stands in `trees`."""

    def __init__(self, trees: Sequence[Any]) -> None:
        depths = [_depth(tree) for tree in trees]
        cuts: dict[int, set[float]] = {}
        for tree, depth in zip(trees, depths, strict=True):
            if depth is not None:
                for feature, threshold in zip(tree.feature, tree.threshold, strict=True):
                    if feature >= 0:
                        cuts.setdefault(feature, set()).add(threshold)
        self._cuts = {feature: np.array(sorted(cuts[feature])) for feature in sorted(cuts)}
        places = {feature: place for place, feature in enumerate(self._cuts)}
        most = max((len(values) for values in self._cuts.values()), default=0)
        self._type: Any = np.uint8 if most < 256 else np.uint16 if most < 65536 else None
        self.trees = [
            None
            if depth is None or self._type is None
            else Levels(tree, depth, self._cuts, places, self._type)
            for tree, depth in zip(trees, depths, strict=True)
        ]

    def room(self, rows: int) -> _Room:
        """Give what the trees work in, of blocks of so many rows."""
        return _Room(2**DEPTH_MAX - 1, rows, self._type or np.uint16)

    def codes(self, values: _Array) -> npt.NDArray[Any]:
        """Give the codes of a block of rows, of values of shape (features, rows).

        A code is how many thresholds lie below the value. One that is missing is above them all
        in the first half, and below them all in the second: a node reads that of its side.
        """
        size = len(self._cuts)
        result = np.empty((2 * size, values.shape[1]), self._type or np.uint16)
        for place, (feature, cuts) in enumerate(self._cuts.items()):
            found = values[feature]
            result[size + place] = _below(cuts, found)
            result[place] = result[size + place]
            result[place, np.isnan(found)] = len(cuts)
        return result


def _below(cuts: _Array, values: _Array) -> npt.NDArray[np.intp]:
    """Count the sorted cuts below each value, none for NaN.

    As `searchsorted` does, in a third of its time: all values take a step of the search at once.
    """
    step = 1 << (len(cuts).bit_length() - 1)
    padded = np.full(2 * step - 1, np.inf)
    padded[: len(cuts)] = cuts
    count = np.zeros(len(values), np.intp)
    while step:
        # Views of the table, so that the count itself is the place.
        count += (padded[step - 1 :].take(count) < values) * step
        step >>= 1
    return count


def _depth(tree: Any) -> int | None:
    """Give how deep a tree is; None where it is too deep, or has categories."""
    if tree.branches:
        return None
    nodes, depth = [0], 0
    while True:
        nodes = [tree.child[node] + j for node in nodes if tree.feature[node] >= 0 for j in (0, 1)]
        if not nodes:
            return depth
        depth += 1
        if depth > DEPTH_MAX:
            return None
