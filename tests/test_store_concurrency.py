"""Many readers beside one writer, workers beside workers, and no locks anywhere."""

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
from tests.store_helpers import (
    N_TOKENS,
    Clock,
    checkpoint,
    committed,
    files,
    fill,
    open_writer,
    reduce,
    score,
)

READERS = 20
ROUNDS = 3
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
            self.withdrawn += 1  # pruned while it was read, and said so before the first byte went
            return
        for key, value in found.items():
            digest = hashlib.blake2b(value, digest_size=16).digest()
            self.compared += key in self.seen
            assert self.seen.setdefault(key, digest) == digest, f"{key} changed"
        # Log-probs may be pruned, and a new seed makes another mean over pairs.
        may_go = {"log_probs", "expected_kl"}
        gone = [key for key in self.seen.keys() - found.keys() if key[1] not in may_go]
        assert not gone, f"{gone[:3]} gone"
        self.passes += 1


def stored_log_probs(study: Study) -> set[tuple[str, str, int]]:
    return {(name, *key) for name in study.models for key in study.ledger(name).stored}


def follow(path: Path, stop: Any, results: Any) -> None:
    """Look until told to stop, and once more."""
    try:
        follower = Follower(path)
        while not stop.is_set():
            follower.look()
        follower.look()
        counts = {name: getattr(follower, name) for name in ("passes", "compared", "withdrawn")}
        results.put({**counts, "seen": len(follower.seen), "error": ""})
    except BaseException:
        results.put({"error": traceback.format_exc()})


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
    for model in "mn":
        fill(writer, model, seeds[:-1], (number,))
        if number:
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
    pairs = writer.begin_pairs("m", number, (seeds[0], "torn"))
    pairs.append(np.ones((N_TOKENS, 2, 2), np.float32))
    pairs.finish()
    clock.now += 31


def test_what_readers_once_saw_never_changes(
    path: Path, record_property: pytest.RecordProperty
) -> None:
    """Twenty processes read everything, over and over, while the study grows through sessions."""
    clock = Clock()
    grow(path, clock, 0)
    context = multiprocessing.get_context("fork")
    stop, results = context.Event(), context.Queue()
    readers = [context.Process(target=follow, args=(path, stop, results)) for _ in range(READERS)]
    for reader in readers:
        reader.start()
    try:
        for number in rounds():
            grow(path, clock, number + 1)
    finally:
        stop.set()
        told = [results.get(timeout=120) for _ in readers]
        for reader in readers:
            reader.join()
    errors = "".join({report["error"] for report in told})
    assert not errors, errors
    totals = {name: sum(report[name] for report in told) for name in ("passes", "compared")}
    totals |= {"withdrawn": sum(report["withdrawn"] for report in told), "sessions": number + 2}
    record_property("totals", totals)
    print(totals)
    final = committed(open_study(path))
    assert all(report["seen"] >= len(final) for report in told)  # all of them saw the end
    assert all(report["passes"] > 1 for report in told)
    assert totals["compared"] > READERS * len(final)
