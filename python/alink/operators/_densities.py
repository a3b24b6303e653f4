"""DBSCAN, Agnes, and the clusterings of each group of rows by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from alink._algorithms._models import model_schema
from alink._diag import quote
from alink._functions import FunctionOptions
from alink._kinds import GroupsFunction
from alink._options import bad_option, find_column
from alink._ship import Shipment
from alink._table import Table
from alink.operators._base import BatchOperator
from alink.operators._clustering import check_counts, check_numbers, predicted
from alink.operators._define import build, one_of, operator
from alink.operators._mapping import (
    apply_step,
    environment,
    in_workers,
    task_shipment,
    with_columns_found,
)
from alink.operators._model_details import AgnesModelSummary, DbscanModelInfo
from alink.operators._model_info import ModelInfo, ReadModel, WithModelInfo
from alink.operators._training import (
    PredictBatch,
    PredictStream,
    Trained,
    TrainedModel,
    Training,
    TrainStage,
)
from alink.operators._vectors import check_vectors

Params = Mapping[str, Any]
_DISTANCES = ("EUCLIDEAN", "COSINE", "CITYBLOCK")
_LARGEST = 1.7976931348623157e308

_DBSCAN = (
    "DBSCAN: a core has minPoints rows within epsilon, itself among them; cores that near are in "
    "one cluster, other rows in that of the nearest core, or noise (-2147483648)."
)


def _checked(name: str, params: Params, schema: pa.Schema) -> dict[str, Any]:
    """Give the parameters of a clustering of vectors by their distances, checked."""
    given = with_columns_found(name, schema, params, ["vectorCol", "idCol"])
    check_vectors(name, schema, [given["vectorCol"]])
    given["distanceType"] = one_of(name, "distanceType", given["distanceType"], _DISTANCES)
    if "epsilon" in given:
        _check_density(name, given)
    return given


def _check_density(name: str, params: Params) -> None:
    check_counts(name, params, ["minPoints"])
    if not params["epsilon"] >= 0:
        raise bad_option(
            name, f"{name}: 'epsilon' cannot be {params['epsilon']}", "it is 0 or more"
        )


def _dbscan_model(name: str, params: Params, table: Table) -> Table:
    """Make the table of the cores."""
    columns = [params["vectorCol"]]
    result = model_schema()
    # All rows are in one worker: any of them may be near any other.
    return table._train(Training(name, "_dbscan.train", params, columns, result, alone=True))


def _link_dbscan(self: BatchOperator) -> Table:
    name, table = self._name, self._inputs[0]._table()
    given = _checked(name, self._all(), table.schema)
    model = _dbscan_model(name, given, table)
    self._side_outputs = [model]
    outputs = [("type", pa.string()), (given["predictionCol"], pa.int64())]
    settings = {"predictionCol": given["predictionCol"]}
    rows = apply_step(table, name, "_dbscan.Classify", settings, outputs, [given["idCol"]], model)
    return rows.select(given["idCol"], *(column for column, _ in outputs))


class _Dbscan(TrainStage):
    """DBSCAN as a stage: the model predicts the cluster of the nearest core."""

    def _fitted(self, table: Table) -> TrainedModel:
        given = _checked(self._name, self._all(), table.schema)
        model = _dbscan_model(self._name, given, table)
        made = self._model_stage()._with(model.cache())
        self._print_trained(made)
        return made


def _link_agnes(self: BatchOperator) -> Table:
    name, table = self._name, self._inputs[0]._table()
    given = _checked(name, self._all(), table.schema)
    linkages = ("MIN", "MAX", "MEAN", "AVERAGE")
    given["linkage"] = one_of(name, "linkage", given["linkage"], linkages)
    if given["k"] <= 1 and given["distanceThreshold"] == _LARGEST:
        raise bad_option(
            name,
            f"{name}: 'k' is {given['k']} and 'distanceThreshold' is not set",
            "all rows would be one cluster: set k above 1, or distanceThreshold",
        )
    ids = given["idCol"]
    kind = table.schema.field(ids).type
    result = pa.schema(
        [(ids, kind), ("cluster", pa.int64()), ("iteration", pa.int64()), ("parent", kind)]
    )
    columns = list(dict.fromkeys([ids, given["vectorCol"]]))
    found = table._train(Training(name, "_agnes.train", given, columns, result, alone=True))
    merges = {"NodeId": ids, "MergeIteration": "iteration", "ParentId": "parent"}
    self._side_outputs = [_renamed(found, merges)]
    return _renamed(found, {ids: ids, given["predictionCol"]: "cluster"})


def _renamed(table: Table, columns: Mapping[str, str]) -> Table:
    """Give columns under other names."""
    return table.select(
        {name: f'"{column.replace(chr(34), chr(34) * 2)}"' for name, column in columns.items()}
    )


# --- groups ---


class _OfGroups(GroupsFunction[..., Any]):
    """A task of the package of algorithms, as a function of a group."""

    def __init__(
        self, name: str, task: str, params: Params, columns: Sequence[str], result: Any
    ) -> None:
        options = FunctionOptions(env=environment(), timeout=None, timeout_ms_default=0)
        super().__init__(in_workers, result, columns, "arrow", options)
        self.name = name
        self.origin = None
        self.parameters = ("group",)
        self._task = task
        self._params = dict(params)

    def shipment(self, same_python: bool) -> Shipment:
        """Give the function as it travels."""
        del same_python
        return task_shipment(self._task, self._params)


def _of_groups(
    name: str, table: Table, task: str, params: Params, columns: Sequence[str], result: pa.Schema
) -> Table:
    names = list(dict.fromkeys([*params["groupCols"], *columns]))
    function = _OfGroups(name, task, params, names, result)
    return table.group_by(*params["groupCols"]).map_groups(function)


def _grouped(
    name: str, params: Params, schema: pa.Schema, features: Sequence[str]
) -> dict[str, Any]:
    """Give the parameters of a clustering of groups, checked; `features` are column names."""
    columns = ["groupCols", "idCol", "reservedCols"]
    given = with_columns_found(name, schema, params, columns)
    found = [find_column(name, schema, column) for column in features]
    if not found or not given["groupCols"]:
        what = "featureCols" if given["groupCols"] else "groupCols"
        raise bad_option(name, f"{name}: {quote(what)} names no column", "name one or more")
    check_numbers(name, schema, found)
    for role, column in [
        ("idCol", given.get("idCol")),
        *(("groupCols", c) for c in given["groupCols"]),
    ]:
        if column in found or (role == "idCol" and column in given["groupCols"]):
            raise bad_option(
                name,
                f"{name}: column {quote(str(column))} of {quote(role)} is a feature or key too",
                "a column has one role",
            )
    check_counts(name, given)
    given["featureCols"] = found
    return given


def group_k_means(name: str, params: Params, inputs: Sequence[Table]) -> Table:
    """Cluster each group by k-means; clusters are numbered from 0 within a group."""
    table = inputs[0]
    schema = table.schema
    given = _grouped(name, params, schema, params["featureCols"])
    distances = ("EUCLIDEAN", "COSINE", "HAVERSINE")
    given["distanceType"] = one_of(name, "distanceType", given["distanceType"], distances)
    _check_places(name, given)
    # GroupEm is Alink's k-means of groups too, but gives texts, and the features.
    given["texts"] = given["features"] = name.startswith("GroupEm")
    ids = [*given["groupCols"], given["idCol"]]
    fields = [(c, pa.string() if given["texts"] else schema.field(c).type) for c in ids]
    fields.append((given["predictionCol"], pa.int64()))
    if given["features"]:
        fields += [(column, pa.float64()) for column in given["featureCols"]]
    columns = [given["idCol"], *given["featureCols"]]
    result = pa.schema(fields)
    return _of_groups(name, table, "_grouped.k_means", given, columns, result)


def _check_places(name: str, params: Params) -> None:
    if params["distanceType"] == "HAVERSINE" and len(params["featureCols"]) != 2:
        raise bad_option(
            name,
            f"{name}: 'featureCols' names {len(params['featureCols'])} columns",
            "with HAVERSINE they are two: latitude and longitude, in degrees",
        )


#: What a column of a result is made of, its name and its type.
_Column = tuple[str, str, pa.DataType]


def _dbscan_of_groups(
    task: str, result: Callable[[Params, pa.Schema], list[_Column]], *, places: bool, doc: str
) -> Callable[[str, Params, Sequence[Table]], Table]:
    def make(name: str, params: Params, inputs: Sequence[Table]) -> Table:
        table = inputs[0]
        if places:
            features = [params["latitudeCol"], params["longitudeCol"]]
            params = {**params, "distanceType": "HAVERSINE"}
        else:
            features = params["featureCols"]
        given = _grouped(
            name, {**params, "groupCols": params["groupCols"] or []}, table.schema, features
        )
        given["distanceType"] = one_of(
            name, "distanceType", given["distanceType"], (*_DISTANCES, "HAVERSINE")
        )
        _check_places(name, given)
        _check_density(name, given)
        check_counts(name, given, ["groupMaxSamples"])
        made = result(given, table.schema)
        given["result"] = [(kind, column) for kind, column, _ in made]
        given["texts"] = any(kind == "key" and t == pa.string() for kind, _, t in made)
        fields = pa.schema([(column, kind) for _, column, kind in made])
        if len(set(fields.names)) < len(fields):
            twice = next(n for n in fields.names if fields.names.count(n) > 1)
            raise bad_option(
                name, f"{name}: the result would have two columns {quote(twice)}", "rename one"
            )
        read = [*features_of(given), *(c for kind, c, _ in made if kind in ("key", "kept"))]
        return _of_groups(name, table, task, given, read, fields)

    make.__doc__ = doc
    return make


def features_of(params: Params) -> list[str]:
    """Give the columns of the features."""
    return list(params["featureCols"])


def _rows(params: Params, _schema: pa.Schema) -> list[_Column]:
    keys: list[_Column] = [("key", c, pa.string()) for c in [*params["groupCols"], params["idCol"]]]
    keys += [("type", "type", pa.string()), ("cluster", params["predictionCol"], pa.int64())]
    if params["isOutputVector"]:
        return [*keys, ("vector", "features", pa.string())]
    return [*keys, *(("feature", c, pa.float64()) for c in params["featureCols"])]


def _rows_of_places(params: Params, schema: pa.Schema) -> list[_Column]:
    kept = params["reservedCols"] or []
    return [
        ("type", "type", pa.string()),
        ("cluster", params["predictionCol"], pa.int64()),
        *(("kept", column, schema.field(column).type) for column in kept),
    ]


def _model(params: Params, schema: pa.Schema) -> list[_Column]:
    return [
        *(("key", c, schema.field(c).type) for c in params["groupCols"]),
        ("cluster", params["predictionCol"], pa.int64()),
        ("count", "count", pa.int64()),
        *(("feature", c, pa.float64()) for c in params["featureCols"]),
    ]


def _model_of_places(params: Params, schema: pa.Schema) -> list[_Column]:
    return [
        ("cluster", "type", pa.int64()),
        ("count", "count", pa.int64()),
        *(("feature", c, pa.float64()) for c in params["featureCols"]),
        *(("key", c, schema.field(c).type) for c in params["groupCols"]),
    ]


def _with_info(
    name: str,
    info: type[ModelInfo],
    between: Sequence[str],
    doc: str,
    link: Callable[[BatchOperator], Table],
) -> None:
    """Declare a clustering whose rows, ids, columns `between` and clusters, say what it found."""
    clustering = f"{name}BatchOp"

    def is_model(schema: pa.Schema) -> bool:
        return schema.names[1:-1] == between and schema.types[-1] == pa.int64()

    build(clustering, WithModelInfo, doc, _link=link, _info=info, _train_info=info)
    build(
        f"{name}ModelInfoBatchOp",
        ReadModel,
        f"Say what the rows of {clustering} say of its clusters.",
        _info=info,
        _train_info=info,
        _is_model=staticmethod(is_model),
    )


def declare() -> None:
    """Declare the operators of this module."""
    _with_info("Dbscan", DbscanModelInfo, ["type"], _DBSCAN, _link_dbscan)
    applied = Trained(
        "Dbscan",
        "",
        "_dbscan.Predict",
        predicted(predictionDetailCol=pa.float64()),
        ["vectorCol"],
        doc=_DBSCAN,
    )
    build("DbscanPredictBatchOp", PredictBatch, _DBSCAN, _trained=applied)
    build("DbscanPredictStreamOp", PredictStream, _DBSCAN, _trained=applied)
    model = build("DbscanModel", TrainedModel, _DBSCAN, _trained=applied)
    build("Dbscan", _Dbscan, _DBSCAN, _trained=applied, _model_class=model)
    _with_info(
        "Agnes",
        AgnesModelSummary,
        [],
        "Agglomerative clustering: the two nearest clusters become one until k are left, or none "
        "are within distanceThreshold. The first side output tells how they were merged.",
        _link_agnes,
    )
    operator("GroupKMeansBatchOp", group_k_means)
    operator("GroupEmBatchOp", group_k_means)
    for name, task, result, places, doc in (
        ("GroupDbscanBatchOp", "dbscan", _rows, False, "Cluster each group by DBSCAN."),
        (
            "GroupDbscanModelBatchOp",
            "dbscan_model",
            _model,
            False,
            "Give the clusters that DBSCAN finds in each group: their counts and means.",
        ),
        (
            "GroupGeoDbscanBatchOp",
            "dbscan",
            _rows_of_places,
            True,
            "Cluster the places of each group by DBSCAN, with epsilon in kilometres; the result "
            "has the types, the clusters and reservedCols.",
        ),
        (
            "GroupGeoDbscanModelBatchOp",
            "dbscan_model",
            _model_of_places,
            True,
            "Give the clusters of places that DBSCAN finds in each group: their counts and means.",
        ),
    ):
        operator(name, _dbscan_of_groups(f"_grouped.{task}", result, places=places, doc=doc))
