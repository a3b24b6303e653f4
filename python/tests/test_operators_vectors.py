"""Operators that give rows for rows without training: vectors, features, tensors, casts, JSON."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import alink as al
from alink._algorithms._chain import Step
from alink._algorithms._hash import hashes
from alink._algorithms._json import BadPath, parse_json, parse_path, value_at
from alink._algorithms._strings import Unreadable, parse_vector
from alink._algorithms._tensors import parse_tensor, tensor_cell
from alink._algorithms._types import MTABLE, TENSOR, VECTOR, type_name
from alink._algorithms._vectors import Vectors
from alink.operators._catalogue import catalogue
from pyalink import alink as pyalink

NAN, INF = math.nan, math.inf


def apply(
    task: str, of: str, columns: dict[str, Any], kind: pa.DataType = VECTOR, **given: Any
) -> pa.Array:
    """Apply a task with the defaults of an operator; texts stand for vectors too."""
    params = {name: p.default for name, p in catalogue()[of].parameters.items()}
    spec = {
        "operator": of,
        "task": task,
        "params": {**params, **given},
        "outputs": [["out", type_name(kind)]],
        "result": ["out"],
    }
    arrays = {name: v if isinstance(v, pa.Array) else pa.array(v) for name, v in columns.items()}
    batch = pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))
    return Step(spec)(batch).column("out")


def vectors(task: str, of: str, values: Any, **given: Any) -> list[str | None]:
    """Apply a task to one column and give the texts of the result."""
    return Vectors.of(apply(task, of, {"v": values}, selectedCol="v", **given)).to_texts()


def matrix_with_zeros(seed: int, rows: int, size: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    return np.where(rng.random((rows, size)) < 0.5, rng.normal(size=(rows, size)), 0.0)


def dense(matrix: Any) -> pa.Array:
    return Vectors.of_matrix(np.asarray(matrix, np.float64)).to_arrow()


def sparse(matrix: Any) -> pa.Array:
    return Vectors.of_matrix(np.asarray(matrix, np.float64)).to_sparse().to_arrow()


def mixed(matrix: Any) -> pa.Array:
    """Give every other row sparse."""
    matrix = np.asarray(matrix, np.float64)
    cells = [v for pair in zip(dense(matrix), sparse(matrix), strict=True) for v in pair]
    return pa.array([cells[2 * i + i % 2].as_py() for i in range(len(matrix))], VECTOR)


def full(array: pa.Array) -> np.ndarray[Any, Any]:
    return Vectors.of(array).to_dense().matrix()


FORMS = [dense, sparse, mixed]

# --- columns of vectors ---


def texts_of_all_kinds() -> list[list[str | None]]:
    return [
        ["1 2 3", "1,2,3", " 1, 2 ,3 ", "-1e-3 2.5E7 0", None, "7"],
        ["$8$1:3,2:4,4:7", "1:3 2:4", "$4$", "", None, "   ", "0:1"],
        ["1 2", "$8$1:3", None, "", "1:2"],
        ["NaN Infinity -Infinity", "1d 2f", "+1 2"],
        ["3:1 1:2", "$5$4:1 0:2"],
        [None, None],
        [],
    ]


@pytest.mark.parametrize("texts", texts_of_all_kinds())
def test_texts_are_read_together_as_one_by_one(texts: list[str | None]) -> None:
    together = Vectors.of(pa.array(texts, pa.string()))
    alone = Vectors.of_rows(None if text is None else parse_vector(text) for text in texts)
    assert together.to_texts() == alone.to_texts()
    known = [text is not None for text in texts]
    assert together.sizes[known].tolist() == alone.sizes[known].tolist()
    again = Vectors.of(together.to_arrow())
    assert again.to_texts() == alone.to_texts()
    sliced = pa.array(["9 9", *texts, "1"], pa.string()).slice(1, len(texts))
    assert Vectors.of(sliced).to_texts() == alone.to_texts()


@pytest.mark.parametrize(
    "text", ["a", "1 x", "1:2:3", "$3$5:1", "1:1 1:2", "-1:2", "$x$1:2", "nan", "inf", "0x1", "1_0"]
)
def test_a_text_that_is_no_vector_is_named_with_operator_and_column(text: str) -> None:
    with pytest.raises(Unreadable, match=r"^VectorNormalizer: column 'v': ") as error:
        vectors("_vector_tasks.normalize", "VectorNormalizer", ["1 2", text])
    assert repr(text)[1:-1] in str(error.value) or "not a number" in str(error.value)


def test_values_under_a_null_do_not_count() -> None:
    values = pa.ListArray.from_arrays([0, 2, 4], pa.array([1.0, 2.0, 3.0, 4.0]))
    sizes, nothing = pa.array([2, 2], pa.int32()), pa.nulls(2, VECTOR.field("indices").type)
    column = pa.StructArray.from_arrays(
        [sizes, nothing, values], fields=list(VECTOR), mask=pa.array([True, False])
    )
    assert Vectors.of(column).to_texts() == [None, "3.0 4.0"]
    assert vectors("_vector_tasks.slice_", "VectorSlicer", column, indices=[1]) == [None, "4.0"]


# --- each operator: NULL stays NULL, sparse gives what dense does, and a definition ---

ONE_VECTOR: list[tuple[str, str, dict[str, Any], Callable[[Any], Any]]] = [
    ("normalize", "VectorNormalizer", {}, lambda v: v / (np.sqrt((v**2).sum()) or 1)),
    ("normalize", "VectorNormalizer", {"p": 1.0}, lambda v: v / (abs(v).sum() or 1)),
    (
        "normalize",
        "VectorNormalizer",
        {"p": 3.0},
        lambda v: v / ((abs(v) ** 3).sum() ** (1 / 3) or 1),
    ),
    ("normalize", "VectorNormalizer", {"p": INF}, lambda v: v / (abs(v).max() or 1)),
    ("slice_", "VectorSlicer", {"indices": [4, 0, 4]}, lambda v: v[[4, 0, 4]]),
    ("slice_", "VectorSlicer", {"indices": []}, lambda v: v[:0]),
    (
        "elementwise_product",
        "VectorElementwiseProduct",
        {"scalingVector": "1 2 3 4 5"},
        lambda v: v * [1, 2, 3, 4, 5],
    ),
    (
        "elementwise_product",
        "VectorElementwiseProduct",
        {"scalingVector": "$9$1:2 4:-1"},
        lambda v: v * [0, 2, 0, 0, -1],
    ),
    ("size_hint", "VectorSizeHint", {"size": 5, "handleInvalidMethod": "SKIP"}, lambda v: v),
    ("function", "VectorFunction", {"funcName": "scale", "WithVariable": "-2"}, lambda v: v * -2),
    (
        "function",
        "VectorFunction",
        {"funcName": "Normalize", "WithVariable": "1"},
        lambda v: v / (abs(v).sum() or 1),
    ),
    ("to_vector", "ToVector", {"vectorType": "DENSE"}, lambda v: v),
    ("to_vector", "ToVector", {"vectorType": "sparse"}, lambda v: v),
]


@pytest.mark.parametrize(("task", "of", "given", "expected"), ONE_VECTOR)
def test_vectors_of_one(
    task: str, of: str, given: dict[str, Any], expected: Callable[[Any], Any]
) -> None:
    matrix = matrix_with_zeros(1, 40, 5)
    wanted = np.array([expected(row) for row in matrix])
    for form in FORMS:
        column = form(matrix)
        result = apply(f"_vector_tasks.{task}", of, {"v": column}, selectedCol="v", **given)
        np.testing.assert_allclose(full(result), wanted, rtol=1e-13, atol=1e-300)
        holes = pa.array([None, *column.to_pylist(), None], VECTOR)
        with_nulls = apply(f"_vector_tasks.{task}", of, {"v": holes}, selectedCol="v", **given)
        assert with_nulls.is_null().to_pylist() == [True, *[False] * len(column), True]
        np.testing.assert_allclose(full(with_nulls)[1:-1], wanted, rtol=1e-13, atol=1e-300)
    none = apply(f"_vector_tasks.{task}", of, {"v": pa.array([], VECTOR)}, selectedCol="v", **given)
    assert len(none) == 0
    nulls = apply(
        f"_vector_tasks.{task}", of, {"v": pa.nulls(2, pa.string())}, selectedCol="v", **given
    )
    assert nulls.to_pylist() == [None, None]


EACH_ROW: list[tuple[str, str, dict[str, Any], pa.DataType]] = [
    *((f"_vector_tasks.{task}", of, given, VECTOR) for task, of, given, _ in ONE_VECTOR),
    ("_vector_tasks.polynomial_expand", "VectorPolynomialExpand", {}, VECTOR),
    ("_vector_tasks.function", "VectorFunction", {"funcName": "argmin"}, pa.string()),
    ("_vector_tasks.function", "VectorFunction", {"funcName": "NormL2"}, pa.float64()),
    ("_vector_tasks.bi_function", "VectorBiFunction", {"biFuncName": "plus"}, VECTOR),
    ("_vector_tasks.bi_function", "VectorBiFunction", {"biFuncName": "cosine"}, pa.float64()),
    ("_vector_tasks.interaction", "VectorInteraction", {}, VECTOR),
    ("_vector_tasks.assemble", "VectorAssembler", {"handleInvalidMethod": "SKIP"}, VECTOR),
    ("_features.binarize", "Binarizer", {"threshold": -0.2}, VECTOR),
    ("_features.cosine_transform", "DCT", {}, pa.string()),
    ("_features.hash_features", "FeatureHasher", {"numFeatures": 64}, VECTOR),
    ("_features.hash_cross", "HashCrossFeature", {"numFeatures": 64}, VECTOR),
    ("_tensor_tasks.to_tensor", "ToTensor", {"tensorShape": [5, 1]}, TENSOR),
    ("_tensor_tasks.to_vector", "TensorToVector", {}, VECTOR),
]


@pytest.mark.parametrize(("task", "of", "given", "kind"), EACH_ROW)
def test_rows_in_batches_of_any_size_give_the_same(
    task: str, of: str, given: dict[str, Any], kind: pa.DataType
) -> None:
    cells = mixed(matrix_with_zeros(12, 23, 5)).to_pylist()
    columns = {
        "v": pa.array([*cells[:9], None, *cells[9:]], VECTOR),
        "w": pa.array([None, *cells], VECTOR),
    }
    if task.startswith("_features.hash"):
        columns = {name: pa.array(Vectors.of(array).to_texts()) for name, array in columns.items()}
    given = {"selectedCol": "v", "selectedCols": ["v", "w"], "outputCol": "out", **given}
    whole = apply(task, of, columns, kind, **given).to_pylist()
    for size in (1, 7):
        parts: list[Any] = []
        for at in range(0, 24, size):
            batch = {name: array.slice(at, size) for name, array in columns.items()}
            parts += apply(task, of, batch, kind, **given).to_pylist()
        assert str(parts) == str(whole)


def test_random_texts_are_read_together_as_one_by_one() -> None:
    rng = np.random.default_rng(13)
    alphabet = list("0123456789  ,:$.-e")
    seen = 0
    for _ in range(3000):
        texts = ["".join(rng.choice(alphabet, rng.integers(0, 9))) for _ in range(2)]
        try:
            alone = Vectors.of_rows(map(parse_vector, texts)).to_texts()
        except Unreadable:
            with pytest.raises(Unreadable):
                Vectors.of(pa.array(texts))
            continue
        seen += 1
        assert Vectors.of(pa.array(texts)).to_texts() == alone
    assert seen > 100


def test_numbers_are_vectors_of_one_value() -> None:
    numbers = pa.array([2.0, None, 3.0])
    assert vectors("_vector_tasks.to_vector", "ToVector", numbers, vectorType="SPARSE") == [
        "$1$0:2.0", None, "$1$0:3.0",
    ]  # fmt: skip
    of = "VectorPolynomialExpand"
    assert vectors("_vector_tasks.polynomial_expand", of, numbers) == ["2.0 4.0", None, "3.0 9.0"]
    assert Vectors.of(two("plus", numbers, ["1", "1", "$1$0:2"])).to_texts() == [
        "3.0", None, "5.0",
    ]  # fmt: skip


def test_sparse_stays_sparse() -> None:
    values = ["$9$1:3 2:4", "5:2"]
    normal = vectors("_vector_tasks.normalize", "VectorNormalizer", values)
    assert normal == ["$9$1:0.6 2:0.8", "5:1.0"]
    product = vectors(
        "_vector_tasks.elementwise_product",
        "VectorElementwiseProduct",
        values,
        scalingVector="1:2",
    )
    assert product == ["$9$1:6.0 2:0.0", "5:0.0"]
    assert vectors("_features.binarize", "Binarizer", ["$9$1:3 2:-4"]) == ["$9$1:1.0"]


def test_norms_of_extreme_vectors() -> None:
    def normal(text: str, **given: Any) -> str | None:
        return vectors("_vector_tasks.normalize", "VectorNormalizer", [text], **given)[0]

    assert normal("0 0") == "0.0 0.0"
    assert normal("$3$") == "$3$"
    assert normal("") == ""
    for text, p, wanted in (
        ("3e200 4e200", 2.0, [0.6, 0.8]),
        ("3e-200 4e-200", 2.0, [0.6, 0.8]),
        ("1e120 1e120", 5.0, [2**-0.2] * 2),
        ("1e-64 1e-64", 5.0, [2**-0.2] * 2),
    ):
        values = pyalink.DenseVector.parse(normal(text, p=p) or "").getData()
        np.testing.assert_allclose(values, wanted, rtol=1e-12)
    assert normal("NaN 1") == "NaN NaN"
    assert normal("Infinity 1") == "NaN 0.0"


def test_slices_beyond_a_size() -> None:
    def cut(text: str) -> list[str | None]:
        return vectors("_vector_tasks.slice_", "VectorSlicer", [text], indices=[3, 1])

    assert cut("1 2 3 4") == ["4.0 2.0"]
    assert cut("1:5 3:6") == ["$2$0:6.0 1:5.0"]
    assert cut("1:5") == ["$2$1:5.0"]
    for text in ("1 2 3", "$3$1:5"):
        with pytest.raises(Unreadable, match="has no index 3"):
            cut(text)


def test_products_beyond_a_size() -> None:
    def product(text: str, scale: str) -> list[str | None]:
        return vectors(
            "_vector_tasks.elementwise_product",
            "VectorElementwiseProduct",
            [text],
            scalingVector=scale,
        )

    assert product("1:2 7:3", "1:5") == ["1:10.0 7:0.0"]
    assert product("1 2", "3 4 5") == ["3.0 8.0"]
    assert product("$9$0:1 5:2", "$2000000000$5:7") == ["$9$0:0.0 5:14.0"]
    assert product("0:1 5:2", "") == ["0:0.0 5:0.0"]
    for text in ("1 2 3", "2:1"):
        with pytest.raises(Unreadable, match="larger than scalingVector, of size 2"):
            product(text, "3 4")


def test_size_hint() -> None:
    def hint(values: Sequence[str | None], method: str = "error") -> list[str | None]:
        return vectors(
            "_vector_tasks.size_hint",
            "VectorSizeHint",
            pa.array(values, pa.string()),
            size=2,
            handleInvalidMethod=method,
        )

    assert hint(["1 2", "$2$0:1"]) == ["1.0 2.0", "$2$0:1.0"]
    for wrong in ("1 2 3", "$3$", "0:1", ""):
        with pytest.raises(Unreadable, match="is not of size 2"):
            hint(["1 2", wrong])
    with pytest.raises(Unreadable, match="NULL"):
        hint(["1 2", None])
    assert hint(["1 2 3", None], "SKIP") == ["1.0 2.0 3.0", None]


def monomials(row: Sequence[float], degree: int) -> list[float]:
    """Give the products in their order: by the powers of the last value first."""
    size = len(row)
    powers = [p for p in itertools.product(range(degree + 1), repeat=size) if 0 < sum(p) <= degree]
    powers.sort(key=lambda p: p[::-1])
    return [math.prod(v**e for v, e in zip(row, p, strict=True)) for p in powers]


@pytest.mark.parametrize(("size", "degree"), [(1, 1), (3, 1), (3, 2), (4, 3), (2, 5), (0, 2)])
def test_polynomials(size: int, degree: int) -> None:
    matrix = matrix_with_zeros(2, 9, size)
    wanted = np.array([monomials(row, degree) for row in matrix.tolist()]).reshape(9, -1)
    for form in FORMS:
        column = form(matrix)
        result = apply(
            "_vector_tasks.polynomial_expand",
            "VectorPolynomialExpand",
            {"v": column},
            selectedCol="v",
            degree=degree,
        )
        np.testing.assert_allclose(full(result).reshape(9, -1), wanted, rtol=1e-12)
        assert Vectors.of(result).dense.tolist() == Vectors.of(column).dense.tolist()


def test_polynomials_of_large_and_unsized_vectors() -> None:
    def expand(text: str | None, degree: int = 2) -> list[str | None]:
        column = pa.array([text], pa.string())
        of = "VectorPolynomialExpand"
        return vectors("_vector_tasks.polynomial_expand", of, column, degree=degree)

    assert expand("0:2 1:3") == ["0:2.0 1:4.0 2:3.0 3:6.0 4:9.0"]
    large = "$1800090000$1800029999:2.0 1800089999:4.0"
    assert expand("$60000$59999:2") == [large]
    assert expand(None) == [None]
    assert expand("1 " * 3000, 1)[0] == " ".join(["1.0"] * 3000)
    with pytest.raises(Unreadable, match="too many products"):
        expand("$60000$1:2", 3)
    many = pa.array(["1 " * 2000] * 2000)
    with pytest.raises(Unreadable, match="too many for a batch"):
        vectors("_vector_tasks.polynomial_expand", "VectorPolynomialExpand", many)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("max", lambda v: v.max()),
        ("MIN", lambda v: v.min()),
        ("argMax", lambda v: v.argmax()),
        ("ArgMin", lambda v: v.argmin()),
        ("normL1", lambda v: abs(v).sum()),
        ("NormL2", lambda v: np.sqrt((v * v).sum())),
        ("NormL2Square", lambda v: (v * v).sum()),
    ],
)
def test_functions(name: str, expected: Callable[[Any], float]) -> None:
    matrix = matrix_with_zeros(3, 60, 4)
    wanted = [float(expected(row)) for row in matrix]
    kind = pa.float64() if name.lower().startswith("norm") else pa.string()
    for form in FORMS:
        values = pa.array([*form(matrix).to_pylist(), None], VECTOR)
        result = apply(
            "_vector_tasks.function",
            "VectorFunction",
            {"v": values},
            kind,
            selectedCol="v",
            funcName=name,
        ).to_pylist()
        assert result[-1] is None
        np.testing.assert_allclose([float(v) for v in result[:-1]], wanted, rtol=1e-12)


def test_extremes_of_odd_vectors() -> None:
    def of(text: str, name: str) -> str | None:
        return apply(
            "_vector_tasks.function",
            "VectorFunction",
            {"v": [text]},
            pa.string(),
            selectedCol="v",
            funcName=name,
        ).to_pylist()[0]

    assert of("NaN 2 1", "max") == "2.0"
    assert of("NaN 2 1", "argmin") == "2"
    assert of("NaN NaN", "max") == "NaN"
    assert of("-Infinity -Infinity", "max") == "-Infinity"
    assert of("-Infinity NaN", "min") == "-Infinity"
    assert of("", "max") is None
    assert of("$0$", "argmax") is None
    assert of("$3$", "max") == "0.0"
    assert of("$3$0:-1 2:-5", "max") == "0.0"
    assert of("$3$0:-1 2:-5", "argmax") == "1"
    assert of("1:-5", "max") == "0.0"
    assert of("0:-5", "max") == "-5.0"
    assert of("$5$1:0 4:0", "argmax") == "0"


# --- two vectors ---


def two(
    name: str, a: Any, b: Any, kind: pa.DataType = VECTOR, task: str = "bi_function"
) -> pa.Array:
    of = {"bi_function": "VectorBiFunction", "interaction": "VectorInteraction"}[task]
    given = {"selectedCols": ["a", "b"], "biFuncName": name, "outputCol": "out"}
    return apply(f"_vector_tasks.{task}", of, {"a": a, "b": b}, kind, **given)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plus", lambda a, b: a + b),
        ("Minus", lambda a, b: a - b),
        ("elementWiseMultiply", lambda a, b: a * b),
        ("merge", lambda a, b: np.concatenate([a, b])),
        ("dot", lambda a, b: a @ b),
        ("EuclidDistance", lambda a, b: np.sqrt(((a - b) ** 2).sum())),
        ("cosine", lambda a, b: a @ b / np.sqrt((a @ a) * (b @ b))),
        ("", lambda a, b: np.outer(b, a).reshape(-1)),
    ],
)
def test_vectors_of_two(name: str, expected: Callable[[Any, Any], Any]) -> None:
    a, b = matrix_with_zeros(4, 30, 6) + 0.0, matrix_with_zeros(5, 30, 6)
    a[:, 0], b[:, 1] = 1, 2
    wanted = np.array([expected(x, y) for x, y in zip(a, b, strict=True)])
    kind = pa.float64() if wanted.ndim == 1 else VECTOR
    task = "bi_function" if name else "interaction"
    for first, second in itertools.product(FORMS, FORMS):
        left = pa.array([*first(a).to_pylist(), None, None], VECTOR)
        right = pa.array([*second(b).to_pylist(), {"size": 1, "values": [1.0]}, None], VECTOR)
        for x, y in ((first(a), second(b)), (left, right)):
            result = two(name, x, y, kind, task)
            assert result.is_null().to_pylist() == [False] * 30 + [True] * (len(x) - 30)
            got = full(result)[:30] if kind is VECTOR else np.array(result.to_pylist()[:30])
            np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-15)


def test_sizes_of_two_vectors() -> None:
    def texts(name: str, a: str, b: str, task: str = "bi_function") -> list[str | None]:
        return Vectors.of(two(name, [a], [b], task=task)).to_texts()

    assert texts("plus", "$4$1:2", "$4$1:1 2:5") == ["$4$1:3.0 2:5.0"]
    assert texts("plus", "1:2", "3:1") == ["1:2.0 3:1.0"]
    assert texts("plus", "1:2", "1 2 3") == ["1.0 4.0 3.0"]
    assert texts("minus", "1 2", "$2$1:2") == ["1.0 0.0"]
    assert texts("elementwisemultiply", "1 2 3", "$3$1:2") == ["$3$1:4.0"]
    assert texts("merge", "1 2", "$3$1:2") == ["$5$0:1.0 1:2.0 3:2.0"]
    assert texts("", "$2$1:3", "$3$2:5", "interaction") == ["$6$5:15.0"]
    with pytest.raises(Unreadable, match=r"vector '1.0 2.0 3.0' stands beside one of size 2"):
        texts("plus", "1 2 3", "1 2")
    with pytest.raises(Unreadable, match="stands beside"):
        texts("plus", "1:2 7:2", "1 2")
    for name, task in (("merge", "bi_function"), ("", "interaction")):
        with pytest.raises(Unreadable, match="has no size"):
            texts(name, "1:2", "$3$1:2", task)
    cosine = two("cosine", ["0 0"], ["1 2"], pa.float64())
    assert math.isnan(cosine[0].as_py())


# --- assembling ---


def assemble(columns: dict[str, Any], method: str = "ERROR") -> list[str | None]:
    result = apply(
        "_vector_tasks.assemble",
        "VectorAssembler",
        columns,
        selectedCols=list(columns),
        handleInvalidMethod=method,
    )
    return Vectors.of(result).to_texts()


def test_assembling() -> None:
    numbers = {
        "i": pa.array([1, 2], pa.int8()),
        "l": pa.array([2**62, 3]),
        "d": [0.5, NAN],
        "c": pa.array([1, 2]).cast(pa.decimal128(38, 18)),
    }
    assert assemble(numbers) == ["1.0 4.611686018427388E18 0.5 1.0", "2.0 3.0 NaN 2.0"]
    assert assemble({"a": ["1 2"], "b": [3.0]}) == ["1.0 2.0 3.0"]
    assert assemble({"a": ["$9$1:2"], "b": [3.0]}) == ["$10$1:2.0 9:3.0"]
    assert assemble({"a": ["$2$1:2"], "b": [3.0]}) == ["$3$1:2.0 2:3.0"]
    assert assemble({"a": ["$2$0:1 1:2"], "b": [3.0]}) == ["1.0 2.0 3.0"]
    assert assemble({"a": ["1 2", "$9$1:2"], "b": [3.0, None]}, "SKIP") == ["1.0 2.0 3.0", None]
    assert assemble({"a": [1.0, None], "b": [3, 4]}, "skip") == ["1.0 3.0", None]
    with pytest.raises(Unreadable, match=r"column 'b' has NULL"):
        assemble({"a": [1.0], "b": pa.nulls(1, pa.float64())})
    with pytest.raises(Unreadable, match=r"'1:2\.0' has no size"):
        assemble({"a": ["1:2"], "b": [3.0]})


def test_assembling_forms_and_numbers_gives_the_same() -> None:
    a, b = matrix_with_zeros(6, 50, 3), matrix_with_zeros(7, 50, 4)
    x = np.arange(50.0)
    wanted = np.column_stack([a, x, b])
    for first, second in itertools.product(FORMS, FORMS):
        result = apply(
            "_vector_tasks.assemble",
            "VectorAssembler",
            {"a": first(a), "x": x, "b": second(b)},
            selectedCols=["a", "x", "b"],
        )
        np.testing.assert_array_equal(full(result), wanted)


def test_to_vector() -> None:
    def read(values: Any, **given: Any) -> list[str | None]:
        return vectors("_vector_tasks.to_vector", "ToVector", values, **given)

    assert read(["1 0 3"], vectorType="SPARSE") == ["$3$0:1.0 2:3.0"]
    assert read(["$4$1:2", "2:5", ""], vectorType="DENSE") == ["0.0 2.0 0.0 0.0", "0.0 0.0 5.0", ""]
    assert read(pa.array([3, None])) == ["3.0", None]
    assert read(["1 2", "ü", None], handleInvalidMethod="SKIP") == ["1.0 2.0", None, None]
    with pytest.raises(Unreadable, match="too large to be dense"):
        read(["$2147483647$1:1", "$2147483647$1:1"], vectorType="DENSE")


# --- features ---


def test_binarizing() -> None:
    def one(values: Any, kind: pa.DataType, threshold: float = 0.0) -> list[Any]:
        return apply(
            "_features.binarize", "Binarizer", {"v": values}, kind, selectedCol="v",
            threshold=threshold,
        ).to_pylist()  # fmt: skip

    assert one([1.0, -1.0, 0.0, NAN, INF, None], pa.float64()) == [1, 0, 0, 0, 1, None]
    assert one(pa.array([3, 2, None], pa.int32()), pa.int32(), 2.0) == [1, 0, None]
    matrix = matrix_with_zeros(8, 30, 4)
    for threshold, form in itertools.product((-0.3, 0.0, 0.4), FORMS):
        result = apply(
            "_features.binarize", "Binarizer", {"v": form(matrix)}, selectedCol="v",
            threshold=threshold,
        )  # fmt: skip
        np.testing.assert_array_equal(full(result), matrix > threshold)


def bucketize(values: Any, cuts: Any, kind: pa.DataType = VECTOR, **given: Any) -> pa.Array:
    return apply(
        "_features.bucketize", "Bucketizer", {"v": values}, kind, selectedCols=["v"],
        cutsArray=[cuts], **given,
    )  # fmt: skip


def test_buckets() -> None:
    values = [-INF, 0.0, 1.0, 1.5, 2.0, 9.0, INF, NAN, None]
    index = bucketize(values, [2.0, 1.0], pa.int64())
    assert index.to_pylist() == [0, 0, 0, 1, 1, 2, 2, 3, 3]
    right = bucketize(values, [1.0, 2.0], pa.int64(), leftOpen=False)
    assert right.to_pylist() == [0, 0, 1, 1, 2, 2, 2, 3, 3]
    skipped = bucketize(values, [1.0, 2.0], pa.int64(), handleInvalid="skip")
    assert skipped.to_pylist() == [0, 0, 0, 1, 1, 2, 2, None, None]
    with pytest.raises(Unreadable, match="column 'v' has a value that is in no bucket"):
        bucketize(values, [1.0], pa.int64(), handleInvalid="ERROR")
    assert bucketize([5, None], [], pa.int64()).to_pylist() == [0, 1]


def test_buckets_as_vectors() -> None:
    def texts(values: Any, **given: Any) -> list[str | None]:
        return Vectors.of(bucketize(values, [1.0, 2.0], **given)).to_texts()

    values = [0.0, 1.5, 9.0, None]
    kept = texts(values, encode="VECTOR", dropLast=False)
    assert kept == ["$4$0:1.0", "$4$1:1.0", "$4$2:1.0", "$4$3:1.0"]
    assert texts(values, encode="vector") == ["$3$0:1.0", "$3$", "$3$1:1.0", "$3$2:1.0"]
    skipped = texts(values, encode="VECTOR", handleInvalid="SKIP")
    assert skipped == ["$3$0:1.0", "$3$", "$3$1:1.0", None]
    both = apply(
        "_features.bucketize",
        "Bucketizer",
        {"a": [0.0, 9.0], "b": [9.0, None]},
        selectedCols=["a", "b"],
        cutsArray=[[1.0], [2.0]],
        encode="ASSEMBLED_VECTOR",
        dropLast=False,
    )
    assert Vectors.of(both).to_texts() == ["$6$0:1.0 4:1.0", "$6$1:1.0 5:1.0"]


@pytest.mark.parametrize("size", [1, 2, 3, 8, 13])
def test_cosine_transform(size: int) -> None:
    matrix = matrix_with_zeros(9, 12, size)
    n = np.arange(size)
    basis = np.cos(np.pi * (2 * n + 1) * n[:, None] / (2 * size)) * np.sqrt(2 / size)
    basis[0] /= np.sqrt(2)
    for form in FORMS:
        forward = apply(
            "_features.cosine_transform", "DCT", {"v": form(matrix)}, pa.string(), selectedCol="v"
        )
        np.testing.assert_allclose(full(forward), matrix @ basis.T, atol=1e-12)
        back = apply(
            "_features.cosine_transform", "DCT", {"v": forward}, pa.string(), selectedCol="v",
            inverse=True,
        )  # fmt: skip
        np.testing.assert_allclose(full(back), matrix, atol=1e-12)
    odd = apply(
        "_features.cosine_transform", "DCT", {"v": ["", None, "1 2"]}, pa.string(), selectedCol="v"
    )
    assert odd.to_pylist()[:2] == ["", None]


def murmur(text: str) -> int:
    """MurmurHash3_x86_32 of UTF-16, word by word."""
    data = text.encode("utf-16-le")
    mask, h = 0xFFFFFFFF, 0

    def turned(value: int, by: int) -> int:
        return ((value << by) | (value >> (32 - by))) & mask

    def mixed_(k: int) -> int:
        return turned(k * 0xCC9E2D51 & mask, 15) * 0x1B873593 & mask

    for i in range(0, len(data) // 4 * 4, 4):
        h = turned(h ^ mixed_(int.from_bytes(data[i : i + 4], "little")), 13)
        h = (h * 5 + 0xE6546B64) & mask
    if len(data) % 4:
        h ^= mixed_(int.from_bytes(data[len(data) // 4 * 4 :], "little"))
    h ^= len(data)
    h = (h ^ h >> 16) * 0x85EBCA6B & mask
    h = (h ^ h >> 13) * 0xC2B2AE35 & mask
    h ^= h >> 16
    return h - 2**32 if h >= 2**31 else h


def test_hashes() -> None:
    rng = np.random.default_rng(10)
    texts = ["", "a", "ab", "abc", "ü=😀", "f0=1.0", "x" * 1001, "x" * 70000]
    texts += ["".join(map(chr, rng.integers(32, 0x3000, n))) for n in rng.integers(0, 90, 200)]
    assert hashes(texts).tolist() == [murmur(text) for text in texts]
    assert hashes([]).tolist() == []


def test_hashed_features() -> None:
    columns = {
        "d": [1.5, NAN, None],
        "s": ["a", None, "ü"],
        "b": [True, False, None],
        "i": pa.array([7, 8, None]),
    }
    result = apply(
        "_features.hash_features",
        "FeatureHasher",
        columns,
        selectedCols=list(columns),
        outputCol="out",
        numFeatures=1000,
        categoricalCols=["i"],
    )
    rows: list[dict[int, float]] = [{}, {}, {}]
    for row, name, value in [
        (0, "d", 1.5), (0, "s=a", 1), (0, "b=true", 1), (0, "i=7", 1),
        (1, "d", NAN), (1, "b=false", 1), (1, "i=8", 1), (2, "s=ü", 1),
    ]:  # fmt: skip
        place = abs(murmur(name)) % 1000
        rows[row][place] = rows[row].get(place, 0) + value
    for row, wanted in zip(Vectors.of(result), rows, strict=True):
        assert row is not None
        assert row[0] == 1000
        got = dict(zip(row[1].tolist(), row[2].tolist(), strict=True))  # type: ignore[union-attr]
        assert repr(sorted(got.items())) == repr(sorted((k, float(v)) for k, v in wanted.items()))
    few = apply(
        "_features.hash_features", "FeatureHasher", columns, selectedCols=["d", "s", "b", "i"],
        outputCol="out", numFeatures=1,
    )  # fmt: skip
    assert Vectors.of(few).to_texts()[0] == "$1$0:10.5"


def test_crossed_hashes() -> None:
    columns = {
        "s": ["a", None, "b"],
        "d": [1.0, 2.0, 1e-7],
        "f": pa.array([0.1, 1, 2], pa.float32()),
    }
    result = apply(
        "_features.hash_cross", "HashCrossFeature", columns, selectedCols=["s", "d", "f"],
        outputCol="out", numFeatures=97,
    )  # fmt: skip
    places = [murmur(text) % 97 for text in ("a,1.0,0.1", "b,1.0E-7,2.0")]
    assert Vectors.of(result).to_texts() == [f"$97${places[0]}:1.0", "$97$", f"$97${places[1]}:1.0"]


# --- tensors ---


def tensors(task: str, of: str, values: Any, **given: Any) -> list[str | None]:
    cells = apply(f"_tensor_tasks.{task}", of, {"v": values}, TENSOR, selectedCol="v", **given)
    return [None if c is None else str(pyalink.Tensor.of_cell(c)) for c in cells.to_pylist()]


def test_tensors_are_read_and_shown() -> None:
    def read(values: Any, **given: Any) -> list[str | None]:
        return tensors("to_tensor", "ToTensor", values, **given)

    assert read(["1 2 3", None, "$3$1:2", "LONG#2#1 2 "]) == [
        "DOUBLE#3#1.0 2.0 3.0 ", None, "DOUBLE#3#0.0 2.0 0.0 ", "LONG#2#1 2 ",
    ]  # fmt: skip
    assert read(["a b"]) == ["STRING##3 #a b "]
    assert read(["1 2"], tensorDataType="string") == ["STRING##3 #1 2 "]
    assert read(pa.array([1.5, None])) == ["DOUBLE#1#1.5 ", None]
    assert read(["INT#4#1 2 3 4 "], tensorShape=[2, -1]) == ["INT#2,2#1 2 3 4 "]
    assert read(["DOUBLE#2#1.0 2.0 "], tensorDataType="INT") == ["INT#2#1 2 "]
    assert read(["DOUBLE#1#1e300 "], tensorDataType="FLOAT") == ["FLOAT#1#Infinity "]
    bad = [("DOUBLE#2#1.5 2.0 ", {"tensorDataType": "INT"}), ("1 2 3", {"tensorShape": [2, 2]})]
    bad += [
        ("FLOAT#2#1.0 ", {}),
        ("WRONG#1#1 ", {}),
        ("INT#1#300x ", {}),
        ("a b", {"tensorDataType": "FLOAT"}),
    ]
    for text, given in bad:
        with pytest.raises(Unreadable, match=r"^ToTensor: column 'v': "):
            read(["1", text], **given)
        assert read([text], handleInvalidMethod="SKIP", **given) == [None]


def test_tensors_of_vectors_together_as_one_by_one() -> None:
    matrix = matrix_with_zeros(11, 7, 6)
    for kind, shape in itertools.product((None, "float", "DOUBLE"), (None, [2, 3], [3, -1])):
        given = {"tensorDataType": kind, "tensorShape": shape}
        together = tensors("to_tensor", "VectorToTensor", dense(matrix), **given)
        assert together == tensors("to_tensor", "VectorToTensor", sparse(matrix), **given)
        texts = pa.array(Vectors.of_matrix(matrix).to_texts())
        assert together == tensors("to_tensor", "VectorToTensor", texts, **given)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("FLOAT#2,3#0.0 0.1 1.0 1.1 2.0 2.1 ", "FloatTensor(2,3)\n[[0.0 0.1 1.0]\n [1.1 2.0 2.1]]"),
        ("LONG#2,1,2#1 2 3 4 ", "LongTensor(2,1,2)\n[[[1 2]]\n\n [[3 4]]]"),
        ("STRING#2#3 -1 #ü😀 ", "StringTensor(2)\n[ü😀 null]"),
        ("BOOLEAN##true ", "BooleanTensor()\ntrue"),
        ("INT#0#", "IntTensor(0)\n[]"),
    ],
)
def test_a_tensor_for_people_and_for_programs(text: str, shown: str) -> None:
    tensor = pyalink.Tensor.parse(text)
    assert tensor.show() == shown
    assert str(tensor) == text
    assert pyalink.Tensor.of_cell(tensor.to_cell()) == tensor


def test_tensors_in_other_shapes_and_as_vectors() -> None:
    assert tensors("reshape", "TensorReshape", ["INT#4#1 2 3 4 ", None], size=[2, 2]) == [
        "INT#2,2#1 2 3 4 ", None,
    ]  # fmt: skip
    with pytest.raises(Unreadable, match=r"4 values do not have the shape \[3\]"):
        tensors("reshape", "TensorReshape", ["INT#4#1 2 3 4 "], size=[3])

    def to_vector(text: str | None, method: str = "flatten") -> str | None:
        column = pa.array([None if text is None else tensor_cell(*parse_tensor(text))], TENSOR)
        result = apply(
            "_tensor_tasks.to_vector", "TensorToVector", {"v": column}, selectedCol="v",
            convertMethod=method,
        )  # fmt: skip
        return Vectors.of(result).to_texts()[0]

    square = "DOUBLE#2,2#1.0 5.0 3.0 4.0 "
    assert to_vector(square) == "1.0 5.0 3.0 4.0"
    assert to_vector(square, "SUM") == "4.0 9.0"
    assert to_vector(square, "mean") == "2.0 4.5"
    assert to_vector(square, "MAX") == "3.0 5.0"
    assert to_vector(square, "MIN") == "1.0 4.0"
    assert to_vector("INT#3#1 2 3 ", "SUM") == "6.0"
    assert to_vector(None) is None
    with pytest.raises(Unreadable, match="is no vector"):
        to_vector("STRING#1#1 #a ")


# --- tables within cells ---


def test_tables_within_cells() -> None:
    data = '{"i":[1,null],"s":["ü",null],"v":["1.0 2.0","$3$1:5.0"]}'
    text = f'{{"data":{data},"schema":"i INT,s STRING,v VECTOR"}}'
    given = {"selectedCol": "v", "handleInvalidMethod": "SKIP"}
    values = pa.array([text, None, "x", '{"schema":1}', '{"data":{"a":["x"]},"schema":"a INT"}'])
    cells = apply("_tables.to_table", "ToMTable", {"v": values}, MTABLE, **given).to_pylist()
    assert [cell is None for cell in cells] == [False, True, True, True, True]
    assert json.loads(str(pyalink.MTable.of_cell(cells[0]))) == json.loads(text)
    with pytest.raises(Unreadable, match="column 'v': 'x' is not a table of JSON"):
        apply("_tables.to_table", "ToMTable", {"v": values}, MTABLE, selectedCol="v")
    empty = pyalink.MTable.fromJson('{"data":{},"schema":"a INT"}')
    assert empty.getNumRow() == 0


def flatten(values: Any, schema: list[tuple[str, pa.DataType]], method: str = "ERROR") -> Any:
    spec = {
        "operator": "FlattenMTableBatchOp",
        "task": "_casts.flatten_table",
        "params": {
            "selectedCol": "v", "names": [n for n, _ in schema], "handleInvalidMethod": method,
        },
        "outputs": [[name, type_name(kind)] for name, kind in schema],
        "result": ["id", *[name for name, _ in schema]],
    }  # fmt: skip
    column = pa.array(values, None if any(values) else pa.string())
    batch = pa.record_batch([pa.array(range(len(values))), column], names=["id", "v"])
    return Step(spec)(batch).to_pylist()


def test_flattened_tables() -> None:
    text = '{"data":{"f0":["11","x"],"f1":[2.7,null]},"schema":"f0 STRING,f1 DOUBLE"}'
    empty = '{"data":{},"schema":"f0 STRING,f1 DOUBLE"}'
    f = [("F0", pa.string()), ("f1", pa.int32())]
    assert flatten([text, None, empty], f) == [
        {"id": 0, "F0": "11", "f1": 2}, {"id": 0, "F0": "x", "f1": None},
        {"id": 1, "F0": None, "f1": None},
    ]  # fmt: skip
    number = [("f0", pa.int64())]
    assert [r["f0"] for r in flatten([text], number, "SKIP")] == [11, None]
    with pytest.raises(Unreadable, match="column 'f0': 'x' cannot be cast to BIGINT"):
        flatten([text], number)
    with pytest.raises(Unreadable, match="has no column 'f2', but f0, f1"):
        flatten([text], [("f2", pa.string())])
    assert flatten([None, None], number) == [{"id": 0, "f0": None}, {"id": 1, "f0": None}]


# --- JSON ---


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{a:boy,b:{b1:[1,2],b2:2}}", {"a": "boy", "b": {"b1": [1, 2], "b2": 2}}),
        (
            "{'a b':'it\\'s \"x\"', c : d e , n:null,t:true}",
            {"a b": 'it\'s "x"', "c": "d e", "n": None, "t": True},
        ),
        ("[1.5,-2e3,0x,]", [1.5, -2000.0, "0x"]),
        ('{"ü":"😀"}', {"ü": "😀"}),
        ("[]", []),
        ("{}", {}),
        ("word", "word"),
    ],
)
def test_json_as_people_write_it(text: str, value: Any) -> None:
    assert parse_json(text) == value


@pytest.mark.parametrize("text", ["{", "{a}", "[1 2", "{a:1} x", '{"a":"', "{a:}", "[" * 5000])
def test_what_is_no_json(text: str) -> None:
    with pytest.raises(Unreadable, match="is not JSON"):
        parse_json(text)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$", {"a": {"b": [1, 2, {"b": 3}]}, "c d": 4}),
        ("$.a.b[0]", 1),
        ("a.b[1]", 2),
        ("$['c d']", 4),
        ('$["a"]["b"][-1].b', 3),
        ("$.a.b[0,1]", [1, 2]),
        ("$.a.b[:2]", [1, 2]),
        ("$.a.b[*]", [1, 2, {"b": 3}]),
        ("$.*", [{"b": [1, 2, {"b": 3}]}, 4]),
        ("$..b", [[1, 2, {"b": 3}], 3]),
    ],
)
def test_paths(path: str, found: Any) -> None:
    assert value_at({"a": {"b": [1, 2, {"b": 3}]}, "c d": 4}, parse_path(path)) == found


@pytest.mark.parametrize("path", ["$.", "$[", "$[?(@.a>1)]", "$.a[x]", "$..", "$ü[", "$.a b[1"])
def test_what_is_no_path(path: str) -> None:
    with pytest.raises(BadPath, match="is not a path within JSON"):
        parse_path(path)


def json_values(values: Any, kind: pa.DataType, path: str, skip: bool = False) -> list[Any]:
    column = pa.array(values, pa.string())
    return apply(
        "_json_values.json_values", "JsonValue", {"v": column}, kind, selectedCol="v",
        jsonPath=[path], outputCols=["out"], skipFailed=skip,
    ).to_pylist()  # fmt: skip


def test_json_values() -> None:
    values = ['{"a":1}', '{"a":"x"}', '{"a":null}', '{"a":{"b":[1.50,"ü"]}}']
    assert json_values(values, pa.string(), "$.a") == ["1", "x", None, '{"b":[1.5,"ü"]}']
    assert json_values(values, pa.int32(), "$.a", skip=True) == [1, None, None, None]
    assert json_values([None, "", "{", '{"b":1}'], pa.string(), "$.a", skip=True) == [None] * 4
    for value in (None, " ", "{", '{"b":1}'):
        with pytest.raises(Unreadable, match=r"^JsonValue: column 'v': |is no JSON"):
            json_values([value], pa.string(), "$.a")
    with pytest.raises(Unreadable, match="'x' cannot be cast to INT"):
        json_values(values[:2], pa.int32(), "$.a")


# --- casts ---


def cast(values: Any, kind: pa.DataType) -> list[Any]:
    column = values if isinstance(values, pa.Array) else pa.array(values)
    spec = {
        "operator": "TypeConvertBatchOp",
        "task": "_casts.convert_types",
        "params": {"selectedCols": ["v"]},
        "outputs": [["v", type_name(kind)]],
        "result": ["v"],
    }
    result = Step(spec)(pa.record_batch([column], names=["v"])).column("v")
    assert result.type == kind
    return result.to_pylist()


def test_casts() -> None:
    time = pa.array([1_500_000_123_456], pa.int64()).cast(pa.timestamp("us"))
    assert cast([1.9, -1.9, None], pa.int32()) == [1, -1, None]
    assert cast([1.5, 1e7, NAN, None], pa.string()) == ["1.5", "1.0E7", "NaN", None]
    assert cast(pa.array([0.1], pa.float32()), pa.string()) == ["0.1"]
    assert cast([True, False, None], pa.string()) == ["true", "false", None]
    assert cast([True, False, None], pa.float64()) == [1.0, 0.0, None]
    assert cast([2, 0, None], pa.bool_()) == [True, False, None]
    assert cast(["true", "0", None], pa.bool_()) == [True, False, None]
    assert cast(["12", " 3.0 ", None], pa.int64()) == [12, 3, None]
    assert cast([2**62], pa.float64()) == [float(2**62)]
    assert cast(dense([[1, 2]]), pa.string()) == ["1.0 2.0"]
    assert [str(v) for v in cast(["1.25"], pa.decimal128(38, 18))] == ["1.250000000000000000"]
    assert cast(time, pa.int64()) == [1_500_000_123]
    assert cast(time, pa.string()) == ["1970-01-18 08:40:00.123456"]
    assert cast(pa.array([], pa.int64()), pa.string()) == []
    for value in (NAN, INF, 1e10, 2**40):
        with pytest.raises(Unreadable, match=r"column 'v': .* cannot be cast to INT"):
            cast([value], pa.int32())
    with pytest.raises(Unreadable, match="'ü' cannot be cast to DOUBLE"):
        cast(["ü"], pa.float64())
    with pytest.raises(Unreadable):
        cast(["99999999999999999999"], pa.int64())


# --- through the engine ---


def source(kind: Any, frame: pd.DataFrame, schema: str) -> Any:
    return kind.fromDataframe(frame, schemaStr=schema)


@pytest.mark.parametrize(
    ("name", "stage", "params"),
    [
        ("VectorAssembler", "", {"selectedCols": ["a", "v"], "outputCol": "out"}),
        ("VectorNormalize", "VectorNormalizer", {"selectedCol": "v"}),
        ("VectorSlice", "VectorSlicer", {"selectedCol": "v", "indices": [1], "outputCol": "out"}),
        ("VectorFunction", "", {"selectedCol": "v", "funcName": "max", "outputCol": "out"}),
        ("Bucketizer", "", {"selectedCols": ["a"], "cutsArray": [[1.0]]}),
        ("FeatureHasher", "", {"selectedCols": ["a", "s"], "outputCol": "out"}),
        ("ToTensor", "", {"selectedCol": "v", "reservedCols": ["s"]}),
        ("ToMTable", "", {"selectedCol": "m"}),
        ("JsonValue", "", {"selectedCol": "m", "jsonPath": ["$.schema"], "outputCols": ["out"]}),
    ],
)
def test_batch_stream_and_stage_agree(name: str, stage: str, params: dict[str, Any]) -> None:
    table = '{"data":{"f":[1,2]},"schema":"f INT"}'
    frame = pd.DataFrame([[1.0, "1 2", "x", table], [2.0, "$2$1:5", "ü", table]])
    schema = "a double, v string, s string, m string"
    made = {
        kind: getattr(pyalink, name + suffix)(**params).linkFrom(source(kind, frame, schema))
        for kind, suffix in (
            (pyalink.BatchOperator, "BatchOp"),
            (pyalink.StreamOperator, "StreamOp"),
        )
    }
    batch, stream = (op.collectToDataframe() for op in made.values())
    one = getattr(pyalink, stage or name)
    transformer = one()
    for key, value in params.items():
        getattr(transformer, f"set{key[:1].upper()}{key[1:]}")(value)
    staged = pyalink.Pipeline(transformer).fit(source(pyalink.BatchOperator, frame, schema))
    rows = staged.transform(source(pyalink.BatchOperator, frame, schema)).collectToDataframe()
    assert batch.columns.tolist() == stream.columns.tolist() == rows.columns.tolist()
    cells = [sorted(map(str, frame.values.tolist())) for frame in (batch, stream, rows)]
    assert cells[0] == cells[1] == cells[2]


def test_a_null_vector_within_a_chain() -> None:
    frame = pd.DataFrame([[3.0, 4.0], [None, 1.0], [0.0, 2.0]])
    data = source(pyalink.BatchOperator, frame, "a double, b double")
    assembler = pyalink.VectorAssemblerBatchOp(
        selectedCols=["a", "b"], outputCol="v", handleInvalidMethod="SKIP", reservedCols=["b"]
    )
    chain = data.link(assembler).link(pyalink.VectorNormalizeBatchOp(selectedCol="v"))
    rows = chain.link(pyalink.ToVectorBatchOp(selectedCol="v", vectorType="SPARSE"))
    cells = sorted(map(str, rows.collectToDataframe().values.tolist()))
    assert cells == ["[1.0, None]", "[2.0, '$2$1:1.0']", "[4.0, '$2$0:0.6 1:0.8']"]


def test_a_tensor_within_a_table_can_be_read_again() -> None:
    text = '{"data":{"t":["INT#2#1 2 "]},"schema":"t TENSOR"}'
    assert str(pyalink.MTable.fromJson(text)) == text


def test_an_unreadable_vector_names_operator_and_column() -> None:
    data = source(pyalink.BatchOperator, pd.DataFrame([["1 x"]]), "vec string")
    op = pyalink.VectorNormalizeBatchOp(selectedCol="VEC").linkFrom(data)
    with pytest.raises(al.Error, match="VectorNormalizeBatchOp: column 'vec': 'x' is not a number"):
        op.collectToDataframe()


def test_a_chain_of_operators_prints_tensors() -> None:
    frame = pd.DataFrame([[1.0, 2.0], [3.0, 4.0]])
    data = source(pyalink.BatchOperator, frame, "a double, b double")
    chain = (
        data.link(pyalink.VectorAssemblerBatchOp(selectedCols=["a", "b"], outputCol="v"))
        .link(pyalink.VectorToTensorBatchOp(selectedCol="v", tensorShape=[1, 2]))
        .link(pyalink.TensorReshapeBatchOp(selectedCol="v", size=[2, 1], reservedCols=[]))
    )
    shown = sorted(chain.collectToDataframe()["v"])
    assert shown == ["DoubleTensor(2,1)\n[[1.0]\n [2.0]]", "DoubleTensor(2,1)\n[[3.0]\n [4.0]]"]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda p: p.VectorFunctionBatchOp(selectedCol="v", funcName="mx"), "mx.*Max|did you mean"),
        (lambda p: p.VectorFunctionBatchOp(selectedCol="v", funcName="scale"), "needs a number"),
        (lambda p: p.VectorNormalizeBatchOp(selectedCol="v", p=0.0), '"p" cannot be 0.0'),
        (lambda p: p.VectorSliceBatchOp(selectedCol="v"), "needs the parameter"),
        (lambda p: p.VectorSliceBatchOp(selectedCol="v", indices=[-1]), "they count from 0"),
        (lambda p: p.VectorSizeHintBatchOp(selectedCol="v", size=-1), "0 or more"),
        (lambda p: p.VectorInteractionBatchOp(selectedCols=["v"], outputCol="o"), "two columns"),
        (lambda p: p.VectorPolynomialExpandBatchOp(selectedCol="v", degree=0), "1 or more"),
        (lambda p: p.BucketizerBatchOp(selectedCols=["a"]), "cutsArray"),
        (lambda p: p.BucketizerBatchOp(selectedCols=["v"], cutsArray=[[1.0]]), "takes numbers"),
        (lambda p: p.BinarizerBatchOp(selectedCol="b"), 'column "b" is BOOLEAN'),
        (lambda p: p.ToVectorBatchOp(selectedCol="v", vectorType="thick"), "DENSE, SPARSE"),
        (lambda p: p.ToTensorBatchOp(selectedCol="v", tensorShape=[-2]), "tensorShape"),
        (lambda p: p.TypeConvertBatchOp(targetType="blob"), "targetType"),
        (
            lambda p: p.JsonValueBatchOp(selectedCol="v", jsonPath=["$["], outputCols=["o"]),
            "is not a path",
        ),
        (lambda p: p.FlattenMTableBatchOp(selectedCol="a", schemaStr="f int"), "it takes STRING"),
        (lambda p: p.VectorAssemblerBatchOp(selectedCols=["v", "b"], outputCol="o"), "BOOLEAN"),
    ],
)
def test_wrong_parameters_are_refused_when_linked(make: Callable[[Any], Any], text: str) -> None:
    frame = pd.DataFrame([[1.0, "1 2", True]])
    data = source(pyalink.BatchOperator, frame, "a double, v string, b boolean")
    with pytest.raises(al.PlanError, match=text):
        make(pyalink).linkFrom(data)


def test_rows_gathered_in_tables_and_flattened_again() -> None:
    frame = pd.DataFrame([["a", 1.5, "1 2"], ["b", None, "$3$1:2"], ["a", -2.0, None]])
    data = source(pyalink.BatchOperator, frame, "id string, x double, v string")
    data = data.link(pyalink.ToVectorBatchOp(selectedCol="v"))
    for clause in ("id, mtable_agg(x, v) as t", "id, 'mtable_agg(' as u, MTABLE_AGG(`X`,\"v\") t"):
        grouped = data.link(pyalink.GroupByBatchOp(groupByPredicate="id", selectClause=clause))
        assert grouped.getColTypes()[-1] == "MTABLE"
        flat = grouped.link(
            pyalink.FlattenMTableBatchOp(
                selectedCol="t", schemaStr="v vector, x double", reservedCols=["id"]
            )
        )
        rows = sorted(map(str, flat.collectToDataframe().values.tolist()))
        assert rows == [
            "['a', '1.0 2.0', 1.5]", "['a', None, -2.0]", "['b', '$3$1:2.0', nan]",
        ]  # fmt: skip
    for wrong in ("mtable_agg()", "mtable_agg(x + 1)", "mtable_agg(y)"):
        with pytest.raises(al.PlanError, match=r"does not name columns|no column"):
            data.link(pyalink.GroupByBatchOp(groupByPredicate="id", selectClause=wrong))
