"""Divergences between all pairs of seeds at once, in two ways: see docs/method.md for formulas.

`divergences` is the plain way: matrix products where there can be some, and little memory.
`divergence_sums` is for a compiler: every sum over the vocabulary is a few terms of two seeds'
log-probs, and it makes one loop over memory of them all. Nothing is centred there, as no large
terms are subtracted. Without a compiler it takes memory for each term.
"""

from __future__ import annotations

import itertools
import math
import platform
from collections.abc import Callable, Collection, Sequence

import numpy as np
import torch

from store.schema import TO_MEAN

_X86 = platform.machine().lower() in ("x86_64", "amd64")
_TINY = 1e-37  # smaller than any probability that counts; its logarithm is finite
SPARE = 3  # blocks of one seed's size that `divergences` works in

_LEAST_SUM = 2e-37  # as small as a sum of two probabilities may be for a logarithm of its bits
_RUN = 4096  # entries added one after another in float32, at most: more would round
_FEW = 256


def divergences(
    log_p: torch.Tensor,
    p: torch.Tensor,
    names: Collection[str],
    spare: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """Compute these divergences of every pair of seeds, per token.

    Args:
        log_p: (seed, token, vocab) float32 or float64, normalised natural log-probs. Overwritten.
        p: their exponentials. Overwritten.
        names: which, of `store.schema.pair_metrics.CHOICES`.
        spare: (SPARE, token, vocab), to work in.

    Returns:
        Arrays (token, seed, other_seed) of the input's dtype by name, in the units of that table;
        of the KL to the mean of all seeds (token, seed).
        Diagonals are exactly zero; `hellinger` and `tv` are at least zero, other values below it by
        no more than rounding.

    KL splits into <p_i, l_i> - <p_i, l_j>, which is one matrix product a token. Both terms are
    large and nearly equal when seeds agree. Subtracting the seeds' mean from every l first leaves
    the difference unchanged and makes the terms as small as the seeds' disagreement. Nothing is
    lost then: 20 times less error, at 5 seeds and 50,304 entries. The logarithm of m in
    Jensen-Shannon, and the square roots of `hellinger`, are centred likewise.
    """
    if spare is None:
        spare = log_p.new_empty(SPARE, *log_p.shape[1:])
    found: dict[str, torch.Tensor] = {}
    if TO_MEAN in names:
        found[TO_MEAN] = kl_to_mean(log_p, p, spare)
    if {"kl", "js"} & {*names}:
        mean = torch.mean(log_p, 0, out=spare[0])
        log_p -= mean
        products = torch.bmm(p.transpose(0, 1), log_p.permute(1, 2, 0))
        own = products.diagonal(dim1=1, dim2=2)
        found["kl"] = own[:, :, None] - products
    if "tv" in names:
        found["tv"] = _tv(p, spare[1])
    if "js" in names:
        found["js"] = _js(p, own, spare)
    if "hellinger" in names:  # last: nothing is left of p
        found["hellinger"] = _hellinger(p, spare[0])
    return {name: found[name] for name in names}


def kl_to_mean(
    log_p: torch.Tensor, p: torch.Tensor, spare: torch.Tensor | None = None
) -> torch.Tensor:
    """Return KL(p_i || m) with m the mean of all p, (token, seed), as `divergences` does.

    Neither `log_p` nor `p` is overwritten. Logarithms are subtracted before the product, which is
    then as small as the seeds' disagreement.
    """
    log_m, apart = log_p.new_empty(2, *log_p.shape[1:]) if spare is None else spare[:2]
    torch.mean(p, 0, out=log_m)
    log(log_m.clamp_min_(_TINY), log_m)
    of_seeds = [
        torch.sub(log_of_seed, log_m, out=apart).mul_(of_seed).sum(-1)
        for log_of_seed, of_seed in zip(log_p, p, strict=True)
    ]
    return torch.stack(of_seeds, -1)


def log(x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """Put logarithms of positive numbers into `out`, which may be `x`; return it.

    On x86 by NumPy: that is vector code there, where MKL's `log` takes three times as long on some
    processors.
    """
    if x.device.type != "cpu" or x.dtype != torch.float32 or not _X86:
        return torch.log(x, out=out)
    np.log(x.numpy(), out=out.numpy())
    return out


def _js(p: torch.Tensor, own: torch.Tensor, spare: torch.Tensor) -> torch.Tensor:
    """Return the mean of KL(p_i || m) and KL(p_j || m) with m = (p_i + p_j) / 2.

    `own` is <p_i, l_i>, (token, seed), with the mean of l taken from l, which is in spare[0].
    """
    mean, twice_m, log_m = spare
    mean += math.log(2)  # of twice m
    p.clamp_min_(_TINY)

    def between(i: int, j: int) -> torch.Tensor:
        torch.add(p[i], p[j], out=twice_m)
        mixed = log(twice_m, log_m).sub_(mean).mul_(twice_m).sum(-1)
        return (own[:, i] + own[:, j] - mixed) / 2

    return _symmetric(p, between)


def _tv(p: torch.Tensor, apart: torch.Tensor) -> torch.Tensor:
    """Return half the sum of |p_i - p_j|."""

    def between(i: int, j: int) -> torch.Tensor:
        torch.sub(p[i], p[j], out=apart)
        # `vector_norm` adds one by one: 1e-4 off, this 1e-7
        return torch.sum(apart.abs_(), -1).div_(2)

    return _symmetric(p, between)


def _hellinger(p: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """Return the distance of the square roots of p_i and p_j, by sqrt 2: one product a token.

    What is below some 3e-4 of the distance to the seeds' mean is rounding.
    """
    p.sqrt_()
    torch.mean(p, 0, out=mean)
    p -= mean
    products = torch.bmm(p.transpose(0, 1), p.permute(1, 2, 0))
    own = products.diagonal(dim1=1, dim2=2)
    products = (products + products.transpose(1, 2)) / 2  # symmetric to the last bit
    squared = (own[:, :, None] + own[:, None, :]) / 2 - products
    return squared.clamp_min_(0).sqrt_()


def _symmetric(p: torch.Tensor, between: Callable[[int, int], torch.Tensor]) -> torch.Tensor:
    """Return (token, seed, other_seed) with `between` of each two seeds, (token,), in both."""
    n_seeds, n_tokens = p.shape[:2]
    found = p.new_zeros(n_tokens, n_seeds, n_seeds)
    for i, j in itertools.combinations(range(n_seeds), 2):
        found[:, i, j] = found[:, j, i] = between(i, j)
    return found


# -- sums for a compiler --------------------------------------------------------------------------


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
            middle = _log((a + b).clamp_min(_LEAST_SUM)) - math.log(2)
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
