"""Minimising smooth convex functions, with or without an L1 norm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_MEMORY = 10  # of differences that the curvature is estimated by
_STEPS_MAX = 40  # of one line search
_DECREASE = 1e-4  # of what the slope promises


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


def minimize(
    function: Callable[[Array], tuple[float, Array]],
    start: Array,
    *,
    l1: Array | None = None,
    iterations_max: int = 100,
    tolerance: float = 1e-6,
) -> Minimum:
    """Minimise ``function(w) + sum(l1 * abs(w))``.

    L-BFGS [1]_; where there is an L1 norm its variant OWL-QN [2]_, which stays within an orthant
    for each step and takes the gradient that is nearest to zero at a kink.

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
    steps: list[Array] = []
    changes: list[Array] = []
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
        direction = -_inverse_hessian(steepest, steps, changes)
        if sparse:
            direction = np.where(direction * -steepest > 0, direction, 0.0)
        descent = float(direction @ steepest)
        if descent >= 0:  # rounding; the steepest way leads down
            steps, changes = [], []
            direction, descent = -steepest, -float(steepest @ steepest)
        orthant = np.where(at != 0, np.sign(at), -np.sign(steepest)) if sparse else None
        length = 1.0 if steps else min(1.0, 1.0 / float(np.linalg.norm(steepest)))
        for _ in range(_STEPS_MAX):
            there = at + length * direction
            if orthant is not None:
                there = np.where(there * orthant > 0, there, 0.0)
            smooth, new_gradient = function(there)
            new_value = smooth + float(weights @ np.abs(there))
            promised = float(steepest @ (there - at)) if sparse else length * descent
            if new_value <= value + _DECREASE * promised:
                break
            length *= 0.5
        else:
            if steps:  # perhaps what is known of the curvature is no good
                steps, changes = [], []
                continue
            return Minimum(at, value, done, True, slope, course)
        step, change = there - at, new_gradient - gradient
        if float(step @ change) > 1e-10 * float(step @ step):
            steps, changes = [*steps[1 - _MEMORY :], step], [*changes[1 - _MEMORY :], change]
        at, value, gradient = there, new_value, new_gradient
        done += 1


def _pseudo_gradient(at: Array, gradient: Array, weights: Array) -> Array:
    """Give the element of the subdifferential that is nearest to zero."""
    low, high = gradient - weights, gradient + weights
    kink = np.where(low > 0, low, np.where(high < 0, high, 0.0))
    return np.where(at > 0, high, np.where(at < 0, low, kink))


def _inverse_hessian(gradient: Array, steps: list[Array], changes: list[Array]) -> Array:
    """Multiply by the estimate of the inverse Hessian: the two loops of L-BFGS."""
    result = gradient.copy()
    factors: list[float] = []
    for step, change in zip(reversed(steps), reversed(changes), strict=True):
        factor = float(step @ result) / float(step @ change)
        factors.append(factor)
        result -= factor * change
    if steps:
        result *= float(steps[-1] @ changes[-1]) / float(changes[-1] @ changes[-1])
    for step, change, factor in zip(steps, changes, reversed(factors), strict=True):
        result += (factor - float(change @ result) / float(step @ change)) * step
    return result
