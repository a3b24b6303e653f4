"""One against the rest: a classifier of two labels for each label, of which the surest decides.

Rifkin and Klautau, In defense of one-vs-all classification, 2004. The model has, beside the
columns of the classifiers' models, ``class_id`` with the number of the label that their rows are
of, and ``class_value``, that label. A row of ``class_id`` -1 says, in ``model_info``, what the
classifiers are: the worker's task and its parameters.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ._arrays import numpy_of
from ._details import details
from ._models import BadModel
from ._schemas import CLASS_ID, CLASS_VALUE, OWN

_DETAIL = "detail"
_CHANCE = rf'"{OWN}":"?(?P<chance>[^",}}]*)'


class Predict:
    """Applies the classifiers: gives the label of the surest, and if asked for all shares."""

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        self._types = types
        self._labels: list[Any] = []
        self._classifiers: list[Any] = []
        del params  # the model has those of its classifiers

    def load(self, table: pa.Table) -> None:
        """Take the model."""
        from ._chain import _task  # which finds this module by its name

        if CLASS_ID not in table.column_names or CLASS_VALUE not in table.column_names:
            raise BadModel("the model is not one of OneVsRest")
        number = table.column(CLASS_ID)
        told = (
            table.filter(pc.equal(number, pa.scalar(-1, number.type)))
            .column("model_info")
            .to_pylist()
        )
        if len(told) != 1:
            raise BadModel("the model of OneVsRest does not say what its classifiers are")
        meta = json.loads(told[0])
        own = table.drop_columns([CLASS_ID, CLASS_VALUE])
        kinds = [pa.int64(), pa.string()]
        for at in range(meta["numClass"]):
            chosen = pc.equal(number, pa.scalar(at, number.type))
            rows = own.filter(chosen)
            if rows.num_rows == 0:
                raise BadModel(f"the model of OneVsRest lacks the classifier of class {at}")
            classifier = _task(meta["task"])(
                {**meta["params"], "predictionCol": "own", "predictionDetailCol": _DETAIL}, kinds
            )
            classifier.load(rows)
            self._classifiers.append(classifier)
            self._labels.append(table.column(CLASS_VALUE).filter(chosen)[0].as_py())

    def __call__(self, batch: pa.RecordBatch) -> Sequence[pa.Array]:
        """Give the outputs; NULL where a classifier gives NULL."""
        chances = [_chances(classifier(batch)[1]) for classifier in self._classifiers]
        missing = np.asarray(np.isnan(chances).any(axis=0), np.bool_)
        sums = np.sum(chances, axis=0)
        even = 1.0 / max(len(chances), 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = [np.where(sums > 0, chance / sums, even) for chance in chances]
        labels = pa.array(self._labels, self._types[0])
        surest = np.argmax(np.nan_to_num(chances), axis=0)
        columns = [labels.take(pa.array(surest, mask=missing))]
        if len(self._types) > 1:
            columns.append(details(self._labels, shares, missing, quoted=False))
        return columns


def _chances(texts: pa.Array) -> npt.NDArray[np.float64]:
    """Read from details how sure a classifier is that rows are of its class; NaN if it is not."""
    found = pc.extract_regex(texts, _CHANCE)
    values = pc.cast(pc.struct_field(found, "chance"), pa.float64())
    return numpy_of(values)
