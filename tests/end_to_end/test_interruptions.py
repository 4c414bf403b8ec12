"""Signals, terminals and disks that go away: how an engine ends, what it says, and what is left."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import pty
import resource
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.coordination.build import build_coordinator
from engine.events import Event
from engine.study_file.file import load_study_file
from seedconv_tui.cli.main import run
from store import open_study
from store.schema import EngineStatus
from store.words import counted
from tests.support.deadline import DEADLINE, until
from tests.support.gated_engine import STARTING, Gate, records
from tests.support.hub_server import HubServer
from tests.support.made_store import expect_nothing_uncommitted
from tests.support.tiny_models import TEXT, make_runs, write_study

pytestmark = pytest.mark.long

STOPPED = "seedconv: stopped; what was committed stays: "
COMMAND = (sys.executable, "-m", "seedconv_tui.cli.main")
GO_ON = "run the same command again to continue"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of three seeds at three steps, and a text of several blocks."""
    folder = tmp_path_factory.mktemp("made")
    make_runs(folder, steps=(0, 10, 20))
    (folder / "text.txt").write_text(TEXT * 20, encoding="utf-8")
    return folder


def study(made: Path, folder: Path, **changes: Any) -> Path:
    """A study file in `folder`, with a store of its own."""
    return write_study(
        folder,
        **{
            "corpus__files": [str(made / "text.txt")],
            "corpus__max_tokens": 3000,
            "tokenizer__source": str(made / "tokenizer"),
            "models__source": f"{made}/runs/seed{{seed}}/step{{step}}",
            **changes,
        },
    )


def start(
    command: str, file: Path, *arguments: str, gate: Gate | None = None, **options: Any
) -> subprocess.Popen[str]:
    """An engine that leads a group of processes, as one started from a terminal does."""
    settings = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, **options}
    environment = options.pop("env", {}) | (gate.environ if gate else {})
    return subprocess.Popen(
        [*(gate.command if gate else COMMAND), command, str(file), *arguments],
        cwd=Path(__file__).parents[2],
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        **{name: value for name, value in settings.items() if name != "env"},
    )


def scored(folder: Path) -> int:
    return records(folder / "study.zarr", "scored")


def gate_in(folder: Path, *, after: int) -> Gate:
    return Gate(folder, folder / "study.zarr", after=after)


def hear(engine: subprocess.Popen[str], part: str) -> None:
    """Read what an engine says up to a line that holds `part`."""
    assert engine.stderr is not None
    for line in engine.stderr:
        assert "Traceback" not in line
        if part in line:
            return
    raise AssertionError(f"never said: {part}")


def gone(leader: int) -> bool:
    """Whether no process of a group is left."""
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return True
    return False


def ended(engine: subprocess.Popen[str]) -> list[str]:
    """Wait for the end of an engine that was interrupted; what it said that was not read yet."""
    assert engine.wait(DEADLINE) == 130
    until(lambda: gone(engine.pid))
    assert engine.stderr is not None
    said = engine.stderr.read()
    assert "Traceback" not in said
    assert "Exception" not in said
    return said.splitlines()


def state(folder: Path) -> str:
    engine = open_study(folder / "study.zarr").snapshot().engine
    assert engine is not None
    return engine.state


# -- signals -------------------------------------------------------------------------------------


def test_a_stop_before_work_begins_waits_for_nothing(made: Path, tmp_path: Path) -> None:
    """The corpus is a pipe in which nothing comes: no check of ours is ever reached."""
    os.mkfifo(tmp_path / "text.fifo")
    engine = start("run", study(made, tmp_path, corpus__files=["text.fifo"]))
    with (tmp_path / "text.fifo").open("wb"):  # once the engine reads
        engine.terminate()
        said = ended(engine)  # though the text has not come to an end
    assert said == [
        "seedconv: stopping; once more to stop at once",
        f"seedconv: stopped before work began; {GO_ON}",
    ]
    assert not (tmp_path / "study.zarr").exists()


def test_a_stop_says_where_the_work_stands_and_a_second_run_does_the_rest(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = study(made, tmp_path)
    gate = gate_in(tmp_path, after=2)
    engine = start("run", file, gate=gate)
    with gate.reached(engine):
        engine.send_signal(signal.SIGINT)
        hear(engine, "stopping; once more to stop at once")
    last = ended(engine)[-1]
    n, reduced = scored(tmp_path), records(tmp_path / "study.zarr", "reduced")
    assert 2 <= n < 9
    assert last == (
        f"{STOPPED}{n} checkpoints scored and {reduced} step{'s' * (reduced != 1)} compared, "
        f"{9 - n} checkpoint{'s' * (n != 8)} to score and {3 - reduced} "
        f"step{'s' * (reduced != 2)} to compare are left; {GO_ON}"
    )
    assert state(tmp_path) == "stopped"
    expect_nothing_uncommitted(tmp_path / "study.zarr")
    assert run(["run", str(file)]) == 0
    done = f"{counted(9 - n, 'checkpoint')} scored, {counted(3 - reduced, 'step')} compared"
    assert done in capsys.readouterr().err
    assert scored(tmp_path) == 9  # none of them twice


def test_a_stop_while_processes_start_or_a_second_one_leaves_none(
    made: Path, tmp_path: Path
) -> None:
    """At both gates, which do not open: nothing is waited for but what ends in good order."""
    file = study(made, tmp_path, corpus__max_tokens=6000)
    (tmp_path / "starting").mkdir()
    gate = Gate(tmp_path / "starting", tmp_path / "study.zarr", after=STARTING)
    engine = start("run", file, "--device", "cpu,cpu", gate=gate)
    with gate.reached(engine):
        until(lambda: records(tmp_path / "study.zarr", "session"))
        os.killpg(engine.pid, signal.SIGINT)  # as Ctrl-C does
        said = ended(engine)
    assert said[-1].startswith(f"{STOPPED}0 checkpoints scored")
    gate = gate_in(tmp_path, after=1)
    engine = start("run", file, "--device", "cpu,cpu", gate=gate)
    with gate.reached(engine):
        engine.send_signal(signal.SIGINT)
        hear(engine, "stopping; once more to stop at once")
        os.kill(engine.pid, signal.SIGTERM)
        said = ended(engine)
    assert any(line.startswith("seedconv: stopped at once; ") for line in said)
    assert run(["run", str(file)]) == 0
    assert scored(tmp_path) == 9


def test_a_stop_ends_a_download_that_hangs(made: Path, tmp_path: Path, hub: HubServer) -> None:
    for folder in (made / "runs").glob("*/step0"):
        hub.push(f"lab/m-{folder.parent.name}", "step0", folder)
    asked = []

    def hang(name: str) -> None:
        asked.append(name)
        if name == "model.safetensors":
            hub.over.wait()

    hub.sending = hang
    environment = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    file = study(made, tmp_path, models__source="lab/m-seed{seed}@step{step}")
    engine = start("run", file, env=environment)
    until(lambda: "model.safetensors" in asked)
    engine.terminate()
    assert ended(engine)[-1].startswith(f"{STOPPED}0 checkpoints scored")
    assert state(tmp_path) == "stopped"


def test_a_terminal_that_closes_stops_the_work_in_good_order(made: Path, tmp_path: Path) -> None:
    gate = gate_in(tmp_path, after=2)
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)

    def read() -> None:  # or a full terminal would hold the engine up
        with contextlib.suppress(BlockingIOError):
            os.read(ours, 100_000)

    def take_terminal() -> None:
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # tests may run under nohup

    with subprocess.Popen(
        [*gate.command, "run", str(study(made, tmp_path))],
        cwd=Path(__file__).parents[2],
        stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True,
        preexec_fn=take_terminal,
        env={**os.environ, "OMP_NUM_THREADS": "1", **gate.environ},
    ) as engine:  # fmt: skip
        os.close(theirs)
        with gate.reached(engine, meanwhile=read):
            os.close(ours)
        assert engine.wait(DEADLINE) == 130
    assert 2 <= scored(tmp_path) < 9
    assert state(tmp_path) == "stopped"
    expect_nothing_uncommitted(tmp_path / "study.zarr")


def test_under_nohup_whoever_reads_along_may_leave(made: Path, tmp_path: Path) -> None:
    ignore = functools.partial(signal.signal, signal.SIGHUP, signal.SIG_IGN)
    gate = gate_in(tmp_path, after=1)
    engine = start("run", study(made, tmp_path), gate=gate, preexec_fn=ignore)
    assert engine.stderr is not None
    with gate.reached(engine):
        engine.stderr.readline()
        engine.send_signal(signal.SIGHUP)
        engine.stderr.close()
    assert engine.wait(DEADLINE) == 0
    assert scored(tmp_path) == 9


# -- disks ---------------------------------------------------------------------------------------


class At:
    """Does something when that many checkpoints are scored."""

    def __init__(self, n: int, act: Callable[[], object]) -> None:
        self._left, self._act = n, act

    def on_event(self, event: Event) -> None:
        if event.event == "scored":
            self._left -= 1
            if self._left == 0:
                self._act()

    def on_status(self, status: EngineStatus) -> None:
        """Nothing is done by progress."""


def test_a_store_that_goes_away_is_not_made_anew_and_is_gone_on_with(
    made: Path, tmp_path: Path
) -> None:
    store, away = tmp_path / "study.zarr", tmp_path / "away.zarr"
    file = study(made, tmp_path, scoring__device="cpu,cpu")
    gate = gate_in(tmp_path, after=3)
    engine = start("run", file, gate=gate)
    with gate.reached(engine):
        os.killpg(engine.pid, signal.SIGSTOP)  # those who score, too
        store.rename(away)
        os.killpg(engine.pid, signal.SIGCONT)
    _, said = engine.communicate(timeout=DEADLINE)
    assert engine.returncode == 1, said
    assert "Traceback" not in said
    assert f"seedconv: {store}: is not there any more: was it removed, or is its file" in said
    assert "Once it is back, run the same command again" in said.splitlines()[-1]
    assert not store.exists()
    away.rename(store)
    assert 3 <= scored(tmp_path) < 9
    assert open_study(store).ledger("m").failures == {}  # no checkpoint is to blame
    assert run(["run", str(file)]) == 0
    assert scored(tmp_path) == 9
    expect_nothing_uncommitted(store)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EDQUOT])
def test_a_store_that_cannot_be_written_any_more_is_told_as_such(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, number: int,
) -> None:  # fmt: skip
    fsync, broken = os.fsync, list[bool]()

    def failing(descriptor: int) -> None:
        if scored(tmp_path) >= 4:
            broken.append(True)
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    file = study(made, tmp_path)
    assert run(["run", str(file)]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    what = "no space left on the device" if number == errno.EDQUOT else os.strerror(number)
    assert last.startswith(f"seedconv: {tmp_path}/study.zarr")
    assert f": {what}; " in last
    assert "run the same command again: what is committed stays" in last
    monkeypatch.undo()
    assert broken
    assert state(tmp_path) == "failed"
    assert run(["run", str(file)]) == 0
    assert scored(tmp_path) == 9
    expect_nothing_uncommitted(tmp_path / "study.zarr")


def test_files_that_may_not_grow_are_told_as_such(made: Path, tmp_path: Path) -> None:
    """Real errors of writing, where no file system can be mounted: a limit on the size of files."""
    file = study(made, tmp_path)
    limit = 60_000  # a block of log-probs is larger, what a study begins with is not

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    engine = start("run", file, preexec_fn=limited)
    _, said = engine.communicate(timeout=DEADLINE)
    assert engine.returncode == 1
    assert "Traceback" not in said
    last = said.splitlines()[-1]
    assert ": File too large; see that it is there and can be written and run the same" in last
    assert run(["run", str(file)]) == 0
    assert scored(tmp_path) == 9
    expect_nothing_uncommitted(tmp_path / "study.zarr")


def test_checkpoints_that_go_away_with_their_disk_are_scored_when_it_is_back(
    made: Path, tmp_path: Path
) -> None:
    runs, away = tmp_path / "runs", tmp_path / "away"
    shutil.copytree(made / "runs", runs)
    for folder in runs.glob("*/*"):
        (folder / "trainer_state.json").write_text("{}")
    file = study(made, tmp_path, models__source=f"{runs}/seed{{seed}}/step{{step}}")
    heard = At(2, lambda: runs.rename(away))
    totals = build_coordinator(load_study_file(file), heard).run()
    assert totals.scored < 9
    away.rename(runs)
    n = scored(tmp_path)
    totals = build_coordinator(load_study_file(file), At(0, lambda: None)).run()
    assert (totals.scored, totals.failed, totals.parked) == (9 - n, 0, 0)
    assert scored(tmp_path) == 9
