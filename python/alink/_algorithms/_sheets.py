"""Sheets of spreadsheet files: .xls and .xlsx are read by calamine, .xlsx is written by XlsxWriter.

A sheet has numbers of 64 bits with 15 digits, times to the millisecond from 1900 on, texts and
truths. What it would change is written as text, which reads back as it was.
"""

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO, Any

import pyarrow as pa

from ._chain import Expansion
from ._formats import parser, texts_of
from ._sources import cell_parser, column_of
from ._strings import Unreadable, java_double
from ._types import VECTOR, is_kind, type_name

ROWS_MAX, COLUMNS_MAX, TEXT_CHARS_MAX = 1_048_576, 16_384, 32_767
_EXACT_MAX = 10**15  # all whole numbers below it are doubles that show their digits
_FIRST_DAY = datetime.date(1900, 3, 1)  # Excel takes 1900 for a leap year
_MIDNIGHT = datetime.time()
_FORMATS = {"TIMESTAMP": "yyyy-mm-dd hh:mm:ss.000", "DATE": "yyyy-mm-dd", "TIME": "hh:mm:ss.000"}

Cell = Callable[[Any], Any]


# --- reading ---


def read_files(params: Mapping[str, Any], types: Sequence[pa.DataType]) -> Any:
    """Make the task that reads a sheet of files, whose paths are in the column ``path``.

    A row without any value is none. With ``lenient`` a row that cannot be read is left out.
    """
    names: Sequence[str] = params["names"]
    cells = [_cell(kind) for kind in types]
    lenient: bool = params["lenient"]

    def read(path: str) -> list[list[Any]]:
        found: list[list[Any]] = []
        for number, row in enumerate(_sheet(path, params["sheetIndex"]), 1):
            if (number == 1 and params["ignoreFirstLine"]) or all(v == "" for v in row):
                continue
            try:
                found.append(values_of(row))
            except Unreadable as error:
                if not lenient:
                    raise Unreadable(f"{path}: row {number}: {error}") from None
        return found

    def values_of(row: Sequence[Any]) -> list[Any]:
        if any(value != "" for value in row[len(names) :]):
            raise Unreadable(f"it has more than {len(names)} values, schemaStr has no more")
        values: list[Any] = []
        for i, (name, cell) in enumerate(zip(names, cells, strict=True)):
            value = row[i] if i < len(row) else ""
            try:
                values.append(None if value == "" else cell(value))
            except (Unreadable, pa.ArrowException, decimal.InvalidOperation) as error:
                raise Unreadable(f"column {name}: {error}") from None
        return values

    def run(batch: pa.RecordBatch) -> Expansion:
        at: list[int] = []
        rows: list[list[Any]] = []
        for i, path in enumerate(batch.column("path").to_pylist()):
            read_rows = read(path)
            at += [i] * len(read_rows)
            rows += read_rows
        columns = [column_of([row[i] for row in rows], kind) for i, kind in enumerate(types)]
        return Expansion(pa.array(at, pa.int64()), columns)

    return run


def _sheet(path: str, index: int) -> Iterable[Sequence[Any]]:
    from python_calamine import (  # pyright: ignore[reportMissingImports]
        CalamineError,
        CalamineWorkbook,
    )

    try:
        with open(path, "rb") as file:  # noqa: PTH123  # calamine's own message has no path
            book = CalamineWorkbook.from_filelike(file)
        names = book.sheet_names
        if index >= len(names):
            raise Unreadable(
                f"{path} has no sheet {index}, counted from 0; it has {', '.join(names):.300}"
            )
        return book.get_sheet_by_index(index).to_python(skip_empty_area=False)
    except CalamineError as error:
        raise Unreadable(f"{path} is no spreadsheet that is read: {error}") from None


def _cell(kind: pa.DataType) -> Cell:
    """Give the function that makes a value of a type of what a sheet has."""
    if pa.types.is_string(kind):
        return _text
    if pa.types.is_integer(kind):
        return _whole(kind)
    if pa.types.is_floating(kind):
        return lambda value: value if _is_number(value) else parser(kind)(_only_text(value, kind))
    if pa.types.is_timestamp(kind):
        return _timestamp
    if pa.types.is_date(kind):
        return _date
    if pa.types.is_time(kind):
        return _time
    if pa.types.is_decimal(kind):
        return lambda value: decimal.Decimal(
            repr(value) if _is_number(value) else _only_text(value, kind)
        )
    if pa.types.is_boolean(kind):
        return lambda value: (
            value if isinstance(value, bool) else parser(kind)(_only_text(value, kind))
        )
    read = cell_parser(kind)
    return lambda value: read(_only_text(value, kind))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _only_text(value: Any, kind: pa.DataType) -> str:
    if isinstance(value, str):
        return value
    name = "VECTOR" if is_kind(kind, VECTOR) else type_name(kind)
    raise Unreadable(f"{_text(value)!r:.60} is no {name}")


def _text(value: Any) -> str:
    """Give a value as people see it: a whole number without a fraction."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT_MAX:
        return str(int(value))
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ")
    return str(value)


def _whole(kind: pa.DataType) -> Cell:
    bits = kind.bit_width - 1

    def cell(value: Any) -> int:
        if isinstance(value, float) and value.is_integer():
            number = int(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            number = value
        else:
            number = parser(kind)(_only_text(value, kind))
        if not -(2**bits) <= number < 2**bits:
            raise Unreadable(f"{number} is no {type_name(kind)}")
        return number

    return cell


def _timestamp(value: Any) -> datetime.datetime:
    if isinstance(value, datetime.datetime):
        return value
    if isinstance(value, datetime.date):
        return datetime.datetime.combine(value, _MIDNIGHT)
    return parser(pa.timestamp("us"))(_only_text(value, pa.timestamp("us")))


def _date(value: Any) -> datetime.date:
    if isinstance(value, datetime.datetime) and value.time() == _MIDNIGHT:
        return value.date()
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return value
    return parser(pa.date32())(_only_text(value, pa.date32()))


def _time(value: Any) -> datetime.time:
    if isinstance(value, datetime.time):
        return value
    if isinstance(value, datetime.timedelta) and 0 <= value.total_seconds() < 86_400:
        return (datetime.datetime.min + value).time()
    return parser(pa.time64("us"))(_only_text(value, pa.time64("us")))


# --- writing ---


def write(file: IO[bytes], batches: Iterable[pa.RecordBatch]) -> int:
    """Write rows to the only sheet of a file; gives their number."""
    import xlsxwriter  # pyright: ignore[reportMissingImports]

    book = xlsxwriter.Workbook(file, {"constant_memory": True})
    formats = {kind: book.add_format({"num_format": form}) for kind, form in _FORMATS.items()}
    sheet = book.add_worksheet()
    rows = 0
    for batch in batches:
        if batch.num_columns > COLUMNS_MAX:
            raise Unreadable(f"a sheet has {COLUMNS_MAX} columns, not {batch.num_columns}")
        if rows + batch.num_rows > ROWS_MAX:
            raise Unreadable(f"a sheet has {ROWS_MAX} rows: write CSV, or several files")
        columns = [_written(column) for column in batch.columns]
        for row in zip(*columns, strict=True):
            for place, value in enumerate(row):
                if value is not None:
                    _write_cell(sheet, formats, rows, place, value)
            rows += 1
    book.close()
    return rows


def _written(column: pa.Array) -> Sequence[Any]:
    """Give the values of a column, as texts where a sheet has none of their kind."""
    kind = column.type
    known = (pa.types.is_string, pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
    times = (pa.types.is_timestamp, pa.types.is_date, pa.types.is_time, pa.types.is_decimal)
    if any(of(kind) for of in (*known, *times)):
        return column.to_pylist()
    return texts_of(column)


def _write_cell(sheet: Any, formats: Mapping[str, Any], row: int, place: int, value: Any) -> None:
    if isinstance(value, bool):
        sheet.write_boolean(row, place, value)
    elif isinstance(value, str):
        if len(value) > TEXT_CHARS_MAX:
            raise Unreadable(
                f"row {row + 1}: a cell has {TEXT_CHARS_MAX} letters, not {len(value)}"
            )
        sheet.write_string(row, place, value)
    elif isinstance(value, (int, float, decimal.Decimal)):
        if _is_exact(value):
            sheet.write_number(row, place, float(value))
        else:
            sheet.write_string(
                row, place, java_double(value) if isinstance(value, float) else str(value)
            )
    else:
        kind, at = _kind_of(value)
        if at is None:
            sheet.write_string(row, place, _text(value))
        else:
            sheet.write_datetime(row, place, at, formats[kind])


def _is_exact(value: Any) -> bool:
    """Tell whether a sheet's number is the value."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return abs(value) < _EXACT_MAX
    return decimal.Decimal(repr(float(value))) == value


def _kind_of(value: Any) -> tuple[str, Any]:
    """Give what a time is shown as, and the time, or None where a sheet's is another one."""
    if isinstance(value, datetime.datetime):
        exact = value.microsecond % 1000 == 0 and value.date() >= _FIRST_DAY
        return "TIMESTAMP", value if exact else None
    if isinstance(value, datetime.date):
        return "DATE", value if value >= _FIRST_DAY else None
    return "TIME", value if value.microsecond % 1000 == 0 else None
