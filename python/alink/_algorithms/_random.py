"""Random numbers that follow from a seed and a row's number alone.

So a row gets the same ones however the rows are cut into batches, and in each run.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def uniform(seed: int, draw: int, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Draw a number from 0 up to, but without, 1 for each row.

    Parameters
    ----------
    seed : int
    draw : int
        Numbers of different draws are independent.
    rows : array of int64
        The numbers of the rows.
    """
    with np.errstate(over="ignore"):
        start = _mixed(np.array([seed % 2**64, draw % 2**64], np.uint64))
        base = _mixed(start[:1] ^ (start[1:] * _GOLDEN))
        bits = _mixed(rows.astype(np.uint64) * _GOLDEN + base)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Spread each bit over all others: the finalizer of SplitMix64 [Steele et al., 2014]."""
    values = values + _GOLDEN
    values = (values ^ (values >> np.uint64(30))) * _MIX_1
    values = (values ^ (values >> np.uint64(27))) * _MIX_2
    return values ^ (values >> np.uint64(31))


def normal(seed: int, draw: int, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Draw of the standard normal distribution [Box and Muller, 1958]; takes two draws."""
    radius = np.sqrt(-2.0 * np.log1p(-uniform(seed, draw, rows)))
    return radius * np.cos(2.0 * np.pi * uniform(seed, draw + 1, rows))


def poisson(
    seed: int, draw: int, rows: npt.NDArray[np.int64], mean: float
) -> npt.NDArray[np.int64]:
    """Draw of the Poisson distribution, by inverting its sums; `mean` is at most 700."""
    drawn = uniform(seed, draw, rows)
    result = np.zeros(len(rows), np.int64)
    term = total = math.exp(-mean)
    # Beyond it no probability is left that a double could hold.
    for count in range(1, int(mean + 40 * math.sqrt(mean) + 40)):
        result += drawn >= total
        term *= mean / count
        total += term
    return result
