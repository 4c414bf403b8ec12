"""A store that another user owns: it is looked at like any other, and never changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bare_terminal import bare_terminal
from tests.support.made_store import files, fill, open_writer

ROOT = Path(__file__).parents[2]
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


@pytest.fixture(scope="module")
def store() -> Iterator[Path]:
    """Root's, readable by all; so is the way to it."""
    if os.geteuid() != 0 or shutil.which(NOBODY[0]) is None:
        pytest.skip("only root can become another user, by setpriv")
    folder = Path(tempfile.mkdtemp(prefix="seedconv-"))
    folder.chmod(0o755)
    try:
        writer = open_writer(folder / "study.zarr")
        fill(writer, "m", ["0", "1", "2"], [0, 10])
        writer.close("finished")
        if as_nobody(sys.executable, "-c", "import seedconv_tui.monitor.app").returncode:
            pytest.skip("another user cannot run this Python")
        yield folder / "study.zarr"
    finally:
        shutil.rmtree(folder)


def as_nobody(*command: str) -> subprocess.CompletedProcess[str]:
    """A command of another user, who has no home."""
    return subprocess.run(
        [*NOBODY, *command],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "HOME": "/nonexistent"},
    )


def seedconv(*words: object) -> subprocess.CompletedProcess[str]:
    return as_nobody(sys.executable, "-m", "seedconv_tui", *map(str, words))


def test_it_is_looked_at_and_not_changed(store: Path) -> None:
    before = files(store)
    for command in ("status", "plot", "verify"):
        done = seedconv(command, store)
        assert (done.returncode, done.stderr) == (0, "")
    with bare_terminal("tui", str(store), before=NOBODY, HOME="/nonexistent") as terminal:
        terminal.until(b"Help")
        for key in (b"2", b"3", b"4", b"5"):
            terminal.type(key)
        terminal.until(b"to rest")
        terminal.type(b"q")
        assert terminal.process.wait() == 0
        terminal.until(b"where you were is not kept")
    assert files(store) == before


def test_what_may_not_be_done_is_said_in_a_line(store: Path) -> None:
    done = seedconv("prune", store, "--keep-last", 1)
    assert done.returncode == 1
    assert done.stderr == (
        f"seedconv: {store / 'commits'}: permission denied. Ask its owner, or use a copy or a "
        "folder of your own.\n"
    )
    log = store / "commits" / "1.log"
    log.chmod(0o600)
    try:
        for command in ("status", "plot", "verify"):
            done = seedconv(command, store)
            assert done.returncode == 1
            assert done.stderr.startswith(f"seedconv: {log}: permission denied. Ask its owner")
            assert done.stderr.count("\n") == 1
    finally:
        log.chmod(0o644)
