"""Trees, forests and boosted trees: splits and leaves are those of the definitions."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from groups import train

import alink as al
from alink._algorithms import _tree_growth, _tree_levels
from alink._algorithms._boosting import train_boosted
from alink._algorithms._lightgbm import shared_library
from alink._algorithms._models import model_schema, read_model
from alink._algorithms._strings import Unreadable
from alink._algorithms._tree_models import Encode, Forest, Predict, Stored
from alink._algorithms._trees import train_forest
from alink._ship import Shipment
from alink.operators._mapping import PACKAGE, package
from alink.operators._model_info import DecisionTreeModelInfo, RandomForestModelInfo
from alink.operators._session import session
from alink.operators._training import Training
from pyalink import alink as pyalink

RANDOM = np.random.default_rng(11)
N = 600
X = np.round(RANDOM.normal(size=(N, 3)), 2)
KIND = np.array(["red", "green", "blue", "gray"])[RANDOM.integers(0, 4, N)]
TARGET = 2 * (X[:, 0] > 0.3) + X[:, 1] ** 2 + (KIND == "red") + RANDOM.normal(0, 0.1, N)
LABEL = np.where(TARGET > 2, "high", np.where(TARGET > 1, "mid", "low"))

TREE = {
    "labelCol": "y",
    "featureCols": ["a", "b", "c"],
    "maxDepth": 2**31 - 1,
    "maxLeaves": 2**31 - 1,
    "maxBins": 1000,
    "minSamplesPerLeaf": 1,
    "minSampleRatioPerChild": 0.0,
    "minInfoGain": 0.0,
}
BOOSTED = {
    **TREE,
    "classifier": False,
    "lambda": 0.0,
    "gamma": 0.0,
    "minSumHessianPerLeaf": 0.0,
    "numTrees": 5,
    "learningRate": 0.3,
    "maxDepth": 3,
}


def table(y: Any = TARGET, **more: Any) -> pa.Table:
    return pa.table({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "kind": KIND, "y": y, **more})


def grown(training: Any, rows: pa.Table, size: int = 1, **params: Any) -> Any:
    if training is train_boosted:
        return boosted(rows, {**BOOSTED, **params})
    return train(training({**TREE, **params}), rows, size, batch_rows=110)


def boosted(rows: pa.Table, params: dict[str, Any]) -> pa.Table:
    """Boost in a worker, where the library is."""
    label = rows.schema.field("y").type if params["classifier"] else None
    training = Training(
        "Gbdt",
        "_boosting.train_boosted",
        params,
        rows.column_names,
        model_schema(label),
        "lightgbm",
    )
    return session().context.from_arrow(rows)._train(training).to_arrow()


def trees(model: pa.Table) -> list[dict[str, Any]]:
    return [json.loads(text) for text in read_model(model).data[1:]]


def predicted(model: pa.Table, rows: pa.Table, kind: pa.DataType | None = None) -> list[Any]:
    task = Predict({}, [kind or pa.float64()])
    task.load(model)
    return task(rows.combine_chunks().to_batches()[0])[0].to_pylist()


def impurity(labels: Any, kind: str) -> float:
    if kind == "MSE":
        return float(np.var(labels))
    shares = np.unique(labels, return_counts=True)[1] / len(labels)
    if kind == "GINI":
        return float(1 - (shares**2).sum())
    return float(-(shares * np.log2(shares)).sum())


def gained(labels: Any, left: Any, kind: str) -> float:
    share = left.mean()
    both = share * impurity(labels[left], kind) + (1 - share) * impurity(labels[~left], kind)
    gain = impurity(labels, kind) - both
    return gain / impurity(left, "ENTROPY") if kind == "INFOGAINRATIO" else gain


@pytest.mark.parametrize("kind", ["MSE", "GINI", "INFOGAIN", "INFOGAINRATIO"])
def test_the_split_is_the_best_of_all(kind: str) -> None:
    y = TARGET if kind == "MSE" else LABEL
    tree = trees(grown(train_forest, table(y), kinds=[kind], maxDepth=1, minSamplesPerLeaf=20))[0]
    best = max(
        gained(y, X[:, j] <= value, kind)
        for j in range(3)
        for value in np.unique(X[:, j])
        if 20 <= (X[:, j] <= value).sum() <= N - 20
    )
    left = X[:, tree["feature"][0]] <= tree["threshold"][0]
    assert gained(y, left, kind) == pytest.approx(best, rel=1e-9)
    if kind == "MSE":
        wanted = [[y[left].mean()], [y[~left].mean()]]
    else:
        names = sorted(set(y))
        wanted = [[(part == name).mean() for name in names] for part in (y[left], y[~left])]
    np.testing.assert_allclose(tree["value"][1:], wanted)


def test_a_tree_without_bounds_tells_its_rows_apart() -> None:
    model = grown(train_forest, table(LABEL), kinds=["GINI"])
    assert predicted(model, table(LABEL), pa.string()) == LABEL.tolist()
    model = grown(train_forest, table(), kinds=["MSE"])
    np.testing.assert_allclose(predicted(model, table()), TARGET)


def test_categories_are_split_in_two_at_best_or_have_a_branch_each() -> None:
    y = (KIND == "red") * 3.0 + (KIND == "gray") * 2.0 + (KIND == "blue") * 0.5
    tree = trees(grown(train_forest, table(y), kinds=["MSE"], featureCols=["kind"], maxDepth=1))[0]
    names = np.array(["blue", "gray", "green", "red"])
    sides = dict(zip(names, tree["branches"]["0"][1:], strict=True))
    assert sides == {"green": 0, "blue": 0, "gray": 1, "red": 1}
    for kind in ("INFOGAIN", "INFOGAINRATIO"):
        model = grown(train_forest, table(LABEL), kinds=[kind], featureCols=["kind"], maxDepth=1)
        tree = trees(model)[0]
        assert tree["feature"] == [0, -1, -1, -1, -1]
        for j, name in enumerate(names):
            shares = [(LABEL[name == KIND] == label).mean() for label in sorted(set(LABEL))]
            np.testing.assert_allclose(tree["value"][1 + j], shares)


def test_leaves_of_boosting_are_newton_steps() -> None:
    y = np.where(TARGET > 1.5, 1, 0)
    params: dict[str, Any] = {"classifier": True, "numTrees": 1, "maxDepth": 1, "lambda": 2.5}
    model = grown(train_boosted, table(y), **params)
    tree = trees(model)[0]
    left = X[:, tree["feature"][0]] <= tree["threshold"][0]
    mean = y.mean()
    assert read_model(model).meta["base"] == [pytest.approx(np.log(mean / (1 - mean)))]
    for side, value in zip((left, ~left), tree["value"][1:], strict=True):
        step = (y[side] - mean).sum() / (side.sum() * mean * (1 - mean) + 2.5)
        assert value[0] == pytest.approx(0.3 * step)


def test_boosting_descends_and_gamma_stops_it() -> None:
    errors = [
        np.mean(
            (np.array(predicted(grown(train_boosted, table(), numTrees=n), table())) - TARGET) ** 2
        )
        for n in (1, 5, 40)
    ]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert trees(grown(train_boosted, table(), gamma=1e6))[0]["feature"] == [-1]


@pytest.mark.parametrize(
    ("training", "y", "params"),
    [
        (train_forest, LABEL, {"kinds": ["GINI", "INFOGAIN"], "subsamplingRatio": 0.5}),
        (train_forest, TARGET, {"kinds": ["MSE"], "minSamplesPerLeaf": 5}),
        (train_forest, TARGET, {"kinds": ["MSE"] * 2, "featureSubsamplingRatio": 0.5}),
    ],
)
def test_workers_together_grow_the_same_trees(training: Any, y: Any, params: Any) -> None:
    given = {"featureCols": ["a", "b", "c", "kind"], **params}
    # Rows are multiples of 1/64, so that sums are exact whatever their order is.
    y = np.round(y * 64) / 64 if y is TARGET else y
    alone, together = (grown(training, table(y), size, **given) for size in (1, 3))
    for a, b in zip(trees(alone), trees(together), strict=True):
        assert a["feature"] == b["feature"]
        np.testing.assert_allclose(a["threshold"], b["threshold"])
        np.testing.assert_allclose(a["value"], b["value"], atol=1e-9)


@pytest.mark.parametrize(
    ("y", "kinds", "more"),
    [
        (LABEL, ["GINI", "INFOGAIN", "INFOGAINRATIO"], {}),
        (LABEL, ["GINI"], {"weightCol": "w", "minSamplesPerLeaf": 3}),
        (TARGET, ["MSE"], {"weightCol": "w", "maxBins": 40}),
        (TARGET, ["MSE"], {"minSampleRatioPerChild": 0.1}),
        (LABEL, ["INFOGAIN", "GINI"], {"featureSubsamplingRatio": 0.5, "minSamplesPerLeaf": 1}),
    ],
)
def test_nodes_of_few_rows_are_split_as_all_others(
    y: Any, kinds: list[str], more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Codes that no row has lie between those of the others; some values are missing.
    rows = table(
        y,
        w=RANDOM.random(N),
        d=pa.array(np.where(X[:, 0] > 0, X[:, 1], np.nan), from_pandas=True),
        e=pa.array([None if i % 3 else i % 2 for i in range(N)], pa.float64()),
        f=np.ones(N),
    )
    names = ["f", "d", "kind", "a", "b", "e"]
    found: list[Any] = []
    for most, per_row, block, held in (
        (0, 10**9, 1, 4_000_000),  # none has few
        (4096, 1, 2**20, 4_000_000),  # all have
        (0, 2, 300, 5000),  # some have, and they are looked at in many parts
    ):
        monkeypatch.setattr(_tree_growth, "_ROWS_FEW", most)
        monkeypatch.setattr(_tree_growth, "_CELLS_PER_ROW", per_row)
        monkeypatch.setattr(_tree_growth, "_CELLS_FEW", block)
        monkeypatch.setattr(_tree_growth, "_CELLS_MAX", held)
        model = grown(train_forest, rows, kinds=kinds, featureCols=names, **more)
        found.append(read_model(model).data[1:])
    assert len(found[0][0]) > 500
    assert found[0] == found[1] == found[2]


def test_each_node_of_a_forest_draws_its_features() -> None:
    given = {"featureCols": ["a", "b", "c", "kind"], "seed": 7}
    count = 30
    model = grown(train_forest, table(), kinds=["MSE"] * count, numSubsetFeatures=1, **given)
    found = trees(model)
    assert all(set(tree["feature"]) == {-1, 0, 1, 2, 3} for tree in found)
    # All four are drawn at the root about as often.
    roots = np.bincount([tree["feature"][0] for tree in found], minlength=4)
    assert roots.min() >= 2
    again = grown(train_forest, table(), kinds=["MSE"] * count, numSubsetFeatures=1, **given)
    assert read_model(again).data == read_model(model).data
    other = grown(train_forest, table(), kinds=["MSE"], numSubsetFeatures=1, **given | {"seed": 8})
    assert read_model(other).data[1] != read_model(model).data[1]
    whole = grown(train_forest, table(), kinds=["MSE"], featureSubsamplingRatio=1.0, **given)
    assert (
        read_model(whole).data
        == read_model(grown(train_forest, table(), kinds=["MSE"], **given)).data
    )


@pytest.mark.parametrize("name", ["RandomForestClassifier", "RandomForestRegressor"])
def test_a_forest_is_better_than_its_trees(name: str) -> None:
    random = np.random.default_rng(1)
    x = random.normal(size=(1500, 8))
    y = 2 * x[:, 0] + np.sin(3 * x[:, 1]) + x[:, 2] * x[:, 3] + random.normal(size=1500) / 2
    label = y if name.endswith("Regressor") else (y > 0).astype(np.float64)
    frame = pd.DataFrame(x, columns=[f"f{i}" for i in range(8)]).assign(y=label)
    schema = ", ".join(f"{column} double" for column in frame.columns)
    known, new = (
        pyalink.BatchOperator.fromDataframe(part, schemaStr=schema)
        for part in (frame.iloc[:1000], frame.iloc[1000:])
    )

    def error(trees: int) -> float:
        forest = getattr(pyalink, name)(
            featureCols=list(frame.columns[:8]), labelCol="y", predictionCol="p", numTrees=trees
        )
        found = forest.fit(known).transform(new).collectToDataframe()
        return float(((found["p"] - found["y"]) ** 2).mean())

    assert error(25) < 0.75 * error(1)


def test_weights_are_rows_that_stand_more_than_once() -> None:
    weights = RANDOM.integers(1, 4, N)
    once = grown(train_forest, table(LABEL, w=weights), kinds=["GINI"], weightCol="w", maxDepth=4)
    rows = table(LABEL).take(np.repeat(np.arange(N), weights))
    often = grown(train_forest, rows, kinds=["GINI"], maxDepth=4)
    np.testing.assert_allclose(trees(once)[0]["value"], trees(often)[0]["value"])


def test_leaves_are_as_many_and_as_large_as_told() -> None:
    tree = trees(grown(train_forest, table(), kinds=["MSE"], maxLeaves=7))[0]
    assert tree["feature"].count(-1) == 7
    model = grown(train_forest, table(), kinds=["MSE"], minSamplesPerLeaf=50)
    task = Encode({}, [])
    task.load(model)
    found = task(table().combine_chunks().to_batches()[0])[0]
    leaves = [row["indices"][0] for row in found.to_pylist()]
    assert min(np.unique(leaves, return_counts=True)[1]) >= 50


def walked(tree: dict[str, Any], row: list[Any], categories: list[Any]) -> list[float]:
    node = 0
    while (feature := tree["feature"][node]) >= 0:
        value, known = row[feature], categories[feature]
        if value is None or value != value or (known is not None and value not in known):
            branch = tree["missing"][node]
        elif known is not None:
            branch = tree["branches"][str(node)][known.index(value) + 1]
        else:
            branch = int(value > tree["threshold"][node])
        node = tree["child"][node] + branch
    return tree["value"][node]


def test_missing_values_take_the_side_that_they_were_best_on() -> None:
    y = np.where(X[:, 0] > 0, 1.0, 0.0)
    a = [None if i % 5 == 0 else x for i, x in enumerate(X[:, 0])]
    y[::5] = 1.0
    rows = table(y).set_column(0, "a", pa.array(a, pa.float64()))
    model = grown(train_forest, rows, kinds=["MSE"], featureCols=["a"], maxDepth=1)
    assert predicted(model, pa.table({"a": pa.array([None, -1.0, 1.0, np.nan])})) == [1, 0, 1, 1]


def test_prediction_follows_the_model_as_it_is_documented() -> None:
    names = ["a", "b", "c", "kind"]
    for y, kinds in ((TARGET, ["MSE"] * 3), (LABEL, ["GINI", "INFOGAIN", "INFOGAINRATIO"])):
        model = grown(train_forest, table(y), kinds=kinds, featureCols=names, maxDepth=6)
        rows = table(y).slice(0, 60).to_pylist()
        rows += [{"a": None, "b": np.inf, "c": -np.inf, "kind": "pink"}, dict.fromkeys(names)]
        given = pa.table({n: [row[n] for row in rows] for n in names})
        categories = json.loads(read_model(model).data[0])
        found = predicted(model, given, pa.float64() if y is TARGET else pa.string())
        for row, value in zip(rows, found, strict=True):
            said = [walked(tree, [row[n] for n in names], categories) for tree in trees(model)]
            mean = np.mean(said, axis=0)
            if y is TARGET:
                assert value == pytest.approx(mean[0])
            else:
                assert value == sorted(set(LABEL))[int(np.argmax(np.round(mean, 12)))]


def random_tree(depth: int, cuts: Any) -> Stored:
    """Give a tree of which some leaves lie above the lowest level."""
    feature: list[int] = [-1]
    child, level = [-1], [0]
    for _ in range(depth):
        below = []
        for node in level:
            if node and RANDOM.random() < 0.2:
                continue
            feature[node], child[node] = int(RANDOM.integers(len(cuts))), len(feature)
            below += [len(feature), len(feature) + 1]
            feature += [-1, -1]
            child += [-1, -1]
        level = below
    threshold = [float(RANDOM.choice(cuts[j])) for j in feature]
    missing = RANDOM.integers(0, 2, len(feature)).tolist()
    return Stored(0, feature, threshold, child, missing, {}, RANDOM.normal(size=(len(feature), 1)))


@pytest.mark.parametrize("count", [1, 100, 255, 256, 900])
def test_rows_come_to_the_same_leaves_however_many_there_are(monkeypatch, count: int) -> None:
    monkeypatch.setattr(_tree_levels, "_ROWS_MAX", 4096)  # two whole blocks and a rest
    cuts = np.sort(RANDOM.normal(size=(3, count)))
    stored = [random_tree(depth, cuts) for depth in (0, 1, 2, 6, 7, 7, 7, 7, 9)]
    values = RANDOM.normal(size=(3, 9000))
    values[RANDOM.random(values.shape) < 0.1] = np.nan
    values[:, 10:20], values[:, 20:30] = np.inf, -np.inf
    values[:, 100:2000] = RANDOM.choice(cuts[0], 1900)
    forest = Forest(None, "sum", [0.5], stored, [])  # type: ignore[arg-type]
    expected = 0.5 + np.sum([tree.value[tree.leaves_of(values), 0] for tree in stored], axis=0)
    assert np.abs(forest.outcomes(values)[0] - expected).max() < 1e-12
    for begin in (0, 8, 16, 24, 104):
        few = forest.outcomes(values[:, begin : begin + 8])[0]
        assert np.abs(few - expected[begin : begin + 8]).max() < 1e-12
    known: list[Any] = [None] * 3
    for tree, row in zip(stored * 40, values.T.tolist(), strict=False):
        assert walked(json.loads(tree.text()), row, known) == tree.value[tree.leaf_of(row)].tolist()


def sparse_vectors() -> list[str | None]:
    """Give vectors of many numbers of which few are there, and dense ones besides."""
    size = 20_000
    found: list[str | None] = []
    for row in X.tolist():
        there = [(0, row[0]), (7, 0.0), (size - 1, row[2])]
        kept = [f"{place}:{x}" for place, x in there if RANDOM.random() < 0.8]
        found.append(f"${size}${' '.join(kept)}")
    found[3] = None
    return found


@pytest.mark.parametrize("library", ["lightgbm", "xgboost"])
def test_predictions_are_those_of_the_library_itself(library: str) -> None:
    gaps = RANDOM.random((N, 2)) < 0.1
    given = {
        "a": pa.array(X[:, 0], mask=gaps[:, 0]),
        "b": np.where(RANDOM.random(N) < 0.7, 0.0, X[:, 1]),
        "c": X[:, 2] * 1e39,  # beyond single precision
        "kind": pa.array(np.where(X[:, 1] > 1, "pink", KIND), mask=gaps[:, 1]),
        "number": TARGET,
        "vector": sparse_vectors(),
        "positive": np.abs(TARGET),
        "two": TARGET > 1,
        "three": LABEL,
    }
    source = Path(__file__).with_name(f"{library}_agree.py").read_text("utf-8")
    found = compared(pa.table(given), source, library)
    assert {label.split()[0] for label in found["label"].to_pylist()} >= {"number", "two", "three"}
    assert min(found["range"].to_pylist()) > 0.5
    assert max(found["apart"].to_pylist()) < 1e-6, found.to_pylist()


def compared(rows: pa.Table, source: str, library: str) -> pa.Table:
    """Run a program in a worker where a library is."""
    schema = pa.schema([("label", pa.string()), ("apart", pa.float64()), ("range", pa.float64())])
    training = Training("compared", "", {}, rows.column_names, schema, library, alone=True)
    text = source.replace("alink._algorithms", PACKAGE)
    shipment = Shipment({"source": text, "name": "run"}, (package(),), None)
    training.shipment = lambda same_python: shipment
    return session().context.from_arrow(rows)._train(training).to_arrow()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("libgomp.so.1: cannot open shared object file", "Made needs libgomp, .*apt install"),
        ("lib_made.so: file too short", "Made cannot be loaded: lib_made.so: file too short"),
    ],
)
def test_a_library_that_cannot_be_loaded_is_told(tmp_path, monkeypatch, said, told) -> None:
    (tmp_path / "made/lib").mkdir(parents=True)
    for name in ("__init__.py", "lib/lib_made.so"):
        (tmp_path / "made" / name).touch()
    monkeypatch.syspath_prepend(tmp_path)

    def load(path: str) -> None:
        raise OSError(said)

    monkeypatch.setattr("ctypes.CDLL", load)
    with pytest.raises(Unreadable, match=told):
        shared_library("made", "Made")


def test_what_cannot_be_trained_is_told() -> None:
    empty = table().slice(0, 0)
    with pytest.raises(ValueError, match="no rows to train with"):
        grown(train_forest, empty, kinds=["MSE"])
    with pytest.raises(al.UdfError, match="the label 'y' has one value, 'x'"):
        grown(train_boosted, table(["x"] * N), classifier=True)
    with pytest.raises(ValueError, match="'y' is NULL"):
        grown(train_forest, table([None, *LABEL[1:]]), kinds=["GINI"])
    many = table(k=[f"v{i}" for i in range(N)])
    assert trees(
        grown(train_forest, many, kinds=["INFOGAIN"], featureCols=["k"], minSamplesPerLeaf=2)
    )


SCHEMA = "a double, b double, c double, kind string, y string"


def batch(y: Any = LABEL, schema: str = SCHEMA) -> Any:
    return pyalink.BatchOperator.fromDataframe(table(y).to_pandas(), schemaStr=schema)


def test_operators_stages_and_streams_say_the_same() -> None:
    params: dict[str, Any] = {"labelCol": "y", "numTrees": 4, "minSamplesPerLeaf": 5}
    asked: dict[str, Any] = {"predictionCol": "p", "predictionDetailCol": "d"}
    model = pyalink.GbdtTrainBatchOp(**params).linkFrom(batch())
    one = pyalink.GbdtPredictBatchOp(**asked).linkFrom(model, batch())
    stage = pyalink.GbdtClassifier(**params, **asked)
    fitted = pyalink.Pipeline(stage).fit(batch())
    two = fitted.transform(batch())
    first, second = pyalink.collectToDataframes(one, two)
    pd.testing.assert_frame_equal(first, second)
    assert (first["p"] == first["y"]).mean() > 0.8
    for text, label in zip(first["d"][:50], first["p"][:50], strict=True):
        shares = json.loads(text)
        assert set(shares) == set(LABEL)
        assert sum(shares.values()) == pytest.approx(1)
        assert max(shares, key=lambda name: shares[name]) == label
    local: Any = fitted.collectLocalPredictor(SCHEMA)
    assert local.map([0.1, 0.2, 0.3, "red", "low"])[5] in set(LABEL)
    info = model.collectModelInfo()
    importance = info.getFeatureImportance()
    assert sum(importance.values()) == pytest.approx(1)
    assert max(importance, key=lambda name: importance[name]) in ("a", "b")
    assert "feature importance" in str(info)


def test_encoders_count_the_leaves_of_all_trees() -> None:
    rows = pa.table({"f": [1.0, 2.0, 3.0, 4.0], "y": [0, 0, 1, 1]}).to_pandas()
    given = pyalink.BatchOperator.fromDataframe(rows, schemaStr="f double, y int")
    params: dict[str, Any] = {"labelCol": "y", "minSamplesPerLeaf": 2}
    stage = pyalink.GbdtRegEncoder(predictionCol="v", **params)
    model = pyalink.GbdtRegTrainBatchOp(**params).linkFrom(given)
    encoded = pyalink.TreeModelEncoderBatchOp(predictionCol="v").linkFrom(model, given)
    first, second = pyalink.collectToDataframes(stage.fit(given).transform(given), encoded)
    assert first["v"].astype(str).tolist() == second["v"].astype(str).tolist()
    # Residuals of 0.5 · 0.7ⁿ gain less than 1e-6 from the 21st tree on, which have one leaf each.
    assert str(first["v"][0]).startswith("$120$0:1.0 2:1.0 4:1.0")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: pyalink.GbdtTrainBatchOp(labelCol="y", criteria="MSE"), "criteria"),
        (lambda: pyalink.GbdtTrainBatchOp(labelCol="y", subsamplingRatio=1.5), "subsamplingRatio"),
        (lambda: pyalink.CartTrainBatchOp(labelCol="y", maxDepth=0), "maxDepth"),
        (lambda: pyalink.CartRegTrainBatchOp(labelCol="y"), 'label "y" is of type STRING'),
        (lambda: pyalink.CartTrainBatchOp(labelCol="y", featureCols=["z"]), "no column"),
        (lambda: pyalink.DecisionTreeTrainBatchOp(labelCol="y", treeType="X"), "treeType"),
        (
            lambda: pyalink.XGBoostTrainBatchOp(labelCol="y", numRound=2, processType="UPDATE"),
            "\"processType\" cannot be 'UPDATE'",
        ),
        (
            lambda: pyalink.XGBoostTrainBatchOp(labelCol="y", numRound=2, numClass=2),
            "numClass is 2, but the label 'y' has 3 values",
        ),
        (
            lambda: pyalink.XGBoostTrainBatchOp(
                labelCol="y", numRound=2, monotoneConstraints="(1,1,1,1,1,1)"
            ),
            "XGBoost: .*onstraint",
        ),
        (
            lambda: pyalink.XGBoostTrainBatchOp(labelCol="y", numRound=2, objective="BINARY_HINGE"),
            "BINARY_HINGE is of two classes, but the label 'y' has 3 values",
        ),
        (
            lambda: pyalink.XGBoostTrainBatchOp(labelCol="y", numRound=2, treeMethod="EXACT"),
            'feature "kind" has categories, and treeMethod is EXACT',
        ),
        (
            lambda: pyalink.XGBoostTrainBatchOp(labelCol="y", numRound=2, updater="prune"),
            "XGBoost: Updater: `prune` can not be used to create new trees",
        ),
        (
            lambda: pyalink.XGBoostTrainBatchOp(labelCol="y", numRound=2, baseScore=1.0),
            "baseScore is 1.0",
        ),
    ],
)
def test_parameters_are_honoured_or_refused(make: Any, told: str) -> None:
    with pytest.raises(al.Error, match=told):
        make().linkFrom(batch()).collectToDataframe()


def test_objectives_of_xgboost_say_scores_or_the_likeliest_label() -> None:
    y = np.where(TARGET > 1, "yes", "no")
    params: dict[str, Any] = {"labelCol": "y", "numRound": 4, "featureCols": ["a", "b", "kind"]}
    found: list[Any] = []
    for objective in ("BINARY_LOGITRAW", "MULTI_SOFTMAX"):
        model = pyalink.XGBoostTrainBatchOp(**params, objective=objective).linkFrom(batch(y))
        predict = pyalink.XGBoostPredictBatchOp(predictionCol="p", predictionDetailCol="d")
        found.append(predict.linkFrom(model, batch(y)))
    raw, most = pyalink.collectToDataframes(*found)
    assert ((raw["p"] > 0) == (y == "yes")).mean() > 0.9
    assert raw["d"].isna().all()
    assert (most["p"] == y).mean() > 0.9
    details = {"no": '{"no":1.0,"yes":0.0}', "yes": '{"no":0.0,"yes":1.0}'}
    assert most["d"].tolist() == [details[label] for label in most["p"]]


@pytest.mark.parametrize(
    ("given", "settings"),
    [
        ({"maxBin": 3, "maxLeaves": 5}, {"max_bin": "3", "max_leaves": "5"}),
        ({"growPolicy": "LOSS_GUIDE"}, {"grow_policy": "lossguide"}),
        ({"treeMethod": "EXACT", "maxBin": 9}, {"tree_method": "exact"}),
        ({"treeMethod": "APPROX"}, {"tree_method": "approx", "max_bin": "67"}),
        ({"treeMethod": "APPROX", "sketchEps": 0.5}, {"max_bin": "4"}),
        ({"updater": "refresh", "refreshLeaf": 0}, {"updater": "refresh", "refresh_leaf": "0"}),
        ({"subSample": 0.5}, {"subsample": "0.5", "sampling_method": "uniform"}),
        ({"samplingMethod": "GRADIENT_BASED"}, {"sampling_method": "gradient_based"}),
        ({"objective": "REG_PSEUDOHUBERERROR"}, {"objective": "reg:pseudohubererror"}),
        ({"tweedieVariancePower": 1.1, "baseScore": 2.0}, {"tweedie_variance_power": "1.1"}),
        ({"monotoneConstraints": "(1,0)"}, {"monotone_constraints": "(1,0)"}),
        ({"interactionConstraints": "[[0]]"}, {"interaction_constraints": "[[0]]"}),
        ({"maxDeltaStep": 0.5, "scalePosWeight": 2.0}, {"max_delta_step": "0.5"}),
        ({"colSampleByTree": 0.5, "colSampleByLevel": 0.25}, {"colsample_bylevel": "0.25"}),
        ({"colSampleByNode": 0.5, "minChildWeight": 3.0}, {"min_child_weight": "3.0"}),
    ],
)
def test_parameters_of_xgboost_reach_it(given: Any, settings: dict[str, str]) -> None:
    train = pyalink.XGBoostRegTrainBatchOp(labelCol="y", numRound=2, featureCols=["a"], **given)
    found = train._trained.prepare("XGBoostReg", train._all(), table().schema)["settings"]
    assert {name: str(found.get(name)) for name in settings} == settings


def test_xgboost_of_vectors_and_its_penalties() -> None:
    texts = [" ".join(map(str, row)) for row in X]
    frame = pd.DataFrame({"v": texts, "y": TARGET})
    given = pyalink.BatchOperator.fromDataframe(frame, schemaStr="v string, y double")
    params: dict[str, Any] = {
        "labelCol": "y",
        "vectorCol": "v",
        "numRound": 1,
        "maxDepth": 1,
        "eta": 1.0,
    }
    model = pyalink.XGBoostRegTrainBatchOp(**params, alpha=3.0).linkFrom(given)
    shown = pyalink.XGBoostRegPredictBatchOp(predictionCol="p").linkFrom(model, given)
    rows, found = pyalink.collectToDataframes(model, shown)
    tree = trees(pa.Table.from_pandas(rows[["model_id", "model_info"]]))[0]
    left = X[:, tree["feature"][0]] <= tree["threshold"][0]
    for side in (left, ~left):
        total = (TARGET[side] - 0.5).sum()
        step = np.sign(total) * max(abs(total) - 3.0, 0) / (side.sum() + 1.0)
        np.testing.assert_allclose(found["p"][side], 0.5 + step)


@pytest.mark.parametrize(
    "cuts",
    [
        [0.0],
        [-1.0, 0.0, 1e-300, 1.0],
        [-1e308, 0.0, 1e308],
        [1.0, np.nextafter(1, 2), np.nextafter(np.nextafter(1, 2), 2), 1e9],
        [*np.linspace(0, 1e-9, 300), 1.0],
        np.random.default_rng(1).standard_cauchy(250),
        [5e-324, 1e-323],
        [-np.inf, -1.0, 0.0, 1.0],
    ],
    ids=["one", "tiny", "wide", "neighbours", "crowded", "skewed", "denormal", "infinite"],
)
def test_the_cuts_below_values_are_counted(cuts):
    cuts = np.unique(cuts)
    around = np.concatenate([cuts, np.nextafter(cuts, -np.inf), np.nextafter(cuts, np.inf)])
    values = np.concatenate(
        [around, np.random.default_rng(2).normal(size=500), [-np.inf, np.inf, np.nan, -0.0]]
    )
    expected = np.where(np.isnan(values), 0, np.searchsorted(cuts, values))
    assert _tree_levels.Search(cuts).below(values).tolist() == expected.tolist()


class Figure:
    """Stands for matplotlib's, which need not be installed: keeps what is drawn."""

    drawn: Figure

    def __init__(self) -> None:
        Figure.drawn = self
        self.texts: list[tuple[float, float, str]] = []
        self.lines: set[tuple[tuple[float, float], tuple[float, float]]] = set()

    def subplots(self) -> Any:
        return self

    def axis(self, shown: str) -> None:
        assert shown == "off"

    def set_size_inches(self, width: float, height: float) -> None:
        self.inches = width, height

    def set(self, xlim: tuple[float, float], ylim: tuple[float, float]) -> None:
        self.limits = xlim, ylim

    def set_position(self, place: list[float]) -> None:
        assert place == [0, 0, 1, 1]

    def plot(self, x: list[float], y: list[float], **_: Any) -> None:
        self.lines.add(((x[0], y[0]), (x[1], y[1])))

    def text(self, x: float, y: float, text: str, **_: Any) -> None:
        self.texts.append((x, y, text))

    def savefig(self, path: str) -> None:
        Path(path).write_bytes(b"")

    def said(self) -> list[str]:
        """Give the texts from above, and from left to right."""
        return [text for _, _, text in sorted(self.texts, key=lambda one: (-one[1], one[0]))]


@pytest.fixture
def figure(monkeypatch: pytest.MonkeyPatch) -> type[Figure]:
    module = types.ModuleType("matplotlib.figure")
    module.Figure = Figure  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "matplotlib", types.ModuleType("matplotlib"))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", module)
    return Figure


def test_trees_are_drawn_by_matplotlib(
    figure: type[Figure], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = pa.table(
        {
            "cost $": [1.0, 2.0, 3.0, 4.0] * 2,
            "kind": ["a"] * 4 + ["b"] * 4,
            "y": ["lo", "lo", "hi", "hi", "ä", "ä", "ä", "ä"],
        }
    )
    model = grown(train_forest, rows, kinds=["INFOGAIN"] * 2, featureCols=["cost $", "kind"])
    path = str(tmp_path / "tree.png")
    RandomForestModelInfo(model).saveTreeAsImage(path, 1)
    drawn = figure.drawn
    assert drawn.said() == ["kind", "a", "b", "cost \\$", "ä", "<= 2.5", "> 2.5", "lo", "hi"]
    assert drawn.lines == {((1.25, 0), (0.5, -1)), ((1.25, 0), (2, -1))} | {
        ((0.5, -1), (0, -2)),
        ((0.5, -1), (1, -2)),
    }
    assert drawn.limits == ((-0.5, 2.5), (-2.5, 0.5))
    with pytest.raises(al.PlanError, match="is there already"):
        RandomForestModelInfo(model).saveTreeAsImage(path, 0, False)
    DecisionTreeModelInfo(model).saveTreeAsImage(path, True)
    with pytest.raises(al.PlanError, match="no tree 2 among 2"):
        RandomForestModelInfo(model).saveTreeAsImage(path, 2, True)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(al.PlanError, match="trees are drawn with matplotlib, which is not"):
        DecisionTreeModelInfo(model).saveTreeAsImage(path, True)


def test_of_large_trees_the_upper_levels_are_drawn(figure: type[Figure], tmp_path: Path) -> None:
    info = DecisionTreeModelInfo(grown(train_forest, table(), kinds=["MSE"]))
    info.saveTreeAsImage(str(tmp_path / "deep"))
    said = figure.drawn.said()
    assert 20 < said.count("…") <= 64
    assert len(said) < 400
    assert figure.drawn.inches[0] <= 64 * 1.6
    # A node of many branches shows the first of them.
    many = pa.table(
        {"k": [f"name {i:03d} that is far too long" for i in range(300)], "y": LABEL[:300]}
    )
    wide = DecisionTreeModelInfo(grown(train_forest, many, kinds=["INFOGAIN"], featureCols=["k"]))
    wide.saveTreeAsImage(str(tmp_path / "wide"))
    said = figure.drawn.said()
    assert said[:2] == ["k", "name 000 that is …"]
    assert said.count("…") == 1
    assert len(said) == 1 + 12 + 1 + 13
    single = pa.table({"k": ["a"] * 3, "y": ["one"] * 3})
    leaf = DecisionTreeModelInfo(grown(train_forest, single, kinds=["GINI"], featureCols=["k"]))
    leaf.saveTreeAsImage(str(tmp_path / "leaf"))
    assert figure.drawn.said() == ["one"]
    assert not figure.drawn.lines
