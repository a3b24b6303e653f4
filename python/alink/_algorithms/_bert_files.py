"""The files of a pretrained BERT, which the client looks for and workers read."""

from __future__ import annotations

CONFIG, VOCABULARY, TENSORS = "config.json", "vocab.txt", "model.safetensors"
#: Says how texts are cut, where it is there.
TOKENIZER = "tokenizer_config.json"
