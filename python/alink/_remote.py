"""The engine of a server (``pyrunner serve``).

A connection is a session with a name that the client makes. A stream that stays open holds
it: when the stream ends, however that comes, the server drops what the client has sent and
cancels the jobs that it waits for; and the client knows that the server has gone. The
transport's own settings notice a peer that has vanished without a word.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pyarrow as pa

from alink import _codes as codes
from alink._diag import Diagnostic, quote
from alink._engine import LIVE, Background, Engine, call_options, diagnostic_in
from alink._errors import Error, error_of, failure
from alink._options import bad_option
from alink._origin import user_origin

if TYPE_CHECKING:
    from pyarrow import flight

PROTOCOL = 1  # of server.Protocol

_ANSWER_TIMEOUT_S = 10.0
_CLOSE_TIMEOUT_S = 3.0
_POLL_S = 0.05
_PING_EVERY_MS, _PING_TIMEOUT_MS = 5_000, 5_000
_CAUSE_CHARS_MAX = 300
_TOKEN_BYTES_MAX = 4096
_NOISE = re.compile(r"(\. )?(gRPC client debug context|Client context|Detail):.*", re.DOTALL)


@dataclass(frozen=True)
class ServerOptions:
    """The server that `connect` was told of."""

    address: str
    token: str = field(default="", repr=False)
    tls_ca: str | None = None
    #: How the workers of functions that do not say are shut in; None leaves it to the server.
    sandbox: str | None = None

    @property
    def shares_machine(self) -> bool:
        """Whether the server is on this machine, and this user's."""
        return self.address.startswith("grpc+unix:")


def server_options(
    address: str,
    token: str | None,
    tls_ca: str | os.PathLike[str] | None,
    sandbox: str | None = None,
) -> ServerOptions:
    """Check what names a server."""
    if not isinstance(address, str) or not _is_address(address):
        raise bad_option(
            "connect",
            f"connect: {address!r:.80} is not the address of a server",
            "write it as pyrunner serve printed it: grpc+tls://host:port, "
            "grpc://127.0.0.1:port or grpc+unix:///path",
        )
    if token is not None and (not isinstance(token, str) or not token.strip().isascii()):
        raise bad_option("connect", "connect: token must be a text of ASCII characters")
    token = "".join((token or "").split())
    if address.startswith("grpc://") and token and not _is_loopback(address):
        raise bad_option(
            "connect",
            f"connect: {quote(address)} would send the token in the clear",
            "use grpc+tls://, or a tunnel that ends at 127.0.0.1",
        )
    return ServerOptions(address, token, None if tls_ca is None else os.fspath(tls_ca), sandbox)


def _is_address(address: str) -> bool:
    parts = urlsplit(address)
    if parts.scheme == "grpc+unix":
        return not parts.netloc and parts.path.startswith("/") and len(parts.path) > 1
    try:
        port = parts.port
    except ValueError:
        return False
    return parts.scheme in ("grpc", "grpc+tls") and bool(parts.hostname and port)


def _is_loopback(address: str) -> bool:
    import ipaddress

    host = urlsplit(address).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_token(path: str) -> str:
    """Read the file with a server's token."""
    try:
        text = Path(path).read_text("ascii")[:_TOKEN_BYTES_MAX]
    except (OSError, UnicodeDecodeError) as error:
        raise failure(
            codes.BAD_SETTING,
            f"the token file {path} cannot be read",
            source=user_origin(),
            cause=str(error),
        ) from None
    return text.strip()


class RemoteEngine(Engine):
    """The engine of a server, as one session of it."""

    def __init__(self, options: ServerOptions) -> None:
        super().__init__()
        self.address = options.address
        self.shares_machine = options.shares_machine
        self.sandbox = options.sandbox
        self._token = options.token
        self._session = secrets.token_hex(16)
        self._ended = Event()
        self._greeting: dict[str, Any] | None = None
        self._end: Error | None = None  # why, once _ended is set
        self._client = _client(options)
        self._call_options = call_options(self._token, self._session)
        self._held = Background(self._hold)
        try:
            self._await_greeting()
        except BaseException:
            self._closed = True
            self._leave()
            raise
        self._begun()

    def _hold(self) -> None:
        """Hold the session open, in a thread of its own, until it ends."""
        try:
            for event in self._attach():
                if error := event.get("error"):
                    self._end = error_of(Diagnostic.from_json(error))
                    return
                self._greeting = event.get("ok") or {}
        except (pa.ArrowException, OSError, ValueError) as error:
            text = str(error)
            told = diagnostic_in(text)
            if told is not None:
                self._end = error_of(told)
            elif self._greeting is None:
                self._end = self._unreachable(text)
            else:
                self._end = self._gone(text)
        finally:
            self._ended.set()

    def _attach(self) -> Iterator[dict[str, Any]]:
        from pyarrow import flight

        hello = {"protocol": PROTOCOL, "version": _version()}
        action = flight.Action("attach", json.dumps(hello).encode())
        for result in self._client.do_action(action, self._call_options):
            yield json.loads(result.body.to_pybytes())

    def _await_greeting(self) -> None:
        deadline = time.monotonic() + _ANSWER_TIMEOUT_S
        while self._greeting is None:
            if self._ended.wait(_POLL_S):
                break
            if time.monotonic() > deadline:
                raise self._unreachable(f"no answer within {_ANSWER_TIMEOUT_S:.0f} s")
        if self._greeting is None:
            raise self._end or self._unreachable("it closed the connection")
        if (protocol := self._greeting.get("protocol")) != PROTOCOL:
            raise failure(
                codes.WRONG_VERSION,
                f"the client speaks protocol {PROTOCOL}, the server protocol {protocol}",
                hint="install the same version of client and server",
            )
        self.pid = self._greeting.get("pid", 0)
        self.version = self._greeting.get("version", "")

    def _unreachable(self, cause: str) -> Error:
        return failure(
            codes.NO_SERVER,
            f"no server answers at {self.address}",
            cause=_plain(cause),
            hint="check the address that pyrunner serve printed, "
            "and tls_ca= for a certificate of your own",
        )

    def _gone(self, cause: str) -> Error:
        return failure(
            codes.CONNECTION_LOST,
            f"the connection to the server at {self.address} was lost",
            cause=_plain(cause),
            hint="connect again; jobs that were written with wait=False go on "
            "if the server lives: pyrunner jobs ls",
        )

    def lost(self) -> Error:
        """Describe the end of the connection."""
        return self._end or self._gone("the server closed it")

    def close(self) -> None:
        """Leave the server: jobs that this client waits for are cancelled. Never raises."""
        if os.getpid() != self._owner:  # the parent's connection is not a forked child's
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self.dropped.put(None)
        self._leave()
        LIVE.discard(self)

    def _leave(self) -> None:
        if not self._ended.is_set():
            self._last_call("detach", _CLOSE_TIMEOUT_S)
            self._ended.wait(_CLOSE_TIMEOUT_S)
        with contextlib.suppress(Exception):
            self._client.close()

    def abandon(self) -> None:
        """Leave the server at the interpreter's own end; the connection breaks by itself."""
        self._closed = True

    def _has_ended(self, timeout_s: float) -> bool:
        return self._ended.wait(timeout_s)

    def _with_timeout(self, timeout_s: float) -> flight.FlightCallOptions:
        return call_options(self._token, self._session, timeout_s)


def _client(options: ServerOptions) -> flight.FlightClient:
    from pyarrow import flight

    settings = [
        ("grpc.keepalive_time_ms", _PING_EVERY_MS),
        ("grpc.keepalive_timeout_ms", _PING_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.ping_timeout_ms", _PING_TIMEOUT_MS),  # of pings that data prompts
    ]
    if not options.address.startswith("grpc+unix:") and _is_loopback(options.address):
        settings.append(("grpc.enable_http_proxy", 0))
    arguments: dict[str, Any] = {"generic_options": settings}
    if options.address.startswith("grpc+tls:") and (roots := _roots(options.tls_ca)) is not None:
        arguments["tls_root_certs"] = roots
    try:
        return flight.FlightClient(options.address, **arguments)
    except (pa.ArrowException, OSError) as error:
        raise failure(
            codes.NO_SERVER,
            f"{options.address} cannot be connected to",
            source=user_origin(),
            cause=_plain(str(error)),
        ) from None


def _roots(tls_ca: str | None) -> bytes | None:
    """Give the certificates that the server's is checked with; None if there are none."""
    import ssl  # 4 ms that an engine of one's own need not wait for

    path = tls_ca or ssl.get_default_verify_paths().cafile
    if not path:
        return None
    try:
        roots = Path(path).read_bytes()
    except OSError as error:
        raise failure(
            codes.BAD_SETTING,
            f"the certificates in {path} cannot be read",
            source=user_origin(),
            cause=str(error),
        ) from None
    if b"-----BEGIN CERTIFICATE-----" not in roots:
        raise failure(
            codes.BAD_SETTING,
            f"{path} holds no certificate (PEM)",
            source=user_origin(),
            hint="tls_ca names the file that the server's certificate is checked with",
        )
    return roots


def _plain(text: str) -> str:
    """Take gRPC's notes for its own makers out of what it says."""
    text = _NOISE.sub("", text).removeprefix("Flight returned unavailable error, with message: ")
    return text if len(text) <= _CAUSE_CHARS_MAX else text[: _CAUSE_CHARS_MAX - 1] + "…"


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("alink")
    except metadata.PackageNotFoundError:  # a source tree on the module path
        return "of a source tree"
