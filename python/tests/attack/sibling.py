"""The sibling: another worker of the same engine, whose function holds what is attacked."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path


def hold(folder: str, disk_secret: str, memory_secret: str) -> str:
    """Be attacked until a file named ``stop`` appears in the folder.

    What is where is written to ``info.json`` there, what comes to the socket to ``received``.
    """
    import ctypes

    memory = ctypes.create_string_buffer(memory_secret.encode())
    scribble = ctypes.create_string_buffer(b"unwritten")
    scratch = Path.cwd()
    (scratch / "secret").write_text(disk_secret)
    (scratch / "canary").write_text("untouched\n")
    place = Path(folder)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind("sibling.sock")
        listener.listen(4)
        listener.settimeout(0.05)
        info = {
            "scratch": str(scratch),
            "pid": os.getpid(),
            "address": ctypes.addressof(memory),
            "scribble": ctypes.addressof(scribble),
        }
        (place / "info.tmp").write_text(json.dumps(info))
        (place / "info.tmp").rename(place / "info.json")
        while not (place / "stop").exists():
            try:
                peer, _ = listener.accept()
            except OSError:
                continue
            with peer, (place / "received").open("ab") as received:
                peer.settimeout(1)
                received.write(peer.recv(4096))
            time.sleep(0.01)
    return "stopped"
