"""Statistics: against their definitions, however many workers share the rows."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from groups import train

import alink as al
from alink._algorithms import _chi_square, _correlations, _summaries
from alink._algorithms._chi_square import chi_square_tail
from alink._algorithms._vectors import Vectors
from alink.operators._summaries import (
    ChiSquareTestResults,
    CorrelationResult,
    TableSummary,
    format_table,
    vector_summary,
)
from pyalink import alink as pyalink

RANDOM = np.random.default_rng(11)
NAN = math.nan
WORKERS = pytest.mark.parametrize("workers", [1, 3])


def summary(rows: pa.Table, workers: int = 1) -> TableSummary:
    params = {"selectedCols": rows.column_names}
    return TableSummary(train(_summaries.train(params), rows, workers, batch_rows=100))


@WORKERS
def test_moments_are_those_of_numpy(workers):
    # The mean is large beside the deviation: powers about 0 would lose all digits.
    values = RANDOM.normal(1e6, 1e-2, 1000)
    found = summary(pa.table({"x": [*values, None, NAN]}), workers)
    assert (found.count(), found.numMissingValue("x"), found.numValidValue("x")) == (1002, 2, 1000)
    about = values - values.mean()
    wanted = {
        "sum": values.sum(),
        "mean": values.mean(),
        "variance": values.var(ddof=1),
        "standardDeviation": values.std(ddof=1),
        "standardError": values.std(ddof=1) / math.sqrt(1000),
        "cv": values.std(ddof=1) / values.mean(),
        "min": values.min(),
        "max": values.max(),
        "normL1": np.abs(values).sum(),
        "normL2": np.sqrt((values**2).sum()),
        "centralMoment2": (about**2).mean(),
        "centralMoment4": (about**4).mean(),
        "kurtosis": (about**4).mean() / (about**2).mean() ** 2 - 3,
    }
    for name, value in wanted.items():
        assert getattr(found, name)("x") == pytest.approx(value, rel=1e-7), name
    skewness = (about**3).mean() / (about**2).mean() ** 1.5
    assert found.skewness("x") == pytest.approx(skewness, abs=1e-6)


@WORKERS
def test_extremes_of_whole_numbers_are_exact(workers):
    values = [2**62 + 1, -(2**62) - 3, None, 5]
    found = summary(pa.table({"x": pa.array(values, pa.int64())}), workers)
    assert (found.max("x"), found.min("x")) == (2**62 + 1, -(2**62) - 3)


def test_columns_without_values():
    rows = pa.table(
        {
            "none": pa.array([None, NAN], pa.float64()),
            "one": [3.0, None],
            "text": ["a", None],
            "int": pa.array([None, None], pa.int32()),
        }
    )
    found = summary(rows)
    assert (found.sum("none"), found.variance("none")) == (0, 0)
    assert all(map(math.isnan, (found.mean("none"), found.min("int"), found.sum("text"))))
    assert (found.variance("one"), found.min("ONE")) == (0, 3.0)
    assert math.isnan(found.skewness("one"))
    assert found.numMissingValue("text") == 1
    assert summary(rows.slice(0, 0)).count() == 0
    with pytest.raises(al.PlanError, match='the summary has no column "tex"'):
        found.mean("tex")


def test_tables_are_printed_as_pyalink_prints_them():
    found = summary(pa.table({"f": [2.0, -3.0, 2.0, None], "ü": pa.array([1, 2, None, 0])}))
    assert str(found) == (
        "Summary: \n"
        "|colName|count|missing|sum|  mean|variance|min|max|\n"
        "|-------|-----|-------|---|------|--------|---|---|\n"
        "|      f|    4|      1|  1|0.3333|  8.3333| -3|  2|\n"
        "|      ü|    4|      1|  3|     1|       1|  0|  2|"
    )
    long = format_table([[1.0], [NAN], [None], [math.inf], [1e-9]], ["a"], list("vwxyz"), "n", 2)
    assert long.splitlines()[2:] == ["|  v|  1|", "|  w|NaN|", "...", "|  y|  ∞|", "|  z|  0|"]


def test_large_batches_are_read_in_blocks():
    rows = pa.table({"x": RANDOM.normal(size=20_001), "y": RANDOM.normal(size=20_001)})
    frame = rows.to_pandas()
    found = TableSummary(train(_summaries.train({"selectedCols": ["x", "y"]}), rows))
    assert found.sum("y") == pytest.approx(frame["y"].sum())
    about = frame["x"] - frame["x"].mean()
    assert found.centralMoment4("x") == pytest.approx((about**4).mean())
    params = {"selectedCols": ["x", "y"], "method": "PEARSON"}
    model = train(_correlations.train(params), rows)
    np.testing.assert_allclose(CorrelationResult(model).getCorrelation(), frame.corr(), atol=1e-12)


# --- vectors ---

MATRIX = np.array([[1.0, 0.0, -2.0], [3.0, 0.0, 5.0], [2.0, 0.0, 4.0], [5.0, 0.0, -1.0]])


def texts(matrix, size="$3$"):
    return [size + " ".join(f"{i}:{v}" for i, v in enumerate(row) if v) for row in matrix]


def of_vectors(column: Any, workers: int = 1) -> Any:
    params = {"selectedCol": "v"}
    rows = pa.table({"v": column})
    return vector_summary(train(_summaries.train_vector(params), rows, workers, batch_rows=1))


@WORKERS
@pytest.mark.parametrize(
    "column",
    [Vectors.of_matrix(MATRIX).to_arrow(), pa.array(texts(MATRIX)), pa.array(texts(MATRIX, ""))],
    ids=["dense", "sparse", "sizes not known"],
)
def test_summaries_of_vectors(column, workers):
    found = of_vectors(column, workers)
    assert (found.count(), found.vectorSize()) == (4, 3)
    wanted = {
        "sum": MATRIX.sum(axis=0),
        "mean": MATRIX.mean(axis=0),
        "variance": MATRIX.var(axis=0, ddof=1),
        "standardDeviation": MATRIX.std(axis=0, ddof=1),
        "min": MATRIX.min(axis=0),  # the 1 of index 0: no row has 0 there
        "max": MATRIX.max(axis=0),
        "normL1": np.abs(MATRIX).sum(axis=0),
        "normL2": np.sqrt((MATRIX**2).sum(axis=0)),
    }
    for name, values in wanted.items():
        vector = getattr(found, name)()
        assert [vector.get(i) for i in range(3)] == pytest.approx(values), name
        assert getattr(found, name)(2) == pytest.approx(values[2])
    if isinstance(found.sum(), pyalink.SparseVector):
        assert found.numNonZero().getData() == [4, 0, 4]
        assert str(found).startswith("SparseVectorSummary:\n| id|count|")


def test_vectors_that_differ():
    assert of_vectors(pa.array(["1 2", None, "3 4"])).count() == 2
    mixed = of_vectors(pa.array(["0:1.0", "1 2", "1:-1.0"]), 3)
    assert [mixed.min().get(i) for i in range(2)] == [0, -1]
    assert of_vectors(pa.array([], pa.string())).vectorSize() == 0
    for column, workers in ((["1 2", "1 2 3"], 1), (["1 2", "1 2 3"], 2), (["1 2", "2:1.0"], 1)):
        with pytest.raises(ValueError, match="column 'v': a vector of size 2 stands where size 3"):
            of_vectors(pa.array(column), workers)


# --- correlations ---


def correlation(rows: pa.Table, method: str, workers: int = 1, **params) -> np.ndarray:
    given = {"selectedCols": rows.column_names, **params, "method": method}
    model = train(_correlations.train(given), rows, workers, batch_rows=70)
    return np.array(CorrelationResult(model).getCorrelation())


@WORKERS
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_pearson_is_pairwise(missing, workers):
    values = RANDOM.normal(size=(300, 4)) @ RANDOM.normal(size=(4, 4)) + [0, 1e6, -1e7, 3]
    values[RANDOM.uniform(size=values.shape) < missing] = NAN
    frame = pd.DataFrame(values, columns=list("abcd"))
    found = correlation(pa.Table.from_pandas(frame), "PEARSON", workers)
    np.testing.assert_allclose(found, frame.corr(), atol=1e-9)


@WORKERS
def test_spearman_shares_ranks(workers):
    frame = pd.DataFrame(RANDOM.integers(0, 6, (200, 3)).astype(float), columns=list("abc"))
    frame["d"] = np.exp(frame["a"] * 50)  # the same order as a
    frame.loc[7, "b"] = None
    found = correlation(pa.Table.from_pandas(frame), "SPEARMAN", workers)
    whole = frame.dropna().rank()
    np.testing.assert_allclose(found, whole.corr(), atol=1e-12)
    assert found[0, 3] == pytest.approx(1, abs=1e-12)


def test_columns_of_one_value_correlate_with_nothing():
    rows = pa.table({"a": [0.1] * 5, "b": [1.0, 2.0, 3.0, 4.0, 5.0]})
    for method in ("PEARSON", "SPEARMAN"):
        found = correlation(rows, method)
        np.testing.assert_equal(found, [[1, NAN], [NAN, 1]])
    assert np.isnan(correlation(rows.slice(0, 0), "PEARSON")[0, 1])


@pytest.mark.parametrize("method", ["PEARSON", "SPEARMAN"])
def test_correlations_of_vectors(method):
    wanted = correlation(pa.table(dict(zip("ac", MATRIX[:, [0, 2]].T, strict=True))), method)
    column = pa.array([*texts(MATRIX), None])
    found = correlation(pa.table({"v": column}), method, 2, selectedCols=None, vectorCol="v")
    assert found.shape == (3, 3)
    np.testing.assert_allclose(found[[0, 2]][:, [0, 2]], wanted, atol=1e-12)
    wide = pa.table({"v": ["99999:1.0"]})
    with pytest.raises(ValueError, match="column 'v' has vectors of size 100000"):
        correlation(wide, method, selectedCols=None, vectorCol="v")


# --- chi-square ---


def test_the_tail_of_chi_square():
    for x in (1e-9, 0.3, 1.0, 3.9, 17.0, 80.0, 700.0):
        half = x / 2
        root = math.erfc(math.sqrt(half))
        assert chi_square_tail(x, 1) == pytest.approx(root, rel=1e-9)
        assert chi_square_tail(x, 2) == pytest.approx(math.exp(-half), rel=1e-9)
        odd = root + math.sqrt(2 * x / math.pi) * math.exp(-half)
        assert chi_square_tail(x, 3) == pytest.approx(odd, rel=1e-9)
        terms = sum(half**k / math.factorial(k) for k in range(10))
        assert chi_square_tail(x, 20) == pytest.approx(math.exp(-half) * terms, rel=1e-9)
    assert (chi_square_tail(0, 3), chi_square_tail(math.inf, 3)) == (1, 0)
    # The median of many degrees of freedom lies at df (1 - 2/(9 df))³ [Wilson and Hilferty].
    assert chi_square_tail(10_000 * (1 - 2 / 90_000) ** 3, 10_000) == pytest.approx(0.5, abs=1e-6)


def chi_square(values, labels) -> tuple[float, int]:
    table = pd.crosstab(np.array([*map(str, values)]), np.array([*map(str, labels)])).to_numpy()
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    return ((table - expected) ** 2 / expected).sum(), (table.shape[0] - 1) * (table.shape[1] - 1)


@WORKERS
def test_chi_square_tests_of_columns(workers):
    columns = {
        "s": [None if v == "c" else v for v in RANDOM.choice(list("abcé"), 300).tolist()],
        "n": RANDOM.integers(0, 3, 300).tolist(),
        "one": [7] * 300,
        "y": RANDOM.choice([True, False], 300).tolist(),
    }
    params = {"selectedCols": ["s", "n", "one"], "labelCol": "y"}
    rows = train(_chi_square.train(params), pa.table(columns), workers, batch_rows=50)
    found = ChiSquareTestResults(rows)
    for name in ("s", "n"):
        value, df = chi_square(columns[name], columns["y"])
        result = found.getResult(name)
        assert (result.getValue(), result.getDf()) == pytest.approx((value, df))
        assert result.getP() == pytest.approx(chi_square_tail(value, df))
    assert (found.getResult("one").getP(), found.getResult("one").getDf()) == (1, 0)
    assert found.getSelectedCols() == ["s", "n", "one"]
    with pytest.raises(al.PlanError, match='there is no test of "x"'):
        found.getResult("x")
    empty = train(_chi_square.train(params), pa.table(columns).slice(0, 0), workers)
    assert [result.getP() for result in ChiSquareTestResults(empty).getResults()] == [1, 1, 1]


@WORKERS
def test_chi_square_tests_of_vectors_count_what_is_not_named_as_0(workers):
    matrix = RANDOM.integers(0, 3, (120, 4)).astype(float)
    matrix[:, 3] = 0
    label = RANDOM.choice(["x", "y"], 120)
    params = {"vectorCol": "v", "labelCol": "y"}
    for column in (pa.array(texts(matrix, "$4$")), Vectors.of_matrix(matrix).to_arrow()):
        rows = pa.table({"v": column, "y": label})
        found = ChiSquareTestResults(train(_chi_square.train(params), rows, workers, batch_rows=9))
        assert found.getSelectedCols() == ["0", "1", "2", "3"]
        for i, result in enumerate(found.getResults()):
            wanted = chi_square(matrix[:, i], label)
            assert (result.getValue(), result.getDf()) == pytest.approx(wanted)


def test_selection():
    label = np.repeat([0, 1], 50)
    columns = {f"x{i}": np.where(RANDOM.uniform(size=100) < i / 16, label, 0) for i in range(8)}
    params = {
        "selectedCols": list(columns),
        "labelCol": "y",
        "numTopFeatures": 2,
        "percentile": 0.4,
        "fpr": 0.2,
        "fdr": 1e-3,
        "fwe": 1e-6,
    }
    p = {name: chi_square_tail(*chi_square(values, label)) for name, values in columns.items()}
    p["x0"] = 1.0
    order = sorted(p, key=lambda name: p[name])
    rising = [p[name] for name in order]
    fdr = max((i + 1 for i in range(8) if rising[i] <= 1e-3 * (i + 1) / 8), default=0)
    counts = {
        "NumTopFeatures": 2,
        "PERCENTILE": 3,
        "FPR": sum(value < 0.2 for value in rising),
        "FDR": fdr,
        "FWE": sum(value < 1e-6 / 8 for value in rising),
    }
    assert len(set(counts.values())) > 3  # so that one cannot stand for another
    for kind, count in counts.items():
        given = {**params, "selectorType": kind}
        model = train(_chi_square.select(given), pa.table({**columns, "y": label}))
        content = json.loads(model.column("model_info")[1].as_py())
        assert content["siftOutColNames"] == order[:count], kind


# --- through operators ---


@pytest.fixture(scope="module")
def source():
    frame = pd.DataFrame(
        {"s": ["a", "b", None], "x": [1.0, 2.0, None], "y": [3.0, 5.0, 9.0], "v": ["1 2"] * 3}
    )
    return pyalink.BatchOperator.fromDataframe(frame, "s string, x double, y double, v string")


def test_results_are_collected_and_printed(source, capsys):
    assert source.collectStatistics().mean("x") == 1.5
    summarizer = pyalink.SummarizerBatchOp(selectedCols=["X"]).linkFrom(source)
    assert summarizer.collectSummary().getColNames() == ["x"]
    taken: list[Any] = []
    assert summarizer.lazyCollectSummary(lambda s: taken.append(s.max("x"))) is summarizer
    assert source.lazyPrintStatistics("all columns") is source
    vectors = pyalink.VectorSummarizerBatchOp(selectedCol="v").linkFrom(source)
    vectors.lazyPrintVectorSummary()
    pairs = pyalink.CorrelationBatchOp(selectedCols=["x", "y"]).linkFrom(source)
    pairs.lazyCollectCorrelation(lambda c: taken.append(c.getCorrelationMatrix().get(0, 1)))
    test = pyalink.ChiSquareTestBatchOp(selectedCols=["s"], labelCol="x").linkFrom(source)
    test.lazyPrintChiSquareTest("tests")
    assert not taken
    pyalink.BatchOperator.execute()
    assert taken == [2.0, pytest.approx(1.0)]
    printed = capsys.readouterr().out
    for text in ("all columns\nSummary: \n", "DenseVectorSummary:\n", "tests\nChiSquareTest:\n"):
        assert text in printed
    assert vectors.collectVectorSummary().mean(1) == 2
    assert pairs.collectCorrelation().getColNames() == ["x", "y"]
    assert test.collectChiSquareTest().getResult("s").getDf() == 4


def test_what_is_refused(source):
    with pytest.raises(al.PlanError, match='column "s" is STRING'):
        pyalink.CorrelationBatchOp().linkFrom(source)
    with pytest.raises(al.PlanError, match="\"method\" cannot be 'kendall'"):
        pyalink.CorrelationBatchOp(selectedCols=["x"], method="kendall").linkFrom(source)
    with pytest.raises(al.PlanError, match='there is no column "xx"'):
        pyalink.SummarizerBatchOp(selectedCols=["xx"]).linkFrom(source)
    with pytest.raises(al.PlanError, match="'selectedCols' names no column"):
        pyalink.CorrelationBatchOp(selectedCols=[]).linkFrom(source)
    with pytest.raises(al.PlanError, match="selectorType"):
        pyalink.ChiSqSelectorBatchOp(
            selectedCols=["s"], labelCol="x", selectorType="best"
        ).linkFrom(source)
    model = source.select("s").link(pyalink.SummarizerBatchOp())
    assert model.getSchemaStr() == "model_id BIGINT, model_info VARCHAR"
