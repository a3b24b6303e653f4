"""Where a bundle's time goes: functions themselves, conversion of their values, loading them.

The clock is read where one of these begins, some times for a batch, never for a row. What is
left of the time that the engine sees goes to carrying batches over.
"""

from __future__ import annotations

import array
from time import perf_counter_ns
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

ELSEWHERE, LOAD = 0, 1


class Clock:
    """Adds up times in cells: two that functions share, then two of each, by name."""

    def __init__(self) -> None:
        self._spent = [0, 0]
        self._names: Sequence[str] = ()
        self._cells: dict[str, int] = {}
        self._cell = ELSEWHERE
        self._since = 0
        self._converting = ELSEWHERE
        #: The function that is about to be called, or is.
        self.function = ""
        #: The thread that runs it, where that is not the main one.
        self.thread: int | None = None
        #: Nanoseconds of the start of the worker for which a first bundle may have waited.
        self.starting = 0

    def begin(self, names: Sequence[str]) -> None:
        """Begin a bundle of functions of these names, which stay as they are."""
        if names is not self._names or len(names) != len(self._cells):
            self._names = names
            self._cells = {name: 2 + 2 * i for i, name in enumerate(names)}
        self._spent = [0] * (2 + 2 * len(self._cells))
        self._cell = self._converting = ELSEWHERE
        self._since = perf_counter_ns()
        self._spent[LOAD], self.starting = self.starting, 0

    def end(self) -> bytes:
        """End the bundle: give nanoseconds, of loading, then Python and conversion by function."""
        self.to(ELSEWHERE)
        self.function = ""
        return array.array("q", self._spent[1:]).tobytes()

    def to(self, cell: int) -> int:
        """Count to a cell from now on; give the one before."""
        now = perf_counter_ns()
        before = self._cell
        self._spent[before] += now - self._since
        self._cell = cell
        self._since = now
        return before

    def enter(self, name: str) -> None:
        """Count to the conversion of a function's values from now on."""
        self.function = name
        self._converting = self._cell_of(name) + 1
        self.to(self._converting)

    def python(self) -> int:
        """Count to the function itself from now on; give the cell before."""
        return self.to(self._converting - 1 if self._converting else ELSEWHERE)

    def convert(self) -> int:
        """Count to the conversion of its values again; give the cell before."""
        return self.to(self._converting)

    @property
    def in_function(self) -> bool:
        """Whether time goes to a function itself."""
        return self._cell > LOAD and self._cell % 2 == 0

    def _cell_of(self, name: str) -> int:
        cell = self._cells.get(name)
        if cell is None:
            cell = self._cells[name] = len(self._spent)
            self._spent.extend((0, 0))
        return cell


CLOCK = Clock()
