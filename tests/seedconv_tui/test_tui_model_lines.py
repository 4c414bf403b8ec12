"""The rows of Runs that say at a glance how each model's seeds stand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from store.schema import JournalEntry
from tests.support.terminal import START, STEPS, make_model, make_study, terminal


def line_of(text: str, name: str) -> str:
    """The first row that begins with a model's name: its own."""
    return next(row for row in text.splitlines() if row.startswith(f" {name} "))


def reduced(model: str, step: int, ago: float, word: str = "compared") -> JournalEntry:
    return JournalEntry(START - ago, "info", "reduced", f"{word} {model}, step {step:,}: ...")


@pytest.mark.parametrize(("size", "ascii_only"), [((80, 24), False), ((200, 50), True)])
async def test_a_line_says_how_a_model_stands(size: tuple[int, int], ascii_only: bool) -> None:
    early = make_model("early", n_done=5)
    study = make_study(make_model("late"), early, make_model("none", n_done=0))
    async with terminal(study, size=size, ascii_only=ascii_only) as screen:
        late = line_of(screen.text, "late")
        assert ("█" in late and "▁" in late) or ascii_only
        assert "KL 1.2000" in late
        assert "1.1500-1.2500" in late
        assert "sharp divergence" in late
        assert "KL 0.5000" in line_of(screen.text, "early")
        assert "uniform" in line_of(screen.text, "early")
        assert "no step compared yet" in line_of(screen.text, "none")
        assert screen.text.isascii() or not ascii_only


async def test_the_change_is_since_an_hour_ago_as_the_session_saw_it() -> None:
    def at(n_done: int) -> object:
        return make_study(make_model("m", n_done=n_done), generation=n_done, journal=())

    async with terminal(at(3), size=(100, 24)) as screen:  # type: ignore[arg-type]
        assert " in " not in line_of(screen.text, "m")
        screen.clock.now += 1200
        await screen.poll(at(4))  # type: ignore[arg-type]
        assert "+0.1000 in 20 min" in line_of(screen.text, "m")
        screen.clock.now += 2400
        await screen.poll(at(6))  # type: ignore[arg-type]
        assert "+0.3000 in 1 h" in line_of(screen.text, "m")
        screen.clock.now += 1200
        await screen.poll(at(6))  # type: ignore[arg-type]
        assert "+0.2000 in 1 h" in line_of(screen.text, "m")
        screen.clock.now += 7200
        await screen.poll(at(6))  # type: ignore[arg-type]
        assert "same for 2 h" in line_of(screen.text, "m")


async def test_what_was_before_the_session_is_in_the_journal() -> None:
    journal = (
        reduced("m", STEPS[3], 5000),
        reduced("m", STEPS[4], 4000, word="reduced"),  # as version 0.1 wrote it
        reduced("m", STEPS[2], 3900),  # late: it was not the newest
        replace(reduced("m", 0, 3800), text="compared m, step 10^99: ..."),
        reduced("m", 1000, 60),
    )
    study = make_study(make_model("m"), journal=journal)
    async with terminal(study, size=(100, 24)) as screen:
        assert "+0.7000 in 1 h" in line_of(screen.text, "m")


async def test_a_seed_that_is_far_from_the_others_is_named() -> None:
    model = make_model("m", n_seeds=6)
    kl = model.kl.copy()
    kl[:, 3, :] += 5
    kl[:, :, 3] += 5
    async with terminal(make_study(replace(model, kl=kl))) as screen:
        assert "odd: 4" in line_of(screen.text, "m")
        await screen.poll(make_study(replace(model, kl=np.where(kl > 4, np.nan, kl)), generation=2))
        assert "odd" not in line_of(screen.text, "m")


async def test_of_many_models_those_about_the_cursor_have_a_line() -> None:
    models = [make_model(f"model-{number:02}") for number in range(40)]
    async with terminal(make_study(*models, engine=None)) as screen:
        lines = [row for row in screen.text.splitlines() if "KL 1.2000" in row]
        assert len(lines) == 4
        assert "1-4/40" in lines[-1]
        await screen.press(*["down"] * 18)  # six models of three seeds
        lines = [row for row in screen.text.splitlines() if "KL 1.2000" in row]
        assert lines[-1].startswith(" model-06")
        assert "4-7/40" in lines[-1]
        await screen.resize(60, 16)
        assert sum("KL 1.2000" in row for row in screen.text.splitlines()) == 1
