"""The engine that operators run on, and what waits for the next ``execute``."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from alink._connection import Context, connect, default_context
from alink.operators._downloads import Downloads

if TYPE_CHECKING:
    from alink._plan import Node
    from alink._table import Table
    from alink.operators._operator import AlgoOperator


@dataclass
class Session:
    """An engine, the tables that have names, and what waits for the next ``execute``.

    Attributes
    ----------
    parallelism : int or None
        None leaves it to the engine.
    waiting : dict
        By kind ("batch" or "stream"), operators and what is called with the rows of each.
    sinks : dict
        By kind, steps of a plan that write: the next ``execute`` runs them.
    models : dict
        The models of StringIndexer that have a name, by which IndexToString finds them.
    downloads : Downloads
        The files that sources have read from URLs.
    """

    parallelism: int | None = None
    named: dict[str, AlgoOperator] = field(default_factory=dict)
    functions: dict[str, Any] = field(default_factory=dict)
    waiting: dict[str, list[Waiting]] = field(default_factory=dict)
    sinks: dict[str, list[Node]] = field(default_factory=dict)
    models: dict[str, Table] = field(default_factory=dict)
    downloads: Downloads = field(default_factory=Downloads)
    _context: Context | None = None

    @property
    def context(self) -> Context:
        """The connection to the engine, which starts with the first use."""
        if self._context is None or not self._context.usable:
            if self.parallelism is None:
                self._context = default_context()
            else:
                self._context = connect(parallelism=self.parallelism)
        return self._context

    def close(self) -> None:
        """End the engine, if it is the session's own."""
        if self._context is not None and self.parallelism is not None:
            self._context.close()
        self._context = None
        self.downloads.close()


@dataclass(frozen=True)
class Waiting:
    """An operator whose rows are wanted with the next ``execute``."""

    operator: AlgoOperator
    done: Callable[[Any], None]


_lock = threading.Lock()
_session: Session | None = None


def session() -> Session:
    """Give the session, which is made at its first use."""
    global _session
    with _lock:
        if _session is None:
            _session = Session()
        return _session


def begin(parallelism: int | None) -> Session:
    """Begin a session of its own engine; what the one before had is forgotten."""
    return _replace(Session(parallelism))


def resetEnv() -> None:
    """End the engine of ``useLocalEnv``, and forget what has a name or waits."""
    _replace(None)


def _replace(new: Session | None) -> Any:
    global _session
    with _lock:
        old, _session = _session, new
    if old is not None:
        old.close()
    return new
