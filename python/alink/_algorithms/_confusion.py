"""How predicted labels agree with the real ones: confusion matrices and what follows from them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ._arrays import numpy_of, valid_rows
from ._group import Group
from ._metrics import descending, label_text, metrics_row, texts
from ._strings import Unreadable

Array = npt.NDArray[np.float64]

LOSS_EPSILON = 1e-15  # a probability of 0 counts as this one
AVERAGES = ("Weighted", "Macro", "Micro")
_SUM_ERROR_MAX = 0.01  # of the probabilities of a row


def rates(tp: Any, fp: Any, fn: Any, tn: Any) -> dict[str, Array]:
    """Give the rates of counts: true and false positives, false and true negatives.

    A rate without cases is 0, but a precision is 1.
    """
    tp, fp, fn, tn = (np.asarray(part, np.float64) for part in (tp, fp, fn, tn))
    total = tp + fp + fn + tn
    agreed = _ratio(tp + tn, total)
    chance = _ratio((tp + fn) * (tp + fp) + (tn + fp) * (tn + fn), total * total)
    recall, specificity = _ratio(tp, tp + fn), _ratio(tn, fp + tn)
    return {
        "TrueNegativeRate": specificity,
        "TruePositiveRate": recall,
        "FalseNegativeRate": _ratio(fn, tp + fn),
        "FalsePositiveRate": _ratio(fp, fp + tn),
        "Precision": _ratio(tp, tp + fp, 1.0),
        "Specificity": specificity,
        "Sensitivity": recall,
        "Recall": recall,
        "F1": _ratio(2 * tp, 2 * tp + fp + fn),
        "Accuracy": agreed,
        "Kappa": _ratio(agreed - chance, 1 - chance, 1.0),
    }


def _ratio(value: Array, divisor: Array, other: float = 0.0) -> Array:
    safe = np.where(divisor == 0, 1.0, divisor)
    return np.where(divisor == 0, other, value / safe).astype(np.float64, copy=False)


def class_metrics(matrix: npt.NDArray[np.int64], labels: Sequence[str]) -> dict[str, Any]:
    """Give the metrics of a confusion matrix: rows are predicted labels, columns real ones.

    An average of labels is weighted by how often each is real, or macro: all alike. A micro
    average is that of the labels' counts, added up.
    """
    total = int(matrix.sum())
    real, predicted, right = matrix.sum(axis=0), matrix.sum(axis=1), np.diag(matrix)
    tp, fp, fn = right, predicted - right, real - right
    tn = total - tp - fp - fn
    share = real / total
    each = rates(tp, fp, fn, tn)
    together = rates(tp.sum(), fp.sum(), fn.sum(), tn.sum())
    agreed = float(right.sum()) / total
    chance = float(real.astype(np.float64) @ predicted) / total / total
    found: dict[str, Any] = {
        "LabelArray": list(labels),
        "ConfusionMatrix": matrix,
        "TotalSamples": total,
        "ActualLabelFrequency": real,
        "ActualLabelProportion": share,
        "PredictLabelFrequency": predicted,
        "PredictLabelProportion": predicted / total,
        "Accuracy": agreed,
        "Kappa": (agreed - chance) / (1 - chance) if chance < 1 else 1.0,
    }
    for name, values in each.items():
        averages = float(values @ share), float(values.mean()), float(together[name])
        found |= {f"{w}{name}": a for w, a in zip(AVERAGES, averages, strict=True)}
        found[f"{name}Array"] = [*values.tolist(), *averages]
    return found


def read_detail(text: str, kind: str) -> dict[str, float]:
    """Read the probabilities of labels from JSON, ``{"a":"0.9","b":"0.1"}``.

    Raises
    ------
    Unreadable
        If the text is none, or has something else than probabilities.
    """
    try:
        given = json.loads(text)
        found = {label_text(name, kind): float(value) for name, value in given.items()}
    except (ValueError, AttributeError, TypeError):
        raise Unreadable(f"{text!r:.80} gives no probabilities of labels as JSON") from None
    total = math.fsum(found.values())
    # NaN is in no range.
    if not (abs(total - 1) <= _SUM_ERROR_MAX and min(found.values(), default=-1.0) >= 0):
        raise Unreadable(f"the probabilities of {text!r:.80} do not add up to 1")
    return found


_PROBABILITY = re.compile(r'("(?:[^"\\]|\\.)*")\s*:\s*("?)[^",}\s]+\2')


def read_details(column: pa.Array, kind: str) -> tuple[list[str], Array] | None:
    """Read what `read_detail` does of a whole column without NULL, if all are written alike.

    Returns
    -------
    labels : list of str
    probabilities : array, shape (rows, labels)
        Or None, where a text has other labels than the first one, or is no such text: then who
        reads them one by one comes to it.
    """
    if not len(column):
        return None
    parts = _PROBABILITY.findall(column[0].as_py())
    groups = (
        rf'\s*{re.escape(name)}\s*:\s*{mark}(?P<p{i}>[^",}}\s]+){mark}\s*'
        for i, (name, mark) in enumerate(parts)
    )
    try:
        labels = [label_text(json.loads(name), kind) for name, _ in parts]
        found = pc.extract_regex(column, r"^\s*\{" + ",".join(groups) + r"\}\s*$")
        if not labels or found.null_count or len(set(labels)) < len(labels):
            return None
        columns = [numpy_of(field.cast(pa.float64())) for field in found.flatten()]
    except (ValueError, pa.ArrowInvalid):
        return None
    probabilities = np.column_stack(columns)
    apart = np.abs(probabilities.sum(axis=1) - 1)
    # NaN is in no range.
    if not ((apart <= _SUM_ERROR_MAX) & (probabilities >= 0).all(axis=1)).all():
        return None
    return labels, probabilities


def loss(probability: float) -> float:
    """Give the logarithmic loss of a real label's probability."""
    return -math.log(min(max(probability, LOSS_EPSILON), 1 - LOSS_EPSILON))


def losses(probabilities: Array) -> Array:
    """Give the logarithmic losses of many."""
    return -np.log(np.clip(probabilities, LOSS_EPSILON, 1 - LOSS_EPSILON))


class _Counts:
    """How often labels are predicted as what, and the sum of losses."""

    def __init__(self) -> None:
        self.pairs: dict[tuple[str, str], int] = {}
        self.labels: dict[str, None] = {}
        self.loss = 0.0

    def add(self, real: str, predicted: str, number: int = 1) -> None:
        self.pairs[predicted, real] = self.pairs.get((predicted, real), 0) + number

    def together(self, group: Group) -> None:
        """Take in what the other workers of a group have."""
        mine = [[[*pair, n] for pair, n in self.pairs.items()], list(self.labels), self.loss]
        pairs: dict[tuple[str, str], int] = {}
        labels: dict[str, None] = {}
        lost: list[float] = []
        for part in group.gather(json.dumps(mine).encode()):
            counts, names, own = json.loads(part)
            for predicted, real, number in counts:
                pairs[predicted, real] = pairs.get((predicted, real), 0) + number
            labels |= dict.fromkeys(names)
            lost.append(own)
        self.pairs, self.labels, self.loss = pairs, labels, math.fsum(lost)


def multi_class(params: Mapping[str, Any]) -> Any:
    """Make the evaluation of a classifier: of details, or of predictions where there are none.

    Of a detail the most likely label is predicted; of several the least. Rows in which the label
    or what is predicted is NULL are left out.
    """
    label, detail, prediction = (
        params.get(name) for name in ("labelCol", "predictionDetailCol", "predictionCol")
    )

    def run(rows: Group) -> pa.Table:
        counts = _Counts()
        for batch in rows:
            real = texts(batch.column(label))
            if detail is None:
                _count_predictions(counts, real, texts(batch.column(prediction)))
            else:
                _count_details(counts, real, batch.column(detail), params["labelType"])
        counts.together(rows)
        if not counts.pairs:
            raise Unreadable(f"no row has both a label in {label!r} and a prediction")
        names = [name for pair in counts.pairs for name in pair]
        labels = descending([*counts.labels, *names])
        places = {name: i for i, name in enumerate(labels)}
        matrix = np.zeros((len(labels), len(labels)), np.int64)
        for (predicted, seen), number in counts.pairs.items():
            matrix[places[predicted], places[seen]] = number
        found = class_metrics(matrix, labels)
        if detail is not None:
            found["LogLoss"] = counts.loss / found["TotalSamples"]
        return metrics_row(found, params["column"])

    return run


def _count_predictions(
    counts: _Counts, real: Sequence[str | None], predicted: Sequence[str | None]
) -> None:
    for seen, said in zip(real, predicted, strict=True):
        if seen is not None and said is not None:
            counts.add(seen, said)


def _count_details(
    counts: _Counts, real: Sequence[str | None], column: pa.Array, kind: str
) -> None:
    known = np.array([text is not None for text in real], np.bool_)
    known &= valid_rows(column)
    seen = [text for text, whole in zip(real, known.tolist(), strict=True) if whole]
    details = column.filter(pa.array(known))
    alike = read_details(details, kind)
    if alike is not None:
        _count_alike(counts, seen, *alike)
        return
    lost: list[float] = [counts.loss]
    orders: dict[tuple[str, ...], list[str]] = {}
    for label, text in zip(seen, details.to_pylist(), strict=True):
        assert label is not None
        given = read_detail(text, kind)
        names = tuple(given)
        if names not in orders:
            orders[names] = descending(names)[::-1]
            counts.labels |= dict.fromkeys(names)
        counts.add(label, max(orders[names], key=given.__getitem__))
        lost.append(loss(given.get(label, 0.0)))
    counts.loss = math.fsum(lost)


def _count_alike(
    counts: _Counts, seen: Sequence[Any], labels: Sequence[str], probabilities: Array
) -> None:
    """Count rows whose details are of the same labels."""
    counts.labels |= dict.fromkeys(labels)
    order = [labels.index(label) for label in descending(labels)[::-1]]
    predicted = np.array(order)[probabilities[:, order].argmax(axis=1)]
    names = [*labels, *sorted(set(seen) - set(labels))]
    places = {name: i for i, name in enumerate(names)}
    at = np.array([places[label] for label in seen], np.int64)
    own = np.zeros(len(seen))
    listed = at < len(labels)
    own[listed] = probabilities[listed, at[listed]]
    pairs, numbers = np.unique(predicted * len(names) + at, return_counts=True)
    for pair, number in zip(pairs.tolist(), numbers.tolist(), strict=True):
        counts.add(names[pair % len(names)], names[pair // len(names)], number)
    counts.loss = math.fsum([counts.loss, *losses(own).tolist()])
