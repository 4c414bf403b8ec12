"""KL to a reference is kept next to what there is, also when it comes later or one is killed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t as student

from seedconv_tui.cli.main import run
from store import StoreError, StudyMismatchError, open_study
from store.maintenance import verify
from store.schema import REFERENCE_METRICS, REFERENCES, TO_END, TO_MODEL, USUAL
from tests.support.made_store import (
    Clock,
    committed,
    expect_nothing_changed,
    fill,
    make_categories,
    make_corpus,
    open_writer,
    reduce,
    score,
    summarise_step,
    to_reference,
)

CHOSEN = (*USUAL, *REFERENCES)
SEEDS, STEPS = ("1", "2", "3"), (0, 8)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Step 0 has all references; step 8 only the model's: the end had not come."""
    path = tmp_path_factory.mktemp("template") / "study.zarr"
    writer = open_writer(path, divergences=CHOSEN)
    fill(writer, "m", SEEDS, (0,))
    writer.plan("m", [(seed, 8) for seed in SEEDS], {})
    for seed in SEEDS:
        score(writer, "m", seed, 8)
    reduce(writer, "m", 8, SEEDS, references=[TO_MODEL.name])
    summarise_step(writer, "m", 8)
    writer.close("stopped")
    return path


@pytest.fixture
def study(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "study.zarr"))


def damage_of(store: Path) -> list[str]:
    return [d.message for checked in verify(store) for d in checked.damage]


def expect_values(store: Path, step: int, seeds: tuple[str, ...], names: tuple[str, ...]) -> None:
    read, data = open_study(store), open_study(store).dataset("m").sel(step=step)
    for name in REFERENCES:
        expected = to_reference(name, "m", seeds, step)
        for seed, values in zip(seeds, expected, strict=True):
            if name in names:
                np.testing.assert_array_equal(read.values("m", name, seed, step), values)
                np.testing.assert_array_equal(data[name].sel(seed=seed), values)
            else:
                assert np.isnan(data[name].sel(seed=seed)).all()
                with pytest.raises(StoreError, match="not there"):
                    read.values("m", name, seed, step)


def test_what_comes_later_is_kept_beside_what_is_there(study: Path) -> None:
    expect_values(study, 0, SEEDS, REFERENCES)
    expect_values(study, 8, SEEDS, (TO_MODEL.name,))
    assert not damage_of(study)
    before = committed(open_study(study))
    writer = open_writer(study, divergences=CHOSEN)
    reduce(writer, "m", 8, SEEDS)
    assert 8 not in open_study(study).ledger("m").summaries  # they lack what came
    summarise_step(writer, "m", 8)
    writer.close("finished")
    expect_nothing_changed(before, committed(open_study(study)))
    expect_values(study, 8, SEEDS, REFERENCES)
    assert open_study(study).ledger("m").sets[8].reference == "weights of the reference"
    assert not damage_of(study)


@pytest.mark.parametrize("how", ["killed", "failed"])
def test_what_was_not_committed_goes(study: Path, how: str) -> None:
    before = committed(open_study(study))
    writer = open_writer(study, divergences=CHOSEN)
    reduce(writer, "m", 8, SEEDS, commit=False)
    loose = study / f"models/m/loose/{TO_END.name}/c/1"
    assert loose.exists()
    if how == "killed":
        clock = Clock()
        clock.now += 60
        writer = open_writer(study, clock, divergences=CHOSEN)  # nobody has closed the other
    else:
        writer.results.discard("m", 8, (), SEEDS)
    assert not any(loose.glob("*/*"))
    assert committed(open_study(study)) == before
    reduce(writer, "m", 8, SEEDS)
    expect_values(study, 8, SEEDS, REFERENCES)
    writer.close("finished")
    assert not damage_of(study)


def test_a_late_seed_has_all_compared_again(study: Path) -> None:
    writer = open_writer(study, divergences=CHOSEN)
    writer.plan("m", [("late", 0)], {})
    score(writer, "m", "late", 0)
    seeds = (*SEEDS, "late")
    reduce(writer, "m", 0, seeds, references=[TO_MODEL.name])
    expect_values(study, 0, seeds, (TO_MODEL.name,))  # the late one's end has not come
    reduce(writer, "m", 0, seeds)
    expect_values(study, 0, seeds, REFERENCES)
    writer.close("finished")
    assert not damage_of(study)


def test_what_is_damaged_is_compared_again(study: Path) -> None:
    for pack in (study / f"models/m/{TO_MODEL.name}").glob("c.0.*"):
        pack.write_bytes(b"damaged")
    assert damage_of(study)
    assert run(["verify", str(study), "--mend"]) == 0
    assert not damage_of(study)
    known = open_study(study).ledger("m")
    assert 0 not in known.sets
    assert 8 in known.sets
    writer = open_writer(study, divergences=CHOSEN)
    reduce(writer, "m", 0, SEEDS)
    writer.close("finished")
    expect_values(study, 0, SEEDS, REFERENCES)
    assert not damage_of(study)


def test_another_choice_is_refused(study: Path) -> None:
    with pytest.raises(StudyMismatchError, match=r"has kl_to_end and .*\[reference\].* none"):
        open_writer(study)


def test_summaries_are_those_of_plain_sums(study: Path) -> None:
    """Means, and the interval: seeds are independent draws, and so are the two documents."""
    read = open_study(study)
    document = make_corpus().document
    for category in make_categories():
        summary = read.summary("m", category.name)
        for level in range(len(category.labels)):
            inside = category.level == level
            for metric in REFERENCE_METRICS:
                found = summary.mean_to_reference[metric.name][:, :, level]
                assert np.isnan(found[1]).all() == (metric.at_end or not inside.any())
                if not inside.any():
                    assert np.isnan(found).all()
                    continue
                tokens = to_reference(metric.name, "m", SEEDS, 0).astype(float)
                of_seed = tokens[:, inside].mean(axis=1)
                mean = of_seed.mean()
                of_seeds = of_seed.var(ddof=1) / 3
                parts = [tokens.mean(axis=0)[inside & (document == d)] for d in (0, 1)]
                shares = [len(part) / inside.sum() for part in parts]
                of_documents = sum(
                    (h * (part.mean() - mean)) ** 2 / (1 - h)
                    for h, part in zip(shares, parts, strict=True)
                )
                both = of_seeds + of_documents
                df = both**2 / (of_seeds**2 / 2 + of_documents**2)
                half = student.ppf(0.975, df) * both**0.5
                np.testing.assert_allclose(
                    summary.to_reference[metric.name][0, :, level], of_seed, rtol=1e-6
                )
                np.testing.assert_allclose(
                    found[0], [mean, max(mean - half, 0), mean + half], rtol=1e-5
                )
