"""KL to references where users meet it: on the screens Curves and Categories, export and report."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from seedconv_tui.cli.main import run
from seedconv_tui.monitor.categories.levels_at_step import ALL_METRICS
from seedconv_tui.monitor.categories.screen import CategoriesScreen
from seedconv_tui.monitor.common.chart_widget import ChartView
from seedconv_tui.monitor.curves.curve_metrics import METRICS, OF_SOME_STUDIES
from seedconv_tui.text import nats
from store import Study
from store.schema import ENSEMBLE_METRICS, REFERENCE_METRICS, TO_END, TO_MODEL, USUAL
from tests.support.made_store import fill, make_categories, open_writer, to_reference
from tests.support.terminal import terminal

SEEDS, STEPS = ("a", "b", "c"), (0, 8)
CHOSEN = (TO_MODEL, TO_END)  # a study need not have all


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("references") / "study"
    writer = open_writer(path, divergences=(*USUAL, *(metric.name for metric in CHOSEN)))
    fill(writer, "m", SEEDS, STEPS)
    writer.close("finished")
    return path


async def test_curves_go_through_those_that_the_study_has(store: Path) -> None:
    async with terminal(store=store, size=(120, 30)) as screen:
        await screen.press("2", *["m"] * (len(METRICS) - len(OF_SOME_STUDIES) - 1))
        for metric in CHOSEN:
            await screen.press("m")
            await screen.settle()
            assert f"{metric.title}, nats · band: 95 % interval" in screen.text
            value = to_reference(metric.name, "m", SEEDS, 8).mean(dtype=np.float64)
            assert f"{nats(float(value))} " in screen.row("━━ m")
            ends = Study(store).summary("m").mean_to_reference[metric.name][1, 1:, 0]
            assert " to ".join(nats(float(end)) for end in ends) in screen.row("━━ m")
        await screen.press("m")
        assert "expected KL" in screen.text


async def test_categories_go_through_them_too(store: Path) -> None:
    async with terminal(store=store, size=(120, 40)) as screen:
        await screen.go_to(CategoriesScreen)
        usual = len(ALL_METRICS) - len(ENSEMBLE_METRICS) - len(REFERENCE_METRICS)
        await screen.press(*["m"] * usual)
        summary = Study(store).summary("m", "third")
        for metric in CHOSEN:
            assert f"{metric.title}, nats" in screen.text
            assert "band: 95 % interval" in screen.text
            series = screen.app.screen.query_one(ChartView)._series[-1]
            found = summary.mean_to_reference[metric.name]
            assert series.y == pytest.approx(found[:, 0, 0])
            assert series.low == pytest.approx(found[:, 1, 0])
            await screen.press("m")
        assert "expected KL, nats" in screen.text


def test_export_has_a_column_for_each(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", str(store), "--what", "levels", "--category", "third"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    inside = make_categories()[1].level == 0
    (row,) = (row for row in rows if (row["step"], row["label"]) == ("8", "a"))
    for metric in CHOSEN:
        expected = to_reference(metric.name, "m", SEEDS, 8)[:, inside].mean(dtype=np.float64)
        assert float(row[metric.mean]) == pytest.approx(expected, rel=1e-6)
        assert float(row[f"{metric.mean}_low"]) <= expected <= float(row[f"{metric.mean}_high"])
    assert not any("end_mean" in name for name in row)
    assert run(["export", str(store), "--what", "seeds", "--category", "all"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    (row,) = (row for row in rows if (row["step"], row["seed"]) == ("8", "b"))
    for metric in CHOSEN:
        expected = to_reference(metric.name, "m", SEEDS, 8)[1].mean(dtype=np.float64)
        assert float(row[metric.name]) == pytest.approx(expected, rel=1e-6)


def test_the_report_draws_them(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    assert run(["report", str(store), "--out", str(out), "--format", "png"]) == 0
    with (out / "references.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(STEPS)
    page = (out / "summary.md").read_text(encoding="utf-8")
    for metric in CHOSEN:
        expected = to_reference(metric.name, "m", SEEDS, 8).mean(dtype=np.float64)
        assert float(rows[1][metric.mean]) == pytest.approx(expected, rel=1e-6)
        (line,) = (each for each in page.splitlines() if each.startswith(metric.in_report))
        assert f"{expected:.6f} nats 95 % [" in line
    assert (out / "references.png").stat().st_size > 10_000


def test_the_dataset_of_a_level_has_them(store: Path) -> None:
    data = Study(store).summary("m", "third").dataset()
    for metric in CHOSEN:
        assert data[metric.name].dims == ("step", "seed", "level")
        assert data[metric.mean].dims == ("step", "end", "level")
    assert data["end"].values.tolist() == ["value", "low", "high"]
