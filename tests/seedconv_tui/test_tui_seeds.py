"""The Seeds screen: its pairs and distances, what its keys do, and what arrivals leave alone."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from seedconv_tui.monitor.common.chart_widget import ChartView
from seedconv_tui.monitor.common.pairs import PairMatrix, shades, short
from seedconv_tui.monitor.seeds.screen import SeedsScreen
from store import Study
from store.schema import ModelSnapshot
from tests.support.made_store import checkpoint, fill, js, kl, of_pair, open_writer, reduce, score
from tests.support.terminal import Terminal, make_model, make_study, terminal

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("seeds") / "study"
    writer = open_writer(path)
    fill(writer, "m", ("a", "b", "c"), (0, 8, 64))
    writer.close("finished")
    return path


def with_outlier(outlier: int = 2, n_seeds: int = 6) -> ModelSnapshot:
    """A model of which one seed is far from the rest in the last step."""
    model = make_model(n_seeds=n_seeds)
    values = model.kl.copy()
    values[-1, outlier] += 1
    values[-1, :, outlier] += 1
    return replace(model, kl=values)


def row(screen: Terminal, seed: str) -> str:
    """The row of a seed in the matrix."""
    region = screen.app.screen.query_one(PairMatrix).region
    rows = screen.text.splitlines()[region.y : region.bottom]
    return next(row for row in rows if row[3:].startswith(f"{seed} "))[: region.width]


@pytest.mark.parametrize("size", [(80, 24), (200, 50), (60, 16)])
async def test_shows_pairs_distances_and_the_chosen_pair(
    store: Path, size: tuple[int, int]
) -> None:
    of = {
        pair: float(kl("m", *pair, 64).mean(dtype=np.float64))
        for pair in itertools.permutations("abc", 2)
    }
    async with terminal(store=store, size=size) as screen:
        await screen.go_to(SeedsScreen)
        assert "attacked > Seeds" in screen.text
        assert "step 64 (latest)" in screen.text
        assert "follows" in screen.text
        values = row(screen, "b").split()
        rest = (of["b", "a"] + of["b", "c"] + of["a", "b"] + of["c", "b"]) / 4
        assert float(values[1]) == pytest.approx(rest, abs=6e-5)
        assert float(values[2]) == pytest.approx(of["b", "a"], abs=6e-5)
        assert values[3] == "·"
        assert float(values[4]) == pytest.approx(of["b", "c"], abs=6e-5)
        detail = screen.row("seed a → b")
        assert f"KL {of['a', 'b']:.4f} · back {of['b', 'a']:.4f}" in detail
        assert f"JS {js('m', 'a', 'b', 64).mean(dtype=np.float64):.4f}" in detail or size[0] < 80
        assert "outlier at 0 of 3 steps" in screen.text
        assert any("⠁" <= char <= "⣿" for char in screen.text)
        assert "q Quit" in screen.text.splitlines()[-1]


async def test_the_measures_are_those_of_the_store(store: Path) -> None:
    top = [checkpoint("m", seed, 64)["top_id"][:, 0] for seed in "ac"]
    async with terminal(store=store) as screen:
        await screen.go_to(SeedsScreen)
        await screen.press("m")
        assert "Jensen-Shannon divergence" in screen.text
        expected = js("m", "a", "c", 64).mean(dtype=np.float64)
        assert float(row(screen, "a").split()[-1]) == pytest.approx(expected, abs=6e-5)
        await screen.press("m")
        agreement = 100 * (top[0] == top[1]).mean()
        assert float(row(screen, "a").split()[-1]) == pytest.approx(agreement, abs=6e-3)
        assert f"same top-1 {100 * (top[0] == top[1]).mean():.1f} %" not in screen.row("a → b")
        await screen.press("m", "L")
        assert "RMS difference" in screen.text
        assert f"same top-1 {agreement:.1f} %" in screen.row("seed a → c")
        await screen.press("m")
        assert "KL, nats ·" in screen.text


async def test_the_measures_are_those_that_the_study_has(tmp_path: Path) -> None:
    for name, chosen in (("few", ["kl"]), ("more", ["kl", "tv", "hellinger"])):
        writer = open_writer(tmp_path / name, divergences=chosen)
        fill(writer, "m", ("a", "b"), (0,))
        writer.close("finished")
    seen = []
    async with terminal(store=tmp_path / "few", size=(140, 30)) as screen:
        await screen.go_to(SeedsScreen)
        for _ in range(3):
            seen.append(screen.row("step 0 (latest)"))
            await screen.press("m")
        assert "JS" not in screen.row("seed a → b")
        assert "KL, nats" in screen.row("step 0 (latest)")
    assert ["KL, nats" in seen[0], "same top prediction" in seen[1]] == [True, True]
    async with terminal(store=tmp_path / "more", size=(140, 30)) as screen:
        await screen.go_to(SeedsScreen)
        await screen.press("m")
        assert "Hellinger distance" in screen.row("step 0 (latest)")
        await screen.press("m")
        assert "total variation distance" in screen.row("step 0 (latest)")
        mean = of_pair("m", "a", "b", 0)["tv"].mean(dtype=np.float64)
        assert float(row(screen, "a").split()[-1]) == pytest.approx(mean, abs=6e-5)
        assert f"TV {mean:.4f}" in screen.row("seed a → b")


async def test_steps_are_gone_through_and_followed(store: Path) -> None:
    async with terminal(store=store) as screen:
        await screen.go_to(SeedsScreen)
        for keys, step in (
            (["left"], 8),
            (["h", "h"], 0),
            (["right"], 8),
            (["l", "l"], 64),
            (["home"], 0),
            (["end"], 64),
            (["left_square_bracket"], 8),
            (["left_curly_bracket"], 0),
            (["right_square_bracket"], 8),
            (["right_curly_bracket"], 64),
            (["g"], 0),
            (["G"], 64),
        ):
            await screen.press(*keys)
            await screen.settle()
            assert f" step {step} · m" in screen.text
            mean = kl("m", "a", "b", step).mean(dtype=np.float64)
            assert f"KL {mean:.4f}" in screen.row("seed a → b")
        await screen.press("home")
        assert "held, 2 later, 0 follows" in screen.text
        await screen.press("0")
        assert "step 64 (latest)" in screen.text
        await screen.press("left", "escape")
        assert "follows" in screen.row("step 64 (latest)")


async def test_the_pair_is_chosen_by_keys_and_by_a_click(store: Path) -> None:
    async with terminal(store=store) as screen:
        await screen.go_to(SeedsScreen)
        await screen.press("down")
        assert "seed b → a" in screen.text
        await screen.press("L")
        assert "seed b → c" in screen.text
        await screen.press("j")
        assert "seed c → a" in screen.text
        await screen.press("k", "k")
        assert "seed a → c" in screen.text
        await screen.press("H", "H")
        assert "seed a → b" in screen.text
        await screen.press("shift+right", "shift+left")
        assert "seed a → b" in screen.text
        await screen.press("up")
        assert "seed a → b" in screen.text
        region = screen.app.screen.query_one(PairMatrix).region
        column = screen.text.splitlines()[region.y].index(" b ") + 1
        await screen.pilot.click(offset=(column, region.y + 3))
        await screen.pilot.pause()
        assert "seed c → b" in screen.text


async def test_a_click_on_the_chart_goes_to_the_nearest_step(store: Path) -> None:
    async with terminal(store=store) as screen:
        await screen.go_to(SeedsScreen)
        region = screen.app.screen.query_one(ChartView).region
        await screen.pilot.click(offset=(region.x + 5, region.y + 5))
        await screen.pilot.pause()
        assert " step 0 ·" in screen.text


async def test_outliers_are_named_marked_and_found() -> None:
    async with terminal(make_study(with_outlier()), size=(140, 30)) as screen:
        await screen.go_to(SeedsScreen)
        assert "outlier: 3" in screen.row("step 1,000 (latest)")
        assert "!" in row(screen, "3")
        assert "!" not in row(screen, "4")
        assert "o Outlier" in screen.row("q Quit")
        await screen.press("o")
        assert "outlier at 1 of 12 steps" in screen.row(" seed 3 ·")
        await screen.press("left")
        assert "no outlier" in screen.text
        assert "!" not in row(screen, "3")
        assert "o Outlier" not in screen.row("q Quit")
        await screen.press("o")
        assert "seed 3 →" in screen.text


async def test_y_changes_the_axis_of_the_distances() -> None:
    async with terminal() as screen:
        await screen.go_to(SeedsScreen)
        before = screen.text
        await screen.press("y")
        assert screen.text != before
        await screen.press("y")
        assert screen.text == before


async def test_a_step_with_fewer_seeds_shows_gaps(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "study")
    fill(writer, "m", ("a", "b", "c"), (0,))
    writer.plan("m", [(seed, 8) for seed in "abc"], {})
    for seed in "ac":
        score(writer, "m", seed, 8)
    reduce(writer, "m", 8, "ac")
    async with terminal(store=tmp_path / "study", size=(120, 24)) as screen:
        await screen.go_to(SeedsScreen)
        assert row(screen, "b").split() == ["b", "-", "-", "·", "-"]
        assert "2/3 seeds at this step" in screen.text
        assert "KL - · back - · JS -" in screen.row("seed a → b")
        # More arrives: what is held stays, what follows goes on.
        await screen.press("home")
        score(writer, "m", "b", 8)
        reduce(writer, "m", 8, "abc")
        await screen.poll(Study(tmp_path / "study").snapshot())
        assert " step 0 ·" in screen.text
        assert "held, 1 later" in screen.text
        await screen.press("0")
        await screen.settle()
        assert "3/3 seeds at this step" in screen.text
        mean = js("m", "a", "b", 8).mean(dtype=np.float64)
        assert f"JS {mean:.4f}" in screen.row("seed a → b")


async def test_the_pair_stays_the_same_one_when_seeds_join_and_when_resized() -> None:
    async with terminal(make_study(make_model(n_done=7))) as screen:
        await screen.go_to(SeedsScreen)
        await screen.press("down", "down", "left")
        assert "seed 3 → 2" in screen.text or "seed 3 → 1" in screen.text
        chosen = screen.row("seed 3 →")[:12]
        model = replace(make_model(n_seeds=5), seeds=("0", "1", "x", "2", "3"))
        await screen.poll(make_study(model, generation=2))
        assert screen.row("seed 3 →")[:12] == chosen
        assert " step 16," in screen.text
        for size in ((200, 50), (60, 16)):
            await screen.resize(*size)
            assert screen.row("seed 3 →")[:12] == chosen
            assert " step 16," in screen.text


@pytest.mark.parametrize("size", [(80, 24), (60, 16), (200, 50)])
async def test_twenty_seeds_fit_or_scroll(size: tuple[int, int]) -> None:
    async with terminal(make_study(make_model(n_seeds=20)), size=size) as screen:
        await screen.go_to(SeedsScreen)
        await screen.press(*["down"] * 19, *["L"] * 18)
        assert "seed 20 → 19" in screen.text
        assert "▸ 20" in screen.text
        region = screen.app.screen.query_one(PairMatrix).region
        assert " 19" in screen.text.splitlines()[region.y]
        if size[0] < 200:
            assert "-20/20" in screen.text
        assert screen.app.screen.query_one(ChartView).region.height >= 5


async def test_models_are_gone_through_with_the_nearest_step() -> None:
    other = make_model("other", steps=[0, 100, 200], n_seeds=2)
    async with terminal(make_study(make_model(), other)) as screen:
        await screen.go_to(SeedsScreen)
        await screen.press("left", "left", "left", "M")
        assert " step 100," in screen.text
        assert "· other ·" in screen.text
        await screen.press("M")
        assert " step 128," in screen.text


async def test_without_pairs_it_says_what_is_needed() -> None:
    async with terminal(make_study(make_model(n_done=0))) as screen:
        await screen.go_to(SeedsScreen)
        await screen.press("left", "down", "L", "o", "m", "y", "M", "0")
        assert "needs two seeds scored at one step" in screen.text
        await screen.poll(make_study(generation=2))
        assert "step 1,000 (latest)" in screen.text


def test_short_values_fit_their_cells() -> None:
    rng = np.random.default_rng(0)
    for x in (0.0, *10 ** rng.uniform(-9, 6, 200), 0.99951, 9.9951, 99.951, 0.0005, 9999.6):
        assert len(short(float(x))) <= 4
        if 0.1 <= x < 9999:
            assert float(short(float(x))) == pytest.approx(x, rel=0.06)
    assert short(float("nan")) == "-"


def test_shades_go_from_the_least_to_the_most() -> None:
    values = np.array([[np.nan, 1.0, 1.5], [2.0, np.nan, 1.3]])
    assert shades(values, 5).tolist() == [[0, 0, 2], [4, 0, 1]]
    assert not shades(np.full((2, 2), 0.5), 5).any()
    assert shades(np.array([0.95, 1.0]), 5).tolist() == [0, 1]  # hardly a difference
    assert not shades(np.full((2, 2), np.nan), 5).any()


@pytest.mark.parametrize("ascii_only", [False, True])
async def test_names_from_outside_are_shown_and_not_obeyed(ascii_only: bool) -> None:
    nasty = "[red]x\x1b[2J\u202e"
    model = replace(
        with_outlier(), name=nasty, seeds=("é", "漢字漢字漢字漢字", nasty, "4", "5", "6")
    )
    async with terminal(make_study(model), size=(200, 50), ascii_only=ascii_only) as screen:
        await screen.go_to(SeedsScreen)
        await screen.press("o", "L", "L")
        for text in (screen.text, screen.row(" seed ")):
            assert "\x1b" not in text
            assert "\u202e" not in text
            assert (r"[red]x\x1b[2J\u202e" if ascii_only else r"[red]x␛[2J\u202e") in text
            assert text.isascii() or not ascii_only


async def test_a_narrow_title_keeps_the_measure(store: Path) -> None:
    async with terminal(store=store, size=(60, 16)) as screen:
        await screen.go_to(SeedsScreen)
        await screen.press("left")
        assert " · KL, nats … " in screen.row("held, 1 later, 0 follows")
        await screen.press("m")
        assert "Jensen-Shannon" in screen.text.splitlines()[1]
        await screen.resize(200, 50)
        assert "no outlier" in screen.text.splitlines()[1]
        assert "…" not in screen.text.splitlines()[1]
