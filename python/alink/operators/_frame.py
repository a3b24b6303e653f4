"""Rows as Alink's programs see them: DataFrames of pandas, and tables as text.

What is printed looks as pandas prints a DataFrame, but pandas is not imported for it: that
takes longer than most of what is printed takes to compute.
"""

from __future__ import annotations

import datetime
import math
import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from alink._algorithms._strings import Unreadable, text_of
from alink._algorithms._types import MTABLE, TENSOR, VECTOR, is_kind, type_name
from alink._diag import quote
from alink._notebook import in_notebook
from alink._options import bad_option
from alink.operators._linalg import vector_cell
from alink.operators._tensor_values import Tensor
from alink.operators._values import MTable, cell, of_cell

if TYPE_CHECKING:
    import pandas as pd

_ROWS_MAX = 60  # beyond it only the first and the last five are printed
_ROWS_SHOWN = 10
_NAMES_MAX = 100  # of a table without rows
_CELL_MAX = 50  # characters
_PRECISION = 6  # digits behind the point
_SMALL = 10**-_PRECISION
_LARGE = 1e6
_TIMESTAMP = pa.timestamp("us")
_DAY_US = 86_400_000_000
_DAYS_400_YEARS = 146_097
_DAYS_TO_1970 = 719_162  # from the first day of the year 1


def from_pandas(name: str, frame: Any, schema: pa.Schema | None) -> pa.Table:
    """Read a DataFrame; its columns, by position, get the names and types of a schema."""
    if not hasattr(frame, "columns") or not hasattr(frame, "iloc"):
        raise bad_option(name, f"{name} takes a DataFrame of pandas, not {type(frame).__name__}")
    wanted: Any = _inferred(name, frame) if schema is None else schema
    if len(wanted) != frame.shape[1]:
        raise bad_option(
            name,
            f"{name}: the schema has {len(wanted)} columns, the DataFrame {frame.shape[1]}",
        )
    columns = [
        _of_series(name, frame.iloc[:, i], field.name, field.type) for i, field in enumerate(wanted)
    ]
    return pa.table(columns, schema=wanted)


def _inferred(name: str, frame: Any) -> pa.Schema:
    fields: list[pa.Field] = []
    for i, column in enumerate(frame.columns):
        series = frame.iloc[:, i]
        values = [] if str(series.dtype) != "object" else series.tolist()
        example = next((v for v in values if v is not None and v == v), None)
        if example is not None and (kind := cell(example)) is not None:
            fields.append(pa.field(str(column), kind))
            continue
        try:
            kind = pa.array(series, from_pandas=True).type
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise bad_option(
                name,
                f"{name}: the type of column {quote(str(column))} cannot be told: {error}",
                "give schemaStr",
            ) from None
        fields.append(pa.field(str(column), _plain(kind)))
    return pa.schema(fields)


def _plain(kind: pa.DataType) -> pa.DataType:
    """Give Alink's type for one of Arrow's."""
    if pa.types.is_null(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind):
        return pa.string()
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us")
    return kind


def _of_series(name: str, series: Any, column: str, kind: pa.DataType) -> pa.Array:
    try:
        if is_kind(kind, VECTOR):
            return pa.array([vector_cell(value) for value in _values(series)], VECTOR)
        if is_kind(kind, TENSOR) or is_kind(kind, MTABLE):
            read = Tensor.parse if is_kind(kind, TENSOR) else MTable.fromJson
            return pa.array(
                [
                    None if v is None else (read(v) if isinstance(v, str) else v).to_cell()
                    for v in _values(series)
                ],
                kind,
            )
        if pa.types.is_string(kind):
            return _of_texts(series)
        try:
            return _chunked(pa.array(series, kind, from_pandas=True))
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            return _chunked(pa.array(series, from_pandas=True)).cast(kind)
    except (pa.ArrowException, Unreadable, TypeError, ValueError, AttributeError) as error:
        raise bad_option(
            name,
            f"{name}: column {quote(column)} cannot be read as {type_name(kind)}: {error}"[:300],
            "the schema gives each column of the DataFrame a type, in their order",
        ) from None


def _of_texts(series: Any) -> pa.Array:
    """Read a column of texts; what is none among them is written as Alink would."""
    if str(series.dtype) in ("object", "string", "str"):
        try:
            return _chunked(pa.array(series, pa.string(), from_pandas=True))
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            pass
    return pa.array([None if v is None else text_of(v) for v in _values(series)], pa.string())


def _values(series: Any) -> list[Any]:
    """Give the values of a column, None for each kind of a missing one."""
    missing = series.isna()
    return [None if null else value for null, value in zip(missing, series.tolist(), strict=True)]


def _chunked(array: Any) -> pa.Array:
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


# --- out ---


def texts(column: pa.ChunkedArray, shown: bool = True) -> list[Any]:
    """Give a column's values, and of vectors, tensors and tables their texts.

    Parameters
    ----------
    column : ChunkedArray
    shown : bool
        Whether tensors are written for people, or as they can be read again.
    """
    kind = column.type
    values = column.to_pylist()
    if not any(is_kind(kind, special) for special in (VECTOR, TENSOR, MTABLE)):
        return values
    write: Callable[[Any], str] = Tensor.show if shown and is_kind(kind, TENSOR) else str
    return [None if v is None else write(of_cell(kind, v)) for v in values]


#: Of Arrow's integers and booleans, the nullable type of pandas.
_NULLABLE = {
    **{f"int{bits}": f"Int{bits}Dtype" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"UInt{bits}Dtype" for bits in (8, 16, 32, 64)},
    "bool": "BooleanDtype",
    "string": "StringDtype",
}


def to_pandas(rows: pa.Table) -> pd.DataFrame:
    """Give rows as a DataFrame with the types that PyAlink gives."""
    import pandas as pd

    columns: dict[int, Any] = {}
    for i, column in enumerate(rows.columns):
        kind = column.type
        if (nullable := _NULLABLE.get(str(kind))) is not None:
            # Of buffers and masks: a list of Python's numbers would take a hundred times as long.
            columns[i] = getattr(pd, nullable)().__from_arrow__(column)
        elif pa.types.is_timestamp(kind):
            columns[i] = column.cast(_TIMESTAMP).to_pandas()
        elif pa.types.is_floating(kind):
            columns[i] = column.to_pandas()
        else:
            columns[i] = pd.Series(texts(column), dtype="object")
    frame = pd.DataFrame(columns)
    frame.columns = rows.schema.names
    return frame


# --- printing ---


def show(rows: pa.Table, title: str | None = None, cut: bool = True) -> None:
    """Print rows: as text, or in a notebook as HTML, the way that pandas writes it.

    Parameters
    ----------
    rows : pyarrow.Table
    title : str, optional
        A line that is printed before.
    cut : bool, default True
        Whether of many rows the first and the last are shown alone.
    """
    if title is not None:
        print(title)
    if not in_notebook():
        print(render(rows, cut), flush=True)
        return
    from IPython.display import HTML, display

    count = rows.num_rows
    half = _ROWS_SHOWN // 2
    if cut and count > _ROWS_MAX:
        ends = to_pandas(pa.concat_tables([rows.slice(0, half), rows.slice(count - half)]))
        ends.index = [*range(half), *range(count - half, count)]
        below = f"<p>{count} rows × {rows.num_columns} columns</p>"
        display(HTML(_html(ends) + below))
    else:
        display(HTML(_html(to_pandas(rows))))


def _html(frame: pd.DataFrame) -> str:
    return frame.to_html().replace("\\n", "<br>")


def render(rows: pa.Table, cut: bool = True) -> str:
    """Write rows as pandas prints a DataFrame, all columns beside one another."""
    count = rows.num_rows
    names = [_escaped(str(name)) for name in rows.schema.names]
    if count == 0 or not names:
        listed = ", ".join(rows.schema.names[:_NAMES_MAX])
        more = ", ..." if len(names) > _NAMES_MAX else ""
        return f"Empty DataFrame\nColumns: [{listed}{more}]\nIndex: []"
    cut = cut and count > _ROWS_MAX
    half = _ROWS_SHOWN // 2
    labels = [str(i) for i in range(count)] if not cut else []
    shown = rows
    if cut:
        shown = pa.concat_tables([rows.slice(0, half), rows.slice(count - half)])
        labels = [str(i) for i in (*range(half), *range(count - half, count))]
    columns = [_column("", labels, left=True)]
    for name, column in zip(names, shown.columns, strict=True):
        kind = column.type
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        signed = number or pa.types.is_boolean(kind)
        columns.append(_column(f" {name}" if signed else name, _cells(column)))
    for i, column in enumerate(columns) if cut else ():
        width = len(column[half])
        dots = "..." if width > 3 else ".."
        column.insert(1 + half, dots.rjust(width) if i else dots.ljust(width))
    widths = [max(map(len, column)) + 1 for column in columns]
    widths[-1] -= 1
    lines = [
        "".join(part.ljust(width) for part, width in zip(parts, widths, strict=True))
        for parts in zip(*columns, strict=True)
    ]
    if cut:
        lines += ["", f"[{count} rows x {len(names)} columns]"]
    return "\n".join(lines)


def _column(name: str, cells: Sequence[str], left: bool = False) -> list[str]:
    """Cut cells that are too long, and make all as wide as the widest; a name is not cut."""
    cut = [cell if len(cell) <= _CELL_MAX else cell[: _CELL_MAX - 3] + "..." for cell in cells]
    width = max(len(name), *map(len, cut))
    inner = min(width, _CELL_MAX)
    if left:
        return [name.ljust(width), *(cell.ljust(inner) for cell in cut)]
    return [name.rjust(width), *(cell.rjust(inner) for cell in cut)]


def _cells(column: pa.ChunkedArray) -> list[str]:
    kind = column.type
    if pa.types.is_floating(kind):
        return _floats(
            [math.nan if v is None else v for v in column.to_pylist()],
            struct.unpack("f", struct.pack("f", _SMALL))[0] if kind == pa.float32() else _SMALL,
        )
    if pa.types.is_timestamp(kind):
        return _times(column.cast(_TIMESTAMP).cast(pa.int64()).to_pylist())
    missing = " <NA>" if str(kind) in _NULLABLE else " None"
    values = texts(column)
    return [missing if value is None else f" {_escaped(str(value))}" for value in values]


def _escaped(text: str) -> str:
    return text.replace("\t", "\\t").replace("\r", "\\r").replace("\n", "\\n")


def _times(values: Sequence[int | None]) -> list[str]:
    """Write microseconds since 1970, with as many parts as one of them needs."""
    known = [v for v in values if v is not None]
    if all(v % _DAY_US == 0 for v in known):
        digits = -1
    elif all(v % 1_000_000 == 0 for v in known):
        digits = 0
    else:
        digits = 3 if all(v % 1000 == 0 for v in known) else 6
    return ["NaT" if v is None else _time(v, digits) for v in values]


def _time(value: int, digits: int) -> str:
    days, rest = divmod(value, _DAY_US)
    # The calendar repeats itself every 400 years; Python's knows the years 1 to 9999 only.
    eras, day = divmod(days + _DAYS_TO_1970, _DAYS_400_YEARS)
    date = datetime.date.fromordinal(_DAYS_400_YEARS + day + 1)
    text = f"{date.year + 400 * (eras - 1):04}-{date:%m-%d}"
    if digits < 0:
        return text
    seconds, fraction = divmod(rest, 1_000_000)
    text += f" {seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return text + (f".{fraction:06}"[: 1 + digits] if digits else "")


def _floats(values: Sequence[float], small: float) -> list[str]:
    """Write numbers with as many digits behind the point as the one that needs most, up to 6.

    With exponents where one would appear as 0, or is large and the texts are long.
    """
    fixed = _trimmed([_number(v, "f") for v in values])
    sizes = [abs(v) for v in values]
    long = max(map(len, fixed)) > _PRECISION + 6
    if any(0 < v < small for v in sizes) or (long and any(v > _LARGE for v in sizes)):
        return [_number(v, "e") for v in values]
    return fixed


def _number(value: float, form: str) -> str:
    return "NaN" if math.isnan(value) else f"{value: .{_PRECISION}{form}}"


def _trimmed(numbers: Sequence[str]) -> list[str]:
    """Take away the zeros at the end that all numbers have, but for one behind the point."""
    zeros = min((len(t) - len(t.rstrip("0")) for t in numbers if "." in t), default=0)
    drop = min(zeros, _PRECISION - 1)
    return [t[: len(t) - drop] if "." in t and drop else t for t in numbers]
