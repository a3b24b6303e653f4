"""Windows of rows and of times, and what Alink's clauses compute of them, by the engine's SQL.

On input with an end all rows are known, so none comes late: ``latency`` and ``watermarkType``
change nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from alink._algorithms._types import type_name
from alink._diag import quote
from alink._options import bad_option, find_column
from alink._table import Table
from alink._window import refuse_unbounded
from alink.operators._base import StreamOperator
from alink.operators._catalogue import catalogue
from alink.operators._define import build, one_of, operator
from alink.operators._dialect import quoted, translate
from alink.operators._operator import AlgoOperator
from alink.operators._sql_functions import run_sql
from alink.operators._table_aggregates import gather_rows, gathered
from alink.operators._window_clauses import Frame, columns_of, selected

Params = Mapping[str, Any]

_LENGTH = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]?)\s*\Z")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_MONTHS = {"M": 1, "y": 12}
_LONGEST_US = 10**17  # some 3,000 years
EPOCH = "TIMESTAMP '1970-01-01'"
_MOST_HOPS = 100_000


def parsed_length(
    name: str, params: Params, parameter: str, *, months: bool = True
) -> tuple[str, int]:
    """Give DuckDB's function of a length of time, and how many of its units the length is.

    A length is a number of seconds, or a number with s, m, h, d, M or y.
    """
    value = params[parameter]
    match = _LENGTH.match(str(value))
    if match is not None and match[2] in _SECONDS:
        micros = round(float(match[1]) * _SECONDS[match[2]] * 1_000_000)
        if 0 < micros <= _LONGEST_US:
            return "to_microseconds", micros
    elif match is not None and months and match[2] in _MONTHS and match[1].isdigit():
        count = int(match[1]) * _MONTHS[match[2]]
        if 0 < count <= 36_000:
            return "to_months", count
    units = "s, m, h, d, M or y" if months else "s, m, h or d"
    raise bad_option(
        name,
        f"{name}: {quote(parameter)} cannot be {value!r:.40}",
        f"a number of seconds above 0, or one with a unit, {units}: '15m'",
    )


def length_of(name: str, params: Params, parameter: str) -> str:
    """Give a length of time as an interval."""
    function, count = parsed_length(name, params, parameter)
    return f"{function}({count})"


def micros_of(name: str, params: Params, parameter: str) -> int:
    """Give a length of time, without months, in microseconds."""
    return parsed_length(name, params, parameter, months=False)[1]


def found_columns(name: str, schema: pa.Schema, given: Sequence[str] | None) -> list[str]:
    """Find columns, and write their names in quotes."""
    return [quoted(find_column(name, schema, column)) for column in given or ()]


def row_time(name: str, schema: pa.Schema, params: Params) -> str:
    """Write the time of a row, in UTC; one that is NULL is refused when it is met."""
    column = find_column(name, schema, params["timeCol"])
    kind = schema.field(column).type
    if not pa.types.is_timestamp(kind):
        raise bad_option(
            name,
            f"{name}: timeCol {quote(column)} is {type_name(kind)}, not TIMESTAMP",
            "make times of it before: .select('*, to_timestamp(millis) as ts')",
        )
    message = f"{name}: column {column!r} is NULL in a row: each row needs a time; leave such rows "
    message = (message + f"out before: .where('{column} IS NOT NULL')").replace("'", "''")
    return (
        f"CASE WHEN {quoted(column)} IS NULL THEN error('{message}') "
        f"ELSE make_timestamp(epoch_us({quoted(column)})) END"
    )


def _over(part: str, order: str, back: str, time: str = "__time") -> Frame:
    """Make the frame of a window that ends with the current row."""
    window = f"{part} ORDER BY {order}"
    first = f"{back} PRECEDING" if back else "UNBOUNDED PRECEDING"
    return Frame(
        rows=f"OVER ({window} ROWS BETWEEN {first} AND CURRENT ROW)",
        preceding=f"OVER ({window} ROWS BETWEEN {first} AND 1 PRECEDING)",
        order=f"OVER ({window})",
        back=back,
        time=time,
    )


def partition(keys: Sequence[str]) -> str:
    """Write what stands in OVER of the rows of a group."""
    return f"PARTITION BY {', '.join(keys)}" if keys else ""


def _over_rows(
    name: str, params: Params, table: Table, frame: Frame, framed: str, last: str
) -> Table:
    """Compute a clause for each row; `framed` are queries, the last of which has the rows."""
    schema = table.schema
    reserved = params["reservedCols"]
    kept = found_columns(name, schema, schema.names if reserved is None else reserved)
    made = columns_of(name, params["clause"], schema, frame)
    taken = {column.lower() for column in kept}
    for column in made:
        if quoted(column).lower() in taken:
            raise bad_option(
                name,
                f"{name}: the input has a column {quote(column)} already",
                "give what is computed another name, or leave it out by reservedCols",
            )
    query = f"{framed} SELECT {', '.join([*kept, selected(made)])} FROM framed ORDER BY {last}"
    return gathered(name, run_sql(table._context, query, {"a": table}, translated=True))


def numbered(time: str) -> str:
    """Write the query that gives rows their time and their number."""
    return f"WITH numbered AS (SELECT *, {time} AS __time, row_number() OVER () AS __row FROM a)"


def over_count(name: str, params: Params, inputs: Sequence[Table]) -> Table:
    """Compute ``clause`` for each row, of it and the ``precedingRows`` rows before it by time.

    Rows of the same time stand in the order in which they come. Without ``precedingRows`` all
    rows before it count. ``count_preceding(x)`` and its kin leave the row itself out.
    """
    table = inputs[0]
    refuse_unbounded(name, table._node)
    count = params["precedingRows"]
    if count is not None and not -1 <= count < 2**31:
        raise bad_option(name, f"{name}: precedingRows cannot be {count}", "it is 0 or more")
    back = "" if count is None or count < 0 else str(count)
    keys = found_columns(name, table.schema, params["groupCols"])
    frame = _over(partition(keys), "__time, __row", back)
    framed = f"{numbered(row_time(name, table.schema, params))}, framed AS (FROM numbered)"
    return _over_rows(name, params, table, frame, framed, "__time, __row")


def over_time(name: str, params: Params, inputs: Sequence[Table]) -> Table:
    """Compute ``clause`` for each row, of it and the rows at most ``precedingTime`` before it.

    A row knows those that come before it: by time, and among rows of the same time by their
    order.
    """
    table = inputs[0]
    refuse_unbounded(name, table._node)
    keys = found_columns(name, table.schema, params["groupCols"])
    part = partition(keys)
    rows = numbered(row_time(name, table.schema, params))
    if params["precedingTime"] is None:
        frame, framed = _over(part, "__time, __row", ""), "framed AS (FROM numbered)"
    else:
        frame = _over(part, "__time, __row", "__back")
        back = preceding_within(part, length_of(name, params, "precedingTime"))
        framed = f"framed AS (SELECT *, {back} AS __back FROM numbered)"
    return _over_rows(name, params, table, frame, f"{rows}, {framed}", "__time, __row")


def preceding_within(part: str, length: str) -> str:
    """Write how many rows of a group precede a row within an interval.

    They are those before this one, without those too early.
    """
    by_time = f"count(*) OVER ({part} ORDER BY __time RANGE BETWEEN"
    return (
        f"row_number() OVER ({part} ORDER BY __time, __row) - 1 "
        f"- ({by_time} UNBOUNDED PRECEDING AND CURRENT ROW) "
        f"- {by_time} {length} PRECEDING AND CURRENT ROW))"
    )


def over_batch(name: str, params: Params, inputs: Sequence[Table]) -> Table:
    """Compute ``clause`` for each row, of it and all rows of its group before it.

    The result stands in the order of ``groupCols`` and ``orderBy``.
    """
    table = inputs[0]
    refuse_unbounded(name, table._node)
    keys = found_columns(name, table.schema, params["groupCols"])
    order = f"{translate(params['orderBy'])}, __row"
    framed = "WITH framed AS (SELECT *, row_number() OVER () AS __row FROM a)"
    last = ", ".join([*keys, order])
    frame = _over(partition(keys), order, "", time="")
    return _over_rows(name, params, table, frame, framed, last)


def _groups(
    name: str, params: Params, table: Table, word: str, times: str, between: Sequence[str]
) -> Table:
    """Compute a clause for each window of each group; `times` has the rows, with __start, __end."""
    schema = table.schema
    keys = found_columns(name, schema, params["groupCols"])
    bounds = {}
    for bound in ("start", "end"):
        bounds[f"{word}_{bound}"] = bounds[f"window_{bound}"] = f"__{bound}"
        bounds[f"{word}_rowtime"] = "__end - to_milliseconds(1)"
    frame = Frame(inner=" ORDER BY __time, __row", bounds=bounds)
    made = columns_of(name, params["clause"], schema, frame)
    of = ", ".join(["__end", "__start", *keys])
    listed = ", ".join([*keys, selected(made)])
    queries = ", ".join([numbered(row_time(name, schema, params)), *between, f"timed AS ({times})"])
    query = f"{queries} SELECT {listed} FROM timed GROUP BY {of} ORDER BY {of}"
    return gathered(name, run_sql(table._context, query, {"a": table}, translated=True))


def tumbling(length: str) -> str:
    """Write the query that gives each of the numbered rows its window, of an interval."""
    start = f"time_bucket({length}, __time, {EPOCH})"
    return f"SELECT *, {start} AS __start, {start} + {length} AS __end FROM numbered"


def hopping(name: str, length_us: int, step_us: int) -> tuple[list[str], str]:
    """Write the queries that give the numbered rows once for each window that they stand in."""
    count = -(-length_us // step_us)
    check_hops(name, count)
    start = f"time_bucket(to_microseconds({step_us}), __time, {EPOCH})"
    starts = (
        f"started AS (SELECT *, {start} - to_microseconds({step_us} * unnest(range({count}))) "
        "AS __start FROM numbered)"
    )
    end = f"__start + to_microseconds({length_us})"
    return [starts], f"SELECT *, {end} AS __end FROM started WHERE {end} > __time"


def check_hops(name: str, count: int) -> None:
    """Refuse windows of which a row would stand in too many."""
    if count > _MOST_HOPS:
        raise bad_option(
            name,
            f"{name}: a row would stand in {count} windows",
            f"choose longer steps: at most {_MOST_HOPS} windows of a row are computed",
        )


def silences(gap_us: int, keys: Sequence[str]) -> tuple[list[str], str]:
    """Write the queries that give the numbered rows their sessions."""
    gap = f"to_microseconds({gap_us})"
    window = f"OVER ({partition(keys)} ORDER BY __time, __row)"
    between = [
        f"cut AS (SELECT *, coalesce(__time > lag(__time) {window} + {gap}, true)::INT AS __new "
        "FROM numbered)",
        f"sessions AS (SELECT *, sum(__new) {window} AS __session FROM cut)",
    ]
    of = f"OVER ({partition([*keys, '__session'])})"
    times = f"SELECT *, min(__time) {of} AS __start, max(__time) {of} + {gap} AS __end"
    return between, f"{times} FROM sessions"


def tumble(name: str, params: Params, inputs: Sequence[Table]) -> Table:
    """Compute ``clause`` for each group in each window of ``windowTime``, counted from 1970.

    ``tumble_start()`` and ``tumble_end()`` are the window's bounds.
    """
    refuse_unbounded(name, inputs[0]._node)
    times = tumbling(length_of(name, params, "windowTime"))
    return _groups(name, params, inputs[0], "tumble", times, [])


def hop(name: str, params: Params, inputs: Sequence[Table]) -> Table:
    """Compute ``clause`` for each group in windows of ``windowTime`` that start each ``hopTime``.

    ``hop_start()`` and ``hop_end()`` are the window's bounds.
    """
    refuse_unbounded(name, inputs[0]._node)
    length, step = micros_of(name, params, "windowTime"), micros_of(name, params, "hopTime")
    between, times = hopping(name, length, step)
    return _groups(name, params, inputs[0], "hop", times, between)


def session(name: str, params: Params, inputs: Sequence[Table]) -> Table:
    """Compute ``clause`` for each group in sessions, which end with ``sessionGapTime`` of silence.

    ``session_start()`` is the first row's time, ``session_end()`` the last one's and the gap.
    """
    refuse_unbounded(name, inputs[0]._node)
    gap = micros_of(name, params, "sessionGapTime")
    keys = found_columns(name, inputs[0].schema, params["groupCols"])
    between, times = silences(gap, keys)
    return _groups(name, params, inputs[0], "session", times, between)


_UNITS = {
    "SECOND": "to_seconds",
    "MINUTE": "to_minutes",
    "HOUR": "to_hours",
    "DAY": "to_days",
    "MONTH": "to_months",
    "YEAR": "to_years",
}


def group_by_window(name: str, params: Params, inputs: Sequence[Table]) -> Table:
    """Compute ``selectClause`` for each group in windows of the time at which rows arrive.

    All rows of input with an end arrive at one time, that of the job: they stand in one window,
    or, hopping, in each that has this time. ``window_start`` and ``window_end`` are the last
    columns.
    """
    table = inputs[0]
    refuse_unbounded(name, table._node)
    kind = one_of(name, "windowType", params["windowType"], ("TUMBLE", "HOP", "SESSION"))
    unit = _UNITS[one_of(name, "intervalUnit", params["intervalUnit"], tuple(_UNITS))]

    def length(parameter: str) -> tuple[int, str]:
        count = params[parameter]
        if count is None or not 0 < count <= 1_000_000:
            raise bad_option(
                name,
                f"{name}: {quote(parameter)} cannot be {count}, with windowType {kind}",
                "it is a number of intervalUnit from 1",
            )
        return count, f"{unit}({count})"

    if kind == "SESSION":
        size = length("sessionGap")[1]
        starts = "SELECT *, __now AS __start FROM arrived"
    else:
        count, size = length("windowLength")
        step, hop_size = length("slidingLength") if kind == "HOP" else (count, size)
        number = -(-count // step)
        check_hops(name, number)
        starts = (
            f"SELECT *, time_bucket({hop_size}, __now, {EPOCH}) "
            f"- {unit}(({step} * unnest(range({number})))::INT) AS __start FROM arrived"
        )
    clause = gather_rows(name, translate(params["selectClause"]), table.schema)
    keys = ["__start", "__end"]
    if (params["groupByClause"] or "").strip():
        keys.append(translate(params["groupByClause"]))
    now = "make_timestamp(epoch_us(current_timestamp))"
    query = f"""WITH arrived AS (SELECT *, {now} AS __now FROM a),
        started AS ({starts}),
        timed AS (SELECT *, __start + {size} AS __end FROM started WHERE __start + {size} > __now)
        SELECT {clause}, __start AS window_start, __end AS window_end
        FROM timed GROUP BY {", ".join(keys)} ORDER BY window_end"""
    return gathered(name, run_sql(table._context, query, {"a": table}, translated=True))


def _declare_group_by_window() -> None:
    """Declare the operator; of the lengths that Alink requires, a window needs its own alone."""
    name = "WindowGroupByStreamOp"
    lengths = ("windowLength", "slidingLength", "sessionGap")
    parameters = {
        key: replace(parameter, required=False) if key in lengths else parameter
        for key, parameter in catalogue()[name].parameters.items()
    }

    def _link(self: AlgoOperator) -> Table:
        return group_by_window(name, self._all(), [item._table() for item in self._inputs])

    build(name, StreamOperator, group_by_window.__doc__, _parameters=parameters, _link=_link)


_TRAFFIC = (
    "PV", "UV", "UIP",
    *(
        f"CARDINALITY_ESTIMATE_{method}"
        for method in (
            "STOCHASTIC", "LINEAR", "LOGLOG", "ADAPTIVE", "HYPERLOGLOG", "HYPERLOGLOGPLUS",
        )
    ),
)  # fmt: skip


def web_traffic(name: str, params: Params, inputs: Sequence[Table]) -> Table:
    """Count the rows (PV) or the different values of a column, in each window and in all.

    Windows are of the time at which rows arrive, so that those of input with an end stand in one.
    Where Alink estimates how many values differ, they are counted.
    """
    table = inputs[0]
    refuse_unbounded(name, table._node)
    index = one_of(name, "index", params["index"], _TRAFFIC)
    one_of(name, "format", params["format"], ("NORMAL", "SPARSE"))
    if not params["timeInterval"] > 0:
        raise bad_option(name, f"{name}: timeInterval cannot be {params['timeInterval']}")
    column = quoted(find_column(name, table.schema, params["selectedCol"]))
    values = f"count(DISTINCT {column}) + coalesce(max({column} IS NULL)::BIGINT, 0)"
    return table._context.sql(
        f"""WITH counted AS (
            SELECT count(*) AS __rows, {"count(*)" if index == "PV" else values} AS __count FROM a
        )
        SELECT functionName, __count AS {index} FROM counted,
            (VALUES ('window', 1), ('all', 2)) AS f(functionName, __place)
        WHERE __rows > 0 ORDER BY __place""",
        tables={"a": table},
    )


def _declare_web_traffic() -> None:
    """Declare the operator; Alink requires a keyCol, which it never reads."""
    name = "WebTrafficIndexStreamOp"
    parameters = {
        key: replace(parameter, required=parameter.required and key != "keyCol")
        for key, parameter in catalogue()[name].parameters.items()
    }

    def _link(self: AlgoOperator) -> Table:
        return web_traffic(name, self._all(), [item._table() for item in self._inputs])

    build(name, StreamOperator, web_traffic.__doc__, _parameters=parameters, _link=_link)


def declare() -> None:
    """Declare the operators of this module."""
    operator("OverCountWindowStreamOp", over_count)
    operator("OverTimeWindowStreamOp", over_time)
    operator("OverWindowBatchOp", over_batch)
    operator("TumbleTimeWindowStreamOp", tumble)
    operator("HopTimeWindowStreamOp", hop)
    operator("SessionTimeWindowStreamOp", session)
    _declare_group_by_window()
    _declare_web_traffic()
