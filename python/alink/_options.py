"""Checks of the options that users pass."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from alink import _codes as codes
from alink._diag import did_you_mean, quote
from alink._errors import Error, failure
from alink._origin import user_origin

if TYPE_CHECKING:
    import pyarrow as pa

_UNITS = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
_SECONDS = {
    "ms": 0.001,
    "": 1, "s": 1, "sec": 1, "second": 1, "seconds": 1,
    "m": 60, "min": 60, "minute": 60, "minutes": 60,
    "h": 3600, "hour": 3600, "hours": 3600,
}  # fmt: skip
_SECONDS_MAX = 366 * 24 * 3600
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.IGNORECASE)


_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Zµ]+)\s*")
_DURATION_UNITS = {
    "us": 1, "µs": 1, "microsecond": 1, "ms": 10**3, "millisecond": 10**3,
    "s": 10**6, "sec": 10**6, "second": 10**6, "m": 60 * 10**6, "min": 60 * 10**6,
    "minute": 60 * 10**6, "h": 3600 * 10**6, "hour": 3600 * 10**6,
    "d": 86400 * 10**6, "day": 86400 * 10**6, "week": 7 * 86400 * 10**6,
}  # fmt: skip
_DURATION_US_MAX = 100 * 365 * 86400 * 10**6  # a hundred years


def bad_option(operator: str, message: str, hint: str = "") -> Error:
    """Make the error for an option that has a value which it cannot take."""
    return failure(codes.BAD_OPTION, message, operator=operator, source=user_origin(), hint=hint)


def find_column(operator: str, schema: pa.Schema, name: str) -> str:
    """Give a column's exact name; names are compared without regard to case.

    Raises
    ------
    PlanError
        If there is no such column.
    """
    columns = schema.names
    if name in columns:
        return name
    if isinstance(name, str):
        for column in columns:
            if column.lower() == name.lower():
                return column
    raise failure(
        codes.UNKNOWN_COLUMN,
        f"{operator}: there is no column {quote(str(name))}",
        operator=operator,
        source=user_origin(),
        hint=did_you_mean(str(name), "columns", columns),
    )


def refuse_unknown(operator: str, unknown: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raise an error if there are options that the operator does not have."""
    for name in unknown:
        raise bad_option(
            operator,
            f"{operator} has no option {quote(name)}",
            did_you_mean(name, "options", list(known)),
        )


def one_of(operator: str, option: str, value: Any, allowed: tuple[Any, ...]) -> Any:
    """Return `value` if it is one of those allowed."""
    if value in allowed:
        return value
    shown = ", ".join(repr(a) for a in allowed)
    names = [a for a in allowed if isinstance(a, str)]
    hint = did_you_mean(value, "values", names) if isinstance(value, str) else ""
    raise bad_option(operator, f"{operator}: {option} must be one of {shown}, not {value!r}", hint)


def whole_number(
    operator: str, option: str, value: Any, minimum: int, maximum: int | None = None
) -> int:
    """Return `value` if it is an integer of at least `minimum` and at most `maximum`."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= minimum:
        if maximum is None or value <= maximum:
            return value
        raise bad_option(
            operator, f"{operator}: {option} must be at most {maximum:,}, not {value!r}"
        )
    raise bad_option(
        operator,
        f"{operator}: {option} must be a whole number of at least {minimum}, not {value!r}",
    )


def byte_size(operator: str, option: str, value: int | str) -> int:
    """Read a number of bytes: an integer, or a text such as "512MiB"."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        size = int(float(match[1]) * _UNITS.get(match[2].lower(), 0))
        if size > 0:
            return size
    raise bad_option(
        operator,
        f"{operator}: {option} must be a number of bytes, not {value!r}",
        'write it as "512MiB" or "4GB"',
    )


def milliseconds(operator: str, option: str, value: float | str | None) -> int:
    """Read a time: a number of seconds, or a text such as "2min"; None and 0 are no limit."""
    seconds = None
    if value is None:
        return 0
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        unit = _SECONDS.get(match[2].lower())
        seconds = None if unit is None else float(match[1]) * unit
    if seconds is None or not 0 <= seconds <= _SECONDS_MAX:
        raise bad_option(
            operator,
            f"{operator}: {option} must be a number of seconds, not {value!r}",
            'write it as 90 or "2min"; None is no limit',
        )
    return max(1, round(seconds * 1000)) if seconds > 0 else 0


def duration_us(
    operator: str, option: str, value: str | datetime.timedelta, minimum_us: int = 0
) -> int:
    """Read a time span in microseconds: a timedelta, or a text such as "5 seconds"."""
    span: float | None = None
    if isinstance(value, datetime.timedelta):
        span = value / datetime.timedelta(microseconds=1)
    elif isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        name = match[2].lower()
        unit = _DURATION_UNITS.get(name) or _DURATION_UNITS.get(name.removesuffix("s"))
        span = float(match[1]) * unit if unit else None
    if span is not None and span == int(span) and minimum_us <= span <= _DURATION_US_MAX:
        return int(span)
    raise bad_option(
        operator,
        f"{operator}: {option} must be a time span, not {value!r}",
        'write it as "500 ms", "5 seconds", "1 minute", "2 hours" or "1 day"',
    )
