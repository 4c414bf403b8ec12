"""Summaries by level: numbers against pandas, and what makes them again."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
import zarr
from transformers import AutoModelForCausalLM

from seedconv_tui.cli.main import run
from store import DamagedError, StoreError, Study, open_study
from store.analysis import summarise
from store.schema import Category
from tests.support.made_store import (
    fill,
    make_categories,
    open_writer,
    reduce,
    score,
    summarise_step,
)
from tests.support.tiny_models import CUSTOM, make_runs, write_study

SEEDS, STEPS = ("1", "2", "3"), (0, 4, 8)
RESULTS = ("surprisal", "entropy", "kl_unigram")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds by three steps; the parts of speech take a moment, so they are in it once."""
    folder = tmp_path_factory.mktemp("summaries")
    make_runs(folder, seeds=SEEDS, steps=STEPS)
    every = ["frequency", "pos", "word_class", "surprisal", "word_position", "position", "document"]
    assert run(["run", str(write_study(folder, categories__include=every))]) == 0
    return folder


@pytest.fixture(scope="module")
def study(folder: Path) -> Study:
    return open_study(folder / "study.zarr")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def long_form(study: Study, step: int) -> pd.DataFrame:
    """A row per token and pair, nothing but per-token results in it."""
    rows = []
    for i, j in itertools.permutations(SEEDS, 2):
        kl = study.values("m", "kl", i, step, j).astype(np.float64)
        rows.append(pd.DataFrame({"token": np.arange(len(kl)), "i": i, "j": j, "kl": kl}))
    return pd.concat(rows, ignore_index=True)


def test_every_category_is_there(study: Study) -> None:
    both = ["frequency", "pos", "word_class", "surprisal", "word_position"]
    assert set(study.categories("m")) == {
        "all", "position", "document", *both, *(f"{name}_context" for name in both)
    }  # fmt: skip
    for name in study.categories("m"):
        category = study.category("m", name)
        assert category.description
        assert category.counts.sum() == (category.level >= 0).sum()
        assert study.summary("m", name).counts.tolist() == category.counts.tolist()


@pytest.mark.parametrize("step", STEPS)
def test_expected_kl_by_level_against_pandas(study: Study, step: int) -> None:
    rows = long_form(study, step)
    at = STEPS.index(step)
    for name in study.categories("m"):
        category, summary = study.category("m", name), study.summary("m", name)
        rows["level"] = category.level[rows["token"]]
        expected = rows[rows["level"] >= 0].groupby("level")["kl"].mean()
        found = pd.Series(summary.expected_kl[at]).dropna()
        pd.testing.assert_series_equal(
            found, expected, check_names=False, check_index_type=False, rtol=1e-12
        )
        pairs = rows[rows["level"] >= 0].groupby(["i", "j", "level"])["kl"].mean()
        stored = study.dataset("m")["level_kl"].isel(step=at).load()
        span = study.levels(name)
        for (i, j, level), value in pairs.items():
            got = float(stored.sel(seed=i, other_seed=j)[span.start + level])
            assert got == pytest.approx(value, rel=1e-12)


def test_a_corpus_of_several_runs_of_tokens_is_summarised_alike(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [study.category("m", name) for name in study.categories("m")]
    token_kl, whole = summarise(study, "m", 8, SEEDS, parts)
    monkeypatch.setattr("store.analysis.level_means._RUN", 37)  # far more tokens else
    same_token_kl, in_runs = summarise(study, "m", 8, SEEDS, parts)
    np.testing.assert_array_equal(same_token_kl, token_kl)
    for category, summaries in whole.items():
        for name, values in summaries.items():
            found = in_runs[category][name]
            np.testing.assert_allclose(found, values, rtol=1e-12, atol=1e-15, err_msg=name)


def test_a_category_is_summarised_as_if_it_were_the_only_one(study: Study) -> None:
    """To the last bit: others come and go, as do the engines that summarise them."""
    parts = [study.category("m", name) for name in study.categories("m")]
    _, together = summarise(study, "m", 8, SEEDS, parts)
    for part in parts:
        _, alone = summarise(study, "m", 8, SEEDS, [part])
        for name, values in alone[part.name].items():
            np.testing.assert_array_equal(together[part.name][name], values, err_msg=name)


@pytest.mark.parametrize("name", ["all", "frequency", "document"])
def test_the_interval_against_a_plain_computation(study: Study, name: str) -> None:
    """Leave each seed out, take documents whole, though unequal, add both, Satterthwaite."""
    rows = long_form(study, 8)
    category, summary = study.category("m", name), study.summary("m", name)
    rows["level"] = category.level[rows["token"]]
    rows["document"] = study.corpus.document[rows["token"]]
    for level, inside in rows.groupby("level"):
        left_out = [
            inside[(inside["i"] != seed) & (inside["j"] != seed)]["kl"].mean() for seed in SEEDS
        ]
        of_seeds = (len(SEEDS) - 1) * np.var(left_out)
        by_token = inside.groupby(["document", "token"])["kl"].mean().reset_index()
        mean = by_token["kl"].mean()
        documents = by_token.groupby("document")["kl"]
        share = documents.size() / len(by_token)
        miss = documents.apply(lambda kl, m=mean: (kl - m).sum()) / len(by_token)
        of_documents, df = 0.0, 1.0
        if len(share) > 1:
            of_documents = float((miss**2 / (1 - share)).sum())
            df = max(1 / (share**2).sum() - 1, 1.0)
        variance = of_seeds + of_documents
        spent = of_seeds**2 / (len(SEEDS) - 1) + of_documents**2 / df
        half = scipy.stats.t.ppf(0.975, variance**2 / spent) * np.sqrt(variance)
        assert summary.kl_low[2, level] == pytest.approx(max(mean - half, 0), rel=1e-9)
        assert summary.kl_high[2, level] == pytest.approx(mean + half, rel=1e-9)


def test_token_kl_and_its_percentiles(study: Study) -> None:
    for at, step in enumerate(STEPS):
        mean = long_form(study, step).groupby("token")["kl"].mean()
        np.testing.assert_allclose(study.token_kl("m", step), mean, rtol=1e-6)
        for name in ("all", "pos", "document"):
            category, summary = study.category("m", name), study.summary("m", name)
            for level in np.flatnonzero(category.counts):
                inside = mean[category.level == level]
                wanted = np.percentile(inside, [50, 90, 95, 99, 99.9, 100])
                np.testing.assert_allclose(
                    summary.kl_percentile[at, :, level], wanted, rtol=1e-12, atol=1e-15
                )


def test_cross_entropy_entropy_and_baselines(study: Study) -> None:
    for (at, step), (s, seed) in itertools.product(enumerate(STEPS), enumerate(SEEDS)):
        for name in ("all", "frequency", "pos_context"):
            category, summary = study.category("m", name), study.summary("m", name)
            results = {v: study.values("m", v, seed, step) for v in RESULTS}
            table = pd.DataFrame({"level": category.level, **results})
            wanted = table[table["level"] >= 0].astype(np.float64).groupby("level").mean()
            level = wanted.index.to_numpy(int)
            for field, of in zip(("cross_entropy", *RESULTS[1:]), RESULTS, strict=True):
                np.testing.assert_allclose(
                    getattr(summary, field)[at, s, level], wanted[of], rtol=1e-12
                )
            np.testing.assert_allclose(
                summary.kl_uniform[at, s, level], np.log(study.vocab_size) - wanted["entropy"]
            )


def test_kl_to_the_unigram_distribution_against_float64(folder: Path, study: Study) -> None:
    """From the model's logits: sum over v of p (log p - log u), with add-one counts."""
    count = study.vocabulary.count.astype(np.float64) + 1
    unigram = np.log(count / count.sum())
    model = AutoModelForCausalLM.from_pretrained(folder / "runs/seed1/step8").double()
    ids = np.concatenate([study.corpus.context_id[:1], study.corpus.token_id])
    with torch.inference_mode():
        logits = model(torch.from_numpy(ids[:32]).long()[None]).logits[0, :, : study.vocab_size]
    log_p = logits.log_softmax(-1).numpy()
    wanted = (np.exp(log_p) * (log_p - unigram)).sum(-1)
    found = study.values("m", "kl_unigram", "1", 8)[:32]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=2e-6)
    assert "the corpus itself" in study.vocabulary.source
    assert (
        study.vocabulary.count.tolist()
        == np.bincount(study.corpus.token_id, minlength=study.vocab_size).tolist()
    )


def test_a_category_is_added_without_scoring_again(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = open_study(copy / "study.zarr").summary("m", "frequency")
    shutil.rmtree(copy / "runs")  # nothing is left to score
    file = write_study(copy, categories__include=["frequency"], models__seeds=[], models__steps=[])
    text = (
        file.read_text().replace("seeds = []", 'seeds = ["1"]').replace("steps = []", "steps = [0]")
    )
    file.write_text(text + CUSTOM)
    capsys.readouterr()
    assert run(["run", str(file)]) == 0
    assert "summarising 3 steps" in capsys.readouterr().err
    study = open_study(copy / "study.zarr")
    summary = study.summary("m", "vowel")
    assert summary.labels == ("match", "no match")
    assert np.isfinite(summary.expected_kl).all()
    after = study.summary("m", "frequency")
    np.testing.assert_array_equal(after.expected_kl, before.expected_kl)
    category = study.category("m", "vowel")
    for token in range(20):
        vowel = any(c in study.corpus.token_text(token) for c in "aeiou")
        assert category.level[token] == (0 if vowel else 1)


def test_a_category_that_means_something_else_is_summarised_anew(copy: Path) -> None:
    file = write_study(copy, categories__include=["frequency"])
    plain = file.read_text()
    file.write_text(plain + CUSTOM)
    assert run(["run", str(file)]) == 0
    first = open_study(copy / "study.zarr").summary("m", "vowel")
    file.write_text(plain + CUSTOM.replace("aeiou", "xyz"))
    assert run(["run", str(file)]) == 0
    study = open_study(copy / "study.zarr")
    second = study.summary("m", "vowel")
    assert second.counts.tolist() != first.counts.tolist()
    rows = long_form(study, 8)
    rows["level"] = study.category("m", "vowel").level[rows["token"]]
    np.testing.assert_allclose(second.expected_kl[2], rows.groupby("level")["kl"].mean())
    assert run(["verify", str(copy / "study.zarr")]) == 0


def test_surprisals_are_of_the_newest_step_that_all_seeds_reached(tmp_path: Path) -> None:
    make_runs(tmp_path, seeds=SEEDS, steps=(0, 4))
    file = write_study(tmp_path, categories__include=["surprisal"])
    assert run(["run", str(file)]) == 0
    summary = open_study(tmp_path / "study.zarr").summary("m", "surprisal")
    assert summary.step_of_levels == 4
    make_runs(tmp_path, seeds=SEEDS, steps=(8,))
    make_runs(tmp_path, seeds=SEEDS[:2], steps=(16,))
    assert run(["run", str(file)]) == 0
    study = open_study(tmp_path / "study.zarr")
    summary = study.summary("m", "surprisal")
    assert summary.step_of_levels == 8
    assert summary.n_seeds.tolist() == [3, 3, 3, 2]
    mean = np.mean([study.values("m", "surprisal", seed, 8) for seed in SEEDS], axis=0)
    level = np.digitize(mean, [1, 2, 4, 8])
    assert study.category("m", "surprisal").level.tolist() == level.tolist()
    assert summary.counts.tolist() == np.bincount(level, minlength=5).tolist()
    rows = long_form(study, 0)
    wanted = rows.groupby(level[rows["token"]])["kl"].mean()
    np.testing.assert_allclose(summary.expected_kl[0][wanted.index], wanted)


def test_surprisals_at_a_step_of_choice(copy: Path) -> None:
    file = write_study(copy, categories__include=["surprisal"], categories__surprisal_step=4)
    assert run(["run", str(file)]) == 0
    assert open_study(copy / "study.zarr").summary("m", "surprisal").step_of_levels == 4


def test_surprisals_of_a_seed_of_choice(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The paper takes its first seed's; what was made of the mean is made again."""
    seed, step = SEEDS[1], 4
    only = {"categories__include": ["surprisal"], "categories__surprisal_step": step}
    for chosen in ({}, {"categories__surprisal_seed": seed}, {}):
        assert run(["run", str(write_study(copy, **only, **chosen))]) == 0
        study = open_study(copy / "study.zarr")
        of = [study.values("m", "surprisal", each, step).astype(np.float64) for each in SEEDS]
        expected = of[1] if chosen else np.mean(of, axis=0)
        found = study.category("m", "surprisal")
        assert found.level.tolist() == np.digitize(expected, [1, 2, 4, 8]).tolist()
        whose = f"seed {seed}" if chosen else "mean over seeds"
        assert found.description == f"surprisal of the target in nats, {whose} at step {step}"
        summary = study.summary("m", "surprisal")
        assert summary.counts.tolist() == np.bincount(found.level, minlength=5).tolist()
    other = {**only, "categories__surprisal_seed": "none"}
    capsys.readouterr()
    assert run(["run", str(write_study(copy, **other))]) == 0  # seeds are discovered
    message = "m: no compared step has seed none of categories.surprisal_seed"
    assert message in capsys.readouterr().err
    for changes, message in (
        ({}, "m: step 7 of categories.surprisal_step is not compared; levels of surprisal stay"),
        ({"categories__surprisal_seed": "none"}, "m: no compared step has seed none of"),
    ):
        changes |= {"categories__include": ["surprisal"], "categories__surprisal_step": 7}
        assert run(["run", str(write_study(copy, **changes))]) == 0
        assert message in capsys.readouterr().err
    assert run(["run", str(write_study(copy, models__seeds=list(SEEDS), **other))]) == 2
    message = 'categories.surprisal_seed: model "m" has no seed "none"; name one that all models'
    assert message in capsys.readouterr().err


GROUPS = """
[[categories.groups]]
name = "common"
of = "frequency"
levels = { "often, here" = ["10-99", "1??-*"], seldom = ["1-9"] }
[[categories.groups]]
name = "sure"
of = "surprisal"
levels = { sure = ["0-1", "1-2"], unsure = ["4-8"] }
rest = ""
"""
GROUPED = {  # by label of the category
    "common": {"10-99": "often, here", "100-999": "often, here", "1-9": "seldom"},
    "sure": {"0-1": "sure", "1-2": "sure", "4-8": "unsure"},
}


def check_groups(study: Study, of: str, name: str, labels: dict[str, str], rest: str) -> None:
    """Hold a group's numbers against means over tokens by a label that is looked up in pandas."""
    for end in ("", "_context"):
        base, found = study.category("m", of + end), study.summary("m", name + end)
        rows = long_form(study, 8)
        rows["level"] = [
            labels.get(base.labels[level], rest or None) if level >= 0 else None
            for level in base.level[rows["token"]]
        ]
        wanted = rows.groupby("level")["kl"].mean()
        got = pd.Series(found.expected_kl[STEPS.index(8)], found.labels).dropna()
        pd.testing.assert_series_equal(got.sort_index(), wanted, check_names=False, rtol=1e-12)
        tokens = rows.groupby("level")["token"].nunique()
        assert {k: n for k, n in zip(found.labels, found.counts.tolist(), strict=True) if n} == (
            tokens.to_dict()
        )


def test_groups_of_levels(copy: Path) -> None:
    file = write_study(copy, categories__include=["frequency", "surprisal"])
    plain = file.read_text()
    file.write_text(plain + GROUPS)
    assert run(["run", str(file)]) == 0
    study = open_study(copy / "study.zarr")
    assert study.category("m", "common").labels == ("often, here", "seldom", "other")
    description = study.category("m", "common_context").description
    assert "the token before the target" in description
    assert 'grouped: "often, here" of 10-99, 1??-*; seldom of 1-9; other of all else' in description
    check_groups(study, "frequency", "common", GROUPED["common"], "other")
    check_groups(study, "surprisal", "sure", GROUPED["sure"], "")
    assert study.summary("m", "sure").step_of_levels == 8

    changed = GROUPS.replace('"0-1", "1-2"', '"0-1", "2-4"').replace('"1-9"', '"1-9", "0"')
    file.write_text(plain + changed)
    assert run(["run", str(file)]) == 0
    study = open_study(copy / "study.zarr")
    check_groups(study, "frequency", "common", GROUPED["common"] | {"0": "seldom"}, "other")
    other = {"0-1": "sure", "2-4": "sure", "4-8": "unsure"}
    check_groups(study, "surprisal", "sure", other, "")
    assert run(["verify", str(copy / "study.zarr")]) == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('"1-9"', '"1-8"'), "groups 'common': levels: seldom: frequency has no level '1-8'; it "),
        (('"1-9"', '"1*"'), "level 10-99 of frequency is in two of them; leave it out of one"),
        (('"4-8"', '"4-7"'), "groups 'sure': levels: unsure: surprisal has no level '4-7'; it has"),
        (('of = "frequency"', 'of = "pos"'), "groups 'common': of: should be a category of the st"),
        (('"common"', '"POS"'), "is the name of a built-in category"),
        (('"common"', '"sure"'), "categories: groups: names sure twice"),
        (('["1-9"]', "[]"), "levels: seldom should name a level or more, found []"),
        (('rest = ""', 'rest = "sure"'), "rest: sure is one of the levels; choose another"),
    ],
)
def test_a_wrong_group_is_said_in_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    change: tuple[str, str], said: str,
) -> None:  # fmt: skip
    for made in folder.iterdir():
        if made.name not in {"study.toml", "study.zarr"}:
            (tmp_path / made.name).symlink_to(made)
    file = write_study(tmp_path, categories__include=["frequency", "surprisal"])
    file.write_text(file.read_text() + GROUPS.replace(*change))
    assert run(["run", str(file)]) == 2
    lines = capsys.readouterr().err.splitlines()
    (line,) = [line for line in lines if line.startswith("seedconv: ")]
    assert said in line


# -- the store's side ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "study.zarr"
    writer = open_writer(path)
    fill(writer, "m", SEEDS, (0, 8))
    writer.close("finished")
    return path


@pytest.fixture
def filled(template: Path, tmp_path: Path) -> Iterator[Any]:
    writer = open_writer(Path(shutil.copytree(template, tmp_path / "study.zarr")))
    yield writer
    writer.close("finished")


def test_a_late_seed_takes_the_summary_back_until_it_is_made_again(filled: Any) -> None:
    study = filled.study()
    before = study.summary("m")
    assert before.n_seeds.tolist() == [3, 3]
    filled.plan("m", [("late", 8)], {})
    score(filled, "m", "late", 8)
    reduce(filled, "m", 8, (*SEEDS, "late"))
    study.refresh()
    still = study.summary("m")  # of the seeds it is of
    assert still.n_seeds.tolist() == [3, 3]
    np.testing.assert_array_equal(still.expected_kl, before.expected_kl)
    summarise_step(filled, "m", 8)
    study.refresh()
    now = study.summary("m")
    assert now.n_seeds.tolist() == [3, 4]
    assert now.expected_kl[0] == before.expected_kl[0]
    assert now.expected_kl[1] != before.expected_kl[1]


def test_summaries_go_with_what_they_are_of(filled: Any) -> None:
    study = filled.study()
    filled.forget("m", 8, ["1"])
    study.refresh()
    assert np.isnan(study.summary("m").expected_kl[1])
    with pytest.raises(StoreError, match="not summarised"):
        study.token_kl("m", 8)
    filled.summaries.drop_category("third")
    study.refresh()
    assert study.categories("m") == ("all",)
    with pytest.raises(StoreError, match="no category 'third'; it has: all"):
        study.summary("m", "third")
    filled.summaries.set_category(make_categories()[1])
    study.refresh()
    assert np.isfinite(study.summary("m", "third").expected_kl[0, :2]).all()  # nothing else changed


def test_levels_are_there_before_a_new_category_is(tmp_path: Path) -> None:
    """Also in models that the writer has nothing to do with, and where nothing is reduced."""
    first = open_writer(tmp_path / "study.zarr")
    fill(first, "m", SEEDS, (0, 8))
    fill(first, "alone", ("1",), (0,))
    first.close("finished")
    writer = open_writer(first.path)
    level = np.zeros(writer.n_tokens, np.int32)
    writer.summaries.set_category(Category("new", ("a", "b", "c"), level, "made in the test"))
    study = writer.study()
    assert np.isfinite(study.summary("m").expected_kl).all()
    assert np.isnan(study.summary("m", "new").expected_kl).all()
    assert np.isnan(study.summary("alone").expected_kl).all()
    assert len(study.snapshot().models) == 2
    writer.close("finished")
    assert run(["verify", str(writer.path)]) == 0


def test_a_reader_that_has_not_looked_for_long_gets_numbers_of_one_moment(filled: Any) -> None:
    study = filled.study()
    filled.plan("m", [("late", 8)], {})
    score(filled, "m", "late", 8)
    reduce(filled, "m", 8, (*SEEDS, "late"))
    summarise_step(filled, "m", 8)
    swapped = Category("third", ("c", "b", "a"), make_categories()[1].level, "the same levels")
    filled.summaries.set_category(swapped)
    summary = study.summary("m")
    assert summary.n_seeds.tolist() == [3, 4]
    np.testing.assert_array_equal(summary.expected_kl, filled.study().summary("m").expected_kl)
    assert study.summary("m", "third").labels == ("c", "b", "a")


def test_a_dataset_stays_readable_while_the_study_grows(filled: Any) -> None:
    study = filled.study()
    before = study.summary("m", "third").cross_entropy
    data = study.dataset("m")
    filled.plan("m", [("late", 8)], {})
    level = np.zeros(filled.n_tokens, np.int32)
    filled.summaries.set_category(Category("new", ("a", "b"), level, "made in the test"))
    study.refresh()
    span = study.levels("third")
    found = data["level_cross_entropy"].to_numpy()[..., span.start : span.stop]
    np.testing.assert_array_equal(found, before)
    filled.summaries.set_category(
        Category("third", ("c", "b", "a"), make_categories()[1].level, "renamed")
    )
    summarise_of = (make_categories()[0], study_category(filled, "third"))
    filled.summaries.summarise(
        "m", 8, SEEDS, *summarise(filled.study(), "m", 8, SEEDS, summarise_of)
    )
    study.refresh()
    found = data["level_cross_entropy"].to_numpy()[..., span.start : span.stop]
    assert np.isnan(found).all()  # its labels are others now


def study_category(writer: Any, name: str) -> Category:
    return cast(Study, writer.study()).category("m", name)


def test_values_that_are_gone_are_damage_and_no_nan(template: Path, tmp_path: Path) -> None:
    """As in a copy whose log is ahead of its data, or where a chunk was lost before it grew."""
    for name in ("kl_percentile", "kl_low", "entropy"):
        lost = Path(shutil.copytree(template, tmp_path / name))
        array = zarr.open_array(lost / "models/m/summary" / name, mode="r+")
        array.with_config({"write_empty_chunks": True})[...] = np.nan
        with pytest.raises(DamagedError, match=f"{name}: lacks values"):
            open_study(lost).summary("m", "third")
        assert run(["verify", str(lost)]) == 1
        assert run(["verify", str(lost), "--mend"]) == 0


@pytest.mark.parametrize("how", ["flipped", "gone"])
def test_a_run_mends_the_levels_of_surprisal(
    copy: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = open_study(copy / "study.zarr").summary("m", "surprisal")
    chunk = copy / "study.zarr/models/m/category/surprisal/c/0"
    if how == "gone":
        chunk.unlink()
    else:
        chunk.write_bytes(chunk.read_bytes()[:-1] + b"\x55")
    file = write_study(copy)
    assert run(["run", str(file)]) == 0
    assert "computing the levels of surprisal again" in capsys.readouterr().err
    after = open_study(copy / "study.zarr").summary("m", "surprisal")
    np.testing.assert_array_equal(after.expected_kl, before.expected_kl)
    assert run(["verify", str(copy / "study.zarr")]) == 0
    assert run(["run", str(file)]) == 0
    assert "levels of surprisal" not in capsys.readouterr().err  # where they have not moved


def test_a_damaged_summary_stops_no_run_and_is_not_written_over(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chunk = next((copy / "study.zarr/models/m/summary/kl_low/c").rglob("0"))
    chunk = chunk if chunk.is_file() else next(f for f in chunk.rglob("*") if f.is_file())
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"\x55")
    file = write_study(copy, categories__include=["frequency"])
    file.write_text(file.read_text() + CUSTOM)
    assert run(["run", str(file)]) == 1
    said = capsys.readouterr().err
    assert "m, step 0: cannot be summarised: " in said
    assert "--mend` has it computed again" in said
    assert "internal error" not in said
    assert run(["verify", str(copy / "study.zarr"), "--mend"]) == 0
    assert run(["run", str(file)]) == 0
    assert run(["verify", str(copy / "study.zarr")]) == 0
    assert np.isfinite(open_study(copy / "study.zarr").summary("m", "vowel").kl_low).all()


def test_an_unknown_category_is_told(study: Study) -> None:
    with pytest.raises(StoreError, match="no category 'colour'; it has: all, frequency"):
        study.summary("m", "colour")


def test_every_file_of_categories_is_checked_and_mended(copy: Path) -> None:
    """The group, the labels and the counts, which other readers rely on."""
    group = copy / "study.zarr/corpus/category"
    file = write_study(copy)
    for path, change in (
        (group, lambda metadata: metadata["attributes"].update(x=1)),
        (group / "frequency", lambda metadata: metadata["attributes"]["labels"].reverse()),
        (group / "frequency", lambda metadata: metadata["attributes"]["counts"].reverse()),
    ):
        metadata = json.loads((path / "zarr.json").read_text())
        change(metadata)
        (path / "zarr.json").write_text(json.dumps(metadata))
        assert run(["verify", str(copy / "study.zarr")]) == 1
        assert run(["verify", str(copy / "study.zarr"), "--mend"]) == 0
        assert run(["run", str(file)]) == 0
        assert run(["verify", str(copy / "study.zarr")]) == 0
    assert np.isfinite(open_study(copy / "study.zarr").summary("m", "frequency").kl_low).any()
