"""How good predictions are: the same for Spark's and ours, by their definitions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def auc(y: Array, score: Array) -> float:
    """Give the area under the ROC curve: how often a positive row has the higher score."""
    values, places = np.unique(score, return_inverse=True)
    positive = np.bincount(places, y == 1, len(values))
    negative = np.bincount(places, y != 1, len(values))
    below = np.cumsum(negative) - negative
    return float(positive @ (below + negative / 2) / (positive.sum() * negative.sum()))


def accuracy(y: Array, predicted: Array) -> float:
    """Give the part of the rows that are right."""
    return float(np.mean(y == predicted))


def rmse(y: Array, predicted: Array) -> float:
    """Give the root of the mean square of the errors."""
    return float(np.sqrt(np.mean((y - predicted) ** 2)))


def silhouette(x: Array, clusters: Array) -> float:
    """Give the mean silhouette by squared Euclidean distances, as Spark has it."""
    names, places = np.unique(clusters, return_inverse=True)
    counts = np.bincount(places)
    means = np.array([x[places == at].mean(axis=0) for at in range(len(names))])
    squares = (x**2).sum(axis=1)
    spread = np.array([squares[places == at].mean() for at in range(len(names))])
    # The mean of the squared distances to all rows of each cluster.
    far = squares[:, None] - 2 * x @ means.T + spread
    rows = np.arange(len(x))
    alone = counts[places] == 1
    own = far[rows, places] * counts[places] / np.maximum(counts[places] - 1, 1)
    far[rows, places] = np.inf
    other = far.min(axis=1)
    values = np.where(alone, 0.0, (other - own) / np.maximum(np.maximum(own, other), 1e-300))
    return float(values.mean())
