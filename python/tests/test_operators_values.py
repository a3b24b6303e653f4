"""Vectors, matrices, tensors and tables of cells: what programs of PyAlink do with them."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

import alink as al
from alink.operators import (
    BoolTensor,
    DenseMatrix,
    DenseVector,
    FloatTensor,
    IntTensor,
    MTable,
    SparseVector,
    StringTensor,
    Tensor,
    VectorUtil,
)

_LEFT = [1.0, -2.0, 0.0, 4.0]
_RIGHT = [0.5, 0.0, 3.0, -1.0]


def _forms(values: list[float]) -> list[Any]:
    dense = DenseVector(values)
    return [dense, dense.toSparseVector()]


@pytest.mark.parametrize("left", _forms(_LEFT))
@pytest.mark.parametrize("right", _forms(_RIGHT))
def test_vectors_are_added_and_multiplied_whatever_their_forms(left: Any, right: Any) -> None:
    a, b = np.array(_LEFT), np.array(_RIGHT)
    results = {"plus": a + b, "minus": a - b}
    for method, expected in results.items():
        found = getattr(left, method)(right)
        sparse = isinstance(left, SparseVector) and isinstance(right, SparseVector)
        assert isinstance(found, SparseVector) == sparse
        assert [found.get(i) for i in range(4)] == expected.tolist()
    assert left.dot(right) == a @ b
    assert left.outer(right).getArrayCopy2D() == np.outer(a, b).tolist()
    assert [left.get(i) for i in range(4)] == _LEFT, "the operands stay as they are"


@pytest.mark.parametrize("vector", _forms(_LEFT))
def test_norms_and_what_changes_a_vector(vector: Any) -> None:
    assert (vector.normL1(), vector.normL2Square(), vector.normInf()) == (7.0, 21.0, 4.0)
    assert vector.normL2() == math.sqrt(21)
    assert vector.scale(2.0).normL1() == 14.0
    other = vector.clone()
    other.scaleEqual(-1.0)
    assert (vector.get(3), other.get(3)) == (4.0, -4.0)
    for p in (1.0, 2.0, 3.0, math.inf):
        other = vector.clone()
        other.normalizeEqual(p)
        expected = np.array(_LEFT) / np.linalg.norm(_LEFT, p)
        assert np.allclose([other.get(i) for i in range(4)], expected)
    assert [vector.slice([3, 0, 2]).get(i) for i in range(3)] == [4.0, 1.0, 0.0]
    longer = vector.prefix(9.0).append(8.0)
    assert [longer.get(i) for i in range(6)] == [9.0, *_LEFT, 8.0]
    steps = vector.iterator()
    seen = {}
    while steps.hasNext():
        seen[steps.getIndex()] = steps.getValue()
        steps.next()
    assert {i: v for i, v in seen.items() if v} == {0: 1.0, 1: -2.0, 3: 4.0}


def test_vectors_are_made_as_in_java() -> None:
    assert DenseVector(3) == DenseVector.zeros(3) == DenseVector([0, 0, 0])
    assert DenseVector.ones(2).getData() == [1.0, 1.0]
    assert all(0 <= value < 1 for value in DenseVector.rand(50).getData())
    given = {8: 0.8, 1: 0.1}
    sparse = SparseVector(9, given.keys(), given.values())
    assert sparse == SparseVector(9, given) == VectorUtil.getVector("$9$1:0.1 8:0.8")
    assert (SparseVector().size(), SparseVector(5).size()) == (-1, 5)
    sparse.set(4, 0.0)
    assert sparse.numberOfValues() == 3
    sparse.removeZeroValues()
    assert sparse.getIndices() == [1, 8]
    assert SparseVector(-1, [2], [3.0]).toDenseVector().getData() == [0.0, 0.0, 3.0]


def test_vectors_are_shown_in_short() -> None:
    dense = DenseVector([1.0, 2.0, 3.0, 4.0, 5.0])
    assert dense.toDisplaySummary() == "DenseVector(size = 5)"
    assert dense.toDisplayData() == "1.0 2.0 3.0 4.0 5.0"
    assert dense.toShortDisplayData() == "$5$1.0 2.0 ... 5.0"
    sparse = dense.toSparseVector()
    assert sparse.toDisplaySummary() == "SparseVector(size = 5, nnz = 5)"
    assert sparse.toShortDisplayData() == "0:1.0 1:2.0 ... 4:5.0"


_ANY: Any = [1.0]
_REFUSED: list[tuple[Any, str]] = [
    (lambda: DenseVector([1.0]).get(1), "there is no index 1 in a vector of size 1"),
    (lambda: DenseVector([1.0]).plus(DenseVector(2)), "the vectors have sizes 1 and 2"),
    (lambda: DenseVector([1.0]).plus(_ANY), "plus takes a vector, not"),
    (lambda: SparseVector(2, [5], [1.0]), "index 5 is beyond size 2"),
    (lambda: SparseVector(2, [0, 1], [1.0]), "2 indices and 1 values"),
    (lambda: SparseVector().append(1.0), "what has no size"),
    (lambda: DenseMatrix([[1.0], [1.0, 2.0]]), "all of one length"),
    (lambda: DenseMatrix([[1.0]]).get(0, 3), "there is no row 0 with a column 3"),
    (lambda: DenseMatrix([[1.0, 2.0]]).inverse(), "there is no inverse"),
    (lambda: DenseMatrix([[0.0]]).inverse(), "the matrix is singular"),
    (lambda: DenseMatrix([[1.0]]).plus(DenseMatrix(2, 2)), "no matrix of 2 × 2 is added"),
    (lambda: DenseMatrix([[1.0]]).multiplies(DenseVector(2)), "no operand of 2 rows fits"),
    (lambda: Tensor.fromNdarray(np.zeros(2, "complex64")), "there are no tensors of complex64"),
    (lambda: IntTensor([2**40]), "IntTensor cannot be"),
    (lambda: IntTensor([1, 2]).mean(0, True), "IntTensor has no means"),
    (lambda: FloatTensor([1.0]).getFloat([1]), r"there is nothing at \[1\]"),
    (lambda: FloatTensor([1.0]).reshape([2, 2]), "1 values do not have the shape"),
    (lambda: FloatTensor([1.0]).min(1, False), "there is no dimension 1"),
    (lambda: Tensor([1.0]), r"Tensor.fromNdarray\(array\) makes tensors"),
    (lambda: StringTensor([1]), "StringTensor cannot have 1"),
    (lambda: MTable([[1]]), "MTable of rows needs schemaStr"),
    (lambda: _table().getEntry(9, 0), "there is no row 9 among 4"),
    (lambda: _table().select(["nx"]), "MTable: there is no column"),
    (lambda: _table().setEntry(0, 0, "a"), "column 'n' is INT, and cannot have 'a'"),
    (lambda: _table().orderBy(["n"], [True, False]), "2 orders for 1 columns"),
]


@pytest.mark.parametrize(("act", "sentence"), _REFUSED)
def test_what_does_not_fit_is_told_in_a_sentence(act: Any, sentence: str) -> None:
    with pytest.raises(al.PlanError, match=sentence):
        act()


def test_matrices() -> None:
    values = np.array([[2.0, 1.0, 0.5], [1.0, 3.0, -1.0], [0.0, 1.0, 4.0]])
    matrix = DenseMatrix(values.tolist())
    assert matrix.getData() == values.T.ravel().tolist()
    assert DenseMatrix(3, 3, matrix.getData()) == matrix
    assert DenseMatrix(3, 3, matrix.getArrayCopy1D(True), True) == matrix
    assert matrix.transpose().getArrayCopy2D() == values.T.tolist()
    assert matrix.multiplies(matrix).getArrayCopy2D() == (values @ values).tolist()
    for vector in _forms([1.0, 0.0, 2.0]):
        assert matrix.multiplies(vector).getData() == (values @ [1.0, 0.0, 2.0]).tolist()
        assert np.allclose(matrix.solve(vector).getData(), np.linalg.solve(values, [1.0, 0.0, 2.0]))
    assert matrix.det() == pytest.approx(np.linalg.det(values))
    assert (matrix.rank(), DenseMatrix.ones(3, 2).rank()) == (3, 1)
    assert matrix.norm2() == pytest.approx(np.linalg.norm(values, 2))
    assert matrix.cond() == pytest.approx(np.linalg.cond(values))
    eye = matrix.multiplies(matrix.inverse())
    assert np.allclose(eye.getArrayCopy2D(), DenseMatrix.eye(3).getArrayCopy2D())
    tall = DenseMatrix([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
    line = tall.solve(DenseVector([1.0, 3.0, 5.0]))
    assert line.getData() == pytest.approx([1.0, 2.0])
    assert np.allclose(tall.pseudoInverse().getArrayCopy2D(), np.linalg.pinv(tall.getArrayCopy2D()))
    assert DenseMatrix.randSymmetric(4).isSymmetric()
    matrix.setSubMatrix(DenseMatrix([[9.0]]), 0, 1, 2, 3)
    matrix.add(0, 2, 1.0)
    assert matrix.getSubMatrix(0, 1, 1, 3).getArrayCopy2D() == [[1.0, 10.0]]
    assert matrix.selectRows([1]).getRow(0) == matrix.getRow(1) == [1.0, 3.0, -1.0]
    matrix.plusEquals(1.0)
    matrix.minusEquals(DenseMatrix.ones(3, 3))
    assert matrix.sum() == values.sum() + 9.5
    assert str(DenseMatrix([[1.0, 2.5]])) == "mat[1,2]:\n  1.0,2.5\n"


_CUBE = np.arange(24).reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [
        ("float32", "FloatTensor"),
        ("float64", "DoubleTensor"),
        ("int32", "IntTensor"),
        ("int64", "LongTensor"),
        ("int8", "ByteTensor"),
        ("uint8", "UByteTensor"),
        ("bool", "BoolTensor"),
        ("str", "StringTensor"),
    ],
)
def test_tensors_come_from_arrays_and_become_arrays(dtype: str, kind: str) -> None:
    array = _CUBE.astype(dtype)
    tensor = Tensor.fromNdarray(array)
    assert type(tensor).__name__ == kind
    assert (tensor.shape(), tensor.size()) == ([2, 3, 4], 24)
    assert (tensor.toNdarray() == array).all()
    assert tensor == Tensor.parse(str(tensor)) == Tensor.of_cell(tensor.to_cell())
    assert tensor.getObject((1, 0, 2)) == array[1, 0, 2]
    assert tensor.flatten(1).shape() == tensor.flatten(1, 2).shape() == [2, 12]
    stacked = Tensor.stack([tensor, tensor], 1)
    assert stacked.shape() == [2, 2, 3, 4]
    assert Tensor.unstack(stacked, 1) == [tensor, tensor]


def test_tensors_are_reduced_along_dimensions() -> None:
    tensor = FloatTensor(_CUBE)
    for name in ("min", "max", "sum", "mean"):
        for dim, keep in ((0, True), (1, False), (-1, False)):
            found = getattr(tensor, name)(dim, keep)
            expected = getattr(_CUBE.astype("float32"), name)(axis=dim, keepdims=keep)
            assert (found.toNdarray() == expected).all()
    assert tensor.setFloat(7.5, (0, 0, 0)).getFloat((0, 0, 0)) == 7.5
    assert BoolTensor([True]).setBoolean(False, [0]).getBoolean([0]) is False
    long = Tensor.fromNdarray(np.arange(9))
    assert long.toShortDisplayData() == "[0 1 2 ... 6 7 8]"
    assert long.toDisplaySummary() == "LongTensor(9)"


def _table() -> MTable:
    frame = pd.DataFrame({"n": [3, 1, 2, 1], "x": [0.5, None, 2.0, -1.0], "s": list("abcd")})
    return MTable.fromDataframe(frame, "n int, x double, s string")


def test_tables_within_cells() -> None:
    table = _table()
    assert (table.getNumRow(), table.getNumCol()) == (4, 3)
    assert table.getColNames() == ["n", "x", "s"]
    assert table.getColTypes() == ["INT", "DOUBLE", "VARCHAR"]
    assert table.getSchemaStr() == "n INT, x DOUBLE, s VARCHAR"
    assert json.loads(table.toJson())["schema"] == "n INT,x DOUBLE,s STRING"
    assert table.getRow(2)["x"].tolist() == [2.0]
    assert table.getEntry(1, 1) is None
    copy = table.copy()
    copy.setEntry(1, 1, 4.0)
    copy.orderBy(["n", "x"], [True, False])
    assert copy.toDataframe()["s"].tolist() == ["b", "d", "c", "a"]
    assert table.getEntry(1, 1) is None, "a copy is of its own"
    table.orderBy("x")
    assert table.toDataframe()["s"].tolist() == ["b", "d", "a", "c"]
    assert table.select([2, 0]).getColNames() == table.select(["S", "n"]).getColNames()
    summary = table.summary(["n", "x"])
    assert (summary.mean("n"), summary.numMissingValue("x"), summary.max("x")) == (1.75, 1, 2.0)
    assert table.subSummary(["n"], 2, 9).count() == 2
    assert json.loads(table.toJson())["data"]["n"] == [1, 1, 3, 2]
    assert MTable.fromJson(table.toJson()).getRows().equals(table.getRows())
    assert table.toDisplaySummary() == "MTable(4,3)(n,x,s)"
    assert table.toShortDisplayData().splitlines()[:2] == ["1|null|b", "1|-1.0000|d"]


def test_cells_of_tables_are_vectors_and_tensors() -> None:
    table = MTable([["1.0 2.0", "FLOAT#1#2.5 "]], "v vector, t tensor")
    assert table.getEntry(0, 0) == DenseVector([1.0, 2.0])
    assert table.getEntry(0, 1) == FloatTensor([2.5])
    table.setEntry(0, 0, SparseVector(3, [1], [1.0]))
    assert table.getEntry(0, 0) == SparseVector(3, [1], [1.0])
