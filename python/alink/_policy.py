"""What happens when a function fails on a row, and how much it may give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from alink._confinement import Confined
from alink._diag import did_you_mean
from alink._options import bad_option, byte_size, one_of, whole_number

_ON_ERROR = ("fail", "null", "dead_letter")
_OUTPUT_BYTES_MAX = 2 << 30
_RETRIED = ("death", "exception")
_EXCEPTION_RETRIES_MAX = 100

# Why a kind of function cannot have a value of on_error, and what to do instead.
_REFUSED = {
    "udaf": (
        ("null", "dead_letter"),
        "what it gives for a group depends on all rows of the group",
        "leave such rows out in its method add, or filter them before",
    ),
    "map_groups": (
        ("null", "dead_letter"),
        "what it gives for a group depends on all rows of the group",
        "catch the exception in the function, and return None or a row that tells of it",
    ),
    "map_table": (
        ("null", "dead_letter"),
        "what it gives depends on all rows of the table",
        "catch the exception in the function",
    ),
    "map_batches": (
        ("null",),
        "its rows do not belong to rows of the input",
        'on_error="dead_letter" leaves out the rows that it fails on',
    ),
}


class Options(Confined, total=False):
    """Options of functions of every kind.

    ``on_error`` says what becomes of a row on which the function fails, ``errors_max`` on how
    many rows it may. With ``deterministic=False`` it is never run twice for a row.
    ``output_max`` bounds what it gives for a row or a call. The others are those of `Confined`.
    """

    on_error: Literal["fail", "null", "dead_letter"]
    errors_max: int
    deterministic: bool
    output_max: int | str | None


@dataclass(frozen=True)
class Policy:
    """The checked form of `Options`, those of `Confined` apart."""

    on_error: str = "fail"
    errors_max: int | None = None
    deterministic: bool = True
    output_bytes: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Give the plan's form, without what is left to the engine."""
        data: dict[str, Any] = {}
        if self.on_error != "fail":
            data["on_error"] = self.on_error
        if self.errors_max is not None:
            data["errors_max"] = self.errors_max
        if not self.deterministic:
            data["nondeterministic"] = True
        if self.output_bytes is not None:
            data["output_bytes"] = self.output_bytes
        return data


NAMES = ("on_error", "errors_max", "deterministic", "output_max")


def policy(
    what: str, options: Mapping[str, Any], by_row: bool = True
) -> tuple[Policy, dict[str, Any]]:
    """Check the options of a failure, and give them with the options that are left.

    Parameters
    ----------
    by_row
        The function is called for one row at a time.
    """
    rest = {name: value for name, value in options.items() if name not in NAMES}
    on_error = one_of(what, "on_error", options.get("on_error", "fail"), _ON_ERROR)
    refused, why, hint = _REFUSED.get(what, ((), "", ""))
    if on_error in refused:
        raise bad_option(what, f"{what}: on_error cannot be {on_error!r}: {why}", hint)
    deterministic = options.get("deterministic", True)
    if not isinstance(deterministic, bool):
        raise bad_option(
            what, f"{what}: deterministic must be True or False, not {deterministic!r:.80}"
        )
    if on_error != "fail" and not deterministic and not by_row:
        raise bad_option(
            what,
            f"{what}: on_error={on_error!r} does not go with deterministic=False: the row that a "
            "function of whole batches fails on is found by running it again",
            "use a function of rows, or catch the exception in the function",
        )
    errors_max = options.get("errors_max")
    if errors_max is not None:
        whole_number(what, "errors_max", errors_max, 1)
        if on_error == "fail":
            raise bad_option(
                what,
                f'{what}: errors_max does nothing with on_error="fail"',
                'the job goes on with on_error="null" or "dead_letter"',
            )
    output = options.get("output_max")
    size = None if output is None else byte_size(what, "output_max", output)
    if size is not None and size > _OUTPUT_BYTES_MAX:
        raise bad_option(what, f'{what}: output_max must be at most "2GiB", not {output!r}')
    return Policy(on_error, errors_max, deterministic, size), rest


def retries_json(what: str, retries: Any, deterministic: bool = True) -> dict[str, int]:
    """Give the plan's form of ``retries``: a number of deaths, or a dict of both kinds.

    Raises
    ------
    PlanError
        If it is neither.
    """
    if retries is None:
        return {}
    if not isinstance(retries, Mapping):
        return {"retries": whole_number(what, "retries", retries, 0)}
    for kind, times in retries.items():
        if kind not in _RETRIED:
            raise bad_option(
                what,
                f'{what}: retries can be of "death" and "exception", not {kind!r:.40}',
                did_you_mean(str(kind), "kinds", _RETRIED) or 'write it as {"exception": 3}',
            )
        most = _EXCEPTION_RETRIES_MAX if kind == "exception" else None
        whole_number(what, f'retries["{kind}"]', times, 0, most)
    if retries.get("exception") and not deterministic:
        raise bad_option(
            what,
            f'{what}: retries={{"exception": …}} does not go with deterministic=False, which '
            "forbids to run it twice",
        )
    names = {"death": "retries", "exception": "exception_retries"}
    return {names[kind]: times for kind, times in retries.items()}
