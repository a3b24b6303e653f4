"""Values of cells: vectors, tensors and tables, as programs make and read them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from alink._algorithms._strings import (
    Unreadable,
    format_dense,
    format_sparse,
    parse_vector,
)
from alink._algorithms._tables import cell_table, parse_table, table_cell
from alink._algorithms._tensors import (
    cell_tensor,
    check_tensor,
    format_tensor,
    parse_tensor,
    show_tensor,
    tensor_cell,
)
from alink._algorithms._types import MTABLE, TENSOR, VECTOR, format_schema, is_kind, parse_schema


class Vector:
    """A vector of doubles."""

    def size(self) -> int:
        """Give the size; -1 where it is not known."""
        raise NotImplementedError

    def get(self, index: int) -> float:
        """Give the value at an index, counted from 0."""
        raise NotImplementedError

    def to_cell(self) -> dict[str, Any]:
        """Give the vector as a column has it."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vector) and self.to_cell() == other.to_cell()

    def __hash__(self) -> int:
        return hash(str(self))


class DenseVector(Vector):
    """A vector that has all of its values.

    Parameters
    ----------
    values : iterable of float, or int
        A number is the size of a vector of zeros.
    """

    def __init__(self, values: Iterable[float] | int = ()) -> None:
        numbers = [0.0] * values if isinstance(values, int) else values
        self._values = [float(value) for value in numbers]

    @staticmethod
    def parse(text: str) -> DenseVector:
        """Read a vector, ``"1.0 2.5"``."""
        size, indices, values = parse_vector(text)
        if indices is not None and (size >= 0 or values):
            raise Unreadable(f"{text!r:.80} is a sparse vector")
        return DenseVector(values)

    def size(self) -> int:
        """Give the size."""
        return len(self._values)

    def get(self, index: int) -> float:
        """Give the value at an index, counted from 0."""
        return self._values[index]

    def set(self, index: int, value: float) -> None:
        """Set the value at an index."""
        self._values[index] = float(value)

    def getData(self) -> list[float]:
        """Give the values."""
        return list(self._values)

    def to_cell(self) -> dict[str, Any]:
        """Give the vector as a column has it."""
        return {"size": len(self._values), "indices": None, "values": self._values}

    def __len__(self) -> int:
        return len(self._values)

    def __str__(self) -> str:
        return format_dense(self._values)

    def __repr__(self) -> str:
        return f"DenseVector({self._values})"


class SparseVector(Vector):
    """A vector of which the values that are not zero are given.

    Parameters
    ----------
    size : int, default -1
        -1 where it is not known.
    indices, values : sequences of the same length
    """

    def __init__(
        self, size: int = -1, indices: Sequence[int] = (), values: Sequence[float] = ()
    ) -> None:
        if len(indices) != len(values):
            raise ValueError(f"{len(indices)} indices and {len(values)} values")
        pairs = sorted(zip(map(int, indices), map(float, values), strict=True))
        self._size = size
        self._indices = [index for index, _ in pairs]
        self._values = [value for _, value in pairs]
        if size >= 0 and self._indices and self._indices[-1] >= size:
            raise ValueError(f"index {self._indices[-1]} is beyond size {size}")

    @staticmethod
    def parse(text: str) -> SparseVector:
        """Read a vector, ``"$4$1:2.5 3:1.0"``."""
        size, indices, values = parse_vector(text)
        if indices is None:
            raise Unreadable(f"{text!r:.80} is a dense vector")
        return SparseVector(size, indices, values)

    def size(self) -> int:
        """Give the size; -1 where it is not known."""
        return self._size

    def get(self, index: int) -> float:
        """Give the value at an index, counted from 0."""
        return dict(zip(self._indices, self._values, strict=True)).get(index, 0.0)

    def getIndices(self) -> list[int]:
        """Give the indices of the values."""
        return list(self._indices)

    def getValues(self) -> list[float]:
        """Give the values."""
        return list(self._values)

    def to_cell(self) -> dict[str, Any]:
        """Give the vector as a column has it."""
        return {"size": self._size, "indices": self._indices, "values": self._values}

    def __str__(self) -> str:
        return format_sparse(self._size, self._indices, self._values)

    def __repr__(self) -> str:
        return f"SparseVector({self._size}, {self._indices}, {self._values})"


class DenseMatrix:
    """A matrix of doubles.

    Parameters
    ----------
    rows : sequence of sequences of float
    """

    def __init__(self, rows: Sequence[Sequence[float]] = ()) -> None:
        self._rows = [[float(value) for value in row] for row in rows]

    def numRows(self) -> int:
        """Give the number of rows."""
        return len(self._rows)

    def numCols(self) -> int:
        """Give the number of columns."""
        return len(self._rows[0]) if self._rows else 0

    def get(self, i: int, j: int) -> float:
        """Give the value of a row and a column, counted from 0."""
        return self._rows[i][j]

    def getRow(self, i: int) -> list[float]:
        """Give a row."""
        return list(self._rows[i])

    def getColumn(self, j: int) -> list[float]:
        """Give a column."""
        return [row[j] for row in self._rows]

    def getArrayCopy2D(self) -> list[list[float]]:
        """Give the values, row by row."""
        return [list(row) for row in self._rows]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DenseMatrix) and self._rows == other._rows

    def __hash__(self) -> int:
        return hash(str(self))

    def __str__(self) -> str:
        head = f"mat[{self.numRows()},{self.numCols()}]:"
        return "\n".join([head, *(f"  {format_dense(row)}" for row in self._rows)])


class VectorUtil:
    """Reads vectors of either kind."""

    @staticmethod
    def getVector(value: Any) -> Vector:
        """Read a vector: a text, a list of numbers, or a vector."""
        if isinstance(value, Vector):
            return value
        if not isinstance(value, str):
            return DenseVector(value)
        size, indices, values = parse_vector(value)
        return DenseVector(values) if indices is None else SparseVector(size, indices, values)


def vector_cell(value: Any) -> dict[str, Any] | None:
    """Give what a program has for a vector as a column has it."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return VectorUtil.getVector(value).to_cell()


class Tensor:
    """A tensor.

    Parameters
    ----------
    kind : str
        FLOAT, DOUBLE, INT, LONG, BOOLEAN, BYTE, UBYTE or STRING.
    shape : sequence of int
    values : sequence
        In row-major order.
    """

    def __init__(self, kind: str, shape: Sequence[int], values: Sequence[Any]) -> None:
        check_tensor(kind, shape, len(values))
        self.kind = kind
        self.shape = list(shape)
        self.values = list(values)

    @staticmethod
    def parse(text: str) -> Tensor:
        """Read a tensor, ``"FLOAT#2,2#1.5 2.0 3.0 4.0 "``."""
        return Tensor(*parse_tensor(text))

    def to_cell(self) -> dict[str, Any]:
        """Give the tensor as a column has it."""
        return tensor_cell(self.kind, self.shape, self.values)

    @staticmethod
    def of_cell(value: dict[str, Any]) -> Tensor:
        """Read a tensor as a column has it."""
        return Tensor(*cell_tensor(value))

    def show(self) -> str:
        """Write the tensor for people: its type and shape, and its rows in brackets."""
        return show_tensor(self.kind, self.shape, self.values)

    def __str__(self) -> str:
        return format_tensor(self.kind, self.shape, self.values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tensor) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __repr__(self) -> str:
        return f"Tensor({str(self)!r})"


class MTable:
    """A table within a cell.

    Parameters
    ----------
    rows : pyarrow.Table, DataFrame, or sequence of rows
    schemaStr : str, optional
        Names and types of the columns; rows without one cannot be read.
    """

    def __init__(self, rows: Any, schemaStr: str | None = None) -> None:
        if isinstance(rows, pa.Table):
            self._table = rows
        elif hasattr(rows, "iloc"):
            from alink.operators._frame import from_pandas

            schema = None if schemaStr is None else parse_schema(schemaStr)
            self._table = from_pandas("MTable", rows, schema)
        else:
            if schemaStr is None:
                raise ValueError("MTable needs schemaStr")
            schema = parse_schema(schemaStr)
            columns = list(zip(*rows, strict=True)) or [()] * len(schema)
            self._table = pa.table(
                [
                    pa.array([vector_cell(v) for v in column], VECTOR)
                    if is_kind(field.type, VECTOR)
                    else pa.array(column, field.type)
                    for field, column in zip(schema, columns, strict=True)
                ],
                schema=schema,
            )

    @staticmethod
    def fromJson(text: str) -> MTable:
        """Read a table, ``{"data":{"col":[…]},"schema":"col INT"}``."""
        return MTable(parse_table(text))

    def to_arrow(self) -> pa.Table:
        """Give the rows as a table of Arrow."""
        return self._table

    def toDataFrame(self) -> Any:
        """Give the rows as a DataFrame of pandas."""
        from alink.operators._frame import to_pandas

        return to_pandas(self._table)

    def getSchemaStr(self) -> str:
        """Give the schema as a string."""
        return format_schema(self._table.schema)

    def getNumRow(self) -> int:
        """Tell how many rows there are."""
        return self._table.num_rows

    def to_cell(self) -> dict[str, Any]:
        """Give the table as a column has it."""
        return table_cell(self._table)

    @staticmethod
    def of_cell(value: dict[str, Any]) -> MTable:
        """Read a table as a column has it."""
        return MTable(cell_table(value))

    def __str__(self) -> str:
        from alink.operators._frame import texts

        data = {
            name: texts(column, shown=False)
            for name, column in zip(self._table.schema.names, self._table.columns, strict=True)
        }
        body = {"data": data, "schema": self.getSchemaStr()}
        return json.dumps(body, ensure_ascii=False, separators=(",", ":"), default=str)

    def __repr__(self) -> str:
        return f"MTable({str(self)!r:.200})"


def cell(value: Any) -> pa.DataType | None:
    """Give the type of the column that a value of this module needs; None of another."""
    if isinstance(value, Vector):
        return VECTOR
    if isinstance(value, Tensor):
        return TENSOR
    return MTABLE if isinstance(value, MTable) else None


def of_cell(kind: pa.DataType, value: dict[str, Any]) -> Any:
    """Give the value of a cell of a column of vectors, tensors or tables."""
    if is_kind(kind, VECTOR):
        if value["indices"] is None:
            return DenseVector(value["values"])
        return SparseVector(value["size"], value["indices"], value["values"])
    return (Tensor if is_kind(kind, TENSOR) else MTable).of_cell(value)
