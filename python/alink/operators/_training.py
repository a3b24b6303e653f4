"""Operators that train a model, and those that apply it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import pyarrow as pa

from alink._algorithms._models import model_schema
from alink._functions import FunctionOptions
from alink._kinds import TrainFunction
from alink._options import bad_option
from alink._ship import Shipment
from alink._table import Table
from alink.operators._base import BatchOperator, StreamOperator, TableBatch
from alink.operators._catalogue import catalogue
from alink.operators._define import BUILT, build
from alink.operators._mapping import (
    algorithm_library,
    apply_step,
    environment,
    in_workers,
    task_shipment,
    with_columns_found,
)
from alink.operators._model_info import (
    ModelInfo,
    ReadInfo,
    ReadModel,
    WithModelInfo,
    later,
    printing,
)
from alink.operators._operator import AlgoOperator, collect
from alink.operators._session import session
from alink.operators._stages import Estimator, Model

Columns = Sequence[tuple[str, pa.DataType]]
E = TypeVar("E", bound="TrainStage")

#: How many workers train a model together; None leaves it to the engine, which goes by the rows.
WORKERS: int | None = None

#: Beyond so many bytes of rows in a worker there is one more where a library holds them in memory:
#: beside an eighth of its 1 GiB of rows, a training of few features takes half of it.
_HELD_BYTES = 128 << 20


class Training(TrainFunction):
    """The training of a model.

    Parameters
    ----------
    name : str
        Of the operator, for messages.
    task : str
        What workers do: ``"module.name"`` within the package of algorithms.
    params : mapping
        What the task is made with.
    columns : sequence of str
        The columns of the rows that it reads.
    result : pyarrow.Schema
        The columns of the model.
    library : str
        The library that it needs besides numpy, or "".
    alone : bool
        Whether it wants all rows in one worker.
    more : mapping, optional
        What it may besides computing: fields of `FunctionOptions`.
    """

    def __init__(
        self,
        name: str,
        task: str,
        params: Mapping[str, Any],
        columns: Sequence[str],
        result: pa.Schema,
        library: str = "",
        alone: bool = False,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        env = algorithm_library(library) if library else environment()
        options = FunctionOptions(
            env=env,
            timeout=None,
            timeout_ms_default=0,
            workers=1 if alone else WORKERS,
            share_bytes=_HELD_BYTES if library else None,
            **(more or {}),
        )
        super().__init__(in_workers, result, columns, options)
        self.name = name
        self.origin = None
        self.parameters = ("share",)
        self._task = task
        self._params = dict(params)

    def shipment(self, same_python: bool) -> Shipment:
        """Give the function as it travels."""
        del same_python
        return task_shipment("_chain.training", self.name, self._task, self._params)


@dataclass(frozen=True)
class Trained:
    """An algorithm that trains a model, and what applies the model to rows.

    Attributes
    ----------
    name : str
        Of the operators: ``<name>TrainBatchOp``, ``<name>PredictBatchOp`` and so on.
    train, predict : str
        What workers do: ``"module.name"`` within the package of algorithms.
    outputs : callable
        Gives the names and types of the columns that applying adds, of the parameters, the
        schema of the rows and that of the model.
    columns : sequence of str
        The parameters of the training that name columns, one or a list each.
    label : str
        The one of these whose column is the label of a classifier, or "". Where the parameters
        of the training have ``raw``, the classifier's model gives numbers all the same.
    kept : str
        The one whose columns stand in the schema of the model, or "".
    applied : sequence of str
        The parameters of applying the model that name columns of the rows, one or a list each.
    schema : pyarrow.Schema, optional
        The columns of the model, where it has not those of `model_schema`.
    estimator : str
        The name of the pipeline stage, if it is another one.
    model : str
        The name of the stage's model, if it is not ``<estimator>Model``.
    settings : mapping
        What the training is told besides the operator's parameters.
    library : str
        The library that the training needs besides numpy: see `algorithm_library`.
    predict_library : str
        The library that applying the model needs besides numpy; local predictors cannot, then.
    alone : bool
        Whether the training wants all rows in one worker.
    grants : callable, optional
        Gives what the training may besides computing, as fields of `FunctionOptions`, of the
        operator's name and its checked parameters.
    predict_grants : mapping
        What applying the model may, where it has a library, as such fields.
    prepare : callable, optional
        Gives the parameters of the training, checked, of the operator's name, its parameters
        and the schema of the rows.
    query : callable, optional
        Makes the table of the model of the operator's name, its parameters and the rows, where
        the engine computes it by queries; there is no task ``train`` then.
    info : callable
        Reads what a model says of itself, of its rows, for ``collectModelInfo`` and its like:
        mostly a class derived from `ModelInfo`. It runs in the client.
    train_info : callable, optional
        Reads what a model says of its training; by default `info`.
    doc : str
        What the algorithm does, and where it is from.
    """

    name: str
    train: str
    predict: str
    outputs: Callable[[Mapping[str, Any], pa.Schema, pa.Schema], Columns]
    columns: Sequence[str]
    label: str = ""
    kept: str = ""
    applied: Sequence[str] = ()
    schema: pa.Schema | None = None
    estimator: str = ""
    model: str = ""
    settings: Mapping[str, Any] | None = None
    library: str = ""
    predict_library: str = ""
    alone: bool = False
    grants: Callable[[str, Mapping[str, Any]], Mapping[str, Any]] | None = None
    predict_grants: Mapping[str, Any] | None = None
    prepare: Callable[[str, Mapping[str, Any], pa.Schema], dict[str, Any]] | None = None
    query: Callable[[str, Mapping[str, Any], Table], Table] | None = None
    info: ReadInfo = ModelInfo
    train_info: ReadInfo | None = None
    doc: str = ""

    def fit(self, name: str, params: Mapping[str, Any], inputs: Sequence[Table]) -> Table:
        """Make the table of the model."""
        table = inputs[0]
        schema = table.schema
        given = dict(params) if self.prepare is None else self.prepare(name, params, schema)
        given.update(self.settings or {})
        given = with_columns_found(name, schema, given, self.columns)
        if self.query is not None:
            return self.query(name, given, table)
        read: list[str] = []
        for value in map(given.get, self.columns):
            read += [value] if isinstance(value, str) else value or []
        label = schema.field(given[self.label]).type if self.label else None
        if given.get("raw"):
            label = pa.float64()
        columns = given[self.kept] if self.kept else []
        columns = [columns] if isinstance(columns, str) else columns
        result = self.schema or model_schema(label, [(column, pa.float64()) for column in columns])
        names = list(dict.fromkeys(read))
        more = self.grants(name, given) if self.grants else None
        training = Training(name, self.train, given, names, result, self.library, self.alone, more)
        return table._train(training)

    def apply(self, name: str, params: Mapping[str, Any], model: Table, rows: Table) -> Table:
        """Make the table of the rows with what the model says of them."""
        given = with_columns_found(name, rows.schema, params, self.applied)
        outputs = self.outputs(given, rows.schema, model.schema)
        reserved = given.pop("reservedCols", None)
        options = None
        if self.predict_library:
            env = algorithm_library(self.predict_library)
            more = self.predict_grants or {}
            options = FunctionOptions(env=env, timeout=None, timeout_ms_default=0, **more)
        return apply_step(rows, name, self.predict, given, outputs, reserved, model, options)


class PredictBatch(BatchOperator):
    """Applies a model, the first input, to rows, the second one."""

    _inputs_min = 2
    _inputs_max = 2
    _trained: ClassVar[Trained]

    def _link(self) -> Table:
        model, rows = (item._table() for item in self._inputs)
        return self._trained.apply(self._name, self._all(), model, rows)


class PredictStream(StreamOperator):
    """Applies a model, which the constructor is given, to the rows of a stream."""

    _trained: ClassVar[Trained]

    def __init__(self, model: Any = None, *args: Mapping[str, Any], **params: Any) -> None:
        given = (model, *args) if isinstance(model, Mapping) else args
        super().__init__(*given, **params)
        self._model = model if isinstance(model, AlgoOperator) else None

    def _link(self) -> Table:
        if self._model is None:
            raise bad_option(
                self._name,
                f"{self._name} has no model",
                f"give it a batch operator: {self._name}(model)",
            )
        rows = self._inputs[0]._table()
        return self._trained.apply(self._name, self._all(), self._model._table(), rows)


class TrainStage(Estimator):
    """A stage that is trained; its model is a stage that gives rows for rows."""

    _trained: ClassVar[Trained]
    _model_class: ClassVar[type[TrainedModel]]

    def _fitted(self, table: Table) -> TrainedModel:
        fit = catalogue()[f"{self._trained.name}TrainBatchOp"].parameters
        given = {name: self._get(name) for name in fit if name in self._parameters}
        missing = {name: p.default for name, p in fit.items() if name not in given}
        model = self._trained.fit(self._name, {**missing, **given}, [table])
        # It is computed by the first job that needs it, once.
        made = self._model_stage()._with(model.cache())
        self._print_trained(made)
        return made

    def _model_stage(self) -> TrainedModel:
        """Give the stage of the model, which has no rows yet."""
        values = {
            name: value
            for name, value in self._values.items()
            if name in self._model_class._parameters
        }
        made = self._model_class(values)
        made._lazily = {k: v for k, v in self._lazily.items() if k.startswith("lazyPrintTransform")}
        return made

    def _print_trained(self, model: TrainedModel) -> None:
        """Print what was asked for of the model."""
        info = self._trained.info
        reads = {"ModelInfo": info, "TrainInfo": self._trained.train_info or info}
        for what, read in reads.items():
            if self._lazily.get(f"lazyPrint{what}Enabled"):
                shown = printing(self._lazily.get(f"lazyPrint{what}Title"))
                later(model.getModelData(), read, [shown])

    def enableLazyPrintModelInfo(self: E, title: str | None = None) -> E:
        """Print what the model says of itself, with the ``execute`` after ``fit``."""
        return self._lazy("ModelInfo", title)

    def enableLazyPrintTrainInfo(self: E, title: str | None = None) -> E:
        """Print what is known of the training, with the ``execute`` after ``fit``."""
        return self._lazy("TrainInfo", title)


class TrainedModel(Model):
    """A trained stage."""

    _trained: ClassVar[Trained]

    def __init__(self, *args: Mapping[str, Any], **params: Any) -> None:
        super().__init__(*args, **params)
        self._model: Table | None = None
        #: The rows of the model, where they are in the client.
        self._rows: pa.Table | None = None

    def _with(self, model: Table) -> TrainedModel:
        self._model, self._rows = model, None
        return self

    def _with_rows(self, rows: pa.Table) -> TrainedModel:
        self._model, self._rows = None, rows
        return self

    def setModelData(self, model_data: AlgoOperator) -> TrainedModel:
        """Set the model, the rows of an operator."""
        return self._with(model_data._table())

    def getModelData(self) -> BatchOperator:
        """Give the rows of the model."""
        return TableBatch(self._data())

    def _data(self) -> Table:
        if self._rows is not None:
            context = session().context
            if self._model is None or self._model._context is not context:
                self._model = context.from_arrow(self._rows)
        if self._model is None:
            raise bad_option(self._name, f"{self._name} has no model", "set it with setModelData")
        return self._model

    def _transformed(self, table: Table) -> Table:
        return self._trained.apply(self._name, self._all(), self._data(), table)


def collected(stages: Sequence[TrainedModel]) -> dict[int, pa.Table]:
    """Give the rows of models, by the ids of their stages; one job computes what is missing."""
    found = {id(stage): stage._rows for stage in stages if stage._rows is not None}
    missing = [stage for stage in stages if stage._rows is None]
    tables = collect([TableBatch(stage._data()) for stage in missing]) if missing else []
    return found | {id(s): table for s, table in zip(missing, tables, strict=True)}


def trained(definition: Trained) -> None:
    """Declare the operators and stages of an algorithm, as far as Alink has them."""
    estimator = definition.estimator or definition.name
    trained_model = definition.model or f"{estimator}Model"
    train = f"{definition.name}TrainBatchOp"
    names: dict[str, type] = {
        f"{definition.name}PredictBatchOp": PredictBatch,
        f"{definition.name}PredictStreamOp": PredictStream,
        trained_model: TrainedModel,
    }
    for name, base in names.items():
        # Estimators may share a model, which the first one declares.
        if name in catalogue() and name not in BUILT:
            build(name, base, definition.doc, _trained=definition)
    read = staticmethod(definition.info)
    of_training = staticmethod(definition.train_info or definition.info)
    if train in catalogue():
        build(
            train,
            TrainBatch,
            definition.doc,
            _trained=definition,
            _info=read,
            _train_info=of_training,
        )
    told = f"{definition.name}ModelInfoBatchOp"
    if told in catalogue():
        doc = f"Say what the model of {train} says of itself."
        build(told, ReadModel, doc, _info=read, _train_info=of_training)
    if estimator in catalogue():
        model = BUILT[trained_model]
        build(estimator, TrainStage, definition.doc, _trained=definition, _model_class=model)


class TrainBatch(WithModelInfo):
    """Trains a model."""

    _trained: ClassVar[Trained]

    def _link(self) -> Table:
        return self._trained.fit(self._name, self._all(), [self._inputs[0]._table()])
