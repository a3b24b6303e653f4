"""How operators become classes: one declaration gives the batch, stream and pipeline forms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from alink._diag import did_you_mean, quote
from alink._options import bad_option
from alink._table import Table
from alink.operators._base import BatchOperator, StreamOperator
from alink.operators._catalogue import Parameters, catalogue
from alink.operators._mapping import apply_step, with_columns_found
from alink.operators._operator import AlgoOperator
from alink.operators._stages import Transformer

#: The classes that are built, by their names.
BUILT: dict[str, type] = {}

#: Makes the table of an operator's rows: of the operator's name, its parameters and its inputs.
Make = Callable[[str, Mapping[str, Any], Sequence[Table]], Table]


def build(name: str, base: type, doc: str | None, **members: Any) -> Any:
    """Make the class of an operator or stage, with the parameters that the catalogue has."""
    made = type(
        name,
        (base,),
        {
            "__doc__": doc,
            "__module__": "alink.operators",
            "_name": name,
            "_parameters": Parameters(catalogue()[name]),
            **members,
        },
    )
    BUILT[name] = made
    return made


def operator(name: str, make: Make, inputs: int | tuple[int, int] = 1) -> None:
    """Declare an operator of one kind, batch or stream, which its name ends with.

    Parameters
    ----------
    name : str
        As the catalogue has it.
    make : callable
        Makes the table of the operator's rows.
    inputs : int or (fewest, most)
        How many inputs it takes.
    """
    base = StreamOperator if name.endswith("StreamOp") else BatchOperator
    fewest, most = inputs if isinstance(inputs, tuple) else (inputs, inputs)

    def _link(self: AlgoOperator) -> Table:
        return make(name, self._all(), [item._table() for item in self._inputs])

    build(name, base, make.__doc__, _inputs_min=fewest, _inputs_max=most, _link=_link)


def batch_and_stream(name: str, make: Make, inputs: int | tuple[int, int] = 1) -> None:
    """Declare the operators ``<name>BatchOp`` and ``<name>StreamOp``, as far as Alink has them."""
    for kind in ("BatchOp", "StreamOp"):
        if f"{name}{kind}" in catalogue():
            operator(f"{name}{kind}", make, inputs)


@dataclass(frozen=True)
class Mapper:
    """An operator that gives rows for rows, each by itself, in workers.

    Attributes
    ----------
    name : str
        Of the batch and stream operators, without what they end with.
    task : str
        What a worker does: ``"module.name"`` within the package of algorithms.
    outputs : callable
        Gives the names and types of the columns that it adds, of the parameters and the schema
        of the input.
    stage : str, optional
        The name of the pipeline stage, if it is another one.
    columns : sequence of str
        The parameters that name columns of the input, one or a list each.
    settings : mapping
        What the task is told besides the operator's parameters.
    doc : str
        What the operator does.
    """

    name: str
    task: str
    outputs: Callable[[Mapping[str, Any], pa.Schema], Sequence[tuple[str, pa.DataType]]]
    stage: str = ""
    columns: Sequence[str] = ()
    settings: Mapping[str, Any] | None = None
    doc: str = ""

    def __call__(self, name: str, params: Mapping[str, Any], inputs: Sequence[Table]) -> Table:
        """Make the table of the operator's rows."""
        table = inputs[0]
        schema = table.schema
        given = with_columns_found(name, schema, params, self.columns)
        outputs = self.outputs(given, schema)
        reserved = given.pop("reservedCols", None)
        return apply_step(
            table, name, self.task, {**given, **(self.settings or {})}, outputs, reserved
        )


def mapper(definition: Mapper) -> None:
    """Declare a mapper's operators and its pipeline stage."""

    def make(name: str, params: Mapping[str, Any], inputs: Sequence[Table]) -> Table:
        return definition(name, params, inputs)

    make.__doc__ = definition.doc
    batch_and_stream(definition.name, make)
    stage = definition.stage or definition.name
    if stage in catalogue():
        build(stage, Transformer, definition.doc, _make=staticmethod(make))


def one_of(operator: str, parameter: str, value: str | None, choices: Sequence[str]) -> str:
    """Give the choice that a parameter's value names; its case does not matter.

    Raises
    ------
    PlanError
        If it names none.
    """
    for choice in choices:
        if value is not None and choice.lower() == value.lower():
            return choice
    raise bad_option(
        operator,
        f"{operator}: {quote(parameter)} cannot be {value!r:.60}",
        did_you_mean(value or "", "its values", choices),
    )
