"""Exclusive feature bundling: an estimator whose columns the rows decide on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from alink._algorithms._models import model_schema, read_model
from alink._algorithms._types import parse_schema
from alink._options import bad_option
from alink._table import Table
from alink.operators._define import BUILT, build
from alink.operators._encoder_info import ExclusiveFeatureBundleModelInfo
from alink.operators._training import Columns, Trained, TrainedModel, TrainStage, trained

_NAME = "ExclusiveFeatureBundle"
_DOC = (
    "Make columns of sparse vectors: features that are never there together share one, which "
    "tells, as a text, which of them is there; one with other values than 1 has a column of "
    "numbers [Ke et al., LightGBM, NIPS 2017, without conflicts]. What is not there is NULL. The "
    "columns are efb_0, efb_1 and so on; fit computes the model, since they hang on the rows."
)


class ExclusiveFeatureBundle(TrainStage):
    """Finds bundles, at once: the model's columns name those that it makes."""

    def _fitted(self, table: Table) -> TrainedModel:
        rows = self._trained.fit(self._name, self._all(), [table]).to_arrow()
        about = json.loads(read_model(rows).get("bundles_json"))
        for field in parse_schema(about["schemaStr"]):
            rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
        made = self._model_stage()._with_rows(rows)
        self._print_trained(made)
        return made


def _columns(_params: Mapping[str, Any], _rows: pa.Schema, model: pa.Schema) -> Columns:
    first = model_schema().names
    if model.names[: len(first)] != first or len(model) == len(first):
        raise bad_option(
            _NAME,
            f"a table of the columns {', '.join(model.names)[:80]} is no model of {_NAME}",
            f"{_NAME}(…).fit(rows).getModelData() gives one",
        )
    return [(field.name, field.type) for field in list(model)[len(first) :]]


def declare() -> None:
    """Declare the operators of this module."""
    definition = Trained(
        _NAME,
        "_bundles.train",
        "_bundles.Predict",
        _columns,
        ["sparseVectorCol"],
        applied=["sparseVectorCol"],
        info=ExclusiveFeatureBundleModelInfo,
        doc=_DOC,
    )
    trained(definition)
    model = BUILT[f"{_NAME}Model"]
    build(_NAME, ExclusiveFeatureBundle, _DOC, _trained=definition, _model_class=model)
