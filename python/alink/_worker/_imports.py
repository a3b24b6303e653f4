"""How long the modules take that functions import while they are loaded, by top-level package.

Of a module that imports others only its own part is counted to it, so that the times add up.
"""

from __future__ import annotations

import builtins
import contextlib
import sys
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator

MODULES_MAX = 1_024
SHOWN_NS_MIN = 100_000

_spent: dict[str, int] = {}


def taken() -> dict[str, int]:
    """Give the nanoseconds by package that have been counted since this was last asked."""
    global _spent
    if not _spent:
        return {}
    spent, _spent = _spent, {}
    return {package: ns for package, ns in spent.items() if ns >= SHOWN_NS_MIN}


@contextlib.contextmanager
def measured() -> Generator[None]:
    """Measure the imports in a block."""
    original = builtins.__import__
    within = 0  # what imports inside of the running one have taken so far

    def measuring(
        name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
    ) -> Any:
        nonlocal within
        if level or (name in sys.modules and not fromlist):  # a package's own part, or nothing
            return original(name, globals, locals, fromlist, level)
        outer, within = within, 0
        began = perf_counter_ns()
        try:
            return original(name, globals, locals, fromlist, level)
        finally:
            took = perf_counter_ns() - began
            package = name.partition(".")[0]
            if package in _spent or len(_spent) < MODULES_MAX:
                _spent[package] = _spent.get(package, 0) + took - within
            within = outer + took

    builtins.__import__ = measuring
    try:
        yield
    finally:
        if builtins.__import__ is measuring:
            builtins.__import__ = original
