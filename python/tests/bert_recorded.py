"""Records what Hugging Face's transformers and PyTorch make of the tiny BERT of ``berts.py``.

``python bert_recorded.py``, in an environment that has transformers, torch and alink, writes
``bert_recorded.json``.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from berts import write_bert

FILE = Path(__file__).with_name("bert_recorded.json")
PAIRS: list[tuple[str, str | None]] = [
    ("good film", None),
    ("", None),
    ("Very GOOD, not bäd!", None),
    ("中文好的 filming dogs", None),
    ("a\u0301bc\tcab\u00a0bacd\u200bed\ufffd \x00e\u2028cc", None),
    ("...?film?1119 unknownword", None),
    ("bad " * 50, None),
    ("good", "bad"),
    ("good film " * 20, "bad ant"),
    ("good", "ant bee cat dog " * 20),
    ("good " * 30, "bad " * 31),
    ("cats ｆilm İ ﬁ", "e\u0308 中 \u3000好"),
]
#: Odd ones leave an even room for pairs: of equal texts, transformers cuts the first one more, and
#: BERT the second one.
LENGTHS = [15, 21]
#: A training on the first texts: labels, rows of a batch, epochs, rate, share of warm-up.
LABELS, BATCH, EPOCHS, RATE, WARM = [0, 1, 2, 0, 1, 2, 0], 4, 3, 0.01, 0.4
SEED = 2_147_483_647


def main() -> None:
    """Record."""
    import torch  # pyright: ignore[reportMissingImports]
    import transformers  # pyright: ignore[reportMissingImports]

    with tempfile.TemporaryDirectory() as name:
        folder = write_bert(Path(name), prefix="bert.")
        bert = transformers.BertModel.from_pretrained(folder).eval()
        pieces: dict[str, Any] = {}
        for lowercase in (True, False):
            tokenizer = transformers.BertTokenizer(
                str(folder / "vocab.txt"), do_lower_case=lowercase
            )
            for most in LENGTHS:
                cut = {"truncation": "longest_first", "max_length": most}
                found = [tokenizer(*filter(lambda t: t is not None, p), **cut) for p in PAIRS]
                pieces[f"{lowercase} {most}"] = [
                    [one["input_ids"], one["token_type_ids"].count(0)] for one in found
                ]

    def pooled(rows: list[int], length: int) -> Any:
        given = [pieces["True 15"][row] for row in rows]
        ids = torch.zeros((len(rows), length), dtype=torch.long)
        seen, second = torch.zeros_like(ids), torch.zeros_like(ids)
        for row, (one, first) in enumerate(given):
            ids[row, : len(one)] = torch.tensor(one)
            seen[row, : len(one)] = 1
            second[row, first : len(one)] = 1
        return bert(ids, attention_mask=seen, token_type_ids=second).pooler_output

    with torch.no_grad():
        outputs = pooled(list(range(len(PAIRS))), 15).tolist()
    # --- a training of the last layer ---
    head = torch.nn.Linear(bert.config.hidden_size, 3)
    spread = np.random.default_rng(SEED).normal(0, 0.02, (3, bert.config.hidden_size))
    with torch.no_grad():
        head.weight.copy_(torch.tensor(spread.astype(np.float32)))
        head.bias.zero_()
    for tensor in bert.parameters():
        tensor.requires_grad = False
    trained = [*bert.encoder.layer[-1].parameters(), *bert.pooler.parameters()]
    for tensor in trained:
        tensor.requires_grad = True
    trained += head.parameters()
    optimizer = torch.optim.Adam(trained, eps=1e-6)
    labels = torch.tensor(LABELS)
    steps = EPOCHS * -(-len(labels) // BATCH)
    losses: list[float] = []
    done = 0
    for epoch in range(EPOCHS):
        order = np.random.default_rng([SEED, epoch]).permutation(len(labels))
        total = 0.0
        for begin in range(0, len(order), BATCH):
            part = np.sort(order[begin : begin + BATCH]).tolist()
            warm = int(steps * WARM)
            rate = RATE * (1 - done / steps) * (min(1, (done + 1) / warm) if warm else 1)
            optimizer.param_groups[0]["lr"] = rate
            loss = torch.nn.functional.cross_entropy(head(pooled(part, 15)), labels[part])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            total += loss.item() * len(part)
            done += 1
        losses.append(total / len(order))
    with torch.no_grad():
        logits = head(pooled(list(range(len(labels))), 15))
        chances = torch.softmax(logits, dim=1).tolist()
    found = {
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "pieces": pieces,
        "pooled": outputs,
        "losses": losses,
        "chances": chances,
    }
    FILE.write_text(json.dumps(found) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
