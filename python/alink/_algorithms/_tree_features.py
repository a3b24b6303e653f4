"""Features of trees: numbers cut into bins, and categories, as small codes.

Code 0 is a value that is missing: NULL, NaN, or a category that the training had none of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ._arrays import numpy_of
from ._group import Group
from ._random import uniform
from ._strings import Unreadable
from ._tree_levels import Search
from ._types import is_number
from ._vectors import numbers, read_vectors

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[Any]

#: So many rows, drawn by their numbers, decide where a feature's values are cut.
_SAMPLE_ROWS = 200_000
_CATEGORIES_MAX = 4096
_SAMPLING = 1_000_003  # a draw that no tree takes


class Features:
    """The features of a model, and how columns are read as them.

    Parameters
    ----------
    names : sequence of str
        The columns; none where `vector` is given.
    categories : sequence of (list of str or None)
        Of each feature; None is a number.
    vector : str or None
        A column of vectors of as many numbers as there are `categories`.
    absent : float
        What stands for a number that a sparse vector has not; NaN makes it one that is missing.
    chosen : array, optional
        The numbers of the vectors that are read; by default all.
    """

    def __init__(
        self,
        names: Sequence[str],
        categories: Sequence[list[str] | None],
        vector: str | None = None,
        absent: float = 0.0,
        chosen: npt.NDArray[np.intp] | None = None,
    ) -> None:
        self.names = names
        self.categories = categories
        self.vector = vector
        self.absent = absent
        self._chosen = chosen

    def __len__(self) -> int:
        return len(self.categories)

    def read(self, batch: pa.RecordBatch) -> tuple[Array, npt.NDArray[np.bool_] | None]:
        """Give values, shape (features or those chosen, rows), and which rows have no vector.

        NaN is a number that is missing; of categories their codes are given.
        """
        if self.vector is not None:
            vectors = read_vectors(batch, self.vector)
            lost = None if vectors.valid is None else ~vectors.valid
            chosen = np.arange(len(self)) if self._chosen is None else self._chosen
            return vectors.columns(len(self), chosen, self.absent).T, lost
        values = np.empty((len(self), batch.num_rows))
        for j, (name, known) in enumerate(zip(self.names, self.categories, strict=True)):
            column = batch.column(name)
            if known is None:
                values[j] = numbers(column)[0]
            else:
                places = pc.index_in(_texts(column), pa.array(known, pa.string()))
                values[j] = numpy_of(pc.fill_null(places, -1))
                values[j] += 1
        return values, None


def features_of(group: Group, params: Mapping[str, Any], absent: float = 0.0) -> Features:
    """Give the features that parameters name, with the categories of all workers' rows.

    `absent` is what stands for a number that a sparse vector has not.
    """
    names, vector = params.get("featureCols") or [], params.get("vectorCol")
    if vector is not None:
        size = max((read_vectors(b, vector).known_size for b in group), default=0)
        return Features([], [None] * int(group.largest(size)), vector, absent)
    chosen = {name.lower() for name in params.get("categoricalCols") or []}
    known = [
        _categories(group, name)
        if name.lower() in chosen or not is_number(group.schema.field(name).type)
        else None
        for name in names
    ]
    return Features(names, known)


def _texts(column: pa.Array) -> pa.Array:
    return column if column.type == pa.string() else column.cast(pa.string())


class Binned:
    """A worker's rows as codes.

    Attributes
    ----------
    features : Features
    cuts : list of arrays
        Of each feature; code c ≥ 1 of a number is of values above ``cuts[c - 2]`` and not above
        ``cuts[c - 1]``. Of categories it is empty.
    counts : list of int
        How many codes a feature has.
    codes : array, shape (features, rows)
    numbers : array of int64
        Of the rows, among all.
    """

    def __init__(self, group: Group, params: Mapping[str, Any], bins: int) -> None:
        self.features = features_of(group, params)
        self.cuts = self._cut(group, bins)
        self._searches = [Search(cuts) if len(cuts) else None for cuts in self.cuts]
        self.counts = [
            len(cuts) + 2 if known is None else len(known) + 1
            for cuts, known in zip(self.cuts, self.features.categories, strict=True)
        ]
        kind = np.uint8 if max(self.counts, default=0) <= 256 else np.uint16
        self.codes = np.empty((len(self.features), len(group)), kind)
        self.numbers = np.empty(len(group), np.int64)
        start = 0
        for first, batch in group.numbered():
            part = slice(start, start + batch.num_rows)
            self.numbers[part] = np.arange(first, first + batch.num_rows)
            values, lost = self.features.read(batch)
            for j, known in enumerate(self.features.categories):
                self.codes[j, part] = values[j] if known is not None else self._coded(j, values[j])
            if lost is not None:
                self.codes[:, part][:, lost] = 0
            start += batch.num_rows
        group.unmap()

    def forget(self) -> None:
        """Leave the rows; what the training found of their features stays."""
        self.codes, self.numbers = self.codes[:0].copy(), self.numbers[:0].copy()

    def _coded(self, feature: int, values: Array) -> Codes:
        search = self._searches[feature]
        codes = np.ones(len(values), np.intp) if search is None else search.below(values) + 1
        codes[np.isnan(values)] = 0
        return codes

    def _cut(self, group: Group, bins: int) -> list[Array]:
        """Find the cuts: between all values where they are few, else at even ranks."""
        ratio = _SAMPLE_ROWS / max(group.rows_of_all, 1)
        parts: list[Array] = []
        for first, batch in group.numbered():
            values = self.features.read(batch)[0]
            if ratio < 1:
                rows = np.arange(first, first + batch.num_rows)
                values = values[:, uniform(0, _SAMPLING, rows) < ratio]
            parts.append(values)
        size = len(self.features)
        if group.size > 1:
            mine = np.concatenate(parts, axis=1) if parts else np.empty((size, 0))
            gathered = group.gather(np.ascontiguousarray(mine).tobytes())
            parts = [np.frombuffer(part).reshape(size, -1) for part in gathered if size]
        result: list[Array] = []
        for j, known in enumerate(self.features.categories):
            if known is None:
                result.append(
                    _cuts(np.concatenate([part[j] for part in parts] or [np.empty(0)]), bins)
                )
            else:
                result.append(np.empty(0))
        return result


def _cuts(values: Array, bins: int) -> Array:
    known = np.sort(values[~np.isnan(values)])
    begins = np.flatnonzero(known[1:] != known[:-1]) + 1  # of each value but the least
    if len(begins) >= bins:
        ranks = np.ceil(len(known) * np.arange(1, bins) / bins).astype(np.intp)
        after = np.searchsorted(known, known[ranks - 1], "right")
        begins = np.unique(np.minimum(after, begins[-1]))
    below, above = known[begins - 1], known[begins]
    with np.errstate(invalid="ignore", over="ignore"):
        middle = below + (above - below) / 2
    # Between neighbours of floating point, or infinities, the middle is none.
    good = np.isfinite(middle) & (middle < above)
    return np.where(good, middle, below)


def _categories(group: Group, name: str) -> list[str]:
    mine: set[str] = set()
    for batch in group:
        mine.update(_texts(batch.column(name)).unique().drop_null().to_pylist())
    every: set[str] = set()
    for part in group.gather(json.dumps(sorted(mine)).encode()):
        every.update(json.loads(part))
    if len(every) > _CATEGORIES_MAX:
        raise Unreadable(
            f"the feature {name!r} has {len(every)} categories, more than {_CATEGORIES_MAX}: "
            "encode it first, or leave it out"
        )
    return sorted(every)
