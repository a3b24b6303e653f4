"""Folders of .ak files by time: streams of models, and the windows of a stream.

A stream of models is a folder with a folder for each model, named by its time
(``yyyymmddhhmmss`` and the digits of the second's fraction, at least one), which holds files 0, 1
and so on; ``conf/<time>.log`` says how many rows and files they are.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from . import _ak
from ._arrays import numpy_of
from ._chain import Expansion
from ._schemas import TIMESTAMP
from ._sinks import refuse_existing
from ._strings import Unreadable
from ._types import parse_schema

CONF = "conf"
_NAME = re.compile(r"(\d{14})(\d{1,9})\Z")

Run = Callable[[Iterator[pa.RecordBatch]], int]


def time_name(time: datetime.datetime) -> str:
    """Write a time as the name of a folder or a file."""
    fraction = f"{time.microsecond:06}".rstrip("0") or "0"
    return f"{time:%Y%m%d%H%M%S}".rjust(14, "0") + fraction


def read_time_name(name: str) -> datetime.datetime | None:
    """Read a time that is a name; None if it is none."""
    match = _NAME.match(name)
    if match is None:
        return None
    try:
        time = datetime.datetime.strptime(match[1], "%Y%m%d%H%M%S")
    except ValueError:
        return None
    return time.replace(microsecond=int(match[2][:6].ljust(6, "0")))


def models(folder: Path) -> list[tuple[datetime.datetime, Path]]:
    """Give the models of a stream that are whole, by their times."""
    found: list[tuple[datetime.datetime, Path]] = []
    for path in folder.iterdir():
        time = read_time_name(path.name)
        if time is not None and (folder / CONF / f"{path.name}.log").exists():
            found.append((time, path))
    return sorted(found)


def model_files(model: Path) -> list[Path]:
    """Give the files of a model, in their order."""
    return sorted(model.iterdir(), key=lambda path: (len(path.name), path.name))


# --- writing models ---


class _Stream:
    """A folder that models are added to, whole or not at all."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._folder = Path(spec["path"])
        self._schema = parse_schema(spec["schemaStr"])
        self._keep: int = spec["keep"]
        self._staged: list[tuple[str, Path, int]] = []

    def __enter__(self) -> _Stream:
        (self._folder / CONF).mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_error: object) -> None:
        for _name, part, _rows in self._staged:
            shutil.rmtree(part, ignore_errors=True)

    def stage(self, time: datetime.datetime, batches: Iterator[pa.RecordBatch]) -> int:
        """Write a model beside the others."""
        name = time_name(time)
        if (self._folder / name).exists():
            raise FileExistsError(f"{self._folder} has a model of {time} already")
        part = self._folder / CONF / f".{name}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        self._staged.append((name, part, 0))
        with (part / "0").open("wb") as file:
            rows = _ak.write(file, self._schema, batches)
            file.flush()
            os.fsync(file.fileno())
        self._staged[-1] = (name, part, rows)
        return rows

    def commit(self) -> None:
        """Give the models that were staged their names, and drop those that are too many."""
        for name, part, rows in self._staged:
            log = self._folder / CONF / f"{name}.log"
            beside = log.with_name(f".{log.name}.part")
            beside.write_text(json.dumps({"count": rows, "numFiles": 1}), encoding="utf-8")
            beside.replace(log)
            part.rename(self._folder / name)
        for _, path in models(self._folder)[: -self._keep]:
            (self._folder / CONF / f"{path.name}.log").unlink()  # it is no model any more
            shutil.rmtree(path)


def append_model(spec: Mapping[str, Any]) -> Run:
    """Make the function that adds a model to a stream; it gives the number of rows.

    Parameters
    ----------
    spec : mapping
        ``path``, ``schemaStr``, ``keep`` (how many models stay), and ``time``, that of the
        function's run if it is None.
    """

    def run(batches: Iterator[pa.RecordBatch]) -> int:
        time = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
        time = time.replace(microsecond=time.microsecond // 1000 * 1000)
        if spec["time"] is not None:
            time = datetime.datetime.fromisoformat(spec["time"])
        with _Stream(spec) as stream:
            rows = stream.stage(time, batches)
            stream.commit()
        return rows

    return run


def write_models(spec: Mapping[str, Any]) -> Run:
    """Make the function that adds the models of rows to a stream.

    The first column is the model's time, which the rows are ordered by, the second one how many
    rows it has. Nothing is added unless all models are whole.
    """

    def run(batches: Iterator[pa.RecordBatch]) -> int:
        total = 0
        with _Stream(spec) as stream:
            for time, parts in _runs(batches, 0):
                if time is None:
                    raise Unreadable(f"{TIMESTAMP} is NULL in a row: each row is of a model")
                said: set[int | None] = set()
                rows = stream.stage(time, _rest(parts, said))
                if said != {rows}:
                    shown = ", ".join(map(str, said))
                    raise Unreadable(
                        f"the model of {time} is not whole: it says that it has {shown} rows, "
                        f"but {rows} came"
                    )
                total += rows
            stream.commit()
        return total

    return run


def _rest(parts: Iterator[pa.RecordBatch], said: set[int | None]) -> Iterator[pa.RecordBatch]:
    """Give rows without their time and count, which is noted."""
    for part in parts:
        said.update(part.column(1).unique().to_pylist())
        yield part.select(part.schema.names[2:])


def _runs(
    batches: Iterator[pa.RecordBatch], column: int
) -> Iterator[tuple[Any, Iterator[pa.RecordBatch]]]:
    """Give the rows that follow one another with the same value of a column of times."""

    def pieces() -> Iterator[tuple[Any, pa.RecordBatch]]:
        for batch in batches:
            times = batch.column(column).cast(pa.timestamp("us"))
            numbers = numpy_of(times.cast(pa.int64()).fill_null(np.iinfo(np.int64).min))
            cuts = np.flatnonzero(np.diff(numbers)) + 1
            bounds = [0, *cuts.tolist(), batch.num_rows]
            for begin, end in itertools.pairwise(bounds) if batch.num_rows else ():
                yield times[begin].as_py(), batch.slice(begin, end - begin)

    for time, group in itertools.groupby(pieces(), key=lambda pair: pair[0]):
        yield time, (batch for _, batch in group)


# --- reading models ---


def read_models(params: Mapping[str, Any], types: Sequence[pa.DataType]) -> Any:
    """Make the task that reads streams of models, whose folders are in the column ``path``.

    ``start`` is the time of the first model that is read, or None.
    """
    kinds = list(types[2:])
    start = params["start"] and datetime.datetime.fromisoformat(params["start"])

    def read(folder: Path) -> Iterator[tuple[datetime.datetime, int, pa.RecordBatch]]:
        for time, path in models(folder):
            if start is not None and time < start:
                continue
            log = folder / CONF / f"{path.name}.log"
            try:
                count = int(json.loads(log.read_text(encoding="utf-8"))["count"])
            except (ValueError, KeyError, TypeError) as error:
                raise Unreadable(f"{log} does not say what the model has: {error}") from None
            parts = [_ak.read(str(file)) for file in model_files(path)]
            if any(part.schema.types != kinds for part in parts):
                raise Unreadable(f"{path} has other columns than the stream's schema")
            if sum(part.num_rows for part in parts) != count:
                raise Unreadable(f"{path} does not have the {count} rows that {log} says")
            for part in parts:
                yield time, count, part

    def run(batch: pa.RecordBatch) -> Expansion:
        rows: list[int] = []
        columns: list[list[pa.Array]] = [[pa.array([], kind)] for kind in types]
        for i, path in enumerate(batch.column("path").to_pylist()):
            for time, count, part in read(Path(path)):
                size = part.num_rows
                rows += [i] * size
                named = [pa.scalar(time, types[0]), pa.scalar(count, types[1])]
                made = [*(pa.repeat(value, size) for value in named), *part.columns]
                for column, more in zip(columns, made, strict=True):
                    column.append(more)
        return Expansion(pa.array(rows, pa.int64()), [pa.concat_arrays(c) for c in columns])

    return run


# --- windows ---


def export(spec: Mapping[str, Any]) -> Run:
    """Make the function that writes a file for each window into a folder.

    The last column is the window's start, which the rows are ordered by. The folder appears
    under its name when it is whole.

    Parameters
    ----------
    spec : mapping
        ``path``, ``overwrite``, ``schemaStr`` of the rows, and ``partitions``: of each folder in
        the folder its name and the pieces of its value, letters of times with their widths, or
        texts.
    """
    folder = Path(spec["path"])
    schema = parse_schema(spec["schemaStr"])
    part = folder.with_name(f".{folder.name}.part")

    def run(batches: Iterator[pa.RecordBatch]) -> int:
        if not spec["overwrite"]:
            refuse_existing(folder)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        total = 0
        try:
            for start, parts in _runs(batches, -1):
                names = [f"{key}={_shown(pieces, start)}" for key, pieces in spec["partitions"]]
                inner = part.joinpath(*names)
                inner.mkdir(parents=True, exist_ok=True)
                with (inner / time_name(start)).open("wb") as file:
                    rows = (batch.select(schema.names) for batch in parts)
                    total += _ak.write(file, schema, rows)
                    file.flush()
                    os.fsync(file.fileno())
            _replace(part, folder, spec["overwrite"])
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return total

    return run


def _replace(part: Path, folder: Path, overwrite: bool) -> None:
    if not overwrite:
        refuse_existing(folder)
    old = folder.with_name(f".{folder.name}.old")
    with contextlib.suppress(FileNotFoundError):
        folder.rename(old)
    part.rename(folder)
    if old.is_dir():
        shutil.rmtree(old)
    else:
        old.unlink(missing_ok=True)


def _shown(pieces: Sequence[tuple[str, int]], time: datetime.datetime) -> str:
    values = {
        "y": time.year, "M": time.month, "d": time.day, "H": time.hour, "m": time.minute,
        "s": time.second, "S": time.microsecond // 1000,
    }  # fmt: skip
    return "".join(
        f"{values[text] % 100 if (text, width) == ('y', 2) else values[text]:0{width}}"
        if width
        else text
        for text, width in pieces
    )
