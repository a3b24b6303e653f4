"""Encoders of categories: one-hot, multi-hot, crossed, by the label's mean, sparse features."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ._arrays import numpy_of, string, validity
from ._features import Encoding, join_sparse, sparse_ones
from ._formats import text_column
from ._models import BadModel, Model, read_model
from ._strings import BLANKS, Unreadable, parse_double
from ._tokens import UNSEEN, ColumnTokens, Tokens, refuse_unseen
from ._vectors import Vectors

_Numbers = npt.NDArray[np.int64]
_SIZE_MAX = 2**31 - 1  # of a vector: its indices have 32 bits


class OneHot:
    """Writes the numbers of categories as they are, as vectors, or as one vector together.

    Behind the categories comes that of what is invalid, and, with ``enableElse``, one of all
    values that are rare or unknown; NULL alone is invalid then. Only with handleInvalid KEEP
    have vectors a place for what is invalid.
    """

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        self._params = params
        self._types = types
        self._names: list[str] = params["selectedCols"]
        self._tokens: list[Tokens] = []
        self._rare = False
        self._encoding = Encoding(params, [], True)

    def load(self, table: pa.Table) -> None:
        """Take the model."""
        model = ColumnTokens(table)
        self._rare = bool(model.meta.get("enableElse"))
        self._tokens = [model.of(name) for name in self._names]
        sizes = [len(tokens) + 1 + self._rare for tokens in self._tokens]
        self._encoding = Encoding(self._params, sizes, True)

    def __call__(self, batch: pa.RecordBatch) -> list[pa.Array]:
        """Give the encoded columns."""
        columns = [
            self._categories(batch, name, tokens)
            for name, tokens in zip(self._names, self._tokens, strict=True)
        ]
        dropped = [len(tokens) - 1 for tokens in self._tokens]
        return self._encoding(columns, dropped, self._types)

    def _categories(self, batch: pa.RecordBatch, name: str, tokens: Tokens) -> _Numbers:
        column = batch.column(name)
        found = tokens.find(column)
        unseen = found == UNSEEN
        if not unseen.any():
            return found
        invalid = unseen
        missing, rare = len(tokens), len(tokens) + 1
        if self._rare:
            invalid = unseen & numpy_of(column.is_null())
            if self._encoding.invalid != "KEEP":
                missing, rare = rare, missing  # what has no place comes last
        if self._encoding.refuses:
            refuse_unseen(batch, name, invalid)
        return np.where(invalid, missing, np.where(unseen, rare, found))


class MultiHot:
    """Writes the parts of texts as vectors with a 1 for each, or as one vector together."""

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        self._names: list[str] = params["selectedCols"]
        self._together = params["encode"].upper() == "ASSEMBLED_VECTOR"
        self._invalid: str = params["handleInvalid"].upper()
        self._delimiter = " "
        self._tokens: dict[str, Tokens] = {}

    def load(self, table: pa.Table) -> None:
        """Take the model: a JSON list of column, part, number and frequency for each part."""
        model = read_model(table)
        self._delimiter = model.get("delimiter")
        known: dict[str, dict[str, int]] = {name.lower(): {} for name in self._names}
        trained = model.meta.get("selectedCols")
        for text in model.data:
            column, part, number, _ = json.loads(text)
            if column.lower() in known:
                known[column.lower()][part] = number
        for name in self._names:
            parts = known[name.lower()]
            if not parts and (trained is None or name not in trained):
                raise BadModel(f"the model knows no column {name!r}")
            self._tokens[name] = Tokens(parts, parts.values())

    def __call__(self, batch: pa.RecordBatch) -> list[pa.Array]:
        """Give the vectors; NULL stays NULL."""
        parts = [self._vectors(batch, name) for name in self._names]
        if self._together:
            return [join_sparse(parts).to_arrow()]
        return [part.to_arrow() for part in parts]

    def _vectors(self, batch: pa.RecordBatch, name: str) -> Vectors:
        column, tokens = text_column(batch.column(name)), self._tokens[name]
        rows, parts = split(column, self._delimiter)
        found = tokens.find(parts)
        unseen = found == UNSEEN
        if unseen.any():
            if self._invalid == "ERROR":
                part = parts[int(np.flatnonzero(unseen)[0])].as_py()
                raise Unreadable(
                    f"column {name!r} has {part!r:.80}, which the model does not know: "
                    "handleInvalid KEEP gives it a number of its own, SKIP leaves it out"
                )
            if self._invalid == "SKIP":
                rows, found = rows[~unseen], found[~unseen]
            else:
                found = np.where(unseen, len(tokens), found)
        size = len(tokens) + 1
        places = np.unique(rows * size + found)
        count = len(column)
        valid = validity(column)
        return Vectors.of_entries(
            places // size,
            places % size,
            np.ones(len(places)),
            np.full(count, size),
            np.zeros(count, np.bool_),
            valid,
        )


def split(column: pa.Array, delimiter: str) -> tuple[_Numbers, pa.Array]:
    """Cut texts at a delimiter; blanks around parts are left out, and parts without anything.

    Returns
    -------
    rows, parts
        Which row each part is from.
    """
    lists = pc.split_pattern(column, delimiter) if delimiter else _whole(column)
    lengths = numpy_of(lists.value_lengths().fill_null(0))
    rows = np.repeat(np.arange(len(column)), lengths)
    parts = pc.utf8_trim(lists.flatten(), BLANKS)
    kept = numpy_of(pc.not_equal(parts, string("")))
    return rows[kept], parts.filter(pa.array(kept))


def _whole(column: pa.Array) -> pa.ListArray:
    """Give lists of one text each."""
    offsets = pa.array(np.arange(len(column) + 1), pa.int32())
    return pa.ListArray.from_arrays(offsets, column.fill_null(""))


class Cross:
    """Gives a 1 at the place of the values of columns together.

    The place is that of a number whose digits are the values' numbers, the first column's being
    the least. NULL is a value; where one of the values is unknown, there is no 1.
    """

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        self._names: list[str] = []
        self._tokens: list[Tokens] = []
        self._size = 0

    def load(self, table: pa.Table) -> None:
        """Take the model."""
        model = ColumnTokens(table)
        self._names = model.columns
        self._tokens = [model.of(name) for name in self._names]
        size = 1
        for tokens in self._tokens:
            size *= len(tokens)
        if size > _SIZE_MAX:
            sizes = " x ".join(str(len(tokens)) for tokens in self._tokens)
            raise Unreadable(
                f"the columns {', '.join(self._names)} have {sizes} values together, a vector "
                f"has at most {_SIZE_MAX}: HashCrossFeature has a size that is given"
            )
        self._size = size

    def __call__(self, batch: pa.RecordBatch) -> list[pa.Array]:
        """Give the vectors."""
        place = np.zeros(batch.num_rows, np.int64)
        shown = np.ones(batch.num_rows, np.bool_)
        step = 1
        for name, tokens in zip(self._names, self._tokens, strict=True):
            found = tokens.find(column_of(batch, name))
            shown &= found != UNSEEN
            place += found * step
            step *= len(tokens)
        return [sparse_ones(np.where(shown, place, 0), shown, self._size).to_arrow()]


def column_of(batch: pa.RecordBatch, name: str) -> pa.Array:
    """Give the column that a model was trained on.

    Raises
    ------
    Unreadable
        If the rows have none of its name.
    """
    for i, column in enumerate(batch.schema.names):
        if column.lower() == name.lower():
            return batch.column(i)
    raise Unreadable(
        f"the model was trained on the column {name!r}, the rows have "
        f"{', '.join(batch.schema.names)}"
    )


class TargetMeans:
    """Gives the mean of the label of the rows that have the same value of a column."""

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        self._wanted: list[str] | None = params["selectedCols"]
        self._outputs = len(params["outputCols"])
        self._names: list[str] = []
        self._tokens: list[Tokens] = []
        self._means: list[npt.NDArray[np.float64]] = []

    def load(self, table: pa.Table) -> None:
        """Take the model: the row of -1 has the mean of all rows, for values that are unknown."""
        means = numpy_of(table.column(2))
        places = numpy_of(table.column(0))
        model = ColumnTokens(table.rename_columns(["column_index", "token", "token_index"]))
        self._names = self._wanted or model.columns
        self._tokens, self._means = [], []
        if len(self._names) != self._outputs:
            raise Unreadable(
                f"'outputCols' names {self._outputs} columns for {', '.join(self._names)}"
            )
        overall = means[places == -1]
        known = [name.lower() for name in model.columns]
        for name in self._names:
            if name.lower() not in known:
                raise BadModel(f"the model knows no column {name!r}")
            rows = np.flatnonzero(places == known.index(name.lower()))
            self._tokens.append(
                Tokens(table.column(1).take(pa.array(rows)).to_pylist(), range(len(rows)))
            )
            # What is unknown has the number -1, the last one.
            self._means.append(np.concatenate([means[rows], overall]))

    def __call__(self, batch: pa.RecordBatch) -> list[pa.Array]:
        """Give the means."""
        return [
            pa.array(means[tokens.find(column_of(batch, name))], pa.float64(), from_pandas=True)
            for name, tokens, means in zip(self._names, self._tokens, self._means, strict=True)
        ]


class SparseFeatures:
    """Makes sparse vectors of texts of named features, as ``"age:3,tall:1"``."""

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        self._name: str = params["selectedCol"]
        self._duplicate: str = params["handleDuplicate"].upper()
        self._tokens = Tokens([], [])
        self._model = Model()

    def load(self, table: pa.Table) -> None:
        """Take the model: a JSON list of feature, number and frequency for each feature."""
        self._model = model = read_model(table)
        known = [json.loads(text) for text in model.data]
        self._tokens = Tokens([item[0] for item in known], [item[1] for item in known])

    def __call__(self, batch: pa.RecordBatch) -> list[pa.Array]:
        """Give the vectors; features that the model does not know are left out."""
        column = text_column(batch.column(self._name))
        rows, parts = split(column, self._model.get("spareFeatureDelimiter"))
        names, values = self._values(parts)
        found = self._tokens.find(names)
        kept = found != UNSEEN
        rows, found, values = rows[kept], found[kept], values[kept]
        rows, found, values = self._once(rows, found, values)
        count = len(column)
        valid = validity(column)
        sizes = np.full(count, len(self._tokens))
        dense = np.zeros(count, np.bool_)
        return [Vectors.of_entries(rows, found, values, sizes, dense, valid).to_arrow()]

    def _values(self, parts: pa.Array) -> tuple[pa.Array, npt.NDArray[np.float64]]:
        if not self._model.get("hasValue"):
            return parts, np.ones(len(parts))
        delimiter = self._model.get("kvValDelimiter")
        names: list[str] = []
        values = np.empty(len(parts))
        for i, part in enumerate(parts.to_pylist()):
            name, mark, value = part.rpartition(delimiter)
            if not mark:
                raise Unreadable(
                    f"column {self._name!r} has {part!r:.80}, which has no {delimiter!r}: with "
                    "hasValue, a feature has a value behind it"
                )
            names.append(name.strip(BLANKS))
            try:
                values[i] = parse_double(value)
            except Unreadable as error:
                raise Unreadable(f"column {self._name!r} has {part!r:.80}: {error}") from None
        return pa.array(names, pa.string()), values

    def _once(
        self, rows: _Numbers, found: _Numbers, values: npt.NDArray[np.float64]
    ) -> tuple[_Numbers, _Numbers, npt.NDArray[np.float64]]:
        """Order what is given by row and number, each only once."""
        order = np.lexsort((found, rows))
        rows, found, values = rows[order], found[order], values[order]
        again = np.zeros(len(rows), np.bool_)
        again[1:] = (rows[1:] == rows[:-1]) & (found[1:] == found[:-1])
        if not again.any():
            return rows, found, values
        if self._duplicate == "ERROR":
            raise Unreadable(
                f"column {self._name!r} has a feature twice in a row: handleDuplicate FIRST or "
                "LAST picks one"
            )
        if self._duplicate == "LAST":
            kept = np.ones(len(rows), np.bool_)
            kept[:-1] = ~again[1:]
        else:
            kept = ~again
        return rows[kept], found[kept], values[kept]
