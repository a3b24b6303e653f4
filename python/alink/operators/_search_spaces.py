"""What searches try: values of parameters of stages, listed or drawn."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from random import Random
from statistics import NormalDist
from typing import Any

from alink._diag import did_you_mean, quote
from alink._options import bad_option
from alink.operators._stages import PipelineStage

#: A stage, the name of one of its parameters, and a value of it.
Setting = tuple[PipelineStage, str, Any]

_TERMS_MAX = 10_000
_HALVINGS = 200


def parameter_of(owner: str, stage: Any, info: str) -> str:
    """Give the parameter that a name means: ``NUM_TREES``, as PyAlink has it, or ``numTrees``.

    Raises
    ------
    PlanError
        If the stage has none of the name.
    """
    if not isinstance(stage, PipelineStage):
        raise bad_option(owner, f"{owner}: {stage!r:.60} is no stage of a pipeline")
    plain = info.replace("_", "").lower()
    for name in stage._parameters:
        if name.lower() == plain:
            return name
    raise bad_option(
        owner,
        f"{owner}: {stage._name} has no parameter {quote(info)}",
        did_you_mean(info, "its parameters", list(stage._parameters)),
    )


class ParamGrid:
    """Values of parameters, of which each combination is tried."""

    def __init__(self) -> None:
        self._items: list[tuple[PipelineStage, str, list[Any]]] = []

    def addGrid(self, stage: Any, info: str, params: Sequence[Any]) -> ParamGrid:
        """Try values of a parameter of a stage.

        Parameters
        ----------
        stage : stage
            One of the pipeline that is tuned.
        info : str
            The parameter, ``"NUM_TREES"`` or ``"numTrees"``.
        params : sequence
            The values; there must be one.
        """
        values = list(params)
        if not values:
            raise bad_option("ParamGrid", f"ParamGrid: there are no values of {quote(info)}")
        self._items.append((stage, parameter_of("ParamGrid", stage, info), values))
        return self

    def getItems(self) -> list[tuple[PipelineStage, str, list[Any]]]:
        """Give the stages, their parameters and the values."""
        return list(self._items)

    def candidates(self) -> Iterator[list[Setting]]:
        """Give the combinations, the last parameter changing fastest."""
        for values in itertools.product(*(values for _, _, values in self._items)):
            yield [(s, n, v) for (s, n, _), v in zip(self._items, values, strict=True)]


class ValueDist:
    """A distribution of values.

    Parameters
    ----------
    quantile : callable
        Gives the value below which a probability lies.
    """

    def __init__(self, quantile: Callable[[float], Any]) -> None:
        self._quantile = quantile

    def get(self, p: float) -> Any:
        """Give the value below which a probability lies, from 0 to 1."""
        return self._quantile(p)

    @staticmethod
    def randInteger(start: int, end: int) -> ValueDist:
        """Draw whole numbers, both ends among them."""
        low, count = min(start, end), abs(end - start) + 1
        return ValueDist(lambda p: low + min(count - 1, math.floor(count * p)))

    @staticmethod
    def randLong(start: int, end: int) -> ValueDist:
        """Draw whole numbers, both ends among them."""
        return ValueDist.randInteger(start, end)

    @staticmethod
    def randArray(values: Sequence[Any]) -> ValueDist:
        """Draw one of some values."""
        given = list(values)
        if not given:
            raise bad_option("ValueDist", "ValueDist.randArray: there are no values")
        return ValueDist(lambda p: given[min(len(given) - 1, math.floor(len(given) * p))])

    @staticmethod
    def exponential(e: float) -> ValueDist:
        """Draw of the exponential distribution with a mean."""
        return ValueDist(lambda p: math.inf if p >= 1 else -e * math.log1p(-p))

    @staticmethod
    def uniform(lowerbound: float, upperbound: float) -> ValueDist:
        """Draw evenly between two numbers."""
        return ValueDist(lambda p: lowerbound + (upperbound - lowerbound) * p)

    @staticmethod
    def normal(mu: float, sigma2: float) -> ValueDist:
        """Draw of the normal distribution with a mean and, as in Alink, a standard deviation."""
        dist = NormalDist(mu, sigma2)
        ends = {0.0: -math.inf, 1.0: math.inf}
        return ValueDist(lambda p: ends[p] if p in ends else dist.inv_cdf(p))

    @staticmethod
    def stdNormal() -> ValueDist:
        """Draw of the normal distribution with mean 0 and standard deviation 1."""
        return ValueDist.normal(0.0, 1.0)

    @staticmethod
    def chi2(df: float) -> ValueDist:
        """Draw of the chi-squared distribution."""
        return ValueDist(lambda p: _chi2_quantile(p, df))


def _chi2_quantile(p: float, df: float) -> float:
    """Halve an interval until its ends are next to each other."""
    if p >= 1:
        return math.inf
    low, high = 0.0, max(df, 1.0)
    while _gamma_share(df / 2, high / 2) < p:
        low, high = high, high * 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _gamma_share(df / 2, middle / 2) < p:
            low = middle
        else:
            high = middle
    return high


def _gamma_share(a: float, x: float) -> float:
    """Give the lower incomplete gamma function over the whole, by its series."""
    if x <= 0:
        return 0.0
    term = total = 1 / a
    for n in range(1, _TERMS_MAX):
        term *= x / (a + n)
        total += term
        if term < total * 1e-17:
            break
    return min(1.0, total * math.exp(-x + a * math.log(x) - math.lgamma(a)))


class ParamDist:
    """Distributions of parameters, of which values are drawn."""

    def __init__(self) -> None:
        self._items: list[tuple[PipelineStage, str, ValueDist]] = []

    def addDist(self, stage: Any, info: str, dist: ValueDist) -> ParamDist:
        """Draw values of a parameter of a stage; the arguments are those of ParamGrid."""
        if not isinstance(dist, ValueDist):
            raise bad_option(
                "ParamDist",
                f"ParamDist: {dist!r:.60} is no distribution",
                "ValueDist makes them: ValueDist.uniform(0.0, 1.0)",
            )
        self._items.append((stage, parameter_of("ParamDist", stage, info), dist))
        return self

    def getItems(self) -> list[tuple[PipelineStage, str, ValueDist]]:
        """Give the stages, their parameters and the distributions."""
        return list(self._items)

    def drawn(self, number: int, seed: int) -> list[float]:
        """Draw a probability for each parameter; those of a seed and number are always the same."""
        # A generator of its own for each: more of them do not change the first.
        random = Random(f"{seed}/{number}")
        return [random.random() for _ in self._items]

    def settings(self, places: Sequence[float]) -> list[Setting]:
        """Give the values below which probabilities lie."""
        items = zip(self._items, places, strict=True)
        return [(stage, name, dist.get(p)) for (stage, name, dist), p in items]

    def candidates(self, count: int, seed: int) -> Iterator[list[Setting]]:
        """Draw so many combinations."""
        return (self.settings(self.drawn(number, seed)) for number in range(count))
