"""What code refers to: modules, globals, where it was written."""

from __future__ import annotations

import dis
import functools
import inspect
import io
import sys
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any

from alink._diag import Source

# What functools.lru_cache and functools.cache make.
CACHED = type(functools.lru_cache(lambda: None))


def function_source(target: Callable[..., Any]) -> Source | None:
    """Say where a function or class was defined."""
    plain = inspect.unwrap(target)
    code = getattr(plain, "__code__", None)
    if code is not None:
        return Source(code.co_filename, code.co_firstlineno, plain.__name__).with_text()
    try:
        lines, line = inspect.getsourcelines(plain)
        return Source(inspect.getsourcefile(plain) or "", line, "", lines[0].rstrip())
    except (OSError, TypeError):
        return None


def found_by_name(obj: Any) -> bool:
    """Tell whether cloudpickle pickles a function or class as its module and name."""
    if obj.__module__ in (None, "__main__", "builtins"):
        return False
    found: Any = sys.modules.get(obj.__module__)
    for part in obj.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is obj


def imported_names(code: CodeType, namespace: dict[str, Any]) -> Iterator[str]:
    """Give the modules that a function's body imports."""
    for module, names, level in _imports_of_code(code):
        package = namespace.get("__package__") or ""
        base = resolve(module, package, level)
        if base:
            yield base
            yield from (f"{base}.{name}" for name in names)


def _imports_of_code(code: CodeType) -> Iterator[tuple[str, tuple[str, ...], int]]:
    constants: list[Any] = []
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME":
            # IMPORT_NAME takes the level and the names from the two constants before it.
            level, names = constants[-2:]
            yield instruction.argval, tuple(names or ()), level
        elif instruction.opname in ("LOAD_CONST", "LOAD_SMALL_INT"):
            constants.append(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _imports_of_code(constant)


def resolve(module: str, package: str, level: int) -> str:
    """Give the absolute name of an import; "" where there is none."""
    if level == 0:
        return module
    parts = package.split(".") if package else []
    if level - 1 >= len(parts):
        return ""
    parts = parts[: len(parts) - (level - 1)]
    return ".".join([*parts, module] if module else parts)


def global_names(code: CodeType) -> set[str]:
    """Give the names of globals that code reads, nested functions included."""
    names = {
        i.argval
        for i in dis.get_instructions(code)
        if i.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
    }
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= global_names(constant)
    return names


def stored_names(code: CodeType) -> set[str]:
    """Give the names that code of modules and class bodies binds, those within included."""
    names = {i.argval for i in dis.get_instructions(code) if i.opname == "STORE_NAME"}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= stored_names(constant)
    return names


def what_is(value: Any) -> str:
    if isinstance(value, io.IOBase):
        return "an open file"
    cls = type(value)
    module = "" if cls.__module__ == "builtins" else cls.__module__ + "."
    if module.startswith("alink._"):
        module = "alink."  # where users find the class
    if inspect.isfunction(value):
        return f"the function {value.__name__}"
    article = "an" if f"{module}{cls.__qualname__}"[0] in "aeiouAEIOU" else "a"
    return f"{article} {module}{cls.__qualname__}"
