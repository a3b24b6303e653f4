"""Classifiers and regressions of texts, or of pairs of them, by a pretrained BERT."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from alink._algorithms._bert_files import CONFIG, TENSORS, TOKENIZER, VOCABULARY
from alink._algorithms._types import is_number, type_name
from alink._confinement import confinement
from alink._diag import quote
from alink._options import bad_option, find_column
from alink.operators._environment import AlinkGlobalConfiguration
from alink.operators._networks import predicted
from alink.operators._training import Trained, trained

Params = Mapping[str, Any]

_PICKLED = "pytorch_model.bin"
#: Alink's names of BERTs, and where the field publishes them.
_PUBLISHED = {
    "Base-Chinese": "google-bert/bert-base-chinese",
    "Base-Multilingual-Cased": "google-bert/bert-base-multilingual-cased",
    "Base-Uncased": "google-bert/bert-base-uncased",
    "Base-Cased": "google-bert/bert-base-cased",
}
#: Beside its tensors a training holds a copy of them, those it trains thrice more, and the model
#: as texts; a prediction its tensors and their texts.
_TRAIN_BYTES, _TRAIN_COPIES = 2 << 30, 5
_PREDICT_MEMORY = "4GiB"

_RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "batchSize": (lambda value: value >= 1, "it is 1 or more"),
    "dropoutRate": (lambda value: 0 <= value < 1, "it is a share of values, below 1"),
    "learningRate": (lambda value: 0 < value < math.inf, "it is larger than 0"),
    "maxSeqLength": (lambda value: value >= 3, "it is 3 or more"),
    "numEpochs": (lambda value: 0 < value < math.inf, "it is larger than 0"),
    "numFineTunedLayers": (lambda value: value >= 0, "it is 0 or more"),
    "numFrozenLayers": (lambda value: value is None or value >= 0, "it is 0 or more"),
    "warmupRatio": (lambda value: 0 <= value <= 1, "it is a share of the steps"),
}
#: What ``customConfigJson`` may have, in EasyTransfer's words, and which parameter it sets.
_CUSTOM: dict[str, tuple[str, type]] = {
    "model_config.dropout_rate": ("dropoutRate", float),
    "model_config.num_freezed_layers": ("numFrozenLayers", int),
    "preprocess_config.sequence_length": ("maxSeqLength", int),
    "train_config.num_epochs": ("numEpochs", float),
    "train_config.optimizer_config.learning_rate": ("learningRate", float),
    "train_config.optimizer_config.warmup_ratio": ("warmupRatio", float),
    "train_config.train_batch_size": ("batchSize", int),
}


def _custom(name: str, text: str | None) -> dict[str, Any]:
    """Read ``customConfigJson``: objects of settings, which win over the parameters."""
    hint = f"an object of JSON, which may have {', '.join(_CUSTOM)}"
    try:
        left = [("", json.loads(text))] if text else []
    except ValueError as error:
        raise bad_option(name, f"{name}: customConfigJson is not JSON: {error}", hint) from None
    found: dict[str, Any] = {}
    while left:
        path, value = left.pop()
        known = _CUSTOM.get(path)
        if known is not None:
            kinds = (int, float) if known[1] is float else (int,)
            if isinstance(value, bool) or not isinstance(value, kinds):
                raise bad_option(
                    name, f"{name}: {path} of customConfigJson cannot be {value!r:.60}", hint
                )
            found[known[0]] = known[1](value)
        elif isinstance(value, dict) and (not path or any(p.startswith(path) for p in _CUSTOM)):
            left += [(f"{path}.{key}".lstrip("."), item) for key, item in value.items()]
        else:
            what = f"has {quote(path)}, which is not known" if path else "is no object"
            raise bad_option(name, f"{name}: customConfigJson {what}", hint)
    return found


def _folder(name: str, model: Any) -> Path:
    """Find the folder of a BERT: a path, or a name below the folder of plugins."""
    path = Path(model).expanduser()
    plugin = Path(AlinkGlobalConfiguration.getPluginDir()).expanduser() / path
    for folder in (path, plugin):
        if folder.is_dir():
            return folder
    published = _PUBLISHED.get(str(model))
    source = f" (Hugging Face's {published} has them)" if published else ""
    raise bad_option(
        name,
        f"{name}: there is no BERT {quote(str(model))}",
        f"nothing is downloaded: put {CONFIG}, {VOCABULARY} and {TENSORS}{source} into "
        f"{plugin.absolute()}, or set bertModelName to the path of a folder that has them",
    )


def _files(name: str, model: Any) -> dict[str, str]:
    """Give the paths of a BERT's files, behind any links."""
    folder = _folder(name, model)
    files = {
        file: os.path.realpath(folder / file)
        for file in (CONFIG, VOCABULARY, TENSORS, TOKENIZER)
        if (folder / file).is_file()
    }
    for file in (CONFIG, VOCABULARY, TENSORS):
        if file not in files:
            hint = f"a BERT is a folder of {CONFIG}, {VOCABULARY} and {TENSORS}"
            if file == TENSORS and (folder / _PICKLED).is_file():
                hint = (
                    f"{_PICKLED} is a pickle, which can run code and is never read: have "
                    "save_pretrained(folder, safe_serialization=True) write the other form"
                )
            raise bad_option(name, f"{name}: there is no {file} in {quote(str(folder))}", hint)
    return files


def _checked(of_labels: bool) -> Callable[[str, Params, pa.Schema], dict[str, Any]]:
    """Give what checks the parameters of a training, of labels or of numbers."""

    def prepare(name: str, params: Params, schema: pa.Schema) -> dict[str, Any]:
        defaults = {"dropoutRate": 0.3, "warmupRatio": 0.1, "numFrozenLayers": None}
        given = {**defaults, **params, **_custom(name, params["customConfigJson"])}
        for parameter, (fits, hint) in _RANGES.items():
            if not fits(given[parameter]):
                raise bad_option(
                    name, f"{name}: {quote(parameter)} cannot be {given[parameter]}", hint
                )
        if given["removeCheckpointBeforeTraining"] is False:
            raise bad_option(
                name,
                f"{name}: 'removeCheckpointBeforeTraining' cannot be False",
                "a training begins anew: it leaves no checkpoints to go on from",
            )
        texts = [given["textCol"], *([given["textPairCol"]] if "textPairCol" in given else [])]
        for column in (find_column(name, schema, text) for text in texts):
            kind = schema.field(column).type
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
                raise bad_option(
                    name,
                    f"{name}: the column {quote(column)} is of type {type_name(kind)}",
                    "a BERT reads texts",
                )
        label = find_column(name, schema, given["labelCol"])
        kind = schema.field(label).type
        if not of_labels and not is_number(kind):
            raise bad_option(
                name,
                f"{name}: the label {quote(label)} is of type {type_name(kind)}",
                "a regression's label is a number; a classifier takes any",
            )
        return {**given, "files": _files(name, given["bertModelName"])}

    return prepare


def _grants(name: str, params: Params) -> dict[str, Any]:
    """Let a training read a BERT's files, and hold it in memory."""
    files: Mapping[str, str] = params["files"]
    size = Path(files[TENSORS]).stat().st_size
    return {
        "confined": confinement(name, {"mounts": dict.fromkeys(files.values(), "ro")}, ()),
        "memory": _TRAIN_BYTES + _TRAIN_COPIES * size,
    }


def declare() -> None:
    """Declare the operators of this module."""
    for of_labels, kind, learns in (
        (True, "Classifier", "labels of"),
        (False, "Regressor", "a number for"),
    ):
        model = "BertClassificationModel" if of_labels else "BertRegressionModel"
        for pair, what in (("", "texts"), ("Pair", "pairs of texts")):
            trained(
                Trained(
                    f"BertText{pair}{kind}",
                    "_bert.train",
                    "_bert.Predict",
                    predicted(f"BertText{pair}", of_labels),
                    ["textCol", *(["textPairCol"] if pair else []), "labelCol"],
                    label="labelCol" if of_labels else "",
                    model=model,
                    settings={"classifier": of_labels},
                    library="keras",
                    predict_library="keras",
                    alone=True,
                    grants=_grants,
                    predict_grants={"memory": _PREDICT_MEMORY, "workers": 1},
                    prepare=_checked(of_labels),
                    doc=f"The last layers of a pretrained BERT, trained for {learns} {what} "
                    "[Devlin et al., 2018].",
                )
            )
