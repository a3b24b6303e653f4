"""Queries that call user functions: `registerFunction` and ``sqlQuery``.

The engine's SQL knows no Python functions. What a call gives is computed as a column of the
table whose columns the call names, and the query reads that column. A query within another one
that calls functions becomes a table first; so does each part of a UNION. Rows that WHERE leaves
out do not come to functions that stand elsewhere, where the query has one table.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from alink._diag import quote
from alink._options import bad_option
from alink._table import Table
from alink.operators._dialect import quoted, translate
from alink.operators._udf import UserFunction, with_rows

if TYPE_CHECKING:
    from alink._connection import Context

_Write = Callable[[str], str]

_NAME = "sqlQuery"
_TOKEN = re.compile(
    r"""\s+|--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`"""
    r"""|[A-Za-z_]\w*|\d[\w.]*|<>|<=|>=|!=|\|\||::|//|->>|->|\*\*|.""",
    re.DOTALL,
)
_WORD = re.compile(r"[A-Za-z_]\w*\Z|[\"`]")
# Words of SQL that are no columns; one that is missing here costs a question to the engine.
_WORDS = frozenset(
    [
        "ALL", "AND", "ANY", "AS", "ASC", "BETWEEN", "BIGINT", "BOOLEAN", "BOTH", "BY", "CASE",
        "CAST", "CROSS", "CURRENT", "CURRENT_DATE", "CURRENT_TIMESTAMP", "DATE", "DAY", "DECIMAL",
        "DESC", "DISTINCT", "DOUBLE", "ELSE", "END", "ESCAPE", "EXCEPT", "EXCLUDE", "EXISTS",
        "FALSE", "FILTER", "FIRST", "FLOAT", "FOLLOWING", "FOR", "FROM", "FULL", "GROUP", "HAVING",
        "HOUR", "ILIKE", "IN", "INNER", "INT", "INTEGER", "INTERSECT", "INTERVAL", "IS", "JOIN",
        "LAST", "LEADING", "LEFT", "LIKE", "LIMIT", "MINUTE", "MONTH", "NATURAL", "NOT", "NULL",
        "NULLS", "OFFSET", "ON", "OR", "ORDER", "OUTER", "OVER", "PARTITION", "PRECEDING", "RANGE",
        "REPLACE", "RIGHT", "ROW", "ROWS", "SECOND", "SELECT", "SMALLINT", "STRING", "THEN",
        "TIME", "TIMESTAMP", "TINYINT", "TRAILING", "TRUE", "UNBOUNDED", "UNION", "USING",
        "VARCHAR", "WHEN", "WHERE", "WITH", "YEAR",
    ]
)  # fmt: skip
_SETS = frozenset({"UNION", "INTERSECT", "EXCEPT", "MINUS"})
_AFTER_FROM = frozenset({"WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "OFFSET", "FETCH", "WINDOW"})
_JOINS = frozenset({"JOIN", "INNER", "LEFT", "RIGHT", "FULL", "OUTER", "CROSS", "NATURAL"})
_NO_ALIAS = _AFTER_FROM | _JOINS | _SETS | {"ON", "USING", "AS", ",", "(", ")", ".", ";", "LATERAL"}


def calls_functions(query: str, functions: Mapping[str, UserFunction]) -> bool:
    """Tell whether a query calls one of the functions."""
    return bool(functions) and _last_call(_tokens(query), functions) is not None


def query_with_functions(
    context: Context,
    query: str,
    tables: Mapping[str, Table],
    functions: Mapping[str, UserFunction],
    write: _Write,
) -> Table:
    """Make the table of a query that calls functions; names are in lower case.

    `write` gives SQL, that has no such calls any more, in DuckDB's words.
    """
    tokens = _tokens(query.strip().rstrip(";"))
    for i, token in enumerate(tokens):
        if token == "(":
            _close(tokens, i)
    return _Query(context, dict(tables), functions, write).run(tokens)


def _tokens(text: str) -> list[str]:
    """Cut a query into words and signs; space and comments stand before what follows them."""
    found = [t for t in _TOKEN.findall(text) if not t.isspace() and not t.startswith(("--", "/*"))]
    return found


def _text(tokens: Sequence[str]) -> str:
    """Put words and signs together; a name stays beside the point and the bracket behind it."""
    parts: list[str] = []
    for i, token in enumerate(tokens):
        if (i and not (token in ".(,)" or tokens[i - 1] in ".(")) or (
            i and token == "(" and tokens[i - 1].upper() in ("IN", "AS", "AND", "OR", "NOT", "ON")
        ):
            parts.append(" ")
        parts.append(token)
    return "".join(parts)


def _plain(name: str) -> str:
    """Give a name without its quotes."""
    if name[:1] in ('"', "`"):
        return name[1:-1].replace(name[0] * 2, name[0])
    return name


def _close(tokens: Sequence[str], start: int) -> int:
    """Find the bracket that ends what the one at `start` begins."""
    depth = 0
    for i in range(start, len(tokens)):
        depth += (tokens[i] == "(") - (tokens[i] == ")")
        if depth == 0:
            return i
    raise bad_option(_NAME, f"{_NAME}: a bracket is not closed: {_text(tokens[start:])!r:.80}")


def _outer(tokens: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Give the places and words, in upper case, that stand in no brackets."""
    depth = 0
    for i, token in enumerate(tokens):
        if token == ")":
            depth -= 1
        if depth == 0:
            yield i, token.upper()
        if token == "(":
            depth += 1


def _last_call(tokens: Sequence[str], functions: Mapping[str, UserFunction]) -> int | None:
    for i in range(len(tokens) - 2, -1, -1):
        called = tokens[i + 1] == "(" and _plain(tokens[i]).lower() in functions
        if called and (i == 0 or tokens[i - 1] != "."):
            return i
    return None


@dataclass
class _Source:
    """A table of FROM.

    Attributes
    ----------
    start, end : int
        Its tokens, its alias among them.
    table : Table
    alias : str
    hidden : list of str
        Columns that calls have added.
    """

    start: int
    end: int
    table: Table
    alias: str
    hidden: list[str] = field(default_factory=list)


class _Query:
    def __init__(
        self,
        context: Context,
        tables: dict[str, Table],
        functions: Mapping[str, UserFunction],
        write: _Write,
    ) -> None:
        self._context = context
        self._tables = tables
        self._functions = functions
        self._write = write
        self._count = 0

    def run(self, tokens: list[str]) -> Table:
        """Make the table of a query."""
        tokens = self._with(tokens)
        while (call := _last_call(tokens, self._functions)) is not None:
            inner = self._subquery(tokens, call)
            if inner is not None:
                start, end = inner
                name = self._named(self.run(tokens[start + 1 : end]))
                tokens[start + 1 : end] = ["SELECT", "*", "FROM", name]
                continue
            part = self._part(tokens, call)
            if part is not None:
                start, end = part
                name = self._named(self.run(tokens[start:end]))
                tokens[start:end] = ["SELECT", "*", "FROM", name]
                continue
            tokens = self._select(tokens)
        return self._context.sql(self._write(_text(tokens)), tables=self._tables)

    def _named(self, table: Table) -> str:
        self._count += 1
        name = f"__query{self._count}"
        self._tables[name] = table
        return name

    def _with(self, tokens: list[str]) -> list[str]:
        """Make tables of the queries that WITH names, if functions are called."""
        if not tokens or tokens[0].upper() != "WITH":
            return tokens
        at = 1
        while True:
            name = _plain(tokens[at]).lower()
            if tokens[at + 1].upper() != "AS" or tokens[at + 2] != "(":
                raise bad_option(
                    _NAME,
                    f"{_NAME}: a query with functions takes WITH name AS (…), "
                    f"not {_text(tokens[: at + 3])!r:.60}",
                )
            end = _close(tokens, at + 2)
            self._tables[name] = self.run(tokens[at + 3 : end])
            if tokens[end + 1] != ",":
                return tokens[end + 1 :]
            at = end + 2

    @staticmethod
    def _subquery(tokens: Sequence[str], call: int) -> tuple[int, int] | None:
        """Find the brackets of the innermost query that a call stands in."""
        depth = 0
        for i in range(call - 1, -1, -1):
            depth += (tokens[i] == ")") - (tokens[i] == "(")
            if depth < 0:
                if tokens[i + 1].upper() in ("SELECT", "WITH"):
                    return i, _close(tokens, i)
                depth = 0
        return None

    @staticmethod
    def _part(tokens: Sequence[str], call: int) -> tuple[int, int] | None:
        """Find the part of a UNION, or of its kin, that a call stands in."""
        cuts = [i for i, word in _outer(tokens) if word in _SETS]
        if not cuts:
            return None
        start = 0
        for i, word in _outer(tokens):
            if i < call and word == "SELECT":
                start = i
        ends = [i for i, word in _outer(tokens) if i > call and (word in _SETS or word == "ORDER")]
        return start, min(ends, default=len(tokens))

    # --- one SELECT ---

    def _select(self, tokens: list[str]) -> list[str]:
        words = dict(_outer(tokens))
        start = next((i for i, word in words.items() if word == "FROM"), None)
        if start is None:
            raise bad_option(
                _NAME, f"{_NAME}: a function is called without a table", "write SELECT f(x) FROM t"
            )
        end = min((i for i, w in words.items() if i > start and w in _AFTER_FROM), default=None)
        end = len(tokens) if end is None else end
        head, behind = self._named_calls(tokens[:start]), tokens[end:]
        middle, sources, renamed = self._sources(tokens[start + 1 : end])
        head, behind = (_renamed(part, renamed) for part in (head, behind))
        if len(sources) == 1:
            self._filtered(sources[0], behind)
        parts = [head, middle, behind]
        for part in parts:
            self._replace_calls(part, sources)
        for source in reversed(sources):
            name = self._named(source.table)
            middle[source.start : source.end] = [name, "AS", quoted(source.alias)]
        return [*_starred(head, sources), "FROM", *middle, *behind]

    def _named_calls(self, head: list[str]) -> list[str]:
        """Name the columns that are calls as Flink does."""
        named: list[str] = []
        number, start = 0, 1
        for cut in [*(i for i, word in _outer(head) if word == ","), len(head)]:
            item = head[start:cut]
            if item and self._is_call(item):
                item += ["AS", quoted(f"EXPR${number}")]
            named += [*([","] if number else []), *item]
            number, start = number + 1, cut + 1
        return [head[0], *named]

    def _is_call(self, item: Sequence[str]) -> bool:
        named = len(item) > 2 and item[1] == "(" and _plain(item[0]).lower() in self._functions
        return named and _close(item, 1) == len(item) - 1

    def _sources(
        self, middle: list[str]
    ) -> tuple[list[str], list[_Source], dict[tuple[str, str], list[str]]]:
        """Find the tables of FROM; those of LATERAL join the ones before them."""
        sources: list[_Source] = []
        renamed: dict[tuple[str, str], list[str]] = {}
        out: list[str] = []
        at, expected = 0, True
        while at < len(middle):
            word = middle[at].upper()
            if expected and word == "LATERAL":
                at = self._lateral(middle, at, out, sources, renamed)
                expected = False
            elif expected and (word == "(" or _WORD.match(middle[at])):
                at = self._source(middle, at, out, sources)
                expected = False
            else:
                expected = word in (",", "JOIN")
                step = _close(middle, at) + 1 if word == "(" else at + 1
                out += middle[at:step]
                at = step
        return out, sources, renamed

    def _source(self, middle: list[str], at: int, out: list[str], sources: list[_Source]) -> int:
        start = len(out)
        if middle[at] == "(":
            end = _close(middle, at)
            table, alias = self.run(middle[at + 1 : end]), f"__source{len(sources)}"
        else:
            end, alias = at, _plain(middle[at])
            found = self._tables.get(alias.lower())
            table = self._context.sql(f"SELECT * FROM {quoted(alias)}", tables=self._tables)
            table = table if found is None else found
        at = end + 1
        if at < len(middle) and middle[at].upper() == "AS":
            at += 1
        if at < len(middle) and middle[at].upper() not in _NO_ALIAS and _WORD.match(middle[at]):
            alias = _plain(middle[at])
            at += 1
        out.append("")
        sources.append(_Source(start, start + 1, table, alias))
        return at

    def _lateral(
        self,
        middle: list[str],
        at: int,
        out: list[str],
        sources: list[_Source],
        renamed: dict[tuple[str, str], list[str]],
    ) -> int:
        """Put the rows of LATERAL TABLE(f(…)) AS t(a, b) beside those of the table before it."""
        body, outer = at + 2, False
        if middle[at + 1].upper() != "TABLE" or middle[body] != "(" or not sources:
            raise bad_option(
                _NAME, f"{_NAME}: {_text(middle[at : at + 4])!r:.60}", "LATERAL TABLE(f(x)) AS t(a)"
            )
        end = _close(middle, body)
        function = self._functions.get(_plain(middle[body + 1]).lower())
        if function is None or not function.rows:
            raise bad_option(
                _NAME,
                f"{_NAME}: LATERAL TABLE takes a registered function made with udtf, "
                f"not {quote(middle[body + 1])}",
            )
        arguments = middle[body + 3 : end - 1]
        source = self._owner(arguments, sources)
        at, alias, names = self._lateral_names(middle, end + 1, function)
        while out and (out[-1] == "," or out[-1].upper() in _JOINS):
            outer = outer or out[-1].upper() == "LEFT"
            out.pop()
        if at + 1 < len(middle) and middle[at].upper() == "ON" and middle[at + 1].upper() == "TRUE":
            at += 2
        columns = source.table.schema.names
        taken = {column.lower() for column in columns}
        outputs = [n if n.lower() not in taken else f"__{alias}_{n}" for n in names]
        for name, output in zip(names, outputs, strict=True):
            renamed[alias.lower(), name.lower()] = [quoted(source.alias), ".", quoted(output)]
        call = self._arguments(arguments)
        source.table = with_rows(source.table, function, call, outputs, columns, outer)
        return at

    @staticmethod
    def _lateral_names(
        middle: list[str], at: int, function: UserFunction
    ) -> tuple[int, str, list[str]]:
        alias, names = f"__{function.name}", [f"f{i}" for i in range(len(function.results))]
        if at < len(middle) and middle[at].upper() == "AS":
            at += 1
        if at < len(middle) and middle[at].upper() not in _NO_ALIAS and _WORD.match(middle[at]):
            alias = _plain(middle[at])
            at += 1
            if at < len(middle) and middle[at] == "(":
                end = _close(middle, at)
                names = [_plain(t) for t in middle[at + 1 : end] if t != ","]
                at = end + 1
        if len(names) != len(function.results):
            raise bad_option(
                _NAME,
                f"{_NAME}: {alias} names {len(names)} columns, {function.name} gives "
                f"{len(function.results)}",
            )
        return at, alias, names

    def _filtered(self, source: _Source, behind: list[str]) -> None:
        """Leave out the rows that WHERE leaves out, before functions are called."""
        if not behind or behind[0].upper() != "WHERE":
            return
        ends = [i for i, word in _outer(behind) if i and word in _AFTER_FROM]
        condition = behind[1 : min(ends, default=len(behind))]
        if _last_call(condition, self._functions) is None and "SELECT" not in map(
            str.upper, condition
        ):
            source.table = source.table.filter(self._write(_text(_unqualified(condition))))

    def _replace_calls(self, part: list[str], sources: list[_Source]) -> None:
        while (call := _last_call(part, self._functions)) is not None:
            function = self._functions[_plain(part[call]).lower()]
            if function.rows:
                raise bad_option(
                    _NAME,
                    f"{_NAME}: {quote(_plain(part[call]))} gives rows",
                    f"write FROM t, LATERAL TABLE({part[call]}(…)) AS r(a, b)",
                )
            end = _close(part, call + 1)
            arguments = part[call + 2 : end]
            source = self._owner(arguments, sources)
            texts = self._arguments(arguments)
            kinds = source.table.select({f"a{i}": t for i, t in enumerate(texts)}).schema.types
            self._count += 1
            name = f"__call{self._count}"
            source.table = source.table.with_columns({name: function.scalar(kinds)(*texts)})
            source.hidden.append(name)
            part[call : end + 1] = [quoted(source.alias), ".", quoted(name)]

    def _arguments(self, tokens: Sequence[str]) -> list[str]:
        """Give the arguments of a call, each as SQL."""
        if not tokens:
            return []
        cuts = [-1, *(i for i, word in _outer(tokens) if word == ","), len(tokens)]
        return [
            self._write(_text(_unqualified(tokens[a + 1 : b]))) for a, b in itertools.pairwise(cuts)
        ]

    def _owner(self, arguments: Sequence[str], sources: Sequence[_Source]) -> _Source:
        """Find the table whose columns a call names."""
        if len(sources) == 1:
            return sources[0]
        owners: list[_Source] = []
        for i, token in enumerate(arguments):
            if not _WORD.match(token) or (i and arguments[i - 1] == "."):
                continue
            name = _plain(token).lower()
            if arguments[i + 1 : i + 2] == ["."]:
                found = [s for s in sources if s.alias.lower() == name]
            else:
                found = [s for s in sources if name in map(str.lower, s.table.schema.names)]
            owners += [source for source in found if source not in owners]
        if len(owners) != 1:
            raise bad_option(
                _NAME,
                f"{_NAME}: {_text(arguments)!r:.60}, what a function is called with, is of "
                f"{len(owners) or 'no'} tables",
                "join them in a query within: SELECT f(a, b) FROM (SELECT t.a, u.b FROM …)",
            )
        return owners[0]


def _unqualified(tokens: Sequence[str]) -> list[str]:
    """Leave out the names of tables before columns."""
    out: list[str] = []
    for i, token in enumerate(tokens):
        if tokens[i + 1 : i + 2] == ["."] and _WORD.match(token):
            continue
        if token == "." and i and _WORD.match(tokens[i - 1]):
            continue
        out.append(token)
    return out


def _renamed(tokens: list[str], renamed: Mapping[tuple[str, str], list[str]]) -> list[str]:
    """Write the columns of LATERAL as those of the table that they have joined."""
    out: list[str] = []
    i = 0
    while i < len(tokens):
        key = (
            _plain(tokens[i]).lower(),
            _plain(tokens[i + 2]).lower() if i + 2 < len(tokens) else "",
        )
        if tokens[i + 1 : i + 2] == ["."] and key in renamed:
            out += renamed[key]
            i += 3
        else:
            out.append(tokens[i])
            i += 1
    return out


def _starred(head: list[str], sources: Sequence[_Source]) -> list[str]:
    """Leave the columns of calls out of stars."""
    hidden = [name for source in sources for name in source.hidden]
    if not hidden:
        return head
    stars = [
        i
        for i, word in _outer(head)
        if word == "*" and (head[i - 1].upper() in ("SELECT", "DISTINCT", "ALL", ",", "."))
    ]
    out = list(head)
    for at in reversed(stars):
        of = hidden
        if head[at - 1] == ".":
            alias = _plain(head[at - 2]).lower()
            of = [n for s in sources if s.alias.lower() == alias for n in s.hidden]
        if of:
            listed = ", ".join(map(quoted, of))
            out[at : at + 1] = ["*", f"EXCLUDE ({listed})"]
    return out


def told_early(table: Table, query: str, inputs: Mapping[str, Table]) -> Table:
    """Have the engine look at a query now if it seems to name a column that is not there.

    What a column is called is known without the engine where the schemas of the inputs are. A
    word that is none of their columns, and of no use in SQL that is known here, costs a question
    to the engine; a query without such words costs nothing.

    Raises
    ------
    PlanError
        If there is no such column.
    """
    tokens = _tokens(translate(query))
    words = {_plain(token).lower() for token in tokens if _WORD.match(token)}
    used = [known for name, known in inputs.items() if name.lower() in words]
    schemas = [known._node.schema for known in used]
    if None in schemas:
        return table
    names = {name.lower() for name in inputs}
    names.update(name.lower() for schema in schemas if schema is not None for name in schema.names)
    before = ""
    for token, behind in itertools.zip_longest(tokens, tokens[1:], fillvalue=""):
        if _WORD.match(token) and behind != "(":
            name = _plain(token).lower()
            if before == "AS":
                names.add(name)
            elif name not in names and (token[:1] in '"`' or name.upper() not in _WORDS):
                table.schema  # noqa: B018 asks the engine, which raises
                break
        before = token.upper()
    return table


def run_sql(
    context: Any, query: str, tables: Mapping[str, Table], *, translated: bool = False
) -> Table:
    """Make the table of a query in Alink's SQL; it knows what `registerFunction` has named.

    A query that is `translated` is in DuckDB's words already, but for calls of such functions.
    """
    from alink.operators._session import session

    write: _Write = str if translated else translate
    functions: Mapping[str, UserFunction] = session().functions
    if calls_functions(query, functions):
        named = {name.lower(): table for name, table in tables.items()}
        return query_with_functions(context, query, named, functions, write)
    return context.sql(write(query), tables=tables)
