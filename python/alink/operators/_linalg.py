"""Vectors and matrices of doubles, as programs make and read them."""

from __future__ import annotations

import math
import random
import sys
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO

import numpy as np

from alink._algorithms._strings import (
    Unreadable,
    format_dense,
    format_sparse,
    java_double,
    parse_vector,
)
from alink._options import bad_option

_SHOWN = 3  # values of a vector in a short form


class Display(ABC):
    """A value of a cell that is written for people."""

    @abstractmethod
    def toDisplaySummary(self) -> str:
        """Give its kind and size."""

    @abstractmethod
    def toDisplayData(self, n: int | None = None) -> str:
        """Give its values; of many only about so many, and dots for the others."""

    @abstractmethod
    def toShortDisplayData(self) -> str:
        """Give a few of its values."""

    def print(self, n: int | None = None, file: TextIO | None = None) -> None:
        """Print its values."""
        print(self.toDisplayData(n), file=file or sys.stdout)


class Vector(Display):
    """A vector of doubles."""

    @abstractmethod
    def size(self) -> int:
        """Give the size; -1 where it is not known."""

    @abstractmethod
    def get(self, i: int) -> float:
        """Give the value at an index, counted from 0."""

    @abstractmethod
    def set(self, i: int, val: float) -> None:
        """Set the value at an index."""

    @abstractmethod
    def to_cell(self) -> dict[str, Any]:
        """Give the vector as a column has it."""

    @abstractmethod
    def pairs(self) -> Iterator[tuple[int, float]]:
        """Give the indices and the values that the vector has."""

    @abstractmethod
    def _all(self) -> list[float]:
        """Give all values, with zeros where none is given."""

    @abstractmethod
    def _same(self, values: Sequence[float]) -> Any:
        """Give a vector of the same kind and indices with other values."""

    @abstractmethod
    def _replace(self, values: Sequence[float]) -> None:
        """Take other values at the same indices."""

    @abstractmethod
    def slice(self, indexes: Sequence[int]) -> Any:
        """Give the vector of the values at some indices, in their order."""

    @abstractmethod
    def prefix(self, v: float) -> Any:
        """Give the vector with a value before the first one."""

    @abstractmethod
    def append(self, v: float) -> Any:
        """Give the vector with a value behind the last one."""

    @abstractmethod
    def plus(self, vec: Vector) -> Any:
        """Give the sum of two vectors."""

    def add(self, i: int, val: float) -> None:
        """Add to the value at an index."""
        self.set(i, self.get(i) + val)

    def minus(self, vec: Vector) -> Any:
        """Give the difference of two vectors."""
        return self.plus(vec.scale(-1.0))

    def dot(self, vec: Vector) -> float:
        """Give the sum of the products of values."""
        _check_sizes("dot", self, vec)
        if isinstance(self, DenseVector):
            return math.fsum(self.get(i) * v for i, v in vec.pairs())
        return math.fsum(v * vec.get(i) for i, v in self.pairs())

    def outer(self, other: Vector | None = None) -> DenseMatrix:
        """Give the matrix of the products of each value with each, by default of itself."""
        given = self if other is None else other
        return DenseMatrix(np.outer(self._all(), given._all()))

    def scale(self, v: float) -> Any:
        """Give the vector times a number."""
        return self._same([value * v for _, value in self.pairs()])

    def scaleEqual(self, v: float) -> None:
        """Multiply the vector by a number."""
        self._replace([value * v for _, value in self.pairs()])

    def normL1(self) -> float:
        """Give the sum of absolute values."""
        return math.fsum(abs(value) for _, value in self.pairs())

    def normL2(self) -> float:
        """Give the root of the sum of squares."""
        return math.sqrt(self.normL2Square())

    def normL2Square(self) -> float:
        """Give the sum of squares."""
        return math.fsum(value * value for _, value in self.pairs())

    def normInf(self) -> float:
        """Give the largest absolute value."""
        return max((abs(value) for _, value in self.pairs()), default=0.0)

    def normalizeEqual(self, p: float) -> None:
        """Divide the vector by its p-norm; a vector of zeros becomes NaN."""
        if math.isinf(p):
            norm = self.normInf()
        elif p == 2:
            norm = self.normL2()
        else:
            norm = math.fsum(abs(value) ** p for _, value in self.pairs()) ** (1 / p)
        self._replace([value / norm if norm else math.nan for _, value in self.pairs()])

    def standardizeEqual(self, mean: float, stdvar: float) -> None:
        """Subtract a mean of the values that the vector has, and divide by a deviation."""
        if stdvar == 0:
            raise bad_option("Vector", "standardizeEqual: the standard deviation is 0")
        self._replace([(value - mean) / stdvar for _, value in self.pairs()])

    def clone(self) -> Any:
        """Give a copy."""
        return self._same([value for _, value in self.pairs()])

    def iterator(self) -> VectorIterator:
        """Give what goes through the indices and values."""
        return VectorIterator(list(self.pairs()))

    def toShortDisplayData(self) -> str:
        """Give a few of the values."""
        return self.toDisplayData(_SHOWN)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vector) and self.to_cell() == other.to_cell()

    def __hash__(self) -> int:
        return hash(str(self))


class VectorIterator:
    """Goes through the indices and values of a vector.

    Parameters
    ----------
    pairs : sequence of (index, value)
    """

    def __init__(self, pairs: Sequence[tuple[int, float]]) -> None:
        self._pairs = pairs
        self._at = 0

    def hasNext(self) -> bool:
        """Tell whether there is a value here."""
        return self._at < len(self._pairs)

    def next(self) -> None:
        """Go on to the next value."""
        self._at += 1

    def getIndex(self) -> int:
        """Give the index of the value here."""
        return self._here()[0]

    def getValue(self) -> float:
        """Give the value here."""
        return self._here()[1]

    def _here(self) -> tuple[int, float]:
        if not self.hasNext():
            raise bad_option("VectorIterator", "there are no more values in the vector")
        return self._pairs[self._at]


class DenseVector(Vector):
    """A vector that has all of its values.

    Parameters
    ----------
    values : iterable of float, or int
        A number is the size of a vector of zeros.
    """

    def __init__(self, values: Iterable[float] | int = ()) -> None:
        numbers = [0.0] * values if isinstance(values, int) else values
        self._values = [float(value) for value in numbers]

    @staticmethod
    def parse(text: str) -> DenseVector:
        """Read a vector, ``"1.0 2.5"``."""
        size, indices, values = parse_vector(text)
        if indices is not None and (size >= 0 or values):
            raise Unreadable(f"{text!r:.80} is a sparse vector")
        return DenseVector(values)

    @staticmethod
    def zeros(n: int) -> DenseVector:
        """Give a vector of zeros."""
        return DenseVector(n)

    @staticmethod
    def ones(n: int) -> DenseVector:
        """Give a vector of ones."""
        return DenseVector([1.0] * n)

    @staticmethod
    def rand(n: int) -> DenseVector:
        """Give a vector of random numbers from 0 to 1."""
        return DenseVector(random.random() for _ in range(n))

    def size(self) -> int:
        """Give the size."""
        return len(self._values)

    def get(self, i: int) -> float:
        """Give the value at an index, counted from 0."""
        return self._values[self._index(i)]

    def set(self, i: int, val: float) -> None:
        """Set the value at an index."""
        self._values[self._index(i)] = float(val)

    def _index(self, i: int) -> int:
        if not 0 <= i < len(self._values):
            raise bad_option(
                "DenseVector", f"there is no index {i} in a vector of size {len(self._values)}"
            )
        return i

    def getData(self) -> list[float]:
        """Give the values."""
        return list(self._values)

    def setData(self, data: Iterable[float]) -> None:
        """Take other values."""
        self._values = [float(value) for value in data]

    def setEqual(self, other: DenseVector) -> None:
        """Take the values of a vector of the same size."""
        _check_sizes("setEqual", self, other)
        self._values = other.getData()

    def plus(self, vec: Vector) -> DenseVector:
        """Give the sum of two vectors."""
        made = DenseVector(self._values)
        made.plusScaleEqual(vec, 1.0)
        return made

    def plusEqual(self, other: Vector) -> None:
        """Add a vector to this one."""
        self.plusScaleEqual(other, 1.0)

    def minusEqual(self, other: Vector) -> None:
        """Subtract a vector from this one."""
        self.plusScaleEqual(other, -1.0)

    def plusScaleEqual(self, other: Vector, alpha: float) -> None:
        """Add a number times a vector to this one."""
        _check_sizes("plus", self, other)
        for i, value in list(other.pairs()):
            self.add(i, alpha * value)

    def slice(self, indexes: Sequence[int]) -> DenseVector:
        """Give the vector of the values at some indices, in their order."""
        return DenseVector(map(self.get, indexes))

    def prefix(self, v: float) -> DenseVector:
        """Give the vector with a value before the first one."""
        return DenseVector([v, *self._values])

    def append(self, v: float) -> DenseVector:
        """Give the vector with a value behind the last one."""
        return DenseVector([*self._values, v])

    def toSparseVector(self) -> SparseVector:
        """Give the vector of the values that are not zero."""
        some = [(i, value) for i, value in self.pairs() if value != 0]
        return SparseVector(len(self._values), [i for i, _ in some], [v for _, v in some])

    def pairs(self) -> Iterator[tuple[int, float]]:
        """Give the indices and the values."""
        return enumerate(self._values)

    def _all(self) -> list[float]:
        return self._values

    def _same(self, values: Sequence[float]) -> DenseVector:
        return DenseVector(values)

    def _replace(self, values: Sequence[float]) -> None:
        self._values = list(values)

    def toDisplaySummary(self) -> str:
        """Give the kind and size of the vector."""
        return f"DenseVector(size = {len(self._values)})"

    def toDisplayData(self, n: int | None = None) -> str:
        """Give the values; of more than n those at the ends, behind the size."""
        if n is None or n < 0 or len(self._values) <= n:
            return format_dense(self._values)
        return f"${len(self._values)}$" + _ends([java_double(v) for v in self._values], n)

    def to_cell(self) -> dict[str, Any]:
        """Give the vector as a column has it."""
        return {"size": len(self._values), "indices": None, "values": self._values}

    def __len__(self) -> int:
        return len(self._values)

    def __str__(self) -> str:
        return format_dense(self._values)

    def __repr__(self) -> str:
        return f"DenseVector({self._values})"


class SparseVector(Vector):
    """A vector of which the values that are not zero are given.

    Parameters
    ----------
    size : int, default -1
        -1 where it is not known.
    indices : iterable of int
        Or a dict of the values by their indices.
    values : iterable of float
        As many as indices.
    """

    def __init__(
        self,
        size: int = -1,
        indices: Iterable[int] | Mapping[int, float] = (),
        values: Iterable[float] = (),
    ) -> None:
        if isinstance(indices, Mapping):
            indices, values = indices.keys(), indices.values()
        places, numbers = [int(i) for i in indices], [float(v) for v in values]
        if len(places) != len(numbers):
            raise bad_option(
                "SparseVector", f"SparseVector: {len(places)} indices and {len(numbers)} values"
            )
        pairs = sorted(zip(places, numbers, strict=True), key=lambda pair: pair[0])
        self._size = size
        self._indices = [index for index, _ in pairs]
        self._values = [value for _, value in pairs]
        for index in (self._indices[:1] + self._indices[-1:]) if pairs else ():
            self._check(index)

    @staticmethod
    def parse(text: str) -> SparseVector:
        """Read a vector, ``"$4$1:2.5 3:1.0"``."""
        size, indices, values = parse_vector(text)
        if indices is None:
            raise Unreadable(f"{text!r:.80} is a dense vector")
        return SparseVector(size, indices, values)

    def _check(self, index: int) -> None:
        if index < 0 or 0 <= self._size <= index:
            raise bad_option(
                "SparseVector", f"SparseVector: index {index} is beyond size {self._size}"
            )

    def size(self) -> int:
        """Give the size; -1 where it is not known."""
        return self._size

    def setSize(self, n: int) -> None:
        """Set the size."""
        self._size = n

    def get(self, i: int) -> float:
        """Give the value at an index, counted from 0."""
        at = bisect_left(self._indices, i)
        known = at < len(self._indices) and self._indices[at] == i
        return self._values[at] if known else 0.0

    def set(self, i: int, val: float) -> None:
        """Set the value at an index."""
        self._check(i)
        at = bisect_left(self._indices, i)
        if at < len(self._indices) and self._indices[at] == i:
            self._values[at] = float(val)
        else:
            self._indices.insert(at, i)
            self._values.insert(at, float(val))

    def getIndices(self) -> list[int]:
        """Give the indices of the values."""
        return list(self._indices)

    def getValues(self) -> list[float]:
        """Give the values."""
        return list(self._values)

    def numberOfValues(self) -> int:
        """Tell how many values are given."""
        return len(self._values)

    def removeZeroValues(self) -> None:
        """Leave out values that are zero."""
        some = [(i, value) for i, value in self.pairs() if value != 0]
        self._indices, self._values = [i for i, _ in some], [v for _, v in some]

    def forEach(self, action: Callable[[int, float], Any]) -> None:
        """Call a function with each index and value."""
        for index, value in self.pairs():
            action(index, value)

    def plus(self, vec: Vector) -> Vector:
        """Give the sum of two vectors: sparse, if both are."""
        _check_sizes("plus", self, vec)
        if isinstance(vec, DenseVector):
            return vec.plus(self)
        made = SparseVector(max(self._size, vec.size()), self._indices, self._values)
        for i, value in vec.pairs():
            made.add(i, value)
        return made

    def slice(self, indexes: Sequence[int]) -> SparseVector:
        """Give the vector of the values at some indices, in their order."""
        for index in indexes:
            self._check(index)
        known = {*self._indices}
        some = [(place, i) for place, i in enumerate(indexes) if i in known]
        return SparseVector(len(indexes), [p for p, _ in some], [self.get(i) for _, i in some])

    def prefix(self, v: float) -> SparseVector:
        """Give the vector with a value before the first one."""
        size = self._size + 1 if self._size >= 0 else -1
        return SparseVector(size, [0, *(i + 1 for i in self._indices)], [v, *self._values])

    def append(self, v: float) -> SparseVector:
        """Give the vector with a value behind the last one."""
        if self._size < 0:
            raise bad_option(
                "SparseVector",
                "SparseVector: what has no size has no place behind its last value",
                "set it with setSize(n)",
            )
        return SparseVector(self._size + 1, [*self._indices, self._size], [*self._values, v])

    def toDenseVector(self) -> DenseVector:
        """Give the vector with all of its values; without a size it ends with the last one."""
        made = DenseVector(self._size if self._size >= 0 else max(self._indices, default=-1) + 1)
        for i, value in self.pairs():
            made.set(i, value)
        return made

    def pairs(self) -> Iterator[tuple[int, float]]:
        """Give the indices and the values that are given."""
        return zip(self._indices, self._values, strict=True)

    def _all(self) -> list[float]:
        return self.toDenseVector().getData()

    def _same(self, values: Sequence[float]) -> SparseVector:
        return SparseVector(self._size, self._indices, values)

    def _replace(self, values: Sequence[float]) -> None:
        self._values = list(values)

    def toDisplaySummary(self) -> str:
        """Give the kind and size of the vector, and how many values are given."""
        return f"SparseVector(size = {self._size}, nnz = {len(self._values)})"

    def toDisplayData(self, n: int | None = None) -> str:
        """Give the values; of more than n those at the ends."""
        parts = [f"{i}:{java_double(value)}" for i, value in self.pairs()]
        return " ".join(parts) if n is None or n < 0 or len(parts) <= n else _ends(parts, n)

    def to_cell(self) -> dict[str, Any]:
        """Give the vector as a column has it."""
        return {"size": self._size, "indices": self._indices, "values": self._values}

    def __str__(self) -> str:
        return format_sparse(self._size, self._indices, self._values)

    def __repr__(self) -> str:
        return f"SparseVector({self._size}, {self._indices}, {self._values})"


def _ends(parts: Sequence[str], n: int) -> str:
    """Give so many of the texts, from both ends, with dots between them."""
    last = n // 2
    return " ".join([*parts[: n - last], "...", *parts[len(parts) - last :]])


def _check_sizes(what: str, one: Vector, other: Any) -> None:
    if not isinstance(other, Vector):
        raise bad_option("Vector", f"{what} takes a vector, not {other!r:.60}")
    if one.size() != other.size() and min(one.size(), other.size()) >= 0:
        sizes = f"{one.size()} and {other.size()}"
        raise bad_option("Vector", f"{what}: the vectors have sizes {sizes}")


class VectorUtil:
    """Reads vectors of either kind."""

    @staticmethod
    def getVector(value: Any) -> Vector:
        """Read a vector: a text, a number, a list of numbers, or a vector."""
        if isinstance(value, Vector):
            return value
        if isinstance(value, (int, float)):
            return DenseVector([value])
        if not isinstance(value, str):
            return DenseVector(value)
        size, indices, values = parse_vector(value)
        return DenseVector(values) if indices is None else SparseVector(size, indices, values)

    @staticmethod
    def parse(text: str) -> Vector:
        """Read the text of a vector."""
        return VectorUtil.getVector(text)

    @staticmethod
    def toString(vector: Vector) -> str:
        """Write a vector so that it can be read again."""
        return str(vector)


def vector_cell(value: Any) -> dict[str, Any] | None:
    """Give what a program has for a vector as a column has it."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return VectorUtil.getVector(value).to_cell()


class DenseMatrix:
    """A matrix of doubles.

    Parameters
    ----------
    rows : sequence of sequences of float, or int
        The rows, or how many there are.
    columns : int, optional
        How many columns there are.
    data : sequence of float, optional
        The values, column by column; without them they are zeros.
    inRowMajor : bool, default False
        Whether `data` are row by row.
    """

    def __init__(
        self,
        rows: Any = (),
        columns: int | None = None,
        data: Sequence[float] | None = None,
        inRowMajor: bool = False,
    ) -> None:
        if isinstance(rows, int):
            count = rows * (columns or 0)
            given = np.zeros(count) if data is None else np.array(data, dtype=np.float64)
            if given.size != count:
                raise bad_option(
                    "DenseMatrix",
                    f"DenseMatrix: {given.size} values do not fill {rows} rows of {columns}",
                )
            order = "C" if inRowMajor else "F"
            self._values = given.reshape((rows, columns or 0), order=order).copy()
            return
        try:
            values = np.array([*rows], dtype=np.float64)
        except ValueError:
            raise bad_option(
                "DenseMatrix", "DenseMatrix: its rows are lists of numbers, all of one length"
            ) from None
        self._values: Any = values.reshape((0, 0)) if values.ndim < 2 else values

    @staticmethod
    def eye(m: int, n: int | None = None) -> DenseMatrix:
        """Give a matrix of ones on the diagonal and zeros beside it."""
        return DenseMatrix(np.eye(m, n))

    @staticmethod
    def zeros(m: int, n: int) -> DenseMatrix:
        """Give a matrix of zeros."""
        return DenseMatrix(m, n)

    @staticmethod
    def ones(m: int, n: int) -> DenseMatrix:
        """Give a matrix of ones."""
        return DenseMatrix(m, n, [1.0] * (m * n))

    @staticmethod
    def rand(m: int, n: int) -> DenseMatrix:
        """Give a matrix of random numbers from 0 to 1."""
        return DenseMatrix(m, n, [random.random() for _ in range(m * n)])

    @staticmethod
    def randSymmetric(n: int) -> DenseMatrix:
        """Give a symmetric matrix of random numbers from 0 to 1."""
        upper = np.triu(DenseMatrix.rand(n, n)._values)
        return DenseMatrix(upper + np.triu(upper, 1).T)

    def numRows(self) -> int:
        """Give the number of rows."""
        return self._values.shape[0]

    def numCols(self) -> int:
        """Give the number of columns."""
        return self._values.shape[1]

    def get(self, i: int, j: int) -> float:
        """Give the value of a row and a column, counted from 0."""
        return float(self._values[self._place(i, j)])

    def set(self, i: int, j: int, s: float) -> None:
        """Set the value of a row and a column."""
        self._values[self._place(i, j)] = s

    def add(self, i: int, j: int, s: float) -> None:
        """Add to the value of a row and a column."""
        self._values[self._place(i, j)] += s

    def _place(self, i: int, j: int) -> tuple[int, int]:
        if not (0 <= i < self.numRows() and 0 <= j < self.numCols()):
            raise self._refused(f"there is no row {i} with a column {j}")
        return i, j

    def _refused(self, why: str) -> Exception:
        size = f"a matrix of {self.numRows()} rows and {self.numCols()} columns"
        return bad_option("DenseMatrix", f"DenseMatrix: {why} in {size}")

    def getRow(self, row: int) -> list[float]:
        """Give a row."""
        return self._values[self._place(row, 0)[0]].tolist()

    def getColumn(self, col: int) -> list[float]:
        """Give a column."""
        return self._values[:, self._place(0, col)[1]].tolist()

    def getData(self) -> list[float]:
        """Give the values, column by column."""
        return self.getArrayCopy1D(False)

    def getArrayCopy1D(self, inRowMajor: bool) -> list[float]:
        """Give the values, row by row or column by column."""
        return self._values.flatten("C" if inRowMajor else "F").tolist()

    def getArrayCopy2D(self) -> list[list[float]]:
        """Give the values, row by row."""
        return self._values.tolist()

    def selectRows(self, rows: Sequence[int]) -> DenseMatrix:
        """Give the matrix of some rows, in their order."""
        return DenseMatrix([self.getRow(row) for row in rows])

    def getSubMatrix(self, m0: int, m1: int, n0: int, n1: int) -> DenseMatrix:
        """Give rows m0 to m1 and columns n0 to n1, the ends excluded."""
        self._check_range(m0, m1, n0, n1)
        return DenseMatrix(m1 - m0, n1 - n0, self._values[m0:m1, n0:n1].flatten("F").tolist())

    def setSubMatrix(self, sub: DenseMatrix, m0: int, m1: int, n0: int, n1: int) -> None:
        """Set rows m0 to m1 and columns n0 to n1, the ends excluded."""
        self._check_range(m0, m1, n0, n1)
        self._values[m0:m1, n0:n1] = sub._values

    def _check_range(self, m0: int, m1: int, n0: int, n1: int) -> None:
        if not (0 <= m0 <= m1 <= self.numRows() and 0 <= n0 <= n1 <= self.numCols()):
            raise self._refused(f"there are no rows {m0} to {m1} with columns {n0} to {n1}")

    def isSquare(self) -> bool:
        """Tell whether there are as many rows as columns."""
        return self.numRows() == self.numCols()

    def isSymmetric(self) -> bool:
        """Tell whether the matrix is its own transpose."""
        return self.isSquare() and bool((self._values == self._values.T).all())

    def clone(self) -> DenseMatrix:
        """Give a copy."""
        return DenseMatrix(self.numRows(), self.numCols(), self.getData())

    def sum(self) -> float:
        """Give the sum of all values."""
        return float(self._values.sum())

    def scale(self, v: float) -> DenseMatrix:
        """Give the matrix times a number."""
        return self._of(self._values * v)

    def scaleEqual(self, v: float) -> None:
        """Multiply the matrix by a number."""
        self._values *= v

    def plus(self, alpha_or_mat: float | DenseMatrix) -> DenseMatrix:
        """Give the sum with a matrix, or with a number at each place."""
        return self._of(self._values + self._operand(alpha_or_mat))

    def plusEquals(self, alpha_or_mat: float | DenseMatrix) -> None:
        """Add a matrix, or a number at each place."""
        self._values += self._operand(alpha_or_mat)

    def minus(self, mat: DenseMatrix) -> DenseMatrix:
        """Give the difference with a matrix."""
        return self._of(self._values - self._operand(mat))

    def minusEquals(self, mat: DenseMatrix) -> None:
        """Subtract a matrix."""
        self._values -= self._operand(mat)

    def _operand(self, given: float | DenseMatrix) -> Any:
        if not isinstance(given, DenseMatrix):
            return given
        if given._values.shape != self._values.shape:
            raise self._refused(f"no matrix of {given.numRows()} × {given.numCols()} is added")
        return given._values

    def multiplies(self, vec_or_mat: Any) -> Any:
        """Give the product with a vector or a matrix."""
        other, back = self._columns(vec_or_mat, self.numCols())
        return back(self._values @ other)

    def transpose(self) -> DenseMatrix:
        """Give the matrix with rows as columns."""
        return DenseMatrix(self.numCols(), self.numRows(), self.getArrayCopy1D(True))

    def norm2(self) -> float:
        """Give the largest singular value."""
        return float(np.linalg.norm(self._values, 2)) if self._values.size else 0.0

    def cond(self) -> float:
        """Give the largest singular value over the least one."""
        return float(np.linalg.cond(self._values))

    def det(self) -> float:
        """Give the determinant."""
        self._check_square("determinant")
        return float(np.linalg.det(self._values))

    def rank(self) -> int:
        """Tell how many rows are independent."""
        return int(np.linalg.matrix_rank(self._values))

    def inverse(self) -> DenseMatrix:
        """Give the inverse."""
        self._check_square("inverse")
        return self._of(self._regular(np.linalg.inv, self._values))

    def pseudoInverse(self) -> DenseMatrix:
        """Give the inverse of Moore and Penrose."""
        return self._of(np.linalg.pinv(self._values))

    def solve(self, vec_or_mat: Any) -> Any:
        """Solve for a vector or a matrix, exactly; by least squares where it is not square."""
        if not self.isSquare():
            return self.solveLS(vec_or_mat)
        other, back = self._columns(vec_or_mat, self.numRows())
        return back(self._regular(np.linalg.solve, self._values, other))

    def solveLS(self, vec_or_mat: Any) -> Any:
        """Solve for a vector or a matrix by least squares, with the least norm."""
        other, back = self._columns(vec_or_mat, self.numRows())
        return back(np.linalg.lstsq(self._values, other, rcond=None)[0])

    def _check_square(self, what: str) -> None:
        if not self.isSquare():
            raise self._refused(f"there is no {what}")

    def _regular(self, function: Callable[..., Any], *given: Any) -> Any:
        try:
            return function(*given)
        except np.linalg.LinAlgError:
            raise bad_option(
                "DenseMatrix",
                "DenseMatrix: the matrix is singular",
                "solveLS and pseudoInverse take any matrix",
            ) from None

    def _columns(self, given: Any, size: int) -> tuple[Any, Callable[[Any], Any]]:
        """Give an operand as an array, and what makes its kind of a result."""
        if isinstance(given, DenseMatrix):
            array, back = given._values, self._of
        elif isinstance(given, Vector):
            array, back = np.array(given._all()), DenseVector
        else:
            raise self._refused(f"no {type(given).__name__} is an operand")
        if len(array) != size:
            raise self._refused(f"no operand of {len(array)} rows fits")
        return array, back

    @staticmethod
    def _of(values: Any) -> DenseMatrix:
        made = DenseMatrix()
        made._values = values
        return made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DenseMatrix) and np.array_equal(self._values, other._values)

    def __hash__(self) -> int:
        return hash(str(self))

    def __str__(self) -> str:
        lines = [",".join(map(java_double, row)) for row in self.getArrayCopy2D()]
        head = f"mat[{self.numRows()},{self.numCols()}]:\n"
        return head + "".join(f"  {line}\n" for line in lines)
