"""Saved pipelines: rows in Alink's form, in .ak files.

A pipeline is a table of the columns ``id``, ``p0``, ``p1`` and so on. The row of id -1 has, in
``p0``, what the stages are: an object whose ``stages`` is a list, as a text, of the root, whose
identifier is null, and then of each stage in its order, pipelines before the stages that they
consist of. A stage has its ``identifier``, the name of Alink's Java class, its ``params``, each
value as JSON once more, its ``parent``, the number of the pipeline that it is in, and, where it
has a model, ``colNames``, the columns of the model, and ``schemaIndices``, the column
``p<index>`` that each of them stands in. The rows of a stage's model have the stage's number as
their ``id``.

There is nothing in it but numbers and texts: reading one runs no code.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from alink import _codes as codes
from alink._algorithms import _ak
from alink._algorithms._ak_meta import META, read_schema
from alink._algorithms._strings import Unreadable
from alink._algorithms._types import format_schema, type_name
from alink._diag import did_you_mean, quote
from alink._errors import Error, failure
from alink._index import VARIABLE
from alink._options import bad_option
from alink._origin import user_origin
from alink._table import Table
from alink.operators._catalogue import catalogue
from alink.operators._define import BUILT
from alink.operators._dialect import quoted
from alink.operators._params import SECRETS
from alink.operators._session import session
from alink.operators._stages import Pipeline, PipelineModel, PipelineStage, Transformer
from alink.operators._training import TrainedModel
from alink.operators._unbuilt import Unbuilt

#: Of what these programs write besides Alink's form: models of a later form are refused.
FORMAT = 1
_PACKAGE = "com.alibaba.alink.pipeline"
_PARAMETERS = "__ALINK_META_ROW_DELIMITER__"  # before the parameters of the pipeline as a whole
_BYTES_MAX = 2 << 30  # of a file's rows
_STAGES_MAX = 10_000
_CONTAINERS: dict[str, type[Any]] = {"Pipeline": Pipeline, "PipelineModel": PipelineModel}


@dataclass
class _Entry:
    """A stage among the stages of a pipeline."""

    stage: PipelineStage | None
    parent: int
    columns: pa.Schema | None = None
    places: list[int] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        stage = self.stage
        return {
            "identifier": None if stage is None else _identifier(stage),
            "params": None if stage is None else {"params": _parameters(stage)},
            "schemaIndices": self.places or None,
            "colNames": None if self.columns is None else self.columns.names,
            "parent": self.parent,
        }


# --- writing ---


def pack(pipeline: PipelineStage) -> Table:
    """Make the table of a pipeline's rows."""
    entries = [_Entry(None, -1)]
    _list(pipeline, 0, entries)
    kinds = [pa.string()]
    models: dict[int, Table] = {}
    for number, entry in enumerate(entries):
        if isinstance(entry.stage, TrainedModel):
            models[number] = model = entry.stage._data()
            entry.columns = model.schema
            entry.places = _places(kinds, model.schema.types)
    entries[0].places = list(range(len(kinds)))
    stages = _json([entry.to_json() for entry in entries])
    meta = _json({"stages": stages, "format": str(FORMAT)}) + _PARAMETERS + "{}"
    fields = [("id", pa.int64()), *((f"p{i}", kind) for i, kind in enumerate(kinds))]
    schema = pa.schema(fields)
    first = pa.Table.from_pylist([{"id": -1, "p0": meta}], schema=schema)
    context = session().context
    tables = {"m": context.from_arrow(first)}
    selects = ["SELECT * FROM m"]
    for number, model in models.items():
        of = {place: i for i, place in enumerate(entries[number].places)}
        names = model.schema.names
        columns = [quoted(names[of[i]]) if i in of else "NULL" for i in range(len(kinds))]
        tables[f"m{number}"] = model
        selects.append(f"SELECT CAST({number} AS BIGINT), {', '.join(columns)} FROM m{number}")
    return context.sql(" UNION ALL ".join(selects), tables=tables)


def _list(pipeline: PipelineStage, parent: int, entries: list[_Entry]) -> None:
    for stage in pipeline._parts() or ():
        entries.append(_Entry(stage, parent))
        _list(stage, len(entries) - 1, entries)


def _places(kinds: list[pa.DataType], wanted: Sequence[pa.DataType]) -> list[int]:
    """Find a column for each of a model's; `kinds`, the types of the columns, grows."""
    free = list(enumerate(map(type_name, kinds)))
    places: list[int] = []
    for kind in wanted:
        found = next((i for i, name in free if name == type_name(kind)), None)
        if found is None:
            found = len(kinds)
            kinds.append(kind)
        else:
            free = [(i, name) for i, name in free if i != found]
        places.append(found)
    return places


def _identifier(stage: PipelineStage) -> str:
    name = type(stage)._name
    category = catalogue()[name].category if name in catalogue() else ""
    return ".".join([_PACKAGE, category, name]) if category else f"{_PACKAGE}.{name}"


def _parameters(stage: PipelineStage) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in {**stage._values, **stage._lazily}.items():
        if name in SECRETS and not VARIABLE.fullmatch(value or ""):
            continue
        try:
            found[name] = _json(value)
        except (TypeError, ValueError):
            raise bad_option(
                stage._name,
                f"{stage._name}: {quote(name)} cannot be saved: {value!r:.60}",
                "numbers, texts, truths and lists of these can",
            ) from None
    return found


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# --- reading ---


def load_model(name: str, path: Any) -> PipelineModel:
    """Read a trained pipeline of a file."""
    return model_of(name, read_file(path), str(path))


def load_pipeline(name: str, path: Any) -> Pipeline:
    """Read a pipeline of a file, trained or not."""
    return pipeline_of(name, read_file(path), str(path))


def pipeline_of(name: str, rows: pa.Table, where: str) -> Pipeline:
    """Read a pipeline of its rows."""
    del name
    return Pipeline(*_stages(rows, where))


def model_of(name: str, rows: pa.Table, where: str) -> PipelineModel:
    """Read a trained pipeline of its rows."""
    stages = _stages(rows, where)
    for stage in stages:
        if not isinstance(stage, Transformer):
            raise _unusable(
                where,
                f"its stage {stage._name} is not trained",
                f"read it with Pipeline.load(…) and fit it, {name} takes trained ones",
            )
    return PipelineModel(*stages)


def read_file(path: Any) -> pa.Table:
    """Read the rows of an .ak file, or of those in a folder."""
    target = Path(os.fspath(path))
    if not target.exists():
        raise failure(codes.FILE_MISSING, f"the file {target} does not exist", source=user_origin())
    files = sorted(p for p in target.iterdir() if p.is_file()) if target.is_dir() else [target]
    try:
        parts = [_read(file) for file in files]
        if not parts:
            raise Unreadable(f"the folder {target} is empty")
        return pa.concat_tables(parts)
    except (Unreadable, OSError, pa.ArrowInvalid) as error:
        raise _unusable(str(target), str(error)) from None


def _read(file: Path) -> pa.Table:
    read_schema(file)  # refuses what is no .ak file
    with zipfile.ZipFile(file) as archive:
        version = json.loads(archive.read(META)).get("version")
        if version not in (None, "v0.1"):
            raise Unreadable(f"it is of version {version!r:.40} of .ak files, known is 'v0.1'")
        if sum(entry.file_size for entry in archive.infolist()) > _BYTES_MAX:
            raise Unreadable(f"it holds more than {_BYTES_MAX >> 30} GiB")
    return pa.table(_ak.read(str(file)))


def _unusable(where: str, why: str, hint: str = "") -> Error:
    return failure(
        codes.FILE_UNREADABLE,
        f"{where} cannot be read as a pipeline",
        cause=why,
        source=user_origin(),
        hint=hint,
    )


def _stages(rows: pa.Table, where: str) -> list[PipelineStage]:
    """Make the stages of a pipeline's rows."""
    try:
        listed = _listed(rows)
        children: list[list[int]] = [[] for _ in listed]
        for number, entry in enumerate(listed[1:], 1):
            parent = entry["parent"]
            if not isinstance(parent, int) or not 0 <= parent < number:
                raise Unreadable(f"stage {number} has no parent before it")
            children[parent].append(number)
        return list(_made(0, listed, children, rows))
    except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        raise _unusable(where, str(error) or repr(error)) from None


def _listed(rows: pa.Table) -> list[dict[str, Any]]:
    names = rows.schema.names
    if names[:2] != ["id", "p0"] or not pa.types.is_string(rows.schema.field(1).type):
        raise Unreadable(f"rows of {format_schema(rows.schema)} are no pipeline's")
    first = rows.filter(pc.less(rows.column(0), 0)).column(1).to_pylist()
    if not first or first[0] is None:
        raise Unreadable("the row is missing that says what the stages are")
    meta = json.loads(first[0].split(_PARAMETERS)[0])
    if int(meta.get("format", FORMAT)) > FORMAT:
        raise Unreadable(f"it is of form {meta['format']}, known is {FORMAT}: a later version's")
    listed = json.loads(meta["stages"]) or []
    if len(listed) > _STAGES_MAX:
        raise Unreadable(f"it has {len(listed)} stages")
    if not listed or listed[0]["identifier"] is not None:
        raise Unreadable("it has no stages")
    return listed


def _made(
    number: int, listed: Sequence[Mapping[str, Any]], children: list[list[int]], rows: pa.Table
) -> Iterator[PipelineStage]:
    for child in children[number]:
        entry = listed[child]
        name = str(entry["identifier"]).rpartition(".")[2]
        if (container := _CONTAINERS.get(name)) is not None:
            yield container(*_made(child, listed, children, rows))
            continue
        stage = _class(name)()
        _set_all(stage, entry)
        if isinstance(stage, TrainedModel):
            stage._with_rows(_model_rows(child, entry, rows))
        yield stage


def _class(name: str) -> type[PipelineStage]:
    made = BUILT.get(name)
    if made is None and name in catalogue():
        Unbuilt.refuse(name)
    if made is None or not issubclass(made, PipelineStage):
        stages = [known for known, cls in BUILT.items() if issubclass(cls, PipelineStage)]
        hint = did_you_mean(name, "stages", stages)
        raise Unreadable(f"there is no stage {quote(name)}: {hint}")
    return made


def _set_all(stage: PipelineStage, entry: Mapping[str, Any]) -> None:
    """Set the parameters; a model has those of its training too, which it does not need."""
    given = entry.get("params") or {}
    given = given.get("params", given) or {}
    for name, text in given.items():
        value = None if text is None else json.loads(text)
        if value is None:
            continue
        if name in stage._parameters:
            stage._set(name, value)
        elif name.startswith("lazyPrint"):
            stage._lazily[name] = value


def _model_rows(number: int, entry: Mapping[str, Any], rows: pa.Table) -> pa.Table:
    places, names = entry.get("schemaIndices"), entry.get("colNames")
    if not places or not names or len(places) != len(names):
        raise Unreadable(f"stage {number}, {entry['identifier']}, has no model")
    own = rows.filter(pc.equal(rows.column(0), number))
    columns = [own.column(1 + place) for place in places]
    return pa.table(columns, names=names)
