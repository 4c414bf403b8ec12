"""Several devices: the same results as one, whatever becomes of some of them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import cast

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.coordination.build import build_coordinator
from engine.coordination.recorder import Totals
from engine.machine.devices import DeviceGroup, name_devices
from engine.sources.hub_client import HubClient
from engine.study_file.file import load_study_file
from engine.text.evaluation_text import build_text
from engine.text.tokenizer import load_tokenizer
from engine.workers.messages import Ended, Job, Message
from engine.workers.remote_worker import RemoteWorker
from seedconv_tui.cli.main import run
from store import open_study
from store.schema import EngineStatus
from tests.support.deadline import DEADLINE, until
from tests.support.gated_engine import Gate
from tests.support.hub_server import HubServer
from tests.support.listening import Heard
from tests.support.made_store import committed, expect_nothing_uncommitted
from tests.support.tiny_models import TEXT, make_runs, write_study

pytestmark = pytest.mark.long

N_TOKENS = 6000  # several blocks, so that there is a middle of a pass


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Checkpoints, and what one device makes of them: `study.zarr`.

    Folders are named so that the template alone does not lead to them: who works has to be told.
    """
    folder = tmp_path_factory.mktemp("made")
    make_runs(folder, seeds=("1", "2", "3"), steps=(0, 10, 20))
    (folder / "text.txt").write_text(TEXT * 20, encoding="utf-8")
    for step in (folder / "runs").glob("*/step*"):
        step.rename(step.with_name(f"{step.name}-{step.parent.name}"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as many as each of two workers has: sums are added in one order
    assert run(["run", str(study(folder))]) == 0
    yield folder
    torch.set_num_threads(threads)


def study(folder: Path, store: str = "study.zarr", **changes: object) -> Path:
    source = "runs/seed{seed}/step{step}-*"
    changes |= {"models__source": source, "corpus__max_tokens": N_TOKENS}
    return write_study(folder, study__store=store, **changes)


def score(made: Path, store: str, heard: Heard, device: str = "cpu,cpu") -> Totals:
    file = load_study_file(study(made, store, scoring__device=device))
    return build_coordinator(file, heard).run()


def expect_same(made: Path, store: str) -> None:
    """The same values, and no file that is not there without disturbance."""
    ours, theirs = made / store, made / "study.zarr"
    assert committed(open_study(ours)) == committed(open_study(theirs))
    assert chunks(ours) == chunks(theirs)


def chunks(store: Path) -> set[str]:
    return {str(path.relative_to(store)) for path in store.glob("models/**/*") if path.is_file()}


class Both(Heard):
    """Has the first of two that is at work wait for the other; `act`s, once, when both are."""

    def __init__(self, act: Callable[[SpawnProcess], object]) -> None:
        super().__init__(self._look)
        self._once, self._stopped = act, list[SpawnProcess]()
        self.done = False

    def _look(self, status: EngineStatus) -> None:
        at_work = {work.device for work in status.works}
        if self.done or not at_work:
            return
        if not self._stopped:
            processes = cast("list[SpawnProcess]", multiprocessing.active_children())
            self._stopped = [process for process in processes if process.name in at_work]
            for process in self._stopped:
                os.kill(process.pid or 0, signal.SIGSTOP)
        if len(at_work) == 2:
            self.done = True
            self._once(self._stopped[0])
            for process in self._stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid or 0, signal.SIGCONT)


def test_two_give_the_results_of_one(made: Path) -> None:
    heard = Both(lambda first: None)
    totals = score(made, "two.zarr", heard)
    assert (totals.scored, totals.reduced, totals.failed) == (9, 3, 0)
    assert max(len(status.works) for status in heard.statuses) == 2
    names = {work.device for status in heard.statuses for work in status.works}
    assert names == {"cpu (1)", "cpu (2)"}
    assert heard.statuses[-1].works == ()
    assert heard.statuses[-1].device == "2 x CPU, 1 thread"
    assert not heard.of("lost", "device", "failed", "note")
    expect_same(made, "two.zarr")
    assert not multiprocessing.active_children()


def test_one_that_is_killed_does_not_stop_the_other(made: Path) -> None:
    killed: list[int] = []

    def kill(first: SpawnProcess) -> None:
        killed.append(first.pid or 0)
        os.kill(killed[0], signal.SIGKILL)

    heard = Both(kill)
    totals = score(made, "killed.zarr", heard)
    assert (totals.scored, totals.reduced, totals.failed) == (9, 3, 0)
    (told,) = heard.of("lost", "device")
    assert f"(process {killed[0]}): was killed by SIGKILL" in told
    after = heard.statuses[[s.works for s in heard.statuses].index(()) :]
    assert after[-1].state == "finished"
    expect_same(made, "killed.zarr")


def test_when_all_are_killed_what_was_committed_stays(made: Path, tmp_path: Path) -> None:
    store = made / "all.zarr"
    gate = Gate(tmp_path, store, after=1)
    engine = start(study(made, store.name), "--device", "cpu,cpu", gate=gate)
    with gate.reached(engine):
        for process in psutil.Process(engine.pid).children():
            if "resource_tracker" not in " ".join(process.cmdline()):
                process.kill()
    _, said = engine.communicate(timeout=DEADLINE)
    assert engine.returncode == 1
    last = [line for line in said.splitlines() if line.startswith("seedconv: ")][-1]
    assert last.startswith("seedconv: no device is left to work on; what was committed stays.")
    assert last.endswith("was killed by SIGKILL")
    snapshot = open_study(store).snapshot()
    assert snapshot.engine is not None
    assert snapshot.engine.state == "failed"
    before, whole = committed(open_study(store)), committed(open_study(made / "study.zarr"))
    assert 0 < len(before) < len(whole)
    assert before.items() <= whole.items()
    assert run(["run", str(study(made, store.name))]) == 0
    expect_same(made, store.name)


def start(file: Path, *arguments: str, gate: Gate) -> subprocess.Popen[str]:
    """An engine that leads a group of processes, as one started from a terminal does."""
    return subprocess.Popen(
        [*gate.command, "run", str(file), *arguments],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **gate.environ},
    )


def group_is_gone(leader: int) -> bool:
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("how", ["interrupted", "killed"])
def test_a_stop_ends_all_processes_and_leaves_nothing_uncommitted(
    made: Path, tmp_path: Path, how: str
) -> None:
    store = made / f"{how}.zarr"
    gate = Gate(tmp_path, store, after=1)
    engine = start(study(made, store.name), "--device", "cpu,cpu", gate=gate)
    with gate.reached(engine):
        if how == "killed":
            engine.kill()
            engine.wait(DEADLINE)
        else:
            os.killpg(engine.pid, signal.SIGINT)  # as Ctrl-C does
    code = engine.wait(DEADLINE)
    until(lambda: group_is_gone(engine.pid))
    assert engine.stderr is not None
    said = engine.stderr.read()
    assert "Traceback" not in said
    if how == "interrupted":
        assert code == 130
        assert said.splitlines()[-1].startswith("seedconv: stopped; what was committed stays")
        snapshot = open_study(store).snapshot()
        assert snapshot.engine is not None
        assert snapshot.engine.state == "stopped"
        expect_nothing_uncommitted(store)
    assert run(["run", str(study(made, store.name))]) == 0
    expect_same(made, store.name)


def test_a_checkpoint_that_fails_fails_alone(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(made, folder, ignore=shutil.ignore_patterns("*.zarr"))
    file = folder / "runs/seed2/step10-seed2/model.safetensors"
    weights = load_file(file)
    weights["embed_out.weight"] *= float("nan")
    save_file(weights, file, metadata={"format": "pt"})
    assert run(["run", str(study(folder)), "--device", "cpu,cpu"]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if " error " in line]
    assert "seed2/step10-seed2" in line
    known = open_study(folder / "study.zarr").ledger("m")
    assert len(known.scored) == 8
    assert {step: len(seeds) for step, seeds in known.reduced.items()} == {0: 3, 10: 2, 20: 3}
    expect_nothing_uncommitted(folder / "study.zarr")


def test_a_full_disk_is_told_as_such(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    ended = subprocess.run(mount, check=False, capture_output=True, text=True)
    if ended.returncode:
        pytest.skip(f"needs the right to mount a tmpfs: {ended.stderr.strip()}")
    try:
        file = study(made, str(disk / "study.zarr"), log_probs__representation="none")
        assert run(["run", str(file), "--device", "cpu,cpu"]) == 1
        *said, last = capsys.readouterr().err.splitlines()
        assert "no space left on the device" in last
        assert not [line for line in said if "cpu (" in line]  # no device is to blame
        assert not multiprocessing.active_children()
    finally:
        subprocess.run(["umount", disk], check=False, capture_output=True)


def test_processes_take_from_the_hub_what_was_found_there(
    made: Path, tmp_path: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The coordinator alone lists revisions; others download by the commits it names."""
    for name, value in (
        ("HF_ENDPOINT", hub.endpoint),
        ("HF_HOME", str(tmp_path / "home")),
        ("HF_HUB_OFFLINE", "0"),
    ):
        monkeypatch.setenv(name, value)  # what processes see; the fixture speaks to this one
    for folder in (made / "runs").glob("*/*"):
        step, seed = folder.name.split("-")
        hub.push(f"lab/m-{seed}", step, folder)
    shutil.copytree(made / "tokenizer", tmp_path / "tokenizer")
    shutil.copy(made / "text.txt", tmp_path)
    source = {"models__source": "lab/{model}-seed{seed}@step{step}"}
    file = write_study(tmp_path, corpus__max_tokens=N_TOKENS, scoring__device="cpu,cpu", **source)
    heard = Heard()
    totals = build_coordinator(load_study_file(file), heard).run()
    assert (totals.scored, totals.failed) == (9, 0), heard.of("failed", "lost", "device")
    theirs = committed(open_study(made / "study.zarr"))
    assert committed(open_study(tmp_path / "study.zarr")) == theirs
    assert sum("/refs" in path for _, path, _ in hub.asked) == 3  # once for each seed


def test_a_worker_that_does_not_see_the_store_says_so(made: Path) -> None:
    file = load_study_file(study(made, "study.zarr"))
    tokenizer = load_tokenizer(file, HubClient(threading.Event()))
    job = Job.of(file, build_text(file, tokenizer), tokenizer, session=99)
    said: list[Message] = []
    RemoteWorker(job, "cpu", None, said.append).run()
    (ended,) = said
    assert isinstance(ended, Ended)
    assert str(ended.why).startswith(f"{made}/study.zarr/commits/99.log is not there; the store")


def test_a_cluster_needs_ray(
    made: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "engine.workers.ray", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run(["run", str(study(made, "none.zarr")), "--ray", "auto"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("not installed: pip install 'seedconv-tui[engine,ray]'")


def test_names() -> None:
    names = ("cuda:0", "cpu", "cuda:1+cuda:2", "cpu")
    devices = [DeviceGroup.parse(name) for name in names]
    assert name_devices(devices) == ("cuda:0", "cpu (1)", "cuda:1+cuda:2", "cpu (2)")


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("cpu;cpu", '--device: should be "auto", "cpu", "cuda" or a list such as'),
        ("auto,cpu", '--device: should be "auto", "cpu", "cuda" or a list such as'),
        ("cpu,cuda:63", 'scoring.device: found "cuda:63", but this machine has'),
    ],
)
def test_devices_that_are_not_there(
    made: Path, device: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["run", str(study(made, "none.zarr")), "--device", device]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"seedconv: {said}")
    assert not (made / "none.zarr").exists()
