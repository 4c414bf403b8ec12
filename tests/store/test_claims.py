"""Claims held against studies in which they were built in, or the opposite of them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from store import Study, open_study
from store.analysis import Finding, find, summarise
from store.schema import (
    TO_MEAN,
    TOP,
    USUAL,
    Category,
    Corpus,
    Probe,
    ProbeValues,
    Vocabulary,
)
from store.statistics import find_phases
from store.writing import Header, StudyWriter
from tests.support.made_store import Clock, floors

SEEDS, N, DOCUMENTS, VOCAB = ("1", "2", "3"), 1200, 24, 4
STEPS = np.array([0, 2, 8, 16, 32, 64, 128, 256, 512, 1024, 1536, 2048])
TURN, TOP_STEP, LAST = 32, 512, 2048
PAPER, OTHER = "paper", "other"  # models: as the paper found, and the other way round
RANDOM = np.random.default_rng(8)
GROUPED = "grouped"  # a model whose runs are in two groups
OF_TOKEN, OF_SEED = RANDOM.normal(0, 0.01, N), RANDOM.normal(0, 0.004, len(SEEDS))

SURPRISAL = RANDOM.uniform(1, 3, (len(SEEDS), N)).astype(np.float32)  # of each seed, at all steps
PAIRS = Probe("pairs", "blimp", ("good", "bad"), ("t",), np.zeros(40, np.int32), ("",), "made")
GROUPS = {"one initialisation": list("abcd"), "one data order": list("efgh")}

index = np.arange(N)
CONTENT, RARE = index % 2 == 0, index % 10 < 4
CATEGORIES = (
    Category("all", ("all",), np.zeros(N, np.int32), "all tokens"),
    Category("word_class", ("content", "function"), np.where(CONTENT, 0, 1).astype(np.int32), ""),
    Category(
        "frequency",
        ("0", "rare", "frequent"),
        np.where(index < 60, 0, np.where(RARE, 1, 2)).astype(np.int32),
        "",
    ),
)


def curve(model: str, step: int) -> float:
    """Expected KL of a model: over log(step + 1), straight between the ends of its phases."""
    knots = {0: 0.5, 8: 0.5, TURN: 0.2, TOP_STEP: 0.8, LAST: 0.6 if model == PAPER else 1.1}
    return float(np.interp(np.log1p(step), np.log1p(list(knots)), list(knots.values())))


def kl(model: str, step: int) -> np.ndarray:
    """(token, seed, other_seed), nats."""
    sign = 1 if model == PAPER else -1
    kind = 1 + sign * (0.2 * np.where(CONTENT, 1, -1) + 0.1 * np.where(RARE, 1, -1)) * (step > TURN)
    of_pair = OF_SEED[:, None] + OF_SEED
    values = curve(model, step) * kind[:, None, None] + OF_TOKEN[:, None, None] + of_pair
    return np.where(np.eye(len(SEEDS), dtype=bool), 0, values).astype(np.float32)


def to_mean(model: str, step: int) -> np.ndarray:
    """(token, seed), nats: KL to the mean of the seeds, as their pairs' KL goes."""
    return (kl(model, step).sum(axis=2) / 5).astype(np.float32)


def pairs_of(model: str, step: int) -> np.ndarray:
    """(seed, item, variant): log-probs of minimal pairs: each seed differs on items of its own."""
    own = np.arange(40) % len(SEEDS) == np.arange(len(SEEDS))[:, None]
    odds = 0.3 + 3 * curve(model, step) * own + np.zeros(40)
    return np.stack([odds, np.zeros_like(odds)], axis=-1).astype(np.float32)


def kl_unigram(model: str, step: int) -> np.ndarray:
    """(token,), nats: nearest at the turn, or at the end."""
    nearest = TURN if model == PAPER else LAST
    return (0.1 + abs(np.log1p(step) - np.log1p(nearest)) + OF_TOKEN).astype(np.float32)


def add(writer: StudyWriter, model: str) -> None:
    for step in STEPS.tolist():
        writer.plan(model, [(seed, step) for seed in SEEDS], {})
        for place, seed in enumerate(SEEDS):
            pending = writer.results.begin_checkpoint(model, seed, step, "none")
            top = np.zeros((N, TOP))
            pending.append(
                {
                    "surprisal": SURPRISAL[place],
                    "entropy": np.ones(N, np.float32),
                    "kl_unigram": kl_unigram(model, step),
                    "top_id": top.astype(np.int32),
                    "top_log_prob": top.astype(np.float32),
                }
            )
            writer.commit(model, step, [pending.finish(floors(step), {})])
        pairs = writer.results.begin_pairs(model, step, SEEDS)
        of_set = {TO_MEAN: to_mean(model, step)}
        pairs.append({"kl": kl(model, step), "js": kl(model, step) / 8, **of_set})
        writer.commit(model, step, pairs=pairs.finish())
        answers = zip(SEEDS, pairs_of(model, step), strict=True)
        said = [ProbeValues(PAIRS.name, PAIRS.digest, seed, values) for seed, values in answers]
        writer.probes.commit(model, step, said)
        made = summarise(writer.study(), model, step, SEEDS, CATEGORIES)
        writer.summaries.summarise(model, step, SEEDS, *made)
    mean_kl = np.array([kl(model, step).mean(axis=0) for step in STEPS.tolist()], np.float64)
    writer.set_phases(model, find_phases(STEPS, mean_kl))


def of_runs() -> np.ndarray:
    """(seed, other_seed): KL of the runs in groups, the first group's the closest."""
    first = np.arange(8) < 4
    both, neither = first[:, None] & first, ~first[:, None] & ~first
    return np.where(both, 0.2, np.where(neither, 0.4, 0.5)) + 0.01 * RANDOM.random((8, 8))


OF_RUNS = of_runs()


def add_groups(writer: StudyWriter) -> None:
    seeds = [seed for members in GROUPS.values() for seed in members]
    writer.plan(GROUPED, [(seed, LAST) for seed in seeds], {})
    writer.set_groups(GROUPED, GROUPS)
    for seed in seeds:
        pending = writer.results.begin_checkpoint(GROUPED, seed, LAST, "none")
        ones, top = np.ones(N, np.float32), np.zeros((N, TOP))
        same = dict.fromkeys(("surprisal", "entropy", "kl_unigram"), ones)
        same |= {"top_id": top.astype(np.int32), "top_log_prob": top.astype(np.float32)}
        pending.append(same)
        writer.commit(GROUPED, LAST, [pending.finish(floors(LAST), {})])
    pairs = writer.results.begin_pairs(GROUPED, LAST, seeds)
    values = np.broadcast_to(OF_RUNS, (N, 8, 8)).astype(np.float32)
    pairs.append({"kl": values, "js": values / 8, TO_MEAN: values[:, 0] / 8})
    writer.commit(GROUPED, LAST, pairs=pairs.finish())
    made = summarise(writer.study(), GROUPED, LAST, seeds, CATEGORIES)
    writer.summaries.summarise(GROUPED, LAST, seeds, *made)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    corpus = Corpus(
        token_id=(index % VOCAB).astype(np.int32),
        context_id=((index - 1) % VOCAB).astype(np.int32),
        document=(index * DOCUMENTS // N).astype(np.int32),
        char_start=index,
        char_end=index + 1,
        text="a" * N,
        document_start=np.arange(0, N, N // DOCUMENTS),
        document_name=tuple(map(str, range(DOCUMENTS))),
    )
    vocabulary = Vocabulary(tuple("abcd"), np.arange(VOCAB), "made")
    path = tmp_path_factory.mktemp("findings") / "study.zarr"
    header = Header("made", {}, {}, (*USUAL, TO_MEAN))
    writer = StudyWriter.open(path, header, corpus, vocabulary, clock=Clock())
    writer.probes.set(PAIRS)
    for category in CATEGORIES:
        writer.summaries.set_category(category)
    for model in (OTHER, PAPER):
        add(writer, model)
    add_groups(writer)
    writer.close("finished")
    return open_study(path)


def of(study: Study, model: str) -> dict[str, Finding]:
    return {each.claim: each for each in find(study) if each.where.startswith(model)}


def test_what_was_built_in_is_found(study: Study) -> None:
    found = of(study, PAPER)
    unsure = found.pop("seeds reconverge on minimal pairs (kl_of_means)")
    assert unsure.verdict == "not sure", "the seeds' means are as good as the same"
    assert {each.verdict for each in found.values()} == {"holds"}
    assert len(found) == 12
    phases = found["training goes through four phases"].figure
    assert phases == (
        "uniform from 0, sharp convergence from 8, sharp divergence from 32, "
        "slow reconvergence from 512"
    )
    last = kl(PAPER, LAST).sum(axis=(1, 2)) / (len(SEEDS) * (len(SEEDS) - 1))
    apart = found["function words have converged more than content words"]
    assert apart.figure == f"{last[CONTENT].mean() - last[~CONTENT].mean():+.4f} nats"
    apart = found["frequent tokens have converged more than rare ones"]
    counted = index >= 60  # the level below has fewer tokens than are compared
    rare, frequent = last[counted & RARE].mean(), last[counted & ~RARE].mean()
    assert apart.figure == f"{rare - frequent:+.4f} nats"
    top = kl(PAPER, TOP_STEP).sum(axis=(1, 2)) / (len(SEEDS) * (len(SEEDS) - 1))
    fallen = (top - last)[~CONTENT].mean()
    assert found["function words reconverge"].figure == f"{fallen:+.4f} nats"
    risen = kl_unigram(PAPER, LAST).mean(dtype=float) - kl_unigram(PAPER, TURN).mean(dtype=float)
    away = found["KL to the unigram distribution is higher at the end than at the turn"]
    assert away.figure == f"{risen:+.4f} nats"


def test_minimal_pairs_are_compared_in_both_senses(study: Study) -> None:
    fallen = {}
    for step in (TOP_STEP, LAST):
        values = pairs_of(PAPER, step).astype(float)
        p = 1 / (1 + np.exp(values[..., 1] - values[..., 0]))
        means, items = [], []
        for i, j in itertools.permutations(range(len(SEEDS)), 2):
            means.append(two_way_kl(p[i].mean(), p[j].mean()))
            items.append(two_way_kl(p[i], p[j]).mean())
        fallen[step] = np.mean(means), np.mean(items)
    found = of(study, PAPER)
    for at, measure in enumerate(("kl_of_means", "mean_of_kl")):
        each = found[f"seeds reconverge on minimal pairs ({measure})"]
        assert each.figure == f"{fallen[TOP_STEP][at] - fallen[LAST][at]:+.4f} nats"
        assert each.where == f"{PAPER}, step {TOP_STEP} minus step {LAST} (n = 40)"


def two_way_kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))


def test_the_ensemble_is_held_against_its_members(study: Study) -> None:
    found = of(study, PAPER)
    own = SURPRISAL.mean(dtype=float)
    ambiguity = own + np.log(np.exp(-SURPRISAL.astype(float)).mean(axis=0)).mean()
    sum_of_both = found["mean cross-entropy = cross-entropy of the ensemble + ambiguity"]
    assert sum_of_both.figure == f"{own:.4f} = {own - ambiguity:.4f} + {ambiguity:.4f} nats"
    better = found["the ensemble predicts better than its members do on average"]
    assert better.figure == f"{ambiguity:+.4f} nats"
    nearer = found["seeds come nearer to their mean late in training"]
    fallen = to_mean(PAPER, TOP_STEP).mean(dtype=float) - to_mean(PAPER, LAST).mean(dtype=float)
    assert nearer.figure == f"{fallen:+.4f} nats"


def test_runs_in_groups_are_only_held_against_that(study: Study) -> None:
    found = [each for each in find(study) if each.where.startswith(GROUPED)]
    assert [each.claim for each in found] == [
        "runs of one group are closer than runs of two",
        "runs of one initialisation are closer than runs of one data order",
    ]
    # 70 arrangements of 8 runs in two groups: the groups may change places.
    assert {each.interval for each in found} == {"p = 0.029 of 70 arrangements (all)"}
    assert {each.verdict for each in found} == {"holds"}
    off, first = ~np.eye(8, dtype=bool), np.arange(8) < 4
    both, neither = (off & (of[:, None] & of) for of in (first, ~first))
    apart = OF_RUNS[neither].mean() - OF_RUNS[both].mean()
    assert found[1].figure.endswith(f"= {apart:+.4f} nats")
    within = OF_RUNS[both | neither].mean()
    between = OF_RUNS[first[:, None] != first].mean()
    assert found[0].figure == f"{between - within:+.4f} nats"


def test_the_opposite_does_not_hold(study: Study) -> None:
    found = of(study, OTHER)
    assert {claim for claim, each in found.items() if each.verdict != "does not hold"} == {
        "KL to the unigram distribution is higher before it than at the turn",
        "mean cross-entropy = cross-entropy of the ensemble + ambiguity",
        "the ensemble predicts better than its members do on average",
    }
    assert not [claim for claim in found if "reconverge" in claim], "there is no such phase"


def test_sizes_are_compared_at_their_last_step(study: Study) -> None:
    """The later model counts as the larger one, and its KL is lower here and falls."""
    sizes = [each for each in find(study) if "larger" in each.claim]
    assert [each.verdict for each in sizes] == ["holds"] * 4
    less = (kl(OTHER, LAST) - kl(PAPER, LAST)).mean(dtype=float) * len(SEEDS) / (len(SEEDS) - 1)
    assert sizes[0].figure == f"{less:+.4f} nats"
    paper, other = (
        (kl(model, TOP_STEP) - kl(model, LAST)).mean(dtype=float) * len(SEEDS) / (len(SEEDS) - 1)
        for model in (PAPER, OTHER)
    )
    assert sizes[3].figure == f"{paper - other:+.4f} nats"
