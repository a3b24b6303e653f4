"""The two kinds of operators, of batches and of streams, and what makes their classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from alink._algorithms._types import BadSchema, parse_schema
from alink._errors import without_our_frames
from alink._options import bad_option
from alink._table import Table
from alink.operators import _frame
from alink.operators._operator import AlgoOperator
from alink.operators._session import session

if TYPE_CHECKING:
    import pandas as pd

    from alink.operators._summaries import TableSummary


class BatchOperator(AlgoOperator):
    """An operator on tables."""

    _name: ClassVar[str] = "BatchOperator"
    _kind: ClassVar[str] = "batch"

    @staticmethod
    def fromDataframe(df: pd.DataFrame, schemaStr: str | None = None) -> BatchOperator:
        """Take the rows of a DataFrame; its columns get the names and types of the schema."""
        return TableBatch(_of_dataframe("BatchOperator.fromDataframe", df, schemaStr))

    @staticmethod
    def fromTable(table: Table) -> BatchOperator:
        """Take the rows of a table of `alink`."""
        return TableBatch(table)

    @staticmethod
    def sqlQuery(query: str) -> BatchOperator:
        """Make a table of a query; it knows what `registerTableName` has named."""
        return TableBatch(_query(query))

    @staticmethod
    @without_our_frames
    def registerFunction(name: str, func: Any) -> None:
        """Give a user function a name for ``sqlQuery``; one that had it before is replaced."""
        _register(name, func)

    @without_our_frames
    def distinct(self) -> BatchOperator:
        """Keep one of the rows that are equal."""
        return self._then("Distinct")

    @without_our_frames
    def orderBy(
        self,
        field: str,
        limit: int | None = None,
        fetch: int | None = None,
        offset: int | None = None,
        order: str = "asc",
    ) -> BatchOperator:
        """Order the rows; ``limit`` of them, or ``fetch`` behind ``offset``."""
        wanted = {"limit": limit, "fetch": fetch, "offset": offset}
        given = {name: value for name, value in wanted.items() if value is not None}
        return self._then("OrderBy", clause=field, order=order, **given)

    @without_our_frames
    def groupBy(self, by: str, select: str) -> BatchOperator:
        """Aggregate: what to select for each group."""
        return self._then("GroupBy", groupByPredicate=by, selectClause=select)

    @without_our_frames
    def sample(self, ratio: float, withReplacement: bool = False) -> BatchOperator:
        """Pick each row with a probability."""
        return self._then("Sample", ratio=ratio, withReplacement=withReplacement)

    @without_our_frames
    def sampleWithSize(self, numSamples: int, withReplacement: bool = False) -> BatchOperator:
        """Pick a number of rows."""
        return self._then("SampleWithSize", size=numSamples, withReplacement=withReplacement)

    @without_our_frames
    def firstN(self, n: int) -> BatchOperator:
        """Take the first rows."""
        return self._then("FirstN", size=n)

    @without_our_frames
    def shuffle(self) -> BatchOperator:
        """Put the rows in a random order."""
        return self._then("Shuffle")

    @without_our_frames
    def collectStatistics(self) -> TableSummary:
        """Run what is needed and give the summary of the columns."""
        return self._then("Summarizer").collectSummary()

    @without_our_frames
    def lazyCollectStatistics(self, *callbacks: Callable[[TableSummary], Any]) -> BatchOperator:
        """Call functions with the summary of the columns with the next ``execute``."""
        self._then("Summarizer").lazyCollectSummary(*callbacks)
        return self

    @without_our_frames
    def lazyPrintStatistics(self, title: str | None = None) -> BatchOperator:
        """Print the summary of the columns with the next ``execute``."""
        self._then("Summarizer").lazyPrintSummary(title)
        return self

    def lazyVizStatistics(self, tableName: str | None = None) -> BatchOperator:
        """Print the summary of the columns, where PyAlink shows charts in a browser."""
        return self.lazyPrintStatistics(tableName)

    def lazyVizDive(self) -> BatchOperator:
        """Print rows, where PyAlink shows them in a browser; of many the first and the last."""
        return self.lazyPrint()

    def _of(self, table: Table) -> BatchOperator:
        return TableBatch(table)


class StreamOperator(AlgoOperator):
    """An operator on streams."""

    _name: ClassVar[str] = "StreamOperator"
    _kind: ClassVar[str] = "stream"

    @staticmethod
    def fromDataframe(df: pd.DataFrame, schemaStr: str | None = None) -> StreamOperator:
        """Take the rows of a DataFrame as a stream that ends."""
        return TableStream(_of_dataframe("StreamOperator.fromDataframe", df, schemaStr))

    @staticmethod
    def fromTable(table: Table) -> StreamOperator:
        """Take the rows of a table of `alink`."""
        return TableStream(table)

    @staticmethod
    def sqlQuery(query: str) -> StreamOperator:
        """Make a stream of a query; it knows what `registerTableName` has named."""
        return TableStream(_query(query))

    @staticmethod
    @without_our_frames
    def registerFunction(name: str, func: Any) -> None:
        """Give a user function a name for ``sqlQuery``; one that had it before is replaced."""
        _register(name, func)

    def print(  # type: ignore[override]
        self, key: Any = None, refreshInterval: int = 0, maxLimit: int = 100, port: int = 0
    ) -> None:
        """Print the rows with the next ``StreamOperator.execute()``."""
        del key, refreshInterval, port  # of PyAlink's display in notebooks
        self.lazyPrint(maxLimit)

    @without_our_frames
    def sample(self, ratio: float) -> StreamOperator:
        """Pick each row with a probability."""
        return self._then("Sample", ratio=ratio)

    def _of(self, table: Table) -> StreamOperator:
        return TableStream(table)


class TableBatch(BatchOperator):
    """The rows of a table."""

    _name = "BatchOperator"
    _inputs_min = 0
    _inputs_max = 0

    def __init__(self, table: Table) -> None:
        super().__init__()
        self._output = table


class TableStream(StreamOperator):
    """The rows of a table, as a stream."""

    _name = "StreamOperator"
    _inputs_min = 0
    _inputs_max = 0

    def __init__(self, table: Table) -> None:
        super().__init__()
        self._output = table


def _of_dataframe(name: str, df: Any, schema_text: str | None) -> Table:
    schema = None if schema_text is None else read_schema(name, schema_text)
    return session().context.from_arrow(_frame.from_pandas(name, df, schema))


def read_schema(name: str, text: str, parameter: str = "schemaStr") -> pa.Schema:
    """Read a schema string, which a parameter has.

    Raises
    ------
    PlanError
        If it is none.
    """
    try:
        return parse_schema(text)
    except BadSchema as error:
        raise bad_option(
            name, f"{name}: {parameter} {text!r:.80}: {error}", 'write "id int, vec vector"'
        ) from None


def _register(name: str, func: Any) -> None:
    from alink.operators._udf import UserFunction

    if not isinstance(func, UserFunction):
        raise bad_option(
            "registerFunction",
            f"registerFunction takes what udf or udtf gives, not {func!r:.60}",
            "udf(f, input_types=[…], result_type=DataTypes.DOUBLE()) has the result's type",
        )
    session().functions[name.lower()] = func


def _query(query: str) -> Table:
    from alink.operators._sql_functions import run_sql, told_early

    tables = {name: operator._table() for name, operator in session().named.items()}
    return told_early(run_sql(session().context, query, tables), query, tables)
