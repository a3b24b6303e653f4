"""Trees applied to many rows at once, without a branch in the code.

All comparisons of all trees are made once for a block of rows, eight rows to a byte. A tree is
padded to a complete one: from the lowest level up, each node takes the result of the child that
its comparison names. That is more work than a walk from the root, but work on whole arrays of bits
that stay in the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

#: Of trees that are padded: a level more doubles the work.
DEPTH_MAX = 7

_ROWS_MIN, _ROWS_MAX = 512, 16_384  # of a block
_TABLE_BITS = 2**25  # of all comparisons of a block
_CELLS = 4095  # of the grid over a feature's cuts, without the last one
_COMPARED = 16  # comparisons made at a time, so that their bytes stay in the cache

_Array = npt.NDArray[np.float64]
_Bytes = npt.NDArray[np.uint8]

#: A comparison: whether a feature, missing on this side, is above the cut with this number.
_Comparison = tuple[int, int, int]


class Block:
    """What is known of a block of rows, and arrays that are written again for each tree.

    Attributes
    ----------
    rows : int
    table : array of uint8, shape (comparisons + 1, bytes)
        The comparisons of all trees, a bit for each row; the first one is never true.
    bits : array of uint8, shape (nodes, bytes)
        Those of a tree.
    planes : array of uint8, shape (levels, nodes, bytes)
        Of the leaf below a node the bits of its place, by levels from the lowest up.
    other : array of the shape of `planes`
    """

    def __init__(self, rows: int, comparisons: int) -> None:
        size = -(-rows // 8)
        self.rows = rows
        self.table = np.zeros((comparisons + 1, size), np.uint8)
        self.bits = np.empty((2**DEPTH_MAX - 1, size), np.uint8)
        self.planes = np.empty((DEPTH_MAX, 2 ** (DEPTH_MAX - 1), size), np.uint8)
        self.other = np.empty_like(self.planes)


class Levels:
    """A tree as a complete one, its nodes level by level.

    Of a level the first children of all nodes of the one above come first, in their order, and
    then their second children.

    Parameters
    ----------
    tree : Stored
        Without categories, of depth up to `DEPTH_MAX`.
    depth : int
    cuts : mapping of int to mapping of float to int
        Of each feature that is compared, its thresholds with their numbers in their order.
    places : mapping of comparison to int
        Where a comparison is among all; new ones are put there.

    Attributes
    ----------
    leaves : array
        The leaf's node at each place that the bits of a row make.
    """

    def __init__(
        self,
        tree: Any,
        depth: int,
        cuts: dict[int, dict[float, int]],
        places: dict[_Comparison, int],
    ) -> None:
        compared: list[int] = []
        nodes = [0]
        for _ in range(depth):
            firsts, seconds = [], []
            for node in nodes:
                feature = tree.feature[node]
                if feature < 0:
                    # Whatever is compared, both sides are this leaf.
                    compared.append(0)
                    firsts.append(node)
                    seconds.append(node)
                else:
                    cut = cuts[feature][tree.threshold[node]]
                    comparison = (feature, int(bool(tree.missing[node])), cut)
                    compared.append(places.setdefault(comparison, len(places) + 1))
                    firsts.append(tree.child[node])
                    seconds.append(tree.child[node] + 1)
            nodes = firsts + seconds
        self._depth = depth
        self._compared = np.array(compared, np.intp)
        self.leaves = np.array(nodes, np.intp)

    def places_of(self, block: Block) -> _Bytes:
        """Give the place of each row's leaf among `leaves`."""
        if not self._depth:
            return np.zeros(block.rows, np.uint8)
        bits = block.bits[: len(self._compared)]
        # The mode spares a copy; no place is outside.
        block.table.take(self._compared, 0, out=bits, mode="clip")
        size = 2 ** (self._depth - 1)
        block.planes[0, :size] = bits[size - 1 :]
        for level in range(1, self._depth):
            size //= 2
            second = bits[size - 1 : 2 * size - 1]
            first, other = block.planes[:level, :size], block.other[:level, :size]
            # Arithmetic on bits says what a choice would, many rows to an instruction.
            np.bitwise_xor(first, block.planes[:level, size : 2 * size], out=other)
            other &= second
            first ^= other
            block.planes[level, :size] = second
        found = np.unpackbits(block.planes[: self._depth, 0], axis=1, count=block.rows)
        places = found[0]
        for plane in found[1:]:
            places += places  # many times as fast as a shift
            places |= plane
        return places


class Leveled:
    """The trees of a forest that can be applied so; of the others None stands in `trees`.

    Attributes
    ----------
    trees : list of Levels or None
    rows : int
        How many rows a block should have.
    """

    def __init__(self, trees: Sequence[Any]) -> None:
        depths = [_depth(tree) for tree in trees]
        cuts: dict[int, set[float]] = {}
        for tree, depth in zip(trees, depths, strict=True):
            if depth is not None:
                for feature, threshold in zip(tree.feature, tree.threshold, strict=True):
                    if feature >= 0:
                        cuts.setdefault(feature, set()).add(threshold)
        ordered = {feature: np.array(sorted(cuts[feature])) for feature in sorted(cuts)}
        self._searches = {feature: Search(found) for feature, found in ordered.items()}
        most = max((len(found) for found in ordered.values()), default=0)
        self._type: Any = np.uint8 if most < 256 else np.uint16 if most < 65536 else None
        places: dict[_Comparison, int] = {}
        numbers = {
            feature: {cut: number for number, cut in enumerate(found.tolist())}
            for feature, found in ordered.items()
        }
        self.trees = [
            None if depth is None or self._type is None else Levels(tree, depth, numbers, places)
            for tree, depth in zip(trees, depths, strict=True)
        ]
        self._count = len(places)
        fitting = _TABLE_BITS // (self._count + 1)
        self.rows = min(max(fitting // 64 * 64, _ROWS_MIN), _ROWS_MAX)
        # Of each feature and each side that a missing value is on, where its comparisons are in
        # the table, and their cuts.
        self._sides = {
            side: (
                np.array([at for key, at in places.items() if key[:2] == side], np.intp),
                np.array([key[2] for key in places if key[:2] == side], self._type)[:, None],
            )
            for side in dict.fromkeys(key[:2] for key in places)
        }

    def block(self, values: _Array, room: Block | None) -> Block:
        """Make the comparisons of rows, of values of shape (features, rows).

        `room` is a block that is not needed any more: of as many rows it is written again.
        """
        rows = values.shape[1]
        block = room if room is not None and room.rows == rows else Block(rows, self._count)
        codes: dict[int, npt.NDArray[Any]] = {}
        for (feature, missing), (places, cuts) in self._sides.items():
            found = values[feature]
            if feature not in codes:
                codes[feature] = self._searches[feature].below(found).astype(self._type)
            lost = np.packbits(np.isnan(found)) if missing else None
            for begin in range(0, len(places), _COMPARED):
                part = slice(begin, begin + _COMPARED)
                above = np.packbits(codes[feature] > cuts[part], axis=1)
                if lost is not None:
                    above |= lost
                block.table[places[part]] = above
        return block


class Search:
    """Counts the sorted cuts below values, all values at once.

    An even grid over the cuts says between which of them a value may be; steps of halving decide
    among those in one cell, which mostly are one.
    """

    def __init__(self, cuts: _Array) -> None:
        self._first = float(cuts[0])
        with np.errstate(over="ignore", divide="ignore"):
            scale = _CELLS / (cuts[-1] - self._first)
        self._scale = float(scale) if np.isfinite(scale) else 0.0
        held = np.bincount(self._cells(cuts), minlength=_CELLS + 1)
        self._before = np.cumsum(held) - held
        self._step = 1 << (int(held.max()).bit_length() - 1)
        self._padded = np.append(cuts, np.full(2 * self._step - 1, np.inf))

    def _cells(self, values: _Array) -> npt.NDArray[np.intp]:
        with np.errstate(over="ignore", invalid="ignore"):
            cells = values - self._first
            cells *= self._scale
        # These two make a NaN the first cell.
        np.fmax(cells, 0, out=cells)
        np.fmin(cells, _CELLS, out=cells)
        return cells.astype(np.intp)

    def below(self, values: _Array) -> npt.NDArray[np.intp]:
        """Count the cuts below each value, none for NaN."""
        count = self._before.take(self._cells(values))
        step = self._step
        while step > 1:
            # Views of the table, so that the count itself is the place.
            count += (self._padded[step - 1 :].take(count) < values) * step
            step >>= 1
        count += self._padded.take(count) < values
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
