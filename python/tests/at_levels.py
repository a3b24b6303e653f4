"""What ordinary programs do in functions, as a script; test_levels.py runs it at each level.

Writes a line of JSON for each thing that was tried: its name, and what came back.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import beside_levels  # pyright: ignore[reportMissingImports]
import editable_package  # pyright: ignore[reportMissingImports]
import pyarrow as pa

import alink as al

TRIED: dict[str, Callable[..., Any]] = {}


def tried(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Note a function that is called in a worker with a number."""

    def note(function: Callable[..., Any]) -> Callable[..., Any]:
        TRIED[function.__name__] = al.udf("string", **options)(outcome_of(function))
        return function

    return note


def outcome_of(function: Callable[..., Any]) -> Callable[..., str]:
    """Make of what a function gives, or of the error of the system's that it meets, a text."""

    def attempted(x: int) -> str:
        try:
            return str(function(x))
        except OSError as error:
            return type(error).__name__

    attempted.__name__ = function.__name__
    return attempted


PORT, HOME, SANDBOX = int(sys.argv[1]), *sys.argv[2:]


def helper(x: int) -> int:
    """Stand beside a function in the script."""
    return x * 10


@tried()
def helper_of_the_script(x: int) -> int:
    return helper(x)


@tried()
def module_beside_the_script(x: int) -> int:
    return beside_levels.doubled(x)


@tried()
def editable_install(x: int) -> int:
    return editable_package.triple(x)


@tried()
def subprocess_(x: int) -> str:
    import subprocess

    command = [sys.executable, "-I", "-S", "-c", f"print({x} + 1)"]
    shell = subprocess.run(["/bin/sh", "-c", "echo shell"], capture_output=True, check=True)
    done = subprocess.run(command, capture_output=True, check=True)
    return (shell.stdout + done.stdout).decode().replace("\n", " ").strip()


@tried()
def fork(x: int) -> int:
    import os

    child = os.fork()
    if child == 0:
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _squared(x: int) -> int:
    return x * x


@tried()
def pool_of_processes(x: int) -> list[int]:
    import multiprocessing

    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(beside_levels.doubled, [x, x + 1])


@tried()
def queue_and_lock(x: int) -> int:
    import multiprocessing

    with multiprocessing.Lock():
        queue = multiprocessing.Queue()
    queue.put(x)
    return queue.get(timeout=20)


@tried()
def process_with_a_pipe(x: int) -> int:
    import multiprocessing

    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=lambda: theirs.send(x * x))
    process.start()
    assert ours.poll(20)
    value = ours.recv()
    process.join()
    return value


@tried()
def pool_of_threads(x: int) -> list[int]:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(_squared, [x, x + 1]))


@tried()
def temporary_files(x: int) -> str:
    import tempfile
    from pathlib import Path

    with tempfile.NamedTemporaryFile("w+") as file, tempfile.TemporaryDirectory() as folder:
        file.write(str(x))
        file.seek(0)
        Path(folder, "a").write_text("a")
        return file.read() + Path(folder, "a").read_text()


@tried()
def home(x: int) -> str:
    import os
    from pathlib import Path

    file = Path.home() / ".cache" / "of-a-library"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("kept")
    return f"{file.read_text()} {os.environ['HOME'] == str(Path.home()) != HOME}"


@tried()
def time_zones(x: int) -> str:
    from datetime import datetime
    from zoneinfo import ZoneInfo

    return datetime(2024, 7, 1, tzinfo=ZoneInfo("Europe/Berlin")).isoformat()


@tried()
def locales(x: int) -> str:
    import locale

    locale.setlocale(locale.LC_ALL, "")
    return f"{locale.getpreferredencoding()} {'ä'.encode(sys.getfilesystemencoding())!r}"


@tried()
def certificates(x: int) -> bool:
    import ssl
    from pathlib import Path

    paths = ssl.get_default_verify_paths()
    folder = Path(paths.capath) if paths.capath else None
    found = folder is not None and any(folder.iterdir())
    return bool(ssl.create_default_context().get_ca_certs()) or found


def _connected(port: int) -> str:
    import socket

    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        return connection.recv(100).decode()


@tried(network=True)
def network(x: int) -> str:
    return _connected(PORT)


@tried()
def network_without_the_grant(x: int) -> str:
    return _connected(PORT)


@tried(env=al.Environment(requirements=["six==1.16.0"]))
def built_environment(x: int) -> str:
    import six

    return six.__version__


@al.udf("string")
class WithSetup:
    """Is set up once."""

    def setup(self) -> None:
        """Count from here."""
        self.start = 100

    def __call__(self, x: int) -> str:
        """Count on."""
        return str(self.start + x)


TRIED["class_with_setup"] = WithSetup


def train(batches: Any) -> dict[str, float]:
    """Fit a mean."""
    values = [v for batch in batches for v in batch.column("x").to_pylist()]
    return {"mean": sum(values) / len(values)}


def main() -> None:
    """Try everything in one engine."""
    with al.connect(sandbox=SANDBOX, parallelism=1) as ctx:
        table = ctx.from_arrow(pa.table({"x": [4]}))
        model = table.fit(train)

        @al.udf("string", models={"m": model})
        def fit_model(x: int, m: dict[str, float]) -> str:
            return str(x - m["mean"])

        for name, function in {**TRIED, "fit_model": fit_model}.items():
            try:
                [row] = table.select(y=function("x")).collect()
                outcome = row["y"]
            except al.Error as error:
                outcome = f"error: {error}"
            print(json.dumps([name, outcome]), flush=True)
        levels = {worker["sandbox"] for worker in ctx.status()["workers"]}
        print(json.dumps(["level", " ".join(levels)]), flush=True)


if __name__ == "__main__":
    main()
