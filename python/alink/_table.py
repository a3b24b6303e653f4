"""Tables: lazy descriptions of what a job computes."""

from __future__ import annotations

import datetime
import os
import random
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar

import pyarrow as pa

from alink import _codes as codes
from alink import _names
from alink._beside import check_tables, refuse_endless_table
from alink._cache import KeptTable
from alink._confinement import Confined, confinement
from alink._describe import STATISTICS, describe
from alink._diag import quote
from alink._display import render_table
from alink._environment import Environment
from alink._errors import Error, failure, without_our_frames
from alink._expr import (
    Expr,
    IntoExpr,
    SortKey,
    col,
    into_expr,
    into_named,
    output_name,
    parse_order,
)
from alink._files import WriteMode, csv_output_args, output_args
from alink._functions import (
    FitFunction,
    Function,
    FunctionOptions,
    MapBatchesFunction,
    column_names,
)
from alink._job import Job
from alink._kinds import GroupsFunction, MapTableFunction, TrainFunction, table_call
from alink._model import Model
from alink._names import refuse_attribute
from alink._options import bad_option, duration_us, find_column, one_of, whole_number
from alink._origin import user_origin
from alink._plan import Node, build_plan, explain
from alink._progress import render_costs
from alink._window import Windowed, checkpoint_args, is_unbounded, refuse_unbounded

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

    from alink._confinement import Unpack
    from alink._connection import Context

T = TypeVar("T")

#: How two tables are joined.
JoinKind = Literal["inner", "left", "right", "full", "semi", "anti", "cross"]
_FIT_OPTIONS = ("env", "columns", "retries", "timeout", "memory")
_JOIN_KINDS = ("inner", "left", "right", "full", "semi", "anti", "cross")

_SHOWN_DEFAULT = 20
_SEED_MAX = 2**63 - 1


class Table:
    """A table that a job computes when its rows are asked for.

    Made by `Context.read_parquet` and its like, and by the methods of other tables. Nothing
    is computed until `show`, `collect`, `to_arrow`, `to_pandas`, `count`, `write_parquet`
    or `fit`. Where an expression is expected stands SQL text, `col` and `lit` with
    operators, or a Python function applied to these.
    """

    __slots__ = ("_context", "_node")

    def __init__(self, context: Context, node: Node) -> None:
        self._context = context
        self._node = node

    if not TYPE_CHECKING:  # so that a name that does not exist stays an error of type checkers

        def __getattr__(self, name: str) -> NoReturn:
            schema = self._node.schema
            refuse_attribute(self, name, _names.TABLE, None if schema is None else schema.names)

        def __getitem__(self, key: object) -> NoReturn:
            raise TypeError(
                f"a table has no rows or columns to take out by [{key!r:.40}]: "
                "columns are select(…), rows limit(…), filter(…) or collect()"
            )

        def __iter__(self) -> NoReturn:
            raise TypeError(
                "a table is not iterated over: rows are collect(), batches iter_batches()"
            )

        def __len__(self) -> NoReturn:
            raise TypeError("a table has no length before a job counts its rows: count()")

        def __bool__(self) -> NoReturn:
            raise TypeError("a table has no truth value: compare count() with a number")

    # --- columns and rows ---

    def select(self, *exprs: IntoExpr | Mapping[str, IntoExpr], **named: IntoExpr) -> Table:
        """Compute columns; only these are in the result.

        Parameters
        ----------
        *exprs : str, Expr or dict
            Columns, expressions with a name, SQL with a name ("a + 1 AS b"), or a dict of
            names and expressions. "*" stands for all columns.
        **named : str or Expr
            Expressions under their names.
        """
        return self._derive("select", {"exprs": _named("select", self._starred(exprs), named)})

    def with_columns(self, *exprs: IntoExpr | Mapping[str, IntoExpr], **named: IntoExpr) -> Table:
        """Add columns; a name that is there already is replaced in its place.

        All expressions are evaluated against the table as it was before the call.
        """
        exprs_json = _named("with_columns", exprs, named)
        return self._derive("with_columns", {"keep": True, "exprs": exprs_json})

    def filter(self, predicate: IntoExpr, *more: IntoExpr) -> Table:
        """Keep the rows for which every predicate is true (not false and not NULL)."""
        both = into_expr(predicate)
        for other in more:
            both &= into_expr(other)
        return self._derive("filter", {"predicate": both})

    @without_our_frames
    def drop(self, *columns: str) -> Table:
        """Leave out columns."""
        dropped = {find_column("drop", self.schema, name) for name in columns}
        kept = [name for name in self.columns if name not in dropped]
        if not kept:
            raise failure(
                codes.INVALID_PLAN,
                "drop leaves no columns",
                operator="drop",
                source=user_origin(),
            )
        return self._derive("select", {"exprs": [_column(name) for name in kept]})

    @without_our_frames
    def rename(self, columns: Mapping[str, str]) -> Table:
        """Give columns other names: a dict from the old name to the new one."""
        names = {find_column("rename", self.schema, old): new for old, new in columns.items()}
        exprs = [_column(name, names.get(name, name)) for name in self.columns]
        _refuse_twice("rename", [expr["name"] for expr in exprs])
        return self._derive("select", {"exprs": exprs})

    def join(
        self,
        other: Table,
        on: str | Sequence[str] | Mapping[str, str] | None = None,
        how: JoinKind = "inner",
        *,
        suffix: str | None = None,
        nulls_equal: bool = False,
    ) -> Table:
        """Join with another table on equality of columns.

        Parameters
        ----------
        other : Table
            A table of the same context.
        on : str, sequence of str or dict
            The columns that must be equal; a dict maps this table's to the other's.
        how : {"inner", "left", "right", "full", "semi", "anti", "cross"}
            "semi" and "anti" keep the rows of this table that have, or have not, a partner;
            "cross" joins every row with every row and has no `on`.
        suffix : str, optional
            Put behind the other's name of a column that both have and that is not joined
            on. Without it such a name is refused.
        nulls_equal : bool, default False
            Whether NULL equals NULL; by default it equals nothing.

        Returns
        -------
        Table
            This table's columns, then the other's without those joined on under the same
            name.
        """
        self._require_mate("join", other)
        one_of("join", "how", how, _JOIN_KINDS)
        if suffix is not None and (not isinstance(suffix, str) or not suffix):
            raise bad_option("join", f"join: suffix must be a text, not {suffix!r}")
        args: dict[str, Any] = {"how": how}
        if how != "cross":
            args["on"] = _join_keys(on)
        elif on is not None:
            raise bad_option("join", "join: a cross join has no on=")
        if suffix is not None:
            args["suffix"] = suffix
        if nulls_equal:
            args["nulls_equal"] = True
        return self._derive("join", args, other._node)

    def union(self, *others: Table, by_name: bool = False) -> Table:
        """Put the rows of other tables below this one's. Equal rows all stay.

        Parameters
        ----------
        *others : Table
            Tables of the same context.
        by_name : bool, default False
            Whether columns go together by their names, and what a table lacks is NULL. By
            default they go together by position, under this table's names.

        Returns
        -------
        Table
            This table's rows, then the others', in their order. Numbers get a type that
            holds all of them; columns of different kinds are refused.
        """
        for other in others:
            self._require_mate("union", other)
        args = {"by_name": True} if by_name else {}
        return self._derive("union", args, *(other._node for other in others))

    def distinct(self, *on: str) -> Table:
        """Keep the first of equal rows, in their order.

        Parameters
        ----------
        *on : str
            The columns that are compared; the default is all. NULLs are equal here.
        """
        names = column_names("distinct", on or None)
        return self._derive("distinct", {"on": names} if names else {})

    def sample(
        self, n: int | None = None, *, fraction: float | None = None, seed: int | None = None
    ) -> Table:
        """Pick rows at random, without picking one twice. They keep their order.

        Parameters
        ----------
        n : int, optional
            How many rows; all if there are fewer.
        fraction : float, optional
            The probability of each row, between 0 and 1. Either this or `n` is given.
        seed : int, optional
            The same seed picks the same rows of the same table. The default is another
            seed for each call.
        """
        if (n is None) == (fraction is None):
            raise bad_option("sample", "sample takes either n or fraction")
        args: dict[str, Any] = {}
        if n is not None:
            args["n"] = whole_number("sample", "n", n, 0)
        elif isinstance(fraction, (int, float)) and 0 <= fraction <= 1:
            args["fraction"] = float(fraction)
        else:
            raise bad_option(
                "sample", f"sample: fraction must be between 0 and 1, not {fraction!r}"
            )
        if seed is None:
            seed = random.SystemRandom().getrandbits(32)
        args["seed"] = whole_number("sample", "seed", seed, 0)
        if seed > _SEED_MAX:
            raise bad_option("sample", f"sample: seed must be at most {_SEED_MAX}, not {seed}")
        return self._derive("sample", args)

    def unnest(self, column: str, *, keep_empty: bool = False) -> Table:
        """Make one row of each element of a list, or columns of the fields of a struct.

        Parameters
        ----------
        column : str
            A list, whose elements take its place; a map, whose entries do, as structs of
            key and value; or a struct, whose fields become columns in its place.
        keep_empty : bool, default False
            Whether a list that is empty or NULL gives one row with NULL instead of none.
        """
        if not isinstance(column, str):
            raise bad_option("unnest", f"unnest takes the name of a column, not {column!r}")
        args: dict[str, Any] = {"column": column}
        if keep_empty:
            args["keep_empty"] = True
        return self._derive("unnest", args)

    @without_our_frames
    def describe(self) -> Table:
        """Describe each column in a row: its type, NULLs, extremes and distribution.

        ``distinct`` and the quartiles are estimates, so that memory stays bounded.
        """
        refuse_unbounded("describe", self._node)
        if not len(self.schema):
            return self._context.from_arrow(STATISTICS.empty_table())
        return describe(self)

    def group_by(self, *keys: IntoExpr | Mapping[str, IntoExpr], **named: IntoExpr) -> GroupBy:
        """Group rows that have equal keys; `GroupBy.agg` makes one row of each group."""
        exprs = _named("group_by", keys, named)
        return GroupBy(self, exprs)

    def agg(self, *exprs: IntoExpr | Mapping[str, IntoExpr], **named: IntoExpr) -> Table:
        """Aggregate the whole table to one row.

        Examples
        --------
        ``t.agg(n="count(*)", mean_delay="avg(arr_delay)")``
        """
        return self._derive("agg", {"aggregates": _named("agg", exprs, named)})

    def order_by(
        self,
        *keys: IntoExpr | SortKey,
        descending: bool = False,
        nulls_first: bool = False,
    ) -> Table:
        """Sort the rows. Those with equal keys keep their order.

        Parameters
        ----------
        *keys : str, Expr or SortKey
            Expressions; a string may end with ASC or DESC and NULLS FIRST or NULLS LAST, an
            `Expr` has the methods asc and desc.
        descending, nulls_first : bool, default False
            For keys that do not say it themselves. NULLs come last by default, in both
            directions.
        """
        if not keys:
            raise bad_option("order_by", "order_by needs at least one key")
        by: list[dict[str, Any]] = []
        for key in keys:
            if isinstance(key, str):
                sort = parse_order(key)
            else:
                sort = key if isinstance(key, SortKey) else SortKey(into_expr(key))
            entry: dict[str, Any] = {"expr": sort.expr}
            if descending if sort.descending is None else sort.descending:
                entry["descending"] = True
            if nulls_first if sort.nulls_first is None else sort.nulls_first:
                entry["nulls_first"] = True
            by.append(entry)
        return self._derive("order_by", {"by": by})

    def limit(self, n: int, offset: int = 0) -> Table:
        """Take `n` rows after the first `offset`."""
        args = {"n": whole_number("limit", "n", n, 0)}
        if whole_number("limit", "offset", offset, 0):
            args["offset"] = offset
        return self._derive("limit", args)

    def head(self, n: int = 5) -> Table:
        """Take the first `n` rows."""
        return self.limit(n)

    # --- event time ---

    def with_watermark(self, column: str, delay: str | datetime.timedelta) -> Table:
        """Say which column tells when a row's event happened, and how late rows may come.

        Parameters
        ----------
        column : str
            A timestamp. A NULL in it is an error: filter such rows out before.
        delay : str or timedelta
            How much earlier than the latest time so far a row's time may be, as
            "5 seconds". A row that comes later still is left out of windows that have ended,
            and counted (`Job.metrics`, ``late_rows``).
        """
        args = {"column": column, "delay_us": duration_us("with_watermark", "delay", delay)}
        return self._derive("with_watermark", args)

    def window(
        self, kind: Literal["tumble"], size: str | datetime.timedelta, *, on: str
    ) -> Windowed:
        """Cut the rows into windows of event time.

        Parameters
        ----------
        kind : {"tumble"}
            Windows that follow one another without a gap. They begin at multiples of their
            size, counted from 1970-01-01.
        size : str or timedelta
            The length of a window, as "1 minute".
        on : str
            The timestamp that decides; on a stream that of `with_watermark`.
        """
        one_of("window", "kind", kind, ("tumble",))
        size_us = duration_us("window", "size", size, minimum_us=1)
        return Windowed(self, {"kind": kind, "size_us": size_us, "on": on}, _named)

    # --- Python functions ---

    def map_batches(
        self,
        function: MapBatchesFunction[..., Any],
        *,
        tables: Mapping[str, Table] | None = None,
    ) -> Table:
        """Apply a function of record batches, made with `alink.map_batches`.

        Parameters
        ----------
        function : MapBatchesFunction
            Is called for each batch.
        tables : dict of str to Table, optional
            Tables that the function gets whole, each as the keyword argument of its name: a
            ``pyarrow.Table``, or a data frame where the batches are. They are computed in the
            same job, before the first batch, and then lie in a file that all workers map into
            memory; one may have 2 GiB. A data frame is made once in each worker, so its values
            must not be changed. An unbounded table cannot be one of them.

        Examples
        --------
        >>> import alink as al, pyarrow as pa
        >>> ctx = al.connect()
        >>> @al.map_batches("word string", columns=["id"])
        ... def named(batch, words):
        ...     return pa.table({"word": words["word"].take(batch["id"])})
        >>> words = ctx.from_arrow(pa.table({"word": ["one", "two", "three"]}))
        >>> ids = ctx.from_arrow(pa.table({"id": [2, 0]}))
        >>> ids.map_batches(named, tables={"words": words}).collect()
        [{'word': 'three'}, {'word': 'one'}]
        >>> ctx.close()
        """
        if not isinstance(function, MapBatchesFunction):
            raise bad_option(
                "map_batches",
                f"map_batches takes a function made with @al.map_batches, not {function!r:.80}",
                'decorate it: @al.map_batches("a double, b string")',
            )
        args: dict[str, Any] = {"function": function}
        if function.columns is not None:
            args["columns"] = function.columns
        return self._apply("map_batches", function, args, tables)

    def map_table(
        self,
        function: MapTableFunction[..., Any],
        *,
        tables: Mapping[str, Table] | None = None,
    ) -> Table:
        """Apply a function of the whole table, made with `alink.map_table`.

        Parameters
        ----------
        function : MapTableFunction
            Is called once, with an iterator of all batches.
        tables : dict of str to Table, optional
            Tables that the function gets whole, as for `map_batches`.

        Returns
        -------
        Table
            The function's rows. As a table of `map_batches` it is what that needs of this one,
            computed in the same job.

        Examples
        --------
        >>> import alink as al, pyarrow as pa
        >>> ctx = al.connect()
        >>> @al.map_table("mean double")
        ... def train(batches):
        ...     x = pa.Table.from_batches(batches)["x"].to_pylist()
        ...     return pa.table({"mean": [sum(x) / len(x)]})
        >>> @al.map_batches("above boolean")
        ... def predict(batch, model):
        ...     mean = model["mean"][0].as_py()
        ...     return pa.table({"above": [x > mean for x in batch["x"].to_pylist()]})
        >>> rows = ctx.from_arrow(pa.table({"x": [1.0, 2.0, 6.0]}))
        >>> rows.map_batches(predict, tables={"model": rows.map_table(train)}).collect()
        [{'above': False}, {'above': False}, {'above': True}]
        >>> ctx.close()
        """
        if not isinstance(function, MapTableFunction):
            raise bad_option(
                "map_table",
                f"map_table takes a function made with @al.map_table, not {function!r:.80}",
                'decorate it: @al.map_table("a double, b string")',
            )
        refuse_unbounded("map_table", self._node)
        args: dict[str, Any] = {"function": function}
        if function.columns is not None:
            args["columns"] = function.columns
        return self._apply("map_table", function, args, tables)

    def _train(self, function: TrainFunction) -> Table:
        """Run a function over the whole table, in workers that share its rows."""
        refuse_unbounded(function.name, self._node)
        args: dict[str, Any] = {"function": function}
        if function.columns is not None:
            args["columns"] = function.columns
        return self._derive("train", args)

    def _apply(
        self,
        operator: str,
        function: MapBatchesFunction[..., Any] | MapTableFunction[..., Any],
        args: dict[str, Any],
        tables: Mapping[str, Table] | None,
    ) -> Table:
        """Apply a function that may get tables whole."""
        names = check_tables(operator, function, {} if tables is None else tables)
        if not tables:
            return self._derive(operator, args)
        for name in names:
            self._require_mate(f"{operator}, tables[{name!r}]", tables[name])
            refuse_endless_table(operator, function.name, name, tables[name]._node)
        args["tables"] = names
        return self._derive(operator, args, *(tables[name]._node for name in names))

    def flat_map(self, call: Expr) -> Table:
        """Apply a table function, made with `alink.udtf`; the result has its columns alone.

        Parameters
        ----------
        call : Expr
            The function applied to columns, as in ``t.flat_map(words("text"))``.
        """
        return self._flat_map("flat_map", call, keep=False, outer=False)

    def join_lateral(self, call: Expr, how: Literal["inner", "left"] = "inner") -> Table:
        """Apply a table function, made with `alink.udtf`, and keep this table's columns.

        Parameters
        ----------
        call : Expr
            The function applied to columns, as in ``t.join_lateral(words("text"))``.
        how : {"inner", "left"}
            With "left", a row for which the function gives nothing stays, once, with NULLs.

        Returns
        -------
        Table
            For each row of the function: the row that it came from, then its columns.
        """
        one_of("join_lateral", "how", how, ("inner", "left"))
        return self._flat_map("join_lateral", call, keep=True, outer=how == "left")

    def _flat_map(self, operator: str, call: Any, *, keep: bool, outer: bool) -> Table:
        applied = table_call(call)
        if applied is None:
            raise bad_option(
                operator,
                f"{operator} takes a table function applied to columns, not {call!r:.80}",
                f't.{operator}(f("column")), with an f made with @al.udtf("word string")',
            )
        function, args = applied
        args_of_op = {"function": function, "args": args, "keep": keep, "outer": outer}
        return self._derive("flat_map", args_of_op)

    @without_our_frames
    def fit(
        self,
        function: Callable[[Iterator[pa.RecordBatch]], Any],
        *,
        env: Environment | None = None,
        columns: Sequence[str] | None = None,
        retries: int | None = None,
        timeout: float | str | None = None,
        memory: int | str | None = None,
        **confined: Unpack[Confined],
    ) -> Model:
        """Run a function over all batches of the table, in one worker, and keep what it returns.

        Parameters
        ----------
        function : callable
            Gets an iterator of ``pyarrow.RecordBatch`` and returns the model.
        env : Environment, optional
            What it runs with; use the model in the same environment.
        columns : sequence of str, optional
            The columns that it needs; the default is all.
        retries : int, optional
            How often it is run again after its worker died; the default is 2.
        timeout : number of seconds or str, optional
            How long it may go without asking for the next batch; the default is for ever.
        memory : int or str, optional
            What its worker may hold; the default is "1GiB".
        sandbox, network, mounts, secrets
            As for `udf`.

        Returns
        -------
        Model
            Opaque bytes; see there how a function gets it.
        """
        options = FunctionOptions(
            env=env, retries=retries, timeout=timeout, memory=memory, timeout_ms_default=0,
            confined=confinement("fit", confined, _FIT_OPTIONS),
        )  # fmt: skip
        options.check("fit")
        refuse_unbounded("fit", self._node)
        args: dict[str, Any] = {"function": FitFunction(_plain(function), options)}
        if (names := column_names("fit", columns)) is not None:
            args["columns"] = names
        fitted = self._derive("fit", args).to_arrow()
        return Model(fitted.column("model")[0].as_py(), args["function"].name)

    @without_our_frames
    def cache(self) -> Table:
        """Compute the table once, and keep it in the engine.

        The first job that needs the result computes all of it, in a job of its own that runs
        before; the rows stay in memory up to the engine's limit, and then in files of its
        spill folder. They are given up when no table refers to them any more.

        Returns
        -------
        Table
            The same rows in the same order.

        Examples
        --------
        ``clean = raw.with_columns(x=slow("text")).cache()``: what is made of ``clean`` calls
        ``slow`` once for each row of ``raw``, however often it is asked for.
        """
        refuse_unbounded("cache", self._node)
        return self._derive("cache", {"table": KeptTable()})

    # --- what it is ---

    @property
    @without_our_frames
    def schema(self) -> pa.Schema:
        """The columns and their Arrow types. The engine is asked; no row is read."""
        node = self._node
        if node.schema is None:
            node.schema = self._describe(node)
        return node.schema

    @property
    @without_our_frames
    def columns(self) -> list[str]:
        """The names of the columns."""
        return self.schema.names

    @property
    def unbounded(self) -> bool:
        """Whether the table is a stream, which has no end."""
        return is_unbounded(self._node)

    @without_our_frames
    def explain(self, *, analyze: bool = False) -> str:
        """Write the plan as text: the last step first, its inputs below it, indented.

        Parameters
        ----------
        analyze : bool, default False
            Run the plan, throw its rows away, and write below it what each operator of the
            engine has cost: rows, bytes handed on, seconds of work without waiting (of Python
            functions the sum over their workers) and, of functions, the workers, the most
            memory that they held together, their bundles, and how often one was replaced.
        """
        if not analyze:
            return explain(self._node)
        refuse_unbounded("explain", self._node)
        sink = Node("discard", (self._node,), None, user_origin())
        job = Job(self._context.engine(), sink)
        job.result()
        return explain(self._node) + "\n\n" + render_costs(job.progress())

    # --- results ---

    @without_our_frames
    def count(self) -> int:
        """Count the rows."""
        refuse_unbounded("count", self._node)
        counted = self._derive(
            "agg", {"aggregates": [{"name": "n", "expr": into_expr("count(*)")}]}
        )
        return counted.to_arrow().column("n")[0].as_py()

    @without_our_frames
    def show(self, n: int = _SHOWN_DEFAULT) -> None:
        """Print the first `n` rows."""
        whole_number("show", "n", n, 0)
        table = self._derive("limit", {"n": n + 1}).to_arrow()
        more = table.num_rows > n
        if more:  # a slice of a table without columns would have as many rows as asked for
            table = table.slice(0, n)
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        print(render_table(table, more, encoding=encoding))

    @without_our_frames
    def collect(self) -> list[dict[str, Any]]:
        """Give the rows as dicts of Python values."""
        refuse_unbounded("collect", self._node)
        table = self.to_arrow()
        try:
            return table.to_pylist()
        except (OverflowError, ValueError) as error:
            raise _beyond_python(table, str(error)) from None

    @without_our_frames
    def to_arrow(self) -> pa.Table:
        """Give the rows as an Arrow table."""
        refuse_unbounded("to_arrow", self._node)
        schema, batches = self._run().batches()
        return pa.Table.from_batches(list(batches), schema)

    @without_our_frames
    def to_pandas(self) -> pd.DataFrame:
        """Give the rows as a pandas DataFrame."""
        refuse_unbounded("to_pandas", self._node)
        return self.to_arrow().to_pandas()

    @without_our_frames
    def to_polars(self) -> pl.DataFrame:
        """Give the rows as a polars DataFrame. polars must be installed."""
        refuse_unbounded("to_polars", self._node)
        import polars as pl

        frame = pl.from_arrow(self.to_arrow())
        assert isinstance(frame, pl.DataFrame)
        return frame

    def iter_batches(self) -> Generator[pa.RecordBatch]:
        """Give the rows batch by batch, while the job runs.

        An iterator that is closed or given up before its end cancels the job.
        """
        return self._run().batches()[1]

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Give the rows through Arrow's C interface; a job runs for it."""
        refuse_unbounded("__arrow_c_stream__", self._node)
        schema, batches = self._run().batches()
        reader = pa.RecordBatchReader.from_batches(schema, batches)
        return reader.__arrow_c_stream__(requested_schema)

    @without_our_frames
    def write_parquet(
        self,
        path: str | os.PathLike[str],
        *,
        mode: WriteMode = "error",
        partition_by: str | Sequence[str] | None = None,
        compression: Literal["zstd", "snappy", "gzip", "brotli", "lz4", "none"] | None = None,
        name: str | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_interval: str | datetime.timedelta = "10 seconds",
        wait: bool = True,
    ) -> Job:
        """Write the rows to a Parquet file or a folder of them, which appears when whole.

        With `checkpoint` the output is a folder that gets a file for each checkpoint, and
        each row exactly once, whatever ends the job: the same call goes on where it was.

        Parameters
        ----------
        path : str or path-like
            A file; a folder if it is one, ends in ``/`` or `partition_by` is given. A
            relative path starts at the client's working directory.
        mode : {"error", "overwrite", "append"}
            What to do if it exists: refuse, replace it in one step at the end, or add files
            to the folder. With `checkpoint` it decides about files of the job's name when
            the job starts afresh.
        partition_by : str or sequence of str, optional
            Columns whose values become folders ``key=value``; the files do not hold them.
        compression : str, optional
            The default is zstd.
        name : str, optional
            With `checkpoint`, the name of the job, with which its files begin.
        checkpoint : str or path-like, optional
            A folder for this job alone, which holds how far it is.
        checkpoint_interval : str or timedelta, default "10 seconds"
            The time between two checkpoints, and so the delay of the output.
        wait : bool, default True
            Whether to wait for the job's end.

        Returns
        -------
        Job
            The job; with ``wait=False`` it runs still.
        """
        args = output_args(
            "write_parquet", path, mode=mode, partition_by=partition_by, compression=compression
        )
        if checkpoint is None and name is not None:
            raise bad_option("write_parquet", "write_parquet: name= goes with checkpoint=")
        if checkpoint is not None:
            args.pop("folder", None)
            args["checkpoint"] = checkpoint_args(
                "write_parquet", name, checkpoint, checkpoint_interval
            )
        return self._write("write_parquet", args, wait)

    @without_our_frames
    def write_csv(
        self,
        path: str | os.PathLike[str],
        *,
        mode: WriteMode = "error",
        partition_by: str | Sequence[str] | None = None,
        compression: Literal["none", "gzip", "zstd"] | None = None,
        delimiter: str = ",",
        quote: str = '"',
        header: bool = True,
        null_value: str = "",
        wait: bool = True,
    ) -> Job:
        """Write the rows to a CSV file or a folder of them, which appears when whole.

        Nested values are written as JSON, binary ones as base64.

        Parameters
        ----------
        path, mode, partition_by, wait
            See `write_parquet`.
        compression : str, optional
            The default is what the file's name says: ``.gz`` or ``.zst``.
        delimiter, quote : str
            What stands between fields, and what encloses those that need it.
        header : bool, default True
            Whether the first line names the columns.
        null_value : str, default ""
            What stands for NULL; a text that equals it is put into quotes.

        Returns
        -------
        Job
            The job; with ``wait=False`` it runs still.
        """
        args = output_args(
            "write_csv", path, mode=mode, partition_by=partition_by, compression=compression
        )
        args |= csv_output_args(
            "write_csv", delimiter=delimiter, quote_mark=quote, header=header, null_value=null_value
        )
        return self._write("write_csv", args, wait)

    @without_our_frames
    def write_json(
        self,
        path: str | os.PathLike[str],
        *,
        mode: WriteMode = "error",
        partition_by: str | Sequence[str] | None = None,
        compression: Literal["none", "gzip", "zstd"] | None = None,
        wait: bool = True,
    ) -> Job:
        """Write the rows as JSON objects, one a line, to a file or a folder of files.

        Times are written as in ISO 8601, binary values as base64, and NaN and the infinities
        as strings of these names.

        Parameters
        ----------
        path, mode, partition_by, wait
            See `write_parquet`.
        compression : str, optional
            The default is what the file's name says: ``.gz`` or ``.zst``.

        Returns
        -------
        Job
            The job; with ``wait=False`` it runs still.
        """
        args = output_args(
            "write_json", path, mode=mode, partition_by=partition_by, compression=compression
        )
        return self._write("write_json", args, wait)

    def __repr__(self) -> str:
        step = explain(self._node).split("\n", 1)[0]
        return f"<alink.Table {step}>"

    @without_our_frames
    def _repr_html_(self) -> str:
        """Show the first rows in a notebook; they are computed once for each plan."""
        from alink._notebook import preview

        return preview(self._node, lambda n: self._derive("limit", {"n": n}).to_arrow())

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("a table belongs to its connection and is not sent to workers")

    # --- ---

    def _require_mate(self, operator: str, other: Table) -> None:
        """Refuse what is not a table of the same connection."""
        if not isinstance(other, Table):
            raise bad_option(operator, f"{operator} takes a table, not {type(other).__name__}")
        if other._context is not self._context:
            raise failure(
                codes.INVALID_PLAN,
                f"{operator}: the two tables belong to different connections",
                operator=operator,
                source=user_origin(),
                hint="make both with the same context",
            )

    def _describe(self, node: Node) -> pa.Schema:
        engine = self._context.engine()
        plan = build_plan(
            node, kept=False, shares_machine=engine.shares_machine, sandbox=engine.sandbox
        )
        return engine.describe(plan)

    def _write(self, operator: str, args: Mapping[str, Any], wait: bool) -> Job:
        sink = Node(operator, (self._node,), args, user_origin())
        job = Job(self._context.engine(), sink, quiet=not wait, detached=not wait)
        if wait:
            job.result()
        return job

    def _run(self) -> Job:
        args = {"endless": True} if self.unbounded else None
        sink = Node("collect", (self._node,), args, user_origin())
        return Job(self._context.engine(), sink)

    def _starred(
        self, exprs: Sequence[IntoExpr | Mapping[str, IntoExpr]]
    ) -> list[IntoExpr | Mapping[str, IntoExpr]]:
        """Put the columns in the place of "*"."""
        out: list[IntoExpr | Mapping[str, IntoExpr]] = []
        for expr in exprs:
            if isinstance(expr, str) and expr.strip() == "*":
                out += map(col, self.columns)
            else:
                out.append(expr)
        return out

    def _derive(self, op: str, args: Mapping[str, Any], *others: Node) -> Table:
        return Table(self._context, Node(op, (self._node, *others), args, user_origin()))


class GroupBy:
    """A table's groups, as `Table.group_by` gives them."""

    __slots__ = ("_keys", "_table")

    def __init__(self, table: Table, keys: list[dict[str, Any]]) -> None:
        self._table = table
        self._keys = keys

    def agg(self, *exprs: IntoExpr | Mapping[str, IntoExpr], **named: IntoExpr) -> Table:
        """Make one row of each group: the keys, then the aggregates.

        Examples
        --------
        ``t.group_by("carrier").agg({"mean gain": "avg(gain)"}, n="count(*)")``
        """
        args: dict[str, Any] = {"aggregates": _named("agg", exprs, named)}
        if self._keys:
            args["keys"] = self._keys
        return self._table._derive("agg", args)

    def count(self) -> Table:
        """Count the rows of each group, in a column "count"."""
        return self.agg(count="count(*)")

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            refuse_attribute(self, name, _names.GROUPS)

    def map_groups(self, function: GroupsFunction[..., Any]) -> Table:
        """Apply a function of groups, made with `alink.map_groups`.

        The result has the function's columns, group by group in no particular order.
        """
        if not isinstance(function, GroupsFunction):
            raise bad_option(
                "map_groups",
                f"map_groups takes a function made with @al.map_groups, not {function!r:.80}",
                'decorate it: @al.map_groups("k string, m double")',
            )
        args: dict[str, Any] = {"function": function}
        if self._keys:
            args["keys"] = self._keys
        if function.columns is not None:
            args["columns"] = function.columns
        return self._table._derive("map_groups", args)

    def __repr__(self) -> str:
        return f"<alink.GroupBy {', '.join(key['name'] for key in self._keys)}>"


def _named(
    operator: str,
    exprs: Sequence[IntoExpr | Mapping[str, IntoExpr]],
    named: Mapping[str, IntoExpr],
) -> list[dict[str, Any]]:
    """Put expressions and the names of their columns in the plan's form."""
    pairs: list[tuple[str, Expr]] = []
    for item in exprs:
        if isinstance(item, Mapping):
            pairs += ((name, into_expr(value)) for name, value in item.items())
        elif isinstance(item, (list, tuple)):
            pairs += ((output_name(e), e) for e in map(into_named, item))
        else:
            expr = into_named(item)
            pairs.append((output_name(expr), expr))
    pairs += ((name, into_expr(value)) for name, value in named.items())
    for name, _ in pairs:
        if not isinstance(name, str) or not name:
            raise bad_option(operator, f"{operator}: {name!r} is not a column name")
    if not pairs and operator != "group_by":
        raise bad_option(operator, f"{operator} needs at least one expression")
    _refuse_twice(operator, [name for name, _ in pairs])
    return [{"name": name, "expr": expr} for name, expr in pairs]


def _column(name: str, new_name: str | None = None) -> dict[str, Any]:
    return {"name": name if new_name is None else new_name, "expr": col(name)}


def _refuse_twice(operator: str, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name.lower() in seen:
            raise failure(
                codes.INVALID_PLAN,
                f"{operator}: two columns would have the name {quote(name)}",
                operator=operator,
                source=user_origin(),
                hint="column names are compared without regard to case",
            )
        seen.add(name.lower())


def _beyond_python(table: pa.Table, cause: str) -> Error:
    """Name the first value that Python has no object for, a date after the year 9999."""
    for name, column in zip(table.column_names, table.columns, strict=True):
        for row in range(table.num_rows):
            try:
                column[row].as_py()
            except (OverflowError, ValueError):
                return failure(
                    codes.TYPE_MISMATCH,
                    f"collect: Python cannot hold the value of {quote(name)} in row {row}",
                    operator="collect",
                    source=user_origin(),
                    cause=cause,
                    hint=f"take the rows with to_arrow(), or cast it: {name}::string",
                )
    raise AssertionError("every value can be converted, but not the table")


def _join_keys(on: str | Sequence[str] | Mapping[str, str] | None) -> list[dict[str, str]]:
    if on is None:
        raise bad_option(
            "join",
            "join: on= is missing",
            'name the columns that must be equal, or join every row with every: how="cross"',
        )
    if isinstance(on, str):
        on = [on]
    pairs = list(on.items()) if isinstance(on, Mapping) else [(name, name) for name in on]
    for pair in pairs:
        if not all(isinstance(name, str) for name in pair):
            raise bad_option("join", f"join: on must name columns, not {on!r:.80}")
    if not pairs:
        raise bad_option("join", "join: on must name at least one column")
    return [{"left": left, "right": right} for left, right in pairs]


def _plain(function: Any) -> Callable[..., Any]:
    if isinstance(function, (Function, MapBatchesFunction)):
        raise bad_option(
            "fit",
            f"fit takes a plain function of batches, not {function!r}",
            "leave the decorator out",
        )
    return function


__all__ = ["GroupBy", "Table"]
