"""Divergences of all pairs as sums that a compiler makes one loop of.

Every sum over the vocabulary is a few terms of two seeds' log-probs, so that one loop over memory
gives all of them; nothing is centred, as no large terms are subtracted. Run as it stands, without
a compiler, it takes memory for each term: for that there is `engine.scoring.divergence`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

_TINY = 2e-37  # as small as a sum of two probabilities may be for a logarithm of its bits
_RUN = 4096  # entries added one after another in float32, at most: more would round
_FEW = 256


def divergence_sums(
    log_p: torch.Tensor,
    p: torch.Tensor,
    names: Sequence[str],
    first: torch.Tensor,
    second: torch.Tensor,
) -> list[torch.Tensor]:
    """Return sums of these divergences over runs of the vocabulary, each (token, run, pair).

    `log_p` and `p` are (seed, token, vocab) float32, `first` and `second` the seeds of each pair,
    int64 (pair,). For `kl` there are two sums, of both directions, that of `hellinger` is of its
    square.
    """
    inside, run = runs(log_p.shape[-1])
    parts = [(inside, run)] + [(log_p.shape[-1] - inside,) * 2] * (inside < log_p.shape[-1])
    found: list[list[torch.Tensor]] = []
    for (n, length), whole in zip(parts, (slice(inside), slice(inside, None)), strict=False):
        # (token, run, seed, entry): the entries of all seeds are near each other
        shape = *log_p.shape[:2], n // length, length
        l_, p_ = (x[..., whole].reshape(shape).permute(1, 2, 0, 3) for x in (log_p, p))
        terms = _terms(l_[:, :, first], l_[:, :, second], p_[:, :, first], p_[:, :, second], names)
        found.append([term.sum(-1) for term in terms])
    return [torch.cat(sums, 1) if len(sums) > 1 else sums[0] for sums in zip(*found, strict=True)]


def runs(vocab: int) -> tuple[int, int]:
    """Return how much of the vocabulary is cut into runs of one length, and that length."""
    fitting = [n for n in range(_FEW, _RUN + 1, 16) if vocab % n == 0]
    run = min(vocab, fitting[-1] if fitting else _RUN // 2)
    return vocab // run * run, run


def _terms(
    log_a: torch.Tensor, log_b: torch.Tensor, a: torch.Tensor, b: torch.Tensor, names: Sequence[str]
) -> list[torch.Tensor]:
    terms = []
    for name in names:
        if name == "kl":
            apart = log_a - log_b
            terms += [a * apart, -b * apart]
        elif name == "js":
            middle = _log((a + b).clamp_min(_TINY)) - math.log(2)
            terms.append((a * (log_a - middle) + b * (log_b - middle)) / 2)
        elif name == "tv":
            terms.append((a - b).abs() / 2)
        elif name == "hellinger":
            terms.append((a.sqrt() - b.sqrt()).square() / 2)
        else:
            raise NotImplementedError(name)
    return terms


def _log(x: torch.Tensor) -> torch.Tensor:
    """Return the logarithm of normal numbers, to 1e-7; on a CPU by few steps that are all vectors.

    x is 2^e m with m around 1, and log m = 2 artanh s with s = (m - 1) / (m + 1), |s| < 0.172. The
    functions that a compiler would call are three times slower.
    """
    if x.device.type != "cpu" or x.dtype != torch.float32:
        return x.log()
    bits = x.view(torch.int32)
    exponent = (bits - 0x3F3504F3) & -0x800000  # of x over the root of 2, in its place
    m = (bits - exponent).view(torch.float32)
    s = (m - 1) / (m + 1)
    y = s * s
    return exponent.float() * (math.log(2) / 2**23) + s * (
        2 + y * (2 / 3 + y * (2 / 5 + y * 2 / 7))
    )
