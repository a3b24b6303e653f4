"""Programs of PyAlink on a Parquet file of a million rows, in clients that have little memory.

Each is a process of its own. Its memory is limited once the engine runs, as what it starts takes
over its limits, and its peak is measured: rows stay where the engine and its workers are.
``make million`` runs all programs and prints the table; otherwise a few run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROWS = 1_000_000
LIMIT_MIB = 400
ALL = os.environ.get("ALINK_MILLION") == "all"
SHORT = ("group", "indexer", "scaler", "linear", "kmeans")

HEAD = f"""
import resource
from pyalink.alink import *

rows = ParquetSourceBatchOp().setFilePath(FILE)
rows.getColNames()
resource.setrlimit(resource.RLIMIT_DATA, ({LIMIT_MIB} << 20,) * 2)
F = ["a", "b", "c", "d"]


def count(op):
    found = op.link(SelectBatchOp().setClause("count(*) as n")).collectToDataframe()
    assert found["n"].tolist() == [1_000_000], found
"""
TAIL = """
for line in open("/proc/self/status"):  # ru_maxrss begins with the parent's peak
    if line.startswith("VmHWM"):
        print("PEAK", int(line.split()[1]) >> 10)
"""
PROGRAMS = {
    "where": """
rows.link(WhereBatchOp().setClause("a>1")).print(3)
""",
    "group": """
rows.link(GroupByBatchOp().setGroupByPredicate("word").setSelectClause("word,avg(a) as m")).print()
""",
    "json": """
count(rows.link(ColumnsToJsonBatchOp().setSelectedCols(F).setJsonCol("j")))
""",
    "vector": """
count(rows.link(ColumnsToVectorBatchOp().setSelectedCols(F).setVectorCol("v"))\
    .link(VectorNormalizeBatchOp().setSelectedCol("v")))
""",
    "hash": """
count(rows.link(FeatureHasherBatchOp().setSelectedCols(["a","word"]).setOutputCol("v").setNumFeatures(1000)))
""",
    "indexer": """
m=StringIndexerTrainBatchOp().setSelectedCol("word")\
    .linkFrom(rows)
count(StringIndexerPredictBatchOp().setSelectedCol("word").setOutputCol("i")\
    .linkFrom(m,rows))
""",
    "onehot": """
m=OneHotTrainBatchOp().setSelectedCols(["word"])\
    .linkFrom(rows)
count(OneHotPredictBatchOp().setSelectedCols(["word"]).setOutputCols(["o"])\
    .linkFrom(m,rows))
""",
    "quantile": """
m=QuantileDiscretizerTrainBatchOp().setSelectedCols(F).setNumBuckets(8)\
    .linkFrom(rows)
count(QuantileDiscretizerPredictBatchOp().setSelectedCols(F)\
    .linkFrom(m,rows))
""",
    "scaler": """
m=StandardScalerTrainBatchOp().setSelectedCols(F)\
    .linkFrom(rows)
count(StandardScalerPredictBatchOp()\
    .linkFrom(m,rows))
""",
    "logistic": """
m=LogisticRegressionTrainBatchOp().setFeatureCols(F).setLabelCol("label")\
    .linkFrom(rows)
p=LogisticRegressionPredictBatchOp().setPredictionCol("p").setPredictionDetailCol("d2")\
    .linkFrom(m,rows)
print(EvalBinaryClassBatchOp().setLabelCol("label").setPredictionDetailCol("d2")\
    .linkFrom(p).collectMetrics().getAuc())
""",
    "linear": """
LinearRegTrainBatchOp().setFeatureCols(F).setLabelCol("target")\
    .linkFrom(rows).print()
""",
    "softmax": """
SoftmaxTrainBatchOp().setFeatureCols(F).setLabelCol("word")\
    .linkFrom(rows.link(WhereBatchOp().setClause("word<'w14'"))).print(2)
""",
    "glm": """
GlmTrainBatchOp().setFeatureCols(F).setLabelCol("target")\
    .linkFrom(rows).print(2)
""",
    "bayes": """
m=NaiveBayesTrainBatchOp().setFeatureCols(F+["word"]).setLabelCol("label")\
    .linkFrom(rows)
count(NaiveBayesPredictBatchOp().setPredictionCol("p")\
    .linkFrom(m,rows))
""",
    "kmeans": """
m=KMeansTrainBatchOp().setVectorCol("vec").setK(3)\
    .linkFrom(rows)
count(KMeansPredictBatchOp().setPredictionCol("p")\
    .linkFrom(m,rows))
""",
    "gmm": """
GmmTrainBatchOp().setVectorCol("vec").setK(2).setMaxIter(10)\
    .linkFrom(rows).print(2)
""",
    "pca": """
m=PcaTrainBatchOp().setSelectedCols(F).setK(2)\
    .linkFrom(rows)
count(PcaPredictBatchOp().setPredictionCol("p")\
    .linkFrom(m,rows))
""",
    "summary": """
print(rows.link(SummarizerBatchOp().setSelectedCols(F)).collectSummary())
""",
    "corr": """
print(rows.link(CorrelationBatchOp().setSelectedCols(F)).collectCorrelation())
""",
    "sample": """
rows.link(SampleBatchOp().setRatio(0.1)).print(3)
""",
    "pipeline": """
count(Pipeline().add(StandardScaler().setSelectedCols(F)).add(VectorAssembler().setSelectedCols(F).setOutputCol("v")).add(KMeans().setVectorCol("v").setK(3).setPredictionCol("p")).fit(rows).transform(rows))
""",
}


@pytest.fixture(scope="module")
def million(tmp_path_factory):
    random = np.random.default_rng(1)
    points = random.normal(size=(ROWS, 4))
    word = random.integers(0, 50, ROWS)
    points[:, 0] += word % 3 * 3
    score = points @ [1, -0.5, 0.2, 0]
    columns = {name: points[:, i] for i, name in enumerate("abcd")}
    texts = [f"{x:.3f} {y:.3f}" for x, y in points[:, :2].tolist()]
    label = np.where(score + random.logistic(size=ROWS) > 1, "yes", "no")
    table = pa.table(
        {
            **columns,
            "word": pa.array([f"w{i}" for i in range(50)]).take(pa.array(word)),
            "vec": texts,
            "target": score + random.normal(size=ROWS),
            "label": label,
        }
    )
    path = tmp_path_factory.mktemp("million") / "rows.parquet"
    pq.write_table(table, path, row_group_size=100_000)
    return path


@pytest.mark.parametrize("name", PROGRAMS if ALL else SHORT)
def test_a_client_with_little_memory_runs_it(name, million, pyrunner):
    code = f"FILE = {str(million)!r}\n{HEAD}{PROGRAMS[name]}{TAIL}"
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    seconds = time.perf_counter() - start
    assert done.returncode == 0, done.stderr[-3000:]
    peak = int(re.findall(r"PEAK (\d+)", done.stdout)[-1])
    print(f"\n{name:10} {seconds:6.1f} s  {peak:4} MiB", end="")
    assert peak < LIMIT_MIB
