"""The libraries, in one process: all rows in memory as they want them."""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import Any

import lessons
import numpy as np
import pyarrow.parquet as pq


def prepare(folder: Path, name: str) -> lessons.Prepared:
    """Read the rows; give what trains, and what predicts."""
    import_all()
    began = time.perf_counter()
    table = pq.read_table(folder / f"{lessons.LESSONS[name].file}.parquet")
    x = features(table)
    y = table["y"].to_numpy() if "y" in table.column_names else None
    del table
    read_s = time.perf_counter() - began
    train = {
        "dense": logistic, "hashed": penalised, "kmeans": clusters, "trees": boosted,
        "fewer_trees": boosted,
    }[name]  # fmt: skip

    def learn() -> Any:
        return train(x, y)

    def predict(model: Any) -> int:
        return len(model.predict(x))

    def keep(model: Any) -> None:
        np.save(folder / f"{name}-library.npy", what_is_learned(model, x))

    return lessons.Prepared(read_s, learn, keep, predict)


def import_all() -> None:
    """Import what trains, which is no part of its time."""
    for name in ("lightgbm", "sklearn.cluster", "sklearn.linear_model"):
        importlib.import_module(name)


def features(table: Any) -> Any:
    """Give the features as the libraries want them."""
    if "vec" not in table.column_names:
        return np.column_stack([table[column].to_numpy() for column in lessons.columns()])
    vectors = table["vec"].combine_chunks()
    values = vectors.field("values").flatten().to_numpy()
    if vectors.field("indices").null_count:
        return values.reshape(len(vectors), -1)
    import scipy.sparse as sp

    indices = vectors.field("indices")
    shape = (len(vectors), lessons.HASHED)
    return sp.csr_matrix((values, indices.flatten().to_numpy(), indices.offsets.to_numpy()), shape)


def logistic(x: Any, y: Any) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=np.inf, max_iter=1000).fit(x, y)


def penalised(x: Any, y: Any) -> Any:
    from sklearn.linear_model import LogisticRegression

    strength = 1 / (2 * lessons.PENALTY * x.shape[0])
    return LogisticRegression(C=strength, max_iter=lessons.HASHED_STEPS).fit(x, y)


def what_is_learned(model: Any, x: Any) -> Any:
    """Give what a model is judged by: weights, centres, or the probabilities of trees."""
    if hasattr(model, "coef_"):
        return np.concatenate([model.intercept_, model.coef_[0]])
    if hasattr(model, "cluster_centers_"):
        return model.cluster_centers_
    return model.predict_proba(x)[:, 1]


def clusters(x: Any, y: Any) -> Any:
    from sklearn.cluster import KMeans

    del y
    made = KMeans(
        lessons.CLUSTERS, init="k-means++", n_init=1, max_iter=lessons.KMEANS_STEPS, tol=0,
        random_state=1,
    )  # fmt: skip
    return made.fit(x)


def boosted(x: Any, y: Any) -> Any:
    from lightgbm import LGBMClassifier

    made = LGBMClassifier(
        n_estimators=lessons.TREES, max_depth=lessons.DEPTH, num_leaves=2**lessons.DEPTH,
        max_bin=lessons.BINS, learning_rate=lessons.RATE, min_child_samples=lessons.LEAF_ROWS,
        verbose=-1,
    )  # fmt: skip
    return made.fit(x, y)


if __name__ == "__main__":
    lessons.main(prepare, "scikit-learn lightgbm numpy")
