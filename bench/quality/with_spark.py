"""Record what Spark makes of the data sets: ``spark.json``, with versions and parameters.

It needs PySpark 4 and a Java from 17 on:

    python -m venv spark && spark/bin/pip install "pyspark==4.3.0" pandas pyarrow
    spark/bin/python bench/quality/with_spark.py
"""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import measures
import numpy as np
import pyarrow.parquet as pq
import pyspark
from pyspark.ml import classification as c
from pyspark.ml import clustering as k
from pyspark.ml import regression as r
from pyspark.ml.feature import PCA, VectorAssembler
from pyspark.sql import SparkSession

HERE = Path(__file__).resolve().parent
SEED = 7
TREES = {"maxDepth": 5, "seed": SEED}


def tasks() -> dict[str, tuple[str, str, Any]]:
    """Give by name, which is ours, the data set, what is measured, and the estimator."""
    return {
        "LogisticRegression": ("breast_cancer", "auc", c.LogisticRegression(regParam=0.01)),
        "Softmax": ("wine", "accuracy", c.LogisticRegression(regParam=0.01)),
        "LinearSvm": ("breast_cancer", "accuracy", c.LinearSVC(regParam=0.01)),
        "NaiveBayes": ("wine", "accuracy", c.NaiveBayes(modelType="gaussian")),
        "DecisionTreeClassifier": ("curved", "accuracy", c.DecisionTreeClassifier(**TREES)),
        "RandomForestClassifier": ("curved", "auc", c.RandomForestClassifier(numTrees=50, **TREES)),
        "GbdtClassifier": ("curved", "auc", c.GBTClassifier(maxIter=50, stepSize=0.1, **TREES)),
        "MultilayerPerceptronClassifier": (
            "digits",
            "accuracy",
            c.MultilayerPerceptronClassifier(layers=[64, 32, 10], maxIter=100, seed=SEED),
        ),
        "FmClassifier": ("curved", "auc", c.FMClassifier(factorSize=8, maxIter=200, seed=SEED)),
        "LinearRegression": ("diabetes", "rmse", r.LinearRegression()),
        "RidgeRegression": ("diabetes", "rmse", r.LinearRegression(regParam=0.1)),
        "LassoRegression": (
            "diabetes",
            "rmse",
            r.LinearRegression(regParam=0.1, elasticNetParam=1.0),
        ),
        "DecisionTreeRegressor": ("friedman", "rmse", r.DecisionTreeRegressor(**TREES)),
        "RandomForestRegressor": (
            "friedman",
            "rmse",
            r.RandomForestRegressor(numTrees=50, **TREES),
        ),
        "GbdtRegressor": ("friedman", "rmse", r.GBTRegressor(maxIter=50, stepSize=0.1, **TREES)),
        "KMeans": ("blobs", "silhouette", k.KMeans(k=6, seed=SEED)),
        "BisectingKMeans": ("blobs", "silhouette", k.BisectingKMeans(k=6, seed=SEED)),
        "GaussianMixture": ("blobs", "silhouette", k.GaussianMixture(k=6, seed=SEED)),
        "PCA": ("wine", "explained", PCA(k=3, inputCol="features", outputCol="pca")),
    }


def main() -> None:
    """Run all tasks."""
    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "2")
        .getOrCreate()
    )
    java = spark._jvm.java.lang.System.getProperty("java.version")
    results = {name: measured(spark, *task) for name, task in tasks().items()}
    recorded = {
        "versions": {
            "pyspark": pyspark.__version__, "java": java, "python": platform.python_version(),
        },
        "tasks": results,
    }  # fmt: skip
    (HERE / "spark.json").write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")
    spark.stop()


def measured(spark: Any, data: str, measure: str, estimator: Any) -> dict[str, Any]:
    """Train on the rows for training, and measure on those for the test; clusters on all."""
    frame: Any = pq.read_table(HERE / "data" / f"{data}.parquet").to_pandas()
    names = [name for name in frame if name.startswith("x")]
    clusters = measure in ("silhouette", "explained")
    if measure == "explained":  # ours are of the correlations
        frame[names] = (frame[names] - frame[names].mean()) / frame[names].std()
    assembler = VectorAssembler(inputCols=names, outputCol="features")

    def rows(part: Any) -> Any:
        values = [tuple(map(float, row)) for row in part[[*names, "y"]].to_numpy()]
        made = spark.createDataFrame(values, [*names, "label"])
        return assembler.transform(made).coalesce(1)

    train = frame if clusters else frame[~frame["test"]]
    test = frame if clusters else frame[frame["test"]]
    model = estimator.fit(rows(train))
    if measure == "explained":
        value = float(sum(model.explainedVariance.toArray()))
    else:
        out = model.transform(rows(test)).collect()
        predicted = np.array([row["prediction"] for row in out], float)
        value = of_predictions(measure, test, names, predicted, out)
    told = {p.name: v for p, v in estimator.extractParamMap().items()}
    return {
        "data": data,
        "measure": measure,
        "value": value,
        "estimator": type(estimator).__name__,
        "params": {name: v for name, v in sorted(told.items()) if not name.endswith("Col")},
    }


def of_predictions(measure: str, test: Any, names: list[str], predicted: Any, rows: Any) -> float:
    """Measure predictions."""
    y = test["y"].to_numpy()
    if measure == "auc":
        return measures.auc(y, np.array([row["rawPrediction"][1] for row in rows]))
    if measure == "silhouette":
        return measures.silhouette(test[names].to_numpy(), predicted)
    return getattr(measures, measure)(y, predicted)


if __name__ == "__main__":
    main()
