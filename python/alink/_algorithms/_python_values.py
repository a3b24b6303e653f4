"""Values of vectors, tensors and tables as user functions see them, as in PyAlink.

A dense vector and a tensor are arrays of numpy, a sparse vector is a matrix of scipy with one
row, a table is a DataFrame of pandas.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ._strings import Unreadable
from ._tables import cell_table, table_cell
from ._tensors import cell_tensor, tensor_cell

_DTYPES = {
    "FLOAT": "<f4", "DOUBLE": "<f8", "INT": "<i4", "LONG": "<i8", "BOOLEAN": "?", "BYTE": "i1",
    "UBYTE": "u1", "STRING": "U",
}  # fmt: skip
_KINDS = {
    "f4": "FLOAT", "f8": "DOUBLE", "i4": "INT", "i8": "LONG", "b1": "BOOLEAN", "i1": "BYTE",
    "u1": "UBYTE",
}  # fmt: skip


def called(
    function: Callable[..., Any], inputs: Sequence[str], outputs: Sequence[str], rows: bool
) -> Callable[..., Any]:
    """Give a function with its arguments and results as Python has them.

    Parameters
    ----------
    function : callable
    inputs, outputs : sequence of {"", "VECTOR", "TENSOR", "MTABLE"}
        What each is; "" is left as it is.
    rows : bool
        Whether the function gives any number of rows.
    """

    def arguments(values: Sequence[Any]) -> list[Any]:
        return [
            v if not kind or v is None else READ[kind](v)
            for v, kind in zip(values, inputs, strict=True)
        ]

    def one(*values: Any) -> Any:
        return _written(function(*arguments(values)), outputs[0])

    def many(*values: Any) -> Any:
        for row in function(*arguments(values)) or ():
            parts = row if isinstance(row, (tuple, list)) else (row,)
            yield tuple(_written(v, kind) for v, kind in zip(parts, outputs, strict=True))

    return many if rows else one


def _written(value: Any, kind: str) -> Any:
    return value if not kind or value is None else WRITE[kind](value)


def _read_vector(cell: Mapping[str, Any]) -> Any:
    values = np.array(cell["values"], np.float64)
    if cell["indices"] is None:
        return values
    try:
        sparse = importlib.import_module("scipy.sparse")
    except ImportError:
        raise Unreadable(
            "a sparse vector comes as a matrix of scipy, which is not installed"
        ) from None
    indices = np.array(cell["indices"], np.int64)
    size = cell["size"] if cell["size"] >= 0 else int(indices.max(initial=-1)) + 1
    return sparse.csr_matrix((values, (np.zeros_like(indices), indices)), shape=(1, size))


def _write_vector(value: Any) -> dict[str, Any]:
    if hasattr(value, "tocoo"):  # a sparse matrix of scipy, of one row or one column
        coo = value.tocoo()
        row = coo.shape[0] == 1
        places = coo.col if row else coo.row
        order = np.argsort(places, kind="stable")
        return {
            "size": int(coo.shape[1] if row else coo.shape[0]),
            "indices": places[order].tolist(),
            "values": coo.data[order].tolist(),
        }
    values = np.asarray(value, np.float64).ravel().tolist()
    return {"size": len(values), "indices": None, "values": values}


def _read_tensor(cell: dict[str, Any]) -> Any:
    kind, shape, values = cell_tensor(cell)
    return np.array(values, _DTYPES[kind]).reshape(shape)


def _write_tensor(value: Any) -> dict[str, Any]:
    array = np.asarray(value)
    kind = "STRING" if array.dtype.kind in "UO" else _KINDS.get(array.dtype.str[1:])
    if kind is None:
        raise Unreadable(f"a tensor has no elements of type {array.dtype}")
    return tensor_cell(kind, list(array.shape), array.ravel().tolist())


def _read_table(cell: dict[str, Any]) -> Any:
    return cell_table(cell).to_pandas()


def _write_table(value: Any) -> dict[str, Any]:
    return table_cell(
        value if isinstance(value, pa.Table) else pa.Table.from_pandas(value, preserve_index=False)
    )


#: What makes of a cell the value that a function sees, and of that a cell.
READ: Mapping[str, Callable[[Any], Any]] = {
    "VECTOR": _read_vector,
    "TENSOR": _read_tensor,
    "MTABLE": _read_table,
}
WRITE: Mapping[str, Callable[[Any], Any]] = {
    "VECTOR": _write_vector,
    "TENSOR": _write_tensor,
    "MTABLE": _write_table,
}
