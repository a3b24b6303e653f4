"""Python's own parser, for one thread at a time."""

from __future__ import annotations

import ast
import threading
from typing import Any

# CPython 3.11 counts the depth of the tree that it makes in one place for all threads, and
# raises SystemError ("recursion depth mismatch") where two make one at the same time.
_LOCK = threading.Lock()


def parse(source: str | bytes, filename: str = "<unknown>", mode: str = "exec") -> Any:
    """Parse as `ast.parse` does.

    Raises
    ------
    SyntaxError
        If it is no Python, or other code of the user's parses at the same time (3.11).
    """
    with _LOCK:
        try:
            return ast.parse(source, filename, mode)
        except SystemError as error:
            raise SyntaxError(str(error)) from None


def literal(text: str) -> Any:
    """Evaluate as `ast.literal_eval` does."""
    return ast.literal_eval(parse(text.lstrip(" \t"), mode="eval"))
