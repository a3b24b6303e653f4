"""PySpark in one process with as many threads and Python workers as processors."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import contract
import pandas as pd
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as sf

PICKLED, ARROW = "PySpark, udf", "PySpark, udf(useArrow=True)"
PANDAS = "PySpark, pandas_udf and applyInPandas"

# Or its workers run with whichever python3 is on the path.
os.environ["PYSPARK_PYTHON"] = sys.executable
spark = (
    SparkSession.builder.master("local[*]")
    .config("spark.driver.memory", contract.JVM_HEAP)
    .config("spark.driver.bindAddress", "127.0.0.1")
    .config("spark.driver.host", "127.0.0.1")
    .config("spark.ui.enabled", "false")
    .config("spark.log.level", "ERROR")
    # 200 is the default: too many for one machine.
    .config("spark.sql.shuffle.partitions", os.cpu_count() or 1)
    .getOrCreate()
)
line = sf.udf(contract.line, "double", useArrow=False)
shout = sf.udf(contract.shout, "string", useArrow=False)
line_arrow = sf.udf(contract.line, "double", useArrow=True)
shout_arrow = sf.udf(contract.shout, "string", useArrow=True)


@sf.pandas_udf("double")
def line_pandas(a: pd.Series, b: pd.Series) -> pd.Series:
    return contract.line(a, b)


@sf.pandas_udf("string")
def shout_pandas(s: pd.Series) -> pd.Series:
    return s.str.upper()


def product(group: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"p": [contract.product(group)]})


def value(frame: DataFrame) -> float:
    """Give the one value of a data frame."""
    row = frame.first()
    assert row is not None
    return float(row[0])


def numbers(path: Path, function: Callable[..., Column]) -> float:
    """Sum what a function of numbers gives."""
    made = spark.read.parquet(str(path)).select(function("a", "b").alias("y"))
    return value(made.agg(sf.sum("y")))


def texts(path: Path, function: Callable[..., Column]) -> float:
    """Count what a function of text gives."""
    made = spark.read.parquet(str(path)).select(function("s").alias("u"))
    return value(made.agg(sf.count_if(sf.col("u").like("%F"))))


def groups(path: Path) -> float:
    """Sum the aggregates of all keys."""
    keyed = spark.read.parquet(str(path)).select((sf.col("id") % 1000).alias("k"), "a", "b")
    return value(keyed.groupBy("k").applyInPandas(product, "p double").agg(sf.sum("p")))


if __name__ == "__main__":
    contract.main(
        lambda path: numbers(path, line),
        {
            (PICKLED, contract.ROW): lambda path: numbers(path, line),
            (PICKLED, contract.ROW_TEXT): lambda path: texts(path, shout),
            (ARROW, contract.ROW): lambda path: numbers(path, line_arrow),
            (ARROW, contract.ROW_TEXT): lambda path: texts(path, shout_arrow),
            (PANDAS, contract.VECTOR): lambda path: numbers(path, line_pandas),
            (PANDAS, contract.VECTOR_TEXT): lambda path: texts(path, shout_pandas),
            (PANDAS, contract.GROUPED): groups,
        },
        "pyspark pandas pyarrow",
    )
