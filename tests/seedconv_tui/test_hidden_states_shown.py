"""CKA of hidden states where users meet it: on Curves and Seeds, in export, dataset and report."""

from __future__ import annotations

import csv
import io
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from seedconv_tui.cli.main import run
from seedconv_tui.monitor.curves.curve_metrics import METRICS, OF_SOME_STUDIES, STATES
from seedconv_tui.monitor.seeds.screen import SeedsScreen
from seedconv_tui.report.families import FAMILIES
from seedconv_tui.text import nats
from store import open_study
from store.schema import CKA, ESTIMATES
from tests.support.gram_alignment import kept, plain_cka
from tests.support.terminal import terminal
from tests.support.tiny_models import make_runs, write_study

PAIRS = list(combinations("123", 2))


def compared(folder: Path, representation: str, *divergences: str) -> Path:
    """Return the store of a study that compares seeds in these ways."""
    make_runs(folder, steps=(0, 10))
    file = write_study(
        folder,
        corpus__max_tokens=100,
        categories__include=["pos"],
        log_probs__representation=representation,
        scoring__divergences=[*divergences],
    )
    assert run(["run", str(file)]) == 0
    return folder / "study.zarr"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compared(tmp_path_factory.mktemp("hidden"), "factored", "kl", "cka")


@pytest.fixture(scope="module")
def wanted(store: Path) -> dict[int, list[tuple[float, float]]]:
    """Both estimates of each pair by step."""
    return {
        step: [plain_cka(kept(store, i, step), kept(store, j, step)) for i, j in PAIRS]
        for step in (0, 10)
    }


async def test_curves_and_seeds_show_it(
    store: Path, wanted: dict[int, list[tuple[float, float]]]
) -> None:
    async with terminal(store=store, size=(120, 30)) as screen:
        await screen.press("2", *["m"] * (len(METRICS) - len(OF_SOME_STUDIES) - 1))
        for place, metric in enumerate(STATES[of] for of in ESTIMATES[CKA]):
            await screen.press("m")
            await screen.settle()
            assert f"{metric.title} · band: min to max over pairs" in screen.text
            values = [both[place] for both in wanted[10]]
            row = screen.row("━━ m")
            assert f"{nats(float(np.mean(values)))} " in row
            assert f"{nats(min(values))} to {nats(max(values))}" in row
            assert "3/3 seeds, 6 pairs" in row
        await screen.press("m")
        assert "expected KL, nats" in screen.text
        await screen.go_to(SeedsScreen)
        await screen.settle()
        assert (
            f"CKA {nats(wanted[10][0][0])} · CKA debiased {nats(wanted[10][0][1])}" in screen.text
        )


def test_tables_have_it(
    store: Path,
    wanted: dict[int, list[tuple[float, float]]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["export", str(store), "--what", "pairs", "--steps", "10"]) == 0
    rows = {
        (row["seed"], row["other_seed"]): (float(row["cka"]), float(row["cka_debiased"]))
        for row in csv.DictReader(io.StringIO(capsys.readouterr().out))
    }
    data = open_study(store).dataset("m").load().sel(step=10)
    for (i, j), both in zip(PAIRS, wanted[10], strict=True):
        assert rows[i, j] == rows[j, i] == pytest.approx(both, rel=1e-6)
        assert float(data.cka.sel(seed=i, other_seed=j)) == pytest.approx(both[0], rel=1e-6)


def test_the_report_has_it_unasked(
    store: Path, wanted: dict[int, list[tuple[float, float]]], tmp_path: Path
) -> None:
    others = [part for name in FAMILIES if name != "curves" for part in ("--without", name)]
    options = ["-o", str(tmp_path), "--format", "png", "--with", "hidden", *others]
    assert run(["report", str(store), *options]) == 0
    with (tmp_path / "hidden_states.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = [(int(row["step"]), row["seed"], row["other_seed"]) for row in rows]
    assert found == [(step, *pair) for step in (0, 10) for pair in PAIRS]
    values = [(float(row["cka"]), float(row["cka_debiased"])) for row in rows]
    np.testing.assert_allclose(values, wanted[0] + wanted[10], rtol=1e-6)
    mean = np.mean([cka for cka, _ in wanted[10]])
    assert f"CKA               : {mean:12.6f}" in (tmp_path / "summary.md").read_text()


@pytest.fixture(scope="module")
def layered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that compares the embeddings, and nothing of the final states."""
    folder = tmp_path_factory.mktemp("layered")
    return compared(folder, "none", "kl", "cka_after_0", "cka_after_75")


async def test_curves_offer_the_layers_that_a_study_has(layered: Path) -> None:
    async with terminal(store=layered, size=(120, 30)) as screen:
        await screen.press("2", *["m"] * (len(METRICS) - len(OF_SOME_STUDIES) - 1))
        for choice in ("cka_after_0", "cka_after_75"):
            for name in ESTIMATES[choice]:
                await screen.press("m")
                await screen.settle()
                assert STATES[name].title in screen.text
                values = open_study(layered).pair_means("m", name, 10)
                assert f"{nats(float(np.nanmean(values)))} " in screen.row("━━ m")
        await screen.press("m")
        assert "expected KL, nats" in screen.text


def test_the_report_has_a_figure_by_layer(layered: Path, tmp_path: Path) -> None:
    others = [part for name in FAMILIES if name != "curves" for part in ("--without", name)]
    assert run(["report", str(layered), "-o", str(tmp_path), "--format", "png", *others]) == 0
    assert not (tmp_path / "hidden_states.csv").exists()
    assert (tmp_path / "hidden_layers.png").stat().st_size > 10_000
    with (tmp_path / "hidden_layers.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    data = open_study(layered).dataset("m").load()
    assert len(rows) == 2 * 2 * len(PAIRS)
    for row in rows:
        cell = data.sel(step=int(row["step"]), seed=row["seed"], other_seed=row["other_seed"])
        for name, column in zip(
            ESTIMATES[f"cka_after_{row['percent']}"], ("cka", "cka_debiased"), strict=True
        ):
            assert float(row[column]) == pytest.approx(float(cell[name]), rel=1e-12)
