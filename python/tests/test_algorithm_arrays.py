"""Arrow's arrays as numpy's: as pyarrow's own ``to_numpy`` gives them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from alink._algorithms._arrays import numpy_of, valid_rows

TYPES = [
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64()),
    *(pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
    *(pa.float16(), pa.float32(), pa.float64()),
    pa.bool_(),
]


def _values(kind: pa.DataType, count: int, nulls: bool) -> pa.Array:
    rng = np.random.default_rng(count)
    values = rng.integers(0, 2 if kind == pa.bool_() else 100, count)
    mask = rng.random(count) < 0.3 if nulls else None
    return pa.array(values, mask=mask).cast(kind)


@pytest.mark.parametrize("kind", TYPES, ids=str)
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 100])
def test_arrays_are_as_arrow_makes_them(kind: pa.DataType, count: int) -> None:
    for nulls in (False, kind != pa.bool_()):
        whole = _values(kind, count, nulls)
        for begin in (0, 1, 7, 8, 13):
            for length in (0, 1, 9, count):
                part = whole.slice(begin, length)
                want = part.to_numpy(zero_copy_only=False)
                found = numpy_of(part)
                assert found.dtype == want.dtype or part.null_count == len(part)
                np.testing.assert_array_equal(found, want)
                np.testing.assert_array_equal(valid_rows(part), part.is_valid().to_pylist())


def test_chunks_are_put_together() -> None:
    chunks = [pa.array([1, 2]), pa.array([], pa.int64()), pa.array([3])]
    assert numpy_of(pa.chunked_array(chunks)).tolist() == [1, 2, 3]
    assert numpy_of(pa.chunked_array([], pa.float32())).dtype == np.float32
    one = pa.chunked_array([pa.array([1.0, 2.0])])
    assert np.shares_memory(numpy_of(one), numpy_of(one.chunk(0)))


def test_what_numpy_has_no_type_for_is_refused() -> None:
    with pytest.raises(TypeError, match="string is no type"):
        numpy_of(pa.array(["a"]))
    with pytest.raises(TypeError, match="truth values with NULLs"):
        numpy_of(pa.array([True, None]))
