"""Functions and classes as source text, for a Python whose byte code is another.

Everything becomes a definition at the top of one module: variables that a function closes over
are globals there, so one name can only stand for one thing.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import functools
import inspect
import linecache
import sys
import textwrap
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any

from alink import _codes as codes
from alink._code import (
    CACHED,
    found_by_name,
    function_source,
    global_names,
    imported_names,
    stored_names,
    what_is,
)
from alink._diag import quote
from alink._errors import Error, failure
from alink._syntax import literal, parse

# Functions that one function may call, directly or through others.
FUNCTIONS_MAX = 200


def source_text(target: Callable[..., Any], name: str) -> tuple[str, set[str]]:
    """Give the source of a function or class with what it needs, and the modules it uses.

    The text defines it under its own name, and the functions and classes of the same program
    that it uses, on the lines that they have in the user's file. Variables of the program, or
    of a function around it, that are modules, importable functions and classes, or plain
    constants are defined in its first line.

    Raises
    ------
    PlanError
        If something that it uses cannot be written down (ALK2005).
    """
    text = _Text(target, name)
    text.add(target)
    return text.write(), text.modules


@dataclass(frozen=True)
class _Piece:
    """A definition, and the line of the user's file that it stands on."""

    defined: FunctionType | type
    line: int
    body: str


class _Text:
    def __init__(self, target: Callable[..., Any], name: str) -> None:
        self.modules: set[str] = set()
        self._target = target
        self._name = name
        self._head: dict[str, str] = {}  # by the variable that a statement defines
        self._pieces: dict[str, _Piece] = {}  # by the name that is defined
        self._meant: dict[str, Any] = {}  # what each name stands for
        self._tail: list[str] = []

    def write(self) -> str:
        text = "; ".join(["from __future__ import annotations", *self._head.values()]) + "\n"
        lines = 1
        for piece in sorted(self._pieces.values(), key=lambda p: p.line):
            padding = max(0, piece.line - 1 - lines)
            text += "\n" * padding + piece.body
            lines += padding + piece.body.count("\n")
        return text + "".join(f"{statement}\n" for statement in self._tail)

    def add(self, target: Callable[..., Any]) -> None:
        """Add a plain function or a class, and what it uses."""
        if not isinstance(target, (FunctionType, type)) or target.__name__ == "<lambda>":
            raise self._refuse(target, "it is not a plain function (def) or a class")
        if len(self._pieces) == FUNCTIONS_MAX:
            raise self._refuse(target, f"it needs more than {FUNCTIONS_MAX} functions")
        self._mean(target, target.__name__, target)
        is_class = isinstance(target, type)
        try:
            # Of the code: a function that stands for another one has its own.
            lines, first = (
                _class_lines(target) if is_class else inspect.getsourcelines(target.__code__)
            )
        except (OSError, TypeError):
            raise self._refuse(target, "its source text cannot be found") from None
        text = textwrap.dedent("".join(lines))
        definition = parse(text).body[0]
        if getattr(definition, "name", None) != target.__name__:
            raise self._refuse(target, "a decorator has put another function in its place")
        if is_class:
            self._add_class(target, definition, text, first)
        else:
            self._add_function(target, definition, text, first)

    def _add_function(
        self, function: FunctionType, definition: ast.AST, text: str, first: int
    ) -> None:
        assert isinstance(definition, (ast.FunctionDef, ast.AsyncFunctionDef))
        closed_over = function.__code__.co_freevars
        for node in ast.walk(definition):
            if isinstance(node, ast.Nonlocal) and (changed := {*node.names} & {*closed_over}):
                raise self._refuse(function, f"it changes {quote(min(changed))}, outside of it")
        self._put(function, definition.lineno, text, first)
        self.modules.update(imported_names(function.__code__, function.__globals__))
        names = {*global_names(function.__code__), *closed_over, *_default_names(definition)}
        self._define_all(function, names, _namespace(function))

    def _add_class(self, cls: type, definition: ast.AST, text: str, first: int) -> None:
        assert isinstance(definition, ast.ClassDef)
        namespace = _class_namespace(cls)
        # Ours is made up for; others, as dataclass, are part of what the class is.
        others = [d for d in definition.decorator_list if not _is_ours(d, namespace)]
        if others != definition.decorator_list[len(definition.decorator_list) - len(others) :]:
            raise self._refuse(cls, "a decorator stands in front of alink's")
        line = min((d.lineno for d in others), default=definition.lineno)
        self._put(cls, line, text, first)
        code = compile(self._pieces[cls.__name__].body, "<class>", "exec", dont_inherit=True)
        self.modules.update(imported_names(code, dict(namespace)))
        own = stored_names(code) | {"__name__", "__class__"}
        self._define_all(cls, global_names(code) - own, namespace)

    def _put(self, defined: FunctionType | type, line: int, text: str, first: int) -> None:
        body = "".join(text.splitlines(keepends=True)[line - 1 :])
        body += "" if body.endswith("\n") else "\n"
        self._pieces[defined.__name__] = _Piece(defined, first + line - 1, body)

    def _mean(self, target: Callable[..., Any], variable: str, value: Any) -> bool:
        """Note what a name stands for; False if that is known already."""
        if variable not in self._meant:
            self._meant[variable] = value
            return True
        meant = self._meant[variable]
        if meant is not value and not (
            type(meant) is type(value) and _is_constant(value) and meant == value
        ):
            raise self._refuse(target, f"two things have the name {quote(variable)}")
        return False

    def _define_all(
        self, target: Callable[..., Any], names: set[str], namespace: Mapping[str, Any]
    ) -> None:
        for variable in sorted(names):
            if variable in namespace:
                self._define(target, variable, namespace[variable])
            # A name of its own may not be bound yet; it is defined all the same.
            elif variable not in self._pieces and not hasattr(builtins, variable):
                raise self._refuse(target, f"{quote(variable)} is not defined")

    def _define(self, target: Callable[..., Any], variable: str, value: Any) -> None:
        """Define a variable that a function or class uses, unless it is there."""
        plain = _plain(value)
        if not self._mean(target, variable, value if plain is None else plain):
            if plain is not None and variable in self._pieces:
                self._decorate(variable, value, plain)  # a function that calls itself
            return
        if isinstance(value, ModuleType):
            self._head[variable] = f"import {value.__name__}" + _as(variable, value.__name__)
            self.modules.add(value.__name__)
        elif isinstance(value, (FunctionType, type, CACHED)) and found_by_name(value):
            self._import(target, variable, value)
        elif plain is not None:
            self._add_helper(variable, value, plain)
        elif _importable(value):
            self._import(target, variable, value)
        elif _is_constant(value):
            self._head[variable] = f"{variable} = {value!r}"
        else:
            raise self._refuse(target, f"it uses {quote(variable)}, {what_is(value)}")

    def _import(self, target: Callable[..., Any], variable: str, value: Any) -> None:
        parent, _, attribute = _qualified_name(value).rpartition(".")
        if parent:
            raise self._refuse(target, f"it uses {quote(variable)}")
        statement = f"from {value.__module__} import {attribute}"
        self._head[variable] = statement + _as(variable, attribute)
        self.modules.add(value.__module__)

    def _add_helper(self, variable: str, value: Any, plain: FunctionType | type) -> None:
        """Add what another uses; a function's decorators are made up for behind it."""
        name = plain.__name__
        if name not in self._pieces:
            if name == variable:
                del self._meant[name]  # adding it says so again
            self.add(plain)
        elif self._pieces[name].defined is not plain:
            raise self._refuse(plain, f"two things have the name {quote(name)}")
        if isinstance(plain, type) and variable != name:
            # Whoever inherits from it needs the name before the end of the text.
            raise self._refuse(plain, f"it has the name {quote(variable)}, too")
        self._decorate(variable, value, plain)

    def _decorate(self, variable: str, value: Any, plain: FunctionType | type) -> None:
        """Make up for the decorators of what is defined, and for another name of it."""
        name = plain.__name__
        if isinstance(value, CACHED):
            parameters = value.cache_parameters()
            self._mean(plain, "functools", functools)
            self._head["functools"] = "import functools"
            arguments = f"{parameters['maxsize']}, {parameters['typed']}"
            self._say(f"{name} = functools.lru_cache({arguments})({name})")
        elif value is not plain:
            self._say(f"{name}.local = {name}")
        if variable != name:
            self._say(f"{variable} = {name}")

    def _say(self, statement: str) -> None:
        if statement not in self._tail:
            self._tail.append(statement)

    def _refuse(self, function: Callable[..., Any], why: str) -> Error:
        here = f"{sys.version_info.major}.{sys.version_info.minor}"
        if function is not self._target:
            why = f"of {getattr(function, '__name__', 'a function')}, which it calls: {why}"
        return failure(
            codes.NOT_SHIPPABLE,
            f"{self._name} cannot be sent as source text to another Python: {why}",
            function=self._name,
            source=function_source(self._target),
            facts=(f"this Python is {here}; byte code is not valid in another version",),
            hint=f"import inside the function, or use al.Environment(python={quote(here)}, …)",
        )


def _plain(value: Any) -> FunctionType | type | None:
    """Give the plain function of one that is decorated by alink or has a cache, or a class."""
    from alink._functions import WorkerFunction

    if isinstance(value, (WorkerFunction, CACHED)):
        value = value.__wrapped__
        return value if isinstance(value, FunctionType) else None
    return value if isinstance(value, (FunctionType, type)) else None


def _qualified_name(value: Any) -> str:
    # numpy's functions have but a plain name.
    return getattr(value, "__qualname__", None) or getattr(value, "__name__", "")


def _importable(value: Any) -> bool:
    """Tell whether something that is no function of Python's is found by its own name."""
    module, name = getattr(value, "__module__", None), _qualified_name(value)
    if not isinstance(module, str) or not isinstance(name, str) or module == "__main__":
        return False
    return name != "" and getattr(sys.modules.get(module), name, None) is value


def _namespace(function: FunctionType) -> ChainMap[str, Any]:
    """Give the variables that a function sees: those that it closes over, and globals."""
    closed_over: dict[str, Any] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # not assigned yet
            closed_over[name] = cell.cell_contents
    return ChainMap(closed_over, function.__globals__)


def _methods(cls: type) -> Iterator[FunctionType]:
    """Give the functions of a class that were written in it; made ones are another module's."""
    for value in vars(cls).values():
        method = getattr(value, "__func__", getattr(value, "fget", value))
        if isinstance(method, FunctionType) and method.__module__ == cls.__module__:
            yield method


def _class_namespace(cls: type) -> Mapping[str, Any]:
    """Give the variables that the text of a class sees."""
    found = [scope for method in _methods(cls) for scope in _namespace(method).maps]
    module = sys.modules.get(cls.__module__)
    return ChainMap(*found, {} if module is None else vars(module))


def _class_lines(cls: type) -> tuple[list[str], int]:
    """Give the lines of a class and the number of the first, as `inspect.getsourcelines` does.

    A method knows where it was written, also in a notebook, where a class does not.
    """
    for method in _methods(cls):
        code = method.__code__
        lines = linecache.getlines(code.co_filename, method.__globals__)
        for node in ast.walk(parse("".join(lines))):
            if not isinstance(node, ast.ClassDef) or node.name != cls.__name__:
                continue
            if code.co_firstlineno in (_first_line(inner) for inner in node.body):
                first = _first_line(node)
                return lines[first - 1 : node.end_lineno], first
    return inspect.getsourcelines(cls)


def _first_line(node: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _is_ours(decorator: ast.expr, namespace: Mapping[str, Any]) -> bool:
    """Tell whether a decorator is one of alink's: udf, al.udf(…)."""
    while isinstance(decorator, (ast.Call, ast.Attribute)):
        decorator = decorator.func if isinstance(decorator, ast.Call) else decorator.value
    value = namespace.get(decorator.id) if isinstance(decorator, ast.Name) else None
    module = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", "")
    return str(module).split(".")[0] == "alink"


def _default_names(definition: ast.AST) -> Iterator[str]:
    assert isinstance(definition, (ast.FunctionDef, ast.AsyncFunctionDef))
    defaults = [*definition.args.defaults, *(d for d in definition.args.kw_defaults if d)]
    for default in defaults:
        for node in ast.walk(default):
            if isinstance(node, ast.Name):
                yield node.id


def _as(variable: str, name: str) -> str:
    return "" if variable == name else f" as {variable}"


def _is_constant(value: Any) -> bool:
    try:
        return literal(repr(value)) == value
    except (ValueError, SyntaxError):
        return False
