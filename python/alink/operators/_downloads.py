"""Files at http and https URLs, which sources read from a copy on this machine.

A copy lives as long as the session. A URL that is read again is asked for once more, and sent only
where it has changed since, as far as its server tells (RFC 9110, section 13).
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import os
import re
import shutil
import sys
import tempfile
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from alink._diag import quote
from alink._options import bad_option

if TYPE_CHECKING:
    import urllib.request

_TIMEOUT_S = 30.0  # without a byte
_CHUNK_BYTES = 1 << 20
_TOLD_AFTER_S = 2.0
_NOT_MODIFIED = 304
_NAME_MAX = 100
_URL = re.compile(r"https?://", re.IGNORECASE)


def is_url(path: Any) -> bool:
    """Tell whether a path is the URL of something that can be downloaded."""
    return isinstance(path, str) and _URL.match(path) is not None


@dataclass(frozen=True)
class _Copy:
    path: Path
    #: What its server is asked with whether it has changed.
    conditions: dict[str, str]


class Downloads:
    """A folder of copies."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._numbers = itertools.count()
        self._copies: dict[str, _Copy] = {}
        self._remove: Any = None

    def close(self) -> None:
        """Remove the copies."""
        if self._remove is not None:
            self._remove()
        self._folder, self._copies = None, {}

    def path_of(self, name: str, url: str) -> str:
        """Give the path of a copy of what is at a URL.

        Parameters
        ----------
        name : str
            The operator's, for messages.
        url : str

        Raises
        ------
        PlanError
            If it cannot be had; nothing is left of what was received.
        """
        # Not before a URL is read: they take longer to import than all operators.
        import http.client
        import urllib.error
        import urllib.request

        known = self._copies.get(url)
        try:
            request = _request(url, known.conditions if known is not None else {})
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
                copy = self._received(name, url, answer)
        except urllib.error.HTTPError as error:
            error.close()
            if known is not None and error.code == _NOT_MODIFIED:
                return str(known.path)
            raise _failed(name, url, f"its server says {error.code} {error.reason}") from None
        except urllib.error.URLError as error:
            raise _failed(name, url, _reason(error.reason)) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _failed(name, url, _reason(error)) from None
        self._copies[url] = copy
        return str(copy.path)

    def _received(self, name: str, url: str, answer: Any) -> _Copy:
        """Write what comes to a file of its own: jobs may still read the copy before it."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="alink-downloads-"))
            self._remove = weakref.finalize(self, _remove, self._folder, os.getpid())
        folder = self._folder / str(next(self._numbers))
        folder.mkdir()
        path = folder / _file_name(url)
        try:
            with path.open("wb") as file:
                _write(name, url, answer, file)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        tags = {"If-None-Match": "ETag", "If-Modified-Since": "Last-Modified"}
        told = {ask: answer.headers[tag] for ask, tag in tags.items() if answer.headers[tag]}
        return _Copy(path, told)


def _write(name: str, url: str, answer: Any, file: Any) -> None:
    length = answer.headers["Content-Length"]
    whole = int(length) if length is not None else None
    begun, told, received = time.monotonic(), False, 0
    while chunk := answer.read(_CHUNK_BYTES):
        file.write(chunk)
        received += len(chunk)
        if not told and time.monotonic() - begun > _TOLD_AFTER_S:
            told = True
            size = "" if whole is None else f", {whole / 1e6:,.0f} MB"
            print(f"[{name}] downloads {_shown(url)}{size}", file=sys.stderr)
    if whole is not None and received != whole:
        raise OSError(f"the connection ended after {received:,} of {whole:,} bytes")


def _request(url: str, headers: Mapping[str, str]) -> urllib.request.Request:
    """Make the request; a login in the URL goes to its server alone, wherever that leads."""
    import urllib.request

    parts = urlsplit(url)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    request = urllib.request.Request(bare, headers={"User-Agent": "alink", **headers})
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        basic = base64.b64encode(login.encode()).decode("ascii")
        request.add_unredirected_header("Authorization", f"Basic {basic}")
    return request


def _file_name(url: str) -> str:
    """Give the last part of a URL's path: its ending may say what the file is."""
    name = unquote(PurePosixPath(urlsplit(url).path).name)
    name = re.sub(r"[^\w.-]", "_", name).lstrip(".")[-_NAME_MAX:]
    return name or "file"


def _shown(url: str) -> str:
    """Write a URL without a login, and without its query, which may be one."""
    parts = urlsplit(url)
    netloc = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=netloc, query="", fragment="").geturl()


def _reason(error: Any) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing came for {_TIMEOUT_S:.0f} s"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]


def _failed(name: str, url: str, why: str) -> Exception:
    return bad_option(
        name,
        f"{name}: {quote(_shown(url))} cannot be read: {why}",
        "a proxy is taken from the variables http_proxy and https_proxy; "
        "or download the file, and name its path",
    )


def _remove(folder: Path, pid: int) -> None:
    if os.getpid() == pid:  # a child that was forked ends too
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)
