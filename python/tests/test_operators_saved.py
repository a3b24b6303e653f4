"""Saved pipelines, and reading PyAlink's."""

from __future__ import annotations

import json
import zipfile
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

import alink as al
from alink._algorithms import _ak
from alink.operators._saved import _places, read_file
from pyalink import alink as pyalink

FRAME = pd.DataFrame(
    {
        "a": [1.0, 2.0, None, 5.0, 3.0, 0.5],
        "b": [3, 3, 1, 3, 4, 2],
        "ä": ["ja", "nein", "ja", "ja", "nein", "ja"],
    }
)
SCHEMA = "a double, b int, ä string"


def rows(kind: Any = pyalink.BatchOperator) -> Any:
    return kind.fromDataframe(FRAME, schemaStr=SCHEMA)


def complete() -> Any:
    return pyalink.BatchOperator.fromDataframe(FRAME.dropna(), schemaStr=SCHEMA)


@pytest.fixture(scope="module")
def model() -> Any:
    inner = pyalink.Pipeline(
        pyalink.StandardScaler(selectedCols=["a"]), pyalink.MaxAbsScaler(selectedCols=["b"])
    )
    assembler = pyalink.VectorAssembler(selectedCols=["a", "b"], outputCol="v")
    regression = pyalink.LogisticRegression(
        vectorCol="v", labelCol="ä", predictionCol="p", predictionDetailCol="d"
    )
    return pyalink.Pipeline(inner, assembler, regression).fit(complete())


def test_a_saved_pipeline_gives_the_same_predictions(model, tmp_path):
    path = tmp_path / "m.ak"
    assert model.save(str(path)) is None
    assert not path.exists()
    pyalink.BatchOperator.execute()
    wanted = model.transform(complete()).collectToDataframe()
    again = pyalink.PipelineModel.load(str(path))
    kinds = [type(stage).__name__ for stage in again.getTransformers()]
    assert kinds == ["PipelineModel", "VectorAssembler", "LogisticRegressionModel"]
    pd.testing.assert_frame_equal(again.transform(complete()).collectToDataframe(), wanted)
    assert [p.name for p in tmp_path.iterdir()] == ["m.ak"]
    with pytest.raises(al.Error, match="is there already"):
        model.save(str(path))
    once_more = tmp_path / "n.ak"
    again.save(once_more)
    pyalink.PipelineModel().save(path, True)
    pyalink.BatchOperator.execute()
    assert pyalink.PipelineModel.load(path).getTransformers() == []
    third = pyalink.PipelineModel.load(once_more)
    pd.testing.assert_frame_equal(third.transform(complete()).collectToDataframe(), wanted)


def test_rows_have_alinks_form(model):
    saved = pyalink.PipelineModel.collectLoad(model.save())  # of rows, in place of a file
    wanted = model.transform(complete()).collectToDataframe()
    pd.testing.assert_frame_equal(saved.transform(complete()).collectToDataframe(), wanted)
    table = model.save().toTable().to_arrow()
    assert table.schema.names == ["id", "p0", "p1", "p2", "p3"]
    kinds = [pa.int64(), pa.string(), pa.int64(), pa.float64(), pa.string()]
    assert table.schema.types == kinds
    assert sorted(set(table["id"].to_pylist())) == [-1, 2, 3, 5]
    first = next(row for row in table.to_pylist() if row["id"] == -1)
    meta, parameters = first["p0"].split("__ALINK_META_ROW_DELIMITER__")
    assert parameters == "{}"
    root, outer, standard, largest, assembler, regression = json.loads(json.loads(meta)["stages"])
    assert root["identifier"] is None
    assert root["parent"] == -1
    assert outer["identifier"] == "com.alibaba.alink.pipeline.PipelineModel"
    assert [s["parent"] for s in (outer, standard, largest, assembler, regression)] == [
        0,
        1,
        1,
        0,
        0,
    ]
    assert standard["identifier"] == "com.alibaba.alink.pipeline.dataproc.StandardScalerModel"
    assert (standard["schemaIndices"], standard["colNames"]) == (
        [1, 0, 2],
        ["model_id", "model_info", "a"],
    )
    assert assembler["identifier"] == "com.alibaba.alink.pipeline.dataproc.vector.VectorAssembler"
    assert assembler["params"]["params"] == {"selectedCols": '["a","b"]', "outputCol": '"v"'}
    assert assembler["schemaIndices"] is assembler["colNames"] is None
    assert regression["schemaIndices"] == [1, 0, 3]


def test_columns_are_shared_between_models_by_type():
    kinds = [pa.string()]
    assert _places(kinds, [pa.int64(), pa.string(), pa.string()]) == [1, 0, 2]
    assert _places(kinds, [pa.string(), pa.string(), pa.string(), pa.float64()]) == [0, 2, 3, 4]
    assert kinds == [pa.string(), pa.int64(), pa.string(), pa.string(), pa.float64()]


def test_a_pipeline_that_is_not_trained_is_saved_too(tmp_path):
    path = tmp_path / "p.ak"
    scaler = pyalink.StandardScaler(selectedCols=["a"]).enableLazyPrintTransformData(2, "first")
    pyalink.Pipeline(scaler, pyalink.Pipeline(pyalink.Binarizer(selectedCol="b"))).save(path)
    pyalink.BatchOperator.execute()
    again = pyalink.Pipeline.load(path)
    assert again.get(0).getParams() == {"selectedCols": ["a"]}
    assert again.get(0)._lazily == scaler._lazily
    assert again.get(1).get(0).getSelectedCol() == "b"
    again.fit(rows()).transform(rows()).collectToDataframe()
    with pytest.raises(al.Error, match=r"(?s)StandardScaler is not trained.*Pipeline\.load"):
        pyalink.PipelineModel.load(path)


# A pipeline as PyAlink 1.6 saves one, put down by hand: a scaler and a linear model.
_STAGES = [
    {
        "identifier": None,
        "params": None,
        "schemaIndices": [1, 0, 2],
        "colNames": None,
        "parent": -1,
    },
    {
        "identifier": "com.alibaba.alink.pipeline.dataproc.MinMaxScalerModel",
        "params": {"params": {"selectedCols": '["a"]', "max": "2.0", "MLEnvironmentId": "0"}},
        "schemaIndices": [1, 0, 2],
        "colNames": ["model_id", "model_info", "a"],
        "parent": 0,
    },
    {
        "identifier": "com.alibaba.alink.pipeline.classification.LogisticRegressionModel",
        "params": {"params": {"labelCol": '"y"', "predictionCol": '"p"', "epsilon": "1.0E-6"}},
        "schemaIndices": [1, 0, 3],
        "colNames": ["model_id", "model_info", "label_value"],
        "parent": 0,
    },
]
_SCALER = ['{"min":"0.0","max":"2.0"}', "[1.0]", "[5.0]"]
_LINEAR = [
    json.dumps(
        {
            "hasInterceptItem": "true",
            "modelName": '"Logistic Regression"',
            "labelCol": '"y"',
            "linearModelType": '"LR"',
            "vectorSize": "2",
        }
    ),
    json.dumps(
        {
            "featureColNames": ["a"],
            "featureColTypes": ["DOUBLE"],
            "coefVector": {"data": [-1.0, 1.0]},
            "coefVectors": None,
            "convergenceInfo": None,
        }
    ),
]


def _pyalinks(stages: Any = None, meta: Any = None) -> list[tuple[Any, ...]]:
    stages = _STAGES if stages is None else stages
    told = json.dumps({"stages": json.dumps(stages)}) if meta is None else meta
    top = 2**20
    found: list[tuple[Any, ...]] = [(-1, told, None, None, None)]
    found += [(1, text, i * top, None, None) for i, text in enumerate(_SCALER)]
    found += [(2, text, i * top, None, None) for i, text in enumerate(_LINEAR)]
    found += [(2, None, (2**31 - 1) * top + i, None, label) for i, label in enumerate(["ja", "no"])]
    return found


def _write(path: Any, rows_: list[tuple[Any, ...]], schema: Any = None, **meta: Any) -> Any:
    kinds = schema or "id BIGINT,p0 VARCHAR,p1 BIGINT,p2 DOUBLE,p3 VARCHAR"
    from alink._algorithms._types import parse_schema

    schema = parse_schema(kinds)
    table = pa.Table.from_pylist(
        [dict(zip(schema.names, row, strict=True)) for row in rows_], schema=schema
    )
    with path.open("wb") as file:
        _ak.write(file, schema, table.to_batches())
    if meta:
        with zipfile.ZipFile(path) as archive:
            told = json.loads(archive.read("alink_meta.json"))
            data = archive.read("data")
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("alink_meta.json", json.dumps({**told, **meta}))
            archive.writestr("data", data)
    return path


def test_pyalinks_models_are_read(tmp_path):
    path = _write(tmp_path / "m.ak", _pyalinks())
    given = pyalink.BatchOperator.fromDataframe(pd.DataFrame({"a": [1.0, 3.0, 5.0]}), "a double")
    model = pyalink.PipelineModel.load(str(path))
    frame = model.transform(given).collectToDataframe()
    assert frame["a"].tolist() == [0.0, 1.0, 2.0]
    assert frame["p"].tolist() == ["no", "ja", "ja"]
    predictor = pyalink.LocalPredictor(str(path), "a double")
    assert predictor.map([5.0]).tolist() == [2.0, "ja"]
    folder = tmp_path / "several"
    folder.mkdir()
    _write(folder / "1", _pyalinks()[:4])
    _write(folder / "2", _pyalinks()[4:])
    assert pyalink.LocalPredictor(folder, "a double").map([1.0]).tolist() == [0.0, "no"]


def _changed(number: int, **values: Any) -> list[dict[str, Any]]:
    return [{**s, **values} if i == number else s for i, s in enumerate(_STAGES)]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda p: p, "does not exist"),
        (lambda p: (p.write_bytes(b"nonsense"), p)[1], "no zip archive"),
        (lambda p: _write(p, [], "x INT"), "rows of x INT are no pipeline's"),
        (lambda p: _write(p, _pyalinks()[1:]), "the row is missing"),
        (lambda p: _write(p, _pyalinks(), version="v9"), "version 'v9' of .ak files"),
        (lambda p: _write(p, _pyalinks(meta='{"stages":"[]","format":"2"}')), "later version's"),
        (lambda p: _write(p, _pyalinks(meta="{")), "cannot be read as a pipeline"),
        (lambda p: _write(p, _pyalinks(meta='{"stages":"[]"}')), "it has no stages"),
        (
            lambda p: _write(p, _pyalinks(_changed(1, identifier="x.MinMaxScalerModle"))),
            "no stage .MinMaxScalerModle.*did you mean MinMaxScalerModel",
        ),
        (
            lambda p: _write(p, _pyalinks(_changed(1, identifier="x.BertTextEmbedding"))),
            "BertTextEmbedding is not built yet",
        ),
        (lambda p: _write(p, _pyalinks(_changed(1, parent=2))), "stage 1 has no parent"),
        (lambda p: _write(p, _pyalinks(_changed(1, schemaIndices=[0, 9, 9]))), "cannot be read"),
        (lambda p: _write(p, _pyalinks(_changed(2, colNames=None))), "stage 2.* has no model"),
    ],
)
def test_what_is_no_pipeline_is_told(make, text, tmp_path):
    with pytest.raises(al.Error, match=f"(?s){text}"):
        pyalink.PipelineModel.load(make(tmp_path / "m.ak"))


def test_a_model_of_another_kind_is_told(tmp_path):
    wrong = _changed(1, identifier="com.alibaba.alink.pipeline.dataproc.StandardScalerModel")
    path = _write(tmp_path / "m.ak", _pyalinks(wrong))
    with pytest.raises(al.Error, match="the model has no 'withStd': it is of another kind"):
        pyalink.LocalPredictor(path, "a double").map([1.0])


def test_a_file_that_is_cut_off_is_refused(model, tmp_path):
    path = tmp_path / "m.ak"
    model.save(path)
    pyalink.BatchOperator.execute()
    whole = path.read_bytes()
    for size in (10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(al.Error):
            read_file(path)


def test_nothing_is_written_where_a_model_cannot_be_trained(tmp_path):
    path = tmp_path / "m.ak"
    stage = pyalink.LogisticRegression(featureCols=["a"], labelCol="ä", predictionCol="p")
    pyalink.Pipeline(stage).fit(rows()).save(path)  # a is NULL in a row
    with pytest.raises(al.Error):
        pyalink.BatchOperator.execute()
    assert list(tmp_path.iterdir()) == []
    pyalink.BatchOperator.execute()  # nothing waits any more
