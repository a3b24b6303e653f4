"""The zygote: a process that has imported what workers need, and that they are forked from.

It runs none of a job's functions and has one thread, which waits on its standard input, a socket
of the supervisor's. With each byte there come the descriptors of a worker to be: its standard
input, what it writes to, its connections to the engine and its page. The worker is made a child
of the supervisor's (``CLONE_PARENT``), which so has its own wait status of it, as it has of a
worker that it has started itself; ``os.fork`` cannot do that. The child says a byte to the
supervisor, which learns from the kernel who said it, and then reads its launch line as any worker
does. The line comes when the supervisor has moved it to limits of its own.

Whatever stands in the way of forking ends the zygote, with a text: workers are then started one
by one.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

#: What is passed with a request: standard input, output, connections and, perhaps, the page.
PASSED: tuple[str, ...] = ("input", "output", "bundles", "log", "page")

# Set while libraries are loaded, so that none starts a thread: OpenBLAS's own, and the one with
# which Arrow's jemalloc gives memory back.
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
_SET_THREADS = tuple(
    f"{prefix}openblas_set_num_threads{suffix}"
    for prefix in ("scipy_", "")
    for suffix in ("64_", "")
)

_CLONE_PARENT = 0x8000
_CLONE_CHILD_CLEARTID = 0x200000
_CLONE_CHILD_SETTID = 0x1000000
# The number of clone, and whether the place of the thread's number is its last argument.
_CLONE = {"x86_64": (56, False), "aarch64": (220, True)}
_PR_SET_PDEATHSIG = 1
_PR_GET_TID_ADDRESS = 40


class Unfit(Exception):
    """Why no worker can be forked here."""


def breed(load: Callable[[], None]) -> dict[str, int]:
    """Fork workers; return in each of them, with what was passed to it.

    Parameters
    ----------
    load
        Imports what workers need.
    """
    control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=0)
    try:
        before = {name: os.environ.get(name) for name in _ONE_THREAD}
        os.environ.update(_ONE_THREAD)
        load()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        fork = _Fork()
        blas = _blas()
    except Unfit as unfit:
        _end(str(unfit))
    gc.collect()
    gc.freeze()  # what is there lives on: the collector does not write to it, and pages stay shared
    control.sendall(b"\0")
    while True:
        descriptors = _hear(control)
        if not fork():
            return _settle(control, descriptors, blas)
        for descriptor in descriptors:
            os.close(descriptor)


def _end(text: str = "") -> NoReturn:
    if text:
        os.write(2, f"alink zygote: {text}\n".encode("utf-8", "replace"))
    os._exit(1 if text else 0)


def _hear(control: socket.socket) -> list[int]:
    """Wait for a request; the end of them ends the process."""
    said, descriptors, _, _ = socket.recv_fds(control, 1, len(PASSED), socket.MSG_CMSG_CLOEXEC)
    if not said:
        _end()
    return list(descriptors)


def _settle(
    control: socket.socket, descriptors: list[int], blas: Callable[[], None]
) -> dict[str, int]:
    """Make a forked process a worker."""
    os.setpgid(0, 0)
    # It leaves with the supervisor. A fork does not inherit that.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    control.sendall(b"\0")
    control.detach()  # its descriptor is the worker's standard input from here on
    passed = dict(zip(PASSED, descriptors, strict=False))
    for name, targets in (("input", (0,)), ("output", (1, 2))):
        descriptor = passed.pop(name)
        for target in targets:
            os.dup2(descriptor, target)
        os.close(descriptor)
    # Python reseeds its own generator after a fork; workers must not draw the same numbers.
    if random := sys.modules.get("numpy.random"):
        random.seed()
    blas()
    return passed


class _Fork:
    """Forks, as ``os.fork`` does, a child of this process's parent."""

    def __init__(self) -> None:
        machine = os.uname().machine
        if machine not in _CLONE:
            raise Unfit(f"the calls of a {machine} are not known here")
        number, swapped = _CLONE[machine]
        own = ctypes.c_void_p()
        # The C library keeps the thread's number there; the kernel writes the child's to it.
        if ctypes.CDLL(None).prctl(_PR_GET_TID_ADDRESS, ctypes.byref(own), 0, 0, 0) or not own:
            raise Unfit("the kernel does not tell where the thread's number is kept")
        if ctypes.c_int.from_address(own.value or 0).value != os.getpid():
            raise Unfit("the C library keeps the thread's number elsewhere")
        flags = _CLONE_PARENT | _CLONE_CHILD_SETTID | _CLONE_CHILD_CLEARTID | signal.SIGCHLD
        last = (own.value, 0) if not swapped else (0, own.value)
        # Made beforehand: between the two calls around the fork nothing of Python's should run.
        self._arguments = [ctypes.c_long(word or 0) for word in (number, flags, 0, 0, *last)]
        library = ctypes.PyDLL(None, use_errno=True)  # it keeps the interpreter's lock
        self._call = library.syscall
        self._call.restype = ctypes.c_long
        self._before = ctypes.pythonapi.PyOS_BeforeFork
        self._in_child = ctypes.pythonapi.PyOS_AfterFork_Child
        self._in_parent = ctypes.pythonapi.PyOS_AfterFork_Parent

    def __call__(self) -> int:
        self._before()
        child = self._call(*self._arguments)
        if child == 0:
            self._in_child()
            return 0
        self._in_parent()
        if child < 0:
            _end(f"a worker could not be forked: {os.strerror(ctypes.get_errno())}")
        return child


def _blas() -> Callable[[], None]:
    """Give what lets OpenBLAS, where it is loaded, have its threads in a worker."""
    setters = []
    for path in _libraries():
        if "openblas" not in os.path.basename(path):
            continue
        library = ctypes.CDLL(path)
        setter = next((getattr(library, n) for n in _SET_THREADS if hasattr(library, n)), None)
        if setter is None:
            raise Unfit(f"the number of threads of {path} cannot be set")
        setters.append(setter)

    def set_threads() -> None:
        count = len(os.sched_getaffinity(0))
        for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
            if (asked := os.environ.get(name, "")).isdecimal() and int(asked) > 0:
                count = min(count, int(asked))
                break
        for setter in setters:
            setter(count)

    return set_threads


class _Info(ctypes.Structure):
    """The beginning of the C library's ``struct dl_phdr_info``."""

    _fields_ = (("address", ctypes.c_void_p), ("name", ctypes.c_char_p))


def _libraries() -> list[str]:
    """List the shared libraries that are loaded; there may be no /proc to look in."""
    paths: list[str] = []

    def add(info: ctypes._Pointer[_Info], size: int, data: int | None) -> int:
        paths.append(os.fsdecode(info.contents.name or b""))
        return 0

    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Info), ctypes.c_size_t, ctypes.c_void_p)
    ctypes.CDLL(None).dl_iterate_phdr(kind(add), None)
    return paths
