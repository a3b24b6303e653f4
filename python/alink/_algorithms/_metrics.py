"""Metrics as a row: JSON of each one's name and, as JSON again, its value; as Alink has them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from ._strings import text_of


def metrics_json(metrics: Mapping[str, Any]) -> str:
    """Write metrics; those that are None are left out."""
    given = {name: json.dumps(_plain(v)) for name, v in metrics.items() if v is not None}
    return json.dumps(given, ensure_ascii=False)


def metrics_row(metrics: Mapping[str, Any], column: str) -> pa.Table:
    """Give a table of one row of the metrics."""
    return pa.table({column: pa.array([metrics_json(metrics)], pa.string())})


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    return value


def texts(column: pa.Array) -> list[str | None]:
    """Give a column's values as texts, as Java writes them; NULL stays None."""
    encoded = column.dictionary_encode()
    known = [None if v is None else text_of(v) for v in encoded.dictionary.to_pylist()]
    places = encoded.indices.to_pylist()
    return [None if place is None else known[place] for place in places]


def label_text(text: str, kind: str) -> str:
    """Give a label's text as the label's column has it: ``1.0`` stands for the integer 1 too."""
    try:
        if kind in ("DOUBLE", "FLOAT"):
            return text_of(float(text))
        if kind in ("INT", "LONG", "SHORT", "BYTE", "BIGINT", "SMALLINT", "TINYINT"):
            number = float(text)
            return str(int(number)) if number.is_integer() and "." in text else text
    except ValueError:
        pass
    return text


def descending(labels: Iterable[str]) -> list[str]:
    """Order labels, the largest first: numbers by their values, else texts."""
    found = list(dict.fromkeys(labels))
    numbers = [_number(label) for label in found]
    if all(number is not None for number in numbers):
        order = sorted(range(len(found)), key=lambda i: (numbers[i], found[i]), reverse=True)
        return [found[i] for i in order]
    return sorted(found, reverse=True)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return None if math.isnan(number) else number
