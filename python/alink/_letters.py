"""Dead letters: the rows that a job has left out since a function failed on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from alink._options import bad_option
from alink._table import Table

if TYPE_CHECKING:
    from alink._connection import Context
    from alink._engine import Engine

# What is told of a failure, where no function of a job keeps dead letters.
_NOTHING = pa.schema(
    [
        ("error_kind", pa.string()),
        ("error_type", pa.string()),
        ("error_message", pa.string()),
        ("error_function", pa.string()),
        ("error_row", pa.int64()),
        ("error_worker", pa.string()),
        ("error_time", pa.timestamp("us", "UTC")),
    ]
)


def dead_letters(
    context: Context, engine: Engine, jobs: Sequence[str], function: str | None
) -> Table:
    """Give the dead letters of some jobs, as a table of a context."""
    parts: list[pa.Table] = []
    known: list[str] = []
    for job in jobs:
        for index, kept in enumerate(engine.call("dead-letters", {"job": job})):
            known.append(kept["function"])
            if function in (None, kept["function"]):
                parts.append(_read(engine, job, index))
    if function is not None and known and function not in known:
        raise bad_option(
            "dead_letters",
            f"dead_letters: no function {function!r} of the job keeps dead letters",
            f"those that do are {', '.join(sorted(set(known)))}",
        )
    try:
        joined = pa.concat_tables(parts or [_NOTHING.empty_table()], promote_options="permissive")
    except pa.ArrowException:
        raise bad_option(
            "dead_letters",
            "dead_letters: the rows that functions have failed on do not fit into one table",
            f"take one function at a time: dead_letters({known[0]!r})",
        ) from None
    return context.from_arrow(joined)


def _read(engine: Engine, job: str, index: int) -> pa.Table:
    def read() -> pa.Table:
        return engine.rows_blocking(job, "", letters=index).read_all()

    with engine.translated("read the dead letters"):
        table = engine.run(read)
    # Subtasks write theirs down as they come. The number of the row is the third but last
    # column, whatever it is called beside those of the row.
    order = pc.sort_indices(table.column(table.num_columns - 3))
    return table.take(order)
