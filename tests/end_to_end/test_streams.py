"""Commands whose streams are closed, full or broken, or cannot encode what is shown."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from seedconv_tui.cli.stopping import lasting_stderr
from tests.support.bare_terminal import bare_terminal
from tests.support.made_store import fill, open_writer

ROOT = Path(__file__).parents[2]
SEEDCONV = f"{shlex.quote(sys.executable)} -m seedconv_tui"

CLOSED = "seedconv: stdout: is closed. Open it, or send it to /dev/null.\n"
FULL = "seedconv: stdout: no space left on the device. Free some, or send it elsewhere.\n"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with results; its model has a name that few encodings have."""
    path = tmp_path_factory.mktemp("made") / "study.zarr"
    writer = open_writer(path)
    fill(writer, "mødel-λ", ("1", "2", "3"), [0, 8, 64])
    writer.close("finished")
    return path


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of a shell in which `seedconv` is ours."""
    settings = "".join(f"export {name}={value}; " for name, value in environment.items())
    program = f'seedconv() {{ {SEEDCONV} "$@"; }}; {settings}{line}'
    return subprocess.run(
        ["bash", "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("command", ["status", "plot", "export", "compare --steps 0 64", "verify"])
def test_what_cannot_be_written_is_said_of_stdout(store: Path, command: str) -> None:
    name, *rest = command.split()
    line = shlex.join([name, str(store), *rest])
    full = shell(f"seedconv {line} > /dev/full")
    assert (full.returncode, full.stderr) == (1, FULL)


def test_a_stream_that_is_closed(store: Path) -> None:
    done = shell(f"seedconv status {store} >&-")
    assert (done.returncode, done.stderr) == (1, CLOSED)
    done = shell(f"seedconv status {store} <&- 2>&-")
    assert done.returncode == 0
    assert "engine: " in done.stdout
    done = shell(f"seedconv tui {store} <&-")
    assert done.returncode == 2
    assert done.stderr.startswith("seedconv: the monitor needs a terminal")
    assert shell("seedconv --help >&-").stderr == CLOSED


def test_messages_that_nobody_can_hear_change_nothing(tmp_path: Path) -> None:
    assert shell(f"seedconv status {tmp_path} 2> /dev/full").returncode == 2
    assert shell("seedconv nonsense 2>&-").returncode == 2


@pytest.mark.parametrize(("command", "code"), [("status", 0), ("export", 141), ("--help", 0)])
def test_a_reader_that_left_is_no_error(store: Path, command: str, code: int) -> None:
    """What has done its work ends as ever; what is cut short, as by SIGPIPE."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "seedconv_tui", command, *([str(store)] * (command != "--help"))],
        cwd=ROOT,
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)
    assert done.stderr == b""
    assert done.returncode == code


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "euc-jp"])
def test_what_an_encoding_lacks_is_drawn_and_named_otherwise(store: Path, encoding: str) -> None:
    plot = shell(f"seedconv plot {store} --width 60 --height 8", PYTHONIOENCODING=encoding)
    assert (plot.returncode, plot.stderr) == (0, "")
    assert plot.stdout.isascii()
    assert r"m\xf8del-\u03bb" in plot.stdout
    status = subprocess.run(
        [sys.executable, "-m", "seedconv_tui", "status", str(store)],
        cwd=ROOT,
        env={"PYTHONIOENCODING": encoding},
        capture_output=True,
        check=True,
    )
    assert rb"\u03bb" in status.stdout or encoding == "euc-jp"


def test_the_monitor_draws_with_what_the_terminal_can_show(store: Path) -> None:
    with bare_terminal("tui", "--fresh", str(store), PYTHONIOENCODING="latin-1") as terminal:
        terminal.until(b"Help")
        terminal.type(b"2")
        terminal.until(b"expected KL")
        terminal.type(b"q")
        assert terminal.process.wait() == 0
        assert terminal.received.isascii()
        assert rb"\u2502" not in terminal.received


@pytest.mark.skipif(shutil.which("localedef") is None, reason="no locale can be made")
def test_a_locale_of_two_bytes_to_a_sign(store: Path, tmp_path: Path) -> None:
    """EUC has signs of its own for lines, but none of those that charts are made of."""
    place, name = tmp_path / "locales", "ja_JP.EUC-JP"
    place.mkdir()
    made = subprocess.run(["localedef", "-i", "ja_JP", "-f", "EUC-JP", place / name], check=False)
    if made.returncode:
        pytest.skip("its sources are not installed")
    here = {"LOCPATH": str(place), "LC_ALL": name, "LANG": name}
    with bare_terminal("tui", "--fresh", str(store), **here) as terminal:
        terminal.until(b"Help")
        for key in (b"2", b"3", b"4", b"5"):
            terminal.type(key)
        terminal.until(b"to rest")
        terminal.type(b"q")
        assert terminal.process.wait() == 0
        assert terminal.received.isascii()


def test_what_is_kept_of_a_stream_outlives_it() -> None:
    """Nothing is raised where the stream below was closed first, as when Python ends."""
    with contextlib.redirect_stderr(io.StringIO()) as below, lasting_stderr():
        ours = sys.stderr
    below.close()
    ours.write("nobody reads this")
    ours.flush()
    ours.close()
