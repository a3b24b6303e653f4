"""Runs attacks at one level of the sandbox, as the user that this process is."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import alink as al
from attack import queries
from attack.case import ATTACKS, MODULES, Refused, attempt
from attack.returned import OUTSIDE, tell
from attack.scene import VARIABLES, Scene, eventually
from attack.stage import Hung, Stage

queries.register()
for _module in MODULES:
    importlib.import_module(f"attack.{_module}")

_DEATHS = (al.WorkerCrashed, al.WorkerMemoryExceeded, al.WorkerTimeout)
_SURVIVAL = ("survive-worker", "survive-engine")
_ENDLESS = {"ignore-signals": 20, "endless": 20, "keep-connection": 10}


def names() -> list[str]:
    """Give the names of all attacks, in the order in which they are tried."""
    return [*ATTACKS, *OUTSIDE]


def run(level: str, selected: Sequence[str], setuid_program: str) -> Iterator[dict[str, Any]]:
    """Try attacks; give the outcome of each."""
    base = Path(tempfile.mkdtemp(prefix="alink-attack-", dir="/tmp"))
    os.environ["HOME"] = str(base / "home")
    os.environ.setdefault("ALINK_CACHE_DIR", str(base / "cache"))
    Path(os.environ["ALINK_CACHE_DIR"]).mkdir(parents=True, exist_ok=True)
    scene = Scene(base)
    scene.facts["setuid_program"] = setuid_program
    for variable in VARIABLES:
        os.environ[variable] = scene.secret("variable")
    scene.facts |= {
        "processes_tried": 1_100,
        "descriptors_tried": 5_000,
        "disk_mib_tried": 1_536,
        "inodes_tried": 70_000,
        "file_mib_tried": 1 << 20,
    }
    (base / "project").mkdir(exist_ok=True)
    os.chdir(base / "project")
    stage: Stage | None = None
    try:
        scene.reset()
        stage = Stage(scene, "off" if level == "off" else "auto")
        for name in selected:
            begun = time.monotonic()
            outcome = _try(stage, name)
            yield {"attack": name, **outcome, "seconds": round(time.monotonic() - begun, 2)}
    finally:
        if stage is not None:
            stage.end()
        scene.close()


def _try(stage: Stage, name: str) -> dict[str, str]:
    scene = stage.scene
    scene.reset()
    facts = scene.facts
    scene.watcher.watch(facts["engine"], facts["supervisor"], facts["sibling_pid"])
    if name in OUTSIDE:
        outcome = _outside(stage, name)
    elif name in _ENDLESS:
        outcome = _endless(stage, name)
    else:
        with scene.calling(name):
            outcome = _inside(stage, name)
    if name in _SURVIVAL:
        return _survived(stage, name, outcome)
    stage.mend()
    return outcome


def _outside(stage: Stage, name: str) -> dict[str, str]:
    try:
        evidence = OUTSIDE[name].run(stage)
    except Refused as refused:
        return {"outcome": "refused", "evidence": str(refused)}
    except Hung as hung:
        return {"outcome": "done", "evidence": str(hung)}
    except al.Error as error:
        return {"outcome": "refused", "evidence": str(error).splitlines()[0]}
    return {"outcome": "done", "evidence": evidence}


def _inside(stage: Stage, name: str) -> dict[str, str]:
    text = json.dumps(stage.scene.facts)
    # Who may write elsewhere may write files of any size.
    options: dict[str, Any] = {"mounts": {}} if name == "huge-file" else {}
    try:
        outcome = tell(stage, stage.call(attempt, name, text, **options))
    except al.Error as error:
        # An exception is a fault of the attack; the death of its worker may be what stopped it.
        kind = "died" if isinstance(error, _DEATHS) else "broken"
        outcome = {"outcome": kind, "evidence": "; ".join(str(error).splitlines()[:4])}
    except Hung as error:
        outcome = {"outcome": "hung", "evidence": str(error)}
    if outcome["outcome"] in ("absent", "broken"):
        return outcome
    seen = stage.scene.witness(name, outcome["evidence"])
    if name == "sibling-socket":
        received = stage.scene.base / "sibling" / "received"
        token = stage.scene.secret("sibling_token").encode()
        seen = eventually(lambda: received.exists() and token in received.read_bytes(), 0.5)
    if name == "signal-process-1" and outcome["outcome"] == "died":
        seen = True
    if seen is None:
        seen = outcome["outcome"] == "done"
    return {"outcome": "done" if seen else "refused", "evidence": outcome["evidence"]}


def _endless(stage: Stage, name: str) -> dict[str, str]:
    text = json.dumps(stage.scene.facts)
    try:
        stage.within(_ENDLESS[name], lambda: stage.call(attempt, name, text, timeout="2s"))
    except al.Error as error:
        return {"outcome": "refused", "evidence": str(error).splitlines()[0]}
    except Hung as error:
        return {"outcome": "done", "evidence": str(error)}
    return {"outcome": "broken", "evidence": "the function came back"}


def _survived(stage: Stage, name: str, outcome: dict[str, str]) -> dict[str, str]:
    """Look for what an attack has left behind once its engine has ended."""
    if outcome["outcome"] == "broken":
        return outcome
    scene = stage.scene
    if name == "survive-engine":
        stage.kill_engine()
    else:
        stage.end()
    gone = eventually(lambda: not scene.survivors(), 5)
    for pid in scene.survivors():
        with contextlib.suppress(OSError):
            os.kill(pid, 9)
    stage.reopen()
    return {"outcome": "refused" if gone else "done", "evidence": outcome["evidence"]}


def main() -> None:
    """Try attacks and write a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--level", required=True)
    parser.add_argument("--only", default="", help="names, separated by commas")
    parser.add_argument("--setuid-program", default="")
    args = parser.parse_args()
    selected = args.only.split(",") if args.only else names()
    for outcome in run(args.level, selected, args.setuid_program):
        sys.stdout.write(json.dumps(outcome) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
