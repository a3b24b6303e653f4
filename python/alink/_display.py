"""Tables as text, without pandas."""

from __future__ import annotations

import itertools
import math
import os
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from alink._types import describe_type

_CELL_MAX = 40  # characters of one cell
_COMBINING_MAX = 8  # characters that stand in the place of one
_DECIMALS_MAX = 4
_WIDTH_DEFAULT = 120  # characters, where the terminal does not tell


@dataclass(frozen=True)
class _Box:
    """The characters of a table's frame."""

    top: str
    middle: str
    bottom: str
    vertical: str
    horizontal: str
    ellipsis: str


_UNICODE = _Box("┌┬┐", "├┼┤", "└┴┘", "│", "─", "…")
_ASCII = _Box("+++", "+++", "+++", "|", "-", "...")


def render_table(
    table: pa.Table, more: bool = False, width: int | None = None, encoding: str = "utf-8"
) -> str:
    """Write a table as text.

    Parameters
    ----------
    table : pyarrow.Table
        All its rows are shown.
    more : bool, default False
        Whether there are rows beyond these.
    width : int, optional
        Columns of the terminal; columns of the table in the middle are left out to fit.
    encoding : str
        What is written to; frames are ASCII where it has no box characters.
    """
    if not table.num_columns:
        return "no columns, " + _footer(table, more)
    box = _UNICODE if _can_encode(encoding) else _ASCII
    columns = [_column(field, table.column(i), box) for i, field in enumerate(table.schema)]
    columns = _fit(columns, width or _terminal_width(), box)
    lines = [_rule(columns, box.top, box)]
    for row in range(table.num_rows + 2):
        lines.append(_line([column.cell(row) for column in columns], box))
        if row == 1:
            lines.append(_rule(columns, box.middle, box))
    lines.append(_rule(columns, box.bottom, box))
    lines.append(_footer(table, more))
    return "\n".join(lines)


@dataclass(frozen=True)
class _Column:
    """A column's cells as text: the name, the type, then the rows."""

    cells: list[str]
    right: bool

    @property
    def width(self) -> int:
        return max(_width(cell) for cell in self.cells)

    def cell(self, row: int) -> str:
        text = self.cells[row]
        padding = " " * (self.width - _width(text))
        return padding + text if self.right else text + padding


def _column(field: pa.Field, data: pa.ChunkedArray, box: _Box) -> _Column:
    name, *texts = column_texts(field, data, _CELL_MAX, box.ellipsis)
    kind = _cut(describe_type(field.type), _CELL_MAX, box.ellipsis)
    return _Column([name, kind, *texts], is_right_aligned(field.type))


def column_texts(
    field: pa.Field, data: pa.ChunkedArray, width: int, ellipsis: str = _UNICODE.ellipsis
) -> list[str]:
    """Write a column's name and values, each no wider than `width` characters."""
    values = _values(data)
    if pa.types.is_floating(field.type):
        texts = _floats(values)
    else:
        texts = [_text(value, width) for value in values]
    return [_cut(text, width, ellipsis) for text in (_escape(field.name), *texts)]


def is_right_aligned(type_: pa.DataType) -> bool:
    """Tell whether values of a type are numbers, which stand at the right."""
    return bool(
        pa.types.is_floating(type_) or pa.types.is_integer(type_) or pa.types.is_decimal(type_)
    )


def _values(data: pa.ChunkedArray) -> list[Any]:
    try:
        return data.to_pylist()
    except (ValueError, OverflowError, ImportError):
        # Python's date and time types hold neither nanoseconds nor every year.
        return data.cast(pa.string()).to_pylist()


def _floats(values: Sequence[float | None]) -> list[str]:
    """Write floats with one number of decimals for the column."""
    finite = [v for v in values if v is not None and math.isfinite(v)]
    plain = all(v == 0 or 1e-4 <= abs(v) < 1e15 for v in finite)
    decimals = max((_decimals(v) for v in finite), default=0)
    out: list[str] = []
    for value in values:
        if value is None:
            out.append("NULL")
        elif not math.isfinite(value):
            out.append("NaN" if math.isnan(value) else ("inf" if value > 0 else "-inf"))
        else:
            out.append(f"{value:.{decimals}f}" if plain else f"{value:.6g}")
    return out


def _decimals(value: float) -> int:
    text = f"{value:.{_DECIMALS_MAX}f}".rstrip("0")
    return max(1, len(text) - text.index(".") - 1)


def _text(value: Any, width: int) -> str:
    """Write a value. Of a long one no more than what can be shown is looked at."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return "0x" + value[: width + 1].hex()
    if isinstance(value, str):
        return _escape(value[: _COMBINING_MAX * (width + 1)])
    if isinstance(value, list):
        cut = value[: width + 1]
        if cut and all(isinstance(v, tuple) and len(v) == 2 for v in cut):  # a map
            return "{" + ", ".join(f"{_text(k, width)}: {_text(v, width)}" for k, v in cut) + "}"
        return "[" + ", ".join(_text(v, width) for v in cut) + "]"
    if isinstance(value, dict):
        items = itertools.islice(value.items(), width + 1)
        return "{" + ", ".join(f"{_escape(k)}: {_text(v, width)}" for k, v in items) + "}"
    return _escape(str(value))


def _escape(text: str) -> str:
    """Keep control characters from the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _char_width(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _width(text: str) -> int:
    return len(text) if text.isascii() else sum(map(_char_width, text))


def _cut(text: str, limit: int, ellipsis: str) -> str:
    if _width(text) <= limit:
        return text
    kept, width = 0, len(ellipsis)
    while width + _char_width(text[kept]) <= limit:
        width += _char_width(text[kept])
        kept += 1
    return text[:kept] + ellipsis


def _fit(columns: list[_Column], width: int, box: _Box) -> list[_Column]:
    """Leave out columns in the middle if not all of them fit; the first always stays."""
    if not columns or _total(columns) <= width:
        return columns
    gap = _Column([box.ellipsis] * len(columns[0].cells), right=False)
    waiting, left, right = columns[1:], columns[:1], []
    while waiting:
        from_right = len(right) < len(left)
        column = waiting.pop() if from_right else waiting.pop(0)
        if _total([*left, gap, *right, column]) > width:
            break
        if from_right:
            right.insert(0, column)
        else:
            left.append(column)
    return [*left, gap, *right]


def _total(columns: list[_Column]) -> int:
    return sum(column.width + 3 for column in columns) + 1


def _rule(columns: list[_Column], corners: str, box: _Box) -> str:
    left, joint, right = corners
    return left + joint.join(box.horizontal * (c.width + 2) for c in columns) + right


def _line(cells: list[str], box: _Box) -> str:
    inner = f" {box.vertical} ".join(cells)
    return f"{box.vertical} {inner} {box.vertical}"


def _footer(table: pa.Table, more: bool) -> str:
    rows = f"{table.num_rows:,} row" + ("" if table.num_rows == 1 else "s")
    return f"the first {rows}, there are more" if more else rows


def _can_encode(encoding: str) -> bool:
    try:
        "┌─│…".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _terminal_width() -> int:
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns) > 0:
        return int(columns)
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or _WIDTH_DEFAULT
    except (OSError, ValueError, AttributeError):
        return _WIDTH_DEFAULT
