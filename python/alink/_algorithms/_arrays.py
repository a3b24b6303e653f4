"""Arrow's arrays as numpy's, without pandas.

pyarrow imports pandas, where it is installed, when it makes a numpy array (``to_numpy``) and when
it infers the type of a Python value (``pc.equal(column, "")``). That takes a worker longer than
all else that it starts with, and no algorithm uses it: so arrays become numpy's here, and values
of Python are given with their types.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

#: By the names that Arrow prints.
_NUMPY = {"halffloat": np.float16, "float": np.float32, "double": np.float64} | {
    f"{sign}int{bits}": np.dtype(f"{sign}int{bits}")
    for sign in ("", "u")
    for bits in (8, 16, 32, 64)
}


def numpy_of(array: pa.Array | pa.ChunkedArray) -> npt.NDArray[Any]:
    """Give numbers or truth values as a numpy array, of which nothing is written.

    What has no NULL keeps its type, numbers of one chunk without a copy. NULLs among numbers are
    NaN, and integers with NULLs double.

    Raises
    ------
    TypeError
        If the array has another type, or NULLs among truth values.
    """
    if isinstance(array, pa.ChunkedArray):
        array = (
            array.chunk(0)
            if array.num_chunks == 1
            else pa.concat_arrays(array.chunks or _none_of(array))
        )
    if pa.types.is_boolean(array.type):
        if array.null_count:
            raise TypeError("truth values with NULLs are no array of numpy's")
        return _bits(array.buffers()[1], array.offset, len(array))
    kind = _NUMPY.get(str(array.type))
    if kind is None:
        raise TypeError(f"{array.type} is no type of numpy's")
    buffer = array.buffers()[1]
    if buffer is None:
        return np.zeros(len(array), kind)
    values: npt.NDArray[Any] = np.frombuffer(buffer, kind)[array.offset : array.offset + len(array)]
    if array.null_count:
        floating = np.issubdtype(values.dtype, np.floating)
        values = values.astype(values.dtype if floating else np.float64)
        values[~valid_rows(array)] = np.nan
    return values


def string(value: str) -> pa.StringScalar:
    """Give a text as a scalar that Arrow's functions take beside columns."""
    return pa.scalar(value, pa.string())


def valid_rows(array: pa.Array) -> npt.NDArray[np.bool_]:
    """Tell which rows are not NULL."""
    if not array.null_count:
        return np.ones(len(array), np.bool_)
    return numpy_of(array.is_valid())


def validity(array: pa.Array) -> npt.NDArray[np.bool_] | None:
    """Tell which rows are not NULL, as `valid_rows` does; None where no row is NULL."""
    return valid_rows(array) if array.null_count else None


def _none_of(array: pa.ChunkedArray) -> list[pa.Array]:
    return [pa.array([], array.type)]


def _bits(buffer: pa.Buffer | None, offset: int, count: int) -> npt.NDArray[np.bool_]:
    if buffer is None:
        return np.zeros(count, np.bool_)
    begin = offset // 8
    octets = np.frombuffer(buffer, np.uint8)[begin : (offset + count + 7) // 8]
    bits = np.unpackbits(octets, bitorder="little")[offset - 8 * begin :][:count]
    return bits.view(np.bool_)
