"""Features of batches times the weights of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._blocks import Sparse
from ._moments import numbers
from ._strings import Unreadable
from ._vectors import Vectors

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


class Margins:
    """Weights of some columns, or of a column of vectors, and an intercept.

    Parameters
    ----------
    features : mapping
        ``vectorCol`` or ``featureCols``.
    weights : array, shape (d,) or (d, k)
    intercept : float or array of shape (k,)
    """

    def __init__(self, features: Mapping[str, Any], weights: Array, intercept: Any) -> None:
        self._vector: str | None = features.get("vectorCol")
        self._names: Sequence[str] = features.get("featureCols") or []
        self._weights = weights
        self._intercept = intercept

    def __call__(self, batch: pa.RecordBatch) -> tuple[Array, Flags]:
        """Give a margin for each row (0 where one is missing), and whether it is missing."""
        size = len(self._weights)
        if self._vector is None:
            values = numbers(batch, self._names)
            missing = np.asarray(np.isnan(values).any(axis=1), np.bool_)
            margins = values @ self._weights
        else:
            vectors = Vectors.of(batch.column(self._vector))
            known = vectors.valid
            missing = np.zeros(len(vectors), np.bool_) if known is None else ~known
            if vectors.known_size > size:
                raise Unreadable(
                    f"a vector in {self._vector!r} has size {vectors.known_size}, "
                    f"the model {size} features"
                )
            if vectors.indices is None:
                margins = vectors.matrix(size) @ self._weights
            else:
                margins = Sparse(vectors, size).times(self._weights)
        margins = margins + self._intercept
        margins[missing] = 0.0
        return margins, missing
