"""Attacks on files: reading what is others', changing what stays."""

from __future__ import annotations

import ctypes
import fcntl
import os
import stat
import struct
import sys
from pathlib import Path

from attack.case import Absent, Facts, Refused, attack
from attack.syscalls import libc, must, number

_READ_BYTES_MAX = 1 << 20


def _read(path: str | Path) -> str:
    with open(path, "rb") as file:
        return file.read(_READ_BYTES_MAX).decode("utf-8", "replace")


# --- reading ---


def _reads(name: str, path: str, success: str) -> None:
    """Register an attack that reads a file; what the scene knows stands in braces in its path."""

    def run(facts: Facts) -> str:
        return _read(path.format_map(facts))

    run.__name__ = name
    attack("read", success)(run)


@attack("read", "the hashes of passwords were read")
def read_shadow(facts: Facts) -> str:
    if "root:" not in (text := _read("/etc/shadow")):
        raise Refused("another file stands there")
    return f"{len(text)} bytes"


_reads("read_home", "{home_file}", "a file of the home folder was read")


@attack("read", "the names of the files in the home folder were listed")
def list_home(facts: Facts) -> str:
    return " ".join(os.listdir(facts["home"]))


_reads("read_ssh_key", "{ssh_key}", "a private key for ssh was read")
_reads("read_cloud_credentials", "{cloud_credentials}", "the credentials of a cloud were read")
_reads("read_working_folder", "{project_file}", "a file beside the user's script was read")
_reads("read_tmp", "{tmp_file}", "a file of another program in /tmp was read")
_reads("read_dev_shm", "{shm_file}", "a file of another program in /dev/shm was read")


@attack("read", "a function of the client's was read as the engine keeps it")
def read_artifacts(facts: Facts) -> str:
    folder = facts["artifacts"]
    for name in os.listdir(folder):
        if text := _read(os.path.join(folder, name)):
            return f"{len(text)} bytes of {name}"
    raise Absent("the engine holds no artifacts")


@attack("read", "the engine's folder of sockets and spilled data was listed")
def list_run_folder(facts: Facts) -> str:
    names = os.listdir(facts["run_dir"])
    if "engine.sock" not in names:  # what the worker's own root shows there
        raise Refused(" ".join(names))
    return " ".join(names)


_reads(
    "read_sibling_scratch", "{sibling_file}", "a file in another worker's scratch folder was read"
)


@attack("read", "where another worker is was read from its page")
def read_sibling_page(facts: Facts) -> str:
    return str(len(_read(facts["sibling_page"])))


@attack("read", "a secret among the worker's own variables was found")
def read_variables(facts: Facts) -> str:
    return " ".join(f"{k}={v}" for k, v in os.environ.items())


_reads(
    "read_engine_variables",
    "/proc/{engine}/environ",
    "a secret among the engine's variables was read",
)
_reads(
    "read_supervisor_variables",
    "/proc/{supervisor}/environ",
    "a secret among the supervisor's variables was read",
)
_reads("read_command_line", "/proc/{victim}/cmdline", "the command line of the client was read")


@attack("read", "the processes of the machine were listed")
def list_processes(facts: Facts) -> str:
    numbers = {name for name in os.listdir("/proc") if name.isdigit()}
    if not {str(facts["engine"]), str(facts["victim"])} <= numbers:
        raise Refused(f"{len(numbers)} processes, none of them outside")
    return f"{len(numbers)} processes"


_reads(
    "read_through_process_1",
    "/proc/1/root{home_file}",
    "files were read through the root of process 1",
)
_reads(
    "read_through_engine",
    "/proc/{engine}/root{home_file}",
    "files were read through the engine's root or working folder",
)


@attack("read", "a descriptor that was left open leads outside")
def read_through_descriptors(facts: Facts) -> str:
    for descriptor in range(3, 1024):
        try:
            kind = os.fstat(descriptor).st_mode
        except OSError:
            continue
        if not stat.S_ISDIR(kind):
            continue
        for up in range(12):
            path = "../" * up + facts["home_file"].lstrip("/")
            try:
                with open(os.open(path, os.O_RDONLY, dir_fd=descriptor), "rb") as file:
                    return file.read(_READ_BYTES_MAX).decode()
            except OSError:
                continue
    raise Refused("no open folder leads there")


@attack("read", "a file was opened by its handle, past all folders")
def open_by_handle(facts: Facts) -> str:
    handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128))
    mount_id = ctypes.c_int()
    syscall = libc().syscall
    path = facts["home_file"].encode()
    if syscall(number("name_to_handle_at"), -100, path, handle, ctypes.byref(mount_id), 0) < 0:
        # A handle can also be guessed: the type and inode of the root of ext4 and its like.
        handle = ctypes.create_string_buffer(struct.pack("IiII", 8, 1, 2, 0) + bytes(120))
    folder = os.open("/usr", os.O_RDONLY)
    descriptor = syscall(number("open_by_handle_at"), folder, handle, os.O_RDONLY)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "open_by_handle_at")
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        return f"a folder outside: {len(os.listdir(descriptor))} names {facts['home_secret']}"
    return os.read(descriptor, _READ_BYTES_MAX).decode()


@attack("read", "a symbolic link in scratch led outside")
def symlink_from_scratch(facts: Facts) -> str:
    link = Path("link")
    link.unlink(missing_ok=True)
    link.symlink_to(facts["home_file"])
    return _read(link)


@attack("read", "a symbolic link in a mounted folder led outside")
def symlink_from_mount(facts: Facts) -> str:
    link = Path(facts["mount_rw"]) / "link"
    link.unlink(missing_ok=True)
    link.symlink_to(facts["home_file"])
    return _read(link)


@attack("read", "a path of many .. led out of scratch")
def dots_from_scratch(facts: Facts) -> str:
    return _read("../" * 30 + facts["home_file"].lstrip("/"))


@attack("read", "a path of many .. led out of a mounted folder")
def dots_from_mount(facts: Facts) -> str:
    return _read(facts["mount_rw"] + "/.." * 30 + facts["home_file"])


@attack("read", "a hard link to a file outside was made in scratch, and read")
def hard_link(facts: Facts) -> str:
    os.link(facts["home_file"], f"hard-{os.getpid()}")
    return _read(f"hard-{os.getpid()}")


@attack("read", "size and time of a file outside were seen")
def stat_outside(facts: Facts) -> str:
    return f"{os.stat(facts['ssh_key']).st_size} bytes"


@attack("read", "changes of files in a folder outside can be watched")
def watch_outside(facts: Facts) -> str:
    watch = libc().inotify_init1(0)
    if watch < 0 or libc().inotify_add_watch(watch, facts["home"].encode(), 0x100) < 0:
        raise OSError(ctypes.get_errno(), "inotify")
    return "watched"


@attack("read", "a block device, and so any file, was read")
def read_block_device(facts: Facts) -> str:
    devices = ["/dev/vda", "/dev/sda", "/dev/nvme0n1", "/dev/xvda", "/dev/dm-0"]
    present = facts["block_devices"]
    if not present:
        raise Absent("the machine shows no block device")
    for device in {*devices, *present}:
        if os.path.exists(device):
            return f"{len(_read(device)[:512])} characters of {device}"
    raise Refused("there is no device")


@attack("read", "the kernel's memory was opened")
def read_kernel_memory(facts: Facts) -> str:
    refused = ""
    for path in ("/dev/mem", "/dev/kmem", "/proc/kcore"):
        try:
            os.close(os.open(path, os.O_RDONLY))
        except OSError as error:
            refused = str(error)
        else:
            return path
    raise Refused(refused)


@attack("read", "the kernel's log was read")
def read_kernel_log(facts: Facts) -> str:
    buffer = ctypes.create_string_buffer(4096)
    got = libc().syscall(number("syslog"), 3, buffer, 4096)  # SYSLOG_ACTION_READ_ALL
    if got < 0:
        raise OSError(ctypes.get_errno(), "syslog")
    return f"{got} bytes"


# --- writing ---


def _writes(name: str, file: str, success: str) -> None:
    """Register an attack that writes a file of the scene's."""

    def run(facts: Facts) -> str:
        Path(facts[file]).write_text("changed\n")
        return "written"

    run.__name__ = name
    attack("write", success)(run)


_writes("write_home", "home_canary", "a file in the home folder was changed")
_writes("write_tmp", "tmp_canary", "a file of another program in /tmp was changed")
_writes("write_working_folder", "project_new", "a file appeared beside the user's script")
_writes("write_environment", "environment_new", "a package of the environment was changed")
_writes("write_interpreter", "interpreter_new", "a module of the interpreter was added")


@attack("write", "the harness that starts workers was changed")
def write_harness(facts: Facts) -> str:
    module = sys.modules["alink_worker"].__file__
    assert module is not None
    Path(module).with_name(facts["harness_new"]).write_text("")
    return str(Path(module).parent)


_writes(
    "write_cache",
    "cache_new",
    "a file appeared in the folder that the engine keeps environments in",
)
_writes("write_run_folder", "run_new", "a file appeared in the engine's own folder")
_writes(
    "write_sibling_scratch",
    "sibling_canary",
    "a file in another worker's scratch folder was changed",
)


@attack("write", "another worker's page was overwritten")
def write_sibling_page(facts: Facts) -> str:
    with open(facts["sibling_page"], "r+b") as page:
        page.write(bytes(8))
    return "written"


@attack("write", "a file outside was changed through a symbolic link in scratch")
def write_through_symlink(facts: Facts) -> str:
    link = Path("canary")
    link.unlink(missing_ok=True)
    link.symlink_to(facts["home_canary"])
    link.write_text("changed\n")
    return "written"


@attack("write", "a file in a folder that was mounted to be read was changed")
def write_read_only_mount(facts: Facts) -> str:
    (Path(facts["mount_ro"]) / "canary").write_text("changed\n")
    return "written"


@attack("write", "a file outside was moved into scratch")
def move_into_scratch(facts: Facts) -> str:
    os.rename(facts["home_canary"], "moved")
    return "moved"


@attack("write", "a file outside was deleted")
def delete_outside(facts: Facts) -> str:
    os.unlink(facts["home_canary"])
    return "deleted"


@attack("write", "a file outside was cut short")
def truncate_outside(facts: Facts) -> str:
    os.truncate(facts["home_canary"], 0)
    return "cut"


@attack("write", "the mode of a file outside was changed")
def chmod_outside(facts: Facts) -> str:
    os.chmod(facts["home_canary"], 0o777)
    return "changed"


@attack("write", "the time of a file outside was changed")
def touch_outside(facts: Facts) -> str:
    os.utime(facts["home_canary"], (1, 1))
    return "changed"


@attack("write", "an extended attribute of a file outside was set")
def setxattr_outside(facts: Facts) -> str:
    os.setxattr(facts["home_canary"], "user.attack", b"1")
    return "set"


@attack("write", "a lock was taken that others wait for")
def lock_outside(facts: Facts) -> str:
    with open(facts["home_canary"], "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return "locked"


@attack("write", "a setting of the kernel was opened for writing")
def open_kernel_settings(facts: Facts) -> str:
    refused = ""
    for path in (
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
        "/sys/kernel/uevent_helper",
        "/proc/sys/kernel/modprobe",
    ):
        try:
            os.close(os.open(path, os.O_WRONLY))
        except OSError as error:
            refused = str(error)
        else:
            return path
    raise Refused(refused)


@attack("write", "a control group was made")
def make_control_group(facts: Facts) -> str:
    refused = ""
    for parent in facts["control_groups"] or ("/sys/fs/cgroup",):
        folder = Path(parent) / facts["control_group_name"]
        try:
            folder.mkdir()
        except OSError as error:
            refused = str(error)
        else:
            folder.rmdir()
            return str(folder)
    raise Refused(refused)


@attack("write", "the worker left the control group that bounds it")
def leave_control_group(facts: Facts) -> str:
    refused = "there are no control groups"
    for parent in facts["control_groups"] or ("/sys/fs/cgroup",):
        for name in ("cgroup.procs", "tasks"):
            try:
                with open(Path(parent) / name, "w") as file:
                    file.write(str(os.getpid()))
            except OSError as error:
                refused = str(error)
            else:
                return parent
    raise Refused(refused)


@attack("write", "a program that runs as its owner was left in a mounted folder")
def leave_setuid_program(facts: Facts) -> str:
    program = Path(facts["setuid_new"])
    program.write_bytes(b"#!/bin/sh\n")
    os.chmod(program, 0o4755)
    return oct(program.stat().st_mode)


@attack("write", "such a program was left by another system call, which creates files")
def create_setuid_program(facts: Facts) -> str:
    os.umask(0)
    descriptor = os.open(facts["setuid_new"], os.O_CREAT | os.O_WRONLY, 0o4755)
    os.close(descriptor)
    if not os.stat(facts["setuid_new"]).st_mode & stat.S_ISUID:
        must("fchmodat2", -100, facts["setuid_new"].encode(), 0o4755, 0)
    return oct(os.stat(facts["setuid_new"]).st_mode)


@attack("write", "a device was made")
def make_device(facts: Facts) -> str:
    name = f"device-{os.getpid()}"
    os.mknod(name, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    try:
        os.close(os.open(name, os.O_RDONLY))
    finally:
        os.unlink(name)
    return "made and opened"
