"""How scores order positive and negative rows: what is read of rows, and metrics of curves.

Between the two the engine groups and sorts the scores (``alink.operators._evaluation``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ._arrays import numpy_of
from ._confusion import class_metrics, loss, losses, rates, read_detail, read_details
from ._metrics import descending, metrics_json, texts
from ._strings import Unreadable


class _Scores:
    """Gives what curves are made of, row by row; NULL where the label or the detail is."""

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        self._label, self._detail = params["labelCol"], params["predictionDetailCol"]
        self._types = types

    def __call__(self, batch: pa.RecordBatch) -> Sequence[pa.Array]:
        """Give the outputs of a batch."""
        details = batch.column(self._detail).to_pylist()
        rows = [
            (None,) * 5 if real is None or text is None else self._row(real, text)
            for real, text in zip(texts(batch.column(self._label)), details, strict=True)
        ]
        columns = zip(*rows, strict=True) if rows else [()] * 5
        return [pa.array(c, kind) for c, kind in zip(columns, self._types, strict=True)]

    def _row(self, real: str, text: str) -> tuple[Any, ...]:
        """Give the outputs of a row, of its label and its detail."""
        raise NotImplementedError


class Scores(_Scores):
    """Gives, of a label and the probabilities of two labels, what curves are made of.

    The outputs are the two labels, the positive one first, as JSON; whether the row is positive;
    the probability of the positive label; its loss; and whether positive is predicted. All are
    NULL where the label or the detail is.
    """

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        super().__init__(params, types)
        self._kind: str = params["labelType"]
        self._positive: str | None = params.get("positiveLabelValueString")
        self._known: dict[tuple[str, ...], tuple[str, str, str]] = {}

    def __call__(self, batch: pa.RecordBatch) -> Sequence[pa.Array]:
        """Give the outputs of a batch, at once where all details are written alike."""
        labels, details = batch.column(self._label), batch.column(self._detail)
        known = pc.and_(labels.is_valid(), details.is_valid())
        alike = read_details(details.filter(known), self._kind)
        columns = None if alike is None else self._columns(texts(labels.filter(known)), *alike)
        if columns is None:
            return super().__call__(batch)
        flags = numpy_of(known)
        at = pa.array(np.cumsum(flags) - 1, mask=~flags)
        return [
            pa.array(column, kind).take(at)
            for column, kind in zip(columns, self._types, strict=True)
        ]

    def _columns(
        self, real: Sequence[Any], names: Sequence[str], probabilities: Any
    ) -> Sequence[Any] | None:
        """Give the outputs of rows that have both; None where a label is none of the names."""
        places = {name: i for i, name in enumerate(names)}
        at = np.array([places.get(label, -1) for label in real], np.int64)
        if (at < 0).any():
            return None
        positive, _, pair = self._pair_of(tuple(names))
        scores = probabilities[:, places[positive]]
        own = probabilities[np.arange(len(at)), at]
        return [pair] * len(at), at == places[positive], scores, losses(own), scores >= 0.5

    def _pair_of(self, names: tuple[str, ...]) -> tuple[str, str, str]:
        if names not in self._known:
            self._known[names] = self._pair(names)
        return self._known[names]

    def _row(self, real: str, text: str) -> tuple[Any, ...]:
        given = read_detail(text, self._kind)
        positive, negative, pair = self._pair_of(tuple(given))
        if real not in given:
            raise Unreadable(
                f"the label {real!r:.40} of {self._label!r} is none of {positive!r:.40} and "
                f"{negative!r:.40}, which {self._detail!r} has"
            )
        score = given[positive]
        return pair, real == positive, score, loss(given[real]), score >= 0.5

    def _pair(self, names: Sequence[str]) -> tuple[str, str, str]:
        if len(names) != 2:
            raise Unreadable(
                f"{self._detail!r} has probabilities of {len(names)} labels where 2 are needed: "
                "EvalMultiClassBatchOp evaluates more"
            )
        pair = descending(names)
        if self._positive is not None:
            if self._positive not in pair:
                raise Unreadable(
                    f"positiveLabelValueString {self._positive!r:.40} is none of the labels "
                    f"{pair[0]!r:.40} and {pair[1]!r:.40}"
                )
            pair.sort(key=lambda label: label != self._positive)
        return pair[0], pair[1], json.dumps(pair, ensure_ascii=False)


class OutlierScores(_Scores):
    """Gives the same of the details of detectors of outliers; instead of two labels the row's."""

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        super().__init__(params, types)
        self._outliers = frozenset(params["outlierValueStrings"])

    def _row(self, real: str, text: str) -> tuple[Any, ...]:
        score, said = _outlier(text)
        return real, real in self._outliers, score, 0.0, said


def _outlier(text: str) -> tuple[float, bool]:
    try:
        given = json.loads(text)
        score, said = float(given["outlier_score"]), str(given["is_outlier"]).lower() == "true"
    except (ValueError, TypeError, KeyError):
        raise Unreadable(
            f"{text!r:.80} is no detail of a detector: it needs outlier_score and is_outlier"
        ) from None
    if not math.isfinite(score):
        raise Unreadable(f"the score of {text!r:.80} is not finite")
    return score, said


class Curves:
    """Gives the metrics, as JSON, of what the engine has made of sorted scores."""

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        del types
        self._outliers: list[str] | None = params.get("outlierValueStrings")

    def __call__(self, batch: pa.RecordBatch) -> Sequence[pa.Array]:
        """Give the metrics of each row."""
        return [pa.array([self._metrics(row) for row in batch.to_pylist()], pa.string())]

    def _metrics(self, row: Mapping[str, Any]) -> str:
        positive, negative = row["positives"], row["negatives"]
        if not positive and not negative:
            raise Unreadable("no row has both a label and a predictionDetail")
        if self._outliers is None:
            if len(row["labels"]) > 1:
                pairs = sorted(", ".join(json.loads(pair)) for pair in row["labels"])
                raise Unreadable(f"the details are of different labels: {'; '.join(pairs)}")
            labels: list[str] = json.loads(row["labels"][0])
        else:
            labels = ["Outlier", "Normal"]
        tp, fp = row["true_positives"], row["false_positives"]
        matrix = np.array([[tp, fp], [positive - tp, negative - fp]], np.int64)
        found = class_metrics(matrix, labels)
        found |= rates(tp, fp, positive - tp, negative - fp)
        found["LogLoss"] = row["loss"] / (positive + negative)
        if self._outliers is not None:
            del found["LogLoss"]
            found["OutlierValueArray"] = self._outliers
            found["LabelArray"] = descending(row["labels"])
        one_class = not positive or not negative
        found["AUC"] = math.nan if one_class else row["area"] / positive / negative
        found |= {"K-S": row["ks"], "PRC": row["prc"], "GINI": 2 * row["lorenz"] - 1}
        return metrics_json(found | _curves(row, positive, negative))


def _curves(row: Mapping[str, Any], positive: int, negative: int) -> dict[str, Any]:
    """Give the points of curves, from above all scores downwards."""
    scores = np.array(row["scores"], np.float64)
    start = 1.0 if scores[0] <= 1 else math.inf
    thresholds = np.concatenate(([start], scores))
    tp = np.array([0, *row["tp"]], np.float64)
    fp = np.array([0, *row["fp"]], np.float64)
    tpr = tp / positive if positive else np.ones(len(tp))
    fpr = fp / negative if negative else np.ones(len(fp))
    share = (tp + fp) / (positive + negative)
    precision = rates(tp, fp, positive - tp, negative - fp)["Precision"]
    precision[0] = precision[1]
    found: dict[str, Any] = {
        "ThresholdArray": thresholds,
        "RocCurve": [fpr.tolist(), tpr.tolist()],
        "PrecisionRecallCurve": [tpr.tolist(), precision.tolist()],
        "LiftChart": [share.tolist(), tp.tolist()],
        "LorenzCurve": [share.tolist(), tpr.tolist()],
    }
    by_threshold = rates(tp, fp, positive - tp, negative - fp)
    return found | {f"{name}Array": values for name, values in by_threshold.items()}
