"""Alink's operators, with all that PyAlink's programs import: ``from alink.pyalink import *``."""

from __future__ import annotations

from alink.operators import *  # noqa: F403 all that PyAlink has, by design
from alink.operators import __all__ as __all__
from alink.operators import __getattr__ as __getattr__
