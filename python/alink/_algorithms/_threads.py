"""How many threads numpy's linear algebra uses."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

#: The names under which builds of OpenBLAS have its functions.
_PREFIXES = ("scipy_openblas_", "openblas_")
_SUFFIXES = ("64_", "")
#: As if so many processes shared the cores that there is one thread for each.
ALONE = 2**20


@contextlib.contextmanager
def threads(sharing: int) -> Generator[None, None, None]:
    """Let linear algebra use the processor's cores only as far as so many processes share them.

    Where it is not OpenBLAS, or a system that tells no loaded libraries, nothing changes.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    library = _openblas() if sharing > 1 else None
    if library is None:
        yield
        return
    get, set_ = library
    before = get()
    set_(max(1, min(before, cores // sharing)))
    try:
        yield
    finally:
        set_(before)


@functools.cache
def _openblas() -> tuple[Any, Any] | None:
    """Find the functions of the OpenBLAS that numpy has loaded, which get and set the number."""
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    for path in sorted({line.split()[-1] for line in maps.splitlines() if "openblas" in line}):
        with contextlib.suppress(OSError):
            library = ctypes.CDLL(path)
            for prefix in _PREFIXES:
                for suffix in _SUFFIXES:
                    get = getattr(library, f"{prefix}get_num_threads{suffix}", None)
                    set_ = getattr(library, f"{prefix}set_num_threads{suffix}", None)
                    if get is not None and set_ is not None:
                        return get, set_
    return None
