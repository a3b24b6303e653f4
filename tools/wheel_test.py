"""Try a wheel where nobody has the checkout: in new virtual environments, elsewhere.

Each Python gets an environment with nothing in it but what pip installs with the wheel, and
what runs notebooks. There the commands, the example job and the notebook are run.

    python tools/wheel_test.py [--every-python] [--from-sdist] WHEEL PYALINK_WHEEL
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
MINORS = range(10, 15)
BESIDE = ("ipykernel", "nbclient", "pandas")

PROBE = "import sys; print(sys.version_info[1]); print(sys.executable)"

# What the environment must not depend on: settings of this project, and the checkout.
UNSET = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONSTARTUP", "GO")

RUN_NOTEBOOK = """
import sys, nbformat, nbclient
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
html = [o["data"]["text/html"] for c in notebook.cells if c.cell_type == "code"
        for o in c.outputs if "text/html" in o.get("data", {})]
assert html and "carrier" in html[0], html
"""

PYALINK = """
import pandas as pd
from pyalink.alink import *
rows = BatchOperator.fromDataframe(pd.DataFrame([["1.0 2.0"]]), schemaStr="vec string")
VectorToKvBatchOp().setVectorCol("vec").setKvCol("kv").linkFrom(rows).print()
"""

BOOSTED = """
import pandas as pd
from pyalink.alink import *
frame = pd.DataFrame({"x": [float(i) for i in range(200)], "y": [i // 100 for i in range(200)]})
rows = BatchOperator.fromDataframe(frame, schemaStr="x double, y int")
for stage in (GbdtClassifier(numTrees=5), XGBoostClassifier(numRound=5)):
    stage.setLabelCol("y").setFeatureCols(["x"]).setPredictionCol("p")
    found = stage.fit(rows).transform(rows).collectToDataframe()
    assert (found["p"] == found["y"]).mean() > 0.95, found
"""

WHERE = """
import sys, alink
assert alink.__file__.startswith(sys.prefix), alink.__file__
assert alink.find_pyrunner() == sys.prefix + "/bin/pyrunner", alink.find_pyrunner()
"""


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("pyalink", type=Path, help="the wheel of PyAlink's name")
    parser.add_argument("--every-python", action="store_true", help="from 3.10 to 3.14")
    parser.add_argument("--from-sdist", action="store_true", help="build wheels from it, compare")
    options = parser.parse_args()
    wheel = options.wheel.resolve(strict=True)
    pyalink = options.pyalink.resolve(strict=True)
    pythons = every_python() if options.every_python else {sys.version_info[1]: base_python()}
    with tempfile.TemporaryDirectory(prefix="alink-wheel-") as name:
        folder = Path(name)
        for minor, python in sorted(pythons.items()):
            print(f"== {wheel.name} with Python 3.{minor} ({python})", flush=True)
            try_wheel([wheel, pyalink], python, folder / f"3.{minor}", options.every_python)
        if options.from_sdist:
            print("== wheels from the sdist", flush=True)
            compare_sdist_wheels(folder)
    tried = ", ".join(f"3.{minor}" for minor in sorted(pythons))
    print(f"the wheel works with Python {tried}")


def base_python() -> str:
    """Give the interpreter that this one's virtual environment was made with."""
    return getattr(sys, "_base_executable", "") or sys.executable


def every_python() -> dict[int, str]:
    """Find an interpreter of every minor version: on PATH, of pyenv, of uv."""
    found: dict[int, str] = {}
    for candidate in candidates():
        # In isolation: a pyenv shim of a version that is not switched on fails here.
        try:
            done = subprocess.run(
                [candidate, "-I", "-c", PROBE],
                check=False, capture_output=True, text=True, timeout=60,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            continue
        lines = done.stdout.split("\n")
        if done.returncode == 0 and int(lines[0]) in MINORS:
            found.setdefault(int(lines[0]), lines[1])
    return found


def candidates() -> Iterator[str]:
    """Give paths that may be interpreters."""
    yield base_python()
    for minor in MINORS:
        if path := shutil.which(f"python3.{minor}"):
            yield path
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from map(str, sorted(root.glob("versions/3.*/bin/python3"), reverse=True))
    uv = os.environ.get("ALINK_UV") or shutil.which("uv")
    if uv:
        command = [uv, "python", "list", "--only-installed", "--output-format", "json"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode == 0:
            yield from (python["path"] for python in json.loads(done.stdout) if python["path"])


def try_wheel(wheels: Sequence[Path], python: str, folder: Path, boosted: bool) -> None:
    """Install the wheels into a new environment and use them, and libraries of trees if told."""
    folder.mkdir()
    environment = cleared_environment(folder)
    venv = folder / "venv"
    run([python, "-m", "venv", str(venv)], folder, environment)
    pip = [str(venv / "bin/python"), "-m", "pip", "--disable-pip-version-check"]
    run([*pip, "install", "--quiet", *map(str, wheels), *BESIDE], folder, environment)
    environment["PATH"] = f"{venv / 'bin'}{os.pathsep}{environment['PATH']}"
    for command in (["pyrunner"], ["alink"], [str(venv / "bin/python"), "-m", "alink"]):
        printed = run([*command, "version"], folder, environment)
        if not printed.startswith("pyrunner "):
            sys.exit(f"{command} version prints {printed!r}")
    run([str(venv / "bin/python"), "-c", WHERE], folder, environment)

    # Not the checkout's: the example must not find the package beside it.
    examples = folder / "examples"
    shutil.copytree(CHECKOUT / "examples", examples, ignore=shutil.ignore_patterns("out"))
    printed = run([str(venv / "bin/python"), "flight_delays.py"], examples, environment)
    if "ExpressJet Airlines" not in printed:
        sys.exit(f"the example prints\n{printed}")
    printed = run([str(venv / "bin/python"), "-c", PYALINK], examples, environment)
    if "0:1.0,1:2.0" not in printed:
        sys.exit(f"the program of PyAlink prints\n{printed}")
    if boosted:
        run([str(venv / "bin/python"), "-c", BOOSTED], examples, environment)
    notebook = [str(venv / "bin/python"), "-c", RUN_NOTEBOOK, "flights.ipynb"]
    run(notebook, examples, environment)
    if left := processes_of(folder):
        sys.exit(f"processes were left behind: {left}")


def cleared_environment(folder: Path) -> dict[str, str]:
    """Give the variables of this process without the project's; caches go to the folder."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("ALINK_") and name not in UNSET
    }
    environment["XDG_CACHE_HOME"] = str(folder / "cache")
    environment["JUPYTER_DATA_DIR"] = str(folder / "jupyter")
    environment["IPYTHONDIR"] = str(folder / "ipython")
    return environment


def processes_of(folder: Path) -> list[str]:
    """Give the command lines of processes that were started from the folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it has ended
            continue
        if words[0].startswith(str(folder)):
            found.append(" ".join(words).strip())
    return found


def compare_sdist_wheels(folder: Path) -> None:
    """Build wheels from the sdist in two places; they must be the same to the byte."""
    environment = dict(os.environ)
    python = sys.executable
    command = [python, "-m", "hatchling", "build", "-t", "sdist", "-d", str(folder)]
    run(command, CHECKOUT, environment)
    (sdist,) = folder.glob("*.tar.gz")
    digests = set()
    for place in ("a", "b and a longer name"):
        target = folder / place
        with tarfile.open(sdist) as archive:
            archive.extractall(target, filter="data")
        (source,) = target.iterdir()
        out = target / "out"
        # As "pip install ." does it, in an environment for the build alone.
        pip = [python, "-m", "pip", "--disable-pip-version-check"]
        run([*pip, "wheel", "--quiet", "--no-deps", "-w", str(out), "."], source, environment)
        (wheel,) = out.glob("*.whl")
        digests.add(hashlib.sha256(wheel.read_bytes()).hexdigest())
    if len(digests) != 1:
        sys.exit(f"the wheels built from one sdist in two folders differ: {digests}")


def run(command: Sequence[str], folder: Path, environment: dict[str, str]) -> str:
    """Run a command; give what it prints, or show it and end where it fails."""
    done = subprocess.run(
        command, check=False, cwd=folder, env=environment, capture_output=True, text=True
    )
    if done.returncode != 0:
        shown = " ".join(command)
        sys.exit(f"{shown:.300}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
