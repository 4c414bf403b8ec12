"""KL between any two stored checkpoints: steps of one seed, models of one study, or seeds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from store.log_probs import LogProbs
    from store.reader import Study

Floats = NDArray[np.float64]
Checkpoint = tuple[str, str, int]  # model, seed, step

_AT_ONCE = 4  # checkpoints of each side that are read side by side; factored ones are held whole
_CELLS = 2**20  # log-probs in float64 at once: 8 MiB, a few times


def kl_between(study: Study, a: Checkpoint, b: Checkpoint) -> Floats:
    """KL from `a` to `b`, `sum_v p_a(v) (log p_a(v) - log p_b(v))`, at each token: (token,), nats.

    In float64 throughout, so as exact as what is stored. Memory holds a block of tokens of both,
    and the output embeddings of those that are factored.

    Raises StoreError when log-probs of one are not stored, DamagedError when they cannot be read.
    """
    kl = np.empty(study.n_tokens)
    for start, block in _blocks([study.log_probs(*a)], [study.log_probs(*b)]):
        kl[start : start + len(block)] = block[:, 0, 0]
    return kl


def mean_kl_between(
    study: Study,
    a: Sequence[Checkpoint],
    b: Sequence[Checkpoint],
    progress: Callable[[float], None] = lambda share: None,
) -> Floats:
    """KL from each of `a` to each of `b`, mean over tokens: (a, b), nats.

    `progress` is told the share that is done, now and then. Raises StoreError before anything is
    read when log-probs of one are not stored, DamagedError.
    """
    for checkpoint in (*a, *b):
        study.log_probs(*checkpoint)
    total, done = np.zeros((len(a), len(b))), 0
    for rows, columns in itertools.product(_few(len(a)), _few(len(b))):
        of_a, of_b = ([study.log_probs(*c) for c in side] for side in (a[rows], b[columns]))
        for _, block in _blocks(of_a, of_b):
            total[rows, columns] += block.sum(axis=0)
            done += block.size
            progress(done / (total.size * study.n_tokens))
    return total / study.n_tokens


def _few(n: int) -> list[slice]:
    return [slice(start, start + _AT_ONCE) for start in range(0, n, _AT_ONCE)]


def _blocks(a: list[LogProbs], b: list[LogProbs]) -> Iterator[tuple[int, Floats]]:
    """Yield (first token, KL of each pair), (token, a, b), in corpus order."""
    n_tokens, vocab_size = a[0].shape
    rows = max(1, _CELLS // ((len(a) + len(b)) * vocab_size))
    for start in range(0, n_tokens, a[0].block_rows):
        stop = min(start + a[0].block_rows, n_tokens)
        of_a, of_b = ([log_probs.stored(start, stop) for log_probs in side] for side in (a, b))
        for first in range(0, stop - start, rows):
            part = slice(first, first + rows)
            yield start + first, _kl(_normal(of_a, part), _normal(of_b, part))


def _normal(stored: list[NDArray[Any]], part: slice) -> Floats:
    """Log-probs of some tokens, (token, checkpoint, vocab), of what is kept up to a constant."""
    log_p = np.stack([block[part] for block in stored], axis=1).astype(np.float64)
    log_p -= log_p.max(axis=-1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(axis=-1, keepdims=True))
    return log_p


def _kl(log_a: Floats, log_b: Floats) -> Floats:
    """<p_a, l_a> - <p_a, l_b>: in float64 what cancels is far below any KL that is looked at."""
    p = np.exp(log_a)
    own = np.einsum("tav,tav->ta", p, log_a)
    return np.asarray(own[:, :, None] - p @ log_b.transpose(0, 2, 1))
