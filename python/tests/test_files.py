"""Tables in files: Parquet, CSV and JSON, through the real engine."""

# ruff: noqa: E501 messages stand as users see them

from __future__ import annotations

import csv
import datetime
import decimal
import io
import json
import math
import os
import random
import subprocess
import sys
import textwrap

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import alink as al

UTC = datetime.timezone.utc
FORMATS = ["parquet", "csv", "json"]
ENDINGS = {"parquet": "parquet", "csv": "csv", "json": "jsonl"}


def read(ctx, kind, path, **options):
    return getattr(ctx, f"read_{kind}")(path, **options)


def write(table, kind, path, **options):
    return getattr(table, f"write_{kind}")(path, **options)


def names(folder):
    """All files below a folder, hidden ones too."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


SCALARS = pa.table(
    {
        "b": pa.array([True, None, False]),
        "i8": pa.array([-128, None, 127], pa.int8()),
        "i64": pa.array([-(2**63), None, 2**63 - 1], pa.int64()),
        "u64": pa.array([0, None, 2**64 - 1], pa.uint64()),
        "f32": pa.array([1.5, None, float("inf")], pa.float32()),
        "f64": pa.array([0.1, None, -1.7976931348623157e308]),
        "dec": pa.array(
            [decimal.Decimal("-123456789012345678901234567.89"), None, decimal.Decimal("0.01")],
            pa.decimal128(38, 2),
        ),
        "s": pa.array(["", None, 'NULL, "q"\r\n ü\u0000 ']),
        "bin": pa.array([b"", None, b"\x00\xff,"], pa.binary()),
        "d": pa.array([datetime.date(1, 1, 1), None, datetime.date(9999, 12, 31)]),
        "t": pa.array([datetime.time(0, 0, 0), None, datetime.time(23, 59, 59, 999999)]),
        "ts": pa.array(
            [datetime.datetime(1, 1, 1), None, datetime.datetime(9999, 12, 31, 23, 59, 59, 999999)],
            pa.timestamp("us"),
        ),
        "ns": pa.array([-1, None, 2**63 - 1], pa.timestamp("ns")),
        "tz": pa.array(
            [
                datetime.datetime(2024, 3, 31, 1, 30, tzinfo=UTC),
                None,
                datetime.datetime(1969, 12, 31, 23, 59, 59, 1, UTC),
            ],
            pa.timestamp("us", "UTC"),
        ),
    }
)
NESTED = pa.table(
    {
        "l": pa.array([[1, None], [], None], pa.list_(pa.int64())),
        "st": pa.array(
            [{"a": 1, "b": ["x"]}, None, {"a": None, "b": None}],
            pa.struct([("a", pa.int64()), ("b", pa.list_(pa.string()))]),
        ),
        "m": pa.array([[("k", 1.5)], [], None], pa.map_(pa.string(), pa.float64())),
    }
)
DECLARED = {
    "b": "boolean",
    "i8": "tinyint",
    "i64": "bigint",
    "u64": "ubigint",
    "f32": "float",
    "f64": "double",
    "dec": "decimal(38,2)",
    "s": "string",
    "bin": "binary",
    "d": "date",
    "t": "time",
    "ts": "timestamp",
    "ns": "timestamp_ns",
    "tz": "timestamptz",
}


@pytest.mark.parametrize("kind", FORMATS)
def test_round_trip_of_every_type(shared_ctx, kind, tmp_path):
    path = tmp_path / f"t.{ENDINGS[kind]}"
    write(shared_ctx.from_arrow(SCALARS), kind, path)
    schema = None if kind == "parquet" else DECLARED
    assert read(shared_ctx, kind, path, schema=schema).to_arrow().equals(SCALARS)
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize("kind", ["parquet", "json"])
def test_round_trip_of_nested_types(shared_ctx, kind, tmp_path):
    path = tmp_path / f"n.{ENDINGS[kind]}"
    write(shared_ctx.from_arrow(NESTED), kind, path)
    schema = None if kind == "parquet" else {"m": "map<string, double>"}
    assert read(shared_ctx, kind, path, schema=schema).to_arrow().to_pylist() == NESTED.to_pylist()


def test_csv_holds_nested_values_as_json(shared_ctx, tmp_path):
    shared_ctx.from_arrow(NESTED).write_csv(tmp_path / "n.csv")
    rows = shared_ctx.read_csv(tmp_path / "n.csv").collect()
    assert [json.loads(r["l"]) if r["l"] else None for r in rows] == [[1, None], [], None]
    assert json.loads(rows[0]["st"]) == {"a": 1, "b": ["x"]}
    assert json.loads(rows[0]["m"]) == {"k": 1.5}


def test_what_json_has_no_form_for(shared_ctx, tmp_path):
    table = pa.table({"x": [math.nan, math.inf, -math.inf, None, 1.0]})
    shared_ctx.from_arrow(table).write_json(tmp_path / "x.jsonl")
    rows = shared_ctx.read_json(tmp_path / "x.jsonl").to_arrow()["x"].to_pylist()
    assert math.isnan(rows[0])
    assert rows[1:] == [math.inf, -math.inf, None, 1.0]
    assert json.loads((tmp_path / "x.jsonl").read_text().splitlines()[4]) == {"x": 1.0}


@pytest.mark.parametrize("seed", range(5))
def test_csv_against_pythons_own(shared_ctx, tmp_path, seed):
    rng = random.Random(seed)
    pieces = ["a", '"', ",", "\n", "\r\n", "é", " ", "\\", "'", ";", "#", "日本", "\t"]
    rows = [
        ["".join(rng.choices(pieces, k=rng.randrange(6))) for _ in range(3)] + ["end"]
        for _ in range(200)
    ]
    with (tmp_path / "theirs.csv").open("w", newline="", encoding="utf-8") as f:
        csv.writer(f, quoting=csv.QUOTE_ALL).writerows([["a", "b", "c", "d"], *rows])
    schema = dict.fromkeys("abcd", "string")
    table = shared_ctx.read_csv(tmp_path / "theirs.csv", schema=schema)
    assert [list(r.values()) for r in table.collect()] == rows
    table.write_csv(tmp_path / "ours.csv", delimiter=";", quote="'")
    text = (tmp_path / "ours.csv").read_bytes().decode()
    back = list(csv.reader(io.StringIO(text, newline=""), delimiter=";", quotechar="'"))
    assert back == [["a", "b", "c", "d"], *rows]


@pytest.mark.parametrize("kind", FORMATS)
def test_folders_modes_and_partitions(shared_ctx, kind, tmp_path):
    table = shared_ctx.from_arrow(
        pa.table(
            {
                "k": ["a/b", None, "", "é=1", "__HIVE_DEFAULT_PARTITION__"],
                "n": [1, 2, 3, 4, 5],
                "x": [1.5, None, 2.5, 3.5, 4.5],
            }
        )
    )
    folder = tmp_path / "out"
    write(table, kind, folder, partition_by=["k", "n"])
    back = read(shared_ctx, kind, folder)
    assert back.columns == ["x", "k", "n"]
    assert back.schema.field("n").type == pa.int64()
    assert back.select("k", "n", "x").order_by("n").collect() == table.collect()
    with pytest.raises(al.DataError, match="exists already"):
        write(table, kind, folder, partition_by="k")
    write(table, kind, folder, partition_by=["k", "n"], mode="append")
    assert back.count() == 10
    write(table, kind, folder, partition_by="n", mode="overwrite")
    assert sorted(p.name for p in folder.iterdir()) == ["n=1", "n=2", "n=3", "n=4", "n=5"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert read(shared_ctx, kind, folder, columns=["n"], partitions=True).count() == 5
    with pytest.raises(al.PlanError, match='no column "n"'):
        read(shared_ctx, kind, folder, columns=["n"], partitions=False).schema  # noqa: B018


@pytest.mark.parametrize("kind", FORMATS)
def test_a_path_with_a_slash_is_a_folder(shared_ctx, kind, tmp_path):
    table = shared_ctx.from_arrow(pa.table({"x": [1]}))
    write(table, kind, f"{tmp_path}/new/")
    write(table, kind, f"{tmp_path}/new/", mode="append")
    assert names(tmp_path) == [f"new/part-0000{i}.{ENDINGS[kind]}" for i in range(2)]
    with pytest.raises(al.PlanError, match="is a file"):
        write(table, kind, tmp_path / f"t.{ENDINGS[kind]}", mode="append")


@pytest.mark.parametrize("kind", ["csv", "json"])
@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_compressed_text(shared_ctx, kind, ending, tmp_path):
    table = shared_ctx.from_arrow(pa.table({"x": list(range(10_000))}))
    path = tmp_path / f"t.{ENDINGS[kind]}{ending}"
    write(table, kind, path)
    assert path.stat().st_size < 50_000
    assert read(shared_ctx, kind, path).to_arrow()["x"].to_pylist() == list(range(10_000))
    write(table, kind, f"{tmp_path}/f/", compression={".gz": "gzip", ".zst": "zstd"}[ending])
    assert read(shared_ctx, kind, tmp_path / "f").count() == 10_000


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_may_replace_itself(shared_ctx, kind, tmp_path):
    path = tmp_path / f"t.{ENDINGS[kind]}"
    write(shared_ctx.from_arrow(pa.table({"x": list(range(200_000))})), kind, path)
    write(read(shared_ctx, kind, path).filter("x % 2 = 0"), kind, path, mode="overwrite")
    assert read(shared_ctx, kind, path).count() == 100_000
    write(read(shared_ctx, kind, path), kind, f"{tmp_path}/f/")
    write(read(shared_ctx, kind, tmp_path / "f"), kind, tmp_path / "f", mode="append")
    write(read(shared_ctx, kind, tmp_path / "f"), kind, tmp_path / "f", mode="overwrite")
    assert read(shared_ctx, kind, tmp_path / "f").count() == 200_000


@pytest.mark.parametrize("kind", FORMATS)
def test_empty_tables_and_odd_names(shared_ctx, kind, tmp_path):
    table = pa.table({"a b": pa.array([], pa.int64()), 'q"é': pa.array([], pa.string())})
    path = tmp_path / f"weird, 'name'.{ENDINGS[kind]}"
    write(shared_ctx.from_arrow(table), kind, path)
    back = read(shared_ctx, kind, path)
    assert back.count() == 0
    assert back.columns == ([] if kind == "json" else table.column_names)


def test_options_of_csv(shared_ctx, tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("made today\n# a;b\na;b\n1;'x;\\'y'\nNA;-\n", encoding="utf-8-sig")
    table = shared_ctx.read_csv(
        path,
        delimiter=";",
        quote="'",
        escape="\\",
        comment="#",
        skip_rows=1,
        null_values=["NA", "-"],
    )
    assert table.collect() == [{"a": 1, "b": "x;'y"}, {"a": None, "b": None}]
    path.write_text("1,2\n")
    assert shared_ctx.read_csv(path, header=False, schema="x int, y string").collect() == [
        {"x": 1, "y": "2"}
    ]
    for options, message in [
        ({"encoding": "latin-1"}, "only UTF-8 is"),
        ({"delimiter": "||"}, "one ASCII character"),
        ({"delimiter": '"'}, "both"),
        ({"header": 1}, "True or False"),
        ({"sample_rows": 0}, "at least 1"),
        ({"schema": {"z": "int"}}, 'no column "z"'),
        ({"columns": ["z"]}, 'no column "z"'),
    ]:
        with pytest.raises(al.PlanError, match=message):
            shared_ctx.read_csv(path, **options).to_arrow()


# --- what goes wrong ---


def text_of(error, tmp_path):
    lines = str(error).replace(str(tmp_path), "DIR").splitlines()
    return "\n".join(line for line in lines if not line.startswith(("  File", "    ")))


GOLDEN = {
    "late.csv": (
        "id,delay\n" + "1,2\n" * 10_000 + "7,abc\n",
        'ALK4010: DIR/late.csv, line 10002: the value "abc" of column "delay" does not fit its type bigint\n'
        "  the type was found by looking at the first rows\n"
        '  hint: declare the column: schema={"delay": "string"}',
    ),
    "latin.csv": (
        b"id,name\n1,M\xfcller\n",
        'ALK4010: DIR/latin.csv, line 2: the value "M\\xfcller" of column "name" is not UTF-8\n'
        "  hint: convert the file to UTF-8: iconv -f LATIN1 -t UTF-8 …",
    ),
    "ragged.csv": (
        "id,name\n1,a\n2,b,c\n",
        "ALK4002: DIR/ragged.csv, line 3 has 3 fields instead of 2\n"
        '  the line is "2,b,c\\n"\n'
        "  hint: a field that holds ',' or a line end must be in quotes; delimiter=, quote= and escape= say how the file is written",
    ),
    "open.csv": (
        'id,name\n1,"a\n',
        "ALK4002: DIR/open.csv cannot be read as CSV\n"
        "  because: line 2: field 2 begins with a quote that is not closed\n"
        "  hint: check that the file is whole and that it is CSV",
    ),
    "cut.jsonl": (
        '{"a": 1}\n{"a": ',
        "ALK4002: DIR/cut.jsonl, line 2 is not JSON\n"
        '  in the column "a"\n'
        "  because: the file ends in the middle of a value\n"
        "  hint: a file holds JSON objects, one a line, or one array of objects",
    ),
    "late.jsonl": (
        '{"a": 1}\n' * 10_000 + '{"a": 1.5}\n',
        'ALK4010: DIR/late.jsonl, line 10001: the value "1.5" of column "a" does not fit its type bigint\n'
        "  the type was found by looking at the first rows\n"
        '  hint: declare the column: schema={"a": "string"}',
    ),
    "text.parquet": (
        "a,b\n1,2\n",
        "ALK4002: DIR/text.parquet cannot be read as Parquet\n"
        "  because: parquet: file too small (size=8)\n"
        "  hint: check that the file is whole and that it is Parquet",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_texts_of_bad_files(shared_ctx, name, tmp_path):
    content, want = GOLDEN[name]
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    kind = {"csv": "csv", "jsonl": "json", "parquet": "parquet"}[path.suffix[1:]]
    with pytest.raises(al.DataError) as caught:
        read(shared_ctx, kind, path).to_arrow()
    assert text_of(caught.value, tmp_path) == want
    assert caught.value.diagnostic.operator == f"read_{kind}"


def test_damaged_parquet_names_column_and_row_group(shared_ctx, tmp_path):
    path = tmp_path / "t.parquet"
    rng = random.Random(1)
    table = pa.table(
        {"a": [rng.random() for _ in range(3_000)], "b": [rng.random() for _ in range(3_000)]}
    )
    pq.write_table(table, path, row_group_size=1_000, compression="zstd", use_dictionary=False)
    column = pq.ParquetFile(path).metadata.row_group(1).column(1)
    content = bytearray(path.read_bytes())
    start = column.data_page_offset
    content[start : start + 200] = bytes(200)
    path.write_bytes(content)
    with pytest.raises(al.DataError) as caught:
        shared_ctx.read_parquet(path).to_arrow()
    assert 'in the column "b" of row group 2 of 3 (rows 1000 to 1999)' in str(caught.value)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(al.DataError, match="cannot be read as Parquet"):
        shared_ctx.read_parquet(path).schema  # noqa: B018


def test_missing_files_and_folders(shared_ctx, tmp_path):
    (tmp_path / "flights.csv").write_text("a\n1\n")
    (tmp_path / "notes.md").write_text("")
    for path, message in [
        ("flihgts.csv", r"did you mean .*/flights\.csv\?"),
        ("x*.csv", "holds flights.csv, notes.md"),
        (".", "such as notes.md"),
        ("no/where/*.csv", "nothing matches"),
    ]:
        with pytest.raises(al.DataError, match=message):
            shared_ctx.read_csv(tmp_path / path).schema  # noqa: B018
    with pytest.raises(al.DataError, match="that are not JSON"):
        shared_ctx.read_json(tmp_path).schema  # noqa: B018
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(al.DataError, match="not a regular file"):
        shared_ctx.read_csv(tmp_path / "pipe.csv").schema  # noqa: B018


@pytest.fixture
def small_disk(tmp_path):
    """A disk of one megabyte, where mounting is allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip(f"mounting is refused: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("target", ["one", "folder/", "parts"])
def test_full_disk(shared_ctx, kind, target, small_disk):
    rng = random.Random(1)
    rows = pa.table(
        {"k": [i % 3 for i in range(300_000)], "x": [rng.random() for _ in range(300_000)]}
    )
    options = {"partition_by": "k"} if target == "parts" else {}
    path = f"{small_disk}/{target}" if target != "one" else f"{small_disk}/one.{ENDINGS[kind]}"
    with pytest.raises(al.DataError) as caught:
        write(shared_ctx.from_arrow(rows), kind, path, **options)
    text = str(caught.value)
    assert "ALK4004" in text
    assert "no space left on device" in text
    assert "are free of 1.0 MiB on the disk of" in text
    assert list(small_disk.iterdir()) == []


def test_outputs_that_cannot_be_written(shared_ctx, tmp_path):
    table = shared_ctx.from_arrow(pa.table({"x": [1], "y": [1.5]}))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.doc").write_text("")
    (tmp_path / "file.csv").write_text("")
    for path, options, message in [
        ("no/where.csv", {"mode": "error"}, "make the folder"),
        ("file.csv", {"mode": "error"}, "exists already"),
        ("file.csv/", {"mode": "overwrite"}, "it is a file, not a folder"),
        ("home", {"mode": "overwrite"}, "such as thesis.doc"),
        ("home", {"mode": "error"}, "exists already"),
        ("p", {"partition_by": "z"}, 'no column "z"'),
        ("p", {"partition_by": "y"}, "cannot name folders"),
        ("x.csv.gz", {"compression": "zstd"}, "does not say"),
        ("x.csv", {"compression": "lzma"}, "cannot be"),
    ]:
        with pytest.raises(al.Error, match=message):
            table.write_csv(f"{tmp_path}/{path}", **options)
    assert names(tmp_path) == ["file.csv", "home/thesis.doc"]


def test_a_killed_engine_leaves_nothing_after_the_next_write(
    tmp_path, script_environment, pyrunner
):
    script = tmp_path / "job.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, signal, sys, time
            import pyarrow as pa
            import alink as al

            @al.udf("bigint")
            def slow(x):
                if x > 100_000:
                    print("here", flush=True)
                    time.sleep(1000)
                return x

            ctx = al.connect(parallelism=1)
            t = ctx.from_arrow(pa.table({"x": list(range(200_000))})).with_columns(y=slow("x"))
            job = t.write_csv(sys.argv[1], wait=False)
            while not any(p.startswith(".out") and os.listdir(os.path.join(os.path.dirname(sys.argv[1][:-1]), p)) for p in os.listdir(os.path.dirname(sys.argv[1][:-1]))):
                time.sleep(0.02)
            os.kill(ctx.status()["engine_pid"], signal.SIGKILL)
            """
        )
    )
    target = tmp_path / "data" / "out"
    target.parent.mkdir()
    subprocess.run(
        [sys.executable, str(script), f"{target}/"],
        check=False,
        env=script_environment,
        timeout=120,
    )
    assert [p.name[:5] for p in target.parent.iterdir()] == [".out."]
    with al.connect() as ctx:
        ctx.from_arrow(pa.table({"x": [1]})).write_csv(f"{target}/")
    assert names(target.parent) == ["out/part-00000.csv"]


@pytest.mark.parametrize("kind", FORMATS)
def test_cancel_leaves_nothing(ctx, kind, tmp_path):
    @al.udf("bigint")
    def slow(x):
        import time

        time.sleep(0.001)
        return x

    source = tmp_path / "in.csv"
    source.write_text("x\n" + "1\n" * 500_000)
    table = ctx.read_csv(source).with_columns(y=slow("x"))
    job = write(table, kind, f"{tmp_path}/out/", wait=False)
    job.cancel()
    with pytest.raises(al.Cancelled):
        job.result()
    assert names(tmp_path) == ["in.csv"]


@pytest.mark.parametrize("kind", FORMATS)
def test_writing_and_reading_release_their_memory(ctx, kind, tmp_path, eventually):
    table = ctx.from_arrow(pa.table({"x": list(range(50_000)), "s": ["abc"] * 50_000}))
    table.count()
    before = ctx.status()["arrow_bytes"]
    for _ in range(3):
        write(table, kind, tmp_path / f"t.{ENDINGS[kind]}", mode="overwrite")
        write(table, kind, f"{tmp_path}/f/", mode="overwrite")
        assert read(ctx, kind, tmp_path / "f").to_arrow().num_rows == 50_000
        assert read(ctx, kind, tmp_path / "f").head(1).collect() == [{"x": 0, "s": "abc"}]
    assert eventually(lambda: ctx.status()["arrow_bytes"] == before, timeout_s=60)


def test_a_cell_of_100_megabytes(ctx, tmp_path):
    cell = "x" * 100_000_000
    (tmp_path / "t.csv").write_text(f"a,b\n1,{cell}\n2,y\n")
    (tmp_path / "t.jsonl").write_text(f'{{"a":1,"b":"{cell}"}}\n{{"a":2,"b":"y"}}\n')
    for kind, path in [("csv", "t.csv"), ("json", "t.jsonl")]:
        rows = read(ctx, kind, tmp_path / path).select("a", n="length(b)").collect()
        assert rows == [{"a": 1, "n": 100_000_000}, {"a": 2, "n": 1}]


def test_urls(shared_ctx, tmp_path):
    path = tmp_path / "ä b.csv"
    path.write_text("x\n1\n")
    assert shared_ctx.read_csv(path.as_uri()).collect() == [{"x": 1}]
    shared_ctx.read_csv(path).write_csv(f"file://localhost{tmp_path}/out.csv")
    assert (tmp_path / "out.csv").read_text() == "x\n1\n"
    for url in ("https://example.com/x.csv", "s3://bucket/x", "file://elsewhere/x"):
        with pytest.raises(al.PlanError, match="is a URL, and only files of this machine"):
            shared_ctx.read_csv(url)
    assert not (tmp_path / "https:").exists()


def test_2000_columns(shared_ctx, tmp_path):
    table = pa.table({f"c{i}": [i, None, -i] for i in range(2_000)})
    for kind in FORMATS:
        path = tmp_path / f"t.{ENDINGS[kind]}"
        write(shared_ctx.from_arrow(table), kind, path)
        back = read(shared_ctx, kind, path)
        assert back.to_arrow().equals(table.replace_schema_metadata())
        assert back.select("c1999").collect()[0] == {"c1999": 1999}


def test_plans_show_files(shared_ctx, tmp_path):
    (tmp_path / "t.csv").write_text("a\n1\n")
    table = shared_ctx.read_csv([tmp_path / "t.csv", tmp_path / "t.csv"], columns=["a"])
    assert f"read_csv {tmp_path}/t.csv, {tmp_path}/t.csv [a]" in table.explain()
    assert table.count() == 2


def test_the_column_that_cannot_be_written_is_named(shared_ctx, tmp_path):
    table = pa.table({"a": [1], "length": pa.array([1], pa.duration("us")), "k": ["x" * 300]})
    rows = shared_ctx.from_arrow(table)
    with pytest.raises(al.Error) as caught:
        rows.write_parquet(tmp_path / "t.parquet")
    assert 'Parquet has no type for the column "length" of type duration' in str(caught.value)
    with pytest.raises(al.Error) as caught:
        rows.drop("length").write_parquet(tmp_path / "t", partition_by="k")
    assert 'a value of the column "k" is too long for the name of a folder' in str(caught.value)
    assert "it takes 300 bytes" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_columns_of_nulls_are_written_as_nulls(shared_ctx, tmp_path):
    nothing = {
        "n": pa.nulls(2),
        "s": [{"a": None}, None],
        "l": pa.array([[None], []], pa.list_(pa.null())),
    }
    rows = shared_ctx.from_arrow(pa.table(nothing))
    rows.with_columns(v="1").write_json(tmp_path / "t.json")
    lines = [json.loads(line) for line in (tmp_path / "t.json").read_text().splitlines()]
    assert lines == [
        {"n": None, "s": {"a": None}, "l": [None], "v": 1},
        {"n": None, "s": None, "l": [], "v": 1},
    ]
    rows.write_csv(tmp_path / "t.csv", null_value="-", header=False)
    assert (tmp_path / "t.csv").read_text() == '-,"{""a"":null}",[null]\n-,-,[]\n'
    assert rows.order_by("s").distinct("s").select("s").collect() == [
        {"s": {"a": None}},
        {"s": None},
    ]
