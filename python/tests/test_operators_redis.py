"""Values of Redis: what is written is found again, with how many commands, and what is told."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from redis.crc import key_slot
from redis_server import RedisServer

import alink as al
from alink import ml
from alink._algorithms import _redis
from alink._algorithms._strings import Unreadable
from alink._algorithms._types import parse_schema
from alink._plan import build_plan
from pyalink import alink as pyalink
from pyalink.alink import BatchOperator, StreamOperator

MOMENT = datetime.datetime(2024, 5, 6, 7, 8, 9, 123456)
VALUES = "l bigint, d double, o boolean, s string, t timestamp"
ROWS: list[list[Any]] = [
    ["a", 1, 2**62 + 1, 1.5, True, "plain", MOMENT],
    ["b", None, -(2**63), float("inf"), False, "ü 漢字 🙂", datetime.datetime(1, 1, 1)],
    [None, 3, None, None, None, None, None],
    [None, None, 0, -0.0, True, "", MOMENT],
]
PASSWORD = "hunter2-é"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as made:
        yield made


def place(server: RedisServer | str, **more: Any) -> dict[str, Any]:
    host, _, port = (server if isinstance(server, str) else server.address).rpartition(":")
    usual = {"cluster": False, "database": 0, "timeoutMs": 5000, "secret": None}
    return {"addresses": [[host, int(port)]], **usual, **more}


def texts(server: RedisServer | str, keys: list[str | None], **more: Any) -> list[Any]:
    lookup = _redis.LookupString({"place": place(server, **more), "selectedCol": "k"}, [])
    return lookup(pa.record_batch({"k": pa.array(keys, pa.string())}))[0].to_pylist()


def rows(server: RedisServer, batch: pa.RecordBatch, schema: str) -> list[Any]:
    given = {"place": place(server), "selectedCols": ["k", "n"], "outputSchemaStr": schema}
    columns = _redis.LookupRow(given, parse_schema(schema).types)(batch)
    return list(zip(*(column.to_pylist() for column in columns), strict=True))


def write(server: RedisServer, batches: list[pa.RecordBatch], **spec: Any) -> int:
    given = {"operator": "S", "place": place(server), **spec}
    return _redis.writer(given)(iter(batches))


@pytest.mark.parametrize("form", ["Batch", "Stream"])
def test_what_is_written_is_found_again(form: str) -> None:
    base = BatchOperator if form == "Batch" else StreamOperator
    with RedisServer(PASSWORD) as server:
        at = {"pluginVersion": "2.9.0", "redisIPs": [server.address], "redisPassword": PASSWORD}

        def made(name: str, **params: Any) -> Any:
            return getattr(pyalink, f"{name}{form}Op")(**at, **params)

        data = getattr(pyalink, f"MemSource{form}Op")(ROWS, f"k string, n int, {VALUES}")
        data.link(made("RedisRowSink", keyCols=["k", "n"]))
        some = data.select("k, s").filter("s IS NOT NULL AND k IS NOT NULL")
        some.link(made("RedisStringSink", keyCol="k", valueCol="s"))
        assert server.data == {}
        base.execute()
        assert len(server.data) == len(ROWS) + 2
        keys = data.select("n, k")
        row = made("LookupRedisRow", selectedCols=["k", "n"], outputSchemaStr=VALUES)
        found = keys.link(row).toTable()
        assert repr(found.to_arrow().to_pylist()) == repr(
            data.select(f"n, k, {', '.join('ldost')}").toTable().to_arrow().to_pylist()
        )
        stage = pyalink.LookupRedisString(**at, selectedCol="k", outputCol="v", reservedCols=["n"])
        looked = pyalink.Pipeline(stage).fit(BatchOperator.fromTable(keys.toTable()))
        assert looked.transform(keys).toTable().to_arrow().to_pydict() == {
            "n": [1, None, 3, None],
            "v": ["plain", "ü 漢字 🙂", None, None],
        }
    plan = build_plan(found._node).json
    assert list(plan.pop("secrets").values()) == [PASSWORD]  # which the engine shows nowhere
    for text in (found.explain(), json.dumps(plan, ensure_ascii=False), repr(row), repr(found)):
        assert PASSWORD not in text


def test_rows_and_keys_are_flinks(server: RedisServer) -> None:
    """The bytes are those of Flink's RowSerializer: NULLs, then numbers high bytes first."""
    batch = pa.record_batch(
        {
            "k": ["a", "é"],
            "n": pa.array([1, None], pa.int32()),
            "s": ["xy", None],
            "d": [1.0, 2.0],
        }
    )
    assert write(server, [batch], keys=["k", "n"], values=["s", "d"], texts=False) == 2
    assert server.data == {
        b"\x00\x02a\x00\x00\x00\x01": b"\x00\x03xy\x3f\xf0" + bytes(6),
        b"\x40\x02\xe9\x01": b"\x80\x40" + bytes(7),
    }
    assert rows(server, batch, "s string, d double") == [("xy", 1.0), (None, 2.0)]


def test_a_key_is_asked_for_once_and_many_at_a_time(server: RedisServer) -> None:
    known = pa.record_batch({"k": [f"k{i}" for i in range(1000)], "v": ["v"] * 1000})
    assert write(server, [known, known], keys=["k"], values=["v"], texts=True) == 2000
    assert [command[0] for command in server.commands] == [b"MSET"] * 4
    server.commands.clear()
    assert texts(server, ["k1", "k2", None, "k1", "no", "k2"] * 500) == [
        "v", "v", None, "v", None, "v",
    ] * 500  # fmt: skip
    assert server.commands == [[b"MGET", b"k1", b"k2", b"no"], [b"EXISTS", b"no"]]
    server.commands.clear()
    assert texts(server, []) == []
    assert texts(server, [None]) == [None]
    assert server.commands == []


def test_what_is_large_goes_in_parts(server: RedisServer) -> None:
    large = pa.record_batch({"k": ["a", "b", "a"], "v": ["x" * (3 << 20), "y", "z" * (3 << 20)]})
    write(server, [large], keys=["k"], values=["v"], texts=True)
    assert [len(command) for command in server.commands] == [5, 3]
    assert server.data[b"a"] == b"z" * (3 << 20)  # of equal keys the last one's


def test_keys_of_other_types_are_texts(server: RedisServer) -> None:
    server.data = {b"1.0": b"one", b"true": b"yes"}
    lookup = _redis.LookupString({"place": place(server), "selectedCol": "k"}, [])
    for values in ([1.0, None], [True, None]):
        batch = pa.record_batch({"k": values})
        assert lookup(batch)[0].to_pylist()[1] is None
        assert lookup(batch)[0].to_pylist()[0] in ("one", "yes")


def test_what_does_not_fit_names_the_key(server: RedisServer) -> None:
    batch = pa.record_batch({"k": ["a", "b"], "n": pa.array([1, 2], pa.int32()), "s": ["x", "é"]})
    write(server, [batch], keys=["k", "n"], values=["s"], texts=False)
    server.data |= {b"list": [b"x"], b"bytes": b"\xff"}
    with pytest.raises(Unreadable, match=r"'list' of the Redis server .* WRONGTYPE"):
        texts(server, ["no", "list"])
    with pytest.raises(Unreadable, match="the value of the key 'bytes' is no text"):
        texts(server, ["no", "bytes"])
    for schema, why in [
        ("s string, d double", "a field is longer than its row"),
        ("b tinyint", "its fields end after 2 of 3 bytes"),
    ]:
        with pytest.raises(Unreadable, match=f"key k='a', n=1 is no row of '{schema}'.*{why}"):
            rows(server, batch, schema)
    nulls = pa.record_batch({"k": ["a", None], "v": ["x", "y"]})
    for keys, values in (("k", "v"), ("v", "k")):
        with pytest.raises(Unreadable, match=r"S: the column 'k' has NULL.*leave such rows out"):
            write(server, [nulls], keys=[keys], values=[values], texts=True)


@pytest.mark.parametrize(
    ("command", "answer", "told"),
    [
        (b"MGET", "-OOM command not allowed", "refuses: command not allowed"),
        (b"MGET", "-MOVED 1 127.0.0.1:1", r"setClusterMode\(True\)"),
        (b"MGET", "-CROSSSLOT Keys in request", r"setClusterMode\(True\)"),
        (b"MGET", "-NOPERM no permissions", "refuses: no permissions"),
        (b"MSET", "-READONLY a replica", "refuses: a replica"),
    ],
)
def test_what_the_server_refuses_is_told(
    server: RedisServer, command: bytes, answer: str, told: str
) -> None:
    server.instead = {command: [answer]}
    pattern = f"the Redis server at {server.address}.*{told}"
    if command == b"MGET":
        with pytest.raises(Unreadable, match=pattern):
            texts(server, ["a"])
        return
    batch = pa.record_batch({"k": ["a"], "v": ["b"]})
    with pytest.raises(Unreadable, match=f"S: {pattern}"):
        write(server, [batch], keys=["k"], values=["v"], texts=True)


def test_a_server_that_is_not_there_is_told(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_redis, "_RETRIES", 0)
    with RedisServer() as gone:
        pass
    with pytest.raises(Unreadable, match=r"cannot be reached \(Connection refused\).*redisIPs"):
        texts(gone, ["a"])
    with pytest.raises(Unreadable, match=r"cluster .* cannot be reached"):
        texts(gone, ["a"], cluster=True)
    with pytest.raises(Unreadable, match=r"is none: setClusterMode\(False\)"):
        texts(server, ["a"], cluster=True)
    with pytest.raises(Unreadable, match="has no database 16, which databaseIndex names"):
        texts(server, ["a"], database=16)
    server.password = PASSWORD
    with pytest.raises(Unreadable, match="wants a password, which setRedisPassword sets"):
        texts(server, ["a"])
    monkeypatch.setenv("WRONG", "wr0ng")
    with pytest.raises(Unreadable, match="refuses what setRedisPassword has set") as caught:
        texts(server, ["a"], secret="WRONG")
    assert "wr0ng" not in str(caught.value)


def test_a_server_that_is_silent_is_not_waited_for(server: RedisServer) -> None:
    server.shutdown()  # connections are made, and nobody answers
    with pytest.raises(Unreadable, match=r"no answer in 50 ms.*setTimeout"):
        texts(server, ["a"], timeoutMs=50)


def test_a_connection_that_was_closed_is_made_anew(server: RedisServer) -> None:
    server.data = {b"a": b"x"}
    server.instead = {b"MGET": [None], b"MSET": [None]}
    assert texts(server, ["a"]) == ["x"]
    batch = pa.record_batch({"k": ["a"], "v": ["y"]})
    assert write(server, [batch], keys=["k"], values=["v"], texts=True) == 1
    assert texts(server, ["a"]) == ["y"]


def test_the_nodes_of_a_cluster_have_their_keys(server: RedisServer) -> None:
    names = [f"k{i}" for i in range(40)]
    batch = pa.record_batch({"k": names, "v": names})
    with RedisServer() as other:
        server.nodes = other.nodes = [server, other]
        at = place(server, cluster=True)
        write(server, [batch], keys=["k"], values=["v"], texts=True, place=at)
        assert min(len(server.data), len(other.data)) > 5
        assert sorted([*server.data, *other.data]) == sorted(name.encode() for name in names)
        # What has moved is asked for where it is now.
        key = next(iter(server.data))
        other.data[key] = b"moved"
        server.instead = {b"GET": [f"-MOVED {key_slot(key)} {other.address}"] * 2}
        server.data = {key: b"old"}
        assert texts(server, [key.decode()], cluster=True) == ["moved"]


def mistakes() -> list[tuple[str, dict[str, Any], str]]:
    row, text, rows = "RedisRowSinkBatchOp", "RedisStringSinkBatchOp", "LookupRedisRowBatchOp"
    keyed = {"keyCol": "k", "valueCol": "k"}
    return [
        (text, {"redisIPs": None, **keyed}, 'needs the parameter "redisIPs"'),
        (text, {"valueCol": "k"}, 'needs the parameter "keyCol"'),
        (text, {"keyCol": "k", "valueCol": "x"}, "is DOUBLE, keys and values are STRING"),
        (text, {"redisIPs": ["a:b"], **keyed}, "no address: 'a:b'"),
        (text, {"redisIPs": ["a:0"], **keyed}, "no address"),
        (text, {"redisIPs": ["u:hunter2@a:1"], **keyed}, "no address"),
        (text, {"databaseIndex": -1, **keyed}, "'databaseIndex' cannot be -1"),
        (text, {"databaseIndex": 1, "clusterMode": True, **keyed}, "a cluster has database 0"),
        (text, {"timeout": 0, **keyed}, "'timeout' is 1 ms or more"),
        (row, {}, "'keyCols' names no column"),
        (row, {"keyCols": ["k", "x", "v"]}, "all columns are keys"),
        (row, {"keyCols": ["k"]}, 'column "v" is VECTOR'),
        (row, {"keyCols": ["z"]}, "z"),
        (rows, {"selectedCols": ["k"], "outputSchemaStr": "v"}, "outputSchemaStr 'v': "),
        (rows, {"selectedCols": ["v"], "outputSchemaStr": "a int"}, "VECTOR"),
        ("LookupRedisStringBatchOp", {"selectedCol": "z"}, "z"),
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "given", "told"), mistakes())
def test_mistakes_are_told(name: str, given: dict[str, Any], told: str) -> None:
    data = pyalink.MemSourceBatchOp([["a", 1.0, "1 2"]], "k string, x double, v string")
    data = data.link(pyalink.ToVectorBatchOp(selectedCol="v"))
    made = getattr(pyalink, name)(**{"pluginVersion": "1", "redisIPs": ["h"], **given})
    with pytest.raises(al.PlanError) as caught:
        data.link(made).toTable()
    assert told in str(caught.value)
    assert "hunter2" not in caught.value.diagnostic.message


def test_addresses_have_the_ports_that_alink_gives() -> None:
    from alink.operators._redis import _place

    params: dict[str, Any] = dict.fromkeys(("databaseIndex", "timeout", "redisPassword"))
    given = {**params, "redisIPs": ["a", "[::1]:7", "10.0.0.1:8"]}
    assert _place("x", {**given, "clusterMode": False})[0]["addresses"] == [
        ("a", 6379), ("::1", 7), ("10.0.0.1", 8),
    ]  # fmt: skip
    assert _place("x", {**given, "clusterMode": True})[0]["addresses"][0] == ("a", 7000)
    assert "[::1]:7" in _redis.Store(place("::1:7"))._name


def test_a_password_is_neither_shown_nor_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at: dict[str, Any] = {"pluginVersion": "1", "redisIPs": ["127.0.0.1:1"], "selectedCol": "k"}
    for wrong in (
        lambda: pyalink.LookupRedisString().setRedisPassword(20240506),  # type: ignore[arg-type]
        lambda: ml.LookupRedisString(redis_password=20240506),  # type: ignore[arg-type]
    ):
        with pytest.raises(al.PlanError, match="it is a string") as caught:
            wrong()
        assert "20240506" not in str(caught.value)
    assert PASSWORD not in repr(ml.LookupRedisString(redis_password=PASSWORD, column="k"))
    saved = []
    for password in (PASSWORD, "${OF_REDIS}"):
        stage = pyalink.LookupRedisString(redisPassword=password, **at)
        rows = pyalink.PipelineModel(stage).save().toTable().to_arrow()
        saved.append(json.dumps(rows.to_pylist(), ensure_ascii=False))
    assert "hunter2" not in saved[0]
    assert "${OF_REDIS}" in saved[1]
    data = pyalink.MemSourceBatchOp([["a"]], "k string")
    looked = data.link(pyalink.LookupRedisStringBatchOp(redisPassword="${OF_REDIS}", **at))
    with pytest.raises(al.PlanError, match="needs the secret OF_REDIS, which is not set"):
        looked.collectToDataframe()
    monkeypatch.setenv("OF_REDIS", PASSWORD)
    assert build_plan(looked.toTable()._node).json["secrets"] == {"OF_REDIS": PASSWORD}
