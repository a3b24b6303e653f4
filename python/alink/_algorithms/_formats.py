"""Rows from one format into another: columns, CSV, JSON, key-value text, vectors, triples."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ._arrays import numpy_of, string
from ._chain import Expansion
from ._strings import Unreadable, java_double, java_float, parse_double, text_of
from ._types import parse_schema
from ._vectors import Vectors, read_vectors

#: A row in between: what stands under each name, as text; None where a value is missing.
Fields = dict[str, str | None]
#: Reads a batch: the fields of each row; None for a row that holds nothing.
Reader = Callable[[pa.RecordBatch], Iterable["Fields | None"]]

#: What JSON has another form of.
_ESCAPED = r'["\\\x00-\x1f]'
#: One encoder: `json.dumps` makes one for each call.
_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


# --- reading ---


def _columns_reader(params: Mapping[str, Any]) -> Reader:
    names: list[str] | None = params.get("selectedCols")

    def read(batch: pa.RecordBatch) -> Iterable[Fields | None]:
        picked = batch.schema.names if names is None else names
        columns = [texts_of(batch.column(name)) for name in picked]
        for row in zip(*columns, strict=True):
            yield dict(zip(picked, row, strict=True))

    return read


def texts_of(column: pa.Array) -> list[str | None]:
    """Give the texts of a column's values."""
    if pa.types.is_struct(column.type):
        return Vectors.of(column).to_texts()
    if pa.types.is_float64(column.type):
        return java_doubles(column).to_pylist()
    if pa.types.is_float32(column.type):
        return [None if value is None else java_float(value) for value in column.to_pylist()]
    return [None if value is None else text_of(value) for value in column.to_pylist()]


def text_column(column: pa.Array) -> pa.Array:
    """Give the texts of a column's values as a column."""
    if pa.types.is_string(column.type):
        return column
    if pa.types.is_float64(column.type):
        return java_doubles(column)
    if pa.types.is_struct(column.type):
        return pa.array(texts_of(column), pa.string())
    coded = pc.dictionary_encode(column)
    return pa.array(texts_of(coded.dictionary), pa.string()).take(coded.indices)


def java_doubles(column: pa.Array) -> pa.Array:
    """Write doubles as `java_double` does; NULL stays.

    Of those that are written as decimals Arrow finds the digits, in a fifth of the time.
    """
    size = pc.abs(column)
    least, beyond = (pa.scalar(value, pa.float64()) for value in (1e-3, 1e7))
    decimal = pc.and_(pc.greater_equal(size, least), pc.less(size, beyond))
    texts = column.cast(pa.string())
    pointed = pc.binary_join_element_wise(texts, string(".0"), string(""))
    texts = pc.if_else(pc.equal(column, pc.floor(column)), pointed, texts)
    others = pc.indices_nonzero(pc.invert(decimal))  # zeros among them
    if not len(others):
        return texts
    written = [java_double(value) for value in column.take(others).to_pylist()]
    return pc.replace_with_mask(texts, pc.invert(decimal), pa.array(written, pa.string()))


def _csv_reader(params: Mapping[str, Any]) -> Reader:
    names = parse_schema(params["schemaStr"]).names
    delimiter, quote = params["csvFieldDelimiter"], params["quoteChar"]

    def fields(text: str) -> Fields:
        parts = split_csv(text, delimiter, quote)
        if len(parts) != len(names):
            raise Unreadable(
                f"{text!r:.80} has {len(parts)} fields where {len(names)} are expected"
            )
        return dict(zip(names, parts, strict=True))

    return _text_reader(params["csvCol"], fields)


def split_csv(text: str, delimiter: str, quote: str | None) -> list[str | None]:
    """Cut a line of CSV; an empty field is None, an empty one in quotes ""."""
    if quote is None or quote not in text:
        return [part or None for part in text.split(delimiter)]
    parts: list[str | None] = []
    at, end = 0, len(text)
    while True:
        if text.startswith(quote, at):
            part, at = _quoted(text, at + 1, quote)
            parts.append(part)
            if at < end and not text.startswith(delimiter, at):
                raise Unreadable(f"{text!r:.80} is not CSV: something follows a closing quote")
        else:
            stop = text.find(delimiter, at)
            stop = end if stop < 0 else stop
            parts.append(text[at:stop] or None)
            at = stop
        if at >= end:
            return parts
        at += len(delimiter)


def _quoted(text: str, at: int, quote: str) -> tuple[str, int]:
    """Read up to the closing quote; a quote inside is doubled."""
    parts: list[str] = []
    while True:
        stop = text.find(quote, at)
        if stop < 0:
            raise Unreadable(f"{text!r:.80} is not CSV: a quote is not closed")
        parts.append(text[at:stop])
        if not text.startswith(quote, stop + 1):
            return "".join(parts), stop + 1
        parts.append(quote)
        at = stop + 2


def _json_reader(params: Mapping[str, Any]) -> Reader:
    return _text_reader(params["jsonCol"], json_fields)


def json_fields(text: str) -> Fields:
    """Read an object of JSON: the texts of its members, numbers as they are written."""
    try:
        value = json.loads(text, parse_float=str, parse_int=str, parse_constant=str)
    except ValueError as error:
        raise Unreadable(f"{text!r:.80} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Unreadable(f"{text!r:.80} is not an object of JSON")
    return {name: None if item is None else json_text(item) for name, item in value.items()}


def json_text(value: Any) -> str:
    """Write a value within JSON as text; a text as it is."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return _JSON(value)


def _kv_reader(params: Mapping[str, Any]) -> Reader:
    between, within = params["kvColDelimiter"], params["kvValDelimiter"]

    def fields(text: str) -> Fields:
        found: Fields = {}
        for part in text.split(between) if text.strip() else ():
            name, mark, value = part.partition(within)
            if not mark:
                raise Unreadable(f"{text!r:.80} is not key{within}value: {part!r:.40}")
            found[name.strip()] = value
        return found

    return _text_reader(params["kvCol"], fields)


def _text_reader(column: str, fields: Callable[[str], Fields]) -> Reader:
    def read(batch: pa.RecordBatch) -> Iterable[Fields | None]:
        for text in batch.column(column).to_pylist():
            try:
                yield None if text is None else fields(text)
            except Unreadable as error:
                raise Unreadable(f"column {column!r}: {error}") from None

    return read


def _vector_reader(params: Mapping[str, Any]) -> Reader:
    names = parse_schema(params["schemaStr"]).names if params.get("schemaStr") else None

    def read(batch: pa.RecordBatch) -> Iterable[Fields | None]:
        for vector in read_vectors(batch, params["vectorCol"]):
            if vector is None:
                yield None
                continue
            _, indices, values = vector
            at = range(len(values)) if indices is None else indices.tolist()
            yield {
                (names[i] if names is not None and i < len(names) else str(i)): java_double(value)
                for i, value in zip(at, values.tolist(), strict=True)
            }

    return read


def _triple_reader(_params: Mapping[str, Any]) -> Reader:
    def read(batch: pa.RecordBatch) -> Iterable[Fields | None]:
        names, values = (batch.column(name).to_pylist() for name in ("__names", "__values"))
        for row_names, row_values in zip(names, values, strict=True):
            pairs = zip(row_names, row_values, strict=True)
            yield {text_of(n): text_of(v) for n, v in pairs if n is not None and v is not None}

    return read


_READERS: dict[str, Callable[[Mapping[str, Any]], Reader]] = {
    "Columns": _columns_reader,
    "Csv": _csv_reader,
    "Json": _json_reader,
    "Kv": _kv_reader,
    "Vector": _vector_reader,
    "Triple": _triple_reader,
}


# --- writing ---


class _Writer:
    """Makes the columns of the outputs from the fields of rows."""

    #: Whether a value that is missing has a place all the same.
    places = False

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        self.params = params
        self.types = types

    def cells(self, fields: Fields) -> Sequence[Any]:
        """Give a row's values."""
        raise NotImplementedError

    def columns(self, rows: Sequence[Sequence[Any] | None]) -> list[pa.Array]:
        """Give the columns of rows."""
        return [
            pa.array([None if row is None else row[i] for row in rows], kind)
            for i, kind in enumerate(self.types)
        ]


class _ColumnsWriter(_Writer):
    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        super().__init__(params, types)
        self._names = parse_schema(params["schemaStr"]).names
        self._parsers = [parser(kind) for kind in types]
        # What a vector does not name is 0.
        self._missing = "0" if params["from"] == "Vector" else None

    def cells(self, fields: Fields) -> Sequence[Any]:
        return [
            None if (text := fields.get(name, self._missing)) is None else _read(parse, text, name)
            for name, parse in zip(self._names, self._parsers, strict=True)
        ]


class _CsvWriter(_Writer):
    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        super().__init__(params, types)
        schema = parse_schema(params["schemaStr"])
        self._texts = [(field.name, pa.types.is_string(field.type)) for field in schema]

    def cells(self, fields: Fields) -> Sequence[Any]:
        delimiter, quote = self.params["csvFieldDelimiter"], self.params["quoteChar"]
        parts: list[str] = []
        for name, text in self._texts:
            part = fields.get(name)
            if part is None:
                parts.append("")
            elif text and quote and (not part or any(c in part for c in (delimiter, quote, "\n"))):
                parts.append(quote + part.replace(quote, quote + quote) + quote)
            else:
                parts.append(part)
        return [delimiter.join(parts)]


class _JsonWriter(_Writer):
    def cells(self, fields: Fields) -> Sequence[Any]:
        return [_JSON(fields)]


class _KvWriter(_Writer):
    def cells(self, fields: Fields) -> Sequence[Any]:
        within = self.params["kvValDelimiter"]
        return [self.params["kvColDelimiter"].join(f"{k}{within}{v}" for k, v in fields.items())]


class _VectorWriter(_Writer):
    """Names that are numbers are indices; others are taken in their order."""

    places = True

    def cells(self, fields: Fields) -> Sequence[Any]:
        size = self.params["vectorSize"]
        size = -1 if size is None or size < 0 else size
        numbered = all(name.isascii() and name.isdigit() for name in fields)
        pairs = sorted(
            (int(name) if numbered else i, _read(parse_double, text, name))
            for i, (name, text) in enumerate(fields.items())
            if text is not None
        )
        if not numbered and size < 0 and len(pairs) == len(fields):
            return [(len(pairs), None, [value for _, value in pairs])]
        if pairs and 0 <= size <= pairs[-1][0]:
            raise Unreadable(f"index {pairs[-1][0]} is beyond a vector of size {size}")
        return [(size, [index for index, _ in pairs], [value for _, value in pairs])]

    def columns(self, rows: Sequence[Sequence[Any] | None]) -> list[pa.Array]:
        return [Vectors.of_rows(None if row is None else row[0] for row in rows).to_arrow()]


_WRITERS: dict[str, type[_Writer]] = {
    "Columns": _ColumnsWriter,
    "Csv": _CsvWriter,
    "Json": _JsonWriter,
    "Kv": _KvWriter,
    "Vector": _VectorWriter,
}


def parser(kind: pa.DataType) -> Callable[[str], Any]:
    """Give the function that reads a text as a value of a type."""
    if pa.types.is_string(kind):
        return str
    if pa.types.is_boolean(kind):
        return _parse_boolean
    if pa.types.is_integer(kind):
        return _parse_integer
    if pa.types.is_floating(kind):
        return parse_double
    if pa.types.is_time(kind):
        return _parse_time
    return lambda text: pa.scalar(text.strip(), pa.string()).cast(kind).as_py()


def _read(parse: Callable[[str], Any], text: str, name: str) -> Any:
    try:
        return parse(text)
    except (Unreadable, pa.ArrowInvalid) as error:
        raise Unreadable(f"what stands under {name!r}: {error}") from None


def _parse_boolean(text: str) -> bool:
    value = {"true": True, "false": False, "1": True, "0": False}.get(text.strip().lower())
    if value is None:
        raise Unreadable(f"{text!r:.80} is neither true nor false")
    return value


def _parse_time(text: str) -> datetime.time:
    try:
        return datetime.time.fromisoformat(text.strip())
    except ValueError:
        raise Unreadable(f"{text!r:.80} is not a time of the day") from None


def _parse_integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        pass
    value = parse_double(text)
    if not value.is_integer():
        raise Unreadable(f"{text!r:.80} is not a whole number")
    return int(value)


def convert(params: Mapping[str, Any], types: Sequence[pa.DataType]) -> Any:
    """Make the task of a conversion; ``from`` and ``to`` name the formats.

    A row that cannot be read fails the job, or with ``handleInvalid="SKIP"`` gives NULL.
    """
    read = _READERS[params["from"]](params)
    skip = (params.get("handleInvalid") or "ERROR").upper() == "SKIP"
    if params["to"] == "Triple":
        return _ToTriples(read, types, skip)
    writer = _WRITERS[params["to"]](params, types)

    def run(batch: pa.RecordBatch) -> list[pa.Array]:
        if params["from"] == "Columns" and params["to"] == "Vector":
            vectors = _numbers_to_vectors(params, batch)
            if vectors is not None:
                return [vectors]
        if params["from"] == "Columns" and params["to"] in ("Json", "Kv"):
            return [_joined(params, batch)]
        rows: list[Sequence[Any] | None] = []
        for fields in _tolerant(read, batch) if skip else read(batch):
            if fields is None:
                rows.append(None)
                continue
            try:
                rows.append(writer.cells(fields if writer.places else _known(fields)))
            except Unreadable:
                if not skip:
                    raise
                rows.append(None)
        return writer.columns(rows)

    return run


def _numbers_to_vectors(params: Mapping[str, Any], batch: pa.RecordBatch) -> pa.Array | None:
    """Make vectors of columns of numbers that are all there, without texts in between.

    None where the columns or the parameters are others.
    """
    names: list[str] = params.get("selectedCols") or batch.schema.names
    columns = [batch.column(name) for name in names]
    whole = all(
        (pa.types.is_integer(column.type) or pa.types.is_float64(column.type))
        and not column.null_count
        for column in columns
    )
    size = params["vectorSize"]
    named = not all(name.isascii() and name.isdigit() for name in names)
    if not whole or not named or (size is not None and size >= 0):
        return None
    rows = np.empty((batch.num_rows, len(names)))
    for i, column in enumerate(columns):
        rows[:, i] = numpy_of(column)
    return Vectors.of_matrix(rows).to_arrow()


def _joined(params: Mapping[str, Any], batch: pa.RecordBatch) -> pa.Array:
    """Write columns as JSON or as pairs of keys and values, all rows at once; NULL is left out."""
    as_json = params["to"] == "Json"
    between = "," if as_json else params["kvColDelimiter"]
    pieces: list[pa.Array] = []
    for name in dict.fromkeys(params.get("selectedCols") or batch.schema.names):
        texts = text_column(batch.column(name))
        if as_json:
            head, tail = f'{between}{_JSON(name)}:"', '"'
            if pc.any(pc.match_substring_regex(texts, _ESCAPED)).as_py():
                escaped = [None if t is None else _JSON(t)[1:-1] for t in texts.to_pylist()]
                texts = pa.array(escaped, pa.string())
        else:
            head, tail = f"{between}{name}{params['kvValDelimiter']}", ""
        whole = pc.binary_join_element_wise(string(head), texts, string(tail), string(""))
        pieces.append(pc.fill_null(whole, ""))
    rows = pc.binary_join_element_wise(*pieces, string(""))
    rows = pc.utf8_slice_codeunits(rows, len(between))
    if not as_json:
        return rows
    return pc.binary_join_element_wise(string("{"), rows, string("}"), string(""))


def _known(fields: Fields) -> Fields:
    return {name: text for name, text in fields.items() if text is not None}


def _tolerant(read: Reader, batch: pa.RecordBatch) -> Iterable[Fields | None]:
    """Read row by row, so that one that cannot be read leaves the others as they are."""
    for i in range(batch.num_rows):
        try:
            yield from read(batch.slice(i, 1))
        except Unreadable:
            yield None


class _ToTriples:
    """A row for each field that has a value: its name and its value."""

    def __init__(self, read: Reader, types: Sequence[pa.DataType], skip: bool) -> None:
        self._read = read
        self._skip = skip
        self._types = types
        self._parsers = [parser(kind) for kind in types]

    def __call__(self, batch: pa.RecordBatch) -> Expansion:
        of: list[int] = []
        names: list[Any] = []
        values: list[Any] = []
        name_of, value_of = self._parsers
        read = _tolerant(self._read, batch) if self._skip else self._read(batch)
        for row, fields in enumerate(read):
            for name, value in (fields or {}).items():
                if value is None:
                    continue
                try:
                    pair = _read(name_of, name, name), _read(value_of, value, name)
                except Unreadable:
                    if not self._skip:
                        raise
                    continue
                of.append(row)
                names.append(pair[0])
                values.append(pair[1])
        columns = [pa.array(names, self._types[0]), pa.array(values, self._types[1])]
        return Expansion(pa.array(of, pa.int64()), columns)
