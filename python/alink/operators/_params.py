"""Parameters of operators: their values, setters, and what values they take."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from alink._diag import did_you_mean, no_attribute, quote
from alink._options import bad_option
from alink.operators._catalogue import Parameter

Self = TypeVar("Self", bound="WithParams")


def shown(value: Any) -> str:
    """Name what was given where an operator or a stage is expected."""
    if isinstance(value, WithParams):
        return value._name
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if value is None or isinstance(value, (str, int, float)):
        return f"{value!r:.60}"
    return f"a {type(value).__name__}"


class _Setters(type):
    """Gives the setters of a class as functions, as ``help(KMeans.setK)`` asks for them."""

    def __getattr__(cls, name: str) -> Any:
        owner: Any = cls
        parameter = _by_setter(owner._parameters).get(name[3:]) if name[:3] == "set" else None
        if parameter is None:
            text = f"type object {cls.__name__!r} has no attribute {name!r}"
            raise AttributeError(text, name=name, obj=cls)

        def setter(self: WithParams, val: Any, *more: Any) -> Any:
            return _Setter(self, parameter)(val, *more)

        setter.__name__, setter.__qualname__ = name, f"{cls.__name__}.{name}"
        setter.__doc__ = _told(owner._parameters[parameter])
        return setter


class WithParams(metaclass=_Setters):
    """Something that is set up by parameters.

    Each has a setter: ``vectorCol`` has ``setVectorCol``. They may also be given to the
    constructor, by keyword or in a dict.
    """

    #: What it is called in messages.
    _name: ClassVar[str] = ""
    #: The parameters that it has.
    _parameters: ClassVar[Mapping[str, Parameter]] = {}
    #: Whether a file of a model is one that it writes: none is read.
    _writes_models: ClassVar[bool] = False

    def __init__(self, *args: Mapping[str, Any], **params: Any) -> None:
        self._values: dict[str, Any] = {}
        for given in (*args, params):
            if not isinstance(given, Mapping):
                raise bad_option(
                    self._name,
                    f"{self._name} is given {given!r:.60}",
                    "parameters are given by keyword, in a dict, or by setters",
                )
            for name, value in given.items():
                self._set(name, value)

    def __getattr__(self, name: str) -> Any:
        if name in ("get_j_obj", "_j_op", "_j_obj"):
            raise AttributeError(
                f"{self._name} has no object of Java, since there is no JVM: call its own methods"
            )
        verb, parameter = name[:3], name[3:4].lower() + name[4:]
        if verb in ("set", "get") and parameter:
            known = _by_setter(type(self)._parameters)
            if name[3:] in known:
                parameter = known[name[3:]]
                if verb == "set":
                    return _Setter(self, parameter)
                return lambda: self._get(parameter)
            hint = did_you_mean(parameter, "its parameters", list(self._parameters))
            text = f"{self._name} has no parameter {quote(parameter)}: {hint}"
            raise no_attribute(name, text)
        methods = [known for known in dir(type(self)) if not known.startswith("_")]
        hint = did_you_mean(name, "its methods", methods)
        raise no_attribute(name, f"{self._name} has no attribute {quote(name)}: {hint}")

    def __dir__(self) -> list[str]:
        setters = (f"set{name[:1].upper()}{name[1:]}" for name in self._parameters)
        return [*super().__dir__(), *setters]

    def _set(self: Self, name: str, value: Any) -> Self:
        parameter = self._parameters.get(name)
        if parameter is None:
            raise bad_option(
                self._name,
                f"{self._name} has no parameter {quote(name)}",
                did_you_mean(name, "its parameters", list(self._parameters)),
            )
        if name in MODEL_FILES and value is not None and not self._writes_models:
            raise bad_option(
                self._name,
                f"{self._name} reads no model from {quote(name)}",
                "link the model's rows, of AkSourceBatchOp, or load it with PipelineModel.load",
            )
        self._values[name] = checked(self._name, parameter, value)
        return self

    def _get(self, name: str) -> Any:
        """Give a parameter's value, or its default."""
        if name in self._values:
            return self._values[name]
        parameter = self._parameters[name]
        if parameter.required:
            raise bad_option(
                self._name,
                f"{self._name} needs the parameter {quote(name)}",
                f"set it with set{name[:1].upper()}{name[1:]}(…)",
            )
        return parameter.default

    def _all(self) -> dict[str, Any]:
        """Give all parameters that have a value or a default.

        Raises
        ------
        PlanError
            If one that is required was not given.
        """
        return {name: self._get(name) for name in self._parameters}

    def getParams(self) -> dict[str, Any]:
        """Give the parameters that were set."""
        return dict(self._values)


def _told(parameter: Parameter) -> str:
    """Say what a setter sets."""
    if parameter.required:
        more = "it is required"
    elif parameter.default is None:
        more = "it may be left out"
    else:
        more = f"{parameter.default!r} if it is not set"
    return f"Set {parameter.name}, of type {parameter.type}; {more}. Gives what it belongs to."


class _Setter:
    """A setter of one parameter; it gives what the parameter belongs to."""

    def __init__(self, owner: WithParams, parameter: str) -> None:
        self._owner = owner
        self._parameter = parameter
        self.__doc__ = _told(owner._parameters[parameter])

    def __call__(self, *values: Any, **named: Any) -> Any:
        if not values and len(named) == 1 and "val" in named:  # what PyAlink calls it
            values, named = (named["val"],), {}
        if not values or named:
            raise bad_option(
                self._owner._name,
                f"{self._owner._name}: {quote(self._parameter)} is given no value",
                "a setter takes one",
            )
        value, *more = values
        kind = self._owner._parameters[self._parameter].type
        if more and not kind.endswith("[]"):
            raise bad_option(
                self._owner._name,
                f"{self._owner._name}: {quote(self._parameter)} is given {1 + len(more)} values",
                "it takes one",
            )
        return self._owner._set(self._parameter, [value, *more] if more else value)


#: Parameters that name files of models, which no operator reads.
MODEL_FILES = frozenset({"modelFilePath", "modelStreamFilePath"})

#: Parameters whose values are shown and saved nowhere, also by the names of `alink.ml`.
SECRETS = frozenset({"redisPassword", "redis_password"})

#: Lengths of time, which Alink takes as a text, with a unit, or as a number of seconds.
LENGTHS_OF_TIME = frozenset({"precedingTime", "windowTime", "hopTime", "sessionGapTime"})

_setters: dict[int, dict[str, str]] = {}


def _by_setter(parameters: Mapping[str, Parameter]) -> dict[str, str]:
    """Give parameters by what stands behind "set": two of Alink's names begin with a capital."""
    if (known := _setters.get(id(parameters))) is None:
        known = {name[:1].upper() + name[1:]: name for name in parameters}
        _setters[id(parameters)] = known
    return known


def checked(owner: str, parameter: Parameter, value: Any) -> Any:
    """Give the value in the parameter's type.

    Raises
    ------
    PlanError
        If it has none.
    """
    kind = parameter.type
    if value is None:
        if parameter.required:
            raise _misfit(owner, parameter, value)
        return None
    convert = _SCALARS.get(kind.removesuffix("[]").removesuffix("[]"))
    if convert is None:
        return value  # an object of a class, which its operator looks at
    if parameter.name in LENGTHS_OF_TIME and kind == "String" and not isinstance(value, str):
        convert = _seconds
    try:
        if kind.endswith("[][]"):
            return [[convert(item) for item in row] for row in _items(value)]
        if kind.endswith("[]"):
            return [convert(item) for item in _items(value)]
        return convert(value)
    except (TypeError, ValueError):
        raise _misfit(owner, parameter, value) from None


def _items(value: Any) -> Sequence[Any]:
    if isinstance(value, str):
        return [value]  # one name
    if isinstance(value, Mapping):
        raise TypeError
    return list(value)


def _misfit(owner: str, parameter: Parameter, value: Any) -> Exception:
    shown = "what it is given" if parameter.name in SECRETS else f"{value!r:.60}"
    return bad_option(
        owner,
        f"{owner}: {quote(parameter.name)} cannot be {shown}",
        f"it is {_WORDS.get(parameter.type, parameter.type)}",
    )


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise TypeError


def _seconds(value: Any) -> str:
    """Write a number of seconds as a text."""
    return f"{_SCALARS['Double'](value):.6f}"


def _character(value: Any) -> str:
    if len(text := _text(value)) != 1:
        raise ValueError
    return text


def _whole(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError
    return operator.index(value)


def _real(value: Any) -> float:
    if isinstance(value, (bool, str)):
        raise TypeError
    return float(value)


def _truth(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if type(value).__name__ in ("bool_", "bool") and type(value).__module__ == "numpy":
        return bool(value)
    raise TypeError


_SCALARS: dict[str, Callable[[Any], Any]] = {
    "String": _text,
    "Character": _character,
    "Integer": _whole,
    "int": _whole,
    "Long": _whole,
    "Double": _real,
    "double": _real,
    "Float": _real,
    "Boolean": _truth,
    "boolean": _truth,
}
_WORDS = {
    "String": "a string",
    "Character": "one character",
    "Integer": "a whole number",
    "int": "a whole number",
    "Long": "a whole number",
    "Double": "a number",
    "Float": "a number",
    "Boolean": "True or False",
    "String[]": "a list of strings",
    "Integer[]": "a list of whole numbers",
    "Double[]": "a list of numbers",
    "double[]": "a list of numbers",
    "int[]": "a list of whole numbers",
    "Long[]": "a list of whole numbers",
}
