"""Rows of lines of text, of .ak files, and of random numbers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from . import _ak
from ._arrays import numpy_of
from ._chain import Expansion
from ._formats import parser, split_csv
from ._random import normal, poisson, uniform
from ._strings import Unreadable, parse_double, parse_vector
from ._types import VECTOR, is_kind, parse_schema
from ._vectors import Vectors, read_vectors

Cell = Callable[[str], Any]


def cell_parser(kind: pa.DataType) -> Cell:
    """Give the function that reads a text as a value of a type, vectors as well."""
    return parse_vector if is_kind(kind, VECTOR) else parser(kind)


def column_of(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Make a column of what `cell_parser` gives."""
    if is_kind(kind, VECTOR):
        return Vectors.of_rows(values).to_arrow()
    return pa.array(values, kind)


def csv_lines(params: Mapping[str, Any], types: Sequence[pa.DataType]) -> Any:
    """Make the task that reads lines as CSV.

    What is wrong fails the job; with ``lenient`` the fields that are wrong or missing are NULL,
    with ``handleInvalidMethod="SKIP"`` the row is left out.
    """
    delimiter, quote = params["fieldDelimiter"], params["quoteChar"]
    names = parse_schema(params["schemaStr"]).names
    lenient, blank_is_nothing = params["lenient"], params["skipBlankLine"]
    skip = (params["handleInvalidMethod"] or "ERROR").upper() == "SKIP"
    parsers = [cell_parser(kind) for kind in types]

    def read(line: str) -> list[Any]:
        try:
            fields = split_csv(line, delimiter, quote)
        except Unreadable:
            if not lenient:
                raise
            fields = list(line.split(delimiter))
        if len(fields) != len(names):
            if not lenient and line.strip():
                raise Unreadable(
                    f"{line!r:.80} has {len(fields)} fields where {len(names)} are expected"
                )
            fields = [*fields, *[None] * len(names)][: len(names)]
        values: list[Any] = []
        for name, parse, field in zip(names, parsers, fields, strict=True):
            try:
                values.append(None if field is None else parse(field))
            except (Unreadable, pa.ArrowException) as error:
                if not lenient:
                    raise Unreadable(f"column {name}: {error}") from None
                values.append(None)
        return values

    def run(batch: pa.RecordBatch) -> Expansion:
        at: list[int] = []
        rows: list[list[Any]] = []
        for i, line in enumerate(batch.column("text").to_pylist()):
            if blank_is_nothing and not line.strip():
                continue
            try:
                rows.append(read(line))
                at.append(i)
            except Unreadable:
                if not skip:
                    raise
        columns = [column_of([row[i] for row in rows], kind) for i, kind in enumerate(types)]
        return Expansion(pa.array(at, pa.int64()), columns)

    return run


def cells(params: Mapping[str, Any], types: Sequence[pa.DataType]) -> Any:
    """Make the task that reads columns of texts as vectors; ``columns`` names them."""
    del types

    def run(batch: pa.RecordBatch) -> list[pa.Array]:
        return [read_vectors(batch, name).to_arrow() for name in params["columns"]]

    return run


def libsvm(params: Mapping[str, Any], types: Sequence[pa.DataType]) -> Any:
    """Make the task that reads lines ``label index:value …``; the first index is startIndex."""
    del types
    start = params["startIndex"]

    def run(batch: pa.RecordBatch) -> Expansion:
        at: list[int] = []
        labels: list[float] = []
        vectors: list[tuple[int, Sequence[int], Sequence[float]]] = []
        for i, line in enumerate(batch.column("text").to_pylist()):
            label, _, rest = line.strip().partition(" ")
            if not label:
                continue
            _, indices, values = parse_vector(rest)
            if indices is None or rest.lstrip().startswith("$"):
                raise Unreadable(f"{line!r:.80} is not label index:value …")
            if indices and indices[0] < start:
                raise Unreadable(f"{line!r:.80} has an index below startIndex, {start}")
            at.append(i)
            labels.append(parse_double(label))
            vectors.append((-1, [index - start for index in indices], values))
        columns = [pa.array(labels, pa.float64()), Vectors.of_rows(vectors).to_arrow()]
        return Expansion(pa.array(at, pa.int64()), columns)

    return run


def ak_files(params: Mapping[str, Any], types: Sequence[pa.DataType]) -> Any:
    """Make the task that reads .ak files; their paths are in the column ``path``."""
    del params, types

    def run(batch: pa.RecordBatch) -> Expansion:
        parts: list[pa.RecordBatch] = []
        counts: list[int] = []
        for path in batch.column("path").to_pylist():
            parts.append(_ak.read(path))
            counts.append(parts[-1].num_rows)
        rows = np.repeat(np.arange(len(counts)), counts)
        together = pa.Table.from_batches(parts).combine_chunks()
        return Expansion(pa.array(rows), [_ak.one_chunk(column) for column in together.columns])

    return run


# --- random rows ---

Draw = Callable[[int, int, "npt.NDArray[np.int64]"], "npt.NDArray[np.float64]"]


def random_table(params: Mapping[str, Any], types: Sequence[pa.DataType]) -> Any:
    """Make the task that draws a value for each of ``columns``: {name, kind, args, nulls}.

    The kinds are uniform and uniform_open (from, to), gauss (mean, deviation), poisson (mean)
    and weight_set (value, weight, value, weight, …).
    """
    seed, columns = params["seed"], params["columns"]

    def run(batch: pa.RecordBatch) -> list[pa.Array]:
        rows = numpy_of(batch.column(params["rows"]))
        result: list[pa.Array] = []
        for i, column in enumerate(columns):
            drawn = _drawn(column, seed, 4 * i, rows)
            mask = uniform(seed, 4 * i + 3, rows) < column["nulls"] if column["nulls"] else None
            result.append(pa.array(drawn, types[i], mask=mask))
        return result

    return run


def _drawn(
    column: Mapping[str, Any], seed: int, draw: int, rows: npt.NDArray[np.int64]
) -> npt.NDArray[Any]:
    kind, args = column["kind"], column["args"]
    if kind == "gauss":
        return args[0] + args[1] * normal(seed, draw, rows)
    if kind == "poisson":
        return poisson(seed, draw, rows, args[0]).astype(np.float64)
    drawn = uniform(seed, draw, rows)
    if kind == "weight_set":
        values, weights = np.array(args[::2]), np.array(args[1::2])
        sums = np.cumsum(weights)
        place = np.searchsorted(sums, drawn * sums[-1], side="right")
        return values[np.minimum(place, len(values) - 1)]
    if kind == "uniform_open":
        drawn = np.maximum(drawn, 2.0**-53)
    return args[0] + (args[1] - args[0]) * drawn


def random_vectors(params: Mapping[str, Any], types: Sequence[pa.DataType]) -> Any:
    """Make the task that draws sparse vectors, with a share ``sparsity`` of values."""
    del types
    seed, size = params["seed"], params["size"]
    count = min(size, round(size * params["sparsity"]))

    def run(batch: pa.RecordBatch) -> list[pa.Array]:
        rows = numpy_of(batch.column(params["rows"]))
        vectors: list[tuple[int, Sequence[int], Sequence[float]]] = []
        places = np.arange(size)
        for row in rows.tolist():
            ranks = np.argsort(uniform(seed, 2 * row, places), kind="stable")
            indices = np.sort(ranks[:count])
            values = uniform(seed, 2 * row + 1, places)[indices]
            vectors.append((size, indices.tolist(), values.tolist()))
        return [pa.array(Vectors.of_rows(vectors).to_texts(), pa.string())]

    return run


def chosen(params: Mapping[str, Any], types: Sequence[pa.DataType]) -> Any:
    """Make the task that gives each row a random number of times, ``ratio`` on average.

    ``rows`` names the column of the rows' numbers.
    """
    del types
    seed, ratio = params["seed"], params["ratio"]

    def run(batch: pa.RecordBatch) -> Expansion:
        times = poisson(seed, 0, numpy_of(batch.column(params["rows"])), ratio)
        return Expansion(pa.array(np.repeat(np.arange(batch.num_rows), times)), [])

    return run


def slowed(params: Mapping[str, Any], types: Sequence[pa.DataType]) -> Any:
    """Make the task that lets a row through each ``interval`` seconds."""
    del types

    def run(batch: pa.RecordBatch) -> list[pa.Array]:
        time.sleep(params["interval"] * batch.num_rows)
        return []

    return run
