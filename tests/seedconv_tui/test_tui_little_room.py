"""Where there is too little room, one sees that something is missing, or why a chart is empty."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from store.schema import State
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


@pytest.mark.parametrize(("ascii_only", "more"), [(False, "…"), (True, "~")])
async def test_names_that_begin_alike_are_cut_so_that_they_differ(
    ascii_only: bool, more: str
) -> None:
    names = [f"a-family-of-models-that-is-large-{n:02}" for n in range(12)]
    models = [make_model(name) for name in names]
    async with terminal(make_study(*models), size=(60, 20), ascii_only=ascii_only) as screen:
        shown = [row.split()[0] for row in screen.text.splitlines() if " KL " in row]
        assert shown == [f"a-fam{more}rge-{n:02}" for n in range(3)]
        shown = [row.split()[0] for row in screen.text.splitlines() if "100%" in row]
        assert len(set(shown)) == len(shown) > 1
        await screen.press("2")
        assert f"{more}s-large-00" in screen.row("1.2000")
        await screen.resize(160, 40)
        assert f"a-family{more}-large-11" in screen.text


async def test_a_checkpoint_that_is_not_planned_has_no_sign() -> None:
    model = make_model(n_done=3)
    model.state[5, 1] = State.ABSENT
    async with terminal(make_study(model, engine=None)) as screen:
        await screen.press("home", "j", *["right"] * 5)
        assert "step 16 · absent" in screen.text
