"""Models as tables: Alink's rows of ``model_id``, ``model_info`` and, of classifiers, labels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

#: A text is cut into slices of so many characters.
SLICE_CHARS_MAX = 32 * 1024
_SLICES_MAX = 2**20  # of one text
_LABELS_INDEX = 2**31 - 1
LABEL = "label_value"


class BadModel(ValueError):
    """A table is no model, or none of the kind that is expected."""

    #: The worker tells the user its sentence alone.
    refusal = True


@dataclass
class Model:
    """What the rows of a model hold.

    Attributes
    ----------
    meta : dict
        Parameters, by their names.
    data : list of str
        Texts, mostly JSON.
    labels : list
        The label's values, of a classifier.
    """

    meta: dict[str, Any] = field(default_factory=dict)
    data: list[str] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)

    def get(self, name: str) -> Any:
        """Give a parameter of the model.

        Raises
        ------
        BadModel
            If the model has none of the name.
        """
        if name not in self.meta:
            raise BadModel(f"the model has no {name!r}: it is of another kind")
        return self.meta[name]


def model_schema(
    label: pa.DataType | None = None, columns: Sequence[tuple[str, pa.DataType]] = ()
) -> pa.Schema:
    """Give the columns of a model.

    Parameters
    ----------
    label : pyarrow.DataType, optional
        The type of the labels, of a classifier.
    columns : sequence of (name, type)
        The columns that the model was trained on, where what reads it has to know them before
        it has the rows. They are NULL.
    """
    fields = [("model_id", pa.int64()), ("model_info", pa.string())]
    labels = [] if label is None else [(LABEL, label)]
    return pa.schema([*fields, *labels, *columns])


def write_model(
    model: Model,
    label: pa.DataType | None = None,
    columns: Sequence[tuple[str, pa.DataType]] = (),
) -> pa.Table:
    """Give a model as a table with the columns of `model_schema`."""
    meta = {name: None if v is None else _json(v) for name, v in model.meta.items()}
    ids: list[int] = []
    infos: list[str | None] = []
    for index, text in enumerate([_json(meta), *model.data]):
        slices = range(0, max(len(text), 1), SLICE_CHARS_MAX)
        for number, start in enumerate(slices):
            ids.append(index * _SLICES_MAX + number)
            infos.append(text[start : start + SLICE_CHARS_MAX])
    labels = model.labels if label is not None else []
    ids += [_LABELS_INDEX * _SLICES_MAX + i for i in range(len(labels))]
    arrays = [pa.array(ids, pa.int64()), pa.array(infos + [None] * len(labels), pa.string())]
    if label is not None:
        arrays.append(pa.array([None] * len(infos) + list(labels), label))
    arrays += [pa.nulls(len(ids), kind) for _, kind in columns]
    return pa.table(arrays, schema=model_schema(label, columns))


def weights_of_labels(model: Model) -> list[list[float]] | None:
    """Give the weights of each label but the last, of a model of softmax; None of another one.

    They stand one label after the other in ``coefVector``, the intercept first where there is
    one, or each in a list of its own, ``coefVectors``.
    """
    content = json.loads(model.data[0]) if model.data else {}
    if content.get("coefVectors"):
        return [one["data"] for one in content["coefVectors"]]
    if model.meta.get("modelName") != "softmax" or not content.get("coefVector"):
        return None
    whole, others = content["coefVector"]["data"], max(len(model.labels) - 1, 1)
    if not whole or len(whole) % others:
        raise BadModel(f"the model has {len(whole)} weights for {others} labels")
    size = len(whole) // others
    return [whole[at : at + size] for at in range(0, len(whole), size)]


def read_model(table: pa.Table) -> Model:
    """Read a model from its table; the order of the rows does not matter.

    Raises
    ------
    BadModel
        If the table is no model, is empty, or lacks rows.
    """
    names = table.schema.names
    if names[:2] != ["model_id", "model_info"]:
        raise BadModel(f"a table of the columns {', '.join(names)} is no model")
    if table.num_rows == 0:
        raise BadModel("the model has no rows")
    ids = table.column(0).to_pylist()
    infos = table.column(1).to_pylist()
    labels = table.column(LABEL).to_pylist() if LABEL in names else [None] * len(ids)
    rows = sorted(zip(ids, range(len(ids)), strict=True))
    texts: dict[int, list[str]] = {}
    found: list[Any] = []
    for number, row in rows:
        index, part = divmod(number, _SLICES_MAX)
        if index == _LABELS_INDEX:
            found.append(labels[row])
            continue
        parts = texts.setdefault(index, [])
        if part != len(parts):
            raise BadModel(f"the model lacks slice {len(parts)} of its text {index}")
        parts.append(infos[row] or "")
    if sorted(texts) != list(range(len(texts))):
        raise BadModel("the model lacks some of its rows")
    whole = ["".join(texts[i]) for i in range(len(texts))]
    try:
        meta = {name: _value(text) for name, text in json.loads(whole[0]).items()}
    except (ValueError, AttributeError) as error:
        raise BadModel(f"what the model says of itself is not JSON: {error}") from None
    return Model(meta, whole[1:], found)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _value(text: Any) -> Any:
    return None if text is None else json.loads(text)


def meta_of(params: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Pick the parameters that a model keeps."""
    return {name: params.get(name) for name in names}
