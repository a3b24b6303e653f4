"""Tensors: their string forms, and how a column has them."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

from ._strings import Unreadable, java_double, java_float, parse_double

#: Of each type of tensors the form of an element in memory; those of strings have none.
FORMS = {
    "FLOAT": "f", "DOUBLE": "d", "INT": "i", "LONG": "q", "BOOLEAN": "?", "BYTE": "b", "UBYTE": "B",
}  # fmt: skip
#: The names of the types of tensors.
TENSOR_KINDS = (*FORMS, "STRING")

#: A tensor: the name of its type, its shape, and its values in row-major order.
Parts = tuple[str, Sequence[int], Sequence[Any]]


def check_tensor(kind: str, shape: Sequence[int], count: int) -> None:
    """Raise `Unreadable` where a tensor of this type and shape has not this many values."""
    if kind not in TENSOR_KINDS:
        raise Unreadable(f"there are no tensors of {kind!r:.40}")
    if any(size < 0 for size in shape) or math.prod(shape) != count:
        raise Unreadable(f"{count} values do not have the shape {list(shape)}")


def parse_tensor(text: str) -> tuple[str, list[int], list[Any]]:
    """Read a tensor, ``"FLOAT#2,2#1.5 2.0 3.0 4.0 "``."""
    kind, mark, rest = text.partition("#")
    dimensions, second, body = rest.partition("#")
    kind = kind.strip().upper()
    sizes = [part.strip() for part in dimensions.split(",") if part.strip()]
    if not mark or not second or not all(size.isdecimal() for size in sizes):
        raise Unreadable(f"{text!r:.80} is not a tensor: TYPE#shape#values")
    shape = [int(size) for size in sizes]
    if kind == "STRING":
        values = _parse_texts(body)
    else:
        values = [parse_element(kind, part) for part in body.split()]
    try:
        check_tensor(kind, shape, len(values))
    except Unreadable as error:
        raise Unreadable(f"{text!r:.80} is not a tensor: {error}") from None
    return kind, shape, values


def parse_element(kind: str, text: str) -> Any:
    """Read an element of a tensor of numbers or truths."""
    if kind in ("FLOAT", "DOUBLE"):
        return parse_double(text)
    if kind == "BOOLEAN":
        value = {"true": True, "1": True, "false": False, "0": False}.get(text.lower())
        if value is None:
            raise Unreadable(f"{text!r:.40} is neither true nor false")
        return value
    if kind not in FORMS:
        raise Unreadable(f"there are no tensors of {kind!r:.40}")
    try:
        number = int(text)
        struct.pack(f"<{FORMS[kind]}", number)
    except (ValueError, struct.error):
        raise Unreadable(f"{text!r:.40} is no element of a tensor of {kind}") from None
    return number


def _parse_texts(body: str) -> list[str | None]:
    lengths, mark, rest = body.partition("#")
    counts = lengths.split()
    if not all(count.lstrip("-").isdecimal() for count in counts):
        raise Unreadable(f"{body!r:.80} is not the values of a tensor of strings")
    values: list[str | None] = []
    units = rest.encode("utf-16-le")  # Java counts these
    at = 0
    for count in map(int, counts):
        if count < 0:
            values.append(None)
            continue
        end = at + 2 * count
        if not mark or end > len(units):
            raise Unreadable(f"{body!r:.80} ends within a string of its tensor")
        values.append(units[at:end].decode("utf-16-le", "replace"))
        at = end + 2
    return values


def format_tensor(kind: str, shape: Sequence[int], values: Sequence[Any]) -> str:
    """Write a tensor so that it can be read again."""
    sizes = ",".join(map(str, shape))
    if kind == "STRING":
        lengths = "".join(f"{_units(value)} " for value in values)
        body = f"{lengths}#" + "".join(f"{value} " for value in values if value is not None)
    else:
        body = "".join(f"{format_element(kind, value)} " for value in values)
    return f"{kind}#{sizes}#{body}"


def _units(text: str | None) -> int:
    return -1 if text is None else len(text.encode("utf-16-le")) // 2


def format_element(kind: str, value: Any) -> str:
    """Write an element of a tensor."""
    if kind == "FLOAT":
        return java_float(value)
    if kind == "DOUBLE":
        return java_double(value)
    if kind == "BOOLEAN":
        return "true" if value else "false"
    return "null" if value is None else str(value)


def show_tensor(kind: str, shape: Sequence[int], values: Sequence[Any]) -> str:
    """Write a tensor for people: type and shape, and below the values in brackets.

    The columns of a row begin below one another only as far as their texts are as long.
    """
    sizes = ",".join(map(str, shape))
    return f"{kind.capitalize()}Tensor({sizes})\n{show_values(kind, shape, values)}"


def show_values(
    kind: str, shape: Sequence[int], values: Sequence[Any], edge: int | None = None
) -> str:
    """Write the values of a tensor in brackets; with `edge` so many at both ends of a dimension."""
    return _brackets([format_element(kind, value) for value in values], list(shape), 0, edge)


def _brackets(texts: Sequence[str], shape: Sequence[int], depth: int, edge: int | None) -> str:
    if not shape:
        return texts[0]
    size = shape[0]
    cut = edge is not None and size > 2 * edge
    places = [*range(edge or 0), -1, *range(size - (edge or 0), size)] if cut else range(size)
    if len(shape) == 1:
        return f"[{' '.join('...' if i < 0 else texts[i] for i in places)}]"
    step = len(texts) // size if size else 0
    parts = [
        "..." if i < 0 else _brackets(texts[i * step : (i + 1) * step], shape[1:], depth + 1, edge)
        for i in places
    ]
    between = "\n" * (len(shape) - 1) + " " * (depth + 1)
    return f"[{between.join(parts)}]"


def tensor_cell(kind: str, shape: Sequence[int], values: Sequence[Any]) -> dict[str, Any]:
    """Give a tensor as a column has it."""
    if kind == "STRING":
        return {"type": kind, "shape": shape, "data": None, "texts": values}
    form = f"<{len(values)}{FORMS[kind]}"
    try:
        data = struct.pack(form, *values)
    except OverflowError:  # FLOAT alone: what is too large for it is infinite
        data = struct.pack(form, *map(_single, values))
    return {"type": kind, "shape": shape, "data": data, "texts": None}


def _single(value: float) -> float:
    try:
        struct.pack("<f", value)
    except OverflowError:
        return math.copysign(math.inf, value)
    return value


def cell_tensor(cell: dict[str, Any]) -> tuple[str, list[int], list[Any]]:
    """Read a tensor as a column has it."""
    kind = cell["type"]
    if kind == "STRING":
        return kind, cell["shape"], cell["texts"]
    form = FORMS[kind]
    count = len(cell["data"]) // struct.calcsize(f"<{form}")
    return kind, cell["shape"], list(struct.unpack(f"<{count}{form}", cell["data"]))
