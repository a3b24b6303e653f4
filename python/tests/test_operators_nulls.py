"""What operators that train nothing do with NULL, with no rows and with columns that are not there.

Each has a case here, and one that is built later needs one. ``test_estimators.py`` has the
operators that train, and those that apply what was trained.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import pytest

import alink as al
from alink import _codes as codes
from alink.operators import StreamOperator
from alink.operators._define import BUILT
from alink.operators._stages import Transformer
from pyalink import alink as pyalink

Row = tuple[Any, ...]

#: A row of values, one of NULLs, and one that has both.
ROWS: list[Row] = [
    (
        1, 1.5, 2, "a", True, "1.0 2.0", "$3$1:3.0", "1.5,a", '{"x":1.5,"s":"a"}',
        "x:1.5,s:a", "0:1.5,1:2.0", "DOUBLE#2#1.0 2.0 ",
        '{"data":{"x":[1.5,null]},"schema":"x DOUBLE"}', 1.0, '{"a":"0.75","b":"0.25"}',
    ),
    (2, *[None] * 14),
    (
        3, None, -4, "é", False, "3.0 -4.0", "$3$0:1.0", ",é", '{"x":null,"s":"é"}',
        "s:é", "1:-4.0", "DOUBLE#2#3.0 -4.0 ",
        '{"data":{"x":[]},"schema":"x DOUBLE"}', 2.0, '{"a":"0.5","b":"0.5"}',
    ),
]  # fmt: skip
SCHEMA: str = (
    "id bigint, x double, n bigint, s string, t boolean, dense string, sparse string, csv string, "
    "json string, kv string, ivs string, tensor string, mtable string, w double, detail string"
)


def frame_of(schema: str, rows: Sequence[Row]) -> pd.DataFrame:
    names = [part.split()[0] for part in schema.split(",")]
    return pd.DataFrame(rows, columns=names, dtype=object)


@dataclass(frozen=True)
class Case:
    """An operator's parameters, and what it gives of the rows above, or of others.

    Attributes
    ----------
    given : dict
    wanted : list of tuple
        The rows that come out, in any order.
    schema, rows
        Of the input, if it is not the rows above.
    more : sequence of (schema, rows)
        Other inputs, which come first where ``model`` says so.
    empty : list of tuple
        What comes of no rows; by default nothing.
    """

    given: dict[str, Any]
    wanted: list[Row]
    schema: str = SCHEMA
    rows: Sequence[Row] = field(default_factory=lambda: ROWS)
    more: Sequence[tuple[str, Sequence[Row]]] = ()
    model: bool = False
    empty: Sequence[Row] = ()


def kept(**given: Any) -> dict[str, Any]:
    return {"reservedCols": ["id"], **given}


def out(**given: Any) -> dict[str, Any]:
    return {"outputCol": "o", **kept(**given)}


def some(columns: str) -> tuple[str, list[Row]]:
    """Give some columns of the rows."""
    wanted = columns.split()
    fields = [f for f in SCHEMA.split(", ") if f.split()[0] in wanted]
    places = [SCHEMA.split(", ").index(f) for f in fields]
    return ", ".join(fields), [tuple(row[i] for i in places) for row in ROWS]


def alone(columns: str, wanted: list[Row] | None = None, **given: Any) -> Case:
    """Give the case of an operator that keeps all columns, on some of them."""
    schema, rows = some(columns)
    return Case(given, rows if wanted is None else wanted, schema, rows)


X_S = {"schemaStr": "x double, s string"}
P_Q = {"schemaStr": "p double, q double"}
C_V = {"tripleColumnValueSchemaStr": "c string, v string"}
CSV = {"csvCol": "csv", **X_S}
COLUMNS = {"selectedCols": ["x", "n"]}
TRIPLES = [
    (1, "x", "1.5"), (1, None, "2"), (2, "x", None), (None, "x", "3.5"), (3, "s", "é"),
    (None, "s", "b"),
]  # fmt: skip


def triples(wanted: list[Row], **given: Any) -> Case:
    names = {"tripleRowCol": "r", "tripleColumnCol": "c", "tripleValueCol": "v"}
    return Case({**names, **given}, wanted, "r bigint, c string, v string", TRIPLES)


OF_S: list[Row] = [(1, "x", "1.5"), (1, "s", "a"), (3, "s", "é")]
OF_DENSE: list[Row] = [(1, "0", "1.0"), (1, "1", "2.0"), (3, "0", "3.0"), (3, "1", "-4.0")]
X_S_ROWS: list[Row] = [(1, 1.5, "a"), (2, None, None), (3, None, "é")]

# The row of NULLs gives NULL, or the text of nothing where it is a row that holds nothing.
FORMATS = {
    "ColumnsToCsv": Case(
        kept(csvCol="o", **COLUMNS, schemaStr="x double, n bigint"),
        [(1, "1.5,2"), (2, ","), (3, ",-4")],
    ),
    "ColumnsToJson": Case(
        kept(jsonCol="o", **COLUMNS), [(1, '{"x":"1.5","n":"2"}'), (2, "{}"), (3, '{"n":"-4"}')]
    ),
    "ColumnsToKv": Case(kept(kvCol="o", **COLUMNS), [(1, "x:1.5,n:2"), (2, ""), (3, "n:-4")]),
    "ColumnsToVector": Case(
        kept(vectorCol="o", **COLUMNS), [(1, "1.5 2.0"), (2, ""), (3, "1:-4.0")]
    ),
    "ColumnsToTriple": Case(
        kept(**COLUMNS, **C_V), [(1, "x", "1.5"), (1, "n", "2"), (3, "n", "-4")]
    ),
    "CsvToColumns": Case(kept(**CSV), X_S_ROWS),
    "CsvToJson": Case(
        kept(jsonCol="o", **CSV), [(1, '{"x":"1.5","s":"a"}'), (2, None), (3, '{"s":"é"}')]
    ),
    "CsvToKv": Case(kept(kvCol="o", **CSV), [(1, "x:1.5,s:a"), (2, None), (3, "s:é")]),
    "CsvToTriple": Case(kept(**CSV, **C_V), OF_S),
    "CsvToVector": Case(
        kept(vectorCol="o", csvCol="c", schemaStr="a double, b double"),
        [(1, "1.5 2.0"), (2, None), (3, "1:-4.0")],
        "id bigint, c string",
        [(1, "1.5,2"), (2, None), (3, ",-4")],
    ),
    "JsonToColumns": Case(kept(jsonCol="json", **X_S), X_S_ROWS),
    "JsonToCsv": Case(
        kept(jsonCol="json", csvCol="o", **X_S), [(1, "1.5,a"), (2, None), (3, ",é")]
    ),
    "JsonToKv": Case(kept(jsonCol="json", kvCol="o"), [(1, "x:1.5,s:a"), (2, None), (3, "s:é")]),
    "JsonToTriple": Case(kept(jsonCol="json", **C_V), OF_S),
    "JsonToVector": Case(
        kept(jsonCol="j", vectorCol="o"),
        [(1, "1.5 2.0"), (2, None), (3, "1:-4.0"), (4, "7:1.0")],
        "id bigint, j string",
        [(1, '{"a":1.5,"b":"2"}'), (2, None), (3, '{"a":null,"b":-4}'), (4, '{"7":1}')],
    ),
    "KvToColumns": Case(kept(kvCol="kv", **X_S), X_S_ROWS),
    "KvToCsv": Case(kept(kvCol="kv", csvCol="o", **X_S), [(1, "1.5,a"), (2, None), (3, ",é")]),
    "KvToJson": Case(
        kept(kvCol="kv", jsonCol="o"), [(1, '{"x":"1.5","s":"a"}'), (2, None), (3, '{"s":"é"}')]
    ),
    "KvToTriple": Case(kept(kvCol="kv", **C_V), OF_S),
    "KvToVector": Case(
        kept(kvCol="ivs", vectorCol="o"), [(1, "0:1.5 1:2.0"), (2, None), (3, "1:-4.0")]
    ),
    "VectorToColumns": Case(
        kept(vectorCol="dense", **P_Q), [(1, 1.0, 2.0), (2, None, None), (3, 3.0, -4.0)]
    ),
    "VectorToCsv": Case(
        kept(vectorCol="dense", csvCol="o", **P_Q), [(1, "1.0,2.0"), (2, None), (3, "3.0,-4.0")]
    ),
    "VectorToJson": Case(
        kept(vectorCol="dense", jsonCol="o"),
        [(1, '{"0":"1.0","1":"2.0"}'), (2, None), (3, '{"0":"3.0","1":"-4.0"}')],
    ),
    "VectorToKv": Case(
        kept(vectorCol="dense", kvCol="o"), [(1, "0:1.0,1:2.0"), (2, None), (3, "0:3.0,1:-4.0")]
    ),
    "VectorToTriple": Case(kept(vectorCol="dense", **C_V), OF_DENSE),
    "TripleToColumns": triples(
        [(1, 1.5, None), (2, None, None), (3, None, "é"), (None, 3.5, "b")], **X_S
    ),
    "TripleToCsv": triples([(1, "1.5,"), (2, ","), (3, ",é"), (None, "3.5,b")], csvCol="o", **X_S),
    "TripleToJson": triples(
        [(1, '{"x":"1.5"}'), (2, "{}"), (3, '{"s":"é"}'), (None, '{"x":"3.5","s":"b"}')],
        jsonCol="o",
    ),
    "TripleToKv": triples([(1, "x:1.5"), (2, ""), (3, "s:é"), (None, "x:3.5,s:b")], kvCol="o"),
    "TripleToVector": Case(
        {"tripleRowCol": "r", "tripleColumnCol": "c", "tripleValueCol": "v", "vectorCol": "o"},
        [(1, "0:1.5"), (2, ""), (None, "1:3.5")],
        "r bigint, c bigint, v double",
        [(1, 0, 1.5), (1, None, 2.0), (2, 0, None), (None, 1, 3.5)],
    ),
}

# A vector or tensor that is NULL gives NULL.
VECTORS = {
    "VectorAssembler": Case(
        out(selectedCols=["x", "n", "dense"], handleInvalidMethod="SKIP"),
        [(1, "1.5 2.0 1.0 2.0"), (2, None), (3, None)],
    ),
    "VectorBiFunction": Case(
        out(selectedCols=["dense", "dense"], biFuncName="plus"),
        [(1, "2.0 4.0"), (2, None), (3, "6.0 -8.0")],
    ),
    "VectorElementwiseProduct": Case(
        out(selectedCol="sparse", scalingVector="1 2 3"),
        [(1, "$3$1:6.0"), (2, None), (3, "$3$0:1.0")],
    ),
    "VectorFunction": Case(
        out(selectedCol="dense", funcName="max"), [(1, "2.0"), (2, None), (3, "3.0")]
    ),
    "VectorInteraction": Case(
        out(selectedCols=["dense", "sparse"]),
        [(1, "$6$2:3.0 3:6.0"), (2, None), (3, "$6$0:3.0 1:-4.0")],
    ),
    "VectorNormalize": Case(
        out(selectedCol="dense", p=1.0),
        [
            (1, "0.3333333333333333 0.6666666666666666"),
            (2, None),
            (3, "0.42857142857142855 -0.5714285714285714"),
        ],
    ),
    "VectorPolynomialExpand": Case(
        out(selectedCol="dense"),
        [(1, "1.0 1.0 2.0 2.0 4.0"), (2, None), (3, "3.0 9.0 -4.0 -12.0 16.0")],
    ),
    "VectorSizeHint": Case(
        out(selectedCol="dense", size=2, handleInvalidMethod="SKIP"),
        [(1, "1.0 2.0"), (2, None), (3, "3.0 -4.0")],
    ),
    "VectorSlice": Case(
        out(selectedCol="dense", indices=[1]), [(1, "2.0"), (2, None), (3, "-4.0")]
    ),
    "VectorToTensor": Case(
        out(selectedCol="dense"),
        [(1, "DoubleTensor(2)\n[1.0 2.0]"), (2, None), (3, "DoubleTensor(2)\n[3.0 -4.0]")],
    ),
    "TensorToVector": Case(out(selectedCol="tensor"), [(1, "1.0 2.0"), (2, None), (3, "3.0 -4.0")]),
    "TensorReshape": Case(
        out(selectedCol="tensor", size=[1, 2]),
        [(1, "DoubleTensor(1,2)\n[[1.0 2.0]]"), (2, None), (3, "DoubleTensor(1,2)\n[[3.0 -4.0]]")],
    ),
    "ToTensor": Case(
        out(selectedCol="tensor"),
        [(1, "DoubleTensor(2)\n[1.0 2.0]"), (2, None), (3, "DoubleTensor(2)\n[3.0 -4.0]")],
    ),
    "ToVector": Case(out(selectedCol="dense"), [(1, "1.0 2.0"), (2, None), (3, "3.0 -4.0")]),
    "ToMTable": Case(out(selectedCol="mtable"), [(i, ROWS[i - 1][12]) for i in (1, 2, 3)]),
    "FlattenMTable": Case(
        kept(selectedCol="mtable", schemaStr="x double"), [(1, 1.5), (1, None), (2, None)]
    ),
}

LOOKUP = ("k string, v double", [("a", 10.0), ("é", None), (None, 30.0)])
LOOKED_UP = [(1, 10.0), (2, None), (3, None)]
OTHER = ("s string, m bigint", [("a", 1), (None, 2), ("é", None)])
S_T = some("s t")


def joined(wanted: list[Row], empty: Sequence[Row] = ()) -> Case:
    """NULL is equal to nothing, as in SQL."""
    given = {"joinPredicate": "a.s = b.s", "selectClause": "a.id AS id, b.m AS m"}
    return Case(given, wanted, more=[OTHER], empty=empty)


def with_itself(wanted: list[Row], empty: Sequence[Row] = ()) -> Case:
    """NULLs are alike where rows are compared, as in SQL."""
    return Case({}, wanted, *S_T, more=[S_T], empty=empty)


ROWS_ALONE = {
    "AggLookup": Case(
        kept(clause="SUM(s) as o"),
        [(1, "0.5 1.5"), (2, None), (3, None)],
        more=[("k string, v string", [("a", "0.5 1.5"), ("é", None), (None, "9 9")])],
        model=True,
    ),
    "Lookup": Case(
        kept(selectedCols=["s"], mapKeyCols=["k"], mapValueCols=["v"], outputCols=["o"]),
        LOOKED_UP,
        more=[LOOKUP],
        model=True,
    ),
    "HugeLookup": Case(
        kept(selectedCols=["s"], mapKeyCols=["k"], mapValueCols=["v"], outputCols=["o"]),
        LOOKED_UP,
        more=[LOOKUP],
        model=True,
    ),
    "JsonValue": Case(
        kept(selectedCol="json", jsonPath=["$.x", "$.s"], outputCols=["o", "p"], skipFailed=True),
        [(1, "1.5", "a"), (2, None, None), (3, None, "é")],
    ),
    "TypeConvert": alone(
        "id x n",
        [(1, "1.5", "2"), (2, None, None), (3, None, "-4")],
        selectedCols=["x", "n"],
        targetType="STRING",
    ),
    "AppendId": alone("s", [("a", 0), (None, 1), ("é", 2)]),
    "FirstN": alone("id s", [(1, "a"), (2, None)], size=2),
    "Rebalance": alone("id s"),
    "Shuffle": alone("id s"),
    "Sample": alone("id s", ratio=1.0),
    "SampleWithSize": alone("id s", size=3),
    "Split": alone("id s", fraction=1.0),
    "StratifiedSample": alone("id s", strataCol="s", strataRatio=1.0, strataRatios="a:1.0"),
    "StratifiedSampleWithSize": alone("id s", strataCol="s", strataSize=1, strataSizes="a:1"),
    # A row without a weight is never drawn.
    "WeightSample": alone("id w", [(1, 1.0), (3, 2.0)], weightCol="w", ratio=1.0),
    "Print": alone("id s"),
    "Binarizer": Case(out(selectedCol="x", threshold=1.0), [(1, 1.0), (2, None), (3, None)]),
    "Bucketizer": Case(
        kept(selectedCols=["x"], cutsArray=[[0.0]], outputCols=["o"]), [(1, 1), (2, 2), (3, 2)]
    ),
    "DCT": Case(
        out(selectedCol="ivs", inverse=True),
        [(1, "0.0 0.0"), (2, None), (3, "0.0")],
        "id bigint, ivs string",
        [(1, "0.0 0.0"), (2, None), (3, "0.0")],
    ),
    # What is missing adds nothing.
    "FeatureHasher": Case(
        out(selectedCols=["x", "s", "t"], numFeatures=100),
        [(1, "$100$4:1.5 14:1.0 68:1.0"), (2, "$100$"), (3, "$100$28:1.0 53:1.0")],
    ),
    "HashCrossFeature": Case(
        out(selectedCols=["s", "n"], numFeatures=100),
        [(1, "$100$39:1.0"), (2, "$100$"), (3, "$100$18:1.0")],
    ),
    "OverWindow": Case(
        kept(
            orderBy="id",
            clause="count_preceding(x) as c, lag(s, 1) as l, lag_including_null(s, 1) as m",
        ),
        [(1, 0, None, None), (2, 1, "a", "a"), (3, 1, "a", None)],
    ),
    "Join": joined([(1, 1), (3, None)]),
    "LeftOuterJoin": joined([(1, 1), (2, None), (3, None)]),
    "RightOuterJoin": joined([(1, 1), (3, None), (None, 2)], [(None, 1), (None, 2), (None, None)]),
    "FullOuterJoin": joined(
        [(1, 1), (2, None), (3, None), (None, 2)], [(None, 1), (None, 2), (None, None)]
    ),
    "UnionAll": with_itself([*S_T[1], *S_T[1]], S_T[1]),
    "Union": with_itself(S_T[1], S_T[1]),
    "Intersect": with_itself(S_T[1]),
    "IntersectAll": with_itself(S_T[1]),
    "Minus": with_itself([]),
    "MinusAll": with_itself([]),
    "Distinct": Case({}, S_T[1], S_T[0], [*S_T[1], *S_T[1]]),
    "GroupBy": Case(
        {"groupByPredicate": "s", "selectClause": "s, sum(x) AS o, count(x) AS c, count(*) AS r"},
        [("a", 1.5, 1, 1), (None, None, 0, 1), ("é", None, 0, 1)],
    ),
    # NULL comes last, and counts as a value of the limit.
    "OrderBy": alone("id x", [(1, 1.5), (2, None)], clause="x, id", limit=2),
    "Filter": alone("id x s", [(1, 1.5, "a"), (2, None, None)], clause="x > 0 OR s IS NULL"),
    "Where": alone("id x", [], clause="NOT (x > 0)"),
    "Select": alone("id x", [(1, 2.5), (2, None), (3, None)], clause="id, x + 1 AS o"),
    "As": alone("id x", clause="u, v"),
}

POINTS: tuple[str, list[Row]] = (
    "l string, y double, z double, c bigint, v string",
    [
        ("a", 1.0, 1.0, 0, "1 1"),
        ("b", 2.0, 1.5, 1, "2 2"),
        (None, 2.0, 3.0, 2, None),
        ("b", 4.0, None, None, "9 9"),
        ("b", 3.0, 3.0, 3, "2 1"),
    ],
)
GROUPS = {"groupCols": ["l"], "featureCols": ["y", "z"]}
PLACES = {"groupCols": ["l"], "latitudeCol": "y", "longitudeCol": "z", "epsilon": 100.0}


def points(wanted: list[Row], **given: Any) -> Case:
    return Case(given, wanted, *POINTS)


# A row that lacks a feature is in no cluster; NULL is a group.
CLUSTERED = {
    "Agnes": points(
        [(0, 0), (1, 0), (None, 1), (3, 0)], idCol="c", vectorCol="v", predictionCol="o"
    ),
    "Dbscan": points(
        [(0, "CORE", 0), (1, "CORE", 0), (2, None, None), (None, "CORE", 1), (3, "CORE", 0)],
        idCol="c",
        vectorCol="v",
        predictionCol="o",
        epsilon=2.0,
        minPoints=1,
    ),
    "GroupDbscan": points(
        [
            ("a", "0", "CORE", 0, 1.0, 1.0),
            ("b", "1", "CORE", 0, 2.0, 1.5),
            ("b", "3", "CORE", 0, 3.0, 3.0),
            ("b", None, None, None, 4.0, None),
            (None, "2", "CORE", 0, 2.0, 3.0),
        ],
        **GROUPS,
        idCol="c",
        epsilon=2.0,
        minPoints=1,
    ),
    "GroupDbscanModel": points(
        [("a", 0, 1, 1.0, 1.0), ("b", 0, 2, 2.5, 2.25), (None, 0, 1, 2.0, 3.0)],
        **GROUPS,
        epsilon=2.0,
        minPoints=1,
    ),
    "GroupEm": points(
        [
            ("a", "0", 0, 1.0, 1.0),
            ("b", "1", 1, 2.0, 1.5),
            ("b", "3", 0, 3.0, 3.0),
            ("b", None, None, 4.0, None),
            (None, "2", 0, 2.0, 3.0),
        ],
        **GROUPS,
        idCol="c",
    ),
    "GroupKMeans": points(
        [("a", 0, 0), ("b", 1, 1), ("b", 3, 0), ("b", None, None), (None, 2, 0)],
        **GROUPS,
        idCol="c",
        predictionCol="o",
    ),
    "GroupGeoDbscan": points(
        [("CORE", 0), ("CORE", 0), ("CORE", 1), ("CORE", 0), (None, None)],
        **PLACES,
        idCol="c",
        predictionCol="o",
        minPoints=1,
    ),
    "GroupGeoDbscanModel": points(
        [
            (0, 1, 1.0, 1.0, "a"),
            (0, 1, 2.0, 1.5, "b"),
            (1, 1, 3.0, 3.0, "b"),
            (0, 1, 2.0, 3.0, None),
        ],
        **PLACES,
        minPoints=1,
    ),
    "RankingList": points(
        [("a", 1.0, 1.0, 1), (None, 1.0, 3.0, 2), ("b", 3.0, 3.0, 3)],
        objectCol="l",
        addedCols=["z"],
        addedStatTypes=["max"],
    ),
}

JUDGED: tuple[str, list[Row]] = (
    "l string, p string, d string, y double, z double, c bigint, v string, e string, r string, "
    "q string",
    [
        (
            "a", "a", '{"a":"0.7","b":"0.3"}', 1.0, 1.0, 0, "1 1",
            '{"outlier_score":"0.9","is_outlier":"true"}', '{"object":["a"]}', '{"object":["a"]}',
        ),
        (
            "b", "a", '{"a":"0.6","b":"0.4"}', 2.0, 1.5, 1, "2 2",
            '{"outlier_score":"0.2","is_outlier":"false"}', '{"object":["b"]}', '{"object":["a"]}',
        ),
        (
            "b", "b", '{"a":"0.2","b":"0.8"}', 3.0, 3.0, 1, "2 1",
            '{"outlier_score":"0.6","is_outlier":"true"}', '{"object":["a","b"]}',
            '{"object":["b","a"]}',
        ),
        (
            "a", "a", '{"a":"0.9","b":"0.1"}', 1.5, 1.0, 0, "0 1",
            '{"outlier_score":"0.7","is_outlier":"true"}', '{"object":[]}', '{"object":["b"]}',
        ),
    ],
)  # fmt: skip
# Each lacks something.
LACKING: list[Row] = [
    (
        None, "b", '{"a":"0.1","b":"0.9"}', None, 3.0, 0, None,
        '{"outlier_score":"0.7","is_outlier":"true"}', None, '{"object":["a"]}',
    ),
    ("b", None, None, 4.0, None, None, "5 6", None, '{"object":["a"]}', None),
    ("b", "a", None, 4.0, float("nan"), None, None, None, None, None),
    (None, None, None, None, None, None, None, None, None, None),
]  # fmt: skip

# What operators say of rows, by parameters and the method that gives it: rows that lack what is
# read are left out.
DETAILS = {"labelCol": "l", "predictionDetailCol": "d"}
NUMBERS = {"labelCol": "y", "predictionCol": "z"}
LISTS = {"labelCol": "r", "predictionCol": "q"}
OUTLIERS = {"labelCol": "l", "predictionDetailCol": "e", "outlierValueStrings": ["a"]}
STATEMENTS: list[tuple[str, dict[str, Any], str]] = [
    ("EvalBinaryClassBatchOp", DETAILS, "collectMetrics"),
    ("EvalBinaryClassStreamOp", DETAILS, ""),
    ("EvalMultiClassBatchOp", DETAILS, "collectMetrics"),
    ("EvalMultiClassBatchOp", {"labelCol": "l", "predictionCol": "p"}, "collectMetrics"),
    ("EvalMultiClassStreamOp", DETAILS, ""),
    ("EvalRegressionBatchOp", NUMBERS, "collectMetrics"),
    ("EvalRegressionStreamOp", NUMBERS, ""),
    ("EvalTimeSeriesBatchOp", NUMBERS, "collectMetrics"),
    ("EvalClusterBatchOp", {"predictionCol": "c", "vectorCol": "v"}, "collectMetrics"),
    ("EvalClusterBatchOp", {"predictionCol": "c", "labelCol": "l"}, "collectMetrics"),
    ("EvalRankingBatchOp", LISTS, "collectMetrics"),
    ("EvalMultiLabelBatchOp", LISTS, "collectMetrics"),
    ("EvalOutlierBatchOp", OUTLIERS, "collectMetrics"),
    ("EvalOutlierStreamOp", OUTLIERS, ""),
    ("CorrelationBatchOp", {"selectedCols": ["y", "z"]}, "collectCorrelation"),
    (
        "CorrelationBatchOp",
        {"selectedCols": ["y", "z"], "method": "SPEARMAN"},
        "collectCorrelation",
    ),
    ("QuantileBatchOp", {"selectedCol": "z", "quantileNum": 2}, ""),
    ("VectorSummarizerBatchOp", {"selectedCol": "v"}, "collectVectorSummary"),
    ("VectorCorrelationBatchOp", {"selectedCol": "v"}, "collectCorrelation"),
]


def source(schema: str, rows: Sequence[Row]) -> Any:
    return pyalink.BatchOperator.fromDataframe(frame_of(schema, rows), schemaStr=schema)


CASES = {**FORMATS, **VECTORS, **ROWS_ALONE, **CLUSTERED}


@functools.cache
def inputs_of(name: str) -> Any:
    case = CASES[name]
    return source(case.schema, case.rows)


def run(name: str, case: Case, first: Any = None) -> Any:
    """Give the batch operator of a case, linked."""
    own = inputs_of(name) if first is None else first
    more = [source(schema, rows) for schema, rows in case.more]
    inputs = [*more, own] if case.model else [own, *more]
    return getattr(pyalink, f"{name}BatchOp")(**case.given).linkFrom(*inputs)


def written(rows: Sequence[Sequence[Any]]) -> list[str]:
    """Write rows as texts that can be sorted; vectors and tensors are their texts."""
    return sorted(
        repr(tuple(None if value is pd.NA or value != value else text_of(value) for value in row))
        for row in rows
    )


def text_of(value: Any) -> Any:
    return value if isinstance(value, (int, float, str)) else str(value)


def found(operator: Any) -> list[str]:
    frame = operator.collectToDataframe()
    return written(frame.astype(object).where(frame.notna(), None).to_numpy().tolist())


@pytest.mark.parametrize("name", CASES)
def test_null_stays_null(name: str) -> None:
    case = CASES[name]
    assert found(run(name, case)) == written(case.wanted)


@pytest.mark.parametrize("name", CASES)
def test_streams_and_stages_do_as_tables(name: str) -> None:
    case = CASES[name]
    stream = f"{name}StreamOp"
    wanted = written(case.wanted)
    if stream in BUILT and not case.model:
        parts = [case.schema, *(schema for schema, _ in case.more)]
        frames = [case.rows, *(rows for _, rows in case.more)]
        inputs = [
            StreamOperator.fromDataframe(frame_of(schema, rows), schemaStr=schema)
            for schema, rows in zip(parts, frames, strict=True)
        ]
        known = BUILT[stream]._parameters
        given = {key: value for key, value in case.given.items() if key in known}
        assert found(getattr(pyalink, stream)(**given).linkFrom(*inputs)) == wanted
    if issubclass(BUILT.get(name, object), Transformer) and not case.model:
        assert found(getattr(pyalink, name)(**case.given).transform(inputs_of(name))) == wanted


@pytest.mark.parametrize("name", CASES)
def test_no_rows_give_none(name: str) -> None:
    case = CASES[name]
    operator = run(name, case, source(case.schema, []))
    assert found(operator) == written(case.empty)
    assert operator.getColNames() == run(name, case).getColNames()


@pytest.mark.parametrize("name", CASES)
def test_a_column_that_is_not_there_is_named(name: str) -> None:
    case = CASES[name]
    columns = {part.split()[0] for part in case.schema.split(",")}
    for key, value in case.given.items():
        if not key.endswith(("Col", "Cols")) or key.startswith("output"):
            continue
        listed = value if isinstance(value, list) else [value]
        if not columns.issuperset(listed):
            continue  # it names what comes out
        colour = ["colour"] * len(listed) if isinstance(value, list) else "colour"
        changed = Case(
            {**case.given, key: colour}, [], case.schema, case.rows, case.more, case.model
        )
        with pytest.raises(al.Error, match="colour"):
            found(run(name, changed))


BROKEN = {"Csv": '"1.5', "Json": '{"x":', "Kv": "x=1.5", "Vector": "1.5 x"}


@pytest.mark.parametrize("name", [name for name in FORMATS if name.split("To")[0] in BROKEN])
def test_what_cannot_be_read_is_quoted_or_skipped(name: str) -> None:
    text = BROKEN[name.split("To")[0]]
    case = FORMATS[name]
    names = [part.split()[0] for part in case.schema.split(", ")]
    column = next(c for k, c in case.given.items() if k.endswith("Col") and c in names)
    at = names.index(column)
    rows = [tuple(text if i == at else v for i, v in enumerate(case.rows[0])), case.rows[2]]
    with pytest.raises(al.UdfError, match=rf"{name}BatchOp: column '{column}': ") as error:
        found(run(name, case, source(case.schema, rows)))
    assert error.value.diagnostic.code == codes.ROWS_REFUSED
    skipping = Case({**case.given, "handleInvalid": "SKIP"}, [])
    left = found(run(name, skipping, source(case.schema, rows)))
    null = [row for row in case.wanted if row[0] == 2]  # as NULL gives it
    right = [row for row in case.wanted if row[0] == 3]
    assert left == written([*((1, *row[1:]) for row in null), *right])


def named(given: dict[str, Any]) -> list[str]:
    """Give the columns that parameters name."""
    columns: list[str] = []
    for value in given.values():
        columns += value if isinstance(value, list) else [value]
    return columns


@pytest.mark.parametrize(("name", "given", "method"), STATEMENTS)
def test_rows_that_lack_something_are_left_out(
    name: str, given: dict[str, Any], method: str
) -> None:
    schema, whole = JUDGED
    names = [part.split()[0] for part in schema.split(", ")]
    read = [names.index(name) for name in named(given) if name in names]
    lacking = [row for row in LACKING if any(row[i] is None or row[i] != row[i] for i in read)]
    assert len(lacking) >= 2
    kind = pyalink.StreamOperator if name.endswith("StreamOp") else pyalink.BatchOperator
    said: list[Any] = []
    for rows in (whole, [*whole, *lacking]):
        data = kind.fromDataframe(frame_of(schema, rows), schemaStr=schema)
        operator = getattr(pyalink, name)(**given).linkFrom(data)
        said.append(str(getattr(operator, method)()) if method else found(operator))
    assert said[0] == said[1]


def test_a_summary_counts_what_is_missing() -> None:
    operator = pyalink.SummarizerBatchOp(selectedCols=["x", "s"]).linkFrom(inputs_of("Binarizer"))
    summary = operator.collectSummary()
    assert summary.count() == 3
    assert [summary.numMissingValue("x"), summary.numValidValue("x")] == [2, 1]
    assert [summary.mean("x"), summary.numMissingValue("s")] == [1.5, 1]


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("ChiSquareTestBatchOp", {"selectedCols": ["p", "c"], "labelCol": "l"}),
        ("ChiSqSelectorBatchOp", {"selectedCols": ["p", "c"], "labelCol": "l"}),
        ("VectorChiSquareTestBatchOp", {"selectedCol": "v", "labelCol": "p"}),
        ("VectorChiSqSelectorBatchOp", {"selectedCol": "v", "labelCol": "p"}),
    ],
)
def test_a_chi_square_test_takes_null_as_a_value_among_others(
    name: str, given: dict[str, Any]
) -> None:
    """As a text that no row has would be; rows whose vector is NULL are left out."""
    schema, whole = JUDGED
    rows = [*whole, *LACKING]
    labels = [schema.split(", ").index(f"{column} string") for column in "lp"]
    named = [
        tuple("NIL" if i in labels and value is None else value for i, value in enumerate(row))
        for row in rows
    ]
    said = [
        sorted(map(rounded, found(getattr(pyalink, name)(**given).linkFrom(source(schema, data)))))
        for data in (rows, named)
    ]
    assert said[0] == said[1]


def rounded(text: str) -> str:
    """Write the numbers in a text with ten digits after the point."""
    return re.sub(r"[0-9]+[.][0-9]{11,}", lambda found: f"{float(found[0]):.10f}", text)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("MultiCollinearityBatchOp", {"selectedCols": ["y", "z"]}),
        ("MdsBatchOp", {"selectedCols": ["y", "z"]}),
        ("SomBatchOp", {"vectorCol": "v", "vdim": 2, "xdim": 1, "ydim": 1}),
    ],
)
def test_what_needs_every_value_says_which_column_lacks_one(
    name: str, given: dict[str, Any]
) -> None:
    with pytest.raises(al.UdfError, match=r"column '[zv]' has NULL, NaN or infinite values"):
        found(getattr(pyalink, name)(**given).linkFrom(source(*POINTS)))


SECONDS = [1, 2, 3, 11, 12]
TIMED = ("k string, ts timestamp, x double", [
    (key, pd.Timestamp(2020, 1, 1, 0, 0, second), x)
    for second, key, x in zip(
        SECONDS, ["a", "a", None, None, "a"], [1.0, None, 2.0, None, 4.0], strict=True
    )
])  # fmt: skip
WINDOWS: dict[str, tuple[dict[str, Any], list[Row]]] = {
    "TumbleTimeWindowStreamOp": (
        {"windowTime": 10.0}, [("a", 1.0, 1), (None, 2.0, 1), ("a", 4.0, 1), (None, None, 0)]
    ),
    "HopTimeWindowStreamOp": (
        {"windowTime": 10.0, "hopTime": 10.0},
        [("a", 1.0, 1), (None, 2.0, 1), ("a", 4.0, 1), (None, None, 0)],
    ),
    "SessionTimeWindowStreamOp": (
        {"sessionGapTime": 5.0}, [("a", 1.0, 1), (None, 2.0, 1), (None, None, 0), ("a", 4.0, 1)]
    ),
    "OverTimeWindowStreamOp": (
        {"precedingTime": 10.0, "reservedCols": ["k"]},
        [("a", 1.0, 1), ("a", 1.0, 1), (None, 2.0, 1), (None, 2.0, 1), ("a", 4.0, 1)],
    ),
    "OverCountWindowStreamOp": (
        {"precedingRows": 2, "reservedCols": ["k"]},
        [("a", 1.0, 1), ("a", 1.0, 1), (None, 2.0, 1), (None, 2.0, 1), ("a", 5.0, 2)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WINDOWS)
def test_windows_leave_null_out_and_need_a_time(name: str) -> None:
    given, wanted = WINDOWS[name]
    schema, rows = TIMED

    def of(rows: Sequence[Row]) -> list[str]:
        data = StreamOperator.fromDataframe(frame_of(schema, rows), schemaStr=schema)
        operator = getattr(pyalink, name)(
            timeCol="ts", groupCols=["k"], clause="sum(x) as o, count(x) as c", **given
        )
        return found(operator.linkFrom(data))

    assert of(rows) == written(wanted)
    assert of([]) == []
    with pytest.raises(al.Error, match="column 'ts' is NULL in a row: each row needs a time"):
        of([*rows, ("a", None, 1.0)])


def test_other_streams_keep_or_leave_out() -> None:
    schema, rows = TIMED
    data = StreamOperator.fromDataframe(frame_of(schema, rows), schemaStr=schema)
    assert found(data.link(pyalink.SpeedControlStreamOp())) == written(rows)
    grouped = pyalink.WindowGroupByStreamOp(
        groupByClause="k", selectClause="k, sum(x) AS o", windowType="TUMBLE", windowLength=1000
    ).linkFrom(data)
    assert found(grouped.select("k, o")) == written([("a", 5.0), (None, 2.0)])
    quantiles = pyalink.QuantileStreamOp(
        timeCol="ts", selectedCols=["x"], quantileNum=1, timeInterval=10.0
    ).linkFrom(data)
    assert found(quantiles.select("quantile")) == written([("[1.0,2.0]",), ("[4.0,4.0]",)])


def test_clusters_of_streams_leave_rows_without_a_vector() -> None:
    vectors = ("id bigint, v string", [(1, "0 0"), (2, None), (3, "9 9")])
    model = pyalink.KMeansTrainBatchOp(vectorCol="v", k=2).linkFrom(source(*vectors))
    stream = StreamOperator.fromDataframe(frame_of(*vectors), schemaStr=vectors[0])
    for operator in (
        pyalink.OnePassClusterStreamOp(
            model, predictionCol="o", predictionDetailCol="d", epsilon=3.0
        ),
        pyalink.StreamingKMeansStreamOp(model, predictionCol="o", halfLife=1, timeInterval=1),
    ):
        frame = operator.linkFrom(stream).select("id, o").collectToDataframe()
        assert frame["o"].isna().tolist() == [value == 2 for value in frame["id"]]


def test_user_functions_are_given_none() -> None:
    double = pyalink.DataTypes.DOUBLE()
    less = pyalink.udf(lambda x: -1.0 if x is None else x, [double], double)

    class Twice:
        def eval(self, x: Any) -> Any:
            yield x
            if x is not None:
                yield x

    twice = pyalink.udtf(Twice(), [double], [double])
    given = {"selectedCols": ["x"], "reservedCols": ["id"]}
    stream = StreamOperator.fromDataframe(frame_of(SCHEMA, ROWS), schemaStr=SCHEMA)
    for kind, data in (("Batch", inputs_of("Binarizer")), ("Stream", stream)):
        operator = getattr(pyalink, f"UDF{kind}Op")(func=less, outputCol="o", **given)
        assert found(operator.linkFrom(data)) == written([(1, 1.5), (2, -1.0), (3, -1.0)])
        operator = getattr(pyalink, f"UDTF{kind}Op")(func=twice, outputCols=["o"], **given)
        assert found(operator.linkFrom(data)) == written([(1, 1.5), (1, 1.5), (2, None), (3, None)])


@pytest.mark.parametrize("kind", ["Ak", "Csv", "Tsv", "Text", "LibSvm", "Parquet"])
def test_files_keep_null_or_say_that_they_cannot(kind: str, tmp_path: Any) -> None:
    schema, rows = some("id x s t")
    path = str(tmp_path / "file")
    names = {"schemaStr": schema} if kind in {"Csv", "Tsv"} else {}
    reader = functools.partial(getattr(pyalink, f"{kind}SourceBatchOp"), **names)
    if kind == "Parquet":
        inputs_of("Binarizer").select("id, x, s, t").toTable().write_parquet(path)
        assert found(reader(filePath=path)) == written(rows)
        return
    sink = getattr(pyalink, f"{kind}SinkBatchOp")(filePath=path)
    if kind == "LibSvm":
        inputs_of("Binarizer").link(sink.setLabelCol("id").setVectorCol("dense"))
        with pytest.raises(al.UdfError, match="LibSVM has no way to write NULL"):
            pyalink.BatchOperator.execute()
        assert not list(tmp_path.iterdir())
        return
    data = inputs_of("Binarizer").select("s" if kind == "Text" else "id, x, s, t")
    data.link(sink)
    pyalink.BatchOperator.execute()
    texts = [(row[2] or "",) for row in rows]  # a line of text has nothing for NULL
    assert found(reader(filePath=path)) == written(texts if kind == "Text" else rows)
    empty = str(tmp_path / "empty")
    data.where("1 = 0").link(getattr(pyalink, f"{kind}SinkBatchOp")(filePath=empty))
    pyalink.BatchOperator.execute()
    assert found(reader(filePath=empty)) == []


def test_tables_in_memory_keep_null() -> None:
    data = pyalink.MemSourceBatchOp([[1, None], [None, "é"]], "a bigint, b string")
    assert found(data) == written([(1, None), (None, "é")])
    assert found(pyalink.TableSourceBatchOp(data)) == written([(1, None), (None, "é")])


def test_what_reads_models_takes_null_among_rows() -> None:
    labelled = source(
        "x double, n bigint, l string", [(1.0, 1, "a"), (2.0, 2, "b"), (None, 3, "b")]
    )
    tree = pyalink.CartTrainBatchOp(featureCols=["x", "n"], labelCol="l", minSamplesPerLeaf=1)
    encoder = pyalink.TreeModelEncoderBatchOp(predictionCol="o", reservedCols=["id"])
    frame = encoder.linkFrom(tree.linkFrom(labelled), inputs_of("Binarizer")).collectToDataframe()
    assert frame["o"].notna().all()
    exact = source("x double, y double", [(1.0, 1.0), (2.0, 2.5), (3.0, 2.9)])
    lacking = source("x double, y double", [(1.0, 1.0), (None, 2.0)])
    model = pyalink.GlmTrainBatchOp(featureCols=["x"], labelCol="y").linkFrom(exact)
    with pytest.raises(al.UdfError, match="'x' has NULL, NaN or infinite values"):
        found(
            pyalink.GlmEvaluationBatchOp(featureCols=["x"], labelCol="y").linkFrom(model, lacking)
        )


# What has no input, or is tested above with others.
ELSEWHERE = {
    "BinningTrainForScorecardBatchOp",
    *(
        f"{name}Source{kind}Op"
        for kind in ("Batch", "Stream")
        for name in ("NumSeq", "RandomTable", "RandomVector", "Mem", "Table")
    ),
    *(
        f"{name}{way}{kind}Op"
        for kind in ("Batch", "Stream")
        for way in ("Source", "Sink")
        for name in (
            "Ak",
            "Csv",
            "Tsv",
            "Text",
            "LibSvm",
            "Parquet",
            "Xls",
            "TFRecordDataset",
            "Catalog",
        )
    ),
    *(
        f"{name}{kind}Op"
        for kind in ("Batch", "Stream")
        for name in ("LookupRedisRow", "LookupRedisString", "RedisRowSink", "RedisStringSink")
    ),
    *(
        f"{name}{kind}Op"
        for kind in ("Batch", "Stream")
        for name in ("UDF", "UDTF", "TreeModelEncoder")
    ),
    "GlmEvaluationBatchOp",
    "SummarizerBatchOp",
    "MultiCollinearityBatchOp",
    "MdsBatchOp",
    "SomBatchOp",
    "ChiSquareTestBatchOp",
    "ChiSqSelectorBatchOp",
    "VectorChiSquareTestBatchOp",
    "VectorChiSqSelectorBatchOp",
    "QuantileStreamOp",
    "SpeedControlStreamOp",
    "WindowGroupByStreamOp",
    "OnePassClusterStreamOp",
    "StreamingKMeansStreamOp",
    *(
        f"GenerateFeatureOf{of}Op"
        for of in ("LatestBatch", "LatestStream", "WindowBatch", "WindowStream", "LatestNDaysBatch")
    ),
    "LookupRecentDaysBatchOp",
    "AppendModelStreamFileSinkBatchOp",
    "ModelStreamFileSinkStreamOp",
    "ModelStreamFileSourceStreamOp",
    "Export2FileSinkStreamOp",
    "WebTrafficIndexStreamOp",
}


def test_every_operator_has_a_case() -> None:
    operators = {name for name in BUILT if name.endswith(("BatchOp", "StreamOp"))}
    known = {f"{name}{kind}Op" for name in CASES for kind in ("Batch", "Stream")}
    known |= {name for name, _, _ in STATEMENTS} | WINDOWS.keys() | ELSEWHERE
    trained = re.compile("(Train|Predict|ModelInfo)(Batch|Stream)Op$")
    assert {name for name in operators - known if not trained.search(name)} == set()
