"""Operators that read and write values of Redis."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from alink._algorithms._ak_meta import is_plain
from alink._algorithms._types import type_name
from alink._confinement import Confinement, given_secret
from alink._diag import quote
from alink._functions import FunctionOptions
from alink._index import VARIABLE
from alink._options import bad_option, find_column
from alink._table import Table
from alink.operators._base import BatchOperator, StreamOperator, read_schema
from alink.operators._define import batch_and_stream, build
from alink.operators._mapping import algorithm_library, apply_step, with_columns_found
from alink.operators._sinks import Writer, sink
from alink.operators._stages import Transformer
from alink.operators._tokens import selected

Params = Mapping[str, Any]

_PORT = 6379
_CLUSTER_PORT = 7000
_TIMEOUT_MS = 10_000
_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:\[\]/@]+)(?::(?P<port>\d{1,5}))?")


def _needed(name: str, params: Params, parameter: str) -> Any:
    """Give what Alink's catalogue calls optional, and nothing runs without."""
    if not (value := params[parameter]):
        raise bad_option(
            name,
            f"{name} needs the parameter {quote(parameter)}",
            f"set it with set{parameter[:1].upper()}{parameter[1:]}(…)",
        )
    return value


def _place(name: str, params: Params) -> tuple[dict[str, Any], Confinement]:
    """Give what workers need to find the server, and what they may do for it."""
    cluster = params["clusterMode"]
    addresses: list[tuple[str, int]] = []
    for text in _needed(name, params, "redisIPs"):
        match = _ADDRESS.fullmatch(text.strip())
        port = int(match["port"] or (_CLUSTER_PORT if cluster else _PORT)) if match else 0
        if match is None or not 0 < port < 1 << 16:
            shown = f": {text!r:.60}" if "@" not in text else ""  # a login stands before it
            raise bad_option(
                name, f"{name}: 'redisIPs' has what is no address{shown}", 'write "10.0.0.5:6379"'
            )
        addresses.append((match["host"].strip("[]"), port))
    database = params["databaseIndex"] or 0
    if database < 0 or (cluster and database):
        raise bad_option(
            name,
            f"{name}: 'databaseIndex' cannot be {database}",
            "a cluster has database 0 alone" if cluster else "databases are counted from 0",
        )
    timeout = _TIMEOUT_MS if params["timeout"] is None else params["timeout"]
    if timeout < 1:
        raise bad_option(name, f"{name}: 'timeout' is 1 ms or more, not {timeout}")
    place: dict[str, Any] = {
        "addresses": addresses,
        "cluster": cluster,
        "database": database,
        "timeoutMs": timeout,
        "secret": None,
    }
    password = params["redisPassword"]
    if not password:
        return place, Confinement(network=True)
    if (variable := VARIABLE.fullmatch(password)) is not None:
        place["secret"] = variable[1]
        return place, Confinement(network=True, secrets=(variable[1],))
    place["secret"] = secret = given_secret(password)
    return place, Confinement(network=True, secrets=(secret,), given={secret: password})


def _looked_up(
    name: str,
    task: str,
    params: Params,
    table: Table,
    settings: Params,
    outputs: Sequence[tuple[str, pa.DataType]],
) -> Table:
    place, confined = _place(name, params)
    options = FunctionOptions(env=algorithm_library("redis"), timeout=None, confined=confined)
    given = {**settings, "place": place}
    return apply_step(table, name, task, given, outputs, params["reservedCols"], options=options)


def lookup_string(name: str, params: Params, inputs: Sequence[Table]) -> Table:
    """Give the value that a Redis server has for a key, the text of a column; NULL without one."""
    found = with_columns_found(name, inputs[0].schema, params, ["selectedCol", "reservedCols"])
    column = found["selectedCol"]
    outputs = [(found["outputCol"] or column, pa.string())]
    settings = {"selectedCol": column}
    return _looked_up(name, "_redis.LookupString", found, inputs[0], settings, outputs)


def lookup_row(name: str, params: Params, inputs: Sequence[Table]) -> Table:
    """Give the row that a Redis server has for a key of one or several columns; NULL without one.

    ``outputSchemaStr`` is that of the value columns of RedisRowSink, with their types.
    """
    schema = inputs[0].schema
    found = with_columns_found(name, schema, params, ["selectedCols", "reservedCols"])
    columns = selected(name, found)
    wanted = read_schema(name, found["outputSchemaStr"], "outputSchemaStr")
    _refuse_others(name, [*(schema.field(column) for column in columns), *wanted])
    settings = {"selectedCols": columns, "outputSchemaStr": found["outputSchemaStr"]}
    outputs = [(field.name, field.type) for field in wanted]
    return _looked_up(name, "_redis.LookupRow", found, inputs[0], settings, outputs)


def _refuse_others(name: str, fields: Sequence[pa.Field]) -> None:
    for field in fields:
        if not is_plain(field.type):
            raise bad_option(
                name,
                f"{name}: the column {quote(field.name)} is {type_name(field.type)}, which rows in "
                "Redis cannot have",
                "cast it to string, or leave it out",
            )


def _written(name: str, params: Params, table: Table, spec: Params) -> Table:
    place, confined = _place(name, params)
    given = {**spec, "operator": name, "place": place}
    function = Writer(name, given, algorithm_library("redis"), "_redis.writer", confined)
    return table._derive("fit", {"function": function})


def string_sink(name: str, params: Params, table: Table) -> Table:
    """Set a key of a Redis server for each row, both texts of columns."""
    columns = {}
    for parameter in ("keyCol", "valueCol"):
        column = find_column(name, table.schema, _needed(name, params, parameter))
        kind = table.schema.field(column).type
        if not pa.types.is_string(kind):
            raise bad_option(
                name,
                f"{name}: the column {quote(column)} is {type_name(kind)}, keys and values are "
                "STRING",
                "cast it, or use RedisRowSink, which keeps types",
            )
        columns[parameter] = [column]
    spec = {"keys": columns["keyCol"], "values": columns["valueCol"], "texts": True}
    return _written(name, params, table, spec)


def row_sink(name: str, params: Params, table: Table) -> Table:
    """Set a key of a Redis server for each row, some columns, to the row of others, with types."""
    found = with_columns_found(name, table.schema, params, ["keyCols", "valueCols"])
    keys = selected(name, found, "keyCols")
    if found["valueCols"]:
        values = selected(name, found, "valueCols")
    else:
        values = [column for column in table.columns if column not in keys]
    if not values:
        raise bad_option(name, f"{name}: all columns are keys: none is left for values")
    _refuse_others(name, [table.schema.field(column) for column in [*keys, *values]])
    return _written(name, params, table, {"keys": keys, "values": values, "texts": False})


def declare() -> None:
    """Declare the operators of this module."""
    for name, make in (("LookupRedisString", lookup_string), ("LookupRedisRow", lookup_row)):
        batch_and_stream(name, make)
        build(name, Transformer, make.__doc__, _make=staticmethod(make))
    for name, into in (("RedisStringSink", string_sink), ("RedisRowSink", row_sink)):
        sink(f"{name}BatchOp", BatchOperator, into)
        sink(f"{name}StreamOp", StreamOperator, into)
