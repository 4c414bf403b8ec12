"""What is left to others on the machine: priority, threads, memory, and waiting for them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

import engine.machine.gate
from engine.coordination.build import build_coordinator
from engine.errors import Interrupted
from engine.machine.gate import (
    EVERY_SECONDS,
    LOW_AFTER_WAIT,
    LOW_AT_FIRST,
    READ_SECONDS,
    REST_SECONDS,
    Gate,
    Meter,
    OthersOnCpu,
)
from engine.study_file.file import load_study_file
from engine.study_file.limits_section import LimitsSection
from seedconv_tui.cli.main import run
from seedconv_tui.cli.study_status import status_text
from store import open_study
from store.schema import State, Work
from tests.support.deadline import DEADLINE
from tests.support.listening import Heard
from tests.support.made_store import committed
from tests.support.tiny_models import TEXT, make_runs, make_tokenizer, write_study

pytestmark = pytest.mark.long

WORK = Work("m", "1", 0, State.SCORING, 0, 100)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    make_runs(folder, seeds=("1", "2"))
    return folder


# -- what is asked for -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--nice", "20"], "--nice: should be less than or equal to 19, found 20"),
        (["--threads", "0"], "--threads: should be greater than or equal to 1, found 0"),
        (["--memory-gb", "0.01"], "limits.memory_gb: the engine alone takes"),
        (["--cpu-below", "101"], "--cpu-below: should be less than or equal to 100, found 101.0"),
        (["--gpu-below", "50"], "limits.gpu_below: the study is scored on the CPU"),
        (["--gpu-memory-gb", "4"], "limits.gpu_memory_gb: the study is scored on the CPU"),
    ],
)
def test_what_cannot_be_is_refused(
    made: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_study(made, study__store="refused.zarr")
    assert run(["run", str(file), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (made / "refused.zarr").exists()


def test_a_unit_is_an_error_that_names_option_or_field(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_study(made)
    with pytest.raises(SystemExit, match="2"):
        run(["run", str(file), "--memory-gb", "8GB"])
    assert "argument --memory-gb: invalid float value: '8GB'" in capsys.readouterr().err
    file.write_text(file.read_text() + '[limits]\nmemory_gb = "8GB"\nbatch = 1\n')
    assert run(["run", str(file)]) == 2
    found = capsys.readouterr().err
    assert "limits.memory_gb: should be a valid number, found '8GB'" in found
    assert "limits.batch: no such field; allowed: nice, threads, memory_gb" in found


def test_processes_share_what_there_is() -> None:
    limits = LimitsSection(threads=5, memory_gb=4.0, gpu_memory_gb=12.0, nice=3)
    each = limits.shared(3, on_one_gpu=2, taken=10**9)
    assert each == LimitsSection(threads=1, memory_gb=1.0, gpu_memory_gb=6.0, nice=3)
    assert LimitsSection().shared(3, 2, 10**9) == LimitsSection()


# -- priority and threads: seen from outside, thread by thread ---------------------------------


def tasks(process: psutil.Popen) -> Iterator[tuple[int, int, float, int]]:
    """(process, thread, seconds of a core, niceness) of everything that an engine runs just now."""
    for one in (process, *process.children(recursive=True)):
        for task in Path(f"/proc/{one.pid}/task").iterdir():
            fields = (task / "stat").read_text().rpartition(")")[2].split()
            ticks = int(fields[11]) + int(fields[12])
            yield one.pid, int(task.name), ticks / os.sysconf("SC_CLK_TCK"), int(fields[16])


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are listed on Linux")
@pytest.mark.parametrize(("device", "threads", "working"), [("cpu", 1, 1), ("cpu,cpu", 2, 2)])
def test_every_thread_is_nice_and_only_so_many_compute(
    tmp_path: Path, device: str, threads: int, working: int
) -> None:
    vocab = make_tokenizer(tmp_path / "tokenizer").get_vocab_size()
    (tmp_path / "text.txt").write_text(TEXT * 20, encoding="utf-8")
    config = GPTNeoXConfig(  # large enough for torch to share its products out among threads
        vocab_size=vocab, hidden_size=768, intermediate_size=3072, num_hidden_layers=3,
        num_attention_heads=4, max_position_embeddings=256,
    )  # fmt: skip
    for seed in (1, 2):
        GPTNeoXForCausalLM(config).save_pretrained(tmp_path / f"runs/seed{seed}/step0")
    file = write_study(
        tmp_path, corpus__max_tokens=2000, scoring__window=256, scoring__overlap=128,
        scoring__device=device,
    )  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    command = [sys.executable, "-m", "seedconv_tui.cli.main", "run", str(file)]
    asked = min(os.nice(0) + 7, 19)
    command += ["--nice", str(asked), "--threads", str(threads)]
    seconds: dict[tuple[int, int], float] = {}
    niceness: set[int] = set()
    process = psutil.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    while process.poll() is None:
        try:
            for pid, task, spent, nice in tasks(process):
                seconds[pid, task] = spent
                if spent > 0.5 or pid != process.pid:  # has the study file been read?
                    niceness.add(nice)
        except (OSError, psutil.NoSuchProcess):  # one ended meanwhile
            continue
        time.sleep(0.01)
    assert process.returncode == 0, process.stderr and process.stderr.read()
    assert max(niceness) == asked
    assert niceness - {os.nice(0)} == {asked}  # before the study file is read, as tests run
    busiest = sorted(seconds.values(), reverse=True)
    # Next to those that compute: one that reads the next weights, and the coordinator of several.
    others = busiest[working + (device == "cpu,cpu") :]
    assert max(others) < 0.15 * busiest[0], seconds


# -- memory ------------------------------------------------------------------------------------


def test_batches_are_made_to_fit_and_what_cannot_is_refused(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = write_study(made, study__store="plain.zarr")
    assert run(["run", str(plain)]) == 0
    taken = psutil.Process().memory_info().rss / 1e9
    file = write_study(made, study__store="small.zarr")
    assert run(["run", str(file), "--memory-gb", str(taken + 0.5)]) == 0
    ours, theirs = open_study(made / "small.zarr"), open_study(made / "plain.zarr")
    ours_kl, theirs_kl = ours.dataset("m").mean_kl, theirs.dataset("m").mean_kl
    assert abs(ours_kl - theirs_kl).max() < 1e-5
    capsys.readouterr()
    n_bytes = 2 * 10**9
    weights = made / "runs" / "seed1" / "step0" / "model.safetensors"
    kept = weights.read_bytes()
    try:  # none of which takes room on the disk, or gets read
        header = f'{{"w":{{"dtype":"F32","shape":[{n_bytes // 4}],"data_offsets":[0,{n_bytes}]}}}}'
        with weights.open("wb") as stream:
            stream.write(len(header).to_bytes(8, "little") + header.encode())
            stream.truncate(8 + len(header) + n_bytes)
        file = write_study(made, study__store="refusing.zarr")
        taken = psutil.Process().memory_info().rss / 1e9
        assert run(["run", str(file), "--memory-gb", str(taken + 0.5)]) == 1
    finally:
        weights.write_bytes(kept)
    told = capsys.readouterr().err
    assert "step0: reading its weights takes 4 GB of memory, and limits.memory_gb leaves 0." in told
    assert "3 checkpoints scored" in told


# -- waiting for others ------------------------------------------------------------------------


class Machine:
    """Others whose use of a GPU is a function of time; a clock that only sleeping moves."""

    def __init__(self, *busy: tuple[float, float]) -> None:
        self.busy, self.now, self.reads = busy, 0.0, 0
        self.ours = -100.0  # when our last kernel ended
        self.works: list[tuple[float, str]] = []
        self.gate = Gate(
            [Meter("GPU", self.read, 50.0, rest=True)],
            lambda work: self.works.append((self.now, work.paused)),
            sleep=self.sleep,
            clock=lambda: self.now,
        )

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def read(self) -> float:
        """As the driver does: over the last second, of any process."""
        self.reads += 1
        assert self.now - self.ours >= 1.0, "that is our own work"
        return 97.0 if any(start <= self.now < stop for start, stop in self.busy) else 3.0

    def work(self, seconds: float) -> None:
        """A block of ours, and its report."""
        self.now += seconds
        self.ours = self.now
        self.gate(WORK)


def test_work_waits_until_others_have_been_quiet_for_a_while() -> None:
    machine = Machine((0.0, 20.0), (22.0, 40.0))  # with a pause to save, shorter than it takes
    machine.work(0.0)
    assert 40.0 + (LOW_AFTER_WAIT - 1) * READ_SECONDS <= machine.now < 48.0
    assert (REST_SECONDS, "") not in machine.works
    assert {paused for _, paused in machine.works} == {"", "GPU at 97 % by others"}
    assert machine.works[-1][1] == ""


def test_it_is_looked_seldom_and_only_while_we_rest() -> None:
    machine = Machine()
    machine.work(0.0)
    assert machine.now == pytest.approx(REST_SECONDS + (LOW_AT_FIRST - 1) * READ_SECONDS)
    before, reads = machine.now, machine.reads
    for _ in range(int(EVERY_SECONDS) - 1):
        machine.work(1.0)
    assert machine.reads == reads
    assert machine.now - before == EVERY_SECONDS - 1
    machine.work(1.5)
    assert machine.reads > reads
    machine.busy = ((machine.now, machine.now + 100.0),)
    end = machine.busy[0][1]
    while machine.now < end:  # training begins in the middle of a pass
        machine.work(1.0)
        assert machine.now > end or machine.works[-1][1] == ""
    worked = [at for at, paused in machine.works if not paused and end - 100.0 < at < end]
    assert max(worked) < end - 100.0 + EVERY_SECONDS + 5.0


def test_it_stops_while_it_waits() -> None:
    machine = Machine((0.0, 1e9))

    def stop_at_ten(work: Work) -> None:
        if machine.now >= 10.0:
            raise Interrupted("stop")

    meters = [Meter("GPU", machine.read, 50.0, rest=True)]
    gate = Gate(meters, stop_at_ten, sleep=machine.sleep, clock=lambda: machine.now)
    with pytest.raises(Interrupted):
        gate(WORK)
    assert machine.now < 10.3


def test_what_cannot_be_read_counts_as_busy() -> None:
    readings = iter([None, None, *[1.0] * 9])
    shown: list[str] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    meters = [Meter("GPU", lambda: next(readings), 50.0)]
    gate = Gate(meters, lambda work: shown.append(work.paused), sleep=sleep, clock=lambda: now[0])
    gate(WORK)
    assert "use of the GPU cannot be read" in shown
    assert shown[-1] == ""


def test_an_engine_that_waits_says_so_and_goes_on(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = iter([97.0] * 3 + [2.0] * 100)
    monkeypatch.setattr(OthersOnCpu, "percent", lambda self: next(readings))
    monkeypatch.setattr(engine.machine.gate, "READ_SECONDS", 0.01)
    store = made / "waiting.zarr"
    file = load_study_file(write_study(made, study__store=store.name))
    file = file.model_copy(update={"limits": LimitsSection(cpu_below=50)})
    heard = Heard()
    totals = build_coordinator(file, heard).run()
    assert (totals.scored, totals.failed) == (4, 0)
    waiting = [status for status in heard.statuses if status.message]
    assert {status.message for status in waiting} == {"CPU at 97 % by others"}
    assert {status.state for status in waiting} == {"waiting"}
    assert heard.of("paused") == ["cpu: waits: CPU at 97 % by others"]
    assert heard.of("resumed") == ["cpu: continues"]
    assert heard.statuses[-1].message == ""
    assert run(["run", str(write_study(made, study__store="at-once.zarr"))]) == 0
    assert committed(open_study(store)) == committed(open_study(made / "at-once.zarr"))


def test_an_engine_that_waits_stops_when_asked(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OthersOnCpu, "percent", lambda self: 97.0)
    monkeypatch.setattr(engine.machine.gate, "READ_SECONDS", 100 * DEADLINE)
    file = load_study_file(write_study(made, study__store="stopped.zarr"))
    file = file.model_copy(update={"limits": LimitsSection(cpu_below=50)})
    stop, seen = threading.Event(), []

    def act(status: object) -> None:
        if getattr(status, "message", "") and not stop.is_set():
            snapshot = open_study(made / "stopped.zarr").snapshot()
            seen.append((time.monotonic(), status_text(snapshot)))
            stop.set()

    with pytest.raises(Interrupted):
        build_coordinator(file, Heard(act), stop=stop).run()
    assert time.monotonic() - seen[0][0] < DEADLINE  # a reading is further away by far
    assert open_study(made / "stopped.zarr").snapshot().engine.state == "stopped"


BURN = "import time\nwhile time.process_time() < 0.6: pass\nprint('done', flush=True)\ninput()"


def test_what_the_engine_takes_of_the_cpu_is_not_others() -> None:
    """A child's time is ours, also when it has ended; a process that is not ours is another's."""
    meter = OthersOnCpu()
    before = meter._now()
    child = subprocess.Popen([sys.executable, "-c", BURN], stdin=-1, stdout=-1, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "done\n"
    assert meter._now()[2] - before[2] >= 0.5
    child.communicate("\n")
    assert meter._now()[2] - before[2] >= 0.5
    meter.percent()
    before = meter._now()
    script = f'{sys.executable} -c "{BURN.replace("input()", "")}" &'
    subprocess.run(["sh", "-c", script], check=True, stdout=subprocess.PIPE)
    now = meter._now()
    others = (now[1] - before[1]) - (now[2] - before[2])
    assert others >= 0.4
