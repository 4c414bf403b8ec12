"""`seedconv compare` as its user meets it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from seedconv_tui.cli.main import run
from seedconv_tui.text import nats
from store import open_study
from tests.support.made_store import fill, open_writer

Capture = pytest.CaptureFixture[str]


def report(capsys: Capture, *options: str) -> dict[str, Any]:
    assert run(["compare", *options, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_two_steps(compared: Path, capsys: Capture) -> None:
    store = str(compared / "dense.zarr")
    study = open_study(store)
    found = report(capsys, store, "--model", "m", "--steps", "0", "10", "--category", "pos")
    assert found["from"] == {"model": "m", "step": 0, "seeds": 3}
    assert found["to"] == {"model": "m", "step": 10, "seeds": 3}
    assert found["same_seeds"] is True
    exact = study.difference(("m", 10), ("m", 0), "pos")
    levels = {level["level"]: level for level in found["levels"]}
    assert tuple(levels) == exact.labels
    for index, level in enumerate(levels.values()):
        assert level["tokens"] == exact.counts[index]
        if level["tokens"]:
            assert level["difference"] == exact.value[index]
            assert level["low"] == exact.low[index]
            gap = level["expected_kl_to"] - level["expected_kl_from"]
            assert gap == pytest.approx(level["difference"])
        else:
            assert level["difference"] is level["low"] is None
    assert found["adjustment"] == "holm"
    known = [n for n, p in enumerate(exact.p) if np.isfinite(p)]
    assert len(known) > 2
    ours = [found["levels"][n]["p_adjusted"] for n in known]
    assert ours == pytest.approx(multipletests(exact.p[known], method="holm")[1])
    again = report(
        capsys, store, *("--model", "m", "--steps", "0", "10"), *("--category", "pos"),
        *("--adjust", "bh"),
    )  # fmt: skip
    ours = [again["levels"][n]["p_adjusted"] for n in known]
    assert ours == pytest.approx(multipletests(exact.p[known], method="fdr_bh")[1])
    kl = found["kl"]
    assert kl["seeds_from"] == kl["seeds_to"] == ["1", "2", "3"]
    expected = [study.kl_between(("m", s, 0), ("m", s, 10)).mean() for s in "123"]
    np.testing.assert_allclose(kl["mean_kl"], expected)
    assert kl["left_out"] is None


def test_two_steps_as_text(compared: Path, capsys: Capture) -> None:
    store = str(compared / "factored.zarr")  # of one model, which need not be named
    assert run(["compare", store, "--steps", "10", "0", "--category", "pos"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("test: m, from step 10 to step 0\n")
    study = open_study(store)
    exact = study.difference(("m", 0), ("m", 10), "pos")
    (line,) = (line for line in out.splitlines() if line.startswith("  NOUN "))
    at = exact.labels.index("NOUN")
    numbers = (exact.kl_b, exact.kl_a, exact.value)
    assert line.split()[2:] == [*(nats(float(x[at])) for x in numbers), "-", "-", "-"]  # two seeds
    kl = [float(study.kl_between(("m", s, 10), ("m", s, 0)).mean()) for s in "12"]
    assert f"\n  1     {nats(kl[0])}\n  2     {nats(kl[1])}\n  mean  {nats(np.mean(kl))}\n" in out
    assert f"seeds from {nats(min(kl))} to {nats(max(kl))}" in out
    assert "left out" not in out


def test_two_models(compared: Path, capsys: Capture) -> None:
    store = str(compared / "dense.zarr")
    study = open_study(store)
    found = report(capsys, store, "--models", "b", "m", "--category", "frequency")
    assert found["from"] == {"model": "b", "step": 10, "seeds": 3}  # the newest that both have
    assert found["to"] == {"model": "m", "step": 10, "seeds": 4}
    assert found["same_seeds"] is False
    exact = study.difference(("m", 10), ("b", 10), "frequency")
    assert [level["difference"] for level in found["levels"]] == [
        None if np.isnan(value) else value for value in exact.value
    ]
    kl = np.array(found["kl"]["mean_kl"])
    assert kl.shape == (3, 4)
    for row, column in ((0, 3), (2, 1)):
        seeds = found["kl"]["seeds_from"][row], found["kl"]["seeds_to"][column]
        expected = study.kl_between(("b", seeds[0], 10), ("m", seeds[1], 10)).mean()
        assert kl[row, column] == pytest.approx(expected)
    assert run(["compare", store, "--models", "b", "m", "--step", "10"]) == 0
    out = capsys.readouterr().out
    heading = "KL from b (rows: its seeds) to m (columns), mean over tokens, nats: mean"
    assert f"{heading} {nats(kl.mean())}\n" in out
    assert "  seed       1       2       3       4\n" in out


def test_what_is_not_stored_is_left_out_and_said(
    compared: Path, tmp_path: Path, capsys: Capture
) -> None:
    store = str(shutil.copytree(compared / "dense.zarr", tmp_path / "study.zarr"))
    steps = [store, "--model", "m", "--steps", "0", "10"]
    models = [store, "--models", "m", "b"]
    before = report(capsys, *steps), report(capsys, *models)
    assert run(["prune", store, "--model", "m", "--steps", "10"]) == 0
    capsys.readouterr()
    for options, full in zip((steps, models), before, strict=True):
        found = report(capsys, *options)
        assert found["levels"] == full["levels"]
        why = "log-probs of m, seed 1, step 10 are not stored: they were dropped"
        assert found["kl"]["left_out"] == why
        assert not np.array(found["kl"]["mean_kl"]).size
        assert run(["compare", *options]) == 0
        assert capsys.readouterr().out.endswith(f"\nKL between them is left out: {why}\n")


def test_seeds_without_log_probs_do_not_hide_the_others(tmp_path: Path, capsys: Capture) -> None:
    writer = open_writer(tmp_path / "study.zarr")
    fill(writer, "m", "123", [0, 8])
    writer.drop_log_probs("m", 8, ["2"])
    writer.close("finished")
    found = report(capsys, str(tmp_path / "study.zarr"), "--steps", "0", "8")
    assert found["kl"]["seeds_from"] == ["1", "3"]
    assert "seed 2, step 8 are not stored" in found["kl"]["left_out"]
    assert run(["compare", str(tmp_path / "study.zarr"), "--steps", "0", "8"]) == 0
    assert "some seeds are left out: log-probs of m, seed 2" in capsys.readouterr().out


def test_differences_that_are_sure_are_marked(tmp_path: Path, capsys: Capture) -> None:
    writer = open_writer(tmp_path / "study.zarr")
    fill(writer, "m", "12345", [0, 8])
    study = writer.study()
    summary = study.summary("m", "third")
    names = ("kl_low", "kl_high", "kl_percentile", "cross_entropy", "entropy", "kl_unigram")
    levels = {name: getattr(summary, name)[1] for name in names}
    kl = np.tile(np.array([0.01, summary.expected_kl[1, 1], np.nan]), (5, 5, 1))
    levels |= {"kl": kl, "expected_kl": kl[0, 0]}
    token_kl = study.token_kl("m", 8).copy()
    token_kl[study.category("m", "third").level == 0] = 0.01
    writer.summaries.forget("m", [8])
    writer.summaries.summarise("m", 8, list("12345"), token_kl, {"third": levels})
    writer.close("finished")
    store = str(tmp_path / "study.zarr")
    assert run(["compare", store, "--steps", "0", "8", "--category", "third", "--ascii"]) == 0
    out = capsys.readouterr().out
    assert out.isascii()
    lines = {line.split()[0]: line for line in out.splitlines() if line.startswith("  ")}
    assert lines["a"].endswith("*")
    assert "*" not in lines["\\x1b[2J"]
    assert run(["compare", store, "--steps", "0", "8", "--category", "third"]) == 0
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give either --steps A B or --models X Y"),
        (["--steps", "0", "10", "--models", "m", "b"], "give either --steps A B or --models X Y"),
        (["--steps", "0", "10"], "choose a model with --model; it has: m, b"),
        (["--steps", "0", "0", "--model", "m"], "what is compared should differ"),
        (["--models", "m", "m"], "what is compared should differ"),
        (["--models", "m", "b", "--model", "m"], "--model goes with --steps"),
        (["--steps", "0", "10", "--model", "m", "--step", "10"], "--step goes with --models"),
        (["--steps", "0", "7", "--model", "m"], "m has no step 7; it has: 0, 10"),
        (["--steps", "0", "x"], "invalid int value: 'x'"),
        (["--steps", "0"], "expected 2 arguments"),
        (["--steps", "0", "10", "--model", "../x"], "no model '../x'; it has: m, b"),
        (["--models", "m", "x"], "no model 'x'; it has: m, b"),
        (["--models", "m", "b", "--step", "20"], "m has no step 20; it has: 0, 10"),
        (["--models", "m", "b", "--category", "nope"], "no category 'nope'; it has: all, freq"),
        (["--models", "m", "b", "--category", "surprisal"], "by each model's own results"),
    ],
)
def test_wrong_options(compared: Path, options: list[str], message: str, capsys: Capture) -> None:
    try:
        code = run(["compare", str(compared / "dense.zarr"), *options])
    except SystemExit as end:
        code = end.code  # type: ignore[assignment]
    assert code == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_what_is_not_there_yet(tmp_path: Path, capsys: Capture) -> None:
    writer = open_writer(tmp_path / "study.zarr")
    fill(writer, "m", "12", [0])
    fill(writer, "m", "1", [8])
    fill(writer, "n", "12", [8])
    writer.close("stopped")
    store = str(tmp_path / "study.zarr")
    assert run(["compare", store, "--model", "m", "--steps", "0", "8"]) == 1
    assert "m, step 8: not summarised by all (yet)" in capsys.readouterr().err
    assert run(["compare", store, "--models", "m", "n"]) == 1
    assert "no step at which all of m, n are summarised" in capsys.readouterr().err
    assert run(["compare", str(tmp_path / "none.zarr"), "--steps", "0", "8"]) == 2
