"""``python -m attack``: all attacks at every level, compared with what is expected."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attack import table
from attack.copied import Copy
from attack.inner import names
from attack.table import LEVELS, Expected, read_expected

_ORDINARY_UID = 65_534
_RUN_S = 300.0

#: The attacks of the short form: one of each kind, and those that once got through.
SHORT = (
    "read-home", "read-through-engine", "write-home", "write-environment", "symlink-from-mount",
    "leave-setuid-program", "tcp", "udp", "path-socket", "trace-sibling", "stop-engine",
    "kill-by-owner", "unshare-user", "call-32-bit", "io-uring", "pickled-result",
    "sql-read-text",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One level, as one user."""

    level: str
    user: str
    uid: int

    @property
    def title(self) -> str:
        """Name it in the table."""
        return f"{self.level} {self.user}"


def _users() -> list[tuple[str, int]]:
    if os.geteuid() == 0:
        return [("root", 0), ("user", _ORDINARY_UID)]
    return [("user", os.geteuid())]


def _attack(run: Run, copy: Copy, selected: Sequence[str]) -> dict[str, dict[str, Any]] | None:
    """Try the attacks in a process of their own; None if the level is not reached."""
    if os.geteuid() == 0:
        copy.give_to(run.uid)
    command = [str(copy.python), "-m", "attack.inner", "--level", run.level]
    command += ["--only", ",".join(selected)]
    if run.uid != 0 and (program := _setuid_program(copy)):
        command += ["--setuid-program", program]
    ids = {"user": run.uid, "group": run.uid, "extra_groups": []} if os.geteuid() == 0 else {}
    environ = copy.environ()
    if run.level != "off":
        environ["ALINK_SANDBOX_LEVEL_MAX"] = run.level
    # Into files: what an attack has left behind would hold a pipe open.
    with (copy.folder / "out").open("w+") as out, (copy.folder / "err").open("w+") as err:
        done = subprocess.run(
            command, env=environ, cwd=copy.folder, stdout=out, stderr=err, timeout=_RUN_S,
            check=False, **ids,
        )  # fmt: skip
        out.seek(0)
        err.seek(0)
        lines, errors = [json.loads(line) for line in out], err.read()
    if lines and "not_reached" in lines[0]:
        sys.stdout.write(f"{run.title}: not reached here: {lines[0]['not_reached']}\n")
        return None
    outcomes = {line["attack"]: line for line in lines if "attack" in line}
    if done.returncode != 0 or len(outcomes) != len(selected):
        tail = "\n".join(errors.splitlines()[-15:])
        raise SystemExit(
            f"{run.title}: the attacks broke off after {len(outcomes)} of {len(selected)}, "
            f"with status {done.returncode}\n{tail}"
        )
    return outcomes


def _setuid_program(copy: Copy) -> str:
    """Give a program that runs as root whoever starts it; "" where none can be made."""
    program = copy.folder / "bin" / "id-of-root"
    if os.geteuid() == 0 and not program.exists():
        shutil.copyfile(shutil.which("id") or "/usr/bin/id", program)
        program.chmod(0o4755)
    return str(program) if program.exists() and program.stat().st_mode & stat.S_ISUID else ""


def main() -> int:
    """Attack, print the table and give the exit status."""
    parser = argparse.ArgumentParser(prog="attack", description=__doc__)
    parser.add_argument("--short", action="store_true", help="a few, at the highest level and off")
    parser.add_argument("--level", action="append", choices=LEVELS, help="only these levels")
    parser.add_argument("--user", action="append", choices=("root", "user"))
    parser.add_argument("--only", default="", help="names of attacks, separated by commas")
    parser.add_argument("--docs", action="store_true", help="write the table of docs/security.md")
    parser.add_argument("--check-docs", action="store_true", help="compare that table")
    args = parser.parse_args()
    if args.check_docs:
        return table.check_docs()
    if args.docs:
        return table.write_docs()
    expected = read_expected()
    table.check_complete(expected)
    selected = list(SHORT) if args.short else args.only.split(",") if args.only else names()
    begun = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="alink-attack-copy-", dir="/tmp"))
    try:
        results = _all(_runs(args), Copy(folder), selected, args.short)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return _judge(results, expected, selected, time.monotonic() - begun)


def _runs(args: argparse.Namespace) -> list[Run]:
    users = [u for u in _users() if not args.user or u[0] in args.user]
    levels = args.level or (["L3", "L2", "off"] if args.short else LEVELS)
    return [Run(level, *user) for user in (users[:1] if args.short else users) for level in levels]


def _all(
    runs: Sequence[Run], copy: Copy, selected: Sequence[str], short: bool
) -> dict[Run, dict[str, dict[str, Any]]]:
    results: dict[Run, dict[str, dict[str, Any]]] = {}
    for run in runs:
        if short and run.level != "off" and any(r.level != "off" for r in results):
            continue  # the highest level is enough
        outcomes = _attack(run, copy, selected)
        if outcomes is not None:
            results[run] = outcomes
    return results


def _judge(
    results: dict[Run, dict[str, dict[str, Any]]],
    expected: dict[str, Expected],
    selected: Sequence[str],
    seconds: float,
) -> int:
    columns = {run.title: outcomes for run, outcomes in results.items()}
    faults = [
        fault
        for run, outcomes in results.items()
        for fault in table.faults(run.level, run.user, outcomes, expected, selected)
    ]
    sys.stdout.write(table.drawn(columns, expected, selected))
    counts = {
        run.title: sum(o["outcome"] == "done" for o in outcomes.values())
        for run, outcomes in results.items()
    }
    for title, count in counts.items():
        sys.stdout.write(f"{title}: {count} of {len(selected)} attacks succeeded\n")
    sys.stdout.write(f"{seconds:.0f} s\n")
    for fault in faults:
        sys.stdout.write(f"UNEXPECTED {fault}\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
