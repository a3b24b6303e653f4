"""Streams of models in folders, and windows of a stream in files."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

import alink as al
from alink._algorithms import _ak, _timed_files
from alink._algorithms._strings import Unreadable
from pyalink import alink as pyalink
from pyalink.alink import BatchOperator, StreamOperator

TIME, COUNT = "alinkmodelstreamtimestamp", "alinkmodelstreamcount"
SCHEMA = f"model_id bigint, {TIME} timestamp, model_info string, {COUNT} bigint"
FIRST = datetime.datetime(2024, 1, 2, 3, 4, 5)
SECOND = datetime.datetime(2024, 1, 2, 3, 4, 5, 60_000)
MODELS: list[list[Any]] = [
    [0, SECOND, "ü", 1],
    [0, FIRST, "a", 2],
    [1, FIRST, None, 2],
]


@pytest.fixture(autouse=True)
def _session() -> Any:
    pyalink.resetEnv()
    yield
    pyalink.resetEnv()


def stream(rows: list[list[Any]] = MODELS) -> Any:
    return pyalink.MemSourceStreamOp(rows, SCHEMA)


def listed(operator: Any) -> list[list[Any]]:
    return [list(row.values()) for row in operator.toTable().to_arrow().to_pylist()]


def names(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_a_stream_of_models_is_written_added_to_and_read(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    stream().link(pyalink.ModelStreamFileSinkStreamOp().setFilePath(str(folder)))
    assert not folder.exists()
    StreamOperator.execute()
    assert names(folder) == [
        "202401020304050/0", "2024010203040506/0",
        "conf/202401020304050.log", "conf/2024010203040506.log",
    ]  # fmt: skip
    assert json.loads((folder / "conf/202401020304050.log").read_text()) == {
        "count": 2,
        "numFiles": 1,
    }
    assert _ak.read(str(folder / "202401020304050/0")).to_pylist() == [
        {"model_id": 0, "model_info": "a"},
        {"model_id": 1, "model_info": None},
    ]
    model = pyalink.MemSourceBatchOp([[7, "later"]], "model_id bigint, model_info string")
    sink = pyalink.AppendModelStreamFileSinkBatchOp(filePath=str(folder), numKeepModel=2)
    model.link(sink.setModelTime("2024-05-06 07:08:09"))
    BatchOperator.execute()
    assert [name for name in names(folder) if "conf" not in name] == [
        "2024010203040506/0",
        "202405060708090/0",
    ]
    source = pyalink.ModelStreamFileSourceStreamOp().setFilePath(str(folder))
    assert source.getSchemaStr() == (
        f"{TIME} TIMESTAMP, {COUNT} BIGINT, model_id BIGINT, model_info VARCHAR"
    )
    last = datetime.datetime(2024, 5, 6, 7, 8, 9)
    assert listed(source) == [[SECOND, 1, 0, "ü"], [last, 1, 7, "later"]]
    source = pyalink.ModelStreamFileSourceStreamOp(filePath=str(folder))
    assert listed(source.setStartTime("2024-02-01 00:00:00")) == [[last, 1, 7, "later"]]


def test_a_model_has_the_time_of_its_job(tmp_path: Path) -> None:
    model = pyalink.MemSourceBatchOp([[1]], "a int")
    model.link(pyalink.AppendModelStreamFileSinkBatchOp().setFilePath(str(tmp_path)))
    before = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    BatchOperator.execute()
    after = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    ((time, _),) = _timed_files.models(tmp_path)
    assert before - datetime.timedelta(milliseconds=1) <= time <= after


def written(folder: Path, batches: list[pa.RecordBatch], keep: int = 9) -> int:
    spec = {"path": str(folder), "schemaStr": "m int", "keep": keep}
    return _timed_files.write_models(spec)(iter(batches))


def models_batch(*rows: tuple[Any, Any, int]) -> pa.RecordBatch:
    columns = [list(column) for column in zip(*rows, strict=True)]
    kinds = [pa.timestamp("us"), pa.int64(), pa.int32()]
    arrays = [pa.array(c, k) for c, k in zip(columns, kinds, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, names=[TIME, COUNT, "m"])


def test_models_in_several_batches(tmp_path: Path) -> None:
    batches = [
        models_batch((FIRST, 3, 1)),
        models_batch((FIRST, 3, 2))[:0],
        models_batch((FIRST, 3, 2), (FIRST, 3, 3), (SECOND, 1, 4)),
    ]
    assert written(tmp_path, batches) == 4
    assert [path.name for _, path in _timed_files.models(tmp_path)] == [
        "202401020304050",
        "2024010203040506",
    ]
    assert _ak.read(str(tmp_path / "202401020304050/0")).column(0).to_pylist() == [1, 2, 3]
    with pytest.raises(FileExistsError, match="has a model of 2024-01-02 03:04:05 already"):
        written(tmp_path, batches)
    assert written(tmp_path, []) == 0


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([(FIRST, 1, 1), (SECOND, 2, 1)], "is not whole: it says that it has 2 rows, but 1 came"),
        ([(FIRST, 2, 1), (FIRST, 3, 1)], "is not whole"),
        ([(FIRST, None, 1)], "says that it has None rows"),
        ([(None, 1, 1)], "is NULL in a row"),
    ],
)
def test_models_that_are_not_whole(rows: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=said):
        written(tmp_path, [models_batch(*rows)])
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("break_", "said"),
    [
        (lambda f: (f / "conf/202401020304050.log").write_text("{}"), "does not say what"),
        (lambda f: (f / "conf/202401020304050.log").write_text('{"count": 5}'), "the 5 rows"),
        (lambda f: (f / "202401020304050/0").write_text("x"), "is not an .ak file"),
        (
            lambda f: (f / "202401020304050/0").write_bytes(
                (f / "2024010203040506/0").read_bytes()
            ),
            "the 2 rows",
        ),
    ],
)
def test_broken_streams_of_models(break_: Any, said: str, tmp_path: Path) -> None:
    written(tmp_path, [models_batch((FIRST, 2, 1), (FIRST, 2, 2), (SECOND, 1, 3))])
    break_(tmp_path)
    task = _timed_files.read_models({"start": None}, [pa.timestamp("us"), pa.int64(), pa.int32()])
    with pytest.raises(Unreadable, match=said):
        task(pa.record_batch({"path": [str(tmp_path)]}))


def test_a_model_without_its_log_is_none(tmp_path: Path) -> None:
    written(tmp_path, [models_batch((FIRST, 1, 1))])
    (tmp_path / "conf/202401020304050.log").unlink()
    (tmp_path / "203001010000000").mkdir()
    (tmp_path / "other").mkdir()
    assert _timed_files.models(tmp_path) == []


@pytest.mark.parametrize("time", [FIRST, SECOND, datetime.datetime(987, 1, 2, 3, 4, 5, 1)])
def test_times_as_names(time: datetime.datetime) -> None:
    assert _timed_files.read_time_name(_timed_files.time_name(time)) == time


@pytest.mark.parametrize("name", ["20240102030405", "20241302030405", "202413020304050", "conf"])
def test_names_that_are_no_times(name: str) -> None:
    assert _timed_files.read_time_name(name) is None


def test_what_streams_of_models_refuse(tmp_path: Path) -> None:
    source = pyalink.ModelStreamFileSourceStreamOp
    model = pyalink.MemSourceBatchOp([[1]], "a int")
    append = pyalink.AppendModelStreamFileSinkBatchOp
    path = str(tmp_path)
    with pytest.raises(al.Error, match="has no model"):
        source(filePath=path).toTable()
    with pytest.raises(al.Error, match="is of the model, without alinkmodelstreamcount"):
        source(filePath=path, schemaStr=f"{COUNT} bigint").toTable()
    with pytest.raises(al.Error, match="\"startTime\" cannot be 'now'"):
        source(filePath=path, startTime="now").toTable()
    with pytest.raises(al.Error, match="'numKeepModel' cannot be 0"):
        model.link(append(filePath=path, numKeepModel=0))
    with pytest.raises(al.Error, match="writes one file"):
        model.link(append(filePath=path, numFiles=2))
    with pytest.raises(al.Error, match=f'no column "{TIME}"'):
        pyalink.MemSourceStreamOp([[1]], "a int").link(
            pyalink.ModelStreamFileSinkStreamOp(filePath=path)
        )
    assert listed(source(filePath=path, schemaStr="a int")) == []


# --- windows ---

DAYS = pd.DataFrame(
    {
        "id": [1, 2, 3, 4],
        "t": pd.to_datetime(
            ["2021-12-31 23:00", "2021-11-01", "2021-11-01 23:59:59", "2021-11-03"],
            format="ISO8601",
        ),
    }
)


def test_windows_of_a_stream_are_files(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    rows = StreamOperator.fromDataframe(DAYS, schemaStr="id int, t timestamp")

    def sink(**params: Any) -> Any:
        given = {"filePath": str(folder), "timeCol": "T", "windowTime": 24 * 3600, **params}
        return pyalink.Export2FileSinkStreamOp(**given)

    rows.link(sink(partitionsFormat="year=yyyy/m=yy-M"))
    StreamOperator.execute()
    assert names(tmp_path) == [
        "out/year=2021/m=21-11/202111010000000",
        "out/year=2021/m=21-11/202111030000000",
        "out/year=2021/m=21-12/202112310000000",
    ]
    read = _ak.read(str(folder / "year=2021/m=21-11/202111010000000")).to_pydict()
    assert read["id"] == [2, 3]
    rows.link(sink())
    with pytest.raises(al.Error, match="setOverwriteSink"):
        StreamOperator.execute()
    rows.link(sink(overwriteSink=True, windowTime="1M"))
    StreamOperator.execute()
    assert names(tmp_path) == ["out/202111010000000", "out/202112010000000"]
    source = pyalink.AkSourceBatchOp().setFilePath(str(folder))
    assert [row[0] for row in listed(source)] == [2, 3, 4, 1]


def test_windows_by_the_time_of_the_job(tmp_path: Path) -> None:
    rows = StreamOperator.fromDataframe(DAYS, schemaStr="id int, t timestamp")
    rows.link(pyalink.Export2FileSinkStreamOp(filePath=str(tmp_path / "out"), windowTime="1h"))
    empty = pyalink.MemSourceStreamOp([], "a int")
    empty.link(pyalink.Export2FileSinkStreamOp(filePath=str(tmp_path / "empty"), windowTime="1h"))
    StreamOperator.execute()
    (file,) = names(tmp_path)
    assert _ak.read(str(tmp_path / file)).column(0).to_pylist() == [1, 2, 3, 4]
    assert (tmp_path / "empty").is_dir()


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"windowTime": "1w"}, '"windowTime" cannot be'),
        ({"timeCol": "id"}, 'timeCol "id" is INT'),
        ({"partitionsFormat": "yyyy"}, "'yyyy' in partitionsFormat is not understood"),
        ({"partitionsFormat": "a=b"}, "'a=b' in partitionsFormat"),
        ({"partitionsFormat": "a=-"}, "'a=-' in partitionsFormat"),
    ],
)
def test_what_windows_refuse(params: dict[str, Any], said: str, tmp_path: Path) -> None:
    rows = StreamOperator.fromDataframe(DAYS, schemaStr="id int, t timestamp")
    given = {"filePath": str(tmp_path / "out"), "windowTime": "1h", **params}
    with pytest.raises(al.Error, match="ALK") as error:
        rows.link(pyalink.Export2FileSinkStreamOp(**given))
    assert said in str(error.value)
