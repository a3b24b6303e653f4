"""Several tables of one job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from alink._job import Job
from alink._origin import user_origin
from alink._plan import TOGETHER, Node

if TYPE_CHECKING:
    from alink._connection import Context
    from alink._table import Table


def run_together(
    context: Context, tables: Sequence[Table], sinks: Sequence[Node]
) -> list[pa.Table]:
    """Run one job that collects tables and runs sinks.

    What several of them are computed from is computed once.

    Parameters
    ----------
    context : Context
        Of all tables and sinks.
    tables : sequence of Table
    sinks : sequence of Node
        Steps that end a branch, such as ``write_csv``.

    Returns
    -------
    list of pyarrow.Table
        The rows of the tables, when the whole job has ended well.
    """
    ends = [Node("collect", (table._node,), None, user_origin()) for table in tables]
    ends += sinks
    if not ends:
        return []
    job = Job(context.engine(), Node(TOGETHER, ends, None, user_origin()))
    return job.tables(range(len(tables)))
