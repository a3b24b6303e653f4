"""k-modes: clusters of rows of categories, by the number of columns in which rows differ.

Huang, Extensions to the k-means algorithm for clustering large data sets with categorical values,
1998. The centre of a cluster is the most frequent value of each column. NULL is a category of its
own, "null".
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ._arrays import numpy_of
from ._group import Group
from ._models import BadModel, Model, read_model, write_model
from ._strings import Unreadable, text_of

Codes = npt.NDArray[np.int32]
#: Values that are compared at a time.
_STEP_VALUES = 2**20


def texts(column: pa.Array) -> pa.Array:
    """Give a column's values as Java writes them; NULL is "null"."""
    if not pa.types.is_string(column.type):
        encoded = column.dictionary_encode()
        names = pa.array(
            [None if v is None else text_of(v) for v in encoded.dictionary.to_pylist()], pa.string()
        )
        column = names.take(encoded.indices)
    return column.fill_null("null")


def train(params: Mapping[str, Any]) -> Any:
    """Make a training of ``featureCols``."""

    def run(group: Group) -> pa.Table:
        rows = _Rows(group, params["featureCols"])
        if rows.count == 0:
            raise Unreadable("there are no rows to train with")
        modes, counts = rows.clusters(params["k"], params["numIter"])
        if len(modes) < params["k"]:
            print(
                f"warning: there are {len(modes)} different rows, so there are not more clusters",
                file=sys.stderr,
                flush=True,
            )
        data = [
            json.dumps(
                {"center": json.dumps(centre, ensure_ascii=False, separators=(",", ":")),
                 "clusterId": number, "weight": float(count)},
                ensure_ascii=False, separators=(",", ":"),
            )
            for number, (centre, count) in enumerate(zip(rows.values(modes), counts, strict=True))
        ]  # fmt: skip
        return write_model(Model({"featureCols": params["featureCols"]}, data))

    return run


class _Rows:
    """The rows of a worker, as numbers of the values that all workers have found."""

    def __init__(self, group: Group, columns: Sequence[str]) -> None:
        self._group = group
        self._columns = columns
        found: list[set[str]] = [set() for _ in columns]
        count = 0
        for batch in group:
            count += batch.num_rows
            for values, name in zip(found, columns, strict=True):
                values.update(pc.unique(texts(batch.column(name))).to_pylist())
        for text in group.gather(json.dumps([sorted(values) for values in found]).encode()):
            for values, more in zip(found, json.loads(text), strict=True):
                values.update(more)
        self._values = [sorted(values) for values in found]
        self._sizes = np.array([len(values) for values in self._values])
        self._blocks = [self._coded(start, batch) for start, batch in group.numbered()]
        self.count = int(group.sum(count)[0])

    def _coded(self, start: int, batch: pa.RecordBatch) -> tuple[int, Codes]:
        codes = np.empty((batch.num_rows, len(self._columns)), np.int32)
        for at, name in enumerate(self._columns):
            table = pa.array(self._values[at], pa.string())
            codes[:, at] = numpy_of(pc.index_in(texts(batch.column(name)), table))
        return start, codes

    def values(self, modes: Codes) -> list[list[str]]:
        """Give the values of modes."""
        return [[self._values[at][code] for at, code in enumerate(mode)] for mode in modes.tolist()]

    def clusters(self, count: int, most: int) -> tuple[Codes, npt.NDArray[Any]]:
        """Find modes and the numbers of their rows, the largest first."""
        modes = self._start(count)
        sizes = np.zeros(len(modes))
        for _ in range(most):
            frequent, sizes = self._counted(modes)
            after = np.array(
                [[int(part.argmax()) for part in self._parts(row)] for row in frequent], np.int32
            )
            after = np.where(sizes[:, None] > 0, after, modes).astype(np.int32)
            resting = np.array_equal(after, modes)
            modes = after
            if resting:
                break
        _, sizes = self._counted(modes)
        kept = np.flatnonzero(sizes)
        order = sorted(kept.tolist(), key=lambda i: (-sizes[i], modes[i].tolist()))
        return modes[order], sizes[order]

    def _parts(self, row: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        return np.split(row, np.cumsum(self._sizes)[:-1])

    def _counted(self, modes: Codes) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Count the values of each column in each cluster, and its rows."""
        width = int(self._sizes.sum())
        offsets = np.cumsum(self._sizes) - self._sizes
        total, sizes = np.zeros(len(modes) * width), np.zeros(len(modes))
        for _, codes in self._blocks:
            labels, _ = nearest(codes, modes)
            sizes += np.bincount(labels, minlength=len(modes))
            for at in range(len(self._columns)):
                places = labels * width + offsets[at] + codes[:, at]
                total += np.bincount(places, minlength=len(total))
        total, sizes = self._group.sum(total, sizes)
        return total.reshape(len(modes), width), sizes

    def _start(self, count: int) -> Codes:
        """Give rows that differ from one another and have many rows like them.

        The first has the most frequent values; each other one is the farthest from those before,
        times how frequent its values are (Cao, Liang and Bai, A new initialization method for
        categorical data clustering, 2009). No random numbers are drawn.
        """
        modes = np.empty((0, len(self._columns)), np.int32)
        frequent = self._counted(np.zeros((1, len(self._columns)), np.int32))[0][0]
        while len(modes) < count:
            found = [text for mine in self._group.gather(self._candidate(modes, frequent))
                     if (text := json.loads(mine)) is not None]  # fmt: skip
            if not found:
                break
            best = min(found, key=lambda item: (-item[0], item[1]))
            modes = np.concatenate((modes, np.array([best[2]], np.int32)))
        return modes

    def _candidate(self, modes: Codes, frequent: npt.NDArray[Any]) -> bytes:
        """Give the worker's best row: its score, its number and its values; None if it has none."""
        best: tuple[float, int, list[int]] | None = None
        offsets = np.cumsum(self._sizes) - self._sizes
        for start, codes in self._blocks:
            if not len(codes):
                continue
            score = frequent[codes + offsets].sum(axis=1)
            if len(modes):
                score = score * nearest(codes, modes)[1]
            at = int(score.argmax())
            if score[at] > 0 and (best is None or score[at] > best[0]):
                best = (float(score[at]), start + at, codes[at].tolist())
        return json.dumps(best).encode()


def nearest(codes: Codes, modes: Codes) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
    """Give the nearest mode of each row, the first of equal ones, and in how much they differ."""
    labels = np.zeros(len(codes), np.int64)
    differ = np.zeros(len(codes), np.int64)
    for span in _spans(len(codes), codes.shape[1]):
        part = codes[span]
        counts = np.stack([(part != mode).sum(axis=1) for mode in modes])
        labels[span] = counts.argmin(axis=0)
        differ[span] = counts.min(axis=0)
    return labels, differ


def _spans(count: int, width: int) -> Iterator[slice]:
    step = max(1, _STEP_VALUES // max(width, 1))
    for at in range(0, count, step):
        yield slice(at, at + step)


class Predict:
    """Applies a model: the nearest cluster, and if asked for in how many columns a row differs."""

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        del types
        self._detail = params.get("predictionDetailCol") is not None
        self._columns: list[str] = []
        self._ids: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self._tables: list[pa.Array] = []
        self._modes: Codes = np.empty((0, 0), np.int32)

    def load(self, table: pa.Table) -> None:
        """Take the model."""
        model = read_model(table)
        self._columns = model.get("featureCols")
        clusters = [json.loads(text) for text in model.data]
        if not clusters or not isinstance(clusters[0].get("center"), str):
            raise BadModel("the model is not one of k-modes")
        centres = [json.loads(cluster["center"]) for cluster in clusters]
        self._ids = np.array([cluster["clusterId"] for cluster in clusters], np.int64)
        columns = [list(column) for column in zip(*centres, strict=True)]
        self._tables = [pa.array(sorted(set(column)), pa.string()) for column in columns]
        self._modes = np.column_stack(
            [
                numpy_of(pc.index_in(pa.array(column, pa.string()), known))
                for column, known in zip(columns, self._tables, strict=True)
            ]
        ).astype(np.int32)

    def __call__(self, batch: pa.RecordBatch) -> Sequence[pa.Array]:
        """Give the outputs."""
        codes = np.empty((batch.num_rows, len(self._columns)), np.int32)
        for at, (name, known) in enumerate(zip(self._columns, self._tables, strict=True)):
            places = pc.index_in(texts(batch.column(name)), known).fill_null(-1)
            codes[:, at] = numpy_of(places)
        labels, differ = nearest(codes, self._modes)
        columns = [pa.array(self._ids[labels])]
        if self._detail:
            columns.append(pa.array(differ.astype(np.float64)))
        return columns
