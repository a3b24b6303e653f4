"""Rankings of objects, and quantiles of windows: queries of the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from alink._algorithms._types import is_number, type_name
from alink._diag import quote
from alink._options import bad_option, find_column
from alink._table import Table
from alink.operators._define import one_of, operator
from alink.operators._dialect import quoted
from alink.operators._discretizers import check_numbers
from alink.operators._statistics import check_parts

Params = Mapping[str, Any]

_STATISTICS = {
    "count": "count({})",
    "countTotal": "count(*)",
    "min": "coalesce(min({}), 0)",
    "max": "coalesce(max({}), 0)",
    "sum": "coalesce(sum({}::DOUBLE), 0)",
    "mean": "coalesce(avg({}), 0)",
    "variance": "coalesce(var_samp({}::DOUBLE), 0)",
}


def _statistic(name: str, schema: pa.Schema, parameter: str, column: str, kind: str) -> str:
    """Write a statistic of a column."""
    word = one_of(name, parameter, kind, tuple(_STATISTICS))
    arrow = schema.field(column).type
    if not word.startswith("count") and not is_number(arrow):
        raise bad_option(
            name,
            f"{name}: column {quote(column)} is {type_name(arrow)}, which has no {word}",
            "take count or countTotal, or a column of numbers",
        )
    return f"({_STATISTICS[word].format(quoted(column))})::DOUBLE"


def rank(name: str, params: Params, inputs: Sequence[Table]) -> Table:
    """Give the first ``topN`` objects by a statistic of their rows, of each group if there are.

    Objects with the same statistic are in their own order.
    """
    schema = inputs[0].schema
    found = {
        key: find_column(name, schema, params[key])
        for key in ("objectCol", "statCol", "groupCol")
        if params[key] is not None
    }
    added = [find_column(name, schema, column) for column in params["addedCols"] or ()]
    kinds = params["addedStatTypes"] or []
    if len(added) != len(kinds):
        raise bad_option(
            name, f"{name}: 'addedStatTypes' has {len(kinds)} names for {len(added)} columns"
        )
    if "statCol" not in found and params["statType"].lower() not in ("count", "counttotal"):
        raise bad_option(
            name, f"{name}: {params['statType']} needs a column", "set statCol, or statType count"
        )
    measured: str = found.get("statCol") or schema.names[0]
    kind = params["statType"] if "statCol" in found else "countTotal"  # rows, NULL or not
    columns: dict[str, str] = {measured: _statistic(name, schema, "statType", measured, kind)}
    keys = [found[key] for key in ("groupCol", "objectCol") if key in found]
    if measured in keys:  # two columns of a result have different names
        columns = {params["statType"]: columns[measured]}
    for column, kind in zip(added, kinds, strict=True):
        if column in columns or column in keys:
            raise bad_option(name, f"{name}: the result would have {quote(column)} twice")
        columns[column] = _statistic(name, schema, "addedStatTypes", column, kind)
    return inputs[0]._context.sql(_ranking(params, keys, columns), tables={"a": inputs[0]})


def _ranking(params: Params, keys: Sequence[str], columns: Mapping[str, str]) -> str:
    *group, item = map(quoted, keys)
    statistics = ", ".join(f"{text} AS {quoted(column)}" for column, text in columns.items())
    names = ", ".join([*group, item, *map(quoted, columns)])
    by = quoted(next(iter(columns)))
    order = "DESC" if params["isDescending"] else "ASC"
    where = ""
    if group and params["groupValues"]:
        values = ", ".join("'" + value.replace("'", "''") + "'" for value in params["groupValues"])
        where = f"WHERE {group[0]}::VARCHAR IN ({values})"
    part = f"PARTITION BY {group[0]} " if group else ""
    grouped = ", ".join([*group, item])
    return (
        f"SELECT {names}, rank FROM (SELECT *, row_number() OVER ({part}ORDER BY {by} {order}, "
        f"{item}) AS rank FROM (SELECT {grouped}, {statistics} FROM a {where} GROUP BY {grouped})) "
        f"WHERE rank <= {max(params['topN'], 0)} ORDER BY {', '.join([*group, 'rank'])}"
    )


_TIME = "%Y/%m/%d %H:%M:%S"


def quantiles(name: str, params: Params, inputs: Sequence[Table]) -> Table:
    """Give the quantiles of columns for each window of ``timeInterval`` seconds.

    A row's time is its ``timeCol``, a timestamp or milliseconds; the quantiles are a JSON list
    of the values at ranks round((n - 1) k / quantileNum), NULL and NaN left out.
    """
    schema, parts = inputs[0].schema, params["quantileNum"]
    check_parts(name, parts)
    interval = round(params["timeInterval"] * 1000)
    if interval < 1:
        raise bad_option(name, f"{name}: 'timeInterval' cannot be {params['timeInterval']}")
    if params["timeCol"] is None:
        raise bad_option(
            name,
            f"{name} has no timeCol",
            "set it: windows follow from the rows' times, not from when they come",
        )
    time = find_column(name, schema, params["timeCol"])
    kind = schema.field(time).type
    if not pa.types.is_timestamp(kind) and not pa.types.is_integer(kind):
        raise bad_option(
            name, f"{name}: timeCol {quote(time)} is {type_name(kind)}", "TIMESTAMP or BIGINT"
        )
    columns = params["selectedCols"]
    if columns is None:
        columns = [c.name for c in schema if is_number(c.type) and c.name != time]
    columns = [find_column(name, schema, column) for column in columns]
    check_numbers(name, schema, columns)
    if not columns:
        raise bad_option(name, f"{name}: 'selectedCols' names no column")
    millis = quoted(time) if pa.types.is_integer(kind) else f"epoch_ms({quoted(time)})"
    query = " UNION ALL ".join(
        _windows(column, i, millis, interval, parts) for i, column in enumerate(columns)
    )
    return inputs[0]._context.sql(
        f"SELECT starttime, endtime, colname, quantile FROM ({query}) ORDER BY begin, number",
        tables={"a": inputs[0]},
    )


def _windows(column: str, number: int, millis: str, interval: int, parts: int) -> str:
    """Write the query of the quantiles of one column."""
    text = column.replace("'", "''")
    value = quoted(column)
    at = f"floor((len(items) - 1) * k * (1.0::DOUBLE / {parts}) + 0.5)::BIGINT + 1"
    begin = f"(floor({millis} / {interval})::BIGINT * {interval})"
    return (
        f"SELECT begin, {number} AS number, "
        f"strftime(make_timestamp_ms(begin), '{_TIME}') AS starttime, "
        f"strftime(make_timestamp_ms(begin + {interval}), '{_TIME}') AS endtime, "
        f"'{text}' AS colname, "
        f"to_json(list_transform(range(0, {parts + 1}), lambda k: items[{at}]))::VARCHAR "
        f"AS quantile FROM (SELECT {begin} AS begin, list({value} ORDER BY {value}) AS items "
        f"FROM a WHERE {value} IS NOT NULL AND NOT isnan({value}::DOUBLE) "
        f"AND {millis} IS NOT NULL GROUP BY 1)"
    )


def declare() -> None:
    """Declare the operators of this module."""
    operator("RankingListBatchOp", rank)
    operator("QuantileStreamOp", quantiles)
