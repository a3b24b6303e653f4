"""LightGBM through its C interface, in one worker or in several [include/LightGBM/c_api.h, 4.5].

The shared library is loaded without the Python package around it, which would import scipy: that
takes longer than many a training. Workers that train together meet in the library's own
collectives, whose bytes the engine carries: there are no sockets, and ranks are those of the group.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import json
import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ._group import Group
from ._strings import Unreadable
from ._tree_features import Array

_FLOAT32, _FLOAT64 = 0, 1  # C_API_DTYPE_*
_BATCH_ROWS = 8_192

# Of include/LightGBM/meta.h: ReduceFunction, ReduceScatterFunction, AllgatherFunction. A reference
# is a pointer.
_Sizes = ctypes.POINTER(ctypes.c_int32)
_Reduce = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int32)
_ReduceScatter = ctypes.CFUNCTYPE(
    None,
    *(ctypes.c_void_p, ctypes.c_int32, ctypes.c_int),
    *(_Sizes, _Sizes, ctypes.c_int),
    *(ctypes.c_void_p, ctypes.c_int32, ctypes.POINTER(ctypes.c_void_p)),
)
_Allgather = ctypes.CFUNCTYPE(
    None,
    *(ctypes.c_void_p, ctypes.c_int32),
    *(_Sizes, _Sizes, ctypes.c_int),
    *(ctypes.c_void_p, ctypes.c_int32),
)


def shared_library(package: str, name: str) -> Any:
    """Load the shared library of a package without the package itself.

    Parameters
    ----------
    package : str
    name : str
        For messages.

    Raises
    ------
    Unreadable
        If it cannot be loaded; mostly the runtime of threads that compilers bring is missing.
    """
    # Its threads meet thousands of times, and spin while they wait: where other processes want
    # the cores too, each meeting would take a turn of theirs. A turn of a microsecond costs
    # others nothing, and spares most meetings a sleep: a fifth of the time on idle cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "300")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    found = sorted((Path(spec.origin).parent / "lib").glob(f"lib*{package}.*"))
    if not found:
        raise ImportError(f"{package} has no shared library beside {spec.origin}", name=package)
    try:
        return ctypes.CDLL(str(found[0]))
    except OSError as error:
        if "libgomp" in str(error):
            raise Unreadable(
                f"{name} needs libgomp, which the engine's machine has not: "
                "apt install libgomp1, or dnf install libgomp"
            ) from None
        raise Unreadable(f"{name} cannot be loaded: {error}") from None


class _Collectives:
    """The library's collectives over a group.

    A callback cannot raise through the library. Where the group ends in one, the library gets its
    own data in place of the others', so that what it does stays sound until it returns.

    Attributes
    ----------
    failed : exception or None
        What ended the group.
    """

    def __init__(self, group: Group) -> None:
        self.failed: BaseException | None = None
        self._group = group
        self.reduce_scatter = _ReduceScatter(self._reduce_scatter)
        self.allgather = _Allgather(self._allgather)

    def _gathered(self, start: int, size: int) -> list[bytes]:
        mine = ctypes.string_at(start, size)
        if self.failed is None:
            try:
                return self._group.gather(mine)
            except BaseException as error:  # noqa: BLE001 it is raised when the library returns
                self.failed = error
        return [mine] * self._group.size

    def _reduce_scatter(
        self,
        given: int,
        size: int,
        width: int,
        starts: Any,
        lengths: Any,
        _count: int,
        output: int,
        _room: int,
        reducer: Any,
    ) -> None:
        rank = self._group.rank
        begin, length = starts[rank], lengths[rank]
        # The reducer adds to its second argument; in the order of the ranks, so that sums of
        # floating point are the same in each run.
        first, *others = (part[begin : begin + length] for part in self._gathered(given, size))
        ctypes.memmove(output, first, length)
        reduce = _Reduce(reducer.contents.value)
        for part in others:
            reduce(part, output, width, length)

    def _allgather(
        self,
        given: int,
        size: int,
        starts: Any,
        lengths: Any,
        _count: int,
        output: int,
        _room: int,
    ) -> None:
        for rank, part in enumerate(self._gathered(given, size)):
            ctypes.memmove(output + starts[rank], part, lengths[rank])


class Booster:
    """Trees that are grown round by round, of rows that were pushed.

    Parameters
    ----------
    settings : mapping
        The library's parameters.
    sample : array, shape (features, n)
        Values that bins follow from, the same in each worker; each value of a row is among them,
        NaN is one that is missing.
    rows : int
        How many rows this worker has.
    """

    def __init__(self, settings: Mapping[str, Any], sample: Array, rows: int) -> None:
        self._library = shared_library("lightgbm", "LightGBM")
        self._library.LGBM_GetLastError.restype = ctypes.c_char_p
        self._rows = rows
        self._features = len(sample)
        self._settings = dict(settings)
        self._drawn = settings["bagging_fraction"] < 1 or settings["feature_fraction"] < 1
        self._collectives: _Collectives | None = None
        self._dataset = ctypes.c_void_p()
        self._booster = ctypes.c_void_p()
        # The library writes to the columns.
        columns = [np.array(column, np.float64) for column in sample]
        indices = np.arange(sample.shape[1], dtype=np.int32)
        counts = np.full(self._features, sample.shape[1], np.int32)
        self._call(
            "DatasetCreateFromSampledColumn",
            (ctypes.c_void_p * self._features)(*(column.ctypes.data for column in columns)),
            (ctypes.c_void_p * self._features)(*[indices.ctypes.data] * self._features),
            ctypes.c_int32(self._features),
            ctypes.c_void_p(counts.ctypes.data),
            ctypes.c_int32(sample.shape[1]),
            ctypes.c_int32(rows),
            ctypes.c_int64(rows),
            self._parameters(),
            ctypes.byref(self._dataset),
        )

    def _parameters(self) -> bytes:
        told = {
            name: ",".join(map(str, value)) if isinstance(value, list) else value
            for name, value in self._settings.items()
        }
        return " ".join(f"{name}={value}" for name, value in told.items()).encode()

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, f"LGBM_{name}")(*arguments)
        if self._collectives is not None and self._collectives.failed is not None:
            raise self._collectives.failed
        if status:
            said = self._library.LGBM_GetLastError().decode(errors="replace")
            raise RuntimeError(f"LightGBM: {said}")

    def push(self, codes: npt.NDArray[Any]) -> None:
        """Give the library the rows, codes of shape (features, rows); 0 is missing."""
        for begin in range(0, self._rows, _BATCH_ROWS):
            part = np.ascontiguousarray(codes[:, begin : begin + _BATCH_ROWS].T, np.float32)
            part[part == 0] = np.nan
            self._call(
                "DatasetPushRows",
                self._dataset,
                ctypes.c_void_p(part.ctypes.data),
                ctypes.c_int(_FLOAT32),
                ctypes.c_int32(len(part)),
                ctypes.c_int32(self._features),
                ctypes.c_int32(begin),
            )

    def set(self, field: str, values: Array) -> None:
        """Set the ``label``, ``weight`` or ``init_score`` of the rows."""
        double = field == "init_score"
        kept = np.ascontiguousarray(values, np.float64 if double else np.float32)
        self._call(
            "DatasetSetField",
            self._dataset,
            field.encode(),
            ctypes.c_void_p(kept.ctypes.data),
            ctypes.c_int(kept.size),
            ctypes.c_int(_FLOAT64 if double else _FLOAT32),
        )

    @contextmanager
    def together(self, group: Group) -> Generator[None, None, None]:
        """Grow trees of the rows of all workers of a group; bins have been made by then."""
        if group.size == 1:
            yield
            return
        self._settings |= {"tree_learner": "data", "num_machines": group.size}
        self._collectives = collectives = _Collectives(group)
        try:
            self._call(
                "NetworkInitWithFunctions",
                ctypes.c_int(group.size),
                ctypes.c_int(group.rank),
                collectives.reduce_scatter,
                collectives.allgather,
            )
            yield
        finally:
            # It is the thread's: nothing of this training may be left to the next one.
            self._library.LGBM_NetworkFree()

    def grow(
        self,
        rounds: int,
        groups: int,
        descend: Callable[[Array, slice], tuple[Array, Array]] | None,
    ) -> list[Mapping[str, Any]]:
        """Grow the trees of so many rounds; give the roots of those that have splits, and others.

        Parameters
        ----------
        rounds : int
        groups : int
            How many trees a round has.
        descend : callable, optional
            Gives gradients and second derivatives at the margins of some rows, shape (groups,
            rows) each, where the library has no objective.
        """
        self._call("BoosterCreate", self._dataset, self._parameters(), ctypes.byref(self._booster))
        step = functools.partial(self._call, "BoosterUpdateOneIter", self._booster)
        if descend is not None:
            step = self._own(groups, descend)
        finished = ctypes.c_int()
        for _ in range(rounds):
            step(ctypes.byref(finished))
            if finished.value and not self._drawn:
                break  # the next ones would come to nothing too
        return json.loads(self._dumped())["tree_info"]

    def _own(
        self, groups: int, descend: Callable[[Array, slice], tuple[Array, Array]]
    ) -> Callable[[Any], None]:
        """Make a round of an objective that is not the library's."""
        margins = np.empty((groups, self._rows))
        slopes, curves = (np.empty(margins.shape, np.float32) for _ in range(2))
        length = ctypes.c_int64()

        def step(finished: Any) -> None:
            self._call(
                "BoosterGetPredict",
                self._booster,
                ctypes.c_int(0),
                ctypes.byref(length),
                ctypes.c_void_p(margins.ctypes.data),
            )
            for begin in range(0, self._rows, _BATCH_ROWS):
                part = slice(begin, begin + _BATCH_ROWS)
                slopes[:, part], curves[:, part] = descend(margins[:, part], part)
            self._call(
                "BoosterUpdateOneIterCustom",
                self._booster,
                ctypes.c_void_p(slopes.ctypes.data),
                ctypes.c_void_p(curves.ctypes.data),
                finished,
            )

        return step

    def _dumped(self) -> bytes:
        # What is not written to takes no memory, and a second call would write all again.
        size = ctypes.c_int64(1 << 26)
        while True:
            room = np.empty(size.value, np.uint8)
            self._call(
                "BoosterDumpModel",
                self._booster,
                ctypes.c_int(0),
                ctypes.c_int(-1),
                ctypes.c_int(0),
                ctypes.c_int64(len(room)),
                ctypes.byref(size),
                ctypes.c_void_p(room.ctypes.data),
            )
            if size.value <= len(room):
                return room[: size.value - 1].tobytes()  # without the zero at its end

    def close(self) -> None:
        """Free what the library holds."""
        self._library.LGBM_BoosterFree(self._booster)
        self._library.LGBM_DatasetFree(self._dataset)
