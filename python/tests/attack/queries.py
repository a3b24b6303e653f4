"""Attacks by SQL: reading the engine's files, writing there, loading code into it."""

from __future__ import annotations

from pathlib import Path

import alink as al
from attack.case import Refused
from attack.returned import OUTSIDE, Outside
from attack.stage import Hung, Stage

_READS = {
    "sql-read-csv": "SELECT * FROM read_csv('{file}', header = false)",
    "sql-read-text": "SELECT content FROM read_text('{file}')",
    "sql-read-blob": "SELECT content::varchar FROM read_blob('{file}')",
    "sql-file-as-table": "SELECT * FROM '{file}.csv'",
    "sql-glob": "SELECT * FROM glob('{home}/*')",
    "sql-sniff": "SELECT * FROM sniff_csv('{file}')",
    "sql-scalar-subquery": "SELECT (SELECT content FROM read_text('{file}')) AS c",
    "sql-lateral": "SELECT c.content FROM (VALUES ('{file}')) v(f), read_text(v.f) c",
    "sql-query-text": "SELECT * FROM query('SELECT content FROM read_text(''{file}'')')",
    "sql-query-table": "SELECT * FROM query_table('{file}.csv')",
    "sql-with": "WITH c AS (FROM read_text('{file}')) SELECT * FROM c",
    "sql-getenv": "SELECT getenv('ATTACK_PASSWORD') AS v",
    "sql-settings": "SELECT * FROM duckdb_settings() WHERE value LIKE '%alink%'",
    "sql-secrets": "SELECT * FROM duckdb_secrets()",
    "sql-json": "SELECT * FROM read_json_auto('{file}')",
    "sql-parquet": "SELECT * FROM parquet_metadata('{file}')",
    "sql-variable": "SELECT current_setting('temp_directory') AS v",
}

_WRITES = {
    "sql-copy": "COPY (SELECT 1) TO '{new}'",
    "sql-attach": "ATTACH '{new}' AS a",
    "sql-export": "EXPORT DATABASE '{new}'",
    "sql-install": "INSTALL httpfs",
    "sql-load": "LOAD '{new}'",
    "sql-pragma": "PRAGMA database_list",
    "sql-set": "SET enable_external_access = true",
    "sql-create-view": "CREATE VIEW v AS SELECT 1",
    "sql-create-macro": "CREATE MACRO m() AS TABLE SELECT * FROM read_text('{file}')",
    "sql-create-secret": "CREATE SECRET s (TYPE s3, PROVIDER credential_chain)",
    "sql-two-statements": "SELECT 1; COPY (SELECT 1) TO '{new}'",
    "sql-call": "CALL pragma_version()",
    "sql-prepare": "PREPARE p AS COPY (SELECT 1) TO '{new}'",
    "sql-drop": "DROP SCHEMA main CASCADE",
}


def _statement(stage: Stage, text: str) -> str:
    facts = stage.scene.facts
    file = Path(facts["home_file"])
    table = Path(f"{file}.csv")
    table.write_text(f"{stage.scene.secret('home')}\n")
    filled = text.format(file=file, home=facts["home"], new=facts["project_new"])
    try:
        got = stage.within(20, lambda: stage.ctx.sql(filled).to_arrow().to_pylist())
    except (al.Error, Hung) as error:
        raise Refused(str(error).splitlines()[0][:160]) from None
    finally:
        table.unlink()
    return repr(got)


def _register(name: str, text: str, success: str) -> None:
    def run(stage: Stage) -> str:
        return _statement(stage, text)

    OUTSIDE[name] = Outside(name, "sql", success, run)


def _expression(stage: Stage) -> str:
    file = stage.scene.facts["home_file"]
    table = stage.one.with_columns(y=f"(SELECT content FROM read_text('{file}'))")
    try:
        return repr(stage.within(20, table.to_arrow)["y"].to_pylist())
    except (al.Error, Hung) as error:
        raise Refused(str(error).splitlines()[0][:160]) from None


def register() -> None:
    """Register the attacks by SQL."""
    for name, text in _READS.items():
        _register(name, text, f"a query read: {text.split('FROM')[-1].strip()}")
    for name, text in _WRITES.items():
        _register(name, text, f"it ran: {text.split('(')[0].strip()}")
    success = "an expression of a column read a file"
    OUTSIDE["sql-expression"] = Outside("sql-expression", "sql", success, _expression)
