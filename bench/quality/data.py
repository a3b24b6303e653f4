"""Make the data sets of the comparison with Spark; it needs scikit-learn, which brings most.

The files are small and kept beside it. Every fourth row, of an order drawn by a seed, is for the
test. Columns: x0, x1, …, the label y, and ``test``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FOLDER = Path(__file__).resolve().parent / "data"
SEED = 7


def main() -> None:
    """Write all data sets."""
    from sklearn import datasets

    sets: dict[str, tuple[Any, Any]] = {
        name: getattr(datasets, f"load_{name}")(return_X_y=True)
        for name in ("wine", "breast_cancer", "diabetes", "digits")
    }
    sets["curved"] = datasets.make_classification(
        4000, 10, n_informative=6, n_clusters_per_class=3, flip_y=0.05, random_state=SEED
    )
    sets["friedman"] = datasets.make_friedman1(4000, 10, noise=1.0, random_state=SEED)
    sets["blobs"] = datasets.make_blobs(3000, 5, centers=6, cluster_std=2.0, random_state=SEED)
    FOLDER.mkdir(exist_ok=True)
    for name, (x, y) in sets.items():
        order = np.random.default_rng(SEED).permutation(len(y))
        features, labels = np.round(x[order].astype(float), 6), y[order].astype(float)
        table = pa.table(
            {f"x{at}": column for at, column in enumerate(features.T)}
            | {"y": labels, "test": np.arange(len(y)) % 4 == 0}
        )
        pq.write_table(table, FOLDER / f"{name}.parquet", compression="zstd")


if __name__ == "__main__":
    main()
