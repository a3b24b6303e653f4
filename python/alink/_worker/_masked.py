"""Masked arrays that give a row the same result whatever the other rows are.

numpy's own masked arrays also mask what an operation is not defined for: ``np.sqrt(x)`` of -1
is masked if ``x`` is a masked array and NaN if it is a plain one. Whether a column comes as the
one or the other depends on whether its batch has a NULL, and so the result of one row would
depend on the others. In these arrays only a NULL masks: operators and numpy's functions
of elements compute on the values and mask where an operand is masked. Whoever asks for more asks
for it by name (``np.ma.sqrt``, ``np.ma.masked_invalid``), and then plain arrays are masked too.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin


class NullableArray(NDArrayOperatorsMixin, np.ma.MaskedArray):
    """A column with NULLs, as functions of numpy arrays get it."""

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """Apply a function of elements to the values, and mask where an operand is masked."""
        if method != "__call__" or ufunc.signature is not None or "where" in kwargs:
            plain = [_as_numpy_masks(value) for value in inputs]
            return getattr(ufunc, method)(*plain, **kwargs)
        out = kwargs.pop("out", None)
        data = [np.ma.getdata(value) for value in inputs]
        mask = _union([np.ma.getmask(value) for value in inputs])
        if out is not None:
            kwargs["out"] = tuple(None if o is None else np.ma.getdata(o) for o in out)
        with _quiet(mask):
            results = _computed(ufunc, data, mask, kwargs)
        several = isinstance(results, tuple)
        masked = [
            _masked(result, mask, None if out is None else out[i])
            for i, result in enumerate(results if several else (results,))
        ]
        return tuple(masked) if several else masked[0]


def _as_numpy_masks(value: Any) -> Any:
    return value.view(np.ma.MaskedArray) if isinstance(value, NullableArray) else value


def _union(masks: list[Any]) -> Any:
    union: Any = np.ma.nomask
    for mask in masks:
        if mask is not np.ma.nomask:
            union = mask if union is np.ma.nomask else np.logical_or(union, mask)
    return union


def _quiet(mask: Any) -> contextlib.AbstractContextManager[Any]:
    """Keep numpy from warning of what happens to the zeros that lie under a mask."""
    if mask is np.ma.nomask:
        return contextlib.nullcontext()
    return np.errstate(divide="ignore", invalid="ignore", over="ignore")


def _computed(ufunc: np.ufunc, data: list[Any], mask: Any, kwargs: dict[str, Any]) -> Any:
    if mask is np.ma.nomask or not any(values.dtype.kind == "O" for values in data):
        return ufunc(*data, **kwargs)
    # None, which lies under the mask of Python objects, has no operations.
    shape = np.broadcast_shapes(mask.shape, *(values.shape for values in data))
    return ufunc(*data, where=~np.broadcast_to(mask, shape), **kwargs)


def _masked(result: Any, mask: Any, out: Any) -> Any:
    if isinstance(out, NullableArray):
        out.mask = False if mask is np.ma.nomask else np.broadcast_to(mask, out.shape)
        return out
    if out is not None:
        return out
    if np.ndim(result) == 0:
        return np.ma.masked if mask is not np.ma.nomask and bool(mask) else result
    masked = result.view(NullableArray)
    if mask is not np.ma.nomask:
        masked.mask = np.broadcast_to(mask, result.shape)
    return masked
