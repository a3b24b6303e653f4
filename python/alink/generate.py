"""Columns of `Context.read_generator`.

Each function describes a column. Row *i* of a generator is the same whenever it is made: it
follows from the seed and *i*, so that a job that is resumed goes on with the same rows.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from alink._options import bad_option, duration_us

_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
_EPOCH = datetime.datetime(1970, 1, 1)


@dataclass(frozen=True)
class Column:
    """A generated column, made by the functions of this module."""

    kind: str
    args: tuple[tuple[str, Any], ...] = ()

    def to_json(self, name: str) -> dict[str, Any]:
        """Give the column in the plan's form."""
        return {"name": name, "kind": self.kind, **dict(self.args)}


def sequence(start: int = 0, step: int = 1) -> Column:
    """Count: a bigint that begins at `start` and grows by `step`."""
    args = {"start": _int64("sequence", "start", start), "step": _int64("sequence", "step", step)}
    return Column("sequence", tuple(args.items()))


def integer(low: int, high: int, nulls: float = 0.0) -> Column:
    """Draw bigints from `low` up to, but without, `high`.

    Parameters
    ----------
    low, high : int
        The range.
    nulls : float, default 0
        The share of NULLs, from 0 to 1.
    """
    low, high = _int64("integer", "low", low), _int64("integer", "high", high)
    if low >= high:
        raise bad_option("integer", f"integer: low must be below high, not {low} and {high}")
    if not isinstance(nulls, (int, float)) or not 0 <= nulls <= 1:
        raise bad_option("integer", f"integer: nulls must be within 0 and 1, not {nulls!r}")
    return Column("integer", (("low", low), ("high", high), ("nulls", float(nulls))))


def double() -> Column:
    """Draw doubles from 0 up to, but without, 1."""
    return Column("double")


def choice(values: Sequence[str]) -> Column:
    """Draw strings from `values`, each as often as the others."""
    if isinstance(values, str) or not values or not all(isinstance(v, str) for v in values):
        raise bad_option("choice", f"choice takes a list of strings, not {values!r:.80}")
    return Column("choice", (("values", tuple(values)),))


def event_time(
    start: str | datetime.datetime = "2024-01-01",
    step: str | datetime.timedelta = "1 ms",
    disorder: str | datetime.timedelta = "0 s",
) -> Column:
    """Give timestamps: when what a row tells of has happened.

    Parameters
    ----------
    start : str or datetime, default "2024-01-01"
        The time of the first row, in ISO form; without a zone.
    step : str or timedelta, default "1 ms"
        From one row to the next.
    disorder : str or timedelta, default "0 s"
        A row's time is up to this much earlier than its place says.
    """
    try:
        begin = datetime.datetime.fromisoformat(start) if isinstance(start, str) else start
        start_us = (begin - _EPOCH) // datetime.timedelta(microseconds=1)
    except (ValueError, TypeError):
        raise bad_option(
            "event_time",
            f"event_time: start must be a time without a zone, not {start!r}",
            'write it as "2024-01-01" or "2024-01-01T12:00:00"',
        ) from None
    return Column(
        "event_time",
        (
            ("start", start_us),
            ("step", duration_us("event_time", "step", step)),
            ("disorder", duration_us("event_time", "disorder", disorder)),
        ),
    )


def _int64(operator: str, option: str, value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and _INT64_MIN <= value <= _INT64_MAX:
        return value
    raise bad_option(operator, f"{operator}: {option} must be a 64-bit integer, not {value!r}")


__all__ = ["Column", "choice", "double", "event_time", "integer", "sequence"]
