"""Ours, as a program of a user's has it: an engine of its own, the sandbox on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import contract

import alink as al

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa


class Product:
    """The mean of products as an aggregate with a state, which gets parts of a group."""

    def create(self) -> tuple[float, int]:
        return 0.0, 0

    def add(self, state: tuple[float, int], a: np.ndarray, b: np.ndarray) -> tuple[float, int]:
        return state[0] + float((a * b).sum()), state[1] + len(a)

    def merge(self, state: tuple[float, int], other: tuple[float, int]) -> tuple[float, int]:
        return state[0] + other[0], state[1] + other[1]

    def result(self, state: tuple[float, int]) -> float:
        return state[0] / state[1]


def product_of_group(group: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({"p": [contract.product(group)]})


def upper(s: pa.Array) -> pa.Array:
    import pyarrow.compute as pc

    return pc.utf8_upper(s)


def numbers(function: Any) -> Callable[[Path], float]:
    """Sum what a function of numbers gives."""
    return lambda path: total(al.read_parquet(str(path)).select(y=function("a", "b")), "y")


def texts(function: Any) -> Callable[[Path], float]:
    """Count what a function of text gives."""
    return lambda path: (
        al.read_parquet(str(path)).select(u=function("s")).filter("u LIKE '%F'").count()
    )


def aggregated(function: Any) -> Callable[[Path], float]:
    """Sum the aggregates of all keys."""
    return lambda path: total(keyed(path).agg(p=function("a", "b")), "p")


def mapped(function: Any) -> Callable[[Path], float]:
    """Sum what a function of groups gives."""
    return lambda path: total(keyed(path).map_groups(function), "p")


def keyed(path: Path) -> al.GroupBy:
    return al.read_parquet(str(path)).select("a", "b", k="id % 1000").group_by("k")


def total(table: al.Table, column: str) -> float:
    return float(table.agg(total=f"sum({column})").to_arrow()["total"][0].as_py())


def jobs() -> contract.Jobs:
    """Make the jobs for one worker and for two."""
    made: dict[tuple[str, str], Callable[[Path], float]] = {}
    for workers, line in enumerate(contract.OURS, 1):
        row = al.udf("double", workers=workers)(contract.line)
        row_text = al.udf("string", workers=workers)(contract.shout)
        vector = al.udf("double", batch="numpy", workers=workers)(contract.line)
        vector_text = al.udf("string", batch="arrow", workers=workers)(upper)
        state = "total double, n bigint"
        aggregate = al.udaf("double", state=state, batch="numpy", workers=workers)(Product)
        of_groups = al.map_groups("p double", columns=["a", "b"], batch="pandas", workers=workers)(
            product_of_group
        )
        made |= {
            (line, contract.ROW): numbers(row),
            (line, contract.ROW_TEXT): texts(row_text),
            (line, contract.VECTOR): numbers(vector),
            (line, contract.VECTOR_TEXT): texts(vector_text),
            (line, contract.GROUPED): aggregated(aggregate),
            (f"{line}, map_groups", contract.GROUPED): mapped(of_groups),
        }
    return made


if __name__ == "__main__":
    contract.main(numbers(al.udf("double")(contract.line)), jobs(), "alink pyarrow")
