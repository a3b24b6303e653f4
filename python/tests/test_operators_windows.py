"""Windows of rows and of times: what a clause gives is checked against its definition."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

import alink as al
from pyalink import alink as pyalink

SCHEMA = "g string, x bigint, w string, t timestamp"
EPOCH = pd.Timestamp("2024-01-01")


def rows(count: int = 60) -> pd.DataFrame:
    draw = np.random.default_rng(7)
    x = pd.array(draw.integers(0, 5, count), dtype="Int64")
    x[3] = pd.NA
    return pd.DataFrame(
        {
            "g": draw.choice(["a", "ü", "c d"], count),
            "x": x,
            "w": draw.choice(["p", "q", "ß"], count),
            "t": EPOCH + pd.to_timedelta(draw.integers(0, 40, count), unit="s"),
        }
    )


FRAME = rows()


def stream(frame: pd.DataFrame = FRAME, schema: str = SCHEMA) -> Any:
    return pyalink.StreamOperator.fromDataframe(frame, schemaStr=schema)


def listed(frame: pd.DataFrame) -> list[list[Any]]:
    """Give rows with None for what is NULL."""
    return [[None if pd.isna(v) else v for v in row] for row in frame.itertuples(index=False)]


def by_time(frame: pd.DataFrame) -> list[Any]:
    return list(frame.sort_values("t", kind="stable").itertuples(index=False))


def windows(frame: pd.DataFrame, keep: Any) -> list[tuple[Any, list[Any]]]:
    """Give each row, by time, with the rows of its group before it for which `keep` is true."""
    ordered = by_time(frame)
    found = []
    for i, row in enumerate(ordered):
        before = [other for other in ordered[:i] if other.g == row.g]
        found.append((row, keep(row, before)))
    return found


CLAUSE = (
    "count_preceding(x) as n, sum(x) as s, listagg_preceding(w, '-') as l, "
    "lag(w, 2, 'none') as two, "
    "last_distinct(w) as other, is_exist(w) as seen, freq(w) as often, rank() as r, "
    "lag(x) as known, lag_including_null(x) as any, last_distinct(w, x) as others, "
    "last_value(x) as here, last_value(x, 2) as second, freq_preceding(w) as before, "
    "last_value_including_null(x, 2) as any2, last_distinct_including_null(x, w) as otherx, "
    "last_time(x) as time, last_time(x, 2) as time2, sum_last(x, 2) as two_sum, "
    "dense_rank(w) as d, row_number() as number, count(distinct w) as words, avg(x) * 2 as twice"
)


def unlike(one: Any, other: Any) -> bool:
    return bool(pd.isna(one) != pd.isna(other) or (not pd.isna(one) and one != other))


def expected(row: Any, before: list[Any]) -> list[Any]:
    here = [*before, row]
    xs = [int(r.x) for r in here if not pd.isna(r.x)]
    words = [r.w for r in before]
    others = [w for w in words if w != row.w]
    known = [int(r.x) for r in before if not pd.isna(r.x)]

    def x_of(found: list[Any]) -> Any:
        return None if not found or pd.isna(found[-1].x) else found[-1].x

    every = [r.w for r in here]
    return [
        sum(not pd.isna(r.x) for r in before),
        sum(xs) if xs else None,
        "-".join(words) if words else None,
        words[-2] if len(words) > 1 else "none",
        others[-1] if others else None,
        row.w in words,
        every.count(row.w),
        1 + sum(r.t < row.t for r in before),
        known[-1] if known else None,
        x_of(before),
        x_of([r for r in before if r.w != row.w]),
        x_of([row]),
        known[-2] if len(known) > 1 else None,
        words.count(row.w),
        x_of(before[:-1]),
        next((r.w for r in reversed(before) if unlike(r.x, row.x)), None),
        row.t,
        next(iter([r.t for r in before if not pd.isna(r.x)][-2:-1]), None),
        sum(0 if pd.isna(r.x) else int(r.x) for r in here[-2:]),
        len({r.t for r in here}),
        len(every),
        len(set(every)),
        pytest.approx(2 * sum(xs) / len(xs)) if xs else None,
    ]


@pytest.mark.parametrize("count", [None, 0, 1, 3])
def test_windows_of_rows(count: int | None) -> None:
    op = pyalink.OverCountWindowStreamOp(timeCol="T", groupCols=["g"], clause=CLAUSE)
    op.setReservedCols(["w", "t"])
    if count is not None:
        op.setPrecedingRows(count)

    def keep(_row: Any, before: list[Any]) -> list[Any]:
        return before if count is None else before[len(before) - min(count, len(before)) :]

    wanted = [[row.w, row.t, *expected(row, before)] for row, before in windows(FRAME, keep)]
    assert listed(stream().link(op).collectToDataframe()) == wanted


@pytest.mark.parametrize("length", [5, "5s", 0.5, None])
def test_windows_of_times(length: Any) -> None:
    op = pyalink.OverTimeWindowStreamOp(timeCol="t", groupCols=["g"], clause=CLAUSE)
    op.setReservedCols(["w", "t"]).setPrecedingTime(length)
    seconds = {5: 5, "5s": 5, 0.5: 0.5, None: 1000}[length]

    def keep(row: Any, before: list[Any]) -> list[Any]:
        return [other for other in before if (row.t - other.t).total_seconds() <= seconds]

    wanted = [[row.w, row.t, *expected(row, before)] for row, before in windows(FRAME, keep)]
    assert listed(stream().link(op).collectToDataframe()) == wanted


def test_windows_of_a_batch_are_ordered_by_any_column() -> None:
    op = pyalink.OverWindowBatchOp(
        groupCols=["g"], orderBy="t desc", clause="sum(x) as s, rank(x) as r"
    )
    batch = pyalink.BatchOperator.fromDataframe(FRAME, schemaStr=SCHEMA)
    found = batch.link(op).collectToDataframe()
    assert list(found.columns) == ["g", "x", "w", "t", "s", "r"]
    ordered = FRAME.sort_values(["g", "t"], ascending=[True, False], kind="stable")
    sums = ordered["x"].fillna(0).groupby(ordered["g"]).cumsum()
    assert [row[:4] for row in listed(found)] == listed(ordered)
    assert found["s"].fillna(0).tolist() == sums.tolist()
    groups = [rows["x"].tolist() for _, rows in ordered.groupby("g")]
    ranks = [
        None if pd.isna(x) else 1 + sum(not pd.isna(y) and y < x for y in xs[:i])
        for xs in groups
        for i, x in enumerate(xs)
    ]
    known = found["x"].notna()
    assert found["r"][known].tolist() == [r for r in ranks if r is not None]


def test_tables_gather_in_cells() -> None:
    op = pyalink.OverCountWindowStreamOp(timeCol="t", groupCols=["g"], precedingRows=2)
    op.setClause("MTABLE_AGG_PRECEDING(x, w) as m").setReservedCols([])
    found = stream().link(op).collectToDataframe()["m"]
    tables = [str(cell) for cell in found]
    assert '"x":[],"w":[]' in tables[0].replace(" ", "")

    def last(_row: Any, before: list[Any]) -> list[Any]:
        return before[-2:]

    wanted = [[r.w for r in before] for _, before in windows(FRAME, last)]
    assert [json.loads(text)["data"]["w"] for text in tables] == wanted


def spans(frame: pd.DataFrame, length: int, step: int) -> dict[tuple[Any, Any, str], list[Any]]:
    """Give the values of each window of each group: (end, start, group)."""
    found: dict[tuple[Any, Any, str], list[Any]] = {}
    for row in by_time(frame):
        second = int(row.t.timestamp())
        for start in range(second - second % step, second - length, -step):
            begin, end = (pd.Timestamp(s, unit="s") for s in (start, start + length))
            found.setdefault((end, begin, row.g), []).append(row)
    return dict(sorted(found.items()))


@pytest.mark.parametrize(("length", "step"), [(10, 10), (10, 4), (4, 10)])
def test_tumbling_and_hopping_windows(length: int, step: int) -> None:
    word = "tumble" if length == step else "hop"
    clause = f"{word}_start() as a, {word}_end() as b, count(*) as n, listagg(w) as l, sum(x) as s"
    given = {"timeCol": "t", "groupCols": ["g"], "windowTime": f"{length}s", "clause": clause}
    op: Any = (
        pyalink.TumbleTimeWindowStreamOp(**given)
        if length == step
        else pyalink.HopTimeWindowStreamOp(hopTime=step, **given)
    )
    wanted = [
        [
            group, start, end, len(of), ",".join(r.w for r in of),
            sum(int(r.x) for r in of if not pd.isna(r.x)),
        ]
        for (end, start, group), of in spans(FRAME, length, step).items()
    ]  # fmt: skip
    assert listed(stream().link(op).collectToDataframe()) == wanted


def test_sessions_end_with_silence() -> None:
    seconds = [0, 2, 5, 20, 1, 8]
    frame = pd.DataFrame(
        {"g": list("aaaabb"), "t": EPOCH + pd.to_timedelta(seconds, unit="s"), "x": range(6)}
    )
    op = pyalink.SessionTimeWindowStreamOp(timeCol="t", groupCols=["g"], sessionGapTime="3s")
    op.setClause("session_start() as a, session_end() as b, sum(x) as s")
    found = stream(frame, "g string, t timestamp, x int").link(op).collectToDataframe()
    assert [
        (row.g, (row.a - EPOCH).seconds, (row.b - EPOCH).seconds, row.s)
        for row in found.itertuples()
    ] == [("b", 1, 4, 4), ("a", 0, 8, 3), ("b", 8, 11, 5), ("a", 20, 23, 3)]


def test_no_rows() -> None:
    none = stream(FRAME.head(0))
    given: dict[str, Any] = {"timeCol": "t", "clause": "sum(x) as s"}
    for op in (
        pyalink.OverTimeWindowStreamOp(precedingTime="1M", **given),
        pyalink.SessionTimeWindowStreamOp(sessionGapTime=1, **given),
    ):
        assert none.link(op).collectToDataframe().empty


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"clause": "sum(x)"}, "has no name"),
        ({"clause": "sum(x) as s, count(x) as S"}, "two columns of the clause are called S"),
        ({"clause": "summ(x) as s"}, "has no aggregate(.|\n)*sum"),
        ({"clause": "sum(x as s"}, "bracket is not closed"),
        ({"clause": "sum(x) as w"}, 'has a column "w" already'),
        ({"clause": "lag(x, 0) as s"}, "is not a number of rows"),
        ({"clause": "freq() as s"}, "takes one column, but 0"),
        ({"clause": "sum(x, w) as s"}, "takes one column, but 2"),
        ({"timeCol": "x"}, '"x" is BIGINT, not TIMESTAMP'),
        ({"timeCol": "tt"}, 'no column "tt"'),
        ({"groupCols": ["gg"]}, 'no column "gg"'),
        ({"precedingTime": "5 apples"}, "precedingTime"),
        ({"precedingTime": 0}, "precedingTime"),
        ({"precedingTime": True}, "precedingTime"),
    ],
)
def test_what_does_not_fit_is_told_when_it_is_linked(change: dict[str, Any], text: str) -> None:
    given = {"timeCol": "t", "precedingTime": 5, "clause": "sum(x) as s", **change}
    with pytest.raises(al.Error, match=text):
        stream().link(pyalink.OverTimeWindowStreamOp(**given))


def test_groups_have_no_current_row() -> None:
    for clause in ("count_preceding(x) as s", "lag(x) as s"):
        op = pyalink.TumbleTimeWindowStreamOp(timeCol="t", windowTime="1h", clause=clause)
        with pytest.raises(al.Error, match="which a group has not"):
            stream().link(op)


def test_a_row_without_a_time_is_refused() -> None:
    frame = FRAME.copy()
    frame.loc[4, "t"] = pd.NaT
    op = pyalink.OverCountWindowStreamOp(timeCol="t", precedingRows=1, clause="sum(x) as s")
    with pytest.raises(al.Error, match="column 't' is NULL in a row"):
        stream(frame).link(op).collectToDataframe()


def test_a_stream_without_an_end_is_refused() -> None:
    ctx = al.connect()
    try:
        endless = pyalink.StreamOperator.fromTable(
            ctx.read_generator(
                {"x": al.generate.integer(0, 9), "t": al.generate.event_time(step="1 s")}
            )
        )
        op = pyalink.OverCountWindowStreamOp(timeCol="t", clause="count(*) as n")
        with pytest.raises(al.Error, match="needs the end of its input"):
            endless.link(op)
    finally:
        ctx.close()


def test_select_is_a_stage() -> None:
    batch = pyalink.BatchOperator.fromDataframe(FRAME, schemaStr=SCHEMA)
    clause = "x + 1 as y, `w`"
    found = pyalink.Pipeline(pyalink.Select().setClause(clause)).fit(batch).transform(batch)
    wanted = batch.select(clause).collectToDataframe()
    pd.testing.assert_frame_equal(found.collectToDataframe(), wanted)


def test_to_timestamp_takes_milliseconds_and_texts() -> None:
    frame = pd.DataFrame({"m": [61_999, None], "s": ["2024-02-03 04:05:06", "('"]})
    found = stream(frame, "m bigint, s string").select(
        "to_timestamp(m) as a, to_timestamp(s) as b, 'to_timestamp(m)' as c"
    )
    assert listed(found.collectToDataframe()) == [
        [
            pd.Timestamp("1970-01-01 00:01:01.999"),
            pd.Timestamp("2024-02-03 04:05:06"),
            "to_timestamp(m)",
        ],
        [None, None, "to_timestamp(m)"],
    ]


@pytest.mark.parametrize(
    ("given", "count", "seconds"),
    [
        ({"windowLength": 30}, 1, 1800),
        ({"windowType": "hop", "windowLength": 30, "slidingLength": 10}, 3, 1800),
        ({"windowType": "SESSION", "sessionGap": 5}, 1, 300),
    ],
)
def test_windows_of_arrival(given: dict[str, Any], count: int, seconds: int) -> None:
    op = pyalink.WindowGroupByStreamOp(intervalUnit="MINUTE", groupByClause="g", **given)
    found = stream().link(op.setSelectClause("g, sum(x) as s")).collectToDataframe()
    assert list(found.columns) == ["g", "s", "window_start", "window_end"]
    sums = {group: rows["x"].sum() for group, rows in FRAME.groupby("g")}
    for _, rows in found.groupby("window_start"):
        assert dict(zip(rows["g"], rows["s"], strict=True)) == sums
    starts = found["window_start"].drop_duplicates()
    assert len(starts) == count
    assert ((found["window_end"] - found["window_start"]).dt.total_seconds() == seconds).all()
    now = pd.Timestamp.now("UTC").tz_localize(None)
    near = pd.Timedelta(minutes=1)
    assert (found["window_start"] <= now).all()
    assert (found["window_end"] > now - near).all()


def test_windows_of_arrival_need_their_length() -> None:
    op = pyalink.WindowGroupByStreamOp(selectClause="count(*) as n", windowType="SESSION")
    with pytest.raises(al.Error, match='"sessionGap" cannot be None, with windowType SESSION'):
        stream().link(op)


@pytest.mark.parametrize(
    ("index", "count"),
    [("PV", 5), ("UV", 3), ("uip", 3), ("CARDINALITY_ESTIMATE_HYPERLOGLOG", 3)],
)
def test_web_traffic(index: str, count: int) -> None:
    frame = pd.DataFrame({"ip": ["a", "ü", None, "a", "a"]})
    given = stream(frame, "ip string")
    op = pyalink.WebTrafficIndexStreamOp(selectedCol="IP", index=index).linkFrom(given)
    assert op.getSchemaStr() == f"functionName VARCHAR, {index.upper()} BIGINT"
    assert listed(op.collectToDataframe()) == [["window", count], ["all", count]]


def test_web_traffic_of_no_rows_and_of_other_indices() -> None:
    given = stream(pd.DataFrame({"ip": pd.Series([], dtype="string")}), "ip string")
    op = pyalink.WebTrafficIndexStreamOp(selectedCol="ip", index="UV").linkFrom(given)
    assert len(op.collectToDataframe()) == 0
    with pytest.raises(al.Error, match="\"index\" cannot be 'PVS'"):
        pyalink.WebTrafficIndexStreamOp(selectedCol="ip", index="PVS").linkFrom(given)
    with pytest.raises(al.Error, match="timeInterval cannot be 0"):
        pyalink.WebTrafficIndexStreamOp(selectedCol="ip", timeInterval=0).linkFrom(given)
