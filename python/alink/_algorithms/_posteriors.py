"""What classifiers say: the most likely label of each row, and the probabilities of all."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._details import details

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def softmax(scores: Array) -> Array:
    """Give probabilities of logarithms that lack a constant, shape (rows, labels)."""
    best = scores.max(axis=1, keepdims=True)
    # A row of which no label is possible has none either.
    shifted = np.exp(scores - np.where(np.isfinite(best), best, 0.0))
    total = shifted.sum(axis=1, keepdims=True)
    return shifted / np.where(total > 0, total, 1.0)


def predictions(
    probabilities: Array,
    labels: pa.Array,
    missing: Flags,
    detailed: bool,
    best: npt.NDArray[np.int64] | None = None,
) -> list[pa.Array]:
    """Give the most likely label of each row, of equal ones the first, and JSON of all.

    Parameters
    ----------
    probabilities : array, shape (rows, labels)
        A row of zeros has no label.
    labels : pyarrow.Array
    missing : array of bool
        Rows that get NULL.
    detailed : bool
        Whether the probabilities of all labels are wanted, as Alink writes them.
    best : array, optional
        The place of the label of each row, where something else decides among equal ones.
    """
    lost = missing | ~(probabilities.max(axis=1, initial=0.0) > 0)
    if best is None:
        best = probabilities.argmax(axis=1)
    columns = [labels.take(pa.array(best, pa.int64(), mask=lost))]
    if detailed:
        columns.append(details(labels.to_pylist(), list(probabilities.T), lost, quoted=False))
    return columns
