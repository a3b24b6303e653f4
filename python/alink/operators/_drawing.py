"""Pictures in files, drawn with matplotlib where the user has it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alink._notebook import in_notebook
from alink._options import bad_option

#: Of a tree the levels are drawn that have no more ends than these.
_ENDS_MAX = 64
_BRANCHES_MAX = 12  # of a node
_TEXT_CHARS = 18
_END_INCHES, _LEVEL_INCHES = 1.6, 1.2
_LABEL_AT = 0.65  # of a line


def save_image(
    owner: str, what: str, instead: str, path: str, overwrite: bool, draw: Callable[[Any], None]
) -> None:
    """Draw a figure into a file; in a notebook show it too.

    Parameters
    ----------
    owner : str
        Whose method was called.
    what, instead : str
        What is drawn, and which methods give it where matplotlib is missing.
    path : str
        Its ending names the format, as matplotlib has them.
    """
    if Path(path).exists() and not overwrite:
        raise bad_option(owner, f"{path} is there already", "True replaces it")
    try:
        figure_kind = importlib.import_module("matplotlib.figure").Figure
    except ImportError:
        raise bad_option(
            owner,
            f"{owner}: {what} are drawn with matplotlib, which is not installed here",
            f"pip install matplotlib; {instead}",
        ) from None
    figure = figure_kind()
    draw(figure)
    figure.savefig(path)
    if in_notebook():
        from IPython.display import Image, display

        display(Image(filename=path))


@dataclass
class Drawn:
    """A node of a tree that is drawn.

    Attributes
    ----------
    text : str
    branches : list of (str, callable)
        What a value of each branch is, and what gives the node below; none of a leaf.
    """

    text: str
    branches: Sequence[tuple[str, Callable[[], Drawn]]] = ()


@dataclass
class _Placed:
    text: str
    leaf: bool
    branches: list[tuple[str, _Placed]] = field(default_factory=list)
    x: float = 0.0


def draw_tree(figure: Any, root: Drawn) -> None:
    """Draw a tree downwards; where it is too large, "…" stands for what is below."""
    levels = _levels(root)
    ends = _spread(levels[0][0])
    for level in reversed(levels):
        for node in level:
            if node.branches:
                node.x = (node.branches[0][1].x + node.branches[-1][1].x) / 2
    figure.set_size_inches(max(4.0, _END_INCHES * ends), max(2.0, _LEVEL_INCHES * len(levels)))
    plot = figure.subplots()
    plot.axis("off")
    plot.set_position([0, 0, 1, 1])
    plot.set(xlim=(-0.5, max(ends, 1) - 0.5), ylim=(0.5 - len(levels), 0.5))
    for depth, level in enumerate(levels):
        for node in level:
            for label, below in node.branches:
                plot.plot([node.x, below.x], [-depth, -depth - 1], color="0.6", linewidth=1)
                # Near the node below, where labels are as far apart as nodes.
                at = node.x + _LABEL_AT * (below.x - node.x)
                _write(plot, at, -depth - _LABEL_AT, label, "white", "white")
            _write(plot, node.x, -depth, node.text, "honeydew" if node.leaf else "aliceblue", "0.4")


def _levels(root: Drawn) -> list[list[_Placed]]:
    """Give the nodes that are drawn, level by level."""
    level = [(root, _Placed(root.text, not root.branches))]
    levels = [[placed for _, placed in level]]
    ends = 0  # of the levels above
    while any(node.branches for node, _ in level):
        leaves = sum(not node.branches for node, _ in level)
        width = sum(min(len(node.branches), _BRANCHES_MAX + 1) for node, _ in level)
        if ends + leaves + width > _ENDS_MAX:
            for node, placed in level:
                if node.branches:
                    placed.branches = [("", _Placed("…", True))]
            levels.append([below for _, one in level for _, below in one.branches])
            break
        ends += leaves
        following: list[tuple[Drawn, _Placed]] = []
        for node, placed in level:
            for label, give in node.branches[:_BRANCHES_MAX]:
                below = give()
                following.append((below, _Placed(below.text, not below.branches)))
                placed.branches.append((label, following[-1][1]))
            if len(node.branches) > _BRANCHES_MAX:
                following.append((Drawn("…"), _Placed("…", True)))
                placed.branches.append(("", following[-1][1]))
        level = following
        levels.append([placed for _, placed in level])
    return levels


def _spread(root: _Placed) -> int:
    """Place the ends from left to right; give their number."""
    ends = 0
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if node.branches:
            waiting += [below for _, below in reversed(node.branches)]
        else:
            node.x = ends
            ends += 1
    return ends


def _write(plot: Any, x: float, y: float, text: str, face: str, edge: str) -> None:
    shown = text if len(text) <= _TEXT_CHARS else text[: _TEXT_CHARS - 1] + "…"
    # A dollar would begin a formula.
    plot.text(
        x,
        y,
        shown.replace("$", r"\$"),
        ha="center",
        va="center",
        fontsize=8,
        bbox={"boxstyle": "round", "facecolor": face, "edgecolor": edge},
    )
