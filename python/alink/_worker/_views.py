"""A column's buffers as numpy arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import types

if TYPE_CHECKING:
    import numpy as np


# Of numbers, by the numbers of Arrow's types.
_DTYPES = {
    type_.id: dtype
    for type_, dtype in (
        (pa.int8(), "i1"),
        (pa.int16(), "i2"),
        (pa.int32(), "i4"),
        (pa.int64(), "i8"),
        (pa.uint8(), "u1"),
        (pa.uint16(), "u2"),
        (pa.uint32(), "u4"),
        (pa.uint64(), "u8"),
        (pa.float16(), "f2"),
        (pa.float32(), "f4"),
        (pa.float64(), "f8"),
    )
}


def has_numpy_type(type_: pa.DataType) -> bool:
    """Tell whether ``numbers`` can show a column of the type."""
    return (
        type_.id in _DTYPES
        or types.is_date32(type_)
        or types.is_timestamp(type_)
        or types.is_duration(type_)
    )


def numbers(array: pa.Array) -> np.ndarray[Any, Any]:
    """Show a column of numbers or times as a numpy array, without a copy but for dates.

    The array is read-only; what lies under a NULL may be anything.
    """
    type_ = array.type
    dtype = _DTYPES.get(type_.id)
    if dtype is not None:
        return fixed(array, dtype)
    if types.is_date32(type_):
        dtype = "i4"
    else:
        dtype = f"{'M' if types.is_timestamp(type_) else 'm'}8[{type_.unit}]"
    values = fixed(array, dtype)
    return values.astype("M8[D]") if types.is_date32(type_) else values


def fixed(array: pa.Array, dtype: str) -> np.ndarray[Any, Any]:
    """Show a column's values of a fixed width as a read-only array of a type of numpy's."""
    import numpy as np

    data = array.buffers()[1]
    if data is None:
        return np.empty(0, dtype)
    values = np.frombuffer(data, dtype)[array.offset : array.offset + len(array)]
    values.flags.writeable = False
    return values


def bits(bitmap: pa.Buffer, array: pa.Array) -> np.ndarray[Any, Any]:
    """Show one of a column's bitmaps as an array of booleans."""
    import numpy as np

    end = array.offset + len(array)
    packed = np.frombuffer(bitmap, np.uint8)[: (end + 7) // 8]
    return np.unpackbits(packed, bitorder="little")[array.offset : end].view(np.bool_)


def nulls(array: pa.Array) -> np.ndarray[Any, Any]:
    """Give a mask of a column's NULLs; it must have one."""
    return ~bits(array.buffers()[0], array)


def ends(array: pa.Array) -> np.ndarray[Any, Any]:
    """Give where each list of a column begins in the array below, and where the last one ends."""
    import numpy as np

    size = len(array)
    if types.is_fixed_size_list(array.type):
        return np.arange(array.offset, array.offset + size + 1) * array.type.list_size
    data = array.buffers()[1]
    if data is None or size == 0:
        return np.zeros(1, np.int64)
    kind = np.int64 if types.is_large_list(array.type) else np.int32
    return np.frombuffer(data, kind)[array.offset : array.offset + size + 1]
