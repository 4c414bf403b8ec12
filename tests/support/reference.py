"""Log-probs without the engine: one window at a time, in float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from tests.support.tiny_models import END

WINDOW, OVERLAP = 32, 16
N_TOKENS = 150  # of the text that is scored


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
    model: Any = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=dtype, **options)
    model.eval()
    return windowed_log_probs(folder, lambda ids: model(ids).logits, stream=stream, window=window)


def windowed_log_probs(
    folder: Path,
    predict: Callable[[torch.Tensor], torch.Tensor],
    *,
    stream: bool,
    window: int = WINDOW,
    n_tokens: int = N_TOKENS,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The same of any model; `predict` gives logits (1, position, vocab) of ids (1, position)."""
    rows, targets = windowed(folder, predict, stream=stream, window=window, n_tokens=n_tokens)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer/tokenizer.json"))
    return torch.from_numpy(rows)[:, : len(tokenizer)].log_softmax(-1).numpy(), targets


def windowed(
    folder: Path,
    predict: Callable[[torch.Tensor], torch.Tensor],
    *,
    stream: bool,
    window: int = WINDOW,
    n_tokens: int = N_TOKENS,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """What `predict` gives for each token, (token, ...), and the targets."""
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
    stride = window - min(OVERLAP, window // 2)
    rows, targets = list[NDArray[np.float64]](), list[int]()
    for ids in sequences:
        ids = ids[: n_tokens - len(targets) + 1]  # the text is as long as that
        # Windows start every `stride`; a token is predicted by the first that reaches it.
        done = 0
        for start in range(0, len(ids), stride):
            inputs = ids[start : min(start + window, len(ids) - 1)]
            if start + len(inputs) <= done:
                break
            with torch.no_grad():
                rows += list(predict(torch.tensor([inputs]))[0, done - start :].double().numpy())
            done = start + len(inputs)
        targets += ids[1:]
    return np.array(rows), np.array(targets)
