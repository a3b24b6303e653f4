"""Sheets of spreadsheets: what is written is read again, and cells of all kinds are read."""

from __future__ import annotations

import datetime
import decimal
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import alink as al
from alink._algorithms._sheets import _cell as cell_of
from alink._algorithms._strings import Unreadable
from alink._algorithms._types import parse_type
from pyalink import alink as pyalink
from pyalink.alink import BatchOperator, StreamOperator

MOMENT = datetime.datetime(2024, 5, 6, 7, 8, 9, 123000)
FINE = MOMENT.replace(microsecond=1)
BEFORE = datetime.datetime(1900, 2, 28, 1, 2, 3)
SCHEMA = (
    "i int, l bigint, d double, f float, o boolean, s string, t timestamp, v vector, "
    "day date, clock time, n decimal"
)
N = decimal.Decimal
ROWS: list[list[Any]] = [
    [1, 2**62 + 1, 1.5, 0.1, True, "plain", MOMENT, "1.0 2.5",
     datetime.date(2024, 2, 29), datetime.time(1, 2, 3, 4000), N("0.125")],
    [-(2**31), -(2**63), -1e-7, float("inf"), False, "=1+2", FINE, "$4$1:2.0",
     datetime.date(1899, 1, 1), datetime.time(0, 0, 0, 1), N("12345678901234567890.5")],
    [None, 10**15 - 1, None, None, None, "ü 漢字 🙂\x01\n_x0041_ <&>", BEFORE, "",
     None, datetime.time(23, 59, 59), None],
    [None] * 11,
    [0, 0, -0.0, float("nan"), True, "12", None, "$3$",
     datetime.date(9999, 12, 31), None, N(0)],
]  # fmt: skip


def table(rows: Sequence[Sequence[Any]] = ROWS, schema: str = SCHEMA) -> al.Table:
    fields = [(word.split()[0], parse_type(word.split()[1])) for word in schema.split(", ")]
    columns = [list(column) for column in zip(*rows, strict=True)]
    arrays = []
    for (_, kind), values in zip(fields, columns, strict=True):
        arrays.append(pa.array(values, pa.string() if pa.types.is_struct(kind) else kind))
    names = [name for name, _ in fields]
    made = al.from_arrow(pa.table(dict(zip(names, arrays, strict=True))))
    vectors = [name for name, kind in fields if pa.types.is_struct(kind)]
    for name in vectors:
        op = pyalink.ToVectorBatchOp(selectedCol=name)
        made = BatchOperator.fromTable(made).link(op).toTable().select(*names)
    return made


@pytest.mark.parametrize("form", ["Batch", "Stream"])
def test_what_is_written_is_read_again(form: str, tmp_path: Path) -> None:
    base = BatchOperator if form == "Batch" else StreamOperator
    path = tmp_path / "rows.xlsx"
    rows = table()
    base.fromTable(rows).link(getattr(pyalink, f"XlsSink{form}Op")().setFilePath(str(path)))
    assert not path.exists()
    base.execute()
    source = getattr(pyalink, f"XlsSource{form}Op")().setFilePath(str(path)).setSchemaStr(SCHEMA)
    wanted = rows.to_arrow().to_pylist()
    del wanted[3]  # a row without any value is none
    wanted[2]["v"] = None  # the text of an empty vector is empty
    assert repr(source.toTable().to_arrow().to_pylist()) == repr(wanted)
    assert [p.name for p in tmp_path.iterdir()] == ["rows.xlsx"]
    base.fromTable(rows).link(getattr(pyalink, f"XlsSink{form}Op")().setFilePath(str(path)))
    with pytest.raises(al.Error, match="setOverwriteSink"):
        base.execute()


def book(path: Path, *sheets: str) -> str:
    """Write an .xlsx file whose sheets have these rows."""
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    relations = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    numbers = range(1, len(sheets) + 1)
    listed = "".join(f'<sheet name="S{i}" sheetId="{i}" r:id="r{i}"/>' for i in numbers)
    kinds = "application/vnd.openxmlformats-officedocument.spreadsheetml."
    files = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.'
        'relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{kinds}sheet.main+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" '
        f'Type="{relations}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{relations}"><sheets>{listed}'
        "</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships">'
        + "".join(
            f'<Relationship Id="r{i}" Type="{relations}/worksheet" '
            f'Target="worksheets/sheet{i}.xml"/>'
            for i in numbers
        )
        + "</Relationships>",
    }
    for i, rows in zip(numbers, sheets, strict=True):
        files[f"xl/worksheets/sheet{i}.xml"] = (
            f'<worksheet xmlns="{main}"><sheetData>{rows}</sheetData></worksheet>'
        )
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, '<?xml version="1.0" encoding="UTF-8"?>' + text)
    return str(path)


def text(place: str, content: str) -> str:
    return f'<c r="{place}" t="inlineStr"><is><t xml:space="preserve">{content}</t></is></c>'


FIRST = (
    f'<row r="2">{text("A2", "name")}{text("B2", "count")}</row>'
    f'<row r="3">{text("A3", "ü")}<c r="B3"><f>1+2</f><v>3</v></c></row>'
    '<row r="5"><c r="A5"><v>2</v></c><c r="B5" t="e"><v>#N/A</v></c></row>'
    f'<row r="6"><c r="A6" t="b"><v>1</v></c>{text("B6", " 7 ")}</row>'
)
SECOND = (
    f'<row r="1">{text("A1", "x")}</row><row r="2">{text("A2", "y")}<c r="C2"><v>9</v></c></row>'
)


def source(path: str, schema: str, **params: Any) -> Any:
    return pyalink.XlsSourceBatchOp(filePath=path, schemaStr=schema, **params)


def test_cells_of_all_kinds(tmp_path: Path) -> None:
    path = book(tmp_path / "book.xlsx", FIRST, SECOND)
    empty = book(tmp_path / "empty.xlsx", "")
    read = [
        source(path, "s string, n string, more double"),
        source(path, "s string, n int", lenient=True),
        source(path, "s string, n int", lenient=True, sheetIndex=1),
        source(empty, "s string"),
    ]
    frames = [op.toTable() for op in read]
    rows = [frame.to_arrow().to_pylist() for frame in frames]
    texts = [[row["s"], row["n"]] for row in rows[0]]
    assert texts == [["name", "count"], ["ü", "3"], ["2", None], ["true", " 7 "]]
    assert [[row["s"], row["n"]] for row in rows[1]] == [["ü", 3], ["2", None], ["true", 7]]
    assert [[row["s"], row["n"]] for row in rows[2]] == [["x", None]]
    assert rows[3] == []


def record(kind: int, *fields: tuple[str, Any]) -> bytes:
    """Write a record of BIFF8, the form of sheets in .xls files."""
    body = b"".join(struct.pack(f"<{form}", value) for form, value in fields)
    return struct.pack("<HH", kind, len(body)) + body


def cell(kind: int, row: int, column: int, *fields: tuple[str, Any], style: int = 0) -> bytes:
    return record(kind, ("H", row), ("H", column), ("H", style), *fields)


def old_book(path: Path, texts: Sequence[str], *sheets: bytes) -> str:
    """Write an .xls file of sheets' cells; cells of style 1 are times, texts are by number."""

    def begin(kind: int) -> bytes:
        return record(0x809, ("H", 0x600), ("H", kind), ("H", 0), ("H", 1997), ("8s", b""))

    end = record(0x0A)
    styles = [record(0xE0, ("H", 0), ("H", form), ("16s", b"")) for form in (0, 22)]
    shared = b"".join(struct.pack("<HB", len(t), 1) + t.encode("utf-16-le") for t in texts)
    count = len(texts)
    strings = record(0xFC, ("I", count), ("I", count), (f"{len(shared)}s", shared))
    parts = [begin(0x10) + cells + end for cells in sheets]
    head = begin(0x05) + record(0x42, ("H", 1200)) + b"".join(styles)
    first = len(head) + len(sheets) * 14 + len(strings) + len(end)
    starts = [first + sum(map(len, parts[:i])) for i in range(len(parts))]
    listed = b"".join(
        record(0x85, ("I", at), ("H", 0), ("B", 2), ("B", 0), ("2s", f"S{i + 1}".encode()))
        for i, at in enumerate(starts)
    )
    path.write_bytes(compound(head + listed + strings + end + b"".join(parts)))
    return str(path)


def compound(stream: bytes) -> bytes:
    """Write a compound file, of sectors of 512 bytes, of one stream, "Workbook"."""
    stream = stream.ljust(4096, b"\0")  # shorter ones would stand elsewhere
    sectors = -(-len(stream) // 512)
    none, last, table = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD
    chain = [table, last, *range(3, 2 + sectors), last]
    chain += [none] * (128 - len(chain))
    header = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(16)
    header += struct.pack(
        "<HHHHH6xIIIIIIIII", 62, 3, 0xFFFE, 9, 6, 0, 1, 1, 0, 4096, last, 0, last, 0
    )
    header += struct.pack("<109I", 0, *[none] * 108)

    def entry(name: str, kind: int, child: int, start: int, size: int) -> bytes:
        coded = name.encode("utf-16-le")
        links = struct.pack("<BBIII36xIQ", kind, 1, none, none, child, start, size)
        return coded.ljust(64, b"\0") + struct.pack("<H", len(coded) + 2) + links

    entries = entry("Root Entry", 5, 1, last, 0) + entry("Workbook", 2, none, 2, len(stream))
    entries += 2 * (bytes(66) + struct.pack("<HIII48x", 0, none, none, none))
    body = struct.pack("<128I", *chain) + entries
    return header + body + stream.ljust(512 * sectors, b"\0")


def test_sheets_of_the_old_form(tmp_path: Path) -> None:
    days = (MOMENT - datetime.datetime(1899, 12, 30)) / datetime.timedelta(days=1)
    number, shared, truth = 0x203, 0xFD, 0x205
    first = (
        cell(shared, 0, 0, ("I", 1))
        + cell(number, 0, 1, ("d", 2.5))
        + cell(number, 0, 2, ("d", days), style=1)
        + cell(0x27E, 2, 1, ("I", 7 << 2 | 2))  # a whole number in 30 bits
        + cell(truth, 2, 3, ("B", 1), ("B", 0))
        + cell(shared, 3, 0, ("I", 0))
        + cell(truth, 3, 1, ("B", 0x2A), ("B", 1))  # the error #N/A
    )
    second = cell(shared, 0, 0, ("I", 0))
    path = old_book(tmp_path / "old.xls", ["a", "ü 漢字"], first, second)
    schema = "s string, d double, t timestamp, o boolean"
    rows = source(path, schema).toTable().to_arrow().to_pylist()
    assert [list(row.values()) for row in rows] == [
        ["ü 漢字", 2.5, MOMENT, None],
        [None, 7.0, None, True],
        ["a", None, None, None],
    ]
    assert source(path, "s string", sheetIndex=1).collectToDataframe()["s"].tolist() == ["a"]


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"schemaStr": "s string, n int"}, r"row 2: column n: 'count' is not a number"),
        ({"schemaStr": "s string"}, "row 2: it has more than 1 values"),
        ({"schemaStr": "s string", "sheetIndex": 2}, "has no sheet 2, counted from 0; it has S1"),
    ],
)
def test_sheets_that_cannot_be_read(params: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = book(tmp_path / "book.xlsx", FIRST, SECOND)
    with pytest.raises(al.Error, match=said) as error:
        pyalink.XlsSourceBatchOp(filePath=path, **params).toTable().to_arrow()
    assert path in str(error.value)


def test_files_that_are_no_spreadsheets(tmp_path: Path) -> None:
    path = tmp_path / "no.xlsx"
    path.write_text("a,b")
    with pytest.raises(al.Error, match=r"no\.xlsx is no spreadsheet that is read"):
        source(str(path), "s string").toTable().to_arrow()
    with pytest.raises(al.Error, match="is no file"):
        source(str(tmp_path / "none.xls"), "s string").toTable()
    with pytest.raises(al.Error, match="sheetIndex is -1"):
        source(str(path), "s string", sheetIndex=-1).toTable()
    with pytest.raises(al.Error, match="of TENSOR cannot be read from a sheet"):
        source(str(path), "t tensor").toTable()


@pytest.mark.parametrize(
    ("kind", "value", "wanted"),
    [
        ("int", 3.0, 3),
        ("int", "1e3", 1000),
        ("tinyint", 127.0, 127),
        ("double", 3, 3),
        ("double", "Infinity", float("inf")),
        ("string", 2.5, "2.5"),
        ("string", 1e20, "1e+20"),
        ("string", MOMENT, "2024-05-06 07:08:09.123000"),
        ("string", datetime.date(2024, 1, 2), "2024-01-02"),
        ("timestamp", datetime.date(2024, 1, 2), datetime.datetime(2024, 1, 2)),
        ("timestamp", "2024-01-02 03:04:05.678901", datetime.datetime(2024, 1, 2, 3, 4, 5, 678901)),
        ("date", datetime.datetime(2024, 1, 2), datetime.date(2024, 1, 2)),
        ("time", datetime.timedelta(hours=1), datetime.time(1)),
        ("time", "01:02:03", datetime.time(1, 2, 3)),
        ("boolean", "TRUE", True),
        ("decimal", 0.1, N("0.1")),
    ],
)
def test_values_of_cells(kind: str, value: Any, wanted: Any) -> None:
    assert cell_of(parse_type(kind))(value) == wanted


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("int", 2.5), ("int", True), ("int", 2.0**31), ("tinyint", "128"), ("int", MOMENT),
        ("double", "x"), ("double", True), ("double", MOMENT), ("boolean", 1.0),
        ("timestamp", 45000.0), ("date", MOMENT), ("time", datetime.timedelta(hours=25)),
        ("decimal", MOMENT), ("vector", 1.0), ("vector", "a b"),
    ],
)  # fmt: skip
def test_values_that_a_type_has_not(kind: str, value: Any) -> None:
    with pytest.raises((Unreadable, pa.ArrowException)):
        cell_of(parse_type(kind))(value)


def test_texts_that_are_too_long_for_a_cell(tmp_path: Path) -> None:
    path = tmp_path / "long.xlsx"
    rows = BatchOperator.fromTable(table([["x" * 32_768]], "s string"))
    rows.link(pyalink.XlsSinkBatchOp().setFilePath(str(path)))
    with pytest.raises(al.Error, match="row 1: a cell has 32767 letters, not 32768"):
        BatchOperator.execute()
    assert list(tmp_path.iterdir()) == []
