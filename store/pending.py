"""Results on their way into a study: written in whole chunks as they come, committed at the end.

Both writers take blocks of tokens in corpus order, keep at most a few chunks in memory and sum in
float64. Nothing is visible to readers before `StudyWriter` commits it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.arrays import Array
from store.log_probs import Representation

_IN_FLIGHT = 4  # chunks being compressed and written before the producer has to wait


class TokenBuffer:
    """Joins runs of tokens (axis 0) into whole chunks, so that no chunk is ever written twice."""

    def __init__(
        self, rows: int, write: Callable[[int, NDArray[Any]], None], pool: ThreadPoolExecutor
    ) -> None:
        self._rows, self._write, self._pool = rows, write, pool
        self._parts: list[NDArray[Any]] = []
        self._held = 0
        self._pending: list[Future[None]] = []
        self.n_tokens = 0  # passed on so far

    def append(self, values: NDArray[Any]) -> None:
        """Add the next tokens; waits while too many chunks are still being written."""
        while self._held + len(values) >= self._rows:
            n = self._rows - self._held
            self._parts.append(values[:n])
            self._held += n
            self._submit()
            values = values[n:]
        if len(values):
            self._parts.append(values.copy())  # the producer may reuse its block
            self._held += len(values)

    def _submit(self) -> None:
        if not self._held:
            return
        while len(self._pending) >= _IN_FLIGHT:
            self._pending.pop(0).result()
        chunk = np.concatenate(self._parts)
        self._pending.append(self._pool.submit(self._write, self.n_tokens, chunk))
        self.n_tokens += self._held
        self._parts, self._held = [], 0

    def finish(self) -> None:
        """Pass the rest on and wait. Raises what writing raised."""
        self._submit()
        pending, self._pending = self._pending, []
        for future in pending:
            future.result()

    def abandon(self) -> None:
        """Wait for what is being written and forget the rest."""
        pending, self._pending = self._pending, []
        for future in pending:
            future.exception()


class PendingCheckpoint:
    """One checkpoint's log-probs and per-token results while it is being scored."""

    def __init__(
        self,
        arrays: Mapping[str, Array],
        index: tuple[int, int],
        log_probs: Mapping[str, Array],
        path: str | None,
        representation: Representation,
        pool: ThreadPoolExecutor,
    ) -> None:
        self.path, self.representation = path, representation  # of the log-probs
        self._buffers = {
            name: TokenBuffer(array.chunks[2], _writer(array, index), pool)
            for name, array in arrays.items()
        }
        self._sums = {name: 0.0 for name in ("surprisal", "entropy") if name in arrays}
        cell = "/".join(map(str, index))
        self.folders = [f"{array.path}/c/{cell}" for array in arrays.values()]  # it writes these
        if path is not None:
            self.folders.append(path)
        for name, array in log_probs.items():
            self._buffers[name] = TokenBuffer(array.chunks[0], _writer(array, ()), pool)

    def append(self, block: Mapping[str, NDArray[Any]]) -> None:
        """Add tokens: what is kept of log-probs, and every per-token result, (n, ...) each."""
        for name, buffer in self._buffers.items():
            buffer.append(block[name])
        for name in self._sums:
            self._sums[name] += float(block[name].sum(dtype=np.float64))

    def finish(self) -> tuple[int, dict[str, float]]:
        """Write the rest; return the number of tokens and the means over them, in nats.

        No means when the results had been committed before. Raises OSError when writing failed.
        """
        for buffer in self._buffers.values():
            buffer.finish()
        (n_tokens,) = {buffer.n_tokens for buffer in self._buffers.values()}
        return n_tokens, {name: total / n_tokens for name, total in self._sums.items()}

    def abandon(self) -> None:
        """Give up: wait for writes under way, leave the rest unwritten."""
        for buffer in self._buffers.values():
            buffer.abandon()


class PendingPairs:
    """KL of the pairs of seeds that one reduction adds, while it is being computed."""

    def __init__(
        self,
        kl: Array,
        step_index: int,
        seed_index: Sequence[int],
        new: NDArray[np.bool_],
        pool: ThreadPoolExecutor,
    ) -> None:
        self._kl, self._step_index, self._seed_index = kl, step_index, seed_index
        self._pairs = np.argwhere(new)  # positions in the reduction, not on the array's axes
        self.folders = [  # it writes these
            f"{kl.path}/c/{step_index}/{seed_index[i]}/{seed_index[j]}" for i, j in self._pairs
        ]
        self._pool = pool
        self._buffer = TokenBuffer(kl.chunks[3], self._write, pool)
        self._sum = np.zeros(new.shape)

    def append(self, kl: NDArray[np.float32]) -> None:
        """Add the next tokens, (n, seed, other_seed) float32, nats."""
        self._buffer.append(kl)
        self._sum += kl.sum(axis=0, dtype=np.float64)

    def _write(self, start: int, chunk: NDArray[np.float32]) -> None:
        tokens = slice(start, start + len(chunk))
        for i, j in self._pairs:
            where = (self._step_index, self._seed_index[i], self._seed_index[j], tokens)
            self._kl[where] = chunk[:, i, j]

    def finish(self) -> list[tuple[int, int, float]]:
        """Write the rest; return (index of seed, of other_seed, mean KL in nats) of each new pair.

        Raises OSError when writing failed.
        """
        self._buffer.finish()
        n_tokens = self._buffer.n_tokens
        return [
            (self._seed_index[i], self._seed_index[j], float(self._sum[i, j] / n_tokens))
            for i, j in self._pairs
        ]

    def abandon(self) -> None:
        """Give up: wait for writes under way, leave the rest unwritten."""
        self._buffer.abandon()


def _writer(array: Array, index: tuple[int, ...]) -> Callable[[int, NDArray[Any]], None]:
    def write(start: int, chunk: NDArray[Any]) -> None:
        where: tuple[int | slice, ...] = (*index, slice(start, start + len(chunk)))
        array[where] = chunk

    return write


def mean_over_pairs(mean_kl: NDArray[np.float64], index: Sequence[int]) -> float:
    """Mean of one step's `mean_kl` (seed, other_seed) over the ordered pairs among these seeds."""
    chosen = sorted(index)
    means = mean_kl[np.ix_(chosen, chosen)]
    return float(means[~np.eye(len(chosen), dtype=bool)].mean())
