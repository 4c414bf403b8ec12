"""Completion in real shells: what is offered, what hostile names do, and what nobody sees."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from seedconv_tui.cli.main import COMMANDS
from store import Study
from tests.support.deadline import DEADLINE
from tests.support.made_store import fill, open_writer
from tests.support.tmux import Tmux

HOSTILE = ("$(touch owned)", "`touch owned`", "a b'c\"d", ";touch owned", "\x1b[2Jclear", "a\nb")
NASTY = """$(touch owned);`touch owned` '"\\$HOME"""
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `seedconv` in `bin`, and a study."""
    folder = tmp_path_factory.mktemp("completion")
    writer = open_writer(folder / "a study.zarr")
    fill(writer, "small", ("1", "2"), (0, 8))
    fill(writer, "smaller", ("1", "2"), (0,))
    writer.close("finished")
    command = folder / "bin" / "seedconv"
    command.parent.mkdir()
    command.write_text(
        f"#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} "
        f'exec {shlex.quote(sys.executable)} -m seedconv_tui "$@"\n'
    )
    command.chmod(0o755)
    for shell in ("bash", "zsh", "fish"):
        script = subprocess.run([command, "completion", shell], capture_output=True, check=True)
        (folder / f"completion.{shell}").write_bytes(script.stdout)
    return folder


def shell_of(name: str) -> str:
    """Where a shell is."""
    if (path := shutil.which(name)) is None:
        pytest.skip(f"{name} is not installed")
    return path


def ran(folder: Path, shell: str, script: str, *arguments: str) -> str:
    """What a script prints in a shell, which must not print an error."""
    environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(
        [shell_of(shell), *arguments],
        input=script,
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=DEADLINE,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


def completed(folder: Path, *words: str) -> list[str]:
    """What bash offers for the last of these words, as they are typed."""
    typed = " ".join(map(shlex.quote, words))
    script = (
        "compopt() { :; }\n. ./completion.bash\n"
        f"COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}\n_seedconv\n"
        "((${#COMPREPLY[@]})) && printf '%s\\0' \"${COMPREPLY[@]}\"; true\n"
    )
    return ran(folder, "bash", script, "--norc").split("\0")[:-1]


def test_bash_offers_what_the_parser_takes(made: Path) -> None:
    assert completed(made, "seedconv", "") == list(COMMANDS)
    assert completed(made, "seedconv", "comp") == ["compare", "completion"]
    assert "--keep-last" in completed(made, "seedconv", "prune", "x", "--")
    assert "--keep-last" not in completed(made, "seedconv", "plot", "x", "--")
    assert completed(made, "seedconv", "plot", "--glyphs", "") == ["braille", "block"]
    assert completed(made, "seedconv", "plot", "--glyphs", "=", "bl") == ["block"]
    assert completed(made, "seedconv", "completion", "") == ["bash", "zsh", "fish"]
    assert completed(made, "seedconv", "study.zarr", "--f") == ["--fresh"]
    assert completed(made, "seedconv", "prune", "--keep-last", "-") == []


def test_bash_offers_the_names_of_the_study_that_was_typed(made: Path) -> None:
    for store in ("a\\ study.zarr", "'a study.zarr'", "a study.zarr"):
        words = ("seedconv", "plot", store, "--model")
        assert completed(made, *words, "") == ["small", "smaller"]
        assert completed(made, *words, "smalle") == ["smaller"]
    assert completed(made, "seedconv", "compare", "a study.zarr", "--models", "small", "") == [
        "small",
        "smaller",
    ]
    categories = completed(made, "seedconv", "export", "a study.zarr", "--category", "")
    assert categories == sorted(Study(made / "a study.zarr").categories("small"))


@pytest.mark.parametrize(
    "store", ["none.zarr", "bin", "bin/seedconv", "s3://x/y", "'open", "~no/x"]
)
def test_nothing_is_offered_or_said_where_there_is_no_study(made: Path, store: str) -> None:
    assert completed(made, "seedconv", "plot", store, "--model", "") == []


def test_hostile_names_are_offered_as_text_or_not_at_all(made: Path, tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "study")
    for name in HOSTILE:
        fill(writer, name, ("1",), (0,))
    writer.close("finished")
    found = completed(made, "seedconv", "plot", str(tmp_path / "study"), "--model", "")
    read = ran(made, "bash", f"printf '%s\\0' {' '.join(found)}").split("\0")[:-1]
    assert read == sorted(HOSTILE[:4])
    assert not list(made.glob("owned"))


def test_names_are_found_without_numpy_and_a_broken_study_is_silent(
    made: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    (broken / "commits").mkdir(parents=True)
    (broken / "models").write_text("no folder")
    code = (
        "import sys\nfrom seedconv_tui.cli.main import run\n"
        "code = run(['completion', '--names', 'models', *sys.argv[1:]])\n"
        "assert not {'numpy', 'torch', 'zarr'} & set(sys.modules)\nsys.exit(code)"
    )
    words = [sys.executable, "-c", code, "--oops", str(broken), str(made / "a study.zarr")]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("small\nsmaller\n", "")


def test_the_scripts_are_right_for_their_shells(made: Path) -> None:
    for shell, check in (("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")):
        if shutil.which(shell):
            assert ran(made, shell, "", check, f"completion.{shell}") == ""


def test_fish_offers_options_and_names(made: Path) -> None:
    script = (
        "source completion.fish\ncomplete -C 'seedconv comp'\necho -\n"
        "complete -C 'seedconv plot a\\ study.zarr --model s'\necho -\n"
        "complete -C 'seedconv x.zarr --fr'\n"
    )
    lines = ran(made, "fish", script).splitlines()
    offered = [line.split("\t")[0] for line in lines]
    assert offered == ["compare", "completion", "-", "small", "smaller", "-", "--fresh"]


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[Tmux]:
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed")
    made = Tmux(tmp_path, "screen")
    yield made
    made.close()


def open_shell(tmux: Tmux, made: Path, *command: str) -> None:
    path = f"{made / 'bin'}:{os.environ['PATH']}"
    settings = ["env", f"PATH={path}", f"HOME={made}", "PS1=ready ", "PROMPT=ready "]
    tmux.open(f"cd {shlex.quote(str(made))}; {shlex.join([*settings, *command])}")
    tmux.until("ready")


@pytest.mark.parametrize("start", ["", "'", '"'])
def test_tab_in_bash_quotes_what_would_be_a_command(tmux: Tmux, made: Path, start: str) -> None:
    if not (made / "h.zarr").exists():
        writer = open_writer(made / "h.zarr")
        fill(writer, NASTY, ("1",), (0,))
        writer.close("finished")
    open_shell(tmux, made, shell_of("bash"), "--norc")
    tmux.keys(". ./completion.bash", "Enter", f"seedconv plot h.zarr --model {start}", "Tab")
    tmux.until("owned")
    tmux.keys("C-a", "echo ", "Enter")
    tmux.until(f"\nseedconv plot h.zarr --model {NASTY}")
    assert not list(made.glob("owned"))


def test_tab_in_zsh_offers_commands_options_and_names(tmux: Tmux, made: Path) -> None:
    open_shell(tmux, made, shell_of("zsh"), "-f")
    tmux.keys("autoload -U compinit; compinit -u; . ./completion.zsh; print load''ed", "Enter")
    tmux.until("loaded")
    tmux.keys("seedconv plot a\\ study.zarr --model s", "Tab", "Tab")
    tmux.until("smaller")
    tmux.keys("C-u", "seedconv plot --gly", "Tab", "br", "Tab", "C-a", "echo ", "Enter")
    tmux.until("seedconv plot --glyphs braille")
