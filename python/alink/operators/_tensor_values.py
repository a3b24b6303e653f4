"""Tensors, as programs make and read them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, ClassVar, TypeVar

import numpy as np

from alink._algorithms._tensors import (
    cell_tensor,
    check_tensor,
    format_tensor,
    parse_tensor,
    show_tensor,
    show_values,
    tensor_cell,
)
from alink._options import bad_option
from alink.operators._linalg import Display

T = TypeVar("T", bound="Tensor")

_SHOWN = 3  # values at each end of a dimension, in a short form


class DataType(Enum):
    """The types of tensors."""

    FLOAT = 1
    DOUBLE = 2
    INT = 3
    LONG = 4
    BOOLEAN = 5
    BYTE = 6
    UBYTE = 7
    STRING = 8


class Tensor(Display):
    """A tensor; `Tensor.fromNdarray` makes one of the type of an array.

    Parameters
    ----------
    values : array-like
        Values that the type has.
    """

    _type: ClassVar[DataType]
    _dtype: ClassVar[str]

    def __init__(self, values: Any) -> None:
        if not hasattr(self, "_type"):
            raise bad_option(
                "Tensor", "Tensor is no type of its own", "Tensor.fromNdarray(array) makes tensors"
            )
        try:
            self._values = np.array(values, dtype=self._dtype)
        except (ValueError, TypeError, OverflowError) as error:
            raise bad_option(
                type(self).__name__, f"{type(self).__name__} cannot be {values!r:.60}: {error}"
            ) from None

    @staticmethod
    def fromNdarray(arr: Any) -> Tensor:
        """Make a tensor of an array of numpy, of the type that its values have."""
        given = np.asarray(arr)
        if given.dtype.kind in "UO":
            return StringTensor(given)
        for made in _TYPES.values():
            if given.dtype == np.dtype(made._dtype):
                return made(given)
        raise bad_option(
            "Tensor",
            f"Tensor.fromNdarray: there are no tensors of {given.dtype}",
            f"convert it: arr.astype(…) to {', '.join(t._dtype for t in _TYPES.values())}",
        )

    @staticmethod
    def of(kind: str, shape: Sequence[int], values: Sequence[Any]) -> Tensor:
        """Make a tensor of the name of its type, FLOAT, its shape, and values in row-major order.

        Raises
        ------
        Unreadable
            If there is no such type, or the values do not have the shape.
        """
        check_tensor(kind, shape, len(values))
        made = _TYPES[kind]
        array = np.empty(len(values), dtype=made._dtype)
        with np.errstate(over="ignore"):  # a FLOAT beyond its range is infinite
            array[:] = values
        return made(array.reshape(tuple(shape)))

    @staticmethod
    def parse(text: str) -> Tensor:
        """Read a tensor, ``"FLOAT#2,2#1.5 2.0 3.0 4.0 "``."""
        return Tensor.of(*parse_tensor(text))

    def toNdarray(self) -> Any:
        """Give the values as an array of numpy."""
        return self._values.copy()

    def shape(self) -> list[int]:
        """Give the size of each dimension."""
        return list(self._values.shape)

    def size(self) -> int:
        """Give the number of values."""
        return self._values.size

    def getType(self) -> DataType:
        """Give the type."""
        return self._type

    def getObject(self, coords: Sequence[int]) -> Any:
        """Give the value at coordinates, counted from 0."""
        value = self._values[self._place(coords)]
        return value if self._dtype == "object" else value.item()

    def setObject(self: T, v: Any, coords: Sequence[int]) -> T:
        """Set the value at coordinates; returns the tensor."""
        self._values[self._place(coords)] = type(self)(v)._values
        return self

    def _place(self, coords: Sequence[int]) -> tuple[int, ...]:
        place = (coords,) if isinstance(coords, int) else tuple(coords)
        inside = all(0 <= i < n for i, n in zip(place, self._values.shape, strict=False))
        if len(place) != self._values.ndim or not inside:
            raise bad_option(
                type(self).__name__,
                f"there is nothing at {list(place)} in a tensor of shape {self.shape()}",
            )
        return place

    def reshape(self: T, shape: Sequence[int]) -> T:
        """Give a tensor of the same values in another shape."""
        try:
            return type(self)(self._values.reshape(tuple(shape)))
        except ValueError:
            raise bad_option(
                type(self).__name__, f"{self.size()} values do not have the shape {list(shape)}"
            ) from None

    def flatten(self: T, startDim: int | None = 0, endDim: int | None = -1) -> T:
        """Give a tensor with some dimensions as one; negative ones count from the last."""
        whole = startDim is None or endDim is None
        first = self._dimension(0 if whole else startDim)
        last = self._dimension(-1 if whole else endDim)
        shape = self.shape()
        return self.reshape([*shape[:first], -1, *shape[last + 1 :]])

    def _dimension(self, dim: int | None) -> int:
        count = self._values.ndim
        if dim is None or not -count <= dim < count:
            raise bad_option(
                type(self).__name__, f"there is no dimension {dim} in a tensor that has {count}"
            )
        return dim % count

    @staticmethod
    def stack(tensors: Sequence[T], dim: int) -> T:
        """Put tensors of one shape together along a dimension, which is new.

        Negative dimensions count, as in Alink, from the last one that the tensors have.
        """
        if not tensors or len({(type(t), *t.shape()) for t in tensors}) > 1:
            raise bad_option("Tensor", "Tensor.stack takes tensors of one type and one shape")
        count = len(tensors[0].shape())
        at = dim + count if dim < 0 else dim
        if not 0 <= at <= count:
            raise bad_option("Tensor", f"Tensor.stack: there is no dimension {dim} among {count}")
        return type(tensors[0])(np.stack([tensor._values for tensor in tensors], at))

    @staticmethod
    def unstack(tensor: T, dim: int) -> list[T]:
        """Give the tensors that a tensor consists of along a dimension."""
        moved = np.moveaxis(tensor._values, tensor._dimension(dim), 0)
        return [type(tensor)(part) for part in moved]

    def toDisplaySummary(self) -> str:
        """Give the type and shape."""
        return f"{self._type.name.capitalize()}Tensor({','.join(map(str, self.shape()))})"

    def toDisplayData(self, n: int | None = None) -> str:
        """Give the values in brackets; so many at both ends of each dimension."""
        return show_values(*self._parts(), n)

    def toShortDisplayData(self) -> str:
        """Give the values at the ends of each dimension in brackets."""
        return self.toDisplayData(_SHOWN)

    def show(self) -> str:
        """Write the tensor for people: its type and shape, and its rows in brackets."""
        return show_tensor(*self._parts())

    def _parts(self) -> tuple[str, list[int], list[Any]]:
        return self._type.name, self.shape(), self._values.ravel().tolist()

    def to_cell(self) -> dict[str, Any]:
        """Give the tensor as a column has it."""
        return tensor_cell(*self._parts())

    @staticmethod
    def of_cell(value: dict[str, Any]) -> Tensor:
        """Read a tensor as a column has it."""
        return Tensor.of(*cell_tensor(value))

    def __str__(self) -> str:
        return format_tensor(*self._parts())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tensor) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._values.tolist()})"


class NumericalTensor(Tensor):
    """A tensor of numbers."""

    def min(self: T, dim: int, keepDim: bool) -> T:
        """Give the least values along a dimension, which stays with size 1 if it is kept."""
        return self._along(np.min, dim, keepDim)  # type: ignore[attr-defined]

    def max(self: T, dim: int, keepDim: bool) -> T:
        """Give the largest values along a dimension, which stays with size 1 if it is kept."""
        return self._along(np.max, dim, keepDim)  # type: ignore[attr-defined]

    def sum(self: T, dim: int, keepDim: bool) -> T:
        """Give the sums along a dimension, which stays with size 1 if it is kept."""
        return self._along(np.sum, dim, keepDim)  # type: ignore[attr-defined]

    def mean(self: T, dim: int, keepDim: bool) -> T:
        """Give the means along a dimension; of whole numbers there are none, as in Alink."""
        if self._values.dtype.kind != "f":
            kind = type(self).__name__
            raise bad_option(
                kind,
                f"{kind} has no means, which are no whole numbers",
                "make a DoubleTensor: Tensor.fromNdarray(t.toNdarray().astype(float))",
            )
        return self._along(np.mean, dim, keepDim)  # type: ignore[attr-defined]

    def _along(self: T, function: Callable[..., Any], dim: int, keepDim: bool) -> T:
        return type(self)(function(self._values, axis=self._dimension(dim), keepdims=keepDim))


class FloatTensor(NumericalTensor):
    """A tensor of 32-bit floats."""

    _type = DataType.FLOAT
    _dtype = "float32"

    def getFloat(self, coords: Sequence[int]) -> float:
        """Give the value at coordinates."""
        return self.getObject(coords)

    def setFloat(self, v: float, coords: Sequence[int]) -> FloatTensor:
        """Set the value at coordinates."""
        return self.setObject(v, coords)


class DoubleTensor(NumericalTensor):
    """A tensor of 64-bit floats."""

    _type = DataType.DOUBLE
    _dtype = "float64"

    def getDouble(self, coords: Sequence[int]) -> float:
        """Give the value at coordinates."""
        return self.getObject(coords)

    def setDouble(self, v: float, coords: Sequence[int]) -> DoubleTensor:
        """Set the value at coordinates."""
        return self.setObject(v, coords)


class IntTensor(NumericalTensor):
    """A tensor of 32-bit integers."""

    _type = DataType.INT
    _dtype = "int32"

    def getInt(self, coords: Sequence[int]) -> int:
        """Give the value at coordinates."""
        return self.getObject(coords)

    def setInt(self, v: int, coords: Sequence[int]) -> IntTensor:
        """Set the value at coordinates."""
        return self.setObject(v, coords)


class LongTensor(NumericalTensor):
    """A tensor of 64-bit integers."""

    _type = DataType.LONG
    _dtype = "int64"

    def getLong(self, coords: Sequence[int]) -> int:
        """Give the value at coordinates."""
        return self.getObject(coords)

    def setLong(self, v: int, coords: Sequence[int]) -> LongTensor:
        """Set the value at coordinates."""
        return self.setObject(v, coords)


class BoolTensor(Tensor):
    """A tensor of truths."""

    _type = DataType.BOOLEAN
    _dtype = "bool"

    def getBoolean(self, coords: Sequence[int]) -> bool:
        """Give the value at coordinates."""
        return self.getObject(coords)

    def setBoolean(self, v: bool, coords: Sequence[int]) -> BoolTensor:
        """Set the value at coordinates."""
        return self.setObject(v, coords)


class ByteTensor(Tensor):
    """A tensor of 8-bit integers."""

    _type = DataType.BYTE
    _dtype = "int8"

    def getByte(self, coords: Sequence[int]) -> int:
        """Give the value at coordinates."""
        return self.getObject(coords)

    def setByte(self, v: int, coords: Sequence[int]) -> ByteTensor:
        """Set the value at coordinates."""
        return self.setObject(v, coords)


class UByteTensor(Tensor):
    """A tensor of 8-bit integers without a sign."""

    _type = DataType.UBYTE
    _dtype = "uint8"

    def getUByte(self, coords: Sequence[int]) -> int:
        """Give the value at coordinates."""
        return self.getObject(coords)

    def setUByte(self, v: int, coords: Sequence[int]) -> UByteTensor:
        """Set the value at coordinates."""
        return self.setObject(v, coords)


class StringTensor(Tensor):
    """A tensor of texts, or of None."""

    _type = DataType.STRING
    _dtype = "object"

    def __init__(self, values: Any) -> None:
        super().__init__(values)
        for value in self._values.ravel().tolist():
            if value is not None and not isinstance(value, str):
                raise bad_option("StringTensor", f"StringTensor cannot have {value!r:.60}")

    def getString(self, coords: Sequence[int]) -> str:
        """Give the value at coordinates."""
        return self.getObject(coords)

    def setString(self, v: str, coords: Sequence[int]) -> StringTensor:
        """Set the value at coordinates."""
        return self.setObject(v, coords)


_TYPES: dict[str, type[Tensor]] = {
    made._type.name: made
    for made in (
        FloatTensor,
        DoubleTensor,
        IntTensor,
        LongTensor,
        BoolTensor,
        ByteTensor,
        UByteTensor,
        StringTensor,
    )
}
