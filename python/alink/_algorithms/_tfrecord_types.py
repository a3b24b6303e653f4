"""The types of columns that examples of TensorFlow have."""

from __future__ import annotations

import pyarrow as pa

from ._strings import Unreadable
from ._types import type_name

_NUMBERS = {"DOUBLE": "float", "FLOAT": "float", "DECIMAL": "float"}
_WHOLE = dict.fromkeys(("BIGINT", "INT", "SMALLINT", "TINYINT", "BOOLEAN"), "int64")
#: The list of a feature that a column's values are in: of bytes, floats or int64.
LIST_OF = {**_NUMBERS, **_WHOLE, "STRING": "bytes", "VARBINARY": "bytes", "VECTOR": "float"}


def refuse_others(schema: pa.Schema) -> None:
    """Refuse columns of types that examples do not have.

    Raises
    ------
    Unreadable
        For the first of them.
    """
    for field in schema:
        if type_name(field.type) not in (*LIST_OF, "TENSOR"):
            raise Unreadable(
                f"column {field.name!r:.60}: examples have no {type_name(field.type)}, they are "
                "of floats, int64 and bytes"
            )
