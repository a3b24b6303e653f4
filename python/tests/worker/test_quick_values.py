"""The quick ways between columns and Python values do what looking at each value does."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alink._worker import _columns, _values
from alink._worker._columns import joined, to_array
from alink._worker._exact import Misfit
from alink._worker._forms import FORMS
from alink._worker._values import to_values

UTC = dt.timezone.utc
EAST = dt.timezone(dt.timedelta(hours=2))


def of_unit(unit, first=dt.datetime(1, 1, 1), last=dt.datetime(9999, 12, 31, 23, 59, 59)):
    """Times that a unit holds, as whole ones of it."""
    cut = {"s": 1_000_000, "ms": 1_000, "us": 1, "ns": 1}[unit]
    if unit == "ns":
        first, last = dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1)
    values = st.datetimes(first, last)
    return values.map(lambda v: v.replace(microsecond=v.microsecond // cut * cut))


def integers(bits, signed=True):
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    return st.integers(low, high)


def cents(precision):
    # From text, which keeps all digits: arithmetic rounds to those of the context.
    whole = st.integers(-(10**precision) + 1, 10**precision - 1)
    return whole.map(lambda v: Decimal(f"{v}E-2"))


PLAIN = {
    pa.bool_(): st.booleans(),
    pa.int8(): integers(8),
    pa.int16(): integers(16),
    pa.int32(): integers(32),
    pa.int64(): integers(64),
    pa.uint8(): integers(8, signed=False),
    pa.uint16(): integers(16, signed=False),
    pa.uint32(): integers(32, signed=False),
    pa.uint64(): integers(64, signed=False),
    pa.float32(): st.floats(width=32),
    pa.float64(): st.floats(),
    pa.string(): st.text(max_size=4),
    pa.large_string(): st.text(max_size=4),
    pa.binary(): st.binary(max_size=4),
    pa.binary(2): st.binary(min_size=2, max_size=2),
    pa.date32(): st.dates(),
    pa.date64(): st.dates(),
    pa.time32("s"): st.times().map(lambda v: v.replace(microsecond=0)),
    pa.time32("ms"): st.times().map(lambda v: v.replace(microsecond=1000)),
    pa.time64("us"): st.times(),
    pa.time64("ns"): st.times(),
    **{pa.timestamp(unit): of_unit(unit) for unit in ("s", "ms", "us", "ns")},
    **{
        pa.timestamp(unit, "UTC"): of_unit(unit).map(lambda v: v.replace(tzinfo=UTC))
        for unit in ("s", "us", "ns")
    },
    pa.timestamp("us", "Europe/Berlin"): of_unit(
        "us", dt.datetime(1900, 1, 1), dt.datetime(2100, 1, 1)
    ).map(lambda v: v.replace(tzinfo=UTC)),
    pa.duration("s"): st.integers(-(10**12), 10**12).map(lambda v: dt.timedelta(seconds=v)),
    pa.duration("us"): st.timedeltas(dt.timedelta(-100_000_000), dt.timedelta(100_000_000)),
    pa.duration("ns"): st.timedeltas(dt.timedelta(-100_000), dt.timedelta(100_000)),
    pa.decimal128(18, 2): cents(18),
    pa.decimal128(38, 2): cents(38),
    pa.decimal256(60, 2): cents(60),
    pa.month_day_nano_interval(): st.tuples(integers(16), integers(16), integers(32)).map(
        pa.MonthDayNano
    ),
    pa.null(): st.none(),
}


def nested(typed):
    """Types one level above others, each with a strategy for its values."""

    def lists(pair):
        type_, values = pair
        some = st.lists(st.none() | values, max_size=3)
        two = st.lists(st.none() | values, min_size=2, max_size=2)
        return st.sampled_from(
            [(pa.list_(type_), some), (pa.large_list(type_), some), (pa.list_(type_, 2), two)]
        )

    def structs(pairs):
        names = ["a", 'it\'s "b"', "ü"][: len(pairs)]
        type_ = pa.struct([(n, t) for n, (t, _) in zip(names, pairs, strict=True)])
        members = {n: st.none() | v for n, (_, v) in zip(names, pairs, strict=True)}
        return type_, st.fixed_dictionaries(members)

    def maps(pair):
        type_, values = pair
        entries = st.dictionaries(st.text(max_size=2), st.none() | values, max_size=3)
        return pa.map_(pa.string(), type_), entries

    return (
        typed.flatmap(lists)
        | st.lists(typed, min_size=1, max_size=3).map(structs)
        | typed.map(maps)
    )


TYPED = st.recursive(st.sampled_from(list(PLAIN.items())), nested, max_leaves=3)


@st.composite
def columns(draw):
    """A type, and values of it, None among them."""
    type_, values = draw(TYPED)
    return type_, draw(st.lists(st.none() | values, max_size=20))


def by_each_value(values, type_):
    """Convert values as to_array did before it knew quick ways."""
    conversion = _columns._Conversion(type_)
    exact = conversion.exact_all(values)
    try:
        return pa.array(exact, type_)
    except _columns._REFUSED:
        raise _columns._locate(values, conversion) from None


@pytest.fixture(params=[True, False], ids=["pyarrow in C", "pyarrow in Python"])
def in_c(request, monkeypatch):
    """Both ways of pyarrow, whichever is there."""
    monkeypatch.setattr(_values, "IN_C", request.param)
    monkeypatch.setattr(_values, "_unpackings", {})


@pytest.mark.usefixtures("in_c")
@settings(max_examples=100, deadline=None)
@given(columns(), st.integers(0, 10), st.integers(0, 10))
def test_values_are_those_of_to_pylist(column, offset, less):
    type_, values = column
    array = pa.array(values, type_)
    for part in (array, array.slice(offset), array.slice(offset, max(0, len(array) - less))):
        # Types show in how values are written, and NaN is written like NaN.
        assert repr(to_values(part)) == repr(_values._one_by_one(part))


@settings(max_examples=100, deadline=None)
@given(columns())
def test_columns_are_those_of_each_value(column):
    type_, values = column
    array = to_array(values, type_)
    array.validate(full=True)
    assert array.type == type_
    # Arrow's own comparison takes NaN for unlike NaN.
    assert repr(_values._one_by_one(array)) == repr(
        _values._one_by_one(by_each_value(values, type_))
    )


ODD = [
    True,
    0,
    2**70,
    1.5,
    math.nan,
    "x",
    "\ud800",
    b"x",
    bytearray(b"x"),
    dt.date(2020, 1, 2),
    dt.datetime(2020, 1, 2),
    dt.datetime(2020, 1, 2, 3, 4, 5, 6),
    dt.datetime(2020, 1, 2, 3, tzinfo=EAST),
    dt.datetime.max,
    dt.time(1, 2, 3, 4),
    dt.time(1, tzinfo=UTC),
    dt.timedelta(microseconds=1),
    dt.timedelta.max,
    Decimal("1.555"),
    pd.Timestamp("2020-01-01T00:00:00.000000001"),
    pd.Timedelta(1, "ns"),
    pd.NaT,
    pd.NA,
    np.float64(2.5),
    np.datetime64("2020-01-02T03", "s"),
    np.array([1, 2]),
    np.array([1.5, math.nan]),
    np.array(["a", "b"]),
    np.array([True, False]),
    np.array(["2020-01-01"], "M8[s]"),
    np.zeros((2, 2)),
    np.array(3),
    [],
    (),
    [1, 2],
    (1.0, None),
    [[1], [2]],
    [dt.datetime(2020, 1, 2), None],
    ["x", "y"],
    {},
    {"a": 1},
    {"a": 1, 'it\'s "b"': 2},
    {"a": "x", "ü": "x"},
    {"a": None, "b": 1, "c": 2},
    {None: 1},
    {"k": None},
    [("k", 1)],
    [("k", 1, 2)],
    [["k", 1]],
    [(None, 1)],
    pa.MonthDayNano([1, 2, 3]),
    object(),
]


@settings(max_examples=200, deadline=None)
@given(columns(), st.lists(st.sampled_from(ODD), min_size=1, max_size=3), st.integers(0, 20))
def test_what_is_refused_is_refused_at_the_same_row(column, odd, at):
    type_, values = column
    values = [*values[:at], *odd, *values[at:]]
    assert outcome(to_array, values, type_) == outcome(by_each_value, values, type_)


def outcome(convert, values, type_):
    """What a conversion gives: the values of the column, or how it is refused."""
    try:
        array = convert(values, type_)
    except Misfit as misfit:
        return misfit.row, misfit.got, misfit.expected, misfit.hint
    array.validate(full=True)
    return repr(_values._one_by_one(array))


# The least and the greatest number, none of which is a time of Python's.
BEYOND = [
    (pa.date32(), [0, 2**31 - 1, -(2**31)], "i4"),
    (pa.timestamp("s"), [0, 2**63 - 1, -(2**63)], "i8"),
    (pa.timestamp("us"), [0, 253_402_300_800_000_000, -62_135_596_800_000_001], "i8"),
    (pa.timestamp("us", "UTC"), [0, 253_402_300_800_000_000, -62_135_596_800_000_001], "i8"),
    (pa.timestamp("ns"), [0, 1, -1], "i8"),
    (pa.duration("s"), [0, 86_400 * 1_000_000_000, -(2**63)], "i8"),
    (pa.duration("ns"), [0, 1, -1], "i8"),
    (pa.time64("ns"), [0, 1, 999], "i8"),
]


@pytest.mark.parametrize(("type_", "ticks", "dtype"), BEYOND, ids=lambda x: str(x)[:20])
def test_what_python_cannot_hold(type_, ticks, dtype):
    data = pa.py_buffer(np.array(ticks, dtype))
    for last in (1, 2):
        array = pa.Array.from_buffers(type_, 3, [None, data]).take(pa.array([0, last]))
        with pytest.raises(Misfit) as caught:
            to_values(array)
        assert caught.value.row == 1
        assert caught.value.argument
    # Under a NULL anything may lie, in what is nested too.
    hidden = pa.Array.from_buffers(type_, 3, [pa.py_buffer(b"\x01"), data])
    first = to_values(hidden.slice(0, 1))[0]
    assert to_values(hidden) == [first, None, None]
    lists = pa.Array.from_buffers(
        pa.list_(type_),
        3,
        [pa.py_buffer(b"\x01"), pa.py_buffer(np.array([0, 1, 2, 3], "i4"))],
        children=[pa.Array.from_buffers(type_, 3, [None, data])],
    )
    assert to_values(lists) == [[first], None, None]


def test_the_last_moments_of_python():
    for value in (dt.datetime.min, dt.datetime.max):
        for zone in (None, UTC):
            type_ = pa.timestamp("us", "UTC" if zone else None)
            wanted = value.replace(tzinfo=zone)
            assert to_values(to_array([wanted, None], type_)) == [wanted, None]


def test_a_zone_is_the_object_that_pyarrow_takes():
    array = pa.array([dt.datetime(2020, 1, 1, tzinfo=UTC)], pa.timestamp("us", "UTC"))
    assert to_values(array)[0].tzinfo is array.to_pylist()[0].tzinfo


def test_a_column_beyond_two_gibibytes():
    # Of the pages of zeros none is ever touched.
    size = 1_500_000_000
    offsets = pa.py_buffer(np.array([0, size], "i4"))
    part = pa.Array.from_buffers(
        pa.string(), 1, [None, offsets, pa.py_buffer(np.zeros(size, "u1"))]
    )
    with pytest.raises(Misfit) as caught:
        joined([part, part], pa.string())
    assert "batch_rows" in caught.value.hint


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "array",
    [
        pa.array([1, 2, 3, 4]),
        pa.array([1, None, 3, 4]),
        pa.array([True, False, True, False]),
        pa.array(["a", "b", "c", "d"]),
        pa.array([[1], [2, 3], [], [4]]),
        pa.array([dt.time(1)] * 4, pa.time64("us")),
    ],
    ids=lambda array: f"{array.type}, {array.null_count} NULL",
)
def test_a_range_of_rows_is_what_a_column_of_them_is(form, array):
    form = FORMS[form]
    array = pa.concat_arrays([array, array]).slice(1, 6)
    cut = form.cutter([array])
    for start, end in ((0, 6), (0, 1), (1, 3), (3, 3)):
        (got,), (want,) = cut(start, end), form.columns([array.slice(start, end - start)])
        assert type(got) is type(want)
        assert list(map(repr, got)) == list(map(repr, want))


def test_a_range_of_rows_before_one_that_python_cannot_hold():
    array = pa.array([0, 1_000, 1], pa.time64("ns"))
    cut = FORMS["numpy"].cutter([array])
    assert cut(0, 2)[0].tolist() == [dt.time(0), dt.time(0, 0, 0, 1)]
    with pytest.raises(Misfit):
        cut(0, 3)
