"""Operators that give texts numbers, and numbers their texts back."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pandas as pd
import pytest

import alink as al
from pyalink import alink as pyalink

WORDS = ["b", "ä", None, "b", "c", "日本", "ä", "b", "", "c"]
FRAME = pd.DataFrame({"w": WORDS, "n": [3, 3, None, 20, 3, 20, 100, None, 3, 3]})
SCHEMA = "w string, n bigint"
KNOWN = [word for word in WORDS if word is not None]
ORDERS = {
    "random": sorted,
    "ALPHABET_ASC": sorted,
    "alphabet_desc": lambda counts: sorted(counts, reverse=True),
    "FREQUENCY_ASC": lambda counts: sorted(counts, key=lambda word: (counts[word], word)),
    "Frequency_Desc": lambda counts: sorted(counts, key=lambda word: (-counts[word], word)),
}


def batch(frame: pd.DataFrame = FRAME, schema: str = SCHEMA) -> Any:
    return pyalink.BatchOperator.fromDataframe(frame, schemaStr=schema)


def stream(frame: pd.DataFrame = FRAME, schema: str = SCHEMA) -> Any:
    return pyalink.StreamOperator.fromDataframe(frame, schemaStr=schema)


def column(operator: Any, name: str) -> list[Any]:
    return operator.toTable().to_arrow().column(name).to_pylist()


@pytest.mark.parametrize("order", ORDERS)
def test_values_are_numbered_in_the_order_that_is_asked_for(order):
    model = pyalink.StringIndexerTrainBatchOp(selectedCol="w", stringOrderType=order)
    model.linkFrom(batch())
    assert model.getSchemaStr() == "token VARCHAR, token_index BIGINT"
    rows = {row["token_index"]: row["token"] for row in model.toTable().collect()}
    wanted = ORDERS[order](Counter(KNOWN))
    assert [rows[i] for i in range(len(rows))] == wanted
    predict = pyalink.StringIndexerPredictBatchOp(selectedCol="W", outputCol="i")
    found = column(predict.linkFrom(model, batch()), "i")
    assert found == [len(wanted) if w is None else wanted.index(w) for w in WORDS]


def test_columns_are_numbered_together_or_by_themselves():
    frame = pd.DataFrame({"a": ["x", "y", None], "b": ["y", "z", "z"]})
    rows = batch(frame, "a string, b string")
    one = pyalink.StringIndexerTrainBatchOp(selectedCol="a", selectedCols=["b"]).linkFrom(rows)
    assert column(one, "token") == ["x", "y", "z"]
    model = pyalink.MultiStringIndexerTrainBatchOp(selectedCols=["a", "b"]).linkFrom(rows)
    lines = model.toTable().collect()
    about = {key: json.loads(text) for key, text in json.loads(lines[0]["token"]).items()}
    assert lines[0]["column_index"] == -1
    assert about == {"selectedCols": ["a", "b"], "selectedColTypes": ["VARCHAR", "VARCHAR"]}
    assert sorted(tuple(line.values()) for line in lines[1:]) == [
        (0, "x", 0), (0, "y", 1), (1, "y", 0), (1, "z", 1),
    ]  # fmt: skip
    predict = pyalink.MultiStringIndexerPredictBatchOp(
        selectedCols=["B"], outputCols=["i"], reservedCols=["a"]
    ).linkFrom(model, rows)
    assert predict.toTable().collect() == [
        {"a": "x", "i": 0}, {"a": "y", "i": 1}, {"a": None, "i": 1},
    ]  # fmt: skip


NEW = pd.DataFrame({"w": ["c", None, "new", "日本"], "n": [1, 2, 3, 4]})


@pytest.mark.parametrize(
    ("invalid", "wanted"), [("keep", [2, 5, 5, 4]), ("SKIP", [2, None, None, 4])]
)
@pytest.mark.parametrize("kind", ["StringIndexer", "MultiStringIndexer"])
def test_what_the_model_does_not_know(kind, invalid, wanted):
    many = "Multi" in kind
    of: dict[str, Any] = {"selectedCols": ["w"]} if many else {"selectedCol": "w"}
    to: dict[str, Any] = {"outputCols": ["i"]} if many else {"outputCol": "i"}
    model = getattr(pyalink, f"{kind}TrainBatchOp")(**of).linkFrom(batch())
    given = {**of, **to, "handleInvalid": invalid}
    predict = getattr(pyalink, f"{kind}PredictBatchOp")(**given).linkFrom(model, batch(NEW))
    assert column(predict, "i") == wanted
    streamed = getattr(pyalink, f"{kind}PredictStreamOp")(model, **given).linkFrom(stream(NEW))
    assert column(streamed, "i") == wanted
    stage = getattr(pyalink, kind)(**given).fit(batch())
    assert column(stage.transform(batch(NEW)), "i") == wanted
    huge = getattr(pyalink, f"Huge{kind}PredictBatchOp")(
        selectedCols=["w"], outputCols=["i"], handleInvalid=invalid
    ).linkFrom(model, batch(NEW))
    assert sorted(map(str, huge.toTable().select("n", "i").collect())) == [
        str({"n": n, "i": i}) for n, i in zip(NEW["n"], wanted, strict=True)
    ]


def test_what_the_model_does_not_know_can_fail_the_job():
    model = pyalink.StringIndexerTrainBatchOp(selectedCol="w").linkFrom(batch())
    predict = pyalink.StringIndexerPredictBatchOp(selectedCol="w", handleInvalid="ERROR")
    with pytest.raises(al.Error, match=r"column 'w' has NULL, which the model does not know"):
        predict.linkFrom(model, batch(NEW)).collectToDataframe()
    huge = pyalink.HugeStringIndexerPredictBatchOp(selectedCols=["w"], handleInvalid="ERROR")
    with pytest.raises(al.Error, match=r"does not know, of column w, the value (new|NULL)"):
        huge.linkFrom(model, batch(NEW)).collectToDataframe()


@pytest.mark.parametrize(
    ("schema", "values", "texts"),
    [
        ("x double", [1e7, 0.5, 1e7, None], ["0.5", "1.0E7"]),
        ("x int", [10, 9, 10, None], ["10", "9"]),
        ("x boolean", [True, False, True, None], ["false", "true"]),
        (
            "x timestamp",
            [pd.Timestamp("2020-01-01"), pd.Timestamp("1999-12-31 23:59:59.5"), None],
            ["1999-12-31 23:59:59.5", "2020-01-01 00:00:00.0"],
        ),
        ("x vector", ["1 2", "$3$1:2.0", "1 2"], ["$3$1:2.0", "1.0 2.0"]),
    ],
)
def test_values_that_are_no_texts_are_compared_as_javas_texts(schema, values, texts):
    rows = batch(pd.DataFrame({"x": pd.Series(values, dtype=object)}), schema)
    model = pyalink.StringIndexerTrainBatchOp(selectedCol="x").linkFrom(rows)
    assert column(model, "token") == texts
    predict = pyalink.StringIndexerPredictBatchOp(selectedCol="x", handleInvalid="SKIP")
    numbers = column(predict.linkFrom(model, rows), "x")
    assert set(numbers) - {None} == {0, 1}
    huge = pyalink.HugeStringIndexerPredictBatchOp(selectedCols=["x"], handleInvalid="SKIP")
    assert Counter(column(huge.linkFrom(model, rows), "x")) == Counter(numbers)


def test_numbers_become_texts_again():
    stage = pyalink.StringIndexer(selectedCol="w", outputCol="i", modelName="words")
    back = pyalink.IndexToString(modelName="words", selectedCol="i", outputCol="back")
    model = pyalink.Pipeline(stage, back).fit(batch())
    assert column(model.transform(batch()), "back") == WORDS  # NULL's number stands for no text
    assert column(model.transform(stream()), "back") == WORDS
    train = pyalink.StringIndexerTrainBatchOp(selectedCol="w").linkFrom(batch())
    numbers = batch(pd.DataFrame({"i": [0, 2, -1, 99, None]}), "i int")
    given = pyalink.IndexToStringPredictBatchOp(selectedCol="i").linkFrom(train, numbers)
    assert column(given, "i") == ["", "c", None, None, None]
    streamed = pyalink.IndexToStringPredictStreamOp(train, selectedCol="i", outputCol="w")
    streamed.linkFrom(stream(pd.DataFrame({"i": [4]}), "i int"))
    assert column(streamed, "w") == ["日本"]
    huge = pyalink.HugeIndexerStringPredictBatchOp(selectedCols=["i"]).linkFrom(train, numbers)
    assert Counter(column(huge, "i")) == Counter(["", "c", None, None, None])
    strict = pyalink.HugeIndexerStringPredictBatchOp(selectedCols=["i"], handleInvalid="error")
    with pytest.raises(al.Error, match="of column i, the value"):
        strict.linkFrom(train, numbers).collectToDataframe()


def test_a_model_is_found_by_its_latest_name_alone():
    frame = pd.DataFrame({"w": ["q"]})
    pyalink.StringIndexerTrainBatchOp(selectedCol="w", modelName="m").linkFrom(batch())
    pyalink.StringIndexerTrainBatchOp(selectedCol="w", modelName="m").linkFrom(
        batch(frame, "w string")
    )
    numbers = batch(pd.DataFrame({"i": [0]}), "i bigint")
    stage = pyalink.IndexToString(modelName="m", selectedCol="i")
    assert column(stage.transform(numbers), "i") == ["q"]
    with pytest.raises(al.Error, match="no model is called"):
        pyalink.IndexToString(modelName="none", selectedCol="i").transform(numbers)


def test_several_columns_of_a_joined_model():
    model = pyalink.MultiStringIndexerTrainBatchOp(selectedCols=["w", "n"]).linkFrom(batch())
    huge = pyalink.HugeMultiStringIndexerPredictBatchOp(
        selectedCols=["N", "w"], outputCols=["j", "i"], reservedCols=["w", "n"]
    ).linkFrom(model, batch())
    assert huge.getColNames() == ["w", "n", "j", "i"]
    plain = pyalink.MultiStringIndexerPredictBatchOp(
        selectedCols=["n", "w"], outputCols=["j", "i"]
    ).linkFrom(model, batch())
    assert Counter(map(str, huge.toTable().collect())) == Counter(
        map(str, plain.toTable().collect())
    )
    back = pyalink.HugeMultiIndexerStringPredictBatchOp(
        selectedCols=["j", "i"], outputCols=["n2", "w2"]
    )
    renamed = batch(FRAME.rename(columns={"w": "i", "n": "j"}), "i string, j bigint")
    model = pyalink.MultiStringIndexerTrainBatchOp(selectedCols=["i", "j"]).linkFrom(renamed)
    given = back.linkFrom(model, huge).toTable().collect()
    assert {row["w2"] for row in given} == {*KNOWN, None}
    assert all(row["w"] == row["w2"] for row in given)
    assert all(row["n2"] == (None if row["n"] is None else str(row["n"])) for row in given)


def test_nothing_to_number():
    none = batch(pd.DataFrame({"w": [None, None]}), "w string")
    for rows in (none, batch(pd.DataFrame({"w": []}), "w string")):
        model = pyalink.StringIndexerTrainBatchOp(selectedCol="w").linkFrom(rows)
        assert model.toTable().count() == 0
        predict = pyalink.StringIndexerPredictBatchOp(selectedCol="w").linkFrom(model, batch())
        assert column(predict, "w") == [0] * len(WORDS)
        several = pyalink.MultiStringIndexerTrainBatchOp(selectedCols=["w"]).linkFrom(rows)
        assert several.toTable().count() == 1
        huge = pyalink.HugeMultiStringIndexerPredictBatchOp(selectedCols=["w"])
        assert column(huge.linkFrom(several, batch()), "w") == [0] * len(WORDS)


def test_what_is_refused():
    rows = batch()
    model = pyalink.MultiStringIndexerTrainBatchOp(selectedCols=["w"]).linkFrom(rows)
    with pytest.raises(al.Error, match="stringOrderType"):
        pyalink.StringIndexerTrainBatchOp(selectedCol="w", stringOrderType="up").linkFrom(rows)
    with pytest.raises(al.Error, match='there is no column "v"'):
        pyalink.StringIndexerTrainBatchOp(selectedCol="v").linkFrom(rows)
    with pytest.raises(al.Error, match='column "w" twice'):
        pyalink.MultiStringIndexerTrainBatchOp(selectedCols=["w", "W"]).linkFrom(rows)
    with pytest.raises(al.Error, match="'outputCols' names 1 columns for 2"):
        pyalink.MultiStringIndexerPredictBatchOp(
            selectedCols=["w", "n"], outputCols=["i"]
        ).linkFrom(model, rows)
    with pytest.raises(al.Error, match="the model knows no column 'n': it was trained on w"):
        pyalink.MultiStringIndexerPredictBatchOp(selectedCols=["n"]).linkFrom(
            model, rows
        ).collectToDataframe()
    with pytest.raises(al.Error, match="does not know the column n"):
        pyalink.HugeMultiStringIndexerPredictBatchOp(selectedCols=["n"]).linkFrom(
            model, rows
        ).collectToDataframe()
    with pytest.raises(al.Error, match="is no model of indexers"):
        pyalink.HugeStringIndexerPredictBatchOp(selectedCols=["w"]).linkFrom(rows, rows)
    with pytest.raises(al.Error, match="is no model"):
        pyalink.StringIndexerPredictBatchOp(selectedCol="w").linkFrom(
            rows, rows
        ).collectToDataframe()
    with pytest.raises(al.Error, match='column "w" is STRING'):
        pyalink.IndexToStringPredictBatchOp(selectedCol="w").linkFrom(model, rows)


def test_many_values_are_numbered_without_a_worker():
    many = al.sql("SELECT 'v' || (i % 200000) AS w FROM range(300000) AS r(i)")
    rows = pyalink.BatchOperator.fromTable(many)
    train = pyalink.StringIndexerTrainBatchOp(selectedCol="w", stringOrderType="frequency_desc")
    model = train.linkFrom(rows).toTable()
    assert "map_" not in model.explain()
    assert model.agg(n="count(*)", t="count(DISTINCT token)", m="max(token_index)").collect() == [
        {"n": 200000, "t": 200000, "m": 199999}
    ]
