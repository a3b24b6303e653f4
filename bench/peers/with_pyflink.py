"""PyFlink in batch mode, its Python in processes of their own.

Its source is CSV: the jar that reads Parquet is not in the package on PyPI.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import contract
import pandas as pd
from pyflink.table import DataTypes, EnvironmentSettings, TableEnvironment
from pyflink.table.udf import udaf, udf

ROW, PANDAS = "PyFlink, udf", 'PyFlink, udf(func_type="pandas")'

line = udf(contract.line, result_type=DataTypes.DOUBLE())
shout = udf(contract.shout, result_type=DataTypes.STRING())
line_pandas = udf(contract.line, result_type=DataTypes.DOUBLE(), func_type="pandas")
shout_pandas = udf(lambda s: s.str.upper(), result_type=DataTypes.STRING(), func_type="pandas")
product = udaf(
    lambda a, b: contract.product(pd.DataFrame({"a": a, "b": b})),
    result_type=DataTypes.DOUBLE(),
    func_type="pandas",
)

os.environ["JVM_ARGS"] = f"-Xmx{contract.JVM_HEAP}"
env = TableEnvironment.create(EnvironmentSettings.in_batch_mode())
env.get_config().set("python.executable", sys.executable)
for name, function in {
    "line": line,
    "shout": shout,
    "line_pandas": line_pandas,
    "shout_pandas": shout_pandas,
    "product": product,
}.items():
    env.create_temporary_function(name, function)


def query(sql: str, path: Path) -> float:
    """Run a query over the table t, which is the CSV file beside the Parquet file."""
    csv = path.with_suffix(".csv")
    env.execute_sql("DROP TEMPORARY TABLE IF EXISTS t")
    env.execute_sql(
        "CREATE TEMPORARY TABLE t (id BIGINT, a DOUBLE, b DOUBLE, s STRING, ts TIMESTAMP(6)) "
        f"WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = '{csv}')"
    )
    with env.execute_sql(sql).collect() as rows:
        return float(next(iter(rows))[0])


def numbers(function: str) -> str:
    """Sum what a function of numbers gives."""
    return f"SELECT sum(y) FROM (SELECT {function}(a, b) AS y FROM t)"


def texts(function: str) -> str:
    """Count what a function of text gives."""
    return f"SELECT count(*) FROM (SELECT {function}(s) AS u FROM t) WHERE u LIKE '%F'"


if __name__ == "__main__":
    contract.main(
        lambda path: query(numbers("line"), path),
        {
            (ROW, contract.ROW): lambda path: query(numbers("line"), path),
            (ROW, contract.ROW_TEXT): lambda path: query(texts("shout"), path),
            (PANDAS, contract.VECTOR): lambda path: query(numbers("line_pandas"), path),
            (PANDAS, contract.VECTOR_TEXT): lambda path: query(texts("shout_pandas"), path),
            (PANDAS, contract.GROUPED): lambda path: query(
                "SELECT sum(p) FROM (SELECT product(a, b) AS p FROM t GROUP BY MOD(id, 1000))", path
            ),
        },
        "apache-flink pandas pyarrow",
        starts_workers=True,
    )
