"""Notebooks: real kernels, driven as Jupyter drives them."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import time
from pathlib import Path

import nbclient
import nbformat
import pyarrow as pa
import pytest
from jupyter_client.manager import KernelManager
from nbformat.v4 import new_code_cell, new_notebook

import alink as al
from alink._notebook import progress_html, table_html
from alink._progress import OperatorProgress, Progress

from .conftest import PACKAGE_PARENT, REPOSITORY

EXAMPLE = REPOSITORY / "examples" / "flights.ipynb"
TIMEOUT_S = 240


@pytest.fixture(autouse=True)
def kernel_environment(pyrunner, monkeypatch, tmp_path):
    """Kernels import this alink and show progress as for a user."""
    monkeypatch.setenv("PYTHONPATH", PACKAGE_PARENT)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("ALINK_PROGRESS", raising=False)


def run_cells(*sources, folder=REPOSITORY):
    """Run cells in a new kernel; each gives its outputs. Errors are outputs too."""
    notebook = new_notebook(cells=[new_code_cell(source) for source in sources])
    client = nbclient.NotebookClient(
        notebook,
        timeout=TIMEOUT_S,
        kernel_name="python3",
        allow_errors=True,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()
    return [cell.outputs for cell in notebook.cells]


def texts(outputs):
    """What a cell prints and gives, without the progress of its jobs."""
    found = []
    for output in outputs:
        if output.output_type == "display_data":
            continue
        assert output.output_type != "error", "\n".join(output.traceback)
        found.append(output.get("text") or output.get("data", {}).get("text/plain", ""))
    return "".join(found)


def test_the_example_runs_and_has_no_outputs():
    notebook = nbformat.read(EXAMPLE, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    client = nbclient.NotebookClient(
        notebook,
        timeout=TIMEOUT_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(EXAMPLE.parent)}},
    )
    client.execute()
    first = code[0].outputs[-1]["data"]["text/html"]
    assert "first 20 rows, there are more × 19 columns" in first
    errors = [o for cell in code for o in cell.outputs if o.output_type == "error"]
    assert [error.ename for error in errors] == ["UdfError"]


def test_a_redefined_function_is_never_served_by_old_code():
    define = "@al.udf('bigint')\ndef f(x):\n    return x + {}\n"
    use = "t.select(y=f('x')).to_arrow()['y'].to_pylist()"
    cells = run_cells(
        "import alink as al, pyarrow as pa\nt = al.from_arrow(pa.table({'x': [1, 2]}))",
        define.format(10),
        f"before = t.select(y=f('x'))\n{use}",
        define.format(20),
        use,
        "helper = lambda x: x * 2",
        "@al.udf('bigint')\ndef f(x):\n    return helper(x)\n" + use,
        "helper = lambda x: x * 3",
        use,
        "before.to_arrow()['y'].to_pylist()",
    )
    got = [texts(cells[i]) for i in (2, 4, 6, 8, 9)]
    assert got == ["[11, 12]", "[21, 22]", "[2, 4]", "[3, 6]", "[11, 12]"]


def test_a_running_event_loop_is_no_obstacle():
    """Cells run inside Jupyter's loop, with and without await."""
    cells = run_cells(
        "import asyncio, alink as al, pyarrow as pa\nt = al.from_arrow(pa.table({'x': [1, 2]}))",
        "asyncio.get_running_loop()\nt.count()",
        "async def rows():\n    return t.count()\nawait rows()",
        "a, b = await asyncio.gather(asyncio.to_thread(t.count), asyncio.to_thread(t.to_arrow))\n"
        "a, b.num_rows",
    )
    assert [texts(outputs) for outputs in cells[1:]] == ["2", "2", "(2, 2)"]


def test_an_error_shows_the_diagnostic_and_the_way_to_it():
    cells = run_cells(
        "import alink as al, pyarrow as pa\nt = al.from_arrow(pa.table({'x': [1.0, 0.0]}))",
        "@al.udf('double')\ndef inverse(x):\n    return 1 / x\n",
        "t.select(y=inverse('x')).to_arrow()",
        "def mine():\n    return t.select('z').to_arrow()\nmine()",
        "%env ALINK_TRACEBACK=full\nt.select('z').to_arrow()",
    )
    error = cells[2][-1]
    assert error.ename == "UdfError"
    assert error.traceback == [
        "UdfError: ALK2001: inverse raised ZeroDivisionError: float division by zero\n"
        "  Cell In[2], line 3, in inverse\n"
        "    return 1 / x\n" + caret("           ^^^^^\n") + "  row 1: x=0.0\n"
        "  hint: call inverse.local(...) with the values of this row"
    ]
    error = cells[3][-1]
    *frames, text = error.traceback
    assert [line.split("\n")[0] for line in frames] == [
        '  File "Cell In[4]", line 3, in <module>',
        '  File "Cell In[4]", line 2, in mine',
    ]
    assert text.startswith("PlanError: ALK1001: ")
    assert "  Cell In[4], line 2, in mine\n" in text
    full = "".join(cells[4][-1].traceback)
    assert "_table.py" in full


def caret(line):
    import sys

    return line if sys.version_info >= (3, 11) else ""


def test_tables_and_progress_are_shown():
    cells = run_cells(
        "import alink as al, pyarrow as pa, time\n"
        "t = al.from_arrow(pa.table({'<x>': ['a & b', None, 'c' * 200]}))\n"
        "calls = []\n"
        "t",
        "t",
        "@al.udf('string')\ndef slow(x):\n    print('here', x and x[0])\n    time.sleep(0.4)\n"
        "    return x\n",
        "t.select(y=slow(al.col('<x>'))).to_arrow().num_rows",
    )
    html = cells[0][-1]["data"]["text/html"]
    assert "<th>&lt;x&gt;</th>" in html
    assert "<td>a &amp; b</td>" in html
    assert "<span class=null>NULL</span>" in html
    assert f"<td>{'c' * 79}…</td>" in html
    assert "3 rows × 1 column" in html
    assert cells[1][-1]["data"]["text/html"] == html
    (shown,) = [o for o in cells[3] if o.output_type == "display_data"]
    assert "<details><summary>succeeded after" in shown["data"]["text/html"]
    assert "✓ slow" in shown["data"]["text/html"]
    printed = "".join(o.text for o in cells[3] if o.output_type == "stream")
    assert "[slow] here a\n" in printed
    assert cells[3][-1]["data"]["text/plain"] == "3"


def test_preview_is_computed_once(ctx, monkeypatch):
    runs = []
    run = al.Table._run
    monkeypatch.setattr(al.Table, "_run", lambda self: (runs.append(self), run(self))[1])
    table = ctx.from_arrow(pa.table({"x": range(100)})).filter("x % 2 = 0")
    first = table._repr_html_()
    assert table._repr_html_() == first
    assert len(runs) == 1
    assert first.count("<td") == 20
    assert '<td class="r">38</td>' in first
    assert "first 20 rows, there are more × 1 column" in first
    table.filter("x > 90")._repr_html_()
    assert len(runs) == 2


def test_table_html_is_bounded():
    wide = pa.table({f"column {i}": ["<b>" + "x" * 100_000] * 2 for i in range(2000)})
    html = table_html(wide, more=True)
    assert len(html) < 30_000
    assert "<b>" not in html
    assert "(1,970 of them not shown)" in html
    assert html.count("<td>…</td>") == 2
    deep = pa.table({"x": [[[i] * 1000 for i in range(1000)]], "y": [b"\0" * 10_000_000]})
    assert len(table_html(deep)) < 2_000
    assert "0 rows × 1 column" in table_html(pa.table({"x": pa.array([], "int64")}))


def test_progress_html_is_escaped():
    operators = (
        OperatorProgress("n1", "<f>", 0, 1_200, 0, "running", "building <x>", 52_428_800),
        OperatorProgress("n2", "agg"),
    )
    html = progress_html(Progress(operators, 1.26), {"n1": "12k rows/s"}, "running")
    assert "running for 1.3 s" in html
    assert '▸ &lt;f&gt;</td><td class="r">1,200 rows</td><td class="r">12k rows/s</td>' in html
    assert '<td class="r">50 MiB</td><td>building &lt;x&gt;</td>' in html
    assert "<details>" in progress_html(Progress(operators, 1.26), {}, "failed")


@pytest.fixture
def kernel(tmp_path):
    """A kernel and its client."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(tmp_path))
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=TIMEOUT_S)
        yield manager, client
    finally:
        client.stop_channels()
        with contextlib.suppress(RuntimeError):
            manager.shutdown_kernel(now=True)


# Counts its rows in a file, so that a test sees it at work.
SLOW_JOB = """
import os, time
import alink as al, pyarrow as pa
@al.udf("bigint", sandbox="off")
def slow(x):
    with open({seen!r}, "a") as seen:
        seen.write(f"{{os.getpid()}}\\n")
    time.sleep(0.05)
    return x
t = al.from_arrow(pa.table({{"x": range(100_000)}}))
print("engine", al._connection.default_context().engine().pid,
      al._connection.default_context().engine()._run_dir)
"""


def outputs_until(client, wanted):
    """Read what a kernel sends until a message satisfies `wanted`."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(queue.Empty):
            message = client.get_iopub_msg(timeout=1)
            if wanted(message):
                return message
    pytest.fail("the kernel did not say what was waited for")


def start_slow_job(client, tmp_path, eventually):
    """Start a job that takes long; the engine's pid and folder, and a worker's pid."""
    seen = tmp_path / "seen"
    client.execute(SLOW_JOB.format(seen=str(seen)))
    message = outputs_until(
        client, lambda m: m["msg_type"] == "stream" and m["content"]["text"].startswith("engine")
    )
    _, engine, run_dir = message["content"]["text"].split()
    # Not to be followed by the refusal of what is sent next, which is a kernel's habit.
    request = client.execute("t.select(y=slow('x')).to_arrow()", stop_on_error=False)
    assert eventually(lambda: seen.exists() and seen.read_text().count("\n") > 1, TIMEOUT_S)
    worker = int(seen.read_text().split("\n")[0])
    return request, int(engine), Path(run_dir), worker


def test_interrupting_the_kernel_cancels_the_job(kernel, tmp_path, eventually):
    manager, client = kernel
    request, _, _, _ = start_slow_job(client, tmp_path, eventually)
    manager.interrupt_kernel()
    error = outputs_until(client, lambda m: m["msg_type"] == "error")
    assert error["parent_header"]["msg_id"] == request
    assert error["content"]["ename"] == "KeyboardInterrupt"
    # The engine and the tables stay, and the job has ended.
    client.execute(
        "deadline = time.monotonic() + 60\n"
        "while any(w['busy'] for w in al._connection.default_context().status()['workers']):\n"
        "    assert time.monotonic() < deadline\n"
        "    time.sleep(0.05)\n"
        "print('rows', t.count())"
    )
    message = outputs_until(
        client, lambda m: m["msg_type"] == "error" or "rows" in m["content"].get("text", "")
    )
    assert message["content"].get("text") == "rows 100000\n", message["content"]


def test_a_killed_kernel_leaves_nothing_behind(kernel, tmp_path, eventually, is_running):
    manager, client = kernel
    _, engine, run_dir, worker = start_slow_job(client, tmp_path, eventually)
    assert is_running(engine)
    assert is_running(worker)
    os.kill(manager.provisioner.pid, signal.SIGKILL)
    assert eventually(lambda: not is_running(engine), 60)
    assert eventually(lambda: not is_running(worker), 60)
    assert eventually(lambda: not run_dir.exists(), 60)
