"""Student's t distribution."""

from __future__ import annotations

import math

_TERMS_MAX = 10_000


def two_sided(value: float, df: float) -> float:
    """Give how likely a value so far from 0 is, or farther; NaN without degrees of freedom.

    With infinitely many degrees of freedom the distribution is the normal one.
    """
    if math.isnan(value) or not df > 0:
        return math.nan
    if math.isinf(df):
        return math.erfc(abs(value) / math.sqrt(2))
    if math.isinf(value):
        return 0.0
    return _incomplete_beta(df / (df + value * value), df / 2, 0.5)


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """Give the regularized incomplete beta function [Abramowitz and Stegun, 26.5.8]."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(1 - x, b, a)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front += a * math.log(x) + b * math.log1p(-x)
    return math.exp(front) * _fraction(x, a, b) / a


def _fraction(x: float, a: float, b: float) -> float:
    """Evaluate the continued fraction, front to back [Lentz, 1976]."""
    tiny = 1e-300
    upper, lower = 1.0, 1 / _away(1 - (a + b) * x / (a + 1), tiny)
    value = lower
    for m in range(1, _TERMS_MAX):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            lower = 1 / _away(1 + term * lower, tiny)
            upper = _away(1 + term / upper, tiny)
            value *= lower * upper
        if abs(lower * upper - 1) < 1e-15:
            break
    return value


def _away(value: float, tiny: float) -> float:
    return tiny if abs(value) < tiny else value
