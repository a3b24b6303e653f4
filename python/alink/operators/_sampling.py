"""Picks of rows at random, and their order: the same ones in each run.

What is drawn follows from a seed and the rows' numbers. Where a share of a table is asked for,
the number of rows is that share, rounded; of a stream each row is drawn by itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from alink._functions import FunctionOptions
from alink._options import bad_option, find_column
from alink._table import Table
from alink.operators._base import BatchOperator, StreamOperator
from alink.operators._catalogue import catalogue
from alink.operators._define import BUILT, batch_and_stream, operator
from alink.operators._dialect import quoted
from alink.operators._mapping import apply_step
from alink.operators._operator import AlgoOperator
from alink.operators._sources import seed_of

Params = Mapping[str, Any]

_RATIO_MAX = 700  # beyond it the Poisson distribution's first term is 0 in doubles
_PACE_S = 0.1
#: Names of columns within queries.
_OWN = {
    "__row",
    "__u",
    "__n",
    "__rank",
    "__high",
    "__drawn",
    "__wanted",
    "__stratum",
    "__key",
    "__cut",
}
_FALSE_SHARE = "must be between 0 and 1"


def _columns(table: Table) -> str:
    return ", ".join(map(quoted, table.columns))


def _query(table: Table, query: str) -> Table:
    for column in table.columns:
        if column.lower() in _OWN:
            raise bad_option(
                "SQL", f"a column must not have the name {column}: picks of rows use it"
            )
    return table._context.sql(query, tables={"a": table})


def _numbered(table: Table, name: str) -> Table:
    """Add the rows' numbers, from 0, as the last column."""
    return _query(table, f"SELECT *, row_number() OVER () - 1 AS {quoted(name)} FROM a")


def _smallest(
    table: Table, wanted: str, seed: int, *, rest: bool = False, key: str = "__u", where: str = ""
) -> Table:
    """Keep the ``wanted`` rows with the smallest keys, or the rest; rows keep their order.

    Parameters
    ----------
    table : Table
    wanted : str
        An expression of __n, the number of rows.
    seed : int
    rest : bool, default False
        Give the other rows.
    key : str
        An expression of __u, a number above 0 and up to 1 that is drawn for each row.
    where : str, optional
        A condition of rows that are picked; the others have no key.
    """
    drawn = f"""(SELECT *, {_DRAWN.format(seed=seed)} AS __u
        FROM (SELECT *, row_number() OVER () AS __row FROM a))"""
    # Only the keys are sorted. Equal ones are as good as impossible, and stay together.
    return _query(
        table,
        f"""WITH sorted AS (
            SELECT {key} AS __key FROM {drawn} {where and f"WHERE {where}"} ORDER BY __key
            LIMIT (SELECT ({wanted})::BIGINT FROM (SELECT count(*) AS __n FROM a))
        ),
        cut AS (SELECT coalesce(max(__key), '-Infinity') AS __cut FROM sorted)
        SELECT {_columns(table)} FROM {drawn}
        WHERE {where and f"{where} AND"} {key} {">" if rest else "<="} (SELECT __cut FROM cut)""",
    )


def _smallest_of_strata(table: Table, column: str, wanted: str, seed: int) -> Table:
    """Keep the ``wanted`` rows with the smallest __u of each stratum; rows keep their order."""
    return _query(
        table,
        f"""WITH numbered AS (SELECT *, row_number() OVER () AS __row FROM a),
        drawn AS (
            SELECT {column} AS __stratum, {_DRAWN.format(seed=seed)} AS __u FROM numbered
        ),
        sizes AS (
            SELECT __stratum, (SELECT {wanted})::BIGINT AS __wanted
            FROM (SELECT {column}, {column} AS __stratum, count(*) AS __n FROM a GROUP BY {column})
        ),
        ranked AS (
            SELECT *, row_number() OVER (PARTITION BY __stratum ORDER BY __u) AS __rank FROM drawn
        ),
        cuts AS (
            SELECT ranked.__stratum, max(__u) AS __cut FROM ranked
            JOIN sizes ON ranked.__stratum IS NOT DISTINCT FROM sizes.__stratum
            WHERE __rank <= __wanted GROUP BY ranked.__stratum
        )
        SELECT {_columns(table)} FROM numbered
        JOIN cuts ON __stratum IS NOT DISTINCT FROM {column}
        WHERE {_DRAWN.format(seed=seed)} <= __cut ORDER BY __row""",
    )


#: A number above 0 and up to 1, of a hash of 64 bits.
_DRAWN = "(hash(__row, {seed})::DOUBLE + 1) * 5.421010862427522e-20"


def _place(drawn: str, count: str) -> str:
    """Write the expression of a number from 0 up to, but without, a count, of what is hashed."""
    share = f"hash({drawn})::DOUBLE * 5.421010862427522e-20"
    return f"least(floor({share} * {count}), {count} - 1)::BIGINT"


def _share(name: str, parameter: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise bad_option(name, f"{name}: {parameter} {_FALSE_SHARE}, not {value}")
    return float(value)


def _repeated(name: str, table: Table, ratio: float) -> Table:
    """Give each row a random number of times, ``ratio`` on average."""
    if not 0 <= ratio <= _RATIO_MAX:
        raise bad_option(name, f"{name}: ratio must be between 0 and {_RATIO_MAX}, not {ratio}")
    settings = {"rows": "__row", "seed": seed_of(name), "ratio": float(ratio)}
    rows = _numbered(table, "__row")
    return apply_step(rows, name, "_sources.chosen", settings, [], table.columns)


def sample(name: str, params: Params, inputs: Sequence[Table]) -> Table:
    """Pick each row with the probability ``ratio``."""
    if params["withReplacement"]:
        return _repeated(name, inputs[0], params["ratio"])
    return inputs[0].sample(fraction=_share(name, "ratio", params["ratio"]), seed=seed_of(name))


def _size(name: str, parameter: str, value: int) -> int:
    if value < 0:
        raise bad_option(name, f"{name}: {parameter} must be at least 0, not {value}")
    return value


def sample_with_size(name: str, params: Params, inputs: Sequence[Table]) -> Table:
    """Pick ``size`` rows."""
    table, size, seed = inputs[0], _size(name, "size", params["size"]), seed_of(name)
    if not params["withReplacement"]:
        return table.sample(size, seed=seed)
    return _query(
        table,
        f"""WITH numbered AS (SELECT *, row_number() OVER () - 1 AS __row FROM a),
        total AS (SELECT count(*) AS n FROM a),
        draws AS (
            SELECT {_place(f"i, {seed}", "n")} AS __drawn FROM range({size}) AS r(i), total
            WHERE n > 0
        )
        SELECT {_columns(table)} FROM numbered JOIN draws ON __drawn = __row ORDER BY __row""",
    )


def weight_sample(name: str, params: Params, inputs: Sequence[Table]) -> Table:
    """Pick the share ``ratio`` of the rows; those with more weight are likelier.

    Without replacement after Efraimidis and Spirakis, 2006: the rows with the largest ln(u)/w.
    A row whose weight is NULL or not above 0 is not picked.
    """
    table, seed = inputs[0], seed_of(name)
    weight = quoted(find_column(name, table.schema, params["weightCol"])) + "::DOUBLE"
    if not params["withReplacement"]:
        wanted = f"round(__n * {_share(name, 'ratio', params['ratio'])})"
        key = f"-ln(__u) / {weight}"
        return _smallest(table, wanted, seed, key=key, where=f"{weight} > 0")
    ratio = _size(name, "ratio", params["ratio"])
    return _query(
        table,
        f"""WITH numbered AS (SELECT *, row_number() OVER () AS __row FROM a),
        summed AS (
            SELECT *, sum({weight}) OVER (ORDER BY __row) AS __high FROM numbered
            WHERE {weight} > 0
        ),
        total AS (SELECT (SELECT count(*) FROM a) AS n, max(__high) AS s FROM summed),
        draws AS (
            SELECT s * {_DRAWN.format(seed=seed)} AS __drawn
            FROM (SELECT unnest(range(round(n * {ratio})::BIGINT)) AS __row, s FROM total)
        )
        SELECT {_columns(table)} FROM summed
        JOIN draws ON __drawn <= __high AND __drawn > __high - {weight} ORDER BY __row""",
    )


def _strata(name: str, text: str, parameter: str) -> dict[str, float]:
    strata: dict[str, float] = {}
    for part in text.split(","):
        key, mark, value = part.strip().rpartition(":")
        try:
            if not mark:
                raise ValueError
            strata[key] = float(value)
        except ValueError:
            raise bad_option(
                name, f"{name}: {part.strip()!r:.60} in {parameter} is not value:number",
                'write "a:0.5,b:0.2"',
            ) from None  # fmt: skip
    return strata


def _by_stratum(name: str, column: str, strata: Mapping[str, float], default: float) -> str:
    """Write the expression of what is wanted of a row's stratum."""
    text = f"{column}::VARCHAR"
    cases = " ".join(
        f"WHEN {_literal(key)} THEN {value!r}::DOUBLE" for key, value in strata.items()
    )
    missing = f"{default!r}::DOUBLE"
    if default < 0:
        told = _literal(f"{name}: nothing says how much is wanted of stratum ")
        missing = f"error({told} || coalesce({text}, 'NULL'))"
    return f"CASE {text} {cases} ELSE {missing} END"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def stratified_sample(name: str, params: Params, inputs: Sequence[Table]) -> Table:
    """Pick a share of each stratum, the rows with the same value of ``strataCol``.

    ``strataRatios`` is ``"value:share,…"``; ``strataRatio`` is the share of other values.
    """
    table, seed = inputs[0], seed_of(name)
    column = quoted(find_column(name, table.schema, params["strataCol"]))
    strata = _strata(name, params["strataRatios"], "strataRatios")
    replaced = params.get("withReplacement")
    for value in () if replaced else strata.values():
        _share(name, "strataRatios", value)
    ratio = _by_stratum(name, column, strata, params["strataRatio"])
    if replaced:
        return _redrawn(table, column, f"round(count(*) * {ratio})", seed)
    if name.endswith("StreamOp"):
        return _kept(table, f"__u <= {ratio}", seed)
    return _smallest_of_strata(table, column, f"round(__n * ({ratio}))", seed)


def stratified_sample_with_size(name: str, params: Params, inputs: Sequence[Table]) -> Table:
    """Pick a number of rows of each stratum, the rows with the same value of ``strataCol``.

    ``strataSizes`` is ``"value:number,…"``; ``strataSize`` is the number of other values.
    """
    table, seed = inputs[0], seed_of(name)
    column = quoted(find_column(name, table.schema, params["strataCol"]))
    strata = _strata(name, params["strataSizes"], "strataSizes")
    for value in strata.values():
        if value != math.floor(value) or value < 0:
            raise bad_option(name, f"{name}: strataSizes are whole numbers, not {value}")
    size = _by_stratum(name, column, strata, params["strataSize"])
    if params["withReplacement"]:
        return _redrawn(table, column, size, seed)
    return _smallest_of_strata(table, column, size, seed)


def _redrawn(table: Table, column: str, wanted: str, seed: int) -> Table:
    """Draw ``wanted`` rows of each stratum, one perhaps several times."""
    return _query(
        table,
        f"""WITH numbered AS (SELECT *, row_number() OVER () AS __row FROM a),
        ranked AS (
            SELECT *, row_number() OVER (PARTITION BY {column} ORDER BY __row) - 1 AS __rank
            FROM numbered
        ),
        strata AS (
            SELECT {column} AS __stratum, count(*) AS __n, ({wanted})::BIGINT AS __wanted
            FROM a GROUP BY {column}
        ),
        draws AS (
            SELECT __stratum, {_place(f"__stratum, i, {seed}", "__n")} AS __drawn
            FROM (SELECT __stratum, __n, unnest(range(__wanted)) AS i FROM strata)
        )
        SELECT {_columns(table)} FROM ranked
        JOIN draws ON __drawn = __rank AND __stratum IS NOT DISTINCT FROM {column}
        ORDER BY __row""",
    )


def _kept(table: Table, predicate: str, seed: int) -> Table:
    """Keep rows, each by itself, by a predicate of __u."""
    return _query(
        table,
        f"""WITH numbered AS (SELECT *, row_number() OVER () AS __row FROM a),
        drawn AS (SELECT *, {_DRAWN.format(seed=seed)} AS __u FROM numbered)
        SELECT {_columns(table)} FROM drawn WHERE {predicate}""",
    )


def _split(self: AlgoOperator) -> Table:
    """Make both outputs; they are drawn alike, so each row is in one of them."""
    table = self._inputs[0]._table()
    share = _share(self._name, "fraction", self._get("fraction"))
    given = self._get("randomSeed")
    seed = seed_of("Split", given or 0)
    if self._kind == "stream":
        self._side_outputs = [_kept(table, f"__u > {share}", seed)]
        return _kept(table, f"__u <= {share}", seed)
    wanted = f"round(__n * {share})"
    self._side_outputs = [_smallest(table, wanted, seed, rest=True)]
    return _smallest(table, wanted, seed)


def shuffle(name: str, _params: Params, inputs: Sequence[Table]) -> Table:
    """Put the rows in a random order."""
    table = inputs[0]
    return _query(
        table,
        f"""SELECT {_columns(table)} FROM (SELECT *, row_number() OVER () AS __row FROM a)
        ORDER BY hash(__row, {seed_of(name)}), __row""",
    )


def append_id(name: str, params: Params, inputs: Sequence[Table]) -> Table:
    """Give each row its number, from 0, in a last column ``idCol``."""
    table, column = inputs[0], params["idCol"]
    if column.lower() in (c.lower() for c in table.columns):
        raise bad_option(name, f"{name}: there is a column {column!r} already", "set idCol")
    return _numbered(table, column)


def first_n(name: str, params: Params, inputs: Sequence[Table]) -> Table:
    """Take the first ``size`` rows."""
    return inputs[0].limit(_size(name, "size", params["size"]))


def rebalance(_name: str, _params: Params, inputs: Sequence[Table]) -> Table:
    """Give the rows as they are: the engine balances them by itself."""
    return inputs[0]


def speed_control(name: str, params: Params, inputs: Sequence[Table]) -> Table:
    """Let a row through each ``timeInterval`` seconds, at most."""
    interval = params["timeInterval"]
    if not 0 <= interval <= 3600:
        raise bad_option(name, f"{name}: timeInterval is within 0 and 3600 s, not {interval}")
    # Waits of a few milliseconds would be made up of overhead.
    rows = max(1, int(_PACE_S / interval)) if interval else 8192
    options = FunctionOptions(batch_rows=rows, workers=1, timeout=None)
    settings = {"interval": interval}
    return apply_step(inputs[0], name, "_sources.slowed", settings, [], None, options=options)


def declare() -> None:
    """Declare the operators of this module."""
    batch_and_stream("Sample", sample)
    operator("SampleWithSizeBatchOp", sample_with_size)
    operator("WeightSampleBatchOp", weight_sample)
    batch_and_stream("StratifiedSample", stratified_sample)
    operator("StratifiedSampleWithSizeBatchOp", stratified_sample_with_size)
    operator("ShuffleBatchOp", shuffle)
    batch_and_stream("AppendId", append_id)
    operator("FirstNBatchOp", first_n)
    batch_and_stream("Rebalance", rebalance)
    operator("SpeedControlStreamOp", speed_control)
    for name, base in (("SplitBatchOp", BatchOperator), ("SplitStreamOp", StreamOperator)):
        BUILT[name] = type(
            name,
            (base,),
            {
                "__doc__": "Divide the rows in two; the rest is the first side output.",
                "__module__": "alink.operators",
                "_name": name,
                "_parameters": catalogue()[name].parameters,
                "_link": _split,
            },
        )
