"""What missing values of columns are filled with. The client checks it too, without numpy."""

from __future__ import annotations

import pyarrow as pa

from ._strings import Unreadable


def fill_value(text: str | None, kind: pa.DataType) -> pa.Scalar:
    """Read what a column of a type is filled with; a real number loses its fraction in whole ones.

    Raises
    ------
    Unreadable
        If it cannot stand in such a column.
    """
    if text is None:
        return pa.scalar(None, kind)
    try:
        if pa.types.is_integer(kind):
            try:
                return pa.scalar(text, pa.string()).cast(kind)
            except pa.ArrowInvalid:
                return pa.scalar(int(float(text)), pa.int64()).cast(kind)
        return pa.scalar(text, pa.string()).cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError, OverflowError):
        raise Unreadable(f"{text!r:.80} is no value of type {kind}") from None
