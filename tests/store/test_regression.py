"""Regression of convergence, against normal equations and a sandwich written out by hand."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student_t
from statsmodels.stats.multitest import multipletests

from seedconv_tui.cli.main import run
from store import StoreError, Study, UnsupportedError, open_study
from store.analysis import (
    Regression,
    Term,
    regression,
    regressions,
    simultaneous_coefficients,
)
from store.schema import Category
from store.statistics.simultaneous import VarianceSource, half_widths
from tests.support.made_store import fill, open_writer


@pytest.fixture(scope="module")
def study(compared: Path) -> Study:
    return open_study(compared / "dense.zarr")


def tokens(study: Study, model: str, step: int, category: str) -> pd.DataFrame:
    """One row for each token, from the KL of each pair."""
    seeds = sorted(study.ledger(model).reduced[step])
    pairs = [study.values(model, "kl", i, step, j) for i in seeds for j in seeds if i != j]
    there = [study.category(model, name) for name in (category, f"{category}_context")]
    return pd.DataFrame(
        {
            "convergence": -np.mean(np.array(pairs, np.float64), axis=0),
            "log10_count": np.log10(1 + study.vocabulary.count[study.corpus.token_id]),
            "model": model,
            "document": study.corpus.document,
            **{of.name: [of.labels[at] if at >= 0 else None for at in of.level] for of in there},
        }
    )


def by_hand(
    table: pd.DataFrame, factors: dict[str, str]
) -> tuple[dict[str, tuple[float, float, float, float]], float]:
    """Coefficient, low, high and p by term, and R2; `factors` are those with their reference."""
    table = table.dropna()
    columns = {"intercept": np.ones(len(table)), "log10_count": table["log10_count"].to_numpy()}
    for factor, reference in factors.items():
        dummies = pd.get_dummies(table[factor], dtype=float).drop(columns=reference)
        columns |= {f"{factor}[{label}]": dummies[label].to_numpy() for label in dummies}
    x, y = np.stack(list(columns.values()), axis=1), table["convergence"].to_numpy()
    bread = np.linalg.inv(x.T @ x)
    beta = bread @ x.T @ y
    error = y - x @ beta
    groups = table["document"].to_numpy()
    scores = np.array([x[groups == g].T @ error[groups == g] for g in np.unique(groups)])
    (n, k), g = x.shape, len(scores)
    variance = bread @ (scores.T @ scores) @ bread * g / (g - 1) * (n - 1) / (n - k)
    deviation = np.sqrt(variance.diagonal())
    half = student_t.ppf(0.975, g - 1) * deviation
    p = 2 * student_t.sf(np.abs(beta / deviation), g - 1)
    r2 = 1 - (error**2).sum() / ((y - y.mean()) ** 2).sum()
    rows = zip(beta, beta - half, beta + half, p, strict=True)
    return {name: tuple(map(float, row)) for name, row in zip(columns, rows, strict=True)}, r2


def numbers(found: Regression) -> dict[str, tuple[float, float, float, float]]:
    rows = zip(found.coefficient, found.low, found.high, found.p, strict=True)
    return {str(term): tuple(map(float, row)) for term, row in zip(found.terms, rows, strict=True)}


@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize("models", [["m"], ["m", "b"], ["b", "m"]])
def test_regression_is_that_by_hand(study: Study, models: list[str], context: bool) -> None:
    table = pd.concat([tokens(study, model, 10, "pos") for model in models])
    factors = {"pos": "NOUN", "pos_context": "NOUN", "model": models[0]}
    if not context:
        table = table.drop(columns="pos_context")
        del factors["pos_context"]
    if len(models) == 1:
        del factors["model"]
    expected, r2 = by_hand(table, factors)
    found = regression(study, 10, models=models, context=context)
    assert found.references == factors
    assert found.models == tuple(models)
    assert found.n_tokens == len(table.dropna()) / len(models)
    assert found.n_clusters == table["document"].nunique()
    assert found.r2 == pytest.approx(r2, rel=1e-6)
    assert numbers(found).keys() == expected.keys()
    for name, row in numbers(found).items():
        assert row == pytest.approx(expected[name], rel=2e-4, abs=1e-7), name
    counts = table[table["model"] == models[0]].dropna()["pos"].value_counts()
    assert {t.level: n for t, n in zip(found.terms, found.n, strict=True) if t.factor == "pos"} == {
        level: n for level, n in counts.items() if level != "NOUN"
    }
    empty = set(study.category("m", "pos").labels) - set(counts.index)
    assert {t.level for t in found.dropped if t.factor == "pos"} == empty
    assert set(found.dropped.values()) == {"no tokens"}


def test_the_band_of_coefficients_is_of_the_clusters_scores(study: Study) -> None:
    curve = regressions(study, models=["m"])
    band = simultaneous_coefficients(curve)
    shares = []
    for at in curve:
        table = tokens(study, "m", at.step, "pos").dropna(subset=["pos"])
        columns = [np.ones(len(table)), table["log10_count"].to_numpy()]
        columns += [(table["pos"] == term.level).to_numpy(float) for term in at.terms[2:]]
        x, y = np.stack(columns, axis=1), table["convergence"].to_numpy()
        bread = np.linalg.inv(x.T @ x)
        error, groups = y - x @ (bread @ x.T @ y), table["document"].to_numpy()
        scores = np.array([x[groups == g].T @ error[groups == g] for g in np.unique(groups)])
        (n, k), g = x.shape, len(scores)
        shares.append(np.sqrt(g / (g - 1) * (n - 1) / (n - k)) * scores @ bread)
    freedom = np.full(2, g - 1.0)
    for term in range(k):
        half = half_widths([VarianceSource(np.array(shares)[..., term], freedom)])
        if np.isfinite(curve[0].low[term]):
            np.testing.assert_allclose(band.high[:, term] - band.value[:, term], half, rtol=1e-3)
        else:  # all its tokens are in one document
            assert np.isnan([band.low[:, term], band.high[:, term]]).all()
    for at in curve:
        alone = simultaneous_coefficients([at])
        np.testing.assert_allclose(alone.low[0], at.low, rtol=1e-7)
        np.testing.assert_allclose(alone.high[0], at.high, rtol=1e-7)


def test_all_steps_give_a_curve(study: Study) -> None:
    assert [at.step for at in regressions(study)] == [10]
    curve = regressions(study, models=["m"])
    assert [at.step for at in curve] == [0, 10]
    for at in curve:
        assert numbers(at) == numbers(regression(study, at.step, models=["m"]))
    assert numbers(curve[0]) != numbers(curve[1])


def test_what_was_planted_is_found(tmp_path: Path) -> None:
    """Level 2 of 3 agrees less; a level in one document alone has no interval."""
    writer = open_writer(tmp_path / "study.zarr", n_tokens=2000)
    fill(writer, "m", "123", [0])
    level = np.arange(2000, dtype=np.int32) % 3
    level[:5], level[5:9] = 3, -1
    part = Category("kind", ("a", "b", "\x1b[2J", "alone", "none"), level, "made in the test")
    writer.summaries.set_category(part)
    study = writer.study()
    kl = study.token_kl("m", 0).astype(np.float64)
    planted = (kl + 0.25 * (level == 2)).astype(np.float32)
    writer.summaries.forget("m", [0])
    writer.summaries.summarise("m", 0, ["1", "2", "3"], planted, {})
    writer.close("finished")
    found = regression(open_study(tmp_path / "study.zarr"), 0, category="kind")
    plain = numbers(found)
    assert found.references == {"kind": "a"}
    assert found.n_tokens == 1996
    assert plain["kind[\x1b[2J]"][0] == pytest.approx(-0.25, abs=0.1)
    assert np.isfinite(plain["kind[\x1b[2J]"]).all()
    assert np.isfinite(plain["kind[alone]"][0])
    assert np.isnan(plain["kind[alone]"][1:]).all()
    assert found.dropped == {Term("kind", "none"): "no tokens"}


def test_columns_that_follow_from_others_are_left_out_and_named(
    study: Study, tmp_path: Path
) -> None:
    writer = open_writer(tmp_path / "study.zarr")
    fill(writer, "m", "12", [0])
    same = np.arange(300, dtype=np.int32) % 3
    for name in ("kind", "kind_context"):
        writer.summaries.set_category(Category(name, ("a", "b", "c"), same, "made in the test"))
    writer.close("finished")
    found = regression(open_study(tmp_path / "study.zarr"), 0, category="kind", context=True)
    assert [str(term) for term in found.terms] == [
        "intercept",
        "log10_count",
        "kind[b]",
        "kind[c]",
    ]
    why = "follows from the terms before it"
    assert found.dropped == {Term("kind_context", "b"): why, Term("kind_context", "c"): why}


def test_what_does_not_fit_is_refused(study: Study, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="b, step 0: not summarised"):
        regression(study, 0)
    with pytest.raises(StoreError, match="m, step 7: not summarised"):
        regression(study, 7)
    with pytest.raises(StoreError, match="m has no category 'nope'; it has: all, "):
        regression(study, 10, category="nope")
    with pytest.raises(StoreError, match="no category 'document_context'"):
        regression(study, 10, category="document", context=True)
    with pytest.raises(UnsupportedError, match="surprisal splits the tokens by each model's own"):
        regression(study, 10, category="surprisal")
    assert regression(study, 10, models=["m"], category="surprisal").n_tokens == 400
    with pytest.raises(StoreError, match="no model 'x'; it has: m, b"):
        regressions(study, models=["m", "x"])
    writer = open_writer(tmp_path / "study.zarr")
    with pytest.raises(StoreError, match="no models yet"):
        regression(writer.study(), 0)
    fill(writer, "m", "12", [0])
    fill(writer, "n", "12", [8])
    many = np.arange(300, dtype=np.int32) % 65
    writer.summaries.set_category(
        Category("many", tuple(map(str, range(65))), many, "made in the test")
    )
    few = np.where(np.arange(300) < 3, np.arange(300), -1).astype(np.int32)
    writer.summaries.set_category(Category("few", ("a", "b", "c"), few, "made in the test"))
    writer.close("finished")
    made = open_study(tmp_path / "study.zarr")
    with pytest.raises(StoreError, match="no step at which all of m, n are summarised"):
        regressions(made)
    with pytest.raises(UnsupportedError, match=r"many has 65 levels with tokens; .* 64 at most"):
        regression(made, 0, models=["m"], category="many")
    with pytest.raises(UnsupportedError, match=r"3 tokens are too few to distinguish . terms"):
        regression(made, 0, models=["m"], category="few")


def test_one_cluster_gives_no_interval(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = regression(study, 10)
    monkeypatch.setattr(
        "store.analysis.token_regression.token_clusters",
        lambda corpus: np.zeros(len(corpus), np.int64),
    )
    found = regression(study, 10)
    assert found.n_clusters == 1
    np.testing.assert_allclose(found.coefficient, expected.coefficient, rtol=1e-6)
    for interval in (found.low, found.high, found.p):
        assert np.isnan(interval).all()


# -- the command ---------------------------------------------------------------------------------


def test_command(compared: Path, study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    store = str(compared / "dense.zarr")
    found = regression(study, 10, models=["b", "m"], context=True)
    options = [store, "--model", "b", "--model", "m", "--context"]
    assert run(["regress", *options]) == 0
    out = capsys.readouterr().out
    assert "at step 10: b, m" in out
    assert "of each of 2 models" in out
    (line,) = (line for line in out.splitlines() if line.startswith("  model[m] "))
    assert line.split()[1:3] == [str(found.n_tokens), f"{found.coefficient[-1]:.4f}"]
    assert "against: pos[NOUN], pos_context[NOUN], model[b]" in out
    assert "left out, no tokens: pos[" in out
    assert "8 clusters are few" in out
    assert run(["regress", *options, "--json", "--step", "10"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["models"] == ["b", "m"]
    assert len(report["dropped"]) == len(found.dropped)
    assert [row["coefficient"] for row in report["rows"]] == found.coefficient.tolist()
    assert run(["regress", store, "--model", "m", "--all", "--csv"]) == 0
    table = pd.read_csv(io.StringIO(capsys.readouterr().out))
    for step, rows in table.groupby("step"):
        at = regression(study, int(step), models=["m"])
        np.testing.assert_allclose(rows["coefficient"], at.coefficient)
        np.testing.assert_allclose(rows["low"], at.low)
        assert rows["level"].fillna("").tolist() == [term.level for term in at.terms]
    assert table["step"].unique().tolist() == [0, 10]
    for how, method in (("holm", "holm"), ("bh", "fdr_bh")):
        command = ["regress", store, "--model", "m", "--all", "--csv", "--adjust", how]
        assert run(command) == 0
        table = pd.read_csv(io.StringIO(capsys.readouterr().out))
        asked = (table["factor"] != "intercept") & table["p"].notna()
        expected = multipletests(table["p"][asked], method=method)[1]  # over terms and steps
        np.testing.assert_allclose(table["p_adjusted"][asked], expected)
        assert table["p_adjusted"][~asked].isna().all()


def test_untrusted_labels_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    writer = open_writer(tmp_path / "study.zarr")
    fill(writer, "m\x1b[31m", "12", [0])
    writer.close("finished")
    command = ["regress", str(tmp_path / "study.zarr"), "--category", "third"]
    assert run(command) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "third[␛[2J]" in out
    assert run([*command, "--ascii"]) == 0
    assert capsys.readouterr().out.isascii()
    assert run([*command, "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert rows[2]["level"] == "\x1b[2J"
    assert rows[2]["low"] == "" or float(rows[2]["low"]) < float(rows[2]["high"])


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--step", "7"], 2, "m has no step 7; it has: 0, 10"),
        (["--step", "0"], 2, "b has no step 0; it has: 10, 20"),
        (["--model", "x"], 2, "no model 'x'; it has: m, b"),
        (["--category", "nope"], 2, "no category 'nope'; it has: all, frequency"),
        (["--category", "document", "--context"], 2, "no category 'document_context'"),
        (["--category", "surprisal"], 2, "surprisal splits the tokens by each model's own results"),
        (["--step", "0", "--all"], 2, "not allowed with argument"),
        (["--json", "--csv"], 2, "not allowed with argument"),
        (["--step", "x"], 2, "invalid int value: 'x'"),
    ],
)
def test_wrong_options(
    compared: Path,
    options: list[str],
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    try:
        found = run(["regress", str(compared / "dense.zarr"), *options])
    except SystemExit as end:
        found = end.code  # type: ignore[assignment]
    assert found == code
    assert message in capsys.readouterr().err


def test_without_statsmodels_it_says_what_to_install(
    compared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in list(sys.modules):
        if name.partition(".")[0] == "statsmodels":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "statsmodels", None)
    assert run(["regress", str(compared / "dense.zarr")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "pip install 'seedconv-tui[analysis]'" in error
