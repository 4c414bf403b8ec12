"""Leaner output looks the same: checked with Rich's reading of both."""

from __future__ import annotations

import random
import re
from queue import Queue

import pytest
from rich.color import Color
from rich.text import Text
from textual.drivers.headless_driver import HeadlessDriver

from seedconv_tui.monitor.app import SeedconvApp
from seedconv_tui.monitor.lean_output import lean, lean_driver
from tests.support.terminal import FakeSource, make_model, make_study, terminal

COLORS = ["31", "97", "38;5;81", "38;2;1;2;3", "38;2;9;2;3"]
GROUNDS = ["40", "107", "48;5;233", "48;2;1;2;3"]


def cells(data: str) -> list[tuple[str, tuple[object, ...]]]:
    """Every character with its style, as Rich understands the sequences."""
    text = Text.from_ansi(re.sub(r"\x1b\[[\d;]*[^\d;m]", "", data))
    console = SeedconvApp(FakeSource(make_study())).console
    styles = (text.get_style_at_offset(console, n) for n in range(len(text)))
    return [
        (
            char,
            (
                *map(bool, (style.bold, style.dim, style.italic, style.reverse)),
                *map(_color, colors),
            ),
        )
        for char, style in zip(text.plain, styles, strict=True)
        for colors in [(style.color, style.bgcolor)]
    ]


def _color(color: Color | None) -> str:
    return "" if color is None or color.is_default else color.name


def test_random_runs_look_the_same() -> None:
    chance = random.Random(0)
    for _ in range(200):
        data = ""
        for _ in range(chance.randrange(1, 12)):
            codes = chance.sample(["1", "2", "3", "7"], chance.randrange(3))
            codes += chance.choices(COLORS, k=chance.randrange(2))
            codes += chance.choices(GROUNDS, k=chance.randrange(2))
            text = chance.choice(["a", "bc ", "⠡┊"])
            data += f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if codes else text
        assert cells(lean(data)) == cells(data)
        assert len(lean(data)) <= len(data)


def test_a_style_that_goes_on_is_not_said_again() -> None:
    run = "\x1b[1;38;2;1;2;3;48;2;4;5;6m{}\x1b[0m"
    other = "\x1b[1;38;2;9;9;9;48;2;4;5;6m{}\x1b[0m"
    data = run.format("a") + run.format("b") + "\x1b[3;4H" + other.format("c") + "d"
    assert lean(data) == (
        "\x1b[1;38;2;1;2;3;48;2;4;5;6mab\x1b[0m\x1b[3;4H\x1b[1;38;2;9;9;9;48;2;4;5;6mc\x1b[0md"
    )
    adjacent = run.format("a") + other.format("c")
    assert lean(adjacent) == "\x1b[1;38;2;1;2;3;48;2;4;5;6ma\x1b[38;2;9;9;9mc\x1b[0m"


def test_what_is_not_style_is_left_alone() -> None:
    data = "\x1b[?2026h\x1b[2;3Hplain\nlines\x1b[6n\x1b]0;title\x07"
    assert lean(data) == data


async def test_every_frame_of_the_app_looks_the_same_and_takes_far_less(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLORTERM", "truecolor")
    frames: list[str] = []

    class Keeper(HeadlessDriver):
        is_headless = False  # type: ignore[assignment]

        def write(self, data: str) -> None:
            frames.append(data)

    app = SeedconvApp(FakeSource(make_study(make_model(), make_model("b"))), poll_seconds=86_400)
    assert app.driver_class.__name__ == lean_driver(Keeper).__name__
    app.driver_class = Keeper
    async with app.run_test(size=(100, 30), headless=False) as pilot:
        for key in ("right", "2", "left", "plus", "y", "question_mark", "escape", "t"):
            await pilot.press(key)
            await pilot.pause()
    assert len(frames) > 8
    for frame in frames:
        assert cells(lean(frame)) == cells(frame)
    assert len(lean("".join(frames))) < 0.8 * len("".join(frames))


async def test_while_the_line_is_behind_nothing_more_is_painted_and_then_the_newest() -> None:
    class Writer:
        """What the driver hands its output to; it has yet to write some of it."""

        def __init__(self) -> None:
            self._queue = Queue[str]()

    async with terminal(size=(100, 30)) as screen:
        await screen.press("2", "left")
        before, writer = screen.text, Writer()
        assert screen.app._driver is not None
        writer._queue.put("a frame")
        screen.app._driver._writer_thread = writer  # type: ignore[attr-defined]
        await screen.pilot.press("left", "left", "left")
        assert screen.app.behind
        assert screen.text == before
        writer._queue.get()
        while screen.text == before:
            await screen.pilot.pause()
        await screen.settle()
        now = screen.text
        await screen.press("right", "right", "right")
        assert screen.text == before
        await screen.press("left", "left", "left")
        assert screen.text == now
