"""The app around the screens: polling, trouble, pausing, silence, safety of text, themes, help."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from rich.color import Color, ColorSystem
from rich.style import Style

from seedconv_tui.monitor.app import SeedconvApp
from seedconv_tui.monitor.common.canvas import spread
from seedconv_tui.monitor.common.theme import DARK, LIGHT, PALETTES, RELEVANCE, SIGNS
from seedconv_tui.monitor.data.feed import Feed
from store import DamagedError, NotAStudyError
from store.schema import JournalEntry, State, StudySnapshot
from tests.support.deadline import DEADLINE
from tests.support.terminal import (
    SCREENS,
    START,
    FakeClock,
    FakeSource,
    Terminal,
    make_engine,
    make_model,
    make_study,
    terminal,
)

NASTY = "[red]x[/red]\x1b[2J\u202e"


def sent(screen: Terminal) -> str:
    """What the terminal was sent since this was last asked."""
    driver = screen.app._driver
    assert driver is not None
    data, driver.sent = driver.sent, ""
    return str(data)


async def test_a_broken_store_says_so_and_recovers() -> None:
    async with terminal(NotAStudyError("study.zarr: no study here")) as screen:
        assert "there is no study yet" in screen.text
        assert "study.zarr: no study here" in screen.text
        await screen.poll(DamagedError("study.zarr/zarr.json: damaged"))
        assert "the study cannot be read" in screen.text
        await screen.poll(make_study())
        assert "cannot be read" not in screen.text
        assert "36/36 done" in screen.text


@pytest.mark.parametrize(
    "trouble", [DamagedError("kl/c/0: [b]gone[/b]"), OSError("kl/c/0: [b]gone[/b]")]
)
async def test_trouble_keeps_the_last_snapshot_and_goes_away(trouble: Exception) -> None:
    async with terminal() as screen:
        await screen.press("home")
        for _ in range(12):
            screen.clock.now += 1
            await screen.poll(trouble)
        assert "× kl/c/0: [b]gone[/b]" in screen.text
        assert "last read 10 s ago" in screen.text
        assert "36/36 done" in screen.text
        await screen.press("2")
        assert "× kl/c/0: [b]gone[/b]" in screen.text
        assert "step 1,000 (latest)" in screen.text
        await screen.poll(make_study(engine=make_engine(heartbeat=screen.clock.now)))
        assert "gone" not in screen.text
        assert "working" in screen.row("demo > Curves")


async def test_an_error_in_our_own_code_is_not_swallowed() -> None:
    class Broken(FakeSource):
        def snapshot(self) -> StudySnapshot:
            raise KeyError("a bug")

    app = SeedconvApp(Broken(make_study()), poll_seconds=86_400)
    with pytest.raises(KeyError, match="a bug"):
        async with app.run_test() as pilot:
            if app.reading is not None:
                app.reading.join()
            await pilot.pause()


async def test_progress_is_shown_before_the_results_are_read() -> None:
    class Slow(FakeSource):
        gate = threading.Event()

        def snapshot(self) -> StudySnapshot:
            self.gate.wait(DEADLINE)
            return super().snapshot()

    source, clock = Slow(make_study()), FakeClock()
    app = SeedconvApp(source, clock=clock, poll_seconds=86_400)
    async with app.run_test() as pilot:
        screen = Terminal(app, pilot, source, clock)
        while "done" not in screen.text:
            await pilot.pause()
        await screen.press("2")
        assert "reading the study" in screen.text
        source.gate.set()
        await screen.settle()
        assert "expected KL" in screen.text
        assert source.calls == 1


async def test_at_most_one_reading_at_a_time_and_silence_of_the_store_is_said() -> None:
    class Slow(FakeSource):
        gate = threading.Event()

        def snapshot(self) -> StudySnapshot:
            answer = super().snapshot()
            if self.calls > 1:
                self.gate.wait(DEADLINE)
            return answer

    source, clock = Slow(make_study()), FakeClock()
    app = SeedconvApp(source, clock=clock, poll_seconds=86_400)
    async with app.run_test() as pilot:
        screen = Terminal(app, pilot, source, clock)
        await screen.settle()
        for _ in range(15):
            clock.now += 1
            app.poll()
        await pilot.pause()
        assert source.calls == 2
        assert "last read 10 s ago" in screen.text
        source.gate.set()
        await screen.settle()
        assert "last read" not in screen.text


async def test_pausing_stops_reading_and_goes_on() -> None:
    async with terminal(make_study(make_model(n_done=3))) as screen:
        await screen.press("P")
        assert "paused" in screen.row("demo > Runs")
        calls = screen.source.calls
        screen.clock.now += 100
        await screen.poll(make_study(make_model(n_done=5), generation=2))
        assert screen.source.calls == calls
        assert "9/36 done" in screen.text
        assert "silent" not in screen.text
        await screen.press("P")
        await screen.settle()
        assert "15/36 done" in screen.text
        assert "paused" not in screen.text


async def test_a_late_heartbeat_is_told_in_words() -> None:
    async with terminal() as screen:
        assert "silent" not in screen.text
        screen.clock.now += 29
        await screen.poll()
        assert "silent" not in screen.text
        screen.clock.now += 2
        await screen.poll()
        assert "engine silent for 30 s" in screen.row("demo > Runs")
        screen.clock.now = START + 200
        await screen.poll()
        assert "engine silent for 3 min" in screen.row("demo > Runs")
        await screen.press("2")
        assert "engine silent for 3 min" in screen.row("demo > Curves")
        await screen.poll(make_study(engine=make_engine(heartbeat=START + 199)))
        assert "silent" not in screen.text


async def test_an_engine_that_died_is_silent_though_its_clock_was_a_day_ahead() -> None:
    async with terminal(make_study(engine=make_engine(heartbeat=START + 86_400))) as screen:
        assert "silent" not in screen.text
        screen.clock.now += 40
        await screen.poll()
        assert "silent for 40 s" in screen.text


async def test_an_engine_whose_clock_is_wrong_is_not_called_silent_while_it_beats() -> None:
    async with terminal(make_study(engine=make_engine(heartbeat=START - 500))) as screen:
        assert "silent for 8 min" in screen.text
        screen.clock.now += 1
        await screen.poll(make_study(engine=make_engine(heartbeat=START - 499)))
        assert "silent" not in screen.text
        screen.clock.now += 31
        await screen.poll()
        assert "silent for 30 s" in screen.text


async def test_nothing_new_sends_nothing() -> None:
    async with terminal() as screen:
        await screen.poll()
        sent(screen)
        for _ in range(3):
            screen.clock.now += 1
            await screen.poll(make_study())
        assert sent(screen) == ""
        screen.clock.now += 40
        await screen.poll()
        words = sent(screen)
        assert "silent" in words
        assert len(words) < 500


async def test_an_arrival_sends_only_the_rows_that_changed() -> None:
    async with terminal(make_study(make_model(n_done=3))) as screen:
        sent(screen)
        screen.clock.now += 1
        await screen.poll(make_study(make_model(n_done=4), generation=2))
        data = sent(screen)
        assert "12/36 done" in data
        assert "journal" not in data
        assert "q Quit" not in data


def test_a_feed_tells_news_from_repetition() -> None:
    feed = Feed(now=START)
    assert feed.accept(make_study())
    assert not feed.accept(make_study())
    assert feed.accept(make_study(generation=2))
    assert feed.accept(make_study(generation=2, engine=make_engine(heartbeat=START + 1)))
    feed.trouble = "gone"
    assert feed.accept(make_study(generation=2, engine=make_engine(heartbeat=START + 1)))


async def test_text_from_outside_is_shown_and_neither_obeyed_nor_parsed() -> None:
    model = replace(make_model(NASTY, failed=(5, 1), error=NASTY), seeds=(NASTY, "2", "3"))
    engine = make_engine(state="working", host=NASTY, device=NASTY, message=NASTY, works=())
    journal = (JournalEntry(START, NASTY, "x", NASTY),)
    study = make_study(model, name=NASTY, engine=engine, journal=journal)
    safe = r"[red]x[/red]␛[2J\u202e"
    async with terminal(study, size=(200, 50)) as screen:
        sent(screen)
        screens = [screen.text]
        for keys in (["J"], ["escape", "n", "enter"], ["escape", "2"], ["left", "m"]):
            await screen.press(*keys)
            screens.append(screen.text)
        for text in screens:
            assert safe in text
            assert "\x1b" not in text
            assert "\u202e" not in text
        assert screens[0].count(safe) >= 6
        data = sent(screen)
        assert "\x1b[2J" not in data
        assert "\u202e" not in data
        await screen.poll(NotAStudyError(NASTY))
        assert f"× {safe}" in screen.text


async def test_ascii_mode_sends_ascii_only() -> None:
    model = make_model("modèle\u200b", failed=(5, 1), error="mémoire")
    study = make_study(model, make_model("zwei"), name="étude")
    for size in ((80, 24), (200, 50), (60, 16)):
        async with terminal(study, size=size, ascii_only=True) as screen:
            seen = [screen.text]
            for keys in (
                ["n"],
                ["enter"],
                ["escape", "J"],
                ["escape", "question_mark"],
                ["escape", "2"],
                ["left", "plus", "y", "down", "space"],
                ["m", "question_mark"],
            ):
                await screen.press(*keys)
                seen.append(screen.text)
            await screen.poll(DamagedError("kaputt: größe"))
            await screen.press("escape")
            seen.append(screen.text)
            await screen.resize(40, 10)
            seen.append(screen.text)
            for text in seen:
                assert text.isascii(), [c for c in text if not c.isascii()]
            assert re.search(r"# +# +# +# +# +[X#]", seen[0])


@pytest.mark.parametrize("size", [(59, 24), (80, 15), (30, 8), (5, 2)])
async def test_too_small_says_what_is_needed_and_recovers(size: tuple[int, int]) -> None:
    async with terminal() as screen:
        await screen.press("2", "left", "left")
        await screen.resize(*size)
        if size[0] > 20:
            assert "too small" in screen.text
            assert f"{size[0]}x{size[1]}" in screen.text
            assert "needs 60x16" in screen.text
        assert "expected KL" not in screen.text
        await screen.resize(80, 24)
        assert "too small" not in screen.text
        assert "step 256 ·" in screen.text


async def test_help_lists_the_keys_of_the_screen_and_closes() -> None:
    async with terminal(size=(100, 64)) as screen:
        await screen.press("2", "question_mark")
        for words in ("+, =", "zoom in", "P", "stop or resume updates", "q, ctrl+q, ctrl+c"):
            assert words in screen.text
        assert "whole error" not in screen.text
        await screen.press("escape", "1", "question_mark")
        assert "the whole error of a failed checkpoint" in screen.text
        assert "zoom in" not in screen.text
        await screen.press("question_mark")
        assert "dark or light" not in screen.text


async def test_every_screen_documents_every_key() -> None:
    async with terminal(size=(120, 80)) as screen:
        for number, kind in enumerate(SCREENS, start=1):
            await screen.press(str(number), "question_mark")
            for binding in kind.BINDINGS:
                words = binding.tooltip or binding.description
                assert words, binding
                assert words in screen.text
            await screen.press("escape")


async def test_the_palette_goes_to_a_screen() -> None:
    async with terminal() as screen:
        await screen.press("ctrl+p", *"curves", "enter")
        await screen.settle()
        assert "demo > Curves" in screen.text


@pytest.mark.parametrize("key", ["q", "ctrl+q", "ctrl+c"])
async def test_quit(key: str) -> None:
    async with terminal() as screen:
        await screen.press(key)
        assert screen.app._exit


async def test_t_changes_the_colours_and_nothing_else() -> None:
    async with terminal() as screen:
        await screen.press("2")
        text, dark = screen.text, screen.app.export_screenshot()
        await screen.press("t")
        assert screen.text == text
        light = screen.app.export_screenshot()
        assert PALETTES[LIGHT.name].series[0].color.name in light
        assert PALETTES[DARK.name].series[0].color.name not in light
        await screen.press("t")
        assert PALETTES[DARK.name].series[0].color.name in dark


@pytest.mark.parametrize("theme", [DARK, LIGHT])
@pytest.mark.parametrize("system", [ColorSystem.STANDARD, ColorSystem.EIGHT_BIT])
def test_colours_stay_apart_with_fewer_of_them(theme: object, system: ColorSystem) -> None:
    def reduced(color: str) -> int | None:
        return Color.parse(color).downgrade(system).number

    palette = PALETTES[theme.name]  # type: ignore[attr-defined]
    series = [reduced(style.color.name) for style in palette.series]
    assert len(set(series)) == len(series)
    background = reduced(theme.background)  # type: ignore[attr-defined]
    named = (palette.text, palette.dim, palette.faint, palette.accent, palette.good)
    for style in (*palette.series, *named, palette.warn, palette.bad):
        assert style.color is not None
        assert reduced(style.color.name) != background
    few = system is ColorSystem.STANDARD
    for ramp in palette.sixteen if few else (palette.heat, palette.cool):
        heat = [reduced(style.bgcolor.name) for style in ramp[1:] if style.bgcolor]
        assert len(set(heat)) == len(ramp) - 1
        assert background not in heat
        for style in ramp[1:]:  # the text can be told from what is behind it
            assert style.color is not None
            assert style.bgcolor is not None
            assert reduced(style.color.name) != reduced(style.bgcolor.name)
    states = [palette.states[s].color for s in (State.DONE, State.FAILED, State.SCORING)]
    assert len({reduced(color.name) for color in states if color}) == 3
    if theme.dark and system is ColorSystem.STANDARD:  # type: ignore[attr-defined]
        # Bright black is the background itself in several popular schemes.
        used = (*palette.series, *named, *(style for style in palette.states.values() if style))
        assert 8 not in {reduced(style.color.name) for style in used}


def luminance(color: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    parts = [part / 255 for part in Color.parse(color).get_truecolor()]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [DARK, LIGHT])
def test_everything_is_legible_on_its_background(theme: Any) -> None:
    """As WCAG 2 asks for (AA): 4.5 for text, 3 for signs, lines and axes."""
    palette = PALETTES[theme.name]
    texts = palette.text, palette.dim, palette.accent, palette.good, palette.warn, palette.bad
    signs = palette.faint, *palette.series, *filter(None, palette.states.values())
    for ground in (theme.background, theme.surface, theme.panel):
        for style in texts:
            assert contrast(style.color.name, ground) >= 4.5
    for style in signs:
        assert contrast(style.color.name, theme.background) >= 3
    for style in (*palette.heat[1:], *palette.cool[1:]):
        assert contrast(style.color.name, style.bgcolor.name) >= 4.5


def test_what_lies_between_two_ends_has_no_ground() -> None:
    """A legend's last colour ends with its word."""
    heat = PALETTES[DARK.name].heat[-1]
    gap, style = spread([(" 4 ", heat)], [("x", Style())], 10, "~")[1]
    assert gap.isspace()
    assert style.bgcolor is None


def test_every_state_has_a_sign_of_its_own() -> None:
    assert set(SIGNS) == set(RELEVANCE) == set(State)
    assert len({sign.glyph for sign in SIGNS.values()}) == len(State)
    assert len({sign.ascii for sign in SIGNS.values()}) == len(State)
    assert all(sign.ascii.isascii() for sign in SIGNS.values())


async def test_no_color_sends_no_colour_and_keeps_the_cursor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with terminal() as screen:
        await screen.press("home", "2", "left", "1")
        codes = {c for run in re.findall(r"\x1b\[([\d;]+)m", sent(screen)) for c in run.split(";")}
        assert not codes & {"38", "48", *map(str, range(30, 38)), *map(str, range(90, 98))}
        assert "7" in codes  # reverse: where the cursor is


def test_the_app_imports_nothing_heavy() -> None:
    code = "import sys, seedconv_tui.monitor.app; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in result.stdout.split()}
    assert "textual" in loaded
    assert not loaded & {"torch", "transformers", "spacy", "pydantic", "xarray", "zarr", "engine"}
