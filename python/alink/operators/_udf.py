"""User functions under PyAlink's names: ``udf``, ``udtf``, types, and the operators that call them.

They run in workers, as all user functions of `alink` do.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from alink._algorithms._types import (
    MTABLE,
    TENSOR,
    VECTOR,
    BadSchema,
    is_kind,
    parse_type,
    type_name,
)
from alink._diag import did_you_mean
from alink._expr import col
from alink._functions import Function, FunctionOptions
from alink._kinds import TableFunction as WorkerTableFunction
from alink._options import bad_option, find_column
from alink._ship import Shipment, ship
from alink._table import Table
from alink.operators._base import BatchOperator, StreamOperator
from alink.operators._catalogue import Parameter
from alink.operators._define import build
from alink.operators._mapping import PACKAGE, package
from alink.operators._operator import AlgoOperator

_SPECIAL = {"VECTOR": VECTOR, "TENSOR": TENSOR, "MTABLE": MTABLE}


# --- types ---


@dataclass(frozen=True)
class DataType:
    """A type of a function's argument or result.

    Attributes
    ----------
    arrow : pyarrow.DataType
    """

    arrow: pa.DataType

    def __repr__(self) -> str:
        return type_name(self.arrow)


def _maker(kind: pa.DataType) -> Any:
    def make(*_sizes: int, **_more: Any) -> DataType:
        """Give the type; sizes, precisions and ``nullable`` are taken and not looked at."""
        return DataType(kind)

    return staticmethod(make)


class DataTypes:
    """The types of Flink's tables."""

    BOOLEAN = _maker(pa.bool_())
    TINYINT = _maker(pa.int8())
    SMALLINT = _maker(pa.int16())
    INT = _maker(pa.int32())
    BIGINT = _maker(pa.int64())
    FLOAT = _maker(pa.float32())
    DOUBLE = _maker(pa.float64())
    STRING = _maker(pa.string())
    VARCHAR = _maker(pa.string())
    CHAR = _maker(pa.string())
    BYTES = _maker(pa.binary())
    VARBINARY = _maker(pa.binary())
    DATE = _maker(pa.date32())
    TIME = _maker(pa.time64("us"))
    TIMESTAMP = _maker(pa.timestamp("us"))

    @staticmethod
    def DECIMAL(precision: int, scale: int, nullable: bool = True) -> DataType:
        """Give the type of decimals."""
        del nullable  # every value may be NULL
        return DataType(pa.decimal128(precision, scale))


class AlinkDataTypes(DataTypes):
    """The types of Flink's tables, and those that Alink adds.

    Functions see vectors and tensors as arrays of numpy, sparse vectors as matrices of scipy and
    tables as DataFrames of pandas.
    """

    TENSOR = _maker(TENSOR)
    VECTOR = _maker(VECTOR)
    MTABLE = _maker(MTABLE)


# --- functions ---

# Pickled by value, as what stands in a program itself: workers need no alink for its subclasses.
_OF_PROGRAM = {"__module__": "__main__"}
UserDefinedFunction: type[Any] = type("UserDefinedFunction", (), {**_OF_PROGRAM})
#: The base of classes whose method ``eval`` gives a value for a row.
ScalarFunction: type[Any] = type("ScalarFunction", (UserDefinedFunction,), {**_OF_PROGRAM})
#: The base of classes whose method ``eval`` gives any number of rows for a row.
TableFunction: type[Any] = type("TableFunction", (UserDefinedFunction,), {**_OF_PROGRAM})


class UserFunction:
    """A function with the types of its results, as `udf` and `udtf` make it.

    Parameters
    ----------
    function : callable, or an object with a method ``eval``
    results : sequence of pyarrow.DataType
    rows : bool
        Whether it gives any number of rows for a row.
    name : str, optional
        What it is called in messages.
    """

    def __init__(
        self, function: Any, results: Sequence[pa.DataType], rows: bool, name: str | None = None
    ) -> None:
        made: Any = function() if inspect.isclass(function) else function
        self.call: Callable[..., Any] = getattr(made, "eval", made)
        self.results = list(results)
        self.rows = rows
        self.name = name or getattr(made, "__name__", type(made).__name__)

    def __call__(self, *args: Any) -> Any:
        """Call the function here, as a unit test would."""
        return self.call(*args)

    def __repr__(self) -> str:
        return f"<alink user function {self.name} -> {', '.join(map(type_name, self.results))}>"

    def scalar(self, inputs: Sequence[pa.DataType]) -> Function[..., Any]:
        """Give the function of columns of some types, for workers."""
        made = _Scalar(self._target(inputs), "row", self.results[0], FunctionOptions())
        return self._named(made)

    def table(
        self, inputs: Sequence[pa.DataType], names: Sequence[str]
    ) -> WorkerTableFunction[..., Any]:
        """Give the function of columns of some types that gives rows, for workers."""
        schema = pa.schema(list(zip(names, self.results, strict=True)))
        return self._named(_Rows(self._target(inputs), schema, FunctionOptions()))

    def _named(self, made: Any) -> Any:
        made.name = self.name
        return made

    def _target(self, inputs: Sequence[pa.DataType]) -> Callable[..., Any]:
        reads, writes = list(map(_special, inputs)), list(map(_special, self.results))
        function, rows = self.call, self.rows
        if not any(reads) and not any(writes):
            return function
        module = f"{PACKAGE}._python_values"

        def call(*values: Any) -> Any:
            import importlib

            # Where the worker has it; the function is made once for each of them.
            if not made:
                called = importlib.import_module(module).called
                made.append(called(function, reads, writes, rows))
            return made[0](*values)

        made: list[Callable[..., Any]] = []
        call.__code__ = call.__code__.replace(co_filename="<frozen alink>")  # hidden
        return call


def _special(kind: pa.DataType) -> str:
    return next((name for name, special in _SPECIAL.items() if is_kind(kind, special)), "")


def _with_package(target: Any, name: str, same_python: bool) -> Shipment:
    """Give a function as it travels, with what reads and writes the values of its columns."""
    shipped = ship(target, name, same_python)
    return Shipment(shipped.code, (*shipped.modules, package()), shipped.pickle)


class _Scalar(Function[..., Any]):
    """A function of columns that gives a column."""

    def shipment(self, same_python: bool) -> Shipment:
        return _with_package(self.target, self.name, same_python)


class _Rows(WorkerTableFunction[..., Any]):
    """A function of columns that gives rows."""

    def shipment(self, same_python: bool) -> Shipment:
        return _with_package(self.target, self.name, same_python)


def udf(
    f: Any = None,
    input_types: Any = None,
    result_type: Any = None,
    deterministic: bool | None = None,
    name: str | None = None,
) -> Any:
    """Make a user function that gives a value for a row.

    Parameters
    ----------
    f : function, lambda, or object with a method ``eval``, optional
        Without it, what is returned decorates one.
    input_types : list of DataType, optional
        What it is given; the columns' own types count.
    result_type : DataType or str
    deterministic : bool, optional
        Not used.
    name : str, optional
        What it is called in messages.

    Examples
    --------
    >>> from alink.pyalink import udf, DataTypes
    >>> @udf(input_types=[DataTypes.DOUBLE()], result_type=DataTypes.DOUBLE())
    ... def plus_one(x):
    ...     return x + 1
    >>> plus_one(2.0)
    3.0
    """
    del deterministic
    _types("udf", input_types if input_types is not None else [])
    results = _types("udf", result_type)
    return _made("udf", f, results, False, name)


def udtf(
    f: Any = None,
    input_types: Any = None,
    result_types: Any = None,
    deterministic: bool | None = None,
    name: str | None = None,
) -> Any:
    """Make a user function that gives any number of rows for a row: a generator, or a list.

    Parameters
    ----------
    f : function, or object with a method ``eval``, optional
        Without it, what is returned decorates one.
    input_types : list of DataType, optional
        What it is given; the columns' own types count.
    result_types : DataType, str, or list of these
        Of the columns of its rows.
    deterministic : bool, optional
        Not used.
    name : str, optional
        What it is called in messages.
    """
    del deterministic
    _types("udtf", input_types if input_types is not None else [])
    return _made("udtf", f, _types("udtf", result_types), True, name)


def _made(what: str, f: Any, results: list[pa.DataType], rows: bool, name: str | None) -> Any:
    def decorate(function: Any) -> UserFunction:
        if not callable(function) and not hasattr(function, "eval"):
            raise bad_option(
                what,
                f"{what} takes a function or an object with a method eval, not {function!r:.60}",
            )
        return UserFunction(function, results, rows, name)

    return decorate if f is None else decorate(f)


def _types(what: str, given: Any) -> list[pa.DataType]:
    """Read types: one, or a list of them."""
    if given is None:
        raise bad_option(
            what,
            f"{what}: the type of the result is not known",
            "give result_type=DataTypes.DOUBLE()"
            if what == "udf"
            else "give result_types=[DataTypes.INT(), DataTypes.DOUBLE()]",
        )
    single = isinstance(given, (str, DataType, pa.DataType))
    return [_type(what, item) for item in ([given] if single else _listed(what, given))]


def _listed(what: str, given: Any) -> Iterable[Any]:
    if not isinstance(given, Iterable):
        raise bad_option(what, f"{what}: {given!r:.60} is no type", "write DataTypes.DOUBLE()")
    return given


def _type(what: str, given: Any) -> pa.DataType:
    if isinstance(given, DataType):
        return given.arrow
    if isinstance(given, pa.DataType):
        return given
    if isinstance(given, str):
        try:
            return parse_type(given)
        except BadSchema as error:
            names = [n for n in dir(AlinkDataTypes) if n.isupper()]
            raise bad_option(
                what, f"{what}: {error}", did_you_mean(given, "types", names)
            ) from None
    raise bad_option(what, f"{what}: {given!r:.60} is no type", "write DataTypes.DOUBLE()")


# --- operators ---


def function_of(name: str, func: Any, types: Any, rows: bool) -> UserFunction:
    """Give the function that an operator is given, with the types of its results."""
    if isinstance(func, UserFunction):
        if func.rows != rows:
            wanted = "udtf" if rows else "udf"
            raise bad_option(name, f"{name} takes a function made with {wanted}, not {func!r:.60}")
        return func
    if not callable(func) and not hasattr(func, "eval"):
        raise bad_option(
            name, f"{name} takes a function or an object with a method eval, not {func!r:.60}"
        )
    if types is None:
        setter = 'setResultTypes(["LONG", "DOUBLE"])' if rows else 'setResultType("DOUBLE")'
        maker = "udtf(…, result_types=…)" if rows else "udf(…, result_type=…)"
        raise bad_option(
            name,
            f"{name}: the type of the function's result is not known",
            f"make it with {maker}, or set {setter}",
        )
    return UserFunction(func, _types(name, types), rows)


def _apply(name: str, params: Mapping[str, Any], table: Table) -> Table:
    """Give the rows with what a function gives for each, in a last column ``outputCol``."""
    function = function_of(name, params["func"], params["resultType"], rows=False)
    schema = table.schema
    selected = [find_column(name, schema, column) for column in params["selectedCols"]]
    kept = _kept(name, schema, params["reservedCols"], [params["outputCol"]])
    called = function.scalar([schema.field(column).type for column in selected])
    result = called(*(col(column) for column in selected))
    return table.select(*(col(column) for column in kept), {params["outputCol"]: result})


def _apply_rows(name: str, params: Mapping[str, Any], table: Table) -> Table:
    """Give a row for each row that a function gives, its columns last, as ``outputCols``."""
    function = function_of(name, params["func"], params["resultTypes"], rows=True)
    outputs: list[str] = params["outputCols"]
    if len(outputs) != len(function.results):
        raise bad_option(
            name,
            f"{name}: {len(outputs)} names for the {len(function.results)} columns of "
            f"{function.name}",
            "give outputCols as many names as the function has results",
        )
    schema = table.schema
    selected = [find_column(name, schema, column) for column in params["selectedCols"]]
    kept = _kept(name, schema, params["reservedCols"], outputs)
    return with_rows(table, function, [col(column) for column in selected], outputs, kept)


def with_rows(
    table: Table,
    function: UserFunction,
    arguments: Sequence[Any],
    outputs: Sequence[str],
    kept: Sequence[str],
    outer: bool = False,
) -> Table:
    """Put columns of a table beside the rows that a function gives."""
    schema = table.schema
    kinds = table.select({f"a{i}": a for i, a in enumerate(arguments)}).schema.types
    names = [f"__output{i}" for i in range(len(outputs))]
    assert not set(names) & set(schema.names)
    called = function.table(kinds, names)(*arguments)
    joined = table.join_lateral(called, "left" if outer else "inner")
    renamed = {output: col(name) for output, name in zip(outputs, names, strict=True)}
    return joined.select(*(col(column) for column in kept), renamed)


def _kept(
    name: str, schema: pa.Schema, reserved: Sequence[str] | None, outputs: Sequence[str]
) -> list[str]:
    """Give the columns that stay: unlike with other operators, an output goes behind them."""
    columns = schema.names if reserved is None else [find_column(name, schema, c) for c in reserved]
    replaced = {output.lower() for output in outputs}
    return [column for column in columns if column.lower() not in replaced]


_FUNC = Parameter("func", "Object", None, True)
_SELECTED = Parameter("selectedCols", "String[]", None, True)
_RESERVED = Parameter("reservedCols", "String[]", None, False)
_SCALAR = {
    p.name: p
    for p in (
        _FUNC,
        _SELECTED,
        Parameter("outputCol", "String", None, True),
        _RESERVED,
        Parameter("resultType", "Object", None, False),
    )
}
_ROWS = {
    p.name: p
    for p in (
        _FUNC,
        _SELECTED,
        Parameter("outputCols", "String[]", None, True),
        _RESERVED,
        Parameter("resultTypes", "Object", None, False),
    )
}


def declare() -> None:
    """Declare the operators of this module."""
    for kind, base in (("BatchOp", BatchOperator), ("StreamOp", StreamOperator)):
        for short, make, parameters in (("UDF", _apply, _SCALAR), ("UDTF", _apply_rows, _ROWS)):
            _declare(f"{short}{kind}", base, make, parameters)


def _declare(
    name: str,
    base: type[AlgoOperator],
    make: Callable[[str, Mapping[str, Any], Table], Table],
    parameters: Mapping[str, Parameter],
) -> None:
    def _link(self: AlgoOperator) -> Table:
        return make(name, self._all(), self._inputs[0]._table())

    build(name, base, make.__doc__, _parameters=parameters, _link=_link)
