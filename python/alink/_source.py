"""Functions as source text, for a Python whose byte code is another."""

from __future__ import annotations

import ast
import builtins
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
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
    what_is,
)
from alink._diag import quote
from alink._errors import Error, failure
from alink._syntax import literal, parse

# Functions that one function may call, directly or through others.
FUNCTIONS_MAX = 200


def source_text(target: Callable[..., Any], name: str) -> tuple[str, set[str]]:
    """Give the source of a plain function with what it needs, and the modules it uses.

    The text defines the function under its own name, and the functions of the same program
    that it calls, on the lines that they have in the user's file. Globals that are modules,
    importable functions and classes, or plain constants are defined in its first line.

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
    """A function's definition, and the line of the user's file that it stands on."""

    function: FunctionType
    line: int
    body: str


class _Text:
    def __init__(self, target: Callable[..., Any], name: str) -> None:
        self.modules: set[str] = set()
        self._target = target
        self._name = name
        self._head: dict[str, str] = {}  # by the variable that a statement defines
        self._pieces: dict[str, _Piece] = {}  # by the function's name
        self._tail: list[str] = []

    def write(self) -> str:
        text = "; ".join(["from __future__ import annotations", *self._head.values()]) + "\n"
        lines = 1
        for piece in sorted(self._pieces.values(), key=lambda p: p.line):
            padding = max(0, piece.line - 1 - lines)
            text += "\n" * padding + piece.body
            lines += padding + piece.body.count("\n")
        return text + "".join(f"{statement}\n" for statement in self._tail)

    def add(self, function: Callable[..., Any]) -> None:
        """Add a plain function, and what it uses."""
        if not isinstance(function, FunctionType) or function.__name__ == "<lambda>":
            raise self._refuse(function, "it is not a plain function (def)")
        if function.__closure__:
            variable = quote(function.__code__.co_freevars[0])
            raise self._refuse(function, f"it closes over {variable}")
        if len(self._pieces) == FUNCTIONS_MAX:
            raise self._refuse(function, f"it needs more than {FUNCTIONS_MAX} functions")
        try:
            lines, first_line = inspect.getsourcelines(function)
        except OSError:
            raise self._refuse(function, "its source text cannot be found") from None
        text = textwrap.dedent("".join(lines))
        definition = parse(text).body[0]
        assert isinstance(definition, (ast.FunctionDef, ast.AsyncFunctionDef))
        body = "".join(text.splitlines(keepends=True)[definition.lineno - 1 :])
        body += "" if body.endswith("\n") else "\n"
        self._pieces[function.__name__] = _Piece(function, first_line + definition.lineno - 1, body)
        self.modules.update(imported_names(function.__code__, function.__globals__))
        for variable in sorted(global_names(function.__code__) | set(_default_names(definition))):
            self._define(function, variable)

    def _define(self, function: FunctionType, variable: str) -> None:
        """Define a global that a function uses, unless it is there."""
        if variable not in function.__globals__:
            # A name of its own may not be bound yet; it is defined all the same.
            if variable not in self._pieces and not hasattr(builtins, variable):
                raise self._refuse(function, f"{quote(variable)} is not defined")
            return
        value = function.__globals__[variable]
        if variable in self._head:
            return
        if isinstance(value, ModuleType):
            self._head[variable] = f"import {value.__name__}" + _as(variable, value.__name__)
            self.modules.add(value.__name__)
        elif isinstance(value, (FunctionType, type, CACHED)) and found_by_name(value):
            self._import(function, variable, value)
        elif (plain := _plain(value)) is not None:
            self._add_helper(variable, value, plain)
        elif _is_constant(value):
            self._head[variable] = f"{variable} = {value!r}"
        else:
            raise self._refuse(function, f"it uses {quote(variable)}, {what_is(value)}")

    def _import(self, function: FunctionType, variable: str, value: Any) -> None:
        parent, _, attribute = value.__qualname__.rpartition(".")
        if parent:
            raise self._refuse(function, f"it uses {quote(variable)}")
        statement = f"from {value.__module__} import {attribute}"
        self._head[variable] = statement + _as(variable, attribute)
        self.modules.add(value.__module__)

    def _add_helper(self, variable: str, value: Any, plain: FunctionType) -> None:
        """Add a function that another calls; its decorators are made up for behind it."""
        name = plain.__name__
        if name not in self._pieces:
            self.add(plain)
        elif self._pieces[name].function.__code__ is not plain.__code__:
            raise self._refuse(plain, f"two functions have the name {quote(name)}")
        if isinstance(value, CACHED):
            parameters = value.cache_parameters()
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


def _plain(value: Any) -> FunctionType | None:
    """Give the plain function of one that is decorated by alink or has a cache."""
    from alink._functions import WorkerFunction

    if isinstance(value, (WorkerFunction, CACHED)):
        value = value.__wrapped__
    return value if isinstance(value, FunctionType) else None


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
