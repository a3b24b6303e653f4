"""The exceptions of alink. Each carries the diagnostic that it was made from."""

from __future__ import annotations

import builtins
import functools
import os
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from alink._diag import Diagnostic, ExceptionInfo, Source

P = ParamSpec("P")
R = TypeVar("R")


class Error(Exception):
    """Base class of everything that alink raises on purpose.

    Parameters
    ----------
    diagnostic : Diagnostic
        What went wrong; ``str(error)`` is its rendered form.
    """

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic)
        self.diagnostic = diagnostic

    def __str__(self) -> str:
        return self.diagnostic.render()

    @property
    def code(self) -> str:
        """The diagnostic's code, for example "ALK1001"."""
        return self.diagnostic.code

    @property
    def _render_traceback_(self) -> Callable[..., list[str]]:
        """What IPython asks for before it writes a traceback of its own."""
        if os.environ.get("ALINK_TRACEBACK") == "full":
            raise AttributeError("the whole traceback is wanted")
        return self._traceback_lines

    def _traceback_lines(self, *_: Any) -> list[str]:
        from alink._notebook import error_lines

        return error_lines(self, str(self))


class PlanError(Error):
    """The job is wrong as written: an unknown column, a type that does not fit, an option."""


class UdfError(Error):
    """A Python function failed.

    Its ``__cause__`` is a builtin exception of the class that the function raised, made
    anew from its message, or a `RemoteException`.
    """


class WorkerCrashed(Error):
    """The process that ran a Python function died."""


class WorkerMemoryExceeded(WorkerCrashed):
    """The process that ran a Python function went over its memory limit."""


class WorkerTimeout(WorkerCrashed):
    """The process that ran a Python function made no progress for too long."""


class EnvironmentBuildError(Error):
    """The environment of a function could not be built."""


class DataError(Error):
    """Data outside could not be read or written."""


class ConnectionLost(Error):
    """The engine ended or can no longer be reached."""


class Cancelled(Error):
    """The job was cancelled."""


class RemoteException(Exception):
    """An exception of a worker that is not a builtin one, as plain data.

    Parameters
    ----------
    type : str
        Name of its class, with the module.
    message : str
        Its text.
    frames : tuple of Source
        The user's stack frames, outermost first.
    """

    def __init__(self, type: str, message: str, frames: tuple[Source, ...] = ()) -> None:
        super().__init__(type, message, frames)
        self.type = type
        self.message = message
        self.frames = frames

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


_CLASSES: dict[str, type[Error]] = {
    cls.__name__: cls
    for cls in (
        Error,
        PlanError,
        UdfError,
        WorkerCrashed,
        WorkerMemoryExceeded,
        WorkerTimeout,
        EnvironmentBuildError,
        DataError,
        ConnectionLost,
        Cancelled,
    )
}


def error_of(diagnostic: Diagnostic) -> Error:
    """Make the exception that belongs to a diagnostic's code."""
    from alink._codes import CODES

    name, _ = CODES.get(diagnostic.code, ("Error", ""))
    error = _CLASSES.get(name, Error)(diagnostic)
    # What the client was doing when it learnt of it says nothing to the user.
    error.__suppress_context__ = True
    if diagnostic.exception is not None:
        error.__cause__ = _rebuild(diagnostic.exception, diagnostic.frames)
    return error


def failure(code: str, message: str, **details: Any) -> Error:
    """Make an exception from the parts of a diagnostic."""
    return error_of(Diagnostic(code, message, **details))


def without_our_frames(function: Callable[P, R]) -> Callable[P, R]:
    """Keep alink's own frames out of the traceback of an `Error` that leaves `function`.

    The diagnostic says what they would say, in the user's terms. ``ALINK_TRACEBACK=full``
    shows them.
    """

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except Error as error:
            if os.environ.get("ALINK_TRACEBACK") == "full":
                raise
            raise error.with_traceback(None)  # noqa: B904 it is the same error

    return wrapper


def _rebuild(info: ExceptionInfo, frames: tuple[Source, ...]) -> BaseException:
    """Make a builtin exception again; anything else is described.

    Only classes of ``builtins`` are looked up, by name: nothing that a worker says can
    make the client run code.
    """
    if info.module == "builtins":
        cls = getattr(builtins, info.type, None)
        if isinstance(cls, type) and issubclass(cls, Exception):
            try:
                return cls(info.message)
            except TypeError:  # UnicodeDecodeError and others want more than a text
                pass
    name = info.type if info.module in ("", "builtins") else f"{info.module}.{info.type}"
    return RemoteException(name, info.message, frames)
