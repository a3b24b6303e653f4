"""Where in the user's program a step was written."""

from __future__ import annotations

import ast
import itertools
import linecache
import re
import sys
from types import FrameType

from alink._diag import Source
from alink._syntax import parse

#: What sets a parameter that is shown nowhere: setRedisPassword(…), redis_password=….
_SECRET = re.compile("redis_?password", re.IGNORECASE)
_PACKAGE = __name__.split(".")[0]


def user_origin() -> Source | None:
    """Find the line of the user's program that is being executed.

    Returns
    -------
    Source or None
        The innermost frame outside of this package, with the range of the call where
        Python knows it (3.11 and later).
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and is_ours(frame):
        frame = frame.f_back
    return None if frame is None else _source(frame)


def is_ours(frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__")
    return isinstance(name, str) and (name == _PACKAGE or name.startswith(_PACKAGE + "."))


def _source(frame: FrameType) -> Source:
    code = frame.f_code
    line = frame.f_lineno or code.co_firstlineno
    text = linecache.getline(code.co_filename, line, frame.f_globals).rstrip("\r\n")
    if _SECRET.search(text):
        text = ""  # the value may stand in it
    column, end_column = _columns(frame, line, text)
    function = "" if code.co_name == "<module>" else code.co_name
    return Source(code.co_filename, line, function, text, column, end_column)


def _columns(frame: FrameType, line: int, text: str) -> tuple[int, int]:
    """Give the range of the running call within its line, from 1, or zeros."""
    if not text or sys.version_info < (3, 11):
        return 0, 0
    index = frame.f_lasti // 2  # an instruction has two bytes
    positions = next(itertools.islice(frame.f_code.co_positions(), index, None), None)
    if positions is None:
        return 0, 0
    start_line, end_line, start_byte, end_byte = positions
    if start_line != line or start_byte is None or end_byte is None:
        return 0, 0
    encoded = text.encode()
    end = len(text) if end_line != line else len(encoded[:end_byte].decode(errors="replace"))
    start = len(encoded[:start_byte].decode(errors="replace"))
    start += _method_offset(text[start:end])
    return (start + 1, end + 1) if end > start else (0, 0)


def _method_offset(segment: str) -> int:
    """Skip ``a.b(…)`` in ``a.b(…).c(…)``: the last method of a chain is the one meant."""
    try:
        call = parse(segment, mode="eval").body
    except SyntaxError:  # the call goes on in the next line
        return 0
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
        before = call.func.value.end_col_offset or 0
        return len(segment.encode()[:before].decode(errors="replace")) + 1
    return 0
