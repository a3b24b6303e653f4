"""Rows of numbers and of categories: coefficients of one-hot encoded columns without vectors."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]


@dataclass
class Rows:
    """Rows of a regression: numbers, the categories of fields, and labels of 1 and -1."""

    numbers: Array
    fields: list[Codes]
    sizes: list[int]
    signs: Array

    def take(self, rows: Codes) -> Rows:
        """Give some of the rows."""
        fields = [field[rows] for field in self.fields]
        return Rows(self.numbers[rows], fields, self.sizes, self.signs[rows])

    def with_field(self, codes: Codes, size: int) -> Rows:
        """Give the rows with a field more."""
        return Rows(self.numbers, [*self.fields, codes], [*self.sizes, size], self.signs)

    @property
    def begins(self) -> list[int]:
        """Where the coefficients of each field begin, behind the intercept and the numbers'."""
        first = 1 + self.numbers.shape[1]
        return list(itertools.accumulate(self.sizes, initial=first))

    def margins(self, coefficients: Array) -> Array:
        """Give the sum of the coefficients that each row has."""
        begins = self.begins
        result = self.numbers @ coefficients[1 : begins[0]]
        result += coefficients[0]
        for field, (begin, end) in zip(self.fields, itertools.pairwise(begins), strict=True):
            result += coefficients[begin:end].take(field)
        return result

    def gradient(self, slopes: Array) -> Array:
        """Give the sums of slopes by coefficients."""
        parts = [np.array([slopes.sum()]), self.numbers.T @ slopes]
        for field, size in zip(self.fields, self.sizes, strict=True):
            parts.append(np.bincount(field, slopes, size))
        return np.concatenate(parts)
