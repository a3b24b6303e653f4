"""How predicted numbers differ from the real ones: metrics of regression and time series."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._group import Group
from ._metrics import metrics_row
from ._moments import numbers
from ._strings import Unreadable

Array = npt.NDArray[np.float64]


def evaluate(params: Mapping[str, Any]) -> Any:
    """Make the evaluation of predictions of numbers; ``series`` adds the metrics of time series.

    Rows in which the label or the prediction is NULL or NaN are left out.
    """
    names = [params["labelCol"], params["predictionCol"]]

    def run(rows: Group) -> pa.Table:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return metrics_row(_metrics(rows, names, params["series"]), params["column"])

    return run


def _pairs(rows: Group, names: list[str]) -> Iterator[tuple[Array, Array]]:
    for batch in rows:
        values = numbers(batch, names)
        values = values[~np.isnan(values).any(axis=1)]
        yield values[:, 0], values[:, 1]


def _metrics(rows: Group, names: list[str], series: bool) -> dict[str, Any]:
    sums = np.zeros(8)
    for real, said in _pairs(rows, names):
        error = np.abs(real - said)
        share = np.where(error == 0, 0.0, error / np.abs(real))
        symmetric = np.where(error == 0, 0.0, error / (np.abs(real) + np.abs(said)))
        parts = (real, said, error, error**2, share, symmetric, np.abs(real))
        sums += [len(real), *(float(part.sum()) for part in parts)]
    (sums,) = rows.sum(sums)
    count, ysum, psum, sae, sse, shares, symmetrics, size = sums.tolist()
    if not count:
        raise Unreadable(f"no row has numbers in both {names[0]!r} and {names[1]!r}")
    mean = ysum / count
    about = np.zeros(2)  # sums of squares about the mean of the labels
    for real, said in _pairs(rows, names):
        about += [float(((real - mean) ** 2).sum()), float(((said - mean) ** 2).sum())]
    (about,) = rows.sum(about)
    sst, ssr = about.tolist()
    r2 = float(1 - np.float64(sse) / sst)
    found: dict[str, Any] = {
        "count": count,
        "MSE": sse / count,
        "MAE": sae / count,
        "RMSE": float(np.sqrt(sse / count)),
        "Explained Variance": ssr / count,
        "SSE": sse,
        "SST": sst,
        "SSR": ssr,
        "SAE": sae,
        "MAPE": shares * 100 / count,
        "yMean": mean,
        "predictionMean": psum / count,
    }
    if series:
        return found | {"SMAPE": symmetrics * 200 / count, "ND": float(np.float64(sae) / size)}
    return found | {"R2": r2, "R": float(np.sqrt(r2))}
