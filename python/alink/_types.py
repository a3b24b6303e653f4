"""Type strings and Arrow types. The grammar is that of ``engine/plan/types.go``."""

from __future__ import annotations
import __future__

import dataclasses
import datetime
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeAlias, Union

import pyarrow as pa

from alink import _codes as codes
from alink._diag import did_you_mean, quote
from alink._errors import PlanError, failure
from alink._origin import user_origin
from alink._syntax import literal

#: What may stand where a type is expected.
TypeLike: TypeAlias = "str | pa.DataType | type[Any]"
#: What may stand where a schema is expected.
SchemaLike: TypeAlias = "str | pa.Schema | Mapping[str, TypeLike] | type[Any]"

_DEPTH_MAX = 32  # nesting of a type string
_DECIMAL_PRECISION_MAX = 38
_SHOWN_CHARS_MAX = 60  # of a text that cannot be read

# The first name of each type is the canonical one.
_SCALARS: tuple[tuple[tuple[str, ...], pa.DataType], ...] = (
    (("null",), pa.null()),
    (("boolean", "bool"), pa.bool_()),
    (("tinyint", "int8", "byte"), pa.int8()),
    (("smallint", "int16", "short"), pa.int16()),
    (("integer", "int", "int32"), pa.int32()),
    (("bigint", "int64", "long"), pa.int64()),
    (("utinyint", "uint8"), pa.uint8()),
    (("usmallint", "uint16"), pa.uint16()),
    (("uinteger", "uint32"), pa.uint32()),
    (("ubigint", "uint64"), pa.uint64()),
    (("float", "real", "float32"), pa.float32()),
    (("double", "float64"), pa.float64()),
    (("string", "varchar", "text", "utf8"), pa.string()),
    (("large_string",), pa.large_string()),
    (("binary", "blob", "varbinary", "bytes"), pa.binary()),
    (("large_binary",), pa.large_binary()),
    (("date",), pa.date32()),
    (("time",), pa.time64("us")),
    (("timestamp", "datetime"), pa.timestamp("us")),
    (("timestamp_s",), pa.timestamp("s")),
    (("timestamp_ms",), pa.timestamp("ms")),
    (("timestamp_ns",), pa.timestamp("ns")),
    (("timestamptz",), pa.timestamp("us", tz="UTC")),
    (("interval",), pa.month_day_nano_interval()),
)
_BY_NAME = {name: arrow for names, arrow in _SCALARS for name in names}
_TYPE_NAMES = [names[0] for names, _ in _SCALARS] + ["decimal", "list", "struct", "map"]


class _SyntaxError(Exception):
    """A type string that cannot be read; the text says where and why."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def parse_type(text: str) -> pa.DataType:
    """Read a type string.

    Examples
    --------
    >>> parse_type("decimal(10, 2)[]")
    ListType(list<item: decimal128(10, 2)>)
    """
    parser = _Parser(text)
    try:
        result = parser.type()
        parser.end()
    except _SyntaxError as error:
        raise _bad_type(text, str(error), error.hint) from None
    return result


def parse_schema(text: str) -> pa.Schema:
    """Read a schema string, for example ``"a double, b string"``."""
    parser = _Parser(text)
    try:
        fields = parser.fields(closing=None)
        parser.end()
    except _SyntaxError as error:
        raise _bad_type(text, str(error), error.hint, what="schema") from None
    return pa.schema(fields)


def _bad_type(text: str, why: str, hint: str = "", what: str = "type") -> PlanError:
    shown = text if len(text) <= _SHOWN_CHARS_MAX else text[: _SHOWN_CHARS_MAX - 1] + "…"
    error = failure(
        codes.BAD_OPTION, f"{what} {quote(shown)}: {why}", source=user_origin(), hint=hint
    )
    assert isinstance(error, PlanError)
    return error


class _Parser:
    """Recursive descent over one type or schema string."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def type(self) -> pa.DataType:
        self._depth += 1
        if self._depth > _DEPTH_MAX:
            raise _SyntaxError(f"types are nested deeper than {_DEPTH_MAX}")
        result = self._element()
        while self._accept("[]"):
            result = pa.list_(result)
        self._depth -= 1
        return result

    def end(self) -> None:
        self._space()
        if self._at < len(self._text):
            raise _SyntaxError(f"{quote(self._text[self._at :])} is left over")

    def fields(self, closing: str | None) -> list[pa.Field]:
        """Read ``name type, …`` up to `closing`, or to the end of the text."""
        fields: list[pa.Field] = []
        while not (self._accept(closing) if closing else self._at_end()):
            if fields and not self._accept(","):
                raise _SyntaxError(f"a comma is expected at {self._rest()}")
            name = self._word()
            if not name:
                raise _SyntaxError(f"a name is expected at {self._rest()}")
            self._accept(":")
            fields.append(pa.field(name, self.type()))
        return fields

    def _element(self) -> pa.DataType:
        name = self._word().lower()
        if not name:
            raise _SyntaxError(f"a type is expected at {self._rest()}")
        if name in ("decimal", "numeric"):
            return self._decimal()
        if name in ("list", "array"):
            return pa.list_(self._arguments(1)[0])
        if name == "map":
            key, item = self._arguments(2)
            return pa.map_(key, item)
        if name == "struct":
            if not self._accept("<"):
                raise _SyntaxError(f"< is expected at {self._rest()}")
            return pa.struct(self.fields(closing=">"))
        if name not in _BY_NAME:
            raise _SyntaxError(
                f"there is no type {quote(name)}", did_you_mean(name, "types", _TYPE_NAMES)
            )
        return _BY_NAME[name]

    def _decimal(self) -> pa.DataType:
        precision, scale = 18, 3
        if self._accept("("):
            precision, scale = self._integer("precision"), 0
            if self._accept(","):
                scale = self._integer("scale")
            if not self._accept(")"):
                raise _SyntaxError("decimal( lacks its )")
        if not (1 <= precision <= _DECIMAL_PRECISION_MAX and 0 <= scale <= precision):
            raise _SyntaxError(
                f"decimal({precision},{scale}) is out of range: "
                f"1 ≤ precision ≤ {_DECIMAL_PRECISION_MAX}, 0 ≤ scale ≤ precision"
            )
        return pa.decimal128(precision, scale)

    def _integer(self, what: str) -> int:
        word = self._word()
        if not (word.isascii() and word.isdigit()):
            raise _SyntaxError(f"decimal's {what}: {quote(word)} is not a number")
        return int(word)

    def _arguments(self, count: int) -> list[pa.DataType]:
        if not self._accept("<"):
            raise _SyntaxError(f"< is expected at {self._rest()}")
        arguments: list[pa.DataType] = []
        for i in range(count):
            if i > 0 and not self._accept(","):
                raise _SyntaxError(f"a comma is expected at {self._rest()}")
            arguments.append(self.type())
        if not self._accept(">"):
            raise _SyntaxError(f"> is expected at {self._rest()}")
        return arguments

    def _rest(self) -> str:
        return quote(self._text[self._at :])

    def _at_end(self) -> bool:
        self._space()
        return self._at >= len(self._text)

    def _space(self) -> None:
        while self._at < len(self._text) and self._text[self._at] in " \t\r\n":
            self._at += 1

    def _accept(self, token: str) -> bool:
        self._space()
        if self._text.startswith(token, self._at):
            self._at += len(token)
            return True
        return False

    def _word(self) -> str:
        self._space()
        if self._text.startswith('"', self._at):
            return self._quoted()
        start = self._at
        while self._at < len(self._text) and _is_word_char(self._text[self._at]):
            self._at += 1
        return self._text[start : self._at]

    def _quoted(self) -> str:
        """Read a name in double quotes, a quote inside doubled; "" if it has no end."""
        parts: list[str] = []
        i = self._at + 1
        while i < len(self._text):
            char = self._text[i]
            if char != '"':
                parts.append(char)
            elif self._text.startswith('""', i):
                parts.append('"')
                i += 1
            else:
                self._at = i + 1
                return "".join(parts)
            i += 1
        return ""


def _is_word_char(char: str) -> bool:
    return char == "_" or ord(char) >= 0x80 or char.isalnum()


def format_type(arrow: pa.DataType) -> str:
    """Give the type string of an Arrow type, which `parse_type` reads back.

    Raises
    ------
    PlanError
        If the engine has no such type.
    """
    for names, scalar in _SCALARS:
        if arrow.equals(scalar):
            return names[0]
    if pa.types.is_timestamp(arrow) and arrow.tz is not None:
        return "timestamptz"
    if pa.types.is_decimal128(arrow):
        return f"decimal({arrow.precision},{arrow.scale})"
    if pa.types.is_list(arrow) or pa.types.is_large_list(arrow):
        return f"list<{format_type(arrow.value_type)}>"
    if pa.types.is_struct(arrow):
        fields = (arrow.field(i) for i in range(arrow.num_fields))
        return (
            f"struct<{', '.join(f'{_quote_name(f.name)}: {format_type(f.type)}' for f in fields)}>"
        )
    if pa.types.is_map(arrow):
        return f"map<{format_type(arrow.key_type)}, {format_type(arrow.item_type)}>"
    raise _bad_type(str(arrow), "there is no such type", f"types are: {', '.join(_TYPE_NAMES)}")


def describe_type(arrow: pa.DataType) -> str:
    """Give the type string of an Arrow type, or Arrow's own name where there is none."""
    try:
        return format_type(arrow)
    except PlanError:
        return str(arrow)


def _quote_name(name: str) -> str:
    if name and all(_is_word_char(char) for char in name):
        return name
    return '"' + name.replace('"', '""') + '"'


def type_string(type_like: TypeLike) -> str:
    """Give the canonical type string of what the user gave as a type."""
    if isinstance(type_like, str):
        return format_type(parse_type(type_like))
    if isinstance(type_like, pa.DataType):
        return format_type(type_like)
    if is_type(type_like):
        return _from_annotation(type_like)
    raise _bad_type(
        repr(type_like),
        "a type is a string, a pyarrow.DataType or what an annotation may be",
        'write it as a string, for example "double"',
    )


def schema_fields(schema_like: SchemaLike) -> list[dict[str, str]]:
    """Give the fields of what the user gave as a schema, as the plan has them."""
    schema: Any = parse_schema(schema_like) if isinstance(schema_like, str) else schema_like
    if isinstance(schema, pa.Schema):
        pairs: list[tuple[str, TypeLike]] = [(f.name, f.type) for f in schema]
    elif isinstance(schema, Mapping):
        pairs = list(schema.items())
    elif (members := _members(schema)) is not None:
        pairs = [(name, _from_annotation(kind)) for name, kind in members.items()]
    else:
        raise _bad_type(
            repr(schema_like),
            "a schema is a string, a pyarrow.Schema, a dict of names and types, or a dataclass",
            'for example "a double, b string"',
            what="schema",
        )
    if not pairs:
        raise _bad_type("", "it has no columns", what="schema")
    names = [name.lower() for name, _ in pairs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise _bad_type(", ".join(names), f"column {quote(twice)} is there twice", what="schema")
    return [{"name": name, "type": type_string(type_like)} for name, type_like in pairs]


_ANNOTATIONS: dict[Any, str] = {
    bool: "boolean",
    int: "bigint",
    float: "double",
    str: "string",
    bytes: "binary",
    datetime.date: "date",
    datetime.datetime: "timestamp",
    datetime.time: "time",
    datetime.timedelta: "interval",
}
# Of numpy's scalar types those whose names are not ours.
_NUMPY_NAMES = {
    "bool": "boolean", "bool_": "boolean", "str_": "string", "bytes_": "binary",
    "int8": "tinyint", "int16": "smallint", "int32": "integer", "int64": "bigint",
    "uint8": "utinyint", "uint16": "usmallint", "uint32": "uinteger", "uint64": "ubigint",
    "float32": "float", "float64": "double",
}  # fmt: skip
_ANNOTATION_HINTS = {
    "Decimal": 'say how many digits: -> "decimal(18,2)"',
    "list": "say of what: -> list[float]",
    "dict": "say of what: -> dict[str, int], or a dataclass or TypedDict for a struct",
    "tuple": "give a NamedTuple or a dataclass for a struct, list[…] for a list",
    "ndarray": 'give the type of the values, as in -> "double"',
    "Series": 'give the type of the values, as in -> "double"',
}


def annotated_result(function: Callable[..., Any]) -> str | None:
    """Give the type string of a function's return annotation.

    A string in quotes is a type string, anything else a Python type: ``-> "float"`` has
    32 bits, ``-> float`` is a double, with and without ``from __future__ import
    annotations``.

    Returns
    -------
    str or None
        None where there is no annotation.
    """
    annotations = getattr(function, "__annotations__", {})
    if "return" not in annotations:
        return None
    annotation = annotations["return"]
    code = getattr(function, "__code__", None)
    if (
        isinstance(annotation, str)
        and code is not None
        and code.co_flags & __future__.annotations.compiler_flag
    ):
        annotation = _evaluate(annotation, function)
    if isinstance(annotation, str):
        return type_string(annotation)
    return _from_annotation(annotation)


def _evaluate(text: str, function: Callable[..., Any]) -> Any:
    try:
        return literal(text)
    except (ValueError, SyntaxError):
        pass
    try:
        return eval(text, getattr(function, "__globals__", {}))
    except Exception as error:  # noqa: BLE001 an annotation is user code
        raise _bad_type(text, f"the annotation cannot be evaluated: {error}") from None


def is_type(value: Any) -> bool:
    """Tell whether a value says a type, and is not a function or a class to be called."""
    if isinstance(value, (str, pa.DataType)):
        return True
    if _is_hashable(value) and value in _ANNOTATIONS:
        return True
    if typing.get_origin(value) is not None or isinstance(value, types.UnionType):
        return True
    return _numpy_name(value) is not None or (
        _members(value) is not None and not any("__call__" in vars(c) for c in value.__mro__[:-1])
    )


def _members(value: Any) -> dict[str, Any] | None:
    """Give the members of a dataclass, a named tuple or a TypedDict, with their annotations."""
    if not isinstance(value, type):
        return None
    if not (
        dataclasses.is_dataclass(value)
        or (issubclass(value, tuple) and hasattr(value, "_fields"))
        or typing.is_typeddict(value)
    ):
        return None
    try:
        hints = typing.get_type_hints(value)
    except Exception as error:  # noqa: BLE001 an annotation is user code
        text = f"its annotations cannot be evaluated: {error}"
        raise _bad_type(value.__name__, text) from None
    if dataclasses.is_dataclass(value):
        return {field.name: hints[field.name] for field in dataclasses.fields(value)}
    if issubclass(value, tuple):
        return {name: hints[name] for name in value._fields if name in hints}  # type: ignore[attr-defined]
    return hints


def _numpy_name(value: Any) -> str | None:
    """Give the type string of one of numpy's scalar types, which is not imported for it."""
    if not isinstance(value, type) or value.__module__ != "numpy":
        return None
    return _NUMPY_NAMES.get(value.__name__)


def _from_annotation(annotation: Any) -> str:
    if isinstance(annotation, str):
        return type_string(annotation)
    if isinstance(annotation, pa.DataType):
        return format_type(annotation)
    if annotation in _ANNOTATIONS if _is_hashable(annotation) else False:
        return _ANNOTATIONS[annotation]
    if (name := _numpy_name(annotation)) is not None:
        return name
    if members := _members(annotation):
        fields = (f"{_quote_name(n)}: {_from_annotation(kind)}" for n, kind in members.items())
        return f"struct<{', '.join(fields)}>"
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _from_annotation(arguments[-1] if is_type(arguments[-1]) else arguments[0])
    if origin in (Union, types.UnionType):
        rest = [a for a in arguments if a is not type(None)]
        if len(rest) == 1 and len(rest) < len(arguments):
            return _from_annotation(rest[0])
    if origin in (list, Sequence) and len(arguments) == 1:
        return f"list<{_from_annotation(arguments[0])}>"
    if origin in (dict, Mapping) and len(arguments) == 2:
        key, item = arguments
        return f"map<{_from_annotation(key)}, {_from_annotation(item)}>"
    name = getattr(annotation, "__name__", None) or str(annotation)
    raise _bad_type(
        name,
        "the annotation does not say which type it is",
        _ANNOTATION_HINTS.get(name, 'give a type string, as in -> "double"'),
    )


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True
