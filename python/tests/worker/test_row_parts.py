"""A batch of a row function is run part by part: rows are counted over all of them."""

from __future__ import annotations

import pyarrow as pa
import pytest

from alink._worker import _values
from alink._worker._calls import ROWS_AT_ONCE, Call
from alink._worker._errors import Failure
from alink._worker._functions import Library
from alink._worker._progress import PROGRESS

ROWS = 2 * ROWS_AT_ONCE + 3
X = pa.array(range(ROWS), pa.int64())
BAD = ROWS_AT_ONCE + 7


class Loaded(Library):
    """A library of one function."""

    def __init__(self, function):
        super().__init__()
        self._only = function

    def load(self, call):
        del call
        return self._only


def run(function, columns=(X,), type_=None, **spec):
    spec = {
        "id": "f1",
        "name": "f",
        "kind": "row",
        "parameters": ["x", "y"],
        "args": list(range(len(columns))),
        **spec,
    }
    call = Call(spec, type_ or pa.int64(), Loaded(function), spec.pop("careful", False))
    return call, call.column(list(columns), ROWS, 0, True)


def bad_row(value):
    if value == BAD:
        raise ValueError(value)
    return value + 1


def bad_value(value):
    return "x" if value == BAD else value + 1


@pytest.mark.parametrize("careful", [False, True])
@pytest.mark.parametrize("columns", [(X,), (X, X)], ids=["one column", "two columns"])
@pytest.mark.parametrize("function", [bad_row, bad_value])
def test_the_row_of_a_failure(function, columns, careful):
    with pytest.raises(Failure) as caught:
        run(lambda *values: function(values[0]), columns, careful=careful)
    assert caught.value.details["row"] == BAD
    assert caught.value.details["values"][0] == {"name": "x", "repr": str(BAD)}


@pytest.mark.parametrize("function", [bad_row, bad_value])
def test_the_row_that_is_noted(function):
    call, column = run(function, on_error="null")
    assert column.equals(pa.array([None if x == BAD else x + 1 for x in range(ROWS)]))
    assert call.errors is not None
    noted = call.errors.column(0, ROWS)
    assert noted.null_count == ROWS - 1
    assert noted[BAD].is_valid


def test_rows_behind_nulls_are_counted_too():
    holes = pa.array([None if x % 2 else x for x in range(ROWS)])
    with pytest.raises(Failure) as caught:
        run(lambda x: bad_row(x + 1), (holes,), on_null="skip")
    assert caught.value.details["row"] == BAD - 1


def test_parts_are_put_together(monkeypatch):
    sizes = []
    monkeypatch.setattr(
        _values, "to_values", lambda array: sizes.append(len(array)) or array.to_pylist()
    )
    _, column = run(lambda x: x + 1)
    assert column.equals(pa.array(range(1, ROWS + 1)))
    assert sizes == [ROWS_AT_ONCE, ROWS_AT_ONCE, 3]


@pytest.mark.parametrize("columns", [(X,), (X, X)], ids=["one column", "two columns"])
def test_no_row_is_done_before_the_first(monkeypatch, columns):
    counted = []
    monkeypatch.setattr(PROGRESS, "rows_begin", lambda count: counted.append(count()))
    run(lambda *values: values[0], columns)
    assert counted == [0, 0, 0]
