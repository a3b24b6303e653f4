"""Expressions over the columns of a table."""

from __future__ import annotations

import datetime
import decimal
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from alink import _codes as codes
from alink import _names
from alink._errors import Error, failure
from alink._names import refuse_attribute
from alink._origin import user_origin
from alink._types import TypeLike, type_string

if TYPE_CHECKING:
    from alink._functions import WorkerFunction

#: What may stand where an expression is expected: SQL text or an expression.
IntoExpr: TypeAlias = "str | Expr"

_SAFE_INTEGER_MAX = 2**53  # beyond, JSON readers may round
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
_DECIMAL_DIGITS_MAX = 38

_DEPTH_MAX = 190  # the engine reads expressions of up to 200
_COMPARISONS = frozenset({"=", "<>", "<", "<=", ">", ">="})

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# An alias stands at the end: what ends with a parenthesis or a quote, as CAST(x AS t), has none.
_ALIAS = re.compile(
    r"""\s*(?P<expr>.*\S)\s+AS\s+(?P<name>[A-Za-z_][A-Za-z0-9_]*|"(?:[^"]|"")+")\s*""",
    re.IGNORECASE | re.DOTALL,
)
_QUOTED_IDENTIFIER = re.compile(r'"((?:[^"]|"")+)"\Z')
# Words that SQL reads as values although they look like names.
_CONSTANTS = frozenset(
    {
        "current_date",
        "current_time",
        "current_timestamp",
        "false",
        "localtime",
        "localtimestamp",
        "null",
        "true",
    }
)


class Expr:
    """An expression over the columns of a table.

    Made by `col`, `lit`, a function applied to columns, and operators on these. ``&``,
    ``|`` and ``~`` are SQL's AND, OR and NOT; a plain value beside an operator is a
    literal.

    Examples
    --------
    >>> import alink as al
    >>> (al.col("distance") / al.col("air_time")) * 60 > 400
    <alink.Expr ((distance / air_time) * 60) > 400>
    """

    __slots__ = ("_name", "_node")

    def __init__(self, node: _Node, name: str | None = None) -> None:
        self._node = node
        self._name = name

    if not TYPE_CHECKING:  # so that a name that does not exist stays an error of type checkers

        def __getattr__(self, name: str) -> NoReturn:
            refuse_attribute(self, name, _names.EXPR)

    def alias(self, name: str) -> Expr:
        """Give the column that comes of the expression a name."""
        return Expr(self._node, name)

    def asc(self, *, nulls_first: bool | None = None) -> SortKey:
        """Sort by the expression, the smallest value first; for `Table.order_by`."""
        return SortKey(self, False, nulls_first)

    def desc(self, *, nulls_first: bool | None = None) -> SortKey:
        """Sort by the expression, the largest value first; for `Table.order_by`."""
        return SortKey(self, True, nulls_first)

    def cast(self, type: TypeLike) -> Expr:
        """Convert to a type; a value that does not fit fails the job."""
        return Expr(_Op("cast", (self._node,), type_string(type)))

    def is_null(self) -> Expr:
        """Tell whether the value is NULL."""
        return Expr(_Op("is_null", (self._node,)))

    def is_not_null(self) -> Expr:
        """Tell whether the value is not NULL."""
        return Expr(_Op("is_not_null", (self._node,)))

    def is_in(self, values: Iterable[Any]) -> Expr:
        """Tell whether the value is one of several."""
        if isinstance(values, (str, bytes, Expr)) or not isinstance(values, Iterable):
            raise failure(
                codes.BAD_EXPRESSION,
                f"is_in takes a list of values, not {values!r:.80}",
                source=user_origin(),
                hint="is_in([…])",
            )
        nodes = tuple(_operand(value) for value in values)
        if not nodes:
            return Expr(_literal(False))
        return Expr(_Op("in", (self._node, *nodes)))

    def between(self, low: Any, high: Any) -> Expr:
        """Tell whether the value lies between two others, both included."""
        return (self >= low) & (self <= high)

    def __add__(self, other: Any) -> Expr:
        return self._binary("+", other)

    def __radd__(self, other: Any) -> Expr:
        return self._binary("+", other, reflected=True)

    def __sub__(self, other: Any) -> Expr:
        return self._binary("-", other)

    def __rsub__(self, other: Any) -> Expr:
        return self._binary("-", other, reflected=True)

    def __mul__(self, other: Any) -> Expr:
        return self._binary("*", other)

    def __rmul__(self, other: Any) -> Expr:
        return self._binary("*", other, reflected=True)

    def __truediv__(self, other: Any) -> Expr:
        return self._binary("/", other)

    def __rtruediv__(self, other: Any) -> Expr:
        return self._binary("/", other, reflected=True)

    def __mod__(self, other: Any) -> Expr:
        return self._binary("%", other)

    def __rmod__(self, other: Any) -> Expr:
        return self._binary("%", other, reflected=True)

    def __pos__(self) -> Expr:
        return self

    def __neg__(self) -> Expr:
        return Expr(_Op("neg", (self._node,)))

    def __eq__(self, other: object) -> Expr:  # type: ignore[override]
        return self._binary("=", other)

    def __ne__(self, other: object) -> Expr:  # type: ignore[override]
        return self._binary("<>", other)

    def __lt__(self, other: Any) -> Expr:
        return self._binary("<", other)

    def __le__(self, other: Any) -> Expr:
        return self._binary("<=", other)

    def __gt__(self, other: Any) -> Expr:
        return self._binary(">", other)

    def __ge__(self, other: Any) -> Expr:
        return self._binary(">=", other)

    def __and__(self, other: Any) -> Expr:
        return self._binary("and", other)

    def __rand__(self, other: Any) -> Expr:
        return self._binary("and", other, reflected=True)

    def __or__(self, other: Any) -> Expr:
        return self._binary("or", other)

    def __ror__(self, other: Any) -> Expr:
        return self._binary("or", other, reflected=True)

    def __invert__(self) -> Expr:
        return Expr(_Op("not", (self._node,)))

    __hash__ = None  # type: ignore[assignment]  # == makes an expression

    def __bool__(self) -> bool:
        raise failure(
            codes.BAD_EXPRESSION,
            f"the expression {self} has no truth value before the job runs",
            source=user_origin(),
            hint="use & | ~ and parentheses instead of and, or, not and chained comparisons",
        )

    def __contains__(self, value: object) -> bool:
        raise failure(
            codes.BAD_EXPRESSION,
            f"in cannot ask the expression {self} before the job runs",
            source=user_origin(),
            hint="the other way round it is al.col(…).is_in([…])",
        )

    def __iter__(self) -> Iterator[Any]:
        raise failure(
            codes.BAD_EXPRESSION,
            f"the expression {self} has no values before the job runs",
            source=user_origin(),
            hint="rows come with collect(), to_arrow() or to_pandas()",
        )

    def __str__(self) -> str:
        return str(self._node)

    def __repr__(self) -> str:
        return f"<alink.Expr {self}>"

    def _binary(self, op: str, other: Any, reflected: bool = False) -> Expr:
        node = _operand(other)
        if op in _COMPARISONS and isinstance(node, _Literal) and node.value is None:
            raise failure(
                codes.BAD_EXPRESSION,
                f"a comparison of {self} with None is never true",
                source=user_origin(),
                hint="NULL is asked for with is_null() and is_not_null()",
            )
        if _depth(self._node) >= _DEPTH_MAX or _depth(node) >= _DEPTH_MAX:
            raise failure(
                codes.BAD_EXPRESSION,
                f"an expression is nested deeper than {_DEPTH_MAX} operators",
                source=user_origin(),
                hint="compute a part of it in a with_columns before, or write it as SQL text",
            )
        return Expr(_Op(op, (node, self._node) if reflected else (self._node, node)))


@dataclass(frozen=True)
class _Column:
    name: str

    def __str__(self) -> str:
        if _IDENTIFIER.match(self.name):
            return self.name
        return '"' + self.name.replace('"', '""') + '"'


@dataclass(frozen=True)
class _Literal:
    type: str
    value: Any

    def __str__(self) -> str:
        if self.value is None:
            return "NULL"
        if self.type in ("boolean", "bigint", "double"):
            return str(self.value)
        text = "'" + str(self.value).replace("'", "''") + "'"
        return text if self.type == "string" else f"{self.type} {text}"


@dataclass(frozen=True)
class _Sql:
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class _Op:
    op: str
    args: tuple[_Node, ...]
    type: str = ""
    depth: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "depth", 1 + max(map(_depth, self.args), default=0))

    def __str__(self) -> str:
        parts = [f"({a})" if isinstance(a, (_Op, _Sql)) else str(a) for a in self.args]
        if self.op == "cast":
            return f"{parts[0]}::{self.type}"
        if self.op == "in":
            return f"{parts[0]} in ({', '.join(parts[1:])})"
        if self.op in ("is_null", "is_not_null"):
            return f"{parts[0]} {self.op.replace('_', ' ')}"
        if len(parts) == 1:
            return f"-{parts[0]}" if self.op == "neg" else f"{self.op} {parts[0]}"
        return f"{parts[0]} {self.op} {parts[1]}"


@dataclass(frozen=True)
class _Call:
    function: WorkerFunction[..., Any]
    args: tuple[_Node, ...]

    def __str__(self) -> str:
        return f"{self.function.name}({', '.join(map(str, self.args))})"


_Node: TypeAlias = _Column | _Literal | _Sql | _Op | _Call


def col(name: str) -> Expr:
    """Refer to a column by its exact name, whatever characters it has."""
    if not isinstance(name, str):
        raise failure(
            codes.BAD_EXPRESSION, f"a column's name is a string, not {name!r}", source=user_origin()
        )
    return Expr(_Column(name), name)


def lit(value: Any) -> Expr:
    """Make a literal of a Python value: None, a number, a string, bytes, a date or time."""
    return Expr(_literal(value))


def call(function: WorkerFunction[..., Any], arguments: Iterable[Any]) -> Expr:
    """Apply a Python function: strings are columns or SQL, other values literals."""
    nodes = tuple(into_node(a) if isinstance(a, str) else _operand(a) for a in arguments)
    return Expr(_Call(function, nodes), function.name)


def call_parts(expr: Expr) -> tuple[Any, list[Expr]] | None:
    """Give the function and the arguments of an expression that is a call and no more."""
    node = expr._node
    return (node.function, [Expr(arg) for arg in node.args]) if isinstance(node, _Call) else None


def into_expr(value: IntoExpr) -> Expr:
    """Read what the user gave as an expression: a string is a column or SQL."""
    if isinstance(value, Expr):
        return value
    if isinstance(value, str):
        node = into_node(value)
        return Expr(node, node.name if isinstance(node, _Column) else value.strip())
    hint = f"a literal is al.lit({value!r:.80})"
    if callable(value):
        hint = 'a function is made with @al.udf("double") and called with columns: f("x")'
    raise failure(
        codes.BAD_EXPRESSION,
        f"an expression is SQL text or made with al.col and al.lit, not {value!r:.80}",
        source=user_origin(),
        hint=hint,
    )


def into_named(value: IntoExpr) -> Expr:
    """Read an expression that may name its column, as SQL does: "a + 1 AS b"."""
    if isinstance(value, str) and (match := _ALIAS.fullmatch(value)):
        name = match["name"]
        if quoted := _QUOTED_IDENTIFIER.match(name):
            name = quoted[1].replace('""', '"')
        return Expr(into_node(match["expr"]), name)
    return into_expr(value)


def into_node(text: str) -> _Node:
    """Read a string: a name, bare or quoted, is that column, all else one SQL expression."""
    stripped = text.strip()
    if not stripped:
        raise failure(codes.BAD_EXPRESSION, "an expression is empty", source=user_origin())
    if _IDENTIFIER.match(stripped) and stripped.lower() not in _CONSTANTS:
        return _Column(stripped)
    if quoted := _QUOTED_IDENTIFIER.match(stripped):
        return _Column(quoted[1].replace('""', '"'))
    return _Sql(stripped)


def output_name(expr: Expr) -> str:
    """Give the name of the column that comes of an expression."""
    if expr._name is not None:
        return expr._name
    raise failure(
        codes.BAD_EXPRESSION,
        f"the expression {expr} needs a name",
        source=user_origin(),
        hint="give it as a keyword, select(name=…), or with .alias(name)",
    )


def calls(expr: Expr) -> Iterator[WorkerFunction[..., Any]]:
    """Give the Python functions of an expression, in the order of their calls."""
    yield from _calls(expr._node)


def _calls(node: _Node) -> Iterator[WorkerFunction[..., Any]]:
    if isinstance(node, (_Op, _Call)):
        for arg in node.args:
            yield from _calls(arg)
    if isinstance(node, _Call):
        yield node.function


def _depth(node: _Node) -> int:
    return node.depth if isinstance(node, _Op) else 1


def expr_json(expr: Expr, function_id: Callable[[WorkerFunction[..., Any]], str]) -> dict[str, Any]:
    """Give the plan's form of an expression."""
    return _node_json(expr._node, function_id)


def _node_json(
    node: _Node, function_id: Callable[[WorkerFunction[..., Any]], str]
) -> dict[str, Any]:
    if isinstance(node, _Column):
        return {"column": node.name}
    if isinstance(node, _Literal):
        return {"literal": {"type": node.type, "value": node.value}}
    if isinstance(node, _Sql):
        return {"sql": node.text}
    args = [_node_json(arg, function_id) for arg in node.args]
    if isinstance(node, _Call):
        return {"call": function_id(node.function), "args": args}
    data: dict[str, Any] = {"op": node.op, "args": args}
    if node.type:
        data["type"] = node.type
    return data


def _operand(value: Any) -> _Node:
    return value._node if isinstance(value, Expr) else _literal(value)


def _literal(value: Any) -> _Literal:
    # numpy's scalars know their Python value; their module is not imported for it.
    if type(value).__module__ == "numpy" and hasattr(value, "item"):
        value = value.item()
    if value is None:
        return _Literal("null", None)
    if isinstance(value, bool):
        return _Literal("boolean", value)
    if isinstance(value, int):
        return _integer_literal(value)
    if isinstance(value, float):
        if math.isfinite(value):
            return _Literal("double", value)
        return _Literal("double", "NaN" if math.isnan(value) else _infinity(value))
    if isinstance(value, str):
        return _Literal("string", value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _Literal("binary", bytes(value).hex())
    if isinstance(value, decimal.Decimal) and value.is_finite():
        return _decimal_literal(value)
    if isinstance(value, datetime.datetime):
        return _timestamp_literal(value)
    if isinstance(value, datetime.date):
        return _Literal("date", value.isoformat())
    if isinstance(value, datetime.time) and value.tzinfo is None:
        return _Literal("time", value.isoformat())
    raise _bad_literal(value)


def literal_parts(value: Any) -> tuple[str, Any]:
    """Give the type and the plan's form of a Python value, as `lit` reads it."""
    literal = _literal(value)
    return literal.type, literal.value


def _integer_literal(value: int) -> _Literal:
    if _INT64_MIN <= value <= _INT64_MAX:
        return _Literal("bigint", value if abs(value) <= _SAFE_INTEGER_MAX else str(value))
    if 0 <= value < 2**64:
        return _Literal("ubigint", str(value))
    return _decimal_literal(decimal.Decimal(value))


def _infinity(value: float) -> str:
    return "Infinity" if value > 0 else "-Infinity"


def _decimal_literal(value: decimal.Decimal) -> _Literal:
    _, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    scale = max(0, -exponent)
    precision = max(len(digits) + max(0, exponent), scale, 1)
    if precision > _DECIMAL_DIGITS_MAX:
        raise _bad_literal(value)
    return _Literal(f"decimal({precision},{scale})", format(value, "f"))


def _timestamp_literal(value: datetime.datetime) -> _Literal:
    if value != value:  # pandas' NaT
        return _Literal("null", None)
    if value.tzinfo is None:
        return _Literal("timestamp", value.isoformat(sep=" "))
    return _Literal("timestamptz", value.astimezone(datetime.timezone.utc).isoformat(sep=" "))


def _bad_literal(value: Any) -> Error:
    return failure(
        codes.TYPE_MISMATCH,
        f"a literal cannot be made of {value!r:.80}",
        source=user_origin(),
        hint="literals are None, bool, int, float, str, bytes, Decimal, date, time and datetime",
    )


_ORDER = re.compile(
    r"(?P<expr>.+?)(?:\s+(?P<direction>asc|desc))?(?:\s+nulls\s+(?P<nulls>first|last))?\s*",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True)
class SortKey:
    """An expression to sort by.

    Parameters
    ----------
    expr : Expr
        What is compared.
    descending, nulls_first : bool or None
        Whether the largest value, and whether NULLs come first; None leaves it to the
        options of `Table.order_by`.
    """

    expr: Expr
    descending: bool | None = None
    nulls_first: bool | None = None


def parse_order(text: str) -> SortKey:
    """Read a sort key: an expression with trailing ASC, DESC, NULLS FIRST or NULLS LAST."""
    match = _ORDER.fullmatch(text.strip())
    if match is None:
        raise failure(codes.BAD_EXPRESSION, "a sort key is empty", source=user_origin())
    direction, nulls = match["direction"], match["nulls"]
    return SortKey(
        into_expr(match["expr"]),
        None if direction is None else direction.lower() == "desc",
        None if nulls is None else nulls.lower() == "first",
    )
