"""k-means whose centres move while the rows of a stream come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from alink._algorithms._models import model_schema
from alink._algorithms._schemas import COUNT, TIMESTAMP
from alink._algorithms._types import VECTOR
from alink._functions import FunctionOptions
from alink._kinds import MapTableFunction
from alink._options import bad_option
from alink._ship import Shipment
from alink._table import Table
from alink.operators._clustering import check_counts
from alink.operators._define import build
from alink.operators._mapping import (
    apply_step,
    environment,
    in_workers,
    result_schema,
    task_shipment,
)
from alink.operators._training import PredictStream

_MODELS = pa.schema(
    [
        (TIMESTAMP, pa.timestamp("us")),
        (COUNT, pa.int64()),
        *((f.name, f.type) for f in model_schema()),
    ]
)


class _Passing(MapTableFunction[..., Any]):
    """A task of the package of algorithms, as a function of a whole table and a model."""

    def __init__(self, name: str, task: str, params: Mapping[str, Any], result: pa.Schema) -> None:
        options = FunctionOptions(env=environment(), timeout=None, timeout_ms_default=0)
        super().__init__(in_workers, result, None, "arrow", options)
        self.name = name
        self.origin = None
        self.parameters = ("batches", "model")
        self._task = task
        self._params = dict(params)

    def shipment(self, same_python: bool) -> Shipment:
        """Give the function as it travels."""
        del same_python
        return task_shipment(self._task, self._params)


class _OnStream(PredictStream):
    """What a model's clusters do with a stream."""

    def _given(self) -> Table:
        if self._model is None:
            raise bad_option(
                self._name,
                f"{self._name} has no model",
                f"give it that of a KMeansTrainBatchOp: {self._name}(model)",
            )
        return self._model._table()

    def _passed(
        self, task: str, params: Mapping[str, Any], rows: Table, result: pa.Schema
    ) -> Table:
        function = _Passing(self._name, task, params, result)
        return rows.map_table(function, tables={"model": self._given()})


class _OnePass(_OnStream):
    def _link(self) -> Table:
        params, rows = self._all(), self._inputs[0]._table()
        check_counts(self._name, params, ["modelOutputInterval"])
        if params["predictionDetailCol"] is None:
            raise bad_option(
                self._name,
                f"{self._name} needs the parameter 'predictionDetailCol'",
                "it is the name of the column of distances",
            )
        outputs = [
            (params["predictionCol"], pa.int64()),
            (params["predictionDetailCol"], pa.float64()),
        ]
        result = result_schema(self._name, rows.schema, outputs, params.pop("reservedCols"))
        params["result"] = result.names
        self._side_outputs = [
            self._passed("_kmeans_streams.one_pass_models", params, rows, _MODELS)
        ]
        return self._passed("_kmeans_streams.one_pass", params, rows, result)


class _Streaming(_OnStream):
    _inputs_max = 2

    def _link(self) -> Table:
        params = self._all()
        check_counts(self._name, params, ["halfLife", "timeInterval"])
        inputs: Sequence[Table] = [item._table() for item in self._inputs]
        moved = self._passed("_kmeans_streams.updated", params, inputs[0], _MODELS)
        self._side_outputs = [moved]
        kinds = {
            "predictionCol": pa.int64(),
            "predictionClusterCol": VECTOR,
            "predictionDistanceCol": pa.float64(),
        }
        outputs = [(params[n], kind) for n, kind in kinds.items() if params[n] is not None]
        reserved = params.pop("reservedCols")
        model = self._given() if len(inputs) == 1 else moved
        task = "_kmeans_streams.Follow"
        return apply_step(inputs[-1], self._name, task, params, outputs, reserved, model)


def declare() -> None:
    """Declare the operators of this module."""
    build(
        "OnePassClusterStreamOp",
        _OnePass,
        "Assign each row of a stream to the nearest cluster of a model of k-means, whose centre it "
        "moves, or where none is within epsilon to a cluster of its own. The side output is the "
        "model after each modelOutputInterval rows, and at the end.",
    )
    build(
        "StreamingKMeansStreamOp",
        _Streaming,
        "Move the centres of a model of k-means by the rows of a stream. Its rows are assigned to "
        "the clusters of the model before, those of a second stream to the moved ones. A stream "
        "that ends is one timeInterval. The side output is the moved model.",
    )
