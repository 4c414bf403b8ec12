"""Claims held against studies in which they were built in, or the opposite of them."""

from __future__ import annotations

import numpy as np
import pytest

from store import Study, open_study
from store.analysis import Finding, find, summarise
from store.schema import TOP, Category, Corpus, Vocabulary
from store.statistics import find_phases
from store.writing import Header, StudyWriter
from tests.support.made_store import Clock, floors

SEEDS, N, DOCUMENTS, VOCAB = ("1", "2", "3"), 1200, 24, 4
STEPS = np.array([0, 2, 8, 16, 32, 64, 128, 256, 512, 1024, 1536, 2048])
TURN, TOP_STEP, LAST = 32, 512, 2048
PAPER, OTHER = "paper", "other"  # models: as the paper found, and the other way round
RANDOM = np.random.default_rng(8)
OF_TOKEN, OF_SEED = RANDOM.normal(0, 0.01, N), RANDOM.normal(0, 0.004, len(SEEDS))

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


def kl_unigram(model: str, step: int) -> np.ndarray:
    """(token,), nats: nearest at the turn, or at the end."""
    nearest = TURN if model == PAPER else LAST
    return (0.1 + abs(np.log1p(step) - np.log1p(nearest)) + OF_TOKEN).astype(np.float32)


def add(writer: StudyWriter, model: str) -> None:
    for step in STEPS.tolist():
        writer.plan(model, [(seed, step) for seed in SEEDS], {})
        for seed in SEEDS:
            pending = writer.results.begin_checkpoint(model, seed, step, "none")
            top = np.zeros((N, TOP))
            pending.append(
                {
                    "surprisal": np.ones(N, np.float32),
                    "entropy": np.ones(N, np.float32),
                    "kl_unigram": kl_unigram(model, step),
                    "top_id": top.astype(np.int32),
                    "top_log_prob": top.astype(np.float32),
                }
            )
            writer.commit(model, step, [pending.finish(floors(step), {})])
        pairs = writer.results.begin_pairs(model, step, SEEDS)
        pairs.append({"kl": kl(model, step), "js": kl(model, step) / 8})
        writer.commit(model, step, pairs=pairs.finish())
        made = summarise(writer.study(), model, step, SEEDS, CATEGORIES)
        writer.summaries.summarise(model, step, SEEDS, *made)
    mean_kl = np.array([kl(model, step).mean(axis=0) for step in STEPS.tolist()], np.float64)
    writer.set_phases(model, find_phases(STEPS, mean_kl))


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
    writer = StudyWriter.open(path, Header("made", {}, {}), corpus, vocabulary, clock=Clock())
    for category in CATEGORIES:
        writer.summaries.set_category(category)
    for model in (OTHER, PAPER):
        add(writer, model)
    writer.close("finished")
    return open_study(path)


def of(study: Study, model: str) -> dict[str, Finding]:
    return {each.claim: each for each in find(study) if each.where.startswith(model)}


def test_what_was_built_in_is_found(study: Study) -> None:
    found = of(study, PAPER)
    assert {each.verdict for each in found.values()} == {"holds"}
    assert len(found) == 8
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


def test_the_opposite_does_not_hold(study: Study) -> None:
    found = of(study, OTHER)
    assert {claim for claim, each in found.items() if each.verdict != "does not hold"} == {
        "KL to the unigram distribution is higher before it than at the turn"
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
