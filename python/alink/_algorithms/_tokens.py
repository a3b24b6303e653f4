"""Values of columns as texts, and the numbers that a model gives them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ._arrays import numpy_of
from ._formats import text_column, texts_of
from ._group import Group
from ._models import BadModel
from ._strings import Unreadable

_Numbers = npt.NDArray[np.int64]

#: The number of a value that has none.
UNSEEN = -1


def texts(params: Mapping[str, Any], _types: Sequence[pa.DataType]) -> Any:
    """Give the texts of the values of ``columns``."""
    names: list[str] = params["columns"]

    def run(batch: pa.RecordBatch) -> list[pa.Array]:
        return [text_column(batch.column(name)) for name in names]

    return run


def count_texts(rows: Group, name: str) -> dict[str, int]:
    """Count the texts of a column's values, over all workers; NULL is none."""
    own: dict[str, int] = {}
    for batch in rows:
        coded = batch.column(name).dictionary_encode()
        codes = numpy_of(coded.indices.drop_null())
        counts = np.bincount(codes, minlength=len(coded.dictionary)).tolist()
        for text, count in zip(texts_of(coded.dictionary), counts, strict=True):
            if text is not None:
                own[text] = own.get(text, 0) + count
    total: dict[str, int] = {}
    for part in rows.gather(json.dumps(own).encode()):
        for text, count in json.loads(part).items():
            total[text] = total.get(text, 0) + count
    return total


class Tokens:
    """The numbers of texts.

    Parameters
    ----------
    tokens : iterable of str or None
    numbers : iterable of int
        As many.
    """

    def __init__(self, tokens: Iterable[str | None], numbers: Iterable[int]) -> None:
        self._numbers = dict(zip(tokens, numbers, strict=True))

    def __len__(self) -> int:
        return len(self._numbers)

    def find(self, column: pa.Array) -> _Numbers:
        """Give the number of each value, `UNSEEN` of one that is not known."""
        coded = pc.dictionary_encode(text_column(column))
        known = [self._numbers.get(text, UNSEEN) for text in coded.dictionary.to_pylist()]
        # The last one is that of NULL, which is no entry of the dictionary.
        found = np.array([*known, self._numbers.get(None, UNSEEN)], np.int64)
        return found[numpy_of(coded.indices.fill_null(len(known)))]


def describe(column: pa.Array, row: int) -> str:
    """Write a value for a message."""
    text = text_column(column.slice(row, 1))[0].as_py()
    return "NULL" if text is None else repr(text)[:80]


class ColumnTokens:
    """A model of the values of columns: rows of ``column_index``, ``token``, ``token_index``.

    Parameters
    ----------
    table : pyarrow.Table

    Attributes
    ----------
    meta : dict
        What the model says of itself.
    columns : list of str
        The columns that it knows.

    Raises
    ------
    BadModel
        If the table is no such model.
    """

    def __init__(self, table: pa.Table) -> None:
        if table.schema.names != ["column_index", "token", "token_index"]:
            raise BadModel(f"a table of the columns {', '.join(table.schema.names)} is no model")
        places = numpy_of(table.column(0))
        about = table.filter(pa.array(places == -1)).column(1).to_pylist()
        if len(about) != 1 or about[0] is None:
            raise BadModel("the model does not say which columns it knows")
        try:
            self.meta = {key: json.loads(value) for key, value in json.loads(about[0]).items()}
            self.columns: list[str] = self.meta["selectedCols"]
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise BadModel(f"what the model says of itself cannot be read: {error!r}") from None
        self._places = places
        self._table = table

    def of(self, column: str) -> Tokens:
        """Give the numbers of a column's values.

        Raises
        ------
        BadModel
            If the model does not know the column.
        """
        at = [i for i, name in enumerate(self.columns) if name.lower() == column.lower()]
        if not at:
            raise BadModel(
                f"the model knows no column {column!r}: it was trained on {', '.join(self.columns)}"
            )
        rows = self._table.filter(pa.array(self._places == at[0]))
        return Tokens(rows.column(1).to_pylist(), rows.column(2).to_pylist())


class Index:
    """Gives the numbers of the values of columns.

    The model has the numbers of each column's values, or, of a table of ``token`` and
    ``token_index``, those of all columns together.
    """

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        self._types = types
        self._names: list[str] = params["columns"]
        self._invalid: str = params["handleInvalid"].upper()
        self._tokens: list[Tokens] = []

    def load(self, table: pa.Table) -> None:
        """Take the model."""
        if table.schema.names == ["token", "token_index"]:
            one = Tokens(table.column(0).to_pylist(), table.column(1).to_pylist())
            self._tokens = [one] * len(self._names)
        else:
            model = ColumnTokens(table)
            self._tokens = [model.of(name) for name in self._names]

    def __call__(self, batch: pa.RecordBatch) -> list[pa.Array]:
        """Give the numbers; an unknown value's is the next one, or NULL, or an error."""
        return [
            self._column(batch, name, tokens, kind)
            for name, tokens, kind in zip(self._names, self._tokens, self._types, strict=True)
        ]

    def _column(
        self, batch: pa.RecordBatch, name: str, tokens: Tokens, kind: pa.DataType
    ) -> pa.Array:
        found = tokens.find(batch.column(name))
        unseen = found == UNSEEN
        if not unseen.any():
            return pa.array(found, kind)
        if self._invalid == "ERROR":
            refuse_unseen(batch, name, unseen)
        if self._invalid == "SKIP":
            return pa.array(found, kind, mask=unseen)
        return pa.array(np.where(unseen, len(tokens), found), kind)


def refuse_unseen(batch: pa.RecordBatch, name: str, unseen: npt.NDArray[np.bool_]) -> None:
    """Raise `Unreadable` with the first value that the model does not know, if there is one."""
    if unseen.any():
        value = describe(batch.column(name), int(np.flatnonzero(unseen)[0]))
        raise Unreadable(
            f"column {name!r} has {value}, which the model does not know: "
            "handleInvalid KEEP gives it a number of its own, SKIP gives NULL"
        )


class Restore:
    """Gives the texts that numbers stand for; NULL for a number that none has."""

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        self._types = types
        self._name: str = params["selectedCol"]
        self._numbers: _Numbers = np.empty(0, np.int64)
        self._tokens: pa.Array = pa.array([], pa.string())

    def load(self, table: pa.Table) -> None:
        """Take the model."""
        if table.schema.names != ["token", "token_index"]:
            raise BadModel(f"a table of the columns {', '.join(table.schema.names)} is no model")
        numbers = numpy_of(table.column(1))
        order = np.argsort(numbers)
        self._numbers = numbers[order]
        tokens = table.column(0).take(pa.array(order)).combine_chunks()
        self._tokens = tokens if isinstance(tokens, pa.Array) else tokens.chunk(0)

    def __call__(self, batch: pa.RecordBatch) -> list[pa.Array]:
        """Give the texts."""
        wanted = pc.cast(batch.column(self._name), pa.int64(), safe=False).fill_null(UNSEEN)
        numbers = numpy_of(wanted)
        if not len(self._numbers):
            return [pa.nulls(len(numbers), self._types[0])]
        at = np.minimum(np.searchsorted(self._numbers, numbers), len(self._numbers) - 1)
        missing = self._numbers[at] != numbers
        return [self._tokens.take(pa.array(at, mask=missing)).cast(self._types[0])]
