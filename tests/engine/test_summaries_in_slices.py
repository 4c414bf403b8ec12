"""Summarising in slices, next to scoring: new checkpoints go first, and nothing stands still."""

from __future__ import annotations

import itertools
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.coordination.build import build_coordinator
from engine.errors import Interrupted
from engine.study_file.file import load_study_file
from seedconv_tui.cli.main import run
from store import open_study
from store.schema import EngineStatus
from tests.support.listening import Heard
from tests.support.tiny_models import CUSTOM, finish, make_runs, write_study

SEEDS, OLD, NEW = ("1", "2"), (0, 1, 2, 3, 4, 5), 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six steps that are done, and a seventh next to the place it belongs to."""
    folder = tmp_path_factory.mktemp("slices")
    make_runs(folder, seeds=SEEDS, steps=(*OLD, NEW))
    finish(folder)
    for seed in SEEDS:
        (folder / f"runs/seed{seed}/step{NEW}").rename(folder / f"new{seed}")
    assert run(["run", str(study_file(folder, OLD))]) == 0
    return folder


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def study_file(folder: Path, steps: tuple[int, ...], more: str = "") -> Path:
    file = write_study(
        folder,
        models__seeds=list(SEEDS),
        models__steps=list(steps),
        categories__include=["frequency"],
        watch__poll_seconds=1,
    )
    file.write_text(file.read_text() + more)
    return file


def arrive(folder: Path) -> None:
    for seed in SEEDS:
        (folder / f"new{seed}").rename(folder / f"runs/seed{seed}/step{NEW}")


def last_session(folder: Path) -> list[dict[str, Any]]:
    """The records of the last session, in the order of their commits."""
    log = max((folder / "study.zarr/commits").glob("*.log"), key=lambda path: int(path.stem))
    return [json.loads(line.partition(b" ")[2]) for line in log.read_bytes().splitlines()]


def order(folder: Path) -> list[tuple[str, int]]:
    """What the last session did to which step, scoring and summarising, in order."""
    kinds = "scored", "summarised"
    return [(it["kind"], it["step"]) for it in last_session(folder) if it["kind"] in kinds]


def expect_all_summarised(folder: Path) -> None:
    study = open_study(folder / "study.zarr")
    for name in ("frequency", "vowel"):
        summary = study.summary("m", name)
        assert np.isfinite(summary.expected_kl[:, summary.counts > 0]).all()
        assert summary.n_seeds.tolist() == [2] * 7
    assert run(["verify", str(folder / "study.zarr")]) == 0


def still() -> float:
    """A clock that stands still: slices have no time, so each takes one step."""
    return 1e9


def ticking() -> Callable[[], float]:
    """A clock on which a look at it takes a second."""
    count = itertools.count(10**9)
    return lambda: float(next(count))


def test_a_new_checkpoint_goes_before_old_steps_and_a_slice_follows_a_pass(copy: Path) -> None:
    arrive(copy)
    heard = Heard()
    file = study_file(copy, (*OLD, NEW), CUSTOM)
    assert build_coordinator(load_study_file(file), heard, clock=still).run().scored == 2
    assert order(copy) == [
        ("scored", NEW),
        ("summarised", 5),
        ("scored", NEW),
        ("summarised", 4),
        ("summarised", NEW),  # at once, as it was reduced just now
        *(("summarised", step) for step in (3, 2, 1, 0)),
    ]
    assert heard.of("summarising") == ["m: summarising 6 steps"]
    shown = [(status.summarised, status.to_summarise) for status in heard.statuses]
    assert list(dict.fromkeys(shown)) == [(0, 6), (1, 6), (2, 6), (3, 6), (0, 0)]
    expect_all_summarised(copy)


def test_many_steps_that_wait_are_one_commit(copy: Path) -> None:
    """Where there is nothing else to do and they take less than a slice."""
    heard = Heard()
    file = study_file(copy, OLD, CUSTOM)
    build_coordinator(load_study_file(file), heard, clock=still).run()
    assert order(copy) == [("summarised", step) for step in reversed(OLD)]
    shown = [(status.summarised, status.to_summarise) for status in heard.statuses]
    assert list(dict.fromkeys(shown)) == [(0, 6), (0, 0)]


def test_watch_takes_what_arrives_while_it_summarises(copy: Path) -> None:
    """It looks between two slices; what is left goes on afterwards, and all is done in the end."""

    def act(status: EngineStatus) -> None:
        if status.summarised and not (copy / f"runs/seed1/step{NEW}").exists():
            arrive(copy)

    heard = Heard(act)
    file = study_file(copy, (*OLD, NEW), CUSTOM)
    engine = build_coordinator(load_study_file(file), heard, clock=ticking())
    totals = engine.watch(until_complete=True)
    assert (totals.scored, totals.reduced, totals.failed) == (2, 1, 0)
    did = order(copy)
    before = did.index(("scored", NEW))
    assert 0 < before < len(OLD)  # some waited for it, though they had come first
    assert sorted(set(did)) == sorted(
        [("scored", NEW), *(("summarised", step) for step in (*OLD, NEW))]
    )
    expect_all_summarised(copy)


def test_what_waits_when_an_engine_is_stopped_is_done_by_the_next(copy: Path) -> None:
    stop = threading.Event()

    def act(status: EngineStatus) -> None:
        if status.summarised:
            stop.set()

    file = study_file(copy, (*OLD, NEW), CUSTOM)
    arrive(copy)
    engine = build_coordinator(load_study_file(file), Heard(act), stop=stop, clock=still)
    with pytest.raises(Interrupted):
        engine.run()
    assert ("summarised", OLD[0]) not in order(copy)
    assert open_study(copy / "study.zarr").snapshot().engine.to_summarise == 0  # type: ignore[union-attr]
    assert run(["run", str(file)]) == 0
    expect_all_summarised(copy)
