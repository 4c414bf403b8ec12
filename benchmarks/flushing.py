"""What flushing side by side, and several summaries a commit, save: `-m benchmarks.flushing`.

Each of the steps is planned, and its checkpoints and pairs are committed; then all of them are
summarised, by two categories. Two ways take turns on the same numbers: files and folders flushed
one after the other and a commit for each step's summaries, as before; and now. Wall time, as the
disk is waited for, and CPU time: on this disk, and on one that takes 5 ms longer to flush anything,
as a file system in a network may.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.run import machine
from store.analysis import summarise
from store.storage import side_by_side
from store.writing import StepSummary
from tests.support.made_store import make_categories, open_writer, reduce, score

SEEDS = ("1", "2", "3", "4", "5")
AT_ONCE = 16  # steps that the engine summarises in one commit
NETWORK_SECONDS = 0.005


class Flushes:
    """Counts flushes; each takes that much longer."""

    def __init__(self, seconds: float) -> None:
        self.n, self._seconds, self._fsync = 0, seconds, os.fsync
        self._lock = threading.Lock()

    def __call__(self, descriptor: int) -> None:
        with self._lock:
            self.n += 1
        if self._seconds:
            time.sleep(self._seconds)
        self._fsync(descriptor)


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Have `owner` another attribute for a while."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def timed(flushes: Flushes, do: Callable[[], object]) -> tuple[float, float, int]:
    """Seconds of wall and of CPU, and flushes, that something takes."""
    start, cpu, n = time.perf_counter(), time.process_time(), flushes.n
    do()
    return time.perf_counter() - start, time.process_time() - cpu, flushes.n - n


def work(folder: Path, steps: int, *, threads: int, at_once: int, seconds: float) -> dict[str, Any]:
    """Seconds and flushes of one way."""
    flushes = Flushes(seconds)
    with (
        replaced(os, "fsync", flushes),
        replaced(side_by_side, "_THREADS", threads),
        tempfile.TemporaryDirectory(dir=folder) as scratch,
    ):
        writer = open_writer(Path(scratch) / "study.zarr")

        def fill() -> None:
            for step in range(steps):
                writer.plan("m", [(seed, step) for seed in SEEDS], {})
                for seed in SEEDS:
                    score(writer, "m", seed, step)
                reduce(writer, "m", step, SEEDS)

        filled = timed(flushes, fill)
        for category in make_categories():
            writer.summaries.set_category(category)
        study = writer.study()
        made = [
            StepSummary(step, SEEDS, *summarise(study, "m", step, SEEDS, make_categories()))
            for step in range(steps)
        ]

        def commit() -> None:
            for first in range(0, steps, at_once):
                writer.summaries.summarise_steps("m", made[first : first + at_once])

        committed = timed(flushes, commit)
        writer.close("finished")
    return {
        f"{what}_{name}": value / steps
        for what, (wall, cpu, n) in (("step", filled), ("summary", committed))
        for name, value in (("ms", 1000 * wall), ("cpu_ms", 1000 * cpu), ("flushes", n))
    }


def compare(folder: Path, steps: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Both ways in turns, the faster round of each, and their ratios."""
    best: dict[str, dict[str, Any]] = {}
    for _ in range(rounds):
        for name, threads, at_once in (("before", 1, 1), ("now", 8, AT_ONCE)):
            found = work(folder, steps, threads=threads, at_once=at_once, seconds=seconds)
            before = best.get(name, found)
            best[name] = {key: min(value, before[key]) for key, value in found.items()}
    return {
        name: {key: round(value, 2) for key, value in found.items()} for name, found in best.items()
    } | {
        f"{what}_over_before": round(best["now"][what] / best["before"][what], 3)
        for what in ("step_ms", "step_cpu_ms", "summary_ms", "summary_cpu_ms")
    }


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result: dict[str, Any] = {
            name: compare(Path(folder), options.steps, options.rounds, seconds)
            for name, seconds in (("this_disk", 0.0), ("network", NETWORK_SECONDS))
        }
    result |= {"steps": options.steps, "seeds": len(SEEDS)}
    print(json.dumps({"flushing": result, "machine": machine("cpu")}, indent=2))


if __name__ == "__main__":
    main()
