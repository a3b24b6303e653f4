"""What programs of PyAlink set up besides operators: environments, options, paths."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, NoReturn

from alink._diag import no_attribute
from alink._options import bad_option
from alink.operators import _frame
from alink.operators._base import BatchOperator, StreamOperator
from alink.operators._operator import AlgoOperator, collect
from alink.operators._session import Session, begin, session

if TYPE_CHECKING:
    import pandas as pd


class FlinkEnvironment:
    """Stands for an environment of Flink, which programs name and seldom use.

    Parameters
    ----------
    name : str
        ``benv``, ``btenv``, ``senv`` or ``stenv``.
    of : Session
    """

    def __init__(self, name: str, of: Session) -> None:
        self._name = name
        self._session = of

    @property
    def parallelism(self) -> int | None:
        """How many processor cores are used at most; None leaves it to the engine."""
        return self._session.parallelism

    def __getattr__(self, name: str) -> NoReturn:
        raise no_attribute(
            name,
            f"{self._name} has no {name}: there is no Flink here; tables are made with "
            "BatchOperator.fromDataframe(df, schemaStr) or BatchOperator.fromTable(t)",
        )

    def __repr__(self) -> str:
        return f"<{self._name} of an engine of alink>"


class MLEnv(NamedTuple):
    """The environments of a session, as PyAlink's `useLocalEnv` gives them."""

    benv: FlinkEnvironment
    btenv: FlinkEnvironment
    senv: FlinkEnvironment
    stenv: FlinkEnvironment


def _environments(of: Session) -> MLEnv:
    return MLEnv(*(FlinkEnvironment(name, of) for name in MLEnv._fields))


def useLocalEnv(
    parallelism: int | None = None, flinkHome: Any = None, config: Any = None, **_: Any
) -> MLEnv:
    """Run operators on an engine of this process.

    Parameters
    ----------
    parallelism : int, optional
        How many processor cores it uses at most; by default all.
    flinkHome, config : optional
        Of Flink; not used.
    """
    del flinkHome, config
    if parallelism is not None and (not isinstance(parallelism, int) or parallelism < 1):
        raise bad_option(
            "useLocalEnv",
            f"useLocalEnv: parallelism cannot be {parallelism!r:.60}",
            "it is a whole number of processor cores, 1 or more",
        )
    return _environments(begin(parallelism))


def getMLEnv() -> MLEnv:
    """Give the environments of the session, which begins with its first use."""
    return _environments(session())


def useRemoteEnv(host: str = "", port: Any = None, *_more: Any, **_: Any) -> NoReturn:
    """Refuse: there is no cluster of Flink to run on."""
    where = f"{host}:{port}" if port is not None else host
    raise bad_option(
        "useRemoteEnv",
        f"useRemoteEnv: operators do not run on a cluster of Flink ({where or 'none given'})",
        "useLocalEnv(parallelism) runs them on this machine, with all of its cores",
    )


def useCustomEnv(*_given: Any, **_: Any) -> NoReturn:
    """Refuse: there are no environments of Flink to run in."""
    raise bad_option(
        "useCustomEnv",
        "useCustomEnv: operators do not run in environments of Flink",
        "useLocalEnv(parallelism) runs them on this machine",
    )


class AlinkGlobalConfiguration:
    """PyAlink's options of the process; on `setPluginDir` alone something hangs here."""

    _values: dict[str, Any] = {  # noqa: RUF012 one for the process
        "PrintProcessInfo": False,
        "PluginDir": "plugins",
        "AutoPluginDownload": False,
        "PluginUrl": "",
    }

    @classmethod
    def isPrintProcessInfo(cls) -> bool:
        """Tell what `setPrintProcessInfo` has set."""
        return cls._values["PrintProcessInfo"]

    @classmethod
    def setPrintProcessInfo(cls, printProcessInfo: bool) -> None:
        """Keep the option."""
        cls._values["PrintProcessInfo"] = bool(printProcessInfo)

    @classmethod
    def getPluginDir(cls) -> str:
        """Tell what `setPluginDir` has set."""
        return cls._values["PluginDir"]

    @classmethod
    def setPluginDir(cls, pluginDir: str) -> None:
        """Set the folder below which pretrained BERTs are looked for; there are no plugins."""
        cls._values["PluginDir"] = pluginDir

    @classmethod
    def getAutoPluginDownload(cls) -> bool:
        """Tell what `setAutoPluginDownload` has set."""
        return cls._values["AutoPluginDownload"]

    @classmethod
    def setAutoPluginDownload(cls, autoPluginDownload: bool) -> None:
        """Keep the option: there are no plugins to load."""
        cls._values["AutoPluginDownload"] = bool(autoPluginDownload)

    @classmethod
    def getPluginUrl(cls) -> str:
        """Tell what `setPluginUrl` has set."""
        return cls._values["PluginUrl"]

    @classmethod
    def setPluginUrl(cls, url: str) -> None:
        """Keep the option: there are no plugins to load."""
        cls._values["PluginUrl"] = url

    @classmethod
    def getPluginDownloader(cls) -> PluginDownloader:
        """Give what finds no plugins."""
        return PluginDownloader()

    @classmethod
    def getFlinkVersion(cls) -> str:
        """Give the version of Flink that PyAlink 1.6.2 runs on."""
        return "flink-1.13"


class PluginDownloader:
    """PyAlink's plugins: there are none here, and nothing is downloaded."""

    def loadConfig(self, configFileName: str | None = None) -> PluginDownloader:
        """Do nothing; returns the downloader."""
        del configFileName
        return self

    def listAvailablePlugins(self) -> list[str]:
        """Give no names."""
        return []

    def listAvailablePluginVersions(self, pluginName: str) -> list[str]:
        """Give no versions."""
        del pluginName
        return []

    def downloadPlugin(self, pluginName: str, pluginVersion: str | None = None) -> None:
        """Do nothing: sources, sinks and libraries need no plugin."""

    def downloadAll(self) -> None:
        """Do nothing."""

    def upgrade(self) -> None:
        """Do nothing."""


class Params(dict[str, Any]):
    """Parameters, which operators and stages take as they take any dict."""

    def set(self, key: str, value: Any) -> Params:
        """Set a parameter; returns the parameters."""
        self[key] = value
        return self

    def contains(self, *names: str) -> bool:
        """Tell whether all of these parameters are set."""
        return all(name in self for name in names)

    def remove(self, key: str) -> Params:
        """Take a parameter away; returns the others."""
        del self[key]
        return self

    def merge(self, other: Mapping[str, Any] | None) -> Params:
        """Take the parameters of others too; returns the parameters."""
        self.update(other or {})
        return self

    def toJson(self) -> str:
        """Write the parameters as Alink does: an object of texts of JSON."""
        return json.dumps({name: json.dumps(value) for name, value in self.items()})

    @staticmethod
    def fromJson(data: str) -> Params:
        """Read what `toJson` writes."""
        found = json.loads(data)
        return Params({k: json.loads(v) if isinstance(v, str) else v for k, v in found.items()})

    @staticmethod
    def from_args(*args: Mapping[str, Any], **params: Any) -> Params:
        """Put parameters of dicts and keywords together."""
        made = Params()
        for given in (*args, params):
            made.update(given)
        return made


class LocalFileSystem:
    """The files of this machine."""

    def exists(self, f: str | os.PathLike[str]) -> bool:
        """Tell whether there is a file or folder."""
        return Path(f).exists()

    def mkdirs(self, f: str | os.PathLike[str]) -> bool:
        """Make a folder, with those above it; tell whether it is there."""
        Path(f).mkdir(parents=True, exist_ok=True)
        return Path(f).is_dir()

    def delete(self, f: str | os.PathLike[str], recursive: bool) -> bool:
        """Delete a file, or a folder with what is in it if asked for; tell whether it was there."""
        path = Path(f)
        if path.is_dir() and not path.is_symlink():
            if any(path.iterdir()) and not recursive:
                raise bad_option(
                    "LocalFileSystem",
                    f"LocalFileSystem.delete: {os.fspath(f)} is a folder that is not empty",
                    "delete(path, True) deletes what is in it too",
                )
            shutil.rmtree(path)
            return True
        there = path.exists()
        path.unlink(missing_ok=True)
        return there

    def rename(self, src: str | os.PathLike[str], dst: str | os.PathLike[str]) -> bool:
        """Give a file or folder another name; tell whether it was there."""
        there = Path(src).exists()
        if there:
            Path(src).rename(dst)
        return there

    def listFiles(self, f: str | os.PathLike[str]) -> list[str]:
        """Give the names of the files in a folder."""
        return sorted(path.name for path in Path(f).iterdir() if path.is_file())

    def listDirectories(self, f: str | os.PathLike[str]) -> list[str]:
        """Give the names of the folders in a folder."""
        return sorted(path.name for path in Path(f).iterdir() if path.is_dir())

    def listStatus(self, f: str | os.PathLike[str]) -> list[str]:
        """Give the paths of what is in a folder."""
        return sorted(os.fspath(path) for path in Path(f).iterdir())

    def open(self, f: str | os.PathLike[str], bufferSize: int | None = None) -> BinaryIO:
        """Open a file to read bytes of it."""
        return Path(f).open("rb", bufferSize or -1)

    def create(self, f: str | os.PathLike[str], overwriteMode: bool) -> BinaryIO:
        """Open a new file to write bytes to it."""
        return Path(f).open("wb" if overwriteMode else "xb")

    def getWorkingDirectory(self) -> str:
        """Give the folder that relative paths are in."""
        return os.fspath(Path.cwd())

    def getHomeDirectory(self) -> str:
        """Give the user's own folder."""
        return os.fspath(Path.home())

    def isDistributedFS(self) -> bool:
        """Tell that the files are those of one machine."""
        return False

    def getSchema(self) -> str:
        """Give what stands before paths of these files in URLs."""
        return "file"


class _Elsewhere:
    """Refuses to be made: files are on the engine's machine."""

    def __init__(self, *_given: Any) -> None:
        name = type(self).__name__
        raise bad_option(
            name,
            f"{name}: files are read and written on this machine",
            "mount or copy them, and give their path",
        )


class HadoopFileSystem(_Elsewhere):
    """Files of HDFS, which are not read."""


class OssFileSystem(_Elsewhere):
    """Files of OSS, which are not read."""


class S3HadoopFileSystem(_Elsewhere):
    """Files of S3, which are not read."""


class S3PrestoFileSystem(_Elsewhere):
    """Files of S3, which are not read."""


class FlinkFileSystem(_Elsewhere):
    """Files that Flink reads, which are not read."""


class FilePath:
    """A path, as programs of PyAlink pass one.

    Parameters
    ----------
    path : str
    fileSystem : LocalFileSystem, optional
        Others are refused.
    """

    def __init__(self, path: Any, fileSystem: Any = None) -> None:
        if fileSystem is not None and not isinstance(fileSystem, LocalFileSystem):
            raise bad_option(
                "FilePath",
                f"FilePath: files are on this machine, not in {type(fileSystem).__name__}",
                "FilePath(path), or LocalFileSystem()",
            )
        self._path = os.fspath(path)

    def getPath(self) -> str:
        """Give the path."""
        return self._path

    def getFileSystem(self) -> LocalFileSystem:
        """Give the files of this machine."""
        return LocalFileSystem()

    def serialize(self) -> str:
        """Write the path as a text, for `deserialize`."""
        return self._path

    @staticmethod
    def deserialize(s: str) -> FilePath:
        """Read what `serialize` writes."""
        return FilePath(s)

    def getPathStr(self) -> str:
        """Give the path."""
        return self._path

    def __fspath__(self) -> str:
        return self._path

    def __repr__(self) -> str:
        return f"FilePath({self._path!r})"


def collectToDataframes(*operators: Any) -> list[pd.DataFrame]:
    """Give the rows of several operators as DataFrames, of one job."""
    given: list[AlgoOperator] = []
    for item in operators:
        given += item if isinstance(item, (list, tuple)) else [item]
    for item in given:
        if not isinstance(item, AlgoOperator):
            raise bad_option(
                "collectToDataframes", f"collectToDataframes takes operators, not {item!r:.60}"
            )
    return [_frame.to_pandas(rows) for rows in collect(given)]


def dataframeToOperator(
    df: pd.DataFrame,
    schemaStr: str,
    op_type: str | None = None,
    opType: str | None = None,
) -> AlgoOperator:
    """Make an operator of a DataFrame, ``"batch"`` or ``"stream"``."""
    kind = op_type or opType or "batch"
    if kind not in ("batch", "stream"):
        raise bad_option(
            "dataframeToOperator",
            f"dataframeToOperator: op_type cannot be {kind!r:.40}",
            '"batch" or "stream"',
        )
    base = BatchOperator if kind == "batch" else StreamOperator
    return base.fromDataframe(df, schemaStr)
