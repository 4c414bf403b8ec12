"""One pass over the corpus: log-probs of its seeds, and everything computed from them.

Blocks are small enough to stay in the caches of a CPU between the dozen things computed of them.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine.errors import CheckpointError, first_line
from engine.machine.faults import is_fault
from engine.machine.host_memory import return_unused
from engine.scoring.captured_seed import CapturedSeed
from engine.scoring.divergence import SPARE
from engine.scoring.hidden_similarity import similarities
from engine.scoring.log_prob_rows import LiveSeed, Rows
from engine.scoring.reference_kl import References
from engine.scoring.scorer import Scorer, rows_within
from engine.scoring.top_predictions import largest
from engine.scoring.transfer import HostCopies
from store.schema import CKA, REFERENCES, TOP
from store.words import counted
from store.writing import PendingCheckpoint, PendingPairs

_BLOCK_BYTES = {"cpu": 2**20, "cuda": 2**27}  # float32 log-probs of one seed

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
        self._copies = HostCopies(scorer.device)
        wanted = () if pairs is None else pairs.of_states
        self._similarities = similarities(self._sources, wanted, scorer.note)
        self._shrunk = False  # and not noted yet
        self._log_p = self._p = self._spare = torch.empty(0)
        return_unused()  # of what the pass before has freed
        self._reserve()

    def _reserve(self) -> None:
        """Take memory for a block, of fewer tokens when there is not enough."""
        while True:
            shape = len(self._sources), self._rows, self._scorer.vocab_size
            try:
                self._log_p = torch.empty(shape, device=self._scorer.device)
                self._p = torch.empty_like(self._log_p)
                self._spare = torch.empty((SPARE, *shape[1:]), device=self._scorer.device)
            except torch.OutOfMemoryError:
                if self._rows == 1:
                    raise
            else:
                return
            self._halve()

    def _halve(self) -> None:
        """Go on with half of the tokens at once."""
        self._rows, self._shrunk = self._rows // 2, True
        self._log_p = self._p = self._spare = torch.empty(0)  # gone before there are others
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
        n_tokens = len(self._scorer.targets)
        start, before = 0, None
        with torch.inference_mode():
            while start < n_tokens:
                stop = min(start + self._rows, n_tokens)
                try:
                    block = self._copies.start(self._block(start, stop))
                except torch.OutOfMemoryError:
                    if self._rows == 1:
                        raise
                    block = None
                if block is None:  # not in the handler: the error holds on to what was computed
                    self._halve()
                    self._reserve()
                    continue
                if self._shrunk:
                    self._scorer.note(
                        f"out of memory; going on with {counted(self._rows, 'token')} at once"
                    )
                    self._shrunk = False
                if before is not None:  # one behind: its copy ran while this one was computed
                    self._append(*before)
                before, start = (start, block), stop
                self._progress(stop)
            if before is not None:
                self._append(*before)
            for similarity in self._similarities:
                assert self._pairs is not None
                self._pairs.put_states(similarity.values())

    def _block(self, start: int, stop: int) -> list[dict[str, torch.Tensor]]:
        """Compute everything of these tokens, on the device.

        Return a dict of results for each live seed, empty where none is new, then that of pairs.
        """
        n = stop - start
        log_p, p, spare = self._log_p[:, :n], self._p[:, :n], self._spare[:, :n]
        for seed, source in enumerate(self._sources):
            with self._blamed(seed):
                source.fill(start, stop, log_p[seed])
        for similarity in self._similarities:
            similarity.take(start, stop)
        _exp(log_p, p)
        targets = self._scorer.targets[start:stop, None]
        shared = {"lowest": log_p.amin(-1)}  # NaN or infinite where anything of a row is
        results: list[dict[str, torch.Tensor]] = []
        for seed, live in self._live.items():
            found: dict[str, torch.Tensor] = {}
            if live.pending is not None or live.committed is not None:
                found = _summarise(
                    log_p[seed], p[seed], targets, self._scorer.log_unigram, spare[0]
                )
                if live.kept == "log_probs" and isinstance(live.seed, CapturedSeed):
                    found |= _as_captured(live.seed.rows.states(start, stop), p[seed])
                elif live.kept == "log_probs":
                    found |= _rounded(log_p[seed], p[seed], spare[0])
                if live.kept == "hidden":
                    found["hidden"] = live.seed.rows.hidden(CKA, start, stop)
                if live.kept == "log_probs" and self._pairs is not None:
                    # As a later reduction would read them: what comes of a pair must not depend on
                    # which of its seeds came first.
                    torch.log_softmax(spare[0].copy_(found["log_probs"]), -1, out=log_p[seed])
                    _exp(log_p[seed], p[seed])
            results.append(found)
        if self._pairs is not None:
            shared |= self._compare(stop, log_p, p, spare)
        return [*results, shared]

    def _compare(
        self, stop: int, log_p: torch.Tensor, p: torch.Tensor, spare: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return divergences of a block that ends at `stop`; what it works on is overwritten."""
        assert self._pairs is not None
        ahead = None  # the last one is smaller: not worth code of its own
        if log_p.shape[1] == self._rows:
            n_tokens = len(self._scorer.targets)
            ahead = (n_tokens - stop + self._ahead * n_tokens) // self._rows
        names = [name for name in self._pairs.divergences if name not in REFERENCES]
        found = {}
        if self._references is not None:
            found = self._references.kl(stop - log_p.shape[1], stop, log_p, p, spare)
        if names:
            found |= self._scorer.comparison.divergences(log_p, p, names, spare, ahead=ahead)
        return found

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

    def _append(self, start: int, copied: Callable[[], list[dict[str, NDArray[Any]]]]) -> None:
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


def _summarise(
    log_p: torch.Tensor,
    p: torch.Tensor,
    targets: torch.Tensor,
    log_unigram: torch.Tensor,
    spare: torch.Tensor,
) -> dict[str, torch.Tensor]:
    """Return results per token of a block of one seed's log-probs, (token, vocab) float32.

    None depends on which other seeds are in the pass, to the last bit.
    """
    top_log_prob, top_id = largest(log_p, TOP)
    # Subtracted before the product, as in a KL of two seeds: near the unigram distribution
    # the difference of two sums would be mostly rounding.
    against = torch.sub(log_p, log_unigram, out=spare)
    return {
        "surprisal": -log_p.gather(-1, targets)[:, 0],
        "entropy": -torch.linalg.vecdot(p, log_p),
        "top_id": top_id.int(),
        "top_log_prob": top_log_prob,
        "kl_unigram": torch.linalg.vecdot(p, against),
    }


def _exp(log_p: torch.Tensor, out: torch.Tensor) -> None:
    """Put exponentials into `out`.

    On a CPU by powers of two: that is vector code everywhere, where MKL's `exp` takes twice as long
    on some processors. What is rounded once more is less than the log-prob's own rounding.
    """
    if log_p.device.type == "cpu":
        torch.mul(log_p, 1 / math.log(2), out=out).exp2_()
    else:
        torch.exp(log_p, out=out)


def _rounded(log_p: torch.Tensor, p: torch.Tensor, spare: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return log-probs as they are stored, and what that does to a KL.

    A reader uses rows rounded to float16 and renormalised. To first order the rounding d of one
    seed's row moves a KL by sum_v p_v d_v with independent d_v.
    """
    half = log_p.half()
    rounding = spare.copy_(half).sub_(log_p).mul_(p)
    return {"log_probs": half, "squared_rounding": torch.linalg.vecdot(rounding, rounding)}


def _as_captured(states: torch.Tensor, p: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return log-probs as they were rounded in training, and what that may have done to a KL.

    What was lost of each is not known: a variance of a twelfth of the square of the step between
    numbers of float16, as of any rounding.
    """
    _, exponent = torch.frexp(states)  # 2^(exponent - 1) at most
    step = torch.ldexp(p, exponent.clamp_min(-13) - 11)
    return {"log_probs": states.half(), "squared_rounding": torch.linalg.vecdot(step, step) / 12}
