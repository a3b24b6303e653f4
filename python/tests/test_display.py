from __future__ import annotations

import datetime
import io

import pyarrow as pa
import pytest

import alink as al
from alink._display import render_table
from alink._progress import Display, OperatorProgress, Progress, plain_line, render_progress


def test_table():
    table = pa.table(
        {
            "carrier": ["9E", None, "größe"],
            "mean delay": [7.3796, -0.5, None],
            "n": pa.array([18460, 1, None], pa.int64()),
            "late": [True, False, None],
        }
    )
    assert render_table(table, width=100) == (
        "┌─────────┬────────────┬────────┬─────────┐\n"
        "│ carrier │ mean delay │      n │ late    │\n"
        "│ string  │     double │ bigint │ boolean │\n"
        "├─────────┼────────────┼────────┼─────────┤\n"
        "│ 9E      │     7.3796 │  18460 │ true    │\n"
        "│ NULL    │    -0.5000 │      1 │ false   │\n"
        "│ größe   │       NULL │   NULL │ NULL    │\n"
        "└─────────┴────────────┴────────┴─────────┘\n"
        "3 rows"
    )


def test_ascii_and_more():
    table = pa.table({"x": [1]})
    assert render_table(table, more=True, width=100, encoding="ascii") == (
        "+--------+\n"
        "|      x |\n"
        "| bigint |\n"
        "+--------+\n"
        "|      1 |\n"
        "+--------+\n"
        "the first 1 row, there are more"
    )


def test_wide_characters_and_control_characters():
    table = pa.table({"x": ["日本", "e\u0301", "a\nb\x1b[31m", "x" * 50]})
    lines = render_table(table, width=100).splitlines()
    assert lines[4] == "│ 日本" + " " * 36 + " │"
    assert lines[5] == "│ e\u0301" + " " * 39 + " │"
    assert lines[6] == "│ a\\nb\\x1b[31m" + " " * 28 + " │"
    assert lines[7] == "│ " + "x" * 39 + "… │"


def test_no_rows():
    lines = render_table(pa.table({"x": pa.array([], pa.int32())}), width=100).splitlines()
    assert lines[-1] == "0 rows"
    assert len(lines) == 6


def test_narrow_terminal_leaves_out_columns_in_the_middle():
    table = pa.table({f"column{i}": ["value"] for i in range(10)})
    lines = render_table(table, width=50).splitlines()
    assert all(len(line) <= 50 for line in lines[:-1])
    assert lines[1].replace(" ", "") == "│column0│column1│…│column8│column9│"
    one = render_table(pa.table({"x" * 30: ["y" * 30]}), width=10)
    assert "x" * 30 in one, "a single column is always shown"


@pytest.mark.parametrize(
    ("values", "type_", "expected"),
    [
        ([1e-9, 2.0], pa.float64(), ["1e-09", "2"]),
        ([float("nan"), float("inf"), -float("inf")], pa.float64(), ["NaN", "inf", "-inf"]),
        ([1e20], pa.float64(), ["1e+20"]),
        ([1234567.25], pa.float64(), ["1234567.25"]),
        ([0.1], pa.float32(), ["0.1"]),
        ([b"\x00\xff"], pa.binary(), ["0x00ff"]),
        ([datetime.date(2013, 1, 2)], pa.date32(), ["2013-01-02"]),
        ([10**18 + 1], pa.timestamp("ns"), ["2001-09-09 01:46:40.000000001"]),
        ([[1, None], []], pa.list_(pa.int64()), ["[1, NULL]", "[]"]),
        ([{"a": 1, "b": "x"}], pa.struct([("a", "int64"), ("b", "string")]), ["{a: 1, b: x}"]),
        ([[("k", 1)]], pa.map_(pa.string(), pa.int64()), ["{k: 1}"]),
    ],
    ids=str,
)
def test_values(values, type_, expected):
    text = render_table(pa.table({"x": pa.array(values, type_)}), width=200)
    cells = [line.strip("│ ") for line in text.splitlines()[4:-2]]
    assert cells == expected


OPERATORS = (
    OperatorProgress("n1", "read_parquet", 0, 336_776, 0, "done"),
    OperatorProgress(
        "n2", "with_columns", 336_776, 1_200, 0, "running", "building environment 9f2c"
    ),
    OperatorProgress("n3", "agg"),
)


def test_progress_lines():
    lines = render_progress(Progress(OPERATORS, 1.26), {"n1": 2_500_000.0, "n2": 12_345.0}, 200)
    assert lines == [
        "running for 1.3 s",
        " ✓ read_parquet  336,776 rows   2.5M rows/s",
        " ▸ with_columns    1,200 rows  12.3k rows/s  building environment 9f2c",
        " · agg                 0 rows",
    ]
    assert all(len(line) <= 20 for line in render_progress(Progress(OPERATORS, 1.0), {}, 20))
    many = tuple(OperatorProgress(f"n{i}", "filter") for i in range(100))
    assert len(render_progress(Progress(many, 1.0), {}, 80)) == 17


def test_plain_line():
    assert plain_line(Progress(OPERATORS, 61.2)) == (
        "alink: 61 s: with_columns 1,200 rows (building environment 9f2c)"
    )
    assert plain_line(Progress()) == "alink: 0 s: "


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.delenv("ALINK_PROGRESS", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    return Terminal()


def test_live_display(terminal):
    display = Display(terminal)
    display.update(Progress(OPERATORS, 0.4))
    assert terminal.getvalue() == "", "a short job shows nothing"
    display.update(Progress(OPERATORS, 0.6))
    first = terminal.getvalue()
    assert first.count("\n") == 4
    display.log("f", "hello")
    assert terminal.getvalue()[len(first) :] == "\x1b[4F\x1b[J[f] hello\n"
    display.update(Progress(OPERATORS, 0.7))
    display.finish()
    assert terminal.getvalue().endswith("\x1b[4F\x1b[J")
    display.finish()
    assert terminal.getvalue().count("\x1b[4F\x1b[J") == 2


@pytest.mark.parametrize("mode", ["off", "plain"])
def test_terminal_without_a_live_display(terminal, monkeypatch, mode):
    monkeypatch.setenv("ALINK_PROGRESS", mode)
    display = Display(terminal)
    for tenths in range(120):
        display.update(Progress(OPERATORS, tenths / 10))
    display.finish()
    assert terminal.getvalue().count("alink:") == (2 if mode == "plain" else 0)
    assert "\x1b" not in terminal.getvalue()


def test_no_terminal(monkeypatch):
    monkeypatch.delenv("ALINK_PROGRESS", raising=False)
    stream = io.StringIO()
    display = Display(stream)
    display.update(Progress(OPERATORS, 60.0))
    display.log("", "no name")
    assert stream.getvalue() == "no name\n"


def test_what_functions_print_cannot_drive_the_terminal(monkeypatch):
    monkeypatch.delenv("ALINK_PROGRESS", raising=False)
    stream = io.StringIO()
    display = Display(stream)
    display.log("f\x1b[H", "\x1b[31mred\x1b[0m \x1b]52;c;eA==\x07\x1b[2J\rgone")
    assert stream.getvalue() == (
        "[f\\x1b[H] \x1b[31mred\x1b[0m \\x1b]52;c;eA==\\x07\\x1b[2J\\x0dgone\n"
    )


def test_closed_standard_error(terminal):
    display = Display(terminal)
    terminal.close()
    display.update(Progress(OPERATORS, 60.0))
    display.log("f", "lost")
    display.finish()


def test_bad_progress_mode(monkeypatch):
    monkeypatch.setenv("ALINK_PROGRESS", "loud")
    with pytest.raises(al.PlanError, match="ALINK_PROGRESS must be auto, plain or off, not 'loud'"):
        Display(io.StringIO())
