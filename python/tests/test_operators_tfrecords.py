"""TFRecords of examples: bytes by their definition, and what is written is read again."""

from __future__ import annotations

import datetime
import decimal
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import alink as al
from alink._algorithms import _tfrecords
from alink._algorithms._crc32c import checksums
from alink._algorithms._strings import Unreadable
from alink._algorithms._types import TENSOR
from pyalink import alink as pyalink
from pyalink.alink import BatchOperator, StreamOperator


def crc32c(data: bytes) -> int:
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = (register >> 1) ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def framed(data: bytes) -> bytes:
    def masked(part: bytes) -> bytes:
        crc = crc32c(part)
        return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def test_checksums() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720's check value
    data = np.random.default_rng(5).integers(0, 256, 3000, np.uint8).tobytes()
    parts = [(0, 0), (3, 1), (10, 255), (500, 256), (0, 3000), (77, 1000), (3000, 0)]
    starts, lengths = (np.array(numbers, np.int64) for numbers in zip(*parts, strict=True))
    wanted = [crc32c(data[start : start + length]) for start, length in parts]
    assert checksums(data, starts, lengths).tolist() == wanted
    assert len(checksums(b"", starts[:0], lengths[:0])) == 0


#: An example of a: [1, -1] and s: ["ü"], written down by the rules of protocol buffers.
EXAMPLE = bytes.fromhex(
    "0a27"  # features, 39 bytes
    "0a15" "0a0161" "1210" "1a0e" "0a0c" "01ffffffffffffffffff01" "00"  # a: 1, -1, 0
    "0a0e" "0a0173" "1209" "0a07" "0a02c3bc" "0a0178"  # s: "ü", "x"
)  # fmt: skip


def test_an_example_byte_by_byte() -> None:
    features = {"a": ("int64", [1, -1, 0]), "s": ("bytes", ["ü".encode(), b"x"])}
    assert _tfrecords.read_example(memoryview(EXAMPLE)) == features
    assert _tfrecords.write_example(features) == EXAMPLE
    assert _tfrecords.framed([EXAMPLE, b""]) == framed(EXAMPLE) + framed(b"")


def test_lists_that_are_not_packed_and_fields_that_are_not_known() -> None:
    floats = b"\x12\x0a" + b"\x0d" + struct.pack("<f", 1.5) + b"\x0d" + struct.pack("<f", -2)
    whole = b"\x1a\x04" + b"\x08\x05" + b"\x08\x07"
    unknown = b"\x20\x01" + b"\x2d" + bytes(4) + b"\x31" + bytes(8)
    entries = b""
    for name, feature in ((b"f", floats), (b"w", whole)):
        entry = b"\x0a\x01" + name + b"\x12" + bytes([len(feature)]) + feature + unknown
        entries += b"\x0a" + bytes([len(entry)]) + entry
    example = b"\x0a" + bytes([len(entries)]) + entries + unknown
    read = _tfrecords.read_example(memoryview(example))
    assert read == {"f": ("float", [1.5, -2.0]), "w": ("int64", [5, 7])}


SCHEMA = "i int, l bigint, sh smallint, d double, f float, o boolean, s string, v vector"
ROWS: list[list[Any]] = [
    [1, 2**62 + 1, -3, 1.5, 0.1, True, "plain", "1.0 2.5"],
    [-(2**31), -(2**63), 0, float("-inf"), 0.25, False, "ü 漢字 🙂\n", "$4$1:2.0"],
    [None] * 8,
    [0, 0, 0, -0.0, float("nan"), True, "", ""],
]


@pytest.mark.parametrize("form", ["Batch", "Stream"])
def test_what_is_written_is_read_again(form: str, tmp_path: Path) -> None:
    base = BatchOperator if form == "Batch" else StreamOperator
    path = tmp_path / "rows.tfrecord"
    rows = getattr(pyalink, f"MemSource{form}Op")(ROWS, SCHEMA)
    rows.link(getattr(pyalink, f"TFRecordDatasetSink{form}Op")().setFilePath(str(path)))
    assert not path.exists()
    base.execute()
    source = getattr(pyalink, f"TFRecordDatasetSource{form}Op")(filePath=str(path))
    read = source.setSchemaStr(SCHEMA).toTable().to_arrow()
    wanted = rows.toTable().to_arrow().to_pylist()
    wanted[1]["v"] = {"size": 4, "indices": None, "values": [0.0, 2.0, 0.0, 0.0]}
    wanted[3]["v"] = None  # a list of nothing is no value
    assert repr(read.to_pylist()) == repr(wanted)
    assert [p.name for p in tmp_path.iterdir()] == ["rows.tfrecord"]
    rows.link(getattr(pyalink, f"TFRecordDatasetSink{form}Op")().setFilePath(str(path)))
    with pytest.raises(al.Error, match="setOverwriteSink"):
        base.execute()


def test_a_folder_of_files_and_tensors(tmp_path: Path) -> None:
    (tmp_path / "_SUCCESS").write_text("")
    (tmp_path / "1").write_bytes(framed(EXAMPLE))
    (tmp_path / "2").write_bytes(b"")
    (tmp_path / "3").write_bytes(framed(EXAMPLE) * 2)
    source = pyalink.TFRecordDatasetSourceBatchOp().setFilePath(str(tmp_path))
    source.setSchemaStr("a INT_TENSOR, s tensor")
    columns = source.toTable().to_arrow().columns
    whole = {"type": "INT", "shape": [3], "data": struct.pack("<3i", 1, -1, 0), "texts": None}
    texts = {"type": "STRING", "shape": [2], "data": None, "texts": ["ü", "x"]}
    assert [column.to_pylist() for column in columns] == [[whole] * 3, [texts] * 3]


def read(data: bytes, schema: pa.Schema, path: Path, tensors: list[str] | None = None) -> Any:
    path.write_bytes(data)
    params = {"names": schema.names, "tensors": tensors or [""] * len(schema)}
    task = _tfrecords.read_files(params, schema.types)
    return task(pa.record_batch({"path": [str(path)]})).columns


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (framed(b"") + framed(EXAMPLE)[:-1], "the record at byte 16 is cut off"),
        (framed(EXAMPLE) + b"\x01", "the record at byte 57 is cut off"),
        (framed(EXAMPLE).replace(b"\x78", b"\x79"), "byte 0 is broken: its bytes do not"),
        (b"\x29" + framed(EXAMPLE)[1:] + b"\0\0\0\0", "cut off|byte 0 is broken"),
        (framed(EXAMPLE)[:8] + b"abcd" + framed(EXAMPLE)[12:], "byte 0 is broken: its length"),
        (framed(EXAMPLE) + framed(EXAMPLE[:-1]), "record 1 is no tf.train.Example"),
        (framed(b"\x0b"), "record 0 is no tf.train.Example"),
    ],
)
def test_broken_records(data: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=said) as error:
        read(data, pa.schema([("a", pa.int64())]), tmp_path / "file")
    assert str(tmp_path / "file") in str(error.value)


@pytest.mark.parametrize(
    ("kind", "name", "tensor", "said"),
    [
        (pa.float64(), "a", "", "feature 'a' of record 0: it has int64, and DOUBLE is of float"),
        (pa.int64(), "s", "", "it has bytes, and BIGINT is of int64"),
        (pa.int64(), "A", "", "has no feature 'A'; it has a"),
        (TENSOR, "s", "BYTE", "of different lengths"),
        (TENSOR, "a", "FLOAT", "it has int64, and FLOAT_TENSOR is of float"),
        (TENSOR, "a", "UBYTE", "too large for UBYTE_TENSOR"),
    ],
)
def test_features_of_other_types(
    kind: Any, name: str, tensor: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(Unreadable, match=said):
        read(framed(EXAMPLE), pa.schema([(name, kind)]), tmp_path / "file", [tensor])


def test_values_that_a_type_has_not(tmp_path: Path) -> None:
    large = _tfrecords.write_example({"a": ("int64", [2**40])})
    with pytest.raises(Unreadable, match="feature 'a': "):
        read(framed(large), pa.schema([("a", pa.int32())]), tmp_path / "file")
    no_text = _tfrecords.write_example({"a": ("bytes", [b"\xff"])})
    with pytest.raises(Unreadable, match="read them as VARBINARY"):
        read(framed(no_text), pa.schema([("a", pa.string())]), tmp_path / "file")
    assert read(framed(no_text), pa.schema([("a", pa.binary())]), tmp_path / "file")[0][
        0
    ].as_py() == (b"\xff")


def test_a_feature_that_an_example_lacks_is_null(tmp_path: Path) -> None:
    data = framed(EXAMPLE) + framed(_tfrecords.write_example({}))
    column = read(data, pa.schema([("a", pa.int64())]), tmp_path / "file")[0]
    assert column.to_pylist() == [1, None]


def test_bytes_decimals_and_tensors_of_bytes(tmp_path: Path) -> None:
    tensors = [
        {"type": "BYTE", "shape": [2, 2], "data": b"\x01\xff\x02\x03", "texts": None},
        {"type": "BYTE", "shape": [1], "data": b"\x07", "texts": None},
    ]
    batch = pa.record_batch(
        {
            "b": pa.array([b"\x00", None], pa.binary()),
            "n": pa.array([decimal.Decimal("1.5"), None], pa.decimal128(38, 18)),
            "t": pa.array(tensors, TENSOR),
        }
    )
    path = tmp_path / "file"
    with path.open("wb") as file:
        assert _tfrecords.write(file, batch.schema, [batch]) == 2
    columns = read(path.read_bytes(), batch.schema, path, ["", "", "BYTE"])
    assert [c.to_pylist() for c in columns[:2]] == [c.to_pylist() for c in batch.columns[:2]]
    assert [t["shape"] for t in columns[2].to_pylist()] == [[2, 2], [1, 1]]
    assert [t["data"] for t in columns[2].to_pylist()] == [b"\x01\xff\x02\x03", b"\x07"]


def test_types_that_examples_do_not_have(tmp_path: Path) -> None:
    rows = pyalink.MemSourceBatchOp([[datetime.datetime(2024, 1, 1)]], "t timestamp")
    sink = pyalink.TFRecordDatasetSinkBatchOp().setFilePath(str(tmp_path / "file"))
    with pytest.raises(al.Error, match="column 't': examples have no TIMESTAMP"):
        rows.link(sink)
    source = pyalink.TFRecordDatasetSourceBatchOp(filePath=str(tmp_path), schemaStr="t date")
    with pytest.raises(al.Error, match="examples have no DATE"):
        source.toTable()
    source = pyalink.TFRecordDatasetSourceBatchOp(filePath=str(tmp_path), schemaStr="t int")
    with pytest.raises(al.Error, match="holds 0 files"):
        source.toTable()
