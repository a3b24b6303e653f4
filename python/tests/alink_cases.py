"""Recorded programs of PyAlink, run here: what they show is compared with what PyAlink showed."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

#: Where the cases are: beside the checkout, or where a variable says.
FOLDER = Path(
    os.environ.get("ALINK_CASES")
    or Path(__file__).resolve().parents[3] / "shared" / "alink" / "cases"
)
_NUMBERS_REL = 1e-3
_SQL_TYPES = {
    "STRING": "VARCHAR",
}


class NotBuilt(Exception):
    """A case needs what does not exist yet."""


class Difference(Exception):
    """A case shows something else than PyAlink did."""


def case_names() -> list[str]:
    """Give the names of all cases."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def load(name: str) -> dict[str, Any]:
    """Read a case."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


class Program:
    """A case as a program of PyAlink."""

    def __init__(self, case: dict[str, Any]) -> None:
        import pyalink.alink as library

        self._library = library
        self._case = case
        self._nodes: dict[str, Any] = {}
        for node in case["nodes"]:
            self._nodes[node["id"]] = self._make(node)

    def _resolved(self, value: Any) -> Any:
        if isinstance(value, dict) and set(value) == {"ref"}:
            return self._nodes[value["ref"]]
        if isinstance(value, list):
            return [self._resolved(item) for item in value]
        return value

    def _source(self, node: dict[str, Any]) -> Any:
        table = self._case["tables"][node["table"]]
        kind = "BatchOperator" if node["op"] == "BatchSource" else "StreamOperator"
        frame = pd.DataFrame(table["rows"], columns=range(table["schema"].count(",") + 1))
        return getattr(self._library, kind).fromDataframe(frame, schemaStr=table["schema"])

    def _make(self, node: dict[str, Any]) -> Any:
        op = node["op"]
        if op in ("BatchSource", "StreamSource"):
            return self._source(node)
        args = self._resolved(node.get("args") or [])
        if op.startswith("."):
            method = getattr(self._resolved(node["on"]), op[1:])
            return method(*args, **(node.get("kwargs") or {}))
        if op == "SideOutput":
            return self._resolved(node["inputs"][0]).getSideOutput(node.get("index", 0))
        if op in ("Pipeline", "PipelineModel"):
            made = getattr(self._library, op)(*self._resolved(node.get("stages") or []))
        else:
            made = getattr(self._library, op)(*args)
        for name, value in (node.get("params") or {}).items():
            getattr(made, f"set{name[:1].upper()}{name[1:]}")(self._resolved(value))
        if inputs := node.get("inputs"):
            made.linkFrom(*self._resolved(inputs))
        if "Sink" in op:  # what is read behind it is what it has written
            made.execute()
        return made

    def check(self) -> None:
        """Compare all outputs with what was recorded."""
        for output in self._case["outputs"]:
            operator = self._nodes[output["of"]]
            compare(operator, operator.collectToDataframe(), output)


def compare(operator: Any, frame: pd.DataFrame, output: dict[str, Any]) -> None:
    """Raise `Difference` where an output is not what was recorded."""
    if list(frame.columns) != output["columns"]:
        raise Difference(f"columns {list(frame.columns)}, recorded {output['columns']}")
    types = [str(dtype) for dtype in frame.dtypes]
    if output["kind"] == "stream":
        types = [_SQL_TYPES.get(kind, kind) for kind in operator.getColTypes()]
    types = ["datetime64" if str(t).startswith("datetime64") else t for t in types]
    recorded = ["datetime64" if str(t).startswith("datetime64") else t for t in output["types"]]
    if types != recorded:
        raise Difference(f"types {types}, recorded {recorded}")
    if output["compare"] == "columns":
        return
    rows = [[_plain(value) for value in row] for row in frame.itertuples(index=False)]
    if len(rows) != len(output["rows"]):
        raise Difference(f"{len(rows)} rows, recorded {len(output['rows'])}")
    if output["compare"] == "shape":
        return
    wanted = [[_plain(value) for value in row] for row in output["rows"]]
    if output["compare"] == "exact":
        _same_rows(rows, wanted)
        return
    for column in range(len(output["columns"])):
        try:
            _same_rows(_renamed(rows, column), _renamed(wanted, column))
        except Difference:
            continue
        return
    _same_rows(rows, wanted)


def _plain(value: Any) -> Any:
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, pd.Timestamp):
        return value.isoformat(sep=" ")
    return value.item() if isinstance(value, np.generic) else value


def _renamed(rows: list[list[Any]], column: int) -> list[list[Any]]:
    """Name the values of a column by the other values of the rows that have them."""
    members: dict[Any, list[str]] = {}
    for row in rows:
        members.setdefault(_key(row[column]), []).append(
            json.dumps([_key(v) for i, v in enumerate(row) if i != column])
        )
    names = {key: str(sorted(texts)) for key, texts in members.items()}
    return [
        [names[_key(value)] if i == column else value for i, value in enumerate(row)]
        for row in rows
    ]


def _same_rows(rows: list[list[Any]], wanted: list[list[Any]]) -> None:
    left = list(wanted)
    for row in rows:
        for i, other in enumerate(left):
            if len(row) == len(other) and all(map(_same, row, other)):
                del left[i]
                break
        else:
            raise Difference(f"row {row} was not recorded; left of those recorded: {left[:3]}")


def _same(value: Any, wanted: Any) -> bool:
    if isinstance(value, bool) or isinstance(wanted, bool):
        return value is wanted
    if isinstance(value, (int, float)) and isinstance(wanted, (int, float)):
        return math.isclose(value, wanted, rel_tol=_NUMBERS_REL, abs_tol=1e-9)
    if isinstance(value, str) and isinstance(wanted, str):
        return value == wanted or _same_text(value, wanted)
    return value == wanted


def _same_text(value: str, wanted: str) -> bool:
    """Compare JSON as JSON, and vectors number by number."""
    if wanted[:1] in "{[":
        try:
            return _same_json(json.loads(value), json.loads(wanted))
        except ValueError:
            return False
    a, b = list(_pieces(value)), list(_pieces(wanted))
    return len(a) == len(b) > 1 and all(
        x == y if isinstance(y, str) else _same(x, y) for x, y in zip(a, b, strict=True)
    )


def _same_json(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return (
            isinstance(value, dict)
            and value.keys() == wanted.keys()
            and all(_same_json(value[k], wanted[k]) for k in wanted)
        )
    if isinstance(wanted, list):
        return (
            isinstance(value, list)
            and len(value) == len(wanted)
            and all(map(_same_json, value, wanted))
        )
    if isinstance(wanted, str) and isinstance(value, str):
        return value == wanted or _same(_number(value), _number(wanted))
    return _same(value, wanted)


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _pieces(text: str) -> Iterator[Any]:
    """Cut a vector into its size, indices and values."""
    body = text.strip()
    if body.startswith("$"):
        size, _, body = body[1:].partition("$")
        yield f"${size}$"
    for part in body.replace(",", " ").split():
        index, mark, value = part.rpartition(":")
        if mark:
            yield index
        try:
            yield float(value)
        except ValueError:
            yield value


def _key(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value


def run(name: str) -> tuple[str, str]:
    """Run a case.

    Returns
    -------
    str, str
        "passed", "failed" or "not built", and why.
    """
    import alink

    try:
        Program(load(name)).check()
    except alink.Error as error:
        if "is not built yet" in str(error):
            return "not built", str(error).splitlines()[0]
        return "failed", str(error)
    except Difference as difference:
        return "failed", str(difference)
    except Exception as error:  # noqa: BLE001 a case that fails in any way is listed
        return "failed", repr(error)
    return "passed", ""


def summary(results: dict[str, tuple[str, str]]) -> str:
    """Write a table: for each category how many cases passed, failed and are not built."""
    counts: dict[str, Counter[str]] = {}
    for name, (state, _) in results.items():
        counts.setdefault(load(name)["category"], Counter())[state] += 1
    lines = [f"{'category':<18}{'passed':>8}{'failed':>8}{'not built':>11}"]
    for category, count in sorted(counts.items()):
        numbers = [count[state] for state in ("passed", "failed", "not built")]
        lines.append(f"{category:<18}{numbers[0]:>8}{numbers[1]:>8}{numbers[2]:>11}")
    return "\n".join(lines)
