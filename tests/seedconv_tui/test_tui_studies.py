"""Several studies at once: Curves compares them, the other screens show one after the other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from seedconv_tui.cli.main import run
from seedconv_tui.monitor.common.chart_widget import ChartView
from store import StoreError, Study
from tests.support.made_store import fill, open_writer
from tests.support.terminal import Terminal, make_engine, make_model, make_study, terminal

FIRST = make_study(make_model("pythia-14m"), make_model("pythia-31m"))
OTHER = make_study(
    replace(make_model("pythia-14m"), kl=make_model().kl + 0.25),
    make_model("late", n_done=4),
    name="rerun",
    path=Path("b/rerun.zarr"),
    engine=make_engine(state="finished"),
)


def panes(screen: Terminal) -> list[ChartView]:
    return [pane for pane in screen.app.screen.query(ChartView) if pane.display]


def in_pane(screen: Terminal, number: int) -> str:
    """What one of the charts shows."""
    region = panes(screen)[number].region
    rows = screen.text.splitlines()[region.y : region.bottom]
    return "\n".join(row[region.x : region.right] for row in rows)


async def test_the_models_of_all_studies_are_in_one_chart_and_legend() -> None:
    async with terminal(FIRST, OTHER) as screen:
        await screen.press("2")
        assert len(panes(screen)) == 1
        for name in ("pythia-14m @ demo", "pythia-31m @ demo", "pythia-14m @ rerun"):
            assert f"━━ {name}" in screen.text
        await screen.press("c")
        assert "+0.2500" in screen.row("━━ pythia-14m @ rerun")
        await screen.press("left", "down", "space")
        assert "hidden" in screen.row("pythia-31m @ demo")
        assert "1.1000" in screen.row("━━ pythia-14m @ demo")
        assert "1.3500   +0.2500" in screen.row("━━ pythia-14m @ rerun")
        await screen.press("down", "down")
        assert "nothing at this step" in screen.row("━━ late @ rerun")


async def test_v_puts_studies_side_by_side_on_the_same_axes() -> None:
    async with terminal(FIRST, OTHER, size=(160, 40)) as screen:
        await screen.press("2")
        first, other = in_pane(screen, 0), in_pane(screen, 1)
        assert "demo" in first
        assert "rerun" in other
        assert "pythia-31m" in first
        assert "pythia-31m" not in other
        assert "late" in other
        axes = [picture.splitlines()[-1].split() for picture in (first, other)]
        assert axes[0] == axes[1]
        values = [[row[:4].strip() for row in of.splitlines()[1:]] for of in (first, other)]
        assert values[0] == values[1]
        await screen.press("left", "plus")
        assert "▲" in in_pane(screen, 0)
        assert "▲" in in_pane(screen, 1)
        await screen.press("v")
        assert len(panes(screen)) == 1
        assert "▲" in in_pane(screen, 0)
        await screen.press("v")
        await screen.resize(100, 40)
        assert len(panes(screen)) == 1
        await screen.resize(160, 40)
        assert len(panes(screen)) == 2


async def test_a_shows_another_study_on_the_same_screen() -> None:
    async with terminal(FIRST, OTHER) as screen:
        assert "demo > Runs" in screen.text
        assert "a Study" in screen.text
        await screen.press("a")
        assert "rerun > Runs" in screen.text
        assert "late" in screen.text
        assert "finished" in screen.row("rerun > Runs")
        await screen.press("2")
        assert "rerun > Curves" in screen.text
        assert "▸ ━━ pythia-14m @ rerun" in screen.text
        await screen.press("a")
        assert "▸ ━━ pythia-14m @ demo" in screen.text
        await screen.press("down", "down", "down", "1")
        assert "rerun > Runs" in screen.text  # the study of the chosen model
        await screen.press("a")
        assert "demo > Runs" in screen.text


async def test_one_study_has_no_key_for_another() -> None:
    async with terminal(FIRST, size=(160, 40)) as screen:
        assert "Study" not in screen.row("q Quit")
        await screen.press("a", "2", "v")
        assert "demo > Curves" in screen.text
        assert "@" not in screen.text
        assert len(panes(screen)) == 1


async def test_each_study_is_live_and_one_that_fails_leaves_the_others_alone() -> None:
    async with terminal(FIRST, StoreError("b/rerun.zarr: not a store yet")) as screen:
        await screen.press("2")
        assert "pythia-31m" in screen.text
        assert "b/rerun.zarr: not a store yet" in screen.text
        screen.others[0].answer = OTHER
        await screen.poll()
        assert "not a store yet" not in screen.text
        assert "━━ pythia-14m @ rerun" in screen.text
        screen.others[0].answer = StoreError("b/rerun.zarr: gone")
        await screen.poll(make_study(make_model("pythia-14m"), make_model("new"), generation=2))
        assert "━━ new @ demo" in screen.text
        assert "b/rerun.zarr: gone" in screen.text
        assert "━━ pythia-14m @ rerun" in screen.text
        await screen.press("P")
        assert "paused" in screen.text


async def test_studies_of_the_same_name_are_told_apart() -> None:
    alike = replace(FIRST, path=Path("a/study.zarr"))
    for path, label, other in (
        ("b/rerun.zarr", "study.zarr", "rerun.zarr"),
        ("b/study.zarr", "a/study.zarr", "b/study.zarr"),
        ("a/study.zarr", "demo 1", "demo 2"),
    ):
        twin = replace(FIRST, path=Path(path))
        async with terminal(alike, twin, size=(130, 30)) as screen:
            await screen.press("2")
            assert f"━━ pythia-14m @ {label} " in screen.text
            assert f"━━ pythia-14m @ {other} " in screen.text
            assert label in in_pane(screen, 0).splitlines()[0]
            assert other in in_pane(screen, 1).splitlines()[0]


async def test_studies_of_other_texts_are_said_to_be_so() -> None:
    other = replace(OTHER, n_tokens=999, vocab_size=100)
    async with terminal(FIRST, other, size=(160, 40)) as screen:
        await screen.press("2")
        assert "the vocabularies differ · the texts differ" in screen.text
        assert "4,096 tokens" in screen.row("━━ pythia-14m @ demo")
        assert "999 tokens" in screen.row("━━ pythia-14m @ rerun")


async def test_details_come_from_each_model_s_own_store(tmp_path: Path) -> None:
    for name in ("one", "two"):
        fill(open_writer(tmp_path / name), "m", ("a", "b", "c"), (0, 8))
    async with terminal(store=tmp_path / "one") as screen:
        await screen.press("2", "m", "m", "m", "m")
        await screen.settle()
        alone = screen.row("━━ m").split()[2]
    first, other = (make_study(make_model("m"), path=tmp_path / n) for n in ("one", "two"))
    async with terminal(first, replace(other, name="two"), size=(100, 30)) as screen:
        screen.source.store = tmp_path / "nothing"
        screen.others[0].store = tmp_path / "two"
        await screen.press("2", "m", "m", "m", "m")
        await screen.settle()
        assert alone in screen.row("━━ m @ two")
        assert "nothing" in screen.row("━━ m @ demo")


def test_what_cannot_be_compared_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    open_writer(tmp_path / "one")
    one = str(tmp_path / "one")
    assert run(["tui", one, f"{one}/../one"]) == 2
    assert "named twice" in capsys.readouterr().err
    assert run(["tui", one, str(tmp_path / "two.zarr")]) == 2
    assert "two.zarr" in capsys.readouterr().err


async def test_another_study_in_its_place_is_shown_from_the_start(tmp_path: Path) -> None:
    """On every screen, though it has fewer seeds and steps than what was chosen before."""
    store, other = tmp_path / "study.zarr", tmp_path / "other"
    for path, seeds, steps in ((store, ("1", "2", "3"), (0, 8, 16)), (other, ("a", "b"), (4,))):
        writer = open_writer(path)
        fill(writer, "m", seeds, steps)
        writer.close("finished")
    async with terminal(store=store, size=(100, 30)) as screen:
        for key in "12345":
            await screen.press(key, "end", "down", "right", "down")
            await screen.settle()
        store.rename(tmp_path / "first")
        other.rename(store)
        await screen.poll(replace(Study(store).snapshot(), replaced=1))
        assert "another study, or an older copy, is in its place now" in screen.text
        for key in "12345":
            await screen.press(key)
            await screen.settle()
            await screen.press("home", "down", "right", "end")
            await screen.settle()
            assert "step 16" not in screen.text
