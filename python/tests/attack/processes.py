"""Attacks on other processes: looking into them, stopping them, outliving them."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
import subprocess
import sys
import time

from attack.case import Absent, Facts, Refused, attack, error_text
from attack.syscalls import call, libc, must, number

_PTRACE_SEIZE = 0x4206
_PTRACE_DETACH = 17


class _Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def _signals(name: str, process: str, which: signal.Signals, success: str) -> None:
    """Register an attack that sends a signal to a process of the scene's."""

    def run(facts: Facts) -> str:
        os.kill(facts[process], which)
        return "sent"

    run.__name__ = name
    attack("process", success)(run)


def _transfer(name: str, buffer: ctypes.Array[ctypes.c_char], pid: int, address: int) -> int:
    """Copy between a buffer and the memory of another process; give the number of bytes."""
    size = len(buffer)
    local = _Vector(ctypes.cast(buffer, ctypes.c_void_p), size)
    remote = _Vector(address, size)
    got = libc().syscall(number(name), pid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
    if got < 0:
        raise OSError(ctypes.get_errno(), name)
    return got


def _seize(pid: int) -> str:
    syscall = libc().syscall
    if syscall(number("ptrace"), _PTRACE_SEIZE, pid, None, None) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")
    syscall(number("ptrace"), _PTRACE_DETACH, pid, None, None)
    return "attached"


@attack("process", "a debugger was attached to the engine")
def trace_engine(facts: Facts) -> str:
    return _seize(facts["engine"])


@attack("process", "a debugger was attached to another worker")
def trace_sibling(facts: Facts) -> str:
    return _seize(facts["sibling_pid"])


@attack("process", "the memory of another worker was read by a system call")
def read_sibling_memory(facts: Facts) -> str:
    buffer = ctypes.create_string_buffer(len(facts["sibling_secret_mark"]) + 32)
    _transfer("process_vm_readv", buffer, facts["sibling_pid"], facts["sibling_address"])
    return buffer.raw.decode("latin-1")


@attack("process", "the memory of another worker was changed by a system call")
def write_sibling_memory(facts: Facts) -> str:
    buffer = ctypes.create_string_buffer(b"changed", 7)
    got = _transfer("process_vm_writev", buffer, facts["sibling_pid"], facts["sibling_scribble"])
    return f"{got} bytes"


@attack("process", "the memory of another worker was read through /proc")
def read_sibling_mem_file(facts: Facts) -> str:
    with open(f"/proc/{facts['sibling_pid']}/mem", "rb", buffering=0) as memory:
        memory.seek(facts["sibling_address"])
        return memory.read(len(facts["sibling_secret_mark"]) + 32).decode("latin-1")


@attack("process", "the memory of the engine was read through /proc")
def read_engine_mem_file(facts: Facts) -> str:
    with open(f"/proc/{facts['engine']}/maps") as maps:
        start = int(maps.readline().split("-")[0], 16)
    with open(f"/proc/{facts['engine']}/mem", "rb", buffering=0) as memory:
        memory.seek(start)
        return repr(memory.read(4))


@attack("process", "a descriptor of the engine was taken over")
def take_descriptor(facts: Facts) -> str:
    pidfd = must("pidfd_open", facts["engine"], 0)
    return f"descriptor {must('pidfd_getfd', pidfd, 0, 0)}"


@attack("process", "the engine's descriptors were opened through /proc")
def open_engine_descriptors(facts: Facts) -> str:
    folder = f"/proc/{facts['engine']}/fd"
    return " ".join(os.readlink(f"{folder}/{name}") for name in os.listdir(folder)[:5])


@attack("process", "objects of two processes were compared")
def compare_processes(facts: Facts) -> str:
    result, error = call("kcmp", os.getpid(), facts["engine"], 2, 0, 0)
    if result < 0:
        raise Refused(error_text(error))
    return str(result)


@attack("process", "advice was given on the memory of the engine")
def advise_engine(facts: Facts) -> str:
    pidfd = must("pidfd_open", facts["engine"], 0)
    vector = _Vector(None, 0)
    got = libc().syscall(number("process_madvise"), pidfd, ctypes.byref(vector), 1, 20, 0)
    if got < 0 and ctypes.get_errno() in (1, 13, 38):
        raise OSError(ctypes.get_errno(), "process_madvise")
    return str(got)


_signals("stop_engine", "engine", signal.SIGSTOP, "the engine was stopped")
_signals("stop_supervisor", "supervisor", signal.SIGSTOP, "the supervisor was stopped")
_signals("stop_sibling", "sibling_pid", signal.SIGSTOP, "another worker was stopped")
_signals("kill_outside", "victim", signal.SIGKILL, "a process of the client's was ended")


@attack("process", "it was ended through a descriptor of it")
def kill_by_descriptor(facts: Facts) -> str:
    pidfd = must("pidfd_open", facts["victim"], 0)
    must("pidfd_send_signal", pidfd, signal.SIGKILL, 0, 0)
    return "sent"


@attack("process", "it was ended by the kernel, for a signal of a file's owner")
def kill_by_owner(facts: Facts) -> str:
    import fcntl

    reader, writer = os.pipe()
    fcntl.fcntl(reader, 8, facts["victim"])  # F_SETOWN: who gets SIGIO
    fcntl.fcntl(reader, 10, signal.SIGKILL)  # F_SETSIG: which signal that is
    fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    os.write(writer, b"x")
    time.sleep(0.1)
    return "sent"


@attack("process", "the group of processes of the client's was ended")
def kill_group(facts: Facts) -> str:
    os.killpg(facts["victim"], signal.SIGKILL)
    return "sent"


@attack("process", "process 1 could be signalled", child=False)
def signal_process_1(facts: Facts) -> str:
    # SIGURG is ignored by whoever does not ask for it.
    os.kill(1, signal.SIGURG)
    if os.getppid() != 1:
        return "process 1 of the machine took a signal"
    # Its own init: nothing that the worker sends may end it, and so itself.
    for one in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGABRT, signal.SIGSEGV,
                signal.SIGHUP, signal.SIGUSR1, signal.SIGPIPE, signal.SIGKILL):  # fmt: skip
        os.kill(1, one)
    time.sleep(0.1)
    raise Refused("it is an init of the worker's own, and lives")


@attack("process", "a limit was set on the engine")
def limit_engine(facts: Facts) -> str:
    limit = resource.RLIMIT_CORE  # harmless: engines leave no cores anyway
    resource.prlimit(facts["victim"], limit, (0, 0))
    resource.prlimit(facts["engine"], limit, resource.prlimit(facts["engine"], limit))
    return "set"


@attack("process", "the client's process got less of the processor")
def slow_down(facts: Facts) -> str:
    os.setpriority(os.PRIO_PROCESS, facts["victim"], 19)
    return "nice 19"


@attack("process", "the client's process was moved to one processor")
def pin(facts: Facts) -> str:
    os.sched_setaffinity(facts["victim"], {min(os.sched_getaffinity(0))})
    return "pinned"


@attack("process", "the client's process was made idle by the scheduler")
def idle(facts: Facts) -> str:
    os.sched_setscheduler(facts["victim"], 5, os.sched_param(0))
    return "idle"


@attack("process", "the worker took the processor for itself, before all others")
def real_time(facts: Facts) -> str:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    return "real time"


@attack("process", "the kernel was told to end the client first when memory is short")
def blame_other(facts: Facts) -> str:
    with open(f"/proc/{facts['victim']}/oom_score_adj", "w") as file:
        file.write("1000")
    return "written"


@attack("process", "the worker would be ended last when memory is short")
def spare_self(facts: Facts) -> str:
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("-1000")
    return "written"


@attack("process", "pages of another process were moved")
def move_pages(facts: Facts) -> str:
    result, error = call("move_pages", facts["victim"], 0, 0, 0, 0, 0)
    if result < 0:
        raise Refused(error_text(error))
    return "moved none"


@attack("process", "a character was typed into a terminal")
def type_into_terminal(facts: Facts) -> str:
    import fcntl
    import termios

    # The engine has no terminal; one of the worker's own shows whether the call is there.
    leader, follower = os.openpty()
    os.setsid()
    fcntl.ioctl(follower, termios.TIOCSCTTY, 0)
    fcntl.ioctl(follower, 0x5412, b"x")  # TIOCSTI
    return f"typed into {leader}"


@attack("process", "the clipboard of the console was pasted")
def paste_console(facts: Facts) -> str:
    import fcntl

    leader, follower = os.openpty()
    try:
        fcntl.ioctl(follower, 0x541C, b"\x06")  # TIOCLINUX
    except OSError as error:
        if error.errno in (1, 13):
            raise
    finally:
        os.close(leader)
        os.close(follower)
    return "the call was let through"


# --- outliving ---


@attack("survival", "a process lived on after the worker's end", child=False)
def survive_worker(facts: Facts) -> str:
    _leave_behind(facts["survivor_mark"])
    return "left"


@attack("survival", "a process lived on after the engine was killed", child=False)
def survive_engine(facts: Facts) -> str:
    _leave_behind(facts["survivor_mark"])
    return "left"


def _leave_behind(mark: str) -> None:
    """Start a process that nothing connects with this one: session, parent, name, variables."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        if os.fork() == 0:
            libc().prctl(1, 0, 0, 0, 0)  # PR_SET_PDEATHSIG, taken back
            for number_ in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number_, signal.SIG_IGN)
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in range(3):
                os.dup2(null, descriptor)
            os.closerange(3, 1024)
            sleep = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(30)", mark]
            os.execve(sleep[0], sleep, {})
        os._exit(0)
    os.waitpid(pid, 0)
    time.sleep(0.2)


@attack("survival", "a child held the worker's connection, and its job never ended", child=False)
def keep_connection(facts: Facts) -> str:
    if os.fork() == 0:
        os.setsid()
        time.sleep(20)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)
    return "not reached"


@attack("survival", "the worker ignored all signals, and its job never ended", child=False)
def ignore_signals(facts: Facts) -> str:
    for one in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        try:
            signal.signal(one, signal.SIG_IGN)
        except (OSError, ValueError):
            continue
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
    while True:
        time.sleep(1)


# --- privileges ---


@attack("privilege", "a program of root's ran as root")
def run_setuid(facts: Facts) -> str:
    if not facts["setuid_program"]:
        raise Absent("there is no program that runs as root, or all are root's")
    answer = subprocess.run(
        [facts["setuid_program"], "-u"], capture_output=True, text=True, check=False, timeout=5
    )
    if answer.stdout.strip() != "0":
        raise Refused(f"it ran as {answer.stdout.strip()!r} {answer.stderr.strip()}")
    return "it ran as 0"


@attack("privilege", "the user was changed")
def become_other(facts: Facts) -> str:
    os.setresuid(12_345, 12_345, 12_345)
    return f"user {os.getuid()}"


@attack("privilege", "the worker holds privileges (capabilities)")
def capabilities(facts: Facts) -> str:
    header = ctypes.create_string_buffer(struct.pack("Ii", 0x20080522, 0))
    data = ctypes.create_string_buffer(24)
    if libc().capget(header, data) < 0:
        raise OSError(ctypes.get_errno(), "capget")
    words = struct.unpack("6I", data.raw)
    if not any(words[i] for i in (0, 1, 3, 4)):
        raise Refused("none")
    return f"effective {words[3]:08x}{words[0]:08x}"


@attack("privilege", "privileges can come back by running a program")
def new_privileges(facts: Facts) -> str:
    if libc().prctl(39, 0, 0, 0, 0) == 1:  # PR_GET_NO_NEW_PRIVS
        raise Refused("no_new_privs is set")
    return "no_new_privs is not set"


@attack("privilege", "a limit of the worker's own was raised")
def raise_limit(facts: Facts) -> str:
    for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE, resource.RLIMIT_MEMLOCK):
        _, hard = resource.getrlimit(limit)
        if hard == resource.RLIM_INFINITY:
            return f"limit {limit} is infinite"
        if limit == resource.RLIMIT_NOFILE and hard >= 1 << 20:
            return f"{hard} files are allowed as it is"
        try:
            resource.setrlimit(limit, (hard, hard + 1))
        except ValueError as error:  # what the module makes of EPERM
            raise Refused(str(error)) from None
    return "raised"


@attack("privilege", "a core of the worker's memory would be written to disk")
def dump_core(facts: Facts) -> str:
    if resource.getrlimit(resource.RLIMIT_CORE)[0] == 0:
        raise Refused("the limit is 0")
    return "cores are written"
