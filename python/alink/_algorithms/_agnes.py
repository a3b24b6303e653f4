"""Agglomerative clustering: the two nearest clusters become one, again and again.

Kaufman and Rousseeuw, Finding Groups in Data, 1990, chapter 5. With linkage MIN the merges are the
edges of the shortest tree that spans the rows (Gower and Ross, 1969), which takes no matrix of
distances; MAX and AVERAGE are found by chains of nearest neighbours (Murtagh, A survey of recent
advances in hierarchical clustering algorithms, 1983) on such a matrix; with MEAN the clusters'
means are compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._group import Group
from ._nearest import Array
from ._neighbours import Metric
from ._points import Reader, all_rows
from ._spaces import on_sphere
from ._strings import Unreadable

#: A matrix of the distances of so many rows has 2 GB.
_MATRIX_ROWS_MAX = 16_384
_ROWS_MAX = 200_000
#: A merge: the rows by which two clusters are known, and their distance.
Merge = tuple[int, int, float]


def train(params: Mapping[str, Any]) -> Any:
    """Make a clustering of ``vectorCol``: a row each with id, cluster, and how it was merged."""

    def run(group: Group) -> pa.Table:
        places, rows = all_rows(group, Reader(params["vectorCol"]))
        metric = Metric(params["distanceType"])
        wanted, threshold = params["k"], params["distanceThreshold"]
        merges = _merged(rows, metric, params["linkage"], wanted, threshold)
        labels, iterations, parents = _labels(len(rows), merges)
        batches = list(group)
        ids = pa.Table.from_batches(batches, group.schema).column(params["idCol"]).combine_chunks()
        kept = ids.take(pa.array(places))
        mask = iterations < 0
        return pa.table(
            {
                params["idCol"]: kept,
                "cluster": pa.array(labels),
                "iteration": pa.array(iterations, pa.int64()),
                "parent": kept.take(pa.array(np.where(mask, 0, parents), mask=mask)),
            }
        )

    return run


def _merged(
    rows: Array, metric: Metric, linkage: str, wanted: int, threshold: float
) -> list[Merge]:
    """Give the merges until so many clusters are left, or the nearest are farther apart."""
    count = len(rows)
    if count > _ROWS_MAX or (linkage in ("MAX", "AVERAGE") and count > _MATRIX_ROWS_MAX):
        most = _MATRIX_ROWS_MAX if linkage in ("MAX", "AVERAGE") else _ROWS_MAX
        raise Unreadable(
            f"{count} rows are too many for linkage {linkage}, which compares all with all: it "
            f"takes {most} at most; take a sample, or KMeans or Dbscan"
        )
    if count == 0:
        return []
    if metric.name == "HAVERSINE":
        on_sphere(rows)
    if linkage == "MEAN":
        return _of_means(rows, metric, wanted, threshold)
    points = metric.points(rows)
    found = _spanning(points, metric) if linkage == "MIN" else _chained(points, metric, linkage)
    found.sort(key=lambda merge: merge[2])
    kept = [merge for merge in found[: max(count - wanted, 0)] if merge[2] <= threshold]
    return kept


def _spanning(points: Array, metric: Metric) -> list[Merge]:
    """Give the edges of the shortest spanning tree (Prim, 1957)."""
    count = len(points)
    least, nearest = np.full(count, np.inf), np.zeros(count, np.int64)
    outside = np.ones(count, np.bool_)
    merges: list[Merge] = []
    at = 0
    for _ in range(count - 1):
        outside[at] = False
        apart = metric.between(points[at : at + 1], points)[0]
        closer = outside & (apart < least)
        least[closer], nearest[closer] = apart[closer], at
        at = int(np.where(outside, least, np.inf).argmin())
        distance = float(metric.distance(least[at : at + 1])[0])
        merges.append((int(nearest[at]), at, distance))
    return merges


def _chained(points: Array, metric: Metric, linkage: str) -> list[Merge]:
    """Give all merges by chains of nearest neighbours, of linkages that shrink no distance."""
    count = len(points)
    apart = metric.distance(metric.between(points, points))
    np.fill_diagonal(apart, np.inf)
    sizes = np.ones(count)
    left = np.ones(count, np.bool_)
    chain: list[int] = []
    merges: list[Merge] = []
    while len(merges) < count - 1:
        if not chain:
            chain = [int(left.argmax())]
        at = chain[-1]
        other = int(apart[at].argmin())
        if len(chain) > 1 and apart[at, chain[-2]] <= apart[at, other]:
            other = chain[-2]
        if len(chain) < 2 or other != chain[-2]:
            chain.append(other)
            continue
        del chain[-2:]
        kept, gone = min(at, other), max(at, other)
        merges.append((kept, gone, float(apart[at, other])))
        if linkage == "MAX":
            joined = np.maximum(apart[kept], apart[gone])
        else:
            both = sizes[kept] + sizes[gone]
            joined = (sizes[kept] * apart[kept] + sizes[gone] * apart[gone]) / both
        sizes[kept] += sizes[gone]
        left[gone] = False
        joined[kept] = np.inf
        apart[kept], apart[:, kept] = joined, joined
        apart[gone], apart[:, gone] = np.inf, np.inf
    return merges


def _of_means(rows: Array, metric: Metric, wanted: int, threshold: float) -> list[Merge]:
    """Merge the clusters with the nearest means."""
    count = len(rows)
    means, sizes = rows.astype(np.float64), np.ones(count)
    left = np.ones(count, np.bool_)
    nearest, least = np.zeros(count, np.int64), np.full(count, np.inf)

    def look(at: int) -> None:
        apart = metric.between(metric.points(means[at : at + 1]), metric.points(means))[0]
        apart = np.where(left, apart, np.inf)
        apart[at] = np.inf
        nearest[at] = int(apart.argmin())
        least[at] = float(apart[nearest[at]])

    for at in range(count):
        look(at)
    merges: list[Merge] = []
    while count - len(merges) > max(wanted, 1):
        first = int(np.where(left, least, np.inf).argmin())
        distance = float(metric.distance(least[first : first + 1])[0])
        if distance > threshold:
            break
        kept, gone = sorted((first, int(nearest[first])))
        merges.append((kept, gone, distance))
        both = sizes[kept] + sizes[gone]
        means[kept] = (sizes[kept] * means[kept] + sizes[gone] * means[gone]) / both
        sizes[kept], left[gone] = both, False
        for at in np.flatnonzero(left & np.isin(nearest, (kept, gone))).tolist():
            look(at)
        look(kept)
        # What was farther from others may be nearer to the new mean.
        apart = metric.between(metric.points(means[kept : kept + 1]), metric.points(means))[0]
        closer = left & (apart < least)
        closer[kept] = False
        nearest[closer], least[closer] = kept, apart[closer]
    return merges


def _labels(count: int, merges: list[Merge]) -> tuple[Any, Any, Any]:
    """Give clusters, numbered by their first rows, and tell when which rows went under others.

    Returns
    -------
    labels, iterations, parents : arrays of int64, shape (count,)
        The iteration of a row that went under none is −1.
    """
    first = np.arange(count)  # of each row's cluster, or a way to it
    iterations: npt.NDArray[np.int64] = np.full(count, -1, np.int64)
    parents = np.zeros(count, np.int64)

    def root(at: int) -> int:
        while first[at] != at:
            first[at] = first[first[at]]
            at = int(first[at])
        return at

    for number, (one, other, _) in enumerate(merges):
        low, high = sorted((root(one), root(other)))
        first[high] = low
        iterations[high], parents[high] = number + 1, low
    roots = np.array([root(at) for at in range(count)], np.int64)
    _, labels = np.unique(roots, return_inverse=True)
    return labels.astype(np.int64), iterations, parents
