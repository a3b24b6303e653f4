"""What statistics give a program: summaries, correlations and tests, with PyAlink's methods."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import pyarrow as pa

from alink._algorithms._models import read_model
from alink._diag import did_you_mean, quote
from alink._options import bad_option
from alink.operators._linalg import DenseMatrix, DenseVector, SparseVector, Vector

_COLUMNS_MIN = 11  # so many columns at each end are shown at least
_EDGE_MAX = 20  # of a table's rows and columns, so many at each end are shown


class TableSummary:
    """The summary of columns.

    A column without numbers has counts only, its other values are NaN. NULL and NaN are missing.
    """

    def __init__(self, model: pa.Table) -> None:
        content = json.loads(read_model(model).data[0])
        self._count: int = content["count"]
        self._columns: dict[str, dict[str, Any]] = content["columns"]

    def getColNames(self) -> list[str]:
        """Give the names of the columns."""
        return list(self._columns)

    def count(self) -> int:
        """Give the number of rows."""
        return self._count

    def numMissingValue(self, colName: str) -> int:
        """Give the number of rows in which a column is NULL or NaN."""
        return self._column(colName)["missing"]

    def numValidValue(self, colName: str) -> int:
        """Give the number of rows in which a column has a value."""
        return self._count - self.numMissingValue(colName)

    def sum(self, colName: str) -> float:
        """Give the sum of a column, 0 where it has no values."""
        return self._column(colName).get("sum", math.nan)

    def mean(self, colName: str) -> float:
        """Give the mean of a column."""
        return self._value(colName, "mean")

    def variance(self, colName: str) -> float:
        """Give the variance of a sample, with n - 1 in the denominator; 0 of one value."""
        moment = self._column(colName).get("moment2", math.nan)
        return moment / max(self.numValidValue(colName) - 1, 1)

    def standardDeviation(self, colName: str) -> float:
        """Give the standard deviation of a sample."""
        return math.sqrt(self.variance(colName))

    def standardError(self, colName: str) -> float:
        """Give the standard error of the mean."""
        return _ratio(self.standardDeviation(colName), math.sqrt(self.numValidValue(colName)))

    def cv(self, colName: str) -> float:
        """Give the coefficient of variation: the standard deviation divided by the mean."""
        return _ratio(self.standardDeviation(colName), self.mean(colName))

    def min(self, colName: str) -> Any:
        """Give the least value."""
        return self._value(colName, "min")

    def max(self, colName: str) -> Any:
        """Give the largest value."""
        return self._value(colName, "max")

    def minDouble(self, colName: str) -> float:
        """Give the least value as a float."""
        return float(self.min(colName))

    def maxDouble(self, colName: str) -> float:
        """Give the largest value as a float."""
        return float(self.max(colName))

    def normL1(self, colName: str) -> float:
        """Give the sum of absolute values."""
        return self._value(colName, "normL1")

    def normL2(self, colName: str) -> float:
        """Give the root of the sum of squares."""
        return math.sqrt(self._value(colName, "squareSum"))

    def centralMoment2(self, colName: str) -> float:
        """Give the mean square about the mean."""
        return _ratio(self._value(colName, "moment2"), self.numValidValue(colName))

    def centralMoment3(self, colName: str) -> float:
        """Give the mean third power about the mean."""
        return _ratio(self._value(colName, "moment3"), self.numValidValue(colName))

    def centralMoment4(self, colName: str) -> float:
        """Give the mean fourth power about the mean."""
        return _ratio(self._value(colName, "moment4"), self.numValidValue(colName))

    def skewness(self, colName: str) -> float:
        """Give the skewness, of the whole and not of a sample; NaN of a column of one value."""
        return _ratio(self.centralMoment3(colName), self.centralMoment2(colName) ** 1.5)

    def kurtosis(self, colName: str) -> float:
        """Give the excess kurtosis: 0 of a normal distribution."""
        return _ratio(self.centralMoment4(colName), self.centralMoment2(colName) ** 2) - 3

    def _column(self, name: str) -> dict[str, Any]:
        if name not in self._columns:
            for known in self._columns:
                if known.lower() == name.lower():
                    return self._columns[known]
            raise bad_option(
                "TableSummary",
                f"the summary has no column {quote(name)}",
                did_you_mean(name, "its columns", list(self._columns)),
            )
        return self._columns[name]

    def _value(self, name: str, what: str) -> Any:
        return self._column(name).get(what, math.nan) if self.numValidValue(name) else math.nan

    def __str__(self) -> str:
        heads = ["colName", "count", "missing", "sum", "mean", "variance", "min", "max"]
        rows = [
            [
                name,
                self.count(),
                self.numMissingValue(name),
                self.sum(name),
                self.mean(name),
                self.variance(name),
                self.min(name),
                self.max(name),
            ]
            for name in self._columns
        ]
        return "Summary: \n" + format_table(rows, heads, edge=len(rows))


class BaseVectorSummary:
    """The summary of vectors: a vector of a value for each index, or the value at one index."""

    def __init__(self, content: dict[str, Any]) -> None:
        self._content = content

    def count(self) -> int:
        """Give the number of vectors."""
        return self._content["count"]

    def vectorSize(self) -> int:
        """Give the size of the vectors."""
        return len(self._content["sum"])

    def sum(self, idx: int | None = None) -> Any:
        """Give the sums."""
        return self._given(self._content["sum"], idx)

    def mean(self, idx: int | None = None) -> Any:
        """Give the means."""
        return self._given(self._content["mean"], idx)

    def variance(self, idx: int | None = None) -> Any:
        """Give the variances of a sample, with n - 1 in the denominator."""
        return self._given(self._variances(), idx)

    def standardDeviation(self, idx: int | None = None) -> Any:
        """Give the standard deviations of a sample."""
        return self._given([math.sqrt(value) for value in self._variances()], idx)

    def min(self, idx: int | None = None) -> Any:
        """Give the least values."""
        return self._given(self._content["min"], idx)

    def max(self, idx: int | None = None) -> Any:
        """Give the largest values."""
        return self._given(self._content["max"], idx)

    def normL1(self, idx: int | None = None) -> Any:
        """Give the sums of absolute values."""
        return self._given(self._content["normL1"], idx)

    def normL2(self, idx: int | None = None) -> Any:
        """Give the roots of the sums of squares."""
        return self._given([math.sqrt(value) for value in self._content["squareSum"]], idx)

    def _variances(self) -> list[float]:
        return [moment / max(self.count() - 1, 1) for moment in self._content["moment2"]]

    def _given(self, values: Sequence[float], idx: int | None) -> Any:
        return self._vector(values) if idx is None else values[idx]

    def _vector(self, values: Sequence[float]) -> Vector:
        return DenseVector(values)

    def __str__(self) -> str:
        columns: dict[str, Callable[[int], float]] = {
            "sum": self.sum,
            "mean": self.mean,
            "variance": self.variance,
            "stdDev": self.standardDeviation,
            "min": self.min,
            "max": self.max,
            "normL1": self.normL1,
            "normL2": self.normL2,
        }
        size = self.vectorSize()
        rows = [[self.count(), *(get(i) for get in columns.values())] for i in range(size)]
        names = [str(i) for i in range(size)]
        table = format_table(rows, ["count", *columns], names, "id", edge=100)
        return f"{type(self).__name__}:\n{table}"


class DenseVectorSummary(BaseVectorSummary):
    """The summary of dense vectors."""


class SparseVectorSummary(BaseVectorSummary):
    """The summary of vectors of which some are sparse; what they do not name is 0."""

    def numNonZero(self, idx: int | None = None) -> Any:
        """Give how many values are not 0."""
        counts = [float(count) for count in self._content["numNonZero"]]
        return DenseVector(counts) if idx is None else counts[idx]

    def _vector(self, values: Sequence[float]) -> Vector:
        some = [i for i, count in enumerate(self._content["numNonZero"]) if count]
        return SparseVector(len(values), some, [values[i] for i in some])


def vector_summary(model: pa.Table) -> BaseVectorSummary:
    """Read the summary of vectors."""
    content = json.loads(read_model(model).data[0])
    return (SparseVectorSummary if content["sparse"] else DenseVectorSummary)(content)


class CorrelationResult:
    """Correlations of columns, or of the values of vectors."""

    def __init__(self, model: pa.Table) -> None:
        content = read_model(model)
        self._names: list[str] | None = content.meta.get("selectedCols")
        self._matrix = [json.loads(row) for row in content.data]

    def getCorrelation(self) -> list[list[float]]:
        """Give the correlations, row by row."""
        return [list(row) for row in self._matrix]

    def getCorrelationMatrix(self) -> DenseMatrix:
        """Give the correlations as a matrix."""
        return DenseMatrix(self._matrix)

    def getColNames(self) -> list[str] | None:
        """Give the names of the columns; None of vectors."""
        return None if self._names is None else list(self._names)

    def __str__(self) -> str:
        names = self._names or [str(i) for i in range(len(self._matrix))]
        return "Correlation:\n" + format_table(self._matrix, names, names, "colName", _EDGE_MAX)


class ChiSquareTestResult:
    """What the test of a column says."""

    def __init__(self, colName: str, value: float, df: float, p: float) -> None:
        self._name = colName
        self._value, self._df, self._p = value, df, p

    def getColName(self) -> str:
        """Give the column's name, or of vectors the index."""
        return self._name

    def setColName(self, colName: str) -> ChiSquareTestResult:
        """Set the column's name; returns the result."""
        self._name = colName
        return self

    def getValue(self) -> float:
        """Give the statistic."""
        return self._value

    def getDf(self) -> float:
        """Give the degrees of freedom."""
        return self._df

    def getP(self) -> float:
        """Give the p-value."""
        return self._p


class ChiSquareTestResults:
    """What the tests of columns, or of the indices of vectors, say."""

    def __init__(self, rows: pa.Table) -> None:
        texts = rows.column("chisquare_test").to_pylist()
        self._results = [ChiSquareTestResult(**json.loads(text)) for text in texts]

    def getResults(self) -> list[ChiSquareTestResult]:
        """Give the results of all tests."""
        return list(self._results)

    def getSelectedCols(self) -> list[str]:
        """Give the names of the columns."""
        return [result.getColName() for result in self._results]

    def getResult(self, colName: str) -> ChiSquareTestResult:
        """Give the result of a column."""
        for result in self._results:
            if result.getColName().lower() == colName.lower():
                return result
        raise bad_option(
            "ChiSquareTestResults",
            f"there is no test of {quote(colName)}",
            did_you_mean(colName, "what is tested", self.getSelectedCols()),
        )

    def __str__(self) -> str:
        rows = [[r.getP(), r.getValue(), r.getDf()] for r in self._results]
        names = self.getSelectedCols()
        return "ChiSquareTest:\n" + format_table(rows, ["p", "value", "df"], names, "col", 100)


def _ratio(value: float, divisor: float) -> float:
    return value / divisor if divisor else math.nan


def format_table(
    rows: Sequence[Sequence[Any]],
    heads: Sequence[str],
    names: Sequence[str] | None = None,
    corner: str = "",
    edge: int = _EDGE_MAX,
) -> str:
    """Write a table as PyAlink prints statistics, with at most four digits behind the point.

    Parameters
    ----------
    rows : sequence of sequences
    heads : sequence of str
        What stands above the columns.
    names : sequence of str, optional
        What stands before the rows, and `corner` above it.
    edge : int
        So many rows and columns at each end are shown.
    """
    columns = ends(len(heads), max(edge, _COLUMNS_MIN))
    places = ends(len(rows), edge)
    lines = [list(heads), *([format_number(value) for value in rows[i]] for i in places if i >= 0)]
    cells = [[line[j] if j >= 0 else "..." for j in columns] for line in lines]
    if names is not None:
        before = [corner, *(names[i] for i in places if i >= 0)]
        cells = [[name, *line] for name, line in zip(before, cells, strict=True)]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    head, *written = ["|".join(["", *map(str.rjust, line, widths), ""]) for line in cells]
    if -1 in places:
        written.insert(places.index(-1), "...")
    return "\n".join([head, "|".join(["", *("-" * width for width in widths), ""]), *written])


def ends(count: int, edge: int) -> list[int]:
    """Give the places that are shown, and -1 for those between them that are not."""
    if count <= 2 * edge:
        return list(range(count))
    return [*range(edge), -1, *range(count - edge, count)]


def format_number(value: Any) -> str:
    """Write a value as PyAlink prints statistics, with at most four digits behind the point."""
    if not isinstance(value, float):
        return "null" if value is None else str(value)
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "-∞"
    text = format(Decimal(value).quantize(Decimal("0.0001"), ROUND_HALF_EVEN), "f")
    return text.rstrip("0").rstrip(".")
