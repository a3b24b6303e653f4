"""Tables of the client's memory that jobs read."""

from __future__ import annotations

import threading
import uuid
import weakref
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from alink import _codes as codes
from alink._diag import quote
from alink._errors import failure
from alink._origin import user_origin

if TYPE_CHECKING:
    from alink._engine import Engine


class Upload:
    """An Arrow table that is sent to the engine when a job first needs it.

    The client's reference to the data is given up once the engine has it; the engine drops
    it when no table of the client refers to it any more.
    """

    def __init__(self, data: pa.Table) -> None:
        self.name = f"t-{uuid.uuid4().hex}"
        self.schema = data.schema
        self._rows = data.num_rows
        self._data: pa.Table | None = data
        self._lock = threading.Lock()

    def ensure(self, engine: Engine) -> None:
        """Send the table unless it has been sent."""
        with self._lock:
            if self._data is None:
                return
            engine.put_table(self.name, self._data)
            self._data = None
            # The queue only: a finalizer may run anywhere and must neither block nor
            # call into an engine that has ended.
            weakref.finalize(self, engine.dropped.put, self.name).atexit = False

    def describe(self) -> str:
        """Describe the table for a plan's text."""
        return f"{self._rows:,} rows: {', '.join(self.schema.names)}"


def arrow_table(data: Any, operator: str) -> pa.Table:
    """Read anything that has Arrow's C interface (``__arrow_c_stream__``) as a table.

    Raises
    ------
    PlanError
        If it has not, if two columns share a name, or if a column has a type that the
        engine does not have.
    """
    if isinstance(data, pa.RecordBatchReader):
        table = data.read_all()
    elif isinstance(data, pa.Table):
        table = data
    elif type(data).__module__.split(".")[0] == "pandas" and hasattr(data, "columns"):
        table = _of_pandas(data, operator)
    elif isinstance(data, pa.RecordBatch) or hasattr(data, "__arrow_c_stream__"):
        table = pa.table(data)
    elif hasattr(data, "__arrow_c_array__"):
        table = pa.table(pa.record_batch(data))
    else:
        raise failure(
            codes.TYPE_MISMATCH,
            f"{operator} cannot read {type(data).__name__} as a table",
            operator=operator,
            source=user_origin(),
            hint="it takes Arrow, pandas and polars tables, anything with __arrow_c_stream__",
        )
    lowered = [name.lower() for name in table.column_names]
    for i, name in enumerate(lowered):
        if name in lowered[:i]:
            raise failure(
                codes.INVALID_PLAN,
                f"{operator}: two columns have the name {quote(table.column_names[i])}",
                operator=operator,
                source=user_origin(),
                hint="column names are compared without regard to case",
            )
    target = pa.schema([pa.field(f.name, plain_type(f.type)) for f in table.schema])
    table = table.replace_schema_metadata(None)
    return table if table.schema.equals(target) else table.cast(target)


def _of_pandas(data: Any, operator: str) -> pa.Table:
    # Not its own __arrow_c_stream__: some versions of pandas make a column of the index.
    try:
        return pa.Table.from_pandas(data, preserve_index=False)
    except (TypeError, ValueError, pa.ArrowException) as error:
        raise failure(
            codes.TYPE_MISMATCH,
            f"{operator} cannot read this {type(data).__name__} as a table",
            operator=operator,
            source=user_origin(),
            cause=str(error),
        ) from None


def plain_type(arrow: pa.DataType) -> pa.DataType:
    """Give the type that the engine has for the same values.

    Dictionaries are decoded, views become plain strings, half floats floats.
    """
    if pa.types.is_dictionary(arrow):
        return plain_type(arrow.value_type)
    if pa.types.is_string_view(arrow):
        return pa.string()
    if pa.types.is_binary_view(arrow):
        return pa.binary()
    if pa.types.is_float16(arrow):
        return pa.float32()
    if pa.types.is_decimal128(arrow) and arrow.scale < 0:
        return pa.decimal128(min(arrow.precision - arrow.scale, 38), 0)
    if pa.types.is_large_list(arrow):
        return pa.large_list(plain_type(arrow.value_type))
    if pa.types.is_list(arrow):
        return pa.list_(plain_type(arrow.value_type))
    if pa.types.is_struct(arrow):
        fields = (arrow.field(i) for i in range(arrow.num_fields))
        return pa.struct([pa.field(f.name, plain_type(f.type)) for f in fields])
    return arrow
