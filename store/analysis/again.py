"""Results per token, computed again from log-probs that are stored, without the checkpoint.

In float64, so they differ from what an engine computed only by its rounding; of log-probs that are
kept `dense` also by the rounding to float16, since an engine computes results of a checkpoint
before it rounds. Divergences are of rounded log-probs either way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.analysis.between import normal_blocks
from store.commits.ledger import RESULTS
from store.reading.study_reader import StudyReader
from store.schema import layout
from store.schema.array_types import Floats
from store.schema.variable import TOP

_TINY = 1e-300  # smaller than any probability that counts; its logarithm is finite


def results_again(
    study: StudyReader, model: str, seed: str, step: int, names: Collection[str] = RESULTS
) -> dict[str, NDArray[Any]]:
    """Return these results of a checkpoint, (token[, rank]) each, in their dtypes and units.

    Holds a block of log-probs. Raise StoreError when those are not stored, DamagedError.
    """
    n_tokens = study.n_tokens
    found = {
        name: np.empty(
            (n_tokens, TOP) if "rank" in layout.VARIABLES[name].dims else n_tokens,
            layout.VARIABLES[name].dtype,
        )
        for name in names
    }
    targets = study.corpus.token_id
    smooth = study.vocabulary.count.astype(np.float64) + 1
    unigram: Floats = np.log(smooth) - np.log(smooth.sum())
    for start, p, log_p in normal_blocks([study.log_probs(model, seed, step)]):
        part = slice(start, start + len(p))
        block = _results(p[:, 0], log_p[:, 0], targets[part], unigram)
        for name, values in found.items():
            values[part] = block[name]
    return found


@np.errstate(invalid="ignore")  # log-probs that are not finite, which an engine refuses: NaN
def _results(
    p: Floats, log_p: Floats, targets: NDArray[np.int32], unigram: Floats
) -> dict[str, NDArray[Any]]:
    """Return all results of some tokens, from (token, vocab)."""
    own = np.einsum("tv,tv->t", p, log_p)
    candidates = np.sort(np.argpartition(-log_p, TOP - 1, axis=1)[:, :TOP], axis=1)
    among = np.take_along_axis(log_p, candidates, 1)
    top = np.take_along_axis(candidates, np.argsort(-among, axis=1, kind="stable"), 1)
    return {
        "surprisal": -np.take_along_axis(log_p, targets[:, None].astype(np.intp), 1)[:, 0],
        "entropy": -own,
        "top_id": top,
        "top_log_prob": np.take_along_axis(log_p, top, 1),
        "kl_unigram": own - p @ unigram,
    }


@np.errstate(invalid="ignore")  # as for `_results`
def pair_again(
    study: StudyReader, model: str, step: int, seed: str, other: str
) -> dict[str, NDArray[np.float32]]:
    """Return the study's divergences from `seed` to `other` by name, (token,), in their units.

    Holds a block of log-probs of both. Raise StoreError when those are not stored, DamagedError.
    """
    names = [name for name in study.divergences if name in _OF_PAIRS]
    found = {name: np.empty(study.n_tokens, np.float32) for name in names}
    both = [study.log_probs(model, label, step) for label in (seed, other)]
    for start, p, log_p in normal_blocks(both):
        part = slice(start, start + len(p))
        for name, values in found.items():
            values[part] = _OF_PAIRS[name](p, log_p)
    return found


@np.errstate(invalid="ignore")  # as for `_results`
def to_mean_again(
    study: StudyReader, model: str, step: int, seeds: Sequence[str]
) -> dict[str, NDArray[np.float32]]:
    """Return the KL of each of these seeds to the mean of all by seed, (token,), nats.

    Holds a block of log-probs of all. Raise StoreError when one's are not stored, DamagedError.
    """
    found = {seed: np.empty(study.n_tokens, np.float32) for seed in seeds}
    every = [study.log_probs(model, seed, step) for seed in seeds]
    for start, p, log_p in normal_blocks(every):
        log_mean = np.log(np.maximum(p.mean(axis=1), _TINY))
        kl = np.einsum("tsv,tsv->st", p, log_p - log_mean[:, None])
        for seed, values in zip(seeds, kl, strict=True):
            found[seed][start : start + len(p)] = values
    return found


def _kl(p: Floats, log_p: Floats) -> Floats:
    return np.asarray(np.einsum("tv,tv->t", p[:, 0], log_p[:, 0] - log_p[:, 1]))


def _js(p: Floats, log_p: Floats) -> Floats:
    log_middle = np.log(np.maximum(p.mean(axis=1), _TINY))
    return np.asarray(np.einsum("tsv,tsv->t", p, log_p - log_middle[:, None]) / 2)


def _hellinger(p: Floats, log_p: Floats) -> Floats:
    apart = np.exp(log_p[:, 0] / 2) - np.exp(log_p[:, 1] / 2)
    return np.asarray(np.sqrt(np.einsum("tv,tv->t", apart, apart) / 2))


def _tv(p: Floats, log_p: Floats) -> Floats:
    return np.asarray(np.abs(p[:, 0] - p[:, 1]).sum(axis=-1) / 2)


_OF_PAIRS: dict[str, Callable[[Floats, Floats], Floats]] = {  # of (token, both seeds, vocab)
    "kl": _kl,
    "js": _js,
    "hellinger": _hellinger,
    "tv": _tv,
}
