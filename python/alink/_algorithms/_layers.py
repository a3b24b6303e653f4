"""Layers and optimizers as texts, ``"Dense(64, activation='relu')"``: read, and never run.

The client reads them too, so nothing here computes.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ._strings import Unreadable

#: What calls look like, for messages.
LAYER, OPTIMIZER = "Dense(64, activation='relu')", "Adam(learning_rate=0.01)"
#: The measures of states of a training besides the loss, by what labels are.
MEASURES = {
    "two": (
        "auc",
        "precision",
        "recall",
        "binary_accuracy",
        "false_negatives",
        "false_positives",
        "true_negatives",
        "true_positives",
    ),
    "more": ("sparse_categorical_accuracy",),
    "numbers": (
        "mean_absolute_error",
        "mean_absolute_percentage_error",
        "mean_squared_error",
        "mean_squared_logarithmic_error",
        "root_mean_squared_error",
    ),
}
_SHOWN_CHARS = 80


@dataclass(frozen=True)
class Call:
    """A call as it was written.

    Attributes
    ----------
    text : str
        The whole of it.
    name : str
        What is called, without the modules that it is in.
    args, named
        Values that Python's literals have, lists of such, and further calls.
    """

    text: str
    name: str
    args: tuple[Any, ...]
    named: dict[str, Any]


def parse_call(text: str, example: str) -> Call:
    """Read a call whose arguments are literals or further calls of that kind.

    Parameters
    ----------
    text : str
    example : str
        What such a call looks like, for messages.

    Raises
    ------
    Unreadable
        If it is anything else.
    """
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        node = None
    if not isinstance(node, ast.Call):
        raise Unreadable(f'{shown(text)} is no call: write "{example}", say')
    try:
        return _call(node, text)
    except RecursionError:
        raise Unreadable(f"{shown(text)} is nested too deeply") from None


def shown(text: str) -> str:
    """Give a text as messages have it, cut where it is long."""
    return repr(text if len(text) <= _SHOWN_CHARS else f"{text[: _SHOWN_CHARS - 1]}…")


def nearest(name: str, known: Iterable[str]) -> str:
    """Give the end of a sentence on a name that is not known: the nearest ones, or nothing."""
    lower = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), lower, 2)
    return f": did you mean {' or '.join(repr(lower[each]) for each in near)}?" if near else ""


def _call(node: ast.Call, text: str) -> Call:
    written = ast.unparse(node.func)
    if not all(part.isidentifier() for part in written.split(".")):
        raise Unreadable(f"{shown(text)} calls {written:.60}, which is no name")
    named: dict[str, Any] = {}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise Unreadable(f"{shown(text)} has an argument with stars: write them one by one")
        named[keyword.arg] = _value(keyword.value, text, f"{keyword.arg}=")
    name = written.rpartition(".")[2]
    return Call(text, name, tuple(_value(arg, text) for arg in node.args), named)


def _value(node: ast.expr, text: str, before: str = "") -> Any:
    if isinstance(node, ast.Call):
        return _call(node, text)
    if isinstance(node, (ast.List, ast.Tuple)):
        values = [_value(item, text) for item in node.elts]
        return values if isinstance(node, ast.List) else tuple(values)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        written = ast.unparse(node)
        instead = ""
        if isinstance(node, (ast.Name, ast.Attribute)):
            instead = f": write {before}{written.rpartition('.')[2]!r}"
        raise Unreadable(
            f"{shown(text)} has {before}{written:.60}, which is no literal{instead}"
        ) from None
