"""Plans: the steps that tables stand for, and the JSON form that the engine reads.

The form is that of ``engine/plan/plan.go``; unknown fields are refused there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from alink._cache import KeptTable
from alink._confinement import secret_value
from alink._diag import Source
from alink._environment import (
    Environment,
    environment_artifacts,
    environment_json,
    runs_client_bytecode,
)
from alink._expr import Expr, expr_json
from alink._files import describe_output, describe_scan
from alink._functions import Function, RowsFunction, WorkerFunction
from alink._kinds import AggregateFunction, TableFunction, with_library
from alink._placed import FileArtifact
from alink._ship import Artifact
from alink._upload import Upload

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 1
#: The operator of a root that puts what one job gives together; the engine has none of it.
TOGETHER = "together"

_QUERY_CHARS_MAX = 120  # of a query in explain


class Node:
    """One step of a plan: an operator, its inputs, and where the user wrote it.

    `args` is the operator's part of the plan, in which expressions, functions and uploaded
    tables still stand as objects. A node never changes; tables share their nodes.
    """

    __slots__ = ("__weakref__", "args", "inputs", "op", "origin", "schema")

    def __init__(
        self,
        op: str,
        inputs: Sequence[Node] = (),
        args: Mapping[str, Any] | None = None,
        origin: Source | None = None,
        schema: pa.Schema | None = None,
    ) -> None:
        self.op = op
        self.inputs = tuple(inputs)
        self.args = dict(args or {})
        self.origin = origin
        self.schema = schema  # once it is known

    def walk(self, kept: bool = False) -> Iterator[Node]:
        """Give this node and all below, each once, inputs before what reads them.

        With `kept`, what lies below a table that the engine keeps is left out.
        """
        seen: set[int] = set()
        stack: list[tuple[Node, bool]] = [(self, False)]
        while stack:
            node, inputs_done = stack.pop()
            if inputs_done:
                yield node
            elif id(node) not in seen:
                seen.add(id(node))
                stack.append((node, True))
                if not (kept and node.op == "cache"):
                    stack += ((node_input, False) for node_input in reversed(node.inputs))


@dataclass
class Plan:
    """A plan ready to be sent."""

    root: str
    json: dict[str, Any]
    # What the job gives or writes: the root, or what it puts together.
    outputs: list[str] = field(default_factory=list)
    artifacts: dict[str, Artifact | FileArtifact] = field(default_factory=dict)
    uploads: list[Upload] = field(default_factory=list)
    # The nodes of kept tables that the plan reads.
    caches: list[Node] = field(default_factory=list)

    @property
    def keeps_letters(self) -> bool:
        """Whether there are functions that keep dead letters."""
        functions = self.json.get("functions", {}).values()
        return any(f["options"].get("on_error") == "dead_letter" for f in functions)


def build_plan(
    root: Node, *, kept: bool = True, shares_machine: bool = True, sandbox: str | None = None
) -> Plan:
    """Write the plan of everything that `root` needs.

    Tables that the engine keeps are read there, or without `kept` described by what they
    are computed from, so that nothing has to run to know a schema. An engine that does not
    share the client's machine builds every environment. `sandbox` is that of functions that
    do not say.

    Raises
    ------
    PlanError
        If a function cannot be sent to a worker.
    """
    return _Builder(kept, shares_machine, sandbox).build(root)


class _Builder:
    def __init__(self, kept: bool, shares_machine: bool, sandbox: str | None) -> None:
        self._kept = kept
        self._sandbox = sandbox
        self._shares_machine = shares_machine
        self._caches: list[Node] = []
        self._nodes: dict[int, str] = {}
        self._functions: dict[int, str] = {}
        self._environments: dict[tuple[Environment | None, str], str] = {}
        self._json: dict[str, Any] = {"version": VERSION, "nodes": []}
        self._artifacts: dict[str, Artifact | FileArtifact] = {}
        self._uploads: list[Upload] = []

    def build(self, root: Node) -> Plan:
        root = fused(root, self._kept)
        for node in root.walk(self._kept):
            if node.op == TOGETHER:
                continue
            if node.op == "cache" and not self._kept:
                self._nodes[id(node)] = self._nodes[id(node.inputs[0])]
                continue
            self._nodes[id(node)] = name = f"n{len(self._nodes) + 1}"
            data: dict[str, Any] = {"id": name, "op": node.op}
            if node.op == "cache":
                data["op"] = "table"
                self._caches.append(node)
            elif node.inputs:
                data["inputs"] = [self._nodes[id(i)] for i in node.inputs]
            if node.origin is not None:
                data["origin"] = node.origin.to_json()
            if node.args:
                data["args"] = self._encode(node.args)
            self._json["nodes"].append(data)
        ends = root.inputs if root.op == TOGETHER else (root,)
        outputs = [self._nodes[id(end)] for end in ends]
        return Plan(outputs[-1], self._json, outputs, self._artifacts, self._uploads, self._caches)

    def _encode(self, value: Any) -> Any:
        if isinstance(value, Expr):
            return expr_json(value, self._function)
        if isinstance(value, WorkerFunction):
            return self._function(value)
        if isinstance(value, Upload):
            self._uploads.append(value)
            return value.name
        if isinstance(value, KeptTable):
            return value.name
        if isinstance(value, Mapping):
            return {key: self._encode(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._encode(item) for item in value]
        return value

    def _function(self, function: WorkerFunction[Any, Any]) -> str:
        """Give a function's name in the plan, and write its entry the first time."""
        if (name := self._functions.get(id(function))) is not None:
            return name
        self._functions[id(function)] = name = f"f{len(self._functions) + 1}"
        options = function.options
        shipment = function.shipment(runs_client_bytecode(options.env, self._shares_machine))
        for artifact in shipment.artifacts:
            self._artifacts[artifact.digest] = artifact
        entry: dict[str, Any] = {"name": function.name, "kind": function.kind}
        if function.parameters:
            entry["parameters"] = list(function.parameters)
        if isinstance(function, (Function, AggregateFunction)):
            entry["result"] = function.result
        if isinstance(function, (RowsFunction, TableFunction)):
            entry["schema"] = function.schema
        if isinstance(function, AggregateFunction):
            entry["state"] = function.state
        if function.batch not in ("", "arrow", function.kind):
            entry["batch"] = function.batch
        entry["code"] = shipment.code
        entry["environment"] = self._environment(
            with_library(options.env, function.batch), function.batch
        )
        entry["modules"] = [artifact.digest for artifact in shipment.modules]
        if options.models:
            models = {key: Artifact.of(m.data) for key, m in options.models.items()}
            self._artifacts.update((a.digest, a) for a in models.values())
            entry["models"] = {key: artifact.digest for key, artifact in models.items()}
        entry["options"] = options.to_json()
        if self._sandbox is not None:
            entry["options"].setdefault("sandbox", self._sandbox)
        for secret in options.confined.secrets:
            value = secret_value(function.name, secret, options.confined.given)
            self._json.setdefault("secrets", {})[secret] = value
        if function.origin is not None:
            entry["origin"] = function.origin.to_json()
        self._json.setdefault("functions", {})[name] = entry
        return name

    def _environment(self, environment: Environment | None, batch: str) -> str:
        # The default one depends on the kind of function where it has to be built.
        library = batch if environment is None and not self._shares_machine else ""
        key = (environment, library)
        if (name := self._environments.get(key)) is not None:
            return name
        self._environments[key] = name = f"e{len(self._environments) + 1}"
        for artifact in environment_artifacts(environment):
            self._artifacts[artifact.digest] = artifact
        self._json.setdefault("environments", {})[name] = environment_json(
            environment, self._shares_machine, library
        )
        return name


def fused(root: Node, kept: bool) -> Node:
    """Put functions of batches that follow one another together where they can be one.

    A node that several others read, or that ends the plan, stays as it is.
    """
    nodes = list(root.walk(kept))
    readers = Counter(id(i) for node in nodes for i in node.inputs)
    made: dict[int, Node] = {}
    for node in nodes:
        below = node.inputs if not (kept and node.op == "cache") else ()
        inputs = [made.get(id(i), i) for i in below]
        merged = None
        if node.op == "map_batches" and readers[id(node.inputs[0])] == 1:
            merged = _merged(node, inputs)
        if merged is not None:
            made[id(node)] = merged
        elif any(a is not b for a, b in zip(inputs, below, strict=True)):
            made[id(node)] = Node(node.op, inputs, node.args, node.origin, node.schema)
    return made.get(id(root), root)


def _merged(node: Node, inputs: Sequence[Node]) -> Node | None:
    """Give one node of two, if the function of the first goes into that of the second."""
    before = inputs[0]
    if before.op != "map_batches":
        return None
    function = node.args["function"].behind(before.args["function"])
    if function is None:
        return None
    tables = [*before.inputs[1:], *inputs[1:]]
    args = {"function": function}
    if tables:
        args["tables"] = function.tables
    return Node("map_batches", [before.inputs[0], *tables], args, node.origin, node.schema)


def explain(root: Node) -> str:
    """Write a plan as text: the last step first, its inputs below it, indented."""
    lines: list[str] = []
    shown: set[int] = set()
    stack: list[tuple[Node, int]] = [(root, 0)]
    while stack:
        node, depth = stack.pop()
        line = "  " * depth + _describe(node)
        if id(node) in shown and node.inputs:
            lines.append(line + "  (as above)")
            continue
        shown.add(id(node))
        lines.append(line)
        stack += ((node_input, depth + 1) for node_input in reversed(node.inputs))
    return "\n".join(lines)


def _describe(node: Node) -> str:
    args = node.args
    if node.op in ("read_parquet", "read_csv", "read_json"):
        text = describe_scan(args)
    elif node.op == "table":
        text = args["table"].describe()
    elif node.op == "filter":
        text = str(args["predicate"])
    elif node.op in ("select", "with_columns"):
        text = _named(args["exprs"])
    elif node.op == "agg":
        keys = _named(args.get("keys", ()))
        text = _named(args["aggregates"]) + (f" by {keys}" if keys else "")
    elif node.op == "join":
        pairs = (
            k["left"] if k["left"] == k["right"] else f"{k['left']} = {k['right']}"
            for k in args.get("on", ())
        )
        text = args["how"] + (f" on {', '.join(pairs)}" if args.get("on") else "")
    elif node.op == "order_by":
        text = ", ".join(map(_sort_key, args["by"]))
    elif node.op == "limit":
        text = str(args["n"]) + (f" offset {args['offset']}" if args.get("offset") else "")
    elif node.op == "sql":
        text = " ".join(args["query"].split())
        text = text if len(text) <= _QUERY_CHARS_MAX else text[: _QUERY_CHARS_MAX - 1] + "…"
    elif node.op == "union":
        text = "by name" if args.get("by_name") else ""
    elif node.op == "distinct":
        text = f"on {', '.join(args['on'])}" if "on" in args else ""
    elif node.op == "sample":
        text = f"{args['n']} rows" if "n" in args else f"{args['fraction']:.4g} of the rows"
        text += f" seed={args['seed']}"
    elif node.op == "unnest":
        text = args["column"]
    elif node.op == "flat_map":
        text = f"{args['function'].name}({', '.join(map(str, args['args']))})"
        if args["keep"]:
            text += " left" if args["outer"] else " inner"
    elif node.op == "map_groups":
        text = f"{args['function'].name} by {_named(args.get('keys', ()))}"
    elif node.op in ("map_batches", "map_table", "train", "fit"):
        text = args["function"].name
        if columns := args.get("columns"):
            text += f"({', '.join(columns)})"
        if tables := args.get("tables"):
            text += f" tables={', '.join(tables)}"
    elif node.op == "read_generator":
        names = ", ".join(c["name"] for c in args["columns"])
        rows = args.get("rows")
        text = f"{'endless' if rows is None else f'{rows} rows'} [{names}]"
    elif node.op == "with_watermark":
        text = f"{args['column']} delay={_seconds(args['delay_us'])}"
    elif node.op == "window":
        keys = _named(args.get("keys", ()))
        text = f"{args['kind']} {_seconds(args['size_us'])} on {args['on']}: "
        text += _named(args["aggregates"]) + (f" by {keys}" if keys else "")
    elif node.op in ("write_parquet", "write_csv", "write_json"):
        text = describe_output(args)
        if checkpoint := args.get("checkpoint"):
            text += f" name={checkpoint['name']} checkpoint={checkpoint['dir']}"
    else:
        text = ""
    return f"{node.op} {text}".rstrip()


def _seconds(us: int) -> str:
    return f"{us / 10**6:g} s"


def _named(exprs: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(
        e["name"] if str(e["expr"]) == e["name"] else f"{e['name']} = {e['expr']}" for e in exprs
    )


def _sort_key(key: Mapping[str, Any]) -> str:
    text = str(key["expr"])
    if key.get("descending"):
        text += " desc"
    if key.get("nulls_first"):
        text += " nulls first"
    return text
