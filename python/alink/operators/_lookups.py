"""Operators that look values up in a table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from alink._algorithms._types import VECTOR, is_number, type_name
from alink._diag import quote
from alink._options import bad_option, find_column
from alink._table import Table
from alink.operators._define import build, operator
from alink.operators._dialect import quoted
from alink.operators._indexers import outputs_of
from alink.operators._mapping import result_schema, with_columns_found
from alink.operators._tokens import selected
from alink.operators._training import (
    Columns,
    PredictBatch,
    PredictStream,
    Trained,
    TrainedModel,
)
from alink.operators._vectors import check_vectors

Params = Mapping[str, Any]


def _columns_of(name: str, params: Params, model: pa.Schema) -> tuple[list[str], list[str]]:
    """Give the columns of the table that are keys, and those that are looked up.

    Of a table of two columns the first one is the key, if nothing else is said.
    """
    keys, values = params["mapKeyCols"], params["mapValueCols"]
    if keys is None:
        if values is not None or len(model) != 2:
            raise bad_option(
                name,
                f"{name} needs the parameter 'mapKeyCols'",
                f"it names key columns of the table, which has {', '.join(model.names)}",
            )
        keys = model.names[:1]
    keys = [find_column(name, model, column) for column in keys]
    if values is None:
        values = [column for column in model.names if column not in keys]
    return keys, [find_column(name, model, column) for column in values]


def _check_keys(
    name: str, schema: pa.Schema, columns: Sequence[str], model: pa.Schema, keys: Sequence[str]
) -> None:
    if len(columns) != len(keys):
        raise bad_option(
            name, f"{name}: 'selectedCols' names {len(columns)} columns for {len(keys)} keys"
        )
    for column, key in zip(columns, keys, strict=True):
        one, other = schema.field(column).type, model.field(key).type
        if type_name(one) == type_name(other) and not pa.types.is_nested(one):
            continue
        if not (is_number(one) and is_number(other)):
            raise bad_option(
                name,
                f"{name}: column {quote(column)} is {type_name(one)}, the key {quote(key)} is "
                f"{type_name(other)}",
                "keys are compared with values of their own type, but no vectors or tables",
            )


def _prepared(
    name: str, params: Params, model: Table, rows: Table
) -> tuple[dict[str, Any], list[str], list[str], list[tuple[str, pa.DataType]]]:
    """Give checked parameters, the table's keys and values, and the outputs."""
    given = with_columns_found(name, rows.schema, params, ["selectedCols", "reservedCols"])
    keys, values = _columns_of(name, given, model.schema)
    _check_keys(name, rows.schema, selected(name, given), model.schema, keys)
    names = outputs_of(name, given, values)
    kinds = [model.schema.field(value).type for value in values]
    return given, keys, values, list(zip(names, kinds, strict=True))


class _Lookup(Trained):
    """Tells workers which columns of the table they need."""

    def apply(self, name: str, params: Params, model: Table, rows: Table) -> Table:
        given, keys, values, outputs = _prepared(name, params, model, rows)
        given.update(keys=keys, values=values, outputCols=[output for output, _ in outputs])
        return super().apply(name, given, model, rows)


def _looked_up(params: Params, _schema: pa.Schema, model: pa.Schema) -> Columns:
    kinds = [model.field(value).type for value in params["values"]]
    return list(zip(params["outputCols"], kinds, strict=True))


def huge_lookup(name: str, params: Params, inputs: Sequence[Table]) -> Table:
    """Give what stands in the row of a table, the first input, that has the same keys, by a join.

    The table may be larger than what a worker can hold. Of rows with the same keys the last one
    counts.
    """
    model, rows = inputs
    given, keys, values, outputs = _prepared(name, params, model, rows)
    result = result_schema(name, rows.schema, outputs, given["reservedCols"])
    known = [f"{quoted(key)} AS __key{i}" for i, key in enumerate(keys)]
    packed = ", ".join(f"v{i} := {quoted(value)}" for i, value in enumerate(values))
    marks = [f"__key{i}" for i in range(len(keys))]
    equal = " AND ".join(
        f"a.{quoted(column)} = u.{mark}"
        for column, mark in zip(given["selectedCols"], marks, strict=True)
    )
    found = {output: f"u.__row.v{i}" for i, (output, _) in enumerate(outputs)}
    shown = ", ".join(f"{found.get(c) or 'a.' + quoted(c)} AS {quoted(c)}" for c in result.names)
    return rows._context.sql(
        f"""WITH m AS (
            SELECT {", ".join(known)}, struct_pack({packed}) AS __value,
                row_number() OVER () AS __number FROM model
        ),
        u AS (
            SELECT {", ".join(marks)}, arg_max(__value, __number) AS __row FROM m
            GROUP BY {", ".join(marks)}
        )
        SELECT {shown} FROM a LEFT JOIN u ON {equal}""",
        tables={"a": rows, "model": model},
    )


# --- words ---

FUNCTIONS = ("CONCAT", "AVG", "SUM", "MAX", "MIN")
_CALL = re.compile(
    r"\s*(?P<function>\w+)\s*\(\s*(?P<column>`[^`]+`|\"[^\"]+\"|[^,()\s]+)\s*"
    r"(?:,\s*(?P<count>\d+)\s*)?\)\s*(?:(?:as\s+)?(?P<name>`[^`]+`|\"[^\"]+\"|[^,()\s]+))?\s*(?:,|$)",
    re.IGNORECASE,
)


def parse_clause(name: str, clause: str) -> list[tuple[str, str, int | None, str]]:
    """Read ``"AVG(a) AS b, CONCAT(c, 3) AS d"``: functions, columns, counts and outputs.

    Raises
    ------
    PlanError
        If the clause is none.
    """
    calls: list[tuple[str, str, int | None, str]] = []
    at = 0
    while at < len(clause) or not calls:
        match = _CALL.match(clause, at)
        function = match["function"].upper() if match else ""
        count = int(match["count"]) if match and match["count"] else None
        if match is None or function not in FUNCTIONS or (count and function != "CONCAT"):
            raise bad_option(
                name,
                f"{name}: {clause[at:].strip()!r:.60} in 'clause' is no call of a function",
                f"write AVG(column) AS name, with one of {', '.join(FUNCTIONS)}; CONCAT(column, "
                "3) puts three vectors together",
            )
        column = match["column"].strip('`"')
        calls.append((function, column, count, (match["name"] or column).strip('`"')))
        at = match.end()
    return calls


class _AggLookup(Trained):
    """Reads the clause."""

    def apply(self, name: str, params: Params, model: Table, rows: Table) -> Table:
        schema = model.schema
        if len(schema) < 2:
            raise bad_option(
                name, f"{name}: the table of vectors has {len(schema)} columns", "it has two"
            )
        check_vectors(name, schema, schema.names[1:2])
        calls = parse_clause(name, params["clause"])
        read = [find_column(name, rows.schema, column) for _, column, _, _ in calls]
        given = {
            **params,
            "calls": [(call[0], column, call[2]) for call, column in zip(calls, read, strict=True)],
            "outputCols": [output for _, _, _, output in calls],
        }
        return super().apply(name, given, model, rows)


def _of_words(params: Params, _schema: pa.Schema, _model: pa.Schema) -> Columns:
    return [(output, VECTOR) for output in params["outputCols"]]


def declare() -> None:
    """Declare the operators of this module."""
    lookup = _Lookup(
        "Lookup",
        "",
        "_lookups.Lookup",
        _looked_up,
        [],
        applied=["selectedCols", "reservedCols"],
        doc="Give what stands in the row of a table that has the same keys, NULL where none "
        "has. The table is the model: the first input, or setModelData. Of rows with the same "
        "keys the last one counts.",
    )
    words = _AggLookup(
        "AggLookup",
        "",
        "_lookups.AggLookup",
        _of_words,
        [],
        applied=["reservedCols"],
        doc="Give, of the vectors of the words of a text, AVG, SUM, MAX, MIN or CONCAT, as the "
        "clause says. The table of words and their vectors is the first input. Words without a "
        "vector are left out; a text without any gives NULL. CONCAT(column, n) puts n vectors "
        "together: it cuts more, and puts zeros behind fewer.",
    )
    for definition in (lookup, words):
        for suffix, base in (
            ("BatchOp", PredictBatch),
            ("StreamOp", PredictStream),
            ("", TrainedModel),
        ):
            build(definition.name + suffix, base, definition.doc, _trained=definition)
    operator("HugeLookupBatchOp", huge_lookup, 2)
