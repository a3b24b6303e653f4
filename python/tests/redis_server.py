"""A server that speaks Redis's protocol, as far as the tests of its operators go."""

from __future__ import annotations

import socketserver
import threading
from typing import Any


class RedisServer(socketserver.ThreadingTCPServer):
    """Keeps keys in memory, counts what it is asked, and fails where a test wants it to.

    Parameters
    ----------
    password : str, optional
        That clients have to give.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, password: str | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.password = password
        self.data: dict[bytes, Any] = {}
        #: The commands on keys, as they came.
        self.commands: list[list[bytes]] = []
        #: The servers of the cluster, this one among them, each with its part of the slots.
        self.nodes: list[RedisServer] = []
        #: Answers that are given instead of the server's own, by the command's name; None closes.
        self.instead: dict[bytes, list[str | None]] = {}
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def slots(self) -> list[Any]:
        width = (1 << 14) // len(self.nodes)
        return [
            [i * width, (1 << 14) - 1 if node is self.nodes[-1] else (i + 1) * width - 1,
             [b"127.0.0.1", node.server_address[1], b"%040d" % i]]
            for i, node in enumerate(self.nodes)
        ]  # fmt: skip

    def answer(self, command: bytes, *args: bytes) -> Any:
        """Give the answer to a command: Redis's own documentation says what it is."""
        if command == b"SELECT":
            return "+OK" if int(args[0]) < 16 else "-ERR DB index is out of range"
        if command == b"COMMAND":
            return [[name, 2, [], 1, 1, 1] for name in (b"get", b"set")]
        if command == b"CLUSTER":
            return self.slots() if self.nodes else "-ERR This instance has cluster support disabled"
        self.commands.append([command, *args])
        if self.instead.get(command):
            return self.instead[command].pop(0)
        if command in (b"SET", b"MSET"):
            self.data.update(zip(args[::2], args[1::2], strict=True))
            return "+OK"
        values = [self.data.get(key) for key in args]
        if command == b"GET":
            return (
                "-WRONGTYPE Operation against a key" if isinstance(values[0], list) else values[0]
            )
        if command == b"MGET":
            return [None if isinstance(value, list) else value for value in values]
        if command == b"EXISTS":
            return sum(value is not None for value in values)
        return f"-ERR unknown command '{command.decode()}'"


class _Connection(socketserver.StreamRequestHandler):
    server: Any  # a RedisServer

    def handle(self) -> None:
        allowed = self.server.password is None
        while line := self.rfile.readline():
            words = [self._word() for _ in range(int(line[1:]))]
            words[0] = words[0].upper()
            if words[0] == b"CLIENT":
                given: Any = "+OK"
            elif words[0] == b"AUTH":
                allowed = words[-1].decode() == self.server.password
                given = "+OK" if allowed else "-WRONGPASS invalid username-password pair"
            elif not allowed:
                given = "-NOAUTH Authentication required."
            else:
                given = self.server.answer(*words)
                if given is None and words[0] != b"GET":
                    return  # the connection is closed
            self.wfile.write(_written(given))

    def _word(self) -> bytes:
        length = int(self.rfile.readline()[1:])
        return self.rfile.read(length + 2)[:-2]


def _written(value: Any) -> bytes:
    if value is None:
        return b"$-1\r\n"
    if isinstance(value, str):
        return value.encode() + b"\r\n"
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, bytes):
        return b"$%d\r\n%b\r\n" % (len(value), value)
    return b"*%d\r\n" % len(value) + b"".join(map(_written, value))
