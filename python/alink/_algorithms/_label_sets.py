"""How predicted sets of labels agree with the real ones, and how well they are ranked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ._group import Group
from ._metrics import metrics_row
from ._strings import Unreadable, text_of

Labels = Sequence[str]


def evaluate(params: Mapping[str, Any]) -> Any:
    """Make the evaluation of sets of labels; ``ranking`` adds the metrics of their order.

    Rows in which the labels or the predictions are NULL are left out.
    """

    def run(rows: Group) -> pa.Table:
        distinct, most = _extent(rows, params)
        found = _agreement(rows, params, distinct)
        if params["ranking"]:
            found |= _ranking(rows, params, most)
        return metrics_row(found, params["column"])

    return run


def _sets(rows: Group, params: Mapping[str, Any]) -> Iterator[tuple[Labels, Labels]]:
    columns = params["labelCol"], params["predictionCol"]
    keys = params["labelRankingInfo"], params["predictionRankingInfo"]
    for batch in rows:
        real, said = (batch.column(column).to_pylist() for column in columns)
        for one, other in zip(real, said, strict=True):
            if one is not None and other is not None:
                yield read_labels(one, keys[0]), read_labels(other, keys[1])


def read_labels(text: str, key: str) -> Labels:
    """Read distinct labels, in their order: ``{"object":"[1, 2]"}``, or a list alone.

    Raises
    ------
    Unreadable
        If the text is neither.
    """
    try:
        given = json.loads(text)
        if isinstance(given, dict):
            given = given[key]
        if isinstance(given, str):
            given = json.loads(given)
    except (ValueError, KeyError):
        given = None
    if not isinstance(given, list):
        raise Unreadable(f'{text!r:.80} has no list of labels: {{"{key}":"[…]"}} is expected')
    return list(dict.fromkeys(text_of(label) for label in given))


def _extent(rows: Group, params: Mapping[str, Any]) -> tuple[int, int]:
    """Give the number of distinct labels, and that of the longest set."""
    labels: set[str] = set()
    most = 0
    for real, said in _sets(rows, params):
        labels.update(real, said)
        most = max(most, len(real), len(said))
    together: set[str] = set()
    for part in rows.gather(json.dumps(sorted(labels)).encode()):
        together.update(json.loads(part))
    if not together:
        raise Unreadable(
            f"no row has labels in {params['labelCol']!r} and {params['predictionCol']!r}"
        )
    return len(together), int(rows.largest([most])[0])


def _agreement(rows: Group, params: Mapping[str, Any], distinct: int) -> dict[str, Any]:
    sums = np.zeros(9)
    for real, said in _sets(rows, params):
        tp = len(set(real) & set(said))
        fp, fn = len(said) - tp, len(real) - tp
        sums += [
            1,
            tp,
            fp,
            fn,
            tp / len(said) if said else 0.0,
            tp / len(real) if real else 0.0,
            tp / (tp + fp + fn) if real or said else 1.0,
            2 * tp / (2 * tp + fp + fn) if real or said else 1.0,
            fp == fn == 0,
        ]
    (sums,) = rows.sum(sums)
    count, tp, fp, fn, precision, recall, accuracy, f1, same = sums.tolist()
    return {
        "precision": precision / count,
        "recall": recall / count,
        "accuracy": accuracy / count,
        "f1": f1 / count,
        "microPrecision": _ratio(tp, tp + fp),
        "microRecall": _ratio(tp, tp + fn),
        "microF1": _ratio(2 * tp, 2 * tp + fp + fn),
        "hammingLoss": (fp + fn) / count / distinct,
        "subsetAccuracy": same / count,
    }


def _ratio(value: float, divisor: float) -> float:
    return value / divisor if divisor else 0.0


def _ranking(rows: Group, params: Mapping[str, Any], most: int) -> dict[str, Any]:
    """Give the metrics of rankings, their arrays at each length from 1 [Järvelin 2002]."""
    ranks = np.arange(1, most + 1)
    gains = 1 / np.log2(ranks + 1)
    ideal = np.cumsum(gains)
    precision, recall, ndcg = (np.zeros(most) for _ in range(3))
    sums = np.zeros(4)  # rows, average precisions, hits of the first label, their ranks' inverses
    for real, said in _sets(rows, params):
        wanted = set(real)
        hits = np.array([label in wanted for label in said] + [False] * (most - len(said)))
        # Behind the longer of the two lists of a row nothing is counted.
        length = max(len(real), len(said))
        found = np.cumsum(hits)[:length]
        precision[:length] += found / ranks[:length]
        average = 0.0
        if real:
            recall[:length] += found / len(real)
            best = ideal[np.minimum(ranks[:length], len(real)) - 1]
            ndcg[:length] += np.cumsum(hits * gains)[:length] / best
            average = float((np.cumsum(hits) / ranks)[hits].sum()) / len(real)
        place = said.index(real[0]) + 1 if real and real[0] in said else 0
        sums += [1, average, bool(place), 1 / place if place else 0.0]
    sums, precision, recall, ndcg = rows.sum(sums, precision, recall, ndcg)
    count, averages, first, inverse = sums.tolist()
    return {
        "map": averages / count,
        "hitRate": first / count,
        "averageReciprocalHitRank": inverse / count,
        "precisionArray": precision / count,
        "RecallArray": recall / count,
        "ndcgArray": ndcg / count,
    }
