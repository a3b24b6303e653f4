"""What went wrong in a bundle, as the JSON object that the engine makes a diagnostic of."""

from __future__ import annotations

import errno
import itertools
import json
import linecache
import os
import reprlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, TracebackType

# Limits on what one error may carry.
FRAMES_MAX = 20
VALUES_MAX = 50
REPR_CHARS_MAX = 80
TEXT_CHARS_MAX = 500
MESSAGE_CHARS_MAX = 2_000


class Failure(Exception):
    """Ends a bundle with an error.

    Parameters
    ----------
    error
        Its kind: raised, refused, type, length, load, module or protocol.
    message
        One sentence with the user's own names.
    details
        Further members of the JSON object; those that are None are left out.
    """

    def __init__(self, error: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.details: dict[str, Any] = {
            "error": error,
            "message": _cut(message, MESSAGE_CHARS_MAX),
            **{key: value for key, value in details.items() if value is not None},
        }

    def json(self) -> str:
        """Give the JSON object."""
        return json.dumps(self.details)


def raised(exception: BaseException, what: str, error: str = "raised", **details: Any) -> Failure:
    """Describe an exception of user code.

    Parameters
    ----------
    what
        What the exception ended, as the beginning of the sentence: "made_up raised".
    error
        The kind of the failure. A module that is missing makes it "module", whatever it was.

    An exception that says ``refusal`` of itself is a sentence for the user, and tells nothing of
    where it was raised.
    """
    kind = type(exception)
    text = message_of(exception)
    if getattr(kind, "refusal", None) is True:
        return Failure("refused", _cut(text, TEXT_CHARS_MAX), **details)
    if isinstance(exception, ModuleNotFoundError):
        error = "module"
        details["missing"] = exception.name or ""
    if out_of_memory(exception):
        details["out_of_memory"] = True
        details.setdefault("peak_bytes", _peak_bytes())
        details.setdefault("hint", 'raise memory= ("4GiB"), or hold less at a time')
    elif isinstance(exception, SystemExit):
        details.setdefault("hint", "a function returns a value or raises; it does not end programs")
    first = _cut(text.splitlines()[0], TEXT_CHARS_MAX) if text else ""
    return Failure(
        error,
        f"{what} {kind.__name__}: {first}" if first else f"{what} {kind.__name__}",
        exception={"module": kind.__module__, "type": kind.__qualname__, "message": text},
        frames=frames_of(exception.__traceback__, exception),
        **details,
    )


def out_of_memory(exception: BaseException) -> bool:
    """Tell whether an exception says that there was no memory.

    Python's own does and, by its name, that of some libraries; a system call that wants some
    (``mmap``, ``fork``) fails with an `OSError` of the number ENOMEM.
    """
    if isinstance(exception, OSError):
        return exception.errno == errno.ENOMEM
    return isinstance(exception, MemoryError) or type(exception).__name__.endswith("MemoryError")


def _peak_bytes() -> int:
    import resource  # only ever needed when something has failed

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def failure_of(exception: BaseException) -> Failure:
    """Describe what ended a bundle: a Failure, SIGINT, or else a fault of the worker."""
    if isinstance(exception, Failure):
        return exception
    if isinstance(exception, KeyboardInterrupt):
        return raised(exception, "the bundle was interrupted by")
    return raised(exception, "the worker failed with", "protocol")


def message_of(exception: BaseException) -> str:
    """Give an exception's text with its notes; a ``__str__`` that fails gives none."""
    try:
        notes = getattr(exception, "__notes__", None) or []
        lines = [str(exception), *(note for note in notes if isinstance(note, str))]
        return _cut("\n".join(lines).rstrip(), MESSAGE_CHARS_MAX)
    except Exception:
        return ""


def values_of(names: Sequence[str], values: Sequence[Any]) -> list[dict[str, str]]:
    """Show the arguments of a call, as ``repr`` does but short."""
    return [
        {"name": names[i] if i < len(names) else f"argument {i + 1}", "repr": short_repr(value)}
        for i, value in enumerate(values[:VALUES_MAX])
    ]


def short_repr(value: Any) -> str:
    """Give a value's ``repr`` in at most 80 characters; one that fails gives the type."""
    try:
        return _cut(_REPR.repr(value), REPR_CHARS_MAX)
    except Exception:
        return f"<{type(value).__name__}>"


def _cut(text: str, chars: int) -> str:
    return text if len(text) <= chars else text[: chars - 1] + "…"


def _bounded_repr() -> reprlib.Repr:
    bounded = reprlib.Repr()
    # One more than is shown, so that a cut value ends in "…".
    bounded.maxstring = bounded.maxother = bounded.maxlong = REPR_CHARS_MAX + 1
    bounded.maxlist = bounded.maxtuple = bounded.maxset = bounded.maxfrozenset = 20
    bounded.maxdict = bounded.maxarray = 10
    return bounded


_REPR = _bounded_repr()


# Frames -----------------------------------------------------------------------------------


def frames_of(
    traceback: TracebackType | None, exception: BaseException | None = None
) -> list[dict[str, Any]]:
    """Give the user's own frames, outermost first.

    Frames of the harness, of the standard library and of installed packages are left out. If
    nothing is left, the innermost of all is kept.
    """
    syntax = _syntax_frame(exception)
    if syntax is not None:
        return [syntax]
    user: list[dict[str, Any]] = []
    last: tuple[CodeType, int, int] | None = None
    while traceback is not None:
        code = traceback.tb_frame.f_code
        last = code, traceback.tb_lineno, traceback.tb_lasti
        if not _hidden(code.co_filename):
            user.append(_frame(*last))
            del user[:-FRAMES_MAX]
        traceback = traceback.tb_next
    if not user and last is not None and not last[0].co_filename.startswith(_HARNESS):
        user.append(_frame(*last))
    return user


def _syntax_frame(exception: BaseException | None) -> dict[str, Any] | None:
    """Give the line that a SyntaxError is about, which no frame points at."""
    if not isinstance(exception, SyntaxError) or not exception.filename or not exception.lineno:
        return None
    if _hidden(exception.filename):
        return None
    return {
        "file": exception.filename,
        "line": exception.lineno,
        "function": "",
        "text": _cut((exception.text or "").rstrip("\r\n"), TEXT_CHARS_MAX),
        "column": exception.offset or 0,
        "end_column": exception.end_offset or 0,
    }


_HARNESS = os.path.dirname(os.path.abspath(__file__)) + os.sep


def _library_folders() -> tuple[str, ...]:
    import sysconfig  # only ever needed when something has failed

    names = ("stdlib", "platstdlib", "purelib", "platlib")
    folders = {sysconfig.get_path(name) for name in names}
    folders |= {os.path.realpath(folder) for folder in folders if folder}
    return tuple(sorted(folder + os.sep for folder in folders if folder))


_libraries: tuple[str, ...] | None = None


def add_library_folder(folder: str) -> None:
    """Hide the frames of the packages in a folder that is on ``sys.path``."""
    global _libraries
    _libraries = (*(_libraries or _library_folders()), folder.rstrip(os.sep) + os.sep)


def _hidden(file: str) -> bool:
    global _libraries
    if _libraries is None:
        _libraries = _library_folders()
    if file.startswith((_HARNESS, "<frozen ", "<__array_function__", *_libraries)):
        return True
    # cloudpickle comes with a function, in one of its own module folders.
    return f"{os.sep}cloudpickle{os.sep}" in file


def _frame(code: CodeType, line: int, instruction: int) -> dict[str, Any]:
    text = linecache.getline(code.co_filename, line).rstrip("\r\n")
    frame: dict[str, Any] = {
        "file": code.co_filename,
        "line": line,
        "function": code.co_name,
        "text": _cut(text, TEXT_CHARS_MAX),
    }
    columns = _columns(code, line, instruction, text)
    if columns is not None:
        frame["column"], frame["end_column"] = columns
    return frame


def _columns(code: CodeType, line: int, instruction: int, text: str) -> tuple[int, int] | None:
    """Give where in its line an instruction stands: 1-based, the end exclusive.

    Python counts bytes. Where the text is not at hand (the file is on the client's machine
    only) the bytes are passed on as they are, which is right for ASCII.
    """
    if sys.version_info < (3, 11) or instruction < 0:
        return None
    position = next(itertools.islice(code.co_positions(), instruction // 2, None), None)
    if position is None:
        return None
    first, last, start, end = position
    if first != line or start is None or end is None:
        return None
    raw = text.encode("utf-8", "surrogatepass")
    if last != first:
        end = len(raw) or start + 1  # the expression goes on in the next line
    if raw:
        start, end = (
            len(raw[:start].decode("utf-8", "ignore")),
            len(raw[:end].decode("utf-8", "ignore")),
        )
    return (start + 1, end + 1) if end > start else None
