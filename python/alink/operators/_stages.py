"""Stages of pipelines, and pipelines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from alink._errors import without_our_frames
from alink._options import bad_option
from alink._table import Table
from alink.operators._operator import AlgoOperator
from alink.operators._params import WithParams


class PipelineStage(WithParams):
    """Something that a pipeline consists of."""

    def _fitted(self, table: Table) -> Transformer:
        """Give the stage trained on the rows of a table."""
        raise NotImplementedError


class Transformer(PipelineStage):
    """A stage that gives rows for rows."""

    _make: ClassVar[Callable[[str, Mapping[str, Any], Sequence[Table]], Table]]

    def _fitted(self, table: Table) -> Transformer:
        del table  # there is nothing to train
        return self

    @without_our_frames
    def transform(self, data: AlgoOperator) -> Any:
        """Apply the stage to the rows of a batch or stream operator."""
        if not isinstance(data, AlgoOperator):
            raise bad_option(
                self._name,
                f"{self._name}.transform takes an operator, not {type(data).__name__}",
                "make one with BatchOperator.fromDataframe(df, schemaStr=…)",
            )
        return data._of(self._transformed(data._table()))

    def _transformed(self, table: Table) -> Table:
        return type(self)._make(self._name, self._all(), [table])


class Pipeline(PipelineStage):
    """Stages one after the other.

    Parameters
    ----------
    *stages : stages, or a list of them
    """

    _name = "Pipeline"

    def __init__(self, *stages: Any) -> None:
        super().__init__()
        self._stages: list[PipelineStage] = []
        for stage in stages:
            for item in stage if isinstance(stage, (list, tuple)) else [stage]:
                self.add(item)

    def add(self, stage: Any, *more: Any) -> Pipeline:
        """Put a stage behind the others; with a number before it, at that place."""
        at = len(self._stages)
        if isinstance(stage, int) and more:
            at, stage = stage, more[0]
        if not isinstance(stage, PipelineStage):
            raise bad_option("Pipeline", f"a pipeline consists of stages, {stage!r:.60} is none")
        self._stages.insert(at, stage)
        return self

    def size(self) -> int:
        """Tell how many stages there are."""
        return len(self._stages)

    def get(self, index: int) -> PipelineStage:
        """Give a stage, counted from 0."""
        return self._stages[index]

    @without_our_frames
    def fit(self, data: AlgoOperator) -> PipelineModel:
        """Train the stages that are trained, each on what those before it give."""
        return self._fitted(data._table())

    def _fitted(self, table: Table) -> PipelineModel:
        fitted: list[Transformer] = []
        for i, stage in enumerate(self._stages):
            made = stage._fitted(table)
            fitted.append(made)
            if i + 1 < len(self._stages):
                table = made._transformed(table)
        return PipelineModel(*fitted)


class PipelineModel(Transformer):
    """Trained stages one after the other."""

    _name = "PipelineModel"

    def __init__(self, *stages: Any) -> None:
        super().__init__()
        self._stages: list[Transformer] = []
        for stage in stages:
            for item in stage if isinstance(stage, (list, tuple)) else [stage]:
                if not isinstance(item, Transformer):
                    raise bad_option(
                        "PipelineModel", f"{item!r:.60} is no trained stage of a pipeline"
                    )
                self._stages.append(item)

    def _transformed(self, table: Table) -> Table:
        for stage in self._stages:
            table = stage._transformed(table)
        return table
