"""Connections: where tables come from and what they run on."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from alink import _codes as codes
from alink._config import choice, origin, setting, switch
from alink._confinement import SANDBOXES
from alink._engine import EmbeddedEngine, Engine, EngineOptions, close_when_collected
from alink._errors import failure, without_our_frames
from alink._files import PathsLike, absolute_path, csv_args, sample_args, scan_args
from alink._options import bad_option, byte_size, one_of, refuse_unknown, whole_number
from alink._origin import user_origin
from alink._plan import Node
from alink._remote import RemoteEngine, ServerOptions, read_token, server_options
from alink._settings import PARALLELISM_MAX
from alink._table import Table
from alink._types import SchemaLike
from alink._upload import Upload, arrow_table
from alink.generate import Column

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from alink._flame import Profiling

_OPTIONS = ("server", "token", "tls_ca", "memory", "parallelism", "spill_dir", "sandbox")


class Context:
    """A connection to an engine: of this process, which starts with the first use, or a server's.

    Made by `connect`. Used in a ``with`` statement, it ends the engine of this process, or
    leaves the server; otherwise that happens with the end of the context, its tables and
    the client.
    """

    def __init__(self, options: EngineOptions | ServerOptions) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._closed = False
        self._registered: dict[str, Table] = {}

    @without_our_frames
    def sql(
        self,
        query: str,
        tables: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> Table:
        """Make a table of a SQL query, in DuckDB's dialect.

        Parameters
        ----------
        query : str
            One query: SELECT, WITH, VALUES or FROM. It reads tables only: no files, and
            no statement that changes anything.
        tables : dict, optional
            Tables by the names that they have in the query; pandas, polars and Arrow
            objects too. Other names are looked for among the tables of `register` and then
            among the variables of the caller.
        params : dict, optional
            Values of the query's parameters: ``$km`` gets ``{"km": 100}``. None, bool, int,
            float, str, bytes, Decimal, date, time, datetime, and lists of these.

        Returns
        -------
        Table
            Nothing has run; two columns of one name become ``a`` and ``a_1``.

        Examples
        --------
        ``ctx.sql("SELECT carrier, count(*) AS n FROM flights GROUP BY carrier")``
        """
        from alink._sql import query_table

        return query_table(self, query, tables or {}, params or {}, self._registered)

    @without_our_frames
    def register(self, name: str, table: Any = None) -> None:
        """Give a table a name that queries of this context know.

        Parameters
        ----------
        name : str
            The name; a table that had it before is replaced.
        table : Table
            A table of this context, or a pandas, polars or Arrow object.
        """
        from alink._sql import fold

        if not isinstance(name, str):
            raise bad_option(
                "register",
                f"register takes a name and a table, not {type(name).__name__}",
                'functions are not known to SQL: apply them with with_columns(y=f("x"))',
            )
        if not name or table is None:
            raise bad_option("register", 'register takes a name and a table: register("t", t)')
        if not isinstance(table, Table):
            table = self._from_table(arrow_table(table, "register"))
        elif table._context is not self:
            raise bad_option("register", "register: the table belongs to another connection")
        self._registered[fold(name)] = table

    def read_parquet(
        self,
        path: PathsLike,
        *,
        columns: Sequence[str] | None = None,
        schema: SchemaLike | None = None,
        partitions: bool = True,
        union_by_name: bool = False,
    ) -> Table:
        """Read Parquet files when a job needs them.

        Parameters
        ----------
        path : path or sequence of paths
            A file, a folder (with the folders in it), a pattern (``"data/*.parquet"``,
            ``**`` stands for folders of any depth), or a list of these. Files are read in
            the order of their names; a relative path starts at the client's working
            directory.
        columns : sequence of str, optional
            The columns to read; the default is all.
        schema : str, pyarrow.Schema or dict, optional
            Types of some or all columns, in place of the files' own.
        partitions : bool, default True
            Whether folders named ``key=value`` below `path` are columns: of bigint or date
            if all their values are, otherwise of string.
        union_by_name : bool, default False
            Give NULL for columns that a file does not have; by default that is an error.
        """
        args = scan_args(
            "read_parquet",
            path,
            columns=columns,
            schema=schema,
            partitions=partitions,
            union_by_name=union_by_name,
        )
        return Table(self, Node("read_parquet", (), args, user_origin()))

    def read_csv(
        self,
        path: PathsLike,
        *,
        columns: Sequence[str] | None = None,
        schema: SchemaLike | None = None,
        delimiter: str = ",",
        quote: str | None = '"',
        escape: str | None = None,
        header: bool = True,
        null_values: str | Sequence[str] = "",
        skip_rows: int = 0,
        comment: str | None = None,
        encoding: str = "utf-8",
        sample_rows: int | None = 10_000,
        partitions: bool = True,
        union_by_name: bool = False,
    ) -> Table:
        """Read CSV files when a job needs them; ``.gz`` and ``.zst`` are decompressed.

        Types that `schema` does not declare are found by looking at the first rows:
        boolean, bigint, double, date, time, timestamp, timestamptz, or else string. A later
        value that does not fit is an error, never rounded or cut.

        Parameters
        ----------
        path : path or sequence of paths
            Files, folders or patterns; see `read_parquet`.
        columns : sequence of str, optional
            The columns to read; the default is all.
        schema : str, pyarrow.Schema or dict, optional
            Types of some or all columns. Without a header, all columns in their order.
        delimiter : str, default ","
            What stands between fields.
        quote : str or None, default '"'
            What encloses a field; None gives it no meaning.
        escape : str, optional
            What stands before a quote in a field; by default the quote is doubled.
        header : bool, default True
            Whether the first line names the columns.
        null_values : str or sequence of str, default ""
            Texts that stand for NULL where they are not in quotes.
        skip_rows : int, default 0
            Lines to leave out at the beginning.
        comment : str, optional
            What begins lines to leave out.
        encoding : str, default "utf-8"
            Only UTF-8 is read, with or without a byte order mark.
        sample_rows : int or None, default 10,000
            How many rows are looked at for types; None looks at all.
        partitions, union_by_name : bool
            See `read_parquet`.
        """
        args = scan_args(
            "read_csv",
            path,
            columns=columns,
            schema=schema,
            partitions=partitions,
            union_by_name=union_by_name,
        )
        args |= sample_args("read_csv", sample_rows)
        args |= csv_args(
            "read_csv",
            delimiter=delimiter,
            quote_mark=quote,
            escape=escape,
            header=header,
            null_values=null_values,
            skip_rows=skip_rows,
            comment=comment,
            encoding=encoding,
        )
        return Table(self, Node("read_csv", (), args, user_origin()))

    def read_json(
        self,
        path: PathsLike,
        *,
        columns: Sequence[str] | None = None,
        schema: SchemaLike | None = None,
        sample_rows: int | None = 10_000,
        partitions: bool = True,
    ) -> Table:
        """Read JSON files when a job needs them; ``.gz`` and ``.zst`` are decompressed.

        A file holds JSON objects, one a line, or one array of objects. Nested objects are
        structs, arrays lists; a key that an object lacks is NULL. Values of a key that have
        no type in common are read as string, which keeps their JSON text.

        Parameters
        ----------
        path : path or sequence of paths
            Files, folders or patterns; see `read_parquet`.
        columns : sequence of str, optional
            The columns to read; the default is all.
        schema : str, pyarrow.Schema or dict, optional
            Types of some or all columns.
        sample_rows : int or None, default 10,000
            How many rows are looked at for keys and types; None looks at all.
        partitions : bool
            See `read_parquet`.
        """
        args = scan_args(
            "read_json",
            path,
            columns=columns,
            schema=schema,
            partitions=partitions,
            union_by_name=False,
        )
        args |= sample_args("read_json", sample_rows)
        return Table(self, Node("read_json", (), args, user_origin()))

    def read_generator(
        self,
        schema: Mapping[str, Column],
        *,
        rows: int | None = None,
        rows_per_second: float | None = None,
        batch_rows: int = 8192,
        seed: int = 0,
    ) -> Table:
        """Make rows, for trials and tests of streams.

        Parameters
        ----------
        schema : dict of str to alink.generate.Column
            The columns, made with the functions of `alink.generate`.
        rows : int, optional
            The number of rows; by default there is no end.
        rows_per_second : float, optional
            How fast they come; by default as fast as they can be made.
        batch_rows : int, default 8192
            The largest number of rows in a batch.
        seed : int, default 0
            Another seed makes other random values.

        Examples
        --------
        ``ctx.read_generator({"user": al.generate.integer(0, 1000),
        "ts": al.generate.event_time(step="1 ms", disorder="2 s")}, rows_per_second=1000)``
        """
        if not isinstance(schema, Mapping) or not schema:
            raise bad_option("read_generator", "read_generator: schema must be a dict of columns")
        for name, column in schema.items():
            if not isinstance(name, str) or not isinstance(column, Column):
                raise bad_option(
                    "read_generator",
                    f"read_generator: the column {name!r} must be made by alink.generate, "
                    f"not {column!r:.80}",
                    "for example al.generate.integer(0, 100)",
                )
        args: dict[str, Any] = {"columns": [c.to_json(n) for n, c in schema.items()]}
        if rows is not None:
            args["rows"] = whole_number("read_generator", "rows", rows, 0)
        if rows_per_second is not None:
            if not isinstance(rows_per_second, (int, float)) or not 0 < rows_per_second < 1e12:
                raise bad_option(
                    "read_generator",
                    f"read_generator: rows_per_second must be positive, not {rows_per_second!r}",
                )
            args["rows_per_second"] = rows_per_second
        args["batch_rows"] = whole_number("read_generator", "batch_rows", batch_rows, 1)
        if whole_number("read_generator", "seed", seed, 0):
            args["seed"] = seed % 2**64
        return Table(self, Node("read_generator", (), args, user_origin()))

    def from_arrow(self, data: Any) -> Table:
        """Make a table of an Arrow table, record batch or record batch reader.

        It is sent to the engine when a job first needs it. Columns of a dictionary type
        are decoded.
        """
        return self._from_table(arrow_table(data, "from_arrow"))

    def from_pandas(self, data: pd.DataFrame) -> Table:
        """Make a table of a pandas DataFrame; its index is left out."""
        return self._from_table(arrow_table(data, "from_pandas"))

    def from_polars(self, data: pl.DataFrame) -> Table:
        """Make a table of a polars DataFrame."""
        return self._from_table(arrow_table(data, "from_polars"))

    def from_any(self, data: Any) -> Table:
        """Make a table of anything that has ``__arrow_c_stream__``, of polars for example.

        Of a pandas DataFrame the index is left out.
        """
        return self._from_table(arrow_table(data, "from_any"))

    @without_our_frames
    def dead_letters(self, function: str | None = None) -> Table:
        """Give the rows that a job left out since a function failed on them.

        That is the last job with a function that has ``on_error="dead_letter"``: for results
        that come without a job, ``t.to_arrow()`` for example. See `Job.dead_letters`.
        """
        from alink._letters import dead_letters

        engine = self.engine()
        return dead_letters(self, engine, engine.last_jobs, function)

    @without_our_frames
    def profile(self, path: str | Path) -> Profiling:
        """Profile the functions of the jobs in a ``with`` block, and write what they did.

        A thread in each worker looks a hundred times a second at what the function does; the
        samples of all workers are put together. Our own frames are left out. Jobs that were
        started before, or go on when the block ends, are not in it.

        Parameters
        ----------
        path : str or Path
            ``.svg`` is a flame graph: the width of a frame is its time, the frames that it has
            called stand above it, and a tooltip has the whole name and the numbers. ``.txt`` or
            ``.folded`` are collapsed stacks with microseconds, which speedscope and
            flamegraph.pl read. A file that exists is replaced.
        """
        from alink._flame import Profiling

        return Profiling(self.engine(), Path(path))

    @without_our_frames
    def status(self) -> dict[str, Any]:
        """Tell what the engine holds: its processes, workers, Arrow memory and jobs."""
        return self.engine().status()

    def close(self) -> None:
        """End the engine, or leave the server. The context's tables cannot be used any more.

        On a server, jobs that were started with ``wait=False`` and write files go on.
        """
        with self._lock:
            self._closed = True
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    @without_our_frames
    def engine(self) -> Engine:
        """Give the engine, started if it was not yet.

        Raises
        ------
        ConnectionLost
            If it has ended, or this context was closed or made by another process.
        """
        with self._lock:
            if self._closed:
                raise failure(
                    codes.CONNECTION_LOST,
                    "the connection is closed",
                    source=user_origin(),
                    hint="call al.connect() again",
                )
            if self._engine is None:
                self._engine = (
                    RemoteEngine(self._options)
                    if isinstance(self._options, ServerOptions)
                    else EmbeddedEngine(self._options)
                )
                close_when_collected(self, self._engine)
            engine = self._engine
        engine.check()
        return engine

    @property
    def is_served(self) -> bool:
        """Whether the engine is a server's, whose machine may be another one."""
        return isinstance(self._options, ServerOptions)

    @property
    def usable(self) -> bool:
        """Whether the context was not closed and its engine, if it was started, lives."""
        engine = self._engine
        return not self._closed and (engine is None or engine.usable)

    def _from_table(self, table: pa.Table) -> Table:
        upload = Upload(table)
        node = Node("table", (), {"table": upload}, user_origin(), table.schema)
        return Table(self, node)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a connection belongs to its process and is not sent to workers")

    def __enter__(self) -> Context:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        engine = self._engine
        if self._closed:
            return "<alink.Context closed>"
        if isinstance(self._options, ServerOptions):
            return f"<alink.Context server={self._options.address}>"
        return f"<alink.Context engine={'not started' if engine is None else engine.pid}>"


@without_our_frames
def connect(
    server: str | None = None,
    *,
    token: str | None = None,
    tls_ca: str | os.PathLike[str] | None = None,
    memory: int | str | None = None,
    parallelism: int | None = None,
    spill_dir: str | os.PathLike[str] | None = None,
    sandbox: str | None = None,
    **unknown: NoReturn,
) -> Context:
    """Connect to an engine of this process, or to the engine of a server.

    The engine of this process starts when it is first used. A server is connected to at
    once: it is what ``pyrunner serve`` runs, or ``ALINK_SERVER`` names.

    Parameters
    ----------
    server : str, optional
        Address of a server: "grpc+tls://host:port", "grpc://127.0.0.1:port" or
        "grpc+unix:///path". The default is an engine of this process.
    token : str, optional
        The server's token; the default is ``ALINK_TOKEN``, or what the file holds that the
        setting ``token_file`` names.
    tls_ca : str or path-like, optional
        File of certificates (PEM) that the server's is checked with; the default is the
        system's.
    memory : int or str, optional
        Memory that the jobs of an engine of this process may use, in bytes or as "4GiB".
        What does not fit spills to disk or waits; workers have limits of their own. The
        default is half of the machine's memory.
    parallelism : int, optional
        Number of subtasks of an operator; the default is the number of cores.
    spill_dir : str or path-like, optional
        Folder for what does not fit in memory.
    sandbox : {"auto", "strict", "off"}, optional
        How workers are shut in where their functions do not say: "auto" as far as the
        machine can, "strict" with namespaces of their own or not at all, "off" not. An engine
        of this process that is strict runs no function with less.

    Raises
    ------
    PlanError
        If an option has a value that it cannot take, or is not a server's to take.
    ConnectionLost
        If the server cannot be reached, or refuses the token.

    Examples
    --------
    >>> import alink as al
    >>> with al.connect(memory="1GiB") as ctx:
    ...     print(ctx)
    <alink.Context engine=not started>
    """
    refuse_unknown("connect", unknown, _OPTIONS)
    own = {"memory": memory, "parallelism": parallelism, "spill_dir": spill_dir}
    theirs = {"token": token, "tls_ca": tls_ca}
    sandbox = _sandbox(sandbox)
    if server is None and all(value is None for value in own.values()):
        server = setting("server")
    if server is None:
        for name, value in theirs.items():
            if value is not None:
                raise bad_option(
                    "connect",
                    f"connect: {name}= is for a server, and none is named",
                    'connect("grpc+tls://host:port", token=...)',
                )
        return Context(_engine_options(memory, parallelism, spill_dir, sandbox))
    for name, value in own.items():
        if value is not None:
            raise bad_option(
                "connect",
                f"connect: {name}= is for an engine of this process, not for a server",
                f"the server is started with it: pyrunner serve --{name.replace('_', '-')}",
            )
    ctx = Context(_server_options(server, token, tls_ca, sandbox))
    ctx.engine()
    return ctx


def _server_options(
    server: str,
    token: str | None = None,
    tls_ca: str | os.PathLike[str] | None = None,
    sandbox: str | None = None,
) -> ServerOptions:
    """Take what was passed, and what is set where nothing was."""
    if token is None and not (token := os.environ.get("ALINK_TOKEN")):
        path = setting("token_file")
        token = None if path is None else read_token(path)
    return server_options(server, token, tls_ca or setting("tls_ca"), _sandbox(sandbox))


def _engine_options(
    memory: int | str | None = None,
    parallelism: int | None = None,
    spill_dir: str | os.PathLike[str] | None = None,
    sandbox: str | None = None,
) -> EngineOptions:
    """Take what was passed, and what is set where nothing was."""
    names = {"memory": "memory", "parallelism": "parallelism"}
    if memory is None and (memory := setting("memory")) is not None:
        names["memory"] = origin("memory")
    if parallelism is None and (text := setting("parallelism")) is not None:
        names["parallelism"] = origin("parallelism")
        parallelism = int(text) if text.isascii() and text.isdigit() else -1
    if spill_dir is None:
        spill_dir = setting("spill_dir")
    return EngineOptions(
        memory_limit_bytes=0 if memory is None else byte_size("connect", names["memory"], memory),
        worker_memory_bytes=0
        if (workers := setting("worker_memory")) is None
        else byte_size("connect", origin("worker_memory"), workers),
        parallelism=0
        if parallelism is None
        else whole_number("connect", names["parallelism"], parallelism, 1, PARALLELISM_MAX),
        spill_dir=None if spill_dir is None else absolute_path("connect", spill_dir),
        offline=switch("offline"),
        source_builds=setting("source_builds") is None or switch("source_builds"),
        sandbox=_sandbox(sandbox) or "auto",
        lane=choice("lane") or "local",
        launcher=setting("launcher"),
    )


def _sandbox(given: str | None) -> str | None:
    """Take how workers are to be shut in, from what was passed or is set."""
    if given is not None:
        return one_of("connect", "sandbox", given, SANDBOXES)
    return choice("sandbox")


_default: Context | None = None
_default_lock = threading.Lock()


def default_context() -> Context:
    """Give the context of `read_parquet` and its like, which is made when it is needed.

    After its engine was lost, and in a forked child, it is a new one.
    """
    global _default
    with _default_lock:
        if _default is None or not _default.usable:
            server = setting("server")
            _default = Context(_engine_options() if server is None else _server_options(server))
        return _default


def _forget_default() -> None:
    global _default
    _default = None


# Before the engines are closed: their contexts must not be used after that.
atexit.register(_forget_default)


def read_parquet(path: PathsLike, **options: Any) -> Table:
    """Read Parquet files with the default context; see `Context.read_parquet`."""
    return default_context().read_parquet(path, **options)


def read_csv(path: PathsLike, **options: Any) -> Table:
    """Read CSV files with the default context; see `Context.read_csv`."""
    return default_context().read_csv(path, **options)


def read_json(path: PathsLike, **options: Any) -> Table:
    """Read JSON files with the default context; see `Context.read_json`."""
    return default_context().read_json(path, **options)


def read_generator(
    schema: Mapping[str, Column],
    *,
    rows: int | None = None,
    rows_per_second: float | None = None,
    batch_rows: int = 8192,
    seed: int = 0,
) -> Table:
    """Make rows with the default context; see `Context.read_generator`."""
    return default_context().read_generator(
        schema, rows=rows, rows_per_second=rows_per_second, batch_rows=batch_rows, seed=seed
    )


@without_our_frames
def sql(
    query: str,
    tables: Mapping[str, Any] | None = None,
    params: Mapping[str, Any] | None = None,
) -> Table:
    """Make a table of a SQL query with the default context; see `Context.sql`."""
    return default_context().sql(query, tables, params)


def from_arrow(data: Any) -> Table:
    """Make a table of Arrow data with the default context; see `Context.from_arrow`."""
    return default_context().from_arrow(data)


def from_pandas(data: pd.DataFrame) -> Table:
    """Make a table of a DataFrame with the default context; see `Context.from_pandas`."""
    return default_context().from_pandas(data)


def from_polars(data: pl.DataFrame) -> Table:
    """Make a table of a polars DataFrame with the default context."""
    return default_context().from_polars(data)


def from_any(data: Any) -> Table:
    """Make a table of any tabular data with the default context; see `Context.from_any`."""
    return default_context().from_any(data)
