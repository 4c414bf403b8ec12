"""Log-probs that a study keeps, as the device wants them: read ahead, block by block."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine.models.output_head import Head
from engine.scoring.log_prob_rows import Rows
from engine.scoring.scorer import Scorer
from store import LogProbs


class _Ahead:
    """Blocks of tokens in corpus order; the next one is read while this one is used."""

    def __init__(
        self,
        read: Callable[[int, int], NDArray[Any]],
        n_tokens: int,
        rows: int,
        pool: ThreadPoolExecutor,
    ) -> None:
        self._read, self._n_tokens, self._rows, self._pool = read, n_tokens, rows, pool
        self._start = 0
        self._following: Future[NDArray[Any]] | None = self._submit()

    def _submit(self) -> Future[NDArray[Any]] | None:
        if self._start >= self._n_tokens:
            return None
        stop = min(self._start + self._rows, self._n_tokens)
        future = self._pool.submit(self._read, self._start, stop)
        self._start = stop
        return future

    def first(self) -> NDArray[Any]:
        """Return the first block that was not yet taken. Raise DamagedError."""
        assert self._following is not None
        return self._following.result()

    def take(self) -> None:
        """Go on to the block that follows."""
        self._following = self._submit()


def stored_rows(scorer: Scorer, log_probs: LogProbs, pool: ThreadPoolExecutor) -> Rows:
    """Return log-probs read from the store, in threads of `pool`. Raise DamagedError."""
    n_tokens, device, layer = log_probs.shape[0], scorer.device, log_probs.output_layer
    # Without a layer rows are log-probs, perhaps rounded: as logits they are normalised again.
    head = None if layer is None else Head.of(layer, device)
    blocks = _Ahead(log_probs.states, n_tokens, log_probs.state_rows, pool)

    def more() -> torch.Tensor:
        states = torch.from_numpy(np.ascontiguousarray(blocks.first())).to(device)
        blocks.take()  # not before it is on the device: memory may run out
        return states

    return Rows(scorer, head, more)
