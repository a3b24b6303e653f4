"""The string forms of numbers, vectors and tensors, as Alink writes and reads them."""

from __future__ import annotations

import datetime
import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

#: What is left out around the parts of a text, whether a worker cuts it or a query.
BLANKS = " \t\n\v\f\r"


class Unreadable(ValueError):
    """Rows, or texts in them, are not what they should be; the message names what is wrong."""

    #: The worker tells the user its sentence alone.
    refusal = True


def java_double(value: float) -> str:
    """Write a double as Java's ``Double.toString`` does.

    Decimal from 1e-3 to below 1e7, else with an exponent; always with a digit behind the point.
    """
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    text = repr(value)
    size = abs(value)
    if 1e-3 <= size < 1e7 or value == 0:
        return text  # Python writes these in decimals too
    sign = "-" if value < 0 else ""
    digits, exponent = _scientific(text.removeprefix("-"))
    return f"{sign}{digits[0]}.{digits[1:] or '0'}E{exponent}"


def java_float(value: float) -> str:
    """Write the shortest number that is the same in 32 bits, as ``Float.toString`` does."""
    if not math.isfinite(value):
        return java_double(value)
    exact = struct.pack("<f", value)
    for digits in range(1, 10):
        short = float(f"{value:.{digits}g}")
        if struct.pack("<f", short) == exact:
            return java_double(short)
    return java_double(value)


def _scientific(text: str) -> tuple[str, int]:
    """Give the significant digits of a number and the exponent of the first one."""
    mantissa, _, shift = text.partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = whole + fraction
    exponent = len(whole) - 1 + int(shift or 0)
    stripped = digits.lstrip("0")
    exponent -= len(digits) - len(stripped)
    return stripped.rstrip("0") or "0", exponent


_JAVA_NAMES = {"Infinity": math.inf, "+Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}


def parse_double(text: str) -> float:
    """Read a double as Java does: Python's ``inf`` and ``1_000`` are none."""
    text = text.strip()
    if (named := _JAVA_NAMES.get(text)) is not None:
        return named
    try:
        if "_" in text or text[-1:] not in "0123456789.dDfF" or text[-1:] == "":
            raise ValueError
        return float(text.rstrip("dDfF"))
    except ValueError:
        raise Unreadable(f"{text!r:.80} is not a number") from None


def format_dense(values: Iterable[float]) -> str:
    """Write a dense vector: doubles with a space between them."""
    return " ".join(map(java_double, values))


def format_sparse(size: int, indices: Sequence[int], values: Sequence[float]) -> str:
    """Write a sparse vector; a size below 0 is not known."""
    head = f"${size}$" if size >= 0 else ""
    return head + " ".join(f"{i}:{java_double(v)}" for i, v in zip(indices, values, strict=True))


def parse_vector(text: str) -> tuple[int, list[int] | None, list[float]]:
    """Read a vector.

    Returns
    -------
    size, indices, values
        The indices of a dense vector are None; the size of a sparse one is -1 where it is not
        known. Blank text is an empty sparse vector.
    """
    body = text.strip()
    if not body:
        return -1, [], []
    if "$" not in body and ":" not in body:
        values = [parse_double(part) for part in body.replace(",", " ").split()]
        return len(values), None, values
    size = -1
    if body.startswith("$"):
        digits, mark, body = body[1:].partition("$")
        if not mark or not digits.strip().isdigit():
            raise Unreadable(f"{text!r:.80} is not a vector: its size is written $size$")
        size = int(digits)
    pairs: list[tuple[int, float]] = []
    for part in body.replace(",", " ").split():
        index, mark, value = part.partition(":")
        if not mark or not index.isdigit():
            raise Unreadable(f"{text!r:.80} is not a vector: {part!r:.40} is not index:value")
        pairs.append((int(index), parse_double(value)))
    pairs.sort(key=lambda pair: pair[0])
    for i, (index, _) in enumerate(pairs):
        if size >= 0 and index >= size:
            raise Unreadable(f"{text!r:.80} is not a vector: index {index} is beyond its size")
        if i and index == pairs[i - 1][0]:
            raise Unreadable(f"{text!r:.80} is not a vector: index {index} is there twice")
    return size, [index for index, _ in pairs], [value for _, value in pairs]


def cut_points(params: Mapping[str, Any]) -> Sequence[Sequence[float]] | None:
    """Give the points where columns are cut, ``cutsArray``, or as texts: ``"-0.5:0.0:0.5"``."""
    if params.get("cutsArray") is not None or params.get("cutsArrayStr") is None:
        return params.get("cutsArray")
    texts: Sequence[str] = params["cutsArrayStr"]
    return [[parse_double(part) for part in text.split(":") if part.strip()] for text in texts]


def text_of(value: Any) -> str:
    """Write a value as Java would."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return java_double(value)
    if isinstance(value, datetime.datetime):
        fraction = f"{value.microsecond:06}".rstrip("0") or "0"
        return f"{value:%Y-%m-%d %H:%M:%S}.{fraction}"
    return str(value)
