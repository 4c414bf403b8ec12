"""Commands run and measured, and the figures as JSON: what the engine's benchmarks share.

Imports nothing heavy, so that the memory of a child is its own: on Linux a child starts with its
parent's as its peak.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.study import Study, prepare

SEEDCONV = (sys.executable, "-m", "seedconv_tui.cli.main")
_VERSIONS = ("torch", "transformers", "zarr", "numcodecs", "numpy")


@dataclass(frozen=True)
class Measured:
    """A command that ended well, and what it told: one JSON object a line, with its time."""

    started: float  # unix time
    seconds: float
    peak_mb: float  # most memory resident at once, of the command or the largest of its children
    events: tuple[dict[str, Any], ...]
    processor_seconds: float  # of all its threads, and of its children that ended

    @property
    def start_up(self) -> float:
        """Seconds until it first said something: all is imported by then, and the text is read."""
        return float(self.events[0]["time"]) - self.started

    @property
    def work(self) -> float:
        """Seconds after the start-up."""
        return self.seconds - self.start_up

    def seconds_to_last(self, event: str) -> float:
        """Seconds from the end of the start-up to the last event of a name."""
        times = [float(found["time"]) for found in self.events if found["event"] == event]
        return max(times) - self.started - self.start_up


def measure(command: Sequence[str]) -> Measured:
    """Run a command that writes its events to stderr. Ends the benchmark when it fails."""
    with tempfile.TemporaryFile("w+") as stderr:
        started, clock = time.time(), time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - clock
        process.returncode = os.waitstatus_to_exitcode(status)
        stderr.seek(0)
        lines = stderr.read().splitlines()
    if process.returncode:
        sys.exit("\n".join([*lines[-20:], f"failed: {' '.join(command)}"]))
    found = [json.loads(line) for line in lines if line.startswith("{")]
    events = tuple(event for event in found if "time" in event)
    unit = 1024**2 if sys.platform == "darwin" else 1024  # of ru_maxrss
    processor = usage.ru_utime + usage.ru_stime
    return Measured(started, seconds, usage.ru_maxrss / unit, events, processor)


def run_study(study: Study) -> Measured:
    """`seedconv run` on a study that has no store yet."""
    shutil.rmtree(study.store, ignore_errors=True)
    return measure([*SEEDCONV, "run", "--json", str(study.write())])


def least_cpu_seconds(work: Callable[[], object], rounds: int) -> float:
    """Return the least processor time of some rounds, after one that does not count."""
    work()
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return min(taken)


# -- options and results -------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser, *, tokens: int) -> None:
    """The options that every benchmark of the engine takes."""
    parser.add_argument(
        "--dir", type=Path, help="folder for checkpoints and stores, kept and used again"
    )
    parser.add_argument("--device", default="cpu", help='as in study files: "cpu" or "cuda"')
    parser.add_argument("--tokens", type=int, default=tokens, help=f"corpus size ({tokens:,})")


def add_save(parser: argparse.ArgumentParser) -> None:
    """The option to keep the results."""
    parser.add_argument(
        "--save", action="store_true", help="write the results to benchmarks/results/ as well"
    )


@contextlib.contextmanager
def checkpoints(options: argparse.Namespace) -> Iterator[Path]:
    """The folder with the checkpoints, made when there are none; by default for this run alone."""
    with contextlib.ExitStack() as stack:
        folder = options.dir or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        prepare(folder)
        yield folder


def report(name: str, result: dict[str, Any], options: argparse.Namespace) -> None:
    """Print a benchmark's figures with the machine; keep them where `--save` asks for it."""
    found = {name: result, "machine": machine(options.device), "versions": package_versions()}
    print(json.dumps(found, indent=2))
    if options.save:
        save(name, found)


def package_versions() -> dict[str, str]:
    """Versions of Python and of what the figures depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in _VERSIONS}}


def save(name: str, found: dict[str, Any]) -> None:
    """Keep what a benchmark printed in benchmarks/results/, one file a benchmark and machine."""
    on = found["machine"]
    label = f"{on['cores']}-core {on['arch']} {on.get('gpu', 'cpu')}"
    file = f"{name}-{re.sub(r'[^a-z0-9_]+', '-', label.lower()).strip('-')}.json"
    text = json.dumps(found, indent=2)
    (Path(__file__).parent / "results" / file).write_text(text + "\n", encoding="utf-8")


def run_module(name: str, arguments: Sequence[str], device: str) -> dict[str, Any] | None:
    """Run one benchmark and print what it prints; None when it fails.

    To its machine is added how many cores others kept busy meanwhile.
    """
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    before, clock = _busy(), time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    others = _busy() - before
    if done.returncode:
        print(done.stdout, flush=True)
        return None
    found: dict[str, Any] = json.loads(done.stdout)
    if name not in found:
        print(f"benchmarks.{name}: prints nothing under its name", file=sys.stderr, flush=True)
        return None
    on = found["machine"] if isinstance(found.get("machine"), dict) else {}
    on = machine(device if on.get("device", "cpu") != "cpu" else "cpu") | on
    on["others_cores"] = round(max(0.0, others / (time.monotonic() - clock)), 2)
    found |= {"machine": on, "versions": package_versions() | found.get("versions", {})}
    print(json.dumps(found, indent=2), flush=True)
    return found


def _busy() -> float:
    """Processor seconds of all but this process and what it has run."""
    import psutil

    every, own = psutil.cpu_times(), os.times()
    mine = own.user + own.system + own.children_user + own.children_system
    return float(every.user + every.nice + every.system - mine)


def machine(device: str) -> dict[str, Any]:
    """What the figures depend on; neither names nor paths."""
    machine: dict[str, Any] = {"arch": platform.machine(), "cores": os.cpu_count()}
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"^model name\s*: (.+)$", cpuinfo.read_text(), re.MULTILINE)
        machine |= {"cpu": found[1]} if found else {}
    if device != "cpu":
        import torch  # by now everything is measured

        machine["gpu"] = torch.cuda.get_device_name(device)
    return machine | {"device": device, "load_before": round(_LOAD, 2)}


_LOAD = os.getloadavg()[0]  # of others, in processes: a busy machine shows in the results
