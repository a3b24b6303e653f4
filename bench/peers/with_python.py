"""The same functions in this process: a plain loop, numpy, pyarrow and pandas."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import contract
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

LOOP, COLUMNS = "in process, a loop", "in process, numpy, pyarrow and pandas"
BATCH_ROWS = 65_536


def batches(path: Path, *columns: str) -> Iterator[pa.RecordBatch]:
    """Read columns, batch by batch."""
    return pq.ParquetFile(path).iter_batches(BATCH_ROWS, columns=columns)


def ends(texts: pa.Array) -> int:
    """Count what a function of text gives."""
    return pc.sum(pc.ends_with(texts, "F")).as_py()


def row(path: Path) -> float:
    total = 0.0
    for batch in batches(path, "a", "b"):
        values = list(map(contract.line, batch["a"].to_pylist(), batch["b"].to_pylist()))
        total += pc.sum(pa.array(values, pa.float64())).as_py()
    return total


def row_text(path: Path) -> float:
    count = 0
    for batch in batches(path, "s"):
        count += ends(pa.array(list(map(contract.shout, batch["s"].to_pylist())), pa.string()))
    return count


def vector(path: Path) -> float:
    total = 0.0
    for batch in batches(path, "a", "b"):
        total += float(contract.line(batch["a"].to_numpy(), batch["b"].to_numpy()).sum())
    return total


def vector_text(path: Path) -> float:
    return sum(ends(pc.utf8_upper(batch["s"])) for batch in batches(path, "s"))


def groups(path: Path) -> float:
    frame = pq.read_table(path, columns=["id", "a", "b"]).to_pandas()
    return float(frame.groupby(frame["id"] % 1000)[["a", "b"]].apply(contract.product).sum())


if __name__ == "__main__":
    contract.main(
        row,
        {
            (LOOP, contract.ROW): row,
            (LOOP, contract.ROW_TEXT): row_text,
            (COLUMNS, contract.VECTOR): vector,
            (COLUMNS, contract.VECTOR_TEXT): vector_text,
            (COLUMNS, contract.GROUPED): groups,
        },
        "numpy pyarrow pandas",
    )
