"""Sources and sinks of Alink's operators, and picks of rows: what is written is read again."""

from __future__ import annotations

import datetime
import json
import struct
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import alink as al
from alink.operators import DenseVector
from pyalink import alink as pyalink
from pyalink.alink import BatchOperator, StreamOperator

MOMENT = datetime.datetime(2024, 5, 6, 7, 8, 9, 123456)
BEFORE = datetime.datetime(1931, 5, 6, 7, 8, 9, 1)
SCHEMA = (
    "i int, l bigint, sh smallint, b tinyint, d double, f float, o boolean, s string, "
    "t timestamp, v vector"
)
ROWS: list[list[Any]] = [
    [1, 2**62 + 1, 3, -4, 1.5, 0.25, True, "plain", MOMENT, "1.0 2.5"],
    [-(2**31), -(2**63), -(2**15), 127, 1e-7, float("inf"), False, 'a,"b"', BEFORE, "$4$1:2.0"],
    [None] * 10,
    [0, 0, 0, 0, -0.0, 1e10, True, "ü 漢字 🙂", MOMENT, "1:2.0"],
    [7, 7, 7, 7, float("nan"), 7.0, False, "", MOMENT, "$3$"],
]


@pytest.fixture(autouse=True)
def _session() -> Iterator[None]:
    pyalink.resetEnv()
    yield
    pyalink.resetEnv()


def batch(rows: list[list[Any]] = ROWS, schema: str = SCHEMA) -> BatchOperator:
    return pyalink.MemSourceBatchOp(rows, schema)


def values(operator: Any) -> list[dict[str, Any]]:
    return operator.toTable().to_arrow().to_pylist()


def same(left: list[dict[str, Any]], right: list[dict[str, Any]]) -> bool:
    return repr(left) == repr(right)  # NaN is equal to itself here


def column(operator: Any, name: str) -> list[Any]:
    return [row[name] for row in values(operator)]


# --- round trips ---


@pytest.mark.parametrize("kind", ["Csv", "Tsv", "Ak"])
@pytest.mark.parametrize("form", ["Batch", "Stream"])
def test_what_is_written_is_read_again(kind: str, form: str, tmp_path: Path) -> None:
    path = str(tmp_path / "rows")
    base = BatchOperator if form == "Batch" else StreamOperator
    rows = batch()
    given = rows if form == "Batch" else StreamOperator.fromTable(rows.toTable())
    sink = getattr(pyalink, f"{kind}Sink{form}Op")().setFilePath(path)
    given.link(sink)
    assert not Path(path).exists()  # it waits
    base.execute()
    source = getattr(pyalink, f"{kind}Source{form}Op")().setFilePath(path)
    if kind != "Ak":
        source.setSchemaStr(SCHEMA)
    assert source.getSchemaStr() == rows.getSchemaStr()
    assert same(values(source), values(rows))
    assert same(values(source), values(rows))  # a second run
    assert [p.name for p in tmp_path.iterdir()] == ["rows"]


@pytest.mark.parametrize("kind", ["Csv", "Tsv", "Ak", "Text", "LibSvm"])
def test_an_output_is_replaced_only_when_told(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("before")
    schema = "s string" if kind == "Text" else "y double, v vector"
    rows = batch([["x"]] if kind == "Text" else [[1.0, "1:2.0"]], schema)

    def sink() -> Any:
        made = getattr(pyalink, f"{kind}SinkBatchOp")().setFilePath(str(path))
        return made.setLabelCol("y").setVectorCol("v") if kind == "LibSvm" else made

    rows.link(sink())
    with pytest.raises(al.Error, match=r"overwrite|setOverwriteSink|exists|already"):
        BatchOperator.execute()
    assert path.read_text() == "before"
    rows.link(sink().setOverwriteSink(True))
    BatchOperator.execute()
    assert path.read_bytes() != b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("kind", ["Csv", "Ak"])
def test_a_file_that_is_replaced_is_read_anew(kind: str, tmp_path: Path) -> None:
    path = str(tmp_path / "rows")
    for text, schema in (("one", "s string"), ("two", "s string"), ("three", "s string, n int")):
        wanted = {"s": text} | ({"n": 3} if "n int" in schema else {})
        sink = getattr(pyalink, f"{kind}SinkBatchOp")()
        batch([list(wanted.values())], schema).link(sink.setFilePath(path).setOverwriteSink(True))
        BatchOperator.execute()
        source = getattr(pyalink, f"{kind}SourceBatchOp")().setFilePath(path)
        if kind == "Csv":
            source.setSchemaStr(schema)
        assert values(source) == [wanted]


@pytest.mark.parametrize("kind", ["Csv", "Tsv", "Text", "LibSvm", "Parquet", "Ak"])
@pytest.mark.parametrize("form", ["Batch", "Stream"])
def test_a_file_that_is_missing(kind: str, form: str, tmp_path: Path) -> None:
    source = getattr(pyalink, f"{kind}Source{form}Op")().setFilePath(str(tmp_path / "none"))
    if kind in ("Csv", "Tsv"):
        source.setSchemaStr("a int")
    with pytest.raises(al.Error, match="none"):
        source.collectToDataframe()


@pytest.mark.parametrize("scheme", ["ftp", "oss", "hdfs"])
def test_urls_are_refused(scheme: str) -> None:
    for make in (
        pyalink.CsvSourceBatchOp(filePath=f"{scheme}://host/a.csv", schemaStr="a int"),
        pyalink.AkSourceBatchOp(filePath=f"{scheme}://host/a.ak"),
    ):
        with pytest.raises(al.PlanError, match="is a URL, and only files of this machine"):
            make.collectToDataframe()


@pytest.mark.parametrize("kind", ["Csv", "Tsv", "Text", "LibSvm"])
def test_a_file_of_nothing_has_no_rows(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.write_bytes(b"")
    source = getattr(pyalink, f"{kind}SourceBatchOp")().setFilePath(str(path))
    if kind in ("Csv", "Tsv"):
        source.setSchemaStr("a int, v vector")
    assert source.collectToDataframe().shape == (0, 1 if kind == "Text" else 2)


def test_tables_without_rows_are_written(tmp_path: Path) -> None:
    rows = batch([], "a int, s string")
    rows.link(pyalink.AkSinkBatchOp(filePath=str(tmp_path / "ak")))
    rows.link(pyalink.CsvSinkBatchOp(filePath=str(tmp_path / "csv")))
    rows.select("s").link(pyalink.TextSinkBatchOp(filePath=str(tmp_path / "txt")))
    rows.link(pyalink.XlsSinkBatchOp(filePath=str(tmp_path / "xlsx")))
    rows.link(pyalink.TFRecordDatasetSinkBatchOp(filePath=str(tmp_path / "tfrecord")))
    catalog = pyalink.SqliteCatalog("c", None, "3.19.3", str(tmp_path / "db"))
    table = pyalink.CatalogObject(catalog, pyalink.ObjectPath("db", "t"))
    rows.link(pyalink.CatalogSinkBatchOp(catalogObject=table))
    models = str(tmp_path / "models")
    rows.link(pyalink.AppendModelStreamFileSinkBatchOp(filePath=models))
    BatchOperator.execute()
    schema: dict[str, Any] = {"schemaStr": "a int, s string"}
    for source in (
        pyalink.AkSourceBatchOp(filePath=str(tmp_path / "ak")),
        pyalink.XlsSourceBatchOp(filePath=str(tmp_path / "xlsx"), **schema),
        pyalink.TFRecordDatasetSourceBatchOp(filePath=str(tmp_path / "tfrecord"), **schema),
        pyalink.CatalogSourceBatchOp(catalogObject=table),
        pyalink.ModelStreamFileSourceStreamOp(filePath=models),
    ):
        assert values(source) == []
    assert (tmp_path / "csv").read_bytes() == (tmp_path / "txt").read_bytes() == b""


# --- CSV ---


def csv(path: Path, text: str, schema: str, **params: Any) -> Any:
    path.write_text(text, encoding="utf-8", newline="")
    return pyalink.CsvSourceBatchOp(filePath=str(path), schemaStr=schema, **params)


def test_csv_as_it_is_met(tmp_path: Path) -> None:
    text = 'id;name\n1;"a;""b"""\n\n2;\n3;""\r\n'
    source = csv(
        tmp_path / "a.csv", text, "id int, name string", fieldDelimiter=";", ignoreFirstLine=True
    )
    assert column(source, "name") == ['a;"b"', None, ""]
    assert column(source, "id") == [1, 2, 3]


@pytest.mark.parametrize("lenient", [False, True])
def test_csv_without_quotes(lenient: bool, tmp_path: Path) -> None:
    source = csv(tmp_path / "a", 'a"b,"c\n', "x string, y string", quoteChar=None, lenient=lenient)
    assert values(source) == [{"x": 'a"b', "y": '"c'}]


def test_lenient_csv_has_null_where_a_field_is_wrong_or_missing(tmp_path: Path) -> None:
    text = '1,x,1:2\nno,y,1:x\n3\n4,"open,2.0\n5,z,1.0,more\n'
    source = csv(tmp_path / "a", text, "a int, b string, v vector", lenient=True)
    assert column(source, "a") == [1, None, 3, 4, 5]
    assert column(source, "b") == ["x", "y", None, '"open', "z"]
    assert [v is None for v in column(source, "v")] == [False, True, True, False, False]


def test_csv_leaves_out_rows_that_are_wrong_when_told(tmp_path: Path) -> None:
    source = csv(
        tmp_path / "a", "1,x\nno,y\n3\n4,z\n", "a int, b string", handleInvalidMethod="SKIP"
    )
    assert column(source, "a") == [1, 4]


@pytest.mark.parametrize("text", ["1,x\nno,y\n", "1,x\n2\n", '1,"x\n'])
def test_csv_that_is_wrong_fails(text: str, tmp_path: Path) -> None:
    for blank in (True, False):  # in the engine, and in workers
        with pytest.raises(al.Error, match=r"no|fields|quote"):
            csv(tmp_path / "a", text, "a int, b string", skipBlankLine=blank).collectToDataframe()


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("schema", ["a string", "a string, b string"])
def test_blank_lines_count_when_told(skip: bool, schema: str, tmp_path: Path) -> None:
    line = "x" if "b" not in schema else "x,y"
    source = csv(tmp_path / "a", f"{line}\n\n{line}\n", schema, skipBlankLine=skip)
    assert column(source, "a") == (["x", "x"] if skip else ["x", None, "x"])


def test_csv_with_a_long_delimiter_and_with_an_escaped_one(tmp_path: Path) -> None:
    schema = "a string, b int"
    assert column(csv(tmp_path / "a", "x::1\ny::2\n", schema, fieldDelimiter="::"), "b") == [1, 2]
    assert column(csv(tmp_path / "b", "x\t1\n", schema, fieldDelimiter="\\t"), "b") == [1]


def test_a_vector_of_csv_that_is_none_fails_with_its_text(tmp_path: Path) -> None:
    with pytest.raises(al.Error, match="'x' is not a number"):
        csv(tmp_path / "a", "1 x\n", "v vector").collectToDataframe()


def test_a_folder_of_csv(tmp_path: Path) -> None:
    rows = batch([[i, f"s{i}"] for i in range(1000)], "i int, s string")
    path = str(tmp_path / "folder")
    rows.link(pyalink.CsvSinkBatchOp(filePath=path, numFiles=2))
    BatchOperator.execute()
    assert Path(path).is_dir()
    source = pyalink.CsvSourceBatchOp(filePath=path, schemaStr="i int, s string")
    assert sorted(column(source, "i")) == list(range(1000))


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"rowDelimiter": ";"}, "rowDelimiter"),
        ({"partitions": "a=1"}, "partitions is not supported"),
        ({"schemaStr": "a tensor"}, "of TENSOR cannot be read"),
        ({"schemaStr": "a nothing"}, "schemaStr"),
    ],
)
def test_what_csv_does_not_read(params: dict[str, Any], text: str) -> None:
    with pytest.raises(al.PlanError, match=text):
        pyalink.CsvSourceBatchOp({"filePath": "a", "schemaStr": "a int", **params}).getColNames()


# --- text, LibSVM, Parquet ---


def test_lines_of_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    lines = ["first", ' "a", b ', "", "ü 漢字 🙂\ttab", "#"]
    rows = batch([[line] for line in lines], "s string")
    rows.link(pyalink.TextSinkBatchOp(filePath=str(path)))
    BatchOperator.execute()
    assert path.read_text(encoding="utf-8") == "\n".join(lines) + "\n"
    assert column(pyalink.TextSourceBatchOp(filePath=str(path)), "text") == lines
    source = pyalink.TextSourceBatchOp(filePath=str(path), ignoreFirstLine=True, textCol="line")
    assert column(source, "line") == lines[1:]


def test_text_is_one_column() -> None:
    with pytest.raises(al.PlanError, match="writes one column, not 10"):
        batch().link(pyalink.TextSinkBatchOp(filePath="a"))


def test_libsvm(tmp_path: Path) -> None:
    path = tmp_path / "a.svm"
    rows = batch([[1.0, "$5$0:1.5 3:2.0"], [-1.0, "2.0 0.5"], [0.0, ""]], "y double, v vector")
    rows.link(pyalink.LibSvmSinkBatchOp(filePath=str(path), labelCol="Y", vectorCol="v"))
    BatchOperator.execute()
    assert path.read_text() == "1.0 1:1.5 4:2.0\n-1.0 1:2.0 2:0.5\n0.0\n"
    source = pyalink.LibSvmSourceBatchOp(filePath=str(path))
    assert source.getSchemaStr() == "label DOUBLE, features VECTOR"
    assert source.collectToDataframe()["features"].tolist() == [
        "0:1.5 3:2.0",
        "0:2.0 1:0.5",
        "",
    ]
    zero = pyalink.LibSvmSourceBatchOp(filePath=str(path), startIndex=0)
    assert zero.collectToDataframe()["features"][0] == "1:1.5 4:2.0"
    with pytest.raises(al.Error, match="below startIndex"):
        pyalink.LibSvmSourceBatchOp(filePath=str(path), startIndex=2).collectToDataframe()


@pytest.mark.parametrize("line", ["x 1:2", "1 2 3", "1 1:", "1 $4$1:2"])
def test_libsvm_that_is_none(line: str, tmp_path: Path) -> None:
    path = tmp_path / "a.svm"
    path.write_text(line + "\n")
    with pytest.raises(al.Error, match="is not"):
        pyalink.LibSvmSourceBatchOp(filePath=str(path)).collectToDataframe()


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    rows = batch()
    pq.write_table(rows.toTable().to_arrow(), path)
    source = pyalink.ParquetSourceBatchOp(filePath=str(path))
    assert source.getColTypes() == rows.getColTypes()
    assert same(values(source), values(rows))


# --- .ak ---


def count(value: int) -> bytes:
    """Write a number with 7 bits a byte, the low ones first."""
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def ak_file(path: Path, schema: str, data: bytes) -> str:
    meta = {"fileFormat": "binary", "schemaStr": schema, "numFiles": 1, "version": "v0.1"}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("alink_meta.json", json.dumps(meta))
        archive.writestr("data", data)
    return str(path)


@pytest.mark.parametrize("magic", [b"ALK", b"FLK"])
def test_an_ak_file_byte_by_byte(magic: bytes, tmp_path: Path) -> None:
    text = "é" + "x" * 200
    units = b"".join(count(ord(c)) for c in text)
    records = [
        # Nine fields: two bytes of bits for NULL, the first field's bit is the highest.
        b"\x00\x00" + struct.pack(">qidfhb?", 5, -6, 1.5, 0.5, 7, -8, True)
        + count(len(text) + 1) + units + struct.pack(">qi", 1_500, 500_001_000),
        b"\xff\x80",
        b"\x7f\x80" + struct.pack(">q", -1),
    ]  # fmt: skip
    data = magic
    for record in records:
        data += len(record).to_bytes(3 if magic == b"ALK" else 4, "big") + record
    schema = "a LONG, b INT, c DOUBLE, d FLOAT, e SHORT, f BYTE, g BOOLEAN, h STRING, i TIMESTAMP"
    source = pyalink.AkSourceBatchOp(filePath=ak_file(tmp_path / "a.ak", schema, data))
    moment = datetime.datetime(1970, 1, 1, 0, 0, 1, 500_001)
    assert [tuple(row.values()) for row in values(source)] == [
        (5, -6, 1.5, 0.5, 7, -8, True, text, moment),
        (None,) * 9,
        (-1, *[None] * 8),
    ]


def test_a_long_record_has_a_longer_length(tmp_path: Path) -> None:
    path = tmp_path / "a.ak"
    rows = batch([["x" * 0x1000000], ["y"]], "s string")
    rows.link(pyalink.AkSinkBatchOp(filePath=str(path)))
    BatchOperator.execute()
    with zipfile.ZipFile(path) as archive:
        data = archive.read("data")
        meta = json.loads(archive.read("alink_meta.json"))
    assert data[:6] == b"ALK\xff\xff\xff"
    assert data[-6:] == b"\x00\x00\x03\x00\x02y"
    assert meta["schemaStr"] == "s STRING"
    assert column(pyalink.AkSourceBatchOp(filePath=str(path)), "s") == ["x" * 0x1000000, "y"]


@pytest.mark.parametrize("length", [-1, 3, 2**31 - 1])
def test_bytes_of_an_ak_file_that_end_beyond_their_row(length: int, tmp_path: Path) -> None:
    data = b"ALK\x00\x00\x07\x00" + struct.pack(">i", length) + b"ab"
    path = ak_file(tmp_path / "a.ak", "b VARBINARY", data)
    with pytest.raises(al.Error, match="longer than its row"):
        pyalink.AkSourceBatchOp(filePath=path).collectToDataframe()


@pytest.mark.parametrize(
    "data", [b"", b"XXX", b"ALK\x00", b"ALK\x00\x00\x09\x00", b"ALK\x00\x00\x02\x00\x01"]
)
def test_an_ak_file_that_is_cut_off(data: bytes, tmp_path: Path) -> None:
    path = ak_file(tmp_path / "a.ak", "a LONG", data)
    with pytest.raises(al.Error, match="ak file"):
        pyalink.AkSourceBatchOp(filePath=path).collectToDataframe()


def test_types_that_ak_files_do_not_have(tmp_path: Path) -> None:
    path = ak_file(tmp_path / "a.ak", "a LONG, t TENSOR", b"ALK")
    with pytest.raises(al.PlanError, match="'t': TENSOR is not portable"):
        pyalink.AkSourceBatchOp(filePath=path).getColNames()
    with pytest.raises(al.PlanError, match="'d': DECIMAL is not portable"):
        batch([[1]], "i int").select("i::decimal(10, 2) AS d").link(
            pyalink.AkSinkBatchOp(filePath=path)
        )


def test_dates_and_bytes_in_ak_files(tmp_path: Path) -> None:
    path = str(tmp_path / "a.ak")
    rows = batch([["1931-05-06", b"\x00\xff"], [None, b""]], "d date, b varbinary")
    rows.link(pyalink.AkSinkBatchOp(filePath=path))
    BatchOperator.execute()
    assert values(pyalink.AkSourceBatchOp(filePath=path)) == [
        {"d": datetime.date(1931, 5, 6), "b": b"\x00\xff"},
        {"d": None, "b": b""},
    ]


def test_what_is_no_ak_file(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("a,b")
    other = tmp_path / "other"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("x", "y")
    for path in (plain, other):
        with pytest.raises(al.PlanError, match=r"is not an \.ak file"):
            pyalink.AkSourceBatchOp(filePath=str(path)).collectToDataframe()


def test_a_folder_of_ak_files_and_a_step_behind(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for i in range(3):
        rows = batch([[j, f"{j} 1.0"] for j in range(10 * i, 10 * i + 10)], "i int, v vector")
        rows.link(pyalink.AkSinkBatchOp(filePath=str(folder / str(i))))
    BatchOperator.execute()
    source = pyalink.AkSourceBatchOp(filePath=str(folder))
    csv_rows = pyalink.VectorToCsvBatchOp(
        vectorCol="v", csvCol="c", schemaStr="a double, b double"
    ).linkFrom(source)
    assert column(csv_rows, "i") == list(range(30))
    assert column(csv_rows, "c")[29] == "29.0,1.0"


def test_a_path_that_cannot_be_written(tmp_path: Path) -> None:
    batch().link(pyalink.AkSinkBatchOp(filePath=str(tmp_path / "none" / "a.ak")))
    with pytest.raises(al.Error, match="none"):
        BatchOperator.execute()


@pytest.mark.parametrize("form", ["Batch", "Stream"])
def test_rows_are_printed_with_the_next_execute(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = getattr(pyalink, f"MemSource{form}Op")([[1, "a"]], "n int, s string")
    rows.link(getattr(pyalink, f"Print{form}Op")())
    assert capsys.readouterr().out == ""
    getattr(pyalink, f"{form}Operator").execute()
    assert capsys.readouterr().out == "   n  s\n0  1  a\n"


# --- rows of the program, numbers, random rows ---


def test_rows_of_the_program() -> None:
    source = pyalink.MemSourceBatchOp([[1, "a"], [2, None]], ["n", "s"])
    assert values(source) == [{"n": 1, "s": "a"}, {"n": 2, "s": None}]
    assert values(pyalink.MemSourceBatchOp(["x", "y"], "s string")) == [{"s": "x"}, {"s": "y"}]
    vectors = pyalink.MemSourceStreamOp([[DenseVector([1.0])]], "v vector")
    assert vectors.collectToDataframe()["v"].tolist() == ["1.0"]
    frame = pd.DataFrame({"a": [1, 2]})
    assert column(pyalink.TableSourceBatchOp(frame), "a") == [1, 2]
    assert column(pyalink.TableSourceBatchOp(source), "n") == [1, 2]


def test_numbers() -> None:
    assert column(pyalink.NumSeqSourceBatchOp(3, 6), "num") == [3, 4, 5, 6]
    assert column(pyalink.NumSeqSourceBatchOp().setFrom(-1).setTo(0).setOutputCol("n"), "n") == [
        -1,
        0,
    ]
    assert column(pyalink.NumSeqSourceStreamOp(1, 2, "n"), "n") == [1, 2]
    assert column(pyalink.NumSeqSourceBatchOp(2, 1), "num") == []
    assert pyalink.NumSeqSourceBatchOp(1, 2).getSchemaStr() == "num BIGINT"


def random_rows(rows: int, **params: Any) -> pd.DataFrame:
    source = pyalink.RandomTableSourceBatchOp(numRows=rows, numCols=2, **params)
    return source.collectToDataframe()


def test_random_tables() -> None:
    frame = random_rows(1000)
    assert list(frame.columns) == ["col0", "col1"]
    assert frame.equals(random_rows(1000))
    assert frame.iloc[:10].equals(random_rows(10))  # a row's values hang on its number alone
    assert abs(np.corrcoef(frame["col0"], frame["col1"])[0, 1]) < 0.1
    named = random_rows(10, idCol="id", outputCols=["x"])
    assert list(named.columns) == ["id", "x"]
    assert named["id"].tolist() == list(range(10))


def test_random_tables_of_other_distributions() -> None:
    confs = (
        "u:uniform(-2,4);o:uniform_open(0,1);g:gauss(5,2);p:poisson(3.5);"
        "w:weight_set(1.0,1.0,2.0,3.0);n:uniform(0,1,nullper=0.25)"
    )
    names = ["u", "o", "g", "p", "w", "n"]
    frame = random_rows(20_000, outputCols=names, outputColConfs=confs)
    assert -2 <= frame["u"].min() < -1.9 < 3.9 < frame["u"].max() < 4
    assert frame["o"].min() > 0
    assert abs(frame["g"].mean() - 5) < 0.1 > abs(frame["g"].std() - 2)
    assert abs(frame["p"].mean() - 3.5) < 0.1 > abs(frame["p"].var() - 3.5) - 0.1
    assert set(frame["w"]) == {1.0, 2.0}
    assert abs((frame["w"] == 2.0).mean() - 0.75) < 0.02
    assert abs(frame["n"].isna().mean() - 0.25) < 0.02


@pytest.mark.parametrize("conf", ["col0:uniform(1)", "col0", "col0:zeta(1)", "c:gauss(0,1)"])
def test_distributions_that_are_none(conf: str) -> None:
    with pytest.raises(al.PlanError, match="outputColConfs"):
        random_rows(1, outputColConfs=conf)


def test_random_vectors() -> None:
    source = pyalink.RandomVectorSourceBatchOp(numRows=100, size=[10], sparsity=0.3)
    texts = column(source, "tensor")
    assert column(source, "alink_id") == list(range(100))
    assert all(t.startswith("$10$") and t.count(":") == 3 for t in texts)
    assert len(set(texts)) == 100
    with pytest.raises(al.PlanError, match="sparsity"):
        pyalink.RandomVectorSourceBatchOp(numRows=1, size=[10], sparsity=3.0).getColNames()


# --- picks ---

N = 2000


@pytest.fixture(scope="module")
def many() -> pd.DataFrame:
    return pd.DataFrame({"i": range(N), "k": [["a", "b", None][i % 3] for i in range(N)]})


def source(many: pd.DataFrame) -> BatchOperator:
    return BatchOperator.fromDataframe(many, schemaStr="i int, k string")


def stream(many: pd.DataFrame) -> StreamOperator:
    return StreamOperator.fromDataframe(many, schemaStr="i int, k string")


@pytest.mark.parametrize("make", [source, stream])
@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.5001, 1.0])
@pytest.mark.parametrize("seed", [None, 7])
def test_a_split_divides_the_rows(
    make: Any, fraction: float, seed: int | None, many: pd.DataFrame
) -> None:
    suffix = "BatchOp" if make is source else "StreamOp"
    split = getattr(pyalink, f"Split{suffix}")(fraction=fraction)
    if seed is not None:
        split.setRandomSeed(seed)
    split.linkFrom(make(many))
    main, rest = column(split, "i"), column(split.getSideOutput(0), "i")
    assert sorted(main + rest) == list(range(N))
    assert main == sorted(main)
    assert rest == sorted(rest)
    if make is source:
        assert len(main) == round(N * fraction)
    else:
        assert abs(len(main) - N * fraction) < 100
    assert column(split, "i") == main
    other = make(many).split(fraction)
    assert (column(other, "i") == main) == (seed is None or fraction in (0.0, 1.0))


@pytest.mark.parametrize("make", [source, stream])
def test_a_sample(make: Any, many: pd.DataFrame) -> None:
    picked = column(make(many).sample(0.25), "i")
    assert abs(len(picked) - N / 4) < 100
    assert picked == sorted(set(picked)) == column(make(many).sample(0.25), "i")


def test_a_sample_with_replacement(many: pd.DataFrame) -> None:
    picked = column(source(many).sample(1.5, True), "i")
    assert abs(len(picked) - 1.5 * N) < 200
    assert max(Counter(picked).values()) > 3
    assert picked == column(source(many).sample(1.5, True), "i")


def test_samples_of_a_size(many: pd.DataFrame) -> None:
    rows = source(many)
    assert len(set(column(rows.sampleWithSize(10), "i"))) == 10
    assert len(column(rows.sampleWithSize(N + 5), "i")) == N
    again = column(rows.sampleWithSize(3 * N, True), "i")
    assert len(again) == 3 * N
    assert len(set(again)) > 0.9 * N
    assert column(batch([], "i int").sampleWithSize(3, True), "i") == []


def test_shuffle_first_and_rebalance(many: pd.DataFrame) -> None:
    rows = source(many)
    shuffled = column(rows.shuffle(), "i")
    assert shuffled != sorted(shuffled) == list(range(N))
    assert shuffled == column(rows.shuffle(), "i")
    assert column(rows.firstN(3), "i") == [0, 1, 2]
    assert column(rows.rebalance(), "i") == list(range(N))


def test_ids(many: pd.DataFrame) -> None:
    numbered = pyalink.AppendIdBatchOp().linkFrom(source(many))
    assert numbered.getColNames() == ["i", "k", "append_id"]
    assert column(numbered, "append_id") == list(range(N)) == column(numbered, "i")
    with pytest.raises(al.PlanError, match="there is a column"):
        pyalink.AppendIdBatchOp(idCol="K").linkFrom(source(many))


def test_samples_of_strata(many: pd.DataFrame) -> None:
    rows = source(many)
    picked = pyalink.StratifiedSampleBatchOp(
        strataCol="k", strataRatios="a:0.5,b:0.1", strataRatio=0.0
    ).linkFrom(rows)
    assert Counter(column(picked, "k")) == {"a": 334, "b": 67}
    sized = pyalink.StratifiedSampleWithSizeBatchOp(
        strataCol="K", strataSizes="a:5", strataSize=2
    ).linkFrom(rows)
    assert Counter(column(sized, "k")) == {"a": 5, "b": 2, None: 2}
    drawn = pyalink.StratifiedSampleWithSizeBatchOp(
        strataCol="k", strataSizes="a:5000", strataSize=2, withReplacement=True
    ).linkFrom(rows)
    assert Counter(column(drawn, "k")) == {"a": 5000, "b": 2, None: 2}
    more = pyalink.StratifiedSampleBatchOp(
        strataCol="k", strataRatios="a:2.0", strataRatio=0.0, withReplacement=True
    ).linkFrom(rows)
    assert Counter(column(more, "k")) == {"a": 1334}
    streamed = pyalink.StratifiedSampleStreamOp(
        strataCol="k", strataRatios="a:0.5", strataRatio=0.0
    ).linkFrom(stream(many))
    assert abs(len(column(streamed, "k")) - N / 6) < 60


def test_a_stratum_that_nothing_is_said_of(many: pd.DataFrame) -> None:
    picked = pyalink.StratifiedSampleBatchOp(strataCol="k", strataRatios="a:0.5")
    with pytest.raises(al.Error, match="nothing says how much is wanted of stratum"):
        column(picked.linkFrom(source(many)), "k")
    with pytest.raises(al.PlanError, match="is not value:number"):
        pyalink.StratifiedSampleBatchOp(strataCol="k", strataRatios="a").linkFrom(source(many))


@pytest.mark.parametrize("replaced", [False, True])
def test_samples_by_weight(replaced: bool) -> None:
    weights = [0.0, None, -1.0, 1.0, 3.0]
    rows = batch([[i, weights[i % 5]] for i in range(N)], "i int, w double")
    picked = pyalink.WeightSampleBatchOp(weightCol="w", ratio=0.1, withReplacement=replaced)
    drawn = column(picked.linkFrom(rows), "i")
    assert len(drawn) == N / 10
    counts = Counter(i % 5 for i in drawn)
    assert set(counts) == {3, 4}
    assert counts[4] > 1.7 * counts[3]
    assert drawn == column(picked, "i")


def test_more_than_all_cannot_be_picked(many: pd.DataFrame) -> None:
    for make in (
        lambda: source(many).sample(1.5),
        lambda: source(many).split(-0.1),
        lambda: source(many).sampleWithSize(-1),
        lambda: source(many).firstN(-1),
    ):
        with pytest.raises(al.PlanError, match="must be"):
            make()


def test_a_name_that_picks_use_is_refused() -> None:
    with pytest.raises(al.PlanError, match="must not have the name __Row"):
        batch([[1]], "__Row int").shuffle()


def test_a_slow_stream_keeps_its_rows(many: pd.DataFrame) -> None:
    slowed = pyalink.SpeedControlStreamOp(timeInterval=0.0001).linkFrom(stream(many))
    assert column(slowed, "i") == list(range(N))
