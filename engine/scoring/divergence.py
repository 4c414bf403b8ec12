"""Divergences between all pairs of seeds at once."""

from __future__ import annotations

import itertools
import math

import torch

_TINY = 1e-37  # smaller than any probability that counts; its logarithm is finite
SPARE = 3  # blocks of one seed's size that `divergences` works in


def divergences(
    log_p: torch.Tensor, p: torch.Tensor, spare: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute KL and Jensen-Shannon divergence of every pair of seeds, per token, in nats.

    Args:
        log_p: (seed, token, vocab) float32 or float64, normalised natural log-probs. Overwritten.
        p: their exponentials. Overwritten.
        spare: (SPARE, token, vocab), to work in.

    Returns:
        Arrays (token, seed, other_seed) of the input's dtype, in the order of
        `store.schema.pair_metrics.DIVERGENCES`. KL is sum_v p_i(v) (l_i(v) - l_j(v));
        Jensen-Shannon is the mean of KL(p_i || m) and KL(p_j || m) with m = (p_i + p_j) / 2
        (Lin 1991), symmetric, at most log 2. Diagonals are exactly zero; other values are below
        zero by no more than rounding.

    KL splits into <p_i, l_i> - <p_i, l_j>, which is one matrix product a token. Both terms are
    large and nearly equal when seeds agree; with the seeds' mean taken from every l first, the
    difference is the same and the terms are as small as the seeds' disagreement, so nothing is lost
    (20 times less error than without, at 5 seeds and 50,304 entries). The logarithm of m is
    centred likewise.
    """
    if spare is None:
        spare = log_p.new_empty(SPARE, *log_p.shape[1:])
    mean, twice_m, log_m = spare
    torch.mean(log_p, 0, out=mean)
    log_p -= mean
    products = torch.bmm(p.transpose(0, 1), log_p.permute(1, 2, 0))
    own = products.diagonal(dim1=1, dim2=2)
    kl = own[:, :, None] - products
    js = torch.zeros_like(kl)
    mean += math.log(2)  # of twice m
    p.clamp_min_(_TINY)
    for i, j in itertools.combinations(range(len(p)), 2):
        torch.add(p[i], p[j], out=twice_m)
        torch.log(twice_m, out=log_m)
        mixed = torch.linalg.vecdot(twice_m, log_m.sub_(mean))
        js[:, i, j] = js[:, j, i] = (own[:, i] + own[:, j] - mixed) / 2
    return kl, js
