"""Log-probs kept whole: float16 (token, vocab), one array per checkpoint.

Rounding to float16 shifts each row's total probability, so rows are renormalised when read.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from store.arrays import Array, create_array, read
from store.durable import DurableStore
from store.layout import log_prob_rows


def create_dense(store: DurableStore, path: str, n_tokens: int, vocab_size: int) -> Array:
    """Make the array for one checkpoint's log-probs; readers see it once it is committed."""
    return create_array(
        store,
        path,
        shape=(n_tokens, vocab_size),
        chunks=(log_prob_rows(vocab_size), vocab_size),
        dtype="float16",
        dims=("token", "vocab"),
        attributes={
            "units": "nats",
            "description": "log p(v | context), rounded: renormalise each token's row when reading",
        },
    )


class DenseLogProbs:
    """One checkpoint's committed log-probs, read block by block.

    `log_probs[a:b]` is float32 (b - a, vocab), natural log, each row summing to 1 as probability.
    """

    def __init__(self, array: Array) -> None:
        self._array = array

    @property
    def shape(self) -> tuple[int, int]:
        """(token, vocab)."""
        n_tokens, vocab_size = self._array.shape
        return n_tokens, vocab_size

    @property
    def block_rows(self) -> int:
        """Tokens per stored chunk: a block that starts at a multiple of it reads nothing twice."""
        return int(self._array.chunks[0])

    def stored(self, start: int, stop: int) -> NDArray[np.float16]:
        """Rows as stored: log-probs up to one constant per token. Raises DamagedError."""
        block: NDArray[np.float16] = read(self._array, (slice(start, stop), slice(None)))
        return block

    def __getitem__(self, tokens: slice) -> NDArray[np.float32]:
        start, stop, stride = tokens.indices(self.shape[0])
        if stride != 1:
            raise IndexError("log-probs are read in runs of tokens: use a slice without a stride")
        block = self.stored(start, stop).astype(np.float32)
        total = np.exp(block).sum(axis=1, dtype=np.float64, keepdims=True)
        block -= np.log(total).astype(np.float32)
        return block

    def blocks(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (first token, block) in corpus order, each as `log_probs[a:b]` gives it."""
        for start in range(0, self.shape[0], self.block_rows):
            yield start, self[start : start + self.block_rows]
