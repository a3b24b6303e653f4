"""Folders that a pretrained BERT is published in: configuration, vocabulary and tensors.

The names are those of Hugging Face's BertModel, which stand alone or behind ``bert.``, in a file
of the form safetensors: the length of a header in 8 bytes, little-endian, the header, JSON that
says of each tensor its type, shape and place, and the tensors' bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ._bert_files import CONFIG, TENSORS, TOKENIZER, VOCABULARY
from ._strings import Unreadable
from ._wordpieces import WordPieces

Floats = npt.NDArray[np.float32]

_HEADER_BYTES_MAX = 100 << 20
_LENGTH_BYTES = 8
_NUMBERS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}

#: The tensors of a layer, behind ``encoder.layer.<number>.``, with the sizes of their shapes.
LAYER = {
    f"{name}.{part}": sizes if part == "weight" else sizes[:1]
    for name, sizes in {
        "attention.self.query": ("hidden", "hidden"),
        "attention.self.key": ("hidden", "hidden"),
        "attention.self.value": ("hidden", "hidden"),
        "attention.output.dense": ("hidden", "hidden"),
        "attention.output.LayerNorm": ("hidden",),
        "intermediate.dense": ("inner", "hidden"),
        "output.dense": ("hidden", "inner"),
        "output.LayerNorm": ("hidden",),
    }.items()
    for part in ("weight", "bias")
}
EMBEDDINGS = {
    "embeddings.word_embeddings.weight": ("pieces", "hidden"),
    "embeddings.position_embeddings.weight": ("positions", "hidden"),
    "embeddings.token_type_embeddings.weight": ("segments", "hidden"),
    "embeddings.LayerNorm.weight": ("hidden",),
    "embeddings.LayerNorm.bias": ("hidden",),
}
POOLER = {"pooler.dense.weight": ("hidden", "hidden"), "pooler.dense.bias": ("hidden",)}


class Config(NamedTuple):
    """What a BERT is like; sizes but for `layers` and `heads` are those of its tensors."""

    pieces: int
    positions: int
    segments: int
    hidden: int
    inner: int
    layers: int
    heads: int
    epsilon: float
    dropout: float
    attention_dropout: float

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Give the shapes of all tensors by their names, in the order of a model's."""
        sizes = self._asdict()
        layers = {
            f"encoder.layer.{i}.{name}": of
            for i in range(self.layers)
            for name, of in LAYER.items()
        }
        named = EMBEDDINGS | layers | POOLER
        return {name: tuple(sizes[size] for size in of) for name, of in named.items()}


_SIZES = {
    "pieces": "vocab_size",
    "positions": "max_position_embeddings",
    "segments": "type_vocab_size",
    "hidden": "hidden_size",
    "inner": "intermediate_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
}
_SHARES = {
    "dropout": ("hidden_dropout_prob", 0.1),
    "attention_dropout": ("attention_probs_dropout_prob", 0.1),
}
_EPSILON = 1e-12


def read_config(text: str) -> Config:
    """Read a ``config.json``.

    Raises
    ------
    Unreadable
        If it is none of a BERT, or of one that is computed in another way.
    """
    said = _object(text, CONFIG)
    kind = said.get("model_type", "bert")
    if kind != "bert":
        raise Unreadable(f"{CONFIG} is that of a model of type {kind!r:.40}, not of a BERT")
    for name, usual in (("hidden_act", "gelu"), ("position_embedding_type", "absolute")):
        if said.get(name, usual) != usual:
            raise Unreadable(
                f"{CONFIG} has {name} {said[name]!r:.40}; BERTs with {usual!r} are computed"
            )
    values: dict[str, Any] = {}
    for field, name in _SIZES.items():
        value = said.get(name)
        if type(value) is not int or value < 1:
            raise Unreadable(
                f"{CONFIG} has {name} {value!r:.40}, where a BERT has a number above 0"
            )
        values[field] = value
    for field, (name, usual) in _SHARES.items():
        values[field] = _number(said, name, usual, 1.0)
    values["epsilon"] = _number(said, "layer_norm_eps", _EPSILON, math.inf)
    config = Config(**values)
    if config.hidden % config.heads:
        raise Unreadable(
            f"{CONFIG} has hidden_size {config.hidden}, which {config.heads} attention heads do "
            "not divide"
        )
    return config


def _number(said: Mapping[str, Any], name: str, usual: float, below: float) -> float:
    value = said.get(name, usual)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < below:
        raise Unreadable(f"{CONFIG} has {name} {value!r:.40}")
    return float(value)


def _object(text: str, name: str) -> dict[str, Any]:
    try:
        said = json.loads(text)
    except ValueError as error:
        raise Unreadable(f"{name} is not JSON: {error}") from None
    if not isinstance(said, dict):
        raise Unreadable(f"{name} is no object of JSON")
    return said


class Checkpoint:
    """A pretrained BERT, whose tensors are read where they lie.

    Parameters
    ----------
    files : mapping
        The paths by `CONFIG`, `VOCABULARY`, `TENSORS` and, where there is one, `TOKENIZER`.

    Attributes
    ----------
    config : Config
    vocabulary : list of str
    lowercase : bool
    pieces : WordPieces
    """

    def __init__(self, files: Mapping[str, str]) -> None:
        self.config = read_config(_text(files, CONFIG))
        lines = _text(files, VOCABULARY).replace("\r\n", "\n").removesuffix("\n").split("\n")
        self.vocabulary = lines
        if len(lines) > self.config.pieces:
            raise Unreadable(
                f"{VOCABULARY} has {len(lines)} pieces, and {CONFIG} says {self.config.pieces}"
            )
        said = _object(_text(files, TOKENIZER), TOKENIZER) if TOKENIZER in files else {}
        self.lowercase = said.get("do_lower_case", True) is not False
        if said.get("strip_accents") not in (None, self.lowercase):
            raise Unreadable(f"{TOKENIZER} has strip_accents other than do_lower_case")
        if said.get("tokenize_chinese_chars", True) is not True:
            raise Unreadable(f"{TOKENIZER} has tokenize_chinese_chars false, which no BERT has")
        self.pieces = WordPieces(lines, self.lowercase)
        path = Path(files[TENSORS])
        empty = not path.stat().st_size  # which cannot be mapped
        self._file = np.empty(0, np.uint8) if empty else np.memmap(path, np.uint8, "r")
        self._begin, self._places = self._header()
        found = set(self._places)
        self._prefix = "" if "embeddings.word_embeddings.weight" in found else "bert."

    def tensors(self) -> dict[str, Floats]:
        """Give all tensors by their names, in the order of `Config.shapes`.

        Raises
        ------
        Unreadable
            If one is missing, has another shape, or has no numbers.
        """
        return {name: self._tensor(name, shape) for name, shape in self.config.shapes().items()}

    def _header(self) -> tuple[int, dict[str, Any]]:
        size = len(self._file)
        length = int.from_bytes(self._file[:_LENGTH_BYTES].tobytes(), "little")
        if size < _LENGTH_BYTES or not 0 < length <= min(size - _LENGTH_BYTES, _HEADER_BYTES_MAX):
            raise Unreadable(f"{TENSORS} is cut off, or no file of the form safetensors")
        begin = _LENGTH_BYTES + length
        head = self._file[_LENGTH_BYTES:begin].tobytes().decode("utf-8", "replace")
        return begin, _object(head, f"the header of {TENSORS}")

    def _tensor(self, name: str, shape: tuple[int, ...]) -> Floats:
        stored = self._prefix + name
        if stored not in self._places and "LayerNorm" in name:
            # So TensorFlow calls them, and files that were made of its own.
            head, part = stored.rsplit(".", 1)
            stored = f"{head}.{'gamma' if part == 'weight' else 'beta'}"
        said = self._places.get(stored)
        if said is None:
            raise Unreadable(f"{TENSORS} has no tensor {self._prefix + name}")
        try:
            kind, (first, last) = said["dtype"], said["data_offsets"]
            form = _NUMBERS.get(kind)
            given = tuple(said["shape"])
            bytes_wanted = math.prod(shape) * (np.dtype(form).itemsize if form else 0)
            whole = type(first) is type(last) is int and 0 <= first <= last
        except (KeyError, TypeError, ValueError):
            raise Unreadable(f"the header of {TENSORS} says of {stored} {said!r:.80}") from None
        if form is None:
            raise Unreadable(f"{stored} of {TENSORS} has {kind!r:.20}, not floats")
        if given != shape:
            raise Unreadable(
                f"{stored} of {TENSORS} has shape {list(given)}, and {CONFIG} says {list(shape)}"
            )
        if not whole or last - first != bytes_wanted or last > len(self._file) - self._begin:
            raise Unreadable(f"{TENSORS} is cut off: it has not all of {stored}")
        values = self._file[self._begin + first : self._begin + last].view(form).reshape(shape)
        if kind == "BF16":  # the upper half of 32 bits
            values = (values.astype(np.uint32) << 16).view(np.float32)
        values = values.astype(np.float32, copy=False)
        if not np.isfinite(values).all():
            raise Unreadable(f"{stored} of {TENSORS} has values that are no numbers")
        return values


def _text(files: Mapping[str, str], name: str) -> str:
    try:
        # No newline is translated: a piece may be a character that ends lines.
        return Path(files[name]).read_bytes().decode()
    except UnicodeDecodeError:
        raise Unreadable(f"{name} is no text in UTF-8") from None
