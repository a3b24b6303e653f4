"""Small tables that come along with the rows of a training: as a text in each batch's first row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from ._group import Group


class Attach:
    """Brings the texts of a table's first column along with rows, as a JSON list."""

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        del params, types
        self._text = ""

    def load(self, table: pa.Table) -> None:
        """Take the table."""
        self._text = json.dumps([text for text in table.column(0).to_pylist() if text is not None])

    def __call__(self, batch: pa.RecordBatch) -> Sequence[pa.Array]:
        """Give the column of the text."""
        return [beside(batch, self._text)]


def beside(batch: pa.RecordBatch, text: str) -> pa.Array:
    """Give a column with a text in the first row of a batch."""
    texts = [text] + [None] * (batch.num_rows - 1) if batch.num_rows else []
    return pa.array(texts, pa.string())


def brought(group: Group, column: str) -> str | None:
    """Give the text that has come along with rows; None where there are no rows."""
    mine = b""
    for batch in group:
        texts = batch.column(column).drop_null()
        if len(texts):
            mine = texts[0].as_py().encode()
            break
    found = next((text for text in group.gather(mine) if text), None)
    return None if found is None else found.decode()
