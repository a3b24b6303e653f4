"""DBSCAN, Agnes and clusterings of groups: what plain loops over all pairs give too."""

from __future__ import annotations

import json
from typing import Any

import groups
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import alink as al
from alink._algorithms._chain import _task
from alink._algorithms._dbscan import NOISE, clusters
from alink._algorithms._models import read_model
from alink._algorithms._neighbours import Metric
from alink._algorithms._vectors import Vectors
from pyalink import alink as pyalink

RANDOM = np.random.default_rng(11)


def distances(rows: np.ndarray, name: str) -> np.ndarray:
    """Compute all distances from their definitions."""
    apart = rows[:, None] - rows
    if name == "EUCLIDEAN":
        return np.sqrt((apart**2).sum(axis=2))
    if name == "CITYBLOCK":
        return np.abs(apart).sum(axis=2)
    if name == "COSINE":
        lengths = np.linalg.norm(rows, axis=1)
        return 1 - rows @ rows.T / np.outer(lengths, lengths)
    latitude, longitude = np.radians(rows).T
    a = np.sin((latitude[:, None] - latitude) / 2) ** 2
    b = np.sin((longitude[:, None] - longitude) / 2) ** 2
    both = a + np.outer(np.cos(latitude), np.cos(latitude)) * b
    return 2 * 6371 * np.arcsin(np.sqrt(np.minimum(both, 1)))


def plainly(apart: np.ndarray, epsilon: float, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Cluster by DBSCAN with loops over all pairs."""
    near = apart <= epsilon
    core = near.sum(axis=1) >= least
    labels = np.full(len(apart), NOISE)
    number = 0
    for first in np.flatnonzero(core):
        if labels[first] != NOISE:
            continue
        waiting = [first]
        while waiting:
            at = waiting.pop()
            if labels[at] == NOISE:
                labels[at] = number
                waiting += np.flatnonzero(near[at] & core & (labels == NOISE)).tolist()
        number += 1
    for at in np.flatnonzero(~core & (near & core).any(axis=1)):
        far = np.where(core, apart[at], np.inf)
        labels[at] = labels[far == far.min()].min()
    return labels, core


CLOUDS = {
    "EUCLIDEAN": (RANDOM.normal(size=(700, 2)) * [30, 3] + 1e6, 1.0),
    "CITYBLOCK": (RANDOM.normal(size=(500, 4)) * 2, 2.5),
    "COSINE": (RANDOM.normal(size=(400, 3)), 0.01),
    "HAVERSINE": (
        np.column_stack((RANDOM.uniform(-90, 90, 600), RANDOM.uniform(-180, 180, 600))),
        900.0,
    ),
    "many sizes": (RANDOM.normal(size=(400, 12)), 3.2),
    "duplicates": (RANDOM.integers(0, 9, size=(900, 2)).astype(float), 0.0),
    "a line": (np.column_stack((np.arange(800.0), np.zeros(800))), 1.0),
}


@pytest.mark.parametrize("name", CLOUDS)
def test_dbscan_is_that_of_all_pairs(name):
    rows, epsilon = CLOUDS[name]
    metric = Metric(name if name.isupper() else "EUCLIDEAN")
    for least in (3, 6):
        labels, core = clusters(metric.points(rows), metric, epsilon, least)
        wanted = plainly(distances(rows, metric.name), epsilon, least)
        assert core.tolist() == wanted[1].tolist()
        assert labels.tolist() == wanted[0].tolist()


FRAME = pd.DataFrame(
    {
        "id": [f"i{n}" for n in range(202)],
        "v": [
            *(" ".join(map(str, r)) for r in (RANDOM.normal(size=(200, 2)) * 4).tolist()),
            None,
            "$2$",
        ],
    }
)


def vectors(kind: Any = pyalink.BatchOperator) -> Any:
    return kind.fromDataframe(FRAME, schemaStr="id string, v string")


def test_rows_of_a_training_are_predicted_as_they_were_found():
    settings = {"idCol": "id", "vectorCol": "v", "minPoints": 4, "epsilon": 0.9}
    op = pyalink.DbscanBatchOp(predictionCol="p", **settings).linkFrom(vectors())
    found = op.collectToDataframe()
    assert found.columns.tolist() == ["id", "type", "p"]
    rows = np.array([[float(x) for x in v.split()] for v in FRAME["v"][:200]] + [[0, 0]])
    wanted, core = plainly(distances(rows, "EUCLIDEAN"), 0.9, 4)
    kept = found.drop(index=200)
    assert kept["p"].tolist() == wanted.tolist()
    kinds = np.where(core, "CORE", np.where(wanted == NOISE, "NOISE", "LINKED"))
    assert kept["type"].tolist() == kinds.tolist()
    assert found.loc[200].isna().tolist() == [False, True, True]
    assert {"CORE", "LINKED", "NOISE"} == set(kinds)
    model = op.getSideOutput(0)
    predict = pyalink.DbscanPredictBatchOp(predictionCol="p", predictionDetailCol="far")
    again = predict.linkFrom(model, vectors()).collectToDataframe()
    assert again["p"].equals(found["p"])
    assert (again["far"].dropna() <= 0.9).all()
    assert again["far"].isna().sum() == (wanted == NOISE).sum() + 1
    stream = pyalink.DbscanPredictStreamOp(model, predictionCol="p", predictionDetailCol="far")
    stream = stream.linkFrom(vectors(pyalink.StreamOperator))
    pd.testing.assert_frame_equal(stream.collectToDataframe(), again)
    stage = pyalink.Dbscan(predictionCol="p", predictionDetailCol="far", **settings)
    piped = stage.fit(vectors()).transform(vectors()).collectToDataframe()
    pd.testing.assert_frame_equal(piped, again)


def test_without_cores_all_is_noise():
    settings = {"idCol": "id", "vectorCol": "v", "minPoints": 900, "epsilon": 0.9}
    op = pyalink.DbscanBatchOp(predictionCol="p", **settings).linkFrom(vectors())
    assert set(op.collectToDataframe()["type"].dropna()) == {"NOISE"}


# --- agnes ---


def agnes(rows: np.ndarray, **params: Any) -> tuple[list[int], pa.Table]:
    table = pa.table({"id": np.arange(len(rows)), "v": Vectors.of_matrix(rows).to_arrow()})
    base = {
        "idCol": "id",
        "vectorCol": "v",
        "distanceType": "EUCLIDEAN",
        "distanceThreshold": 1e300,
    }
    made = groups.train(_task("_agnes.train")({**base, **params}), table)
    return made["cluster"].to_pylist(), made


def merged_plainly(rows: np.ndarray, linkage: str, k: int, threshold: float) -> list[int]:
    apart = distances(rows, "EUCLIDEAN")
    left = [[i] for i in range(len(rows))]
    while len(left) > k:

        def between(a: list[int], b: list[int]) -> float:
            part = apart[np.ix_(a, b)]
            if linkage == "MEAN":
                return float(np.linalg.norm(rows[a].mean(axis=0) - rows[b].mean(axis=0)))
            return float({"MIN": np.min, "MAX": np.max, "AVERAGE": np.mean}[linkage](part))

        pairs = [
            (between(a, b), i, j) for i, a in enumerate(left) for j, b in enumerate(left) if i < j
        ]
        far, i, j = min(pairs)
        if far > threshold:
            break
        left[i] = left[i] + left.pop(j)
    labels = [0] * len(rows)
    for number, cluster in enumerate(sorted(left, key=min)):
        for at in cluster:
            labels[at] = number
    return labels


@pytest.mark.parametrize("linkage", ["MIN", "MAX", "AVERAGE", "MEAN"])
def test_agnes_merges_what_is_nearest(linkage):
    rows = RANDOM.normal(size=(35, 2))
    for k, threshold in ((1, 0.7), (3, 1e300), (6, 1.1), (35, 1e300)):
        found, table = agnes(rows, linkage=linkage, k=k, distanceThreshold=threshold)
        assert found == merged_plainly(rows, linkage, k, threshold)
        merges = [i for i in table["iteration"].to_pylist() if i >= 0]
        assert sorted(merges) == list(range(1, 36 - len(set(found))))


def test_agnes_gives_the_merges_as_a_side_output():
    frame = pd.DataFrame({"id": ["a", "b", "c", "d"], "v": ["0", "1", "9", None]})
    op = pyalink.BatchOperator.fromDataframe(frame, schemaStr="id string, v string")
    made = pyalink.AgnesBatchOp(idCol="id", vectorCol="v", predictionCol="p", k=2).linkFrom(op)
    assert made.collectToDataframe().to_numpy().tolist() == [["a", 0], ["b", 0], ["c", 1]]
    side = made.getSideOutput(0).collectToDataframe()
    assert side.columns.tolist() == ["NodeId", "MergeIteration", "ParentId"]
    assert side.to_numpy()[1].tolist() == ["b", 1, "a"]
    with pytest.raises(al.PlanError, match="all rows would be one cluster"):
        pyalink.AgnesBatchOp(idCol="id", vectorCol="v", predictionCol="p", k=1).linkFrom(op)


# --- groups ---

KEYS = ["ü", "b", None]
GROUPED = pd.DataFrame(
    {
        "g": [KEYS[n % 3] for n in range(150)],
        "id": np.arange(150),
        "x": [*(RANDOM.normal(size=148) + np.arange(148) % 2 * 50), None, np.inf],
        "y": RANDOM.normal(size=150),
    }
)


def grouped() -> Any:
    return pyalink.BatchOperator.fromDataframe(
        GROUPED, schemaStr="g string, id bigint, x double, y double"
    )


SHARED: dict[str, Any] = {"groupCols": ["g"], "idCol": "id", "featureCols": ["x", "y"]}


@pytest.mark.parametrize("name", ["GroupKMeans", "GroupEm"])
def test_groups_are_clustered_by_k_means_each(name):
    op = getattr(pyalink, f"{name}BatchOp")(k=2, predictionCol="p", **SHARED).linkFrom(grouped())
    found = op.collectToDataframe()
    more = ["x", "y"] if name == "GroupEm" else []
    assert found.columns.tolist() == ["g", "id", "p", *more]
    found["id"] = found["id"].astype(int)
    found = found.sort_values("id")
    assert found["p"].isna().tolist() == [False] * 148 + [True] * 2
    assert found["g"].fillna("").tolist() == GROUPED["g"].fillna("").tolist()
    for _, part in found[:148].groupby(found["g"].fillna("")):
        assert len(set(zip(part["p"], GROUPED["x"][part["id"]] > 25, strict=True))) == 2


def test_groups_are_clustered_by_dbscan_each():
    settings = {"epsilon": 1.0, "minPoints": 3}
    op = pyalink.GroupDbscanBatchOp(**SHARED, **settings).linkFrom(grouped())
    found: Any = op.collectToDataframe()
    assert found.columns.tolist() == ["g", "id", "type", "cluster_id", "x", "y"]
    found["id"] = found["id"].astype(int)
    assert found[found["id"] >= 148]["cluster_id"].isna().all()
    model = pyalink.GroupDbscanModelBatchOp(
        groupCols=["g"], featureCols=["x", "y"], **settings
    ).linkFrom(grouped())
    means: Any = model.collectToDataframe()
    for key, part in found[found["id"] < 148].groupby(found["g"].fillna("")):
        rows = GROUPED.loc[sorted(part["id"]), ["x", "y"]].to_numpy(float)
        wanted, _ = plainly(distances(rows, "EUCLIDEAN"), 1.0, 3)
        assert part.sort_values("id")["cluster_id"].tolist() == wanted.tolist()
        here = means[means["g"].fillna("") == key].sort_values("cluster_id")
        kept = sorted(set(wanted.tolist()) - {NOISE})
        assert here["cluster_id"].tolist() == kept
        assert here["count"].tolist() == [int((wanted == n).sum()) for n in kept]
        middle = [rows[wanted == n].mean(axis=0) for n in kept]
        np.testing.assert_allclose(here[["x", "y"]].to_numpy(float), middle)


def test_large_groups_are_skipped_or_sampled():
    settings = {**SHARED, "epsilon": 1.0, "minPoints": 3, "groupMaxSamples": 30}
    skipped = pyalink.GroupDbscanBatchOp(skip=True, **settings).linkFrom(grouped())
    assert len(skipped.collectToDataframe()) == 0
    sampled = pyalink.GroupDbscanBatchOp(isOutputVector=True, **settings).linkFrom(grouped())
    found = sampled.collectToDataframe()
    assert len(found) == 150
    assert (found["type"] == "CORE").sum() <= 90
    assert "features" in found.columns


def test_places_of_groups():
    frame = pd.DataFrame(
        {"g": [1] * 6, "id": range(6), "a": [0, 0, 0, 50, 50, 50], "o": [0.0, 0.1, 0.2, 9, 9.1, 80]}
    )
    op = pyalink.BatchOperator.fromDataframe(frame, schemaStr="g int, id int, a int, o double")
    settings = {
        "groupCols": ["g"],
        "latitudeCol": "a",
        "longitudeCol": "o",
        "epsilon": 12,
        "minPoints": 2,
    }
    made = pyalink.GroupGeoDbscanBatchOp(
        idCol="id", predictionCol="p", reservedCols=["id"], **settings
    )
    found = made.linkFrom(op).collectToDataframe().sort_values("id")
    assert found.columns.tolist() == ["type", "p", "id"]
    assert found["p"].tolist() == [0, 0, 0, 1, 1, NOISE]
    model = pyalink.GroupGeoDbscanModelBatchOp(**settings).linkFrom(op).collectToDataframe()
    assert model.columns.tolist() == ["type", "count", "a", "o", "g"]
    np.testing.assert_allclose(model.to_numpy(float), [[0, 3, 0, 0.1, 1], [1, 2, 50, 9.05, 1]])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: pyalink.GroupKMeansBatchOp(predictionCol="p", **{**SHARED, "idCol": "x"}),
            "one role",
        ),
        (lambda: pyalink.GroupDbscanBatchOp(**SHARED, epsilon=-1.0, minPoints=2), "epsilon"),
        (
            lambda: pyalink.GroupKMeansBatchOp(
                predictionCol="p", **{**SHARED, "featureCols": ["y"], "distanceType": "HAVERSINE"}
            ),
            "latitude and longitude",
        ),
        (
            lambda: pyalink.GroupEmBatchOp(predictionCol="p", **{**SHARED, "featureCols": ["zz"]}),
            'no column "zz"',
        ),
    ],
)
def test_mistakes_are_told_when_operators_are_linked(make, text):
    with pytest.raises(al.PlanError, match="(?s)" + text):
        make().linkFrom(grouped())


def test_the_model_of_dbscan_has_alinks_form():
    table = pa.table({"v": ["0 0", "0 0", "5 5", "0 0"]})
    params = {"vectorCol": "v", "epsilon": 1.0, "minPoints": 3, "distanceType": "EUCLIDEAN"}
    model = read_model(groups.train(_task("_dbscan.train")(params), table))
    assert model.meta["epsilon"] == 1.0
    assert [json.loads(text) for text in model.data] == [
        {"center": "0.0 0.0", "clusterId": 0, "type": "CORE"}
    ]
