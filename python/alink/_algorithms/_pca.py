"""Principal components of columns or vectors, and multidimensional scaling by them.

The components are the eigenvectors of the matrix of correlations or covariances [Hotelling, 1933],
which one pass over the rows adds up. The largest entry of each is positive.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._correlations import Matrices, products
from ._group import Group
from ._models import BadModel, Model, read_model, write_model
from ._moments import Array, Products, numbers
from ._schemas import COLLINEARITY
from ._strings import Unreadable
from ._vectors import Vectors, read_vectors, row_sums

Params = Mapping[str, Any]
Types = Sequence[pa.DataType]


def components(matrix: Array, count: int) -> tuple[Array, Array]:
    """Give the largest eigenvalues of a symmetric matrix and their eigenvectors, as rows."""
    values, vectors = np.linalg.eigh(matrix)
    values, vectors = values[::-1][:count], vectors.T[::-1][:count]
    largest = np.abs(vectors).argmax(axis=1) if vectors.size else np.empty(0, int)
    signs = np.sign(vectors[np.arange(len(vectors)), largest])
    return np.maximum(values, 0.0), vectors * signs[:, None]


def _found(rows: Group, params: Params) -> Products:
    found = products(rows, Matrices(rows, params, complete=True))
    if not found.count.any():
        raise Unreadable("there are no rows to train on")
    return found


def train(params: Params) -> Any:
    """Make the training: columns of one value are left out.

    ``calculationType`` CORR takes correlations, COV covariances.
    """

    def run(rows: Group) -> pa.Table:
        found = _found(rows, params)
        used = np.flatnonzero(~np.diag(found.flat))
        k, correlated = params["k"], params["calculationType"] == "CORR"
        if k > len(used):
            raise Unreadable(
                f"k is {k}, but {len(used)} of {len(found.count)} columns have more than one value"
            )
        matrix = (found.correlation if correlated else found.covariance)[np.ix_(used, used)]
        values, vectors = components(matrix, k)
        content = {
            "featureColNames": params.get("selectedCols"),
            "vectorColName": params.get("vectorCol"),
            "pcaType": params["calculationType"],
            "means": np.diag(found.mean)[used].tolist(),
            "stddevs": np.sqrt(np.diag(found.covariance)[used]).tolist(),
            "p": k,
            "lambda": values.tolist(),
            "coef": vectors.tolist(),
            "idxNonEqual": used.tolist(),
            "nx": len(found.count),
            "sumLambda": float(np.trace(matrix)),
        }
        meta = {"featureCols": params.get("selectedCols"), "vectorCol": params.get("vectorCol")}
        return write_model(Model(meta, [json.dumps(content, ensure_ascii=False)]))

    return run


class Predict:
    """Gives the scores of rows: with CORR of standardized values, with COV of the values.

    As in Alink, COV does not take off the means, so that sparse vectors stay sparse; it moves all
    scores by the same vector.
    """

    def __init__(self, params: Params, types: Types) -> None:
        del types
        self._params = params
        self._names: Sequence[str] = ()
        self._vector: str | None = None
        self._weights: Array = np.empty((0, 0))
        self._offset: Array = np.empty(0)

    def load(self, table: pa.Table) -> None:
        """Take the model."""
        content = json.loads(read_model(table).data[0])
        if "coef" not in content:
            raise BadModel("the model is none of principal components")
        self._vector = self._params.get("vectorCol") or content.get("vectorColName")
        self._names = () if self._vector else content.get("featureColNames") or ()
        vectors = np.array(content["coef"], float).reshape(content["p"], -1).T
        mean = np.zeros(len(vectors))
        if content["pcaType"] == "CORR":
            vectors = vectors / np.array(content["stddevs"], float)[:, None]
            mean = np.array(content["means"], float)
        self._weights = np.zeros((content["nx"], content["p"]))
        self._weights[np.array(content["idxNonEqual"], int)] = vectors
        self._offset = mean @ vectors

    def __call__(self, batch: pa.RecordBatch) -> Sequence[pa.Array]:
        """Give the scores, dense vectors; NULL where a value is."""
        scores, valid = self._scores(batch)
        if valid.all():
            return [Vectors.of_matrix(scores - self._offset).to_arrow()]
        scores = np.where(valid[:, None], scores - self._offset, 0.0)
        return [Vectors.of_matrix(scores, valid).to_arrow()]

    def _scores(self, batch: pa.RecordBatch) -> tuple[Array, npt.NDArray[np.bool_]]:
        if self._vector is None:
            missing = [name for name in self._names if name not in batch.schema.names]
            if missing:
                raise Unreadable(f"there is no column {missing[0]!r}, which the model was made of")
            values = numbers(batch, self._names)
            known = np.logical_not(np.isnan(values).any(axis=1))
            return np.where(np.isnan(values), 0.0, values) @ self._weights, known
        vectors = read_vectors(batch, self._vector)
        size = len(self._weights)
        vectors.refuse(
            (vectors.spans > size) | (vectors.dense & (vectors.lengths != size)),
            f"of column {self._vector!r} does not fit: the model is of size {size}",
        )
        valid = np.ones(len(vectors), np.bool_) if vectors.valid is None else vectors.valid
        if vectors.indices is None and vectors.width == size:
            return vectors.matrix(size) @ self._weights, valid
        at = vectors.indices_of_values
        sums = [row_sums(vectors.values * part[at], vectors.offsets) for part in self._weights.T]
        return np.column_stack(sums), valid


# --- multidimensional scaling ---


def train_scaling(params: Params) -> Any:
    """Make the axes of a scaling that keeps distances between rows.

    The coordinates that keep Euclidean distances best are those of the principal components of
    the centred columns [Torgerson, 1952; Gower, 1966]; so no matrix of distances is needed.
    """

    def run(rows: Group) -> pa.Table:
        found = _found(rows, params)
        _, vectors = components(found.covariance, params["dim"])
        content = {"means": np.diag(found.mean).tolist(), "axes": vectors.tolist()}
        return write_model(Model({}, [json.dumps(content)]))

    return run


class Scale:
    """Gives the coordinates of rows."""

    def __init__(self, params: Params, types: Types) -> None:
        self._names: Sequence[str] = params["selectedCols"]
        self._count = len(types)
        self._mean: Array = np.empty(0)
        self._axes: Array = np.empty((0, 0))

    def load(self, table: pa.Table) -> None:
        """Take the model."""
        content = json.loads(read_model(table).data[0])
        self._mean, self._axes = np.array(content["means"]), np.array(content["axes"])

    def __call__(self, batch: pa.RecordBatch) -> Sequence[pa.Array]:
        """Give a column for each axis; beyond the number of columns they are 0."""
        found = (numbers(batch, self._names) - self._mean) @ self._axes.T
        more = [np.zeros(batch.num_rows)] * (self._count - found.shape[1])
        return [pa.array(column, pa.float64()) for column in [*found.T, *more]]


# --- collinearity ---


def collinearity(params: Params) -> Any:
    """Make the table of how far columns depend on one another.

    For each column its variance inflation factor and tolerance; and, row by row, an eigenvalue of
    the correlations, its condition index, and the shares that it has in the variances of the
    columns' coefficients [Belsley, Kuh and Welsch, "Regression Diagnostics", 1980].
    """
    names: Sequence[str] = params["selectedCols"]

    def run(rows: Group) -> pa.Table:
        found = _found(rows, params)
        flat = np.diag(found.flat)
        if flat.any():
            name = names[int(np.flatnonzero(flat)[0])]
            raise Unreadable(f"column {name!r} has one value only: leave it out")
        values, vectors = components(found.correlation, len(names))
        # An eigenvalue of 0 is one of columns that determine one another.
        zero = values <= values[0] * len(names) * 8 * np.finfo(np.float64).eps
        kept = np.where(zero, _EIGENVALUE_MIN, np.maximum(values, _EIGENVALUE_MIN))
        parts = vectors**2 / kept[:, None]
        inflation = parts.sum(axis=0)
        singular = (vectors[zero] ** 2 > _SHARE_MIN).any(axis=0)
        inflation = np.where(singular, np.inf, inflation)
        shares = parts / parts.sum(axis=0)
        columns = [
            list(names),
            inflation,
            1 / inflation,
            kept,
            np.sqrt(kept[0] / kept),
            *shares.T,
        ]
        return pa.table(columns, names=[*COLLINEARITY, *names])

    return run


_EIGENVALUE_MIN = 1e-12
_SHARE_MIN = 1e-10  # of an eigenvector: what is less is rounding
