"""The engine under attack, its jobs, and the sibling worker."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

import alink as al
from attack import sibling
from attack.scene import VARIABLES, Scene, eventually, state_of

_START_S = 30.0
_JOB_S = 45.0
_ONE = pa.table({"x": [1]})


class Hung(Exception):
    """A job did not end in time."""


class Stage:
    """An engine with a worker for attacks and a sibling, both in the same sandbox."""

    def __init__(self, scene: Scene, sandbox: str) -> None:
        self.scene = scene
        self.sandbox = sandbox
        self.ctx = al.connect(sandbox=sandbox, parallelism=2)
        self._folder = scene.base / "sibling"
        self._sibling: threading.Thread | None = None
        self._functions: dict[tuple[Any, ...], Any] = {}
        self.open()

    def options(self, **more: Any) -> dict[str, Any]:
        """Give the options of a hostile function."""
        facts = self.scene.facts
        mounts = {facts["mount_ro"]: "ro", facts["mount_rw"]: "rw"}
        return {"retries": 0, "memory": "512MiB", "timeout": "20s", "mounts": mounts, **more}

    def open(self) -> None:
        """Start the engine and the sibling, and note where they are."""
        facts = self.scene.facts
        self.one = self.ctx.from_arrow(_ONE)
        self._start_sibling()
        status, engine = self.ctx.status(), self.ctx.engine()
        facts["engine"], facts["supervisor"] = status["engine_pid"], status["supervisor_pid"]
        run_dir = engine._run_dir  # type: ignore[attr-defined]
        worker = next(w for w in status["workers"] if w["busy"])
        info = json.loads((self._folder / "info.json").read_text())
        own = Path(info["scratch"])
        # In a sandbox the sibling's scratch may lie elsewhere than outside, or nowhere.
        outside = next((run_dir / "scratch").glob(f"{worker['id']}-*"), own)
        scratch = own if own.exists() else outside
        facts |= {
            "run_dir": str(run_dir),
            "run_new": str(run_dir / "new"),
            "artifacts": str(run_dir / "artifacts"),
            "engine_socket": str(run_dir / "engine.sock"),
            "sibling_engine_socket": next(
                (str(p) for p in (run_dir / "fn" / worker["id"]).iterdir() if p.is_socket()),
                str(run_dir / "fn" / worker["id"] / "fn.sock"),
            ),
            "sibling_page": str(run_dir / "fn" / worker["id"] / "page"),
            "sibling_pid": _deepest(worker["pid"]),
            "sibling_address": info["address"],
            "sibling_scribble": info["scribble"],
            "sibling_secret_mark": "sibling_memory-",
            "sibling_file": str(scratch / "secret"),
            "sibling_canary": str(scratch / "canary"),
            "sibling_socket": str(scratch / "sibling.sock"),
            "sibling": self.scene.secret("sibling_token"),
            "supervisor_socket": next(
                (str(p) for p in (run_dir / "supervisor").glob("plugin*") if p.is_socket()), ""
            ),
            "survivor_mark": f"alink-survivor-{secrets.token_hex(8)}",
        }

    def _start_sibling(self) -> None:
        self._folder.mkdir(exist_ok=True)
        for name in ("stop", "info.json", "received"):
            (self._folder / name).unlink(missing_ok=True)
        secret, place = self.scene.secret, str(self._folder)
        hold = al.udf("string", **self.options(
            memory="513MiB", timeout=None, mounts={place: "rw"}, secrets=[VARIABLES[1]],
        ))(sibling.hold)  # fmt: skip
        held = self.one.with_columns(
            y=hold(al.lit(place), al.lit(secret("sibling_disk")), al.lit(secret("sibling_memory")))
        )
        failed: list[BaseException] = []

        def run() -> None:
            try:
                held.collect()
            except al.Error as error:  # where an attack has ended it
                failed.append(error)

        self._sibling = threading.Thread(target=run, daemon=True)
        self._sibling.start()
        begun = self._folder / "info.json"
        if not eventually(lambda: begun.exists() or bool(failed), _START_S) or failed:
            raise RuntimeError(f"the sibling did not start: {failed}")

    def sibling_works(self) -> bool:
        """Tell whether the sibling runs undisturbed."""
        return (
            self._sibling is not None
            and self._sibling.is_alive()
            and bool(state_of(self.scene.facts["sibling_pid"]))
        )

    def works(self) -> bool:
        """Tell whether the engine answers and computes."""
        if not state_of(self.scene.facts["engine"]):
            return False
        numbers = self.ctx.from_arrow(pa.table({"n": range(1000)}))
        try:
            total = self.within(20, lambda: numbers.agg(s="sum(n)").to_arrow())["s"][0].as_py()
        except (al.Error, Hung):
            return False
        return total == 499_500

    def reopen(self) -> None:
        """Start afresh, with an engine that no attack has touched."""
        self.end()
        self.ctx = al.connect(sandbox=self.sandbox, parallelism=2)
        self.open()

    def mend(self) -> None:
        """Start afresh where an attack has done damage."""
        if not self.works() or not self.sibling_works():
            self.reopen()

    def end(self) -> None:
        """End the sibling and the engine."""
        (self._folder / "stop").touch()
        if self._sibling is not None:
            self._sibling.join(2)
        self.ctx.close()

    def kill_engine(self) -> None:
        """Kill the engine, which then cannot say goodbye to anyone."""
        with contextlib.suppress(OSError):
            os.kill(self.scene.facts["engine"], signal.SIGKILL)

    def call(self, function: Callable[..., Any], *args: str, **options: Any) -> str:
        """Run a function with texts as arguments in a worker; give the text it returns."""
        key = (function, tuple(sorted((k, str(v)) for k, v in options.items())))
        if key not in self._functions:
            self._functions[key] = al.udf("string", **self.options(**options))(function)
        applied = self._functions[key](*(al.lit(a) for a in args))
        table = self.one.with_columns(y=applied)
        return self.within(_JOB_S, table.to_arrow)["y"][0].as_py()

    def within(self, seconds: float, work: Callable[[], Any]) -> Any:
        """Do what may hang.

        Raises
        ------
        Hung
            If it does not end in time.
        """
        result: list[Any] = []
        error: list[BaseException] = []

        def run() -> None:
            try:
                result.append(work())
            except BaseException as one:  # raised below
                error.append(one)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(seconds)
        if thread.is_alive():
            raise Hung(f"no end in {seconds:g} s")
        if error:
            raise error[0]
        return result[0]


def _deepest(pid: int) -> int:
    """Give the last of a chain of only children: Python behind the sandbox's own processes."""
    while True:
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return pid
        if len(children) != 1:
            return pid
        pid = int(children[0])
