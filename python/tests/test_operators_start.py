"""What a worker starts with: pandas takes longer to import than all that operators compute with."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

import alink as al
import alink._algorithms
from alink import operators as ops

ROWS = [
    (0.0, 1, "red", "a b", "1 2", 0.5),
    (1.0, 2, "red", "b c", "2 3", 1.5),
    (2.0, 3, "blue", "c c d", "3 4", -1.0),
    (3.0, 4, None, "d", "4 5", 2.5),
    (None, 5, "green", "a d", "5 7", 0.0),
    (5.0, 6, "blue", "e", "6 8", 3.0),
]
SCHEMA = "x double, n bigint, colour string, words string, vec string, y double"


@al.map_batches({"pandas": "bool"})
def has_pandas(batch: pa.RecordBatch) -> pa.RecordBatch:
    import sys

    return pa.RecordBatch.from_arrays([pa.array(["pandas" in sys.modules], pa.bool_())], ["pandas"])


def _rows(complete: bool = False) -> Any:
    rows = [row for row in ROWS if not complete or None not in row]
    return ops.MemSourceBatchOp([list(row) for row in rows], SCHEMA)


def _predicted(train: Any, predict: Any) -> Any:
    rows = _rows(complete=True)
    return predict.linkFrom(train.linkFrom(rows), rows)


def _evaluated() -> Any:
    details = ['{"1": 0.9, "0": 0.1}', '{"1": 0.4, "0": 0.6}', '{"1": 0.7, "0": 0.3}']
    rows = [[label, detail] for label, detail in zip("100", details, strict=True)]
    source = ops.MemSourceBatchOp(rows, "label string, detail string")
    evaluate = ops.EvalBinaryClassBatchOp(labelCol="label", predictionDetailCol="detail")
    return evaluate.linkFrom(source)


NUMBERS = ["x", "n"]
# The commonest ways of values through workers: texts, vectors, formats, models of each kind.
PROGRAMS: dict[str, Callable[[], Any]] = {
    "columns to vector": lambda: ops.ColumnsToVectorBatchOp(
        selectedCols=["x", "n"], vectorCol="v", handleInvalid="SKIP"
    ).linkFrom(_rows()),
    "columns to JSON": lambda: ops.ColumnsToJsonBatchOp(jsonCol="j").linkFrom(_rows()),
    "columns to pairs": lambda: ops.ColumnsToKvBatchOp(kvCol="kv").linkFrom(_rows()),
    "vector to columns": lambda: ops.VectorToColumnsBatchOp(
        vectorCol="vec", schemaStr="a double, b double"
    ).linkFrom(_rows()),
    "normalized vector": lambda: ops.VectorNormalizeBatchOp(
        selectedCol="vec", outputCol="v"
    ).linkFrom(_rows()),
    "hashed features": lambda: ops.FeatureHasherBatchOp(
        selectedCols=["x", "n", "colour"], outputCol="v"
    ).linkFrom(_rows()),
    "binarized": lambda: ops.BinarizerBatchOp(selectedCol="x", threshold=1.0).linkFrom(_rows()),
    "imputed": lambda: ops.ImputerPredictBatchOp().linkFrom(
        ops.ImputerTrainBatchOp(selectedCols=["x"]).linkFrom(_rows()), _rows()
    ),
    "indexed": lambda: _predicted(
        ops.StringIndexerTrainBatchOp(selectedCol="colour"),
        ops.StringIndexerPredictBatchOp(selectedCol="colour", outputCol="i"),
    ),
    "one-hot": lambda: _predicted(
        ops.OneHotTrainBatchOp(selectedCols=["colour"]),
        ops.OneHotPredictBatchOp(selectedCols=["colour"], outputCols=["v"], encode="VECTOR"),
    ),
    "scaled": lambda: _predicted(
        ops.StandardScalerTrainBatchOp(selectedCols=["x", "n"]), ops.StandardScalerPredictBatchOp()
    ),
    "quantiles": lambda: _predicted(
        ops.QuantileDiscretizerTrainBatchOp(selectedCols=["x"], numBuckets=2),
        ops.QuantileDiscretizerPredictBatchOp(selectedCols=["x"]),
    ),
    "topics": lambda: _predicted(
        ops.LdaTrainBatchOp(selectedCol="words", topicNum=2, numIter=2),
        ops.LdaPredictBatchOp(selectedCol="words", predictionCol="p"),
    ),
    "logistic regression": lambda: _predicted(
        ops.LogisticRegressionTrainBatchOp(labelCol="colour", maxIter=5, featureCols=NUMBERS),
        ops.LogisticRegressionPredictBatchOp(predictionCol="p", predictionDetailCol="d"),
    ),
    "linear regression": lambda: _predicted(
        ops.LinearRegTrainBatchOp(labelCol="y", featureCols=NUMBERS),
        ops.LinearRegPredictBatchOp(predictionCol="p"),
    ),
    "softmax": lambda: _predicted(
        ops.SoftmaxTrainBatchOp(labelCol="words", maxIter=3, vectorCol="vec"),
        ops.SoftmaxPredictBatchOp(predictionCol="p", predictionDetailCol="d"),
    ),
    "naive Bayes": lambda: _predicted(
        ops.NaiveBayesTrainBatchOp(labelCol="colour", featureCols=NUMBERS),
        ops.NaiveBayesPredictBatchOp(predictionCol="p", predictionDetailCol="d"),
    ),
    "k-means": lambda: _predicted(
        ops.KMeansTrainBatchOp(k=2, vectorCol="vec"), ops.KMeansPredictBatchOp(predictionCol="p")
    ),
    "generalized linear": lambda: _predicted(
        ops.GlmTrainBatchOp(labelCol="y", family="gaussian", featureCols=NUMBERS),
        ops.GlmPredictBatchOp(predictionCol="p"),
    ),
    "evaluation": _evaluated,
    "summary": lambda: ops.SummarizerBatchOp(selectedCols=["x", "n"]).linkFrom(_rows()),
}


def who_imports_pandas() -> str | None:
    """Run all programs; name the first after which the worker has pandas."""
    shared = al.from_arrow(pa.table({"one": [1]})).map_batches(has_pandas)
    for name, program in PROGRAMS.items():
        program().collectToDataframe()
        if shared.to_arrow().column("pandas").to_pylist() != [False]:
            return name
    return None


def test_no_operator_imports_pandas(pyrunner: str) -> None:
    # An engine of its own: functions of other tests bring pandas into its workers.
    done = subprocess.run(
        [sys.executable, __file__], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.stdout, done.returncode) == ("None\n", 0), done.stderr


def test_algorithms_leave_arrays_to_one_function() -> None:
    folder = Path(alink._algorithms.__file__).parent
    found = [
        f"{path.name}: {line.strip()}"
        for path in folder.glob("*.py")
        for line in path.read_text().splitlines()
        if re.search(r"\.to_numpy\(", line)
    ]
    assert not found, "pyarrow's to_numpy imports pandas: take _arrays.numpy_of"


if __name__ == "__main__":
    print(who_imports_pandas())
