"""Values of Redis by their keys: texts, and rows in the form that Alink gives them there.

The key of rows is the row of the key columns, their value the row of the others, both as Flink
writes rows (see `_flink_rows`): a key is found by columns of the types that it was written of.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import redis
from redis import exceptions
from redis.backoff import ExponentialBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry

from ._chain import named
from ._flink_rows import FlinkRows, Misfit
from ._formats import text_column
from ._strings import Unreadable

# A server answers one command at a time: none is to keep others waiting.
_KEYS_MAX = 512
_BYTES_MAX = 4 << 20
_RETRIES = 2

#: What says that another node has a key, or will have.
_ELSEWHERE = (
    exceptions.AskError,
    exceptions.TryAgainError,
    exceptions.ClusterDownError,
    exceptions.ConnectionError,
)

_Item = TypeVar("_Item", bound=tuple[bytes, ...])


class Refused(Unreadable):
    """A server is not there, or does not do what it is asked."""


class Store:
    """A server, or a cluster of them. A worker connects when it has the first key, and stays so.

    Parameters
    ----------
    place : mapping
        ``addresses`` are hosts with their ports, of which only a cluster has several;
        ``cluster``, ``database``, ``timeoutMs`` of connecting and of each answer, and
        ``secret``, the variable of the environment that has the password, or None.
    """

    def __init__(self, place: Mapping[str, Any]) -> None:
        self._place = place
        self._cluster: bool = place["cluster"]
        self._connected: Any = None
        shown = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self._at]
        self._name = f"the Redis {'cluster' if self._cluster else 'server'} at {', '.join(shown)}"

    @property
    def _at(self) -> Sequence[tuple[str, int]]:
        addresses = self._place["addresses"]
        return addresses if self._cluster else addresses[:1]

    @property
    def _client(self) -> Any:
        if self._connected is None:
            place = self._place
            seconds = place["timeoutMs"] / 1000
            given: dict[str, Any] = {
                "password": os.environ[place["secret"]] if place["secret"] else None,
                "socket_timeout": seconds,
                "socket_connect_timeout": seconds,
                "protocol": 2,  # servers before 6 have no other
                # A connection that the server has closed is made anew.
                "retry": Retry(
                    ExponentialBackoff(cap=0.5, base=0.05), _RETRIES, (exceptions.ConnectionError,)
                ),
            }
            if self._cluster:
                nodes = [ClusterNode(host, port) for host, port in self._at]
                self._connected = RedisCluster(startup_nodes=nodes, **given)
            else:
                host, port = self._at[0]
                self._connected = redis.Redis(host, port, place["database"], **given)
        return self._connected

    def get(self, keys: Iterable[bytes], show: Callable[[int], str]) -> list[bytes | None]:
        """Give the values of keys, None where there is none.

        Parameters
        ----------
        keys : iterable of bytes
        show : callable
            Writes the key of a number, for messages.
        """
        found: list[bytes | None] = []
        with self._told():
            for some in _cut(zip(keys)):
                asked = [key for (key,) in some]
                given = [None] * len(asked) if self._cluster else self._client.mget(asked)
                wanted = [i for i, value in enumerate(given) if value is None]
                # To MGET what is no string is not there, though it exists; GET tells.
                if not self._cluster and not (
                    wanted and self._client.exists(*(asked[i] for i in wanted))
                ):
                    wanted = []
                answers = self._answers([("GET", asked[i]) for i in wanted])
                for i, value in zip(wanted, answers, strict=True):
                    if isinstance(value, Exception) and "WRONGTYPE" in str(value):
                        raise Unreadable(
                            f"the key {show(len(found) + i)} of {self._name} has no string but a "
                            "list, a hash or the like: WRONGTYPE"
                        )
                    given[i] = _result(value)
                found += given
        return found

    def set(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        """Set the values of keys, of equal keys the last one's; the server has said that it did."""
        with self._told():
            for some in _cut(pairs):
                if not self._cluster:
                    self._client.mset(dict(some))
                    continue
                for value in self._answers([("SET", *pair) for pair in dict(some).items()]):
                    _result(value)

    def _answers(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send commands on a key each, and give the answers, exceptions among them."""
        answers: list[Any] = [None] * len(commands)
        servers: dict[str, Any] = {"": self._client}
        commands_of: dict[str, list[int]] = {}
        for i, (_, key, *_) in enumerate(commands):
            name = ""
            if self._cluster:
                node = self._client.get_node_from_key(key)
                servers[name := node.name] = self._client.get_redis_connection(node)
            commands_of.setdefault(name, []).append(i)
        for name, places in commands_of.items():
            pipeline = servers[name].pipeline(transaction=False)
            for i in places:
                pipeline.execute_command(*commands[i])
            try:
                given = pipeline.execute(False)
            except exceptions.ConnectionError as error:
                given = [error] * len(places)
            for i, answer in zip(places, given, strict=True):
                answers[i] = answer
                if self._cluster and isinstance(answer, _ELSEWHERE):
                    # The client finds out which node it is now.
                    answers[i] = self._client.execute_command(*commands[i])
        return answers

    @contextlib.contextmanager
    def _told(self) -> Generator[None, None, None]:
        """Say what the server, its address or the network refuses in a sentence."""
        try:
            yield
        except (exceptions.RedisError, exceptions.RedisClusterException, OSError) as error:
            raise Refused(self._sentence(error)) from None

    def _sentence(self, error: BaseException) -> str:
        if isinstance(error, exceptions.RedisClusterException) and error.__cause__ is not None:
            error = error.__cause__
        words = str(error).strip().rstrip(".")
        name = self._name
        if isinstance(error, (exceptions.TimeoutError, TimeoutError)):
            return (
                f"{name} gave no answer in {self._place['timeoutMs']} ms: look at redisIPs, or "
                "let it take longer with setTimeout"
            )
        if isinstance(error, exceptions.AuthenticationError):
            if self._place["secret"] is None:
                return f"{name} wants a password, which setRedisPassword sets"
            return f"{name} refuses what setRedisPassword has set: {words}"
        elsewhere = (exceptions.MovedError, exceptions.ClusterCrossSlotError)
        if isinstance(error, elsewhere) and not self._cluster:
            return f"{name} is one of a cluster: setClusterMode(True)"
        if "cluster mode is not enabled" in words.lower():
            return f"{name} is none: setClusterMode(False)"
        if "DB index" in words:
            return f"{name} has no database {self._place['database']}, which databaseIndex names"
        if isinstance(error, (exceptions.ConnectionError, OSError)):
            reason = error.__cause__ or error.__context__
            if isinstance(reason, OSError) and reason.strerror:
                words = reason.strerror
            return (
                f"{name} cannot be reached ({words}): look at redisIPs, and whether the server "
                "runs and the engine's machine may connect to it"
            )
        return f"{name} refuses: {words}"


def _result(value: Any) -> Any:
    """Give an answer, or raise what it is."""
    if isinstance(value, Exception):
        raise value
    return value


def _cut(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    """Give lists of keys, or of keys and values, each no more than one command should have."""
    some: list[_Item] = []
    size = 0
    for item in items:
        size += sum(map(len, item))
        if some and (len(some) == _KEYS_MAX or size > _BYTES_MAX):
            yield some
            some, size = [], sum(map(len, item))
        some.append(item)
    if some:
        yield some


class LookupString:
    """Gives the value of the key that a column's text is; NULL where there is none, and of NULL."""

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        del types
        self._store = Store(params["place"])
        self._name: str = params["selectedCol"]

    def __call__(self, batch: pa.RecordBatch) -> list[pa.Array]:
        """Ask for each key of the batch once."""
        coded = pc.dictionary_encode(text_column(batch.column(self._name)))
        texts = coded.dictionary
        keys = texts.cast(pa.binary()).to_pylist()
        values = self._store.get(keys, lambda i: f"{texts[i].as_py()!r:.80}")
        try:
            found = pa.array(values, pa.binary()).cast(pa.string())
        except pa.ArrowInvalid:
            for key, value in zip(texts.to_pylist(), values, strict=True):
                if value is not None and not _is_text(value):
                    raise Unreadable(
                        f"the value of the key {key!r:.80} is no text in UTF-8: LookupRedisRow "
                        "reads rows"
                    ) from None
            raise
        return [found.take(coded.indices)]


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


class LookupRow:
    """Gives the columns of the row whose key is a row of some columns; NULL where there is none.

    Unlike elsewhere NULL is a key like others: Alink writes it into one.
    """

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        self._store = Store(params["place"])
        self._names: list[str] = params["selectedCols"]
        self._schema: str = params["outputSchemaStr"]
        self._rows = FlinkRows(pa.schema([(str(i), kind) for i, kind in enumerate(types)]))

    def __call__(self, batch: pa.RecordBatch) -> list[pa.Array]:
        """Ask for each key of the batch once."""
        columns = batch.select(self._names)
        keys = FlinkRows(columns.schema).encoded(columns.columns)
        coded = pc.dictionary_encode(pa.array(list(keys), pa.binary()))

        def show(i: int) -> str:
            row = columns.slice(pc.index(coded.indices, i).as_py(), 1).to_pylist()[0]
            return ", ".join(f"{name}={value!r:.40}" for name, value in row.items())

        values = self._store.get(coded.dictionary.to_pylist(), show)
        numbers = [i for i, value in enumerate(values) if value is not None]
        try:
            found = self._rows.decoded(values[i] or b"" for i in numbers)
        except Misfit as misfit:
            raise Unreadable(
                f"the value of the key {show(numbers[misfit.at])} is no row of "
                f"{self._schema!r:.200}, which outputSchemaStr says: {misfit}"
            ) from None
        places: list[int | None] = [None] * len(values)
        for place, i in enumerate(numbers):
            places[i] = place
        rows = pa.array(places, pa.int32()).take(coded.indices)
        return [column.take(rows) for column in found.columns]


def writer(spec: Mapping[str, Any]) -> Callable[[Iterator[pa.RecordBatch]], int]:
    """Make the function that sets a key for each row; it gives the number of rows.

    Parameters
    ----------
    spec : mapping
        ``operator``, its name for messages; ``place``, see `Store`; ``keys`` and ``values``,
        names of columns, and ``texts``, which says that there is one each and that what it has
        stands for itself.
    """
    store = Store(spec["place"])
    bytes_of = _text_bytes if spec["texts"] else _row_bytes

    def run(batches: Iterator[pa.RecordBatch]) -> int:
        rows = 0
        for batch in batches:
            with named(spec["operator"]):
                keys, values = (bytes_of(batch.select(spec[of])) for of in ("keys", "values"))
                store.set(zip(keys, values, strict=True))
            rows += batch.num_rows
        return rows

    return run


def _row_bytes(columns: pa.RecordBatch) -> Iterable[bytes]:
    return FlinkRows(columns.schema).encoded(columns.columns)


def _text_bytes(columns: pa.RecordBatch) -> Iterable[bytes]:
    column = columns.column(0)
    if column.null_count:
        name = columns.schema.names[0]
        raise Unreadable(
            f"the column {name!r:.60} has NULL, for which Redis has no text: leave such rows out"
        )
    return column.cast(pa.binary()).to_pylist()
