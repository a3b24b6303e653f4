"""Attacks on the engine and the client with what a worker sends back."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

import alink as al
from attack.case import Facts, Refused
from attack.scene import state_of
from attack.stage import Hung, Stage

_ESCAPE = "\x1b]0;attack\x07\x1b[2J"
_ENGINE_GROWTH_BYTES_MAX = 600 << 20


@dataclass(frozen=True)
class Outside:
    """An attack that the client takes part in: it gives evidence, or raises `Refused`."""

    name: str
    category: str
    success: str
    run: Callable[[Stage], str]


OUTSIDE: dict[str, Outside] = {}


def outside(
    category: str, success: str
) -> Callable[[Callable[[Stage], str]], Callable[[Stage], str]]:
    """Register an attack by its function's name."""

    def register(run: Callable[[Stage], str]) -> Callable[[Stage], str]:
        name = run.__name__.replace("_", "-")
        OUTSIDE[name] = Outside(name, category, success, run)
        return run

    return register


# --- what must not be unpickled ---


class _Bomb:
    """Runs when it is unpickled, and says in which process."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        code = f"import os; open({self.path!r} + str(os.getpid()), 'w').write('ran')"
        return exec, (code,)


class _BombError(ValueError):
    """An exception that runs when it is unpickled."""

    def __init__(self, path: str) -> None:
        super().__init__(_Bomb(path))
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return _Bomb(self.path).__reduce__()


def _exploded(stage: Stage, facts: Facts) -> str:
    """Say in which of the processes that must not unpickle a bomb has gone off."""
    trusted = {os.getpid(), facts["engine"], facts["supervisor"]}
    folder = Path(facts["mount_rw"])
    gone_off = {int(p.name.removeprefix("bomb-")) for p in folder.glob("bomb-*")}
    for path in folder.glob("bomb-*"):
        path.unlink()
    if not gone_off & trusted:
        raise Refused("it was not unpickled outside")
    return f"in {gone_off & trusted}"


def _return_bomb(path: str) -> Any:
    return _Bomb(path)


def _raise_bomb(path: str) -> str:
    raise _BombError(path)


def _bomb_path(stage: Stage) -> str:
    return f"{stage.scene.facts['mount_rw']}/bomb-"


@outside("returned", "an object that runs when unpickled was unpickled outside a worker")
def pickled_result(stage: Stage) -> str:
    for type_name in ("string", "binary"):
        function = al.udf(type_name, **stage.options())(_return_bomb)
        try:
            stage.within(30, stage.one.with_columns(y=function(al.lit(_bomb_path(stage)))).collect)
        except al.Error as error:
            str(error)
    return _exploded(stage, stage.scene.facts)


@outside("returned", "an exception that runs when unpickled was unpickled outside a worker")
def pickled_exception(stage: Stage) -> str:
    try:
        stage.call(_raise_bomb, _bomb_path(stage))
    except al.Error as error:
        repr((str(error), error.__cause__))
    return _exploded(stage, stage.scene.facts)


@outside("returned", "a model that runs when unpickled was unpickled outside a worker")
def pickled_model(stage: Stage) -> str:
    path = _bomb_path(stage)

    def train(batches: Any) -> Any:
        for _ in batches:
            pass
        return _Bomb(path)

    limits = {k: v for k, v in stage.options().items() if k != "retries"}
    model = stage.within(30, lambda: stage.one.fit(train, **limits))
    file = stage.scene.base / "model"
    model.save(file)
    repr(al.Model.load(file))
    return _exploded(stage, stage.scene.facts)


# --- what is shown ---


def _raise_escape(text: str) -> str:
    raise ValueError(text)


def _raise_named(name: str) -> str:
    raise type(name, (Exception,), {})("x")


@outside("returned", "the text of an error moved the cursor of the user's terminal")
def escapes_in_error(stage: Stage) -> str:
    for function, text in ((_raise_escape, _ESCAPE), (_raise_named, _ESCAPE)):
        try:
            stage.call(function, text)
        except al.Error as error:
            if "\x1b" in str(error):
                return repr(str(error))[:200]
    raise Refused("it is shown as text")


@outside("returned", "a value moved the cursor of the user's terminal")
def escapes_in_rows(stage: Stage) -> str:
    table = stage.one.with_columns(y=al.udf("string", **stage.options())(_echo)(al.lit(_ESCAPE)))
    if "\x1b" in stage.within(30, lambda: _shown(table)):
        return "show() passed it on"
    raise Refused("it is shown as text")


@outside("returned", "a value ran as a script in the user's notebook")
def script_in_preview(stage: Stage) -> str:
    script = "<script>alert(1)</script>"
    table = stage.one.with_columns(y=al.udf("string", **stage.options())(_echo)(al.lit(script)))
    if script in stage.within(30, table._repr_html_):
        return "the preview holds it as HTML"
    raise Refused("it is shown as text")


def _echo(text: str) -> str:
    return text


def _shown(table: Any) -> str:
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()) as out:
        table.show()
    return out.getvalue()


@outside("returned", "the client ended, or thought that it was interrupted, for an error's name")
def error_of_the_system(stage: Stage) -> str:
    for name in ("SystemExit", "KeyboardInterrupt", "GeneratorExit", "MemoryError"):
        try:
            stage.call(_raise_builtin, name)
        except al.Error:
            continue
        except BaseException as error:  # what is looked for
            return f"{name} came as {type(error).__name__}"
    raise Refused("all are errors of the function")


def _raise_builtin(name: str) -> str:
    import builtins

    raise getattr(builtins, name)("from the worker")


# --- the protocol ---


def _worker() -> Any:
    """Give the harness's own object, which no function is meant to have."""
    frame = sys._getframe()
    while frame is not None:
        if type(frame.f_locals.get("self")).__name__ == "_Worker":
            return frame.f_locals["self"]
        frame = frame.f_back
    raise RuntimeError("the harness is not on the stack")


def _speak(kind: str) -> str:
    """Break the protocol between worker and engine in one way."""
    import time

    lane = _worker()._lane
    if kind == "garbage":
        lane._socket.sendall(os.urandom(50_000))
    elif kind == "oversized":
        lane._socket.sendall(_frame(lane, 0xFFFF_FFFF, 6))
    elif kind == "half-frame":
        lane._socket.sendall(_frame(lane, 60 << 20, 6) + bytes(1000))
    elif kind == "flood-data":
        for _ in range(2000):
            lane._socket.sendall(_frame(lane, 1 << 20, 6, bundle=1 << 40) + bytes(1 << 20))
    elif kind == "flood-log":
        for i in range(300_000):
            print("x" * 1000, i)
    elif kind == "answers":
        for i in range(1000):
            lane.respond(f"b{i}", {"process_bundle": {}})
            lane.respond(f"{i}" * 100, {"error": "{" * 1000})
    elif kind == "slots":
        for slot in (0, 1, 77, 65_534):
            lane._socket.sendall(_frame(lane, 0, 6, slot=slot, slot_bytes=1 << 31))
            lane._socket.sendall(_frame(lane, 2, 12) + slot.to_bytes(2, "little"))
    time.sleep(0.3)
    return "said"


def _frame(
    lane: Any, size: int, kind: int, bundle: int = 1, slot: int = 0xFFFF, slot_bytes: int = 0
) -> bytes:
    import struct

    return struct.pack("<IIQHBB4x", size, slot_bytes, bundle, slot, kind, 0)


def _cut_slots(seen: str) -> str:
    """Cut every segment of shared memory that comes from now on, or tell what came of it."""
    lane = _worker()._lane
    if seen:
        return " ".join(getattr(lane, "attack_said", ["none came"]))
    lane.attack_said = []
    put_away = lane._map

    def cut(is_input: bool, slot: int, size: int, descriptor: int) -> None:
        try:
            os.ftruncate(descriptor, 0)
            lane.attack_said.append("cut")
        except OSError as error:
            lane.attack_said.append(f"{error.errno}")
        put_away(is_input, slot, size, descriptor)

    lane._map = cut
    return "waiting"


def _long(text: str) -> str:
    return text * 3


def _forge_page(kind: str) -> str:
    import time

    from alink_worker._progress import PROGRESS  # type: ignore[import-not-found]

    words = PROGRESS._words
    if kind == "words":
        for i in range(len(words)):
            words[i] = 2**64 - 1
    path = next(p for fd in range(3, 64) if (p := _link(fd)).endswith("/page"))
    if kind == "cut":
        os.truncate(path, 0)
    elif kind == "grown":
        os.truncate(path, 1 << 40)
    time.sleep(1.5)
    if kind == "cut":
        os.truncate(path, 4096)
    return "forged"


def _link(descriptor: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""


def _connect_again(how: str, endpoint: str = "") -> str:
    """Say hello to the engine a second time, or in another worker's name."""
    import socket

    lane = _worker()._lane
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.settimeout(3)
        peer.connect(endpoint or lane._path)
        id_ = Path(endpoint).parent.name if endpoint else lane._hello["worker"]
        hello = json.dumps({**lane._hello, "worker": id_, "connection": "bundles"}).encode()
        peer.sendall(_frame(lane, len(hello), 1, bundle=0) + hello)
        header = peer.recv(24, socket.MSG_WAITALL)
    if len(header) == 24 and header[18] == 2:
        return "open"
    return f"refused: {header!r}"


def _steady(stage: Stage, attack: Callable[[], object]) -> str:
    """Do something hostile; the engine and the sibling must not be touched by it."""
    engine = stage.scene.facts["engine"]
    before = _resident(engine)
    try:
        said = str(attack())
    except al.Error as error:
        said = error.code
    except Hung as error:
        return str(error)
    if not state_of(engine) or not stage.works():
        return f"the engine is gone ({said})"
    if not stage.sibling_works():
        return f"another worker was touched ({said})"
    if (grown := _resident(engine) - before) > _ENGINE_GROWTH_BYTES_MAX:
        return f"the engine grew by {grown >> 20} MiB ({said})"
    raise Refused(said)


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
    except OSError:
        return 0


def _register_speech(kind: str, success: str) -> None:
    def run(stage: Stage) -> str:
        return _steady(stage, lambda: stage.call(_speak, kind))

    run.__name__ = kind.replace("-", "_")
    outside("protocol", success)(run)


_HARMED = ": the engine or another worker was harmed, or the job never ended"
_register_speech("garbage", f"noise instead of frames{_HARMED}")
_register_speech("oversized", f"a frame of 4 GiB was announced{_HARMED}")
_register_speech("half-frame", f"a frame was begun and never ended{_HARMED}")
_register_speech("flood-data", f"2 GB of data that nobody has asked for{_HARMED}")
_register_speech("flood-log", f"300 MB of output{_HARMED}")
_register_speech("answers", f"answers to what was not asked{_HARMED}")
_register_speech("slots", f"shared memory was named that is not there{_HARMED}")


@outside("protocol", "shared memory was cut short under the engine's hands")
def cut_slots(stage: Stage) -> str:
    rows = stage.ctx.from_arrow(pa.table({"x": ["y" * 100] * 20_000}))
    long = al.udf("string", **stage.options(workers=1))(_long)

    def attack() -> str:
        options = stage.options(workers=1)
        cut = al.udf("string", **options)(_cut_slots)
        stage.within(20, stage.one.with_columns(y=cut(al.lit(""))).collect)
        stage.within(20, rows.with_columns(y=long("x")).count)
        table = stage.one.with_columns(y=cut(al.lit("seen")))
        return stage.within(20, table.to_arrow)["y"][0].as_py()

    return _steady(stage, attack)


@outside("protocol", f"a forged page of progress{_HARMED}")
def forged_page(stage: Stage) -> str:
    return _steady(stage, lambda: stage.call(_forge_page, "words"))


@outside("protocol", f"a page of progress that was cut short or grown{_HARMED}")
def cut_page(stage: Stage) -> str:
    said = ""
    for kind in ("cut", "grown"):
        try:
            return _steady(stage, lambda kind=kind: stage.call(_forge_page, kind))
        except Refused as refused:
            said += f"{refused} "
    raise Refused(said)


@outside("protocol", "a worker held two control streams")
def connect_twice(stage: Stage) -> str:
    answer = stage.call(_connect_again, "again")
    if not answer.startswith("open"):
        raise Refused(answer)
    return answer


@outside("protocol", "a worker spoke in another worker's name")
def connect_as_other(stage: Stage) -> str:
    answer = stage.call(_connect_again, "as", stage.scene.facts["sibling_engine_socket"])
    if not answer.startswith("open"):
        raise Refused(answer)
    return answer


def _invalid_array(kind: pa.Array) -> pa.Array:
    """Give texts whose offsets lead far out of their buffer, past the worker's own checks."""
    import array

    from alink_worker import _elements  # type: ignore[import-not-found]

    count = len(kind)
    offsets = pa.py_buffer(array.array("i", [i * (1 << 20) for i in range(count + 1)]).tobytes())
    forged = pa.StringArray.from_buffers(count, offsets, pa.py_buffer(b"short"))
    for name in ("validate",):
        if hasattr(_elements, name):
            setattr(_elements, name, lambda *_: None)
    return forged


@outside("protocol", f"texts that lie outside of their buffer{_HARMED}")
def invalid_arrow(stage: Stage) -> str:
    function = al.udf("string", batch="arrow", **stage.options())(_invalid_array)
    rows = stage.ctx.from_arrow(pa.table({"x": range(1000)}))
    table = rows.with_columns(y=function("x")).select("y", n="length(y)")
    return _steady(stage, lambda: stage.within(30, table.to_arrow).num_rows)


def _flip(seed: str) -> str:
    """Flip bits in what this worker sends from now on."""
    import random

    lane, source = _worker()._lane, random.Random(int(seed))
    send = lane._send

    def flipped(kind: int, parts: list[Any], **more: Any) -> None:
        changed = bytearray(b"".join(parts))
        for _ in range(3 if changed else 0):
            changed[source.randrange(len(changed))] ^= 1 << source.randrange(8)
        send(kind, [bytes(changed)] if parts else parts, **more)

    lane._send = flipped
    return "x" * 500


@outside("protocol", f"results with flipped bits{_HARMED}")
def flipped_bits(stage: Stage) -> str:
    said = []
    for seed in range(4):
        try:
            return _steady(stage, lambda seed=seed: len(stage.call(_flip, str(seed))))
        except Refused as refused:
            said.append(str(refused))
    raise Refused(", ".join(said))


# --- surviving ---


def tell(stage: Stage, text: str) -> dict[str, str]:
    """Read an outcome that a worker has given as JSON; a worker may say anything."""
    try:
        answer = json.loads(text)
        return {"outcome": str(answer["outcome"]), "evidence": str(answer["evidence"])}
    except (ValueError, KeyError, TypeError):
        return {"outcome": "broken", "evidence": f"the worker said {text[:200]!r}"}
