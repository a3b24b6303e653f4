"""Families of distributions and links of generalized linear models.

McCullagh and Nelder, Generalized Linear Models, 1989; Tweedie's by Dunn and Smyth, 2005.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_TINY = 1e-16
_log_gamma = np.vectorize(math.lgamma, otypes=[np.float64])
_erf = np.vectorize(math.erf, otypes=[np.float64])


def _normal_cdf(x: Array) -> Array:
    return np.asarray(0.5 * (1 + _erf(x / math.sqrt(2))), np.float64)


def _normal_quantile(p: Array) -> Array:
    """Invert the normal distribution by Newton's steps from a logistic guess."""
    x = np.clip(np.log(p / (1 - p)) / 1.702, -8.0, 8.0)
    for _ in range(60):
        density = np.exp(-0.5 * x**2) / math.sqrt(2 * math.pi)
        step = np.clip((_normal_cdf(x) - p) / np.maximum(density, 1e-300), -0.5, 0.5)
        x = x - step
        if np.abs(step).max(initial=0.0) < 1e-13:
            break
    return np.asarray(x, np.float64)


class Link:
    """A function of the mean that is linear in the features.

    Attributes
    ----------
    eta, slope, mean : callable
        The function, its derivative by the mean, and its inverse.
    """

    def __init__(
        self,
        eta: Callable[[Array], Array],
        slope: Callable[[Array], Array],
        mean: Callable[[Array], Array],
    ) -> None:
        self.eta = eta
        self.slope = slope
        self.mean = mean


def _power(power: float) -> Link:
    if power == 0:
        return LINKS["log"]
    return Link(
        lambda m: m**power,
        lambda m: power * m ** (power - 1),
        lambda e: e if power == 1 else np.maximum(e, _TINY) ** (1 / power),
    )


LINKS: dict[str, Link] = {
    "identity": Link(lambda m: m, np.ones_like, lambda e: e),
    "log": Link(np.log, lambda m: 1 / m, np.exp),
    "inverse": Link(lambda m: 1 / m, lambda m: -1 / m**2, lambda e: 1 / e),
    "sqrt": Link(np.sqrt, lambda m: 0.5 / np.sqrt(m), np.square),
    "logit": Link(
        lambda m: np.log(m / (1 - m)),
        lambda m: 1 / (m * (1 - m)),
        lambda e: np.exp(-np.logaddexp(0, -e)),
    ),
    "probit": Link(
        _normal_quantile,
        lambda m: math.sqrt(2 * math.pi) * np.exp(0.5 * _normal_quantile(m) ** 2),
        _normal_cdf,
    ),
    "cloglog": Link(
        lambda m: np.log(-np.log1p(-m)),
        lambda m: -1 / ((1 - m) * np.log1p(-m)),
        lambda e: -np.expm1(-np.exp(e)),
    ),
}


class Family:
    """A distribution of labels, and the link of its mean.

    Parameters
    ----------
    name, link : str
        A name of ``gaussian``, ``binomial``, ``poisson``, ``gamma`` and ``tweedie``, and one of
        `LINKS`.
    variance_power, link_power : float
        Of Tweedie's family: the variance is the mean to the one, the link the mean to the other.
    """

    def __init__(
        self, name: str, link: str, variance_power: float = 0.0, link_power: float = 1.0
    ) -> None:
        self.name = name
        self.link = _power(link_power) if name == "tweedie" else LINKS[link]
        powers = {"gaussian": 0.0, "poisson": 1.0, "gamma": 2.0}
        self._power = powers.get(name, variance_power)

    @property
    def allowed(self) -> str:
        """Say what labels may be, or nothing if they may be any."""
        if self.name == "binomial":
            return "between 0 and 1"
        if self._power >= 2:
            return "larger than 0"
        return "0 or more" if self._power >= 1 else ""

    @property
    def positive(self) -> bool:
        """Whether means are larger than 0."""
        return self.name != "binomial" and self._power >= 1

    def allows(self, label: Array) -> bool:
        """Tell whether labels may be what they are."""
        if self.name == "binomial":
            return bool(((label >= 0) & (label <= 1)).all())
        if self._power >= 2:
            return bool((label > 0).all())
        return self._power < 1 or bool((label >= 0).all())

    def start(self, label: Array, weight: Array) -> Array:
        """Give means to begin with."""
        if self.name == "binomial":
            return (weight * label + 0.5) / (weight + 1)
        return np.maximum(label, 0.1) if 1 <= self._power < 2 else label

    def mean(self, eta: Array) -> Array:
        """Give means, kept where the family has them."""
        mean = self.link.mean(eta)
        if self.name == "binomial":
            return np.clip(mean, _TINY, 1 - _TINY)
        return np.maximum(mean, _TINY) if self._power >= 1 else mean

    def variance(self, mean: Array) -> Array:
        """Give the variances of means, in units of the dispersion."""
        if self.name == "binomial":
            return np.maximum(mean * (1 - mean), _TINY)
        return mean**self._power

    def deviance(self, label: Array, mean: Array) -> Array:
        """Give twice the distance of the log-likelihood from that of the label itself."""
        if self.name == "binomial":
            return 2 * (_times_log(label, mean) + _times_log(1 - label, 1 - mean))
        p = self._power
        if p == 0:
            return (label - mean) ** 2
        if p == 1:
            return 2 * (_times_log(label, mean) - (label - mean))
        if p == 2:
            return 2 * ((label - mean) / mean - np.log(label / mean))
        first = np.maximum(label, 0.0) ** (2 - p) / ((1 - p) * (2 - p))
        return 2 * (first - label * mean ** (1 - p) / (1 - p) + mean ** (2 - p) / (2 - p))

    @property
    def fixed(self) -> bool:
        """Whether the dispersion is 1, not estimated."""
        return self.name in ("binomial", "poisson")

    def likelihood(self, label: Array, mean: Array, weight: Array, dispersion: float) -> Array:
        """Give the logarithms of likelihoods; NaN of Tweedie's family, which has no closed form."""
        if self.name == "binomial":
            chosen = weight * label
            free = _log_gamma(weight + 1) - _log_gamma(chosen + 1)
            free -= _log_gamma(weight - chosen + 1)
            return free + chosen * np.log(mean) + (weight - chosen) * np.log1p(-mean)
        if self.name == "poisson":
            return weight * (label * np.log(mean) - mean - _log_gamma(label + 1))
        if self.name == "gamma":
            shape = 1 / dispersion
            scaled = label / (mean * dispersion)
            return weight * (shape * np.log(scaled) - scaled - np.log(label) - math.lgamma(shape))
        if self.name == "gaussian":
            away = (label - mean) ** 2 / dispersion
            return -0.5 * (weight * away + math.log(2 * math.pi * dispersion) - np.log(weight))
        return np.full(len(label), np.nan)


def _times_log(label: Array, mean: Array) -> Array:
    """Give ``y log(y / m)``, which is 0 where y is."""
    safe = np.where(label > 0, label, 1.0)
    return np.where(label > 0, label * np.log(safe / np.maximum(mean, 1e-300)), 0.0)
