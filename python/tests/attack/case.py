"""What an attack is, and how one is tried in a worker."""

from __future__ import annotations

import errno
import importlib
import json
import os
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

#: What is attacked, as the scene describes it: paths, numbers of processes, ports, tokens.
Facts = dict[str, Any]

_SECONDS_MAX = 15.0
_ANSWER_BYTES_MAX = 1 << 20


class Refused(Exception):
    """The attack was tried, and something stopped it."""


class Absent(Exception):
    """This machine has nothing here that could be attacked."""


@dataclass(frozen=True)
class Attack:
    """A function that runs in a worker and tries to get out.

    It gives evidence of its success as text, or raises `Refused`, `Absent` or an `OSError`.
    Where the scene has a witness for it, what the witness saw decides, not what it says.
    """

    name: str
    category: str
    #: What it means that the attack has succeeded.
    success: str
    run: Callable[[Facts], str]
    #: Whether it runs in a forked child, so that the worker is left as it was.
    child: bool


ATTACKS: dict[str, Attack] = {}

#: Where attacks are; they are registered when these are imported.
MODULES = ("files", "network", "processes", "kernel", "limits")


def attack(
    category: str, success: str, *, child: bool = True
) -> Callable[[Callable[[Facts], str]], Callable[[Facts], str]]:
    """Register a function as an attack; its name is the function's."""

    def register(run: Callable[[Facts], str]) -> Callable[[Facts], str]:
        name = run.__name__.replace("_", "-")
        assert name not in ATTACKS, name
        ATTACKS[name] = Attack(name, category, success, run, child)
        return run

    return register


def attempt(name: str, facts_json: str) -> str:
    """Try an attack in this worker; give its outcome as JSON.

    The outcome is ``done``, ``refused``, ``absent``, or ``broken`` where the attack itself has
    a fault: that must not pass for a refusal.
    """
    for module in MODULES:
        importlib.import_module(f"attack.{module}")
    one, facts = ATTACKS[name], json.loads(facts_json)
    return _in_child(one, facts) if one.child else json.dumps(_outcome(one, facts))


def _outcome(one: Attack, facts: Facts) -> dict[str, str]:
    try:
        return {"outcome": "done", "evidence": one.run(facts)}
    except (Refused, OSError) as error:
        return {"outcome": "refused", "evidence": f"{type(error).__name__}: {error}"}
    except MemoryError:
        return {"outcome": "refused", "evidence": "MemoryError"}
    except Absent as error:
        return {"outcome": "absent", "evidence": str(error)}
    except Exception as error:  # a fault of the attack, which the driver reports
        return {"outcome": "broken", "evidence": f"{type(error).__name__}: {error}"}


def _in_child(one: Attack, facts: Facts) -> str:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _be_child(one, facts, writer)
    os.close(writer)
    try:
        answer = _read_all(reader, time.monotonic() + _SECONDS_MAX)
    finally:
        os.close(reader)
    if answer is None:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if answer:
        return answer.decode()
    if answer is None:
        return json.dumps({"outcome": "refused", "evidence": f"no end in {_SECONDS_MAX:.0f} s"})
    ended = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"status {status}"
    return json.dumps({"outcome": "refused", "evidence": f"its process ended: {ended}"})


def _be_child(one: Attack, facts: Facts, writer: int) -> NoReturn:
    try:
        os.write(writer, json.dumps(_outcome(one, facts)).encode())
    finally:
        os._exit(0)


def _read_all(reader: int, deadline: float) -> bytes | None:
    """Read to the end of a pipe; None if that does not come in time."""
    answer = b""
    while len(answer) < _ANSWER_BYTES_MAX:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([reader], [], [], left)[0]:
            return answer or None
        piece = os.read(reader, 65_536)
        if not piece:
            break
        answer += piece
    return answer


def error_text(number: int) -> str:
    """Name an errno."""
    return errno.errorcode.get(number, str(number))
