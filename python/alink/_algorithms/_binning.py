"""Binning: the bins of columns with how many rows and how many positive ones each has.

A bin's weight of evidence is ``log(((p + 0.5) / P) / ((n + 0.5) / N))`` with its positive rows p,
the others n and their totals P and N; its information value is ``(p/P - n/N) * woe``
[I. J. Good, "Probability and the Weighing of Evidence", 1950; N. Siddiqi, "Credit Risk
Scorecards", 2006].
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._arrays import numpy_of
from ._discretizers import Intervals, equal_intervals, quantile_intervals
from ._features import Encoding
from ._formats import texts_of
from ._group import Group
from ._schemas import BORDERS
from ._strings import Unreadable
from ._tokens import count_texts
from ._types import is_number, type_name

Params = Mapping[str, Any]
Types = Sequence[pa.DataType]
_Counts = npt.NDArray[np.int64]

#: The columns of a model: each row describes the bins of a column.
_METHODS = {"QUANTILE": quantile_intervals, "BUCKET": equal_intervals}


@dataclass
class Feature:
    """The bins of a column: intervals of numbers, or lists of texts.

    Numbers of bins count those that have values; NULL (and NaN) comes behind them, and of texts
    those that are in no bin, "else", behind NULL.
    """

    name: str
    kind: str
    method: str = "DISCRETE"
    intervals: Intervals | None = None
    values: list[list[str]] = field(default_factory=list)

    @property
    def normal(self) -> int:
        """How many bins there are besides those of NULL and of else."""
        return len(self.values) if self.intervals is None else self.intervals.count

    @property
    def size(self) -> int:
        """How many bins there are with those of NULL and of else."""
        return self.normal + (2 if self.intervals is None else 1)

    def place(self, column: pa.Array) -> _Counts:
        """Give the bin of each value."""
        if (self.intervals is not None) != is_number(column.type):
            raise Unreadable(
                f"column {self.name!r} is {type_name(column.type)}, but the model has it as "
                f"{self.kind}"
            )
        if self.intervals is not None:
            return self.intervals.place(column)
        known = {text: i for i, texts in enumerate(self.values) for text in texts}
        coded = column.dictionary_encode()
        other = self.normal + 1
        places = [known.get(text, other) for text in texts_of(coded.dictionary) if text is not None]
        codes = numpy_of(coded.indices.fill_null(len(places)))
        return np.array([*places, self.normal], np.int64)[codes]


# --- training ---


def train(params: Params) -> Any:
    """Make the training: the bins of each column, and what is counted in them."""

    def run(rows: Group) -> pa.Table:
        features = _described(params) if params["userBins"] else _found(params, rows)
        order = sorted(features, key=lambda feature: feature.intervals is None)
        counts = _counted(rows, features, params)
        texts = [
            json.dumps([_summary(feature, *counts[feature.name])], ensure_ascii=False)
            for feature in order
        ]
        return pa.table([pa.array(texts, pa.string())], schema=BORDERS)

    return run


def _described(params: Params) -> list[Feature]:
    """Give the features that the user has described."""
    kinds = dict(zip(params["selectedCols"], params["types"], strict=True))
    found = [read_feature(item) for item in params["userBins"]]
    return [feature for feature in found if feature.name in kinds]


def _found(params: Params, rows: Group) -> list[Feature]:
    """Find the bins of columns: those of numbers by their values, of others by their counts."""
    kinds = dict(zip(params["selectedCols"], params["types"], strict=True))
    numeric = list(params["buckets"])
    method = params["binningMethod"]
    cuts = _METHODS[method](rows, numeric, [*params["buckets"].values()], params["leftOpen"])
    features = [
        Feature(name, kinds[name], method, intervals)
        for name, intervals in zip(numeric, cuts, strict=True)
    ]
    for name, least in params["thresholds"].items():
        counts = count_texts(rows, name)
        values = sorted(
            (text for text, count in counts.items() if count >= least),
            key=lambda text: (-counts[text], text),
        )
        features.append(Feature(name, kinds[name], values=[[text] for text in values]))
    return features


def _counted(
    rows: Group, features: Sequence[Feature], params: Params
) -> dict[str, tuple[_Counts, _Counts | None]]:
    """Count the rows of each bin, and the positive ones where there is a label.

    A row whose label is NULL is not counted.
    """
    label = params["labelCol"]
    counts = {feature.name: np.zeros((feature.size, 2), np.int64) for feature in features}
    for batch, positive in _labelled(rows, label, params["positiveLabelValueString"]):
        for feature in features:
            at = feature.place(batch.column(feature.name)) * 2 + positive
            found = np.bincount(at, minlength=feature.size * 2)
            counts[feature.name] += found.reshape(-1, 2)
    result: dict[str, tuple[_Counts, _Counts | None]] = {}
    for name, own in counts.items():
        both = rows.sum(own)[0].astype(np.int64)
        result[name] = both.sum(axis=1), None if label is None else both[:, 1]
    return result


def _labelled(
    rows: Group, label: str | None, positive: str | None
) -> Iterator[tuple[pa.RecordBatch, _Counts]]:
    for batch in rows:
        if label is None:
            yield batch, np.zeros(batch.num_rows, np.int64)
            continue
        known = batch.filter(batch.column(label).is_valid())
        coded = known.column(label).dictionary_encode()
        is_positive = np.array([text == positive for text in texts_of(coded.dictionary)], np.int64)
        codes = numpy_of(coded.indices)
        yield known, is_positive[codes] if len(codes) else np.empty(0, np.int64)


def _summary(feature: Feature, total: _Counts, positive: _Counts | None) -> dict[str, Any]:
    """Give the row of a feature in a model, as Alink writes it."""
    bins = [_bin(i, total, positive) for i in range(feature.size)]
    for i, texts in enumerate(feature.values):
        bins[i] = {"values": texts, **bins[i]}
    named: dict[str, Any] = {"NORM": bins[: feature.normal], "NULL": bins[feature.normal]}
    result: dict[str, Any] = {
        "binDivideType": feature.method,
        "featureName": feature.name,
        "bin": named,
        "featureType": feature.kind,
    }
    if feature.intervals is None:
        named["ELSE"] = bins[-1]
    else:
        result["splitsArray"] = feature.intervals.points.tolist()
        result["isLeftOpen"] = feature.intervals.left_open
    values = [item["iv"] for item in bins if "iv" in item]
    if values:
        result["iv"] = _rounded(math.fsum(values), 3)
    return {**result, "binCount": feature.normal}


def _bin(index: int, totals: _Counts, positives: _Counts | None) -> dict[str, Any]:
    total, all_rows = int(totals[index]), int(totals.sum())
    result: dict[str, Any] = {"index": index, "total": total}
    result["totalRate"] = _rounded(total / all_rows, 4) if all_rows else 0.0
    if positives is None:
        return result
    positive, all_positive = int(positives[index]), int(positives.sum())
    negative, all_negative = total - positive, all_rows - all_positive
    result |= {"positive": positive, "negative": negative}
    if total:
        result["positivePercentage"] = _rounded(positive / total, 4)
    if all_positive and all_negative:
        woe = math.log((positive + 0.5) / all_positive / ((negative + 0.5) / all_negative))
        value = (positive / all_positive - negative / all_negative) * woe
        result |= {"woe": _rounded(woe, 3), "iv": _rounded(value, 3)}
    return result


def _rounded(value: float, digits: int) -> float:
    return float(Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)) + 0.0


# --- applying ---


def read_feature(item: Mapping[str, Any]) -> Feature:
    """Read the row of a feature in a model, or what a user describes in the same form.

    Raises
    ------
    Unreadable
        If it lacks something.
    """
    try:
        name, kind = item["featureName"], item.get("featureType", "")
        if item.get("splitsArray") is not None:
            intervals = Intervals.of(item["splitsArray"], item.get("isLeftOpen", True))
            return Feature(name, kind or "DOUBLE", item.get("binDivideType", "QUANTILE"), intervals)
        bins = sorted(item["bin"]["NORM"], key=lambda bin_: bin_["index"])
        return Feature(name, kind or "STRING", values=[list(bin_["values"]) for bin_ in bins])
    except (KeyError, TypeError, AttributeError) as error:
        raise Unreadable(f"the bins of a column lack {error}: {item!r:.80}") from None


def rows_of(texts: Iterable[str], names: Sequence[str]) -> list[Mapping[str, Any]]:
    """Give the rows of some columns of a model.

    Raises
    ------
    Unreadable
        If the model has not one of them.
    """
    items: dict[str, Any] = {}
    for text in texts:
        for item in json.loads(text):
            items[item["featureName"].lower()] = item
    for name in names:
        if name.lower() not in items:
            raise Unreadable(f"the model has no column {name!r}: it was not trained on it")
    return [items[name.lower()] for name in names]


def evidence_of(
    feature: Feature, item: Mapping[str, Any], default: float | None
) -> npt.NDArray[np.float64]:
    """Give the weight of evidence of each bin; of one that has none the default, or NaN."""
    evidence = np.full(feature.size, math.nan if default is None else default)
    named = item["bin"]
    for bin_ in [*named["NORM"], named.get("NULL"), named.get("ELSE")]:
        if bin_ and bin_.get("woe") is not None:
            evidence[bin_["index"]] = bin_["woe"]
    return evidence


def weigh(name: str, place: _Counts, evidence: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Give the weights of evidence of values by their bins."""
    values = evidence[place]
    if np.isnan(values).any():
        raise Unreadable(
            f"a bin of column {name!r} has no weight of evidence: train with labelCol, or "
            "set defaultWoe"
        )
    return values


class Predict:
    """Gives the bins of values: their numbers, vectors with a 1 there, or their evidence."""

    def __init__(self, params: Params, types: Types) -> None:
        self._names: Sequence[str] = params["selectedCols"]
        self._params = params
        self._types = types
        self._features: list[Feature] = []
        self._evidence: list[npt.NDArray[np.float64]] = []

    def load(self, table: pa.Table) -> None:
        """Take the model."""
        if table.schema.names != BORDERS.names:
            raise Unreadable(
                f"a table of the columns {', '.join(table.schema.names)} is no model of a binning"
            )
        chosen = rows_of(table.column(0).to_pylist(), self._names)
        self._features = [read_feature(item) for item in chosen]
        default = self._params.get("defaultWoe")
        self._evidence = [
            evidence_of(feature, item, default)
            for feature, item in zip(self._features, chosen, strict=True)
        ]

    def __call__(self, batch: pa.RecordBatch) -> Sequence[pa.Array]:
        """Give the columns of bins."""
        places = [
            feature.place(batch.column(name))
            for name, feature in zip(self._names, self._features, strict=True)
        ]
        if self._params["encode"].upper() == "WOE":
            return [
                pa.array(weigh(name, place, evidence), kind)
                for name, place, evidence, kind in zip(
                    self._names, places, self._evidence, self._types, strict=True
                )
            ]
        encoding = Encoding(self._params, [feature.size for feature in self._features], True)
        if encoding.invalid != "KEEP":
            places = [
                self._null_last(feature, place, encoding.refuses)
                for feature, place in zip(self._features, places, strict=True)
            ]
        return encoding(places, [feature.normal - 1 for feature in self._features], self._types)

    @staticmethod
    def _null_last(feature: Feature, place: _Counts, refuse: bool) -> _Counts:
        """Put the bin of NULL behind that of else, as where vectors have no place for NULL."""
        missing = place == feature.normal
        if refuse and missing.any():
            raise Unreadable(f"column {feature.name!r} has a value in no bin: NULL or NaN")
        place = place - (place > feature.normal)
        return np.where(missing, feature.size - 1, place)
