"""Where there is too little room, one sees that something is missing, or why a chart is empty."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.support.terminal import make_model, make_study, terminal


@pytest.mark.parametrize(("ascii_only", "more"), [(False, "…"), (True, "~")])
async def test_a_row_that_is_cut_ends_in_a_sign(ascii_only: bool, more: str) -> None:
    study = make_study(make_model("a-model-with-a-name-that-is-long"))
    async with terminal(study, size=(60, 16), ascii_only=ascii_only) as screen:
        await screen.press("2", "home")  # the value there is below the rounding floor
        row = screen.row("0.1000")
        assert row.rstrip().endswith(f"rounding floo{more}")
        assert len(row) == 60
        await screen.resize(100, 24)
        assert "3/3 seeds, 6 pairs" in screen.row("0.1000")


async def test_only_blanks_are_cut_without_a_sign() -> None:
    async with terminal(size=(60, 16)) as screen:
        assert "…" not in screen.text
        await screen.press("2")
        assert screen.row("1.2000").rstrip().endswith("3/3 seeds")


async def test_a_step_on_the_axis_of_runs_is_whole_or_missing() -> None:
    steps = [*range(49), 1_234_567]
    async with terminal(make_study(make_model(steps=steps), engine=None), size=(60, 16)) as screen:
        await screen.press("G")
        axis = screen.row("step ")
        assert axis.rstrip().endswith(" 1234567")
        await screen.press("g")
        axis = screen.row("step ")
        assert set(axis.split()[1:]) <= set(map(str, steps))


async def test_a_log_axis_without_a_value_says_why_it_is_empty() -> None:
    model = make_model()
    zeros = replace(model, kl=np.where(np.isfinite(model.kl), 0.0, np.nan))
    async with terminal(make_study(zeros)) as screen:
        await screen.press("2")
        assert "is above 0" not in screen.text
        await screen.press("y")
        assert "no value is above 0: nothing on a logarithmic axis" in screen.text
        await screen.poll(make_study(zeros, make_model("other"), generation=2))
        assert "is above 0" not in screen.text
        await screen.press("down", "space")
        assert "no value is above 0" in screen.text
        await screen.resize(60, 16)
        assert "no value is above 0" in screen.text
