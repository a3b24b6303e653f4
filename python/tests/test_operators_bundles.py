"""Exclusive feature bundling."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

import alink as al
from alink._algorithms import _bundles
from pyalink import alink as pyalink

VECTORS = ["$7$0:-3 2:1 4:1", "$7$0:3 1:1 5:1", "$7$0:1 3:1 5:1"]


def batch(vectors: Any = VECTORS) -> Any:
    frame = pd.DataFrame({"id": range(len(vectors)), "vec": vectors})
    return pyalink.BatchOperator.fromDataframe(frame, schemaStr="id int, vec string")


def fitted(vectors: Any = VECTORS) -> Any:
    return pyalink.ExclusiveFeatureBundle(sparseVectorCol="vec").fit(batch(vectors))


def bundles(vectors: Any) -> list[list[int]]:
    return (
        pyalink.ExclusiveFeatureBundleModelInfoBatchOp()
        .linkFrom(fitted(vectors).getModelData())
        .collectModelInfo()
        .getBundles()
    )


def plain(frame: pd.DataFrame) -> list[list[Any]]:
    values = frame.drop(columns=["id", "vec"], errors="ignore").to_numpy(object).tolist()
    return [[None if pd.isna(value) else value for value in row] for row in values]


def test_ranges_are_bundles():
    model = fitted()
    result = model.transform(batch())
    assert result.getSchemaStr() == (
        "id INT, vec VARCHAR, efb_0 DOUBLE, efb_1 VARCHAR, efb_2 VARCHAR"
    )
    wanted = [[-3.0, "2", "4"], [3.0, "1", "5"], [1.0, "3", "5"]]
    assert plain(result.collectToDataframe()) == wanted
    predict = pyalink.ExclusiveFeatureBundlePredictBatchOp(sparseVectorCol="VEC", reservedCols=[])
    assert plain(predict.linkFrom(model.getModelData(), batch()).collectToDataframe()) == wanted
    stream = pyalink.StreamOperator.fromDataframe(pd.DataFrame({"vec": VECTORS}), "vec string")
    assert plain(model.transform(stream).collectToDataframe()) == wanted
    (text,) = model.getModelData().collectToDataframe()["model_info"]
    assert json.loads(json.loads(json.loads(text)["bundles_json"])) == {
        "dimVector": 7,
        "numFeatures": 3,
        "schemaStr": "efb_0 double,efb_1 string,efb_2 string",
        "toEfbIndex": [0, 1, 1, 1, 2, 2, 2],
        "isNumeric": [True, False, False],
    }


@pytest.mark.parametrize(
    ("vectors", "wanted"),
    [
        (["0:1 1:1", "0:1 2:1", "0:1 3:1 4:1", "$9$1:1"], [[0], [1, 2, 3], [4]]),
        (["0:1", "1:1", "2:1", None], [[0, 1, 2]]),
        (["0:1 1:1", "1:1 2:1", "2:1 0:1"], [[0], [1], [2]]),
        (["0:1 3:2.5", "1:1 3:1", "2:1", ""], [[3], [0, 1, 2]]),
        (["1.0 0.0 5.0", "0.0 1.0 0.0"], [[2], [0, 1]]),
        (["$5$2:1", "$5$2:1"], [[0, 1, 2, 3, 4]]),
    ],
)
def test_bundles_are_those_of_the_definition(vectors, wanted):
    assert bundles(vectors) == wanted


def test_bundles_have_no_conflict_and_the_first_fit():
    random = np.random.default_rng(3)
    for _ in range(5):
        hot = random.uniform(size=(40, 12)) < random.uniform(0, 0.4, 12)
        hot[0, 0] = True
        rows, features = np.nonzero(hot)
        lengths = np.bincount(rows, minlength=40)
        found = _bundles.bundle(lengths, features, np.ones(len(features)), 12)
        counts = hot.sum(axis=0)
        assert ((found < 0) == (counts == 0)).all()
        for a, b in itertools.combinations(range(12), 2):
            if found[a] == found[b] >= 0:
                assert not (hot[:, a] & hot[:, b]).any()
        order = np.argsort(-counts, kind="stable")
        for at, feature in enumerate(order):
            for earlier in range(found[feature]):
                mates = [f for f in order[:at] if found[f] == earlier]
                assert (hot[:, mates].any(axis=1) & hot[:, feature]).any()


def test_what_the_training_had_not():
    model = fitted(["0:1 3:2.5", "1:1 3:1", "2:1"])
    found = model.transform(batch(["0:1 1:1", "9:1", None, "", "2:1 3:0.0"]))
    assert plain(found.collectToDataframe()) == [
        [None, "1"],
        [None, None],
        [None, None],
        [None, None],
        [0.0, "2"],
    ]
    local = model.collectLocalPredictor("vec string")
    assert local.map(["0:1 3:4"]).tolist() == ["0:1 3:4", 4.0, "0"]


def test_it_says_what_it_has_found(capsys):
    estimator = pyalink.ExclusiveFeatureBundle(sparseVectorCol="vec")
    estimator.enableLazyPrintModelInfo().fit(batch())
    pyalink.BatchOperator.execute()
    shown = capsys.readouterr().out
    assert "Sparse Vector Dimension : 7 ,    Number of Feature Bundles : 3" in shown
    assert "Bundle 1 : [1, 2, 3]" in shown


def test_what_is_refused():
    with pytest.raises(al.Error, match="there are no rows with a vector in 'vec'"):
        fitted([None])
    with pytest.raises(al.Error, match="the vectors in 'vec' have no values"):
        fitted(["$4$"])
    many = " ".join(f"{i}:2" for i in range(4097))
    with pytest.raises(al.Error, match="make 4097 bundles, each of which would be a column"):
        fitted([many])
    predict = pyalink.ExclusiveFeatureBundlePredictBatchOp(sparseVectorCol="vec")
    with pytest.raises(al.PlanError, match="is no model of ExclusiveFeatureBundle"):
        predict.linkFrom(batch(), batch())
