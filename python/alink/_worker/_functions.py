"""The user's functions: finding their code, loading it once, keeping what it made."""

from __future__ import annotations

import functools
import importlib
import inspect
import linecache
import os
import pickle
import site
import sys
from collections import OrderedDict
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _errors, _imports
from ._clock import CLOCK, LOAD
from ._errors import Failure
from ._progress import PROGRESS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FUNCTIONS_MAX = 64
MODELS_MAX = 16
PICKLE_PROTOCOL = 5  # every Python that a worker may run reads it


class _Ready(NamedTuple):
    """A call's function, and by what it and its models are remembered."""

    call: Mapping[str, Any]  # kept, so that its identity is no other call's
    function: Callable[..., Any]
    key: tuple[Any, ...]
    models: list[str]


class Library:
    """The functions and models of a worker, each loaded at its first use.

    A class is made an instance of and set up once, so that what it keeps lasts as long as the
    worker. Functions and models that have not been used for the longest time are forgotten.
    """

    def __init__(self) -> None:
        self._functions: OrderedDict[Any, Callable[..., Any]] = OrderedDict()
        self._models: OrderedDict[str, Any] = OrderedDict()
        # Tables by their files and the forms that functions take them in.
        self._tables: dict[tuple[str, str], Any] = {}
        self._folders: set[str] = set()
        self._current: list[str] = []
        self._source_modules: dict[str, ModuleType] = {}
        # Calls whose function is at hand as it is, by their identities: nothing that they need
        # has been forgotten, and their folders are in use.
        self._ready: dict[int, _Ready] = {}

    def load(self, call: Mapping[str, Any]) -> Callable[..., Any]:
        """Give the function of a call, with its models bound.

        Raises
        ------
        Failure
            Of kind "load", or "module" if a module is missing.
        """
        if (ready := self._ready.get(id(call))) is not None:
            self._functions.move_to_end(ready.key)
            for path in ready.models:
                self._models.move_to_end(path)
            return ready.function
        self._forget_tables()
        before = PROGRESS.load_begin()
        counted = CLOCK.to(LOAD)
        try:
            return self._load(call)
        except Failure as failure:
            failure.details["loading"] = True  # no row is to blame
            raise
        finally:
            CLOCK.to(counted)
            PROGRESS.load_end(before)

    def _load(self, call: Mapping[str, Any]) -> Callable[..., Any]:
        name = call["name"]
        try:
            self._use_folders(list(call.get("modules") or ()))
            key = (*sorted(call["code"].items()), *self._current)
            function = self._function(key, call["code"], name)
            paths = call.get("models") or {}
            models = {parameter: self._model(path) for parameter, path in paths.items()}
        except (Failure, KeyboardInterrupt):
            raise
        except BaseException as exception:
            raise _load_failure(exception, name) from None
        if call["kind"] != "aggregate":  # of which methods are called, not itself
            if not callable(function):
                kind = type(function).__name__
                raise Failure("load", f"{name} is not a function but of type {kind}", got=kind)
            if models:
                function = functools.partial(function, **models)
        if key in self._functions and all(path in self._models for path in paths.values()):
            self._ready[id(call)] = _Ready(call, function, key, list(paths.values()))
        return function

    def table(self, path: str, form: str, give: Callable[[str], Any]) -> Any:
        """Give a table that functions get whole, which is made once for as long as its job runs.

        The engine removes its file when the job ends, and gives no other the same name.
        """
        if (path, form) not in self._tables:
            before = PROGRESS.load_begin()
            counted = CLOCK.to(LOAD)
            try:
                self._tables[path, form] = give(path)
            finally:
                CLOCK.to(counted)
                PROGRESS.load_end(before)
        return self._tables[path, form]

    def _forget_tables(self) -> None:
        """Forget the tables of jobs that have ended."""
        for key in [key for key in self._tables if not os.path.exists(key[0])]:
            del self._tables[key]

    def dump(self, value: Any) -> bytes:
        """Pickle what a fit function returned, for other workers."""
        try:
            import cloudpickle
        except ImportError:
            return pickle.dumps(value, protocol=PICKLE_PROTOCOL)
        for module in self._source_modules.values():
            # Another worker has no such module: its classes must travel with the value.
            cloudpickle.register_pickle_by_value(module)
        return cloudpickle.dumps(value, protocol=PICKLE_PROTOCOL)

    def _use_folders(self, folders: list[str]) -> None:
        """Make imports find the modules that a function brought, before any brought earlier.

        A module that has been edited comes in a folder of its own; what was imported from
        the folder before must not be served any more.
        """
        if folders == self._current:
            return
        self._current = folders
        self._ready.clear()
        sys.path[:] = [path for path in sys.path if path not in folders]
        shipped = [at for at, path in enumerate(sys.path) if path in self._folders]
        at = min([*shipped, _site_packages_index()])
        sys.path[at:at] = folders
        self._folders.update(folders)
        for folder in folders:
            for name in _top_level_names(folder):
                self._forget_other(name, folder)
        importlib.invalidate_caches()

    def _forget_other(self, name: str, folder: str) -> None:
        """Forget a module that was imported from another shipped folder than this one.

        pyarrow imports the cloudpickle of the environment when it starts; the functions have
        been pickled by that of the client, which may be another version. Where it is the same
        it stays: what a function brings has no byte code, and to compile it takes 15 ms.
        """
        if name not in sys.modules or _is_within(sys.modules[name], folder):
            return
        if name == "cloudpickle":
            if not _is_copied(sys.modules[name], folder):
                _forget(name)
        elif any(_is_within(sys.modules[name], other) for other in self._folders):
            _forget(name)

    def _function(self, key: tuple[Any, ...], code: Mapping[str, str], name: str) -> Any:
        if key in self._functions:
            self._functions.move_to_end(key)
            return self._functions[key]
        with _imports.measured():
            function = self._read(code, name)
            if inspect.isclass(function):
                function = _set_up(function, name)
        self._remember(self._functions, key, function, FUNCTIONS_MAX)
        return function

    def _read(self, code: Mapping[str, str], name: str) -> Any:
        if "pickle" in code:
            return _unpickle(code["pickle"])
        if "source" in code:
            return self._from_source(code["source"], code.get("name") or name)
        if "attribute" in code:
            return _from_attribute(code["attribute"])
        raise Failure("protocol", f"{name} comes without code")

    def _model(self, path: str) -> Any:
        if path in self._models:
            self._models.move_to_end(path)
            return self._models[path]
        with _imports.measured():
            model = _unpickle(path)
        self._remember(self._models, path, model, MODELS_MAX)
        return model

    def _remember(self, cache: OrderedDict[Any, Any], key: Any, value: Any, limit: int) -> None:
        self._ready.clear()  # what is forgotten must not be kept there
        while len(cache) >= limit:
            cache.popitem(last=False)
        cache[key] = value

    def _from_source(self, source: str, name: str) -> Any:
        module = self._source_modules.get(source)
        if module is None:
            module = _run_source(source, len(self._source_modules) + 1, name)
            self._source_modules[source] = module
        if name not in module.__dict__:
            raise AttributeError(f"the source text defines no {name!r}")
        return module.__dict__[name]


def add_package_folders(folders: Any) -> None:
    """Append folders of packages to ``sys.path``, with the ``.pth`` files in them."""
    for folder in folders:
        site.addsitedir(folder)
        _errors.add_library_folder(folder)


def _top_level_names(folder: str) -> set[str]:
    """Name the modules and packages that lie in a folder."""
    return {entry.partition(".")[0] for entry in os.listdir(folder)}


def _is_within(module: Any, folder: str) -> bool:
    """Tell whether a module was imported from a folder."""
    places = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
    return any(place is not None and place.startswith(folder + os.sep) for place in places)


def _is_copied(module: Any, folder: str) -> bool:
    """Tell whether a package was imported from files that are equal to those in a folder."""
    own = (getattr(module, "__path__", None) or [None])[0]
    if own is None or not os.path.isdir(copy := os.path.join(folder, module.__name__)):
        return False
    try:
        sources = [name for name in os.listdir(copy) if name.endswith(".py")]
        return bool(sources) and all(
            _content(os.path.join(own, name)) == _content(os.path.join(copy, name))
            for name in sources
        )
    except OSError:
        return False


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _forget(package: str) -> None:
    """Make the next import of a package look for it again."""
    for name in [n for n in sys.modules if n == package or n.startswith(f"{package}.")]:
        del sys.modules[name]


def _unpickle(path: str) -> Any:
    with open(path, "rb") as file:
        return pickle.load(file)


def _run_source(source: str, number: int, name: str) -> ModuleType:
    """Run source text in a module of its own."""
    # Registered, so that what looks up the module of a class (dataclasses) finds it.
    module = ModuleType(f"alink_source_{number}")
    module.__file__ = file = f"<source of {name}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    sys.modules[module.__name__] = module
    try:
        exec(compile(source, file, "exec"), module.__dict__)
    except BaseException:
        del sys.modules[module.__name__]
        raise
    return module


def _from_attribute(attribute: str) -> Any:
    module_name, _, path = attribute.partition(":")
    __import__(module_name)  # unlike import_module, it is measured
    value = sys.modules[module_name]
    for part in path.split("."):
        value = getattr(value, part)
    return value


def _set_up(class_: type, name: str) -> Any:
    step = "__init__"
    try:
        instance = class_()
        step = "setup"
        setup = getattr(instance, "setup", None)
        if setup is not None:
            setup()
    except (ModuleNotFoundError, KeyboardInterrupt):
        raise
    except BaseException as exception:
        raise _errors.raised(exception, f"{name}.{step} raised") from None
    return instance


def _site_packages_index() -> int:
    """Where installed packages begin on ``sys.path``, after the standard library."""
    for i, entry in enumerate(sys.path):
        if os.path.basename(entry) in ("site-packages", "dist-packages"):
            return i
    return len(sys.path)


def _load_failure(exception: BaseException, name: str) -> Failure:
    if isinstance(exception, ModuleNotFoundError) and exception.name:
        missing = exception.name.partition(".")[0]
        failure = _errors.raised(exception, f"{name} could not be loaded:", "module")
        failure.details["message"] = (
            f"{name} needs the module {missing!r}, which is not in its environment"
        )
        return failure
    return _errors.raised(exception, f"{name} could not be loaded:", "load")
