"""What notebooks show: tables and progress as HTML, errors without our frames.

IPython is used where it runs already and is never imported by itself.
"""

from __future__ import annotations

import contextvars
import html
import os
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from alink._display import column_texts, is_right_aligned
from alink._progress import mebibytes, split_lines
from alink._types import describe_type

if TYPE_CHECKING:
    import pyarrow as pa

    from alink._plan import Node
    from alink._progress import Progress

#: Rows of a table's preview.
PREVIEW_ROWS = 20
_COLUMNS_MAX = 30
_CELL_CHARS_MAX = 80
_FRAMES_MAX = 3

# In units of the notebook's own font and colours, so that it fits dark themes.
_STYLE = (
    "<style>.alink td,.alink th{text-align:left;white-space:pre}"
    ".alink .r{text-align:right}"
    ".alink .type,.alink .null,.alink .note{opacity:.6;font-weight:normal}</style>"
)

# The preview of a plan's last step, which is computed once. Steps never change.
_previews: weakref.WeakKeyDictionary[Node, str] = weakref.WeakKeyDictionary()


def preview(node: Node, fetch: Callable[[int], pa.Table]) -> str:
    """Give a table's first rows as HTML.

    Parameters
    ----------
    node : Node
        The table's step in the plan.
    fetch : callable
        Gives the first `n` rows.
    """
    shown = _previews.get(node)
    if shown is None:
        rows = fetch(PREVIEW_ROWS + 1)
        shown = table_html(rows.slice(0, PREVIEW_ROWS), more=rows.num_rows > PREVIEW_ROWS)
        _previews[node] = shown
    return shown


def table_html(table: pa.Table, more: bool = False) -> str:
    """Write a table as HTML: names, types, rows, and what is not shown."""
    fields = list(table.schema)
    kept = list(range(len(fields)))
    if len(kept) > _COLUMNS_MAX:  # columns in the middle are left out
        kept = kept[: _COLUMNS_MAX // 2] + kept[-(_COLUMNS_MAX // 2) :]
    gap = len(kept) // 2 if len(kept) < len(fields) else -1
    names, types, columns = [], [], []
    for position, index in enumerate(kept):
        if position == gap:
            names.append("<th>…</th>")
            types.append('<th class="type">…</th>')
            columns.append(["<td>…</td>"] * table.num_rows)
        field = fields[index]
        right = ' class="r"' if is_right_aligned(field.type) else ""
        name, *cells = column_texts(field, table.column(index), _CELL_CHARS_MAX)
        data = table.column(index)
        names.append(f"<th{right}>{html.escape(name)}</th>")
        kind = "type r" if right else "type"
        types.append(f'<th class="{kind}">{html.escape(describe_type(field.type))}</th>')
        columns.append(
            [
                f"<td{right}>{html.escape(text)}</td>"
                if data[row].is_valid
                else f"<td{right}><span class=null>NULL</span></td>"
                for row, text in enumerate(cells)
            ]
        )
    body = "".join(f"<tr>{''.join(cells)}</tr>" for cells in zip(*columns, strict=True))
    return (
        f'{_STYLE}<div class="alink"><table><thead><tr>{"".join(names)}</tr>'
        f"<tr>{''.join(types)}</tr></thead><tbody>{body}</tbody></table>"
        f'<div class="note">{_note(table, more, len(fields) - len(kept))}</div></div>'
    )


def _note(table: pa.Table, more: bool, hidden: int) -> str:
    rows = f"{table.num_rows:,} row{'' if table.num_rows == 1 else 's'}"
    columns = f"{table.num_columns:,} column{'' if table.num_columns == 1 else 's'}"
    note = f"first {rows}, there are more" if more else rows
    note += f" × {columns}"
    return note + (f" ({hidden:,} of them not shown)" if hidden else "")


# --- progress ---


def in_notebook() -> bool:
    """Tell whether this process is a notebook's kernel."""
    shell = _shell()
    return shell is not None and type(shell).__name__ == "ZMQInteractiveShell"


def _shell() -> Any:
    """Give the running IPython, if there is one."""
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()


class ProgressOutput:
    """A piece of a cell's output that is written anew.

    It belongs to the cell that made it, whichever thread writes and whatever runs then.
    """

    def __init__(self) -> None:
        # A kernel finds the cell of an output by a context variable.
        self._context = contextvars.copy_context()
        self._lock = threading.Lock()
        self._handle: Any = None

    def show(self, content: str) -> None:
        """Write the HTML in the place of what stood there."""
        with self._lock:
            self._context.run(self._show, content)

    def write(self, stream: Any, text: str) -> None:
        """Write text to a stream of the cell."""
        with self._lock:
            self._context.run(stream.write, text)
            self._context.run(stream.flush)

    @property
    def shown(self) -> bool:
        """Whether anything has been written."""
        return self._handle is not None

    def _show(self, content: str) -> None:
        from IPython.display import HTML, display

        if self._handle is None:
            self._handle = display(HTML(content), display_id=True)
        else:
            self._handle.update(HTML(content))


def progress_html(progress: Progress, rates: dict[str, str], state: str) -> str:
    """Write the progress of a job: a line for each operator, or folded when it has ended."""
    rows = []
    for operator in progress.operators:
        cells = [
            html.escape(operator.name),
            f"{operator.rows_out:,} rows",
            rates.get(operator.id, ""),
            mebibytes(operator.memory_bytes),
            html.escape(operator.note),
        ]
        mark = {"done": "✓", "running": "▸"}.get(operator.state, "·")
        numbers = "".join(f'<td class="r">{cell}</td>' for cell in cells[1:4])
        split = html.escape("\n".join(split_lines(operator)))
        title = f' title="{split}"' if split else ""
        rows.append(f"<tr{title}><td>{mark} {cells[0]}</td>{numbers}<td>{cells[4]}</td></tr>")
    table = f"<table>{''.join(rows)}</table>"
    if state == "running":
        head = f"<div>running for {progress.elapsed_s:.1f} s</div>{table}"
    else:
        head = (
            f"<details><summary>{html.escape(state)} after {progress.elapsed_s:.1f} s</summary>"
            f"{table}</details>"
        )
    return f'{_STYLE}<div class="alink">{head}</div>'


# --- errors ---


def error_lines(error: BaseException, rendered: str) -> list[str]:
    """Write an error for a notebook: how the user's code got there, then the diagnostic."""
    frames = _user_frames(error.__traceback__)
    lines = []
    if len(frames) > 1:  # a single one is the cell, whose line the diagnostic has
        lines = [line.rstrip("\n") for line in traceback.format_list(frames[-_FRAMES_MAX:])]
    name = type(error).__name__
    text = f"{name}: {rendered}"
    if os.environ.get("NO_COLOR"):
        return [*lines, text]
    first, separator, rest = text.partition("\n")
    return [*lines, f"\x1b[31m{first}\x1b[0m{separator}{rest}"]


def _user_frames(trace: TracebackType | None) -> list[traceback.FrameSummary]:
    """Give the frames that are neither ours nor the notebook's machinery."""
    ours = os.path.dirname(os.path.abspath(__file__)) + os.sep  # noqa: PTH100, PTH120
    frames = traceback.extract_tb(trace)
    return [
        traceback.FrameSummary(cell_name(f.filename), f.lineno, f.name, line=f.line)
        for f in frames
        if not f.filename.startswith(ours) and "/IPython/" not in f.filename
    ]


def cell_name(file: str) -> str:
    """Give the name by which the user knows a file: a cell of a notebook has none."""
    shell = _shell()
    if shell is None:
        return file
    known = getattr(shell.compile, "_filename_map", {})
    number = known.get(file)
    return file if number is None else f"Cell In[{number}]"
