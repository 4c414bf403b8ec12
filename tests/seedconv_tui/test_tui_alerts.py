"""Alerts: what should not be missed is a row until it was seen, and rings if that is asked for."""

from __future__ import annotations

import pytest

from store import STALE_SECONDS
from store.schema import JournalEntry, StudySnapshot
from tests.support.terminal import START, Terminal, make_engine, make_study, terminal

OLD = JournalEntry(START, "warning", "outlier", "m, seed 1 is an outlier, long known")
PHASE = JournalEntry(START + 1, "info", "phase", "m is in the phase \x1b[2Jsharp divergence")
SCORED = JournalEntry(START + 2, "info", "scored", "scored m, seed 1, step 4 in 1.0 s")
FAILED = JournalEntry(START + 3, "error", "failed", "m, seed 2, step 8: cut off; parked")


def with_journal(*entries: JournalEntry) -> StudySnapshot:
    engine = make_engine(heartbeat=START + len(entries))
    return make_study(journal=entries, engine=engine)


def alert(screen: Terminal) -> str:
    """The row of alerts; empty: there is none."""
    row = screen.text.splitlines()[-1]
    return row if row.startswith(" ! ") else ""


@pytest.mark.parametrize("ascii_only", [False, True])
async def test_an_alert_stays_on_every_screen_until_it_was_seen(ascii_only: bool) -> None:
    async with terminal(with_journal(OLD), ascii_only=ascii_only) as screen:
        assert not alert(screen)
        await screen.press("A")
        await screen.poll(with_journal(OLD, PHASE, SCORED))
        assert "sharp divergence" in alert(screen)
        assert alert(screen).endswith(" A Seen ")
        await screen.press("2")
        assert "sharp divergence" in alert(screen)
        await screen.poll(with_journal(OLD, PHASE, SCORED, FAILED))
        assert "seed 2, step 8: cut off; parked (and 1 more)" in alert(screen)
        await screen.press("5", "A")
        assert not alert(screen)
        await screen.press("1")
        await screen.poll(with_journal(OLD, PHASE, SCORED, FAILED))
        assert not alert(screen)
        assert screen.text.isascii() or not ascii_only


async def test_a_silent_engine_is_an_alert_until_it_is_back() -> None:
    study = with_journal()
    async with terminal(study) as screen:
        screen.clock.now += STALE_SECONDS + 1
        await screen.poll(study)
        assert "the engine is silent: gpu-07 pid 4242" in alert(screen)
        await screen.press("A")
        screen.clock.now += 60
        await screen.poll(study)
        assert not alert(screen)
        back = make_study(engine=make_engine(heartbeat=START + 90), journal=())
        await screen.poll(back)
        screen.clock.now += STALE_SECONDS + 1
        await screen.poll(back)
        assert "the engine is silent" in alert(screen)
        await screen.poll(make_study(engine=make_engine(heartbeat=START + 200), journal=()))
        assert not alert(screen)


@pytest.mark.parametrize("bell", [False, True])
async def test_it_rings_once_an_arrival_if_that_is_asked_for(bell: bool) -> None:
    async with terminal(with_journal(OLD), bell=bell) as screen:

        def rung() -> int:
            sent: str = screen.app._driver.sent  # type: ignore[union-attr]
            return sent.count("\a")

        before = rung()
        await screen.poll(with_journal(OLD, SCORED))
        assert rung() == before
        await screen.poll(with_journal(OLD, SCORED, PHASE, FAILED))
        assert rung() == before + bell
        await screen.poll(with_journal(OLD, SCORED, PHASE, FAILED))
        assert rung() == before + bell


async def test_the_journal_is_filtered_to_alerts() -> None:
    async with terminal(with_journal(OLD, PHASE, SCORED, FAILED)) as screen:
        await screen.press("f", "f", "f")
        assert "journal: alerts" in screen.text
        assert "long known" in screen.text
        assert "cut off" in screen.text
        assert "scored m" not in screen.text
        await screen.press("f")
        assert "journal: all" in screen.text
        assert "scored m" in screen.text
