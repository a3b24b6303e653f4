"""What people type who come from other libraries, and what it is called here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from alink._diag import no_attribute, suggest

TABLE = {
    "aggregate": "agg",
    "apply": "map_batches, or with_columns with a function",
    "assign": "with_columns",
    "clone": "the table itself: it never changes",
    "concat": "union",
    "copy": "the table itself: it never changes",
    "createOrReplaceTempView": 'ctx.register("name", t)',
    "crossJoin": 'join(other, how="cross")',
    "drop_duplicates": "distinct",
    "drop_nulls": 'filter("x IS NOT NULL")',
    "dropDuplicates": "distinct",
    "dropna": 'filter("x IS NOT NULL")',
    "dtypes": "schema",
    "execute": "collect",
    "execute_and_collect": "collect",
    "explode": "unnest",
    "fetch": "head",
    "fetchall": "collect",
    "fill_null": 'with_columns(x="coalesce(x, 0)")',
    "fillna": 'with_columns(x="coalesce(x, 0)")',
    "first": "head(1)",
    "flatMap": "flat_map",
    "foreach": "iter_batches",
    "groupBy": "group_by",
    "groupby": "group_by",
    "join_where": 'join(other, how="cross").filter(…)',
    "lazy": "the table itself: it is lazy",
    "map": "with_columns with a function",
    "map_elements": "with_columns with a function",
    "mapInArrow": "map_batches",
    "mapInPandas": "map_batches",
    "merge": "join",
    "order": "order_by",
    "orderBy": "order_by",
    "persist": "cache",
    "pivot": "ctx.sql",
    "print": "show",
    "printSchema": "schema",
    "project": "select",
    "query": "filter, or ctx.sql",
    "selectExpr": "select",
    "shape": "count() and columns",
    "sort": "order_by",
    "sort_values": "order_by",
    "tail": "order_by(…).head",
    "take": "limit",
    "toArrow": "to_arrow",
    "toPandas": "to_pandas",
    "to_csv": "write_csv",
    "to_df": "to_pandas",
    "to_dict": "collect",
    "to_dicts": "collect",
    "to_json": "write_json",
    "to_parquet": "write_parquet",
    "unionAll": "union",
    "unionByName": "union(other, by_name=True)",
    "unique": "distinct",
    "where": "filter",
    "withColumn": "with_columns",
    "withColumnRenamed": "rename",
    "withColumns": "with_columns",
    "with_column": "with_columns",
    "write_ndjson": "write_json",
}

_AGGREGATES = {
    "avg": "avg",
    "first": "first",
    "last": "last",
    "max": "max",
    "mean": "avg",
    "median": "median",
    "min": "min",
    "std": "stddev_samp",
    "sum": "sum",
    "var": "var_samp",
}
GROUPS = {name: f'agg(x="{function}(x)")' for name, function in _AGGREGATES.items()}
GROUPS |= {
    "aggregate": "agg",
    "apply": "map_groups",
    "applyInArrow": "map_groups",
    "applyInPandas": "map_groups",
    "len": "count",
    "size": "count",
}

EXPR = {name: f'SQL text: "{function}(x)"' for name, function in _AGGREGATES.items()}
EXPR |= {
    "abs": 'SQL text: "abs(x)"',
    "apply": 'a function made with @al.udf: f("x")',
    "astype": "cast",
    "ceil": 'SQL text: "ceil(x)"',
    "contains": """SQL text: "x LIKE '%a%'\"""",
    "count": 'SQL text: "count(x)"',
    "dt": "SQL text: \"date_part('year', x)\"",
    "eq": "==",
    "fill_null": 'SQL text: "coalesce(x, 0)"',
    "fillna": 'SQL text: "coalesce(x, 0)"',
    "floor": 'SQL text: "floor(x)"',
    "isNotNull": "is_not_null",
    "isNull": "is_null",
    "is_between": "between",
    "is_not_nan": 'SQL text: "NOT isnan(x)"',
    "isin": "is_in",
    "isna": "is_null",
    "isnull": "is_null",
    "like": """SQL text: "x LIKE 'a%'\"""",
    "map_elements": 'a function made with @al.udf: f("x")',
    "n_unique": 'SQL text: "count(DISTINCT x)"',
    "name": "alias",
    "notna": "is_not_null",
    "notnull": "is_not_null",
    "otherwise": 'SQL text: "CASE WHEN x > 0 THEN 1 ELSE 0 END"',
    "over": 'SQL text: "sum(x) OVER (PARTITION BY y)"',
    "round": 'SQL text: "round(x, 2)"',
    "shift": 'SQL text: "lag(x) OVER (ORDER BY y)"',
    "startswith": """SQL text: "x LIKE 'a%'\"""",
    "str": 'SQL text: "upper(x)"',
    "substr": 'SQL text: "substr(x, 1, 3)"',
}


def refuse_attribute(
    owner: object, name: str, foreign: Mapping[str, str], columns: list[str] | None = None
) -> NoReturn:
    """Raise the AttributeError of a name that an object does not have.

    Parameters
    ----------
    foreign
        What names of other libraries are called here.
    columns
        The columns of a table, where they are known without asking.
    """
    kind = type(owner).__name__
    message = f"{kind!r} object has no attribute {name!r}"
    if not name.startswith("_"):
        known = [n for n in dir(type(owner)) if not n.startswith("_")]
        if columns and name in columns:
            message += f"; a column is al.col({name!r}), in select or with_columns"
        elif name in foreign:
            message += f"; here it is {foreign[name]}"
        elif near := suggest(name, known):
            message += f"; did you mean {' or '.join(near)}?"
    raise no_attribute(name, message)
