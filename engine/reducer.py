"""From the log-probs of all seeds at one step to the divergences between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from numpy.typing import NDArray

from engine.divergence import pairwise_kl
from store import LogProbs
from store.pending import PendingPairs

_BLOCK_BYTES = {"cpu": 2**25, "cuda": 2**29}  # float32 log-probs of all seeds worked on at once


def reduce_step(
    log_probs: Sequence[LogProbs],
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

        def fetch(start: int) -> list[NDArray[Any]]:
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
                    seeds = [torch.from_numpy(block[run]).to(device).float() for block in blocks]
                    kl = pairwise_kl(torch.stack(seeds))
                    pending.append(kl.cpu().numpy())
                progress(min(start + rows, n_tokens))


def reduce_blocks(
    streams: Sequence[Iterator[torch.Tensor]], pending: PendingPairs | None
) -> Iterator[int]:
    """Compute KL of all ordered pairs while seeds are scored; nothing is read or kept.

    Each stream yields the exact log-probs (token, vocab) float32 of one seed in corpus order, in
    blocks that need not be the same for all. Yields the number of tokens done. Without `pending`
    the streams are only run.
    """
    held = [torch.empty(0)] * len(streams)
    done = 0
    while True:
        for i, stream in enumerate(streams):
            if not len(held[i]):
                held[i] = next(stream, torch.empty(0))
        rows = min(map(len, held))
        if not rows:
            return
        if pending is not None:
            kl = pairwise_kl(torch.stack([block[:rows] for block in held]))
            pending.append(kl.cpu().numpy())
        held = [block[rows:] for block in held]
        done += rows
        yield done
