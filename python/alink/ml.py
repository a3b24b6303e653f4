"""Machine learning in scikit-learn's style, on tables.

The estimators and transformers are those of `alink.operators`, under the same names, with
parameters named as Python does it: ``labelCol`` is ``label``, ``maxIter`` is ``max_iter``.

Examples
--------
>>> import alink as al, pyarrow as pa
>>> t = al.from_arrow(pa.table({"x": [0.0, 1.0, 2.0, 3.0, 4.0], "y": [1.0, 3.0, 5.0, 7.0, 9.0]}))
>>> model = al.ml.LinearRegression(features=["x"], label="y", prediction="z").fit(t)
>>> model.predict(t).select(z="round(z, 6)").to_arrow()["z"].to_pylist()
[1.0, 3.0, 5.0, 7.0, 9.0]
"""

from __future__ import annotations

import functools
import importlib
import keyword
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from alink._diag import did_you_mean, no_attribute, quote
from alink._errors import without_our_frames
from alink._options import bad_option
from alink._table import Table

if TYPE_CHECKING:
    from typing import NoReturn

    from alink.operators._catalogue import Parameter
    from alink.operators._local import LocalPredictor
    from alink.operators._stages import PipelineStage, Transformer

S = TypeVar("S", bound="Stage")

_NAMES = {
    "featureCols": "features",
    "selectedCol": "column",
    "selectedCols": "columns",
    "outputCols": "outputs",
}
_DEFAULTS = {"predictionCol": "prediction"}
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def python_name(parameter: str) -> str:
    """Give the name that a parameter of Alink has here.

    Examples
    --------
    >>> [python_name(name) for name in ("labelCol", "featureCols", "maxIter", "lambda")]
    ['label', 'features', 'max_iter', 'lambda_']
    """
    name = _NAMES.get(parameter)
    if name is None:
        short = parameter.removesuffix("Cols").removesuffix("Col")
        name = _WORD.sub("_", short or parameter).lower()
    return f"{name}_" if keyword.iskeyword(name) else name


class Stage:
    """Something that is fitted to a table, or only transforms it; the base of all classes here.

    Parameters
    ----------
    **params
        By name, as the class lists them.
    """

    #: The stage of `alink.operators` beneath.
    _stage: ClassVar[type[PipelineStage]]
    #: The parameters, by their names here.
    _parameters: ClassVar[Mapping[str, Parameter]] = {}

    def __init__(self, **params: Any) -> None:
        self._params: dict[str, Any] = {}
        self._fitted: Transformer | None = None
        self.set_params(**params)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Give all parameters with their values, or their defaults."""
        del deep  # as scikit-learn has it; there is nothing below
        return {name: self._value(name) for name in self._parameters}

    def _value(self, name: str) -> Any:
        parameter = self._parameters[name]
        return self._params.get(name, _DEFAULTS.get(parameter.name, parameter.default))

    @without_our_frames
    def set_params(self: S, **params: Any) -> S:
        """Set parameters; what was fitted is forgotten."""
        for name in params:
            if name not in self._parameters:
                what = type(self).__name__
                raise bad_option(
                    what,
                    f"{what} has no parameter {quote(name)}",
                    did_you_mean(name, "its parameters", list(self._parameters)),
                )
        self._params.update(self._checked(params))
        self._fitted = None
        return self

    def _checked(self, params: Mapping[str, Any]) -> dict[str, Any]:
        from alink.operators._params import checked

        return {
            name: checked(type(self).__name__, replace(self._parameters[name], name=name), value)
            for name, value in params.items()
        }

    def clone(self: S) -> S:
        """Give one that has the same parameters and is not fitted."""
        return type(self)(**self._params)

    def _beneath(self, params: Mapping[str, Any]) -> PipelineStage:
        given = {
            parameter.name: params.get(name, _DEFAULTS.get(parameter.name))
            for name, parameter in self._parameters.items()
        }
        return type(self)._stage({name: v for name, v in given.items() if v is not None})

    @without_our_frames
    def fit(self: S, table: Table) -> S:
        """Train on the rows of a table; what is trained is computed here.

        Parameters
        ----------
        table : Table

        Returns
        -------
        The estimator itself, fitted.
        """
        self._fitted = None
        fitted = self._trained(_table_of(type(self).__name__, "fit", table))
        if (model := _model(fitted)) is not None:
            model.count()  # it is cached when it is computed
        self._fitted = fitted
        return self

    def _trained(self, table: Table) -> Transformer:
        return self._beneath(self._params)._fitted(table)

    @without_our_frames
    def transform(self, table: Table) -> Table:
        """Give a table with what the fitted stage adds to its rows; nothing runs yet."""
        table = _table_of(type(self).__name__, "transform", table)
        return self._applicable()._transformed(table)

    def predict(self, table: Table) -> Table:
        """Give a table with a column of predictions, "prediction" by default; nothing runs yet."""
        return self.transform(table)

    def fit_transform(self, table: Table) -> Table:
        """Train on the rows of a table and give it transformed."""
        return self.fit(table).transform(table)

    def fit_predict(self, table: Table) -> Table:
        """Train on the rows of a table and give it with predictions."""
        return self.fit(table).transform(table)

    def _applicable(self) -> Transformer:
        if self._fitted is None:
            raise bad_option(
                type(self).__name__, f"this {type(self).__name__} is not fitted", "call fit(table)"
            )
        return self._fitted

    @property
    def model_(self) -> Table | None:
        """What was learned, as a table: Alink's rows of models. None where nothing is learned."""
        return _model(self._applicable())

    @without_our_frames
    def local(self, schema: str) -> LocalPredictor:
        """Give what transforms single rows in this process, without an engine.

        Parameters
        ----------
        schema : str
            The columns of the rows, ``"x double, y double"``.
        """
        return self._applicable().collectLocalPredictor(schema)

    @without_our_frames
    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write the fitted stage as an .ak file, which `load` reads, and PyAlink too.

        Parameters
        ----------
        path : path
        overwrite : bool, default False
            Whether a file that is there already is replaced.
        """
        from alink.operators import BatchOperator, PipelineModel

        PipelineModel(self._applicable()).save(path, overwrite)
        BatchOperator.execute()

    def __repr__(self) -> str:
        from alink.operators._params import SECRETS

        shown = {name: "…" if name in SECRETS else repr(v) for name, v in self._params.items()}
        given = ", ".join(f"{name}={text}" for name, text in shown.items())
        return f"{type(self).__name__}({given})"


class Pipeline(Stage):
    """Stages one after the other.

    Parameters
    ----------
    steps : sequence of stages, or of (name, stage)
        Without a name a stage is called as its class is, in small letters.

    Examples
    --------
    >>> from alink import ml
    >>> steps = [ml.StandardScaler(columns=["x"]), ("fit", ml.LinearRegression(label="y"))]
    >>> ml.Pipeline(steps).set_params(fit__max_iter=5).get_params()["fit__max_iter"]
    5
    """

    def __init__(self, steps: Sequence[Stage | tuple[str, Stage]]) -> None:
        self.steps: list[tuple[str, Stage]] = []
        self._fitted = None
        self._params = {}
        names: list[str] = []
        for step in steps:
            name, stage = step if isinstance(step, tuple) else (type(step).__name__.lower(), step)
            if not isinstance(stage, Stage):
                raise bad_option(
                    "Pipeline", f"a pipeline consists of stages, {stage!r:.60} is none"
                )
            if name in names:
                raise bad_option(
                    "Pipeline",
                    f"two stages are called {quote(name)}",
                    'name them: [("first", …), ("second", …)]',
                )
            names.append(name)
            self.steps.append((name, stage))

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Give the parameters of all stages, each behind its stage's name and two underscores."""
        del deep
        return {
            f"{name}__{parameter}": value
            for name, stage in self.steps
            for parameter, value in stage.get_params().items()
        }

    @without_our_frames
    def set_params(self, **params: Any) -> Pipeline:
        """Set parameters of stages, each behind its stage's name and two underscores."""
        stages = dict(self.steps)
        for key, value in params.items():
            name, mark, parameter = key.partition("__")
            if not mark or name not in stages:
                raise bad_option(
                    "Pipeline",
                    f"the pipeline has no parameter {quote(key)}",
                    did_you_mean(key, "its parameters", list(self.get_params())),
                )
            stages[name].set_params(**{parameter: value})
        self._fitted = None
        return self

    def clone(self) -> Pipeline:
        """Give one whose stages have the same parameters and are not fitted."""
        return Pipeline([(name, stage.clone()) for name, stage in self.steps])

    def _trained(self, table: Table) -> Transformer:
        from alink.operators import PipelineModel

        fitted: list[Transformer] = []
        for i, (_, stage) in enumerate(self.steps):
            made = stage._trained(table)
            fitted.append(made)
            if i + 1 < len(self.steps):
                table = made._transformed(table)
        # The models before the last one are computed for it.
        models = [model for model in map(_model, fitted) if model is not None]
        if models:
            models[-1].count()
        for (_, stage), made in zip(self.steps, fitted, strict=True):
            stage._fitted = made
        return PipelineModel(*fitted)

    def __repr__(self) -> str:
        return f"Pipeline({self.steps!r})"


class Loaded(Stage):
    """Fitted stages that were read from a file."""

    def __init__(self, fitted: Transformer) -> None:
        self._params = {}
        self._fitted = fitted

    def clone(self) -> Loaded:
        """Give the same again: what it was trained with is not known."""
        return Loaded(self._applicable())

    def fit(self, table: Table) -> NoReturn:
        """Refuse: what it was trained with is not known."""
        del table
        raise bad_option("Loaded", "what was read from a file is fitted already")

    def __repr__(self) -> str:
        return f"Loaded({self._fitted!r})"


@without_our_frames
def load(path: str | os.PathLike[str]) -> Loaded:
    """Read fitted stages that `save` has written, here or in PyAlink; nothing of it is run.

    Parameters
    ----------
    path : path
        An .ak file.
    """
    from alink.operators import PipelineModel

    return Loaded(PipelineModel.load(path))


def _model(fitted: Transformer) -> Table | None:
    """Give what a fitted stage has learned."""
    from alink.operators._training import TrainedModel

    return fitted._data() if isinstance(fitted, TrainedModel) else None


def _table_of(what: str, method: str, table: Any) -> Table:
    if isinstance(table, Table):
        return table
    raise bad_option(
        what,
        f"{what}.{method} takes a table, not {type(table).__name__}",
        "al.from_any(data) makes one of a data frame",
    )


@functools.cache
def _classes() -> dict[str, type[Stage]]:
    """Make a class of each stage that is trained, or that transforms."""
    importlib.import_module("alink.operators")  # it declares the stages
    from alink.operators._define import BUILT
    from alink.operators._stages import Transformer
    from alink.operators._training import TrainedModel, TrainStage

    made: dict[str, type[Stage]] = {}
    for name, stage in BUILT.items():
        if issubclass(stage, TrainStage) or (
            issubclass(stage, Transformer) and not issubclass(stage, TrainedModel)
        ):
            parameters = {python_name(p.name): p for p in stage._parameters.values()}
            members = {
                "__doc__": stage.__doc__,
                "__module__": __name__,
                "_stage": stage,
                "_parameters": parameters,
            }
            made[name] = type(name, (Stage,), members)
    return made


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    if (found := _classes().get(name)) is not None:
        return found
    hint = did_you_mean(name, "estimators and transformers", sorted(_classes()))
    raise no_attribute(name, f"alink.ml has no {quote(name)}: {hint}")


def __dir__() -> list[str]:
    return sorted({*_classes(), "Pipeline", "Stage", "load"})
