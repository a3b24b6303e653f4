"""What holds of every estimator: one set of checks, in the style of scikit-learn's, that all run.

An estimator that is built later runs through them without a word here, unless its parameters
need more than `settings` gives them.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pytest
from berts import write_bert

import alink as al
from alink import _codes as codes
from alink import ml
from alink.operators import _training
from alink.operators._catalogue import catalogue
from alink.operators._define import BUILT
from alink.operators._stages import Pipeline, PipelineModel
from alink.operators._training import TrainStage
from pyalink import alink as pyalink

ROWS = 90
RANDOM = np.random.default_rng(11)
POINTS = RANDOM.normal(size=(ROWS, 3)) + RANDOM.integers(0, 3, ROWS)[:, None] * [4.0, 0.0, -4.0]
SCORE = POINTS @ [1.0, -0.5, 0.25] + RANDOM.logistic(size=ROWS)
WORDS = np.array(["ant", "bee", "cat", "dög"])[RANDOM.integers(0, 4, (ROWS, 3))]
FRAME = pd.DataFrame(
    {
        "id": range(ROWS),
        "a": POINTS[:, 0],
        "b": POINTS[:, 1],
        "c": POINTS[:, 2],
        "dense": [" ".join(map(repr, p)) for p in POINTS.tolist()],
        "sparse": [
            "$3$" + " ".join(f"{i}:{x!r}" for i, x in enumerate(p)) for p in POINTS.tolist()
        ],
        "counts": [" ".join(map(str, p)) for p in RANDOM.integers(0, 5, (ROWS, 3)).tolist()],
        "word": WORDS[:, 0],
        "words": [" ".join(w) for w in WORDS.tolist()],
        "label": np.where(np.median(SCORE) < SCORE, "yes", "no"),
        "target": np.exp(SCORE / 4),
        "weight": RANDOM.uniform(0.5, 2, ROWS),
        "lat": 50 + POINTS[:, 0],
        "lon": 8 + POINTS[:, 1],
        "gap": [None if i % 7 == 3 else x for i, x in enumerate(POINTS[:, 0].tolist())],
        "censor": np.where(RANDOM.uniform(size=ROWS) < 0.8, 1.0, 0.0),
    }
)
SCHEMA = (
    "id bigint, a double, b double, c double, dense string, sparse string, counts string, "
    "word string, words string, label string, target double, weight double, lat double, "
    "lon double, gap double, censor double"
)

# Columns by the parameters that name them.
COLUMNS: dict[str, Any] = {
    "latitudeCol": "lat",
    "longitudeCol": "lon",
    "idCol": "id",
    "predictionCol": "out",
    "outputCol": "out",
}
BERT = TemporaryDirectory()
DROPPED = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
# What an estimator is given besides, by its name.
GIVEN: dict[str, dict[str, Any]] = {
    "AftSurvivalRegression": {"censorCol": "censor", "labelCol": "target"},
    "AutoCross": {"selectedCols": ["word", "words", "c"], "maxSearchStep": 1},
    "BertTextClassifier": {
        "textCol": "words",
        "bertModelName": str(write_bert(Path(BERT.name), DROPPED)),
        "maxSeqLength": 16,
        "numEpochs": 1.5,
    },
    "Binning": {"encode": "INDEX", "outputCols": ["x", "y", "z"]},
    "CartRegEncoder": {"labelCol": "target"},
    "CrossCandidateSelector": {
        "selectedCols": ["word", "words", "a"],
        "featureCandidates": ["word,words"],
        "crossFeatureNumber": 1,
    },
    "CrossFeature": {"selectedCols": ["word", "label"]},
    "Dbscan": {"epsilon": 1.0, "minPoints": 3},
    "DecisionTreeRegEncoder": {"labelCol": "target"},
    "GbdtRegEncoder": {"labelCol": "target"},
    "ExclusiveFeatureBundle": {"sparseVectorCol": "sparse"},
    "Imputer": {"selectedCols": ["gap"]},
    "KModes": {"featureCols": ["word", "label"], "k": 2},
    "KerasSequentialClassifier": {"layers": ["Dense(4, activation='tanh')"], "numEpochs": 2},
    "KerasSequentialRegressor": {"layers": ["Dense(4, activation='tanh')"], "numEpochs": 2},
    "LassoRegression": {"lambda": 0.01},
    "LinearSvr": {"C": 1.0},
    "Lda": {"selectedCol": "words", "topicNum": 2, "randomSeed": 3},
    "MultiHotEncoder": {"selectedCols": ["words"], "outputCols": ["out"]},
    "MultiStringIndexer": {"selectedCols": ["word", "label"], "stringOrderType": "alphabet_asc"},
    "MultilayerPerceptronClassifier": {"layers": [3, 4, 2], "maxIter": 10},
    "NaiveBayesTextClassifier": {"vectorCol": "counts"},
    "OneHotEncoder": {"selectedCols": ["word", "label"], "outputCols": ["out"]},
    "OneVsRest": {
        "numClass": 2,
        "classifier": pyalink.LogisticRegression(featureCols=["a", "b", "c"], labelCol="label"),
    },
    "PCA": {"k": 2},
    "RandomForestRegEncoder": {"labelCol": "target"},
    "RidgeRegression": {"lambda": 0.01},
    "StringIndexer": {
        "selectedCol": "word",
        "outputCol": "out",
        "stringOrderType": "frequency_asc",
    },
    "TargetEncoder": {
        "selectedCols": ["word"],
        "outputCols": ["out"],
        "positiveLabelValueString": "yes",
    },
    "XGBoostClassifier": {"numRound": 5},
    "XGBoostRegressor": {"numRound": 5},
}
# Categories whose labels are classes.
CLASSES = {"classification", "feature"}
# What takes a value that is missing as one among others; all others give NULL.
MISSING_IS_A_VALUE = {
    "Binning", "CrossFeature", "EqualWidthDiscretizer", "Imputer", "KModes", "MultiStringIndexer",
    "NaiveBayes", "OneHotEncoder", "QuantileDiscretizer", "StringIndexer", "TargetEncoder",
    *(name for name in BUILT if re.match(r"C45|Cart|DecisionTree|Gbdt|Id3|RandomForest|XGB", name)),
}  # fmt: skip
# What learns that values may be missing, from a row that has none.
LEARNS_NULL = {"CrossFeature"}
# What predicts with a library that the engine alone has, which takes a local predictor seconds.
IN_THE_ENGINE = {name for name in BUILT if re.match(r"Bert|Keras", name)}
# Rows that are odd, by the columns that are.
ODD: dict[str, dict[str, Any]] = {
    "constant": {
        "a": 1.0, "b": 1.0, "c": 1.0, "dense": "1.0 1.0 1.0", "counts": "1 1 1", "word": "ant",
        "words": "ant", "gap": 1.0,
    },
    "one class": {"label": "yes", "target": 1.0},
    "infinite": {
        "a": [math.inf, math.nan, *POINTS[2:, 0]],
        "dense": ["Infinity 0.0 NaN", *FRAME["dense"][1:]],
    },
}  # fmt: skip
# Results that hang on the order of sums, by so much at most.
TOLERANCE = 1e-5

# These run the program of `BertTextClassifier` with a second text or another loss, which takes
# seconds to compile: ``test_operators_bert.py`` has them.
LIKE_ANOTHER = {"BertTextPairClassifier", "BertTextPairRegressor", "BertTextRegressor"}

ESTIMATORS = sorted(
    name
    for name, kind in BUILT.items()
    if issubclass(kind, TrainStage) and catalogue()[name].category != "tuning"
    if name not in LIKE_ANOTHER
)


def settings(name: str) -> dict[str, Any]:
    """Give parameters with which an estimator can be trained on the frame."""
    entry = catalogue()[name]
    given = {key: value for key, value in COLUMNS.items() if key in entry.parameters}
    if "labelCol" in entry.parameters:
        given["labelCol"] = "label" if entry.category in CLASSES else "target"
    for key, columns in (
        ("featureCols", ["a", "b", "c"]),
        ("selectedCols", ["a", "b", "c"]),
        ("vectorCol", "dense"),
        ("selectedCol", "dense"),
        ("tensorCol", "dense"),
    ):
        if key in entry.parameters:
            given[key] = columns
            break
    if "seed" in entry.parameters:
        given["seed"] = 5
    if "randomSeed" in entry.parameters:
        given["randomSeed"] = 5
    return {**given, **GIVEN.get(name, {})}


@functools.cache
def rows() -> Any:
    return pyalink.BatchOperator.fromDataframe(FRAME, schemaStr=SCHEMA)


def make(name: str, **more: Any) -> Any:
    return getattr(pyalink, name)(**{**settings(name), **more})


def fitted(name: str, data: Any = None, **more: Any) -> Any:
    return make(name, **more).fit(data or rows())


def applied(model: Any, data: Any = None) -> pd.DataFrame:
    return model.transform(data or rows()).collectToDataframe()


def compare(found: pd.DataFrame, wanted: pd.DataFrame, tolerance: float = TOLERANCE) -> None:
    """Compare frames: numbers, also those within texts, up to a tolerance."""
    assert list(found.columns) == list(wanted.columns)
    assert list(found.dtypes) == list(wanted.dtypes)
    assert len(found) == len(wanted)
    for column in wanted.columns:
        for a, b in zip(found[column].tolist(), wanted[column].tolist(), strict=True):
            assert alike(a, b, tolerance), f"{column}: {a} where {b} is expected"


def alike(a: Any, b: Any, tolerance: float) -> bool:
    if isinstance(a, str) and isinstance(b, str) and a != b:
        try:
            return alike(json.loads(a), json.loads(b), tolerance)
        except ValueError:
            left, right = parts(a), parts(b)
            return len(left) == len(right) > 1 and all(
                alike(x, y, tolerance) for x, y in zip(left, right, strict=True)
            )
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(alike(a[k], b[k], tolerance) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(alike(x, y, tolerance) for x, y in zip(a, b, strict=True))
    if a is pd.NA or b is pd.NA or a is None or b is None:
        return pd.isna(a) == pd.isna(b)
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        same = math.isnan(a) and math.isnan(b)
        return same or math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)
    return a == b


def parts(text: str) -> list[Any]:
    """Give what a vector's text consists of."""
    found: list[Any] = []
    for part in text.replace(":", " : ").replace("$", " $ ").replace(",", " ").split():
        try:
            found.append(float(part))
        except ValueError:
            found.append(part)
    return found


@pytest.fixture(scope="module", params=ESTIMATORS)
def estimator(request):
    return request.param


@pytest.fixture(scope="module")
def model(estimator):
    return fitted(estimator)


@pytest.fixture(scope="module")
def wanted(model):
    return applied(model)


def test_it_gives_a_row_for_each_row(estimator, wanted):
    assert len(wanted) == ROWS
    assert wanted["id"].tolist() == list(range(ROWS))
    added = [c for c in wanted.columns if c not in FRAME.columns]
    changed = [c for c in FRAME.columns if not is_same(wanted[c], FRAME[c])]
    assert added or changed
    for column in added:
        assert wanted[column].notna().any(), f"{column} is NULL in all rows"


def is_same(a: pd.Series, b: pd.Series) -> bool:
    return all(alike(x, y, 0.0) for x, y in zip(a.tolist(), b.tolist(), strict=True))


def test_parameters_are_kept(estimator):
    stage = getattr(pyalink, estimator)()
    for name, value in settings(estimator).items():
        setter = f"{name[:1].upper()}{name[1:]}"
        assert getattr(stage, f"set{setter}")(value) is stage
        got = getattr(stage, f"get{setter}")()
        assert (getattr(got, "_values", got)) == getattr(value, "_values", value)
    with pytest.raises(al.PlanError, match="has no parameter"):
        getattr(pyalink, estimator)(colour="red")


def test_trained_twice_it_is_the_same(estimator, wanted):
    compare(applied(fitted(estimator)), wanted, tolerance=0.0)


def test_several_workers_train_what_one_trains(estimator, wanted, monkeypatch):
    monkeypatch.setattr(_training, "WORKERS", 3)
    compare(applied(fitted(estimator)), wanted)


def test_sparse_vectors_are_as_good_as_dense_ones(estimator):
    given = catalogue()[estimator].parameters
    if "vectorCol" not in given or settings(estimator).get("vectorCol") == "counts":
        pytest.skip("it takes no such vectors")
    more = dict.fromkeys({"featureCols", "selectedCols"} & set(given))
    dense, sparse = (applied(fitted(estimator, vectorCol=v, **more)) for v in ("dense", "sparse"))
    compare(dense, sparse)


def test_saved_and_read_it_gives_the_same(estimator, model, wanted, tmp_path):
    path = str(tmp_path / "model.ak")
    PipelineModel(model).save(path)
    pyalink.BatchOperator.execute()
    compare(applied(PipelineModel.load(path)), wanted, tolerance=0.0)
    pipeline = str(tmp_path / "pipeline.ak")
    Pipeline(make(estimator)).save(pipeline)
    pyalink.BatchOperator.execute()
    compare(applied(Pipeline.load(pipeline).fit(rows())), wanted, tolerance=0.0)


def test_single_rows_are_mapped_alike(estimator, model, wanted):
    local = model.collectLocalPredictor(SCHEMA)
    assert local.getOutputColNames() == list(wanted.columns)
    given = FRAME.astype(object).to_numpy().tolist()[: 1 if estimator in IN_THE_ENGINE else 10]
    found = pd.DataFrame([local.map(row) for row in given], columns=wanted.columns)
    for column in wanted.columns:
        for a, b in zip(found[column].tolist(), wanted[column].tolist()[: len(given)], strict=True):
            assert alike(shown(a), b, 1e-9), f"{column}: {a!r} where {b!r} is expected"


def shown(value: Any) -> Any:
    return value if isinstance(value, (str, int, float)) or value is None else str(value)


def test_a_stream_is_given_what_a_table_is(model, wanted):
    stream = pyalink.StreamOperator.fromDataframe(FRAME, schemaStr=SCHEMA)
    found = applied(model, stream).sort_values("id", ignore_index=True)
    compare(found, wanted, tolerance=0.0)


def test_a_row_of_nulls_gives_null(estimator, model, wanted):
    nulls = with_nulls(FRAME.head(2))
    found = applied(model, pyalink.BatchOperator.fromDataframe(nulls, schemaStr=SCHEMA))
    assert found["id"].tolist() == [0, 1, -1]
    compare(found.head(2), wanted.head(2), tolerance=0.0)
    made = [c for c in wanted.columns if c not in FRAME or not is_same(wanted[c], FRAME[c])]
    assert made
    missing = {column: bool(pd.isna(found[column][2])) for column in made}
    assert missing == dict.fromkeys(made, estimator not in MISSING_IS_A_VALUE)


def with_nulls(frame: pd.DataFrame) -> pd.DataFrame:
    """Give a frame with a row more that has nothing but its number."""
    row = [-1 if column == "id" else None for column in frame.columns]
    more = pd.DataFrame([row], columns=frame.columns, dtype=object)
    return pd.concat([frame.astype(object), more], ignore_index=True)


def test_a_row_of_nulls_is_left_out_of_a_training_or_refused(estimator, wanted):
    data = pyalink.BatchOperator.fromDataframe(with_nulls(FRAME), schemaStr=SCHEMA)
    found = or_refused(lambda: applied(fitted(estimator, data)))
    if found is not None and estimator not in LEARNS_NULL:
        compare(found, wanted)


@pytest.mark.parametrize("odd", ODD)
def test_odd_rows_train_a_model_or_are_refused(estimator, odd):
    frame = FRAME.assign(**ODD[odd])
    data = pyalink.BatchOperator.fromDataframe(frame, schemaStr=SCHEMA)
    found = or_refused(lambda: applied(fitted(estimator, data)))
    if found is not None:
        for column in found.columns:
            assert column in FRAME or found[column].notna().all(), f"{column} has NULL"


@pytest.mark.parametrize("kept", [0, 1])
def test_few_rows_are_trained_on_or_refused(estimator, kept):
    data = pyalink.BatchOperator.fromDataframe(FRAME.head(kept), schemaStr=SCHEMA)
    found = or_refused(lambda: applied(fitted(estimator, data)))
    assert found is None or len(found) == ROWS


def or_refused(run: Callable[[], pd.DataFrame]) -> pd.DataFrame | None:
    """Give what comes out, or None where a message tells why not, meant for a user."""
    try:
        return run()
    except (al.PlanError, al.DataError):
        return None
    except al.UdfError as error:
        if error.diagnostic.code != codes.ROWS_REFUSED:
            raise
        return None


def test_a_column_that_is_missing_is_named(estimator):
    named = {
        key: value
        for key, value in settings(estimator).items()
        if key.endswith(("Col", "Cols")) and not key.startswith(("output", "prediction"))
    }
    for key, value in named.items():
        missing = ["colour"] if isinstance(value, list) else "colour"
        with pytest.raises(al.Error, match="colour"):
            applied(fitted(estimator, **{key: missing}))


def test_scikit_learns_style_gives_the_same(estimator, wanted):
    kind = getattr(ml, estimator)
    given = {ml.python_name(key): value for key, value in settings(estimator).items()}
    found = kind(**given).fit_transform(rows().toTable())
    compare(pyalink.BatchOperator.fromTable(found).collectToDataframe(), wanted, tolerance=0.0)
