"""Test the paper's findings on a study: each claim with its figure, interval and verdict."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from store.analysis.difference import Difference, read_difference
from store.analysis.finding import Finding, Verdict, finding
from store.analysis.further_claims import of_ensemble, of_groups, of_minimal_pairs
from store.reading.model import read_model
from store.reading.study_reader import StudyReader
from store.reading.summary import SummaryReader, read_summary
from store.schema.category import ALL
from store.schema.snapshot import UNDECIDED, ModelSnapshot, Phase
from store.statistics.clusters import cluster_sums, token_clusters
from store.statistics.intervals import Estimate, between_levels, difference, seeds_mean

FEWEST_TOKENS = 100  # of a level of frequency that is compared
_FOUR = ("uniform", "sharp convergence", "sharp divergence", "slow reconvergence")


def find(study: StudyReader) -> list[Finding]:
    """Hold the claims against all models of a finished study, in the order of the study.

    Models count as ordered by size, the smallest first; those with groups of seeds are only held
    against what concerns groups. Raise StoreError for a study without summaries by frequency and
    word class.
    """
    study.refresh()
    in_groups = [name for name in study.models if study.ledger(name).groups]
    models = [read_model(study, name) for name in study.models if name not in in_groups]
    findings = [found for model in models for found in _of_model(study, model)]
    if len(models) > 1:
        findings += _of_sizes(study, models[0], models[-1])
    for name in in_groups:
        findings += of_groups(study, name, last_step(study, name))
    return findings


def _of_model(study: StudyReader, model: ModelSnapshot) -> Iterator[Finding]:
    yield _four_phases(model)
    last = last_step(study, model.name)
    turn, low, high = turn_of(model)
    yield _unigram_at_turn(study, model, turn, low, high)
    for step, when in ((0, "before it"), (last, "at the end")):
        if step in study.ledger(model.name).summaries and step != turn:
            yield _unigram_than_at(study, model.name, turn, step, when)
    words = study.category(model.name, "word_class").labels
    content, function = words.index("content"), words.index("function")
    yield _between(
        study, model.name, last, "word_class", (content, function),
        "function words have converged more than content words",
    )  # fmt: skip
    yield from _reconverged(study, model, last)
    counts = study.category(model.name, "frequency").counts
    enough = np.flatnonzero(counts >= FEWEST_TOKENS)
    if len(enough) > 1:
        yield _between(
            study, model.name, last, "frequency", (int(enough[0]), int(enough[-1])),
            "frequent tokens have converged more than rare ones",
        )  # fmt: skip
    start = _reconvergence(model)
    if start is not None and start != last:
        yield from of_minimal_pairs(study, model.name, start, last)
    yield from of_ensemble(study, model.name, start, last)


def last_step(study: StudyReader, model: str) -> int:
    """Return the last step that is summarised."""
    return max(study.ledger(model).summaries)


# -- phases and the turn -------------------------------------------------------------------------


def _four_phases(model: ModelSnapshot) -> Finding:
    names = tuple(phase.name for phase in model.phases)
    figure = ", ".join(f"{phase.name} from {phase.start}" for phase in model.phases) or "none"
    interval = "; ".join(map(_start_text, model.phases[1:])) or "none"
    said: Verdict = "holds" if names == _FOUR else "does not hold"
    if names and names[-1] == UNDECIDED:
        said = "not sure"
    return Finding("training goes through four phases", model.name, figure, interval, said)


def _start_text(phase: Phase) -> str:
    between = f"{phase.low} to {phase.high}" if phase.low is not None else f"{phase.start}"
    return between if phase.support is None else f"{between} ({100 * phase.support:.0f} % of draws)"


def turn_of(model: ModelSnapshot) -> tuple[int, int, int]:
    """Return the step at which convergence turns into divergence, with the ends of its interval.

    Where that phase is not found, the step of the lowest expected KL but for the first and last.
    """
    for phase in model.phases:
        if phase.name == "sharp divergence":
            low = phase.start if phase.low is None else phase.low
            high = phase.start if phase.high is None else phase.high
            return phase.start, low, high
    inner = np.where(np.isfinite(model.expected_kl), model.expected_kl, np.inf)[1:-1]
    step = int(model.steps[1 + int(inner.argmin())]) if len(inner) else int(model.steps[0])
    return step, step, step


def _unigram_at_turn(
    study: StudyReader, model: ModelSnapshot, turn: int, low: int, high: int
) -> Finding:
    """Find the step at which predictions are nearest to the unigram distribution, seed by seed."""
    of_seed = read_summary(study, model.name, ALL).kl_unigram[..., 0]  # (step, seed)
    there = np.isfinite(of_seed).all(axis=1)
    nearest = model.steps[there][of_seed[there].argmin(axis=0)]
    of_mean = int(model.steps[there][of_seed[there].mean(axis=1).argmin()])
    return Finding(
        "predictions are nearest to the unigram distribution at the turn",
        model.name,
        f"nearest at step {of_mean}; the turn is at {turn}",
        f"nearest at {nearest.min()} to {nearest.max()} over seeds; the turn {low} to {high}",
        # Not "near": within the turn's interval, which reaches to the saved steps around it.
        "holds"
        if low <= nearest.min() and nearest.max() <= high
        else "not sure"
        if low <= of_mean <= high
        else "does not hold",
    )


def _unigram_than_at(study: StudyReader, model: str, turn: int, step: int, when: str) -> Finding:
    seeds = sorted(study.ledger(model).scored_at(turn) & study.ledger(model).scored_at(step))
    farther = np.array(
        [
            study.values(model, "kl_unigram", seed, step).astype(np.float64)
            - study.values(model, "kl_unigram", seed, turn)
            for seed in seeds
        ]
    )
    every, clusters = study.category(model, ALL), token_clusters(study.corpus)
    sums, n = cluster_sums(farther.mean(axis=0), clusters, every)
    estimate = seeds_mean(farther.mean(axis=1)[:, None], sums, n)
    return finding(
        f"KL to the unigram distribution is higher {when} than at the turn",
        f"{model}, step {step} minus step {turn}",
        estimate,
    )


# -- kinds of tokens and sizes -------------------------------------------------------------------


def _between(
    study: StudyReader, model: str, step: int, category: str, levels: tuple[int, int], claim: str
) -> Finding:
    """Compare the KL at a step: of the first of two levels minus that of the second."""
    reader, parts = SummaryReader(study, model), study.category(model, category)
    kl, span = reader.pairs(step), study.levels(category)
    clusters = token_clusters(study.corpus)
    token_kl = study.token_kl(model, step).astype(np.float64)
    sums, n = cluster_sums(token_kl, clusters, parts)
    estimate = between_levels(kl[..., span.start : span.stop], sums, n, *levels)
    more, less = (f"{parts.labels[at]} (n = {parts.counts[at]})" for at in levels)
    return finding(claim, f"{model}, step {step}: KL of {more} minus {less}", estimate)


def _reconverged(study: StudyReader, model: ModelSnapshot, last: int) -> Iterator[Finding]:
    """Estimate by how much KL of function and of content words fell since slow reconvergence began.

    Not since it was highest: the highest of many steps is too high by chance, so a fall from it
    would be seen where there is none.
    """
    start = _reconvergence(model)
    if start in (None, last):
        return
    fallen = read_difference(study, (model.name, start), (model.name, last), "word_class")
    for label in ("function", "content"):
        at = fallen.labels.index(label)
        yield finding(
            f"{label} words reconverge",
            f"{model.name}, step {start} minus step {last} (n = {fallen.counts[at]})",
            _of_level(fallen, at),
        )


def _reconvergence(model: ModelSnapshot) -> int | None:
    return next((phase.start for phase in model.phases if phase.name == _FOUR[-1]), None)


def _of_sizes(study: StudyReader, small: ModelSnapshot, large: ModelSnapshot) -> Iterator[Finding]:
    last = min(last_step(study, model.name) for model in (small, large))
    for category, label in ((ALL, None), ("word_class", "function"), ("word_class", "content")):
        less = read_difference(study, (small.name, last), (large.name, last), category)
        at = 0 if label is None else less.labels.index(label)
        kind = f" on {label} words" if label else ""
        yield finding(
            f"the larger model's seeds are closer late in training{kind}",
            f"step {last}: KL of {small.name} minus {large.name} (n = {less.counts[at]})",
            _of_level(less, at),
        )
    yield from _reconverges_faster(study, small, large, last)


def _reconverges_faster(
    study: StudyReader, small: ModelSnapshot, large: ModelSnapshot, last: int
) -> Iterator[Finding]:
    """Estimate by how much more the larger model's KL fell than the smaller one's.

    Over the same steps. These begin when the later of the two has begun to reconverge.
    """
    starts = [start for model in (small, large) if (start := _reconvergence(model)) is not None]
    start = max(starts, default=last)
    ledgers = [study.ledger(model.name).summaries for model in (small, large)]
    if start >= last or any(
        start not in known or known[start].seeds != known[last].seeds for known in ledgers
    ):
        return
    kl_large, total_large, n = _fallen(study, large.name, start, last)
    kl_small, total_small, _ = _fallen(study, small.name, start, last)
    yield finding(
        "the larger model reconverges faster",
        f"KL at step {start} minus step {last}, of {large.name} minus {small.name} "
        f"(n = {study.n_tokens})",
        difference(kl_large, kl_small, total_large, total_small, n, same_seeds=False),
    )


def _fallen(
    study: StudyReader, model: str, start: int, last: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return by how much a model's KL fell: of pairs, and what `difference` needs of documents."""
    reader, span = SummaryReader(study, model), study.levels(ALL)
    kl = (reader.pairs(start) - reader.pairs(last))[..., span.start : span.stop]
    token_kl = study.token_kl(model, start).astype(np.float64) - study.token_kl(model, last)
    clusters, every = token_clusters(study.corpus), study.category(model, ALL)
    return kl, *cluster_sums(token_kl, clusters, every)


def _of_level(found: Difference, at: int) -> Estimate:
    return Estimate(*(values[at : at + 1] for values in (found.value, found.low, found.high)))
