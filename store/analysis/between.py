"""KL between any two stored checkpoints: steps of one seed, models of one study, or seeds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.reading.log_probs import LogProbs
from store.reading.study_reader import StudyReader
from store.schema.array_types import Floats
from store.schema.keys import CheckpointName

_HELD = 2**30  # bytes that checkpoints which are read side by side may hold
_CELLS = 2**20  # log-probs in float64 at once: 8 MiB, a few times


def kl_between(study: StudyReader, a: CheckpointName, b: CheckpointName) -> Floats:
    """Return the KL from `a` to `b` at each token: (token,), nats.

    `sum_v p_a(v) (log p_a(v) - log p_b(v))`, in float64 throughout, so as exact as what is stored.
    Memory holds a block of tokens of both, and the output embeddings of those that are factored.

    Raise StoreError when log-probs of one are not stored, DamagedError when they cannot be read.
    """
    kl = np.empty(study.n_tokens)
    for start, p, log_p in normal_blocks([study.log_probs(*a), study.log_probs(*b)]):
        kl[start : start + len(p)] = _kl(p, log_p, slice(0, 1), slice(1, 2))[:, 0, 0]
    return kl


def mean_kl_between(
    study: StudyReader,
    a: Sequence[CheckpointName],
    b: Sequence[CheckpointName],
    progress: Callable[[float], None] = lambda share: None,
) -> Floats:
    """Return the KL from each of `a` to each of `b`, mean over tokens: (a, b), nats.

    `progress` is called now and then with the share that is done. Raise StoreError before anything
    is read when log-probs of one are not stored, DamagedError.
    """
    held = max(study.log_probs(*checkpoint).held_bytes for checkpoint in (*a, *b))
    at_once = max(1, _HELD // held)
    square = list(a) == list(b) and len(a) <= at_once  # each is read once, for both sides
    n = len(a) if square else max(1, at_once // 2)
    total, done = np.zeros((len(a), len(b))), 0
    for rows, columns in itertools.product(_runs(len(a), n), _runs(len(b), n)):
        few = a[rows] if square else [*a[rows], *b[columns]]
        first, second = slice(len(a[rows])), slice(0 if square else len(a[rows]), None)
        for _, p, log_p in normal_blocks([study.log_probs(*checkpoint) for checkpoint in few]):
            kl = _kl(p, log_p, first, second)
            total[rows, columns] += kl.sum(axis=0)
            done += kl.size
            progress(done / (total.size * study.n_tokens))
    return total / study.n_tokens


def _runs(length: int, n: int) -> list[slice]:
    return [slice(start, start + n) for start in range(0, length, n)]


def normal_blocks(checkpoints: list[LogProbs]) -> Iterator[tuple[int, Floats, Floats]]:
    """Yield (first token, p, log p), (token, checkpoint, vocab) each, in corpus order."""
    n_tokens, vocab_size = checkpoints[0].shape
    block_rows, rows = checkpoints[0].block_rows, max(1, _CELLS // (len(checkpoints) * vocab_size))
    for start in range(0, n_tokens, block_rows):
        stop = min(start + block_rows, n_tokens)
        stored = [log_probs.stored(start, stop) for log_probs in checkpoints]
        for first in range(0, stop - start, rows):
            yield start + first, *_normal(stored, slice(first, first + rows))


@np.errstate(invalid="ignore", divide="ignore")  # as for `_kl`
def _normal(stored: list[NDArray[Any]], part: slice) -> tuple[Floats, Floats]:
    """Return probabilities and log-probs of some tokens; they are kept up to a constant."""
    log_p = np.stack([block[part] for block in stored], axis=1, dtype=np.float64)
    log_p -= log_p.max(axis=-1, keepdims=True)
    p = np.exp(log_p)
    total = p.sum(axis=-1, keepdims=True)
    p /= total
    log_p -= np.log(total)
    return p, log_p


@np.errstate(invalid="ignore")  # log-probs that are not finite, which an engine refuses: NaN
def _kl(p: Floats, log_p: Floats, a: slice, b: slice) -> Floats:
    """Return <p_a, l_a> - <p_a, l_b>: in float64 what cancels is far below any KL of interest."""
    own = np.einsum("tav,tav->ta", p[:, a], log_p[:, a])
    return np.asarray(own[:, :, None] - p[:, a] @ log_p[:, b].transpose(0, 2, 1))
