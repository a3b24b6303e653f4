"""System calls by their numbers, as an attacker makes them: without the C library's wrappers."""

from __future__ import annotations

import ctypes
import errno
import functools
import platform

from attack.case import Absent, Refused, error_text

# Numbers of x86-64 and, where it differs, of arm64 (the generic table). Those from 424 on are
# the same everywhere.
_NUMBERS: dict[str, tuple[int, int | None]] = {
    "open": (2, None),
    "chmod": (90, None),
    "ptrace": (101, 117),
    "syslog": (103, 116),
    "personality": (135, 92),
    "pivot_root": (155, 41),
    "modify_ldt": (154, None),
    "chroot": (161, 51),
    "acct": (163, 89),
    "mount": (165, 40),
    "umount2": (166, 39),
    "swapon": (167, 224),
    "reboot": (169, 142),
    "sethostname": (170, 161),
    "iopl": (172, None),
    "ioperm": (173, None),
    "init_module": (175, 105),
    "delete_module": (176, 106),
    "quotactl": (179, 60),
    "io_setup": (206, 0),
    "kexec_load": (246, 104),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "clone": (56, 220),
    "unshare": (272, 97),
    "move_pages": (279, 239),
    "vmsplice": (278, 75),
    "perf_event_open": (298, 241),
    "prlimit64": (302, 261),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "setns": (308, 268),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "finit_module": (313, 273),
    "kexec_file_load": (320, 294),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "memfd_create": (319, 279),
    "fanotify_init": (300, 262),
    "pidfd_send_signal": (424, 424),
    "io_uring_setup": (425, 425),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "pidfd_open": (434, 434),
    "clone3": (435, 435),
    "openat2": (437, 437),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    "mount_setattr": (442, 442),
    "memfd_secret": (447, 447),
    "fchmodat2": (452, 452),
}

_MACHINES = {"x86_64": 0, "aarch64": 1}

#: What a call fails with when it is forbidden. Any other error came from beyond the wall.
FORBIDDEN = (errno.EPERM, errno.EACCES, errno.ENOSYS)


@functools.cache
def libc() -> ctypes.CDLL:
    """Give the C library, with errno kept."""
    return ctypes.CDLL(None, use_errno=True)


def number(name: str) -> int:
    """Give the number of a system call on this machine."""
    machine = _MACHINES.get(platform.machine())
    found = None if machine is None else _NUMBERS[name][machine]
    if found is None:
        raise Absent(f"{platform.machine()} has no {name}")
    return found


def call(name: str, *args: int | bytes | None) -> tuple[int, int]:
    """Make a system call; give its result and errno."""
    return call_number(number(name), *args)


def call_number(nr: int, *args: int | bytes | None) -> tuple[int, int]:
    """Make a system call by its number; give its result and errno."""
    words = [ctypes.c_long(a) if isinstance(a, int) else ctypes.c_char_p(a) for a in args]
    function = libc().syscall
    function.restype = ctypes.c_long
    ctypes.set_errno(0)
    result = function(ctypes.c_long(nr), *words)
    return result, ctypes.get_errno() if result < 0 else 0


def must(name: str, *args: int | bytes | None) -> int:
    """Make a system call that has to succeed."""
    result, error = call(name, *args)
    if result < 0:
        raise Refused(f"{name}: {error_text(error)}")
    return result


def reaches(name: str, *args: int | bytes | None) -> str:
    """Make a call whose arguments do nothing; only a forbidden one is refused."""
    result, error = call(name, *args)
    if result < 0 and error in FORBIDDEN:
        raise Refused(f"{name}: {error_text(error)}")
    return f"{name} gave {result} {error_text(error) if error else ''}".strip()
