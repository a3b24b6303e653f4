"""Attacks by using up what all share. Each is bounded, and gives back what it took."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess

from attack.case import Facts, Refused, attack
from attack.syscalls import libc

_MIB = 1 << 20


@attack("limit", "more processes were started than a worker may have")
def fork_bomb(facts: Facts) -> str:
    children: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(facts["processes_tried"]):
            try:
                children.append(subprocess.Popen(["/bin/sleep", "20"], close_fds=False))
            except OSError as error:
                raise Refused(f"{error} after {len(children)}") from None
        return f"{len(children)} processes"
    finally:
        for child in children:
            child.kill()
        for child in children:
            child.wait()


@attack("limit", "more descriptors were opened than a worker may have")
def descriptors(facts: Facts) -> str:
    opened: list[int] = []
    try:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        for _ in range(facts["descriptors_tried"]):
            opened.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        raise Refused(f"{error} after {len(opened)}") from None
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return f"{len(opened)} descriptors"


@attack("limit", "more was written to scratch than a worker may have")
def fill_disk(facts: Facts) -> str:
    written = 0
    paths: list[str] = []
    try:
        for i in range(facts["disk_mib_tried"] // 64):
            paths.append(f"fill-{os.getpid()}-{i}")
            with open(paths[-1], "wb") as file:
                os.posix_fallocate(file.fileno(), 0, 64 * _MIB)
            written += 64
    except OSError as error:
        raise Refused(f"{error} after {written} MiB") from None
    finally:
        for path in paths:
            os.unlink(path)
    return f"{written} MiB"


@attack("limit", "more files were made in scratch than a worker may have")
def fill_inodes(facts: Facts) -> str:
    folder = f"inodes-{os.getpid()}"
    os.mkdir(folder)
    made = 0
    try:
        for made in range(facts["inodes_tried"]):
            os.mknod(f"{folder}/{made}")
    except OSError as error:
        raise Refused(f"{error} after {made}") from None
    finally:
        for name in os.listdir(folder):
            os.unlink(f"{folder}/{name}")
        os.rmdir(folder)
    return f"{made + 1} files"


@attack("limit", "a file larger than a worker may write was made")
def huge_file(facts: Facts) -> str:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    path = f"huge-{os.getpid()}"
    try:
        with open(path, "wb") as file:
            file.truncate(facts["file_mib_tried"] * _MIB)  # a hole: it takes no room
    finally:
        os.unlink(path)
    return f"{facts['file_mib_tried']} MiB"


@attack("limit", "memory was locked beyond its bound")
def lock_memory(facts: Facts) -> str:
    buffer = bytearray(32 * _MIB)
    address = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
    if libc().mlock(ctypes.c_void_p(address), ctypes.c_size_t(len(buffer))) < 0:
        raise OSError(ctypes.get_errno(), "mlock")
    libc().munlock(ctypes.c_void_p(address), ctypes.c_size_t(len(buffer)))
    return "32 MiB"


@attack("limit", "the time of a job passed, and the function went on", child=False)
def endless(facts: Facts) -> str:
    while True:
        pass
