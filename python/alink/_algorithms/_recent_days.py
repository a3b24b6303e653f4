"""Looks up the features of the groups that rows belong to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from ._formats import parser
from ._models import BadModel

_EVERYTHING = "__alink_group_col"


class RecentDays:
    """Gives what a model of GenerateFeatureOfLatestNDays has for the groups of rows.

    NULL is a value of a group's column as others are.
    """

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        del params
        self._types = types
        #: Of each choice of columns: the columns, features by their values, how many features.
        self._groups: list[tuple[list[str], dict[tuple[Any, ...], list[Any]], int]] = []

    def load(self, table: pa.Table) -> None:
        """Take the model."""
        wrong = BadModel("the model is not one of GenerateFeatureOfLatestNDays")
        if table.column_names != ["group_id", "group_value", "stat_value"]:
            raise wrong
        ids, groups, values = (table.column(i).to_pylist() for i in range(3))
        try:
            meta = json.loads(groups[ids.index(0)])
            columns, widths = json.loads(meta["groupColsArray"]), json.loads(meta["valueLens"])
            self._groups = [(of, {}, width) for of, width in zip(columns, widths, strict=True)]
            for number, group, value in zip(ids, groups, values, strict=True):
                if number > 0:
                    self._groups[number - 1][1][tuple(json.loads(group))] = json.loads(value)
        except (ValueError, KeyError, IndexError, TypeError):
            raise wrong from None
        if sum(widths) != len(self._types):
            raise BadModel(
                f"featureSchemaStr names {len(self._types)} features, the model has {sum(widths)}: "
                f"{meta['featureSchemaStr']:.400}"
            )

    def __call__(self, batch: pa.RecordBatch) -> list[pa.Array]:
        """Give the features."""
        named = {name.lower(): name for name in batch.schema.names}
        result: list[pa.Array] = []
        for columns, known, width in self._groups:
            keys: list[list[Any]] = []
            for column in columns:
                if column.lower() in named:
                    keys.append(batch.column(named[column.lower()]).to_pylist())
                elif column == _EVERYTHING:
                    keys.append([1] * batch.num_rows)
                else:
                    raise BadModel(f"the rows have no column {column}, which the model groups by")
            missing = [None] * width
            rows = [known.get(key, missing) for key in zip(*keys, strict=True)]
            for place in range(width):
                kind = self._types[len(result)]
                result.append(_column([row[place] for row in rows], kind))
        return result


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Make a column of what JSON has: numbers, truths and texts."""
    read = parser(kind)
    plain: tuple[type, ...] = (bool,)
    if pa.types.is_string(kind):
        plain = (str,)
    elif pa.types.is_integer(kind):
        plain = (int,)
    elif pa.types.is_floating(kind):
        plain = (int, float)
    try:
        cells = [v if v is None or isinstance(v, plain) else read(str(v)) for v in values]
        return pa.array(cells, kind)
    except (ValueError, pa.ArrowException) as error:
        raise BadModel(f"a feature of the model is no {kind}: {error}") from None
