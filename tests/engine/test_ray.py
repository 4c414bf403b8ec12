"""A Ray cluster of two machines, both this one: the same results, also when one is lost."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import xarray

from seedconv_tui.cli.main import run
from store import open_study
from tests.support.deadline import DEADLINE
from tests.support.gated_engine import Gate
from tests.support.made_store import committed, expect_nothing_uncommitted
from tests.support.tiny_models import TEXT, make_runs, write_study

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])  # for the machines of the cluster too

from ray.cluster_utils import Cluster

pytestmark = pytest.mark.long

STORE_BYTES = 80 * 2**20


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Checkpoints, and what one device makes of them: `study.zarr`."""
    folder = tmp_path_factory.mktemp("made")
    make_runs(folder, seeds=("1", "2", "3"), steps=tuple(range(0, 60, 10)))
    (folder / "text.txt").write_text(TEXT * 20, encoding="utf-8")
    pairs = '{"sentence_good": "The seeds are.", "sentence_bad": "The seeds is.", "UID": "t"}\n'
    (folder / "pairs").mkdir()
    (folder / "pairs/t.jsonl").write_text(pairs * 50)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as many as each worker has: sums are added in one order
    assert run(["run", str(study(folder))]) == 0
    yield folder
    torch.set_num_threads(threads)


def study(folder: Path, store: str = "study.zarr", **changes: object) -> Path:
    file = write_study(folder, study__store=store, corpus__max_tokens=6000, **changes)
    probe = '\n[[probes]]\nname = "pairs"\nkind = "blimp"\nfolder = "pairs"\n'
    file.write_text(file.read_text() + probe)
    return file


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head that does no work itself; machines join it."""
    cluster = Cluster()
    cluster.add_node(num_cpus=0, object_store_memory=STORE_BYTES, include_dashboard=False)
    yield cluster
    cluster.shutdown()


class Engine:
    """A command at work on the cluster, in a process of its own."""

    def __init__(
        self, command: str, file: Path, address: str, *options: str, gate: Gate | None = None
    ) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [
                *(gate.command if gate else (sys.executable, "-m", "seedconv_tui.cli.main")),
                command,
                *(file.name, "--ray", address, *options),
            ],
            cwd=file.parent,  # paths are relative to it, on every machine
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(gate.environ if gate else {})},
        )

    def read_until(self, part: str) -> str:
        """The next line that holds `part`; the deadline is that of the test."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if part in line:
                return line
        raise AssertionError("".join(self.lines))

    def wait(self) -> int:
        assert self.process.stderr is not None
        self.lines += self.process.stderr.readlines()
        return self.process.wait(DEADLINE)

    def told(self, part: str) -> list[str]:
        return [line for line in self.lines if part in line]


def processes(machine: Any) -> dict[int, str]:
    """What runs on a machine next to Ray's own process, whose children they are, by name."""
    (raylet,) = [process.pid for name, process in machine.live_processes() if name == "raylet"]
    children = Path(f"/proc/{raylet}/task/{raylet}/children").read_text().split()
    return {int(pid): Path(f"/proc/{pid}/cmdline").read_text() for pid in children}


def lose(cluster: Cluster, machine: Any) -> None:
    """End everything that runs on a machine at once."""
    children = processes(machine)
    cluster.remove_node(machine, allow_graceful=False)
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def test_machines_come_and_go_and_the_results_are_the_same(
    made: Path, tmp_path: Path, cluster: Cluster
) -> None:
    """One hangs at work while another joins, and is lost; then the other, when a third has come."""
    shutil.copytree(made, tmp_path / "s", ignore=shutil.ignore_patterns("*.zarr"))
    folder, late = tmp_path / "s", tmp_path / "late"
    late.mkdir()
    for step in (folder / "runs").glob("*/step*"):
        (step / "trainer_state.json").write_text("{}")
    for step in (folder / "runs").glob("*/step[345]0"):
        step.rename(late / f"{step.parent.name}-{step.name}")
    first = cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
    file = study(folder, models__seeds=["1", "2", "3"], models__steps=list(range(0, 60, 10)))
    engine = Engine("watch", file, cluster.address, "--until-complete")
    engine.read_until(" scored ")
    (actor,) = [pid for pid, name in processes(first).items() if name.startswith("ray::_Actor")]
    os.kill(actor, signal.SIGSTOP)
    second = cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
    engine.read_until(": joined")
    lose(cluster, first)
    for _ in range(3):
        engine.read_until(" compared ")
    cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
    lose(cluster, second)
    for step in late.iterdir():
        step.rename(folder / "runs" / step.name.replace("-", "/"))
    assert engine.wait() == 0, engine.lines
    told = engine.told(" warning ")
    assert len(told) == 2, told
    for line in told:
        assert "the machine left the cluster" in line or "its process ended" in line
        assert "it is planned again" in line or "going on without it" in line
    assert len(engine.told(": joined")) == 2
    assert len(engine.told(" probed m, seed ")) == 18
    found = open_study(folder / "study.zarr")
    assert committed(found) == committed(open_study(made / "study.zarr"))
    shown = found.snapshot().engine
    assert shown is not None
    assert (shown.state, shown.works) == ("finished", ())
    assert shown.device == "Ray cluster: 1 machine, 1 CPUs"


def test_a_stop_ends_the_work_in_the_cluster(made: Path, tmp_path: Path, cluster: Cluster) -> None:
    store = made / "stopped.zarr"
    gate = Gate(tmp_path, store, after=1)
    engine = Engine("run", study(made, store.name), cluster.address, gate=gate)
    with gate.reached(engine.process):
        engine.process.terminate()
        engine.read_until("stopping; once more to stop at once")
    assert engine.wait() == 130
    assert not engine.told("did not end in time")
    snapshot = open_study(store).snapshot()
    assert snapshot.engine is not None
    assert snapshot.engine.state == "stopped"
    expect_nothing_uncommitted(store)
    assert run(["run", str(study(made, store.name))]) == 0
    assert committed(open_study(store)) == committed(open_study(made / "study.zarr"))


def test_machines_find_the_loader_beside_the_study_file(made: Path, cluster: Cluster) -> None:
    (made / "ray_loader.py").write_text(
        "from transformers import AutoModelForCausalLM\n\n"
        "def load(path, *, model, seed, step, device, cache):\n"
        "    return AutoModelForCausalLM.from_pretrained(path).to(device)\n"
    )
    cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
    file = study(made, "loader.zarr", models__loader="ray_loader:load", models__steps=[0, 10])
    engine = Engine("run", file, cluster.address)
    assert engine.wait() == 0, engine.lines
    found, expected = (
        open_study(made / name).dataset("m").sel(step=[0, 10]).mean_kl.load()
        for name in ("loader.zarr", "study.zarr")
    )
    xarray.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--ray", "127.0.0.1:{port}"], "--ray: no cluster answers at '127.0.0.1:{port}'; start"),
        (["--ray", "nowhere"], "--ray: no cluster answers at 'nowhere'; start"),
        (["--ray", "auto", "--device", "cpu,cpu"], "scoring.device: with --ray it should be"),
    ],
)
def test_what_cannot_be_joined_is_told_at_once(
    made: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # nobody listens there once it is closed
    file = study(made, "none.zarr")
    assert run(["run", str(file), *(part.format(port=port) for part in arguments)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"seedconv: {said.format(port=port)}")
    assert not (made / "none.zarr").exists()
