"""Every parameter of an operator is read, or stands here with the reason why it is not."""

from __future__ import annotations

import csv
import inspect
import os
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import alink as al
from alink import operators
from alink.operators._catalogue import Entry, Parameter, catalogue
from alink.operators._define import BUILT
from alink.operators._params import MODEL_FILES, WithParams
from alink.operators._training import TrainStage
from alink.operators._tuning import SearchModel
from pyalink import alink as pyalink

PACKAGE = Path(operators.__file__).parents[1]
SOURCES = "\n".join(
    path.read_text(encoding="utf-8")
    for folder in ("operators", "_algorithms")
    for path in sorted((PACKAGE / folder).glob("*.py"))
)
#: What ends the name of a parameter that has a value for each column.
EACH = ("Array", "Map")
UNREAD = {
    "algoType": "trees are boosted in one way",
    "appendType": "numbers without gaps, DENSE, are what UNIQUE asks for too",
    "bit": "distinct visitors are counted, not estimated",
    "checkpointFilePath": "a training is not continued: it begins anew where a worker is lost",
    "createTreeMode": "says how to compute, not what",
    "dalayTime": "a stream that has an end waits for all rows",
    "debug": "of the training's log",
    "evaluation": "of the training's log",
    "intraOpParallelism": "says how to compute, not what",
    "initSteps": "the start is k-means++ whatever the mode",
    "latency": "a stream that has an end waits for all rows",
    "maxMemoryInMB": "says how to compute, not what",
    "modelStreamScanInterval": "of files of models, which no operator reads",
    "modelStreamStartTime": "of files of models, which no operator reads",
    "numPSs": "one worker trains a network",
    "numThreads": "says how to compute, not what",
    "numWorkers": "one worker trains a network",
    "optimMethod": "all of them end in the same minimum",
    "pipelineSize": "says how to compute, not what",
    "pluginVersion": "there are no plugins",
    "pythonEnv": "the engine builds the environment",
    "refreshInterval": "of PyAlink's display in notebooks",
    "runningMode": "says how to compute, not what",
    "saveCheckpointsSecs": "what is the best state would hang on the clock",
    "scanInterval": "a folder is read once",
    "singlePrecisionHistogram": "says how to compute, not what",
    "sketchRatio": "bins are found on a sample of the library's",
    "timePerSample": "rows are made when they are asked for",
    "timeZones": "rows are made when they are asked for",
    "useEpsilonApproQuantile": "bins are found on a sample of the library's",
    "useMissing": "the library knows missing values",
    "useOneHot": "the library splits categories by their means",
    "vizName": "charts in a browser are not made",
    "watermarkType": "a stream that has an end waits for all rows",
}
CLASSES = {
    name: kind
    for name, kind in sorted(BUILT.items())
    # What a search gives is made by the search alone.
    if issubclass(kind, WithParams) and kind._parameters and not issubclass(kind, SearchModel)
}
#: A value for each type that is no default.
VALUES: dict[str, Any] = {
    "String": "é",
    "Character": ";",
    "Integer": 17,
    "int": 17,
    "Long": 17,
    "Double": 0.375,
    "double": 0.375,
    "Float": 0.375,
}


def value_of(parameter: Parameter) -> Any:
    kind = parameter.type
    if kind.lower() == "boolean":
        return not parameter.default
    item = VALUES.get(kind.removesuffix("[]").removesuffix("[]"))
    if item is None:
        return None
    return [[item]] if kind.endswith("[][]") else [item] if kind.endswith("[]") else item


def is_read(name: str) -> bool:
    stems = [name, *(name.removesuffix(end) for end in EACH if name.endswith(end))]
    return any(re.search(rf"""["']{re.escape(stem)}["']""", SOURCES) for stem in stems)


def test_every_parameter_is_read_or_has_a_reason() -> None:
    named = {name for kind in CLASSES.values() for name in kind._parameters}
    pattern = "numTreesOf"  # Gini and its kin, by the name of the criterion
    unread = {name for name in named if not is_read(name) and not name.startswith(pattern)}
    assert unread - MODEL_FILES == UNREAD.keys()


@pytest.mark.parametrize("name", CLASSES)
def test_keywords_and_setters_are_one(name: str) -> None:
    kind = CLASSES[name]
    given = {
        parameter.name: value
        for parameter in kind._parameters.values()
        if parameter.name not in MODEL_FILES and (value := value_of(parameter)) is not None
    }
    made, empty = kind(**given), kind()
    for key, value in given.items():
        setter = f"{key[:1].upper()}{key[1:]}"
        assert getattr(empty, f"set{setter}")(value) is empty
        assert made._get(key) == empty._get(key) == value
    assert made.getParams() == empty.getParams() == given
    with pytest.raises(al.PlanError, match=f'{kind._name} has no parameter "colour"'):
        kind(colour="red")


def test_setters_are_found_in_the_class_and_say_what_they_set() -> None:
    setter: Any = pyalink.KMeans.setK
    stage = pyalink.KMeans()
    assert setter(stage, 3) is stage
    assert stage.getK() == 3
    assert setter(stage, val=4).setMaxIter(val=7).getParams() == {"k": 4, "maxIter": 7}
    for given in ({}, {"value": 3}, {"val": 3, "other": 4}):
        with pytest.raises(al.PlanError, match="given no value"):
            stage.setK(**given)
    wanted = "Set k, of type Integer; 2 if it is not set. Gives what it belongs to."
    assert inspect.getdoc(setter) == inspect.getdoc(stage.setK) == wanted
    assert setter.__qualname__ == "KMeans.setK"
    assert "it is required" in str(pyalink.CsvSourceBatchOp.setFilePath.__doc__)
    for name in ("setQ", "k", "__wrapped__"):
        assert not hasattr(pyalink.KMeans, name)


def test_a_value_of_another_type_is_refused_by_name() -> None:
    for kind in CLASSES.values():
        for parameter in kind._parameters.values():
            if parameter.type in {"Integer", "Double", "Long", "Boolean"}:
                with pytest.raises(al.PlanError, match=re.escape(f'"{parameter.name}" cannot be')):
                    kind(**{parameter.name: "wide"})


def test_a_word_that_a_parameter_does_not_know_gets_those_it_knows() -> None:
    frame = pd.DataFrame({"x": [1.0], "y": ["1 2"]})
    rows = pyalink.BatchOperator.fromDataframe(frame, schemaStr="x double, y string")
    for stage, word, known in [
        (pyalink.StringIndexer(selectedCol="y", outputCol="o"), "stringOrderType", "RANDOM"),
        (pyalink.KMeans(vectorCol="y", predictionCol="o"), "distanceType", "EUCLIDEAN"),
        (pyalink.ColumnsToKv(kvCol="o"), "handleInvalid", "ERROR, SKIP"),
        (pyalink.OneHotEncoder(selectedCols=["y"], outputCols=["o"]), "handleInvalid", "KEEP"),
    ]:
        stage._set(word, "nix")
        with pytest.raises(al.PlanError, match=f"{word}.*nix") as error:
            (stage.fit(rows) if isinstance(stage, TrainStage) else stage).transform(rows)
        assert known in str(error.value)


def test_the_catalogue_is_alinks() -> None:
    folder = os.environ.get("ALINK_CASES")
    path = Path(folder).parent if folder else Path(__file__).parents[3] / "shared/alink"
    if not path.is_dir():
        pytest.skip("the recorded facts about Alink are not here")
    with (path / "operators.tsv").open(encoding="utf-8", newline="") as file:
        recorded = list(csv.DictReader(file, delimiter="\t"))
    assert len(recorded) > 900
    differ: set[tuple[str, str]] = set()
    for row in recorded:
        entry = catalogue()[row["name"]]
        wanted = Entry(row["name"], row["kind"], row["category"], row["parameters"])
        assert (entry.kind, entry.category) == (wanted.kind, wanted.category)
        for name, parameter in wanted.parameters.items():
            if str(entry.parameters.get(name)) != str(parameter):
                differ.add((row["name"], name))
    # Alink's documentation asks for these, and Alink runs without them.
    names = ("GroupDbscanBatchOp", "GroupDbscanModelBatchOp", "GroupEmBatchOp")
    assert differ == {(name, "predictionCol") for name in (*names, "StreamingKMeansStreamOp")}
