"""Windows of event time, as `Table.window` gives them."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from alink import _codes as codes
from alink._errors import failure
from alink._expr import IntoExpr
from alink._files import absolute_path
from alink._options import bad_option, duration_us
from alink._origin import user_origin

if TYPE_CHECKING:
    from alink._plan import Node
    from alink._table import Table

Named = Callable[[str, Any, Mapping[str, Any]], list[dict[str, Any]]]


class Windowed:
    """A table cut into windows of time; `group_by` and `agg` make rows of them."""

    __slots__ = ("_named", "_table", "_window")

    def __init__(self, table: Table, window: dict[str, Any], named: Named) -> None:
        self._table = table
        self._window = window
        self._named = named

    def group_by(self, *keys: IntoExpr | Mapping[str, IntoExpr], **named: IntoExpr) -> WindowGroups:
        """Group the rows of each window by keys."""
        return WindowGroups(self, self._named("group_by", keys, named))

    def agg(self, *exprs: IntoExpr | Mapping[str, IntoExpr], **named: IntoExpr) -> Table:
        """Make one row of each window; see `WindowGroups.agg`."""
        return WindowGroups(self, []).agg(*exprs, **named)

    def __repr__(self) -> str:
        return f"<alink.Windowed {self._window['kind']} on {self._window['on']}>"


class WindowGroups:
    """The groups of a table's windows, as `Windowed.group_by` gives them."""

    __slots__ = ("_keys", "_windowed")

    def __init__(self, windowed: Windowed, keys: list[dict[str, Any]]) -> None:
        self._windowed = windowed
        self._keys = keys

    def agg(self, *exprs: IntoExpr | Mapping[str, IntoExpr], **named: IntoExpr) -> Table:
        """Make one row of each group of each window.

        An aggregate is ``count(*)``, or ``count``, ``sum``, ``min``, ``max`` or ``avg`` of
        one expression. The columns are ``window_start``, ``window_end``, the keys and the
        aggregates. On a stream the rows come when the watermark passes the window's end.

        Examples
        --------
        ``clicks.window("tumble", "1 minute", on="ts").group_by("user").agg(n="count(*)")``
        """
        windowed = self._windowed
        args: dict[str, Any] = dict(windowed._window)
        args["aggregates"] = windowed._named("agg", exprs, named)
        if self._keys:
            args["keys"] = self._keys
        return windowed._table._derive("window", args)

    def __repr__(self) -> str:
        return f"<alink.WindowGroups {', '.join(key['name'] for key in self._keys)}>"


def is_unbounded(root: Node) -> bool:
    """Tell whether the rows of a node have no end."""
    endless: dict[int, bool] = {}
    for node in root.walk():
        if node.op == "read_generator":
            endless[id(node)] = node.args.get("rows") is None
        elif node.op == "limit":
            endless[id(node)] = False
        elif node.op in ("map_batches", "map_table"):  # its other inputs have an end
            endless[id(node)] = endless[id(node.inputs[0])]
        else:
            endless[id(node)] = any(endless[id(i)] for i in node.inputs)
    return endless[id(root)]


def refuse_unbounded(operator: str, root: Node) -> None:
    """Raise an error if a step that needs the end stands behind a stream."""
    if is_unbounded(root):
        raise failure(
            codes.NEEDS_END,
            f"{operator} needs the end of its input, but a stream has none",
            operator=operator,
            source=user_origin(),
            hint="put limit(n) before it, read the rows as they come with iter_batches(), "
            "or write them with checkpoint=",
        )


def checkpoint_args(
    operator: str,
    name: str | None,
    folder: str | os.PathLike[str],
    interval: str | datetime.timedelta,
) -> dict[str, Any]:
    """Write where and how often a job notes how far it is."""
    if not isinstance(name, str) or not name:
        raise bad_option(
            operator,
            f"{operator}: a job with checkpoint= needs a name=",
            'name it: name="clicks-per-user"',
        )
    interval_us = duration_us(operator, "checkpoint_interval", interval, minimum_us=10_000)
    path = absolute_path(operator, folder)
    return {"dir": path, "name": name, "interval_ms": interval_us // 1000}


__all__ = ["checkpoint_args", "WindowGroups", "Windowed", "is_unbounded", "refuse_unbounded"]
