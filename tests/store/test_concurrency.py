"""Many readers next to one writer, workers next to workers, and no locks anywhere."""

from __future__ import annotations

import hashlib
import itertools
import multiprocessing
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store import DamagedError, Study, open_study
from tests.support.deadline import DEADLINE
from tests.support.made_store import (
    Clock,
    checkpoint,
    committed,
    files,
    fill,
    open_writer,
    pair_block,
    reduce,
    score,
)

pytestmark = pytest.mark.long

READERS = 20
ROUNDS = 2
SOAK_SECONDS = 60 if os.environ.get("SEEDCONV_SOAK") else 0  # at least; the rounds are always done


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "study.zarr"


# -- readers -------------------------------------------------------------------------------------


class Follower:
    """A reader that remembers, as a digest, every value it was once shown as committed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.study = open_study(path)
        self.seen: dict[tuple[Any, ...], bytes] = {}
        self.passes = self.compared = self.withdrawn = 0

    def look(self) -> None:
        """Read everything that is committed and compare it with what was seen before."""
        if self.passes % 3 == 0:
            self.study = open_study(self.path)
        while (found := self._read()) is None:
            self.withdrawn += 1
        for key, value in found.items():
            digest = hashlib.blake2b(value, digest_size=16).digest()
            self.compared += key in self.seen
            assert self.seen.setdefault(key, digest) == digest, f"{key} changed"
        # Log-probs may be pruned, and a new seed makes other means over pairs.
        may_go = {"log_probs", "expected_kl", "token_kl", "summary"}
        gone = [key for key in self.seen.keys() - found.keys() if key[1] not in may_go]
        assert not gone, f"{gone[:3]} gone"
        self.passes += 1

    def _read(self) -> dict[tuple[Any, ...], bytes] | None:
        """All that is committed; None when log-probs were pruned while they were being read."""
        self.study.snapshot()
        stored = stored_log_probs(self.study)
        try:
            found = committed(self.study)
            for name, seed, step in sorted(stored)[-1:]:
                blocks = [block for _, block in self.study.log_probs(name, seed, step).blocks()]
                assert found[name, "log_probs", seed, step] == np.concatenate(blocks).tobytes()
        except DamagedError:
            self.study.refresh()
            if stored <= stored_log_probs(self.study):
                raise
            return None  # they were declared gone before the first byte went
        return found


def stored_log_probs(study: Study) -> set[tuple[str, str, int]]:
    return {(name, *key) for name in study.models for key in study.ledger(name).stored}


def follow(path: Path, stop: Any, looked: Any, results: Any) -> None:
    """Look, until told to stop, and once more."""
    os.nice(19)  # so that twenty of them leave the writer time to write
    try:
        follower = Follower(path)
        while not stop.is_set():
            follower.look()
            looked.release()
        follower.look()
        counts = {name: getattr(follower, name) for name in ("passes", "compared", "withdrawn")}
        results.put({**counts, "seen": len(follower.seen), "error": ""})
    except BaseException:
        results.put({"error": traceback.format_exc()})
        looked.release()


def rounds() -> Iterator[int]:
    until = time.monotonic() + SOAK_SECONDS
    for number in itertools.count():
        if number >= ROUNDS and time.monotonic() >= until:
            return
        yield number


def grow(path: Path, clock: Clock, number: int) -> None:
    """One session: a step, a late seed of the step before, log-probs gone; every second is cut."""
    writer = open_writer(path, clock)
    seeds = [str(seed) for seed in range(3 + min(number, 2))]
    for model in "mn"[: 1 + number % 2]:
        fill(writer, model, seeds[:-1], (number,))
        if number and model == "m":
            writer.plan(model, [(seeds[-1], number - 1)], {})
            if (seeds[-1], number - 1) not in writer.ledger.model(model).scored:
                score(writer, model, seeds[-1], number - 1)
            there = writer.ledger.model(model).scored_at(number - 1)
            reduce(writer, model, number - 1, sorted(there))
            writer.drop_log_probs(model, number - 1, seeds[:1])
    if number % 2:
        writer.close("finished")
        return
    writer.plan("m", [("torn", number)], {})  # the next session finds this and removes it
    score(writer, "m", "torn", number, commit=False)
    pairs = writer.results.begin_pairs("m", number, (seeds[0], "torn"))
    pairs.append(pair_block(writer, "m", number, (seeds[0], "torn")))
    pairs.finish()
    clock.now += 31


def test_what_readers_once_saw_never_changes(
    path: Path, record_property: pytest.RecordProperty
) -> None:
    """Twenty processes read everything, over and over, while the study grows through sessions."""
    clock = Clock()
    grow(path, clock, 0)
    context = multiprocessing.get_context("fork")
    stop, looked, results = context.Event(), context.Semaphore(0), context.Queue()
    shared = (path, stop, looked, results)
    readers = [context.Process(target=follow, args=shared) for _ in range(READERS)]
    for reader in readers:
        reader.start()
    try:
        for number in rounds():
            for _ in readers:  # about once each, so that every session is seen from all sides
                assert looked.acquire(timeout=DEADLINE)
            grow(path, clock, number + 1)
    finally:
        stop.set()
        told = [results.get(timeout=DEADLINE) for _ in readers]
        for reader in readers:
            reader.join()
    errors = "".join({report["error"] for report in told})
    assert not errors, errors
    totals = {name: sum(report[name] for report in told) for name in ("passes", "compared")}
    totals |= {"withdrawn": sum(report["withdrawn"] for report in told), "sessions": number + 2}
    record_property("totals", totals)
    print(totals)  # for the soak: pytest -s
    final = committed(open_study(path))
    assert all(report["seen"] >= len(final) for report in told)  # all of them saw the end
    assert totals["compared"] > len(final)


# -- workers -------------------------------------------------------------------------------------


def test_workers_never_touch_the_same_file(path: Path) -> None:
    """Before its commit, each checkpoint and each pair writes files that are its alone."""
    writer = open_writer(path)
    fill(writer, "m", "12", (0,))
    writer.plan("m", itertools.product("12345", (0, 7)), {})
    wrote: dict[object, set[str]] = {}
    before = files(path)

    def note(worker: object) -> None:
        nonlocal before
        after = files(path)
        changed = {name for name in after if after[name] != before.get(name)}
        assert before.keys() <= after.keys()
        wrote.setdefault(worker, set()).update(changed)
        before = after

    pending: dict[object, Any] = {}
    for worker in (("3", 0), ("3", 7), ("4", 0), ("5", 7)):
        pending[worker] = writer.results.begin_checkpoint("m", *worker, "dense")
        note(worker)
    for step, seeds in ((0, ("1", "2", "3")), (7, ("1", "4"))):
        pending[step] = writer.results.begin_pairs("m", step, seeds)
        note(step)
    for worker, work in pending.items():  # all of them are open at the same time
        if isinstance(worker, tuple):
            work.append(checkpoint("m", *worker))
        else:
            seeds = ("1", "2", "3") if worker == 0 else ("1", "4")
            work.append(pair_block(writer, "m", worker, seeds))
        work.finish(*(({}, {}) if isinstance(worker, tuple) else ()))
        note(worker)
    for one, other in itertools.combinations(wrote, 2):
        assert not wrote[one] & wrote[other], (one, other)
    # 5 results, log-probs and their zarr.json; of each new pair KL twice, JS once
    assert [len(names) for names in wrote.values()] == [7, 7, 7, 7, 6, 3]
    writer.close("stopped")


# -- locks ---------------------------------------------------------------------------------------

WITHOUT_LOCKS = """
import fcntl, sys
from pathlib import Path
LOCKING = {getattr(fcntl, name, None) for name in
           ("F_SETLK", "F_SETLKW", "F_SETLK64", "F_SETLKW64", "F_OFD_SETLK", "F_OFD_SETLKW")}
calls = []
def note(event, arguments):
    if event in ("fcntl.flock", "fcntl.lockf", "os.lockf") or (
        event == "fcntl.fcntl" and arguments[1] in LOCKING
    ):
        calls.append(event)
sys.addaudithook(note)
from store import BusyError, open_study
from tests.support.made_store import *
path, clock = Path(sys.argv[1]), Clock()
writer = open_writer(path, clock)
fill(writer, "m", "12", (0, 5))
beat(writer, clock.now)
try:
    open_writer(path, clock)
except BusyError:
    clock.now += 31
committed(open_study(path))
fill(open_writer(path, clock), "m", "12", (6,))  # takes over
assert calls == [], calls
fcntl.flock(open(path / "zarr.json"), fcntl.LOCK_SH)
assert calls == ["fcntl.flock"]  # it would have been noticed
"""


def test_nothing_locks_files(path: Path) -> None:
    """Locks do not work on every network file system, so a whole life of a study does without."""
    command = [sys.executable, "-c", WITHOUT_LOCKS, str(path)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
