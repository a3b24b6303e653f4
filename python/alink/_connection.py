"""Connections: where tables come from and what they run on."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from alink import _codes as codes
from alink._diag import quote
from alink._engine import Engine, EngineOptions, close_when_collected
from alink._errors import failure, without_our_frames
from alink._functions import column_names
from alink._options import bad_option, byte_size, refuse_unknown, whole_number
from alink._origin import user_origin
from alink._plan import Node
from alink._table import Table
from alink._upload import Upload, arrow_table

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

_OPTIONS = ("memory", "parallelism", "spill_dir")


class Context:
    """A connection to an engine of this process, which starts when it is first used.

    Made by `connect`. Used in a ``with`` statement, it ends the engine; otherwise the
    engine ends with the context, its tables and the client.
    """

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._closed = False

    def read_parquet(
        self, path: str | os.PathLike[str], *, columns: Sequence[str] | None = None
    ) -> Table:
        """Read a Parquet file when a job needs it.

        Parameters
        ----------
        path : str or path-like
            The file; a relative path starts at the client's working directory.
        columns : sequence of str, optional
            The columns to read; the default is all.
        """
        args: dict[str, Any] = {"path": absolute_path("read_parquet", path)}
        if (names := column_names("read_parquet", columns)) is not None:
            args["columns"] = names
        return Table(self, Node("read_parquet", (), args, user_origin()))

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
    def status(self) -> dict[str, Any]:
        """Tell what the engine holds: its processes, workers, Arrow memory and jobs."""
        return self.engine().status()

    def close(self) -> None:
        """End the engine. The context's tables cannot be used any more."""
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
                self._engine = Engine(self._options)
                close_when_collected(self, self._engine)
            engine = self._engine
        engine.check()
        return engine

    @property
    def usable(self) -> bool:
        """Whether the context was not closed and its engine, if it was started, lives."""
        engine = self._engine
        return not self._closed and (engine is None or engine.usable)

    def _from_table(self, table: pa.Table) -> Table:
        upload = Upload(table)
        node = Node("table", (), {"table": upload}, user_origin(), table.schema)
        return Table(self, node)

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
        return f"<alink.Context engine={'not started' if engine is None else engine.pid}>"


def connect(
    *,
    memory: int | str | None = None,
    parallelism: int | None = None,
    spill_dir: str | os.PathLike[str] | None = None,
    **unknown: NoReturn,
) -> Context:
    """Connect to an engine of this process, which starts when it is first used.

    Parameters
    ----------
    memory : int or str, optional
        Memory that the engine's jobs may use, in bytes or as "4GiB". What does not fit
        spills to disk or waits; workers have limits of their own. The default is half of
        the machine's memory.
    parallelism : int, optional
        Number of subtasks of an operator; the default is the number of cores.
    spill_dir : str or path-like, optional
        Folder for what does not fit in memory.

    Raises
    ------
    PlanError
        If an option has a value that it cannot take.

    Examples
    --------
    >>> import alink as al
    >>> with al.connect(memory="1GiB") as ctx:
    ...     print(ctx)
    <alink.Context engine=not started>
    """
    refuse_unknown("connect", unknown, _OPTIONS)
    return Context(
        EngineOptions(
            memory_limit_bytes=0 if memory is None else byte_size("connect", "memory", memory),
            parallelism=0
            if parallelism is None
            else whole_number("connect", "parallelism", parallelism, 1),
            spill_dir=None if spill_dir is None else absolute_path("connect", spill_dir),
        )
    )


_default: Context | None = None
_default_lock = threading.Lock()


def default_context() -> Context:
    """Give the context of `read_parquet` and its like, which is made when it is needed.

    After its engine was lost, and in a forked child, it is a new one.
    """
    global _default
    with _default_lock:
        if _default is None or not _default.usable:
            _default = Context(EngineOptions())
        return _default


def _forget_default() -> None:
    global _default
    _default = None


# Before the engines are closed: their contexts must not be used after that.
atexit.register(_forget_default)


def read_parquet(path: str | os.PathLike[str], *, columns: Sequence[str] | None = None) -> Table:
    """Read a Parquet file with the default context; see `Context.read_parquet`."""
    return default_context().read_parquet(path, columns=columns)


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


def absolute_path(operator: str, path: str | os.PathLike[str]) -> str:
    """Make a path absolute; a relative one starts at the working directory."""
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(text, str) or not text or "\0" in text:
        raise bad_option(operator, f"{operator}: {quote(str(text))} is not a path")
    # Not Path.resolve: the user's own names stay, symbolic links are not followed.
    return os.path.abspath(Path(text).expanduser())  # noqa: PTH100
