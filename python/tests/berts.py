"""A tiny BERT with random weights, in a folder as BERTs are published."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alink._algorithms._checkpoints import read_config

#: Single characters begin words and, behind ``##``, go on with them.
PIECES: list[str] = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *("good", "bad", "very", "not", "film", "ing", "##ing", "##s", "##d", "e", "##e"),
    *("中", "文", "好", "坏", "的", "!", ",", ".", "?", "1", "##1", "##9"),
    *("ant", "bee", "cat", "dog", "a", "##a", "b", "##b", "c", "##c", "o", "##o", "r"),
]
CONFIG: dict[str, Any] = {
    "model_type": "bert",
    "vocab_size": len(PIECES) + 2,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 128,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "layer_norm_eps": 1e-12,
}

Tensors = dict[str, npt.NDArray[Any]]


def random_tensors(config: Mapping[str, Any], seed: int = 7) -> Tensors:
    """Give tensors, large enough for each to count."""
    random = np.random.default_rng(seed)
    found: Tensors = {}
    for name, shape in read_config(json.dumps(config)).shapes().items():
        values = random.normal(0, 0.25, shape)
        if name.endswith("LayerNorm.weight"):
            values += 1
        found[name] = values.astype(np.float32)
    return found


def safetensors(tensors: Mapping[str, npt.NDArray[Any]], kind: str = "F32") -> bytes:
    """Write tensors in the form safetensors."""
    said: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, values in tensors.items():
        raw = values.tobytes()
        places = [len(body), len(body) + len(raw)]
        said[name] = {"dtype": kind, "shape": list(values.shape), "data_offsets": places}
        body += raw
    head = json.dumps(said).encode()
    return len(head).to_bytes(8, "little") + head + body


def write_bert(folder: Path, config: Mapping[str, Any] | None = None, prefix: str = "") -> Path:
    """Write the tiny BERT."""
    said = {**CONFIG, **(config or {})}
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {prefix + name: values for name, values in random_tensors(said).items()}
    (folder / "config.json").write_text(json.dumps(said), encoding="utf-8")
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    (folder / "model.safetensors").write_bytes(safetensors(tensors))
    return folder
