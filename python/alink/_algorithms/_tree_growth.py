"""Trees grown level by level of histograms.

Classification and regression trees [Breiman et al. 1984] and ID3 and C4.5 [Quinlan 1986, 1993]
differ in the score of a node alone: a split gains what the scores of its children add up to above
that of the node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ._group import Group
from ._tree_features import Array, Binned

#: Cells of histograms that are held at once.
_CELLS_MAX = 4_000_000
#: A gain that is smaller than this, relative to another one, is not above it.
_TIE = 1e-10

Score = Callable[[Array], Array]


def gini(totals: Array) -> Array:
    """Score the weights of classes, on the last axis: Σ c² / n."""
    whole = totals.sum(-1)
    return np.where(whole > 0, (totals**2).sum(-1) / np.where(whole > 0, whole, 1), 0.0)


def entropy(totals: Array) -> Array:
    """Score the weights of classes, on the last axis: minus n times the entropy, in bits."""
    return _xlog(totals).sum(-1) - _xlog(totals.sum(-1))


def _xlog(values: Array) -> Array:
    return values * np.log2(np.where(values > 0, values, 1.0))


def squares(totals: Array) -> Array:
    """Score sums of weights and of weighted numbers, on the last axis: S² / W."""
    weight, total = totals[..., 0], totals[..., 1]
    return np.where(weight > 0, total**2 / np.where(weight > 0, weight, 1.0), 0.0)


@dataclass(frozen=True)
class Growth:
    """How a tree is grown.

    Attributes
    ----------
    score : callable
    ratio : bool
        Whether a gain is divided by the information of the split itself.
    many : bool
        Whether a category has a branch of its own.
    """

    score: Score
    depth: int
    leaves: int = 2**31 - 1
    samples: float = 1.0
    sample_ratio: float = 0.0
    gain: float = 0.0
    ratio: bool = False
    many: bool = False


@dataclass
class Tree:
    """A tree as arrays by node; node 0 is the root.

    Attributes
    ----------
    feature : list of int
        -1 at a leaf.
    threshold : list of float
        A number is on the first branch up to it.
    child : list of int
        The node of the first branch; those of the others follow.
    missing : list of int
        The branch of a value that is missing.
    branches : list of (list of int, or None)
        The branch of each code, of a category.
    totals : list of arrays
    gains : array, shape (features,)
    """

    gains: Array
    feature: list[int] = field(default_factory=list)
    threshold: list[float] = field(default_factory=list)
    child: list[int] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    branches: list[list[int] | None] = field(default_factory=list)
    totals: list[Array] = field(default_factory=list)
    counts: list[float] = field(default_factory=list)

    def add(self, totals: Array, count: float) -> int:
        """Add a leaf; give its number."""
        self.feature.append(-1)
        self.threshold.append(0.0)
        self.child.append(-1)
        self.missing.append(0)
        self.branches.append(None)
        self.totals.append(totals)
        self.counts.append(count)
        return len(self.feature) - 1


@dataclass
class _Split:
    gain: float
    feature: int
    #: The branch of each code.
    branch: npt.NDArray[np.intp]
    #: Of each branch.
    totals: Array
    counts: Array
    cut: int = 0


class Grower:
    """Grows trees of a worker's rows, together with the others.

    Parameters
    ----------
    group : Group
    rows : Binned
    growth : Growth
    """

    def __init__(self, group: Group, rows: Binned, growth: Growth) -> None:
        self._group = group
        self._rows = rows
        self._growth = growth

    def grow(
        self,
        stats: Array,
        chosen: npt.NDArray[np.intp],
        features: list[int],
        classes: npt.NDArray[Any] | None = None,
    ) -> tuple[Tree, npt.NDArray[np.intp]]:
        """Grow a tree.

        Parameters
        ----------
        stats : array, shape (sums, rows)
            What is added up: weights, and gradients. Of classes the weights alone.
        chosen : array of int
            The rows that it is grown of.
        features : list of int
            Those that it may use.
        classes : array of int, optional
            The class of each row.

        Returns
        -------
        tree, leaf
            The leaf of each chosen row.
        """
        self._stats, self._features, self._classes = stats, features, classes
        tree = Tree(np.zeros(len(self._rows.features)))
        self._sums = (
            len(stats) if classes is None else int(self._group.largest(classes.max(initial=0))) + 1
        )
        ones = classes is None and bool((stats[0] == 1.0).all())
        self._plain = bool(self._group.least(float(ones)))
        root = self._summed(self._taken(chosen), np.zeros(len(chosen), np.intp), 1)
        totals, counts = self._group.sum(root[:, :-1], root[:, -1])
        tree.add(totals[0], float(counts[0]))
        leaf = np.zeros(len(chosen), np.intp)
        level, leaves = [0], 1
        for _ in range(self._growth.depth):
            active = np.flatnonzero(leaf >= level[0])
            place = leaf[active] - level[0]
            # Of numbers of 16 bits a sort is one of digits, which is ten times as fast.
            small = place.astype(np.uint16) if len(level) <= 2**16 else place
            order = np.argsort(small, kind="stable")
            splits = self._level(level, chosen[active[order]], place[order])
            found = sorted(
                ((node, s) for node, s in zip(level, splits, strict=True) if s is not None),
                key=lambda item: -item[1].gain,
            )
            kept: list[tuple[int, _Split]] = []
            for node, split in found:
                if leaves + len(split.counts) - 1 <= self._growth.leaves:
                    kept.append((node, split))
                    leaves += len(split.counts) - 1
            if not kept:
                break
            level = self._split(tree, sorted(kept, key=lambda item: item[0]), chosen, leaf)
        return tree, leaf

    def _taken(self, rows: npt.NDArray[np.intp]) -> tuple[list[Array], Any]:
        """Give the sums' terms of rows, and their classes."""
        classes = None if self._classes is None else self._classes[rows]
        return [one[rows] for one in self._stats], classes

    def _summed(
        self, taken: tuple[list[Array], Any], keys: npt.NDArray[np.intp], size: int
    ) -> Array:
        """Add up by keys, shape (size, sums + 1); the last is the number of rows."""
        stats, classes = taken
        result = np.empty((size, self._sums + 1))
        result[:, -1] = np.bincount(keys, minlength=size)
        if classes is not None:
            both = keys * self._sums + classes
            found = np.bincount(both, stats[0], size * self._sums)
            result[:, :-1] = found.reshape(size, self._sums)
        else:
            for j, terms in enumerate(stats):
                # Where each row's term is 1, what is added up is their number.
                result[:, j] = (
                    result[:, -1] if self._plain and j == 0 else np.bincount(keys, terms, size)
                )
        return result

    def _level(
        self,
        level: list[int],
        rows: npt.NDArray[np.intp],
        place: npt.NDArray[np.intp],
    ) -> list[_Split | None]:
        """Find the best split of each node of a level; rows are in the order of the nodes."""
        widest = max((self._rows.counts[f] for f in self._features), default=1)
        step = max(1, _CELLS_MAX // (widest * (self._sums + 1)))
        result: list[_Split | None] = []
        for begin in range(0, len(level), step):
            nodes = level[begin : begin + step]
            first, last = np.searchsorted(place, [begin, begin + len(nodes)])
            result += self._best(nodes, rows[first:last], place[first:last] - begin)
        return result

    def _best(
        self,
        nodes: Sequence[int],
        rows: npt.NDArray[np.intp],
        slots: npt.NDArray[np.intp],
    ) -> list[_Split | None]:
        gains = np.full(len(nodes), -np.inf)
        makers: list[Callable[[int], _Split | None] | None] = [None] * len(nodes)
        for feature, cells in self._cells(len(nodes), rows, slots):
            if self._rows.features.categories[feature] is None:
                top, make = self._numeric(feature, cells)
            else:
                split = self._apart if self._growth.many else self._ordered
                found = [split(feature, one) for one in cells]
                top = np.array([-np.inf if one is None else one.gain for one in found])
                make = found.__getitem__
            # Of gains that differ by rounding alone the first feature's counts.
            known = np.isfinite(gains)
            least = np.where(known, gains + _TIE * (1 + np.abs(np.where(known, gains, 0))), -np.inf)
            for i in np.flatnonzero(top > least):
                gains[i], makers[i] = top[i], make
        return [None if make is None else make(i) for i, make in enumerate(makers)]

    def _cells(
        self, nodes: int, rows: npt.NDArray[np.intp], slots: npt.NDArray[np.intp]
    ) -> Iterator[tuple[int, Array]]:
        """Give each feature's sums by node and code, over all workers: some features at a time."""
        taken = self._taken(rows)
        waiting: list[tuple[int, Array]] = []
        held = 0
        for feature in self._features:
            count = self._rows.counts[feature]
            keys = self._rows.codes[feature][rows].astype(np.intp)
            keys += slots * count
            mine = self._summed(taken, keys, nodes * count)
            waiting.append((feature, mine))
            held += mine.size
            if held >= _CELLS_MAX:
                yield from self._together(nodes, waiting)
                waiting, held = [], 0
        yield from self._together(nodes, waiting)

    def _together(
        self, nodes: int, mine: Sequence[tuple[int, Array]]
    ) -> Iterator[tuple[int, Array]]:
        if not mine:
            return
        sums = self._group.sum(*(array for _, array in mine))
        for (feature, _), cells in zip(mine, sums, strict=True):
            yield feature, cells.reshape(nodes, self._rows.counts[feature], -1)

    def _gains(self, left: Array, whole: Array) -> Array:
        """Give the gains of splits in two; those that are not allowed have -inf."""
        right = whole - left
        grow = self._growth
        with np.errstate(divide="ignore", invalid="ignore"):
            gain = (
                grow.score(left[..., :-1])
                + grow.score(right[..., :-1])
                - grow.score(whole[..., :-1])
            )
            weights = [
                part[..., :-1] if self._classes is not None else part[..., :1]
                for part in (left, right, whole)
            ]
            a, b, n = (part.sum(-1) for part in weights)
            gain = gain / n
            good = gain > max(grow.gain, _TIE)
            if grow.ratio:
                own = -(_xlog(a / n) + _xlog(b / n))
                gain = gain / own
        fewest = np.maximum(grow.samples, grow.sample_ratio * whole[..., -1])
        good &= np.minimum(left[..., -1], right[..., -1]) >= np.maximum(fewest, 1)
        return np.where(good, gain, -np.inf)

    def _numeric(self, feature: int, cells: Array) -> tuple[Array, Callable[[int], _Split | None]]:
        """Give the best gain of each node, -inf where there is none, and what makes its split."""
        whole = cells.sum(1, keepdims=True)
        lower = np.cumsum(cells[:, 1:-1], axis=1)
        if not lower.shape[1]:
            return np.full(len(cells), -np.inf), lambda _: None
        gains = self._gains(lower, whole)
        with_missing = cells[:, :1, -1] > 0
        if with_missing.any():
            other = lower + cells[:, :1]
            gains_other = np.where(with_missing, self._gains(other, whole), -np.inf)
        else:
            gains_other = np.full_like(gains, -np.inf)
        flat = np.concatenate([gains, gains_other], 1)
        # Gains that differ by rounding alone are equal: the first one is taken.
        top = flat.max(1)
        close = flat >= (top - _TIE * (1 + np.abs(np.where(np.isfinite(top), top, 0))))[:, None]
        place = close.argmax(1)

        def make(i: int) -> _Split:
            first, cut = divmod(int(place[i]), gains.shape[1])
            left = lower[i, cut] + (cells[i, 0] if first else 0)
            both = np.stack([left, whole[i, 0] - left])
            branch = (np.arange(cells.shape[1]) > cut + 1).astype(np.intp)
            seen = bool(with_missing[i, 0])
            branch[0] = (0 if first else 1) if seen else int(both[:, -1].argmax())
            return _Split(float(top[i]), feature, branch, both[:, :-1], both[:, -1], cut)

        return top, make

    def _ordered(self, feature: int, cells: Array) -> _Split | None:
        """Split categories in two, in the order of their means; of classes, of the likeliest."""
        present = np.flatnonzero(cells[:, -1] > 0)
        if len(present) < 2:
            return None
        seen = cells[present]
        if self._classes is not None:
            weight = seen[:, :-1].sum(1)
            value = seen[:, int(seen[:, :-1].sum(0).argmax())]
        else:
            weight, value = seen[:, 0], seen[:, 1]
        order = np.argsort(value / np.where(weight > 0, weight, 1), kind="stable")
        lower = np.cumsum(seen[order], 0)[:-1]
        whole = seen.sum(0)
        gains = self._gains(lower, whole)
        at = int(gains.argmax())
        if not np.isfinite(gains[at]):
            return None
        both = np.stack([lower[at], whole - lower[at]])
        branch = np.full(len(cells), int(both[:, -1].argmax()), np.intp)
        branch[present[order[: at + 1]]] = 0
        branch[present[order[at + 1 :]]] = 1
        return _Split(float(gains[at]), feature, branch, both[:, :-1], both[:, -1])

    def _apart(self, feature: int, cells: Array) -> _Split | None:
        """Give each category a branch; values that are missing go with the largest one."""
        grow = self._growth
        present = np.flatnonzero(cells[1:, -1] > 0) + 1
        if len(present) < 2:
            return None
        largest = int(cells[present, -1].argmax())
        seen = cells[present]
        seen[largest] += cells[0]
        whole = seen.sum(0)
        weight, n = seen[:, :-1].sum(1), whole[:-1].sum()
        gain = float(grow.score(seen[:, :-1]).sum() - grow.score(whole[:-1])) / n if n else 0.0
        fewest = max(grow.samples, grow.sample_ratio * whole[-1])
        if gain <= max(grow.gain, _TIE) or seen[:, -1].min() < fewest:
            return None
        if grow.ratio:
            gain /= float(-_xlog(weight / n).sum())
        branch = np.full(len(cells), largest, np.intp)
        branch[present] = np.arange(len(present))
        return _Split(gain, feature, branch, seen[:, :-1], seen[:, -1])

    def _split(
        self,
        tree: Tree,
        kept: list[tuple[int, _Split]],
        chosen: npt.NDArray[np.intp],
        leaf: npt.NDArray[np.intp],
    ) -> list[int]:
        """Write splits into the tree and move rows to their new leaves; give the new leaves."""
        fresh: list[int] = []
        begin = kept[0][0]
        place = np.full(len(tree.feature) - begin, -1, np.intp)
        width = max(len(split.branch) for _, split in kept)
        table = np.zeros((len(kept), width), np.intp)
        of = np.zeros(len(kept), np.intp)
        for i, (node, split) in enumerate(kept):
            known = self._rows.features.categories[split.feature]
            tree.feature[node] = split.feature
            tree.missing[node] = int(split.branch[0])
            if known is None:
                tree.threshold[node] = float(self._rows.cuts[split.feature][split.cut])
            else:
                tree.branches[node] = split.branch.tolist()
            tree.gains[split.feature] += split.gain * tree.counts[node]
            children = [
                tree.add(totals, float(count))
                for totals, count in zip(split.totals, split.counts, strict=True)
            ]
            tree.child[node] = children[0]
            fresh += children
            place[node - begin] = i
            of[i] = split.feature
            table[i, : len(split.branch)] = split.branch + children[0]
        moving = np.flatnonzero(leaf >= begin)
        slot = place[leaf[moving] - begin]
        moving, slot = moving[slot >= 0], slot[slot >= 0]
        leaf[moving] = table[slot, self._rows.codes[of[slot], chosen[moving]]]
        return fresh
