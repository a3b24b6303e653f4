"""Principal components, multidimensional scaling and collinearity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from alink._algorithms._schemas import COLLINEARITY, MAP
from alink._algorithms._types import VECTOR, is_number
from alink._diag import quote
from alink._options import bad_option, find_column
from alink._table import Table
from alink.operators._base import BatchOperator
from alink.operators._define import build, one_of, operator
from alink.operators._dialect import quoted
from alink.operators._discretizers import check_numbers
from alink.operators._mapping import apply_step
from alink.operators._model_details import PcaModelData
from alink.operators._statistics import check_some, compute, statistic
from alink.operators._training import Columns, Trained, trained
from alink.operators._vectors import check_vectors

Params = Mapping[str, Any]


def _prepared(name: str, params: Params, schema: pa.Schema) -> dict[str, Any]:
    """Check the parameters: by default all columns of numbers are taken."""
    given = dict(params)
    kind = one_of(name, "calculationType", params["calculationType"], ("CORR", "COV"))
    given["calculationType"] = kind
    if params["k"] < 1:
        raise bad_option(name, f"{name}: 'k' cannot be {params['k']}", "it is 1 or more")
    if params.get("vectorCol") is not None:
        if params.get("selectedCols") is not None:
            raise bad_option(
                name, f"{name}: both selectedCols and vectorCol are set", "leave one out"
            )
        check_vectors(name, schema, [find_column(name, schema, params["vectorCol"])])
        return given
    if params.get("selectedCols") is None:
        given["selectedCols"] = [field.name for field in schema if is_number(field.type)]
    if not given["selectedCols"]:
        raise bad_option(name, f"{name} has no columns of numbers", "set selectedCols or vectorCol")
    check_numbers(name, schema, given["selectedCols"])
    return given


def _scores(params: Params, _rows: pa.Schema, _model: pa.Schema) -> Columns:
    return [(params["predictionCol"], VECTOR)]


def _mds_columns(name: str, given: dict[str, Any], schema: pa.Schema) -> None:
    if given["selectedCols"] is None:
        given["selectedCols"] = [field.name for field in schema if is_number(field.type)]
    if given["dim"] < 1:
        raise bad_option(name, f"{name}: 'dim' cannot be {given['dim']}", "it is 1 or more")
    check_some(name, given, schema)


def scale(name: str, params: Params, inputs: Sequence[Table]) -> Table:
    """Give coordinates in few dimensions that keep the distances between rows.

    It is classical multidimensional scaling of columns of numbers, by principal components.
    """
    table = inputs[0]
    given = dict(params)
    model = compute(name, given, table, "_pca.train_scaling", _mds_columns)
    _mds_columns(name, given, table.schema)
    columns = [find_column(name, table.schema, column) for column in given["selectedCols"]]
    names = [f"{params['outputColPrefix']}{i}" for i in range(params["dim"])]
    outputs = [(column, pa.float64()) for column in names]
    scaled = apply_step(
        table, name, "_pca.Scale", {"selectedCols": columns}, outputs, params["reservedCols"], model
    )
    return scaled.select(*map(quoted, [*names, *(c for c in scaled.columns if c not in names)]))


def _collinearity(params: Params, _schema: pa.Schema) -> pa.Schema:
    first, *others = COLLINEARITY
    numbers = [(column, pa.float64()) for column in [*others, *params["selectedCols"]]]
    return pa.schema([(first, pa.string()), *numbers])


def _map(name: str, given: dict[str, Any], schema: pa.Schema) -> None:
    check_vectors(name, schema, [given["vectorCol"]])
    for parameter in ("xdim", "ydim", "vdim", "numIters"):
        if given[parameter] < 1:
            raise bad_option(
                name, f"{name}: {quote(parameter)} cannot be {given[parameter]}", "1 or more"
            )
    for parameter in ("sigma", "learnRate"):
        if not given[parameter] > 0:
            raise bad_option(
                name, f"{name}: {quote(parameter)} cannot be {given[parameter]}", "above 0"
            )


class SelfOrganized(BatchOperator):
    """Gives the neurons of a map; the rows with the places of their neurons are side output 0."""

    def _link(self) -> Table:
        rows = self._inputs[0]._table()
        params = self._all()
        model = compute(self._name, params, rows, "_som.train", _map, MAP).cache()
        column = find_column(self._name, rows.schema, params["vectorCol"])
        places = [("xidx", pa.int64()), ("yidx", pa.int64())]
        settings = {"vectorCol": column}
        placed = apply_step(rows, self._name, "_som.Predict", settings, places, None, model)
        self._side_outputs = [placed]
        return model


def declare() -> None:
    """Declare the operators of this module."""
    trained(
        Trained(
            "Pca",
            "_pca.train",
            "_pca.Predict",
            _scores,
            ["selectedCols", "vectorCol"],
            applied=["vectorCol"],
            estimator="PCA",
            prepare=_prepared,
            info=PcaModelData,
            doc="Give the scores of principal components, of correlations (CORR, which "
            "standardizes the columns) or covariances (COV, whose scores, as Alink's, are of the "
            "values as they are).",
        )
    )
    operator("MdsBatchOp", scale)
    statistic(
        "MultiCollinearity",
        "_pca.collinearity",
        check_some,
        "Tell how far columns depend on one another: variance inflation factors, tolerances, "
        "eigenvalues of the correlations, condition indices and shares of variances.",
        result=_collinearity,
    )
    build(
        "SomBatchOp",
        SelfOrganized,
        "Train a self-organizing map: neurons on a grid, near to one another where the vectors "
        "that they stand for are.",
    )
