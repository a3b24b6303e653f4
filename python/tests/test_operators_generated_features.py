"""Features that definitions describe: each is checked against its own definition."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from typing import Any

import pandas as pd
import pytest

import alink as al
from pyalink import alink as pyalink

SCHEMA = "g string, x double, w string, c string, t timestamp"
EPOCH = pd.Timestamp("2024-01-31 23:59:50")
_SECONDS = (0, 3, 10, 3, 4, 20, 25, 10, 11, 12, 5, 31, 47, 30)
FRAME = pd.DataFrame(
    {
        "g": ["a", "a", "a", "ü", "a", None, None, "ü", "a", "a", "ü", "a", "a", "ü"],
        "x": [1.0, 2.0, None, 4.0, 2.0, 5.0, math.nan, 4.0, -1.0, 2.0, 7.0, 0.5, 3.0, 4.0],
        "w": ["p", "q", "p", "ß", None, "p", "q", "ß", "q", "p", "p", "q", "p", "ß"],
        "c": ["1", "1", "1", "2", "2", None, "1", "2", "1", "1", "1", "1", "1", "2"],
        "t": EPOCH + pd.to_timedelta(_SECONDS, unit="s"),
    }
)
JAVA = "com.alibaba.alink.common.fe.define."


def batch(frame: pd.DataFrame = FRAME, schema: str = SCHEMA) -> Any:
    return pyalink.BatchOperator.fromDataframe(frame, schemaStr=schema)


def stat(kind: str, **setting: Any) -> dict[str, Any]:
    if setting:
        return {"CLASS_NAME": f"{JAVA}statistics.Statistics${kind}", "INSTANCE": setting}
    return {"CLASS_NAME": f"{JAVA}statistics.Statistics", "INSTANCE": kind}


def definition(named: str, groups: list[str] | None, types: list[Any], **given: Any) -> Any:
    instance = {"groupCols": groups, "types": types, **given}
    return {"CLASS_NAME": f"{JAVA}over.{named}StatFeatures", "INSTANCE": instance}


def listed(frame: pd.DataFrame) -> list[list[Any]]:
    return [[None if pd.isna(v) else v for v in row] for row in frame.itertuples(index=False)]


def check(frame: pd.DataFrame, wanted: list[list[Any]]) -> None:
    """Compare rows cell by cell, naming the column that differs."""
    got = listed(frame)
    assert len(got) == len(wanted)
    for row, expected in zip(got, wanted, strict=True):
        for column, cell, right in zip(frame.columns, row, expected, strict=True):
            close = pytest.approx(right) if isinstance(right, float) else right
            assert cell == close, (column, row[:5])


NUMBERS = [
    *map(
        stat,
        [
            "COUNT", "TOTAL_COUNT", "SUM", "MEAN", "STDDEV_SAMP", "STDDEV_POP", "VAR_SAMP",
            "VAR_POP", "SKEWNESS", "SQUARE_SUM", "MEDIAN", "MODE", "FREQ", "RANK", "DENSE_RANK",
            "ROW_NUMBER", "IS_EXIST",
        ],
    ),
    stat("LastN", n=2), stat("FirstN", n=2), stat("SumLastN", n=2),
    stat("ConcatAgg", delimiter="'"),
]  # fmt: skip
CATEGORIES = [
    *map(
        stat,
        [
            "COUNT", "TOTAL_COUNT", "DISTINCT_COUNT", "FREQ", "RATIO", "IS_EXIST",
            "RANGE_START_TIME", "RANGE_END_TIME",
        ],
    ),
    stat("LastN", n=1), stat("FirstN", n=1), stat("LastTimeN", n=2), stat("FirstTimeN", n=2),
    stat("ConcatAgg", delimiter="-"), stat("KvStat", n=1, rankType="RANK"),
    stat("KvStat", n=2, rankType="DENSE_RANK"), stat("KvStat", n=0, rankType=None),
]  # fmt: skip


def of_numbers(rows: list[Any]) -> list[Any]:
    every = [None if pd.isna(r.x) else r.x for r in rows]
    xs = [x for x in every if x is not None]
    last, n = every[-1], len(xs)
    several = n > 1 and len(set(xs)) > 1
    mean = sum(xs) / n if n else None
    before = [x for x in every[:-1] if x is not None and last is not None and x < last]
    third = sum((x - mean) ** 3 for x in xs) / n if mean is not None else 0
    text = [str(x) for x in xs]
    return [
        n,
        len(rows),
        sum(xs) if n else None,
        mean,
        (statistics.stdev(xs) if n > 1 else 0) if n else None,
        statistics.pstdev(xs) if n else None,
        (statistics.variance(xs) if n > 1 else 0) if n else None,
        statistics.pvariance(xs) if n else None,
        (third / statistics.variance(xs) ** 1.5 if several else 0) if n else None,
        sum(x * x for x in xs) if n else None,
        statistics.median(xs) if n else None,
        Counter(xs).most_common(1)[0][0] if n else None,
        xs.count(last) if last is not None else None,
        1 + len(before) if last is not None else None,
        1 + len(set(before)) if last is not None else None,
        len(rows),
        last is not None and last in every[:-1],
        every[-2] if len(every) > 1 else None,
        every[1] if len(every) > 1 else None,
        sum(x for x in every[-2:] if x is not None) if any(every[-2:]) else None,
        "'".join(text) if text else None,
    ]


def of_categories(rows: list[Any], columns: list[str], start: Any, end: Any) -> list[Any]:
    keys = [tuple(getattr(r, c) for c in columns) for r in rows]
    known = [key for key in keys if None not in key]
    last, times = keys[-1], sorted({r.t for r in rows})
    often = known.count(last) if None not in last else None

    def text(key: Any) -> Any:
        return "_".join("null" if v is None else v for v in key) if len(columns) > 1 else key[0]

    def pairs(least: Any) -> str:
        counted = sorted(((-n, k) for k, n in Counter(known).items()), key=lambda p: (p[0], p[1]))
        kept = [
            "_".join([*(f"{c}:{v}" for c, v in zip(columns, k, strict=True)), str(-n)])
            for n, k in counted
            if n <= least([m for m, _ in counted])
        ]
        return "_".join(kept)

    return [
        len(known),
        len(rows),
        len(set(known)),
        often,
        often / len(known) if often is not None else None,
        often is not None and last in keys[:-1],
        start,
        end,
        text(last),
        text(keys[0]),
        times[-2] if len(times) > 1 else None,
        times[1] if len(times) > 1 else None,
        "-".join(text(key) for key in known) if known else None,
        pairs(lambda ns: ns[0]),
        pairs(lambda ns: sorted(set(ns))[:2][-1]),
        pairs(lambda _: 0),
    ]


def by_time(frame: pd.DataFrame = FRAME) -> list[Any]:
    clean = frame.astype(object).where(frame.notna(), None)
    return list(clean.sort_values("t", kind="stable").itertuples(index=False))


def slot_start(time: Any, length: str) -> Any:
    if length == "1M":
        return (time - pd.Timedelta("1us")).to_period("M").start_time
    return (time - pd.Timedelta("1us")).floor(length.replace("d", "D"))


@pytest.mark.parametrize(
    ("kind", "given", "keep"),
    [
        ("LatestN", {"numbers": [1, 3]}, lambda n, _row, before: before[1 - int(n) :] * (n > "1")),
        (
            "LatestTimeInterval",
            {"timeIntervals": ["8s"]},
            lambda n, row, before: [r for r in before if r.t >= row.t - pd.Timedelta(n)],
        ),
        (
            "LatestTimeSlot",
            {"timeSlots": ["10s", "1d", "1M"]},
            lambda n, row, before: [r for r in before if r.t >= slot_start(row.t, n)],
        ),
    ],
)
def test_latest_features(kind: str, given: dict[str, list[Any]], keep: Any) -> None:
    definitions = [
        definition(f"{kind}Numeric", ["g"], NUMBERS, featureCols=["x"], **given),
        definition(f"{kind}Categorical", ["g"], CATEGORIES, featureCols=["w"], **given),
        definition(
            f"{kind}CrossCategorical", [], CATEGORIES, crossFeatureCols=[["w", "c"]], **given
        ),
    ]
    wanted = []
    ordered = by_time()
    for i, row in enumerate(ordered):
        cells = [*row]
        cells[1] = None if pd.isna(row.x) else row.x
        group = [r for r in ordered[:i] if r.g == row.g]
        for before, numbers, columns in (
            (group, True, []),
            (group, False, ["w"]),
            (ordered[:i], False, ["w", "c"]),
        ):
            for length in next(iter(given.values())):
                rows = [*keep(str(length), row, before), row]
                if numbers:
                    cells += of_numbers(rows)
                else:
                    cells += of_categories(rows, columns, rows[0].t, row.t)
        wanted.append(cells)
    made = pyalink.GenerateFeatureOfLatestStreamOp(
        timeCol="T", featureDefinitions=json.dumps(definitions)
    )
    stream = pyalink.StreamOperator.fromDataframe(FRAME, schemaStr=SCHEMA)
    check(stream.link(made).collectToDataframe(), wanted)


def test_a_window_of_all_rows_before() -> None:
    """Windows grow to the whole table, whose rows are not listed for each of them."""
    rows = 10_000
    values = [None if i % 11 == 0 else f"v{i * i % 7}" for i in range(rows)]
    frame = pd.DataFrame({"t": EPOCH + pd.to_timedelta(range(rows), unit="s"), "c": values})
    types = [stat("FREQ"), stat("IS_EXIST"), stat("DISTINCT_COUNT"), stat("KvStat", n=0)]
    given = definition("LatestNCategorical", [], types, featureCols=["c"], numbers=[rows])
    made = pyalink.GenerateFeatureOfLatestBatchOp(
        timeCol="t", featureDefinitions=json.dumps([given])
    )
    seen: dict[str, int] = {}
    wanted: list[list[Any]] = []
    for time, value in zip(frame["t"], values, strict=True):
        if value is not None:
            seen[value] = seen.get(value, 0) + 1
        often = seen.get(value) if value is not None else None
        pairs = sorted(seen.items(), key=lambda pair: (-pair[1], pair[0]))
        text = "_".join(f"c:{key}_{count}" for key, count in pairs)
        wanted.append([time, value, often, (often or 0) > 1, len(seen), text])
    assert listed(batch(frame, "t timestamp, c string").link(made).collectToDataframe()) == wanted


def test_names_and_types_of_latest_features() -> None:
    definitions = [
        definition("LatestNNumeric", ["g", "w"], NUMBERS[:3], numbers=[2, 3], featureCols=["x"]),
        definition("LatestTimeSlotCategorical", ["c"], CATEGORIES[:1], timeSlots=["1h"],
                   featureCols=["g", "w"]),
        definition("LatestTimeIntervalCrossCategorical", ["g"], [stat("LastTimeN", n=2),
                   stat("KvStat", n=3, rankType="RANK"), stat("ConcatAgg", delimiter=",")],
                   timeIntervals=["2d"], crossFeatureCols=[["w", "c"]]),
    ]  # fmt: skip
    for suffix, order in (("BatchOp", (1, 2, 0)), ("StreamOp", (0, 1, 2))):
        op = getattr(pyalink, f"GenerateFeatureOfLatest{suffix}")(
            timeCol="t", featureDefinitions=json.dumps(definitions)
        )
        source = batch() if suffix == "BatchOp" else pyalink.StreamOperator.fromDataframe(FRAME)
        op.linkFrom(source)
        parts = [
            ["n_ln_2_g_w_count_x BIGINT", "n_ln_2_g_w_total_count_x BIGINT",
             "n_ln_2_g_w_sum_x DOUBLE", "n_ln_3_g_w_count_x BIGINT",
             "n_ln_3_g_w_total_count_x BIGINT", "n_ln_3_g_w_sum_x DOUBLE"],
            ["c_lts_1h_c_count_g BIGINT", "c_lts_1h_c_count_w BIGINT"],
            ["cc_lti_2d_g_lastn_time_2_w_c TIMESTAMP", "cc_lti_2d_g_kv_3_w_c VARCHAR",
             "cc_lti_2d_g_concat__w_c VARCHAR"],
        ]  # fmt: skip
        wanted = [column for i in order for column in parts[i]]
        assert op.getSchemaStr().split(", ")[5:] == wanted


WINDOWS: dict[str, tuple[dict[str, list[str]], Any]] = {
    "TumbleWindow": (
        {"windowTimes": ["10s", "1M"]},
        lambda rows, length: {
            (slot, slot + (pd.Timedelta(length) if "s" in length else pd.DateOffset(months=1)))
            for slot in (slot_start(r.t + pd.Timedelta("1us"), length) for r in rows)
        },
    ),
    "HopWindow": (
        {"windowTimes": ["10s"], "hopTimes": ["4s"]},
        lambda rows, _length: {
            (start, start + pd.Timedelta("10s"))
            for r in rows
            for start in (r.t.floor("4s") - pd.Timedelta(4 * k, "s") for k in range(3))
            if start + pd.Timedelta("10s") > r.t
        },
    ),
    "SlotWindow": (
        {"windowTimes": ["20s"], "stepTimes": ["5s"]},
        lambda rows, _length: {
            (r.t.floor("20s"), r.t.floor("20s") + pd.Timedelta(5 * k, "s"))
            for r in rows
            for k in range(1, 5)
            if r.t.floor("20s") + pd.Timedelta(5 * k, "s") > r.t
        },
    ),
    "SessionWindow": ({"sessionGapTimes": ["6s"]}, None),
}


def sessions(rows: list[Any], gap: Any) -> set[tuple[Any, Any]]:
    found: list[list[Any]] = []
    for row in rows:
        if not found or row.t > found[-1][-1] + gap:
            found.append([])
        found[-1].append(row.t)
    return {(times[0], times[-1] + gap) for times in found}


@pytest.mark.parametrize("kind", WINDOWS)
def test_features_of_windows(kind: str) -> None:
    given, bounds = WINDOWS[kind]
    definitions = [
        definition(f"{kind}Numeric", ["g"], NUMBERS, featureCols=["x"], **given),
        definition(
            f"{kind}CrossCategorical", ["g"], CATEGORIES, crossFeatureCols=[["w", "c"]], **given
        ),
    ]
    op = pyalink.GenerateFeatureOfWindowBatchOp(
        timeCol="t", featureDefinitions=json.dumps(definitions)
    )
    batch().link(op)
    lengths = next(iter(given.values()))
    count = len(lengths)
    assert op.getSideOutputCount() == 2 * count
    outputs = [op, *(op.getSideOutput(i) for i in range(2 * count))]
    frames = pyalink.collectToDataframes(*outputs)
    short = {"TumbleWindow": "tw", "HopWindow": "hw", "SlotWindow": "slw", "SessionWindow": "sw"}
    prefix = "_".join(["n", short[kind], *(v[0] for v in given.values()), "g"])
    assert list(frames[0].columns)[:4] == [
        "g", f"{prefix}_start_time", f"{prefix}_end_time", f"{prefix}_count_x"
    ]  # fmt: skip
    pd.testing.assert_frame_equal(frames[0], frames[1])
    for place, frame in enumerate(frames[1:]):
        wanted = []
        for group in ("a", "ü", None):
            rows = [r for r in by_time() if r.g == group]
            length = lengths[place % count]
            found = bounds(rows, length) if bounds else sessions(rows, pd.Timedelta(length))
            for start, end in found:
                inside = [r for r in rows if start <= r.t < end]
                cells = (
                    of_numbers(inside)
                    if place < count
                    else of_categories(inside, ["w", "c"], start, end)
                )
                wanted.append([group, start, end, *cells])
        wanted.sort(key=lambda row: (row[2], row[1], row[0] is None, row[0] or ""))
        check(frame, wanted)


def test_features_of_no_rows() -> None:
    text = json.dumps(
        [definition("TumbleWindowNumeric", ["g"], NUMBERS, featureCols=["x"], windowTimes=["1h"])]
    )
    op = pyalink.GenerateFeatureOfWindowStreamOp(timeCol="t", featureDefinitions=text)
    empty = pyalink.StreamOperator.fromDataframe(FRAME.head(0), schemaStr=SCHEMA).link(op)
    assert empty.collectToDataframe().shape == (0, 3 + len(NUMBERS))
    latest = definition("LatestNCategorical", [], CATEGORIES, featureCols=["w"], numbers=[3])
    op = pyalink.GenerateFeatureOfLatestBatchOp(timeCol="t", featureDefinitions=json.dumps(latest))
    assert batch(FRAME.head(0)).link(op).collectToDataframe().shape == (0, 5 + len(CATEGORIES))


def test_a_row_without_a_time_is_told() -> None:
    latest = definition("LatestNNumeric", [], NUMBERS, featureCols=["x"], numbers=[3])
    op = pyalink.GenerateFeatureOfLatestBatchOp(timeCol="t", featureDefinitions=json.dumps(latest))
    frame = FRAME.assign(t=FRAME["t"].where(FRAME["x"].notna()))
    with pytest.raises(al.Error, match="column 't' is NULL in a row"):
        batch(frame).link(op).collectToDataframe()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[", "is no JSON"),
        ("[]", "is empty"),
        ([{"CLASS_NAME": "A"}], "is no definition of features"),
        ([definition("LatestNumeric", [], [])], "there are no features 'LatestNumericStat"),
        ([definition("TumbleWindowNumeric", [], [])], "is not computed here"),
        ([definition("LatestNNumeric", [], NUMBERS, numbers=["3"])], "no list of numbers of rows"),
        ([definition("LatestNNumeric", [], NUMBERS, numbers=[0], featureCols=["x"])], "1 or more"),
        ([definition("LatestNNumeric", [], [], numbers=[3])], "no list of statistics"),
        ([definition("LatestNNumeric", [], NUMBERS, numbers=[1], featureCols=["xx"])], "mean x"),
        (
            [definition("LatestNNumeric", ["h"], NUMBERS, numbers=[1], featureCols=["x"])],
            'column "h"',
        ),
        ([definition("LatestNNumeric", [], NUMBERS, numbers=[1], featureCols=["w"])], "of numbers"),
        (
            [definition("LatestNNumeric", [], [stat("SUMM")], numbers=[1], featureCols=["w"])],
            "did you mean",
        ),
        (
            [
                definition(
                    "LatestNNumeric", [], [stat("LastN", n=0)], numbers=[1], featureCols=["x"]
                )
            ],
            "n of LastN is 0",
        ),
        (
            [
                definition(
                    "LatestNNumeric", [], [stat("KvStat", n=1)], numbers=[1], featureCols=["x"]
                )
            ],
            "no statistic 'KvStat'",
        ),
        (
            [definition("LatestTimeSlotNumeric", [], NUMBERS, timeSlots=["1w"], featureCols=["x"])],
            '"timeSlots" cannot be',
        ),
        (
            2 * [definition("LatestNNumeric", [], NUMBERS, numbers=[1], featureCols=["x"])],
            'two columns "n_ln_1__count_x"',
        ),
    ],
)
def test_wrong_definitions(text: Any, said: str) -> None:
    given = text if isinstance(text, str) else json.dumps(text)
    op = pyalink.GenerateFeatureOfLatestBatchOp(timeCol="t", featureDefinitions=given)
    with pytest.raises(al.Error, match="ALK") as failure:
        op.linkFrom(batch())
    assert said in str(failure.value)


def test_steps_that_do_not_divide_their_slot_are_refused() -> None:
    steps = {"windowTimes": ["10s"], "stepTimes": ["3s"]}
    text = json.dumps([definition("SlotWindowNumeric", [], NUMBERS, featureCols=["x"], **steps)])
    op = pyalink.GenerateFeatureOfWindowBatchOp(timeCol="t", featureDefinitions=text)
    with pytest.raises(al.Error, match="a slot of 10s cannot be cut in steps of 3s"):
        op.linkFrom(batch())
