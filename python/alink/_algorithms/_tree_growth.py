"""Trees grown level by level of histograms.

Arrays of sums have what is added up on their first axis, the number of rows last: so they are
added and scored by whole planes. The sums of a node of many rows are a histogram of each feature;
those of nodes of few rows are held of the codes alone that their rows have, of many features and
nodes at once.

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

#: A node of fewer rows than a histogram has cells, divided by this, has few.
_CELLS_PER_ROW = 4
_ROWS_FEW = 4096  # of a level
#: Cells of nodes of few rows that are looked at together, so that they stay in the cache.
_CELLS_FEW = 2**20

#: Of totals and their weights.
Score = Callable[[Array, Array], Array]
#: Tells of nodes, by their numbers, which features may split them, shape (features, nodes).
Drawing = Callable[[Sequence[int]], npt.NDArray[np.bool_]]


def gini(totals: Array, whole: Array) -> Array:
    """Score the weights of classes, on the first axis: Σ c² / n."""
    return np.where(whole > 0, np.square(totals).sum(0) / np.where(whole > 0, whole, 1), 0.0)


def entropy(totals: Array, whole: Array) -> Array:
    """Score the weights of classes, on the first axis: minus n times the entropy, in bits."""
    return _xlog(totals).sum(0) - _xlog(whole)


def _xlog(values: Array) -> Array:
    return values * np.log2(np.where(values > 0, values, 1.0))


def squares(totals: Array, whole: Array) -> Array:
    """Score sums of weights and of weighted numbers, on the first axis: S² / W."""
    return np.where(whole > 0, totals[1] ** 2 / np.where(whole > 0, whole, 1.0), 0.0)


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


@dataclass
class _Few:
    """All workers' rows of nodes of few rows, by the features that are numbers."""

    features: npt.NDArray[np.intp]
    #: How many codes each feature has.
    counts: npt.NDArray[np.intp]
    nodes: int
    #: Of shape (features, rows).
    codes: npt.NDArray[Any]
    #: The node of each row.
    slots: npt.NDArray[np.intp]
    #: What is added up, and the classes.
    taken: tuple[list[Array], Any]


def _portions(
    nodes: npt.NDArray[np.intp], held: npt.NDArray[np.intp]
) -> Iterator[npt.NDArray[np.intp]]:
    """Divide nodes, of which so many cells are held, into those that are looked at together."""
    begin = 0
    ends = np.cumsum(held[nodes])
    while begin < len(nodes):
        before = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, before + _CELLS_MAX, "right")))
        yield nodes[begin:end]
        begin = end


def _by_width(lengths: npt.NDArray[np.intp]) -> Iterator[tuple[int, npt.NDArray[np.intp]]]:
    """Give the places of lengths that differ by less than half, and the largest of them."""
    bits = np.frexp(lengths - 0.5)[1]
    for one in np.unique(bits):
        some = np.flatnonzero(bits == one)
        yield int(lengths[some].max()), some


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
        classes: npt.NDArray[Any] | None = None,
        drawing: Drawing | None = None,
    ) -> tuple[Tree, npt.NDArray[np.intp]]:
        """Grow a tree.

        Parameters
        ----------
        stats : array, shape (sums, rows)
            What is added up: weights, and gradients. Of classes the weights alone.
        chosen : array of int
            The rows that it is grown of.
        classes : array of int, optional
            The class of each row.
        drawing : callable, optional
            Where not all features may split each node; the same in all workers.

        Returns
        -------
        tree, leaf
            The leaf of each chosen row.
        """
        self._stats, self._classes, self._drawing = stats, classes, drawing
        self._features = list(range(len(self._rows.features)))
        tree = Tree(np.zeros(len(self._features)))
        self._sums = (
            len(stats) if classes is None else int(self._group.largest(classes.max(initial=0))) + 1
        )
        ones = bool((stats[0] == 1.0).all())
        self._plain = bool(self._group.least(float(ones)))
        root = self._summed(self._taken(chosen), np.zeros(len(chosen), np.intp), 1)
        totals, counts = self._group.sum(root[:-1, 0], root[-1, 0])
        tree.add(totals, float(counts))
        leaf = np.zeros(len(chosen), np.intp)
        level, leaves = [0], 1
        for _ in range(self._growth.depth):
            active = np.flatnonzero(leaf >= level[0])
            place = leaf[active] - level[0]
            # Of numbers of 16 bits a sort is one of digits, which is ten times as fast.
            small = place.astype(np.uint16) if len(level) <= 2**16 else place
            order = np.argsort(small, kind="stable")
            splits = self._level(tree, level, chosen[active[order]], place[order])
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
        """Add up by keys, shape (sums + 1, size); the last is the number of rows.

        The keys' last axis is that of the rows.
        """
        stats, classes = taken
        result = np.empty((self._sums + 1, size))

        def added(terms: Array | None, keys: npt.NDArray[np.intp], size: int) -> Any:
            # Where each row's term is 1, what is added up is their number.
            if terms is None:
                return np.bincount(keys.ravel(), minlength=size)
            return np.bincount(keys.ravel(), np.broadcast_to(terms, keys.shape).ravel(), size)

        weight = None if self._plain else stats[0]
        if classes is not None:
            found = added(weight, keys + classes * size, self._sums * size)
            result[:-1] = found.reshape(self._sums, size)
            result[-1] = result[:-1].sum(0) if self._plain else added(None, keys, size)
        else:
            result[-1] = added(None, keys, size)
            result[0] = result[-1] if self._plain else added(weight, keys, size)
            for j, terms in enumerate(stats[1:], 1):
                result[j] = added(terms, keys, size)
        return result

    def _level(
        self,
        tree: Tree,
        level: list[int],
        rows: npt.NDArray[np.intp],
        place: npt.NDArray[np.intp],
    ) -> list[_Split | None]:
        """Find the best split of each node of a level; rows are in the order of the nodes."""
        widest = max((self._rows.counts[f] for f in self._features), default=1)
        cells = widest * (self._sums + 1)
        counts = np.array([tree.counts[node] for node in level])
        whole = np.array([self._divisible(tree, node) for node in level])
        few = counts * _CELLS_PER_ROW < cells
        # Of nodes that are few together it is the steps that cost, which all features share.
        few |= counts[whole].sum() <= _ROWS_FEW
        few &= counts * len(self._features) <= _CELLS_MAX
        result: list[_Split | None] = [None] * len(level)
        held = np.full(len(level), cells)
        # Codes of nodes of few rows are held at once, of all features.
        held[few] += len(self._features) * counts[few].astype(np.intp)
        for found, best in ((whole & ~few, self._best), (whole & few, self._best_of_few)):
            for some in _portions(np.flatnonzero(found), held):
                slot = np.full(len(level), -1, np.intp)
                slot[some] = np.arange(len(some))
                first, last = np.searchsorted(place, [some[0], some[-1] + 1])
                slots = slot[place[first:last]]
                mine = slots >= 0
                allowed = self._allowed([level[i] for i in some])
                splits = best(allowed, rows[first:last][mine], slots[mine])
                for i, split in zip(some.tolist(), splits, strict=True):
                    result[i] = split
        return result

    def _allowed(self, nodes: Sequence[int]) -> npt.NDArray[np.bool_]:
        """Tell which features may split which nodes."""
        if self._drawing is None:
            return np.ones((len(self._features), len(nodes)), np.bool_)
        return self._drawing(nodes)

    def _divisible(self, tree: Tree, node: int) -> bool:
        """Tell whether there are features, rows for two branches and more than one class."""
        if not self._features or tree.counts[node] < 2 * max(self._growth.samples, 1):
            return False
        return self._classes is None or int(np.count_nonzero(tree.totals[node])) > 1

    def _best(
        self,
        allowed: npt.NDArray[np.bool_],
        rows: npt.NDArray[np.intp],
        slots: npt.NDArray[np.intp],
    ) -> list[_Split | None]:
        nodes = allowed.shape[1]
        features = [f for f in self._features if allowed[f].any()]
        gains = np.full(nodes, -np.inf)
        makers: list[Callable[[int], _Split | None] | None] = [None] * nodes
        for feature, cells in self._cells(features, nodes, rows, slots):
            if self._rows.features.categories[feature] is None:
                top, make = self._numeric(feature, cells)
            else:
                top, make = self._categories(feature, cells)
            top = np.where(allowed[feature], top, -np.inf)
            # Of gains that differ by rounding alone the first feature's counts.
            known = np.isfinite(gains)
            least = np.where(known, gains + _TIE * (1 + np.abs(np.where(known, gains, 0))), -np.inf)
            for i in np.flatnonzero(top > least):
                gains[i], makers[i] = top[i], make
        return [None if make is None else make(i) for i, make in enumerate(makers)]

    def _best_of_few(
        self,
        allowed: npt.NDArray[np.bool_],
        rows: npt.NDArray[np.intp],
        slots: npt.NDArray[np.intp],
    ) -> list[_Split | None]:
        """Find the best splits of nodes of few rows, which all workers are given."""
        nodes = allowed.shape[1]
        features = [f for f in self._features if allowed[f].any()]
        known = self._rows.features.categories
        numeric = np.array([f for f in features if known[f] is None], np.intp)
        tops = np.full((len(features), nodes), -np.inf)
        makers: dict[int, Callable[[int], _Split | None]] = {}
        for feature, cells in self._cells(
            [f for f in features if known[f] is not None], nodes, rows, slots
        ):
            top, makers[feature] = self._categories(feature, cells)
            tops[features.index(feature)] = top
        few = self._few(numeric, nodes, rows, slots)
        found, cuts = self._tops(few)
        places = np.array([known[f] is None for f in features], np.bool_)
        tops[places] = found
        tops[~allowed[features]] = -np.inf
        best = self._first(tops)
        # Of each node the place of its feature among those of numbers.
        of = (np.cumsum(places) - 1)[best]
        numbers = np.flatnonzero((best >= 0) & places[best])
        made = self._made(few, of, numbers, found, cuts)
        return [
            made.get(i) if at < 0 or places[at] else makers[features[at]](i)
            for i, at in enumerate(best.tolist())
        ]

    def _cells(
        self,
        features: list[int],
        nodes: int,
        rows: npt.NDArray[np.intp],
        slots: npt.NDArray[np.intp],
    ) -> Iterator[tuple[int, Array]]:
        """Give features' sums by node and code, over all workers: some features at a time."""
        taken = self._taken(rows)
        waiting: list[tuple[int, Array]] = []
        held = 0
        for feature in features:
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
            yield feature, cells.reshape(-1, nodes, self._rows.counts[feature])

    def _gains(self, left: Array, whole: Array) -> Array:
        """Give the gains of splits in two; those that are not allowed have -inf."""
        right = whole - left
        grow = self._growth
        weights = [
            part[:-1].sum(0) if self._classes is not None else part[0]
            for part in (left, right, whole)
        ]
        a, b, n = weights
        with np.errstate(divide="ignore", invalid="ignore"):
            gain = grow.score(left[:-1], a) + grow.score(right[:-1], b) - grow.score(whole[:-1], n)
            gain = gain / n
            good = gain > max(grow.gain, _TIE)
            if grow.ratio:
                own = -(_xlog(a / n) + _xlog(b / n))
                gain = gain / own
        fewest = np.maximum(grow.samples, grow.sample_ratio * whole[-1])
        good &= np.minimum(left[-1], right[-1]) >= np.maximum(fewest, 1)
        return np.where(good, gain, -np.inf)

    def _cut(
        self, lower: Array, missing: Array, whole: Array, allowed: Any = True
    ) -> tuple[Array, npt.NDArray[np.intp]]:
        """Give the best gain of each node by its first places, and which split has it.

        Parameters
        ----------
        lower : array, shape (sums + 1, nodes, places)
            What lies up to each place, without missing values.
        missing, whole : array, shape (sums + 1, nodes, 1)
        allowed : array of bool, shape (nodes, places)

        Returns
        -------
        gain, place
            A place that is beyond those of `lower` has missing values on the first branch.
        """
        gains = np.where(allowed, self._gains(lower, whole), -np.inf)
        with_missing = missing[-1] > 0
        if with_missing.any():
            other = np.where(with_missing & allowed, self._gains(lower + missing, whole), -np.inf)
            gains = np.concatenate([gains, other], 1)
        # Gains that differ by rounding alone are equal: the first one is taken.
        top = gains.max(1)
        close = gains >= (top - _TIE * (1 + np.abs(np.where(np.isfinite(top), top, 0))))[:, None]
        return top, close.argmax(1)

    def _in_two(
        self, gain: float, feature: int, cut: int, first: bool, sums: tuple[Array, Array, Array]
    ) -> _Split:
        """Make a split of a number, of the sums up to the cut, of missing values and of all."""
        lower, missing, whole = sums
        left = lower + (missing if first else 0)
        both = np.stack([left, whole - left])
        branch = (np.arange(self._rows.counts[feature]) > cut + 1).astype(np.intp)
        branch[0] = (0 if first else 1) if missing[-1] > 0 else int(both[:, -1].argmax())
        return _Split(gain, feature, branch, both[:, :-1], both[:, -1], cut)

    def _numeric(self, feature: int, cells: Array) -> tuple[Array, Callable[[int], _Split | None]]:
        """Give the best gain of each node, -inf where there is none, and what makes its split."""
        lower, missing = np.cumsum(cells[:, :, 1:-1], axis=2), cells[:, :, :1]
        places = lower.shape[2]
        if not places:
            return np.full(cells.shape[1], -np.inf), lambda _: None
        # In the order of the codes, as all sums are.
        seen = missing[-1].any()
        whole = np.cumsum(cells, 2)[:, :, -1:] if seen else lower[:, :, -1:] + cells[:, :, -1:]
        top, place = self._cut(lower, missing, whole)

        def make(i: int) -> _Split:
            first, cut = divmod(int(place[i]), places)
            sums = lower[:, i, cut], missing[:, i, 0], whole[:, i, 0]
            return self._in_two(float(top[i]), feature, cut, bool(first), sums)

        return top, make

    def _few(
        self,
        features: npt.NDArray[np.intp],
        nodes: int,
        rows: npt.NDArray[np.intp],
        slots: npt.NDArray[np.intp],
    ) -> _Few:
        """Give the rows of all workers, of nodes of few."""
        codes = np.empty((len(features), len(rows)), self._rows.codes.dtype)
        for i, feature in enumerate(features):
            self._rows.codes[feature].take(rows, out=codes[i], mode="clip")
        stats, classes = self._taken(rows)
        return _Few(
            features,
            np.array([self._rows.counts[f] for f in features], np.intp),
            nodes,
            self._joined(codes) if len(codes) else codes,
            self._joined(slots),
            (
                [self._joined(one) for one in stats],
                None if classes is None else self._joined(classes),
            ),
        )

    def _joined(self, mine: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Give what all workers have, one behind the other on the last axis."""
        if self._group.size == 1:
            return mine
        parts = self._group.gather(np.ascontiguousarray(mine).tobytes())
        shape = (*mine.shape[:-1], -1)
        return np.concatenate([np.frombuffer(p, mine.dtype).reshape(shape) for p in parts], -1)

    def _tops(self, few: _Few) -> tuple[Array, npt.NDArray[np.intp]]:
        """Give the best gain by feature and node, and its cut.

        A cut that is beyond those of the feature with most has missing values below it.
        """
        tops = np.full((len(few.features), few.nodes), -np.inf)
        cuts = np.zeros((len(few.features), few.nodes), np.intp)
        width = int(few.counts.max(initial=0))
        size = max(few.nodes * width, few.codes.shape[1] * (self._sums + 1), 1)
        step = max(1, _CELLS_FEW // size)
        blocks = range(0, len(few.features), step)
        # Each worker looks at some of the features.
        for begin in blocks[self._group.rank :: self._group.size]:
            part = slice(begin, begin + step)
            self._top(few, width, part, tops[part].reshape(-1), cuts[part].reshape(-1))
        if self._group.size > 1:
            for j, begin in enumerate(blocks):
                if j % self._group.size != self._group.rank:
                    tops[begin : begin + step] = 0
            tops, summed = self._group.sum(tops, cuts)
            cuts = summed.astype(np.intp)
        return tops, cuts

    def _top(
        self,
        few: _Few,
        width: int,
        part: slice,
        tops: Array,
        cuts: npt.NDArray[np.intp],
    ) -> None:
        """Write the best gains and cuts of some features."""
        codes = few.codes[part]
        # A stretch is a node's codes of a feature; its cells are those that rows have.
        keys = codes.astype(np.intp)
        keys += (np.arange(len(codes)) * (few.nodes * width))[:, None]
        keys += few.slots * width
        held = np.zeros((len(codes) * few.nodes, width), np.bool_)
        held.reshape(-1)[keys] = True
        # A cut below all values has the missing ones alone on its side.
        held[held[:, 0], 1] = True
        cells = np.flatnonzero(held)
        stretch = cells // width
        lengths = np.bincount(stretch, minlength=len(held))
        kept = lengths[stretch] > 1
        place = np.empty(held.size, np.int32)
        last = int(np.count_nonzero(kept))
        place[cells] = np.where(kept, np.cumsum(kept) - 1, last)
        if not last:
            return
        sums = self._summed(few.taken, place[keys].astype(np.intp), last + 1)
        sums[:, last] = 0
        code = np.append(cells[kept] - stretch[kept] * width, width)
        lengths[lengths == 1] = 0
        begins = np.cumsum(lengths) - lengths
        limit = np.repeat(few.counts[part] - 2, few.nodes)
        stretches = np.flatnonzero(lengths)
        lost = code[begins[stretches]] == 0
        for width_of, some in _by_width(lengths[stretches] - lost):
            here, without = stretches[some], lost[some]
            at = (begins[here] + without)[:, None] + np.arange(width_of)
            at[np.arange(width_of) >= (lengths[here] - without)[:, None]] = last
            own = sums.take(at, 1)
            missing = np.where(without, sums.take(begins[here], 1), 0.0)[:, :, None]
            lower = np.cumsum(own, 2)
            whole = lower[:, :, -1:]
            if without.any():
                whole = np.cumsum(np.concatenate([missing, own], 2), 2)[:, :, -1:]
            of_place = code[at]
            top, found = self._cut(lower, missing, whole, of_place <= limit[here][:, None])
            first, cut = np.divmod(found, width_of)
            tops[here] = top
            cuts[here] = of_place[np.arange(len(here)), cut] - 1 + first * width

    def _first(self, tops: Array) -> npt.NDArray[np.intp]:
        """Give the feature's place that each node takes, -1 where none gains."""
        best = [-1] * tops.shape[1]
        gains = [-np.inf] * tops.shape[1]
        # One that is not above all those before it is not taken.
        before = np.maximum.accumulate(tops)
        above = np.isfinite(tops)
        above[1:] &= tops[1:] > before[:-1]
        for at, i in zip(*(found.tolist() for found in np.nonzero(above)), strict=True):
            gain = float(tops[at, i])
            if best[i] < 0 or gain > gains[i] + _TIE * (1 + abs(gains[i])):
                gains[i], best[i] = gain, at
        return np.array(best, np.intp)

    def _made(
        self,
        few: _Few,
        of: npt.NDArray[np.intp],
        nodes: npt.NDArray[np.intp],
        tops: Array,
        cuts: npt.NDArray[np.intp],
    ) -> dict[int, _Split]:
        """Make the splits of nodes, of the feature at each one's place."""
        if not len(nodes):
            return {}
        width = int(few.counts.max())
        slot = np.full(few.nodes, -1, np.intp)
        slot[nodes] = np.arange(len(nodes))
        rows = np.flatnonzero(slot[few.slots] >= 0)
        keys = few.codes[of[few.slots[rows]], rows].astype(np.intp)
        keys += slot[few.slots[rows]] * width
        stats, classes = few.taken
        taken = [one[rows] for one in stats], None if classes is None else classes[rows]
        cells = self._summed(taken, keys, len(nodes) * width).reshape(-1, len(nodes), width)
        lower, whole = np.cumsum(cells[:, :, 1:], 2), np.cumsum(cells, 2)[:, :, -1]
        result: dict[int, _Split] = {}
        for i, node in enumerate(nodes.tolist()):
            at = of[node]
            first, cut = divmod(int(cuts[at, node]), width)
            sums = lower[:, i, cut], cells[:, i, 0], whole[:, i]
            feature = int(few.features[at])
            result[node] = self._in_two(float(tops[at, node]), feature, cut, bool(first), sums)
        return result

    def _categories(
        self, feature: int, cells: Array
    ) -> tuple[Array, Callable[[int], _Split | None]]:
        """Give the best gain of each node, -inf where there is none, and what gives its split."""
        split = self._apart if self._growth.many else self._ordered
        found = [split(feature, cells[:, i]) for i in range(cells.shape[1])]
        top = np.array([-np.inf if one is None else one.gain for one in found])
        return top, found.__getitem__

    def _ordered(self, feature: int, cells: Array) -> _Split | None:
        """Split categories in two, in the order of their means; of classes, of the likeliest."""
        present = np.flatnonzero(cells[-1] > 0)
        if len(present) < 2:
            return None
        seen = cells[:, present]
        whole = np.cumsum(seen, 1)[:, -1:]
        if self._classes is not None:
            weight = seen[:-1].sum(0)
            value = seen[int(whole[:-1, 0].argmax())]
        else:
            weight, value = seen[0], seen[1]
        order = np.argsort(value / np.where(weight > 0, weight, 1), kind="stable")
        lower = np.cumsum(seen[:, order], 1)[:, :-1]
        gains = self._gains(lower, whole)
        at = int(gains.argmax())
        if not np.isfinite(gains[at]):
            return None
        both = np.stack([lower[:, at], whole[:, 0] - lower[:, at]])
        branch = np.full(cells.shape[1], int(both[:, -1].argmax()), np.intp)
        branch[present[order[: at + 1]]] = 0
        branch[present[order[at + 1 :]]] = 1
        return _Split(float(gains[at]), feature, branch, both[:, :-1], both[:, -1])

    def _apart(self, feature: int, cells: Array) -> _Split | None:
        """Give each category a branch; values that are missing go with the largest one."""
        grow = self._growth
        present = np.flatnonzero(cells[-1, 1:] > 0) + 1
        if len(present) < 2:
            return None
        largest = int(cells[-1, present].argmax())
        seen = cells[:, present]
        seen[:, largest] += cells[:, 0]
        whole = np.cumsum(seen, 1)[:, -1]
        weight, n = seen[:-1].sum(0), whole[:-1].sum()
        gain = (
            float(grow.score(seen[:-1], weight).sum() - grow.score(whole[:-1], n)) / n if n else 0.0
        )
        fewest = max(grow.samples, grow.sample_ratio * whole[-1])
        if gain <= max(grow.gain, _TIE) or seen[-1].min() < fewest:
            return None
        if grow.ratio:
            gain /= float(-_xlog(weight / n).sum())
        branch = np.full(cells.shape[1], largest, np.intp)
        branch[present] = np.arange(len(present))
        return _Split(gain, feature, branch, seen[:-1].T, seen[-1])

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
