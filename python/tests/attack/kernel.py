"""Attacks by system calls that ordinary programs have no use for.

Their arguments do nothing where the call is let through: wrong magic numbers, files that are
not there, flags that nobody knows. A call counts as stopped where it fails with EPERM, EACCES
or ENOSYS, or ends the process; any other answer came from the code behind the wall.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import socket
import struct
from collections.abc import Callable
from pathlib import Path

from attack.case import Absent, Facts, Refused, attack, error_text
from attack.syscalls import FORBIDDEN, call, call_number, libc, must, number, reaches

_NOT_THERE = b"/nonexistent/attack"
_NEWUSER, _NEWNS, _NEWNET, _NEWPID = 0x10000000, 0x00020000, 0x40000000, 0x20000000


def _alone(work: Callable[[], object]) -> str:
    """Work in a process of one thread: a forked one may have threads of gRPC's."""
    reader, writer = os.pipe()
    pid = must("clone", 17, 0, 0, 0, 0)
    if pid == 0:
        try:
            work()
            os.write(writer, b"done")
        except (Refused, OSError) as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as answer:
        text = answer.read().decode()
    os.waitpid(pid, 0)
    if text != "done":
        raise Refused(text or "the process was ended")
    return text


@attack("kernel", "a file system was mounted")
def mount(facts: Facts) -> str:
    here = os.getcwd().encode()
    must("mount", b"tmpfs", here, b"tmpfs", 0, b"size=4k")
    must("umount2", here, 2)
    return "mounted"


@attack("kernel", "a file system was mounted in namespaces of its own")
def mount_in_own_namespace(facts: Facts) -> str:
    def work() -> None:
        must("unshare", _NEWUSER | _NEWNS)
        must("mount", b"none", b"/", 0, 0x44000, 0)
        must("mount", b"tmpfs", os.getcwd().encode(), b"tmpfs", 0, b"size=4k")

    return _alone(work)


@attack("kernel", "a read-only mount was made writable")
def remount(facts: Facts) -> str:
    folder = facts["mount_ro"].encode()
    result, error = call("mount", b"none", folder, 0, 0x1020, 0)  # MS_BIND | MS_REMOUNT
    if result < 0 and error in FORBIDDEN:
        raise Refused(error_text(error))
    return error_text(error) if error else "remounted"


@attack("kernel", "a mount was changed by its attributes")
def mount_attributes(facts: Facts) -> str:
    return reaches("mount_setattr", -1, b"", 0x1000, 0, 0)


@attack("kernel", "the new calls for mounts are there")
def mount_by_descriptors(facts: Facts) -> str:
    return reaches("fsopen", b"nonexistent", 0) + ", " + reaches("move_mount", -1, b"", -1, b"", 4)


@attack("kernel", "a part of the tree was cloned")
def clone_tree(facts: Facts) -> str:
    return f"descriptor {must('open_tree', -100, b'/', 1)}"  # OPEN_TREE_CLONE


@attack("kernel", "something was unmounted")
def unmount(facts: Facts) -> str:
    return reaches("umount2", _NOT_THERE, 0)


@attack("kernel", "the root was exchanged")
def pivot_root(facts: Facts) -> str:
    return reaches("pivot_root", _NOT_THERE, _NOT_THERE)


@attack("kernel", "the root was changed, and left by a descriptor")
def chroot(facts: Facts) -> str:
    above = os.open("/", os.O_RDONLY)
    os.mkdir(f"root-{os.getpid()}")
    os.chroot(f"root-{os.getpid()}")
    os.fchdir(above)
    for _ in range(30):
        os.chdir("..")
    with open(facts["home_file"].lstrip("/")) as file:
        return file.read()


@attack("kernel", "a user namespace, with all privileges in it, was made")
def unshare_user(facts: Facts) -> str:
    return _alone(lambda: must("unshare", _NEWUSER))


@attack("kernel", "namespaces of mounts, processes and network were made")
def unshare_others(facts: Facts) -> str:
    must("unshare", _NEWNS)
    must("unshare", _NEWNET)
    must("unshare", _NEWPID)
    return "made"


@attack("kernel", "a child was made in a user namespace of its own")
def clone_user(facts: Facts) -> str:
    pid = must("clone", _NEWUSER | 17, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "made"


@attack("kernel", "a child was made in a user namespace by clone3")
def clone3_user(facts: Facts) -> str:
    words = struct.pack("8Q", _NEWUSER, 0, 0, 0, 17, 0, 0, 0)
    pid = must("clone3", words, len(words))
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "made"


@attack("kernel", "the namespaces of the engine were entered")
def enter_namespaces(facts: Facts) -> str:
    def work() -> None:
        try:
            descriptor, kind = os.open(f"/proc/{facts['engine']}/ns/mnt", os.O_RDONLY), 0
        except OSError:
            descriptor, kind = must("pidfd_open", facts["engine"], 0), _NEWNS
        must("setns", descriptor, kind)

    return _alone(work)


@attack("kernel", "a key was put on a keyring of the kernel's")
def add_key(facts: Facts) -> str:
    key = must("add_key", b"user", b"attack", b"x", 1, -2)  # the process's own keyring
    return f"key {key}"


@attack("kernel", "keyrings of the kernel's were used")
def keyctl(facts: Facts) -> str:
    return reaches("keyctl", 0, -3, 0, 0, 0) + ", " + reaches("request_key", b"user", b"a", 0, 0)


@attack("kernel", "a program was loaded into the kernel (BPF)")
def bpf(facts: Facts) -> str:
    words = struct.pack("4I", 2, 4, 4, 1) + bytes(112)  # BPF_MAP_CREATE of an array
    return f"descriptor {must('bpf', 0, words, len(words))}"


@attack("kernel", "a ring of io_uring, which does calls past filters, was set up")
def io_uring(facts: Facts) -> str:
    return f"descriptor {must('io_uring_setup', 1, bytes(120))}"


@attack("kernel", "faults of pages can be handled, and so held up (userfaultfd)")
def userfaultfd(facts: Facts) -> str:
    return f"descriptor {must('userfaultfd', 1)}"


@attack("kernel", "performance counters were opened")
def perf_event_open(facts: Facts) -> str:
    words = struct.pack("IIQQQQQ", 1, 112, 0, 0, 0, 0, 0x61) + bytes(64)  # software, user only
    return f"descriptor {must('perf_event_open', words, 0, -1, -1, 0)}"


@attack("kernel", "a module was loaded into the kernel")
def init_module(facts: Facts) -> str:
    return reaches("init_module", 0, 0, b"") + ", " + reaches("finit_module", -1, b"", 0)


@attack("kernel", "a module was taken out of the kernel")
def delete_module(facts: Facts) -> str:
    return reaches("delete_module", b"no_such_module_attack", 0x800)


@attack("kernel", "another kernel was loaded")
def kexec(facts: Facts) -> str:
    return reaches("kexec_load", 0, 0, 0, 0x0000FFF0)  # flags that nobody knows


@attack("kernel", "the machine could be restarted")
def reboot(facts: Facts) -> str:
    return reaches("reboot", 0, 0, 0, 0)  # without the magic numbers


@attack("kernel", "swap and accounting could be switched")
def swap(facts: Facts) -> str:
    return reaches("swapon", _NOT_THERE, 0) + ", " + reaches("acct", _NOT_THERE)


@attack("kernel", "the name of the machine was set")
def sethostname(facts: Facts) -> str:
    name = socket.gethostname().encode()
    return reaches("sethostname", name, len(name))


@attack("kernel", "quotas of disks could be set")
def quotactl(facts: Facts) -> str:
    return reaches("quotactl", 0x80000700, _NOT_THERE, 0, 0)


@attack("kernel", "all accesses to files can be watched (fanotify)")
def fanotify(facts: Facts) -> str:
    return f"descriptor {must('fanotify_init', 0, os.O_RDONLY)}"


@attack("kernel", "addresses of memory are no longer random after the next program")
def personality(facts: Facts) -> str:
    must("personality", 0x0040000)
    if not must("personality", 0xFFFFFFFF) & 0x0040000:
        raise Refused("it had no effect")
    return "set"


@attack("kernel", "segments of memory were set up (modify_ldt)")
def modify_ldt(facts: Facts) -> str:
    return reaches("modify_ldt", 0, 0, 0)


@attack("kernel", "ports of devices were opened")
def ports(facts: Facts) -> str:
    must("ioperm", 0x80, 1, 1)
    return "port 0x80"


@attack("kernel", "memory was given to a pipe in place (vmsplice)")
def vmsplice(facts: Facts) -> str:
    return reaches("vmsplice", -1, 0, 0, 0)


@attack("kernel", "memory that the kernel itself cannot see was made (memfd_secret)")
def memfd_secret(facts: Facts) -> str:
    return f"descriptor {must('memfd_secret', 0)}"


def _run_code(code: bytes) -> int:
    memory = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(code)
    function = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
    return function()


@attack("kernel", "a forbidden call was made in the 32-bit way, past a filter for 64 bits")
def call_32_bit(facts: Facts) -> str:
    if platform.machine() != "x86_64":
        raise Absent(f"{platform.machine()} has no int 0x80")
    # push rbx; mov eax, 310 (unshare); xor ebx, ebx; int 0x80; pop rbx; ret
    result = _run_code(b"\x53\xb8\x36\x01\x00\x00\x31\xdb\xcd\x80\x5b\xc3")
    if result < 0:
        raise Refused(error_text(-result))
    return f"unshare gave {result}"


@attack("kernel", "a forbidden call was made by its x32 number")
def call_x32(facts: Facts) -> str:
    if platform.machine() != "x86_64":
        raise Absent(f"{platform.machine()} has no x32")
    result, error = call_number(0x40000000 | number("unshare"), 0)
    if result < 0:
        raise Refused(error_text(error))
    return f"unshare gave {result}"


@attack("kernel", "a segment of shared memory of another program was read")
def system_v_memory(facts: Facts) -> str:
    if facts["shm_id"] is None:
        raise Absent("there is no System V shared memory")
    shmat = libc().shmat
    shmat.restype = ctypes.c_void_p
    address = shmat(facts["shm_id"], None, 0o10000)  # SHM_RDONLY
    if address in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), "shmat")
    return ctypes.string_at(address, 64).decode("latin-1")


@attack("kernel", "a message queue of another program was opened")
def message_queue(facts: Facts) -> str:
    if not facts["queue_name"]:
        raise Absent("there are no message queues")
    descriptor = libc().mq_open(facts["queue_name"].encode(), os.O_RDONLY)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "mq_open")
    return f"descriptor {descriptor}"


@attack("kernel", "the kernel's tables of names and addresses were read")
def kernel_symbols(facts: Facts) -> str:
    lines = Path("/proc/kallsyms").read_text().splitlines()[:200]
    if not any(int(line.split()[0], 16) for line in lines):
        raise Refused("all addresses are 0")
    return f"{len(lines)} lines"


@attack("kernel", "a debugging or configuration file system of the kernel was listed")
def kernel_debug(facts: Facts) -> str:
    refused = ""
    for folder in ("/sys/kernel/debug", "/sys/kernel/tracing", "/sys/kernel/security"):
        try:
            if names := os.listdir(folder):
                return f"{len(names)} names of {folder}"
        except OSError as error:
            refused = str(error)
    raise Refused(refused or "they are empty")
