"""Profiles of functions as files: flame graphs (SVG), or stacks with their times (text)."""

from __future__ import annotations

import threading
import zlib
from html import escape
from typing import TYPE_CHECKING

from alink._options import bad_option

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from alink._engine import Engine

_WIDTH, _ROW, _FONT = 1200, 18, 12
_CHARACTER = 7.0  # pixels, of the font above
_MARGIN, _HEAD = 10, 36
_NARROWEST = 0.3  # pixels; what is narrower is not drawn
SUFFIXES = (".svg", ".txt", ".folded")


class Profiling:
    """A block in which the jobs of a context are profiled; see `Context.profile`."""

    def __init__(self, engine: Engine, path: Path) -> None:
        if path.suffix not in SUFFIXES:
            raise bad_option(
                "path", f"a profile is written as {', '.join(SUFFIXES)}, not as {path.name!r}"
            )
        self._engine = engine
        self._path = path
        self._lock = threading.Lock()
        self._stacks: dict[str, int] = {}

    def add(self, stacks: Mapping[str, int]) -> None:
        """Add what a job that has ended tells."""
        with self._lock:
            for stack, us in stacks.items():
                self._stacks[stack] = self._stacks.get(stack, 0) + us

    def __enter__(self) -> None:
        if self._engine.profiling is not None:
            raise bad_option("profile", "a profile is being made already: end its block first")
        self._engine.profiling = self

    def __exit__(self, *error: object) -> None:
        self._engine.profiling = None
        with self._lock:
            write = flame_graph if self._path.suffix == ".svg" else folded
            text = write(self._stacks)
        self._path.write_text(text, encoding="utf-8")


def folded(stacks: Mapping[str, int]) -> str:
    """Write a line for each stack: its frames, and microseconds.

    Examples
    --------
    >>> print(folded({"f;g (a.py:2)": 5, "f": 3}), end="")
    f 3
    f;g (a.py:2) 5
    """
    return "".join(f"{stack} {us}\n" for stack, us in sorted(stacks.items()))


class _Frame:
    def __init__(self, name: str) -> None:
        self.name = name
        self.us = 0
        self.callees: dict[str, _Frame] = {}


def flame_graph(stacks: Mapping[str, int]) -> str:
    """Draw stacks as a flame graph that needs nothing but itself.

    The width of a frame is the time in it and in what it has called, which stands above it; the
    whole stands in its tooltip.
    """
    root = _Frame("all functions")
    for stack, us in sorted(stacks.items()):
        frame = root
        frame.us += us
        for name in stack.split(";"):
            frame = frame.callees.setdefault(name, _Frame(name))
            frame.us += us
    boxes: list[str] = []
    depth = _draw(root, boxes)
    height = _HEAD + (depth + 1) * _ROW + _MARGIN
    title = f"Python functions, {root.us / 1e6:,.2f} s"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}"'
        f' viewBox="0 0 {_WIDTH} {height}" font-family="monospace" font-size="{_FONT}">\n'
        f"<title>{title}</title>\n"
        f'<rect width="100%" height="100%" fill="#fdfdf6"/>\n'
        f'<text x="{_WIDTH / 2:.0f}" y="22" text-anchor="middle" font-size="16">{title}</text>\n'
        f'<g transform="translate(0 {_HEAD + depth * _ROW})">\n'
    )
    return head + "".join(boxes) + "</g>\n</svg>\n"


def _draw(root: _Frame, boxes: list[str]) -> int:
    """Draw all frames, the root at the bottom; give how many stand upon one another above it."""
    scale = (_WIDTH - 2 * _MARGIN) / max(root.us, 1)
    deepest = 0
    stack: list[tuple[_Frame, float, int]] = [(root, float(_MARGIN), 0)]
    while stack:
        frame, x, depth = stack.pop()
        width = frame.us * scale
        if width < _NARROWEST:
            continue
        deepest = max(deepest, depth)
        boxes.append(_box(frame, x, -depth * _ROW, width, root.us))
        for callee in frame.callees.values():
            stack.append((callee, x, depth + 1))
            x += callee.us * scale
    return deepest


def _box(frame: _Frame, x: float, y: int, width: float, whole: int) -> str:
    name = escape(_printable(frame.name))
    share = 100 * frame.us / max(whole, 1)
    fits = int((width - 6) / _CHARACTER)
    label = _printable(frame.name)
    if len(label) > fits:
        label = label[: fits - 1] + "…" if fits >= 4 else ""
    text = f'<text x="{x + 3:.1f}" y="{y + 13}">{escape(label)}</text>' if label else ""
    return (
        f"<g><title>{name}: {frame.us / 1e6:,.3f} s, {share:.1f} %</title>"
        f'<rect x="{x:.1f}" y="{y}" width="{max(width - 0.5, 0.1):.1f}" height="{_ROW - 1}"'
        f' rx="2" fill="{_colour(frame.name)}"/>{text}</g>\n'
    )


def _printable(text: str) -> str:
    """Leave out what XML cannot hold."""
    return "".join(c if c.isprintable() else "�" for c in text)


def _colour(name: str) -> str:
    """Give a warm colour, the same each time for a name."""
    number = zlib.crc32(name.encode("utf-8", "replace"))
    return f"rgb({205 + number % 50},{100 + number // 50 % 110},{number // 5500 % 55})"
