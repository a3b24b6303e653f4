"""Polars in this process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import contract
import polars as pl

ROWS, BATCHES = "Polars, map_elements", "Polars, map_batches and map_groups"


def line_row(row: dict[str, float]) -> float:
    return contract.line(row["a"], row["b"])


def line_batch(columns: Sequence[pl.Series]) -> pl.Series:
    return contract.line(*columns)


def product(columns: Sequence[pl.Series]) -> pl.Series:
    return pl.Series([contract.product(dict(zip(("a", "b"), columns, strict=True)))])


def numbers(path: Path, applied: pl.Expr) -> float:
    """Sum what a function of numbers gives."""
    return float(pl.scan_parquet(path).select(applied.sum()).collect().item())


def texts(path: Path, applied: pl.Expr) -> float:
    """Count what a function of text gives."""
    ends = applied.str.ends_with("F").sum()
    return float(pl.scan_parquet(path).select(ends).collect().item())


def groups(path: Path) -> float:
    """Sum the aggregates of all keys."""
    applied = pl.map_groups(["a", "b"], product, return_dtype=pl.Float64, returns_scalar=True)
    made = pl.scan_parquet(path).group_by(pl.col("id") % 1000).agg(p=applied)
    return float(made.select(pl.col("p").sum()).collect().item())


row = pl.struct("a", "b").map_elements(line_row, return_dtype=pl.Float64)
row_text = pl.col("s").map_elements(contract.shout, return_dtype=pl.String)
batch = pl.map_batches(["a", "b"], line_batch, return_dtype=pl.Float64)
batch_text = pl.col("s").map_batches(lambda s: s.str.to_uppercase(), return_dtype=pl.String)

if __name__ == "__main__":
    contract.main(
        lambda path: numbers(path, row),
        {
            (ROWS, contract.ROW): lambda path: numbers(path, row),
            (ROWS, contract.ROW_TEXT): lambda path: texts(path, row_text),
            (BATCHES, contract.VECTOR): lambda path: numbers(path, batch),
            (BATCHES, contract.VECTOR_TEXT): lambda path: texts(path, batch_text),
            (BATCHES, contract.GROUPED): groups,
        },
        "polars",
    )
