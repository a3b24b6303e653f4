"""Data and machine learning on Arrow tables, with Python functions in workers.

The engine is a process of its own that starts when it is first needed; Python functions
run in further processes, each with the packages that it asks for.

Examples
--------
>>> import alink as al
>>> @al.udf("double")
... def gain(dep, arr):
...     return dep - arr
>>> gain("dep_delay", "arr_delay")
<alink.Expr gain(dep_delay, arr_delay)>
"""

from __future__ import annotations

from alink import generate, ml
from alink._connection import (
    Context,
    connect,
    from_any,
    from_arrow,
    from_pandas,
    from_polars,
    read_csv,
    read_generator,
    read_json,
    read_parquet,
    sql,
)
from alink._diag import Diagnostic, ExceptionInfo, Row, Source
from alink._environment import Environment
from alink._errors import (
    Cancelled,
    ConnectionLost,
    DataError,
    EnvironmentBuildError,
    Error,
    PlanError,
    RemoteException,
    UdfError,
    WorkerCrashed,
    WorkerMemoryExceeded,
    WorkerTimeout,
)
from alink._expr import Expr, SortKey, col, lit
from alink._find import find_pyrunner
from alink._functions import Function, MapBatchesFunction, map_batches, udf
from alink._job import Job
from alink._kinds import (
    AggregateFunction,
    GroupsFunction,
    MapTableFunction,
    TableFunction,
    map_groups,
    map_table,
    udaf,
    udtf,
)
from alink._model import Model
from alink._params import Params, params
from alink._progress import OperatorProgress, Progress
from alink._table import GroupBy, Table
from alink._trial import Difference, FunctionReport
from alink._window import Windowed, WindowGroups

__all__ = [
    "AggregateFunction",
    "Cancelled",
    "ConnectionLost",
    "Context",
    "DataError",
    "Diagnostic",
    "Difference",
    "Environment",
    "EnvironmentBuildError",
    "Error",
    "ExceptionInfo",
    "Expr",
    "Function",
    "FunctionReport",
    "GroupBy",
    "GroupsFunction",
    "Job",
    "MapBatchesFunction",
    "MapTableFunction",
    "Model",
    "OperatorProgress",
    "Params",
    "PlanError",
    "Progress",
    "RemoteException",
    "Row",
    "SortKey",
    "Source",
    "Table",
    "TableFunction",
    "UdfError",
    "WindowGroups",
    "Windowed",
    "WorkerCrashed",
    "WorkerMemoryExceeded",
    "WorkerTimeout",
    "col",
    "connect",
    "find_pyrunner",
    "from_any",
    "from_arrow",
    "from_pandas",
    "generate",
    "from_polars",
    "lit",
    "map_batches",
    "map_groups",
    "map_table",
    "ml",
    "params",
    "read_csv",
    "read_generator",
    "read_json",
    "read_parquet",
    "sql",
    "udaf",
    "udf",
    "udtf",
]
