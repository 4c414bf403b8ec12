"""`seedconv demo`: trainer, engine and monitor as three processes that meet in a folder."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from seedconv_tui.chart import Glyphs
from seedconv_tui.chart.plot import plot_text, table_text
from seedconv_tui.demo.what_you_saw import what_you_saw
from seedconv_tui.exit_codes import FAILED, OK
from seedconv_tui.monitor.data.live import StoreSource
from seedconv_tui.text import count, counted, nats, size, visible
from store import StoreError, Summary, open_study
from store.maintenance import prunable, prune
from store.schema import State, StudySnapshot

if TYPE_CHECKING:
    from engine.demo_training import TrainingPlan

_KEPT_EVERY = 48  # steps; among them are the nearest and the furthest
_OVER = (State.DONE, State.PRUNED)


def run_demo(
    folder: Path,
    *,
    headless: bool,
    second_size: bool,
    capture: bool,
    keep: bool,
    glyphs: Glyphs,
    show: Callable[[Path], int],
    n_steps: int = 768,
) -> int:
    """Run the demo in `folder` and return the exit code; an earlier one there goes on.

    With `capture` the trainer saves no checkpoints: it hands over what its models say. Once all is
    scored, only the last checkpoint of each seed stays, and log-probs of every fourth step or so,
    unless `keep`. `show` opens the monitor on a store and returns when the user leaves it.
    """
    from engine.demo_training import SMALL, TINY, TrainingPlan, drop_checkpoints, prepare

    sizes = (TINY, SMALL) if second_size else (TINY,)
    plan = TrainingPlan(sizes=sizes, capture=capture, n_steps=n_steps)
    streams = (sys.stdin, sys.stdout, sys.stderr)
    headless = headless or not all(stream.isatty() for stream in streams)
    for line in _what_happens(plan, headless=headless):
        print(line, file=sys.stderr, flush=True)
    study_file = prepare(folder, plan)
    store = folder / "study.zarr"
    trainer, engine = start(folder, study_file)
    shown = OK
    try:
        if headless:
            follow(store, trainer, engine)
        else:
            shown = show(store)
    finally:
        over = engine.poll() == 0
        for process in (trainer, engine):
            if process.poll() is None:
                process.terminate()
            process.wait()
    _print_result(store, glyphs=glyphs)
    for process, log in ((trainer, "trainer.log"), (engine, "engine.log")):
        if process.returncode > 0 and not (process is engine and not headless):
            last = (folder / log).read_text(encoding="utf-8", errors="replace").strip()
            line = last.splitlines()[-1] if last else "it left no message"
            print(f"seedconv: {folder / log}: {visible(line)}", file=sys.stderr)
            return FAILED
    if over:
        if not keep:
            drop_checkpoints(folder)
            _drop_log_probs(store)
        print(
            f"done. Open the results again: seedconv tui {store} "
            f"({folder} takes {size(_size_of(folder))})",
            file=sys.stderr,
        )
    else:
        given = " --second-size" * second_size + " --capture" * capture + " --keep" * keep
        print(f"stopped. To continue: seedconv demo --dir {folder}{given}", file=sys.stderr)
    return shown


def _what_happens(plan: TrainingPlan, *, headless: bool) -> Iterator[str]:
    """Yield three lines about what the next minutes bring."""
    models = counted(len(plan.seeds) * len(plan.sizes), "tiny model")
    differ = "that differ in their seed only" if len(plan.sizes) == 1 else "of two sizes"
    yield (
        f"Trains {models} {differ} for {plan.n_steps} steps each, on the documentation of Python."
    )
    do = "hand over their predictions" if plan.capture else "save a checkpoint"
    yield (
        f"At {len(plan.steps)} steps they {do}, which an engine scores on "
        f"{count(plan.held_out_tokens)} held-out tokens and compares."
    )
    shows = "Then come a chart and a table" if headless else "The monitor opens now (q leaves it)"
    yield (f"{shows}; all of it takes 90 s on two free cores, and can be stopped and repeated.")


def _drop_log_probs(store: Path) -> None:
    """Drop most log-probs, which take nearly all the space; results stay."""
    with contextlib.suppress(StoreError):  # then it merely takes more
        study = open_study(store)
        prune(store, prunable(study, wanted=lambda step: step % _KEPT_EVERY > 0, keep_last=1))


def _size_of(folder: Path) -> int:
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file())


def start(
    folder: Path, study_file: Path
) -> tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]:
    """Start the trainer of what is prepared in `folder`, and the engine with it."""
    return (
        _start(folder / "trainer.log", "engine.demo_training", str(folder)),
        _start(
            folder / "engine.log",
            "seedconv_tui.cli.main",
            "watch",
            str(study_file),
            "--until-complete",
        ),
    )


def _start(log: Path, module: str, *arguments: str) -> subprocess.Popen[bytes]:
    # In a session of its own: Ctrl-C in the terminal is for the monitor, which then stops these.
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},  # they share the cores
        )


def follow(store: Path, *processes: subprocess.Popen[bytes]) -> None:
    """Show progress on stderr until all processes have ended or one has failed."""
    source = StoreSource(store)
    progress = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        TextColumn("{task.completed}/{task.total} checkpoints compared"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )
    with progress:
        task = progress.add_task("training", total=None)
        said = -1
        while any(process.poll() is None for process in processes):
            if any(process.poll() for process in processes):
                return
            try:
                snapshot = source.snapshot()
            except StoreError:
                snapshot = None  # the engine has not made it yet
            if snapshot is not None:
                done, total = _progress(snapshot)
                progress.update(task, completed=done, total=total)
                if not progress.console.is_terminal and total and 10 * done // total > said:
                    said = 10 * done // total
                    print(f"{done}/{total} checkpoints compared", file=sys.stderr, flush=True)
            time.sleep(0.5)


def _progress(snapshot: StudySnapshot) -> tuple[int, int]:
    states = [int(state) for model in snapshot.models for state in model.state.ravel()]
    return sum(state in _OVER for state in states), sum(state != State.ABSENT for state in states)


def _print_result(store: Path, glyphs: Glyphs) -> None:
    try:
        study = open_study(store)
        snapshot = study.snapshot()
    except StoreError:
        return
    console = Console(highlight=False)
    text = plot_text(
        snapshot,
        width=min(console.width, 120),
        height=18,
        glyphs=glyphs,
        color=console.is_terminal and not console.no_color,
    )
    print(text)
    for model in snapshot.models:
        print(f"\n{table_text(model, ascii=glyphs is Glyphs.ASCII)}")
        if "word_class" in study.categories(model.name):
            print(_by_level(study.summary(model.name, "word_class")))
    if sentences := list(what_you_saw(study)):
        print("\nWhat you saw:")
        for sentence in map(visible, sentences):
            width = console.width if console.is_terminal else len(sentence) + 1
            print(textwrap.fill(sentence, width))


def _by_level(summary: Summary) -> str:
    """Return the levels of a category at the last step that is summarised, in one line."""
    done = np.flatnonzero(summary.n_seeds)
    if not len(done):
        return ""
    levels = ", ".join(
        f"{label} {nats(float(kl))} (n = {count(int(n))})"
        for label, n, kl in zip(
            summary.labels, summary.counts, summary.expected_kl[done[-1]], strict=True
        )
        if n
    )
    return f"step {summary.steps[done[-1]]}, {summary.description}: {levels}"
