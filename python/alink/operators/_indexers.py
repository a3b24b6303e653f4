"""Operators that give texts numbers, and numbers their texts back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from alink._algorithms._types import type_name
from alink._diag import did_you_mean, quote
from alink._options import bad_option, find_column
from alink._table import Table
from alink.operators._catalogue import Parameter, catalogue
from alink.operators._define import build, one_of, operator
from alink.operators._dialect import quoted
from alink.operators._mapping import result_schema, with_columns_found
from alink.operators._session import session
from alink.operators._stages import Transformer
from alink.operators._tokens import (
    counted,
    literal,
    numbered,
    order_of,
    selected,
    with_texts,
)
from alink.operators._training import (
    Columns,
    PredictBatch,
    PredictStream,
    Trained,
    TrainedModel,
    trained,
)

Params = Mapping[str, Any]

INVALID = ("KEEP", "ERROR", "SKIP")


def check_invalid(name: str, params: Params) -> str:
    """Give how values that a model does not know are treated."""
    return one_of(name, "handleInvalid", params["handleInvalid"], INVALID)


def outputs_of(name: str, params: Params, columns: Sequence[str]) -> list[str]:
    """Give the names of as many outputs as there are columns, whose places are the default."""
    outputs = list(params.get("outputCols") or columns)
    if len(outputs) != len(columns):
        raise bad_option(
            name, f"{name}: 'outputCols' names {len(outputs)} columns for {len(columns)}"
        )
    return outputs


# --- numbers ---


def _train_one(name: str, params: Params, table: Table) -> Table:
    """Give the values of columns numbers, together."""
    columns = list(dict.fromkeys([params["selectedCol"], *(params["selectedCols"] or ())]))
    counts = counted(name, table, columns)
    model = counts._context.sql(
        f"""SELECT token, row_number() OVER (ORDER BY {order_of(name, params)}) - 1 AS token_index
        FROM (SELECT token, sum(frequency)::BIGINT AS frequency FROM a GROUP BY token)""",
        tables={"a": counts},
    )
    if params["modelName"]:
        model = model.cache()
        session().models[params["modelName"]] = model
    return model


def _train_several(name: str, params: Params, table: Table) -> Table:
    """Give the values of each column numbers of their own."""
    columns = selected(name, params)
    counts = counted(name, table, columns)
    return numbered(counts, order_of(name, params), table, columns)


class _Indexed(Trained):
    """Adds the columns that a worker's task reads to what it is told."""

    def apply(self, name: str, params: Params, model: Table, rows: Table) -> Table:
        one = "selectedCol" in params
        columns = [params["selectedCol"]] if one else selected(name, params)
        columns = [find_column(name, rows.schema, column) for column in columns]
        return super().apply(name, {**params, "columns": columns}, model, rows)


def _indexed(params: Params, _schema: pa.Schema, _model: pa.Schema) -> Columns:
    name = "StringIndexer"
    check_invalid(name, params)
    columns = params["columns"]
    if "selectedCol" in params:
        return [(params["outputCol"] or columns[0], pa.int64())]
    return [(output, pa.int64()) for output in outputs_of(name, params, columns)]


# --- numbers back to texts ---


def _restored(params: Params, schema: pa.Schema, _model: pa.Schema) -> Columns:
    column = params["selectedCol"]
    kind = schema.field(column).type
    if not pa.types.is_integer(kind):
        raise bad_option(
            "IndexToString",
            f"IndexToString: column {quote(column)} is {type_name(kind)}",
            "it takes the whole numbers that StringIndexer gives",
        )
    return [(params["outputCol"] or column, pa.string())]


class IndexToString(TrainedModel):
    """A stage whose model is the one that a StringIndexer has trained under a name."""

    def _fitted(self, table: Table) -> Transformer:
        """Keep the model that has the name now, whatever is called so later."""
        del table  # there is nothing to train
        if self._model is None and self._get("modelName") in session().models:
            return type(self)(self._values)._with(self._data())
        return self

    def _data(self) -> Table:
        if self._model is not None or self._rows is not None:
            return super()._data()
        name, known = self._get("modelName"), session().models
        if name not in known:
            raise bad_option(
                self._name,
                f"{self._name}: no model is called {quote(name)}",
                did_you_mean(name, "models of StringIndexer with a modelName", list(known)),
            )
        return known[name]


def _unnamed(name: str) -> dict[str, Parameter]:
    """Give the parameters of an operator that is linked from its model, and needs no name of it."""
    parameters = catalogue()[name].parameters
    return {**parameters, "modelName": Parameter("modelName", "String", None, False)}


# --- by joins ---


def _joined(name: str, params: Params, inputs: Sequence[Table], texts: bool) -> Table:
    """Join rows with a model: numbers of values, or with `texts` the texts of numbers."""
    model, rows = inputs
    schema = rows.schema
    given = with_columns_found(name, schema, params, ["selectedCols", "reservedCols"])
    columns, invalid = selected(name, given), check_invalid(name, given)
    outputs = outputs_of(name, given, columns)
    kind = pa.string() if texts else pa.int64()
    result = result_schema(name, schema, [(o, kind) for o in outputs], given["reservedCols"])
    if texts:
        for column in columns:
            _restored({"selectedCol": column, "outputCol": None}, schema, model.schema)
        keys = [quoted(column) for column in columns]
    else:
        rows, keys = with_texts(name, rows, columns)
    has, gives = ("token_index", "token") if texts else ("token", "token_index")
    parts: list[str] = []
    joins: list[str] = []
    found: dict[str, str] = {}
    for i, (column, output) in enumerate(zip(columns, outputs, strict=True)):
        parts.append(f"m{i} AS (SELECT token, token_index FROM m{_of_column(name, model, column)})")
        joins.append(f"LEFT JOIN m{i} ON m{i}.{has} = r.__key{i}")
        other = "NULL"
        if invalid == "KEEP" and not texts:
            other = f"(SELECT count(*) FROM m{i})"
        elif invalid == "ERROR":
            told = literal(f"{name}: the model does not know, of column {column}, the value ")
            other = f"error({told} || coalesce(r.__key{i}::VARCHAR, 'NULL'))"
        found[output] = f"CASE WHEN m{i}.{gives} IS NOT NULL THEN m{i}.{gives} ELSE {other} END"
    keyed = ", ".join(f"{key} AS __key{i}" for i, key in enumerate(keys))
    shown = ", ".join(f"{found.get(c) or 'r.' + quoted(c)} AS {quoted(c)}" for c in result.names)
    return rows._context.sql(
        f"""WITH m AS MATERIALIZED (SELECT * FROM model), r AS (SELECT *, {keyed} FROM a),
        {", ".join(parts)}
        SELECT {shown} FROM r {" ".join(joins)}""",
        tables={"a": rows, "model": model},
    )


def _of_column(name: str, model: Table, column: str) -> str:
    """Write the condition of a model's rows that are a column's."""
    columns = model.columns
    if columns == ["token", "token_index"]:
        return ""
    if columns != ["column_index", "token", "token_index"]:
        raise bad_option(
            name,
            f"{name}: a table of the columns {', '.join(columns)} is no model of indexers",
            "link it from the model first, then from the rows: op.linkFrom(model, rows)",
        )
    told = literal(f"{name}: the model does not know the column {column}")
    known = """from_json(json_extract_string(token, '$.selectedCols'), '["VARCHAR"]')"""
    place = f"list_position(list_transform({known}, lambda x: lower(x)), {literal(column.lower())})"
    return (
        f" WHERE column_index = (SELECT coalesce({place}, error({told})) - 1 FROM m"
        " WHERE column_index = -1)"
    )


def huge_index(name: str, params: Params, inputs: Sequence[Table]) -> Table:
    """Give the numbers of the values of columns, by a join with the model, the first input.

    The model may be larger than what a worker can hold.
    """
    return _joined(name, params, inputs, False)


def huge_restore(name: str, params: Params, inputs: Sequence[Table]) -> Table:
    """Give the texts that numbers stand for, by a join with the model, the first input.

    The model may be larger than what a worker can hold. A number that the model does not have
    gives NULL, or with handleInvalid ERROR fails the job.
    """
    return _joined(name, params, inputs, True)


_NUMBERS_DOC = (
    "Values are compared as texts. stringOrderType says how they are numbered, from 0. A value "
    "that the model does not know, or NULL, gets the next number, with handleInvalid SKIP NULL, "
    "with ERROR it fails the job."
)


def declare() -> None:
    """Declare the operators of this module."""
    trained(
        _Indexed(
            "StringIndexer",
            "",
            "_tokens.Index",
            _indexed,
            ["selectedCol", "selectedCols"],
            query=_train_one,
            applied=["reservedCols"],
            doc="Give the values of a column numbers. With selectedCols, further columns are "
            f"numbered together with it. {_NUMBERS_DOC}",
        )
    )
    trained(
        _Indexed(
            "MultiStringIndexer",
            "",
            "_tokens.Index",
            _indexed,
            ["selectedCols"],
            query=_train_several,
            applied=["reservedCols"],
            doc=f"Give the values of columns numbers, in each column by themselves. {_NUMBERS_DOC}",
        )
    )
    back = Trained(
        "IndexToString",
        "",
        "_tokens.Restore",
        _restored,
        [],
        applied=["selectedCol", "reservedCols"],
        doc="Give the values back that StringIndexer has given numbers; NULL for a number that "
        "it has not given. The pipeline stage finds the model by its modelName.",
    )
    build("IndexToString", IndexToString, back.doc, _trained=back)
    for name, base in (
        ("IndexToStringPredictBatchOp", PredictBatch),
        ("IndexToStringPredictStreamOp", PredictStream),
    ):
        build(name, base, back.doc, _trained=back, _parameters=_unnamed(name))
    operator("HugeStringIndexerPredictBatchOp", huge_index, 2)
    operator("HugeMultiStringIndexerPredictBatchOp", huge_index, 2)
    operator("HugeIndexerStringPredictBatchOp", huge_restore, 2)
    operator("HugeMultiIndexerStringPredictBatchOp", huge_restore, 2)
