"""Everything that is computed of log-probs, a block of a few tokens of all seeds at a time.

A block is small enough to stay in the caches of a CPU between the dozen things computed of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch

from engine.scoring.captured_seed import CapturedSeed
from engine.scoring.compiled import Comparison
from engine.scoring.divergence import SPARE
from engine.scoring.log_prob_rows import LiveSeed, Logits
from engine.scoring.reference_kl import ReferenceLogits
from engine.scoring.top_predictions import largest
from store.schema import CKA, TOP

Found = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Workspace:
    """Memory that blocks are computed in, one after another, float32."""

    log_p: torch.Tensor  # (seed, token, vocab)
    p: torch.Tensor
    spare: torch.Tensor  # (SPARE, token, vocab)

    @staticmethod
    def bytes_of(n_seeds: int, n_tokens: int, n_vocab: int) -> int:
        """Return the memory that one of this size takes."""
        return 4 * (2 * n_seeds + SPARE) * n_tokens * n_vocab

    @classmethod
    def of(cls, n_seeds: int, n_tokens: int, n_vocab: int, device: torch.device) -> Self:
        """Take memory for this size; raise OutOfMemoryError when there is not enough."""
        log_p = torch.empty(n_seeds, n_tokens, n_vocab, device=device)
        spare = torch.empty(SPARE, n_tokens, n_vocab, device=device)
        return cls(log_p, torch.empty_like(log_p), spare)


@dataclass(frozen=True)
class LiveTokens:
    """What is wanted of a live seed at the tokens of a `Stretch`."""

    seed: int  # its place among the seeds of the pass
    keeps_log_probs: bool
    captured: torch.Tensor | None = None  # log-probs as training rounded them, (token, vocab)
    hidden: torch.Tensor | None = None  # states that are kept, (token, unit)

    @classmethod
    def of(
        cls, place: int, seed: LiveSeed | CapturedSeed, kept: str | None, start: int, stop: int
    ) -> Self:
        """Take what is `kept` ("log_probs" or "hidden") of tokens [start, stop) of a seed."""
        captured = hidden = None
        if kept == "log_probs" and isinstance(seed, CapturedSeed):
            captured = seed.rows.states(start, stop)
        if kept == "hidden":
            hidden = seed.rows.hidden(CKA, start, stop)
        return cls(place, kept == "log_probs", captured, hidden)


@dataclass(frozen=True)
class Stretch:
    """Consecutive tokens, and what their blocks are computed of. Threads may share it."""

    start: int  # the first token
    logits: Sequence[Logits]  # of each seed
    live: Sequence[LiveTokens | None]  # of each live seed; None: nothing of it but its pairs
    references: ReferenceLogits | None
    targets: torch.Tensor  # (token,) of the whole corpus, int64
    log_unigram: torch.Tensor  # (vocab,)
    names: Sequence[str] | None  # divergences of pairs; None: seeds are not compared
    comparison: Comparison

    def block(
        self, start: int, stop: int, work: Workspace, ahead: int | None, *, alone: bool
    ) -> list[Found]:
        """Compute everything of tokens [start, stop), on the device.

        Return results of each live seed, then those of pairs. `ahead` and `alone` are those of
        `Comparison.divergences`.
        """
        n = stop - start
        log_p, p, spare = work.log_p[:, :n], work.p[:, :n], work.spare[:, :n]
        for logits, rows in zip(self.logits, log_p, strict=True):
            logits.log_probs(start, stop, rows)
        _exp(log_p, p)
        shared = {"lowest": log_p.amin(-1)}  # NaN or infinite where anything of a row is
        results: list[Found] = []
        for live in self.live:
            found: Found = {}
            if live is not None:
                found = self._of_live(live, start, stop, log_p[live.seed], p[live.seed], spare[0])
            results.append(found)
        if self.names is not None:
            if self.references is not None:
                shared |= self.references.kl(start, stop, log_p, p, spare)
            if self.names:
                shared |= self.comparison.divergences(
                    log_p, p, self.names, spare, ahead=ahead, alone=alone
                )
        return [*results, shared]

    def _of_live(
        self,
        live: LiveTokens,
        start: int,
        stop: int,
        log_p: torch.Tensor,
        p: torch.Tensor,
        spare: torch.Tensor,
    ) -> Found:
        found = _summarise(log_p, p, self.targets[start:stop, None], self.log_unigram, spare)
        here = slice(start - self.start, stop - self.start)
        if live.captured is not None:
            found |= _as_captured(live.captured[here], p)
        elif live.keeps_log_probs:
            found |= _rounded(log_p, p, spare)
        if live.hidden is not None:
            found["hidden"] = live.hidden[here]
        if live.keeps_log_probs and self.names is not None:
            # As a later reduction would read them: what comes of a pair must not depend on
            # which of its seeds came first.
            torch.log_softmax(spare.copy_(found["log_probs"]), -1, out=log_p)
            _exp(log_p, p)
        return found


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
    kl_unigram = torch.sub(log_p, log_unigram, out=spare).mul_(p).sum(-1)
    return {
        "surprisal": -log_p.gather(-1, targets)[:, 0],
        "entropy": -torch.mul(log_p, p, out=spare).sum(-1),
        "top_id": top_id.int(),
        "top_log_prob": top_log_prob,
        "kl_unigram": kl_unigram,
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
    return {"log_probs": half, "squared_rounding": rounding.square_().sum(-1)}


def _as_captured(states: torch.Tensor, p: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return log-probs as they were rounded in training, and what that may have done to a KL.

    What was lost of each is not known: a variance of a twelfth of the square of the step between
    numbers of float16, as of any rounding.
    """
    _, exponent = torch.frexp(states)  # 2^(exponent - 1) at most
    step = torch.ldexp(p, exponent.clamp_min(-13) - 11)
    return {"log_probs": states.half(), "squared_rounding": step.square_().sum(-1) / 12}
