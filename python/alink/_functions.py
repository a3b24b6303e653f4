"""Python functions that run in workers."""

from __future__ import annotations

import inspect
import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    TypeVar,
    overload,
)

from alink import _codes as codes
from alink._code import function_source
from alink._confinement import Confinement, confinement
from alink._diag import did_you_mean, quote
from alink._environment import Environment, note_function
from alink._errors import failure, without_our_frames
from alink._expr import IntoExpr, call
from alink._model import Model
from alink._options import (
    bad_option,
    byte_size,
    milliseconds,
    one_of,
    whole_number,
)
from alink._origin import user_origin
from alink._policy import NAMES, Options, Policy, policy, retries_json
from alink._ship import Shipment, ship, travelling
from alink._types import SchemaLike, TypeLike, annotated_result, is_type, schema_fields, type_string

if TYPE_CHECKING:
    from alink._confinement import Unpack
    from alink._table import Table
    from alink._trial import FunctionReport

P = ParamSpec("P")
R = TypeVar("R")

_LIMITS = ("retries", "workers", "batch_rows", "timeout", "memory", *NAMES)
_UDF_OPTIONS = ("env", "batch", "models", "on_null", *_LIMITS)
_MAP_BATCHES_OPTIONS = ("columns", "batch", "env", "models", *_LIMITS)
# The engine's own default of a function's time limit.
_TIMEOUT_MS = 60_000
# Little more than a worker needs before it has loaded a function.
_MEMORY_BYTES_MIN = 64 << 20


@dataclass(frozen=True)
class FunctionOptions:
    """The options that functions of all kinds share."""

    env: Environment | None = None
    models: Mapping[str, Model] | None = None
    on_null: str = "call"
    retries: int | Mapping[str, int] | None = None
    workers: int | None = None
    batch_rows: int | None = None
    timeout: float | str | None = "60s"
    memory: int | str | None = None
    timeout_ms_default: int = _TIMEOUT_MS
    share_bytes: int | None = None
    confined: Confinement = field(default_factory=Confinement)
    policy: Policy = field(default_factory=Policy)

    def check(self, what: str) -> None:
        """Raise an error for a value that an option cannot take."""
        if self.env is not None and not isinstance(self.env, Environment):
            raise bad_option(
                what,
                f"{what}: env must be an al.Environment, not {self.env!r:.80}",
                "make one with al.Environment(requirements=[…])",
            )
        for name, model in (self.models or {}).items():
            if not isinstance(model, Model):
                raise bad_option(
                    what,
                    f"{what}: models[{name!r}] must be an al.Model, not {model!r:.80}",
                    "a model is what t.fit(…) returns or al.Model.load(…) reads",
                )
        one_of(what, "on_null", self.on_null, ("call", "skip"))
        retries_json(what, self.retries, self.policy.deterministic)
        for option in ("workers", "batch_rows"):
            if (value := getattr(self, option)) is not None:
                whole_number(what, option, value, 1)
        milliseconds(what, "timeout", self.timeout)
        if self.memory is not None:
            size = byte_size(what, "memory", self.memory)
            if size < _MEMORY_BYTES_MIN:
                raise bad_option(
                    what,
                    f"{what}: memory must be at least 64MiB, not {self.memory!r}",
                    "a worker needs about 50 MiB before it has loaded the function",
                )

    def to_json(self) -> dict[str, Any]:
        """Give the plan's form, without what is left to the engine."""
        data: dict[str, Any] = {}
        if self.on_null != "call":
            data["on_null"] = self.on_null
        data.update(retries_json("udf", self.retries))
        for option in ("workers", "share_bytes", "batch_rows"):
            if (value := getattr(self, option)) is not None:
                data[option] = value
        timeout_ms = milliseconds("udf", "timeout", self.timeout)
        if timeout_ms != self.timeout_ms_default:
            data["timeout_ms"] = timeout_ms
        if self.memory is not None:
            data["memory_bytes"] = byte_size("udf", "memory", self.memory)
        data.update(self.confined.to_json())
        data.update(self.policy.to_json())
        return data


class WorkerFunction(Generic[P, R]):
    """A Python function, or a class with ``__call__``, together with its options."""

    def __init__(
        self, target: Callable[P, R], kind: str, options: FunctionOptions, name: str = ""
    ) -> None:
        if not callable(target):
            raise bad_option(kind, f"a function is expected, not {target!r:.80}")
        _refuse_coroutine(target, kind)
        note_function(options.env)
        self._target = target
        self._instance: Callable[..., R] | None = None
        self._travelling: Callable[..., R] | None = None
        self.kind = kind
        # The form in which it gets whole columns or tables; "" for a function of rows.
        self.batch = kind if kind in ("numpy", "arrow", "pandas", "polars") else ""
        self.options = options
        self.name = name or getattr(target, "__name__", type(target).__name__)
        self.__name__ = self.name
        self.__qualname__ = getattr(target, "__qualname__", self.name)
        self.__module__ = getattr(target, "__module__", None) or "__main__"
        self.__doc__ = target.__doc__
        self.__wrapped__ = target
        self.origin = function_source(target)
        self.parameters, self._required, self._variadic = _parameters(target, self)

    @property
    def target(self) -> Callable[P, R]:
        """The plain function or class."""
        return self._target

    def shipment(self, same_python: bool) -> Shipment:
        """Give the function as it travels to a worker, of the client's minor version or not."""
        return ship(self._target, self.name, same_python)

    def local(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the plain function here, in the client, as a unit test would.

        A class is made and set up once, at the first call. Models are not read in the
        client: pass stand-ins for them as keyword arguments.
        """
        return self.plain()(*args, **kwargs)

    def plain(self) -> Callable[..., R]:
        """Give the plain function; of a class the instance, which is set up the first time."""
        if not inspect.isclass(self._target):
            return self._target
        if self._instance is None:
            instance = self._target()
            setup = getattr(instance, "setup", None)
            if setup is not None:
                setup()
            self._instance = instance
        return self._instance

    @property
    def required(self) -> tuple[str, ...]:
        """The parameters that must be given."""
        return self.parameters[: self._required]

    def __reduce__(self) -> tuple[Any, ...]:
        # Inside another function's pickle, only a plain function travels, whose attribute
        # "local" is itself: workers need no alink for it. operator.getitem is an identity
        # function of the standard library.
        # Always the same one: a function that calls itself is met again while it is pickled.
        if self._travelling is None:
            self._travelling = travelling(self._target)
        plain = self._travelling
        return operator.getitem, ((plain,), 0), {"local": plain}


class Function(WorkerFunction[P, R]):
    """A function of columns that gives a column, as `udf` makes it.

    Calling it with column names, SQL expressions or `Expr` objects gives an expression;
    `local` calls the plain function.
    """

    def __init__(
        self, target: Callable[P, R], kind: str, result: TypeLike | None, options: FunctionOptions
    ) -> None:
        super().__init__(target, kind, options)
        self.result = _result_type(target, result, self.name)

    def __call__(self, *args: Any, **named: Any) -> Any:  # an Expr in the client
        """Apply the function to columns.

        Parameters
        ----------
        *args, **named : str, Expr or value
            A string is a column or a SQL expression; another value is a literal.

        Returns
        -------
        Expr
            An expression for `Table.with_columns` and the like.
        """
        return apply(self, args, named)

    def strict(self) -> Function[P, R]:
        """Give the same function with ``on_error="fail"``, for a trial."""
        twin: Function[P, R] = object.__new__(Function)
        twin.__dict__.update(self.__dict__)
        policy = replace(self.options.policy, on_error="fail", errors_max=None)
        twin.options = replace(self.options, policy=policy)
        return twin

    @without_our_frames
    def test(self, table: Table, /, *columns: IntoExpr) -> FunctionReport:
        """Run the function on a table, here and in a worker, and compare the results.

        In a worker first: where that dies, the function is not called here. It may be called
        twice for a row, so what it does besides giving a value is done twice.

        Parameters
        ----------
        table : Table
            Its first 10,000 rows are taken.
        *columns : str, Expr or value
            What the function is applied to. By default each parameter gets the column of its
            name, or the only one whose name begins with it.

        Returns
        -------
        FunctionReport
            Its text tells the rows that differ and how NULLs went; it is true where nothing
            differs. A function that raises is reported, not raised.

        Raises
        ------
        PlanError
            If a parameter has no column, or the table has no end.

        Examples
        --------
        ``assert made_up.test(flights.head(100), "dep_delay", "arr_delay")``
        """
        from alink._trial import try_out

        return try_out(self, table, columns)

    def __repr__(self) -> str:
        return f"<alink.Function {self.name}({', '.join(self.parameters)}) -> {self.result}>"


def apply(
    function: WorkerFunction[Any, Any], args: tuple[Any, ...], named: Mapping[str, Any]
) -> Any:
    """Apply a function to columns: check how many there are, and give the expression."""
    if "alink_worker" in sys.modules:  # another function calls this one in a worker
        return function.local(*args, **named)
    args = (*args, *_in_place(function, len(args), named))
    if len(args) < function._required or (
        len(args) > len(function.parameters) and not function._variadic
    ):
        raise failure(
            codes.INVALID_PLAN,
            f"{function.name} takes {_count(function)}, but {len(args)} are given",
            function=function.name,
            source=user_origin(),
            hint=f"its parameters are: {', '.join(function.parameters)}",
        )
    return call(function, args)


def _in_place(
    function: WorkerFunction[Any, Any], given: int, named: Mapping[str, Any]
) -> list[Any]:
    """Give the arguments that are passed by name in the order of their parameters."""
    rest = function.parameters[given:]
    for name in named:
        if name not in rest:
            twice = name in function.parameters
            raise failure(
                codes.INVALID_PLAN,
                f"{function.name} is given {quote(name)} twice"
                if twice
                else f"{function.name} has no parameter {quote(name)}",
                function=function.name,
                source=user_origin(),
                hint="" if twice else did_you_mean(name, "its parameters", function.parameters),
            )
    values: list[Any] = []
    for i, name in enumerate(rest):
        if len(values) == len(named):
            break
        if name not in named:
            raise failure(
                codes.INVALID_PLAN,
                f"{function.name} is given {quote(sorted(named)[0])} but not {quote(name)}",
                function=function.name,
                source=user_origin(),
                hint=f"arguments cannot be left out in the middle: give {name} too",
            )
        values.append(named[rest[i]])
    return values


class RowsFunction(WorkerFunction[P, R]):
    """A function of batches, groups or a whole table that gives rows."""

    def __init__(
        self,
        target: Callable[P, R],
        kind: str,
        schema: SchemaLike,
        columns: Sequence[str] | None,
        batch: str,
        options: FunctionOptions,
    ) -> None:
        super().__init__(target, kind, options)
        self.batch = batch
        self.schema = schema_fields(schema)
        self.columns = column_names(kind, columns)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the plain function, here."""
        return self.local(*args, **kwargs)

    def __repr__(self) -> str:
        fields = ", ".join(f"{f['name']} {f['type']}" for f in self.schema)
        return f"<alink.{type(self).__name__} {self.name} -> {fields}>"


class MapBatchesFunction(RowsFunction[P, R]):
    """A function of record batches, as `map_batches` makes it."""

    def __init__(
        self,
        target: Callable[P, R],
        schema: SchemaLike,
        columns: Sequence[str] | None,
        options: FunctionOptions,
        batch: str = "arrow",
    ) -> None:
        super().__init__(target, "map_batches", schema, columns, batch, options)

    def behind(self, _before: MapBatchesFunction[..., Any]) -> MapBatchesFunction[..., Any] | None:
        """Give one function of another one and this one behind it, if they can be one."""
        return None


class FitFunction(WorkerFunction[P, R]):
    """A function that trains a model, as `Table.fit` makes it."""

    def __init__(self, target: Callable[P, R], options: FunctionOptions) -> None:
        super().__init__(target, "fit", options)


class _Decorator(Protocol):
    """What ``udf(…)`` gives: decorates a function or a class."""

    @overload
    def __call__(self, target: type[Any], /) -> Function[..., Any]: ...

    @overload
    def __call__(self, target: Callable[P, R], /) -> Function[P, R]: ...


@overload
def udf(result: type[Any], /) -> Function[..., Any]: ...


@overload
def udf(result: Callable[P, R], /) -> Function[P, R]: ...


@overload
def udf(
    result: TypeLike | None = None,
    /,
    *,
    env: Environment | None = None,
    batch: Literal["numpy", "pandas", "polars", "arrow"] | None = None,
    models: Mapping[str, Model] | None = None,
    on_null: Literal["call", "skip"] = "call",
    retries: int | Mapping[str, int] | None = None,
    workers: int | None = None,
    batch_rows: int | None = None,
    timeout: float | str | None = "60s",
    memory: int | str | None = None,
    **others: Unpack[Options],
) -> _Decorator: ...


def udf(
    result: Any = None,
    /,
    *,
    env: Environment | None = None,
    batch: str | None = None,
    models: Mapping[str, Model] | None = None,
    on_null: str = "call",
    retries: int | Mapping[str, int] | None = None,
    workers: int | None = None,
    batch_rows: int | None = None,
    timeout: float | str | None = "60s",
    memory: int | str | None = None,
    **others: Unpack[Options],
) -> Any:
    """Make a function of columns that runs in Python workers.

    Used as a decorator, with and without a call. The function gets one row at a time,
    scalars in and a scalar out, or with `batch` arrays of many rows, and returns one array
    of the same length. A class is made once for each worker, its method ``setup`` called if
    it has one, and then it is called like a function.

    Parameters
    ----------
    result : str or pyarrow.DataType, optional
        Type of the result; the default is the function's annotation. In an annotation a
        string is a type string, anything else a Python type.
    env : Environment, optional
        What the function runs with; the default is the client's own interpreter.
    batch : {None, "numpy", "pandas", "polars", "arrow"}
        None for one row at a time, else the library whose arrays or Series it gets.
    models : dict of str to Model, optional
        Handed to the function as keyword arguments.
    on_null : {"call", "skip"}
        With "skip", a row with a NULL argument gives NULL and the function is not called.
    retries : int or dict, optional
        How often a batch is run again after its worker died; the default is 2. An exception
        is only retried where that is asked for: {"death": 2, "exception": 3}.
    workers : int, optional
        Number of worker processes; the default is the engine's choice.
    batch_rows : int, optional
        Largest number of rows in one call; the default is the engine's choice.
    timeout : number of seconds or str, optional
        How long the function may go without progress, which is a row of a row function and a
        call of one that takes arrays: 90, "2min"; None is for ever. Its worker is then
        interrupted and ended, and the job fails without another try.
    memory : int or str, optional
        What a worker may hold, with all the processes that it starts: "256MiB"; the default
        is "1GiB". A worker that holds more is ended, which counts as a death.
    sandbox : {"auto", "strict", "off"}, optional
        How its workers are shut in: "auto" as far as the machine can, "strict" at least with
        namespaces of their own (L2) or not at all, "off" not. The default is the engine's.
    network : bool, default False
        Whether it may use the machine's network.
    mounts : dict of path to {"ro", "rw"}, optional
        Files and folders of the machine that it sees, at the same path: {"/data": "ro"}.
    secrets : sequence of str, optional
        Variables of the client's environment that it finds in its own; their values are
        shown nowhere.
    isolation : {"shared", "own"}
        With "own", no other function runs in its workers.
    on_error : {"fail", "null", "dead_letter"}
        What becomes of a row on which it raises, or that its worker dies on, at a limit or by
        itself. "fail" fails the job, "null" gives NULL, "dead_letter" leaves the row out of
        the result and keeps it with the error: see `Job.dead_letters`.
    errors_max : int, default 10,000
        On how many rows it may fail before the job does.
    deterministic : bool, default True
        With False no row is run twice: where a worker dies in the middle of a batch, the job
        fails instead of running the batch again.
    output_max : int or str, optional
        What it may give for one row, "256MiB" by default, or, where it takes arrays, for one
        call: "1GiB".

    Returns
    -------
    Function
        Applied to columns it gives an expression. ``.local`` is the plain function.

    Raises
    ------
    PlanError
        If an option has a value that it cannot take, or the type of the result is not known.

    Examples
    --------
    >>> import alink as al
    >>> @al.udf("double")
    ... def made_up(dep, arr):
    ...     return dep - arr
    >>> made_up.local(10.0, 3.0)
    7.0
    >>> made_up("dep_delay", al.col("arr_delay") + 1)
    <alink.Expr made_up(dep_delay, arr_delay + 1)>
    """
    kind = one_of("udf", "batch", batch, (None, "numpy", "pandas", "polars", "arrow")) or "row"
    failing, rest = policy("udf", others, by_row=kind == "row")
    options = FunctionOptions(
        env, models, on_null, retries, workers, batch_rows, timeout, memory,
        confined=confinement("udf", rest, _UDF_OPTIONS), policy=failing,
    )  # fmt: skip
    options.check("udf")
    if callable(result) and not is_type(result):
        return Function(result, kind, None, options)
    if result is not None:
        type_string(result)  # a mistake is reported at the decorator's line

    def decorate(target: Any) -> Any:
        return Function(target, kind, result, options)

    return decorate


def map_batches(
    schema: SchemaLike,
    /,
    *,
    columns: Sequence[str] | None = None,
    batch: Literal["arrow", "pandas", "polars"] = "arrow",
    env: Environment | None = None,
    models: Mapping[str, Model] | None = None,
    retries: int | Mapping[str, int] | None = None,
    workers: int | None = None,
    batch_rows: int | None = None,
    timeout: float | str | None = "60s",
    memory: int | str | None = None,
    **others: Unpack[Options],
) -> Callable[[Callable[P, R]], MapBatchesFunction[P, R]]:
    """Make a function from record batches to record batches that runs in workers.

    Used as a decorator; `Table.map_batches` applies it. The function gets a
    ``pyarrow.RecordBatch``, or with `batch` a data frame, and returns one, or a table, None,
    or an iterator of these, with any number of rows. Where batches begin and end is not
    promised.

    Parameters
    ----------
    schema : str, pyarrow.Schema or dict
        Columns of the result, for example "a double, b string".
    columns : sequence of str, optional
        The columns that the function needs; the default is all.
    batch : {"arrow", "pandas", "polars"}
        The library of the batches: a RecordBatch or a DataFrame.
    env, models, retries, workers, batch_rows, timeout, memory
        As for `udf`.
    sandbox, network, mounts, secrets, isolation, errors_max, deterministic, output_max
        As for `udf`; `output_max` is for one call.
    on_error : {"fail", "dead_letter"}
        With "dead_letter" the rows on which it fails are found by calling it for parts of the
        batch. They are left out of its input and kept: see `Job.dead_letters`.

    Examples
    --------
    >>> import alink as al
    >>> @al.map_batches("carrier string", columns=["carrier"])
    ... def upper(batch):
    ...     return batch
    >>> upper
    <alink.MapBatchesFunction upper -> carrier string>
    """
    failing, rest = policy("map_batches", others, by_row=False)
    options = FunctionOptions(
        env, models, "call", retries, workers, batch_rows, timeout, memory,
        confined=confinement("map_batches", rest, _MAP_BATCHES_OPTIONS), policy=failing,
    )  # fmt: skip
    options.check("map_batches")
    one_of("map_batches", "batch", batch, ("arrow", "pandas", "polars"))
    schema_fields(schema)
    column_names("map_batches", columns)

    def decorate(target: Callable[P, R]) -> MapBatchesFunction[P, R]:
        return MapBatchesFunction(target, schema, columns, options, batch)

    return decorate


def column_names(operator: str, columns: Sequence[str] | None) -> list[str] | None:
    """Check a list of column names; None stands for all."""
    if columns is None:
        return None
    if isinstance(columns, str) or not all(isinstance(c, str) for c in columns) or not columns:
        raise bad_option(
            operator,
            f"{operator}: columns must be a list of names, not {columns!r}",
            f"write [{columns!r}]" if isinstance(columns, str) else "",
        )
    return list(columns)


def _parameters(
    target: Callable[..., Any], function: WorkerFunction[Any, Any]
) -> tuple[tuple[str, ...], int, bool]:
    """Give the positional parameters, how many must be given, and whether more may be."""
    models = dict(function.options.models or {})
    aggregate = function.kind == "aggregate"
    called = _called(target, "add" if aggregate else "__call__")
    try:
        parameters = list(inspect.signature(called).parameters.values())
    except (TypeError, ValueError):  # a builtin that does not tell
        return (), 0, True
    if inspect.isclass(target):
        parameters = parameters[2 if aggregate else 1 :]  # without self, and the state
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for model in models:
            if model not in named:
                raise bad_option(
                    function.kind,
                    f"{function.name} has no parameter {quote(model)} for the model",
                    did_you_mean(model, "parameters", sorted(named)),
                )
    positional = [
        p
        for p in parameters
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.name not in models
    ]
    required = sum(p.default is p.empty for p in positional)
    variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    return tuple(p.name for p in positional), required, variadic


def keyword_parameters(function: WorkerFunction[Any, Any]) -> list[inspect.Parameter] | None:
    """Give the parameters behind the one for the rows; None if the function does not tell."""
    try:
        parameters = list(inspect.signature(_called(function.target)).parameters.values())
    except (TypeError, ValueError):  # a builtin
        return None
    if inspect.isclass(function.target):
        parameters = parameters[1:]  # without self
    return [p for p in parameters[1:] if p.kind is not p.VAR_POSITIONAL]


def _called(target: Callable[..., Any], method: str = "__call__") -> Callable[..., Any]:
    """Give what runs for each call: a class's own method, or the function."""
    if not inspect.isclass(target):
        return target
    for cls in target.__mro__:
        if method in vars(cls):
            return vars(cls)[method]
    raise failure(
        codes.BAD_OPTION,
        f"the class {target.__name__} has no method __call__",
        source=function_source(target),
        hint="setup(self) is called once for each worker, __call__(self, …) for the rows",
    )


def _result_type(target: Callable[..., Any], result: TypeLike | None, name: str) -> str:
    if result is not None:
        return type_string(result)
    annotated = annotated_result(_called(target))
    if annotated is None:
        raise failure(
            codes.BAD_OPTION,
            f"the type of {name}'s result is not known",
            function=name,
            source=function_source(target),
            hint='give it: @al.udf("double"), or annotate the function: -> float',
        )
    return annotated


def _refuse_coroutine(target: Callable[..., Any], kind: str) -> None:
    """Refuse what gives no value when it is called."""
    called = target if not inspect.isclass(target) else vars(target).get("__call__")
    name = getattr(target, "__name__", repr(target))
    if inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called):
        raise bad_option(
            kind,
            f"{name} is an async function, whose calls give coroutines, not values",
            "define it with def, or run it inside: asyncio.run(…)",
        )
    if kind in ("row", "numpy", "pandas", "polars", "arrow") and inspect.isgeneratorfunction(
        called
    ):
        raise bad_option(
            "udf",
            f"{name} is a generator, but a function of columns gives one value",
            'return the value, or make rows: @al.udtf("word string")',
        )


def _count(function: WorkerFunction[Any, Any]) -> str:
    least, most = function._required, len(function.parameters)
    if function._variadic:
        return f"at least {least} arguments"
    if least < most:
        return f"{least} to {most} arguments"
    return f"{most} argument" + ("" if most == 1 else "s")
