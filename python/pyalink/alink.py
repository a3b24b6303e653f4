"""Alink's operators under the name that PyAlink's programs import."""

from __future__ import annotations

from alink.pyalink import *  # noqa: F403 all that PyAlink has, by design
from alink.pyalink import __all__ as __all__
from alink.pyalink import __getattr__ as __getattr__
