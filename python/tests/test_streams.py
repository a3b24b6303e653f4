"""Streams: generators, watermarks, windows, checkpoints, from the client."""

from __future__ import annotations

import datetime
import itertools
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import alink as al
from alink import generate
from alink._options import duration_us


def events(ctx, rows=None, **options):
    return ctx.read_generator(
        {
            "id": generate.sequence(),
            "user name": generate.integer(0, 10, nulls=0.1),
            "n": generate.integer(0, 100),
            "x": generate.double(),
            "word": generate.choice(["a", "ü"]),
            "ts": generate.event_time("2024-02-28T23:59:50", step="10 ms", disorder="1 second"),
        },
        rows=rows,
        **options,
    )


def per_window(table, size="1 minute"):
    return (
        table.with_watermark("ts", "1 second")
        .window("tumble", size, on="ts")
        .group_by({"user": '"user name"'})
        .agg({"mean n": "avg(n)"}, rows="count(*)", total="sum(n)")
    )


def test_generated_rows_follow_from_the_seed(shared_ctx):
    first = events(shared_ctx, 1000).to_arrow()
    assert first.num_rows == 1000
    assert first.equals(events(shared_ctx, 1000, batch_rows=7).to_arrow())
    assert not first["n"].equals(events(shared_ctx, 1000, seed=1).to_arrow()["n"])
    assert first["id"].to_pylist() == list(range(1000))
    assert first["ts"].type == pa.timestamp("us")
    assert 0 < first["user name"].null_count < 300
    assert set(first["word"].to_pylist()) == {"a", "ü"}
    assert all(0 <= x < 1 for x in first["x"].to_pylist())


@pytest.mark.anywhere
def test_windows_of_a_table_equal_the_relational_answer(shared_ctx):
    table = events(shared_ctx, 20_000)
    got = per_window(table).order_by("window_start", "user").to_arrow()
    expected = (
        table.group_by({"window_start": "date_trunc('minute', ts)", "user": '"user name"'})
        .agg({"mean n": "avg(n)"}, rows="count(*)", total="sum(n)")
        .order_by("window_start", "user")
        .to_arrow()
    )
    assert got.column_names == ["window_start", "window_end", "user", "mean n", "rows", "total"]
    assert got.drop_columns("window_end").equals(expected)
    assert got["window_start"][0].as_py() == datetime.datetime(2024, 2, 28, 23, 59)
    assert got["window_end"][0].as_py() == datetime.datetime(2024, 2, 29)


@pytest.mark.anywhere
def test_windows_of_uploaded_tables(shared_ctx):
    utc = datetime.timezone.utc
    times = [datetime.datetime(1969, 12, 31, 23, 59, 59, tzinfo=utc), None]
    table = pa.table({"ts": pa.array(times, pa.timestamp("ns", "Europe/Berlin"))})
    windows = shared_ctx.from_arrow(table.slice(0, 1)).window("tumble", "1 day", on="TS")
    (row,) = windows.agg(n="count(*)").collect()
    assert row["window_start"].replace(tzinfo=utc) == datetime.datetime(1969, 12, 31, tzinfo=utc)
    assert row["n"] == 1
    empty = shared_ctx.from_arrow(table.slice(0, 0)).window("tumble", "1 day", on="ts")
    assert empty.agg(n="count(*)").collect() == []
    with pytest.raises(al.DataError, match='event time "ts" is NULL') as caught:
        shared_ctx.from_arrow(table).window("tumble", "1 day", on="ts").agg(n="count(*)").collect()
    assert "IS NOT NULL" in caught.value.diagnostic.hint


@pytest.mark.parametrize(
    ("name", "ask"),
    [
        ("to_pandas", lambda t: t.to_pandas()),
        ("to_arrow", lambda t: t.to_arrow()),
        ("collect", lambda t: t.collect()),
        ("count", lambda t: t.count()),
        ("__arrow_c_stream__", pa.table),
        ("order_by", lambda t: next(t.order_by("id").iter_batches())),
        ("distinct", lambda t: next(t.select("word").distinct().iter_batches())),
        ("agg", lambda t: next(t.group_by("word").agg(n="count(*)").iter_batches())),
        ("join", lambda t: next(t.join(t.limit(3), on="id").iter_batches())),
        ("write_parquet", lambda t: t.write_parquet("/tmp/never.parquet")),
    ],
)
def test_what_needs_the_end_says_so(shared_ctx, name, ask):
    table = events(shared_ctx)
    assert table.unbounded
    with pytest.raises(al.PlanError) as caught:
        ask(table.filter("n > 3").with_columns(m="n + 1"))
    diagnostic = caught.value.diagnostic
    assert diagnostic.code == "ALK1030"
    assert diagnostic.operator == name
    assert diagnostic.message.startswith(f"{name} ")
    assert diagnostic.source is not None
    assert diagnostic.hint


def test_the_text_of_what_needs_the_end(shared_ctx):
    with pytest.raises(al.PlanError) as caught:
        events(shared_ctx).to_pandas()
    assert str(caught.value).splitlines()[0] == (
        "ALK1030: to_pandas needs the end of its input, but a stream has none"
    )
    assert len(str(caught.value).splitlines()) <= 15


def test_a_limit_makes_a_stream_a_table(shared_ctx):
    table = events(shared_ctx).filter("id % 2 = 0").limit(5, offset=2)
    assert not table.unbounded
    assert table.order_by("id DESC").to_arrow()["id"].to_pylist() == [12, 10, 8, 6, 4]
    assert table.count() == 5
    assert events(shared_ctx).limit(0).count() == 0


@pytest.mark.anywhere
def test_rows_are_read_as_they_come(shared_ctx):
    @al.udf("bigint")
    def twice(n):
        return 2 * n

    table = events(shared_ctx, batch_rows=10).with_columns(m=twice("n"))
    seen = 0
    for batch in itertools.islice(table.iter_batches(), 3):
        assert batch["m"].to_pylist() == [2 * n for n in batch["n"].to_pylist()]
        seen += batch.num_rows
    assert seen == 30


def test_windows_of_a_stream_come_as_they_end(shared_ctx):
    rows = per_window(events(shared_ctx, rows_per_second=50_000), "10 seconds").iter_batches()
    first = next(rows)
    rows.close()
    assert first["window_start"][0].as_py() == datetime.datetime(2024, 2, 28, 23, 59, 40)


def test_a_stream_is_written_stopped_and_resumed(ctx, tmp_path, eventually):
    def start(rate, wait):
        return per_window(events(ctx, 60_000, rows_per_second=rate), "10 seconds").write_parquet(
            tmp_path / "out",
            name="per-user",
            checkpoint=tmp_path / "state",
            checkpoint_interval="50 ms",
            wait=wait,
        )

    job = start(20_000, False)
    assert eventually(lambda: job.metrics().get("checkpoints", {}).get("completed", 0) >= 3, 60)
    metrics = job.metrics()
    assert metrics["checkpoints"]["last_bytes"] > 0
    windows = next(o for o in metrics["operators"] if o["name"] == "window")
    assert windows["watermark"].startswith("2024-02-")
    assert windows["lag_s"] > 0
    with pytest.raises(al.DataError, match="in use by another job"):
        start(None, True)
    job.cancel()
    with pytest.raises(al.Cancelled):
        job.result(60)

    with pytest.raises(al.PlanError, match=r"step 1, read_generator: seed was not given, is 5"):
        per_window(events(ctx, 60_000, seed=5), "10 seconds").write_parquet(
            tmp_path / "out", name="per-user", checkpoint=tmp_path / "state"
        )

    resumed = start(None, True)
    assert resumed.metrics()["checkpoints"]["restored"] >= 3
    files = sorted((tmp_path / "out").iterdir())
    assert all(f.name.startswith("per-user-0") for f in files)
    got = pa.concat_tables(pq.read_table(f) for f in files)
    expected = per_window(events(ctx, 60_000), "10 seconds").to_arrow()
    order = [("window_start", "ascending"), ("user", "ascending")]
    assert got.sort_by(order).equals(expected.sort_by(order))
    before = [f.stat().st_mtime_ns for f in files]
    start(None, True)  # has nothing left to do
    assert [f.stat().st_mtime_ns for f in sorted((tmp_path / "out").iterdir())] == before


def test_bad_options_of_streams(shared_ctx, tmp_path):
    table = events(shared_ctx, 10)
    for ask, text in [
        (lambda: table.with_watermark("ts", "5 parsecs"), "delay must be a time span"),
        (lambda: table.with_watermark("ts", "-5 s"), "delay must be a time span"),
        (lambda: table.window("tumble", "0 s", on="ts"), "size must be a time span"),
        (lambda: table.window("hop", "1 s", on="ts"), "kind must be one of 'tumble'"),
        (lambda: table.window("tumble", "1 month", on="ts"), "size must be a time span"),
        (lambda: table.write_parquet("x", checkpoint=tmp_path), "needs a name="),
        (lambda: table.write_parquet("x", name="x"), "name= goes with checkpoint="),
        (lambda: shared_ctx.read_generator({}), "schema must be a dict"),
        (lambda: shared_ctx.read_generator({"a": "int"}), "must be made by alink.generate"),
        (lambda: events(shared_ctx, rows_per_second=0), "rows_per_second must be positive"),
        (lambda: generate.integer(3, 3), "low must be below high"),
        (lambda: generate.integer(0, 3, nulls=2), "nulls must be within 0 and 1"),
        (lambda: generate.choice("abc"), "a list of strings"),
        (lambda: generate.choice([]), "a list of strings"),
        (lambda: generate.event_time("yesterday"), "start must be a time"),
        (lambda: generate.sequence(2**63), "start must be a 64-bit integer"),
    ]:
        with pytest.raises(al.PlanError) as caught:
            ask()
        assert caught.value.diagnostic.code == "ALK1006"
        assert text in caught.value.diagnostic.message


def test_time_spans():
    for text, us in {
        "500 ms": 500_000,
        "1.5s": 1_500_000,
        "1 Minute": 60_000_000,
        "2 hours": 7_200_000_000,
        "1 day": 86_400_000_000,
        "7 us": 7,
    }.items():
        assert duration_us("f", "o", text) == us
    assert duration_us("f", "o", datetime.timedelta(seconds=3)) == 3_000_000


def test_explain_shows_streams(shared_ctx, tmp_path):
    text = per_window(events(shared_ctx)).explain()
    assert text.splitlines()[0].startswith("window tumble 60 s on ts: mean n = avg(n)")
    assert "with_watermark ts delay=1 s" in text
    assert "read_generator endless [id, user name, n, x, word, ts]" in text
    assert not list(Path(tmp_path).iterdir())


def test_what_needs_the_end_names_its_method(shared_ctx):
    numbers = shared_ctx.read_generator({"n": al.generate.integer(0, 9)})
    for call, method in ((numbers.describe, "describe"), (lambda: numbers.fit(len), "fit")):
        with pytest.raises(al.PlanError, match=f"ALK1030: {method} needs the end") as caught:
            call()
        assert caught.value.diagnostic.source is not None


def test_an_event_time_of_null_tells_the_line(shared_ctx):
    times = shared_ctx.from_arrow(pa.table({"ts": pa.array([1, None], pa.timestamp("us"))}))
    for rows in (times, times.with_watermark("ts", "0 seconds")):
        windows = rows.window("tumble", "1 minute", on="ts").group_by().agg(n="count(*)")
        with pytest.raises(al.Error, match='the event time "ts" is NULL in a row') as caught:
            windows.collect()
        assert caught.value.diagnostic.source is not None
