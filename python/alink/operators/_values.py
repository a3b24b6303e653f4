"""Tables within cells, as programs make and read them, and what all values of cells have."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from alink._algorithms._tables import cell_table, parse_table, table_cell
from alink._algorithms._types import (
    MTABLE,
    TENSOR,
    VECTOR,
    flink_name,
    format_schema,
    is_kind,
    parse_schema,
    shown_schema,
)
from alink._options import bad_option, find_column
from alink.operators._linalg import DenseVector, Display, SparseVector, Vector, vector_cell
from alink.operators._tensor_values import Tensor

if TYPE_CHECKING:
    from alink.operators._summaries import TableSummary

_SHOWN = 5  # rows and columns, in a short form


class MTable(Display):
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
                raise bad_option(
                    "MTable", "MTable of rows needs schemaStr", 'MTable(rows, "id int, x double")'
                )
            schema = parse_schema(schemaStr)
            columns = list(zip(*rows, strict=True)) or [()] * len(schema)
            self._table = pa.table(
                [_array(column, f) for f, column in zip(schema, columns, strict=True)],
                schema=schema,
            )

    @staticmethod
    def fromDataframe(df: Any, schemaStr: str) -> MTable:
        """Take the rows of a DataFrame; its columns get the names and types of the schema."""
        return MTable(df, schemaStr)

    @staticmethod
    def fromJson(s: str) -> MTable:
        """Read a table, ``{"data":{"col":[…]},"schema":"col INT"}``."""
        return MTable(parse_table(s))

    def to_arrow(self) -> pa.Table:
        """Give the rows as a table of Arrow."""
        return self._table

    def toDataframe(self) -> Any:
        """Give the rows as a DataFrame of pandas."""
        from alink.operators._frame import to_pandas

        return to_pandas(self._table)

    def getRows(self) -> Any:
        """Give the rows as a DataFrame of pandas."""
        return self.toDataframe()

    def getRow(self, index: int) -> Any:
        """Give a row as a DataFrame of pandas, counted from 0."""
        self._check_row(index)
        return self.toDataframe().iloc[[index]]

    def getColNames(self) -> list[str]:
        """Give the names of the columns."""
        return list(self._table.schema.names)

    def getColTypes(self) -> list[str]:
        """Give the types of the columns, as Flink names them: a text is VARCHAR."""
        return [flink_name(kind) for kind in self._table.schema.types]

    def getSchemaStr(self) -> str:
        """Give the schema as a string, ``"id INT, name VARCHAR"``."""
        return shown_schema(self._table.schema)

    def getNumRow(self) -> int:
        """Tell how many rows there are."""
        return self._table.num_rows

    def getNumCol(self) -> int:
        """Tell how many columns there are."""
        return self._table.num_columns

    def getEntry(self, row: int, col: int) -> Any:
        """Give the value of a row and a column, counted from 0."""
        self._check_row(row)
        column = self._table.column(self._column(col))
        value = column[row].as_py()
        if value is None or not any(is_kind(column.type, k) for k in (VECTOR, TENSOR, MTABLE)):
            return value
        return of_cell(column.type, value)

    def setEntry(self, row: int, col: int, value: Any) -> None:
        """Set the value of a row and a column, which has to be of the column's type."""
        self._check_row(row)
        field = self._table.schema.field(self._column(col))
        try:
            new = _array([value], field)
        except (pa.ArrowException, TypeError, ValueError, AttributeError):
            raise bad_option(
                "MTable",
                f"MTable: column {field.name!r:.60} is {flink_name(field.type)}, "
                f"and cannot have {value!r:.60}",
            ) from None
        old = self._table.column(field.name)
        chunks = [*old.slice(0, row).chunks, new, *old.slice(row + 1).chunks]
        column = pa.chunked_array(chunks, field.type)
        place = self._table.schema.names.index(field.name)
        self._table = self._table.set_column(place, field, column)

    def select(self, selectedColNamesOrIndices: Sequence[str] | Sequence[int] | str) -> MTable:
        """Give the table of some columns, by their names or their numbers from 0."""
        return MTable(self._table.select(self._columns(selectedColNamesOrIndices)))

    def orderBy(
        self,
        fields_or_indices: Sequence[str] | Sequence[int] | str,
        orders: Sequence[bool] | None = None,
    ) -> None:
        """Order the rows, in place, by columns; True is ascending. NULL comes first.

        Rows that are equal stay in their order.
        """
        names = self._columns(fields_or_indices)
        ascending = [True] * len(names) if orders is None else list(orders)
        if len(ascending) != len(names):
            raise bad_option(
                "MTable", f"MTable.orderBy: {len(ascending)} orders for {len(names)} columns"
            )
        order = [*range(self._table.num_rows)]
        for name, up in reversed([*zip(names, ascending, strict=True)]):
            values = self._table.column(name).to_pylist()
            keys = [(value is not None, 0 if value is None else value) for value in values]
            order.sort(key=keys.__getitem__, reverse=not up)
        self._table = self._table.take(pa.array(order, pa.int64()))

    def summary(self, selectedColNames: Sequence[str] | str | None = None) -> TableSummary:
        """Give the summary of some columns, by default of all."""
        return self.subSummary(selectedColNames, 0, self.getNumRow())

    def subSummary(
        self, selectedColNames: Sequence[str] | str | None, fromId: int, endId: int
    ) -> TableSummary:
        """Give the summary of some columns of rows, from one to another, which is excluded."""
        from alink._algorithms._group import Group
        from alink._algorithms._summaries import train
        from alink.operators._summaries import TableSummary

        names = self._columns(selectedColNames) if selectedColNames else self.getColNames()
        first = max(fromId, 0)
        rows = self._table.slice(first, max(0, min(endId, self.getNumRow()) - first))
        return TableSummary(train({"selectedCols": names})(Group.of(rows)))

    def copy(self) -> MTable:
        """Give a copy."""
        return MTable(self._table)

    def toJson(self) -> str:
        """Write the table so that it can be read again."""
        return str(self)

    def toDisplaySummary(self) -> str:
        """Give the number of rows and columns, and the names of the first columns."""
        names = self.getColNames()
        shown = names if len(names) <= _SHOWN else [*names[: _SHOWN - 1], "..."]
        return f"MTable({self.getNumRow()},{len(names)})({','.join(shown)})"

    def toDisplayData(self, n: int | None = None) -> str:
        """Give the rows, with bars between the values; only so many rows and columns."""
        head = f"MTable({self.getNumRow()},{self.getNumCol()})({','.join(self.getColNames())})\n"
        most = max(self.getNumRow(), self.getNumCol()) if n is None or n < 0 else n
        lines: list[str] = []
        for row in range(min(most, self.getNumRow())):
            cells = [_shown(self.getEntry(row, col)) for col in range(self.getNumCol())]
            lines.append("|".join(cells if len(cells) <= most else [*cells[: most - 1], "..."]))
        return ("" if n is not None else head) + "".join(f"{line}\n" for line in lines)

    def toShortDisplayData(self) -> str:
        """Give the first rows and columns."""
        return self.toDisplayData(_SHOWN)

    def _check_row(self, row: int) -> None:
        if not 0 <= row < self.getNumRow():
            raise bad_option("MTable", f"MTable: there is no row {row} among {self.getNumRow()}")

    def _column(self, column: str | int) -> str:
        if isinstance(column, str):
            return find_column("MTable", self._table.schema, column)
        if not 0 <= column < self.getNumCol():
            raise bad_option("MTable", f"MTable: there is no column {column} of {self.getNumCol()}")
        return self._table.schema.names[column]

    def _columns(self, columns: Sequence[str] | Sequence[int] | str) -> list[str]:
        given = [columns] if isinstance(columns, (str, int)) else columns
        return [self._column(column) for column in given]

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
        body = {"data": data, "schema": format_schema(self._table.schema)}
        return json.dumps(body, ensure_ascii=False, separators=(",", ":"), default=str)

    def __repr__(self) -> str:
        return f"MTable({str(self)!r:.200})"


def _array(values: Sequence[Any], field: pa.Field) -> pa.Array:
    """Make a column of values; vectors and the like may be texts."""
    if is_kind(field.type, VECTOR):
        return pa.array([vector_cell(value) for value in values], VECTOR)
    if is_kind(field.type, TENSOR) or is_kind(field.type, MTABLE):
        read = Tensor.parse if is_kind(field.type, TENSOR) else MTable.fromJson
        parts = [read(value) if isinstance(value, str) else value for value in values]
        return pa.array([None if p is None else p.to_cell() for p in parts], field.type)
    return pa.array(values, field.type)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, Vector):
        return value.toShortDisplayData()
    if isinstance(value, Display):
        return value.toDisplaySummary()
    return "null" if value is None else str(value)


def cell(value: Any) -> pa.DataType | None:
    """Give the type of the column that such a value needs; None of a plain one."""
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
