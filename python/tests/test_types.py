from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Optional

import pyarrow as pa
import pytest

import alink as al
from alink._types import annotated_result, format_type, parse_type, schema_fields, type_string

# Text, Arrow type, canonical text. engine/plan/types.go reads and writes the same.
TYPES = [
    ("null", pa.null(), "null"),
    ("BOOLEAN", pa.bool_(), "boolean"),
    ("bool", pa.bool_(), "boolean"),
    ("tinyint", pa.int8(), "tinyint"),
    ("byte", pa.int8(), "tinyint"),
    ("short", pa.int16(), "smallint"),
    ("int", pa.int32(), "integer"),
    ("long", pa.int64(), "bigint"),
    ("uint8", pa.uint8(), "utinyint"),
    ("usmallint", pa.uint16(), "usmallint"),
    ("uinteger", pa.uint32(), "uinteger"),
    ("ubigint", pa.uint64(), "ubigint"),
    ("real", pa.float32(), "float"),
    (" double ", pa.float64(), "double"),
    ("varchar", pa.string(), "string"),
    ("large_string", pa.large_string(), "large_string"),
    ("blob", pa.binary(), "binary"),
    ("large_binary", pa.large_binary(), "large_binary"),
    ("date", pa.date32(), "date"),
    ("time", pa.time64("us"), "time"),
    ("datetime", pa.timestamp("us"), "timestamp"),
    ("timestamp_s", pa.timestamp("s"), "timestamp_s"),
    ("timestamp_ms", pa.timestamp("ms"), "timestamp_ms"),
    ("timestamp_ns", pa.timestamp("ns"), "timestamp_ns"),
    ("timestamptz", pa.timestamp("us", tz="UTC"), "timestamptz"),
    ("interval", pa.month_day_nano_interval(), "interval"),
    ("decimal", pa.decimal128(18, 3), "decimal(18,3)"),
    ("numeric(10)", pa.decimal128(10, 0), "decimal(10,0)"),
    ("decimal( 10 , 2 )", pa.decimal128(10, 2), "decimal(10,2)"),
    ("int[]", pa.list_(pa.int32()), "list<integer>"),
    ("array<double>[]", pa.list_(pa.list_(pa.float64())), "list<list<double>>"),
    ("map<string, int[]>", pa.map_(pa.string(), pa.list_(pa.int32())), None),
    ("struct<>", pa.struct([]), "struct<>"),
    ("struct<a int, b: string>", pa.struct([("a", pa.int32()), ("b", pa.string())]), None),
    ('struct<"a ""b""": int, größe: int>',
     pa.struct([('a "b"', "int32"), ("größe", "int32")]), None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "arrow", "canonical"), TYPES, ids=[t[0] for t in TYPES])
def test_parse_and_format(text, arrow, canonical):
    assert parse_type(text) == arrow
    written = format_type(arrow)
    assert canonical is None or written == canonical
    assert parse_type(written) == arrow


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a type is expected"),
        ("dubble", "hint: did you mean double?"),
        ("int int", '"int" is left over'),
        ("decimal(0)", "out of range"),
        ("decimal(39)", "out of range"),
        ("decimal(5,6)", "out of range"),
        ("decimal(x)", "is not a number"),
        ("decimal(5", "lacks its )"),
        ("list", "< is expected"),
        ("list<int", "> is expected"),
        ("map<int>", "a comma is expected"),
        ("struct<a int b int>", "a comma is expected"),
        ("struct<a>", "a type is expected"),
        ("struct<a: int", "a comma is expected"),
        ('struct<"a: int>', "a name is expected"),
        ("list<" * 40 + "int" + ">" * 40, "nested deeper than 32"),
    ],
)
def test_texts_that_are_no_type(text, words):
    with pytest.raises(al.PlanError, match="ALK1006") as caught:
        parse_type(text)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "arrow", [pa.duration("s"), pa.decimal256(40, 2), pa.dictionary("int32", "string")]
)
def test_arrow_types_that_the_engine_lacks(arrow):
    with pytest.raises(al.PlanError, match="there is no such type"):
        type_string(arrow)


def test_schemas():
    expected = [{"name": "a b", "type": "double"}, {"name": "n", "type": "list<integer>"}]
    assert schema_fields('"a b" double, n: int[]') == expected
    assert schema_fields({"a b": "float64", "n": pa.list_(pa.int32())}) == expected
    assert (
        schema_fields(pa.schema([("a b", pa.float64()), ("n", pa.list_(pa.int32()))])) == expected
    )


@pytest.mark.parametrize("schema", ["", "a", "a int, A double", {}, {"a": 7}, 7, "a int,, b int"])
def test_texts_that_are_no_schema(schema):
    with pytest.raises(al.PlanError, match="ALK1006"):
        schema_fields(schema)


def function_without_future_annotations(annotation):
    def function(): ...

    function.__code__ = compile("def f(): ...", "f", "exec", dont_inherit=True).co_consts[0]
    function.__annotations__ = {"return": annotation}
    return function


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (float, "double"),
        (int, "bigint"),
        (bool, "boolean"),
        (str, "string"),
        (bytes, "binary"),
        (datetime.date, "date"),
        (datetime.datetime, "timestamp"),
        (datetime.time, "time"),
        (float | None, "double"),
        (Optional[int], "bigint"),  # noqa: UP045
        (list[float], "list<double>"),
        (dict[str, int], "map<string, bigint>"),
        (pa.float32(), "float"),
        ("float", "float"),
        ("decimal(5, 1)", "decimal(5,1)"),
    ],
    ids=str,
)
def test_annotations(annotation, expected):
    assert annotated_result(function_without_future_annotations(annotation)) == expected


def test_annotations_as_text():
    """With "from __future__ import annotations", which this file has."""

    def python_type() -> float: ...
    def type_text() -> "float": ...  # noqa: UP037
    def optional() -> datetime.date | None: ...
    def arrow() -> pa.list_(pa.int8()): ...  # pyright: ignore[reportInvalidTypeForm]
    def nothing(): ...

    assert annotated_result(python_type) == "double"
    assert annotated_result(type_text) == "float"
    assert annotated_result(optional) == "date"
    assert annotated_result(arrow) == "list<tinyint>"
    assert annotated_result(nothing) is None


@pytest.mark.parametrize("annotation", [object, list, int | str, Callable[[], int], None])
def test_annotations_that_say_nothing(annotation):
    with pytest.raises(al.PlanError, match="does not say which type it is"):
        annotated_result(function_without_future_annotations(annotation))


def test_annotation_that_cannot_be_evaluated():
    def function() -> Nothing: ...  # noqa: F821  # pyright: ignore

    with pytest.raises(al.PlanError, match="cannot be evaluated"):
        annotated_result(function)
