"""What an engine says of itself next to its results: devices, GPUs, disk, duplicates."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import engine.workers.choice
from engine.coordination.build import build_coordinator
from engine.coordination.projection import bytes_to_come
from engine.events import Event
from engine.machine.devices import DeviceGroup
from engine.machine.gpus import read_gpus
from engine.study_file.file import load_study_file
from seedconv_tui.cli.main import run
from store import Ledger, open_study
from store.schema import EngineStatus, Gpu, State
from tests.support.deadline import until
from tests.support.tiny_models import make_runs, write_study

CUDA = DeviceGroup.parse("cuda:0"), DeviceGroup.parse("cuda:1")


class Heard:
    """Calls back for every status, and remembers them."""

    def __init__(self, act: Callable[[EngineStatus], None] = lambda status: None) -> None:
        self.statuses: list[EngineStatus] = []
        self._act = act

    def on_event(self, event: Event) -> None:
        pass

    def on_status(self, status: EngineStatus) -> None:
        self.statuses.append(status)
        self._act(status)


# -- GPUs ----------------------------------------------------------------------------------------


def tell(monkeypatch: pytest.MonkeyPatch, **answers: Any) -> None:
    """Have torch.cuda answer so; an exception is raised."""

    def answer(value: Any) -> Callable[[torch.device], Any]:
        def ask(device: torch.device) -> Any:
            if isinstance(value, Exception):
                raise value
            return value

        return ask

    for name, value in answers.items():
        monkeypatch.setattr(torch.cuda, name, answer(value), raising=False)


class Properties:
    total_memory = 85_000_000_000


def test_a_gpu_is_read_as_far_as_it_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    tell(
        monkeypatch,
        utilization=87,
        device_memory_used=61_000_000_000,
        get_device_properties=Properties(),
        mem_get_info=AssertionError("takes memory of a GPU that another process works on"),
    )
    full = Gpu("cuda:0", 0.87, 61_000_000_000, 85_000_000_000)
    assert read_gpus(CUDA[:1]) == (full,)
    assert read_gpus((*CUDA, DeviceGroup.parse("cpu"))) == (
        full, Gpu("cuda:1", 0.87, 61_000_000_000, 85_000_000_000)
    )  # fmt: skip
    (both,) = read_gpus((DeviceGroup.parse("cuda:0+cuda:1"),))
    assert both == Gpu("cuda:0+cuda:1", 0.87, 122_000_000_000, 170_000_000_000)
    no_library = ModuleNotFoundError("nvidia-ml-py")
    tell(monkeypatch, utilization=no_library, device_memory_used=no_library)
    assert read_gpus(CUDA)[0] == Gpu("cuda:0", None, None, 85_000_000_000)
    tell(monkeypatch, mem_get_info=(25_000_000_000, 85_000_000_000))
    assert read_gpus(CUDA[:1]) == (Gpu("cuda:0", None, 60_000_000_000, 85_000_000_000),)


def test_a_gpu_that_cannot_be_asked_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = RuntimeError("CUDA error: the GPU has fallen off the bus")
    names = ("utilization", "device_memory_used", "get_device_properties", "mem_get_info")
    tell(monkeypatch, **dict.fromkeys(names, gone))
    assert read_gpus(CUDA[:1]) == (Gpu("cuda:0", None, None, None),)
    assert read_gpus((DeviceGroup.parse("cpu"),)) == ()


def test_readings_reach_readers_while_the_engine_works_and_not_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(0,))
    store, said = tmp_path / "study.zarr", list[str]()
    reading = Gpu("cpu", 0.87, 61_000_000_000, 85_000_000_000)
    monkeypatch.setattr(engine.workers.choice, "read_gpus", lambda devices: (reading,))

    def look(status: EngineStatus) -> None:
        if said or not status.works or status.works[0].state != State.SCORING:
            return

        def beaten() -> bool:
            seen = open_study(store).snapshot().engine
            return seen is not None and bool(seen.gpus) and bool(seen.works)

        until(beaten)  # the heart, with this in hand
        seen = open_study(store).snapshot().engine
        assert seen is not None
        assert (seen.gpus, seen.works[0].device) == ((reading,), "cpu")
        capsys.readouterr()
        assert run(["status", str(store)]) == 0
        said.append(capsys.readouterr().out)

    build_coordinator(load_study_file(write_study(tmp_path)), Heard(look)).run()
    assert "cpu 87% busy, 61 GB of 85 GB in use" in said[0]
    after = open_study(store).snapshot().engine
    assert after is not None
    assert (after.state, after.gpus) == ("finished", ())


# -- disk ----------------------------------------------------------------------------------------


def test_stored_and_projected_bytes_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(0, 10))
    heard = Heard()
    build_coordinator(load_study_file(write_study(tmp_path)), heard).run()
    snapshot = open_study(tmp_path / "study.zarr").snapshot()
    shards = (tmp_path / "study.zarr" / "models" / "m" / "log_probs").rglob("*")
    on_disk = sum(path.stat().st_size for path in shards if path.is_file())
    assert 0.9 * on_disk < snapshot.bytes_stored <= on_disk  # metadata are not counted
    entries = snapshot.n_tokens * snapshot.vocab_size
    assert heard.statuses[-1].bytes_projected == pytest.approx(4 * 1.3 * entries, rel=1e-4)
    capsys.readouterr()
    assert run(["status", "--json", str(tmp_path / "study.zarr")]) == 0
    assert json.loads(capsys.readouterr().out)["bytes_stored"] == snapshot.bytes_stored


def test_watching_projects_from_what_others_of_the_model_took() -> None:
    ledger = Ledger()
    for step in (0, 10):
        ledger.apply({"kind": "planned", "model": "m", "seed": "1", "steps": [step]})
        ledger.apply({"kind": "planned", "model": "m", "seed": "2", "steps": [step]})
    assert bytes_to_come(ledger, "all") is None
    scored = {"kind": "scored", "model": "m", "seed": "1", "log_probs": "dense"}
    ledger.apply({**scored, "step": 0, "bytes": 1000})
    assert bytes_to_come(ledger, "all") == 3000
    assert bytes_to_come(ledger, "until_reduced") == 2000
    ledger.apply({"kind": "failed", "model": "m", "seed": "2", "step": 0, "error": "x"})
    assert bytes_to_come(ledger, "all") == 2000
    ledger.apply({**scored, "step": 10, "bytes": 3000})
    assert bytes_to_come(ledger, "all") == 2000  # one, of 2000 on average
    assert ledger.bytes_stored == 4000
    ledger.apply({"kind": "pruned", "model": "m", "step": 10, "seeds": ["1"]})
    assert ledger.bytes_stored == 1000


def test_watching_what_is_listed_tells_a_projection(tmp_path: Path) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(0, 10))
    for folder in (tmp_path / "runs").glob("*/*"):
        (folder / "trainer_state.json").write_text("{}")
    file = write_study(tmp_path, models__seeds=["1", "2"], models__steps=[0, 10])
    heard = Heard()
    build_coordinator(load_study_file(file), heard).watch(until_complete=True, poll_seconds=0.01)
    told = [status.bytes_projected for status in heard.statuses]
    stored = open_study(tmp_path / "study.zarr").snapshot().bytes_stored
    assert told[0] is None
    assert told[-1] == stored
    assert all(size is None or size == pytest.approx(stored, rel=0.1) for size in told)


# -- duplicates ----------------------------------------------------------------------------------


def scored(ledger: Ledger, model: str, seed: str, step: int, fingerprint: str | None) -> None:
    ledger.apply({"kind": "axis", "model": model, "steps": [step], "seeds": [seed]})
    record = {"kind": "scored", "model": model, "seed": seed, "step": step}
    ledger.apply(record if fingerprint is None else {**record, "fingerprint": fingerprint})


def test_duplicates_follow_the_log_in_its_order() -> None:
    ledger = Ledger()
    scored(ledger, "b", "1", 10, "same")
    scored(ledger, "a", "1", 0, "same")
    scored(ledger, "b", "2", 0, "other")
    scored(ledger, "b", "1", 20, "same")
    scored(ledger, "b", "3", 0, None)
    scored(ledger, "b", "4", 0, None)
    assert ledger.duplicates("a") == {("1", 0): ("b", "1", 10)}
    assert ledger.duplicates("b") == {("1", 20): ("b", "1", 10)}
    assert ledger.duplicates("none such") == {}
    gone = {"kind": "forgotten", "model": "b", "step": 10, "seeds": ["1"], "what": "results"}
    ledger.apply(gone)
    assert ledger.duplicates("a") == {}  # the first that is left
    assert ledger.duplicates("b") == {("1", 20): ("a", "1", 0)}
    scored(ledger, "b", "1", 10, "new weights")
    assert ledger.duplicates("b") == {("1", 20): ("a", "1", 0)}
    ledger.apply({**gone, "step": 20, "what": "pairs"})
    assert ledger.duplicates("b") == {("1", 20): ("a", "1", 0)}
