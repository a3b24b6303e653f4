"""Models: what a fit function returned, as opaque bytes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NoReturn

from alink import _codes as codes
from alink._errors import failure
from alink._origin import user_origin


class Model:
    """A trained model, as `Table.fit` returns it.

    It is a pickle made by a worker, which is only read in workers: the client never
    unpickles it. Hand it to a function with ``@al.udf(models={"m": model})``; the
    function then gets the object itself as the keyword argument ``m``. It belongs to the
    environment that it was trained in: use it in the same one.
    """

    __slots__ = ("_data", "_name")

    def __init__(self, data: bytes, name: str = "model") -> None:
        self._data = data
        self._name = name

    @property
    def data(self) -> bytes:
        """The pickled model. Reading it is for workers only."""
        return self._data

    @property
    def nbytes(self) -> int:
        """Size of the pickled model in bytes."""
        return len(self._data)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a file, whole or not at all."""
        target = Path(path)
        beside = target.with_name(target.name + ".tmp")
        try:
            beside.write_bytes(self._data)
            beside.replace(target)
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise failure(
                codes.OUTPUT_UNWRITABLE,
                f"the model cannot be written to {target}",
                cause=str(error),
            ) from None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Model:
        """Read a model that `save` wrote. Its bytes are not looked into."""
        source = Path(path)
        try:
            return cls(source.read_bytes(), source.stem)
        except FileNotFoundError:
            raise failure(
                codes.FILE_MISSING, f"the file {source} does not exist", source=user_origin()
            ) from None
        except OSError as error:
            raise failure(
                codes.FILE_UNREADABLE, f"the file {source} cannot be read", cause=str(error)
            ) from None

    def __repr__(self) -> str:
        return f"<alink.Model {self._name} of {self.nbytes:,} bytes>"

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a model is handed to a function with models={…}, not through a variable")
