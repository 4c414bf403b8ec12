"""From the log-probs of all seeds at one step to the divergences between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from engine.divergence import pairwise_kl
from store import DenseLogProbs
from store.pending import PendingPairs

_BLOCK_BYTES = {"cpu": 2**25, "cuda": 2**29}  # float32 log-probs of all seeds worked on at once


def reduce_step(
    log_probs: Sequence[DenseLogProbs],
    pending: PendingPairs,
    device: torch.device,
    progress: Callable[[int], None],
) -> None:
    """Compute KL of all ordered pairs at every token into `pending`, reading one block ahead.

    `progress` is called with the number of tokens done and may raise to stop. Raises DamagedError
    when stored log-probs cannot be read.
    """
    n_tokens, vocab_size = log_probs[0].shape
    rows = log_probs[0].block_rows
    part = max(1, _BLOCK_BYTES[device.type] // (4 * vocab_size * len(log_probs)))
    with ThreadPoolExecutor(len(log_probs), thread_name_prefix="read") as pool:

        def fetch(start: int) -> list[NDArray[np.float16]]:
            stop = min(start + rows, n_tokens)
            return list(pool.map(lambda seed: seed.stored(start, stop), log_probs))

        with ThreadPoolExecutor(1, thread_name_prefix="fetch") as ahead:
            following = ahead.submit(fetch, 0)
            for start in range(0, n_tokens, rows):
                blocks = following.result()
                if start + rows < n_tokens:
                    following = ahead.submit(fetch, start + rows)
                for first in range(0, len(blocks[0]), part):
                    run = slice(first, first + part)
                    stacked = torch.stack([torch.from_numpy(block[run]) for block in blocks])
                    kl = pairwise_kl(stacked.to(device).float())
                    pending.append(kl.cpu().numpy())
                progress(min(start + rows, n_tokens))
