"""The page of measurements, of which each program rewrites its own part."""

from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
TITLE = "# Measurements\n"


def write_part(page: Path, command: str, lines: list[str]) -> str:
    """Put the lines where those of the same command are, or at the end; give them as text."""
    begin, end = f"<!-- begin: {command} -->", f"<!-- end: {command} -->"
    text = page.read_text(encoding="utf-8") if page.exists() else TITLE
    if (begin in text) != (end in text):
        raise SystemExit(f"{page} has one of the lines {begin} and {end} without the other")
    if begin not in text:
        text = f"{text.rstrip()}\n\n{begin}\n{end}\n"
    before, rest = text.split(begin, 1)
    after = rest.split(end, 1)[1]
    part = "\n".join(lines)
    page.write_text(f"{before}{begin}\n\n{part}\n\n{end}{after}", encoding="utf-8")
    return part
