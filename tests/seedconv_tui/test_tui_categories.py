"""The Categories screen: its numbers, what its keys do, a level's tokens, what arrivals leave."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from seedconv_tui.monitor.categories.level_queries import (
    LevelSummary,
    LevelTokens,
    counterpart,
    neighbour,
)
from seedconv_tui.monitor.categories.level_table import LevelTable
from seedconv_tui.monitor.categories.levels_at_step import StepOfLevels, drawn
from seedconv_tui.monitor.categories.ranking import Ranking, in_context
from seedconv_tui.monitor.categories.screen import CategoriesScreen
from seedconv_tui.monitor.common.chart_widget import ChartView
from seedconv_tui.monitor.common.spark import spark, spark_column
from seedconv_tui.monitor.tokens.screen import TokensScreen
from store import Study
from store.schema import Category
from tests.support.made_store import (
    checkpoint,
    fill,
    kl,
    make_categories,
    make_corpus,
    open_writer,
    reduce,
    score,
)
from tests.support.terminal import Terminal, make_engine, terminal
from tests.support.token_store import HOSTILE, corpus_of

if TYPE_CHECKING:
    from pathlib import Path

SEEDS = ("a", "b", "c")
STEPS = (0, 8, 64)
HOSTILE_LABEL = "␛[2J"
LEVEL = make_categories()[1].level  # of `third`: -1 in none, 0 "a", 1 the hostile one
PAIRS = [(i, j) for i in SEEDS for j in SEEDS if i != j]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("categories") / "study"
    writer = open_writer(path)
    for model in ("m", "other"):
        fill(writer, model, SEEDS, STEPS)
    writer.close("finished")
    return path


def token_kl(step: int) -> np.ndarray:
    """KL at each token, mean over pairs."""
    values = [kl("m", i, j, step).astype(np.float64) for i, j in PAIRS]
    return np.asarray(np.mean(values, axis=0))


def surprisal() -> np.ndarray:
    """Surprisal at each token at the last step, mean over seeds."""
    values = [checkpoint("m", seed, 64)["surprisal"].astype(np.float64) for seed in SEEDS]
    return np.asarray(np.mean(values, axis=0))


def mean_kl(step: int, level: int) -> float:
    return float(token_kl(step)[level == LEVEL].mean())


def chosen(screen: Terminal) -> str:
    """The chosen row."""
    return screen.row(" ▸ ")


def rows(screen: Terminal, kind: type[LevelTable | Ranking] = LevelTable) -> list[str]:
    """The rows of the table that hold something, below its header."""
    region = screen.app.screen.query_one(kind).region
    seen = screen.text.splitlines()[region.y + 1 : region.bottom]
    cut = [row[region.x : region.right].rstrip() for row in seen]
    return [row for row in cut if row]


def ranks(screen: Terminal) -> list[int]:
    """The tokens in the ranking, told by their KL."""
    found = [float(row[10:].split()[0]) for row in rows(screen, Ranking)]
    values = np.round(token_kl(64), 4)
    return [int(np.abs(values - value).argmin()) for value in found]


@pytest.mark.parametrize("size", [(80, 24), (200, 50), (60, 16)])
async def test_shows_levels_with_their_numbers(store: Path, size: tuple[int, int]) -> None:
    async with terminal(store=store, size=size) as screen:
        await screen.go_to(CategoriesScreen)
        assert "attacked > Categories > third" in screen.text
        assert "step 64 (latest)" in screen.text
        first, second, empty = rows(screen)
        assert first.split()[:3] == ["▸", "━━", "a"]
        n = int((LEVEL == 0).sum())
        assert first.split()[3:5] == [str(n), f"{mean_kl(64, 0):.4f}"]
        assert HOSTILE_LABEL in second
        assert second.split()[3] == f"{mean_kl(64, 1):.4f}"
        assert empty.split() == ["empty", "0", *["-"] * (len(empty.split()) - 2)]
        summary = Study(store).summary("m", "third")
        interval = f"{summary.kl_low[2, 0]:.4f} to {summary.kl_high[2, 0]:.4f}"
        assert interval in first
        loss = surprisal()[LEVEL == 0].mean()
        change = mean_kl(64, 0) - mean_kl(8, 0)
        if size[0] > 60:
            assert f"{change:+.4f}" in first
            assert f"{loss:.4f}" in first
            assert re.search("[▁▂▃▄▅▆▇█]{8}", first)
        assert "made in the test" in screen.text
        assert any("⠁" <= char <= "⣿" for char in screen.text)
        assert "q Quit" in screen.text.splitlines()[-1]


async def test_the_chosen_level_is_told_in_full(store: Path) -> None:
    async with terminal(store=store, size=(200, 50)) as screen:
        await screen.go_to(CategoriesScreen)
        await screen.press("down")
        row = screen.row(f" {HOSTILE_LABEL} · ")
        assert "100 tokens (50.0%)" in row
        assert f"KL {mean_kl(64, 1):.4f}" in row
        assert f"{mean_kl(64, 1) - mean_kl(8, 1):+.4f} since the step before" in row
        assert f"cross-entropy {surprisal()[LEVEL == 1].mean():.4f}" in row
        await screen.press("G")
        assert "empty · 0 tokens" in screen.text


async def test_steps(store: Path) -> None:
    async with terminal(store=store) as screen:
        await screen.go_to(CategoriesScreen)
        for keys, step in (
            (["left"], 8),
            (["h"], 0),
            (["left"], 0),
            (["right"], 8),
            (["l"], 64),
            (["left_curly_bracket"], 0),
            (["right_square_bracket"], 8),
            (["left_square_bracket"], 0),
            (["right_curly_bracket"], 64),
        ):
            await screen.press(*keys)
            assert f" step {step} ·" in screen.text, keys
            assert f"{mean_kl(step, 0):.4f}" in chosen(screen)
        await screen.press("left_curly_bracket")
        assert "held, 2 later, 0 follows" in screen.text
        assert chosen(screen).split()[-3] == "-"  # no step before: no change
        await screen.press("0")
        assert "step 64 (latest)" in screen.text
        await screen.press("left", "escape")
        assert "step 64 (latest)" in screen.text
        region = screen.app.screen.query_one(ChartView).region
        await screen.pilot.click(offset=(region.x + 5, region.y + 3))
        await screen.pilot.pause()
        assert " step 0 ·" in screen.text


async def test_rows_are_chosen_sorted_and_filtered(store: Path) -> None:
    async with terminal(store=store) as screen:
        await screen.go_to(CategoriesScreen)
        labels = ["a", HOSTILE_LABEL, "empty"]
        for keys, expected in (
            (["down"], 1),
            (["j", "j", "j"], 2),
            (["k"], 1),
            (["up"], 0),
            (["end"], 2),
            (["home"], 0),
            (["G"], 2),
            (["g"], 0),
            (["pagedown"], 2),
            (["pageup"], 0),
        ):
            await screen.press(*keys)
            assert f"━━ {labels[expected]} " in chosen(screen) or expected == 2, keys
            assert labels[expected] in chosen(screen), keys
        by_value = sorted([0, 1], key=lambda level: -mean_kl(64, level))
        change = [mean_kl(64, level) - mean_kl(8, level) for level in (0, 1)]
        by_change = sorted([0, 1], key=lambda level: -change[level])
        loss = [float(surprisal()[level == LEVEL].mean()) for level in (0, 1)]
        by_loss = sorted([0, 1], key=lambda level: -loss[level])
        for header, order in (
            ("▾n", [0, 1]),
            ("▾KL", by_value),
            ("▾change", by_change),
            ("▾cross-en", by_loss),
            ("level▴", [0, 1]),
        ):
            await screen.press("s")
            assert header in screen.text
            assert [labels[n] in row for n, row in zip(order, rows(screen), strict=False)] == [
                True
            ] * 2
            assert "empty" in rows(screen)[2]
            assert " a " in chosen(screen)
        await screen.press("S")
        assert "level▾" in screen.text
        assert HOSTILE_LABEL in rows(screen)[0]
        assert "empty" in rows(screen)[2]
        await screen.press("slash", *"EMP", "enter")
        assert len(rows(screen)) == 1
        assert "with 'EMP'" in screen.text
        await screen.press("slash", *"zz", "enter")
        assert "no level has 'zz' in it" in screen.text
        await screen.press("down", "enter", "space")
        assert "no level has 'zz' in it" in screen.text
        await screen.press("escape")
        assert len(rows(screen)) == 3
        region = screen.app.screen.query_one(LevelTable).region
        await screen.pilot.click(offset=(region.x + 10, region.y + 1))
        await screen.pilot.pause()
        assert HOSTILE_LABEL in chosen(screen)


async def test_levels_are_compared_in_colours_of_their_own(store: Path) -> None:
    async with terminal(store=store) as screen:
        await screen.go_to(CategoriesScreen)
        series = screen.app.screen.query_one(ChartView)._series
        assert [(s.name, s.color) for s in series] == [("\x1b[2J", -6), ("a", 0)]
        assert series[1].low is not None
        await screen.press("space", "down")
        series = screen.app.screen.query_one(ChartView)._series
        assert [(s.name, s.color) for s in series] == [("a", 1), ("\x1b[2J", 0)]
        await screen.press("up", "space", "down")
        series = screen.app.screen.query_one(ChartView)._series
        assert [(s.name, s.color) for s in series] == [("a", -6), ("\x1b[2J", 0)]


async def test_metrics_band_and_log(store: Path) -> None:
    async with terminal(store=store, size=(120, 40)) as screen:
        await screen.go_to(CategoriesScreen)
        summary = Study(store).summary("m", "third")
        for name, values in (
            ("expected KL", summary.expected_kl),
            ("cross-entropy", summary.cross_entropy.mean(axis=1)),
            ("KL to unigram", summary.kl_unigram.mean(axis=1)),
            ("KL to uniform", (np.log(64) - summary.entropy).mean(axis=1)),
        ):
            assert f"{name}, nats" in screen.text
            series = screen.app.screen.query_one(ChartView)._series[-1]
            assert series.x.tolist() == list(STEPS)
            assert series.y == pytest.approx(values[:, 0])
            await screen.press("m")
        assert "band: 95 % interval" in screen.text
        await screen.press("b", "y")
        assert "band" not in screen.text
        assert "expected KL, nats, log" in screen.text
        assert screen.app.screen.query_one(ChartView)._series[-1].low is None


async def test_categories_contexts_and_models(tmp_path: Path) -> None:
    path = tmp_path / "study"
    writer = open_writer(path)
    n = writer.n_tokens
    for name in ("pos", "pos_context"):
        level = (np.arange(n) // (1 + len(name)) % 2).astype(np.int32)
        writer.summaries.set_category(Category(name, ("NOUN", "VERB"), level, f"tags for {name}"))
    fill(writer, "m", SEEDS, STEPS)
    fill(writer, "two", ("a", "b"), (0,))
    async with terminal(store=path) as screen:
        await screen.go_to(CategoriesScreen)
        assert "> pos" in screen.text
        assert "pos of the target" in screen.text
        assert "tags for pos" in screen.text
        await screen.press("x")
        await screen.settle()
        assert "> pos_context" in screen.text
        assert "pos of the token before" in screen.text
        assert "tags for pos_context" in screen.text
        await screen.press("x", "c")
        await screen.settle()
        assert "> all " in screen.text
        assert "x Context" not in screen.text
        await screen.press("c")
        await screen.settle()
        assert "> third " in screen.text
        await screen.press("M")
        await screen.settle()
        assert "two" in screen.row("step 0 (latest)")
        assert "2 seeds; an interval needs 3" in screen.text
        assert chosen(screen).split()[5] == "-"
        await screen.press("M")
        await screen.settle()
        assert "step 64 (latest)" in screen.text
        await screen.press("C", "C")
        await screen.settle()
        assert "> pos " in screen.text
        assert "nothing is summarised yet" in screen.text
        assert chosen(screen).split()[2:5] == ["NOUN", "152", "-"]


async def test_a_level_is_entered_its_tokens_ranked_and_left(store: Path) -> None:
    async with terminal(store=store) as screen:
        await screen.go_to(CategoriesScreen)
        await screen.press("down", "enter")
        await screen.settle()
        assert f"Categories > third > {HOSTILE_LABEL}" in screen.text
        inside = np.flatnonzero(LEVEL == 1)
        by_kl = inside[np.argsort(-token_kl(64)[inside], kind="stable")]
        assert ranks(screen) == by_kl[: len(ranks(screen))].tolist()
        best = int(by_kl[0])
        first = rows(screen, Ranking)[0].split()
        assert first[:4] == [
            "▸",
            "1",
            f"{token_kl(64)[best]:.4f}",
            f"{surprisal()[best]:.4f}",
        ]
        corpus = make_corpus()
        assert f"token {best + 1} of 300" in screen.text
        assert corpus.document_name[corpus.document[best]] in screen.row(f"token {best + 1} of")
        await screen.press("down", "down")
        assert f"token {by_kl[2] + 1} of 300" in screen.text
        await screen.press("end")
        assert f"token {by_kl[-1] + 1} of 300" in screen.text
        await screen.press("home", "pagedown", "pageup")
        assert f"token {best + 1} of 300" in screen.text
        await screen.press("s")
        await screen.settle()
        assert "highest surprisal first" in screen.text
        by_surprisal = inside[np.argsort(-surprisal()[inside], kind="stable")]
        assert ranks(screen)[0] == by_surprisal[0] or f"token {best + 1} of" in screen.text
        assert f"token {best + 1} of 300" in screen.text
        await screen.press("home", "s")
        await screen.settle()
        assert "as in the text" in screen.text
        assert ranks(screen)[-1] > ranks(screen)[0]
        await screen.press("S")
        await screen.settle()
        assert "from the last in the text" in screen.text
        await screen.press("g")
        assert f"token {inside[-1] + 1} of 300" in screen.text
        region = screen.app.screen.query_one(Ranking).region
        await screen.pilot.click(offset=(region.x + 10, region.y + 2))
        await screen.pilot.pause()
        assert f"token {inside[-2] + 1} of 300" in screen.text
        await screen.press("escape")
        assert "Categories > third " in screen.text
        assert HOSTILE_LABEL in chosen(screen)


async def test_tokens_of_a_level_are_filtered_by_their_text(store: Path) -> None:
    corpus = make_corpus()
    async with terminal(store=store) as screen:
        await screen.go_to(CategoriesScreen)
        await screen.press("enter", "slash", "Z", "enter")
        await screen.settle()
        found = [t for t in np.flatnonzero(LEVEL == 0) if corpus.token_text(int(t)) == "z"]
        assert f"of {len(found)} in a" in screen.text
        assert set(ranks(screen)) <= set(found)
        await screen.press("slash", "q", "enter")
        await screen.settle()
        assert "no token of it has 'q' in its text" in screen.text
        await screen.press("enter", "down")
        assert "> third > a" in screen.text
        await screen.press("escape")
        await screen.settle()
        assert "of 100 in a" in screen.text
        await screen.press("escape", "end", "enter")
        await screen.settle()
        assert "this level has no tokens" in screen.text


async def test_a_token_is_opened_on_its_own_screen(store: Path) -> None:
    async with terminal(store=store) as screen:
        await screen.go_to(CategoriesScreen)
        await screen.press("M")
        await screen.settle()
        await screen.press("left", "enter")
        await screen.settle()
        await screen.press("down")
        found = re.search(r"token (\d+) of 300 · KL (\S+)", screen.text)
        assert found
        await screen.press("enter")
        await screen.settle()
        assert isinstance(screen.app.screen, TokensScreen)
        assert " step 8 " in screen.text
        assert "other" in screen.row(" step 8 ")
        assert f"token {found[1]} of 300" in screen.text
        assert f"KL {found[2]}" in screen.text
        await screen.go_to(CategoriesScreen)
        assert f"token {found[1]} of 300" in screen.text
        await screen.press("0", "home", "enter")
        await screen.settle()
        assert "step 64 (latest)" in screen.text


async def test_arrivals_and_sizes_leave_the_selection_alone(tmp_path: Path) -> None:
    path = tmp_path / "study"
    writer = open_writer(path)
    writer.plan("m", [(seed, 0) for seed in SEEDS], {})
    async with terminal(store=path) as screen:
        await screen.go_to(CategoriesScreen)
        assert "no categories yet" in screen.text
        assert "seedconv run STUDY.toml" in screen.text
        fill(writer, "m", SEEDS, (0,))
        await screen.poll(Study(path).snapshot())
        assert "step 0 (latest)" in screen.text
        await screen.press("down", "s", "s")
        fill(writer, "m", SEEDS, (8,))
        await screen.poll(Study(path).snapshot())
        assert "step 8 (latest)" in screen.text
        assert HOSTILE_LABEL in chosen(screen)
        assert f"{mean_kl(8, 1):.4f}" in chosen(screen)
        await screen.press("left", "enter")
        await screen.settle()
        await screen.press("down")
        token = screen.row(" token ")
        for seed in SEEDS:  # a step that is reduced and not summarised is no step yet
            writer.plan("m", [(seed, 64)], {})
            score(writer, "m", seed, 64)
        reduce(writer, "m", 64, SEEDS)
        await screen.poll(Study(path).snapshot())
        assert "held, 1 later" in screen.text
        fill(writer, "m", SEEDS, (128,))
        await screen.poll(Study(path).snapshot())
        assert "held, 2 later" in screen.text
        assert screen.row(" token ") == token
        for size in ((200, 50), (60, 16), (40, 10), (80, 24)):
            await screen.resize(*size)
            if size[0] == 40:
                assert "too small" in screen.text
            else:
                assert screen.row(" token ")[:40] == token[:40]
        await screen.press("escape", "0")
        assert "step 128 (latest)" in screen.text
        assert HOSTILE_LABEL in chosen(screen)


async def test_trouble_is_told_and_goes_away(store: Path) -> None:
    async with terminal(store=store) as screen:
        screen.source.store = None
        await screen.go_to(CategoriesScreen)
        assert "the categories cannot be read" in screen.text
        assert "there is no store behind this study" in screen.text
        await screen.press("down", "enter", "c", "x", "s", "S", "space", "m", "left", "escape")
        assert "the categories cannot be read" in screen.text
        screen.source.store = store
        await screen.poll()
        assert "> third" in screen.text
        screen.source.store = None
        study = replace(Study(store).snapshot(), generation=10**6, engine=make_engine())
        await screen.poll(study)
        assert "there is no store behind" in screen.text
        assert f"{mean_kl(64, 0):.4f}" in screen.text


@pytest.mark.parametrize("size", [(80, 24), (200, 50), (60, 16)])
async def test_ascii_only(store: Path, size: tuple[int, int]) -> None:
    async with terminal(store=store, size=size, ascii_only=True) as screen:
        await screen.go_to(CategoriesScreen)
        for keys in (["down"], ["space", "up", "s"], ["left"], ["enter"], ["down"], ["slash", "q"]):
            await screen.press(*keys)
            await screen.settle()
            assert screen.text.isascii()
        await screen.press("enter")
        await screen.settle()
        assert screen.text.isascii()
        assert "no token" in screen.text


async def test_without_colours_and_in_light(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with terminal(store=store) as screen:
        await screen.go_to(CategoriesScreen)
        dark = screen.text
        await screen.press("t")
        assert screen.text == dark
    monkeypatch.setenv("NO_COLOR", "1")
    async with terminal(store=store) as screen:
        await screen.go_to(CategoriesScreen)
        assert screen.text == dark
        driver = screen.app._driver
        assert driver is not None
        assert not re.search(r"\x1b\[[\d;]*[34]8;", driver.sent)  # type: ignore[attr-defined]
        await screen.press("enter")
        await screen.settle()
        assert "[" in rows(screen, Ranking)[0]


async def test_hostile_labels_are_not_obeyed(store: Path) -> None:
    async with terminal(store=store, size=(200, 50)) as screen:
        await screen.go_to(CategoriesScreen)
        await screen.press("down", "space", "enter")
        await screen.settle()
        driver = screen.app._driver
        assert driver is not None
        assert "\x1b[2J" not in driver.sent  # type: ignore[attr-defined]


# -- the pure parts ------------------------------------------------------------------------------


def test_what_is_not_known_comes_last_in_every_order() -> None:
    nan = np.nan
    levels = StepOfLevels(
        ("a", "b", "none", "new", "c"),
        np.array([5, 9, 0, 3, 7]),
        *(np.array([0.1, 0.3, nan, nan, 0.2]),) * 5,
    )
    assert levels.order(0) == [0, 1, 3, 4, 2]
    assert levels.order(0, backwards=True) == [4, 3, 1, 0, 2]
    assert levels.order(1) == [1, 4, 0, 3, 2]
    assert levels.order(2) == [1, 4, 0, 3, 2]
    assert levels.order(2, backwards=True) == [0, 4, 1, 3, 2]
    assert levels.order(2, pattern="N") == [3, 2]


def test_a_spark_goes_from_lowest_to_highest_over_log_steps() -> None:
    steps = np.array([0, 1, 3, 7, 15])
    assert spark(steps, np.array([0.0, 1, 2, 3, 4]), 5, False) == "▁▃▅▇█"
    assert spark(steps, np.array([0.0, 1, 2, 3, 4]), 5, True) == "_-+%#"
    assert spark(steps, np.array([np.nan, 1, np.nan, 3, np.nan]), 5, False) == " ▁▅█ "
    assert spark(steps, np.full(5, 2.0), 5, False) == "▅▅▅▅▅"
    assert spark(steps, np.full(5, np.nan), 3, False) == "   "
    assert spark(steps[:1], np.array([1.0]), 3, False) == "▅  "
    assert spark(steps, np.arange(5.0), 0, False) == ""
    assert [spark_column(steps, int(step), 9) for step in steps] == [0, 2, 4, 6, 8]


def test_categories_are_gone_through_in_pairs_of_target_and_context() -> None:
    names = ("all", "pos", "pos_context", "document", "odd_context")
    assert [neighbour(name, names, 1) for name in ("all", "pos", "document", "odd_context")] == [
        "pos",
        "document",
        "odd_context",
        "all",
    ]
    assert neighbour("pos_context", names, 1) == "document"
    assert neighbour("odd_context", names, 2) == "pos_context"
    assert neighbour("all", names, -1) == "odd_context"
    assert counterpart("pos", names) == "pos_context"
    assert counterpart("pos_context", names) == "pos"
    assert counterpart("all", names) == counterpart("odd_context", names) == ""


def test_the_chart_holds_the_largest_the_compared_and_the_chosen(store: Path) -> None:
    levels = LevelSummary("m", "third", 0).read(Study(store))
    many = replace(
        levels, labels=tuple(f"l{n}" for n in range(40)), counts=np.arange(40, dtype=np.int64)
    )
    colors = drawn(many, range(40), ("l3", "gone", "l7"), 5)
    assert list(colors)[-3:] == [3, 7, 5]
    assert [colors[n] for n in (3, 7, 5)] == [1, 3, 0]
    assert sorted(n for n, color in colors.items() if color == -6) == list(range(28, 40))
    assert drawn(many, range(40), ("l3",), 3)[3] == 1


@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("width", [1, 5, 20, 61])
def test_a_token_in_its_context_takes_the_width_and_stays_in_its_document(
    width: int, ascii_only: bool
) -> None:
    from rich.cells import cell_len

    corpus = corpus_of(HOSTILE, (0, 9))
    for token in range(len(HOSTILE)):
        before, own, after = in_context(corpus, token, width, ascii_only)
        assert own
        assert cell_len(before + own + after) <= width
        assert not re.search("[\x00-\x1f\x7f-\x9f\u200b-\u200d\u202e\ufe0f\ud800]", before + own)
        assert not ascii_only or (before + own + after).isascii()
    assert "bold" not in in_context(corpus, 9, 200, ascii_only)[0]
    assert "31m" not in in_context(corpus, 8, 200, ascii_only)[2]


def test_tokens_of_a_level_that_is_gone_are_refused(store: Path) -> None:
    from store import StoreError

    query = LevelTokens("m", "third", "gone", None, 64, 3)
    with pytest.raises(StoreError, match="has no level 'gone' any more"):
        query.read(Study(store))


async def test_a_narrow_title_keeps_the_metric(store: Path) -> None:
    async with terminal(store=store, size=(60, 16)) as screen:
        await screen.go_to(CategoriesScreen)
        await screen.press("left", "m")
        assert "cross-entropy, nats" in screen.text.splitlines()[1]
