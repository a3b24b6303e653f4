"""Values and columns: what is converted exactly, and what is refused."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections import namedtuple
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alink._worker._arrays import exact_cast, from_numpy, to_numpy
from alink._worker._columns import to_array
from alink._worker._exact import Misfit
from alink._worker._types import name_of
from alink._worker._values import to_values

UTC = dt.timezone.utc
EAST = dt.timezone(dt.timedelta(hours=2))
NOON = dt.datetime(2020, 1, 2, 12)
US, TZ = pa.timestamp("us"), pa.timestamp("us", "UTC")
LIST = pa.list_(pa.int64())
STRUCT = pa.struct([("a", pa.int64()), ("b", pa.string())])
MAP = pa.map_(pa.string(), pa.int64())
Pair = namedtuple("Pair", "a b")

ACCEPTED = [
    (pa.bool_(), True, True),
    (pa.bool_(), np.bool_(False), False),
    (pa.int8(), -128, -128),
    (pa.int64(), 3.0, 3),
    (pa.int64(), np.float64(3), 3),
    (pa.int64(), np.int8(3), 3),
    (pa.int64(), 2**63 - 1, 2**63 - 1),
    (pa.uint64(), 2**64 - 1, 2**64 - 1),
    (pa.uint64(), np.uint64(2**64 - 1), 2**64 - 1),
    (pa.float64(), 1, 1.0),
    (pa.float64(), 2**53, 2.0**53),
    (pa.float64(), math.inf, math.inf),
    (pa.float64(), np.float32(0.5), 0.5),
    (pa.float64(), np.int64(7), 7.0),
    (pa.float32(), 0.1, float(np.float32(0.1))),
    (pa.float32(), math.inf, math.inf),
    (pa.float32(), 3.4028235e38, float(np.float32(3.4028235e38))),
    (pa.string(), "é", "é"),
    (pa.string(), np.str_("x"), "x"),
    (pa.large_string(), "x", "x"),
    (pa.binary(), b"\xff", b"\xff"),
    (pa.binary(), bytearray(b"x"), b"x"),
    (pa.binary(), memoryview(b"x"), b"x"),
    (pa.date32(), dt.date(2020, 1, 2), dt.date(2020, 1, 2)),
    (pa.date32(), dt.datetime(2020, 1, 2), dt.date(2020, 1, 2)),
    (pa.date32(), np.datetime64("2020-01-02"), dt.date(2020, 1, 2)),
    (pa.date32(), np.datetime64("2020-01"), dt.date(2020, 1, 1)),
    (pa.time64("us"), dt.time(1, 2, 3, 4), dt.time(1, 2, 3, 4)),
    (pa.time32("s"), dt.time(1, 2, 3), dt.time(1, 2, 3)),
    (US, NOON, NOON),
    (US, dt.date(2020, 1, 2), dt.datetime(2020, 1, 2)),
    (US, np.datetime64("2020-01-02T12"), NOON),
    (US, np.datetime64(NOON, "ns"), NOON),
    (US, pd.Timestamp(NOON), NOON),
    (US, dt.datetime(1, 1, 1), dt.datetime(1, 1, 1)),
    (pa.timestamp("s"), NOON, NOON),
    (TZ, NOON.replace(tzinfo=EAST), dt.datetime(2020, 1, 2, 10, tzinfo=UTC)),
    (TZ, np.datetime64("2020-01-02T12"), NOON.replace(tzinfo=UTC)),
    (TZ, pd.Timestamp(NOON, tz="UTC"), NOON.replace(tzinfo=UTC)),
    (pa.duration("us"), dt.timedelta(days=-1), dt.timedelta(days=-1)),
    (pa.duration("us"), np.timedelta64(5, "h"), dt.timedelta(hours=5)),
    (pa.decimal128(5, 2), Decimal("1.5"), Decimal("1.50")),
    (pa.decimal128(5, 2), 7, Decimal("7.00")),
    (pa.month_day_nano_interval(), dt.timedelta(1, 2), pa.MonthDayNano([0, 1, 2_000_000_000])),
    (LIST, [1, None], [1, None]),
    (LIST, (1.0,), [1]),
    (LIST, np.array([1, 2]), [1, 2]),
    (LIST, range(2), [0, 1]),
    (pa.list_(US), [NOON], [NOON]),
    (pa.list_(pa.int64(), 2), [1, 2], [1, 2]),
    (STRUCT, {"a": 1, "b": "x"}, {"a": 1, "b": "x"}),
    (STRUCT, {"b": "x"}, {"a": None, "b": "x"}),
    (STRUCT, Pair(1, "x"), {"a": 1, "b": "x"}),
    (MAP, {"k": 1}, [("k", 1)]),
    (MAP, [("k", 1)], [("k", 1)]),
    (MAP, [], []),
]
NULLS = [None, pd.NA, pd.NaT, np.ma.masked, np.datetime64("NaT", "s")]

REFUSED = [
    (pa.bool_(), 1, "int"),
    (pa.bool_(), "true", "str"),
    (pa.int64(), True, "bool"),
    (pa.int64(), np.bool_(True), "np.bool"),
    (pa.int64(), 3.5, "float"),
    (pa.int64(), math.nan, "float"),
    (pa.int64(), math.inf, "float"),
    (pa.int64(), 2**63, "int"),
    (pa.int64(), 1e300, "float"),
    (pa.int64(), "3", "str"),
    (pa.int64(), Decimal(3), "Decimal"),
    (pa.int64(), NOON, "datetime"),
    (pa.int8(), 128, "int"),
    (pa.int8(), np.int64(300), "np.int64"),
    (pa.uint8(), -1, "int"),
    (pa.float64(), True, "bool"),
    (pa.float64(), "1.0", "str"),
    (pa.float64(), 2**53 + 1, "int"),
    (pa.float64(), Decimal("0.1"), "Decimal"),
    (pa.float64(), 1j, "complex"),
    (pa.float64(), np.longdouble(1), "np.longdouble"),
    (pa.float64(), [1.0], "list"),
    (pa.float64(), np.array([1.0]), "np.ndarray"),
    (pa.float32(), 1e300, "float"),
    (pa.float32(), 3.5e38, "float"),
    (pa.float32(), 2**24 + 1, "int"),
    (pa.string(), b"x", "bytes"),
    (pa.string(), 1, "int"),
    (pa.string(), "\ud800", "str"),
    (pa.binary(), "x", "str"),
    (pa.binary(4), b"xxx", "bytes"),
    (pa.date32(), 1, "int"),
    (pa.date32(), NOON, "datetime"),
    (pa.date32(), np.datetime64("2020-01-01T01"), "np.datetime64"),
    (pa.time64("us"), 1, "int"),
    (pa.time64("us"), dt.time(1, tzinfo=UTC), "time"),
    (pa.time32("s"), dt.time(1, 2, 3, 4), "time"),
    (US, 1, "int"),
    (US, "2020-01-01", "str"),
    (US, NOON.replace(tzinfo=UTC), "datetime"),
    (US, np.datetime64("2020-01-01T00:00:00.000000001"), "np.datetime64"),
    (US, pd.Timestamp("2020-01-01T00:00:00.000000001"), "pd.Timestamp"),
    (US, np.timedelta64(1, "s"), "np.timedelta64"),
    (TZ, NOON, "datetime"),
    (TZ, dt.date(2020, 1, 2), "date"),
    (pa.timestamp("s"), NOON.replace(microsecond=1), "datetime"),
    (pa.timestamp("ns"), dt.datetime(3000, 1, 1), "datetime"),
    (pa.duration("us"), 1, "int"),
    (pa.duration("s"), dt.timedelta(microseconds=1), "timedelta"),
    (pa.decimal128(5, 2), 1.5, "float"),
    (pa.decimal128(5, 2), Decimal("1.555"), "Decimal"),
    (pa.decimal128(5, 2), Decimal("NaN"), "Decimal"),
    (pa.decimal128(5, 2), 100_000, "int"),
    (pa.decimal128(5, 2), True, "bool"),
    (LIST, "ab", "str"),
    (LIST, b"ab", "bytes"),
    (LIST, {1}, "set"),
    (LIST, [1.5], "float"),
    (LIST, ["x"], "str"),
    (pa.list_(pa.int64(), 2), [1], "list"),
    (STRUCT, (1, "x"), "tuple"),
    (STRUCT, {"a": 1, "c": 2}, "dict"),
    (STRUCT, {"a": "x"}, "str"),
    (MAP, {"k": "v"}, "str"),
    (MAP, {None: 1}, "dict"),
    (MAP, "ab", "str"),
    (pa.null(), 1, "int"),
]


def describe(case):
    # Addresses would differ between processes that share the tests.
    value = re.sub(" at 0x[0-9a-f]+", "", repr(case[1]))
    return f"{name_of(case[0])}-{value}"[:60]


@pytest.mark.parametrize(("type_", "value", "expected"), ACCEPTED, ids=map(describe, ACCEPTED))
def test_values_that_fit(type_, value, expected):
    array = to_array([None, value, value], type_)
    assert array.type == type_
    assert to_values(array) == [None, expected, expected]
    assert list(map(type, to_values(array)[1:])) == [type(expected)] * 2


@pytest.mark.parametrize(("type_", "value", "got"), REFUSED, ids=map(describe, REFUSED))
def test_values_that_do_not_fit(type_, value, got):
    with pytest.raises(Misfit) as caught:
        to_array([None, None, value], type_)
    assert caught.value.row == 2
    assert caught.value.got.rstrip("_") == got


@pytest.mark.parametrize("null", NULLS, ids=repr)
@pytest.mark.parametrize("type_", [pa.int64(), pa.float64(), pa.string(), US, LIST], ids=str)
def test_what_counts_as_null(type_, null):
    assert to_array([null, None], type_).null_count == 2


def test_nan_is_a_value():
    array = to_array([math.nan, None], pa.float64())
    assert array.null_count == 1
    assert math.isnan(array[0].as_py())


def test_a_misfit_among_many_is_found():
    with pytest.raises(Misfit) as caught:
        to_array([1.0] * 5000 + [True] + [2.0] * 100, pa.float64())
    assert (caught.value.row, caught.value.got, caught.value.expected) == (5000, "bool", "double")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.none() | st.floats() | st.integers() | st.booleans() | st.text(max_size=3)))
def test_doubles_hold_what_they_say(values):
    fits = [
        value is None or isinstance(value, float) or (type(value) is int and abs(value) <= 2**53)
        for value in values
    ]
    if all(fits):
        back = to_array(values, pa.float64()).to_pylist()
        expected = [None if value is None else float(value) for value in values]
        assert list(map(repr, back)) == list(map(repr, expected))  # NaN is not equal to NaN
    else:
        with pytest.raises(Misfit) as caught:
            to_array(values, pa.float64())
        assert caught.value.row == fits.index(False)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.none() | st.floats() | st.integers(-(2**70), 2**70) | st.booleans()))
def test_bigints_hold_what_they_say(values):
    def fits(value):
        if isinstance(value, float):
            return value.is_integer() and -(2**63) <= value < 2**63
        return value is None or (not isinstance(value, bool) and -(2**63) <= value < 2**63)

    if all(map(fits, values)):
        assert to_array(values, pa.int64()).to_pylist() == values
    else:
        with pytest.raises(Misfit) as caught:
            to_array(values, pa.int64())
        assert caught.value.row == next(i for i, v in enumerate(values) if not fits(v))


def test_nanoseconds_become_datetimes():
    array = pa.array([1_577_836_800_000_001_000, None], pa.timestamp("ns"))
    assert to_values(array) == [dt.datetime(2020, 1, 1, 0, 0, 0, 1), None]
    assert type(to_values(array)[0]) is dt.datetime  # not a pandas Timestamp
    nested = pa.array([[1_577_836_800_000_001_000]], pa.list_(pa.timestamp("ns")))
    assert type(to_values(nested)[0][0]) is dt.datetime
    with pytest.raises(Misfit) as caught:
        to_values(pa.array([0, 1], pa.timestamp("ns")))
    assert caught.value.row == 1
    assert caught.value.argument


@pytest.mark.parametrize(
    ("type_", "values", "dtype"),
    [
        (pa.int8(), [1, -2, 3], "int8"),
        (pa.uint64(), [1, 2**64 - 1, 3], "uint64"),
        (pa.float16(), [np.float16(1), np.float16(2), np.float16(3)], "float16"),
        (pa.float32(), [1.0, 2.0, 3.0], "float32"),
        (pa.float64(), [1.0, math.inf, 3.0], "float64"),
        (pa.bool_(), [True, False, True], "bool"),
        (pa.string(), ["a", "", "é"], "object"),
        (pa.binary(), [b"a", b"", b"\xff"], "object"),
        (pa.date32(), [dt.date(2020, 1, i) for i in (1, 2, 3)], "datetime64[D]"),
        (pa.time64("us"), [dt.time(i) for i in (1, 2, 3)], "object"),
        (US, [NOON] * 3, "datetime64[us]"),
        (TZ, [NOON.replace(tzinfo=UTC)] * 3, "datetime64[us]"),
        (pa.timestamp("ns"), [NOON] * 3, "datetime64[ns]"),
        (pa.duration("ms"), [dt.timedelta(i) for i in (1, 2, 3)], "timedelta64[ms]"),
        (pa.decimal128(5, 2), [Decimal(1), Decimal(2), Decimal(3)], "object"),
        (pa.list_(pa.float64()), [[1.0, 2.0], [], [3.0]], "object"),
        (pa.list_(pa.float64(), 2), [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], "object"),
        (STRUCT, [{"a": 1, "b": "x"}, {"a": 2, "b": None}, {"a": None, "b": ""}], "object"),
    ],
    ids=lambda x: str(x) if isinstance(x, pa.DataType) else "",
)
def test_numpy_and_back(type_, values, dtype):
    whole = pa.array([values[0], *values, values[0]], type_)
    nulls = pa.array([None, values[0], None, *values[2:], None], type_)
    for array in (whole, whole.slice(1, 3), whole.slice(1, 0), nulls, nulls.slice(1, 3)):
        shown = to_numpy(array)
        assert shown.dtype == dtype
        assert isinstance(shown, np.ma.MaskedArray) == (array.null_count > 0)
        assert len(shown) == len(array)
        assert from_numpy(shown, type_, copy=False).equals(array)
        assert from_numpy(shown, type_, copy=True).equals(array)


def test_numbers_are_views_and_read_only():
    array = pa.array([1.0, 2.0, 3.0])
    shown = to_numpy(array.slice(1))
    assert shown.__array_interface__["data"][0] == array.buffers()[1].address + 8
    assert not shown.flags.writeable


def test_what_lies_under_a_null_is_always_the_same():
    hidden = pa.Array.from_buffers(
        pa.int64(), 2, [pa.py_buffer(b"\x02"), pa.py_buffer(np.array([99, 1]))]
    )
    assert to_numpy(hidden).data.tolist() == [0, 1]


NUMPY_ACCEPTED = [
    (pa.float64(), np.array([1, 2]), [1.0, 2.0]),
    (pa.float64(), np.array([1, 2], "f4"), [1.0, 2.0]),
    (pa.float64(), np.array([1, 2], ">f8"), [1.0, 2.0]),
    (pa.float32(), np.array([0.5, np.inf]), [0.5, np.inf]),
    (pa.int64(), np.array([1.0, -2.0]), [1, -2]),
    (pa.int8(), np.array([1, 2]), [1, 2]),
    (pa.int64(), np.array([1, 2], "u8"), [1, 2]),
    (pa.int64(), np.ma.MaskedArray([1.0, 2.5], mask=[False, True]), [1, None]),
    (pa.int64(), np.ma.MaskedArray([1, 2]), [1, 2]),
    (pa.int64(), [1, None], [1, None]),
    (pa.int64(), np.arange(6)[::3], [0, 3]),
    (pa.int64(), np.array([1, None, 2.0], object), [1, None, 2]),
    (pa.int64(), pd.Series([1, 2]), [1, 2]),
    (pa.int64(), pa.array([1, 2]), [1, 2]),
    (pa.float64(), pa.chunked_array([[1], [2]]), [1.0, 2.0]),
    (pa.string(), np.array(["a", "bc"]), ["a", "bc"]),
    (pa.string(), np.array(["a", None], object), ["a", None]),
    (pa.binary(), np.array([b"a", b"bc"]), [b"a", b"bc"]),
    (pa.bool_(), np.array([True, False]), [True, False]),
    (US, np.array(["2020-01-02T12", "NaT"], "M8[h]"), [NOON, None]),
    (US, np.array(["2020-01"], "M8[M]"), [dt.datetime(2020, 1, 1)]),
    (TZ, np.array(["2020-01-02T12"], "M8[s]"), [NOON.replace(tzinfo=UTC)]),
    (pa.date32(), np.array(["2020-01-02"], "M8[s]"), [dt.date(2020, 1, 2)]),
    (pa.duration("us"), np.array([1], "m8[D]"), [dt.timedelta(1)]),
    (pa.decimal128(5, 2), np.array([1, 2]), [Decimal(1), Decimal(2)]),
    (LIST, np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
    (pa.list_(pa.float64(), 2), np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
]

NUMPY_REFUSED = [
    (pa.int64(), np.array([1.0, 2.5]), 1, "array of float64"),
    (pa.int64(), np.array([1.0, np.nan]), 1, "array of float64"),
    (pa.int64(), np.array([2**63], "u8"), 0, "array of uint64"),
    (pa.int8(), np.arange(1000), 128, "array of int64"),
    (pa.float64(), np.array([0, 2**53 + 1]), 1, "array of int64"),
    (pa.float64(), np.array([True]), None, "array of bool"),
    (pa.float64(), np.array(["1"]), None, "array of <U1"),
    (pa.float64(), np.array([1j]), None, "array of complex128"),
    (pa.float64(), np.array([1, "x"], object), 1, "str"),
    (pa.float32(), np.array([1.0, 1e300]), 1, "array of float64"),
    (pa.bool_(), np.array([1]), None, "array of int64"),
    (pa.string(), np.array([1]), None, "array of int64"),
    (pa.string(), np.array([b"x"]), None, "array of |S1"),
    (US, np.array([1]), None, "array of int64"),
    (US, np.array(["2020-01-01T00:00:00.000000001"], "M8[ns]"), 0, "timestamp_ns"),
    (pa.date32(), np.array(["2020-01-01", "2020-01-01T01"], "M8[h]"), 1, "timestamp_s"),
    (pa.decimal128(5, 2), np.array([1.5]), None, "array of float64"),
    (pa.decimal128(5, 2), np.array([1, 1000]), 1, "array of int64"),
    (pa.float64(), np.float64(1), None, "np.float64"),
    (pa.float64(), 1.0, None, "float"),
    (pa.float64(), None, None, "NoneType"),
    (pa.float64(), "abc", None, "str"),
    (pa.float64(), {1: 2}, None, "dict"),
    (pa.float64(), np.array(1.0), None, "an array of 0 dimensions"),
    (pa.float64(), np.zeros((2, 2)), None, "an array of 2 dimensions"),
]


@pytest.mark.parametrize(
    ("type_", "result", "values"), NUMPY_ACCEPTED, ids=map(describe, NUMPY_ACCEPTED)
)
def test_arrays_that_fit(type_, result, values):
    array = from_numpy(result, type_, copy=True)
    assert array.type == type_
    assert array.to_pylist() == values


@pytest.mark.parametrize(
    ("type_", "result", "row", "got"), NUMPY_REFUSED, ids=map(describe, NUMPY_REFUSED)
)
def test_arrays_that_do_not_fit(type_, result, row, got):
    with pytest.raises(Misfit) as caught:
        from_numpy(result, type_, copy=True)
    assert (caught.value.row, caught.value.got) == (row, got)


@pytest.mark.parametrize(
    ("array", "type_", "values"),
    [
        (pa.array([1, 2]), pa.float64(), [1.0, 2.0]),
        (pa.array([None, None]), STRUCT, [None, None]),
        (pa.array(["a"]).dictionary_encode(), pa.string(), ["a"]),
        (pa.array(["a"]), pa.large_string(), ["a"]),
        (pa.array([[1], None]), pa.list_(pa.float64()), [[1.0], None]),
        (
            pa.array([{"a": 1.0, "b": None}]),
            pa.struct([("a", pa.int64()), ("b", pa.string())]),
            [{"a": 1, "b": None}],
        ),
        (pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int8())), MAP, [[("a", 1)]]),
        (pa.array([dt.datetime(2020, 1, 2)]), pa.date32(), [dt.date(2020, 1, 2)]),
        (pa.array([dt.date(2020, 1, 2)]), US, [dt.datetime(2020, 1, 2)]),
        (pa.array([Decimal("1.0")]), pa.int64(), [1]),
    ],
    ids=lambda x: str(x) if isinstance(x, pa.DataType) else "",
)
def test_casts_that_lose_nothing(array, type_, values):
    assert exact_cast(array, type_).to_pylist() == values


@pytest.mark.parametrize(
    ("array", "type_", "row"),
    [
        (pa.array([1.0, 1.5]), pa.int64(), 1),
        (pa.array([[1.0], [1.5]]), LIST, 1),
        (pa.array([NOON]), pa.date32(), 0),
        (pa.array([NOON]), TZ, None),
        (pa.array([NOON.replace(tzinfo=UTC)]), US, None),
        (pa.array([1]), pa.string(), None),
        (pa.array([True]), pa.int64(), None),
        (pa.array(["1"]), pa.int64(), None),
        (pa.array(["a"]), pa.binary(), None),
        (pa.array([{"a": 1, "c": 2}]), STRUCT, None),
        (pa.array([{"a": 1}]), STRUCT, None),
        (pa.array([{"a": 1.5, "b": None}]), STRUCT, 0),
        (pa.array([Decimal("1.5")]), pa.int64(), 0),
        (pa.array([1.0, 1e300]), pa.float32(), 1),
    ],
    ids=lambda x: str(x) if isinstance(x, pa.DataType) else "",
)
def test_casts_that_would_lose_something(array, type_, row):
    with pytest.raises(Misfit) as caught:
        exact_cast(array, type_)
    assert caught.value.row == row


@pytest.mark.parametrize(
    ("type_", "name"),
    [
        (pa.int64(), "bigint"),
        (pa.float64(), "double"),
        (pa.string(), "string"),
        (US, "timestamp"),
        (TZ, "timestamptz"),
        (pa.decimal128(10, 2), "decimal(10,2)"),
        (pa.list_(pa.int32()), "list<integer>"),
        (STRUCT, "struct<a: bigint, b: string>"),
        (MAP, "map<string, bigint>"),
    ],
)
def test_type_names_are_the_engines(type_, name):
    assert name_of(type_) == name
