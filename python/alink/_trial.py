"""Trying a function out: here and in a worker, on the same rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from alink import _codes as codes
from alink._diag import did_you_mean, quote
from alink._errors import UdfError, WorkerCrashed, failure
from alink._expr import Expr, IntoExpr, col, into_expr
from alink._options import bad_option
from alink._origin import user_origin
from alink._types import parse_type
from alink._window import refuse_unbounded

if TYPE_CHECKING:
    from alink._functions import Function
    from alink._table import Table

_ROWS_MAX = 10_000
_SHOWN_MAX = 5  # differences in the text of a report
_REPR_CHARS_MAX = 60


@dataclass(frozen=True)
class Difference:
    """A row for which a function gave two results.

    Parameters
    ----------
    row : int
        Its index in the table.
    arguments : dict of str to value
        What the function was called with.
    here, worker : value
        What it gave in the client and in a worker.
    """

    row: int
    arguments: Mapping[str, Any]
    here: Any
    worker: Any


@dataclass(frozen=True, repr=False)
class FunctionReport:
    """What `Function.test` found.

    Parameters
    ----------
    function : str
        The function, applied to columns.
    rows : int
        The rows that it was tried on: at most the first 10,000.
    result_type : str
        Type of its results.
    null_arguments : int
        Rows with a NULL among the arguments.
    null_passed_on : int
        Those of them for which the result is NULL.
    null_made : int
        Rows without a NULL argument for which the result is NULL.
    on_null : {"call", "skip"}
        Whether the function is called for rows with a NULL argument.
    differences : tuple of Difference
        Rows whose results are not equal; NaN equals NaN.
    here_error, worker_error : str
        Why there are no results from there; "" where there are.
    """

    function: str
    rows: int
    result_type: str
    on_null: str
    null_arguments: int = 0
    null_passed_on: int = 0
    null_made: int = 0
    differences: tuple[Difference, ...] = ()
    here_error: str = ""
    worker_error: str = ""

    @property
    def ok(self) -> bool:
        """Whether both ran to the end and gave equal results."""
        return not (self.differences or self.here_error or self.worker_error)

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        if self.ok:
            verdict = "the same here and in a worker"
        elif self.differences:
            verdict = f"{len(self.differences):,} differ between here and a worker"
        else:
            verdict = "failed"
        yield f"{self.function} -> {self.result_type}: {_rows(self.rows)}, {verdict}"
        for where, error in (("worker", self.worker_error), ("here", self.here_error)):
            if error:
                yield f"  {where}: {error}"
        if not (self.worker_error and self.here_error):
            yield "  " + self._nulls()
        for d in self.differences[:_SHOWN_MAX]:
            arguments = ", ".join(f"{name}={_short(v)}" for name, v in d.arguments.items())
            yield f"  row {d.row}: {arguments}: here {_short(d.here)}, worker {_short(d.worker)}"
        if len(self.differences) > _SHOWN_MAX:
            yield f"  … and {len(self.differences) - _SHOWN_MAX:,} more"

    def _nulls(self) -> str:
        called = "not called" if self.on_null == "skip" else "called with None"
        text = f"NULL: {_rows(self.null_arguments)} with a NULL argument"
        if self.null_arguments:
            text += f" ({called}), {self.null_passed_on:,} of them gave NULL"
        return text + f"; {self.null_made:,} gave NULL without one"


def try_out(
    function: Function[..., Any], table: Table, columns: Sequence[IntoExpr]
) -> FunctionReport:
    """Run a function on a table in a worker and here, and compare; see `Function.test`."""
    refuse_unbounded("test", table._node)
    if function.options.models:
        raise bad_option(
            "test",
            f"test: {function.name} has models, which only workers read",
            "try it with stand-ins: f.local(x, model=…)",
        )
    arguments = _arguments(function, table, columns)
    names = [f"__argument_{i}" for i in range(len(arguments))]
    rows = table.limit(_ROWS_MAX)
    if arguments:
        data = rows.select(dict(zip(names, arguments, strict=True))).to_arrow()
    else:
        data = pa.table({"__no_argument": pa.nulls(rows.count())})
    worker, worker_error, died = _in_worker(function, table, data, names)
    if died:
        here, here_error = None, "not run, because it might end this process too"
    else:
        here, here_error = _here(function, data, names)
    labels = _labels(function, arguments)
    given = data.select(names)
    differences = (
        () if worker is None or here is None else _compare(given, list(labels), here, worker)
    )
    missing, passed_on, made = _nulls(given, here if worker is None else worker)
    return FunctionReport(
        function=f"{function.name}({', '.join(labels.values())})",
        rows=data.num_rows,
        result_type=function.result,
        on_null=function.options.on_null,
        null_arguments=missing,
        null_passed_on=passed_on,
        null_made=made,
        differences=tuple(differences),
        here_error=here_error,
        worker_error=worker_error,
    )


def _arguments(
    function: Function[..., Any], table: Table, columns: Sequence[IntoExpr]
) -> list[Expr]:
    """Give what the function is applied to: what was passed, or columns by their names."""
    if columns:
        function(*columns)  # checks how many there are
        return [into_expr(column) for column in columns]
    return [col(_column_of(function, parameter, table)) for parameter in function.required]


def _column_of(function: Function[..., Any], parameter: str, table: Table) -> str:
    """Find the column of a parameter's name, or the only one whose name begins with it."""
    known = table.columns
    wanted = parameter.lower()
    exact = [name for name in known if name.lower() == wanted]
    found = exact or [name for name in known if name.lower().startswith(wanted)]
    if len(found) == 1:
        return found[0]
    raise failure(
        codes.UNKNOWN_COLUMN,
        f"test: no column can be told for the parameter {quote(parameter)} of {function.name}",
        operator="test",
        function=function.name,
        source=user_origin(),
        hint=f'name them: {function.name}.test(table, "column", …); '
        + did_you_mean(parameter, "columns", known),
    )


def _in_worker(
    function: Function[..., Any], table: Table, data: pa.Table, names: Sequence[str]
) -> tuple[pa.ChunkedArray | None, str, bool]:
    """Give the results of a worker, or why there are none and whether the worker died."""
    rows = table._context.from_arrow(data)
    try:
        results = rows.select({"__result": function.strict()(*map(col, names))}).to_arrow()
    except WorkerCrashed as error:
        return None, error.diagnostic.message, True
    except UdfError as error:
        return None, _with_row(error), False
    return results.column("__result"), "", False


def _with_row(error: UdfError) -> str:
    row = error.diagnostic.row
    place = f" in row {row.index}" if row is not None else ""
    return error.diagnostic.message + place


def _here(
    function: Function[..., Any], data: pa.Table, names: Sequence[str]
) -> tuple[pa.ChunkedArray | None, str]:
    """Run the function in this process, as the harness does in a worker."""
    from alink._worker import _errors
    from alink._worker._calls import Call
    from alink._worker._functions import Library

    class Plain(Library):
        """Has the function already, and no pickle to read."""

        def load(self, call: Mapping[str, Any]) -> Callable[..., Any]:
            del call
            try:
                return function.plain()
            except Exception as exception:  # noqa: BLE001 the user's own code
                raise _errors.raised(exception, f"{function.name}.setup raised") from None

    spec = {
        "id": function.name,
        "name": function.name,
        "kind": function.kind,
        "parameters": list(function.parameters),
        "args": list(range(len(names))),
        "on_null": function.options.on_null,
        "batch_rows": function.options.batch_rows or 0,
    }
    result = parse_type(function.result)
    call = Call(spec, result, Plain())
    batch = data.combine_chunks().to_batches()
    if not batch:
        return pa.chunked_array([], result), ""
    try:
        return pa.chunked_array(
            [call.column(batch[0].columns, batch[0].num_rows, 0, alone=True)]
        ), ""
    except _errors.Failure as caught:
        details = caught.details
    if details.get("exception", {}).get("type") == "KeyboardInterrupt":
        raise KeyboardInterrupt
    place = f" in row {details['row']}" if "row" in details else ""
    return None, details["message"] + place


def _labels(function: Function[..., Any], arguments: Sequence[Expr]) -> dict[str, str]:
    """Give each argument's name and how it is written, "dep=dep_delay"."""
    labels: dict[str, str] = {}
    for i, argument in enumerate(arguments):
        name = function.parameters[i] if i < len(function.parameters) else f"argument {i + 1}"
        labels[name] = str(argument) if str(argument) == name else f"{name}={argument}"
    return labels


def _nulls(arguments: pa.Table, results: pa.ChunkedArray | None) -> tuple[int, int, int]:
    """Count the rows with a NULL, those whose result is NULL too, and the NULLs without one."""
    missing = [False] * arguments.num_rows
    for column in arguments.columns:
        missing = [a or not b for a, b in zip(missing, column.is_valid().to_pylist(), strict=True)]
    if results is None:
        return sum(missing), 0, 0
    null = [not valid for valid in results.is_valid().to_pylist()]
    passed_on = sum(a and b for a, b in zip(missing, null, strict=True))
    return sum(missing), passed_on, sum(null) - passed_on


def _compare(
    arguments: pa.Table, names: Sequence[str], here: pa.ChunkedArray, worker: pa.ChunkedArray
) -> Iterator[Difference]:
    pairs = zip(here.to_pylist(), worker.to_pylist(), strict=True)
    for row, (a, b) in enumerate(pairs):
        if not _equal(a, b):
            values = (column[row].as_py() for column in arguments.columns)
            yield Difference(row, dict(zip(names, values, strict=True)), a, b)


def _equal(a: Any, b: Any) -> bool:
    """Compare two values of one type; NaN equals NaN, at any depth."""
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    return type(a) is type(b) and a == b


def _rows(count: int) -> str:
    return f"{count:,} row" if count == 1 else f"{count:,} rows"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _REPR_CHARS_MAX else text[: _REPR_CHARS_MAX - 1] + "…"


__all__ = ["Difference", "FunctionReport", "try_out"]
