"""Order statistics of columns: the exact values at ranks, in bounded memory.

The rows are read a few times. Each reading counts the values by some of the leading bits of their
order, only among those that begin as a wanted value does; once few enough are left, these are
gathered and sorted. So nothing is estimated, and no reading holds more than a table of counts
[selection by radix: Knuth, The Art of Computer Programming 3, 5.2.5 and 5.3.3].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ._arrays import numpy_of
from ._group import Group

_Keys = npt.NDArray[np.uint64]
_Ranks = npt.NDArray[np.int64]

_GATHERED_MAX = 2**19  # values that are sorted in one place, 4 MiB
_COUNTS_MAX = 2**21  # cells of the table of counts, 16 MiB
_BITS_MAX = 16  # of a key that one reading looks at
_CHUNK = 2**18  # values that are counted together
_SIGN = np.uint64(1 << 63)


def rank_of(mode: str, count: int, parts: int) -> Callable[[int], int]:
    """Make the function that gives the rank of the k-th of the values that cut rows in parts.

    Parameters
    ----------
    mode : {"ROUND", "FLOOR", "CEIL"}
        How a rank between two rows becomes one of them.
    count : int
        How many values there are.
    parts : int
    """
    rounded = {"ROUND": lambda x: math.floor(x + 0.5), "FLOOR": math.floor, "CEIL": math.ceil}[mode]
    step = 1.0 / parts
    return lambda k: min(int(rounded(step * (count - 1.0) * k)), count - 1)


def cut_points(rows: Group, names: Sequence[str], parts: Sequence[int]) -> list[Any]:
    """Give, for each column, the distinct values that cut its values in so many parts.

    NULL and NaN are left out. The values of integers, dates and times are integers.
    """

    def ranks(column: int, count: int) -> list[int]:
        rank = rank_of("ROUND", count, parts[column])
        return [rank(k) for k in range(1, parts[column])]

    return [np.unique(found) for found in order_statistics(rows, names, ranks)]


def train(params: Mapping[str, Any]) -> Any:
    """Make the table of the values that cut a column in parts, with the least and the largest."""
    name, parts, mode = params["selectedCol"], params["quantileNum"], params["roundMode"]

    def run(rows: Group) -> pa.Table:
        def ranks(_column: int, count: int) -> list[int]:
            rank = rank_of(mode, count, parts)
            return [rank(k) for k in range(parts + 1)]

        (found,) = order_statistics(rows, [name], ranks)
        kind = rows.schema.field(name).type
        values = pa.array(found)
        if kind.bit_width == 32 and not _is_real(kind):
            values = values.cast(pa.int32())
        columns = [values.cast(kind), pa.array(range(len(found)), pa.int64())]
        return pa.table(columns, names=[name, "quantile"])

    return run


def order_statistics(
    rows: Group, names: Sequence[str], ranks: Callable[[int, int], Sequence[int]]
) -> list[npt.NDArray[Any]]:
    """Give the values of columns at ranks.

    Parameters
    ----------
    rows : Group
    names : sequence of str
        Columns of numbers, dates or times.
    ranks : callable
        Gives the ranks, from 0, of a column's number and the count of its values, which leaves
        out NULL and NaN. It is not called for a column without values.

    Returns
    -------
    list of arrays
        One for each column, as long as its ranks, of float64 or int64.
    """
    return [
        _restored(
            _Selection(rows, name, number, ranks).values(), _is_real(rows.schema.field(name).type)
        )
        for number, name in enumerate(names)
    ]


def _is_real(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _keys(column: pa.Array) -> _Keys:
    """Give numbers whose order is that of the values; NULL and NaN are left out."""
    if column.null_count:
        column = column.drop_null()
    if _is_real(column.type):
        values = numpy_of(pc.cast(column, pa.float64(), safe=False))
        values = values[~np.isnan(values)] + 0.0  # -0.0 becomes 0.0
        bits = values.view(np.uint64)
        return np.where(bits & _SIGN, ~bits, bits | _SIGN)
    if pa.types.is_date32(column.type) or pa.types.is_time32(column.type):
        column = column.view(pa.int32())
    elif not pa.types.is_integer(column.type) and not pa.types.is_boolean(column.type):
        column = column.view(pa.int64())
    integers = numpy_of(pc.cast(column, pa.int64()))
    return integers.view(np.uint64) ^ _SIGN


def _restored(keys: _Keys, real: bool) -> npt.NDArray[Any]:
    if not real:
        return (keys ^ _SIGN).view(np.int64)
    return np.where(keys & _SIGN, keys ^ _SIGN, ~keys).view(np.float64)


class _Selection:
    """The search for the values at ranks of one column.

    What is known of the wanted values are their leading bits, `prefixes`, and how many values
    are less than those that begin so.
    """

    def __init__(
        self, rows: Group, name: str, number: int, ranks: Callable[[int, int], Sequence[int]]
    ) -> None:
        self._rows = rows
        self._name = name
        self._number = number
        self._ranks = ranks
        self._known = 0  # bits
        self._prefixes: _Keys = np.zeros(1, np.uint64)
        self._below = np.zeros(1, np.int64)  # values before those of each prefix
        self._wanted: _Ranks = np.empty(0, np.int64)

    def values(self) -> _Keys:
        """Give the keys at the ranks."""
        count = int(self._rows.sum(len(self._rows))[0])
        if count > _GATHERED_MAX:
            count = self._look_closer()
        while count > _GATHERED_MAX and self._known < 64:
            count = self._look_closer()
        if self._known == 64:
            return self._prefixes[self._place(self._wanted)]
        return self._gathered()

    def _place(self, ranks: _Ranks) -> npt.NDArray[np.intp]:
        return np.searchsorted(self._below, ranks, "right") - 1

    def _look_closer(self) -> int:
        """Read further bits; give how many values begin as a wanted one does."""
        room = max(_COUNTS_MAX // len(self._prefixes), 16)
        bits = min(_BITS_MAX, int(math.log2(room)), 64 - self._known)
        cells = len(self._prefixes) << bits
        counts = np.zeros(cells, np.int64)
        shift, mask = np.uint64(64 - self._known - bits), np.uint64((1 << bits) - 1)
        for keys, place in self._candidates():
            index = (place << bits) + ((keys >> shift) & mask).astype(np.int64)
            counts += np.bincount(index, minlength=cells)
        counts = self._rows.sum(counts)[0].astype(np.int64)
        if self._known == 0:
            total = int(counts.sum())
            self._wanted = np.array(self._ranks(self._number, total) if total else [], np.int64)
        per = counts.reshape(len(self._prefixes), -1)
        below = (self._below[:, None] + np.cumsum(per, axis=1) - per).reshape(-1)
        filled = np.flatnonzero(counts)
        at = filled[np.searchsorted(below[filled], self._wanted, "right") - 1]
        kept = np.unique(at)
        high = self._prefixes[kept >> bits]
        self._prefixes = (high << np.uint64(bits)) | (kept & ((1 << bits) - 1)).astype(np.uint64)
        self._below = below[kept]
        self._known += bits
        return int(counts[kept].sum())

    def _candidates(self) -> Iterator[tuple[_Keys, npt.NDArray[np.int64]]]:
        """Give the worker's keys that begin as a wanted value does, and as which one."""
        waiting: list[_Keys] = []
        size = 0
        for batch in self._rows:
            keys = _keys(batch.column(self._name))
            waiting.append(keys)
            size += len(keys)
            if size >= _CHUNK:
                yield self._matched(np.concatenate(waiting))
                waiting, size = [], 0
        if waiting:
            yield self._matched(np.concatenate(waiting))

    def _matched(self, keys: _Keys) -> tuple[_Keys, npt.NDArray[np.int64]]:
        if self._known == 0:
            return keys, np.zeros(len(keys), np.int64)
        high = keys >> np.uint64(64 - self._known)
        place = np.minimum(np.searchsorted(self._prefixes, high), len(self._prefixes) - 1)
        matched = self._prefixes[place] == high
        return keys[matched], place[matched]

    def _gathered(self) -> _Keys:
        """Sort what is left, of all workers."""
        own = [keys for keys, _ in self._candidates()]
        parts = self._rows.gather(np.concatenate(own).tobytes() if own else b"")
        keys = np.sort(np.concatenate([np.frombuffer(part, np.uint64) for part in parts]))
        if self._known == 0:
            self._wanted = np.array(
                self._ranks(self._number, len(keys)) if len(keys) else [], np.int64
            )
            return keys[self._wanted]
        begins = np.searchsorted(keys >> np.uint64(64 - self._known), self._prefixes)
        place = self._place(self._wanted)
        return keys[begins[place] + self._wanted - self._below[place]]
