"""The Tokens screen: its text and heat, what its keys do, and text that is made to do harm."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
from rich.cells import cell_len

from seedconv_tui.monitor.common.chart_widget import ChartView
from seedconv_tui.monitor.common.pairs import PairMatrix
from seedconv_tui.monitor.common.reflow import TextRows, reflow, shown
from seedconv_tui.monitor.common.theme import PALETTES, Appearance
from seedconv_tui.monitor.tokens.heat import CHANGE, KL, SCALES, next_in_rank
from seedconv_tui.monitor.tokens.heat_text import HeatText
from seedconv_tui.monitor.tokens.predictions import PredictionTable
from seedconv_tui.monitor.tokens.screen import TokensScreen
from store import Study
from tests.support.terminal import Terminal, make_model, make_study, terminal
from tests.support.token_store import (
    HOSTILE,
    PLAIN,
    SEEDS,
    add_step,
    checkpoint,
    corpus_of,
    make_store,
    mean_token_kl,
    open_writer,
    token_kl,
)

if TYPE_CHECKING:
    from pathlib import Path

TEXT = PLAIN * 6
N = len(TEXT)
LAST = mean_token_kl(64, N)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokens") / "study"
    return make_store(path, TEXT, documents=(0, 63))


def row_of_token(screen: Terminal) -> str:
    return screen.row(" token ")


def token(screen: Terminal) -> int:
    """The chosen token, from 0."""
    found = re.search(r"token ([\d,]+) of", screen.text)
    assert found
    return int(found[1].replace(",", "")) - 1


def seen(screen: Terminal) -> list[str]:
    """The rows of the text."""
    region = screen.app.screen.query_one(HeatText).region
    return [row[1:].rstrip() for row in screen.text.splitlines()[region.y : region.bottom]]


def styles(screen: Terminal, part: str) -> list[str]:
    """How the cells of the first row of the text with `part` are drawn: their backgrounds."""
    text = screen.app.screen.query_one(HeatText)
    for y in range(text.size.height):
        strip = text.render_line(y)
        if part in strip.text:
            return [
                str(segment.style.bgcolor.name) if segment.style and segment.style.bgcolor else ""
                for segment in strip
                for _ in range(cell_len(segment.text))
            ]
    raise AssertionError(part)


@pytest.mark.parametrize("size", [(80, 24), (200, 50), (60, 16)])
async def test_shows_text_heat_and_the_chosen_token(store: Path, size: tuple[int, int]) -> None:
    async with terminal(store=store, size=size) as screen:
        await screen.go_to(TokensScreen)
        assert "text > Tokens" in screen.text
        assert "step 64 (latest)" in screen.text
        assert "KL, nats" in screen.text
        assert seen(screen)[:2] == [
            "The quick brown fox jumps over the lazy dog.␊␊",
            " A second line, with the fox again.␊␊",
        ]
        assert f"token 1 of {N}  The · KL {LAST[0]:.4f}" in screen.text
        backgrounds = styles(screen, "quick brown")
        look = screen.app.look
        for place, number in ((0, 0), (4, 1), (10, 2), (16, 3)):
            expected = KL.style(int(KL.levels(LAST[[number]])[0]), look).bgcolor
            if number:  # the first is under the cursor
                assert backgrounds[place + 1] == (expected.name if expected else "#0f1115")
        assert "q Quit" in screen.text.splitlines()[-1]


async def test_the_panel_holds_what_the_seeds_predict(store: Path) -> None:
    scored = [checkpoint(seed, 64, N, len(set(TEXT))) for seed in range(3)]
    words = sorted(set(TEXT))
    async with terminal(store=store) as screen:
        await screen.go_to(TokensScreen)
        await screen.press("right")
        await screen.settle()
        region = screen.app.screen.query_one(PredictionTable).region
        rows = screen.text.splitlines()[region.y : region.bottom]
        assert rows[0].split() == ["top", "seed", "a", "seed", "b", "seed", "c"]
        targets = [f"{np.exp(-s['surprisal'][1]):.3f}" for s in scored]
        assert [cell for cell in rows[1].split() if cell[0] == "0"] == targets
        for rank in range(10):
            names = [shown(words[s["top_id"][1, rank]], False).replace(" ", "␣") for s in scored]
            chances = [f"{np.exp(s['top_log_prob'][1, rank]):.3f}" for s in scored]
            found = rows[2 + rank].replace("▸", " ").split()[1:]
            assert found == [part for pair in zip(names, chances, strict=True) for part in pair]
        mean = np.mean([s["surprisal"][1] for s in scored], dtype=np.float64)
        assert f"surprisal {mean:.4f}" in row_of_token(screen)


async def test_the_panel_holds_the_pairs_and_the_course(store: Path) -> None:
    async with terminal(store=store) as screen:
        await screen.go_to(TokensScreen)
        await screen.press("right", "right", "tab")
        await screen.settle()
        region = screen.app.screen.query_one(PairMatrix).region
        rows = screen.text.splitlines()[region.y : region.bottom]
        values = rows[2].split()
        assert values[0] == "b"
        assert float(values[2]) == pytest.approx(token_kl(1, 0, 64, N)[2], abs=6e-5)
        assert float(values[4]) == pytest.approx(token_kl(1, 2, 64, N)[2], abs=6e-5)
        await screen.press("tab")
        await screen.settle()
        course = screen.app.screen.query_one(ChartView)._series[0]
        assert course.x.tolist() == [0, 8, 64]
        assert course.y == pytest.approx([mean_token_kl(step, N)[2] for step in (0, 8, 64)])
        assert "this token's KL" in screen.text
        await screen.press("tab")
        assert "this token's KL" not in screen.text
        assert len(seen(screen)) > 15
        await screen.press("tab")
        assert "seed a" in screen.text


async def test_where_there_is_room_the_panel_shows_all_at_once(store: Path) -> None:
    async with terminal(store=store, size=(200, 50)) as screen:
        await screen.go_to(TokensScreen)
        assert "seed a" in screen.text
        assert "to rest" in screen.text
        assert "this token's KL" in screen.text
        await screen.press("tab")
        assert "seed a" not in screen.text
        await screen.press("tab")
        assert "seed a" in screen.text


async def test_the_cursor_moves_by_tokens_rows_and_pages(store: Path) -> None:
    async with terminal(store=store) as screen:
        await screen.go_to(TokensScreen)
        for keys, expected in (
            (["right"], 1),
            (["l", "l"], 3),
            (["left"], 2),
            (["h"], 1),
            (["down"], 13),  # below "quick": "second", in two tokens
            (["up"], 1),
            (["j", "k"], 1),
            (["end"], N - 1),
            (["right"], N - 1),
            (["home"], 0),
            (["left"], 0),
            (["up"], 0),
            (["G"], N - 1),
            (["g"], 0),
        ):
            await screen.press(*keys)
            assert token(screen) == expected, keys
        await screen.press("pagedown")
        below = token(screen)
        assert below > 40
        await screen.press("space", "pageup", "pageup")
        assert token(screen) == 0
        region = screen.app.screen.query_one(HeatText).region
        await screen.pilot.click(offset=(region.x + 6, region.y + 2))
        await screen.pilot.pause()
        assert token(screen) == 23
        await screen.press("end")
        assert seen(screen)[-1].endswith("again.␊␊")


async def test_steps_and_metrics(store: Path) -> None:
    async with terminal(store=store) as screen:
        await screen.go_to(TokensScreen)
        for keys, step in (
            (["left_square_bracket"], 8),
            (["left_square_bracket"], 0),
            (["right_square_bracket"], 8),
            (["right_curly_bracket"], 64),
            (["left_curly_bracket"], 0),
        ):
            await screen.press(*keys)
            await screen.settle()
            assert f" step {step} ·" in screen.text
            assert f"KL {mean_token_kl(step, N)[0]:.4f}" in row_of_token(screen)
        assert "held, 2 later, 0 follows" in screen.text
        await screen.press("m", "m")
        await screen.settle()
        assert "KL change" in screen.text
        assert "no step to compare with" in screen.text
        await screen.press("0")
        await screen.settle()
        change = float(LAST[0]) - float(mean_token_kl(8, N)[0])
        assert f"{change:+.4f} since step 8" in row_of_token(screen)
        await screen.press("left_curly_bracket", "p", "0")
        await screen.settle()
        assert "since 0, pinned" in screen.text
        change = float(LAST[0]) - float(mean_token_kl(0, N)[0])
        assert f"{change:+.4f} since step 0" in row_of_token(screen)
        await screen.press("p", "m", "m")
        await screen.settle()
        assert "pinned" not in screen.text
        assert " KL, nats " in screen.text
        await screen.press("escape")
        assert "follows" in screen.row("step 64 (latest)")


async def test_surprisal_is_the_mean_over_seeds_and_needs_no_pairs(tmp_path: Path) -> None:
    path = make_store(tmp_path / "study", PLAIN, steps=(0,), seeds=("a",))
    async with terminal(store=path) as screen:
        await screen.go_to(TokensScreen)
        assert "needs two seeds scored at one step" in screen.text
        await screen.press("m")
        await screen.settle()
        values = checkpoint(0, 0, len(PLAIN), len(set(PLAIN)))["surprisal"]
        assert f"surprisal {values[0]:.4f}" in row_of_token(screen)
        await screen.press("x")
        assert token(screen) == int(np.argmax(values))


async def test_x_goes_to_the_highest_then_on_and_back(store: Path) -> None:
    order = np.argsort(-LAST, kind="stable")
    async with terminal(store=store) as screen:
        await screen.go_to(TokensScreen)
        for rank in range(4):
            await screen.press("x")
            assert token(screen) == order[rank]
        await screen.press("X")
        assert token(screen) == order[2]
        await screen.press("right", "x")
        assert token(screen) == order[0]


async def test_search_finds_goes_round_and_is_left(store: Path) -> None:
    places = [n for n, piece in enumerate(TEXT) if piece == " fox"]
    async with terminal(store=store) as screen:
        await screen.go_to(TokensScreen)
        await screen.press("slash", *"FOX", "enter")
        await screen.settle()
        assert "FOX: 0 found" in screen.text
        assert token(screen) == 0
        await screen.press("slash", *"1q")
        assert screen.row("q Quit").startswith(" enter Search  esc Leave")
        await screen.press("escape")
        assert "FOX: 0 found" in screen.text
        await screen.press("slash", *"fox", "enter")
        await screen.settle()
        assert token(screen) == places[0]
        assert f"fox: 1 of {len(places)}" in screen.text
        await screen.press("n")
        assert token(screen) == places[1]
        assert f"fox: 2 of {len(places)}" in screen.text
        await screen.press("N", "N")
        assert token(screen) == places[-1]
        await screen.press("n")
        assert token(screen) == places[0]
        await screen.press("slash", *"second line", "enter")
        await screen.settle()
        assert TEXT[token(screen)] == " sec"
        await screen.press("slash", "delete", "enter")
        assert "found" not in screen.text
        await screen.press("n")
        assert TEXT[token(screen)] == " sec"


async def test_marks_say_the_levels_without_colours(store: Path) -> None:
    async with terminal(store=store) as screen:
        await screen.go_to(TokensScreen)
        await screen.press("b")
        marks = seen(screen)[1]
        level = int(KL.levels(LAST[[1]])[0])
        assert marks.ljust(9)[3:9] == KL.marks[level] * 6
        await screen.press("b")
        assert seen(screen)[1].startswith(" A second")


async def test_w_keeps_the_lines_of_the_text(tmp_path: Path) -> None:
    path = make_store(tmp_path / "study", ["one", "\n", "two", "\n", "three"])
    async with terminal(store=path) as screen:
        await screen.go_to(TokensScreen)
        assert seen(screen)[0] == "one␊two␊three"
        await screen.press("w")
        await screen.settle()
        assert seen(screen)[:3] == ["one␊", "two␊", "three"]
        await screen.press("w")
        assert seen(screen)[0] == "one␊two␊three"


async def test_seeds_of_the_panel_scroll(tmp_path: Path) -> None:
    seeds = tuple(f"s{n}" for n in range(9))
    path = make_store(tmp_path / "study", PLAIN, steps=(4,), seeds=seeds)
    async with terminal(store=path) as screen:
        await screen.go_to(TokensScreen)
        assert "seed s0" in screen.text
        assert "seed s8" not in screen.text
        await screen.press(*["L"] * 9)
        assert "seed s8" in screen.text
        assert "-9/9" in screen.text
        await screen.press("H", *["shift+left"] * 9)
        assert "seed s0" in screen.text
        await screen.press("shift+right")
        assert "seed s0" in screen.text


async def test_arrivals_leave_the_cursor_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "study"
    writer = open_writer(path, TEXT)
    add_step(writer, 0)
    async with terminal(store=path) as screen:
        await screen.go_to(TokensScreen)
        await screen.press("down", "right")
        here = token(screen)
        add_step(writer, 8, summarise=False)
        await screen.poll(Study(path).snapshot())
        assert "step 8 (latest)" in screen.text
        assert "not summarised over all its seeds yet" in screen.text
        assert seen(screen)[0].startswith("The quick")
        writer.summaries.summarise("m", 8, SEEDS, mean_token_kl(8, N), {})
        await screen.poll(Study(path).snapshot())
        assert "not summarised" not in screen.text
        assert f"KL {mean_token_kl(8, N)[here]:.4f}" in row_of_token(screen)
        await screen.press("left_square_bracket")
        add_step(writer, 16)
        await screen.poll(Study(path).snapshot())
        assert " step 0 ·" in screen.text
        assert "held, 2 later" in screen.text
        assert token(screen) == here
        for size in ((200, 50), (60, 16), (80, 24)):
            await screen.resize(*size)
            assert token(screen) == here
            assert " step 0 ·" in screen.text


async def test_models_are_gone_through() -> None:
    study = make_study(make_model(n_done=0), make_model("other", n_done=0))
    async with terminal(study) as screen:
        await screen.go_to(TokensScreen)
        assert "pythia-14m needs two seeds" in screen.text
        await screen.press("M")
        assert "other needs two seeds" in screen.text


async def test_without_a_store_it_says_why() -> None:
    async with terminal() as screen:
        await screen.go_to(TokensScreen)
        assert "there is no store behind this study" in screen.text
        await screen.press("x", "right", "down", "n", "pagedown", "p", "b", "tab", "H")
        assert "there is no store behind this study" in screen.text


@pytest.mark.parametrize("ascii_only", [False, True])
async def test_hostile_text_is_shown_and_not_obeyed(tmp_path: Path, ascii_only: bool) -> None:
    path = make_store(tmp_path / "study", HOSTILE * 2)
    async with terminal(store=path, ascii_only=ascii_only) as screen:
        await screen.go_to(TokensScreen)
        assert "[bold]" in seen(screen)[0]
        assert (r"\x1b[2J" if ascii_only else "␛[2J") in seen(screen)[0]
        for _ in range(6):
            await screen.press("right", "right", "right")
            await screen.settle()
            if ascii_only:
                assert screen.text.isascii()
            assert not re.search(
                "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200d\u202e\ufe0f\ud800]", screen.text
            )
        driver = screen.app._driver
        assert driver is not None
        assert "\x1b[2J" not in driver.sent  # type: ignore[attr-defined]
        assert "\u202e" not in driver.sent  # type: ignore[attr-defined]


# -- the pure parts ------------------------------------------------------------------------------


def laid_out(rows: TextRows) -> list[str]:
    return ["".join("".join(rows.pieces(t)) for t in rows.tokens(r)) for r in range(len(rows))]


@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("width", [1, 7, 30, 78, 198])
def test_rows_hold_every_token_once_and_fit(width: int, ascii_only: bool) -> None:
    rng = np.random.default_rng(width)
    pool = [*PLAIN, *HOSTILE, " " * 40, "x" * 300, "漢字漢字漢字"]
    pieces = [pool[n] for n in rng.integers(0, len(pool), 400)]
    rows = reflow(corpus_of(pieces, (0, 200)), width, ascii_only)
    assert rows.first[0] == 0
    assert rows.first[-1] == len(pieces)
    assert (np.diff(rows.first) > 0).all()
    assert 200 in rows.first  # a document begins a row
    for number, text in enumerate(laid_out(rows)):
        assert cell_len(text) == rows.cells[rows.first[number] : rows.first[number + 1]].sum()
        assert cell_len(text) <= width or len(rows.tokens(number)) == 1
    for at in rng.integers(0, len(pieces), 50):
        row = rows.row_of(int(at))
        assert at in rows.tokens(row)
        assert rows.token_at(row, rows.column_of(int(at))) == at


def test_rows_break_between_words_and_after_lines() -> None:
    rows = reflow(corpus_of(PLAIN), 16, False)
    assert laid_out(rows) == [
        "The quick brown",
        " fox jumps over",
        " the lazy dog.␊␊",
        " A second line,",
        " with the fox",
        " again.␊␊",
    ]


def test_lines_are_joined_unless_they_are_kept() -> None:
    corpus = corpus_of(["a", " b", "\n", "c", " \n", " \n ", "d", "e\n\nf", "g"])
    assert laid_out(reflow(corpus, 40, False)) == ["a b␊c ␊ ␊ ", "de␊␊fg"]
    kept = laid_out(reflow(corpus, 40, False, keep_lines=True))
    assert kept == ["a b␊", "c ␊ ␊ ", "de␊␊fg"]


def test_what_is_in_no_token_is_drawn_before_the_next_and_nothing_twice() -> None:
    corpus = corpus_of(["one", "two", "x", "y"])
    corpus.char_start[:] = [1, 4, 6, 6]
    corpus.char_end[:] = [3, 6, 8, 8]  # the last two share their characters
    rows = reflow(corpus, 40, False)
    assert [rows.pieces(t) for t in range(4)] == [("o", "ne"), ("t", "wo"), ("", "xy"), ("", "▯")]


def test_levels_and_marks() -> None:
    values = np.array([np.nan, 0.0, 0.1, 0.9, 5.0])
    assert KL.levels(values).tolist() == [0, 0, 1, 2, 5]
    assert CHANGE.levels(np.array([np.nan, -2.0, -0.1, 0.0, 0.5])).tolist() == [0, -3, -1, 0, 2]
    for look in (
        Appearance(palette, plain) for palette in PALETTES.values() for plain in (False, True)
    ):
        for scale in SCALES:
            n = len(scale.edges)
            levels = range(-n if scale.signed else 0, n + 1)
            assert len({scale.mark(level, look) for level in levels}) == len(levels)
            assert len({scale.style(level, look) for level in levels}) == len(levels)
            assert all(cell_len(scale.mark(level, look)) == 1 for level in levels)


def test_ranks_go_through_all_tokens_once() -> None:
    size = np.array([1.0, 3.0, 2.0, 3.0, 0.0])
    order = [1]
    for _ in range(6):
        order.append(next_in_rank(size, order[-1], down=True))
    assert order == [1, 3, 2, 0, 4, 4, 4]
    back = [4]
    for _ in range(5):
        back.append(next_in_rank(size, back[-1], down=False))
    assert back == [4, 0, 2, 3, 1, 1]


async def test_tokens_are_shown_by_their_entry(store: Path) -> None:
    async with terminal(store=store, size=(160, 40)) as screen:
        await screen.go_to(TokensScreen)
        await screen.press("m", "m", "m")
        await screen.settle()
        assert "KL by entry, nats" in screen.text
        corpus = Study(store).corpus
        mean = np.array([LAST[corpus.token_id == number].mean() for number in corpus.token_id])
        await screen.press("x")
        assert token(screen) == int(np.argmax(mean))
        of = corpus.token_id == corpus.token_id[token(screen)]
        said = [
            checkpoint(seed, 64, N, len(set(TEXT)))["surprisal"][of] for seed in range(len(SEEDS))
        ]
        row = row_of_token(screen)
        assert f"{of.sum()} of it, KL {LAST[of].mean():.4f} 95 % " in row
        assert f"cross-entropy {np.mean(said):.4f}" in row
        await screen.press("m")
        assert "cross-entropy" not in row_of_token(screen)
