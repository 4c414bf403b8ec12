"""Numbers of several steps with bands that cover at all of these at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from store.analysis.ensemble_means import pseudo_values, read_ensemble
from store.analysis.reference_means import read_references
from store.reading.study_reader import StudyReader
from store.reading.summary import SummaryReader
from store.schema.array_types import Floats, Ints
from store.schema.category import ALL
from store.schema.ensemble import ENSEMBLE_METRICS
from store.schema.seed_pairs import pair_mean
from store.statistics.clusters import cluster_cells, token_clusters
from store.statistics.intervals import FEWEST_SEEDS, Estimate, cluster_shares, seed_shares
from store.statistics.simultaneous import VarianceSource, half_widths

if TYPE_CHECKING:
    from store.analysis.difference import Difference
    from store.analysis.token_regression import Regression


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
    documents = np.array(of_documents).reshape(len(steps), -1)
    half = _half_by_level([(of_seeds, n_seeds - 1)], documents, level, freedom)
    half[n_seeds < FEWEST_SEEDS] = np.nan
    return np.array(steps, np.int64), Estimate(
        value, np.minimum(np.maximum(value - half, 0.0), value), value + half
    )


def simultaneous_means(study: StudyReader, model: str, steps: Sequence[int]) -> dict[str, Estimate]:
    """Return what the seeds come to together, of all tokens, with its band: (step,) each.

    By name of `ENSEMBLE_METRICS`, and of the means of the study's references. Bands are cut at
    zero; NaN where there is no result, and below three seeds. Raise StoreError, DamagedError.
    """
    return study.consistent({model: steps}, lambda: _read_means(study, model, steps))


class _MeanAtStep(NamedTuple):
    """A mean of all tokens and seeds at one step, and what makes its variance."""

    place: int  # of the step
    value: float
    of_seed: dict[str, Floats]  # (1,) shares
    documents: Floats  # (document,) shares
    freedom: Floats  # (1,) degrees of freedom over documents


def _read_means(study: StudyReader, model: str, steps: Sequence[int]) -> dict[str, Estimate]:
    whole, clusters = study.category(model, ALL), token_clusters(study.corpus)
    parts = defaultdict[str, list[_MeanAtStep]](list)
    for place, step in enumerate(steps):
        seeds = sorted(study.ledger(model).summaries[step].seeds)
        for name, (draws, by_token) in _draws_of_means(study, model, step, seeds).items():
            n = len(draws) if len(draws) >= FEWEST_SEEDS else np.nan
            shares = (draws - draws.mean()) / np.sqrt(n * (n - 1.0))
            of_seed = dict(zip(seeds, shares[:, None], strict=True))
            cells = cluster_shares(cluster_cells(by_token, clusters, whole), 1)
            parts[name].append(_MeanAtStep(place, by_token.mean(), of_seed, *cells))
    found = {}
    for name, at in parts.items():
        documents = np.array([of.documents for of in at])
        half = _half_by_level(
            [_by_seed([of.of_seed for of in at])],
            documents,
            np.zeros(documents.shape[1], np.int64),
            at[0].freedom,
        )
        value, band = np.full((2, len(steps)), np.nan)
        places = [of.place for of in at]
        value[places], band[places] = [of.value for of in at], half[:, 0]
        low = np.minimum(np.maximum(value - band, 0.0), value)
        found[name] = Estimate(value, low, value + band)
    return found


def _draws_of_means(
    study: StudyReader, model: str, step: int, seeds: Sequence[str]
) -> dict[str, tuple[Floats, Floats]]:
    """Return what the seeds are drawn by, (seed,), and the mean over them at each token, (token,).

    Of each number of `simultaneous_means` that the step has.
    """
    found = {}
    if (tokens := read_ensemble(study, model, step, seeds)) is not None:
        entropy, surprisal = (
            np.array(
                [study.values(model, name, seed, step).mean(dtype=np.float64) for seed in seeds]
            )
            for name in ("entropy", "surprisal")
        )
        to_mean = np.array([row.mean(dtype=np.float64) for row in tokens.to_mean])
        draws = pseudo_values(to_mean, entropy, surprisal, tokens.pseudo.mean(axis=1))
        for metric, of_seeds, by_token in zip(
            ENSEMBLE_METRICS, draws, tokens.together, strict=True
        ):
            found[metric.name] = of_seeds, by_token
    for reference, (rows, mean) in read_references(study, model, step, seeds).items():
        if rows:
            found[reference.mean] = np.array([row.mean() for row in rows]), mean
    return found


def simultaneous_differences(found: Sequence[Difference]) -> Estimate:
    """Return differences of the same models, or steps, with their band, (step, level) each.

    They are of one category, each at another step. The band is of each level by itself, and NaN
    where the interval is.
    """
    value = np.array([of.value for of in found])
    of_seeds = [_by_seed(of) for of in zip(*(of.spread.seeds for of in found), strict=True)]
    spread = found[0].spread
    documents = np.array([of.spread.documents for of in found])
    half = _half_by_level(of_seeds, documents, spread.level, spread.freedom)
    return Estimate(value, value - half, value + half)


def simultaneous_coefficients(found: Sequence[Regression]) -> Estimate:
    """Return coefficients of the same terms with their band, (step, term) each.

    The band is of each term by itself, and NaN where the interval is.
    """
    value = np.array([of.coefficient for of in found])
    half = np.array([np.where(np.isfinite(of.low), 0.0, np.nan) for of in found])
    df = np.array([of.n_clusters - 1.0 for of in found])
    for term in range(value.shape[1]):
        shares = np.array([of.shares[:, term] for of in found]) + half[:, term, None]
        half[:, term] = half_widths([VarianceSource(shares, df)])
    return Estimate(value, value - half, value + half)


def _by_seed(shares: Sequence[dict[str, Floats]]) -> tuple[Floats, Floats]:
    """Return the seeds' shares of each step as a table, (step, seed, level), and freedom, (step,).

    A seed that a step lacks adds nothing there.
    """
    place = {seed: at for at, seed in enumerate(sorted(set().union(*shares)))}
    n_levels = len(next(iter(shares[0].values())))
    table = np.zeros((len(shares), len(place), n_levels))
    for step, of_step in enumerate(shares):
        for seed, added in of_step.items():
            table[step, place[seed]] = added
    return table, np.array([len(of_step) for of_step in shares]) - 1.0


def _half_by_level(
    of_seeds: Sequence[tuple[Floats, Floats]], documents: Floats, level: Ints, freedom: Floats
) -> Floats:
    """Return half the band of each level, (step, level), NaN in a level without tokens.

    Args:
        of_seeds: of each independent set of seeds, its shares (step, seed, level) and degrees of
            freedom (step,).
        documents: (step, cell) shares of the cells that have tokens.
        level: (cell,) their levels.
        freedom: (level,) degrees of freedom over documents.
    """
    half = np.full((len(documents), len(freedom)), np.nan)
    order = np.argsort(level, kind="stable")
    ends = np.searchsorted(level[order], np.arange(len(freedom) + 1))
    for n in np.flatnonzero(np.diff(ends)):
        shares = documents[:, order[ends[n] : ends[n + 1]]]
        sources = [VarianceSource(table[..., n], df) for table, df in of_seeds]
        sources.append(VarianceSource(shares, np.full(len(documents), freedom[n])))
        half[:, n] = half_widths(sources)
    return half
