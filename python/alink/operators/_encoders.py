"""Operators that encode categories."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from alink._algorithms._strings import BLANKS
from alink._algorithms._types import VECTOR, is_number, type_name
from alink._diag import quote
from alink._options import bad_option, find_column
from alink._table import Table
from alink.operators._define import one_of
from alink.operators._dialect import quoted
from alink.operators._encoder_info import MultiHotModelInfo, OneHotModelInfo
from alink.operators._features import encoded
from alink.operators._indexers import check_invalid
from alink.operators._tokens import (
    about_columns,
    counted,
    grouped,
    literal,
    numbered,
    selected,
    thresholds_of,
    with_texts,
)
from alink.operators._training import Columns, Trained, trained

Params = Mapping[str, Any]


def _frequent(counts: Table, thresholds: Sequence[int]) -> Table:
    if not any(thresholds):
        return counts
    enough = " ".join(f"WHEN {i} THEN {threshold}" for i, threshold in enumerate(thresholds))
    return counts.filter(f"frequency >= CASE column_index {enough} END")


# --- one category ---


def _train_one_hot(name: str, params: Params, table: Table) -> Table:
    columns = selected(name, params)
    thresholds = thresholds_of(name, params, columns)
    counts = _frequent(counted(name, table, columns), thresholds)
    return numbered(counts, "token", table, columns, enableElse=any(thresholds))


def _one_hot(params: Params, _schema: pa.Schema, _model: pa.Schema) -> Columns:
    return encoded("OneHot", params)


# --- several categories in a text ---


def _parts(table: Table, text: str, delimiter: str) -> Table:
    """Give the parts of texts in rows of their own, without blanks around them."""
    lists = f"string_split({text}, {literal(delimiter)})" if delimiter else f"[{text}]"
    return table._context.sql(
        f"""SELECT part FROM (SELECT trim(unnest({lists}), {_BLANKS}) AS part FROM a)
        WHERE part != ''""",
        tables={"a": table},
    )


#: What stands around parts and is left out.
_BLANKS = " || ".join(f"chr({ord(char)})" for char in BLANKS)


def _train_multi_hot(name: str, params: Params, table: Table) -> Table:
    columns = selected(name, params)
    thresholds = thresholds_of(name, params, columns)
    rows, texts = with_texts(name, table, columns)
    delimiter = params["delimiter"] or ""
    parts = [_parts(rows, text, delimiter) for text in texts]
    names = [f"p{i}" for i in range(len(parts))]
    counts = " UNION ALL ".join(
        f"SELECT {i} AS place, part, count(*) AS frequency FROM {given} GROUP BY part "
        f"HAVING count(*) >= {threshold}"
        for i, (given, threshold) in enumerate(zip(names, thresholds, strict=True))
    )
    columns_of = " ".join(f"WHEN {i} THEN {literal(c)}" for i, c in enumerate(columns))
    meta = json.dumps({"delimiter": _json(delimiter), "selectedCols": _json(columns)})
    return table._context.sql(
        _listed(
            meta,
            f"""SELECT json_array(CASE place {columns_of} END, part,
                row_number() OVER (PARTITION BY place ORDER BY part) - 1, frequency) AS info,
                row_number() OVER (ORDER BY place, part) AS number
            FROM ({counts})""",
        ),
        tables=dict(zip(names, parts, strict=True)),
    )


def _listed(meta: str, query: str) -> str:
    """Write the query of a model with a text each of a query's rows, ``info`` and ``number``."""
    return f"""SELECT 0::BIGINT AS model_id, {literal(meta)} AS model_info
        UNION ALL SELECT (number << 20)::BIGINT, info::VARCHAR FROM ({query})"""


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _multi_hot(params: Params, _schema: pa.Schema, _model: pa.Schema) -> Columns:
    name = "MultiHot"
    encode = one_of(name, "encode", params["encode"], ("VECTOR", "ASSEMBLED_VECTOR"))
    check_invalid(name, params)
    columns, outputs = selected(name, params), params["outputCols"]
    wanted = 1 if encode == "ASSEMBLED_VECTOR" else len(columns)
    if len(outputs) != wanted:
        raise bad_option(
            name,
            f"{name}: 'outputCols' names {len(outputs)} columns",
            f"with encode {encode} it names {wanted}",
        )
    return [(output, VECTOR) for output in outputs]


# --- categories together ---


def _train_cross(name: str, params: Params, table: Table) -> Table:
    columns = selected(name, params)
    groups = grouped(name, table, columns, "count(*) AS frequency")
    return numbered(groups, "token NULLS LAST", table, columns)


def _cross(params: Params, _schema: pa.Schema, _model: pa.Schema) -> Columns:
    return [(params["outputCol"], VECTOR)]


# --- means of a label ---


def _train_means(name: str, params: Params, table: Table) -> Table:
    schema = table.schema
    label = params["labelCol"]
    columns = params["selectedCols"]
    if columns is None:
        columns = [column for column in schema.names if column != label]
    columns = selected(name, {"selectedCols": columns})
    value = _label(name, params, schema.field(label).type)
    given = f"{quoted(label)} IS NOT NULL"
    groups = grouped(name, table, columns, f"avg({value}) AS mean", where=given)
    about = about_columns(table, columns)
    return table._context.sql(
        f"""SELECT -1::BIGINT AS column_index, {literal(about)} AS token, avg({value}) AS mean
        FROM a WHERE {given}
        UNION ALL SELECT column_index, token, mean FROM groups WHERE token IS NOT NULL""",
        tables={"a": table, "groups": groups},
    )


def _label(name: str, params: Params, kind: pa.DataType) -> str:
    """Write the expression of a label's value: 1 and 0 where there is a positive one."""
    column, positive = quoted(params["labelCol"]), params["positiveLabelValueString"]
    number = is_number(kind) or pa.types.is_boolean(kind)
    if positive is None:
        if not number:
            raise bad_option(
                name,
                f"{name}: the label {quote(params['labelCol'])} is {type_name(kind)}",
                "it is a number, or one of its values is positiveLabelValueString",
            )
        return f"{column}::DOUBLE"
    if is_number(kind):
        return f"({column} = TRY_CAST({literal(positive)} AS DOUBLE))::INT"
    return f"({column}::VARCHAR = {literal(positive)})::INT"


def _means(params: Params, schema: pa.Schema, _model: pa.Schema) -> Columns:
    columns, outputs = params["selectedCols"], params["outputCols"]
    if columns is not None:
        for column in columns:
            find_column("TargetEncoder", schema, column)
        if len(columns) != len(outputs):
            raise bad_option(
                "TargetEncoder",
                f"TargetEncoder: 'outputCols' names {len(outputs)} columns for {len(columns)}",
            )
    return [(output, pa.float64()) for output in outputs]


# --- named features in a text ---


def _train_features(name: str, params: Params, table: Table) -> Table:
    rows, (text,) = with_texts(name, table, [params["selectedCol"]])
    delimiter, mark = params["spareFeatureDelimiter"], params["kvValDelimiter"]
    parts = _parts(rows, text, delimiter)
    feature = "part"
    if params["hasValue"]:
        if not mark:
            raise bad_option(name, f"{name}: 'kvValDelimiter' is empty", "it is not with hasValue")
        before = literal(f"(?s)^(.*){''.join(map(_escaped, mark))}.*$")
        feature = (
            f"CASE WHEN contains(part, {literal(mark)}) "
            f"THEN trim(regexp_extract(part, {before}, 1), {_BLANKS}) "
            f"ELSE error({literal(f'{name}: a feature has no value behind {mark!r}: ')} || part) "
            "END"
        )
    kept = [f"frequency >= {params['minFrequency']}"]
    if params["minPercent"] > 0:
        kept.append(f"frequency >= {params['minPercent']!r} * (SELECT count(*) FROM a)")
    if params["candidateTags"] is not None:
        tags = ", ".join(map(literal, params["candidateTags"]))
        kept.append(f"feature IN ({tags})" if tags else "false")
    limit = f"LIMIT {params['topN']}" if params["topN"] > 0 else ""
    about = ("spareFeatureDelimiter", "kvValDelimiter", "hasValue")
    meta = {key: _json(params[key]) for key in about}
    return table._context.sql(
        _listed(
            json.dumps(meta),
            f"""SELECT json_array(feature, number - 1, frequency) AS info, number FROM (
                SELECT *, row_number() OVER (ORDER BY frequency DESC, feature) AS number FROM (
                    SELECT feature, count(*) AS frequency
                    FROM (SELECT {feature} AS feature FROM p) GROUP BY feature
                ) WHERE {" AND ".join(kept)} ORDER BY number {limit}
            )""",
        ),
        tables={"p": parts, "a": table},
    )


def _escaped(char: str) -> str:
    """Write a character of a regular expression that stands for itself."""
    return char if char.isalnum() or not char.isascii() else f"\\{char}"


def _features(params: Params, _schema: pa.Schema, _model: pa.Schema) -> Columns:
    name = "SparseFeatureIndexer"
    one_of(name, "handleDuplicate", params["handleDuplicate"], ("FIRST", "LAST", "ERROR"))
    return [(params["outputCol"] or params["selectedCol"], VECTOR)]


def declare() -> None:
    """Declare the operators of this module."""
    columns = ["selectedCols"]
    trained(
        Trained(
            "OneHot",
            "",
            "_encoders.OneHot",
            _one_hot,
            columns,
            estimator="OneHotEncoder",
            query=_train_one_hot,
            info=OneHotModelInfo,
            applied=["selectedCols", "reservedCols"],
            doc="Write categories as sparse vectors with one 1, or as numbers. Values that are "
            "there less than discreteThresholds times share a category. What is invalid, NULL "
            "or a value that the model does not know, has a category of its own behind the "
            "others, or with handleInvalid SKIP gives NULL, with ERROR fails the job. dropLast "
            "leaves the last value out of vectors.",
        )
    )
    trained(
        Trained(
            "MultiHot",
            "",
            "_encoders.MultiHot",
            _multi_hot,
            columns,
            estimator="MultiHotEncoder",
            query=_train_multi_hot,
            info=MultiHotModelInfo,
            applied=["selectedCols", "reservedCols"],
            doc="Write the parts of texts, between delimiters, as sparse vectors with a 1 for "
            "each. Parts that the model does not know have a place behind the others, or are "
            "left out with handleInvalid SKIP. NULL stays NULL.",
        )
    )
    trained(
        Trained(
            "CrossFeature",
            "",
            "_encoders.Cross",
            _cross,
            columns,
            query=_train_cross,
            doc="Write the values of columns together as a sparse vector with one 1, whose size "
            "is the product of how many values the columns have. NULL is a value. A value that "
            "the model does not know gives a vector without a 1.",
        )
    )
    trained(
        Trained(
            "TargetEncoder",
            "",
            "_encoders.TargetMeans",
            _means,
            ["labelCol", "selectedCols"],
            query=_train_means,
            applied=["selectedCols", "reservedCols"],
            doc="Give, for the values of columns, the mean of the label of the rows that have "
            "the value, or the share of positiveLabelValueString. NULL, and a value that the "
            "model does not know, give the mean of all rows.",
        )
    )
    trained(
        Trained(
            "SparseFeatureIndexer",
            "",
            "_encoders.SparseFeatures",
            _features,
            ["selectedCol"],
            query=_train_features,
            applied=["selectedCol", "reservedCols"],
            doc="Make sparse vectors of texts of named features, as age:3,tall:1. Those of the "
            "model are candidateTags, or all; at least minFrequency times and in the share "
            "minPercent of the rows, the topN most frequent. Others are left out.",
        )
    )
