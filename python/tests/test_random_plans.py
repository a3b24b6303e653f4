"""Random plans give what the same steps give in plain Python.

Each plan is made from a seed, which the failure tells with the plan's steps:
``ALINK_PLANS_SEED=123 pytest python/tests/test_random_plans.py`` runs that plan alone.
The seeds of a run begin at the same number every time, so that what it says is about the
change that it tests; ``ALINK_PLANS=2000`` runs so many plans with seeds that nobody has
tried (``make random-plans``).
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import math
import os
import random
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import alink as al

#: How many plans run, and for how long, with which seeds, if that is not said.
PLANS = int(os.environ.get("ALINK_PLANS", "0"))
FIRST_SEED = 169806357  # once found that a limit before a join lost rows
SECONDS = 25.0
#: Plans that call Python functions are slow, and fewer.
FUNCTIONS_SHARE = 0.3

Row = tuple[Any, ...]

INT, DOUBLE, STRING, DATE, BOOL, DECIMAL, LIST = (
    "bigint", "double", "string", "date", "boolean", "decimal(10,2)", "list<bigint>",
)  # fmt: skip
ARROW = {
    INT: pa.int64(),
    DOUBLE: pa.float64(),
    STRING: pa.string(),
    DATE: pa.date32(),
    BOOL: pa.bool_(),
    DECIMAL: pa.decimal128(10, 2),
    LIST: pa.list_(pa.int64()),
}
NAMES = ["a", "b", "c", "d", "e", "Name with space", "größe", "select", "f", "g"]


# --- functions ---


@al.udf("bigint")
def successor(x):
    return None if x is None else x + 1


@al.udf("double", batch="numpy")
def doubled(x):
    return x + x


@al.udf("bigint", batch="arrow")
def text_length(s):
    import pyarrow.compute as pc

    return pc.utf8_length(s).cast("int64")


@al.udtf("piece bigint")
def pieces(x):
    yield from range((x or 0) % 3)


@al.udaf("bigint", state="n bigint", on_null="skip")
class Total:
    def create(self):
        return (0,)

    def add(self, state, x):
        return (state[0] + sum(x.to_pylist()),)

    def merge(self, state, other):
        return (state[0] + other[0],)

    def result(self, state):
        return state[0]


# --- values ---


def value(r: random.Random, kind: str) -> Any:
    if r.random() < 0.15:
        return None
    if kind == INT:
        return r.randint(-3, 6)
    if kind == DOUBLE:
        return r.choice([math.nan, math.inf, -math.inf, 0.0, 0.5, -1.5, 2.0, 1e300])
    if kind == STRING:
        return r.choice(["", "a", "A", "b", "ab", "ß", "日本", "a b", "'", "NULL"])
    if kind == DATE:
        return datetime.date(1969, 12, 29) + datetime.timedelta(days=r.randint(0, 6))
    if kind == BOOL:
        return r.random() < 0.5
    if kind == DECIMAL:
        return Decimal(r.randint(-300, 300)).scaleb(-2)
    return [r.randint(0, 3) for _ in range(r.randint(0, 3))]


@functools.total_ordering
class Key:
    """A value as the engine compares it: NaN is the largest number and equals itself."""

    def __init__(self, x: Any) -> None:
        self.x: Any
        if isinstance(x, list):  # NULL is the largest element
            self.x = (0, [(y is None, y or 0) for y in x])
        else:
            self.x = (1, 0.0) if isinstance(x, float) and math.isnan(x) else (0, x)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and self.x == other.x

    def __lt__(self, other: Key) -> bool:
        return self.x < other.x

    def __hash__(self) -> int:
        return hash(str(self.x))


def rows_key(row: Row) -> str:
    """Give the same text for rows that are equal, NULL with NULL, and for no others."""
    return repr([x if x is None else Key(x).x for x in row])


@dataclasses.dataclass
class Model:
    """A table of the engine, and the rows that it must have."""

    table: al.Table
    names: list[str]
    kinds: list[str]
    rows: list[Row]
    #: Whether the order of the rows is promised.
    ordered: bool
    steps: list[str]

    def having(self, *kinds: str) -> list[int]:
        return [i for i, k in enumerate(self.kinds) if k in kinds]

    def then(self, table: al.Table, rows: list[Row], step: str, **changes: Any) -> Model:
        steps = [*self.steps, step]
        return dataclasses.replace(self, table=table, rows=rows, steps=steps, **changes)


def quoted(name: str) -> str:
    return '"' + name + '"'


class Plans:
    """Makes random plans; what it does depends on the seed alone."""

    def __init__(self, ctx: al.Context, seed: int, folder) -> None:
        self.ctx, self.folder = ctx, folder
        self.random = random.Random(seed)
        self.functions = self.random.random() < FUNCTIONS_SHARE
        self.made: list[Model] = []
        self.steps: list[str] = []

    def source(self) -> Model:
        r = self.random
        names = r.sample(NAMES, r.randint(1, 6))
        kinds = [r.choice(list(ARROW)) for _ in names]
        size = r.choice([0, 1, 3, 20, 40, 40, 2900])
        rows = [tuple(value(r, k) for k in kinds) for _ in range(size)]
        table = pa.table(
            {n: pa.array([row[i] for row in rows], ARROW[k])
             for i, (n, k) in enumerate(zip(names, kinds, strict=True))}
        )  # fmt: skip
        if r.random() < 0.4:
            path = self.folder / f"{len(self.made)}.parquet"
            pq.write_table(table, path, row_group_size=r.choice([1, 7, 100]))
            made = self.ctx.read_parquet(path)
        else:
            made = self.ctx.from_arrow(
                pa.Table.from_batches(table.to_batches(r.choice([1, 3, 100])), table.schema)
            )
        step = f"source{len(self.made)} {dict(zip(names, kinds, strict=True))} of {size} rows"
        model = Model(made, names, kinds, rows, True, [step])
        self.made.append(model)
        return model

    def plan(self) -> Model:
        model = self.source()
        for _ in range(self.random.randint(3, 8)):
            steps = list(STEPS)
            if self.functions:
                steps += FUNCTION_STEPS * 3
            while True:
                new = self.random.choice(steps)(self, model)
                if new is not None and len(new.rows) < 3000 and len(new.names) < 15:
                    break
            model, self.steps = new, new.steps
            if self.random.random() < 0.5:
                self.made.append(model)
        return model

    def fresh(self, model: Model) -> str:
        taken = {n.lower() for n in model.names}
        names = [*NAMES, *map("x{}".format, range(20))]
        return self.random.choice([n for n in names if n.lower() not in taken])

    # Expressions are SQL with what it means in Python.

    def expression(self, model: Model) -> tuple[str, str, Callable[[Row], Any]]:
        r = self.random
        i = r.randrange(len(model.names))
        name, kind = quoted(model.names[i]), model.kinds[i]

        def of(f: Callable[[Any], Any]) -> Callable[[Row], Any]:
            return lambda row: None if row[i] is None else f(row[i])

        n = r.randint(0, 4)
        choices: list[tuple[str, str, Callable[[Row], Any]]] = [
            (f"{name}", kind, lambda row: row[i]),
            (f"{name} IS NULL", BOOL, lambda row: row[i] is None),
        ]
        if kind == INT:
            choices += [
                (f"{name} % 3 + {n}", INT, of(lambda x: int(math.fmod(x, 3)) + n)),
                (f"coalesce({name}, {n})", INT, lambda row: n if row[i] is None else row[i]),
                (f"{name}::double", DOUBLE, of(float)),
                (f"{name}::varchar", STRING, of(str)),
                (f"range({name} % 3)", LIST, of(lambda x: list(range(int(math.fmod(x, 3)))))),
            ]
        elif kind == STRING:
            choices += [
                (f"upper({name})", STRING, of(lambda x: x.replace("ß", "ẞ").upper())),
                (f"{name} || 'z'", STRING, of(lambda x: x + "z")),
                (f"length({name})", INT, of(len)),
            ]
        elif kind == DATE:
            choices += [(f"year({name})", INT, of(lambda x: x.year))]
        elif kind == BOOL:
            choices += [(f"NOT {name}", BOOL, of(lambda x: not x))]
        elif kind == LIST:
            choices += [(f"len({name})", INT, of(len))]
        return r.choice(choices)

    def predicate(self, model: Model) -> tuple[str, Callable[[Row], bool | None]]:
        r = self.random
        i = r.randrange(len(model.names))
        name, kind = quoted(model.names[i]), model.kinds[i]
        if kind == LIST or r.random() < 0.2:
            return f"{name} IS NOT NULL", lambda row: row[i] is not None
        limit = None
        while limit is None:
            limit = value(r, kind)
        text = f"'{limit}'::{kind}" if kind != STRING else "'" + limit.replace("'", "''") + "'"
        sign, test = r.choice(
            [
                ("<", lambda a, b: a < b), ("<=", lambda a, b: a <= b), ("=", lambda a, b: a == b),
                ("<>", lambda a, b: a != b), (">", lambda a, b: a > b),
            ]
        )  # fmt: skip
        if kind == STRING and sign in "<><=":  # by bytes
            return (
                f"{name} {sign} {text}",
                lambda row: None if row[i] is None else test(row[i].encode(), limit.encode()),
            )
        return (
            f"{name} {sign} {text}",
            lambda row: None if row[i] is None else test(Key(row[i]), Key(limit)),
        )

    # Steps.

    def filter(self, m: Model) -> Model:
        text, test = self.predicate(m)
        return m.then(m.table.filter(text), [x for x in m.rows if test(x)], f"filter({text!r})")

    def conjunction(self, m: Model) -> Model:
        tests = [self.predicate(m) for _ in range(self.random.randint(2, 4))]
        text = " AND ".join(text for text, _ in tests)
        rows = [x for x in m.rows if all(test(x) for _, test in tests)]
        return m.then(m.table.filter(text), rows, f"filter({text!r})")

    def with_columns(self, m: Model) -> Model:
        text, kind, f = self.expression(m)
        return self.put(m, text, text, kind, f)

    def window(self, m: Model) -> Model:
        """Count the rows with the same value, which leaves all rows where they are."""
        i = self.random.randrange(len(m.names))
        counts: dict[str, int] = {}
        for x in m.rows:
            counts[rows_key((x[i],))] = counts.get(rows_key((x[i],)), 0) + 1
        text = f"count(*) OVER (PARTITION BY {quoted(m.names[i])})"
        return self.put(m, text, text, INT, lambda x: counts[rows_key((x[i],))])

    def put(self, m: Model, expr: Any, text: str, kind: str, f: Callable[[Row], Any]) -> Model:
        """Add a column, or replace one in its place."""
        if self.random.random() < 0.3:
            i = self.random.randrange(len(m.names))
        else:
            i = len(m.names)
        name = m.names[i] if i < len(m.names) else self.fresh(m)
        return m.then(
            m.table.with_columns({name: expr}),
            [(*x[:i], f(x), *x[i + 1 :]) for x in m.rows],
            f"with_columns({name!r}: {text!r})",
            names=[*m.names[:i], name, *m.names[i + 1 :]],
            kinds=[*m.kinds[:i], kind, *m.kinds[i + 1 :]],
        )

    def select(self, m: Model) -> Model:
        chosen = self.random.sample(range(len(m.names)), self.random.randint(1, len(m.names)))
        names = [m.names[i] for i in chosen]
        return m.then(
            m.table.select(*map(al.col, names)),
            [tuple(x[i] for i in chosen) for x in m.rows],
            f"select({names})",
            names=names,
            kinds=[m.kinds[i] for i in chosen],
        )

    def drop(self, m: Model) -> Model | None:
        if len(m.names) < 2:
            return None
        i = self.random.randrange(len(m.names))
        return m.then(
            m.table.drop(m.names[i]),
            [(*x[:i], *x[i + 1 :]) for x in m.rows],
            f"drop({m.names[i]!r})",
            names=[*m.names[:i], *m.names[i + 1 :]],
            kinds=[*m.kinds[:i], *m.kinds[i + 1 :]],
        )

    def rename(self, m: Model) -> Model:
        old, new = self.random.choice(m.names), self.fresh(m)
        names = [new if n == old else n for n in m.names]
        return m.then(m.table.rename({old: new}), m.rows, f"rename({old!r}: {new!r})", names=names)

    def limit(self, m: Model) -> Model | None:
        if not m.ordered:
            return None
        n, offset = self.random.randint(0, 30), self.random.choice([0, 0, 1, 5])
        return m.then(
            m.table.limit(n, offset), m.rows[offset : offset + n], f"limit({n}, {offset})"
        )

    def order_by(self, m: Model) -> Model:
        """Sort by some columns where the order is promised, else by all."""
        r = self.random
        keys = r.sample(range(len(m.names)), len(m.names))
        if m.ordered:
            keys = keys[: r.randint(1, 3)]
        rows, by = list(m.rows), []
        for i in keys:
            by.append((i, r.random() < 0.5, r.random() < 0.5))

        def sort_key(i: int) -> Callable[[Row], Any]:
            return lambda x: Key(x[i].encode() if isinstance(x[i], str) else x[i])

        for i, down, first in reversed(by):
            nulls = [x for x in rows if x[i] is None]
            others = sorted((x for x in rows if x[i] is not None), key=sort_key(i), reverse=down)
            rows = nulls + others if first else others + nulls
        texts = [
            f"{quoted(m.names[i])} {'DESC' if down else 'ASC'} NULLS {'FIRST' if first else 'LAST'}"
            for i, down, first in by
        ]
        return m.then(m.table.order_by(*texts), rows, f"order_by({texts})", ordered=True)

    def distinct(self, m: Model) -> Model | None:
        chosen = self.random.sample(range(len(m.names)), self.random.randint(1, len(m.names)))
        if self.random.random() < 0.5:
            chosen = list(range(len(m.names)))
        elif not m.ordered:
            return None
        seen: dict[str, Row] = {}
        for x in m.rows:
            seen.setdefault(rows_key(tuple(x[i] for i in chosen)), x)
        on = [m.names[i] for i in chosen]
        return m.then(m.table.distinct(*on), list(seen.values()), f"distinct({on})")

    def other(self, m: Model) -> Model:
        """Another table, a table that was made on the way, or this one."""
        pick = self.random.random()
        if pick < 0.3:
            return self.source()
        return m if pick < 0.5 else self.random.choice(self.made)

    def union(self, m: Model) -> Model | None:
        other = self.other(m)
        if self.random.random() < 0.5:
            if other.kinds != m.kinds:
                return None
            table, rows = m.table.union(other.table), m.rows + other.rows
            return m.then(table, rows, f"union({other.steps})", ordered=m.ordered and other.ordered)
        kinds = dict(zip(m.names, m.kinds, strict=True))
        lower = {n.lower(): n for n in m.names}
        for n, k in zip(other.names, other.kinds, strict=True):
            if kinds.setdefault(lower.get(n.lower(), n), k) != k:
                return None
        names = list(kinds)

        def put(model: Model) -> list[Row]:
            places = [model.names.index(n) if n in model.names else None for n in names]
            return [tuple(None if p is None else x[p] for p in places) for x in model.rows]

        return m.then(
            m.table.union(other.table, by_name=True),
            put(m) + put(other),
            f"union({other.steps}, by_name=True)",
            names=names,
            kinds=list(kinds.values()),
            ordered=m.ordered and other.ordered,
        )

    def join(self, m: Model) -> Model | None:
        other = self.other(m)
        r = self.random
        how = r.choice(["inner", "left", "right", "full", "semi", "anti", "cross"])
        nulls_equal = how != "cross" and r.random() < 0.3
        pairs = [(i, j) for i, k in enumerate(m.kinds) for j, o in enumerate(other.kinds) if k == o]
        keys: list[tuple[int, int]] = []
        if how != "cross":
            if not pairs:
                return None
            for i, j in r.sample(pairs, min(len(pairs), r.randint(1, 2))):
                if all(i != k and j != o for k, o in keys):
                    keys.append((i, j))
        return joined(m, other, how, keys, nulls_equal)

    def unnest(self, m: Model) -> Model | None:
        lists = m.having(LIST)
        if not lists:
            return None
        i, keep = self.random.choice(lists), self.random.random() < 0.5
        rows = [
            (*x[:i], y, *x[i + 1 :]) for x in m.rows for y in (x[i] or ([None] if keep else []))
        ]
        return m.then(
            m.table.unnest(m.names[i], keep_empty=keep),
            rows,
            f"unnest({m.names[i]!r}, keep_empty={keep})",
            kinds=[*m.kinds[:i], INT, *m.kinds[i + 1 :]],
        )

    def group_by(self, m: Model) -> Model:
        r = self.random
        keys = r.sample(range(len(m.names)), r.randint(0, min(3, len(m.names))))
        groups: dict[str, list[Row]] = {}
        for x in m.rows:
            groups.setdefault(rows_key(tuple(x[i] for i in keys)), []).append(x)
        if not keys and not groups:
            groups[""] = []
        aggregates: dict[str, tuple[Any, str, str, Callable[[list[Row]], Any]]] = {
            "n": ("count(*)", "count(*)", INT, len)
        }
        for number in range(r.randint(0, 3)):
            i = r.randrange(len(m.names))
            aggregates[f"agg{number}"] = self.aggregate(m, i)
        names = [m.names[i] for i in keys]
        if any(n in aggregates for n in names):  # of a group_by before
            return self.rename(m)
        exprs: Any = {n: e for n, (e, _, _, _) in aggregates.items()}
        table = m.table.group_by(*map(al.col, names)).agg(exprs) if keys else m.table.agg(exprs)
        rows = [
            (*(g[0][i] for i in keys), *(f(g) for _, _, _, f in aggregates.values()))
            for g in groups.values()
        ]
        texts = {n: t for n, (_, t, _, _) in aggregates.items()}
        return m.then(
            table,
            rows,
            f"group_by({names}).agg({texts})",
            names=[*names, *aggregates],
            kinds=[*(m.kinds[i] for i in keys), *(k for _, _, k, _ in aggregates.values())],
            ordered=len(rows) < 2,
        )

    def aggregate(self, m: Model, i: int) -> tuple[Any, str, str, Callable[[list[Row]], Any]]:
        name, kind = quoted(m.names[i]), m.kinds[i]

        def present(g: list[Row]) -> list[Any]:
            return [x[i] for x in g if x[i] is not None]

        def least(g: list[Row]) -> Any:
            order = Key if kind != STRING else str.encode
            return min(present(g), key=order, default=None)

        def most(g: list[Row]) -> Any:
            order = Key if kind != STRING else str.encode
            return max(present(g), key=order, default=None)

        choices: list[tuple[Any, str, str, Callable[[list[Row]], Any]]] = [
            (f"count({name})", f"count({name})", INT, lambda g: len(present(g))),
            (f"min({name})", f"min({name})", kind, least),
            (f"max({name})", f"max({name})", kind, most),
            (f"count(DISTINCT {name})", f"count(DISTINCT {name})", INT,
             lambda g: len({rows_key((x,)) for x in present(g)})),
        ]  # fmt: skip
        if m.ordered:
            choices += [
                (f"first({name})", f"first({name})", kind, lambda g: g[0][i] if g else None),
                (f"last({name})", f"last({name})", kind, lambda g: g[-1][i] if g else None),
            ]
        if m.ordered and kind == INT:
            text = f"list({name})"
            choices.append((text, text, LIST, lambda g: [x[i] for x in g] if g else None))
        if kind == INT:
            text = f"sum({name})"
            choices.append((text, text, INT, lambda g: sum(present(g)) if present(g) else None))
            if self.functions:
                choices += [(Total(al.col(m.names[i])), f"Total({name})", INT,
                             lambda g: sum(present(g)))] * 4  # fmt: skip
        return self.random.choice(choices)

    def cache(self, m: Model) -> Model:
        return m.then(m.table.cache(), m.rows, "cache()")

    def sql(self, m: Model) -> Model:
        text, test = self.predicate(m)
        query = f"WITH t AS (SELECT * FROM it) SELECT * FROM t WHERE {text}"
        rows = [x for x in m.rows if test(x)]
        made = self.ctx.sql(query, tables={"it": m.table})
        return m.then(made, rows, f"sql({query!r})", ordered=len(rows) < 2)

    # Functions.

    def scalar(self, m: Model) -> Model | None:
        kind = self.random.choice([INT, DOUBLE, STRING])
        columns = m.having(kind)
        if not columns:
            return None
        i = self.random.choice(columns)
        column = al.col(m.names[i])
        if kind == INT:
            call, text, f = successor(column), "successor", lambda x: x + 1
        elif kind == DOUBLE:
            call, text, f = doubled(column), "doubled", lambda x: x + x
        else:
            call, text, f = text_length(column), "text_length", len
            kind = INT
        text = f"{text}({m.names[i]})"
        return self.put(m, call, text, kind, lambda x: None if x[i] is None else f(x[i]))

    def function_filter(self, m: Model) -> Model | None:
        columns = m.having(INT)
        if not columns:
            return None
        i = self.random.choice(columns)
        rows = [x for x in m.rows if x[i] is not None and x[i] + 1 > 1]
        step = f"filter(successor({m.names[i]}) > 1)"
        return m.then(m.table.filter(successor(al.col(m.names[i])) > 1), rows, step)

    def lateral(self, m: Model) -> Model | None:
        columns = m.having(INT)
        if not columns or "piece" in m.names:
            return None
        i, left = self.random.choice(columns), self.random.random() < 0.5
        how = "left" if left else "inner"
        rows = []
        for x in m.rows:
            made = list(range((x[i] or 0) % 3)) or ([None] if how == "left" else [])
            rows += [(*x, y) for y in made]
        call = pieces(al.col(m.names[i]))
        return m.then(
            m.table.join_lateral(call, how=how),
            rows,
            f"join_lateral(pieces({m.names[i]}), {how!r})",
            names=[*m.names, "piece"],
            kinds=[*m.kinds, INT],
        )

    def map_batches(self, m: Model) -> Model:
        schema = pa.schema([(n, ARROW[k]) for n, k in zip(m.names, m.kinds, strict=True)])

        @al.map_batches(schema)
        def unchanged(batch):
            return batch

        return m.then(m.table.map_batches(unchanged), m.rows, "map_batches()")


def joined(
    m: Model, other: Model, how: str, keys: list[tuple[int, int]], nulls_equal: bool
) -> Model | None:
    """Join; the right side's columns get a suffix."""

    def match(x: Row, y: Row) -> bool:
        for i, j in keys:
            if x[i] is None or y[j] is None:
                if not (nulls_equal and x[i] is None and y[j] is None):
                    return False
            elif Key(x[i]) != Key(y[j]):
                return False
        return True

    same_name = {j for i, j in keys if m.names[i].lower() == other.names[j].lower()}
    taken = {n.lower() for n in m.names}
    right = [j for j in range(len(other.names)) if j not in same_name]
    right_names = [
        other.names[j] + "_r" if other.names[j].lower() in taken else other.names[j] for j in right
    ]
    lower = [n.lower() for n in [*m.names, *right_names]]
    if how in ("semi", "anti"):
        right, right_names = [], []
    elif len(set(lower)) < len(lower):
        return None
    if len(m.rows) * len(other.rows) > 40_000:
        return None
    rows: list[Row] = []
    met: set[int] = set()
    for x in m.rows:
        partners = [b for b, y in enumerate(other.rows) if match(x, y)]
        met.update(partners)
        if (how == "semi" and partners) or (how == "anti" and not partners):
            rows.append(x)
        if how in ("inner", "left", "right", "full", "cross"):
            rows += [(*x, *(other.rows[b][j] for j in right)) for b in partners]
            if not partners and how in ("left", "full"):
                rows.append((*x, *(None for _ in right)))
    if how in ("right", "full"):
        from_right = {i: j for i, j in keys if j in same_name}
        for b, y in enumerate(other.rows):
            if b not in met:
                left = [y[from_right[i]] if i in from_right else None for i in range(len(m.names))]
                rows.append((*left, *(y[j] for j in right)))
    on = {m.names[i]: other.names[j] for i, j in keys}
    options: dict[str, Any] = {"suffix": "_r"}
    if nulls_equal:
        options["nulls_equal"] = True
    if how != "cross":
        options["on"] = on
    table = m.table.join(other.table, how=how, **options)  # pyright: ignore[reportArgumentType]
    return m.then(
        table,
        rows,
        f"join({other.steps}, {how!r}, {options})",
        names=[*m.names, *right_names],
        kinds=[*m.kinds, *(other.kinds[j] for j in right)],
        ordered=len(rows) < 2,
    )


STEPS: list[Callable[[Plans, Model], Model | None]] = [
    Plans.filter, Plans.with_columns, Plans.with_columns, Plans.window, Plans.select,
    Plans.drop, Plans.rename,
    Plans.limit, Plans.limit, Plans.order_by, Plans.order_by, Plans.distinct, Plans.union,
    Plans.join, Plans.join, Plans.unnest, Plans.group_by, Plans.cache, Plans.sql,
]  # fmt: skip
FUNCTION_STEPS: list[Callable[[Plans, Model], Model | None]] = [
    Plans.scalar, Plans.scalar, Plans.function_filter, Plans.conjunction, Plans.lateral,
    Plans.map_batches,
]  # fmt: skip


def compare(got: pa.Table, names: list[str], rows: list[Row], ordered: bool) -> None:
    assert got.column_names == names
    columns = [c.to_pylist() for c in got.columns]
    have = list(map(rows_key, zip(*columns, strict=True)))
    want = list(map(rows_key, rows))
    if not ordered:
        have, want = sorted(have), sorted(want)
    assert have == want


def check(ctx: al.Context, seed: int, folder) -> None:
    plans = Plans(ctx, seed, folder)
    r = plans.random
    try:
        m = plans.plan()
        compare(m.table.to_arrow(), m.names, m.rows, m.ordered)
        # What is not asked for is left out, without changing the rest.
        few = sorted(r.sample(range(len(m.names)), r.randint(1, len(m.names))))
        chosen = m.table.select(*(al.col(m.names[i]) for i in few))
        rows = [tuple(x[i] for i in few) for x in m.rows]
        compare(chosen.to_arrow(), [m.names[i] for i in few], rows, m.ordered)
        assert m.table.count() == len(m.rows)
        if m.ordered:
            n = r.randint(0, 10)
            compare(chosen.limit(n).to_arrow(), [m.names[i] for i in few], rows[:n], True)
    except BaseException:
        print(f"seed {seed}:", *plans.steps, sep="\n  ")
        raise


def test_random_plans(shared_ctx, tmp_path):
    alone = os.environ.get("ALINK_PLANS_SEED")
    if alone is not None:
        check(shared_ctx, int(alone), tmp_path)
        return
    first = random.SystemRandom().getrandbits(31) if PLANS else FIRST_SEED
    end = time.monotonic() + SECONDS
    for number in range(PLANS or 10**6):
        if not PLANS and time.monotonic() > end:
            assert number > 20
            break
        folder = tmp_path / str(number)
        folder.mkdir()
        check(shared_ctx, first + number, folder)
