"""Operators whose rows a program takes as an object: a summary, correlations, tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import pyarrow as pa

from alink._errors import without_our_frames
from alink.operators._base import BatchOperator
from alink.operators._model_info import later, printing
from alink.operators._operator import collect
from alink.operators._summaries import (
    BaseVectorSummary,
    ChiSquareTestResults,
    CorrelationResult,
    TableSummary,
    vector_summary,
)

R = TypeVar("R", bound="WithResult")


class WithResult(BatchOperator):
    """An operator whose rows are read as an object."""

    _read: ClassVar[Callable[[pa.Table], Any]]

    @without_our_frames
    def _collect(self) -> Any:
        return type(self)._read(collect([self])[0])

    def _collect_later(self: R, callbacks: tuple[Callable[[Any], Any], ...]) -> R:
        later(self, type(self)._read, callbacks)
        return self

    def _print_later(self: R, title: str | None) -> R:
        return self._collect_later((printing(title),))


class Summarized(WithResult):
    """Gives a summary of columns."""

    _read = TableSummary

    def collectSummary(self) -> TableSummary:
        """Run what is needed and give the summary."""
        return self._collect()

    def lazyCollectSummary(self: R, *callbacks: Callable[[TableSummary], Any]) -> R:
        """Call functions with the summary with the next ``execute``."""
        return self._collect_later(callbacks)

    def lazyPrintSummary(self: R, title: str | None = None) -> R:
        """Print the summary with the next ``execute``."""
        return self._print_later(title)


class VectorSummarized(WithResult):
    """Gives a summary of vectors."""

    _read = staticmethod(vector_summary)

    def collectVectorSummary(self) -> BaseVectorSummary:
        """Run what is needed and give the summary."""
        return self._collect()

    def lazyCollectVectorSummary(self: R, *callbacks: Callable[[BaseVectorSummary], Any]) -> R:
        """Call functions with the summary with the next ``execute``."""
        return self._collect_later(callbacks)

    def lazyPrintVectorSummary(self: R, title: str | None = None) -> R:
        """Print the summary with the next ``execute``."""
        return self._print_later(title)


class Correlated(WithResult):
    """Gives correlations."""

    _read = CorrelationResult

    def collectCorrelation(self) -> CorrelationResult:
        """Run what is needed and give the correlations."""
        return self._collect()

    def lazyCollectCorrelation(self: R, *callbacks: Callable[[CorrelationResult], Any]) -> R:
        """Call functions with the correlations with the next ``execute``."""
        return self._collect_later(callbacks)

    def lazyPrintCorrelation(self: R, title: str | None = None) -> R:
        """Print the correlations with the next ``execute``."""
        return self._print_later(title)


class ChiSquareTested(WithResult):
    """Gives the results of chi-square tests."""

    _read = ChiSquareTestResults

    def collectChiSquareTest(self) -> ChiSquareTestResults:
        """Run what is needed and give the results."""
        return self._collect()

    def lazyCollectChiSquareTest(self: R, *callbacks: Callable[[ChiSquareTestResults], Any]) -> R:
        """Call functions with the results with the next ``execute``."""
        return self._collect_later(callbacks)

    def lazyPrintChiSquareTest(self: R, title: str | None = None) -> R:
        """Print the results with the next ``execute``."""
        return self._print_later(title)


class Evaluated(WithResult):
    """Gives the metrics of an evaluation."""

    def collectMetrics(self) -> Any:
        """Run what is needed and give the metrics, ``collectMetrics().getAuc()``."""
        return self._collect()

    def lazyCollectMetrics(self: R, *callbacks: Callable[[Any], Any]) -> R:
        """Call functions with the metrics with the next ``execute``."""
        return self._collect_later(callbacks)

    def lazyPrintMetrics(self: R, title: str | None = None) -> R:
        """Print the metrics with the next ``execute``."""
        return self._print_later(title)
