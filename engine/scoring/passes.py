"""One pass over the corpus: log-probs of its seeds, and everything computed from them."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine.errors import CheckpointError, first_line
from engine.machine.faults import is_fault
from engine.machine.host_memory import return_unused
from engine.scoring.blocks import Found, LiveTokens, Stretch, Workspace
from engine.scoring.captured_seed import CapturedSeed
from engine.scoring.hidden_similarity import similarities
from engine.scoring.lanes import Lanes
from engine.scoring.log_prob_rows import LiveSeed, Logits, Rows
from engine.scoring.reference_kl import References
from engine.scoring.scorer import Scorer, rows_within
from engine.scoring.transfer import HostCopies
from store.schema import REFERENCES
from store.words import counted
from store.writing import PendingCheckpoint, PendingPairs

_BLOCK_BYTES = {"cpu": 2**20, "cuda": 2**27}  # float32 log-probs of one seed
# Blocks that are computed side by side on a CPU, of one product: of each lane, and of all at most.
_OF_LANE, _TOGETHER = 8, 32
_LANES_BYTES = 2**29  # of the memory that all lanes compute in, at most

Copied = Callable[[], list[dict[str, NDArray[Any]]]]  # of each live seed, and of pairs

_LEAST = -1e30  # log-probs beyond it are none: a sum of a few would be infinite in float32


class LiveError(Exception):
    """A live seed cannot be scored: its model fails, or says what is no probability."""

    def __init__(self, seed: str, text: str, token: int | None = None, *, advice: str = "") -> None:
        """`text` says what is wrong, at `token` if there is one; `advice` what to do."""
        super().__init__(text)
        self.seed, self.token, self.advice = seed, token, advice


class PairsError(Exception):
    """Stored log-probs cannot be compared."""


def _beyond_float16(seed: str, token: int) -> LiveError:
    least = f"{np.finfo(np.float16).min:,.0f}"
    text = f"log-probs are below {least}, the least that float16 holds, at token {token}"
    advice = '; set log_probs.representation = "factored", or leave this seed out'
    return LiveError(seed, text, token, advice=advice)


def _not_finite(seed: str, token: int) -> LiveError:
    return LiveError(seed, f"log-probs are NaN or infinite at token {token}", token)


@dataclass
class Live:
    """A seed that is scored in this pass, and where its results go."""

    label: str
    seed: LiveSeed | CapturedSeed
    pending: PendingCheckpoint | None  # None: nothing of it is new but its pairs
    kept: str | None  # "log_probs" or "hidden", what of it is written
    squared_rounding: float = 0.0  # sum over tokens of the squared KL error made by rounding
    committed: NDArray[np.float32] | None = None  # surprisal that this one is compared with
    difference: float = 0.0  # sum over tokens of how far it is from that, nats


class CorpusPass:
    """Goes through the corpus once, block by block."""

    def __init__(
        self,
        scorer: Scorer,
        seeds: Sequence[Live | Rows],
        pairs: PendingPairs | None,
        progress: Callable[[int], None],
        ahead: int = 0,
        references: References | None = None,
    ) -> None:
        """Take `seeds`, live or stored, in the order of the seeds of `pairs`.

        Those are also compared with `references`.

        `progress` is called with the number of tokens done and may raise to stop. `ahead` is how
        many such passes will follow, as far as is known.
        """
        self._scorer, self._pairs, self._progress = scorer, pairs, progress
        self._ahead, self._references = ahead, references
        self._sources = [seed.seed.rows if isinstance(seed, Live) else seed for seed in seeds]
        self._live = {n: seed for n, seed in enumerate(seeds) if isinstance(seed, Live)}
        self._rows = rows_within(_BLOCK_BYTES[scorer.device.type], scorer.vocab_size)
        self._lanes = Lanes(scorer.device, self._most_lanes())
        scorer.comparison.lanes = self._lanes.n
        self._copies = HostCopies(scorer.device)
        wanted = () if pairs is None else pairs.of_states
        self._similarities = similarities(self._sources, wanted, scorer.note)
        self._names: list[str] | None = None
        if pairs is not None:
            self._names = [name for name in pairs.divergences if name not in REFERENCES]
        self._shrunk = False  # and not noted yet
        self._spaces: SimpleQueue[Workspace] = SimpleQueue()  # one for each lane
        return_unused()  # of what the pass before has freed
        self._reserve()

    def _most_lanes(self) -> int:
        """Return how many lanes there is work for, and memory."""
        n_vocab, left = self._scorer.vocab_size, self._scorer.memory.left()
        room = _LANES_BYTES if left is None else min(_LANES_BYTES, left // 4)
        each = Workspace.bytes_of(len(self._sources), self._rows, n_vocab)
        return min(-(-len(self._scorer.targets) // self._rows), _TOGETHER, max(1, room // each))

    def _reserve(self) -> None:
        """Take memory for blocks, of fewer tokens when there is not enough."""
        scorer, n_seeds = self._scorer, len(self._sources)
        while True:
            self._spaces = SimpleQueue()  # gone before there are others
            try:
                for _ in range(self._lanes.n):
                    space = Workspace.of(n_seeds, self._rows, scorer.vocab_size, scorer.device)
                    self._spaces.put(space)
            except torch.OutOfMemoryError:
                if self._rows == 1:
                    raise
            else:
                return
            self._halve()

    def _halve(self) -> None:
        """Go on with half of the tokens at once."""
        self._rows, self._shrunk = self._rows // 2, True
        self._spaces = SimpleQueue()
        for source in self._sources:
            source.shrink()
        if self._references is not None:
            self._references.shrink()
        if self._scorer.device.type == "cuda":
            torch.cuda.empty_cache()

    def run(self) -> None:
        """Go through it. What was appended to is neither finished nor abandoned here.

        Raise LiveError, PairsError, DamagedError, OSError when writing failed,
        OutOfMemoryError when there is none for a single token.
        """
        before = None
        with torch.inference_mode(), self._lanes, contextlib.closing(self._computed()) as blocks:
            for start, stop, block in blocks:
                if self._shrunk:
                    self._scorer.note(
                        f"out of memory; going on with {counted(self._rows, 'token')} at once"
                    )
                    self._shrunk = False
                if before is not None:  # one behind: its copy ran while this one was computed
                    self._append(*before)
                before = start, block
                self._progress(stop)
            if before is not None:
                self._append(*before)
            for similarity in self._similarities:
                assert self._pairs is not None
                self._pairs.put_states(similarity.values())

    def _computed(self) -> Generator[tuple[int, int, Copied]]:
        """Yield blocks in corpus order: first token, the one after the last, and the results."""
        n_tokens, start = len(self._scorer.targets), 0
        while start < n_tokens:
            n_blocks = self._blocks_together()
            stop = min(start + self._rows * n_blocks, n_tokens)
            try:
                for end, found in self._blocks(start, stop):
                    yield start, end, self._copies.start(found)
                    start = end
            except torch.OutOfMemoryError:
                if self._rows == 1:
                    raise
            if start < stop:  # not in the handler: the error holds on to what was computed
                self._halve()
                self._reserve()

    def _blocks_together(self) -> int:
        if self._lanes.n == 1:
            return 1
        most = min(_OF_LANE * self._lanes.n, _TOGETHER)
        return 1 << (most.bit_length() - 1)  # a power of two, as the rows of a product are

    def _blocks(self, start: int, stop: int) -> Iterator[tuple[int, list[Found]]]:
        """Yield the end and the results of each block of tokens [start, stop)."""
        stretch = self._stretch(start, stop)
        left = deque(range(start, stop, self._rows))

        def block(start: int, *, alone: bool = False) -> tuple[int, list[Found]]:
            end, space = min(start + self._rows, stop), self._spaces.get()
            try:
                found = stretch.block(start, end, space, self._ahead_of(start), alone=alone)
            finally:
                self._spaces.put(space)
            return end, found

        while left and self._has_to_try(left[0]):
            yield self._lanes.alone(lambda start: block(start, alone=True), left.popleft())
        yield from self._lanes.map(block, left)

    def _stretch(self, start: int, stop: int) -> Stretch:
        """Run models as far as needed, and make the logits of these tokens."""
        logits: list[Logits] = []
        for seed, source in enumerate(self._sources):
            with self._blamed(seed):
                logits.append(source.logits(start, stop))
        for at in range(start, stop, self._rows):
            for similarity in self._similarities:
                similarity.take(at, min(at + self._rows, stop))
        live = [
            None
            if live.pending is None and live.committed is None
            else LiveTokens.of(seed, live.seed, live.kept, start, stop)
            for seed, live in self._live.items()
        ]
        references = None if self._references is None else self._references.logits(start, stop)
        return Stretch(
            start,
            logits,
            live,
            references,
            self._scorer.targets,
            self._scorer.log_unigram,
            self._names,
            self._scorer.comparison,
        )

    def _has_to_try(self, start: int) -> bool:
        if not self._names:
            return False
        scorer, shape = self._scorer, (len(self._sources), self._rows, self._scorer.vocab_size)
        return scorer.comparison.has_to_try(
            scorer.device, shape, self._names, self._ahead_of(start)
        )

    def _ahead_of(self, start: int) -> int | None:
        """Return how many blocks like the one from `start` follow; None: it is a smaller one."""
        n_tokens = len(self._scorer.targets)
        stop = start + self._rows
        if stop > n_tokens:  # not worth code of its own
            return None
        return (n_tokens - stop + self._ahead * n_tokens) // self._rows

    def _refuse_not_finite(self, lowest: NDArray[np.float32], start: int) -> None:
        """Raise the error for log-probs, (seed, token) the least of each, that are no such.

        Those of one seed make everything of the others NaN.
        """
        bad = ~(lowest > _LEAST)
        for seed, live in self._live.items():
            if bad[seed].any():
                raise _not_finite(live.label, start + int(bad[seed].argmax()))
        if bad.any():
            token = start + int(bad.any(0).argmax())
            raise PairsError(f"stored log-probs are NaN or infinite from token {token} on")

    @contextlib.contextmanager
    def _blamed(self, seed: int) -> Iterator[None]:
        """Turn what a live seed's model raises into an error that names the seed."""
        try:
            yield
        except BaseException as error:
            live = self._live.get(seed)
            if live is None or not is_fault(error) or isinstance(error, CheckpointError):
                raise
            raise LiveError(live.label, f"its model fails: {first_line(error)}") from error

    def _append(self, start: int, copied: Copied) -> None:
        *results, shared = copied()
        self._refuse_not_finite(shared.pop("lowest"), start)
        for live, found in zip(self._live.values(), results, strict=True):
            if live.committed is not None:
                far = found["surprisal"] - live.committed[start : start + len(found["surprisal"])]
                live.difference += float(np.abs(far).sum(dtype=np.float64))
            if live.pending is None:
                continue
            if "squared_rounding" in found:
                lost = ~np.isfinite(found["squared_rounding"])
                if lost.any():
                    raise _beyond_float16(live.label, start + int(lost.argmax()))
                live.squared_rounding += float(found["squared_rounding"].sum(dtype=np.float64))
            live.pending.append(found)
        if self._pairs is not None:
            self._pairs.append(shared)
