"""Claims beyond the paper's figures over training: minimal pairs, the ensemble, groups of runs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from store.analysis.ensemble_means import surprisal_of_mean
from store.analysis.finding import Finding, Verdict, finding
from store.analysis.probe_scores import PROBE_KINDS, blimp_summary, probed_seeds
from store.reading.study_reader import StudyReader
from store.reading.summary import SummaryReader, read_summary
from store.schema.category import ALL
from store.schema.ensemble import TO_MEAN
from store.statistics.clusters import cluster_sums, token_clusters
from store.statistics.grouping import grouped, groups_of
from store.statistics.intervals import Estimate, difference, seeds_mean

_ROUNDING = 1e-6  # nats that two sums of float32 surprisals may differ by, as means over tokens
_P = 0.05  # below which a difference between groups of runs is taken for one


def of_minimal_pairs(study: StudyReader, model: str, start: int, last: int) -> Iterator[Finding]:
    """Estimate by how much KL on minimal pairs fell between two steps, in both senses.

    The interval is over seeds: about other seeds and these items. Nothing where the same seeds were
    not asked at both steps. Raise DamagedError.
    """
    for name in study.probes():
        probe, known = study.probe(name), study.ledger(model)
        seeds = {probed_seeds(known, name, step) for step in (start, last)}
        if not PROBE_KINDS[probe.kind].of_pairs or len(seeds) > 1 or len(seeds.pop()) < 2:
            continue
        before, after = (blimp_summary(study, model, name, step) for step in (start, last))
        for measure, of in (("kl_of_means", "kl_between_means"), ("mean_of_kl", "kl")):
            kl_a, kl_b = (getattr(found, of)[..., :1] for found in (before, after))
            # One cluster of items: the interval is over seeds alone
            nothing, one = np.zeros((1, 1)), np.ones((1, 1))
            estimate = difference(kl_a, kl_b, nothing, nothing, one, same_seeds=True)
            yield finding(
                f"seeds reconverge on minimal pairs ({measure})",
                f"{model}, step {start} minus step {last} (n = {before.n[0]})",
                estimate,
            )


def of_ensemble(study: StudyReader, model: str, start: int | None, last: int) -> Iterator[Finding]:
    """Hold the ensemble of all seeds against its members; nothing where the study has none.

    `start` is where slow reconvergence begins, if it does. Raise DamagedError.
    """
    known = study.ledger(model)
    if (of := known.set_with(last, TO_MEAN)) is None:
        return
    summary = read_summary(study, model, ALL)
    at = summary.steps.tolist().index(last)
    cross_entropy, ambiguity, low, high = (
        float(summary.of_ensemble(name, end)[at, 0])
        for name, end in (
            ("ensemble_cross_entropy", "value"),
            ("ambiguity", "value"),
            ("ambiguity", "low"),
            ("ambiguity", "high"),
        )
    )
    surprisal = np.stack([study.values(model, "surprisal", seed, last) for seed in of.seeds])
    own = float(surprisal.mean(axis=1, dtype=np.float64).mean())
    again = own - float(surprisal_of_mean(surprisal)[0].mean())
    missed = max(abs(own - cross_entropy - ambiguity), abs(again - ambiguity))
    yield Finding(
        "mean cross-entropy = cross-entropy of the ensemble + ambiguity",
        f"{model}, step {last}",
        f"{own:.4f} = {cross_entropy:.4f} + {ambiguity:.4f} nats",
        f"off by {missed:.1e}",
        "holds" if missed < _ROUNDING else "does not hold",
    )
    yield finding(
        "the ensemble predicts better than its members do on average",
        f"{model}, step {last}: ambiguity (n = {study.n_tokens})",
        Estimate(*(np.array([value]) for value in (ambiguity, low, high))),
    )
    before = known.set_with(start, TO_MEAN) if start is not None else None
    if before is not None and start is not None and {*before.seeds} == {*of.seeds}:
        yield finding(
            "seeds come nearer to their mean late in training",
            f"{model}, step {start} minus step {last}: KL to the mean (n = {study.n_tokens})",
            _nearer(study, model, of.seeds, start, last),
        )


def _nearer(
    study: StudyReader, model: str, seeds: tuple[str, ...], start: int, last: int
) -> Estimate:
    """Estimate by how much KL to the mean fell, over seeds (by pseudo-values) and documents."""
    fallen = np.array(
        [
            study.values(model, TO_MEAN, seed, start).astype(np.float64)
            - study.values(model, TO_MEAN, seed, last)
            for seed in seeds
        ]
    )
    every, clusters = study.category(model, ALL), token_clusters(study.corpus)
    sums, n = cluster_sums(fallen.mean(axis=0), clusters, every)
    pseudo = fallen.mean(axis=1)[:, None] * len(seeds) / (len(seeds) - 1)
    around = seeds_mean(pseudo, sums, n)
    value, half = np.array([fallen.mean()]), around.high - around.value
    return Estimate(value, value - half, value + half)


def of_groups(study: StudyReader, model: str, last: int) -> Iterator[Finding]:
    """Compare KL within and between a model's groups of runs, by permutation of the runs."""
    known, span = study.ledger(model), study.levels(ALL)
    kl = SummaryReader(study, model).pairs(last)[..., span.start : span.stop]
    seeds = [seed for seed in known.seeds if seed in known.summaries[last].seeds]
    found = grouped(kl, groups_of(seeds, [*known.groups.values()]), len(known.groups))
    within, between, p = (float(of[0]) for of in (found.within, found.between, found.p_between))
    all_or_some = "all" if found.exact else "some"
    tested = f"of {found.arrangements:,} arrangements ({all_or_some})"
    yield Finding(
        "runs of one group are closer than runs of two",
        f"{model}, step {last}: KL between groups minus within",
        f"{between - within:+.4f} nats",
        f"p = {p:.3f} {tested}",
        _by_lot(between > within, p),
    )
    names, each, p = [*known.groups], found.each[:, 0], float(found.p_each[0])
    if len(names) == 2:
        apart = float(each[1] - each[0])
        yield Finding(
            f"runs of {names[0]} are closer than runs of {names[1]}",
            f"{model}, step {last}: KL within the second group minus the first",
            f"{each[1]:.4f} - {each[0]:.4f} = {apart:+.4f} nats",
            f"p = {p:.3f} {tested}",
            _by_lot(apart > 0, p),
        )


def _by_lot(as_claimed: bool, p: float) -> Verdict:
    if not p < _P:
        return "not sure"
    return "holds" if as_claimed else "does not hold"
