"""A finished step as the pilot of a larger study: the variance of expected KL by its sources."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from store.errors import UnsupportedError
from store.reading.study_reader import StudyReader
from store.schema.array_types import Bools, Floats, Ints
from store.statistics.clusters import cluster_cells, token_clusters
from store.statistics.intervals import FEWEST_SEEDS
from store.statistics.planning import Components, components
from store.words import quoted


@dataclass(frozen=True)
class Pilot:
    """One level of a category at a step, by its sources of variance."""

    model: str
    step: int
    category: str
    label: str  # untrusted
    tokens: int  # of the level
    documents: int  # with tokens of the level; or runs of tokens of a lone one
    of: Components


def read_pilots(
    study: StudyReader, model: str, step: int, category: str, labels: Sequence[str] | None = None
) -> list[Pilot]:
    """Return the levels of these labels (by default, all with tokens).

    Raise UnsupportedError where the step has fewer than three seeds, or a level tokens of only one
    document; StoreError, DamagedError.
    """
    return study.consistent({model: [step]}, lambda: _read(study, model, step, category, labels))


@np.errstate(invalid="ignore")  # what is not finite comes to NaN, or to infinity
def _read(
    study: StudyReader, model: str, step: int, category: str, labels: Sequence[str] | None
) -> list[Pilot]:
    known, parts = study.ledger(model), study.category(model, category)
    seeds = [seed for seed in known.seeds if seed in known.summaries[step].seeds]
    where = f"{study.path}: {model}, step {step}"
    if len(seeds) < FEWEST_SEEDS:
        raise UnsupportedError(
            f"{where}: only {len(seeds)} seeds are compared. A plan needs {FEWEST_SEEDS}, to see "
            "how seeds vary: score another, or choose another step."
        )
    clusters = token_clusters(study.corpus)
    sums: list[Floats] = []
    level, n = np.zeros(0, np.int64), np.zeros(0, np.int64)
    for i, j in itertools.permutations(seeds, 2):
        kl = study.values(model, "kl", i, step, j).astype(np.float64)
        level, total, n = cluster_cells(kl, clusters, parts)
        sums.append(total)
    of_pairs = np.full((len(seeds), len(seeds), len(level)), np.nan)
    of_pairs[~np.eye(len(seeds), dtype=bool)] = sums
    wanted = [
        at
        for at, label in enumerate(parts.labels)
        if (label in labels if labels is not None else parts.counts[at])
    ]
    return [
        Pilot(
            model=model,
            step=step,
            category=category,
            label=parts.labels[at],
            tokens=int(parts.counts[at]),
            documents=int((level == at).sum()),
            of=_components(f"{where}, {quoted(parts.labels[at])}", of_pairs, n, level == at),
        )
        for at in wanted
    ]


def _components(where: str, kl: Floats, n: Ints, inside: Bools) -> Components:
    if inside.sum() < 2:
        what = "only one document has tokens of it" if inside.any() else "no token is in it"
        raise UnsupportedError(
            f"{where}: {what}. A plan needs two, to see how documents vary: choose another level, "
            "or a longer text."
        )
    found = components(kl[..., inside], n[inside])
    if not np.isfinite(found.value):
        raise UnsupportedError(
            f"{where}: the KL of some pair is not finite. Choose another step with --step."
        )
    return found
