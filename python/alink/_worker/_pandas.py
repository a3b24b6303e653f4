"""Keeps pyarrow from importing pandas behind the user's back.

pyarrow's Python code looks for pandas at the first conversion (``pa.array``, ``pa.scalar`` …)
and imports it where it is installed, which takes 0.2 to 2 seconds. It looks once and remembers
what it found. So:

1. ``keep_out`` makes it look while the import is refused, and it goes on without.
2. When user code imports pandas after all, pyarrow is made to look again as soon as the import
   is done, so that ``pa.array(series)`` and its like work as they always do. What needs pandas
   (``to_pandas``) makes pyarrow import it by itself.

pyarrow's C++ code looks by itself where it makes numpy arrays (``Array.to_numpy``) and where it
infers the type of a Python value (``pa.array([1.0])``, ``pa.scalar(2.0)``, ``pc.multiply(array,
2.0)``, but not ``pa.scalar(2.0, pa.float64())``). It cannot be made to look again, and without
what it finds there it takes pandas' ``NaT`` for a time. So the harness does neither, and leaves
the import to happen where user code does.
"""

from __future__ import annotations

import sys
from importlib.abc import Loader
from typing import TYPE_CHECKING, Any

import pyarrow.lib

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

NAME = "pandas"


def keep_out() -> None:
    """Let pyarrow start without pandas, until somebody imports it."""
    shim = getattr(pyarrow.lib, "_pandas_api", None)
    if shim is None or NAME in sys.modules:
        return
    refuse = _Refuse()
    sys.meta_path.insert(0, refuse)
    try:
        _ = shim.have_pandas
    finally:
        sys.meta_path.remove(refuse)
    if NAME not in sys.modules:
        sys.meta_path.insert(0, _Watch(shim))


class _Refuse:
    """A finder that says there is no pandas."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> None:
        if name == NAME:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


class _Watch:
    """A finder that tells pyarrow when pandas has been imported.

    It finds nothing by itself: it asks the other finders and wraps the loader that they give.
    """

    def __init__(self, shim: Any) -> None:
        self._shim = shim
        self._asking = False

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != NAME or self._asking:
            return None
        import importlib.util

        self._asking = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._asking = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Announce(spec.loader, self._shim, self)
        return spec


class _Announce(Loader):
    """A loader that lets pyarrow look for pandas once pandas has been executed."""

    def __init__(self, loader: Any, shim: Any, watch: _Watch) -> None:
        self._loader = loader
        self._shim = shim
        self._watch = watch

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # What pandas does with its own loader (resources, pickling) is none of ours.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        if self._watch in sys.meta_path:
            sys.meta_path.remove(self._watch)
        try:
            _ = self._shim.pd
        except ImportError:
            pass  # a pandas too old for pyarrow: both work, each by itself

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
