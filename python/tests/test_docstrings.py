"""The examples in docstrings, run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import sys
from pathlib import Path

import pytest

import alink as al

MODULES = [
    "alink",
    *(f"alink.{m.name}" for m in pkgutil.iter_modules(al.__path__) if m.name != "_worker"),
]


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


def test_what_is_exported():
    """Every name has a docstring, and nothing is exported that is not listed."""
    for name in al.__all__:
        assert getattr(al, name).__doc__, name
    public = {name for name in vars(al) if not name.startswith("_")} - {"annotations"}
    # Modules that somebody has imported stand there too.
    public -= {name for name in public if f"alink.{name}" in sys.modules} - set(al.__all__)
    assert public == set(al.__all__)
    assert Path(al.__path__[0], "py.typed").exists()
