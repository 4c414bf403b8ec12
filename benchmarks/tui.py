"""What the terminal costs: `python -m benchmarks.tui`.

A made-up study of 5 models x 154 steps x 10 seeds, half scored, in a terminal that only counts.
Measures the start, the time from a key to the bytes that answer it, the bytes of a refresh in
16M colours, and the memory of the whole process. Prints JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import sys
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from store.errors import StoreError
from store.snapshot import EngineStatus, JournalEntry, ModelSnapshot, Phase, State, StudySnapshot

if TYPE_CHECKING:
    from seedconv_tui.app import SeedconvApp
    from seedconv_tui.source import SnapshotSource

STEPS = np.array([0, *(2**k for k in range(10)), *range(1000, 144_000, 1000)], dtype=np.int64)
SEEDS = 10
PHASES = ("uniform", 0), ("sharp convergence", 16), ("sharp divergence", 256), ("slow", 2000)
SIZES = (80, 24), (200, 50)
RUNS_KEYS = ["right", "down", "left", "up"] * 25
CURVES_KEYS = ["left"] * 40 + ["right"] * 40 + ["plus"] * 5 + ["H"] * 5 + ["minus"] * 5 + ["y"] * 5


class Source:
    """A study that is one step further each time it is asked."""

    def __init__(self, done: int) -> None:
        rng = np.random.default_rng(0)
        self.done = done
        knots = np.log10(np.array([0, 16, 256, 2000, 143_000]) + 1.0)
        curve = np.interp(np.log10(STEPS + 1), knots, [0.02, 0.3, 0.15, 0.6, 0.35])
        shape = (len(STEPS), SEEDS, SEEDS)
        self._kl = [
            curve[:, None, None] * (1 - 0.15 * number) * (1 + 0.1 * rng.standard_normal(shape))
            for number in range(5)
        ]
        self._loss = rng.uniform(3, 4, (len(STEPS), SEEDS))

    def snapshot(self) -> StudySnapshot:
        """The study with `done` steps of every model reduced; then one more."""
        models = tuple(self._model(number) for number in range(5))
        entry = JournalEntry(time.time(), "info", "reduced", f"reduced step {STEPS[self.done]}")
        engine = EngineStatus("engine", "host", 1, time.time(), time.time(), "working", queued=9)
        study = StudySnapshot(Path("study"), "pythia", 4096, 50_277, self.done, models)
        self.done += 1
        return replace(study, engine=engine, journal=(entry,) * 300)

    def study(self) -> NoReturn:
        """There is no store behind this study."""
        raise StoreError("made up, without details")

    def _model(self, number: int) -> ModelSnapshot:
        later = np.arange(len(STEPS)) >= self.done
        kl, loss = self._kl[number].copy(), self._loss.copy()
        kl[:, range(SEEDS), range(SEEDS)] = np.nan
        kl[later], loss[later] = np.nan, np.nan
        state = np.full(loss.shape, State.DONE, np.uint8)
        state[later] = State.QUEUED
        seeds = tuple(str(seed) for seed in range(SEEDS))
        floor = np.full(len(STEPS), 1e-5)
        phases = tuple(Phase(name, start) for name, start in PHASES)
        name = ("14m", "31m", "70m", "160m", "410m")[number]
        middle = np.array([np.nanmean(row) if np.isfinite(row).any() else np.nan for row in kl])
        return ModelSnapshot(
            f"pythia-{name}",
            seeds,
            STEPS,
            state,
            kl,
            loss,
            loss,
            storage_floor=floor,
            noise_floor=floor,
            kl_interval=np.stack([middle * 0.8, middle * 1.2], axis=1),
            phases=phases,
        )


class Meter:
    """The app in a terminal of a size, and what was sent to that."""

    def __init__(self, size: tuple[int, int], source: SnapshotSource) -> None:
        from textual.drivers.headless_driver import HeadlessDriver

        from seedconv_tui.app import SeedconvApp
        from seedconv_tui.wire import lean_driver

        meter = self

        class Terminal(HeadlessDriver):
            is_headless = False  # type: ignore[assignment]  # Textual paints for this one

            def write(self, data: str) -> None:
                meter.sent += len(data.encode())
                meter.text += data
                meter.painted.set()

        self.sent, self.text, self.painted = 0, "", asyncio.Event()
        self.app: SeedconvApp = SeedconvApp(source, poll_seconds=86_400)
        self.app.driver_class = lean_driver(Terminal)
        self.size = size

    async def quiet(self) -> None:
        """Waits until nothing more is sent, and forgets what was."""
        before = -1
        while self.sent != before:
            before = self.sent
            await asyncio.sleep(0.1)
        self.sent, self.text = 0, ""
        self.painted.clear()

    async def shows(self, words: str) -> None:
        """Waits until some words have been sent."""
        while words not in self.text:
            self.painted.clear()
            await self.painted.wait()

    async def key(self, key: str) -> float:
        """Milliseconds from a key to the end of the first write after it."""
        from textual.events import Key

        self.painted.clear()
        start = time.perf_counter()
        self.app.post_message(Key(key, None))
        await asyncio.wait_for(self.painted.wait(), 5)
        taken = 1e3 * (time.perf_counter() - start)
        await self.quiet_soon()
        return taken

    async def quiet_soon(self) -> None:
        """Lets the app finish with one key before the next."""
        await asyncio.sleep(0.03)

    async def arrival(self) -> int:
        """Bytes sent for one more step of every model."""
        await self.quiet()
        self.app.poll()
        await self.painted.wait()
        await asyncio.sleep(0.1)
        return self.sent


async def measure(size: tuple[int, int], started: float | None) -> dict[str, float]:
    """Everything at one size; `started` is when the program began, if that is to be told."""
    meter = Meter(size, Source(len(STEPS) // 2))
    result: dict[str, float] = {}
    async with meter.app.run_test(size=size, headless=False):
        await meter.shows("done")
        if started is not None:
            result["start_to_paint_s"] = round(time.perf_counter() - started, 3)
        result["runs_arrival_bytes"] = max([await meter.arrival() for _ in range(10)])
        runs = [await meter.key(key) for key in RUNS_KEYS]
        await meter.quiet()
        await meter.key("2")
        await asyncio.sleep(0.1)
        result["curves_whole_screen_bytes"] = meter.sent
        result["curves_arrival_bytes"] = max([await meter.arrival() for _ in range(10)])
        await meter.quiet()
        curves = [await meter.key(key) for key in CURVES_KEYS]
        result["curves_key_bytes"] = round(meter.sent / len(CURVES_KEYS))
        result["runs_key_ms_p95"] = round(float(np.percentile(runs, 95)), 1)
        result["curves_key_ms_p95"] = round(float(np.percentile(curves, 95)), 1)
    return result


def resident_mb() -> float:
    """Memory of this process that is in use now, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def main() -> None:
    """Measures all and prints it."""
    os.environ |= {"COLORTERM": "truecolor", "TERM": "xterm-256color"}
    started = time.perf_counter()
    result: dict[str, object] = {}
    for number, size in enumerate(SIZES):
        name = f"{size[0]}x{size[1]}"
        result[name] = asyncio.run(measure(size, started if number == 0 else None))
    result["resident_mb"] = resident_mb()
    machine = f"{os.cpu_count()} cores {platform.machine()}"
    versions = {"python": sys.version.split()[0], "textual": version("textual")}
    print(json.dumps({"tui": result, "machine": machine, "versions": versions}, indent=2))


if __name__ == "__main__":
    main()
