"""The tour: five keys that do what they always do, once, and never where that cannot be noted."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from seedconv_tui.monitor.common.tour import STEPS
from seedconv_tui.monitor.data.remembered import is_first_start
from tests.support.made_store import fill, open_writer
from tests.support.terminal import terminal
from tests.support.tmux import Tmux


@pytest.mark.parametrize(("size", "ascii_only"), [((80, 24), False), ((60, 16), True)])
async def test_five_keys_lead_through_the_screens(size: tuple[int, int], ascii_only: bool) -> None:
    async with terminal(size=size, ascii_only=ascii_only, tour=True) as screen:
        seen = ["> Runs", "> Curves", "> Curves", "> Tokens", "> Seeds"]
        for number, ((key, shown, _), place) in enumerate(zip(STEPS, seen, strict=True), start=1):
            assert f"tour, {number} of 5" in screen.text
            window = [row for row in screen.text.splitlines() if re.search(r"[│|].*[│|]", row)]
            assert shown in " ".join(window)
            assert place in screen.text
            await screen.press("x")  # any other key does nothing
            assert f"tour, {number} of 5" in screen.text
            await screen.press(key)
            await screen.settle()
        assert "tour, " not in screen.text
        assert "keys" in screen.text  # the last key's own window
        await screen.press("escape", "2")
        assert "> Curves" in screen.text
        assert "tour, " not in screen.text
        assert screen.text.isascii() or not ascii_only


async def test_escape_ends_the_tour() -> None:
    async with terminal(tour=True) as screen:
        await screen.press("2", "escape")
        assert "tour, " not in screen.text
        await screen.press("left")
        assert "tour, " not in screen.text
        assert "step 512" in screen.text


def test_the_first_start_is_the_first_once(tmp_path: Path) -> None:
    environment = {"XDG_STATE_HOME": str(tmp_path / "state")}
    assert is_first_start(environment)
    assert not is_first_start(environment)
    assert not is_first_start({"XDG_STATE_HOME": "/dev/null"})
    kept = tmp_path / "other" / "seedconv" / "0123.json"  # of a session before there was a tour
    kept.parent.mkdir(parents=True)
    kept.touch()
    assert not is_first_start({"XDG_STATE_HOME": str(tmp_path / "other")})


def test_a_first_start_in_a_terminal_begins_with_it(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "s.zarr")
    fill(writer, "m", ("1", "2"), (0, 8))
    writer.close("finished")
    state = {"XDG_STATE_HOME": str(tmp_path / "state")}
    for number, (options, toured) in enumerate((((), True), ((), False), (("--tour",), True))):
        folder = tmp_path / str(number)
        folder.mkdir()
        tmux = Tmux(Path(os.path.relpath(folder)), "screen")
        try:
            tmux.start("tui", str(tmp_path / "s.zarr"), *options, **state)
            pane = tmux.until("4/4 done")
            assert ("tour, 1 of 5" in pane) == toured
            if toured:
                tmux.keys("Escape")
                tmux.until(lambda pane: "tour, " not in pane)
            tmux.keys("q")
            assert tmux.exit_status() == 0
        finally:
            tmux.close()
