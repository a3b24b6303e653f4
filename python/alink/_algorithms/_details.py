"""Probabilities of labels as JSON, as Alink writes them, of whole columns at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ._arrays import string
from ._strings import text_of

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

# What Arrow writes, in decimals from 1e-6 on, as Java does, in decimals from 1e-3 on.
_SMALL = (
    (r"^0\.000([1-9])([0-9]*)$", r"\1.\2e-4"),
    (r"^0\.0000([1-9])([0-9]*)$", r"\1.\2e-5"),
    (r"^0\.00000([1-9])([0-9]*)$", r"\1.\2e-6"),
    (r"^([0-9])\.?e", r"\1.0e"),
    (r"e-0*", "E-"),
    (r"^([01])$", r"\1.0"),
    (r"^nan$", "NaN"),
)


def chances(values: Array) -> pa.Array:
    """Write numbers from 0 to 1 as Java's ``Double.toString`` does."""
    texts = pc.cast(pa.array(values, pa.float64()), pa.string())
    small = ~(values >= 1e-3) | (values == 1)  # NaN is too
    if not small.any():
        return texts
    written = texts.filter(pa.array(small))
    for pattern, instead in _SMALL:
        written = pc.replace_substring_regex(written, pattern, instead)
    return pc.replace_with_mask(texts, pa.array(small), written)


def details(
    labels: Sequence[Any], probabilities: Sequence[Array], missing: Flags, quoted: bool
) -> pa.Array:
    """Give for each row an object of the probabilities of all labels.

    Parameters
    ----------
    labels : sequence
    probabilities : sequence of arrays, shape (rows,)
        One for each label.
    missing : array of bool
        Rows that get NULL.
    quoted : bool
        Whether the probabilities are texts.
    """
    mark = '"' if quoted else ""
    parts: list[Any] = []
    between = "{"
    for label, values in zip(labels, probabilities, strict=True):
        head = json.dumps(text_of(label), ensure_ascii=False)
        parts += [string(f"{between}{head}:{mark}"), chances(np.ascontiguousarray(values))]
        between = f"{mark},"
    joined = pc.binary_join_element_wise(*parts, string(f"{mark}}}"), string(""))
    return pc.if_else(pa.array(missing), pa.scalar(None, pa.string()), joined)
