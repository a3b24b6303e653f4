"""Puts the engine's binary into the wheel: what hatchling calls when it builds one."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NOTICES = "THIRD_PARTY_NOTICES.txt"


class EngineHook(BuildHookInterface):
    """Builds the engine with Go.

    A wheel gets it as a script, so that it starts without Python before it; its platform tag
    says which glibc the binary really needs. An editable install gets scripts that start
    ``bin/pyrunner`` of the checkout, which is built unless ``ALINK_PYRUNNER`` says that
    someone else does that.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build what the wheel needs and say where it goes."""
        if version == "editable":
            if not os.environ.get("ALINK_PYRUNNER"):
                self._build("-o", "bin/pyrunner")
            for name in ("pyrunner", "alink"):
                build_data["shared_scripts"][self._starter(name)] = name
            return
        binary, notices = "build/wheel/pyrunner", f"build/wheel/{NOTICES}"
        tag = self._build("-o", binary, "-ship", "-notices", notices)
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{tag}"
        build_data["shared_scripts"] |= {binary: "pyrunner", "tools/alink.sh": "alink"}
        name = self.metadata.core.name.replace("-", "_")
        licences = f"{name}-{self.metadata.version}.dist-info/licenses"
        build_data["force_include"][notices] = f"{licences}/{NOTICES}"

    def _build(self, *arguments: str) -> str:
        _refuse_musl()
        go = os.environ.get("GO") or "go"
        if shutil.which(go) is None:
            sys.exit(
                f"alink: building the engine takes Go; {go!r} was not found. Install Go and a C "
                "compiler, or install a wheel of alink, which has the engine inside"
            )
        command = [go, "run", "./tools/binary", "-go", go, *arguments]
        done = subprocess.run(
            command, check=False, cwd=self.root, stdout=subprocess.PIPE, text=True
        )
        if done.returncode != 0:
            sys.exit("alink: the engine could not be built; the reason stands above")
        return done.stdout.strip()

    def _starter(self, name: str) -> str:
        """Write a script that becomes the checkout's binary."""
        script = Path(self.root, "build", "editable", name)
        script.parent.mkdir(parents=True, exist_ok=True)
        binary = shlex.quote(str(Path(self.root, "bin", "pyrunner")))
        script.write_text(f'#!/bin/sh\nexec {binary} "$@"\n')
        script.chmod(0o755)
        return str(script)


def _refuse_musl() -> None:
    if "musl" in (sysconfig.get_config_var("HOST_GNU_TYPE") or ""):
        sys.exit(
            "alink: this Python runs on musl (Alpine, for example); the engine needs glibc 2.34 "
            "or later. Use a system with glibc, such as Debian 12, Ubuntu 22.04 or RHEL 9"
        )
