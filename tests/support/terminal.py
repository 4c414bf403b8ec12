"""What the tests of the terminal share: hand-made studies, a source that holds them, a screen."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from textual.drivers.headless_driver import HeadlessDriver
from textual.pilot import Pilot
from textual.widget import Widget

from seedconv_tui.monitor.app import SeedconvApp
from seedconv_tui.monitor.lean_output import lean_driver
from seedconv_tui.monitor.screens import SCREENS as NAMES
from seedconv_tui.monitor.screens import screen_class
from store import StoreError, Study
from store.schema import (
    EngineStatus,
    JournalEntry,
    ModelSnapshot,
    Phase,
    State,
    StudySnapshot,
    Work,
)
from tests.support.brisk_textual import make_textual_brisk
from tests.support.deadline import DEADLINE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from threading import Thread

    from textual.message_pump import MessagePump

    from seedconv_tui.monitor.common.study_screen import StudyScreen
    from seedconv_tui.monitor.data.remembered import Memory

make_textual_brisk()
Pilot._wait_for_screen.__defaults__ = (DEADLINE,)  # a screen may take its time, not 30 seconds
SCREENS = tuple(screen_class(name) for name in NAMES)
START = 1_000_000.0
STEPS = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000]
PHASES = (Phase("uniform", 0), Phase("sharp convergence", 16), Phase("sharp divergence", 256))


def make_model(
    name: str = "pythia-14m",
    *,
    steps: Sequence[int] = STEPS,
    n_seeds: int = 3,
    n_done: int | None = None,
    failed: tuple[int, int] | None = None,
    error: str = "CUDA out of memory",
) -> ModelSnapshot:
    """A model of which the first `n_done` steps are reduced; the KL at position t is (t + 1) / 10.

    Pairs differ by 0.01 up and down; with 3 seeds, the interval is 0.05 to each side. `failed` is
    a (step position, seed position).
    """
    n_done = len(steps) if n_done is None else n_done
    shape = (len(steps), n_seeds)
    state = np.full(shape, State.QUEUED, np.uint8)
    state[:n_done] = State.DONE
    kl = np.full((*shape, n_seeds), np.nan)
    cross_entropy, entropy = np.full(shape, np.nan), np.full(shape, np.nan)
    for t in range(n_done):
        kl[t] = (t + 1) / 10 - 0.01
        kl[t][np.triu_indices(n_seeds)] += 0.02
        np.fill_diagonal(kl[t], np.nan)
        cross_entropy[t] = 5 + np.arange(n_seeds)
        entropy[t] = 4 + np.arange(n_seeds)
    interval = np.full((len(steps), 2), np.nan)
    if n_seeds > 2:
        interval[:n_done] = (np.arange(n_done)[:, None] + 1) / 10 + [-0.05, 0.05]
    errors = {}
    if failed is not None:
        state[failed] = State.FAILED
        errors[str(failed[1] + 1), steps[failed[0]]] = error
    return ModelSnapshot(
        name,
        tuple(str(seed + 1) for seed in range(n_seeds)),
        np.array(steps, np.int64),
        state,
        kl,
        cross_entropy,
        entropy,
        np.full(len(steps), 0.15),
        np.zeros(len(steps)),
        errors,
        kl_interval=interval,
        phases=PHASES,
    )


def make_engine(**changes: object) -> EngineStatus:
    """An engine that works and was heard of just now."""
    engine = EngineStatus(
        writer="engine-1",
        host="gpu-07",
        pid=4242,
        heartbeat=START,
        started=START - 100,
        state="working",
        device="cuda:0 H200",
        works=(Work("pythia-14m", "2", 64, State.SCORING, 1024, 4096),),
        tokens_per_second=12_345.0,
        queued=7,
        eta_seconds=180.0,
        bytes_written=1_200_000_000,
        disk_free=3_000_000_000_000,
    )
    return replace(engine, **changes)  # type: ignore[arg-type]


def make_study(*models: ModelSnapshot, **changes: object) -> StudySnapshot:
    """A study of these models, by default of one."""
    study = StudySnapshot(
        path=Path("study.zarr"),
        name="demo",
        n_tokens=4096,
        vocab_size=50_277,
        generation=1,
        models=models or (make_model(),),
        engine=make_engine(),
        journal=(JournalEntry(START, "info", "scored", "scored seed 1 step 0"),),
    )
    return replace(study, **changes)  # type: ignore[arg-type]


class FakeSource:
    """Gives what the test put there; an exception is raised."""

    def __init__(self, answer: StudySnapshot | Exception, store: Path | None = None) -> None:
        self.answer = answer
        self.store = store
        self.calls = 0

    def progress(self) -> StudySnapshot:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def snapshot(self) -> StudySnapshot:
        self.calls += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def study(self) -> Study:
        """What the store behind it holds, if there is one."""
        if self.store is None:
            raise StoreError("there is no store behind this study")
        return Study(self.store)


class FakeClock:
    """A time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class CountingDriver(HeadlessDriver):
    """A terminal that keeps what it is sent."""

    sent = ""

    @property
    def is_headless(self) -> bool:
        return False

    def write(self, data: str) -> None:
        self.sent += data


def _has_work(node: MessagePump) -> bool:
    """Return whether messages wait for it, or what it asked to be drawn is not drawn yet."""
    waits = node.message_queue_size > 0 or bool(node._next_callbacks)
    if not isinstance(node, Widget):
        return waits
    return waits or node._layout_required or node._repaint_required or node._scroll_required


class Terminal:
    """The app, running, with what a person could do to it and see of it."""

    def __init__(self, app: SeedconvApp, pilot: Pilot[None], source: FakeSource, clock: FakeClock):
        self.app, self.pilot, self.source, self.clock = app, pilot, source, clock
        self.others: list[FakeSource] = []  # of further studies

    @property
    def text(self) -> str:
        """The screen as it is shown."""
        strips = self.app.screen._compositor.render_strips()
        return "\n".join(strip.text for strip in strips)

    def row(self, part: str) -> str:
        """The first row with `part` in it."""
        return next(row for row in self.text.splitlines() if part in row)

    async def poll(self, answer: StudySnapshot | Exception | None = None) -> None:
        """One poll, with its answer shown."""
        self.source.answer = answer or self.source.answer
        self.app.poll()
        await self.settle()

    async def settle(self) -> None:
        """Wait until the reading threads are done and everything that they caused is shown."""
        await self._rest()
        watches = self.app.studies.watches
        while self.app.is_running and any(w.reading or w.details.busy for w in watches):
            for reading in self._readers():
                reading.join()
            await self._rest()

    async def press(self, *keys: str) -> None:
        """Press keys, and wait until what they caused is shown, without what is still read."""
        await self.pilot.press(*keys)
        await self._rest()

    async def _rest(self) -> None:
        """Wait until the app has nothing to do; that a machine is busy must not look like that."""
        await self.pilot.pause()
        while self.app.is_running and any(map(_has_work, self._nodes())):
            await self.pilot.pause()

    def _readers(self) -> list[Thread]:
        watches = self.app.studies.watches
        threads = [watch.reading for watch in watches] + [w.details.reading for w in watches]
        return [thread for thread in threads if thread is not None]

    def _nodes(self) -> list[MessagePump]:
        return [self.app, *self.app.screen.walk_children(with_self=True)]

    async def go_to(self, screen: type[StudyScreen]) -> None:
        """Presses the number key of a screen, and waits for its data."""
        await self.press(str(SCREENS.index(screen) + 1))
        await self.settle()

    async def resize(self, width: int, height: int) -> None:
        await self.pilot.resize_terminal(width, height)
        await self.settle()


@asynccontextmanager
async def terminal(
    answer: StudySnapshot | Exception | None = None,
    *others: StudySnapshot | Exception,
    size: tuple[int, int] = (80, 24),
    ascii_only: bool = False,
    store: Path | None = None,
    memory: Memory | None = None,
    tour: bool = False,
    bell: bool = False,
) -> AsyncIterator[Terminal]:
    """The app on sources with these answers, or on a store; polls only when told to."""
    if answer is None:
        answer = make_study() if store is None else Study(store).snapshot()
    source, clock = FakeSource(answer, store), FakeClock()
    further = [FakeSource(other) for other in others]
    app = SeedconvApp(
        source,
        *further,
        clock=clock,
        poll_seconds=86_400,
        ascii=ascii_only,
        memory=memory,
        tour=tour,
        bell=bell,
    )
    app.driver_class = lean_driver(CountingDriver)
    async with app.run_test(size=size, headless=False) as pilot:
        screen = Terminal(app, pilot, source, clock)
        screen.others = further
        await screen.settle()
        yield screen
