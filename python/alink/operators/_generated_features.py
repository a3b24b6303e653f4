"""Features over time that definitions describe, by the engine's SQL.

What is NULL in a column of a feature, or NaN among numbers, counts as a row and as nothing else:
TOTAL_COUNT, ROW_NUMBER, times, LastN and FirstN see it, the other statistics leave it out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from alink._algorithms._types import is_number, type_name
from alink._diag import quote
from alink._options import bad_option, find_column
from alink._table import Table
from alink._window import refuse_unbounded
from alink.operators._base import BatchOperator, StreamOperator
from alink.operators._define import build, operator
from alink.operators._dialect import quoted
from alink.operators._feature_definitions import (
    LATEST,
    LENGTHS,
    WINDOWS,
    Feature,
    Statistic,
    read_definitions,
)
from alink.operators._operator import AlgoOperator
from alink.operators._time_windows import (
    EPOCH,
    check_hops,
    found_columns,
    hopping,
    micros_of,
    numbered,
    parsed_length,
    partition,
    preceding_within,
    row_time,
    silences,
    tumbling,
)

Params = Mapping[str, Any]

#: Statistics that numbers alone have.
_ARITHMETIC = {
    "SUM": "sum({x}){over}",
    "MEAN": "avg({x}){over}",
    "STDDEV_POP": "stddev_pop({x}){over}",
    "VAR_POP": "var_pop({x}){over}",
    "SQUARE_SUM": "sum({x} * {x}){over}",
    "MEDIAN": "median({x}){over}",
    "MODE": "mode({x}{inner}){over}",
    "STDDEV_SAMP": "stddev_samp({x}){over}",
    "VAR_SAMP": "var_samp({x}){over}",
}
#: Those of several values, which are 0 of one.
_OF_SEVERAL = ("STDDEV_SAMP", "VAR_SAMP")
_OF_NUMBERS = {*_ARITHMETIC, "SKEWNESS", "RANK", "DENSE_RANK", "SumLastN"}


class _Rows:
    """The rows that a statistic is of, and what is aggregated of them.

    Parameters
    ----------
    over : str
        OVER of the rows that end with the current one; "" in a group of rows.
    order : str
        OVER of the rows of the current one's group, in their order; "" in a group of rows.
    aggregates : dict
        Takes what is aggregated: names of columns by SQL.
    start, end : str
        The bounds in time, as SQL of the aggregates' query.
    equal : callable
        Gives OVER of those rows of `over` that have the current one's value of an expression.
    """

    def __init__(
        self,
        over: str,
        order: str,
        aggregates: dict[str, str],
        start: str,
        end: str,
        equal: Callable[[str], str] = str,
    ) -> None:
        self.over = over and " " + over
        self._order = order
        self._aggregates = aggregates
        self.inner = "" if over else " ORDER BY __time, __row"
        self.start, self.end = start, end
        self._equal = equal

    def of(self, sql: str) -> str:
        """Have something aggregated, and give the name of its column."""
        return self._aggregates.setdefault(sql, f"__a{len(self._aggregates)}")

    def list(self, value: str) -> str:
        """Have the values of all rows gathered, in their order, NULL among them."""
        return self.of(f"list({value}{self.inner}){self.over}")

    def last(self, value: str) -> str:
        """Give the last row's value."""
        return self.of(value if self.over else f"last({value}{self.inner})")

    def frequency(self, value: str) -> str:
        """Give how many rows have the last one's value, NULL if that is NULL."""
        if self.over:
            counted = f"count({value}) {self._equal(value)}"
            return self.of(f"CASE WHEN {value} IS NOT NULL THEN {counted} END")
        values, last = self.list(value), self.last(value)
        return f"CASE WHEN {last} IS NOT NULL THEN len([v FOR v IN {values} IF v = {last}]) END"

    def nth(self, value: str, n: int) -> str:
        """Give the n-th row's value, or NULL."""
        if not self.over:
            return f"{self.list(value)}[{n}]"
        return self.of(f"nth_value({value}, {n}){self.over}")

    def nth_last(self, value: str, n: int) -> str:
        """Give the n-th row's value, counted from the last one, or NULL."""
        if not self.over:
            return f"{self.list(value)}[-{n}]"
        lagged = f"lag({value}, {n - 1}) {self._order}"
        return self.of(f"CASE WHEN count(*){self.over} >= {n} THEN {lagged} END")


class _Column:
    """Writes statistics of one feature: of a column, or of several together."""

    def __init__(
        self, name: str, schema: pa.Schema, feature: Feature, given: Sequence[str]
    ) -> None:
        self._name = name
        self._columns = [find_column(name, schema, column) for column in given]
        kinds = [schema.field(column).type for column in self._columns]
        for column, kind in zip(self._columns, kinds, strict=True):
            if pa.types.is_nested(kind):
                raise bad_option(
                    name,
                    f"{name}: column {quote(column)} of {type_name(kind)} has no such features",
                    "they are of numbers, texts, truths and times",
                )
        self._number = is_number(kinds[0])
        self._kind = type_name(kinds[0])
        value = quoted(self._columns[0])
        nan = pa.types.is_floating(kinds[0])
        #: A row's value, and the same where it counts, else NULL.
        self._value = value
        self._known = f"CASE WHEN NOT isnan({value}) THEN {value} END" if nan else value
        if feature.data == "cc":
            texts = [f"{quoted(column)}::VARCHAR" for column in self._columns]
            shown = [f"coalesce({text}, 'null')" for text in texts]
            valid = " AND ".join(f"{quoted(column)} IS NOT NULL" for column in self._columns)
            self._value = "concat_ws('_', " + ", ".join(shown) + ")"
            self._known = f"CASE WHEN {valid} THEN [{', '.join(texts)}] END"
        self._cross = feature.data == "cc"

    def write(self, statistic: Statistic, rows: _Rows) -> str:
        """Write a statistic, of columns that the rows have aggregated."""
        kind, n = statistic.kind, statistic.n
        if kind in _OF_NUMBERS:
            return self._number_of(kind, n, rows)
        known = self._known
        if kind in ("RANGE_START_TIME", "RANGE_END_TIME"):
            return rows.of(rows.start if kind == "RANGE_START_TIME" else rows.end)
        if kind in ("FirstTimeN", "LastTimeN"):
            times = rows.list("__time")
            return f"list_sort(list_distinct({times}))[{n if kind == 'FirstTimeN' else -n}]"
        if kind in ("TOTAL_COUNT", "ROW_NUMBER"):
            return rows.of(f"count(*){rows.over}")
        if kind == "COUNT":
            return rows.of(f"count({known}){rows.over}")
        if kind == "DISTINCT_COUNT":
            return rows.of(f"count(DISTINCT {known}){rows.over}")
        if kind == "FirstN":
            return rows.nth(self._value, n)
        if kind == "LastN":
            return rows.nth_last(self._value, n)
        if kind == "ConcatAgg":
            text = f"CASE WHEN {known} IS NOT NULL THEN {self._value}::VARCHAR END"
            delimiter = statistic.text.replace("'", "''")
            return rows.of(f"string_agg({text}, '{delimiter}'{rows.inner}){rows.over}")
        if kind == "KvStat":
            return self._pairs(statistic, rows)
        often = rows.frequency(known)
        if kind == "IS_EXIST":
            return f"coalesce(({often}) > 1, false)"
        return often if kind == "FREQ" else f"({often}) / {rows.of(f'count({known}){rows.over}')}"

    def _number_of(self, kind: str, n: int, rows: _Rows) -> str:
        if not self._number:
            raise bad_option(
                self._name,
                f"{self._name}: column {quote(self._columns[0])} is {self._kind}, and {kind} is "
                "of numbers",
                "make numbers of it before: .select('*, cast(c as double) as d')",
            )
        x = f"({self._known})::DOUBLE"
        if kind in _ARITHMETIC:
            of = _ARITHMETIC[kind].format(x=x, over=rows.over, inner=rows.inner)
            if kind not in _OF_SEVERAL:
                return rows.of(of)
            return (
                f"CASE WHEN {rows.of(f'count({x}){rows.over}')} = 1 THEN 0 ELSE {rows.of(of)} END"
            )
        values = rows.list(x)
        if kind == "SumLastN":
            return f"list_sum({values}[-{n}:])"
        if kind == "SKEWNESS":
            mean = rows.of(f"avg({x}){rows.over}")
            spread = rows.of(f"coalesce(var_samp({x}){rows.over}, 0)")
            third = f"list_avg([pow(v - {mean}, 3) FOR v IN {values}])"
            return (
                f"CASE WHEN {mean} IS NULL THEN NULL WHEN {spread} = 0 THEN 0 "
                f"ELSE {third} / pow({spread}, 1.5) END"
            )
        last = rows.last(x)
        smaller = f"[v FOR v IN {values} IF v < {last}]"
        if kind == "DENSE_RANK":
            smaller = f"list_distinct({smaller})"
        return f"CASE WHEN {last} IS NOT NULL THEN 1 + len({smaller}) END"

    def _pairs(self, statistic: Statistic, rows: _Rows) -> str:
        """Write the most frequent values with their numbers, ``c:a_3_c:b_1``."""
        counted = rows.of(f"histogram({self._known}){rows.over}")
        key = [f"p.key[{i + 1}]" for i in range(len(self._columns))] if self._cross else ["p.key"]
        texts = [
            f"'{column}:'".replace("'", "''")[1:-1] + f" || {value}::VARCHAR"
            for column, value in zip(self._columns, key, strict=True)
        ]
        text = " || '_' || ".join(texts)
        # The most frequent one first, and of those as frequent the first by its text.
        ordered = (
            f"list_sort([{{'n': -p.value::BIGINT, 't': {text}}} FOR p IN map_entries({counted})])"
        )
        if statistic.n < 1 or not statistic.text:
            least = "0"
        elif statistic.text == "RANK":
            least = f"coalesce(q[{statistic.n}].n, 0)"
        else:
            least = f"coalesce(list_sort(list_distinct([e.n FOR e IN q]))[{statistic.n}], 0)"
        chosen = f"[e.t || '_' || -e.n FOR e IN q IF e.n <= {least}]"
        return f"coalesce(([array_to_string({chosen}, '_') FOR q IN [{ordered}]])[1], '')"


_KINDS = {
    **dict.fromkeys(("RANGE_START_TIME", "RANGE_END_TIME"), "TIMESTAMP"),
    **dict.fromkeys(("FirstTimeN", "LastTimeN"), "TIMESTAMP"),
    **dict.fromkeys(("COUNT", "TOTAL_COUNT", "DISTINCT_COUNT", "FREQ", "ROW_NUMBER"), "BIGINT"),
    **dict.fromkeys(("RANK", "DENSE_RANK"), "BIGINT"),
    "IS_EXIST": "BOOLEAN",
    "KvStat": "VARCHAR",
    "ConcatAgg": "VARCHAR",
    "FirstN": "",
    "LastN": "",
}


def _written(name: str, schema: pa.Schema, feature: Feature, rows: _Rows) -> dict[str, str]:
    """Write the columns of a definition: SQL by their names."""
    made: dict[str, str] = {}
    for columns in feature.columns:
        column = _Column(name, schema, feature, columns)
        for statistic in feature.statistics:
            kind = _KINDS.get(statistic.kind, "DOUBLE")
            written = column.write(statistic, rows)
            made[feature.column(statistic, columns)] = f"({written})::{kind}" if kind else written
    return made


def _check_new(name: str, taken: Sequence[str], made: Sequence[str]) -> None:
    seen = {column.lower() for column in taken}
    for column in made:
        if column.lower() in seen:
            raise bad_option(
                name,
                f"{name}: there would be two columns {quote(column)}",
                "leave out what is defined twice, or rename the input's column",
            )
        seen.add(column.lower())


def _listed(columns: Mapping[str, str]) -> str:
    return "".join(f", {sql} AS {quoted(column)}" for column, sql in columns.items())


# --- windows that end with a row ---


def latest(name: str, params: Params, inputs: Sequence[Table]) -> Table:
    """Compute features of each row and the rows of its group before it, by time.

    ``featureDefinitions`` has them as JSON: ``LatestN`` of that many rows, the row itself among
    them; ``LatestTimeInterval`` of the rows at most so long before; ``LatestTimeSlot`` of the
    rows since the slot's start, of slots of that length counted from 1970 (a row at a slot's very
    start is the last one of the slot before).
    """
    table = inputs[0]
    refuse_unbounded(name, table._node)
    schema = table.schema
    features = read_definitions(name, params["featureDefinitions"], LATEST)
    if name.endswith("BatchOp"):  # as Alink orders them
        features.sort(key=lambda feature: "|".join(feature.groups))
    backs: dict[str, str] = {}
    aggregates: dict[str, str] = {}
    made: dict[str, str] = {}
    for feature in features:
        part = partition(found_columns(name, schema, feature.groups))
        back = _back(name, feature, part)
        if not back.isdigit():
            back = backs.setdefault(back, f"__back{len(backs)}")
        order = f"{part} ORDER BY __time, __row"
        over = f"OVER ({order} ROWS BETWEEN {back} PRECEDING AND CURRENT ROW)"
        place = backs.setdefault(f"row_number() OVER ({order})", f"__back{len(backs)}")
        frame = f"ORDER BY {place} RANGE BETWEEN {back} PRECEDING AND CURRENT ROW"
        equal = partial(_among, part, frame)
        start = f"min(__time) {over}"
        rows = _Rows(over, f"OVER ({order})", aggregates, start, "__time", equal)
        columns = _written(name, schema, feature, rows)
        _check_new(name, [*schema.names, *made], list(columns))
        made.update(columns)
    kept = ", ".join(map(quoted, schema.names))
    framed = "".join(f", {sql} AS {column}" for sql, column in backs.items())
    gathered = "".join(f", {sql} AS {column}" for sql, column in aggregates.items())
    return table._context.sql(
        f"{numbered(row_time(name, schema, params))}, "
        f"framed AS (SELECT *{framed} FROM numbered), "
        f"gathered AS (SELECT *{gathered} FROM framed) "
        f"SELECT {kept}{_listed(made)} FROM gathered ORDER BY __time, __row",
        tables={"a": table},
    )


def _among(part: str, frame: str, value: str) -> str:
    """Write OVER of the rows in a frame of a group that have the same value."""
    of = f"{part}," if part else "PARTITION BY"
    return f"OVER ({of} {value} {frame})"


def _back(name: str, feature: Feature, part: str) -> str:
    """Write how many rows before the current one count."""
    given = feature.lengths[0]
    if feature.window == "LatestN":
        if not 1 <= int(given) < 2**31:
            raise bad_option(name, f"{name}: a number of rows is 1 or more, not {given}")
        return str(int(given) - 1)
    interval = feature.window == "LatestTimeInterval"
    parameter = "timeIntervals" if interval else "timeSlots"
    function, count = parsed_length(name, {parameter: given}, parameter)
    length = f"{function}({count})"
    if not interval:
        slot = f"time_bucket({length}, __time - to_microseconds(1), {EPOCH})"
        length = f"(__time - {slot})"
    return preceding_within(part, length)


# --- windows of time ---


def _window(name: str, params: Params, table: Table, feature: Feature) -> Table:
    """Compute the features of one definition."""
    schema = table.schema
    keys = found_columns(name, schema, feature.groups)
    between, times = _times(name, feature, keys)
    aggregates: dict[str, str] = {}
    rows = _Rows("", "", aggregates, "__start", "__end")
    columns = {
        f"{feature.prefix}_start_time": "__start",
        f"{feature.prefix}_end_time": "__end",
        **_written(name, schema, feature, rows),
    }
    _check_new(name, feature.groups, list(columns))
    of = ", ".join(["__end", "__start", *keys])
    shown = ", ".join([*keys, _listed(columns)[2:]])
    gathered = "".join(f", {sql} AS {column}" for sql, column in aggregates.items())
    queries = ", ".join([numbered(row_time(name, schema, params)), *between, f"timed AS ({times})"])
    return table._context.sql(
        f"{queries}, gathered AS (SELECT {of}{gathered} FROM timed GROUP BY {of}) "
        f"SELECT {shown} FROM gathered ORDER BY {of}",
        tables={"a": table},
    )


def _times(name: str, feature: Feature, keys: Sequence[str]) -> tuple[list[str], str]:
    """Write the queries that give the numbered rows the windows that they stand in."""
    given: dict[str, str] = dict(zip(LENGTHS[feature.window], feature.lengths, strict=True))
    if feature.window == "SessionWindow":
        return silences(micros_of(name, given, "sessionGapTimes"), keys)
    if feature.window == "HopWindow":
        step = micros_of(name, given, "hopTimes")
        return hopping(name, micros_of(name, given, "windowTimes"), step)
    function, length = parsed_length(name, given, "windowTimes")
    if feature.window == "TumbleWindow":
        return [], tumbling(f"{function}({length})")
    unit, step = parsed_length(name, given, "stepTimes")
    if unit != function or length % step:
        slot, steps = feature.lengths
        raise bad_option(
            name,
            f"{name}: a slot of {slot} cannot be cut in steps of {steps}",
            "stepTimes divides windowTimes",
        )
    check_hops(name, length // step)
    start = f"time_bucket({function}({length}), __time, {EPOCH})"
    ends = f"__start + {function}({step} * unnest(range(1, {length // step + 1})))"
    between = [
        f"slots AS (SELECT *, {start} AS __start FROM numbered)",
        f"steps AS (SELECT *, {ends} AS __end FROM slots)",
    ]
    return between, "SELECT * FROM steps WHERE __end > __time"


class _Windowed(AlgoOperator):
    """Gives the features of the first definition; side outputs have those of each."""

    def _link(self) -> Table:
        name, params, table = self._name, self._all(), self._inputs[0]._table()
        refuse_unbounded(name, table._node)
        features = read_definitions(name, params["featureDefinitions"], WINDOWS)
        tables = [_window(name, params, table, feature) for feature in features]
        self._side_outputs = tables
        return tables[0]


class WindowedBatch(_Windowed, BatchOperator):
    """Features of windows of a batch."""


class WindowedStream(_Windowed, StreamOperator):
    """Features of windows of a stream."""


def declare() -> None:
    """Declare the operators of this module."""
    operator("GenerateFeatureOfLatestBatchOp", latest)
    operator("GenerateFeatureOfLatestStreamOp", latest)
    doc = (
        "Compute features of windows of time: ``featureDefinitions`` has them as JSON. The rows "
        "are of the first definition's windows, those of each are a side output. TumbleWindow, "
        "HopWindow and SessionWindow are as those of TumbleTimeWindow and its kin; SlotWindow "
        "gives, of each slot of windowTimes, windows that begin with it and end a step later each."
    )
    build("GenerateFeatureOfWindowBatchOp", WindowedBatch, doc)
    build("GenerateFeatureOfWindowStreamOp", WindowedStream, doc)
