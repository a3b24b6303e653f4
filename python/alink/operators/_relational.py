"""Operators that the relational engine computes: Alink's SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alink._options import bad_option
from alink._table import Table
from alink.operators._define import batch_and_stream, build, operator
from alink.operators._dialect import quoted, translate
from alink.operators._mapping import with_schema
from alink.operators._sql_functions import run_sql, told_early
from alink.operators._stages import Transformer
from alink.operators._table_aggregates import gather_rows, gathered

Params = Mapping[str, Any]


def _query(query: str, inputs: Sequence[Table]) -> Table:
    names = "abcdefghijklmnopqrstuvwxyz"
    if len(inputs) > len(names):
        raise bad_option("SQL", f"{len(inputs)} inputs are too many: at most {len(names)}")
    tables = dict(zip(names, inputs, strict=False))
    return told_early(run_sql(inputs[0]._context, query, tables), query, tables)


def _filtered(query: str, table: Table) -> Table:
    """Make the table of a query that gives rows of a table as they are."""
    return with_schema(_query(query, [table]), table._node.schema)


def select(_name: str, params: Params, inputs: Sequence[Table]) -> Table:
    """Compute columns: ``clause`` is what stands behind SELECT."""
    return _query(f"SELECT {params['clause']} FROM a", inputs)


def where(_name: str, params: Params, inputs: Sequence[Table]) -> Table:
    """Keep the rows for which ``clause`` is true."""
    return _filtered(f"SELECT * FROM a WHERE {params['clause']}", inputs[0])


def rename(name: str, params: Params, inputs: Sequence[Table]) -> Table:
    """Give all columns other names: ``clause`` is a list of names with commas."""
    names = [part.strip().strip('`"') for part in params["clause"].split(",")]
    columns = inputs[0].columns
    if len(names) != len(columns):
        raise bad_option(name, f"{name}: {len(names)} names for {len(columns)} columns")
    exprs = ", ".join(
        f"{quoted(old)} AS {quoted(new)}" for old, new in zip(columns, names, strict=True)
    )
    return _query(f"SELECT {exprs} FROM a", inputs)


def distinct(_name: str, _params: Params, inputs: Sequence[Table]) -> Table:
    """Keep one of the rows that are equal."""
    return inputs[0].distinct()


def group_by(name: str, params: Params, inputs: Sequence[Table]) -> Table:
    """Aggregate: ``selectClause`` for each group of ``groupByPredicate``.

    ``mtable_agg(a, b)`` gathers columns of the group's rows as a table in a cell.
    """
    clause, keys = translate(params["selectClause"]), translate(params["groupByPredicate"])
    clause = gather_rows(name, clause, inputs[0].schema)
    return gathered(name, _query(f"SELECT {clause} FROM a GROUP BY {keys}", inputs))


def order_by(name: str, params: Params, inputs: Sequence[Table]) -> Table:
    """Order the rows by ``clause``; ``limit`` of them, or ``fetch`` behind ``offset``."""
    order = (params["order"] or "asc").lower()
    if order not in ("asc", "desc"):
        raise bad_option(name, f"{name}: order is asc or desc, not {params['order']!r:.40}")
    query = f"SELECT * FROM a ORDER BY {params['clause']} {order}"
    limit, fetch, offset = params["limit"], params["fetch"], params["offset"]
    count = fetch if limit is None or limit < 0 else limit
    if count is not None and count >= 0:
        query += f" LIMIT {count}"
    if offset is not None and offset > 0:
        query += f" OFFSET {offset}"
    return _filtered(query, inputs[0])


_JOINS = {
    "JOIN": "INNER",
    "LEFTOUTERJOIN": "LEFT",
    "RIGHTOUTERJOIN": "RIGHT",
    "FULLOUTERJOIN": "FULL",
}


def _join(kind: str) -> Any:
    def make(_name: str, params: Params, inputs: Sequence[Table]) -> Table:
        clause, predicate = params["selectClause"], params["joinPredicate"]
        word = kind or _JOINS[params["type"].upper()]
        return _query(f"SELECT {clause} FROM a {word} JOIN b ON {predicate}", inputs)

    make.__doc__ = (
        f"""Join ({kind.lower()}) two inputs, a and b, where ``joinPredicate`` is true."""
    )
    return make


def _set(word: str, doc: str) -> Any:
    def make(_name: str, _params: Params, inputs: Sequence[Table]) -> Table:
        names = "abcdefghijklmnopqrstuvwxyz"[: len(inputs)]
        return _query(f" {word} ".join(f"(SELECT * FROM {name})" for name in names), inputs)

    make.__doc__ = doc
    return make


def declare() -> None:
    """Declare the operators of this module."""
    batch_and_stream("Select", select)
    build("Select", Transformer, select.__doc__, _make=staticmethod(select))
    batch_and_stream("Where", where)
    batch_and_stream("Filter", where)
    batch_and_stream("As", rename)
    operator("DistinctBatchOp", distinct)
    operator("GroupByBatchOp", group_by)
    operator("OrderByBatchOp", order_by)
    for name, kind in (
        ("JoinBatchOp", ""),
        ("LeftOuterJoinBatchOp", "LEFT"),
        ("RightOuterJoinBatchOp", "RIGHT"),
        ("FullOuterJoinBatchOp", "FULL"),
    ):
        operator(name, _join(kind), 2)
    many = (2, 26)
    batch_and_stream("UnionAll", _set("UNION ALL", "Put the rows of inputs together."), many)
    operator(
        "UnionBatchOp", _set("UNION", "Put the rows of inputs together, equal ones once."), many
    )
    operator("IntersectBatchOp", _set("INTERSECT", "Keep rows that both inputs have, once."), 2)
    operator(
        "IntersectAllBatchOp",
        _set("INTERSECT ALL", "Keep rows that both inputs have, as often as both have them."),
        2,
    )
    operator("MinusBatchOp", _set("EXCEPT", "Keep rows that the second input lacks, once."), 2)
    operator(
        "MinusAllBatchOp",
        _set("EXCEPT ALL", "Take the rows of the second input out of the first, one for one."),
        2,
    )
