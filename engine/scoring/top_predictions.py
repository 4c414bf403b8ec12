"""The most probable entries of a vocabulary, found in one pass over it."""

from __future__ import annotations

import torch

_GROUPS = 64  # of the vocabulary, whose entries are compared side by side
_FEWEST = 64 * _GROUPS  # entries for which that is worth while


def largest(log_p: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the `n` largest of each row (..., vocab), best first, and their indices.

    A vocabulary is laid out in rows of a rectangle; the largest are in columns whose largest are
    the largest. So one pass finds the columns, and what is in them is ranked.
    """
    n_columns = log_p.shape[-1] // _GROUPS
    if log_p.shape[-1] < _FEWEST or n > n_columns:
        values, places = log_p.topk(n, dim=-1)
        return values, places
    inside = n_columns * _GROUPS
    rectangle = log_p[..., :inside].view(*log_p.shape[:-1], _GROUPS, n_columns)
    columns = rectangle.amax(-2).topk(n).indices
    starts = torch.arange(0, inside, n_columns, device=log_p.device)
    rest = torch.arange(inside, log_p.shape[-1], device=log_p.device)
    candidates = torch.cat(
        [(columns[..., None] + starts).flatten(-2), rest.expand(*columns.shape[:-1], -1)], -1
    )
    values, places = log_p.gather(-1, candidates).topk(n, dim=-1)
    return values, candidates.gather(-1, places)
