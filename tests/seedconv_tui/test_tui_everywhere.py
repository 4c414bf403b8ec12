"""What every screen has: saving, copying, going on where one was, the palette, little room."""

from __future__ import annotations

import csv
import json
import re
from base64 import b64decode
from dataclasses import replace
from io import StringIO
from itertools import cycle
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from rich.color import Color, ColorSystem

from seedconv_tui.monitor.categories.screen import CategoriesScreen
from seedconv_tui.monitor.clipboard import MOST_BYTES, osc52
from seedconv_tui.monitor.common import saving
from seedconv_tui.monitor.common.theme import DARK, LIGHT, PALETTES
from seedconv_tui.monitor.curves.curve_metrics import METRICS, OF_SOME_STUDIES
from seedconv_tui.monitor.curves.screen import CurvesScreen
from seedconv_tui.monitor.data.remembered import Memory, Remembered, memory_path
from seedconv_tui.monitor.runs.screen import RunsScreen
from seedconv_tui.monitor.seeds.screen import SeedsScreen
from seedconv_tui.monitor.tokens.screen import TokensScreen
from seedconv_tui.text import visible
from store import Study
from tests.support.made_store import fill, open_writer
from tests.support.terminal import SCREENS, START, Terminal, make_model, make_study, terminal
from tests.support.token_store import HOSTILE, PLAIN, make_store, mean_token_kl

if TYPE_CHECKING:
    from pathlib import Path

    from seedconv_tui.monitor.common.study_screen import StudyScreen

NASTY = "[red]x[/red]\x1b[2J\u202e<script>&"
TEXT = PLAIN * 6


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study in which every screen has something to show."""
    path = tmp_path_factory.mktemp("everything") / "study"
    writer = open_writer(path)
    for model in ("m", "other"):
        fill(writer, model, ("a", "b", "c"), (0, 8, 64))
    writer.close("finished")
    return path


@pytest.fixture(scope="module")
def text_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("tokens") / "study", TEXT, documents=(0, 63))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, empty."""
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


async def saved(screen: Terminal, *keys: str) -> None:
    """Presses keys, and waits until what they save is saved and said."""
    await screen.press(*keys)
    if screen.app.saving is not None:
        screen.app.saving.join()
    await screen.settle()


def table_in(folder: Path) -> list[dict[str, str]]:
    """The rows of the one CSV file."""
    (path,) = folder.glob("*.csv")
    text = path.read_text(encoding="utf-8")
    path.unlink()
    return list(csv.DictReader(StringIO(text, newline="")))


def copied(screen: Terminal) -> str:
    """What the terminal was last asked to copy."""
    sent = screen.app._driver.sent  # type: ignore[union-attr]
    return b64decode(re.findall(r"\x1b\]52;c;([^\x07]*)\x07", sent)[-1]).decode()


# Saving


@pytest.mark.parametrize("kind", SCREENS)
async def test_every_view_is_saved_as_svg_text_and_csv(
    kind: type[StudyScreen], store: Path, folder: Path
) -> None:
    async with terminal(store=store) as screen:
        await screen.go_to(kind)
        before = screen.text
        await saved(screen, "e", "t")
        await saved(screen, "e", "s")
        await saved(screen, "e", "j", "enter")
        names = sorted(path.name for path in folder.iterdir())
        stem = rf"[\w.-]+-{kind.NAME.lower()}-\d{{8}}-\d{{6}}"
        for name, suffix in zip(names, ("csv", "svg", "txt"), strict=True):
            assert re.fullmatch(rf"{stem}\.{suffix}", name)
        assert f"wrote {names[0]} in" in screen.text
        text = (folder / names[2]).read_text(encoding="utf-8")
        assert text == "".join(row.rstrip() + "\n" for row in before.splitlines())
        picture = "".join(ET.fromstring((folder / names[1]).read_bytes()).itertext())
        for word in re.findall(r"\w+", before):
            assert word in picture
        assert "save this view" not in picture + text
        assert len(table_in(folder)) >= 3


async def test_the_data_behind_the_tokens_are_those_shown(text_store: Path, folder: Path) -> None:
    async with terminal(store=text_store) as screen:
        await screen.go_to(TokensScreen)
        await saved(screen, "e", "c")
        rows = table_in(folder)
        assert [row["text"] for row in rows] == [piece.replace("\n", "␊") for piece in TEXT]
        kl = np.array([float(row["kl"]) for row in rows])
        np.testing.assert_allclose(kl, mean_token_kl(64, len(TEXT)), rtol=1e-6)
        assert {row["step"] for row in rows} == {"64"}
        await saved(screen, "[", "m", "m", "e", "c")
        rows = table_in(folder)
        change = mean_token_kl(8, len(TEXT)) - mean_token_kl(0, len(TEXT))
        found = np.array([float(row["kl_change"]) for row in rows])
        np.testing.assert_allclose(found, change, atol=1e-6)
        assert {(row["step"], row["since"]) for row in rows} == {("8", "0")}


async def test_tables_of_runs_curves_and_seeds(folder: Path) -> None:
    study = make_study(make_model(failed=(11, 2), error="out of memory,\nsadly"), make_model("b"))
    async with terminal(study) as screen:
        await saved(screen, "e", "c")
        rows = table_in(folder)
        assert len(rows) == 72
        failed = [row for row in rows if row["state"] == "failed"]
        assert [(r["model"], r["seed"], r["step"]) for r in failed] == [("pythia-14m", "3", "1000")]
        assert failed[0]["error"] == "out of memory,␊sadly"
        await saved(screen, "2", "down", "space", "e", "c")
        rows = table_in(folder)
        assert {row["model"] for row in rows} == {"pythia-14m"}
        assert [float(row["value"]) for row in rows] == pytest.approx(np.arange(1, 13) / 10)
        await saved(screen, str(SCREENS.index(SeedsScreen) + 1), "left", "e", "c")
        rows = table_in(folder)
        pairs = {(row["seed"], row["other_seed"]): float(row["kl"]) for row in rows}
        assert len(rows) == len(pairs) == 6
        assert pairs["1", "2"] == pytest.approx(1.11)
        assert pairs["2", "1"] == pytest.approx(1.09)
        assert {row["step"] for row in rows} == {"512"}


async def test_text_from_outside_is_safe_in_files_and_in_their_names(folder: Path) -> None:
    for name in ("../../.etc/[x]\x1b[2J", "\u202e", "x" * 300):
        model = replace(make_model(NASTY, failed=(5, 1), error=NASTY), seeds=(NASTY, "2", "3"))
        async with terminal(make_study(model, name=name), size=(120, 30)) as screen:
            for key in "sct":
                await saved(screen, "e", key)
        paths = list(folder.iterdir())
        assert len(paths) == 3
        for path in paths:
            assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}", path.name)
            content = path.read_text(encoding="utf-8")
            assert not set("\x1b\u202e") & set(content)
            if path.suffix == ".svg":
                assert not ET.fromstring(content).findall(".//{*}script")
            path.unlink()
    assert not [path for path in folder.parent.iterdir() if path != folder]


async def test_a_file_that_is_there_stays_as_it_is(folder: Path) -> None:
    async with terminal() as screen:
        for _ in range(3):
            await saved(screen, "e", "t")
        name = saving.file_name("demo", "Runs", START, "txt")
        (folder / name).write_text("mine")
        await saved(screen, "e", "t")
        assert (folder / name).read_text() == "mine"
        stem = name.removesuffix(".txt")
        assert {path.name for path in folder.iterdir()} == {
            name,
            *(f"{stem}-{number}.txt" for number in (2, 3, 4)),
        }
        assert f"wrote {stem}-4.txt" in screen.text


async def test_what_cannot_be_written_is_said_in_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with terminal() as screen:
        folder.rmdir()
        await saved(screen, "e", "t")
        assert "No such file or directory" in screen.text.splitlines()[-1]

    def full(folder: object, name: str, data: bytes) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.chdir(folder.parent)
    monkeypatch.setattr(saving, "write_new", full)
    async with terminal() as screen:
        await saved(screen, "e", "t")
        assert "was not written: No space left on device" in screen.text.splitlines()[-1]


def test_half_a_file_is_not_left(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
        with pytest.raises(OSError, match="File too large"):
            saving.write_new(folder, "x.txt", b"x" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(folder.iterdir()) == []


async def test_what_was_said_goes_again_and_leaving_saves_nothing(folder: Path) -> None:
    async with terminal() as screen:
        keys = screen.text.splitlines()[-1]
        for key in ("escape", "q", "e"):
            await saved(screen, "e", key)
            assert screen.text.splitlines()[-1] == keys
        assert list(folder.iterdir()) == []
        await saved(screen, "e", "t")
        assert screen.text.splitlines()[-1] != keys
        await screen.press("right")
        assert screen.text.splitlines()[-1].startswith(keys[:10])


async def test_without_data_there_is_no_table(folder: Path) -> None:
    for study in (make_study(replace(make_model(), state=np.zeros((12, 3), np.uint8))),):
        async with terminal(study) as screen:
            await saved(screen, "e", "c")
            assert "no data behind this view yet" in screen.text
            assert list(folder.iterdir()) == []


# Copying


async def test_what_is_under_the_cursor_is_copied(text_store: Path) -> None:
    study = make_study(make_model(failed=(0, 0), error="out of memory\nsadly"))
    async with terminal(study) as screen:
        await screen.press("home", "Y")
        assert copied(screen) == "pythia-14m, seed 2, step 0, done, cross-entropy 6"
        assert "copied: pythia-14m, seed 2" in screen.text.splitlines()[-1]
        await screen.press("n", "Y")
        assert copied(screen).splitlines()[1:] == ["out of memory␊sadly"]
        await screen.press("2", "left", "Y")
        assert copied(screen).startswith("expected KL: pythia-14m, step 512, 1.1 nats, ")
    async with terminal(store=text_store) as screen:
        await screen.go_to(TokensScreen)
        await screen.press("right", "Y")
        assert copied(screen).startswith(f"token 2 of {len(TEXT)}")
        assert "quick" in copied(screen)
        await screen.go_to(SeedsScreen)
        await screen.press("Y")
        assert copied(screen).startswith("seed a → b, KL ")


async def test_nothing_to_copy_is_said_and_what_is_copied_is_safe_to_paste() -> None:
    async with terminal(RuntimeStudy.empty()) as screen:
        await screen.press("Y")
        assert "nothing here to copy" in screen.text
    model = replace(make_model(NASTY, failed=(0, 0), error="a\x1b[31m\rrm -rf"))
    async with terminal(make_study(model)) as screen:
        await screen.press("n", "Y")
        assert copied(screen).isascii() or not set("\x1b\r\u202e") & set(copied(screen))


class RuntimeStudy:
    """Studies that hold nothing."""

    @staticmethod
    def empty() -> Any:
        return replace(make_study(), models=())


@pytest.mark.parametrize(
    ("environment", "start", "end"),
    [
        ({"TERM": "xterm-256color"}, "\x1b]52;c;aGk=\x07", ""),
        (
            {"TERM": "screen-256color", "TMUX": "/tmp/tmux-1/default,1,0"},
            "\x1bPtmux;\x1b\x1b]52;c;aGk=\x07\x1b\\",
            "\x1b]52;c;aGk=\x07",
        ),
        (
            {"TERM": "tmux-256color"},
            "\x1bPtmux;\x1b\x1b]52;c;aGk=\x07\x1b\\",
            "\x1b]52;c;aGk=\x07",
        ),
        (
            {"TERM": "screen.xterm-256color", "TMUX": "/tmp/tmux-0/default,1,0"},
            "\x1bP\x1b]52;c;aGk=\x07\x1b\\",
            "\x1b]52;c;aGk=\x07",
        ),
        (
            {"TERM": "screen"},
            "\x1bP\x1b]52;c;aGk=\x07\x1b\\",
            "\x1b]52;c;aGk=\x07",
        ),
    ],
)
def test_multiplexers_pass_it_on(environment: dict[str, str], start: str, end: str) -> None:
    assert osc52("hi", environment) == start + end


def test_screen_is_sent_pieces_and_too_much_is_refused() -> None:
    text = "x" * 2000
    sent = osc52(text, {"TERM": "screen"})
    pieces = re.findall(r"\x1bP(.*?)\x1b\\", sent, re.DOTALL)
    assert len(pieces) > 5
    assert max(map(len, pieces)) <= 250
    assert sent.endswith("".join(pieces))
    assert "".join(pieces) == osc52(text, {})
    assert len(osc52("x" * MOST_BYTES, {})) <= 100_000
    with pytest.raises(ValueError, match="too long to copy"):
        osc52("é" * MOST_BYTES, {})


# Going on where one was


def memory_of(tmp_path: Path, **options: bool) -> Memory:
    return Memory(tmp_path / "state" / "seedconv" / "x.json", tmp_path / "study.zarr", **options)


async def leave(screen: Terminal) -> None:
    """Quits, as the command does."""
    await screen.press("q")
    assert screen.app.remember_the_end() == ""


async def test_the_next_session_goes_on_where_the_last_one_was(tmp_path: Path) -> None:
    study = make_study(make_model(), make_model("b"))
    async with terminal(study, memory=memory_of(tmp_path)) as screen:
        await screen.press("down", "left", "f", "2", "m", "y", "down", "left", "left", "plus", "t")
        await screen.settle()
        text = screen.text
        await leave(screen)
    async with terminal(study, memory=memory_of(tmp_path)) as screen:
        assert screen.text == text
        assert screen.app.theme == LIGHT.name
        await screen.press("1")
        assert "journal: warnings and errors" in screen.text
        assert "seed 3" in screen.text
        await screen.press(
            "2",
            "escape",
            *["m"] * (len(METRICS) - len(OF_SOME_STUDIES) - 1),
            "y",
            "up",
            "t",
        )
        await leave(screen)
    async with terminal(study, memory=memory_of(tmp_path)) as screen:
        assert "expected KL" in screen.text
        assert screen.app.theme == DARK.name
        assert "follows" in screen.text
    async with terminal(study, memory=memory_of(tmp_path, fresh=True)) as screen:
        assert "demo > Runs" in screen.text


async def test_tokens_and_seeds_go_on_too(text_store: Path, tmp_path: Path) -> None:
    async with terminal(store=text_store, memory=memory_of(tmp_path)) as screen:
        await screen.go_to(SeedsScreen)
        await screen.press("[", "down", "m")
        await screen.settle()
        seeds = screen.text
        await screen.go_to(TokensScreen)
        await screen.press("m", "[", "tab", *["right"] * 30, "slash", *"fox", "enter")
        await screen.settle()
        tokens, state = screen.text, screen.app.state()
        assert "surprisal, nats" in tokens
        await leave(screen)
    async with terminal(store=text_store, memory=memory_of(tmp_path)) as screen:
        await screen.settle()
        assert screen.app.state() == state
        rows = [row.partition(" · ")[0].rstrip() for row in tokens.splitlines()]
        for word in ("step 8", "surprisal, nats", " token ", "fox: "):
            assert screen.row(word).partition(" · ")[0].rstrip() in rows
        await screen.go_to(SeedsScreen)
        assert screen.text == seeds


async def test_categories_go_on_within_a_level(store: Path, tmp_path: Path, folder: Path) -> None:
    async with terminal(store=store, memory=memory_of(tmp_path)) as screen:
        await screen.go_to(CategoriesScreen)
        await screen.press("M", "[", "down", "space", "m", "y")
        await screen.settle()
        await saved(screen, "e", "c")
        summary = Study(store).summary("other", "third")
        rows = {row["label"]: row for row in table_in(folder)}
        assert rows.keys() == {visible(label) for label in summary.labels}
        assert float(rows["a"]["expected_kl"]) == summary.expected_kl[1, 0]
        assert float(rows["a"]["kl_low"]) == summary.kl_low[1, 0]
        change = summary.expected_kl[1, 0] - summary.expected_kl[0, 0]
        assert float(rows["a"]["kl_change"]) == pytest.approx(change)
        assert rows["empty"]["expected_kl"] == ""
        await screen.press("up", "enter")
        await screen.settle()
        await screen.press("down", "s")
        await screen.settle()
        await saved(screen, "e", "c")
        tokens = table_in(folder)
        assert len(tokens) == int(rows["a"]["n"])
        surprisal = [float(row["surprisal"]) for row in tokens]
        assert surprisal == sorted(surprisal, reverse=True)
        before = screen.text
        await leave(screen)
    async with terminal(store=store, memory=memory_of(tmp_path)) as screen:
        await screen.settle()
        assert screen.text.splitlines()[:-1] == before.splitlines()[:-1]
        await screen.press("escape")
        assert screen.text.splitlines()[0].rstrip().startswith(" attacked > Categories > third")


async def test_it_is_kept_while_one_looks_and_only_when_it_changed(tmp_path: Path) -> None:
    memory = memory_of(tmp_path)
    path = tmp_path / "state" / "seedconv" / "x.json"
    async with terminal(memory=memory) as screen:
        screen.app.remember()
        screen.app.remembering.join()  # type: ignore[union-attr]
        first = path.read_bytes()
        path.unlink()
        screen.app.remember()
        screen.app.remembering.join()  # type: ignore[union-attr]
        assert not path.exists()
        await screen.press("2")
        screen.app.remember()
        screen.app.remembering.join()  # type: ignore[union-attr]
        assert json.loads(path.read_bytes())["screen"] == "Curves"
        assert json.loads(first)["screen"] == "Runs"
        assert len(list(path.parent.iterdir())) == 1


GOOD = {"version": 1, "screen": "Curves", "theme": LIGHT.name}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 50_000,
        b"[1, 2]",
        b"null",
        b" " * 200_000 + b"{}",
        json.dumps({**GOOD, "version": 2}).encode(),
        json.dumps({**GOOD, "version": True}).encode(),
        json.dumps({**GOOD, "store": "/another"}).encode(),
    ],
)
async def test_a_damaged_file_or_one_of_another_kind_is_ignored(
    content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "state" / "seedconv" / "x.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    async with terminal(memory=memory_of(tmp_path)) as screen:
        assert "demo > Runs" in screen.text
        assert screen.app.theme == DARK.name


WRONG: list[object] = [None, True, -1, 1.5, 10**400, "x\x1b", [], [1], ["a", 1], {"a": {}}]


@pytest.mark.parametrize("start", [0, 3, 7])
async def test_wrong_values_in_the_file_do_no_harm(start: int, store: Path, tmp_path: Path) -> None:
    async with terminal(store=store, memory=memory_of(tmp_path)) as screen:
        for kind in SCREENS:
            await screen.go_to(kind)
        state = screen.app.state()
        await leave(screen)
    path = tmp_path / "state" / "seedconv" / "x.json"
    assert path.exists()
    wrong = cycle(WRONG[start:] + WRONG[:start])
    screens = {
        name: {key: next(wrong) for key in values} for name, values in state["screens"].items()
    }
    screens["Curves"]["view"] = [5, 5, 0, 1]
    head = {"version": 1, "store": str((tmp_path / "study.zarr").resolve())}
    path.write_text(json.dumps({**head, **GOOD, "screens": screens}))
    async with terminal(store=store, memory=memory_of(tmp_path)) as screen:
        assert "> Curves" in screen.text
        for kind in SCREENS:
            await screen.go_to(kind)
            await screen.press("right", "left")
            assert f"> {kind.NAME}" in screen.text
            assert "\x1b" not in screen.text


async def test_what_is_remembered_but_gone_is_let_go_of(tmp_path: Path) -> None:
    study = make_study(make_model(), make_model("b"))
    async with terminal(study, memory=memory_of(tmp_path)) as screen:
        await screen.press("down", "down", "down", "2", "down", "left", "left")
        await leave(screen)
    smaller = make_study(make_model(steps=[0, 8], n_seeds=2))
    async with terminal(smaller, memory=memory_of(tmp_path)) as screen:
        for kind in (CurvesScreen, RunsScreen, SeedsScreen):
            await screen.go_to(kind)
            await screen.press("left", "right")
            assert f"> {kind.NAME}" in screen.text


def test_where_it_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "study.zarr"
    given = memory_path(store, {"XDG_STATE_HOME": str(tmp_path)})
    assert given.parent == tmp_path / "seedconv"
    assert given == memory_path(
        tmp_path / "x" / ".." / "study.zarr", {"XDG_STATE_HOME": f"{tmp_path}"}
    )
    assert given != memory_path(tmp_path / "other.zarr", {"XDG_STATE_HOME": str(tmp_path)})
    monkeypatch.setenv("HOME", str(tmp_path))
    for environment in ({}, {"XDG_STATE_HOME": "relative"}):
        place = memory_path("s3://bucket/study.zarr", environment)
        assert place.parent == tmp_path / ".local" / "state" / "seedconv"


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    memory = Memory(tmp_path / "file" / "x.json", tmp_path)
    memory.save({"screen": "Runs"})
    assert str(tmp_path / "file" / "x.json") in memory.trouble
    assert memory.load().values == Remembered({}).values


# Keys


@pytest.mark.parametrize("kind", SCREENS)
async def test_the_palette_offers_every_action(kind: type[StudyScreen], store: Path) -> None:
    async with terminal(store=store) as screen:
        await screen.go_to(kind)
        offered = {c.title: c for c in screen.app.get_system_commands(screen.app.screen)}
        for node in (kind, type(screen.app)):
            for binding in node.BINDINGS:
                name, *_ = binding.action.partition("(")
                owner = screen.app.screen if node is kind else screen.app
                now = owner.check_action(name, ())
                words = binding.tooltip or binding.description
                here = [title for title in offered if title.endswith(words)]
                assert bool(here) == bool(now), binding
        await screen.press("ctrl+p", *"dark or light", "enter")
        await screen.settle()
        assert screen.app.theme == LIGHT.name


@pytest.mark.parametrize("kind", SCREENS)
async def test_the_same_keys_go_the_same_ways_on_every_screen(
    kind: type[StudyScreen], store: Path
) -> None:
    async with terminal(store=store) as screen:
        await screen.go_to(kind)
        bound = {key: binding.action for key, binding in screen.app.screen._bindings}
        pairs = {"left": "h", "right": "l", "up": "k", "down": "j", "home": "g", "end": "G"}
        for arrow, letter in {**pairs, "shift+left": "H", "shift+right": "L"}.items():
            assert bound.get(arrow) == bound.get(letter)
        assert pairs.keys() <= bound.keys()
        assert "escape" in bound
        assert "slash" in bound
        assert not {*"123456789etqPY", "question_mark", "ctrl+p"} & bound.keys()
        await screen.press("question_mark")
        assert "this help" in screen.text or "keys" in screen.text
        await screen.press("escape")
        assert f"> {kind.NAME}" in screen.text


async def test_slash_goes_to_a_step_a_model_or_a_seed() -> None:
    study = make_study(make_model(), make_model("b-large"))
    async with terminal(study) as screen:
        await screen.press("2", "slash", *"600", "enter")
        assert "step 512" in screen.text
        await screen.press("slash", *"1k", "enter")
        assert "step 1,000" in screen.text
        await screen.press("slash", *"LARGE", "enter")
        assert "▸ ━━ b-large" in screen.text
        await screen.press("slash", *"gone", "enter")
        assert "no model has 'gone' in its name" in screen.text.splitlines()[-1]
        await screen.press("slash", *"pyth", "escape")
        assert "▸ ━━ b-large" in screen.text
        await screen.go_to(SeedsScreen)
        await screen.press("slash", "3", "enter")
        assert " ▸ 3 " in screen.text
        await screen.press("slash", *"16", "enter")
        assert "step 16," in screen.text
        await screen.press("slash", *"large", "enter")
        assert "b-large" in screen.text
        await screen.press("slash", *"x9", "enter")
        assert "no seed is called 'x9'" in screen.text


async def test_escape_ends_a_search_of_the_text_before_it_follows(text_store: Path) -> None:
    async with terminal(store=text_store) as screen:
        await screen.go_to(TokensScreen)
        await screen.press("[", "slash", *"fox", "enter")
        await screen.settle()
        assert "fox: 1 of 12" in screen.text
        await screen.press("escape")
        assert "fox: " not in screen.text
        assert "step 8" in screen.text
        await screen.press("escape")
        assert "step 64 (latest)" in screen.text


async def test_what_is_read_in_full_can_be_copied() -> None:
    error = "out of memory " * 20
    async with terminal(make_study(make_model(failed=(0, 0), error=error))) as screen:
        await screen.press("n", "enter", "Y")
        assert copied(screen) == error
        assert "copied: out of memory" in screen.text
        await screen.press("escape", "question_mark", "Y")
        assert "save the view as SVG, CSV or text" in copied(screen)


# Room and colours


@pytest.mark.parametrize("kind", SCREENS)
async def test_too_little_room_is_said_just_below_60x16(
    kind: type[StudyScreen], store: Path
) -> None:
    async with terminal(store=store) as screen:
        await screen.go_to(kind)
        for size in ((59, 16), (60, 15), (59, 15), (40, 10)):
            await screen.resize(*size)
            assert "too small" in screen.text
            assert f"{size[0]}x{size[1]}" in screen.text
            assert kind.NAME not in screen.text
            await screen.press("e", "escape", "right")
        await screen.resize(60, 16)
        assert "too small" not in screen.text
        assert f"> {kind.NAME}" in screen.text
        assert " ? " in screen.text.splitlines()[-1]
        await saved(screen, "e")
        for word in ("SVG", "CSV", "text"):
            assert word in screen.text


@pytest.mark.parametrize("theme", [DARK, LIGHT])
@pytest.mark.parametrize("system", [ColorSystem.STANDARD, ColorSystem.EIGHT_BIT])
def test_levels_of_heat_stay_apart_with_fewer_colours(theme: Any, system: ColorSystem) -> None:
    palette = PALETTES[theme.name]
    if system is ColorSystem.STANDARD:
        palette = palette.for_sixteen

    def seen(style: Any) -> tuple[int | None, int | None]:
        ground = style.bgcolor.name if style.bgcolor else theme.background
        return tuple(  # type: ignore[return-value]
            Color.parse(name).downgrade(system).number for name in (style.color.name, ground)
        )

    for ramp in (palette.heat, palette.cool):
        assert len({seen(style)[1] for style in ramp}) == len(ramp)
        for style in ramp:
            text, ground = seen(style)
            assert text != ground


async def test_hostile_tokens_are_safe_in_every_way_out(tmp_path: Path, folder: Path) -> None:
    store = make_store(tmp_path / "hostile", HOSTILE)
    async with terminal(store=store) as screen:
        await screen.go_to(TokensScreen)
        for key in "sct":
            await saved(screen, "e", key)
        for path in folder.iterdir():
            content = path.read_text(encoding="utf-8")
            assert not set("\x1b\x9b\0\u202e\u200b") & set(content)
            if path.suffix == ".svg":
                ET.fromstring(content)
        for _ in HOSTILE:
            await screen.press("Y", "right")
            assert not set("\x1b\x9b\0\u202e\u200b") & set(copied(screen))
