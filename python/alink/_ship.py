"""How functions travel to workers: their code, and the modules that go with it.

A function is pickled by value (cloudpickle); what it refers to in modules is pickled by
name, so those modules must be importable in the worker. A module that is installed comes
from the function's environment. A *local* module, one whose file lies neither in the
standard library nor in a folder of installed packages (beside the script, in the working
directory, from an editable install), is sent along as a zip archive, together with the
local modules that it imports.

Approaches that were tried: pickling local modules by value
(``cloudpickle.register_pickle_by_value``) breaks ``isinstance`` between functions and
pickles module state as it happens to be in the client; putting the client's folders on the
worker's path does not work once the engine is elsewhere and hides a change of the file
between two jobs.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import io
import os
import site
import sys
import sysconfig
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from alink import _codes as codes
from alink._code import (
    CACHED,
    found_by_name,
    function_source,
    global_names,
    imported_names,
    resolve,
    what_is,
)
from alink._diag import quote
from alink._errors import Error, failure
from alink._source import source_text
from alink._syntax import parse

MODULE_BYTES_MAX = 64 * 2**20  # of one local module or package, unpacked
MODULES_MAX = 1_000  # local modules that one function may need
PICKLE_BYTES_MAX = 256 * 2**20  # of a function with everything that it closes over

_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # a fixed date makes equal folders equal archives
_SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules"})
_PACKAGE = __name__.split(".")[0]
_FILES = (io.TextIOWrapper, io.BufferedReader, io.BufferedWriter, io.BufferedRandom, io.FileIO)


@dataclass(frozen=True)
class Artifact:
    """Bytes that are sent to the engine once and then named by their hash."""

    data: bytes = field(repr=False)
    digest: str = ""

    @classmethod
    def of(cls, data: bytes) -> Artifact:
        """Make an artifact of some bytes."""
        return cls(data, hashlib.sha256(data).hexdigest())


@dataclass(frozen=True)
class Shipment:
    """A function as it travels: its code in the plan's form, and its artifacts."""

    code: dict[str, str]
    modules: tuple[Artifact, ...]
    pickle: Artifact | None

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """Everything that the engine must have before the job starts."""
        return self.modules if self.pickle is None else (*self.modules, self.pickle)


def ship(target: Callable[..., Any], name: str, same_python: bool) -> Shipment:
    """Prepare a function, or a class with ``__call__``, for a worker.

    Parameters
    ----------
    target : callable
        The plain function or class.
    name : str
        The user's name of it, for diagnostics.
    same_python : bool
        Whether the worker's Python has the minor version of the client's; otherwise the
        source text is sent.

    Raises
    ------
    PlanError
        If it cannot be sent (ALK2005).
    """
    if same_python:
        data, names = _pickle(target, name)
        pickled = Artifact.of(data)
        return Shipment({"artifact": pickled.digest}, _module_artifacts(names, name), pickled)
    text, names = source_text(target, name)
    return Shipment({"source": text, "name": target.__name__}, _module_artifacts(names, name), None)


# --- pickling ---


def _pickle(target: Callable[..., Any], name: str) -> tuple[bytes, set[str]]:
    """Pickle by value; return the bytes and the names of modules they refer to."""
    buffer = _Bounded()
    pickler = _pickler_class()(buffer)
    try:
        pickler.dump(_by_value(target))
    except _TooLarge:
        raise _too_large(target, name) from None
    except Exception as error:  # noqa: BLE001 objects may raise anything when pickled
        raise _not_shippable(target, name, error) from None
    return buffer.getvalue(), pickler.modules


class _TooLarge(Exception):
    """A pickle has more than `PICKLE_BYTES_MAX` bytes."""


class _Bounded(io.BytesIO):
    """Refuses what goes beyond `PICKLE_BYTES_MAX`, so that memory does not fill first."""

    def write(self, data: Any, /) -> int:
        if self.tell() + memoryview(data).nbytes > PICKLE_BYTES_MAX:
            raise _TooLarge
        return super().write(data)


def _too_large(target: Callable[..., Any], name: str) -> Error:
    """Name the largest of the variables that make a function too large."""
    sizes = [(_pickle_bytes(value), variable, value) for variable, value in _variables(target)]
    message = f"{name} is too large to be sent to a worker"
    if sizes:
        size, variable, value = max(sizes, key=lambda entry: entry[0])
        much = "more than " if size > PICKLE_BYTES_MAX else ""
        message += f": it uses {quote(variable)}, {what_is(value)} of {much}"
        message += f"{min(size, PICKLE_BYTES_MAX) / 2**20:,.0f} MiB"
    return failure(
        codes.NOT_SHIPPABLE,
        message,
        function=name,
        source=function_source(target),
        facts=(f"a function may have {PICKLE_BYTES_MAX / 2**20:,.0f} MiB with what it uses",),
        hint="load it in the setup method of a class, or make it a table and join it",
    )


def _pickle_bytes(value: Any) -> int:
    """Measure a value's pickle; one that is larger than a function may be counts as that."""
    buffer = _Bounded()
    try:
        _pickler_class()(buffer).dump(value)
    except _TooLarge:
        return PICKLE_BYTES_MAX + 1
    except Exception:  # noqa: BLE001 objects may raise anything when pickled
        return 0
    return buffer.tell()


@functools.cache
def _pickler_class() -> Any:
    """Make the class of picklers; a function, so that cloudpickle is imported when needed."""
    import cloudpickle

    class Pickler(cloudpickle.Pickler):
        """Notes which modules the pickle will import."""

        def __init__(self, file: io.BytesIO) -> None:
            super().__init__(file)
            self.modules: set[str] = set()

        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, ModuleType):
                self.modules.add(obj.__name__)
            elif isinstance(obj, (FunctionType, type, CACHED)):
                if found_by_name(obj):
                    self.modules.add(obj.__module__)
                elif isinstance(obj, CACHED):
                    return _reduce_cached(obj)
                elif isinstance(obj, FunctionType):
                    self.modules.update(imported_names(obj.__code__, obj.__globals__))
            elif isinstance(obj, _FILES) and obj not in (sys.stdin, sys.stdout, sys.stderr):
                # cloudpickle would send what a file holds now, without a word.
                raise TypeError("an open file cannot be sent to another process")
            return super().reducer_override(obj)

    return Pickler


_CACHE_INFO = type(functools.lru_cache(lambda: None).cache_info())


def _reduce_cached(function: Any) -> tuple[Any, ...]:
    """Reduce a function with a cache to what makes it anew: the cache begins empty."""
    parameters = function.cache_parameters()
    make = (function.__wrapped__, parameters["maxsize"], parameters["typed"], _CACHE_INFO)
    return CACHED, make, dict(vars(function))


def _by_value(target: Callable[..., Any]) -> Callable[..., Any]:
    """Copy a plain function, so that its module's attribute is not the object pickled.

    A function of an importable module would otherwise travel as its name, and the worker
    would have to import the module with all that it imports. Annotations stay behind:
    what they name need not exist in the worker.
    """
    if not isinstance(target, FunctionType):
        return target
    copy = FunctionType(
        target.__code__,
        target.__globals__,
        target.__name__,
        target.__defaults__,
        target.__closure__,
    )
    copy.__kwdefaults__ = target.__kwdefaults__
    copy.__module__ = target.__module__
    copy.__qualname__ = target.__qualname__
    copy.__doc__ = target.__doc__
    copy.__dict__.update({k: v for k, v in vars(target).items() if k != "__wrapped__"})
    return copy


def travelling(target: Callable[..., Any]) -> Callable[..., Any]:
    """Give what stands for a decorated function within another one, in a worker.

    Of a class it is a function that makes an instance, and sets it up, at its first call.
    """
    if not isinstance(target, type):
        return _by_value(target)
    instances: list[Callable[..., Any]] = []

    def call(*args: Any, **kwargs: Any) -> Any:
        if not instances:
            instance = target()
            if hasattr(instance, "setup"):
                instance.setup()
            instances.append(instance)
        return instances[0](*args, **kwargs)

    call.__code__ = call.__code__.replace(co_filename="<frozen alink>")  # hidden
    return call


def _not_shippable(target: Callable[..., Any], name: str, error: Exception) -> Error:
    """Name the variable that cannot be pickled."""
    message = f"{name} cannot be sent to a worker"
    for variable, value in _variables(target):
        if (why := _pickle_error(value)) is not None:
            message += f": it uses {quote(variable)}, {what_is(value)}"
            error = why
            break
    return failure(
        codes.NOT_SHIPPABLE,
        message,
        function=name,
        source=function_source(target),
        cause=str(error).split("\n", 1)[0],
        hint="make or open it inside the function, or in the setup method of a class",
    )


def _variables(target: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    """Give what a function, or the methods of a class, take from outside."""
    functions = [target] if isinstance(target, FunctionType) else []
    if isinstance(target, type):
        functions = [v for v in vars(target).values() if isinstance(v, FunctionType)]
        yield from (
            (k, v) for k, v in vars(target).items() if not (k.startswith("__") or callable(v))
        )
    for function in functions:
        for cell_name, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            try:
                yield cell_name, cell.cell_contents
            except ValueError:  # not assigned yet
                continue
        for global_name in sorted(global_names(function.__code__)):
            if global_name in function.__globals__:
                yield global_name, function.__globals__[global_name]
        defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        yield from (("a default value", value) for value in defaults)


def _pickle_error(value: Any) -> Exception | None:
    try:
        _pickler_class()(io.BytesIO()).dump(value)
    except Exception as error:  # noqa: BLE001 objects may raise anything when pickled
        return error
    return None


# --- modules ---


def _module_artifacts(names: Iterable[str], function: str) -> tuple[Artifact, ...]:
    """Pack the local modules among `names`, what they import, and cloudpickle."""
    roots = {_root(name) for name in local_modules(names, function)} - {"cloudpickle"}
    artifacts = [_zip(_paths(root), root, function) for root in sorted(roots)]
    return (*artifacts, _cloudpickle())


@functools.cache
def _cloudpickle() -> Artifact:
    """Pack the client's cloudpickle: a pickle is read with the version that wrote it."""
    import cloudpickle

    return _zip([Path(cloudpickle.__file__).parent], "cloudpickle", "")


def _root(name: str) -> str:
    return name.split(".", 1)[0]


def local_modules(names: Iterable[str], function: str = "") -> set[str]:
    """Find the local modules among `names` and, through their imports, the others.

    The source is read, not run: a module that was not imported in the client counts if it
    is imported by one that travels.
    """
    found: set[str] = set()
    waiting = [name for name in names if name]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if not is_local(_root(name)):
            continue
        file = _file_of(name)
        if file is None:  # "from module import name" where name is no module
            continue
        found.add(name)
        if len(found) > MODULES_MAX:
            raise failure(
                codes.NOT_SHIPPABLE,
                f"{function} needs more than {MODULES_MAX:,} local modules",
                function=function,
                hint="install them and name them in al.Environment(requirements=[…])",
            )
        # The package's own modules travel with it, and with them their imports.
        waiting += (parent for parent in _parents(name) if parent not in seen)
        if name == _root(name) and file.name == "__init__.py":
            waiting += _modules_below(file.parent, name)
        waiting += _imports_of_file(file, name)
    return found


def is_local(root: str) -> bool:
    """Tell whether a top-level module has to be sent along to workers."""
    if root == _PACKAGE:  # a module with functions imports it for the decorators
        return True
    if root in sys.stdlib_module_names or root in ("__main__", "__mp_main__"):
        return False
    paths = _paths(root)
    return bool(paths) and not any(_is_installed(path) for path in paths)


def _paths(root: str) -> list[Path]:
    """Give the file or the folders of a top-level module; [] if it is not found."""
    module = sys.modules.get(root)
    spec = getattr(module, "__spec__", None)
    if spec is None:
        try:
            spec = importlib.util.find_spec(root)
        except (ImportError, ValueError):
            spec = None
    if spec is None:
        file = getattr(module, "__file__", None)
        return [Path(file)] if file else []
    if spec.submodule_search_locations is not None:
        return [Path(path) for path in spec.submodule_search_locations]
    return [Path(spec.origin)] if spec.has_location and spec.origin else []


def _is_installed(path: Path) -> bool:
    """Tell whether a file belongs to the standard library or to installed packages."""
    if {"site-packages", "dist-packages"} & set(path.absolute().parts):
        return True
    path = path.resolve()
    folders = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]
    folders += site.getsitepackages()
    return any(path.is_relative_to(Path(folder).resolve()) for folder in folders)


def _file_of(name: str) -> Path | None:
    """Give the source file of a local module, without importing anything."""
    parts = name.split(".")
    candidates = _paths(parts[0])
    for candidate in candidates:
        if candidate.is_file():
            return candidate if len(parts) == 1 else None
        base = candidate.joinpath(*parts[1:])
        for file in (base / "__init__.py", base.with_name(base.name + ".py")):
            if file.is_file() and (len(parts) > 1 or file.name == "__init__.py"):
                return file
        if base.is_dir():  # a package without __init__.py
            return base
    return None


def _parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    for i in range(1, len(parts)):
        yield ".".join(parts[:i])


def _modules_below(folder: Path, package: str) -> Iterator[str]:
    for path in _files(folder):
        if path.suffix != ".py":
            continue
        parts = path.relative_to(folder).with_suffix("").parts
        if package == _PACKAGE and parts[0] == "_worker":
            continue
        if parts[-1] == "__init__":
            parts = parts[:-1]
        yield ".".join((package, *parts))


def _imports_of_file(file: Path, name: str) -> tuple[str, ...]:
    """Give the modules that a source file imports, wherever in it."""
    if file.suffix != ".py":
        return ()
    status = file.stat()
    return _imports_of_version(file, name, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=MODULES_MAX)
def _imports_of_version(file: Path, name: str, _mtime_ns: int, _size: int) -> tuple[str, ...]:
    try:
        tree = parse(file.read_bytes(), str(file))
    except (OSError, SyntaxError, ValueError):
        return ()  # it fails in the worker as it would here, with a better message
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = resolve(node.module or "", package, node.level)
            if base:
                found.append(base)
                found += (f"{base}.{a.name}" for a in node.names if a.name != "*")
    return tuple(found)


def _zip(paths: list[Path], root: str, function: str) -> Artifact:
    """Make a zip archive of a module's file or folders; equal content, equal bytes."""
    members: dict[str, Path] = {}
    for path in paths:
        if path.is_dir():
            for file in _files(path):
                relative = file.relative_to(path)
                if root == _PACKAGE and relative.parts[0] == "_worker":
                    continue
                members.setdefault(f"{root}/{relative.as_posix()}", file)
        else:
            members[path.name] = path
    buffer = io.BytesIO()
    size = 0
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, file in sorted(members.items()):
            size += file.stat().st_size
            if size > MODULE_BYTES_MAX:
                raise _too_big(root, paths[0], function)
            info = zipfile.ZipInfo(name, _ZIP_DATE)
            info.external_attr = 0o644 << 16
            archive.writestr(info, file.read_bytes(), zipfile.ZIP_DEFLATED, compresslevel=1)
    return Artifact.of(buffer.getvalue())


def _files(folder: Path) -> Iterator[Path]:
    """Give the files of a package, without caches and hidden ones."""
    for path, folders, files in os.walk(folder):
        folders[:] = sorted(
            f for f in folders if not f.startswith(".") and f not in _SKIPPED_FOLDERS
        )
        for file in sorted(files):
            if not file.startswith(".") and not file.endswith((".pyc", ".pyo")):
                yield Path(path, file)


def _too_big(root: str, path: Path, function: str) -> Error:
    limit = MODULE_BYTES_MAX // 2**20
    return failure(
        codes.NOT_SHIPPABLE,
        f"{function} needs the local module {root}, which has more than {limit} MiB",
        function=function,
        facts=(f"{root} is at {path}",),
        hint="keep data out of the package's folder, or install the package",
    )
