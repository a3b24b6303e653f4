"""Operators that give rows for rows, in workers: steps, and how they become functions."""

from __future__ import annotations

import functools
import importlib.util
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

import alink._algorithms
from alink._algorithms._types import type_name
from alink._environment import Environment
from alink._functions import FunctionOptions, MapBatchesFunction
from alink._options import find_column
from alink._ship import Artifact, Shipment
from alink._table import Table

#: What the package of algorithms is called in workers.
PACKAGE = "alink_algorithms"
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # a fixed date makes equal packages equal archives


class Steps(MapBatchesFunction[..., Any]):
    """Steps of the package of algorithms, one after the other, as one function of batches.

    Parameters
    ----------
    names : sequence of str
        What the steps are called in messages.
    specs : sequence of mapping
        As `alink._algorithms._chain.Step` takes them; ``model`` says that a step is given a
        table, besides its batches.
    result : pyarrow.Schema
        The columns of the last step's result.
    options : FunctionOptions, optional
        What they may do in their workers beyond computing, in which environment, and with how
        many rows.
    """

    def __init__(
        self,
        names: Sequence[str],
        specs: Sequence[Mapping[str, Any]],
        result: pa.Schema,
        options: FunctionOptions | None = None,
    ) -> None:
        self._special = options
        options = options or FunctionOptions()
        options = replace(options, env=options.env or environment())
        super().__init__(in_workers, result, None, options)
        self.name = " → ".join(names)
        self.origin = None
        self._names = tuple(names)
        self._specs = tuple(specs)
        self._result = result
        #: The names of the tables that it is given, in the order of the steps.
        self.tables = [f"model{i}" for i, spec in enumerate(specs) if spec.get("model")]
        self.parameters = ("batch", *self.tables)

    @property
    def specs(self) -> tuple[Mapping[str, Any], ...]:
        """The steps, as they were given."""
        return self._specs

    @property
    def result(self) -> pa.Schema:
        """The columns of the last step's result."""
        return self._result

    @property
    def computes_only(self) -> bool:
        """Whether the steps do no more than compute: they may run anywhere."""
        return self._special is None

    def behind(self, before: MapBatchesFunction[..., Any]) -> Steps | None:
        """Give one function of the steps of another one and these."""
        if not isinstance(before, Steps) or self._special is not None:
            return None
        names, specs = before._names + self._names, before._specs + self._specs
        return Steps(names, specs, self._result, before._special)

    def shipment(self, same_python: bool) -> Shipment:
        """Give the steps as they travel: as source text, with the package."""
        del same_python  # any Python reads source text
        specs = json.dumps(json.dumps(self._specs))
        tables = "".join(f", {name}" for name in self.tables)
        source = (
            "import json\n"
            f"from {PACKAGE}._chain import Chain\n"
            f"chain = Chain(json.loads({specs}))\n"
            f"def steps(batch{tables}):\n"
            f"    return chain(batch{tables})\n"
        )
        return Shipment({"source": source, "name": "steps"}, (package(),), None)


def in_workers(*given: Any, **tables: Any) -> Any:
    """Stand for what runs in workers alone."""
    raise NotImplementedError


def task_shipment(task: str, *arguments: Any) -> Shipment:
    """Give a function of the package of algorithms as it travels: as source text, with the package.

    Any Python reads source text.

    Parameters
    ----------
    task : str
        ``"module.name"`` within the package: makes the function of the arguments.
    *arguments
        Values that JSON has.
    """
    module, _, attribute = task.partition(".")
    source = (
        "import json\n"
        f"from {PACKAGE}.{module} import {attribute}\n"
        f"run = {attribute}(*json.loads({json.dumps(json.dumps(arguments))}))\n"
    )
    return Shipment({"source": source, "name": "run"}, (package(),), None)


@functools.cache
def package() -> Artifact:
    """Pack the algorithms."""
    folder = Path(alink._algorithms.__file__).parent
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*.py")):
            name = f"{PACKAGE}/{path.relative_to(folder).as_posix()}"
            archive.writestr(zipfile.ZipInfo(name, _ZIP_DATE), path.read_bytes())
    return Artifact.of(buffer.getvalue())


@functools.cache
def environment() -> Environment | None:
    """Give the environment of what needs numpy alone: the client's own, where it has it."""
    if importlib.util.find_spec("numpy") is None:
        return Environment(requirements=["numpy"])
    return None


#: The requirements of libraries that some algorithms run on.
_LIBRARIES = {
    "lightgbm": ["lightgbm>=4.5,<5"],
    # Its models are read in its own JSON, as these versions write it. There is no xgboost-cpu for
    # macOS, where xgboost has nothing for graphics cards either.
    "xgboost": [
        'xgboost-cpu>=3.2,<3.5; sys_platform != "darwin"',
        'xgboost>=3.2,<3.5; sys_platform == "darwin"',
    ],
    # jax is what it runs on; keras itself names none.
    "keras": ["keras>=3.10,<4", "jax>=0.6,<1"],
    "redis": ["redis>=6,<9"],
}


@functools.cache
def algorithm_library(name: str) -> Environment:
    """Give the environment of a library that some algorithms run on.

    It is built when the first job needs it. The environment of the user's program has no such
    library.
    """
    return Environment(requirements=["numpy", *_LIBRARIES[name]])


@functools.cache
def spreadsheet_libraries() -> Environment:
    """Give the environment of the libraries that read and write spreadsheets."""
    return Environment(requirements=["numpy", "python-calamine>=0.3,<1", "xlsxwriter>=3.2,<4"])


def apply_step(
    table: Table,
    name: str,
    task: str,
    params: Mapping[str, Any],
    outputs: Sequence[tuple[str, pa.DataType]],
    reserved: Sequence[str] | None,
    model: Table | None = None,
    options: FunctionOptions | None = None,
) -> Table:
    """Add columns that a task computes.

    Parameters
    ----------
    table : Table
    name : str
        The operator's, for messages.
    task : str
        ``"module.name"`` within the package of algorithms.
    params : mapping
        What the task is made with.
    outputs : sequence of (name, type)
        The columns that it gives.
    reserved : sequence of str or None
        The columns of the input that stay; None stands for all. An output takes the place of
        a column of its name.
    model : Table, optional
        What the task is given besides its batches.
    options : FunctionOptions, optional
        What it may do in its workers beyond computing, and with how many rows.
    """
    schema = table.schema
    result = result_schema(name, schema, outputs, reserved)
    spec = {
        "operator": name,
        "task": task,
        "params": dict(params),
        "outputs": [[column, type_name(kind)] for column, kind in outputs],
        "result": result.names,
    }
    if model is None:
        return table.map_batches(Steps([name], [spec], result, options))
    steps = Steps([name], [{**spec, "model": True}], result, options)
    return table.map_batches(steps, tables=dict.fromkeys(steps.tables, model))


#: Types that the engine gives as they were given to it.
_PLAIN = frozenset(
    [
        pa.string(), pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.float32(),
        pa.float64(), pa.date32(), pa.time64("us"), pa.timestamp("us"),
    ]
)  # fmt: skip


def with_schema(table: Table, schema: pa.Schema | None) -> Table:
    """Give a table the schema that its rows will have, if that is known without the engine."""
    if schema is not None and all(field.type in _PLAIN for field in schema):
        table._node.schema = pa.schema([(field.name, field.type) for field in schema])
    return table


def result_schema(
    name: str,
    schema: pa.Schema,
    outputs: Sequence[tuple[str, pa.DataType]],
    reserved: Sequence[str] | None,
) -> pa.Schema:
    """Give the columns of a result: an output takes the place of a column of its name."""
    kept = schema.names if reserved is None else [find_column(name, schema, r) for r in reserved]
    places = {column.lower(): (column, kind) for column, kind in outputs}
    fields: list[pa.Field] = []
    for field in schema:
        if (output := places.pop(field.name.lower(), None)) is not None:
            fields.append(pa.field(*output))
        elif field.name in kept:
            fields.append(field)
    fields += [pa.field(column, kind) for column, kind in outputs if column.lower() in places]
    return pa.schema(fields)


def with_columns_found(
    operator: str, schema: pa.Schema, params: Mapping[str, Any], names: Sequence[str]
) -> dict[str, Any]:
    """Give parameters with the exact names of columns; `names` are those that name one or some."""
    given = dict(params)
    for name in names:
        value = given.get(name)
        if isinstance(value, str):
            given[name] = find_column(operator, schema, value)
        elif value is not None:
            given[name] = [find_column(operator, schema, column) for column in value]
    return given
