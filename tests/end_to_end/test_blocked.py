"""Watching with no room to write: on a full disk, under a quota, with too many files open."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import threading
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.coordination.build import build_coordinator
from engine.errors import Interrupted
from engine.study_file.file import load_study_file
from seedconv_tui.cli.main import run
from seedconv_tui.listeners.notifier import kind_of
from seedconv_tui.listeners.prometheus import serve
from store import open_study
from store.commits.heartbeat import read_status, write_status
from store.schema import EngineStatus, ModelSnapshot
from store.writing import StudyWriter
from tests.support.deadline import DEADLINE
from tests.support.listening import Heard, Script
from tests.support.small_disk import SmallDisk
from tests.support.tiny_models import finish, make_runs, write_study

FULL = "no space left on the device"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints, and `study.zarr` with their results."""
    folder = tmp_path_factory.mktemp("made")
    make_runs(folder, steps=(0, 10, 20))
    finish(folder)
    assert run(["run", str(study(folder, folder / "study.zarr"))]) == 0
    return folder


def study(made: Path, store: Path, **changes: Any) -> Path:
    listed: dict[str, Any] = {"models__seeds": ["1", "2", "3"], "models__steps": [0, 10, 20]}
    return write_study(made, **listed, study__store=str(store), watch__poll_seconds=0.01, **changes)


def model_of(store: Path) -> ModelSnapshot:
    return open_study(store).snapshot().models[0]


def expect_same(store: Path, made: Path) -> None:
    """All is there, as if nothing had happened."""
    known = open_study(store).ledger("m")
    assert (len(known.scored), len(known.reduced), len(known.summaries)) == (9, 3, 3)
    assert known.failures == {}
    np.testing.assert_array_equal(model_of(store).kl, model_of(made / "study.zarr").kl)
    assert run(["verify", str(store)]) == 0


class Onlooker(Heard):
    """Looks, once the engine has written that it is blocked, and makes room."""

    def __init__(self, store: Path, capsys: pytest.CaptureFixture[str], room: Any) -> None:
        super().__init__(self._look)
        self._store, self._capsys, self._room = store, capsys, room
        self.seen: list[dict[str, Any]] = []
        self.texts: list[str] = []

    def _look(self, status: EngineStatus) -> None:
        if not status.blocked or status.state != "waiting":
            return
        self._capsys.readouterr()
        code = run(["status", str(self._store), "--json", "--check"])
        found = json.loads(self._capsys.readouterr().out)
        if found["engine"] is None or not found["engine"]["blocked"]:  # not written so far
            return
        assert code == 1
        run(["status", str(self._store)])
        self.texts.append(self._capsys.readouterr().out)
        self.seen.append(found)
        self._room()


LONG = pytest.mark.long


@pytest.mark.parametrize("size", [700, pytest.param(1000, marks=LONG), 1400])
def test_a_full_disk_is_waited_for(
    made: Path, disk: SmallDisk, capsys: pytest.CaptureFixture[str], size: int
) -> None:
    store = disk.folder / "study.zarr"
    disk.mount(size)
    file = study(made, store)
    metrics: list[str] = []

    def make_room() -> None:
        with serve(store, "127.0.0.1", 0) as port:
            answer = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=DEADLINE)
            metrics.append(answer.read().decode())
        disk.resize(65536)

    onlooker = Onlooker(store, capsys, make_room)
    totals = build_coordinator(load_study_file(file), onlooker).watch(until_complete=True)
    assert (totals.scored, totals.reduced, totals.failed) == (9, 3, 0)
    assert onlooker.seen
    assert FULL in onlooker.seen[0]["engine"]["message"]
    assert onlooker.seen[0]["health"] == "waiting"
    assert f"{FULL}; free some; it continues by itself" in onlooker.texts[0]
    assert "seedconv_engine_blocked 1.0" in metrics[0]
    (said,) = [event for event in onlooker.events if event.event == "blocked"]
    assert FULL in said.text
    assert kind_of(said) == "failure"
    assert len(onlooker.of("unblocked")) == 1
    expect_same(store, made)


@pytest.mark.long
def test_a_disk_that_grows_a_little_at_a_time_is_filled_as_it_grows(
    made: Path, disk: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is full at many moments of one engine's work."""
    monkeypatch.setattr("engine.coordination.blocked.FIRST_SECONDS", 0.02)
    monkeypatch.setattr("engine.coordination.blocked.LONGEST_SECONDS", 0.02)
    monkeypatch.setattr("engine.coordination.blocked._POLL_SECONDS", 0.01)
    sizes = [600]  # kB
    grown: set[str] = set()

    def grow(status: EngineStatus) -> None:
        if status.blocked and status.state == "waiting" and status.writer not in grown:
            grown.add(status.writer)  # once for each session
            sizes.append(sizes[-1] + 40)
            disk.resize(sizes[-1])

    store, heard = disk.folder / "study.zarr", Heard(grow)
    disk.mount(sizes[0])
    engine = build_coordinator(load_study_file(study(made, store)), heard)
    totals = engine.watch(until_complete=True)
    assert (totals.scored, totals.reduced, totals.failed) == (9, 3, 0)
    assert len(sizes) > 10
    assert len(heard.of("blocked")) < len(sizes) // 2  # what is said once is not said again
    expect_same(store, made)


def fail_fsync(
    monkeypatch: pytest.MonkeyPatch, store: Path, number: int, after: int, over: list[bool]
) -> None:
    """Have writing fail once so much is committed, and for as long as `over` is empty."""
    fsync = os.fsync

    def failing(descriptor: int) -> None:
        there = Path(f"/proc/self/fd/{descriptor}").readlink().is_relative_to(store)
        if there and not over and store.exists() and scored(store) >= after:
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)


def scored(store: Path) -> int:
    return sum(log.read_bytes().count(b'"kind":"scored"') for log in (store / "commits").glob("*"))


@pytest.mark.parametrize(
    ("number", "after"),
    [
        (errno.EDQUOT, 0),
        (errno.EMFILE, 4),
        pytest.param(errno.ENOSPC, 0, marks=LONG),
        pytest.param(errno.ENOSPC, 4, marks=LONG),
        pytest.param(errno.ENFILE, 2, marks=LONG),
    ],
)
def test_what_passes_is_waited_for(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, number: int, after: int,
) -> None:  # fmt: skip
    """Also where nothing shows that there is room again: it is tried after a while."""
    monkeypatch.setattr("engine.coordination.blocked.FIRST_SECONDS", 0.1)
    monkeypatch.setattr("engine.coordination.blocked._POLL_SECONDS", 0.01)
    store = tmp_path / "study.zarr"
    file = study(made, store)
    over: list[bool] = []
    onlooker = Onlooker(store, capsys, lambda: over.append(True))
    engine = build_coordinator(load_study_file(file), onlooker)
    fail_fsync(monkeypatch, store, number, after, over)
    totals = engine.watch(until_complete=True)
    assert (totals.scored, totals.reduced, totals.failed) == (9, 3, 0)
    assert len(onlooker.of("blocked")) == len(onlooker.of("unblocked")) == 1
    expect_same(store, made)


def test_a_request_to_stop_is_heard_while_there_is_no_room(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, stop = tmp_path / "study.zarr", threading.Event()
    file = study(made, store)
    heard = Heard(lambda status: stop.set() if status.blocked else None)
    engine = build_coordinator(load_study_file(file), heard, stop=stop)
    over: list[bool] = []
    fail_fsync(monkeypatch, store, errno.ENOSPC, 3, over)
    with pytest.raises(Interrupted, match="stopped; what was committed stays"):
        engine.watch()
    engine_status = open_study(store).snapshot().engine
    assert engine_status is not None
    assert engine_status.state == "stopped"
    over.append(True)
    assert run(["run", str(file)]) == 0
    expect_same(store, made)


@pytest.mark.parametrize("size", [40, 300])  # kB: nothing can be made; the study, but no session
def test_a_disk_that_is_full_from_the_start_is_waited_for(
    made: Path, disk: SmallDisk, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    for wait in ("patience", "blocked"):  # before there is a study, and before a session
        monkeypatch.setattr(f"engine.coordination.{wait}.FIRST_SECONDS", 0.01)
    store = disk.folder / "study.zarr"
    disk.mount(size)
    file = study(made, store)
    script = Script(blocked=lambda: disk.resize(65536))
    engine = build_coordinator(load_study_file(file), script, waiting=True)
    totals = engine.watch(until_complete=True)
    assert (totals.scored, totals.reduced, totals.failed) == (9, 3, 0)
    (text,) = script.said("blocked")
    assert text.endswith(
        "no space left on the device; free some: watch waits, and continues by itself"
    )
    assert len(script.said("unblocked")) == 1
    expect_same(store, made)


def test_a_session_that_cannot_begin_keeps_nobody_out(
    made: Path, disk: SmallDisk, tmp_path: Path
) -> None:
    """Wherever on a full disk it fails: the next one begins at once, and all is there."""
    disk.mount(65536)
    store = disk.folder / "study.zarr"
    shutil.copytree(made / "study.zarr", store)
    file, filled = study(made, store), disk.folder / "filled"
    begun: list[bool] = []
    for blocks in range(4):
        with filled.open("wb", buffering=0) as stream, pytest.raises(OSError, match="No space"):
            while stream.write(bytes(4096)) == 4096:
                pass
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.truncate(filled, filled.stat().st_size - 4096 * blocks)
        writer = None
        with contextlib.suppress(OSError):
            writer = StudyWriter(store)
        filled.unlink()
        begun.append(writer is not None)
        if writer is not None:
            writer.close("stopped")
    assert begun[0] is False
    assert run(["run", str(file)]) == 0
    expect_same(store, made)


def test_a_heartbeat_is_written_where_no_block_is_free(disk: SmallDisk) -> None:
    disk.mount(64)
    (disk.folder / "status").mkdir()
    status = EngineStatus("w", "h", 1, 1.0, 1.0, "working")
    write_status(disk.folder, status)
    with pytest.raises(OSError, match="No space"):
        (disk.folder / "filled").write_bytes(bytes(65536))
    for heartbeat in (2.0, 3.0):
        write_status(disk.folder, replace(status, heartbeat=heartbeat, message="waits" * 20))
        assert read_status(disk.folder, "w") == replace(
            status, heartbeat=heartbeat, message="waits" * 20
        )
    with pytest.raises(OSError, match="No space"):
        write_status(disk.folder, replace(status, message="x" * 5000))
    assert read_status(disk.folder, "w") is not None
    assert [file.name for file in (disk.folder / "status").iterdir()] == ["w.json"]
