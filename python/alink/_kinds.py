"""Table functions, aggregates, functions of groups and of tables.

`udtf`, `udaf`, `map_groups` and `map_table` make them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypeVar

from alink import _codes as codes
from alink._code import function_source
from alink._confinement import confinement
from alink._environment import Environment
from alink._errors import failure
from alink._expr import Expr, call_parts
from alink._functions import FunctionOptions, RowsFunction, WorkerFunction, apply, column_names
from alink._model import Model
from alink._options import bad_option, one_of
from alink._policy import NAMES, Options, policy
from alink._types import SchemaLike, TypeLike, schema_fields, type_string

if TYPE_CHECKING:
    from alink._confinement import Unpack

P = ParamSpec("P")
R = TypeVar("R")

_SHARED = ("env", "retries", "workers", "timeout", "memory", *NAMES)
_UDTF_OPTIONS = (*_SHARED, "models", "on_null")
_UDAF_OPTIONS = (*_SHARED, "state", "batch", "on_null", "batch_rows")
_MAP_GROUPS_OPTIONS = (*_SHARED, "models", "columns", "batch")
_MAP_TABLE_OPTIONS = tuple(o for o in _MAP_GROUPS_OPTIONS if o != "workers")
_METHODS = {
    "create": "create(self) gives the state of a group without rows",
    "add": "add(self, state, *columns) takes rows into a state",
    "merge": "merge(self, state, other) takes another state into one",
    "result": "result(self, state) gives the group's value",
}


class TableFunction(WorkerFunction[P, R]):
    """A function from a row to rows, as `udtf` makes it.

    Applied to columns it is what `Table.flat_map` and `Table.join_lateral` take; `local` calls
    the plain function.
    """

    def __init__(
        self, target: Callable[P, R], schema: SchemaLike, options: FunctionOptions
    ) -> None:
        super().__init__(target, "flat_map", options)
        self.schema = schema_fields(schema)

    def __call__(self, *args: Any, **named: Any) -> Any:
        """Apply the function to columns: strings are columns or SQL, other values literals."""
        return apply(self, args, named)

    def __repr__(self) -> str:
        fields = ", ".join(f"{f['name']} {f['type']}" for f in self.schema)
        return f"<alink.TableFunction {self.name}({', '.join(self.parameters)}) -> {fields}>"


class AggregateFunction(WorkerFunction[..., Any]):
    """A function from the rows of a group to a value, as `udaf` makes it.

    Applied to columns it gives an expression for ``agg``; `local` computes the value of some
    columns here.
    """

    def __init__(
        self,
        target: type[Any],
        result: TypeLike,
        state: SchemaLike,
        batch: str,
        options: FunctionOptions,
    ) -> None:
        _check_methods(target)
        super().__init__(target, "aggregate", options)
        self.result = type_string(result)
        self.state = schema_fields(state)
        self.batch = batch

    def __call__(self, *args: Any) -> Any:
        """Apply the function to columns: strings are columns or SQL, other values literals."""
        return apply(self, args, {})

    def local(self, *columns: Any) -> Any:
        """Compute the value of columns here, in the client, as a unit test would.

        Parameters
        ----------
        *columns : list, tuple or array
            A list or tuple becomes what the function gets in a worker: an array or a Series.
        """
        aggregate = self.target()
        if hasattr(aggregate, "setup"):
            aggregate.setup()
        state = aggregate.create()
        added = aggregate.add(state, *(_column(column, self.batch) for column in columns))
        return aggregate.result(state if added is None else added)

    def __repr__(self) -> str:
        return (
            f"<alink.AggregateFunction {self.name}({', '.join(self.parameters)}) -> {self.result}>"
        )


class GroupsFunction(RowsFunction[P, R]):
    """A function from one group to a table, as `map_groups` makes it."""

    def __init__(
        self,
        target: Callable[P, R],
        schema: SchemaLike,
        columns: Sequence[str] | None,
        batch: str,
        options: FunctionOptions,
    ) -> None:
        super().__init__(target, "map_groups", schema, columns, batch, options)


class MapTableFunction(RowsFunction[P, R]):
    """A function from a whole table to a table, as `map_table` makes it."""

    def __init__(
        self,
        target: Callable[P, R],
        schema: SchemaLike,
        columns: Sequence[str] | None,
        batch: str,
        options: FunctionOptions,
    ) -> None:
        super().__init__(target, "map_table", schema, columns, batch, options)


class TrainFunction(RowsFunction[..., Any]):
    """A function that workers run together over their shares of a table.

    It is called in each of them with a share of the rows and gives a table, of which the first
    worker's counts; see ``alink._worker._training``.
    """

    def __init__(
        self,
        target: Callable[..., Any],
        schema: SchemaLike,
        columns: Sequence[str] | None,
        options: FunctionOptions,
    ) -> None:
        super().__init__(target, "train", schema, columns, "arrow", options)


class _Decorator(Generic[R]):
    """What the calls of `udtf`, `udaf`, `map_groups` and `map_table` give."""

    def __init__(self, make: Callable[[Any], R]) -> None:
        self._make = make

    def __call__(self, target: Any, /) -> R:
        return self._make(target)


def udtf(
    schema: SchemaLike,
    /,
    *,
    env: Environment | None = None,
    models: Mapping[str, Model] | None = None,
    on_null: Literal["call", "skip"] = "call",
    retries: int | Mapping[str, int] | None = None,
    workers: int | None = None,
    timeout: float | str | None = "60s",
    memory: int | str | None = None,
    **others: Unpack[Options],
) -> _Decorator[TableFunction[..., Any]]:
    """Make a table function: each row of arguments gives any number of rows.

    Used as a decorator; `Table.flat_map` and `Table.join_lateral` apply it. The function is a
    generator, or returns an iterable, of rows: tuples in the order of the columns, or dicts,
    named tuples or dataclasses with the columns by name, of which those that are missing are
    NULL. With one column a bare value is a row. None and an empty iterable are no rows.

    Parameters
    ----------
    schema : str, pyarrow.Schema, dict or dataclass
        Columns of the result, for example "word string, n int".
    env, models, retries, workers, timeout, memory
        As for `udf`.
    sandbox, network, mounts, secrets, isolation, errors_max, deterministic, output_max
        As for `udf`; `output_max` is for what one row gives.
    on_null : {"call", "skip"}
        With "skip", a row with a NULL argument gives no rows and the function is not called.
    on_error : {"fail", "null", "dead_letter"}
        As for `udf`. With "null" a row on which it fails gives no rows.

    Examples
    --------
    >>> import alink as al
    >>> @al.udtf("word string, n int")
    ... def words(text):
    ...     for n, word in enumerate(text.split()):
    ...         yield word, n
    >>> list(words.local("to be"))
    [('to', 0), ('be', 1)]
    """
    failing, rest = policy("udtf", others)
    allowed = confinement("udtf", rest, _UDTF_OPTIONS)
    options = FunctionOptions(
        env, models, on_null, retries, workers, timeout=timeout, memory=memory,
        confined=allowed, policy=failing,
    )  # fmt: skip
    options.check("udtf")
    schema_fields(schema)  # a mistake is reported at the decorator's line
    return _Decorator(lambda target: TableFunction(target, schema, options))


def udaf(
    result: TypeLike,
    /,
    *,
    state: SchemaLike,
    batch: Literal["arrow", "numpy", "pandas", "polars"] = "arrow",
    env: Environment | None = None,
    on_null: Literal["call", "skip"] = "call",
    retries: int | Mapping[str, int] | None = None,
    workers: int | None = None,
    batch_rows: int | None = None,
    timeout: float | str | None = "60s",
    memory: int | str | None = None,
    **others: Unpack[Options],
) -> _Decorator[AggregateFunction]:
    """Make an aggregate function of a class.

    Used as a decorator; the function stands in ``agg``. The class has four methods:

    - ``create()`` gives the state of a group without rows;
    - ``add(state, *columns)`` takes rows into it: an array or Series for each argument, with
      rows of one group;
    - ``merge(state, other)`` takes another state into one;
    - ``result(state)`` gives the group's value.

    A state is a tuple, list, dict, named tuple or dataclass with a value for each field of
    `state`, or the bare value if there is one field; all methods get it in the form in which
    ``create`` makes it. ``add`` and ``merge`` return the new state; a list, a dict or a dataclass
    may also be changed in place. Rows are added and states merged in no particular order. A
    method ``setup`` is called once for each worker.

    Parameters
    ----------
    result : str or pyarrow.DataType
        Type of the result.
    state : str, pyarrow.Schema, dict or dataclass
        Fields of the state, which travels between workers: "sum double, n bigint".
    batch : {"arrow", "numpy", "pandas", "polars"}
        What ``add`` gets its columns as.
    on_null : {"call", "skip"}
        With "skip", rows with a NULL argument are left out.
    batch_rows : int, optional
        Largest number of rows in one call of ``add``.
    env, retries, workers, timeout, memory
        As for `udf`.
    sandbox, network, mounts, secrets, isolation, deterministic, output_max
        As for `udf`.

    Examples
    --------
    >>> import alink as al
    >>> @al.udaf("double", state="top double", batch="numpy", on_null="skip")
    ... class Largest:
    ...     def create(self):
    ...         return None
    ...     def add(self, top, x):
    ...         return self.merge(top, x.max())
    ...     def merge(self, top, other):
    ...         return other if top is None else max(top, other)
    ...     def result(self, top):
    ...         return top
    >>> float(Largest.local([1.0, 3.0, 2.0]))
    3.0
    """
    failing, rest = policy("udaf", others, by_row=False)
    allowed = confinement("udaf", rest, _UDAF_OPTIONS)
    options = FunctionOptions(
        env,
        None,
        on_null,
        retries,
        workers,
        batch_rows,
        timeout=timeout,
        memory=memory,
        confined=allowed,
        policy=failing,
    )
    options.check("udaf")
    one_of("udaf", "batch", batch, ("arrow", "numpy", "pandas", "polars"))
    type_string(result)
    schema_fields(state)
    return _Decorator(lambda target: AggregateFunction(target, result, state, batch, options))


def map_groups(
    schema: SchemaLike,
    /,
    *,
    columns: Sequence[str] | None = None,
    batch: Literal["arrow", "pandas", "polars"] = "arrow",
    env: Environment | None = None,
    models: Mapping[str, Model] | None = None,
    retries: int | Mapping[str, int] | None = None,
    workers: int | None = None,
    timeout: float | str | None = "60s",
    memory: int | str | None = None,
    **others: Unpack[Options],
) -> _Decorator[GroupsFunction[..., Any]]:
    """Make a function from one group, as a table, to a table.

    Used as a decorator; `GroupBy.map_groups` applies it. The function gets all rows of a
    group, which must fit into the worker's memory, and returns a table or data frame with any
    number of rows, None, or an iterator of these.

    Parameters
    ----------
    schema : str, pyarrow.Schema, dict or dataclass
        Columns of the result, for example "k string, m double".
    columns : sequence of str, optional
        The columns that the function needs; the default is all.
    batch : {"arrow", "pandas", "polars"}
        What the group comes as: a ``pyarrow.Table`` or a DataFrame.
    env, models, retries, workers, timeout, memory
        As for `udf`.
    sandbox, network, mounts, secrets, isolation, deterministic, output_max
        As for `udf`.

    Examples
    --------
    >>> import alink as al
    >>> @al.map_groups("carrier string, flights bigint", batch="pandas")
    ... def largest(group):
    ...     return group.nlargest(1, "flights")
    >>> largest
    <alink.GroupsFunction largest -> carrier string, flights bigint>
    """
    failing, rest = policy("map_groups", others, by_row=False)
    allowed = confinement("map_groups", rest, _MAP_GROUPS_OPTIONS)
    options = FunctionOptions(
        env,
        models,
        retries=retries,
        workers=workers,
        timeout=timeout,
        memory=memory,
        confined=allowed,
        policy=failing,
    )
    options.check("map_groups")
    one_of("map_groups", "batch", batch, ("arrow", "pandas", "polars"))
    schema_fields(schema)
    column_names("map_groups", columns)
    return _Decorator(lambda target: GroupsFunction(target, schema, columns, batch, options))


def map_table(
    schema: SchemaLike,
    /,
    *,
    columns: Sequence[str] | None = None,
    batch: Literal["arrow", "pandas", "polars"] = "arrow",
    env: Environment | None = None,
    models: Mapping[str, Model] | None = None,
    retries: int | Mapping[str, int] | None = None,
    timeout: float | str | None = None,
    memory: int | str | None = None,
    **others: Unpack[Options],
) -> _Decorator[MapTableFunction[..., Any]]:
    """Make a function from a whole table to a table, such as one that trains a model.

    Used as a decorator; `Table.map_table` applies it. The function is called once, in one
    worker, with an iterator of all batches of the table in their order, which come as the
    steps before make them, and returns a table or data frame with any number of rows, None, or
    an iterator of these; it may be a generator. It is called for an empty table too. If its
    worker dies it is run again from the first batch on, and nothing of the run before is seen.

    Parameters
    ----------
    schema : str, pyarrow.Schema, dict or dataclass
        Columns of the result, for example "name string, weight double".
    columns : sequence of str, optional
        The columns that the function needs; the default is all.
    batch : {"arrow", "pandas", "polars"}
        The library of the batches: a RecordBatch or a DataFrame.
    env, models, retries, memory
        As for `udf`.
    timeout : number of seconds or str, optional
        How long it may go without asking for the next batch or giving one; the default is for
        ever.
    sandbox, network, mounts, secrets, isolation, deterministic, output_max
        As for `udf`; `output_max` is for the whole result, which the engine holds in memory.

    Examples
    --------
    >>> import alink as al, pyarrow as pa
    >>> @al.map_table("mean double", columns=["x"])
    ... def train(batches):
    ...     total = rows = 0
    ...     for batch in batches:
    ...         total += sum(batch["x"].to_pylist())
    ...         rows += batch.num_rows
    ...     yield pa.record_batch({"mean": [total / rows if rows else None]})
    >>> train
    <alink.MapTableFunction train -> mean double>
    """
    failing, rest = policy("map_table", others, by_row=False)
    allowed = confinement("map_table", rest, _MAP_TABLE_OPTIONS)
    options = FunctionOptions(
        env,
        models,
        retries=retries,
        timeout=timeout,
        memory=memory,
        timeout_ms_default=0,
        confined=allowed,
        policy=failing,
    )
    options.check("map_table")
    one_of("map_table", "batch", batch, ("arrow", "pandas", "polars"))
    schema_fields(schema)
    column_names("map_table", columns)
    return _Decorator(lambda target: MapTableFunction(target, schema, columns, batch, options))


def table_call(call: Any) -> tuple[TableFunction[..., Any], list[Expr]] | None:
    """Give the function and the arguments of an applied table function."""
    if not isinstance(call, Expr):
        return None
    parts = call_parts(call)
    if parts is None or not isinstance(parts[0], TableFunction):
        return None
    return parts


def with_library(environment: Environment | None, library: str) -> Environment | None:
    """Add to an environment the library that a kind of function needs, unless it names it.

    The client's own interpreter (None) is taken as it is.
    """
    if environment is None or library not in ("numpy", "pandas", "polars"):
        return environment
    return environment.with_library(library)


def _check_methods(target: Any) -> None:
    if not inspect.isclass(target):
        raise bad_option("udaf", f"udaf decorates a class, not {target!r:.80}", _METHODS["create"])
    for method, what in _METHODS.items():
        if not callable(getattr(target, method, None)):
            raise failure(
                codes.BAD_OPTION,
                f"the class {target.__name__} has no method {method}",
                source=function_source(target),
                hint=what,
            )


def _column(values: Any, batch: str) -> Any:
    """Make a column, as a worker's function gets it, of a list."""
    if not isinstance(values, (list, tuple)):
        return values
    if batch == "numpy":
        import numpy as np

        return np.array(values)
    if batch == "pandas":
        import pandas as pd

        return pd.Series(values)
    if batch == "polars":
        import polars as pl

        return pl.Series(values)
    import pyarrow as pa

    return pa.array(values)
