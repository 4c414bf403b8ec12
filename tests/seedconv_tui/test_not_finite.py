"""A study with infinite and missing results: every command and screen shows it, and says so."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from seedconv_tui.cli.main import run
from seedconv_tui.cli.study_status import status_json
from seedconv_tui.listeners.prometheus import metrics
from seedconv_tui.monitor.categories.screen import CategoriesScreen
from seedconv_tui.monitor.curves.screen import CurvesScreen
from seedconv_tui.monitor.seeds.screen import SeedsScreen
from seedconv_tui.monitor.tokens.screen import TokensScreen
from seedconv_tui.text import json_line
from store import open_study
from tests.support.not_finite import MODELS, make_not_finite
from tests.support.terminal import terminal

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_not_finite(tmp_path_factory.mktemp("made") / "study.zarr")


def valid(text: str) -> Any:
    """Return what JSON says; NaN and Infinity are none."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_status_and_plot_say_what_means_are_without(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["status", str(study)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  left out of that mean: pairs whose KL is not finite, 1" in lines
    assert "  left out at step 10: pairs whose KL is not finite, 1 (--json has each step)" in lines
    of_all = "  left out at 2 other steps: pairs whose KL is not finite, 12 (--json has each step)"
    assert of_all in lines
    assert run(["status", str(study), "--json"]) == 0
    report = valid(capsys.readouterr().out)
    few = status_json(open_study(study).snapshot())["models"][0]
    assert report["models"][0]["pairs_left_out"] == few["pairs_left_out"]
    assert few["pairs_left_out"] == [{"step": 10, "pairs": 1}, {"step": 20, "pairs": 1}]
    assert few["latest"]["pairs"] == 5
    assert run(["plot", str(study)]) == 0
    drawn = capsys.readouterr().out
    assert "without 2 pairs whose KL is not finite, at 2 steps" in drawn
    assert "without 12 pairs whose KL is not finite, at 2 steps" in drawn


def test_bands_and_plans(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plot", str(study), "--band", "simultaneous"]) == 0
    options = ["--format", "json", "--category", "all", "--model", "few", "--band", "simultaneous"]
    assert run(["export", str(study), *options]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line[:1] == "{"]
    assert [row["kl_band_low"] is None for row in found] == [False, True, True]
    assert run(["plan", str(study), "--width", "0.1", "--model", "few"]) == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert "step 20, all: the KL of some pair is not finite. Choose another step" in line
    assert run(["plan", str(study), "--width", "0.1", "--model", "few", "--step", "0"]) == 0


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_exports(
    study: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for what in ("levels", "seeds", "pairs", "tokens", "extremes", "checkpoints", "probes"):
        file = tmp_path / f"{what}.{kind}"
        assert run(["export", str(study), "--what", what, "-o", str(file)]) == 0
        said = capsys.readouterr().err
        if kind == "json":
            rows = [valid(line) for line in file.read_text().splitlines()]
            assert rows
            assert ("infinite values are null" in said) == (what not in {"probes"})
    if kind == "json":
        rows = [json.loads(line) for line in (tmp_path / "levels.json").read_text().splitlines()]
        at = {(row["model"], row["step"], row["label"]): row for row in rows}
        assert at["few", 20, "all"]["expected_kl"] is None
        assert at["few", 10, "a"]["seeds_left_out"] == 0
        assert at["scores", 20, "all"]["seeds_left_out"] == 2
        assert at["scores", 20, "all"]["cross_entropy"] is not None


def test_what_is_computed_from_it_works_and_says_so(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare = ["compare", str(study), "--steps", "0", "20", "--category", "third"]
    assert run([*compare, "--model", "few"]) == 0
    assert "not finite for 1 level, as the KL of a pair is not" in capsys.readouterr().out
    for model in MODELS:
        assert run([*compare, "--model", model, "--json"]) == 0
        assert valid(capsys.readouterr().out)
    assert run(["compare", str(study), "--models", "few", "all"]) == 0
    capsys.readouterr()
    assert run(["regress", str(study), "--category", "third"]) == 0
    assert "left out, KL not finite: 2 tokens" in capsys.readouterr().out
    assert run(["regress", str(study), "--all", "--category", "third", "--json"]) == 0
    assert valid(capsys.readouterr().out)
    assert run(["export", str(study), "--tensorboard", str(tmp_path)]) == 0
    assert run(["verify", str(study)]) == 0


@pytest.mark.long
def test_the_report_says_where_there_is_no_mean(study: Path, tmp_path: Path) -> None:
    assert run(["report", str(study), "-o", str(tmp_path / "report")]) == 0
    said = "Not finite, as the KL of some pair is not: few at step 20 and 1 more, all at step 20"
    assert said in (tmp_path / "report/summary.md").read_text()
    assert said in (tmp_path / "report/captions.md").read_text()


def test_what_programs_are_sent(study: Path) -> None:
    found = {metric.name: metric for metric in metrics(open_study(study).snapshot())}
    left_out = found["seedconv_pairs_left_out"].samples
    assert {s.labels["model"]: s.value for s in left_out} == {"few": 1, "all": 0, "scores": 0}
    assert all(math.isfinite(s.value) for metric in found.values() for s in metric.samples)
    sent = json_line({"a": math.inf, "b": [math.nan, Path("x")]})
    assert valid(sent) == {"a": None, "b": [None, "x"]}


@pytest.mark.long
@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
async def test_screens(study: Path, size: tuple[int, int]) -> None:
    """Every measure, step and model of each screen is drawn, and two say what a mean is without."""
    async with terminal(store=study, size=size) as screen:
        for kind in (CurvesScreen, SeedsScreen):
            await screen.go_to(kind)
            if size[0] == 200:
                assert "without 1 pair whose KL is not finite" in screen.text
        for kind, keys in {
            CurvesScreen: ("b", "m", "m", "m", "m", "m", "left", "left", "down", "down", "y"),
            SeedsScreen: ("m", "m", "m", "m", "y", "left", "left", "M", "left", "right", "M"),
            CategoriesScreen: ("c", "m", "m", "m", "s", "s", "enter", "[", "[", "M", "]", "]", "M"),
            TokensScreen: ("m", "m", "m", "x", "tab", "tab", "[", "[", "M", "]", "]", "M"),
        }.items():
            await screen.go_to(kind)
            for key in keys:
                await screen.press(key)
                await screen.settle()
