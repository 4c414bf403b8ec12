"""`seedconv report`: numbers against a computation of their own, figures as they are printed."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from PIL import Image
from scipy import stats

from seedconv_tui.cli.main import run
from seedconv_tui.report import style
from seedconv_tui.report.figures import (
    between_checkpoints,
    by_level,
    by_probe,
    by_token,
    coefficients,
    model_differences,
    over_training,
)
from seedconv_tui.report.markup import md, tex
from seedconv_tui.report.parts import Figure, Omitted, file_name
from seedconv_tui.report.result_cache import ResultCache
from seedconv_tui.report.study_data import StudyData, in_order_of_size, model_pairs, spread
from seedconv_tui.report.summary_tables import tables
from seedconv_tui.text import step_label
from store import open_study
from store.analysis import simultaneous_band, summarise
from store.schema import Category, Phase, Schedule
from store.writing import StudyWriter
from tests.support import made_store
from tests.support.legible import check_legible
from tests.support.made_store import VOCAB, Values, make_corpus, make_vocabulary, open_writer
from tests.support.plain_statistics import plain_cluster, plain_half, plain_jackknife
from tests.support.probe_studies import probed
from tests.support.tiny_models import make_runs

N = 900
STEPS, SEEDS = (0, 3, 40, 500), ("a", "b", "c")
LARGE, SMALL = "m$\\x_{-2m}<i>|`", "m-1m"  # the study has the larger one first
MODELS = (SMALL, LARGE)
LABELS = ("<b>", "\x1b[2J", "_$x^2$ & | `", "漢")
POS = ("NOUN", "VERB", "DET", "?")
EXACT = {"rtol": 1e-6, "atol": 1e-9}


def categories() -> tuple[Category, ...]:
    index = np.arange(N, dtype=np.int32)
    return (
        Category("all", ("all",), np.zeros(N, np.int32), "all tokens"),
        Category("pos", POS, index * 7 % 5 // 1 % 4, "made in the test"),
        Category("pos_context", POS, np.roll(index * 7 % 5 % 4, 1), "of the token before"),
        Category("odd\n$", LABELS, index * 3 % 4, "<script>alert(1)</script>"),
    )


def level(category: str) -> np.ndarray:
    return next(each.level for each in categories() if each.name == category)


def fill(writer: StudyWriter, model: str, steps: tuple[int, ...] = STEPS) -> None:
    for category in categories():
        writer.summaries.set_category(category)
    for step in steps:
        writer.plan(model, [(seed, step) for seed in SEEDS], {})
        for seed in SEEDS:
            made_store.score(writer, model, seed, step)
        made_store.reduce(writer, model, step, SEEDS)
        values = summarise(writer.study(), model, step, SEEDS, categories())
        writer.summaries.summarise(model, step, SEEDS, *values)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "study.zarr"
    writer = open_writer(path, n_tokens=N)
    for model in reversed(MODELS):
        fill(writer, model)
        names = ("uniform", "sharp convergence", "sharp divergence")
        starts = ((0, 0, 0), (3, 0, 40), (40, 3, 500))
        phases = [Phase(n, *at, 0.9) for n, at in zip(names, starts, strict=True)]
        writer.set_phases(model, tuple(phases))
    writer.set_schedules({"": Schedule((0, 100, 500), (0.0, 1e-3, 1e-4))})
    writer.close("finished")
    return path


@pytest.fixture(scope="module")
def folder(store: Path) -> Path:
    folder = store.parent / "out"
    assert run(["report", str(store), "-o", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def source(store: Path) -> StudyData:
    return StudyData(open_study(store), None, None)


def data(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / f"{name}.csv", keep_default_na=False, na_values=[""],
                       dtype={"seed": str})  # fmt: skip


def checkpoint(model: str, seed: str, step: int) -> Values:
    return made_store.checkpoint(model, seed, step, N)


def pair_kl(model: str, step: int) -> np.ndarray:
    """KL of ordered pairs, (pair, token), float64."""
    pairs = itertools.permutations(SEEDS, 2)
    return np.array([made_store.kl(model, i, j, step, N) for i, j in pairs], np.float64)


def over_seeds(model: str, step: int, name: str) -> np.ndarray:
    """(seed, token), float64."""
    return np.array([checkpoint(model, s, step)[name] for s in SEEDS], np.float64)


def with_interval(of_seed: np.ndarray) -> list[float]:
    """Mean and 95 % interval over seeds, by scipy."""
    half = stats.sem(of_seed) * stats.t.ppf(0.975, len(of_seed) - 1)
    return [of_seed.mean(), of_seed.mean() - half, of_seed.mean() + half]


def log_probs(model: str, seed: str, step: int) -> np.ndarray:
    kept = checkpoint(model, seed, step)["log_probs"].astype(np.float64)
    return kept - np.log(np.exp(kept).sum(axis=1, keepdims=True))


# -- numbers -------------------------------------------------------------------------------------


def test_whole_models(folder: Path) -> None:
    found = data(folder, "expected_kl")
    assert list(dict.fromkeys(found.model)) == list(MODELS), "from the smallest to the largest"
    for row in found.itertuples():
        np.testing.assert_allclose(row.expected_kl, pair_kl(row.model, row.step).mean(), **EXACT)
        assert row.kl_low < row.expected_kl < row.kl_high
        assert row.n_seeds == 3
    assert list(found.phase[:4]) == ["uniform", "sharp convergence", *["sharp divergence"] * 2]
    both = data(folder, "cross_entropy").merge(data(folder, "baselines"), on=["model", "step"])
    assert len(both) == len(MODELS) * len(STEPS)
    for row in both.itertuples():
        cross_entropy = over_seeds(row.model, row.step, "surprisal").mean(axis=1)
        uniform = np.log(VOCAB) - over_seeds(row.model, row.step, "entropy").mean(axis=1)
        unigram = over_seeds(row.model, row.step, "kl_unigram").mean(axis=1)
        for name, of in (("cross_entropy", cross_entropy), ("kl_uniform", uniform),
                         ("kl_unigram", unigram)):  # fmt: skip
            values = [getattr(row, name + end) for end in ("", "_low", "_high")]
            np.testing.assert_allclose(values, with_interval(of), **EXACT)


@pytest.mark.parametrize(
    ("category", "model", "labels"),
    [("pos", LARGE, POS), ("pos", SMALL, POS), ("odd\n$", None, LABELS)],
)
def test_levels(folder: Path, category: str, model: str | None, labels: tuple[str, ...]) -> None:
    smallest = ("smallest",) if model == SMALL else ()
    found = data(folder, file_name("kl", *smallest, "by", category))
    surprisal = data(folder, file_name("cross_entropy", *smallest, "by", category))
    models = set(MODELS) if model is None else {model}
    variants = {"pos", "pos_context"} if category == "pos" else {category}
    assert set(found.model) == models
    assert set(found.category) == variants
    assert len(found) == len(models) * len(variants) * len(labels) * len(STEPS)
    both = found.merge(surprisal, on=["model", "step", "category", "label", "n"])
    assert len(both) == len(found) == len(surprisal)
    for row in both.itertuples():
        of = level(row.category) == labels.index(row.label)
        assert row.n == of.sum()
        kl = pair_kl(row.model, row.step)[:, of].mean()
        np.testing.assert_allclose(row.expected_kl, kl, **EXACT)
        assert row.kl_low < kl < row.kl_high
        of_seed = over_seeds(row.model, row.step, "surprisal")[:, of].mean(axis=1)
        values = [row.cross_entropy, row.cross_entropy_low, row.cross_entropy_high]
        np.testing.assert_allclose(values, with_interval(of_seed), **EXACT)


def test_bands_are_the_papers_where_that_is_asked_for(store: Path, tmp_path: Path) -> None:
    """As pandas makes them of the rows that the paper's scripts draw: `sd`, divisor n - 1."""
    others = ("tokens", "probes", "regression", "between", "models")  # whose bands have one sense
    without = [word for family in others for word in ("--without", family)]
    out = ["-o", str(tmp_path / "out"), "--format", "png", "--band", "paper"]
    assert run(["report", str(store), *out, *without]) == 0
    found = data(tmp_path / "out", "expected_kl")
    assert len(found) == len(MODELS) * len(STEPS)
    for row in found.itertuples():
        half = pd.Series(pair_kl(row.model, row.step).mean(axis=0)).std()  # over tokens
        ends = [row.expected_kl - half, row.expected_kl + half]
        np.testing.assert_allclose([row.kl_minus, row.kl_plus], ends, **EXACT)
    for row in data(tmp_path / "out", "cross_entropy").itertuples():
        half = pd.Series(over_seeds(row.model, row.step, "surprisal").mean(axis=1)).std()
        ends = [row.cross_entropy - half, row.cross_entropy + half]
        np.testing.assert_allclose([row.cross_entropy_minus, row.cross_entropy_plus], ends, **EXACT)
    kl, surprisal = (data(tmp_path / "out", f"{name}_by_pos") for name in ("kl", "cross_entropy"))
    both = kl.merge(surprisal, on=["model", "step", "category", "label", "n"])
    assert len(both) == 2 * len(POS) * len(STEPS)
    for row in both.itertuples():
        of = level(row.category) == POS.index(row.label)
        half = pd.Series(pair_kl(row.model, row.step)[:, of].mean(axis=1)).std()  # over pairs
        ends = [row.expected_kl - half, row.expected_kl + half]
        np.testing.assert_allclose([row.kl_minus, row.kl_plus], ends, **EXACT)
        of_seed = over_seeds(row.model, row.step, "surprisal")[:, of].mean(axis=1)
        half = pd.Series([first for first, _ in itertools.permutations(of_seed, 2)]).std()
        ends = [row.cross_entropy - half, row.cross_entropy + half]
        np.testing.assert_allclose([row.cross_entropy_minus, row.cross_entropy_plus], ends, **EXACT)
    captions = (tmp_path / "out/captions.md").read_text()
    assert "standard deviation over tokens of the KL" in captions
    assert "95 %" not in captions


def test_bands_over_all_steps_where_that_is_asked_for(store: Path, tmp_path: Path) -> None:
    others = ("tokens", "probes", "between")
    without = [word for family in others for word in ("--without", family)]
    out = ["-o", str(tmp_path / "out"), "--format", "png", "--band", "simultaneous"]
    assert run(["report", str(store), *out, *without]) == 0
    study = open_study(store)
    for name, category in (("expected_kl", "all"), ("kl_by_pos", "pos")):
        found = data(tmp_path / "out", name)
        for model in MODELS if category == "all" else [LARGE]:
            labels = study.category(model, category).labels
            steps, band = simultaneous_band(study, model, category)
            summary = study.summary(model, category)
            of_model = found[found.model == model]
            if category != "all":
                of_model = of_model[of_model.category == category]
            assert len(of_model)
            for row in of_model.itertuples():
                at = steps.tolist().index(row.step), labels.index(getattr(row, "label", "all"))
                ends = [row.kl_band_low, row.kl_band_high]
                np.testing.assert_allclose(ends, [band.low[at], band.high[at]], **EXACT)
                assert row.kl_band_high > summary.kl_high[at]  # which are of one step
    for row in data(tmp_path / "out", "cross_entropy").itertuples():
        _, low, high = with_interval(over_seeds(row.model, row.step, "surprisal").mean(axis=1))
        assert row.cross_entropy_band_low < low < high < row.cross_entropy_band_high
    for name, value in (("kl_difference", "difference"), ("regression", "coefficient")):
        known = data(tmp_path / "out", name).dropna(subset=["low"])
        assert len(known)
        assert (known[f"{value}_band_low"] < known.low).all()
        assert (known[f"{value}_band_high"] > known.high).all()
    captions = (tmp_path / "out/captions.md").read_text()
    assert "simultaneous 95 % bands over the steps (seed jackknife and document" in captions
    assert "95 % intervals" not in captions


def test_contexts(folder: Path) -> None:
    found = data(folder, "contexts")
    for row in found.itertuples():
        frame = pd.DataFrame({"id": make_corpus(N).token_id})
        frame["kl"] = pair_kl(row.model, row.step).mean(axis=0)
        frame = frame[frame.groupby("id").id.transform("size") >= by_token.OFTEN]
        mean = frame.groupby("id").kl.transform("mean")
        within, between_ = (frame.kl - mean).pow(2).mean(), mean.var(ddof=0)
        np.testing.assert_allclose(within + between_, frame.kl.var(ddof=0))
        shown = [row.std_contexts, row.std_targets, row.share_contexts]
        share = within / (within + between_)
        np.testing.assert_allclose(shown, [within**0.5, between_**0.5, share], rtol=1e-5)
        percentiles = np.percentile(pair_kl(row.model, row.step).mean(axis=0), [50, 90, 99])
        np.testing.assert_allclose([row.kl_p50, row.kl_p90, row.kl_p99], percentiles, rtol=1e-6)


def test_tokens(folder: Path) -> None:
    found = data(folder, "tokens")
    order = np.argsort(pair_kl(LARGE, STEPS[-1]).mean(axis=0))
    for kind, expected in (("lowest", order[:5]), ("highest", order[-5:])):
        assert set(found.token[found.kind == kind]) == set(expected.tolist())
    middle = found[(found.kind == "middle") & (found.step == STEPS[-1])]
    assert set(middle.token) == set(order[447:452].tolist())
    for row in found.itertuples():
        np.testing.assert_allclose(row.kl, pair_kl(LARGE, row.step)[:, row.token].mean(), **EXACT)


def test_entries(folder: Path, source: StudyData) -> None:
    found, ids = data(folder, "entries"), source.study.corpus.token_id
    last = pd.Series(pair_kl(LARGE, STEPS[-1]).mean(axis=0)).groupby(ids).mean().sort_values()
    for kind, expected in (("lowest", last[:5]), ("highest", last[-5:])):
        assert set(found.token_id[found.kind == kind]) == set(expected.index)
    for row in found.itertuples():
        of = ids == row.token_id
        assert row.n == of.sum()
        np.testing.assert_allclose(row.kl, pair_kl(LARGE, row.step)[:, of].mean(), **EXACT)
        surprisal = over_seeds(LARGE, row.step, "surprisal")[:, of].mean()
        np.testing.assert_allclose(row.cross_entropy, surprisal, **EXACT)
        assert not row.kl_low > row.kl
    summary = (folder / "summary.md").read_text()
    assert "Vocabulary entries with the lowest, middle and highest KL" in summary
    assert f"{last.iloc[0]:.4f}" in summary


def test_regression(folder: Path) -> None:
    found = data(folder, "regression")
    assert sorted(set(found.step)) == list(STEPS)
    frame = pd.concat(
        pd.DataFrame(
            {
                "y": -pair_kl(model, 40).mean(axis=0),
                "count": np.log10(1.0 + make_vocabulary().count[make_corpus(N).token_id]),
                "pos": np.array(POS)[level("pos")],
                "model": number,
            }
        )
        for number, model in enumerate(reversed(MODELS))
    )
    formula = "y ~ count + C(pos, Treatment('NOUN')) + model"
    fit = smf.ols(formula, frame).fit()
    at = found[found.step == 40].set_index("factor")
    sign = fit.params["model"] * (1 if at.loc["model"].reference == LARGE else -1)
    np.testing.assert_allclose(at.loc["model"].coefficient, sign, rtol=1e-4)
    np.testing.assert_allclose(at.loc["log10_count"].coefficient, fit.params["count"], rtol=1e-4)


def test_between(folder: Path) -> None:
    steps = data(folder, "kl_between_steps")
    assert len(steps) == len(MODELS) * len(SEEDS) * len(STEPS) ** 2
    models = data(folder, "kl_between_models")
    assert set(models.step) == {STEPS[-1]}
    rows = [
        ((r.model, r.seed, r.from_step), (r.model, r.seed, r.to_step), r.kl)
        for r in steps[steps.seed == "b"].itertuples()
    ] + [((r.from_model, r.seed, r.step), (r.to_model, r.seed, r.step), r.kl)
         for r in models.itertuples()]  # fmt: skip
    for a, b, kl in rows:
        p, q = log_probs(*a), log_probs(*b)
        np.testing.assert_allclose(kl, (np.exp(p) * (p - q)).sum(axis=1).mean(), atol=1e-9)


def test_models_over_training(folder: Path) -> None:
    """Differences and their intervals by plain loops; KL between models in float64."""
    shown = data(folder, "kl_difference")
    assert list(shown.step) == list(STEPS)
    assert set(shown.from_model) == {SMALL}
    by_pos = data(folder, "kl_difference_by_pos")
    document = made_store.make_corpus(N).document
    for rows, level_of in ((shown, None), (by_pos, level("pos"))):
        for row in rows.itertuples():
            inside = np.ones(N, bool) if level_of is None else level_of == POS.index(row.label)
            parts, means, tokens = [], [], []
            for model in (row.to_model, row.from_model):
                kl = pair_kl(model, row.step)[:, inside]
                square = np.full((3, 3), np.nan)
                for (i, j), value in zip(itertools.permutations(range(3), 2), kl, strict=True):
                    square[i, j] = value.mean()
                parts.append((plain_jackknife(square), 2))
                means.append(kl.mean())
                tokens.append(kl.mean(axis=0))
            apart = means[0] - means[1]
            assert row.n == inside.sum()
            assert (row.seeds_from, row.seeds_to) == (3, 3)
            np.testing.assert_allclose(
                [row.expected_kl_to, row.expected_kl_from, row.difference],
                [*means, apart], rtol=1e-5, atol=1e-7,
            )  # fmt: skip
            of = document[inside]
            sums = np.bincount(of, tokens[0] - tokens[1]), np.bincount(of).astype(float)
            half = plain_half([*parts, plain_cluster(*sums)], 0.95)
            np.testing.assert_allclose([row.low, row.high], [apart - half, apart + half], rtol=1e-3)
    between = data(folder, "kl_between_models_by_step")
    assert len(between) == len(STEPS) * len(SEEDS)
    for row in between.itertuples():
        p, q = (log_probs(model, row.seed, row.step) for model in (row.from_model, row.to_model))
        np.testing.assert_allclose(row.kl, (np.exp(p) * (p - q)).sum(axis=1).mean(), atol=1e-9)


def test_which_models_are_held_against_which() -> None:
    duped = ("pythia-14m", "pythia-14m-deduped", "pythia-70m-deduped", "pythia-70m", "pythia-410m")
    assert model_pairs(duped) == {
        "of one size": [
            ("pythia-14m", "pythia-14m-deduped"), ("pythia-70m", "pythia-70m-deduped"),
        ],
        "against the smallest": [("pythia-14m", "pythia-70m"), ("pythia-14m", "pythia-410m")],
    }  # fmt: skip
    assert model_pairs(("a", "b-1m", "c")) == {"against the first": [("a", "b-1m"), ("a", "c")]}
    assert model_pairs(("a-1m",)) == {}


def test_tables(folder: Path, source: StudyData) -> None:
    made_tables = {table.title: table for table in tables(source)}
    kl = made_tables["Expected KL by model and step"]
    where = ["first", "sharp convergence begins", "sharp divergence begins, the turn", "last"]
    assert [row[1] for row in kl.rows] == where * 2
    for row in kl.rows:
        pairs = pair_kl(row[0], int(row[2].replace(",", ""))).mean(axis=1)
        assert row[4] == f"{pairs.mean():.4f}"
        assert float(row[6]) == pytest.approx(pairs.std(), rel=0.05)
    ranked = made_tables["Levels ranked by expected KL: pos"]
    mean = pair_kl(LARGE, STEPS[-1]).mean(axis=0)
    by_level = sorted(POS, key=lambda name: -mean[level("pos") == POS.index(name)].mean())
    assert [row[0].strip(chr(34)) for row in ranked.rows] == by_level
    assert ranked.rows[by_level.index("?")][0] == '"?"'
    block = "\n".join(made_tables[f"Statistics of the KL: {SMALL}"].lines)
    kl_of = pair_kl(SMALL, STEPS[-1]).mean(axis=0)
    for name, value in (("Mean    KLD", kl_of.mean()), ("Median  KLD", np.median(kl_of)),
                        ("99.9 % KLD", np.percentile(kl_of, 99.9)),
                        ("Maximum KLD", kl_of.max()), ("Minimum KLD", kl_of.min())):  # fmt: skip
        shown = re.search(rf"{name} +: +(\S+) nats", block)
        assert shown is not None
        assert float(shown[1]) == pytest.approx(value, abs=2e-6)
    best = {s: checkpoint(SMALL, s, STEPS[-1])["top_id"][:, 0] for s in SEEDS}
    assert "Same top token" in block
    assert made_tables["Phases of training"].rows[1][3] == "0 to 40"
    assert len(best) == len(SEEDS)
    text = (folder / "summary.md").read_text()
    assert f"| {md(SMALL)} | first | 0 | 3 | {kl.rows[0][4]} |" in text
    assert block in text


def test_probes(tmp_path: Path) -> None:
    seeds = ("1", "2", "3")
    make_runs(tmp_path, seeds=seeds, steps=(0, 10))
    settings = {"models__seeds": list(seeds), "models__steps": [0, 10]}
    study = probed(tmp_path, categories__include=[], categories__context=False, **settings)
    out = tmp_path / "out"
    others = ("curves", "levels", "tokens", "regression", "between")
    without = [word for family in others for word in ("--without", family)]
    assert run(["report", str(study.path), "-o", str(out), "--format", "pdf", *without]) == 0
    (model,) = study.models
    pairs, long = data(out, "blimp_pairs"), data(out, "icl_long")
    for seed, step in itertools.product(seeds, (0, 10)):
        at = pairs[(pairs.seed == seed) & (pairs.step == step) & (pairs.label == "all")]
        good, bad = study.probe_values(model, "pairs", seed, step).astype(np.float64).T
        (accuracy,) = at.value[at.measure == "accuracy"]
        assert accuracy == (good > bad).mean()
        scores = long[(long.seed == seed) & (long.step == step) & (long.measure == "score")]
        values = study.probe_values(model, "long", seed, step).astype(np.float64)
        later = np.nanmean(values[:, 1::2] - values[:, 0::2], axis=0)
        np.testing.assert_allclose(scores.value, later, **EXACT)
    for name in ("blimp_pairs", "icl_long"):
        assert (out / f"{name}.pdf").is_file()
    again = ["report", str(study.path), "-o", str(out), "--format", "png", *without]
    assert run([*again, "--band", "paper"]) == 0
    pairs, long = data(out, "blimp_pairs"), data(out, "icl_long")
    task = study.probe("pairs").task
    for step in (0, 10):
        said = [study.probe_values(model, "pairs", seed, step) for seed in seeds]
        p = [1 / (1 + np.exp(bad - good)) for good, bad in (v.astype(float).T for v in said)]
        rows = pd.Series(
            [
                np.sum([x * np.log(x / y) for x, y in ((a, b), (1 - a, 1 - b))])
                for i, j in itertools.combinations(range(3), 2)
                for a, b in ((p[i][task == n].mean(), p[j][task == n].mean()) for n in (0, 1))
            ]
        )
        (row,) = pairs[
            (pairs.step == step) & (pairs.label == "all") & (pairs.measure == "kl_of_means")
        ].itertuples()
        np.testing.assert_allclose(row.high - row.value, rows.sem(), **EXACT)
        np.testing.assert_allclose(row.value - row.low, rows.sem(), **EXACT)
        values = [study.probe_values(model, "long", seed, step).astype(float) for seed in seeds]
        of_all = long[(long.step == step) & long.seed.isna()]
        for n, row in enumerate(of_all.itertuples()):
            scores = pd.Series(np.concatenate([v[:, 2 * n + 1] - v[:, 2 * n] for v in values]))
            np.testing.assert_allclose(
                [row.value, row.high - row.value], [scores.mean(), scores.sem()], **EXACT
            )
        assert len(of_all) == 2
    source = StudyData(study, None, None, band="paper")
    check_legible([*by_probe.figures(source)])
    check_legible([*by_probe.figures(StudyData(study, None, None))])


@pytest.mark.parametrize("width", [style.ONE_COLUMN, style.TWO_COLUMNS / 3])
def test_the_first_and_the_last_step_are_labelled(width: float) -> None:
    for steps in ([0, 1, 7], [0, 512], [0, 1, 1000, 1001], [0, 64, 14_321], [0, 1000, 143_000]):
        with style.styled():
            figure, ((panel,),) = style.grid(1, 1, width=width, height=2.0)
            style.step_axis(panel, steps)
            style.laid_out(figure)
            labels = [label.get_text() for label in panel.get_xticklabels()]
            assert (labels[0], labels[-1]) == ("0", step_label(steps[-1]))
            boxes = [label.get_window_extent() for label in panel.get_xticklabels()]
            assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes)), labels


# -- figures as they are printed ------------------------------------------------------------------


def every_figure(source: StudyData, tmp_path: Path) -> list[Figure]:
    kept = ResultCache(tmp_path / "kept")
    parts = [
        *over_training.figures(source),
        *by_level.figures(source),
        *model_differences.figures(source),
        *by_token.figures(source),
        coefficients.figure(source, kept),
        *between_checkpoints.figures(source, kept, lambda what, share: None),
    ]
    assert not [part for part in parts if isinstance(part, Omitted)]
    return [part for part in parts if isinstance(part, Figure)]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="LaTeX is not installed")
def test_the_tables_go_into_a_paper(folder: Path, tmp_path: Path) -> None:
    """A page of ACL's size takes them, names from outside and all, without a line too wide."""
    (tmp_path / "paper.tex").write_text(
        r"\documentclass[11pt,twocolumn,a4paper]{article}\usepackage[margin=2.5cm]{geometry}"
        r"\columnsep=0.6cm\usepackage{booktabs,graphicx,lmodern}\usepackage[T1]{fontenc}"
        rf"\begin{{document}}\input{{{folder}/summary.tex}}"
        rf"\begin{{figure}}\includegraphics{{{folder}/expected_kl.pdf}}\end{{figure}}"
        rf"\begin{{figure*}}\includegraphics{{{folder}/kl_by_pos.pdf}}\end{{figure*}}"
        r"\end{document}"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    made = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout[-2000:]
    assert "Overfull \\hbox" not in made.stdout
    assert (tmp_path / "paper.pdf").is_file()


def test_damage_takes_only_what_needs_it(
    store: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged, out = tmp_path / "study.zarr", tmp_path / "out"
    shutil.copytree(store, damaged)
    chunk = next(damaged.glob("models/*/log_probs/**/c/0/0"))
    chunk.write_bytes(b"")
    fewer = ["--format", "png", "--without", "levels"]
    assert run(["report", str(damaged), "-o", str(out), *fewer]) == 1
    said = capsys.readouterr().err
    assert f"left out between: {chunk}: unpacks to another size" in said
    assert "Traceback" not in said
    names = {path.name for path in folder.iterdir() if path.suffix != ".pdf"}
    there = {
        name
        for name in names
        if "kl_between" not in name and ("_by_" not in name or "difference" in name)
    }
    assert {path.name for path in out.iterdir()} == there
    assert "between" in (out / "summary.md").read_text()


def test_what_is_left_out_is_not_made(store: Path, tmp_path: Path) -> None:
    without = [
        word
        for family in ("levels", "between", "tokens", "models")
        for word in ("--without", family)
    ]
    assert run(["report", str(store), "-o", str(tmp_path), "--format", "png", *without]) == 0
    assert {file.stem for file in tmp_path.glob("*.csv")} == {
        "expected_kl", "cross_entropy", "baselines", "learning_rate", "regression",
    }  # fmt: skip


def test_everything_is_on_the_page_and_legible(source: StudyData, tmp_path: Path) -> None:
    check_legible(every_figure(source, tmp_path))


def test_files(folder: Path, source: StudyData, tmp_path: Path) -> None:
    for figure in every_figure(source, tmp_path):
        assert (folder / f"{figure.name}.pdf").read_bytes().startswith(b"%PDF")
        with Image.open(folder / f"{figure.name}.png") as image:
            # Versions of matplotlib round a figure's last pixel up or down.
            assert min(abs(image.width - inches * 300) for inches in (3.03, 6.3)) <= 1
        assert list(data(folder, figure.name).columns) == [c.name for c in figure.columns]
        assert f"## {md(figure.name)}\n" in (folder / "captions.md").read_text()
        for words in ("900 tokens", "seed", "interval") if figure.name != "learning_rate" else ():
            assert words in figure.caption.lower(), figure.name


# -- pages ---------------------------------------------------------------------------------------


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_names_are_shown_never_obeyed(folder: Path) -> None:
    page = _Tags()
    page.feed((folder / "report.html").read_text())
    assert not {"script", "i", "link", "iframe", "object"} & set(page.tags)
    assert page.tags.count("img") == len(list(folder.glob("*.png")))
    assert LARGE in page.text
    assert "<script>alert(1)</script>" in page.text
    for name in ("report.html", "summary.md", "summary.tex", "captions.md"):
        assert "\x1b" not in (folder / name).read_text(), name
    latex = (folder / "summary.tex").read_text()
    bare = re.sub(r"\\[{}]", "", latex)
    assert bare.count("{") == bare.count("}")
    assert max(latex) <= "\xff", "pdflatex knows Latin-1"
    for row in re.findall(r"^.* \\\\$", latex, re.M):
        assert not re.search(r"(?<!\\)[$#^_%]", row), row
    for table in re.split(r"^## ", (folder / "summary.md").read_text(), flags=re.M):
        rows = [line for line in table.splitlines() if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) <= 1


def test_markup() -> None:
    assert md("a|b_c*`<$\n") == r"a\|b\_c\*\`\<\$␊"
    assert tex(r"50% _x$ \y{}") == r"50\% \_x\$ \textbackslash{}y\{\}"
    assert tex("漢é[a]--") == "U+6F22é{[}a{]}{-}{-}"


# -- the command ---------------------------------------------------------------------------------


def everything(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_again(
    store: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, times = everything(folder), {f: f.stat().st_mtime_ns for f in folder.glob("*.pdf")}
    assert run(["report", str(store), "-o", str(folder)]) == 0
    assert "(0 drawn" in capsys.readouterr().err
    assert everything(folder) == before
    assert {f: f.stat().st_mtime_ns for f in folder.glob("*.pdf")} == times
    (folder / "tokens.pdf").unlink()
    assert run(["report", str(store), "-o", str(folder)]) == 0
    assert "(1 drawn" in capsys.readouterr().err
    assert everything(folder) == before, "what is drawn again is the same to the last byte"
    few = ["-o", str(tmp_path), "--category", "odd\n$"]
    assert run(["report", str(store), *few, "--format", "pdf"]) == 0
    made_there = {n: b for n, b in everything(tmp_path).items() if n.endswith(".pdf")}
    assert len(made_there) > 8
    assert made_there.items() <= before.items(), "the same figures in another folder"
    assert not list(tmp_path.glob("*.png"))
    assert list(tmp_path.glob("*by_*"))
    (tmp_path / "mine.csv").write_text("kept")
    arguments = ["--model", SMALL, "--category", "all", "--format", "png"]
    arguments += ["--without", "between", "--without", "tokens", "--without", "regression"]
    assert run(["report", str(store), "-o", str(tmp_path), *arguments]) == 0
    assert not list(tmp_path.glob("*by_*"))
    assert set(data(tmp_path, "expected_kl").model) == {SMALL}
    assert (tmp_path / "mine.csv").read_text() == "kept"


def test_what_is_left_out_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    writer = open_writer(tmp_path / "s.zarr")  # 300 tokens, two seeds at one step
    made_store.fill(writer, "m", ("a", "b"), (8,))
    writer.drop_log_probs("m", 8, ["a", "b"])
    writer.close("finished")
    out = tmp_path / "deep" / "out"
    assert run(["report", str(tmp_path / "s.zarr"), "-o", str(out)]) == 0
    told = capsys.readouterr().err
    summary = (out / "summary.md").read_text()
    for name, why in {
        "learning_rate": "set study.learning_rate .*--learning-rate FILE.csv",
        "contexts": "a longer corpus",
        "regression": "no category pos",
        "kl_between_steps": "log-probs",
        "kl_between_models": "one model",
    }.items():
        assert re.search(rf"^left out {name}: .*{why}", told, re.M)
        assert not list(out.glob(f"{name}.*"))
        assert md(name) in summary
    assert (out / "expected_kl.pdf").is_file()
    assert data(out, "expected_kl").kl_low.isna().all(), "two seeds give no interval"


def test_wrong_input(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = ["report", str(store), "-o", str(tmp_path / "out")]
    (tmp_path / "file").write_text("")
    for arguments, code, told in (
        ([*report, "--model", "nobody"], 2, "no model 'nobody'"),
        ([*report, "--category", "nothing"], 2, "no category 'nothing'"),
        (["report", str(store), "-o", str(tmp_path / "file")], 2, "no folder"),
        (["report", str(tmp_path), "-o", str(tmp_path / "out")], 2, "study"),
    ):
        assert run(arguments) == code
        (line,) = capsys.readouterr().err.splitlines()
        assert told in line
    for wrong in (["--format", "svg"], ["--format", ""]):
        with pytest.raises(SystemExit, match="2"):
            run([*report, *wrong])
    assert not (tmp_path / "out").exists()
    writer = open_writer(tmp_path / "empty.zarr")
    writer.plan("m", [("a", 0)], {})
    writer.close("finished")
    capsys.readouterr()
    assert run(["report", str(tmp_path / "empty.zarr"), "-o", str(tmp_path / "out")]) == 1
    assert "nothing is summarised yet" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["matplotlib", "scipy"])
def test_without_libraries(store: Path, tmp_path: Path, missing: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from seedconv_tui.cli.main import run\n"
        f"sys.exit(run(['report', {str(store)!r}, '-o', {str(tmp_path)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert missing in done.stderr
    assert "pip install 'seedconv-tui[report]'" in done.stderr


def test_few_of_many() -> None:
    steps = [0, *(2**k for k in range(10)), *range(1000, 143_001, 1000)]
    few = spread(steps, 40)
    assert len(few) <= 40
    assert few[0] == 0
    assert few[-1] == 143_000
    assert set(steps[:11]) <= set(few), "early steps are far apart on that scale"
    assert spread([3], 40) == [3]
    assert in_order_of_size(["b-1.4b", "a-70m", "c-410M"]) == ("a-70m", "c-410M", "b-1.4b")
    assert in_order_of_size(["large", "a-70m"]) == ("large", "a-70m")
    assert file_name("kl", "a/b") != file_name("kl", "a:b")
    assert "/" not in file_name("../../x")
