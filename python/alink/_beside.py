"""Tables that a function gets whole, beside its own rows: what can be one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alink import _codes as codes
from alink._diag import did_you_mean, quote
from alink._errors import Error, failure
from alink._functions import WorkerFunction, keyword_parameters
from alink._options import bad_option
from alink._origin import user_origin
from alink._plan import Node
from alink._window import is_unbounded


def check_tables(
    operator: str, function: WorkerFunction[Any, Any], tables: Mapping[str, Any]
) -> list[str]:
    """Check the names of tables against the function's parameters, and give them.

    Raises
    ------
    PlanError
        If one is no parameter that a table can be for, or a parameter that needs one has none.
    """
    if not isinstance(tables, Mapping) or not all(isinstance(name, str) for name in tables):
        raise bad_option(
            operator,
            f"{operator}: tables must be a dict of names to tables, not {tables!r:.80}",
            'write tables={"model": m}; the function gets m as its parameter model',
        )
    names = list(tables)
    models = function.options.models or {}
    rest = keyword_parameters(function)
    for name in names:
        if name in models:
            raise _wrong(
                operator, function, f"{function.name} has a model and a table named {quote(name)}"
            )
        if name in function.parameters[:1]:
            text = f"the parameter {quote(name)} of {function.name} gets its own rows, not a table"
            raise _wrong(operator, function, text)
        if rest is not None and not any(
            p.kind is p.VAR_KEYWORD or (p.name == name and p.kind is not p.POSITIONAL_ONLY)
            for p in rest
        ):
            known = sorted(p.name for p in rest if p.name not in models)
            text = f"{function.name} has no parameter {quote(name)} for the table"
            raise _wrong(operator, function, text, did_you_mean(name, "parameters", known))
    for p in rest or ():
        if p.kind is p.VAR_KEYWORD or p.default is not p.empty:
            continue
        if p.name not in names and p.name not in models:
            raise _wrong(
                operator,
                function,
                f"{function.name} needs a value for its parameter {quote(p.name)}",
                f"hand it a table: .{operator}({function.name}, tables={{{p.name!r}: …}})",
            )
    return names


def refuse_endless_table(operator: str, function: str, name: str, root: Node) -> None:
    """Raise an error if a table that is to be whole has no end."""
    if is_unbounded(root):
        raise failure(
            codes.NEEDS_END,
            f"{operator}: {function} gets its table {name} whole, but a stream has no end",
            operator=operator,
            function=function,
            source=user_origin(),
            hint="put limit(n) before it",
        )


def _wrong(operator: str, function: WorkerFunction[Any, Any], text: str, hint: str = "") -> Error:
    return failure(
        codes.INVALID_PLAN,
        f"{operator}: {text}",
        operator=operator,
        function=function.name,
        source=user_origin(),
        hint=hint,
    )


__all__ = ["check_tables", "refuse_endless_table"]
