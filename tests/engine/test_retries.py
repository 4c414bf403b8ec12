"""What failed is tried again with back-off, then parked: within one engine and by later ones."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPTNeoXForCausalLM

import engine.models.weights
from engine.coordination.build import build_coordinator
from engine.coordination.recorder import Totals
from engine.coordination.retries import MOST_ATTEMPTS, next_try
from engine.errors import CheckpointError, Interrupted
from engine.events import Event
from engine.models.residency import Residence
from engine.models.weights import read_checkpoint
from engine.scoring.passes import CorpusPass
from engine.sources.hub_client import HubClient
from engine.study_file.file import load_study_file
from engine.text.tokenizer import load_tokenizer
from seedconv_tui.cli.main import run
from store import open_study
from store.schema import EngineStatus, Failure, State
from tests.support.hub_server import HubServer
from tests.support.made_store import expect_nothing_uncommitted
from tests.support.tiny_models import make_runs, write_study


class Clock(threading.Event):
    """A request to stop that never comes, and a clock on which only waiting takes time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1e9
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waits.append(timeout)
        self.now += timeout
        return self.is_set()


class Heard:
    """Remembers events; may act on them."""

    def __init__(self, act: Callable[[Event], None] = lambda event: None) -> None:
        self.events: list[Event] = []
        self._act = act

    def on_event(self, event: Event) -> None:
        self.events.append(event)
        self._act(event)

    def on_status(self, status: EngineStatus) -> None:
        pass

    def of(self, kind: str) -> list[str]:
        return [event.text for event in self.events if event.event == kind]


class Disk:
    """Reading the weights of some checkpoints fails, as often as the test asks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failures: dict[str, float]) -> None:
        self.reads: dict[str, int] = {}
        self.failures, self.error = failures, OSError(errno.EIO, os.strerror(errno.EIO))
        read = Path.read_bytes

        def read_bytes(path: Path) -> bytes:
            if path.suffix == ".safetensors":
                name = f"{path.parent.parent.name}/{path.parent.name}"
                self.reads[name] = self.reads.get(name, 0) + 1
                if self.failures.get(name, 0) >= 1:
                    self.failures[name] -= 1
                    raise self.error
            return read(path)

        monkeypatch.setattr(Path, "read_bytes", read_bytes)


def work(
    file: Path, heard: Heard | None = None, clock: Clock | None = None, **options: Any
) -> Totals:
    clock = clock or Clock()
    made = build_coordinator(
        load_study_file(file), heard or Heard(), stop=clock, clock=clock, **options
    )
    return made.run()


def failure(folder: Path, seed: str = "2", step: int = 0) -> Failure:
    return open_study(folder / "study.zarr").ledger("m").failures[seed, step]


def test_the_waits_double_up_to_an_hour_and_end() -> None:
    waits = [next_try(n, 100.0, passing=True) for n in range(1, MOST_ATTEMPTS)]
    assert [at - 100 for at in waits if at is not None] == [
        15, 30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600
    ]  # fmt: skip
    assert next_try(MOST_ATTEMPTS, 100.0, passing=True) is None
    assert next_try(1, 100.0, passing=False) is None


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOTCONN])
def test_what_cannot_be_read_for_a_while_is_read_again_at_the_end_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    make_runs(tmp_path)
    disk = Disk(monkeypatch, {"seed2/step0": 2})
    disk.error = OSError(number, os.strerror(number))
    heard, clock = Heard(), Clock()
    totals = work(write_study(tmp_path), heard, clock)
    assert (totals.scored, totals.failed, totals.parked) == (6, 0, 0)
    assert disk.reads == {f"seed{s}/step{t}": 1 for s in "123" for t in (0, 10)} | {
        "seed2/step0": 3  # nobody else's work is repeated
    }
    assert clock.waits == pytest.approx([15, 30])
    first, second = heard.of("failed")
    assert f"model.safetensors: cannot be read: [Errno {number}]" in first
    assert "; tried once, next try at " in first
    assert "; tried 2 times, next try at " in second
    assert [event.level for event in heard.events if event.event == "failed"] == ["warning"] * 2
    assert open_study(tmp_path / "study.zarr").ledger("m").reduced == {
        0: {"1", "2", "3"}, 10: {"1", "2", "3"}
    }  # fmt: skip
    expect_nothing_uncommitted(tmp_path / "study.zarr")


def test_a_run_has_a_minutes_patience_and_the_next_goes_on_counting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, steps=(0,))
    disk, clock = Disk(monkeypatch, {"seed2/step0": 99}), Clock()
    file = write_study(tmp_path)
    totals = work(file, clock=clock)
    assert (totals.scored, totals.failed, totals.parked) == (2, 1, 0)
    assert disk.reads["seed2/step0"] == 3
    assert (failure(tmp_path).attempts, failure(tmp_path).parked) == (3, False)
    clock.now += 5  # sooner than its time: it is waited for
    assert work(file, clock=clock).scored == 0
    assert failure(tmp_path).attempts == 4
    assert run(["status", str(tmp_path / "study.zarr")]) == 0
    assert "(tried 4 times, next try at " in capsys.readouterr().out
    disk.failures.clear()
    clock.now += 1000
    totals = work(file, clock=clock)
    assert (totals.scored, totals.failed) == (1, 0)
    assert disk.reads == {"seed1/step0": 1, "seed2/step0": 5, "seed3/step0": 1}


def test_watching_tries_for_hours_then_parks_and_a_restart_leaves_it_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, steps=(0,))
    for folder in (tmp_path / "runs").glob("*/*"):
        (folder / "trainer_state.json").write_text("{}")
    listed: dict[str, Any] = {"models__seeds": ["1", "2", "3"], "models__steps": [0]}
    file = write_study(tmp_path, watch__poll_seconds=30, **listed)
    disk, heard, clock = Disk(monkeypatch, {"seed2/step0": 99}), Heard(), Clock()
    began = clock.now
    watching = build_coordinator(load_study_file(file), heard, stop=clock, clock=clock)
    totals = watching.watch(until_complete=True)  # a parked one is not waited for
    assert (totals.scored, totals.failed, totals.parked) == (2, 1, 1)
    assert disk.reads == {"seed1/step0": 1, "seed2/step0": MOST_ATTEMPTS, "seed3/step0": 1}
    assert 4 * 3600 < clock.now - began < 4.2 * 3600
    assert heard.of("failed")[-1].endswith(
        "; tried 12 times, parked until it changes or --retry-failed"
    )
    kept = failure(tmp_path)
    assert (kept.parked, kept.attempts, kept.time) == (True, MOST_ATTEMPTS, clock.now)
    model = open_study(tmp_path / "study.zarr").snapshot().models[0]
    assert model.state.tolist() == [[State.DONE, State.FAILED, State.DONE]]
    assert model.reason(("2", 0)) == kept.error

    disk.failures.clear()
    capsys.readouterr()
    assert run(["run", str(file)]) == 1  # a new process tries no parked one
    said = capsys.readouterr().err
    assert "seed 2, step 0 is parked: " in said
    assert f"1 failed (1 parked: `seedconv run {file} --retry-failed` tries again)" in said
    assert disk.reads["seed2/step0"] == MOST_ATTEMPTS
    assert run(["run", str(file), "--retry-failed", "--json"]) == 0
    assert '"parked"' not in capsys.readouterr().err.replace('"parked": 0', "")
    assert disk.reads == {"seed1/step0": 1, "seed2/step0": MOST_ATTEMPTS + 1, "seed3/step0": 1}
    assert open_study(tmp_path / "study.zarr").ledger("m").failures == {}


def test_what_will_not_pass_is_parked_at_once_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_runs(tmp_path, steps=(0,))
    weights = tmp_path / "runs/seed2/step0/model.safetensors"
    whole, broken = load_file(weights), load_file(weights)
    broken["embed_out.weight"][0, 0] = float("nan")
    save_file(broken, weights, metadata={"format": "pt"})
    disk, clock, file = Disk(monkeypatch, {}), Clock(), write_study(tmp_path)
    totals = work(file, clock=clock)
    assert (totals.scored, totals.failed, totals.parked, clock.waits) == (2, 1, 1, [])
    assert failure(tmp_path).parked
    assert work(file).parked == 1
    assert disk.reads["seed2/step0"] == 1
    assert work(file, retry_failed=True).parked == 1
    assert disk.reads["seed2/step0"] == 2
    assert failure(tmp_path).attempts == 1  # as if for the first time
    assert work(write_study(tmp_path, scoring__batch_tokens=64)).parked == 1  # may be the remedy
    assert disk.reads["seed2/step0"] == 3
    save_file(whole, weights, metadata={"format": "pt"})
    totals = work(file)
    assert (totals.scored, totals.failed, totals.parked) == (1, 0, 0)
    assert disk.reads == {"seed1/step0": 1, "seed2/step0": 4, "seed3/step0": 1}


def test_no_memory_is_waited_for_at_load_and_models_take_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training run on the same GPU takes memory, and gives it back."""
    make_runs(tmp_path, steps=(0,))
    expected = tmp_path / "expected.zarr"
    work(write_study(tmp_path, study__store=str(expected)))
    load, left, loads = engine.scoring.scorer.Scorer.load, [2], list[Residence]()

    def limited(scorer: Any, checkpoint: Any, residence: Residence, rooms: Any) -> Any:
        loads.append(residence)
        if left[0]:
            left[0] -= 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return load(scorer, checkpoint, residence, rooms)

    monkeypatch.setattr(engine.scoring.scorer.Scorer, "load", limited)
    clock, heard = Clock(), Heard()
    totals = work(write_study(tmp_path), heard, clock)
    assert (totals.scored, totals.reduced, totals.failed) == (3, 1, 0)
    assert len(loads) == 5  # the third worked, then the two that had failed
    assert "out of memory with its weights; set scoring.dtype" in heard.of("failed")[0]
    left[0], loads[:] = 1, []
    fused = write_study(tmp_path, study__store="f.zarr", log_probs__representation="none")
    heard = Heard()
    assert work(fused, heard, clock).scored == 3
    assert loads == [Residence.DEVICE, *[Residence.TURN] * 3]
    assert "moved there in turn" in heard.of("note")[0]
    both = tmp_path / "f.zarr", expected
    ours, theirs = (open_study(path).dataset("m").load() for path in both)
    assert ours.surprisal.equals(theirs.surprisal)
    left[0], loads[:] = 1, []
    room = {"scoring__memory_gb": 1, "scoring__offload": "cpu"}
    layers = write_study(tmp_path, study__store="layers.zarr", **room)
    heard = Heard()
    assert work(layers, heard, clock).scored == 3
    assert loads == [Residence.DEVICE, Residence.LAYERS, Residence.DEVICE, Residence.DEVICE]
    assert "out of memory; it is brought there layer by layer" in heard.of("note")[0]
    assert open_study(tmp_path / "layers.zarr").dataset("m").load().equals(theirs)


def test_a_device_that_dies_blames_no_checkpoint_and_the_next_engine_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, steps=(0,))
    file, forward, calls = write_study(tmp_path), GPTNeoXForCausalLM.forward, [0]

    def dies(module: Any, input_ids: torch.Tensor, **options: Any) -> Any:
        calls[0] += 1
        if scored(tmp_path) == 1:
            raise RuntimeError("CUDA error: unspecified launch failure\nCompile with ...")
        return forward(module, input_ids, **options)

    monkeypatch.setattr(GPTNeoXForCausalLM, "forward", dies)
    assert run(["run", str(file)]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("seedconv: cpu does not work any more (CUDA error: unspecified launch")
    assert "run the same command again" in last
    expect_nothing_uncommitted(tmp_path / "study.zarr")
    assert open_study(tmp_path / "study.zarr").ledger("m").failures == {}
    snapshot = open_study(tmp_path / "study.zarr").snapshot()
    assert snapshot.engine is not None
    assert (snapshot.engine.state, snapshot.engine.message[:3]) == ("failed", "cpu")
    monkeypatch.setattr(GPTNeoXForCausalLM, "forward", forward)
    assert work(file).scored == 2


def scored(folder: Path) -> int:
    logs = (folder / "study.zarr" / "commits").glob("*.log")
    return sum(log.read_bytes().count(b'"kind":"scored"') for log in logs)


@pytest.mark.parametrize("status", [429, 503])
def test_a_hub_that_refuses_for_long_is_asked_again_and_sends_nothing_twice(
    tmp_path: Path, hub: HubServer, status: int
) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(0,))
    for seed in "12":
        hub.push(f"lab/m-seed{seed}", "step0", tmp_path / f"runs/seed{seed}/step0")
    hub.refuse("seed1/resolve", status, times=18)  # more than one fetch is patient with
    heard, clock = Heard(), Clock()
    file = write_study(tmp_path, models__source="lab/m-seed{seed}@step{step}")
    totals = work(file, heard, clock)
    assert (totals.scored, totals.reduced, totals.failed) == (2, 1, 0)
    (text,) = heard.of("failed")
    assert f"answers {status}" in text
    assert "gave up after 8 tries; tried once, next try at" in text
    assert sorted(hub.downloads()) == ["config.json"] * 2 + ["model.safetensors"] * 2


def test_a_checkpoint_that_only_trickles_is_fetched_again(
    tmp_path: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(0,))
    for seed in "12":
        hub.push(f"lab/m-seed{seed}", "step0", tmp_path / f"runs/seed{seed}/step0")
    hub.trickles = [("seed1/resolve", 1000)]
    monkeypatch.setattr("engine.sources.hub_pace.WINDOW_SECONDS", 0.3)
    heard = Heard(lambda event: hub.trickles.clear() if event.event == "failed" else None)
    file = write_study(tmp_path, models__source="lab/m-seed{seed}@step{step}")
    totals = work(file, heard, Clock())
    assert (totals.scored, totals.reduced, totals.failed) == (2, 1, 0)
    (text,) = heard.of("failed")
    assert "bytes a second; given up; tried once, next try at" in text


def test_a_failure_of_an_earlier_version_is_read_and_tried_again(tmp_path: Path) -> None:
    from store import Ledger

    ledger = Ledger()
    ledger.apply({"kind": "axis", "model": "m", "steps": [0], "seeds": ["1"]})
    ledger.apply({"kind": "failed", "model": "m", "seed": "1", "step": 0, "error": "x: broken"})
    assert ledger.model("m").failures["1", 0] == Failure("x: broken")
    assert ledger.model("m").errors() == {("1", 0): "x: broken"}


def test_what_failed_and_was_deleted_before_its_next_try_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_runs(tmp_path, steps=(0,))
    for folder in (tmp_path / "runs").glob("*/*"):
        (folder / "trainer_state.json").write_text("{}")
    Disk(monkeypatch, {"seed2/step0": 1})
    clock = Clock()

    def act(event: Event) -> None:
        if event.event == "failed":
            shutil.rmtree(tmp_path / "runs/seed2/step0")
        elif event.event == "gone":
            clock.set()

    heard = Heard(act)
    study = load_study_file(write_study(tmp_path))
    with pytest.raises(Interrupted):
        build_coordinator(study, heard, stop=clock, clock=clock).watch()
    assert len(heard.of("gone")) == 1
    assert clock.now < 1e9 + 3600
    model = open_study(tmp_path / "study.zarr").snapshot().models[0]
    assert model.state.tolist() == [[State.DONE, State.MISSING, State.DONE]]


def test_a_step_that_is_to_be_reduced_again_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_runs(tmp_path, steps=(0,))
    for folder in (tmp_path / "runs").glob("*/*"):
        (folder / "trainer_state.json").write_text("{}")
    file = write_study(tmp_path, models__seeds=["1", "2", "3"], models__steps=[0])
    work_on, left = CorpusPass.run, [1]

    def run_out(self: CorpusPass) -> None:
        if self._pairs is not None and left:
            left.pop()
            raise torch.OutOfMemoryError("CUDA out of memory")
        work_on(self)

    monkeypatch.setattr(CorpusPass, "run", run_out)
    clock = Clock()
    made = build_coordinator(load_study_file(file), Heard(), stop=clock, clock=clock)
    totals = made.watch(until_complete=True)
    assert (totals.scored, totals.reduced, totals.failed) == (3, 1, 0)


def test_a_checkpoint_is_not_blamed_for_files_that_cannot_be_opened(tmp_path: Path) -> None:
    """Wherever in reading it that happens: every number of files that is still free is tried."""
    make_runs(tmp_path, seeds=("1",), steps=(0,))
    folder = tmp_path / "runs/seed1/step0"
    shutil.copy(tmp_path / "tokenizer/tokenizer.json", folder)
    study = load_study_file(write_study(tmp_path))
    tokenizer = load_tokenizer(study, HubClient(threading.Event()))
    read_checkpoint(folder, tokenizer)  # so that all is imported
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    refused, ended = [], False
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        taken = stack.enter_context((tmp_path / "text.txt").open()).fileno()
        while not ended:  # the lowest number that is free is the one that is given
            resource.setrlimit(resource.RLIMIT_NOFILE, (taken + len(refused), hard))
            try:
                read_checkpoint(folder, tokenizer)
                ended = True
            except CheckpointError as error:
                refused.append(error)
    assert refused
    for error in refused:
        assert error.passing
        assert "Too many open files" in str(error)
        assert "\n" not in str(error)
