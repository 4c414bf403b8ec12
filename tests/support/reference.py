"""Log-probs without the engine: one window at a time, in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from tests.support.tiny_models import END

WINDOW, OVERLAP = 32, 16


def reference_log_probs(
    folder: Path,
    checkpoint: Path,
    *,
    stream: bool,
    dtype: torch.dtype = torch.float32,
    window: int = WINDOW,
    **options: Any,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(token, vocab) float64 log-probs and the targets, one window at a time, no engine code."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer/tokenizer.json"))
    end = tokenizer.convert_tokens_to_ids(END)
    text = (folder / "text.txt").read_text(encoding="utf-8")
    documents = [tokenizer.encode(part) for part in text.split("\n") if part.strip()]
    if stream:
        sequences = [[end]]
        for n, document in enumerate(documents):
            sequences[0] += ([end] if n else []) + document
    else:
        sequences = [[end, *document] for document in documents]
    model: Any = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=dtype, **options)
    model.eval()
    stride = window - min(OVERLAP, window // 2)
    rows, targets = [], []
    for ids in sequences:
        for position in range(1, len(ids)):
            if len(targets) == 150:
                break
            # The windows start every `stride`; a token is predicted by the first that reaches it.
            start = max(0, -(-(position - window) // stride)) * stride
            with torch.no_grad():
                logits = model(torch.tensor([ids[start:position]])).logits[0, -1].double()
            rows.append(logits[: len(tokenizer)].log_softmax(-1).numpy())
            targets.append(ids[position])
    return np.array(rows), np.array(targets)
