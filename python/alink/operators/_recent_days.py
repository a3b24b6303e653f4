"""Features of the latest days before a date, and their lookup."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from alink._algorithms._types import format_schema, is_number, type_name
from alink._diag import quote
from alink._options import bad_option, find_column
from alink._table import Table
from alink._window import refuse_unbounded
from alink.operators._base import BatchOperator, read_schema
from alink.operators._brackets import pieces
from alink.operators._define import build
from alink.operators._dialect import quoted, translate
from alink.operators._feature_definitions import Feature, read_definitions
from alink.operators._indexers import outputs_of
from alink.operators._sql_functions import run_sql
from alink.operators._training import Columns, PredictBatch, Trained, TrainedModel

Params = Mapping[str, Any]

#: The column of the group where all rows are one.
EVERYTHING = "__alink_group_col"

_DAYS = re.compile(r"([1-9]\d{0,8})([dwmy])\Z", re.IGNORECASE)
_UNITS = {"d": "day", "w": "week", "m": "month", "y": "year"}
_DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}\Z")
_WORDS = re.compile(r"'(?:[^']|'')*'|\"((?:[^\"]|\"\")*)\"|(\w+)")
_PLAIN = {"SUM": "sum", "MEAN": "avg", "MIN": "min", "MAX": "max"}
_COUNTS = ("TOTAL_COUNT", "COUNT", "DISTINCT_COUNT", "CATES_CNT")


@dataclass
class _Group:
    """What is computed of the groups of some columns: SQL by names of columns."""

    keys: tuple[str, ...]
    columns: dict[str, str]


class _Days:
    """Reads the definitions for the rows of a table."""

    def __init__(self, name: str, schema: pa.Schema) -> None:
        self._name = name
        self._schema = schema

    def _bad(self, message: str, hint: str = "") -> Exception:
        return bad_option(self._name, f"{self._name}: {message}", hint)

    def groups(self, features: Sequence[Feature]) -> list[_Group]:
        """Give the groups, in the order of their columns' names."""
        found: dict[tuple[str, ...], _Group] = {}
        for feature in features:
            group = found.setdefault(feature.groups, _Group(feature.groups, {}))
            for column, sql in self._columns(feature):
                if any(column.lower() == c.lower() for g in found.values() for c in g.columns):
                    raise self._bad(f"two features are called {quote(column)}")
                group.columns[column] = sql
        return sorted(found.values(), key=lambda group: "|".join(group.keys))

    def _columns(self, feature: Feature) -> list[tuple[str, str]]:
        """Write the columns of a definition."""
        conditions = self._conditions(feature)
        columns = [column for (column,) in feature.columns]
        # As Alink, numbers have the count of rows first.
        types = sorted(
            feature.statistics, key=lambda s: feature.data == "n" and s.kind != "TOTAL_COUNT"
        )
        made: list[tuple[str, str]] = []
        for statistic in types:
            kind = statistic.kind
            items = columns[:1] if kind == "TOTAL_COUNT" else columns
            if kind == "CATES_CNT":
                items = self._items(feature)
            for condition, suffix in conditions:
                for item in items:
                    column = find_column(
                        self._name, self._schema, columns[0] if kind == "CATES_CNT" else item
                    )
                    for length in feature.lengths:
                        parts = [statistic.name, *([] if kind == "TOTAL_COUNT" else [item])]
                        parts += [length, *suffix]
                        parts += ["_".join(feature.groups)] if feature.groups else []
                        where = f"FILTER ({' AND '.join([self._within(length), *condition])})"
                        made.append(("__".join(parts), self._write(kind, column, item, where)))
        return made

    def _within(self, length: str) -> str:
        match = _DAYS.match(length)
        if match is None:
            raise self._bad(
                f"{length!r:.40} in nDays is no number of days",
                "write 7d, 2w, 1m or 1y: days, weeks, months or years",
            )
        return f"__{_UNITS[match[2].lower()]}s < {match[1]}"

    def _items(self, feature: Feature) -> list[str]:
        items = feature.settings.get("featureItems")
        if not isinstance(items, list) or not items or len(feature.columns) != 1:
            raise self._bad(
                "CATES_CNT counts the values that 'featureItems' names, of one column",
                'write "featureItems": ["a", "b"] and one column in featureCols',
            )
        return [str(item) for item in items]

    def _conditions(self, feature: Feature) -> list[tuple[list[str], list[str]]]:
        """Give conditions, with what names of columns have of them."""
        given = feature.settings.get("conditions")
        if given is None:
            return [([], [])]
        column = feature.settings.get("conditionCol")
        if not isinstance(column, str) or not isinstance(given, list):
            raise self._bad(
                "'conditions' are lists of texts, of the column that conditionCol names"
            )
        found: list[tuple[list[str], list[str]]] = []
        for texts in given:
            if not texts:
                found.append(([], []))
                continue
            if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
                raise self._bad(f"{texts!r:.60} in 'conditions' is no list of texts")
            value = quoted(find_column(self._name, self._schema, column))
            listed = ", ".join(_text(text) for text in texts)
            found.append(([f"{value}::VARCHAR IN ({listed})"], [column, "_".join(texts)]))
        return found

    def _write(self, kind: str, column: str, item: str, where: str) -> str:
        arrow = self._schema.field(column).type
        value = quoted(column)
        known = f"CASE WHEN NOT isnan({value}) THEN {value} END"
        value = known if pa.types.is_floating(arrow) else value
        if kind == "TOTAL_COUNT":
            return f"count(*) {where}"
        if kind == "COUNT":
            return f"count({value}) {where}"
        if kind == "DISTINCT_COUNT":
            return f"count(DISTINCT {value}) {where}"
        if kind == "CATES_CNT":
            counted = f"CASE WHEN {value}::VARCHAR = {_text(item)} THEN 1 END"
            return f"count({counted}) {where}"
        if kind == "KV_CNT":
            pairs = (
                "[p.key || ':' || p.value FOR p IN "
                f"list_sort(map_entries(histogram({value}::VARCHAR) {where}))]"
            )
            return f"coalesce(array_to_string({pairs}, ','), '')"
        if not is_number(arrow):
            raise self._bad(
                f"column {quote(column)} is {type_name(arrow)}, and {kind} is of numbers",
                "make numbers of it before: .select('*, cast(c as double) as d')",
            )
        if kind in ("SUM", "MEAN"):
            value = f"({value})::DOUBLE"
        return f"{_PLAIN[kind]}({value}) {where}"


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


class GenerateFeatureOfLatestNDays(BatchOperator):
    """Computes features of the days before a date, for each group."""

    def _link(self) -> Table:
        name, params, table = self._name, self._all(), self._inputs[0]._table()
        refuse_unbounded(name, table._node)
        schema = table.schema
        features = read_definitions(name, params["featureDefinitions"], {"NDays": ""})
        groups = _Days(name, schema).groups(features)
        extensions = _extensions(name, params["extendFeatures"], groups)
        base = _base_date(name, params["baseDate"])
        past = _past(name, schema, params["timeCol"], base)
        outputs: list[Table] = []
        for group, extended in zip(groups, extensions, strict=True):
            keys = [_key(name, schema, key) for key in group.keys] or [quoted(EVERYTHING)]
            named = ", ".join(f"{sql} AS {quoted(c)}" for c, sql in group.columns.items())
            inner = f"SELECT {', '.join(keys)}, {named} FROM past GROUP BY {', '.join(keys)}"
            shown = ", ".join(["*", *extended])
            query = f"{past} SELECT {shown} FROM ({inner}) ORDER BY {', '.join(keys)}"
            outputs.append(run_sql(table._context, query, {"a": table}, translated=True))
        widths = [len(group.keys) or 1 for group in groups]
        fields = [f for o, w in zip(outputs, widths, strict=True) for f in list(o.schema)[w:]]
        self._features = pa.schema(fields)
        self._side_outputs = outputs
        return _model(outputs, [g.keys or (EVERYTHING,) for g in groups], self._features)

    def getOutFeatureSchemaStr(self) -> str:
        """Give the features as a schema string, for LookupRecentDays' ``featureSchemaStr``."""
        self._table()
        return format_schema(self._features)


def _key(name: str, schema: pa.Schema, key: str) -> str:
    column = find_column(name, schema, key)
    kind = schema.field(column).type
    if not (is_number(kind) or pa.types.is_string(kind) or pa.types.is_boolean(kind)):
        raise bad_option(
            name,
            f"{name}: groups cannot be of column {quote(column)}, {type_name(kind)}",
            "make texts of it before: .select('*, cast(c as varchar) as d')",
        )
    return quoted(column)


def _base_date(name: str, text: str) -> str:
    try:
        if not _DATE.match(text.strip()):
            raise ValueError
        year, month, day = map(int, text.strip().split("-"))
        return f"TIMESTAMP '{datetime.date(year, month, day)}'"
    except ValueError:
        raise bad_option(
            name, f"{name}: 'baseDate' cannot be {text!r:.40}", "it is a date: 2024-01-31"
        ) from None


def _past(name: str, schema: pa.Schema, given: str, base: str) -> str:
    """Write the query of the rows up to the date, with the time that has passed since then."""
    column = find_column(name, schema, given)
    kind = schema.field(column).type
    if not pa.types.is_timestamp(kind):
        raise bad_option(
            name,
            f"{name}: timeCol {quote(column)} is {type_name(kind)}, not TIMESTAMP",
            "make times of it before: .select('*, to_timestamp(millis) as ts')",
        )
    time = f"make_timestamp(epoch_us({quoted(column)}))"
    passed = "".join(f", date_sub('{u}', {time}, {base}) AS __{u}s" for u in _UNITS.values())
    return (
        f"WITH past AS (SELECT *{passed}, 1::INTEGER AS {quoted(EVERYTHING)} FROM a "
        f"WHERE {time} <= {base})"
    )


def _extensions(name: str, text: str | None, groups: Sequence[_Group]) -> list[list[str]]:
    """Give each group the expressions that are of its columns."""
    found: list[list[str]] = [[] for _ in groups]
    if not (text or "").strip():
        return found
    for piece in pieces(translate(text or ""), name):
        words = {
            (match[1] or match[2] or "").replace('""', '"').lower()
            for match in _WORDS.finditer(piece)
        }
        for place, group in enumerate(groups):
            if words & {column.lower() for column in group.columns}:
                found[place].append(piece.strip())
                break
        else:
            known = ", ".join(column for group in groups for column in group.columns)
            raise bad_option(
                name,
                f"{name}: {piece.strip():.60} in extendFeatures names no feature",
                f"there are {known:.300}",
            )
    return found


def _model(outputs: Sequence[Table], keys: Sequence[Sequence[str]], features: pa.Schema) -> Table:
    """Make the model: a row for each group, texts of JSON, and one that says what they are."""
    parts: list[str] = []
    for i, (output, of) in enumerate(zip(outputs, keys, strict=True)):
        names = [quoted(column) for column in output.columns]
        group, values = ", ".join(names[: len(of)]), ", ".join(names[len(of) :])
        parts.append(
            f"SELECT {i + 1}::INTEGER AS group_id, json_array({group})::VARCHAR AS group_value, "
            f"json_array({values})::VARCHAR AS stat_value FROM g{i}"
        )
    widths = [len(o.columns) - len(of) for o, of in zip(outputs, keys, strict=True)]
    meta = {
        "featureSchemaStr": format_schema(features),
        "numGroups": len(outputs),
        "groupColsArray": [list(of) for of in keys],
        "valueLens": widths,
    }
    text = json.dumps({k: json.dumps(v) for k, v in meta.items()}, ensure_ascii=False)
    parts.append(f"SELECT 0::INTEGER, {_text(text)}, ''")
    return outputs[0]._context.sql(
        " UNION ALL ".join(parts), tables={f"g{i}": output for i, output in enumerate(outputs)}
    )


class _Lookup(Trained):
    """Tells workers the columns that features come from, and those that they become."""

    def apply(self, name: str, params: Params, model: Table, rows: Table) -> Table:
        if params["featureSchemaStr"] is None:
            raise bad_option(
                name,
                f"{name} needs the parameter 'featureSchemaStr'",
                "getOutFeatureSchemaStr() of GenerateFeatureOfLatestNDaysBatchOp gives it",
            )
        if params["modelStreamUpdateMethod"].upper() not in ("COMPLETE", "INCREMENT"):
            raise bad_option(name, f"{name}: modelStreamUpdateMethod is COMPLETE or INCREMENT")
        features = read_schema(name, params["featureSchemaStr"])
        names = outputs_of(name, params, features.names)
        kinds = [type_name(kind) for kind in features.types]
        given = {**params, "features": [*zip(names, kinds, strict=True)]}
        return super().apply(name, given, model, rows)


def _looked_up(params: Params, _rows: pa.Schema, _model: pa.Schema) -> Columns:
    features = read_schema("", params["featureSchemaStr"])
    return [
        (column, kind) for (column, _), kind in zip(params["features"], features.types, strict=True)
    ]


def declare() -> None:
    """Declare the operators of this module."""
    build(
        "GenerateFeatureOfLatestNDaysBatchOp",
        GenerateFeatureOfLatestNDays,
        "Compute features of the days, weeks, months and years before ``baseDate``, for each "
        "group: ``featureDefinitions`` has them as JSON. The rows are a model for "
        "LookupRecentDays; side outputs have the features of the groups of each choice of "
        "columns. ``extendFeatures`` computes further ones of them.",
    )
    lookup = _Lookup(
        "LookupRecentDays",
        "",
        "_recent_days.RecentDays",
        _looked_up,
        [],
        applied=["selectedCols", "reservedCols"],
        doc="Give the features of each row's groups, which GenerateFeatureOfLatestNDays has "
        "computed, NULL for a group that it has not. ``featureSchemaStr`` names their columns.",
    )
    build("LookupRecentDaysBatchOp", PredictBatch, lookup.doc, _trained=lookup)
    build("LookupRecentDaysModel", TrainedModel, lookup.doc, _trained=lookup)
