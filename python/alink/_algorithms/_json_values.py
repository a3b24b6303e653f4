"""Values at paths within texts of JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from ._casts import cast_column
from ._formats import json_text
from ._json import parse_json, parse_path, value_at
from ._strings import Unreadable

Params = Mapping[str, Any]
Types = Sequence[pa.DataType]


def json_values(params: Params, types: Types) -> Callable[[pa.RecordBatch], list[pa.Array]]:
    """Give the values at paths within texts of JSON."""
    column, skip = params["selectedCol"], params["skipFailed"]
    paths = [parse_path(path) for path in params["jsonPath"]]

    def texts(text: str | None) -> list[str | None]:
        if text is None or not text.strip():
            if skip:
                return [None] * len(paths)
            raise Unreadable(f"{'NULL' if text is None else 'an empty text'} is no JSON")
        try:
            value = parse_json(text)
        except Unreadable:
            if skip:
                return [None] * len(paths)
            raise
        found: list[str | None] = []
        for path, written in zip(paths, params["jsonPath"], strict=True):
            try:
                item = value_at(value, path)
            except LookupError:
                if not skip:
                    raise Unreadable(f"{text!r:.80} has nothing at {written}") from None
                item = None
            found.append(None if item is None else json_text(item))
        return found

    def run(batch: pa.RecordBatch) -> list[pa.Array]:
        try:
            rows = [texts(text) for text in batch.column(column).to_pylist()]
            return [
                cast_column(pa.array([row[i] for row in rows], pa.string()), kind, skip)
                for i, kind in enumerate(types)
            ]
        except Unreadable as error:
            raise Unreadable(f"column {column!r}: {error}") from None

    return run
