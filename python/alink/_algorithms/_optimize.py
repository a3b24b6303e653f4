"""Minimising smooth convex functions, with or without an L1 norm."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ._strings import Unreadable

Array = npt.NDArray[np.float64]

_MEMORY = 10  # of differences that the curvature is estimated by
_MANY = 2**16  # weights, from which on the differences are kept in single precision
_STEPS_MAX = 40  # of one line search
_ENOUGH = 10  # steps of one, where one of them led down
_DECREASE = 1e-4  # of what the slope promises
_FLATTER = 0.9  # how steep the slope may still be, of what it was
_LONGER = 4.0  # times as far, where a step ends on the way down
_PENALTY = 10.0  # of the square of a violated constraint, at first
_PENALTY_GROWS = 5.0
_PENALTIES_MAX = 40
_VIOLATION = 1e-7  # of a constraint that counts as fulfilled
_WITHIN = 0.1  # of an interval: as near to its ends a step is not tried


@dataclass
class Minimum:
    """What was found.

    Attributes
    ----------
    at : array
    value : float
        Of the function with its L1 norm.
    iterations : int
    converged : bool
        Whether the gradient is as small as was asked for, or nothing lower is found.
    slope : float
        The largest component of the gradient.
    course : list of float
        Of the start and each iteration three numbers: the value, the largest component of the
        gradient, and how far along its direction the step before has gone.
    """

    at: Array
    value: float
    iterations: int
    converged: bool
    slope: float
    course: list[float]

    def warn(self) -> None:
        """Tell, with figures, that what was found has not converged, if so."""
        if not self.converged:
            print(
                f"warning: not converged after {self.iterations} iterations: the objective is "
                f"{self.value:.6g}, the largest component of its gradient {self.slope:.3g}",
                file=sys.stderr,
                flush=True,
            )


def minimum(
    function: Callable[[Array], tuple[float, Array]],
    start: Array,
    params: Mapping[str, Any],
    l1: Array | None = None,
) -> Minimum:
    """Minimise as `minimize` does, with the ``maxIter`` and ``epsilon`` of a training."""
    found = minimize(
        function,
        start,
        l1=l1,
        iterations_max=params.get("maxIter") or 100,
        tolerance=min(params.get("epsilon") or 1e-6, 1e-6),
    )
    found.warn()
    return found


def minimum_within(
    function: Callable[[Array], tuple[float, Array]],
    start: Array,
    params: Mapping[str, Any],
    equal: tuple[Array, Array],
    least: tuple[Array, Array],
    l1: Array | None = None,
) -> Minimum:
    """Minimise as `minimum` does, where ``A w = b`` and ``G w >= h``.

    By augmented Lagrangians [Nocedal and Wright 2006, chapter 17.4]: multipliers, and a penalty
    that grows where a violation does not shrink to a quarter.

    Parameters
    ----------
    equal, least : (array, shape (m, n); array, shape (m,))

    Raises
    ------
    Unreadable
        If no point fulfils them.
    """
    (a, b), (g, h) = equal, least
    at, penalty, worst = start, _PENALTY, np.inf
    of_equal, of_least = np.zeros(len(b)), np.zeros(len(h))

    def augmented(w: Array) -> tuple[float, Array]:
        value, gradient = function(w)
        off = a @ w - b + of_equal / penalty
        short = np.maximum(of_least / penalty - (g @ w - h), 0.0)
        value += 0.5 * penalty * float(off @ off + short @ short)
        return value, gradient + penalty * (a.T @ off - g.T @ short)

    for _ in range(_PENALTIES_MAX):
        found = minimize(
            augmented,
            at,
            l1=l1,
            iterations_max=params.get("maxIter") or 100,
            tolerance=min(params.get("epsilon") or 1e-6, 1e-6),
        )
        at = found.at
        off, spare = a @ at - b, g @ at - h
        before = worst
        worst = max(float(np.abs(off).max(initial=0.0)), float(-spare.min(initial=0.0)))
        of_equal = of_equal + penalty * off
        of_least = np.maximum(of_least - penalty * spare, 0.0)
        if worst <= _VIOLATION:
            found.warn()
            return found
        if worst > before / 4:
            penalty *= _PENALTY_GROWS
    raise Unreadable(f"no weights fulfil the constraints: they are off by {worst:.3g} at best")


def minimize(
    function: Callable[[Array], tuple[float, Array]],
    start: Array,
    *,
    l1: Array | None = None,
    iterations_max: int = 100,
    tolerance: float = 1e-6,
) -> Minimum:
    """Minimise ``function(w) + sum(l1 * abs(w))``.

    L-BFGS [1]_, whose steps fulfil the strong Wolfe conditions; where there is an L1 norm its
    variant OWL-QN [2]_, which stays within an orthant for each step and takes the gradient that is
    nearest to zero at a kink.

    Parameters
    ----------
    function : callable
        Gives a value and its gradient; convex and smooth.
    start : array, shape (n,)
    l1 : array, shape (n,), optional
        A weight for each component, 0 or more.
    iterations_max : int
    tolerance : float
        Ends where no component of the gradient is larger, times the larger of 1 and the value.

    References
    ----------
    .. [1] Nocedal and Wright, Numerical Optimization, 2006, algorithm 7.5.
    .. [2] Andrew and Gao, Scalable training of L1-regularized log-linear models, ICML 2007.
    """
    weights = np.zeros_like(start) if l1 is None else l1
    sparse = bool(weights.any())
    at = start.astype(np.float64)
    smooth, gradient = function(at)
    value = smooth + float(weights @ np.abs(at))
    curvature = _Curvature(len(at))
    done, length = 0, 1.0
    course: list[float] = []
    while True:
        steepest = _pseudo_gradient(at, gradient, weights) if sparse else gradient
        slope = float(np.abs(steepest).max(initial=0.0))
        if len(course) == 3 * done:
            course += [value, slope, length]
        if slope <= tolerance * max(1.0, abs(value)):
            return Minimum(at, value, done, True, slope, course)
        if done == iterations_max:
            return Minimum(at, value, done, False, slope, course)
        direction = -curvature.applied(steepest)
        if sparse:
            direction = np.where(direction * -steepest > 0, direction, 0.0)
        descent = float(direction @ steepest)
        if descent >= 0:  # rounding; the steepest way leads down
            curvature.forget()
            direction, descent = -steepest, -float(steepest @ steepest)
        # The first step, of which nothing is known, has length 1: a search for the right one costs
        # little, and what it tells of the curvature decides about those that come.
        length = 1.0 if curvature.known else 1.0 / float(np.linalg.norm(steepest))
        line = _Line(function, at, value, direction, descent)
        found = _halved(line, length, weights, steepest) if sparse else _interpolated(line, length)
        if found is None:
            if curvature.known:  # perhaps what is known of the curvature is no good
                curvature.forget()
                continue
            return Minimum(at, value, done, True, slope, course)
        length, there, new_value, new_gradient = found
        step, change = there - at, new_gradient - gradient
        if float(step @ change) > 1e-10 * float(step @ step):
            curvature.learn(step, change)
        del step, change  # of many weights each takes megabytes
        at, value, gradient = there, new_value, new_gradient
        done += 1


@dataclass
class _Line:
    """A way that leads down: from `start`, where `function` is `value`, with slope `descent`."""

    function: Callable[[Array], tuple[float, Array]]
    start: Array
    value: float
    direction: Array
    descent: float


#: How far a step goes, where it ends, and value and gradient there.
_Step = tuple[float, Array, float, Array]


def _interpolated(line: _Line, length: float) -> _Step | None:
    """Find a step to where the function is lower and flatter, None if there is none.

    The strong Wolfe conditions hold there. Between a step that ends on the way down and one that
    is too long the next one is the minimum of the cubic through both [Nocedal and Wright 2006,
    algorithm 3.5 and (3.59)].
    """
    low, high = (0.0, line.value, line.descent), None
    best: _Step | None = None
    rounding = np.finfo(np.float64).eps * abs(line.value)
    for tried in range(_STEPS_MAX):
        if -length * line.descent <= rounding or (best is not None and tried >= _ENOUGH):
            break
        there = line.start + length * line.direction
        value, gradient = line.function(there)
        slope = float(gradient @ line.direction)
        if not value <= line.value + _DECREASE * length * line.descent:
            high = length, value, slope
        else:
            best = length, there, value, gradient
            if abs(slope) <= -_FLATTER * line.descent:
                break
            if slope > 0:
                high = length, value, slope
            else:
                low = length, value, slope
        length = _LONGER * length if high is None else _between(low, high)
    return best if best is not None and best[2] < line.value else None


def _between(low: tuple[float, float, float], high: tuple[float, float, float]) -> float:
    """Give the minimum of the cubic with these values and slopes, not too near to either end."""
    (a, f, s), (b, g, t) = low, high
    width = b - a
    with np.errstate(all="ignore"):  # of a value that is none there is no cubic
        first = s + t - 3 * np.divide(g - f, width)
        second = np.sqrt(first * first - s * t)
        cubic = b - width * np.divide(t + second - first, t - s + 2 * second)
    if not np.isfinite(cubic):
        return a + 0.5 * width
    return float(np.clip(cubic, a + _WITHIN * width, b - _WITHIN * width))


def _halved(line: _Line, length: float, weights: Array, steepest: Array) -> _Step | None:
    """Find a step within the orthant to where the function with its L1 norm is lower."""
    orthant = np.where(line.start != 0, np.sign(line.start), -np.sign(steepest))
    for _ in range(_STEPS_MAX):
        there = line.start + length * line.direction
        there = np.where(there * orthant > 0, there, 0.0)
        smooth, gradient = line.function(there)
        value = smooth + float(weights @ np.abs(there))
        if value <= line.value + _DECREASE * float(steepest @ (there - line.start)):
            return length, there, value, gradient
        length *= 0.5
    return None


def _pseudo_gradient(at: Array, gradient: Array, weights: Array) -> Array:
    """Give the element of the subdifferential that is nearest to zero."""
    low, high = gradient - weights, gradient + weights
    kink = np.where(low > 0, low, np.where(high < 0, high, 0.0))
    return np.where(at > 0, high, np.where(at < 0, low, kink))


class _Curvature:
    """The estimate of the inverse Hessian, of the last steps and the changes of the gradient.

    It is kept in the compact form [1]_: where there are many weights, each of a few products with
    all steps at once reads them one time.

    References
    ----------
    .. [1] Byrd, Nocedal and Schnabel, Representations of quasi-Newton matrices, 1994, theorem 2.2.
    """

    def __init__(self, size: int) -> None:
        # An estimate need not be exact, and of many weights nothing takes as much memory as this.
        self._kind = np.dtype(np.float32 if size >= _MANY else np.float64)
        self._steps = np.zeros((_MEMORY, size), self._kind)
        self._changes = np.zeros((_MEMORY, size), self._kind)
        # Of steps and changes, and of changes with one another; in the order of `_order`.
        self._mixed = np.zeros((_MEMORY, _MEMORY))
        self._squares = np.zeros((_MEMORY, _MEMORY))
        # The rows that are used, the oldest first.
        self._order: list[int] = []

    @property
    def known(self) -> bool:
        """Whether anything is known."""
        return bool(self._order)

    def forget(self) -> None:
        """Know nothing."""
        self._order = []

    def learn(self, step: Array, change: Array) -> None:
        """Take in a step, and how the gradient has changed with it."""
        full = len(self._order) == _MEMORY
        row = (
            self._order.pop(0) if full else next(i for i in range(_MEMORY) if i not in self._order)
        )
        self._order.append(row)
        self._steps[row], self._changes[row] = step, change
        step, change = self._steps[row], self._changes[row]
        self._mixed[:, row] = self._steps @ change
        self._mixed[row] = self._changes @ step
        self._squares[row] = self._squares[:, row] = self._changes @ change

    def applied(self, gradient: Array) -> Array:
        """Multiply the estimate by a gradient."""
        if not self._order:
            return gradient.copy()
        order = np.array(self._order)
        mixed = self._mixed[np.ix_(order, order)]
        squares = self._squares[np.ix_(order, order)]
        newest = self._order[-1]
        scale = self._mixed[newest, newest] / self._squares[newest, newest]
        upper, along = np.triu(mixed), np.diag(np.diag(mixed))
        own = gradient.astype(self._kind, copy=False)
        first = np.linalg.solve(upper, (self._steps @ own)[order].astype(np.float64))
        second = scale * (self._changes @ own)[order]
        inner = np.linalg.solve(upper.T, (along + scale * squares) @ first - second)
        by_steps, by_changes = np.zeros((2, _MEMORY), self._kind)
        by_steps[order], by_changes[order] = inner, scale * first
        result = scale * gradient
        result += by_steps @ self._steps
        result -= by_changes @ self._changes
        return result
