"""Stages of pipelines, and pipelines."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar

from alink._diag import no_attribute, quote
from alink._errors import without_our_frames
from alink._options import bad_option
from alink._table import Table
from alink.operators._catalogue import Parameter, catalogue
from alink.operators._operator import AlgoOperator
from alink.operators._params import WithParams, shown

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
    def transform(self, op: AlgoOperator) -> Any:
        """Apply the stage to the rows of a batch or stream operator."""
        if not isinstance(op, AlgoOperator):
            raise bad_option(
                self._name,
                f"{self._name}.transform takes an operator, not {shown(op)}",
                "make one with BatchOperator.fromDataframe(df, schemaStr=…)",
            )
        result = op._of(self._transformed(op._table()))
        self._print_transformed(result)
        return result

    def _transformed(self, table: Table) -> Table:
        return type(self)._make(self._name, self._all(), [table])


class Model(Transformer):
    """A trained stage."""

    def getModelData(self) -> Any:
        """Give the rows of the model, a batch operator."""
        raise NotImplementedError

    def setModelData(self, model_data: AlgoOperator) -> Any:
        """Set the model, the rows of an operator."""
        raise NotImplementedError


class Estimator(PipelineStage):
    """A stage that is trained."""

    def __getattr__(self, name: str) -> Any:
        if name == "transform":
            raise no_attribute(
                name, f"{self._name} is not trained, its model is: write fit(rows).transform(rows)"
            )
        return super().__getattr__(name)

    @without_our_frames
    def fit(self, op: AlgoOperator) -> Any:
        """Train the stage on the rows of a batch operator, and give its model."""
        return self._fitted(self._rows_of(op))

    def _rows_of(self, data: Any) -> Table:
        """Give the rows to train with."""
        if not isinstance(data, AlgoOperator) or data._kind != "batch":
            raise bad_option(
                self._name,
                f"{self._name}.fit takes a batch operator, not {shown(data)}",
                "make one with BatchOperator.fromDataframe(df, schemaStr)",
            )
        return data._table()

    @without_our_frames
    def fitAndTransform(self, op: AlgoOperator) -> Any:
        """Train the stage, and apply it to the same rows."""
        return self.fit(op).transform(op)


class _Saved(PipelineStage):
    """A pipeline that can be saved."""

    @without_our_frames
    def save(
        self,
        file_path: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
        numFiles: int = 1,
    ) -> Any:
        """Save the stages, with their parameters and models.

        Parameters
        ----------
        file_path : path, optional
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
        if file_path is None:
            return rows
        if not overwrite and Path(file_path).exists():
            raise bad_option(
                self._name,
                f"{os.fspath(file_path)} is there already",
                "save(path, True) replaces it",
            )
        sink = BUILT["AkSinkBatchOp"]
        given = {"filePath": os.fspath(file_path), "overwriteSink": overwrite, "numFiles": numFiles}
        sink(**given).linkFrom(rows)
        return None


class Pipeline(_Saved, Estimator):
    """Stages one after the other.

    Parameters
    ----------
    *stages : stages, or a list of them
    """

    _name = "Pipeline"

    def __init__(self, *stages: Any, **options: Any) -> None:
        super().__init__()
        self._stages: list[PipelineStage] = []
        for stage in _given("Pipeline", stages, options):
            self.add(stage)

    def add(self, *args: Any) -> Pipeline:
        """Put a stage behind the others; with a number before it, at that place."""
        if len(args) not in (1, 2):
            raise bad_option(
                "Pipeline",
                f"Pipeline.add takes one stage, not {len(args)}",
                "add(stage), or add(index, stage)",
            )
        at, stage = args if len(args) == 2 else (self.size(), args[0])
        if isinstance(at, bool) or not isinstance(at, int) or not 0 <= at <= self.size():
            raise bad_option(
                "Pipeline",
                f"Pipeline.add: a stage cannot stand at {shown(at)} of {self.size()}",
                "add(index, stage) counts from 0; add(stage) puts it behind the others",
            )
        if not isinstance(stage, PipelineStage):
            raise bad_option(
                "Pipeline",
                f"{shown(stage)} is no stage of a pipeline",
                "a stage is made with parentheses, Stage(); operators, …BatchOp, are linked",
            )
        self._stages.insert(at, stage)
        return self

    def remove(self, index: int) -> PipelineStage:
        """Take a stage away, counted from 0, and give it."""
        stage = self.get(index)
        del self._stages[index]
        return stage

    def size(self) -> int:
        """Tell how many stages there are."""
        return len(self._stages)

    def get(self, index: int) -> PipelineStage:
        """Give a stage, counted from 0."""
        if not isinstance(index, int) or not -self.size() <= index < self.size():
            raise bad_option(
                "Pipeline", f"there is no stage {shown(index)}, the pipeline has {self.size()}"
            )
        return self._stages[index]

    def _parts(self) -> Sequence[PipelineStage]:
        return self._stages

    @staticmethod
    @without_our_frames
    def load(file_path: str | os.PathLike[str]) -> Pipeline:
        """Read the stages that `save` has written; no model is trained, nothing is computed."""
        from alink.operators._saved import load_pipeline

        return load_pipeline("Pipeline", file_path)

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


def _given(name: str, stages: Sequence[Any], options: Mapping[str, Any]) -> Iterator[Any]:
    """Give the stages that a pipeline is made of, one by one."""
    if options:
        raise bad_option(
            name,
            f"{name} has no option {quote(next(iter(options)))}",
            f"its stages stand one after the other: {name}(a, b)",
        )
    for stage in stages:
        yield from stage if isinstance(stage, (list, tuple)) else [stage]


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

    def __init__(self, *stages: Any, **options: Any) -> None:
        super().__init__()
        self._stages: list[Transformer] = []
        for stage in _given("PipelineModel", stages, options):
            if not isinstance(stage, Transformer):
                raise bad_option(
                    "PipelineModel",
                    f"{shown(stage)} is no trained stage of a pipeline",
                    "Pipeline(…).fit(rows) trains stages",
                )
            self._stages.append(stage)

    def getModelData(self) -> Any:
        """Give the stages with their models as rows, as `save` does."""
        return self.save()

    def setModelData(self, model_data: AlgoOperator) -> NoReturn:
        """Refuse: the rows of a pipeline make another one."""
        raise bad_option(
            "PipelineModel",
            f"PipelineModel takes no rows of {shown(model_data)}",
            "PipelineModel.collectLoad(op) makes a pipeline of the rows of `save`",
        )

    def getTransformers(self) -> list[Transformer]:
        """Give the stages."""
        return list(self._stages)

    def _parts(self) -> Sequence[Transformer]:
        return self._stages

    @staticmethod
    @without_our_frames
    def load(file_path: str | os.PathLike[str]) -> PipelineModel:
        """Read the trained stages that `save` has written, here or in PyAlink.

        Nothing of what is read is run.
        """
        from alink.operators._saved import load_model

        return load_model("PipelineModel", file_path)

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
