"""Operators that Alink has and that are not built yet."""

from __future__ import annotations

from typing import Any, NoReturn

from alink import _codes as codes
from alink._errors import failure
from alink._origin import user_origin


class Unbuilt:
    """Refuses to be made."""

    def __init__(self, *_args: Any, **_params: Any) -> None:
        self.refuse(type(self).__name__)

    @staticmethod
    def refuse(name: str) -> NoReturn:
        """Raise the error that says that an operator is not built."""
        raise failure(
            codes.INVALID_PLAN,
            f"{name} is not built yet",
            operator=name,
            source=user_origin(),
            hint="docs/operators.md lists the operators that are",
        )


def unbuilt(name: str) -> type[Unbuilt]:
    """Make the class that stands for an operator which is not built."""
    return type(name, (Unbuilt,), {"__module__": "alink.operators", "__doc__": "Not built yet."})
