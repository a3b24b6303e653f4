"""Conversions between formats that are made on whole columns: what they give is what rows give."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from alink._algorithms._formats import convert, java_doubles
from alink._algorithms._strings import java_double
from alink._algorithms._types import VECTOR
from alink._algorithms._vectors import Vectors

RANDOM = np.random.default_rng(3)


def test_doubles_are_written_as_one_by_one() -> None:
    values = np.concatenate([
        RANDOM.normal(size=3000) * 10.0 ** RANDOM.integers(-20, 20, 3000),
        RANDOM.integers(-(10**8), 10**8, 1000).astype(float),
        [0.0, -0.0, np.nan, np.inf, -np.inf, 1e-3, 1e7, 9999999.999999998, 5e-324, 1.7e308],
    ])  # fmt: skip
    assert java_doubles(pa.array(values)).to_pylist() == [java_double(v) for v in values.tolist()]
    some = pa.array([7.0, None, 2.5, 1e9, None], pa.float64())
    assert java_doubles(some.slice(1)).to_pylist() == [None, "2.5", "1.0E9", None]
    assert java_doubles(pa.array([], pa.float64())).to_pylist() == []


def vectors(columns: dict[str, pa.Array], **params: Any) -> list[str | None]:
    """Convert columns to vectors, and write them."""
    batch = pa.record_batch(columns)
    task = convert({"from": "Columns", "to": "Vector", "vectorSize": -1, **params}, [VECTOR])
    return Vectors.of(task(batch)[0]).to_texts()


@pytest.mark.parametrize("params", [{}, {"vectorSize": None}, {"selectedCols": ["b", "a"]}])
def test_columns_of_numbers_make_the_vectors_that_texts_make(params: dict[str, Any]) -> None:
    numbers = {
        "a": pa.array([1.5, -0.0, np.nan, 1e300]),
        "b": pa.array([1, 2, 2**53 + 1, -(2**63)], pa.int64()),
        "c": pa.array([0, 255, 7, 1], pa.uint8()),
    }
    found = vectors(numbers, **params)
    assert found == vectors(
        {name: text_column(column) for name, column in numbers.items()}, **params
    )


def text_column(column: pa.Array) -> pa.Array:
    if pa.types.is_floating(column.type):
        return pa.array([java_double(value) for value in column.to_pylist()])
    return column.cast(pa.string())


def test_columns_with_null_or_numbers_for_names_make_sparse_vectors() -> None:
    assert vectors({"a": pa.array([1.0, None]), "b": pa.array([2.0, 3.0])}) == ["1.0 2.0", "1:3.0"]
    named = {"3": pa.array([1.0]), "0": pa.array([2.0])}
    assert vectors(named, vectorSize=5) == ["$5$0:2.0 3:1.0"]
    assert vectors(named) == ["0:2.0 3:1.0"]


@pytest.mark.parametrize("names", [None, ["text", "a"], ["a", "a"]])
@pytest.mark.parametrize("skip", [False, True])
def test_columns_are_written_as_json_and_pairs_of_which_null_is_left_out(
    names: list[str] | None, skip: bool
) -> None:
    rows = {
        "a": pa.array([1.5, None, -0.0, 1e300], pa.float64()),
        "text": pa.array(['x "y"\\', "né 日本\n", None, "\x01,:"]),
        "whole": pa.array([1, None, None, 2**62], pa.int64()),
        "truth": pa.array([True, None, False, None]),
        'odd "name"': pa.array([1.0, None, 1.0, 2.5], pa.float32()),
    }
    given = {"from": "Columns", "selectedCols": names, "handleInvalid": "SKIP" if skip else None}
    texts = {
        "a": ["1.5", None, "-0.0", "1.0E300"],
        "text": rows["text"].to_pylist(),
        "whole": ["1", None, None, str(2**62)],
        "truth": ["true", None, "false", None],
        'odd "name"': ["1.0", None, "1.0", "2.5"],
    }
    kept = [{n: texts[n][i] for n in names or rows if texts[n][i] is not None} for i in range(4)]
    found = convert({**given, "to": "Json"}, [pa.string()])(pa.record_batch(rows))[0]
    assert [json.loads(text) for text in found.to_pylist()] == kept
    assert found.to_pylist() == [
        json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in kept
    ]
    pairs = {**given, "to": "Kv", "kvColDelimiter": ";;", "kvValDelimiter": "="}
    found = convert(pairs, [pa.string()])(pa.record_batch(rows))[0]
    assert found.to_pylist() == [";;".join(f"{k}={v}" for k, v in row.items()) for row in kept]
    nothing = convert({**given, "to": "Json"}, [pa.string()])(pa.record_batch(rows).slice(0, 0))
    assert nothing[0].to_pylist() == []
