"""Linear models: what is found is a minimum, whatever the form of the features."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from groups import train

import alink as al
from alink._algorithms import _blocks
from alink._algorithms._blocks import Order, Sparse
from alink._algorithms._details import chances, details
from alink._algorithms._linear import Predict, train_binary, train_squares, train_support
from alink._algorithms._margins import Margins
from alink._algorithms._models import read_model
from alink._algorithms._optimize import minimize
from alink._algorithms._strings import Unreadable, java_double
from alink._algorithms._vectors import Vectors
from pyalink import alink as pyalink

RANDOM = np.random.default_rng(7)
X = RANDOM.normal([0, 5, -1000], [1, 0.1, 30], (400, 3))
SCORE = X @ [1.0, -4.0, 0.05] + 70 + RANDOM.logistic(size=400)
LABEL = np.where(SCORE > 0, "yes", "no")
# How often the true scores tell the label.
BEST = ((X @ [1.0, -4.0, 0.05] + 70 > 0) == (LABEL == "yes")).mean()
TARGET = X @ [2.0, 0.5, -0.1] + 3 + RANDOM.normal(size=400)

BASE = {
    "labelCol": "y",
    "featureCols": ["a", "b", "c"],
    "withIntercept": True,
    "standardization": True,
    "maxIter": 200,
    "epsilon": 1e-9,
    "modelName": "m",
    "l1": 0.0,
    "l2": 0.0,
}


def table(y, **more):
    return pa.table({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "y": y, **more})


def coefficients(training, rows, size=1, cache_bytes=1 << 30, **params):
    """Train; give the intercept and the weights."""
    trained = train(
        training({**BASE, **params}), rows, size, batch_rows=150, cache_bytes=cache_bytes
    )
    model = read_model(trained)
    found = json.loads(model.data[0])["coefVector"]["data"]
    with_intercept = params.get("withIntercept", True)
    return (found[0], np.array(found[1:])) if with_intercept else (0.0, np.array(found))


def binary(rows, **params):
    return coefficients(train_binary, rows, **{"linearModelType": "LR", **params})


def squares(rows, **params):
    return coefficients(train_squares, rows, **{"linearModelType": "LinearReg", **params})


TEXTS = pa.table({"v": [f"0:{a!r} 1:{b!r} 2:{c!r}" for a, b, c in X.tolist()], "y": LABEL})


@pytest.mark.parametrize(
    ("training", "params"),
    [
        (train_binary, {"linearModelType": "LR", "l1": 0.01}),
        (train_binary, {"linearModelType": "SVM", "l2": 0.01}),
        (train_squares, {"linearModelType": "LinearReg", "weightCol": "w"}),
        (train_squares, {"linearModelType": "Ridge", "lambda": 0.1, "standardization": False}),
        (train_squares, {"linearModelType": "LASSO", "lambda": 0.1}),
    ],
)
@pytest.mark.parametrize("size", [2, 5])
def test_workers_that_train_together_find_what_one_finds(training, params, size):
    label = TARGET if training is train_squares else LABEL
    rows = table(label, w=RANDOM.uniform(size=400))
    alone = coefficients(training, rows, **params)
    together = coefficients(training, rows, size, **params)
    np.testing.assert_allclose(np.hstack(together), np.hstack(alone), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("cache_bytes", [0, 1 << 30])
def test_vectors_that_are_texts_are_read_again_where_they_cannot_be_kept(cache_bytes):
    params = {"linearModelType": "LR", "featureCols": None, "vectorCol": "v"}
    found = coefficients(train_binary, TEXTS, 3, cache_bytes, **params)
    np.testing.assert_allclose(
        np.hstack(found), np.hstack(binary(table(LABEL))), rtol=1e-3, atol=1e-5
    )


def test_a_worker_without_rows_takes_part():
    rows = table(LABEL).slice(0, 40)
    found = coefficients(train_binary, rows, 60, linearModelType="LR", l2=0.1)
    alone = coefficients(train_binary, rows, linearModelType="LR", l2=0.1)
    np.testing.assert_allclose(np.hstack(found), np.hstack(alone), rtol=1e-4, atol=1e-6)


def test_logistic_regression_is_at_a_minimum():
    b, w = binary(table(LABEL))
    sign = np.where(LABEL == "yes", 1, -1)  # the larger label is the positive one
    error = sign / (1 + np.exp(sign * (X @ w + b)))
    assert abs(error.mean()) < 1e-7
    assert np.abs((X - X.mean(axis=0)).T @ error / X.std(axis=0)).max() / 400 < 1e-6


@pytest.mark.parametrize("standardization", [True, False])
@pytest.mark.parametrize("intercept", [True, False])
def test_least_squares(standardization, intercept):
    b, w = squares(table(TARGET), standardization=standardization, withIntercept=intercept)
    design = np.column_stack([np.ones(400), X]) if intercept else X
    wanted = np.linalg.lstsq(design, TARGET, rcond=None)[0]
    np.testing.assert_allclose([b, *w] if intercept else w, wanted, rtol=1e-6)


def test_ridge_and_lasso():
    scale, centre = X.std(axis=0), X.mean(axis=0)
    z = (X - centre) / scale
    rest = TARGET - TARGET.mean()
    _, w = squares(table(TARGET), **{"linearModelType": "Ridge", "lambda": 0.3})
    wanted = np.linalg.solve(z.T @ z / 400 + 0.6 * np.eye(3), z.T @ rest / 400)
    np.testing.assert_allclose(w * scale, wanted, rtol=1e-8)
    _, w = squares(table(TARGET), **{"linearModelType": "LASSO", "lambda": 0.5})
    slope = z.T @ (z @ (w * scale) - rest) / 400
    assert (w == 0).any()
    for value, gradient in zip(w, slope, strict=True):  # the conditions of a minimum
        assert abs(gradient) <= 0.5 + 1e-6
        assert value == 0 or abs(gradient + 0.5 * np.sign(value)) < 1e-6


def test_features_that_depend_on_one_another_or_are_constant():
    rows = table(TARGET, twice=2 * X[:, 0], one=np.ones(400))
    b, w = squares(rows, featureCols=["a", "b", "c", "twice", "one"])
    fitted = np.column_stack([X, 2 * X[:, 0], np.ones(400)]) @ w + b
    design = np.column_stack([np.ones(400), X])
    wanted = design @ np.linalg.lstsq(design, TARGET, rcond=None)[0]
    np.testing.assert_allclose(fitted, wanted, rtol=1e-6, atol=1e-6)
    _, w = binary(table(LABEL, one=np.ones(400)), featureCols=["a", "one"])
    assert w[1] == 0


@pytest.mark.parametrize("train", [binary, squares])
@pytest.mark.parametrize("form", ["dense", "text", "sparse", "mixed"])
def test_vectors_of_any_form_give_what_columns_give(train, form):
    y = LABEL if train is binary else TARGET
    b, w = train(table(y))
    texts = [" ".join(map(repr, row)) for row in X.tolist()]
    sparse = ["$3$" + " ".join(f"{i}:{v!r}" for i, v in enumerate(row)) for row in X.tolist()]
    column = {
        "dense": Vectors.of_matrix(X).to_arrow(),
        "text": pa.array(texts),
        "sparse": pa.array(sparse),
        "mixed": Vectors.of(pa.array(texts[:200] + sparse[200:])).to_arrow(),
    }[form]
    rows = pa.table({"v": column, "y": y})
    b2, w2 = train(rows, vectorCol="v", featureCols=None)
    np.testing.assert_allclose([b2, *w2], [b, *w], rtol=1e-4)


@pytest.mark.parametrize("train", [binary, squares])
def test_a_weight_is_as_many_rows(train):
    y = LABEL if train is binary else TARGET
    times = RANDOM.integers(0, 3, 400)
    weighted = train(table(y, n=times), weightCol="n")
    repeated = train(table(y).take(np.repeat(np.arange(400), times)))
    np.testing.assert_allclose(weighted[0], repeated[0], rtol=1e-5)
    np.testing.assert_allclose(weighted[1], repeated[1], rtol=1e-5)


def test_the_support_vector_machine_separates():
    b, w = binary(table(LABEL), linearModelType="SVM")
    assert ((X @ w + b > 0) == (LABEL == "yes")).mean() > 0.98 * BEST


def test_a_training_that_does_not_converge_says_so(capfd):
    binary(table(LABEL), maxIter=1)
    assert "not converged after 1 iterations" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("rows", "params", "text"),
    [
        (table(["yes"] * 400), {}, "1 value where 2 are needed: 'yes'"),
        (table(list("abcd") * 100), {}, "4 values where 2 are needed"),
        (table(LABEL).slice(0, 0), {}, "0 values where 2 are needed"),
        (table([None, *LABEL[1:]]), {}, "the label 'y' is NULL"),
        (table(LABEL, d=[None] * 400), {"featureCols": ["d"]}, "'d' has NULL, NaN or infinite"),
        (table(LABEL, d=[np.inf] * 400), {"featureCols": ["a", "d"]}, "'d' has NULL, NaN"),
        (table(LABEL, n=[-1.0] * 400), {"weightCol": "n"}, "weights in 'n'"),
    ],
)
def test_rows_that_cannot_be_trained_with(rows, params, text):
    with pytest.raises(ValueError, match=text):
        binary(rows, **params)


def test_predicting_with_missing_features_and_detail():
    model = train(train_binary({**BASE, "linearModelType": "LR"}), table(LABEL))
    predict = Predict({"predictionCol": "p"}, [pa.string(), pa.string()])
    predict.load(model)
    batch = pa.record_batch({"a": [0.0, None], "b": [5.0, 5.0], "c": [-1000.0, -1000.0]})
    label, detail = predict(batch)
    assert label[1].as_py() is None
    assert detail[1].as_py() is None
    shares = json.loads(detail[0].as_py())
    assert list(shares) == ["yes", "no"]
    assert sum(map(float, shares.values())) == pytest.approx(1)
    assert label[0].as_py() == max(shares, key=lambda name: float(shares[name]))
    wide = pa.record_batch({"v": ["$9$8:1.0"]})
    by_vector = Predict({"predictionCol": "p", "vectorCol": "v"}, [pa.string()])
    by_vector.load(model)
    with pytest.raises(ValueError, match="size 9, the model 3 features"):
        by_vector(wide)


def test_minimize_goes_on_where_the_start_is_a_minimum_and_over_flat_functions():
    assert minimize(lambda w: (0.0, np.zeros(2)), np.ones(2)).converged
    found = minimize(lambda w: (float(((w - 3) ** 4).sum()), 4 * (w - 3) ** 3), np.zeros(2))
    np.testing.assert_allclose(found.at, 3, atol=0.1)
    steep = minimize(
        lambda w: (1e12 * float(w @ w), 2e12 * w), np.ones(3), l1=np.ones(3), tolerance=1e-12
    )
    assert steep.converged
    np.testing.assert_allclose(steep.at, 0, atol=1e-9)


def test_minimize_finds_the_minimum_of_very_many_weights() -> None:
    curvature = np.geomspace(1, 30, 2**16)
    middle = np.sin(np.arange(2**16))

    def bowl(at: Any) -> tuple[float, Any]:
        slope = curvature * (at - middle)
        return float(slope @ (at - middle)) / 2, slope

    found = minimize(bowl, np.zeros(2**16), tolerance=1e-8)
    assert found.converged
    assert found.iterations <= 70
    assert np.abs(found.at - middle).max() < 1e-7


def test_minimize_needs_few_evaluations_where_curvatures_differ() -> None:
    # Like hashed words: a few features are in most rows, most are in few.
    random = np.random.default_rng(5)
    x = np.zeros((300, 2001))
    for row, words in enumerate(np.minimum(random.zipf(1.3, (300, 30)), 1999)):
        x[row, words] = 1
    x[:, 2000] = 1
    sign = np.where(x @ random.normal(size=2001) / 2 > 0, 1.0, -1.0)
    seen: list[float] = []

    def loss(w: Any) -> tuple[float, Any]:
        margin = sign * (x @ w)
        seen.append(float(np.logaddexp(0, -margin).mean()) + 1e-4 * float(w @ w))
        return seen[-1], -(sign / (1 + np.exp(margin))) @ x / 300 + 2e-4 * w

    found = minimize(loss, np.zeros(2001))
    assert found.converged
    # L-BFGS-B of scipy 1.17 needs 13 and 50, a search that only halves steps 26 and 70.
    assert next(at for at, value in enumerate(seen) if value < found.value + 1e-3) <= 20
    assert len(seen) <= 62
    seen.clear()
    assert minimize(loss, found.at, tolerance=1e-15).converged
    assert len(seen) <= 100  # where rounding hides what is lower it ends soon


def test_sparse_values_in_the_order_of_features_are_what_they_are_by_rows() -> None:
    lengths = RANDOM.integers(0, 40, 500)
    many = np.concatenate([RANDOM.choice(60, n, False) for n in lengths])  # 0…59 have many
    few = RANDOM.integers(60, 2000, len(many))
    indices = np.where(RANDOM.uniform(size=len(many)) < 0.5, many, few).astype(np.int32)
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    sizes, dense = np.full(500, 2000, np.int32), np.zeros(500, np.bool_)
    weights, slopes = RANDOM.normal(size=2000), RANDOM.normal(size=500)
    for values in (np.ones(len(many)), RANDOM.normal(size=len(many))):
        vectors = Vectors(offsets, values, indices, sizes, dense)
        order, plain = Order(vectors), Sparse(vectors, 2000)
        np.testing.assert_allclose(order.times(weights), plain.times(weights), atol=1e-12)
        sums = np.ones(2000)
        order.add_transposed(slopes, sums)
        np.testing.assert_allclose(sums - 1, plain.transposed(slopes), atol=1e-12)
    empty = Order(Vectors.of(pa.array(["$5$", "$5$"])))
    np.testing.assert_array_equal(empty.times(np.ones(5)), [0, 0])
    empty.add_transposed(np.ones(2), np.zeros(5))


@pytest.mark.parametrize("cache_bytes", [1 << 30, 20_000, 0])
def test_wide_features_are_ordered_once_and_change_nothing(monkeypatch, cache_bytes) -> None:
    made: list[int] = []

    class Counted(Order):
        def __init__(self, vectors: Vectors) -> None:
            made.append(len(vectors))
            super().__init__(vectors)

    plain = binary(TEXTS, vectorCol="v", featureCols=None, l2=0.01)
    monkeypatch.setattr(_blocks, "WIDE", 3)
    monkeypatch.setattr(_blocks, "Order", Counted)
    given = {"vectorCol": "v", "featureCols": None, "l2": 0.01, "cache_bytes": cache_bytes}
    for size in (1, 2):
        made.clear()
        wide = binary(TEXTS, size=size, **given)
        assert sum(made) == len(TEXTS)  # each row once, however many passes there are
        assert wide[1] == pytest.approx(plain[1], rel=1e-6)


def frame(y: Any) -> Any:
    data = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "y": y})
    schema = f"a double, b double, c double, y {'string' if y is LABEL else 'double'}"
    return pyalink.BatchOperator.fromDataframe(data, schemaStr=schema)


def test_through_the_engine_features_default_to_all_numbers():
    stage = pyalink.LogisticRegression(labelCol="y", predictionCol="p", predictionDetailCol="d")
    model = stage.fit(frame(LABEL))
    predicted = model.transform(frame(LABEL)).collectToDataframe()
    assert predicted.columns.tolist() == ["a", "b", "c", "y", "p", "d"]
    assert (predicted["p"] == predicted["y"]).mean() > 0.98 * BEST
    regression = pyalink.LinearRegression(labelCol="y", predictionCol="p").fit(frame(TARGET))
    predicted = regression.transform(frame(TARGET)).collectToDataframe()
    assert np.corrcoef(predicted["p"], predicted["y"])[0, 1] > 0.9


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"labelCol": "nope", "featureCols": ["a"]}, 'no column "nope"'),
        ({"labelCol": "y", "featureCols": ["y"]}, 'the feature "y" is of type STRING'),
        ({"labelCol": "y", "featureCols": []}, "has no features"),
        ({"labelCol": "y", "featureCols": ["a"], "vectorCol": "b"}, "both featureCols and"),
    ],
)
def test_what_is_wrong_is_told_when_it_is_linked(params, text):
    with pytest.raises(al.Error, match=text):
        pyalink.LogisticRegressionTrainBatchOp(params).linkFrom(frame(LABEL))


def test_support_vector_regression_is_at_a_minimum() -> None:
    given = {"linearModelType": "SVR", "C": 0.5, "tau": 0.8, "standardization": False}
    x = RANDOM.normal(size=(300, 3))
    y = x @ [2.0, 0.0, -1.0] + 3 + RANDOM.normal(size=300)
    weight = RANDOM.uniform(0.5, 2, 300)
    rows = pa.table({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "y": y, "w": weight})
    bias, found = coefficients(train_support, rows, weightCol="w", **given)
    error = x @ found + bias - y
    slope = 2 * 0.5 * weight * np.sign(error) * np.maximum(np.abs(error) - 0.8, 0)
    assert (np.abs(error) < 0.8).sum() > 50  # these have no say
    assert np.abs(x.T @ slope + found).max() < 1e-3
    assert abs(slope.sum()) < 1e-3
    together = coefficients(train_support, rows, 3, weightCol="w", **given)
    assert together[1] == pytest.approx(found, rel=1e-6)
    inside, _ = coefficients(train_support, rows, withIntercept=False, **{**given, "tau": 100.0})
    assert inside == 0.0


def test_support_vector_regression_refuses_what_it_cannot_take() -> None:
    rows = pyalink.BatchOperator.fromDataframe(
        pd.DataFrame({"x": [1.0, 2.0, 4.0], "y": [1.0, 2.0, 4.0]}), "x double, y double"
    )
    stage = pyalink.LinearSvr(C=100.0, tau=0.0, featureCols=["x"], labelCol="y", predictionCol="p")
    found = stage.fit(rows).transform(rows).collectToDataframe()
    assert found["p"].to_numpy() == pytest.approx([1, 2, 4], abs=0.02)
    for given, why in (({"C": 0.0}, "larger than 0"), ({"C": 1.0, "tau": -0.1}, "0 or more")):
        params = {"featureCols": ["x"], "labelCol": "y", **given}
        trained = pyalink.LinearSvrTrainBatchOp(params)
        with pytest.raises(al.Error, match=why):
            trained.linkFrom(rows).collectToDataframe()


def test_chances_are_written_as_java_writes_them() -> None:
    values = np.concatenate(
        [10.0 ** RANDOM.uniform(-320, 0, 2000), RANDOM.uniform(size=500), [0, 1, 0.5, 1e-3, 1e-4]]
    )
    values = np.concatenate([values, [1e-5, 1e-7, 1.5e-7, 9.99e-4, 5e-324, 1e-10, 1e-100, np.nan]])
    assert chances(values).to_pylist() == [java_double(v) for v in values.tolist()]
    empty = details(["é", '"'], [np.empty(0), np.empty(0)], np.zeros(0, np.bool_), quoted=True)
    assert empty.to_pylist() == []
    some = [np.array([0.25, 1e-4]), np.array([0.75, 1.0])]
    found = details(["é", '"'], some, np.array([False, True]), quoted=True)
    assert found.to_pylist() == ['{"é":"0.25","\\"":"0.75"}', None]


def test_margins_tell_missing_from_infinite_features() -> None:
    a = [1.0, None, np.inf, np.inf, np.nan, 2.0] * 3000
    b = [1, 2, 3, None, 5, 6] * 3000
    c = [0.0, 0.0, -np.inf, 0.0, 0.0, None] * 3000
    batch = pa.record_batch({"a": a, "b": pa.array(b, pa.int32()), "c": c})
    names = {"featureCols": ["a", "b", "c"]}
    for weights in (np.array([1.0, 2.0, 3.0]), np.array([[1.0, 0.5], [2.0, 0.5], [3.0, 0.5]])):
        with np.errstate(invalid="ignore"):
            margins, missing = Margins(names, weights, 1.0)(batch)
        assert missing.tolist() == [False, True, False, True, True, True] * 3000
        first = margins if margins.ndim == 1 else margins[:, 0]
        assert first[:2].tolist() == [4.0, 0.0]
        assert np.isnan(first[2])
    unseen = Margins(names, np.array([1.0, 2.0, 0.0]), 0.0)(batch)[1]
    assert unseen[:6].tolist() == [False, True, False, True, True, True]


def test_labels_may_be_texts_of_numbers_and_one_that_is_none_is_quoted() -> None:
    labels = [1.0, 3.0, 5.0, 7.0]
    rows = pa.table({"a": np.arange(4.0), "y": [str(label) for label in labels]})
    bias, weights = squares(rows, featureCols=["a"])
    assert (bias, weights[0]) == pytest.approx((1, 2), abs=1e-6)
    mixed = pa.table({"a": np.arange(4.0), "y": ["1.0", "é", "x", "7.0"]})
    with pytest.raises(Unreadable, match=r"^column 'y': 'é' is not a number$"):
        squares(mixed, featureCols=["a"])
    times = pa.table({"a": np.arange(2.0), "y": pa.array([0, 1], pa.timestamp("ms"))})
    with pytest.raises(Unreadable, match=r"^column 'y' is of type timestamp\[ms\], not numbers$"):
        squares(times, featureCols=["a"])
