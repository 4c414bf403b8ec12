"""The Curves screen: its numbers, its cursor and view while data arrive, what can be switched."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from textual import events

from seedconv_tui.monitor.common.chart_widget import ChartView
from seedconv_tui.text import nats
from store import Study
from store.analysis import simultaneous_band
from store.schema import Phase, Probe, ProbeValues
from tests.support.made_store import checkpoint, fill, open_writer
from tests.support.terminal import (
    START,
    STEPS,
    Terminal,
    make_engine,
    make_model,
    make_study,
    terminal,
)

if TYPE_CHECKING:
    from pathlib import Path


def plot(screen: Terminal) -> str:
    """The chart alone."""
    region = screen.app.screen.query_one(ChartView).region
    return "\n".join(screen.text.splitlines()[region.y : region.bottom])


def steps_later(screen: Terminal) -> int:
    """The steps that are said to lie right of the view."""
    found = re.search(r"(\d+) later", screen.row("expected KL"))
    return int(found[1]) if found else 0


def has_line(screen: Terminal) -> bool:
    return any("⠁" <= char <= "⣿" for char in plot(screen))


@pytest.mark.parametrize("size", [(80, 24), (200, 50), (60, 16)])
async def test_shows_the_curve_and_its_numbers_at_every_size(size: tuple[int, int]) -> None:
    async with terminal(size=size) as screen:
        await screen.press("2")
        assert "demo > Curves" in screen.text
        assert "expected KL, nats" in screen.text
        assert "band: 95 % interval" in screen.text
        assert has_line(screen)
        assert "step 1,000 (latest)" in screen.text
        assert "means over 4,096 tokens" in screen.text or size[0] < 80
        row = screen.row("━━ pythia-14m")
        assert "1.2000 95 % 1.1500 to 1.2500  3/3 seeds" in row
        assert "3/3 seeds, 6 pairs" in row or size[0] < 80
        assert "q Quit" in screen.text.splitlines()[-1]


async def test_the_cursor_reads_exact_values_step_by_step() -> None:
    behind = make_model("behind", n_done=9)
    async with terminal(make_study(make_model(), behind)) as screen:
        await screen.press("2")
        assert "0.9000 95 % 0.8500 to 0.9500  at 128, 3/3 seeds" in screen.row("━━ behind")
        await screen.press("left")
        assert "step 512 · sharp divergence" in screen.text
        assert "1.1000 95 % 1.0500" in screen.row("━━ pythia-14m")
        assert "nothing at this step" in screen.row("━━ behind")
        await screen.press("h", "h", "h", "h")
        assert "step 32 · sharp convergence" in screen.text
        assert "0.7000 95 % 0.6500" in screen.row("━━ behind")
        await screen.press("home")
        assert "step 0 · uniform" in screen.text
        assert "below rounding floor" in screen.row("━━ pythia-14m")
        await screen.press("l")
        assert "0.2000 95 % 0.1500" in screen.row("━━ pythia-14m")
        assert "below rounding floor" not in screen.text
        await screen.press("end", "right")
        assert "step 1,000 ·" in screen.text


async def test_without_a_touch_the_view_follows_the_data() -> None:
    async with terminal(make_study(make_model(n_done=6))) as screen:
        await screen.press("2")
        assert "follows" in screen.row("expected KL")
        before = plot(screen)
        await screen.poll(make_study(make_model(), generation=2))
        assert "step 1,000 (latest)" in screen.text
        assert plot(screen) != before


@pytest.mark.parametrize("touch", [["left"], ["plus"], ["plus", "H"], ["left", "plus", "L"]])
async def test_once_touched_arrivals_do_not_move_the_view(touch: list[str]) -> None:
    steps = [*STEPS[:7], 100, 200, 400, 700, 1000]  # a last step that has a tick anyway stays on
    first, all_steps = make_model(steps=steps, n_done=8), make_model(steps=steps)
    async with terminal(make_study(first), size=(100, 30)) as screen:
        await screen.press("2", *touch)
        axis = plot(screen).splitlines()[-2:]
        ticks = [row[:8] for row in plot(screen).splitlines()]
        heading = screen.row(" step ")
        later = steps_later(screen)
        await screen.poll(make_study(all_steps, generation=2))
        assert plot(screen).splitlines()[-2:] == axis
        assert [row[:8] for row in plot(screen).splitlines()] == ticks
        assert steps_later(screen) == later + 4
        if touch[0] == "left":
            assert screen.row(" step ") == heading
        await screen.press("0")
        assert "follows" in screen.row("expected KL")
        assert "1k" in plot(screen)
        assert "step 1,000 (latest)" in screen.text


async def test_zoom_is_about_the_cursor_and_survives_a_resize() -> None:
    async with terminal() as screen:
        await screen.press("2", "left", "left", "left")
        assert "step 128 ·" in screen.text
        await screen.press("plus", "plus", "plus")
        zoomed = plot(screen).splitlines()[-1]
        assert "100" in zoomed
        assert zoomed.split()[0] != "0"
        await screen.resize(200, 50)
        await screen.resize(80, 24)
        assert plot(screen).splitlines()[-1] == zoomed
        assert "step 128 ·" in screen.text
        await screen.press(*["minus"] * 6)
        assert plot(screen).splitlines()[-1].lstrip().startswith("0")


async def test_the_cursor_is_kept_in_view() -> None:
    async with terminal() as screen:
        await screen.press("2", "left", "plus", "plus", "plus", "home")
        assert "▲" in plot(screen)
        assert "step 0 ·" in screen.text


async def test_m_goes_through_the_metrics() -> None:
    async with terminal() as screen:
        await screen.press("2", "m")
        assert "cross-entropy, nats · band: min to max over seeds" in screen.text
        assert "6.0000 5.0000 to 7.0000  3/3 seeds" in screen.row("━━ pythia-14m")
        await screen.press("m")
        assert "5.0000 4.0000 to 6.0000  3/3 seeds" in screen.row("━━ pythia-14m")
        await screen.press("m")
        uniform = np.log(50_277) - np.array([4, 5, 6])
        words = f"{uniform[1]:.4f} {uniform[2]:.4f} to {uniform[0]:.4f}  3/3 seeds"
        assert "KL to uniform, nats" in screen.text
        assert words in screen.row("━━ pythia-14m")
        await screen.press("m")
        await screen.settle()
        assert "no KL to unigram yet" in screen.text
        assert "there is no store behind this study" in screen.text
        await screen.press("m")
        assert "expected KL" in screen.text


async def test_minimal_pairs_have_their_kl_in_both_senses(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "study")
    fill(writer, "m", ("a", "b", "c"), (0, 8))
    task = np.array([0, 0, 1, 1], np.int32)
    probe = Probe("pairs", "blimp", ("good", "bad"), ("x", "y"), task, ("", ""), "made")
    writer.probes.set(probe)
    said = np.random.default_rng(0).normal(-9, 2, (2, 3, 4, 2)).astype(np.float32)

    def ask(at: int, step: int) -> None:
        of = zip("abc", said[at], strict=True)
        answers = [ProbeValues("pairs", probe.digest, seed, values) for seed, values in of]
        writer.probes.commit("m", step, answers)

    def words(at: int) -> tuple[str, str]:
        odds = np.diff(said[at].astype(np.float64))[..., 0]
        p = 1 / (1 + np.exp(odds))
        means = p.reshape(3, 2, 2).mean(axis=2)  # (seed, task)
        pairs = [(i, j) for i in range(3) for j in range(3) if i != j]

        def kl(p: np.ndarray, q: np.ndarray) -> float:
            return float((p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean())

        each = [np.mean([kl(of[i], of[j]) for i, j in pairs]) for of in (means, p)]
        return f"{each[0]:.4f} 95 %", f"{each[1]:.4f} 95 %"

    ask(0, 0)
    async with terminal(store=tmp_path / "study") as screen:
        await screen.press("2", *["m"] * 5)
        await screen.settle()
        assert "minimal pairs, KL of the means, nats" in screen.text
        assert "step 0 (latest)" in screen.text
        assert words(0)[0] in screen.row("━━ m")
        ask(1, 8)
        await screen.poll(Study(tmp_path / "study").snapshot())
        assert words(1)[0] in screen.row("━━ m")
        await screen.press("m")
        await screen.settle()
        assert "minimal pairs, mean of the KL, nats" in screen.text
        assert words(1)[1] in screen.row("━━ m")
        assert "3/3 seeds, 6 pairs" in screen.row("━━ m")
        await screen.press("m")
        assert "expected KL" in screen.text


async def test_each_probe_of_minimal_pairs_has_its_turn(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "study")
    fill(writer, "m", ("a", "b"), (0, 8))
    values: dict[str, float] = {}
    for name, spread in (("first", 0.5), ("second", 3.0)):
        task = np.array([0, 0], np.int32)
        probe = Probe(name, "blimp", ("good", "bad"), ("x",), task, ("",), "made")
        writer.probes.set(probe)
        said = np.float32([[[-9, -9], [-9, -9]], [[-9, -9 - spread], [-9, -9 - spread]]])
        answers = [
            ProbeValues(name, probe.digest, seed, of) for seed, of in zip("ab", said, strict=True)
        ]
        writer.probes.commit("m", 8, answers)
        p = 1 / (1 + np.exp(-spread))
        q = np.array([p, 1 - p])
        values[name] = float(((q - 0.5) * np.log(q / 0.5)).sum() / 2)  # both orders
    async with terminal(store=tmp_path / "study") as screen:
        await screen.press("2", *["m"] * 4)
        for short in ("KL of the means", "mean of the KL"):
            for name, value in values.items():
                await screen.press("m")
                await screen.settle()
                assert f"minimal pairs, {short} of {name}, nats" in screen.text
                assert f"{value:.4f} " in screen.row("━━ m")
        await screen.press("m")
        assert "expected KL" in screen.text


async def test_the_kl_to_unigram_is_read_from_the_summaries(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "study")
    fill(writer, "m", ("a", "b", "c"), (0, 8))
    async with terminal(store=tmp_path / "study") as screen:
        await screen.press("2", "m", "m", "m", "m")
        await screen.settle()

        def words(step: int) -> str:
            means = [
                checkpoint("m", seed, step)["kl_unigram"].mean(dtype=np.float64) for seed in "abc"
            ]
            return f"{np.mean(means):.4f} {min(means):.4f} to {max(means):.4f}  3/3 seeds"

        assert words(8) in screen.row("━━ m")
        fill(writer, "m", ("a", "b", "c"), (64,))
        await screen.poll(Study(tmp_path / "study").snapshot())
        assert "step 64 (latest)" in screen.text
        assert words(64) in screen.row("━━ m")


async def test_a_band_over_all_steps_is_read_and_follows(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "study")
    fill(writer, "m", ("a", "b", "c"), (0, 8))
    async with terminal(store=tmp_path / "study") as screen:
        await screen.press("2", "b", "b")
        await screen.settle()

        def words() -> str:
            _, band = simultaneous_band(Study(tmp_path / "study"), "m", "all")
            low, high = (nats(float(end[-1, 0])) for end in (band.low, band.high))
            return f"all steps {low} to {high}"

        two = words()
        assert two in screen.row("━━ m")
        fill(writer, "m", ("a", "b", "c"), (64,))
        await screen.poll(Study(tmp_path / "study").snapshot())
        await screen.settle()
        assert words() in screen.row("━━ m")
        assert words() != two


async def test_b_goes_through_the_bands_and_none() -> None:
    few = make_model("few", n_seeds=2)
    later = replace(make_model("later"), kl_interval=None)
    async with terminal(make_study(make_model(), few, later), size=(100, 30)) as screen:
        await screen.press("2")
        interval = plot(screen)
        assert "band: 95 % interval" in screen.text
        assert "1.2000 no interval below 3 seeds" in screen.row("━━ few")
        assert "1.2000 no interval yet" in screen.row("━━ later")
        await screen.press("b")
        spread = plot(screen)
        assert "band: std over pairs" in screen.text
        assert "1.2000 ± 0.0100 std  3/3 seeds, 6 pairs" in screen.row("━━ pythia-14m")
        assert "1.2000 ± 0.0100 std  2/2 seeds, 2 pairs" in screen.row("━━ few")
        await screen.press("b")
        assert "band: 95 % over all steps at once" in screen.text
        assert "1.2000 no band yet " in screen.row("━━ pythia-14m")
        await screen.press("b")
        none = plot(screen)
        assert "band" not in screen.row("expected KL")
        assert len({interval, spread, none}) == 3
        await screen.press("m")
        assert "band: min to max over seeds" in screen.text
        await screen.press("b", "m", "m", "m", "m", "b")
        assert "band: 95 % interval" in screen.text
        assert plot(screen) == interval


async def test_band_phases_and_log_can_be_switched() -> None:
    async with terminal() as screen:
        await screen.press("2")
        assert "┊" in plot(screen)
        assert "divergence" in plot(screen)
        await screen.press("p")
        assert "┊" not in plot(screen)
        assert "phases" not in screen.row("expected KL")
        linear = plot(screen)
        await screen.press("y")
        assert "expected KL, nats, log" in screen.text
        assert plot(screen) != linear
        await screen.press("y", "b", "b", "b")
        assert "band" not in screen.row("expected KL")
        assert plot(screen) != linear


async def test_a_hidden_model_is_not_drawn_and_said_to_be_hidden() -> None:
    async with terminal(make_study(make_model("low", n_done=4), make_model("high"))) as screen:
        await screen.press("2", "down", "space")
        assert "hidden" in screen.row("▸    high")
        assert "step 4 (latest)" in screen.text
        assert "1k" not in plot(screen)
        await screen.press("space")
        assert "1k" in plot(screen)
        assert "hidden" not in screen.text


async def test_nothing_to_draw_yet_says_what_is_needed() -> None:
    nothing = make_model(n_done=0)
    async with terminal(make_study(nothing, engine=None)) as screen:
        await screen.press("2")
        assert "no expected KL yet" in screen.text
        assert "needs two seeds scored at one step; scored so far: 0" in screen.text
        assert "seedconv run STUDY.toml" in screen.text
        one_seed = np.full(nothing.cross_entropy.shape, np.nan)
        one_seed[0, 0] = 3.25
        await screen.poll(make_study(replace(nothing, cross_entropy=one_seed), generation=2))
        assert "seedconv run" not in screen.text
        await screen.press("m")
        assert "3.2500 3.2500 to 3.2500  1/3 seeds" in screen.row("━━ pythia-14m")


async def test_more_models_than_rows_keep_the_chosen_one_in_sight() -> None:
    models = [make_model(f"model-{n}") for n in range(12)]
    async with terminal(make_study(*models)) as screen:
        await screen.press("2")
        assert "7 more, up/down" in screen.text
        assert "━━ model-0" in screen.text
        await screen.press(*["down"] * 11)
        assert "▸ ━━ model-11" in screen.text
        assert has_line(screen)


async def test_a_click_places_the_cursor_on_the_nearest_step() -> None:
    async with terminal() as screen:
        await screen.press("2")
        region = screen.app.screen.query_one(ChartView).region
        await screen.pilot.click(offset=(region.x + 4, region.y + 5))
        await screen.pilot.pause()
        assert "step 0 · uniform" in screen.text


async def test_both_screens_keep_their_state_when_left_and_show_what_came_meanwhile() -> None:
    async with terminal(make_study(make_model(n_done=8))) as screen:
        await screen.press("2", "left", "left", "1", "home")
        engine = make_engine(heartbeat=START + 1)
        await screen.poll(make_study(make_model(), generation=2, engine=engine))
        await screen.press("2")
        assert f"step {STEPS[5]} ·" in screen.text
        assert "4 later" in screen.text
        await screen.press("1")
        assert "step 0 ·" in screen.text


async def test_c_pins_a_model_and_the_others_are_read_against_it() -> None:
    behind = make_model("behind", n_done=9)
    higher = make_model("higher")
    higher = replace(higher, kl=higher.kl + 0.25)
    models = make_study(make_model(), behind, higher)
    async with terminal(models, size=(120, 30)) as screen:
        await screen.press("2", "c")
        assert "pinned: pythia-14m" in screen.text
        assert "1.2000    pinned" in screen.row("━━ pythia-14m")
        assert "1.4500   +0.2500" in screen.row("━━ higher")
        # Its own latest step against the pinned one at that step, not against another.
        assert "0.9000   +0.0000" in screen.row("━━ behind")
        await screen.press("left")
        assert "nothing at this step" in screen.row("━━ behind")
        await screen.press("down", "down", "c")
        assert "1.1000   -0.2500" in screen.row("━━ pythia-14m")
        assert "pinned" in screen.row("━━ higher")
        await screen.press("c")
        assert "pinned" not in screen.text
        await screen.press("up", "c", "m")
        assert "pinned: behind" in screen.text
        assert "6.0000         -" in screen.row("━━ pythia-14m")  # nothing to compare with there
        await screen.press("up", "c")
        assert "6.0000   +0.0000" in screen.row("━━ higher")


async def test_counts_are_kept_where_there_is_no_room_for_the_band() -> None:
    models = make_study(make_model("a-model-with-a-long-name"), make_model("another"))
    async with terminal(models, size=(80, 24)) as screen:
        await screen.press("2")
        assert "95 % 1.1500 to 1.2500" in screen.row("━━ another")
        await screen.press("c")
        assert "3/3 seeds, 6 pairs" in screen.row("━━ another")


async def test_o_leaves_the_chosen_and_the_pinned_model_only() -> None:
    models = make_study(*(make_model(name) for name in ("one", "two", "three")))
    async with terminal(models) as screen:
        await screen.press("2", "down", "c", "down", "o")
        assert "hidden" in screen.row("    one")
        assert "hidden" not in screen.row("━━ two") + screen.row("━━ three")
        await screen.press("o")
        assert "hidden" not in screen.text


async def test_the_pinned_model_is_drawn_over_the_chosen_one() -> None:
    same = make_study(make_model("one"), make_model("two"))
    async with terminal(same) as screen:
        await screen.press("2", "p", "b", "b", "n")
        colours = line_colours(screen)
        assert len(colours) == 1  # the chosen one hides the other, all the way
        await screen.press("c", "down")
        assert line_colours(screen) == colours
        await screen.press("c")
        assert line_colours(screen).isdisjoint(colours)


def line_colours(screen: Terminal) -> set[object]:
    """The colours in which lines are drawn."""
    strips = screen.app.screen.query_one(ChartView)._lines
    segments = [segment for strip in strips for segment in strip]
    return {
        segment.style.color
        for segment in segments
        if segment.style and any("⠁" <= char <= "⣿" for char in segment.text)
    }


async def test_x_draws_linear_steps_and_keeps_what_is_in_view() -> None:
    async with terminal() as screen:
        await screen.press("2")
        assert plot(screen).splitlines()[-1].split()[:4] == ["0", "1", "10", "100"]
        await screen.press("x")
        assert "expected KL, nats, linear steps" in screen.text
        assert plot(screen).splitlines()[-1].split()[:3] == ["0", "200", "400"]
        await screen.press("left", "plus", "plus", "plus")
        zoomed = plot(screen).splitlines()[-1]
        assert {"400", "500", "600"} <= set(zoomed.split())
        await screen.press("x", "x")
        assert plot(screen).splitlines()[-1] == zoomed
        await screen.press("0", "x")
        assert "linear" not in screen.text


async def test_a_click_on_linear_steps_takes_the_step_that_is_seen_nearest() -> None:
    async with terminal() as screen:
        await screen.press("2", "x")
        axis = plot(screen).splitlines()
        column = axis[-1].index("400") + 1
        region = screen.app.screen.query_one(ChartView).region
        await screen.pilot.click(offset=(region.x + column, region.y + 5))
        await screen.pilot.pause()
        assert "step 512 ·" in screen.text  # 256 is nearer on the log axis


async def test_f_keeps_the_newest_steps_in_view_until_the_reader_looks_elsewhere() -> None:
    async with terminal(make_study(make_model(n_done=8)), size=(100, 30)) as screen:
        await screen.press("2", "f")
        assert "follows the newest" in screen.row("expected KL")
        before = plot(screen).splitlines()[-1]
        assert before.split()[0] != "0"
        await screen.poll(make_study(make_model(n_done=10), generation=2))
        assert "step 256 (latest)" in screen.text
        moved = plot(screen).splitlines()[-1]
        assert moved != before
        assert "200" in moved
        await screen.press("plus")
        assert "follows the newest" in screen.row("expected KL")
        await screen.press("H")
        assert "held, 1 later" in screen.row("expected KL")
        held = plot(screen).splitlines()[-1]
        await screen.poll(make_study(make_model(), generation=3))
        assert plot(screen).splitlines()[-1] == held
        await screen.press("f")
        assert "1k" in plot(screen).splitlines()[-1]
        await screen.press("left")
        assert "held" in screen.row("expected KL")
        await screen.press("f", "0")
        assert "follows the newest" not in screen.text
        assert plot(screen).splitlines()[-1].split()[0] == "0"


async def test_n_shows_what_rounding_alone_makes() -> None:
    noisy = replace(make_model(), noise_floor=np.full(len(STEPS), 0.4))
    async with terminal(make_study(noisy), size=(100, 30)) as screen:
        await screen.press("2")
        assert "storage floor" in plot(screen)
        assert "noise floor" in plot(screen)
        assert "below rounding floor" not in screen.text
        await screen.press("n")
        assert "floor" not in plot(screen)
        await screen.press("n", "m")
        assert "floor" not in plot(screen)  # of the KL between seeds only
        exact = replace(make_model(), storage_floor=np.zeros(len(STEPS)))
        await screen.poll(make_study(exact, generation=2))
        await screen.press("m", "m", "m", "m")
        assert "expected KL" in screen.text
        assert "floor" not in plot(screen)


async def test_intervals_of_phases_are_on_the_axis() -> None:
    sure = (Phase("uniform", 0), Phase("sharp divergence", 64, 32, 128))
    async with terminal(make_study(replace(make_model(), phases=sure))) as screen:
        await screen.press("2")
        assert "═" in plot(screen).splitlines()[-2]
        assert "sharp divergence from 64 (32-128)" in screen.text
        await screen.press("p")
        assert "═" not in plot(screen)


async def test_b_draws_half_blocks() -> None:
    async with terminal() as screen:
        await screen.press("2", "B")
        assert not has_line(screen)
        assert set("▀▄█") & set(plot(screen))
        await screen.press("B")
        assert has_line(screen)
    async with terminal(ascii_only=True) as screen:
        await screen.press("2", "B")
        assert screen.text.isascii()


async def test_the_wheel_zooms_about_the_pointer() -> None:
    async with terminal() as screen:
        await screen.press("2")
        chart, whole = screen.app.screen.query_one(ChartView), plot(screen)
        place = {"x": 20, "y": 5, "delta_x": 0, "button": 0}
        modifiers = {"shift": False, "meta": False, "ctrl": False}
        chart.post_message(events.MouseScrollUp(chart, delta_y=-1, **place, **modifiers))
        await screen.settle()
        assert "held" in screen.row("expected KL")
        assert "1k" not in plot(screen)
        chart.post_message(events.MouseScrollDown(chart, delta_y=1, **place, **modifiers))
        await screen.settle()
        assert plot(screen) == whole
