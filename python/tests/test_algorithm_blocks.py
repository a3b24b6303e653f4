"""The rows of trainings as blocks of features."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from alink._algorithms import _blocks
from alink._algorithms._blocks import Blocks
from alink._algorithms._group import Group

ROWS = 40_000
NUMBERS = np.arange(ROWS, dtype=np.int64) % 97
PARAMS = {"featureCols": ["a", "b"], "labelCol": "y"}


def group(kind: pa.DataType) -> Group:
    columns = {"a": pa.array(NUMBERS).cast(kind), "b": pa.array(NUMBERS[::-1]).cast(kind)}
    return Group.of(pa.table({**columns, "y": NUMBERS % 2}))


def matrix(blocks: Blocks) -> Any:
    parts = []
    for block in blocks:
        assert (block.rows.start, block.rows.stop - block.rows.start) == (
            sum(len(part) for part in parts),
            len(block.weight),
        )
        features: Any = block.features
        parts.append(np.array([features.times(one) for one in np.eye(2)]).T)
    return np.concatenate(parts)


@pytest.mark.parametrize("kind", [pa.float64(), pa.int32(), pa.float32(), pa.string()])
@pytest.mark.parametrize("few", [0, 4 << 20])
def test_features_are_the_same_in_each_pass(
    kind: pa.DataType, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_blocks, "_FEW_BYTES", few)
    rows = group(kind)
    rows.cache_bytes = 16 * ROWS
    blocks = Blocks(rows, PARAMS)
    wanted = np.stack([NUMBERS, NUMBERS[::-1]], 1)
    for _ in range(3):
        np.testing.assert_array_equal(matrix(blocks), wanted)
    kept = sum(part.nbytes for part in blocks._matrices.values())
    # Numbers that lie as they are used are kept where they are few; others are converted once.
    assert kept == (0 if few == 0 and kind == pa.float64() else 16 * ROWS)


def test_no_more_is_kept_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_blocks, "_FEW_BYTES", 1000)
    rows = group(pa.int32())
    rows.cache_bytes = 16 * ROWS - 1
    blocks = Blocks(rows, PARAMS)
    np.testing.assert_array_equal(matrix(blocks)[:, 0], NUMBERS)
    assert sum(part.nbytes for part in blocks._matrices.values()) <= rows.cache_bytes
    few = Blocks(Group.of(pa.table({"a": [1, 2], "b": [3, 4], "y": [0, 1]})), PARAMS)
    few.group.cache_bytes = 0
    assert matrix(few).tolist() == [[1, 3], [2, 4]]
    [kept] = few._matrices.values()
    assert not kept.flags.writeable
