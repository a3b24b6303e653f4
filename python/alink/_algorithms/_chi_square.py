"""Pearson's chi-square test of independence, of columns or of the values of vectors."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._arrays import numpy_of
from ._formats import texts_of
from ._group import Group
from ._models import Model, write_model
from ._schemas import TESTS
from ._vectors import Vectors, read_vectors

Params = Mapping[str, Any]
#: How many rows have a value and a label: by column, then by value, then by label.
Counts = dict[int, dict[Any, dict[Any, int]]]

#: The columns of a test's result.
_TERMS_MAX = 100_000  # of a series
_PRECISION = 1e-16


@dataclass(frozen=True)
class Result:
    """What the test of a column says.

    Attributes
    ----------
    column : str
    value : float
        The statistic: the sum of ``(observed - expected)² / expected``.
    df : float
        Degrees of freedom.
    p : float
        The probability of a statistic as large where column and label are independent.
    """

    column: str
    value: float
    df: float
    p: float

    def to_json(self) -> str:
        """Write the result as Alink does."""
        named = {"colName": self.column, "df": self.df, "p": self.p, "value": self.value}
        return json.dumps(named, ensure_ascii=False)


def train(params: Params) -> Any:
    """Make the tests of columns."""

    def run(rows: Group) -> pa.Table:
        results = tests(rows, params)
        columns = [[result.column for result in results], [r.to_json() for r in results]]
        return pa.table([pa.array(column, pa.string()) for column in columns], schema=TESTS)

    return run


def tests(rows: Group, params: Params) -> list[Result]:
    """Test columns, or each index of a column of vectors, against a label.

    NULL is a value of its own, of columns and of the label.
    """
    if params.get("vectorCol") is None:
        names = params["selectedCols"]
        own = _count_columns(rows, names, params["labelCol"])
    else:
        own, size = _count_vectors(rows, params["vectorCol"], params["labelCol"])
        names = [str(i) for i in range(int(rows.largest(size)))]
    counts = _together(rows, own)
    if params.get("vectorCol") is not None:
        _add_zeros(counts, len(names))
    return [_test(name, counts.get(i, {})) for i, name in enumerate(names)]


def _nested() -> Counts:
    return defaultdict(lambda: defaultdict(lambda: defaultdict(int)))


def _count_columns(rows: Group, names: Iterable[str], label: str) -> Counts:
    counts = _nested()
    for batch in rows:
        labels, codes = _coded(batch.column(label))
        for i, name in enumerate(names):
            values, places = _coded(batch.column(name))
            table = np.bincount(places * len(labels) + codes, minlength=len(values) * len(labels))
            for at in np.flatnonzero(table).tolist():
                value, which = divmod(at, len(labels))
                counts[i][values[value]][labels[which]] += int(table[at])
    return counts


def _coded(column: pa.Array) -> tuple[list[str | None], npt.NDArray[np.int64]]:
    """Give the texts of a column's distinct values, the last one None, and each row's."""
    coded = column.dictionary_encode()
    texts = texts_of(coded.dictionary)
    codes = numpy_of(coded.indices.fill_null(len(texts)))
    return [*texts, None], codes.astype(np.int64)


_ALL = -1  # the column under which all rows are counted by their labels


def _count_vectors(rows: Group, name: str, label: str) -> tuple[Counts, int]:
    """Count the values that are not 0, index by index, and all rows by their labels.

    Returns
    -------
    counts, size
        The size is that of the largest vector.
    """
    counts, size = _nested(), 0
    for batch in rows:
        vectors = read_vectors(batch, name)
        labels, codes = _coded(batch.column(label))
        valid = np.ones(len(vectors), bool) if vectors.valid is None else vectors.valid
        for which, count in enumerate(np.bincount(codes[valid], minlength=len(labels)).tolist()):
            if count:
                counts[_ALL][0.0][labels[which]] += count
        size = max(size, int(vectors.spans[valid].max(initial=0)))
        for at, value, which, count in _distinct(vectors, codes):
            counts[at][value][labels[which]] += count
    return counts, size


def _distinct(
    vectors: Vectors, codes: npt.NDArray[np.int64]
) -> Iterable[tuple[int, float, int, int]]:
    """Give the distinct triples of index, value and label, with how often each is there."""
    kept = vectors.values != 0
    at = vectors.indices_of_values[kept].astype(np.int64)
    values = vectors.values[kept]
    which = codes[vectors.rows_of_values[kept]]
    by = np.lexsort((which, values, at))
    at, values, which = at[by], values[by], which[by]
    new = np.ones(len(at), bool)
    new[1:] = (at[1:] != at[:-1]) | (values[1:] != values[:-1]) | (which[1:] != which[:-1])
    starts = np.flatnonzero(new)
    lengths = np.diff(np.append(starts, len(at)))
    triples = (at[starts].tolist(), values[starts].tolist(), which[starts].tolist())
    return zip(*triples, lengths.tolist(), strict=True)


def _add_zeros(counts: Counts, size: int) -> None:
    """Count as 0 the rows of which an index has no other value."""
    rows = counts.pop(_ALL, {}).get(0.0, {})
    for i in range(size):
        column = counts.setdefault(i, {})
        for label, total in rows.items():
            zeros = total - sum(found.get(label, 0) for found in column.values())
            if zeros:
                column.setdefault(0.0, {})[label] = zeros


def _together(rows: Group, own: Counts) -> Counts:
    """Add up what all workers have counted."""
    flat = [
        [column, value, label, count]
        for column, by_value in own.items()
        for value, by_label in by_value.items()
        for label, count in by_label.items()
    ]
    total = _nested()
    for part in rows.gather(json.dumps(flat).encode()):
        for column, value, label, count in json.loads(part):
            total[column][value][label] += count
    return {column: {v: dict(found) for v, found in by.items()} for column, by in total.items()}


def _test(name: str, counts: Mapping[Any, Mapping[Any, int]]) -> Result:
    labels = sorted({label for found in counts.values() for label in found}, key=repr)
    order = sorted(counts, key=repr)
    table = np.array([[counts[v].get(label, 0) for label in labels] for v in order], np.float64)
    if table.size == 0:
        return Result(name, 0.0, 0.0, 1.0)
    by_value, by_label = table.sum(axis=1), table.sum(axis=0)
    expected = np.outer(by_value, by_label) / table.sum()
    value = float(((table - expected) ** 2 / expected).sum())
    df = (len(order) - 1) * (len(labels) - 1)
    return Result(name, value, float(df), chi_square_tail(value, df) if df else 1.0)


def chi_square_tail(value: float, df: float) -> float:
    """Give the probability that a chi-square variable is larger than a value.

    It is the upper regularized incomplete gamma function Q(df/2, value/2): by its series below
    the mean, by Legendre's continued fraction above it [Gautschi, "A computational procedure for
    incomplete gamma functions", ACM TOMS 5, 1979; Lentz's evaluation].
    """
    a, x = df / 2, value / 2
    if math.isnan(x):
        return math.nan
    if x <= 0:
        return 1.0
    if math.isinf(x):
        return 0.0
    front = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1:
        term = total = 1 / a
        for n in range(1, _TERMS_MAX):
            term *= x / (a + n)
            total += term
            if term < total * _PRECISION:
                break
        return max(0.0, 1 - front * total)
    tiny = 1e-300
    b = x + 1 - a
    c, d = 1 / tiny, 1 / b
    h = d
    for n in range(1, _TERMS_MAX):
        an = -n * (n - a)
        b += 2
        d = 1 / ((an * d + b) or tiny)
        c = (b + an / c) or tiny
        h *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return front * h


# --- selection ---


def select(params: Params) -> Any:
    """Make the selection of the columns that depend most on the label.

    ``selectorType`` NumTopFeatures and PERCENTILE take the least p-values, FPR those below
    ``fpr``, FDR those of the procedure of Benjamini and Hochberg (1995), FWE those below
    ``fwe`` divided by the number of columns.
    """

    def run(rows: Group) -> pa.Table:
        results = tests(rows, params)
        order = sorted(range(len(results)), key=lambda i: (results[i].p, -results[i].value))
        p = np.array([results[i].p for i in order])
        chosen = order[: _SELECTORS[params["selectorType"].upper()](p, params)]
        content = {
            "chiSqs": [json.loads(result.to_json()) for result in results],
            "siftOutColNames": [results[i].column for i in chosen],
            "colNames": params.get("selectedCols"),
            **{name: params[name] for name in _SELECTION},
        }
        return write_model(Model({}, [json.dumps(content, ensure_ascii=False)]))

    return run


_SELECTION = ("selectorType", "numTopFeatures", "percentile", "fpr", "fdr", "fwe")
_P = npt.NDArray[np.float64]


def _discoveries(p: _P, params: Params) -> int:
    below = np.flatnonzero(p <= params["fdr"] * np.arange(1, len(p) + 1) / max(len(p), 1))
    return int(below[-1]) + 1 if len(below) else 0


#: How many of rising p-values are chosen.
_SELECTORS: dict[str, Callable[[_P, Params], int]] = {
    "NUMTOPFEATURES": lambda p, params: params["numTopFeatures"],
    "PERCENTILE": lambda p, params: max(int(len(p) * params["percentile"]), 1),
    "FPR": lambda p, params: int((p < params["fpr"]).sum()),
    "FDR": _discoveries,
    "FWE": lambda p, params: int((p < params["fwe"] / max(len(p), 1)).sum()),
}
