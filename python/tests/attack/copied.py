"""A copy of Python, alink and the attacks that an ordinary user can read and write.

Where the suite is run as root, the interpreter may lie in root's own home, which is closed to
others; and attacks that change an environment must not find the developer's.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import alink as al

_DISTRIBUTIONS = ("pyarrow", "numpy", "grpcio", "cloudpickle", "typing_extensions", "uv", "tomli")
_LEFT_OUT = shutil.ignore_patterns("site-packages", "test", "tests", "idlelib", "ensurepip", "*.a")


class Copy:
    """The copy, in a new folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        version = f"python{sysconfig.get_python_version()}"
        self._library = folder / "python" / "lib"
        self._copy_interpreter(version)
        self.python = folder / "venv" / "bin" / "python"
        site = folder / "venv" / "lib" / version / "site-packages"
        self._make_environment(site)
        _copy_tree(Path(al.__file__).parent, site / "alink")
        _copy_tree(Path(__file__).parent, folder / "tests" / "attack")
        self.pyrunner = folder / "bin" / "pyrunner"
        self.pyrunner.parent.mkdir()
        _link(al.find_pyrunner(), self.pyrunner)

    def _copy_interpreter(self, version: str) -> None:
        base = Path(sys.base_prefix)
        (self.folder / "python" / "bin").mkdir(parents=True)
        shutil.copy2(os.path.realpath(sys.executable), self.folder / "python" / "bin" / version)
        _copy_tree(Path(sysconfig.get_path("stdlib")), self._library / version)
        folder = Path(sysconfig.get_config_var("LIBDIR") or base / "lib")
        for library in folder.glob("libpython*.so*"):
            _link(library, self._library / library.name)

    def _make_environment(self, site: Path) -> None:
        venv, home = self.folder / "venv", self.folder / "python" / "bin"
        (venv / "bin").mkdir(parents=True)
        site.mkdir(parents=True)
        for name in ("python", "python3"):
            (venv / "bin" / name).symlink_to(home / f"python{sysconfig.get_python_version()}")
        (venv / "pyvenv.cfg").write_text(
            f"home = {home}\ninclude-system-site-packages = false\n"
            f"version = {'.'.join(map(str, sys.version_info[:3]))}\n"
        )
        for name in _DISTRIBUTIONS:
            try:
                files = metadata.files(name) or []
            except metadata.PackageNotFoundError:
                continue
            for file in files:
                if ".." not in file.parts and "tests" not in file.parts:
                    target = site / file
                    target.parent.mkdir(parents=True, exist_ok=True)
                    _link(file.locate(), target)

    def give_to(self, uid: int) -> None:
        """Make a user the owner of the copy's folders; files that are linked stay as they are."""
        for folder, _, _ in os.walk(self.folder):
            os.chown(folder, uid, uid)
            os.chmod(folder, 0o755)

    def environ(self) -> dict[str, str]:
        """Give the variables of a process that runs from the copy."""
        return {
            "PATH": f"{self.python.parent}:/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "LD_LIBRARY_PATH": str(self._library),
            "PYTHONPATH": str(self.folder / "tests"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "ALINK_PYRUNNER": str(self.pyrunner),
            "ALINK_CACHE_DIR": str(self.folder / "cache"),
            "ALINK_PROGRESS": "off",
        }


def _link(source: os.PathLike[str] | str, target: os.PathLike[str] | str) -> None:
    """Make a hard link, or a copy where that is not possible or the file is not for all."""
    real = os.path.realpath(source)
    try:
        if os.stat(real).st_mode & 0o044 != 0o044:
            raise PermissionError
        os.link(real, target)
    except OSError:
        shutil.copyfile(real, target)
        os.chmod(target, os.stat(real).st_mode & 0o777 | 0o444)


def _copy_tree(source: Path, target: Path) -> None:
    shutil.copytree(source, target, copy_function=_link, ignore=_LEFT_OUT)
