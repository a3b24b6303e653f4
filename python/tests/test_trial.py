"""Functions tried out here and in a worker."""

from __future__ import annotations

import math
import os

import pyarrow as pa
import pytest

import alink as al

ROWS = pa.table(
    {
        "dep_delay": [30.0, 5.0, None, 8.0],
        "arr_delay": [10.0, None, 1.0, 8.0],
        "s": ["a", "b", "é", None],
    }
)


@pytest.fixture(scope="module")
def rows(shared_ctx):
    return shared_ctx.from_arrow(ROWS)


@al.udf("double")
def made_up(dep, arr):
    return None if dep is None or arr is None else dep - arr


def test_equal_results_and_how_nulls_went(rows):
    report = made_up.test(rows)
    assert report
    assert report.ok
    assert repr(report) == (
        "made_up(dep=dep_delay, arr=arr_delay) -> double: 4 rows, the same here and in a worker\n"
        "  NULL: 2 rows with a NULL argument (called with None), 2 of them gave NULL; "
        "0 gave NULL without one"
    )


def test_columns_and_expressions_may_be_named(rows):
    @al.udf("double", on_null="skip")
    def ratio(x, y):
        return None if x == 8 else x / y

    report = ratio.test(rows, "dep_delay", al.lit(2.0))
    assert report.ok
    assert (report.rows, report.null_arguments) == (4, 1)
    assert (report.null_passed_on, report.null_made) == (1, 1)
    assert "not called" in repr(report)
    assert report.function == "ratio(x=dep_delay, y=2.0)"


def test_results_that_differ_are_shown(rows):
    here = os.getpid()

    @al.udf("string")
    def where(s):
        return s if s == "a" else "here" if os.getpid() == here else "worker"

    report = where.test(rows)
    assert not report
    assert [d.row for d in report.differences] == [1, 2, 3]
    first = report.differences[0]
    assert (first.arguments, first.here, first.worker) == ({"s": "b"}, "here", "worker")
    assert "where(s) -> string: 4 rows, 3 differ between here and a worker" in repr(report)
    assert "  row 1: s='b': here 'here', worker 'worker'" in repr(report)


@pytest.mark.parametrize("batch", ["numpy", "pandas", "polars", "arrow"])
def test_every_form_of_columns_is_given_here_as_in_a_worker(rows, batch):
    @al.udf("double", batch=batch)
    def same(dep):
        return dep

    report = same.test(rows)
    assert report.ok, report
    assert (report.null_arguments, report.null_passed_on) == (1, 1)


def test_nan_equals_nan_at_any_depth(rows):
    @al.udf("list<double>")
    def nans(dep):
        return [math.nan, dep]

    assert nans.test(rows).ok


def test_an_exception_is_reported_with_its_row(rows):
    @al.udf("double")
    def fails(dep):
        return 1 / (dep - 5)

    report = fails.test(rows)
    assert not report.ok
    assert (
        report.here_error
        == report.worker_error
        == ("fails raised ZeroDivisionError: float division by zero in row 1")
    )
    assert "failed" in repr(report)


def test_a_result_of_the_wrong_type_is_reported(rows):
    @al.udf("bigint")
    def text(s):
        return s

    report = text.test(rows)
    assert report.here_error == report.worker_error
    assert "returned 'a' (str)" in report.here_error


def test_what_kills_a_worker_is_not_called_here(rows):
    here = os.getpid()

    @al.udf("double", retries=0)
    def dies(dep):
        assert os.getpid() != here
        os.kill(os.getpid(), 9)

    report = dies.test(rows)
    assert "signal 9" in report.worker_error or "SIGKILL" in report.worker_error
    assert report.here_error == "not run, because it might end this process too"


def test_a_class_is_set_up_once(rows):
    @al.udf("double")
    class Scaled:
        def setup(self):
            self.by = 2.0

        def __call__(self, dep):
            return None if dep is None else dep * self.by

    assert Scaled.test(rows).ok


def test_no_rows_and_no_arguments(rows):
    @al.udf("bigint")
    def three():
        return 3

    assert made_up.test(rows.limit(0)).ok
    report = three.test(rows)
    assert (report.ok, report.rows, report.null_arguments) == (True, 4, 0)
    assert three.test(rows.limit(0)).ok


def test_a_parameter_without_a_column_is_named(rows):
    @al.udf("double")
    def other(delay):
        return delay

    with pytest.raises(al.PlanError) as caught:
        other.test(rows)
    assert caught.value.code == "ALK1001"
    assert 'no column can be told for the parameter "delay" of other' in str(caught.value)
    assert 'other.test(table, "column", …)' in str(caught.value)
    with pytest.raises(al.PlanError, match="takes 1 argument"):
        other.test(rows, "s", "s")


def test_models_and_endless_streams_are_refused(shared_ctx, rows):
    model = rows.fit(lambda batches: sum(b.num_rows for b in batches))

    @al.udf("double", models={"m": model})
    def scored(dep, m):
        return dep

    with pytest.raises(al.PlanError, match="scored has models"):
        scored.test(rows)
    with pytest.raises(al.PlanError, match="test needs the end"):
        made_up.test(shared_ctx.read_generator({"dep": al.generate.double()}))
