"""Exclusive feature bundling: features of sparse vectors that are never there together.

Bundles are the colours of a greedy colouring of the features' conflicts, the most frequent first:
each comes into the first bundle with none of whose features it shares a row [Ke et al., LightGBM,
NIPS 2017, algorithm 3, without conflicts]. A feature with other values than 1 is a bundle by
itself. Where all rows have as many features and the k-th is always in a range of its own, as one
hot encoders make them, the ranges are the bundles.

The model has Alink's form: an object in ``bundles_json``, whose ``toEfbIndex`` has the bundle of
each feature, -1 where no row has it. Behind the model's columns stand those that it makes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._group import Group
from ._models import BadModel, Model, read_model, write_model
from ._strings import Unreadable
from ._vectors import Vectors, read_vectors

Params = Mapping[str, Any]
Numbers = npt.NDArray[np.int64]

_BUNDLES_MAX = 4096  # each is a column


def train(params: Params) -> Any:
    """Make the search for bundles of the vectors in ``sparseVectorCol``."""
    name = params["sparseVectorCol"]

    def run(group: Group) -> pa.Table:
        parts = [_known(read_vectors(batch, name)) for batch in group]
        rows = sum(len(part) for part in parts)
        if not rows:
            raise Unreadable(f"there are no rows with a vector in {name!r}")
        size = max(part.known_size for part in parts)
        lengths = np.concatenate([part.lengths for part in parts])
        features = np.concatenate([part.indices_of_values.astype(np.int64) for part in parts])
        values = np.concatenate([part.values for part in parts])
        found = bundle(lengths, features, values, size)
        count = int(found.max(initial=-1)) + 1
        if not count:
            raise Unreadable(f"the vectors in {name!r} have no values")
        if count > _BUNDLES_MAX:
            raise Unreadable(
                f"the vectors in {name!r} make {count} bundles, each of which would be a column: "
                f"at most {_BUNDLES_MAX} can be"
            )
        single = np.bincount(found[found >= 0], minlength=count) == 1
        columns = [f"efb_{i} {'double' if one else 'string'}" for i, one in enumerate(single)]
        about = {
            "dimVector": size,
            "numFeatures": count,
            "schemaStr": ",".join(columns),
            "toEfbIndex": found.tolist(),
            "isNumeric": single.tolist(),
        }
        return write_model(Model({"bundles_json": json.dumps(about, separators=(",", ":"))}))

    return run


def _known(vectors: Vectors) -> Vectors:
    """Give the vectors that are not NULL, sparse."""
    sparse = vectors.to_sparse()
    if sparse.valid is None:
        return sparse
    kept = sparse.valid
    lengths = sparse.lengths[kept]  # a NULL row has no values
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    return Vectors(
        offsets, sparse.values, sparse.indices, sparse.sizes[kept], sparse.dense[kept], None
    )


def bundle(
    lengths: Numbers, features: Numbers, values: npt.NDArray[np.float64], size: int
) -> Numbers:
    """Give the bundle of each feature.

    Parameters
    ----------
    lengths : array, shape (rows,)
        How many features each row has.
    features, values : arrays
        Row by row, in ascending order.
    size : int
    """
    other = np.zeros(size, np.bool_)
    other[features[values != 1]] = True
    ranges = _ranges(lengths, features, other, size)
    return _coloured(lengths, features, other, size) if ranges is None else ranges


def _ranges(
    lengths: Numbers, features: Numbers, other: npt.NDArray[np.bool_], size: int
) -> Numbers | None:
    """Give bundles of ranges, where each row has a feature of each; else None."""
    count = int(lengths[0])
    if count == 0 or (lengths != count).any():
        return None
    table = features.reshape(len(lengths), count)
    first, last = table.min(axis=0), table.max(axis=0)
    if (last[:-1] >= first[1:]).any():
        return None
    found = np.searchsorted(first, np.arange(size), side="right") - 1
    found = np.maximum(found, 0)  # what comes before the first range is no feature of any row
    alone = np.bincount(found, minlength=count) == 1
    return None if (other & ~alone[found]).any() else found


def _coloured(
    lengths: Numbers, features: Numbers, other: npt.NDArray[np.bool_], size: int
) -> Numbers:
    found = np.full(size, -1, np.int64)
    singles = np.flatnonzero(other)
    found[singles] = np.arange(len(singles))
    kept = ~other[features]
    rows = np.repeat(np.arange(len(lengths)), lengths)[kept]
    features = features[kept]
    lengths = np.bincount(rows, minlength=len(lengths))
    begins = np.cumsum(lengths) - lengths
    colours = np.full(len(features), -1, np.int64)  # of each value, as far as they are given
    by_feature = np.argsort(features, kind="stable")
    counts = np.bincount(features, minlength=size)
    ends = np.cumsum(counts)
    for feature in np.argsort(-counts, kind="stable").tolist():
        if counts[feature] == 0:
            break
        places = by_feature[ends[feature] - counts[feature] : ends[feature]]
        own = rows[places]
        spans = lengths[own]
        beside = np.repeat(begins[own] - (np.cumsum(spans) - spans), spans) + np.arange(spans.sum())
        taken = np.flatnonzero(np.bincount(colours[beside] + 1)[1:])
        # The first one that is missing among those that are taken.
        free = np.flatnonzero(taken != np.arange(len(taken)))
        colour = int(free[0]) if len(free) else len(taken)
        colours[places] = colour
        found[feature] = len(singles) + colour
    return found


class Predict:
    """Gives the columns of bundles: the value of a lone feature, else the feature that is there.

    NULL where there is none; of several features, which the training had not, the last one.
    """

    def __init__(self, params: Params, types: Sequence[pa.DataType]) -> None:
        self._name: str = params["sparseVectorCol"]
        self._types = types
        self._bundles: Numbers = np.empty(0, np.int64)

    def load(self, table: pa.Table) -> None:
        """Take the model."""
        about = json.loads(read_model(table).get("bundles_json"))
        if about["numFeatures"] != len(self._types):
            raise BadModel(
                f"the model has {about['numFeatures']} bundles, but {len(self._types)} columns"
            )
        self._bundles = np.array(about["toEfbIndex"], np.int64)

    def __call__(self, batch: pa.RecordBatch) -> list[pa.Array]:
        """Give the columns."""
        vectors = read_vectors(batch, self._name).to_sparse()
        features = vectors.indices_of_values.astype(np.int64)
        kept = features < len(self._bundles)
        rows, features, values = vectors.rows_of_values[kept], features[kept], vectors.values[kept]
        bundles = self._bundles[features]
        order = np.argsort(bundles, kind="stable")
        ends = np.searchsorted(bundles[order], np.arange(-1, len(self._types)), side="right")
        columns: list[pa.Array] = []
        for number, kind in enumerate(self._types):
            at = order[ends[number] : ends[number + 1]]
            missing = np.ones(batch.num_rows, np.bool_)
            missing[rows[at]] = False
            if pa.types.is_string(kind):
                last = np.zeros(batch.num_rows, np.int64)
                last[rows[at]] = features[at]
                columns.append(pa.array(last, mask=missing).cast(kind))
            else:
                value = np.zeros(batch.num_rows)
                value[rows[at]] = values[at]
                columns.append(pa.array(value, kind, mask=missing))
        return columns
