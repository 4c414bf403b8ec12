"""The ensemble where users meet it: on the screens Curves and Categories, in export and report."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from seedconv_tui.cli.main import run
from seedconv_tui.monitor.categories.screen import CategoriesScreen
from seedconv_tui.monitor.common.chart_widget import ChartView
from seedconv_tui.monitor.curves.curve_metrics import METRICS, OF_SOME_STUDIES, TOGETHER
from seedconv_tui.text import nats
from store import Study
from store.schema import ENSEMBLE_METRICS, TO_MEAN, USUAL
from tests.support.made_store import checkpoint, fill, make_categories, open_writer, to_mean
from tests.support.terminal import terminal

SEEDS, STEPS = ("a", "b", "c"), (0, 8)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ensemble") / "study"
    writer = open_writer(path, divergences=(*USUAL, TO_MEAN))
    fill(writer, "m", SEEDS, STEPS)
    writer.close("finished")
    return path


def ambiguity(step: int) -> float:
    """Mean surprisal less that of the mean probability, one token after the other."""
    surprisal = [checkpoint("m", seed, step)["surprisal"].astype(float) for seed in SEEDS]
    of_mean = -np.log(np.mean(np.exp(-np.array(surprisal)), axis=0))
    return float(np.mean(surprisal) - of_mean.mean())


async def test_curves_go_through_the_metrics_of_the_ensemble(store: Path) -> None:
    async with terminal(store=store, size=(120, 30)) as screen:
        await screen.press("2", *["m"] * (len(METRICS) - len(OF_SOME_STUDIES) - 1))
        for metric in TOGETHER:
            await screen.press("m")
            await screen.settle()
            assert f"{metric.title}, nats · band: 95 % interval" in screen.text
            if metric.title == "divergence of the seeds":
                value = float(to_mean("m", SEEDS, 8).mean(dtype=np.float64))
                assert f"{nats(value)} " in screen.row("━━ m")
        assert f"{nats(ambiguity(8))} " in screen.row("━━ m")
        low, high = (
            float(Study(store).summary("m").of_ensemble("ambiguity", end)[1, 0])
            for end in ("low", "high")
        )
        assert f"{nats(low)} to {nats(high)}" in screen.row("━━ m")
        await screen.press("m")
        assert "expected KL" in screen.text


async def test_categories_go_through_them_too(store: Path) -> None:
    async with terminal(store=store, size=(120, 40)) as screen:
        await screen.go_to(CategoriesScreen)
        await screen.press(*["m"] * 4)
        summary = Study(store).summary("m", "third")
        for metric in ENSEMBLE_METRICS:
            assert f"{metric.title}, nats" in screen.text
            assert "band: 95 % interval" in screen.text
            series = screen.app.screen.query_one(ChartView)._series[-1]
            assert series.y == pytest.approx(summary.of_ensemble(metric.name)[:, 0])
            assert series.low == pytest.approx(summary.of_ensemble(metric.name, "low")[:, 0])
            await screen.press("m")
        assert "expected KL, nats" in screen.text


def test_export_has_a_column_for_each(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", str(store), "--what", "levels", "--category", "third"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    level = make_categories()[1].level
    (row,) = (row for row in rows if (row["step"], row["label"]) == ("8", "a"))
    expected = to_mean("m", SEEDS, 8)[:, level == 0].mean(dtype=np.float64)
    assert float(row["seed_divergence"]) == pytest.approx(expected, rel=1e-6)
    parts = float(row["ensemble_cross_entropy"]) + float(row["ambiguity"])
    assert float(row["cross_entropy"]) == pytest.approx(parts, rel=1e-12)
    for metric in ENSEMBLE_METRICS:
        value, low, high = (float(row[metric.name + end]) for end in ("", "_low", "_high"))
        assert low <= value <= high
    assert run(["export", str(store), "--what", "seeds", "--category", "all"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    (row,) = (row for row in rows if (row["step"], row["seed"]) == ("8", "b"))
    expected = to_mean("m", SEEDS, 8)[1].mean(dtype=np.float64)
    assert float(row[TO_MEAN]) == pytest.approx(expected, rel=1e-6)


def test_the_report_draws_them(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    assert run(["report", str(store), "--out", str(out), "--format", "png"]) == 0
    with (out / "ensemble.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(STEPS)
    assert float(rows[1]["ambiguity"]) == pytest.approx(ambiguity(8), rel=1e-6)
    assert (out / "ensemble.png").stat().st_size > 10_000
    page = (out / "summary.md").read_text(encoding="utf-8")
    (line,) = (line for line in page.splitlines() if line.startswith("Ambiguity"))
    assert f"{ambiguity(8):.6f} nats 95 % [" in line
