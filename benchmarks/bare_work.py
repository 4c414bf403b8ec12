"""The work that scoring cannot avoid, by itself: forward passes, and writing to a store."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.baseline import windows
from benchmarks.study import OVERLAP, SEEDS, VOCAB, WINDOW
from store.schema import OutputLayer, Vocabulary
from store.writing import Header, StudyWriter

_BLOCK = 1024  # tokens handed to the writer at once


def forward(
    model: Any, ids: torch.Tensor, batch: int, window: int = WINDOW, overlap: int = OVERLAP
) -> float:
    """Seconds for all windows of ids (token,), `batch` of them at once; the device waited for."""
    plan = list(windows(len(ids), window, overlap))
    wait = torch.cuda.synchronize if ids.is_cuda else lambda: None
    wait()
    start = time.perf_counter()
    with torch.inference_mode():
        for shape in dict.fromkeys((stop - begin, stop - new) for begin, stop, new in plan):
            alike = [w for w in plan if (w[1] - w[0], w[1] - w[2]) == shape]
            for first in range(0, len(alike), batch):
                rows = torch.stack([ids[a:b] for a, b, _ in alike[first : first + batch]])
                model(rows, use_cache=False, logits_to_keep=shape[1])
    wait()
    return time.perf_counter() - start


def results(
    model: Any, ids: torch.Tensor, window: int = WINDOW, overlap: int = OVERLAP
) -> Iterator[dict[str, NDArray[Any]]]:
    """What scoring gives of a model, a run of tokens at a time."""
    for start, stop, new in windows(len(ids), window, overlap):
        with torch.inference_mode():
            states = model.base_model(ids[None, start:stop]).last_hidden_state[0, new - start :]
            for hidden in states.split(_BLOCK):
                log_p = model.get_output_embeddings()(hidden).log_softmax(-1)
                top_log_prob, top_id = log_p.topk(10)
                block = {
                    "log_probs": log_p.half(),
                    "hidden": hidden,
                    "surprisal": -log_p[:, 0],
                    "entropy": -(log_p.exp() * log_p).sum(-1),
                    "kl_unigram": (log_p.exp() * (log_p + math.log(log_p.shape[-1]))).sum(-1),
                    "top_id": top_id.int(),
                    "top_log_prob": top_log_prob,
                }
                yield {name: values.cpu().numpy() for name, values in block.items()}


class Writing:
    """The store's writer alone."""

    def __init__(self, path: Path, kept: str, corpus: Any, vocab: int = VOCAB) -> None:
        vocabulary = Vocabulary(("x",) * vocab, np.ones(vocab, np.int64), "none")
        self.writer = StudyWriter.open(path, Header("efficiency", {}), corpus, vocabulary)
        self.writer.plan("m", [(str(seed), 0) for seed in SEEDS], {})
        self.kept: Any = kept
        self.seconds = 0.0

    def write(self, seed: int, blocks: list[dict[str, NDArray[Any]]], weight: NDArray[Any]) -> None:
        """Write and commit one checkpoint."""
        start = time.perf_counter()
        layer = OutputLayer(weight, None) if self.kept == "factored" else None
        pending = self.writer.results.begin_checkpoint("m", str(seed), 0, self.kept, layer)
        for block in blocks:
            pending.append(block)
        floors = {"storage_floor": 0.0, "noise_floor": 0.0}
        self.writer.commit("m", 0, [pending.finish(floors, {})])
        self.seconds += time.perf_counter() - start
