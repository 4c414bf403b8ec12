"""Expected KL with bands that cover at all steps at once."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np

from store.reading.study_reader import StudyReader
from store.reading.summary import SummaryReader
from store.schema.array_types import Floats, Ints
from store.schema.seed_pairs import pair_mean
from store.statistics.clusters import cluster_cells, token_clusters
from store.statistics.intervals import FEWEST_SEEDS, Estimate, cluster_shares, seed_shares
from store.statistics.simultaneous import VarianceSource, half_widths


def simultaneous_band(
    study: StudyReader,
    model: str,
    category: str,
    steps: Collection[int] | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[Ints, Estimate]:
    """Return steps, and expected KL by level with its 95 % band over them, (step, level) each.

    Only of the chosen steps, if any are, of those that are summarised by the category. The band is
    of each level by itself, and cut at zero. It is NaN where the interval is: at steps with fewer
    than three seeds, in levels without tokens. Raise StoreError, DamagedError.
    """
    wanted = tuple(study.ledger(model).summaries) if steps is None else tuple(steps)
    return study.consistent(
        {model: wanted}, lambda: _read(study, model, category, set(wanted), progress)
    )


@np.errstate(invalid="ignore")  # what is not finite comes to NaN, or to infinity
def _read(
    study: StudyReader,
    model: str,
    category: str,
    wanted: Collection[int],
    progress: Callable[[float], None],
) -> tuple[Ints, Estimate]:
    parts, reader, known = (
        study.category(model, category),
        SummaryReader(study, model),
        study.ledger(model),
    )
    steps = [int(step) for step in reader.steps[reader.valid(category)] if step in wanted]
    clusters, n_levels = token_clusters(study.corpus), len(parts.labels)
    value = np.full((len(steps), n_levels), np.nan)
    of_seeds = np.zeros((len(steps), len(known.seeds), n_levels))
    of_documents, freedom, level = list[Floats](), np.ones(n_levels), np.zeros(0, np.int64)
    n_seeds = np.zeros(len(steps))
    for at, step in enumerate(steps):
        index = sorted(known.seeds[seed] for seed in known.summaries[step].seeds)
        kl = reader.at(step, "kl", category)[np.ix_(index, index)]
        value[at], of_seeds[at, index], n_seeds[at] = pair_mean(kl), seed_shares(kl), len(index)
        cells = cluster_cells(study.token_kl(model, step).astype(np.float64), clusters, parts)
        shares, freedom = cluster_shares(cells, n_levels)
        of_documents.append(shares)
        level = cells.level
        progress((at + 1) / len(steps))
    half = np.full_like(value, np.nan)
    order = np.argsort(level, kind="stable")
    ends = np.searchsorted(level[order], np.arange(n_levels + 1))
    documents = np.array(of_documents).reshape(len(steps), -1)[:, order]
    for n in np.flatnonzero(np.diff(ends)):
        shares = documents[:, ends[n] : ends[n + 1]]
        sources = (
            VarianceSource(of_seeds[..., n], n_seeds - 1),
            VarianceSource(shares, np.full(len(steps), freedom[n])),
        )
        half[:, n] = half_widths(sources)
    half[n_seeds < FEWEST_SEEDS] = np.nan
    return np.array(steps, np.int64), Estimate(
        value, np.minimum(np.maximum(value - half, 0.0), value), value + half
    )
