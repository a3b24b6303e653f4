"""Operators: what they are linked from, and how their rows are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import pyarrow as pa

from alink._algorithms._types import flink_name, shown_schema
from alink._errors import Error, without_our_frames
from alink._options import bad_option
from alink._table import Table
from alink._together import run_together
from alink.operators import _frame
from alink.operators._params import WithParams, shown
from alink.operators._session import Waiting, session

if TYPE_CHECKING:
    import pandas as pd

O = TypeVar("O", bound="AlgoOperator")  # noqa: E741


def collect(operators: Sequence[AlgoOperator]) -> list[pa.Table]:
    """Give the rows of operators, of one job with what waits for ``execute``."""
    rows: list[pa.Table] = [pa.table({})] * len(operators)

    def keep(place: int) -> Callable[[pa.Table], None]:
        def done(table: pa.Table) -> None:
            rows[place] = table

        return done

    waiting = session().waiting
    for place, item in enumerate(operators):
        waiting.setdefault(item._kind, []).append(Waiting(item, keep(place)))
    for kind in dict.fromkeys(item._kind for item in operators):
        execute(kind)
    return rows


def execute(kind: str) -> None:
    """Run what waits, of operators of a kind: rows to print and to collect, and sinks."""
    current = session()
    waiting = current.waiting.pop(kind, [])
    sinks = current.sinks.pop(kind, [])
    tables = [item.operator._table() for item in waiting]
    rows = run_together(current.context, tables, sinks) if tables or sinks else []
    for item, table in zip(waiting, rows, strict=True):
        item.done(table)


class AlgoOperator(WithParams):
    """A step that gives rows, linked from the steps whose rows it takes.

    Linking says what is computed and checks it; nothing runs before rows are asked for.
    """

    #: "batch" or "stream".
    _kind: ClassVar[str] = ""
    #: How many inputs it takes: the fewest and the most.
    _inputs_min: ClassVar[int] = 1
    _inputs_max: ClassVar[int] = 1

    def __init__(self, *args: Mapping[str, Any], **params: Any) -> None:
        super().__init__(*args, **params)
        self._inputs: tuple[AlgoOperator, ...] = ()
        self._output: Table | None = None
        self._side_outputs: list[Table] = []

    # --- linking ---

    @without_our_frames
    def linkFrom(self: O, *inputs: Any) -> O:
        """Take the rows of other operators, in this order; a list of them is as good."""
        given: list[Any] = []
        for item in inputs:
            given += item if isinstance(item, (list, tuple)) else [item]
        for item in given:
            if not isinstance(item, AlgoOperator):
                raise bad_option(
                    self._name,
                    f"{self._name} is linked from {shown(item)}, which is no operator",
                    "BatchOperator.fromDataframe(df, schemaStr) makes one of a DataFrame; "
                    "an operator is made with parentheses, Op()",
                )
            if item._kind != self._kind and not self._takes(item):
                raise bad_option(
                    self._name,
                    f"{self._name}, a {self._kind} operator, is linked from {item._name}, "
                    f"a {item._kind} operator",
                )
        if not self._inputs_min <= len(given) <= self._inputs_max:
            raise self._wrong_number(len(given))
        self._inputs = tuple(given)
        self._side_outputs = []
        self._output = self._link()
        return self

    def _wrong_number(self, given: int) -> Error:
        """Make the error for a number of inputs that the operator does not take."""
        fewest, most = self._inputs_min, self._inputs_max
        if most == 0:
            return bad_option(self._name, f"{self._name} is a source, which is linked from nothing")
        many = f"{fewest} or more inputs" if most > fewest else f"{fewest} inputs"
        return bad_option(
            self._name,
            f"{self._name} takes {'1 input' if most == 1 else many}, {given or 'none'} "
            f"{'is' if given == 1 else 'are'} linked",
            "the model comes first: op.linkFrom(model, rows)"
            if "Predict" in self._name and given < fewest
            else "",
        )

    def link(self, op: O) -> O:
        """Give this operator's rows to another one, which is returned."""
        if not isinstance(op, AlgoOperator):
            raise bad_option(
                self._name,
                f"{self._name} is linked to {shown(op)}, which is no operator",
                "an operator is made with parentheses, Op(); stages have fit and transform",
            )
        return op.linkFrom(self)

    def getName(self) -> str:
        """Give the name of the operator's class."""
        return self._name

    def linkTo(self, op: O) -> O:
        """Give this operator's rows to another one, which is returned."""
        return self.link(op)

    def _takes(self, _input: AlgoOperator) -> bool:
        """Tell whether an input of the other kind may be linked."""
        return False

    def _link(self) -> Table:
        """Make the table of the operator's rows of its inputs'."""
        raise NotImplementedError

    def _table(self) -> Table:
        """Give the table of the operator's rows."""
        if self._output is None:
            if self._inputs_min > 0:
                raise bad_option(
                    self._name,
                    f"{self._name} is not linked from anything",
                    "link it: input.link(op), or op.linkFrom(input)",
                )
            self._output = self._link()
        return self._output

    def getSideOutput(self, index: int) -> AlgoOperator:
        """Give one of the operator's further outputs, counted from 0."""
        self._table()
        if not 0 <= index < len(self._side_outputs):
            raise bad_option(
                self._name,
                f"{self._name} has {len(self._side_outputs)} side outputs, there is no {index}",
            )
        return self._of(self._side_outputs[index])

    def getSideOutputCount(self) -> int:
        """Tell how many further outputs the operator has."""
        self._table()
        return len(self._side_outputs)

    # --- columns ---

    @property
    def _schema(self) -> pa.Schema:
        return self._table().schema

    def getColNames(self) -> list[str]:
        """Give the names of the columns."""
        return list(self._schema.names)

    def getColTypes(self) -> list[str]:
        """Give the types of the columns, as Flink names them: a text is VARCHAR."""
        return [flink_name(kind) for kind in self._schema.types]

    def getSchemaStr(self) -> str:
        """Give the schema as a string, ``"id INT, name VARCHAR"``, which ``schemaStr`` takes."""
        return shown_schema(self._schema)

    # --- rows ---

    @without_our_frames
    def collectToDataframe(self) -> pd.DataFrame:
        """Give the rows as a DataFrame of pandas, of one job with what waits for ``execute``."""
        return _frame.to_pandas(collect([self])[0])

    @without_our_frames
    def print(self, n: int = -1, title: str | None = None) -> None:
        """Print the rows, together with what else waits for ``execute``.

        Parameters
        ----------
        n : int, default -1
            How many rows at most. Of all, with 0 or less, only the first and the last are
            shown where there are more than 60.
        title : str, optional
            A line that is printed before.
        """
        self.lazyPrint(n, title)
        type(self).execute()

    def lazyPrint(self: O, n: int = -1, title: str | None = None) -> O:
        """Print the rows with the next ``execute``."""
        if not isinstance(n, int):
            raise bad_option(
                self._name,
                f"{self._name}.print: the number of rows cannot be {n!r:.60}",
                "print(5), or print(5, title)",
            )
        shown = self._table() if n <= 0 else self._table().limit(n)

        def show(rows: pa.Table) -> None:
            _frame.show(rows, title, cut=n <= 0)

        session().waiting.setdefault(self._kind, []).append(Waiting(self._of(shown), show))
        return self

    def lazyCollectToDataframe(self: O, *callbacks: Callable[[pd.DataFrame], Any]) -> O:
        """Call functions with the rows, as a DataFrame, with the next ``execute``."""

        def call(rows: pa.Table) -> None:
            frame = _frame.to_pandas(rows)
            for callback in callbacks:
                callback(frame)

        session().waiting.setdefault(self._kind, []).append(Waiting(self, call))
        return self

    @classmethod
    @without_our_frames
    def execute(cls, jobName: str | None = None) -> None:
        """Run what waits, rows to print and to collect and sinks, as one job."""
        del jobName  # Flink's page shows it
        execute(cls._kind)

    # --- further steps ---

    def _then(self, name: str, **params: Any) -> Any:
        """Link an operator of this kind behind this one."""
        from alink.operators._define import BUILT

        suffix = "BatchOp" if self._kind == "batch" else "StreamOp"
        return BUILT[name + suffix](**params).linkFrom(self)

    @without_our_frames
    def select(self, fields: str | Sequence[str]) -> Any:
        """Compute columns: a list of expressions, or a text with commas between them."""
        if not isinstance(fields, str):
            listed = isinstance(fields, (list, tuple)) and all(isinstance(f, str) for f in fields)
            if not fields or not listed:
                raise bad_option(
                    self._name,
                    f"{self._name}.select takes columns, not {fields!r:.60}",
                    "write select('id, x + 1 as y'), or select(['id', 'x'])",
                )
            known = {*self._schema.names}
            fields = ", ".join(f"`{field}`" if field in known else field for field in fields)
        return self._then("Select", clause=fields)

    @without_our_frames
    def where(self, predicate: str) -> Any:
        """Keep the rows for which a predicate is true."""
        return self._then("Where", clause=predicate)

    @without_our_frames
    def filter(self, predicate: str) -> Any:
        """Keep the rows for which a predicate is true."""
        return self._then("Filter", clause=predicate)

    @without_our_frames
    def alias(self, fields: str | Sequence[str]) -> Any:
        """Give all columns other names: a list, or a text with commas between them."""
        return self._then("As", clause=fields if isinstance(fields, str) else ",".join(fields))

    @without_our_frames
    def split(self, fraction: float) -> Any:
        """Divide the rows in two; what is behind the fraction is the first side output."""
        return self._then("Split", fraction=fraction)

    @without_our_frames
    def udf(
        self,
        func: Any,
        selectedCols: Sequence[str],
        outputCol: str,
        reservedCols: Sequence[str] | None = None,
    ) -> Any:
        """Call a user function with columns; what it gives is the last column."""
        given = {"func": func, "selectedCols": selectedCols, "outputCol": outputCol}
        return self._then("UDF", **given, reservedCols=reservedCols)

    @without_our_frames
    def udtf(
        self,
        func: Any,
        selectedCols: Sequence[str],
        outputCols: Sequence[str],
        reservedCols: Sequence[str] | None = None,
    ) -> Any:
        """Call a user function with columns; each row that it gives makes a row."""
        given = {"func": func, "selectedCols": selectedCols, "outputCols": outputCols}
        return self._then("UDTF", **given, reservedCols=reservedCols)

    @without_our_frames
    def rebalance(self) -> Any:
        """Give the rows as they are: the engine balances them by itself."""
        return self._then("Rebalance")

    def toTable(self) -> Table:
        """Give the rows as a table of `alink`."""
        return self._table()

    def getOutputTable(self) -> Table:
        """Give the rows as a table of `alink`."""
        return self._table()

    def registerTableName(self: O, name: str) -> O:
        """Give the rows a name for ``sqlQuery``; one that had it before is replaced."""
        if not isinstance(name, str):
            raise bad_option(self._name, f"{self._name}.registerTableName: {name!r:.60} is no name")
        session().named[name.lower()] = self
        return self

    def _of(self, table: Table) -> Any:
        """Make an operator of this kind whose rows are a table's."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"
