"""The measures by which a training picks its best state, as Keras defines them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ._layers import MEASURES
from ._strings import Unreadable

Array = npt.NDArray[np.float64]
#: Gives the measure of labels and outputs.
Measure = Callable[[npt.NDArray[Any], npt.NDArray[Any]], float]

_LEAST = 1e-7  # of what is divided by, or has a logarithm
_LABELS = {"two": "two labels", "more": "more than two labels", "numbers": "numbers"}


def measure(name: str, kind: str) -> Measure:
    """Give the function of labels and a network's outputs that is the larger the better they are.

    Parameters
    ----------
    name : str
        "loss", or one of `MEASURES` of the kind.
    kind : str
        "two", where labels are 0 and 1 and outputs the log odds of 1, shape (rows, 1); "more",
        where labels are places among the outputs, logarithms of chances up to a constant; or
        "numbers", where outputs have the shape (rows, 1) too.

    Raises
    ------
    Unreadable
        If there is no such measure of the kind.
    """
    if name not in ("loss", *MEASURES[kind]):
        raise Unreadable(
            f"bestMetric is {name!r}, but of {_LABELS[kind]} there are: loss, "
            f"{', '.join(MEASURES[kind])}"
        )
    of = {"two": _of_two, "more": _of_more, "numbers": _of_numbers}[kind]
    return lambda labels, outputs: float(of(name, labels.ravel(), outputs.astype(np.float64)))


def _of_two(name: str, labels: npt.NDArray[Any], outputs: Array) -> Any:
    odds, real = outputs[:, 0], labels > 0
    if name == "loss":
        return -np.mean(np.logaddexp(0, np.where(real, -odds, odds)))
    if name == "auc":
        return _area(real, odds)
    said = odds > 0
    counts = {
        "true_positives": np.count_nonzero(said & real),
        "true_negatives": np.count_nonzero(~said & ~real),
        "false_positives": -np.count_nonzero(said & ~real),
        "false_negatives": -np.count_nonzero(~said & real),
    }
    if name in counts:
        return counts[name]
    right = counts["true_positives"]
    if name == "binary_accuracy":
        return (right + counts["true_negatives"]) / len(real)
    return right / max(np.count_nonzero(said if name == "precision" else real), 1)


def _area(real: npt.NDArray[np.bool_], scores: Array) -> float:
    """Give the share of pairs of a positive and a negative row that scores order, ties half."""
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    positive, negative = int(real.sum()), int((~real).sum())
    if not positive or not negative:
        return 0.0
    above = ranks[real].sum() - positive * (positive + 1) / 2
    return above / (positive * negative)


def _of_more(name: str, labels: npt.NDArray[Any], outputs: Array) -> Any:
    if name == "sparse_categorical_accuracy":
        return np.mean(outputs.argmax(axis=1) == labels)
    own = outputs[np.arange(len(labels)), labels]
    return np.mean(own - np.logaddexp.reduce(outputs, axis=1))


def _of_numbers(name: str, labels: npt.NDArray[Any], outputs: Array) -> Any:
    real, said = labels.astype(np.float64), outputs[:, 0]
    away = np.abs(real - said)
    if name == "mean_absolute_error":
        return -np.mean(away)
    if name == "mean_absolute_percentage_error":
        return -100 * np.mean(away / np.maximum(np.abs(real), _LEAST))
    if name == "mean_squared_logarithmic_error":
        logs = (np.log1p(np.maximum(values, _LEAST)) for values in (real, said))
        return -np.mean(np.subtract(*logs) ** 2)
    squares = np.mean(away**2)
    return -np.sqrt(squares) if name == "root_mean_squared_error" else -squares
