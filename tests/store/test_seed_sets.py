"""What depends on all seeds of a step is that of those compared now, also where one is killed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from seedconv_tui.cli.main import run
from store import StoreError, open_study
from store.maintenance import verify
from store.schema import ENSEMBLE_METRICS, TO_MEAN, USUAL
from tests.support.made_store import (
    N_TOKENS,
    Clock,
    checkpoint,
    committed,
    expect_nothing_changed,
    fill,
    make_categories,
    make_corpus,
    open_writer,
    pair_block,
    reduce,
    score,
    summarise_step,
    to_mean,
)

CHOSEN = (*USUAL, TO_MEAN)
SEEDS, STEPS = ("1", "2", "3"), (0, 8)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "study.zarr"
    writer = open_writer(path, divergences=CHOSEN)
    fill(writer, "m", SEEDS, STEPS)
    writer.close("stopped")
    return path


@pytest.fixture
def study(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "study.zarr"))


def damage_of(store: Path) -> set[tuple[str, str | None, int | None]]:
    return {(d.path, d.seed, d.step) for checked in verify(store) for d in checked.damage}


def cells(store: Path) -> set[tuple[str, ...]]:
    """Step, seed and place of the loose cells."""
    found = (store / f"models/m/loose/{TO_MEAN}/c").glob("*/*/*")
    return {cell.parts[-3:] for cell in found}


def expect_values(store: Path, step: int, seeds: tuple[str, ...]) -> None:
    read, expected = open_study(store), to_mean("m", seeds, step)
    data = read.dataset("m")[TO_MEAN].sel(step=step)
    assert data.dims == ("seed", "token")
    for seed, values in zip(seeds, expected, strict=True):
        np.testing.assert_array_equal(read.values("m", TO_MEAN, seed, step), values)
        np.testing.assert_array_equal(data.sel(seed=seed), values)
    for seed in {*read.ledger("m").seeds} - {*seeds}:
        assert np.isnan(data.sel(seed=seed)).all()


def test_it_is_packed_and_read_back(study: Path) -> None:
    for step in STEPS:
        expect_values(study, step, SEEDS)
    assert not cells(study)
    assert len(list((study / f"models/m/{TO_MEAN}").glob("c.*"))) == len(STEPS)
    assert not damage_of(study)


def test_a_late_seed_makes_another_mean(study: Path) -> None:
    before = committed(open_study(study))
    reader = open_study(study)
    lazy = reader.dataset("m")[TO_MEAN]
    writer = open_writer(study, divergences=CHOSEN)
    writer.plan("m", [("late", step) for step in (*STEPS, 16)], {})
    score(writer, "m", "late", 8)
    expect_values(study, 8, SEEDS)  # until it is compared
    reduce(writer, "m", 8, (*SEEDS, "late"))
    summarise_step(writer, "m", 8)
    expect_values(study, 8, (*SEEDS, "late"))
    expect_values(study, 0, SEEDS)
    together = to_mean("m", (*SEEDS, "late"), 8)
    np.testing.assert_array_equal(lazy.sel(step=8, seed="1"), together[0])  # opened before
    reader.refresh()
    np.testing.assert_array_equal(reader.values("m", TO_MEAN, "late", 8), together[3])
    writer.close("finished")
    assert not cells(study)
    after = committed(open_study(study))
    gone = {key for key in before if key not in after}
    assert {key[-1] for key in gone} == {8}  # of three seeds, of whom four are compared now
    expect_nothing_changed({k: v for k, v in before.items() if k not in gone}, after)
    assert not damage_of(study)


def test_seeds_that_come_one_by_one_leave_nothing_of_fewer(tmp_path: Path) -> None:
    store = tmp_path / "study.zarr"
    writer = open_writer(store, divergences=CHOSEN)
    seeds = tuple(map(str, range(18)))  # more than lie in one pack
    writer.plan("m", [(seed, 0) for seed in seeds], {})
    for n, seed in enumerate(seeds, 1):
        score(writer, "m", seed, 0, keep=False)
        if n in (2, 3, 16, 18):
            reduce(writer, "m", 0, seeds[:n])
            expect_values(store, 0, seeds[:n])
            if n < len(seeds):
                assert cells(store) == {("0", seed, str(n - 1)) for seed in seeds[:n]}
    writer.close("stopped")
    assert len(list((store / f"models/m/{TO_MEAN}").glob("c.*"))) == 2  # 16 seeds, and 2
    assert not damage_of(store)


def test_a_reduction_that_was_killed_leaves_what_was_committed(study: Path) -> None:
    writer = open_writer(study, divergences=CHOSEN)
    writer.plan("m", [("late", 8), ("late", 16), ("1", 16)], {})
    for seed, step in (("late", 8), ("1", 16), ("late", 16)):
        score(writer, "m", seed, step)
    reduce(writer, "m", 16, ("1", "late"))
    before = committed(open_study(study))
    seeds = (*SEEDS, "late")
    pending = writer.results.begin_pairs("m", 8, seeds)
    pending.append(pair_block(writer, "m", 8, seeds))
    pending.finish()  # on disk, and not committed
    assert ("1", "3", "3") in cells(study)
    clock = Clock()
    clock.now += 60
    again = open_writer(study, clock, divergences=CHOSEN)  # nobody has closed the other
    assert committed(open_study(study)) == before
    assert ("1", "3", "3") not in cells(study)
    expect_values(study, 8, SEEDS)
    expect_values(study, 16, ("1", "late"))
    reduce(again, "m", 8, seeds)
    expect_values(study, 8, seeds)
    again.close("finished")
    assert not damage_of(study)


def test_a_pass_that_fails_leaves_what_was_committed(study: Path) -> None:
    writer = open_writer(study, divergences=CHOSEN)
    writer.plan("m", [("late", 8)], {})
    score(writer, "m", "late", 8)
    seeds = (*SEEDS, "late")
    pending = writer.results.begin_pairs("m", 8, seeds)
    pending.append(pair_block(writer, "m", 8, seeds))
    pending.finish()
    writer.results.discard("m", 8, (), seeds)
    assert not cells(study)
    expect_values(study, 8, SEEDS)
    writer.close("stopped")
    assert not damage_of(study)


def test_what_is_damaged_is_computed_again_of_log_probs(study: Path) -> None:
    exact = to_mean("m", SEEDS, 8)
    (pack,) = (study / f"models/m/{TO_MEAN}").glob("c.1.*")
    pack.write_bytes(b"damaged")
    path = f"models/m/{TO_MEAN}"
    assert damage_of(study) == {(path, seed, 8) for seed in SEEDS}
    assert run(["verify", str(study), "--mend"]) == 0
    assert not damage_of(study)
    read = open_study(study)
    for seed, values in zip(SEEDS, exact, strict=True):
        found = read.values("m", TO_MEAN, seed, 8)
        # That of the float16 rows was not normalised, this is
        np.testing.assert_allclose(found, values, atol=5e-3)
    assert np.isfinite(read.summary("m").of_ensemble("seed_divergence")).all()


def test_what_cannot_be_computed_again_is_compared_again(study: Path) -> None:
    writer = open_writer(study, divergences=CHOSEN)
    writer.drop_log_probs("m", 8, ["2"])
    writer.close("stopped")
    for pack in (study / f"models/m/{TO_MEAN}").glob("c.1.*"):
        pack.unlink()
    assert run(["verify", str(study), "--mend"]) == 0
    known = open_study(study).ledger("m")
    assert len(known.reduced[8]) == 2  # one is to be compared again, and all then are
    assert {*known.sets} == {0}
    with pytest.raises(StoreError, match="not there"):
        open_study(study).values("m", TO_MEAN, "1", 8)
    summary = open_study(study).summary("m")
    assert np.isnan(summary.of_ensemble("ambiguity")[1]).all()
    assert np.isfinite(summary.of_ensemble("ambiguity")[0]).all()
    assert not damage_of(study)
    writer = open_writer(study, divergences=CHOSEN)
    reduce(writer, "m", 8, SEEDS)
    summarise_step(writer, "m", 8)
    writer.close("finished")
    expect_values(study, 8, SEEDS)
    assert not damage_of(study)


def test_a_study_without_it_has_nothing_of_it(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "study.zarr")
    fill(writer, "m", SEEDS, (0,))
    writer.close("finished")
    names = {path.name for path in (tmp_path / "study.zarr").rglob("*")}
    assert not names & {TO_MEAN, "ensemble"}
    summary = open_study(tmp_path / "study.zarr").summary("m")
    assert not summary.has_ensemble
    assert np.isnan(summary.of_ensemble("ambiguity")).all()


def test_summaries_are_those_of_plain_sums(study: Path) -> None:
    """In float64, from the log-probs, one level after the other."""
    read = open_study(study)
    logs = np.stack([checkpoint("m", seed, 8)["log_probs"].astype(float) for seed in SEEDS])
    mean = np.log(np.exp(logs).mean(axis=0))
    target = make_corpus().token_id
    for category in make_categories():
        summary = read.summary("m", category.name)
        at = summary.steps.tolist().index(8)
        for level in range(len(category.labels)):
            inside = category.level == level
            found = {
                metric.name: summary.of_ensemble(metric.name)[at, level]
                for metric in ENSEMBLE_METRICS
            }
            if not inside.any():
                assert np.isnan([*found.values()]).all()
                continue
            kl = (np.exp(logs) * (logs - mean)).sum(-1)[:, inside].mean(axis=1)
            np.testing.assert_allclose(summary.kl_to_mean[at, :, level], kl, rtol=1e-6)
            assert found["seed_divergence"] == pytest.approx(kl.mean(), rel=1e-6)
            chosen = np.arange(N_TOKENS)[inside], target[inside]
            cross = -mean[chosen].mean()
            # Log-probs are rounded to float16 here, surprisals are not
            assert found["ensemble_cross_entropy"] == pytest.approx(cross, rel=2e-3)
            entropy = -(np.exp(mean) * mean).sum(-1)[inside].mean()
            assert found["ensemble_entropy"] == pytest.approx(entropy, rel=2e-3)
            own = summary.cross_entropy[at, :, level].mean()
            assert own == pytest.approx(found["ensemble_cross_entropy"] + found["ambiguity"])
            for metric in ENSEMBLE_METRICS:
                low, high = (
                    summary.of_ensemble(metric.name, end)[at, level] for end in ("low", "high")
                )
                assert 0 <= low <= found[metric.name] <= high
