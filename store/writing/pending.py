"""Results on their way into a study: written in whole chunks as they come, committed at the end.

Both writers take blocks of tokens in corpus order, keep at most a few chunks in memory and sum in
float64. What `finish` returns is plain data that can cross processes; nothing is visible to readers
before `StudyWriter.commit` has taken it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.commits.ledger import Record
from store.commits.pair_sums import Pair
from store.reading.log_probs import REPRESENTATIONS
from store.schema.layout import VARIABLES
from store.schema.output_layer import Representation
from store.statistics.means import MEAN_OF
from store.storage.arrays import Array, writer_of
from store.storage.side_by_side import side_by_side

_IN_FLIGHT = 4  # chunks being compressed and written before the producer has to wait
_LARGE_IN_FLIGHT = 1  # of those that are large
_LARGE = 2**22  # bytes


class TokenBuffer:
    """Joins runs of tokens (axis 0) into whole chunks, so that no chunk is ever written twice.

    Its memory is taken once: chunks of some megabytes that are made again in several threads stay
    with the allocator, at several times what is in use.
    """

    def __init__(
        self, rows: int, write: Callable[[int, NDArray[Any]], None], pool: ThreadPoolExecutor
    ) -> None:
        self._rows, self._write, self._pool = rows, write, pool
        self._chunk: NDArray[Any] | None = None  # being filled
        self._held = 0
        self._pending: list[tuple[Future[None], NDArray[Any]]] = []
        self.n_tokens = 0  # passed on so far

    def append(self, values: NDArray[Any]) -> None:
        """Add the next tokens; waits while too many chunks are still being written."""
        while len(values):
            if self._chunk is None:
                self._chunk = self._room(values)
            n = min(len(values), self._rows - self._held)
            self._chunk[self._held : self._held + n] = values[:n]
            self._held += n
            values = values[n:]
            if self._held == self._rows:
                self._submit()

    def _room(self, like: NDArray[Any]) -> NDArray[Any]:
        """Return memory for a chunk: that of the one written first, if there are enough."""
        shape = self._rows, *like.shape[1:]
        n_bytes = like.itemsize * math.prod(shape)
        if len(self._pending) < (_IN_FLIGHT if n_bytes < _LARGE else _LARGE_IN_FLIGHT):
            return np.empty(shape, like.dtype)
        writing, chunk = self._pending.pop(0)
        writing.result()
        return chunk

    def _submit(self) -> None:
        if self._chunk is None:
            return
        chunk, self._chunk = self._chunk, None
        writing = self._pool.submit(self._write, self.n_tokens, chunk[: self._held])
        self._pending.append((writing, chunk))
        self.n_tokens += self._held
        self._held = 0

    def finish(self) -> None:
        """Pass the rest on and wait. Raise what writing raised."""
        self._submit()
        pending, self._pending = self._pending, []
        for writing, _ in pending:
            writing.result()

    def abandon(self) -> None:
        """Wait for what is being written and forget the rest."""
        pending, self._pending = self._pending, []
        for writing, _ in pending:
            writing.exception()


@dataclass(frozen=True)
class Flushed:
    """The parts of a checkpoint that are on disk for good."""

    n_bytes: int  # of log-probs
    cells: str  # checksums of the chunks of its results
    log_prob_cells: Mapping[str, str]  # of its log-probs, by array


@dataclass(frozen=True)
class CheckpointResult:
    """One checkpoint, written and flushed but not committed."""

    seed: str
    means: Mapping[str, float]  # by array, nats; empty when its results had been committed before
    log_probs: str | None  # how they were kept
    n_bytes: int  # of log-probs on disk
    details: Record = field(default_factory=dict)  # further fields of its record
    cells: str = ""  # checksums of the chunks of `RESULTS`; empty when those had been committed
    log_prob_cells: Mapping[str, str] = field(default_factory=dict)  # the same, by array


@dataclass(frozen=True)
class PairsResult:
    """The divergences of one step, written and flushed but not committed."""

    seeds: tuple[str, ...]  # all of them: some pairs may have been committed before
    means: tuple[tuple[str, str, Mapping[str, float]], ...]  # (seed, other, by array, nats)
    cells: Mapping[str, str] = field(default_factory=dict)  # by array: checksums, pair by pair
    of_set: Mapping[str, str] = field(default_factory=dict)  # the same, seed by seed
    reference: str | None = None  # fingerprint of the reference model, if one took part


class PendingCheckpoint:
    """One checkpoint's log-probs and per-token results while it is being scored."""

    def __init__(
        self,
        seed: str,
        arrays: Mapping[str, Array],
        index: tuple[int, int],
        log_probs: Mapping[str, Array],
        representation: Representation,
        pool: ThreadPoolExecutor,
        flush: Callable[[], Flushed],
    ) -> None:
        """Take `flush`, which makes all permanent and returns what it comes to."""
        self._seed, self._representation, self._flush = seed, representation, flush
        self._buffers = {
            name: TokenBuffer(array.chunks[2], _writer(array, index), pool)
            for name, array in arrays.items()
        }
        self._sums = {
            name: 0.0
            for name in MEAN_OF.values()
            if name in arrays  # none when results are there and only log-probs come back
        }
        for name, array in log_probs.items():
            self._buffers[name] = TokenBuffer(array.chunks[0], _writer(array, ()), pool)

    def append(self, block: Mapping[str, NDArray[Any]]) -> None:
        """Add tokens: what is kept of log-probs, and every per-token result, (n, ...) each."""
        for name, buffer in self._buffers.items():
            buffer.append(block[name])
        for name in self._sums:
            self._sums[name] += float(block[name].sum(dtype=np.float64))

    @property
    def n_tokens(self) -> int:
        """Return the number of tokens that were written."""
        return max((buffer.n_tokens for buffer in self._buffers.values()), default=0)

    def finish(self, floors: Mapping[str, float], details: Record) -> CheckpointResult:
        """Write and flush the rest. `floors` are the values of `statistics.means.RECORDED`, nats.

        Raise OSError when writing failed.
        """
        for buffer in self._buffers.values():
            buffer.finish()
        means: dict[str, float] = {}
        if self._sums:
            per_token = {name: total / self.n_tokens for name, total in self._sums.items()}
            means = {name: per_token[of] for name, of in MEAN_OF.items() if of in per_token}
            means |= floors
        kept = self._representation if REPRESENTATIONS[self._representation] else None
        details = {"n_tokens": self.n_tokens, **floors, **details}
        flushed = self._flush()
        return CheckpointResult(
            self._seed, means, kept, flushed.n_bytes, details, flushed.cells, flushed.log_prob_cells
        )

    def abandon(self) -> None:
        """Give up: wait for writes under way, leave the rest unwritten."""
        for buffer in self._buffers.values():
            buffer.abandon()


class PendingPairs:
    """Divergences of the pairs of seeds that one reduction adds, while they are computed."""

    def __init__(
        self,
        arrays: Mapping[str, Array],
        step_index: int,
        seeds: Mapping[str, int],
        new: NDArray[np.bool_],
        pool: ThreadPoolExecutor,
        flush: Callable[[Iterable[Pair]], Mapping[str, str]],
        of_states: Iterable[str] = (),
        reference: str | None = None,
    ) -> None:
        """Take the seeds of the reduction, each with its index on the axes of the arrays.

        `of_states` are the arrays of what is made of hidden states.

        `flush` makes all permanent and returns checksums by array: of these pairs, and of each
        seed where values depend on all of them. `reference` is the fingerprint of the reference
        model, where one takes part.
        """
        self._reference = reference
        self._step_index, self._seeds, self._flush = step_index, seeds, flush
        self._labels, self._index = list(seeds), list(seeds.values())
        self._pairs = np.argwhere(new)  # positions in the reduction, not on the array's axes
        self._buffers = {
            name: TokenBuffer(array.chunks[3], self._writer(name, array), pool)
            for name, array in arrays.items()
        }
        self._sums = {name: np.zeros(new.shape) for name in arrays if not VARIABLES[name].by_set}
        self._of_states = {name: np.full(new.shape, np.nan) for name in of_states}

    @property
    def divergences(self) -> tuple[str, ...]:
        """Return which of them the study has: what a block must hold."""
        return tuple(self._buffers)

    @property
    def of_states(self) -> tuple[str, ...]:
        """Return the arrays of what is made of hidden states, as far as the study has them."""
        return tuple(self._of_states)

    def put_states(self, values: Mapping[str, NDArray[np.float64]]) -> None:
        """Take what some hidden states of all tokens come to, (seed, other_seed) by array."""
        for name, of in values.items():
            self._of_states[name][...] = of

    def append(self, block: Mapping[str, NDArray[np.float32]]) -> None:
        """Add the next tokens: each divergence by name, (n, seed, other_seed) float32, nats.

        The KL to the mean of all is (n, seed).
        """
        for name, buffer in self._buffers.items():
            buffer.append(block[name])
            if name in self._sums:
                self._sums[name] += block[name].sum(axis=0, dtype=np.float64)

    def _writer(self, name: str, array: Array) -> Callable[[int, NDArray[Any]], None]:
        put, variable = writer_of(array), VARIABLES[name]

        def write(start: int, chunk: NDArray[np.float32]) -> None:
            tokens = slice(start, start + len(chunk))

            def write_pair(pair: NDArray[np.intp]) -> None:
                i, j = pair
                cell = self._index[i], self._index[j]
                if cell == variable.seed_cell(*cell):  # else the other order is kept
                    put((self._step_index, *cell, tokens), chunk[:, i, j])

            def write_seed(i: int) -> None:
                cell = self._index[i], len(self._index) - 1
                put((self._step_index, *cell, tokens), chunk[:, i])

            if variable.by_set:
                side_by_side(write_seed, range(len(self._index)))
            else:
                side_by_side(write_pair, self._pairs)

        return write

    def finish(self) -> PairsResult:
        """Write and flush the rest. Raise OSError when writing failed."""
        for buffer in self._buffers.values():
            buffer.finish()
        n_tokens = max((buffer.n_tokens for buffer in self._buffers.values()), default=0)
        means = tuple(
            (
                self._labels[i],
                self._labels[j],
                {
                    name: float(self._sums[of][i, j] / n_tokens)
                    for name, of in MEAN_OF.items()
                    if of in self._sums
                }
                | {name: float(of[i, j]) for name, of in self._of_states.items()},
            )
            for i, j in self._pairs
        )
        flushed = self._flush((i, j) for i, j, _ in means)
        cells = {name: of for name, of in flushed.items() if not VARIABLES[name].by_set}
        of_set = {name: of for name, of in flushed.items() if VARIABLES[name].by_set}
        return PairsResult(tuple(self._labels), means, cells, of_set, self._reference)

    def abandon(self) -> None:
        """Give up: wait for writes under way, leave the rest unwritten."""
        for buffer in self._buffers.values():
            buffer.abandon()


def _writer(array: Array, index: tuple[int, ...]) -> Callable[[int, NDArray[Any]], None]:
    put = writer_of(array)

    def write(start: int, chunk: NDArray[Any]) -> None:
        put((*index, slice(start, start + len(chunk))), chunk)

    return write
