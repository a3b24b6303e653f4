"""Features of the latest days: each is checked against its definition, and looked up again."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

import alink as al
from alink._algorithms._models import BadModel
from alink._algorithms._recent_days import RecentDays
from pyalink import alink as pyalink

SCHEMA = "u string, k int, x double, w string, b string, t timestamp"
BASE = pd.Timestamp("2024-03-31")
_TIMES = [
    "2024-03-31", "2024-03-30", "2024-03-24", "2024-03-24 00:00:01", "2024-03-31 00:00:01",
    "2024-02-29", "2024-02-29 00:00:01", "2023-03-31", "2023-04-01", None, "2024-03-29",
]  # fmt: skip
FRAME = pd.DataFrame(
    {
        "u": ["a", "a", "ü", "a", "a", None, "a", "ü", "ü", "a", "ü"],
        "k": [1, 2, 1, 1, 1, 2, 2, 1, 1, 1, 2],
        "x": [1.5, None, 3.0, float("nan"), 9.0, 2.0, 4.0, 5.0, -1.0, 7.0, float("inf")],
        "w": ["p", "q", "p", None, "p", "it's", "q", "p", "q", "p", "p"],
        "b": ["1", "1", "2", "3", "1", "2", "1", "1", "2", "1", None],
        "t": pd.to_datetime(_TIMES, format="ISO8601"),
    }
)
DAY = "com.alibaba.alink.common.fe.define.day."
NUMBERS = ["COUNT", "SUM", "TOTAL_COUNT", "MIN", "MAX", "MEAN"]
CATEGORIES = ["COUNT", "DISTINCT_COUNT", "CATES_CNT", "KV_CNT", "TOTAL_COUNT"]
LENGTHS = ["1d", "7d", "1W", "1m", "1y"]


def definition(kind: str, groups: list[str] | None, types: list[str], **given: Any) -> Any:
    named = f"{DAY}{'Numeric' if kind == 'Numeric' else 'Categorical'}DaysStatistics"
    instance = {
        "groupCols": groups,
        "nDays": LENGTHS,
        "types": [{"CLASS_NAME": named, "INSTANCE": t} for t in types],
        **given,
    }
    return {"CLASS_NAME": f"{DAY}NDays{kind}StatFeatures", "INSTANCE": instance}


DEFINITIONS = [
    definition("Numeric", ["u", "k"], NUMBERS, featureCols=["x"], conditionCol="b",
               conditions=[["1", "3"], []]),
    definition("Categorical", [], CATEGORIES, featureCols=["w"], featureItems=["p", "it's"]),
]  # fmt: skip


def features(**given: Any) -> Any:
    plain = {
        "timeCol": "T",
        "baseDate": "2024-03-31",
        "featureDefinitions": json.dumps(DEFINITIONS),
    }
    op = pyalink.GenerateFeatureOfLatestNDaysBatchOp(**{**plain, **given})
    return pyalink.BatchOperator.fromDataframe(FRAME, schemaStr=SCHEMA).link(op)


def within(rows: list[Any], length: str) -> list[Any]:
    # A month has passed when the same day, or the month's end, has come.
    offset = {
        "1d": pd.DateOffset(days=1),
        "7d": pd.DateOffset(days=7),
        "1W": pd.DateOffset(weeks=1),
        "1m": pd.DateOffset(months=1),
        "1y": pd.DateOffset(years=1),
    }[length]
    return [r for r in rows if r.t + offset > BASE]


def numbers(rows: list[Any], kind: str) -> Any:
    xs = [r.x for r in rows if not pd.isna(r.x)]
    if kind in ("COUNT", "TOTAL_COUNT"):
        return len(rows) if kind == "TOTAL_COUNT" else len(xs)
    return (
        {"SUM": sum, "MIN": min, "MAX": max, "MEAN": lambda v: sum(v) / len(v)}[kind](xs)
        if xs
        else None
    )


def categories(rows: list[Any], kind: str) -> list[Any]:
    words = [r.w for r in rows if r.w is not None]
    counted = ",".join(f"{w}:{words.count(w)}" for w in sorted(set(words)))
    return {
        "COUNT": [len(words)],
        "DISTINCT_COUNT": [len(set(words))],
        "CATES_CNT": [words.count("p"), words.count("it's")],
        "KV_CNT": [counted],
        "TOTAL_COUNT": [len(rows)],
    }[kind]


def expected() -> tuple[dict[str, Any], dict[tuple[Any, Any], dict[str, Any]]]:
    """Give the features of all rows, and those of each user and k, by their names."""
    clean = FRAME.astype(object).where(FRAME.notna(), None)
    rows = [r for r in clean.itertuples() if r.t is not None and r.t <= BASE]
    everything: dict[str, Any] = {}
    for kind in CATEGORIES:
        for i, item in enumerate(["p", "it's"] if kind == "CATES_CNT" else ["w"]):
            for length in LENGTHS:
                named = [kind.lower(), *([] if kind == "TOTAL_COUNT" else [item]), length]
                everything["__".join(named)] = categories(within(rows, length), kind)[i]
    groups: dict[tuple[Any, Any], dict[str, Any]] = {}
    for row in rows:
        of = groups.setdefault((row.u, row.k), {})
        inside = [r for r in rows if (r.u, r.k) == (row.u, row.k)]
        for kind in ["TOTAL_COUNT", *(k for k in NUMBERS if k != "TOTAL_COUNT")]:
            for suffix, kept in ((["b", "1_3"], ("1", "3")), ([], ("1", "2", "3", None))):
                for length in LENGTHS:
                    named = [kind.lower(), *([] if kind == "TOTAL_COUNT" else ["x"]), length]
                    chosen = [r for r in within(inside, length) if r.b in kept]
                    of["__".join([*named, *suffix, "u_k"])] = numbers(chosen, kind)
    return everything, groups


def test_features_of_days_and_their_lookup() -> None:
    op = features(
        extendFeatures="total_count__1y - total_count__7d AS older, sum__x__1y__u_k/2 half"
    )
    everything, groups = expected()
    everything["older"] = everything["total_count__1y"] - everything["total_count__7d"]
    for of in groups.values():
        total = of["sum__x__1y__u_k"]
        of["half"] = None if total is None else total / 2
    schema = op.getOutFeatureSchemaStr()
    first = next(iter(groups.values()))
    assert [f.split()[0] for f in schema.split(",")][:5] == list(everything)[:5]
    assert op.getSideOutputCount() == 2
    data = FRAME.filter(["k", "u"]).drop_duplicates()
    data.loc[len(data) + 100] = [3, "unknown"]
    model = op.link(pyalink.SelectBatchOp(clause="*"))
    rows = pyalink.BatchOperator.fromDataframe(data, schemaStr="k int, u string")
    lookup = pyalink.LookupRecentDaysBatchOp(selectedCols=["u", "k"], featureSchemaStr=schema)
    lookup.setReservedCols(["u", "k"]).linkFrom(model, rows)
    stage = pyalink.LookupRecentDaysModel(selectedCols=["u", "k"], featureSchemaStr=schema)
    again = stage.setModelData(model).transform(rows)
    one, two, found, by_stage = pyalink.collectToDataframes(
        op.getSideOutput(0), op.getSideOutput(1), lookup, again
    )
    assert list(one.columns) == ["__alink_group_col", *everything]
    assert list(two.columns) == ["u", "k", *first]
    assert listed(one) == [[1, *everything.values()]]
    got = {(row[0], row[1]): dict(zip(first, row[2:], strict=True)) for row in listed(two)}
    assert got == groups
    missing = dict.fromkeys(first)
    for row in listed(found):
        cells = dict(zip(found.columns, row, strict=True))
        key = cells.pop("u"), cells.pop("k")
        assert cells == {**everything, **groups.get(key, missing)}
    pd.testing.assert_frame_equal(by_stage.filter(list(found.columns)), found)


def listed(frame: pd.DataFrame) -> list[list[Any]]:
    return [[None if pd.isna(v) else v for v in row] for row in frame.itertuples(index=False)]


def test_no_rows_are_no_groups() -> None:
    op = features(baseDate="1999-01-01")
    assert len(op.getSideOutput(0).collectToDataframe()) == 0
    model = op.link(pyalink.SelectBatchOp(clause="*"))
    given = {"selectedCols": ["u"], "reservedCols": ["u"]}
    given["featureSchemaStr"] = op.getOutFeatureSchemaStr()
    rows = pyalink.BatchOperator.fromDataframe(FRAME.head(1), schemaStr=SCHEMA)
    found = [
        pyalink.LookupRecentDaysBatchOp(given).linkFrom(model, some)
        for some in (rows, rows.where("k > 9"))
    ]
    frames = pyalink.collectToDataframes(model, *found)
    assert [len(frame) for frame in frames] == [1, 1, 0]  # the model tells its features alone
    assert frames[1].iloc[0, 1:].isna().all()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"baseDate": "2024-02-30"}, "'baseDate' cannot be '2024-02-30'"),
        ({"timeCol": "u"}, 'timeCol "u" is STRING'),
        ({"extendFeatures": "sum(x) as s"}, "names no feature"),
        ({"definition": {"nDays": ["7"]}}, "'7' in nDays is no number of days"),
        ({"definition": {"groupCols": ["t"]}}, 'groups cannot be of column "t"'),
        ({"definition": {"featureCols": ["w"]}}, "is of numbers"),
        ({"definition": {"conditions": ["1"]}}, "of the column that conditionCol names"),
        ({"definition": {"conditions": ["1"], "conditionCol": "b"}}, "is no list of texts"),
        ({"categories": ["CATES_CNT"]}, "'featureItems' names"),
        ({"categories": ["KV_RATIO"]}, "no statistic 'KV_RATIO'"),
    ],
)
def test_wrong_definitions(given: dict[str, Any], said: str) -> None:
    given = dict(given)
    if (more := given.pop("definition", None)) is not None:
        made = definition("Numeric", ["u"], NUMBERS, **{"featureCols": ["x"], **more})
        given["featureDefinitions"] = json.dumps([made])
    if (types := given.pop("categories", None)) is not None:
        made = definition("Categorical", ["u"], types, featureCols=["w"])
        given["featureDefinitions"] = json.dumps(made)
    with pytest.raises(al.Error, match="ALK") as failure:
        features(**given)
    assert said in str(failure.value)


def test_a_lookup_needs_a_schema() -> None:
    rows = pyalink.BatchOperator.fromDataframe(FRAME, schemaStr=SCHEMA)
    with pytest.raises(al.Error, match="needs the parameter 'featureSchemaStr'"):
        pyalink.LookupRecentDaysBatchOp(selectedCols=["u"]).linkFrom(rows, rows)


def test_wrong_models() -> None:
    meta = {"groupColsArray": '[["g"]]', "valueLens": "[1]", "featureSchemaStr": '"f BIGINT"'}
    columns = ["group_id", "group_value", "stat_value"]

    def loaded(rows: list[list[Any]], kinds: list[pa.DataType]) -> RecentDays:
        task = RecentDays({}, kinds)
        task.load(pa.table(dict(zip(columns, zip(*rows, strict=True), strict=True))))
        return task

    good = [[1, '["a"]', "[3]"], [0, json.dumps(meta), ""]]
    with pytest.raises(BadModel, match="names 2 features, the model has 1"):
        loaded(good, [pa.int64(), pa.int64()])
    with pytest.raises(BadModel, match="is not one of"):
        loaded([[1, "rO0ABXVyAB", "rO0A"], [0, json.dumps(meta), ""]], [pa.int64()])
    with pytest.raises(BadModel, match="is not one of"):
        RecentDays({}, []).load(pa.table({"model_id": [1]}))
    with pytest.raises(BadModel, match="have no column g"):
        loaded(good, [pa.int64()])(pa.record_batch({"h": ["a"]}))
    with pytest.raises(BadModel, match="a feature of the model is no int64"):
        loaded([[1, '["a"]', '["x"]'], good[1]], [pa.int64()])(pa.record_batch({"g": ["a"]}))
    with pytest.raises(BadModel, match="not a whole number"):
        loaded([[1, '["a"]', "[1.5]"], good[1]], [pa.int64()])(pa.record_batch({"g": ["a"]}))
    found = loaded(good, [pa.int64()])(pa.record_batch({"G": ["a", None, "b"]}))
    assert found[0].to_pylist() == [3, None, None]
