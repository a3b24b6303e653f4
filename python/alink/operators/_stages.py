"""Stages of pipelines, and pipelines."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar

from alink._errors import without_our_frames
from alink._options import bad_option
from alink._table import Table
from alink.operators._catalogue import Parameter, catalogue
from alink.operators._operator import AlgoOperator
from alink.operators._params import WithParams

if TYPE_CHECKING:
    from alink.operators._local import LocalPredictor

Stage = TypeVar("Stage", bound="PipelineStage")


class PipelineStage(WithParams):
    """Something that a pipeline consists of."""

    def __init__(self, *args: Mapping[str, Any], **params: Any) -> None:
        super().__init__(*args, **params)
        #: What is printed with the next ``execute``, under the names that saved stages have.
        self._lazily: dict[str, Any] = {}

    def _parts(self) -> Sequence[PipelineStage] | None:
        """Give the stages that this one consists of; None of one that is no pipeline."""
        return None

    def enableLazyPrintTransformData(self: Stage, n: int, title: str | None = None) -> Stage:
        """Print the first rows that the stage gives, with the next ``execute``.

        Parameters
        ----------
        n : int
            How many rows.
        title : str, optional
            A line that is printed before.
        """
        return self._lazy("TransformData", title, Num=n)

    def enableLazyPrintTransformStat(self: Stage, title: str | None = None) -> Stage:
        """Print statistics of the rows that the stage gives, with the next ``execute``."""
        return self._lazy("TransformStat", title)

    def _lazy(self: Stage, what: str, title: str | None, **more: Any) -> Stage:
        given = {"Enabled": True, "Title": title, **more}
        self._lazily |= {f"lazyPrint{what}{name}": value for name, value in given.items()}
        return self

    def _print_transformed(self, rows: AlgoOperator) -> None:
        """Print what was asked for of the rows that the stage gives."""
        asked = self._lazily
        if asked.get("lazyPrintTransformDataEnabled"):
            title = asked.get("lazyPrintTransformDataTitle")
            rows.lazyPrint(asked.get("lazyPrintTransformDataNum", -1), title)
        if asked.get("lazyPrintTransformStatEnabled"):
            rows.lazyPrintStatistics(asked.get("lazyPrintTransformStatTitle"))

    def _fitted(self, table: Table) -> Transformer:
        """Give the stage trained on the rows of a table."""
        raise NotImplementedError


class LocalPredictable:
    """A stage that maps rows in this process."""

    @without_our_frames
    def collectLocalPredictor(self, inputSchemaStr: str) -> LocalPredictor:
        """Compute the model and give what maps rows with it in this process.

        Parameters
        ----------
        inputSchemaStr : str
            The names and types of the columns of the rows, ``"x double, y double"``.
        """
        from alink.operators._local import LocalPredictor

        return LocalPredictor(self, inputSchemaStr)


class Transformer(PipelineStage, LocalPredictable):
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
        result = data._of(self._transformed(data._table()))
        self._print_transformed(result)
        return result

    def _transformed(self, table: Table) -> Table:
        return type(self)._make(self._name, self._all(), [table])


class Model(Transformer):
    """A trained stage."""

    def getModelData(self) -> Any:
        """Give the rows of the model, a batch operator."""
        raise NotImplementedError

    def setModelData(self, model: AlgoOperator) -> Any:
        """Set the model, the rows of an operator."""
        raise NotImplementedError


class Estimator(PipelineStage):
    """A stage that is trained."""

    def __getattr__(self, name: str) -> Any:
        if name == "transform":
            raise AttributeError(
                f"{self._name} is not trained, its model is: write fit(rows).transform(rows)"
            )
        return super().__getattr__(name)

    @without_our_frames
    def fit(self, data: AlgoOperator) -> Any:
        """Train the stage on the rows of a batch operator, and give its model."""
        return self._fitted(self._rows_of(data))

    def _rows_of(self, data: Any) -> Table:
        """Give the rows to train with."""
        if not isinstance(data, AlgoOperator) or data._kind != "batch":
            given = data._name if isinstance(data, AlgoOperator) else type(data).__name__
            raise bad_option(
                self._name,
                f"{self._name}.fit takes a batch operator, not {given}",
                "make one with BatchOperator.fromDataframe(df, schemaStr)",
            )
        return data._table()

    @without_our_frames
    def fitAndTransform(self, data: AlgoOperator) -> Any:
        """Train the stage, and apply it to the same rows."""
        return self.fit(data).transform(data)


class _Saved(PipelineStage):
    """A pipeline that can be saved."""

    @without_our_frames
    def save(
        self,
        filePath: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
        numFiles: int = 1,
    ) -> Any:
        """Save the stages, with their parameters and models.

        Parameters
        ----------
        filePath : path, optional
            An .ak file, which the next ``execute`` writes, whole or not at all. Without it the
            rows of the file are returned.
        overwrite : bool, default False
            Whether a file that is there already is replaced.
        numFiles : int, default 1
            One file is written.

        Returns
        -------
        BatchOperator or None
        """
        from alink.operators._base import TableBatch
        from alink.operators._define import BUILT
        from alink.operators._saved import pack

        rows = TableBatch(pack(self))
        if filePath is None:
            return rows
        if not overwrite and Path(filePath).exists():
            raise bad_option(
                self._name,
                f"{os.fspath(filePath)} is there already",
                "save(path, True) replaces it",
            )
        sink = BUILT["AkSinkBatchOp"]
        given = {"filePath": os.fspath(filePath), "overwriteSink": overwrite, "numFiles": numFiles}
        sink(**given).linkFrom(rows)
        return None


class Pipeline(_Saved, Estimator):
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

    def remove(self, index: int) -> PipelineStage:
        """Take a stage away, counted from 0, and give it."""
        return self._stages.pop(index)

    def size(self) -> int:
        """Tell how many stages there are."""
        return len(self._stages)

    def get(self, index: int) -> PipelineStage:
        """Give a stage, counted from 0."""
        return self._stages[index]

    def _parts(self) -> Sequence[PipelineStage]:
        return self._stages

    @staticmethod
    @without_our_frames
    def load(filePath: str | os.PathLike[str]) -> Pipeline:
        """Read the stages that `save` has written; no model is trained, nothing is computed."""
        from alink.operators._saved import load_pipeline

        return load_pipeline("Pipeline", filePath)

    @staticmethod
    @without_our_frames
    def collectLoad(op: AlgoOperator) -> Pipeline:
        """Read the stages that `save` has given as rows."""
        from alink.operators._saved import pipeline_of

        return pipeline_of("Pipeline", _collected(op), op._name)

    def _fitted(self, table: Table) -> PipelineModel:
        # Each stage is trained on what those before it give.
        fitted: list[Transformer] = []
        for i, stage in enumerate(self._stages):
            made = stage._fitted(table)
            fitted.append(made)
            if i + 1 < len(self._stages):
                table = made._transformed(table)
        return PipelineModel(*fitted)


def _collected(op: AlgoOperator) -> Any:
    from alink.operators._operator import collect

    return collect([op])[0]


class PipelineModel(_Saved, Model):
    """Trained stages one after the other."""

    _name = "PipelineModel"
    #: As all models have them.
    _parameters: ClassVar[Mapping[str, Parameter]] = {
        name: parameter
        for name, parameter in catalogue()["KMeansModel"].parameters.items()
        if name.startswith("modelStream")
    }

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

    def getModelData(self) -> Any:
        """Give the stages with their models as rows, as `save` does."""
        return self.save()

    def setModelData(self, model: AlgoOperator) -> NoReturn:
        """Refuse: the rows of a pipeline make another one."""
        raise bad_option(
            "PipelineModel",
            f"PipelineModel takes no rows of {model!r:.60}",
            "PipelineModel.collectLoad(op) makes a pipeline of the rows of `save`",
        )

    def getTransformers(self) -> list[Transformer]:
        """Give the stages."""
        return list(self._stages)

    def _parts(self) -> Sequence[Transformer]:
        return self._stages

    @staticmethod
    @without_our_frames
    def load(filePath: str | os.PathLike[str]) -> PipelineModel:
        """Read the trained stages that `save` has written, here or in PyAlink.

        Nothing of what is read is run.
        """
        from alink.operators._saved import load_model

        return load_model("PipelineModel", filePath)

    @staticmethod
    @without_our_frames
    def collectLoad(op: AlgoOperator) -> PipelineModel:
        """Read the trained stages that `save` has given as rows."""
        from alink.operators._saved import model_of

        return model_of("PipelineModel", _collected(op), op._name)

    def _transformed(self, table: Table) -> Table:
        for stage in self._stages:
            table = stage._transformed(table)
        return table
