"""Flink's SQL: its functions and phrases where DuckDB has others."""

from __future__ import annotations

import datetime
import math
import time
from typing import Any

import pandas as pd
import pytest

import alink as al
from alink.operators._dialect import translate
from pyalink import alink as pyalink

FRAME = pd.DataFrame(
    {
        "i": [3, 2],
        "s": ["ab cd", None],
        "t": [pd.Timestamp("2020-01-31 12:34:56.789"), pd.NaT],
        "x": [-1.155, None],
    }
)
DIFFERENCES = [
    # As Calcite counts: whole units, toward zero, months by the calendar.
    ("DAY", "2020-01-01 23:00:00", "2020-01-02 22:59:59", 0),
    ("DAY", "2020-01-02 22:59:59", "2020-01-01 23:00:00", 0),
    ("DAY", "2020-01-01 23:00:00", "2020-01-02 23:00:00", 1),
    ("SECOND", "2019-12-31 23:59:59.5", "2020-01-01 00:00:00", 0),
    ("SQL_TSI_MINUTE", "2020-01-01 00:00:59", "2020-01-01 01:00:00", 59),
    ("HOUR", "2020-01-02 00:00:00", "2020-01-01 00:30:00", -23),
    ("sql_tsi_week", "2020-01-15 00:00:00", "2020-01-01 00:00:01", -1),
    ("MONTH", "2020-01-31 10:00:00", "2020-02-29 10:00:00", 1),
    ("MONTH", "2020-01-31 10:00:00", "2020-02-29 09:59:59", 0),
    ("MONTH", "2020-02-15 12:00:00", "2020-01-15 10:00:00", -1),
    ("QUARTER", "2020-01-01 00:00:00", "2020-06-30 23:00:00", 1),
    ("SQL_TSI_YEAR", "2016-02-29 00:00:00", "2019-02-28 00:00:00", 3),
]
ADDITIONS = [
    ("MONTH", 1, "2020-02-29 12:34:56.789"),
    ("SQL_TSI_QUARTER", -1, "2019-10-31 12:34:56.789"),
    ("week", 2, "2020-02-14 12:34:56.789"),
    ("SQL_TSI_FRAC_SECOND", 11_000, "2020-01-31 12:34:56.800"),
]
CALLS = [
    ("DATE_FORMAT(t, 'yyyy-MM-dd''T''HH:mm:ss.SSS')", "2020-01-31T12:34:56.789"),
    ("DATE_FORMAT(t, '%Y, %d %M %i')", "2020, 31 January 34"),
    ("date_format_ltz(t)", "2020-01-31 12:34:56.789"),
    ("date_format_ltz(DATE '2020-01-31')", "2020-01-31 00:00:00.0"),
    ("from_unixtime(1000)", "1970-01-01 00:16:40.0"),
    ("FROM_UNIXTIME(i, 'yy/M/d H:m:s a')", "70/1/1 0:0:3 AM"),
    ("unix_timestamp(t)", 1580474096),
    ("UNIX_TIMESTAMP('2020-01-01 00:00:00')", 1577836800),
    ("unix_timestamp('01.02.2020', 'dd.MM.yyyy')", 1580515200),
    ("to_timestamp('2020-01-02 03', 'yyyy-MM-dd HH')", pd.Timestamp("2020-01-02 03:00")),
    ("to_timestamp('nothing', 'yyyy')", pd.NaT),
    ("TO_DATE('2020-01-02')", datetime.date(2020, 1, 2)),
    ("TO_DATE('20200102', 'yyyyMMdd')", datetime.date(2020, 1, 2)),
    ("FLOOR(t TO HOUR)", pd.Timestamp("2020-01-31 12:00")),
    ("CEIL(t TO MONTH)", pd.Timestamp("2020-02-01")),
    ("CEILING(DATE '2020-02-01' TO MONTH)", pd.Timestamp("2020-02-01")),
    ("FLOOR(x)", -2.0),
    ("EXTRACT(DOW FROM t)", 6),
    ("EXTRACT(YEAR FROM t)", 2020),
    ("DAYOFWEEK(DATE '1994-09-27')", 3),
    ("t + INTERVAL '1-2' YEAR TO MONTH", pd.Timestamp("2021-03-31 12:34:56.789")),
    ("t - INTERVAL '-1 02:03:04.5' DAY TO SECOND", pd.Timestamp("2020-02-01 14:38:01.289")),
    ("LOG(LOG(i))", math.log(math.log(3))),
    ("LOG(2, 8)", 3.0),
    ("E()", math.e),
    ("TRUNCATE(x, 2)", -1.15),
    ("TRUNCATE(x)", -1.0),
    ("CONCAT(s, '-', i)", "ab cd-3"),
    ("CONCAT(s, CAST(NULL AS VARCHAR))", None),
    ("REGEXP_REPLACE(s, '([a-z])([a-z])', '$2$1')", "ba dc"),
    ("REGEXP_EXTRACT(s, '(a)(b)', 2)", "b"),
    ("REGEXP_EXTRACT(s, 'q')", None),
    ("REGEXP(s, 'b.c')", True),
    ("OVERLAY(s PLACING 'xyz' FROM 2 FOR 1)", "axyz cd"),
    ("OVERLAY(s PLACING 'é' FROM 1)", "éb cd"),
    ("INITCAP('éa b''C')", "Éa B'C"),
    ("INITCAP('')", ""),
    ("LOCATE('b', 'abab')", 2),
    ("LOCATE('b', 'abab', 3)", 4),
    ("LOCATE('b', 'aba', 3)", 0),
    ("SPLIT_INDEX(s, ' ', 1)", "cd"),
    ("SPLIT_INDEX(s, ' ', 2)", None),
    ("SPLIT_INDEX(s, ' ', -1)", None),
    ("TO_BASE64('é')", "w6k="),
    ("FROM_BASE64('w6k=')", "é"),
    ("IS_ALPHA('aé')", True),
    ("IS_ALPHA(CAST(NULL AS VARCHAR))", False),
    ("IS_DIGIT('1a')", False),
    ("IS_DECIMAL('-1.5e3')", True),
    ("CARDINALITY(ARRAY[1, 2])", 2),
    ("s SIMILAR TO 'a%'", True),
    ("s SIMILAR TO '_b_'", False),
    ("'LOG(''x'') `y`'", "LOG('x') `y`"),
]


def rows() -> Any:
    return pyalink.BatchOperator.fromDataframe(FRAME, "i int, s string, t timestamp, x double")


def computed(expressions: list[str]) -> tuple[list[Any], pd.DataFrame]:
    """Compute expressions of one row, in one query."""
    columns = ", ".join(f"{text} AS c{i}" for i, text in enumerate(expressions))
    found = rows().select(f"i, {columns}").collectToDataframe().sort_values("i")
    return found.iloc[1, 1:].tolist(), found


def test_functions_mean_what_they_do_in_flink() -> None:
    for (text, wanted), given in zip(CALLS, computed([text for text, _ in CALLS])[0], strict=True):
        if wanted is None or wanted is pd.NaT:
            assert pd.isna(given), text
        else:
            assert given == (pytest.approx(wanted) if isinstance(wanted, float) else wanted), text


def test_differences_are_whole_units() -> None:
    texts = [
        f"TIMESTAMPDIFF({unit}, TIMESTAMP '{begin}', TIMESTAMP '{end}')"
        for unit, begin, end, _ in DIFFERENCES
    ]
    found, frame = computed([*texts, "TIMESTAMPDIFF(DAY, t, DATE '2020-03-01')"])
    assert found == [*(wanted for *_, wanted in DIFFERENCES), 29]
    assert pd.isna(frame.iloc[0, -1])
    assert frame["c0"].dtype == "Int32"
    texts = [f"TIMESTAMPADD({unit}, {count}, t)" for unit, count, _ in ADDITIONS]
    assert computed([*texts, "TIMESTAMPADD(DAY, i, t)"])[0] == [
        pd.Timestamp(text) for *_, text in (*ADDITIONS, (0, "2020-02-03 12:34:56.789"))
    ]


QUOTIENTS = [
    ("i / 2", "INT", [1, 1]),
    ("-i / 2", "INT", [-1, -1]),
    ("7 / i / 2 * 3", "INT", [3, 3]),
    ("2 * (i + 1) / i", "INT", [2, 3]),
    ("i / 2 half", "INT", [1, 1]),
    ("i /* whole */ / -- and\n 2", "INT", [1, 1]),
    ("CASE WHEN i > 2 THEN i / 2 ELSE 9 END / 2", "INT", [0, 4]),
    ("CAST(i AS BIGINT) / 2", "BIGINT", [1, 1]),
    ("CHAR_LENGTH(s) / 2", "BIGINT", [2, None]),
    ("TIMESTAMPDIFF(HOUR, t, TIMESTAMP '2020-02-03 12:34:56.789') / 24", "INT", [3, None]),
    ("SUM(i) OVER (PARTITION BY i / 2) / 2", "BIGINT", [2, 2]),
    ("AVG(i) OVER (ORDER BY i)", "BIGINT", [2, 2]),
    ("AVG(x) OVER ()", "DOUBLE", [-1.155, -1.155]),
    ("i / (i - i)", "INT", [None, None]),
    ("i / 2.0", "DOUBLE", [1.5, 1.0]),
    ("i / CAST(2 AS DOUBLE)", "DOUBLE", [1.5, 1.0]),
    ("x / 2", "DOUBLE", [-0.5775, None]),
    ("x / (i - i)", "DOUBLE", [-math.inf, None]),
    ("'7/2'", "VARCHAR", ["7/2", "7/2"]),
]


def test_quotients_of_whole_numbers_are_whole() -> None:
    exprs = [
        text if text.endswith("half") else f"{text} AS c{k}"
        for k, (text, *_) in enumerate(QUOTIENTS)
    ]
    found = rows().select(", ".join([*exprs, "i"]))
    types = [kind.split()[-1] for kind in found.getSchemaStr().split(", ")]
    frame = found.collectToDataframe().sort_values("i", ascending=False)
    for (text, kind, values), given, column in zip(QUOTIENTS, types, frame.columns, strict=False):
        assert given == kind, text
        assert [None if pd.isna(v) else v for v in frame[column]] == values, text


def test_averages_of_whole_numbers_are_whole() -> None:
    frame = pd.DataFrame({"g": [1, 1, 1, 2], "i": [1, 2, 5, None], "x": [1.0, 2.0, 5.0, None]})
    source = pyalink.BatchOperator.fromDataframe(frame, "g int, i int, x double")
    clause = (
        "g, avg(i) AS a, AVG(DISTINCT i / 2) AS d, avg(i) FILTER (WHERE i > 1) AS f, avg(x) AS x"
    )
    found = source.groupBy("g", clause)
    assert found.getSchemaStr() == "g INT, a BIGINT, d BIGINT, f BIGINT, x DOUBLE"
    first, second = found.collectToDataframe().sort_values("g").itertuples(index=False)
    assert tuple(first) == (1, 2, 1, 3, pytest.approx(8 / 3))
    assert all(pd.isna(value) for value in second[1:])
    source.registerTableName("t")
    query = "SELECT g FROM t GROUP BY g HAVING avg(i) / 2 = 1 ORDER BY avg(x)"
    assert pyalink.BatchOperator.sqlQuery(query).collectToDataframe()["g"].tolist() == [1]


def test_divisions_are_found_by_what_they_divide() -> None:
    for text, written in (
        ("(a)/b AND (c)/d", "alink_quotient((a), b) AND alink_quotient((c), d)"),
        ("a/b*c/d", "alink_quotient(alink_quotient(a, b)*c, d)"),
        ("a - b/-c n", "a - alink_quotient(b, -c) n"),
        ("t.a/`b c`[1]::INT", 'alink_quotient(t.a, "b c"[1]::INT)'),
        ("x IN (1) OR NOT (a)/b = 1", "x IN (1) OR NOT alink_quotient((a), b) = 1"),
        ("left(a, 1)/b", "alink_quotient(left(a, 1), b)"),
        ("a LEFT JOIN b ON (a)/b = 1", "a LEFT JOIN b ON alink_quotient((a), b) = 1"),
        ("INTERVAL '1' DAY / 2", "alink_quotient(INTERVAL '1' DAY, 2)"),
        ("EXTRACT(DAY FROM (a)/b)", "EXTRACT(DAY FROM alink_quotient((a), b))"),
        ("x -> x/2", "x -> alink_quotient(x, 2)"),
        ("interval/x^2", "alink_quotient(interval, x^2)"),
        # No divisions, or none that can be read.
        ("'a/b' \"c/d\" e//f -- g/h", "'a/b' \"c/d\" e//f -- g/h"),
        ("a/ , /b (c", "a/ , /b (c"),
    ):
        assert translate(text) == written
        assert translate(written) == written
    with pytest.raises(al.PlanError, match="brackets with divisions are nested too deep"):
        translate("(" * 2000 + "a/b" + ")" * 2000)


def test_the_time_and_random_numbers() -> None:
    at = time.time()
    texts = ["now()", "now(60)", "unix_timestamp()", "RAND()", "RAND_INTEGER(2)", "CURRENT_TIME"]
    (now, later, unix, share, whole, clock), _ = computed(texts)
    assert now == pytest.approx(at, abs=60)
    assert (later - now, unix - now) == (60, 0)
    assert 0 <= share < 1
    assert whole in (0, 1)
    assert isinstance(clock, datetime.time)


def test_what_is_translated_may_be_translated_again() -> None:
    for text in [*(text for text, _ in CALLS), "now(1)", "CURRENT_TIME", "TIMESTAMPADD(DAY, i, t)"]:
        assert translate(translate(text)) == translate(text)
    for text in ("a.log(x)", "catalog(x)", '"log"(x)', "log", "'LOG(x)'", "WITH e(a) AS (b)"):
        assert translate(text) == text


def test_what_does_not_fit_is_told() -> None:
    for text, says in (
        ("TIMESTAMPDIFF(DAYS, t, t)", 'TIMESTAMPDIFF: there is no unit "DAYS"'),
        ("TIMESTAMPADD(DAY, t)", "TIMESTAMPADD takes 3 arguments, not 2"),
        ("DATE_FORMAT(t, s)", "the format of times is a text in quotes, not 's'"),
        ("TO_DATE(s, 'yyyy ZZ')", "the format 'yyyy ZZ' has \"ZZ\""),
        ("RAND(3)", r"RAND\(3\): a seed is not taken"),
        ("OVERLAY(s, 'x', 1)", "OVERLAY takes 1 argument, not 3"),
        ("OVERLAY(s FROM 1)", r"OVERLAY\(text PLACING other FROM place FOR length\)"),
        ("INTERVAL '1 02' YEAR TO MONTH", "INTERVAL: '1 02' is not of YEAR TO MONTH"),
    ):
        with pytest.raises(al.PlanError, match=says):
            translate(text)


def test_a_registered_function_has_its_name() -> None:
    double = pyalink.udf(
        lambda x: 2 * x, input_types=[pyalink.DataTypes.INT()], result_type=pyalink.DataTypes.INT()
    )
    pyalink.BatchOperator.registerFunction("log", double)
    try:
        found = rows().select("log(i) AS a, ln(i) AS b").collectToDataframe()
    finally:
        pyalink.resetEnv()
    assert sorted(found["a"]) == [4, 6]
