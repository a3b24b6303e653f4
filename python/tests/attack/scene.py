"""What is attacked: files, listeners and processes, and the witnesses that watch them.

The scene is outside of every sandbox. What it holds is made for the purpose: secrets are
random, so that who knows one has read it, and every file, process and setting is looked at
after an attack and put back.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attack.case import Facts
from attack.syscalls import libc

VARIABLES = ("AWS_SECRET_ACCESS_KEY", "ATTACK_PASSWORD", "PIP_INDEX_URL", "UV_INDEX_PRIVATE")

#: Attacks that have succeeded if their evidence holds a secret, by that secret's fact.
READS = {
    "read-home": "home",
    "list-home": "home_name",
    "read-ssh-key": "ssh",
    "read-cloud-credentials": "cloud",
    "read-working-folder": "project",
    "read-tmp": "tmp",
    "read-dev-shm": "shm",
    "read-sibling-scratch": "sibling_disk",
    "read-variables": "variable",
    "read-engine-variables": "variable",
    "read-supervisor-variables": "variable",
    "read-command-line": "argument",
    "read-through-process-1": "home",
    "read-through-engine": "home",
    "read-through-descriptors": "home",
    "open-by-handle": "home",
    "symlink-from-scratch": "home",
    "symlink-from-mount": "home",
    "dots-from-scratch": "home",
    "dots-from-mount": "home",
    "hard-link": "home",
    "chroot": "home",
    "system-v-memory": "segment",
    "read-sibling-memory": "sibling_memory",
    "read-sibling-mem-file": "sibling_memory",
    "listen": "caller",
}

#: Attacks that have succeeded if a file is not as it was, by the fact that is its path.
CHANGES = {
    "write-home": "home_canary",
    "write-through-symlink": "home_canary",
    "move-into-scratch": "home_canary",
    "delete-outside": "home_canary",
    "truncate-outside": "home_canary",
    "chmod-outside": "home_canary",
    "touch-outside": "home_canary",
    "setxattr-outside": "home_canary",
    "write-tmp": "tmp_canary",
    "write-working-folder": "project_new",
    "write-environment": "environment_new",
    "write-interpreter": "interpreter_new",
    "write-cache": "cache_new",
    "write-run-folder": "run_new",
    "write-sibling-scratch": "sibling_canary",
    "write-read-only-mount": "mount_canary",
}

#: Attacks that have succeeded if a listener got their token.
REACHES = ("tcp", "tcp6", "udp", "udp6", "mptcp", "abstract", "dgram", "unix")
REACHED_BY = {
    "tcp": "tcp",
    "tcp6": "tcp6",
    "udp": "udp",
    "udp6": "udp6",
    "mptcp": "mptcp",
    "tcp-fast-open": "fast",
    "abstract-socket": "abstract",
    "abstract-datagram": "dgram",
    "path-socket": "unix",
    "pass-descriptor": "unix",
}

_STOPPED = {"stop-engine": "engine", "stop-supervisor": "supervisor", "stop-sibling": "sibling_pid"}
_KILLED = ("kill-outside", "kill-by-descriptor", "kill-by-owner", "kill-group")


def state_of(pid: int) -> str:
    """Give the letter of a process's state, "" where there is none or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    letter = text.rpartition(")")[2].split()[0]
    return "" if letter in "ZX" else letter


def eventually(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until a condition holds; tell whether it does."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


class Scene:
    """Everything that is attacked but the engine, its workers and the sibling."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self._files: dict[str, bytes] = {}
        self._modes: dict[str, int] = {}
        self._closing: list[Callable[[], object]] = []
        self._received: dict[str, list[bytes]] = {}
        self.secrets: dict[str, str] = {}
        self.facts: Facts = {"home": str(base / "home")}
        self._make_files()
        self._make_listeners()
        self._make_ipc()
        self.victim = self._new_victim()
        self.watcher = Watcher()
        self._closing.append(self.watcher.close)

    # --- making ---

    def secret(self, name: str) -> str:
        """Give the secret of a name, the same one each time."""
        return self.secrets.setdefault(name, f"{name}-{secrets.token_hex(16)}")

    def _file(self, fact: str, path: Path, secret: str = "", mode: int = 0o600) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._files[str(path)] = f"{self.secret(secret) if secret else 'untouched'}\n".encode()
        self._modes[str(path)] = mode
        self.facts[fact] = str(path)

    def _make_files(self) -> None:
        base, tag = self.base, secrets.token_hex(4)
        self._file("home_file", base / "home" / "notes.txt", "home")
        self._file("home_named", base / "home" / self.secret("home_name"))
        self._file("ssh_key", base / "home" / ".ssh" / "id_ed25519", "ssh")
        self._file("cloud_credentials", base / "home" / ".aws" / "credentials", "cloud")
        self._file("home_canary", base / "home" / ".bashrc")
        self._file("project_file", base / "project" / ".env", "project")
        self._file("tmp_file", Path("/tmp") / f"alink-attack-{tag}", "tmp")
        self._file("tmp_canary", Path("/tmp") / f"alink-attack-{tag}-canary")
        self._file("mount_canary", base / "mount-ro" / "canary")
        self._file("mount_file", base / "mount-rw" / "file")
        self.facts["shm_file"] = "/dev/shm/none"
        if os.access("/dev/shm", os.W_OK):
            self._file("shm_file", Path("/dev/shm") / f"alink-attack-{tag}", "shm")
        self.facts["mount_ro"] = str(base / "mount-ro")
        self.facts["mount_rw"] = str(base / "mount-rw")
        self.facts["setuid_new"] = str(base / "mount-rw" / "program")
        self.facts["project_new"] = str(base / "project" / "new.py")
        self.facts["home_secret"] = self.secret("home")
        self.facts["harness_new"] = f"new_{tag}.py"
        self.facts["cache_new"] = os.environ["ALINK_CACHE_DIR"] + f"/new-{tag}"
        purelib = Path(json.__file__).parents[1]
        self.facts["interpreter_new"] = str(purelib / f"new_{tag}.py")
        site = next(p for p in sys.path if p.endswith("site-packages"))
        self.facts["environment_new"] = f"{site}/new_{tag}.py"
        self.facts["block_devices"] = [
            f"/dev/{name}" for name in os.listdir("/sys/block") if os.path.exists(f"/dev/{name}")
        ] if os.path.isdir("/sys/block") else []  # fmt: skip
        self.facts["control_groups"] = _control_groups()
        self.facts["control_group_name"] = f"attack-{tag}"

    def _make_listeners(self) -> None:
        loopback = ("127.0.0.1", 0)
        self._listen("tcp", socket.AF_INET, socket.SOCK_STREAM, loopback)
        self._listen("mptcp", socket.AF_INET, socket.SOCK_STREAM, loopback)
        self._listen("fast", socket.AF_INET, socket.SOCK_STREAM, loopback)
        self._listen("udp", socket.AF_INET, socket.SOCK_DGRAM, loopback)
        self._listen("tcp6", socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0))
        self._listen("udp6", socket.AF_INET6, socket.SOCK_DGRAM, ("::1", 0))
        tag = secrets.token_hex(8)
        self.facts["abstract_name"] = f"\0alink-attack-{tag}"
        self.facts["abstract_dgram_name"] = f"\0alink-attack-{tag}-d"
        self.facts["unix_path"] = str(self.base / "docker.sock")
        named = self.facts
        self._listen("abstract", socket.AF_UNIX, socket.SOCK_STREAM, named["abstract_name"])
        self._listen("dgram", socket.AF_UNIX, socket.SOCK_DGRAM, named["abstract_dgram_name"])
        self._listen("unix", socket.AF_UNIX, socket.SOCK_STREAM, named["unix_path"])
        with socket.socket() as free:
            free.bind(loopback)
            self.facts["listen_port"] = free.getsockname()[1]

    def _listen(self, name: str, family: int, kind: int, address: Any) -> None:
        self.facts[name] = self.secret(name)
        self.facts[f"{name}_port"] = 0
        listener = socket.socket(family, kind)
        try:
            if name == "fast":
                listener.setsockopt(socket.IPPROTO_TCP, 23, 4)  # TCP_FASTOPEN
            listener.bind(address)
        except OSError:  # no IPv6 here
            listener.close()
            return
        if kind == socket.SOCK_STREAM:
            listener.listen(16)
        if family != socket.AF_UNIX:
            self.facts[f"{name}_port"] = listener.getsockname()[1]
        self._received[name] = []
        thread = threading.Thread(target=self._serve, args=(name, listener, kind), daemon=True)
        thread.start()

        def close() -> None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

        self._closing.append(close)

    def _serve(self, name: str, listener: socket.socket, kind: int) -> None:
        with contextlib.suppress(OSError):
            while True:
                if kind == socket.SOCK_DGRAM:
                    if not (data := listener.recv(4096)) and listener.fileno() < 0:
                        return
                    self._received[name].append(data)
                    continue
                peer, _ = listener.accept()
                with peer:
                    peer.settimeout(2)
                    with contextlib.suppress(OSError):
                        self._received[name].append(peer.recv(4096))

    def _make_ipc(self) -> None:
        self.facts["shm_id"], self.facts["queue_name"] = None, ""
        id_ = libc().shmget(0, 4096, 0o1600)  # IPC_PRIVATE, IPC_CREAT
        if id_ >= 0:
            shmat = libc().shmat
            shmat.restype = ctypes.c_void_p
            address = shmat(id_, None, 0)
            ctypes.memmove(address, self.secret("segment").encode() + b"\0", 50)
            self.facts["shm_id"] = id_
            self._closing.append(lambda: libc().shmctl(id_, 0, None))  # IPC_RMID
        name = f"/alink-attack-{secrets.token_hex(4)}"
        if libc().mq_open(name.encode(), os.O_CREAT | os.O_RDWR, 0o600, None) >= 0:
            self.facts["queue_name"] = name
            self._closing.append(lambda: libc().mq_unlink(name.encode()))

    def _new_victim(self) -> subprocess.Popen[bytes]:
        victim = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)",
             f"--password={self.secret('argument')}"],
            start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (4096, 4096)),
        )  # fmt: skip
        self.facts["victim"] = victim.pid
        return victim

    # --- before and after an attack ---

    def reset(self) -> None:
        """Put back what an attack may have changed."""
        for path, content in self._files.items():
            file = Path(path)
            with contextlib.suppress(OSError):
                os.removexattr(path, "user.attack")
            if not file.exists() or file.read_bytes() != content:
                file.write_bytes(content)
            file.chmod(self._modes[path])
            os.utime(path, (1_700_000_000, 1_700_000_000))
        for fact in ("project_new", "environment_new", "interpreter_new", "cache_new", "setuid_new",
                     "run_new"):  # fmt: skip
            if path := self.facts.get(fact):
                Path(path).unlink(missing_ok=True)
        for name in ("link", "program"):
            (self.base / "mount-rw" / name).unlink(missing_ok=True)
        if self.victim.poll() is not None or self._victim_settings() != self._untouched:
            self.victim.kill()
            self.victim.wait()
            self.victim = self._new_victim()
        for tokens in self._received.values():
            tokens.clear()
        self._before = {fact: _looks(self.facts.get(fact, "")) for fact in CHANGES.values()}

    _untouched = (0, True, 0, "0", (4096, 4096))

    def _victim_settings(self) -> tuple[Any, ...]:
        pid = self.victim.pid
        try:
            return (
                os.getpriority(os.PRIO_PROCESS, pid),
                os.sched_getaffinity(pid) == os.sched_getaffinity(0),
                os.sched_getscheduler(pid),
                Path(f"/proc/{pid}/oom_score_adj").read_text().strip(),
                resource.prlimit(pid, resource.RLIMIT_CORE),
            )
        except OSError:
            return ()

    def witness(self, name: str, evidence: str) -> bool | None:
        """Say whether an attack has succeeded as seen from outside; None if nothing shows."""
        if name in READS:
            return self.secret(READS[name]) in evidence
        if name in CHANGES:
            return _looks(self.facts[CHANGES[name]]) != self._before[CHANGES[name]]
        if name in REACHED_BY:
            return self._got(REACHED_BY[name])
        if name in _STOPPED:
            return self.watcher.stopped(self.facts[_STOPPED[name]])
        if name in _KILLED:
            return eventually(lambda: self.victim.poll() is not None, 0.2)
        if name in ("leave-setuid-program", "create-setuid-program"):
            with contextlib.suppress(OSError):
                mode = Path(self.facts["setuid_new"]).stat().st_mode
                return bool(mode & (stat.S_ISUID | stat.S_ISGID))
            return False
        if name == "write-harness":
            return bool(list(Path(os.environ["ALINK_CACHE_DIR"]).rglob(self.facts["harness_new"])))
        return self._witness_settings(name)

    def _witness_settings(self, name: str) -> bool | None:
        place = ("slow-down", "pin", "idle", "blame-other", "limit-engine")
        if name not in place:
            return None
        now = self._victim_settings()
        return bool(now) and now[place.index(name)] != self._untouched[place.index(name)]

    def _got(self, name: str) -> bool:
        token = self.secret(name).encode()
        if name not in self._received:
            return False
        return eventually(lambda: any(token in one for one in self._received[name]), 0.2)

    @contextlib.contextmanager
    def calling(self, name: str) -> Any:
        """Call at the worker's port for as long as the attack that listens runs."""
        if name != "listen":
            yield
            return
        ended = threading.Event()

        def call() -> None:
            while not ended.is_set():
                with contextlib.suppress(OSError), socket.socket() as caller:
                    caller.settimeout(0.2)
                    caller.connect(("127.0.0.1", self.facts["listen_port"]))
                    caller.send(self.secret("caller").encode())
                time.sleep(0.02)

        thread = threading.Thread(target=call, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def survivors(self) -> list[int]:
        """Give the processes that an attack has left behind."""
        mark, found = self.facts.get("survivor_mark", "nobody's").encode(), []
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) != os.getpid() and state_of(int(name)):
                with contextlib.suppress(OSError):
                    if mark in Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0"):
                        found.append(int(name))
        return found

    def close(self) -> None:
        """Remove everything."""
        with contextlib.suppress(OSError):
            self.reset()
        for pid in self.survivors():
            os.kill(pid, signal.SIGKILL)
        for close in reversed(self._closing):
            close()
        self.victim.kill()
        self.victim.wait()
        for path in self._files:
            Path(path).unlink(missing_ok=True)
        for path in Path(os.environ["ALINK_CACHE_DIR"]).rglob(self.facts["harness_new"]):
            path.unlink()
        shutil.rmtree(self.base, ignore_errors=True)


class Watcher:
    """Watches processes that attacks may stop, and lets them go on."""

    def __init__(self) -> None:
        self._pids: set[int] = set()
        self._stopped: set[int] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def watch(self, *pids: int) -> None:
        """Watch these processes, and no others."""
        self._pids = set(pids)
        self._stopped.clear()

    def stopped(self, pid: int) -> bool:
        """Tell whether a process has been stopped since `watch`."""
        return eventually(lambda: pid in self._stopped, 0.1)

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            for pid in tuple(self._pids):
                if state_of(pid) == "T":
                    self._stopped.add(pid)
                    with contextlib.suppress(OSError):
                        os.kill(pid, signal.SIGCONT)

    def close(self) -> None:
        """End the watch."""
        self._ended.set()
        self._thread.join()


def _looks(path: str) -> tuple[Any, ...]:
    """Give what shows of a file: content, mode, time, attribute; () if it is not there."""
    try:
        status = os.stat(path)
        content = Path(path).read_bytes()
    except OSError:
        return ()
    try:
        attributes = os.listxattr(path)
    except OSError:
        attributes = []
    return content, status.st_mode, status.st_mtime, "user.attack" in attributes


def _control_groups() -> list[str]:
    """Give the folders of this process's control groups, and of their roots."""
    found: list[str] = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            for name in (controllers, "", "unified"):
                root = Path("/sys/fs/cgroup") / name
                found += [str(p) for p in (root, Path(f"{root}{path}")) if p.is_dir()]
    return sorted({one.rstrip("/") for one in found})
