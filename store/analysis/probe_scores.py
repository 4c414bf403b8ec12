"""Scores of a study's probes at a step: computed on request, from the checkpoints' answers.

`blimp` and `icl` are pure functions of arrays; the others read a study (docs/probes.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.commits.ledger import ModelLedger
from store.errors import StoreError
from store.reading.study_reader import StudyReader
from store.schema.array_types import Floats
from store.schema.probe import BAD, GOOD, Probe
from store.schema.seed_pairs import ordered_pairs, pair_mean
from store.statistics.intervals import Estimate, mean_interval, seed_interval

Row = dict[str, Any]

ALL_TASKS = "all"  # the first of the tasks: all items

KL_MEASURES: Mapping[str, str] = {
    "kl_of_means": "KL of the means: of the seeds' mean distributions over a task's items",
    "mean_of_kl": "mean of the items' KL",
}
"""Measures of the KL between seeds on minimal pairs, the paper's first; fields of `Blimp`."""


@dataclass(frozen=True)
class Blimp:
    """Minimal pairs by task; the first is `all`, where each item counts once."""

    seeds: tuple[str, ...]
    tasks: tuple[str, ...]
    terms: tuple[str, ...]  # (task,) the linguistic term of each; empty for `all`
    n: NDArray[np.int64]  # (task,) items
    accuracy: Floats  # (seed, task) share of items whose good sentence is more probable
    probability: Floats  # (seed, task) mean probability of the good sentence, given either
    kl: Floats  # (seed, other_seed, task) mean of the items' KL, nats; 0 on the diagonal
    kl_between_means: Floats  # (seed, other_seed, task) KL of mean distributions; `all`: of tasks
    mean_of_kl: Estimate  # (task,) `kl`, mean over ordered pairs; 95 % interval over draws of seeds
    kl_of_means: Estimate  # (task,) the same of `kl_between_means`, the paper's

    def rows(self) -> Iterator[Row]:
        """Yield what the table `probes` has of it, in long form: values by the names of columns."""
        for at, (task, term) in enumerate(zip(self.tasks, self.terms, strict=True)):
            of = {"label": task, "term": term or None, "n": int(self.n[at])}
            for row, seed in enumerate(self.seeds):
                for measure in ("accuracy", "probability"):
                    value = float(getattr(self, measure)[row, at])
                    yield {**of, "seed": seed, "measure": measure, "value": value}
            for measure in KL_MEASURES if len(self.seeds) > 1 else ():
                value, low, high = (float(part[at]) for part in getattr(self, measure))
                yield {**of, "measure": measure, "value": value, "low": low, "high": high}


@dataclass(frozen=True)
class Icl:
    """In-context learning scores, (seed, score): later minus earlier, so below 0 is learning."""

    seeds: tuple[str, ...]
    scores: tuple[str, ...]  # e.g. "loss at 500 - loss at 50"
    n: NDArray[np.int64]  # (score,) documents that are long enough
    value: Floats  # mean over documents, nats
    low: Floats  # its 95 % interval over draws of documents
    high: Floats
    variants: tuple[str, ...]
    loss: Floats  # (seed, variant) mean surprisal over documents, nats
    n_loss: NDArray[np.int64]  # (variant,) documents

    def rows(self) -> Iterator[Row]:
        """Yield what the table `probes` has of it, in long form: values by the names of columns."""
        for row, seed in enumerate(self.seeds):
            for at, label in enumerate(self.variants):
                value = float(self.loss[row, at])
                n = int(self.n_loss[at])
                yield {"seed": seed, "label": label, "measure": "loss", "n": n, "value": value}
            for at, label in enumerate(self.scores):
                value, low, high = (part[row, at] for part in (self.value, self.low, self.high))
                yield {
                    "seed": seed,
                    "label": label,
                    "measure": "score",
                    "n": int(self.n[at]),
                    "value": float(value),
                    "low": float(low),
                    "high": float(high),
                }


# -- pure functions ------------------------------------------------------------------------------


def kl_of_means(good: Floats, bad: Floats) -> Floats:
    """Return the KL of every ordered pair of seeds between their mean two-way distributions.

    Of (seed, task) means over items of the probabilities of the good and of the bad sentence:
    (seed, other_seed, task), nats.
    """
    p = np.stack([good, bad])[:, :, None]
    with np.errstate(divide="ignore"):
        log_p = np.log(np.stack([good, bad]))
    return np.asarray(np.where(p == 0, 0.0, p * (log_p[:, :, None] - log_p[:, None])).sum(axis=0))


def _log_odds(values: NDArray[Any]) -> Floats:
    exact = values.astype(np.float64)
    return np.asarray(exact[..., GOOD] - exact[..., BAD])


@np.errstate(invalid="ignore")  # what is not finite comes to NaN, or to infinity
def blimp(
    values: NDArray[Any],
    task: NDArray[np.integer[Any]],
    tasks: Sequence[str],
    terms: Sequence[str],
    seeds: Sequence[str],
) -> Blimp:
    """Return minimal pairs by task.

    Args:
        values: (seed, item, variant) log-probs of the good and the bad sentence, nats.
        task: (item,) index of the item's task.
        tasks: (task,) labels.
        terms: (task,) what each is about.
        seeds: (seed,) labels.
    """
    n = np.bincount(task, minlength=len(tasks))
    n = np.concatenate([[len(task)], n])

    def by_task(of: Floats) -> Floats:
        """Return means over items, and of each task: (..., 1 + task) of (..., item)."""
        flat = of.reshape(-1, of.shape[-1])
        sums = np.array([np.bincount(task, row, minlength=len(tasks)) for row in flat])
        sums = np.concatenate([flat.sum(axis=1, keepdims=True), sums.reshape(len(flat), -1)], 1)
        return np.asarray((sums / n).reshape(*of.shape[:-1], len(n)))

    odds = _log_odds(values)
    log_p = -np.logaddexp(0.0, np.stack([-odds, odds]))  # (2, seed, item): of good, of bad
    p = np.exp(log_p)
    kl = np.zeros((len(seeds), len(seeds), len(n)))
    for i, j in np.argwhere(ordered_pairs(len(seeds))).tolist():  # one at a time: items are many
        apart = np.where(p[:, i] == 0, 0.0, p[:, i] * (log_p[:, i] - log_p[:, j]))
        kl[i, j] = by_task(apart.sum(axis=0))
    of_good, of_bad = by_task(p)
    between = kl_of_means(of_good, of_bad)
    between[..., 0] = between[..., 1:].mean(axis=-1)  # tasks count alike, as in the paper's figure
    return Blimp(
        seeds=tuple(seeds),
        tasks=(ALL_TASKS, *tasks),
        terms=("", *terms),
        n=n,
        accuracy=by_task(np.where(np.isnan(odds), np.nan, odds > 0)),
        probability=of_good,
        kl=kl,
        kl_between_means=between,
        mean_of_kl=Estimate(pair_mean(kl), *seed_interval(kl)),
        kl_of_means=Estimate(pair_mean(between), *seed_interval(between)),
    )


@np.errstate(invalid="ignore")
def icl(values: NDArray[Any], variants: Sequence[str], seeds: Sequence[str]) -> Icl:
    """Return in-context learning scores of (seed, document, variant) surprisals, nats.

    Variants are in pairs: loss at an earlier and a later place, loss with less and more context.
    NaN: the document is too short.
    """
    exact = values.astype(np.float64)
    later = exact[:, :, 1::2] - exact[:, :, 0::2]
    estimate: Estimate = mean_interval(later.swapaxes(0, 1))
    names = [f"{b} - {a}" for a, b in zip(variants[0::2], variants[1::2], strict=True)]
    there, n_loss = (np.isfinite(of).all(axis=0).sum(axis=0) for of in (later, exact))
    loss = mean_interval(exact.swapaxes(0, 1)).value
    return Icl(tuple(seeds), tuple(names), there, *estimate, tuple(variants), loss, n_loss)


# -- of a study ----------------------------------------------------------------------------------


def probed_seeds(known: ModelLedger, name: str, step: int) -> tuple[str, ...]:
    """Return the seeds of a model that were asked at a step, in the order of its axis."""
    there = known.probed.get(name, set())
    return tuple(seed for seed in known.seeds if (seed, step) in there)


def probed_steps(known: ModelLedger, name: str) -> tuple[int, ...]:
    """Return the steps at which some seed was asked, ascending."""
    return tuple(sorted({step for _, step in known.probed.get(name, ())}))


def blimp_summary(study: StudyReader, model: str, name: str, step: int) -> Blimp:
    """Return minimal pairs of a probe at a step, of the seeds that were asked there.

    Raise StoreError when none was or the probe is of another kind, DamagedError.
    """
    found = probe_summary(study, model, name, step, "blimp")
    assert isinstance(found, Blimp)
    return found


def icl_summary(study: StudyReader, model: str, name: str, step: int) -> Icl:
    """Return in-context learning scores at a step, of the seeds that were asked there.

    Raise StoreError when none was or the probe is of another kind, DamagedError.
    """
    found = probe_summary(study, model, name, step, "icl")
    assert isinstance(found, Icl)
    return found


def probe_summary(
    study: StudyReader, model: str, name: str, step: int, kind: str | None = None
) -> Blimp | Icl:
    """Return what a probe comes to at a step, of the seeds that were asked there.

    Raise StoreError when none was or the probe is not of this `kind`, if one is given, or of one
    that is unknown to this version; DamagedError.
    """
    probe, seeds = study.probe(name), probed_seeds(study.ledger(model), name, step)
    if probe.kind not in PROBE_KINDS or kind not in (None, probe.kind):
        wanted = " or ".join(map(repr, PROBE_KINDS)) if kind is None else repr(kind)
        raise StoreError(f"{study.path}: probe {name!r} is of kind {probe.kind!r}, not {wanted}")
    if not seeds:
        raise StoreError(f"{study.path}: probe {name!r} of {model}, step {step}: no such result")
    values = np.stack([study.probe_values(model, name, seed, step) for seed in seeds])
    return PROBE_KINDS[probe.kind].summarise(values, probe, seeds)


# -- kinds ---------------------------------------------------------------------------------------


def _summarise_blimp(values: NDArray[Any], probe: Probe, seeds: Sequence[str]) -> Blimp:
    return blimp(values, probe.task, probe.tasks, probe.terms, seeds)


def _summarise_icl(values: NDArray[Any], probe: Probe, seeds: Sequence[str]) -> Icl:
    return icl(values, probe.variants, seeds)


@dataclass(frozen=True)
class ProbeKind:
    """The kind of results of a probe, and the scores made of them."""

    summarise: Callable[[NDArray[Any], Probe, Sequence[str]], Blimp | Icl]  # (seed, item, variant)
    complete: bool  # whether every item has a value of every variant
    of_pairs: bool = False  # whether items are minimal pairs, and results `Blimp`


PROBE_KINDS: Mapping[str, ProbeKind] = {
    "blimp": ProbeKind(_summarise_blimp, complete=True, of_pairs=True),
    "icl": ProbeKind(_summarise_icl, complete=False),
}
"""Every kind of probe by its name; how each is asked is a table in `engine.probes.questions`."""
