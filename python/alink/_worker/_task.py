"""What a stage of a bundle has to do, as its payload says it."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ._functions import Library


class Task:
    """The work of a stage.

    Parameters
    ----------
    spec
        The payload.
    input_, output
        The schemas.
    library
        Where code is loaded.
    enter
        Is told the name of each function that is about to be called.
    """

    def __init__(
        self,
        spec: Mapping[str, Any],
        input_: pa.Schema,
        output: pa.Schema,
        library: Library,
        enter: Callable[..., None],
    ) -> None:
        self.spec = spec
        self.input = input_
        self.output = output
        self.library = library
        self.enter = enter

    @property
    def calls(self) -> Sequence[Mapping[str, Any]]:
        """The calls, in the order of the payload."""
        return self.spec["calls"]

    @property
    def careful(self) -> bool:
        """Whether the page is to tell the exact row that runs."""
        return bool(self.spec.get("careful"))

    def only_call(self) -> Mapping[str, Any]:
        """Give the call of a stage that has one."""
        if len(self.calls) != 1:
            raise ValueError(f"{len(self.calls)} calls where one is expected")
        return self.calls[0]


def decode_schema(text: str) -> pa.Schema:
    """Read a schema that stands in a payload as base64 of an IPC message."""
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))
