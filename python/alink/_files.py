"""What the readers and writers of files say to the engine."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import unquote

from alink._diag import quote
from alink._functions import column_names
from alink._options import bad_option, one_of, whole_number
from alink._types import SchemaLike, schema_fields

#: A path, or several.
PathsLike: TypeAlias = "str | os.PathLike[str] | Sequence[str | os.PathLike[str]]"
#: What to do where an output exists.
WriteMode = Literal["error", "overwrite", "append"]

_MODES = ("error", "overwrite", "append")
_UTF8 = ("utf-8", "utf8", "utf-8-sig", "ascii", "us-ascii")
_SAMPLE_ALL = -1

# The end of the match is where the path of a file:// URL begins.
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+)://(?P<host>[^/]*)")


def absolute_path(operator: str, path: str | os.PathLike[str]) -> str:
    """Make a path absolute; a relative one starts at the working directory.

    A ``file://`` URL is the path that it names; other URLs are refused.
    """
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(text, str) or not text or "\0" in text:
        raise bad_option(operator, f"{operator}: {quote(str(text))} is not a path")
    if isinstance(path, str) and (url := _URL.match(path)):
        if url["scheme"].lower() != "file" or url["host"] not in ("", "localhost"):
            raise bad_option(
                operator,
                f"{operator}: {quote(path)} is a URL, and only files of this machine are read "
                "and written",
                "copy it to a folder first, or read it with another library and from_arrow",
            )
        text = unquote(path[url.end() :])
    # Not Path.resolve: the user's own names stay, symbolic links are not followed.
    return os.path.abspath(Path(text).expanduser())  # noqa: PTH100


def scan_args(
    operator: str,
    path: PathsLike,
    *,
    columns: Sequence[str] | None,
    schema: SchemaLike | None,
    partitions: bool,
    union_by_name: bool,
) -> dict[str, Any]:
    """Write the arguments that all readers have."""
    args: dict[str, Any] = {}
    if isinstance(path, (str, os.PathLike)):
        args["path"] = absolute_path(operator, path)
    elif isinstance(path, Iterable) and (paths := list(path)):
        args["paths"] = [absolute_path(operator, p) for p in paths]
    else:
        raise bad_option(
            operator,
            f"{operator}: {path!r:.80} is neither a path nor a list of paths",
            "a path names a file, a folder or a pattern: data/*.csv",
        )
    if (names := column_names(operator, columns)) is not None:
        args["columns"] = names
    if schema is not None:
        args["schema"] = schema_fields(schema)
    if not flag(operator, "partitions", partitions):
        args["no_partitions"] = True
    if flag(operator, "union_by_name", union_by_name):
        args["union_by_name"] = True
    return args


def sample_args(operator: str, sample_rows: int | None) -> dict[str, Any]:
    """Write how many rows are looked at for the types of columns."""
    if sample_rows is None:
        return {"sample_rows": _SAMPLE_ALL}
    return {"sample_rows": whole_number(operator, "sample_rows", sample_rows, 1)}


def csv_args(
    operator: str,
    *,
    delimiter: str,
    quote_mark: str | None,
    escape: str | None,
    header: bool,
    null_values: str | Sequence[str],
    skip_rows: int,
    comment: str | None,
    encoding: str,
) -> dict[str, Any]:
    """Write how a CSV file is written."""
    if not isinstance(encoding, str) or encoding.lower().replace("_", "-") not in _UTF8:
        raise bad_option(
            operator,
            f"{operator}: encoding {encoding!r} is not read, only UTF-8 is",
            "convert the file first: iconv -f LATIN1 -t UTF-8 …",
        )
    args: dict[str, Any] = {"delimiter": _mark(operator, "delimiter", delimiter)}
    if quote_mark is None:
        args["no_quote"] = True
    else:
        args["quote"] = _mark(operator, "quote", quote_mark)
    if escape is not None:
        args["escape"] = _mark(operator, "escape", escape)
    if comment is not None:
        args["comment"] = _mark(operator, "comment", comment)
    if not flag(operator, "header", header):
        args["no_header"] = True
    nulls = [null_values] if isinstance(null_values, str) else list(null_values)
    if not all(isinstance(text, str) for text in nulls):
        raise bad_option(operator, f"{operator}: null_values must be texts, not {null_values!r}")
    if nulls != [""]:
        args["null_values"] = nulls
    if skip := whole_number(operator, "skip_rows", skip_rows, 0):
        args["skip_rows"] = skip
    return args


def output_args(
    operator: str,
    path: str | os.PathLike[str],
    *,
    mode: str,
    partition_by: str | Sequence[str] | None,
    compression: str | None,
) -> dict[str, Any]:
    """Write the arguments that all writers have."""
    args: dict[str, Any] = {
        "path": absolute_path(operator, path),
        "mode": one_of(operator, "mode", mode, _MODES),
    }
    if os.fspath(path).endswith(("/", os.sep)):
        args["folder"] = True
    if partition_by is not None:
        names = [partition_by] if isinstance(partition_by, str) else list(partition_by)
        if not names or not all(isinstance(name, str) and name for name in names):
            raise bad_option(
                operator, f"{operator}: partition_by must name columns, not {partition_by!r}"
            )
        args["partition_by"] = names
    if compression is not None:
        args["compression"] = compression
    return args


def csv_output_args(
    operator: str, *, delimiter: str, quote_mark: str, header: bool, null_value: str
) -> dict[str, Any]:
    """Write how a CSV file is to be written."""
    args: dict[str, Any] = {
        "delimiter": _mark(operator, "delimiter", delimiter),
        "quote": _mark(operator, "quote", quote_mark),
    }
    if not flag(operator, "header", header):
        args["no_header"] = True
    if not isinstance(null_value, str):
        raise bad_option(operator, f"{operator}: null_value must be a text, not {null_value!r}")
    if null_value:
        args["null_value"] = null_value
    return args


def flag(operator: str, option: str, value: Any) -> bool:
    """Return `value` if it is True or False."""
    if isinstance(value, bool):
        return value
    raise bad_option(operator, f"{operator}: {option} must be True or False, not {value!r}")


def _mark(operator: str, option: str, value: Any) -> str:
    if isinstance(value, str) and len(value) == 1 and value.isascii() and value not in "\r\n":
        return value
    raise bad_option(operator, f"{operator}: {option} must be one ASCII character, not {value!r}")


def describe_scan(args: Mapping[str, Any]) -> str:
    """Show a scan in the text of a plan."""
    text = args["path"] if "path" in args else ", ".join(args["paths"])
    if columns := args.get("columns"):
        text += f" [{', '.join(columns)}]"
    return text


def describe_output(args: Mapping[str, Any]) -> str:
    """Show a write in the text of a plan."""
    text = args["path"] + ("/" if args.get("folder") else "")
    if names := args.get("partition_by"):
        text += f" by {', '.join(names)}"
    return f"{text} mode={args['mode']}"
